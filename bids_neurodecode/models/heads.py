r"""Encoding heads: features of an image to a volume of any shape, or to masked voxels.

Four networks: linear; a multilayer perceptron that treats each query (a row of the features) by
itself; a network of sines (SIREN; Sitzmann et al. 2020, arXiv 2006.09661); and the convolutional
network of figure 2 of the reproduction of VISION (Fizycki 2025), which has 798,734 parameters for
volumes of 81 x 104 x 83.

All take features (n, n_features) and return (n, n_voxels): the voxels of the mask, in its C order
(of the whole volume where there is no mask). How flat features become queries or maps is part of
the design.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_neurodecode.errors import ArgumentsError, DataError

BAD_DESIGN = 'An encoding head needs {need}; {name} is {found}.'
WRONG_FEATURES = 'This encoding head takes features of shape (n, {expected}); these are {found}.'
BAD_MASK = 'The mask of an encoding head must be boolean, of shape {shape}; it is {found}.'

Kind = Literal['linear', 'mlp', 'siren', 'cnn']

_CHANNELS = 32
"""Channels of the maps that features are laid out in where the design does not say."""


@dataclass(frozen=True)
class HeadDesign:
    """Sizes of an encoding head.

    Parameters
    ----------
    kind
        Which network.
    n_features
        Features of an image.
    shape
        The volume, (x, y, z).
    n_voxels
        Voxels predicted: all of the volume, or those of a mask.
    n_queries
        Queries that the features are cut into (``mlp``); 768 of 32 values in the reproduction,
        1 for features without that structure.
    hidden, width
        Width of the hidden layer, and of what is kept of each query (``mlp``); width of the sine
        layers (``siren``: ``hidden``).
    n_hidden
        Hidden sine layers after the first.
    w0
        Frequency factor of the sines.
    map_shape
        Channels, height, width of the maps (``cnn``); features that are fewer are followed by
        zeros. None: 32 channels, square; (32, 32, 24) for the 24,576 features of BLIP.
    """

    kind: Kind
    n_features: int
    shape: tuple[int, int, int]
    n_voxels: int
    n_queries: int = 1
    hidden: int = 256
    width: int = 256
    n_hidden: int = 3
    w0: float = 30.0
    map_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        self._need(self.kind in {'linear', 'mlp', 'siren', 'cnn'}, 'a known network', 'kind')
        for name in ('n_features', 'n_voxels', 'n_queries', 'hidden', 'width'):
            self._need(getattr(self, name) >= 1, '1 or more', name)
        self._need(self.n_hidden >= 0 and self.w0 > 0, 'positive settings of its sines', 'w0')
        self._need(len(self.shape) == 3 and min(self.shape) >= 1, 'three axes', 'shape')
        self._need(
            self.n_voxels <= math.prod(self.shape), 'no more voxels than its volume', 'n_voxels'
        )
        self._need(
            self.kind != 'mlp' or self.n_features % self.n_queries == 0,
            'a number of queries that divides the features',
            'n_queries',
        )
        self._need(
            math.prod(self.maps) >= self.n_features, 'maps that hold all features', 'map_shape'
        )

    def _need(self, met: bool, need: str, name: str) -> None:
        if not met:
            raise ArgumentsError(
                BAD_DESIGN.format(need=need, name=name, found=getattr(self, name))
            )

    @property
    def maps(self) -> tuple[int, int, int]:
        """Channels, height and width of the maps."""
        if self.map_shape is not None:
            return self.map_shape
        if self.n_features == 32 * 768:
            return (32, 32, 24)
        side = math.ceil(math.sqrt(self.n_features / _CHANNELS))
        return (_CHANNELS, side, side)

    def describe(self) -> dict[str, Any]:
        """Return all fields (JSON)."""
        return asdict(self)

    @classmethod
    def from_description(cls, fields: Mapping[str, Any]) -> HeadDesign:
        """Rebuild a design from :meth:`describe`."""
        triples = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
        return cls(**{**fields, **triples})


def make_head(design: HeadDesign, mask: npt.NDArray[np.bool_] | None = None) -> nn.Module:
    """Make a head with fresh weights (from torch's global generator).

    Parameters
    ----------
    design
        Its sizes.
    mask
        Boolean array of the design's shape with ``n_voxels`` true voxels; None where all voxels
        of the volume are predicted. Only ``cnn`` looks at it: the others have one output a voxel.

    Raises
    ------
    ArgumentsError
        If the mask does not fit the design.
    """
    whole = math.prod(design.shape) == design.n_voxels
    if mask is not None or (design.kind == 'cnn' and not whole):
        found = None if mask is None else (mask.dtype, mask.shape, int(mask.sum()))
        if found != (np.dtype(bool), design.shape, design.n_voxels):
            shape = f'{design.shape} with {design.n_voxels} voxels'
            raise ArgumentsError(BAD_MASK.format(shape=shape, found=found))
    if design.kind == 'linear':
        return nn.Linear(design.n_features, design.n_voxels)
    if design.kind == 'mlp':
        return QueryMLP(design)
    if design.kind == 'siren':
        return Siren(design)
    volume = MapCNN(design)
    return volume if whole else Masked(volume, torch.from_numpy(np.asarray(mask)))


class QueryMLP(nn.Module):
    """Two layers for each query, the same for all of them, then one from all to the voxels."""

    def __init__(self, design: HeadDesign) -> None:
        super().__init__()
        self.n_queries = design.n_queries
        self.layers = nn.Sequential(
            nn.Linear(design.n_features // design.n_queries, design.hidden),
            nn.ReLU(),
            nn.Linear(design.hidden, design.width),
            nn.ReLU(),
        )
        self.out = nn.Linear(design.n_queries * design.width, design.n_voxels)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (n, n_features) into (n, n_voxels)."""
        queries = features.reshape(len(features), self.n_queries, -1)
        voxels: Tensor = self.out(self.layers(queries).flatten(1))
        return voxels


class Sine(nn.Module):
    r"""A layer :math:`\sin(\omega_0 (Wx + b))`.

    Weights are uniform: between :math:`\pm 1 / n` in the first layer, between
    :math:`\pm \sqrt{6 / n} / \omega_0` in others, n being the number of inputs; then the
    activations of every layer have the same distribution. Biases are PyTorch's, as published.
    """

    def __init__(self, n_in: int, n_out: int, w0: float, *, first: bool) -> None:
        super().__init__()
        self.linear, self.w0 = nn.Linear(n_in, n_out), w0
        sine_init(self.linear, w0, first=first)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (n, n_in) into (n, n_out), between -1 and 1."""
        return torch.sin(self.w0 * self.linear(x))


def sine_init(linear: nn.Linear, w0: float, *, first: bool = False) -> None:
    """Draw the weights of a layer as published for networks of sines; see :class:`Sine`.

    Parameters
    ----------
    linear
        The layer; changed in place.
    w0
        Frequency of the sines, radians per unit.
    first
        Whether it is the network's first layer.
    """
    n_in = linear.in_features
    limit = 1 / n_in if first else math.sqrt(6 / n_in) / w0
    nn.init.uniform_(linear.weight, -limit, limit)


class Siren(nn.Module):
    """Sine layers from the features, then a linear one to the voxels."""

    def __init__(self, design: HeadDesign) -> None:
        super().__init__()
        sines = [Sine(design.n_features, design.hidden, design.w0, first=True)]
        sines += [
            Sine(design.hidden, design.hidden, design.w0, first=False)
            for _ in range(design.n_hidden)
        ]
        self.sines = nn.Sequential(*sines)
        self.out = nn.Linear(design.hidden, design.n_voxels)
        sine_init(self.out, design.w0)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (n, n_features) into (n, n_voxels)."""
        voxels: Tensor = self.out(self.sines(features))
        return voxels


class MapCNN(nn.Module):
    """Convolutions over maps, whose channels become x, rows y and columns z of the volume.

    Three convolutions (to 64, 128, 256 channels) and two transposed ones that double the size
    (to 128, then to as many channels as the volume has along x), each with batch normalisation,
    and rectified but for the last; then one linear layer along the rows (to y), one along the
    columns (to z).
    """

    def __init__(self, design: HeadDesign) -> None:
        super().__init__()
        self.maps = design.maps
        channels, height, width = design.maps
        x, y, z = design.shape
        layers: list[nn.Module] = []
        for n_in, n_out in ((channels, 64), (64, 128), (128, 256)):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
        for n_in, n_out in ((256, 128), (128, x)):
            layers += [
                nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.rows = nn.Linear(4 * height, y)
        self.columns = nn.Linear(4 * width, z)

    def volume(self, features: Tensor) -> Tensor:
        """Turn features (n, n_features) into volumes (n, x, y, z)."""
        missing = math.prod(self.maps) - features[0].numel()
        flat = nn.functional.pad(features.flatten(1), (0, missing))
        planes = self.layers(flat.reshape(-1, *self.maps))  # (n, x, 4 height, 4 width)
        planes = self.rows(planes.transpose(2, 3))  # (n, x, 4 width, y)
        volume: Tensor = self.columns(planes.transpose(2, 3))
        return volume

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (n, n_features) into (n, n_voxels)."""
        return self.volume(features).flatten(1)


class Masked(nn.Module):
    """The masked voxels of a head that predicts whole volumes."""

    where: Tensor

    def __init__(self, head: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.head = head
        # follows from the mask, which is kept elsewhere
        self.register_buffer('where', mask.flatten().nonzero()[:, 0], persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (n, n_features) into (n, n_voxels)."""
        values: Tensor = self.head(features)
        return values[:, self.where]


@dataclass(frozen=True)
class FitLoss:
    """What training minimises, mean over voxels and samples, and what it costs to have weights.

    Parameters
    ----------
    kind
        Absolute (``l1``) or squared (``l2``) error, or Huber's: squared (halved) up to ``delta``,
        absolute beyond.
    delta
        Of Huber's loss, in standard deviations of a voxel.
    l1_weights, l2_weights
        Factors on the sums of absolute and squared weights (biases and normalisation are free).
    """

    kind: Literal['l1', 'l2', 'huber'] = 'l2'
    delta: float = 1.0
    l1_weights: float = 0.0
    l2_weights: float = 0.0

    def __post_init__(self) -> None:
        fine = self.kind in {'l1', 'l2', 'huber'} and self.delta > 0
        if not fine or min(self.l1_weights, self.l2_weights) < 0:
            raise ArgumentsError(
                BAD_DESIGN.format(
                    need='a loss l1, l2 or huber, delta above 0 and penalties of 0 or more',
                    name='the loss',
                    found=self,
                )
            )

    def error(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Return the mean error (a scalar).

        Parameters
        ----------
        prediction, truth
            Responses, (n, n_voxels) each.
        """
        if self.kind == 'l1':
            return nn.functional.l1_loss(prediction, truth)
        if self.kind == 'l2':
            return nn.functional.mse_loss(prediction, truth)
        return nn.functional.huber_loss(prediction, truth, delta=self.delta)

    def penalty(self, module: nn.Module) -> Tensor:
        """Return what the weights of a module cost (a scalar)."""
        weights = [p for p in module.parameters() if p.ndim > 1]
        total = torch.zeros((), device=weights[0].device)
        if self.l1_weights:
            total = total + self.l1_weights * torch.stack([w.abs().sum() for w in weights]).sum()
        if self.l2_weights:
            total = total + self.l2_weights * torch.stack([(w**2).sum() for w in weights]).sum()
        return total


class EncodingObjective(nn.Module):
    """A head and its loss: what is trained.

    In evaluation mode the loss is the error alone, so that weights are chosen by prediction.
    """

    def __init__(self, head: nn.Module, loss: FitLoss, n_features: int) -> None:
        super().__init__()
        self.head, self.loss, self.n_features = head, loss, n_features

    def forward(self, features: Tensor, responses: Tensor) -> dict[str, Tensor]:
        """Return the loss of features (n, n_features) and responses (n, n_voxels).

        Parameters
        ----------
        features
            Shape (n, n_features).
        responses
            Shape (n, n_voxels), standardised.

        Raises
        ------
        DataError
            If there are features of another number.
        """
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise DataError(
                WRONG_FEATURES.format(expected=self.n_features, found=tuple(features.shape))
            )
        error = self.loss.error(self.head(features).float(), responses.float())
        penalised = self.training and (self.loss.l1_weights or self.loss.l2_weights)
        penalty = self.loss.penalty(self.head) if penalised else torch.zeros_like(error)
        return {'loss': error + penalty, 'error': error, 'penalty': penalty}


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
