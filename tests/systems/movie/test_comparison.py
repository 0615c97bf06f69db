"""Two models of the same responses: the difference of their correlations, and its p."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.samples import Fold, Responses, Samples, Split, VoxelMask
from bids_neurodecode.systems.movie.comparison import compare_models
from bids_neurodecode.systems.movie.parts import standardize_within

TR, N, V = 1.5, 600, 30


def world(gain, seed=0, n_folds=2):
    """Responses, and two models of them of which the first has more of the signal."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(N, V))
    values = signal + rng.normal(size=(N, V))
    models = [signal * g + rng.normal(size=(N, V)) for g in (1 + gain, 1.0)]
    half = np.repeat([0, 1], N // 2)
    table = pd.DataFrame(
        {'film': half.astype(str), 'onset': np.arange(N) % (N // 2) * TR, 'run': half}
    )
    table['stimulus'] = table['film'] + '#' + table['onset'].astype(str)
    rows = np.arange(N)
    folds = tuple(Fold(rows[half != k], rows[half == k]) for k in range(n_folds))
    mask = VoxelMask(np.ones((V, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(values.astype(np.float32), mask), table)
    rows = np.sort(np.concatenate([fold.test for fold in folds]))
    return (
        samples,
        Split('film', folds, table),
        rows,
        *(x[rows].astype(np.float32) for x in models),
    )


def compared(samples, split, rows, a, b):
    return compare_models(samples, split, rows, a, b, repetition_time=TR, confidence=0.95)


def test_the_difference_is_that_of_the_mean_correlations():
    samples, split, rows, a, b = world(0.5)
    found = compared(samples, split, rows, a, b)
    parts = samples.table['film'].to_numpy(dtype=str)
    truth = standardize_within(samples.values, parts)
    r = [pearson_by_column(truth, standardize_within(x, parts)).mean() for x in (a, b)]
    assert found.mean == pytest.approx(r[0] - r[1], abs=1e-6)
    assert found.low < found.mean < found.high
    assert found.p < 0.001
    assert found.n == 30
    back = compared(samples, split, rows, b, a)
    assert (back.mean, back.p) == (pytest.approx(-found.mean), pytest.approx(found.p))


def test_levels_of_presentations_are_no_difference():
    samples, _, rows, a, b = world(0.5)
    test = np.flatnonzero(rows % (N // 2) >= N // 4)
    split = Split('time', (Fold(np.setdiff1d(rows, test), test),), samples.table)
    other = np.where(rows >= N // 2, 20, 0)[:, None].astype(np.float32)
    shifted = Samples(Responses(samples.values + other, samples.responses.mask), samples.table)
    plain, level = (
        compared(x, split, test, first[test], b[test])
        for x, first in ((samples, a), (shifted, a + other))
    )
    assert level.mean == pytest.approx(plain.mean, abs=1e-5)


def test_folds_that_train_each_other_widen_the_interval():
    whole = compared(*world(0.5))
    one = compared(*world(0.5, n_folds=1))
    # half of the blocks, but no training data in common
    assert (one.high - one.low) / (whole.high - whole.low) == pytest.approx(1.0, abs=0.3)


def test_two_models_alike_are_told_apart_as_often_as_p_says():
    p = [compared(*world(0.0, seed)).p for seed in range(40)]
    assert np.mean(np.array(p) < 0.05) <= 0.15


def test_voxels_that_a_fold_does_not_use_are_left_out():
    samples, split, rows, a, b = world(0.5)
    a[:, 3] = np.nan
    left = compared(samples, split, rows, a, b)
    keep = np.arange(V) != 3
    some = compared(samples.voxels(keep), split, rows, a[:, keep], b[:, keep])
    assert left.mean == pytest.approx(some.mean)


def test_too_few_blocks_have_no_p():
    samples, _, rows, a, b = world(0.5)
    short = Split('film', (Fold(np.arange(300, 600), np.arange(60)),), samples.table)
    found = compared(samples, short, rows[:60], a[:60], b[:60])
    assert np.isnan([found.low, found.high, found.p]).all()
    assert found.mean > 0
