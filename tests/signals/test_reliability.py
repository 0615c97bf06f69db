"""Reliability: against scipy, brute force, and planted noise ceilings."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import groups, reliability
from bids_neurodecode.signals.reliability import (
    leave_one_out_isc,
    ncsnr,
    noise_ceiling,
    repeat_test,
    snr_across_repeats,
    tsnr,
)


def simulate(counts, ratios, seed=0, n_sessions=1):
    """Betas with signal deviation ``ratios`` (one a voxel) and noise of 1; rows shuffled."""
    rng = np.random.default_rng(seed)
    stimuli = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    signal = rng.standard_normal((len(counts), len(ratios))) * ratios
    betas = signal[stimuli] + rng.standard_normal((len(stimuli), len(ratios)))
    sessions = np.arange(len(stimuli)) * n_sessions // len(stimuli)
    return betas.astype(np.float32), stimuli, sessions


MIXES = {
    'two': np.full(500, 2),
    'three': np.full(500, 3),
    'mixed': np.repeat([1, 2, 3], [150, 170, 180]),
}
RATIOS = np.repeat([0.0, 0.3, 0.6, 1.0, 2.0], 40)


def test_a_session_of_two_trials_is_enough():
    betas = np.array([[1.0, 2.0], [3.0, 2.5], [10.0, 4.0], [14.0, 9.0]])
    # a z-score of two numbers is their order: the same in both sessions, so without noise
    assert np.isinf(ncsnr(betas, [0, 1, 0, 1], [0, 0, 1, 1])).all()
    np.testing.assert_array_equal(ncsnr(betas, [0, 1, 1, 0], [0, 0, 1, 1]), 0)


@pytest.mark.parametrize('counts', MIXES.values(), ids=MIXES)
@pytest.mark.parametrize('n_sessions', [1, 4])
def test_planted_noise_ceilings_are_found(counts, n_sessions):
    betas, stimuli, sessions = simulate(counts, RATIOS, n_sessions=n_sessions)
    scales = np.array([1, 7, 0.2, 3])[sessions, None]
    found = ncsnr(betas * scales + 5 * scales, stimuli, sessions)
    truth = RATIOS**2 / (RATIOS**2 + np.mean(1 / counts))
    ceiling = noise_ceiling(found, counts)
    by_level = np.abs((ceiling - truth).reshape(5, 40).mean(axis=1))
    assert by_level.max() < 0.05
    assert np.mean(np.abs(ceiling - truth) < 0.1) > 0.9


def ncsnr_by_loops(betas, stimuli, sessions):
    z = np.empty(betas.shape)
    for s in np.unique(sessions):
        rows = sessions == s
        z[rows] = stats.zscore(betas[rows].astype(float), ddof=1)
    variances = [z[stimuli == s].var(axis=0, ddof=1) for s in np.unique(stimuli)
                 if np.sum(stimuli == s) > 1]  # fmt: skip
    noise = np.mean(variances, axis=0)
    total = np.sum(z**2, axis=0) / (len(z) - len(np.unique(sessions)))
    return np.sqrt(np.maximum(total - noise, 0) / noise)


@given(
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=12).filter(lambda c: max(c) > 1),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=30, deadline=None)
def test_ncsnr_equals_loops(counts, seed):
    n_sessions = 2 if sum(counts) >= 6 else 1
    betas, stimuli, sessions = simulate(np.array(counts), np.ones(6), seed, n_sessions)
    np.testing.assert_allclose(
        ncsnr(betas, stimuli, sessions), ncsnr_by_loops(betas, stimuli, sessions),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_ceiling_formula_of_mixed_counts():
    # A = 2 shown three times, B = 1 twice, C = 1 once
    noise = (2 / 3 + 1 / 2 + 1) / 4
    expected = [0, 0.25 / (0.25 + noise), 1 / (1 + noise), 1]
    found = noise_ceiling(np.array([0, 0.5, 1, np.inf]), [3, 3, 2, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(noise_ceiling(np.array([2.0])), 0.8, rtol=1e-6)


def test_names_of_stimuli_do_not_matter_and_order_neither():
    betas, stimuli, sessions = simulate(MIXES['mixed'][::10], np.ones(5), n_sessions=2)
    names = np.array([f'{s}.png' for s in stimuli], dtype=object)
    order = np.random.default_rng(1).permutation(len(betas))
    np.testing.assert_allclose(
        ncsnr(betas[order], names[order], sessions[order]),
        ncsnr(betas, stimuli, sessions),
        rtol=1e-5,
    )


def ar(rng, n, n_voxels, phi):
    values = rng.standard_normal((n, n_voxels))
    for row in range(1, n):
        values[row] = phi * values[row - 1] + np.sqrt(1 - phi**2) * values[row]
    return values


def adjacent(rng, n_runs=4, n_stimuli=12, n_repeats=3):
    """Each run shows each stimulus three times in a row, in an order of its own."""
    order = [rng.permutation(n_stimuli) for _ in range(n_runs)]
    stimuli = np.concatenate([np.repeat(each, n_repeats) for each in order])
    return stimuli, np.repeat(np.arange(n_runs), n_stimuli * n_repeats)


@pytest.mark.slow
def test_repeat_test_is_the_exchange_of_stimuli_within_runs():
    """All exchanges of five stimuli in two of three runs, by loops."""
    rng = np.random.default_rng(0)
    stimuli = np.array([0, 1, 2, 3, 4, 0, 1, 3, 4, 2, 0, 1, 4, 2, 3])
    runs = np.repeat([0, 1, 2], 5)
    betas = rng.standard_normal((15, 6)) + rng.standard_normal((5, 6))[stimuli]
    scores = np.concatenate(
        [stats.norm.ppf(stats.rankdata(betas[runs == r], axis=0) / 6) for r in range(3)]
    )

    def agreement(labels):
        values = np.stack([scores[runs == r][np.argsort(labels[r])] for r in range(3)])
        return sum((values[i] * values[j]).sum(0) for i, j in ((0, 1), (0, 2), (1, 2)))

    labels = [stimuli[runs == r] for r in range(3)]
    orders = [np.array(x) for x in itertools.permutations(range(5))]
    null = np.array([agreement([labels[0], a, b]) for a in orders for b in orders])
    found = repeat_test(betas, stimuli, runs)
    expected = (null >= agreement(labels) - 1e-9).mean(axis=0)
    np.testing.assert_allclose(found.p, expected, atol=0.005)
    np.testing.assert_allclose(found.agreement, agreement(labels) / 15, rtol=1e-5)
    assert (found.n_pairs, found.reason) == (15, '')


@pytest.mark.slow
def test_adjacent_repeats_in_autocorrelated_noise_do_not_pass():
    level = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stimuli, runs = adjacent(rng)
        noise = np.concatenate([ar(rng, 36, 100, 0.5) for _ in range(4)])
        level.append(np.mean(repeat_test(noise, stimuli, runs).p < 0.05))
    assert 0.02 < np.mean(level) < 0.08
    samples = [noise[stimuli == s] for s in range(12)]
    assert np.mean(stats.f_oneway(*samples).pvalue < 0.05) > 0.3  # what is not used
    noise[:, 0] += 1.5 * rng.standard_normal(12)[stimuli]
    assert repeat_test(noise, stimuli, runs).p[0] < 0.01


def test_runs_that_differ_in_level_and_scale_do_not_agree():
    rng = np.random.default_rng(0)
    runs = np.repeat(np.arange(4), 20)
    stimuli = np.concatenate([rng.permutation(20) for _ in range(4)])
    betas = (rng.standard_normal((80, 2000)) + 3.0) * (1 + runs)[:, None]
    assert abs(np.mean(repeat_test(betas, stimuli, runs).p < 0.05) - 0.05) < 0.03


@pytest.mark.parametrize('turn', [slice(None), slice(None, None, -1)])
def test_one_order_in_all_runs_has_no_p(turn):
    rng = np.random.default_rng(0)
    order = rng.permutation(10)
    stimuli, runs = np.concatenate([order, order[turn]]), np.repeat([0, 1], 10)
    found = repeat_test(rng.standard_normal((20, 5)), stimuli, runs)
    assert np.isnan(found.p).all()
    assert found.reason == reliability.SAME_ORDER
    other = np.concatenate([stimuli, rng.permutation(10)])
    third = repeat_test(rng.standard_normal((30, 5)), other, np.repeat([0, 1, 2], 10))
    assert third.n_pairs == 10  # the two runs of one order are one list
    assert np.isfinite(third.p).all()


@pytest.mark.slow
def test_runs_of_one_list_are_exchanged_as_one():
    """A drift that all runs share: two orders that were drawn once are one comparison."""
    level, time = [], np.linspace(-1, 1, 12)[:, None]
    for seed in range(25):
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(12) for _ in range(2)]
        stimuli, runs = np.concatenate(orders * 4), np.repeat(np.arange(8), 12)
        drift = time * rng.standard_normal(20) + time**2 * rng.standard_normal(20)
        betas = np.tile(drift, (8, 1)) + 0.5 * rng.standard_normal((96, 20))
        found = repeat_test(betas, stimuli, runs)
        level.append(np.mean(found.p < 0.05))
        assert found.n_pairs == 12
    assert np.mean(level) < 0.1  # each pair of runs by itself: .25
    responsive = betas + 4 * rng.standard_normal((12, 20))[stimuli]
    assert np.mean(repeat_test(responsive, stimuli, runs).p < 0.01) > 0.8


def test_runs_that_share_few_images_are_no_list():
    """Two images in the same order by chance leave the other comparisons of a run as they are."""
    stimuli = np.array([0, 1, 2, 3, 4, 5, 0, 1, 6, 7, 8, 9, 3, 2, 5, 9, 8, 4])
    found = repeat_test(np.random.default_rng(0).random((18, 3)), stimuli, np.repeat([0, 1, 2], 6))
    assert found.n_pairs == 6  # of the third run with the first (4) and the second (2)


def test_repeats_within_runs_have_no_p():
    stimuli = np.repeat(np.arange(8), 3)
    found = repeat_test(np.random.default_rng(0).random((24, 4)), stimuli, stimuli // 4)
    assert np.isnan(found.p).all()
    assert (found.n_pairs, found.reason) == (0, reliability.WITHIN_RUNS)


def test_odd_voxels():
    betas, stimuli, _ = simulate(np.full(10, 3), np.ones(4))
    betas[:, 1] = 0.1
    betas[4, 2] = np.nan
    betas[:, 3] = stimuli + 0.1  # repeats are identical
    order = np.concatenate([np.random.default_rng(run).permutation(10) for run in range(3)])
    runs = np.repeat([0, 1, 2], 10)
    shown = betas[np.argsort(stimuli, kind='stable')][order * 3]
    shown[4, 2] = np.nan
    test = repeat_test(shown, order, runs)
    assert (test.agreement[1], test.p[1]) == (0, 1)
    assert np.isnan(test.agreement[2])
    assert test.p[2] == 1
    assert test.p[3] < 1e-4
    ratio = ncsnr(betas, stimuli)
    assert ratio[1] == 0
    assert np.isnan(ratio[2])
    assert ratio[3] > 1e5
    assert noise_ceiling(ratio)[3] > 0.999


def test_snr_across_repeats_against_loops():
    counts = np.array([1, 2, 3, 3, 4, 1, 2])
    betas, stimuli, _ = simulate(counts, np.array([0.0, 1.0, 4.0]))
    repeated = [betas[stimuli == s].astype(float) for s in range(7) if counts[s] > 1]
    means = np.array([one.mean(axis=0) for one in repeated])
    noise = np.mean([one.var(axis=0, ddof=1) for one in repeated], axis=0)
    np.testing.assert_allclose(
        snr_across_repeats(betas, stimuli), means.var(axis=0, ddof=1) / noise, rtol=1e-4
    )


def test_tsnr_of_a_known_series_ignores_drift():
    rng = np.random.default_rng(0)
    time = np.linspace(-1, 1, 2000)[:, None]
    series = 800 + rng.standard_normal((2000, 3)) * [8, 20, 0]
    found = tsnr(series + 200 * time - 90 * time**2)
    np.testing.assert_allclose(found[:2], [100 - 90 / 24, 40 - 90 / 60], rtol=0.04)
    assert tsnr(series)[2] == 0
    line = series[:, :1] + 50 * time
    polynomial = np.polynomial.polynomial.polyfit(time[:, 0], line[:, 0], 2)
    residual = line[:, 0] - np.polynomial.polynomial.polyval(time[:, 0], polynomial)
    np.testing.assert_allclose(tsnr(line), line.mean() / residual.std(ddof=1), rtol=1e-5)


def test_isc_against_pearson_by_loops():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((4, 30, 5)) + rng.standard_normal((30, 5)) + 100
    found = leave_one_out_isc(series)
    for subject in range(4):
        others = np.delete(series, subject, axis=0).mean(axis=0)
        expected = [stats.pearsonr(series[subject, :, v], others[:, v])[0] for v in range(5)]
        np.testing.assert_allclose(found[subject], expected, atol=1e-6)


def test_isc_of_a_constant_voxel_is_zero():
    series = np.random.default_rng(0).standard_normal((3, 20, 2))
    series[:, :, 1] = 4
    assert (leave_one_out_isc(series)[:, 1] == 0).all()


@pytest.mark.slow
def test_blocks_do_not_change_results_and_memory_maps_work(tmp_path, monkeypatch):
    betas, stimuli, sessions = simulate(MIXES['mixed'][::5], RATIOS[::4], n_sessions=2)
    np.save(tmp_path / 'betas.npy', betas)
    mapped = np.load(tmp_path / 'betas.npy', mmap_mode='r')
    series = np.random.default_rng(0).standard_normal((3, 20, 11))
    runs = np.arange(len(betas)) % 3
    whole = [ncsnr(betas, stimuli, sessions), repeat_test(betas, stimuli, runs).agreement,
             tsnr(betas + 9),
             leave_one_out_isc(series), snr_across_repeats(betas, stimuli)]  # fmt: skip
    monkeypatch.setattr(groups, 'BLOCK_BYTES', 8 * len(betas) * 7)
    parts = [ncsnr(mapped, stimuli, sessions), repeat_test(mapped, stimuli, runs).agreement,
             tsnr(betas + 9),
             leave_one_out_isc(series), snr_across_repeats(mapped, stimuli)]  # fmt: skip
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


B = np.ones((4, 2))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: ncsnr(B, [1, 2, 3, 4]),
            reliability.NO_REPEATS.format(measure='The noise ceiling', stimuli=4),
        ),
        (
            lambda: ncsnr(B, [1, 1, 2]),
            groups.WRONG_LENGTH.format(n=3, what='stimulus', trials=4),
        ),
        (
            lambda: ncsnr(B, ['a', None, 'a', 'b']),
            groups.MISSING_LABEL.format(what='stimulus', n=1),
        ),
        (
            lambda: ncsnr(B, [1, 1, 2, 2], ['x', 'x', 'x', 'late']),
            reliability.SHORT_SESSION.format(session='late', n=1),
        ),
        (
            lambda: snr_across_repeats(B, [1, 1, 2, 3]),
            reliability.ONE_STIMULUS.format(measure='SNR across repeats'),
        ),
        (lambda: noise_ceiling(B[0], [0, 2]), reliability.BAD_COUNTS.format(counts=[0.0, 2.0])),
        (
            lambda: tsnr(B[0]),
            groups.WRONG_SHAPE.format(expected='volumes x voxels', shape=(2,)),
        ),
        (lambda: leave_one_out_isc(B[None]), reliability.FEW_SUBJECTS.format(n=1)),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
