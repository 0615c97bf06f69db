"""EfficientNet-Lite and MobileNetV2 in torch alone, with maps at every stage.

Both are chains of inverted residuals (Sandler et al. 2018, CVPR, table 2; Tan & Le 2019, ICML, for
the widths and depths; the Lite variants leave squeeze-and-excitation out and rectify at 6). They
take published ImageNet weights, and gradients with respect to pixels.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bids_neurodecode.errors import DataError
from bids_neurodecode.extras import LAYERS
from bids_neurodecode.text import one_line

OTHER_WEIGHTS = 'These are not the weights of {name}: {reason}.'


@dataclass(frozen=True)
class Architecture:
    """What tells one network of the family from another.

    Parameters
    ----------
    stages
        (ratio, kernel, stride, channels, blocks) of each.
    size
        Pixels a side that it was trained with.
    mean, std
        Of the colours from 0 to 1.
    same
        TensorFlow's padding (the odd pixel at the right and the bottom), or the same on all sides.
    eps
        Of batch normalisation.
    """

    stages: tuple[tuple[int, int, int, int, int], ...]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    same: bool
    eps: float


_LITE = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
_MOBILE = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 3, 2, 32, 3), (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3), (6, 3, 2, 160, 3), (6, 3, 1, 320, 1),
)  # fmt: skip


def _scaled(width: float, depth: float) -> tuple[tuple[int, int, int, int, int], ...]:
    """Scale widths to multiples of 8 and depths; the first and the last stage stay one deep."""
    stages = []
    for number, (ratio, kernel, stride, channels, blocks) in enumerate(_LITE):
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        rounded += 8 if rounded < 0.9 * channels * width else 0
        repeats = blocks if number in {0, len(_LITE) - 1} else math.ceil(blocks * depth)
        stages.append((ratio, kernel, stride, rounded, repeats))
    return tuple(stages)


_CENTRE, _SPREAD = (127 / 255,) * 3, (128 / 255,) * 3
ARCHITECTURES: Mapping[str, Architecture] = {
    'efficientnet-lite0': Architecture(_LITE, 224, _CENTRE, _SPREAD, same=True, eps=1e-3),
    'efficientnet-lite2': Architecture(
        _scaled(1.1, 1.2), 260, _CENTRE, _SPREAD, same=True, eps=1e-3
    ),
    'mobilenetv2': Architecture(
        _MOBILE, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), same=False, eps=1e-5
    ),
}


class _Convolution(nn.Conv2d):
    """A convolution that keeps the size (divided by its stride)."""

    def __init__(
        self, n_inputs: int, n_outputs: int, kernel: int, stride: int, groups: int, *, same: bool
    ) -> None:
        padding = 0 if same else kernel // 2
        super().__init__(n_inputs, n_outputs, kernel, stride, padding, groups=groups, bias=False)
        self._same = same

    def forward(self, x: Tensor) -> Tensor:
        if self._same:
            step, kernel = self.stride[0], self.kernel_size[0]
            missing = [
                max(0, (math.ceil(n / step) - 1) * step + kernel - n) for n in x.shape[:1:-1]
            ]
            # where one pixel more is missing behind than before, a first column of zeros in the
            # kernel stands for it: no map has to be copied into a larger one
            (columns, rows), odd = ((n + 1) // 2 for n in missing), [n % 2 for n in missing]
            weight = functional.pad(self.weight, [odd[0], 0, odd[1], 0])
            return functional.conv2d(
                x, weight, self.bias, self.stride, (rows, columns), groups=self.groups
            )
        return super().forward(x)


class _InvertedResidual(nn.Module):
    def __init__(
        self, n_inputs: int, n_outputs: int, ratio: int, kernel: int, stride: int, of: Architecture
    ) -> None:
        super().__init__()
        width = n_inputs * ratio
        layers: list[nn.Module] = []
        if ratio > 1:
            layers += _normalised(n_inputs, width, 1, 1, 1, of)
        layers += _normalised(width, width, kernel, stride, width, of)
        layers += _normalised(width, n_outputs, 1, 1, 1, of)[:2]
        self.conv = nn.Sequential(*layers)
        self._residual = n_inputs == n_outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        output = self.conv(x)
        return cast('Tensor', output + x if self._residual else output)


def _normalised(
    n_inputs: int, n_outputs: int, kernel: int, stride: int, groups: int, of: Architecture
) -> list[nn.Module]:
    return [
        _Convolution(n_inputs, n_outputs, kernel, stride, groups, same=of.same),
        nn.BatchNorm2d(n_outputs, eps=of.eps),
        nn.ReLU6(inplace=True),
    ]


class ConvNet(nn.Module):
    """A chain of inverted residuals.

    Parameters
    ----------
    architecture
        See :data:`ARCHITECTURES`.
    n_classes
        Of a classifier after the pooled features, layer ``logits``; 0: none.
    """

    def __init__(self, architecture: Architecture, n_classes: int = 0) -> None:
        super().__init__()
        self.architecture = architecture
        n_inputs = 32
        layers: list[nn.Module] = [nn.Sequential(*_normalised(3, n_inputs, 3, 2, 1, architecture))]
        self._ends: dict[int, str] = {}
        for number, (ratio, kernel, stride, channels, n_blocks) in enumerate(architecture.stages):
            for block in range(n_blocks):
                step = stride if block == 0 else 1
                layers.append(
                    _InvertedResidual(n_inputs, channels, ratio, kernel, step, architecture)
                )
                n_inputs = channels
            self._ends[len(layers) - 1] = LAYERS[number]
        layers.append(nn.Sequential(*_normalised(n_inputs, 1280, 1, 1, 1, architecture)))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, n_classes) if n_classes else None

    def forward(self, pixels: Tensor, until: str | None = None) -> dict[str, Tensor]:
        """Return every layer's values for standardised pixels (n, 3, size, size).

        With ``until`` the stages after that one are not computed.

        Parameters
        ----------
        pixels
            Shape (n, 3, size, size), standardised.
        until
            Name of the last stage; None: all, and ``avgpool``.
        """
        maps = {}
        for number, layer in enumerate(self.features):
            pixels = layer(pixels)
            if number in self._ends:
                maps[self._ends[number]] = pixels
                if self._ends[number] == until:
                    return maps
        maps['avgpool'] = pixels.mean(dim=(2, 3))
        if self.classifier is not None:
            maps['logits'] = self.classifier(maps['avgpool'])
        return maps

    def standardise(self, pixels: Tensor, size: int | None = None) -> Tensor:
        """Bring pixels (n, 3, h, w) from 0 to 1 to the size and scale of :meth:`forward`.

        Parameters
        ----------
        pixels
            Of any size.
        size
            Pixels a side; those of the training if left out.
        """
        size = size or self.architecture.size
        if pixels.shape[-2:] != (size, size):
            pixels = functional.interpolate(
                pixels, (size, size), mode='bilinear', antialias=True, align_corners=False
            )
        mean, std = (
            pixels.new_tensor(values)[:, None, None]
            for values in (self.architecture.mean, self.architecture.std)
        )
        return (pixels - mean) / std


def make_convnet(name: str, weights: Mapping[str, Tensor]) -> ConvNet:
    """Make a frozen network from its published weights.

    Parameters
    ----------
    name
        Of :data:`ARCHITECTURES`.
    weights
        The published state dict.

    Raises
    ------
    DataError
        If these are other weights.
    """
    named = {_renamed(key, ARCHITECTURES[name].stages): value for key, value in weights.items()}
    classes = named.get('classifier.bias')
    with torch.device('meta'):
        network = ConvNet(ARCHITECTURES[name], 0 if classes is None else len(classes))
    try:
        network.load_state_dict(named, assign=True)
    except RuntimeError as error:
        reason = one_line(error)[:300]
        raise DataError(OTHER_WEIGHTS.format(name=name, reason=reason)) from error
    folded = _folded(network.eval())
    # convolutions of one pixel are several times faster where channels lie together
    convert_conv2d_weight_memory_format(folded, torch.channels_last)
    return folded.requires_grad_(requires_grad=False)


def _folded(network: ConvNet) -> ConvNet:
    """Put what normalises a convolution's output into its weights: the same but for rounding."""
    for chain in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
        for number, (layer, after) in enumerate(itertools.pairwise(chain)):
            if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                chain[number] = fuse_conv_bn_eval(layer, after)
                chain[number + 1] = nn.Identity()
    return network


_OUTSIDE = {'_conv_stem': 'features.0.0', '_bn0': 'features.0.1', '_fc': 'classifier'}
_INSIDE = ('_expand_conv', '_bn0', '', '_depthwise_conv', '_bn1', '', '_project_conv', '_bn2')


def _renamed(key: str, stages: Sequence[tuple[int, ...]]) -> str:
    """Return the name here of a parameter of the published EfficientNet-Lite files."""
    last = sum(stage[-1] for stage in stages) + 1
    part, _, rest = key.partition('.')
    if part in {'_conv_head', '_bn1'}:
        return f'features.{last}.{int(part == "_bn1")}.{rest}'
    if part in _OUTSIDE:
        return f'{_OUTSIDE[part]}.{rest}'
    inside = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(.*)', key)
    if inside is None:
        return key
    block, layer, rest = inside.groups()
    place = _INSIDE.index(layer) - (3 if block == '0' else 0)  # the first is not widened
    return f'features.{int(block) + 1}.conv.{place}.{rest}'
