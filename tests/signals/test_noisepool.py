"""The ON-OFF threshold, the noise pool and its components."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bids_neurodecode.algebra import NUMPY
from bids_neurodecode.signals import noisepool


def test_threshold_lies_where_two_gaussians_cross():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1, 0.5, 8000), rng.normal(8, 2, 8000)])
    # equal shares: the densities cross where (x - 1)^2 / .5 - (x - 8)^2 / 8 = 4 log 2
    a, b, c = 1 / 0.5 - 1 / 8, -2 / 0.5 + 16 / 8, 1 / 0.5 - 64 / 8 - 4 * np.log(2) / 2
    crossing = (-b + np.sqrt(b**2 - 4 * a * c)) / (2 * a)
    threshold, notes = noisepool.onoff_threshold(np.append(values, [np.nan, np.inf]))
    assert threshold == pytest.approx(crossing, abs=0.15)
    assert notes == ()


@pytest.mark.parametrize('n_values', [400, 20_000])
def test_mixture_is_that_of_scikit_learn(n_values):
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(1)
    values = np.concatenate([rng.chisquare(1, n_values) / 3, rng.chisquare(4, n_values // 10) * 4])
    found = noisepool.fit_two_gaussians(np.sort(values))
    expected = GaussianMixture(2, tol=1e-10, reg_covar=0, max_iter=100, random_state=0)
    expected.fit(values[:, None])
    order = np.argsort(expected.means_.ravel())
    np.testing.assert_allclose(found.weight, expected.weights_[order], rtol=1e-3)
    np.testing.assert_allclose(found.mean, expected.means_.ravel()[order], rtol=1e-3)
    np.testing.assert_allclose(found.variance, expected.covariances_.ravel()[order], rtol=2e-3)


@pytest.mark.parametrize('values', [[], [np.nan], [1.0, 1.0, 1.0], [0.5, 2.0, 1.0]])
def test_too_few_values_for_a_mixture(values):
    threshold, notes = noisepool.onoff_threshold(np.array(values))
    assert notes == (noisepool.NO_THRESHOLD.format(threshold=threshold),)
    finite = [value for value in values if np.isfinite(value)]
    assert threshold == (max(finite) if finite else 0)


def test_robust_range_leaves_outliers_out():
    rng = np.random.default_rng(2)
    values = np.append(rng.normal(size=5000), [1e3, 1e4, -1e5])
    low, high = noisepool.robust_range(values)
    assert -5 < low < -2.5
    assert 2.5 < high < 5


def test_robust_range_of_plain_values_is_their_range():
    values = np.linspace(-3, 7, 1000)
    assert noisepool.robust_range(values) == (-3, 7)


def test_pool_is_bright_and_unresponsive():
    mean = np.array([100, 100, 100, 5, np.nan, 100, 90.0])
    rsquared = np.array([0.1, 5.0, 0.9, 0.1, 0.1, np.nan, 1.0])
    pool = noisepool.noise_pool(mean, rsquared, 1.0)
    np.testing.assert_array_equal(np.flatnonzero(pool), [0, 2])
    assert not noisepool.noise_pool(mean * np.nan, rsquared, 1.0).any()


def test_components_are_those_of_a_singular_value_decomposition():
    series = np.random.default_rng(3).normal(size=(40, 90)).astype(np.float32)
    series[:, 7] = 0  # takes no part
    gram = noisepool.unit_gram(NUMPY, series[:, :50]) + noisepool.unit_gram(NUMPY, series[:, 50:])
    found = noisepool.noise_components(gram, 5)
    used = np.delete(series, 7, axis=1).astype(float)
    left, _, _ = np.linalg.svd(used / np.linalg.norm(used, axis=0))
    np.testing.assert_allclose(np.abs(np.sum(found * left[:, :5], axis=0)), 1, atol=1e-4)


def test_components_end_with_the_pool():
    series = np.random.default_rng(4).normal(size=(40, 3)).astype(np.float32)
    assert noisepool.noise_components(noisepool.unit_gram(NUMPY, series), 10).shape == (40, 3)
    assert noisepool.noise_components(np.zeros((40, 40)), 10).shape == (40, 0)


def test_judges_are_above_the_threshold_or_the_best():
    rsquared = np.append(np.arange(150.0), np.nan)
    assert noisepool.judging_voxels(rsquared, 140.0).sum() == 9
    best = noisepool.judging_voxels(rsquared, 1000.0)
    np.testing.assert_array_equal(np.flatnonzero(best), np.arange(50, 150))
    assert noisepool.judging_voxels(np.array([1.0, np.nan]), 5.0).tolist() == [True, False]


@given(hnp.arrays(float, st.integers(1, 12), elements=st.floats(-1e3, 1e3)))
def test_number_of_components_is_the_first_good_enough(curve):
    # the rule as it is told: improvements only, stop when near the largest gain
    gain, chosen, best = curve - curve[0], 0, -np.inf
    for k, value in enumerate(gain):
        if value > best:
            chosen, best = k, value
            if value * 1.05 >= gain.max():
                break
    assert noisepool.choose_components(curve) == chosen
