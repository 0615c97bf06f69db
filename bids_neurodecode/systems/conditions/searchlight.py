"""Where in the brain can conditions be told apart? A classifier at every voxel.

nilearn's search light with linear discriminant analysis, its covariance shrunk (Ledoit & Wolf
2004), on standardised voxels (Kriegeskorte et al. 2006, PNAS 103:3863); on surfaces around the
vertices along the mesh (Oosterhof et al. 2011, NeuroImage 56:593).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.sparse import lil_array

from bids_neurodecode.evaluation.statistics import MIN_GROUPS, inflation_of
from bids_neurodecode.signals.meshes import within_reach
from bids_neurodecode.systems.voxels import Estimates
from bids_neurodecode.typing import BoolArray, FloatArray


def searchlight(
    estimates: Estimates,
    within: BoolArray,
    radius: float,
    meshes: Iterable[Path] = (),
) -> FloatArray:
    """Classify held-out trials by the voxels around each voxel.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    within
        Voxels that are used, (n_voxels,).
    radius
        Of the spheres (mm); on surfaces, of the way along the mesh.
    meshes
        Folders where meshes are looked for.

    Returns
    -------
    numpy.ndarray
        Balanced accuracy of each fold, (n_folds, n_voxels); NaN outside of ``within``.
    """
    from nilearn.decoding.searchlight import search_light
    from sklearn import config_context
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    split = estimates.split
    names = split.table['stimulus'].astype(str).to_numpy()
    mask = estimates.samples.responses.mask.restrict(within)
    near = lil_array((mask.n_voxels, mask.n_voxels), dtype=bool)
    near.rows[:] = [
        row.tolist() for row in within_reach(mask, radius, meshes, what='A searchlight')
    ]
    classifier = make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver='lsqr', shrinkage='auto')
    )
    accuracy = np.full((len(split), len(within)), np.nan)
    for number, fold in enumerate(split):
        samples = estimates.of_fold(number)
        # arguments and values are checked once, not for each of the many small fits
        with (
            config_context(assume_finite=True, skip_parameter_validation=True),
            warnings.catch_warnings(),
        ):
            # of a run that lacks a condition; and constant voxels, whose scale is taken as 1
            warnings.filterwarnings('ignore', category=UserWarning)
            accuracy[number, within] = search_light(
                np.asarray(samples.values, dtype=np.float32)[:, within],
                names,
                classifier,
                near,
                scoring='balanced_accuracy',
                cv=[(fold.train, fold.test)],
                n_jobs=1,
            )
    return accuracy


def accuracy_p(accuracy: FloatArray, chance: float, n_test: float) -> FloatArray:
    """Test accuracies of folds against chance, voxel by voxel.

    A one-sided t test over folds whose variance is corrected for the training trials that they
    share (Nadeau & Bengio 2003, Mach Learn 52:239), and is at least that of guessing.

    Parameters
    ----------
    accuracy
        Shape (n_folds, n_voxels).
    chance
        What guessing scores.
    n_test
        Held-out trials a fold.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,); NaN with fewer than six folds.
    """
    from scipy.stats import t

    n = len(accuracy)
    if n < MIN_GROUPS:
        return np.full(accuracy.shape[1], np.nan)
    least = chance * (1 - chance) / n_test
    variance = np.maximum(accuracy.var(axis=0, ddof=1), least)
    error = np.sqrt(variance / n * inflation_of(1.0, n))
    return np.asarray(t.sf((accuracy.mean(axis=0) - chance) / error, n - 1), dtype=np.float64)
