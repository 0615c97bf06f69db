"""Encoding reportlets: accuracy against ceiling, its null, regions, partition, example volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.report.panels import Panel, whole_figure
from bids_neurodecode.report.sheets import Sheet, painter
from bids_neurodecode.report.slices import SliceLayout, add_axes, color_bar, height_of
from bids_neurodecode.report.style import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    RED,
    WIDTH,
    new_figure,
    plain,
    shorten,
    styled,
)
from bids_neurodecode.typing import BoolArray, FloatArray, RealArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


MANY_VOXELS = 1500
"""From here on voxels are drawn as a density, not one by one."""
MOST_REGIONS = 40
N_SLICES = 4
THUMB = 0.95
"""Inches of a side of the images beside their maps."""


@styled
def plot_accuracy(
    r: RealArray, ceiling: RealArray | None, significant: BoolArray, null: RealArray | None
) -> Figure:
    """Draw each voxel's accuracy against what its noise allows, and all of them with their null.

    Parameters
    ----------
    r
        Correlation of predicted and measured responses, (n_voxels,).
    ceiling
        Noise ceiling, share of the variance, (n_voxels,); None where it is not known.
    significant
        Voxels whose correlation is above chance, (n_voxels,).
    null
        Quantiles of the permuted correlations; None where there are none.
    """
    figure = new_figure(3.4)
    left, right = (None, figure.subplots()) if ceiling is None else figure.subplots(1, 2)
    if left is not None and ceiling is not None:
        _draw_ceiling(figure, left, r, np.sqrt(np.clip(ceiling, 0, 1)), significant)
    outer = np.empty(0) if null is None or not null.size else np.quantile(null, (0.002, 0.998))
    low, high = float(min(r.min(), 0.0, *outer)), float(max(r.max(), 0.1, *outer))
    bins = np.linspace(low, high, 51).tolist()
    if null is not None and null.size:
        right.hist(
            np.clip(null, low, high),
            bins,
            weights=np.full(null.size, 100 / null.size),
            color=GREY,
            alpha=0.45,
            label='permuted',
        )
    right.hist(
        r,
        bins,
        weights=np.full(r.size, 100 / r.size),
        histtype='step',
        color=BLUE,
        linewidth=1.5,
        label=f'measured ({r.size} voxels)',
    )
    if significant.any():
        right.hist(
            r[significant],
            bins,
            weights=np.full(int(significant.sum()), 100 / r.size),
            color=ORANGE,
            alpha=0.7,
            label=f'FDR < .05 ({int(significant.sum())})',
        )
    right.axvline(0, color=RED, linestyle='--', linewidth=1, label='chance')
    right.set(xlabel='correlation with the response (Pearson r)', ylabel='% of voxels')
    right.legend(loc='upper right', fontsize=7)
    return figure


def _draw_ceiling(
    figure: Figure, axis: Any, r: RealArray, ceiling: RealArray, significant: BoolArray
) -> None:
    """Draw the correlation against the highest that is possible, with the line of equality."""
    high = max(1.0, float(r.max()))
    if r.size > MANY_VOXELS:
        drawn = axis.hexbin(
            ceiling, r, gridsize=40, bins='log', mincnt=1, cmap='Blues', linewidths=0.1
        )
        figure.colorbar(drawn, ax=axis, label='voxels')
    else:
        for chosen, color, label in (
            (~significant, GREY, 'not above chance'),
            (significant, ORANGE, 'FDR < .05'),
        ):
            axis.plot(
                ceiling[chosen],
                r[chosen],
                '.',
                color=color,
                markersize=4,
                alpha=0.6,
                label=label,
                rasterized=True,
            )
    axis.plot([0, high], [0, high], color=RED, linewidth=1.1, label='all that can be explained')
    axis.axhline(0, color=RED, linestyle='--', linewidth=1, label='chance')
    axis.set(
        xlabel='highest possible correlation (root of the ceiling)',
        ylabel='correlation with the response (Pearson r)',
        xlim=(-0.02, 1.02),
    )
    axis.grid()
    axis.legend(loc='upper left', fontsize=7)


@styled
def plot_regions(rows: pd.DataFrame) -> Figure:
    """Draw the median correlation of each region, the best first, with interval and ceiling.

    Parameters
    ----------
    rows
        Of the metrics table, with ``region``; ``value``, ``ci_low``, ``ci_high``, ``ceiling``,
        ``chance`` and ``n``.
    """
    shown = rows.sort_values('value', ascending=False, kind='stable').head(MOST_REGIONS)
    figure = new_figure(0.22 * len(shown) + 1.0)
    axis = figure.subplots()
    y = np.arange(len(shown))
    values = shown['value'].to_numpy(dtype=float)
    axis.barh(y, values, color=BLUE, alpha=0.75, height=0.7, label='median over voxels')
    known = np.isfinite(shown[['ci_low', 'ci_high']].to_numpy(dtype=float)).all(axis=1)
    axis.hlines(y[known], shown['ci_low'][known], shown['ci_high'][known], color='black', lw=1.3)
    ceiling = shown['ceiling'].to_numpy(dtype=float, copy=True)
    ceiling[~(ceiling > 0)] = np.nan  # what noise leaves nothing of bounds nothing
    axis.plot(ceiling, y, 'D', color=ORANGE, markersize=5, label='highest possible (median)')
    axis.axvline(0, color=RED, linestyle='--', linewidth=1.1, label='chance')
    names = [
        f'{plain(shorten(str(name), 34))} ({n:.0f})'
        for name, n in zip(shown['region'], shown['n'], strict=True)
    ]
    axis.set_yticks(y, names, fontsize=7)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set(xlabel='correlation with the response (Pearson r)', ylabel='region (voxels)')
    axis.grid(axis='x')
    figure.legend(loc='outside lower center', ncols=3)
    return figure


@styled
def plot_partition(
    unique: Mapping[str, RealArray], shared: RealArray, sure: Mapping[str, BoolArray]
) -> Figure:
    """Draw what each feature space explains that no other does, and what they share.

    Parameters
    ----------
    unique
        Share of the variance by feature space, (n_voxels,).
    shared
        The rest of what all of them explain, (n_voxels,).
    sure
        Voxels with a unique part above 0, by feature space.
    """
    figure = new_figure(2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    names = [*unique, 'shared']
    values = [*unique.values(), shared]
    parts = left.violinplot(
        [100 * np.clip(v, *np.percentile(v, (0.5, 99.5))) for v in values],
        showextrema=False,
        showmedians=True,
    )
    for body, color in zip(parts['bodies'], PALETTE, strict=False):
        body.set_facecolor(color)
        body.set_alpha(0.6)
    left.axhline(0, color=RED, linestyle='--', linewidth=1, label='nothing')
    left.set_xticks(range(1, len(names) + 1), [plain(shorten(name, 14)) for name in names])
    left.set_ylabel('variance explained (%)')
    left.legend(loc='best')
    left.grid(axis='y')
    shares = [100 * float(sure[name].mean()) for name in unique]
    right.bar(range(len(shares)), shares, color=PALETTE[: len(shares)], alpha=0.75)
    right.set_xticks(range(len(shares)), [plain(shorten(name, 14)) for name in unique])
    right.set_ylabel('voxels with a unique part (%)')
    right.set_ylim(0, max(10.0, 1.1 * max(shares)))
    right.grid(axis='y')
    return figure


def best_slices(score: RealArray, mask: BoolArray) -> tuple[int, ...]:
    """Return the axial slices with the highest sum of scores above 0, at most four, bottom to top.

    Parameters
    ----------
    score
        Of each voxel, (x, y, z).
    mask
        Voxels that count, (x, y, z).
    """
    total = np.where(mask, np.clip(np.nan_to_num(score), 0, None), 0).sum(axis=(0, 1))
    total += 1e-9 * mask.sum(axis=(0, 1))
    covered = np.flatnonzero(mask.any(axis=(0, 1)))
    best = covered[np.argsort(-total[covered], kind='stable')[:N_SLICES]]
    return tuple(sorted(int(z) for z in best))


@styled
def plot_volumes(
    volumes: Sequence[Sequence[RealArray]],
    titles: Sequence[str],
    pictures: Sequence[Image | None],
    *,
    columns: Sequence[str],
    mask: BoolArray,
    affine: FloatArray,
    slices: tuple[int, ...],
    units: str,
    background: RealArray | None = None,
) -> Figure:
    """Draw volumes beside each other, one row per image: measured and predicted responses.

    Parameters
    ----------
    volumes
        One sequence a row, one volume a column, all on the grid of ``mask``.
    titles
        One a row.
    pictures
        What was shown; None leaves the place empty.
    columns
        What the volumes of each column are.
    mask
        Voxels that are drawn.
    affine
        Of the grid.
    slices
        Axial slices, as numbers.
    units
        Of the colour bars.
    background
        Grey image below.
    """
    width = _column_width(len(columns))
    layout = SliceLayout.of(mask, affine, width)
    layout = SliceLayout(slices, layout.crop, len(slices), *_panel(layout, width, len(slices)))
    bounds = [
        max(float(np.percentile(np.abs([r[c][mask] for r in volumes]), 99)), 1e-6)
        for c in range(len(columns))
    ]

    def draw(figure: Figure, number: int, column: int, left: float, bottom: float) -> None:
        volume, bound = volumes[number][column], bounds[column]
        _draw_volume(figure, volume, mask, affine, layout, background, left, bottom, bound)

    return _rows_of_maps(
        titles, pictures, columns, bounds, units, layout.panel_height + 0.42, draw
    )


@styled
def plot_sheets(
    values: RealArray,
    titles: Sequence[str],
    pictures: Sequence[Image | None],
    *,
    columns: Sequence[str],
    sheet: Sheet,
    units: str,
) -> Figure:
    """Draw maps on surfaces beside each other, one row per image, as :func:`plot_volumes` does.

    Parameters
    ----------
    values
        Shape (n_pictures, n_maps, n_columns); NaN is not drawn.
    titles, pictures, columns, units
        As there.
    sheet
        With the mesh of one hemisphere at least.
    """
    width = _column_width(len(columns))
    height = 0.7 * width / 4
    bounds = [
        max(float(np.nanpercentile(np.abs(values[:, c]), 99)), 1e-6) for c in range(len(columns))
    ]

    def draw(figure: Figure, number: int, column: int, left: float, bottom: float) -> None:
        paint = painter('RdBu_r', -bounds[column], bounds[column])
        sheet.draw_row(figure, values[number, column], paint, (left, bottom + 0.1, width, height))

    return _rows_of_maps(titles, pictures, columns, bounds, units, height + 0.2, draw)


def _column_width(n: int) -> float:
    """Return the inches that each of so many columns of maps may take, beside its colour bar."""
    return (WIDTH - THUMB - 0.75 * n - 0.2) / n


def _rows_of_maps(
    titles: Sequence[str],
    pictures: Sequence[Image | None],
    columns: Sequence[str],
    bounds: Sequence[float],
    units: str,
    least: float,
    draw: Callable[[Figure, int, int, float, float], None],
) -> Figure:
    """Draw a row for each image, and each column's colour bar; places in inches.

    ``draw`` is given the figure, row, column, and the place of the map's lower left corner, and a
    row is at least so high.
    """
    width, row = _column_width(len(columns)), max(least, THUMB + 0.3)
    lefts = [THUMB + 0.2 + column * (width + 0.75) for column in range(len(columns))]
    figure = new_figure(row * len(titles) + 0.35, layout='none')
    high = figure.get_size_inches()[1]
    for number, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
        bottom = high - 0.35 - (number + 1) * row
        _draw_picture(figure, picture, title, bottom, THUMB)
        for column, left in enumerate(lefts):
            draw(figure, number, column, left, bottom)
    for name, bound, left in zip(columns, bounds, lefts, strict=True):
        figure.text(left / WIDTH, 1 - 0.2 / high, name, weight='bold', fontsize=9)
        axis = add_axes(figure, left + width + 0.06, 0.3, 0.09, high - 0.8)
        color_bar(figure, axis, 'RdBu_r', (-bound, bound), units)
    return figure


def _panel(layout: SliceLayout, width: float, n: int) -> tuple[float, float]:
    ratio = layout.panel_height / layout.panel_width
    panel = (width - 0.06 * (n - 1)) / n
    return panel, panel * ratio


def _draw_picture(
    figure: Figure, picture: Image | None, title: str, bottom: float, size: float
) -> None:
    axis = add_axes(figure, 0.02, bottom + 0.05, size, size)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(picture is None)
    if picture is not None:
        axis.imshow(np.asarray(picture))
    axis.set_title(plain(title), fontsize=7, loc='left', weight='normal')


def _draw_volume(
    figure: Figure,
    volume: RealArray,
    mask: BoolArray,
    affine: FloatArray,
    layout: SliceLayout,
    background: RealArray | None,
    left: float,
    bottom: float,
    bound: float,
) -> None:
    axes = whole_figure(figure)
    shown = np.where(mask, volume, np.nan)
    for place, z in enumerate(layout.slices):
        across = left + place * (layout.panel_width + 0.06)
        panel = Panel(axes, across, bottom + 0.05, layout.panel_width, layout.panel_height)
        if background is not None:
            top = float(np.percentile(background[mask], 99.5))
            panel.slice(background[:, :, z][layout.crop], cmap='gray', vmin=0, vmax=top)
        panel.slice(shown[:, :, z][layout.crop], cmap='RdBu_r', vmin=-bound, vmax=bound)
        panel.outline(mask[:, :, z][layout.crop], '#9ca3af')
        panel.title(height_of(affine, mask.shape, z), 'center', fontsize=7)
