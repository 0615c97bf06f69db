"""Identification of images from responses without a signal, and with one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter
from scipy.stats import binomtest

from benchmarks.validation.harness import Check, once
from bids_neurodecode.config import EvaluationSettings, RidgeSettings
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds

FloatArray = npt.NDArray[np.float64]
Order = Literal['random', 'same', 'swaps', 'reversed', 'shifted']

N_VOXELS = 40
N_FEATURES = 8
SETTINGS = DecoderSettings(ridge=RidgeSettings(alphas=(1.0, 100.0, 10_000.0), n_folds=3))


@dataclass(frozen=True)
class World:
    """Trials of one participant: noise that is autocorrelated within runs, and a signal or none.

    Parameters
    ----------
    n_runs, n_stimuli
        Each stimulus is shown ``per_run`` times in each run.
    by, n_folds
        The split.
    order
        Of the stimuli within runs; ``swaps``: the same but for two pairs.
    ar
        Correlation of the noise of one trial with the next.
    signal
        Standard deviation of the responses to stimuli, beside noise of 1.
    per_run
        Presentations of a stimulus in a run.
    """

    n_runs: int = 6
    n_stimuli: int = 10
    by: Literal['run', 'stimulus'] = 'run'
    n_folds: int | None = None
    order: Order = 'random'
    ar: float = 0.5
    signal: float = 0.0
    per_run: int = 1

    def data(self, rng: np.random.Generator) -> tuple[Samples, PerStimulus]:
        """Draw trials and features."""
        names = tuple(f'{k:03d}.png' for k in range(self.n_stimuli))
        features = rng.standard_normal((self.n_stimuli, N_FEATURES))
        response = features @ rng.standard_normal((N_FEATURES, N_VOXELS)) / np.sqrt(N_FEATURES)
        first = rng.permutation(np.repeat(np.arange(self.n_stimuli), self.per_run))
        rows, values = [], []
        for run in range(self.n_runs):
            shown = self._order(first, run, rng)
            noise = rng.standard_normal((len(shown) + 50, N_VOXELS))
            noise = lfilter([np.sqrt(1 - self.ar**2)], [1, -self.ar], noise, axis=0)[50:]
            values.append(noise + self.signal * response[shown])
            rows += [(names[k], run, '', 4.0 * place) for place, k in enumerate(shown)]
        table = pd.DataFrame(rows, columns=['stimulus', 'run', 'session', 'onset'])
        mask = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.eye(4))
        responses = Responses(np.concatenate(values).astype(np.float32), mask)
        return Samples(responses, table), PerStimulus(names, features)

    def _order(
        self, first: npt.NDArray[np.intp], run: int, rng: np.random.Generator
    ) -> npt.NDArray[np.intp]:
        if self.order == 'random':
            return rng.permutation(first)
        if self.order == 'reversed':
            return first[::-1] if run % 2 else first
        if self.order == 'shifted':
            return np.roll(first, int(rng.integers(len(first))))
        shown = first.copy()
        for _ in range(2 if self.order == 'swaps' else 0):
            a, b = rng.choice(len(first), 2, replace=False)
            shown[[a, b]] = shown[[b, a]]
        return shown

    def scores(
        self, rng: np.random.Generator, *, n_permutations: int = 199, space: str = 'single-trial'
    ) -> dict[str, tuple[float, float, float, float]]:
        """Return value, limits and p of each metric of the decoder."""
        samples, features = self.data(rng)
        split = split_by_group(samples.table, self.by, n_folds=self.n_folds, rng=rng)
        found = evaluate_folds(
            (samples.fold(fold) for fold in split),
            split,
            features,
            SETTINGS,
            evaluation=EvaluationSettings(n_permutations=n_permutations, n_bootstrap=300),
            rng=rng,
        )
        return {
            score.metric: tuple(
                np.nan if x is None else float(x)
                for x in (score.value, score.ci_low, score.ci_high, score.p)
            )
            for score in found.scores
            if (score.model, score.space) == ('ridge', space)
        }

    def chance(self, metric: str) -> float:
        """Return what a decoder without a signal scores."""
        if metric.endswith('2way'):
            return 0.5
        n_candidates = self.n_stimuli
        if self.by == 'stimulus':
            n_candidates = round(self.n_stimuli / (self.n_folds or 1))
        return 1 / n_candidates


@once
def scored(rng: np.random.Generator, world: World) -> dict[str, tuple[float, float, float, float]]:
    """Score a data set once for all metrics, limits and p values."""
    return world.scores(rng)


def p_of(rng: np.random.Generator, *, world: World, metric: str) -> float:
    """P of one metric."""
    return scored(rng, world)[metric][3]


def covered(
    rng: np.random.Generator, *, world: World, metric: str, true: float | None = None
) -> float:
    """Whether the interval of one metric holds the true score, chance if it is not given."""
    _, low, high, _ = scored(rng, world)[metric]
    if not np.isfinite(low):
        return float('nan')
    return float(low <= (world.chance(metric) if true is None else true) <= high)


TWO_WAY, TOP1 = 'identification_2way', 'identification_top1'
_NOISE = 'noise, AR .5'
# name of the world, world, and measured before in 200 data sets: p of 2-way and top-1, coverage
_NULLS: tuple[tuple[str, World, tuple[int, int, int, int] | None], ...] = (
    (f'{_NOISE}, 6 runs, one left out', World(), (25, 11, 139, 165)),
    (f'{_NOISE}, 8 runs, one left out', World(n_runs=8), (23, 7, 155, 182)),
    (f'{_NOISE}, 12 runs, one left out', World(n_runs=12), (18, 11, 161, 174)),
    ('noise, AR .9, 6 runs, one left out', World(ar=0.9), None),
    (f'{_NOISE}, 6 runs in 3 folds', World(n_folds=3), (18, 7, 153, 174)),
    (f'{_NOISE}, 6 runs, one order', World(order='same'), (17, 11, 151, 166)),
    (f'{_NOISE}, 6 runs, every other reversed', World(order='reversed'), (24, 10, 139, 156)),
    (f'{_NOISE}, 6 runs, two pairs swapped', World(order='swaps'), (23, 12, 142, 164)),
    (f'{_NOISE}, 8 runs, two held out once', World(n_runs=8, n_folds=1), (9, 3, 0, 0)),
    (
        f'{_NOISE}, 40 stimuli in 5 folds',
        World(by='stimulus', n_folds=5, n_stimuli=40, n_runs=2),
        (12, 6, 180, 186),
    ),
    (f'{_NOISE}, 5 runs, one left out', World(n_runs=5), None),
)


def _before(count: int, n: int = 200) -> tuple[float, float, float]:
    limits = binomtest(count, n).proportion_ci(method='exact')
    return count / n, limits.low, limits.high


def _checks(name: str, world: World, old: tuple[int, int, int, int] | None) -> list[Check]:
    checks = []
    if world.order != 'random':
        note = 'Most runs have one order of images or its reverse: place and image are confounded.'
    elif world.by == 'run' and (world.n_runs < 6 or world.n_folds == 1):
        note = 'Fewer than six runs are held out.'
    else:
        note = 'Folds share training trials: nulls and intervals are widened by a bound.'
    for number, metric in enumerate((TWO_WAY, TOP1)):
        p = None if old is None else _before(old[number])
        # two runs held out had no interval before either
        covers = _before(old[2 + number]) if old is not None and old[2 + number] else None
        # enough to see what was wrong before: 70 % of coverage
        quick = 25 if metric == TWO_WAY and world == World() else 0
        checks += [
            Check(
                *('identification', metric, name, 'p'),
                partial(p_of, world=world, metric=metric),
                before=p,
                note=note,
            ),
            Check(
                *('identification', metric, name, 'covers'),
                partial(covered, world=world, metric=metric),
                quick=quick,
                before=covers,
                note=note,
            ),
        ]
    return checks


SIGNAL = World(signal=0.3)
_TRUE = {TWO_WAY: 0.749, TOP1: 0.324}
"""Means over 400 data sets of this world (standard errors .0025 and .004)."""

CHECKS = [
    *(check for name, world, old in _NULLS for check in _checks(name, world, old)),
    *(
        Check(
            *('identification', metric, 'signal of .3, 6 runs, one left out', 'covers'),
            partial(covered, world=SIGNAL, metric=metric, true=true),
        )
        for metric, true in _TRUE.items()
    ),
]
