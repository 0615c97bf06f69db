"""The parts of a very deep VAE: its blocks, its encoder and its decoder.

Child (2021), *Very deep VAEs generalize autoregressive models and can outperform them on images*,
arXiv 2011.10650. Parameters carry the names of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.mixture import MixtureHead, Noise
from bids_neurodecode.models.vdvae_config import Level, VDVAEConfig

TOO_MANY_LATENTS = 'The model has {n} latents; {found} were given.'
WRONG_LATENT = 'Latent {index} must have shape {expected} for each image; this has {found}.'

Activations = dict[int, Tensor]


class Block(nn.Module):
    """Four convolutions through a bottleneck, GELU before each, with or without a shortcut."""

    def __init__(
        self, n_in: int, n_inner: int, n_out: int, *, resolution: int, residual: bool = False
    ) -> None:
        super().__init__()
        kernel = 3 if resolution > 2 else 1
        self.c1 = nn.Conv2d(n_in, n_inner, 1)
        self.c2 = nn.Conv2d(n_inner, n_inner, kernel, padding=kernel // 2)
        self.c3 = nn.Conv2d(n_inner, n_inner, kernel, padding=kernel // 2)
        self.c4 = nn.Conv2d(n_inner, n_out, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, h, w) to (n, n_out, h, w)."""
        out = x
        for convolution in (self.c1, self.c2, self.c3, self.c4):
            out = convolution(functional.gelu(out))
        return x + out if self.residual else out


class Encoder(nn.Module):
    """Images to one activation a resolution."""

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self._levels = config.encoder
        self._width_at = config.width_at
        self.in_conv = nn.Conv2d(3, config.width_at(config.image_size), 3, padding=1)
        self.enc_blocks = nn.ModuleList(
            _residual_block(config, level.resolution) for level in config.encoder
        )
        for block in self.enc_blocks:
            _shrink(block.get_submodule('c4'), len(config.encoder))

    def forward(self, x: Tensor) -> Activations:
        """Turn standardised images (n, 3, h, w) into {resolution: (n, width, r, r)}."""
        x = self.in_conv(x)
        activations = {x.shape[-1]: x}
        for level, block in zip(self._levels, self.enc_blocks, strict=True):
            x = block(x)
            if level.pool is not None:
                x = functional.avg_pool2d(x, level.pool)
            x = _fit_channels(x, self._width_at(x.shape[-1]))
            # pooled, the last activation of a resolution belongs to the next one
            activations[x.shape[-1]] = x
        return activations


