"""Without repeats, voxels that respond are kept, whatever their temporal signal-to-noise ratio."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.voxels import choose_voxels, predicted_share

N_TRIALS, N_VOXELS, N_RUNS = 240, 90, 6


def world(seed, *, stimulus=0.0, mean=0.0, slow=0.0):
    """The first third follows features, the second third responds to anything, the last not."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((N_TRIALS, 20))
    run = np.repeat(np.arange(N_RUNS), N_TRIALS // N_RUNS)
    values = rng.standard_normal((N_TRIALS, N_VOXELS))
    values += slow * rng.standard_normal((N_RUNS, N_VOXELS))[run]
    values[:, :30] += stimulus * features @ rng.standard_normal((20, 30)) / np.sqrt(20)
    values[:, 30:60] += mean
    names = tuple(f'{k}.png' for k in range(N_TRIALS))
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    table = pd.DataFrame({'stimulus': names, 'run': run})
    return Samples(Responses(values.astype(np.float32), mask), table), PerStimulus(names, features)


def choose(train, features, **selection):
    # responses are variance over time: strong ones have the lowest ratio
    tsnr = np.tile(np.linspace(20, 80, N_VOXELS, dtype=np.float32), (N_RUNS, 1))
    config = build_config({'selection': selection})
    return choose_voxels(train, features, config, tsnr_runs=tsnr, within=None)


@pytest.mark.parametrize('size', [0.7, 5.0])
def test_voxels_that_respond_are_kept(size):
    chosen = choose(*world(0, stimulus=size, mean=0.5))
    assert chosen.measure == 'prediction'
    assert chosen.keep[:60].mean() > 0.95
    assert chosen.keep[60:].mean() < 0.7
    assert choose(*world(0, stimulus=size), measure='tsnr', rule='top').keep[:30].mean() == 0


def test_share_is_what_was_planted():
    train, features = world(1, stimulus=3.0, mean=1.0)
    share = predicted_share(train, features, build_config({}))
    assert np.median(share[:30]) == pytest.approx(0.9, abs=0.06)
    assert np.median(share[30:60]) == pytest.approx(0.5, abs=0.06)
    assert abs(np.median(share[60:])) < 0.02


def test_slow_noise_of_runs_is_no_mean_response():
    train, features = world(2, slow=1.0)
    share = predicted_share(train, features, build_config({}))
    assert abs(np.mean(share)) < 0.06


def test_no_signal_at_all_still_leaves_voxels():
    chosen = choose(*world(3))
    assert chosen.n_kept >= 20


def test_voxels_without_values_and_one_run():
    train, features = world(4, stimulus=3.0)
    values = train.values.copy()
    values[:, 3] = 1.0
    values[7, 4] = np.nan
    one = Samples(Responses(values, train.responses.mask), train.table.assign(run=0))
    share = predicted_share(one, features, build_config({}))
    assert np.isnan(share[[3, 4]]).all()
    assert np.nanmin(share[:30]) > 0.5
