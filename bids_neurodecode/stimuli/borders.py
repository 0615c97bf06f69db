"""Black borders of films (letterbox, pillarbox): where they are, and how to cut them off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.stimuli.films import Frame, decode_frames
from bids_neurodecode.typing import Uint8Array

_BLACK = 24
"""Grey levels up to this are black: codecs put noise on 16, the black of video."""
_MIN_FRAMES = 12
"""With fewer key frames than this, all frames are looked at."""
_MIN_KEPT = 0.4
"""Share of each side that an image fills at least; less is a dark film, not a border."""


@dataclass(frozen=True)
class Borders:
    """Rows and columns that stay black throughout, in pixels of the film (height x width)."""

    top: int
    bottom: int
    left: int
    right: int
    height: int
    width: int

    @property
    def any(self) -> bool:
        """Whether there are borders of more than one pixel."""
        return max(self.top, self.bottom, self.left, self.right) > 1

    def cut(self, frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut the borders off (height, width, channels)."""
        return frames[self.top : self.height - self.bottom, self.left : self.width - self.right]


def find_borders(film: Path) -> Borders:
    """Find rows and columns at the edges that are black in every frame looked at.

    Key frames are looked at, and all frames where these are few. A film so dark that its image
    would fill less than .4 of either side is said to have no borders.
    """
    brightest, n = _brightest(frame for _, frame in decode_frames(film, keys_only=True))
    if n < _MIN_FRAMES:
        brightest, _ = _brightest(frame for _, frame in decode_frames(film))
    height, width = brightest.shape
    rows = np.flatnonzero(brightest.max(axis=1) > _BLACK)
    columns = np.flatnonzero(brightest.max(axis=0) > _BLACK)
    if len(rows) < _MIN_KEPT * height or len(columns) < _MIN_KEPT * width:
        return Borders(0, 0, 0, 0, height, width)
    return Borders(
        int(rows[0]), int(height - 1 - rows[-1]), int(columns[0]), int(width - 1 - columns[-1]),
        height, width,
    )  # fmt: skip


def _brightest(frames: Iterator[Frame]) -> tuple[Uint8Array, int]:
    """Return each pixel's maximum over frames, and the number of frames."""
    brightest, n = np.zeros((1, 1), dtype=np.uint8), 0
    last, stored = None, False
    for last in frames:
        values = last.luminance()
        # the brightest luminance becomes grey once, which takes longer than decoding
        stored = values is not None
        grey = last.gray() if values is None else values
        brightest = np.maximum(brightest, grey) if n else grey.copy()
        n += 1
    if last is not None and stored:
        brightest = last.with_luminance(brightest).gray()
    return brightest, n
