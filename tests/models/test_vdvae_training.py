"""Training a small VDVAE: it learns photographs, and a stopped run ends where a whole one does."""

import re

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.models import vdvae_training
from bids_neurodecode.models.vdvae import decode_latents, encode_images, likelihood_of_images
from bids_neurodecode.models.vdvae_config import SMALL32, VDVAEConfig
from bids_neurodecode.models.vdvae_training import (
    TrainingSettings,
    load_state,
    save_state,
    train_vdvae,
)
from bids_neurodecode.stimuli.images import load_images

TINY = VDVAEConfig(
    image_size=8, width=8, encoder_blocks='8d2,4d4,1x1', decoder_blocks='1x1,4m1,8m4',
    n_latent_channels=2, n_mixtures=2,
)  # fmt: skip
SHORT = TrainingSettings(n_steps=6, batch_size=4, check_every=2, n_warmup=2)


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


def pixel_baseline(train, test):
    """Nats a dimension of independent pixels: each colour's histogram over training images."""
    bounds = []
    for colour in range(3):
        counts = np.bincount(train[..., colour].ravel(), minlength=256) + 1.0
        bounds.append(-np.log(counts / counts.sum())[test[..., colour]].mean())
    return float(np.mean(bounds))


def test_the_bound_falls_below_independent_pixels():
    train, test = gradients(40), gradients(10, seed=1)
    config = VDVAEConfig(
        image_size=8, width=16, encoder_blocks='8d2,4d4,1x1', decoder_blocks='1x2,4m1,8m4',
        n_latent_channels=4, bottleneck=0.5, n_mixtures=1,
    )  # fmt: skip
    settings = TrainingSettings(
        n_steps=150, batch_size=8, learning_rate=5e-3, n_warmup=10, ema=0.95
    )
    done = train_vdvae(train, config, settings, seed=1)
    assert np.mean(done.losses[-20:]) < np.mean(done.losses[:20]) - 0.5
    bound = float(likelihood_of_images(done.model, test, seeds=range(10))['elbo'].mean())
    assert bound < pixel_baseline(train, test) - 0.4
    assert done.n_skipped == 0
    assert not done.model.training


class TestRepeats:
    def test_the_same_seed_gives_the_same_weights_whatever_happened_before(self):
        images = gradients()
        once = train_vdvae(images, TINY, SHORT, seed=1)
        torch.manual_seed(99)
        torch.rand(5)
        assert torch.equal(
            weights(once.model), weights(train_vdvae(images, TINY, SHORT, seed=1).model)
        )
        other = train_vdvae(images, TINY, SHORT, seed=2)
        assert not torch.equal(weights(once.model), weights(other.model))

    def test_torch_s_own_generator_is_left_alone(self):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        train_vdvae(gradients(), TINY, SHORT, seed=1)
        assert torch.equal(torch.rand(3), expected)

    def test_a_resumed_run_ends_where_a_whole_one_does(self, tmp_path):
        images, held_out = gradients(), gradients(5, seed=3)
        states = []
        whole = train_vdvae(
            images, TINY, SHORT, seed=1, validation=held_out, checkpoint=states.append
        )
        assert [state.step for state in states] == [2, 4, 6]
        file = tmp_path / 'state.safetensors'
        save_state(states[0], file)
        steps = []
        resumed = train_vdvae(
            images, TINY, SHORT, seed=1, validation=held_out, resume=load_state(file),
            progress=lambda done, total: steps.append((done, total)),
        )  # fmt: skip
        assert steps == [(3, 6), (4, 6), (5, 6), (6, 6)]
        assert torch.equal(weights(resumed.model), weights(whole.model))
        assert resumed.losses == whole.losses
        assert resumed.validation == whole.validation

    def test_a_state_of_another_run_is_refused(self):
        states = []
        train_vdvae(gradients(), TINY, SHORT, seed=1, checkpoint=states.append)
        with pytest.raises(DataError, match=r'another training \(seed differ\)'):
            train_vdvae(gradients(), TINY, SHORT, seed=2, resume=states[0])

    @pytest.mark.parametrize('content', [b'', b'nothing'])
    def test_a_damaged_state(self, tmp_path, content):
        file = tmp_path / 'state.safetensors'
        file.write_bytes(content)
        with pytest.raises(InputError, match='Cannot read the checkpoint'):
            load_state(file)

    def test_a_model_is_no_state(self, tmp_path):
        from bids_neurodecode.models.vdvae_checkpoint import save_vdvae

        done = train_vdvae(gradients(), TINY, SHORT, seed=1)
        save_vdvae(done.model, tmp_path / 'model.safetensors')
        with pytest.raises(InputError, match='no checkpoint of a training'):
            load_state(tmp_path / 'model.safetensors')


