"""File names taken apart: entities, their order, and which file belongs to which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from bids_neurodecode.errors import InputError

AMBIGUOUS = (
    'Several files apply equally to {target}: {files}. Keep one, or name them more exactly.'
)

GRID_ENTITIES = ('space', 'cohort', 'res', 'den')
"""Entities that say on which grid a run lies."""

PARCEL_ENTITIES = ('atlas', 'seg', 'scale')
"""Entities that say of which parcels a series is."""

OUTPUT_ENTITIES = (
    *GRID_ENTITIES,
    *('desc', 'label', 'atlas', 'seg', 'scale', 'stat', 'hemi', 'model', 'subset', 'thresh'),
)
"""Entities that say what was done to a run, not which run it is."""

INDEX_ENTITIES = frozenset({'run', 'echo', 'chunk', 'flip', 'inv', 'split'})
"""Entities that are numbers: ``run-1`` and ``run-01`` are one run."""

FURTHER_ENTITIES = {'cohort': 'cohort', 'stat': 'stat', 'scale': 'scale', 'thresh': 'thresh'}
"""Of derivatives, by their short names: pybids does not know them."""

_ENTITY = re.compile(r'(?:^|_)([a-zA-Z]+)-([^_.]+)')
_NAMED = re.compile(r'([a-z]+)-\(')


@cache
def entity_names() -> Mapping[str, str]:
    """Return pybids' names of entities by the keys that stand in file names.

    Examples
    --------
    >>> entity_names()['sub'], entity_names()['acq']
    ('subject', 'acquisition')
    """
    # to import pybids, and its database with it, takes longer than a small dataset does
    (pybids,) = find_spec('bids').submodule_search_locations  # type: ignore[union-attr, misc]
    names = dict(FURTHER_ENTITIES)
    for config in ('bids', 'derivatives'):
        file = Path(pybids) / 'layout' / 'config' / f'{config}.json'
        for entity in json.loads(file.read_text('utf-8'))['entities']:
            match = _NAMED.search(entity.get('pattern', ''))
            if match:
                names[match[1]] = entity['name']
    return names


def parse_entities(path: Path) -> dict[str, str]:
    """Return the entities of a file name by their short keys, in the order of the name.

    Examples
    --------
    >>> parse_entities(Path('sub-01_task-img_run-02_desc-preproc_bold.nii.gz'))
    {'sub': '01', 'task': 'img', 'run': '02', 'desc': 'preproc'}
    """
    return dict(_pairs(path.name))


@lru_cache(maxsize=1 << 16)
def _pairs(name: str) -> tuple[tuple[str, str], ...]:
    """Take a name apart once: each is compared with many."""
    return tuple(_ENTITY.findall(name))


def run_entities(path: Path) -> dict[str, str]:
    """Return only the entities that name the run (subject, session, task, ..., run, echo)."""
    return {k: v for k, v in parse_entities(path).items() if k not in OUTPUT_ENTITIES}


@lru_cache(maxsize=1 << 16)
def counted_run(name: str) -> Mapping[str, str]:
    """Return the entities of a file name that name the run, with their numbers written alike.

    Parameters
    ----------
    name
        Of a file: it is taken apart once, as each is compared with many.

    Examples
    --------
    >>> counted_run('sub-01_task-img_run-02_desc-preproc_bold.nii.gz')
    {'sub': '01', 'task': 'img', 'run': '2'}
    """
    return counted({k: v for k, v in _pairs(name) if k not in OUTPUT_ENTITIES})


def counted(entities: Mapping[str, str]) -> dict[str, str]:
    """Return entities with their numbers written alike, to compare them.

    Derivatives are often written without the leading zeros of the raw dataset, or with others.

    Examples
    --------
    >>> counted({'ses': '01', 'run': '007'})
    {'ses': '01', 'run': '7'}
    """
    return {key: counted_label(key, label) for key, label in entities.items()}


def counted_label(key: str, label: str) -> str:
    """Return the label of one entity as :func:`counted` does.

    Parameters
    ----------
    key
        The entity.
    label
        Its value.
    """
    if key in INDEX_ENTITIES and label.isdecimal():
        return label.lstrip('0') or '0'
    return label


def same_index(a: str, b: str) -> bool:
    """Whether two labels are equal, leading zeros of numbers aside.

    Parameters
    ----------
    a, b
        Labels of one entity.

    Examples
    --------
    >>> same_index('1', '01'), same_index('a', 'A')
    (True, False)
    """
    return a == b or (a.isdecimal() and b.isdecimal() and int(a) == int(b))


def natural_key(label: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts labels as people count: ``2`` before ``10``."""
    parts = re.findall(r'\d+|\D+', label)
    return tuple((0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts)


def nearest(target: Path, root: Path, candidates: Iterable[Path]) -> Path | None:
    """Find the file that applies to ``target`` by the inheritance principle.

    A candidate applies if it lies in a folder at or above the target's place in the tree, and each
    of its entities is one of the target's. The deepest wins, then the one with most entities.

    Parameters
    ----------
    target
        A data file, which may lie in another dataset: its place is taken from its entities.
    root
        The dataset of the candidates.
    candidates
        Files of one suffix and extension.

    Returns
    -------
    pathlib.Path or None
        The nearest one, if there is any.

    Raises
    ------
    InputError
        If two are equally near.
    """
    entities = counted_run(target.name)
    n_above = len(root.parts)
    ranked: dict[tuple[int, int], list[Path]] = {}
    for candidate in candidates:
        own = counted_run(candidate.name)
        if own.items() <= entities.items():
            folders = candidate.parts[n_above:-1]
            if _above(entities, folders):
                ranked.setdefault((len(folders), len(own)), []).append(candidate)
    if not ranked:
        return None
    best = ranked[max(ranked)]
    if len(best) > 1:
        files = ', '.join(str(path) for path in sorted(best))
        raise InputError(AMBIGUOUS.format(target=target, files=files))
    return best[0]


def _above(entities: Mapping[str, str], folders: Sequence[str]) -> bool:
    """Whether the folders of a file are those on the way to the run's own folder."""
    way = [f'sub-{entities.get("sub")}']
    if 'ses' in entities:
        way.append(f'ses-{entities["ses"]}')
    way.append('func')
    return [*folders] == way[: len(folders)]
