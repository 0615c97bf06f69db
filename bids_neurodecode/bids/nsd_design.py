"""NSD's experimental design: which image was shown in which trial, to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.text import one_line
from bids_neurodecode.typing import IndexArray

NO_DESIGN = (
    "There is no {file}: it says which image each of NSD's trials showed. Download it from "
    'the same place as the betas (nsddata/experiments/nsd).'
)
BAD_DESIGN = 'Cannot use {file}: {reason}. Download it again (nsddata/experiments/nsd).'
NO_SESSION = (
    'Session {session} is not in {file}, which describes {n} sessions. Choose others with '
    '--session-label.'
)

PROTOCOL = 'nsd-shared1000'
"""The 1,000 images that all participants saw are the test set, all others the training set."""
TRIAL_SECONDS = 4.0
STIMULUS_SECONDS = 3.0
SESSION_TRIALS = 750


@dataclass(frozen=True, eq=False)
class Design:
    """The content of ``nsd_expdesign.mat``.

    Parameters
    ----------
    file
        Named in errors.
    ordering
        Which of a participant's images each trial shows, from 1, (n_trials,); the same for all.
    pictures
        Number (from 1) of each participant's images among all, (n_participants, n_pictures).
    slots
        Which slots of each run hold a trial, (n_sessions, n_runs, n_slots).
    n_shared
        The first images of each participant are shared by all: how many.
    """

    file: Path
    ordering: IndexArray
    pictures: IndexArray
    slots: npt.NDArray[np.bool_]
    n_shared: int

    @property
    def session_trials(self) -> IndexArray:
        """Number of trials of each session."""
        return np.asarray(self.slots.sum(axis=(1, 2)), dtype=np.intp)


def read_design(file: Path) -> Design:
    """Read ``nsd_expdesign.mat``.

    Raises
    ------
    InputError
        If it is not there, cannot be read, or its parts do not fit together.
    """
    from scipy.io import loadmat

    check_fetched(file)
    if not file.is_file():
        raise InputError(NO_DESIGN.format(file=file))
    try:
        content: dict[str, Any] = loadmat(file, squeeze_me=False)
        ordering = _whole(content['masterordering']).ravel()
        pictures = np.atleast_2d(_whole(content['subjectim']))
        shared = _whole(content['sharedix']).ravel()
    except KeyError as error:
        raise InputError(BAD_DESIGN.format(file=file, reason=f'it lacks {error}')) from error
    except (OSError, ValueError, TypeError, NotImplementedError, EOFError) as error:
        reason = one_line(error)
        raise InputError(BAD_DESIGN.format(file=file, reason=reason)) from error
    slots = _slots(content.get('stimpattern'), len(ordering))
    design = Design(file, ordering, pictures, slots, len(shared))
    reason = _trouble(design, shared)
    if reason:
        raise InputError(BAD_DESIGN.format(file=file, reason=reason))
    return design


def _whole(values: Any) -> IndexArray:
    array = np.asarray(values)
    if array.dtype.kind not in 'iuf' or (array != np.rint(array)).any():
        raise ValueError('it holds numbers that are not whole')
    return array.astype(np.intp)


def _slots(pattern: Any, n_trials: int) -> npt.NDArray[np.bool_]:
    """Return the slots with trials; without the pattern, sessions of 750 trials in one run."""
    if pattern is None:
        n_sessions = -(-n_trials // SESSION_TRIALS)
        return np.ones((n_sessions, 1, SESSION_TRIALS), dtype=bool)
    return np.atleast_3d(np.asarray(pattern)) > 0


def _trouble(design: Design, shared: IndexArray) -> str:
    """Say what does not fit together; empty if all does."""
    n_pictures = design.pictures.shape[1]
    if design.slots.sum() != len(design.ordering):
        return (
            f'stimpattern holds {design.slots.sum()} trials and masterordering '
            f'{len(design.ordering)}'
        )
    if design.ordering.min() < 1 or design.ordering.max() > n_pictures:
        return f'masterordering leaves the {n_pictures} images of a participant'
    if (design.pictures < 1).any():
        return 'subjectim holds numbers below 1'
    first = np.sort(design.pictures[:, : design.n_shared], axis=1)
    if first.shape[1] != len(shared) or (first != np.sort(shared)).any():
        return 'the first images of subjectim are not those of sharedix'
    return ''


def picture_name(number: int) -> str:
    """Return the name of an image: its number from 1 among the 73,000.

    Examples
    --------
    >>> picture_name(2951)
    'nsd02951'
    """
    return f'nsd{number:05d}'


def trials_of(design: Design, participant: int, sessions: Sequence[int]) -> pd.DataFrame:
    """Return the trials of one participant in some sessions, in the order of the betas.

    Parameters
    ----------
    design
        The experiment.
    participant
        From 1.
    sessions
        From 1, in order.

    Returns
    -------
    pandas.DataFrame
        ``onset`` (s, the scanner runs of a session end to end) and ``duration``, ``stim_file``,
        ``trial_type`` (``shared`` or ``unique``), ``session``, ``run`` (a session: its betas were
        estimated together), ``scan_run`` (from 1 in the session), ``part`` (``test`` for shared
        images) and ``protocol``.

    Raises
    ------
    InputError
        If the design does not know a session.
    """
    if participant > len(design.pictures):
        n = len(design.pictures)
        reason = f'it describes {n} participants, not subj{participant:02d}'
        raise InputError(BAD_DESIGN.format(file=design.file, reason=reason))
    ends = np.cumsum(design.session_trials)
    tables = []
    for session in sessions:
        if not 1 <= session <= len(ends):
            raise InputError(NO_SESSION.format(session=session, file=design.file, n=len(ends)))
        rank = design.ordering[ends[session - 1] - design.session_trials[session - 1] :]
        rank = rank[: design.session_trials[session - 1]]
        run, slot = np.nonzero(design.slots[session - 1])
        is_shared = rank <= design.n_shared
        tables.append(
            pd.DataFrame(
                {
                    'onset': (run * design.slots.shape[2] + slot) * TRIAL_SECONDS,
                    'duration': STIMULUS_SECONDS,
                    'stim_file': [
                        picture_name(x) for x in design.pictures[participant - 1, rank - 1]
                    ],
                    'trial_type': np.where(is_shared, 'shared', 'unique'),
                    'session': f'nsd{session:02d}',
                    'run': session,
                    'scan_run': run + 1,
                    'part': np.where(is_shared, 'test', 'train'),
                    'protocol': PROTOCOL,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
