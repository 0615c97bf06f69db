"""The scores of a study: which are shown, their means, and their differences pair by pair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation.metrics import sample_column
from bids_neurodecode.evaluation.paired import PairedDifference, paired_difference
from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.report.results import ParticipantResults
from bids_neurodecode.report.scores import is_baseline
from bids_neurodecode.settings.study import StudySettings

Unit = Literal['participants', 'stimuli', 'seeds']

FINAL = 'final'
"""Space of the images that two stages made."""


@dataclass(frozen=True)
class Summary:
    """One metric of one variant, over participants and seeds.

    Parameters
    ----------
    label, metric
        Of the variant (seeds aside), and of the score.
    mean
        Over participants of the means over their seeds.
    spread, spread_over
        Standard deviation, and over what: participants, or seeds where there is one participant;
        NaN where there is one of both.
    seed_spread
        Standard deviation over the seeds of one participant (root mean square over
        participants); NaN with one seed.
    n_participants, n_seeds
        How many have the score.
    chance, ceiling
        Means over participants and seeds; NaN where unknown.
    difference, unit
        From the reference, and what the pairs are of; None for the reference itself.
    """

    label: str
    metric: str
    mean: float
    spread: float
    spread_over: str
    seed_spread: float
    n_participants: int
    n_seeds: int
    chance: float
    ceiling: float
    difference: PairedDifference | None = None
    unit: Unit | None = None


def shown_rows(table: pd.DataFrame, settings: StudySettings) -> pd.DataFrame:
    """Return one row per metric, participant and variant: the main model's, or the asked one's.

    Where images are made, a metric is that of the final ones, not of the linear decoder or of
    the first stage, which have rows of the same metrics before them.

    Parameters
    ----------
    table
        All scores: the columns of the metrics table and ``participant``, ``variant``, ``label``,
        ``seed``.
    """
    rows = table[table['metric'].isin(settings.metrics) & table['value'].notna()]
    if settings.model is not None:
        rows = rows[rows['model'] == settings.model]
    else:
        rows = rows[~rows['model'].map(is_baseline).astype(bool)]
    if settings.space is not None:
        rows = rows[rows['space'] == settings.space]
    rows = rows.sort_values('space', key=lambda space: space != FINAL, kind='stable')
    rows = rows.drop_duplicates(['metric', 'participant', 'variant'])
    return rows.sort_index().reset_index(drop=True)


def summaries(
    rows: pd.DataFrame,
    samples: pd.DataFrame,
    settings: StudySettings,
    labels: Sequence[str],
    rng: np.random.Generator,
) -> Iterator[Summary]:
    """Summarise each metric of each variant that has scores, in the order of the study.

    Parameters
    ----------
    rows
        See :func:`shown_rows`.
    samples
        What single samples score: ``label``, ``metric``, ``participant``, ``seed``, ``stimulus``,
        ``value``; may be empty.
    settings, labels
        The study, and the labels of its variants.
    rng
        Source of randomness for the intervals of differences.
    """
    for metric in settings.metrics:
        of_metric = rows[rows['metric'] == metric]
        for label in labels:
            own = of_metric[of_metric['label'] == label]
            if own.empty:
                continue
            by_person = own.groupby('participant')['value'].mean()
            values = by_person if len(by_person) > 1 else own['value']
            difference, unit = None, None
            if settings.reference not in {None, label}:
                chosen = samples[samples['metric'] == metric]
                difference, unit = difference_of(of_metric, chosen, label, settings, rng)
            yield Summary(
                label,
                metric,
                float(by_person.mean()),
                float(values.std(ddof=1)) if len(values) > 1 else math.nan,
                'participants' if len(by_person) > 1 else 'seeds',
                math.sqrt(own.groupby('participant')['value'].var(ddof=1).mean()),
                len(by_person),
                int(own['seed'].nunique()),
                float(own['chance'].mean()),
                float(own['ceiling'].mean()),
                difference,
                unit,
            )


def difference_of(
    rows: pd.DataFrame,
    samples: pd.DataFrame,
    label: str,
    settings: StudySettings,
    rng: np.random.Generator,
) -> tuple[PairedDifference | None, Unit | None]:
    """Compare a variant with the reference, pairs being of the same participant and seed.

    What is drawn anew are participants where there are enough; else images, where each has a
    score of its own; else the seeds of one participant.

    Parameters
    ----------
    rows
        Scores: ``label``, ``participant``, ``seed``, ``value``.
    samples
        Scores of single samples: also ``stimulus``.
    label
        Of the variant.
    settings
        Of the study: the reference variant.
    rng
        Of the bootstrap and the exchanges.
    """
    pairs = _paired(rows, label, str(settings.reference), ['participant', 'seed'])
    if pairs.empty:
        return None, None
    n_people = pairs['participant'].nunique()
    stimuli = _paired(samples, label, str(settings.reference), ['participant', 'seed', 'stimulus'])
    if n_people < MIN_GROUPS and len(stimuli) and stimuli['stimulus'].nunique() >= MIN_GROUPS:
        return _difference(stimuli, 'stimulus', rng), 'stimuli'
    if n_people == 1 and pairs['seed'].nunique() >= MIN_GROUPS:
        return _difference(pairs, 'seed', rng), 'seeds'
    return _difference(pairs, 'participant', rng), 'participants'


def _paired(rows: pd.DataFrame, label: str, reference: str, keys: list[str]) -> pd.DataFrame:
    own = rows[rows['label'] == label].groupby(keys, as_index=False)['value'].mean()
    other = rows[rows['label'] == reference].groupby(keys, as_index=False)['value'].mean()
    pairs: pd.DataFrame = own.merge(other, on=keys, suffixes=('', '_reference'))
    return pairs


def _difference(pairs: pd.DataFrame, group: str, rng: np.random.Generator) -> PairedDifference:
    return paired_difference(
        pairs['value'], pairs['value_reference'], groups=pairs[group].astype(str), rng=rng
    )


def matching(samples: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the samples whose mean is the score that is shown: others are of another model.

    Parameters
    ----------
    samples
        Scores of single samples: ``metric``, ``participant``, ``label``, ``seed``, ``value``.
    rows
        Scores that are shown, with the same columns.
    """
    keys = ['metric', 'participant', 'label', 'seed']
    means = samples.groupby(keys, as_index=False)['value'].mean()
    both = means.merge(rows[[*keys, 'value']], on=keys, suffixes=('', '_shown'))
    same = both[np.isclose(both['value'], both['value_shown'], atol=1e-4)]
    kept: pd.DataFrame = samples.merge(same[keys], on=keys)
    return kept


def sample_scores(record: ParticipantResults, metrics: Sequence[str]) -> pd.DataFrame:
    """Return what single held-out samples score: ``metric``, ``stimulus``, ``value``.

    Empty where the record has no table of samples with a score of their own.

    Parameters
    ----------
    record
        Of a participant.
    metrics
        Which scores.
    """
    from bids_neurodecode.report.reader import Reader, read_table

    generation = record.generation
    tables = [] if generation is None else [read_table(generation.table)]
    tables.append(Reader(record).predictions)
    parts = []
    for metric in metrics:
        column = sample_column(metric)
        for table in tables:
            if table is None or column not in table or 'stimulus' not in table:
                continue
            values: Any = pd.to_numeric(table[column], errors='coerce')
            part = pd.DataFrame({'metric': metric, 'stimulus': table['stimulus'], 'value': values})
            if 'space' in table:
                part = part[table['space'] == table['space'].iloc[0]]
            parts.append(part.dropna())
            break
    columns = ['metric', 'stimulus', 'value']
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
