"""What real features help with: identification, retrieval and guidance, on photographs.

``python benchmarks/study_networks.py FOLDER OUT --part identify|encode|guide [--n N] [--seeds 3]``

Simulated responses as in ``study_reconstruction.py``, but for object voxels, which prefer mixtures
of 50 components of MobileNetV2's pooled features: a network that no extractor, guide or judge here
uses. ``identify``: ridge on Gabor energies, on EfficientNet-Lite0 and on both names the held-out
image among the candidates. ``encode``: responses to held-out images are predicted from them.
``guide``: one prior and refiner a seed, and the same decoded features,
matched alike, by how well each is cross-validated, and by EfficientNet-Lite0's gradient too;
EfficientNet-Lite2 judges. Writes one row per image and case, and prints means and paired
differences with 95 % intervals over images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from study_reconstruction import simulate

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation import identification
from bids_neurodecode.evaluation.networks import network_scores, pixel_scores
from bids_neurodecode.evaluation.paired import paired_difference
from bids_neurodecode.evaluation.protocols import get_protocol, held_out
from bids_neurodecode.models.sampling import picture_seed
from bids_neurodecode.models.visionnets import MetricNetwork
from bids_neurodecode.samples import Samples, split_by_group
from bids_neurodecode.stimuli.features import extract_features, get_extractor, image_size_of
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.stimuli.packaged import read_convnet
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.generation.data import Inputs
from bids_neurodecode.systems.reconstruction.generation.fit import Stage, fit_model, training_rows
from bids_neurodecode.systems.reconstruction.generation.model import refine
from bids_neurodecode.systems.reconstruction.generation.small import small_generator

TUNED, GUIDE, JUDGE = 'mobilenetv2', 'efficientnet-lite0', 'efficientnet-lite2'
SIZE = 64
BANDS = {
    'gabor': ('gabor',),
    'lite0': ('efficientnet-lite0',),
    'gabor and lite0': ('gabor', 'efficientnet-lite0'),
    'joined': ('gabor+efficientnet-lite0',),
}
ENCODED = {
    'gabor': ('gabor',),
    'lite0': ('efficientnet-lite0',),
    'gabor and lite0': ('gabor', 'efficientnet-lite0'),
    'gabor, stage 5 and lite0': ('gabor', 'efficientnet-lite0:stage5', 'efficientnet-lite0'),
}
GUIDES: dict[str, dict[str, Any]] = {
    'matched alike': {},
    'by accuracy': {'match_weighted': True},
    'network, alike': {'match_network': GUIDE},
    'network, by accuracy': {'match_network': GUIDE, 'match_weighted': True},
    'no matching': {'match': False},
}


def features_of(files: list[Path], name: str, cache: Path) -> np.ndarray:
    """Extract the features of images; those seen before are read."""
    images = load_images(files, size=image_size_of(name, SIZE))
    return extract_features(images, get_extractor(name), cache_dir=cache)


def split_of(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Hold out a fifth of the images; average the repeats of what is held out."""
    split = split_by_group(samples.table, 'stimulus', rng=np.random.default_rng(seed))
    parts = samples.fold(split.folds[0])
    return parts.train, parts.test.averaged()


def identify(files: list[Path], samples: Samples, seed: int, cache: Path) -> pd.DataFrame:
    """Name held-out images among all held-out ones, by each set of features."""
    from bids_neurodecode.models.dual import Factorisation
    from bids_neurodecode.standardizer import Standardizer
    from bids_neurodecode.stimuli.space import FeatureSpace

    train, test = split_of(samples, seed)
    train, names = train.averaged(), [f.name for f in files]
    scaler = Standardizer.fit(train.values)
    known = Factorisation(scaler.apply(train.values), n_folds=5)
    row = {name: k for k, name in enumerate(names)}
    learned, asked = ([row[x] for x in part.table['stimulus']] for part in (train, test))
    tables = []
    for case, bands in BANDS.items():
        similarities = []
        for band in bands:
            values = features_of(files, band, cache)
            space = FeatureSpace.fit(values[learned], 100)
            fitted = known.fit(
                space.transform(values[learned]), alphas=10.0 ** np.arange(-2, 7), per_target=True
            )
            decoded = fitted.predict(scaler.apply(test.values), 'none')
            similarities.append(identification.similarity(decoded, space.transform(values[asked])))
        alike = np.mean(similarities, axis=0)
        rows = np.arange(len(alike))
        tables.append(
            pd.DataFrame(
                {
                    'image': [names[k] for k in asked],
                    'case': case,
                    'seed': seed,
                    'top-1': identification.outcomes_top1(alike)[rows, rows],
                    '2-way': identification.outcomes_2way(alike)[rows, rows],
                    'image by response': identification.outcomes_top1(alike.T)[rows, rows],
                }
            )
        )
    return pd.concat(tables)


