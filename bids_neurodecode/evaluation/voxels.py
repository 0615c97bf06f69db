"""How well responses are predicted, voxel by voxel, and against what noise allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import FloatArray

BAD_PAIR = 'Truth and prediction must have one shape (n_samples, n_voxels): {a} and {b}.'
BAD_CEILING = 'There must be one noise ceiling a voxel: {n} voxels, {found} ceilings.'


def pearson_by_column(
    truth: npt.NDArray[np.floating[Any]], prediction: npt.NDArray[np.floating[Any]]
) -> FloatArray:
    """Pearson correlation of each column.

    Parameters
    ----------
    truth, prediction
        Responses, (n_samples, n_voxels) each.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,). NaN where the truth does not vary: nothing can be said of it. 0 where
        only the prediction does not: it says nothing, and must not be left out of an average.
    """
    a, b = _centred(truth, prediction)
    size_a, size_b = np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0)
    constant_a, constant_b = _constant(size_a, truth), _constant(size_b, prediction)
    r = (a * b).sum(axis=0) / np.where(constant_a | constant_b, 1.0, size_a * size_b)
    r = np.where(constant_b, 0.0, np.clip(r, -1, 1))
    return np.where(constant_a, np.nan, r)


def r2_by_column(
    truth: npt.NDArray[np.floating[Any]], prediction: npt.NDArray[np.floating[Any]]
) -> FloatArray:
    """Coefficient of determination of each column, 1 - SS_residual / SS_total.

    Shape (n_voxels,), at most 1 and negative without limit; NaN where the truth does not vary.

    Parameters
    ----------
    truth, prediction
        Responses, (n_samples, n_voxels) each.
    """
    a, _ = _centred(truth, prediction)
    size = np.linalg.norm(a, axis=0)
    constant = _constant(size, truth)
    residual = np.asarray(truth, dtype=np.float64) - prediction
    r2 = 1 - (residual**2).sum(axis=0) / np.where(constant, 1.0, size**2)
    return np.where(constant, np.nan, r2)


@dataclass(frozen=True, eq=False)
class NoiseNormalized:
    """Accuracy as a share of what noise allows.

    Parameters
    ----------
    values
        r² / noise ceiling, (n_voxels,); NaN in voxels that are left out.
    share_excluded
        Share of the voxels that are left out.
    median, mean
        Over the voxels kept; NaN if there are none.
    """

    values: FloatArray
    share_excluded: float
    median: float
    mean: float


def noise_normalized(
    r: npt.ArrayLike, noise_ceiling: npt.ArrayLike, *, threshold: float = 0.05
) -> NoiseNormalized:
    """Divide explained variance by the noise ceiling, where there is one to speak of.

    Parameters
    ----------
    r
        Correlation of prediction and response, (n_voxels,); below 0 it explains nothing.
    noise_ceiling
        Explainable share of the variance, from 0 to 1, (n_voxels,).
    threshold
        Voxels with a ceiling at or below this are left out, as a ratio to nearly nothing is
        noise.
    """
    r, ceiling = _with_ceiling(r, noise_ceiling)
    kept = (ceiling > threshold) & np.isfinite(r)
    values = np.full(r.shape, np.nan)
    values[kept] = np.maximum(r[kept], 0) ** 2 / ceiling[kept]
    some = bool(kept.any())
    return NoiseNormalized(
        values,
        share_excluded=float(1 - kept.mean()),
        median=float(np.median(values[kept])) if some else math.nan,
        mean=float(np.mean(values[kept])) if some else math.nan,
    )


def noise_normalized_paper(r: npt.ArrayLike, noise_ceiling: npt.ArrayLike) -> float:
    """Return the score of the VISION code, in per cent, for comparison with published values.

    Negative r become 0, a ceiling of 0 becomes 1e-14, infinite ratios are dropped, the rest is
    cut at 1, and the median is taken. A voxel without any explainable variance thereby counts
    as perfect as soon as r is above 0: :func:`noise_normalized` is the honest score.

    Parameters
    ----------
    r
        Correlation of prediction and response by voxel, (n_voxels,).
    noise_ceiling
        Explainable share of the variance (a square of r) by voxel, (n_voxels,).
    """
    r, ceiling = _with_ceiling(r, noise_ceiling)
    ratio = np.maximum(r, 0) ** 2 / np.where(ceiling == 0, 1e-14, ceiling)
    ratio = np.minimum(ratio[np.isfinite(ratio)], 1.0)
    return float(np.median(ratio) * 100) if ratio.size else math.nan


def summary(values: npt.ArrayLike) -> tuple[float, float]:
    """Return median and mean of the voxels that have a value (NaN if none has)."""
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    return (float(np.median(x)), float(x.mean())) if x.size else (math.nan, math.nan)


def _centred(
    truth: npt.NDArray[np.floating[Any]], prediction: npt.NDArray[np.floating[Any]]
) -> tuple[FloatArray, FloatArray]:
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise DataError(BAD_PAIR.format(a=truth.shape, b=prediction.shape))
    a, b = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    return a - a.mean(axis=0), b - b.mean(axis=0)


def _constant(size: FloatArray, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Whether what centring left of a column is rounding noise."""
    scale = np.sqrt(len(values)) * np.abs(values).max(axis=0, initial=0)
    return np.asarray(size <= 1e-12 * np.maximum(scale, np.finfo(np.float64).tiny))


def _with_ceiling(r: npt.ArrayLike, noise_ceiling: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(r, dtype=np.float64), np.asarray(noise_ceiling, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(BAD_CEILING.format(n=a.shape, found=b.shape))
    return a, b
