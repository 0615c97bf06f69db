"""Intervals over blocks of time, and the threshold of the maximum over voxels."""

import numpy as np
import pytest
from scipy import stats

from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.systems.movie.intervals import block_intervals, mean_test
from bids_neurodecode.systems.movie.parts import Pool, standardize_within
from bids_neurodecode.systems.movie.surrogates import threshold_of


def intervals(
    truth, predicted, labels, *, fold_of=None, used=None, n_bootstrap=300, seed=0, block=15
):
    a, b = (standardize_within(x, labels) for x in (truth, predicted))
    fold_of = np.zeros(len(labels), dtype=int) if fold_of is None else fold_of
    used = np.ones((1, a.shape[1]), dtype=bool) if used is None else used
    pool = Pool(used, np.bincount(fold_of).astype(float))
    return block_intervals(
        a,
        b,
        labels,
        fold_of,
        pool,
        values=pool.summary(pool.each(pearson_by_column, a, b, fold_of)),
        block=block,
        n_bootstrap=n_bootstrap,
        confidence=0.95,
        rng=np.random.default_rng(seed),
    )


def autocorrelated(rng, shape, past=0.7):
    values = rng.normal(size=shape)
    for t in range(1, len(values)):
        values[t] = past * values[t - 1] + np.sqrt(1 - past**2) * values[t]
    return values


@pytest.mark.slow
def test_intervals_cover_the_truth_although_voxels_share_their_noise():
    labels = np.repeat(['a', 'b', 'c'], 120)
    covered, r = [], 0.4
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # one noise for all voxels: they are one piece of evidence, not thirty
        film, noise = (autocorrelated(rng, (360, 1)) for _ in range(2))
        own = autocorrelated(rng, (360, 30))
        truth = r * film + np.sqrt(1 - r**2) * (0.95 * noise + np.sqrt(1 - 0.95**2) * own)
        low, high = intervals(truth, np.tile(film, (1, 30)), labels, seed=seed).median
        covered.append(low <= r <= high)
    # of 200, those of 95 % lie within 3 deviations of it; percentiles covered 87 %
    assert 0.91 <= np.mean(covered) <= 0.99


def test_more_voxels_of_the_same_noise_do_not_shorten_the_interval():
    rng = np.random.default_rng(0)
    labels = np.full(300, 'a')
    truth, predicted = rng.normal(size=(2, 300, 3))
    few = intervals(truth, predicted, labels)
    many = intervals(np.tile(truth, 40), np.tile(predicted, 40), labels)
    np.testing.assert_allclose(few.median, many.median, atol=1e-6)


@pytest.mark.parametrize(('n_samples', 'n_bootstrap'), [(80, 300), (300, 0)])
def test_too_few_blocks_or_no_resampling_give_no_interval(n_samples, n_bootstrap):
    rng = np.random.default_rng(0)
    labels = np.full(n_samples, 'a')
    found = intervals(*rng.normal(size=(2, n_samples, 4)), labels, n_bootstrap=n_bootstrap)
    assert np.isnan([*found.median, *found.mean]).all()


def test_the_interval_is_about_the_score():
    rng = np.random.default_rng(0)
    labels = np.repeat(['a', 'b'], 200)
    film = rng.normal(size=(400, 50))
    truth = film + rng.normal(size=(400, 50))
    truth[:, 0] = 1.0  # a voxel that says nothing is passed over
    found = intervals(truth, film, labels)
    r = pearson_by_column(*(standardize_within(x, labels) for x in (truth, film)))
    assert found.median[0] < np.nanmedian(r) < found.median[1]
    assert found.mean[0] < np.nanmean(r) < found.mean[1]


def test_folds_with_voxels_of_their_own_are_drawn_together():
    rng = np.random.default_rng(3)
    labels = np.repeat(['a', 'b', 'c', 'd'], 100)
    fold_of = np.repeat([0, 1], 200)
    film = rng.normal(size=(400, 60))
    truth = 0.5 * film + rng.normal(size=(400, 60))
    same = np.ones((2, 60), dtype=bool)
    apart = same.copy()
    apart[0, :20] = apart[1, 40:] = False
    film[np.ix_(fold_of == 0, ~apart[0])] = np.nan
    film[np.ix_(fold_of == 1, ~apart[1])] = np.nan
    found = intervals(truth, film, labels, fold_of=fold_of, used=apart)
    whole = intervals(truth, np.nan_to_num(film), labels, fold_of=fold_of, used=same)
    r = 0.5 / np.sqrt(1.25)
    assert found.median[0] < r < found.median[1]
    assert found.mean[0] < r < found.mean[1]
    # voxels of no prediction are none of the fold's: they lower the mean where they count
    assert whole.mean[1] < found.mean[1]


@pytest.mark.parametrize(('past', 'low'), [(0.0, 0.93), (0.8, 0.92), (0.93, 0.9)])
def test_intervals_of_frames_cover_although_frames_follow_each_other(past, low):
    labels = np.repeat(['a', 'b'], 200)
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        series = np.concatenate([autocorrelated(rng, (200,), past) for _ in 'ab'])
        found = mean_test(series, labels, block=23, confidence=0.95)
        covered.append(found.low <= 0 <= found.high)
    assert low <= np.mean(covered) <= 0.985


def test_intervals_of_frames_are_those_of_the_means_of_blocks():
    rng = np.random.default_rng(1)
    values, labels = rng.normal(size=120), np.repeat(list('abcdef'), 20)
    found = mean_test(values, labels, block=20, confidence=0.95)
    means = values.reshape(6, 20).mean(axis=1)
    half = stats.t.ppf(0.975, 5) * stats.sem(means)
    np.testing.assert_allclose([found.low, found.high], [means.mean() - half, means.mean() + half])
    few = mean_test(values[:100], labels[:100], block=20, confidence=0.95)
    assert np.isnan([few.low, few.high, few.p]).all()
    one = mean_test(np.ones(120), labels, block=20, confidence=0.95)
    assert (one.low, one.high) == (1, 1)


@pytest.mark.parametrize('n_draws', [19, 40, 200])
def test_voxels_above_the_threshold_are_those_with_a_corrected_p_below_the_level(n_draws):
    rng = np.random.default_rng(1)
    maxima, r = rng.normal(size=n_draws), rng.normal(2, 1, 500)
    p = ((maxima[:, None] >= r).sum(axis=0) + 1) / (n_draws + 1)
    threshold = threshold_of(maxima)
    if n_draws == 19:  # 1/20 is the smallest p, which is not below 0.05
        assert np.isnan(threshold)
        return
    np.testing.assert_array_equal(r > threshold, p < 0.05)
    assert (r > threshold).any()
