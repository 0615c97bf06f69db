"""Reportlets of images that were made: examples beside what was shown, learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.evaluation.metrics import sample_column
from bids_neurodecode.report.panels import Panel, whole_figure
from bids_neurodecode.report.style import (
    BLUE,
    GREY,
    ORANGE,
    STYLE,
    WIDTH,
    new_figure,
    percent,
    plain,
    shorten,
    styled,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = ('shown', 'initial', 'final', 'retrieved')
"""What is drawn of each example, from top to bottom."""
TITLES = {'best': 'Best', 'median': 'Median', 'worst': 'Worst', 'random': 'Drawn at random'}
NETWORKS = {
    'prior': ('loss (nats per dimension)', 'step'),
    'refiner': ('loss (squared error)', 'epoch'),
    'latents': ('loss (squared error)', 'epoch'),
}
"""Axes of the learning curves of each network."""

_GAP = 0.35  # of an image's width, between the groups
_BETWEEN = 0.06  # inches between images


@styled
def plot_pictures(examples: pd.DataFrame, pictures: npt.NDArray[np.uint8], metric: str) -> Figure:
    """Draw examples in columns, the best, the middle and the worst beside each other.

    Parameters
    ----------
    examples
        Columns ``kind``, ``stimulus`` and, where known, that of the metric.
    pictures
        Shape (n, 4, height, width, 3): shown, initial, final, retrieved; or without the last.
    metric
        By which examples are ranked.
    """
    lines = ROWS[: pictures.shape[1]]
    kinds = list(dict.fromkeys(examples['kind']))
    columns, widths = _columns(examples, kinds)
    side = min(1.5, (WIDTH - 0.9) / sum(widths))
    figure = new_figure(len(lines) * side + 0.75, layout='none')
    axes = whole_figure(figure)
    lefts = 0.8 + side * np.concatenate([[0.0], np.cumsum(widths)])
    size, top = side - _BETWEEN, figure.get_figheight() - 0.42
    for column, place in columns:
        row, left = examples.iloc[place], float(lefts[column])
        if place == _first(examples, str(row['kind'])):
            title: dict[str, Any] = {'fontsize': STYLE['axes.titlesize'], 'weight': 'bold'}
            axes.text(left, top + 4 / 72, TITLES[str(row['kind'])], va='baseline', **title)
        for line, what in enumerate(lines):
            bottom = top - line * side - size
            Panel(axes, left, bottom, size, size).image(pictures[place, line])
            if column == 0:
                middle = bottom + size / 2
                axes.text(left - 0.1, middle, what, rotation=90, ha='right', va='center')
        name = plain(shorten(str(row['stimulus']).rsplit('/', 1)[-1], 10))
        below: dict[str, Any] = {'fontsize': 7, 'ha': 'center', 'va': 'top'}
        axes.text(left + size / 2, bottom - 0.05, f'{name}\n{score_beside(row, metric)}', **below)
    return figure


def _columns(
    examples: pd.DataFrame, kinds: list[str]
) -> tuple[list[tuple[int, int]], list[float]]:
    """Return (column, example) of each example, and the widths of all columns, gaps included."""
    columns: list[tuple[int, int]] = []
    widths: list[float] = []
    for kind in kinds:
        if widths:
            widths.append(_GAP)
        for place in np.flatnonzero((examples['kind'] == kind).to_numpy()):
            columns.append((len(widths), int(place)))
            widths.append(1.0)
    return columns, widths


def score_beside(row: pd.Series[Any], metric: str) -> str:
    """Return what stands below an example: what examples are ranked by.

    Parameters
    ----------
    row
        Of the table of examples.
    metric
        By which they are ranked.
    """
    column = sample_column(metric)
    if column not in row:
        return ''
    value = float(row[column])
    return f'r = {value:.2f}' if metric == 'pixcorr' else percent(value, 0)


def _first(examples: pd.DataFrame, kind: str) -> int:
    return int(np.flatnonzero((examples['kind'] == kind).to_numpy())[0])


@styled
def plot_learning(curves: pd.DataFrame) -> Figure:
    """Draw the loss of each network by step or epoch, a panel per network, a line per training.

    Parameters
    ----------
    curves
        Columns ``fold``, ``network``, ``part`` (training or validation), ``step``, ``loss``.
    """
    names = list(dict.fromkeys(curves['network'].astype(str)))
    figure = new_figure(2.6)
    axes: Any = figure.subplots(1, len(names), squeeze=False)[0]
    styles = {'training': (GREY, '--'), 'validation': (BLUE, '-')}
    for axis, name in zip(axes, names, strict=True):
        mine = curves[curves['network'] == name]
        said: set[str] = set()
        for (_, part), rows in mine.groupby(['fold', 'part'], sort=True):
            color, line = styles.get(str(part), (ORANGE, '-'))
            marker = 'o' if len(rows) == 1 else None
            label = None if str(part) in said else str(part)
            said.add(str(part))
            axis.plot(rows['step'], rows['loss'], line, color=color, marker=marker, label=label)
        loss, counted = NETWORKS.get(name, ('loss', 'step or epoch'))
        axis.set(title=name, xlabel=counted, ylabel=loss)
        whole_ticks(axis.xaxis)
        axis.grid()
        axis.legend(loc='best')
    return figure
