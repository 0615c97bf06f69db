"""Structural similarity of each image with each of several others, at the cost of one filter.

A permutation test needs all pairs. What belongs to one image alone (local means and variances)
is found once; only the local covariance belongs to a pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import FloatArray

_SIGMA, _TRUNCATE = 1.5, 3.5
_EDGE = 5  # pixels that the window reaches over, left out of the mean
_C1, _C2 = 0.01**2, 0.03**2  # for a data range of 1


def ssim_table(pictures: npt.NDArray[Any], others: npt.NDArray[Any]) -> FloatArray:
    """Return the structural similarity of each of n images with each of m others.

    Parameters
    ----------
    pictures, others
        Shapes (n, h, w, 3) and (m, h, w, 3), floating point in [0, 1].

    Returns
    -------
    numpy.ndarray
        Shape (n, m): for each pair, :func:`bids_neurodecode.evaluation.images.ssim_2d` up to
        rounding (32-bit numbers here).
    """
    known = [_Moments(x) for x in others]
    rows = []
    for picture in pictures:
        own = _Moments(picture)
        rows.append([_similarity(own, other) for other in known])
    return np.array(rows, dtype=np.float64)


class _Moments:
    """Luminance of an image, with its local mean and variance."""

    def __init__(self, picture: npt.NDArray[Any]) -> None:
        from skimage.color import rgb2gray

        self.grey = rgb2gray(np.asarray(picture, dtype=np.float32))
        self.mean = _local(self.grey)
        self.variance = _local(self.grey**2) - self.mean**2


def _similarity(a: _Moments, b: _Moments) -> float:
    covariance = _local(a.grey * b.grey) - a.mean * b.mean
    above = (2 * a.mean * b.mean + _C1) * (2 * covariance + _C2)
    below = (a.mean**2 + b.mean**2 + _C1) * (a.variance + b.variance + _C2)
    inner = (above / below)[_EDGE:-_EDGE, _EDGE:-_EDGE]
    return float(inner.mean(dtype=np.float64))


def _local(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    filtered: npt.NDArray[np.float32] = gaussian_filter(values, _SIGMA, truncate=_TRUNCATE)
    return filtered
