"""NIfTI files checked before they are used: header, grid, and the values in one pass."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError, InputError, raised_as, retold
from bids_neurodecode.fetched import check_fetched, state_of
from bids_neurodecode.headers import Volume, open_volume
from bids_neurodecode.spaces import (
    Space,
    check_header,
    files_of,
    form_of,
    image_damage,
    load_image,
    space_of,
    volume_seconds,
)

IS_FOLDER = '{file} is a folder, and an image is needed there. Put the file in its place.'
NOT_NIFTI = 'Cannot read {file} as NIfTI: {reason}. The file is corrupt; copy or regenerate it.'
TRUNCATED = 'The file {file} is cut short or corrupt ({reason}). Copy or regenerate it.'
NOT_4D = (
    '{file} has the shape {shape}; a series has four dimensions and two or more '
    'volumes. Regenerate the file.'
)
NOT_3D = '{file} has the shape {shape}; a mask has three dimensions. Regenerate it.'
EMPTY_MASK = 'The mask {file} holds no voxel. Regenerate it.'
INFINITE_MASK = (
    '{n} voxels of the mask {file} are infinite, which is neither inside nor outside. '
    'Regenerate it.'
)
OTHER_GRID = (
    '{file} is on another grid ({grid}) than {reference} ({expected}). '
    'Resample one of them, or choose one --space.'
)
NOT_FINITE = (
    '{file} holds {n} values that are NaN or infinite inside the mask (first in volume {volume}), '
    'or too large for single precision. Regenerate the file.'
)
NOT_REAL = (
    '{file} holds {dtype} values, and {kind}. Give a file of one real number per voxel{way_out}.'
)
LONGER = (
    '{file} holds {n} bytes behind the {volumes} volumes of its header, as many as {more} volumes '
    'have. Correct the number of volumes in the header (dim), or regenerate the file.'
)
CONSTANT = '{file} does not vary over time in the whole mask. Regenerate the file.'
ALL_ZERO = '{file} is zero in the whole mask{where}. Regenerate the file.'

CHUNK = 1 << 22
TOGETHER = 1 << 20
"""Bytes of small volumes that are checked at once."""
LARGEST = float(np.finfo(np.float32).max)
"""Responses are held in single precision."""
WHAT = {
    'gifti': 'vertices of',
    'cifti': 'grayordinates of',
    'pcifti': 'parcels of',
    'parcels': 'parcels of',
}


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape (3,) and affine (4, 4, mm) of a volume."""

    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    space: Space | None = None
    """Where the columns lie that are no voxels of a grid."""

    @classmethod
    def of(cls, image: Any) -> Grid:
        """Return that of an image."""
        shape = tuple(int(n) for n in image.shape[:3])
        return cls(shape, np.asarray(image.affine, dtype=float), space_of(image))

    def same_as(self, other: Grid) -> bool:
        """Whether voxels are the same, to a thousandth of a voxel at any corner."""
        if self.space is not None:
            return self.space.same_as(other.space)
        if self.shape != other.shape or other.space is not None:
            return False
        if np.array_equal(self.affine, other.affine):
            return True
        corner = np.array([*self.shape, 1.0])
        size = np.linalg.norm(self.affine[:3, :3], axis=0).min()
        difference = np.abs(self.affine - other.affine) @ corner
        return bool(difference.max() < 0.001 * size * max(self.shape))

    def __str__(self) -> str:
        if self.space is not None:
            return f'{self.space.n_columns} {WHAT[self.space.form]} {self.space.label}'.rstrip()
        size = np.linalg.norm(self.affine[:3, :3], axis=0)
        origin = self.affine[:3, 3]
        return (
            f'{"x".join(map(str, self.shape))} voxels of '
            f'{" x ".join(f"{s:g}" for s in np.round(size, 3))} mm from '
            f'({", ".join(f"{o:g}" for o in np.round(origin, 2))})'
        )


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of a series says; ``repetition_time`` (s) is None where it says none."""

    grid: Grid
    n_volumes: int
    repetition_time: float | None
    n_bytes: int
    """Of the uncompressed values."""


def open_image(file: Path) -> Any:
    """Open an image; of a volume the header only.

    Raises
    ------
    InputError
        If it is none or was not fetched, or its header is damaged.
    """
    for each in files_of(file):
        check_fetched(each)
        if each.is_dir():
            raise InputError(IS_FOLDER.format(file=each))
    with (
        retold(InputError, DataError),
        raised_as(InputError, NOT_NIFTI, *image_damage(), file=file),
    ):
        return load_image(file)


def look_at(file: Path) -> Any:
    """Open an image for its header and values alone, which is all that checks ask for.

    Raises
    ------
    InputError
        As :func:`open_image`.
    """
    check_fetched(file)
    volume = open_volume(file) if form_of(file) is None else None
    if volume is None:
        return open_image(file)
    with retold(InputError, DataError):
        check_header(volume, file)
    return volume


def check_real(image: Any, file: Path) -> None:
    """Check that voxels hold real numbers; the imaginary part of others would be lost.

    Parameters
    ----------
    image
        Opened by nibabel.
    file
        That it was read from.

    Raises
    ------
    InputError
        For complex values, colours and records.
    """
    dtype = image.header.get_data_dtype()
    if dtype.kind not in 'biuf':
        kind, way_out = 'colours are not measurements', ''
        if dtype.kind == 'c':
            kind, way_out = 'their imaginary part cannot be used', ' (such as the magnitude)'
        raise InputError(
            NOT_REAL.format(
                file=file,
                dtype='complex' if dtype.kind == 'c' else 'RGB',
                kind=kind,
                way_out=way_out,
            )
        )


def read_header(file: Path) -> Header:
    """Read the header of a 4-D series.

    Raises
    ------
    InputError
        If it is not one.
    """
    check_fetched(file)
    return _read_header(file, state_of(*files_of(file)))


@lru_cache(maxsize=1 << 14)
def _read_header(file: Path, _changed: tuple[tuple[int, ...], ...]) -> Header:
    """Read a header once, and again when its file changes."""
    image = look_at(file)
    shape = tuple(int(n) for n in image.shape)
    if len(shape) != 4 or shape[3] < 2:
        raise InputError(NOT_4D.format(file=file, shape=shape))
    check_real(image, file)
    seconds = volume_seconds(image)
    dtype = image.header.get_data_dtype()
    return Header(
        grid=Grid.of(image),
        n_volumes=shape[3],
        repetition_time=seconds if 0 < seconds < np.inf else None,
        n_bytes=int(np.prod(shape)) * dtype.itemsize,
    )


def read_mask(file: Path) -> tuple[npt.NDArray[np.bool_], Grid]:
    """Read a brain mask, (x, y, z), and its grid; voxels above 0 are inside, NaN is outside.

    Raises
    ------
    InputError
        If it is not three-dimensional, cannot be read, is empty or holds infinite values.
    """
    check_fetched(file)
    packed, grid, _ = _packed_mask(file, state_of(*files_of(file)))
    n = int(np.prod(grid.shape))
    return np.unpackbits(packed, count=n).view(np.bool_).reshape(grid.shape), grid


def behind_mask(file: Path) -> int:
    """Return what :func:`bytes_behind` does of a mask, which may have been read before."""
    _, _, n_behind = _packed_mask(file, state_of(*files_of(file)))
    return bytes_behind(file) if n_behind is None else n_behind


@lru_cache(maxsize=128)
def _packed_mask(
    file: Path, _changed: tuple[tuple[int, ...], ...]
) -> tuple[npt.NDArray[np.uint8], Grid, int | None]:
    """Read a mask once, and again when its file changes: several checks of a run ask for it."""
    inside, grid, n_behind = _read_mask(file)
    return np.packbits(inside), grid, n_behind


def _read_mask(file: Path) -> tuple[npt.NDArray[np.bool_], Grid, int | None]:
    image = look_at(file)
    if len(image.shape) != 3:
        raise InputError(NOT_3D.format(file=file, shape=tuple(image.shape)))
    check_real(image, file)
    values, n_behind = _plain_values(image, file)
    if values is None:
        with raised_as(InputError, TRUNCATED, *image_damage(), file=file):
            values = np.asarray(image.dataobj)
    check_no_infinity(values, file)
    inside = values > 0
    if not inside.any():
        raise InputError(EMPTY_MASK.format(file=file))
    return inside, Grid.of(image), n_behind


def _plain_values(image: Any, file: Path) -> tuple[npt.NDArray[Any] | None, int | None]:
    """Return the values of a volume without scaling, and the bytes behind them, read in one go.

    None for what is damaged, or no such volume: nibabel has to look at it, which opens it anew.
    """
    if not isinstance(image, Volume) or (image.dataobj.slope, image.dataobj.inter) != (1, 0):
        return None, None
    dtype, values = image.dataobj.dtype, None
    try:
        with _open(file) as stream:
            stream.read(int(image.dataobj.offset))
            data = stream.read(int(np.prod(image.shape)) * dtype.itemsize)
            values = np.frombuffer(data, dtype).reshape(image.shape, order='F')
            return values, _rest(stream)
    except (InputError, ValueError):
        return values, None


def check_no_infinity(values: npt.NDArray[Any], file: Path) -> None:
    """Check that no voxel of a mask is infinite, which comes of a division by zero.

    Parameters
    ----------
    values
        Of the mask, of any shape.
    file
        That it was read from.

    Raises
    ------
    InputError
        Naming the file and how many voxels are.
    """
    if n := int(np.isinf(values).sum()):
        raise InputError(INFINITE_MASK.format(file=file, n=n))


def check_grid(grid: Grid, file: Path, expected: Grid, reference: Path) -> None:
    """Check that a file has the grid of another.

    Parameters
    ----------
    grid
        Of the file.
    file
        That is checked.
    expected
        Of the reference.
    reference
        Whose grid it must have.

    Raises
    ------
    InputError
        Naming both grids.
    """
    if not grid.same_as(expected):
        raise InputError(
            OTHER_GRID.format(file=file, grid=grid, reference=reference, expected=expected)
        )


@dataclass(frozen=True)
class Values:
    """What was found in a series that was read to its end."""

    centred: float
    """Share of the voxels that vary over time which vary more than their mean: 1 of a series that
    was centred."""
    n_behind: int
    """Bytes behind the last volume, fewer than a volume has."""


def check_values(file: Path, inside: npt.NDArray[np.bool_]) -> Values:
    """Read a series once, volume by volume, and check what is inside the mask.

    Memory stays at one volume, or at small ones that take a megabyte in the file. Compressed files
    are read to their end, so that a damaged tail is found too.

    Parameters
    ----------
    file
        A 4-D NIfTI, compressed or not, or a series in another form (read whole).
    inside
        Mask (x, y, z).

    Returns
    -------
    Values

    Raises
    ------
    InputError
        If the file is cut short or corrupt, holds NaN or infinite values, is zero in the whole
        mask (in one volume or all), does not vary, or holds more volumes than its header says.
    """
    image = look_at(file)
    if form_of(file) is not None:
        rows = np.asarray(image.dataobj)[inside].T
        return Values(_check_columns(file, rows), _check_behind(file, bytes_behind(file)))
    dtype = image.header.get_data_dtype()
    n_volumes = image.shape[3]
    size = int(np.prod(image.shape[:3]))
    voxels = np.flatnonzero(inside.ravel(order='F'))
    step = max(1, TOGETHER // (size * dtype.itemsize))
    zero = np.zeros(n_volumes, dtype=bool)
    n_bad, first_bad = 0, 0
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    sums, squares = np.zeros(len(voxels)), np.zeros(len(voxels))
    with _open(file) as stream:
        _skip(stream, int(image.dataobj.offset), file)
        for start in range(0, n_volumes, step):
            n = min(step, n_volumes - start)
            data = _read(stream, n, size * dtype.itemsize, file, start, n_volumes)
            values = np.frombuffer(data, dtype).reshape(n, size)[:, voxels]
            zero[start : start + n] = ~values.any(axis=1)
            measured = values * np.float64(slope) + intercept
            bad = len(voxels) - np.count_nonzero(np.abs(measured) <= LARGEST, axis=1)
            if bad.any() and not n_bad:
                first_bad = start + int(np.flatnonzero(bad)[0])
            n_bad += int(bad.sum())
            if not bad.any():  # else it is refused
                sums += measured.sum(axis=0)
                squares += (measured**2).sum(axis=0)
        n_behind = _rest(stream)
    _check_found(file, n_bad, first_bad, zero)
    centred = _share_centred(file, sums / n_volumes, squares / n_volumes)
    return Values(centred, _check_behind(file, n_behind))


def bytes_behind(file: Path) -> int:
    """Return how many bytes of a NIfTI or CIFTI file lie behind the values of its header.

    nibabel, and what reads with it, passes them over without a word. Of GIFTI, whose arrays
    say their length, and of tables there are none.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if form_of(file) in {'gifti', 'parcels'}:
        return 0
    end = _end_of(file)[0]
    if file.suffix != '.gz':
        return max(0, file.stat().st_size - end)
    with _open(file) as stream:
        stream.seek(end)
        return _rest(stream)


