"""Rows of events that show films: one row per presentation, and where in the film it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.stimuli import resolve_stimulus
from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli.tablefiles import read_features
from bids_neurodecode.stimuli.tables import is_table
from bids_neurodecode.tables import to_numbers
from bids_neurodecode.typing import FloatArray

NO_START = (
    'Row {row} of {file} does not say where in the film it starts (events.film_onset: {value!r}). '
    'It must be 0 s or more; correct it, or leave the row out with events.exclude.'
)
PAST_END = (
    '{file} shows {film} from {start:g} s on, and the film lasts {duration:g} s. Correct '
    'events.film_onset, or replace the film.'
)
ENDED = (
    'Runs before that of {file} showed {film} to its end ({duration:g} s), and '
    'events.film_onset = "continue" goes on from there. Leave it out if each run starts the film '
    'from its beginning.'
)
PAUSED = (
    'Rows of {file} show {film} in {n} pieces with pauses between them, and no column says where '
    'in the film each starts. Name one: events.film_onset = "COLUMN".'
)
MERGED = (
    'Rows of single frames or shots were combined into one presentation of {film} '
    '({n} rows, from {onset:g} s on for {duration:g} s).'
)
DRIFT = (
    'The clock of the film {film} and that of the run of {file} differ by up to '
    '{drift:.2f} s (half '
    'a volume and more): the start of the presentation is taken.'
)
LENGTHS = '{film} is taken to be shown to its end, or that of the run: its row gives no duration.'
GAP = 0.1
"""Seconds between two rows that may still be one presentation."""


@dataclass(frozen=True)
class _Piece:
    """Rows (positions, in order of time) that show a film without a break."""

    film: str
    rows: tuple[int, ...]
    onset: float
    start: float
    duration: float


def film_rows(
    shown: pd.DataFrame,
    folder: Path,
    file: Path,
    *,
    length: float,
    repetition_time: float,
    starts: pd.Series[str] | float | str | None,
    shown_until: MutableMapping[str, float],
    tables: Callable[[str], Path | None] = lambda _: None,
    table_rate: float | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Put the rows of frames together, and say where in its film each presentation starts.

    Parameters
    ----------
    shown
        Events of one run (text), with ``onset``, ``duration`` and ``stim_file``, all films.
    folder
        Where films lie.
    file
        The published events, named in errors.
    length, repetition_time
        Of the run, and of a volume (s).
    starts
        Seconds into the film of each row, or of all; ``continue``: where the run before ended;
        None: at the beginning.
    shown_until
        Seconds of each film that earlier runs showed; this run is added.
    tables
        Gives the table of features of a film that has one: how long a film lasts that is not
        there itself.
    table_rate
        Rows a second of tables without times; None: one row per volume.

    Returns
    -------
    pandas.DataFrame
        ``shown`` itself where nothing is to be changed; else one row per presentation, with
        ``film_onset`` (s) where ``starts`` are given.
    tuple of str
        What was done, for the log and the report.

    Raises
    ------
    InputError
        If a start is missing or past the end of the film, or frames are shown in pieces.
    """
    rows = shown[shown['stim_file'].notna()]
    onset, lasts = to_numbers(rows, 'onset', file), to_numbers(rows, 'duration', file)
    if not np.isfinite(onset).all() or (lasts < 0).any():
        return shown, ()  # refused where times are checked
    begins = _starts(rows, starts, file)
    films = rows['stim_file'].to_numpy(dtype=str)
    known = _Films(folder, file, repetition_time, tables, table_rate)
    run = _Run(films, onset, lasts, known, repetition_time, file)
    groups = run.groups(begins)
    goes_on = isinstance(starts, str) and starts == 'continue'
    if begins is None:
        if not goes_on:
            groups = run.whole(groups)
        groups = run.as_shown(groups)
        run.refuse_pauses(groups)
    pieces, notes = [], list[str]()
    for group in groups:
        film = str(films[group[0]])
        start = 0.0 if begins is None else float(begins[group[0]])
        if goes_on:
            start = shown_until.get(film, 0.0)
            if start > known[film] - repetition_time:
                raise InputError(ENDED.format(file=file, film=film, duration=known[film]))
        if start > 0 and start >= known[film]:
            raise InputError(
                PAST_END.format(file=file, film=film, start=start, duration=known[film])
            )
        piece, note = run.piece(group, start, length, cut=goes_on)
        pieces.append(piece)
        notes.append(note)
        shown_until[film] = max(shown_until.get(film, 0.0), start + piece.duration)
        drift = 0.0 if begins is None else _drift(group, onset, begins)
        if drift > repetition_time / 2:
            notes.append(DRIFT.format(film=film, file=file, drift=drift))
    notes = list(filter(None, notes))
    if starts is None and len(pieces) == len(rows) and not notes:
        return shown, ()
    return _table(rows, pieces, with_starts=starts is not None), tuple(dict.fromkeys(notes))


