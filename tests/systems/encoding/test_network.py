"""Encoding networks in the pipeline: they predict, hold out stimuli, and can be stored."""

import json

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings, load_encoder, predict
from bids_neurodecode.systems.encoding.network import NetworkSettings, _box, _hold_out, fit_network
from bids_neurodecode.systems.encoding.recipe import encode_pictures
from bids_neurodecode.systems.voxels import Estimates

pytest.importorskip('torch')

KINDS = ('linear', 'mlp', 'siren', 'cnn')
N = 160
RATES = {'linear': 3e-3, 'mlp': 1e-3, 'siren': 1e-3, 'cnn': 3e-3}


def settings(kind: str = 'mlp', **changes) -> NetworkSettings:
    training = TrainingSettings(
        n_epochs=30, batch_size=32, learning_rate=RATES[kind], patience=10, device='cpu'
    )
    # 30 is for hundreds of features; of eight it would make noise
    fields = {'hidden': 64, 'width': 64, 'n_hidden': 1, 'w0': 3.0, 'training': training}
    return NetworkSettings(**{**fields, **changes})


@pytest.fixture(scope='module')
def planted():
    """Voxels of a ragged mask that follow eight features; the last third is noise."""
    rng = np.random.default_rng(0)
    mask = rng.random((5, 4, 6)) < 0.4
    mask[0] = False  # the network's volume is the box around the mask
    n_voxels = int(mask.sum())
    names = tuple(f'{k}.png' for k in range(N))
    features = rng.standard_normal((N, 8)).astype(np.float32)
    weights = rng.standard_normal((8, n_voxels)) / np.sqrt(8)
    weights[:, 2 * n_voxels // 3 :] = 0
    order = np.concatenate([rng.permutation(N) for _ in range(2)])
    values = features[order] @ weights + 0.7 * rng.standard_normal((2 * N, n_voxels))
    table = pd.DataFrame(
        {'stimulus': np.array(names)[order], 'run': np.repeat(np.arange(8), N // 4)}
    )
    samples = Samples(
        Responses((50 + values).astype(np.float32), VoxelMask(mask, np.eye(4))), table
    )
    return samples, {'a': PerStimulus(names, features)}


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_networks_predict_held_out_pictures(planted, kind):
    samples, spaces = planted
    config = build_config({'evaluation': {'n_permutations': 99, 'n_bootstrap': 50}})
    split = split_by_group(samples.table, 'stimulus', rng=np.random.default_rng(0))
    found = encode_pictures(
        Estimates(samples, split),
        spaces,
        config,
        settings=EncoderSettings.of(config, model=kind, network=settings(kind)),
    )
    n_voxels = samples.values.shape[1]
    tuned = np.arange(n_voxels) < 2 * n_voxels // 3
    assert np.median(found.maps.r[tuned]) > 0.4
    assert abs(np.median(found.maps.r[~tuned])) < 0.25
    rows = {(s.metric, s.space): s for s in found.scores if s.model == kind}
    assert rows['identification_2way', 'repeat-average'].value > 0.8
    assert not any(s.model.startswith('baseline') for s in found.scores)
    described = json.loads(json.dumps(found.encoder.describe()))
    rebuilt = load_encoder(found.encoder.state(), described)
    some = samples.table['stimulus'][:5]
    np.testing.assert_allclose(
        predict(rebuilt, spaces, list(some)), predict(found.encoder, spaces, list(some)), atol=1e-4
    )
    assert described['curves'][0]['epoch'] == 1


def test_components_instead_of_features(planted):
    samples, spaces = planted
    encoder = fit_network(
        samples, spaces, 'linear', settings('linear', n_components=3), rng=np.random.default_rng(0)
    )
    assert encoder.design.n_features == 3
    rebuilt = load_encoder(encoder.state(), encoder.describe())
    values = {'a': spaces['a'].values[:4]}
    np.testing.assert_allclose(rebuilt.predict(values), encoder.predict(values), atol=1e-5)


def test_given_validation_samples_are_the_ones_used(planted):
    """Its score of the voxels is that of the validation samples, and training has the rest."""
    samples, spaces = planted
    names = samples.table['stimulus'].to_numpy()
    out = np.isin(names, spaces['a'].stimuli[:30])
    train, validation = samples.take(np.flatnonzero(~out)), samples.take(np.flatnonzero(out))
    encoder = fit_network(
        train,
        spaces,
        'linear',
        settings('linear'),
        rng=np.random.default_rng(0),
        validation=validation,
    )
    np.testing.assert_allclose(encoder.responses.mean, train.values.mean(axis=0), rtol=1e-5)
    seen = spaces['a'].of(validation.table['stimulus'])
    truth, found = validation.values, encoder.predict({'a': seen})
    r2 = 1 - ((truth - found) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(encoder.cv_r2, r2, atol=1e-3)


def test_whole_stimuli_are_held_out(planted):
    samples, spaces = planted
    train, validation = _hold_out(samples, 0.1, np.random.default_rng(0))
    assert train.n_samples + validation.n_samples == samples.n_samples
    assert not set(train.table['stimulus']) & set(validation.table['stimulus'])
    assert validation.table['stimulus'].nunique() == 16
    few = samples.take(np.flatnonzero(samples.table['stimulus'].isin(spaces['a'].stimuli[:3])))
    with pytest.raises(DataError, match='3 are too few'):
        _hold_out(few, 0.1, np.random.default_rng(0))


def test_same_seed_same_network(planted):
    samples, spaces = planted
    a, b = (
        fit_network(samples, spaces, 'mlp', settings(), rng=np.random.default_rng(1))
        for _ in range(2)
    )
    values = {'a': spaces['a'].values[:3]}
    np.testing.assert_array_equal(a.predict(values), b.predict(values))


def test_box_around_a_mask():
    mask = np.zeros((6, 5, 4), dtype=bool)
    mask[2, 1:3, 3] = mask[4, 2, 0] = True
    box = _box(mask)
    assert box.shape == (3, 2, 4)
    np.testing.assert_array_equal(box[box], mask[mask])
    assert box.sum() == 3


def test_bad_network_settings(planted):
    samples, spaces = planted
    with pytest.raises(ArgumentsError, match='between 0 and 1'):
        NetworkSettings(validation_fraction=1.0)
    encoder = fit_network(
        samples, spaces, 'linear', settings('linear'), rng=np.random.default_rng(0)
    )
    with pytest.raises(DataError, match='was fitted on the feature spaces'):
        encoder.predict({'b': spaces['a'].values})
