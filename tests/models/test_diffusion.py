"""Versatile Diffusion in tiny: schedule, guidance, mixing and seeds, against diffusers' own."""

import itertools

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.models import diffusion, sampling
from bids_neurodecode.models.diffusion import (
    DiffusionSettings,
    MemorySettings,
    VersatileDiffusion,
)
from bids_neurodecode.models.sampling import (
    SamplingSettings,
    alpha_bar,
    make_schedule,
    picture_seed,
)

N_TEXT, N_VISION, WIDTH = 5, 7, 12


def make_networks(seed=0):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
        UNetFlatConditionModel,
    )

    shape = {
        'block_out_channels': (8, 16), 'layers_per_block': 1, 'cross_attention_dim': WIDTH,
        'attention_head_dim': 2, 'norm_num_groups': 4, 'sample_size': 8,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        image = UNet2DConditionModel(
            down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
            up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
            **shape,
        )
        text = UNetFlatConditionModel(
            down_block_types=('CrossAttnDownBlockFlat', 'DownBlockFlat'),
            up_block_types=('UpBlockFlat', 'CrossAttnUpBlockFlat'),
            **shape,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=('DownEncoderBlock2D',) * 2,
            up_block_types=('UpDecoderBlock2D',) * 2,
            latent_channels=4,
            norm_num_groups=4,
            layers_per_block=1,
        )
    return image.eval(), text.eval(), vae.eval()


def embeddings(n, seed=0):
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(n, N_TEXT, WIDTH)).astype(np.float32)
    return {'text': text, 'vision': rng.normal(size=(n, N_VISION, WIDTH)).astype(np.float32)}


NOTHING = {name: values[0] for name, values in embeddings(1, seed=99).items()}
STARTS = np.random.default_rng(1).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
SEEDS = [picture_seed(7, name) for name in ('a.png', 'b.png', 'c.png')]


def make_refiner(memory=None, **changes):
    names = set(SamplingSettings.__dataclass_fields__)
    steps = {'n_steps': 8, **{k: v for k, v in changes.items() if k in names}}
    rest = {k: v for k, v in changes.items() if k not in names}
    settings = DiffusionSettings(SamplingSettings(**steps), **rest)
    return VersatileDiffusion(*make_networks(), NOTHING, settings, memory)


def count_calls(refiner):
    calls = []
    refiner.unet.register_forward_pre_hook(lambda _m, args: calls.append((args[1], len(args[0]))))
    return calls


def differ(a, b):
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_published_schedule():
    schedule = make_schedule(SamplingSettings(), from_picture=True)
    assert schedule.noised_at == 741
    assert schedule.timesteps[:3] == (721, 701, 681)
    assert schedule.timesteps[-1] == 1
    assert len(schedule.timesteps) == 37
    assert alpha_bar()[741] == pytest.approx(0.06036, abs=5e-6)
    assert alpha_bar()[721] == pytest.approx(0.07051, abs=5e-6)
    assert alpha_bar()[0] == pytest.approx(0.99915, abs=1e-7)


def test_matched_start_and_full_strength():
    matched = make_schedule(SamplingSettings(start='matched'), from_picture=True)
    assert matched.noised_at == matched.timesteps[0] == 721
    full = make_schedule(SamplingSettings(strength=1), from_picture=True)
    assert full.noised_at == full.timesteps[0] == 981
    assert make_schedule(SamplingSettings(), from_picture=False).timesteps[0] == 981


def test_steps_are_those_of_diffusers():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear', clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(50)
    schedule = make_schedule(SamplingSettings(), from_picture=False)
    assert schedule.timesteps == tuple(scheduler.timesteps.tolist())

    def predict(x, t):
        return torch.sin(3 * x + t)

    start = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = start
    for t in scheduler.timesteps:
        expected = scheduler.step(predict(expected, int(t)), t, expected).prev_sample
    ours = sampling.denoise(start, schedule, predict)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=2e-3)
    noisy = scheduler.add_noise(start, start.flip(0), torch.tensor([741, 741]))
    torch.testing.assert_close(sampling.add_noise(start, start.flip(0), 741), noisy)