def encode(files: list[Path], samples: Samples, seed: int, cache: Path) -> pd.DataFrame:
    """Predict responses to held-out images by ridge on each set of feature spaces."""
    from bids_neurodecode.evaluation.networks import correlations
    from bids_neurodecode.models.dual import Factorisation
    from bids_neurodecode.stimuli.space import FeatureSpace

    train, test = split_of(samples, seed)
    train, names = train.averaged(), [f.name for f in files]
    row = {name: k for k, name in enumerate(names)}
    learned, asked = ([row[x] for x in part.table['stimulus']] for part in (train, test))
    mean, scale = train.values.mean(axis=0), train.values.std(axis=0)
    measured = (test.values - mean) / scale
    tables = []
    for case, bands in ENCODED.items():
        parts = []
        for band in bands:
            values = features_of(files, band, cache)
            space = FeatureSpace.fit(values[learned], 100)
            parts.append(space.transform(values))
        X = np.concatenate(parts, axis=1)
        fitted = Factorisation(X[learned], n_folds=5).fit(
            (train.values - mean) / scale, alphas=10.0 ** np.arange(0, 7), per_target=True
        )
        predicted = fitted.predict(X[asked], 'none')
        voxels = np.array(
            [np.corrcoef(*pair)[0, 1] for pair in zip(predicted.T, measured.T, strict=True)]
        )
        print(f'seed {seed}, {case}: mean r {np.nanmean(voxels):.3f}', flush=True)
        alike = correlations(measured, predicted)
        rows = np.arange(len(alike))
        tables.append(
            pd.DataFrame(
                {
                    'image': [names[k] for k in asked],
                    'case': case,
                    'seed': seed,
                    'pattern r': alike[rows, rows],
                    'top-1': identification.outcomes_top1(alike)[rows, rows],
                    '2-way': identification.outcomes_2way(alike)[rows, rows],
                }
            )
        )
    return pd.concat(tables)


def guide(
    files: list[Path], samples: Samples, seed: int, args: argparse.Namespace
) -> pd.DataFrame:
    """Make held-out images with each way of matching, from one prior and refiner."""
    names = tuple(f.name for f in files)
    pictures = PerStimulus(names, load_images(files, size=SIZE))
    features = PerStimulus(names, features_of(files, 'gabor', args.out / 'features'))
    inputs = Inputs(features, pictures, get_extractor('gabor'))
    train, test = split_of(samples, seed)
    truth = pictures.of(test.table['stimulus'])
    protocol = held_out(get_protocol('cpu-1'), {TUNED, GUIDE})
    judge = {JUDGE: MetricNetwork(read_convnet(JUDGE))}
    seeds = [picture_seed(seed, str(x)) for x in test.table['stimulus']]
    steps = {'prior_steps': args.steps, 'refiner_steps': args.steps}
    config = Config.model_validate({'seed': seed, 'reconstruction': steps})
    stage = Stage.learn(
        [*train.table['stimulus']], inputs,
        replace(small_generator(config), network=GUIDE), config, checkpoint_dir=args.out / 'kept',
    )  # fmt: skip
    rows = training_rows(train, stage, config, np.random.default_rng(seed))
    from bids_neurodecode.models.latent_training import LatentSettings

    settings = LatentSettings.of(config, seed=seed, device='cpu')
    model = fit_model(rows, stage, config, settings, rng=np.random.default_rng(seed))
    start = stage.fitted.decode(model.predict_latents(test.values), seeds)
    wanted = model.predict_conditions(test.values)
    made, tables = {'first stage': start}, []
    for case, told in GUIDES.items():
        busy = time.process_time()
        network = told.get('match_network')
        fitted = replace(
            stage.fitted,
            network=network,
            matching=replace(
                stage.fitted.matching, n_start=args.updates, n_step=args.updates // 5
            ),
        )
        settings_of = config.reconstruction.model_copy(update=told)
        made[case] = refine(fitted, start, wanted, seeds, settings_of, trust=model.trust)
        print(f'seed {seed}, {case}: {time.process_time() - busy:.0f} s of a core', flush=True)
    for case, images in made.items():
        scores = pixel_scores(truth, images, protocol)
        scores += network_scores(truth, images, protocol, judge)
        pixels = small_correlations(images, truth)
        two_way = identification.outcomes_2way(pixels).diagonal()
        columns = {score.metric: score.values for score in scores}
        tables.append(
            pd.DataFrame(
                {'image': test.table['stimulus'], 'case': case, 'seed': seed, **columns}
            ).assign(pixel_2way=two_way)
        )
    draw(args.out / f'guide-{seed}.png', truth, made)
    return pd.concat(tables)


