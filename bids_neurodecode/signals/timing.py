"""Onsets in seconds to volumes, and series on a finer grid where onsets fall between volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.typing import FloatArray

TOLERANCE = 0.05
"""Seconds by which an onset may miss its volume: half a step of the published responses."""
FINEST = 0.1
"""Seconds: a grid of 0.1 s already makes a series of 2 s twenty times as long."""

OFF_GRID = (
    'Onsets fall between volumes: {n} of {total} miss the grid of {repetition_time:g} s by up to '
    '{offset:.3g} s (tolerance {tolerance:g} s). Set betas.off_grid = "resample" '
    '(a grid of {finer:.4g} s {fits}).'
)
BEFORE_RUN = 'An onset of {onset:g} s lies before the run. Onsets count from the first volume.'
BEYOND_RUN = (
    'A trial starts at {onset:g} s but its run ends at {end:g} s ({n_volumes} volumes of '
    '{repetition_time:g} s). Remove the trial from the events, or use the whole series.'
)
SAME_VOLUME = (
    'Two trials start in one volume, at {first:g} s and {second:g} s (grid of {repetition_time:g} '
    's). Resample to a finer grid, or merge the trials.'
)
BAD_ONSET = 'Onset number {index} is {onset!r}, not a number of seconds. Fix the events file.'
COARSER = (
    'Series can only be resampled to a finer grid: {new:g} s is not below {old:g} s. '
    'Choose a smaller repetition time.'
)


@dataclass(frozen=True)
class Grid:
    """A grid of volumes and how far the onsets are from it.

    Parameters
    ----------
    repetition_time
        Seconds from volume to volume.
    largest_offset
        Seconds by which the worst onset misses the grid.
    fits
        Whether every onset lies on the grid within the tolerance.
    """

    repetition_time: float
    largest_offset: float
    fits: bool


def onsets_to_volumes(
    onsets: npt.ArrayLike,
    repetition_time: float,
    n_volumes: int,
    *,
    tolerance: float = TOLERANCE,
) -> npt.NDArray[np.intp]:
    """Return the volume at which each trial of a run starts.

    Parameters
    ----------
    onsets
        Seconds from the first volume, shape (n_trials,).
    repetition_time
        Seconds from volume to volume.
    n_volumes
        Volumes of the run.
    tolerance
        Seconds by which an onset may miss its volume.

    Returns
    -------
    ndarray of shape (n_trials,)

    Raises
    ------
    DataError
        If an onset is not on the grid (by how much is said), not in the run, not a number, or
        in the same volume as another.
    """
    seconds = np.asarray(onsets, dtype=np.float64).ravel()
    _check_onsets(seconds)
    volumes = np.rint(seconds / repetition_time).astype(np.intp)
    offsets = np.abs(seconds - volumes * repetition_time)
    if seconds.size and offsets.max() > tolerance:
        finer = finer_grid([seconds], repetition_time, tolerance=tolerance)
        raise DataError(
            OFF_GRID.format(
                n=int(np.sum(offsets > tolerance)),
                total=seconds.size,
                repetition_time=repetition_time,
                offset=float(offsets.max()),
                tolerance=tolerance,
                finer=finer.repetition_time,
                fits='holds them all' if finer.fits else 'is the nearest that is still sane',
            )
        )
    _check_in_run(seconds, volumes, repetition_time, n_volumes)
    return volumes


def largest_offset(onsets: npt.ArrayLike, repetition_time: float) -> float:
    """Return the seconds by which the worst onset misses the grid (0 where there is none).

    Parameters
    ----------
    onsets
        Seconds, (n_onsets,).
    repetition_time
        Seconds between two points of the grid, which begins at 0.
    """
    seconds = np.asarray(onsets, dtype=np.float64).ravel()
    if not seconds.size:
        return 0.0
    steps = np.rint(seconds / repetition_time)
    return float(np.abs(seconds - steps * repetition_time).max())


def finer_grid(
    onsets: Sequence[npt.ArrayLike],
    repetition_time: float,
    *,
    tolerance: float = TOLERANCE,
) -> Grid:
    """Find the largest repetition time whose grid holds every onset of every run.

    Parameters
    ----------
    onsets
        Seconds, one array per run.
    repetition_time
        The series' own; returned where it fits.
    tolerance
        Seconds by which an onset may miss the grid.

    Returns
    -------
    Grid
        Where no grid fits, the one of :data:`FINEST` with ``fits`` false: onsets are then rounded,
        by ``largest_offset`` at most.

    Notes
    -----
    Whole fractions of the repetition time and whole milliseconds are tried, from the largest;
    of those within 2 % of the first that fits, the one that fits best is taken.
    """
    seconds = np.concatenate([np.asarray(run, dtype=np.float64).ravel() for run in onsets])
    _check_onsets(seconds)
    parts = repetition_time / np.arange(1, math.floor(repetition_time / FINEST) + 1)
    milliseconds = np.arange(math.floor(repetition_time * 1000), round(FINEST * 1000) - 1, -1)
    candidates = np.unique(np.concatenate([parts, milliseconds / 1000]))[::-1]
    for candidate in candidates:
        offset = largest_offset(seconds, float(candidate))
        if offset > tolerance:
            continue
        if candidate == repetition_time:
            return Grid(repetition_time, offset, fits=True)
        near = candidates[(candidates <= candidate) & (candidates >= 0.98 * candidate)]
        offsets = [largest_offset(seconds, float(value)) for value in near]
        best = int(np.argmin(np.round(offsets, 6)))
        return Grid(float(near[best]), offsets[best], fits=True)
    finest = min(FINEST, repetition_time)
    return Grid(finest, largest_offset(seconds, finest), fits=False)


def resample_series(
    series: npt.NDArray[Any], repetition_time: float, new_repetition_time: float
) -> npt.NDArray[np.float32]:
    """Interpolate series to a finer grid by cubic splines (not-a-knot) over time.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels); voxels with a value that is not finite become NaN throughout.
    repetition_time, new_repetition_time
        Seconds from volume to volume, before and after.

    Returns
    -------
    ndarray of shape (n_new_volumes, n_voxels)
        From the first to the last volume; nothing is extrapolated.

    Raises
    ------
    ArgumentsError
        If the new grid is not finer.
    """
    from scipy.interpolate import CubicSpline

    if not 0 < new_repetition_time < repetition_time:
        raise ArgumentsError(COARSER.format(new=new_repetition_time, old=repetition_time))
    n_volumes, n_voxels = series.shape
    times = np.arange(n_volumes) * repetition_time
    n_new = math.floor(times[-1] / new_repetition_time + 1e-6) + 1
    wanted = np.minimum(np.arange(n_new) * new_repetition_time, times[-1])
    finer = np.full((n_new, n_voxels), np.nan, dtype=np.float32)
    for start in range(0, n_voxels, 4096):  # splines hold four float64 numbers a sample
        part = np.asarray(series[:, start : start + 4096], dtype=np.float64)
        good = np.flatnonzero(np.isfinite(part).all(axis=0))
        if good.size:
            finer[:, start + good] = CubicSpline(times, part[:, good], axis=0)(wanted)
    return finer


def _check_onsets(seconds: FloatArray) -> None:
    bad = np.flatnonzero(~np.isfinite(seconds))
    if bad.size:
        raise DataError(BAD_ONSET.format(index=int(bad[0]), onset=float(seconds[bad[0]])))


def _check_in_run(
    seconds: FloatArray, volumes: npt.NDArray[np.intp], repetition_time: float, n_volumes: int
) -> None:
    if np.any(volumes < 0):
        raise DataError(BEFORE_RUN.format(onset=float(seconds.min())))
    beyond = np.flatnonzero(volumes >= n_volumes)
    if beyond.size:
        raise DataError(
            BEYOND_RUN.format(
                onset=float(seconds[beyond[0]]),
                end=n_volumes * repetition_time,
                n_volumes=n_volumes,
                repetition_time=repetition_time,
            )
        )
    order = np.argsort(volumes, kind='stable')
    same = np.flatnonzero(np.diff(volumes[order]) == 0)
    if same.size:
        first, second = seconds[order[same[0]]], seconds[order[same[0] + 1]]
        raise DataError(
            SAME_VOLUME.format(
                first=float(first), second=float(second), repetition_time=repetition_time
            )
        )
