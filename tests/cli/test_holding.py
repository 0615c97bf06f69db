"""Two runs never write the same results, also where jobs of a batch system go on writing."""

import subprocess
from contextlib import ExitStack

import pytest

from bids_neurodecode.cli import holding
from bids_neurodecode.cli.holding import hold, hold_group, hold_results, result_lock
from bids_neurodecode.errors import ResourceError

PERSON = [('01', 'img')]
SCRIPT = 'batchscript_pyscript_2026_bids_neurodecode_wf.{}_betas.sh'


def queue(monkeypatch, *commands):
    """Let the batch system say that these jobs wait or run."""
    said = subprocess.CompletedProcess([], 0, stdout='\n'.join(commands))
    monkeypatch.setattr(holding.subprocess, 'run', lambda *_, **__: said)


@pytest.mark.parametrize(
    ('first', 'second', 'said'),
    [
        ('results', 'results', 'results of sub-01, task img'),
        ('results', 'group', 'results of sub-01, task img'),
        ('group', 'results', 'results of sub-01, task img'),
        ('group', 'group', 'results of the group'),
        ('variant', 'variant', 'results of sub-01, task img'),
        ('variant', 'results', ''),
        ('other', 'results', ''),
        ('work', 'work', 'work folder .* of sub-01'),
    ],
)
def test_only_one_run_writes(tmp_path, first, second, said):
    out, work = tmp_path / 'out', tmp_path / 'work'
    (out / 'sub-01' / 'log').mkdir(parents=True)

    def held(name):
        return {
            'results': lambda: hold_results([out], PERSON, work),
            'other': lambda: hold_results([out], [('02', 'img'), ('01', 'film')], work),
            'variant': lambda: hold_results([out / 'studies' / 'a' / 'b'], PERSON, work),
            'group': lambda: hold_group(out, PERSON, work),
            'work': lambda: hold(work, ['01']),
        }[name]()

    with held(first), ExitStack() as stack:
        if said:
            with pytest.raises(ResourceError, match=said):
                stack.enter_context(held(second))
        else:
            stack.enter_context(held(second))
    with held(second):
        pass


def test_what_jobs_write_is_held_for_as_long_as_they_are_queued(tmp_path, monkeypatch):
    out, work = tmp_path / 'out', tmp_path / 'w[o]rk'
    batch = work / 'bids_neurodecode_wf' / 'batch'
    with hold_results([out], PERSON, work, jobs='left'), hold(work, ['01'], jobs='left'):
        pass
    note = result_lock(out, *PERSON[0]).file.with_suffix(holding.NOTE)
    for name, stopped in (('sub_01_wf', True), ('sub_010_wf', False), ('sub_02_wf', False)):
        queue(monkeypatch, '/home/else/job.sh', str(batch / SCRIPT.format(name)))
        if stopped:
            for held in (hold_results([out], PERSON, work / 'x'), hold(work, ['01'])):
                with pytest.raises(ResourceError, match=r'left 1 steps .* end them with scancel'):
                    held.__enter__()
            assert note.is_file()
    with hold_results([out], [('02', 'img')], work):
        pass
    with hold_results([out], PERSON, work):
        assert not note.exists()


def test_jobs_that_are_watched_leave_a_note_where_their_run_is_killed(tmp_path):
    out = tmp_path / 'out'
    note = result_lock(out, *PERSON[0]).file.with_suffix(holding.NOTE)
    held = hold_results([out], PERSON, tmp_path, jobs='watched')
    held.__enter__()
    assert note.is_file()  # what a killed run leaves
    held.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not note.exists()


def test_a_queue_that_does_not_answer_stops(tmp_path, monkeypatch):
    with hold_group(tmp_path, [], tmp_path / 'work', jobs='left'):
        pass
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ResourceError, match=r'cannot be asked .*remove .*group\.submitted'):
        hold_group(tmp_path, [], tmp_path / 'work').__enter__()


def test_all_notes_are_named_where_the_queue_is_out_of_reach(tmp_path, monkeypatch):
    out, work = tmp_path / 'out', tmp_path / 'work'
    people = [*PERSON, ('02', 'img')]
    with hold_results([out], people, work, jobs='left'), hold(work, ['01', '02'], jobs='left'):
        pass
    notes = [*out.rglob('.*.submitted'), *work.glob('.*.submitted')]
    assert len(notes) == 4
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ResourceError) as error:
        hold_results([out], people, work).__enter__()
    assert all(str(note) in str(error.value) for note in notes)
    for note in notes:
        note.unlink()
    with hold_results([out], people, work), hold(work, ['01', '02']):
        pass


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / 'sub-01').write_text('')
    with pytest.raises(ResourceError, match='sub-01 is a file, and a folder is needed there'):
        hold_results([tmp_path], PERSON, tmp_path / 'work').__enter__()


def test_results_of_another_user_are_read_unlocked(tmp_path, monkeypatch):
    lock = result_lock(tmp_path, *PERSON[0]).file
    lock.parent.mkdir(parents=True)
    monkeypatch.setattr(holding.os, 'access', lambda *_: False)
    with hold_group(tmp_path, PERSON, tmp_path / 'work'):
        assert not lock.exists()
