"""The page of a study: its question, one figure, one table per metric, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.report import scores
from bids_neurodecode.report.build import (
    Block,
    Bullets,
    Code,
    Headline,
    Page,
    Plot,
    References,
    Section,
    Table,
    Text,
    Verdict,
    Verdicts,
    write_page,
)
from bids_neurodecode.report.reader import reading
from bids_neurodecode.report.study_figure import Drawing, plot_study
from bids_neurodecode.report.study_scores import Summary, matching, shown_rows, summaries
from bids_neurodecode.report.style import collecting_later
from bids_neurodecode.settings.study import PublishedSettings, StudySettings
from bids_neurodecode.spaces import Form
from bids_neurodecode.study import StudyPlan

OPTIMISTIC = (
    'The best variant is picked here by the scores that are shown, which were computed on '
    'held-out data: its own score is therefore optimistic. Choose on one set of data, and judge '
    'on another.'
)
NO_PAIRS = (
    f'Differences have an interval and a p value from {MIN_GROUPS} independent pairs on; below '
    'that, only their mean is given. The p values are two-sided, of flips of the signs of the '
    'differences, and not corrected for the number of variants.'
)
ABOUT = {
    'participants': 'Pairs are participants (their seeds averaged): the differences speak of '
    'people like these.',
    'stimuli': 'Pairs are stimuli, as there are fewer than six participants: the differences '
    'speak of other images shown to these same people.',
    'seeds': 'Pairs are the seeds of one participant: the differences speak of other seeds, and '
    'of no other person or image.',
}
PUBLISHED = (
    'Published values come from other data, other participants and other voxels, and stand there '
    'as they are printed in the source: they are a context, not a test.'
)


@dataclass(frozen=True, eq=False)
class StudyResults:
    """What was gathered of a study.

    Parameters
    ----------
    plan
        The study and its variants.
    table
        All scores: the columns of the metrics table and ``participant``, ``variant``, ``label``,
        ``seed`` and one a axis.
    samples
        What single samples score (:func:`~bids_neurodecode.report.study_scores.summaries`).
    missing
        Participant, variant, and the reason, for each that has no results.
    pages
        Participant, variant, and the page relative to that of the study.
    version
        Of the program.
    form
        Of the data, for what columns are called.
    """

    plan: StudyPlan
    table: pd.DataFrame
    samples: pd.DataFrame
    missing: Sequence[tuple[str, str, str]]
    pages: Sequence[tuple[str, str, str]]
    version: str
    form: Form | None = None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per metric, participant and variant."""
        return shown_rows(self.table, self.plan.settings)

    @cached_property
    def summaries(self) -> tuple[Summary, ...]:
        """All means; the seed of the resamplings is fixed."""
        rng = np.random.default_rng(0)
        samples = matching(self.samples, self.rows)
        settings, labels = self.plan.settings, self.plan.labels
        return tuple(summaries(self.rows, samples, settings, labels, rng))

    def of_metric(self, metric: str) -> list[Summary]:
        """Return the summaries of one metric."""
        return [summary for summary in self.summaries if summary.metric == metric]

    def title(self, metric: str) -> str:
        """Return what a metric is called in the rows that are shown."""
        own = self.rows[self.rows['metric'] == metric]
        return scores.title_of(own.iloc[0]) if len(own) else scores.metric_of(metric).title

    @property
    def first_metric(self) -> str | None:
        """The most telling metric that has scores."""
        return next((m for m in self.plan.settings.metrics if self.of_metric(m)), None)


def study_headline(results: StudyResults) -> str:
    """Say in one line what each variant scores by the study's first metric, beside chance.

    Parameters
    ----------
    results
        Of all variants. Empty where nothing was scored.
    """
    metric = results.first_metric
    if metric is None:
        return ''
    found = results.of_metric(metric)
    values = '; '.join(f'{s.label}: {_over_seeds(s)}' for s in found)
    n = max(s.n_participants for s in found)
    chance = scores.write_score(metric, found[0].chance)
    return in_nouns(
        f'{results.title(metric)}, mean over {n} participant{"s" * (n != 1)} (chance '
        f'{chance}): {values}.',
        results.form,
    )


def _over_seeds(summary: Summary) -> str:
    """Write a mean, and how far it differs from seed to seed."""
    mean = scores.write_score(summary.metric, summary.mean)
    if not math.isfinite(summary.seed_spread):
        return mean
    spread = scores.write_score(summary.metric, summary.seed_spread)
    return f'{mean} (SD over {summary.n_seeds} seeds {spread})'


