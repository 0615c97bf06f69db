"""What scores and their differences say, in plain words: lines of judgement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bids_neurodecode.evaluation.metrics import REFERENCE, TRUE_TARGETS, Metric
from bids_neurodecode.evaluation.statistics import MIN_GROUPS
from bids_neurodecode.report.build import Tone, Verdict
from bids_neurodecode.report.scores import (
    ENCODED,
    NETWORKS,
    headline,
    identified,
    is_baseline,
    kin_of,
    metric_of,
    model_name,
    name_with_space,
    of_final_images,
    page_headline,
    rows_with,
    title_of,
    write_p,
)

AT_ONCE = 3
"""Comparisons in which the model is worse are named up to this many; more are folded."""
ALPHA = 0.05
DISAGREE = 'p and interval disagree, so nothing is claimed'
AT_CHANCE = 'the interval includes chance, so nothing is claimed, however small p is'
BETTER, WORSE, NEITHER = 'better than chance', 'worse than chance', 'cannot be told from chance'
INCLUDES = 'interval includes chance: no claim'
DISAGREE_SHORT = 'p and interval disagree: no claim'
WHOLE = (BETTER, WORSE, NEITHER, INCLUDES, DISAGREE_SHORT)
"""What is said of a score in a few words where there is no more to say."""
TESTS = {
    'labels': 'held-out labels permuted within {blocks}, models as fitted',
    'refit': 'all labels permuted, models refitted',
    'surrogates': 'against surrogates of the predicted series with random phases',
    'flips': 'signs of participants flipped',
}
"""What p is of, by the column ``test`` of the metrics table."""
WHY_LATENTS = (
    'Latents can be better than chance and yet worse than the mean image. Predictions have the '
    'spread of training latents (reconstruction.renorm), which images need and the mean lacks. '
    'With a correlation r to the true latents they then leave 2 (1 - r) of their variance as '
    'squared error, more than the mean does unless r is above .5. Chance is the same predictions '
    'beside the latents of other images.'
)
"""Why errors of latents can be worse than those of a baseline that knows nothing."""
STAGES = {
    'initial': 'the first stage (initial images)',
    'final': 'the second stage (final images)',
}
"""What the spaces of reconstructions are called."""
LIMITED = 'the generator and this judge limit the score, more than what was decoded does.'
MEAN_IMAGE = 'baseline-mean-image'
ALWAYS_CHANCE = 'scores chance whatever is shown: the test against chance is that comparison'
CHANCE_SHORT = 'is chance'
FINAL = 'Final reconstructions. {text}'
DECODED = 'Decoded features. {text}'
"""What lines are about, on pages of images that were made."""
BY_FEATURES = (
    'These features are what the linear decoder was trained to predict, so that they are no '
    'independent judge.'
)
GUIDE = ' This network had a part in the images itself, as in published tables.'
KIN = (
    ' This network is of the family of {guides}, which had a part in the images, and was trained '
    'on the same photographs (ImageNet): it is no independent judge.'
)
COMES_OUT = {
    'model better': 'better than',
    'model worse': 'worse than',
    'no difference shown': 'no difference shown from',
    CHANCE_SHORT: 'tested against chance, which is what one image for all scores:',
    'not tested': 'not tested against',
}
"""What is said of several comparisons, by what each of them shows."""


def verdicts_of_page(
    metrics: pd.DataFrame, confidence: float, guides: Sequence[str] = ()
) -> list[Verdict]:
    """Say what the score that heads a page shows, then the others, and what is worse than it.

    Of images that were made, these come first, and the features that were decoded after them.

    Parameters
    ----------
    metrics
        The metrics table.
    confidence
        Of its intervals, such as .95.
    guides
        Networks that had a part in the images.
    """
    head, row = page_headline(metrics, guides), headline(metrics)
    if head is None or row is None:
        return []
    of_head = verdicts_of(metrics, head, confidence)
    images = verdicts_of_images(metrics, confidence, guides)
    if not images:
        told = identified(metrics) if head['metric'] == ENCODED else None
        more = [] if told is None else [score_verdict(told, confidence, tested=False)]
        return [*of_head, *more, *worse_verdicts(metrics, confidence, shown=[head])]
    decoded = [] if row['space'] == 'final' else verdicts_of(metrics, row, confidence)
    first = [replace(line, text=DECODED.format(text=line.text)) for line in decoded[:1]]
    return [
        images[0],
        *of_head[1:],
        *images[1:],
        *first,
        *decoded[1:],
        *worse_verdicts(metrics, confidence, shown=[head, row]),
    ]


def verdicts_of_images(
    metrics: pd.DataFrame, confidence: float, guides: Sequence[str] = ()
) -> list[Verdict]:
    """Say what the final images score beside those made from the truth, if there are any.

    The last line is of the features in which the linear decoder works.

    Parameters
    ----------
    metrics
        The metrics table.
    confidence
        Of its intervals, such as .95.
    guides
        Networks that had a part in the images.
    """
    found = []
    for _, row in of_final_images(metrics, guides).iterrows():
        verdict = score_verdict(row, confidence, tested=False)
        more = f'{_beside_truth(metrics, row)}{_kin_of(str(row["metric"]), guides)}'
        found.append(replace(verdict, text=FINAL.format(text=f'{verdict.text}{more}')))
    own = metrics[~metrics['model'].map(is_baseline) & (metrics['space'] == 'final')]
    ranked = own[(own['metric'] == 'identification_2way') & own['value'].notna()]
    for _, row in ranked.iloc[:1].iterrows():
        verdict = score_verdict(row, confidence, tested=False)
        text = f'{verdict.text} {BY_FEATURES}{_beside_truth(metrics, row)}'
        found.append(replace(verdict, text=FINAL.format(text=text)))
    return found


def _beside_truth(metrics: pd.DataFrame, row: pd.Series[Any]) -> str:
    """Say what images score that are made from the truth, and what it means if that is less."""
    same = (metrics['model'] == TRUE_TARGETS) & metrics['value'].notna()
    for key in ('metric', 'space', 'protocol', 'split'):
        same &= metrics[key] == row[key]
    if not same.any():
        return ''
    metric, value = metric_of(str(row['metric'])), float(metrics['value'][same].iloc[0])
    says = f' Images made from the true latents and features score {metric.write(value)}'
    if not metric.better(float(row['value']) - value):
        return f'{says}.'
    if _side(float(row['ci_low']), float(row['ci_high']), value, metric) == 0:
        return f'{says}, which lies within the interval: {LIMITED}'
    return f'{says}, less than the model: they are no ceiling.'


def _kin_of(metric: str, guides: Sequence[str]) -> str:
    """Say whether a guide of the images is the network that a metric is of, or of its family."""
    kin = kin_of(metric, guides)
    if NETWORKS.get(metric) in kin:
        return GUIDE
    return KIN.format(guides=', '.join(kin)) if kin else ''


def test_of(row: pd.Series[Any]) -> str:
    """Say in a clause what the p value of a row is of; nothing where it is not known."""
    blocks = 'runs' if row['units'] == 'runs' else 'folds'
    return TESTS.get(str(row['test']), '').format(blocks=blocks)


def verdicts_of(
    metrics: pd.DataFrame, row: pd.Series[Any], confidence: float = 0.95
) -> list[Verdict]:
    """Say what a score shows: against chance, then against every baseline, all in one way.

    A claim is made (good, or bad where it is worse) only where the p value and the interval
    agree; where they contradict each other, or there is one of them, the line says so.

    Parameters
    ----------
    metrics
        The metrics table.
    row
        The row of it that is judged.
    confidence
        Coverage of the intervals.
    """
    kept = {key: row[key] for key in ('metric', 'split', 'protocol')}
    same = rows_with(metrics, compared_model=row['model'], compared_space=row['space'], **kept)
    alike = same & metrics['value'].notna()
    found = [score_verdict(row, confidence), *differences(metrics, metrics[alike], confidence)]
    found += [_uncompared(other, row) for _, other in _not_compared(metrics, row).iterrows()]
    return found


def _not_compared(metrics: pd.DataFrame, row: pd.Series[Any]) -> pd.DataFrame:
    """Return what was scored as a row was, and not compared with it (nor given the truth)."""
    left = ~metrics['model'].map(lambda name: str(name).startswith(REFERENCE))
    left &= ~(
        (metrics['compared_model'] == row['model']) & (metrics['compared_space'] == row['space'])
    )
    left &= ~metrics['model'].isin([row['model'], row['compared_model']])
    left &= metrics['difference'].isna() & metrics['value'].notna()
    for key in ('metric', 'space', 'split', 'protocol'):
        left &= metrics[key] == row[key]
    found: pd.DataFrame = metrics[left]
    return found


def differences(
    metrics: pd.DataFrame, rows: pd.DataFrame, confidence: float = 0.95
) -> list[Verdict]:
    """Say how one score compares with others, in a line for all that come out alike.

    Parameters
    ----------
    metrics
        The metrics table.
    rows
        Rows of it that one model was compared with.
    confidence
        Coverage of the intervals.
    """
    alike: dict[str, list[tuple[pd.Series[Any], Verdict]]] = {}
    for _, other in rows.iterrows():
        verdict = difference_verdict(metrics, other, confidence)
        alike.setdefault(verdict.short, []).append((other, verdict))
    return [_alike(metrics, found) for found in alike.values()]


def _alike(metrics: pd.DataFrame, found: list[tuple[pd.Series[Any], Verdict]]) -> Verdict:
    """Put comparisons of one score that come out alike into one line, with a line each below."""
    (other, first), *more = found
    if not more:
        return first
    metric = metric_of(str(other['metric']))
    own = name_with_space(str(other['compared_model']), str(other['compared_space']))
    value = metric.write(_compared_value(metrics, other))
    names = ', '.join(f'{_reference(x)} ({metric.write(float(x["value"]))})' for x, _ in found)
    one = 'the baseline '
    if names.count(one) == len(found):
        names = f'the baselines {names.replace(one, "")}'
    says = COMES_OUT.get(first.short, f'{first.short}:')
    details = tuple(verdict.text for _, verdict in found)
    return Verdict(
        first.tone, f'{title_of(other)}, {own}: {value}, {says} {names}.', details, first.short
    )


def worse_verdicts(
    metrics: pd.DataFrame, confidence: float = 0.95, *, shown: Sequence[pd.Series[Any]] = ()
) -> list[Verdict]:
    """Say in which metrics the model is worse than what it was compared with.

    What was tested is one line, and what was not is another, however many scores there are: the
    table of comparisons has each with its interval.

    Parameters
    ----------
    metrics
        The metrics table.
    confidence
        Coverage of the intervals.
    shown
        Rows whose comparisons stand on the page already.
    """
    worse: dict[Tone, list[tuple[pd.Series[Any], Verdict]]] = {'bad': [], 'info': []}
    better = 0
    for _, other in metrics[metrics['difference'].notna()].iterrows():
        verdict = difference_verdict(metrics, other, confidence)
        better += verdict.tone == 'good'
        if any(_is_compared_with(other, row) for row in shown):
            continue
        metric = metric_of(str(other['metric']))
        untested = not math.isfinite(other['difference_p']) and metric.better(
            -float(other['difference'])
        )
        if verdict.tone == 'bad' or untested:
            worse['bad' if verdict.tone == 'bad' else 'info'].append((other, verdict))
    lines = [_stages(metrics, found) for found in worse.values()]
    apart = [
        (other, row)
        for row in shown
        for _, other in _not_compared(metrics, row).iterrows()
        if metric_of(str(other['metric'])).better(float(other['value']) - float(row['value']))
    ]
    lines += [_together(metrics, worse['bad'], better)] if worse['bad'] else []
    lines += [_together(metrics, worse['info'], better, apart)] if worse['info'] else []
    return [line for line in lines if line is not None]


def _is_compared_with(other: pd.Series[Any], row: pd.Series[Any]) -> bool:
    """Tell whether a row is of what the model of another row was compared with."""
    same = {'compared_model': 'model', 'compared_space': 'space'}
    same |= {key: key for key in ('metric', 'protocol')}
    return all(other[theirs] == row[ours] for theirs, ours in same.items())


def _stages(metrics: pd.DataFrame, found: list[tuple[pd.Series[Any], Verdict]]) -> Verdict | None:
    """Say in one line that the second stage of reconstructions is worse than the first."""
    of_stages = [(other, line) for other, line in found if _is_stage(other)]
    if not of_stages:
        return None
    own = metrics[metrics['difference'].notna()]
    n = sum(_is_stage(other) for _, other in own.iterrows())
    scored = ', '.join(_scored(metrics, other) for other, _ in of_stages)
    tone = of_stages[0][1].tone
    word, tested = ('is worse', '') if tone == 'bad' else ('scores worse', '; not tested')
    return Verdict(
        tone,
        f'{_sentence(STAGES["final"])} {word} than {STAGES["initial"]} in {len(of_stages)} of '
        f'{n} metrics: {scored}{tested}.',
    )


def _is_stage(other: pd.Series[Any]) -> bool:
    """Tell whether a row compares the two stages of one model."""
    stages = (other['space'], other['compared_space']) == ('initial', 'final')
    return stages and bool(other['model'] == other['compared_model'])


def _together(
    metrics: pd.DataFrame,
    found: list[tuple[pd.Series[Any], Verdict]],
    n_better: int,
    apart: Sequence[tuple[pd.Series[Any], pd.Series[Any]]] = (),
) -> Verdict:
    """Sum several comparisons up; what the model was compared with is a line each.

    What scores more than a row of the page and was not compared with it (``apart``) stands first.
    """
    first = found[0][1]
    if len(found) == 1 and not apart:
        return first
    by: dict[str, list[str]] = {}
    for other, row in apart:
        metric = metric_of(str(row['metric']))
        name = f'{_reference(other)} ({row["model"]}, {row["space"]})'
        values = ' against '.join(metric.write(float(x['value'])) for x in (row, other))
        by.setdefault(name, []).append(f'{title_of(row)} ({values})')
    for other, _ in found:
        model = model_name(str(other['compared_model']), str(other['compared_space']))
        name = f'{_reference(other)} ({model}, {other["compared_space"]})'
        by.setdefault(name, []).append(_scored(metrics, other))
    tested = first.tone == 'bad'
    word = 'Worse' if tested else 'A worse score'
    how = f'by p and interval; better in {n_better}' if tested else 'none of them tested'
    n_compared = int(metrics['difference'].notna().sum())
    latents = any(str(other['metric']).startswith('latent_') for other, _ in found)
    why = (WHY_LATENTS,) if latents else ()
    says = f'{word} in {len(found)} of {n_compared} comparisons with baselines, other models and '
    says += f'earlier stages ({how})'
    each = [f'than {name}: {", ".join(scored)}' for name, scored in by.items()]
    if apart:
        n = len(apart)
        says += f', and than {n} other{"s" * (n > 1)}, not compared unit by unit'
    if len(found) <= AT_ONCE and not why:
        return Verdict(first.tone, f'{says}: {"; ".join(each)}.')
    return Verdict(first.tone, f'{says}.', (*(f'{_sentence(line)}.' for line in each), *why))


def _scored(metrics: pd.DataFrame, other: pd.Series[Any]) -> str:
    """Write a metric with the scores of the model and of what it was compared with."""
    metric = metric_of(str(other['metric']))
    own, reference = _compared_value(metrics, other), float(other['value'])
    return f'{title_of(other)} ({metric.write(own)} against {metric.write(reference)})'


def score_verdict(
    row: pd.Series[Any], confidence: float = 0.95, *, tested: bool = True
) -> Verdict:
    """Say whether a score is better than chance.

    Parameters
    ----------
    row
        Of the metrics table.
    confidence
        Of the interval, such as .95.
    tested
        Whether what p is of is said, too.
    """
    metric = metric_of(str(row['metric']))
    value, chance, p, low, high = (
        float(row[key]) for key in ('value', 'chance', 'p', 'ci_low', 'ci_high')
    )
    shown = f'{title_of(row)}: {metric.write(value)}'
    if not math.isfinite(chance):
        return Verdict(
            'info',
            f'{shown}; no chance level is known for this score.',
            short='chance is not known',
        )
    against = f'{shown} against a chance level of {metric.write(chance)}'
    span = f'{metric.write(low)} to {metric.write(high)}' if math.isfinite(low) else None
    side = _side(low, high, chance, metric)
    has_p, significant = math.isfinite(p), metric.better(value - chance) and p < ALPHA
    few = _few(row)
    if side is None and not has_p:
        why = f'not tested: {few}' if few else 'it was not tested against chance'
        return Verdict('info', f'{against}; {why}.', short='not tested')
    if side == 0 and not has_p:
        why = f'the {100 * confidence:g} % interval {span} includes it, and there is no p value'
        return Verdict('info', f'{against}; not tested: {why}.', short='not tested')
    tone: Tone = 'info'
    if side == 1 and significant and metric.unit == 'r' and low <= 0:
        # chance of a biased comparison can be negative: a correlation of 0 is no success
        tone, short = 'caution', 'not above 0'
        says = ', which is above chance, but not above 0: no relation is shown'
    elif side == 1 and significant:
        tone, short, says = 'good', BETTER, f', which is {BETTER}'
    elif side == -1 and has_p and not significant:
        tone, short, says = 'bad', WORSE, f', which is {WORSE}'
    elif side is not None and has_p and significant != (side == 1):
        short, says = (
            (INCLUDES, f': {AT_CHANCE}') if side == 0 else (DISAGREE_SHORT, f': {DISAGREE}')
        )
    elif significant or side in {1, -1}:
        lacking = 'no interval' if has_p else 'no p value'
        short = f'{lacking}: no claim'
        says = f', but {lacking} stands beside it{f" ({few})" if few else ""}'
    else:
        tone, short, says = 'caution', NEITHER, f', which {NEITHER}'
    numbers = _numbers(span, p, confidence, test_of(row) if tested else '')
    return Verdict(tone, f'{against}{says} ({numbers}).', short=short)


def shown_by(
    metric: str, value: float, chance: float, interval: tuple[float, float], p: float
) -> str:
    """Return in a few words what a score shows that has no row in the metrics table.

    Parameters
    ----------
    metric
        Its name.
    value, chance
        The score, and that of a prediction without information.
    interval, p
        Of the score; NaN where there is none.
    """
    row = dict.fromkeys(('metric', 'units', 'test'), metric) | {'n_units': math.nan}
    row |= {'value': value, 'chance': chance, 'ci_low': interval[0], 'ci_high': interval[1]}
    return score_verdict(pd.Series(row | {'p': p})).short


def difference_verdict(
    metrics: pd.DataFrame, other: pd.Series[Any], confidence: float = 0.95
) -> Verdict:
    """Say whether the model is better or worse than what a row is the score of.

    Parameters
    ----------
    metrics
        The metrics table.
    other
        A row of it that the model was compared with (its column ``difference``).
    confidence
        Coverage of the interval.
    """
    metric = metric_of(str(other['metric']))
    value = _compared_value(metrics, other)
    difference, low, high, p = (
        float(other[key])
        for key in ('difference', 'difference_low', 'difference_high', 'difference_p')
    )
    name = _reference(other)
    scored = f'{metric.write(value)} against {metric.write(float(other["value"]))}'
    own = name_with_space(str(other['compared_model']), str(other['compared_space']))
    what = f'{title_of(other)}, {own}: {scored}'
    if _scores_chance(other):
        return Verdict('info', f'{what}, {name}, which {ALWAYS_CHANCE}.', short=CHANCE_SHORT)
    gap = f'difference {metric.write_difference(difference)}'
    side = _side(low, high, 0.0, metric)
    if side is None and not math.isfinite(p):
        word = 'higher' if difference > 0 else 'lower' if difference < 0 else 'no different'
        text = f'{what}, {word} than {name} ({gap}); {_untested(other)}.'
        return Verdict('info', text, short='not tested')
    span = None
    if math.isfinite(low):
        span = ' to '.join(metric.write_difference(x, unit=False) for x in (low, high))
    numbers = f'{gap}, {_numbers(span, p, confidence)}{_over(other)}'
    clear = p < ALPHA and side is not None
    if clear and side:
        word = 'better' if side == 1 else 'worse'
        text = f'{what}, {word} than {name} ({numbers}).'
        return Verdict('good' if side == 1 else 'bad', text, short=f'model {word}')
    if side is not None and math.isfinite(p) and (p < ALPHA) != (side != 0):
        return Verdict('info', f'{what}, {name}: {DISAGREE} ({numbers}).', short=DISAGREE_SHORT)
    text = f'{what}: no difference shown from {name} ({numbers}).'
    return Verdict('info', text, short='no difference shown')


def _scores_chance(other: pd.Series[Any]) -> bool:
    """Tell whether a row is of one image for all, by which none can be told apart."""
    of_images = str(other['metric']).endswith('_2way') and other['model'] == MEAN_IMAGE
    made = str(other['compared_space']) in STAGES
    return bool(of_images and made and math.isclose(other['value'], other['chance'], abs_tol=1e-9))


def _compared_value(metrics: pd.DataFrame, other: pd.Series[Any]) -> float:
    """Return the score of the model that a row was compared with; NaN if it is not there."""
    same = rows_with(
        metrics,
        model=other['compared_model'],
        space=other['compared_space'],
        metric=other['metric'],
        protocol=other['protocol'],
    )
    return float(metrics['value'].to_numpy()[same.argmax()]) if same.any() else math.nan


def _side(low: float, high: float, reference: float, metric: Metric) -> int | None:
    """Return where an interval lies: 1 on the better side, -1 the worse, 0 over the reference."""
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(reference)):
        return None
    if low <= reference <= high:
        return 0
    return 1 if metric.better(low - reference) else -1


def _numbers(span: str | None, p: float, confidence: float, test: str = '') -> str:
    parts = [] if span is None else [f'{100 * confidence:g} % interval {span}']
    parts += [f'p = {write_p(p)}{f": {test}" if test else ""}'] if math.isfinite(p) else []
    return ', '.join(parts)


def _untested(row: pd.Series[Any]) -> str:
    few = _few(row)
    return f'not tested: {few}' if few else 'it was not tested'


def _few(row: pd.Series[Any]) -> str:
    """Return how many units there are where these are too few; else nothing."""
    n, units = float(row['n_units']), str(row['units'])
    if not math.isfinite(n) or n >= MIN_GROUPS:
        return ''
    units = units if units != 'n/a' else 'independent units'
    return f'{n:.0f} {units}, {MIN_GROUPS} are needed'


def _over(row: pd.Series[Any]) -> str:
    n, units = float(row['n_units']), str(row['units'])
    return f', {n:.0f} {units if units != "n/a" else "units"}' if math.isfinite(n) else ''


def _reference(other: pd.Series[Any]) -> str:
    """Return what a row is called as a reference."""
    model, space = str(other['model']), str(other['space'])
    if model.startswith('baseline-'):
        return f'the baseline "{model.removeprefix("baseline-")}"'
    if model == other['compared_model']:
        return STAGES.get(space, f'its own {space}')
    return f'the model "{model}"'


def _uncompared(other: pd.Series[Any], row: pd.Series[Any]) -> Verdict:
    """Say what something scores that was not compared with the model, and whether it is better."""
    metric = metric_of(str(other['metric']))
    value, own = float(other['value']), float(row['value'])
    better = metric.better(value - own)
    says = f'{_sentence(_reference(other))} scores {metric.write(value)}'
    says += f', better than {row["model"]} ({metric.write(own)})' if better else ''
    tone: Tone = 'caution' if better else 'info'
    return Verdict(tone, f'{says}; it was not compared unit by unit.')


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
