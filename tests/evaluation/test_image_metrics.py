"""Pixel metrics equal independent computations of their definitions."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.images import pixcorr, ssim_2d, ssim_columnwise_legacy


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    a = gaussian_filter(rng.random((3, 24, 30, 3)), (0, 2, 2, 0))
    a = (a - a.min()) / np.ptp(a)
    return a, np.clip(a + 0.1 * rng.normal(size=a.shape), 0, 1)


def ssim_by_hand(x, y, smooth, crop):
    """Wang et al. 2004, equation 13, with population moments."""
    mx, my = smooth(x), smooth(y)
    vx, vy, cxy = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return index[crop].mean()


def test_ssim_2d(pair):
    grey = [array @ [0.2125, 0.7154, 0.0721] for array in pair]
    crop = (slice(5, -5), slice(5, -5))
    expected = [
        ssim_by_hand(x, y, lambda v: gaussian_filter(v, 1.5, truncate=3.5), crop)
        for x, y in zip(*grey, strict=True)
    ]
    np.testing.assert_allclose(ssim_2d(*pair), expected, rtol=1e-6)


def test_ssim_of_columns(pair):
    grey = [array @ [0.2125, 0.7154, 0.0721] for array in pair]
    expected = [
        np.mean(
            [
                ssim_by_hand(
                    x[:, k],
                    y[:, k],
                    lambda v: gaussian_filter1d(v, 1.5, truncate=3.5),
                    slice(5, -5),
                )
                for k in range(x.shape[1])
            ]
        )
        for x, y in zip(*grey, strict=True)
    ]
    got = ssim_columnwise_legacy(*pair)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert (np.abs(got - ssim_2d(*pair)) > 0.01).all(), 'the two must not be mixed up'


def test_columns_are_the_channels_of_scikit_image(pair):
    a, b = (rgb2gray(x) for x in pair)
    options = {'data_range': 1, 'gaussian_weights': True, 'use_sample_covariance': False}
    expected = [
        structural_similarity(x, y, channel_axis=-1, **options) for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim_columnwise_legacy(*pair), expected, rtol=1e-10)


def test_pixcorr(pair):
    a, b = pair
    expected = [pearsonr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(pixcorr(a, b), expected)


def test_a_picture_is_like_itself(pair):
    a = (pair[0] * 255).astype(np.uint8)
    for metric in (pixcorr, ssim_2d, ssim_columnwise_legacy):
        np.testing.assert_allclose(metric(a, a), 1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (pixcorr(a, np.full_like(a, 9)) == 0).all()


def test_eight_bits_and_floats_agree(pair):
    a, b = ((array * 255).astype(np.uint8) for array in pair)
    np.testing.assert_allclose(ssim_2d(a, b), ssim_2d(a / 255, b / 255))
    singles = [x.astype(np.float32) for x in pair]
    doubles = [x.astype(np.float64) for x in singles]
    for metric in (pixcorr, ssim_2d, ssim_columnwise_legacy):
        np.testing.assert_array_equal(metric(*singles), metric(*doubles))


def test_the_window_is_the_smallest_picture(pair):
    a, b = (x[:, :11, :11] for x in pair)
    for metric in (ssim_2d, ssim_columnwise_legacy):
        assert np.isfinite(metric(a, b)).all()


def test_errors(pair):
    a, b = pair
    for x, y in ((a, b[:2]), (a[0], b[0]), (a * 2, b), (a.astype(int), b.astype(int))):
        with pytest.raises(DataError, match='Images must be uint8'):
            pixcorr(x, y)
    with pytest.raises(DataError, match='at least 11 pixels a side; these have 30 x 8'):
        ssim_2d(a[:, :8], b[:, :8])
