"""Intervals of voxel-wise scores: blocks of time are drawn anew, not voxels.

Voxels are neighbours and see the same noise; drawing them would give intervals far too short. What
is drawn are blocks of volumes, long enough to hold most of the autocorrelation. Percentiles over
the eight or sixteen blocks of a held-out part fall short (they cover 88 % with eight), so the
deviation over resamplings, made unbiased, goes with the quantile of the t distribution for that
many blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.systems.movie.parts import Pool
from bids_neurodecode.typing import FloatArray, IndexArray

BLOCK_SECONDS = 30.0
"""Length of the blocks of held-out volumes."""
MOST_VOXELS = 20_000
"""With more voxels, this many, evenly spread over them, stand for all."""
AT_ONCE = 2048
MOST_SHARED = 0.8
"""Correlation of neighbouring blocks that is believed, at most."""


class Intervals(NamedTuple):
    """Lower and upper limits of the median and the mean over voxels; NaN where there is none."""

    median: tuple[float, float]
    mean: tuple[float, float]


NONE = Intervals((float('nan'), float('nan')), (float('nan'), float('nan')))


def block_intervals(
    truth: npt.NDArray[np.floating[Any]],
    predicted: npt.NDArray[np.floating[Any]],
    parts: npt.NDArray[np.str_],
    fold_of: IndexArray,
    pool: Pool,
    *,
    values: tuple[float, float],
    block: int,
    n_bootstrap: int,
    confidence: float,
    rng: np.random.Generator,
) -> Intervals:
    """Bootstrap the median and mean correlation over voxels by blocks of time.

    Parameters
    ----------
    truth, predicted
        Standardised within each held-out part, (n_samples, n_voxels), in order of time.
    parts
        One label per sample; no block reaches over two parts.
    fold_of
        The fold of each sample, (n_samples,).
    pool
        How folds are put together.
    values
        The median and the mean that the intervals are about.
    block
        Samples of a block, at the least.
    n_bootstrap
        Resamplings; 0 gives no interval.
    confidence
        Coverage, such as .95.
    rng
        Draws the blocks.

    Returns
    -------
    Intervals
        NaN with fewer than :data:`MIN_GROUPS` blocks.
    """
    rows, starts = blocks_of(parts, block)
    n_blocks = len(starts)
    if n_blocks < MIN_GROUPS or n_bootstrap == 0:
        return NONE
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), n_bootstrap)
    draws = weights.astype(np.float64)
    if pool.same:
        drawn = _summaries(truth, predicted, rows, starts, draws)
    else:
        drawn = _over_folds(truth, predicted, rows, starts, draws, fold_of, pool)
    if drawn is None:
        return NONE
    limits = (
        _t_limits(value, pool.spread * x, n_blocks, confidence)
        for value, x in zip(values, drawn, strict=True)
    )
    return Intervals(*((max(-1.0, low), min(1.0, high)) for low, high in limits))


def _t_limits(
    value: float, drawn: npt.NDArray[np.floating[Any]], n_blocks: int, confidence: float
) -> tuple[float, float]:
    """Return limits of a value from what it is when blocks are drawn anew, (n_draws,)."""
    from scipy.stats import t

    # the deviation over resamplings is that of n blocks around their own mean
    error = float(np.nanstd(drawn)) * math.sqrt(n_blocks / (n_blocks - 1))
    half = float(t.ppf((1 + confidence) / 2, n_blocks - 1)) * error
    return value - half, value + half


@dataclass(frozen=True)
class MeanTest:
    """A mean of a series, its interval, its two-sided p value, and blocks that these are over."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def mean_test(
    values: npt.ArrayLike,
    parts: npt.NDArray[np.str_],
    *,
    block: int,
    confidence: float,
    spread: float = 1.0,
) -> MeanTest:
    """Test the mean of a series, such as the similarity of frames, against 0, with its interval.

    The means of blocks vary as a t distribution for that many blocks says, if they are
    independent. Those of slow series are not (a block of 30 s and the next one, at an
    autocorrelation of .93 a volume of 1.3 s, correlate by .4): what neighbours share, taken as
    that of a first-order autoregression and made up for the estimate being too low, widens the
    interval.

    Parameters
    ----------
    values
        In order of time within each part, (n_samples,).
    parts
        Label of each sample, (n_samples,).
    block
        Samples of a block, at least.
    confidence
        Of the interval, such as .95.
    spread
        Factor on the standard error.

    Returns
    -------
    MeanTest
        Limits and p are NaN with fewer than :data:`MIN_GROUPS` blocks; p is NaN for a series that
        does not vary.
    """
    from scipy.stats import t

    rows, starts = blocks_of(parts, block)
    n = len(starts)
    none = float('nan')
    if n < MIN_GROUPS:
        return MeanTest(float(np.mean(np.asarray(values)[rows])), none, none, none, n)
    x, labels = np.asarray(values, dtype=np.float64)[rows], np.asarray(parts)[rows][starts]
    mean, sizes = float(x.mean()), np.diff(np.append(starts, len(rows)))
    away = np.add.reduceat(x - mean, starts) * n / sizes.sum()
    squares = float(away @ away)
    if squares == 0:
        return MeanTest(mean, mean, mean, none, n)
    near = labels[1:] == labels[:-1]
    shared = 0.0
    if near.any():
        products = float((away[1:] * away[:-1])[near].mean())
        shared = float(np.clip(products * n / squares + 2 / n, 0, MOST_SHARED))
    lengths = np.unique(labels, return_counts=True)[1]
    inflation = sum(_as_one(int(length), shared) * length for length in lengths) / n
    error = spread * math.sqrt(inflation) * math.sqrt(squares / (n * (n - 1)))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    p = 2 * float(t.sf(abs(mean) / error, n - 1))
    return MeanTest(mean, mean - half, mean + half, p, n)


