"""All regressors of latents share one interface, hold out by image, and give spread back."""

from dataclasses import replace

import numpy as np
import pytest

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.models import latent_models, latent_training
from bids_neurodecode.models.latent_models import load_latents
from bids_neurodecode.models.latent_training import LatentSettings, fit_latents
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.models.wide import ONE_ROW

N_VOXELS, LENGTH = 24, 10
REGIONS = [np.arange(0, 12), np.arange(12, 24)]
TRAINING = TrainingSettings(
    n_epochs=4, batch_size=16, learning_rate=3e-3, optimizer='adamw', device='cpu'
)
QUICK = LatentSettings(n_hidden=8, dropout=0.1, alphas=(1.0, 100.0), training=TRAINING)


def world(n_pictures=40, n_repeats=2, noise=0.3, seed=0):
    """Responses are linear in latents whose columns differ in mean and deviation."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n_pictures, LENGTH)) * np.linspace(0.1, 5, LENGTH) + 3
    weights = rng.normal(size=(LENGTH, N_VOXELS)) / np.linspace(0.1, 5, LENGTH)[:, None]
    order = np.tile(np.arange(n_pictures), n_repeats)
    clean = (latents[order] - 3) @ weights
    X = clean + noise * clean.std() * rng.normal(size=clean.shape)
    names = [f's{k:02d}' for k in order]
    return X.astype(np.float32), latents[order].astype(np.float32), names


def fitted(name, data, seed=0, **changes):
    X, Y, names = data
    regions = REGIONS if name.startswith('regions') else None
    settings = replace(QUICK, regressor=name, **changes)
    return fit_latents(
        X, Y, settings, names=names, rng=np.random.default_rng(seed), regions=regions
    )


def correlation(predicted, true):
    return np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, true.T, strict=True)])


@pytest.mark.parametrize('name', latent_training.REGRESSORS)
def test_every_regressor_predicts_and_comes_back_from_its_state(name):
    data = world()
    model = fitted(name, data)
    new, _, _ = world(n_pictures=5, n_repeats=1, seed=1)
    predicted = model.predict(new)
    assert predicted.shape == (5, LENGTH)
    again = load_latents(model.state(), model.describe())
    np.testing.assert_allclose(again.predict(new), predicted, rtol=1e-5, atol=1e-5)
    # row by row: nothing but transductive predictions depends on the other rows
    alone = np.concatenate([model.predict(row[None]) for row in new])
    np.testing.assert_allclose(alone, predicted, rtol=1e-3, atol=1e-4)
    assert {row['network'] for row in model.curves()} <= {'latents'}
    assert bool(model.curves()) == (name != 'ridge')


@pytest.mark.slow
def test_planted_latents_are_found_by_ridge_and_by_a_trained_network():
    X, Y, names = world(n_pictures=120, n_repeats=1)
    train, test = slice(0, 90), slice(90, 120)
    ridge = fitted('ridge', (X[train], Y[train], names[:90]))
    assert correlation(ridge.predict(X[test]), Y[test]) > 0.8
    longer = replace(TRAINING, n_epochs=60, patience=20)
    gru = fitted('gru', (X[train], Y[train], names[:90]), n_hidden=24, training=longer)
    assert correlation(gru.predict(X[test]), Y[test]) > 0.6


@pytest.mark.parametrize('name', ['ridge', 'gru'])
def test_renorm_gives_mean_and_deviation_back(name):
    X, Y, names = world(noise=1.0, n_pictures=60)
    model = fitted(name, (X, Y, names))
    transductive = model.predict(X[:60], 'transductive')
    held = Y if name == 'ridge' else None
    if held is not None:
        np.testing.assert_allclose(transductive.mean(axis=0), Y.mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(transductive.std(axis=0), Y.std(axis=0), rtol=1e-3)
    plain, inductive = model.predict(X[:60], 'none'), model.predict(X[:60], 'inductive')
    assert (inductive.std(axis=0) > plain.std(axis=0)).mean() > 0.9
    # both are the same predictions but for shift and scale of each column
    for column in range(LENGTH):
        assert np.corrcoef(plain[:, column], inductive[:, column])[0, 1] > 0.9999
    with pytest.raises(DataError) as error:
        model.predict(X[:1], 'transductive')
    assert str(error.value) == ONE_ROW


def test_a_networks_spread_is_that_of_pictures_it_was_not_fitted_to():
    predicted = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    out = np.arange(200) >= 100
    predicted[out] *= 0.5
    mean, spread = latent_training._spread(predicted, out)
    assert np.allclose(spread, 0.5 * predicted[~out].std(axis=0), rtol=0.15)
    assert np.allclose(mean, predicted[~out].mean(axis=0))


def test_trials_of_one_picture_are_never_on_both_sides():
    _, _, names = world(n_repeats=3)
    out = latent_training._held_out(np.array(names), QUICK, np.random.default_rng(0))
    assert 0 < out.sum() < len(out)
    assert not set(np.array(names)[out]) & set(np.array(names)[~out])


def test_held_out_targets_do_not_scale_the_network():
    X, Y, names = world()
    out = latent_training._held_out(np.array(names), QUICK, np.random.default_rng(0))
    other = Y.copy()
    other[out] += 100
    with np.errstate(all='raise'):
        a, b = fitted('gru', (X, Y, names)), fitted('gru', (X, other, names))
    np.testing.assert_array_equal(a.targets.mean, b.targets.mean)
    np.testing.assert_array_equal(a.targets.scale, b.targets.scale)


def test_same_seed_same_weights():
    data = world()
    a, b = (fitted('conv', data).state() for _ in range(2))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    other = fitted('conv', data, seed=1).state()
    assert not np.array_equal(a['network.first.weight_ih_l0'], other['network.first.weight_ih_l0'])


def test_settings_come_from_the_configuration():
    config = Config.model_validate(
        {'reconstruction': {'regressor': 'gru', 'ridge_alphas': 'paper', 'n_epochs': 7}}
    )
    settings = LatentSettings.of(config, seed=3)
    assert settings.alphas == (50_000.0,)
    assert (settings.training.n_epochs, settings.training.seed) == (7, 3)
    assert LatentSettings.of(Config()).alphas == Config().ridge.alphas


def test_errors_are_one_line():
    X, Y, names = world()
    rng = np.random.default_rng(0)
    with pytest.raises(ArgumentsError, match='No regressor of latents is called'):
        LatentSettings(regressor='lstm')
    with pytest.raises(DataError) as error:
        fit_latents(X, Y[:3], names=names, rng=rng)
    assert str(error.value) == latent_training.BAD_PAIRS.format(
        x=X.shape, y=(3, LENGTH), n=len(names)
    )
    few = ['a', 'b', 'c', 'd'] * 20
    with pytest.raises(DataError) as error:
        fit_latents(X, Y, replace(QUICK, regressor='gru'), names=few, rng=rng)
    assert str(error.value) == latent_training.TOO_FEW_PICTURES.format(name='gru', n=4)
    gru = fitted('gru', (X, Y, names))
    with pytest.raises(DataError) as error:
        gru.predict(X[:, :5])
    assert str(error.value) == latent_models.OTHER_VOXELS.format(expected=N_VOXELS, found=5)
    with pytest.raises(InputError, match='These are not the arrays of a regressor'):
        load_latents({}, {'regressor': 'gru'})
