"""What the perceptual loss compares: maps of VGG16, or of a Gabor bank that needs no weights.

The one in use is chosen by name and says its name; neither takes the place of the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_neurodecode.errors import ArgumentsError

NO_WEIGHTS = (
    'The perceptual loss "vgg16" needs the ImageNet weights of VGG16, which are not there. Give '
    'them, or choose "gabor" or "none".'
)
WRONG_WEIGHTS = (
    'These are not the weights of VGG16: {key} {reason}. Give the ImageNet weights as '
    'torchvision names them.'
)
UNKNOWN_FEATURES = 'No perceptual features are called {name!r}. Choose vgg16, gabor or none.'

FeatureName = Literal['vgg16', 'gabor', 'none']

# channels of the convolutions of each block of VGG16 (Simonyan & Zisserman 2015), and the number
# that torchvision gives to each convolution
_VGG_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_VGG_NUMBERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_VGG_SIZE = 224
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


class PictureMaps(Protocol):
    """Maps of images, the same way every time."""

    @property
    def name(self) -> str:
        """What the report calls them."""

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """Turn images (n, 3, height, width) into maps, each (n, channels, rows, columns)."""


def perceptual_distance(features: PictureMaps, a: Tensor, b: Tensor) -> Tensor:
    """Sum over maps of the mean over positions of 1 - cosine over channels (a scalar).

    No gradient goes into ``b``, the truth.

    Parameters
    ----------
    features
        Turns images (n, 3, h, w) into maps (n, n_channels, rows, columns).
    a, b
        Images (n, 3, h, w) each, from 0 to 1.
    """
    with torch.autocast(a.device.type, enabled=False):
        with torch.no_grad():
            wanted = features(b.float())
        found = features(a.float())
        distances = [
            1 - functional.cosine_similarity(x, y, dim=1).mean()
            for x, y in zip(found, wanted, strict=True)
        ]
        return torch.stack(distances).sum()


def picture_maps(
    name: FeatureName, vgg16: Mapping[str, Tensor] | None = None
) -> PictureMaps | None:
    """Make the features with this name; None for ``none``.

    Parameters
    ----------
    vgg16
        ImageNet weights of VGG16 with torchvision's names; only ``vgg16`` needs them.

    Raises
    ------
    ArgumentsError
        If the name is unknown, or the weights are missing or others.
    """
    if name == 'none':
        return None
    if name == 'gabor':
        return GaborMaps()
    if name != 'vgg16':
        raise ArgumentsError(UNKNOWN_FEATURES.format(name=name))
    if vgg16 is None:
        raise ArgumentsError(NO_WEIGHTS)
    return VGG16Maps(vgg16)


class VGG16Maps(nn.Module):
    """Maps after each of the five pooling layers of VGG16.

    As published, images are resized to 224 pixels and stretched to [0, 1] over the whole batch
    instead of being standardised by the means of ImageNet.

    Parameters
    ----------
    weights
        torchvision's names (``features.0.weight``, ``features.0.bias``, ...); what belongs to
        other layers is left alone.
    """

    name = 'vgg16'

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        n_in = 3
        for numbers, widths in zip(_VGG_NUMBERS, _VGG_BLOCKS, strict=True):
            for number, n_out in zip(numbers, widths, strict=True):
                shape = (n_out, n_in, 3, 3)
                weight = _vgg_tensor(weights, f'features.{number}.weight', shape)
                bias = _vgg_tensor(weights, f'features.{number}.bias', (n_out,))
                # not persistent: frozen weights belong to no checkpoint of ours
                self.register_buffer(f'weight{number}', weight, persistent=False)
                self.register_buffer(f'bias{number}', bias, persistent=False)
                n_in = n_out

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return five maps, of 112, 56, 28, 14 and 7 positions a side."""
        size = (_VGG_SIZE, _VGG_SIZE)
        x = functional.interpolate(pictures, size, mode='bilinear', align_corners=False)
        x = stretch(x, (0, 1, 2, 3))
        maps = []
        for numbers in _VGG_NUMBERS:
            for number in numbers:
                weight, bias = getattr(self, f'weight{number}'), getattr(self, f'bias{number}')
                x = functional.conv2d(x, weight, bias, padding=1).relu()
            x = functional.max_pool2d(x, 2)
            maps.append(x)
        return maps


