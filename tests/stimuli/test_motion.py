"""Motion energy, where pymoten is installed."""

import importlib.util

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.stimuli import motion
from tests.datasets import write_film

needs_pymoten = pytest.mark.skipif(
    importlib.util.find_spec('moten') is None, reason='pymoten is not installed'
)


def grating(direction, n_frames=36):
    """Return a grating that drifts to the right (1) or to the left (-1) at 2 Hz."""
    x, seconds = np.arange(motion.SIZE[1]), np.arange(n_frames) / motion.FRAMES_PER_SECOND
    phase = 2 * np.pi * (4 * x / motion.SIZE[1] - 2 * direction * seconds[:, None])
    row = (127.5 + 127.5 * np.sin(phase)).astype(np.uint8)
    return np.broadcast_to(row[:, None, :, None], (n_frames, *motion.SIZE, 3))


@needs_pymoten
def test_filters_tell_the_direction_of_motion():
    from moten.pyramids import MotionEnergyPyramid

    pyramid = MotionEnergyPyramid(
        stimulus_vhsize=motion.SIZE, stimulus_fps=motion.FRAMES_PER_SECOND
    )
    moving = np.array([f['temporal_freq'] == 2 for f in pyramid.filters])
    directions = np.array([f['direction'] for f in pyramid.filters])[moving]
    best = []
    for direction in (1, -1):
        energy = motion.motion_energy(grating(direction), motion.FRAMES_PER_SECOND)
        assert energy.shape == (36, len(pyramid.filters))
        best.append(directions[energy[12:24, moving].mean(axis=0).argmax()])
    assert abs(best[0] - best[1]) == 180


@needs_pymoten
def test_a_film_is_averaged_over_volumes_and_kept(tmp_path, monkeypatch):
    write_film(tmp_path / 'a.mp4', 6.0)
    first = motion.film_motion(tmp_path / 'a.mp4', 4, 1.3, cache_dir=tmp_path / 'cache')
    assert first.shape[0] == 4
    assert np.isfinite(first).all()

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(motion, 'motion_energy', never)
    again = motion.film_motion(tmp_path / 'a.mp4', 4, 1.3, cache_dir=tmp_path / 'cache')
    np.testing.assert_array_equal(first, again)


def test_without_the_package_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(motion, 'has_motion_energy', lambda: False)
    with pytest.raises(ArgumentsError) as error:
        motion.motion_energy(np.zeros((2, 8, 8, 3), dtype=np.uint8), 12)
    assert str(error.value) == motion.NOT_INSTALLED
    assert '\n' not in motion.NOT_INSTALLED