@pytest.mark.slow
def test_37_calls_with_both_halves():
    refiner = make_refiner(n_steps=50, batch_size=2)
    calls = count_calls(refiner)
    images = refiner.refine(STARTS, embeddings(3), SEEDS)
    assert images.shape == (3, 16, 16, 3)
    assert images.dtype == np.uint8
    assert refiner.size == 16
    times = list(range(721, 0, -20))
    assert [t for t, _ in calls] == times * 2
    assert [n for _, n in calls] == [4] * 37 + [2] * 37


def test_a_picture_depends_on_its_own_seed_alone():
    conditions = embeddings(3)
    together = make_refiner(batch_size=3).refine(STARTS, conditions, SEEDS)
    again = make_refiner(batch_size=3).refine(STARTS, conditions, SEEDS)
    np.testing.assert_array_equal(together, again)
    last = {name: values[2:] for name, values in conditions.items()}
    alone = make_refiner(batch_size=1).refine(STARTS[2:], last, SEEDS[2:])
    assert differ(alone[0], together[2]) <= 1  # of 255: sums in another order
    other = make_refiner().refine(STARTS[2:], last, [SEEDS[2] + 1])
    assert differ(other[0], together[2]) > 1
    assert len(set(SEEDS)) == 3
    assert picture_seed(7, 'a.png') == SEEDS[0] != picture_seed(8, 'a.png')


@pytest.mark.parametrize(('weight', 'ignored'), [(0.0, 'text'), (1.0, 'vision')])
def test_one_condition_alone(weight, ignored):
    conditions, changed = embeddings(1), embeddings(1)
    changed[ignored] = changed[ignored] + 5
    refiner = make_refiner(text_weight=weight)
    first = refiner.refine(STARTS[:1], conditions, SEEDS[:1])
    np.testing.assert_array_equal(first, refiner.refine(STARTS[:1], changed, SEEDS[:1]))
    changed = {name: values + 5 for name, values in conditions.items()}
    assert differ(first, refiner.refine(STARTS[:1], changed, SEEDS[:1])) > 0


def test_weight_zero_is_the_plain_image_network():
    image, _, _ = make_networks()
    refiner = make_refiner(text_weight=0.0)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    context = refiner._context(embeddings(2))
    with torch.no_grad():
        plain = image(x, 41, encoder_hidden_states=context[:, N_TEXT:]).sample
        torch.testing.assert_close(refiner._predict(x, 41, context), plain)


def test_guidance():
    conditions = embeddings(1)
    calls = count_calls(conditional := make_refiner(guidance=1.0))
    alone = conditional.refine(STARTS[:1], conditions, SEEDS[:1])
    assert {n for _, n in calls} == {1}
    same = dict(NOTHING)
    try:
        NOTHING.update({name: values + 1 for name, values in same.items()})
        other = make_refiner(guidance=1.0).refine(STARTS[:1], conditions, SEEDS[:1])
    finally:
        NOTHING.update(same)
    np.testing.assert_array_equal(alone, other)
    # where the condition is its own absence, guidance has nothing to push away from
    nothing = {name: values[None] for name, values in NOTHING.items()}
    pushed = make_refiner(guidance=7.5).refine(STARTS[:1], nothing, SEEDS[:1])
    assert differ(pushed, make_refiner(guidance=1.0).refine(STARTS[:1], nothing, SEEDS[:1])) <= 1
    assert differ(alone, make_refiner(guidance=7.5).refine(STARTS[:1], conditions, SEEDS[:1])) > 1


@pytest.mark.parametrize(
    'memory',
    [
        MemorySettings(attention_slicing=True, split_decoding=True),
        MemorySettings(split_guidance=True),
        pytest.param(MemorySettings(offload='sequential'), marks=pytest.mark.slow),
    ],
)
def test_memory_options_do_not_change_the_picture(memory):
    conditions = embeddings(2)
    plain = make_refiner().refine(STARTS[:2], conditions, SEEDS[:2])
    assert differ(make_refiner(memory).refine(STARTS[:2], conditions, SEEDS[:2]), plain) <= 1


def test_half_precision_is_near():
    conditions = embeddings(2)
    plain = make_refiner(guidance=2.0).refine(STARTS[:2], conditions, SEEDS[:2])
    refiner = make_refiner(MemorySettings(precision='bfloat16'), guidance=2.0)
    assert refiner.unet.dtype == refiner.vae.dtype == torch.bfloat16
    half = refiner.refine(STARTS[:2], conditions, SEEDS[:2])
    assert np.abs(half.astype(int) - plain.astype(int)).mean() < 4


