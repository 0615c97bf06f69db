"""Film files to frames at given times, whatever the container or the frame rate.

Second ``t`` of a film is what FFmpeg's own player shows ``t`` seconds after the file starts,
upright: the file may start before its images do (a sound track that is ahead of them), edit
lists may hide frames, and phones store films on their side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import state_of
from bids_neurodecode.text import one_line
from bids_neurodecode.typing import Uint8Array

SUFFIXES = frozenset(
    {'.mp4', '.m4v', '.mkv', '.avi', '.mov', '.webm', '.mpg', '.mpeg', '.wmv', '.flv', '.ogv'}
)

UNREADABLE = 'Cannot read the film {file}: {reason}. Write it again, for example as H.264 in MP4.'
NO_VIDEO = 'The film {file} has no video stream. Give a file with an image track.'
NO_FRAMES = 'The film {file} holds no frame that can be decoded. Write it again.'
NO_CODEC = (
    'The image track of the film {file} cannot be decoded: its codec is unknown, or it is '
    'encrypted or damaged. Give a copy without protection, for example as H.264 in MP4.'
)
DAMAGED = (
    'The film {file} is damaged at about second {second:.2f}: {reason}. '
    'Copy it again from its source, or write it again (ffmpeg -i IN OUT).'
)
CUT = (
    'The film {file} is cut short or damaged: its header promises {promised:.2f} s, of which '
    '{held:.2f} s are there. Copy it again from its source.'
)
CLOCK = (
    'The clock of the film {file} goes back at second {second:.2f}, so that it is not known when '
    'its frames are shown. Write it again (ffmpeg -i IN OUT).'
)
OBLIQUE = (
    'The film {file} is to be turned by an angle that is no multiple of 90 degrees. Write it '
    'again, upright (ffmpeg -i IN OUT).'
)
LATE = (
    'The images of the film {name} start {offset:.3f} s after the file does: times count from '
    'the start of the file, and the first frame stands for that time.'
)
INTERLACED = 'The film {name} is interlaced; its fields were not separated.'
TRANSPARENT = 'The film {name} has transparent pixels; their own colour was taken.'

FIRST_FRAMES = 48
"""Frames that are decoded to look at a film: more than any codec reorders."""

KEY_SECONDS = 1.0
"""Key frames that follow sooner are passed over: in some codecs every frame is one."""
MISSING = 0.2
"""Seconds that may lack at the end of a film: headers round, and tracks differ in length."""


@dataclass(frozen=True)
class FilmInfo:
    """What a film file says of itself.

    ``duration`` in seconds (from the start of the file to the end of its last frame),
    ``frame_rate`` the mean frames per second, ``variable`` whether frames last differently long,
    ``size`` (height, width) of the upright frame, ``offset`` the second at which the first frame
    is shown, ``missing`` the seconds that the header promises beyond what the file holds,
    ``interlaced`` and ``transparent`` as the first frames say.
    """

    duration: float
    frame_rate: float
    n_frames: int
    variable: bool
    size: tuple[int, int]
    offset: float = 0.0
    missing: float = 0.0
    interlaced: bool = False
    transparent: bool = False

    def notes(self, name: str) -> list[str]:
        """Say what a reader of the results should know of how the film was read."""
        late = self.offset > max(0.1, 1.5 / self.frame_rate)
        return [
            *([LATE.format(name=name, offset=self.offset)] if late else []),
            *([INTERLACED.format(name=name)] if self.interlaced else []),
            *([TRANSPARENT.format(name=name)] if self.transparent else []),
        ]


_LUMINANCE_FIRST = frozenset({'yuv420p', 'yuv422p', 'yuv444p', 'yuvj420p', 'yuvj422p', 'yuvj444p'})
"""Formats of pixels whose first plane is their luminance, a byte each."""


@dataclass(frozen=True)
class Frame:
    """A decoded frame, and how it is turned to stand upright.

    ``transposed`` swaps rows and columns first; then ``flipped`` reverses (rows, columns).
    ``scalers`` are shared by the frames of a film: to make one takes longer than to use it.
    """

    raw: Any
    transposed: bool = False
    flipped: tuple[bool, bool] = (False, False)
    scalers: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright frame, in pixels."""
        height, width = int(self.raw.height), int(self.raw.width)
        return (width, height) if self.transposed else (height, width)

    def gray(self) -> Uint8Array:
        """Return the luminance, (height, width), as it is stored (black is 16 in most films)."""
        return self._upright(self.raw.to_ndarray(format='gray'))

    def luminance(self) -> Uint8Array | None:
        """Return the luminance as the codec left it, rows with their padding.

        :meth:`gray` depends on each of its values alone and rises with it. None where there is no
        plane of bytes for it.
        """
        if self.raw.format.name not in _LUMINANCE_FIRST:
            return None
        plane = self.raw.planes[0]
        return np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)

    def with_luminance(self, values: Uint8Array) -> Frame:
        """Put other values in the place of those of :meth:`luminance`."""
        self.raw.planes[0].update(values.tobytes())
        return self

    def rgb(self, size: tuple[int, int] | None = None) -> Uint8Array:
        """Return RGB pixels (height, width, 3), brought to a size; aspect ratio not kept."""
        height, width = self.size if size is None else size
        if self.transposed:
            height, width = width, height
        key = (self.raw.format.name, self.raw.width, self.raw.height, width, height)
        if key not in self.scalers:
            from av.video.reformatter import VideoReformatter

            self.scalers[key] = VideoReformatter()
        wanted = {'width': width, 'height': height, 'format': 'rgb24', 'interpolation': 'AREA'}
        return self._upright(self.scalers[key].reformat(self.raw, **wanted).to_ndarray())

    def _upright(self, pixels: Uint8Array) -> Uint8Array:
        turned = pixels.swapaxes(0, 1) if self.transposed else pixels
        rows, columns = self.flipped
        return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def probe_film(path: Path) -> FilmInfo:
    """Read the times of all frames, and decode the first ones.

    Raises
    ------
    InputError
        If the file cannot be read, has no video, or cannot be decoded.
    """
    import av

    with _open(path) as (container, stream):
        base, start = float(stream.time_base), _start(container)
        promised = float(container.duration or 0) / av.time_base - max(start, 0.0)
        counted = _counted(container)
        ticks: list[tuple[int, int]] = []
        before, end = None, 0.0
        with raised_as(InputError, UNREADABLE, av.error.FFmpegError, file=path):
            for packet in container.demux():
                tick = packet.dts if counted or packet.pts is None else packet.pts
                if tick is None:
                    continue
                length = packet.duration or 0
                end = max(end, float((tick + length) * packet.time_base) - start)
                if packet.stream.index != stream.index:
                    continue
                if before is not None and packet.dts is not None and packet.dts < before:
                    raise InputError(CLOCK.format(file=path, second=before * base - start))
                before = packet.dts
                if _is_shown(packet, stream, started=bool(ticks)):
                    ticks.append((tick, length))
    first = [frame for _, frame in islice(decode_frames(path), FIRST_FRAMES)] if ticks else []
    if not first:
        raise InputError(NO_FRAMES.format(file=path))
    ticks.sort()
    times = np.array([tick for tick, _ in ticks]) * base - start
    steps = np.diff(times)
    typical = float(np.median(steps)) if steps.size else 0.0
    duration = float(times[-1]) + (ticks[-1][1] * base or typical)
    # containers round times to their clock: one tick either way is no variable rate
    variable = bool(steps.size and np.ptp(steps) > 2.5 * base + 0.1 * typical)
    return FilmInfo(
        duration=duration,
        frame_rate=len(times) / (duration - float(times[0])),
        n_frames=len(times),
        variable=variable,
        size=first[0].size,
        offset=float(times[0]),
        missing=max(0.0, promised - max(end, duration)),
        interlaced=any(frame.raw.interlaced_frame for frame in first),
        transparent=_is_transparent(first[0]),
    )


