"""Regions decoded alone: a planted one is found, and p values of noise are uniform."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import build_config
from bids_neurodecode.report.regions import UNTESTED, regions_table, regions_text
from bids_neurodecode.samples import Fold, Responses, Samples, Split, VoxelMask
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.regions import METRIC, decode_regions
from bids_neurodecode.systems.voxels import Estimates

N_IMAGES, N_RUNS, N_VOXELS, N_TEST = 40, 4, 48, 10
CONFIG = build_config({'evaluation': {'n_permutations': 99, 'n_bootstrap': 200}})
PLACE = np.arange(N_VOXELS)
REGIONS = {f'R{k}': k == PLACE // 12 for k in range(4)} | {'small': PLACE < 5}


def world(seed, signal=0.0, n_test=N_TEST):
    """Every run shows half of the images in an order of its own; noise follows itself in time."""
    rng = np.random.default_rng(seed)
    half = N_IMAGES // 2
    shown = np.concatenate([rng.permutation(half) + half * (run % 2) for run in range(N_RUNS)])
    features = rng.standard_normal((N_IMAGES, 8)).astype(np.float32)
    white = rng.standard_normal((N_RUNS, half, N_VOXELS))
    noise = white.copy()
    for trial in range(1, half):
        noise[:, trial] = 0.7 * noise[:, trial - 1] + np.sqrt(1 - 0.7**2) * white[:, trial]
    values = noise.reshape(-1, N_VOXELS)
    values[:, :12] += signal * features[shown] @ rng.standard_normal((8, 12))
    names = tuple(f'{k}.png' for k in range(N_IMAGES))
    table = pd.DataFrame({'stimulus': [names[k] for k in shown]})
    table = table.assign(run=np.repeat(np.arange(N_RUNS), half), session='')
    held_out = np.isin(shown, rng.permutation(N_IMAGES)[:n_test])
    fold = Fold(np.flatnonzero(~held_out), np.flatnonzero(held_out))
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(values.astype(np.float32), mask), table)
    return samples, Split('stimulus', (fold,), table), PerStimulus(names, features)


def decoded(*of_world):
    samples, split, features = of_world
    return decode_regions(Estimates(samples, split), features, CONFIG, REGIONS)


def test_the_region_that_carries_the_images_is_found():
    tables = [decoded(*world(seed, signal=1.0)) for seed in range(8)]
    first = tables[0]
    assert first['name'].tolist() == ['R0', 'R1', 'R2', 'R3'], 'too small ones are left out'
    assert (first['n_voxels'] == 12).all()
    assert (first['chance'] == 0.5).all()
    for table in tables:
        assert table[METRIC][0] > 0.8 > table[METRIC][1:].mean()
        assert table['ci_low'][0] > 0.5
        assert table['p_fdr'][0] <= 0.05
    assert sum((table['p_fdr'][1:] <= 0.05).sum() for table in tables) <= 3
    assert 'those that tell images apart best are R0 (' in regions_text(first, METRIC)
    told = regions_table(first, METRIC, 'Images decoded')
    assert told.rows[0][0] == 'R0'
    assert ' of 4 regions are better than chance' in told.caption


@pytest.mark.slow
def test_p_values_of_autocorrelated_noise_are_uniform():
    p = np.concatenate([decoded(*world(seed))['p'] for seed in range(40)])
    assert 0.45 < p.mean() < 0.55
    assert (p <= 0.05).mean() < 0.09
    assert (p > 0.5).mean() > 0.4


def test_few_held_out_images_are_scored_and_not_tested():
    table = decoded(*world(0, signal=1.0, n_test=5))
    assert table[METRIC][0] > 0.7
    assert table[['ci_low', 'ci_high', 'p', 'p_fdr']].isna().all(axis=None)
    assert regions_table(table, METRIC, 'Images decoded').caption.endswith(UNTESTED)