def _end_of(file: Path) -> tuple[int, int, int]:
    """Return where values end by the header, and how many volumes of how many bytes there are."""
    if form_of(file) is None:
        image: Any = look_at(file)
        (first, *others), dtype = image.shape[::-1], image.dataobj.dtype
        start = image.dataobj.offset
    else:  # the fixed part alone: to parse what columns are takes a second
        with file.open('rb') as stream:
            header: Any = nib.Nifti2Header(stream.read(nib.Nifti2Header.sizeof_hdr))
        (first, *others), dtype = header.get_data_shape()[4:], header.get_data_dtype()
        start = header.get_data_offset()
    n_bytes = int(np.prod(others)) * dtype.itemsize
    return int(start) + first * n_bytes, first, n_bytes


def _check_behind(file: Path, n_behind: int) -> int:
    """Return the bytes behind the last volume; whole volumes among them would be lost.

    Some programs fill the last block of a file, which is harmless.
    """
    if n_behind:
        _, volumes, n_bytes = _end_of(file)
        if more := n_behind // n_bytes:
            raise InputError(LONGER.format(file=file, n=n_behind, volumes=volumes, more=more))
    return n_behind


def _rest(stream: IO[bytes] | gzip.GzipFile) -> int:
    """Read to the end, so that a checksum is compared; return how many bytes that were."""
    n_bytes = 0
    while more := stream.read(CHUNK):
        n_bytes += len(more)
    return n_bytes


