"""Permutation tests of image models that are fitted once or again, and paired comparisons."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from benchmarks.validation.harness import Check, once
from bids_neurodecode.config import EvaluationSettings, RidgeSettings
from bids_neurodecode.samples import Responses, Samples, Split, VoxelMask, split_by_group
from bids_neurodecode.systems.base import Evaluation, PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds

SETTINGS = DecoderSettings(
    n_components=5, ridge=RidgeSettings(alphas=(1.0, 100.0, 10_000.0), n_folds=3)
)
N_VOXELS = 20


def _world(
    rng: np.random.Generator, n_stimuli: int, n_runs: int, *, autocorrelation: float
) -> tuple[Samples, PerStimulus]:
    """Responses without any relation to images, autocorrelated from trial to trial of a run."""
    names = tuple(f's{k:02d}.png' for k in range(n_stimuli))
    order = np.concatenate([rng.permutation(n_stimuli) for _ in range(n_runs)])
    noise = rng.standard_normal((n_runs, n_stimuli, N_VOXELS))
    for trial in range(1, n_stimuli):
        noise[:, trial] += autocorrelation * noise[:, trial - 1]
    run = np.repeat(np.arange(n_runs), n_stimuli)
    table = pd.DataFrame({'stimulus': np.array(names)[order], 'run': run, 'session': '01'})
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    values = noise.reshape(-1, N_VOXELS).astype(np.float32)
    features = rng.standard_normal((n_stimuli, 12)).astype(np.float32)
    return Samples(Responses(values, mask), table), PerStimulus(names, features)


def _scored(
    rng: np.random.Generator,
    by: Literal['run', 'stimulus'],
    *,
    n_stimuli: int,
    n_runs: int,
    n_folds: int | None,
    permutation: Literal['labels', 'refit'],
    n_permutations: int = 99,
    n_bootstrap: int = 0,
) -> Evaluation:
    samples, features = _world(rng, n_stimuli, n_runs, autocorrelation=0.5)
    split: Split = split_by_group(samples.table, by, n_folds=n_folds, rng=rng)
    return evaluate_folds(
        [samples.fold(fold) for fold in split],
        split,
        features,
        SETTINGS,
        evaluation=EvaluationSettings(
            n_permutations=n_permutations, n_bootstrap=n_bootstrap, permutation=permutation
        ),
        rng=rng,
    )


def _p(evaluation: Evaluation) -> float:
    rows = [
        s for s in evaluation.scores if s.model == 'ridge' and s.metric == 'identification_2way'
    ]
    return float('nan') if rows[0].p is None else rows[0].p


def _runs(rng: np.random.Generator, permutation: Literal['labels', 'refit']) -> float:
    return _p(_scored(rng, 'run', n_stimuli=8, n_runs=6, n_folds=None, permutation=permutation))


def _stimuli(rng: np.random.Generator, permutation: Literal['labels', 'refit']) -> float:
    size = {'n_stimuli': 20, 'n_runs': 2, 'n_folds': 5}
    return _p(_scored(rng, 'stimulus', **size, permutation=permutation))


@once
def _difference(rng: np.random.Generator) -> tuple[float, float, float]:
    """Low, high and p of the decoder less one fitted on shuffled pairs: neither knows anything."""
    found = _scored(
        rng,
        'run',
        n_stimuli=8,
        n_runs=8,
        n_folds=None,
        permutation='labels',
        n_permutations=0,
        n_bootstrap=999,
    )
    row = next(
        s
        for s in found.scores
        if s.model == 'baseline-shuffled' and s.metric == 'identification_2way'
    )
    given = (row.difference_low, row.difference_high, row.difference_p)
    low, high, p = (float('nan') if x is None else x for x in given)
    return low, high, p


def _compared(rng: np.random.Generator, kind: str) -> float:
    low, high, p = _difference(rng)
    if kind == 'p' or np.isnan(low):
        return p if kind == 'p' else low
    return float(low <= 0 <= high)


_LORO = '8 images in each of 6 runs, other orders, trials AR .5, leave one run out'
_FIVE = '20 images in 2 runs, trials AR .5, five folds of images'
CHECKS = [
    Check(
        'permutations',
        'two-way, models fitted again',
        _LORO,
        'p',
        partial(_runs, permutation='refit'),
        2000,
        quick=10,
    ),
    Check(
        'permutations',
        'two-way, models fitted once',
        _LORO,
        'p',
        partial(_runs, permutation='labels'),
        2000,
    ),
    Check(
        'permutations',
        'two-way, models fitted again',
        _FIVE,
        'p',
        partial(_stimuli, permutation='refit'),
        2000,
    ),
    Check(
        'permutations',
        'two-way, models fitted once',
        _FIVE,
        'p',
        partial(_stimuli, permutation='labels'),
        2000,
    ),
    Check(
        'permutations',
        'decoder less shuffled decoder',
        '8 images in each of 8 runs, leave one run out, both at chance',
        'p',
        partial(_compared, kind='p'),
        2000,
    ),
    Check(
        'permutations',
        'decoder less shuffled decoder',
        '8 images in each of 8 runs, leave one run out, both at chance',
        'covers',
        partial(_compared, kind='covers'),
        2000,
        before=(0.792, 0.716, 0.855),
    ),
]
