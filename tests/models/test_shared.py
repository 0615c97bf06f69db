"""Shared models: a planted latent space that participants mix, each in its own voxels."""

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.trainingsettings import TrainingSettings

torch = pytest.importorskip('torch')

from bids_neurodecode.models.shared import (  # noqa: E402
    SharedModel,
    SharedSamples,
    train_shared,
)

N_FEATURES, N_LATENT = 60, 4
QUICK = TrainingSettings(
    n_epochs=40, batch_size=32, learning_rate=1e-2, keep='last', device='cpu', clip_norm=None
)


@pytest.fixture(scope='module')
def world():
    """Participants whose voxels mix the same four latents of the features, plus noise."""
    rng = np.random.default_rng(0)
    to_latent = rng.standard_normal((N_FEATURES, N_LATENT)) / np.sqrt(N_FEATURES)
    mixing = {
        name: rng.standard_normal((N_LATENT, n)) / np.sqrt(N_LATENT)
        for name, n in (('01', 20), ('02', 30), ('03', 25), ('new', 40))
    }

    def draw(name, n, noise=0.5):
        rng = np.random.default_rng([n, round(10 * noise), len(name), ord(name[-1])])
        features = rng.standard_normal((n, N_FEATURES)).astype(np.float32)
        responses = features @ to_latent @ mixing[name]
        responses += noise * rng.standard_normal(responses.shape)
        return features, responses.astype(np.float32)

    return draw


@pytest.fixture(scope='module')
def trained(world):
    torch.manual_seed(0)
    pairs = {name: world(name, 200) for name in ('01', '02', '03')}
    model = SharedModel(
        torch.nn.Linear(N_FEATURES, N_LATENT),
        {name: y.shape[1] for name, (_, y) in pairs.items()},
        n_latent=N_LATENT,
        n_features=N_FEATURES,
    )
    train_shared(model, pairs, QUICK)
    return model


def predict(model, name, features):
    with torch.inference_mode():
        return model(torch.from_numpy(features), name).numpy()


def accuracy(prediction, truth):
    columns = zip(prediction.T, truth.T, strict=True)
    return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in columns]))


def test_participants_share_one_head(trained, world):
    for name in ('01', '02', '03'):
        features, truth = world(name, 300, noise=0)
        assert accuracy(predict(trained, name, features), truth) > 0.9


def test_samples_are_filled_up_and_numbered():
    pairs = {
        'b': (np.ones((2, 3), np.float32), np.full((2, 2), 2, np.float32)),
        'a': (np.zeros((1, 3), np.float32), np.full((1, 4), 3, np.float32)),
    }
    samples = SharedSamples(pairs, ['a', 'b'])
    assert len(samples) == 3
    assert [samples[k][2] for k in range(3)] == [1, 1, 0]
    assert samples[0][1].tolist() == [2, 2, 0, 0]
    assert samples[2][1].tolist() == [3, 3, 3, 3]


def test_bad_shared_models(trained):
    with pytest.raises(ArgumentsError, match="no layer for 'x'"):
        predict(trained, 'x', np.zeros((1, N_FEATURES), np.float32))
    with pytest.raises(ArgumentsError, match='has a layer'):
        trained.add('01', 3)
    with pytest.raises(ArgumentsError, match='at least one participant'):
        SharedModel(torch.nn.Linear(1, 1), {}, n_latent=1, n_features=1)
    with pytest.raises(DataError, match="samples of '01'"):
        train_shared(trained, {'01': (np.zeros((4, 3)), np.zeros((4, 20)))}, QUICK)
