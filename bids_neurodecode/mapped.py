"""Room for large arrays: mapped to a file where what they are made of is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAPPED_BYTES = 2**30
"""Arrays of less are held in memory."""


def room(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return room for what is made of an array; that of a mapped one is mapped where it is large.

    The file lies beside that of the array and has no name: it goes with the room.

    Parameters
    ----------
    values
        What the room is filled from.
    shape
        Of the room, which is float32.
    """
    file = getattr(values, 'filename', None)
    if file is None or 4 * int(np.prod(shape)) < MAPPED_BYTES:
        return np.empty(shape, dtype=np.float32)
    with tempfile.TemporaryFile(dir=Path(file).parent) as stream:
        mapped = np.memmap(stream, np.float32, 'w+', shape=shape)
    mapped.filename = file  # what is made of this one lies beside it, too
    return mapped
