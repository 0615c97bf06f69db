"""Responses that are to be compared: maps with their tables, arrays, our own outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.imagesets import ARRAYS, read_array
from bids_neurodecode.bids.timing import read_table, stimulus_names
from bids_neurodecode.bids.trials import shown_column
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.spaces import files_of, form_of, load_image, one_each, space_of
from bids_neurodecode.typing import RealArray

NOT_THERE = (
    '{source} is not there. Give a series of response maps, an array (.npy, .pt, .npz; one row '
    'per image), or an output folder.'
)
NO_MAPS = (
    'There are no response maps in {source}: no file *_stat-effect_desc-{desc}_statmap. Give the '
    'file itself.'
)
SEVERAL = 'There are several response maps in {source}: {files}. Give one of them.'
NO_TABLE = (
    'Which image each volume of {file} is the response to is not known: no table {table} beside '
    'it. Add it, one row per volume.'
)
NO_NAMES = (
    '{table} names no images: it has neither the column stim_file nor trial_type. Add one, which '
    'says of each volume of {file} what it is the response to.'
)
ROWS = '{table} has {rows} rows, but {file} has {volumes} volumes. They must be one to one.'
BAD_ARRAY = 'The array in {file} must have one row per image and one column per voxel: {shape}.'
NOT_REGIONS = (
    'Regions of arrays come as .npz, a name and a mask (n_voxels,) each; {file} is none. '
    'Of maps, give a dseg file.'
)

Side = Literal['singletrial', 'predicted']

_SESSION = re.compile(r'ses-([a-zA-Z0-9]+)')
_SPACE = re.compile(r'_space-([a-zA-Z0-9]+)_')


@dataclass(frozen=True, eq=False)
class ResponseSet:
    """Responses, row by row.

    Parameters
    ----------
    values
        Shape (n, n_voxels).
    names
        What each row is the response to, (n,); repeats have the same name.
    sessions
        Of each row, (n,); None: one.
    file
        The map that the columns are the voxels of; None: they are the columns of an array.
    folds
        In which fold of a cross-validation each row was predicted, (n,); None: in one, or it is
        not known.
    """

    values: RealArray
    names: tuple[str, ...]
    sessions: Sequence[str] | None = None
    file: Path | None = None
    folds: tuple[int, ...] | None = None


def read_responses(source: Path, side: Side) -> ResponseSet:
    """Read measured or predicted responses.

    Parameters
    ----------
    source
        A series of maps with its table of events beside it; an output folder of this program
        with one such series; or an array of rows in the same order on both sides.
    side
        Which maps of an output folder: ``singletrial`` or ``predicted``.

    Raises
    ------
    InputError
        If it cannot be read, or the table does not fit.
    """
    if source.suffix.lower() in ARRAYS and not source.is_dir():
        values = read_array(source)
        if values.ndim != 2:
            raise InputError(BAD_ARRAY.format(file=source, shape=values.shape))
        return ResponseSet(values, tuple(str(k) for k in range(len(values))))
    file = _map_in(source, side) if source.is_dir() else source
    if not file.is_file():
        check_fetched(file)
        raise InputError(NOT_THERE.format(source=source))
    table_file = _table_of(file)
    if not table_file.is_file():
        raise InputError(NO_TABLE.format(file=file, table=table_file.name))
    table = read_table(table_file)
    column = shown_column(table.columns)
    if column not in table:
        raise InputError(NO_NAMES.format(table=table_file, file=file))
    names = table['trial_type'] if column == 'trial_type' else stimulus_names(table, table_file)
    values = columns_of(file)
    if len(table) != len(values):
        raise InputError(
            ROWS.format(table=table_file, rows=len(table), file=file, volumes=len(values))
        )
    folds = _folds(table, table_file) if side == 'predicted' else None
    return ResponseSet(values, tuple(map(str, names)), _sessions(table), file, folds)


def columns_of(file: Path) -> npt.NDArray[np.float32]:
    """Read maps as rows: (n_maps, n_voxels), all voxels of the grid; one map is one row."""
    volumes = np.asanyarray(load_image(file).dataobj, dtype=np.float32)
    flat = volumes.reshape(-1, volumes.shape[3] if volumes.ndim > 3 else 1)
    rows: npt.NDArray[np.float32] = np.ascontiguousarray(flat.T)
    return rows


def read_values(file: Path) -> RealArray:
    """Read one value per voxel, (n_voxels,): an array, or a map."""
    if file.suffix.lower() in ARRAYS:
        return np.asarray(read_array(file), dtype=np.float64).ravel()
    return np.asarray(columns_of(file)[0])


def read_regions(file: Path, of: ResponseSet) -> dict[str, npt.NDArray[np.bool_]]:
    """Read the voxels of each region, (n_voxels,) each.

    Parameters
    ----------
    file
        Of maps: a segmentation (``dseg``) with its table beside it, on any grid of the same
        space. Of arrays: ``.npz``, a name and a mask each.
    of
        The responses.

    Raises
    ------
    InputError
        If it is none.
    """
    from bids_neurodecode.signals.atlasfiles import load_atlas

    if of.file is None:
        if file.suffix.lower() != '.npz':
            raise InputError(NOT_REGIONS.format(file=file))
        check_fetched(file)
        with np.load(file, allow_pickle=False) as opened:
            return {name: np.asarray(opened[name]) != 0 for name in opened.files}
    image = load_image(of.file)
    space = space_of(image)
    named = _SPACE.search(of.file.name)  # what grid and header do not say
    atlas = load_atlas(file=file, space=named[1] if named else None, columns=space)
    flat = atlas.placed(image.shape[:3], image.affine, space).ravel()
    rows = zip(atlas.table['index'], atlas.table['name'], strict=True)
    found = {str(name): flat == int(index) for index, name in rows}
    return {name: voxels for name, voxels in found.items() if voxels.any()}


def _map_in(folder: Path, side: Side) -> Path:
    pattern = f'*_stat-effect_desc-{side}_statmap.*'
    maps = [file for file in sorted(folder.rglob(pattern)) if file.suffix != '.json']
    found = [file for file in one_each(maps) if form_of(file) or file.name.endswith('.nii.gz')]
    if not found:
        raise InputError(NO_MAPS.format(source=folder, desc=side))
    if len(found) > 1:
        raise InputError(SEVERAL.format(source=folder, files=', '.join(map(str, found))))
    return found[0]


def _table_of(file: Path) -> Path:
    """Return the table of the volumes of a series: ours is of all its spaces."""
    first = files_of(file)[0].name
    desc = 'predicted' if '_desc-predicted_' in first else 'singletrial'
    kept = [part for part in first.split('_') if part.startswith(('sub-', 'ses-', 'task-'))]
    return file.with_name('_'.join([*kept, f'desc-{desc}', 'events.tsv']))


def _folds(table: Any, file: Path) -> tuple[int, ...] | None:
    """Return the fold of each row, by the table of held-out samples that lies beside ours."""
    if 'sample' not in table:
        return None
    before = file.name.removesuffix('_desc-predicted_events.tsv')
    for other in sorted(file.parent.glob(f'{before}_desc-*_predictions.tsv')):
        known = read_table(other)
        if {'sample', 'fold', 'space'} <= set(known):
            known = known[known['space'] == 'single-trial']
            folds = dict(zip(known['sample'], known['fold'], strict=True))
            if set(table['sample']) <= set(folds):
                return tuple(int(folds[sample]) for sample in table['sample'])
    return None


def _sessions(table: Any) -> list[str] | None:
    """Return the session of each row, within which responses are z-scored."""
    if 'run_label' not in table:
        return None
    found = [_SESSION.search(str(label)) for label in table['run_label']]
    return [match[1] if match else '' for match in found]
