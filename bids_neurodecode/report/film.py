"""Film reportlets: how the network learned, what it reconstructs, and what it gains over ridge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.report.panels import Pair, draw_pairs
from bids_neurodecode.report.style import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    RED,
    new_figure,
    plain,
    shorten,
    styled,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TERMS = {
    'loss': 'loss',
    'voxel_cosine': 'cosine distance of responses',
    'voxel_mse': 'squared error of responses',
    'ssim': 'structural dissimilarity of frames',
    'perceptual': 'perceptual distance of frames',
    'tv': 'total variation of frames',
}
"""Which terms of the loss are drawn, and their names; of ``ssim`` 1 - SSIM, which is minimised."""


@styled
def plot_curves(curves: pd.DataFrame) -> Figure:
    """Draw the loss and its terms by epoch, one panel per term; training and validation.

    Parameters
    ----------
    curves
        Columns ``fold``, ``epoch``, ``part`` (training or validation), ``loss`` and its terms.
    """
    terms = [name for name in TERMS if name in curves.columns and curves[name].notna().any()]
    n_columns = min(3, len(terms))
    n_rows = -(-len(terms) // n_columns)
    figure = new_figure(2.2 * n_rows + 0.4)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    styles = {'training': (GREY, '--'), 'validation': (BLUE, '-')}
    many = curves['epoch'].nunique() > 1
    for axis, name in zip(axes, terms, strict=False):
        for (fold, part), rows in curves.groupby(['fold', 'part'], sort=True):
            color, line = styles.get(str(part), (ORANGE, '-'))
            axis.plot(
                rows['epoch'],
                1 - rows[name] if name == 'ssim' else rows[name],
                line,
                color=color,
                marker=None if many else 'o',
                label=str(part) if fold == curves['fold'].min() else None,
            )
        axis.set_title(TERMS[name])
        axis.set_xlabel('epoch')
        whole_ticks(axis.xaxis)
        axis.grid()
    for axis in axes[len(terms) :]:
        axis.set_visible(False)
    axes[0].legend(loc='best')
    return figure


@styled
def plot_frames(examples: pd.DataFrame, frames: npt.NDArray[np.uint8]) -> Figure:
    """Draw shown frames above reconstructed ones: the best, the middle, the worst.

    Parameters
    ----------
    examples
        Columns ``kind``, ``film``, ``onset`` (s) and ``similarity``.
    frames
        Shape (n, 2, height, width, 3): shown, reconstructed.
    """
    rows: dict[str, list[Pair]] = {}
    for (_, row), (shown, made) in zip(examples.iterrows(), frames, strict=True):
        where = f'{shorten(str(row["film"]), 16)}, {row["onset"]:.0f} s'
        pair = Pair(f'SSIM {row["similarity"]:.2f}', (shown, made), ('', plain(where)))
        rows.setdefault(str(row['kind']), []).append(pair)
    return draw_pairs(rows, ('shown', 'reconstructed'))


@styled
def plot_against(
    network: npt.NDArray[np.floating[Any]],
    linear: npt.NDArray[np.floating[Any]],
    name: str = 'network',
) -> Figure:
    """Draw each voxel's correlation by the network against that by ridge regression.

    Parameters
    ----------
    network, linear
        Shape (n_voxels,).
    name
        What the first is called.
    """
    figure = new_figure(3.4)
    left, right = figure.subplots(1, 2)
    low = float(min(network.min(), linear.min(), 0.0))
    high = float(max(network.max(), linear.max(), 0.1))
    left.plot([low, high], [low, high], color=RED, linewidth=1, linestyle='--', label='equal')
    left.plot(linear, network, '.', color=BLUE, markersize=3, alpha=0.5, rasterized=True)
    left.set(xlabel='ridge (Pearson r)', ylabel=f'{name} (Pearson r)', aspect='equal')
    left.legend(loc='lower right')
    left.grid()
    bins = np.linspace(low, high, 41)
    right.hist(linear, bins, color=PALETTE[1], alpha=0.55, label='ridge')
    right.hist(network, bins, color=BLUE, alpha=0.55, label=name)
    right.set(xlabel='Pearson r', ylabel='voxels')
    right.legend(loc='best')
    return figure
