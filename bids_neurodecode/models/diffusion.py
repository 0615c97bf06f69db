"""The second stage of Brain-Diffuser: Versatile Diffusion from a start image, our own loop.

Versatile Diffusion (Xu et al. 2022, arXiv 2211.08332) guided by decoded CLIP features of an
image and of its captions at once (Ozcelik & VanRullen 2023, Sci Rep 13:15666). The networks are
those of diffusers. Its own pipeline takes neither a start image nor features that are already
computed, and its call fails in diffusers 0.42 (huggingface/diffusers issue 13651), so that the
loop and the block that mixes the two conditions are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.fetched import need_files, read_part
from bids_neurodecode.models.mixture import Noise
from bids_neurodecode.models.precision import Precision, dtype_of
from bids_neurodecode.models.sampling import (
    Conditions,
    SamplingSettings,
    add_noise,
    check_inputs,
    denoise,
    from_signed,
    guided,
    make_schedule,
    resize_pictures,
    to_signed,
)
from bids_neurodecode.typing import Uint8Array

BAD_WEIGHT = 'The weight of the text must lie between 0 and 1: {found}.'
NOT_PAIRED = (
    'The networks of image and text do not belong together: {n} attention blocks of the one '
    'have no counterpart in the other (first: {first}).'
)
REMOVED = (
    'The installed diffusers ({version}) has no Versatile Diffusion any more. Install '
    'diffusers<0.43, or choose another reconstruction.generator.'
)

Latent = Literal['sample', 'mean']

WEIGHTS = 'versatile-diffusion'
_CONFIGS = ('image_unet/config.json', 'text_unet/config.json', 'vae/config.json')


@dataclass(frozen=True)
class DiffusionSettings:
    """How Versatile Diffusion is guided; the defaults are those of Brain-Diffuser.

    Parameters
    ----------
    sampling
        Steps, strength, guidance, batches.
    text_weight
        Weight of the captions' features; the image's have the rest. 0 and 1: one alone.
    latent
        Whether the start image's latent is a sample or the mean of the autoencoder's posterior.
    """

    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    text_weight: float = 0.4
    latent: Latent = 'sample'

    def __post_init__(self) -> None:
        if not 0 <= self.text_weight <= 1:
            raise ArgumentsError(BAD_WEIGHT.format(found=self.text_weight))


@dataclass(frozen=True)
class MemorySettings:
    """What is given up for memory; the images do not depend on it but for rounding.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    precision
        Of weights and activations; the loop itself is in float32.
    offload
        ``sequential``: weights stay on the CPU, and each layer's are on the device only while it
        works: least memory, slow.
    attention_slicing
        Attention a few heads at a time.
    split_guidance
        With and without the condition one after the other.
    split_decoding
        Latents become images one at a time.
    """

    device: Literal['cpu', 'cuda'] = 'cpu'
    precision: Precision = 'float32'
    offload: Literal['none', 'sequential'] = 'none'
    attention_slicing: bool = False
    split_guidance: bool = False
    split_decoding: bool = False


class MixedTransformer(nn.Module):
    """Two transformer blocks in place of one: what each adds is weighted and summed.

    ``h + w (text(h) - h) + (1 - w) (picture(h) - h)``, where the context holds the tokens of the
    text and then those of the image. A block of weight 0 is not computed.

    Parameters
    ----------
    picture, text
        The blocks.
    n_text
        Tokens of the text.
    text_weight
        w.
    """

    def __init__(
        self, picture: nn.Module, text: nn.Module, n_text: int, text_weight: float
    ) -> None:
        super().__init__()
        self.picture, self.text = picture, text
        self.n_text, self.text_weight = n_text, text_weight

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        timestep: Tensor | None = None,
        **_kwargs: Any,
    ) -> tuple[Tensor]:
        """Take and return what diffusers hands to a transformer block; no masks are used here.

        Parameters
        ----------
        hidden_states
            Of the latents, (n, channels, h, w).
        encoder_hidden_states
            Tokens of text, then of vision, (n, n_tokens, width).
        timestep
            Of the schedule.
        **_kwargs
            Not used.
        """
        tokens = encoder_hidden_states[:, : self.n_text], encoder_hidden_states[:, self.n_text :]
        weights = (self.text_weight, 1 - self.text_weight)
        mixed = torch.zeros_like(hidden_states)
        for block, part, weight in zip((self.text, self.picture), tokens, weights, strict=True):
            if weight:
                output = block(
                    hidden_states, encoder_hidden_states=part, timestep=timestep, return_dict=False
                )[0]
                mixed = mixed + weight * output
        return (mixed,)


class VersatileDiffusion:
    """A refiner (see :class:`bids_neurodecode.models.sampling.Refiner`).

    Conditions are ``text``, (n, 77, 768), and ``vision``, (n, 257, 768), as
    :mod:`bids_neurodecode.models.clip_targets` extracts them.

    Parameters
    ----------
    image_unet, text_unet
        ``UNet2DConditionModel`` and ``UNetFlatConditionModel`` of diffusers. The blocks of the
        second are put into the first, which is changed.
    vae
        ``AutoencoderKL`` of diffusers.
    unconditional
        Features of no text and of a grey image: ``text`` (77, 768), ``vision`` (257, 768).
    settings, memory
        How images are made.

    Raises
    ------
    DataError
        If the two networks do not belong together.
    ResourceError
        If the device is not there.
    """

    def __init__(
        self,
        image_unet: Any,
        text_unet: Any,
        vae: Any,
        unconditional: Mapping[str, npt.NDArray[Any]],
        settings: DiffusionSettings | None = None,
        memory: MemorySettings | None = None,
    ) -> None:
        self.settings, self.memory = settings or DiffusionSettings(), memory or MemorySettings()
        self._unconditional = {name: unconditional[name] for name in ('text', 'vision')}
        n_text = len(self._unconditional['text'])
        mix_networks(image_unet, text_unet, n_text, self.settings.text_weight)
        self.unet, self.vae = image_unet, vae
        self._dtype = dtype_of(self.memory.precision)
        check_device(self.memory.device)
        self._device = torch.device(self.memory.device)
        self._factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self._place()

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        unconditional: Mapping[str, npt.NDArray[Any]],
        settings: DiffusionSettings | None = None,
        memory: MemorySettings | None = None,
    ) -> VersatileDiffusion:
        """Read the networks from a folder in the published layout; nothing is downloaded.

        Parameters
        ----------
        folder
            With ``image_unet``, ``text_unet``, ``vae`` and ``scheduler``.
        unconditional
            Embeddings of no condition: ``vision`` and ``text``, (n_tokens, width).
        settings
            Sampling, weight of the text; None: as published.
        memory
            Device and precision.

        Raises
        ------
        InputError
            If it is incomplete or damaged.
        """
        memory = memory or MemorySettings()
        from diffusers import AutoencoderKL, UNet2DConditionModel

        need_files(folder, WEIGHTS, _CONFIGS)
        kinds: dict[str, Any] = {
            'image_unet': UNet2DConditionModel,
            'text_unet': text_network(),
            'vae': AutoencoderKL,
        }
        options = {'torch_dtype': dtype_of(memory.precision), 'low_cpu_mem_usage': False}
        image, text, vae = (
            read_part(kind.from_pretrained, folder / name, WEIGHTS, **options)
            for name, kind in kinds.items()
        )
        return cls(image, text, vae, unconditional, settings, memory)

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels (512 as published)."""
        size: int = self.unet.config.sample_size * self._factor
        return size

    @property
    def condition_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of ``text`` and ``vision``."""
        return {name: values.shape for name, values in self._unconditional.items()}

    @torch.inference_mode()
    def refine(
        self,
        start_images: Uint8Array | None,
        conditions: Conditions,
        seeds: Sequence[int],
    ) -> Uint8Array:
        """Make images; see :meth:`bids_neurodecode.models.sampling.Refiner.refine`.

        Parameters
        ----------
        start_images
            Shape (n, h, w, 3), uint8; None starts from noise.
        conditions
            ``vision`` and ``text``, (n, n_tokens, width) each.
        seeds
            One per image.
        """
        check_inputs(start_images, conditions, seeds, self.condition_shapes)
        settings = self.settings.sampling
        schedule = make_schedule(settings, from_picture=start_images is not None)
        pictures = []
        for first in range(0, len(seeds), settings.batch_size):
            rows = slice(first, first + settings.batch_size)
            noise = Noise(seeds[rows])
            latents = self._start(
                None if start_images is None else start_images[rows], noise, schedule.noised_at
            )
            context = self._context({name: conditions[name][rows] for name in conditions})
            without = self._context(
                {name: np.stack([x] * len(noise)) for name, x in self._unconditional.items()}
            )
            predict = guided(
                self._predict,
                context,
                without,
                settings.guidance,
                together=not self.memory.split_guidance,
            )
            pictures.append(self._decode(denoise(latents, schedule, predict)))
        return np.concatenate(pictures)

    def _start(self, images: Uint8Array | None, noise: Noise, time: int | None) -> Tensor:
        """Encode and noise start images; noise alone if there are none."""
        channels, side = int(self.unet.config.in_channels), int(self.unet.config.sample_size)
        if images is None or time is None:
            return noise.normal(torch.empty(len(noise), channels, side, side)).to(self._device)
        pixels = to_signed(resize_pictures(images, self.size)).to(self._device, self._dtype)
        posterior = self.vae.encode(pixels).latent_dist
        latents = posterior.mean.float()
        if self.settings.latent == 'sample':
            latents = latents + posterior.std.float() * noise.normal(latents)
        latents = latents * float(self.vae.config.scaling_factor)
        return add_noise(latents, noise.normal(latents), time)

    def _context(self, conditions: Conditions) -> Tensor:
        parts = [np.asarray(conditions[name], dtype=np.float32) for name in ('text', 'vision')]
        return torch.from_numpy(np.concatenate(parts, axis=1)).to(self._device, self._dtype)

    def _predict(self, latents: Tensor, time: int, context: Tensor) -> Tensor:
        output: Tensor = self.unet(
            latents.to(self._dtype), time, encoder_hidden_states=context, return_dict=False
        )[0]
        return output

    def _decode(self, latents: Tensor) -> Uint8Array:
        scaled = (latents / float(self.vae.config.scaling_factor)).to(self._dtype)
        return from_signed(self.vae.decode(scaled, return_dict=False)[0])

    def _place(self) -> None:
        """Bring the networks to where and how they compute."""
        if self.memory.attention_slicing:
            self.unet.set_attention_slice('auto')
        if self.memory.split_decoding:
            self.vae.enable_slicing()
        for network in (self.unet, self.vae):
            network.requires_grad_(requires_grad=False)
            network.eval()
            network.to(self._dtype)
            if self.memory.offload == 'sequential':
                from accelerate import cpu_offload

                cpu_offload(network, execution_device=self._device)
            else:
                network.to(self._device)


def mix_networks(
    image_unet: Any,
    text_unet: Any,
    n_text: int,
    text_weight: float,
) -> None:
    """Replace each transformer block of the first by a mixture with that of the second.

    Parameters
    ----------
    image_unet
        Changed in place.
    text_unet
        Gives the blocks that read text.
    n_text
        How many of the tokens are text; they come first.
    text_weight
        Weight of the text's blocks, from 0 to 1; the image's have the rest.

    Raises
    ------
    InputError
        If a block of one has no counterpart in the other.
    """
    pictures, texts = _transformers(image_unet), _transformers(text_unet)
    alone = sorted(set(pictures) ^ set(texts))
    if alone or not pictures:
        first = alone[0] if alone else 'all'
        raise InputError(NOT_PAIRED.format(n=len(alone), first=first))
    for name, picture in pictures.items():
        parent, _, place = name.rpartition('.')
        blocks = image_unet.get_submodule(parent)
        blocks[int(place)] = MixedTransformer(picture, texts[name], n_text, text_weight)


def _transformers(network: Any) -> dict[str, Any]:
    from diffusers import Transformer2DModel

    kind: Any = Transformer2DModel
    return {name: module for name, module in network.named_modules() if isinstance(module, kind)}


def text_network() -> Any:
    """Return the class of the text network, which diffusers keeps among what it may remove.

    Raises
    ------
    InputError
        If the installed version has removed it.
    """
    try:
        from diffusers.pipelines.deprecated.versatile_diffusion import modeling_text_unet
    except ImportError as error:
        from diffusers import __version__

        raise InputError(REMOVED.format(version=__version__)) from error
    return modeling_text_unet.UNetFlatConditionModel
