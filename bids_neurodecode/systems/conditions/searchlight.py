"""Where in the brain can conditions be told apart? A classifier at every voxel.

:class:`nilearn.decoding.SearchLight` with linear discriminant analysis, its covariance shrunk
(Ledoit & Wolf 2004), on standardised voxels (Kriegeskorte et al. 2006, PNAS 103:3863).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation.statistics import MIN_GROUPS, inflation_of
from bids_neurodecode.samples import Samples, Split, VoxelMask
from bids_neurodecode.spaces import needs_grid
from bids_neurodecode.typing import FloatArray


def searchlight(
    tuned: Sequence[Samples], split: Split, within: npt.NDArray[np.bool_], radius: float
) -> FloatArray:
    """Classify held-out trials by the voxels around each voxel.

    Parameters
    ----------
    tuned
        All trials once a fold, with betas tuned on its training trials; or one for all folds.
    split
        What is held out.
    within
        Voxels that are used, (n_voxels,).
    radius
        Of the spheres (mm).

    Returns
    -------
    numpy.ndarray
        Balanced accuracy of each fold, (n_folds, n_voxels); NaN outside of ``within``.
    """
    from nilearn.decoding import SearchLight
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    needs_grid('A searchlight', tuned[0].responses.mask.space)
    names = split.table['stimulus'].astype(str).to_numpy()
    mask = tuned[0].responses.mask.restrict(within)
    classifier = make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver='lsqr', shrinkage='auto')
    )
    accuracy = np.full((len(split), len(within)), np.nan)
    for number, fold in enumerate(split):
        samples = tuned[min(number, len(tuned) - 1)]
        light = SearchLight(
            _image_of(mask),
            radius=radius,
            estimator=classifier,
            scoring='balanced_accuracy',
            cv=[(fold.train, fold.test)],
        )
        with warnings.catch_warnings():
            # of a run that lacks a condition; and constant voxels, whose scale is taken as 1
            warnings.filterwarnings('ignore', category=UserWarning)
            light.fit(mask.image(np.asarray(samples.values)[:, within]), names)
        accuracy[number, within] = mask.extract(light.scores_)
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


def _image_of(mask: VoxelMask) -> object:
    return mask.image(np.ones(mask.n_voxels))


__all__ = ['accuracy_p', 'searchlight']
