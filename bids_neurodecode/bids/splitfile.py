"""Named splits: a file that says which stimuli, runs or trials are held out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from bids_neurodecode.errors import BROKEN_TEXT, InputError, raised_as

PARTS = ('train', 'validation', 'test')
KEYS = ('stimulus', 'run', 'trial')
UNREADABLE = 'Cannot read the split {file}: {reason}. Give a tab-separated table (split.file).'
COLUMNS = (
    'The split {file} needs a column {part!r} and one of "stimulus", "run" and "trial"; it has '
    '{columns}. Another column is named by split.name.'
)
NO_LISTS = (
    'The split {file} lists no stimuli of "train" and "test" (or "train_ids" and "test_ids"){of}. '
    'It holds {keys}; name one of several splits with split.name.'
)
NONE_SHOWN = (
    'None of the {n} stimuli that the split {file} lists for {part} is shown (first: {name!r}; '
    'shown are {shown}, ...). Correct the names, or give another split.'
)
BAD_PART = (
    'The split {file} puts {key} {name!r} into {part!r}. Parts are train, validation and test, '
    'or n/a for what is left out.'
)
TWICE = 'The split {file} puts {key} {name!r} into both {a} and {b}. Keep one row for it.'
UNKNOWN = (
    'The split {file} names {n} {key}(s) that are not shown (first: {name!r}; shown are {shown}, '
    '...). Correct the names, or take them out.'
)
MISSING = (
    'The split {file} lacks {n} {key}(s) that are shown (first: {name!r}). Add them; n/a in '
    '"split" leaves them out.'
)


def add_parts(table: pd.DataFrame, file: Path | None, which: str | None = None) -> pd.DataFrame:
    """Add the columns ``part`` and ``protocol`` of a named split to a table of samples.

    Parameters
    ----------
    table
        One row per sample: ``stimulus`` (of films, ``film``), ``run`` and ``run_label``.
    file
        A TSV with a column ``split`` and one of ``stimulus`` (the ``stim_file``), ``run`` (its
        label, or an end of it, such as ``run-01``) and ``trial`` (row of ``table``, from 0); CSV
        by its name. Or JSON with lists of stimuli, ``train`` and ``test`` (or ``train_ids`` and
        ``test_ids``, as LAION-fMRI publishes its splits): what is shown and not listed is left
        out, and lists may hold what other participants saw. None: the table as it is.
    which
        One of several splits in the file: the column that stands for ``split``, or the key (the
        ``variant_id``) of the lists.

    Raises
    ------
    InputError
        For a table that cannot be read, unknown or missing names, and names in two parts.
    """
    if file is None:
        return table
    protocol = which or file.stem
    if protocol.isdigit():  # of LAION-fMRI's variants, which are numbered
        protocol = f'{file.stem}_{protocol}'
    if file.suffix.lower() == '.json':
        return table.assign(part=_listed(table, file, which), protocol=protocol)
    key, parts = _read(file, which or 'split')
    names = _names(table, key)
    if key == 'stimulus':
        called = _by_any_name(names)
        named = {name: sorted(called.get(name, ())) for name in parts}
    else:
        named = {name: _meant(name, names, key) for name in parts}
    unknown = [name for name, meant in named.items() if not meant]
    if unknown:
        shown = ', '.join(repr(name) for name in list(dict.fromkeys(names))[:3])
        raise InputError(
            UNKNOWN.format(file=file, n=len(unknown), key=key, name=unknown[0], shown=shown)
        )
    of: dict[str, str] = {}
    for name, meant in named.items():
        for each in meant:
            if of.setdefault(each, parts[name]) != parts[name]:
                raise InputError(
                    TWICE.format(file=file, key=key, name=each, a=of[each], b=parts[name])
                )
    missing = [name for name in dict.fromkeys(names) if name not in of]
    if missing:
        raise InputError(MISSING.format(file=file, n=len(missing), key=key, name=missing[0]))
    return table.assign(part=[of[name] for name in names], protocol=protocol)


def _listed(table: pd.DataFrame, file: Path, named: str | None) -> list[str]:
    """Return the part of each sample by lists of stimuli: with folders and extension, or not."""
    lists = _lists(file, named)
    names = _names(table, 'stimulus')
    known = _by_any_name(names)
    of: dict[str, str] = {}
    for part, listed in lists.items():
        meant = {x for name in listed for x in known.get(name, ())}
        if listed and not meant:
            shown = ', '.join(repr(name) for name in list(dict.fromkeys(names))[:3])
            first = {'n': len(listed), 'name': listed[0], 'shown': shown}
            raise InputError(NONE_SHOWN.format(file=file, part=part, **first))
        for name in sorted(meant):
            if of.setdefault(name, part) != part:
                raise InputError(
                    TWICE.format(file=file, key='stimulus', name=name, a=of[name], b=part)
                )
    return [of.get(name, 'n/a') for name in names]


def _lists(file: Path, named: str | None) -> dict[str, list[str]]:
    """Return the stimuli of each part that a JSON file lists."""
    with raised_as(InputError, UNREADABLE, *BROKEN_TEXT, file=file):
        content = json.loads(file.read_text('utf-8-sig'))
    split: Any = content
    if isinstance(content, Mapping):
        found = content.get('variants')
        variants = found if isinstance(found, list) else []
        several = {str(v.get('variant_id')): v for v in variants if isinstance(v, Mapping)}
        several |= {k: v for k, v in content.items() if isinstance(v, Mapping)}
        if named is not None:
            split = several.get(named)
        elif len(variants) == 1:
            split = variants[0]
    lists = {}
    for part in PARTS:
        for key in (part, f'{part}_ids'):
            if isinstance(split, Mapping) and isinstance(split.get(key), list):
                lists[part] = [str(name) for name in split[key]]
    if not {'train', 'test'} <= set(lists):
        of = '' if named is None else f' of {named!r}'
        keys = ', '.join(content) if isinstance(content, Mapping) else 'no object'
        raise InputError(NO_LISTS.format(file=file, of=of, keys=keys))
    return lists


def _read(file: Path, column: str) -> tuple[str, dict[str, str]]:
    """Return what the rows name, and the part of each name."""
    with raised_as(InputError, UNREADABLE, OSError, ValueError, file=file):
        separator = ',' if file.suffix.lower() == '.csv' else '\t'
        rows = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, index_col=False)
    rows = rows.rename(columns={'stim_file': 'stimulus'})
    keys = [key for key in KEYS if key in rows.columns]
    if len(keys) != 1 or column not in rows.columns or not len(rows):
        columns = ', '.join(map(str, rows.columns)) or 'none'
        raise InputError(COLUMNS.format(file=file, part=column, columns=columns))
    (key,) = keys
    parts: dict[str, str] = {}
    for name, part in zip(rows[key], rows[column], strict=True):
        if part not in {*PARTS, 'n/a'}:
            raise InputError(BAD_PART.format(file=file, key=key, name=name, part=part))
        if parts.setdefault(name, part) != part:
            raise InputError(TWICE.format(file=file, key=key, name=name, a=parts[name], b=part))
    return key, parts


def _names(table: pd.DataFrame, key: str) -> list[str]:
    """Return what each sample is called in such a table."""
    if key == 'trial':
        return [str(row) for row in range(len(table))]
    if key == 'run':
        return table['run_label'].astype(str).tolist()
    return table['film' if 'film' in table.columns else 'stimulus'].astype(str).tolist()


def _meant(name: str, names: list[str], key: str) -> list[str]:
    """Return the names that a row means: a run may be named by the end of its label."""
    known = dict.fromkeys(names)
    if name in known or key != 'run':
        return [name] if name in known else []
    wanted = name.split()
    ends = [label for label in known if label.split()[-len(wanted) :] == wanted]
    numbers = [label for label in known if label.split()[-1] == f'run-{name}']
    return ends or numbers


def _by_any_name(names: Sequence[str]) -> Mapping[str, set[str]]:
    """Return the stimuli that are called so: with folders and extension, or without."""
    known: dict[str, set[str]] = {}
    for name in dict.fromkeys(names):
        pure = PurePosixPath(name)
        for alias in {name, pure.name, pure.stem}:
            known.setdefault(alias, set()).add(name)
    return known | {name: {name} for name in names}
