"""Files of atlases in TemplateFlow's folder, by name: for volumes, surfaces and CIFTI."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.spaces import Space, files_of, form_of

NAME_FORM = (
    'Cannot read the atlas name {name!r}. Write it as TemplateFlow names files, such as '
    'Schaefer2018_desc-400Parcels7Networks (atlas.name).'
)
UNKNOWN_ATLAS = (
    'There is no atlas {name}{near}. In the space {space} there are: {known} (--atlas, '
    'atlas.name), or give a dseg file (atlas.file).'
)
NOT_IN_SPACE = (
    'TemplateFlow has no atlas {name} in the space {space} of the data{elsewhere}. Use data in '
    'such a space, another atlas, or a dseg file in {space} (atlas.file).'
)
NOT_FETCHED = (
    "The atlas file {file} is not in TemplateFlow's folder {home} and cannot be fetched "
    '({reason}). Fetch it where there is a network (templateflow get --atlas {atlas} {template}) '
    'and set TEMPLATEFLOW_HOME to that folder, or give a dseg file (atlas.file).'
)
WOULD_BE_FETCHED = (
    'The atlas file {file} would be fetched into {home}; it was not compared with the data.'
)
NO_HOME = (
    "TemplateFlow's folder cannot be used ({reason}). Set TEMPLATEFLOW_HOME to a folder that "
    'can be written, or give a dseg file (atlas.file).'
)
DENSITIES = {
    '3k': 2562,
    '10k': 10242,
    '32k': 32492,
    '41k': 40962,
    '59k': 59292,
    '164k': 163842,
}
"""TemplateFlow's labels of meshes, and their vertices in a hemisphere."""
ON_SURFACES = '.label.gii', '.dlabel.nii'
NESTED = 'fsaverage'
"""Template whose coarser meshes (fsaverage5, fsaverage6) are the first vertices of the finest."""
NO_SPACE = (
    'The atlas {name} is in a standard space, and the data are in none that is known. Use data in '
    'that space (output space of fMRIPrep), or give a dseg file drawn for them (atlas.file).'
)
ENTITY = re.compile(r'(?:^|_)([a-z]+)-([A-Za-z0-9]+)')


class WouldBeFetchedError(InputError):
    """A file is not in TemplateFlow's folder, and nothing is to be fetched."""


def volume_files(name: str, space: str, *, fetch: bool = True) -> tuple[Path, Path]:
    """Return the image and the table, from the folder if they are there, else fetched.

    Parameters
    ----------
    name
        Of the atlas.
    space
        Template of the data.
    fetch
        Whether what is not there is fetched; else it is an error.
    """
    atlas, entities = _parts_of(name)
    home = os.environ.get('TEMPLATEFLOW_HOME')
    if home:
        at_hand = _in_folder(Path(home) / f'tpl-{space}', atlas, entities)
        if at_hand is not None:
            return at_hand
    return _fetch(name, atlas, entities, space, fetch=fetch)


def _parts_of(name: str) -> tuple[str, dict[str, str]]:
    """Return the atlas and the entities of a name of TemplateFlow."""
    atlas, _, rest = name.removeprefix('atlas-').partition('_')
    entities = dict(ENTITY.findall(rest))
    if not atlas.isalnum() or '_'.join(f'{k}-{v}' for k, v in entities.items()) != rest:
        raise InputError(NAME_FORM.format(name=name))
    return atlas, entities


def _files_in(
    folder: Path, atlas: str, entities: dict[str, str]
) -> list[tuple[Path, dict[str, str]]]:
    """Return files that are really there (TemplateFlow's folder has empty ones as names).

    Each with what its name says of the grid or the mesh.
    """
    wanted = {'atlas': atlas, **entities}
    there = []
    for path in sorted(folder.glob('*_dseg.*')):
        found = dict(ENTITY.findall(path.name))
        grid = {key: found.pop(key) for key in ('tpl', 'res', 'hemi', 'den') if key in found}
        if found == wanted and path.stat().st_size > 0:
            there.append((path, grid))
    return there


