"""What a device does for each part of the program, in one run of under eight minutes: one JSON.

``python benchmarks/gpu_check.py [--json FILE] [--device cpu --tiny]`` (``make gpu-check``)

The tests marked ``gpu``; betas of a session of the Natural Scenes Dataset, beside those that NumPy
estimates of some of its voxels; ridge regression of many targets; training of the movie network in
its published size; one image through both published stages, with random weights. Rates stand
beside those of the largest matrix product, measured in the same run. ``--tiny`` makes all sizes
small, to show that the parts run.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import bench_movie, bench_singletrial, rehearsal
from benchmarks.bench import commit_of, regression

ROOT = Path(__file__).parents[1]
Result = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Parameters
    ----------
    voxels, runs, volumes
        Of the betas: a session.
    compared
        Voxels of these that NumPy estimates, too.
    ridge
        Samples, predictors, targets.
    chunks
        Of the movie network's training.
    width, rows
        Channels and rows of latents of the diffusion networks: 320 and 64 published.
    prior
        The first stage.
    steps
        Of the whole schedule; 50 published.
    matrix
        Rows of the product that rates are compared with.
    """

    voxels: int = 200_000
    compared: int = 10_000
    runs: int = 12
    volumes: int = 300
    ridge: tuple[int, int, int] = (8_000, 15_000, 40_000)
    chunks: int = 1_600
    width: int = 320
    rows: int = 64
    prior: str = 'imagenet64'
    steps: int = 50
    matrix: int = 8192


TINY = Sizes(100, 60, 2, 60, (40, 60, 30), 4, 32, 8, 'small32', 2, 64)


def finish(device: str) -> None:
    """Wait for what the device has been told to do."""
    if device == 'cuda':
        torch.cuda.synchronize()


def seconds_of(function: Callable[[], object], device: str) -> float:
    """Run once and return the seconds on the clock."""
    finish(device)
    start = time.perf_counter()
    function()
    finish(device)
    return time.perf_counter() - start


def matrix_rate(n: int, device: str, dtype: torch.dtype) -> float:
    """Return floating-point operations a second of a square product."""
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    seconds_of(lambda: a @ b, device)
    return 10 * 2 * n**3 / seconds_of(lambda: [a @ b for _ in range(10)], device)


