"""Intervals of voxel-wise scores: blocks of time are drawn anew, not voxels.

Voxels are neighbours and see the same noise; drawing them would give intervals far too short. What
is drawn are blocks of volumes, long enough to hold most of the autocorrelation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation.statistics import MIN_GROUPS

BLOCK_SECONDS = 30.0
"""Length of the blocks of held-out volumes."""
MOST_VOXELS = 20_000
"""With more voxels, this many, evenly spread over them, stand for all."""
AT_ONCE = 2048

FloatArray = npt.NDArray[np.float64]


class Intervals(NamedTuple):
    """Lower and upper limits of the median and the mean over voxels; NaN where there is none."""

    median: tuple[float, float]
    mean: tuple[float, float]


NONE = Intervals((float('nan'), float('nan')), (float('nan'), float('nan')))


def block_intervals(
    truth: npt.NDArray[np.floating[Any]],
    predicted: npt.NDArray[np.floating[Any]],
    showings: npt.NDArray[np.str_],
    *,
    block: int,
    n_bootstrap: int,
    confidence: float,
    rng: np.random.Generator,
) -> Intervals:
    """Bootstrap the median and mean correlation over voxels by blocks of time.

    Parameters
    ----------
    truth, predicted
        Standardised within each showing, (n_samples, n_voxels), in order of time.
    showings
        A label a sample; no block reaches over two showings.
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
        Percentiles; NaN with fewer than :data:`MIN_GROUPS` blocks.
    """
    rows, starts = _blocks(showings, block)
    if len(starts) < MIN_GROUPS or n_bootstrap == 0:
        return NONE
    n_blocks = len(starts)
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), n_bootstrap)
    voxels = _some(truth, predicted)
    if not voxels.size:
        return NONE
    r = np.empty((n_bootstrap, len(voxels)), dtype=np.float32)
    for start in range(0, len(voxels), AT_ONCE):
        part = voxels[start : start + AT_ONCE]
        a, b = (np.asarray(x[rows][:, part], dtype=np.float64) for x in (truth, predicted))
        r[:, start : start + AT_ONCE] = _resampled(a, b, starts, weights.astype(np.float64))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    limits = (np.quantile(x, tails) for x in (np.median(r, axis=1), r.mean(axis=1)))
    return Intervals(*((float(low), float(high)) for low, high in limits))


def _blocks(
    showings: npt.NDArray[np.str_], block: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return rows sorted by showing, and where in them each block starts."""
    rows, starts, position = [], [], 0
    for label in dict.fromkeys(showings):
        mine = np.flatnonzero(showings == label)
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

    n = drawn(np.ones((len(a), 1)))
    mean_a, mean_b = drawn(a) / n, drawn(b) / n
    covariance = drawn(a * b) / n - mean_a * mean_b
    spread = (drawn(a * a) / n - mean_a**2) * (drawn(b * b) / n - mean_b**2)
    return np.where(spread > 1e-12, covariance / np.sqrt(np.maximum(spread, 1e-12)), 0.0)


__all__ = ['BLOCK_SECONDS', 'Intervals', 'block_intervals']
