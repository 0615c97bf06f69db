"""Single-trial betas of real data: categories of held-out runs are decoded from them."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.timing import onsets_to_volumes

pytestmark = pytest.mark.real


def read_haxby(shared):
    root = shared / 'data' / 'haxby2001'
    series, onsets, conditions = [], [], []
    for run in range(1, 13):
        name = f'sub-01_task-objectviewing_run-{run:02d}'
        stem = root / 'derivatives' / 'fmriprep' / 'sub-01' / 'func' / name
        mask = nib.load(f'{stem}_desc-brain_mask.nii.gz').get_fdata() > 0
        bold = nib.load(f'{stem}_desc-preproc_bold.nii.gz').get_fdata(dtype=np.float32)
        events = pd.read_csv(root / 'sub-01' / 'func' / f'{name}_events.tsv', sep='\t')
        series.append(bold[mask].T)
        onsets.append(onsets_to_volumes(events['onset'], 2.5, bold.shape[-1]))
        conditions.append(events['trial_type'].to_numpy())
    return series, onsets, conditions


def accuracy(betas_of_fold, labels, run):
    """Leave one run out: ridge (dual) onto category indicators, z-scored on training trials."""
    names = np.unique(labels)
    targets = (labels[:, None] == names).astype(float)
    hits = 0
    for number in np.unique(run):
        train = run != number
        betas = betas_of_fold(number).astype(float)
        z = (betas - betas[train].mean(axis=0)) / betas[train].std(axis=0)
        kernel = z[train] @ z[train].T + 10 * np.eye(train.sum())
        weights = np.linalg.solve(kernel, targets[train] - targets[train].mean(axis=0))
        scores = z[~train] @ z[train].T @ weights
        hits += np.sum(names[scores.argmax(axis=1)] == labels[~train])
    return hits / len(labels)


@pytest.mark.slow
def test_categories_of_held_out_runs(shared):
    series, onsets, conditions = read_haxby(shared)
    run = np.repeat(np.arange(12), [len(each) for each in onsets])
    found = estimate_single_trials(
        series, onsets, conditions, 2.5, 22.5, tuning_sets=[run != number for number in range(12)]
    )
    labels = np.concatenate(conditions)
    # chance is .125; a plain GLM reaches .67
    least = {'B': 0.74, 'C': 0.71, 'D': 0.66}
    keep = found.usable
    for model, betas in found.betas.items():
        assert accuracy(lambda _, b=betas: b[:, keep], labels, run) >= least[model]
    tuned = {
        model: accuracy(lambda number, m=model: found.tuned[number].betas[m][:, keep], labels, run)
        for model in 'CD'
    }
    # tuned without a look at the test trials' categories, a little is lost
    assert tuned['C'] >= 0.66
    assert tuned['D'] >= 0.6
