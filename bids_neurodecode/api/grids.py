"""Images of any kind as volumes x voxels, and back: NIfTI, surfaces, CIFTI, arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import InputError, UsageError, raised_as
from bids_neurodecode.samples import VoxelMask, form_codes
from bids_neurodecode.spaces import Space, image_damage, sidecar_of, space_of, volume_seconds
from bids_neurodecode.typing import BoolArray, Float32Array

UNKNOWN_IMAGE = (
    'images[{run}] is {found}; give a path (NIfTI, GIFTI or CIFTI), an image of nibabel or '
    'nilearn, or an array of shape (n_volumes, n_voxels) or (x, y, z, n_volumes).'
)
NOT_SERIES = 'images[{run}] has shape {shape}; a series has a time axis of two volumes or more.'
OTHER_GRID = (
    'images[{run}] and {other} lie on different grids ({found} and {expected}, or another '
    'affine). Resample one of them.'
)
BAD_MASK = 'mask must be boolean of shape {expected}, or an image on that grid; it is {found}.'
DAMAGED = 'Cannot read {file} to its end: {reason}. Copy it again.'
NO_VOXEL = 'No voxel is finite and varies in every run: nothing is left. Give a mask.'
NO_IMAGES = 'images is empty; give one image per run.'
WRONG_VALUES = 'values must have {expected} voxels in the last axis; they have shape {found}.'
NO_GRID = (
    'These betas come from an array without a grid, so there is no image to make of them. '
    'Use the values, or give images as NIfTI, surface or CIFTI.'
)

HEMISPHERES_OF: dict[Literal['L', 'R'], str] = {'L': 'left', 'R': 'right'}
Back = Callable[[Float32Array], Any]


@dataclass(frozen=True, eq=False)
class Series:
    """One run: how it is read, its grid, and its clock.

    Parameters
    ----------
    read
        Reads all of its voxels, (n_volumes, n_all).
    shape
        Of the grid: (x, y, z), or (n_all,).
    affine
        Voxel-to-world matrix in mm of a volume; None of others.
    back
        Turns rows (n, n_all) into an image; None where there is no image to make.
    repetition_time
        Seconds, as the file says; None where it does not.
    codes
        NIfTI codes of a volume's ``qform`` and ``sform``.
    path
        Of the file, where it was given as one.
    space
        What the columns are of files that are no volumes; their shape is (n_all, 1, 1).
    """

    read: Callable[[], Float32Array]
    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64] | None = None
    back: Back | None = None
    repetition_time: float | None = None
    codes: tuple[int, int] = (0, 2)
    path: Path | None = None
    space: Space | None = None


@dataclass(frozen=True, eq=False)
class Grid:
    """Which voxels make the columns of a matrix, and how a row becomes an image again."""

    inside: BoolArray
    back: Back | None
    volume: VoxelMask | None = None

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.inside))

    def image(self, values: npt.ArrayLike) -> Any:
        """Turn (n_voxels,) or (n, n_voxels) into an image, 0 outside of the mask."""
        rows = np.asarray(values, dtype=np.float32)
        if rows.ndim not in {1, 2} or rows.shape[-1] != self.n_voxels:
            raise UsageError(WRONG_VALUES.format(expected=self.n_voxels, found=rows.shape))
        if self.volume is not None:
            return as_shown(self.volume.image(np.nan_to_num(rows)))
        if self.back is None:
            raise UsageError(NO_GRID)
        full = np.zeros((*rows.shape[:-1], self.inside.size), dtype=np.float32)
        full[..., self.inside] = np.nan_to_num(rows)
        return self.back(full)


def open_runs(images: Any) -> list[Series]:
    """Open one image per run; a single one is one run.

    Raises
    ------
    UsageError
        If one is of no kind that is known, or they lie on different grids.
    """
    several = isinstance(images, Sequence) and not isinstance(images, str)
    opened = [_open(image, run) for run, image in enumerate(images if several else [images])]
    if not opened:
        raise UsageError(NO_IMAGES)
    for run, each in enumerate(opened):
        _same(each, opened[0], run, 'images[0]')
    return opened


def grid_of(runs: Sequence[Series], mask: Any = None) -> Grid:
    """Choose the voxels: those of a mask, or all that are finite and vary in every run.

    Parameters
    ----------
    runs
        Series of all runs, on one grid.
    mask
        Voxels to keep: an image or array of the runs' shape; None keeps all usable ones.

    Raises
    ------
    UsageError
        If the mask does not fit, or no voxel is left.
    """
    first = runs[0]
    inside = _usable(runs) if mask is None else _inside(mask, first)
    if not inside.any():
        raise UsageError(NO_VOXEL)
    volume = None
    if first.affine is not None:
        volume = VoxelMask(inside, first.affine, first.codes, first.space)
    return Grid(inside.ravel(), first.back, volume)


def read_run(run: Series, grid: Grid) -> Float32Array:
    """Read the voxels of a grid, (n_volumes, n_voxels).

    Parameters
    ----------
    run
        The series of one run.
    grid
        Voxels that are read.
    """
    return np.ascontiguousarray(run.read()[:, grid.inside])


def _usable(runs: Sequence[Series]) -> BoolArray:
    inside = np.ones(runs[0].shape, dtype=bool).ravel()
    for run in runs:
        values = run.read()
        inside &= np.isfinite(values).all(axis=0)
        inside[inside] = np.ptp(values[:, inside], axis=0) > 0
    return inside.reshape(runs[0].shape)


def _inside(mask: Any, run: Series) -> BoolArray:
    """Return which voxels are in a mask, in the shape of the grid."""
    if isinstance(mask, VoxelMask):
        mask = mask.image(np.ones(mask.n_voxels))
    if isinstance(mask, str | Path):
        from bids_neurodecode.bids.series import open_image

        mask = open_image(Path(mask))
    opened = None
    if hasattr(mask, 'mesh') or hasattr(mask, 'dataobj') or hasattr(mask, 'agg_data'):
        opened = _open(mask, 0, least=1)
        found: npt.NDArray[Any] = opened.read()[0].reshape(opened.shape) > 0
    else:
        found = np.asarray(mask)
        if run.space is not None and found.shape == (found.size,):
            found = found.reshape(-1, 1, 1)
    if found.dtype != np.bool_ or found.shape != run.shape:
        told = f'{found.dtype} of shape {found.shape}'
        raise UsageError(BAD_MASK.format(expected=run.shape, found=told))
    if opened is not None and opened.affine is not None:
        _same(opened, run, 0, 'mask')
    return np.asarray(found)


def _same(one: Series, first: Series, run: int, other: str) -> None:
    alike = one.shape == first.shape and (one.affine is None) == (first.affine is None)
    if alike and one.affine is not None and first.affine is not None:
        alike = np.allclose(one.affine, first.affine, atol=1e-3)
    if one.space is not None or first.space is not None:
        alike = alike and one.space is not None and one.space.same_as(first.space)
    if not alike:
        told = {'run': run, 'other': other, 'found': one.shape, 'expected': first.shape}
        raise UsageError(OTHER_GRID.format(**told))


def as_shown(image: Any) -> Any:
    """Return an image as notebooks take it: CIFTI, a GIFTI image a hemisphere, or a table.

    Parameters
    ----------
    image
        As the program holds it: a volume, or (n_columns, 1, 1[, n_rows]) with its space.
    """
    space = space_of(image)
    if space is None:
        return image
    rows = np.asarray(image.dataobj, dtype=np.float32).reshape(space.n_columns, -1).T
    if space.form == 'parcels':
        import pandas as pd

        return pd.DataFrame(rows, columns=[str(name) for name in space.axis.name])
    if space.form == 'gifti':
        cut = {side: rows[:, space.cortex(side)[2]] for side in HEMISPHERES_OF}
        return {
            name: _gifti_of(cut[side]) for side, name in HEMISPHERES_OF.items() if cut[side].size
        }

    names = nib.cifti2.ScalarAxis([str(number) for number in range(len(rows))])
    return nib.Cifti2Image(rows, header=(names, space.axis))


def _gifti_of(rows: Float32Array) -> Any:
    from nibabel.gifti import GiftiDataArray, GiftiImage

    return GiftiImage(darrays=[GiftiDataArray(np.ascontiguousarray(row)) for row in rows])


def _open(image: Any, run: int, *, least: int = 2) -> Series:
    if isinstance(image, str | Path):
        return _open_file(Path(image), run, least)
    if isinstance(image, nib.Cifti2Image):
        return _cifti(image, run, least)
    if isinstance(image, nib.gifti.GiftiImage):
        return _gifti(image, run, least)
    if hasattr(image, 'mesh'):
        return _surface(image, run, least)
    if hasattr(image, 'dataobj') and hasattr(image, 'affine'):
        return _nifti(image, run, least)
    if isinstance(image, np.ndarray):
        return _array(image, run, least)
    raise UsageError(UNKNOWN_IMAGE.format(run=run, found=type(image).__name__))


def _open_file(path: Path, run: int, least: int) -> Series:
    """Open a file; what is damaged further on is an error when it is read."""
    from bids_neurodecode.bids.series import open_image

    opened = _open(open_image(path), run, least=least)

    def read() -> Float32Array:
        with raised_as(InputError, DAMAGED, *image_damage(), file=path):
            return opened.read()

    seconds = opened.repetition_time or _period_of(path)
    return replace(opened, read=read, path=path, repetition_time=seconds)


def _period_of(path: Path) -> float | None:
    """Return the repetition time of the sidecar beside a file, where it gives one."""
    from bids_neurodecode.bids.description import read_json

    file = sidecar_of(path)
    value = read_json(file).get('RepetitionTime') if file.is_file() else None
    able = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if able and value is not None else None


def _nifti(image: Any, run: int, least: int) -> Series:
    shape = tuple(image.shape) if len(image.shape) > 3 else (*image.shape, 1)
    _check_length(shape, run, least)

    def read() -> Float32Array:
        values = np.asanyarray(image.dataobj, dtype=np.float32).reshape(-1, shape[3])
        return np.ascontiguousarray(values.T)

    seconds = None
    if len(image.shape) > 3:
        seconds = volume_seconds(image) or None
    affine = np.asarray(image.affine, dtype=np.float64)
    codes = form_codes(image)
    return Series(read, shape[:3], affine, None, seconds, codes, space=space_of(image))


def _array(values: npt.NDArray[Any], run: int, least: int) -> Series:
    if values.ndim == 2:
        _check_length((1, 1, 1, len(values)), run, least)
        return Series(lambda: np.asarray(values, dtype=np.float32), (values.shape[1],))
    if values.ndim != 4:
        raise UsageError(UNKNOWN_IMAGE.format(run=run, found=f'an array of shape {values.shape}'))
    _check_length(values.shape, run, least)
    shape = values.shape[:3]
    # columns in C order of the grid, as those of a volume
    return Series(
        lambda: np.asarray(values.reshape(-1, values.shape[3]).T, dtype=np.float32),
        shape,
        None,
        lambda rows: (
            np.moveaxis(rows.reshape(*rows.shape[:-1], *shape), 0, -1)
            if rows.ndim == 2
            else rows.reshape(shape)
        ),
    )


def _gifti(image: Any, run: int, least: int) -> Series:
    from nibabel.gifti import GiftiDataArray, GiftiImage

    stacked = np.stack([each.data for each in image.darrays])
    # one data array a volume, or one that holds all volumes
    values = stacked[0].T if stacked.ndim == 3 else stacked
    _check_length((1, 1, 1, len(values)), run, least)

    def back(rows: Float32Array) -> Any:
        arrays = [GiftiDataArray(row) for row in np.atleast_2d(rows)]
        return GiftiImage(darrays=arrays, meta=image.meta)

    return Series(lambda: values.astype(np.float32), (values.shape[1],), None, back)


def _cifti(image: Any, run: int, least: int) -> Series:
    _check_length((1, 1, 1, image.shape[0]), run, least)
    time, brain = (image.header.get_axis(k) for k in (0, 1))
    scale = {'MILLISECOND': 1e-3}.get(str(getattr(time, 'unit', '')).upper(), 1.0)
    seconds = float(time.step) * scale if hasattr(time, 'step') else None

    def back(rows: Float32Array) -> Any:
        maps = np.atleast_2d(rows)
        names = nib.cifti2.ScalarAxis([str(k) for k in range(len(maps))])
        return nib.Cifti2Image(maps, header=(names, brain))

    return Series(
        lambda: np.asanyarray(image.dataobj, dtype=np.float32),
        (image.shape[1],),
        None,
        back,
        seconds,
    )


def _surface(image: Any, run: int, least: int) -> Series:
    from nilearn.surface import SurfaceImage

    parts = {name: np.asarray(values) for name, values in image.data.parts.items()}
    parts = {name: v[:, None] if v.ndim == 1 else v for name, v in parts.items()}
    sizes = [len(values) for values in parts.values()]
    stacked = np.concatenate([*parts.values()])
    _check_length((1, 1, 1, stacked.shape[1]), run, least)

    def back(rows: Float32Array) -> Any:
        cut = np.split(rows, np.cumsum(sizes)[:-1], axis=-1)
        data = {name: values.T for name, values in zip(parts, cut, strict=True)}
        return SurfaceImage(image.mesh, data)

    return Series(
        lambda: np.ascontiguousarray(stacked.T, dtype=np.float32), (len(stacked),), None, back
    )


def _check_length(shape: tuple[int, ...], run: int, least: int) -> None:
    if shape[-1] < least:
        raise UsageError(NOT_SERIES.format(run=run, shape=shape))
