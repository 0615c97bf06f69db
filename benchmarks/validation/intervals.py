"""Intervals of means over groups, and of paired differences, in worlds with a known mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.validation.harness import Check, Kind
from bids_neurodecode.evaluation.paired import paired_difference
from bids_neurodecode.evaluation.statistics import bootstrap_ci
from bids_neurodecode.systems.comparison import median_without, unit_values
from bids_neurodecode.systems.encoding.scores import weighted_r

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], FloatArray]

WORLDS: dict[str, tuple[Draw, float, tuple[float, float]]] = {
    'normal': (lambda rng, n: rng.normal(size=n), 0.0, (-math.inf, math.inf)),
    'heavy tails (t, 3 df)': (lambda rng, n: rng.standard_t(3, n), 0.0, (-math.inf, math.inf)),
    'skewed (log-normal, .5)': (
        lambda rng, n: rng.lognormal(0, 0.5, n),
        math.exp(0.125),
        (0.0, math.inf),
    ),
    'skewed (exponential)': (lambda rng, n: rng.exponential(size=n), 1.0, (0.0, math.inf)),
    'share near 1 (beta, mean .95)': (lambda rng, n: rng.beta(19, 1, n), 0.95, (0.0, 1.0)),
    'share of 30 samples, mean .9': (
        lambda rng, n: rng.binomial(30, rng.beta(18, 2, n)) / 30,
        0.9,
        (0.0, 1.0),
    ),
}
SIZES = (6, 8, 12, 20)


def mean_covered(rng: np.random.Generator, *, world: str, n: int) -> float:
    """Whether the interval of a mean over n groups holds the true one."""
    draw, true, bounds = WORLDS[world]
    low, high = bootstrap_ci(draw(rng, n), rng=rng, bounds=bounds)
    return float(low <= true <= high) if math.isfinite(low) else math.nan


def difference_covered(rng: np.random.Generator, *, world: str, n: int) -> float:
    """Whether the interval of a paired difference holds the true one."""
    draw, true, _ = WORLDS[world]
    values = draw(rng, n)
    found = paired_difference(values, np.zeros(n), rng=rng, n_resamples=999)
    return float(found.low <= true <= found.high) if math.isfinite(found.low) else math.nan


def difference_p(rng: np.random.Generator, *, n: int) -> float:
    """P of a paired difference of two equally good predictions, each skewed."""
    one, other = rng.exponential(size=(2, n))
    return paired_difference(one, other, rng=rng, n_resamples=999).p


def median_difference(
    rng: np.random.Generator, *, n: int, n_voxels: int = 300, outcome: str = 'p'
) -> float:
    """Compare the median correlations over voxels of two models that are equally good.

    The truth is what both predict, noise that voxels share, and noise of their own.
    """
    mix = rng.normal(size=(10, n_voxels)) / np.sqrt(10) * rng.uniform(0.2, 1, n_voxels)
    one, other = rng.normal(size=(2, n, 10)) @ mix
    shared = rng.normal(size=(n, 4)) @ rng.normal(size=(4, n_voxels))
    truth = 0.3 * (one + other) + 0.5 * shared + 0.9 * rng.normal(size=(n, n_voxels))
    without = (1 - np.eye(n)).astype(np.float32)
    values = []
    for predicted in (one, other):
        x, y = ((v - v.mean(axis=0)) / v.std(axis=0) for v in (truth, predicted))
        each = weighted_r(x.astype(np.float32), y.astype(np.float32), without)
        r = (x * y).mean(axis=0)
        values.append(unit_values(float(np.median(r)), median_without(r, each)))
    found = paired_difference(*values, rng=rng, n_resamples=499)
    return found.p if outcome == 'p' else float(found.low <= 0 <= found.high)


# measured with percentiles of 1,000 resamplings, 1,000 data sets
_BEFORE = {
    ('normal', 6): (0.832, 0.807, 0.855),
    ('normal', 8): (0.886, 0.865, 0.905),
    ('normal', 12): (0.922, 0.904, 0.938),
    ('normal', 20): (0.922, 0.904, 0.938),
    ('heavy tails (t, 3 df)', 6): (0.836, 0.812, 0.858),
    ('heavy tails (t, 3 df)', 8): (0.864, 0.841, 0.885),
    ('heavy tails (t, 3 df)', 12): (0.901, 0.881, 0.919),
    ('heavy tails (t, 3 df)', 20): (0.927, 0.909, 0.942),
    ('skewed (log-normal, .5)', 6): (0.830, 0.805, 0.853),
    ('skewed (log-normal, .5)', 8): (0.875, 0.853, 0.895),
    ('skewed (log-normal, .5)', 12): (0.894, 0.873, 0.912),
    ('skewed (log-normal, .5)', 20): (0.909, 0.889, 0.926),
    ('skewed (exponential)', 6): (0.812, 0.786, 0.836),
    ('skewed (exponential)', 8): (0.833, 0.808, 0.856),
    ('skewed (exponential)', 12): (0.872, 0.850, 0.892),
    ('skewed (exponential)', 20): (0.891, 0.870, 0.910),
    ('share near 1 (beta, mean .95)', 6): (0.833, 0.808, 0.856),
    ('share near 1 (beta, mean .95)', 8): (0.852, 0.828, 0.873),
    ('share near 1 (beta, mean .95)', 12): (0.883, 0.861, 0.902),
    ('share near 1 (beta, mean .95)', 20): (0.916, 0.897, 0.932),
    ('share of 30 samples, mean .9', 6): (0.868, 0.845, 0.888),
    ('share of 30 samples, mean .9', 8): (0.862, 0.839, 0.883),
    ('share of 30 samples, mean .9', 12): (0.895, 0.874, 0.913),
    ('share of 30 samples, mean .9', 20): (0.913, 0.894, 0.930),
}

# 250 data sets
OUTCOMES: tuple[Kind, ...] = ('p', 'covers')
_BEFORE_MEDIAN = {
    ('p', 12): (0.300, 0.247, 0.359),
    ('p', 40): (0.596, 0.534, 0.655),
    ('covers', 12): (0.724, 0.666, 0.776),
    ('covers', 40): (0.392, 0.334, 0.454),
}

CHECKS = [
    *(
        Check(
            'intervals',
            f'mean over {n} groups',
            world,
            'covers',
            partial(mean_covered, world=world, n=n),
            quick=150 if n == 8 else 0,
            before=_BEFORE[world, n],
        )
        for world in WORLDS
        for n in SIZES
    ),
    *(
        Check(
            'intervals',
            f'paired difference of {n} pairs',
            world,
            'covers',
            partial(difference_covered, world=world, n=n),
            quick=150 if n == 6 and world == 'normal' else 0,
            # the same percentiles, of the differences
            before=_BEFORE[world, n],
        )
        for world in ('normal', 'skewed (log-normal, .5)')
        for n in SIZES
    ),
    *(
        Check(
            'intervals',
            f'paired difference of {n} pairs',
            'two equally good, skewed predictions',
            'p',
            partial(difference_p, n=n),
        )
        for n in SIZES
    ),
    *(
        Check(
            'intervals',
            f'difference of medians over 300 voxels, {n} stimuli',
            'two equally good models, noise that voxels share',
            outcome,
            partial(median_difference, n=n, outcome=outcome),
            # the jackknife of the median itself
            before=_BEFORE_MEDIAN[outcome, n],
        )
        for outcome in OUTCOMES
        for n in (12, 40)
    ),
]
