"""In which arithmetic networks compute: one word says the type, and whether TF32 is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal['float32', 'tf32', 'bfloat16', 'float16']


def dtype_of(precision: Precision) -> torch.dtype:
    """Return the type of weights or activations; TF32 is a way to multiply what is float32.

    Parameters
    ----------
    precision
        The word of the settings.

    Examples
    --------
    >>> dtype_of('tf32'), dtype_of('bfloat16')
    (torch.float32, torch.bfloat16)
    """
    dtype: torch.dtype = torch.float32 if precision == 'tf32' else getattr(torch, precision)
    return dtype


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Allow GPUs to multiply float32 as TF32 (10 bits of 23) where that was asked for only.

    PyTorch allows it for convolutions by default. Its switches are put back at the end.

    Parameters
    ----------
    precision
        The word of the settings.
    """
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    try:
        matrices.allow_tf32 = convolutions.allow_tf32 = precision == 'tf32'
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before
