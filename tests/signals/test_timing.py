"""Onsets on and off the grid of volumes, and series on finer grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.signals.timing import (
    BAD_ONSET,
    BEFORE_RUN,
    BEYOND_RUN,
    COARSER,
    SAME_VOLUME,
    finer_grid,
    largest_offset,
    onsets_to_volumes,
    resample_series,
)


@given(
    st.floats(0.5, 3.0),
    st.sets(st.integers(0, 199), min_size=1),
    st.floats(-0.04, 0.04),
)
def test_onsets_on_the_grid_are_found_again(repetition_time, volumes, jitter):
    expected = np.array(sorted(volumes))
    onsets = expected * repetition_time + jitter
    np.testing.assert_array_equal(onsets_to_volumes(onsets, repetition_time, 200), expected)


def test_off_grid_says_by_how_much_and_the_way_out():
    with pytest.raises(DataError) as caught:
        onsets_to_volumes([0, 2.0, 4.5, 7.0, 9.5], 2.0, 100)
    message = str(caught.value)
    assert '3 of 5' in message
    assert 'by up to 1 s' in message
    assert 'betas.off_grid = "resample"' in message
    assert 'a grid of 0.5 s holds them all' in message


def raises(template, onsets, **fields):
    with pytest.raises(DataError) as caught:
        onsets_to_volumes(onsets, 2.0, 10)
    assert str(caught.value) == template.format(**fields)


def test_onsets_that_cannot_be():
    raises(BEFORE_RUN, [-2.0, 0.0], onset=-2.0)
    raises(BEYOND_RUN, [0.0, 20.0], onset=20.0, end=20.0, n_volumes=10, repetition_time=2.0)
    raises(SAME_VOLUME, [4.04, 0.0, 4.0], first=4.04, second=4.0, repetition_time=2.0)
    raises(BAD_ONSET, [0.0, np.nan], index=1, onset=np.nan)


def test_no_onsets_is_no_error():
    assert onsets_to_volumes([], 2.0, 10).size == 0
    assert largest_offset([], 2.0) == 0


@pytest.mark.parametrize(
    ('onsets', 'repetition_time', 'expected'),
    [
        ([[0, 4, 8], [2, 6]], 2.0, 2.0),  # fits as it is
        ([[0.0, 300.5, 411.0], [7.5, 120.0]], 1.6, 0.5),  # no fraction of the repetition time
        ([[1 / 3, 100 / 3], [250 / 3]], 1.0, 1 / 3),  # no whole millisecond
    ],
)
def test_finer_grid_is_the_largest(onsets, repetition_time, expected):
    grid = finer_grid(onsets, repetition_time, tolerance=0.01)
    assert grid.repetition_time == pytest.approx(expected)
    assert grid.fits
    assert grid.largest_offset <= 0.01


def test_no_grid_fits():
    onsets = np.cumsum(np.random.default_rng(0).uniform(2, 3, 50))
    grid = finer_grid([onsets], 2.0, tolerance=0.001)
    assert not grid.fits
    assert grid.repetition_time == 0.1
    assert 0.001 < grid.largest_offset <= 0.05


def test_resampled_series_keep_samples_and_follow_the_curve():
    times = np.arange(100) * 2.0
    fine = np.arange(397) * 0.5
    curve = np.stack([np.sin(times / 8), np.cos(times / 11)], axis=1)
    expected = np.stack([np.sin(fine / 8), np.cos(fine / 11)], axis=1)
    found = resample_series(curve, 2.0, 0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(found[::4], curve, atol=1e-6)


def test_resampling_keeps_bad_voxels_apart():
    series = np.random.default_rng(0).normal(size=(20, 3))
    series[4, 1] = np.nan
    found = resample_series(series, 1.0, 0.4)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2]]).all()
    assert np.isnan(series).sum() == 1


def test_resampling_to_a_coarser_grid_is_refused():
    with pytest.raises(ArgumentsError) as caught:
        resample_series(np.zeros((5, 1)), 1.0, 2.0)
    assert str(caught.value) == COARSER.format(new=2.0, old=1.0)