class TestSteps:
    def test_each_picture_comes_once_before_any_comes_again(self):
        images = np.zeros((10, 8, 8, 3), np.uint8)
        images += np.arange(10, dtype=np.uint8)[:, None, None, None]
        run = vdvae_training._Run(TINY, SHORT, 4, 'cpu')
        seen = []
        for step in range(5):
            run.step = step
            seen += run._pictures(images, np.random.default_rng(0))[:, 0, 0, 0].tolist()
        assert sorted(seen[:10]) == list(range(10))
        assert sorted(seen[10:]) == list(range(10))
        assert seen[:10] != seen[10:]

    def test_half_of_the_pictures_are_mirrored_and_the_originals_kept(self):
        images = np.zeros((4, 8, 8, 3), np.uint8)
        images[:, :, 0] = 255
        before = images.copy()
        run = vdvae_training._Run(TINY, SHORT, 4, 'cpu')
        batches = [run._pictures(images, np.random.default_rng(seed)) for seed in range(100)]
        mirrored = np.mean([batch[:, 0, -1, 0] == 255 for batch in batches])
        assert 0.4 < mirrored < 0.6
        np.testing.assert_array_equal(images, before)

    def test_steps_with_too_large_gradients_change_nothing(self):
        settings = TrainingSettings(n_steps=3, batch_size=4, skip_norm=1e-9)
        states = []
        done = train_vdvae(gradients(), TINY, settings, seed=1, checkpoint=states.append)
        assert done.n_skipped == 3
        first = vdvae_training._Run(TINY, settings, 1, 'cpu')
        assert torch.equal(weights(done.model), torch.cat(
            [v.flatten() for v in first.average.values()]
        ))  # fmt: skip

    def test_a_training_that_never_moves_is_an_error(self):
        settings = TrainingSettings(n_steps=100, batch_size=2, skip_norm=1e-9)
        with pytest.raises(DataError, match='50 steps in a row'):
            train_vdvae(gradients(), TINY, settings, seed=1)

    def test_weights_best_on_the_validation_pictures_are_returned(self):
        images, held_out = gradients(), gradients(5, seed=3)
        done = train_vdvae(images, TINY, SHORT, seed=1, validation=held_out)
        best = min(bound for _, bound in done.validation)
        found = likelihood_of_images(done.model, held_out)['elbo'].mean()
        assert float(found) == pytest.approx(best, rel=1e-6)

    def test_the_rate_rises_and_falls(self):
        settings = TrainingSettings(n_steps=100, n_warmup=10, learning_rate=2.0)
        run = vdvae_training._Run(TINY, settings, 1, 'cpu')
        rates = []
        for step in range(100):
            run.step = step
            rates.append(run._rate())
        assert rates[0] == pytest.approx(0.2)
        assert max(rates) == rates[10] == pytest.approx(2.0)
        assert rates[55] == pytest.approx(1.0)
        assert rates[99] < 0.01


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: TrainingSettings(n_steps=0), vdvae_training.BAD_SETTING),
        (lambda: TrainingSettings(learning_rate=0), vdvae_training.BAD_SETTING),
        (lambda: TrainingSettings(ema=1), vdvae_training.BAD_SETTING),
        (lambda: train_vdvae(gradients(1), TINY, seed=1), vdvae_training.NOT_PICTURES),
        (lambda: train_vdvae(gradients(size=16), TINY, seed=1), vdvae_training.NOT_PICTURES),
        (lambda: train_vdvae(gradients() / 255, TINY, seed=1), vdvae_training.NOT_PICTURES),
    ],
)
def test_errors_are_one_line(call, message):
    with pytest.raises(DataError, match=re.escape(message.split('{')[0])) as caught:
        call()
    assert '\n' not in str(caught.value)


@pytest.mark.real
@pytest.mark.slow
def test_photographs_are_learned(shared):
    """In a minute at most: better than independent pixels, and first latents that show layout."""
    files = sorted((shared / 'data' / 'things720' / 'images').glob('*.jpg'))
    order = np.random.default_rng(0).permutation(len(files))[:160]
    images = load_images([files[index] for index in order], size=32)
    train, test = images[:128], images[128:]
    settings = TrainingSettings(
        n_steps=70, batch_size=8, n_warmup=10, learning_rate=4e-3, ema=0.95
    )
    done = train_vdvae(train, SMALL32, settings, seed=1)
    assert np.mean(done.losses[-10:]) < np.mean(done.losses[:10]) - 1
    bound = float(likelihood_of_images(done.model, test, seeds=range(32))['elbo'].mean())
    assert bound < pixel_baseline(train, test) - 0.4
    again = decode_latents(done.model, encode_images(done.model, test))
    shuffled = np.roll(test, 1, axis=0)
    same, other = (
        np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, again, strict=True)])
        for x in (test, shuffled)
    )
    assert same > other + 0.3
