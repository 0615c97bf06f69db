"""Features that a user brings: one row per stimulus, or one row per moment of a film.

Text (TSV, CSV), NumPy arrays, HDF5 and safetensors. Columns belong to bands (feature spaces):
those that the settings name, else arrays by their names and columns by what their names share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import InputError
from bids_neurodecode.typing import Float32Array, FloatArray

SUFFIXES = frozenset({'.tsv', '.csv', '.npy', '.h5', '.hdf5', '.safetensors'})
KEYS = ('stim_file', 'stimulus', 'image', 'file', 'name')
"""Columns that name stimuli, unless the settings say another."""
TIMES = ('time', 'onset')
"""Columns of the seconds of a film from which on a row holds."""
ALL = 'features'
"""Name of the band of columns whose names share nothing."""
SLACK = 1e-3
"""Share of a volume by which clocks may be off."""


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
    'shown for {seconds:g} s, {volumes:.1f} volumes of {period:g} s. Give one row per volume, '
    'times, or rows a second (features.table_rate).'
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
        One name per column.
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

        Parameters
        ----------
        stimuli
            Their names.
        wanted
            Columns of each band, by band; None: the table's own bands.

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
            Rows a second, where the file has no times; None: one row per volume.

        Raises
        ------
        InputError
            If times do not ascend or do not cover the volumes, there is not one row per volume, or
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
        """Return the second of the film up to which there are features.

        Parameters
        ----------
        period
            Seconds of a volume: also of a row, of tables without times where no rate is said.
        rate
            Rows a second; None: not said.
        """
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


@lru_cache(maxsize=1 << 16)
def suffix_of(name: str) -> str:
    """Return the extension of a stimulus in lower case: its name comes in many rows and runs.

    Examples
    --------
    >>> suffix_of('faces/C.PNG'), suffix_of('rest')
    ('.png', '')
    """
    return PurePosixPath(name).suffix.lower()


def is_table(name: str | Path) -> bool:
    """Tell from its name whether a stimulus is a table of features.

    Examples
    --------
    >>> is_table('features/part-1.tsv'), is_table('part-1.mp4')
    (True, False)
    """
    return suffix_of(str(name)) in SUFFIXES


def some(names: Sequence[str]) -> str:
    """Write the first eight of some names."""
    return ', '.join(names[:8]) + (', ...' if len(names) > 8 else '')
