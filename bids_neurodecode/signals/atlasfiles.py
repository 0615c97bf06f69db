"""Where an atlas comes from: TemplateFlow by name, or a ``dseg`` file with its table."""

from __future__ import annotations

import os
import re
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.signals.atlas import Atlas, as_labels, region_table
from bids_neurodecode.spaces import (
    Space,
    files_of,
    form_of,
    image_damage,
    load_image,
    space_of,
    structures,
)
from bids_neurodecode.tables import as_table, read_rows, to_numbers
from bids_neurodecode.text import one_line

if TYPE_CHECKING:
    import pandas as pd

NAME_FORM = (
    'Cannot read the atlas name {name!r}. Write it as TemplateFlow names files, such as '
    'Schaefer2018_desc-400Parcels7Networks (atlas.name).'
)
STRUCTURES = 'structures'
"""Name of the atlas that the data bring themselves, where they are no volumes."""
FILE_NEEDED = (
    'The atlas {name} is taken by its name for volumes alone. For surfaces and CIFTI give its '
    'file (atlas.file: .label.gii of both hemispheres, or .dlabel.nii), or "structures".'
)
NEITHER = 'An atlas needs a name or a file (atlas.name, atlas.file).'
NO_SPACE = (
    'The atlas {name} is in a standard space, and the data are in none that is known. Use data in '
    'that space (output space of fMRIPrep), or give a dseg file drawn for them (atlas.file).'
)
UNKNOWN_ATLAS = (
    'There is no atlas {name}{near}. In the space {space} there are: {known} (--atlas, '
    'atlas.name), or give a dseg file (atlas.file).'
)
NOT_IN_SPACE = (
    'TemplateFlow has no atlas {name} in the space {space} of the data{elsewhere}. Use data in '
    'such a space, another atlas, or a dseg file in {space} (atlas.file).'
)
OTHER_SPACE = (
    'The atlas {file} is in {found}, the data are in {space}. Use data in {found}, or an atlas '
    'in {space}.'
)
NOT_FETCHED = (
    "The atlas file {file} is not in TemplateFlow's folder {home} and cannot be fetched "
    '({reason}). Fetch it where there is a network (templateflow get --atlas {atlas} {template}) '
    'and set TEMPLATEFLOW_HOME to that folder, or give a dseg file (atlas.file).'
)
NO_HOME = (
    "TemplateFlow's folder cannot be used ({reason}). Set TEMPLATEFLOW_HOME to a folder that "
    'can be written, or give a dseg file (atlas.file).'
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
UNNAMED_LABELS = '{n} label(s) of the atlas {file} are not in its table and are not used.'

ENTITY = re.compile(r'(?:^|_)([a-z]+)-([A-Za-z0-9]+)')


def load_atlas(
    *,
    name: str | None = None,
    file: Path | None = None,
    table: Path | None = None,
    space: str | None = None,
    resolution: int | None = None,
    columns: Space | None = None,
) -> Atlas:
    """Find and read an atlas in the space of the data.

    Parameters
    ----------
    name
        As TemplateFlow names it: the atlas, then its entities
        (``Schaefer2018_desc-100Parcels7Networks``). Files that are in ``TEMPLATEFLOW_HOME`` are
        read from there without a network; others are fetched, within TemplateFlow's time limit.
        ``structures``: the structures of CIFTI, the hemispheres of a surface, or each parcel of
        series of parcels.
    file
        Or a ``dseg`` NIfTI file; ``.label.gii`` (one of both hemispheres), ``.dlabel.nii``.
    table
        Its table: TSV or CSV with ``index`` and ``name`` (or ``label``), or two columns without
        a header. Looked for beside the file, under its name with or without space and resolution.
    space
        Space of the data (``MNI152NLin6Asym``); None if it is native.
    resolution
        TemplateFlow's index of the resolution. If left out, the one at hand, else 2.
    columns
        What the columns of the data are, where they are no volumes.

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
            raise InputError(FILE_NEEDED.format(name=name))
        if space is None:
            raise InputError(NO_SPACE.format(name=name))
        file, table = _from_templateflow(name, space, resolution)
        found: str | None = space
        warnings: tuple[str, ...] = ()
    elif file is not None:
        check_fetched(file)
        if not file.is_file():
            raise InputError(NO_FILE.format(file=file))
        found, warnings = check_space(file, space)
        if form_of(file) is not None:
            return _read_form(file, table or _own_table(file), found, warnings)
        table = table if table is not None else _table_beside(file)
    else:
        raise InputError(NEITHER)
    return _read(file, table, name or file.name.split('.')[0], found, warnings)


def _read(
    file: Path, table: Path, name: str, space: str | None, warnings: tuple[str, ...]
) -> Atlas:

    check_fetched(file)
    try:
        image = load_image(file)
        volume = np.asanyarray(image.dataobj)
    except DataError as error:
        raise InputError(str(error)) from error
    except image_damage() as error:
        raise InputError(UNREADABLE.format(file=file, reason=one_line(error))) from error
    labels = as_labels(volume, str(file))
    regions = region_table(_read_table(table))
    unnamed = np.setdiff1d(np.unique(labels[labels > 0]), regions['index'].to_numpy())
    if unnamed.size:
        warnings += (UNNAMED_LABELS.format(n=unnamed.size, file=file),)
    affine = np.asarray(image.affine, dtype=np.float64)
    return Atlas(labels, affine, regions, name, space, warnings)


def _own_table(file: Path) -> Path | None:
    """Return the table beside labels on surfaces or in CIFTI, which may bring their own names."""
    try:
        return _table_beside(file)
    except InputError:
        return None


def _structures(columns: Space, space: str | None) -> Atlas:
    """Return the parts of a space as an atlas."""
    import pandas as pd

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
    import pandas as pd

    name = file.name.split('.')[0]
    try:
        image = load_image(file)
        labels: npt.NDArray[Any] = np.asarray(image.dataobj)
        names: dict[int, str] = {}
        if table is None:
            labels, names = _with_names(file, labels)
    except DataError as error:
        raise InputError(str(error)) from error
    labels = as_labels(labels, str(file))
    if table is not None:
        rows = _read_table(table)
    else:
        rows = pd.DataFrame(sorted(names.items()), columns=['index', 'name'])
    regions = region_table(rows)
    unnamed = np.setdiff1d(np.unique(labels[labels > 0]), regions['index'].to_numpy())
    if unnamed.size:
        warnings += (UNNAMED_LABELS.format(n=unnamed.size, file=file),)
    return Atlas(labels, np.eye(4), regions, name, space, warnings, space_of(image))


def _with_names(file: Path, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], dict[int, str]]:
    """Return labels and the names that their files give them.

    Where a number is called differently in the two hemispheres, the right one counts on from the
    left one.
    """
    import nibabel as nib

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


def _from_templateflow(name: str, space: str, resolution: int | None) -> tuple[Path, Path]:
    """Return the image and the table, from the folder if they are there, else fetched."""
    atlas, _, rest = name.removeprefix('atlas-').partition('_')
    entities = dict(ENTITY.findall(rest))
    if not atlas.isalnum() or '_'.join(f'{k}-{v}' for k, v in entities.items()) != rest:
        raise InputError(NAME_FORM.format(name=name))
    home = os.environ.get('TEMPLATEFLOW_HOME')
    if home:
        at_hand = _in_folder(Path(home) / f'tpl-{space}', atlas, entities, resolution)
        if at_hand is not None:
            return at_hand
    return _fetch(name, atlas, entities, space, resolution)


def _in_folder(
    folder: Path, atlas: str, entities: dict[str, str], resolution: int | None
) -> tuple[Path, Path] | None:
    """Look for files that are really there (TemplateFlow's folder has empty ones as names)."""
    wanted = {'atlas': atlas, **entities}
    images: dict[int, Path] = {}
    tables = []
    for path in sorted(folder.glob('*_dseg.*')):
        found = dict(ENTITY.findall(path.name))
        grid = {key: found.pop(key, None) for key in ('tpl', 'res')}
        if found != wanted or path.stat().st_size == 0:
            continue
        if path.name.endswith('.tsv'):
            tables.append(path)
        elif path.name.endswith(('.nii', '.nii.gz')):
            images[int(grid['res'] or 1)] = path
    choice = resolution or (2 if 2 in images else min(images, default=0))
    return (images[choice], tables[0]) if choice in images and tables else None


def _fetch(
    name: str, atlas: str, entities: dict[str, str], space: str, resolution: int | None
) -> tuple[Path, Path]:
    """Let TemplateFlow fetch the files, and say what to do where it cannot."""
    try:
        from templateflow import api
    except OSError as error:  # its folder is made when it is imported
        raise InputError(NO_HOME.format(reason=one_line(error))) from error
    query = {'atlas': atlas, 'suffix': 'dseg', **_query(entities)}
    images = api.ls(space, extension='.nii.gz', **query)
    tables = api.ls(space, extension='.tsv', **query)
    if not images or not tables:
        others = sorted(set(api.templates(extension='.nii.gz', **query)) - {space})
        known = known_atlases(space)
        if not others and known:
            raise InputError(unknown_atlas(name, space, known))
        elsewhere = f' (it has it in {", ".join(others)})' if others else ''
        raise InputError(NOT_IN_SPACE.format(name=name, space=space, elsewhere=elsewhere))
    by_resolution = {int(dict(ENTITY.findall(p.name)).get('res', 1)): p for p in images}
    choice = resolution or (2 if 2 in by_resolution else min(by_resolution))
    if choice not in by_resolution:
        choices = ', '.join(map(str, sorted(by_resolution)))
        elsewhere = f' at resolution {choice} (there are {choices})'
        raise InputError(NOT_IN_SPACE.format(name=name, space=space, elsewhere=elsewhere))
    image = by_resolution[choice]
    grid = {'resolution': choice} if '_res-' in image.name else {}
    try:
        api.get(space, extension='.nii.gz', **grid, **query)
        api.get(space, extension='.tsv', **query)
    except (OSError, RuntimeError) as error:  # no network: requests' errors are OSErrors
        raise InputError(
            NOT_FETCHED.format(
                file=image.name,
                home=image.parent.parent,
                reason=type(error).__name__,
                template=space,
                atlas=atlas,
            )
        ) from error
    return Path(image), Path(tables[0])


def known_atlases(space: str) -> list[str]:
    """Return the names of the atlases that TemplateFlow has in a space, in order.

    Its index is read, which needs no network: files that were not fetched are in it too.
    """
    from templateflow import api

    names = set()
    for path in api.ls(space, suffix='dseg', extension='.nii.gz'):
        found = dict(ENTITY.findall(path.name))
        label = found.pop('atlas', None)
        rest = [f'{k}-{v}' for k, v in found.items() if k not in {'tpl', 'res', 'cohort'}]
        if label is not None:
            names.add('_'.join([label, *rest]))
    return sorted(names)


def unknown_atlas(name: str, space: str, known: list[str]) -> str:
    """Return the one line for an atlas that is not there: what is, the nearest names first."""
    import difflib

    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    near = f' (did you mean {" or ".join(folded[each] for each in close)}?)' if close else ''
    return UNKNOWN_ATLAS.format(name=name, near=near, space=space, known=', '.join(known))


def _query(entities: dict[str, str]) -> dict[str, str | None]:
    """Entities by the names that TemplateFlow's layout gives them; no description if none."""
    long = {'seg': 'segmentation', 'res': 'resolution', 'den': 'density'}
    return {'desc': None, **{long.get(key, key): value for key, value in entities.items()}}
