"""Which split a dataset gets when the settings leave it open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Split, split_by_group, split_in_time

if TYPE_CHECKING:
    import pandas as pd

FEW_STIMULI = 20
"""With at most this many stimuli, all of them in every run, runs are the split."""
SMALL_SET = 500
"""Up to this many stimuli, every one is tested once (five folds)."""
DEFAULT_FOLDS = 5

NOTHING_TO_HOLD_OUT = (
    'The trials show {stimuli} stimulus(i) in {runs} run(s): nothing can be held out. '
    'At least two runs, or two stimuli, are needed.'
)


def choose_split(table: pd.DataFrame, settings: SplitSettings, seed: int) -> tuple[Split, str]:
    """Make the split that the settings ask for, or that the trials allow.

    Parameters
    ----------
    table
        One row a trial (columns ``stimulus``, ``run``, ``session``).
    settings
        ``auto`` splits by run where every run shows the same few stimuli, else by stimulus.
    seed
        Shuffles stimuli.

    Returns
    -------
    Split
        Its folds, checked for leaks.
    str
        Why this one, for the log and the report.
    """
    by, why = _resolve(table, settings)
    if by == 'time':
        return split_in_time(
            table,
            gap=settings.gap,
            test_fraction=settings.test_fraction,
            n_folds=settings.n_folds or 1,
        ), why
    n_folds = settings.n_folds
    n_groups = table[by].nunique()
    if n_folds is None and by == 'stimulus' and n_groups <= SMALL_SET:
        n_folds = min(DEFAULT_FOLDS, n_groups)
    split = split_by_group(
        table,
        cast(Literal['run', 'session', 'film', 'stimulus'], by),
        n_folds=n_folds,
        test_fraction=settings.test_fraction,
        rng=np.random.default_rng(seed),
    )
    return split, why


def choose_film_split(table: pd.DataFrame, settings: SplitSettings) -> tuple[Split, str]:
    """Make the split of films: blocks in time with a gap, unless the settings ask for another.

    Parameters
    ----------
    table
        One row a sample (columns ``film``, ``run``, ``session``, ``onset``).
    settings
        ``auto`` holds out the end of every film; ``film`` whole films.
    """
    by = 'time' if settings.by == 'auto' else settings.by
    share = f'{settings.test_fraction:.0%}'
    if by == 'time':
        split = split_in_time(
            table,
            gap=settings.gap,
            test_fraction=settings.test_fraction,
            n_folds=settings.n_folds or 1,
        )
        if len(split) > 1:
            return split, f'split in time: {len(split)} blocks a film, {settings.gap:g} s apart'
        return split, f'split in time: the last {share} of every film, after {settings.gap:g} s'
    split = split_by_group(
        table,
        by,
        n_folds=settings.n_folds,
        test_fraction=settings.test_fraction,
    )
    return split, f'split by {by}, as the settings ask'


def _resolve(table: pd.DataFrame, settings: SplitSettings) -> tuple[str, str]:
    if settings.by != 'auto':
        return settings.by, f'split by {settings.by}, as the settings ask'
    n_stimuli, n_runs = table['stimulus'].nunique(), table['run'].nunique()
    if n_stimuli < 2 and n_runs < 2:
        raise DataError(NOTHING_TO_HOLD_OUT.format(stimuli=n_stimuli, runs=n_runs))
    sets = table.groupby('run')['stimulus'].agg(frozenset)
    if n_runs > 1 and n_stimuli <= FEW_STIMULI and sets.nunique() == 1:
        return 'run', f'split by run: all {n_runs} runs show the same {n_stimuli} stimuli'
    return 'stimulus', f'split by stimulus: {n_stimuli} stimuli over {n_runs} run(s)'