def check_film(path: Path) -> FilmInfo:
    """Probe a film and decode its key frames: damage is found at a part of the cost of it all.

    Raises
    ------
    InputError
        If the film is cut short, or a key frame cannot be decoded or is incomplete.
    """
    info = probe_film(path)
    if info.missing > max(MISSING, 2.5 / info.frame_rate):
        held = info.duration + info.missing
        raise InputError(CUT.format(file=path, held=info.duration, promised=held))
    for second, frame in decode_frames(path, keys_only=True):
        if frame.raw.is_corrupt:
            reason = 'a frame is incomplete'
            raise InputError(DAMAGED.format(file=path, second=second, reason=reason))
    return info


def check_film_once(path: Path) -> FilmInfo:
    """Return what :func:`check_film` does; a film that many participants saw is decoded once."""
    return _check_film(path, state_of(path))


@lru_cache(maxsize=1 << 15)
def _check_film(path: Path, _state: tuple[tuple[int, ...], ...]) -> FilmInfo:
    return check_film(path)


def read_frames(path: Path, times: npt.ArrayLike, size: tuple[int, int]) -> Uint8Array:
    """Read what is on the screen at given times.

    Parameters
    ----------
    path
        A film in any container and codec that FFmpeg reads.
    times
        Seconds from the start of the file, ascending, shape (n,).
    size
        (height, width) of the result; the aspect ratio is not kept.

    Returns
    -------
    numpy.ndarray
        Frames (n, height, width, 3), uint8 RGB, upright; before the first frame it is that one,
        and past the end the last frame stays.

    Raises
    ------
    InputError
        If the film cannot be decoded.
    """
    wanted = np.asarray(times, dtype=float)
    frames = np.empty((len(wanted), *size, 3), dtype=np.uint8)
    position = 0
    shown: Frame | None = None
    for start, frame in decode_frames(path):
        if shown is not None and position < len(wanted) and wanted[position] < start - 1e-6:
            until = int(np.searchsorted(wanted, start - 1e-6))
            frames[position:until] = shown.rgb(size)
            position = until
        if position == len(wanted):
            return frames
        shown = frame
    if shown is None:
        raise InputError(NO_FRAMES.format(file=path))
    frames[position:] = shown.rgb(size)
    return frames


