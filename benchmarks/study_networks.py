"""What real features help with, and what reconstruction gains, on photographs.

``python benchmarks/study_networks.py FOLDER OUT --part identify|encode|guide|reconstruct
[--n N] [--seeds 3]``

Responses are those of the simulator's voxels (Gabor energy, colour, noise a trial), but for object
voxels, which prefer mixtures of 50 components of MobileNetV2's pooled features: a network that no
extractor, guide or judge here uses. ``identify``: ridge on Gabor energies, on EfficientNet-Lite0
and on both names the held-out image among the candidates. ``encode``: responses to held-out images
are predicted from them. ``guide``: one prior and refiner a seed, and the same decoded features,
matched alike, by how well each is cross-validated, and by EfficientNet-Lite0's gradient too.
``reconstruct``: both stages as by default, beside other regressors, baselines and what the truth
makes; ``OUT/kept`` keeps prior and refiner. EfficientNet-Lite2 judges. Writes one row per image
and case, and prints means and paired differences with 95 % intervals over images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation import identification
from bids_neurodecode.evaluation.networks import Remembering, network_scores, pixel_scores
from bids_neurodecode.evaluation.paired import paired_difference
from bids_neurodecode.evaluation.protocols import get_protocol, held_out
from bids_neurodecode.models.latent_training import LatentSettings
from bids_neurodecode.models.sampling import picture_seed
from bids_neurodecode.models.visionnets import MetricNetwork
from bids_neurodecode.samples import Responses, Samples, split_by_group
from bids_neurodecode.simulate import features as bank
from bids_neurodecode.simulate.brain import load_brain
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.simulate.voxels import draw_voxels
from bids_neurodecode.stimuli.features import extract_features, get_extractor, image_size_of
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.stimuli.packaged import read_convnet
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.generation.data import Inputs
from bids_neurodecode.systems.reconstruction.generation.fit import (
    Fitting,
    Rows,
    Stage,
    training_rows,
)
from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel, refine
from bids_neurodecode.systems.reconstruction.generation.run import blurred
from bids_neurodecode.systems.reconstruction.generation.small import small_generator
from bids_neurodecode.systems.voxels import choose_voxels

REFERENCES = {
    'guide': ('matched alike',),
    'reconstruct': ('ridge, first stage', 'ridge, second stage'),
}
"""Cases that the others of a part are compared with."""
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


def simulate(
    files: list[Path], n_repeats: int, snr: float, seed: int, meant: np.ndarray
) -> tuple[Samples, np.ndarray]:
    """Simulate single-trial responses of one participant to images; return them and regions.

    Object voxels prefer mixtures of 50 components of a network's features of the images,
    (n, n_features).
    """
    spec = build_spec(n_images=len(files), n_repeats=n_repeats, n_runs=max(6, n_repeats), snr=snr)
    brain, rng = load_brain(spec.voxel_size), np.random.default_rng(seed)
    small = load_images(files, size=bank.SIZE)
    kinds = [f'kind{k % 6}' for k in range(len(files))]
    table = bank.join(bank.gabor_energy(small), bank.colours(small), bank.categories(kinds))
    voxels = draw_voxels(spec, brain, table, rng)
    course = voxels.preferred(table)
    space = FeatureSpace.fit(meant, 50)
    scores = space.transform(meant) * space.deviations
    semantic = np.flatnonzero(brain.role('object') & voxels.responsive)
    mixed = scores @ rng.standard_normal((space.n_components, len(semantic)))
    course[:, semantic] = (mixed - mixed.mean(axis=0)) / mixed.std(axis=0)
    signal = voxels.ncsnr * course
    order = np.concatenate([rng.permutation(len(files)) for _ in range(n_repeats)])
    values = signal[order] + rng.standard_normal((len(order), brain.n_voxels))
    rows = pd.DataFrame(
        {
            'stimulus': [files[k].name for k in order],
            'run': np.repeat(np.arange(n_repeats), len(files)),
        }
    )
    return Samples(Responses(values.astype(np.float32), brain.mask), rows), brain.labels


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


@dataclass(frozen=True)
class Part:
    """What images are made of in one seed: a prior and refiner, and held-out samples."""

    config: Config
    stage: Stage
    rows: Rows
    test: Samples
    seeds: list[int]
    truth: np.ndarray

    @classmethod
    def of(
        cls, files: list[Path], samples: Samples, seed: int, args: argparse.Namespace, network: Any
    ) -> Part:
        """Train prior and refiner, or read them."""
        names = tuple(f.name for f in files)
        pictures = PerStimulus(names, load_images(files, size=SIZE))
        # the small generator is guided by Gabor energies, whatever features are decoded otherwise
        features = PerStimulus(names, features_of(files, 'gabor', args.out / 'features'))
        train, test = split_of(samples, seed)
        steps = {'prior_steps': args.steps, 'refiner_steps': args.steps} if args.steps else {}
        config = Config.model_validate({'seed': seed, 'reconstruction': steps})
        stage = Stage.learn(
            [*train.table['stimulus']], Inputs(features, pictures, get_extractor('gabor')),
            replace(small_generator(config), network=network), config,
            checkpoint_dir=args.out / 'kept',
        )  # fmt: skip
        return cls(
            config, stage, training_rows(train, stage, config, np.random.default_rng(seed)), test,
            [picture_seed(seed, str(x)) for x in test.table['stimulus']],
            pictures.of(test.table['stimulus']),
        )  # fmt: skip

    def fit(self, regressor: str = 'ridge', *, shuffled: bool = False) -> GenerationModel:
        """Fit the regressions to the training samples, or to shuffled pairs."""
        rng = np.random.default_rng(self.config.seed)
        settings = LatentSettings.of(self.config, seed=self.config.seed, device='cpu')
        fitting = Fitting(
            self.rows, self.stage, self.config, replace(settings, regressor=regressor)
        )
        return fitting.models(rng).shuffled if shuffled else fitting.model(rng)

    def scored(self, made: dict[str, np.ndarray]) -> pd.DataFrame:
        """Score each image of each case."""
        protocol = held_out(get_protocol('cpu-1'), {TUNED, GUIDE})
        judge = {JUDGE: Remembering(MetricNetwork(read_convnet(JUDGE)))}
        column = f'{JUDGE.replace("-", "_")}_2way'
        tables = []
        for case, images in made.items():
            scores = pixel_scores(self.truth, images, protocol)
            scores += network_scores(self.truth, images, protocol, judge)
            columns = {score.metric: score.values for score in scores}
            alike = small_correlations(images, self.truth)
            columns['pixel_2way'] = identification.outcomes_2way(alike).diagonal()
            columns['pixel_top1'] = identification.outcomes_top1(alike).diagonal()
            columns['judge_top1'] = np.where(columns[column] == 1, 1.0, 0.0)
            told = {'image': self.test.table['stimulus'], 'case': case, 'seed': self.config.seed}
            tables.append(pd.DataFrame({**told, **columns}))
        return pd.concat(tables)


def guide(
    files: list[Path], samples: Samples, seed: int, args: argparse.Namespace
) -> pd.DataFrame:
    """Make held-out images with each way of matching, from one prior and refiner."""
    part = Part.of(files, samples, seed, args, GUIDE)
    stage, config, seeds, model = part.stage, part.config, part.seeds, part.fit()
    start = stage.fitted.decode(model.predict_latents(part.test.values), seeds)
    wanted = model.predict_conditions(part.test.values)
    made = {'first stage': start}
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
    draw(args.out / f'guide-{seed}.png', part.truth, made)
    return part.scored(made)


def reconstruct(
    files: list[Path], samples: Samples, seed: int, args: argparse.Namespace
) -> pd.DataFrame:
    """Make held-out images in both stages, beside what knows less and what knows the truth."""
    split = split_by_group(samples.table, 'stimulus', rng=np.random.default_rng(seed))
    kept = choose_voxels(
        samples.fold(split.folds[0]).train, None, Config(seed=seed),
        tsnr_runs=np.ones((args.repeats, samples.values.shape[1]), np.float32), within=None,
    ).keep  # fmt: skip
    part = Part.of(files, samples.voxels(kept), seed, args, None)
    stage, fitted, seeds, values = part.stage, part.stage.fitted, part.seeds, part.test.values
    told, shown = part.config.reconstruction, part.test.table['stimulus'].tolist()
    made: dict[str, np.ndarray] = {}

    def both(case: str, latents: np.ndarray, wanted: Any) -> None:
        made[f'{case}, first stage'] = start = fitted.decode(latents, seeds)
        made[f'{case}, second stage'] = refine(fitted, start, wanted, seeds, told)

    library = stage.inputs.pictures.of(stage.stimuli)
    retrieved = np.zeros(len(shown))
    for case in args.cases:
        busy = time.process_time()
        if case == 'truth':
            both(case, fitted.encode(part.truth), stage.truth(shown))
            continue
        shuffled = case == 'shuffled'
        model = part.fit('ridge' if shuffled else case, shuffled=shuffled)
        wanted = model.predict_conditions(values)
        both(case, model.predict_latents(values), wanted)
        if case == 'ridge':
            off = told.model_copy(update={'match': False})
            unmatched = replace(fitted, sampling=replace(fitted.sampling, match=False))
            start = made['ridge, first stage']
            made['ridge, without matching'] = refine(unmatched, start, wanted, seeds, off)
            mean = np.rint(library.mean(axis=0)).astype(np.uint8)
            made['mean image'] = np.broadcast_to(mean, part.truth.shape)
            plain = model.predict_conditions(values, 'none')['features']
            alike = identification.similarity(plain, stage.conditions['features'])
            nearest = library[identification.nearest(alike)]
            made['blurred retrieval'] = np.concatenate([*blurred(nearest)])
            known = identification.similarity(plain, stage.truth(shown)['features'])
            retrieved = identification.outcomes_top1(known).diagonal()
        print(f'seed {seed}, {case}: {time.process_time() - busy:.0f} s of a core', flush=True)
    draw(args.out / f'reconstruct-{seed}.png', part.truth, made)
    print(f'seed {seed}: {np.mean(retrieved):.3f} retrieved of {len(shown)}', flush=True)
    return part.scored(made)


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
    parser.add_argument('--part', choices=['identify', 'encode', *REFERENCES], default='identify')
    parser.add_argument('--n', type=int, default=320)
    parser.add_argument('--first', type=int, default=0, help='the first seed')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--snr', type=float, default=1.0)
    parser.add_argument('--steps', type=int, help='updates of prior and refiner; as by default')
    parser.add_argument('--cases', nargs='+', default=['ridge', 'shuffled', 'truth', 'gru'])
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
        elif args.part == 'reconstruct':
            tables.append(reconstruct(files, samples, seed, args))
        else:
            study = identify if args.part == 'identify' else encode
            tables.append(study(files, samples, seed, args.out / 'features'))
        pd.concat(tables).to_csv(args.out / f'{args.part}.tsv', sep='\t', index=False)
    for reference in REFERENCES.get(args.part, ('gabor',)):
        summarise(pd.concat(tables), reference)


if __name__ == '__main__':
    main()
