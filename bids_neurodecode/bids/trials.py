"""Events to the table of trials: one row per trial, in chronological order over all runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.bids.rows import Rows, parts_of
from bids_neurodecode.bids.timing import TextTable, read_table, read_texts
from bids_neurodecode.errors import DataError
from bids_neurodecode.stimuli import films
from bids_neurodecode.tables import as_numbers, to_numbers

if TYPE_CHECKING:
    from bids_neurodecode.config import SplitSettings

NO_TRIALS = 'No trial in {file} shows a stimulus (stim_file is n/a or missing in every row).'
SEVERAL_DURATIONS = (
    'Trials last from {low:g} to {high:g} s in {file}; single-trial betas need one duration. '
    'Split the task, or give all one duration: events.duration = SECONDS.'
)
BAD_BETAS_TABLE = (
    'The table {file} of precomputed betas lacks {lacks}. It needs one row per volume, with '
    'stim_file and run.'
)
DURATION_TOLERANCE = 0.25
"""Seconds by which durations may differ and still count as one (jitter of the presentation)."""
CLIP_SECONDS = 10.0
"""What a film may last, at most, to be the stimulus of a trial."""
CLIP_PAUSE = 0.5
"""Seconds between such films (median) from which their responses are taken to be trials."""
UNEQUAL_DURATIONS = (
    '. Trials last from {low:g} to {high:g} s: responses to all of them are modelled as to trials '
    'of the median, {median:g} s'
)


def shown_rows(file: Path) -> pd.DataFrame:
    """Return the rows of an events file that show a stimulus, in chronological order.

    Where there is no ``stim_file``, they are those that name a condition (``trial_type``).

    Returns
    -------
    pandas.DataFrame
        ``onset`` and ``duration`` (and ``film_onset``, where there is one) as numbers (s), all
        other columns as text.

    Raises
    ------
    DataError
        If no row shows one.
    InputError
        If the table cannot be read, or an onset or a duration is not a number.
    """
    events = read_texts(file)
    rows, times = _in_order(events, file)
    return events.frame().iloc[rows].assign(**times)


def _in_order(
    events: TextTable, file: Path
) -> tuple[npt.NDArray[np.intp], dict[str, npt.NDArray[np.float64]]]:
    """Return which rows show a stimulus, in chronological order, and their times (s)."""
    names = events.columns.get(shown_column(events.columns), ())
    shown = np.array([row for row, name in enumerate(names) if name is not None], dtype=np.intp)
    if not shown.size:
        raise DataError(NO_TRIALS.format(file=file))
    # rows that show nothing may hold anything: they are not sorted with the others
    wanted = ('onset', 'duration', *({'film_onset'} & set(events.columns)))
    where = [events.rows[row] for row in shown]
    times = {name: as_numbers(_at(events, name, shown), where, name, file) for name in wanted}
    order = np.argsort(times['onset'], kind='stable')
    return shown[order], {name: values[order] for name, values in times.items()}


def shown_column(columns: Collection[str]) -> str:
    """Return the column that says what a row shows: a stimulus, else a condition."""
    return 'stim_file' if 'stim_file' in columns else 'trial_type'


def _at(events: TextTable, column: str, rows: npt.NDArray[np.intp]) -> list[str | None]:
    """Return the values of a column in some rows."""
    values = events.columns[column]
    return [values[row] for row in rows]


def trials_table(runs: Sequence[RunInput]) -> pd.DataFrame:
    """Gather the trials of all runs.

    Parameters
    ----------
    runs
        In chronological order.

    Returns
    -------
    pandas.DataFrame
        Columns ``onset`` and ``duration`` (s), ``stimulus`` (the ``stim_file``, or the
        ``trial_type`` where there is none), ``trial_type``,
        ``run`` (number of the run, from 0), ``run_label``, ``session`` and ``repeat`` (how often
        the stimulus had been shown, from 0); ``part`` and ``protocol`` (of a split that the
        dataset gives) where the events have them.

    Raises
    ------
    DataError
        If a run shows no stimulus.
    """
    # gathered in lists: a table of each run would take longer than all else that is done with it
    parts: list[dict[str, list[Any]]] = []
    for number, run in enumerate(runs):
        events = read_texts(run.events)
        rows, times = _in_order(events, run.events)
        n = len(rows)
        stimulus = _at(events, shown_column(events.columns), rows)
        kinds = _at(events, 'trial_type', rows) if 'trial_type' in events.columns else stimulus
        given = {x: _at(events, x, rows) for x in ('part', 'protocol') if x in events.columns}
        parts.append(
            {
                'onset': times['onset'].tolist(),
                'duration': times['duration'].tolist(),
                'stimulus': stimulus,
                'trial_type': [kind if isinstance(kind, str) else 'n/a' for kind in kinds],
                'run': [number] * n,
                'run_label': [run.label] * n,
                'session': [run.entities.get('ses', '1')] * n,
                **given,
            }
        )
    table = pd.DataFrame(
        {
            name: [x for part in parts for x in part.get(name, [np.nan] * len(part['run']))]
            for name in dict.fromkeys(name for part in parts for name in part)
        }
    )
    table['repeat'] = table.groupby('stimulus').cumcount()
    return table


def precomputed_trials(
    table_file: Path,
    repeats: Literal['single', 'mean'] = 'single',
    split: SplitSettings | None = None,
    *,
    conditions: bool = False,
) -> pd.DataFrame:
    """Read the table of precomputed betas, one row per volume, as :func:`trials_table` makes it.

    ``stim_file`` and ``run`` are needed; sessions, onsets and durations where they are known, and
    ``part``, ``protocol`` (of a split that the dataset gives) and ``scan_run``. A ``split`` may
    name test rows by the table's columns. With ``mean`` there is one row per stimulus, that of its
    first trial, with ``n_repeats``. Of ``conditions``, ``trial_type`` is what was shown.

    Parameters
    ----------
    table_file
        One row per volume of the betas.
    repeats
        ``single`` keeps all rows, ``mean`` one per stimulus.
    split
        Names test rows by columns of the table; None: none.
    conditions
        Whether ``trial_type`` is what was shown.

    Raises
    ------
    DataError
        If a column is missing, or a volume shows nothing.
    """
    given = read_table(table_file)
    if 'stim_file' not in given.columns and 'stimulus' in given.columns:
        given = given.assign(stim_file=given['stimulus'])
    if conditions and 'trial_type' in given.columns:
        given = given.assign(stim_file=given['trial_type'])
    missing = [name for name in ('stim_file', 'run') if name not in given.columns]
    if missing or given['stim_file'].isna().any():
        lacks = ', '.join(missing) or 'a stim_file in every row'
        raise DataError(BAD_BETAS_TABLE.format(file=table_file, lacks=lacks))
    if split is not None and split.test:
        parts = Rows(TextTable.of(given), {}, table_file).parts(parts_of(split))
        given = given.assign(part=pd.Series(parts, index=given.index, dtype='string'))
        given = given.drop(columns='protocol', errors='ignore')
    label = _run_labels(given)
    stimulus = given['stim_file'].astype(str)
    table = pd.DataFrame(
        {
            **{
                name: to_numbers(given, name, table_file) if name in given else np.nan
                for name in ('onset', 'duration')
            },
            'stimulus': stimulus,
            'trial_type': given['trial_type'].fillna('n/a') if 'trial_type' in given else stimulus,
            'run': pd.factorize(label)[0],
            'run_label': label,
            'session': given['session'].fillna('1') if 'session' in given else '1',
        }
    )
    for name in ('part', 'protocol', 'scan_run'):
        if name in given.columns:
            table[name] = given[name].to_numpy()
    table['repeat'] = table.groupby('stimulus').cumcount()
    if repeats == 'mean':
        table['n_repeats'] = table.groupby('stimulus')['stimulus'].transform('size')
        table = table[table['repeat'] == 0].reset_index(drop=True)
    return table


def _run_labels(given: pd.DataFrame) -> pd.Series[str]:
    """Return the entities of each row's run: as the table says, or of its session and run."""
    if 'run_label' in given.columns and given['run_label'].notna().all():
        return given['run_label'].astype(str)
    label = 'run-' + given['run'].fillna('1').astype(str)
    if 'session' in given.columns:
        label = ('ses-' + given['session'].astype(str) + ' ').fillna('') + label
    return label.astype(str)


