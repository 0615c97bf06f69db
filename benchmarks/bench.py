"""Ours beside each peer and the floor: processor seconds, in one run, turn and turn about.

``python -m benchmarks.bench [PROBLEM ...]`` measures the problems at four sizes and adds one row
per measurement to ``benchmarks/history.tsv``; ``--against COMMIT`` measures ours of that commit
too. Each measurement is made in a process of its own with one thread, so that its peak memory is
its own; all contenders of a size take turns, and the median of the rounds counts. Seconds are of
the processor: other work on the machine matters little. The floor is the least that the matrix
library needs for the products that nobody can avoid. Growth is the exponent of time in size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).parents[1]
HISTORY = Path(__file__).with_name('history.tsv')
COLUMNS = ('date', 'commit', 'problem', 'size', 'contender', 'seconds', 'peak_gib', 'machine')
SIZES = (0.125, 0.25, 0.5, 1.0)
TINY = 0.02
PENALTIES = np.geomspace(1.0, 1e6, 10)
Contenders = dict[str, Callable[[], object]]


def regression(n: int, p: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return predictors, and targets half of whose variance they explain."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype=np.float32)
    B = rng.standard_normal((p, t), dtype=np.float32) / np.float32(np.sqrt(p))
    return X, X @ B + rng.standard_normal((n, t), dtype=np.float32)


def one_penalty(scale: float) -> Contenders:
    """Weights and held-out predictions at one penalty; the peers predict nothing held out."""
    n, p, t = (int(size * scale) for size in (3_000, 6_000, 20_000))
    X, Y = regression(n, p, t)
    alpha = 1000.0

    def ours() -> object:
        from bids_neurodecode.models.ridge import fit_ridge

        return fit_ridge(X, Y, alphas=[alpha])

    def many_targets() -> object:
        from bids_neurodecode.models.dual import Factorisation

        return Factorisation(X).fit(Y, alphas=[alpha])

    def scikit_learn() -> object:
        from sklearn.linear_model import Ridge

        return Ridge(alpha=alpha, solver='cholesky').fit(X, Y)

    def himalaya() -> object:
        from himalaya.kernel_ridge import KernelRidge

        return KernelRidge(alpha=alpha, kernel='linear').fit(X - X.mean(0), Y - Y.mean(0))

    def cholesky() -> object:
        from scipy.linalg import cho_factor, cho_solve

        centred = X - X.mean(axis=0)
        kernel = centred @ centred.T
        kernel[np.diag_indices(n)] += alpha
        factor = cho_factor(kernel, overwrite_a=True, check_finite=False)
        return cho_solve(factor, Y - Y.mean(axis=0), check_finite=False)

    return {
        'ours': ours,
        'ours, streamed': many_targets,
        'scipy Cholesky': cholesky,
        'scikit-learn': scikit_learn,
        'himalaya': himalaya,
        'floor': lambda: (X @ X.T) @ Y,
    }


def ten_penalties(scale: float) -> Contenders:
    """One of ten penalties for each target, by five folds."""
    n, p, t = (int(size * scale) for size in (1_500, 3_000, 8_000))
    X, Y = regression(n, p, t)

    def ours() -> object:
        from bids_neurodecode.models.ridge import fit_ridge

        return fit_ridge(X, Y, alphas=PENALTIES)

    def himalaya() -> object:
        from himalaya.kernel_ridge import KernelRidgeCV

        params = {'n_targets_batch': 4096}
        model = KernelRidgeCV(PENALTIES.astype(np.float32), cv=5, solver_params=params)
        return model.fit(X - X.mean(0), Y - Y.mean(0))

    def floor() -> object:
        rows, rest = n // 5, n - n // 5
        left, right = np.ascontiguousarray(X[:rows, :rest]), Y[:rest]
        for _ in range(5 * len(PENALTIES)):
            product = left @ right
        return product

    return {'ours': ours, 'himalaya': himalaya, 'floor': floor}


def banded(scale: float) -> Contenders:
    """Four mixtures of three feature spaces, ten penalties, five folds."""
    n, p, t = (int(size * scale) for size in (1_500, 3_000, 1_000))
    X, Y = regression(n, p, t)
    bands = dict(zip('abc', np.split(X, (p // 3, 2 * p // 3), axis=1), strict=True))

    def ours() -> object:
        from bids_neurodecode.models.banded import fit_banded

        rng = np.random.default_rng(0)
        return fit_banded(bands, Y, alphas=PENALTIES, n_mixtures=0, rng=rng)

    def himalaya() -> object:
        from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

        kernels = np.stack([band @ band.T for band in bands.values()])
        mixtures = np.concatenate([np.full((1, 3), 1 / 3), np.eye(3)]) + 1e-6
        return solve_multiple_kernel_ridge_random_search(
            kernels, Y, n_iter=mixtures.astype(np.float32), alphas=PENALTIES.astype(np.float32),
            cv=5, return_weights='dual', progress_bar=False,
        )  # fmt: skip

    return {'ours': ours, 'himalaya': himalaya}


def latents(scale: float) -> Contenders:
    """The 31 latents of some images, by the published VDVAE with random weights."""
    import torch

    from bids_neurodecode.models.vdvae import VDVAE, encode_images
    from bids_neurodecode.models.vdvae_config import IMAGENET64

    torch.manual_seed(0)
    model = VDVAE(IMAGENET64).eval()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (max(1, int(8 * scale)), 64, 64, 3)).astype(np.uint8)
    return {
        'ours': lambda: encode_images(model, images, n_latents=31),
        'all 75 blocks': lambda: encode_images(model, images),
    }


def betas(scale: float) -> Contenders:
    """Single-trial betas of two runs of 300 volumes; the size is that of the mask."""
    from benchmarks import bench_singletrial
    from bids_neurodecode.signals.glmsingle import estimate_with_glmsingle

    shape = argparse.Namespace(voxels=int(10_000 * scale), runs=2, volumes=300, mapped=False)
    inputs = bench_singletrial.make_runs(None, shape)
    n_trials = len(inputs[1][0])
    return {
        'ours': lambda: bench_singletrial.estimate_single_trials(*inputs),
        'GLMsingle': lambda: estimate_with_glmsingle(*inputs),
        'floor': bench_singletrial.least_products(shape, n_trials),
    }


def gabor(scale: float) -> Contenders:
    """Gabor energies of images of 64 pixels (16 where little more than a call is wanted).

    The peer is one product with all wavelets.
    """
    from bids_neurodecode.stimuli.gabor import GaborPyramid

    pyramid = GaborPyramid()
    n, size = max(2, int(3_200 * scale)), 64 if scale > TINY else 16
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8)
    planes = images.mean(axis=-1).astype(np.float32).reshape(n, -1)
    wavelets = pyramid.linear_maps(size)
    factors = [
        (np.ones((size, 8 * k), np.complex64), np.ones((8, k, size), np.complex64))
        for k in map(int, pyramid.frequencies_for((size, size)))
    ]

    def floor() -> object:
        for across, down in factors:  # along each axis, one after the other
            rows = (planes.reshape(-1, size) @ across).reshape(n, size, 8, -1)
            product = down @ rows.transpose(0, 2, 1, 3)
        return product

    return {
        'ours': lambda: pyramid.transform(images),
        'one dense product': lambda: np.abs(planes @ wavelets),
        'floor': floor,
    }


def small_network(scale: float) -> Contenders:
    """Images through EfficientNet-Lite2; the peer is the network as published, all at once."""
    import torch

    from bids_neurodecode.stimuli.convnets import ARCHITECTURES, ConvNet, make_convnet
    from bids_neurodecode.stimuli.packaged import AT_ONCE

    torch.manual_seed(0)
    name = 'efficientnet-lite2'
    published = ConvNet(ARCHITECTURES[name], 0).eval()
    network = make_convnet(name, published.state_dict())
    images = torch.randn(max(1, int(32 * scale)), 3, 260, 260)
    shapes: list[tuple[int, int, int]] = []
    for layer in published.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.groups == 1:
            layer.register_forward_hook(
                lambda of, _, out: shapes.append(
                    (out[0, 0].numel(), of.weight[0].numel(), of.out_channels)
                )
            )
    with torch.inference_mode():
        published(images[:1])
    products = [(torch.randn(len(images) * n, k), torch.randn(k, m)) for n, k, m in shapes]

    def ours() -> object:
        with torch.inference_mode():
            return [network(part)['avgpool'] for part in images.split(AT_ONCE['cpu'])]

    def as_published() -> object:
        with torch.inference_mode():
            return published(images)['avgpool']

    return {
        'ours': ours,
        'as published': as_published,
        'floor': lambda: [float((a @ b)[0, 0]) for a, b in products],
    }


def film_store(scale: float) -> Contenders:
    """Chunks of a film; the floor decodes each frame once and resizes it."""
    from benchmarks.bench_movie import TR, make_film
    from bids_neurodecode.stimuli.films import decode_frames
    from bids_neurodecode.stimuli.filmstore import FilmRecipe, build_store

    folder = Path(tempfile.mkdtemp())
    seconds = max(40.0 * scale, 3.0)
    film = make_film(folder, seconds)

    def ours() -> object:
        return build_store(film, folder, FilmRecipe(int(seconds / TR), TR, chunk=32, size=112))

    def floor() -> object:
        return [frame.rgb((112, 112)).max() for _, frame in decode_frames(film)]

    return {'ours': ours, 'floor': floor}


PROBLEMS: dict[str, Callable[[float], Contenders]] = {
    'ridge, one penalty': one_penalty,
    'ridge, ten penalties': ten_penalties,
    'banded ridge': banded,
    'VDVAE latents': latents,
    'betas': betas,
    'Gabor energies': gabor,
    'small network': small_network,
    'film store': film_store,
}
OPTIONAL = {'himalaya': 'himalaya', 'scikit-learn': 'sklearn', 'GLMsingle': 'glmsingle'}


@dataclass(frozen=True)
class Measured:
    """Medians of what one contender took at one size."""

    problem: str
    scale: float
    contender: str
    seconds: float
    peak_gib: float


def measure_here(problem: str, scale: float, contender: str) -> dict[str, float]:
    """Run one contender in this process; data and imports are made before the clock starts."""
    # those that start a process or build a network bring their imports with the problem
    if contender != 'GLMsingle' and problem != 'VDVAE latents':
        PROBLEMS[problem](TINY)[contender]()
    run = PROBLEMS[problem](scale)[contender]
    start = sum(os.times()[:4])  # of processes that it starts, too
    run()
    seconds = sum(os.times()[:4]) - start
    return {'seconds': seconds, 'peak_gib': peak_gib()}


def peak_gib() -> float:
    """Return the peak memory of this program alone.

    What ``getrusage`` tells begins with the memory of the process that started this one.
    """
    status = Path('/proc/self/status')
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    (line,) = (x for x in status.read_text('ascii').splitlines() if x.startswith('VmHWM:'))
    return int(line.split()[1]) / 1024**2


def measure(problem: str, scale: float, contender: str, tree: Path) -> dict[str, float]:
    """Run one contender in a process of its own, with the package of a tree."""
    # peers may lie in folders that the caller names
    places = os.pathsep.join(filter(None, [str(tree), os.environ.get('PYTHONPATH')]))
    env = {**os.environ, 'PYTHONPATH': places, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, __file__, '--measure', problem, str(scale), contender]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(
    problem: str, scale: float, contenders: dict[str, tuple[str, Path]], rounds: int
) -> list[Measured]:
    """Measure contenders, turn and turn about."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = dict.fromkeys(contenders, 0.0)
    for _ in range(rounds):
        for name, (contender, tree) in contenders.items():
            found = measure(problem, scale, contender, tree)
            seconds[name].append(found['seconds'])
            peaks[name] = max(peaks[name], found['peak_gib'])
    return [
        Measured(problem, scale, name, median(seconds[name]), peaks[name]) for name in contenders
    ]


