r"""The network of the small refiner, and what it is trained on; see :mod:`.refiner`.

A U-Net with cross-attention, made of diffusers' blocks. It predicts the velocity (Salimans & Ho
2022, arXiv 2202.00512, appendix D), which is easier to learn in few steps than the noise.

If ``gaussian`` is chosen, it need not learn that images are smooth. For Gaussian images of
the training pictures' power spectra S (of luminance and two opponent colours) the best denoiser
is known, the Wiener filter: with :math:`\bar\alpha` the share of signal, a cosine coefficient c of
the noisy image becomes

.. math::

    \hat c = \frac{\sqrt{\bar\alpha} S}{\bar\alpha S + 1 - \bar\alpha} c

The network adds what this misses, in units of its expected error. On photographs little training
goes further so; the condition, however, takes longer to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.models.sampling import N_TRAINED, alpha_bar

BAD_NETWORK = 'A refiner needs {need}; {name} is {found}.'

_GROUPS = 8  # of channels that are normalised together
_LEAST_POWER = 1e-6  # of images that are all alike


@dataclass(frozen=True)
class RefinerConfig:
    """What the network is built from.

    Parameters
    ----------
    n_features
        Features of an image that guide it.
    size
        Height and width of the images in pixels.
    patch
        Squares of patch x patch pixels are one position to the network, which is that much faster;
        positions are halved from level to level.
    widths
        Channels of each level, multiples of 8; all but the first attend to the features.
    n_blocks
        Residual blocks a level.
    n_tokens, token_width
        What the features are projected to.
    n_heads
        Of attention.
    gaussian
        Whether the network adds to what is known of Gaussian images.
    """

    n_features: int
    size: int = 32
    patch: int = 2
    widths: tuple[int, ...] = (32, 64, 96)
    n_blocks: int = 1
    n_tokens: int = 8
    token_width: int = 64
    n_heads: int = 4
    gaussian: bool = False

    def __post_init__(self) -> None:
        for name in ('n_features', 'patch', 'n_blocks', 'n_tokens', 'token_width', 'n_heads'):
            if getattr(self, name) < 1:
                self._refuse('at least 1', name)
        fine = all(width > 0 and width % _GROUPS == 0 for width in self.widths)
        if len(self.widths) < 2 or not fine:
            self._refuse('two or more widths, multiples of 8', 'widths')
        step = self.patch * 2 ** (len(self.widths) - 1)
        if self.size < 2 * step or self.size % step:
            self._refuse(f'a multiple of {step}, at least {2 * step}', 'size')

    def _refuse(self, need: str, name: str) -> None:
        raise ArgumentsError(BAD_NETWORK.format(need=need, name=name, found=getattr(self, name)))


class RefinerNetwork(nn.Module):
    """A U-Net on pixels that attends to features.

    Parameters
    ----------
    config
        What it is built from.
    """

    spectrum: Tensor
    signal: Tensor
    cosines: Tensor
    colours: Tensor

    def __init__(self, config: RefinerConfig) -> None:
        from diffusers import UNet2DConditionModel

        super().__init__()
        self.config = config
        make: Any = UNet2DConditionModel
        n_levels = len(config.widths)
        self.unet: Any = make(
            sample_size=config.size // config.patch,
            in_channels=3 * config.patch**2,
            out_channels=3 * config.patch**2,
            down_block_types=('DownBlock2D', *['CrossAttnDownBlock2D'] * (n_levels - 1)),
            up_block_types=(*['CrossAttnUpBlock2D'] * (n_levels - 1), 'UpBlock2D'),
            block_out_channels=config.widths,
            layers_per_block=config.n_blocks,
            cross_attention_dim=config.token_width,
            attention_head_dim=config.n_heads,  # diffusers names the number of heads so
            norm_num_groups=_GROUPS,
        )
        self.project = nn.Linear(config.n_features, config.n_tokens * config.token_width)
        self.norm = nn.LayerNorm(config.token_width)
        self.absent = nn.Parameter(torch.randn(config.n_tokens, config.token_width))
        if config.gaussian:
            self._add_gaussian()

    def _add_gaussian(self) -> None:
        config = self.config
        self.register_buffer('spectrum', torch.ones(3, config.size, config.size))
        signal = torch.from_numpy(alpha_bar().astype(np.float32))
        self.register_buffer('signal', signal, persistent=False)
        self.register_buffer('cosines', _cosines(config.size), persistent=False)
        self.register_buffer('colours', _cosines(3), persistent=False)

    def learn_spectrum(self, pictures: npt.NDArray[np.uint8]) -> None:
        """Take the power spectra of images (n, h, w, 3), alike in all directions."""
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
        power = self._waves(pixels.float() / 127.5 - 1).square().mean(dim=0)
        steps = torch.arange(self.config.size).float()
        ring = torch.hypot(steps[:, None], steps[None]).round().long().flatten()
        sums = torch.zeros(3, int(ring.max()) + 1).index_add_(1, ring, power.flatten(1))
        mean = sums / torch.bincount(ring)
        self.spectrum.copy_(mean[:, ring].view_as(power).clamp(min=_LEAST_POWER))

    def context(self, features: Tensor) -> Tensor:
        """Turn standardised features (n, n_features) into tokens (n, n_tokens, token_width)."""
        tokens = self.project(features).unflatten(1, self.absent.shape)
        normal: Tensor = self.norm(tokens)
        return normal

    def without(self, n: int) -> Tensor:
        """Return the tokens that stand for no features, (n, n_tokens, token_width)."""
        return self.absent.expand(n, *self.absent.shape)

    def forward(self, pixels: Tensor, times: Tensor, context: Tensor) -> Tensor:
        """Predict the velocity of noisy pixels, (n, 3, h, w), at times (n,).

        Parameters
        ----------
        pixels
            Shape (n, 3, h, w), from -1 to 1 before noise.
        times
            Of the schedule, (n,).
        context
            Tokens that guide, (n, n_tokens, width).
        """
        patches = functional.pixel_unshuffle(pixels, self.config.patch)
        output = self.unet(patches, times, encoder_hidden_states=context, return_dict=False)[0]
        learned = functional.pixel_shuffle(output, self.config.patch)
        if not self.config.gaussian:
            return learned
        share = self.signal[times.long()][:, None, None, None]
        known, missed = self._gaussian(pixels, share)
        return known + missed * learned

    def uncertainty(self, time: int) -> Tensor:
        """Return what the noise of a time leaves open of Gaussian images: variances of waves.

        Shape (1, 3, size, size), of the coefficients that :meth:`combine` takes.
        """
        share = self.signal[time].view(1, 1, 1, 1)
        return self.spectrum * (1 - share) / (share * self.spectrum + 1 - share)

    def _gaussian(self, pixels: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity of Gaussian images, and its expected error."""
        total = share * self.spectrum + 1 - share
        clean = self.combine(self._waves(pixels) * share.sqrt() * self.spectrum / total)
        left = (self.spectrum * (1 - share) / total).mean(dim=(1, 2, 3), keepdim=True)
        return (share.sqrt() * pixels - clean) / (1 - share).sqrt(), (left / (1 - share)).sqrt()

    def _waves(self, pixels: Tensor) -> Tensor:
        """Return cosine coefficients of luminance and two opponent colours, (n, 3, h, w)."""
        opponent = torch.einsum('kc,nchw->nkhw', self.colours, pixels)
        return self.cosines @ opponent @ self.cosines.T

    def combine(self, waves: Tensor) -> Tensor:
        """Return the pixels of cosine coefficients, (n, 3, size, size) both."""
        opponent = self.cosines.T @ waves @ self.cosines
        return torch.einsum('kc,nkhw->nchw', self.colours, opponent)


