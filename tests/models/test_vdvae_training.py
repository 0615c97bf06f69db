"""Training a small VDVAE: it learns photographs, and a stopped run ends where a whole one does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.loop import make_optimizer
from bids_neurodecode.models.mixture import Noise
from bids_neurodecode.models.vdvae import (
    VDVAE,
    decode_latents,
    encode_images,
)
from bids_neurodecode.models.vdvae_config import SMALL32, VDVAEConfig
from bids_neurodecode.models.vdvae_training import TRAINING, Draws, train_vdvae
from bids_neurodecode.stimuli.images import load_images

TINY = VDVAEConfig(
    image_size=8, width=8, encoder_blocks='8d2,4d4,1x1', decoder_blocks='1x1,4m1,8m4',
    n_latent_channels=2, n_mixtures=2,
)  # fmt: skip
SHORT = replace(TRAINING, batch_size=4, checkpoint_every=2, warmup=2, seed=1)


def train(images=None, settings=SHORT, n_steps=6, **options):
    return train_vdvae(gradients() if images is None else images, TINY, settings,
                       n_steps=n_steps, **options)  # fmt: skip


def gradients(n=20, size=8, seed=0):
    """Images that are easily told: colours that run smoothly from one side to another."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, 256, (2, n, 1, 1, 3))
    ramp = np.linspace(0, 1, size)[:, None, None]
    return np.broadcast_to(ends[0] * ramp + ends[1] * (1 - ramp), (n, size, size, 3)).astype(
        np.uint8
    )


def weights(model):
    return torch.cat([p.flatten() for p in model.state_dict().values()])


@torch.no_grad()
def bound_of(model, images):
    noise = Noise(range(len(images)))
    return float(model.likelihood(torch.from_numpy(images).float(), noise).elbo.mean())


def pixel_baseline(train, test):
    """Nats a dimension of independent pixels: each colour's histogram over training images."""
    bounds = []
    for colour in range(3):
        counts = np.bincount(train[..., colour].ravel(), minlength=256) + 1.0
        bounds.append(-np.log(counts / counts.sum())[test[..., colour]].mean())
    return float(np.mean(bounds))


@pytest.mark.slow
def test_the_bound_falls_below_independent_pixels():
    images, test = gradients(40), gradients(10, seed=1)
    config = VDVAEConfig(
        image_size=8, width=16, encoder_blocks='8d2,4d4,1x1', decoder_blocks='1x2,4m1,8m4',
        n_latent_channels=4, bottleneck=0.5, n_mixtures=1,
    )  # fmt: skip
    settings = replace(TRAINING, batch_size=8, learning_rate=5e-3, warmup=10, ema=0.95, seed=1)
    model, told = train_vdvae(images, config, settings, n_steps=150)
    losses = told.table()['loss']
    assert losses[-20:].mean() < losses[:20].mean() - 0.5
    bound = bound_of(model, test)
    assert bound < pixel_baseline(images, test) - 0.4
    assert not model.training
    assert told.table()['step'].tolist() == list(range(1, 151))


class TestRepeats:
    def test_the_same_seed_gives_the_same_weights_whatever_happened_before(self):
        once, _ = train()
        torch.manual_seed(99)
        torch.rand(5)
        assert torch.equal(weights(once), weights(train()[0]))
        other, _ = train(settings=replace(SHORT, seed=2))
        assert not torch.equal(weights(once), weights(other))

    def test_a_resumed_run_ends_where_a_whole_one_does(self, tmp_path):
        whole, told = train()

        class Stop(Exception):
            pass

        def stop(done, total):
            if done == 3:
                raise Stop

        with pytest.raises(Stop):
            train(checkpoint_dir=tmp_path, progress=stop)
        assert [folder.name for folder in tmp_path.iterdir()] == ['step-000000002']
        steps = []
        resumed, again = train(checkpoint_dir=tmp_path, progress=lambda *at: steps.append(at))
        assert steps == [(3, 6), (4, 6), (5, 6), (6, 6)]
        assert torch.equal(weights(resumed), weights(whole))
        assert again.curves == told.curves

    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path):
        train(checkpoint_dir=tmp_path)
        with pytest.raises(DataError, match='another training: seed was 1 and is now 2'):
            train(settings=replace(SHORT, seed=2), checkpoint_dir=tmp_path)


class TestSteps:
    def test_each_picture_comes_once_before_any_comes_again(self):
        images = np.zeros((10, 8, 8, 3), np.uint8)
        images += np.arange(10, dtype=np.uint8)[:, None, None, None]
        draws = Draws(images, 5, 4, seed=4)
        seen = [int(draws[position][0][0, 0, 0]) for position in range(len(draws))]
        assert sorted(seen[:10]) == list(range(10))
        assert sorted(seen[10:]) == list(range(10))
        assert seen[:10] != seen[10:]

    def test_half_of_the_pictures_are_mirrored_and_the_originals_kept(self):
        images = np.zeros((4, 8, 8, 3), np.uint8)
        images[:, :, 0] = 255
        before = images.copy()
        draws = Draws(images, 100, 4, seed=4)
        mirrored = np.mean([draws[position][0][0, -1, 0] == 255 for position in range(400)])
        assert 0.4 < mirrored < 0.6
        np.testing.assert_array_equal(images, before)

    def test_steps_with_too_large_gradients_change_nothing(self):
        """Nor does what is not finite: the weights are those drawn from the seed."""
        model, told = train(settings=replace(SHORT, skip_norm=1e-9))
        assert told.n_steps == 6
        torch.manual_seed(1)
        assert torch.equal(weights(model), weights(VDVAE(TINY)))

    def test_a_training_that_never_moves_is_an_error(self):
        settings = replace(SHORT, batch_size=2, skip_norm=1e-9)
        with pytest.raises(DataError, match='failed at step 50: 50 steps in a row'):
            train(settings=settings, n_steps=100)

    def test_the_rate_rises_and_falls(self):
        settings = replace(TRAINING, warmup=10, learning_rate=2.0)
        optimizer, schedule = make_optimizer(VDVAE(TINY), settings, 100)
        rates = []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            schedule.step()
        assert rates[0] == pytest.approx(0.2)
        assert max(rates) == rates[10] == pytest.approx(2.0)
        assert rates[55] == pytest.approx(1.0)
        assert rates[99] < 0.01


@pytest.mark.parametrize('images', [gradients(1), gradients(size=16), gradients() / 255])
def test_other_arrays_are_refused_in_one_line(images):
    with pytest.raises(DataError, match='Training the VDVAE needs at least 2') as caught:
        train(images)
    assert '\n' not in str(caught.value)


@pytest.mark.real
@pytest.mark.slow
def test_photographs_are_learned(shared):
    """In a minute at most: better than independent pixels, and first latents that show layout."""
    files = sorted((shared / 'data' / 'things720' / 'images').glob('*.jpg'))
    order = np.random.default_rng(0).permutation(len(files))[:160]
    images = load_images([files[index] for index in order], size=32)
    learned, test = images[:128], images[128:]
    settings = replace(TRAINING, batch_size=8, warmup=10, learning_rate=4e-3, ema=0.95, seed=1)
    model, told = train_vdvae(learned, SMALL32, settings, n_steps=70)
    losses = told.table()['loss']
    assert losses[-10:].mean() < losses[:10].mean() - 1
    bound = bound_of(model, test)
    assert bound < pixel_baseline(learned, test) - 0.4
    again = decode_latents(model, encode_images(model, test))
    shuffled = np.roll(test, 1, axis=0)
    same, other = (
        np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, again, strict=True)])
        for x in (test, shuffled)
    )
    assert same > other + 0.3
