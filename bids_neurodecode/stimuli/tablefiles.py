"""How tables of features are read: TSV, CSV, NumPy arrays, HDF5 and safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode import tables
from bids_neurodecode.errors import DataError, InputError, retold
from bids_neurodecode.fetched import check_fetched, state_of
from bids_neurodecode.headers import check_dataset
from bids_neurodecode.mapped import BROKEN_ARRAY
from bids_neurodecode.stimuli.tables import ALL, KEYS, SUFFIXES, TIMES, FeatureTable, is_table
from bids_neurodecode.text import one_line
from bids_neurodecode.typing import Float32Array

UNREADABLE = (
    'Cannot read the feature table {file}: {reason}. Give TSV, CSV, npy, h5 or safetensors.'
)
UNKNOWN_KIND = 'The feature table {file} is of an unknown type. Types: {types}.'
NO_NUMBERS = 'The feature table {file} has no column of numbers. Give one a feature.'
LENGTHS = (
    'The arrays of the feature table {file} differ in their rows ({first!r} has {a}, {other!r} '
    'has {b}). Give all of them one row per stimulus, or a moment.'
)
COLUMN_NAMES = (
    '"Columns" in {file} names {found} columns, and {table} has {expected}. Name each of them.'
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
    'rows. Give one time per row: when it begins.'
)


DAMAGE = (
    *(*BROKEN_ARRAY, MemoryError, ArithmeticError, LookupError, TypeError),
    *(AttributeError, RuntimeError, SyntaxError, TokenError),
)
"""What NumPy, h5py and safetensors raise for files that are damaged."""


def read_features(file: Path, key: str | None = None) -> FeatureTable:
    """Read a table of features; one that was read is kept until it changes.

    Parameters
    ----------
    file
        TSV or CSV with a header; ``.npy`` of shape (n_rows, n_columns) with, of images, a
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
        file.stat()
    except OSError as error:
        raise InputError(UNREADABLE.format(file=file, reason=error.strerror)) from error
    return _read(file, key, state_of(*files_of_table(file)))


def files_of_table(file: Path) -> list[Path]:
    """Return the files that a table is read from: itself, and what names rows and columns of npy.

    Parameters
    ----------
    file
        The table.
    """
    beside = ('.tsv', '.json') if file.suffix.lower() == '.npy' else ()
    others = (file.with_suffix(suffix) for suffix in beside)
    return [file, *(other for other in others if other.is_file())]


@lru_cache(maxsize=8)
def _read(file: Path, key: str | None, _state: tuple[tuple[int, ...], ...]) -> FeatureTable:
    suffix = file.suffix.lower()
    if suffix in {'.tsv', '.csv'}:
        return _of_text(file, key)
    try:
        if suffix == '.npy':
            return _of_array(file, key)
        arrays = _hdf5(file) if suffix in {'.h5', '.hdf5'} else _safetensors(file)
    except DataError as error:
        raise InputError(str(error)) from error
    except DAMAGE as error:
        reason = one_line(error)
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
    # mapped first: a header that promises more than its file holds is refused
    values = _matrix(np.array(np.load(file, mmap_mode='r', allow_pickle=False)))
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
            check_dataset(item, file)
            text = h5py.check_string_dtype(item.dtype) is not None
            found[name] = np.asarray(item.asstr()[()] if text else item[()])

    with h5py.File(file, 'r') as stream:
        stream.visititems(add)
    return found


def _safetensors(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read tensors of any type; names of rows are a JSON list in the metadata."""
    import torch
    from safetensors import SafetensorError, safe_open

    with retold(ValueError, SafetensorError), safe_open(file, 'pt') as stored:
        found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        about = dict(stored.metadata() or {})
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
