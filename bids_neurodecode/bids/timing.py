"""Events tables: read, and checked against the length of their run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode import tables
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import state_of

NO_COLUMN = (
    'The events {file} lack the column {column!r}. Add it, as BIDS asks (in lower case, fields '
    'separated by tabs).'
)
NO_STIM_FILE = (
    'The events {file} lack the column "stim_file"{also}. Add it, naming for each trial the '
    'image or film that was shown, relative to stimuli/ (n/a for rows that show none), or say '
    'what names them: events.stimulus_column = "COLUMN", or a template (events.stimulus).'
)
NO_STIMULUS = (
    'No row of {file} shows a stimulus: what names it is n/a in all, or they are left out '
    '(events.exclude). Name the images or films, relative to stimuli/, or leave the run out '
    'with --run-label or --bids-filter-file.'
)
NOT_A_NUMBER = (
    'Row {row} of {file} has the {column} {value!r}; it must be a number (s). '
    'Correct the row, or leave the row out (events.exclude).'
)
NEGATIVE_ONSET = (
    'Row {row} of {file} starts before the run, at {onset:g} s. '
    'Correct the onset, or leave the row out (events.exclude).'
)
NO_DURATION = (
    'Row {row} of {file} lasts {duration:g} s; a stimulus cannot last less than 0 s. '
    'Correct the duration, or give it: events.duration = SECONDS.'
)
OUTSIDE_RUN = (
    'Row {row} of {file} lasts until {end:g} s, but its run ends at {length:g} s. '
    'Correct the onset or duration, or leave the row out (events.exclude).'
)
OVERLAP = (
    'Rows {first} and {second} of {file} overlap: one lasts until {end:g} s, the other starts at '
    '{onset:g} s. Correct the onsets or durations, or leave one kind of rows out (events.exclude).'
)
READ = frozenset(
    {'onset', 'duration', 'stim_file', 'trial_type', 'part', 'protocol', 'film_onset'}
)
"""Columns that mean something by their name."""
TOLERANCE = 0.02
"""Seconds by which clocks of stimulus computers may be off between two rows."""


def read_table(file: Path) -> pd.DataFrame:
    """Read a BIDS table; every value stays text and ``n/a`` becomes missing.

    Stimuli are named as their path is spelled at its shortest (``./a.png`` is ``a.png``): one file
    is one stimulus, however a row writes it. Columns without a name, and those of one name with
    different values, are passed over where nothing but a person could read them.

    Raises
    ------
    InputError
        If it was not fetched or cannot be read; see
        :func:`bids_neurodecode.tables.read_table`.
    """
    return read_texts(file).frame()


def read_texts(file: Path) -> TextTable:
    """Read a BIDS table, as :func:`read_table` does, once: many checks ask for it."""
    return _read_texts(file, state_of(file))


@lru_cache(maxsize=1024)
def _read_texts(file: Path, _state: tuple[tuple[int, ...], ...]) -> TextTable:
    """Read a table once, and again when its file changes."""
    rows = _readable(tables.read_rows(file))
    columns = tables.as_columns(rows, file)
    if 'stim_file' in columns:
        names = columns['stim_file']
        known = {name: name and stimulus_name(name) for name in set(names)}
        columns['stim_file'] = [known[name] for name in names]
    return TextTable(columns, range(len(rows) - 1))


def _readable(rows: list[list[str]]) -> list[list[str]]:
    """Leave columns out that cannot be told apart, and that the program does not read by name."""
    names = rows[0]
    places: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        places.setdefault(name, []).append(position)
    kept = []
    for name, same in places.items():
        if name in READ:
            kept += same
        elif name and all(row[i] == row[same[0]] for i in same[1:] for row in rows):
            kept.append(same[0])
    return [[row[i] for i in sorted(kept)] for row in rows] if len(kept) < len(names) else rows


def stimulus_name(text: str) -> str:
    """Return the name of a stimulus, relative to ``stimuli/``, without empty steps.

    Examples
    --------
    >>> stimulus_name('./faces//c.png')
    'faces/c.png'
    """
    return PurePosixPath(text).as_posix()


def texts_of(column: pd.Series[str]) -> list[str | None]:
    """Return the values of a column of text; None where they are missing.

    Parameters
    ----------
    column
        Of a table that :func:`read_table` returned, or of one made of it.
    """
    # asking a list is several times faster than asking pandas, a thousand small tables long
    values = column.tolist()
    return [value if isinstance(value, str) else None for value in values]


@dataclass(frozen=True)
class TextTable:
    """Columns of a table of events as lists, which are many times faster than small tables."""

    columns: Mapping[str, Sequence[str | None]]
    rows: Sequence[int]
    """Where each row stands in its file, from 0."""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, table: pd.DataFrame) -> TextTable:
        """Return the columns of a table."""
        columns = {str(name): texts_of(table[name]) for name in table.columns}
        return cls(columns, table.index.tolist())

    def frame(self) -> pd.DataFrame:
        """Return the table of these columns."""
        return pd.DataFrame({**self.columns}, index=pd.Index(self.rows), dtype='string')


def stimulus_names(table: pd.DataFrame, file: Path) -> list[str]:
    """Return the ``stim_file`` of each row that shows a stimulus.

    Parameters
    ----------
    table
        Events.
    file
        That they were read from.

    Raises
    ------
    InputError
        If there is no such column, or no such row.
    """
    return _stimulus_names(TextTable.of(table), file)


def _stimulus_names(table: TextTable, file: Path) -> list[str]:
    if 'stim_file' not in table.columns:
        raise InputError(NO_STIM_FILE.format(file=file, also=''))
    return shown_names(table.columns['stim_file'], file)


def stimuli_of(file: Path) -> list[str]:
    """Return what :func:`stimulus_names` does of the events in a file."""
    return _stimulus_names(read_texts(file), file)


def count_stimuli(file: Path) -> int:
    """Count the rows of events that were checked before, and show a stimulus."""
    names, *rows = tables.read_rows(file)
    column = names.index('stim_file')
    return sum(row[column] not in tables.MISSING for row in rows)


def shown_names(texts: Sequence[str | None], file: Path) -> list[str]:
    """Return the stimuli of rows, without those that show none.

    Parameters
    ----------
    texts
        Of ``stim_file``.
    file
        That they were read from.

    Raises
    ------
    InputError
        If no row shows one.
    """
    names = [name for name in texts if name is not None]
    if not names:
        raise InputError(NO_STIMULUS.format(file=file))
    return names


def check_timing(
    table: TextTable, file: Path, *, length: float, slack: float
) -> npt.NDArray[np.float64]:
    """Check the rows that show a stimulus against the run.

    Parameters
    ----------
    table
        With ``stim_file``.
    file
        Named in errors.
    length
        Length of the run (s).
    slack
        How much later than the run the last stimulus may end (s).

    Returns
    -------
    numpy.ndarray
        How long each of these rows lasts (s), (n_shown,).

    Raises
    ------
    InputError
        For onsets or durations that are no numbers, negative, outside the run or overlapping. A
        duration of 0 is an impulse, as BIDS says.
        Rows are counted from 2, as editors show them (the header is 1).
    """
    for column in ('onset', 'duration'):
        if column not in table.columns:
            raise InputError(NO_COLUMN.format(file=file, column=column))
    shown = [i for i, name in enumerate(table.columns['stim_file']) if name is not None]
    rows = [table.rows[i] + 2 for i in shown]
    onset = _numbers(table, 'onset', shown, file)
    duration = _numbers(table, 'duration', shown, file)
    for row, start, lasts in zip(rows, onset, duration, strict=True):
        if start < 0:
            raise InputError(NEGATIVE_ONSET.format(row=row, file=file, onset=start))
        if lasts < 0:
            raise InputError(NO_DURATION.format(row=row, file=file, duration=lasts))
        if start >= length or start + lasts > length + slack:
            raise InputError(
                OUTSIDE_RUN.format(row=row, file=file, end=start + lasts, length=length)
            )
    order = np.argsort(onset, kind='stable')
    for a, b in itertools.pairwise(order):
        end = onset[a] + duration[a]
        if end > onset[b] + TOLERANCE:
            raise InputError(
                OVERLAP.format(first=rows[a], second=rows[b], file=file, end=end, onset=onset[b])
            )
    return duration


def _numbers(
    table: TextTable, column: str, shown: list[int], file: Path
) -> npt.NDArray[np.float64]:
    """Return a column as numbers in the rows ``shown``."""
    texts = table.columns[column]
    given = [texts[i] for i in shown]
    values = numbers_of(given)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        first = int(bad[0])
        value, row = given[first] or 'n/a', table.rows[shown[first]] + 2
        raise InputError(NOT_A_NUMBER.format(row=row, file=file, column=column, value=value))
    return values


def numbers_of(texts: Sequence[str | None]) -> npt.NDArray[np.float64]:
    """Return texts as numbers, (n,): NaN where they are missing or none.

    Parameters
    ----------
    texts
        Of :func:`texts_of`.
    """
    values = pd.to_numeric(np.array(texts, dtype=object), errors='coerce')
    return np.asarray(values, dtype=np.float64)
