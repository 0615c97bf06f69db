"""Networks that metrics look at images with, made of torch alone.

AlexNet, Inception v3, EfficientNet-B1 and ResNet-50 take the published weights, so that the
names and shapes of their parameters are those of torchvision; what they compute does not need
torchvision. Each gives features at named layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.inception import InceptionV3
from bids_neurodecode.text import one_line
from bids_neurodecode.typing import Float32Array

UNKNOWN_NETWORK = 'No network of metrics is called {name!r}. There are: {names}.'
OTHER_WEIGHTS = 'These are not the weights of {name}: {reason}.'
UNKNOWN_LAYER = 'The network has no layer {layer!r}; it has: {layers}.'
AT_ONCE = 4
"""Images that a CPU describes at once: with more it spends its time on fresh memory."""

Maps = Mapping[str, Tensor]


class AlexNet(nn.Module):
    """AlexNet in one column (Krizhevsky 2014, arXiv 1404.5997); layers ``features.0`` to ``.12``.

    Only the convolutional part: metrics use no other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Maps:
        """Return every layer's map."""
        maps = {}
        for name, layer in self.features.named_children():
            pixels = layer(pixels)
            maps[f'features.{name}'] = pixels
        return maps


class _Bottleneck(nn.Module):
    def __init__(self, n_inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module | None = None
        if n_inputs != 4 * width or stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(x)).relu()
        hidden = self.bn2(self.conv2(hidden)).relu()
        hidden = self.bn3(self.conv3(hidden))
        return cast(
            'Tensor', (hidden + (x if self.downsample is None else self.downsample(x))).relu()
        )


