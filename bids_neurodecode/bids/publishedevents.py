"""Events as they are published, turned into the one table that the program reads.

That table has ``onset`` and ``duration`` (s), ``stim_file`` (relative to the folder of stimuli,
n/a where nothing is shown), ``trial_type`` where there is one, ``part`` (of a given split) and, of
films, ``film_onset`` (s into the film). Events that are such a table already are used as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from bids_neurodecode.bids.columns import MISSING_WORDS, Columns
from bids_neurodecode.bids.features import features_of_films, has_own_table
from bids_neurodecode.bids.filmrows import film_rows
from bids_neurodecode.bids.layouts import keep_table
from bids_neurodecode.bids.rows import LONG_NAMES, NUMBER, Rows, fields_of, key_of
from bids_neurodecode.bids.stimuli import FILMS, MOVING, SOUNDS, resolve_stimulus
from bids_neurodecode.bids.stimulusfolder import StimulusFolder, has_extension
from bids_neurodecode.bids.timing import (
    NO_COLUMN,
    NO_STIM_FILE,
    TextTable,
    check_timing,
    read_table,
    read_texts,
    shown_names,
    stimulus_name,
    stimulus_names,
)
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.settings.events import EventSettings
from bids_neurodecode.stimuli.tables import is_table, suffix_of
from bids_neurodecode.typing import BoolArray

NOT_CLEAR = (
    '{n} rows of {file} have the {column} {value!r}, and no file below {folder} has that name. '
    'Get the file, or, if such rows show nothing, leave them out: events.exclude = {{{key} = '
    '["{value}"]}}.'
)
NO_SUCH_COLUMN = (
    'The events {file} have no column {column!r}, which is to name what was shown; they have '
    '{columns}. Name another (events.stimulus_column), or leave the run out with --run-label.'
)
NO_DURATIONS = (
    'The events {file} do not say how long images were shown ({why}). Give the seconds, or the '
    'column: events.duration = 2.0.'
)
SHOWS_NOTHING = '{n} row(s) of the events show nothing: {why}.'
LEFT_OUT = '{n} row(s) of the events were left out: {key} is {value!r} (events.exclude).'
FOUND_BELOW = (
    '{n} stimuli were found in other folders below {folder}, or with another extension, than the '
    'events say (first: {name!r} is {found!r}).'
)
IMPULSES = '{n} row(s) of the events last 0 s: their stimuli are taken as impulses, as in BIDS.'
IN_PART = (
    '{film} lasts {whole:g} s, and {n} presentations show no more than its first {shown:g} s. If '
    'runs go on where the one before ended, say so: events.film_onset = "continue".'
)
NOT_READ_BEFORE = (
    'Where in {film} run {run} starts is not known ({file}): runs go on where the one before '
    'ended (events.film_onset = "continue"), and run {before} is not read. Read the runs from '
    'the first on, or say the seconds or their column (events.film_onset).'
)
EXCLUDE = 'events.exclude'
MUCH_LONGER = 1.5
"""A film that lasts so many times what is shown of it may well be shown in parts."""
NOTHING_WORDS = frozenset(
    {'rest', 'resting', 'fixation', 'blank', 'baseline', 'iti', 'isi', 'crosshair'}
)
"""What people call rows that show no stimulus."""


@dataclass(frozen=True)
class Shown:
    """What one run shows."""

    events: Path
    """The table to read: the published file, or the one made of it."""
    published: Path | None
    """The published file; None where there is none."""


@dataclass
class EventsReader:
    """Reads the events of one participant, run by run in order of time.

    Parameters
    ----------
    settings
        How the events say what was shown.
    folder
        Where stimuli lie.
    parts
        Rows of a given split (:func:`bids_neurodecode.bids.rows.parts_of`).
    dataset, made_dir
        The dataset, and where tables are made that it lacks.
    features
        The setting ``features.table``: films that have a table need no file.
    table_rate
        The setting ``features.table_rate``: by it the length of such films is known.
    needs_films
        Whether films have to be there where they are named.
    """

    settings: EventSettings
    folder: StimulusFolder
    dataset: Path
    parts: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    made_dir: Path | None = None
    features: str | None = None
    table_rate: float | None = None
    needs_films: bool = True
    _columns: dict[str, str | None] = field(default_factory=dict)
    _with_extension: dict[str, bool] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list)
    _nothing: Counter[str] = field(default_factory=Counter)
    _excluded: Counter[tuple[str, str]] = field(default_factory=Counter)
    _found: dict[str, str] = field(default_factory=dict)
    _shown_until: dict[str, float] = field(default_factory=dict)
    _from_start: dict[str, list[float]] = field(default_factory=dict)
    _runs: set[tuple[str, str, int]] = field(default_factory=set)
    _impulses: int = 0

    @property
    def needs_no_events(self) -> bool:
        """Whether the entities of a run may say alone which film it shows."""
        return self.settings.stimulus is not None

    def shows(self, file: Path, entities: Mapping[str, str], *, named: bool = False) -> bool:
        """Whether events say what was shown, in any of the ways in which they can.

        A column of names of images or films does, though none of these files be there; not so
        where it has to be ``named``, by ``stim_file`` or the settings. A ``stim_file`` in which
        nothing or sounds alone stand does not.

        Parameters
        ----------
        file
            Events of one run.
        entities
            Of the run.
        named
            Whether ``stim_file`` or the settings have to say it.
        """
        try:
            rows = self._read(file, entities)
            table = rows.table
            if self.settings.stimulus is not None:
                return self._fits(rows)
            if self.settings.stimulus_column is not None:
                return self.settings.stimulus_column in table.columns
            if _names_seen(table) or named:
                return _names_seen(table)
            return bool(Columns({file: table}, self.folder).any_names())
        except InputError:
            # a broken table is its own participant's trouble, found when the run is paired
            return False

    def shows_alone(self, task: str) -> bool:
        """Whether the name of a task that has no events says which film it shows."""
        if self.settings.stimulus is None:
            return False
        try:
            return self._fits(Rows(TextTable({}, [0]), {'task': task}, self.dataset))
        except InputError:
            return False

    def _fits(self, rows: Rows) -> bool:
        """Whether a template can be filled in; if by entities alone, with a file that is there."""
        template, columns = str(self.settings.stimulus), rows.table.columns
        keys = [key_of(name, rows.keys)[0] for name in fields_of(template)]
        if not all(key in columns or LONG_NAMES.get(key, key) in rows.entities for key in keys):
            return False
        if any(key in columns for key in keys):
            return True
        name = replace(rows, table=TextTable({}, [0])).fill_in(template)[0]
        return bool(self.folder.candidates(str(name)))

    def choose(self, runs: Mapping[Path, Mapping[str, str]]) -> None:
        """Decide which column names what was shown, by all events of a participant.

        Parameters
        ----------
        runs
            Events files, and the entities of (one of) their runs.

        Raises
        ------
        InputError
            If no column does, or several could.
        """
        # whether a run needs events at all is told when it is read
        for task in dict.fromkeys(entities.get('task', '') for entities in runs.values()):
            own = {file: e for file, e in runs.items() if e.get('task', '') == task}
            timed = [self._timed(file, entities) for file, entities in own.items()]
            tables = {rows.file: rows.table for rows in timed}
            self._columns[task] = self.settings.stimulus_column
            if self.settings.stimulus is None and self.settings.stimulus_column is None:
                self._columns[task], note = Columns(tables, self.folder).choose()
                self._said += [note] if note else []
            named = {name for rows in timed for name in set(self._names(rows)) if name is not None}
            self._with_extension[task] = 2 * sum(map(has_extension, named)) >= len(named)

    def names(self, file: Path, entities: Mapping[str, str]) -> list[str]:
        """Return the files that the events of one run show, each once.

        Parameters
        ----------
        file
            Events of one run.
        entities
            Of the run.

        Raises
        ------
        InputError
            For events that do not say what was shown.
        """
        self.choose({file: entities})
        rows = self._read(file, entities)
        shown = self._files(self._names(rows), rows)
        return list(dict.fromkeys(shown_names(shown, file)))

    def all_there(self, file: Path, entities: Mapping[str, str]) -> bool:
        """Whether all that events name lies in the folder.

        Parameters
        ----------
        file
            Events of one run.
        entities
            Of the run.
        """
        try:
            names = self.names(file, entities)
        except InputError:
            return False
        return all(self.folder.candidates(name) for name in names)

    def read(
        self,
        file: Path | None,
        entities: Mapping[str, str],
        *,
        length: float,
        repetition_time: float,
    ) -> Shown:
        """Check what a run shows, and make the table that the program reads where it must.

        Parameters
        ----------
        file
            The published events; None for a run without any, whose film its entities name.
        entities
            Of the run.
        length, repetition_time
            Of the run, and of a volume (s).

        Raises
        ------
        InputError
            For events that do not say what was shown, or when.
        """
        if file is None:
            file = self.dataset
            table = TextTable({'onset': ['0'], 'duration': [None]}, [0])
            rows = Rows(table, entities, file)
        else:
            rows = self._timed(file, entities)
            table = rows.table
        columns = {
            'onset': table.columns['onset'],
            'duration': self._durations(rows),
            'stim_file': self._files(self._names(rows), rows),
        }
        shown_names(columns['stim_file'], file)
        if 'trial_type' in table.columns:
            columns['trial_type'] = table.columns['trial_type']
        shown = TextTable({**columns, **self._parts(rows)}, table.rows)
        shown = self._in_films(shown, rows, length, repetition_time)
        lasting = check_timing(shown, file, length=length, slack=repetition_time)
        films, pictures = _kinds(shown)
        self._impulses += int((lasting[pictures[films | pictures]] == 0).sum())
        if file != self.dataset and _same(shown, table):
            return Shown(file, file)
        stem = '_'.join(f'{key}-{value}' for key, value in entities.items())
        made = keep_table(self.made_dir, f'{stem}_events.tsv', shown.frame(), self.dataset)
        return Shown(made, None if file == self.dataset else file)

    def of_betas(self, file: Path) -> Path:
        """Return the table of precomputed betas, its stimuli called as they are found."""
        table = read_table(file)
        files = {
            name: self.folder.find(name, file) or name for name in stimulus_names(table, file)
        }
        if all(name == found for name, found in files.items()):
            return file
        named = table.assign(stim_file=table['stim_file'].map(files, na_action='ignore'))
        return keep_table(self.made_dir, file.name, named, self.dataset)

    def notes(self) -> list[str]:
        """Return what was found and decided in all runs that were read, a line each."""
        lines = [*self._said, *self._shown_in_part()]
        if self._found:
            name, found = next(iter(self._found.items()))
            lines.append(
                FOUND_BELOW.format(
                    n=len(self._found), folder=self.folder.path, name=name, found=found
                )
            )
        lines += [SHOWS_NOTHING.format(n=n, why=why) for why, n in self._nothing.items()]
        for (key, value), n in self._excluded.items():
            lines.append(LEFT_OUT.format(n=n, key=key, value=value))
        if self._impulses:
            lines.append(IMPULSES.format(n=self._impulses))
        return lines

    def _read(self, file: Path, entities: Mapping[str, str]) -> Rows:
        rows, other = Rows(read_texts(file), entities, file), self.settings.lookup
        if other is None:
            return rows
        if not other.is_absolute() and not other.exists():
            other = self.dataset / other
        return rows.look_up(other)

    def _timed(self, file: Path, entities: Mapping[str, str]) -> Rows:
        rows = self._read(file, entities)
        if 'onset' not in rows.table.columns:
            raise InputError(NO_COLUMN.format(file=file, column='onset'))
        return rows

    def _column(self, rows: Rows) -> str | None:
        """Return the column that names what was shown in runs of this task, where one does."""
        return self._columns.get(rows.entities.get('task', ''))

    def _names(self, rows: Rows) -> Sequence[str | None]:
        """Return what each row names, as it is written; None in rows that are left out."""
        if self.settings.stimulus is not None:
            names: Sequence[str | None] = rows.fill_in(self.settings.stimulus)
        elif (column := self._column(rows)) is not None and column in rows.table.columns:
            names = rows.table.columns[column]
        elif column in {None, 'stim_file'}:
            raise InputError(NO_STIM_FILE.format(file=rows.file, also=''))
        else:
            columns = ', '.join(rows.table.columns)
            raise InputError(NO_SUCH_COLUMN.format(file=rows.file, column=column, columns=columns))
        for hits in rows.matching(self.settings.exclude, EXCLUDE).values():
            names = [None if hit else name for name, hit in zip(names, hits, strict=True)]
        return names

    def _leave_out(self, rows: Rows, counted: BoolArray) -> BoolArray:
        """Return which rows are left out; those that are ``counted`` are told, each once."""
        excluded = np.zeros(len(rows.table), dtype=bool)
        for key, hits in rows.matching(self.settings.exclude, EXCLUDE).items():
            told = zip(rows.column(key, EXCLUDE), hits & counted & ~excluded, strict=True)
            self._excluded.update((key, value or 'n/a') for value, out in told if out)
            excluded |= hits
        return excluded

    def _files(self, names: Sequence[str | None], rows: Rows) -> list[str | None]:
        """Return the file that each row shows, relative to the folder; None where nothing."""
        column = self._column(rows) if self.settings.stimulus is None else None
        published = column == 'stim_file'
        excluded = self._leave_out(rows, np.ones(len(rows.table), dtype=bool))
        label = column or 'events.stimulus'
        empty = sum(name is None for name, out in zip(names, excluded, strict=True) if not out)
        if empty and not published:
            why = f'{label} is n/a' if column else 'a value of events.stimulus is n/a'
            self._nothing[why] += empty
        files: dict[str, str | None] = {}
        named = self._with_extension.get(rows.entities.get('task', ''), True)
        for name, n in Counter(name for name in names if name is not None).items():
            files[name] = self._file(name, n, label, rows.file, strict=published, extensions=named)
        return [None if name is None else files[name] for name in names]

    def _file(
        self, name: str, n: int, label: str, file: Path, *, strict: bool, extensions: bool
    ) -> str | None:
        """Return the file of a name; None where the name says that nothing is shown."""
        if strict and (name.startswith('/') or '..' in name):  # may lead out of the folder
            pure = PurePosixPath(name)
            if pure.is_absolute() or '..' in pure.parts:
                resolve_stimulus(name, self.folder.path, file)  # says what is wrong with it
        is_film = suffix_of(name) in FILMS
        if has_own_table(name, self.features) or (is_film and not self.needs_films):
            if is_table(name):
                resolve_stimulus(name, self.folder.path, file)
            elif (known := self.folder.candidates(name)) and len(known) == 1:
                return known[0]
            return stimulus_name(name)  # known by its features, or not needed
        found = self.folder.find(name, file)
        if found is not None:
            if found != name and has_extension(name):
                self._found.setdefault(name, found)
            return found
        if name.lower() in MISSING_WORDS | NOTHING_WORDS:
            self._nothing[f'{label} is {name!r}'] += n
            return None
        if _looks_like_file(name) or _is_file(self.folder.path / PurePosixPath(name)):
            resolve_stimulus(name, self.folder.path, file)
        if not extensions:
            check_fetched(self.folder.path)
            key = label if label.isidentifier() else f'"{label}"'
            raise InputError(
                NOT_CLEAR.format(
                    n=n, file=file, column=label, value=name, folder=self.folder.path, key=key
                )
            )
        self._nothing[f'{label} is {name!r}, which is no file while most values are'] += n
        return None

    def _durations(self, rows: Rows) -> Sequence[str | None]:
        given, n = self.settings.duration, len(rows.table)
        if given is None:
            return rows.table.columns.get('duration', [None] * n)
        if isinstance(given, str) and not NUMBER.match(given):
            return rows.column(given, 'events.duration')
        return [f'{float(given):g}'] * n

    def _table_of(self, film: str, entities: Mapping[str, str]) -> Path | None:
        """Return the table of features of a film, by the setting ``features.table``."""
        found = features_of_films([film], entities, self.folder.path, self.features)
        return found.get(film)

    def _parts(self, rows: Rows) -> dict[str, Sequence[str | None]]:
        """Return the part of each row: as the settings say, else as the events do."""
        if self.parts.get('test'):
            return {'part': rows.parts(self.parts)}
        given = (name for name in ('part', 'protocol') if name in rows.table.columns)
        return {name: rows.table.columns[name] for name in given}

    def _in_films(
        self, shown: TextTable, rows: Rows, length: float, repetition_time: float
    ) -> TextTable:
        """Bring rows that show films to one a presentation; images need a duration."""
        films, pictures = _kinds(shown)
        durations = shown.columns['duration']
        if pictures.any() and all(durations[i] is None for i in np.flatnonzero(pictures).tolist()):
            why = 'duration is n/a' if 'duration' in rows.table.columns else 'no column duration'
            raise InputError(NO_DURATIONS.format(file=rows.file, why=why))
        if not films.any() or pictures.any():
            return shown  # of both: refused where the paradigm is told
        given = self.settings.film_onset
        if given == 'continue':
            first = shown.columns['stim_file'][int(np.flatnonzero(films)[0])]
            self._check_before(str(first), rows)
        if given is None and 'film_onset' in rows.table.columns:
            given = 'film_onset'
        column = None
        if isinstance(given, str) and given != 'continue' and not NUMBER.match(given):
            index = pd.Index(rows.table.rows)
            column = pd.Series([*rows.column(given, 'events.film_onset')], index, dtype='string')
        presentations, notes = film_rows(
            shown.frame(),
            self.folder.path,
            rows.file,
            length=length,
            repetition_time=repetition_time,
            starts=given if column is None else column,
            shown_until=self._shown_until,
            tables=lambda film: self._table_of(film, rows.entities),
            table_rate=self.table_rate,
        )
        self._said += [note for note in notes if note not in self._said]
        if given is None:
            lasting = pd.to_numeric(presentations['duration'], errors='coerce')
            for film, seconds in zip(presentations['stim_file'], lasting, strict=True):
                if pd.notna(film) and pd.notna(seconds):
                    self._from_start.setdefault(str(film), []).append(float(seconds))
        return TextTable.of(presentations)

    def _check_before(self, film: str, rows: Rows) -> None:
        """Check that the run before was read, unless each run shows a film of its own."""
        entities, file = rows.entities, rows.file
        run, known = entities.get('run', ''), [*entities, *LONG_NAMES]
        keys = {key_of(name, known)[0] for name in fields_of(self.settings.stimulus or '')}
        if not run.isdecimal() or 'run' in keys:
            return
        where = (entities.get('task', ''), entities.get('ses', ''))
        self._runs.add((*where, int(run)))
        if int(run) > 1 and (*where, int(run) - 1) not in self._runs:
            raise InputError(
                NOT_READ_BEFORE.format(film=film, run=run, file=file, before=int(run) - 1)
            )

    def _shown_in_part(self) -> Iterator[str]:
        """Say which films several runs show the same beginning of, if they start them anew."""
        from bids_neurodecode.stimuli.films import check_film_once

        for film, seconds in self._from_start.items():
            if len(seconds) > 1:
                whole = check_film_once(self.folder.path / film).duration
                if whole > MUCH_LONGER * max(seconds):
                    yield IN_PART.format(
                        film=film, whole=whole, n=len(seconds), shown=max(seconds)
                    )


def _names_seen(table: TextTable) -> bool:
    """Whether ``stim_file`` names anything that is seen."""
    named = {name for name in table.columns.get('stim_file', ()) if name is not None}
    names = [name for name in named if name.lower() not in MISSING_WORDS]
    return not all(PurePosixPath(name).suffix.lower() in SOUNDS for name in names)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that no file can have
        return False


def _looks_like_file(name: str) -> bool:
    suffix = PurePosixPath(name).suffix[1:]
    return has_extension(name) or '/' in name or (suffix.isalpha() and 2 <= len(suffix) <= 5)


def _kinds(shown: TextTable) -> tuple[BoolArray, BoolArray]:
    """Return which rows show films, and which show images."""
    # a row each time the file is shown: its name is taken apart once
    rows = shown.columns['stim_file']
    moving = {x for x in set(rows) if x and suffix_of(x) in MOVING}
    films = np.array([x in moving for x in rows], dtype=np.bool_)
    return films, np.array([x is not None for x in rows], dtype=np.bool_) & ~films


def _same(shown: TextTable, table: TextTable) -> bool:
    """Whether the published table says what the made one does, wherever something is shown."""
    if len(shown) != len(table) or not set(shown.columns) <= set(table.columns):
        return False
    rows = [name is not None for name in shown.columns['stim_file']]
    if [name is not None for name in table.columns['stim_file']] != rows:
        return False
    return all(
        made is table.columns[name]
        or all(a == b for a, b, row in zip(made, table.columns[name], rows, strict=True) if row)
        for name, made in shown.columns.items()
    )
