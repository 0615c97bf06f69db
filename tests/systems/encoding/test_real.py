"""Photographs with planted tuning, and real BOLD (Haxby et al. 2001, subject 1)."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from bids_neurodecode.config import build_config
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.signals.reliability import noise_ceiling
from bids_neurodecode.simulate.features import gabor_energy
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.encoding.recipe import encode_pictures
from bids_neurodecode.systems.voxels import Estimates

N, REPEATS, TUNED, NOISE = 400, 3, 60, 40


@pytest.mark.slow
@pytest.mark.real
def test_planted_receptive_fields_are_predicted(shared):
    """Noise-normalised accuracy of at least .6 in tuned voxels, chance in others, region on top.

    Voxels have receptive fields of log-Gabor energy; the model is ridge on the Gabor pyramid.
    """
    folder = shared / 'data' / 'things720' / 'images'
    if not folder.is_dir():
        pytest.skip(f'no photographs in {folder}')
    files = sorted(folder.iterdir())[:N]
    rng = np.random.default_rng(0)
    table = gabor_energy(load_images(files, size=48, fit='crop')).standardised()
    columns = table.columns
    weights = np.zeros((table.values.shape[1], TUNED + NOISE))
    for voxel in range(TUNED):
        x, y = rng.uniform(-0.8, 0.8, 2)
        turned = np.cos(2 * (np.deg2rad(columns['orientation']) - rng.uniform(0, np.pi)))
        octave = np.log2(columns['frequency']) - rng.uniform(1, 3)
        place = (columns['x'] - x) ** 2 + (columns['y'] - y) ** 2
        weights[:, voxel] = np.exp(-place / 0.2 - octave**2 + 1.5 * turned)
    signal = table.values @ weights
    signal[:, :TUNED] /= signal[:, :TUNED].std(axis=0)
    ratio = np.concatenate([rng.uniform(0.5, 1.2, TUNED), np.zeros(NOISE)])
    order = np.concatenate([rng.permutation(N) for _ in range(REPEATS)])
    values = 100 + signal[order] * ratio + rng.standard_normal((len(order), TUNED + NOISE))
    names = np.array([file.name for file in files])
    samples = Samples(
        Responses(values.astype(np.float32), VoxelMask(np.ones((5, 5, 4), bool), np.eye(4))),
        pd.DataFrame(
            {'stimulus': names[order], 'run': np.repeat(np.arange(12), len(order) // 12)}
        ),
    )
    pictures = load_images(files, size=64, fit='crop')
    features = PerStimulus(tuple(names), extract_features(pictures, get_extractor('gabor')))
    config = build_config({'evaluation': {'n_permutations': 199, 'n_bootstrap': 100}})
    tuned = np.arange(TUNED + NOISE) < TUNED
    found = encode_pictures(
        Estimates(samples, split_by_group(samples.table, 'stimulus', rng=rng)),
        features,
        config,
        settings=EncoderSettings.of(config, baseline=False),
        regions={'tuned': tuned, 'noise': ~tuned},
    )
    assert np.nanmedian(found.maps.noise_normalized[tuned]) >= 0.6
    assert abs(np.median(found.maps.r[~tuned])) < 0.06
    assert (found.maps.p_fdr[tuned] < 0.05).mean() > 0.95
    assert (found.maps.p_fdr[~tuned] < 0.05).mean() <= 0.1
    assert set(np.argsort(-found.maps.r)[:TUNED]) == set(np.flatnonzero(tuned))
    planted = noise_ceiling(ratio[tuned], REPEATS)
    assert np.median(np.abs(found.maps.noise_ceiling[tuned] - planted)) < 0.05
    two_way = [s.value for s in found.scores if s.metric == 'identification_2way']
    assert min(two_way) > 0.9


def haxby(root):
    """One plain GLM a run, one regressor a block: trials, and features of the stimuli."""
    betas, tables, mask = [], [], None
    for run in range(1, 13):
        stem = f'sub-01_task-objectviewing_run-{run:02d}'
        folder = root / 'derivatives' / 'fmriprep' / 'sub-01' / 'func'
        mask = VoxelMask.load(folder / f'{stem}_desc-brain_mask.nii.gz')
        image = nib.load(folder / f'{stem}_desc-preproc_bold.nii.gz')
        series = mask.extract(np.asarray(image.dataobj, dtype=float))
        events = pd.read_csv(root / 'sub-01' / 'func' / f'{stem}_events.tsv', sep='\t')
        trials = [f'trial{k}' for k in range(len(events))]
        design = make_first_level_design_matrix(
            np.arange(len(series)) * 2.5,
            events[['onset', 'duration']].assign(trial_type=trials),
            hrf_model='glover',
            drift_model='cosine',
            high_pass=0.008,
        )
        percent = 100 * (series / series.mean(axis=0) - 1)
        weights = np.linalg.lstsq(design.to_numpy(), percent, rcond=None)[0]
        betas.append(weights[[design.columns.get_loc(name) for name in trials]])
        tables.append(pd.DataFrame({'stimulus': events.stim_file, 'run': run}))
    table = pd.concat(tables, ignore_index=True)
    names = tuple(sorted(set(table.stimulus)))
    pictures = load_images([root / 'stimuli' / name for name in names], size=64)
    features = PerStimulus(names, extract_features(pictures, get_extractor('gabor')))
    return Samples(Responses(np.concatenate(betas).astype(np.float32), mask), table), features


@pytest.mark.slow
@pytest.mark.real
def test_category_from_predicted_block_responses(shared):
    """Held-out runs: which of 8 categories, by the predicted pattern; and where."""
    samples, features = haxby(shared / 'data' / 'haxby2001')
    config = build_config({'evaluation': {'n_permutations': 499, 'n_bootstrap': 100}})
    found = encode_pictures(
        Estimates(samples, split_by_group(samples.table, 'run')), features, config
    )
    value = {(row.model, row.metric): row for row in found.scores}
    top1 = value['ridge', 'identification_top1']
    assert (top1.n, top1.chance) == (96, 1 / 8)
    assert top1.value > 0.5
    assert top1.p == 1 / 500
    assert value['ridge', 'identification_2way'].value > 0.8
    assert value['baseline-shuffled', 'identification_2way'].p > 0.01
    significant = found.maps.p_fdr < 0.05
    assert significant.sum() > 20
    assert np.median(found.maps.r[significant]) > 0.3
    # where repeats agree, prediction is better
    ceiling = found.maps.noise_ceiling
    assert np.median(found.maps.r[ceiling > 0.2]) > np.median(found.maps.r[ceiling < 0.02]) + 0.1
