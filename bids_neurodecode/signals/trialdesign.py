"""What single-trial models need to know about runs and trials: checked once, then fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import FloatArray, IndexArray

END_BUFFER = 8.0
"""Seconds before a run's end after which a trial's response is cut too short to trust."""

NO_RUNS = 'There is no run to estimate betas from. Give at least one run with trials.'
UNEQUAL_LISTS = (
    '{name} has {found} entries for {n_runs} runs of data; give one entry per run, in one order.'
)
BAD_SERIES = 'Run {run} must be volumes x voxels with at least one of each; it is {shape}.'
OTHER_VOXELS = (
    'Run {run} has {found} voxels but run 1 has {expected}. Use one mask and grid for all runs.'
)
NO_TRIALS = 'Run {run} has no trials. Leave the run out, or add its events.'
BAD_VOLUME = (
    'Run {run}: a trial starts at volume {volume} but the run has volumes 0 to {last}. '
    'Remove the trial from the events, or use the whole series.'
)
SHARED_VOLUME = (
    'Run {run}: two trials start at volume {volume}. Resample to a finer grid, or merge them.'
)
NOT_INTEGER = 'Run {run}: onsets must be whole volumes; found {dtype}. Use onsets_to_volumes.'
UNEQUAL_TRIALS = (
    'Run {run} has {onsets} onsets but {conditions} conditions; give one condition a trial.'
)
BAD_EXTRA = (
    'Run {run}: extra regressors must be {n_volumes} volumes x columns; they are {shape}. '
    'Cut or fill the confounds table.'
)
EXTRA_NOT_FINITE = (
    'Run {run}: column {column} of the extra regressors has values that are not finite. '
    'Fill them (the first row of a derivative: 0), or leave the column out.'
)
TOO_MANY_REGRESSORS = (
    'Run {run}: {n_trials} trials and {n_nuisance} nuisance regressors are too many for '
    '{n_volumes} volumes. Leave out extra regressors, or merge trials.'
)
LATE_TRIALS = (
    '{n} trial(s) start less than {seconds:g} s before the end of their run (first: run {run}, '
    'volume {volume}); their betas rest on a cut response. Leave them out if you can.'
)


class RunSeries(Protocol):
    """The series of a run, (n_volumes, n_voxels): an array, or what is read as one each time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its number of volumes and voxels."""

    @property
    def ndim(self) -> int:
        """Number of its dimensions: two."""

    def __array__(self) -> npt.NDArray[Any]:
        """Read it."""


@dataclass(frozen=True, eq=False)
class TrialDesign:
    """Trials of all runs, and what is regressed out of each run.

    Parameters
    ----------
    repetition_time
        Seconds from volume to volume.
    n_volumes
        Volumes of each run.
    onset_volumes
        One array per run, shape (n_trials_r,).
    condition, run, session
        Codes from 0, shape (n_trials,); trials of all runs one after the other.
    drift
        Orthonormal polynomials of each run, shape (n_volumes_r, n_polynomials).
    nuisance
        Orthonormal basis of polynomials and extra regressors of each run; the same arrays as
        ``drift`` where there are no extra regressors.
    """

    repetition_time: float
    n_volumes: tuple[int, ...]
    onset_volumes: tuple[IndexArray, ...]
    condition: IndexArray
    run: IndexArray
    session: IndexArray
    drift: tuple[FloatArray, ...]
    nuisance: tuple[FloatArray, ...]

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(self.n_volumes)

    @property
    def n_trials(self) -> int:
        """Number of trials of all runs."""
        return len(self.condition)

    @property
    def has_extra(self) -> bool:
        """Whether anything beside the polynomials is regressed out."""
        return any(self.run_has_extra(run) for run in range(self.n_runs))

    def run_has_extra(self, run: int) -> bool:
        """Whether that is so in one run."""
        return self.nuisance[run] is not self.drift[run]

    def trials_of(self, run: int) -> slice:
        """Return the rows of a run's trials."""
        start = sum(len(onsets) for onsets in self.onset_volumes[:run])
        return slice(start, start + len(self.onset_volumes[run]))

    def regressors(self, run: int, responses: FloatArray) -> FloatArray:
        """Return one regressor a trial of a run, for each response.

        Parameters
        ----------
        run
            From 0.
        responses
            Shape (n_timepoints, n_responses).

        Returns
        -------
        ndarray of shape (n_responses, n_volumes_r, n_trials_r)
        """
        since = np.arange(self.n_volumes[run])[:, None] - self.onset_volumes[run]
        # one row of zeros more, for volumes that a response does not reach
        padded = np.vstack([responses, np.zeros((1, responses.shape[1]))])
        reached = (since >= 0) & (since < len(responses))
        return np.moveaxis(padded[np.where(reached, since, len(responses))], 2, 0)

    def warnings(self) -> tuple[str, ...]:
        """Say which trials start too close to the end of their run."""
        late = [
            (run, int(onset))
            for run, onsets in enumerate(self.onset_volumes)
            for onset in onsets
            if (self.n_volumes[run] - onset) * self.repetition_time < END_BUFFER
        ]
        if not late:
            return ()
        run, volume = late[0]
        return (LATE_TRIALS.format(n=len(late), seconds=END_BUFFER, run=run + 1, volume=volume),)