class _Films:
    """How long films last (s), each read when it is first asked for."""

    def __init__(
        self,
        folder: Path,
        file: Path,
        repetition_time: float,
        tables: Callable[[str], Path | None],
        table_rate: float | None,
    ) -> None:
        self._folder, self._file, self._period = folder, file, repetition_time
        self._tables, self._rate = tables, table_rate

    def __getitem__(self, film: str) -> float:
        from bids_neurodecode.stimuli.films import check_film_once

        own = None if (self._folder / film).is_file() else self._tables(film)
        if own is not None:
            return read_features(own).seconds(self._period, self._rate)
        shown = resolve_stimulus(film, self._folder, self._file)
        if is_table(film):
            return read_features(shown).seconds(self._period, self._rate)
        return check_film_once(shown).duration


def _starts(
    rows: pd.DataFrame, starts: pd.Series[str] | float | str | None, file: Path
) -> FloatArray | None:
    """Return the seconds into the film at which each row starts, where they are given."""
    if starts is None or (isinstance(starts, str) and starts == 'continue'):
        return None
    if isinstance(starts, str | int | float):
        return np.full(len(rows), float(starts))
    given = rows.assign(film_onset=starts)
    values = to_numbers(given, 'film_onset', file)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        row = given.iloc[int(bad[0])]
        value = 'n/a' if not np.isfinite(values[bad[0]]) else row['film_onset']
        raise InputError(
            NO_START.format(row=int(rows.index[int(bad[0])]) + 2, file=file, value=value)
        )
    return values


