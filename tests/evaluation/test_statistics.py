"""Permutations keep what they must, p values are honest, intervals cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.statistics import (
    bootstrap_ci,
    fdr,
    max_statistic_p,
    p_value,
    permutation_test,
    permutations,
    phase_factors,
    random_phases,
)


def test_p_value_counts_ties_and_is_never_zero():
    null = np.array([0.1, 0.2, 0.3, 0.3])
    assert p_value(null, 0.3) == pytest.approx(3 / 5)
    assert p_value(null, 0.3 + 1e-12) == pytest.approx(3 / 5)
    assert p_value(null, 9) == pytest.approx(1 / 5)
    assert p_value(null, 0.1, 'less') == pytest.approx(2 / 5)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_permutations_stay_in_their_blocks(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 4, 25)
    for index in permutations(25, 5, rng, blocks=blocks):
        np.testing.assert_array_equal(np.sort(index), np.arange(25))
        np.testing.assert_array_equal(blocks[index], blocks)


def test_repeats_move_together():
    units = np.array(['a', 'b', 'a', 'c', 'b', 'b', 'd', 'd'])
    blocks = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    rng = np.random.default_rng(0)
    seen = set()
    for index in permutations(8, 60, rng, blocks=blocks, units=units):
        given_to = {unit: set(units[index[units == unit]]) for unit in 'abcd'}
        assert all(len(labels) == 1 for labels in given_to.values())
        assert given_to['d'] == {'d'}
        seen.add(tuple(min(given_to[unit]) for unit in 'abc'))
    assert len(seen) == 6, 'every order of the three units is drawn'
    with pytest.raises(DataError, match='exchanged together; unit 0 lies in 2'):
        next(permutations(2, 1, rng, blocks=[0, 1], units=['a', 'a']))


def test_permutation_p_agrees_with_scipy():
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = 0.35 * x + rng.normal(size=40)
    test = permutation_test(lambda index: float(np.corrcoef(x, y[index])[0, 1]), 40, 4000, rng)
    expected = stats.pearsonr(x, y, alternative='greater').pvalue
    assert test.observed == pytest.approx(stats.pearsonr(x, y).statistic)
    assert test.p == pytest.approx(expected, abs=0.01)
    assert test.null.shape == (4000,)


def test_p_is_uniform_where_there_is_nothing():
    rng = np.random.default_rng(2)
    p = []
    for _ in range(300):
        x, y = rng.normal(size=(2, 12))
        p.append(permutation_test(lambda i, x=x, y=y: float(x @ y[i]), 12, 99, rng).p)
    assert stats.kstest(p, 'uniform').pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_blocks_matter_where_blocks_differ():
    # an offset of each block makes x and y correlate; within blocks there is nothing
    rng = np.random.default_rng(3)
    blocks = np.repeat(np.arange(6), 8)
    offset = 3 * rng.normal(size=6)[blocks]
    x, y = offset + rng.normal(size=48), offset + rng.normal(size=48)

    def correlation(index):
        return float(np.corrcoef(x, y[index])[0, 1])

    assert permutation_test(correlation, 48, 199, rng).p < 0.01
    assert permutation_test(correlation, 48, 199, rng, blocks=blocks).p > 0.05


@pytest.mark.parametrize('n_samples', [40, 41])
def test_surrogates_keep_the_spectrum_and_are_those_of_the_inverse_transform(n_samples):
    rng = np.random.default_rng(4)
    series = np.cumsum(rng.normal(size=(n_samples, 3)), axis=0)
    spectrum = np.fft.rfft(series, axis=0)
    angles = random_phases(n_samples, 5, rng)
    factors = phase_factors(angles, np.arange(n_samples), n_samples)
    found = factors @ np.concatenate([spectrum.real, spectrum.imag])
    centred = spectrum * (np.arange(len(spectrum)) > 0)[:, None]
    for each, angle in zip(found, angles, strict=True):
        turned = centred * np.exp(1j * angle)[:, None]
        np.testing.assert_allclose(each, np.fft.irfft(turned, n=n_samples, axis=0), atol=1e-4)
        np.testing.assert_allclose(
            np.abs(np.fft.rfft(each, axis=0)), np.abs(centred), rtol=1e-4, atol=1e-4
        )
    some = phase_factors(angles, [3, 7], n_samples)
    np.testing.assert_array_equal(some, factors[:, [3, 7]])


def test_fdr_equals_scipy_and_passes_over_nan():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    got = fdr(p)
    np.testing.assert_allclose(got[[0, 2, 3, 4]], stats.false_discovery_control(p[[0, 2, 3, 4]]))
    assert np.isnan(got[1])
    assert np.isnan(fdr([np.nan])).all()


def test_max_statistic_equals_counting_and_controls_the_family():
    rng = np.random.default_rng(5)
    null = rng.normal(size=(199, 30))
    observed = np.append(rng.normal(size=29), 8.0)
    expected = [(np.sum(null.max(axis=1) >= value) + 1) / 200 for value in observed]
    np.testing.assert_allclose(max_statistic_p(observed, null), expected)
    null[3, 4] = np.nan
    assert np.isfinite(max_statistic_p(observed, null)).all()
    assert np.isnan(max_statistic_p([np.nan], null[:, :1])[0])
    false = [
        (max_statistic_p(rng.normal(size=30), rng.normal(size=(99, 30))) <= 0.05).any()
        for _ in range(300)
    ]
    assert np.mean(false) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize('method', ['percentile', 'BCa'])
def test_intervals_cover(method):
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(150):
        low, high = bootstrap_ci(rng.normal(size=40), rng=rng, n_bootstrap=300, method=method)
        covered += low <= 0 <= high
    assert covered / 150 == pytest.approx(0.94, abs=0.06)


def test_intervals_over_groups_are_wider_where_groups_differ():
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(10), 20)
    values = rng.normal(size=10)[groups] + 0.1 * rng.normal(size=200)
    low, high = bootstrap_ci(values, rng=rng, groups=groups)
    low_1, high_1 = bootstrap_ci(values, rng=rng)
    assert high - low > 2 * (high_1 - low_1)
    expected = stats.bootstrap(
        (values.reshape(10, 20).mean(axis=1),), np.mean, method='percentile', rng=rng
    ).confidence_interval
    np.testing.assert_allclose([low, high], expected, atol=0.1)


def test_intervals_over_groups_of_unequal_size_equal_drawing_groups():
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(8), [1, 2, 30, 4, 5, 60, 7, 8])
    values = groups / 4 + rng.normal(size=len(groups))
    rows = [np.flatnonzero(groups == group) for group in range(8)]
    means = [
        values[np.concatenate([rows[k] for k in rng.integers(0, 8, 8)])].mean()
        for _ in range(3000)
    ]
    got = bootstrap_ci(values, rng=rng, groups=groups, n_bootstrap=3000)
    np.testing.assert_allclose(got, np.quantile(means, [0.025, 0.975]), atol=0.06)


def test_intervals_at_the_edges():
    rng = np.random.default_rng(8)
    assert np.isnan(bootstrap_ci([1.0], rng=rng)).all()
    assert np.isnan(bootstrap_ci([1.0, 2.0], rng=rng, groups=['a', 'a'])).all()
    assert np.isnan(bootstrap_ci([1.0, 2.0], rng=rng, n_bootstrap=0)).all()
    assert bootstrap_ci([0.5] * 6, rng=rng, method='BCa') == (0.5, 0.5)
    # percentiles over five groups would fall short of their coverage
    assert np.isnan(bootstrap_ci([0.1, 0.2, 0.3, 0.4, 0.5], rng=rng)).all()
    with pytest.raises(DataError, match='no samples'):
        bootstrap_ci([], rng=rng)
    with pytest.raises(DataError, match='one group label a sample: 2 samples'):
        bootstrap_ci([1.0, 2.0], rng=rng, groups=['a'])


def test_same_seed_same_numbers():
    values = np.random.default_rng(9).normal(size=30)
    first, second = (bootstrap_ci(values, rng=np.random.default_rng(0)) for _ in range(2))
    assert first == second
