"""The response that stimuli evoke in the best voxels, beside the response that was fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.report.style import BLACK, BLUE, GREY, ORANGE, new_figure, styled
from bids_neurodecode.signals.clean import AS_IN_THE_SERIES, PERCENT, lacks_mean, short_units
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.typing import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


STEP = 0.25
"""Seconds between the points of a fitted response."""
BEFORE = 2
"""Volumes before the onset that are estimated too: they should be at zero."""
TAIL = 18.0
"""Seconds after the end of the stimulus that are estimated."""
SHORTEST = 8.0
"""Seconds after the end of the stimulus from which a response may be cut off for the next one."""
EARLY = 0.4
"""Share of the peak above which a response at the onset is taken for early."""
DRIFT = 128.0
"""Seconds; slower waves than this are taken for drift."""


@dataclass(frozen=True, eq=False)
class Evoked:
    """Responses of voxels to a trial.

    ``lags`` are seconds from onset, (n_lags,); ``responses`` are in ``units``, (n_lags, n_voxels);
    ``fitted`` is what the library's shapes of these voxels say on average, scaled to the mean
    response, on a grid of ``fitted_lags``; None where no shape was fitted.
    """

    lags: FloatArray
    responses: FloatArray
    units: str = PERCENT
    fitted_lags: FloatArray | None = None
    fitted: FloatArray | None = None


def window_of(onsets: list[FloatArray], duration: float, repetition_time: float) -> float:
    """Return how many seconds from the onset are estimated.

    Where trials lie far apart, what is estimated of one ends before that of the next begins:
    at one distance the two could not be told apart. Where they overlap, all of it is.

    Parameters
    ----------
    onsets
        Of the trials of each run, in seconds.
    duration
        Of the stimulus in seconds.
    repetition_time
        Seconds from volume to volume.
    """
    gaps = np.concatenate([np.diff(np.sort(each)) for each in onsets])
    room = float(gaps.min(initial=np.inf)) - (BEFORE + 1) * repetition_time
    whole = duration + TAIL
    return min(whole, room) if room >= duration + SHORTEST else whole


def finite_impulse_response(
    runs: list[tuple[FloatArray, FloatArray]], repetition_time: float, duration: float
) -> Evoked | None:
    """Estimate the response to a trial without assuming its shape.

    All trials of all runs share one response, which is piecewise linear between volumes (tents),
    so that onsets need not fall on volumes, and responses of trials that follow closely are told
    apart instead of being averaged with their neighbours'.

    Parameters
    ----------
    runs
        Of each run the series (n_volumes, n_voxels) and the onsets of its trials in seconds
        (n_trials,).
    repetition_time
        Seconds from volume to volume.
    duration
        Of the stimulus in seconds.

    Returns
    -------
    Evoked or None
        Responses in percent of each voxel's mean, or in units of the series where these have no
        mean. None where the design does not determine them (such as trials at one distance
        without a pause between them).

    References
    ----------
    Dale (1999), Human Brain Mapping 8:109 (finite impulse responses by least squares).
    """
    window = window_of([onsets for _, onsets in runs], duration, repetition_time)
    n_lags = BEFORE + 1 + int(np.ceil(window / repetition_time - 1e-9))
    centred = any(lacks_mean(values) for values, _ in runs)
    designs, series = [], []
    for values, onsets in runs:
        tents, drift = (
            _tents(len(values), onsets / repetition_time, n_lags),
            _drifts(len(values), repetition_time),
        )
        # what is shared with drift is drift
        designs.append(tents - drift @ (np.linalg.pinv(drift) @ tents))
        mean = values.mean(axis=0)
        size = 1.0 if centred else np.where(mean == 0, 1, mean) / 100
        change = (values - mean) / size
        series.append(change - drift @ (np.linalg.pinv(drift) @ change))
    design = np.concatenate(designs)
    if np.linalg.matrix_rank(design, tol=1e-6 * np.sqrt(len(design))) < n_lags:
        return None
    response = np.linalg.lstsq(design, np.concatenate(series), rcond=None)[0]
    lags = np.asarray((np.arange(n_lags) - BEFORE) * repetition_time)
    return Evoked(lags, np.asarray(response), AS_IN_THE_SERIES if centred else PERCENT)


def _tents(n_volumes: int, onsets: FloatArray, n_lags: int) -> FloatArray:
    """Return how much of each lag each volume holds, (n_volumes, n_lags); onsets in volumes."""
    lag = np.arange(n_volumes)[:, None] - onsets[None, :] + BEFORE
    low = np.floor(lag).astype(int)
    design = np.zeros((n_volumes, n_lags))
    for offset, weight in ((0, 1 - (lag - low)), (1, lag - low)):
        volume, trial = np.nonzero((low + offset >= 0) & (low + offset < n_lags))
        np.add.at(design, (volume, low[volume, trial] + offset), weight[volume, trial])
    return design


def _drifts(n_volumes: int, repetition_time: float) -> FloatArray:
    """Return a constant and cosines slower than :data:`DRIFT`, (n_volumes, n_drifts)."""
    n = 1 + int(2 * n_volumes * repetition_time / DRIFT)
    time = (np.arange(n_volumes) + 0.5) / n_volumes
    return np.stack([np.cos(np.pi * k * time) for k in range(n)], axis=1)


def with_library(
    evoked: Evoked,
    index: npt.NDArray[np.intp],
    duration: float,
) -> Evoked:
    """Put the shapes that were fitted to the voxels beside their responses.

    Parameters
    ----------
    evoked
        From :func:`finite_impulse_response`.
    index
        Which shape of the library each voxel has, (n_voxels,).
    duration
        Of the stimulus in seconds.
    """
    library = hrf_library(STEP, duration)
    counts = np.bincount(index, minlength=library.shape[1])[: library.shape[1]]
    shape = library @ counts / counts.sum()
    times = np.arange(len(shape)) * STEP
    inside = times <= evoked.lags[-1]
    times, shape = times[inside], shape[inside]
    # the fitted models hold one size a trial: the mean size is the one that fits the mean response
    at_lags = np.interp(evoked.lags, times, shape, left=0.0)
    mean = evoked.responses.mean(axis=1)
    size = float(at_lags @ mean / (at_lags @ at_lags))
    return replace(evoked, fitted_lags=times, fitted=size * shape)


def begins_early(evoked: Evoked) -> bool:
    """Tell whether voxels respond before blood could: at the onset, to two fifths of the peak.

    No shape of the library has begun by then; events and series are shifted against each other,
    or what comes before a trial is answered in its place.
    """
    mean = evoked.responses.mean(axis=1)
    before = evoked.lags <= 0
    early = int(np.argmax(np.where(before, mean, -np.inf)))
    shared = (evoked.responses[early] > 0).mean() > 0.75
    return bool(mean[early] > EARLY * mean.max() and shared)


@styled
def plot_evoked(evoked: Evoked, duration: float) -> Figure:
    """Draw the mean response, how it spreads over voxels, and the fitted one.

    Parameters
    ----------
    evoked
        Responses after stimulus onset.
    duration
        Of the stimulus, in seconds.
    """
    figure = new_figure(2.7)
    axis = figure.subplots()
    low, middle, high = np.percentile(evoked.responses, (25, 50, 75), axis=1)
    mean: Any = evoked.responses.mean(axis=1)
    axis.axvspan(0, duration, color=GREY, alpha=0.15, linewidth=0, label='stimulus')
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.fill_between(
        evoked.lags, low, high, color=BLUE, alpha=0.2, linewidth=0, label='quartiles'
    )
    axis.plot(evoked.lags, middle, color=BLUE, linewidth=1, linestyle=':', label='median')
    axis.plot(evoked.lags, mean, 'o-', color=BLUE, markersize=4, label='mean, no shape assumed')
    if evoked.fitted is not None and evoked.fitted_lags is not None:
        axis.plot(
            evoked.fitted_lags, evoked.fitted, color=ORANGE, linewidth=2, label='fitted response'
        )
    axis.set(xlabel='time from onset (s)', ylabel=short_units(evoked.units))
    axis.set_xlim(evoked.lags[0], evoked.lags[-1])
    axis.tick_params(color=BLACK)
    axis.grid(axis='y')
    figure.legend(loc='outside right upper')
    return figure
