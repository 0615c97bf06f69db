"""Does a decoder gain from responses that an encoder predicts for images that were not shown?

``python benchmarks/study_synthetic.py PICTURES [--seeds 8]``

A linear decoder on simulated responses (:mod:`encoding_world`), fitted on means of repeats as the
reconstruction system does, or on single trials; with 25, 50 and 100 % of the training images,
with and without synthetic samples. Seeds draw voxels, noise, held-out images and the training
images anew; differences are paired by seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from encoding_world import NOISY, Photographs, Rows, World, make_world, markdown

from bids_neurodecode.config import build_config
from bids_neurodecode.models.ridge import RidgeModel, fit_ridge
from bids_neurodecode.samples import Responses, Samples, Split, split_by_group
from bids_neurodecode.signals.selection import select_voxels
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder
from bids_neurodecode.systems.outcomes import OWN_MODEL, judge
from bids_neurodecode.systems.reconstruction.generation.fit import (
    draw_pictures,
    synthetic_responses,
)

SHARES = (0.25, 0.5, 1.0)
WITHOUT = 'without'
VARIANTS = {WITHOUT: 0.0, '+0.5': 0.5, '+1': 1.0, '+1, penalties kept': 1.0}


def synthetic(pictures: Photographs, seeds: Sequence[int], n_shown: int) -> Rows:
    """Decode, and take differences from the decoder without synthetic samples."""
    rows: Rows = []
    for seed in seeds:
        world = make_world(pictures, n_shown, seed=seed, **NOISY)
        split = split_by_group(world.samples.table, 'stimulus', rng=np.random.default_rng(seed))
        new = np.setdiff1d(np.array(pictures.names), world.shown)
        for share in SHARES:
            train, test = parts(world, split, share, seed)
            for fitted_on in ('means', 'trials'):
                used = train.averaged() if fitted_on == 'means' else train
                label = {'fitted on': fitted_on, 'training data': f'{share:.0%}', 'seed': seed}
                rows += decoded(world.features, used, test, new, label)
    keys = ['fitted on', 'training data', 'metric']
    return [
        dict(zip(keys, names, strict=True)) | differences(part)
        for names, part in pd.DataFrame(rows).groupby(keys, sort=False)
    ]


def parts(world: World, split: Split, share: float, seed: int) -> tuple[Samples, Samples]:
    """Keep some training images, and the voxels whose repeats of these agree."""
    part = world.samples.fold(split.folds[0])
    stimulus = part.train.table['stimulus'].to_numpy(dtype=str)
    seen = np.unique(stimulus)
    kept = np.random.default_rng([seed, 7]).permutation(seen)[: round(share * len(seen))]
    train = part.train.take(np.flatnonzero(np.isin(stimulus, kept)))
    tsnr = np.ones(train.values.shape[1])
    keep = select_voxels(train.values, train.table, build_config({}).selection, tsnr=tsnr).keep
    return train.voxels(keep), part.test.voxels(keep)


def decoded(
    features: PerStimulus,
    train: Samples,
    test: Samples,
    new: npt.NDArray[np.str_],
    label: dict[str, Any],
) -> Rows:
    """Fit all variants and identify the held-out images by means of repeats."""
    rows: Rows = []
    candidates = tuple(dict.fromkeys(test.table['stimulus']))
    alphas = None
    for variant, amount in VARIANTS.items():
        fitted = with_synthetic(train, features, new, amount, label['seed'])
        kept = alphas if variant.endswith('kept') else None
        decoder = fit_decoder(fitted, train, features, kept)
        if variant == WITHOUT:
            alphas = decoder.ridge.alphas
        outcome = judge(
            OWN_MODEL, decoder.components, decoder, test, features, candidates, average=True
        )
        where = {name: k for k, name in enumerate(candidates)}
        true = np.array([where[name] for name in outcome.table['stimulus']])
        own = outcome.similarities[np.arange(len(true)), true][:, None]
        beaten = (outcome.similarities < own).sum(axis=1) / (len(candidates) - 1)
        said = {'2-way': float(beaten.mean()), 'top-1': float((beaten == 1).mean())}
        rows += [{**label, 'metric': m, 'variant': variant, 'value': v} for m, v in said.items()]
    return rows


def with_synthetic(
    train: Samples, features: PerStimulus, new: npt.NDArray[np.str_], amount: float, seed: int
) -> Samples:
    """Add synthetic samples, ``amount`` for each real one."""
    n = round(amount * train.n_samples)
    if n == 0:
        return train
    names = list(new[draw_pictures(len(new), n, np.random.default_rng([seed, 8]))])
    rng = np.random.default_rng([seed, 9])
    made = synthetic_responses(train, features, features.of(names), rng=rng)
    more = pd.DataFrame({'stimulus': names, 'run': -1})
    return Samples(
        Responses(np.concatenate([train.values, made]), train.responses.mask),
        pd.concat([train.table, more], ignore_index=True),
    )


def fit_decoder(
    train: Samples,
    real: Samples,
    features: PerStimulus,
    alphas: npt.NDArray[np.float32] | None = None,
) -> LinearDecoder:
    """Fit the linear decoder, on components of the real training images whatever is added.

    Penalties are chosen anew, or are ``alphas`` of a fit on the real samples, scaled with the
    number of samples.
    """
    settings = DecoderSettings()
    library = tuple(dict.fromkeys(real.table['stimulus'].astype(str)))
    names = train.table['stimulus'].astype(str)
    space = FeatureSpace.fit(features.of(library), settings.n_components)
    voxels = Standardizer.fit(train.values)
    X, Y = voxels.apply(train.values), space.transform(features.of(names))
    if alphas is None:
        ridge = fit_ridge(
            X, Y,
            alphas=settings.ridge.alphas,
            groups=names.to_numpy(),
            n_folds=settings.ridge.n_folds,
            per_target=space.n_components < len(library) - 1,
        )  # fmt: skip
    else:
        ridge = ridge_with(X, Y, alphas * (train.n_samples / real.n_samples))
    # directions are taken from the mean of the real images, which is 0: the mean of all samples
    # would be added to every prediction, which is nothing but that where penalties are large
    ridge = replace(ridge, intercept=np.zeros_like(ridge.intercept))
    return LinearDecoder(voxels, space, ridge, library, settings.measure)


def ridge_with(X: Any, Y: Any, alphas: npt.NDArray[np.float32]) -> RidgeModel:
    """Fit ridge with one given penalty a target."""
    mean, intercept = X.mean(axis=0), Y.mean(axis=0)
    values, vectors = np.linalg.eigh(((X - mean).T @ (X - mean)).astype(np.float64))
    turned = vectors.T @ ((X - mean).T @ (Y - intercept))
    weights = vectors @ (turned / (np.maximum(values, 0)[:, None] + alphas))
    none = np.full(len(alphas), np.nan, dtype=np.float32)
    return RidgeModel(mean, weights.astype(np.float32), intercept, alphas, none)


def differences(part: pd.DataFrame) -> dict[str, Any]:
    """Return the mean without synthetic samples, and mean differences with standard errors."""
    wide = part.pivot_table(index='seed', columns='variant', values='value')
    row: dict[str, Any] = {WITHOUT: float(wide[WITHOUT].mean())}
    for variant in VARIANTS:
        if variant != WITHOUT:
            gain = wide[variant] - wide[WITHOUT]
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            better = f'{(gain > 0).sum()} of {len(gain)}'
            row[variant] = f'{gain.mean():+.3f} ± {error:.3f} ({better})'
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pictures', type=Path)
    parser.add_argument('--n', type=int, default=480, help='images that are shown')
    parser.add_argument('--seeds', type=int, default=8)
    args = parser.parse_args()
    start = time.perf_counter()
    rows = synthetic(Photographs.load(args.pictures), range(args.seeds), args.n)
    print(f'{time.perf_counter() - start:.0f} s\n\n{markdown(rows)}')


if __name__ == '__main__':
    main()
