"""Alignment of continuous series with what was seen: delays in seconds, also between volumes.

Values between volumes are interpolated by cubic convolution over the four nearest volumes
(Keys 1981, *IEEE Transactions on Acoustics, Speech, and Signal Processing* 29:1153; a = -1/2),
linearly in the first and last interval or where asked for. A volume's own value is returned
exactly where the time falls on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import RealArray

Method = Literal['linear', 'cubic']

ON_A_VOLUME = 1e-4
"""Times closer than this share of a repetition time to a volume are taken to be on it."""

WRONG_SHAPE = 'Expected a matrix of {rows} x {columns} with two rows or more; this one is {shape}.'
OUTSIDE = (
    'The stimulus from {onset:g} s on, delayed by {delay:g} s, has no volume: the series lasts '
    'from {start:g} to {end:g} s. Check the onset in the events file.'
)
NEGATIVE_DELAY = (
    'The delay {delay:g} s is negative: responses follow the stimulus. Give 0 or more.'
)
NO_DELAYS = 'A finite impulse response needs at least one delay. Set delay.fir_seconds.'


class Aligned(NamedTuple):
    """A series on the clock of the stimulus.

    ``values`` of shape (n_samples, n_voxels), float32; ``valid`` says which times have data.
    """

    values: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


def align_to_clock(
    series: RealArray,
    repetition_time: float,
    event_onset: float,
    n_samples: int,
    sample_period: float,
    delay_seconds: float,
    *,
    start_time: float = 0.0,
    method: Method = 'cubic',
) -> Aligned:
    """Put a series on the clock of a film.

    Sample i of the film is shown at ``event_onset + i * sample_period`` seconds of the run and
    gets the BOLD of ``delay_seconds`` later. Values are read at that time, not averaged over the
    sample: the period should not be much longer than the repetition time.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels); rows of NaN are censored volumes.
    repetition_time
        Seconds between volumes.
    event_onset
        Onset of the film in the run, in seconds; may be negative.
    n_samples
        Samples of the film.
    sample_period
        Seconds between samples.
    delay_seconds
        Delay of the response in seconds.
    start_time
        Time of the first volume in seconds (``StartTime`` of the series' sidecar).
    method
        Interpolation between volumes.

    Returns
    -------
    Aligned
        ``values`` of shape (n_samples, n_voxels), NaN where ``valid`` is false: before the first
        volume, after the last one, or next to a censored one.

    Raises
    ------
    DataError
        If no sample has data.
    """
    series = _matrix(series, 'volumes', 'voxels')
    _volumes(delay_seconds, repetition_time)
    seconds = event_onset + np.arange(n_samples) * sample_period + delay_seconds - start_time
    aligned = _interpolate(series, seconds / repetition_time, method)
    if not aligned.valid.any():
        end = start_time + (len(series) - 1) * repetition_time
        raise DataError(
            OUTSIDE.format(onset=event_onset, delay=delay_seconds, start=start_time, end=end)
        )
    return aligned


def fir_design(
    features: RealArray, repetition_time: float, delays_seconds: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Set delayed copies of features side by side (finite impulse response).

    Parameters
    ----------
    features
        Shape (n_volumes, n_features), one row per volume.
    repetition_time
        Seconds between volumes.
    delays_seconds
        Delays, 0 or more; between volumes features are interpolated linearly (they may be
        on and off, and cubics overshoot). Before the first volume features are zero.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_delays * n_features), float32: all features at the first delay, then
        all at the second, and so on.

    Raises
    ------
    DataError
        For no delay or a negative one.
    """
    features = _matrix(features, 'volumes', 'features')
    if not len(delays_seconds):
        raise DataError(NO_DELAYS)
    shifts = np.array([_volumes(delay, repetition_time) for delay in delays_seconds])
    n_before = int(np.ceil(shifts.max())) + 1
    padded = np.vstack([np.zeros((n_before, features.shape[1]), features.dtype), features])
    rows = np.arange(len(features)) + n_before
    return np.hstack([_interpolate(padded, rows - shift, 'linear').values for shift in shifts])


def interpolation_weights(
    times: RealArray, n_volumes: int, method: Method = 'cubic'
) -> tuple[sparse.csr_array, npt.NDArray[np.bool_]]:
    """Return what to multiply a series with to have its values at other times.

    Parameters
    ----------
    times
        Shape (n_times,), in volumes from the first.
    n_volumes
        Volumes of the series.
    method
        ``linear`` or ``cubic``.

    Returns
    -------
    scipy.sparse.csr_array
        Shape (n_times, n_volumes); rows sum to 1, or are empty outside of the series.
    numpy.ndarray
        Shape (n_times,), boolean: whether the time lies within the series.
    """
    times = np.asarray(times, dtype=np.float64)
    near = np.rint(times)
    times = np.where(np.abs(times - near) < ON_A_VOLUME, near, times)
    valid = (times >= 0) & (times <= n_volumes - 1)
    base = np.clip(np.floor(times), 0, n_volumes - 1).astype(np.intp)
    u = np.where(valid, times - base, 0.0)
    zero = np.zeros_like(u)
    taps = np.stack([zero, 1 - u, u, zero])
    if method == 'cubic':
        inner = (base >= 1) & (base <= n_volumes - 3)
        taps = np.where(inner, _keys(u), taps)
    taps = np.where(valid, taps, 0.0)
    columns = np.clip(base + np.array([[-1], [0], [1], [2]]), 0, n_volumes - 1)
    rows = np.broadcast_to(np.arange(len(times)), taps.shape)
    used = taps != 0  # an unused volume may be censored
    weights = sparse.csr_array(
        (taps[used], (rows[used], columns[used])), shape=(len(times), n_volumes)
    )
    return weights, valid


def _keys(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights of the four nearest volumes at ``u`` between the second and third, (4, n)."""
    return np.stack(
        [
            ((-0.5 * u + 1) * u - 0.5) * u,
            (1.5 * u - 2.5) * u * u + 1,
            ((-1.5 * u + 2) * u + 0.5) * u,
            (0.5 * u - 0.5) * u * u,
        ]
    )


def _interpolate(series: RealArray, times: RealArray, method: Method) -> Aligned:
    """Values at ``times`` (in volumes); NaN and not valid where there are none."""
    weights, valid = interpolation_weights(times, len(series), method)
    censored = np.isnan(series).all(axis=1)
    # a volume without data spoils the times that need it
    valid &= ~(abs(weights) @ censored.astype(np.float64) > 0)
    values = np.asarray(weights.astype(np.float32) @ series.astype(np.float32, copy=False))
    values[~valid] = np.nan
    return Aligned(values, valid)


def _volumes(delay_seconds: float, repetition_time: float) -> float:
    if delay_seconds < 0:
        raise DataError(NEGATIVE_DELAY.format(delay=delay_seconds))
    return delay_seconds / repetition_time


def _matrix(values: RealArray, rows: str, columns: str) -> RealArray:
    values = np.asarray(values)
    if values.ndim != 2 or len(values) < 2:
        raise DataError(WRONG_SHAPE.format(rows=rows, columns=columns, shape=values.shape))
    return values