def write_study_report(results: StudyResults, html: Path, figures_dir: Path) -> None:
    """Write the page of a study, and its figure as SVG.

    Parameters
    ----------
    results
        Of all variants.
    html
        The page.
    figures_dir
        Where its figure is written.

    Raises
    ------
    ReportError
        If the results are broken.
    """
    with reading(f'the study {results.plan.name}'), collecting_later():
        settings = results.plan.settings
        sections = [
            Section('summary', 'Summary', _summary(results)),
            Section('scores', 'Scores', _scores(results)),
            Section('participants', 'Participants', _participants(results)),
            Section('missing', 'What is missing', _missing(results)),
            Section('variants', 'Variants', _variants(results)),
            Section('settings', 'The study', (Code('study.toml', results.plan.text),)),
        ]
        page = Page(
            settings.title,
            f'study {results.plan.name} · {settings.system} system',
            tuple(section for section in sections if section.blocks),
            f'bids_neurodecode {results.version}',
        )
        write_page(page, html, figures_dir, results.form)


def _summary(results: StudyResults) -> tuple[Block, ...]:
    settings = results.plan.settings
    blocks: list[Block] = [Text((settings.question,))]
    metric = results.first_metric
    if metric is not None and len(results.of_metric(metric)) > 1:
        found = results.of_metric(metric)
        described = scores.metric_of(metric)
        choose = max if described.higher_is_better else min
        best = choose(found, key=lambda summary: summary.mean)
        facts = [
            (_varied(settings), best.label),
            ('participants', str(best.n_participants)),
            ('chance', scores.write_score(metric, best.chance)),
        ]
        if best.n_seeds > 1:
            facts.append(('seeds', str(best.n_seeds)))
        value = scores.write_score(metric, best.mean)
        label = f'{results.title(metric)} of the best variant'
        blocks.append(Headline(value, label, tuple(facts)))
        blocks.append(Text((OPTIMISTIC,)))
    n_all = results.table.groupby(['participant', 'variant']).ngroups if len(results.table) else 0
    lines = [Verdict('info', f'{n_all} results of participants and variants were gathered.')]
    if results.missing:
        text = f'Missing results: {len(results.missing)}, see below. Means are over the others.'
        lines.append(Verdict('bad', text))
    if metric is None:
        lines.append(Verdict('bad', 'No score of the metrics of this study was computed.'))
    else:
        lines += _uneven(results, metric)
    blocks.append(Verdicts(tuple(lines)))
    if settings.notes:
        blocks.append(Bullets(settings.notes))
    return tuple(blocks)


def _uneven(results: StudyResults, metric: str) -> list[Verdict]:
    """Warn where the variants' means are over different participants."""
    rows = results.rows[results.rows['metric'] == metric]
    people = {label: frozenset(own['participant']) for label, own in rows.groupby('label')}
    if len(set(people.values())) < 2:
        return []
    text = 'Means of different variants are over different participants; the differences are not.'
    return [Verdict('caution', text)]


def _scores(results: StudyResults) -> tuple[Block, ...]:
    plan, settings = results.plan, results.plan.settings
    if not results.summaries:
        return ()
    places = {variant.label: variant.places for variant in plan.variants}
    values = {variant.label: variant.values for variant in plan.variants}
    figure = plot_study(Drawing(results.summaries, results.rows, settings, places, values))
    caption = (
        'Mean over participants (their seeds averaged first), with single results as pale dots '
        'and one standard deviation either way.'
        if settings.axes
        else 'Each participant'
        + (
            ', with one standard deviation over seeds either way.'
            if len(settings.seeds) > 1
            else '.'
        )
    )
    metric = str(results.first_metric)
    alt = '; '.join(
        f'{s.label}: {scores.write_score(metric, s.mean)}' for s in results.of_metric(metric)
    )
    blocks: list[Block] = [Plot(f'{plan.name}_scores.svg', figure, caption, alt)]
    if any(math.isfinite(s.seed_spread) for s in results.summaries):
        blocks.append(seed_table(results))
    if settings.axes:
        shown = [m for m in settings.metrics if results.of_metric(m)]
        blocks += [score_table(results, m) for m in shown]
    blocks.append(Text(tuple(_reading_notes(results))))
    others = _other_models(results)
    return (*blocks, others) if others.rows else tuple(blocks)


def _reading_notes(results: StudyResults) -> list[str]:
    units = dict.fromkeys(s.unit for s in results.summaries if s.unit is not None)
    notes = [NO_PAIRS, *(ABOUT[unit] for unit in units)] if units else []
    return [*notes, PUBLISHED] if results.plan.settings.published else notes


