"""What is looked for in a dataset."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from bids_neurodecode.bids.index import FileIndex, index_dataset
from bids_neurodecode.bids.publishedevents import EventsReader
from bids_neurodecode.bids.recipes import AUTO
from bids_neurodecode.bids.rows import parts_of
from bids_neurodecode.bids.stimulusfolder import StimulusFolder
from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import InputError
from bids_neurodecode.processes import die_with
from bids_neurodecode.settings.conditions import ConditionSettings
from bids_neurodecode.settings.events import EventSettings

UNKNOWN_PARTICIPANT = 'There is no participant {label!r} in {folder}. Found: {known}.'
NOBODY = '{first} (And so for all {n} participants: {labels}.)'

ReadT = TypeVar('ReadT')

_PARTICIPANTS_A_PROCESS = 4  # with fewer, a process costs more than it saves


@dataclass(frozen=True)
class Request:
    """What is asked for; labels without prefixes, empty for all.

    ``derivatives`` empty looks below ``<bids_dir>/derivatives``. ``filters`` are those of
    :func:`bids_neurodecode.bids.filters.read_filters`. ``betas_from`` names the derivatives that
    hold precomputed single-trial betas. ``features`` and ``table_rate`` are the settings
    ``features.table`` and ``features.table_rate``.
    ``stimuli_dir`` is the folder of films or images where it is not the dataset's ``stimuli/``.
    ``events`` say how its events name what was shown, ``split`` which rows are held out,
    ``conditions`` which trial types are conditions where they name no stimuli (or ``system``
    asks for them). In ``made_dir`` files are made that the dataset lacks. ``recipe`` says what
    the dataset is (see :func:`bids_neurodecode.bids.recipes.recognise`).
    """

    bids_dir: Path
    derivatives: Mapping[str, Path] = field(default_factory=dict)
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    space: str | None = None
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    database_dir: Path | None = None
    keep_index: bool = True
    """Whether an index may be written to ``database_dir``, and not only be read from it."""
    betas_from: str | None = None
    features: str | None = None
    table_rate: float | None = None
    stimuli_dir: Path | None = None
    made_dir: Path | None = None
    recipe: str = AUTO
    mask: Path | None = None
    """One mask for all runs, in the place of the derivatives' own."""
    events: EventSettings = field(default_factory=EventSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    conditions: ConditionSettings = field(default_factory=ConditionSettings)
    system: str = 'auto'
    needs_films: bool = True
    """Whether films (or features of them) have to be there: what is measured does without."""
    processes: int = 1
    """How many read participants side by side."""

    @cached_property
    def stimuli(self) -> StimulusFolder:
        """The folder of stimuli, listed once for all participants."""
        return StimulusFolder(self.stimuli_dir or self.bids_dir / 'stimuli')

    def index(self, folder: Path, participants: Sequence[str]) -> tuple[FileIndex, str | None]:
        """Index the files of some participants of a dataset; return what is said of it too.

        Parameters
        ----------
        folder
            The dataset, or derivatives of it.
        participants
            Their labels.
        """
        return index_dataset(
            folder, participants, database_dir=self.database_dir, keep=self.keep_index
        )

    def reader(self) -> EventsReader:
        """Return what reads the events of one participant."""
        return EventsReader(
            settings=self.events,
            folder=self.stimuli,
            dataset=self.bids_dir,
            parts=parts_of(self.split),
            made_dir=self.made_dir,
            features=self.features,
            table_rate=self.table_rate,
            needs_films=self.needs_films,
        )


def all_failed(failures: Mapping[str, str]) -> str:
    """Return the one line for a dataset in which nobody can be processed."""
    first = next(iter(failures.values()))
    if len(failures) == 1:
        return first
    labels = ', '.join(f'sub-{label}' for label in failures)
    return NOBODY.format(first=first, n=len(failures), labels=labels)


def choose_participants(
    asked: Sequence[str], known: tuple[str, ...], folder: Path, message: str = UNKNOWN_PARTICIPANT
) -> tuple[str, ...]:
    """Return the participants that are asked for, each once; all where none is named.

    Parameters
    ----------
    asked
        Labels of the call.
    known
        Labels that there are.
    folder
        Where they were looked for.
    message
        For a label that is not there.

    Raises
    ------
    InputError
        If a participant is not there.
    """
    for label in asked:
        if label not in known:
            raise InputError(message.format(label=label, folder=folder, known=', '.join(known)))
    return tuple(dict.fromkeys(asked)) or known


def read_each(
    labels: Iterable[str], read: Callable[[str], ReadT], processes: int = 1
) -> tuple[list[ReadT], dict[str, str]]:
    """Read participants; return those that could be read, and by label why others could not.

    Parameters
    ----------
    labels
        Of the participants.
    read
        Returns what is read of one.
    processes
        How many read side by side, where there are enough participants for that.

    Raises
    ------
    InputError
        If there are some, and nobody could be read.
    """
    wanted = [*labels]
    read_ones = side_by_side(wanted, read, processes)
    found = [one for one, _ in read_ones if one is not None]
    reasons = zip(wanted, (reason for _, reason in read_ones), strict=True)
    failures = {label: reason for label, reason in reasons if reason is not None}
    if failures and not found:
        raise InputError(all_failed(failures))
    return found, failures


def side_by_side(
    labels: Sequence[str], read: Callable[[str], ReadT], processes: int
) -> list[tuple[ReadT, None] | tuple[None, str]]:
    """Read participants in copies of this process, which know what it knows.

    Parameters
    ----------
    labels
        Of the participants.
    read
        Returns what is read of one; that is copied back.
    processes
        How many at most; where there are few participants, all is read in this process.

    Returns
    -------
    list of tuple
        Of each what was read and None, or None and the one line that says why it could not be.

    Raises
    ------
    MemoryError
        If a copy was killed.
    """
    job = partial(_read_one, read)
    n = n_copies(len(labels), processes)
    if n < 2:
        return [job(label) for label in labels]
    _JOBS.append(job)
    context = multiprocessing.get_context('fork')
    try:
        with ProcessPoolExecutor(n, context, _as_a_copy, (os.getpid(),)) as pool:
            return [*pool.map(_read_in_copy, labels)]
    except BrokenProcessPool as error:  # killed, for which the system has one reason
        raise MemoryError from error
    finally:
        _JOBS.pop()


def n_copies(n_participants: int, processes: int) -> int:
    """Return how many copies of this process read participants: one is this process itself.

    Parameters
    ----------
    n_participants
        How many there are.
    processes
        How many at most.
    """
    if not sys.platform.startswith('linux'):  # elsewhere libraries do not bear copies
        return 1
    return max(min(processes, n_participants // _PARTICIPANTS_A_PROCESS), 1)


_JOBS: list[Callable[[str], Any]] = []


def _as_a_copy(parent: int) -> None:
    """End when the parent ends or both are interrupted: what the parent does then is its own."""
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _read_in_copy(label: str) -> Any:
    return _JOBS[-1](label)


def _read_one(read: Callable[[str], ReadT], label: str) -> tuple[ReadT, None] | tuple[None, str]:
    try:
        return read(label), None
    except InputError as error:
        return None, str(error)
