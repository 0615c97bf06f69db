"""Voxel accuracy equals scipy and scikit-learn, and its limits are as stated."""

import warnings

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.voxels import (
    noise_normalized,
    noise_normalized_paper,
    pearson_by_column,
    r2_by_column,
    summary,
)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 6)) + 1000
    return truth, 0.5 * truth + rng.normal(size=(30, 6))


def test_equals_scipy_and_scikit_learn(pair):
    truth, prediction = pair
    expected = [pearsonr(a, b).statistic for a, b in zip(truth.T, prediction.T, strict=True)]
    np.testing.assert_allclose(pearson_by_column(truth, prediction), expected, atol=1e-9)
    expected = r2_score(truth, prediction, multioutput='raw_values')
    np.testing.assert_allclose(r2_by_column(truth, prediction), expected, rtol=1e-9)


def test_they_do_not_depend_on_the_unit_of_a_voxel(pair):
    truth, prediction = pair
    truth = truth - 1000
    scale = 10.0 ** np.array([-150, -15, -3, 0, 9, 140])
    r, r2 = pearson_by_column(truth, prediction), r2_by_column(truth, prediction)
    np.testing.assert_allclose(pearson_by_column(truth * scale, prediction / scale), r, rtol=1e-9)
    np.testing.assert_allclose(r2_by_column(truth * scale, prediction * scale), r2, rtol=1e-9)


def test_a_perfect_prediction_is_one_and_never_more():
    truth = np.random.default_rng(1).normal(size=(7, 4000))
    for sign in (1, -1):
        r = pearson_by_column(truth, sign * truth * np.pi)
        np.testing.assert_allclose(r, sign)
        assert np.abs(r).max() <= 1
    np.testing.assert_array_equal(r2_by_column(truth, truth), 1)


def test_single_precision_is_scored_in_double(pair):
    truth, prediction = (array.astype(np.float32) for array in pair)
    doubles = truth.astype(np.float64), prediction.astype(np.float64)
    for score in (pearson_by_column, r2_by_column):
        np.testing.assert_allclose(score(truth, prediction), score(*doubles), rtol=1e-12)
    r, ceiling = (np.abs(x[0] % 1).astype(np.float32) for x in pair)
    once = noise_normalized(r, ceiling)
    twice = noise_normalized(r.astype(np.float64), ceiling.astype(np.float64))
    np.testing.assert_array_equal(once.values, twice.values)
    assert summary(r) == summary(r.astype(np.float64))


def test_constants(pair):
    truth, prediction = (array.astype(np.float32) for array in pair)
    truth[:, 0] = 0.1
    prediction[:, 1] = 0.1
    r = pearson_by_column(truth, prediction)
    assert np.isnan(r[0])
    assert r[1] == 0
    assert np.isfinite(r[1:]).all()
    r2 = r2_by_column(truth, prediction)
    assert np.isnan(r2[0])
    assert np.isfinite(r2[1:]).all()
    # rounding leaves something of them when they are centred
    nothing = np.full(truth.shape, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (pearson_by_column(truth[:, 1:], nothing[:, 1:]) == 0).all()
        assert np.isnan(pearson_by_column(nothing, prediction)).all()
        assert np.isnan(r2_by_column(nothing, prediction)).all()
        assert np.isnan(pearson_by_column(np.zeros((5, 2)), np.zeros((5, 2)))).all()
        assert np.isnan(pearson_by_column(0 * truth, prediction)).all()
        assert np.isnan(r2_by_column(0 * truth, prediction)).all()


def test_noise_normalized_leaves_out_and_says_so():
    r = np.array([0.5, -0.9, 0.3, 0.8, np.nan, 0.6])
    ceiling = np.array([0.5, 0.5, 0.0, 0.05, 0.5, 0.25])
    got = noise_normalized(r, ceiling)
    np.testing.assert_allclose(got.values, [0.5, 0, np.nan, np.nan, np.nan, 1.44])
    assert got.share_excluded == pytest.approx(0.5)
    assert got.median == pytest.approx(0.5)
    assert got.mean == pytest.approx(1.94 / 3)
    assert noise_normalized(r, ceiling, threshold=0.3).share_excluded == pytest.approx(4 / 6)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        none = noise_normalized(r, np.zeros(6))
        assert np.isnan([none.median, none.mean, noise_normalized_paper([np.nan], [0.5])]).all()
        assert np.isnan(summary([np.nan])).all()
    assert none.share_excluded == 1


def test_published_score_counts_voxels_without_ceiling_as_perfect():
    r, ceiling = np.array([0.1, 0.1, 0.1, -0.5]), np.array([0, 0, 0, 0.5])
    assert noise_normalized_paper(r, ceiling) == pytest.approx(100)
    assert noise_normalized_paper([0.5, -0.5, 0.1], [0.5, 0.5, 0.1]) == pytest.approx(10)


def test_summary_passes_over_what_is_missing():
    assert summary([1.0, np.nan, 2.0, 6.0]) == (2.0, 3.0)


def test_errors(pair):
    with pytest.raises(DataError, match='must have one shape'):
        pearson_by_column(pair[0], pair[1][:5])
    with pytest.raises(DataError, match='one noise ceiling a voxel'):
        noise_normalized([0.1, 0.2], [0.5])
