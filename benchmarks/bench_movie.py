"""What the movie system costs: decoding, loading, training, waiting, memory, and use of a GPU.

``python benchmarks/bench_movie.py [FILM]`` (a simulated film if none is given)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bids_neurodecode.settings.movie import DESIGNS
from bids_neurodecode.stimuli.filmstore import FilmChunks, FilmRecipe, FilmStore, build_store

EMOFILM_VOLUMES, EMOFILM_VOXELS = 7378, 4609
TR = 1.3
NO_GPU = 'no GPU: not measured'
MATRIX = 8192
Row = tuple[str, str]


def make_film(folder: Path, seconds: float) -> Path:
    """Write a film of moving shapes."""
    from bids_neurodecode.bids.video import write_video
    from bids_neurodecode.simulate.stimuli import FRAME_RATE, film_frames

    path = folder / 'film.mp4'
    scenes = film_frames(seconds, 6, 320, np.random.default_rng(0))
    write_video(path, (frame for frame, _ in scenes), FRAME_RATE, preset='veryfast')
    return path


def decoding(film: Path, folder: Path, design: str) -> tuple[Row, FilmStore]:
    """Build a store; return chunks a second."""
    from bids_neurodecode.stimuli.films import probe_film

    sizes = DESIGNS[design]
    n_volumes = int(probe_film(film).duration / TR)
    recipe = FilmRecipe(n_volumes, TR, chunk=sizes['chunk'], size=sizes['frame_size'])
    start = time.perf_counter()
    store = build_store(film, folder, recipe)
    rate = n_volumes / (time.perf_counter() - start)
    return (f'decoded into the store, {design}', f'{rate:.1f} chunks/s'), store


def loading(store: FilmStore, design: str, seconds: float = 3.0) -> Row:
    """Load chunks in random order for a while."""
    chunks = FilmChunks([store])
    rng, n_loaded, start = np.random.default_rng(0), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        chunks[int(rng.integers(len(chunks)))]
        n_loaded += 1
    rate = n_loaded / (time.perf_counter() - start)
    return f'loaded from the store, {design}', f'{rate:,.0f} chunks/s'


def training(
    store: FilmStore, design: str, *, n_chunks: int, batch: int, n_voxels: int, device: str
) -> list[Row]:
    """Train the joint networks on some chunks; return chunks a second and the time waited."""
    fit = prepared(store, design, n_chunks=n_chunks, batch=batch, n_voxels=n_voxels, device=device)
    start = time.perf_counter()
    went = fit().training
    seconds = time.perf_counter() - start
    n_done = went.n_steps * batch
    what = f'{design}, {n_voxels:,} voxels, batch {batch}, {device}'
    return [
        (f'trained (joint), {what}', f'{n_done / seconds:.2f} chunks/s'),
        ('  share of time waiting for data', f'{100 * went.wait_share:.1f} %'),
    ]


def prepared(
    store: FilmStore,
    design: str,
    *,
    n_chunks: int,
    batch: int,
    n_voxels: int,
    device: str,
    precision: str = 'float32',
    compiled: bool = False,
) -> Callable[[], Any]:
    """Return a training of one epoch, ready to start."""
    from bids_neurodecode.config import build_config
    from bids_neurodecode.systems.movie.network import fit_movie
    from bids_neurodecode.systems.movie.setup import network_settings

    movie = {
        'design': design, 'n_epochs': 1, 'batch_size': batch, 'patience': 'none',
        'precision': precision, 'compile': compiled,
    }  # fmt: skip
    settings = network_settings(build_config({'movie': movie}).movie, n_voxels, 0, device)
    rows = np.arange(n_chunks) % store.n_volumes
    chunks = FilmChunks([store], np.stack([np.zeros_like(rows), rows], axis=1))
    responses = np.random.default_rng(0).normal(size=(n_chunks, n_voxels)).astype(np.float32)
    return lambda: fit_movie(chunks, responses, settings)


def memory_of_data(folder: str, answer: Any) -> None:
    """Go once through film of the size of Emo-FilM (an empty file); send the memory it took."""
    import torch
    from torch.utils.data import DataLoader

    sizes = DESIGNS['published']
    shape = (EMOFILM_VOLUMES, sizes['chunk'], sizes['frame_size'], sizes['frame_size'], 3)
    path = Path(folder) / 'emofilm.npy'
    frames = np.lib.format.open_memmap(path, 'w+', np.uint8, shape)
    responses = torch.zeros(EMOFILM_VOLUMES, EMOFILM_VOXELS)
    chunks = FilmChunks([FilmStore(frames, path)])
    order = np.random.default_rng(0).permutation(EMOFILM_VOLUMES)
    batches = [order[k : k + 16].tolist() for k in range(0, len(order), 16)]
    for batch, rows in zip(DataLoader(chunks, batch_sampler=batches), batches, strict=True):
        batch.float().mean(), responses[rows].mean()
    answer.put(peak_gib())


def peak_gib() -> float:
    """Return the peak resident memory of this process (not of the one that started it)."""
    lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith('VmHWM:')) / 1024**2


def memory(folder: Path) -> Row:
    """Return the peak resident memory of streaming film of the size of Emo-FilM."""
    context = multiprocessing.get_context('spawn')
    answer = context.Queue()
    process = context.Process(target=memory_of_data, args=(str(folder), answer))
    process.start()
    process.join()
    shape = f'{EMOFILM_VOLUMES:,} volumes of {DESIGNS["published"]["chunk"]} frames'
    return f'peak memory, one epoch of {shape} streamed', f'{answer.get():.2f} GiB'


def use_of_gpu(store: FilmStore, n_chunks: int = 1600) -> list[Row]:
    """Train the published design in bfloat16; return the share of the measured matrix rate."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if not torch.cuda.is_available():
        return [('use of a GPU', NO_GPU)]
    rate = matrix_rate()
    small = {'n_chunks': 64, 'batch': 16, 'n_voxels': EMOFILM_VOXELS, 'device': 'cuda'}
    prepared(store, 'published', **small, precision='bfloat16')()  # warm up
    with FlopCounterMode(display=False) as counter:
        prepared(store, 'published', **small, precision='bfloat16')()
    per_chunk = counter.get_total_flops() / small['n_chunks']
    long = {**small, 'n_chunks': n_chunks}
    start = time.perf_counter()
    went = prepared(store, 'published', **long, precision='bfloat16')().training
    torch.cuda.synchronize()
    speed = long['n_chunks'] / (time.perf_counter() - start)
    others: list[dict[str, Any]] = [
        {'precision': 'float32'}, {'precision': 'tf32'},
        {'precision': 'bfloat16', 'compiled': True},
    ]  # fmt: skip
    # a fresh one is compiled again, from what was kept of the first
    turns = [(str(other), *timed_twice(store, {**small, **other})) for other in others]
    return [
        ('matrix rate, bfloat16', f'{rate / 1e12:.0f} TFLOP/s'),
        ('trained (joint), published, bfloat16, batch 16, cuda', f'{speed:.0f} chunks/s'),
        ('  share of the matrix rate', f'{100 * speed * per_chunk / rate:.1f} %'),
        ('  share of time waiting for data', f'{100 * went.wait_share:.1f} %'),
        *(
            (f'  {what}', f'{speed:.0f} chunks/s (first {first:.0f})')
            for what, first, speed in turns
        ),
        ('  peak memory of the GPU', f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB'),
    ]


def timed_twice(store: FilmStore, given: dict[str, Any]) -> tuple[float, float]:
    """Return chunks a second of an epoch of the published design, the first time and the next."""
    import torch

    found = []
    for _ in range(2):
        train = prepared(store, 'published', **given)
        start = time.perf_counter()
        train()
        if given['device'] == 'cuda':
            torch.cuda.synchronize()
        found.append(given['n_chunks'] / (time.perf_counter() - start))
    return found[0], found[1]


def matrix_rate() -> float:
    """Measure floating-point operations a second of a large product in bfloat16."""
    import torch

    a, b = torch.randn(2, MATRIX, MATRIX, device='cuda', dtype=torch.bfloat16)
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(50):
        a @ b
    torch.cuda.synchronize()
    return 50 * 2 * MATRIX**3 / (time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('film', type=Path, nargs='?')
    parser.add_argument('--json', type=Path, help='write the rows here as well')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = arguments.film or make_film(folder, 40.0)
        rows: list[Row] = []
        stores = {}
        for design in ('small', 'published'):
            row, stores[design] = decoding(film, folder, design)
            rows += [row, loading(stores[design], design)]
        rows += training(
            stores['small'], 'small', n_chunks=160, batch=16, n_voxels=2000, device='cpu'
        )
        rows += training(
            stores['published'], 'published', n_chunks=6, batch=2, n_voxels=EMOFILM_VOXELS,
            device='cpu',
        )  # fmt: skip
        rows.append(('  peak memory of the process', f'{peak_gib():.2f} GiB'))
        rows.append(memory(folder))
        rows += use_of_gpu(stores['published'])
    for what, value in rows:
        print(f'{what:<75} {value}')
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(dict(rows), indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