def build_design(
    series: Sequence[RunSeries],
    onset_volumes: Sequence[npt.ArrayLike],
    conditions: Sequence[Sequence[Any] | npt.NDArray[Any]],
    repetition_time: float,
    *,
    sessions: Sequence[Any] | None = None,
    extra_regressors: Sequence[npt.NDArray[Any] | None] | None = None,
) -> TrialDesign:
    """Check runs and trials against each other and set up what all models share.

    Parameters
    ----------
    series
        One array per run, shape (n_volumes_r, n_voxels); only shapes are looked at.
    onset_volumes
        One array of integers a run, shape (n_trials_r,).
    conditions
        One label per trial, in the same order.
    repetition_time
        Seconds from volume to volume.
    sessions
        One label per run; all one session if left out.
    extra_regressors
        One array per run, shape (n_volumes_r, n_columns), or None.

    Raises
    ------
    DataError
        In one line, for anything that does not fit together; runs are counted from 1.
    """
    if not len(series):
        raise DataError(NO_RUNS)
    given = {
        'onset_volumes': onset_volumes,
        'conditions': conditions,
        'sessions': sessions,
        'extra_regressors': extra_regressors,
    }
    for name, entries in given.items():
        if entries is not None and len(entries) != len(series):
            raise DataError(
                UNEQUAL_LISTS.format(name=name, found=len(entries), n_runs=len(series))
            )
    _check_shapes(series)
    n_volumes = tuple(run.shape[0] for run in series)
    onsets = tuple(
        _check_onsets(number, run, n)
        for number, (run, n) in enumerate(zip(onset_volumes, n_volumes, strict=True), 1)
    )
    labels = _check_conditions(conditions, onsets)
    run_of = np.repeat(np.arange(len(onsets)), [len(o) for o in onsets])
    run_sessions = _codes(list(sessions) if sessions is not None else [0] * len(onsets))
    drift = tuple(drift_basis(n, repetition_time) for n in n_volumes)
    extra = extra_regressors if extra_regressors is not None else [None] * len(onsets)
    nuisance = tuple(
        _with_extra(number, basis, columns)
        for number, (basis, columns) in enumerate(zip(drift, extra, strict=True), 1)
    )
    for number, (basis, trials) in enumerate(zip(nuisance, onsets, strict=True), 1):
        if basis.shape[1] + len(trials) >= len(basis):
            raise DataError(
                TOO_MANY_REGRESSORS.format(
                    run=number,
                    n_trials=len(trials),
                    n_nuisance=basis.shape[1],
                    n_volumes=len(basis),
                )
            )
    return TrialDesign(
        repetition_time=repetition_time,
        n_volumes=n_volumes,
        onset_volumes=onsets,
        condition=_codes(labels),
        run=run_of.astype(np.intp),
        session=run_sessions[run_of],
        drift=drift,
        nuisance=nuisance,
    )


