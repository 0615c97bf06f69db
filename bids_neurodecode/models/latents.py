"""Networks from voxels to the latents of a VDVAE: recurrent, convolutional, attending.

Three follow arXiv 2412.13237 (Table 1 and its two alternatives); one is ours. What they are should
be said plainly. The published networks see *one* time step: all voxels at once. A recurrent layer
over one step, starting from zeros, never uses its recurrent matrices, and they never receive a
gradient (120,000 of the published 12,400,344 parameters): such a layer is a gated perceptron, and
its two directions are two copies of it side by side. Attention over one token is likewise a linear
map, since its only weight is 1. :class:`RegionSequence` makes a real sequence, of brain regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_neurodecode.errors import DataError

BAD_VOXELS = 'The network takes responses of shape (n, {expected}); these are {found}.'
BAD_SIZE = 'A latent regressor needs {what} of at least 1: {found}.'
UNKNOWN_KIND = 'No latent regressor is called {kind!r}. There are: {names}.'
NO_REGIONS = (
    'The latent regressor {kind!r} takes voxels by region: give the voxels (columns) of at least '
    'two regions.'
)
BAD_REGION = 'Region {index} must hold voxels from 0 to {last}, each once: {found}.'
BAD_HEADS = 'The width {width} must be a multiple of the number of attention heads, {n_heads}.'

Kind = Literal['gru', 'conv', 'transformer', 'regions-gru', 'regions-transformer']
Regions = Sequence[npt.ArrayLike]

KINDS: tuple[Kind, ...] = ('gru', 'conv', 'transformer', 'regions-gru', 'regions-transformer')

_CHANNELS = (32, 64)  # of the two convolutions; the paper gives no sizes
_N_HEADS = 4


class GRULatents(nn.Module):
    """The published network: two bidirectional recurrent layers over a single step.

    Parameters
    ----------
    n_voxels, n_outputs
        Sizes of a response and of the (flat) latents.
    n_hidden
        Units of each direction.
    dropout
        Share of units that is dropped in training, after the first layer and before the output.
    """

    def __init__(
        self, n_voxels: int, n_outputs: int, *, n_hidden: int = 100, dropout: float = 0.5
    ) -> None:
        super().__init__()
        _check_sizes(n_voxels, n_outputs, n_hidden)
        width = 2 * n_hidden
        self.n_voxels = n_voxels
        self.first = _bidirectional(n_voxels, n_hidden)
        self.first_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.second = _bidirectional(self._add_middle(width, dropout), n_hidden)
        self.second_norm = nn.LayerNorm(width)
        self.head = _head(width, n_outputs, dropout)

    def _add_middle(self, width: int, dropout: float) -> int:
        """Add what lies between the recurrent layers; return the inputs of the second."""
        return width

    def _middle(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, responses: Tensor) -> Tensor:
        """Predict latents (n, n_outputs) from responses (n, n_voxels)."""
        steps = _as_one_step(responses, self.n_voxels)
        hidden = self.dropout(self.first_norm(self.first(steps)[0]))
        hidden = self.second_norm(self.second(self._middle(hidden))[0])
        return cast('Tensor', self.head(hidden.mean(dim=1)))


class ConvLatents(GRULatents):
    """The convolutional variant: convolutions along the units of the first recurrent layer.

    The second recurrent layer then reads a real sequence, of pooled positions along those units,
    whose order means nothing; its outputs are averaged. Parameters as in :class:`GRULatents`; the
    channels, 32 and 64, and the kernel, 3, are ours, since the paper gives none.
    """

    def _add_middle(self, width: int, dropout: float) -> int:
        self.convolutions = nn.Sequential(
            nn.Conv1d(1, _CHANNELS[0], 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2, ceil_mode=True),
            nn.Conv1d(_CHANNELS[0], _CHANNELS[1], 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2, ceil_mode=True),
        )
        return _CHANNELS[1]

    def _middle(self, hidden: Tensor) -> Tensor:
        return cast('Tensor', self.convolutions(hidden)).transpose(1, 2)


class TransformerLatents(GRULatents):
    """The attending variant: a transformer block in place of the convolutions.

    Over its one step the attention's weight is always 1, so that queries and keys have no effect
    and receive no gradient; what is left of the block are linear maps and its perceptron.
    Parameters as in :class:`GRULatents`.
    """

    def _add_middle(self, width: int, dropout: float) -> int:
        self.block = _attention_block(width, dropout)
        return width

    def _middle(self, hidden: Tensor) -> Tensor:
        return cast('Tensor', self.block(hidden))


class RegionSequence(nn.Module):
    """A real sequence: each brain region is a token, made from its voxels by its own linear map.

    Parameters
    ----------
    regions
        Voxels (columns of the responses) of each region, at least two. A voxel may belong to
        several regions, or to none and then counts for nothing.
    n_voxels, n_outputs
        Sizes of a response and of the (flat) latents.
    mixer
        ``gru``: a bidirectional recurrent layer along the regions, in the order given.
        ``transformer``: attention between regions, whose order is learned.
    n_hidden
        Units of each direction; tokens have twice as many.
    dropout
        Share of units that is dropped in training.
    """

    def __init__(
        self,
        regions: Regions,
        n_voxels: int,
        n_outputs: int,
        *,
        mixer: Literal['gru', 'transformer'] = 'gru',
        n_hidden: int = 100,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        _check_sizes(n_voxels, n_outputs, n_hidden)
        width = 2 * n_hidden
        self.n_voxels = n_voxels
        columns = _checked_regions(regions, n_voxels, f'regions-{mixer}')
        self._sizes = [len(region) for region in columns]
        self.register_buffer('columns', torch.from_numpy(np.concatenate(columns)))
        self.tokens = nn.ModuleList(nn.Linear(size, width) for size in self._sizes)
        self.places = nn.Parameter(torch.zeros(len(columns), width))
        self.token_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.mixer = (
            _bidirectional(width, n_hidden) if mixer == 'gru' else _attention_block(width, dropout)
        )
        self.mixer_norm = nn.LayerNorm(width)
        self.head = _head(width, n_outputs, dropout)

    def forward(self, responses: Tensor) -> Tensor:
        """Predict latents (n, n_outputs) from responses (n, n_voxels)."""
        _check_responses(responses, self.n_voxels)
        chosen = responses[:, self.get_buffer('columns')]
        parts = torch.split(chosen, self._sizes, dim=1)
        tokens = [token(part) for token, part in zip(self.tokens, parts, strict=True)]
        hidden = self.dropout(self.token_norm(torch.stack(tokens, dim=1) + self.places))
        mixed = self.mixer(hidden)
        hidden = self.mixer_norm(mixed[0] if isinstance(mixed, tuple) else mixed)
        return cast('Tensor', self.head(hidden.mean(dim=1)))


def build_latent_regressor(
    kind: Kind,
    n_voxels: int,
    n_outputs: int,
    *,
    regions: Regions | None = None,
    n_hidden: int = 100,
    dropout: float = 0.5,
) -> nn.Module:
    """Build a network that predicts (standardised) latents from (standardised) responses.

    Parameters
    ----------
    kind
        ``gru`` (the published one), ``conv``, ``transformer``, ``regions-gru`` or
        ``regions-transformer``.
    n_voxels, n_outputs
        Sizes of a response and of the flat latents (13,344 for 15 of the published VDVAE).
    regions
        Voxels of each region, for the last two.
    n_hidden
        Units of each direction.
    dropout
        Share of units that is dropped in training.

    Raises
    ------
    DataError
        For an unknown kind, sizes below 1, or regions that are missing or wrong.
    """
    options: dict[str, Any] = {'n_hidden': n_hidden, 'dropout': dropout}
    whole: dict[str, type[nn.Module]] = {
        'gru': GRULatents, 'conv': ConvLatents, 'transformer': TransformerLatents
    }  # fmt: skip
    if kind in whole:
        return whole[kind](n_voxels, n_outputs, **options)
    if kind not in KINDS:
        raise DataError(UNKNOWN_KIND.format(kind=kind, names=', '.join(KINDS)))
    mixer = cast(Literal['gru', 'transformer'], kind.removeprefix('regions-'))
    return RegionSequence(regions or [], n_voxels, n_outputs, mixer=mixer, **options)


def _bidirectional(n_inputs: int, n_hidden: int) -> nn.GRU:
    return nn.GRU(n_inputs, n_hidden, batch_first=True, bidirectional=True)


def _attention_block(width: int, dropout: float) -> nn.TransformerEncoderLayer:
    if width % _N_HEADS:
        raise DataError(BAD_HEADS.format(width=width, n_heads=_N_HEADS))
    return nn.TransformerEncoderLayer(
        width, _N_HEADS, dim_feedforward=2 * width, dropout=dropout, batch_first=True
    )


def _head(width: int, n_outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, n_outputs),
    )


def _as_one_step(responses: Tensor, n_voxels: int) -> Tensor:
    _check_responses(responses, n_voxels)
    return responses[:, None]


def _check_responses(responses: Tensor, n_voxels: int) -> None:
    if responses.ndim != 2 or responses.shape[1] != n_voxels:
        raise DataError(BAD_VOXELS.format(expected=n_voxels, found=tuple(responses.shape)))


def _check_sizes(n_voxels: int, n_outputs: int, n_hidden: int) -> None:
    sizes = {'n_voxels': n_voxels, 'n_outputs': n_outputs, 'n_hidden': n_hidden}
    for what, found in sizes.items():
        if found < 1:
            raise DataError(BAD_SIZE.format(what=what, found=found))


def _checked_regions(regions: Regions, n_voxels: int, kind: str) -> list[npt.NDArray[np.int64]]:
    columns = [np.atleast_1d(np.asarray(region)).astype(np.int64) for region in regions]
    if len(columns) < 2:
        raise DataError(NO_REGIONS.format(kind=kind))
    for index, region in enumerate(columns):
        outside = region.size and (region.min() < 0 or region.max() >= n_voxels)
        if outside or not region.size or len(np.unique(region)) != len(region):
            found = np.array2string(region, threshold=6).replace('\n', '')
            raise DataError(BAD_REGION.format(index=index, last=n_voxels - 1, found=found))
    return columns