def growth(found: list[Measured]) -> float:
    """Return the exponent of time in size, over all sizes of one contender."""
    if len(found) < 2 or min(m.seconds for m in found) <= 0:
        return float('nan')
    scales, seconds = (np.log([getattr(m, name) for m in found]) for name in ('scale', 'seconds'))
    return float(np.polyfit(scales, seconds, 1)[0])


def table(found: list[Measured]) -> str:
    """Return a Markdown table: one row per contender, one column per size."""
    scales = sorted({m.scale for m in found})
    head = ['problem', 'contender', *(f'{s:g}' for s in scales), 'x ours', 'growth', 'GiB']
    rows = [head, ['---'] * len(head)]
    for problem in dict.fromkeys(m.problem for m in found):
        part = [m for m in found if m.problem == problem]
        largest = {m.contender: m for m in part if m.scale == scales[-1]}
        for name in dict.fromkeys(m.contender for m in part):
            own = sorted((m for m in part if m.contender == name), key=lambda m: m.scale)
            last = largest[name]
            rows.append([
                problem, name, *(f'{m.seconds:.2f}' for m in own),
                f'{last.seconds / largest["ours"].seconds:.2f}',
                f'{growth(own):.2f}', f'{last.peak_gib:.1f}',
            ])  # fmt: skip
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def commit_of(tree: Path) -> str:
    """Return the commit of a tree, marked where files of the package differ from it."""
    head = ['git', '-C', str(tree), 'rev-parse', '--short', 'HEAD']
    changed = ['git', '-C', str(tree), 'status', '--porcelain', '--', 'bids_neurodecode']
    name, dirty = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for command in (head, changed)
    )
    return name + ('+' if dirty else '')


