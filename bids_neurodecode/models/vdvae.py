"""A very deep VAE: images to latents, and the first latents to images.

Child (2021), *Very deep VAEs generalize autoregressive models and can outperform them on images*,
arXiv 2011.10650. Any configuration; the published ImageNet-64 checkpoint fits the one that is
called ``IMAGENET64``. The module works on tensors; :func:`encode_images` and
:func:`decode_latents` take and return arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.mixture import ONE_SEED_A_PICTURE, Mixture, Noise, to_uint8, to_unit
from bids_neurodecode.models.vdvae_blocks import Activations, Decoder, Draw, Encoder
from bids_neurodecode.models.vdvae_config import VDVAEConfig
from bids_neurodecode.typing import Float32Array, Uint8Array

NOT_PICTURES = 'The VDVAE needs uint8 images of shape (n, {size}, {size}, 3); these are {found}.'
WRONG_LENGTH = (
    'Flat latents must be of shape (n, length), the length of the first k latents together; '
    'the lengths are {lengths}, the shape is {found}.'
)
BAD_COUNT = 'The model has {n} latents; the first {found} cannot be taken.'

_MOST_LENGTHS = 8  # shown in an error
_AT_ONCE = 16  # images


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoder makes of images.

    Parameters
    ----------
    latents
        In the decoder's order, (n, channels, r, r) each.
    kl
        Divergence of each latent's posterior from its prior, in nats, (n,) each.
    hidden
        The last hidden state, (n, width, h, w).
    """

    latents: tuple[Tensor, ...]
    kl: tuple[Tensor, ...]
    hidden: Tensor


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Terms of the bound, in nats a dimension (a colour of a pixel), (n,) each.

    Parameters
    ----------
    nll
        Negative log-likelihood of the images, given their latents.
    rate
        Divergence of the posteriors from the priors.
    elbo
        Their sum: a bound on the negative log-likelihood from above; less is better.
    """

    nll: Tensor
    rate: Tensor
    elbo: Tensor


class VDVAE(nn.Module):
    """A very deep VAE.

    Parameters
    ----------
    config
        What it is built from.
    """

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        for name, parameter in self.named_parameters():
            if name.endswith('.bias'):
                nn.init.zeros_(parameter)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Encoded:
        """Find the latents of images.

        Parameters
        ----------
        x
            Standardised images (see :meth:`standardise`), (n, h, w, 3).
        noise
            Where posterior samples come from; None takes the posterior means.
        """
        activations = self._activations(x)
        hidden, latents, kl = self.decoder(len(x), activations=activations, draw=Draw(noise))
        return Encoded(tuple(latents), tuple(kl), hidden)

    def first_latents(self, x: Tensor, n_latents: int) -> list[Tensor]:
        """Find the first latents of images, as :meth:`encode` does, and run no block more.

        Parameters
        ----------
        x
            Images, (n, h, w, 3), as the network takes them.
        n_latents
            How many.
        """
        return self.decoder.first_latents(self._activations(x), n_latents, Draw(None))

    def _activations(self, x: Tensor) -> Activations:
        activations: Activations = self.encoder(x.permute(0, 3, 1, 2).contiguous())
        return activations

    def decode(
        self,
        latents: Sequence[Tensor] = (),
        *,
        n_pictures: int | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """Run the decoder from its first latents.

        Parameters
        ----------
        latents
            The first k latents, (n, channels, r, r) each; any k, 0 too.
        n_pictures
            Needed where no latent is given.
        noise
            Where the other latents are sampled from their priors; None takes the prior means.

        Returns
        -------
        torch.Tensor
            The last hidden state, (n, width, h, w).
        """
        n = len(latents[0]) if latents else n_pictures or 0
        hidden: Tensor = self.decoder(n, latents=latents, draw=Draw(noise))[0]
        return hidden

    def mixture(self, hidden: Tensor) -> Mixture:
        """Turn the last hidden state into the distribution of every pixel."""
        return Mixture.from_channels(self.decoder.out_net(hidden))

    def likelihood(self, images: Tensor, noise: Noise | None = None) -> Likelihood:
        """Bound the likelihood of images.

        Parameters
        ----------
        images
            8-bit colours as numbers from 0 to 255, (n, h, w, 3).
        noise
            Where posterior samples come from (the bound holds in expectation over them); None
            takes the posterior means.
        """
        return self.bound(self.encode(self.standardise(images), noise), to_unit(images))

    def bound(self, encoded: Encoded, target: Tensor) -> Likelihood:
        """Bound the likelihood of images in [-1, 1], (n, h, w, 3), from their encoding.

        Parameters
        ----------
        encoded
            Of the images.
        target
            From -1 to 1, (n, h, w, 3).
        """
        nll = self.mixture(encoded.hidden).nll(target)
        rate = torch.stack(encoded.kl).sum(dim=0) / math.prod(target.shape[1:])
        return Likelihood(nll, rate, nll + rate)

    def standardise(self, images: Tensor) -> Tensor:
        """Standardise 8-bit colours (0 to 255) as the model was trained."""
        return (images - self.config.input_mean) / self.config.input_std


def encode_images(
    model: VDVAE, images: Uint8Array, *, n_latents: int | None = None
) -> Float32Array:
    """Find the first latents (posterior means) of images.

    Parameters
    ----------
    model
        On the device that is to compute.
    images
        Shape (n, h, w, 3), uint8, of the model's size.
    n_latents
        How many of the first latents; None takes all.

    Returns
    -------
    numpy.ndarray
        Shape (n, length), float32: see :func:`flatten_latents`.

    Raises
    ------
    DataError
        For images of another shape or type, or a number of latents that the model lacks.
    """
    _check_images(model.config, images)
    count = _checked_count(model.config, n_latents)
    rows = np.empty((len(images), latent_length(model.config, count)), dtype=np.float32)
    for start in range(0, len(images), _AT_ONCE):
        batch = slice(start, start + _AT_ONCE)
        with torch.inference_mode():
            pictures = torch.from_numpy(images[batch].astype(np.float32)).to(_like(model))
            latents = model.first_latents(model.standardise(pictures), count)
            rows[batch] = flatten_latents(latents).float().cpu().numpy()
    return rows


def decode_latents(
    model: VDVAE, flat: npt.NDArray[np.floating], *, seeds: Sequence[int] | None = None
) -> Uint8Array:
    """Make images from their first latents: what each pixel expects.

    Parameters
    ----------
    model
        On the device that is to compute.
    flat
        Shape (n, length); the length tells how many latents are given.
    seeds
        One an image: the other latents are sampled from their priors. None: prior means.

    Returns
    -------
    numpy.ndarray
        Shape (n, h, w, 3), uint8.

    Raises
    ------
    DataError
        For latents of another length, or another number of seeds.
    """
    size = model.config.image_size
    pictures = np.empty((len(flat), size, size, 3), dtype=np.uint8)
    if seeds is not None and len(seeds) != len(flat):
        raise DataError(ONE_SEED_A_PICTURE.format(n=len(flat), found=len(seeds)))
    for start in range(0, len(flat), _AT_ONCE):
        batch = slice(start, start + _AT_ONCE)
        noise = None if seeds is None else Noise(seeds[batch])
        with torch.inference_mode():
            given = np.ascontiguousarray(flat[batch], dtype=np.float32)
            latents = unflatten_latents(model.config, torch.from_numpy(given).to(_like(model)))
            pictures[batch] = to_uint8(model.mixture(model.decode(latents, noise=noise)).mean())
    return pictures


def latent_length(config: VDVAEConfig, n_latents: int | None = None) -> int:
    """Return how many values the first latents have together.

    Parameters
    ----------
    config
        What the model is built from.
    n_latents
        The first so many; None: all.

    Examples
    --------
    >>> from bids_neurodecode.models.vdvae_config import IMAGENET64
    >>> [latent_length(IMAGENET64, k) for k in (15, 31, None)]
    [13344, 91168, 1451040]
    """
    count = _checked_count(config, n_latents)
    return sum(math.prod(shape) for shape in config.latent_shapes[:count])


def flatten_latents(latents: Sequence[Tensor]) -> Tensor:
    """Join latents into rows (n, length): each in C order (channel, row, column), one by one."""
    return torch.cat([latent.flatten(1) for latent in latents], dim=1)


def unflatten_latents(config: VDVAEConfig, flat: Tensor) -> list[Tensor]:
    """Take rows (n, length) apart into the first latents; their number follows from the length.

    Parameters
    ----------
    config
        What the model is built from.
    flat
        Shape (n, length).

    Raises
    ------
    DataError
        If no number of latents has that length.
    """
    count = config.n_latents_of(flat.shape[1]) if flat.ndim == 2 else None
    if count is None:
        n = min(_MOST_LENGTHS, len(config.latent_shapes))
        lengths = ', '.join(str(latent_length(config, k)) for k in range(1, n + 1))
        more = ' ...' if len(config.latent_shapes) > n else ''
        raise DataError(WRONG_LENGTH.format(lengths=lengths + more, found=tuple(flat.shape)))
    shapes = config.latent_shapes[:count]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = torch.tensor_split(flat, ends[:-1].tolist(), dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def _like(model: VDVAE) -> Tensor:
    """Return a tensor of the model's type on its device."""
    return model.decoder.gain


def _checked_count(config: VDVAEConfig, n_latents: int | None) -> int:
    n = len(config.latent_shapes)
    count = n if n_latents is None else n_latents
    if not 1 <= count <= n:
        raise DataError(BAD_COUNT.format(n=n, found=n_latents))
    return count


def _check_images(config: VDVAEConfig, images: Uint8Array) -> None:
    size = config.image_size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        found = f'{images.dtype} {images.shape}'
        raise DataError(NOT_PICTURES.format(size=size, found=found))