def middle_frame(path: Path) -> Uint8Array:
    """Read the frame at the middle of a film, which stands for a short one among images.

    Parameters
    ----------
    path
        Of the film.

    Returns
    -------
    numpy.ndarray
        Shape (height, width, 3), uint8 RGB, upright.

    Raises
    ------
    InputError
        If the film cannot be decoded.
    """
    info = probe_film(path)
    return np.asarray(read_frames(path, [info.duration / 2], info.size)[0])


class ConcealedError(Exception):
    """A damaged frame, concealed by what threads that decode side by side have at hand."""


def decode_frames(
    path: Path, *, keys_only: bool = False, threads: int | None = None
) -> Iterator[tuple[float, Frame]]:
    """Yield each frame with the second at which it is shown, counted from the file's start.

    With ``keys_only`` it is key frames alone, :data:`KEY_SECONDS` or more apart, and their seconds
    may be off by what the codec reorders.

    Parameters
    ----------
    path
        Of the film.
    keys_only
        Whether key frames alone are decoded.
    threads
        That decode frames side by side; None: one frame at a time.

    Raises
    ------
    InputError
        If the film cannot be read.
    ConcealedError
        If a frame is damaged, and several threads decode: what stands for it is their chance.
    """
    import av

    with _open(path) as (container, stream):
        base, start = float(stream.time_base), _start(container)
        counted = _counted(container)
        waiting: deque[int] = deque()
        tick, started, next_key = 0, False, -inf
        turn: tuple[bool, tuple[bool, bool]] | None = None
        scalers: dict[Any, Any] = {}
        if threads is not None:
            stream.codec_context.thread_type = 'AUTO'
            stream.codec_context.thread_count = threads
        try:
            for packet in container.demux(stream):
                if keys_only and packet.size:
                    due = float((packet.dts or packet.pts or 0) * base)
                    if not packet.is_keyframe or due < next_key:
                        continue
                    next_key = due + KEY_SECONDS
                if _is_shown(packet, stream, started=started) and packet.dts is not None:
                    started = True
                    waiting.append(packet.dts)
                for raw in packet.decode():
                    if raw.is_corrupt and threads not in {None, 1}:
                        raise ConcealedError
                    before = tick
                    if counted and not keys_only:
                        tick = waiting.popleft() if waiting else tick + 1
                    else:
                        tick = next((x for x in (raw.pts, raw.dts) if x is not None), tick)
                        if started and tick < before and not keys_only:
                            raise InputError(CLOCK.format(file=path, second=tick * base - start))
                    turn = _turn(raw, path) if turn is None else turn
                    yield tick * base - start, Frame(raw, *turn, scalers)
        except av.error.FFmpegError as error:
            second = max(tick * base - start, 0.0)
            reason = one_line(error)
            raise InputError(DAMAGED.format(file=path, second=second, reason=reason)) from error


