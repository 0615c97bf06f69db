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
    rotated: Sequence[Float32Array], squares: Sequence[FloatArray], fractions: Sequence[float]
) -> FloatArray:
    """Find each voxel's ridge penalty for each fraction.

    Parameters
    ----------
    rotated
        Unregularised coefficients in the space of the right singular vectors, one array per part
        of the design, (n_singular, n_voxels).
    squares
        Squared singular values of each part in any order, (n_singular,); all above zero.
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
    low = np.floor(np.log10(1e-2 * min(part.min(initial=np.inf) for part in squares)))
    high = np.ceil(np.log10(1e4 * max(part.max(initial=0) for part in squares)))
    grid = np.concatenate([[0.0], 10.0 ** np.arange(low, high, 0.2)])
    lengths = np.zeros((len(grid), rotated[0].shape[1]))
    for part, values in zip(squares, rotated, strict=True):
        shrunk = (part / (part + grid[:, None])) ** 2
        lengths += shrunk @ np.square(values, dtype=np.float64)
    lengths = np.sqrt(lengths)
    whole = lengths[0]
    lengths /= np.where(whole > 0, whole, 1)
    return np.stack([_interpolate(lengths, np.log1p(grid), value) for value in fractions])


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
    mean, target_mean = (x.mean(axis=0, dtype=np.float64) for x in (betas, target))
    centred = betas - mean.astype(np.float32)
    variance, shared = (
        np.einsum('tv,tv->v', centred, values, dtype=np.float64)
        for values in (centred, target - target_mean.astype(np.float32))
    )
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
