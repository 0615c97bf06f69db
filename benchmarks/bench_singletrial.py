"""Time and memory of single-trial betas, own engine against the glmsingle package if installed.

python benchmarks/bench_singletrial.py --voxels 20000 --runs 8 --tuning
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bids_neurodecode.signals.glmsingle import estimate_with_glmsingle
from bids_neurodecode.signals.singletrial import SingleTrialOptions, estimate_single_trials


def make_runs(folder, args):
    """Memory-mapped series of noise with a response to each trial; repeats across runs."""
    rng = np.random.default_rng(0)
    series, onsets, conditions = [], [], []
    for run in range(args.runs):
        shape = args.volumes, args.voxels
        values = np.lib.format.open_memmap(
            folder / f'run-{run}.npy', mode='w+', dtype=np.float32, shape=shape
        )
        for start in range(0, args.voxels, 5000):
            part = values[:, start : start + 5000]
            part[:] = 500 + 10 * rng.standard_normal(part.shape, dtype=np.float32)
        volumes = np.arange(4, args.volumes - 8, 4)
        for onset in volumes:
            values[onset + 3 : onset + 6, : args.voxels // 3] += 8
        series.append(values)
        onsets.append(volumes)
        conditions.append(rng.integers(0, len(volumes), len(volumes)))
    return series, onsets, conditions


def report(name, started, before):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f'{name}: {time.perf_counter() - started:.1f} s, peak {peak:.0f} MiB '
        f'({before:.0f} MiB before)'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--voxels', type=int, default=10_000)
    parser.add_argument('--runs', type=int, default=6)
    parser.add_argument('--volumes', type=int, default=240)
    parser.add_argument('--tuning', action='store_true', help='one tuning set a run')
    parser.add_argument('--models', default='BCD')
    parser.add_argument('--package', action='store_true', help='run the glmsingle package too')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        series, onsets, conditions = make_runs(Path(name), args)
        inputs = series, onsets, conditions, 1.6, 3.0
        run_of = np.repeat(np.arange(args.runs), [len(run) for run in onsets])
        print(f'{args.voxels} voxels, {args.runs} x {args.volumes} volumes, {len(run_of)} trials')
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sets = [run_of != run for run in range(args.runs)] if args.tuning else []
        started = time.perf_counter()
        options = SingleTrialOptions(models=tuple(args.models))
        ours = estimate_single_trials(*inputs, tuning_sets=sets, options=options)
        report(f'own engine, {len(sets)} tuning sets', started, before)
        print(f'components: {ours.n_components}, tuned: {[t.n_components for t in ours.tuned]}')
        if args.package and find_spec('glmsingle') is not None:
            started = time.perf_counter()
            theirs = estimate_with_glmsingle(*inputs, options=options)
            print(f'glmsingle package: {time.perf_counter() - started:.1f} s')
            for model, betas in ours.betas.items():
                difference = np.nanmax(np.abs(betas - theirs.betas[model]))
                print(f'largest difference of betas {model}: {difference:.2g} %')


if __name__ == '__main__':
    main()
