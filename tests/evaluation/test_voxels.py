"""Voxel accuracy equals scipy and scikit-learn, and its limits are as stated."""

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


def test_noise_normalized_leaves_out_and_says_so():
    r = np.array([0.5, -0.9, 0.3, 0.8, np.nan, 0.6])
    ceiling = np.array([0.5, 0.5, 0.0, 0.05, 0.5, 0.25])
    got = noise_normalized(r, ceiling)
    np.testing.assert_allclose(got.values, [0.5, 0, np.nan, np.nan, np.nan, 1.44])
    assert got.share_excluded == pytest.approx(0.5)
    assert got.median == pytest.approx(0.5)
    assert got.mean == pytest.approx(1.94 / 3)
    assert noise_normalized(r, ceiling, clip=True).mean == pytest.approx(0.5)
    assert noise_normalized(r, ceiling, threshold=0.3).share_excluded == pytest.approx(4 / 6)
    assert np.isnan(noise_normalized(r, np.zeros(6)).median)


def test_published_score_counts_voxels_without_ceiling_as_perfect():
    r, ceiling = np.array([0.1, 0.1, 0.1, -0.5]), np.array([0, 0, 0, 0.5])
    assert noise_normalized_paper(r, ceiling) == pytest.approx(100)
    assert noise_normalized_paper([0.5, -0.5, 0.1], [0.5, 0.5, 0.1]) == pytest.approx(10)


def test_summary_passes_over_what_is_missing():
    assert summary([1.0, np.nan, 2.0, 6.0]) == (2.0, 3.0)
    assert np.isnan(summary([np.nan])).all()


def test_errors(pair):
    with pytest.raises(DataError, match='must have one shape'):
        pearson_by_column(pair[0], pair[1][:5])
    with pytest.raises(DataError, match='one noise ceiling a voxel'):
        noise_normalized([0.1, 0.2], [0.5])
