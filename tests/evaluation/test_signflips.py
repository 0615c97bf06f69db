"""Tests of mean maps over participants, against loops, scipy and planted effects."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bids_neurodecode.evaluation.signflips import map_above_zero


def by_hand(values):
    """All flips, one after the other."""
    n = len(values)
    observed = stats.ttest_1samp(values, 0).statistic
    found = np.array(
        [
            stats.ttest_1samp(np.array(signs)[:, None] * values, 0).statistic
            for signs in product([1, -1], repeat=n)
        ]
    )
    p = (found >= observed - 1e-9).mean(axis=0)
    highest = found.max(axis=1)
    return observed, p, (highest[:, None] >= observed - 1e-9).mean(axis=0)


def test_all_flips_are_those_by_hand():
    values = np.random.default_rng(3).normal(0.3, 1, (7, 5))
    found = map_above_zero(values, rng=np.random.default_rng(0))
    t, p, fwer = by_hand(values)
    np.testing.assert_allclose(found.t, t)
    np.testing.assert_allclose(found.p, p)
    np.testing.assert_allclose(found.p_fwer, fwer)
    np.testing.assert_allclose(found.p_fdr, stats.false_discovery_control(p))


def test_drawn_flips_agree_with_all():
    values = np.random.default_rng(1).normal(0.2, 1, (10, 40))
    drawn = map_above_zero(values, rng=np.random.default_rng(0), n_flips=900)
    every = map_above_zero(values, rng=np.random.default_rng(0), n_flips=1023)
    np.testing.assert_allclose(drawn.p, every.p, atol=0.06)
    assert drawn.p.min() >= 1 / 901
    assert every.p.min() >= 1 / 1024


def test_planted_columns_are_found_and_the_maximum_holds_its_level():
    rng = np.random.default_rng(0)
    n_found, n_wrong = 0, 0
    for _ in range(100):
        noise = rng.normal(size=(12, 1)) + rng.normal(
            size=(12, 60)
        )  # columns depend on each other
        noise[:, :5] += 3.5
        test = map_above_zero(noise, rng=rng, n_flips=199)
        n_found += (test.p_fwer[:5] < 0.05).sum()
        n_wrong += (test.p_fwer[5:] < 0.05).any()
    assert n_found > 300
    assert n_wrong <= 12


@pytest.mark.parametrize('n', [2, 5])
def test_few_participants_are_not_tested(n):
    found = map_above_zero(np.ones((n, 3)), rng=np.random.default_rng(0))
    assert all(np.isnan(each).all() for each in found)


def test_columns_that_do_not_vary_have_a_p_all_the_same():
    values = np.zeros((6, 3))
    values[:, 1] = 0.4
    values[:, 2] = np.random.default_rng(0).normal(size=6)
    found = map_above_zero(values, rng=np.random.default_rng(0))
    assert np.isfinite(found.p).all()
    assert (found.p[0], found.p[1]) == (1, 1 / 64)
