"""Many images in one figure, on axes that are the whole figure.

Axes of its own for each image take longer to make and to draw than what they show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.report.style import SCREEN, WIDTH, new_figure
from bids_neurodecode.typing import BoolArray, RealArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_ROW, _MARGIN, _WORDS = 1.25, 0.8, 0.3
"""Inches: a row of :func:`draw_pairs`, left of it, and what text takes of it."""


@dataclass(frozen=True)
class Panel:
    """A place on the axes of :func:`whole_figure`, in inches."""

    axes: Axes
    left: float
    bottom: float
    width: float
    height: float

    def image(self, values: npt.NDArray[Any], **options: Any) -> AxesImage:
        """Show values or colours; ``options`` are those of ``imshow``."""
        extent = (self.left, self.left + self.width, self.bottom, self.bottom + self.height)
        # as it is in an SVG, which enlarges it without blur; one that is finer than a screen would
        # lose whole rows and columns in it
        fine = values.shape[1] > SCREEN * self.width
        drawn = 'nearest' if fine else 'none'
        return self.axes.imshow(
            values, extent=extent, aspect='auto', interpolation=drawn, **options
        )

    def slice(self, values: RealArray, **options: Any) -> AxesImage:
        """Show an axial slice, (x, y)."""
        return self.image(values.T, origin='lower', **options)

    def outline(self, inside: BoolArray, color: str) -> None:
        """Draw the edge of the mask, since voxels of value zero look like those outside of it.

        Parameters
        ----------
        inside
            The mask in the slice, (x, y).
        color
            Of the line.
        """
        if not inside.any() or inside.all():
            return
        from contourpy import contour_generator
        from matplotlib.collections import LineCollection

        n_x, n_y = inside.shape
        x = self.left + (np.arange(n_x) + 0.5) * self.width / n_x
        y = self.bottom + (np.arange(n_y) + 0.5) * self.height / n_y
        # what axes.contour draws, without its levels and their colours, which are most of its time
        lines: Any = contour_generator(x, y, inside.T.astype(float)).lines(0.5)
        self.axes.add_collection(LineCollection(lines, colors=color, linewidths=0.6))

    def title(self, text: str, at: Literal['left', 'center', 'right'], **options: Any) -> None:
        """Write above the image.

        Parameters
        ----------
        text
            In one line.
        at
            Which part of the image it stands above.
        options
            Of the text, as matplotlib has them.
        """
        share = {'left': 0.0, 'center': 0.5, 'right': 1.0}[at]
        place = (self.left + share * self.width, self.bottom + self.height + 2 / 72)
        self.axes.text(*place, text, ha=at, va='baseline', **options)


def whole_figure(figure: Figure) -> Axes:
    """Return axes without a frame that cover the figure, in inches."""
    across, up = figure.get_size_inches()
    axes: Axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, across), ylim=(0, up))
    return axes


@dataclass(frozen=True)
class Pair:
    """Two images above each other, with a title and a label below each."""

    title: str
    images: tuple[npt.NDArray[np.uint8] | None, npt.NDArray[np.uint8] | None]
    labels: tuple[str, str]


def draw_pairs(rows: Mapping[str, Sequence[Pair]], names: tuple[str, str]) -> Figure:
    """Draw pairs of images, two lines of images for each kind.

    Parameters
    ----------
    rows
        The pairs of each kind.
    names
        What the upper and the lower image are.
    """
    n_columns = max(len(pairs) for pairs in rows.values())
    width = min(WIDTH, 1.3 * n_columns + _MARGIN)
    figure = new_figure(2 * _ROW * len(rows), width, layout='none')
    axes, cell = whole_figure(figure), (width - _MARGIN) / n_columns
    small: dict[str, Any] = {'fontsize': 7, 'ha': 'center', 'va': 'top'}
    head: dict[str, Any] = {'fontsize': 7, 'ha': 'center', 'weight': 'bold'}
    for number, (kind, pairs) in enumerate(rows.items()):
        for line, name in enumerate(names):
            bottom = figure.get_figheight() - (2 * number + line + 1) * _ROW + _WORDS / 2
            middle, high = bottom + (_ROW - _WORDS) / 2, _ROW - _WORDS
            text = name if line else f'{kind}\n{name}'
            axes.text(_MARGIN / 2, middle, text, rotation=90, ha='center', va='center')
            for column, pair in enumerate(pairs):
                centre = _MARGIN + (column + 0.5) * cell
                _centred(axes, pair.images[line], centre, middle, cell - 0.1, high)
                axes.text(centre, bottom - 0.02, pair.labels[line], **small)
                if not line:
                    axes.text(centre, bottom + high + 2 / 72, pair.title, **head)
    return figure


def _centred(
    axes: Axes,
    image: npt.NDArray[np.uint8] | None,
    across: float,
    up: float,
    width: float,
    height: float,
) -> None:
    """Show an image, if there is one, as large as fits around a point."""
    if image is None:
        return
    n_rows, n_columns = image.shape[:2]
    scale = min(width / n_columns, height / n_rows)
    w, h = scale * n_columns, scale * n_rows
    Panel(axes, across - w / 2, up - h / 2, w, h).image(image)