class GaborMaps(nn.Module):
    """Energies of Gabor wavelets, one map per frequency, and coarse colour: no weights needed.

    Parameters
    ----------
    frequencies
        Cycles an image; those of more than a quarter of its pixels are left out.
    """

    name = 'gabor'

    n_orientations, bandwidth, cells = 8, 1.0, 8
    """Orientations, evenly from 0 to 180 degrees; octaves, full width at half height; and cells
    along a side over which colour is averaged."""

    def __init__(self, frequencies: tuple[float, ...] = (2, 4, 8, 16)) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.register_buffer('luminance', torch.tensor(_LUMINANCE), persistent=False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return maps of energies (n, n_orientations + 1, f, f) and of colour (n, 4, 8, 8).

        The last channel of each is a constant, the level at which differences begin to count:
        two uniform places are then alike rather than incomparable.
        """
        grey = torch.einsum('nchw,c->nhw', pictures, cast('Tensor', self.luminance))
        used = [f for f in self.frequencies if 4 * f <= min(grey.shape[1:])]
        maps = [_with_floor(self.energy(grey, f), 0.02) for f in used]
        colour = functional.adaptive_avg_pool2d(pictures, self.cells)
        return [*maps, _with_floor(colour, 0.1)]

    def energy(self, grey: Tensor, frequency: float) -> Tensor:
        """Quadrature energy (n, n_orientations, rows, columns) of luminance (n, h, w).

        The amplitude of a grating gives itself; what a uniform image would give is taken off
        (Daugman 1985, J Opt Soc Am A 2:1160).

        Parameters
        ----------
        grey
            Luminance, (n, h, w).
        frequency
            Cycles an image.
        """
        angles = _ramp(self.n_orientations, grey) * math.pi / self.n_orientations
        rows = self._factor(grey, -2, frequency, angles.sin())
        columns = self._factor(grey, -1, frequency, angles.cos())
        response = torch.einsum('oih,nhw,ojw->noij', rows, grey.to(rows.dtype), columns)
        tall, wide = rows[0].abs(), columns[0].abs()
        weight = tall.sum(-1)[:, None] * wide.sum(-1)[None, :]
        local = (tall @ grey @ wide.T)[:, None] / weight
        uniform = rows.sum(-1)[:, :, None] * columns.sum(-1)[:, None, :]
        parts = torch.view_as_real(response - local * uniform) * 2 / weight[..., None]
        return (parts.square().sum(-1) + 1e-12).sqrt()  # has a slope at 0, too

    def _factor(self, grey: Tensor, axis: int, frequency: float, slopes: Tensor) -> Tensor:
        """Return the wavelets along one axis, (n_orientations, n_positions, n_pixels)."""
        shorter, n_pixels = min(grey.shape[-2:]), grey.shape[axis]
        extent = n_pixels / shorter
        ratio = (2**self.bandwidth + 1) / (2**self.bandwidth - 1)
        sigma = math.sqrt(2 * math.log(2)) / (2 * math.pi * frequency) * ratio
        n_positions = max(1, round(frequency * extent))
        centres = (_ramp(n_positions, grey) + 0.5) * extent / n_positions
        offsets = (_ramp(n_pixels, grey) + 0.5) / shorter - centres[:, None]
        phase = 2 * math.pi * frequency * slopes[:, None, None] * offsets
        return torch.polar(torch.exp(-(offsets**2) / (2 * sigma**2)).expand_as(phase), phase)


def stretch(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Stretch values to [0, 1] by minimum and maximum over ``dims``; uniform ones become 0.

    Parameters
    ----------
    values
        Of any shape.
    dims
        Axes over which minimum and maximum are taken.
    """
    low = values.amin(dims, keepdim=True)
    span = values.amax(dims, keepdim=True) - low
    return (values - low) / span.clamp_min(torch.finfo(values.dtype).eps)


def _ramp(n: int, like: Tensor) -> Tensor:
    return torch.arange(n, device=like.device, dtype=like.dtype)


def _with_floor(maps: Tensor, level: float) -> Tensor:
    return torch.cat([maps, torch.full_like(maps[:, :1], level)], dim=1)


def _vgg_tensor(weights: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in weights:
        raise ArgumentsError(WRONG_WEIGHTS.format(key=key, reason='is missing'))
    tensor = weights[key]
    if tuple(tensor.shape) != shape:
        reason = f'has shape {tuple(tensor.shape)}, not {shape}'
        raise ArgumentsError(WRONG_WEIGHTS.format(key=key, reason=reason))
    return tensor.detach().float()
