"""Scores over participants: their means, tests and comparisons; participants are the units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation.metrics import bounds_of, difference_bounds_of
from bids_neurodecode.evaluation.paired import paired_difference
from bids_neurodecode.evaluation.statistics import bootstrap_ci
from bids_neurodecode.report import scores
from bids_neurodecode.report.build import Verdict
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.verdicts import FINAL, score_verdict

KEYS = ('system', 'model', 'protocol', 'split', 'space', 'metric')
"""Columns that make two rows of the metrics tables of two participants the same score."""


class MeanScore(NamedTuple):
    """A score over participants."""

    mean: float
    low: float
    high: float
    chance: float
    n: int
    n_significant: int
    """Participants whose score is better than chance by p and interval."""
    n_tested: int


def gather_metrics(readers: Sequence[Reader]) -> pd.DataFrame:
    """Put the metrics tables below each other, with a column ``participant``."""
    tables = [
        reader.metrics.assign(participant=reader.results.participant)
        for reader in readers
        if reader.metrics is not None
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def same_score(metrics: pd.DataFrame, row: pd.Series[Any]) -> pd.DataFrame:
    """Return the rows of all participants that hold the same score as ``row``.

    Parameters
    ----------
    metrics
        The metrics tables of all participants.
    row
        One of its rows.
    """
    return metrics[scores.rows_with(metrics, **{key: row[key] for key in keys_of(metrics)})]


def keys_of(metrics: pd.DataFrame) -> list[str]:
    """Return those of :data:`KEYS` that a metrics table has."""
    return [key for key in KEYS if key in metrics.columns]


def mean_score(rows: pd.DataFrame) -> MeanScore:
    """Average one score over participants.

    The interval is NaN with fewer than
    :data:`~bids_neurodecode.evaluation.statistics.MIN_GROUPS` participants.

    Parameters
    ----------
    rows
        One row per participant: ``metric``, ``value``, ``chance``, ``p``.
    """
    tested = rows['p'].dropna()
    n_significant = sum(score_verdict(row).tone == 'good' for _, row in rows.iterrows())
    chance = float(rows['chance'].mean())
    n = int(rows['value'].count())
    return MeanScore(*_mean_of(rows), chance, n, n_significant, len(tested))


def _mean_of(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Return the mean of one score over participants, and its interval."""
    values = rows['value'].dropna().to_numpy(dtype=float)
    if not values.size:
        return math.nan, math.nan, math.nan
    bounds = bounds_of(str(rows['metric'].iloc[0]))
    # the same page from the same scores
    interval = bootstrap_ci(values, rng=np.random.default_rng(0), bounds=bounds)
    return float(values.mean()), *interval


def averaged(rows: pd.DataFrame) -> dict[str, Any]:
    """Return one score over participants as a row of the metrics table, its units participants.

    Nothing of a single participant's interval, test or difference is left in it.

    Parameters
    ----------
    rows
        One row per participant of one score, with the columns of the metrics table.
    """
    known = rows[rows['value'].notna()]
    (mean, low, high), n = _mean_of(known), len(known)
    row = {str(name): value for name, value in known.iloc[0].items()}
    return (
        row
        | {name: math.nan for name in row if name.startswith('difference')}
        | {
            'value': mean,
            'ci_low': low,
            'ci_high': high,
            'chance': float(known['chance'].mean()),
            'ceiling': float(known['ceiling'].mean()),
            'p': against_chance(known),
            'n': n,
            'n_units': n,
            'units': 'participants',
            'test': 'flips',
        }
    )


def against_chance(rows: pd.DataFrame) -> float:
    """Return the p value of a score over participants: signs of differences from chance flipped.

    Parameters
    ----------
    rows
        One row per participant: ``value`` and ``chance``. NaN with too few of them.
    """
    known = rows[rows['chance'].notna() & rows['value'].notna()]
    if known.empty:
        return math.nan
    rng = np.random.default_rng(0)
    return paired_difference(known['value'], known['chance'], rng=rng).p


