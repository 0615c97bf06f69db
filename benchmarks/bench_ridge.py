"""The three targets of two-stage reconstruction: one factorisation against loops over tokens.

python benchmarks/bench_ridge.py                 a quarter of NSD's samples, voxels and targets
python benchmarks/bench_ridge.py --scale 1       NSD's own sizes (about an hour on two cores)

Each case runs in a process of its own, so that its peak memory is its own. Targets are random and
are made block by block as they are read; weights are written to disk. The peers fit some tokens of
the vision target (768 values each) in the same run; their time for all targets is that per token
times the number of tokens, and is marked as estimated.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SAMPLES, VOXELS, TOKEN = 8_859, 15_724, 768
TARGETS = {'vdvae': 91_168, 'text': 77 * TOKEN, 'vision': 257 * TOKEN}
ALPHAS = {'vdvae': 50_000.0, 'text': 100_000.0, 'vision': 60_000.0}


class RandomTargets:
    """Columns of noise, the same each time they are read, never all in memory."""

    ndim = 2

    def __init__(self, n_samples: int, n_targets: int) -> None:
        self.shape = (n_samples, n_targets)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key):
        _, columns = key
        first, stop, step = columns.indices(self.shape[1])
        rng = np.random.default_rng(first)
        return rng.standard_normal((len(self), len(range(first, stop, step))), dtype=np.float32)


def predictors(n, p):
    return np.random.default_rng(0).standard_normal((n, p), dtype=np.float32)


def ours(args, n, p, targets):
    from bids_neurodecode.models.dual import Factorisation

    times = {}
    start = time.perf_counter()
    factorisation = Factorisation(predictors(n, p), n_folds=5)
    times['factorisation'] = time.perf_counter() - start
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for name, n_targets in targets.items():
            start = time.perf_counter()
            weights = np.lib.format.open_memmap(
                Path(folder) / f'{name}.npy',
                mode='w+',
                dtype=np.float32,
                shape=factorisation.weights_shape(n_targets),
            )
            factorisation.fit(
                RandomTargets(n, n_targets), alphas=[ALPHAS[name]], weights=weights, block=2048
            )
            times[name] = time.perf_counter() - start
            del weights
            (Path(folder) / f'{name}.npy').unlink()
    return times


def loop(fit, args, n, p):
    X = predictors(n, p)
    Y = RandomTargets(n, TOKEN * args.tokens)
    start = time.perf_counter()
    for token in range(args.tokens):
        fit(X, Y[:, token * TOKEN : (token + 1) * TOKEN])
    return {'token': (time.perf_counter() - start) / args.tokens}


def scikit_learn(args, n, p, targets):
    from sklearn.linear_model import Ridge

    return loop(lambda X, Y: Ridge(alpha=ALPHAS['vision']).fit(X, Y), args, n, p)


def himalaya(args, n, p, targets):
    from himalaya.kernel_ridge import KernelRidge

    model = KernelRidge(alpha=ALPHAS['vision'], kernel='linear')
    return loop(lambda X, Y: model.fit(X - X.mean(axis=0), Y - Y.mean(axis=0)), args, n, p)


CASES = {'ours': ours, 'scikit-learn': scikit_learn, 'himalaya': himalaya}


def run_case(name, argv):
    command = [sys.executable, __file__, *argv, '--case', name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scale', type=float, default=0.25, help='of NSD, in every direction')
    parser.add_argument('--tokens', type=int, default=2, help='tokens that the peers fit')
    parser.add_argument('--folder', default=None, help='where the weights go (7 GB at full scale)')
    parser.add_argument('--case', choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    n, p = int(SAMPLES * args.scale), int(VOXELS * args.scale)
    targets = {name: max(TOKEN, int(size * args.scale)) for name, size in TARGETS.items()}
    if args.case:
        seconds = CASES[args.case](args, n, p, targets)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(json.dumps({'seconds': seconds, 'peak_gib': peak}))
        return
    print(f'{n} samples, {p} voxels, targets {targets}')
    found = {name: run_case(name, sys.argv[1:]) for name in CASES}
    own = found['ours']['seconds']
    total = sum(own.values())
    n_tokens = sum(targets.values()) / TOKEN
    print('\n| case | seconds | ratio | peak GiB |\n| --- | --- | --- | --- |')
    for step, seconds in own.items():
        print(f'| ours: {step} | {seconds:.1f} | | |')
    print(f'| ours: all targets | {total:.1f} | 1 | {found["ours"]["peak_gib"]:.2f} |')
    for name in ('scikit-learn', 'himalaya'):
        token = found[name]['seconds']['token']
        whole = token * n_tokens
        print(
            f'| {name}: one token, measured | {token:.1f} | | {found[name]["peak_gib"]:.2f} |\n'
            f'| {name}: all targets, estimated | {whole:.0f} | {whole / total:.0f} | |'
        )


if __name__ == '__main__':
    main()
