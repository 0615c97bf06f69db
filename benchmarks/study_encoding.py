"""What encoding models are shown to do: simulated responses to photographs, tuning planted.

``python benchmarks/study_encoding.py PICTURES [--parts models,partition,...] [--seeds 3]``

PICTURES is a folder of photographs; :mod:`encoding_world` says what is planted. Prints one table
in Markdown a part.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from encoding_world import (
    FEW,
    FloatArray,
    Photographs,
    Rows,
    World,
    averaged,
    make_world,
    markdown,
)

from bids_neurodecode.config import Config, build_config
from bids_neurodecode.evaluation.voxels import r2_by_column
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.signals.reliability import noise_ceiling
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.encoders import EncoderSettings
from bids_neurodecode.systems.encoding.network import NetworkSettings
from bids_neurodecode.systems.encoding.recipe import PictureEncoding, encode_pictures
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL
from bids_neurodecode.systems.voxels import Estimates


def make_config(n_permutations: int = 199, **encoding: Any) -> Config:
    return build_config(
        {
            'evaluation': {'n_permutations': n_permutations, 'n_bootstrap': 0},
            'encoding': encoding,
            'seed': 1,
        }
    )


def encode(
    world: World, config: Config, *, bands: Sequence[str] | None = None, **changes: Any
) -> PictureEncoding:
    """Hold out a fifth of the images once, with the same draw for every model."""
    rng = np.random.default_rng(0)
    spaces = {name: world.bands[name] for name in bands or world.bands}
    return encode_pictures(
        Estimates(world.samples, split_by_group(world.samples.table, 'stimulus', rng=rng)),
        spaces,
        config,
        settings=EncoderSettings.of(config, **{'baseline': False, **changes}),
        regions=world.regions,
    )


def score(found: PictureEncoding, metric: str, space: str = REPEAT_AVERAGE) -> float:
    model = found.scores[0].model
    (value,) = [
        s.value for s in found.scores if (s.metric, s.space, s.model) == (metric, space, model)
    ]
    return float(value)


def accuracy(world: World, found: PictureEncoding) -> dict[str, float]:
    """Summarise maps by what was planted: tuned or not."""
    tuned, maps = world.ratio > 0, found.maps
    best = np.argsort(-maps.r)[: tuned.sum()]
    normalised = {
        f'noise-normalised {name}': float(np.nanmedian(maps.noise_normalized[voxels]))
        for name, voxels in world.regions.items()
        if name != 'untuned'
    }
    return {
        'noise-normalised tuned': float(np.nanmedian(maps.noise_normalized[tuned])),
        **normalised,
        'r tuned': float(np.median(maps.r[tuned])),
        'r untuned': float(np.median(maps.r[~tuned])),
        'untuned p <= .05': float((maps.p[~tuned] <= 0.05).mean()),
        'untuned FDR': float((maps.p_fdr[~tuned] < 0.05).mean()),
        'tuned FDR': float((maps.p_fdr[tuned] < 0.05).mean()),
        'tuned among best': float(tuned[best].mean()),
        '2-way trials': score(found, 'identification_2way', SINGLE_TRIAL),
        '2-way means': score(found, 'identification_2way'),
    }


NETWORKS: dict[str, dict[str, Any]] = {
    'linear': {'model': 'linear'},
    'mlp': {'model': 'mlp'},
    'siren, w0 30': {'model': 'siren', 'w0': 30.0},
    'siren, w0 5': {'model': 'siren', 'w0': 5.0},
    'siren, w0 2': {'model': 'siren', 'w0': 2.0},
    'cnn': {'model': 'cnn'},
}


def models(pictures: Photographs, seeds: Sequence[int], n_shown: int) -> Rows:
    """Ridge on the right and on wrong features, banded ridge, networks."""
    rows: Rows = []
    cases: dict[str, dict[str, Any]] = {
        'ridge': {},
        'banded': {'model': 'banded'},
        'ridge, energy only': {'bands': ('energy',)},
        'ridge, layout only': {'bands': ('layout',)},
        **NETWORKS,
    }
    for seed in seeds:
        world = make_world(pictures, n_shown, seed=seed)
        for name, case in cases.items():
            told = dict(case)
            bands, w0 = told.pop('bands', None), told.pop('w0', 30.0)
            config = make_config(w0=w0, **told)
            start = time.perf_counter()
            found = encode(world, config, bands=bands, network=NetworkSettings.of(config))
            seconds = time.perf_counter() - start
            rows.append({'model': name, **accuracy(world, found), 'seconds': seconds})
    return averaged(rows, 'model')


def repeats(pictures: Photographs, seeds: Sequence[int], n_shown: int) -> Rows:
    """Fit on single trials, or on means of repeats."""
    rows: Rows = []
    for seed in seeds:
        for n in (72, n_shown):
            world = make_world(pictures, n, seed=seed, **FEW)
            for average in (False, True):
                config = make_config(0, average_training=average)
                found = encode(world, config)
                row = {'case': f'{n} images, {"means" if average else "single trials"}'}
                tuned = world.ratio > 0
                rows.append(
                    {
                        **row,
                        'r tuned': float(np.median(found.maps.r[tuned])),
                        'noise-normalised tuned': float(
                            np.nanmedian(found.maps.noise_normalized[tuned])
                        ),
                        '2-way trials': score(found, 'identification_2way', SINGLE_TRIAL),
                        'top-1 trials': score(found, 'identification_top1', SINGLE_TRIAL),
                        'top-1 means': score(found, 'identification_top1'),
                    }
                )
    return averaged(rows, 'case')


def curve(pictures: Photographs, seeds: Sequence[int], n_shown: int) -> Rows:
    """Vary the number of training images; those held out stay the same."""
    rows: Rows = []
    for seed in seeds:
        world = make_world(pictures, n_shown, seed=seed)
        for n in (25, 50, 100, 200, int(0.8 * n_shown)):
            found = encode(world, make_config(0, n_training=n))
            tuned = world.ratio > 0
            rows.append(
                {
                    'training images': n,
                    'noise-normalised tuned': float(
                        np.nanmedian(found.maps.noise_normalized[tuned])
                    ),
                    'r tuned': float(np.median(found.maps.r[tuned])),
                    'r untuned': float(np.median(found.maps.r[~tuned])),
                    '2-way trials': score(found, 'identification_2way', SINGLE_TRIAL),
                    'top-1 means': score(found, 'identification_top1'),
                }
            )
    return averaged(rows, 'training images')


def true_unique(world: World, name: str) -> FloatArray:
    """What only this band explains of single trials, from responses without noise.

    The other band predicts the responses without noise to all photographs (ridge of scikit-learn,
    each fifth from the others); what it misses is the band's own.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.preprocessing import StandardScaler

    (other,) = (band for key, band in world.bands.items() if key != name)
    tuned = world.ratio > 0
    ridge = RidgeCV(alphas=np.logspace(-1, 5, 13), alpha_per_target=True)
    X = StandardScaler().fit_transform(other.values.astype(np.float64))
    folds = KFold(5, shuffle=True, random_state=0)
    missed = np.zeros(len(tuned))
    predicted = cross_val_predict(ridge, X, world.signal[:, tuned], cv=folds)
    missed[tuned] = 1 - np.maximum(r2_by_column(world.signal[:, tuned], predicted), 0)
    ceiling = np.asarray(noise_ceiling(world.ratio, 1), dtype=np.float64)
    return np.asarray(missed * ceiling)


