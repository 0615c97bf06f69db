"""Events to tables of trials and of film samples."""

from pathlib import Path

import numpy as np
import pytest

from bids_neurodecode.bids import trials
from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.systems.protocol import choose_split


def make_run(folder: Path, number: int, events: str, tr: float = 2.0) -> RunInput:
    path = folder / f'run-{number}_events.tsv'
    path.write_text(events)
    return RunInput(
        {'sub': '01', 'task': 'x', 'run': str(number)}, Path('b'), Path('m'), path, None, tr, 50
    )


EVENTS = """onset\tduration\ttrial_type\tstim_file
8\t2\tcat\ta.png
2\t2\tcat\tb.png
14\t2\tblank\tn/a
20\t2.1\tdog\ta.png
"""


def test_trials_are_chronological_and_count_repeats(tmp_path):
    runs = [make_run(tmp_path, n, EVENTS) for n in (1, 2)]
    table = trials.trials_table(runs)
    assert table['onset'].tolist() == [2, 8, 20] * 2
    assert table['stimulus'].tolist() == ['b.png', 'a.png', 'a.png'] * 2
    assert table['repeat'].tolist() == [0, 0, 1, 1, 2, 3]
    assert table['run'].tolist() == [0, 0, 0, 1, 1, 1]
    assert trials.stimulus_duration(table, runs[0].events) == 2.0


def test_without_trial_types_there_are_no_categories(tmp_path):
    """Each image would be a kind of its own, and any split by image out of distribution."""
    bare = 'onset\tduration\tstim_file\n2\t2\ta.png\n8\t2\tb.png\n14\t2\ta.png\n'
    betas = tmp_path / 'betas.tsv'
    betas.write_text('stim_file\trun\na.png\t1\nb.png\t1\na.png\t2\nb.png\t2\n')
    for table in (
        trials.trials_table([make_run(tmp_path, 1, bare)]),
        trials.precomputed_trials(betas),
    ):
        with pytest.raises(DataError, match=r'trial_type of the events, and there is none for'):
            choose_split(table, SplitSettings(by='category'), 0)


def test_several_durations_are_refused(tmp_path):
    run = make_run(tmp_path, 1, EVENTS.replace('2.1', '4'))
    with pytest.raises(DataError, match=r'last from 2 to 4 s in .*run-1_events\.tsv'):
        trials.stimulus_duration(trials.trials_table([run]), run.events)


def test_a_run_without_stimuli_is_refused(tmp_path):
    run = make_run(tmp_path, 1, 'onset\tduration\tstim_file\n1\t1\tn/a\n')
    with pytest.raises(DataError, match='No trial in'):
        trials.trials_table([run])


def test_stimulus_names_stay_text(tmp_path):
    run = make_run(tmp_path, 1, 'onset\tduration\tstim_file\n1\t1\t001\n3\t1\t1e5\n')
    assert trials.trials_table([run])['stimulus'].tolist() == ['001', '1e5']


def test_film_clock(tmp_path):
    events = 'onset\tduration\tstim_file\n6.5\t10\tf.mp4\n20\t4.1\tg.mp4\n'
    table = trials.film_table([make_run(tmp_path, 1, events, tr=2.0)])
    first = table[table['film'] == 'f.mp4']
    np.testing.assert_allclose(first['onset'], [0, 2, 4, 6, 8])
    np.testing.assert_allclose(first['run_onset'], [6.5, 8.5, 10.5, 12.5, 14.5])
    assert (table['film'] == 'g.mp4').sum() == 2
    assert table['stimulus'].is_unique


def test_records_survive_json(tmp_path):
    record = ParticipantInput(
        '01', 'x', 'images', (make_run(tmp_path, 1, EVENTS),), Path('/s'), ('a.png', 'b.png')
    )
    assert ParticipantInput.from_json(record.to_json()) == record
