"""Conditions without stimulus files: ``trial_type`` as what was shown, one row per trial.

Rows that name rest are no trials. Where the events of a block design list each item of a block,
the items of one block are one trial: responses to items a second or two apart cannot be told
apart, and all of them are of one condition.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.layouts import keep_table
from bids_neurodecode.bids.publishedevents import NOTHING_WORDS, EventsReader, Shown
from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.bids.timing import TOLERANCE, read_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.settings.conditions import ConditionSettings
from bids_neurodecode.tables import to_numbers
from bids_neurodecode.text import did_you_mean

NO_COLUMN = (
    'The events {file} lack the column {column!r}, and name no stimuli. Conditions need "onset" '
    'and "trial_type"; images and films need "stim_file".'
)
NO_SUCH_CONDITION = (
    'No trial_type of sub-{label} is {name!r} (conditions.include).{near} There are: {known}.'
)
FEW_CONDITIONS = (
    'The events of sub-{label} name no stimuli, and {n} condition(s) that are shown in two runs '
    'or more ({names}); at least two are needed (first file: {file}). Say what names the stimuli '
    '(events.stimulus_column) and where they lie (--stimuli-dir), or which trial_types are '
    'conditions (conditions.include).'
)
ONE_RUN = (
    'The conditions of sub-{label} are in one run ({file}): nothing can be held out, as trials of '
    'one run share its noise. At least two runs are needed.'
)
OVERLAP = (
    'Rows {first} ({a}) and {second} ({b}) of {file} overlap: one lasts until {end:g} s, the '
    'other starts at {onset:g} s. Correct them, or leave one kind out with events.exclude or '
    'conditions.include.'
)
LEFT_OUT = '{n} row(s) of sub-{label} lie outside of their run and were left out (first: {file}).'
NOT_CONDITIONS = 'sub-{label}: rows of these trial_types are taken for rest: {names}.'
ONLY_ONCE = (
    'sub-{label}: these trial_types are in one run only and were left out, as nothing could be '
    'held out of them: {names}.'
)
WITHOUT = 'sub-{label}: {n} run(s) show no condition and were left out: {runs}.'
MERGED = (
    'sub-{label}: rows of one condition that follow each other within {gap:g} s are one block: '
    '{rows} rows are {trials} trials (conditions.blocks).'
)
FOUND = (
    'sub-{label}: no images or films are named; {n} conditions by trial_type, with their '
    'trials: {names}.'
)
OTHER_BETAS = (
    'The precomputed betas of {file} are of {names} too, which are no conditions here (taken for '
    'rest, in one run only, or left out by conditions.include or events.exclude). Leave their '
    'volumes out of the betas, or make them conditions.'
)
ALIKE = (
    'sub-{label}: {names} differ in case alone, and are taken for different conditions. If they '
    'are one, correct the events.'
)
RESTING = NOTHING_WORDS | {
    'restingstate', 'fix', 'fixationcross', 'null', 'intertrial', 'interstimulus', 'interblock',
    'none', 'nothing', 'na', 'pause', 'break', 'jitter', 'inter',
}  # fmt: skip
"""Words for what is no condition, where no other words stand beside them but these:"""
FILLERS = frozenset(
    {'state', 'cross', 'screen', 'trial', 'trials', 'event', 'events', 'block', 'period',
     'interval', 'stimulus', 'dot', 'point', 'the', 'a', 'n'}
)  # fmt: skip
LEAST_ROWS = 3
"""Rows of one condition in a row from which a sequence looks like a block."""


@dataclass
class ConditionReader(EventsReader):
    """Reads the events of one participant as conditions, run by run in order of time.

    Parameters
    ----------
    conditions
        Which trial types are conditions, and what a trial is.
    """

    conditions: ConditionSettings = field(default_factory=ConditionSettings)
    _tables: list[pd.DataFrame] = field(default_factory=list)
    _types: dict[str, None] = field(default_factory=dict)
    _outside: list[Path] = field(default_factory=list)
    _kept: tuple[str, ...] = ()

    @property
    def needs_no_events(self) -> bool:
        """Conditions are in the events alone."""
        return False

    def choose(self, runs: Mapping[Path, Mapping[str, str]]) -> None:
        """Choose nothing: ``trial_type`` says what was shown."""

    def read(
        self,
        file: Path | None,
        entities: Mapping[str, str],
        *,
        length: float,
        repetition_time: float,
    ) -> Shown:
        """Read the rows of a run that name a condition; those outside of the run are left out.

        Parameters
        ----------
        file, entities, length, repetition_time
            As in :meth:`~bids_neurodecode.bids.publishedevents.EventsReader.read`.

        Returns
        -------
        Shown
            The published file: what is a trial is known once all runs were read.

        Raises
        ------
        InputError
            If a column is missing, or times are no numbers.
        """
        file = self.dataset if file is None else file
        rows = self._read(file, entities)
        table = rows.table.frame()
        for column in ('onset', 'trial_type'):
            if column not in table.columns:
                raise InputError(NO_COLUMN.format(file=file, column=column))
        self._types |= dict.fromkeys(table['trial_type'].dropna().astype(str))
        wanted = table['trial_type'].isin(names_of(table, self.conditions)).to_numpy(dtype=bool)
        wanted = wanted & ~self._leave_out(rows, wanted)
        shown = pd.DataFrame(
            {
                'onset': table['onset'],
                'duration': self._durations(rows),
                'trial_type': table['trial_type'],
                **self._parts(rows),
            },
            index=table.index,
            dtype='string',
        )
        shown = shown[wanted]
        onset = to_numbers(shown, 'onset', file)
        # what lasts n/a or 0 s is an impulse
        duration = np.nan_to_num(to_numbers(shown, 'duration', file))
        timed = shown.assign(onset=onset, duration=duration)
        inside = (onset >= 0) & (onset < length) & (onset + duration <= length + repetition_time)
        self._outside += [file] * int((~inside).sum())
        self._tables.append(timed[inside].sort_values('onset', kind='stable'))
        return Shown(file, file)

    def of_betas(self, file: Path) -> Path:
        """Return the table of precomputed betas as it is: ``trial_type`` says what was shown.

        Raises
        ------
        InputError
            If it is of something that is no condition.
        """
        table = read_table(file)
        named = next((x for x in ('trial_type', 'stim_file') if x in table.columns), None)
        shown = set() if named is None else set(table[named].dropna().astype(str))
        if shown - set(self._kept):
            names = ', '.join(sorted(shown - set(self._kept)))
            raise InputError(OTHER_BETAS.format(file=file, names=names))
        return file

    def finish(self, runs: Sequence[RunInput]) -> tuple[tuple[RunInput, ...], tuple[str, ...]]:
        """Turn the events of all runs into one row per trial, in the work folder.

        Parameters
        ----------
        runs
            Those that were read, in that order.

        Returns
        -------
        runs : tuple of RunInput
            Those with trials; the first one has the notes on all.
        names : tuple of str
            The conditions, sorted.

        Raises
        ------
        InputError
            If trials overlap, or there are fewer than two conditions or runs.
        """
        label = runs[0].entities['sub']
        notes = self._notes(label)
        tables, note = self._trials(label)
        notes += [note] if note else []
        shown = [set(table['trial_type'].astype(str)) for table in tables]
        counts = Counter(name for run in shown for name in run)
        names = tuple(sorted(name for name, n in counts.items() if n > 1))
        if sum(map(bool, shown)) == 1:
            raise InputError(ONE_RUN.format(label=label, file=runs[0].events))
        if len(names) < 2:
            listed = ', '.join(names) or 'none'
            raise InputError(
                FEW_CONDITIONS.format(label=label, n=len(names), names=listed, file=runs[0].events)
            )
        self._kept = names
        folded = Counter(x.casefold() for x in names)
        alike = sorted(x for x in names if folded[x.casefold()] > 1)
        if alike:
            notes.append(ALIKE.format(label=label, names=', '.join(alike)))
        once = sorted(set(counts) - set(names))
        if once:
            notes.append(ONLY_ONCE.format(label=label, names=', '.join(once)))
        made, lacking = [], []
        for run, table in zip(runs, tables, strict=True):
            kept = table[table['trial_type'].isin(names)]
            _check_apart(kept, run.events)
            if len(kept):
                made.append(self._with_table(run, kept))
            else:
                lacking.append(run.label)
        if lacking:
            notes.append(WITHOUT.format(label=label, n=len(lacking), runs=', '.join(lacking)))
        total = Counter(name for table in tables for name in table['trial_type'].astype(str))
        listed = ', '.join(f'{name} ({total[name]})' for name in names)
        notes.append(FOUND.format(label=label, n=len(names), names=listed))
        made[0] = replace(made[0], notes=(*made[0].notes, *notes))
        return tuple(made), names

    def _notes(self, label: str) -> list[str]:
        """Say which rows were left out; check that what is asked for is there."""
        settings = self.conditions
        notes = []
        for pattern in settings.include:
            if not any(fnmatchcase(name, pattern) for name in self._types):
                told = {'near': did_you_mean(pattern, self._types), 'name': pattern}
                known = ', '.join(sorted(self._types)) or 'none'
                raise InputError(NO_SUCH_CONDITION.format(label=label, known=known, **told))
        if self._outside:
            n = len(self._outside)
            notes.append(LEFT_OUT.format(n=n, label=label, file=self._outside[0]))
        rest = sorted(name for name in self._types if is_rest(name))
        if rest and not settings.include:
            notes.append(NOT_CONDITIONS.format(label=label, names=', '.join(rest)))
        return notes

    def _trials(self, label: str) -> tuple[list[pd.DataFrame], str]:
        """Return one row per trial of each run, and what was made one trial."""
        gap, how, tables = self.conditions.block_gap, self.conditions.blocks, self._tables
        if how == 'rows' or (how == 'auto' and not _lists_items(tables, gap)):
            return tables, ''
        trials = [_merged(table, gap) for table in tables]
        n_rows, n_trials = (sum(map(len, x)) for x in (tables, trials))
        note = MERGED.format(label=label, gap=gap, rows=n_rows, trials=n_trials)
        return trials, note if n_trials < n_rows else ''

    def _with_table(self, run: RunInput, table: pd.DataFrame) -> RunInput:
        """Return the run with its trials as events: the published file where it is just that."""
        published = read_table(run.events)
        names = ('onset', 'duration', 'trial_type')
        if 'stim_file' not in published.columns and set(names) <= set(published.columns):
            same = list(published.index) == list(table.index) and set(table) <= set(published)
            if same and all(
                np.array_equal(to_numbers(published, x, run.events), table[x].to_numpy())
                for x in ('onset', 'duration')
            ):
                return run
        name = f'{run.stem}_events.tsv'
        return replace(run, events=keep_table(self.made_dir, name, table, self.dataset))


def reader_of(
    reader: EventsReader,
    runs: Mapping[Path, Mapping[str, str]],
    settings: ConditionSettings,
    system: str,
) -> EventsReader:
    """Return what reads a participant's events: as conditions where they name no stimuli.

    Parameters
    ----------
    reader
        Of stimuli.
    runs
        Events files, and the entities of (one of) their runs.
    settings
        Which trial types are conditions.
    system
        The one that is asked for: ``conditions`` has them read so whatever they name, and no
        other but ``auto`` has.
    """
    if system != 'conditions':
        if system != 'auto' or any(reader.shows(file, of) for file, of in runs.items()):
            return reader
        if not any(shows_conditions(file, settings) for file in runs):
            return reader
    return ConditionReader(
        settings=reader.settings,
        folder=reader.folder,
        dataset=reader.dataset,
        parts=reader.parts,
        made_dir=reader.made_dir,
        conditions=settings,
    )


def is_rest(name: str) -> bool:
    """Whether a ``trial_type`` names rest and nothing else.

    Examples
    --------
    >>> [is_rest(x) for x in ('rest', 'Fixation_cross', 'null-event 2', 'n/a', 'interTrial')]
    [True, True, True, True, True]
    >>> [is_rest(x) for x in ('face', 'restaurant', 'rest_face', 'cross', 'state', '1')]
    [False, False, False, False, False, False]
    """
    apart = re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', name).lower()
    words = re.findall(r'[^\W\d_]+', apart.replace('n/a', 'na'))
    return bool(words) and RESTING.intersection(words) != set() and set(words) <= RESTING | FILLERS


def shows_conditions(file: Path, settings: ConditionSettings) -> bool:
    """Whether events name conditions; a table that cannot be read names none.

    Parameters
    ----------
    file
        The events.
    settings
        Which trial types are conditions.
    """
    try:
        table = read_table(file)
    except InputError:
        # its own participant's trouble, found when the run is paired
        return False
    if 'onset' not in table.columns or 'trial_type' not in table.columns:
        return False
    return bool(settings.include or names_of(table, settings))


def names_of(table: pd.DataFrame, settings: ConditionSettings) -> list[str]:
    """Return the trial types of a table that are conditions, in order of first appearance.

    Parameters
    ----------
    table
        Events, with ``trial_type``.
    settings
        Patterns of conditions that are included; without any, what is no rest.
    """
    if 'trial_type' not in table.columns:
        return []
    names = table['trial_type'].dropna().astype(str).unique().tolist()
    if settings.include:
        return [x for x in names if any(fnmatchcase(x, p) for p in settings.include)]
    return [name for name in names if not is_rest(name)]


def _sequences(table: pd.DataFrame, gap: float) -> npt.NDArray[np.intp]:
    """Return the number of the sequence of one condition that each row belongs to."""
    if not len(table):
        return np.empty(0, dtype=np.intp)
    onset = table['onset'].to_numpy(dtype=float)
    end = onset + table['duration'].to_numpy(dtype=float)
    name = table['trial_type'].to_numpy()
    new = (name[1:] != name[:-1]) | (onset[1:] - end[:-1] > gap)
    return np.concatenate([[0], np.cumsum(new)]).astype(np.intp)


def _lists_items(tables: Sequence[pd.DataFrame], gap: float) -> bool:
    """Whether rows are items of blocks: half of the sequences have three or more.

    In a random order of two conditions a quarter of the sequences are as long.
    """
    lengths = [np.bincount(_sequences(table, gap)) for table in tables if len(table)]
    return bool(lengths) and float(np.median(np.concatenate(lengths))) >= LEAST_ROWS


def _merged(table: pd.DataFrame, gap: float) -> pd.DataFrame:
    """Make each sequence of one condition one row, from its beginning to its end."""
    if not len(table):
        return table
    rows = []
    for _, block in table.groupby(_sequences(table, gap), sort=True):
        onset = block['onset'].to_numpy(dtype=float)
        lasts = float(block['duration'].iloc[-1])
        if lasts == 0 and len(onset) > 1:
            lasts = float(np.median(np.diff(onset)))
        rows.append(block.iloc[[0]].assign(duration=onset[-1] + lasts - onset[0]))

    return pd.concat(rows)


def _check_apart(table: pd.DataFrame, file: Path) -> None:
    """Check that no trial begins before the one before it has ended."""
    onset, lasts = (table[x].to_numpy(dtype=float) for x in ('onset', 'duration'))
    names, rows = table['trial_type'].tolist(), (table.index.to_numpy() + 2).tolist()
    for a, b in itertools.pairwise(range(len(table))):
        end = onset[a] + lasts[a]
        if end > onset[b] + TOLERANCE or onset[a] == onset[b]:
            raise InputError(
                OVERLAP.format(
                    first=rows[a],
                    a=names[a],
                    second=rows[b],
                    b=names[b],
                    file=file,
                    end=end,
                    onset=onset[b],
                )
            )