def with_raw_keys(table: pd.DataFrame) -> pd.DataFrame:
    """Name runs as the raw data do: ``session`` and ``run`` are the labels in file names.

    Parameters
    ----------
    table
        With ``run_label``, the entities of each row's run.

    Returns
    -------
    pandas.DataFrame
        A label is missing where the name has no such entity.

    Examples
    --------
    >>> import pandas as pd
    >>> named = with_raw_keys(pd.DataFrame({'run_label': ['ses-a task-img run-01'], 'run': 0}))
    >>> named[['session', 'run']].iloc[0].tolist()
    ['a', '01']
    """
    parts = table['run_label'].str.split()

    def label(key: str) -> list[str | None]:
        return [next((x[len(key) :] for x in row if x.startswith(key)), None) for row in parts]

    named = table.copy()
    named['session'], named['run'] = label('ses-'), label('run-')
    return named


def with_trials(samples: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Say of held-out samples which rows of the raw events they are.

    Parameters
    ----------
    samples
        One row per sample: ``sample`` is the row of (the first of) its trials.
    trials
        As :func:`trials_table` makes it.

    Returns
    -------
    pandas.DataFrame
        With the trial's ``session``, ``run``, ``run_label``, ``onset`` and ``stim_file``.
    """
    rows = trials.iloc[samples['sample'].to_numpy(dtype=int)]
    own = {name: rows[name].to_numpy() for name in ('run_label', 'onset')}
    known = samples.drop(columns=['session', 'run'], errors='ignore')
    return with_raw_keys(known.assign(**own, stim_file=rows['stimulus'].to_numpy()))


def stimulus_duration(table: pd.DataFrame, file: Path) -> float:
    """Return the one duration (s, median) of all trials.

    Parameters
    ----------
    table
        One row per trial, with ``duration`` (s).
    file
        That it was read from.

    Raises
    ------
    DataError
        If durations differ by more than :data:`DURATION_TOLERANCE`.
    """
    durations = table['duration'].to_numpy(dtype=float)
    if np.ptp(durations) > DURATION_TOLERANCE:
        raise DataError(
            SEVERAL_DURATIONS.format(low=durations.min(), high=durations.max(), file=file)
        )
    return round(float(np.median(durations)), 3)


def are_clips(runs: Sequence[RunInput], folder: Path, *, asked: bool) -> bool:
    """Tell whether films are short ones, each the stimulus of a trial as an image is.

    Parameters
    ----------
    runs
        That show films.
    folder
        Where these lie.
    asked
        Whether a system of images was asked for: then it is enough that they are short. Else
        trials have to last equally long, with pauses between them.

    Raises
    ------
    DataError
        If a run shows no stimulus.
    InputError
        If events or a short film cannot be read, or one is damaged.
    """
    shown = [shown_rows(run.events) for run in runs]
    durations = np.concatenate([rows['duration'].to_numpy(dtype=float) for rows in shown])
    if not durations.max() <= CLIP_SECONDS or any('film_onset' in rows for rows in shown):
        return False
    if not asked:
        pauses = np.concatenate(
            [np.diff(rows['onset']) - rows['duration'].to_numpy()[:-1] for rows in shown]
        )
        apart = len(pauses) > 0 and np.median(pauses) >= CLIP_PAUSE
        if not apart or np.ptp(durations) > DURATION_TOLERANCE:
            return False
    names = {name for rows in shown for name in rows['stim_file'].astype(str)}
    files = [folder / name for name in sorted(names)]
    if not all(file.suffix.lower() in films.SUFFIXES and file.is_file() for file in files):
        return False
    return all(films.check_film_once(file).duration <= CLIP_SECONDS for file in files)


def median_duration(table: pd.DataFrame) -> float:
    """Return the median duration (s) of all trials."""
    return round(float(table['duration'].median()), 3)


def unequal_durations(table: pd.DataFrame) -> str:
    """Say, as the end of a sentence, that trials last for different times; nothing if not."""
    durations = table['duration'].to_numpy(dtype=float)
    if np.ptp(durations) <= DURATION_TOLERANCE:
        return ''
    return UNEQUAL_DURATIONS.format(
        low=durations.min(), high=durations.max(), median=median_duration(table)
    )


def film_table(runs: Sequence[RunInput]) -> pd.DataFrame:
    """Lay the clock of each film over its run: one row per volume of the film.

    Samples lie at multiples of the repetition time of the film, wherever in the film a run starts:
    what shows the same has the same name, in whichever run and participant.

    Parameters
    ----------
    runs
        In chronological order.

    Returns
    -------
    pandas.DataFrame
        Columns ``stimulus`` (film and sample), ``film`` (the ``stim_file``), ``onset`` (seconds
        into the film), ``run``, ``run_label``, ``session``, ``showing`` (number over all runs:
        a film may be shown twice) and ``run_onset`` (seconds into the run, without any
        haemodynamic delay); ``part`` and ``protocol`` where the events have them. Samples after
        the last volume of the run are left out.

    Raises
    ------
    DataError
        If a run shows no film.
    """
    parts: list[pd.DataFrame] = []
    for number, run in enumerate(runs):
        shown = shown_rows(run.events)
        if 'film_onset' not in shown.columns:
            shown = shown.assign(film_onset=0.0)
        tr = run.repetition_time
        for row in shown.to_dict('records'):
            film, start = str(row['stim_file']), float(row['onset'])
            into = float(row['film_onset'])
            first = int(np.ceil(into / tr - 1e-6))
            begin = start + first * tr - into
            # a rounding error of the duration does not cost a volume
            n_samples = int(np.floor((into + row['duration']) / tr + 1e-6)) - first
            left = (run.n_volumes - 1) - begin / tr
            n_samples = max(0, min(n_samples, int(np.floor(left + 1e-6)) + 1))
            samples = first + np.arange(n_samples)
            parts.append(
                pd.DataFrame(
                    {
                        'stimulus': [f'{film}#{i:05d}' for i in samples],
                        'film': film,
                        'onset': (samples * tr).round(6),
                        'run': number,
                        'run_label': run.label,
                        'session': run.entities.get('ses', '1'),
                        'showing': len(parts),
                        'run_onset': (np.arange(n_samples) * tr + begin).round(6),
                        **{x: row[x] for x in ('part', 'protocol') if x in shown.columns},
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
