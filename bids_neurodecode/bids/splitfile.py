"""Named splits: a table that says which stimuli, runs or trials are held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PARTS = ('train', 'validation', 'test')
KEYS = ('stimulus', 'run', 'trial')
UNREADABLE = 'Cannot read the split {file}: {reason}. Give a tab-separated table (split.file).'
COLUMNS = (
    'The split {file} needs a column "split" and one of "stimulus", "run" and "trial"; it has '
    '{columns}.'
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


def add_parts(table: pd.DataFrame, file: Path | None) -> pd.DataFrame:
    """Add the columns ``part`` and ``protocol`` of a named split to a table of samples.

    Parameters
    ----------
    table
        One row a sample: ``stimulus`` (of films, ``film``), ``run`` and ``run_label``.
    file
        A TSV with a column ``split`` and one of ``stimulus`` (the ``stim_file``), ``run`` (its
        label, or an end of it, such as ``run-01``) and ``trial`` (row of ``table``, from 0).
        None: the table as it is.

    Raises
    ------
    InputError
        For a table that cannot be read, unknown or missing names, and names in two parts.
    """
    if file is None:
        return table
    key, parts = _read(file)
    names = _names(table, key)
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
    return table.assign(part=[of[name] for name in names], protocol=file.stem)


def _read(file: Path) -> tuple[str, dict[str, str]]:
    """Return what the rows name, and the part of each name."""
    import pandas as pd

    try:
        rows = pd.read_csv(file, sep='\t', dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(UNREADABLE.format(file=file, reason=reason)) from error
    rows = rows.rename(columns={'stim_file': 'stimulus'})
    keys = [key for key in KEYS if key in rows.columns]
    if len(keys) != 1 or 'split' not in rows.columns or not len(rows):
        columns = ', '.join(map(str, rows.columns)) or 'none'
        raise InputError(COLUMNS.format(file=file, columns=columns))
    (key,) = keys
    parts: dict[str, str] = {}
    for name, part in zip(rows[key], rows['split'], strict=True):
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
