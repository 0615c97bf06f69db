"""Where an atlas comes from: TemplateFlow by name, or a ``dseg`` file with its table."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import DataError, InputError, raised_as, retold
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.signals.atlas import Atlas, LabelArray, as_labels, region_table
from bids_neurodecode.signals.templateflowfiles import (
    DENSITIES,
    ENTITY,
    NESTED,
    NO_SPACE,
    surface_files,
    volume_files,
)
from bids_neurodecode.spaces import (
    HEMISPHERES,
    WHERE,
    Space,
    files_of,
    form_of,
    image_damage,
    load_image,
    space_of,
    structures,
)
from bids_neurodecode.tables import as_table, read_rows, to_numbers

STRUCTURES = 'structures'
"""Name of the atlas that the data bring themselves, where they are no volumes."""
FILE_NEEDED = (
    'The atlas {name} cannot be taken by its name for {where}. Give "structures" (each {column} '
    'is a region) or a file (atlas.file).'
)
NEITHER = 'An atlas needs a name or a file (atlas.name, atlas.file).'
OTHER_SPACE = (
    'The atlas {file} is in {found}, the data are in {space}. Use data in {found}, or an atlas '
    'in {space}.'
)
NO_FILE = 'There is no atlas file {file}. Fix atlas.file.'
NOT_WHOLE = 'The column "index" of {file} must hold the whole number of each region. Correct it.'
UNREADABLE = 'Cannot read the atlas file {file}: {reason}. Give a dseg NIfTI file and its table.'
NO_TABLE = (
    'No table was found for the atlas {file} (looked for {tried}). Name it with atlas.table: a '
    'TSV with the columns index and name.'
)
SPACE_ASSUMED = 'The name of the atlas {file} does not say its space; it is taken to be {space}.'
SPACE_VARIANT = 'The atlas {file} says its space is {found}; it is taken to be {space}.'
COARSER = (
    'The atlas {name} has {n_atlas} vertices in a hemisphere and the data have {n}: each '
    'vertex has the label of the same vertex of the finer mesh (meshes of fsaverage are nested).'
)
UNNAMED_LABELS = '{n} label(s) of the atlas {file} are not in its table and are not used.'


def load_atlas(
    *,
    name: str | None = None,
    file: Path | None = None,
    table: Path | None = None,
    space: str | None = None,
    columns: Space | None = None,
    fetch: bool = True,
) -> Atlas:
    """Find and read an atlas in the space of the data.

    Parameters
    ----------
    name
        As TemplateFlow names it: the atlas, then its entities
        (``Schaefer2018_desc-100Parcels7Networks``, on surfaces
        ``Schaefer2018_seg-7n_scale-100``). Files that are in ``TEMPLATEFLOW_HOME`` are
        read from there without a network; others are fetched, within TemplateFlow's time limit,
        at resolution 2 if there is one.
        ``structures``: the structures of CIFTI, the hemispheres of a surface, or each parcel of
        series of parcels.
    file
        Or a ``dseg`` NIfTI file; ``.label.gii`` (one of both hemispheres), ``.dlabel.nii``.
    table
        Its table: TSV or CSV with ``index`` and ``name`` (or ``label``), or two columns without
        a header. Looked for beside the file, under its name with or without space and resolution.
    space
        Space of the data (``MNI152NLin6Asym``); None if it is native.
    columns
        What the columns of the data are, where they are no volumes.
    fetch
        Whether files of TemplateFlow that are not there are fetched; else they are an error
        (:class:`~bids_neurodecode.signals.templateflowfiles.WouldBeFetchedError`).

    Returns
    -------
    Atlas
        On its own grid (see :meth:`Atlas.on_grid`).

    Raises
    ------
    InputError
        If there is no such atlas in the space of the data, or it cannot be had or read.
    """
    if name == STRUCTURES and columns is not None:
        return _structures(columns, space)
    if name is not None:
        if columns is not None:
            return _surface_atlas(name, columns, fetch=fetch)
        if space is None:
            raise InputError(NO_SPACE.format(name=name))
        file, table = volume_files(name, space, fetch=fetch)
        found: str | None = space
        warnings: tuple[str, ...] = ()
    elif file is not None:
        check_fetched(file)
        if not file.is_file():
            raise InputError(NO_FILE.format(file=file))
        found, warnings = check_space(file, space)
        if form_of(file) is not None:
            own = _read_form(file, table or _own_table(file), found, warnings)
            return own if columns is None else _on_nested_mesh(own, columns)
        table = table if table is not None else _table_beside(file)
    else:
        raise InputError(NEITHER)
    return _read(file, table, name or file.name.split('.')[0], found, warnings)


def _read(
    file: Path, table: Path, name: str, space: str | None, warnings: tuple[str, ...]
) -> Atlas:
    check_fetched(file)
    with (
        retold(InputError, DataError),
        raised_as(InputError, UNREADABLE, *image_damage(), file=file),
    ):
        image = load_image(file)
        volume = np.asanyarray(image.dataobj)
    labels = as_labels(volume, str(file))
    regions = region_table(_read_table(table))
    affine = np.asarray(image.affine, dtype=np.float64)
    return Atlas(labels, affine, regions, name, space, warnings + _unnamed(labels, regions, file))


def _unnamed(labels: LabelArray, regions: pd.DataFrame, file: Path) -> tuple[str, ...]:
    """Say how many labels of an atlas are not in its table."""
    unnamed = np.setdiff1d(np.unique(labels[labels > 0]), regions['index'].to_numpy())
    return (UNNAMED_LABELS.format(n=unnamed.size, file=file),) if unnamed.size else ()


def _own_table(file: Path) -> Path | None:
    """Return the table beside labels on surfaces or in CIFTI, which may bring their own names."""
    try:
        return _table_beside(file)
    except InputError:
        return None


def _surface_atlas(name: str, columns: Space, *, fetch: bool) -> Atlas:
    """Read an atlas of TemplateFlow on the surfaces of the data."""
    if columns.form not in {'gifti', 'cifti'}:
        told = {'where': WHERE[columns.form], 'column': 'parcel'}
        raise InputError(FILE_NEEDED.format(name=name, **told))
    file, table = surface_files(name, columns, fetch=fetch)
    space = columns.label.split(':')[0]
    # numbers may begin anew in the right hemisphere: the files' own names tell them apart
    found = _read_form(file, None, space, ())
    if table is not None and (found.warnings or found.table.empty):
        found = _read_form(file, table, space, ())
    return _on_nested_mesh(replace(found, name=name), columns)


def _on_nested_mesh(atlas: Atlas, columns: Space) -> Atlas:
    """Return an atlas of fsaverage on the coarser mesh of the data, where that is nested in it."""
    from nibabel.cifti2.cifti2_axes import BrainModelAxis

    template = columns.label.split(':')[0]
    theirs = atlas.columns
    if not template.startswith(NESTED) or theirs is None or theirs.form != 'gifti':
        return atlas
    sides: tuple[Literal['L', 'R'], ...] = ('L', 'R')
    n_data = max(columns.cortex(side)[0] for side in sides)
    n_atlas = max(theirs.cortex(side)[0] for side in sides)
    if not n_data < n_atlas or not {n_data, n_atlas} <= set(DENSITIES.values()):
        return atlas
    axes, labels = [], []
    for side in sides:
        n, _, place = theirs.cortex(side)
        if n:
            axes.append(BrainModelAxis.from_surface(np.arange(n_data), n_data, HEMISPHERES[side]))
            labels.append(atlas.labels[place][:n_data])
    axis = axes[0] if len(axes) == 1 else axes[0] + axes[1]
    return replace(
        atlas,
        labels=np.concatenate(labels),
        columns=Space(axis, theirs.form, theirs.label),
        warnings=(
            *atlas.warnings,
            COARSER.format(name=atlas.name, n_atlas=f'{n_atlas:,}', n=f'{n_data:,}'),
        ),
    )


def _structures(columns: Space, space: str | None) -> Atlas:
    """Return the parts of a space as an atlas."""
    labels = np.zeros(columns.n_columns, dtype=np.int32)
    names = structures(columns)
    if names == ['']:
        names = [str(name) for name in columns.axis.name]
        labels[:] = np.arange(1, len(names) + 1)
    else:
        for number, (_, part) in enumerate(columns.parts, start=1):
            labels[part] = number
    table = pd.DataFrame({'index': np.arange(1, len(names) + 1), 'name': names})
    shape = (columns.n_columns, 1, 1)
    return Atlas(
        labels.reshape(shape), np.eye(4), region_table(table), STRUCTURES, space, (), columns
    )


def _read_form(
    file: Path, table: Path | None, space: str | None, warnings: tuple[str, ...]
) -> Atlas:
    """Read labels on surfaces or in CIFTI, with the names in the files or in a table."""
    name = file.name.split('.')[0]
    with retold(InputError, DataError):
        image = load_image(file)
        labels: npt.NDArray[Any] = np.asarray(image.dataobj)
        names: dict[int, str] = {}
        if table is None:
            labels, names = _with_names(file, labels)
    labels = as_labels(labels, str(file))
    own = pd.DataFrame(sorted(names.items()), columns=['index', 'name'])
    regions = region_table(own if table is None else _read_table(table))
    warnings += _unnamed(labels, regions, file)
    return Atlas(labels, np.eye(4), regions, name, space, warnings, space_of(image))


def _with_names(file: Path, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], dict[int, str]]:
    """Return labels and the names that their files give them.

    Where a number is called differently in the two hemispheres, the right one counts on from the
    left one.
    """
    if form_of(file) != 'gifti':
        axis = nib.load(file).header.get_axis(0)
        found = axis.label[0] if hasattr(axis, 'label') else {}
        return labels, {int(key): str(value[0]) for key, value in found.items() if key > 0}
    images = [nib.load(each) for each in files_of(file)]
    each = [
        {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items() if k > 0}
        for image in images
    ]
    left, right = each[0], each[-1]
    offset = 0
    if any(left[key] != right[key] for key in set(left) & set(right)):
        offset, n_left = max(left), len(images[0].darrays[0].data)
        labels = labels.copy()
        labels[n_left:][labels[n_left:] > 0] += offset
    return labels, left | {key + offset: name for key, name in right.items()}


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table with a header, or of index and name without one."""
    rows = read_rows(path, ',' if path.suffix == '.csv' else '\t')
    if rows[0][0].isdigit():
        header = ['index', 'name', *map(str, range(2, len(rows[0])))][: len(rows[0])]
        rows = [header, *rows]
    table = as_table(rows, path)
    if 'index' not in table:
        return table  # refused with the names of its columns
    index = to_numbers(table, 'index', path)
    if not (index == np.rint(index)).all():
        raise InputError(NOT_WHOLE.format(file=path))
    return table.fillna('n/a').assign(index=index.astype(int))


