"""How different are the response patterns of two conditions? Cross-validated distances.

The distance is the crossnobis estimator (Walther et al. 2016, NeuroImage 137:188): the product of
the difference of two conditions in a held-out run with their difference in the training runs, in
units of the noise (its covariance shrunk as by Ledoit & Wolf 2004, from training trials). Noise of
two runs is independent, so that it is 0 on average where there is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation import statistics
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Parts
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.systems.comparison import unit_values
from bids_neurodecode.systems.conditions.patterns import patterns_of, residuals
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE
from bids_neurodecode.systems.scoring import LABELS
from bids_neurodecode.typing import BoolArray, FloatArray

MODEL, METRIC = 'crossnobis', 'crossnobis_mean'
_LEAST_SHRINKAGE = 1e-6


@dataclass(frozen=True, eq=False)
class Dissimilarity:
    """Distances between conditions.

    Parameters
    ----------
    conditions
        Names of rows and columns.
    distance
        Squared, a voxel, (n_conditions, n_conditions); 0 on the diagonal, NaN where two
        conditions share no two runs.
    ci_low, ci_high
        Confidence limits over runs, of the same shape; NaN where there is none.
    p, p_fdr
        Whether the distance is above 0, as it is and adjusted over pairs; NaN where not tested.
    score
        The mean over pairs as a row of the metrics table.
    """

    conditions: tuple[str, ...]
    distance: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    p: FloatArray
    p_fdr: FloatArray
    score: Score

    def table(self) -> pd.DataFrame:
        """Return one row per pair: ``condition_a``, ``condition_b``, and the values of each."""
        pairs = list(zip(*np.triu_indices(len(self.conditions), 1), strict=True))
        values = {
            name: [float(getattr(self, name)[pair]) for pair in pairs]
            for name in ('distance', 'ci_low', 'ci_high', 'p', 'p_fdr')
        }
        first = [self.conditions[a] for a, _ in pairs]
        second = [self.conditions[b] for _, b in pairs]
        return pd.DataFrame({'condition_a': first, 'condition_b': second, **values})


@dataclass(frozen=True, eq=False)
class _Products:
    """Sums over pairs of a held-out run (rows) and a training run (columns), by run."""

    held_out: FloatArray
    """Distances with the run held out, (n_runs, n_conditions, n_conditions), summed."""
    training: FloatArray
    """Distances with the run in training, likewise."""
    n_held_out: FloatArray
    n_training: FloatArray
    """Numbers of such pairs that have both conditions."""
    patterns: FloatArray
    """Products of the patterns of a held-out run (rows) and the mean training patterns (columns),
    (n_runs, n_conditions, n_conditions)."""


def dissimilarity(
    folds: Sequence[Parts],
    conditions: tuple[str, ...],
    protocol: str,
    settings: EvaluationSettings,
    *,
    rng: np.random.Generator,
    tested: bool = True,
) -> Dissimilarity:
    """Measure the distance of each pair of conditions over held-out runs.

    A pair is tested by exchanging its labels in held-out runs: signs of their distances are
    flipped. Runs train each other, which doubles the variance of a mean without a difference and
    not that of its flips: these are widened by the root of 2. Limits are of jackknife
    pseudo-values over runs.

    Parameters
    ----------
    folds
        Training and test samples of each fold, whole runs, with the voxels already chosen.
    conditions
        Names.
    protocol
        Of the split, for the row of the metrics table.
    settings
        Permutations, bootstrap and confidence.
    rng
        Source of randomness.
    tested
        Whether labels may be exchanged within runs.
    """
    found = _products(folds, conditions)
    n_runs, n = len(found.held_out), len(conditions)
    total, pairs = found.held_out.sum(axis=0), found.n_held_out.sum(axis=0)
    off = ~np.eye(n, dtype=bool)
    known = (pairs > 0) & off
    distance = np.where(known, total / np.maximum(pairs, 1), np.where(off, np.nan, 0.0))
    low, high, p = (np.full((n, n), np.nan) for _ in range(3))
    each = _left_out(found, total, pairs)
    enough = n_runs >= statistics.MIN_GROUPS
    tested = tested and enough and settings.n_permutations > 0
    signs = rng.choice([-1.0, 1.0], (settings.n_permutations if tested else 0, n_runs))
    signs *= np.sqrt(2)
    for a, b in zip(*np.triu_indices(n, 1), strict=True):
        if not known[a, b]:
            continue
        values = unit_values(float(distance[a, b]), each[:, a, b])
        if np.isfinite(values).all() and enough:
            low[a, b], high[a, b] = statistics.bootstrap_ci(
                values,
                rng=rng,
                n_bootstrap=settings.n_bootstrap,
                confidence=settings.confidence,
            )
        if tested:
            null = signs @ found.held_out[:, a, b] / pairs[a, b]
            p[a, b] = statistics.p_value(null, float(distance[a, b]))
    for upper in (low, high, p):
        upper[:] = np.where(np.tri(n, k=-1, dtype=bool), upper.T, upper)
    p_fdr = np.full((n, n), np.nan)
    upper_rows = np.triu_indices(n, 1)
    p_fdr[upper_rows] = statistics.fdr(p[upper_rows])
    p_fdr = np.where(np.tri(n, k=-1, dtype=bool), p_fdr.T, p_fdr)
    score = _mean_score(found, each, distance, known, protocol, settings, rng, tested)
    return Dissimilarity(conditions, distance, low, high, p, p_fdr, score)


def _mean_score(
    found: _Products,
    each: FloatArray,
    distance: FloatArray,
    known: BoolArray,
    protocol: str,
    settings: EvaluationSettings,
    rng: np.random.Generator,
    tested: bool,
) -> Score:
    """Score the mean over pairs; its null exchanges the conditions of each held-out run."""
    n_runs, n = len(found.held_out), len(distance)
    value = float(distance[known].mean()) if known.any() else float('nan')
    by_run = unit_values(value, each[:, known].mean(axis=1)) if known.any() else np.empty(0)
    limits: tuple[float | None, float | None] = (None, None)
    if n_runs >= statistics.MIN_GROUPS and by_run.size and np.isfinite(by_run).all():
        low, high = statistics.bootstrap_ci(
            by_run,
            rng=rng,
            n_bootstrap=settings.n_bootstrap,
            confidence=settings.confidence,
        )
        limits = (None, None) if np.isnan(low) else (low, high)
    p = None
    # with a condition that some run lacks, not all labels of a run can be exchanged
    if tested and np.isfinite(found.patterns).all():
        order = np.arange(n)
        null = np.zeros(settings.n_permutations)
        for products in found.patterns:
            draws = np.stack([rng.permutation(n) for _ in range(settings.n_permutations)])
            agree = products[draws, order].sum(axis=1)
            null += (n * agree - products.sum()) / (n * (n - 1) / 2)
        null *= np.sqrt(2) / n_runs
        p = statistics.p_value(null, value)
    return Score(
        system='conditions',
        model=MODEL,
        protocol=protocol,
        split='test',
        space=REPEAT_AVERAGE,
        metric=METRIC,
        value=value,
        n=int(known.sum()) // 2,
        chance=0.0,
        ci_low=limits[0],
        ci_high=limits[1],
        p=p,
        n_units=n_runs,
        units='runs',
        test=None if p is None else LABELS,
    )


def _left_out(found: _Products, total: FloatArray, pairs: FloatArray) -> FloatArray:
    """Return the distances without each run, held out or in training, (n_runs, n, n)."""
    left = pairs - found.n_held_out - found.n_training
    sums = total - found.held_out - found.training
    return np.where(left > 0, sums / np.maximum(left, 1), np.nan)


def _products(folds: Sequence[Parts], conditions: tuple[str, ...]) -> _Products:
    """Multiply differences in held-out runs with those in training runs, in units of noise."""
    labels = list(dict.fromkeys(x for fold in folds for x in run_labels(fold.test.table).tolist()))
    known = {label: row for row, label in enumerate(labels)}
    every = dict.fromkeys(x for fold in folds for x in run_labels(fold.train.table).tolist())
    known |= {label: len(known) + k for k, label in enumerate(x for x in every if x not in known)}
    n = len(conditions)
    shape = (len(known), n, n)
    held_out, training, n_held_out, n_training = (np.zeros(shape) for _ in range(4))
    patterns = np.full(shape, np.nan)
    for fold in folds:
        train, test = (patterns_of(part, conditions) for part in (fold.train, fold.test))
        noise = residuals(
            fold.train.values,
            fold.train.table['stimulus'].to_numpy(),
            run_labels(fold.train.table),
        )
        n_voxels = train.means.shape[2]
        seen = np.isfinite(train.means[..., 0])
        white = whitened(np.nan_to_num(train.means).reshape(-1, n_voxels), noise)
        white = white.reshape(train.means.shape)
        for label, mine in zip(test.runs.tolist(), test.means, strict=True):
            m = known[label]
            has = np.isfinite(mine[:, 0])
            products = np.einsum('iv,njv->nij', np.nan_to_num(mine), white) / n_voxels
            both = has & seen
            pair = both[:, :, None] & both[:, None, :]
            of = np.einsum('nii->ni', products)
            apart = of[:, :, None] + of[:, None, :] - products - products.transpose(0, 2, 1)
            apart = np.where(pair, apart, 0.0)
            held_out[m] += apart.sum(axis=0)
            n_held_out[m] += pair.sum(axis=0)
            for other, row, count in zip(train.runs.tolist(), apart, pair, strict=True):
                training[known[other]] += row
                n_training[known[other]] += count
            if both.all():
                patterns[m] = products.mean(axis=0)
    tested = len(labels)
    return _Products(
        held_out[:tested],
        training[:tested],
        n_held_out[:tested],
        n_training[:tested],
        patterns[:tested],
    )


def whitened(patterns: FloatArray, noise: FloatArray) -> FloatArray:
    """Multiply patterns with the inverse of the noise covariance, shrunk as by Ledoit and Wolf.

    Parameters
    ----------
    patterns
        Shape (n_patterns, n_voxels).
    noise
        Centred residuals, (n_trials, n_voxels).

    Returns
    -------
    numpy.ndarray
        Shape (n_patterns, n_voxels).
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    n, n_voxels = noise.shape
    variance = float((noise**2).sum()) / (n * n_voxels)
    if variance == 0:  # one trial of each condition in one run: nothing is known of the noise
        return patterns
    shrinkage = max(float(ledoit_wolf_shrinkage(noise, assume_centered=True)), _LEAST_SHRINKAGE)
    ridge, weight = shrinkage * variance, (1 - shrinkage) / n
    if weight == 0:
        return np.asarray(patterns / ridge)
    # Woodbury: trials are fewer than voxels
    inner = np.linalg.solve(noise @ noise.T + ridge / weight * np.eye(n), noise @ patterns.T)
    return np.asarray((patterns - (noise.T @ inner).T) / ridge)
