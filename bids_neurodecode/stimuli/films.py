"""Film files to frames at given times, whatever the container or the frame rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import InputError

UNREADABLE = 'Cannot read the film {file}: {reason}. Write it anew, for example as H.264 in MP4.'
NO_VIDEO = 'The film {file} has no video stream. Give a file with a picture track.'
NO_FRAMES = 'The film {file} holds no frame that can be decoded. Write it anew.'


@dataclass(frozen=True)
class FilmInfo:
    """What a film file says of itself.

    ``duration`` in seconds (first frame's start to last frame's end), ``frame_rate`` the mean
    frames per second, ``variable`` whether frames last differently long, ``size`` (height, width).
    """

    duration: float
    frame_rate: float
    n_frames: int
    variable: bool
    size: tuple[int, int]


def probe_film(path: Path) -> FilmInfo:
    """Read the times of all frames (without decoding them).

    Raises
    ------
    InputError
        If the file cannot be read, or has no video.
    """
    import av

    with _open(path) as container:
        stream = container.streams.video[0]
        try:
            packets = [p for p in container.demux(stream) if p.pts is not None and p.size]
        except av.error.FFmpegError as error:
            raise InputError(UNREADABLE.format(file=path, reason=_one_line(error))) from error
        base = float(stream.time_base)
        size = (stream.codec_context.height, stream.codec_context.width)
    times = np.sort([p.pts * base for p in packets])
    if not times.size:
        raise InputError(NO_FRAMES.format(file=path))
    steps = np.diff(times)
    last = float(np.median(steps)) if steps.size else float((packets[0].duration or 0) * base)
    duration = float(times[-1] - times[0]) + last
    # containers round times to their clock: one tick either way is no variable rate
    variable = bool(steps.size and np.ptp(steps) > 2.5 * base + 0.1 * last)
    return FilmInfo(duration, len(times) / duration, len(times), variable, size)


def read_frames(path: Path, times: npt.ArrayLike, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Read what is on the screen at given times.

    Parameters
    ----------
    path
        A film in any container and codec that FFmpeg reads.
    times
        Seconds from the first frame, ascending, shape (n,).
    size
        (height, width) of the result; the aspect ratio is not kept.

    Returns
    -------
    numpy.ndarray
        Frames (n, height, width, 3), uint8 RGB; past the end, the last frame stays.

    Raises
    ------
    InputError
        If the film cannot be decoded.
    """
    wanted = np.asarray(times, dtype=float)
    frames = np.empty((len(wanted), *size, 3), dtype=np.uint8)
    position = 0
    shown: npt.NDArray[np.uint8] | None = None
    for start, frame in _decode(path):
        if shown is not None:
            while position < len(wanted) and wanted[position] < start - 1e-6:
                frames[position] = shown
                position += 1
        if position == len(wanted):
            break
        shown = frame.reformat(
            width=size[1], height=size[0], format='rgb24', interpolation='AREA'
        ).to_ndarray()
    if shown is None:
        raise InputError(NO_FRAMES.format(file=path))
    frames[position:] = shown
    return frames


def _decode(path: Path) -> Iterator[tuple[float, Any]]:
    """Yield each frame with its start in seconds from the first frame."""
    import av

    with _open(path) as container:
        first: float | None = None
        try:
            for frame in container.decode(video=0):
                start = float(frame.time or 0.0)
                first = start if first is None else first
                yield start - first, frame
        except av.error.FFmpegError as error:
            raise InputError(UNREADABLE.format(file=path, reason=_one_line(error))) from error


def _open(path: Path) -> Any:
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(UNREADABLE.format(file=path, reason=_one_line(error))) from error
    if not container.streams.video:
        container.close()
        raise InputError(NO_VIDEO.format(file=path))
    return container


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
