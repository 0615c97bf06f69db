"""What is held out takes no part in choosing voxels, and repeats of an image move together."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import EvaluationSettings, build_config
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.recipe import decode_pictures
from bids_neurodecode.systems.scoring import Pairing, Scorer
from bids_neurodecode.systems.voxels import Estimates

N_IMAGES, N_RUNS, N_VOXELS = 12, 6, 40


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N_IMAGES, 6))
    order = np.concatenate([rng.permutation(N_IMAGES) for _ in range(N_RUNS)])
    responses = rng.normal(size=(len(order), N_VOXELS))
    responses[:, : N_VOXELS // 2] += features[order] @ rng.normal(size=(6, N_VOXELS // 2))
    names = [f's{k:02d}.png' for k in range(N_IMAGES)]
    table = pd.DataFrame(
        {
            'stimulus': [names[k] for k in order],
            'run': np.repeat(np.arange(N_RUNS), N_IMAGES),
            'session': '01',
        }
    )
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(responses.astype(np.float32), mask), table)
    return samples, PerStimulus(tuple(names), features.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize('by', ['run', 'stimulus'])
def test_voxels_of_a_fold_do_not_depend_on_its_test_samples(data, by):
    samples, features = data
    split = split_by_group(samples.table, by, n_folds=3)
    config = build_config({'evaluation': {'n_permutations': 0, 'n_bootstrap': 0}, 'seed': 1})
    tsnr = np.ones((N_RUNS, N_VOXELS), dtype=np.float32)

    def chosen(values):
        each = Samples(Responses(values, samples.responses.mask), samples.table)
        return decode_pictures(Estimates(each, split, tsnr_runs=tsnr), features, config)

    whole = chosen(samples.values)
    assert 0 < whole.fold_selections[0].keep.sum() < N_VOXELS
    values = np.array(samples.values)
    test = split.folds[0].test
    # held-out samples that would turn the choice round, were they seen
    values[test] = 50 * np.random.default_rng(3).normal(size=values[test].shape)
    other = chosen(values)
    np.testing.assert_array_equal(other.fold_selections[0].keep, whole.fold_selections[0].keep)
    assert (other.selection.values != whole.selection.values).any()


def test_repeats_of_an_image_are_exchanged_together():
    stimulus = np.repeat(np.arange(8), 3)
    pairing = Pairing(np.zeros(24, dtype=np.intp), stimulus, stimulus)
    drawn = []

    def permuted(index):
        drawn.append(index)
        return 0.5

    settings = EvaluationSettings(n_permutations=20, n_bootstrap=0)
    scorer = Scorer('ridge', 'images', 'hold-out', pairing, settings, np.random.default_rng(0))
    scorer.score('identification_2way', np.full(24, 0.5), permuted)
    assert len(drawn) == 20
    for index in drawn:
        labels = stimulus[index].reshape(8, 3)
        assert (labels == labels[:, :1]).all()
    assert any((index != np.arange(24)).any() for index in drawn)
