"""What the numbers say, in plain words: the headline of a page and its lines of judgement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bids_neurodecode.report.build import Headline, Tone, Verdict
from bids_neurodecode.report.quality import FD_LIMIT, RunMotion
from bids_neurodecode.report.scores import (
    metric_of,
    write_p,
    write_score,
)
from bids_neurodecode.report.style import percent

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.report.results import ParticipantResults

MOVED_SHARE = 0.2
"""Share of moved volumes above which motion is called a caution."""
ALPHA = 0.05


def make_headline(row: pd.Series[Any], confidence: float, n_folds: int | None) -> Headline:
    """Turn the main row of the metrics table into the number at the head of the page."""
    name = str(row['metric'])
    metric = metric_of(name)
    facts = [
        (title, write_score(name, float(row[key])))
        for title, key in (('chance', 'chance'), ('noise ceiling', 'ceiling'))
        if math.isfinite(row[key])
    ]
    if math.isfinite(row['ci_low']) and math.isfinite(row['ci_high']):
        low, high = (write_score(name, float(row[key])) for key in ('ci_low', 'ci_high'))
        facts.append((f'{100 * confidence:g} % confidence interval', f'{low} to {high}'))
    if math.isfinite(row['p']):
        facts.append(('p (permutation)', write_p(float(row['p']))))
    if math.isfinite(row['n']):
        what = 'samples' if row['protocol'] == 'in-sample' else 'held-out samples'
        what = 'voxels' if name.startswith(('voxel', 'noise')) else what
        facts.append((what, f'{row["n"]:.0f}'))
    if n_folds is not None:
        facts.append(('folds', str(n_folds)))
    facts.append(('model', str(row['model'])))
    label = metric.title + (f'. {metric.meaning}' if metric.meaning else '')
    return Headline(write_score(name, float(row['value'])), label, tuple(facts))


def score_verdict(row: pd.Series[Any]) -> Verdict:
    """Say whether the main score is above chance."""
    name = str(row['metric'])
    value, chance, p = (float(row[key]) for key in ('value', 'chance', 'p'))
    title = metric_of(name).title
    shown = f'{title}: {write_score(name, value)}'
    if not math.isfinite(chance):
        return Verdict('info', f'{shown}; no chance level is known for this score.')
    better = value > chance if metric_of(name).higher_is_better else value < chance
    against = f'{shown} against a chance of {write_score(name, chance)}'
    if not math.isfinite(p):
        tone: Tone = 'info' if better else 'caution'
        return Verdict(tone, f'{against}; it was not tested against chance.')
    if better and p < ALPHA:
        return Verdict('good', f'{against}, which is better than chance (p = {write_p(p)}).')
    return Verdict('caution', f'{against}, which cannot be told from chance (p = {write_p(p)}).')


def baseline_verdicts(metrics: pd.DataFrame, row: pd.Series[Any]) -> list[Verdict]:
    """Compare the main score with the baselines that were scored in the same way."""
    name = str(row['metric'])
    sign = 1 if metric_of(name).higher_is_better else -1
    alike = metrics['metric'] == name
    for key in ('space', 'split', 'protocol'):
        alike &= metrics[key] == row[key]
    rivals = metrics[metrics['model'].str.startswith('baseline') & alike]
    verdicts = []
    for _, rival in rivals[rivals['value'].notna()].iterrows():
        score = write_score(name, float(rival['value']))
        better = sign * (row['value'] - rival['value']) > 0
        rival_name = str(rival['model']).removeprefix('baseline-')
        verb = 'Better than' if better else 'No better than'
        tone: Tone = 'good' if better else 'caution'
        verdicts.append(Verdict(tone, f'{verb} the baseline "{rival_name}" ({score}).'))
    return verdicts


def split_verdict(results: ParticipantResults) -> Verdict | None:
    """Say what the way of holding out allows one to claim."""
    if results.split is None:
        return None
    if results.split.repeats_cross:
        return Verdict(
            'caution',
            f'Whole {results.split.by}s were held out, but the same stimuli occur in training and '
            'test: the score says how well stimuli that were seen before are told apart, not how '
            'well new ones can be decoded.',
        )
    if results.split.by == 'stimulus':
        return Verdict('good', 'The test stimuli were never seen in training.')
    return Verdict('good', 'No stimulus occurs in both training and test.')


def with_leaks(
    results: ParticipantResults, lines: Sequence[Verdict | None]
) -> tuple[Verdict, ...]:
    """Say first, in red, what of the test was seen in training; then nothing is called good."""
    verdicts = [line for line in lines if line is not None]
    if results.leaks:
        verdicts = [replace(x, tone='info') if x.tone == 'good' else x for x in verdicts]
    return (*(Verdict('bad', leak) for leak in results.leaks), *verdicts)


def tuning_verdict(results: ParticipantResults) -> Verdict | None:
    """Warn where test trials took part in tuning the betas."""
    betas = results.betas
    if betas is None or betas.tuning != 'all' or betas.model not in {'C', 'D'}:
        return None
    return Verdict(
        'caution',
        'Noise components and fractions of the betas were chosen on all trials, test trials '
        'included (as GLMsingle does); scores may be slightly too good.',
    )


def motion_verdict(runs: Sequence[RunMotion]) -> Verdict | None:
    """Judge head motion over all runs."""
    if not runs:
        return None
    n_steps = sum(len(run.displacement) - 1 for run in runs)
    mean = sum(run.mean * (len(run.displacement) - 1) for run in runs) / n_steps
    moved = sum(run.share_moved * (len(run.displacement) - 1) for run in runs) / n_steps
    text = (
        f'Mean framewise displacement {mean:.2f} mm; {percent(moved)} of the volumes moved more '
        f'than {FD_LIMIT:g} mm.'
    )
    return Verdict('caution' if moved > MOVED_SHARE else 'good', text)


def voxel_verdict(results: ParticipantResults) -> Verdict | None:
    """Say how many voxels were used."""
    voxels = results.voxels
    if voxels is None:
        return None
    share = percent(voxels.n_selected / voxels.n_mask) if voxels.n_mask else 'none'
    text = f'{voxels.n_selected} of {voxels.n_mask} voxels of the mask were used ({share}).'
    return Verdict('info', text)


def warning_verdict(results: ParticipantResults) -> Verdict | None:
    """Point to the warnings."""
    n = len(results.warnings)
    if not n:
        return None
    return Verdict('caution', f'The run gave {n} warning{"s" * (n > 1)}, listed below.')
