"""Reportlets of images that were made: examples beside what was shown, learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.report.style import (
    BLUE,
    GREY,
    ORANGE,
    WIDTH,
    new_figure,
    percent,
    plain,
    shorten,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ROWS = ('shown', 'initial', 'final', 'retrieved')
"""What is drawn of each example, from top to bottom."""
TITLES = {'best': 'Best', 'median': 'In the middle', 'worst': 'Worst'}
NETWORKS = {
    'prior': ('prior (nats a dimension)', 'step'),
    'refiner': ('refiner (squared error)', 'epoch'),
    'latents': ('latents (squared error)', 'epoch'),
}
"""Panels of the learning curves, with the unit of their loss, and what their axis counts."""

_GAP = 0.35  # of an image's width, between the groups


@styled
def plot_pictures(examples: pd.DataFrame, pictures: npt.NDArray[np.uint8]) -> Figure:
    """Draw examples in columns, the best, the middle and the worst beside each other.

    Parameters
    ----------
    examples
        Columns ``kind``, ``stimulus`` and, where known, ``two_way`` (0 to 1), else
        ``pixcorr_final``.
    pictures
        Shape (n, 4, height, width, 3): shown, initial, final, retrieved; or without the last.
    """
    lines = ROWS[: pictures.shape[1]]
    kinds = list(dict.fromkeys(examples['kind']))
    columns, widths = _columns(examples, kinds)
    side = min(1.5, (WIDTH - 0.9) / sum(widths))
    figure = new_figure(len(lines) * (side + 0.05) + 0.75, layout='none')
    left = 0.8 / WIDTH
    grid = figure.add_gridspec(
        len(lines),
        len(widths),
        width_ratios=widths,
        left=left,
        right=left + side * sum(widths) / WIDTH,
        bottom=0.3 / figure.get_figheight(),
        top=1 - 0.42 / figure.get_figheight(),
        wspace=0.06,
        hspace=0.06,
    )
    for column, place in columns:
        row = examples.iloc[place]
        for line, what in enumerate(lines):
            axis = figure.add_subplot(grid[line, column])
            axis.imshow(pictures[place, line], interpolation='nearest', aspect='auto')
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if column == 0:
                axis.set_ylabel(what)
            if line == 0 and place == _first(examples, str(row['kind'])):
                axis.set_title(TITLES[str(row['kind'])], pad=4)
            if line == len(lines) - 1:
                name = shorten(str(row['stimulus']).rsplit('/', 1)[-1], 12)
                axis.set_xlabel(f'{plain(name)}\n{_score(row)}', fontsize=6, labelpad=2)
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


def _score(row: pd.Series[Any]) -> str:
    if 'two_way' in row:
        return percent(float(row['two_way']), 0)
    return f'r {float(row["pixcorr_final"]):.2f}' if 'pixcorr_final' in row else ''


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
        title, counted = NETWORKS.get(name, (name, 'step or epoch'))
        axis.set_title(title)
        axis.set(xlabel=counted, ylabel='loss')
        axis.grid()
        axis.legend(loc='best')
    return figure
