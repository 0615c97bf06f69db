"""The feature space is scikit-learn's whitened PCA of standardised features."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from bids_neurodecode.errors import DataError
from bids_neurodecode.stimuli.space import FeatureSpace


@pytest.mark.parametrize(('n', 'p'), [(40, 12), (12, 40)])
def test_equals_scikit_learn(n, p):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) * 10 + 3
    new = rng.normal(size=(5, p))
    space = FeatureSpace.fit(values, 6)
    scaler = StandardScaler().fit(values)
    pca = PCA(6, whiten=True).fit(scaler.transform(values))
    expected = pca.transform(scaler.transform(new)) * np.sqrt(n / (n - 1))  # ddof 0 here
    got = space.transform(new)
    signs = np.sign((got * expected).sum(axis=0))
    np.testing.assert_allclose(got, expected * signs, rtol=2e-3, atol=2e-3)


def test_training_components_are_white_and_signs_fixed():
    values = np.random.default_rng(1).normal(size=(30, 50))
    space = FeatureSpace.fit(values, 10)
    scores = space.transform(values)
    np.testing.assert_allclose(scores.T @ scores / 30, np.eye(10), atol=1e-4)
    shuffled = FeatureSpace.fit(values[::-1], 10)
    np.testing.assert_allclose(shuffled.components, space.components, atol=1e-4)


def test_fewer_stimuli_than_components_are_equally_far_apart():
    values = np.random.default_rng(2).normal(size=(8, 500))
    space = FeatureSpace.fit(values, 100)
    assert space.n_components == 7
    scores = space.transform(values)
    distances = np.linalg.norm(scores[:, None] - scores[None], axis=2)[np.triu_indices(8, 1)]
    np.testing.assert_allclose(distances, distances[0], rtol=1e-3)
    np.testing.assert_allclose(space.inverse(scores), values, atol=1e-3)


def test_constant_features_do_no_harm():
    values = np.random.default_rng(3).normal(size=(20, 6))
    values[:, 2] = 7.0
    space = FeatureSpace.fit(values)
    assert space.n_components == 5
    np.testing.assert_allclose(space.inverse(space.transform(values)), values, atol=1e-4)


def test_state_rebuilds():
    values = np.random.default_rng(4).normal(size=(20, 6))
    space = FeatureSpace.fit(values, 3)
    again = FeatureSpace.from_state(space.state())
    np.testing.assert_array_equal(space.transform(values), again.transform(values))


def test_errors():
    for values, message in (
        (np.ones((4, 3)), 'at least two different stimuli .* there are 1'),
        (np.ones((1, 3)), 'at least two different stimuli'),
        (np.full((4, 3), np.nan), '12 values are not finite'),
        (np.ones(3), r'shape \(3,\)'),
    ):
        with pytest.raises(DataError, match=message):
            FeatureSpace.fit(values)
    space = FeatureSpace.fit(np.random.default_rng(5).normal(size=(9, 4)), 2)
    with pytest.raises(DataError, match='fitted on 4 columns; these have 5'):
        space.transform(np.ones((2, 5)))
    with pytest.raises(DataError, match='fitted on 2 columns; these have 4'):
        space.inverse(np.ones((2, 4)))


def test_columns_are_taken_as_they_are():
    features = np.random.default_rng(0).normal(3, [1, 5, 0], size=(50, 3))
    space = FeatureSpace.of_columns(features, 3)
    expected = (features - features.mean(axis=0)) / np.r_[features[:, :2].std(axis=0), 1]
    np.testing.assert_allclose(space.transform(features), expected, atol=1e-5)
    np.testing.assert_allclose(space.inverse(space.transform(features)), features, atol=1e-4)
    more = FeatureSpace.of_columns(features, 1)
    np.testing.assert_array_equal(more.components, FeatureSpace.fit(features, 1).components)
    with pytest.raises(DataError, match='at least two different'):
        FeatureSpace.of_columns(np.ones((5, 2)))