def _in_folder(folder: Path, atlas: str, entities: dict[str, str]) -> tuple[Path, Path] | None:
    images: dict[int, Path] = {}
    tables = []
    for path, grid in _files_in(folder, atlas, entities):
        if path.name.endswith('.tsv'):
            tables.append(path)
        elif form_of(path) is None and path.name.endswith(('.nii', '.nii.gz')):
            images[int(grid.get('res', 1))] = path
    choice = 2 if 2 in images else min(images, default=0)
    return (images[choice], tables[0]) if choice in images and tables else None


def surface_files(name: str, columns: Space, *, fetch: bool = True) -> tuple[Path, Path | None]:
    """Return labels on the surfaces of the data and their table, from the folder, else fetched.

    Of GIFTI files it is the left one.

    Parameters
    ----------
    name
        Of the atlas.
    columns
        The surfaces of the data.
    fetch
        Whether what is not there is fetched; else it is an error.
    """
    atlas, entities = _parts_of(name)
    label = columns.label.split(':')[0]
    if label in {'', 'fsnative'}:
        raise InputError(NO_SPACE.format(name=name))
    template = NESTED if label.startswith(NESTED) else label
    meshes = _meshes_for(template, columns)
    home = os.environ.get('TEMPLATEFLOW_HOME')
    if home:
        there = _files_in(Path(home) / f'tpl-{template}', atlas, entities)
        tables = [path for path, _ in there if path.name.endswith('.tsv')]
        for extension, density in meshes:
            for path, grid in there:
                whole = all(each.exists() and each.stat().st_size for each in files_of(path))
                if path.name.endswith(extension) and grid.get('den') == density and whole:
                    return files_of(path)[0], next(iter(tables), None)
    return _fetch_surfaces(name, template, meshes, fetch=fetch)


def _meshes_for(template: str, columns: Space) -> list[tuple[str, str]]:
    """Return extensions and densities of labels that go with data, the best first."""
    sides: tuple[Literal['L', 'R'], ...] = ('L', 'R')
    n = max(columns.cortex(side)[0] for side in sides)
    fit = [d for d, each in DENSITIES.items() if each == n or (template == NESTED and each > n)]
    surfaces = [('.label.gii', density) for density in fit]
    dense = [('.dlabel.nii', columns.density)] if columns.density else []
    return [*dense, *surfaces] if columns.form == 'cifti' else surfaces


def _templateflow() -> Any:
    # its folder is made when it is imported
    with raised_as(InputError, NO_HOME, OSError):
        from templateflow import api
    return api


def _fetch_surfaces(
    name: str, template: str, meshes: list[tuple[str, str]], *, fetch: bool
) -> tuple[Path, Path | None]:
    """Let TemplateFlow fetch labels on surfaces, and say what to do where it cannot."""
    api = _templateflow()
    atlas, entities = _parts_of(name)
    query = {'atlas': atlas, 'suffix': 'dseg', **_query(entities)}
    for extension, density in meshes:
        files = api.ls(template, extension=extension, density=density, **query)
        if not files:
            continue
        tables = api.ls(template, extension='.tsv', **query)
        labels = {'extension': extension, 'density': density, **query}
        _get(template, atlas, files, labels, fetch=fetch)
        _get(template, atlas, tables, {'extension': '.tsv', **query}, fetch=fetch)
        return files_of(Path(files[0]))[0], next(map(Path, tables), None)
    known = known_atlases(template, ON_SURFACES)
    if known:
        raise InputError(unknown_atlas(name, template, known))
    elsewhere = _near_elsewhere(name, ON_SURFACES)
    raise InputError(NOT_IN_SPACE.format(name=name, space=template, elsewhere=elsewhere))


def _get(
    template: str, atlas: str, files: Sequence[Path], query: dict[str, Any], *, fetch: bool
) -> None:
    """Fetch files that are names so far, all that a query finds."""
    from templateflow import api

    missing = [Path(x) for x in files if not (Path(x).exists() and Path(x).stat().st_size)]
    if not missing:
        return
    told = {'file': missing[0].name, 'home': missing[0].parent.parent}
    if not fetch:
        raise WouldBeFetchedError(WOULD_BE_FETCHED.format(**told))
    try:
        api.get(template, **query)
    except (OSError, RuntimeError) as error:  # no network: requests' errors are OSErrors
        told |= {'reason': type(error).__name__, 'template': template, 'atlas': atlas}
        raise InputError(NOT_FETCHED.format(**told)) from error


