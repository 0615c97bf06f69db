"""What a reader would say of a figure: letters that are cut, cover each other or are too small."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

SMALLEST = 7.0
"""Points, at the width of the page's column."""
COVERED = 0.08
"""Share of the smaller text from which two overlap."""


def complaints(figure: Figure) -> list[str]:
    """Return what is wrong with a figure as it is drawn; nothing if all is well."""
    canvas = figure.canvas if hasattr(figure.canvas, 'get_renderer') else FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.bbox.width, figure.bbox.height
    found = []
    boxes = [(text, text.get_window_extent(renderer)) for text in _texts(figure)]
    for text, box in boxes:
        said = repr(text.get_text())
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            found.append(f'{said} is cut')
        if text.get_fontsize() < SMALLEST:
            found.append(f'{said} is small: {text.get_fontsize()} points')
    straight = [(text, box) for text, box in boxes if text.get_rotation() in {0, 90}]
    for (text, box), (other, beside) in itertools.combinations(straight, 2):
        wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        least = min(box.width * box.height, beside.width * beside.height)
        if wide > 2 and high > 2 and wide * high > COVERED * least:
            found.append(f'{text.get_text()!r} covers {other.get_text()!r}')
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            named = _shown(axis.label) or axes.get_title('left') or axes.get_title()
            if not named and _ticks(axes, axis):
                found.append(f'{axis.axis_name} axis without a name: {_ticks(axes, axis)[0]}')
    return found


def _shown(text: Text) -> bool:
    return text.get_visible() and bool(text.get_text().strip())


def _ticks(axes: Axes, axis) -> list[Text]:
    """Return the labels of an axis that are drawn."""
    if not (axes.get_visible() and axes.axison and axis.get_visible()):
        return []
    low, high = sorted(axis.get_view_interval())
    labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
    return [text for place, text in labels if _shown(text) and low <= place <= high]


def _texts(figure: Figure) -> Iterator[Text]:
    for axes in figure.axes:
        legend = axes.get_legend()
        more = [] if legend is None else legend.get_texts()
        labels = [axis.label for axis in (axes.xaxis, axes.yaxis) if axes.axison]
        titles = [axes.title, axes._left_title, axes._right_title]  # type: ignore[attr-defined]
        ticks = [text for axis in (axes.xaxis, axes.yaxis) for text in _ticks(axes, axis)]
        yield from filter(_shown, (*ticks, *labels, *titles, *axes.texts, *more))
    for legend in figure.legends:
        yield from filter(_shown, legend.get_texts())
    yield from filter(_shown, figure.texts)
