"""Cleaning: against least squares, scipy and planted confounds."""

import numpy as np
import pytest
from nilearn.signal import clean as nilearn_clean
from scipy import signal as scipy_signal

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import clean
from bids_neurodecode.signals.clean import clean_series, lacks_mean, with_baseline

TR = 2.0


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def cosines(n_volumes, high_pass, repetition_time):
    order = int(np.floor(2 * n_volumes * high_pass * repetition_time))
    time = np.arange(n_volumes) + 0.5
    return np.stack([np.cos(np.pi * k * time / n_volumes) for k in range(1, order + 1)], axis=1)


def residuals(values, *regressors):
    """What least squares leaves of the values."""
    X = np.column_stack([np.ones(len(values)), *regressors])
    return values - X @ np.linalg.lstsq(X, values, rcond=None)[0]


def test_equals_least_squares_on_all_regressors():
    series, confounds = 100 + noise((120, 7)), noise((120, 5), 1)
    cleaned = clean_series(series, TR, confounds=confounds, high_pass=0.01, scaling='none')
    line = np.arange(120.0)
    # detrending comes first and applies to confounds and cosines alike
    expected = residuals(series, line, confounds, cosines(120, 0.01, TR))
    np.testing.assert_allclose(cleaned, expected, atol=1e-5)
    assert cleaned.dtype == np.float32


def test_without_options_is_a_linear_detrend():
    series = noise((50, 3)) + np.linspace(0, 30, 50)[:, None]
    cleaned = clean_series(series, TR, scaling='none')
    np.testing.assert_allclose(cleaned, scipy_signal.detrend(series, axis=0), atol=1e-5)


def test_percent_signal_change_is_relative_to_the_mean_before_cleaning():
    time = np.arange(200)
    wave = np.sin(2 * np.pi * time / 10)
    means = np.array([500.0, 2000.0, -80.0])
    series = means * (1 + 0.02 * wave[:, None])
    cleaned = clean_series(series, TR, high_pass=0.005)
    amplitude = cleaned.std(axis=0) * np.sqrt(2)
    np.testing.assert_allclose(amplitude, [2, 2, 2], rtol=0.02)


def test_drift_is_removed_and_the_task_kept():
    time = np.arange(300) * TR
    drift = np.cos(np.pi * (np.arange(300) + 0.5) / 300)
    task = np.sin(2 * np.pi * time / 20)
    cleaned = clean_series((100 + 5 * drift + task)[:, None], TR, high_pass=0.01, scaling='none')
    assert np.corrcoef(cleaned[:, 0], task)[0, 1] > 0.99
    assert abs(np.corrcoef(cleaned[:, 0], drift)[0, 1]) < 0.01


def test_zscore_has_unit_deviation_and_constant_voxels_are_zero():
    series = noise((60, 4)) * [1, 10, 0, 3] + 1000.1
    cleaned = clean_series(series, TR, scaling='zscore', high_pass=0.01)
    np.testing.assert_allclose(cleaned.std(axis=0, ddof=1), [1, 1, 0, 1], atol=1e-5)


def test_zero_voxel_gives_zeros_and_nan_voxel_stays_nan():
    series = 100 + noise((60, 4))
    series[:, 1] = 0
    series[7, 2] = np.nan
    cleaned = clean_series(series, TR)
    assert (cleaned[:, 1] == 0).all()
    assert np.isnan(cleaned[:, 2]).all()
    assert np.isfinite(cleaned[:, [0, 3]]).all()


@pytest.mark.parametrize('scaling', ['psc', 'zscore', 'none'])
def test_blocks_of_voxels_do_not_change_the_result(scaling, monkeypatch):
    series = (100 + noise((40, 11))).astype(np.float32)
    whole = clean_series(series, TR, high_pass=0.02, scaling=scaling)
    monkeypatch.setattr(clean, 'BLOCK_BYTES', 8 * 40 * 3)
    # one block more or less changes the order of sums only
    np.testing.assert_allclose(
        clean_series(series, TR, high_pass=0.02, scaling=scaling), whole, atol=1e-5
    )