def _counted(container: Any) -> bool:
    """Whether frames have no times of their own but their count: AVI.

    What FFmpeg guesses in their place comes late by what the codec reorders, or out of order.
    Decoders give frames in the order in which they are shown, one for each packet, so the n-th
    frame is shown when the n-th packet is due.
    """
    return 'avi' in str(container.format.name).split(',')


def _is_shown(packet: Any, stream: Any, *, started: bool) -> bool:
    """Whether a packet holds a frame that is shown, by itself and by the edit list."""
    if not packet.size or packet.is_discard:
        return False
    if stream.codec_context.name == 'vp8':
        return bool(bytes(packet)[0] & 0x10)  # the bit show_frame (RFC 6386, 9.1)
    return started or bool(packet.is_keyframe) or not _counted(stream.container)


def _start(container: Any) -> float:
    """Return the second of its clock at which a file starts: that of its earliest track."""
    import av

    return float((container.start_time or 0) / av.time_base)


def _turn(raw: Any, path: Path) -> tuple[bool, tuple[bool, bool]]:
    """Return how a frame is turned upright, from its display matrix.

    The matrix (a b u, c d v, x y w) takes (x, y) to (a x + c y, b x + d y), y downwards.
    """
    matrix = next((m for m in raw.side_data if m.type.name == 'DISPLAYMATRIX'), None)
    if matrix is None:
        return False, (False, False)
    a, b, _, c, d = (int(x) for x in np.frombuffer(bytes(matrix), dtype=np.int32)[:5])
    tiny = 1e-3 * max(map(abs, (a, b, c, d)))
    if max(abs(b), abs(c)) <= tiny:
        return False, (d < 0, a < 0)
    if max(abs(a), abs(d)) <= tiny:
        return True, (b < 0, c < 0)
    raise InputError(OBLIQUE.format(file=path))


def _is_transparent(frame: Frame) -> bool:
    """Whether a frame has an alpha channel that is not opaque throughout."""
    if not any(component.is_alpha for component in frame.raw.format.components):
        return False
    return bool(frame.raw.to_ndarray(format='rgba')[..., 3].min() < 255)


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a film, and choose its image track: no cover, the default one, the largest."""
    import av

    with raised_as(InputError, UNREADABLE, av.error.FFmpegError, OSError, file=path):
        # without a folder before it, FFmpeg takes what stands before a colon as a protocol; its
        # titles may be text of any encoding
        container = av.open(str(path.absolute()), metadata_errors='replace')
    with container:
        films = [track for track in container.streams.video if not _is_still(track)]
        if not films:
            raise InputError(NO_VIDEO.format(file=path))
        if all(track.codec_context is None for track in films):
            raise InputError(NO_CODEC.format(file=path))
        yield container, max(films, key=_rank)


def _is_still(track: Any) -> bool:
    """Whether a track is the image of a cover or of a chapter."""
    from av.stream import Disposition

    return bool(track.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _rank(track: Any) -> tuple[bool, int]:
    """Return what FFmpeg prefers one of several image tracks by."""
    from av.stream import Disposition

    context = track.codec_context
    n_pixels = 0 if context is None else context.width * context.height
    return bool(track.disposition & Disposition.default), n_pixels
