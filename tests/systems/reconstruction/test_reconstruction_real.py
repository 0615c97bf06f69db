"""Linear decoding of real BOLD: which of 8 categories was seen (Haxby et al. 2001, subject 1)."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from bids_neurodecode.evaluation.metrics import TRUE_FEATURES
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds

pytestmark = pytest.mark.real


@pytest.fixture(scope='module')
def haxby(shared):
    """One plain GLM a run, one regressor a block."""
    root = shared / 'data' / 'haxby2001'
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
        psc = 100 * (series / series.mean(axis=0) - 1)
        weights = np.linalg.lstsq(design.to_numpy(), psc, rcond=None)[0]
        betas.append(weights[[design.columns.get_loc(name) for name in trials]])
        tables.append(pd.DataFrame({'stimulus': events.stim_file, 'run': run}))
    table = pd.concat(tables, ignore_index=True)
    names = tuple(sorted(set(table.stimulus)))
    pictures = load_images([root / 'stimuli' / name for name in names], size=64)
    responses = Responses(np.concatenate(betas).astype(np.float32), mask)
    return Samples(responses, table), PerStimulus(names, pictures)


@pytest.mark.slow
def test_category_of_a_held_out_run(haxby):
    samples, pictures = haxby
    features = PerStimulus(
        pictures.stimuli, extract_features(pictures.values, get_extractor('gabor'))
    )
    split = split_by_group(samples.table, 'run')
    result = evaluate_folds(
        [samples.fold(fold) for fold in split],
        split,
        features,
        pictures=pictures,
        rng=np.random.default_rng(0),
    )
    value = {(row.model, row.metric): row for row in result.scores}
    top1 = value['ridge', 'identification_top1']
    assert top1.n == 96
    assert top1.chance == 1 / 8
    assert top1.value > 0.6
    assert top1.p == 1 / 1001
    assert value['ridge', 'identification_2way'].value > 0.85
    assert top1.value > value['baseline-nearest', 'identification_top1'].value
    assert value['baseline-shuffled', 'identification_top1'].p > 0.01
    assert value[TRUE_FEATURES, 'pixcorr'].value == pytest.approx(1)
