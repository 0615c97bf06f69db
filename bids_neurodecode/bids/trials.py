"""Events to the table of trials: one row a trial, in chronological order over all runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

NO_TRIALS = 'No trial in {file} shows a stimulus (stim_file is n/a or missing in every row).'
SEVERAL_DURATIONS = (
    'Trials last from {low:g} to {high:g} s in {file}; single-trial betas need one duration. '
    'Split the task, or give the events one duration.'
)
BAD_BETAS_TABLE = (
    'The table {file} of precomputed betas lacks {lacks}. It needs one row a volume, with '
    'stim_file and run.'
)
DURATION_TOLERANCE = 0.25
"""Seconds by which durations may differ and still count as one (jitter of the presentation)."""


def read_events(path: Path) -> pd.DataFrame:
    """Read an events file; ``n/a`` becomes missing, stimulus names stay text."""
    import pandas as pd

    return pd.read_csv(
        path,
        sep='\t',
        na_values=['n/a'],
        keep_default_na=False,
        dtype={'stim_file': 'string', 'trial_type': 'string'},
    )


def trials_table(runs: Sequence[RunInput]) -> pd.DataFrame:
    """Gather the trials of all runs.

    Parameters
    ----------
    runs
        In chronological order.

    Returns
    -------
    pandas.DataFrame
        Columns ``onset`` and ``duration`` (s), ``stimulus`` (the ``stim_file``), ``trial_type``,
        ``run`` (number of the run, from 0), ``run_label``, ``session`` and ``repeat`` (how often
        the stimulus had been shown, from 0); ``part`` and ``protocol`` (of a split that the
        dataset gives) where the events have them.

    Raises
    ------
    DataError
        If a run shows no stimulus.
    """
    import pandas as pd

    parts = []
    for number, run in enumerate(runs):
        events = read_events(run.events)
        shown = events[events['stim_file'].notna()].sort_values('onset', kind='stable')
        if shown.empty:
            raise DataError(NO_TRIALS.format(file=run.events))
        stimulus = shown['stim_file'].astype(str).to_numpy()
        given = {x: shown[x].to_numpy() for x in ('part', 'protocol') if x in shown.columns}
        kind = shown['trial_type'] if 'trial_type' in shown.columns else shown['stim_file']
        parts.append(
            pd.DataFrame(
                {
                    'onset': shown['onset'].to_numpy(dtype=float),
                    'duration': shown['duration'].to_numpy(dtype=float),
                    'stimulus': stimulus,
                    'trial_type': kind.fillna('n/a').astype(str).to_numpy(),
                    'run': number,
                    'run_label': run.label,
                    'session': run.entities.get('ses', '1'),
                    **given,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    table['repeat'] = table.groupby('stimulus').cumcount()
    return table


def precomputed_trials(
    table_file: Path, repeats: Literal['single', 'mean'] = 'single'
) -> pd.DataFrame:
    """Read the table of precomputed betas, one row a volume, as :func:`trials_table` makes it.

    ``stim_file`` and ``run`` are needed; sessions, onsets and durations where they are known, and
    ``part``, ``protocol`` (of a split that the dataset gives) and ``scan_run``. With ``mean``
    there is one row a stimulus, that of its first trial, with ``n_repeats``.

    Raises
    ------
    DataError
        If a column is missing, or a volume shows nothing.
    """
    import pandas as pd

    given = read_events(table_file)
    if 'stim_file' not in given.columns and 'stimulus' in given.columns:
        given = given.assign(stim_file=given['stimulus'])
    missing = [name for name in ('stim_file', 'run') if name not in given.columns]
    if missing or given['stim_file'].isna().any():
        lacks = ', '.join(missing) or 'a stim_file in every row'
        raise DataError(BAD_BETAS_TABLE.format(file=table_file, lacks=lacks))
    session = given['session'].astype(str) if 'session' in given.columns else '1'
    label = given['run'].astype(str)
    key = label if isinstance(session, str) else session + ' ' + label
    stimulus = given['stim_file'].astype(str)
    table = pd.DataFrame(
        {
            'onset': given['onset'].to_numpy(dtype=float) if 'onset' in given else np.nan,
            'duration': given['duration'].to_numpy(dtype=float) if 'duration' in given else np.nan,
            'stimulus': stimulus,
            'trial_type': given['trial_type'].fillna('n/a') if 'trial_type' in given else stimulus,
            'run': pd.factorize(key)[0],
            'run_label': 'run-' + label,
            'session': session,
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


def stimulus_duration(table: pd.DataFrame, file: Path) -> float:
    """Return the one duration (s, median) of all trials.

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


def film_table(runs: Sequence[RunInput]) -> pd.DataFrame:
    """Lay the clock of each film over its run: one row a volume of the film.

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
        haemodynamic delay). Samples after the last volume of the run are left out.

    Raises
    ------
    DataError
        If a run shows no film.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for number, run in enumerate(runs):
        events = read_events(run.events)
        shown = events[events['stim_file'].notna()].sort_values('onset', kind='stable')
        if shown.empty:
            raise DataError(NO_TRIALS.format(file=run.events))
        times = shown[['onset', 'duration']].to_numpy(dtype=float)
        for (start, duration), film in zip(times, shown['stim_file'].astype(str), strict=True):
            # a rounding error of the duration does not cost a volume
            n_samples = int(np.floor(duration / run.repetition_time + 1e-6))
            left = (run.n_volumes - 1) - start / run.repetition_time
            n_samples = max(0, min(n_samples, int(np.floor(left + 1e-6)) + 1))
            onset = np.arange(n_samples) * run.repetition_time
            parts.append(
                pd.DataFrame(
                    {
                        'stimulus': [f'{film}#{i:05d}' for i in range(n_samples)],
                        'film': film,
                        'onset': onset.round(6),
                        'run': number,
                        'run_label': run.label,
                        'session': run.entities.get('ses', '1'),
                        'showing': len(parts),
                        'run_onset': (onset + start).round(6),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