def small_correlations(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Correlate pixels, at 32 a side, of each image with each candidate."""
    from bids_neurodecode.evaluation.networks import correlations
    from bids_neurodecode.systems.reconstruction.generation.generators import resize

    flat = [resize(x, 32).reshape(len(x), -1).astype(np.float32) for x in (images, truth)]
    return correlations(*flat)


def draw(file: Path, truth: np.ndarray, made: dict[str, np.ndarray], n: int = 16) -> None:
    """Draw truth and each case, a row each, in the order of the printed table."""
    from PIL import Image

    rows = [
        np.concatenate(
            [np.asarray(Image.fromarray(x).resize((96, 96))) for x in images[:n]], axis=1
        )
        for images in (truth, *made.values())
    ]
    Image.fromarray(np.concatenate(rows)).save(file)


def summarise(table: pd.DataFrame, reference: str) -> None:
    """Print means, and differences from a reference over images (seeds of one averaged)."""
    metrics = [c for c in table.columns if c not in {'image', 'case', 'seed'}]
    print(table.groupby('case', sort=False)[metrics].mean().round(3).to_markdown())
    each = table.set_index(['case', 'seed', 'image'])
    for case in dict.fromkeys(table['case']):
        if case == reference:
            continue
        ours, told = each.loc[case], []
        theirs = each.loc[reference].loc[ours.index]
        for metric in metrics:
            found = paired_difference(
                ours[metric], theirs[metric], rng=np.random.default_rng(0),
                groups=ours.index.get_level_values('image'),
            )  # fmt: skip
            told.append(f'{metric} {found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})')
        print(f'{case} - {reference}: ' + '; '.join(told))


def main() -> None:
    """Run a part over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--part', choices=['identify', 'encode', 'guide'], default='identify')
    parser.add_argument('--n', type=int, default=320)
    parser.add_argument('--first', type=int, default=0, help='the first seed')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--snr', type=float, default=1.0)
    parser.add_argument('--steps', type=int, default=150)
    parser.add_argument('--updates', type=int, default=100)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    every = sorted(f for f in args.folder.rglob('*') if f.suffix.lower() in {'.jpg', '.png'})
    tables = []
    for seed in range(args.first, args.first + args.seeds):
        files = [every[k] for k in np.random.default_rng(seed).permutation(len(every))[: args.n]]
        meant = features_of(files, TUNED, args.out / 'features')
        samples, _ = simulate(files, args.repeats, args.snr, seed, meant)
        if args.part == 'guide':
            tables.append(guide(files, samples, seed, args))
        else:
            study = identify if args.part == 'identify' else encode
            tables.append(study(files, samples, seed, args.out / 'features'))
        pd.concat(tables).to_csv(args.out / f'{args.part}.tsv', sep='\t', index=False)
    summarise(pd.concat(tables), 'matched alike' if args.part == 'guide' else 'gabor')


if __name__ == '__main__':
    main()