def _as_one(n: int, correlation: float) -> float:
    """Return by how much more the mean of n neighbours varies than that of independent ones."""
    lags = np.arange(1, n)
    return float(1 + 2 * ((1 - lags / n) * correlation**lags).sum())


def _summaries(
    truth: npt.NDArray[np.floating[Any]],
    predicted: npt.NDArray[np.floating[Any]],
    rows: IndexArray,
    starts: IndexArray,
    draws: FloatArray,
) -> tuple[FloatArray, FloatArray] | None:
    """Return median and mean over voxels of each draw of blocks, (n_draws,) each."""
    voxels = _some(truth[rows], predicted[rows])
    if not voxels.size:
        return None
    r = np.empty((len(draws), len(voxels)), dtype=np.float32)
    for start in range(0, len(voxels), AT_ONCE):
        part = voxels[start : start + AT_ONCE]
        a, b = (np.asarray(x[rows][:, part], dtype=np.float64) for x in (truth, predicted))
        r[:, start : start + AT_ONCE] = _resampled(a, b, starts, draws)
    return np.median(r, axis=1).astype(np.float64), r.mean(axis=1, dtype=np.float64)


def _over_folds(
    truth: npt.NDArray[np.floating[Any]],
    predicted: npt.NDArray[np.floating[Any]],
    rows: IndexArray,
    starts: IndexArray,
    draws: FloatArray,
    fold_of: IndexArray,
    pool: Pool,
) -> tuple[FloatArray, FloatArray] | None:
    """Return the same where each fold has voxels of its own; folds count as often as drawn."""
    sizes = np.diff(np.append(starts, len(rows)))
    total = np.zeros(len(draws))
    sums = np.zeros((2, len(draws)))
    for number, used in enumerate(pool.used):
        mine = np.flatnonzero(fold_of[rows[starts]] == number)
        if not mine.size or not used.any():
            continue
        inside = np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in mine])
        begin = np.cumsum(np.append(0, sizes[mine][:-1])).astype(np.intp)
        a, b = (x[:, used] for x in (truth, predicted))
        found = _summaries(a, b, rows[inside], begin, draws[:, mine])
        if found is None:
            continue
        volumes = draws[:, mine] @ sizes[mine]
        total += volumes
        sums += np.stack(found) * volumes
    if not total.any():
        return None
    median, mean = sums / np.where(total > 0, total, np.nan)
    return median, mean


def blocks_of(
    parts: npt.NDArray[np.str_], block: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return rows sorted by part, and where in them each block starts.

    Parameters
    ----------
    parts
        One label per sample, samples in order of time.
    block
        Samples of a block, at the least (a part that is shorter is one block).
    """
    rows, starts, position = [], [], 0
    for label in dict.fromkeys(parts.tolist()):
        mine = np.flatnonzero(parts == label)
        rows.append(mine)
        sizes = [len(x) for x in np.array_split(mine, max(1, len(mine) // block))]
        starts += [position + int(sum(sizes[:i])) for i in range(len(sizes))]
        position += len(mine)
    return np.concatenate(rows), np.array(starts, dtype=np.intp)


def _some(
    truth: npt.NDArray[np.floating[Any]], predicted: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.intp]:
    """Return voxels whose truth varies, not too many of them."""
    voxels = np.arange(truth.shape[1])
    if len(voxels) > MOST_VOXELS:
        voxels = np.unique(np.linspace(0, len(voxels) - 1, MOST_VOXELS).round().astype(np.intp))
    finite = np.isfinite(truth[:, voxels]).all(axis=0) & np.isfinite(predicted[:, voxels]).all(0)
    varies = np.ptp(truth[:, voxels], axis=0) > 0
    return np.asarray(voxels[finite & varies])


def _resampled(
    a: FloatArray, b: FloatArray, starts: npt.NDArray[np.intp], weights: FloatArray
) -> FloatArray:
    """Correlate columns when blocks count as often as they were drawn, (n_draws, n_voxels)."""

    def drawn(values: FloatArray) -> FloatArray:
        return np.asarray(weights @ np.add.reduceat(values, starts, axis=0))

    n = np.maximum(drawn(np.ones((len(a), 1))), 1)
    mean_a, mean_b = drawn(a) / n, drawn(b) / n
    covariance = drawn(a * b) / n - mean_a * mean_b
    spread = (drawn(a * a) / n - mean_a**2) * (drawn(b * b) / n - mean_b**2)
    return np.where(spread > 1e-12, covariance / np.sqrt(np.maximum(spread, 1e-12)), 0.0)
