"""NSD's single-trial betas: one file per session, 16-bit, read in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.series import open_image, read_volumes
from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.headers import check_dataset
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.text import one_line

BAD_SESSION = 'Cannot read the betas {file}: {reason}. Download the file again.'
WRONG_TYPE = (
    'The betas {file} are {dtype}, and NSD gives 16-bit whole numbers (a 300th of a percent). '
    'Give the files as they were published.'
)
WRONG_SHAPE = (
    'The betas {file} have the shape {shape}; {trials} trials on a grid of {grid} voxels were '
    'expected. Give all files of one preparation, as they were published.'
)
SCALE = np.float32(1 / 300)
"""From what is stored to percent signal change."""
ARRAY = 'betas'


def check_session(file: Path, n_trials: int, grid: Sequence[int]) -> None:
    """Check the header of a session's betas.

    Parameters
    ----------
    file
        ``betas_sessionNN.nii.gz`` or ``.hdf5``.
    n_trials
        That the session has by the design.
    grid
        Shape of the mask. An HDF5 array may lie as MATLAB's does for Python: (trials, z, y, x).

    Raises
    ------
    InputError
        If the file is cut short, or has another type or shape.
    """
    shape, dtype = _header(file)
    grid = tuple(int(n) for n in grid)
    if dtype.kind != 'i' or dtype.itemsize != 2:
        raise InputError(WRONG_TYPE.format(file=file, dtype=dtype))
    upright, turned = (*grid, n_trials), (n_trials, *grid[::-1])
    if shape != upright and not (file.suffix == '.hdf5' and shape == turned):
        raise InputError(
            WRONG_SHAPE.format(
                file=file,
                shape='x'.join(map(str, shape)),
                trials=n_trials,
                grid='x'.join(map(str, grid)),
            )
        )


def _header(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if file.suffix != '.hdf5':
        image = open_image(file)
        if image.dataobj.slope != 1 or image.dataobj.inter != 0:
            scaled = f'scaled in their header (by {image.dataobj.slope:g})'
            raise InputError(WRONG_TYPE.format(file=file, dtype=scaled))
        return tuple(int(n) for n in image.shape), image.header.get_data_dtype()
    import h5py

    check_fetched(file)
    try:
        with h5py.File(file, 'r') as opened:
            check_dataset(opened[ARRAY], file)
            return tuple(opened[ARRAY].shape), opened[ARRAY].dtype
    except (OSError, KeyError, AttributeError) as error:
        reason = one_line(error).strip('"')
        raise InputError(BAD_SESSION.format(file=file, reason=reason)) from error


def read_session(file: Path, mask: VoxelMask) -> npt.NDArray[np.float32]:
    """Read the masked betas of one session, in percent signal change.

    Parameters
    ----------
    file
        Checked by :func:`check_session`; or those of the Algonauts Challenge.
    mask
        On the grid of the betas.

    Returns
    -------
    numpy.ndarray
        Shape (n_trials, n_voxels), float32.

    Raises
    ------
    InputError
        If the file is cut short or corrupt.
    """
    if file.suffix == '.npy':
        from bids_neurodecode.bids.algonauts import read_responses

        return read_responses(file)
    if file.suffix != '.hdf5':
        stored = np.stack([volume[mask.mask] for volume in read_volumes(file)])
        return stored.astype(np.float32) * SCALE
    import h5py

    with (
        raised_as(InputError, BAD_SESSION, OSError, file=file),
        h5py.File(file, 'r') as opened,
    ):
        array = opened[ARRAY]
        values = np.empty((_n_trials(array, mask), mask.n_voxels), dtype=np.float32)
        turned = array.shape[1:] == mask.mask.shape[::-1]
        _fill(values, array, mask.mask, turned=turned)
    return values


def _n_trials(array: Any, mask: VoxelMask) -> int:
    return int(array.shape[0] if array.shape[1:] == mask.mask.shape[::-1] else array.shape[3])


def _fill(
    values: npt.NDArray[np.float32], array: Any, mask: npt.NDArray[np.bool_], *, turned: bool
) -> None:
    """Read slice by slice along z: the array may be chunked by voxel, all trials together."""
    column = np.full(mask.shape, -1)
    column[mask] = np.arange(mask.sum())
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        inside = mask[:, :, z]
        slab = array[:, z].transpose(2, 1, 0) if turned else array[:, :, z]
        values[:, column[:, :, z][inside]] = slab[inside].T * SCALE
