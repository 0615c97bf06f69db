"""Estimators: scikit-learn's rules, scikit-learn's ridge as the oracle, the systems' models."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import bids_neurodecode as nd
from bids_neurodecode.api import estimators as module
from bids_neurodecode.models.banded import fit_banded
from bids_neurodecode.signals.delay import fir_design

COMPARE = estimator_checks.assert_allclose_dense_sparse
NEIGHBOURS = 'a prediction depends on the volumes before it'


def expected_failures(estimator) -> dict[str, str]:
    if not isinstance(estimator, nd.MovieEncoder):
        return {}
    return {
        'check_methods_sample_order_invariance': NEIGHBOURS,
        'check_methods_subset_invariance': NEIGHBOURS,
    }


# rows far enough apart that the short series of the checks span two blocks
@parametrize_with_checks(
    [nd.VoxelEncoder(), nd.ImageDecoder(), nd.MovieEncoder(30.0, delays=(0.0, 30.0))],
    expected_failed_checks=expected_failures,
)
def test_rules_of_scikit_learn(estimator, check, monkeypatch):
    def single_precision(x, y, rtol=1e-5, atol=0.0, **more):
        """Compare as scikit-learn does, with the rounding of models in single precision.

        Predictions come in double precision, so that scikit-learn would ask for 1e-7 of them;
        which rows a product of matrices takes together depends on their order.
        """
        COMPARE(x, y, rtol=max(rtol, 1e-5), atol=max(atol, 1e-6), **more)

    monkeypatch.setattr(estimator_checks, 'assert_allclose_dense_sparse', single_precision)
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 12)) * np.linspace(0.5, 5, 12)
    responses = features @ rng.normal(size=(12, 30)) + rng.normal(size=(120, 30))
    return features, responses


@pytest.mark.parametrize('alpha', [0.1, 30.0, 1e4])
def test_encoder_is_ridge_on_standardised_features(data, alpha):
    features, responses = data
    ours = nd.VoxelEncoder(alphas=alpha, n_components=None).fit(features[:90], responses[:90])
    oracle = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(features[:90], responses[:90])
    expected = oracle.predict(features[90:])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours.predict(features[90:]) / scale, expected / scale, atol=2e-5)


def test_encoder_with_components_is_ridge_on_scaled_components(data):
    features, responses = data
    ours = nd.VoxelEncoder(alphas=10.0, n_components=4).fit(features, responses)
    scores = PCA(4).fit_transform(StandardScaler().fit_transform(features))
    scores /= np.sqrt(np.mean(scores.var(axis=0)))
    expected = Ridge(alpha=10.0).fit(scores, responses).predict(scores)
    np.testing.assert_allclose(ours.predict(features), expected, atol=1e-3)


def test_penalties_are_chosen_voxel_by_voxel(data):
    features, responses = data
    rng = np.random.default_rng(1)
    noise = rng.normal(size=responses.shape)
    both = np.hstack([responses, noise])
    model = nd.VoxelEncoder().fit(features, both)
    chosen = model.encoder_.ridge.alphas
    assert np.median(chosen[:30]) < np.median(chosen[30:])
    assert (model.cv_r2_[:30] > 0.8).all()
    assert model.cv_r2_[30:].max() < 0.3


def test_bands_are_banded_ridge(data):
    features, responses = data
    bands = {'low': slice(0, 4), 'high': slice(4, 12)}
    model = nd.VoxelEncoder(bands=bands, n_components=None).fit(features, responses)
    parts = {
        name: module.encoders.components(
            model.encoder_.spaces[name], features[:, which], whiten=False
        )
        for name, which in bands.items()
    }
    train, _, _ = module._samples(responses, features, None)
    standard = model.encoder_.responses.apply(train.values)
    oracle = fit_banded(
        parts,
        standard,
        n_mixtures=20,
        rng=np.random.default_rng(0),
        alphas=module.ALPHAS,
        groups=train.table['stimulus'].to_numpy(),
        n_folds=5,
    )
    expected = model.encoder_.responses.invert(oracle.predict(parts))
    np.testing.assert_allclose(model.predict(features), expected, atol=1e-4)


@pytest.mark.parametrize('bad', [slice(5, 5), [40]])
def test_bands_that_hold_no_columns_are_named(data, bad):
    with pytest.raises(nd.UsageError, match=r"each in one band; 'b' holds"):
        nd.VoxelEncoder(bands={'a': slice(0, 4), 'b': bad}).fit(*data)


@pytest.mark.parametrize('alpha', [0.1, 30.0, 1e4])
def test_decoder_is_ridge_onto_whitened_features(alpha):
    """40 images, each shown three times; the space is of images, the regression of trials."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 6)) * np.linspace(1, 3, 6)
    which = np.repeat(np.arange(40), 3)
    responses = images[which] @ rng.normal(size=(6, 25)) + rng.normal(size=(120, 25))
    ours = nd.ImageDecoder(alphas=alpha, n_components=4, per_target=False)
    ours.fit(responses, images[which])
    scaler = StandardScaler().fit(images)
    # whitened by the deviation of the population, as StandardScaler's is
    pca = PCA(4).fit(scaler.transform(images))
    deviations = np.sqrt(pca.explained_variance_ * 39 / 40)
    targets = pca.transform(scaler.transform(images[which])) / deviations
    model = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(responses, targets)
    scores = model.predict(responses)
    expected = scaler.inverse_transform(pca.inverse_transform(scores * deviations))
    np.testing.assert_allclose(ours.predict(responses), expected, atol=2e-4)
    # identification does not depend on the signs of axes
    unit = scores / np.linalg.norm(scores, axis=1, keepdims=True)
    known = targets[::3] / np.linalg.norm(targets[::3], axis=1, keepdims=True)
    np.testing.assert_allclose(ours.similarities(responses, images), unit @ known.T, atol=1e-4)
    assert (ours.identify(responses, images) == (unit @ known.T).argmax(axis=1)).mean() > 0.99


