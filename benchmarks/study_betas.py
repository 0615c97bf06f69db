"""Models B, C, D of single-trial betas, and the one chosen within training, on simulated events.

python benchmarks/study_betas.py --seeds 6

Images are held out in three folds; the model, components and fractions of a fold see its
training trials only. Scores are those of the program's linear decoder: two-way identification
among the images held out (chance .5), and the difference to ``auto`` over data sets with its
95 % interval (t).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.identification import identification_2way, similarity
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.signals.modelchoice import best_model, compare_models, inner_folds
from bids_neurodecode.signals.selection import select_voxels
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.timing import onsets_to_volumes
from bids_neurodecode.simulate import features as feature_bank
from bids_neurodecode.simulate import stimuli
from bids_neurodecode.simulate.brain import load_brain
from bids_neurodecode.simulate.design import design_images
from bids_neurodecode.simulate.participant import simulate_images
from bids_neurodecode.simulate.spec import SimulationSpec, generator
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.images import load_images
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.recipe import fit

WORLDS = {
    'as in the demonstration': {},
    'noise common to the brain .6': {'shared_noise': 0.6},
    'pauses of 0 to 2 s': {'isi': (0.0, 2.0)},
    'pauses of 6 to 10 s': {'isi': (6.0, 10.0)},
}
RATIOS = 0.3, 0.6, 1.0
CONFIG = Config()


def simulate(spec):
    """Series, onsets (volumes) and stimuli of each run, and features of the images."""
    with tempfile.TemporaryDirectory() as folder:
        rng = generator(spec.seed, 'pictures')
        rows = stimuli.write_pictures(
            Path(folder), spec.n_images, spec.n_categories, spec.image_size, rng
        )
        names = np.array([name for name, _ in rows])
        files = [Path(folder) / name for name in names]
        small = stimuli.read_pictures(files, feature_bank.SIZE)
        features = extract_features(load_images(files, size=64), get_extractor('gabor'))
    table = feature_bank.join(
        feature_bank.gabor_energy(small),
        feature_bank.colours(small),
        feature_bank.categories([category for _, category in rows]),
    )
    designs = design_images(spec, generator(spec.seed, '01', 'design'))
    person = simulate_images(spec, load_brain(spec.voxel_size), '01', table, designs, None)
    series = [values.astype(np.float32) for values in person.series]
    onsets = [
        onsets_to_volumes(design.onsets, spec.repetition_time, len(values))
        for design, values in zip(designs, series, strict=True)
    ]
    shown = [names[design.stimuli] for design in designs]
    return series, onsets, shown, PerStimulus(tuple(names), features)


def decode(betas, trials, fold, features):
    """Two-way identification of the test trials of a fold."""
    mask = VoxelMask(np.ones((betas.shape[1], 1, 1), dtype=bool), np.eye(4))
    parts = Samples(Responses(np.ascontiguousarray(betas), mask), trials).fold(fold)
    keep = select_voxels(parts.train.values, parts.train.table, CONFIG.selection).keep
    decoder = fit(parts.train.voxels(keep), features)
    found = decoder.components(parts.test.voxels(keep).values)
    candidates = list(dict.fromkeys(parts.test.table['stimulus']))
    truth = [candidates.index(name) for name in parts.test.table['stimulus']]
    alike = similarity(found, decoder.space.transform(features.of(candidates)))
    return identification_2way(alike, truth)


def run(seed, ratio, world):
    """Scores of each model in one data set, and the models chosen."""
    spec = SimulationSpec(seed=seed, snr=ratio, n_images=60, voxel_size=11, **WORLDS[world])
    series, onsets, shown, features = simulate(spec)
    run_of = np.repeat(np.arange(len(series)), [len(each) for each in onsets])
    trials = pd.DataFrame({'stimulus': np.concatenate(shown), 'run': run_of})
    names = trials['stimulus'].to_numpy()
    folds = list(split_by_group(trials, 'stimulus', n_folds=3, rng=np.random.default_rng(seed)))
    training = [np.isin(np.arange(len(trials)), fold.train) for fold in folds]
    inner = [inner_folds(each, names, run_of) for each in training]
    found = estimate_single_trials(
        series,
        onsets,
        shown,
        spec.repetition_time,
        spec.stimulus_duration,
        tuning_sets=training,
        inner_sets=[each.train for group in inner for each in group],
    )
    ends = np.cumsum([len(group) for group in inner])
    scores, chosen = {model: [] for model in 'BCD'}, []
    for number, (fold, group, end) in enumerate(zip(folds, inner, ends, strict=True)):
        chosen.append(
            best_model(compare_models(found.inner[end - len(group) : end], names, group))
        )
        for model, values in {'B': found.betas['B'], **found.tuned[number].betas}.items():
            scores[model].append(decode(values[:, found.usable], trials, fold, features))
    scores['auto'] = [scores[model][number] for number, model in enumerate(chosen)]
    means = {model: float(np.mean(values)) for model, values in scores.items()}
    return {'world': world, 'snr': ratio, 'seed': seed, **means, 'chosen': ''.join(chosen)}


def summarise(table):
    """One row per world and ratio, and one for all."""
    rows = []
    groups = [*table.groupby(['world', 'snr']), (('all', ''), table)]
    for (world, ratio), part in groups:
        row = {'world': world, 'snr': ratio, 'n': len(part)}
        row |= {model: f'{part[model].mean():.3f}' for model in ('B', 'C', 'D', 'auto')}
        for model in 'BD':
            gain = part['auto'] - part[model]
            half = stats.t.ppf(0.975, len(gain) - 1) * gain.std() / np.sqrt(len(gain))
            row[f'auto - {model}'] = f'{gain.mean():+.3f} ± {half:.3f}'
        row['chosen'] = ' '.join(
            f'{model} {part["chosen"].str.count(model).sum()}' for model in 'BCD'
        )
        rows.append(row)
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=6)
    args = parser.parse_args()
    rows = []
    for seed in range(1, args.seeds + 1):
        for world in WORLDS:
            for ratio in RATIOS:
                rows.append(run(seed, ratio, world))
                print(rows[-1], flush=True)
    print(summarise(pd.DataFrame(rows)).to_string(index=False))


if __name__ == '__main__':
    main()
