"""Encoding of images whose responses have nothing to do with them.

Networks are judged by the same class (``encoding_scores.EncodingScorer``), of their predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.validation.harness import Check, once
from benchmarks.validation.selection import noise
from bids_neurodecode.config import EvaluationSettings, RidgeSettings, build_config
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.encoding.recipe import encode_pictures
from bids_neurodecode.systems.voxels import Estimates

FloatArray = npt.NDArray[np.float64]

N_VOXELS, N_FEATURES = 20, 6
RIDGE = RidgeSettings(alphas=(1.0, 100.0, 10_000.0), n_folds=3)


@dataclass(frozen=True)
class World:
    """Images in other orders in each run, trials of AR .5; ``folds`` of 0 is once, or each run."""

    model: Literal['ridge', 'banded'] = 'ridge'
    by: Literal['stimulus', 'run'] = 'stimulus'
    n_images: int = 60
    n_runs: int = 2
    folds: int = 1


class Scored(NamedTuple):
    """P of the median, mean and voxels; limits of the mean."""

    median: float
    mean: float
    voxels: FloatArray
    any_fdr: bool
    low: float
    high: float


@once
def scored(rng: np.random.Generator, world: World) -> Scored:
    """Fit and judge one data set."""
    names = tuple(f'{k:03d}.png' for k in range(world.n_images))
    shown = np.concatenate([rng.permutation(world.n_images) for _ in range(world.n_runs)])
    run = np.repeat(np.arange(world.n_runs), world.n_images)
    table = pd.DataFrame({'stimulus': np.array(names)[shown], 'run': run, 'session': ''})
    values = [noise(rng, world.n_images, 0.5, N_VOXELS) for _ in range(world.n_runs)]
    mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(np.concatenate(values).astype(np.float32), mask), table)
    spaces = {
        name: PerStimulus(names, rng.normal(size=(world.n_images, N_FEATURES)).astype(np.float32))
        for name in ('one', 'other')
    }
    config = build_config({'evaluation': EvaluationSettings(n_permutations=199).model_dump()})
    found = encode_pictures(
        Estimates(samples, split_by_group(table, world.by, n_folds=world.folds or None, rng=rng)),
        spaces,
        config,
        settings=EncoderSettings(model=world.model, ridge=RIDGE, n_mixtures=5, baseline=False),
    )
    rows = {s.metric: s for s in found.scores if s.space == 'single-trial'}
    median, mean = rows['voxel_r_median'], rows['voxel_r_mean']
    given = (median.p, mean.p, mean.ci_low, mean.ci_high)
    p_median, p_mean, low, high = (float('nan') if x is None else x for x in given)
    maps = found.trial_maps
    return Scored(p_median, p_mean, maps.p, bool((maps.p_fdr <= 0.05).any()), low, high)


def p_of(rng: np.random.Generator, world: World, what: str) -> npt.ArrayLike:
    """Return p values: ``median``, ``mean`` or ``voxels``."""
    found: float | FloatArray = getattr(scored(rng, world), what)
    return found


def any_voxel(rng: np.random.Generator, world: World) -> float:
    """Tell whether any voxel is significant by its false discovery rate; NaN: not tested."""
    found = scored(rng, world)
    return float(found.any_fdr) if np.isfinite(found.voxels).any() else float('nan')


def covers_chance(rng: np.random.Generator, world: World) -> float:
    """Tell whether the interval of the mean over voxels holds 0; NaN: none was given."""
    found = scored(rng, world)
    return float(found.low <= 0 <= found.high) if np.isfinite(found.low) else float('nan')


_WORLDS = (
    ('60 images in 2 runs, a fifth held out', {}),
    ('60 images in 2 runs, five folds', {'folds': 5}),
    (
        '12 images in each of 6 runs, one run left out',
        {'by': 'run', 'n_images': 12, 'n_runs': 6, 'folds': 0},
    ),
)
_WIDENED = (
    'Nulls of several folds are widened by the root of 2, a bound where folds share less than '
    'that; `evaluation.permutation = "refit"` is tighter.'
)
CHECKS = [
    Check(
        *('encoding', f'{model}, {name}', where, kind),
        partial(simulate, world=world),
        quick=quick,
        note='' if world.folds == 1 else _WIDENED,
    )
    for model in ('ridge', 'banded')
    for where, more in _WORLDS
    for world in (World(model=model, **more),)  # type: ignore[arg-type]
    for name, kind, simulate, quick in (
        ('median r', 'p', partial(p_of, what='median'), 0),
        ('mean r', 'p', partial(p_of, what='mean'), 0),
        ('each voxel', 'p', partial(p_of, what='voxels'), 15 if world == World() else 0),
        ('false discovery rate', 'any', any_voxel, 0),
        ('mean r', 'covers', covers_chance, 15 if world == World() else 0),
    )
    # over folds the median of a skewed null has no p value
    if name != 'median r' or world.folds == 1
]
