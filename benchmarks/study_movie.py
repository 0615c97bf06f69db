"""What the movie system finds of what was planted: a simulated group that saw real films.

``python benchmarks/study_movie.py FILMS_DIR OUTPUT_DIR``

The films of a folder are cut into shots of 5.2 s and shown as one reel, so that what a voxel
follows varies within it; shots of the last fifth of each film make up the end of the reel, which
is held out (with a gap). Six participants, 300 voxels each: a region that follows colours and
edges at places of the frame, one that follows motion, and four that follow nothing. Responses are
5.2 s late, noise is autocorrelated and of known size, so that the best possible correlation is
known. Everything runs through the functions that the program runs. Tables and figures go into
OUTPUT_DIR.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from movie_world import (
    DELAY,
    HELD_OUT,
    N_PARTICIPANTS,
    REGIONS,
    SIZE,
    TR,
    World,
    ceiling,
    labels_of_voxels,
    make_world,
)

from bids_neurodecode.config import Config, build_config
from bids_neurodecode.samples import Split, split_in_time
from bids_neurodecode.systems.movie.setup import FilmData

SEEDS = (0, 1, 2)
N_SHIFTS = 3
PARTS = ('compare', 'explain', 'sweep')
DELAYS = (0.0, 1.3, 2.6, 3.9, 5.2, 6.5, 7.8, 9.1)
LOGGER = logging.getLogger('study')


def settings(mode: str, seed: int, **movie: Any) -> Config:
    """Return the settings of one training."""
    return build_config(
        {
            'seed': seed,
            'movie': {
                'model': 'network', 'mode': mode, 'design': 'small', 'max_voxels': 'none',
                'n_epochs': 25, 'patience': 8, 'learning_rate': 1e-3, **movie,
            },
            'split': {'test_fraction': HELD_OUT},
            'features': {'image_size': SIZE},
            'evaluation': {'n_permutations': 200, 'n_bootstrap': 200},
        }
    )  # fmt: skip


def split_of(data: FilmData) -> Split:
    """Hold the end of the reel out, with the default gap."""
    return split_in_time(data.aligned.table, gap=10.4, test_fraction=HELD_OUT)


def rows_of(who: str, model: str, seed: int, r: np.ndarray, n: int, world: World) -> Iterator[Any]:
    """Yield the median correlation of each region, and its share of the ceiling."""
    labels, best = labels_of_voxels(), ceiling(world.signal, n)
    for region, name in {1: 'pictures', 2: 'motion', 3: 'silent'}.items():
        inside = labels == region if region < 3 else labels > 2
        share = float('nan') if region > 2 else float(np.median((r / best)[inside]))
        yield {
            'who': who, 'model': model, 'seed': seed, 'region': name,
            'r': float(np.median(r[inside])), 'relative': share,
            'ceiling': float(np.median(best[inside])),
        }  # fmt: skip


def banded(data: FilmData, world: World) -> np.ndarray:
    """Return the correlation of each voxel by banded ridge."""
    from bids_neurodecode.systems.movie.banded import encode_banded
    from bids_neurodecode.systems.movie.recipe import FilmRidge

    config = settings('encoder', 0)
    judged, _ = encode_banded(
        data.responses,
        split_of(data),
        {'frames': world.features, 'changes': world.changes},
        FilmRidge.of(config, TR),
        evaluation=config.evaluation,
        rng=np.random.default_rng(0),
    )
    return judged.r


def network(data: FilmData, mode: str, seed: int, **movie: Any) -> Any:
    """Train and judge a network."""
    from bids_neurodecode.systems.movie.study import study_network

    config = settings(mode, seed, **movie)
    started = time.monotonic()
    study = study_network(data, split_of(data), config, rng=np.random.default_rng(seed))
    LOGGER.info('%s, seed %d: %.0f s', mode, seed, time.monotonic() - started)
    return study


def compare(world: World, out: Path) -> dict[int, Any]:
    """Compare the models on the group's mean and on participants; return the joint networks."""
    data, rows, joint, curves = world.data(world.mean), [], {}, []
    rows += rows_of('group mean', 'banded-ridge', 0, banded(data, world), N_PARTICIPANTS, world)
    for seed in SEEDS:
        for mode in ('encoder', 'joint'):
            study = network(data, mode, seed)
            rows += rows_of('group mean', mode, seed, study.judged.r, N_PARTICIPANTS, world)
            curves += [{'mode': mode, 'seed': seed, **row} for row in study.curves]
        joint[seed] = study
    for number in range(1, N_SHIFTS + 1):
        lag = number * len(world.reel) // (N_SHIFTS + 1)
        shifted = world.data(np.roll(world.mean, lag, axis=0))
        study = network(shifted, 'encoder', 0)
        rows += rows_of('shifted', 'encoder', number, study.judged.r, N_PARTICIPANTS, world)
        r = banded(shifted, world)
        rows += rows_of('shifted', 'banded-ridge', number, r, N_PARTICIPANTS, world)
    for number, series in enumerate(world.participants, start=1):
        own = world.data(series)
        who = f'sub-{number:02d}'
        rows += rows_of(who, 'banded-ridge', 0, banded(own, world), 1, world)
        rows += rows_of(who, 'encoder', 0, network(own, 'encoder', 0).judged.r, 1, world)
    pd.DataFrame(rows).to_csv(out / 'models.tsv', sep='\t', index=False, float_format='%.4f')
    pd.DataFrame(curves).to_csv(out / 'curves.tsv', sep='\t', index=False, float_format='%.5f')
    frames = [{'seed': s, **_frame_scores(study)} for s, study in joint.items()]
    pd.DataFrame(frames).to_csv(out / 'frames.tsv', sep='\t', index=False, float_format='%.4f')
    return joint


