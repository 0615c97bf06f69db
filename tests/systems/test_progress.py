"""Lines of progress: now and then, with the time that is left, and the last."""

import logging

from bids_neurodecode.systems.steps import progress


def test_lines_come_now_and_then_and_at_the_end(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    listen = progress.log_progress('sub-01 images')
    with caplog.at_level(logging.INFO, logger='bids_neurodecode'):
        # 40 of 100 were done by a run that was killed: they took no time of this one
        for second, done in ((1, 40), (10, 49), (20, 60), (30, 70), (40, 100)):
            now[0] = float(second)
            listen(done, 100)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith('sub-01 images: 60 % done, about ')
    assert lines[0].endswith(' left')
    assert lines[1:] == ['sub-01 images: 100 % done']
    assert progress.EVERY == 15.0