def drift_basis(n_volumes: int, repetition_time: float) -> FloatArray:
    """Return orthonormal polynomials over a run, shape (n_volumes, degree + 1).

    The degree is half the run's minutes, rounded (halves away from zero).

    Parameters
    ----------
    n_volumes
        Length of the run.
    repetition_time
        Seconds.

    Examples
    --------
    >>> drift_basis(160, 1.6).shape
    (160, 3)
    """
    degree = math.floor(n_volumes * repetition_time / 120 + 0.5)
    degree = min(degree, n_volumes - 1)
    grid = np.linspace(-1, 1, n_volumes) if n_volumes > 1 else np.zeros(1)
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(grid, degree))
    return np.asarray(basis)


def orthonormal_beside(basis: FloatArray, columns: FloatArray) -> FloatArray:
    """Return an orthonormal basis of ``columns`` after projection off an orthonormal ``basis``.

    Columns are taken one after the other, so the first k vectors span the first k columns;
    what is left of a column after those before it is dropped where it is but rounding.

    Parameters
    ----------
    basis
        Orthonormal, (n_volumes, n).
    columns
        Shape (n_volumes, m), the most important first.
    """
    kept: list[FloatArray] = []
    for column in columns.T:
        length = np.linalg.norm(column)
        rest = column
        for _ in range(2):  # twice is enough for orthogonality to rounding
            rest = rest - basis @ (basis.T @ rest)
            for other in kept:
                rest = rest - other * (other @ rest)
        if np.linalg.norm(rest) > 1e-7 * length:
            kept.append(np.asarray(rest / np.linalg.norm(rest)))
    return np.stack(kept, axis=1) if kept else np.zeros((len(basis), 0))


def _with_extra(run: int, drift: FloatArray, extra: npt.NDArray[Any] | None) -> FloatArray:
    if extra is None or np.size(extra) == 0:
        return drift
    columns = np.asarray(extra, dtype=np.float64)
    if columns.ndim != 2 or len(columns) != len(drift):
        raise DataError(BAD_EXTRA.format(run=run, n_volumes=len(drift), shape=columns.shape))
    bad = np.flatnonzero(~np.isfinite(columns).all(axis=0))
    if bad.size:
        raise DataError(EXTRA_NOT_FINITE.format(run=run, column=int(bad[0])))
    return np.hstack([drift, orthonormal_beside(drift, columns)])


def _check_shapes(series: Sequence[RunSeries]) -> None:
    for number, run in enumerate(series, 1):
        if run.ndim != 2 or 0 in run.shape:
            raise DataError(BAD_SERIES.format(run=number, shape=run.shape))
        if run.shape[1] != series[0].shape[1]:
            raise DataError(
                OTHER_VOXELS.format(run=number, found=run.shape[1], expected=series[0].shape[1])
            )


def _check_onsets(run: int, onsets: npt.ArrayLike, n_volumes: int) -> IndexArray:
    volumes = np.asarray(onsets).ravel()
    if volumes.size == 0:
        raise DataError(NO_TRIALS.format(run=run))
    if not np.issubdtype(volumes.dtype, np.integer):
        raise DataError(NOT_INTEGER.format(run=run, dtype=volumes.dtype))
    outside = volumes[(volumes < 0) | (volumes >= n_volumes)]
    if outside.size:
        raise DataError(BAD_VOLUME.format(run=run, volume=int(outside[0]), last=n_volumes - 1))
    ordered = np.sort(volumes)
    same = np.flatnonzero(np.diff(ordered) == 0)
    if same.size:
        raise DataError(SHARED_VOLUME.format(run=run, volume=int(ordered[same[0]])))
    return volumes.astype(np.intp)


def _check_conditions(
    conditions: Sequence[Sequence[Any] | npt.NDArray[Any]], onsets: Sequence[IndexArray]
) -> list[Any]:
    labels: list[Any] = []
    for number, (run, trials) in enumerate(zip(conditions, onsets, strict=True), 1):
        if len(run) != len(trials):
            raise DataError(
                UNEQUAL_TRIALS.format(run=number, onsets=len(trials), conditions=len(run))
            )
        labels.extend(run)
    return labels


def _codes(labels: Sequence[Any]) -> IndexArray:
    order = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], dtype=np.intp)
