"""Variance partitioning: planted parts, the test's level and power, units."""

import itertools

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.partition import exchange_test, partition_variance
from bids_neurodecode.evaluation.statistics import BAD_LABELS, fdr


def test_planted_parts_are_found():
    """Three independent signals: one is a's own, one is b's own, one both have."""
    rng = np.random.default_rng(0)
    n, v = 4000, 3
    own_a, own_b, both = (rng.standard_normal((n, v)) for _ in range(3))
    shares = np.array([[0.3, 0.0, 0.1], [0.0, 0.2, 0.1], [0.0, 0.4, 0.3]])  # a, b, both x voxels
    a, b, c = (np.sqrt(share) * x for share, x in zip(shares, (own_a, own_b, both), strict=True))
    noise = np.sqrt(1 - shares.sum(axis=0)) * rng.standard_normal((n, v))
    found = partition_variance(
        a + b + c + noise,
        a + b + c,
        without={'a': b + c, 'b': a + c},
        alone={'a': a + c, 'b': b + c},
        n_permutations=200,
        rng=rng,
    )
    np.testing.assert_allclose(found.full, shares.sum(axis=0), atol=0.04)
    np.testing.assert_allclose(found.unique['a'], shares[0], atol=0.04)
    np.testing.assert_allclose(found.unique['b'], shares[1], atol=0.04)
    np.testing.assert_allclose(found.shared, shares[2], atol=0.04)
    np.testing.assert_allclose(found.alone['a'], shares[0] + shares[2], atol=0.04)
    assert (found.p_unique_fdr['a'] < 0.05).tolist() == [True, False, True]
    assert (found.p_unique_fdr['b'] < 0.05).tolist() == [False, True, True]


def test_level_under_the_null():
    """Two predictions that are equally bad: false positives at .05 are between 3 and 7 %."""
    rng = np.random.default_rng(1)
    truth, one, other = (rng.standard_normal((40, 4000)) for _ in range(3))
    p = exchange_test(truth, one, other, n_permutations=199, rng=rng)
    assert 0.03 < np.mean(p <= 0.05) < 0.07
    assert 0.47 < p.mean() < 0.54


def test_units_are_exchanged_together():
    """Ten repeats of the same errors are one piece of evidence a unit, not ten."""
    rng = np.random.default_rng(2)
    truth = np.zeros((80, 2000))
    one, other = (np.repeat(rng.standard_normal((8, 2000)), 10, axis=0) for _ in range(2))
    units = np.repeat(np.arange(8), 10)
    apart = exchange_test(truth, one, other, n_permutations=199, rng=rng)
    together = exchange_test(truth, one, other, units=units, n_permutations=199, rng=rng)
    assert np.mean(apart <= 0.05) > 0.2
    assert np.mean(together <= 0.05) < 0.07


def test_no_difference_is_no_evidence():
    rng = np.random.default_rng(3)
    truth, one = rng.standard_normal((20, 5)), rng.standard_normal((20, 5))
    p = exchange_test(truth, one, one, n_permutations=50, rng=rng)
    np.testing.assert_array_equal(p, 1)
    assert np.isnan(exchange_test(truth, one, one, n_permutations=0, rng=rng)).all()


def test_p_is_the_share_of_all_exchanges():
    """Of eight units, all 256 exchanges can be counted."""
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((24, 30))
    one, other = (truth + rng.standard_normal((24, 30)) for _ in range(2))
    units = np.tile(list('hgfedcba'), 3)
    gain = (other - truth) ** 2 - (one - truth) ** 2
    of_units = gain.reshape(3, 8, 30).sum(axis=0)
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    share = (signs @ of_units >= of_units.sum(axis=0) - 1e-9).mean(axis=0)
    found = exchange_test(truth, one, other, units=units, n_permutations=6000, rng=rng)
    np.testing.assert_allclose(found, share, atol=0.025)
    assert share.min() < 0.1  # some of it matters
    assert share.max() > 0.9
    # units of very different voxels, and in single precision
    scale = 10.0 ** np.linspace(-9, 9, 30)
    again = exchange_test(
        truth * scale, one * scale, other * scale, units=units, n_permutations=600,
        rng=np.random.default_rng(5),
    )  # fmt: skip
    same = exchange_test(
        truth, one, other, units=units, n_permutations=600, rng=np.random.default_rng(5)
    )
    np.testing.assert_array_equal(again, same)
    singles = [x.astype(np.float32) for x in (truth, one, other)]
    doubles = [x.astype(np.float64) for x in singles]
    of_either = [
        exchange_test(*x, n_permutations=200, rng=np.random.default_rng(5))
        for x in (singles, doubles)
    ]
    np.testing.assert_array_equal(*of_either)


def test_six_units_are_enough_and_five_are_not():
    rng = np.random.default_rng(6)
    truth = np.zeros((6, 3))
    better, worse = 0.1 * rng.standard_normal((6, 3)), np.ones((6, 3))
    found = exchange_test(truth, better, worse, n_permutations=6000, rng=rng)
    np.testing.assert_allclose(found, 1 / 2**6, atol=0.006)
    few = exchange_test(truth[:5], better[:5], worse[:5], n_permutations=50, rng=rng)
    assert np.isnan(few).all()
    worse[0, 1] = np.nan
    assert np.isnan(exchange_test(truth, better, worse, rng=rng)).tolist() == [False, True, False]
    assert exchange_test(truth, better, better, n_permutations=600, rng=rng).tolist() == [1, 1, 1]
    with pytest.raises(DataError) as error:
        exchange_test(truth, better, worse, units=[1, 2], rng=rng)
    assert str(error.value) == BAD_LABELS.format(what='unit', n=6, found=(2,))


def test_the_unique_part_is_tested_by_exchanging_the_two_models():
    rng = np.random.default_rng(7)
    truth, full, a, b = rng.standard_normal((4, 24, 5))
    units = np.repeat(np.arange(8), 3)
    found = partition_variance(
        truth, full, {'a': a}, {'a': b}, units=units, n_permutations=300,
        rng=np.random.default_rng(8),
    )  # fmt: skip
    p = exchange_test(
        truth, full, a, units=units, n_permutations=300, rng=np.random.default_rng(8)
    )
    np.testing.assert_array_equal(found.p_unique_fdr['a'], fdr(p))


def test_every_space_needs_both_models():
    x = np.random.default_rng(0).standard_normal((5, 2))
    with pytest.raises(DataError, match="'b' lacks"):
        partition_variance(x, x, {'a': x}, {'a': x, 'b': x}, rng=np.random.default_rng(0))
