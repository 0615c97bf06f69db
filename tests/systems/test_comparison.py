"""Differences between models are over independent units, in every row that is a reference."""

import numpy as np
import pytest

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.systems.comparison import compare_rows, unit_values

QUICK = EvaluationSettings(n_permutations=999, n_bootstrap=999)


def row(model, space='final', value=0.5):
    return Score('reconstruction', model, 'p', 'test', space, 'pixcorr', value, 12)


def test_repeats_of_an_image_are_one_unit():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(8), 3)
    own, other = rng.normal(size=24) + 1, rng.normal(size=24)
    kept = {
        ('gru', 'final', 'pixcorr'): (own, units),
        ('baseline-nearest', 'final', 'pixcorr'): (other, units),
        ('gru', 'initial', 'pixcorr'): (other, units),
        ('ceiling-prior', 'final', 'pixcorr'): (other, units),
    }
    rows = [
        row('gru'),
        row('baseline-nearest'),
        row('gru', 'initial'),
        row('ceiling-prior'),
        row('baseline-shuffled'),
    ]
    own_row, nearest, initial, ceiling, unknown = compare_rows(
        rows, kept, 'gru', QUICK, np.random.default_rng(1), stages={'initial': 'final'}
    )
    assert own_row.difference is ceiling.difference is unknown.difference is None
    for found in (nearest, initial):
        assert found.n_units == 8
        assert found.difference == pytest.approx((own - other).mean())
        assert (found.compared_model, found.compared_space) == ('gru', 'final')
        assert found.difference_low < found.difference < found.difference_high
        assert 0 < found.difference_p <= 1


def test_below_six_units_there_is_a_difference_and_no_test():
    units = np.arange(4)
    kept = {(m, 'final', 'pixcorr'): (np.ones(4), units) for m in ('gru', 'baseline-nearest')}
    found = compare_rows([row('baseline-nearest')], kept, 'gru', QUICK, np.random.default_rng(0))
    assert (found[0].difference, found[0].difference_p) == (0.0, None)


def test_units_of_a_mean_are_its_values():
    values = np.random.default_rng(0).normal(size=9)
    without = (values.sum() - values) / 8
    np.testing.assert_allclose(unit_values(values.mean(), without), values)
