"""How predicted responses to films are judged: voxel by voxel, against circular shifts.

Correlations are over all held-out samples, each showing standardised by itself. The null shifts
predictions in time, which keeps their autocorrelation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.statistics import fdr, p_value
from bids_neurodecode.evaluation.voxels import pearson_by_column, r2_by_column, summary
from bids_neurodecode.samples import Samples
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.movie_intervals import BLOCK_SECONDS, block_intervals

if TYPE_CHECKING:
    import pandas as pd

TOO_SHORT = (
    'A held-out part of {n} volumes of a film is too short for a test that shifts it by {lag} or '
    'more either way; {need} are needed. Hold out more (split.test_fraction), or whole films.'
)
MIN_LAG_SECONDS = 10.0
"""Circular shifts of the null move predictions by at least this much."""
VOXELS_AT_ONCE = 20_000
ALPHA = 0.05

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """What predicted responses score.

    Parameters
    ----------
    r
        Pearson r of each voxel over all held-out samples, each showing standardised.
    p_fdr, p_fwer
        Circular-shift p values: FDR-adjusted, and corrected by the maximum over voxels.
    predictions
        Predicted responses of the held-out samples (n_held_out, n_voxels), in order of the table.
    rows
        Their row numbers in the table.
    r_fwer
        The r above which a voxel is significant at :data:`ALPHA` by the maximum over voxels;
        NaN without permutations.
    null
        Median r over voxels under each circular shift.
    scores
        Rows of the metrics table.
    """

    r: FloatArray
    p_fdr: FloatArray
    p_fwer: FloatArray
    predictions: Float32Array
    rows: npt.NDArray[np.intp]
    r_fwer: float
    null: FloatArray
    scores: tuple[Score, ...]


def judge_responses(
    samples: Samples,
    rows: npt.NDArray[np.intp],
    predicted: Float32Array,
    *,
    model: str,
    protocol: str,
    space: str = 'voxels',
    repetition_time: float,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> Judged:
    """Judge predictions of held-out samples.

    Parameters
    ----------
    samples
        Measured responses of all samples.
    rows, predicted
        Held-out row numbers, (n_held_out,), and what is predicted for them, (n_held_out,
        n_voxels).
    model, protocol, space
        Columns of the metrics table.
    repetition_time
        Seconds between samples.
    """
    order = np.argsort(rows, kind='stable')
    rows, predicted = rows[order], predicted[order]
    units = showings_of(samples.table.iloc[rows])
    truth = standardize_within(np.asarray(samples.values[rows]), units)
    scaled = standardize_within(predicted, units)
    r = pearson_by_column(truth, scaled)
    lag = max(1, round(MIN_LAG_SECONDS / repetition_time))
    test = shift_test(truth, scaled, r, units, lag, evaluation.n_permutations, rng)
    median, mean = summary(r)
    r2, _ = summary(
        r2_by_column(_center_within(samples.values[rows], units), _center_within(predicted, units))
    )
    finite = int(np.isfinite(r).sum())
    limits = block_intervals(
        truth,
        scaled,
        units,
        block=max(1, round(BLOCK_SECONDS / repetition_time)),
        n_bootstrap=evaluation.n_bootstrap,
        confidence=evaluation.confidence,
        rng=rng.spawn(1)[0],
    )

    def score(metric: str, value: float, model: str = model, **more: Any) -> Score:
        return Score(
            system='movie',
            model=model,
            protocol=protocol,
            split='test',
            space=space,
            metric=metric,
            value=value,
            n=finite,
            chance=0.0,
            **more,
        )

    scores = (
        score(
            'voxel_r_median',
            median,
            p=p_value(test.medians, median),
            ci_low=limits.median[0],
            ci_high=limits.median[1],
        ),
        score('voxel_r_mean', mean, ci_low=limits.mean[0], ci_high=limits.mean[1]),
        score('voxel_r2_median', r2),
        score('voxel_r_median', float(np.median(test.medians)), model='baseline-shuffled'),
    )
    return Judged(
        r, fdr(test.p), test.p_fwer, predicted, rows, test.threshold, test.medians, scores
    )


def shifted_correlations(
    truth: npt.NDArray[np.floating[Any]], prediction: npt.NDArray[np.floating[Any]], min_lag: int
) -> FloatArray:
    """Correlate truth with every circular shift of the prediction, voxel by voxel.

    Parameters
    ----------
    truth, prediction
        Shape (n_samples, n_voxels).
    min_lag
        Shifts from ``min_lag`` to ``n_samples - min_lag`` are taken.

    Returns
    -------
    numpy.ndarray
        Shape (n_shifts, n_voxels); the circular cross-correlation theorem gives all at once.
    """
    from scipy.fft import irfft, rfft

    def unit(values: npt.NDArray[np.floating[Any]]) -> FloatArray:
        centred = np.asarray(values - values.mean(axis=0), dtype=np.float64)
        size = np.linalg.norm(centred, axis=0)
        return centred / np.where(size > 0, size, 1.0)

    spectrum = rfft(unit(truth), axis=0) * np.conj(rfft(unit(prediction), axis=0))
    correlations: FloatArray = irfft(spectrum, n=len(truth), axis=0)
    return correlations[min_lag : len(truth) - min_lag + 1]


class ShiftTest(NamedTuple):
    """p of each voxel, p corrected by the maximum over voxels, median r under each shift.

    ``threshold`` is the r above which the corrected p is below :data:`ALPHA`.
    """

    p: FloatArray
    p_fwer: FloatArray
    medians: FloatArray
    threshold: float


def shift_test(
    truth: FloatArray,
    predicted: FloatArray,
    r: FloatArray,
    showings: npt.NDArray[np.str_],
    min_lag: int,
    n_permutations: int,
    rng: np.random.Generator,
) -> ShiftTest:
    """Test correlations against circular shifts of the predictions within each showing.

    A shift over all showings at once would now and then bring a film back onto itself; here each
    showing is shifted by a lag of its own.

    Parameters
    ----------
    truth, predicted
        Standardised within each showing, (n_samples, n_voxels).
    r
        Their correlation, (n_voxels,).
    showings
        A label a sample.
    min_lag
        Least shift in samples, either way.
    n_permutations
        Combinations of lags that are drawn; all of them where there are no more.

    Raises
    ------
    DataError
        If a showing is too short to be shifted by that much.
    """
    rows = [np.flatnonzero(showings == label) for label in dict.fromkeys(showings)]
    lags = draw_lags([len(each) for each in rows], min_lag, n_permutations, rng)
    weights = [len(each) / len(truth) for each in rows]
    reached = np.zeros(r.shape)
    maxima = np.full(len(lags), -np.inf)
    null = np.empty((len(lags), len(r)), dtype=np.float32)
    for start in range(0, len(r), VOXELS_AT_ONCE):
        block = slice(start, start + VOXELS_AT_ONCE)
        shifted = np.zeros((len(lags), len(r[block])))
        for number, (each, weight) in enumerate(zip(rows, weights, strict=True)):
            every = shifted_correlations(truth[each][:, block], predicted[each][:, block], min_lag)
            shifted += weight * every[lags[:, number]]
        null[:, block] = shifted
        reached[block] = (shifted >= r[block] - 1e-9).sum(axis=0)
        maxima = np.maximum(maxima, shifted.max(axis=1))
    finite = np.isfinite(r)
    p = np.where(finite, (reached + 1) / (len(lags) + 1), np.nan)
    above = (maxima[:, None] >= np.nan_to_num(r)[None] - 1e-9).sum(axis=0)
    p_fwer = np.where(finite, (above + 1) / (len(lags) + 1), np.nan)
    medians = np.median(null[:, finite], axis=1).astype(np.float64)
    return ShiftTest(p, p_fwer, medians, _threshold(maxima))


def _threshold(maxima: FloatArray) -> float:
    """Return the largest maximum that is still reached too often; NaN where that is any."""
    n_reach = int(np.ceil(ALPHA * (len(maxima) + 1))) - 2  # so many may reach what is significant
    if n_reach < 0:
        return float('nan')
    return float(np.sort(maxima)[::-1][n_reach])


def draw_lags(
    lengths: Sequence[int], min_lag: int, n_permutations: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Draw a lag for each showing, as its number from ``min_lag`` on.

    Returns
    -------
    numpy.ndarray
        Shape (n_draws, n_showings): all combinations where there are no more than asked for.
    """
    counts = [length - 2 * min_lag + 1 for length in lengths]
    if min(counts) < 1:
        raise DataError(TOO_SHORT.format(n=min(lengths), need=2 * min_lag, lag=min_lag))
    if math.prod(counts) <= n_permutations:
        return np.array(list(itertools.product(*map(range, counts))), dtype=np.intp)
    return np.stack([rng.integers(0, k, n_permutations) for k in counts], axis=1).astype(np.intp)


def showings_of(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Label each showing of each film: a run may hold several, a film several runs."""
    if 'showing' in table.columns:
        return table['showing'].astype(str).to_numpy(dtype=str)
    return (table['run'].astype(str) + '#' + table['film'].astype(str)).to_numpy(dtype=str)


def _center_within(
    values: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.str_]
) -> FloatArray:
    """Take the mean of each showing out: levels of runs are not what a film predicts."""
    out = np.array(values, dtype=np.float64)
    for label in np.unique(labels):
        out[labels == label] -= out[labels == label].mean(axis=0)
    return out


def standardize_within(
    values: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.str_]
) -> FloatArray:
    """Z-score each showing by itself, so that levels of runs do not count as prediction."""
    out = np.empty(values.shape, dtype=np.float64)
    for label in np.unique(labels):
        rows = labels == label
        out[rows] = Standardizer.fit(values[rows]).apply(values[rows])
    return out
