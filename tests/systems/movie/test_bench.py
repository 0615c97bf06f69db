"""The benchmark of the movie system: what it does without a GPU, and that its parts run."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_neurodecode.stimuli.filmstore import FilmChunks, FilmStore


@pytest.fixture(scope='module')
def bench():
    path = Path(__file__).parents[3] / 'benchmarks' / 'bench_movie.py'
    spec = importlib.util.spec_from_file_location('bench_movie', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path):
    frames = np.lib.format.open_memmap(tmp_path / 'store.npy', 'w+', np.uint8, (6, 16, 48, 48, 3))
    frames[:] = np.random.default_rng(0).integers(0, 255, frames.shape, np.uint8)
    frames.flush()
    return FilmStore(np.load(tmp_path / 'store.npy', mmap_mode='r'), tmp_path / 'store.npy')


def test_without_a_gpu_it_says_so(bench, store, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert bench.use_of_gpu(store) == [('use of a GPU', 'no GPU: not measured')]


def test_training_and_loading_are_measured(bench, store):
    rows = bench.training(store, 'small', n_chunks=4, batch=2, n_voxels=3, device='cpu')
    assert rows[0][0].startswith('trained (joint), small')
    assert rows[0][1].endswith('chunks/s')
    assert rows[1][1].endswith('%')
    what, rate = bench.loading(store, 'small', seconds=0.01)
    assert what == 'loaded from the store, small'
    assert float(rate.split()[0].replace(',', '')) > 0


def test_chunks_are_read_from_the_file_as_they_are_mapped(store):
    chunks = FilmChunks([store])
    for row in (5, 0, 3):
        np.testing.assert_array_equal(chunks[row].numpy(), store.frames[row])
        np.testing.assert_array_equal(store.chunk(row), store.frames[row])
