"""Stores of film frames: right frames, once, whole, and streamed."""

import json
import multiprocessing
import pickle
from pathlib import Path
from unittest import mock

import av
import numpy as np
import pytest
import torch

from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.stimuli import filmstore
from bids_neurodecode.stimuli.borders import Brightest, find_borders
from bids_neurodecode.stimuli.films import decode_frames, read_frames
from bids_neurodecode.stimuli.filmstore import (
    FilmChunks,
    FilmRecipe,
    as_chunks,
    build_store,
    open_store,
)

RECIPE = FilmRecipe(n_volumes=3, repetition_time=0.8, chunk=16, size=16)


def write_film(path: Path, *, n=50, rate=20, border=0, times=None, dark=0):
    """Write a film whose frames brighten; ``border`` black rows above and below."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=rate, options={'crf': '0'})
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for number in range(n):
            pixels = np.full((48, 64, 3), 40 + 3 * number if number >= dark else 0, dtype=np.uint8)
            pixels[:border] = pixels[48 - border :] = 0
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            frame.pts = times[number] if times else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp('film') / 'film.mp4')


def levels(store):
    return store.frames.mean(axis=(2, 3, 4)).ravel()


def test_frames_are_those_on_the_screen(film, tmp_path):
    store = build_store(film, tmp_path, RECIPE)
    assert store.frames.shape == (3, 16, 16, 16, 3)
    assert store.frames.dtype == np.uint8
    assert store.notes == ()
    expected = read_frames(film, np.arange(48) * 0.05, (16, 16))
    assert np.array_equal(store.frames.reshape(expected.shape), expected)


def test_start_and_published_timing(film, tmp_path):
    later = build_store(film, tmp_path, FilmRecipe(2, 0.8, 16, 16, start=0.5))
    assert levels(later)[0] == pytest.approx(40 + 3 * 10, abs=2)
    paper = build_store(film, tmp_path, FilmRecipe(3, 0.8, 16, 16, timing='paper'))
    numbers = np.linspace(0, 49, 48).astype(int)
    assert levels(paper) == pytest.approx(40 + 3 * numbers, abs=2)


def test_variable_rate_goes_by_time(tmp_path):
    path = write_film(tmp_path / 'film.mkv', n=6, rate=10, times=[0, 1, 2, 7, 8, 15])
    store = build_store(path, tmp_path, FilmRecipe(1, 1.6, 16, 16))
    shown = np.searchsorted([0, 1, 2, 7, 8, 15], np.arange(16), side='right') - 1
    assert levels(store) == pytest.approx(40 + 3 * shown, abs=2)
    assert 'variable frame rate' in store.notes[0]


def test_built_once(film, tmp_path):
    store = build_store(film, tmp_path, RECIPE)
    written = store.path.stat().st_mtime_ns
    again = build_store(film, tmp_path, RECIPE)
    assert again.path == store.path
    assert again.path.stat().st_mtime_ns == written
    other = build_store(film, tmp_path, FilmRecipe(3, 0.8, 32, 16))
    assert other.path != store.path
    assert json.loads(store.path.with_suffix('.json').read_text())['recipe']['chunk'] == 16


def test_content_not_the_name_decides(film, tmp_path):
    copy = tmp_path / 'other.mp4'
    copy.write_bytes(film.read_bytes())
    stores = [build_store(path, tmp_path / 'stores', RECIPE).path for path in (film, copy)]
    assert stores[0] == stores[1]


def test_what_a_killed_process_left_is_no_store(film, tmp_path):
    store = build_store(film, tmp_path, RECIPE)
    expected = np.array(store.frames)
    partial = store.path.with_suffix('.partial')
    partial.write_bytes(store.path.read_bytes()[:1000])
    store.path.unlink()
    assert np.array_equal(build_store(film, tmp_path, RECIPE).frames, expected)
    assert not partial.exists()


def test_damage_is_told(film, tmp_path):
    path = build_store(film, tmp_path, RECIPE).path
    for content in (path.read_bytes()[:-1000], b'', b'PK\x03\x04 breaks off'):
        path.write_bytes(content)
        with pytest.raises(DataError, match='Delete it to rebuild'):
            open_store(path)


def _build_and_count(args):
    film, folder = args
    with mock.patch.object(filmstore, '_build', wraps=filmstore._build) as build:
        build_store(film, folder, RECIPE)
    return build.call_count


@pytest.mark.slow
def test_several_processes_build_once(film, tmp_path):
    with multiprocessing.get_context('spawn').Pool(2) as pool:
        calls = pool.map(_build_and_count, [(film, tmp_path)] * 2, chunksize=1)
    assert sorted(calls) == [0, 1]


def test_films_that_are_too_short(film, tmp_path):
    with pytest.raises(InputError, match=r'lasts 2\.50 s, but 4 volumes .* need 3\.20 s'):
        build_store(film, tmp_path, FilmRecipe(4, 0.8, 16, 16))
    with pytest.raises(InputError, match='Cannot read the film'):
        build_store(tmp_path / 'absent.mp4', tmp_path, RECIPE)
    assert not list(tmp_path.glob('*.npy'))


def test_threads_change_nothing(film, tmp_path):
    alone = build_store(film, tmp_path / 'one', RECIPE)
    together = build_store(film, tmp_path / 'three', RECIPE, threads=3)
    np.testing.assert_array_equal(together.frames, alone.frames)
    assert together.notes == alone.notes


def test_a_damaged_film_is_concealed_alike_whatever_the_threads(tmp_path):
    """What a decoder puts in place of a damaged frame depends on the threads that it has."""
    rng, film = np.random.default_rng(0), tmp_path / 'film.mkv'
    with av.open(str(film), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, 'yuv420p', 12
        for _ in range(60):
            pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, 'rgb24')))
        container.mux(stream.encode())
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    film.write_bytes(content)
    with av.open(str(film)) as container:
        assert any(frame.is_corrupt for frame in container.decode(video=0))
    recipe = FilmRecipe(2, 0.8, 16, 20)
    stores = [build_store(film, tmp_path / f'{n}', recipe, threads=n) for n in (1, 2, 3)]
    for store in stores[1:]:
        np.testing.assert_array_equal(store.frames, stores[0].frames)


@pytest.mark.parametrize('change', [{'chunk': 20}, {'n_volumes': 0}, {'start': -1.0}])
def test_bad_recipes(change):
    with pytest.raises(ArgumentsError, match='A film is cut into'):
        FilmRecipe(**{'n_volumes': 1, 'repetition_time': 1.0, **change})


def test_borders_are_cropped_or_kept_and_told(tmp_path):
    path = write_film(tmp_path / 'film.mp4', border=8)
    borders = find_borders(path)
    assert (borders.top, borders.bottom, borders.left, borders.right) == (8, 8, 0, 0)
    kept = build_store(path, tmp_path, RECIPE)
    assert kept.frames[:, :, 0].max() < 10
    assert 'they were kept' in kept.notes[0]
    cropped = build_store(path, tmp_path, FilmRecipe(3, 0.8, 16, 16, borders='crop'))
    assert 'were cropped (top 8, bottom 8' in cropped.notes[0]
    plain = build_store(write_film(tmp_path / 'plain.mp4'), tmp_path, RECIPE)
    assert np.abs(cropped.frames.astype(int) - plain.frames).max() <= 2


@pytest.mark.parametrize('format_', ['yuv420p', 'yuv444p', 'gray'])
def test_the_brightest_luminance_is_the_brightest_grey(tmp_path, format_):
    """One conversion of maxima gives what the maxima of all conversions give."""
    rng = np.random.default_rng(0)
    path = tmp_path / 'film.mkv'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('ffv1', rate=20)
        stream.width, stream.height, stream.pix_fmt = 50, 34, format_
        for level in rng.integers(1, 250, 15):
            pixels = rng.integers(0, level + 1, (34, 50, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, 'rgb24').reformat(format=format_)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = [frame for _, frame in decode_frames(path)]
    expected = np.max([frame.gray() for frame in frames], axis=0)
    seen = Brightest()
    for _, frame in decode_frames(path):
        seen.add(frame)
    np.testing.assert_array_equal(seen.gray(), expected)
    assert seen.n_frames == 15


def test_a_dark_beginning_or_film_is_no_border(tmp_path):
    assert not find_borders(write_film(tmp_path / 'late.mp4', dark=40)).any
    assert not find_borders(write_film(tmp_path / 'black.mp4', dark=99)).any


def test_chunks_are_streamed(film, tmp_path):
    store = build_store(film, tmp_path, RECIPE)
    other = build_store(film, tmp_path, FilmRecipe(2, 0.8, 16, 16, start=0.5))
    dataset = FilmChunks([store, other], [(1, 1), (0, 2)])
    assert len(dataset) == 2
    chunk = as_chunks(dataset[0])
    assert chunk.shape == (3, 16, 16, 16)
    assert chunk.dtype == torch.float32
    assert chunk[1, 3, 4, 5] == other.frames[1, 5, 3, 4, 1] / np.float32(255)
    assert len(FilmChunks([store, other])) == 5
    with pytest.raises(DataError, match=r'row 1 is \(0, 3\)'):
        FilmChunks([store], [(0, 0), (0, 3)])


def test_min_max_of_each_frame():
    frames = torch.randint(50, 90, (2, 4, 8, 8, 3), dtype=torch.uint8)
    frames[0, 0] = 77
    frames[1, 2] //= 2  # of another range than the rest
    chunks = as_chunks(frames, min_max=True)
    low, high = chunks.amin((1, 2, 3)), chunks.amax((1, 2, 3))
    assert torch.equal(low, torch.zeros(2, 4))
    assert high[0, 0] == 0
    assert torch.allclose(high.flatten()[1:], torch.ones(7))


def test_a_store_travels_as_its_path(film, tmp_path):
    store = build_store(film, tmp_path, RECIPE)
    content = pickle.dumps(FilmChunks([store]))
    assert len(content) < 2000
    assert torch.equal(pickle.loads(content)[2], FilmChunks([store])[2])


@pytest.mark.slow
@pytest.mark.real
def test_real_film(shared, tmp_path):
    film = shared / 'data' / 'video' / 'bbb_480p_30s.mp4'
    store = build_store(film, tmp_path, FilmRecipe(6, 1.3, 32, 112))
    expected = read_frames(film, [0.0, 1.3, 5.2 + 1.3 / 2], (112, 112))
    got = store.frames[[0, 1, 4], [0, 0, 16]]
    assert np.array_equal(got, expected)
