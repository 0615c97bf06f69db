"""Two ways of doing the same, compared pair by pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.statistics import MIN_GROUPS, bootstrap_ci, p_value

BAD_PAIRS = 'There must be one value of each kind and one group a pair: {found}.'
BATCH = 2_000_000
"""Signs that are drawn at a time."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of pairs, its interval, and a two-sided test of it.

    Parameters
    ----------
    mean
        Mean over groups of the mean difference within a group.
    low, high
        Confidence interval over groups; NaN below
        :data:`~bids_neurodecode.evaluation.statistics.MIN_GROUPS` groups.
    p
        Share of all flips of the groups' signs whose mean is as far from 0; NaN likewise. It
        holds its level where differences without an effect are as often above 0 as as far below.
    n
        Number of groups.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int


def paired_difference(
    values: npt.ArrayLike,
    others: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    groups: npt.ArrayLike | None = None,
    n_resamples: int = 9999,
    confidence: float = 0.95,
    inflation: float = 1.0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> PairedDifference:
    """Compare values with others, pair by pair.

    Parameters
    ----------
    values, others
        Shape (n_pairs,); the difference is ``values - others``.
    rng
        Source of randomness.
    groups
        One label per pair (a participant, an image); pairs of one group are not independent and
        are averaged first. None: each pair by itself.
    n_resamples
        Resamplings of the interval, and flips of signs where not all can be counted.
    confidence
        Coverage of the interval.
    inflation
        Factor on the squared standard error of groups that share training samples; see
        :func:`~bids_neurodecode.evaluation.statistics.inflation_of`.
    bounds
        Least and greatest difference that is possible, beyond which the interval is cut off.

    Raises
    ------
    DataError
        If there are no pairs, or the shapes differ.
    """
    from scipy.stats import permutation_test

    a, b = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    labels = np.arange(a.size) if groups is None else np.asarray(groups)
    if a.ndim != 1 or a.size == 0 or a.shape != b.shape or a.shape != labels.shape:
        raise DataError(BAD_PAIRS.format(found=(a.shape, b.shape, labels.shape)))
    _, codes = np.unique(labels, return_inverse=True)
    mean = np.bincount(codes, weights=a - b) / np.bincount(codes)
    n = len(mean)
    if n < MIN_GROUPS:
        return PairedDifference(float(mean.mean()), math.nan, math.nan, math.nan, n)
    low, high = bootstrap_ci(
        mean,
        rng=rng,
        n_bootstrap=n_resamples,
        confidence=confidence,
        inflation=inflation,
        bounds=bounds,
    )
    test = permutation_test(
        (mean,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type='samples',
        vectorized=True,
        n_resamples=n_resamples,
        alternative='two-sided',
        batch=max(1, BATCH // n),
        rng=rng,
    )
    p = float(test.pvalue)
    if inflation != 1:
        null = math.sqrt(inflation) * test.null_distribution
        p = min(1.0, 2 * p_value(null, abs(float(mean.mean()))))
    return PairedDifference(float(mean.mean()), low, high, p, n)
