"""Permutations keep what they must, p values are honest, intervals cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.statistics import (
    BAD_LABELS,
    LEAST_ERROR,
    bootstrap_ci,
    fdr,
    inflation_of,
    max_statistic_p,
    p_value,
    permutation_test,
    permutations,
    phase_surrogates,
    random_phases,
    shared_training,
)


def test_p_value_counts_ties_and_is_never_zero():
    null = np.array([0.1, 0.2, 0.3, 0.3])
    assert p_value(null, 0.3) == pytest.approx(3 / 5)
    assert p_value(null, 0.3 + 1e-12) == pytest.approx(3 / 5)
    assert p_value(null, 9) == pytest.approx(1 / 5)
    assert p_value(null, 0.1, 'less') == pytest.approx(2 / 5)
    assert p_value(null, 0.1 - 1e-12, 'less') == pytest.approx(2 / 5)
    # rounding is relative: the sum of a million squares is as exact as one of them
    assert p_value([3e6, 1e6], 1e6 * (1 + 1e-12)) == 1
    assert p_value([-3e6, -1e6], -1e6 * (1 + 1e-12), 'less') == 1
    assert p_value([1e6], 1e6 + 1) == pytest.approx(1 / 2)


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
    # one unit has nothing to exchange with
    assert next(permutations(3, 1, rng, units=[5, 5, 5])).tolist() == [0, 1, 2]
    assert [index.size for index in permutations(0, 2, rng, units=[])] == [0, 0]
    for what in ('block', 'unit'):
        with pytest.raises(DataError) as error:
            next(permutations(3, 1, rng, **{f'{what}s': [0, 1]}))
        assert str(error.value) == BAD_LABELS.format(what=what, n=3, found=(2,))


def test_a_test_exchanges_units_and_looks_to_one_side():
    rng = np.random.default_rng(11)
    units = np.repeat(np.arange(7), 3)
    x = np.arange(7.0)[units]

    def apart(index):  # 0 where repeats stay together
        return float(np.ptp(x[index].reshape(7, 3), axis=1).sum())

    together = permutation_test(apart, 21, 50, rng, units=units)
    assert together.observed == 0
    np.testing.assert_array_equal(together.null, 0)
    assert permutation_test(apart, 21, 50, rng).null.min() > 0
    low = permutation_test(apart, 21, 50, rng, alternative='less')
    assert low.p == 1 / 51
    assert permutation_test(apart, 21, 50, rng).p == 1


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
    angles = random_phases(n_samples, 5, rng)
    found = phase_surrogates(series, angles, np.arange(n_samples))
    assert found.shape == (5, n_samples, 3)
    centred = np.fft.rfft(series - series.mean(axis=0), axis=0)
    for each, angle in zip(found, angles, strict=True):
        turned = centred * np.exp(1j * angle)[:, None]
        np.testing.assert_allclose(each, np.fft.irfft(turned, n=n_samples, axis=0), atol=1e-4)
        np.testing.assert_allclose(
            np.abs(np.fft.rfft(each, axis=0)), np.abs(centred), rtol=1e-4, atol=1e-4
        )
    some = phase_surrogates(series, angles, [3, 7])
    np.testing.assert_allclose(some, found[:, [3, 7]], atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize('n_samples', [10, 11])
def test_phases_are_uniform_on_the_circle_and_independent(n_samples):
    angles = random_phases(n_samples, 4000, np.random.default_rng(12))
    assert angles.shape == (4000, 6)
    free = angles
    if n_samples == 10:  # a wave of two samples can only change its sign
        free, sign = angles[:, :-1], angles[:, -1] == np.pi
        assert (sign | (angles[:, -1] == 0)).all()
        assert stats.binomtest(int(sign.sum()), 4000).pvalue > 0.001
        assert np.abs(np.corrcoef(np.column_stack([free, sign]).T)[-1, :-1]).max() < 0.07
    for each in free.T:
        assert stats.kstest(each / (2 * np.pi), 'uniform').pvalue > 0.001
    between = np.corrcoef(free.T) - np.eye(free.shape[1])
    assert np.abs(between).max() < 0.07


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
    for scale in (1e-3, 1, 1e6):
        tied = scale * null.max(axis=1)[:3]
        for off in (1 - 1e-12, 1, 1 + 1e-12):
            np.testing.assert_allclose(
                max_statistic_p(tied * off, scale * null),
                [(np.sum(null.max(axis=1) >= null[k].max()) + 1) / 200 for k in range(3)],
            )
    null[3, 4] = np.nan
    assert np.isfinite(max_statistic_p(observed, null)).all()
    assert np.isnan(max_statistic_p([np.nan], null[:, :1])[0])
    false = [
        (max_statistic_p(rng.normal(size=30), rng.normal(size=(99, 30))) <= 0.05).any()
        for _ in range(300)
    ]
    assert np.mean(false) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize('n', [6, 40])
def test_intervals_are_the_wider_of_t_and_bootstrap_t(n):
    rng = np.random.default_rng(6)
    x = rng.exponential(size=n)
    error = x.std(ddof=1) / np.sqrt(n)
    below, above = stats.t.interval(0.95, n - 1, x.mean(), error)
    drawn = x[rng.integers(0, n, (8000, n))]
    errors = np.maximum(drawn.std(axis=1, ddof=1) / np.sqrt(n), LEAST_ERROR * error)
    low, high = np.quantile((drawn.mean(axis=1) - x.mean()) / errors, [0.025, 0.975])
    expected = min(below, x.mean() - high * error), max(above, x.mean() - low * error)
    got = bootstrap_ci(x, rng=rng, n_bootstrap=8000)
    np.testing.assert_allclose(got, expected, atol=0.15 * error)
    wide = bootstrap_ci(x, rng=np.random.default_rng(0), inflation=4)
    once = bootstrap_ci(x, rng=np.random.default_rng(0))
    np.testing.assert_allclose(np.array(wide) - x.mean(), 2 * (np.array(once) - x.mean()))


def test_both_limits_follow_the_skew():
    """Of values that are mirrored the interval is mirrored, and the far limit is the wider one."""
    x = np.random.default_rng(12).exponential(size=8)
    low, high = bootstrap_ci(x, rng=np.random.default_rng(0))
    mirrored = bootstrap_ci(-x, rng=np.random.default_rng(0))
    np.testing.assert_allclose(mirrored, (-high, -low))
    assert high - x.mean() > 1.2 * (x.mean() - low)


def test_as_many_resamplings_as_were_asked_for_in_pieces_that_fit():
    class Counting:
        def __init__(self):
            self.rng, self.sizes = np.random.default_rng(0), []

        def multinomial(self, n, p, size):
            self.sizes.append(size)
            return self.rng.multinomial(n, p, size=size)

    few, many = Counting(), Counting()
    bootstrap_ci(np.arange(9.0), rng=few)
    assert few.sizes == [1000]
    bootstrap_ci(np.arange(40_000.0), rng=many, n_bootstrap=120)
    assert many.sizes == [50, 50, 20]


def test_intervals_are_over_groups():
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(10), 20)
    values = rng.normal(size=10)[groups] + 0.1 * rng.normal(size=200)
    low, high = bootstrap_ci(values, rng=np.random.default_rng(1), groups=groups)
    low_1, high_1 = bootstrap_ci(values, rng=rng)
    assert high - low > 2 * (high_1 - low_1)
    means = values.reshape(10, 20).mean(axis=1)
    np.testing.assert_allclose([low, high], bootstrap_ci(means, rng=np.random.default_rng(1)))


def test_groups_of_unequal_size_have_the_error_of_drawing_groups():
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    values = groups / 40 + rng.normal(size=len(groups))
    rows = [np.flatnonzero(groups == group) for group in range(60)]
    means = [
        values[np.concatenate([rows[k] for k in rng.integers(0, 60, 60)])].mean()
        for _ in range(2000)
    ]
    low, high = bootstrap_ci(values, rng=rng, groups=groups, n_bootstrap=3000)
    assert (high - low) / 2 == pytest.approx(2.0 * np.std(means), rel=0.12)


def test_intervals_at_the_edges():
    rng = np.random.default_rng(8)
    assert np.isnan(bootstrap_ci([1.0], rng=rng)).all()
    assert np.isnan(bootstrap_ci([1.0, 2.0], rng=rng, groups=['a', 'a'])).all()
    assert np.isnan(bootstrap_ci(np.arange(9.0), rng=rng, n_bootstrap=0)).all()
    assert np.isnan(bootstrap_ci([*np.arange(9.0), np.nan], rng=rng)).all()
    assert bootstrap_ci([0.5] * 6, rng=rng) == (0.5, 0.5)
    assert bootstrap_ci([0.5] * 6, rng=rng, bounds=(0, 1)) == (0.5, 0.5)
    low, high = bootstrap_ci([1e9 / 7 + 0.1] * 7, rng=rng)  # the same but for rounding
    assert low == high
    singles = rng.normal(10, 1, size=30).astype(np.float32)
    once, twice = (
        bootstrap_ci(x, rng=np.random.default_rng(0)) for x in (singles, singles.astype(float))
    )
    assert once == twice
    # an error of nothing has no exact limit: there is no greatest one
    assert bootstrap_ci([0.0] * 6, rng=rng, bounds=(0, np.inf)) == (0, 0)
    # the spread of five groups says too little
    assert np.isnan(bootstrap_ci([0.1, 0.2, 0.3, 0.4, 0.5], rng=rng)).all()
    with pytest.raises(DataError, match='no samples'):
        bootstrap_ci([], rng=rng)
    with pytest.raises(DataError, match='one group label a sample: 2 samples'):
        bootstrap_ci([1.0, 2.0], rng=rng, groups=['a'])


@given(st.lists(st.floats(0, 1), min_size=6, max_size=20), st.integers(0, 5))
def test_intervals_stay_within_bounds_and_hold_the_mean(values, seed):
    rng = np.random.default_rng(seed)
    low, high = bootstrap_ci(values, rng=rng, n_bootstrap=50, bounds=(0, 1))
    assert 0 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1


def test_nothing_but_right_answers_are_not_certainty():
    rng = np.random.default_rng(0)
    low, high = bootstrap_ci(np.ones(50), rng=rng, bounds=(0, 1))
    exact = stats.binomtest(50, 50).proportion_ci(method='exact')
    assert (low, high) == pytest.approx((exact.low, 1))
    low, high = bootstrap_ci(np.zeros(50), rng=rng, bounds=(0, 1))
    assert (low, high) == pytest.approx((0, 1 - exact.low))
    # on a scale from -1 to 1 the same share of the range
    low, high = bootstrap_ci(np.ones(50), rng=rng, bounds=(-1, 1))
    assert (low, high) == pytest.approx((2 * exact.low - 1, 1))
    low, high = bootstrap_ci(-np.ones(50), rng=rng, bounds=(-1, 1))
    assert (low, high) == pytest.approx((-1, 1 - 2 * exact.low))
    exact = stats.binomtest(50, 50).proportion_ci(0.8, method='exact')
    low, high = bootstrap_ci(np.ones(50), rng=rng, confidence=0.8, bounds=(0, 1))
    assert (low, high) == pytest.approx((exact.low, 1))


def test_what_folds_share():
    left_out = np.eye(6, dtype=bool)
    assert shared_training(left_out, ~left_out) == 1
    blocks = np.repeat(np.eye(4, dtype=bool), 50, axis=1)
    assert shared_training(blocks, ~blocks) == 1
    # tested once, by a model of groups that are not
    once = np.array([[True, True, True, False, False, False]])
    assert shared_training(once, ~once) == 0
    # of five groups that train each tested one, one is tested on it
    two = left_out[:2]
    assert shared_training(two, ~two) == pytest.approx(1 / 5)
    pair = np.eye(2, dtype=bool)
    assert shared_training(pair, ~pair) == 1
    assert shared_training(pair & False, ~pair) == 0
    # pairs of n groups are independent: 2 / n(n - 1) over (n - 2) / n(n - 1)^2
    for n in range(3, 20):
        assert inflation_of(1.0, n) == pytest.approx(2 * (n - 1) / (n - 2))
        assert inflation_of(0.0, n) == 1
    assert [inflation_of(shared, 2) for shared in (0.0, 0.5, 1.0)] == [1, 1.5, 2]


@pytest.mark.parametrize('n_folds', [2, 3, 6])
def test_scores_of_groups_that_train_each_other_vary_as_much(n_folds):
    """A score is the likeness to the groups of other folds, and each likeness counts twice."""
    rng = np.random.default_rng(3)
    n, means, spreads = 6, [], []
    fold = np.arange(n) % n_folds
    apart = fold[:, None] != fold
    for _ in range(8000):
        alike = np.triu(rng.normal(size=(n, n)), 1)
        scores = ((alike + alike.T) * apart).sum(axis=1) / apart.sum(axis=1)
        means.append(scores.mean())
        spreads.append(scores.var(ddof=1) / n)
    tested = fold == np.arange(n_folds)[:, None]
    factor = np.var(means) / np.mean(spreads)
    assert inflation_of(shared_training(tested, ~tested), n) == pytest.approx(factor, rel=0.08)


def test_what_cannot_be_compared_has_no_p():
    null = np.array([0.1, 0.2, 0.3])
    assert np.isnan(p_value(null, np.nan))
    assert np.isnan(p_value([], 0.5))
    assert np.isnan(p_value([np.nan, np.nan], 0.5))
    # a permutation without a statistic is no evidence that it was smaller
    assert p_value([0.1, np.nan, np.nan, np.nan], 0.5) == p_value([0.1], 0.5)
    rng = np.random.default_rng(1)
    assert np.isnan(permutation_test(lambda index: np.nan, 5, 19, rng).p)
    assert np.isnan(max_statistic_p([0.5, 1.0], np.full((4, 2), np.nan))).all()
    rows = np.array([[0.1, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(max_statistic_p([0.5, 0.05], rows), [1 / 2, 1])


def test_same_seed_same_numbers():
    values = np.random.default_rng(9).normal(size=30)
    first, second = (bootstrap_ci(values, rng=np.random.default_rng(0)) for _ in range(2))
    assert first == second