def test_censored_volumes_are_nan_and_have_no_say():
    series, confounds = 100 + noise((80, 5)), noise((80, 2), 3)
    kept = np.ones(80, dtype=bool)
    kept[[10, 11, 40]] = False
    spoiled = series.copy()
    spoiled[~kept] = 1e6
    once = clean_series(series, TR, confounds=confounds, high_pass=0.01, kept=kept)
    again = clean_series(spoiled, TR, confounds=confounds, high_pass=0.01, kept=kept)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(np.isnan(once).all(axis=1), ~kept)
    assert once.shape == series.shape


def test_equals_nilearns_cosine_filter():
    series, confounds = 100 + noise((90, 4)), noise((90, 3), 1)
    expected = nilearn_clean(
        series, standardize=None, confounds=confounds, filter='cosine', high_pass=0.01, t_r=TR
    )
    cleaned = clean_series(series, TR, confounds=confounds, high_pass=0.01, scaling='none')
    np.testing.assert_allclose(cleaned, expected, atol=1e-5)


def test_cosines_among_the_confounds_do_not_replace_the_high_pass():
    series, own = 100 + noise((120, 3)), cosines(120, 0.0078, TR)
    both = clean_series(series, TR, confounds=own, high_pass=0.03, scaling='none')
    alone = clean_series(series, TR, high_pass=0.03, scaling='none')
    np.testing.assert_allclose(both, alone, atol=1e-5)


def test_confounds_that_depend_on_each_other_count_once():
    series, confounds = 100 + noise((30, 3)), noise((30, 4), 1)
    many = np.hstack([confounds] * 10 + [np.ones((30, 2)), np.arange(30.0)[:, None]])
    once = clean_series(series, TR, confounds=confounds)
    np.testing.assert_allclose(clean_series(series, TR, confounds=many), once, atol=1e-5)


def test_the_input_is_not_changed():
    series, confounds = 100 + noise((50, 3)), noise((50, 2), 1)
    copies = series.copy(), confounds.copy()
    clean_series(series, TR, confounds=confounds, high_pass=0.01)
    np.testing.assert_array_equal(series, copies[0])
    np.testing.assert_array_equal(confounds, copies[1])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'series': noise(50)}, clean.WRONG_SHAPE.format(shape=(50,))),
        (
            {'confounds': noise((40, 2))},
            clean.CONFOUNDS_SHAPE.format(shape=(40, 2), volumes=50),
        ),
        (
            {'confounds': np.full((50, 2), np.nan)},
            clean.CONFOUNDS_NOT_FINITE.format(columns='0, 1'),
        ),
        ({'confounds': noise((50, 60))}, clean.TOO_MANY.format(n=50, volumes=50)),
        ({'high_pass': 0.3}, clean.BAD_HIGH_PASS.format(high_pass=0.3, nyquist=0.25)),
        ({'high_pass': -0.1}, clean.BAD_HIGH_PASS.format(high_pass=-0.1, nyquist=0.25)),
        (
            {'kept': np.zeros(50, dtype=bool)},
            clean.BAD_KEPT.format(volumes=50, shape=(50,), n=0),
        ),
        ({'series': noise((50, 4))}, clean.NO_BASELINE.format(share=1.0)),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {'series': 100 + noise((50, 4)), 'repetition_time': TR, **change}
    with pytest.raises(DataError) as error:
        clean_series(**arguments)
    assert str(error.value) == message


def test_series_without_a_mean_are_told_and_given_one():
    rng = np.random.default_rng(3)
    series = (1000 + rng.normal(0, 10, (80, 30))).astype(np.float32)
    series[:, 0] = 0
    assert not lacks_mean(series)
    centred = series - series.mean(axis=0)
    assert lacks_mean(centred)
    assert lacks_mean(centred / np.where(centred.std(axis=0) > 0, centred.std(axis=0), 1))
    assert not lacks_mean(np.zeros((5, 3), dtype=np.float32))
    based = with_baseline(centred, 8.0)
    np.testing.assert_allclose(based[:, 1:].mean(axis=0), 800, rtol=1e-5)
    # a percent of the new mean is one unit: deviations are what they were
    np.testing.assert_allclose(based[:, 1:] - 800, centred[:, 1:], atol=1e-3)
    assert not based[:, 0].any()
