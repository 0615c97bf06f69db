"""The brain mask of a series: its own, one for all, the anatomical one, or voxels that vary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.entities import GRID_ENTITIES, counted, parse_entities
from bids_neurodecode.bids.layouts import NO_PLACE
from bids_neurodecode.bids.series import (
    OTHER_GRID,
    Grid,
    open_image,
    read_mask,
    read_volumes,
)
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.samples import form_codes, set_codes
from bids_neurodecode.signals.regions import chosen_by_all
from bids_neurodecode.spaces import form_of, space_of

MASK_VOLUMES = 20

NO_MASK_FILE = 'There is no mask file {file}. Check --mask.'
NO_BRAIN = (
    'No voxel of {bold} varies over its first {n} volumes, so there is no mask. '
    'Download or make the file again.'
)
RESAMPLED = (
    'The mask {mask} was resampled to the grid of the series in {folder} (nearest neighbour).'
)
FROM_ANATOMY = (
    'sub-{label}: there is no brain mask of the series{space}; the anatomical one, {mask}, was '
    'taken, resampled to their grid (nearest neighbour).'
)
FROM_SERIES = (
    'sub-{label}: there is no brain mask of the series{space}, and no anatomical one of that '
    'space: voxels that vary over the first {n} volumes of each run are used. A better one can be '
    'named with --mask.'
)
COVERED = 0.5
"""Share of a mask's volume that a series must cover, or it is the mask of something else."""


def given_mask(mask: Path, bold: Path, grid: Grid, folder: Path | None) -> tuple[Path, str]:
    """Return the mask that was named for all runs, on the grid of a series, and a note.

    Parameters
    ----------
    mask
        A 3-D NIfTI, or a map in the form of the series; voxels above 0 are inside.
    bold
        The series.
    grid
        Of the series.
    folder
        Where a resampled mask is made.

    Raises
    ------
    InputError
        If it is no mask, or half of it or more lies outside of the series.
    """
    check_fetched(mask)
    if not mask.is_file():
        raise InputError(NO_MASK_FILE.format(file=mask))
    inside, own = read_mask(mask)
    note = chosen_by_all(mask)
    if own.same_as(grid):
        return (mask if form_of(mask) is None else _kept(mask, inside, folder)), note
    if own.space is not None or grid.space is not None:
        raise InputError(OTHER_GRID.format(file=mask, grid=own, reference=bold, expected=grid))
    made = _resampled(mask, inside, own, bold, grid, folder)
    resampled = RESAMPLED.format(mask=mask, folder=bold.parent)
    return made, f'{resampled} {note}'.rstrip()


def anatomical_mask(bold: Path, candidates: Sequence[Path]) -> Path | None:
    """Return the anatomical brain mask in the space of a series, if there is one.

    Parameters
    ----------
    bold
        The series. One without ``space`` lies in that of its own reference image, in which there
        is no anatomical mask.
    candidates
        Brain masks of the participant; anatomical ones have no ``task``.

    Returns
    -------
    pathlib.Path or None
        The mask of the series' session, else of the participant; of the series' resolution
        where there are several.
    """
    own = counted(parse_entities(bold))
    space = own.get('space')
    if space is None:
        return None
    found: list[tuple[int, str, Path]] = []
    for path in candidates:
        entities = counted(parse_entities(path))
        # what fMRIPrep makes of the anatomical images in their own space names no space
        its_space = entities.get('space', 'T1w')
        fits = its_space == space and entities.get('cohort') == own.get('cohort')
        same_person = entities.get('sub') == own.get('sub')
        if 'task' in entities or not fits or not same_person:
            continue
        if entities.get('ses', own.get('ses')) != own.get('ses'):
            continue
        score = sum(entities.get(key) == own.get(key) for key in ('ses', 'res'))
        found.append((-score, path.name, path))
    return min(found)[2] if found else None


def from_anatomy(
    mask: Path, bold: Path, grid: Grid, folder: Path | None, dataset: Path
) -> tuple[Path, str]:
    """Return an anatomical mask on the grid of a series, and a note.

    Parameters
    ----------
    mask
        On the grid of the anatomical image.
    bold
        The series.
    grid
        Of the series.
    folder
        Where a resampled mask is written; None: none may be.
    dataset
        Folder of the derivatives, by which the mask is named.

    Raises
    ------
    InputError
        If it cannot be read, half of it or more lies outside of the series, or there is no
        folder to make it in.
    """
    inside, own = read_mask(mask)
    entities = parse_entities(bold)
    note = FROM_ANATOMY.format(label=entities.get('sub'), space=_said(entities), mask=mask)
    if own.same_as(grid):
        return mask, note
    return _resampled(mask, inside, own, bold, grid, folder, dataset), note


