"""Delays: planted shifts are found again, between volumes too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import make_interp_spline

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import delay
from bids_neurodecode.signals.delay import (
    Aligned,
    align_to_clock,
    fir_design,
    interpolation_weights,
)

TR = 1.3


def delay_series(series, repetition_time, seconds, method='cubic'):
    """Each volume of a film that lasts as long as its run; only the rows that have data."""
    clock = 0.0, len(series), repetition_time, seconds
    values, valid = align_to_clock(series, repetition_time, *clock, method=method)
    return Aligned(values[valid], valid)


def smooth(seconds, seed=0):
    """Ten slow waves as functions of time, (n_times, 10): BOLD has little above .1 Hz."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.01, 0.1, 10), rng.uniform(0, 2 * np.pi, 10)
    return np.sin(2 * np.pi * frequency * np.asarray(seconds)[:, None] + phase)


@pytest.mark.parametrize('seconds', [0, 1.3, 5.2, 7.8])
def test_whole_volumes_are_copied_exactly(seconds):
    series = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    aligned = delay_series(series, TR, seconds)
    n = round(seconds / TR)
    np.testing.assert_array_equal(aligned.values, series[n:])
    np.testing.assert_array_equal(aligned.valid, np.arange(30) < 30 - n)


@pytest.mark.parametrize('seconds', [0.4, 2.0, 4.7, 5.0])
@pytest.mark.parametrize(('method', 'tolerance'), [('cubic', 0.03), ('linear', 0.09)])
def test_a_planted_shift_is_undone(seconds, method, tolerance):
    times = np.arange(200) * TR
    response = smooth(times - seconds)  # follows the stimulus by that much
    aligned = delay_series(response, TR, seconds, method=method)
    error = np.abs(aligned.values - smooth(times)[aligned.valid])
    assert error[1:-1].max() < tolerance
    assert aligned.valid.sum() == 200 - np.ceil(seconds / TR)


@given(seconds=st.floats(0, 10))
def test_a_planted_delay_is_the_best_one(seconds):
    times = np.arange(150) * TR
    stimulus, response = smooth(times), smooth(times - seconds)
    tried = np.array([seconds + shift for shift in (0, 0.65, 1.3)] + [max(0, seconds - 0.65)])
    errors = []
    for one in tried:
        aligned = delay_series(response, TR, one)
        errors.append(np.mean((aligned.values - stimulus[aligned.valid]) ** 2))
    assert errors[0] <= min(errors) + 1e-6


def test_linear_equals_numpy_and_cubic_keeps_quadratics():
    rng = np.random.default_rng(1)
    series, times = rng.standard_normal((20, 1)), rng.uniform(0, 19, 50)
    weights, valid = interpolation_weights(times, 20, 'linear')
    np.testing.assert_allclose((weights @ series)[:, 0], np.interp(times, range(20), series[:, 0]))
    assert valid.all()
    inner = times[(times >= 1) & (times <= 18)]
    weights, _ = interpolation_weights(inner, 20, 'cubic')
    grid = np.arange(20.0)
    np.testing.assert_allclose(weights @ grid**2, inner**2, atol=1e-9)


def test_cubic_is_nearer_to_a_spline_than_linear():
    series = smooth(np.arange(100) * TR)
    times = np.linspace(5, 90, 77)
    spline = make_interp_spline(np.arange(100), series)(times)
    errors = [
        np.abs(interpolation_weights(times, 100, method)[0] @ series - spline).max()
        for method in ('cubic', 'linear')
    ]
    assert errors[0] < errors[1] / 2


@given(
    n=st.integers(2, 30),
    times=st.lists(st.floats(-5, 40), min_size=1, max_size=20),
    method=st.sampled_from(['linear', 'cubic']),
)
def test_weights_sum_to_one_inside_and_zero_outside(n, times, method):
    weights, valid = interpolation_weights(np.array(times), n, method)
    np.testing.assert_allclose(weights.sum(axis=1), valid.astype(float), atol=1e-9)