def _fetch(
    name: str,
    atlas: str,
    entities: dict[str, str],
    space: str,
    *,
    fetch: bool,
) -> tuple[Path, Path]:
    """Let TemplateFlow fetch the files, and say what to do where it cannot."""
    api = _templateflow()
    query = {'atlas': atlas, 'suffix': 'dseg', **_query(entities)}
    images = api.ls(space, extension='.nii.gz', **query)
    tables = api.ls(space, extension='.tsv', **query)
    if not images or not tables:
        others = sorted(set(api.templates(extension='.nii.gz', **query)) - {space})
        known = known_atlases(space)
        if not others and known:
            raise InputError(unknown_atlas(name, space, known))
        elsewhere = f' (it has it in {", ".join(others)})' if others else _near_elsewhere(name)
        raise InputError(NOT_IN_SPACE.format(name=name, space=space, elsewhere=elsewhere))
    by_resolution = {int(dict(ENTITY.findall(p.name)).get('res', 1)): p for p in images}
    choice = 2 if 2 in by_resolution else min(by_resolution)
    image = by_resolution[choice]
    grid = {'resolution': choice} if '_res-' in image.name else {}
    _get(space, atlas, [image], {'extension': '.nii.gz', **grid, **query}, fetch=fetch)
    _get(space, atlas, tables, {'extension': '.tsv', **query}, fetch=fetch)
    return Path(image), Path(tables[0])


def _near_elsewhere(name: str, extensions: Sequence[str] = ('.nii.gz',)) -> str:
    """Return the names nearest to that of an atlas in any space, and where each is."""
    from templateflow import api

    where: dict[str, list[str]] = {}
    for template in api.templates(suffix='dseg'):
        for each in known_atlases(template, extensions):
            where.setdefault(each, []).append(str(template))
    near = [f'{each} in {", ".join(where[each])}' for each in _close(name, where)]
    return f', nor in any other; it has {"; ".join(near)}' if near else ''


def known_atlases(space: str, extensions: Sequence[str] = ('.nii.gz',)) -> list[str]:
    """Return the names of the atlases that TemplateFlow has in a space, in order.

    Its index is read, which needs no network: files that were not fetched are in it too.

    Parameters
    ----------
    space
        Its template.
    extensions
        Of volumes, or of labels on surfaces.
    """
    from templateflow import api

    names = set()
    grid = {'tpl', 'res', 'cohort', 'hemi', 'den'}
    files = [x for each in extensions for x in api.ls(space, suffix='dseg', extension=each)]
    for path in files:
        found = dict(ENTITY.findall(path.name))
        label = found.pop('atlas', None)
        rest = [f'{k}-{v}' for k, v in found.items() if k not in grid]
        if label is not None:
            names.add('_'.join([label, *rest]))
    return sorted(names)


def unknown_atlas(name: str, space: str, known: list[str]) -> str:
    """Return the one line for an atlas that is not there: what is, the nearest names first.

    Parameters
    ----------
    name
        The atlas that was asked for.
    space
        Template of the data.
    known
        Atlases that there are in this space.
    """
    close = _close(name, known)
    near = f' (did you mean {" or ".join(close)}?)' if close else ''
    return UNKNOWN_ATLAS.format(name=name, near=near, space=space, known=', '.join(known))


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three names that are nearest to one, letter case aside."""
    import difflib

    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    return [folded[each] for each in close]


def _query(entities: dict[str, str]) -> dict[str, str | None]:
    """Entities by the names that TemplateFlow's layout gives them; no description if none."""
    long = {'seg': 'segmentation', 'res': 'resolution', 'den': 'density'}
    return {'desc': None, **{long.get(key, key): value for key, value in entities.items()}}