def score_table(results: StudyResults, metric: str) -> Table:
    """Return the table of a metric: a row per variant, published rows below the one they go with.

    Columns that would be empty throughout are left out.

    Parameters
    ----------
    results
        Of all variants.
    metric
        Which score.
    """
    settings = results.plan.settings
    found = results.of_metric(metric)
    columns = {_varied(settings): '', 'mean': 'mean', 'SD': 'sd', 'n': 'n', 'chance': 'chance'}
    if any(math.isfinite(summary.ceiling) for summary in found):
        columns['ceiling'] = 'ceiling'
    differences = [summary.difference for summary in found if summary.difference is not None]
    if differences:
        unit = ' (points)' if scores.metric_of(metric).share else ''
        columns[f'difference from {settings.reference}{unit}'] = 'difference'
    if any(math.isfinite(difference.low) for difference in differences):
        columns |= {'95 % interval': 'interval', 'p': 'p', 'pairs': 'pairs'}
    keys = list(columns.values())[1:]
    published = [row for row in settings.published if row.metric == metric]
    rows: list[tuple[str, ...]] = []
    for summary in found:
        cells = _cells(summary)
        rows.append((summary.label, *(cells[key] for key in keys)))
        own = [row for row in published if row.variant == summary.label]
        rows += [_published_row(row, len(columns)) for row in own]
    shown = {summary.label for summary in found}
    rows += [_published_row(row, len(columns)) for row in published if row.variant not in shown]
    described = scores.metric_of(metric)
    better = '' if described.higher_is_better else ' Lower is better.'
    caption = f'{results.title(metric)}.{better} {described.meaning} {_spread_note(found)}'
    return Table(tuple(columns), tuple(rows), caption.strip(), frozenset(range(1, len(columns))))


def seed_table(results: StudyResults) -> Table:
    """Return how far scores differ from seed to seed: one row per variant and metric."""
    cells = []
    for s in results.summaries:
        own = results.rows[
            (results.rows['metric'] == s.metric) & (results.rows['label'] == s.label)
        ]
        means = own.groupby('seed')['value'].mean()
        values = (s.mean, s.seed_spread, float(means.min()), float(means.max()), s.chance)
        written = (scores.write_score(s.metric, value) for value in values)
        name = results.title(s.metric)
        cells.append((s.label, name, *written, str(s.n_seeds), str(s.n_participants)))
    columns = ('variant', 'metric', 'mean', 'SD over seeds', 'lowest', 'highest')
    beside = ('chance', 'seeds', 'participants')
    caption = (
        'Reliability over seeds. SD: over the seeds of one participant (root mean square over '
        'participants); lowest and highest: of the means over participants, of a seed. A seed '
        'draws folds, networks and noise anew, so that this is what a single run leaves to luck; '
        'it is no uncertainty over participants or images.'
    )
    return Table((*columns, *beside), tuple(cells), caption, frozenset(range(2, 9)))


def _varied(settings: StudySettings) -> str:
    """Return what the labels of variants are of."""
    return ', '.join(axis.name for axis in settings.axes) or 'variant'


def _spread_note(found: Sequence[Summary]) -> str:
    over = {summary.spread_over for summary in found if math.isfinite(summary.spread)}
    spread = f'SD over {" or ".join(sorted(over))}; ' if over else ''
    return f'{spread}n: participants (and seeds each).'


def _cells(summary: Summary) -> dict[str, str]:
    """Return what the table says of a variant, by column."""
    metric, found = summary.metric, summary.difference
    people, seeds = summary.n_participants, summary.n_seeds
    cells = {
        key: scores.write_score(metric, value)
        for key, value in (
            ('mean', summary.mean),
            ('sd', summary.spread),
            ('chance', summary.chance),
            ('ceiling', summary.ceiling),
        )
    }
    cells['n'] = str(people) if seeds == 1 else f'{people} ({seeds} seeds)'
    if found is None:
        return cells | dict.fromkeys(('difference', 'interval', 'p', 'pairs'), '')
    limits = [_signed(metric, value) for value in (found.low, found.high)]
    return cells | {
        'difference': _signed(metric, found.mean),
        'interval': ' to '.join(limits) if math.isfinite(found.low) else 'n/a',
        'p': scores.write_p(found.p),
        'pairs': f'{found.n} {summary.unit}',
    }


def _signed(metric: str, value: float) -> str:
    return scores.metric_of(metric).write_difference(value, unit=False)


def _published_row(row: PublishedSettings, n_columns: int) -> tuple[str, ...]:
    name = f'published: {row.label} ({row.source})'
    value = scores.write_score(row.metric, row.value)
    return (name, value, *([''] * (n_columns - 2)))


