"""The small refiner learns which images go with which features, and goes on after a stop."""

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.models.refiner import RefinerSettings, SmallRefiner, train_refiner
from bids_neurodecode.models.refiner_network import (
    RefinerConfig,
    RefinerNetwork,
    RefinerObjective,
)
from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.models.storage import load_arrays, save_arrays
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.standardizer import Standardizer

COLOURS = np.array([[200, 40, 40], [40, 190, 50], [50, 60, 210], [200, 190, 40]])
SAMPLING = SamplingSettings(n_steps=10, guidance=1.5, batch_size=16)
TINY = {'size': 8, 'widths': (8, 16)}


def planted(n, seed=0, size=16):
    """Images of a class's colour with a random dark corner; features say the class."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, n)
    images = np.tile(COLOURS[classes][:, None, None], (1, size, size, 1)).astype(float)
    for image in images:
        row, column = rng.integers(0, size // 2, 2)
        image[row : row + 4, column : column + 4] *= 0.5
    images += rng.normal(0, 4, images.shape)
    features = np.eye(4)[classes] + 0.1 * rng.normal(size=(n, 4))
    return np.clip(images, 0, 255).astype(np.uint8), features.astype(np.float32), classes


def class_of(images):
    means = images.reshape(len(images), -1, 3).mean(axis=1)
    return ((means[:, None] - COLOURS[None]) ** 2).sum(axis=-1).argmin(axis=1)


@pytest.fixture(scope='module')
def trained():
    images, features, _ = planted(96)
    settings = RefinerSettings(
        size=8,
        patch=1,
        widths=(16, 32),
        training=TrainingSettings(
            n_epochs=22, batch_size=16, learning_rate=3e-3, optimizer='adamw',
            schedule='cosine', keep='last', device='cpu',
        ),
    )  # fmt: skip
    return train_refiner(images, features, settings, sampling=SAMPLING)


@pytest.mark.slow
def test_loss_falls(trained):
    losses = [row['loss'] for row in trained[1].curves if row['part'] == 'training']
    assert np.mean(losses[-3:]) < 0.3 * losses[0]


@pytest.mark.slow
def test_the_condition_decides(trained):
    refiner, _ = trained
    conditions = {'features': np.eye(4, dtype=np.float32).repeat(4, axis=0)}
    seeds = list(range(16))
    from_noise = refiner.refine(None, conditions, seeds)
    assert from_noise.shape == (16, 8, 8, 3)
    wanted = np.arange(4).repeat(4)
    assert (class_of(from_noise) == wanted).mean() >= 0.9
    # starts of another class are overruled where strength leaves room for it
    starts, _, classes = planted(16, seed=5, size=24)
    assert (classes != wanted).sum() > 8
    assert (class_of(refiner.refine(starts, conditions, seeds)) == wanted).mean() >= 0.75
    # and kept where it does not
    weak = SmallRefiner(
        refiner.network, refiner.features, SamplingSettings(n_steps=10, strength=0.1, guidance=1)
    )
    assert (class_of(weak.refine(starts, conditions, seeds)) == classes).mean() >= 0.9


@pytest.mark.slow
def test_a_picture_depends_on_its_own_seed_alone(trained):
    refiner, _ = trained
    starts, features, _ = planted(5, seed=2)
    all_five = refiner.refine(starts, {'features': features}, [11, 12, 13, 14, 15])
    again = refiner.refine(starts, {'features': features}, [11, 12, 13, 14, 15])
    np.testing.assert_array_equal(all_five, again)
    alone = refiner.refine(starts[3:4], {'features': features[3:4]}, [14])
    assert np.abs(alone[0].astype(int) - all_five[3]).max() <= 1
    other = refiner.refine(starts[3:4], {'features': features[3:4]}, [15])
    assert np.abs(other[0].astype(int) - all_five[3]).max() > 1


def test_guidance_one_calls_the_network_once_a_step():
    network = RefinerNetwork(RefinerConfig(4, **TINY))
    same = Standardizer(np.zeros(4), np.ones(4))
    refiner = SmallRefiner(network, same, SamplingSettings(guidance=1))
    calls = []
    handle = refiner.network.register_forward_pre_hook(
        lambda _m, args: calls.append((int(args[1][0]), len(args[0])))
    )
    starts, features, _ = planted(2)
    refiner.refine(starts, {'features': features}, [1, 2])
    handle.remove()
    assert calls == [(t, 2) for t in range(721, 0, -20)]


@pytest.mark.slow
def test_on_disk(trained, tmp_path):
    refiner, _ = trained
    file = tmp_path / 'refiner.safetensors'
    save_arrays(file, refiner.state(), refiner.description())
    again = SmallRefiner.from_state(*load_arrays(file))
    starts, features, _ = planted(2, seed=8)
    np.testing.assert_array_equal(
        again.refine(starts, {'features': features}, [1, 2]),
        refiner.refine(starts, {'features': features}, [1, 2]),
    )
    state = refiner.state()
    state.pop('network.absent')
    with pytest.raises(InputError, match='not the arrays of a refiner'):
        SmallRefiner.from_state(state, refiner.description())


@pytest.mark.slow
def test_goes_on_after_a_stop_to_the_bit(tmp_path):
    images, features, _ = planted(20)
    settings = RefinerSettings(
        **TINY, training=TrainingSettings(n_epochs=3, batch_size=8, device='cpu')
    )
    whole, _ = train_refiner(images, features, settings)

    class Stop(Exception):
        pass

    def stop(done, _total):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train_refiner(images, features, settings, checkpoint_dir=tmp_path, progress=stop)
    resumed, told = train_refiner(images, features, settings, checkpoint_dir=tmp_path)
    assert told.n_steps == 9
    for name, values in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], values, err_msg=name)


def test_validation_is_the_same_each_time():
    images, features, _ = planted(6, size=8)
    torch.manual_seed(0)
    objective = RefinerObjective(RefinerNetwork(RefinerConfig(4, **TINY)), 0.1, 0.3)
    batch = torch.from_numpy(images), torch.from_numpy(features)
    objective.eval()
    assert objective(*batch)['loss'] == objective(*batch)['loss']
    objective.train()
    assert objective(*batch)['loss'] != objective(*batch)['loss']


def test_velocity_of_a_perfect_network_gives_the_picture_back():
    """Were the velocity right, any start would end at the image that it belongs to."""
    truth = torch.rand(1, 3, 8, 8) * 1.6 - 0.8
    network = RefinerNetwork(RefinerConfig(4, **TINY))
    refiner = SmallRefiner(
        network,
        Standardizer(np.zeros(4), np.ones(4)),
        SamplingSettings(n_steps=10, guidance=1, start='matched'),
    )
    signal = RefinerObjective(network, 0, 0).signal

    def exact(pixels, times, _context):
        a = signal[times[0]]
        noise = (pixels - a.sqrt() * truth) / (1 - a).sqrt()
        return a.sqrt() * noise - (1 - a).sqrt() * truth

    refiner.network = network
    network.forward = exact
    expected = ((truth / 2 + 0.5) * 255).round().permute(0, 2, 3, 1).numpy()
    found = refiner.refine(None, {'features': np.zeros((1, 4))}, [3])
    # a share of .03 of noise is left at time 0
    assert np.abs(found - expected).max() <= 0.03 * 127.5 * 5


def test_errors():
    images, features, _ = planted(6)
    with pytest.raises(DataError, match='trained on uint8 images'):
        train_refiner(images / 255, features)
    with pytest.raises(DataError, match='trained on uint8 images'):
        train_refiner(images, features[:5])
    with pytest.raises(ArgumentsError, match='size is 30'):
        RefinerConfig(4, size=30)
    with pytest.raises(ArgumentsError, match='widths is'):
        RefinerConfig(4, widths=(12, 20))
    with pytest.raises(ArgumentsError, match=r'drop is 1\.0'):
        RefinerSettings(drop=1.0)


def test_uncertainty_is_what_noise_leaves_open_of_gaussian_waves():
    """Against the variance of what the best linear guess misses, drawn."""
    network = RefinerNetwork(RefinerConfig(n_features=4, gaussian=True, **TINY))
    network.spectrum.copy_(
        torch.linspace(0.1, 2, network.spectrum.numel()).view_as(network.spectrum)
    )
    time, rng = 400, np.random.default_rng(0)
    spectrum, share = network.spectrum.numpy(), float(network.signal[time])
    clean = rng.normal(size=(4000, *spectrum.shape)) * np.sqrt(spectrum)
    noisy = np.sqrt(share) * clean + np.sqrt(1 - share) * rng.normal(size=clean.shape)
    guess = noisy * (noisy * clean).mean(axis=0) / (noisy**2).mean(axis=0)
    left = ((clean - guess) ** 2).mean(axis=0)
    np.testing.assert_allclose(network.uncertainty(time)[0].numpy(), left, rtol=0.15)
