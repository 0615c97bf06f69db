"""A head that participants share: newcomers gain by it, and test images have no say in it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.newcomers import PROTOCOL, study_newcomers
from bids_neurodecode.systems.encoding.shared import (
    SharedEncoder,
    SharedHead,
    SharedSettings,
    fit_layer,
    train_head,
)

pytest.importorskip('torch')
from bids_neurodecode.config import RidgeSettings

N, N_FEATURES, N_LATENT = 160, 60, 4
SETTINGS = SharedSettings(
    n_latent=8,
    n_components=None,
    training=TrainingSettings(
        n_epochs=15, batch_size=32, learning_rate=3e-3, patience=8, device='cpu'
    ),
)
QUICK = dataclasses.replace(SETTINGS, training=dataclasses.replace(SETTINGS.training, n_epochs=3))
RIDGE = RidgeSettings(alphas=(0.1, 1.0, 10.0, 100.0, 1000.0))


@pytest.fixture(scope='module')
def world():
    """Four participants whose voxels mix four directions of sixty features; the last is empty."""
    rng = np.random.default_rng(0)
    names = tuple(f'{k:03d}.png' for k in range(N))
    features = rng.standard_normal((N, N_FEATURES)).astype(np.float32)
    latents = features @ np.linalg.qr(rng.standard_normal((N_FEATURES, N_LATENT)))[0]
    people = {}
    for person, n_voxels in (('01', 30), ('02', 25), ('03', 35), ('04', 30)):
        order = np.concatenate([rng.permutation(N) for _ in range(2)])
        signal = latents[order] @ rng.standard_normal((N_LATENT, n_voxels)) / np.sqrt(N_LATENT)
        if person == '04':
            signal *= 0
        values = 10 + signal + rng.standard_normal(signal.shape)
        mask = VoxelMask(np.ones((n_voxels, 1, 1), dtype=bool), np.eye(4))
        table = pd.DataFrame({'stimulus': np.array(names)[order], 'run': np.repeat([0, 1], N)})
        people[person] = Samples(Responses(values.astype(np.float32), mask), table)
    return people, {'a': PerStimulus(names, features)}


@pytest.fixture(scope='module')
def study(world):
    people, features = world
    return study_newcomers(
        people,
        features,
        settings=SETTINGS,
        ridge=RIDGE,
        shares=(0.15, 1.0),
        rng=np.random.default_rng(1),
    )


@pytest.mark.slow
def test_newcomers_gain_with_few_pictures(study):
    table = study.scores[study.scores.participant != '04']
    assert set(table.protocol) == {PROTOCOL}
    few = table[table.n_pictures == table.n_pictures.min()].pivot(
        index='participant', columns='model', values='voxel_r_median'
    )
    assert (few['shared'] > few['ridge'] + 0.1).all()
    assert few['shared'].min() > 0.4
    ceiling = table.ceiling.unique()
    # the signal is as large as the noise: two repeats leave a third of noise
    np.testing.assert_allclose(ceiling, np.sqrt(2 / 3), atol=0.06)
    full = table[table.n_pictures == table.n_pictures.max()]
    assert (full[full.model == 'shared'].identification_2way > 0.8).all()


@pytest.mark.slow
def test_a_participant_without_signal_is_at_chance(study):
    table = study.scores[(study.scores.participant == '04') & (study.scores.model == 'shared')]
    assert table.voxel_r_median.abs().max() < 0.15
    assert (table.identification_2way - 0.5).abs().max() < 0.15


@pytest.mark.slow
def test_held_out_pictures_have_no_say(world):
    """Others' responses to the test images change nothing for the newcomer."""
    people, features = world
    three = {name: people[name] for name in ('01', '02', '03')}

    def scores(spoiled: bool) -> pd.DataFrame:
        names = sorted(features['a'].stimuli)
        test = set(np.random.default_rng(5).permutation(names)[: N // 5])
        given = dict(three)
        if spoiled:
            for name in ('01', '02'):
                samples = three[name]
                values = samples.values.copy()
                values[samples.table['stimulus'].isin(test).to_numpy()] += 100
                responses = Responses(values, samples.responses.mask)
                given[name] = Samples(responses, samples.table)
        found = study_newcomers(
            given,
            features,
            settings=QUICK,
            ridge=RIDGE,
            shares=(0.25,),
            rng=np.random.default_rng(5),
        )
        table = found.scores
        return table[table.participant == '03'].reset_index(drop=True)

    pd.testing.assert_frame_equal(scores(spoiled=False), scores(spoiled=True))


@pytest.fixture(scope='module')
def trained(world):
    return train_head(*world, QUICK, rng=np.random.default_rng(1))


def test_state_round_trip(trained, world):
    people, features = world
    head = SharedHead.from_state(trained.state(), trained.describe())
    encoder = fit_layer(people['01'], features, head, RIDGE)
    found = SharedEncoder.from_state(encoder.state(), encoder.describe())
    names = features['a'].stimuli[:5]
    inputs = {'a': features['a'].of(names)}
    np.testing.assert_array_equal(found.predict(inputs), encoder.predict(inputs))
    assert head.participants == ('01', '02', '03', '04')
    assert found.cv_r2.shape == (30,)


def test_bad_input(world, trained):
    people, features = world
    with pytest.raises(DataError, match='at least two participants; there are 1'):
        train_head({'01': people['01']}, features, SETTINGS, rng=np.random.default_rng(0))
    two = {name: people[name] for name in ('01', '02')}
    with pytest.raises(DataError, match='at least three participants; there are 2'):
        study_newcomers(two, features, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match=r"spaces \['a'\]; these are \['b'\]"):
        trained.latents({'b': features['a'].of(['000.png'])})
    with pytest.raises(DataError, match="not those of a shared head: 'sizes'"):
        SharedHead.from_state(trained.state(), {})
    few = {name: s.take(np.arange(8)) for name, s in people.items()}
    with pytest.raises(DataError, match='judging a new participant needs at least 5'):
        study_newcomers(few, features, settings=SETTINGS, rng=np.random.default_rng(0))
