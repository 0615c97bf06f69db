"""The metrics table has its columns, and its sidecar explains all of them."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import (
    COLUMNS,
    METRICS,
    NUMBERS,
    PIXEL_METRICS,
    Score,
    bounds_of,
    describe,
    scores_of,
    scores_table,
    with_types,
)


def score(**values):
    row = {
        'system': 'reconstruction',
        'model': 'ridge',
        'protocol': 'leave-one-out-by-run',
        'split': 'test',
        'space': 'single-trial',
        'metric': 'identification_top1',
        'value': 0.7,
        'n': 96,
    }
    return Score(**(row | values))


def test_columns_are_those_of_the_format():
    table = scores_table([score(), score(metric='pixcorr', chance=0.1, p=0.001)])
    assert list(table.columns[:13]) == [
        'system',
        'model',
        'protocol',
        'split',
        'space',
        'metric',
        'value',
        'chance',
        'ceiling',
        'ci_low',
        'ci_high',
        'p',
        'n',
    ]
    text = table.to_csv(sep='\t', index=False, na_rep='n/a').splitlines()
    assert text[1].split('\t')[6:13] == ['0.7', 'n/a', 'n/a', 'n/a', 'n/a', 'n/a', '96']
    assert text[2].split('\t')[6:13] == ['0.7', '0.1', 'n/a', 'n/a', 'n/a', '0.001', '96']
    assert list(scores_table([]).columns) == list(COLUMNS)


def test_sidecar_describes_columns_and_metrics_used():
    sidecar = json.loads(json.dumps(describe([score(), score(metric='pixcorr')])))
    assert set(sidecar) == set(COLUMNS)
    assert all(column['Description'] for column in sidecar.values())
    assert set(sidecar['metric']['Levels']) == {'identification_top1', 'pixcorr'}
    assert all(METRICS.values())


def test_scores_that_cannot_be():
    with pytest.raises(DataError, match="No metric is called 'accuracy'"):
        score(metric='accuracy')
    with pytest.raises(DataError, match='The p of identification_top1 must lie between 0 and 1'):
        score(p=1.5)
    for name in ('p', 'difference_p'):
        for fine in (0, 1, None, math.nan):
            assert getattr(score(**{name: fine}), name) is fine
        for bad in (-0.01, 1.01):
            with pytest.raises(DataError, match=f'The {name} of identification_top1 must lie'):
                score(**{name: bad})


INF = math.inf
DECLARED = {
    # unit, least, greatest, whether more is better, whether the size of images matters
    'identification_top1': ('share', 0, 1, True, False),
    'pixel_2way': ('share', 0, 1, True, True),
    'noise_normalized_median': ('share', 0, INF, True, False),
    'variance_alone': ('share', -INF, 1, True, False),
    'variance_unique': ('share', -INF, INF, True, False),
    'pixcorr': ('r', -1, 1, True, True),
    'voxel_r_mean': ('r', -1, 1, True, False),
    'ssim_2d': ('index', -1, 1, True, True),
    'latent_mse': ('error', 0, INF, False, False),
    'swav_distance': ('distance', 0, 2, False, False),
}


@pytest.mark.parametrize('name', DECLARED)
def test_what_a_metric_is(name):
    m = METRICS[name]
    assert (m.unit, m.low, m.high, m.higher_is_better, m.by_pixels) == DECLARED[name]
    assert bounds_of(name) == DECLARED[name][1:3]
    assert (name in PIXEL_METRICS) == m.by_pixels
    assert m.better(0.1) == m.higher_is_better
    assert m.better(-0.1) != m.higher_is_better
    assert not m.better(0)
    cut = m.clip(np.array([-50.0, 0.5, 50.0]))
    assert cut.tolist() == [max(-50, m.low), 0.5, min(50, m.high)]
    assert m.title
    assert m.description.startswith(m.meaning)
    assert len(m.meaning) > 20


def test_how_values_are_written():
    share, index = METRICS['identification_top1'], METRICS['ssim_2d']
    assert [m.write(0.0625) for m in (share, index)] == ['6.2 %', '0.062']
    assert [m.write_difference(0.25) for m in (share, index)] == ['+25.0 points', '+0.250']
    assert [m.write_difference(-0.25, unit=False) for m in (share, index)] == ['-25.0', '-0.250']
    for metric in (share, index):
        for value in (math.nan, math.inf, -math.inf):
            assert metric.write(value) == metric.write_difference(value) == 'n/a'
    assert share.description == (
        'Share of samples whose true stimulus is the most similar of all candidates; chance is '
        'one over their number. Unit: share (1 is 100 %), 0 to 1.'
    )
    # of an error, less is more
    assert METRICS['latent_mse'].description.endswith(
        ', which it punishes. Unit: error, at least 0. Lower is better.'
    )
    assert METRICS['variance_alone'].description.endswith('Unit: share (1 is 100 %), at most 1.')
    assert METRICS['variance_unique'].description.endswith('Unit: share (1 is 100 %).')
    assert bounds_of('of another version') == (-INF, INF)


def test_scores_come_back_from_their_table(tmp_path):
    scores = (
        score(chance=0.1, p=0.001, n_units=12, units='runs', test='labels'),
        score(metric='ssim_2d', value=math.nan, image_size=425, difference=-0.5),
    )
    scores_table(scores).to_csv(tmp_path / 'a.tsv', sep='\t', index=False, na_rep='n/a')
    read = pd.read_csv(tmp_path / 'a.tsv', sep='\t', na_values='n/a')
    for table in (scores_table(scores), read, read.assign(another=1)):
        back = scores_of(table)
        assert back[0] == scores[0]
        assert math.isnan(back[1].value)
        assert dataclasses.replace(back[1], value=0) == dataclasses.replace(scores[1], value=0)
        assert [type(x) for x in (back[0].n, back[0].n_units, back[1].image_size)] == [int] * 3


def test_counts_are_whole_and_numbers_are_numbers_when_read_back():
    """A column of nothing but n/a would otherwise be of text."""
    table = pd.DataFrame([dict.fromkeys(COLUMNS), {'n': 96, 'n_units': 12, 'p': '0.5'}])
    typed = with_types(table.astype(object))
    for name in NUMBERS:
        whole = name in {'n', 'n_units', 'image_size'}
        assert str(typed[name].dtype) == ('Int64' if whole else 'float64'), name
    assert typed.loc[1, ['n', 'n_units', 'p']].tolist() == [96, 12, 0.5]
    assert with_types(table[['system', 'p']]).columns.tolist() == ['system', 'p']
