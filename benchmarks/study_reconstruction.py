"""What helps reconstruction: regressors, latents, noise, on simulated responses to photographs.

``python benchmarks/study_reconstruction.py PICTURES OUT [--n 600] [--seed 0] [--cases a,b]``

Responses are those of the simulator's voxels (Gabor energy, colour and category, noise a trial),
so that what can be known is known. Prior and refiner are the self-contained ones and learn from
the training images of one split by stimulus, kept in OUT and used by all cases; a seed draws
brain, noise, split and networks anew. Writes ``scores.tsv``, ``pictures.tsv`` (scores of each
image), one contact sheet a case (truth, what the prior can do, initial, final, nearest) and
prints the table. ``summarise_reconstruction.py`` compares cases over seeds.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.metrics import scores_table
from bids_neurodecode.models.vdvae_config import SMALL32
from bids_neurodecode.samples import Responses, Samples, Split, split_by_group
from bids_neurodecode.simulate import features as bank
from bids_neurodecode.simulate.brain import load_brain
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.simulate.voxels import draw_voxels
from bids_neurodecode.stimuli.features import get_extractor
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE
from bids_neurodecode.systems.reconstruction.generation.data import (
    ExtraPictures,
    Generation,
    Inputs,
)
from bids_neurodecode.systems.reconstruction.generation.run import generate_pictures
from bids_neurodecode.systems.reconstruction.generation.small import small_generator

SIZE = 64
DEEP = replace(
    SMALL32,
    encoder_blocks='32x1,32d2,16x4,16d2,8x3,8d2,4x2,4d4,1x1',
    decoder_blocks='1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x1',
)
"""A small prior whose first 15 and 31 latents are of the published one's resolutions, with half
the channels."""
CASES: dict[str, dict[str, Any]] = {
    'ridge': {},
    'gru': {'regressor': 'gru'},
    'conv': {'regressor': 'conv'},
    'transformer': {'regressor': 'transformer'},
    'regions-gru': {'regressor': 'regions-gru'},
    'latents-3': {'latents': 3},
    'latents-6': {'latents': 6},
    'renorm-none': {'renorm': 'none'},
    'renorm-transductive': {'renorm': 'transductive'},
    'no-match': {'match': False},
    'no-match-strength-0.3': {'match': False, 'strength': 0.3},
    'no-condition': {'conditions': 'none'},
    'no-start': {'start': 'noise'},
    'noise-8': {'noise': 8},
    'noise-16': {'noise': 16},
    'noise-32': {'noise': 32},
    'noise-64': {'noise': 64},
    'noise-256': {'noise': 256},
    'strength-0.1': {'strength': 0.1},
    'strength-0.3': {'strength': 0.3},
    'strength-0.75': {'strength': 0.75},
    'deep-ridge-15': {'latents': 15},
    'deep-ridge-31': {'latents': 31},
    'deep-gru-15': {'latents': 15, 'regressor': 'gru'},
    'deep-gru-31': {'latents': 31, 'regressor': 'gru'},
    'extra': {},
    'synthetic-1': {'synthetic': 1.0},
}
SHOWN = (
    ('initial', 'pixcorr'), ('initial', 'ssim_2d'), ('initial', 'pixel_2way'),
    ('initial', 'gabor-standin_2way'), ('final', 'pixcorr'), ('final', 'ssim_2d'),
    ('final', 'pixel_2way'), ('final', 'gabor-standin_2way'), ('final', 'identification_top1'),
    ('latents', 'latent_mse'), ('latents', 'latent_mae'), ('features', 'retrieval_image_top1'),
)  # fmt: skip


def simulate(
    files: list[Path], n_repeats: int, snr: float, seed: int, meant: Any = None
) -> tuple[Samples, Any]:
    """Simulate single-trial responses of one participant to images; return them and regions.

    Object voxels prefer categories without meaning, or, where a network's features of the images
    are given, (n, n_features), mixtures of 50 components of these.
    """
    spec = build_spec(n_images=len(files), n_repeats=n_repeats, n_runs=max(6, n_repeats), snr=snr)
    brain, rng = load_brain(spec.voxel_size), np.random.default_rng(seed)
    small = load_images(files, size=bank.SIZE)
    kinds = [f'kind{k % 6}' for k in range(len(files))]
    table = bank.join(bank.gabor_energy(small), bank.colours(small), bank.categories(kinds))
    voxels = draw_voxels(spec, brain, table, rng)
    course = voxels.preferred(table)
    if meant is not None:
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


def run_case(
    name: str, told: dict[str, Any], world: dict[str, Any], base: Config, out: Path
) -> Generation:
    """Run one case and draw its contact sheet."""
    config = base.model_copy(
        update={'reconstruction': base.reconstruction.model_copy(update=told)}
    )
    uses_extra = name == 'extra' or name.startswith('synthetic')
    inputs = Inputs(
        world['features'], world['pictures'], world['extractor'],
        extra=world['extra'] if uses_extra else None, regions=world['regions'],
    )  # fmt: skip
    samples: Samples = world['samples']
    generator = small_generator(config)
    if name.startswith('deep'):
        generator = replace(generator, prior=DEEP)
    result = generate_pictures(
        samples, [samples], world['split'], inputs, generator, config,
        tsnr_runs=np.ones((samples.table['run'].nunique(), samples.values.shape[1]), np.float32),
        checkpoint_dir=out / 'checkpoints',
    )  # fmt: skip
    draw_sheet(result, out / f'{name}.png')
    return result


def draw_sheet(result: Generation, file: Path, n: int = 16, side: int = 96) -> None:
    """Draw a row each of truth, prior, initial, final and nearest."""
    from PIL import Image

    pictures = result.pictures
    chosen = np.flatnonzero(pictures.table['space'] == pictures.table['space'].iloc[0])[:n]
    rows = []
    for part in (pictures.truth, pictures.prior, pictures.initial, pictures.final,
                 pictures.nearest):  # fmt: skip
        sized = [
            np.asarray(Image.fromarray(part[k]).resize((side, side), Image.Resampling.BICUBIC))
            for k in chosen
        ]
        rows.append(np.concatenate(sized, axis=1))
    Image.fromarray(np.concatenate(rows)).save(file)


def summary(table: pd.DataFrame, model: str) -> dict[str, float]:
    """Take the scores that the printed table shows."""
    row = {}
    for space, metric in SHOWN:
        found = table[
            (table['model'] == model) & (table['space'] == space) & (table['metric'] == metric)
        ]
        if len(found):
            row[f'{space} {metric}'] = float(found['value'].iloc[0])
    return row


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pictures', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--n', type=int, default=600)
    parser.add_argument('--extra', type=int, default=0)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--snr', type=float, default=1.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--permutations', type=int, default=1000)
    parser.add_argument('--cases', default=','.join(CASES))
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    files = sorted(f for f in args.pictures.rglob('*') if f.suffix.lower() in {'.jpg', '.png'})
    files = [files[k] for k in np.random.default_rng(args.seed).permutation(len(files))]
    used, spare = files[: args.n], files[args.n : args.n + args.extra]
    extractor = get_extractor('gabor')
    pictures = load_images(used, size=SIZE)
    names = tuple(f.name for f in used)
    samples, regions = simulate(used, args.repeats, args.snr, args.seed)
    split: Split = split_by_group(samples.table, 'stimulus', rng=np.random.default_rng(args.seed))
    extra = None
    if spare:
        more = load_images(spare, size=SIZE)
        extra = ExtraPictures(more, extractor.transform(more))
    world = {
        'samples': samples, 'split': split, 'regions': regions, 'extractor': extractor,
        'features': PerStimulus(names, extractor.transform(pictures)),
        'pictures': PerStimulus(names, pictures), 'extra': extra,
    }  # fmt: skip
    given = [item.split('=', 1) for item in args.set]
    told = {key: tomllib.loads(f'x = {value}')['x'] for key, value in given}
    evaluation = {'n_permutations': args.permutations}
    base = Config.model_validate(
        {'seed': args.seed, 'reconstruction': told, 'evaluation': evaluation}
    )
    rows, tables, pictures_of = {}, [], []
    for case in args.cases.split(','):
        if extra is None and (case == 'extra' or case.startswith('synthetic')):
            continue
        started, busy = time.perf_counter(), time.process_time()
        result = run_case(case, CASES[case], world, base, args.out)
        table = scores_table(result.scores).assign(case=case)
        tables.append(table)
        averaged = result.pictures.table['space'] == REPEAT_AVERAGE
        pictures_of.append(result.pictures.table[averaged].assign(case=case))
        own = CASES[case].get('regressor', 'ridge')
        rows[case] = summary(table, own)
        rows[case]['seconds'] = time.perf_counter() - started
        rows[case]['cpu'] = time.process_time() - busy
        print(case, {k: round(v, 3) for k, v in rows[case].items()}, flush=True)
        if case == 'ridge':
            for model in dict.fromkeys(table['model']):
                rows[model] = summary(table, model)
        # what is done is kept: a study takes hours
        for parts, name in ((tables, 'scores'), (pictures_of, 'pictures')):
            pd.concat(parts).to_csv(args.out / f'{name}.tsv', sep='\t', index=False, na_rep='n/a')
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == '__main__':
    main()
