"""Films without a relation to BOLD, with the program's own cleaning and fitted models.

Features are autoregressive (AR .9), noise is fast and slow (AR .5 and .93), as in the report that
circular shifts do not hold their level; volumes of 1.3 s.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from benchmarks.validation.harness import Check, once
from bids_neurodecode.config import Config, EvaluationSettings, SelectionSettings
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.samples import (
    Responses,
    Samples,
    Split,
    VoxelMask,
    split_by_group,
    split_in_time,
)
from bids_neurodecode.signals.clean import clean_series
from bids_neurodecode.systems.movie.agreement import compare, compare_group
from bids_neurodecode.systems.movie.banded import encode_banded
from bids_neurodecode.systems.movie.comparison import compare_models
from bids_neurodecode.systems.movie.frames import judge_frames
from bids_neurodecode.systems.movie.intervals import block_intervals, mean_test
from bids_neurodecode.systems.movie.judging import FilmScorer
from bids_neurodecode.systems.movie.parts import Pool, standardize_within
from bids_neurodecode.systems.movie.recipe import FilmEncoding, FilmRidge, encode_films
from bids_neurodecode.systems.movie.surrogates import surrogate_responses
from bids_neurodecode.systems.movie.targets import agreement

TR = 1.3
N_VOXELS, N_FEATURES = 40, 8
FloatArray = npt.NDArray[np.float64]
Rng = np.random.Generator


class World(NamedTuple):
    """Lengths in volumes; ``folds`` of 0 leaves one film out after the other."""

    films: int = 2
    volumes: int = 250
    trend: float = 0.0
    showings: int = 1
    folds: int = 1
    voxels: int = N_VOXELS


def autoregressive(rng: Rng, n: int, n_series: int, past: float) -> FloatArray:
    """Draw series (n, n_series) of unit variance."""
    noise = rng.normal(size=(n + 200, n_series))
    return np.asarray(lfilter([np.sqrt(1 - past**2)], [1, -past], noise, axis=0)[200:])


def noise(rng: Rng, n: int, n_voxels: int, extra: FloatArray | float = 0.0) -> FloatArray:
    """Draw BOLD of one run, cleaned as by default, with something in it."""
    own = autoregressive(rng, n, n_voxels, 0.5) + autoregressive(rng, n, n_voxels, 0.93)
    series = (1000 + 10 * (own + extra)).astype(np.float32)
    return np.asarray(clean_series(series, TR, high_pass=0.008, scaling='psc'), dtype=np.float64)


def table_of(world: World) -> pd.DataFrame:
    """Return one row per volume."""
    rows = [
        (f'{film}#{i:05d}', f'{film}', round(i * TR, 6), film * world.showings + shown)
        for film in range(world.films)
        for shown in range(world.showings)
        for i in range(world.volumes)
    ]
    table = pd.DataFrame(rows, columns=['stimulus', 'film', 'onset', 'showing'])
    return table.assign(run=table['showing'], session='1', run_onset=table['onset'])


def samples_of(values: npt.NDArray[Any], table: pd.DataFrame) -> Samples:
    """Put series on a mask."""
    mask = VoxelMask(np.ones((values.shape[1], 1, 1), dtype=bool), np.eye(4))
    return Samples(Responses(values.astype(np.float32), mask), table)


def split_of(world: World, table: pd.DataFrame) -> Split:
    """Hold out the last fifth, blocks of time, or films."""
    if world.folds:
        return split_in_time(table, gap=10.4, test_fraction=0.2, n_folds=world.folds)
    return split_by_group(table, 'film', n_folds=None, test_fraction=0.2)


def encoded(rng: Rng, world: World, n_permutations: int = 1000) -> FilmEncoding:
    """Fit ridge regression to films that have nothing to do with the responses."""
    table, n = table_of(world), world.volumes
    slope = world.trend * np.linspace(-1, 1, n)[:, None]
    films, runs = [], []
    for _ in range(world.films):
        film = autoregressive(rng, n, N_FEATURES, 0.9) + slope * rng.normal(size=N_FEATURES)
        for _ in range(world.showings):
            films.append(film)
            runs.append(noise(rng, n, world.voxels, slope * rng.normal(size=world.voxels)))
    config = Config()
    return encode_films(
        samples_of(np.concatenate(runs), table),
        split_of(world, table),
        np.concatenate(films).astype(np.float32),
        FilmRidge.of(config, TR),
        evaluation=EvaluationSettings(n_permutations=n_permutations, n_bootstrap=300),
        rng=rng,
    )


class Tests(NamedTuple):
    """P values of one data set: of the median, (n_voxels,) each, over voxels and corrected."""

    median: float
    voxels: FloatArray
    family_wise: FloatArray
    discovery: FloatArray


@once
def tested(rng: Rng, world: World) -> Tests:
    """Test a data set once for all that is asked of it."""
    found = encoded(rng, world)
    p = found.scores[0].p
    return Tests(float('nan') if p is None else p, found.p, found.p_fwer, found.p_fdr)


@once
def banded(rng: Rng, world: World) -> Tests:
    """Test banded ridge regression of two feature spaces."""
    table, n = table_of(world), world.volumes
    features = {
        name: np.concatenate([autoregressive(rng, n, 4, 0.9) for _ in range(world.films)])
        for name in ('one', 'other')
    }
    series = np.concatenate([noise(rng, n, N_VOXELS) for _ in range(world.films)])
    config = Config()
    found, _ = encode_banded(
        samples_of(series, table),
        split_of(world, table),
        {name: x.astype(np.float32) for name, x in features.items()},
        FilmRidge.of(config, TR),
        evaluation=EvaluationSettings(n_permutations=1000, n_bootstrap=300),
        rng=rng,
    )
    p = found.scores[0].p
    return Tests(float('nan') if p is None else p, found.p, found.p_fwer, found.p_fdr)


@once
def group_brain(rng: Rng, world: World) -> Tests:
    """Test the mean over four participants, in voxels where they agree on training volumes."""
    table, n, n_people = table_of(world), world.volumes, 4
    split = split_of(world, table)
    people = [
        np.concatenate([noise(rng, n, N_VOXELS) for _ in range(world.films)]).astype(np.float32)
        for _ in range(n_people)
    ]
    total, rows = np.sum(people, axis=0, dtype=np.float32), np.arange(len(table))
    config = Config()
    found = compare_group(
        total,
        rows,
        lambda: ((np.flatnonzero(table['film'] == f), x[table['film'] == f])
                 for x in people for f in table['film'].unique()),
        split,
        SelectionSettings(rule='top', fraction=0.5, min_voxels=1),
        n_participants=n_people,
        delay=config.delay.seconds,
        rng=rng,
    )  # fmt: skip
    film = np.concatenate([autoregressive(rng, n, N_FEATURES, 0.9) for _ in range(world.films)])
    judged = encode_films(
        samples_of(total / n_people, table),
        split,
        film.astype(np.float32),
        FilmRidge.of(config, TR),
        evaluation=EvaluationSettings(n_permutations=1000, n_bootstrap=300),
        rng=rng,
        chosen=found.chosen,
    )
    p = judged.scores[0].p
    return Tests(float('nan') if p is None else p, judged.p, judged.p_fwer, judged.p_fdr)


def value_of(rng: Rng, world: World, tests: Callable[..., Tests], what: str) -> npt.ArrayLike:
    """Return p values of a model by name, or whether any voxel is a discovery."""
    found = tests(rng, world)
    if what == 'discovery':
        return bool((found.discovery <= 0.05).any())
    p: float | FloatArray = getattr(found, what)
    return p


def median_p(rng: Rng, world: World) -> float:
    """Return the p value of the median over voxels."""
    return tested(rng, world).median


def voxels_p(rng: Rng, world: World) -> FloatArray:
    """Return the p value of each voxel."""
    return tested(rng, world).voxels


def family_wise(rng: Rng, world: World) -> bool:
    """Tell whether any voxel is significant by the maximum."""
    return bool((tested(rng, world).family_wise <= 0.05).any())


def discoveries(rng: Rng, world: World) -> bool:
    """Tell whether any voxel is significant by its false discovery rate."""
    return bool((tested(rng, world).discovery <= 0.05).any())


def folds_interval(rng: Rng) -> bool:
    """Tell whether the interval over folds that share training data holds no relation."""
    score = encoded(rng, World(folds=5), n_permutations=0).scores[1]
    low, high = score.ci_low, score.ci_high
    return low is not None and high is not None and low <= 0 <= high


def agreement_p(rng: Rng) -> FloatArray:
    """Agreement of participants who have nothing in common, as it chooses voxels."""
    own, *others = ([noise(rng, 190, N_VOXELS) for _ in 'ab'] for _ in range(4))
    mean = np.mean([np.concatenate(other) for other in others], axis=0)
    found = agreement(
        np.concatenate(own), mean, np.repeat(['a', 'b'], 190), n_surrogates=1000, rng=rng
    )
    return np.full(1, np.nan) if found.p is None else found.p


def frames_p(rng: Rng) -> float:
    """Frames of a linear decoder, fitted to noise, against the film."""
    world = World()
    table, size = table_of(world), 12
    n = len(table)
    patterns = rng.normal(size=(3, size * size * 3))
    film = np.concatenate([autoregressive(rng, world.volumes, 3, 0.9) for _ in range(2)])
    frames = np.clip(0.5 + 0.15 * film @ patterns, 0, 1).astype(np.float32)
    values = np.concatenate([noise(rng, world.volumes, 20) for _ in range(2)])
    (fold,) = split_of(world, table).folds
    x, mean = values[fold.train], frames[fold.train].mean(axis=0)
    gram = x.T @ x + 10 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (frames[fold.train] - mean))

    def decode(responses: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        shape = (len(responses), size, size, 3)
        return np.clip(mean + responses @ weights, 0, 1).astype(np.float32).reshape(shape)

    def surrogates(looked: npt.NDArray[np.intp], n_draws: int) -> Any:
        for drawn in surrogate_responses(values, table, fold.test[looked], n_draws, rng):
            yield decode(drawn)

    _, scores, _ = judge_frames(
        frames.reshape(n, size, size, 3)[fold.test],
        decode(values[fold.test]),
        mean.reshape(size, size, 3),
        parts=table['showing'].astype(str).to_numpy(dtype=str)[fold.test],
        surrogates=surrogates,
        scorer=FilmScorer('p', TR, EvaluationSettings(), rng),
    )
    return float('nan') if scores[0].p is None else scores[0].p


def models_p(rng: Rng, world: World, gain: float) -> float:
    """Return the p value of the difference of two models that are equally good.

    Responses follow the features of both, each of which one model knows.
    """
    table, n = table_of(world), world.volumes
    films = [autoregressive(rng, n * world.films, N_FEATURES, 0.9) for _ in 'ab']
    weights = rng.normal(size=(2, N_FEATURES, N_VOXELS)) / np.sqrt(N_FEATURES)
    both = sum(np.roll(x, 4, axis=0) @ w for x, w in zip(films, weights, strict=True))
    runs = [noise(rng, n, N_VOXELS, gain * both[i * n : (i + 1) * n]) for i in range(world.films)]
    samples, split, config = (
        samples_of(np.concatenate(runs), table),
        split_of(world, table),
        Config(),
    )
    found = [
        encode_films(
            samples, split, x.astype(np.float32), FilmRidge.of(config, TR, n_components=None),
            evaluation=EvaluationSettings(n_permutations=0, n_bootstrap=0), rng=rng,
        )
        for x in films
    ]  # fmt: skip
    a, b = (each.predictions for each in found)
    compared = compare_models(
        samples, split, found[0].rows, a, b, repetition_time=TR, confidence=0.95
    )
    return compared.p


def frames_interval(rng: Rng, past: float, volumes: int) -> bool:
    """Tell whether the interval of a mean over frames that follow each other covers."""
    series = np.concatenate([autoregressive(rng, volumes, 1, past)[:, 0] for _ in 'ab'])
    labels = np.repeat(['a', 'b'], volumes)
    found = mean_test(series, labels, block=23, confidence=0.95)
    return bool(found.low <= 0 <= found.high)


def voxels_interval(rng: Rng, parts: int, volumes: int, statistic: int) -> bool:
    """Tell whether the interval of the median (0) or the mean (1) over voxels covers."""
    gain, true = 0.35, {(8, 50): (0.254, 0.253), (2, 100): (0.256, 0.252)}[parts, volumes]
    measured, films = [], []
    for _ in range(parts):
        n = 5 * volumes
        film = autoregressive(rng, n, 30, 0.9)
        both = [
            (autoregressive(rng, n, k, 0.5) + autoregressive(rng, n, k, 0.93)) / 2 for k in (1, 30)
        ]
        series = (1000 + 10 * (gain * film + both[0] + both[1])).astype(np.float32)
        cleaned = clean_series(series, TR, high_pass=0.008, scaling='psc')
        measured.append(cleaned[-volumes:])
        films.append(film[-volumes:])
    labels = np.repeat(np.arange(parts).astype(str), volumes)
    a, b = (standardize_within(np.concatenate(x), labels) for x in (measured, films))
    pool = Pool(np.ones((1, 30), dtype=bool), np.array([float(len(a))]))
    fold_of = np.zeros(len(a), dtype=np.intp)
    limits = block_intervals(
        a,
        b,
        labels,
        fold_of,
        pool,
        values=pool.summary(pool.each(pearson_by_column, a, b, fold_of)),
        block=23,
        n_bootstrap=300,
        confidence=0.95,
        rng=rng,
    )[statistic]
    return bool(limits[0] <= true[statistic] <= limits[1])


def selected_agreement(rng: Rng, *, leak: bool = False) -> tuple[float, float]:
    """Choose voxels of little agreement by folds; score them in the test part of each fold.

    Returns
    -------
    float
        Mean agreement in the test parts, of the voxels that are scored.
    float
        What it is in these voxels in truth. With ``leak`` voxels are those that every fold chose.
    """
    world = World(films=1, volumes=250, folds=5)
    table = table_of(world)
    shared = rng.normal(size=(world.volumes, 200))
    strength = rng.uniform(0, 0.35, 200)
    series = [strength * shared + rng.normal(size=shared.shape) for _ in range(4)]
    own, others = series[0], np.mean(series[1:], axis=0)
    true = strength**2 / np.sqrt((strength**2 + 1) * (strength**2 + 1 / 3))
    settings = SelectionSettings(measure='isc', rule='top', fraction=0.3, min_voxels=1)
    found = compare(
        own.astype(np.float32),
        others.astype(np.float32),
        split_of(world, table),
        settings,
        n_participants=4,
        rng=rng,
    )
    chosen = np.broadcast_to(found.chosen.all(axis=0), found.chosen.shape)
    pool = Pool(chosen if leak else found.chosen, found.weights)
    values = np.where(pool.used, found.isc_by_fold, np.nan)
    _, scored = pool.summary(values)
    _, expected = pool.summary(np.where(pool.used, true, np.nan))
    return scored, expected


def selection_p(rng: Rng) -> float:
    """Test whether scores of chosen voxels exceed the truth: 20 data sets, a t test."""
    from scipy.stats import ttest_1samp

    excess = [np.subtract(*selected_agreement(rng)) for _ in range(20)]
    return float(ttest_1samp(excess, 0, alternative='greater').pvalue)


AR = 'features AR .9, noise AR .5 + .93'
RIDGE = 'ridge, median r'
_WIDENED = (
    'Folds share training volumes: nulls and intervals are widened by the root of 2, a bound that '
    'is wider than these folds need.'
)
MANY = '500 voxels, those that few surrogates reach compared with up to 10,000'
CHECKS = [
    *(
        Check(
            *('films', 'ridge, each voxel', name, 'p'),
            partial(voxels_p, world=world), n=n, quick=4 if n == 2000 else 0, before=before,
            note='' if world.folds == 1 else _WIDENED,
        )
        for name, world, n, before in (
            (f'two films of 250 volumes, a fifth held out, {AR}', World(), 2000,
             (0.127, 0.122, 0.132)),
            ('the same, with trends in both', World(trend=1.5), 1000, (0.134, 0.128, 0.140)),
            ('one film of 900 volumes', World(films=1, volumes=900), 500, (0.063, 0.059, 0.067)),
            ('one film of 250 volumes, 65 s held out', World(films=1), 1000, None),
            ('held out 8 x 50 volumes', World(films=8), 500, (0.112, 0.104, 0.120)),
            ('held out 2 x 100 volumes', World(volumes=500), 500, (0.077, 0.072, 0.082)),
            ('held out 2 x 200 volumes', World(volumes=1000), 300, (0.063, 0.057, 0.069)),
            ('three presentations of two films', World(showings=3), 500, (0.107, 0.099, 0.115)),
            ('four films, one left out after the other', World(films=4, folds=0), 500,
             (0.132, 0.124, 0.140)),
            ('two films, five folds in time', World(folds=5), 500, (0.032, 0.027, 0.037)),
            (MANY, World(voxels=500), 1000, None),
        )
    ),
    Check(
        *('films', RIDGE, f'two films of 250 volumes, a fifth held out, {AR}', 'p'),
        partial(median_p, world=World()), quick=6, before=(0.120, 0.094, 0.146),
    ),
    Check(
        *('films', 'ridge, maximum over voxels', f'the same, {AR}', 'any'),
        partial(family_wise, world=World()), before=(0.078, 0.056, 0.100),
    ),
    Check(
        *('films', 'ridge, false discovery rate', f'the same, {AR}', 'any'),
        partial(discoveries, world=World()), quick=6, before=(0.818, 0.787, 0.849),
    ),
    *(
        Check(*('films', f'ridge, {name}', MANY, 'any'), partial(found, world=World(voxels=500)),
              n=1000)
        for name, found in (('maximum over voxels', family_wise),
                            ('false discovery rate', discoveries))
    ),
    Check(
        *('films', RIDGE, 'the same, with trends in both', 'p'),
        partial(median_p, world=World(trend=1.5)), before=(0.172, 0.135, 0.209),
    ),
    Check(
        *('films', 'ridge, false discovery rate', 'the same, with trends in both', 'any'),
        partial(discoveries, world=World(trend=1.5)), before=(0.870, 0.837, 0.903),
    ),
    Check(
        *('films', RIDGE, 'one film of 900 volumes', 'p'),
        partial(median_p, world=World(films=1, volumes=900)), n=500, before=(0.055, 0.033, 0.077),
    ),
    Check(
        *('films', 'ridge, false discovery rate', 'held out 8 x 50 volumes', 'any'),
        partial(discoveries, world=World(films=8)), n=500, before=(0.433, 0.353, 0.513),
    ),
    Check(
        *('films', 'ridge, false discovery rate', 'held out 2 x 100 volumes', 'any'),
        partial(discoveries, world=World(volumes=500)), n=500, before=(0.387, 0.332, 0.442),
    ),
    Check(
        *('films', 'ridge, false discovery rate', 'held out 2 x 200 volumes', 'any'),
        partial(discoveries, world=World(volumes=1000)), n=300, before=(0.160, 0.109, 0.211),
    ),
    Check(
        *('films', RIDGE, 'two films, three presentations of each', 'p'),
        partial(median_p, world=World(showings=3)), n=500, before=(0.125, 0.079, 0.171),
    ),
    Check(
        *('films', RIDGE, 'four films, one left out after the other', 'p'),
        partial(median_p, world=World(films=4, folds=0)), n=500, before=(0.187, 0.124, 0.250),
        note=_WIDENED,
    ),
    Check(
        *('films', 'ridge, maximum over voxels', 'the same', 'any'),
        partial(family_wise, world=World(films=4, folds=0)), n=500, before=(0.360, 0.283, 0.437),
        note=_WIDENED,
    ),
    Check(
        *('films', 'ridge, maximum over voxels', 'two films, five folds in time', 'any'),
        partial(family_wise, world=World(folds=5)), n=500, before=(0.113, 0.062, 0.164),
        note=_WIDENED,
    ),
    Check(
        *('films', RIDGE, 'one film, 26 s held out', 'p'),
        partial(median_p, world=World(films=1, volumes=100)), n=20, quick=2,
        note='Too little is held out for surrogates of these series.',
    ),
    *(
        Check(
            *('films', f'{name}, {printed}', 'two films of 250 volumes, a fifth held out', kind),
            partial(value_of, world=World(), tests=tests, what=what), n=500,
        )
        for name, tests in (('banded ridge', banded), ('group brain of four', group_brain))
        for printed, kind, what in (
            ('median r', 'p', 'median'),
            ('each voxel', 'p', 'voxels'),
            ('false discovery rate', 'any', 'discovery'),
        )
    ),
    Check(
        *('films', 'agreement of participants', 'four of them, 2 x 190 volumes', 'p'),
        agreement_p, quick=4, before=(0.073, 0.067, 0.079),
    ),
    Check(
        *('films', 'similarity of frames', f'a linear decoder, 2 x 50 volumes, {AR}', 'p'),
        frames_p, n=500, quick=4, before=(0.093, 0.047, 0.140),
    ),
    *(
        Check(
            *('films', 'similarity of frames', f'2 x 200 volumes, AR {past:g}', 'covers'),
            partial(frames_interval, past=past, volumes=200),
            quick=200 if past == 0.8 else 0, before=before,
        )
        for past, before in (
            (0.8, (0.415, 0.367, 0.463)),
            (0.93, (0.253, 0.210, 0.296)),
        )
    ),
    *(
        Check(
            *('films', f'{name} over voxels', f'{parts} x {volumes} volumes, r .25', 'covers'),
            partial(voxels_interval, parts=parts, volumes=volumes, statistic=number),
            n=1000, quick=20 if number else 0, before=before,
        )
        for number, name, parts, volumes, before in (
            (1, 'mean', 2, 100, (0.877, 0.845, 0.909)),
            (1, 'mean', 8, 50, (0.895, 0.865, 0.925)),
            (0, 'median', 2, 100, (0.973, 0.957, 0.989)),
        )
    ),
    *(
        Check(
            *('films', 'difference of two models', name, 'p'),
            partial(models_p, world=world, gain=gain), n=500, quick=quick,
        )
        for name, world, gain, quick in (
            (f'equally good, 2 x 100 volumes, {AR}', World(volumes=500), 0.5, 4),
            ('the same, without a relation', World(volumes=500), 0.0, 0),
            ('equally good, two films of 400, one left out after the other',
             World(volumes=400, folds=0), 0.5, 0),
        )
    ),
    Check(
        *('films', 'mean over voxels', 'no relation, two films, five folds in time', 'covers'),
        folds_interval, n=300, note=_WIDENED,
    ),
    Check(
        *('films', 'scores of voxels chosen by folds', 'agreement above the truth', 'p'),
        selection_p, n=200, quick=3,
    ),
]  # fmt: skip
