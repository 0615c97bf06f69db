"""What the header of a file promises, compared with what its bytes can hold.

A header of a few hundred bytes may promise terabytes, or say that values lie in any other file:
nothing is allocated, or opened, on its word.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.errors import DataError, InputError

if TYPE_CHECKING:
    import h5py
    import nibabel as nib
    import numpy as np
    import numpy.typing as npt
    from nibabel.arrayproxy import ArrayProxy

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


_HEADER = 348
"""Bytes of a NIfTI-1 header; four more say whether extensions follow."""
_FIRST = 1 << 13
"""Bytes that are read of a compressed file to find its header."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume of which the header alone was read; its values are read when they are asked for."""

    header: nib.Nifti1Header
    affine: npt.NDArray[np.float64]
    dataobj: ArrayProxy

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its values."""
        return tuple(int(n) for n in self.dataobj.shape)


def open_volume(file: Path) -> Volume | None:
    """Open a NIfTI-1 file by its header, at a tenth of what nibabel's image of it costs.

    Returns
    -------
    Volume or None
        None for any other file (another format, extensions, damage): nibabel has to look at it.
    """
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.spatialimages import HeaderDataError

    try:
        with file.open('rb') as stream:
            start = stream.read(_FIRST if file.suffix == '.gz' else _HEADER + 4)
        if file.suffix == '.gz':
            start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, _HEADER + 4)
        sizes = (struct.unpack_from(order, start)[0] for order in ('<i', '>i'))
        plain = len(start) == _HEADER + 4 and start[-8:-4] == b'n+1\0' and not start[-4]
        if not plain or _HEADER not in sizes:
            return None
        header = _parsed(start[:_HEADER])
        return Volume(header, header.get_best_affine(), ArrayProxy(str(file), header))
    except (OSError, OverflowError, zlib.error, struct.error, ValueError, HeaderDataError):
        return None


@lru_cache(maxsize=256)
def _parsed(content: bytes) -> nib.Nifti1Header:
    """Take a header apart and check it once: those of a participant's runs are often the same."""
    import nibabel as nib

    return nib.Nifti1Header(content)


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
