"""Features that a user brings: one row a stimulus, or one row a moment of a film.

Text (TSV, CSV), NumPy arrays, HDF5 and safetensors. Columns belong to bands (feature spaces):
those that the settings name, else arrays by their names and columns by what their names share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode import tables
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched

SUFFIXES = frozenset({'.tsv', '.csv', '.npy', '.h5', '.hdf5', '.safetensors'})
KEYS = ('stim_file', 'stimulus', 'image', 'file', 'name')
"""Columns that name stimuli, unless the settings say another."""
TIMES = ('time', 'onset')
"""Columns of the seconds of a film from which on a row holds."""
ALL = 'features'
"""Name of the band of columns whose names share nothing."""
SLACK = 1e-3
"""Share of a volume by which clocks may be off."""

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

UNREADABLE = (
    'Cannot read the feature table {file}: {reason}. Give TSV, CSV, npy, h5 or safetensors.'
)
UNKNOWN_KIND = 'The feature table {file} is of an unknown type. Types: {types}.'
NO_NUMBERS = 'The feature table {file} has no column of numbers. Give one a feature.'
LENGTHS = (
    'The arrays of the feature table {file} differ in their rows ({first!r} has {a}, {other!r} '
    'has {b}). Give all of them one row a stimulus, or a moment.'
)
COLUMN_NAMES = (
    '"Columns" in {file} names {found} columns, and {table} has {expected}. Name each of them.'
)
NO_NAMES = (
    'The feature table {file} does not say which stimulus a row is of: it has no {wanted} (it has '
    '{columns}). Add one with the names in stim_file, or say which with features.table_key.'
)
NOT_FINITE = (
    'The feature table {file} holds no finite number in {n} place(s) (first: {column!r} of row '
    '{row}). Fill them in, or name the columns that are used (features.bands).'
)
ROW_TWICE = 'Rows {a} and {b} of the feature table {file} are both of {name!r}. Keep one.'
NO_ROW = (
    'The feature table {file} has no row for {n} of {total} stimuli (first: {name!r}; its rows '
    'are of {known}, ...). Add them, or correct their names.'
)
TWO_MEANT = (
    'Row {row!r} of the feature table {file} may be of {a!r} and of {b!r}. Write names as in '
    'stim_file, with their folders.'
)
NO_BAND = (
    'features.bands.{band} names {pattern!r}, and no column of {file} is called that. Columns: '
    '{columns}.'
)
BAND_TWICE = (
    'The column {column!r} of {file} is in two of features.bands ({a} and {b}). Take it out of '
    'one.'
)
TIME_ORDER = (
    'The {name} of row {row} of the feature table {file} is {time:g} s, after {before:g} s. Times '
    'must be numbers and ascend, each once.'
)
NO_TIMES = (
    'The feature table {file} has {rows} rows and no times (column {columns}), and its film is '
    'shown for {seconds:g} s, {volumes:.1f} volumes of {period:g} s. Give one row a volume, '
    'times, or rows a second (features.table_rate).'
)
NOT_FILLED = (
    'Row {row} of the feature table {file} lasts {lasts:g} s, and the next one begins {step:g} s '
    'after it: a row holds until the next one. Give a row for what lies between (rows that do not '
    'overlap), or leave the column "duration" out.'
)
CLOCKS = (
    'The feature table {file} has times in {first!r} and {other!r} that differ. Keep one of them, '
    'or make them alike.'
)
CLOCK_SHAPE = (
    'The times {name!r} of the feature table {file} are of the shape {shape}, and it has {rows} '
    'rows. Give one time a row: when it begins.'
)
LONGER = (
    '{file} has features of {seconds:g} s, and its film is shown until {shown:g} s: what comes '
    'after that is not used. Are its times in seconds of the film, and is features.table_rate '
    'right?'
)
NOT_COVERED = (
    'The feature table {file} covers its film from {start:g} to {end:g} s, and the film is shown '
    'from {a:g} to {b:g} s. Give features of all of it, or correct the events.'
)
LEFT_OUT = 'Columns of {file} that hold text were left out: {columns}.'
USED = 'Features of {file}: {bands}.'


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features as a file holds them.

    Parameters
    ----------
    file
        Where they come from.
    values
        Shape (n_rows, n_columns), float32; NaN where a value is missing.
    columns
        A name a column.
    groups
        The band of each column, unless the settings say otherwise.
    names
        The stimulus of each row; empty where the file does not say.
    times
        Second of the film from which on each row holds, (n_rows,); None where the file does not
        say.
    left_out
        Columns that hold text.
    first
        Number of the first row, as editors show it (2 below a header).
    """

    file: Path
    values: Float32Array
    columns: tuple[str, ...]
    groups: tuple[str, ...]
    names: tuple[str, ...] = ()
    times: FloatArray | None = None
    left_out: tuple[str, ...] = ()
    first: int = 1

    def bands(self, wanted: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[int]]:
        """Return the column numbers of each band.

        Parameters
        ----------
        wanted
            Patterns (``text*``) of the columns, or names of the arrays, of each band; None or
            empty: by the names of arrays, or by what names of columns share.

        Raises
        ------
        InputError
            If a pattern names no column, or two bands name one.
        """
        if not wanted:
            found: dict[str, list[int]] = {}
            for number, group in enumerate(self.groups):
                found.setdefault(group, []).append(number)
            return found
        of: dict[int, str] = {}
        for band, patterns in wanted.items():
            for pattern in patterns:
                mine = [
                    number
                    for number, both in enumerate(zip(self.columns, self.groups, strict=True))
                    if any(fnmatchcase(name, pattern) for name in both)
                ]
                if not mine:
                    text = {'band': band, 'pattern': pattern, 'columns': some(self.columns)}
                    raise InputError(NO_BAND.format(file=self.file, **text))
                for number in mine:
                    if of.setdefault(number, band) != band:
                        raise InputError(
                            BAND_TWICE.format(
                                column=self.columns[number], file=self.file, a=of[number], b=band
                            )
                        )
        return {band: sorted(n for n, b in of.items() if b == band) for band in wanted}

    def notes(self, wanted: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
        """Say which bands are used, and which columns were left out."""
        parts = [
            f'{band} ({len(numbers)}: {some([self.columns[n] for n in numbers])})'
            for band, numbers in self.bands(wanted).items()
        ]
        left = some(self.left_out)
        return (
            USED.format(file=self.file.name, bands='; '.join(parts)),
            *([LEFT_OUT.format(file=self.file.name, columns=left)] if left else []),
        )

    def rows_of(self, stimuli: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the row of each stimulus.

        Rows name a stimulus as ``stim_file`` does, or by its file name with or without
        extension.

        Raises
        ------
        InputError
            If the file names no stimuli, names one twice, may mean two, or lacks one.
        """
        if not self.names:
            wanted = f'column or array {" or ".join(KEYS)}'
            columns = some([*self.columns, *self.left_out])
            raise InputError(NO_NAMES.format(file=self.file, wanted=wanted, columns=columns))
        place: dict[str, int] = {}
        for row, name in enumerate(self.names):
            first = place.setdefault(PurePosixPath(name).as_posix(), row)
            if first != row:
                raise InputError(
                    ROW_TWICE.format(
                        a=first + self.first, b=row + self.first, file=self.file, name=name
                    )
                )
        meant: dict[str, str] = {}
        rows, missing = [], []
        for stimulus in stimuli:
            path = PurePosixPath(stimulus)
            ways = (stimulus, path.with_suffix('').as_posix(), path.name, path.stem)
            known = [way for way in ways if way in place]
            if not known:
                missing.append(stimulus)
                continue
            name = known[0]
            if meant.setdefault(name, stimulus) != stimulus:
                raise InputError(
                    TWO_MEANT.format(row=name, file=self.file, a=meant[name], b=stimulus)
                )
            rows.append(place[name])
        if missing:
            raise InputError(
                NO_ROW.format(
                    file=self.file, n=len(missing), total=len(stimuli), name=missing[0],
                    known=', '.join(repr(name) for name in self.names[:2]),
                )
            )  # fmt: skip
        return np.array(rows, dtype=np.intp)

    def of_stimuli(
        self, stimuli: Sequence[str], wanted: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Float32Array]:
        """Return the features of stimuli by band, (n_stimuli, n_columns) each.

        Raises
        ------
        InputError
            As :meth:`bands` and :meth:`rows_of`, and for values that are missing.
        """
        return self._by_band(self.values[self.rows_of(stimuli)], self.rows_of(stimuli), wanted)

    def of_volumes(
        self,
        onsets: npt.ArrayLike,
        period: float,
        *,
        shown: float | None = None,
        rate: float | None = None,
        wanted: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, Float32Array]:
        """Return the features of volumes by band, (n_volumes, n_columns) each.

        A row holds from its time to that of the next one (the last, as long as the median row);
        a volume has the mean over the time that it lasts.

        Parameters
        ----------
        onsets
            Seconds of the film at which volumes begin, (n_volumes,).
        period
            Seconds a volume.
        shown
            Second of the film at which it was switched off, where that is to be checked against
            the number of rows.
        rate
            Rows a second, where the file has no times; None: one row a volume.

        Raises
        ------
        InputError
            If times do not ascend or do not cover the volumes, there is not one row a volume, or
            values are missing.
        """
        begin = np.asarray(onsets, dtype=np.float64)
        edges = self._edges(period, shown, rate)
        start, end = float(begin.min()), float(begin.max()) + period
        step = float(np.median(np.diff(edges)))
        slack = step / 2 + SLACK * period
        if start < edges[0] - slack or end > edges[-1] + slack:
            span = {'start': edges[0], 'end': edges[-1], 'a': start, 'b': end}
            raise InputError(NOT_COVERED.format(file=self.file, **span))
        first = np.searchsorted(edges, begin + SLACK * period, side='right') - 1
        last = np.searchsorted(edges, begin + (1 - SLACK) * period, side='left')
        first = np.clip(first, 0, len(self.values) - 1)
        last = np.clip(last, first + 1, len(self.values))
        spans = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        used = np.unique(np.concatenate(spans))
        self._by_band(self.values[used], used, wanted)
        means = np.empty((len(begin), self.values.shape[1]), dtype=np.float32)
        for volume, (a, b) in enumerate(zip(first, last, strict=True)):
            if b == a + 1:
                means[volume] = self.values[a]
                continue
            until = np.minimum(edges[a + 1 : b + 1], begin[volume] + period)
            weights = until - np.maximum(edges[a:b], begin[volume])
            means[volume] = weights @ self.values[a:b].astype(np.float64) / weights.sum()
        return {band: means[:, numbers] for band, numbers in self.bands(wanted).items()}

    def seconds(self, period: float, rate: float | None = None) -> float:
        """Return the second of the film up to which there are features."""
        if self.times is None:
            return len(self.values) * (period if rate is None else 1 / rate)
        return float(self._edges(period, None, rate)[-1])

    def _edges(self, period: float, shown: float | None, rate: float | None) -> FloatArray:
        """Return when each row begins, and when the last one ends, (n_rows + 1,)."""
        n = len(self.values)
        if self.times is None and rate is None and shown is not None:
            volumes = shown / period
            # a film need not end with a volume
            if not volumes - 1 < n - SLACK < volumes + 1:
                raise InputError(
                    NO_TIMES.format(
                        file=self.file, rows=n, columns=' or '.join(TIMES), seconds=shown,
                        volumes=volumes, period=period,
                    )
                )  # fmt: skip
        if self.times is None:
            return np.arange(n + 1, dtype=np.float64) * (period if rate is None else 1 / rate)
        steps = np.diff(self.times)
        wrong = np.flatnonzero(~(steps > 0))
        if not np.isfinite(self.times[0]) or wrong.size:
            row = int(wrong[0]) + 1 if wrong.size else 0
            before = self.times[row - 1] if row else np.nan
            raise InputError(
                TIME_ORDER.format(
                    name='time',
                    row=row + self.first,
                    file=self.file,
                    time=self.times[row],
                    before=before,
                )
            )
        lasts = float(np.median(steps)) if n > 1 else period
        return np.append(self.times, self.times[-1] + lasts)

    def _by_band(
        self,
        values: Float32Array,
        rows: npt.NDArray[np.intp],
        wanted: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, Float32Array]:
        found = self.bands(wanted)
        used = np.sort(np.concatenate([*found.values()]).astype(np.intp))
        bad = ~np.isfinite(values[:, used])
        if bad.any():
            row, column = (int(x[0]) for x in np.nonzero(bad))
            raise InputError(
                NOT_FINITE.format(
                    file=self.file, n=int(bad.sum()), column=self.columns[used[column]],
                    row=int(rows[row]) + self.first,
                )
            )  # fmt: skip
        return {band: np.ascontiguousarray(values[:, numbers]) for band, numbers in found.items()}


def is_table(name: str | Path) -> bool:
    """Tell from its name whether a stimulus is a table of features.

    Examples
    --------
    >>> is_table('features/part-1.tsv'), is_table('part-1.mp4')
    (True, False)
    """
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def some(names: Sequence[str], n: int = 8) -> str:
    """Write the first few of some names."""
    return ', '.join(names[:n]) + (', ...' if len(names) > n else '')


def read_features(file: Path, key: str | None = None) -> FeatureTable:
    """Read a table of features; one that was read is kept until it changes.

    Parameters
    ----------
    file
        TSV or CSV with a header; ``.npy`` of shape (n_rows, n_columns) with, of pictures, a
        ``.tsv`` of the same name that names the rows and, if one likes, a ``.json`` whose
        ``Columns`` name the columns; HDF5 or safetensors whose arrays (n_rows, ...) are bands.
    key
        What names the stimuli; None: the first of :data:`KEYS` that is there.

    Raises
    ------
    InputError
        In one line: what cannot be read or does not fit.
    """
    check_fetched(file)
    if not is_table(file):
        types = ' '.join(sorted(SUFFIXES))
        raise InputError(UNKNOWN_KIND.format(file=file, types=types))
    try:
        state = file.stat()
    except OSError as error:
        raise InputError(UNREADABLE.format(file=file, reason=error.strerror)) from error
    return _read(file, key, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(file: Path, key: str | None, _size: int, _time: int) -> FeatureTable:
    suffix = file.suffix.lower()
    if suffix in {'.tsv', '.csv'}:
        return _of_text(file, key)
    try:
        if suffix == '.npy':
            return _of_array(file, key)
        arrays = _hdf5(file) if suffix in {'.h5', '.hdf5'} else _safetensors(file)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(UNREADABLE.format(file=file, reason=reason)) from error
    return _of_arrays(file, arrays, key)


def _of_text(file: Path, key: str | None) -> FeatureTable:
    table = tables.read_table(file, ',' if file.suffix.lower() == '.csv' else '\t')
    named = _first(table.columns, KEYS if key is None else (key,))
    timed = _first(table.columns, TIMES)
    # as in events: what lasts from its onset on is a clock, no feature
    clock = {name for name in table.columns if name.lower() in TIMES}
    if timed is not None and timed.lower() == 'onset':
        _check_filled(table, timed, file)
        clock |= {name for name in table.columns if name.lower() == 'duration'}
    values, columns, left_out = [], [], []
    for name in table.columns:
        if name == named or name in clock:
            continue
        if _is_text(table[name]):
            left_out.append(str(name))
            continue
        columns.append(str(name))
        values.append(tables.to_numbers(table, name, file).astype(np.float32))
    if not columns:
        raise InputError(NO_NUMBERS.format(file=file))
    names = () if named is None else tuple(table[named].fillna('').astype(str))
    times = None if timed is None else tables.to_numbers(table, timed, file)
    groups = tuple(shared_names(columns))
    found = np.stack(values, axis=1)
    return FeatureTable(file, found, tuple(columns), groups, names, times, tuple(left_out), 2)


def _check_filled(table: Any, timed: str, file: Path) -> None:
    """Check that rows with durations last until the next one, which is what a row does here."""
    lasting = next((name for name in table.columns if name.lower() == 'duration'), None)
    if lasting is None or len(table) < 2:
        return
    steps = np.diff(tables.to_numbers(table, timed, file))
    lasts = tables.to_numbers(table, lasting, file)[:-1]
    # times may be rounded; what lasts n/a or 0 s lasts until the next one
    slack = max(0.1 * float(np.median(np.abs(steps))), 1e-3)
    wrong = np.flatnonzero((lasts > 0) & (np.abs(lasts - steps) > slack))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(
            NOT_FILLED.format(row=row + 2, file=file, lasts=lasts[row], step=steps[row])
        )


def _is_text(column: Any) -> bool:
    """Whether none of the values of a column is a number, and some are there."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors='coerce')
    return bool(column.notna().any() and numbers.isna().all())


def shared_names(columns: Sequence[str]) -> list[str]:
    """Return the band of each column by its name.

    What comes before the first ``_``, ``.``, ``:`` or ``/`` if every column has that; else
    columns that differ in a number at the end are a band, and all others one.

    Examples
    --------
    >>> shared_names(['label_a', 'label_b', 'text_1'])
    ['label', 'label', 'text']
    >>> shared_names(['music', 'n_words', 'text01', 'text02'])
    ['features', 'features', 'text', 'text']
    """
    prefixes = [re.fullmatch(r'([A-Za-z0-9]+)[_.:/](.+)', name) for name in columns]
    if all(prefixes):
        return [found.group(1) for found in prefixes if found]
    stems = [re.fullmatch(r'(.*?[A-Za-z])[_.:/-]?\d+', name) for name in columns]
    numbered = [found.group(1) if found else '' for found in stems]
    return [_plain(stem) if stem and numbered.count(stem) > 1 else ALL for stem in numbered]


def _of_array(file: Path, key: str | None) -> FeatureTable:
    values = np.load(file, allow_pickle=False)
    values = _matrix(values)
    columns = [f'{ALL}{number}' for number in range(values.shape[1])]
    groups = [ALL] * len(columns)
    sidecar = file.with_suffix('.json')
    if sidecar.is_file():
        named = json.loads(sidecar.read_text('utf-8')).get('Columns')
        if named is not None and len(named) != len(columns):
            counts = {'found': len(named), 'expected': len(columns), 'table': file.name}
            raise InputError(COLUMN_NAMES.format(file=sidecar, **counts))
        if named is not None:
            columns = [str(name) for name in named]
            groups = shared_names(columns)
    table = FeatureTable(file, values, tuple(columns), tuple(groups))
    rows = file.with_suffix('.tsv')
    if not rows.is_file():
        return table
    about = tables.read_table(rows)
    if len(about) != len(values):
        lengths = {'first': file.name, 'a': len(values), 'other': rows.name, 'b': len(about)}
        raise InputError(LENGTHS.format(file=file, **lengths))
    named, timed = _first(about.columns, KEYS if key is None else (key,)), _first(about, TIMES)
    if named is not None:
        table = replace(table, names=tuple(about[named].fillna('').astype(str)))
    if timed is not None:
        table = replace(table, times=tables.to_numbers(about, timed, rows))
    return table


def _of_arrays(file: Path, arrays: dict[str, npt.NDArray[Any]], key: str | None) -> FeatureTable:
    """Make a table of arrays by name, of which some name the rows or say when they hold."""
    # an array of features may be called "image", too
    namely = {name: x for name, x in arrays.items() if x.ndim == 1 and x.dtype.kind in 'iuUSO'}
    named = _first(namely, KEYS) if key is None else _first(arrays, (key,))
    timed = _first(arrays, TIMES)
    clocks = {name for name in arrays if _last(name) in TIMES}
    for name in sorted(clocks):
        if timed is None or _last(name) != _last(timed):
            continue
        if not np.array_equal(arrays[name], arrays[timed]):
            raise InputError(CLOCKS.format(file=file, first=timed, other=name))
    lengths = {name: len(values) for name, values in arrays.items() if values.ndim}
    for name, n in lengths.items():
        first = next(iter(lengths))
        if n != lengths[first]:
            both = {'first': first, 'a': lengths[first], 'other': name, 'b': n}
            raise InputError(LENGTHS.format(file=file, **both))
    numbers = {
        name: _matrix(values)
        for name, values in arrays.items()
        if name != named and name not in clocks and values.ndim and values.dtype.kind in 'biuf'
    }
    if not numbers:
        raise InputError(NO_NUMBERS.format(file=file))
    columns, groups = [], []
    for name, values in numbers.items():
        n = values.shape[1]
        columns += [name] if n == 1 else [f'{name}{number}' for number in range(n)]
        groups += [_plain(name)] * n
    left_out = [name for name in lengths if name not in {*numbers, *clocks, named}]
    rows = len(next(iter(numbers.values())))
    if timed is not None and arrays[timed].size != rows:
        shape = {'shape': arrays[timed].shape, 'rows': rows}
        raise InputError(CLOCK_SHAPE.format(name=timed, file=file, **shape))
    return FeatureTable(
        file,
        np.concatenate(list(numbers.values()), axis=1),
        tuple(columns),
        tuple(groups),
        () if named is None else tuple(str(name) for name in arrays[named]),
        None if timed is None else np.asarray(arrays[timed], dtype=np.float64).ravel(),
        tuple(left_out),
    )


def _hdf5(file: Path) -> dict[str, npt.NDArray[Any]]:
    import h5py

    found: dict[str, npt.NDArray[Any]] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            text = h5py.check_string_dtype(item.dtype) is not None
            found[name] = np.asarray(item.asstr()[()] if text else item[()])

    with h5py.File(file, 'r') as stream:
        stream.visititems(add)
    return found


def _safetensors(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read tensors of any type; names of rows are a JSON list in the metadata."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, 'pt') as stored:
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            about = dict(stored.metadata() or {})
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    arrays = {
        name: (values.float() if values.dtype is torch.bfloat16 else values).numpy()
        for name, values in found.items()
    }
    lists = {name: text for name, text in about.items() if text.lstrip().startswith('[')}
    return {name: np.array(json.loads(text), dtype=str) for name, text in lists.items()} | arrays


def _matrix(values: npt.NDArray[Any]) -> Float32Array:
    """Return an array as (n_rows, n_columns)."""
    if values.ndim == 0 or not values.size or values.dtype.kind not in 'biuf':
        msg = f'an array of shape {values.shape} and type {values.dtype} holds no rows of numbers'
        raise ValueError(msg)
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)


def _first(names: Any, wanted: Sequence[str]) -> str | None:
    """Return the first name that is wanted: as it is, else in other case or in a group."""
    exact = next((name for name in wanted if name in names), None)
    return exact or next((n for want in wanted for n in names if _last(n) == want), None)


def _last(name: str) -> str:
    return name.rpartition('/')[2].lower()


def _plain(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_.-]+', '-', name)


__all__ = ['ALL', 'KEYS', 'SUFFIXES', 'TIMES', 'FeatureTable', 'is_table', 'read_features']
