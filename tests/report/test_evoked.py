"""Evoked responses: a planted response comes back, whatever the onsets, and only where it can."""

import numpy as np
import pytest

from bids_neurodecode.report import evoked
from bids_neurodecode.signals.clean import AS_IN_THE_SERIES, PERCENT
from bids_neurodecode.signals.hrf import hrf_library

TR = 2.0


def planted(rng, onsets, shape, n_volumes=200, noise=0.0):
    """Return a series of one voxel: baseline 400, drift, and a response to each onset."""
    volumes = np.arange(n_volumes) * TR
    fine = np.arange(len(shape)) * 0.1
    series = sum(np.interp(volumes - t, fine, shape, left=0, right=0) for t in onsets)
    drift = np.cos(np.pi * (np.arange(n_volumes) + 0.5) / n_volumes)
    return (400 * (1 + (series + drift + noise * rng.normal(size=n_volumes)) / 100))[:, None]


def onsets_of(rng, n=60, off_grid=False):
    onsets = 10 + np.cumsum(rng.choice([4.0, 6.0, 8.0], size=n))
    return onsets + (rng.uniform(0, TR, n) if off_grid else 0)


@pytest.mark.parametrize('off_grid', [False, True])
def test_a_planted_response_comes_back(off_grid):
    rng = np.random.default_rng(0)
    shape = 2 * hrf_library(0.1, 2.0)[:, 7]
    runs = [
        (planted(rng, onsets, shape), onsets)
        for onsets in (onsets_of(rng, off_grid=off_grid) for _ in range(2))
    ]
    found = evoked.finite_impulse_response(runs, TR, 2.0)
    assert found is not None
    lags, response = found.lags, found.responses
    truth = np.interp(lags, np.arange(len(shape)) * 0.1, shape, left=0)
    # neighbouring trials overlap (4 to 8 s apart): an average over trials would be far off
    assert np.abs(response[:, 0] - truth).max() < (0.3 if off_grid else 0.06)


@pytest.mark.parametrize('scale', [1.0, 0.01])
def test_series_without_a_mean_keep_their_units(scale):
    """Centred series, and series that were divided by their deviation too."""
    rng = np.random.default_rng(0)
    onsets = onsets_of(rng)
    series = planted(rng, onsets, 2 * hrf_library(0.1, 2.0)[:, 7], noise=0.3)
    series = np.concatenate([series, series], axis=1)
    whole = evoked.finite_impulse_response([(series, onsets)], TR, 2.0)
    mean = series.mean(axis=0)
    centred = (scale * (series - mean)).astype(np.float32)
    found = evoked.finite_impulse_response([(centred, onsets)], TR, 2.0)
    assert (whole.units, found.units) == (PERCENT, AS_IN_THE_SERIES)
    np.testing.assert_allclose(found.responses, scale * whole.responses * mean / 100, atol=1e-3)
    figure = evoked.plot_evoked(found, 2.0)
    assert figure.axes[0].get_ylabel() == 'units of the series'
    assert evoked.plot_evoked(whole, 2.0).axes[0].get_ylabel() == '% signal change'


def test_no_response_without_one():
    rng = np.random.default_rng(1)
    onsets = onsets_of(rng)
    series = planted(rng, onsets, np.zeros(300), noise=1.0)
    found = evoked.finite_impulse_response([(series, onsets)], TR, 2.0)
    assert found is not None
    assert np.abs(found.responses).max() < 1.0


def test_trials_at_one_distance_without_pause_determine_nothing():
    rng = np.random.default_rng(2)
    onsets = np.arange(0, 400, 4.0)
    series = planted(rng, onsets, hrf_library(0.1, 2.0)[:, 0])
    assert evoked.finite_impulse_response([(series, onsets)], TR, 2.0) is None


def test_blocks_far_apart_are_estimated_to_their_end():
    """Blocks of 22 s every 36 s: one distance, and still determined."""
    rng = np.random.default_rng(3)
    onsets = 14.0 + 36.0 * np.arange(8)
    shape = hrf_library(0.1, 22.0)[:, 3]
    series = planted(rng, onsets, shape, n_volumes=160)
    found = evoked.finite_impulse_response([(series, onsets)], TR, 22.0)
    assert found is not None
    lags, response = found.lags, found.responses
    assert (lags[0], lags[-1]) == (-4, 30)
    truth = np.interp(lags, np.arange(len(shape)) * 0.1, shape, left=0)
    # what outlasts the window is no more than the undershoot
    assert np.abs(response[:, 0] - truth).max() < 0.2


@pytest.mark.parametrize(
    ('gap', 'window'), [(4.0, 20.0), (11.0, 20.0), (16.0, 10.0), (30.0, 20.0)]
)
def test_the_window_ends_before_the_next_trial_where_there_is_room(gap, window):
    assert evoked.window_of([np.arange(5) * gap], 2.0, TR) == window


@pytest.mark.parametrize(('late', 'early'), [(0.0, False), (5.0, True), (-2.0, False)])
def test_events_that_are_late_are_told(late, early):
    rng = np.random.default_rng(4)
    onsets = onsets_of(rng)
    runs = planted(rng, onsets, hrf_library(0.1, 2.0)[:, 5], noise=0.1)
    runs = np.concatenate([runs, 1.1 * runs], axis=1)
    found = evoked.finite_impulse_response([(runs, onsets + late)], TR, 2.0)
    assert found is not None
    assert evoked.begins_early(found) == early


def test_the_fitted_shape_lies_on_a_response_of_that_shape():
    lags = (np.arange(15) - evoked.BEFORE) * TR
    shape = hrf_library(0.25, 3.0)[:, 11]
    response = 1.7 * np.interp(lags, np.arange(len(shape)) * 0.25, shape, left=0)
    shown = evoked.with_library(
        evoked.Evoked(lags, response[:, None]), np.array([11, 11, 11]), 3.0
    )
    assert shown.fitted is not None
    assert shown.fitted.max() == pytest.approx(1.7, rel=1e-3)
    figure = evoked.plot_evoked(shown, 3.0)
    assert len(figure.axes[0].lines) == 4