def test_clock_of_a_film():
    volumes = smooth(np.arange(100) * TR - 5.2)
    onset, period = 11.7, 0.9
    aligned = align_to_clock(volumes, TR, onset, 60, period, 5.2)
    film = smooth(onset + np.arange(60) * period)
    assert aligned.valid.all()
    np.testing.assert_allclose(aligned.values, film, atol=0.03)


def test_clock_counts_the_time_of_the_first_volume():
    series = np.arange(20, dtype=float)[:, None]
    late = align_to_clock(series, 2.0, 4.0, 5, 2.0, 0.0, start_time=1.0)
    np.testing.assert_allclose(late.values[:, 0], [1.5, 2.5, 3.5, 4.5, 5.5], rtol=1e-6)


def test_clock_outside_of_the_series_is_nan():
    series = np.ones((10, 2))
    aligned = align_to_clock(series, 2.0, -4.0, 15, 2.0, 2.0)
    np.testing.assert_array_equal(aligned.valid, [False] + [True] * 10 + [False] * 4)
    assert np.isnan(aligned.values[~aligned.valid]).all()
    assert (aligned.values[aligned.valid] == 1).all()


def test_censored_volumes_spoil_only_their_neighbours():
    series = np.random.default_rng(0).standard_normal((20, 3))
    series[10] = np.nan
    on_grid = delay_series(series, 2.0, 2.0)
    assert np.flatnonzero(~on_grid.valid).tolist() == [9, 19]
    between = delay_series(series, 2.0, 1.0, method='linear')
    assert np.flatnonzero(~between.valid).tolist() == [9, 10, 19]
    assert np.isfinite(between.values).all()
    assert between.values.shape == (17, 3)


def test_nan_voxel_stays_in_its_column():
    series = np.ones((20, 3))
    series[:, 1] = np.nan
    values = delay_series(series, 2.0, 1.0).values
    assert np.isnan(values[:, 1]).all()
    assert (values[:, [0, 2]] == 1).all()


def test_fir_whole_delays_against_a_loop():
    features = np.random.default_rng(0).standard_normal((25, 3)).astype(np.float32)
    design = fir_design(features, TR, [0, 1.3, 3.9])
    assert design.shape == (25, 9)
    for block, n in enumerate((0, 1, 3)):
        expected = np.vstack([np.zeros((n, 3)), features[: 25 - n]])
        np.testing.assert_array_equal(design[:, 3 * block : 3 * block + 3], expected)


def test_fir_fractional_delay_is_between_its_neighbours():
    features = np.random.default_rng(0).standard_normal((25, 3))
    early, middle, late = np.split(fir_design(features, 2.0, [2.0, 2.5, 4.0]), 3, axis=1)
    np.testing.assert_allclose(middle, 0.75 * early + 0.25 * late, atol=1e-6)


def test_fir_recovers_a_planted_response():
    rng = np.random.default_rng(0)
    features, weights = rng.standard_normal((400, 2)), rng.standard_normal((6, 1))
    design = fir_design(features, 2.0, [2, 4, 6])
    y = np.zeros((400, 1))
    for t in range(400):
        for d in range(3):
            for f in range(2):
                if t - d - 1 >= 0:
                    y[t] += features[t - d - 1, f] * weights[2 * d + f]
    np.testing.assert_allclose(np.linalg.lstsq(design, y, rcond=None)[0], weights, atol=1e-5)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: delay_series(np.ones((5, 2)), 2.0, -1.0),
            delay.NEGATIVE_DELAY.format(delay=-1.0),
        ),
        (
            lambda: delay_series(np.ones(5), 2.0, 0.0),
            delay.WRONG_SHAPE.format(rows='volumes', columns='voxels', shape=(5,)),
        ),
        (
            lambda: align_to_clock(np.ones((5, 2)), 2.0, 50.0, 3, 1.0, 5.0),
            delay.OUTSIDE.format(onset=50.0, delay=5.0, start=0.0, end=8.0),
        ),
        (lambda: fir_design(np.ones((5, 2)), 2.0, []), delay.NO_DELAYS),
        (
            lambda: fir_design(np.ones((5, 2)), 2.0, [1.0, -2.0]),
            delay.NEGATIVE_DELAY.format(delay=-2.0),
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message
