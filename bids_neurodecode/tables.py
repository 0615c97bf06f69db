"""The one reader of tables that others made: every field counted, nothing shifted or swallowed."""

from __future__ import annotations

import csv
import functools
import io
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import read_fetched

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

LARGEST_GB = 2.0
"""Of a table of text, which takes several times as much in memory."""
UNREADABLE = 'Cannot read the table {file}: {reason}. Make it tab-separated text with a header.'
FIELDS = (
    'Row {row} of {file} has {found} fields, and its header names {expected}. Give each row one '
    'field for each column (a tab at the end of a row makes a field too).'
)
MOST_COLUMNS = 20_000
"""Of a table of text: reading takes time by the column."""
WIDE = (
    '{file} has {found} columns, and no more than {most} are read of a text table. Check that it '
    'is what its name says; wider tables of features can be given as .npy, .h5 or .safetensors.'
)
EMPTY_ROW = 'Row {row} of {file} is empty. Remove it.'
QUOTES = (
    'Row {row} of {file} has a stray quotation mark ({reason}). Correct it: close it within '
    'the field, or remove it; no value may hold a line break.'
)
UNNAMED = 'Column {column} of {file} has no name. Name it in the first row, or remove it.'
TWICE = '{file} has two columns {name!r}. Rename or remove one of them.'
NOT_NUMERIC = (
    'Row {row} of {file} has the {column} {value!r}, which is not a number. Correct it, or write '
    'n/a where the value is missing.'
)
IDENTIFIERS = (
    'stimulus', 'content', 'film', 'retrieved', 'decoded', 'trial_type', 'condition_a',
    'condition_b', 'session', 'run_label', 'space', 'name',
)  # fmt: skip
"""Columns of our tables that stay text even where it looks like numbers or like nothing."""
MISSING = ('', 'n/a')
"""What stands for a missing value: BIDS asks for ``n/a``; empty fields can mean nothing else."""


