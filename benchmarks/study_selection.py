"""Tests of repeats that choose voxels, on planted responses and on noise.

python benchmarks/study_selection.py --sets 40

``F``: one-way analysis of variance over stimuli, all trials alike (the default once). ``values``:
the exchange of stimuli within runs, of z-scored responses, 999 times for each voxel. ``ranks``:
the program's, of normal scores. Noise of trials is AR .5. Then the program's linear decoder names
which of eight images was shown in runs left out, with voxels by each at FDR .05.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.validation.selection import design, noise
from bids_neurodecode.config import EvaluationSettings, SelectionSettings
from bids_neurodecode.samples import Parts, Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.signals.reliability import repeat_test
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds

N_VOXELS = 100
# orders (see design), runs, images, deviation of the responses beside noise of 1
DESIGNS = {
    '8 images once in each of 11 runs': ('random', 11, 8, 0.35),
    '20 images once in each of 6 runs': ('random', 6, 20, 0.45),
    '20 images once in each of 2 runs': ('random', 2, 20, 0.9),
    '12 images three times in a row in each of 4 runs': ('adjacent', 4, 12, 0.5),
}
RESPONSES = 'to all images', 'to all images, heavy tails (t, 3 df)', 'to one image'


def f_test(values, stimuli, _runs):
    """P values of the one-way analysis of variance."""
    return stats.f_oneway(*(values[stimuli == s] for s in np.unique(stimuli))).pvalue


def exchanged(values, stimuli, runs, n_draws=999):
    """P values of z-scored responses, each image once averaged in each run."""
    rng = np.random.default_rng(0)
    means = np.stack(
        [
            [values[(runs == r) & (stimuli == s)].mean(axis=0) for s in np.unique(stimuli)]
            for r in np.unique(runs)
        ]
    )
    z = stats.zscore(means, axis=1, ddof=1)

    def agreement(z):
        return (z.sum(axis=0) ** 2).sum(axis=0)

    reached = sum(
        agreement(np.stack([rng.permutation(run) for run in z])) >= agreement(z) - 1e-9
        for _ in range(n_draws)
    )
    return (reached + 1) / (n_draws + 1)


def ranks(values, stimuli, runs):
    """P values of the program."""
    return repeat_test(values, stimuli, runs).p


TESTS = {'F': f_test, 'values': exchanged, 'ranks': ranks}


def planted(kind, n_runs, n_images, size, response, seed):
    """Half of the voxels respond: values, stimuli, runs."""
    rng = np.random.default_rng((3, seed))
    stimuli, runs = design(rng, kind, n_runs, n_images)
    one_run = len(runs) // n_runs
    values = np.concatenate([noise(rng, one_run, 0.5, 2 * N_VOXELS) for _ in range(n_runs)])
    if 'tails' in response:
        values *= 0.6 / np.sqrt(rng.chisquare(3, values.shape) / 3)
    tuning = rng.standard_normal((n_images, N_VOXELS))
    if 'one' in response:
        tuning = np.zeros((n_images, N_VOXELS))
        tuning[rng.integers(0, n_images, N_VOXELS), np.arange(N_VOXELS)] = np.sqrt(n_images)
    values[:, :N_VOXELS] += size * tuning[stimuli]
    return values, stimuli, runs


def found(n_sets):
    """Share of responding voxels at .01, and of others at .05, with 95 % half widths."""
    print('| design | response | ' + ' | '.join(f'{t}: found at .01' for t in TESTS), end='')
    print(' | ' + ' | '.join(f'{t}: noise at .05' for t in TESTS) + ' |')
    for name, (*world, size) in DESIGNS.items():
        for response in RESPONSES:
            shares = {test: [] for test in TESTS}
            for seed in range(n_sets):
                data = planted(*world, size, response, seed)
                for test, p_of in TESTS.items():
                    p = p_of(*data)
                    shares[test].append(
                        [(p[:N_VOXELS] <= 0.01).mean(), (p[N_VOXELS:] <= 0.05).mean()]
                    )
            cells = [_mean(np.array(s)[:, k]) for k in (0, 1) for s in shares.values()]
            print(f'| {name} | {response} | ' + ' | '.join(cells) + ' |', flush=True)


def _mean(x, scale=1, digits=3):
    half = stats.t.ppf(0.975, len(x) - 1) * np.std(x, ddof=1) / np.sqrt(len(x))
    return f'{scale * np.mean(x):.{digits}f} ± {scale * half:.{digits}f}'


def decoded(n_sets):
    """Percent of trials named, and differences, with drifts of run levels of some sizes."""
    names = tuple('abcdefgh')
    settings = SelectionSettings()
    for drift in (0.0, 0.4, 0.8):
        scores = {test: [] for test in ('F', 'ranks')}
        for seed in range(n_sets):
            rng = np.random.default_rng((9, seed))
            stimuli, runs = design(rng, 'random', 12, 8)
            strength = np.zeros(400)
            strength[:100] = 0.4 * rng.gamma(1.5, 1 / 1.5, 100)
            common = rng.normal(0, 0.25, (3, 400))
            values = [noise(rng, 8, 0.3, 400) + noise(rng, 8, 0.3, 3) @ common for _ in range(12)]
            level = rng.normal(size=(12, 4)) @ rng.normal(size=(4, 400)) / 2 * rng.gamma(1, 1, 400)
            values = np.concatenate(values) + drift * level[runs]
            values += (rng.standard_normal((8, 400)) * strength)[stimuli]
            table = pd.DataFrame(
                {'stimulus': np.array(names)[stimuli], 'run': runs, 'session': ''}
            )
            mask = VoxelMask(np.ones((400, 1, 1), dtype=bool), np.eye(4))
            samples = Samples(Responses(values.astype(np.float32), mask), table)
            features = PerStimulus(names, rng.normal(size=(8, 20)).astype(np.float32))
            split = split_by_group(table, 'run')
            for test, of in scores.items():
                folds = []
                for fold in split:
                    part = samples.fold(fold)
                    own = part.train.table
                    p = TESTS[test](
                        part.train.values, own['stimulus'].factorize()[0], own['run'].to_numpy()
                    )
                    keep = stats.false_discovery_control(p) <= settings.fdr
                    if keep.sum() < settings.min_voxels:
                        keep = np.argsort(np.argsort(p, kind='stable')) < settings.min_voxels
                    folds.append(Parts(part.train.voxels(keep), None, part.test.voxels(keep)))
                judged = evaluate_folds(
                    folds,
                    split,
                    features,
                    evaluation=EvaluationSettings(n_permutations=0, n_bootstrap=0),
                    rng=rng,
                )
                of.append(
                    next(s.value for s in judged.scores if s.metric == 'identification_top1')
                )
        apart = np.subtract(scores['ranks'], scores['F'])
        cells = [_mean(x, 100, 1) for x in (scores['F'], scores['ranks'], apart)]
        print(
            f'| {drift:g} | ' + ' | '.join(cells) + f' | {100 * apart.std(ddof=1):.1f} |',
            flush=True,
        )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sets', type=int, default=40)
    parser.add_argument('--decoded', type=int, default=12)
    options = parser.parse_args()
    found(options.sets)
    decoded(options.decoded)