def partition(pictures: Photographs, seeds: Sequence[int], n_shown: int) -> Rows:
    """Unique parts of single trials' variance, beside what is true."""
    rows: Rows = []
    for seed in seeds:
        world = make_world(pictures, n_shown, seed=seed)
        config = make_config(499, model='banded', partition=True, bands=('gabor', 'clip'))
        found = encode(world, config).partition
        assert found is not None
        truth = {name: true_unique(world, name) for name in world.bands}
        for group, voxels in world.regions.items():
            row: dict[str, Any] = {'voxels': group, 'full': np.median(found.full[voxels])}
            row['ceiling'] = np.median(noise_ceiling(world.ratio[voxels], 1))
            for name in world.bands:
                row[f'{name}: true'] = np.median(truth[name][voxels])
                row[f'{name}: found'] = np.median(found.unique[name][voxels])
                row[f'{name}: FDR'] = (found.p_unique_fdr[name][voxels] < 0.05).mean()
            row['shared'] = np.median(found.shared[voxels])
            rows.append({k: v if k == 'voxels' else float(v) for k, v in row.items()})
        all_true = np.concatenate([truth[name] for name in world.bands])
        all_found = np.concatenate([found.unique[name] for name in world.bands])
        agreed = np.corrcoef(all_true, all_found)[0, 1]
        print(f'seed {seed}: unique parts, true and found: r = {agreed:.3f}', flush=True)
    return averaged(rows, 'voxels')


