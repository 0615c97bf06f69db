"""Large arrays: room that is mapped to a file where what they are made of is, blocks, sums."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

MAPPED_BYTES = 2**24
"""Arrays of less are held in memory."""
BLOCK_BYTES = 2**27
"""Of the doubles that are held at a time."""
BROKEN_ARRAY = (OSError, ValueError, EOFError, BadZipFile)
"""What NumPy raises of a file that is none of its arrays: empty, or a ZIP file that breaks off."""


def room(
    values: npt.NDArray[Any], shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Return room for what is made of an array; that of a mapped one is mapped where it is large.

    The file lies beside that of the array and has no name: it goes with the room.

    Parameters
    ----------
    values
        What the room is filled from.
    shape
        Of the room.
    dtype
        Of the room; float32 if left out.
    """
    file = getattr(values, 'filename', None)
    if file is None or np.dtype(dtype).itemsize * int(np.prod(shape)) < MAPPED_BYTES:
        return np.empty(shape, dtype=dtype)
    with tempfile.TemporaryFile(dir=Path(file).parent) as stream:
        mapped = np.memmap(stream, dtype, 'w+', shape=shape)
    mapped.filename = file  # what is made of this one lies beside it, too
    return mapped


def rows_of(
    values: npt.NDArray[Any],
    rows: npt.NDArray[np.integer[Any]],
    like: npt.NDArray[Any],
    keep: npt.NDArray[np.bool_] | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> npt.NDArray[Any]:
    """Return some rows, in room as what is made of another array has.

    Parameters
    ----------
    values
        Shape (n_rows, n_columns), or (n_rows, ...) without ``keep``.
    rows
        Row numbers, (n,).
    like
        Beside whose file they lie, if it is mapped.
    keep
        Columns that are kept, (n_columns,); all if left out.
    dtype
        Of what is returned; float32 if left out.
    """
    shape = values.shape[1:] if keep is None else (int(np.count_nonzero(keep)),)
    out = room(like, (len(rows), *shape), dtype)
    for part in blocks(len(rows), int(np.prod(values.shape[1:]))):
        some = values[rows[part]]
        out[part] = some if keep is None else some[:, keep]
    return out


def blocks(n: int, size: int, most: int | None = None) -> Iterator[slice]:
    """Cut n rows (or columns) so that a block of doubles has a limit.

    Parameters
    ----------
    n
        How many there are.
    size
        Values of each.
    most
        Of a block, whatever their size; None: no matter.
    """
    step = max(1, BLOCK_BYTES // (8 * max(1, size)))
    step = step if most is None else min(step, most)
    return (slice(start, start + step) for start in range(0, n, step))


def group_sums(
    values: npt.NDArray[Any], groups: npt.NDArray[np.integer[Any]], n_groups: int
) -> npt.NDArray[np.float64]:
    """Return the sum of the rows of each group, (n_groups, n_columns), in double precision.

    The bits are those of :meth:`numpy.ufunc.at`, which takes tens of times as long.

    Parameters
    ----------
    values
        Shape (n_rows, n_columns).
    groups
        The group of each row, (n_rows,), from 0.
    n_groups
        How many there are; of those without a row the sum is 0.
    """
    sums = np.zeros((n_groups, values.shape[1]))
    for group, row in zip(groups, values, strict=True):
        sums[group] += row
    return sums


def by_rows(
    values: npt.NDArray[Any], of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Return what is computed of each row, some rows at a time.

    Parameters
    ----------
    values
        Shape (n_rows, n_columns).
    of
        From rows to what is computed of each, (n, ...).
    """
    found = [of(values[part]) for part in blocks(len(values), values.shape[1])]
    return np.concatenate(found) if found else of(values)


def joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the rows of arrays one after the other, mapped where they are.

    Parameters
    ----------
    parts
        Of one type, (n_rows, ...) each, one or more.
    """
    if len(parts) == 1:
        return parts[0]
    out = room(parts[0], (sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    start = 0
    for part in parts:
        out[start : start + len(part)] = part
        start += len(part)
    return out
