"""Black borders of films (letterbox, pillarbox): where they are, and how to cut them off."""

from __future__ import annotations

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


class Brightest:
    """Each pixel's maximum over the frames that were added, and the borders that it leaves."""

    def __init__(self) -> None:
        self.n_frames = 0
        self._values = np.zeros((1, 1), dtype=np.uint8)
        self._last: Frame | None = None

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        values = frame.luminance()
        grey = frame.gray() if values is None else values
        self._values = np.maximum(self._values, grey) if self.n_frames else grey.copy()
        self._last = frame
        self.n_frames += 1

    def gray(self) -> Uint8Array:
        """Return the maxima as grey levels (height, width); the last frame is spent for it."""
        if self._last is None or self._last.luminance() is None:
            return self._values
        # the brightest luminance becomes grey once, which takes longer than decoding
        return self._last.with_luminance(self._values).gray()

    def borders(self) -> Borders:
        """Return the borders; the last frame is spent for it.

        A film so dark that its image would fill less than .4 of either side has none.
        """
        brightest = self.gray()
        height, width = brightest.shape
        rows = np.flatnonzero(brightest.max(axis=1) > _BLACK)
        columns = np.flatnonzero(brightest.max(axis=0) > _BLACK)
        if len(rows) < _MIN_KEPT * height or len(columns) < _MIN_KEPT * width:
            return Borders(0, 0, 0, 0, height, width)
        top, left = int(rows[0]), int(columns[0])
        bottom, right = int(height - 1 - rows[-1]), int(width - 1 - columns[-1])
        return Borders(top, bottom, left, right, height, width)


def borders_of_keys(film: Path) -> Borders | None:
    """Return the borders that the key frames leave; None where these are too few to tell."""
    seen = Brightest()
    for _, frame in decode_frames(film, keys_only=True):
        seen.add(frame)
    if seen.n_frames < _MIN_FRAMES:
        return None
    return seen.borders()


def find_borders(film: Path, threads: int | None = None) -> Borders:
    """Find rows and columns at the edges that are black in every frame looked at.

    Key frames are looked at, and all frames where these are few. A film so dark that its image
    would fill less than .4 of either side is said to have no borders.

    Parameters
    ----------
    film
        The film.
    threads
        Of the decoder.
    """
    found = borders_of_keys(film)
    if found is not None:
        return found
    seen = Brightest()
    for _, frame in decode_frames(film, threads=threads):
        seen.add(frame)
    return seen.borders()
