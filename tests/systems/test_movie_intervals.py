"""Intervals over blocks of time, and the threshold of the maximum over voxels."""

import numpy as np
import pytest

from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.systems.movie_intervals import block_intervals
from bids_neurodecode.systems.movie_judging import shift_test, standardize_within


def intervals(truth, predicted, labels, *, n_bootstrap=300, seed=0, block=15):
    return block_intervals(
        standardize_within(truth, labels),
        standardize_within(predicted, labels),
        labels,
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


def test_intervals_cover_the_truth_although_voxels_share_their_noise():
    labels = np.repeat(['a', 'b', 'c'], 120)
    covered, r = [], 0.4
    for seed in range(120):
        rng = np.random.default_rng(seed)
        # one noise for all voxels: they are one piece of evidence, not thirty
        film, noise = (autocorrelated(rng, (360, 1)) for _ in range(2))
        own = autocorrelated(rng, (360, 30))
        truth = r * film + np.sqrt(1 - r**2) * (0.95 * noise + np.sqrt(1 - 0.95**2) * own)
        low, high = intervals(truth, np.tile(film, (1, 30)), labels, seed=seed).median
        covered.append(low <= r <= high)
    assert np.mean(covered) >= 0.85


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


@pytest.mark.parametrize('n_permutations', [19, 40, 200])
def test_voxels_above_the_threshold_are_those_with_a_corrected_p_below_the_level(n_permutations):
    rng = np.random.default_rng(1)
    labels = np.repeat(['a', 'b'], 100)
    predicted = standardize_within(rng.normal(size=(200, 60)), labels)
    gain = np.linspace(0, 0.6, 60)
    truth = standardize_within(gain * predicted + rng.normal(size=(200, 60)), labels)
    r = pearson_by_column(truth, predicted)
    test = shift_test(truth, predicted, r, labels, 5, n_permutations, rng)
    if n_permutations == 19:  # 1/20 is the smallest p, which is not below 0.05
        assert np.isnan(test.threshold)
        assert not (test.p_fwer < 0.05).any()
        return
    np.testing.assert_array_equal(r > test.threshold, test.p_fwer < 0.05)
    assert (r > test.threshold).any()
