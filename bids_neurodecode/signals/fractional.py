"""Fractional ridge regression in the rotated space of a singular value decomposition.

Rokem and Kay 2020 (doi:10.1093/gigascience/giaa133): the strength of the ridge is given as the
length of the coefficients relative to the unregularised ones. The interpolation is that of the
``fracridge`` package, which loops over targets; here all voxels are done at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bids_neurodecode.algebra import NUMPY, Algebra, Array
from bids_neurodecode.typing import FloatArray


def penalties(
    rotated: Sequence[Array],
    squares: Sequence[FloatArray],
    fractions: Sequence[float],
    algebra: Algebra = NUMPY,
) -> Array:
    """Find each voxel's ridge penalty for each fraction.

    Parameters
    ----------
    rotated
        Unregularised coefficients in the space of the right singular vectors, one array per part
        of the design, (n_singular, n_voxels), on the device.
    squares
        Squared singular values of each part in any order, (n_singular,); all above zero.
    fractions
        Length of the coefficients relative to the unregularised ones, each in (0, 1].
    algebra
        Of the device.

    Returns
    -------
    array of shape (n_fractions, n_voxels)
        Float64, on the device.

    Notes
    -----
    Linear interpolation of log(1 + penalty) over a grid of penalties, five a decade, as
    ``fracridge.fracridge`` does it.
    """
    low = np.floor(np.log10(1e-2 * min(part.min(initial=np.inf) for part in squares)))
    high = np.ceil(np.log10(1e4 * max(part.max(initial=0) for part in squares)))
    grid = np.concatenate([[0.0], 10.0 ** np.arange(low, high, 0.2)])
    xp, lengths = algebra.xp, 0
    for part, values in zip(squares, rotated, strict=True):
        shrunk = (part / (part + grid[:, None])) ** 2
        lengths = algebra.double(shrunk) @ algebra.double(values) ** 2 + lengths
    lengths = xp.sqrt(lengths)
    whole = xp.where(lengths[0] > 0, lengths[0], 1)
    lengths = lengths / whole
    log_grid = algebra.double(np.log1p(grid))
    return _interpolate(xp, lengths, log_grid, algebra.double(fractions)[:, None])


def fit_scale_offset(betas: Array, target: Array, algebra: Algebra = NUMPY) -> tuple[Array, Array]:
    """Fit the scale and offset that take regularised betas to unregularised ones, voxel by voxel.

    Parameters
    ----------
    betas, target
        Shape (n_trials, n_voxels), on the device.
    algebra
        Of the device.

    Returns
    -------
    scale, offset : array of shape (n_voxels,)
        Least squares, float64; scale 1 and offset 0 where the scale is negative or nothing varies.
    """
    xp = algebra.xp
    mean, target_mean = (x.mean(axis=0, dtype=xp.float64) for x in (betas, target))
    centred = betas - algebra.single(mean)
    variance, shared = (
        algebra.double_dot(centred, values)
        for values in (centred, target - algebra.single(target_mean))
    )
    scale = shared / xp.where(variance > 0, variance, 1)
    keep = (variance > 0) & (scale >= 0)
    offset = target_mean - scale * mean
    return xp.where(keep, scale, 1.0), xp.where(keep, offset, 0.0)


def _interpolate(xp: Any, lengths: Array, log_grid: Array, fractions: Array) -> Array:
    """Return the penalties at which falling lengths (n_grid, n_voxels) reach (n_fractions, 1)."""
    # index of the last grid point at least as long: its neighbour brackets the fraction
    left = xp.stack([(lengths >= fraction).sum(axis=0) for fraction in fractions]) - 1
    left = xp.clip(left, 0, len(log_grid) - 2)
    columns = np.arange(lengths.shape[1])
    upper, lower = lengths[left, columns], lengths[left + 1, columns]
    gap = upper - lower
    share = xp.where(gap > 0, (upper - fractions) / xp.where(gap > 0, gap, 1), 0.0)
    log_penalty = log_grid[left] + xp.clip(share, 0, 1) * (log_grid[left + 1] - log_grid[left])
    return xp.where(fractions >= 1, 0.0, xp.expm1(log_penalty))
