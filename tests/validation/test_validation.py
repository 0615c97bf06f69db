"""A small part of the validation, which can fail: `make validate` runs all of it."""

import numpy as np
import pytest

from benchmarks.validation.__main__ import all_checks
from benchmarks.validation.films import selected_agreement
from benchmarks.validation.harness import Check, run_check, share_of

QUICK = [check for check in all_checks() if check.quick]


@pytest.mark.parametrize('check', QUICK, ids=lambda c: f'{c.family}-{c.name}'.replace(' ', '_'))
def test_holds_on_a_few_data_sets(check):
    assert run_check(check, check.quick, seed=1).verdict != 'short'


@pytest.mark.parametrize(('kind', 'value'), [('p', 0.01), ('any', 1.0), ('covers', 0.0)])
def test_what_does_not_hold_is_called_short(kind, value):
    """The harness itself: a test that always rejects, an interval that never covers."""
    check = Check('harness', 'wrong', 'none', kind, lambda _: value)
    assert run_check(check, 40).verdict == 'short'


def test_uniform_p_values_hold():
    check = Check('harness', 'right', 'uniform p', 'p', lambda rng: rng.random(20))
    result = run_check(check, 500)
    assert result.verdict == 'holds'
    assert result.shares[0.01].value == pytest.approx(0.01, abs=0.004)


def test_nothing_given_is_a_refusal():
    assert run_check(Check('h', 'n', 'w', 'p', lambda _: np.nan), 3).verdict == 'refuses'


def test_exact_interval_of_a_share():
    share = share_of([1.0] * 5 + [0.0] * 95)
    assert (share.low, share.high) == pytest.approx((0.0164, 0.1128), abs=1e-4)


def test_voxels_that_all_folds_chose_would_flatter():
    """The world of the check tells a leak: the truth is met by folds, and exceeded by half."""
    draws = [np.random.default_rng(k) for k in range(20)]
    apart = np.mean([np.subtract(*selected_agreement(rng)) for rng in draws])
    leaky = np.mean([np.subtract(*selected_agreement(rng, leak=True)) for rng in draws])
    assert abs(apart) < 0.01
    assert leaky > 0.04
