"""Variance partitioning: planted parts, the test's level and power, units."""

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.partition import exchange_test, partition_variance


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


def test_every_space_needs_both_models():
    x = np.random.default_rng(0).standard_normal((5, 2))
    with pytest.raises(DataError, match="'b' lacks"):
        partition_variance(x, x, {'a': x}, {'a': x, 'b': x}, rng=np.random.default_rng(0))
