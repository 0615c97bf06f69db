"""Who writes what: locks of work folders and results, also while jobs of a batch system write.

A lock goes with its process, however that ends. Where jobs may outlive it (see :data:`Jobs`), a
note stays beside the lock, which names their scripts: it counts for as long as the queue holds any
of them.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.cli.checks_places import NOT_A_FOLDER
from bids_neurodecode.errors import FULL, ResourceError
from bids_neurodecode.text import one_line

IN_USE = (
    'The work folder {folder} of sub-{label} is in use by another run. '
    'Wait for it, or give another --work-dir.'
)
GROUP_IN_USE = (
    'The work folder {folder} of the group is in use by another run. '
    'Wait for it, or give another --work-dir.'
)
NO_LOCK = (
    'The lock {file} cannot be taken ({reason}). If no run of another user writes there, remove '
    'it, or change its permissions.'
)
WRITTEN = (
    'The results of sub-{label}, task {task}, in {folder} are being written by another run. '
    'Wait for it, or give another output folder.'
)
GROUP_WRITTEN = (
    'The results of the group in {folder} are being written by another run. '
    'Wait for it, or give another output folder.'
)
QUEUED = (
    'An earlier run left {n} steps to the batch system that write here ({folder}), and they are '
    'still in its queue. Wait until they have ended, or end them with scancel.'
)
NO_QUEUE = (
    'An earlier run left steps to the batch system, and its queue cannot be asked here whether '
    'any is left ({reason}). Run this where jobs are submitted, or, if none is left, remove '
    '{files}.'
)
NOTE = '.submitted'
QUEUE = ('squeue', '--noheader', '--format=%o')
"""The command of each job that waits or runs, one a line."""
PATIENCE = 60
"""Seconds in which the batch system has to answer."""
Jobs = Literal['none', 'watched', 'left']
"""Of a batch system: ``watched`` jobs outlive a run that is killed, ``left`` jobs any run."""


@dataclass(frozen=True)
class Lock:
    """A lock, what is said where another run holds it, and the scripts of jobs that it is for.

    Parameters
    ----------
    file
        Is made, as its folder is.
    said
        One line.
    scripts
        Pattern of their paths in a work folder.
    """

    file: Path
    said: str
    scripts: str


@contextmanager
def hold(work_dir: Path, labels: Sequence[str], *, jobs: Jobs = 'none') -> Iterator[None]:
    """Keep other runs out of the work folders of these participants (none: of the group).

    Parameters
    ----------
    work_dir
        The work folder of one dataset and output folder.
    labels
        Of participants.
    jobs
        What this run submits.

    Raises
    ------
    ResourceError
        If another run is in one of them.
    """
    # nobody else: a run goes on from what lies there (check_own)
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks = [
        Lock(
            work_dir / f'.{label}.lock',
            IN_USE.format(label=label, folder=work_dir),
            scripts_of(label),
        )
        for label in labels
    ]
    if not labels:
        said = GROUP_IN_USE.format(folder=work_dir)
        locks = [Lock(work_dir / '.group.lock', said, GROUP_SCRIPTS)]
    with _held(locks, work_dir, jobs):
        yield


@contextmanager
def hold_results(
    output_dirs: Iterable[Path],
    owners: Iterable[tuple[str, str]],
    work_dir: Path,
    *,
    jobs: Jobs = 'none',
) -> Iterator[None]:
    """Keep other runs from writing the same results, which would be of two settings then.

    Parameters
    ----------
    output_dirs
        The output folder, or those of a study's variants.
    owners
        Labels of participants and tasks.
    work_dir, jobs
        As of :func:`hold`.

    Raises
    ------
    ResourceError
        If another run, with a work folder of its own, writes results of a participant and task.
    """
    pairs = list(owners)
    locks = [result_lock(folder, *owner) for folder in output_dirs for owner in pairs]
    begun = [work_dir / f'.{label}{NOTE}' for label in dict.fromkeys(label for label, _ in pairs)]
    with _held(locks, work_dir, jobs, begun):
        yield


@contextmanager
def hold_group(
    output_dir: Path,
    owners: Iterable[tuple[str, str]],
    work_dir: Path,
    *,
    jobs: Jobs = 'none',
) -> Iterator[None]:
    """Keep other runs from the results of the group, and from those that it is read from.

    Parameters
    ----------
    output_dir, owners, work_dir, jobs
        As of :func:`hold_results`. The results of participants that belong to another user, in
        files that cannot be written, are not locked.

    Raises
    ------
    ResourceError
        If another run writes any of them.
    """
    said = GROUP_WRITTEN.format(folder=output_dir)
    read = (result_lock(output_dir, *owner) for owner in owners)
    own = [lock for lock in read if os.access(_existing(lock.file), os.W_OK)]
    locks = [Lock(output_dir / 'group' / '.group.lock', said, GROUP_SCRIPTS), *own]
    with _held(locks, work_dir, jobs, [work_dir / f'.group{NOTE}']):
        yield


GROUP_SCRIPTS = '*group_wf*'


def scripts_of(label: str) -> str:
    """Return the pattern of what the scripts of a participant's steps are called."""
    from bids_neurodecode.levels.participant import workflow_name

    return f'*.{workflow_name(label)}_*'