def _frame_scores(study: Any) -> dict[str, float]:
    scores: dict[str, float] = {}
    for score in study.scores:
        if score.metric == 'frame_ssim':
            scores[f'{score.model}, {score.space}'] = score.value
            if score.p is not None:
                scores |= {'chance': score.chance, 'p': score.p}
    return scores


def explain(world: World, joint: dict[int, Any], out: Path) -> None:
    """Ask the networks for the planted region and the planted concept."""
    from bids_neurodecode.explain.saliency import saliency_by_region
    from bids_neurodecode.systems.movie.explain import explain_concepts, explain_perturbation

    data, labels = world.data(world.mean), labels_of_voxels()
    fold = split_of(data).folds[0]
    found: dict[str, list[pd.DataFrame]] = {'saliency': [], 'perturbation': [], 'concepts': []}
    for seed, study in joint.items():
        config, rng = settings('joint', seed), np.random.default_rng(seed)
        test = study.reconstruction.rows
        found['saliency'].append(saliency_by_region(study.saliency, labels, REGIONS))
        disturbed = explain_perturbation(
            study.network, data.aligned.values[test], study.reconstruction.truth, labels, REGIONS,
            config.movie, positions=np.argwhere(data.aligned.responses.mask.mask),
            accuracy=study.judged.r, rng=rng,
        )  # fmt: skip
        found['perturbation'].append(disturbed.table)
        sensitive = explain_concepts(
            study.network, data.chunks(fold.train), data.chunks(test), labels, REGIONS,
            config.movie, films=data.aligned.table['film'].to_numpy()[fold.train], rng=rng,
        )  # fmt: skip
        found['concepts'].append(sensitive.table)
        LOGGER.info('explained seed %d', seed)
    for name, tables in found.items():
        table = pd.concat([t.assign(seed=s) for s, t in zip(joint, tables, strict=True)])
        table.to_csv(out / f'{name}.tsv', sep='\t', index=False, float_format='%.4f')


def sweep(world: World, out: Path) -> None:
    """Train the encoder on responses read at several delays."""
    labels, rows = labels_of_voxels(), []
    for delay in DELAYS:
        study = network(world.data(world.mean, delay), 'encoder', 0)
        r = study.judged.r
        rows.append(
            {'delay': delay, **{REGIONS[k]: float(np.median(r[labels == k])) for k in (1, 2)}}
        )
    pd.DataFrame(rows).to_csv(out / 'delays.tsv', sep='\t', index=False, float_format='%.4f')


def summarise(out: Path) -> None:
    """Write the tables that there are as one page of Markdown."""
    parts = ['# What the movie system finds of what was planted']
    for name, make in SUMMARIES.items():
        file = out / f'{name}.tsv'
        if file.exists():
            table = make(pd.read_csv(file, sep='\t')).round(3)
            parts.append(f'## {name}\n\n{markdown(table)}')
    (out / 'study.md').write_text('\n\n'.join(parts) + '\n', encoding='utf-8')


def markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown, its index first where it has a name."""
    shown = table.reset_index() if table.index.names != [None] else table
    rows = [list(shown.columns), ['---'] * shown.shape[1], *shown.to_numpy().tolist()]
    return '\n'.join('| ' + ' | '.join(str(cell) for cell in row) + ' |' for row in rows)


def _models(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the ceiling (r of shifted and silent) by model and region."""
    group = table['who'].where(~table['who'].str.startswith('sub-'), 'one participant')
    keys = [group, table['model'], table['region']]
    found = table.groupby(keys)[['r', 'relative']]
    return (
        found.agg(['mean', 'min', 'max'])
        .droplevel(0, axis=1)
        .set_axis(
            [f'{a} {b}' for a in ('r', 'r / ceiling') for b in ('mean', 'min', 'max')], axis=1
        )
    )


def _disturbed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean z of each region, and the least and largest p (FDR) over seeds."""
    found = table.groupby(['region', 'kind', 'metric'])
    return found.agg(
        change=('change', 'mean'), random=('random_mean', 'mean'), z=('z', 'mean'),
        p_fdr_least=('p_fdr', 'min'), p_fdr_most=('p_fdr', 'max'),
    )  # fmt: skip


def _sensitive(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean alignment of each output and concept, and in how many seeds it is sure."""
    found = table.assign(sure=table['p_fdr'] < 0.05).groupby(['output', 'kind', 'concept'])
    return found.agg(
        alignment=('alignment', 'mean'), p_least=('p', 'min'), p_most=('p', 'max'),
        sure=('sure', 'sum'),
    )  # fmt: skip


SUMMARIES = {
    'models': _models,
    'frames': lambda table: table,
    'saliency': lambda table: table.groupby('region')[['share', 'size', 'relative']].mean(),
    'perturbation': _disturbed,
    'concepts': _sensitive,
    'delays': lambda table: table,
}


def draw(joint: dict[int, Any], out: Path) -> None:
    """Draw frames, learning curves and the sweep."""
    from bids_neurodecode.report import film

    if joint:
        _draw_network(joint[SEEDS[0]], out)
    if not (out / 'delays.tsv').exists():
        return
    table = pd.read_csv(out / 'delays.tsv', sep='\t')
    figure = film.new_figure(2.6, 4.5)
    axis = figure.subplots()
    for region in ('pictures', 'motion'):
        axis.plot(table['delay'], table[region], marker='o', label=region)
    axis.axvline(DELAY, color='grey', linestyle='--', label='planted')
    axis.axhline(0, color='grey', linewidth=0.5)
    axis.set(xlabel='delay (s)', ylabel='median Pearson r, held out')
    axis.legend()
    figure.savefig(out / 'delays.png', dpi=150)


def _draw_network(study: Any, out: Path) -> None:
    from bids_neurodecode.report import film
    from bids_neurodecode.systems.examples import pick_examples

    film.plot_curves(pd.DataFrame(list(study.curves))).savefig(out / 'curves.png', dpi=150)
    shown = study.reconstruction
    kinds, picked = pick_examples(shown.similarity, 4)
    examples = pd.DataFrame(
        {'kind': kinds, 'film': 'reel', 'onset': shown.rows[picked] * TR,
         'similarity': shown.similarity[picked]}
    )  # fmt: skip
    pairs = np.stack([shown.truth[picked], shown.decoded[picked]], axis=1)
    film.plot_frames(examples, pairs).savefig(out / 'frames.png', dpi=150)


def main() -> None:
    """Run the study."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('films', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--parts', nargs='+', default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    world = make_world(arguments.films, out / 'work')
    joint: dict[int, Any] = {}
    if 'compare' in arguments.parts:
        joint = compare(world, out)
    if 'explain' in arguments.parts:
        data = world.data(world.mean)
        joint = joint or {seed: network(data, 'joint', seed) for seed in SEEDS}
        explain(world, joint, out)
    if 'sweep' in arguments.parts:
        sweep(world, out)
    draw(joint, out)
    summarise(out)


if __name__ == '__main__':
    main()