def _other_models(results: StudyResults) -> Table:
    """Return what else was scored, baselines among it, by variant."""
    table = results.table
    chosen = table[table['metric'].isin(results.plan.settings.metrics) & table['value'].notna()]
    keys = ['label', 'model', 'space', 'metric']
    cells = []
    for _, own in chosen.groupby(keys, sort=False):
        label, model, space, metric = (str(own[key].iloc[0]) for key in keys)
        means = (float(own[key].mean()) for key in ('value', 'chance'))
        written = (scores.write_score(metric, value) for value in means)
        name = scores.title_of(own.iloc[0])
        cells.append((label, model, space, name, *written, str(own['participant'].nunique())))
    columns = ('variant', 'model', 'scored', 'metric', 'mean', 'chance', 'participants')
    caption = 'All models and baselines, means over participants and seeds'
    return Table(columns, tuple(cells), caption, frozenset({4, 5, 6}), folded=True)


def _participants(results: StudyResults) -> tuple[Block, ...]:
    metric = results.first_metric
    if metric is None or results.rows['participant'].nunique() < 2:
        return ()
    settings = results.plan.settings
    if not settings.axes:
        return (_people_table(results),)
    own = results.rows[results.rows['metric'] == metric]
    mean = own.groupby(['participant', 'label'])['value'].mean().unstack()
    labels = [label for label in results.plan.labels if label in mean]
    cells = tuple(
        (f'sub-{who}', *(scores.write_score(metric, float(mean.loc[who, x])) for x in labels))
        for who in mean.index
    )
    caption = f'{results.title(metric)} by participant (mean over seeds).'
    numbers = frozenset(range(1, len(labels) + 1))
    return (Table(('participant', *labels), cells, caption, numbers),)


def _people_table(results: StudyResults) -> Table:
    """Return one row per participant, their mean, and published rows; one column per metric."""
    settings = results.plan.settings
    mean = results.rows.groupby(['participant', 'metric'])['value'].mean().unstack()
    metrics = [metric for metric in settings.metrics if metric in mean]
    lines = {f'sub-{who}': dict(mean.loc[who]) for who in mean.index}
    lines['mean'] = {metric: float(mean[metric].mean()) for metric in metrics}
    for row in settings.published:
        lines.setdefault(f'published: {row.label} ({row.source})', {})[row.metric] = row.value
    cells = tuple(
        (name, *(scores.write_score(m, float(line.get(m, math.nan))) for m in metrics))
        for name, line in lines.items()
    )
    titles = tuple(map(results.title, metrics))
    caption = 'All metrics by participant (means over seeds).'
    return Table(('participant', *titles), cells, caption, frozenset(range(1, len(titles) + 1)))


def _missing(results: StudyResults) -> tuple[Block, ...]:
    if not results.missing:
        return ()
    lines = tuple(f'sub-{who}, {variant}: {why}' for who, variant, why in results.missing)
    return (Bullets(lines),)


def _variants(results: StudyResults) -> tuple[Block, ...]:
    plan = results.plan
    varied = varied_settings([variant.config.model_dump() for variant in plan.variants])
    rows = tuple(
        (
            variant.name,
            variant.label,
            str(variant.seed),
            '; '.join(f'{key} = {_value(own[key])}' for key in own) or 'none',
        )
        for variant, own in zip(plan.variants, varied, strict=True)
    )
    columns = ('folder', 'variant', 'seed', 'settings that differ')
    table = Table(columns, rows, 'Variants, and the settings in which they differ.')
    pages = tuple((f'sub-{who}, {variant}', link) for who, variant, link in results.pages)
    links = (References(pages, title='Reports of the variants'),) if pages else ()
    return (table, *links)


def varied_settings(dumps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each of several settings, the values of those that are not the same in all.

    Examples
    --------
    >>> varied_settings([{'a': {'x': 1, 'y': 2}}, {'a': {'x': 1, 'y': 3}}])
    [{'a.y': 2}, {'a.y': 3}]
    """
    flat = [dict(_flatten(dump)) for dump in dumps]
    keys = [key for key in flat[0] if key != 'seed' and any(f[key] != flat[0][key] for f in flat)]
    return [{key: f[key] for key in keys} for f in flat]


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f'[{", ".join(map(str, value))}]'
    return 'none' if value is None else str(value)


def _flatten(values: Mapping[str, Any], before: str = '') -> list[tuple[str, Any]]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flatten(value, f'{before}{key}.')
        else:
            found.append((f'{before}{key}', value))
    return found