def result_lock(output_dir: Path, label: str, task: str) -> Lock:
    """Return the lock of the results of a participant and task.

    Parameters
    ----------
    output_dir
        Of a run, or of a study's variant.
    label, task
        Whose results.
    """
    said = WRITTEN.format(label=label, task=task, folder=output_dir)
    file = output_dir / f'sub-{label}' / 'log' / f'.task-{task}.lock'
    return Lock(file, said, scripts_of(label))


def _existing(file: Path) -> Path:
    return file if file.exists() else file.parent


@contextmanager
def _held(
    locks: Sequence[Lock], work_dir: Path, jobs: Jobs, begun: Sequence[Path] = ()
) -> Iterator[None]:
    """Hold locks, and leave word of the jobs that are submitted from the work folder.

    Notes of ``begun``, which are asked for next, are named with those of the locks where the batch
    system does not say what is left.
    """
    from filelock import FileLock

    with ExitStack() as stack:
        for lock in locks:
            with _told(lock):
                lock.file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(lock.file, timeout=0))
        notes = [lock.file.with_suffix(NOTE) for lock in locks]
        left = [note for note in notes if note.is_file()]
        queued = _queued(left, [note for note in begun if note.is_file()]) if left else []
        for lock, note in zip(locks, notes, strict=True):
            with _told(lock):
                if note in left:
                    _check_ended(note, queued)
                if jobs != 'none':
                    write_text(note, f'{glob.escape(str(work_dir))}/*/batch/{lock.scripts}\n')
        try:
            yield
        finally:
            for note in notes if jobs == 'watched' else ():
                note.unlink(missing_ok=True)


@contextmanager
def _told(lock: Lock) -> Iterator[None]:
    """Say in one line why a lock cannot be had."""
    from filelock import Timeout

    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        path = next(x for x in lock.file.parents if x.exists())
        what = 'output folder'
        raise ResourceError(NOT_A_FOLDER.format(path=path, what=what)) from error
    except Timeout as error:
        raise ResourceError(lock.said) from error
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = one_line(error)
        raise ResourceError(NO_LOCK.format(file=lock.file, reason=reason)) from error


def _queued(notes: Sequence[Path], further: Sequence[Path]) -> list[str]:
    """Return the command of each job that waits or runs.

    Raises
    ------
    ResourceError
        If the batch system does not say; all notes are named.
    """
    try:
        told = subprocess.run(QUEUE, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        files = ', '.join(map(str, (*notes, *further)))
        raise ResourceError(NO_QUEUE.format(files=files, reason=one_line(error))) from error
    return told.stdout.splitlines()


def _check_ended(note: Path, queued: Sequence[str]) -> None:
    """Refuse what jobs of an earlier run write; forget jobs that have ended."""
    n = len(fnmatch.filter(queued, note.read_text('utf-8').strip()))
    if n:
        raise ResourceError(QUEUED.format(n=n, folder=note.parent))
    note.unlink()
