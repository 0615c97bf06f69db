"""Frames of films at given times."""

from pathlib import Path

import numpy as np
import pytest

from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli import films


def write_film(path: Path, levels: list[int], rate: int = 10, *, times: list[int] | None = None):
    """Write a film whose n-th frame is one grey level."""
    import av

    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=rate, options={'crf': '0'})
        stream.width, stream.height, stream.pix_fmt = 32, 16, 'yuv420p'
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(
                np.full((16, 32, 3), level, dtype=np.uint8), format='rgb24'
            )
            frame.pts = times[number] if times else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_are_those_on_the_screen(tmp_path):
    levels = [20, 60, 100, 140, 180, 220]
    path = write_film(tmp_path / 'film.mp4', levels)
    times = [0.0, 0.05, 0.1, 0.349, 0.35, 0.5, 3.0]
    frames = films.read_frames(path, times, (8, 8))
    assert frames.shape == (7, 8, 8, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - [20, 20, 60, 140, 140, 220, 220]).max() < 4


@pytest.mark.parametrize('extension', ['mp4', 'mkv', 'avi', 'mov'])
def test_probe(tmp_path, extension):
    info = films.probe_film(write_film(tmp_path / f'film.{extension}', [0] * 25))
    assert info.n_frames == 25
    assert info.duration == pytest.approx(2.5, abs=0.02)
    assert info.frame_rate == pytest.approx(10, rel=0.01)
    assert info.size == (16, 32)
    assert not info.variable


def test_variable_rate_is_seen(tmp_path):
    path = write_film(tmp_path / 'film.mkv', [0] * 6, times=[0, 1, 2, 7, 8, 15])
    assert films.probe_film(path).variable


def test_errors(tmp_path):
    text = tmp_path / 'film.mp4'
    text.write_text('not a film')
    with pytest.raises(InputError, match=r'Cannot read the film .*film\.mp4'):
        films.probe_film(text)
    sound = tmp_path / 'sound.mkv'
    import av

    with av.open(str(sound), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), 's16', 'mono')
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match='has no video stream'):
        films.read_frames(sound, [0.0], (4, 4))


@pytest.mark.slow
@pytest.mark.real
def test_real_films(shared):
    for path in sorted((shared / 'data' / 'video').glob('*.mp4')):
        info = films.probe_film(path)
        frames = films.read_frames(path, np.arange(0, info.duration, 1.0), (28, 28))
        assert frames.std() > 5, path.name
        assert not np.array_equal(frames[0], frames[-1])
