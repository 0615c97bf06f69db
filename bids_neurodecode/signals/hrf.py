"""Haemodynamic responses for any repetition time and any duration of the stimulus.

The numbers are those of GLMsingle: 20 responses that span what was found in the Natural Scenes
Dataset (Allen et al. 2022, doi:10.1038/s41593-021-00962-x), and one canonical response.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.typing import FloatArray

STEP = 0.1
"""Seconds between two rows of the published responses, and the stimulus they belong to."""

BAD_REPETITION_TIME = 'A repetition time must be positive and at most 20 s; this one is {value!r}.'
BAD_DURATION = 'A stimulus duration must be 0 s or more, and finite; this one is {value!r}.'


def hrf_library(repetition_time: float, stimulus_duration: float) -> FloatArray:
    """Return the library of 20 responses, sampled once a volume.

    Parameters
    ----------
    repetition_time
        Seconds from volume to volume.
    stimulus_duration
        Seconds; rounded to 0.1 s, and at least 0.1 s.

    Returns
    -------
    ndarray of shape (n_timepoints, 20)
        The first row is at the onset of the stimulus. Each response is divided by its maximum.

    Raises
    ------
    ArgumentsError
        If the repetition time or the duration is out of range.

    Notes
    -----
    Convolved with a boxcar of 0.1-s steps, then resampled by monotone cubic interpolation.

    Examples
    --------
    >>> hrf_library(1.6, 3.0).shape
    (34, 20)
    """
    return _sample('hrf_library.tsv', repetition_time, stimulus_duration)


def assumed_hrf(repetition_time: float, stimulus_duration: float) -> FloatArray:
    """Return the canonical response, shape (n_timepoints,), as :func:`hrf_library` does.

    Parameters
    ----------
    repetition_time, stimulus_duration
        Seconds.
    """
    return _sample('hrf_assumed.tsv', repetition_time, stimulus_duration)[:, 0]


def time_to_peak(stimulus_duration: float) -> FloatArray:
    """Return the seconds from onset to maximum of the 20 responses, shape (20,), to 0.1 s.

    Examples
    --------
    >>> peaks = time_to_peak(3.0)
    >>> bool(peaks.min() >= 3.5 and peaks.max() <= 11)
    True
    """
    _check(1.0, stimulus_duration)
    peaks = np.argmax(_respond('hrf_library.tsv', stimulus_duration), axis=0)
    return np.asarray(peaks * STEP)


def _sample(name: str, repetition_time: float, stimulus_duration: float) -> FloatArray:
    from scipy.interpolate import PchipInterpolator

    _check(repetition_time, stimulus_duration)
    fine = _respond(name, stimulus_duration)
    times = np.arange(len(fine)) * STEP
    # a hair more than the last time, against rounding in the steps of arange
    wanted = np.arange(0, times[-1] + 1e-9, repetition_time)
    sampled = PchipInterpolator(times, fine, axis=0)(np.minimum(wanted, times[-1]))
    return np.asarray(sampled / sampled.max(axis=0))


def _respond(name: str, stimulus_duration: float) -> FloatArray:
    """Return responses to a longer stimulus on the grid of 0.1 s."""
    short = _read(name)
    boxcar = np.ones(max(1, round(stimulus_duration / STEP)))
    return np.stack([np.convolve(column, boxcar) for column in short.T], axis=1)


def _read(name: str) -> FloatArray:
    file = resources.files('bids_neurodecode') / 'data' / 'hrf' / name
    lines: list[Any] = file.read_text('utf-8').splitlines()
    return np.atleast_2d(np.loadtxt(lines, ndmin=2))


def _check(repetition_time: float, stimulus_duration: float) -> None:
    if not (np.isfinite(repetition_time) and 0 < repetition_time <= 20):
        raise ArgumentsError(BAD_REPETITION_TIME.format(value=repetition_time))
    if not (np.isfinite(stimulus_duration) and stimulus_duration >= 0):
        raise ArgumentsError(BAD_DURATION.format(value=stimulus_duration))
