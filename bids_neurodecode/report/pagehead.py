"""The number at the head of a participant's page, and what it says of reconstructions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bids_neurodecode.extensions import said_by
from bids_neurodecode.report.build import Headline, Verdict
from bids_neurodecode.report.scores import (
    ENCODED,
    NETWORKS,
    PIXELS,
    judge_of,
    metric_of,
    model_name,
    no_ceiling,
    of_final_images,
    title_of,
    write_p,
    write_score,
)
from bids_neurodecode.report.verdicts import BETTER, FINAL, WHOLE, score_verdict, test_of

RECOVERED = {
    (True, True): (
        'Images are told apart by their reconstructions: by what a network sees in them, and by '
        'colours and layout.'
    ),
    (False, True): 'Colours and layout are recovered; shapes and objects are not shown to be.',
    (True, False): 'What a network sees in images is recovered in part; colours and layout are '
    'not shown to be.',
    (False, False): 'No image is shown to be recovered, neither by what a network sees in it nor '
    'by colours and layout.',
}
"""Whether images are recovered, by whether features of the judge and pixels beat chance."""
JUDGE = 'the first network of a fixed list that had no part in the images, whatever it scores'
SAMPLES = {'in-sample': 'samples', 'repeat-average': 'held-out averages over repeats'}
PIXELS_ALONE = (
    ' No network that had no part in them judged: pixels see colours and layout, not what an '
    'image shows.'
)
OF_FEATURES = ' This is of decoded features, before any image is made.'


def make_headline(
    row: pd.Series[Any],
    confidence: float,
    n_folds: int | None,
    *,
    sure: bool = True,
    metrics: pd.DataFrame | None = None,
) -> Headline:
    """Turn the main row of the metrics table into the number at the head of the page.

    Parameters
    ----------
    row
        Of the metrics table.
    confidence
        Of the interval, such as .95.
    n_folds
        How many folds the score is over; None: not known.
    sure
        Whether it may be called good: not where tests were seen in training.
    metrics
        The whole metrics table: of images, pixels are told beside a network.
    """
    name = str(row['metric'])
    metric = metric_of(name)
    known = math.isfinite(row['chance'])
    facts = [('chance', write_score(name, float(row['chance'])) if known else 'not known')]
    facts += _ceilings(pd.DataFrame([row]) if metrics is None else metrics, row)
    if math.isfinite(row['ci_low']) and math.isfinite(row['ci_high']):
        low, high = (write_score(name, float(row[key])) for key in ('ci_low', 'ci_high'))
        facts.append((f'{100 * confidence:g} % confidence interval', f'{low} to {high}'))
    if math.isfinite(row['p']):
        test = test_of(row)
        facts.append((f'p ({test})' if test else 'p', write_p(float(row['p']))))
    found = score_verdict(row, confidence)
    if sure or found.tone != 'good':
        facts.append(('shows', found.short))
    if math.isfinite(row['n']):
        what = SAMPLES.get(str(row['protocol']), 'held-out samples')
        what = 'voxels' if name.startswith(('voxel', 'noise')) else what
        facts.append((what, f'{row["n"]:.0f}'))
    if math.isfinite(row['n_units']):
        facts.append((f'independent {row["units"]}', f'{row["n_units"]:.0f}'))
    if n_folds is not None:
        facts.append(('folds', str(n_folds)))
    decoded = said_by(row['system']).scores == 'decoded' and row['space'] not in {
        'initial',
        'final',
    }
    model = str(row['model'])
    if decoded and model == 'ridge':
        model = 'ridge regression from voxels to image features'
    facts.append(('model', model_name(model, str(row['space']))))
    if row['space'] == 'final' and name in NETWORKS:
        facts.append(('judge', JUDGE))
    label = title_of(row) + (f'. {metric.meaning}' if metric.meaning else '')
    if row['space'] == 'final':
        rows = pd.DataFrame([row]) if metrics is None else of_final_images(metrics)
        label = recovered(rows, row, confidence, sure=sure)
    if decoded and name.startswith('identification'):
        label += OF_FEATURES
    return Headline(write_score(name, float(row['value'])), label, tuple(facts))


def _ceilings(metrics: pd.DataFrame, row: pd.Series[Any]) -> list[tuple[str, str]]:
    """Return the ceiling of a score, or why there is none; beside a mean of voxels the median."""
    name = str(row['metric'])
    ceiling = write_score(name, float(row['ceiling']))
    if row['ceiling'] > 0:
        return [('noise ceiling', ceiling)]
    # why is said once, above the tables of scores
    why = no_ceiling(row, repeated=bool((metrics['ceiling'] >= 0).any())).partition(':')[0]
    same = metrics['metric'] == 'voxel_r_median'
    for key in ('model', 'space', 'protocol', 'split'):
        same &= metrics[key] == row[key]
    if name != ENCODED or not same.any():
        return [('ceiling', why)]
    value, ceiling = (
        write_score(name, float(metrics[key][same].iloc[0])) for key in ('value', 'ceiling')
    )
    known = bool(metrics['ceiling'][same].iloc[0] > 0)
    median = f'{value}, noise ceiling {ceiling}' if known else value
    return [('ceiling', why), ('median over voxels', median)]


def recovered(
    rows: pd.DataFrame, row: pd.Series[Any], confidence: float = 0.95, *, sure: bool = True
) -> str:
    """Say whether images are recovered: by the network that heads the page, and by pixels.

    Parameters
    ----------
    rows
        Two-way scores of the final images of the model.
    row
        The one of them that heads the page.
    confidence
        Coverage of the intervals.
    sure
        Whether a score may be called good: not where tests were seen in training.
    """
    same = (rows['metric'] == PIXELS) & (rows['protocol'] == row['protocol'])
    beside = rows[same].iloc[:1] if row['metric'] in NETWORKS else rows.iloc[:0]
    both = [row, *(pixels for _, pixels in beside.iterrows())]
    shown = [score_verdict(each, confidence).short for each in both]
    told = [
        f'in {write_score(str(each["metric"]), float(each["value"]))} of pairs by '
        f'{judge_of(each)}'
        f'{f" ({short})" if sure or short != BETTER else ""}'
        for each, short in zip(both, shown, strict=True)
    ]
    text = f'Final reconstructions are told from those of other images {" and ".join(told)}'
    text += f'; chance is {write_score(str(row["metric"]), float(row["chance"]))}.'
    if row['metric'] == PIXELS:
        text += PIXELS_ALONE
    if len(both) == 1 or not sure or 'not tested' in shown:
        return text
    network, pixels = (short == BETTER for short in shown)
    return f'{RECOVERED[network, pixels]} {text}'


def beside_headline(
    lines: Sequence[Verdict], row: pd.Series[Any], confidence: float
) -> list[Verdict]:
    """Return what lines say beyond the headline, which has the score with its interval and p.

    Parameters
    ----------
    lines
        From :func:`~bids_neurodecode.report.verdicts.verdicts_of_page`.
    row
        That heads the page.
    confidence
        Of its interval, such as .95.
    """
    first, *rest = lines
    said = score_verdict(row, confidence, tested=row['space'] != 'final')
    if said.short not in WHOLE:
        return [first, *rest]  # it says what is lacking
    more = first.text.partition(said.text)[2].strip()
    if not more:
        return rest
    text = f'{title_of(row)}: {more[0].lower()}{more[1:]}'
    return [Verdict('info', FINAL.format(text=text)), *rest]