@pytest.mark.slow
def test_start_picture_matters_and_weak_strength_keeps_it():
    conditions = embeddings(1)
    none = make_refiner().refine(None, conditions, SEEDS[:1])
    assert none.shape == (1, 16, 16, 3)
    first, second = (
        make_refiner().refine(STARTS[k : k + 1], conditions, SEEDS[:1]) for k in (0, 1)
    )
    assert differ(first, second) > 1
    # the mean is a function of the image; samples differ from it
    mean, sample = (
        make_refiner(latent=latent)._start(STARTS[:1], diffusion.Noise([3]), 1)
        for latent in ('mean', 'sample')
    )
    assert not torch.allclose(mean, sample)


def test_same_picture_as_the_pipeline_of_diffusers(monkeypatch):
    """From noise, as that pipeline has no start image; its call is fixed for this test."""
    from diffusers import DDIMScheduler, VersatileDiffusionDualGuidedPipeline
    from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    call = DualTransformer2DModel.forward

    def fixed(self, *args, encoder_attention_mask=None, **kwargs):
        return call(self, *args, **kwargs)

    monkeypatch.setattr(DualTransformer2DModel, 'forward', fixed)
    image, text, vae = make_networks()
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear', clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=N_TEXT,
        )
    )  # fmt: skip
    pipeline = VersatileDiffusionDualGuidedPipeline(
        None, None, encoder, None, image, text, vae, scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    conditions = embeddings(2)
    both = {
        name: torch.from_numpy(np.concatenate([np.stack([NOTHING[name]] * 2), values]))
        for name, values in conditions.items()
    }
    monkeypatch.setattr(pipeline, '_encode_text_prompt', lambda *_: both['text'])
    monkeypatch.setattr(pipeline, '_encode_image_prompt', lambda *_: both['vision'])
    expected = pipeline(
        prompt=['', ''], image=['', ''], text_to_image_strength=0.4, num_inference_steps=8,
        latents=diffusion.Noise(SEEDS[:2]).normal(torch.empty(2, 4, 8, 8)), output_type='np',
    ).images  # fmt: skip
    ours = make_refiner().refine(None, conditions, SEEDS[:2])
    assert np.abs(ours / 255 - expected).max() < 1.5 / 255
    assert expected.std() > 0.01


def test_folder_in_the_published_layout(tmp_path):
    networks = make_networks()
    for name, network in zip(('image_unet', 'text_unet', 'vae'), networks, strict=True):
        network.save_pretrained(tmp_path / name)
    settings = DiffusionSettings(SamplingSettings(n_steps=8))
    refiner = VersatileDiffusion.from_folder(tmp_path, NOTHING, settings)
    found = refiner.refine(STARTS[:1], embeddings(1), SEEDS[:1])
    assert differ(found, make_refiner().refine(STARTS[:1], embeddings(1), SEEDS[:1])) == 0
    (tmp_path / 'vae' / 'diffusion_pytorch_model.safetensors').write_bytes(b'no')
    with pytest.raises(InputError, match='cannot be read'):
        VersatileDiffusion.from_folder(tmp_path, NOTHING, settings)
    (tmp_path / 'vae' / 'config.json').unlink()
    with pytest.raises(InputError, match=r'vae/config.json is missing\. Get them with'):
        VersatileDiffusion.from_folder(tmp_path, NOTHING, settings)


def test_errors():
    refiner, conditions = make_refiner(), embeddings(2)
    with pytest.raises(DataError, match=r"'vision' must be an array of shape \(2, 7, 12\)"):
        refiner.refine(None, {'text': conditions['text']}, SEEDS[:2])
    with pytest.raises(DataError, match=r'Start images must be uint8 of shape \(2, h, w, 3\)'):
        refiner.refine(STARTS, conditions, SEEDS[:2])
    with pytest.raises(DataError, match='nothing to refine'):
        refiner.refine(None, conditions, [])
    with pytest.raises(ArgumentsError, match=r'between 0 and 1: 1\.5'):
        DiffusionSettings(text_weight=1.5)
    for name, value in itertools.product(('strength',), (0.0, 1.01)):
        with pytest.raises(ArgumentsError, match='strength is'):
            SamplingSettings(**{name: value})
    image, _, vae = make_networks()
    with pytest.raises(InputError, match='do not belong together: 4'):
        VersatileDiffusion(image, vae, vae, NOTHING)
