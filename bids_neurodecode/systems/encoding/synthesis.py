"""Predicted BOLD runs: from the betas of trials to a series, by each voxel's own response."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.hrf import STEP, hrf_library
from bids_neurodecode.typing import Float32Array, FloatArray

BAD_ONSETS = (
    'There must be one finite onset a trial: {trials} rows of betas, {onsets} onsets, {bad} of '
    'them not finite.'
)
BAD_HRF_INDEX = (
    'There must be one response of the library (0 to {last}) a voxel: {voxels} voxels, indices of '
    'shape {shape} from {low} to {high}.'
)
TAIL = 20.0
NO_VOLUMES = 'A run needs at least one volume; {n} were asked for.'


def predict_run(
    betas: npt.NDArray[np.floating[Any]],
    onsets: npt.ArrayLike,
    hrf_index: npt.ArrayLike,
    *,
    n_volumes: int,
    repetition_time: float,
    stimulus_duration: float,
    start_time: float = 0.0,
    beta_repetition_time: float | None = None,
) -> Float32Array:
    """Add up the responses to all trials of a run.

    Parameters
    ----------
    betas
        In percent signal change, (n_trials, n_voxels).
    onsets
        In seconds of the run, on a grid or not, (n_trials,).
    hrf_index
        Which response of the library each voxel has, 0 to 19, (n_voxels,).
    n_volumes, repetition_time
        Of the run; seconds.
    stimulus_duration
        Of every trial, seconds.
    start_time
        When the first volume was taken (the reference slice), seconds.
    beta_repetition_time
        Spacing of the volumes that the betas were estimated from: a beta of 1 is a response whose
        largest sample on that grid is 1. That of the run if left out.

    Returns
    -------
    numpy.ndarray
        Percent signal change about each voxel's baseline, (n_volumes, n_voxels), float32.
        Betas estimated from it with the same onsets, on its grid, are these betas again.

    Raises
    ------
    DataError
        If shapes do not match, an onset is not finite, or there is no such response.
    """
    times = np.asarray(onsets, dtype=np.float64)
    bad = int(np.count_nonzero(~np.isfinite(times)))
    if betas.ndim != 2 or times.shape != (len(betas),) or bad:
        raise DataError(BAD_ONSETS.format(trials=len(betas), onsets=times.shape, bad=bad))
    if n_volumes < 1:
        raise DataError(NO_VOLUMES.format(n=n_volumes))
    designs = trial_responses(
        times,
        n_volumes=n_volumes,
        repetition_time=repetition_time,
        stimulus_duration=stimulus_duration,
        start_time=start_time,
        beta_repetition_time=beta_repetition_time,
    )
    index = _checked(hrf_index, betas.shape[1], len(designs))
    series = np.empty((n_volumes, betas.shape[1]), dtype=np.float32)
    for number in np.unique(index):
        voxels = index == number
        series[:, voxels] = designs[number] @ betas[:, voxels]
    return series


def trial_responses(
    onsets: FloatArray,
    *,
    n_volumes: int,
    repetition_time: float,
    stimulus_duration: float,
    start_time: float = 0.0,
    beta_repetition_time: float | None = None,
) -> FloatArray:
    """Return what a beta of 1 gives at each volume; see :func:`predict_run`.

    Parameters
    ----------
    onsets
        Of the trials, seconds, (n_trials,).
    n_volumes
        Of the run.
    repetition_time
        Seconds between volumes.
    stimulus_duration
        Seconds.
    start_time
        Second at which the first volume was measured.
    beta_repetition_time
        Seconds between the points that betas were estimated on; None: volumes.

    Returns
    -------
    numpy.ndarray
        Shape (20, n_volumes, n_trials): one design matrix a response of the library.
    """
    from scipy.interpolate import PchipInterpolator

    grid = beta_repetition_time or repetition_time
    fine = hrf_library(STEP, stimulus_duration)
    span = (len(fine) - 1) * STEP
    curve = PchipInterpolator(np.arange(len(fine)) * STEP, fine, axis=0)
    sampled = curve(np.minimum(np.arange(0, span + 1e-9, grid), span))
    lags = start_time + np.arange(n_volumes)[:, None] * repetition_time - onsets
    # onsets are decimal numbers: a volume at the onset must not miss it by rounding
    within = (lags > -1e-6) & (lags <= span + 1e-6)
    values = curve(np.clip(lags, 0, span)) / sampled.max(axis=0) * within[..., None]
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _checked(hrf_index: npt.ArrayLike, n_voxels: int, n_responses: int) -> npt.NDArray[np.intp]:
    index = np.asarray(hrf_index)
    whole = index.shape == (n_voxels,) and np.issubdtype(index.dtype, np.integer)
    if not whole or (index.size and not (index.min() >= 0 and index.max() < n_responses)):
        low, high = (index.min(), index.max()) if index.size else (0, 0)
        raise DataError(
            BAD_HRF_INDEX.format(
                last=n_responses - 1, voxels=n_voxels, shape=index.shape, low=low, high=high
            )
        )
    return index.astype(np.intp)


def run_length(onsets: npt.ArrayLike, durations: npt.ArrayLike, repetition_time: float) -> int:
    """Return how many volumes a run needs until 20 s after its last stimulus.

    Parameters
    ----------
    onsets, durations, repetition_time
        Seconds.

    Examples
    --------
    >>> run_length([0.0, 10.0], [2.0, 2.0], 2.0)
    16
    """
    end = np.max(np.asarray(onsets, dtype=float) + np.asarray(durations, dtype=float)) + TAIL
    return int(np.ceil(end / repetition_time - 1e-6))