def tests(sizes: Sizes, device: str) -> Result:
    """Run the tests marked ``gpu``; without one they are skipped."""
    where = 'tests/models/test_ridge.py' if sizes == TINY else 'tests'
    command = [sys.executable, '-m', 'pytest', '-q', '-m', 'gpu', '-p', 'no:cacheprovider', where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return {'said': done.stdout.strip().splitlines()[-1]}


def betas(sizes: Sizes, device: str) -> Result:
    """Estimate the single-trial betas of a session, and of some voxels by NumPy as well."""
    shape = argparse.Namespace(
        voxels=sizes.voxels, runs=sizes.runs, volumes=sizes.volumes, mapped=False
    )
    inputs = bench_singletrial.make_runs(None, shape)
    series, *rest = inputs
    some = [run[:, : sizes.compared] for run in series]
    where: Any = 'torch' if device == 'cpu' else device
    estimate = bench_singletrial.estimate_single_trials
    found: Result = {'voxels': sizes.voxels, 'trials': sum(len(run) for run in rest[0])}
    for turn in ('first', 'warm'):
        found[f'{turn}_seconds'] = seconds_of(partial(estimate, *inputs, device=where), device)
    theirs = estimate(some, *rest, device=where)
    numpy_seconds, ours = bench_singletrial.spent(partial(estimate, some, *rest))
    same = (ours.hrf_index == theirs.hrf_index) & (ours.fraction == theirs.fraction)
    differences = np.abs(ours.betas['D'] - theirs.betas['D'])[:, same]
    return found | {
        'numpy_voxels': sizes.compared, 'numpy_processor_seconds': numpy_seconds,
        'share_of_voxels_with_the_same_choices': same.mean(),
        'largest_difference_of_their_betas_in_percent': float(differences.max()),
    }  # fmt: skip


def ridge(sizes: Sizes, device: str) -> Result:
    """Fit one penalty with held-out predictions, on the device."""
    from bids_neurodecode.models.dual import Factorisation

    n, p, t = sizes.ridge
    X, Y = regression(n, p, t)
    where: Any = device
    took = seconds_of(lambda: Factorisation(X, device=where).fit(Y, alphas=[60_000.0]), device)
    least = 2 * n * n * (p + 2 * t)  # the kernel, the weights, what is held out
    rate = matrix_rate(sizes.matrix, device, torch.float32)
    return {
        'samples_predictors_targets': sizes.ridge, 'seconds': took,
        'share_of_float32_matrix_rate': least / took / rate,
    }  # fmt: skip


def films(sizes: Sizes, device: str) -> Result:
    """Train the movie network; on a GPU in its published size."""
    design = 'published' if device == 'cuda' else 'small'
    with tempfile.TemporaryDirectory() as folder:
        film = bench_movie.make_film(Path(folder), 40.0 if device == 'cuda' else 4.0)
        row, store = bench_movie.decoding(film, Path(folder), design)
        rows = [row, bench_movie.loading(store, design, 1.0 if device == 'cuda' else 0.01)]
        if device == 'cuda':
            rows += bench_movie.use_of_gpu(store, sizes.chunks)
        else:
            size: dict[str, Any] = {'n_chunks': sizes.chunks, 'batch': 2, 'n_voxels': 20}
            rows += bench_movie.training(store, design, device=device, **size)
    return {what.strip(): value for what, value in rows}


def image(sizes: Sizes, device: str) -> Result:
    """Make one image by both published stages; the weights are random."""
    from bids_neurodecode.models.diffusion import (
        DiffusionSettings,
        MemorySettings,
        VersatileDiffusion,
    )
    from bids_neurodecode.models.sampling import SamplingSettings
    from bids_neurodecode.models.vdvae import VDVAE, decode_latents, encode_images
    from bids_neurodecode.models.vdvae_config import vdvae_preset

    precision: Any = 'float16' if device == 'cuda' else 'float32'
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    conditions = {
        name: rng.standard_normal((1, *shape), dtype=np.float32)
        for name, shape in rehearsal.SHAPES.items()
    }
    prior = VDVAE(vdvae_preset(sizes.prior)).eval().to(device)
    side = prior.config.image_size
    latents = encode_images(prior, np.zeros((1, side, side, 3), np.uint8))
    where: Any = device
    refiner = VersatileDiffusion(
        *rehearsal.build_diffusion(getattr(torch, precision), sizes.width, sizes.rows),
        {name: values[0] for name, values in conditions.items()},
        DiffusionSettings(SamplingSettings(n_steps=sizes.steps)),
        MemorySettings(where, precision),
    )
    found: Result = {'precision': precision}
    for turn in ('first', 'warm'):
        start = time.perf_counter()
        initial = decode_latents(prior, latents, seeds=[0])
        finish(device)
        middle = time.perf_counter()
        made = refiner.refine(initial, conditions, [0])
        found[f'{turn}_seconds_of_stages'] = [middle - start, time.perf_counter() - middle]
    found['pixels'] = made.shape[1:3]
    return found


PARTS: dict[str, Callable[[Sizes, str], Result]] = {
    'tests': tests, 'ridge': ridge, 'films': films, 'image': image, 'betas': betas,
}  # fmt: skip


def check(sizes: Sizes, device: str, parts: list[str]) -> Result:
    """Run parts one after the other; one that fails does not keep the others from running."""
    found: Result = {}
    for name in parts:
        start = time.perf_counter()
        try:
            found[name] = PARTS[name](sizes, device)
        except Exception as error:  # noqa: BLE001 - what failed is part of the result
            found[name] = {'error': f'{type(error).__name__}: {error}'}
        found[name]['seconds_in_all'] = time.perf_counter() - start
        if device == 'cuda':
            found[name]['peak_gib_of_gpu'] = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.empty_cache()
        print(f'{name}: {json.dumps(found[name])}', flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run all parts and write the JSON; 1 if any failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('parts', nargs='*', help=f'any of: {", ".join(PARTS)}')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cuda')
    parser.add_argument('--tiny', action='store_true')
    parser.add_argument('--json', type=Path, default=Path('gpu_check.json'))
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('PyTorch sees no GPU; --device cpu --tiny shows that the parts run')
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f'no such part: {", ".join(unknown)}; there are {", ".join(PARTS)}')
    name = torch.cuda.get_device_name() if args.device == 'cuda' else platform.processor()
    head = {
        'device': name or platform.machine(),
        'torch': torch.__version__,
        'commit': commit_of(ROOT),
    }
    found = check(TINY if args.tiny else Sizes(), args.device, args.parts or list(PARTS))
    args.json.write_text(json.dumps({**head, 'parts': found}, indent=1) + '\n', encoding='utf-8')
    return int(any('error' in part for part in found.values()))


if __name__ == '__main__':
    sys.exit(main())
