"""Fractional ridge regression in the rotated space of a singular value decomposition.

Rokem and Kay 2020 (doi:10.1093/gigascience/giaa133): the strength of the ridge is given as the
length of the coefficients relative to the unregularised ones. The interpolation is that of the
``fracridge`` package, which loops over targets; here all voxels are done at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import Float32Array, FloatArray


def penalties(
    rotated: Float32Array, singular: FloatArray, fractions: Sequence[float]
) -> FloatArray:
    """Find each voxel's ridge penalty for each fraction.

    Parameters
    ----------
    rotated
        Unregularised coefficients in the space of the right singular vectors, shape
        (n_singular, n_voxels).
    singular
        Singular values in any order, shape (n_singular,); all above zero.
    fractions
        Length of the coefficients relative to the unregularised ones, each in (0, 1].

    Returns
    -------
    ndarray of shape (n_fractions, n_voxels)

    Notes
    -----
    Linear interpolation of log(1 + penalty) over a grid of penalties, five a decade, as
    ``fracridge.fracridge`` does it.
    """
    squares = singular**2
    low = np.floor(np.log10(1e-2 * squares.min()))
    high = np.ceil(np.log10(1e4 * squares.max()))
    grid = np.concatenate([[0.0], 10.0 ** np.arange(low, high, 0.2)])
    shrink = (squares / (squares + grid[:, None])) ** 2
    lengths = np.sqrt(shrink @ np.square(rotated, dtype=np.float64))
    whole = lengths[0]
    lengths /= np.where(whole > 0, whole, 1)
    return np.stack([_interpolate(lengths, np.log1p(grid), value) for value in fractions])


def shrink(rotated: Float32Array, singular: FloatArray, penalty: FloatArray) -> Float32Array:
    """Apply penalties of shape (n_voxels,) to rotated coefficients (n_singular, n_voxels)."""
    squares = (singular**2).astype(np.float32)[:, None]
    return np.asarray(rotated * (squares / (squares + penalty.astype(np.float32))))


def fit_scale_offset(
    betas: Float32Array, target: Float32Array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit the scale and offset that take regularised betas to unregularised ones, voxel by voxel.

    Parameters
    ----------
    betas, target
        Shape (n_trials, n_voxels).

    Returns
    -------
    scale, offset : ndarray of shape (n_voxels,)
        Least squares; scale 1 and offset 0 where the scale is negative or nothing varies.
    """
    mean, target_mean = betas.mean(axis=0), target.mean(axis=0)
    centred = betas - mean
    variance = np.einsum('tv,tv->v', centred, centred).astype(np.float64)
    shared = np.einsum('tv,tv->v', centred, target - target_mean).astype(np.float64)
    scale = shared / np.where(variance > 0, variance, 1)
    keep = (variance > 0) & (scale >= 0)
    offset = target_mean - scale * mean
    return np.where(keep, scale, 1.0), np.where(keep, offset, 0.0)


def _interpolate(lengths: FloatArray, log_grid: FloatArray, fraction: float) -> FloatArray:
    """Return the penalty at which falling lengths (n_grid, n_voxels) reach the fraction."""
    # index of the last grid point at least as long: its neighbour brackets the fraction
    left = np.sum(lengths >= fraction, axis=0) - 1
    left = np.clip(left, 0, len(log_grid) - 2)
    columns = np.arange(lengths.shape[1])
    upper, lower = lengths[left, columns], lengths[left + 1, columns]
    gap = upper - lower
    share = np.where(gap > 0, (upper - fraction) / np.where(gap > 0, gap, 1), 0.0)
    log_penalty = log_grid[left] + np.clip(share, 0, 1) * (log_grid[left + 1] - log_grid[left])
    return np.asarray(np.where(fraction >= 1, 0.0, np.expm1(log_penalty)))
