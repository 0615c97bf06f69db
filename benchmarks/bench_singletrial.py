"""Time, memory and disk of single-trial betas beside the products that they need and glmsingle.

python benchmarks/bench_singletrial.py --package
python benchmarks/bench_singletrial.py --torch
python benchmarks/bench_singletrial.py --voxels 5000 --runs 480 --volumes 226 --mapped

Seconds are the processor's (one thread: set OMP_NUM_THREADS=1), the least of the repeats, then
all; what is compared runs in turn in this call. ``--mapped`` keeps series and arrays on disk, as
the node does, and counts memory without mapped files, which the kernel takes back.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import defaultdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bids_neurodecode.signals.glmsingle import estimate_with_glmsingle
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.signals.preparing import LaterRun
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.trialtypes import SingleTrialOptions

REPETITION_TIME, DURATION = 4 / 3, 3.0


def make_runs(folder, args):
    """Series with planted responses, shared and own noise; each stimulus is shown three times."""
    rng = np.random.default_rng(0)
    n_trials = int(0.83 * (args.volumes // 3 - 3))
    stimuli = rng.permutation(
        np.resize(np.arange(args.runs * n_trials // 3), args.runs * n_trials)
    )
    conditions = list(stimuli.reshape(args.runs, n_trials))
    slots = np.arange(args.volumes // 3 - 3)
    onsets = [3 * np.sort(rng.choice(slots, n_trials, replace=False)) for _ in conditions]
    library = hrf_library(REPETITION_TIME, DURATION).astype(np.float32)
    response, strength = rng.integers(0, 20, args.voxels), 15 * (rng.random(args.voxels) < 0.3)
    series = []
    for run in range(args.runs):
        shape = args.volumes, args.voxels
        values = 1000 + 20 * rng.standard_normal(shape, dtype=np.float32)
        shared = rng.standard_normal((args.volumes, 3)) @ rng.standard_normal((3, args.voxels))
        values += (15 * shared).astype(np.float32)
        for onset, stimulus in zip(onsets[run], conditions[run], strict=True):
            amplitude = np.random.default_rng(int(stimulus)).standard_normal(args.voxels) + 1
            part = values[onset : onset + len(library)]
            part += library[: len(part), response] * (strength * amplitude).astype(np.float32)
        if args.mapped:
            np.save(folder / f'run-{run}.npy', values)
            series.append(LaterRun(shape, partial(np.load, folder / f'run-{run}.npy')))
        else:
            series.append(values)
    return series, onsets, conditions, REPETITION_TIME, DURATION


def least_products(args, n_trials):
    """Return what multiplies all that has to be: 20 responses, 20 fractions, the noise pool."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((args.volumes, args.voxels), dtype=np.float32)
    responses = rng.standard_normal((20 * n_trials, args.volumes), dtype=np.float32)
    fractions = rng.standard_normal((n_trials, n_trials), dtype=np.float32)

    def multiply():
        for start in args.runs * list(range(0, args.voxels, 1024)):
            part = values[:, start : start + 1024]
            np.matmul(responses, part)
            np.matmul(part, part.T)
            for _ in range(20):
                np.matmul(fractions, part[:n_trials])

    return multiply


def mapped_in(folder, n_trials):
    """Return what makes the engine's arrays on disk, as the node does."""

    def allocate(name, shape, dtype=np.float32, /):
        file = folder / f'{name}.npy'
        return np.lib.format.open_memmap(file, 'w+', dtype, shape, shape[0] == n_trials)

    folder.mkdir()
    return allocate


class Memory:
    """The peak of the memory that is no mapped file (GiB)."""

    def __init__(self):
        self.peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            lines = Path('/proc/self/status').read_text().splitlines()
            kib = next(line.split()[1] for line in lines if line.startswith('RssAnon'))
            self.peak = max(self.peak, int(kib) / 2**20)
            time.sleep(0.05)


def spent(function):
    """Return the seconds of the processor, processes started among them, and what is returned."""
    started = sum(os.times()[:4])
    value = function()
    return sum(os.times()[:4]) - started, value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--voxels', type=int, default=10_000)
    parser.add_argument('--runs', type=int, default=2)
    parser.add_argument('--volumes', type=int, default=300)
    parser.add_argument('--tuning', action='store_true', help='one tuning set a run')
    parser.add_argument('--models', default='BCD')
    parser.add_argument('--mapped', action='store_true', help='series and arrays on disk')
    parser.add_argument('--package', action='store_true', help='run the glmsingle package too')
    parser.add_argument('--torch', action='store_true', help='PyTorch on the processor too')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = make_runs(folder, args)
        run_of = np.repeat(np.arange(args.runs), [len(run) for run in inputs[1]])
        print(f'{args.voxels} voxels, {args.runs} x {args.volumes} volumes, {len(run_of)} trials')
        options = SingleTrialOptions(models=tuple(args.models))
        sets = [run_of != run for run in range(args.runs)] if args.tuning else []
        memory, seconds, walls = Memory(), defaultdict(list), defaultdict(list)
        multiply = least_products(args, len(inputs[1][0]))
        package = args.package and find_spec('glmsingle') is not None
        for repeat in range(args.repeats):
            more = {'options': options, 'tuning_sets': sets}
            if args.mapped:
                more['allocate'] = mapped_in(folder / f'arrays-{repeat}', len(run_of))
            start = time.perf_counter()
            took, ours = spent(partial(estimate_single_trials, *inputs, **more))
            seconds['engine'].append(took)
            walls['engine'].append(time.perf_counter() - start)
            if args.torch:
                start = time.perf_counter()
                run = partial(estimate_single_trials, *inputs, **more, device='torch')
                seconds['torch'].append(spent(run)[0])
                walls['torch'].append(time.perf_counter() - start)
            seconds['products'].append(spent(multiply)[0])
            if package:
                run = partial(estimate_with_glmsingle, *inputs, options=options)
                took, theirs = spent(run)
                seconds['glmsingle'].append(took)
        for what, found in seconds.items():
            print(f'{what}: {min(found):.2f} s; ' + ' '.join(f'{each:.2f}' for each in found))
        for what, found in walls.items():
            print(f'{what}, on the clock: ' + ' '.join(f'{each:.2f}' for each in found))
        print(f'peak of memory: {memory.peak:.2f} GiB; components: {ours.n_components}')
        if args.mapped:
            on_disk = sum(512 * f.stat().st_blocks for f in folder.glob('arrays-0/*'))
            print(f'disk: {on_disk / (4 * len(run_of) * args.voxels):.2f} times a set of betas')
        if package:
            for model, betas in ours.betas.items():
                difference = np.nanmax(np.abs(betas - theirs.betas[model]))
                print(f'largest difference of betas {model}: {difference:.2g} %')


if __name__ == '__main__':
    main()
