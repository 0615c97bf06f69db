"""Inception v3 for metrics, with the names that torchvision gives to its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Conv(nn.Module):
    def __init__(
        self, n_inputs: int, n_outputs: int, kernel: tuple[int, int], stride: int
    ) -> None:
        super().__init__()
        padding = (0, 0) if stride > 1 else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(n_inputs, n_outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(n_outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return cast('Tensor', self.bn(self.conv(x)).relu())


# A branch is a chain of convolutions (name, channels, kernel, stride); a last element that is a
# tuple of chains forks. 'max' and 'avg' pool.
_Chain = Sequence[Any]


def _block_a(pool: int) -> Sequence[_Chain]:
    return (
        [('branch1x1', 64, (1, 1), 1)],
        [('branch5x5_1', 48, (1, 1), 1), ('branch5x5_2', 64, (5, 5), 1)],
        [
            ('branch3x3dbl_1', 64, (1, 1), 1),
            ('branch3x3dbl_2', 96, (3, 3), 1),
            ('branch3x3dbl_3', 96, (3, 3), 1),
        ],
        ['avg', ('branch_pool', pool, (1, 1), 1)],
    )


def _block_b() -> Sequence[_Chain]:
    return (
        [('branch3x3', 384, (3, 3), 2)],
        [
            ('branch3x3dbl_1', 64, (1, 1), 1),
            ('branch3x3dbl_2', 96, (3, 3), 1),
            ('branch3x3dbl_3', 96, (3, 3), 2),
        ],
        ['max'],
    )


def _block_c(width: int) -> Sequence[_Chain]:
    wide, tall = (1, 7), (7, 1)
    return (
        [('branch1x1', 192, (1, 1), 1)],
        [
            ('branch7x7_1', width, (1, 1), 1),
            ('branch7x7_2', width, wide, 1),
            ('branch7x7_3', 192, tall, 1),
        ],
        [
            ('branch7x7dbl_1', width, (1, 1), 1),
            ('branch7x7dbl_2', width, tall, 1),
            ('branch7x7dbl_3', width, wide, 1),
            ('branch7x7dbl_4', width, tall, 1),
            ('branch7x7dbl_5', 192, wide, 1),
        ],
        ['avg', ('branch_pool', 192, (1, 1), 1)],
    )


def _block_d() -> Sequence[_Chain]:
    return (
        [('branch3x3_1', 192, (1, 1), 1), ('branch3x3_2', 320, (3, 3), 2)],
        [
            ('branch7x7x3_1', 192, (1, 1), 1),
            ('branch7x7x3_2', 192, (1, 7), 1),
            ('branch7x7x3_3', 192, (7, 1), 1),
            ('branch7x7x3_4', 192, (3, 3), 2),
        ],
        ['max'],
    )


def _block_e() -> Sequence[_Chain]:
    def fork(name: str) -> tuple[_Chain, ...]:
        return [(f'{name}a', 384, (1, 3), 1)], [(f'{name}b', 384, (3, 1), 1)]

    return (
        [('branch1x1', 320, (1, 1), 1)],
        [('branch3x3_1', 384, (1, 1), 1), fork('branch3x3_2')],
        [
            ('branch3x3dbl_1', 448, (1, 1), 1),
            ('branch3x3dbl_2', 384, (3, 3), 1),
            fork('branch3x3dbl_3'),
        ],
        ['avg', ('branch_pool', 192, (1, 1), 1)],
    )


class _Mixed(nn.Module):
    """Branches side by side, their channels one after another."""

    def __init__(self, n_inputs: int, chains: Sequence[_Chain]) -> None:
        super().__init__()
        self._chains = chains
        self.n_outputs = sum(self._build(n_inputs, chain) for chain in chains)

    def _build(self, width: int, chain: _Chain) -> int:
        """Make the convolutions of a chain; return the channels that it ends with."""
        for step in chain:
            if isinstance(step, str):
                continue
            if isinstance(step[0], str):
                name, n_outputs, kernel, stride = step
                self.add_module(name, _Conv(width, n_outputs, kernel, stride))
                width = n_outputs
            else:
                width = sum(self._build(width, part) for part in step)
        return width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(x, chain) for chain in self._chains], dim=1)

    def _run(self, x: Tensor, chain: _Chain) -> Tensor:
        for step in chain:
            if step == 'avg':
                x = functional.avg_pool2d(x, 3, 1, 1)
            elif step == 'max':
                x = functional.max_pool2d(x, 3, 2)
            elif isinstance(step[0], str):
                x = self.get_submodule(step[0])(x)
            else:
                x = torch.cat([self._run(x, part) for part in step], dim=1)
        return x


class InceptionV3(nn.Module):
    """Inception v3 (Szegedy et al. 2016, CVPR); layer ``avgpool``.

    The published weights expect colours from -1 to 1; pixels scaled by ImageNet's means and
    deviations, as all networks here are given, are brought there first.
    """

    _STEM = (
        ('Conv2d_1a_3x3', 3, 32, 3, 2, 0), ('Conv2d_2a_3x3', 32, 32, 3, 1, 0),
        ('Conv2d_2b_3x3', 32, 64, 3, 1, 1), ('Conv2d_3b_1x1', 64, 80, 1, 1, 0),
        ('Conv2d_4a_3x3', 80, 192, 3, 1, 0),
    )  # fmt: skip
    _POOL_AFTER = ('Conv2d_2b_3x3', 'Conv2d_4a_3x3')

    def __init__(self) -> None:
        super().__init__()
        for name, n_inputs, n_outputs, kernel, stride, padding in self._STEM:
            layer = _Conv(n_inputs, n_outputs, (kernel, kernel), stride)
            layer.conv.padding = (padding, padding)
            self.add_module(name, layer)
        blocks = {
            '5b': _block_a(32), '5c': _block_a(64), '5d': _block_a(64), '6a': _block_b(),
            '6b': _block_c(128), '6c': _block_c(160), '6d': _block_c(160), '6e': _block_c(192),
            '7a': _block_d(), '7b': _block_e(), '7c': _block_e(),
        }  # fmt: skip
        n_inputs = 192
        self._mixed = tuple(f'Mixed_{name}' for name in blocks)
        for name, chains in zip(self._mixed, blocks.values(), strict=True):
            block = _Mixed(n_inputs, chains)
            self.add_module(name, block)
            n_inputs = block.n_outputs

    def forward(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Return the pooled features, (n, 2048)."""
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).to(pixels)
        x = (pixels * std[:, None, None] + mean[:, None, None]) * 2 - 1
        for name, *_ in self._STEM:
            x = self.get_submodule(name)(x)
            if name in self._POOL_AFTER:
                x = functional.max_pool2d(x, 3, 2)
        for name in self._mixed:
            x = self.get_submodule(name)(x)
        return {'avgpool': x.mean(dim=(2, 3))}