def column_texts(*names: str) -> dict[str, dict[str, Any]]:
    """Return what the columns of a table mean, as a sidecar says it.

    Parameters
    ----------
    *names
        Of tables in ``data/columns.toml``; what a later one says of a column wins.

    Examples
    --------
    >>> column_texts('trials')['onset']
    {'Description': 'Onset of the trial in its run', 'Units': 's'}
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for column, told in _columns()[name].items():
            found[column] = {'Description': told} if isinstance(told, str) else dict(told)
    return found


@functools.cache
def _columns() -> Mapping[str, Mapping[str, Any]]:
    file = resources.files('bids_neurodecode') / 'data' / 'columns.toml'
    return tomllib.loads(file.read_text('utf-8'))


def read_rows(file: Path, separator: str = '\t') -> list[list[str]]:
    r"""Read the rows of a text table as they are, the first one too.

    Quotation marks are read as in CSV (they enclose a whole field), but within one line: a stray
    one would else swallow the rows up to the next.

    Parameters
    ----------
    file
        UTF-8 text, with or without a byte-order mark; lines end in ``\n``, ``\r\n`` or ``\r``.
    separator
        Between fields.

    Returns
    -------
    list of list of str
        Fields without white space at their ends; all rows as long as the first.

    Raises
    ------
    InputError
        If the file was not fetched or cannot be read, has more than ``MOST_COLUMNS`` columns, or a
        row has another number of fields, no field at all (the end of the file aside), or quotation
        marks that do not enclose a field.
        Rows are counted from 1, as editors show them.
    """
    rows: list[list[str]] = []
    for number, line in enumerate(_lines(file, separator), 1):
        fields = _fields(line, separator, number, file)
        if rows:
            _check_fields(len(fields), len(rows[0]), number, file)
        rows.append(fields)
    return rows


def count_rows(file: Path, separator: str = '\t') -> int:
    """Count the rows of a text table, the first one too, without taking them apart.

    Parameters
    ----------
    file, separator
        As in :func:`read_rows`.

    Raises
    ------
    InputError
        For what :func:`read_rows` refuses.
    """
    lines = _lines(file, separator)
    if any('"' in line for line in lines):  # may enclose separators
        return len(read_rows(file, separator))
    expected = lines[0].count(separator) + 1
    for number, line in enumerate(lines, 1):
        _check_fields(line.count(separator) + 1, expected, number, file)
    return len(lines)


def _lines(file: Path, separator: str) -> list[str]:
    """Read the lines of a text table, none of which is empty."""
    with raised_as(InputError, UNREADABLE, OSError, UnicodeDecodeError, file=file):
        text = read_fetched(file, LARGEST_GB).decode('utf-8-sig')
    if '\0' in text:
        raise InputError(UNREADABLE.format(file=file, reason='it holds NUL bytes'))
    lines = io.StringIO(text, newline=None).read().rstrip('\n').split('\n')
    if not lines[0].strip():
        reason = 'its first row is empty' if len(lines) > 1 else 'it is empty'
        raise InputError(UNREADABLE.format(file=file, reason=reason))
    if (n := lines[0].count(separator) + 1) > MOST_COLUMNS:
        raise InputError(WIDE.format(file=file, found=n, most=MOST_COLUMNS))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise InputError(EMPTY_ROW.format(row=number, file=file))
    return lines


def _check_fields(found: int, expected: int, number: int, file: Path) -> None:
    if found != expected:
        raise InputError(FIELDS.format(row=number, file=file, found=found, expected=expected))


def _fields(line: str, separator: str, number: int, file: Path) -> list[str]:
    if '"' not in line:
        return [field.strip() for field in line.split(separator)]
    try:
        (fields,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error as error:
        raise InputError(QUOTES.format(row=number, file=file, reason=error)) from error
    return [field.strip() for field in fields]


def read_table(file: Path, separator: str = '\t') -> pd.DataFrame:
    """Read a table with a header; every value stays text, and missing ones become missing.

    Parameters
    ----------
    file, separator
        As in :func:`read_rows`.

    Returns
    -------
    pandas.DataFrame
        Of the type ``string``; ``n/a`` and empty fields are missing.

    Raises
    ------
    InputError
        For what :func:`read_rows` refuses, and for columns without a name or with one name.
    """
    return as_table(read_rows(file, separator), file)


def as_table(rows: list[list[str]], file: Path) -> pd.DataFrame:
    """Make a table of rows; see :func:`read_table`.

    Parameters
    ----------
    rows, file
        As in :func:`as_columns`.
    """
    import pandas as pd

    return pd.DataFrame(as_columns(rows, file), dtype='string')


def as_columns(rows: list[list[str]], file: Path) -> dict[str, list[str | None]]:
    """Return the columns of rows, of which the first one names them; None where one is missing.

    Parameters
    ----------
    rows
        Cells as text, line by line.
    file
        That they were read from, for messages.

    Raises
    ------
    InputError
        If a column has no name, or two have one.
    """
    names, seen = rows[0], set[str]()
    for position, name in enumerate(names, 1):
        if not name:
            raise InputError(UNNAMED.format(column=position, file=file))
        if name in seen:
            raise InputError(TWICE.format(file=file, name=name))
        seen.add(name)
    columns = zip(*rows[1:], strict=True) if rows[1:] else ((),) * len(names)
    return {
        name: [None if field in MISSING else field for field in column]
        for name, column in zip(names, columns, strict=True)
    }


def to_numbers(table: pd.DataFrame, column: str, file: Path) -> npt.NDArray[np.float64]:
    """Return a column of text as numbers, NaN where values are missing.

    Parameters
    ----------
    table
        As :func:`read_table` returns it, or some rows of it.
    column
        One of its columns.
    file
        Named in errors.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,).

    Raises
    ------
    InputError
        For text that is not a number.
    """
    return as_numbers(table[column].tolist(), table.index, column, file)


def as_numbers(
    texts: Sequence[object], rows: Sequence[int] | pd.Index, column: str, file: Path
) -> npt.NDArray[np.float64]:
    """Return what :func:`to_numbers` does of the values of a column in some rows.

    Parameters
    ----------
    texts
        Of the column: what is no text is missing.
    rows
        Where each stands in its file, from 0.
    column, file
        Named in errors.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,).

    Raises
    ------
    InputError
        For text that is not a number.
    """
    import numpy as np
    import pandas as pd

    # asked of a list: pandas takes many times as long for the small tables of events
    values = np.asarray(pd.to_numeric(np.array(texts, dtype=object), errors='coerce'), np.float64)
    for number in np.flatnonzero(np.isnan(values)).tolist():
        text = texts[number]
        if isinstance(text, str) and text.lower() != 'nan':
            row = int(rows[number]) + 2
            raise InputError(NOT_NUMERIC.format(row=row, file=file, column=column, value=text))
    return values
