"""Rows of published events: their values and the run's entities, matched and put into names."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bids_neurodecode import tables
from bids_neurodecode.bids.timing import TextTable
from bids_neurodecode.errors import InputError, raised_as

if TYPE_CHECKING:
    from bids_neurodecode.config import SplitSettings

NO_KEY = (
    '{setting} names {key!r}, and {file} has no such column, nor the run such an entity. Columns: '
    '{columns}. Entities: {entities}.'
)
BAD_TEMPLATE = (
    'events.stimulus = {template!r} cannot be read: {reason}. Write columns and entities in '
    'braces, such as "{{image_path}}" or "film{{run-1}}.mkv".'
)
NO_FORMAT = (
    'events.stimulus = {template!r} cannot be filled in for row {row} of {file}: {key} is '
    '{value!r} ({reason}). Correct the template, or leave such rows out with events.exclude.'
)
NO_SHARED = (
    'The table {table} (events.lookup) shares no column with {file} and no entity of its run. It '
    'has {columns}; name one of them as the events do.'
)
LOOKUP_TWICE = (
    'The table {table} (events.lookup) has two rows for {keys}. Keep one, or add the column that '
    'tells them apart.'
)
BOTH_PARTS = (
    'Row {row} of {file} is of both {a} and {b}, as split.{a} and split.{b} say. '
    'Let each row match one of them.'
)
IMAGINED_TRAINED = (
    'Row {row} of {file} was imagined, as split.test says of rows like it, and split.{part} takes '
    'it for {part}. Leave it out there, or give the split another name (split.by = "given").'
)
NO_SIDE = 'imagined'
"""Key of what names all imagined rows: those that are not held out are of no part."""
PLACES = (('run', 'scan_run', 'run_label', 'ses', 'sub', 'acq', 'dir'), ('run', 'scan_run'))
"""Keys that say where rows are and not what they are; of nothing but these, the run alone."""
LONG_NAMES: Mapping[str, str] = {
    'subject': 'sub', 'participant': 'sub', 'session': 'ses', 'acquisition': 'acq',
    'reconstruction': 'rec', 'direction': 'dir', 'ceagent': 'ce',
}  # fmt: skip
"""Entities by the names that pybids gives them, where names of files have others."""
NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z')
COUNTED = re.compile(r'(?P<key>.+?)(?P<step>[+-]\d+)\Z')


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of the events of one run.

    Parameters
    ----------
    table
        Events.
    entities
        Of the run, by their short keys.
    file
        Named in errors.
    """

    table: TextTable
    entities: Mapping[str, str]
    file: Path

    @property
    def keys(self) -> list[str]:
        """What can be asked for: columns and entities, these under their long names too."""
        return [*self.table.columns, *self.entities, *LONG_NAMES]

    def column(self, key: str, setting: str) -> Sequence[str | None]:
        """Return a column of the events, or an entity of the run for every row.

        Parameters
        ----------
        key
            Name of a column, else of an entity (``ses`` or ``session``).
        setting
            Named in errors.

        Raises
        ------
        InputError
            If it is neither.
        """
        if key in self.table.columns:
            return self.table.columns[key]
        name = LONG_NAMES.get(key, key)
        if name not in self.entities:
            raise InputError(
                NO_KEY.format(
                    setting=setting,
                    key=key,
                    file=self.file,
                    columns=', '.join(self.table.columns),
                    entities=', '.join(self.entities),
                )
            )
        return [self.entities[name]] * len(self.table)

    def matching(
        self, wanted: Mapping[str, Sequence[str]], setting: str
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Return, of each key of ``wanted``, the rows to which it gives one of the values.

        Parameters
        ----------
        wanted
            Values by column or entity: ``*`` stands for any text, ``n/a`` for a missing value.
        setting
            Named in errors.

        Returns
        -------
        dict
            Arrays of shape (n_rows,).
        """
        found = {}
        for key, values in wanted.items():
            column = self.column(key, setting)
            hits = {x: any(same_value(x or 'n/a', value) for value in values) for x in set(column)}
            found[key] = np.array([hits[x] for x in column], dtype=np.bool_)
        return found

    def parts(self, parts: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str | None]:
        """Return the part of each row: of those whose every key has one of its values.

        Parameters
        ----------
        parts
            As in :meth:`matching`, for ``train``, ``validation`` and ``test``. Without rows of
            ``train``, all that are of no other part are, but for those of :data:`NO_SIDE`.

        Returns
        -------
        list
            None where a row is of no part.

        Raises
        ------
        InputError
            If a row is of two, or imagined and named for training.
        """
        rows = {
            part: np.logical_and.reduce(list(self.matching(wanted, f'split.{part}').values()))
            for part, wanted in parts.items()
            if wanted
        }
        imagined = rows.pop(NO_SIDE, np.zeros(len(self.table), dtype=bool)) & ~rows.get(
            'test', False
        )
        for a, b in itertools.combinations(rows, 2):
            both = np.flatnonzero(rows[a] & rows[b])
            if both.size:
                row = self.table.rows[int(both[0])] + 2
                raise InputError(BOTH_PARTS.format(row=row, file=self.file, a=a, b=b))
        rest = None if 'train' in rows else 'train'
        found = np.full(len(self.table), rest, dtype=object)
        found[imagined] = None
        for part, hits in rows.items():
            if (imagined & hits).any():
                row = self.table.rows[int(np.flatnonzero(imagined & hits)[0])] + 2
                raise InputError(IMAGINED_TRAINED.format(row=row, file=self.file, part=part))
            found[hits] = part
        return list(found)

    def fill_in(self, template: str) -> list[str | None]:
        """Fill a template in for every row.

        Parameters
        ----------
        template
            ``{column}`` or ``{entity}``; ``{run-1}`` and ``{run+1}`` count from another number,
            and a format may follow a colon (``{run:02d}``).

        Returns
        -------
        list
            Text; None where one of the columns is missing.

        Raises
        ------
        InputError
            For a key that is not known, and for values that cannot be counted or formatted.
        """
        known = self.keys
        fields_of(template)
        columns = {
            name: self.column(key_of(name, known)[0], 'events.stimulus')
            for name in fields_of(template)
        }
        names: list[str | None] = []
        for row in range(len(self.table)):
            given = {name: column[row] for name, column in columns.items()}
            values = {name: value for name, value in given.items() if value is not None}
            if len(values) < len(given):
                names.append(None)
                continue
            at = self.table.rows[row] + 2
            names.append(''.join(_pieces(template, values, known, at, self.file)))
        return names

    def look_up(self, other: Path) -> Rows:
        """Add the columns of another table, matched by the columns and entities that both have.

        Parameters
        ----------
        other
            TSV, or CSV by its name.

        Returns
        -------
        Rows
            With the further columns, missing where no row of the other table fits.

        Raises
        ------
        InputError
            If they share nothing, or two rows of the other table fit one row of the events.
        """
        separator = ',' if other.suffix.lower() == '.csv' else '\t'
        rows = tables.as_columns(tables.read_rows(other, separator), other)
        named = {LONG_NAMES.get(x, x) for x in rows} & set(self.entities)
        shared = [x for x in rows if x in self.table.columns or LONG_NAMES.get(x, x) in named]
        if not shared:
            columns = ', '.join(rows)
            raise InputError(NO_SHARED.format(table=other, file=self.file, columns=columns))
        of: dict[tuple[str, ...], int] = {}
        for number, key in enumerate(_keys([rows[x] for x in shared])):
            if key in of:
                keys = ', '.join(f'{x} {v!r}' for x, v in zip(shared, key, strict=True))
                raise InputError(LOOKUP_TWICE.format(table=other, keys=keys))
            of[key] = number
        mine = [self.column(x, 'events.lookup') for x in shared]
        where = [of.get(key, -1) for key in _keys(mine)]
        added = {
            name: [values[i] if i >= 0 else None for i in where]
            for name, values in rows.items()
            if name not in shared
        }
        found = TextTable({**self.table.columns, **added}, self.table.rows)
        return replace(self, table=found)


def same_value(value: str, pattern: str) -> bool:
    """Whether a value is the one that is meant; numbers are compared as numbers.

    Parameters
    ----------
    value
        Of a cell.
    pattern
        With ``*`` and ``?``, or a number.

    Examples
    --------
    >>> same_value('perceptionTest01', 'perceptionTest*'), same_value('1.0', '01')
    (True, True)
    """
    if NUMBER.match(value) and NUMBER.match(pattern):
        return float(value) == float(pattern)
    return value == pattern or fnmatchcase(value, pattern)


def parts_of(split: SplitSettings) -> dict[str, Mapping[str, Sequence[str]]]:
    """Return which rows settings hold out, and of imagery what makes a row imagined.

    Of ``{task = ["imagery"], run = ["02"]}``, the first run of the task was imagined too.

    Examples
    --------
    >>> from bids_neurodecode.config import SplitSettings
    >>> split = SplitSettings(by='imagery', test={'task': ['imagery'], 'run': ['02']})
    >>> parts_of(split)[NO_SIDE]
    {'task': ('imagery',)}
    """
    parts = {part: getattr(split, part) for part in ('train', 'validation', 'test')}
    if split.by in {'imagery', 'imagery-unseen'} and split.test:
        said = (
            {key: x for key, x in split.test.items() if LONG_NAMES.get(key, key) not in places}
            for places in PLACES
        )
        parts[NO_SIDE] = next(filter(None, said), split.test)
    return parts


def fields_of(template: str) -> tuple[str, ...]:
    """Return the keys that a template names, as they stand in its braces.

    Raises
    ------
    InputError
        If it is no template.

    Examples
    --------
    >>> fields_of('seg{run-1}.mkv')
    ('run-1',)
    """
    with raised_as(InputError, BAD_TEMPLATE, ValueError, template=template):
        parts = list(string.Formatter().parse(template))
    if any(name == '' for _, name, _, _ in parts):
        raise InputError(BAD_TEMPLATE.format(template=template, reason='empty braces'))
    return tuple(name for _, name, _, _ in parts if name is not None)


def key_of(name: str, known: Sequence[str]) -> tuple[str, int]:
    """Return the column or entity that braces name, and what is added to it.

    Parameters
    ----------
    name
        What stands between braces.
    known
        Columns and entities.

    Examples
    --------
    >>> key_of('run-1', ['run']), key_of('x-1', ['x-1'])
    (('run', -1), ('x-1', 0))
    """
    counted = COUNTED.match(name)
    if name in known or counted is None:
        return name, 0
    return counted['key'], int(counted['step'])


def _pieces(
    template: str, values: Mapping[str, str], known: Sequence[str], row: int, file: Path
) -> Iterator[str]:
    for literal, name, form, _ in string.Formatter().parse(template):
        yield literal
        if name is None:
            continue
        value, (key, step) = values[name], key_of(name, known)
        try:
            if step or (form and form[-1] in 'dn'):
                yield format(_whole(value) + step, form or 'd')
            elif form and form[-1] in 'eEfFgG':
                yield format(float(value), form)
            else:
                yield format(value, form or '')
        except ValueError as error:
            raise InputError(
                NO_FORMAT.format(
                    template=template, row=row, file=file, key=key, value=value, reason=error
                )
            ) from error


def _whole(value: str) -> int:
    number = float(value)
    if not number.is_integer():
        msg = 'it is no whole number'
        raise ValueError(msg)
    return int(number)


def _keys(columns: Sequence[Sequence[str | None]]) -> Iterator[tuple[str, ...]]:
    """Yield what rows are matched by; 1.0 and 01 are the number 1."""
    yield from zip(
        *([_plain(value or 'n/a') for value in column] for column in columns), strict=True
    )


def _plain(value: str) -> str:
    return repr(float(value)) if NUMBER.match(value) else value