def check_space(file: Path, space: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the space that the file's name says, and warnings.

    Parameters
    ----------
    file
        Of an atlas or a region.
    space
        Of the data; None if it is native.
    """
    entities = dict(ENTITY.findall(file.name))
    found = entities.get('space', entities.get('tpl'))
    if found == space:
        return found, ()
    if found is None:
        return space, (SPACE_ASSUMED.format(file=file, space=space),)
    if space is None:
        raise InputError(NO_SPACE.format(name=file))
    if space.startswith(found):  # a name without its variant, such as MNI152NLin6
        return found, (SPACE_VARIANT.format(file=file, found=found, space=space),)
    raise InputError(OTHER_SPACE.format(file=file, found=found, space=space))


def _table_beside(file: Path) -> Path:
    """Look for the table under the file's name, with and without the grid's entities."""
    stem = file.name.split('.')[0]
    of_grid = {'space', 'res', 'hemi', 'den'}
    parts = [part for part in stem.split('_') if part.split('-')[0] in of_grid]
    tried = []
    for dropped in chain.from_iterable(combinations(parts, n) for n in range(len(parts) + 1)):
        base = '_'.join(part for part in stem.split('_') if part not in dropped)
        tried += [file.with_name(base + suffix) for suffix in ('.tsv', '.csv')]
    for path in tried:
        if path.is_file() or path.is_symlink():
            return path
    raise InputError(NO_TABLE.format(file=file, tried=', '.join(path.name for path in tried)))