def _check_columns(file: Path, values: npt.NDArray[Any]) -> float:
    """Check a series that is in memory, (n_volumes, n_columns), as :func:`check_values` does."""
    bad = ~(np.abs(values) <= LARGEST)
    first = int(np.flatnonzero(bad.any(axis=1))[0]) if bad.any() else 0
    _check_found(file, int(bad.sum()), first, np.asarray(~values.any(axis=1)))
    mean = values.mean(axis=0, dtype=np.float64)
    return _share_centred(file, mean, (values.astype(np.float64) ** 2).mean(axis=0))


def _check_found(file: Path, n_bad: int, first_bad: int, zero: npt.NDArray[np.bool_]) -> None:
    if n_bad:
        raise InputError(NOT_FINITE.format(file=file, n=n_bad, volume=first_bad))
    if zero.any():
        where = '' if zero.all() else f' in volume {int(np.flatnonzero(zero)[0])}'
        raise InputError(ALL_ZERO.format(file=file, where=where))


def _share_centred(
    file: Path, mean: npt.NDArray[np.float64], power: npt.NDArray[np.float64]
) -> float:
    """Return the share of voxels that vary more than their mean, of the mean and mean square."""
    variance = power - mean**2
    varies = variance > 1e-12 * power
    if not varies.any():
        raise InputError(CONSTANT.format(file=file))
    return float((mean[varies] ** 2 < variance[varies]).mean())


