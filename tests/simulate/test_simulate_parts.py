"""The parts of the simulation, each against an independent oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode.bids.video import write_video
from bids_neurodecode.simulate import (
    confounds,
    design,
    features,
    noise,
    realnoise,
    response,
    stimuli,
    truth,
)


def test_ar1_has_the_variance_and_correlation_asked_for():
    rng = np.random.default_rng(0)
    series = noise.ar1(400, 500, 0.4, rng)
    assert abs(series.var() - 1) < 0.02
    for lag in (1, 2, 3):
        assert abs((series[lag:] * series[:-lag]).mean() - 0.4**lag) < 0.02
    assert abs(series[0].var() - 1) < 0.2  # stationary from the first volume


def test_brain_noise_shares_what_is_asked_for():
    rng = np.random.default_rng(0)
    loadings = np.ones((1, 300))
    series = noise.brain_noise(loadings, 3000, 0.3, 0.25, rng)
    correlation = np.corrcoef(series.T)[np.triu_indices(300, 1)]
    assert abs(correlation.mean() - 0.25) < 0.03
    assert abs(series.var() - 1) < 0.05
    assert abs((series[1:] * series[:-1]).mean() - 0.3) < 0.03


def test_drift_is_slow():
    series = noise.drift(200, 50, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(np.concatenate([series, series[::-1]]), axis=0)) ** 2
    assert power[:4].sum() / power.sum() > 0.95
    np.testing.assert_allclose(series.std(axis=0), 1)


def test_physiology_is_aliased_breathing_and_heart_beat():
    columns = noise.physiology(2000, 0.1, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(columns, axis=0)) ** 2
    peak = np.fft.rfftfreq(2000, 0.1)[power.argmax(axis=0)]
    np.testing.assert_allclose(peak[:2], 0.28, atol=0.08)
    np.testing.assert_allclose(peak[2:], 1.1, atol=0.3)
    np.testing.assert_allclose(columns.std(axis=0), 1, rtol=0.1)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(8, 61), seed=st.integers(0, 2**16))
def test_random_phases_keep_spectra_and_covariance(n, seed):
    rng = np.random.default_rng(seed)
    series = rng.standard_normal((n, 3)) @ rng.standard_normal((3, 6)) + 5
    surrogate = realnoise.randomise_phases(series, rng)
    np.testing.assert_allclose(
        np.abs(np.fft.rfft(surrogate, axis=0)), np.abs(np.fft.rfft(series, axis=0)), atol=1e-8
    )
    np.testing.assert_allclose(np.cov(surrogate.T), np.cov(series.T), atol=1e-9)
    assert not np.allclose(surrogate, series)


def test_library_responses_peak_at_one():
    for duration in (0.1, 2.0, 4.0):
        curves = response.responses_to(duration)
        np.testing.assert_allclose(curves.max(axis=0), 1)
    short, long = response.times_to_peak(0.1), response.times_to_peak(4.0)
    assert short.min() == pytest.approx(2.7)
    assert short.max() == pytest.approx(5.7)
    assert (long > short).all()


def test_design_is_the_library_seen_at_the_volumes():
    matrices = response.design_matrices(np.array([3.0, 10.5]), 2.0, 20, 1.5)
    curves = response.responses_to(2.0)
    assert matrices.shape == (20, 20, 2)
    for volume in range(20):
        lag = round((volume * 1.5 - 3.0) * 10)
        expected = curves[lag] if lag >= 0 else np.zeros(20)
        np.testing.assert_allclose(matrices[:, volume, 0], expected, atol=1e-9)
    assert not matrices[:, :8, 1].any()


def test_convolution_is_that_of_numpy():
    rng = np.random.default_rng(0)
    drive = rng.standard_normal((300, 3))
    index = np.array([0, 7, 7])
    out = response.convolve_drive(drive, index)
    for voxel, k in enumerate(index):
        kernel = response.hrf_library()[:, k]
        expected = np.convolve(drive[:, voxel], kernel / kernel.sum())[:300]
        np.testing.assert_allclose(out[:, voxel], expected, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    n_images=st.integers(1, 40),
    n_runs=st.integers(1, 9),
    data=st.data(),
    seed=st.integers(0, 999),
)
def test_repeats_are_dealt_to_different_runs(n_images, n_runs, data, seed):
    n_repeats = data.draw(st.integers(1, n_runs))
    runs = design.deal_repeats(n_images, n_repeats, n_runs, np.random.default_rng(seed))
    assert all(len(set(run)) == len(run) for run in runs)
    counts = np.bincount(np.concatenate(runs).astype(int), minlength=n_images)
    assert set(counts) == {n_repeats}
    loads = [len(run) for run in runs]
    assert max(loads) - min(loads) <= 1


def test_beta_variance_against_simulation():
    """The formula, against 4000 draws of AR(1) noise fitted with scipy."""
    from scipy.linalg import lstsq

    onsets = np.array([4.0, 10.0, 14.0, 20.0, 26.0])
    matrices = response.design_matrices(onsets, 2.0, 30, 2.0)
    filters = truth.beta_filters(matrices, 2.0)
    expected = truth.ar1_beta_variance(filters, 0.5)
    series = noise.ar1(30, 4000, 0.5, np.random.default_rng(1))
    basis = np.vander(np.linspace(-1, 1, 30), 2)
    for k in (0, 12):
        betas = lstsq(np.hstack([matrices[k], basis]), series)[0][:5]
        np.testing.assert_allclose((betas**2).mean(), expected[k], rtol=0.05)


def test_beta_variance_of_random_phases_against_simulation():
    rng = np.random.default_rng(0)
    real = noise.ar1(60, 2, 0.6, rng)
    real -= real.mean(axis=0)
    matrices = response.design_matrices(np.array([2.0, 12.0, 30.0]), 2.0, 40, 2.0)
    filters = truth.beta_filters(matrices, 2.0)
    expected = truth.stationary_beta_variance(filters, real)
    source = realnoise.RealNoise(real)
    draws = np.stack([filters[3] @ source.draw(40, rng) for _ in range(3000)])
    np.testing.assert_allclose((draws**2).mean(axis=(0, 1)), expected[3], rtol=0.1)


def test_noise_ceiling_formula():
    np.testing.assert_allclose(truth.noise_ceiling(np.array([0, 1.0, np.inf]), 3), [0, 0.75, 1])


def test_leave_one_out_isc_against_simulation():
    rng = np.random.default_rng(0)
    signal, noise_sd = np.array([[1.0], [0.5], [2.0]]), np.array([[1.0], [2.0], [1.5]])
    common = rng.standard_normal(200_000)
    series = signal * common + noise_sd * rng.standard_normal((3, 200_000))
    expected = truth.leave_one_out_isc(signal, noise_sd)[:, 0]
    for i in range(3):
        others = np.delete(series, i, axis=0).mean(axis=0)
        assert abs(np.corrcoef(series[i], others)[0, 1] - expected[i]) < 0.01


def test_gabor_energy_prefers_its_grating():
    axis = np.arange(features.SIZE) / features.SIZE
    x = np.broadcast_to(axis, (features.SIZE, features.SIZE))
    for frequency in features.FREQUENCIES:
        for angle, picture in ((0.0, x), (90.0, x.T)):
            wave = 127.5 * (1 + np.sin(2 * np.pi * frequency * picture))
            image = np.repeat(wave[None, ..., None], 3, axis=-1).astype(np.uint8)
            table = features.gabor_energy(image)
            means = table.columns.assign(e=table.values[0]).groupby(['frequency', 'orientation'])
            assert means['e'].mean().idxmax() == (frequency, angle)


def test_colours_have_places():
    image = np.zeros((1, features.SIZE, features.SIZE, 3), dtype=np.uint8)
    image[0, :24, 24:, 0] = 255  # red, upper right
    table = features.colours(image)
    reds = table.columns.assign(e=table.values[0]).query('name.str.startswith("redgreen")')
    lit = reds[reds['e'] > 0]
    assert (lit['x'] > 0).all()
    assert (lit['y'] < 0).all()
    assert len(lit) == 4


def test_textures_have_natural_spectra():
    textures = [stimuli.natural_texture(96, np.random.default_rng(k)) for k in range(10)]
    amplitude = np.mean([np.abs(np.fft.fft2(t.mean(axis=-1))) for t in textures], axis=0)
    f = np.hypot(np.fft.fftfreq(96, 1 / 96)[:, None], np.fft.fftfreq(96, 1 / 96)[None, :])
    band = (f >= 2) & (f <= 30)
    slope = np.polyfit(np.log(f[band]), np.log(amplitude[band]), 1)[0]
    assert -1.5 < slope < -0.9


def test_shapes_differ_and_follow_their_place():
    masks = [
        stimuli.shape_mask(stimuli.Shape(c, 0.0, 0.0, 0.6, 0.3, (1, 0, 0)), 64)
        for c in stimuli.CATEGORIES
    ]
    for i, a in enumerate(masks):
        assert 0.02 < a.mean() < 0.4
        assert all(np.abs(a - b).mean() > 0.01 for b in masks[i + 1 :])
    moved = stimuli.shape_mask(stimuli.Shape('disc', 0.5, -0.5, 0.3, 0.0, (1, 0, 0)), 64)
    rows, columns = np.nonzero(moved)
    assert rows.mean() == pytest.approx(15.5, abs=0.5)
    assert columns.mean() == pytest.approx(47.5, abs=0.5)


def test_films_of_one_seed_are_the_same_bytes(tmp_path):
    for name in ('a', 'b'):
        frames = stimuli.film_frames(2.0, 6, 48, np.random.default_rng(5))
        write_video(tmp_path / f'{name}.mp4', (f for f, _ in frames), stimuli.FRAME_RATE)
    assert (tmp_path / 'a.mp4').read_bytes() == (tmp_path / 'b.mp4').read_bytes()
    frames, duration = stimuli.read_film(tmp_path / 'a.mp4', 0.2, 48)
    assert duration == 2.0
    first = next(stimuli.film_frames(2.0, 6, 48, np.random.default_rng(5)))[0]
    assert len(frames) == 10
    assert np.abs(frames[0].astype(int) - first).mean() < 10


def test_cosines_are_fmripreps():
    columns = confounds.cosines(200, 2.0)
    assert list(columns) == [f'cosine{k:02d}' for k in range(6)]  # 2 * 400 s / 128 s
    matrix = np.stack(list(columns.values()))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(6), atol=1e-12)
