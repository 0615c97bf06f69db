"""The metrics table has its columns, and its sidecar explains all of them."""

import json

import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import COLUMNS, METRICS, Score, describe, scores_table


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
