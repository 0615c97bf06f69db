"""Films and images as outputs: MP4 that browsers play, PNG."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from bids_neurodecode.bids.sink import atomic
from bids_neurodecode.typing import Uint8Array

SHORTEST_SIDE = 224
"""Smaller frames are enlarged, pixel by pixel, to about this many pixels."""
GAP = 8
"""White pixels between two films side by side."""


def beside(left: Uint8Array, right: Uint8Array) -> Uint8Array:
    """Set two films (n, height, width, 3) side by side, enlarged if they are small.

    Parameters
    ----------
    left, right
        Of the same number of frames, height and width, uint8.
    """
    factor = max(1, round(SHORTEST_SIDE / min(left.shape[1:3])))
    a, b = (x.repeat(factor, axis=1).repeat(factor, axis=2) for x in (left, right))
    gap = np.full((*a.shape[:2], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([a, gap, b], axis=2)


def write_video(
    path: Path, frames: Iterable[Uint8Array], frame_rate: float, *, preset: str = 'medium'
) -> None:
    """Write frames as H.264 in MP4, whole or not at all; the same frames give the same bytes.

    Parameters
    ----------
    path
        The file.
    frames
        Each (height, width, 3), height and width even.
    frame_rate
        Frames a second.
    preset
        Of x264: how much time it takes to make the file small.
    """
    import av

    # one thread, as bytes would depend on how many there are; no macroblock tree, as x264's for
    # AVX-512 reads behind the rows of small frames, so that bytes depend on what lies in memory
    options = {'crf': '18', 'preset': preset, 'threads': '1', 'mbtree': '0'}
    with atomic(path) as temporary, av.open(str(temporary), 'w', format='mp4') as container:
        rate = Fraction(frame_rate).limit_denominator(1000)
        stream = container.add_stream('libx264', rate=rate, options=options)
        stream.pix_fmt = 'yuv420p'
        stream.thread_count = 1
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def strip(upper: Uint8Array, lower: Uint8Array, n: int = 10) -> Uint8Array:
    """Set ``n`` frames, evenly over two films, in two rows: one image.

    Parameters
    ----------
    upper, lower
        Films, (n_frames, height, width, 3), uint8, of one size.
    n
        How many frames, at most.
    """
    picked = np.unique(np.linspace(0, len(upper) - 1, min(n, len(upper))).round().astype(int))
    rows = [np.concatenate(list(film[picked]), axis=1) for film in (upper, lower)]
    return np.concatenate(rows, axis=0)


def write_picture(path: Path, pixels: Uint8Array) -> None:
    """Write an image (height, width, 3) as PNG, whole or not at all.

    Parameters
    ----------
    path
        That is written.
    pixels
        Shape (height, width, 3), uint8.
    """
    from PIL import Image

    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, format='PNG')
