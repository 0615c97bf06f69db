"""How similar two images are, pixel by pixel.

All functions take truth and reconstruction, each (n, h, w, 3), uint8 or floating point in [0, 1],
and return one value per pair, (n,). Both correlation and structural similarity reward blur: read
them beside the score of the mean image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import FloatArray, RealArray

BAD_IMAGES = (
    'Images must be uint8, or floating point in [0, 1], of one shape (n, h, w, 3): {a} and {b}.'
)
TOO_SMALL = (
    'Structural similarity needs images of at least {need} pixels a side; these have {found}.'
)

_SIGMA = 1.5
_TRUNCATE = 3.5
_WINDOW = 11  # what truncating the Gaussian at 3.5 sigma makes of it
_INNER = slice(_WINDOW // 2, -(_WINDOW // 2))  # where it lies within the image
_C1, _C2 = 0.01**2, 0.03**2  # for a data range of 1

Images = npt.NDArray[Any]


def pixcorr(truth: Images, reconstruction: Images) -> FloatArray:
    """Pearson correlation of the flattened RGB values; 0 where either image is uniform.

    Parameters
    ----------
    truth, reconstruction
        Images (n, h, w, 3): uint8, or floating point from 0 to 1.
    """
    a, b = _as_float(truth, reconstruction)
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    uniform = size <= 1e-12 * a.shape[1]
    return np.where(uniform, 0.0, (a * b).sum(axis=1) / np.where(uniform, 1.0, size))


def ssim_2d(truth: Images, reconstruction: Images) -> FloatArray:
    """Structural similarity of the luminance (Wang et al. 2004, IEEE TIP 13:600).

    Gaussian weights of sigma 1.5 pixels, population covariance, data range 1, on
    :func:`skimage.color.rgb2gray`.

    Parameters
    ----------
    truth, reconstruction
        Images (n, h, w, 3): uint8, or floating point from 0 to 1.
    """
    from skimage.metrics import structural_similarity

    pairs = zip(*_luminance(truth, reconstruction), strict=True)
    options = {'data_range': 1.0, 'gaussian_weights': True, 'sigma': _SIGMA}
    return np.array(
        [structural_similarity(x, y, use_sample_covariance=False, **options) for x, y in pairs],
        dtype=np.float64,
    )


def ssim_columnwise_legacy(truth: Images, reconstruction: Images) -> FloatArray:
    """Structural similarity as scikit-image before 0.20 computed it in published NSD tables.

    Those calls said ``multichannel=True`` of an image without channels, so that each column of
    pixels was taken for a channel: the mean over columns of one-dimensional similarities. The
    values are lower than those of :func:`ssim_2d` by about .1; never compare the two.

    Parameters
    ----------
    truth, reconstruction
        Images (n, h, w, 3): uint8, or floating point from 0 to 1.
    """
    # all columns at once: scikit-image would loop over them
    a, b = _luminance(truth, reconstruction)
    mean_a, mean_b = _down_columns(a), _down_columns(b)
    covariance = _down_columns(a * b) - mean_a * mean_b
    variances = _down_columns(a * a) - mean_a**2 + _down_columns(b * b) - mean_b**2
    found = _similarity(mean_a, mean_b, covariance, variances)
    return np.asarray(found[:, _INNER].mean(axis=(1, 2)))


def _similarity(
    mean_a: RealArray, mean_b: RealArray, covariance: RealArray, variances: RealArray
) -> RealArray:
    """Return the similarity at each place, of local moments; ``variances`` is their sum."""
    above = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    below = (mean_a**2 + mean_b**2 + _C1) * (variances + _C2)
    return np.asarray(above / below)


def _down_columns(values: FloatArray) -> FloatArray:
    from scipy.ndimage import gaussian_filter1d

    smooth: FloatArray = gaussian_filter1d(values, _SIGMA, axis=1, truncate=_TRUNCATE)
    return smooth


def _luminance(truth: Images, reconstruction: Images) -> tuple[FloatArray, FloatArray]:
    from skimage.color import rgb2gray

    a, b = _as_float(truth, reconstruction)
    if min(a.shape[1:3]) < _WINDOW:
        raise DataError(TOO_SMALL.format(need=_WINDOW, found=f'{a.shape[2]} x {a.shape[1]}'))
    return rgb2gray(a), rgb2gray(b)


def _as_float(truth: Images, reconstruction: Images) -> tuple[FloatArray, FloatArray]:
    fine = truth.shape == reconstruction.shape and truth.ndim == 4 and truth.shape[-1] == 3
    if fine:
        a, b = _scaled(truth), _scaled(reconstruction)
        if a is not None and b is not None:
            return a, b
    raise DataError(
        BAD_IMAGES.format(
            a=f'{truth.dtype} {truth.shape}', b=f'{reconstruction.dtype} {reconstruction.shape}'
        )
    )


def _scaled(images: Images) -> FloatArray | None:
    if images.dtype == np.uint8:
        return images.astype(np.float64) / 255
    if not np.issubdtype(images.dtype, np.floating):
        return None
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        return None
    return images.astype(np.float64)


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
    # what belongs to one image alone is found once; only the covariance belongs to a pair
    known = [_Moments(x) for x in others]
    return np.array(
        [[own.similarity(other) for other in known] for own in map(_Moments, pictures)],
        dtype=np.float64,
    )


class _Moments:
    """Luminance of an image, with its local mean and variance."""

    def __init__(self, picture: npt.NDArray[Any]) -> None:
        from skimage.color import rgb2gray

        self.grey = rgb2gray(np.asarray(picture, dtype=np.float32))
        self.mean = _local(self.grey)
        self.variance = _local(self.grey**2) - self.mean**2

    def similarity(self, other: _Moments) -> float:
        """Return the mean similarity with another image."""
        covariance = _local(self.grey * other.grey) - self.mean * other.mean
        variances = self.variance + other.variance
        found = _similarity(self.mean, other.mean, covariance, variances)
        return float(found[_INNER, _INNER].mean(dtype=np.float64))


def _local(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    filtered: npt.NDArray[np.float32] = gaussian_filter(values, _SIGMA, truncate=_TRUNCATE)
    return filtered