def null(n_sets: int) -> Rows:
    """Share of p <= .05 where there is no signal, of ``n_sets`` datasets each."""
    rows: Rows = []
    for n_folds in (1, 3):
        voxels, scored, identified = [], [], []
        for seed in range(n_sets):
            found = encode_noise(seed, n_folds)
            voxels.append(found.maps.p)
            value = {s.metric: s.p for s in found.scores if s.space == REPEAT_AVERAGE}
            scored.append(value['voxel_r_mean'])
            identified.append(value['identification_2way'])
        p, per_set = np.concatenate(voxels), (np.array(voxels) <= 0.05).mean(axis=1)
        rows.append(
            {
                'folds': n_folds,
                'voxels p <= .05': (p <= 0.05).mean(),
                'standard error': per_set.std(ddof=1) / np.sqrt(n_sets),
                'p <= .01': (p <= 0.01).mean(),
                'p <= .5': (p <= 0.5).mean(),
                'voxel_r_mean p <= .05': (np.array(scored) <= 0.05).mean(),
                '2-way p <= .05': (np.array(identified) <= 0.05).mean(),
            }
        )
    return rows


def encode_noise(seed: int, n_folds: int, n: int = 45, n_voxels: int = 30) -> PictureEncoding:
    """Encode noise: n images shown twice, four random features."""
    rng = np.random.default_rng([seed, n_folds])
    names = tuple(f'{k}.png' for k in range(n))
    order = np.concatenate([rng.permutation(n) for _ in range(2)])
    table = pd.DataFrame({'stimulus': np.array(names)[order], 'run': np.arange(2 * n) // 9})
    values = rng.standard_normal((2 * n, n_voxels)).astype(np.float32)
    mask = VoxelMask(np.ones((n_voxels, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(values, mask), table)
    space = PerStimulus(names, rng.standard_normal((n, 4)).astype(np.float32))
    config = build_config(
        {
            'evaluation': {'n_permutations': 199, 'n_bootstrap': 0},
            'ridge': {'alphas': [10.0, 1000.0], 'n_folds': 2},
            'seed': seed,
        }
    )
    split = split_by_group(table, 'stimulus', n_folds=n_folds, rng=rng)
    settings = EncoderSettings.of(config, baseline=False)
    return encode_pictures(Estimates(samples, split), space, config, settings=settings)


def main() -> None:
    """Run the parts asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pictures', type=Path)
    parser.add_argument('--parts', default='models,partition,repeats,curve,null')
    parser.add_argument('--n', type=int, default=480, help='images that are shown')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--null-sets', type=int, default=200)
    args = parser.parse_args()
    pictures, seeds = Photographs.load(args.pictures), range(args.seeds)
    parts: dict[str, Callable[[], Rows]] = {
        'models': lambda: models(pictures, seeds, args.n),
        'partition': lambda: partition(pictures, seeds, args.n),
        'repeats': lambda: repeats(pictures, seeds, args.n),
        'curve': lambda: curve(pictures, seeds, args.n),
        'null': lambda: null(args.null_sets),
    }
    for name in args.parts.split(','):
        start = time.perf_counter()
        rows = parts[name]()
        print(f'\n## {name} ({time.perf_counter() - start:.0f} s)\n\n{markdown(rows)}', flush=True)


if __name__ == '__main__':
    main()
