"""Fractional ridge against the fracridge package, and the scores that choose a fraction."""

import numpy as np
import pytest
from fracridge import fracridge
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.badness import NO_REPEATS, Badness, find_repeats
from bids_neurodecode.signals.fractional import fit_scale_offset, penalties, shrink

FRACTIONS = [1.0, 0.95, 0.7, 0.5, 0.2, 0.05]


@pytest.mark.parametrize('collinear', [0.0, 0.98])
def test_equals_the_package(collinear):
    rng = np.random.default_rng(0)
    design = rng.normal(size=(60, 12)) + collinear * 10 * rng.normal(size=(60, 1))
    data = rng.normal(size=(60, 25))
    expected, alphas = fracridge(design, data, np.sort(FRACTIONS), jit=False)
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    rotated = (left.T @ data) / singular[:, None]
    found = penalties(rotated, singular, FRACTIONS)
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
    for fraction, penalty in zip(FRACTIONS, penalties(rotated, singular, FRACTIONS), strict=True):
        length = np.linalg.norm(shrink(rotated, singular, penalty), axis=0)
        # between two points of the grid of penalties the length is interpolated
        np.testing.assert_allclose(length / whole, fraction, atol=0.02)


def test_a_voxel_without_betas_stays_so():
    found = penalties(np.zeros((4, 2), dtype=np.float32), np.ones(4), [1.0, 0.5])
    assert np.isfinite(found).all()
    assert not shrink(np.zeros((4, 2), dtype=np.float32), np.ones(4), found[1]).any()


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
    judge = Badness(find_repeats(condition, run, session, mask=mask), reference)
    parts = [values[mask] for values in (betas, reference, condition, run, session)]
    np.testing.assert_allclose(judge.of(betas), loop_badness(*parts), rtol=1e-4)
    # what is masked has no say
    betas[~mask], reference[~mask] = 1e6, -1e6
    again = Badness(find_repeats(condition, run, session, mask=mask), reference)
    np.testing.assert_allclose(again.of(betas), judge.of(betas), rtol=1e-5)


def test_flat_voxels_have_no_badness():
    run, condition = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    flat = np.full((6, 1), 2.0, dtype=np.float32)
    judge = Badness(find_repeats(condition, run, np.zeros(6, dtype=np.intp)), flat)
    assert judge.of(flat) == 0


@pytest.mark.parametrize('mask', [None, np.zeros(4, dtype=bool)])
def test_no_repeats(mask):
    condition = np.array([0, 0, 1, 1]) if mask is None else np.array([0, 1, 0, 1])
    run = np.array([0, 0, 1, 1])
    with pytest.raises(DataError) as caught:
        find_repeats(condition, run, run * 0, mask=mask, where=' of tuning set 7')
    assert str(caught.value) == NO_REPEATS.format(where=' of tuning set 7')