def remember(found: list[Measured], file: Path) -> None:
    """Add measurements to the history."""
    new = not file.exists()
    commit, date = commit_of(ROOT), time.strftime('%Y-%m-%d')
    with file.open('a', encoding='utf-8') as stream:
        if new:
            stream.write('\t'.join(COLUMNS) + '\n')
        for m in found:
            values = (
                date, commit, m.problem, f'{m.scale:g}', m.contender, f'{m.seconds:.3f}',
                f'{m.peak_gib:.2f}', platform.processor() or platform.machine(),
            )  # fmt: skip
            stream.write('\t'.join(values) + '\n')


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """Check another commit out for a while."""
    git = ['git', '-C', str(ROOT), 'worktree']
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / 'tree'
        add = [*git, 'add', '--quiet', '--detach', str(tree), commit]
        subprocess.run(add, check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, 'remove', '--force', str(tree)], check=True)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and add to the history."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('problems', nargs='*', help=f'any of: {", ".join(PROBLEMS)}')
    parser.add_argument('--scales', type=float, nargs='+', default=SIZES)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--against', metavar='COMMIT', help='measure ours of that commit too')
    parser.add_argument('--history', type=Path, default=HISTORY)
    parser.add_argument('--measure', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        problem, scale, contender = args.measure
        print(json.dumps(measure_here(problem, float(scale), contender)))
        return
    unknown = [name for name in args.problems if name not in PROBLEMS]
    if unknown:
        parser.error(f'no such problem: {", ".join(unknown)}; there are {", ".join(PROBLEMS)}')
    found: list[Measured] = []
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(tree_of(args.against)) if args.against else None
        for problem in args.problems or PROBLEMS:
            names = [
                name
                for name in PROBLEMS[problem](min(SIZES))
                if name not in OPTIONAL or find_spec(OPTIONAL[name]) is not None
            ]
            contenders = {name: (name, ROOT) for name in names}
            if other is not None:
                contenders[f'ours at {args.against}'] = ('ours', other)
            for scale in args.scales:
                found += compare(problem, scale, contenders, args.rounds)
                print(table([m for m in found if m.scale == scale]), flush=True)
    print(f'\n{table(found)}')
    remember(found, args.history)


if __name__ == '__main__':
    main()
