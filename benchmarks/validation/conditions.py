"""Conditions without a signal, and with one: decoded, predicted, compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from benchmarks.validation.harness import Check
from bids_neurodecode.config import Config, build_config
from bids_neurodecode.evaluation.statistics import fdr
from bids_neurodecode.samples import Responses, Samples, Split, VoxelMask, split_by_group
from bids_neurodecode.systems.conditions.decoding import (
    ACCURACY,
    classify,
    classify_regions,
    conditions_of,
)
from bids_neurodecode.systems.conditions.searchlight import accuracy_p, searchlight
from bids_neurodecode.systems.conditions.similarity import Dissimilarity, dissimilarity
from bids_neurodecode.systems.voxels import Estimates, cut_folds

FloatArray = npt.NDArray[np.float64]
N_VOXELS = 40


@dataclass(frozen=True)
class World:
    """Trials of one participant; noise is autocorrelated within runs and shared by neighbours.

    Parameters
    ----------
    n_runs, n_conditions, per_run
        Each condition is shown ``per_run`` times in each run, in a random order.
    ar
        Correlation of the noise of one trial with the next.
    signal
        Standard deviation of the responses to conditions, beside noise of 1.
    measure
        Of the selection of voxels: ``none``, or ``auto`` (repeats that agree).
    unequal
        Whether the first condition is shown twice as often as the others.
    """

    n_runs: int = 8
    n_conditions: int = 4
    per_run: int = 2
    ar: float = 0.5
    signal: float = 0.0
    measure: str = 'none'
    unequal: bool = False

    @property
    def config(self) -> Config:
        """Settings of the analysis."""
        return build_config(
            {
                'selection': {'measure': self.measure},
                'ridge': {'alphas': [1.0, 100.0, 10_000.0], 'n_folds': 3},
                'evaluation': {'n_permutations': 199, 'n_bootstrap': 300},
            }
        )

    def data(self, rng: np.random.Generator) -> tuple[Samples, Split, FloatArray]:
        """Draw trials, the split, and the true patterns (n_conditions, n_voxels)."""
        patterns = self.signal * rng.standard_normal((self.n_conditions, N_VOXELS))
        each = np.repeat(np.arange(self.n_conditions), self.per_run)
        if self.unequal:
            each = np.concatenate([each, np.zeros(self.per_run, dtype=each.dtype)])
        mixing = np.eye(N_VOXELS) + 0.5 * np.eye(N_VOXELS, k=1) + 0.5 * np.eye(N_VOXELS, k=-1)
        mixing /= np.linalg.norm(mixing, axis=0)
        rows, values = [], []
        for run in range(self.n_runs):
            shown = rng.permutation(each)
            noise = rng.standard_normal((len(shown) + 50, N_VOXELS)) @ mixing
            noise = lfilter([np.sqrt(1 - self.ar**2)], [1, -self.ar], noise, axis=0)[50:]
            values.append(noise + patterns[shown])
            rows += [(f'c{k}', run, '', 4.0 * place, 2.0) for place, k in enumerate(shown)]
        columns = ['stimulus', 'run', 'session', 'onset', 'duration']
        mask = VoxelMask(np.ones((N_VOXELS // 4, 2, 2), dtype=bool), np.diag([3.0, 3, 3, 1]))
        responses = Responses(np.concatenate(values).astype(np.float32), mask)
        samples = Samples(responses, pd.DataFrame(rows, columns=columns))
        return samples, split_by_group(samples.table, 'run'), patterns

    def accuracy(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Return limits and p of the balanced accuracy."""
        samples, split, _ = self.data(rng)
        tsnr = np.ones((self.n_runs, N_VOXELS), dtype=np.float32)
        estimates = Estimates(samples, split, tsnr_runs=tsnr)
        folds, _ = cut_folds(estimates, conditions_of(split.table), self.config)
        found = classify(folds, split, self.config, rng=rng, with_baselines=False)
        score = next(s for s in found.scores if s.metric == ACCURACY)
        low, high, p = (np.nan if x is None else x for x in (score.ci_low, score.ci_high, score.p))
        return float(low), float(high), float(p)

    def distances(self, rng: np.random.Generator) -> tuple[Dissimilarity, FloatArray]:
        """Return measured distances, and the true patterns."""
        samples, split, patterns = self.data(rng)
        tsnr = np.ones((self.n_runs, N_VOXELS), dtype=np.float32)
        estimates = Estimates(samples, split, tsnr_runs=tsnr)
        folds, _ = cut_folds(estimates, conditions_of(split.table), self.config)
        names = tuple(f'c{k}' for k in range(self.n_conditions))
        settings = self.config.evaluation
        return dissimilarity(folds, names, split.protocol, settings, rng=rng), patterns