class DecoderBlock(nn.Module):
    """One latent: its posterior, its prior, and what it adds to the state."""

    def __init__(self, config: VDVAEConfig, level: Level) -> None:
        super().__init__()
        resolution, n_z = level.resolution, config.n_latent_channels
        width, inner = config.width_at(resolution), config.inner_width_at(resolution)
        self.level = level
        self.n_z = n_z
        self.enc = Block(2 * width, inner, 2 * n_z, resolution=resolution)
        self.prior = Block(width, inner, 2 * n_z + width, resolution=resolution)
        self.z_proj = nn.Conv2d(n_z, width, 1)
        self.resnet = _residual_block(config, resolution)
        nn.init.zeros_(self.prior.c4.weight)  # the prior starts as a standard normal
        _shrink(self.z_proj, len(config.decoder))
        _shrink(self.resnet.c4, len(config.decoder))

    def forward(
        self, x: Tensor, activation: Tensor | None, given: Tensor | None, draw: Draw
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Update the state.

        Parameters
        ----------
        x
            The state, (n, width, r, r).
        activation
            The encoder's activation of this resolution, if the posterior is wanted.
        given
            The latent, if it is known, (n, n_z, r, r).
        draw
            How a latent is taken from a distribution.

        Returns
        -------
        x, z
            The new state, and the latent.
        kl
            Divergence of the posterior from the prior in nats, (n,); None without a posterior.
        """
        mean, log_std, increment = self.prior(x).split([self.n_z, self.n_z, x.shape[1]], dim=1)
        kl = None
        if given is not None:
            z = given
        elif activation is not None:
            q_mean, q_log_std = self.enc(torch.cat([x, activation], dim=1)).chunk(2, dim=1)
            kl = gaussian_kl(q_mean, q_log_std, mean, log_std).flatten(1).sum(dim=1)
            z = draw(q_mean, q_log_std)
        else:
            z = draw(mean, log_std)
        x = x + increment + self.z_proj(z)
        return self.resnet(x), z, kl


@dataclass(frozen=True)
class Draw:
    """How latents are taken from their distributions.

    Parameters
    ----------
    noise
        Where samples come from; None takes the means.
    """

    noise: Noise | None

    def __call__(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Take latents of the shape of ``mean``."""
        if self.noise is None:
            return mean
        return mean + log_std.exp() * self.noise.normal(mean)


class Decoder(nn.Module):
    """Latents, from the coarsest to the finest, to the hidden state behind an image."""

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self._config = config
        self.dec_blocks = nn.ModuleList(DecoderBlock(config, level) for level in config.decoder)
        self.bias_xs = nn.ParameterList(
            nn.Parameter(torch.zeros(1, config.width_at(r), r, r))
            for r in config.decoder_resolutions
            if r <= config.no_bias_above
        )
        width = config.width_at(config.image_size)
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.out_net = MixtureHead(width, config.n_mixtures)

    def forward(
        self,
        n_pictures: int,
        *,
        activations: Activations | None = None,
        latents: Sequence[Tensor] = (),
        draw: Draw,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Run all blocks.

        The first latents are those given; the others come from the posterior if there are
        activations, else from the prior.

        Parameters
        ----------
        n_pictures
            How many images.
        activations
            Of the encoder, by resolution; None draws from the prior.
        latents
            The first ones, (n, channels, h, w) each.
        draw
            Takes means, or draws with noise.

        Returns
        -------
        hidden
            Of shape (n, width, h, w).
        latents
            All of them, given or drawn.
        kl
            In nats, (n,), of each latent that the posterior gave.

        Raises
        ------
        DataError
            If a latent has another shape.
        """
        self._check(latents, n_pictures)
        taken: list[Tensor] = []
        divergences: list[Tensor] = []
        states = self._start(n_pictures)
        for z, kl in self._run(states, n_pictures, activations, latents, draw):
            taken.append(z)
            if kl is not None:
                divergences.append(kl)
        hidden = states[self._config.image_size] * self.gain + self.bias
        return hidden, taken, divergences

    def first_latents(self, activations: Activations, n_latents: int, draw: Draw) -> list[Tensor]:
        """Take the first latents from the posterior; blocks after those are not run.

        Parameters
        ----------
        activations
            Of the encoder, by resolution.
        n_latents
            How many.
        draw
            Takes means, or draws with noise.
        """
        n_pictures = len(next(iter(activations.values())))
        blocks = self._run(self._start(n_pictures), n_pictures, activations, (), draw)
        return [z for z, _ in islice(blocks, n_latents)]

    def _start(self, n_pictures: int) -> Activations:
        return {bias.shape[-1]: bias.expand(n_pictures, -1, -1, -1) for bias in self.bias_xs}

    def _run(
        self,
        states: Activations,
        n_pictures: int,
        activations: Activations | None,
        latents: Sequence[Tensor],
        draw: Draw,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Update the states block by block; give each latent and its divergence."""
        for index, block in enumerate(self.dec_blocks):
            level = self._config.decoder[index]
            given = latents[index] if index < len(latents) else None
            activation = None if activations is None else activations[level.resolution]
            x, z, kl = block(self._state(states, level, n_pictures), activation, given, draw)
            states[level.resolution] = x
            yield z, kl

    def _state(self, states: Activations, level: Level, n_pictures: int) -> Tensor:
        resolution, width = level.resolution, self._config.width_at(level.resolution)
        x = states.get(resolution)
        if x is None:
            x = self.gain.new_zeros(n_pictures, width, resolution, resolution)
        if level.mixin is None:
            return x
        coarse = _fit_channels(states[level.mixin], width)
        factor = resolution // level.mixin
        return x + functional.interpolate(coarse, scale_factor=factor, mode='nearest')

    def _check(self, latents: Sequence[Tensor], n_pictures: int) -> None:
        shapes = self._config.latent_shapes
        if len(latents) > len(shapes):
            raise DataError(TOO_MANY_LATENTS.format(n=len(shapes), found=len(latents)))
        for index, (latent, shape) in enumerate(zip(latents, shapes, strict=False)):
            if tuple(latent.shape) != (n_pictures, *shape):
                raise DataError(
                    WRONG_LATENT.format(index=index, expected=shape, found=tuple(latent.shape[1:]))
                )


def gaussian_kl(q_mean: Tensor, q_log_std: Tensor, p_mean: Tensor, p_log_std: Tensor) -> Tensor:
    """Return KL(q || p) of normal distributions in nats, element by element.

    Parameters
    ----------
    q_mean, q_log_std, p_mean, p_log_std
        Means and logarithms of deviations, of one shape.
    """
    variance = torch.exp(2 * (q_log_std - p_log_std))
    distance = ((q_mean - p_mean) * torch.exp(-p_log_std)).square()
    return p_log_std - q_log_std + 0.5 * (variance + distance - 1)


def _residual_block(config: VDVAEConfig, resolution: int) -> Block:
    width, inner = config.width_at(resolution), config.inner_width_at(resolution)
    return Block(width, inner, width, resolution=resolution, residual=True)


def _shrink(convolution: nn.Module, n_blocks: int) -> None:
    """Scale initial weights so that the stream's variance does not grow with depth."""
    with torch.no_grad():
        convolution.get_parameter('weight').mul_(1 / math.sqrt(n_blocks))


def _fit_channels(x: Tensor, width: int) -> Tensor:
    """Cut off channels, or add channels of zeros."""
    missing = width - x.shape[1]
    return functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x[:, :width]