def test_decoder_scores_distinct_images_beside_chance():
    rng = np.random.default_rng(2)
    features = np.repeat(rng.normal(size=(60, 8)), 2, axis=0)
    responses = features @ rng.normal(size=(8, 40)) + 2 * rng.normal(size=(120, 40))
    image = np.repeat(np.arange(60), 2)
    folds = GroupKFold(4)
    scores = cross_val_score(nd.ImageDecoder(), responses, features, cv=folds, groups=image)
    assert scores.min() > 0.75
    noise = rng.normal(size=responses.shape)
    null = cross_val_score(nd.ImageDecoder(), noise, features, cv=folds, groups=image)
    assert abs(null.mean() - 0.5) < 0.12
    by_metric = cross_val_score(
        nd.ImageDecoder(),
        responses,
        features,
        cv=folds,
        groups=image,
        scoring=make_scorer(nd.two_way),
    )
    assert by_metric.min() > 0.7
    assert np.isnan(nd.ImageDecoder().fit(responses, features).score(responses[:2], features[:2]))


def test_movie_encoder_is_ridge_on_delayed_features():
    rng = np.random.default_rng(3)
    delays, period = (2.0, 4.0), 2.0
    features = rng.normal(size=(200, 3))
    run = np.repeat([0, 1], 100)
    responses = rng.normal(size=(200, 6))
    ours = nd.MovieEncoder(period, delays=delays, alphas=5.0, n_components=None)
    ours.fit(features, responses, groups=run)
    # three features, each of unit variance: a rotation of them does not change ridge
    standard = StandardScaler().fit_transform(features)
    white = PCA(3, whiten=True).fit_transform(standard) * np.sqrt(200 / 199)
    design = np.concatenate([fir_design(white[run == k], period, delays) for k in (0, 1)])
    expected = Ridge(alpha=5.0).fit(design, responses).predict(design)
    np.testing.assert_allclose(ours.predict(features, groups=run), expected, atol=1e-4)
    # without groups the first volumes of the second run see the end of the first
    alone = ours.predict(features)
    assert np.allclose(alone[:100], expected[:100], atol=1e-4)
    assert not np.allclose(alone[100:102], expected[100:102], atol=1e-3)


def test_short_films_are_named():
    features = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(nd.UsageError, match=r'X spans 20 s'):
        nd.MovieEncoder(2.0, delays=(2.0,)).fit(features, features)


@pytest.mark.parametrize('estimator', [nd.VoxelEncoder(), nd.ImageDecoder()])
def test_groups_and_pipelines(data, estimator):
    features, responses = data
    copied = clone(estimator)
    pipeline = make_pipeline(StandardScaler(), copied)
    search = GridSearchCV(
        pipeline, {f'{type(estimator).__name__.lower()}__n_components': [2, 12]}, cv=3
    )
    search.fit(features, responses)
    assert search.best_params_.popitem()[1] == 12
    runs = np.repeat(np.arange(4), 30)
    assert copied.fit(features, responses, groups=runs).predict(features).shape == responses.shape
    with pytest.raises(nd.UsageError, match=r'groups has 3 labels for 120 samples'):
        copied.fit(features, responses, groups=[1, 2, 3])
    with pytest.raises(nd.UsageError, match=r'groups has one label only'):
        copied.fit(features, responses, groups=np.zeros(120))
    assert 'alphas' not in repr(copied)


@pytest.mark.parametrize(
    ('arguments', 'named'), [({'alphas': -1.0}, 'alphas'), ({'n_folds': 1}, 'n_folds')]
)
def test_bad_arguments_are_named_in_one_line(data, arguments, named):
    for estimator in (nd.VoxelEncoder, nd.ImageDecoder):
        with pytest.raises(nd.UsageError, match=named) as error:
            estimator(**arguments).fit(*data)
        assert '\n' not in str(error.value)
        assert 'ridge.' not in str(error.value)