@dataclass(frozen=True, eq=False)
class _Run:
    """Rows of a run that show films: which, from when on and for how long (s), one each."""

    films: npt.NDArray[np.str_]
    onset: FloatArray
    lasts: FloatArray
    known: _Films
    repetition_time: float
    file: Path

    def film(self, group: Sequence[int]) -> str:
        """Return the film that a group of rows shows."""
        return str(self.films[group[0]])

    def end(self, group: Sequence[int]) -> float:
        """Return the second at which its last row ends; a typical step after it begins."""
        last = group[-1]
        if self.lasts[last] > 0:
            return float(self.onset[last] + self.lasts[last])
        steps = np.diff(self.onset[list(group)])
        return float(self.onset[last] + (np.median(steps) if steps.size else 0.0))

    def groups(self, begins: FloatArray | None) -> list[tuple[int, ...]]:
        """Return rows that may be one presentation, in order of time."""
        groups: list[list[int]] = []
        for i in np.argsort(self.onset, kind='stable').tolist():
            if groups:
                last = groups[-1][-1]
                step, lasts = self.onset[i] - self.onset[last], self.lasts[last]
                joined = step - lasts <= GAP if lasts > 0 else step < self.repetition_time
                goes_on = not lasts >= self.repetition_time
                if begins is not None:
                    goes_on = bool(abs(begins[i] - begins[last] - step) <= GAP)
                if self.films[i] == self.films[last] and joined and goes_on:
                    groups[-1].append(i)
                    continue
            groups.append([i])
        return [tuple(group) for group in groups]

    def whole(self, groups: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Put rows of scenes together that follow each other and last as long as the film."""
        chains: list[list[tuple[int, ...]]] = []
        for group in groups:
            if chains and self.film(chains[-1][-1]) == self.film(group):
                gap = self.onset[group[0]] - self.end(chains[-1][-1])
                if abs(gap) <= GAP:
                    chains[-1].append(group)
                    continue
            chains.append([group])
        made: list[tuple[int, ...]] = []
        for chain in chains:
            film, span = self.film(chain[0]), self.end(chain[-1]) - self.onset[chain[0][0]]
            one = len(chain) > 1 and abs(span - self.known[film]) <= self.repetition_time
            made += [tuple(row for group in chain for row in group)] if one else chain
        return made

    def as_shown(self, groups: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Take groups apart that last longer than their film: clips shown again and again.

        The last frame may stay on the screen.
        """
        kept: list[tuple[int, ...]] = []
        for group in groups:
            until_last = self.onset[group[-1]] - self.onset[group[0]]
            again = len(group) > 1 and until_last >= self.known[self.film(group)]
            kept += [(row,) for row in group] if again else [group]
        return kept

    def refuse_pauses(self, groups: Sequence[tuple[int, ...]]) -> None:
        """Refuse frames in pieces: where the later ones start in the film is not said."""
        for film in dict.fromkeys(self.films.tolist()):
            mine = [group for group in groups if self.film(group) == film]
            if len(mine) < 2 or all(len(group) == 1 for group in mine):
                continue
            for group in mine:
                shown = self.end(group) - self.onset[group[0]]
                if shown < self.known[film] - self.repetition_time:
                    raise InputError(PAUSED.format(file=self.file, film=film, n=len(mine)))

    def piece(
        self, group: tuple[int, ...], start: float, length: float, *, cut: bool
    ) -> tuple[_Piece, str]:
        """Return how long a presentation lasted, and a note where its rows did not say so."""
        film, first, note = self.film(group), float(self.onset[group[0]]), ''
        duration = self.end(group) - first
        if not duration > 0:
            duration = min(self.known[film] - start, length - first)
            note = LENGTHS.format(film=film)
        elif len(group) > 1:
            duration = min(duration, self.known[film] - start)
            note = MERGED.format(film=film, n=len(group), onset=first, duration=duration)
        elif cut:
            duration = min(duration, self.known[film] - start, length - first)
        return _Piece(film, group, first, start, duration), note


def _drift(group: Sequence[int], onset: FloatArray, begins: FloatArray) -> float:
    rows = list(group)
    return float(np.abs(begins[rows] - begins[rows[0]] - onset[rows] + onset[rows[0]]).max())


def _table(rows: pd.DataFrame, pieces: Sequence[_Piece], *, with_starts: bool) -> pd.DataFrame:
    """Return one row per presentation, two where its part of a given split changes."""
    made: list[Mapping[str, object]] = []
    index: list[int] = []
    onsets = pd.to_numeric(rows['onset']).to_numpy(dtype=float)
    parts = rows['part'].fillna('n/a') if 'part' in rows else pd.Series('', index=rows.index)
    for piece in pieces:
        own = parts.iloc[list(piece.rows)].to_numpy()
        cuts = [0, *(np.flatnonzero(own[1:] != own[:-1]) + 1)]
        edges = [*(float(onsets[piece.rows[cut]]) for cut in cuts), piece.onset + piece.duration]
        for cut, begin, end in zip(cuts, edges[:-1], edges[1:], strict=True):
            row = rows.iloc[piece.rows[cut]].to_dict()
            row |= {'onset': f'{begin:.9g}', 'duration': f'{end - begin:.9g}'}
            if with_starts or len(cuts) > 1:
                row['film_onset'] = f'{piece.start + begin - piece.onset:.9g}'
            made.append(row)
            index.append(int(rows.index[piece.rows[cut]]))
    return pd.DataFrame(made, index=index, dtype='string')
