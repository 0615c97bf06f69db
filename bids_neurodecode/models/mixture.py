"""Images as mixtures of discretised logistics: their likelihood, and what is read out of them.

Each pixel has ``m`` components that its three colours share; green's mean depends on red, and
blue's on both (Salimans et al. 2017, PixelCNN++, arXiv 1701.05517, equations 1 and 2). Colours lie
in [-1, 1], where the 256 levels are 2/255 apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_neurodecode.errors import DataError

WRONG_CHANNELS = (
    'A mixture over three colours has 10 channels a component; {found} channels cannot be that.'
)
ONE_SEED_A_PICTURE = 'Sampling needs one seed per image: {n} image(s), {found} seed(s).'

MIN_LOG_SCALE = -7.0
_CHANNELS_A_COMPONENT = 10  # a logit; and for each colour a mean, a log-scale, a coefficient
_HALF_STEP = 1 / 255


class Noise:
    """Random numbers for a batch of images, each from its own seed.

    An image's noise depends on its seed alone: not on the other images of the batch, nor on
    the device, since the numbers are drawn on the CPU.

    Parameters
    ----------
    seeds
        One an image.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, like: Tensor) -> Tensor:
        """Draw standard normal numbers in the shape, type and place of ``like``, (n, ...)."""
        self._check(like)
        draws = [torch.randn(like.shape[1:], generator=g) for g in self._generators]
        return torch.stack(draws).to(like)

    def _check(self, like: Tensor) -> None:
        if len(like) != len(self):
            raise DataError(ONE_SEED_A_PICTURE.format(n=len(like), found=len(self)))


@dataclass(frozen=True, eq=False)
class Mixture:
    """The components of every pixel.

    Parameters
    ----------
    log_weights
        Logarithms of the components' probabilities, (n, h, w, m).
    means, log_scales, coefficients
        Of each colour, (n, h, w, 3, m). ``coefficients`` are green's on red, blue's on red, and
        blue's on green.
    """

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    coefficients: Tensor

    @classmethod
    def from_channels(cls, channels: Tensor) -> Mixture:
        """Take apart a network's output of shape (n, h, w, 10 m)."""
        n, height, width, depth = channels.shape
        n_components, rest = divmod(depth, _CHANNELS_A_COMPONENT)
        if rest or not n_components:
            raise DataError(WRONG_CHANNELS.format(found=depth))
        logits = channels[..., :n_components]
        colours = channels[..., n_components:].reshape(n, height, width, 3, 3 * n_components)
        means, log_scales, coefficients = colours.chunk(3, dim=-1)
        return cls(
            functional.log_softmax(logits, dim=-1),
            means,
            log_scales.clamp(min=MIN_LOG_SCALE),
            coefficients.tanh(),
        )

    def nll(self, pictures: Tensor) -> Tensor:
        """Return the negative log-likelihood of 8-bit images, in nats a dimension.

        Parameters
        ----------
        pictures
            Colours in [-1, 1], (n, h, w, 3).

        Returns
        -------
        torch.Tensor
            One number per image, (n,).
        """
        x = pictures[..., None]
        centred = x - self._conditional_means(x)
        precision = torch.exp(-self.log_scales)
        upper = precision * (centred + _HALF_STEP)
        lower = precision * (centred - _HALF_STEP)
        below = functional.logsigmoid(upper)  # log of the mass below the level's upper edge
        above = functional.logsigmoid(-lower)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no cancellation
        level = below + above + torch.log(-torch.expm1(-2 * _HALF_STEP * precision))
        # the lowest and the highest level hold the whole tail
        log_p = torch.where(x < -0.999, below, torch.where(x > 0.999, above, level))
        pixels = torch.logsumexp(log_p.sum(dim=3) + self.log_weights, dim=-1)
        return -pixels.flatten(1).sum(dim=1) / math.prod(pictures.shape[1:])

    def mean(self) -> Tensor:
        """Return the images that each pixel expects, (n, h, w, 3), without any randomness.

        The weighted means of the components, taken red first: green and blue depend on what was
        read out for the colours before them.
        """
        weights = self.log_weights.exp()[..., None, :]
        return _chain_colours(
            (weights * self.means).sum(dim=-1), (weights * self.coefficients).sum(dim=-1)
        )

    def _conditional_means(self, x: Tensor) -> Tensor:
        red, green = x[..., 0, :], x[..., 1, :]
        on_red, blue_on_red, blue_on_green = self.coefficients.unbind(dim=3)
        means = self.means.unbind(dim=3)
        return torch.stack(
            [
                means[0],
                means[1] + on_red * red,
                means[2] + blue_on_red * red + blue_on_green * green,
            ],
            dim=3,
        )


class MixtureHead(nn.Module):
    """A 1 x 1 convolution from hidden states to the channels of a :class:`Mixture`."""

    def __init__(self, width: int, n_components: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, n_components * _CHANNELS_A_COMPONENT, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Turn hidden states (n, width, h, w) into channels (n, h, w, 10 m)."""
        channels: Tensor = self.out_conv(hidden)
        return channels.permute(0, 2, 3, 1)


def to_unit(images: Tensor) -> Tensor:
    """Bring 8-bit colours (0 to 255) to [-1, 1]."""
    return images / 127.5 - 1


def to_uint8(pictures: Tensor) -> npt.NDArray[np.uint8]:
    """Bring colours in [-1, 1] to 8 bits, cutting off decimals as the published model does."""
    levels = ((pictures + 1) * 127.5).clamp(0, 255)
    return np.asarray(levels.detach().cpu().numpy().astype(np.uint8))


def _chain_colours(values: Tensor, coefficients: Tensor) -> Tensor:
    red = values[..., 0].clamp(-1, 1)
    green = (values[..., 1] + coefficients[..., 0] * red).clamp(-1, 1)
    blue = (values[..., 2] + coefficients[..., 1] * red + coefficients[..., 2] * green).clamp(
        -1, 1
    )
    return torch.stack([red, green, blue], dim=-1)