class RefinerObjective(nn.Module):
    """What is trained: the velocity at random times, with and without features.

    In evaluation the times and the noise are the same each time, so that epochs can be compared.

    Parameters
    ----------
    network
        The network.
    drop, feature_noise
        See :class:`RefinerSettings`.
    """

    signal: Tensor

    def __init__(self, network: RefinerNetwork, drop: float, feature_noise: float) -> None:
        super().__init__()
        self.network, self.drop, self.feature_noise = network, drop, feature_noise
        signal = torch.from_numpy(alpha_bar().astype(np.float32))
        self.register_buffer('signal', signal, persistent=False)

    def forward(self, pictures: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return the loss of images (n, h, w, 3), uint8, and standardised features.

        Parameters
        ----------
        pictures
            Shape (n, h, w, 3), uint8.
        features
            Shape (n, n_features).
        """
        pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
        draw = _Draws(pixels.device, fixed=not self.training)
        n = len(pixels)
        times = (draw.uniform(n) * N_TRAINED).long().clamp(max=N_TRAINED - 1)
        share = self.signal[times][:, None, None, None]
        noise = draw.normal(pixels.shape)
        noisy = share.sqrt() * pixels + (1 - share).sqrt() * noise
        velocity = share.sqrt() * noise - (1 - share).sqrt() * pixels
        if self.training:
            features = features + self.feature_noise * draw.normal(features.shape)
        context = self.network.context(features)
        kept = (draw.uniform(n) >= self.drop)[:, None, None]
        context = torch.where(kept, context, self.network.without(n))
        error = self.network(noisy, times, context) - velocity
        return {'loss': error.float().square().mean()}


class _Draws:
    """Random numbers of a batch: from the global generators, or always the same."""

    def __init__(self, device: torch.device, *, fixed: bool) -> None:
        self._device = device
        self._generator = torch.Generator().manual_seed(0) if fixed else None

    def uniform(self, n: int) -> Tensor:
        if self._generator is None:
            return torch.rand(n, device=self._device)
        return torch.rand(n, generator=self._generator).to(self._device)

    def normal(self, shape: Sequence[int]) -> Tensor:
        if self._generator is None:
            return torch.randn(shape, device=self._device)
        return torch.randn(shape, generator=self._generator).to(self._device)


def _cosines(size: int) -> Tensor:
    """Return the orthonormal cosine transform, (size, size): one wave a row."""
    waves, places = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * waves * (places + 0.5) / size)
    matrix[0] /= np.sqrt(2)
    return torch.from_numpy(matrix.astype(np.float32))
