"""The very deep VAE against golden results, its published shapes, and its checkpoints."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.models import vdvae, vdvae_blocks, vdvae_checkpoint, vdvae_config
from bids_neurodecode.models.mixture import Noise
from bids_neurodecode.models.vdvae import (
    VDVAE,
    decode_latents,
    encode_images,
    flatten_latents,
    latent_length,
    unflatten_latents,
)
from bids_neurodecode.models.vdvae_checkpoint import (
    convert_vdvae,
    load_vdvae,
    save_vdvae,
)
from bids_neurodecode.models.vdvae_config import IMAGENET64, PRESETS, VDVAEConfig, vdvae_preset

DATA = Path(__file__).resolve().parents[1] / 'data'
CHECKPOINT = DATA / 'vdvae_small.safetensors'
TINY = VDVAEConfig(
    image_size=8, width=8, encoder_blocks='8x1,8d2,4d4,1x1', decoder_blocks='1x1,4m1,8m4',
    n_latent_channels=2, n_mixtures=2,
)  # fmt: skip


@pytest.fixture(scope='module')
def golden():
    with np.load(DATA / 'vdvae_small.npz') as stored:
        return dict(stored)


@pytest.fixture(scope='module')
def config(golden):
    told = json.loads(str(golden['config']))
    return VDVAEConfig(
        image_size=told['image_size'],
        width=told['width'],
        encoder_blocks=told['enc_blocks'],
        decoder_blocks=told['dec_blocks'],
        n_latent_channels=told['zdim'],
        bottleneck=told['bottleneck_multiple'],
        n_mixtures=told['num_mixtures'],
        no_bias_above=told['no_bias_above'],
        custom_widths=told['custom_width_str'],
    )


@pytest.fixture(scope='module')
def model(config):
    return load_vdvae(CHECKPOINT, config)


@pytest.fixture(scope='module')
def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = VDVAE(TINY)
        for name, parameter in model.named_parameters():
            if 'prior.c4' in name:  # zero at first: priors would all be standard normal
                torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def pictures(n=3, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def test_blocks_are_as_wide_as_their_resolution_says():
    config = dataclasses.replace(TINY, custom_widths='8:16,4:12', bottleneck=0.5)
    blocks = VDVAE(config).encoder.enc_blocks
    for block, level in zip(blocks, config.encoder, strict=True):
        width = {8: 16, 4: 12}.get(level.resolution, 8)
        assert [c.out_channels for c in (block.c1, block.c2, block.c3, block.c4)] == [
            width // 2, width // 2, width // 2, width,
        ]  # fmt: skip


class TestGolden:
    @pytest.mark.parametrize(
        ('dtype', 'tolerance'), [(torch.float64, 1e-10), (torch.float32, 1e-5)]
    )
    def test_everything_that_the_reference_computed(self, golden, config, dtype, tolerance):
        model = load_vdvae(CHECKPOINT, config).to(dtype)

        def same(found, name):
            expected = golden[name]
            np.testing.assert_allclose(
                found.numpy(), expected, rtol=tolerance, atol=tolerance, err_msg=name
            )

        encoded = model.encode(torch.tensor(golden['x'], dtype=dtype))
        for index in range(len(config.latent_shapes)):
            same(encoded.latents[index], f'z_{index}')
            same(encoded.kl[index], f'kl_{index}')
        same(encoded.hidden, 'px_posterior_mean')
        hidden = model.decode(encoded.latents[: int(golden['k'])])
        same(hidden, 'px_first_k_rest_prior_mean')
        same(model.decoder.out_net(hidden), 'out_first_k')
        bound = model.bound(encoded, torch.tensor(golden['target'], dtype=dtype))
        same(bound.nll, 'nll')
        same(bound.rate.mean(), 'rate')
        same(bound.elbo.mean(), 'elbo')

    def test_all_latents_given_lead_to_the_posterior_s_state(self, golden, model):
        encoded = model.encode(torch.tensor(golden['x'], dtype=torch.float32))
        torch.testing.assert_close(model.decode(encoded.latents), encoded.hidden)


class TestPublishedShapes:
    def test_keys_and_shapes_of_the_checkpoint(self):
        with torch.device('meta'):
            model = VDVAE(IMAGENET64)
        expected = {k: tuple(s) for k, s in json.loads(
            (DATA / 'vdvae_imagenet64_keys.json').read_text()
        )}  # fmt: skip
        found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        assert found == expected
        assert len(found) == 2482
        assert sum(math.prod(shape) for shape in found.values()) == 125_005_860
        assert len(model.encoder.enc_blocks) == 65
        assert len(model.decoder.dec_blocks) == 75

    def test_latent_shapes(self):
        counts = {1: 2, 4: 4, 8: 8, 16: 16, 32: 32, 64: 13}
        assert IMAGENET64.latent_shapes == tuple(
            (16, size, size) for size, n in counts.items() for _ in range(n)
        )

    @pytest.mark.parametrize(
        ('count', 'length'),
        [(2, 32), (6, 1056), (14, 9248), (15, 13_344), (30, 74_784), (31, 91_168),
         (62, 599_072), (75, 1_451_040)],
    )  # fmt: skip
    def test_lengths_of_the_first_latents(self, count, length):
        assert latent_length(IMAGENET64, count) == length
        assert IMAGENET64.n_latents_of(length) == count

    @pytest.mark.parametrize('length', [0, 13_334, 1_451_041])
    def test_lengths_between_latents_belong_to_none(self, length):
        assert IMAGENET64.n_latents_of(length) is None


class TestConfig:
    @pytest.mark.parametrize('name', PRESETS)
    def test_presets_survive_being_written(self, name):
        preset = vdvae_preset(name)
        assert VDVAEConfig.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            ({'encoder_blocks': '8y2'}, vdvae_config.BAD_BLOCK),
            ({'encoder_blocks': '8x1,4x1'}, vdvae_config.BAD_ENCODER),
            ({'encoder_blocks': '8d3'}, vdvae_config.BAD_ENCODER),
            ({'decoder_blocks': '1x1,4m2,8m4'}, vdvae_config.BAD_DECODER),
            ({'decoder_blocks': '1x1,4m1'}, vdvae_config.BAD_DECODER),
            ({'decoder_blocks': '2x1,8m2'}, vdvae_config.BAD_DECODER),
            ({'custom_widths': '8=4'}, vdvae_config.BAD_BLOCK),
            ({'width': 0}, vdvae_config.BAD_CONFIG),
            ({'bottleneck': 0.01}, vdvae_config.BAD_CONFIG),
            ({'depth': 3}, vdvae_config.UNKNOWN_CONFIG),
        ],
    )
    def test_what_cannot_be_built_is_said_in_one_line(self, change, message):
        with pytest.raises(DataError, match=re.escape(message.split('{')[0])) as caught:
            VDVAEConfig.from_dict({**TINY.to_dict(), **change})
        assert '\n' not in str(caught.value)

    def test_an_unknown_preset(self):
        with pytest.raises(DataError, match='imagenet64, small64, small32'):
            vdvae_preset('imagenet32')

    def test_widths_and_biases_may_differ_between_resolutions(self):
        config = VDVAEConfig.from_dict(
            {**TINY.to_dict(), 'custom_widths': '8:4,1:12', 'no_bias_above': 4}
        )
        model = VDVAE(config)
        assert [tuple(b.shape[1:]) for b in model.decoder.bias_xs] == [(12, 1, 1), (8, 4, 4)]
        assert model.encode(torch.zeros(2, 8, 8, 3)).hidden.shape == (2, 4, 8, 8)
        assert model.decode(n_pictures=2).shape == (2, 4, 8, 8)


class TestArrays:
    def test_latents_come_flat_in_c_order_one_by_one(self, tiny):
        images = pictures()
        x = tiny.standardise(torch.from_numpy(images.astype(np.float32)))
        with torch.no_grad():
            latents = tiny.encode(x).latents
        flat = encode_images(tiny, images)
        expected = np.concatenate([z.numpy().reshape(3, -1) for z in latents], axis=1)
        np.testing.assert_allclose(flat, expected, atol=1e-6)
        for z, again in zip(latents, unflatten_latents(TINY, torch.tensor(flat)), strict=True):
            torch.testing.assert_close(again, z, atol=1e-6, rtol=0)
        assert flatten_latents(latents).shape == (3, latent_length(TINY))

    def test_first_latents_are_the_same_bits_and_later_blocks_do_not_run(self, tiny):
        every = encode_images(tiny, pictures())
        ran = []
        hooks = [
            block.register_forward_hook(lambda *_, index=index: ran.append(index))
            for index, block in enumerate(tiny.decoder.dec_blocks)
        ]
        first = encode_images(tiny, pictures(), n_latents=2)
        for hook in hooks:
            hook.remove()
        np.testing.assert_array_equal(first, every[:, :34])
        assert ran == [0, 1]

    def test_noise_depends_on_a_picture_s_seed_alone(self, tiny):
        flat = encode_images(tiny, pictures(), n_latents=1)
        together = decode_latents(tiny, flat, seeds=[5, 6, 7]).astype(int)
        apart = decode_latents(tiny, flat[::-1].copy(), seeds=[7, 6, 5])[::-1]
        assert np.abs(together - apart).max() <= 1
        for other in (None, [8, 9, 10]):
            assert np.abs(together - decode_latents(tiny, flat, seeds=other)).max() > 1

    def test_samples_scatter_about_the_posterior_mean(self, tiny):
        x = tiny.standardise(torch.from_numpy(pictures(n=1).astype(np.float32)))
        with torch.no_grad():
            first = tiny.first_latents(x, 1)[0][0]
            many = tiny.encode(x.expand(400, -1, -1, -1), Noise(range(400))).latents[0]
        error = many.mean(dim=0) - first
        assert bool((error.abs() < 4.5 * many.std(dim=0) / 20).all())

    def test_pictures_are_the_same_for_the_same_seed(self, tiny):
        flat = encode_images(tiny, pictures(), n_latents=2)
        for options in ({'seeds': [1, 2, 3]}, {}):
            once, again = (decode_latents(tiny, flat, **options) for _ in range(2))
            np.testing.assert_array_equal(once, again)
            assert once.shape == (3, 8, 8, 3)
            assert once.dtype == np.uint8

    def test_draws_have_the_distribution_s_deviation(self):
        draw = vdvae_blocks.Draw(Noise([1]))
        mean, log_std = torch.full((1, 2, 3, 3), 2.0), torch.full((1, 2, 3, 3), 0.3)
        expected = 2 + math.exp(0.3) * Noise([1]).normal(mean)
        torch.testing.assert_close(draw(mean, log_std), expected)

    def test_the_bound_is_the_sum_of_its_terms(self, tiny):
        terms = tiny.likelihood(torch.from_numpy(pictures(5)).float(), Noise(range(5)))
        torch.testing.assert_close(terms.elbo, terms.nll + terms.rate)
        assert (terms.rate > 0).all()

    @pytest.mark.parametrize(
        ('call', 'message'),
        [
            (lambda m: encode_images(m, pictures(size=16)), vdvae.NOT_PICTURES),
            (lambda m: encode_images(m, pictures().astype(float)), vdvae.NOT_PICTURES),
            (lambda m: encode_images(m, pictures(), n_latents=4), vdvae.BAD_COUNT),
            (lambda m: decode_latents(m, np.zeros((2, 33))), vdvae.WRONG_LENGTH),
            (lambda m: decode_latents(m, np.zeros((2, 2)), seeds=[1]), vdvae.ONE_SEED_A_PICTURE),
            (lambda m: m.decode([torch.zeros(2, 2, 4, 4)]), vdvae_blocks.WRONG_LATENT),
            (lambda m: m.decode([torch.zeros(1)] * 4), vdvae_blocks.TOO_MANY_LATENTS),
        ],
    )  # fmt: skip
    def test_wrong_arrays_are_said_in_one_line(self, tiny, call, message):
        with pytest.raises(DataError, match=re.escape(message.split('{')[0])) as caught:
            call(tiny)
        assert '\n' not in str(caught.value)


class TestCheckpoint:
    @pytest.fixture
    def tensors(self):
        return load_file(CHECKPOINT)

    def test_a_published_file_becomes_safetensors_with_its_configuration(
        self, tmp_path, tensors, config, model
    ):
        source, target = tmp_path / 'model.th', tmp_path / 'new' / 'model.safetensors'
        torch.save({f'module.{key}': value for key, value in tensors.items()}, source)
        convert_vdvae(source, target, config)
        again = load_vdvae(target)
        assert again.config == config
        for key, value in model.state_dict().items():
            torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)
        assert [path.name for path in target.parent.iterdir()] == ['model.safetensors']

    def test_saved_models_make_the_same_pictures(self, tmp_path, tiny):
        file = tmp_path / 'tiny.safetensors'
        save_vdvae(tiny, file)
        flat = encode_images(tiny, pictures())
        again = load_vdvae(file)
        assert not again.training
        np.testing.assert_array_equal(decode_latents(again, flat), decode_latents(tiny, flat))

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (lambda t: t.pop('decoder.gain'), vdvae_checkpoint.KEYS_MISSING),
            (lambda t: t.update({'decoder.more': torch.zeros(1)}), vdvae_checkpoint.KEYS_LEFT),
            (lambda t: t.update({'decoder.gain': torch.zeros(3)}), vdvae_checkpoint.SHAPE_DIFFERS),
            (lambda t: t.update({'decoder.gain': 'much'}), vdvae_checkpoint.NO_TENSORS),
            (lambda t: t.clear(), vdvae_checkpoint.NO_TENSORS),
        ],
    )
    def test_a_checkpoint_of_something_else(self, tmp_path, tensors, config, change, message):
        file = tmp_path / 'model.th'
        change(tensors)
        torch.save(tensors, file)
        with pytest.raises(InputError, match=re.escape(str(file))) as caught:
            load_vdvae(file, config)
        assert message.split('{file}')[1].split('{')[0] in str(caught.value)
        assert '\n' not in str(caught.value)

    def test_a_file_that_would_run_code_is_refused(self, tmp_path, config):
        file = tmp_path / 'model.th'
        torch.save({'decoder.gain': Path('/')}, file)
        with pytest.raises(InputError, match='Cannot read the checkpoint') as caught:
            load_vdvae(file, config)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize('name', ['model.th', 'model.safetensors'])
    @pytest.mark.parametrize('content', [None, b'', b'no tensors at all', 'half'])
    def test_damaged_and_missing_files(self, tmp_path, tiny, config, name, content):
        file = tmp_path / name
        if content == 'half':
            if file.suffix == '.th':
                torch.save(tiny.state_dict(), file)
            else:
                save_vdvae(tiny, file)
            content = file.read_bytes()[: file.stat().st_size // 2]
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match='Cannot read the checkpoint') as caught:
            load_vdvae(file, config)
        assert '\n' not in str(caught.value)

    def test_a_checkpoint_without_its_configuration(self, tensors):
        with pytest.raises(InputError, match='does not say what it was built from'):
            load_vdvae(CHECKPOINT)