def read_volumes(file: Path, n: int | None = None) -> Iterator[npt.NDArray[Any]]:
    """Read a series volume by volume, in the type it has on disk (without any scaling).

    Parameters
    ----------
    file
        A 4-D NIfTI, compressed or not.
    n
        How many volumes; all if None.

    Yields
    ------
    numpy.ndarray
        Shape (x, y, z).

    Raises
    ------
    InputError
        If the file is cut short or corrupt.
    """
    image = open_image(file)
    if form_of(file) is not None:
        yield from np.moveaxis(np.asarray(image.dataobj), -1, 0)[:n]
        return
    dtype = image.header.get_data_dtype()
    shape = tuple(image.shape)
    size = int(np.prod(shape[:3])) * dtype.itemsize
    with _open(file) as stream:
        _skip(stream, int(image.dataobj.offset), file)
        for volume in range(shape[3] if n is None else min(n, shape[3])):
            data = _read(stream, 1, size, file, volume, shape[3])
            yield np.frombuffer(data, dtype).reshape(shape[:3], order='F')


@contextmanager
def _open(file: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a series, unpacked; what cannot be read of it to the end is refused."""
    with (
        raised_as(InputError, TRUNCATED, OSError, EOFError, zlib.error, file=file),
        gzip.open(file, 'rb') if file.suffix == '.gz' else file.open('rb') as stream,
    ):
        yield stream


def _skip(stream: IO[bytes] | gzip.GzipFile, n_bytes: int, file: Path) -> None:
    if len(stream.read(n_bytes)) < n_bytes:
        raise InputError(TRUNCATED.format(file=file, reason='it ends within the header'))


def _read(
    stream: IO[bytes] | gzip.GzipFile,
    n: int,
    n_bytes: int,
    file: Path,
    start: int,
    n_volumes: int,
) -> bytes:
    """Read ``n`` volumes of ``n_bytes`` from a number on."""
    data = stream.read(n * n_bytes)
    if len(data) < n * n_bytes:
        volume = start + len(data) // n_bytes
        reason = f'it ends in volume {volume} of {n_volumes}'
        raise InputError(TRUNCATED.format(file=file, reason=reason))
    return data