def group_verdict(rows: pd.DataFrame) -> Verdict:
    """Say whether a score is better than chance over participants.

    Participants are the units, of the interval and of the test (signs of their differences from
    chance are flipped); with fewer than six nothing is claimed.

    Parameters
    ----------
    rows
        One row per participant of one score, with the columns of the metrics table.
    """
    row = rows.iloc[0].copy()
    for name, value in averaged(rows).items():
        row[name] = value
    told = score_verdict(row)
    return replace(told, text=f'Mean over participants. {told.text}')


def guides_of(readers: Sequence[Reader]) -> tuple[str, ...]:
    """Return the networks that had a part in the images of any participant."""
    return tuple(dict.fromkeys(name for reader in readers for name in reader.guides))


def verdicts_of_group_images(metrics: pd.DataFrame, guides: Sequence[str] = ()) -> list[Verdict]:
    """Say what the final images score over participants, if there are any.

    Parameters
    ----------
    metrics
        The metrics tables of all participants.
    guides
        Networks that had a part in the images.
    """
    each = scores.of_final_images(metrics, guides)
    found = [
        group_verdict(same_score(each, row))
        for _, row in each.drop_duplicates(keys_of(each)).iterrows()
    ]
    return [replace(verdict, text=FINAL.format(text=verdict.text)) for verdict in found]


def compare_over_participants(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare the model with each baseline over participants.

    Parameters
    ----------
    metrics
        The metrics tables of all participants, with their column ``participant``.

    Returns
    -------
    pandas.DataFrame
        One row per comparison, with the columns of the metrics table: all of a row is over the
        participants that have both scores; the units are participants, so that below six there
        is a mean and a difference, and no interval or p value. The rows of the models that are
        compared follow without a difference.
    """
    rng = np.random.default_rng(0)
    left = metrics[metrics['difference'].notna() & ~scores.of_parts(metrics)]
    rows: list[Any] = []
    for _, own in left.groupby(keys_of(left), sort=False, dropna=False):
        first = own.iloc[0]
        other = first.copy()
        other['model'], other['space'] = first['compared_model'], first['compared_space']
        model = same_score(metrics, other)
        kept = ['participant', 'value']
        pairs = own[kept].merge(model[kept], on='participant', suffixes=('', '_model'))
        pairs = pairs.dropna(subset=['value', 'value_model'])
        if pairs.empty:
            continue
        bounds = difference_bounds_of(str(first['metric']))
        found = paired_difference(pairs['value_model'], pairs['value'], rng=rng, bounds=bounds)
        both = set(pairs['participant'])
        rows.append(
            averaged(own[own['participant'].isin(both)])
            | {
                'difference': found.mean,
                'difference_low': found.low,
                'difference_high': found.high,
                'difference_p': found.p,
            }
        )
        rows.append(averaged(model[model['participant'].isin(both)]))
    table = pd.DataFrame(rows, columns=list(metrics.columns))
    return table.drop_duplicates([*keys_of(metrics), 'difference'], ignore_index=True)


def mean_metrics(metrics: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Average each score over participants, as one metrics table whose units are participants.

    Parameters
    ----------
    metrics
        The metrics tables of all participants, with their column ``participant``.
    compared
        From :func:`compare_over_participants`.
    """
    rows = []
    keys = keys_of(metrics)
    differences = [name for name in metrics.columns if name.startswith('difference')]
    tested = compared[compared['difference'].notna()]
    for _, same in metrics.groupby(keys, sort=False, dropna=False):
        known = same[same['value'].notna()]
        if known.empty:
            continue
        row = averaged(known)
        pair = same_score(tested, known.iloc[0])
        for name in differences if len(pair) else ():
            row[name] = pair[name].iloc[0]
        rows.append(row)
    return pd.DataFrame(rows, columns=list(metrics.columns))
