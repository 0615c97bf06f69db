"""Real film BOLD and annotations, through the program, against ridge regression in plain numpy."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.signal import detrend
from sklearn.model_selection import GroupKFold

from bids_neurodecode.cli.main import main
from tests.running import HERE

pytestmark = [pytest.mark.real, pytest.mark.slow]

PEOPLE = ('01', '02')
CARTOON = 26
"""Volumes that both scans open with: they are not trained on."""
ALPHAS = 10.0 ** np.arange(-2, 7)
SETTINGS = """
[clean]
high_pass = "none"
scaling = "zscore"
[delay]
seconds = 0.0
fir_seconds = [0.0, 1.5, 3.0, 4.5]
[split]
by = "film"
[selection]
measure = "none"
[movie]
target = "group"
[evaluation]
n_permutations = 0
n_bootstrap = 0
"""


def zscored(x):
    return (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)


def lagged(x):
    """Set copies side by side that come 0 to 3 volumes later."""
    return np.hstack([np.vstack([np.zeros((d, x.shape[1])), x[: len(x) - d]]) for d in range(4)])


def plain_ridge(train, y, test):
    """Fit by training volumes alone, one penalty per voxel by blocks of 30 s; predict the test."""
    keep = np.arange(CARTOON, len(train))
    mean, scale = train[keep].mean(axis=0), train[keep].std(axis=0)
    X, new = (lagged((x - mean) / scale) for x in (train, test))
    X, y = X[keep], zscored(y[keep])

    def weights(rows, alpha):
        a, b = X[rows] - X[rows].mean(axis=0), y[rows] - y[rows].mean(axis=0)
        w = np.linalg.solve(a.T @ a + alpha * np.eye(a.shape[1]), a.T @ b)
        return w, y[rows].mean(axis=0) - X[rows].mean(axis=0) @ w

    error = np.zeros((len(ALPHAS), y.shape[1]))
    blocks = (keep * 1.5 // 30).astype(int).astype(str)
    for fit, held in GroupKFold(5).split(X, groups=blocks):
        for k, alpha in enumerate(ALPHAS):
            w, level = weights(fit, alpha)
            error[k] += ((X[held] @ w + level - y[held]) ** 2).sum(axis=0)
    out = np.empty((len(new), y.shape[1]))
    for k in np.unique(error.argmin(axis=0)):
        mine = error.argmin(axis=0) == k
        w, level = weights(np.arange(len(X)), ALPHAS[k])
        out[:, mine] = (new @ w + level)[:, mine]
    return out


def test_annotations_predict_the_other_scan_as_plain_ridge_says(shared, tmp_path):
    data = shared / 'data' / 'sherlock'
    (tmp_path / 'settings.toml').write_text(SETTINGS)
    common = ['-w', str(tmp_path / 'work'), '--skip-bids-validation', '--participant-label']
    common += [*PEOPLE, '--config-file', str(tmp_path / 'settings.toml')]
    common += HERE
    for level in ('participant', 'group'):
        assert main([str(data), str(tmp_path / 'out'), level, *common]) == 0
    (file,) = (tmp_path / 'out/group').rglob('*stat-pearsonr_desc-linear_statmap.nii.gz')
    inside = nib.load(next(data.rglob('*brain_mask.nii.gz'))).get_fdata() > 0
    found = nib.load(file).get_fdata()[inside]
    assert inside.sum() == 481
    X, Y = [], []
    for scan in ('1', '2'):
        name = f'stimuli/features/sherlock_part-{scan}_features.tsv'
        X.append(pd.read_csv(data / name, sep='\t').drop(columns='onset').to_numpy())
        each = []
        for label in PEOPLE:
            (bold,) = data.rglob(f'sub-{label}_*run-0{scan}_*desc-preproc_bold.nii.gz')
            each.append(zscored(detrend(nib.load(bold).get_fdata()[inside].T, axis=0)))
        Y.append(np.mean(each, axis=0))
    r = np.zeros(481)
    for train, test in ((0, 1), (1, 0)):
        predicted = plain_ridge(X[train], Y[train], X[test])
        r += (zscored(predicted) * zscored(Y[test])).mean(axis=0) * len(Y[test])
    r /= sum(map(len, Y))
    np.testing.assert_allclose(found.mean(), r.mean(), atol=0.01)
    assert np.corrcoef(found, r)[0, 1] > 0.98
    assert np.abs(found - r).max() < 0.05
