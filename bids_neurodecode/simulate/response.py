"""From what a voxel wants to a BOLD series: haemodynamic responses sampled at the volumes.

The library holds the response to a stimulus of 0.1 s, in steps of 0.1 s; longer stimuli are rows
of such. Every response to the stimulus of the design is scaled to a peak of 1, so that an
amplitude is the peak in percent. Volumes are taken at their start.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import FloatArray

STEP = 0.1
"""Seconds between the library's samples."""
N_HRFS = 20


@cache
def _read_library() -> FloatArray:
    source = resources.files('bids_neurodecode') / 'data' / 'hrf' / 'hrf_library.tsv'
    with source.open('r', encoding='utf-8') as stream:
        values = np.loadtxt(stream)
    values.setflags(write=False)
    return values


def hrf_library() -> FloatArray:
    """Return the 20 responses to a stimulus of 0.1 s, (501, 20), each with a peak of 1.

    Numbers of Allen et al. (2022), Nat Neurosci 25:116.
    """
    library = _read_library()
    scaled: FloatArray = library / library.max(axis=0)
    return scaled


def responses_to(duration: float) -> FloatArray:
    """Return the 20 responses to a stimulus of this duration (s), (n_steps, 20), peak 1."""
    boxcar = np.ones(max(1, round(duration / STEP)))
    library = hrf_library()
    longer = np.stack([np.convolve(library[:, k], boxcar) for k in range(N_HRFS)], axis=1)
    scaled: FloatArray = longer / longer.max(axis=0)
    return scaled


def times_to_peak(duration: float) -> FloatArray:
    """Return the time from onset to peak of each response to such a stimulus, in s, (20,)."""
    return np.asarray(responses_to(duration).argmax(axis=0) * STEP)


def design_matrices(
    onsets: FloatArray, duration: float, n_volumes: int, repetition_time: float
) -> FloatArray:
    """Return what each trial gives at each volume, for each of the 20 responses.

    Parameters
    ----------
    onsets
        In seconds from the first volume, (n_trials,); anywhere, on a grid or not.
    duration
        Of the stimulus, in seconds (rounded to 0.1 s).

    Returns
    -------
    numpy.ndarray
        Shape (20, n_volumes, n_trials).
    """
    from scipy.interpolate import PchipInterpolator

    response = responses_to(duration)
    span = (len(response) - 1) * STEP
    curve = PchipInterpolator(np.arange(len(response)) * STEP, response, axis=0)
    lags = np.arange(n_volumes)[:, None] * repetition_time - onsets[None, :]
    within = (lags >= 0) & (lags <= span)
    values = curve(np.clip(lags, 0, span)) * within[..., None]
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def convolve_drive(drive: FloatArray, hrf_index: npt.NDArray[np.intp]) -> FloatArray:
    """Convolve time courses with each voxel's response.

    Parameters
    ----------
    drive
        Shape (n_steps, n_voxels), one row every 0.1 s.
    hrf_index
        Row of the library of each voxel, (n_voxels,).

    Returns
    -------
    numpy.ndarray
        Same shape; each response has unit area, so that slow drives keep their size.
    """
    from scipy.signal import fftconvolve

    library = hrf_library()
    out = np.zeros_like(drive)
    for index in np.unique(hrf_index):
        voxels = hrf_index == index
        kernel = library[:, index] / library[:, index].sum()
        out[:, voxels] = fftconvolve(drive[:, voxels], kernel[:, None], axes=0)[: len(drive)]
    return out


def delay_drive(drive: FloatArray, delay: float) -> FloatArray:
    """Shift time courses (rows every 0.1 s) by a delay in seconds; the first row fills the gap.

    Parameters
    ----------
    drive
        Shape (n_steps, n), a row every 0.1 s.
    delay
        Seconds.
    """
    times = np.arange(len(drive)) * STEP
    index = np.clip(np.rint((times - delay) / STEP).astype(int), 0, None)
    shifted: FloatArray = drive[index]
    return shifted


def sample_volumes(series: FloatArray, n_volumes: int, repetition_time: float) -> FloatArray:
    """Take rows (every 0.1 s) at the start of each volume, linearly between them.

    Parameters
    ----------
    series
        Shape (n_steps, n), a row every 0.1 s.
    n_volumes
        How many.
    repetition_time
        Seconds.
    """
    times = np.arange(n_volumes) * repetition_time / STEP
    low = np.minimum(np.floor(times + 1e-9).astype(int), len(series) - 1)
    high = np.minimum(low + 1, len(series) - 1)
    share = np.clip(times - low, 0, 1)[:, None]
    return np.asarray(series[low] * (1 - share) + series[high] * share, dtype=np.float64)


def polynomials(n_volumes: int, repetition_time: float) -> FloatArray:
    """Return Legendre polynomials up to degree round(minutes / 2), (n_volumes, degree + 1).

    Parameters
    ----------
    n_volumes
        Length of the run.
    repetition_time
        Seconds.
    """
    degree = int(np.floor(n_volumes * repetition_time / 120 + 0.5))
    grid = np.linspace(-1, 1, n_volumes)
    return np.asarray(np.polynomial.legendre.legvander(grid, degree), dtype=np.float64)
