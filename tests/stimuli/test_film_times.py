"""Second t of a film is what a player shows at second t, upright: by planted frames and FFmpeg."""

import re
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli import films
from bids_neurodecode.stimuli.filmstore import FilmRecipe, build_store

HEIGHT, WIDTH, RATE = 48, 64, 25


def picture(number: int) -> np.ndarray:
    """Draw a frame that holds its number in binary, in eight bright or dark columns."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    row = np.repeat(np.where(bits, 220, 30), WIDTH // 8).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def number_in(frame: np.ndarray) -> int:
    """Read the number of a frame of any size."""
    columns = frame.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1)
    return int(sum(1 << bit for bit in range(8) if columns[bit] > 125))


def numbers(path: Path, times) -> list[int]:
    return [number_in(frame) for frame in films.read_frames(path, times, (HEIGHT, WIDTH))]


def write(
    path: Path, codec: str, n=50, *, late=0.0, options=None, pix_fmt='yuv420p', b_frames=0
) -> Path:
    with av.open(str(path.absolute()), 'w') as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.max_b_frames = b_frames
        for number in range(n):
            frame = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
            frame.pts, frame.time_base = number + round(late * RATE), Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def ffmpeg() -> str:
    """Return FFmpeg's own program: of the system, or of the package imageio-ffmpeg."""
    program = shutil.which('ffmpeg')
    if program is None:
        program = pytest.importorskip('imageio_ffmpeg').get_ffmpeg_exe()
    return program


def run_ffmpeg(*arguments) -> subprocess.CompletedProcess:
    command = [ffmpeg(), '-nostdin', '-hide_banner', '-y', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True)


def shown_by_ffmpeg(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds and the frames (n, h, w, 3) that FFmpeg decodes, upright."""
    size = films.probe_film(path).size
    out = run_ffmpeg(
        '-i', path, '-map', '0:V:0', '-vf', 'showinfo', '-fps_mode', 'passthrough',
        '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-',
    )  # fmt: skip
    times = [float(x) for x in re.findall(rb'pts_time:\s*([-\d.]+)', out.stderr)]
    return np.array(times), np.frombuffer(out.stdout, np.uint8).reshape(-1, *size, 3)


KINDS = {
    'h264.mp4': ('libx264', {'b_frames': 2}),
    'h264.mkv': ('libx264', {'b_frames': 2}),
    'h264.mov': ('libx264', {'b_frames': 2}),
    'h264.avi': ('libx264', {'b_frames': 2}),
    'mpeg4.avi': ('mpeg4', {'b_frames': 2}),
    'mpeg2.mpg': ('mpeg2video', {'b_frames': 2}),
    'mjpeg.avi': ('mjpeg', {'pix_fmt': 'yuvj420p'}),
    'vp9.webm': ('libvpx-vp9', {'options': {'deadline': 'realtime', 'cpu-used': '8'}}),
    'vp8.webm': ('libvpx', {'options': {'auto-alt-ref': '1', 'lag-in-frames': '16'}}),
    'ten.mp4': ('libx264', {'pix_fmt': 'yuv420p10le', 'b_frames': 2}),
    'ffv1.mkv': ('ffv1', {'pix_fmt': 'bgr0'}),
    'prores.mov': ('prores_ks', {'pix_fmt': 'yuv422p10le'}),
    'qtrle.mov': ('qtrle', {'pix_fmt': 'argb'}),
}


@pytest.mark.parametrize('name', KINDS)
def test_frame_k_is_shown_at_its_time(tmp_path, name):
    codec, how = KINDS[name]
    path = write(tmp_path / name, codec, **how)
    info = films.check_film(path)
    assert info.n_frames == 50
    assert info.duration == pytest.approx(2.0, abs=0.01)
    assert not info.variable
    assert numbers(path, (np.arange(50) + 0.5) / RATE) == list(range(50))


@pytest.mark.parametrize('name', [name for name in KINDS if not name.endswith('.avi')])
def test_ffmpeg_shows_the_same(tmp_path, name):
    codec, how = KINDS[name]
    path = write(tmp_path / name, codec, **how)
    times, frames = shown_by_ffmpeg(path)
    found = films.read_frames(path, times + 0.5 / RATE, films.probe_film(path).size)
    assert np.abs(found.astype(int) - frames).mean() < 3


def with_sound_first(path: Path, late: float) -> Path:
    """Write 3 s of silence, and a film of 2 s that starts ``late`` seconds after it."""
    film = write(path.with_name('film.mkv'), 'libx264', b_frames=2)
    run_ffmpeg(
        '-f', 'lavfi', '-t', '3', '-i', 'anullsrc=r=8000:cl=mono', '-itsoffset', late, '-i', film,
        '-map', '1', '-map', '0', '-c:v', 'libx264', '-bf', '2', '-fps_mode', 'passthrough',
        '-c:a', 'aac', path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize('name', ['late.mp4', 'late.mkv'])
def test_second_0_is_the_start_of_the_file_not_of_the_pictures(tmp_path, name):
    path = with_sound_first(tmp_path / name, 1.0)
    info = films.check_film(path)
    assert info.offset == pytest.approx(1.0, abs=0.15)  # Matroska counts the sound's priming
    assert info.duration == pytest.approx(2 + info.offset)
    assert info.frame_rate == pytest.approx(RATE, rel=0.01)
    assert info.n_frames == 50
    times = info.offset + (np.arange(50) + 0.5) / RATE
    assert numbers(path, [0.0, 0.5, *times]) == [0, 0, *range(50)]
    assert 'start 1' in info.notes(path.name)[0]
    store = build_store(path, tmp_path, FilmRecipe(2, 1.5, 16, 32))
    assert any('start' in note for note in store.notes)
    assert number_in(store.frames[1, 0]) == int((1.5 - info.offset) * RATE)


def test_a_film_of_pictures_alone_starts_with_its_first_frame(tmp_path):
    path = write(tmp_path / 'film.mkv', 'libx264', late=1.0)
    assert films.probe_film(path).offset == 0
    assert numbers(path, [0.02, 1.02]) == [0, 25]


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    whole = write(tmp_path / 'whole.mp4', 'libx264', 75, options={'g': '250', 'bf': '0'})
    cut = tmp_path / 'cut.mp4'
    run_ffmpeg('-ss', '1', '-i', whole, '-c', 'copy', cut)
    info = films.check_film(cut)
    assert info.n_frames == 50
    assert info.duration == pytest.approx(2.0)
    assert numbers(cut, (np.arange(50) + 0.5) / RATE) == list(range(25, 75))


def turned(path: Path, matrix) -> Path:
    """Write the display matrix (a, b, c, d) into the header of an MP4's track."""
    content = bytearray(path.read_bytes())
    place = content.index(b'tkhd') + 4 + 4 + 8 + 4 + 4 + 4 + 8 + 2 + 2 + 2 + 2
    a, b, c, d = (round(x * 65536) for x in matrix)
    content[place : place + 36] = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


MATRICES = {
    'upright': (1, 0, 0, 1), 'quarter': (0, 1, -1, 0), 'half': (-1, 0, 0, -1),
    'three quarters': (0, -1, 1, 0), 'mirrored': (-1, 0, 0, 1), 'upside down': (1, 0, 0, -1),
    'transposed': (0, 1, 1, 0), 'other diagonal': (0, -1, -1, 0),
}  # fmt: skip


def corners(path: Path) -> Path:
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=10, options={'crf': '0'})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        pixels = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
        pixels[:24, :32], pixels[:24, 32:], pixels[24:, :32] = 220, 150, 90
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def quadrants(frame: np.ndarray) -> list[int]:
    h, w = frame.shape[0] // 2, frame.shape[1] // 2
    parts = frame[:h, :w], frame[:h, w:], frame[h:, :w], frame[h:, w:]
    return [int(np.rint(part.mean() / 10)) * 10 for part in parts]


