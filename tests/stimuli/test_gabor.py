"""The Gabor bank answers to the gratings it should, and to nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.stimuli.gabor import GaborPyramid

BANK = GaborPyramid()


def grating(frequency, degrees, phase=0.0, amplitude=0.4, size=64):
    angle = np.deg2rad(degrees)
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    wave = np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return (0.5 + amplitude * wave).astype(np.float32)[None]


@pytest.mark.parametrize('frequency', [1, 2, 4, 8, 16])
@pytest.mark.parametrize('orientation', range(8))
def test_prefers_its_orientation_and_frequency(frequency, orientation):
    image = grating(frequency, orientation * 22.5)
    mean = {f: BANK.energy(image, f)[0].mean(axis=(1, 2)) for f in (1, 2, 4, 8, 16)}
    assert mean[frequency].argmax() == orientation
    assert max(mean, key=lambda f: mean[f].max()) == frequency
    # the equation's scale: a grating of amplitude A gives A
    assert mean[frequency][orientation] == pytest.approx(0.4, rel=0.06)


@given(phase=st.floats(0, 2 * np.pi), frequency=st.sampled_from([2, 4, 8, 16]))
@settings(max_examples=30, deadline=None)
def test_energy_does_not_depend_on_phase(phase, frequency):
    first = BANK.energy(grating(frequency, 45), frequency)[0, 2].mean()
    moved = BANK.energy(grating(frequency, 45, phase), frequency)[0, 2].mean()
    assert moved == pytest.approx(first, rel=0.01)


def test_energy_does_not_depend_on_the_sign_of_contrast():
    rng = np.random.default_rng(0)
    image = rng.random((3, 64, 64), dtype=np.float32)
    for frequency in (1, 4, 16):
        a, b = BANK.energy(image, frequency), BANK.energy(1 - image, frequency)
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_uniform_pictures_have_no_energy_and_contrast_scales_it():
    grey = np.full((1, 64, 64), 0.7, np.float32)
    image = np.random.default_rng(1).random((1, 64, 64), dtype=np.float32)
    for frequency in (1, 2, 8):
        assert BANK.energy(grey, frequency).max() < 1e-6
        np.testing.assert_allclose(
            BANK.energy(0.5 + 0.2 * image, frequency),
            0.2 * BANK.energy(image, frequency),
            atol=1e-6,
        )


def test_energy_is_local():
    image = np.full((1, 64, 64), 0.5, np.float32)
    image[:, :16, :16] = grating(16, 0)[:, :16, :16]
    energy = BANK.energy(image, 16)[0, 0]
    assert energy[:3, :3].min() > 0.3
    assert energy[8:, 8:].max() < 1e-6


def test_one_wavelet_equals_its_equation():
    image = np.random.default_rng(2).random((1, 40, 40))
    frequency, angle = 4.0, np.pi / 8
    y, x = (np.mgrid[:40, :40] + 0.5) / 40
    x0, y0 = (1 + 0.5) / 4, (2 + 0.5) / 4
    sigma = np.sqrt(2 * np.log(2)) / (2 * np.pi * frequency) * 3
    envelope = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
    wave = np.exp(2j * np.pi * frequency * ((x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)))
    mean = (image[0] * envelope).sum() / envelope.sum()
    expected = abs(((image[0] - mean) * envelope * wave).sum()) * 2 / envelope.sum()
    got = BANK.energy(image.astype(np.float32), frequency)[0, 1, 2, 1]
    assert got == pytest.approx(expected, rel=1e-4)


def test_transform_luminance_and_colour():
    bank = GaborPyramid(frequencies=(2.0,), luminance_grid=2, colour_grid=1)
    image = np.zeros((2, 8, 8, 3), np.uint8)
    image[0, :, :4] = (255, 0, 0)
    image[1] = (0, 0, 255)
    features = bank.transform(image)
    assert features.shape == (2, 8 * 4 + 4 + 2)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0, -6:], [0.2126, 0, 0.2126, 0, 0.5, -0.25], atol=1e-6)
    np.testing.assert_allclose(features[1, -6:], [0.0722] * 4 + [0, 1], atol=1e-6)


def test_deterministic_and_picture_by_picture():
    image = np.random.default_rng(4).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    features = BANK.transform(image)
    np.testing.assert_array_equal(features, BANK.transform(image))
    np.testing.assert_allclose(features[2:3], BANK.transform(image[2:3]), atol=1e-6)


def test_cells_that_do_not_divide_the_picture_weigh_it_evenly():
    bank = GaborPyramid(frequencies=(1.0,), luminance_grid=3, colour_grid=0)
    image = np.random.default_rng(5).integers(0, 256, (1, 10, 10, 3), dtype=np.uint8)
    cells = bank.transform(image)[0, -9:]
    luminance = image[0] / 255 @ [0.2126, 0.7152, 0.0722]
    assert cells.mean() == pytest.approx(luminance.mean(), rel=1e-5)


def test_errors():
    with pytest.raises(DataError, match='16 cycles an image needs images of at least 64'):
        GaborPyramid(frequencies=(16.0,)).transform(np.zeros((1, 32, 32, 3), np.uint8))
    for bad in (
        {'n_orientations': 0},
        {'bandwidth': 0.0},
        {'frequencies': ()},
        {'frequencies': (0.0,)},
        {'colour_grid': -1},
    ):
        with pytest.raises(ArgumentsError, match='The Gabor bank needs'):
            GaborPyramid(**bad)
