"""Synthetic responses follow what was planted, with as much noise as there is."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.generation import fit
from bids_neurodecode.systems.reconstruction.generation.fit import (
    draw_pictures,
    synthetic_responses,
)

N_FEATURES, N_VOXELS = 12, 30


def world(n=150, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(N_FEATURES, N_VOXELS)) / np.sqrt(N_FEATURES)
    weights[:, 15:] = 0  # half of the voxels have no signal
    features = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    shared = rng.normal(size=(n, 1))
    values = features @ weights + noise * (rng.normal(size=(n, N_VOXELS)) + shared) + 7
    names = tuple(f's{k}' for k in range(n))
    table = pd.DataFrame({'stimulus': names, 'run': np.arange(n) % 5})
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    train = Samples(Responses(values.astype(np.float32), mask), table)
    new = rng.normal(size=(400, N_FEATURES)).astype(np.float32)
    return train, PerStimulus(names, features), new, weights


def test_responses_follow_the_planted_weights_with_the_planted_noise():
    train, features, new, weights = world()
    made = synthetic_responses(train, features, new, rng=np.random.default_rng(1))
    assert made.shape == (400, N_VOXELS)
    assert made.dtype == np.float32
    wanted = new @ weights + 7
    r = [np.corrcoef(made[:, voxel], wanted[:, voxel])[0, 1] for voxel in range(15)]
    assert np.mean(r) > 0.3
    noise = made - wanted
    assert noise.std(axis=0).mean() == pytest.approx(np.sqrt(2), rel=0.15)
    # noise is shared by voxels as planted: half of its variance
    r = np.corrcoef(noise.T)[np.triu_indices(N_VOXELS, 1)]
    assert r.mean() == pytest.approx(0.5, abs=0.12)


def test_no_other_sample_is_looked_at_and_seeds_decide():
    train, features, new, _ = world()
    part = train.take(np.arange(100))
    a = synthetic_responses(part, features, new, rng=np.random.default_rng(1))
    other = PerStimulus(features.stimuli, features.values.copy())
    other.values[100:] = 1e6
    b = synthetic_responses(part, other, new, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(a, b)
    c = synthetic_responses(part, features, new, rng=np.random.default_rng(2))
    assert not np.array_equal(a, c)


def test_pictures_are_drawn_once_before_any_comes_again():
    drawn = draw_pictures(5, 12, np.random.default_rng(0))
    assert len(drawn) == 12
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == list(range(5))
    assert len(draw_pictures(5, 0, np.random.default_rng(0))) == 0


def test_without_pictures_there_is_nothing_to_predict():
    train, features, new, _ = world()
    with pytest.raises(DataError) as error:
        synthetic_responses(train, features, new[:0], rng=np.random.default_rng(0))
    assert str(error.value) == fit.NO_PICTURES
