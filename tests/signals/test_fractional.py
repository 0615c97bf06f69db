"""Fractional ridge against the fracridge package, and the scores that choose a fraction."""

import numpy as np
import pytest
from fracridge import fracridge
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.badness import NO_REPEATS, Judge, RunJudges, find_repeats
from bids_neurodecode.signals.fractional import fit_scale_offset, penalties

FRACTIONS = [1.0, 0.95, 0.7, 0.5, 0.2, 0.05]


def shrink(rotated, singular, penalty):
    squares = singular[:, None] ** 2
    return rotated * squares / (squares + penalty)


@pytest.mark.parametrize('collinear', [0.0, 0.98])
def test_equals_the_package(collinear):
    rng = np.random.default_rng(0)
    design = rng.normal(size=(60, 12)) + collinear * 10 * rng.normal(size=(60, 1))
    data = rng.normal(size=(60, 25))
    expected, alphas = fracridge(design, data, np.sort(FRACTIONS), jit=False)
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    rotated = (left.T @ data) / singular[:, None]
    # the parts of a design (its runs) may come one by one
    found = penalties(
        [rotated[:5], rotated[5:]], [singular[:5] ** 2, singular[5:] ** 2], FRACTIONS
    )
    np.testing.assert_allclose(found, alphas[::-1], rtol=1e-5, atol=1e-8)
    for number, penalty in enumerate(found):
        betas = right.T @ shrink(rotated, singular, penalty)
        np.testing.assert_allclose(betas, expected[:, -1 - number], rtol=1e-4, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_lengths_are_the_fractions(seed):
    rng = np.random.default_rng(seed)
    rotated, singular = rng.normal(size=(8, 5)), rng.uniform(0.1, 5, 8)
    whole = np.linalg.norm(rotated, axis=0)
    found = penalties([rotated], [singular**2], FRACTIONS)
    for fraction, penalty in zip(FRACTIONS, found, strict=True):
        length = np.linalg.norm(shrink(rotated, singular, penalty), axis=0)
        # between two points of the grid of penalties the length is interpolated
        np.testing.assert_allclose(length / whole, fraction, atol=0.02)


def test_a_voxel_without_betas_stays_so():
    found = penalties([np.zeros((4, 2), dtype=np.float32)], [np.ones(4)], [1.0, 0.5])
    assert np.isfinite(found).all()


def test_scale_and_offset():
    rng = np.random.default_rng(1)
    target = rng.normal(3, 1, (50, 4))
    betas = np.stack(
        [0.2 * target[:, 0] + 1, -target[:, 1], np.full(50, 2.0), target[:, 3]], axis=1
    )
    betas[:, 3] += rng.normal(size=50)
    scale, offset = fit_scale_offset(betas, target)
    np.testing.assert_allclose(scale[:3], [5, 1, 1])
    np.testing.assert_allclose(offset[:3], [-5, 0, 0], atol=1e-9)
    np.testing.assert_allclose(
        [scale[3], offset[3]], np.polyfit(betas[:, 3], target[:, 3], 1), rtol=1e-6
    )


def loop_badness(betas, reference, condition, run, session):
    """The cross-validation as it is told: runs held out, pairs of trials one by one."""
    z, z_reference = np.zeros_like(betas), np.zeros_like(betas)
    for code in np.unique(session):
        rows = session == code
        mean, deviation = reference[rows].mean(axis=0), reference[rows].std(axis=0, ddof=1)
        z[rows] = (betas[rows] - mean) / deviation
        z_reference[rows] = (reference[rows] - mean) / deviation
    total = np.zeros(betas.shape[1])
    for held_out in np.unique(run):
        for test in np.flatnonzero(run == held_out):
            for train in np.flatnonzero((run != held_out) & (condition == condition[test])):
                total += (z[train] - z_reference[test]) ** 2
    return total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_badness_equals_the_loop(seed, masked):
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(4), 6)
    session = np.repeat([0, 1], 12)
    condition = rng.integers(0, 5, 24)
    betas = rng.normal(1, 2, (24, 3)).astype(np.float32)
    reference = rng.normal(1, 2, (24, 3)).astype(np.float32)
    mask = run != 3 if masked else np.ones(24, dtype=bool)
    repeats = find_repeats(condition, run, session, mask=mask)
    parts = [values[mask] for values in (betas, reference, condition, run, session)]
    expected = loop_badness(*parts)
    np.testing.assert_allclose(judged(repeats, betas, reference, session), expected, rtol=1e-4)
    plain = loop_badness(parts[1], *parts[1:])
    judge = Judge(repeats, reference, session)
    np.testing.assert_allclose(judge.unregularised, plain, rtol=1e-4)
    # what is masked has no say
    betas[~mask], reference[~mask] = 20, -20
    np.testing.assert_allclose(judged(repeats, betas, reference, session), expected, rtol=1e-4)


def judged(repeats, betas, reference, session):
    """Sum what each run of six trials adds, beside a judge of other trials."""
    other = find_repeats(np.tile(np.arange(6), 4), np.repeat(np.arange(4), 6), session)
    judges = [Judge(each, reference, session) for each in (other, repeats)]
    total = judges[1].constant.copy()
    for start in range(0, 24, 6):
        trials = slice(start, start + 6)
        of_run = RunJudges(judges, trials)
        total += of_run.of(betas[trials] - of_run.centre)[1]
    return total


def test_what_components_add_equals_the_loop():
    rng = np.random.default_rng(3)
    run, session = np.repeat(np.arange(4), 6), np.repeat([0, 1], 12)
    condition = rng.integers(0, 5, 24)
    plain = rng.normal(1, 2, (24, 3)).astype(np.float32)
    spread = rng.normal(size=(4, 6, 2)).astype(np.float32)
    on = rng.normal(size=(4, 2, 3)).astype(np.float32)
    judge = Judge(find_repeats(condition, run, session), plain, session)
    gains = sum(
        judge.gains(slice(6 * k, 6 * k + 6), plain[6 * k : 6 * k + 6], spread[k], on[k])
        for k in range(4)
    )
    found = judge.unregularised + np.cumsum(gains, axis=0)
    for k in (1, 2):
        taken = np.concatenate([s[:, :k] @ o[:k] for s, o in zip(spread, on, strict=True)])
        expected = loop_badness(plain - taken, plain, condition, run, session)
        np.testing.assert_allclose(found[k - 1], expected, rtol=1e-4)


def test_flat_voxels_have_no_badness():
    run, condition = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    flat, session = np.full((6, 1), 2.0, dtype=np.float32), np.zeros(6, dtype=np.intp)
    judge = Judge(find_repeats(condition, run, session), flat, session)
    assert judge.unregularised == 0
    assert judge.constant == 0


@pytest.mark.parametrize('mask', [None, np.zeros(4, dtype=bool)])
def test_no_repeats(mask):
    condition = np.array([0, 0, 1, 1]) if mask is None else np.array([0, 1, 0, 1])
    run = np.array([0, 0, 1, 1])
    with pytest.raises(DataError) as caught:
        find_repeats(condition, run, run * 0, mask=mask, where=' of tuning set 7')
    assert str(caught.value) == NO_REPEATS.format(where=' of tuning set 7')
