"""Series and onsets of all runs on one grid, as the models of single trials take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.clean import AS_IN_THE_SERIES, PERCENT, lacks_mean, with_baseline
from bids_neurodecode.signals.timing import (
    finer_grid,
    largest_offset,
    onsets_to_volumes,
    resample_series,
)
from bids_neurodecode.signals.trialdesign import RunSeries
from bids_neurodecode.typing import Float32Array

RESAMPLED = (
    'Onsets miss the volumes by up to {offset:.3g} s, so the series were resampled from '
    '{old:g} s to {new:g} s (cubic splines){rounded}.'
)
ROUNDED = '; onsets still had to be moved by up to {offset:.3g} s'
NO_MEAN = (
    'The preprocessed series have no mean (they were centred or standardised), so betas are in '
    'their units, not in percent signal change, and their temporal SNR has no meaning.'
)
SOME_MEANS = (
    'Of the series {first} and {second} one has a mean and the other has none (it was centred), '
    'so their betas have different units. Choose runs that were preprocessed alike.'
)


@dataclass(frozen=True, eq=False)
class LaterRun:
    """The series of a run, (n_volumes, n_voxels), read again whenever they are asked for."""

    shape: tuple[int, ...]
    load: Callable[[], Float32Array]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Read them."""
        return np.asarray(self.load(), dtype)


@dataclass(frozen=True, eq=False)
class PreparedRuns:
    """Series (n_volumes_r, n_voxels) of each run, and onsets on their grid."""

    series: list[RunSeries]
    onset_volumes: list[npt.NDArray[np.intp]]
    repetition_time: float
    warnings: tuple[str, ...]
    unit: float = 1.0
    """What one percent of the betas is in units of the series, where these have no mean."""
    units: str = PERCENT


def prepare_series(
    read: Sequence[Callable[[], Float32Array]],
    names: Sequence[Any],
    onsets: Sequence[npt.NDArray[np.float64]],
    repetition_time: float,
    *,
    resample: bool = True,
    held: bool = True,
    n_volumes: Sequence[int] | None = None,
) -> PreparedRuns:
    """Put series and onsets on one grid, one run in memory at a time.

    Parameters
    ----------
    read
        Reads the series of each run, (n_volumes_r, n_voxels).
    names
        What errors call each run.
    onsets
        Onsets of each run in seconds from its first volume, (n_trials_r,).
    repetition_time
        Seconds from volume to volume.
    resample
        Resample the series to a finer grid where onsets fall between volumes; else that is an
        error.
    held
        Hold the series in memory, rather than read them again whenever they are asked for.
    n_volumes
        Of each run, where these are known: then only the first run is read before it is asked
        for. Without effect on series that are held or resampled.

    Returns
    -------
    PreparedRuns

    Raises
    ------
    DataError
        If onsets are off the grid and may not be resampled, or some runs have a mean and others
        have none.
    """
    new, slack, warnings = repetition_time, {}, []
    if resample:
        grid = finer_grid(onsets, repetition_time)
        new = grid.repetition_time
        if not grid.fits:
            slack = {'tolerance': new}
        if new != repetition_time:
            rounded = '' if grid.fits else ROUNDED.format(offset=grid.largest_offset)
            offset = max(largest_offset(run, repetition_time) for run in onsets)
            warnings.append(
                RESAMPLED.format(offset=offset, old=repetition_time, new=new, rounded=rounded)
            )
    first = read[0]()
    unit, units = 1.0, PERCENT
    if lacks_mean(first):
        unit, units = _unit_of(first), AS_IN_THE_SERIES
        warnings.append(NO_MEAN)

    def on_grid(values: Float32Array, number: int) -> Float32Array:
        if lacks_mean(values) != (units == AS_IN_THE_SERIES):
            raise DataError(SOME_MEANS.format(first=names[0], second=names[number]))
        if units == AS_IN_THE_SERIES:
            values = with_baseline(values, unit)
        return values if new == repetition_time else resample_series(values, repetition_time, new)

    series: list[RunSeries] = []
    volumes = []
    later = n_volumes is not None and not held and new == repetition_time
    for number, load in enumerate(read):
        on = partial(on_grid, number=number)
        if n_volumes is not None and later:
            shape: tuple[int, ...] = n_volumes[number], first.shape[1]
        else:
            values = on(first if number == 0 else load())
            shape = values.shape
        volumes.append(onsets_to_volumes(onsets[number], new, shape[0], **slack))
        series.append(values if held else LaterRun(shape, partial(_load, load, on)))
    return PreparedRuns(series, volumes, new, tuple(warnings), unit, units)


def _load(
    read: Callable[[], Float32Array], on_grid: Callable[[Float32Array], Float32Array]
) -> Float32Array:
    return on_grid(read())


def _unit_of(series: Float32Array) -> float:
    """Return the power of two next to the median deviation of the voxels that vary."""
    deviation = series.std(axis=0)
    return float(2.0 ** np.rint(np.log2(np.median(deviation[deviation > 0]))))
