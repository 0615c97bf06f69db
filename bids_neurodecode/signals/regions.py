"""The regions of a run: an atlas, or files of the user with names, where the data lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.config import AtlasSettings, RoiFile
from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.signals.atlas import Atlas, LabelArray, region_table
from bids_neurodecode.signals.atlasfiles import check_space, load_atlas
from bids_neurodecode.spaces import Space, image_damage, load_image, space_of

NO_FILE = 'There is no file {file} of the region {name}. Correct atlas.rois.'
UNREADABLE = 'Cannot read {file} of the region {name}: {reason}. Give NIfTI, GIFTI or CIFTI.'
NOT_ONE_MAP = (
    '{file} of the region {name} holds {n} maps, and a region has one. Give a file of one map.'
)
EMPTY = (
    'The region {name} has no voxel on the grid of the data: {file} has {n} above {above:g}. '
    'Lower its threshold, or leave it out of atlas.rois.'
)
INFINITE = (
    '{n} voxels of {file} are infinite, and a region without a threshold is a mask. Regenerate '
    'it, or give the region {name} a threshold (atlas.rois).'
)
SHARED = '{n} voxel(s) are of the region {name} and of an earlier one, which keeps them.'
RELIABLE = (
    '{file} was chosen by the repeats of all trials of an earlier call of the program. If these '
    'are the trials that are modelled now, held-out ones took part in the choice, and scores are '
    'optimistic.'
)
LABELS = ('.label.gii', '.dlabel.nii', '_dseg.nii', '_dseg.nii.gz')
"""Ends of names of files that hold several regions."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions where data lie.

    Parameters
    ----------
    labels
        Of the shape of the grid, int32; 0 is no region.
    table
        As that of :class:`~bids_neurodecode.signals.atlas.Atlas`.
    warnings
        What the user should know.
    """

    labels: LabelArray
    table: pd.DataFrame
    warnings: tuple[str, ...] = ()


def place_regions(
    settings: AtlasSettings,
    subject: str,
    *,
    shape: Sequence[int],
    affine: npt.NDArray[np.float64],
    space: str | None,
    columns: Space | None,
    fetch: bool = True,
) -> Regions:
    """Bring an atlas, or the user's own regions, to the grid of the data.

    Parameters
    ----------
    settings
        Which.
    subject
        Label of the participant, who may have files of their own.
    shape, affine
        Of the grid of the data; (n_columns, 1, 1) where they are of a space.
    space
        Its identifier; None if it is native.
    columns
        What the columns of the data are, where they are no volumes.
    fetch
        Whether an atlas of TemplateFlow that is not there is fetched; else it is an error.

    Raises
    ------
    InputError, DataError
        If a file cannot be had or read, lies in another space, or has no voxel on the grid.
    """
    if not settings.rois:
        atlas = load_atlas(
            name=settings.name,
            file=settings.file,
            table=settings.table,
            space=space,
            columns=columns,
            fetch=fetch,
        )
        return Regions(atlas.placed(shape, affine, columns), atlas.table, atlas.warnings)

    labels = np.zeros(tuple(shape[:3]), dtype=np.int32)
    tables: list[pd.DataFrame] = []
    warnings: list[str] = []
    for name, text in settings.rois.items():
        given = RoiFile.of(text, subject)
        atlas = read_region(name, given, space, columns)
        placed = atlas.placed(shape, affine, columns)
        if not placed.any():
            n = int(np.count_nonzero(atlas.labels))
            raise InputError(EMPTY.format(name=name, file=given.file, n=n, above=given.above))
        warnings += atlas.warnings
        warnings += filter(None, [chosen_by_all(given.file)])
        shared = int(np.count_nonzero((placed > 0) & (labels > 0)))
        if shared:
            warnings.append(SHARED.format(n=shared, name=name))
        first = 1 + sum(len(table) for table in tables)
        numbers = np.arange(first, first + len(atlas.table))
        for old, new in zip(atlas.table['index'], numbers, strict=True):
            labels[(placed == old) & (labels == 0)] = new
        tables.append(atlas.table.assign(index=numbers))
    return Regions(labels, pd.concat(tables, ignore_index=True), tuple(warnings))


def chosen_by_all(file: Path) -> str:
    """Return what to say of a mask of reliable voxels that the program made; else nothing."""
    return RELIABLE.format(file=file) if '_label-reliable_' in file.name else ''


def read_region(name: str, given: RoiFile, space: str | None, columns: Space | None) -> Atlas:
    """Read the file of a region: a mask, a map with a threshold, or labels.

    Parameters
    ----------
    name
        Of the region; several labels of one file bear it before their own names.
    given
        File and threshold.
    space, columns
        As in :func:`place_regions`.
    """
    file = given.file
    check_fetched(file)
    if not file.is_file():
        raise InputError(NO_FILE.format(file=file, name=name))
    if file.name.endswith(LABELS) and given.threshold is None:
        atlas = load_atlas(file=file, space=space, columns=columns)
        used = atlas.table[atlas.table['index'].isin(np.unique(atlas.labels))]
        names = [name] if len(used) == 1 else [f'{name}_{each}' for each in used['name']]
        return replace(atlas, table=used.assign(name=names).reset_index(drop=True))
    found, warnings = check_space(file, space)
    image, values = _read(file, name)
    if given.threshold is None and np.isinf(values).any():
        raise InputError(INFINITE.format(file=file, name=name, n=int(np.isinf(values).sum())))
    table = region_table(pd.DataFrame({'index': [1], 'name': [name]}))
    labels = np.asarray(values > given.above, dtype=np.int32)
    affine = np.asarray(image.affine, dtype=np.float64)
    return Atlas(labels, affine, table, name, found, warnings, space_of(image))


def _read(file: Path, name: str) -> tuple[Any, npt.NDArray[Any]]:
    """Read one map, (x, y, z)."""
    with raised_as(InputError, UNREADABLE, *image_damage(), file=file, name=name):
        image = load_image(file)
        values: npt.NDArray[Any] = np.asanyarray(image.dataobj)
    n_maps = int(np.prod(values.shape[3:]))
    if values.ndim < 3 or n_maps != 1:
        raise InputError(NOT_ONE_MAP.format(file=file, name=name, n=n_maps))
    return image, values.reshape(values.shape[:3])