class ResNet50(nn.Module):
    """ResNet-50 (He et al. 2016, CVPR) with strides in the 3 x 3 convolutions; ``avgpool``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        n_inputs = 64
        for stage, n_blocks in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            blocks = [_Bottleneck(n_inputs, width, 1 if stage == 0 else 2)]
            blocks += [_Bottleneck(4 * width, width, 1) for _ in range(n_blocks - 1)]
            setattr(self, f'layer{stage + 1}', nn.Sequential(*blocks))
            n_inputs = 4 * width

    def forward(self, pixels: Tensor) -> Maps:
        """Return the pooled features, (n, 2048)."""
        x = functional.max_pool2d(self.bn1(self.conv1(pixels)).relu(), 3, 2, 1)
        for stage in range(1, 5):
            x = self.get_submodule(f'layer{stage}')(x)
        return {'avgpool': x.mean(dim=(2, 3))}


def _normalised(
    n_inputs: int, n_outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(n_inputs, n_outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(n_outputs),
    ]
    return nn.Sequential(*layers, *([nn.SiLU()] if act else []))


class _Squeeze(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = functional.silu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))
        return cast('Tensor', x * self.fc2(scale).sigmoid())


class _Inverted(nn.Module):
    def __init__(
        self, n_inputs: int, n_outputs: int, ratio: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        width = n_inputs * ratio
        widen = [_normalised(n_inputs, width, 1)] if ratio > 1 else []
        self.block = nn.Sequential(
            *widen,
            _normalised(width, width, kernel, stride, groups=width),
            _Squeeze(width, max(1, n_inputs // 4)),
            _normalised(width, n_outputs, 1, act=False),
        )
        self._residual = n_inputs == n_outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        output = self.block(x)
        return cast('Tensor', output + x if self._residual else output)


class EfficientNetB1(nn.Module):
    """EfficientNet-B1 (Tan & Le 2019, arXiv 1905.11946); layer ``avgpool``."""

    # (ratio, kernel, stride, channels, blocks) of each stage
    _STAGES = (
        (1, 3, 1, 16, 2), (6, 3, 2, 24, 3), (6, 5, 2, 40, 3), (6, 3, 2, 80, 4),
        (6, 5, 1, 112, 4), (6, 5, 2, 192, 5), (6, 3, 1, 320, 2),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        n_inputs = 32
        stages = [_normalised(3, n_inputs, 3, 2)]
        for ratio, kernel, stride, width, n_blocks in self._STAGES:
            blocks = [_Inverted(n_inputs, width, ratio, kernel, stride)]
            blocks += [_Inverted(width, width, ratio, kernel, 1) for _ in range(n_blocks - 1)]
            stages.append(nn.Sequential(*blocks))
            n_inputs = width
        self.features = nn.Sequential(*stages, _normalised(n_inputs, 1280, 1))

    def forward(self, pixels: Tensor) -> Maps:
        """Return the pooled features, (n, 1280)."""
        return {'avgpool': self.features(pixels).mean(dim=(2, 3))}


class MetricNetwork:
    """A frozen network that takes and gives arrays.

    Parameters
    ----------
    network
        Maps by layer from pixels (n, 3, size, size).
    device
        ``cpu`` or ``cuda``.
    """

    def __init__(self, network: nn.Module, device: Literal['cpu', 'cuda'] = 'cpu') -> None:
        check_device(device)
        self._network = network.eval().requires_grad_(requires_grad=False).to(device)
        self._device = device

    def __call__(self, pixels: Float32Array, layers: Sequence[str]) -> dict[str, Float32Array]:
        """Return the features (n, ...) of some layers."""
        step = AT_ONCE if self._device == 'cpu' else max(1, len(pixels))
        starts = range(0, max(1, len(pixels)), step)
        parts = [self._maps(pixels[at : at + step], layers) for at in starts]
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in layers}

    def _maps(self, pixels: Float32Array, layers: Sequence[str]) -> dict[str, Float32Array]:
        with torch.inference_mode():
            maps = self._network(torch.from_numpy(pixels).to(self._device))
        for layer in layers:
            if layer not in maps:
                raise ArgumentsError(UNKNOWN_LAYER.format(layer=layer, layers=', '.join(maps)))
        return {layer: maps[layer].float().cpu().numpy() for layer in layers}


class ClipEmbedding(nn.Module):
    """CLIP's embedding of an image; layer ``image_embeds``.

    Parameters
    ----------
    vision
        ``CLIPVisionModelWithProjection`` of transformers.
    """

    def __init__(self, vision: nn.Module) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixels: Tensor) -> Maps:
        """Return the embeddings, (n, 768) as published."""
        return {'image_embeds': self.vision(pixel_values=pixels).image_embeds}


_NETWORKS: dict[str, type[nn.Module]] = {
    'alexnet': AlexNet,
    'inception-v3': InceptionV3,
    'efficientnet-b1-v1': EfficientNetB1,
    'efficientnet-b1-v2': EfficientNetB1,
    'swav-resnet50': ResNet50,
}
# what published files hold beside the features
_LEFT_OUT = ('classifier.', 'fc.', 'AuxLogits.', 'projection_head.', 'prototypes.')


def metric_network(
    name: str,
    weights: Mapping[str, Tensor],
    *,
    device: Literal['cpu', 'cuda'] = 'cpu',
) -> MetricNetwork:
    """Make a network of metrics from its published weights.

    Parameters
    ----------
    name
        As in the manifest of weights.
    weights
        The published state dict; a prefix ``module.`` is taken off.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    ArgumentsError
        If no network has that name.
    DataError
        If these are other weights.
    """
    if name not in _NETWORKS:
        raise ArgumentsError(UNKNOWN_NETWORK.format(name=name, names=', '.join(_NETWORKS)))
    named = {key.removeprefix('module.'): value for key, value in weights.items()}
    kept = {key: value for key, value in named.items() if not key.startswith(_LEFT_OUT)}
    with torch.device('meta'):
        network = _NETWORKS[name]()
    try:
        network.load_state_dict(kept, assign=True)
    except RuntimeError as error:
        reason = one_line(error)[:300]
        raise DataError(OTHER_WEIGHTS.format(name=name, reason=reason)) from error
    return MetricNetwork(network, device)
