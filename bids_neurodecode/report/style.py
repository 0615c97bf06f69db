"""One look for all figures, without touching matplotlib's global settings.

Colours are those of Okabe and Ito, which people with the common colour-vision deficiencies can
tell apart; colour is never the only sign. Saved figures hold no date and no random identifier, so
the same numbers give the same bytes.
"""

from __future__ import annotations

import functools
import gc
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

P = ParamSpec('P')
Layout = Literal['constrained', 'compressed', 'none']

BLUE, ORANGE, GREEN, RED = '#0072B2', '#E69F00', '#009E73', '#D55E00'
PURPLE, SKY, YELLOW, BLACK = '#CC79A7', '#56B4E9', '#F0E442', '#000000'
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK)
GREY, LIGHT = '#6b7280', '#d1d5db'

WIDTH = 9.0
"""Inches; every figure is as wide as the page's column, so that letters keep one size."""
SCREEN = 96
"""Pixels an inch of a page on a screen, as CSS counts them."""

STYLE: dict[str, Any] = {
    'font.family': 'DejaVu Sans',
    'font.size': 9,
    'axes.titlesize': 9.5,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.labelsize': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#374151',
    'axes.linewidth': 0.8,
    'axes.axisbelow': True,
    'grid.color': '#e5e7eb',
    'grid.linewidth': 0.7,
    'xtick.labelsize': 8,
    'ytick.labelsize': 8,
    'legend.fontsize': 8,
    'legend.frameon': False,
    'lines.linewidth': 1.1,
    'figure.dpi': 100,
    'savefig.dpi': 130,
    'figure.facecolor': 'white',
    'savefig.facecolor': 'white',
    'svg.fonttype': 'path',
    'svg.hashsalt': 'bids_neurodecode',
    # each image by itself: one that is not interpolated then goes into an SVG as it is
    'image.composite_image': False,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the report's style within a ``with`` block; settings are put back after it."""
    import matplotlib

    with matplotlib.rc_context():
        # the user's own matplotlibrc must not change a report
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@contextmanager
def collecting_later() -> Iterator[None]:
    """Look for objects that nobody needs after the block, not within.

    The figures of a page are hundreds of thousands of objects that all live until it is written:
    looking through them again and again takes a quarter of its time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def styled(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a function that makes a figure within :func:`figure_style`."""

    @functools.wraps(make)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with figure_style():
            return make(*args, **kwargs)

    return wrapper


def new_figure(height: float, width: float = WIDTH, *, layout: Layout = 'constrained') -> Figure:
    """Return an empty figure (inches) that no global list of figures knows.

    Parameters
    ----------
    height, width
        In inches.
    layout
        How matplotlib lays out its axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=None if layout == 'none' else layout)
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG, the same bytes for the same figure."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    with figure_style():
        _place_empty_labels(figure)
        _settle(figure)
        # savefig draws a figure once more for the sake of its layout, which is settled
        figure.set_dpi(STYLE['savefig.dpi'])
        FigureCanvasSVG(figure).print_svg(buffer, metadata={'Date': None, 'Creator': None})
    return buffer.getvalue()


def _place_empty_labels(figure: Figure) -> None:
    """Say where labels without text are.

    Else each layout and the drawing measure all tick labels once more, to place them beside these.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not axis.get_label_text():
                axis.set_label_coords(0.5, 0.5)


def _settle(figure: Figure) -> None:
    """Lay the figure out once and round where its axes are.

    The layout solver's last digits vary from run to run, and identifiers are made from them.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    engine.execute(figure)
    figure.set_layout_engine('none')
    for axis in figure.axes:
        left, bottom, width, height = (round(v, 5) for v in axis.get_position(True).bounds)
        axis.set_position((left, bottom, width, height))


def whole_ticks(axis: Axis) -> None:
    """Let an axis that counts have ticks at whole numbers alone.

    Parameters
    ----------
    axis
        Such as ``axes.xaxis``.
    """
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator('auto', integer=True, steps=[1, 2, 2.5, 5, 10]))


def percent(share: float, digits: int = 1) -> str:
    """Write a share as percent.

    Parameters
    ----------
    share
        From 0 to 1.
    digits
        After the point.

    Examples
    --------
    >>> percent(0.125)
    '12.5 %'
    """
    return f'{100 * share:.{digits}f} %'


def shorten(text: str, length: int = 24) -> str:
    """Cut a long name in its middle, so that it fits a label.

    Parameters
    ----------
    text
        A name.
    length
        Characters, at most.

    Examples
    --------
    >>> shorten('a_very_long_stimulus_name_0001.png', 15)
    'a_very…0001.png'
    """
    if len(text) <= length:
        return text
    tail = (length + 1) // 2
    return f'{text[: length - tail - 1]}…{text[-tail:]}'


def plain(text: str) -> str:
    """Keep matplotlib from reading a name as mathematics."""
    return text.replace('$', r'\$')