def accuracy_p_of(rng: np.random.Generator, *, world: World) -> float:
    """P of balanced accuracy."""
    return world.accuracy(rng)[2]


def accuracy_covered(rng: np.random.Generator, *, world: World) -> float:
    """Whether the interval of balanced accuracy holds chance."""
    low, high, _ = world.accuracy(rng)
    return float(low <= 1 / world.n_conditions <= high) if np.isfinite(low) else float('nan')


def pairs_p(rng: np.random.Generator, *, world: World) -> FloatArray:
    """P of the distances of all pairs."""
    found, _ = world.distances(rng)
    return found.p[np.triu_indices(world.n_conditions, 1)]


def mean_p(rng: np.random.Generator, *, world: World) -> float:
    """P of the mean distance."""
    p = world.distances(rng)[0].score.p
    return float('nan') if p is None else p


def pairs_covered(rng: np.random.Generator, *, world: World) -> FloatArray:
    """Whether intervals of distances hold 0 (there is no signal)."""
    found, _ = world.distances(rng)
    upper = np.triu_indices(world.n_conditions, 1)
    return ((found.ci_low <= 0) & (found.ci_high >= 0))[upper].astype(float)


def any_region(rng: np.random.Generator, *, world: World) -> float:
    """Whether any of eight regions without a signal passes FDR .05."""
    samples, split, _ = world.data(rng)
    place = np.arange(N_VOXELS) % 4
    regions = {f'r{k}': (place == k % 4) & (np.arange(N_VOXELS) // 20 == k // 4) for k in range(8)}
    config = build_config(world.config.model_dump(), {'conditions': {'min_voxels': 2}})
    table, _ = classify_regions([samples], split, config, regions, rng=rng)
    return float((table['p_fdr'] <= 0.05).any())


def light_p(rng: np.random.Generator, *, world: World) -> FloatArray:
    """P of searchlights."""
    samples, split, _ = world.data(rng)
    accuracy = searchlight([samples], split, np.ones(N_VOXELS, dtype=bool), 4.0)
    n_test = world.n_conditions * world.per_run
    return accuracy_p(accuracy, 1 / world.n_conditions, n_test)


def any_light(rng: np.random.Generator, *, world: World) -> float:
    """Whether any searchlight passes FDR .05."""
    return float((fdr(light_p(rng, world=world)) <= 0.05).any())


_AR = 'noise, AR .5, 4 conditions twice a run'
_WORLDS = (
    (f'{_AR}, 6 runs', World(n_runs=6)),
    (f'{_AR}, 8 runs', World()),
    (f'{_AR}, 12 runs', World(n_runs=12)),
    ('noise, AR .9, 8 runs', World(ar=0.9)),
    ('noise, AR .5, 8 conditions once a run, 12 runs', World(12, 8, 1)),
    (f'{_AR}, 8 runs, voxels selected', World(measure='auto')),
    (f'{_AR}, the first four times, 8 runs', World(unequal=True)),
)
CHECKS: list[Check] = [
    check
    for number, (text, world) in enumerate(_WORLDS)
    for check in (
        Check(
            'conditions',
            'balanced accuracy',
            text,
            'p',
            partial(accuracy_p_of, world=world),
            1000,
            quick=25 if number == 1 else 0,
        ),
        Check(
            'conditions',
            'balanced accuracy',
            text,
            'covers',
            partial(accuracy_covered, world=world),
            1000,
        ),
        Check('conditions', 'distance of two', text, 'p', partial(pairs_p, world=world), 1000),
        Check(
            'conditions',
            'distance of two',
            text,
            'covers',
            partial(pairs_covered, world=world),
            1000,
        ),
        Check('conditions', 'mean distance', text, 'p', partial(mean_p, world=world), 1000),
    )
]
CHECKS += [
    Check(
        'conditions',
        'balanced accuracy of regions, FDR .05',
        f'{_AR}, 8 runs, 8 regions',
        'any',
        partial(any_region, world=World()),
        400,
    ),
    Check(
        'conditions',
        'searchlights',
        f'{_AR}, 8 runs',
        'p',
        partial(light_p, world=World()),
        300,
    ),
    Check(
        'conditions',
        'searchlights, FDR .05',
        f'{_AR}, 8 runs',
        'any',
        partial(any_light, world=World()),
        300,
    ),
]