@pytest.mark.parametrize('name', MATRICES)
def test_films_are_turned_upright(tmp_path, name):
    path = turned(corners(tmp_path / 'film.mp4'), MATRICES[name])
    a, b, c, d = MATRICES[name]
    swapped = a == 0
    assert films.probe_film(path).size == ((WIDTH, HEIGHT) if swapped else (HEIGHT, WIDTH))
    # where each pixel's centre goes: (x, y) to (a x + c y, b x + d y), about the middle
    value = {(-1, -1): 220, (1, -1): 150, (-1, 1): 90, (1, 1): 30}
    goes = {(a * x + c * y, b * x + d * y): level for (x, y), level in value.items()}
    expected = [goes[place] for place in ((-1, -1), (1, -1), (-1, 1), (1, 1))]
    frame = films.read_frames(path, [0.25], (40, 40))[0]
    assert quadrants(frame) == expected
    store = build_store(path, tmp_path, FilmRecipe(1, 0.5, 16, 32, borders='crop'))
    assert quadrants(store.frames[0, 0]) == expected
    _, shown = shown_by_ffmpeg(path)
    assert quadrants(shown[0]) == expected


def test_oblique_films_are_refused(tmp_path):
    path = turned(corners(tmp_path / 'film.mp4'), (0.7, 0.7, -0.7, 0.7))
    with pytest.raises(InputError, match='no multiple of 90 degrees'):
        films.probe_film(path)


def test_covers_are_no_films(tmp_path):
    film = write(tmp_path / 'film.mp4', 'libx264', b_frames=2)
    cover = tmp_path / 'cover.png'
    frame = av.VideoFrame.from_ndarray(np.full((200, 300, 3), 255, np.uint8), format='rgb24')
    frame.to_image().save(cover)
    path = tmp_path / 'covered.mp4'
    run_ffmpeg(
        '-i', film, '-i', cover, '-map', '1', '-map', '0', '-c', 'copy', '-c:v:0', 'png',
        '-disposition:v:0', 'attached_pic', path,
    )  # fmt: skip
    assert films.probe_film(path).size == (HEIGHT, WIDTH)
    assert numbers(path, [0.02, 1.02]) == [0, 25]


