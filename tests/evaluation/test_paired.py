"""Paired differences: against counting by hand, and under the null."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.paired import paired_difference
from bids_neurodecode.evaluation.statistics import bootstrap_ci

values = st.integers(-40, 40).map(lambda x: x / 4)


def rng():
    return np.random.default_rng(7)


@given(arrays(float, st.integers(6, 10), elements=values))
def test_p_is_the_share_of_all_flips(x):
    found = paired_difference(x, np.zeros_like(x), rng=rng(), n_resamples=1100)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(x))))
    null = (signs * x).mean(axis=1)
    observed = x.mean()
    slack = 1e-12 + 1e-9 * abs(observed)
    greater, less = (null >= observed - slack).mean(), (null <= observed + slack).mean()
    assert found.p == pytest.approx(min(1, 2 * min(greater, less)), abs=2e-3)
    assert found.mean == pytest.approx(observed)
    assert found.n == len(x)


def test_pairs_of_a_group_are_averaged_first():
    a, b = np.array([1.0, 3.0, 5.0, 2.0]), np.zeros(4)
    found = paired_difference(a, b, groups=['x', 'x', 'x', 'y'], rng=rng())
    assert found.mean == pytest.approx((3 + 2) / 2)
    assert found.n == 2
    assert np.isnan([found.low, found.high, found.p]).all()


def test_false_positives_are_as_many_as_promised():
    draw = np.random.default_rng(0)
    p = [
        paired_difference(draw.normal(size=12), np.zeros(12), rng=draw, n_resamples=199).p
        for _ in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.085


def test_groups_that_share_training_are_judged_with_more_care():
    draw = np.random.default_rng(5)
    x = draw.normal(0.8, 1, size=9)
    alone = paired_difference(x, np.zeros(9), rng=rng())
    shared = paired_difference(x, np.zeros(9), rng=rng(), inflation=2.0)
    assert shared.high - shared.mean == pytest.approx(np.sqrt(2) * (alone.high - alone.mean))
    signs = np.array(list(itertools.product([-1, 1], repeat=9)))
    null = np.sqrt(2) * (signs * x).mean(axis=1)
    assert shared.p == pytest.approx(2 * (null >= x.mean()).mean(), abs=0.005)
    assert shared.p > alone.p


def test_a_real_difference_is_found_and_its_interval_covers_it():
    draw = np.random.default_rng(3)
    base = draw.normal(size=40)
    found = paired_difference(base + 0.5 + 0.2 * draw.normal(size=40), base, rng=draw)
    assert found.low < 0.5 < found.high
    assert found.low > 0
    assert found.p < 0.001
    # of 99 flips and the data themselves none reaches it, on either side
    few = paired_difference(base + 0.5, base, rng=draw, n_resamples=99)
    assert few.p == pytest.approx(2 / 100)


def test_its_interval_is_that_of_the_mean_difference():
    draw = np.random.default_rng(6)
    x, y = draw.normal(size=(2, 24)).astype(np.float32)
    groups = np.arange(24) // 2
    found = paired_difference(
        x, y, rng=rng(), groups=groups, n_resamples=500, confidence=0.8, inflation=1.5
    )
    mean = (x.astype(float) - y).reshape(12, 2).mean(axis=1)
    expected = bootstrap_ci(mean, rng=rng(), n_bootstrap=500, confidence=0.8, inflation=1.5)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert found.mean == pytest.approx(mean.mean(), abs=1e-12)


@pytest.mark.parametrize(('a', 'b'), [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
def test_what_is_not_paired_is_refused(a, b):
    with pytest.raises(DataError, match='one value of each kind'):
        paired_difference(a, b, rng=rng())
