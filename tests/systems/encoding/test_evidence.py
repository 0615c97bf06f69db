"""What encoding models must show on simulated responses to photographs with planted tuning."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bids_neurodecode.signals.reliability import noise_ceiling
from bids_neurodecode.systems.encoding.encoders import EncoderSettings, fit
from bids_neurodecode.systems.outcomes import SINGLE_TRIAL

pytestmark = [pytest.mark.real, pytest.mark.slow]
N = 300
GRID = (8, 6, 5)


@pytest.fixture(scope='module')
def study():
    path = Path(__file__).parents[3] / 'benchmarks' / 'study_encoding.py'
    spec = importlib.util.spec_from_file_location('study_encoding', path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))  # the simulation lies beside it
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def photographs(study, shared):
    folder = shared / 'data' / 'things720' / 'images'
    if not folder.is_dir():
        pytest.skip(f'no photographs in {folder}')
    return study.Photographs.load(folder, N)


@pytest.fixture(scope='module')
def world(study, photographs):
    """240 voxels, of which 80 are untuned, saw 300 photographs three times."""
    return study.make_world(photographs, N, seed=0, grid=GRID)


@pytest.fixture(scope='module')
def encoded(study, world):
    """Ridge on both feature spaces, with their partition."""
    return study.encode(world, study.make_config(199), partition=True)


def test_tuned_voxels_reach_the_ceiling_and_untuned_ones_are_at_chance(study, world, encoded):
    row = study.accuracy(world, encoded)
    for name in ('tuned', 'energy', 'layout', 'both'):
        assert row[f'noise-normalised {name}'] >= 0.6
    assert abs(row['r untuned']) < 0.06
    # 80 voxels: 4 are expected, 10 are improbable
    assert row['untuned p <= .05'] <= 10 / 80
    significant = encoded.maps.p_fdr < 0.05
    assert (world.ratio[significant] == 0).mean() <= 0.05
    assert row['tuned FDR'] > 0.95
    assert row['tuned among best'] > 0.97
    assert row['2-way trials'] > 0.95
    planted = noise_ceiling(world.ratio, 3)
    assert np.abs(encoded.maps.noise_ceiling - planted)[world.ratio > 0].mean() < 0.05


def test_wrong_features_predict_less(study, world):
    """Layout alone misses the voxels of energy, and does not miss its own."""
    found = study.encode(world, study.make_config(0), bands=('layout',))
    row = study.accuracy(world, found)
    assert row['noise-normalised layout'] > 0.7
    assert row['noise-normalised energy'] < 0.4


def test_unique_parts_are_those_planted(study, world, encoded):
    """Each band's own part, by voxel, beside what noise-free responses leave to it."""
    part = encoded.partition
    for name, other in (('energy', 'layout'), ('layout', 'energy')):
        true, found = study.true_unique(world, name), part.unique[name]
        assert np.corrcoef(true, found)[0, 1] > 0.85
        regions, sure = world.regions, part.p_unique_fdr[name] < 0.05
        assert sure[regions[name]].mean() > 0.8
        # a fit on 240 images misses some of it, and finds no more than there is
        share = np.median(found[regions[name]]) / np.median(true[regions[name]])
        assert 0.5 < share < 1.05
        for absent in (other, 'untuned'):
            assert abs(np.median(found[regions[absent]])) < 0.03
            assert sure[regions[absent]].mean() < 0.1


def test_means_of_repeats_identify_as_well_as_single_trials(study, photographs):
    """Patterns are compared in the units of single trials, whatever the model was fitted on."""
    few = study.make_world(photographs, 72, seed=1, **study.FEW)
    one, means = (
        study.encode(few, study.make_config(0, average_training=average))
        for average in (False, True)
    )
    two_way = [study.score(x, 'identification_2way', SINGLE_TRIAL) for x in (one, means)]
    assert two_way[1] == pytest.approx(two_way[0], abs=0.03)
    settings = [EncoderSettings(average_training=average) for average in (False, True)]
    single, averaged = (fit(few.samples, few.bands, chosen).responses for chosen in settings)
    np.testing.assert_array_equal(single.scale, averaged.scale)


def test_more_training_pictures_predict_better(study, world):
    found = [study.encode(world, study.make_config(0, n_training=n)) for n in (25, 75, 225)]
    tuned = [np.median(x.maps.r[world.ratio > 0]) for x in found]
    assert tuned[0] + 0.03 < tuned[1] < tuned[2] - 0.03
