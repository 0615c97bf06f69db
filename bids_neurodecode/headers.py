"""What the header of a file promises, compared with what its bytes can hold.

A header of a few hundred bytes may promise terabytes, or say that values lie in any other file:
nothing is allocated, or opened, on its word.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.errors import DataError, InputError

if TYPE_CHECKING:
    import h5py

BROKEN_PROMISE = (
    'The header of {file} promises {promised} bytes of values, and the file can hold {held} at '
    'most: it is cut short or corrupt. Copy or regenerate it.'
)
ELSEWHERE = (
    '{file} says that its values lie in another file, and none is read that a file names. Save it '
    'with its values in it.'
)
SMALLEST = 1032
"""Bytes that one byte of deflate stands for at most."""
ALWAYS = 1 << 24
"""Bytes that are harmless whatever the file holds."""


def check_promise(file: Path, promised: int) -> None:
    """Check that a file, which may be compressed by gzip, can hold what its header promises.

    Parameters
    ----------
    file
        A file of another compression than gzip's passes.
    promised
        Bytes of values, with those before them.

    Raises
    ------
    DataError
        If it cannot.
    """
    if file.suffix not in {'.gz', '.nii'}:
        return
    held = file.stat().st_size * (SMALLEST if file.suffix == '.gz' else 1)
    if promised > max(held, ALWAYS):
        raise DataError(BROKEN_PROMISE.format(file=file, promised=promised, held=held))


def check_dataset(dataset: h5py.Dataset, file: Path) -> None:
    """Check that an array of an HDF5 file is stored in it, and not made of one value.

    Parameters
    ----------
    dataset
        The open array.
    file
        That it lies in, for the message.

    Raises
    ------
    InputError
        If the file holds too little for it, or names another one that holds it.
    """
    if dataset.external or dataset.is_virtual or dataset.file.filename != str(file):
        raise InputError(ELSEWHERE.format(file=file))
    held = dataset.id.get_storage_size() * SMALLEST
    if dataset.nbytes > max(held, ALWAYS):
        raise InputError(BROKEN_PROMISE.format(file=file, promised=dataset.nbytes, held=held))
