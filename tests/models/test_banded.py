"""Banded ridge: planted bands, scikit-learn as the oracle, penalties, round trip."""

import numpy as np
import pytest
from himalaya.ridge import solve_group_ridge_random_search
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.banded import BandedModel, draw_mixtures, fit_banded
from bids_neurodecode.models.ridge import fit_ridge

ALPHAS = tuple(10.0**k for k in range(-1, 5))


def make(n: int, sizes: tuple[int, int], seed: int = 0, n_targets: int = 6):
    """Targets of the first half follow band a, others band b; half of the variance is noise."""
    rng = np.random.default_rng(seed)
    bands = {name: rng.standard_normal((n, size)) for name, size in zip('ab', sizes, strict=True)}
    signal = np.concatenate(
        [
            bands[name] @ rng.standard_normal((size, n_targets // 2)) / np.sqrt(size)
            for name, size in zip('ab', sizes, strict=True)
        ],
        axis=1,
    )
    return bands, signal + rng.standard_normal(signal.shape), signal


def rows(bands, index):
    return {name: values[index] for name, values in bands.items()}


@pytest.mark.parametrize('sizes', [(8, 30), (60, 300)], ids=['primal', 'dual'])
def test_equals_scikit_learn_on_scaled_predictors(sizes):
    """With the chosen penalties, ridge on bands divided by their roots gives the same weights."""
    bands, Y, _ = make(120, sizes)
    model = fit_banded(bands, Y, alphas=ALPHAS, rng=np.random.default_rng(0), n_mixtures=6)
    total = sum(sizes)
    new, _, _ = make(20, sizes, seed=1)
    predicted = model.predict(new)
    for target in range(Y.shape[1]):
        scaled, scaled_new = [], []
        for band, penalty in zip('ab', model.penalties[:, target], strict=True):
            centred = bands[band] - bands[band].mean(axis=0)
            factor = np.sqrt(total / (centred**2).sum(axis=1).mean() / penalty)
            scaled.append(centred * factor)
            scaled_new.append((new[band] - bands[band].mean(axis=0)) * factor)
        oracle = Ridge(alpha=1.0).fit(np.hstack(scaled), Y[:, target])
        expected = oracle.predict(np.hstack(scaled_new))
        np.testing.assert_allclose(predicted[:, target], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('sizes', [(8, 30), (60, 300)], ids=['primal', 'dual'])
def test_equals_himalaya_s_random_search(sizes):
    """The same draws, fold by fold, with eigenvectors of each fold's own samples."""
    bands, Y, _ = make(90, sizes)
    folds = list(GroupKFold(4).split(Y, groups=np.arange(90) // 7))
    model = fit_banded(
        bands, Y, alphas=ALPHAS, groups=np.arange(90) // 7, n_folds=4,
        rng=np.random.default_rng(0), n_mixtures=8,
    )  # fmt: skip
    total = sum(sizes)
    parts = [values - values.mean(axis=0) for values in bands.values()]
    parts = [part * np.sqrt(total / np.square(part).sum(axis=1).mean()) for part in parts]
    deltas, weights, scores, _ = solve_group_ridge_random_search(
        [part.astype(np.float32) for part in parts],
        ((Y - Y.mean(axis=0)) / Y.std(axis=0)).astype(np.float32),
        n_iter=draw_mixtures(2, 8, np.random.default_rng(0)).astype(np.float32),
        alphas=np.asarray(ALPHAS, dtype=np.float32),
        cv=folds,
        fit_intercept=True,
        return_weights=True,
        progress_bar=False,
        warn=False,
    )[:4]
    np.testing.assert_allclose(model.penalties, np.exp(-deltas), rtol=1e-4)
    np.testing.assert_allclose(model.cv_r2, 1 + scores.max(axis=0), atol=1e-4)
    expected = np.concatenate(parts, axis=1) @ weights * Y.std(axis=0) + Y.mean(axis=0)
    np.testing.assert_allclose(model.predict(bands), expected, atol=2e-3)


def test_one_band_is_ridge():
    bands, Y, _ = make(100, (10, 10))
    X = bands['a']
    X = (X - X.mean(axis=0)) / X.std(axis=0)  # then no scaling is left to do
    banded = fit_banded({'a': X}, Y, alphas=ALPHAS, rng=np.random.default_rng(0))
    ridge = fit_ridge(X, Y, alphas=ALPHAS)
    np.testing.assert_allclose(banded.penalties[0], ridge.alphas, rtol=1e-4)
    np.testing.assert_allclose(banded.predict({'a': X}), ridge.predict(X), atol=1e-4)
    np.testing.assert_allclose(banded.cv_r2, ridge.cv_r2, atol=1e-4)


@pytest.mark.parametrize('n', [90, 400], ids=['dual', 'primal'])
def test_planted_bands_are_found(n):
    """A target's own band has the far smaller penalty, and prediction beats plain ridge."""
    bands, Y, signal = make(n + 200, (10, 100), n_targets=20)
    train, test = slice(0, n), slice(n, None)
    model = fit_banded(rows(bands, train), Y[train], alphas=ALPHAS, rng=np.random.default_rng(1))
    ratio = model.penalties[0] / model.penalties[1]
    assert np.mean(ratio[:10] < 0.5) >= 0.9
    if n > 200:  # with few samples a hundred features explain little of band b
        assert np.mean(ratio[10:] > 2) >= 0.9
    joined = np.hstack(list(bands.values()))
    plain = fit_ridge(joined[train], Y[train], alphas=ALPHAS).predict(joined[test])

    def error(prediction):
        return ((prediction - signal[test]) ** 2).mean(axis=0)

    assert np.median(error(model.predict(rows(bands, test)))[:10] / error(plain)[:10]) < 0.8


def test_round_trip_and_same_seed_same_model():
    bands, Y, _ = make(60, (5, 7))
    model, again = (
        fit_banded(bands, Y, alphas=ALPHAS, rng=np.random.default_rng(3), n_mixtures=4)
        for _ in range(2)
    )
    np.testing.assert_array_equal(model.weights, again.weights)
    rebuilt = BandedModel.from_state(model.state(), model.names)
    np.testing.assert_array_equal(rebuilt.predict(bands), model.predict(bands))


def test_mixtures_are_on_the_simplex():
    mixtures = draw_mixtures(3, 10, np.random.default_rng(0))
    assert mixtures.shape == (14, 3)
    np.testing.assert_allclose(mixtures.sum(axis=1), 1)
    np.testing.assert_allclose(mixtures[-3:], np.eye(3), atol=1e-5)
    assert draw_mixtures(1, 10, np.random.default_rng(0)).tolist() == [[1.0]]


def test_bad_bands():
    bands, Y, _ = make(40, (5, 7))
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="'b' does not vary"):
        fit_banded({**bands, 'b': np.ones((40, 3))}, Y, alphas=ALPHAS, rng=rng)
    with pytest.raises(DataError, match='same samples'):
        fit_banded({**bands, 'b': np.ones((39, 3))}, Y, alphas=ALPHAS, rng=rng)
    with pytest.raises(DataError, match='at least one feature space'):
        fit_banded({}, Y, alphas=ALPHAS, rng=rng)
    model = fit_banded(bands, Y, alphas=ALPHAS, rng=rng, n_mixtures=2)
    with pytest.raises(DataError, match='was fitted on the feature spaces'):
        model.predict({'a': bands['a']})