@pytest.mark.parametrize('tagged', ['bt709', 'smpte170m'])
@pytest.mark.parametrize('levels', ['tv', 'pc'])
def test_colours_are_those_of_the_tags(tmp_path, tagged, levels):
    path = tmp_path / 'film.mp4'
    matrix = {'bt709': 'bt709', 'smpte170m': 'bt601'}[tagged]
    run_ffmpeg(
        '-f', 'lavfi', '-i', 'color=c=0xC02060:s=64x48:r=25:d=0.2',
        '-vf', f'scale=out_color_matrix={matrix}:out_range={levels},format=yuv420p',
        '-colorspace', tagged, '-color_range', levels, '-c:v', 'libx264', '-qp', '1', path,
    )  # fmt: skip
    frame = films.read_frames(path, [0.1], (16, 16))[0]
    assert np.abs(frame.mean(axis=(0, 1)) - [0xC0, 0x20, 0x60]).max() < 9


def test_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film = write(tmp_path / 'film.mp4', 'libx264')
    for name in ('a:b.mp4', '100% %03d [x] {y} é #?.mp4', '-i.mp4'):
        shutil.copy(film, tmp_path / name)
        assert numbers(Path(name), [1.02]) == [25]


def test_frames_without_a_picture_in_avi_last_longer(tmp_path):
    path = tmp_path / 'film.avi'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
            frame.pts = number + (5 if number >= 10 else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    info = films.probe_film(path)
    assert info.variable
    assert info.duration == pytest.approx(25 / RATE)
    assert numbers(path, (np.array([9, 12, 15, 24]) + 0.5) / RATE) == [9, 9, 10, 19]


def test_the_last_frame_lasts_as_long_as_the_file_says(tmp_path):
    path = write(tmp_path / 'one.mp4', 'libx264', 1)
    assert films.probe_film(path).duration == pytest.approx(1 / RATE)


def test_interlaced_and_transparent_films_are_told(tmp_path):
    path = tmp_path / 'fields.mp4'
    how = ('-c:v', 'libx264', '-flags', '+ildct', '-x264opts', 'tff=1', '-pix_fmt', 'yuv420p')
    run_ffmpeg('-f', 'lavfi', '-i', 'testsrc2=s=64x64:r=25:d=0.4', *how, path)
    assert films.probe_film(path).notes('x') == [films.INTERLACED.format(name='x')]
    clear = tmp_path / 'clear.mov'
    how = ('-vf', 'format=rgba,colorchannelmixer=aa=0.5', '-c:v', 'qtrle')
    run_ffmpeg('-f', 'lavfi', '-i', 'testsrc2=s=64x64:r=25:d=0.4', *how, clear)
    assert films.probe_film(clear).notes('x') == [films.TRANSPARENT.format(name='x')]


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize('code', [b'encv', b'zzz9'])
def test_unknown_codecs_are_refused(tmp_path, code):
    path = renamed(write(tmp_path / 'film.mp4', 'libx264'), b'avc1\0\0\0\0', code + bytes(4))
    with pytest.raises(InputError, match=r'film\.mp4'):
        films.check_film(path)


@pytest.mark.parametrize('name', ['film.mkv', 'film.webm', 'film.mp4'])
def test_films_that_are_cut_short_are_refused(tmp_path, name):
    codec = 'libvpx-vp9' if name.endswith('webm') else 'libx264'
    how = {'deadline': 'realtime', 'cpu-used': '8'} if codec == 'libvpx-vp9' else {'g': '10'}
    path = write(tmp_path / name, codec, 200, options=how)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r'Copy it again|Write it again'):
        films.check_film(path)


def test_damage_in_the_middle_is_found_before_work(tmp_path):
    path = write(tmp_path / 'film.mov', 'prores_ks', 100, pix_fmt='yuv422p10le')
    content = bytearray(path.read_bytes())
    middle, length = len(content) // 3, len(content) // 3
    content[middle : middle + length] = bytes(length)
    path.write_bytes(content)
    with pytest.raises(InputError, match='damaged at about second'):
        films.check_film(path)


def test_a_clock_that_goes_back_is_refused(tmp_path):
    one = write(tmp_path / 'one.mpg', 'mpeg2video')
    twice = tmp_path / 'twice.mpg'
    twice.write_bytes(one.read_bytes() * 2)
    with pytest.raises(InputError, match='clock of the film'):
        films.probe_film(twice)


def test_a_film_that_many_saw_is_decoded_once(tmp_path, monkeypatch):
    path = write(tmp_path / 'film.mp4', 'libx264')
    calls = []
    check = films.check_film
    monkeypatch.setattr(films, 'check_film', lambda film: calls.append(film) or check(film))
    for _ in range(3):
        films.check_film_once(path)
    assert len(calls) == 1
