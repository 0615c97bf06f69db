"""Series and onsets on one grid: what is resampled, kept and refused."""

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.preparing import (
    NO_MEAN,
    RESAMPLED,
    SOME_MEANS,
    prepare_series,
)
from bids_neurodecode.signals.timing import TOLERANCE


def series(seed: int, mean: float = 100.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (50, 6)).astype(np.float32)


def prepared(runs, onsets, **more):
    reads = [lambda run=run: run for run in runs]
    names = [f'run {k}' for k in range(len(runs))]
    return prepare_series(reads, names, [np.array(o, dtype=float) for o in onsets], 2.0, **more)


def test_onsets_on_volumes_leave_the_series_alone():
    runs = [series(0), series(1)]
    found = prepared(runs, [[0, 10], [4, 20]])
    assert [volumes.tolist() for volumes in found.onset_volumes] == [[0, 5], [2, 10]]
    assert all(a is b for a, b in zip(found.series, runs, strict=True))
    assert (found.repetition_time, found.unit, found.warnings) == (2.0, 1.0, ())


def test_onsets_between_volumes_make_the_grid_finer():
    found = prepared([series(0)], [[0, 3, 11, 17]])
    assert found.repetition_time == 1.0
    assert found.onset_volumes[0].tolist() == [0, 3, 11, 17]
    assert found.series[0].shape == (99, 6)
    np.testing.assert_allclose(found.series[0][::2], series(0), rtol=1e-5)
    told = RESAMPLED.format(offset=1.0, old=2.0, new=1.0, rounded='')
    assert found.warnings == (told,)
    with pytest.raises(DataError, match='fall between volumes'):
        prepared([series(0)], [[0, 11]], resample=False)


def test_any_onsets_are_met_to_a_twentieth_of_a_second():
    onsets = np.cumsum(np.random.default_rng(0).uniform(2, 6, 20))
    found = prepared([series(0)], [onsets])
    moved = np.abs(found.onset_volumes[0] * found.repetition_time - onsets).max()
    assert moved <= TOLERANCE
    assert found.warnings[0].startswith(RESAMPLED.split('{')[0])


def test_series_without_a_mean_keep_their_units():
    found = prepared([series(0, 0.0), series(1, 0.0)], [[0], [4]])
    assert found.warnings == (NO_MEAN,)
    assert found.unit == 1.0
    for run, seed in zip(found.series, (0, 1), strict=True):
        np.testing.assert_allclose(run.mean(axis=0), 100, rtol=1e-4)
        own = series(seed, 0.0)
        np.testing.assert_allclose(run - run.mean(0), own - own.mean(0), atol=1e-4)


def test_some_runs_with_a_mean_and_some_without_are_refused():
    with pytest.raises(DataError) as error:
        prepared([series(0), series(1, 0.0)], [[0], [4]])
    assert str(error.value) == SOME_MEANS.format(first='run 0', second='run 1')


def test_runs_may_be_read_again_instead_of_held():
    runs = [[series(0), series(1)], [[0], [5]]]
    held, later = prepared(*runs), prepared(*runs, held=False)
    assert held.repetition_time == later.repetition_time < 2  # they were resampled
    for a, b in zip(held.series, later.series, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(b), a)