def from_series(bold: Path, folder: Path | None, dataset: Path) -> tuple[Path, str]:
    """Return a mask of the voxels of a series that vary (:func:`make_mask`), and a note.

    Parameters
    ----------
    bold
        The series.
    folder
        Where the mask is written; None: none may be.
    dataset
        Folder of the derivatives, by which the mask is named.
    """
    entities = parse_entities(bold)
    note = FROM_SERIES.format(label=entities.get('sub'), space=_said(entities), n=MASK_VOLUMES)
    return make_mask(bold, folder, dataset), note


def make_mask(bold: Path, folder: Path | None, dataset: Path) -> Path:
    """Make the mask of a series without one: the voxels that vary in its first volumes.

    Series whose brain was extracted are constant outside of it. A mask that was made of the same
    file before is taken again.

    Parameters
    ----------
    bold
        The series; its first :data:`MASK_VOLUMES` volumes are read.
    folder
        Where the mask is made.
    dataset
        Named in errors.

    Raises
    ------
    InputError
        If no voxel varies, the file is cut short, or there is no folder.
    """
    path = _place(folder, dataset, bold, _state(bold), MASK_VOLUMES)
    if path.exists():
        return path
    low: npt.NDArray[Any] | None = None
    high: npt.NDArray[Any] | None = None
    for volume in read_volumes(bold, MASK_VOLUMES):
        low = volume.copy() if low is None else np.minimum(low, volume)
        high = volume.copy() if high is None else np.maximum(high, volume)
    inside = np.asarray(high) > np.asarray(low)
    if not inside.any():
        raise InputError(NO_BRAIN.format(bold=bold, n=MASK_VOLUMES))
    _write(path, inside, bold)
    return path


def _resampled(
    mask: Path,
    inside: npt.NDArray[np.bool_],
    own: Grid,
    bold: Path,
    grid: Grid,
    folder: Path | None,
    dataset: Path | None = None,
) -> Path:
    """Resample a mask to the grid of a series by nearest neighbour, in the folder."""
    path = _place(folder, dataset or mask, bold, _state(mask), grid.shape, grid.affine.tolist())
    if path.exists():
        return path
    from nilearn.image import resample_img

    resampled = resample_img(
        nib.Nifti1Image(inside.astype(np.uint8), own.affine),
        target_affine=grid.affine,
        target_shape=grid.shape,
        interpolation='nearest',
        copy_header=True,
        force_resample=True,
    )
    found = np.asarray(resampled.dataobj) > 0
    size, own_size = (abs(np.linalg.det(g.affine[:3, :3])) for g in (grid, own))
    if found.sum() * size < COVERED * inside.sum() * own_size:
        raise InputError(OTHER_GRID.format(file=mask, grid=own, reference=bold, expected=grid))
    _write(path, found, bold)
    return path


def _kept(mask: Path, inside: npt.NDArray[np.bool_], folder: Path | None) -> Path:
    """Keep a mask of a surface, CIFTI or parcels as a mask is read between steps."""
    path = _place(folder, mask, mask, _state(mask))
    if not path.exists():
        _write(path, inside, mask)
    return path


def _state(file: Path) -> str:
    state = file.stat()
    return f'{file}|{state.st_size}|{state.st_mtime_ns}'


def _place(folder: Path | None, dataset: Path, bold: Path, *what: object) -> Path:
    """Return where a mask of a series is made: in a folder named by what it is made of."""
    if folder is None:
        raise InputError(NO_PLACE.format(folder=dataset))
    key = hashlib.sha256('|'.join(map(str, what)).encode()).hexdigest()[:12]
    stem = bold.name.split('_desc-')[0].split('.')[0]
    return folder / key / f'{stem}_desc-brain_mask.nii.gz'


def _write(path: Path, inside: npt.NDArray[np.bool_], bold: Path) -> None:
    from bids_neurodecode.bids.sink import write_image

    image = open_image(bold)
    space = space_of(image)
    if space is not None:
        write_image(path, space.image(inside.astype(np.uint8)))
        return
    made = nib.Nifti1Image(inside.astype(np.uint8), image.affine)
    write_image(path, set_codes(made, form_codes(image)))


def _said(entities: dict[str, str]) -> str:
    """Say in which space series lie."""
    said = ' '.join(f'{key}-{entities[key]}' for key in GRID_ENTITIES if key in entities)
    return f' in {said}' if said else ' in their own space'
