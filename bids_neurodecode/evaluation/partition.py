"""What each feature space explains: alone, by nobody else, and together with others.

The unique part of a feature space is the variance explained by all of them less what is explained
without it, in held-out samples. It is tested by exchanging the predictions of the two models,
stimulus by stimulus: if the space adds nothing, either model is as likely to be the better one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.statistics import MIN_GROUPS, block_labels, fdr
from bids_neurodecode.evaluation.voxels import r2_by_column
from bids_neurodecode.mapped import group_sums
from bids_neurodecode.typing import FloatArray, RealArray

BAD_MODELS = 'Every feature space needs predictions without it and by it alone; {name!r} lacks.'

_EXCHANGES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class VariancePartition:
    """Shares of the variance of held-out responses, each (n_voxels,).

    Parameters
    ----------
    full
        Explained by all feature spaces together.
    alone
        Explained by each space alone.
    unique
        Explained by all, but not without this space.
    shared
        The rest of ``full``: what more than one space can explain (may be negative, where spaces
        predict better together than the sum of what each adds).
    p_unique_fdr
        Whether the unique part is above 0; adjusted over voxels.
    """

    full: FloatArray
    alone: Mapping[str, FloatArray]
    unique: Mapping[str, FloatArray]
    shared: FloatArray
    p_unique_fdr: Mapping[str, FloatArray]


def partition_variance(
    truth: RealArray,
    full: RealArray,
    without: Mapping[str, RealArray],
    alone: Mapping[str, RealArray],
    *,
    units: npt.ArrayLike | None = None,
    n_permutations: int = 1000,
    rng: np.random.Generator,
) -> VariancePartition:
    """Partition the variance that feature spaces explain in held-out samples.

    Parameters
    ----------
    truth, full
        Responses, and their prediction from all spaces, (n_samples, n_voxels).
    without, alone
        Predictions from all spaces but one, and from one only, by its name.
    units
        One label per sample; predictions of one unit (a stimulus) are exchanged together.
    n_permutations
        Random exchanges; 0 gives p values of NaN.
    rng
        Source of randomness.
    """
    for name in {*without, *alone}:
        if name not in without or name not in alone:
            raise DataError(BAD_MODELS.format(name=name))
    r2 = r2_by_column(truth, full)
    unique, p = {}, {}
    for name, reduced in without.items():
        unique[name] = r2 - r2_by_column(truth, reduced)
        p[name] = exchange_test(
            truth, full, reduced, units=units, n_permutations=n_permutations, rng=rng
        )
    return VariancePartition(
        full=r2,
        alone={name: r2_by_column(truth, prediction) for name, prediction in alone.items()},
        unique=unique,
        shared=r2 - np.sum(list(unique.values()), axis=0),
        p_unique_fdr={name: fdr(values) for name, values in p.items()},
    )


def exchange_test(
    truth: RealArray,
    better: RealArray,
    other: RealArray,
    *,
    units: npt.ArrayLike | None = None,
    n_permutations: int = 1000,
    rng: np.random.Generator,
) -> FloatArray:
    """Test whether one prediction has the smaller squared error, voxel by voxel.

    Parameters
    ----------
    truth, better, other
        Shape (n_samples, n_voxels).
    units, n_permutations, rng
        See :func:`partition_variance`.

    Returns
    -------
    numpy.ndarray
        One-sided p values (n_voxels,), (b + 1) / (m + 1); NaN without permutations, or with
        fewer than :data:`~bids_neurodecode.evaluation.statistics.MIN_GROUPS` units.
    """
    gain = (np.asarray(other, dtype=np.float64) - truth) ** 2
    gain -= (np.asarray(better, dtype=np.float64) - truth) ** 2
    labels = np.arange(len(gain)) if units is None else block_labels(units, len(gain), 'unit')
    sums = group_sums(gain, labels, int(labels.max()) + 1)
    if n_permutations == 0 or len(sums) < MIN_GROUPS:
        return np.full(gain.shape[1], np.nan)
    observed = sums.sum(axis=0)
    slack = 1e-9 * np.abs(sums).sum(axis=0)
    reached = np.zeros(gain.shape[1])
    for start in range(0, n_permutations, _EXCHANGES_AT_ONCE):
        n = min(_EXCHANGES_AT_ONCE, n_permutations - start)
        signs = rng.choice([-1.0, 1.0], size=(n, len(sums)))
        reached += (signs @ sums >= observed - slack).sum(axis=0)
    return np.where(np.isfinite(observed), (reached + 1) / (n_permutations + 1), np.nan)
