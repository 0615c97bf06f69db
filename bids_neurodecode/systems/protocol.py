"""Which split a dataset gets when the settings leave it open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import (
    Split,
    split_as_given,
    split_as_published,
    split_by_group,
    split_in_time,
)

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
NO_SUCH_FILM = 'No film is called {name!r} (split.whole_films). Films: {films}.'
NOT_OF_FILMS = (
    'split.by = "{by}" is for pictures; these are films. Choose "time", "film", "run" or "auto".'
)
NOT_OF_PICTURES = (
    'split.by = "{by}" is for films; these are pictures. Choose "stimulus", "run" or "auto".'
)
PAPER = (
    'split as in arXiv 2507.12009: the last {share} of every film{whole}, without a gap; every '
    'fifth volume before that is for validation and lies between training volumes. For comparison '
    'with that publication only'
)


def choose_split(table: pd.DataFrame, settings: SplitSettings, seed: int) -> tuple[Split, str]:
    """Make the split that the settings ask for, or that the trials allow.

    Parameters
    ----------
    table
        One row a trial (columns ``stimulus``, ``run``, ``session``).
    settings
        ``auto`` takes the parts that the dataset gives (column ``part``), splits by run where
        every run shows the same few stimuli, else by stimulus.
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
    if by in {'film', 'paper'}:
        raise DataError(NOT_OF_PICTURES.format(by=by))
    if by == 'given':
        return split_as_given(table), why
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
        ``auto`` holds out the end of every film; ``film`` whole films; ``paper`` is the published
        split.

    Raises
    ------
    DataError
        If a film of ``whole_films`` is not there, or the split is one of pictures.
    """
    by = 'time' if settings.by == 'auto' else settings.by
    if by == 'stimulus':
        raise DataError(NOT_OF_FILMS.format(by=by))
    if by == 'given':
        return split_as_given(table), 'split as the dataset gives it (column "part")'
    whole = named_films(table, settings.whole_films)
    share = f'{settings.test_fraction:.0%}'
    and_whole = f', and all of {", ".join(whole)}' if whole else ''
    if by == 'paper':
        split = split_as_published(table, test_fraction=settings.test_fraction, whole=whole)
        return split, PAPER.format(share=share, whole=and_whole)
    if by == 'time':
        split = split_in_time(
            table,
            gap=settings.gap,
            test_fraction=settings.test_fraction,
            n_folds=settings.n_folds or 1,
            whole=whole,
        )
        if len(split) > 1:
            return split, f'split in time: {len(split)} blocks a film, {settings.gap:g} s apart'
        why = f'split in time: the last {share} of every film{and_whole}, after {settings.gap:g} s'
        return split, why
    split = split_by_group(
        table,
        by,
        n_folds=settings.n_folds,
        test_fraction=settings.test_fraction,
    )
    return split, f'split by {by}, as the settings ask'


def named_films(table: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Return the films of a table that names mean: with folder and extension, or without.

    Raises
    ------
    DataError
        If a name means no film.
    """
    films = list(dict.fromkeys(table['film'].astype(str)))
    found: list[str] = []
    for name in names:
        same = [film for film in films if name in {film, Path(film).name, Path(film).stem}]
        if not same:
            raise DataError(NO_SUCH_FILM.format(name=name, films=', '.join(sorted(films))))
        found += same
    return tuple(dict.fromkeys(found))


def _resolve(table: pd.DataFrame, settings: SplitSettings) -> tuple[str, str]:
    if settings.by != 'auto':
        return settings.by, f'split by {settings.by}, as the settings ask'
    if 'part' in table.columns and {'train', 'test'} <= set(table['part'].astype(str)):
        return 'given', 'split as the dataset gives it (column "part" of the trials)'
    n_stimuli, n_runs = table['stimulus'].nunique(), table['run'].nunique()
    if n_stimuli < 2 and n_runs < 2:
        raise DataError(NOTHING_TO_HOLD_OUT.format(stimuli=n_stimuli, runs=n_runs))
    sets = table.groupby('run')['stimulus'].agg(frozenset)
    if n_runs > 1 and n_stimuli <= FEW_STIMULI and sets.nunique() == 1:
        return 'run', f'split by run: all {n_runs} runs show the same {n_stimuli} stimuli'
    return 'stimulus', f'split by stimulus: {n_stimuli} stimuli over {n_runs} run(s)'
