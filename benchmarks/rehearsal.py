"""A dress rehearsal of the published reconstruction: every part in its published size.

python benchmarks/rehearsal.py [--precision bfloat16] [--device cuda] [--steps 50]

Weights are random, so the image means nothing; what is shown is that the parts fit together,
what they weigh, how long one image takes through both stages, and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from contextlib import contextmanager

import numpy as np
import torch

VOXELS, SAMPLES = 15_724, 64
SHAPES = {'text': (77, 768), 'vision': (257, 768)}
LATENTS = {15: 13_344, 31: 91_168}


def peak_gib(device):
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / 1024**3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


@contextmanager
def timed(what, device):
    start = time.perf_counter()
    yield
    if device == 'cuda':
        torch.cuda.synchronize()
    print(f'| {what} | {time.perf_counter() - start:.1f} | {peak_gib(device):.1f} |', flush=True)


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def build_diffusion(dtype, width=320, rows=64):
    """Return image UNet, text UNet and autoencoder, in their published size if nothing is said.

    Parameters
    ----------
    dtype
        Of the weights.
    width
        Channels of the UNets' first blocks.
    rows
        Of the latent; the picture has eight times as many.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
        UNetFlatConditionModel,
    )

    wide = {
        'block_out_channels': (width, 2 * width, 4 * width, 4 * width),
        'layers_per_block': 2,
        'cross_attention_dim': 768,
        'attention_head_dim': 8,
    }
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        image = UNet2DConditionModel(
            sample_size=rows,
            in_channels=4,
            out_channels=4,
            down_block_types=(*('CrossAttnDownBlock2D',) * 3, 'DownBlock2D'),
            up_block_types=('UpBlock2D', *('CrossAttnUpBlock2D',) * 3),
            **wide,
        )
        text = UNetFlatConditionModel(
            in_channels=768,
            out_channels=768,
            down_block_types=(*('CrossAttnDownBlockFlat',) * 3, 'DownBlockFlat'),
            up_block_types=('UpBlockFlat', *('CrossAttnUpBlockFlat',) * 3),
            **wide,
        )
        vae = AutoencoderKL(
            sample_size=8 * rows,
            latent_channels=4,
            block_out_channels=tuple(32 * max(1, width * k // 160) for k in (2, 4, 8, 8)),
            down_block_types=('DownEncoderBlock2D',) * 4,
            up_block_types=('UpDecoderBlock2D',) * 4,
            layers_per_block=2,
        )
    finally:
        torch.set_default_dtype(before)
    return image.eval(), text.eval(), vae.eval()


def build_clip():
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            patch_size=14,
            projection_dim=768,
        )
    )
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
            eos_token_id=49407,
        )
    )
    return vision, text


class Words:
    """Stands where the published tokenizer would: a start, the letters, ends up to 77."""

    def __call__(self, texts, **_):
        rows = [[49406, *(ord(c) for c in text[:75])] for text in texts]
        ids = torch.tensor([row + [49407] * (77 - len(row)) for row in rows])
        return {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--precision', default='float32')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--steps', type=int, default=50, help='of the schedule; 50 published')
    args = parser.parse_args()
    from bids_neurodecode.models.clip_targets import ClipTargets
    from bids_neurodecode.models.diffusion import (
        DiffusionSettings,
        MemorySettings,
        VersatileDiffusion,
    )
    from bids_neurodecode.models.dual import PAPER_ALPHAS, Factorisation
    from bids_neurodecode.models.latents import build_latent_regressor
    from bids_neurodecode.models.sampling import SamplingSettings, make_schedule, picture_seed
    from bids_neurodecode.models.vdvae import VDVAE, decode_latents, encode_images
    from bids_neurodecode.models.vdvae_config import vdvae_preset

    rng, device = np.random.default_rng(0), args.device
    torch.manual_seed(0)
    print('| step | seconds | peak GiB so far |\n| --- | --- | --- |', flush=True)
    with timed('VDVAE built', device):
        prior = VDVAE(vdvae_preset('imagenet64')).eval().to(device)
    n_values = sum(t.numel() for t in prior.state_dict().values())
    print(f'| VDVAE: {len(prior.state_dict())} tensors, {n_values:,} values | | |')
    picture = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for n_latents, length in LATENTS.items():
        with timed(f'{n_latents} latents of an image', device):
            flat = encode_images(prior, picture, n_latents=n_latents)
        assert flat.shape == (1, length)
    X = rng.standard_normal((SAMPLES, VOXELS), dtype=np.float32)
    with timed('factorisation of the responses', device):
        factorisation = Factorisation(X, device=device)
    decoded = {}
    for name, shape in [('vdvae', (LATENTS[31],)), *SHAPES.items()]:
        with timed(f'ridge to {name}, {SAMPLES} samples', device):
            Y = rng.standard_normal((SAMPLES, int(np.prod(shape))), dtype=np.float32)
            model = factorisation.fit(Y, alphas=[PAPER_ALPHAS[name]])
            decoded[name] = model.predict(X[:1]).reshape(1, *shape)
    with timed('GRU regressor', device):
        gru = build_latent_regressor('gru', VOXELS, LATENTS[15]).eval().to(device)
        with torch.inference_mode():
            gru_latents = gru(torch.from_numpy(X[:1]).to(device)).cpu().numpy()
    print(f'| GRU: {count(gru):,} parameters, output {gru_latents.shape} | | |')
    with timed('first stage: an image from 31 latents', device):
        initial = decode_latents(prior, decoded.pop('vdvae'), seeds=[0], read_out='sample')
    del prior, gru, factorisation
    with timed('CLIP built, features of nothing', device):
        clip = ClipTargets(*build_clip(), Words(), device, 'float32')
        nothing = clip.unconditional()
    with timed('CLIP features of an image and five captions', device):
        assert clip.of_pictures(initial).shape == (1, *SHAPES['vision'])
        assert clip.of_captions([['a cat'] * 5]).shape == (1, *SHAPES['text'])
    print(f'| CLIP: {count(clip.vision) + count(clip.text):,} parameters | | |')
    del clip
    sampling = SamplingSettings(n_steps=args.steps)
    with timed('Versatile Diffusion built', device):
        networks = build_diffusion(getattr(torch, args.precision))
        weights = [count(network) for network in networks]
        memory = MemorySettings(device, args.precision, split_guidance=device == 'cpu')
        refiner = VersatileDiffusion(*networks, nothing, DiffusionSettings(sampling), memory)
    del networks
    print(f'| image UNet, text UNet, autoencoder: {", ".join(f"{w:,}" for w in weights)} | | |')
    n_calls = len(make_schedule(sampling, from_picture=True).timesteps)
    seeds = [picture_seed(0, 'rehearsal')]
    with timed(f'second stage: {n_calls} steps at 512 x 512, {args.precision}', device):
        final = refiner.refine(initial, decoded, seeds)
    assert final.shape == (1, 512, 512, 3)
    if device == 'cuda':
        with timed('the same, warm', device):
            refiner.refine(initial, decoded, seeds)


if __name__ == '__main__':
    main()
