"""Brain reportlets: maps on slices of the mean BOLD image with their distribution, glass brains.

Slices are drawn as they are in the data (reoriented to the nearest canonical axes, never
resampled), so a single slice, a partial volume or a space that is no template's all work; that is
why the mosaics are not nilearn's or nireports', which cut at coordinates of a whole brain.
"""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.maps import MapSpec
from bids_neurodecode.errors import ReportError
from bids_neurodecode.report.sheets import Paint, Sheet, columns_of, draw_columns, painter
from bids_neurodecode.report.slices import (
    SliceLayout,
    add_axes,
    canonical,
    color_bar,
    draw_slices,
    on_grid,
)
from bids_neurodecode.report.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SKY,
    WIDTH,
    new_figure,
    plain,
    shorten,
    styled,
    whole_ticks,
)
from bids_neurodecode.spaces import space_of
from bids_neurodecode.typing import BoolArray, FloatArray, RealArray

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NO_SHEET = 'A volume has no surfaces to be shown on.'
MAP_WIDTH = 5.1
"""Inches that the slices of a map may take; colour bar and histogram need the rest."""
LEGEND_COLUMNS = 5
"""Of the names of an atlas's regions."""


@styled
def plot_map(
    image: nib.Nifti1Image,
    spec: MapSpec,
    *,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | None = None,
    selected: nib.Nifti1Image | None = None,
    sheet: Sheet | None = None,
    regions: nib.Nifti1Image | None = None,
) -> Figure:
    """Show a map over the mean BOLD image, and the histogram of its values.

    Parameters
    ----------
    image
        The map, 3-D.
    spec
        Its title, units and colours.
    mask
        Voxels that are shown and counted.
    background
        A grey image under the map.
    selected
        Voxels that were selected; drawn as a second histogram.
    sheet
        The surfaces of a map that is no volume; those of packages if None.
    regions
        An atlas whose borders are drawn as lines on surfaces.

    Raises
    ------
    ReportError
        If the images are not on one grid.
    """
    if space_of(image) is not None:
        labels = None if regions is None else columns_of(regions)
        return _map_on_sheet(image, spec, mask, selected, sheet or _sheet_of(image), labels)
    from matplotlib.ticker import MaxNLocator

    volume, affine = canonical(image)
    volume = spec.scale * volume
    inside = on_grid(mask, volume.shape, 'mask') > 0
    grey = None if background is None else on_grid(background, volume.shape, 'background')
    kept = None if selected is None else (on_grid(selected, volume.shape, 'selection') > 0)
    values = volume[inside & np.isfinite(volume)]
    low, high = color_limits(values, spec)
    layout = SliceLayout.of(inside, affine, MAP_WIDTH)
    height = max(layout.height, 2.4)
    figure = new_figure(height, layout='none')
    panels = draw_slices(figure, inside, affine, layout, grey, left=0.1)
    shown = np.where(inside, volume, np.nan)
    artist: Any = None
    for panel, z in panels:
        colored = shown[:, :, z][layout.crop]
        artist = panel.slice(colored, cmap=spec.colormap, vmin=low, vmax=high)
        panel.outline(inside[:, :, z][layout.crop], '#9ca3af')
    bar = figure.colorbar(
        artist, cax=add_axes(figure, 0.2 + layout.width, 0.3, 0.12, height - 0.6)
    )
    bar.set_label(spec.label)
    if spec.whole:
        bar.locator = MaxNLocator(integer=True)
        bar.update_ticks()
    chosen = None if kept is None else volume[inside & kept & np.isfinite(volume)]
    _draw_histogram(add_axes(figure, WIDTH - 2.25, 0.45, 2.1, height - 0.75), values, chosen, spec)
    return figure


@styled
def plot_selection(
    selected: nib.Nifti1Image,
    *,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | None = None,
    sheet: Sheet | None = None,
) -> Figure:
    """Show which voxels were used, filled, over the mean BOLD image; the mask is outlined.

    Parameters
    ----------
    selected
        1 in selected voxels.
    mask
        Of the analysis, on the same grid.
    background
        Grey image on the same grid; None: none.
    sheet
        Surfaces, of data without a grid; None finds them.

    Raises
    ------
    ReportError
        If the images are on different grids.
    """
    if space_of(selected) is not None:
        values = np.where(columns_of(selected) > 0, 1.0, np.nan)
        return _on_sheet(values, painter(_one_color(ORANGE), 0, 1), sheet or _sheet_of(selected))
    volume, affine = canonical(selected)
    inside = on_grid(mask, volume.shape, 'mask') > 0
    grey = None if background is None else on_grid(background, volume.shape, 'background')
    layout = SliceLayout.of(inside, affine, WIDTH - 0.2)
    figure = new_figure(layout.height, layout='none')
    panels = draw_slices(figure, inside, affine, layout, grey, left=(WIDTH - layout.width) / 2)
    from matplotlib.colors import ListedColormap

    paint = ListedColormap(['#E69F00'])
    for panel, z in panels:
        chosen = np.where((volume[:, :, z] > 0) & inside[:, :, z], 1.0, np.nan)
        panel.slice(chosen[layout.crop], cmap=paint, vmin=0, vmax=1, alpha=0.9)
        panel.outline(inside[:, :, z][layout.crop], 'white')
    return figure


@styled
def plot_coverage(
    count: nib.Nifti1Image,
    n_runs: int,
    background: nib.Nifti1Image | None = None,
) -> Figure:
    """Outline the mask of all runs, and of any run, over the mean BOLD image.

    Parameters
    ----------
    count
        In how many runs each voxel is in the mask, 3-D.
    n_runs
        How many runs there are.
    background
        The mean BOLD image, on the same grid.
    """
    volume, affine = canonical(count)
    some, every = volume > 0, volume >= n_runs
    grey = None if background is None else on_grid(background, volume.shape, 'background')
    # what lies outside of the mask is what coverage is about: nothing of the image is cut off
    seen = some if grey is None else some | (grey > 0.1 * np.quantile(grey[some], 0.95))
    layout = SliceLayout.of(seen, affine, 0.7 * WIDTH)
    figure = new_figure(layout.height, layout='none')
    panels = draw_slices(figure, seen, affine, layout, grey, left=(WIDTH - layout.width) / 2)
    for panel, z in panels:
        panel.outline(some[:, :, z][layout.crop], ORANGE)
        panel.outline(every[:, :, z][layout.crop], SKY)
    return figure


def have_own_colors(regions: npt.NDArray[np.integer[Any]]) -> bool:
    """Return whether each region of an atlas has a colour that no other one has.

    Parameters
    ----------
    regions
        Their numbers.
    """
    return len(set(_colors_of(regions).tolist())) == len(regions)


def _colors_of(regions: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one of 20 colours for each number."""
    # neighbouring numbers are neighbouring regions: spread them over the colours
    return np.asarray(regions * 7 % 20)


@styled
def plot_parcels(
    labels: nib.Nifti1Image,
    *,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | None = None,
    sheet: Sheet | None = None,
    names: Mapping[int, str] | None = None,
) -> Figure:
    """Show an atlas on the grid of the data, each region in a colour unlike its neighbours'.

    Parameters
    ----------
    labels
        Whole numbers, 0 is none.
    mask
        Of the analysis, on the same grid.
    background
        Grey image on the same grid; None: none.
    sheet
        Surfaces, of data without a grid; None finds them.
    names
        Of the regions, for a legend below slices (:func:`have_own_colors`); None: none.

    Raises
    ------
    ReportError
        If the images are on different grids.
    """
    if space_of(labels) is not None:
        regions = columns_of(labels)
        colors = np.where(regions > 0, (regions * 7) % 18, np.nan)
        paint = painter(_without_greys(), -0.5, 17.5)
        return _on_sheet(colors, paint, sheet or _sheet_of(labels), labels=regions)
    volume, affine = canonical(labels)
    inside = on_grid(mask, volume.shape, 'mask') > 0
    grey = None if background is None else on_grid(background, volume.shape, 'background')
    layout = SliceLayout.of(inside, affine, WIDTH - 0.2)
    found = [int(label) for label in np.unique(volume[volume > 0])] if names is not None else []
    legend = 0.2 * -(-len(found) // LEGEND_COLUMNS)
    figure = new_figure(layout.height + 2 * legend, layout='none')
    panels = draw_slices(figure, inside, affine, layout, grey, left=(WIDTH - layout.width) / 2)
    colors = np.where(volume > 0, _colors_of(volume), np.nan)
    for panel, z in panels:
        panel.slice(colors[:, :, z][layout.crop], cmap='tab20', vmin=0, vmax=19, alpha=0.85)
    if found:
        _add_legend(figure, {x: (names or {}).get(x, f'region {x}') for x in found})
    return figure


def _add_legend(figure: Figure, names: Mapping[int, str]) -> None:
    """Name the colours of the regions of an atlas at the foot of its figure."""
    import matplotlib as mpl
    from matplotlib.patches import Patch

    colors = mpl.colormaps['tab20']
    patches = [
        Patch(
            color=colors(int(_colors_of(np.array(label)))),
            alpha=0.85,
            label=plain(shorten(name, 22)),
        )
        for label, name in names.items()
    ]
    figure.legend(
        handles=patches, loc='lower center', ncols=LEGEND_COLUMNS, fontsize=7, frameon=False
    )


@styled
def plot_glass(image: nib.Nifti1Image, spec: MapSpec, *, mask: nib.Nifti1Image) -> Figure:
    """Project a map in MNI space through a glass brain (nilearn): the strongest voxel counts.

    Parameters
    ----------
    image
        The map, in MNI space.
    spec
        Scale, colours and label of the map.
    mask
        Of the analysis, on the same grid.
    """
    from nilearn.plotting import plot_glass_brain

    volume, inside, values = in_mask(image, spec, mask, np.float32)
    low, high = color_limits(values, spec)
    threshold = float(np.quantile(np.abs(values), 0.9)) if values.size else 0.0
    clean = nib.Nifti1Image(np.where(inside, np.nan_to_num(volume), 0), image.affine)
    figure = new_figure(2.6, layout='none')
    display = plot_glass_brain(
        clean,
        display_mode='lyrz',
        figure=figure,
        axes=(0.0, 0.0, 0.91, 1.0),
        colorbar=False,
        cmap=spec.colormap,
        threshold=min(threshold, 0.999 * high),
        plot_abs=not spec.symmetric,
        vmin=low,
        vmax=high,
        symmetric_cbar=spec.symmetric,
        annotate=True,
        black_bg=False,
    )
    for axis in display.axes.values():
        # the projected voxels are an image, the outlines stay lines
        for collection in (*axis.ax.collections, *axis.ax.images):
            collection.set_rasterized(True)
    axis = figure.add_axes((0.92, 0.14, 0.012, 0.72))
    color_bar(figure, axis, spec.colormap, (low, high), spec.label)
    return figure


def _sheet_of(image: nib.Nifti1Image) -> Sheet:
    space = space_of(image)
    if space is None:
        raise ReportError(NO_SHEET)
    return Sheet.of(space)


def _without_greys() -> Any:
    """Return the colours of ``tab20`` that are no greys, which the cortex is drawn in."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    greys = {14, 15}
    return ListedColormap([colormaps['tab20'](i) for i in range(20) if i not in greys])


def _one_color(color: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([color])


def _map_on_sheet(
    image: nib.Nifti1Image,
    spec: MapSpec,
    mask: nib.Nifti1Image,
    selected: nib.Nifti1Image | None,
    sheet: Sheet,
    labels: FloatArray | None,
) -> Figure:
    """Show a map on surfaces (or parcels as bars), its colour bar and its histogram."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = spec.scale * columns_of(image)
    inside = (columns_of(mask) > 0) & np.isfinite(values)
    low, high = color_limits(values[inside], spec)
    paint = painter(spec.colormap, low, high)
    shown = np.where(inside, values, np.nan)
    height = max(sheet.height, 2.4)
    figure = new_figure(height, layout='none')
    if sheet.height:
        sheet.draw(figure, shown, paint, left=0.05, labels=labels)
        place = (0.1 + sheet.width, 0.3, 0.12, height - 0.6)
        scale = ScalarMappable(Normalize(low, high), spec.colormap)
        bar = figure.colorbar(scale, cax=add_axes(figure, *place))
        bar.set_label(spec.label)
    elif sheet.space.form in {'parcels', 'pcifti'}:
        box = (0.6, 0.45, MAP_WIDTH - 0.4, height - 0.75)
        draw_columns(figure, shown, paint, box, sheet.space)
    chosen = None
    if selected is not None:
        chosen = values[inside & (columns_of(selected) > 0)]
    panel = add_axes(figure, WIDTH - 2.25, 0.45, 2.1, height - 0.75)
    _draw_histogram(panel, values[inside], chosen, spec)
    return figure


def _on_sheet(
    values: FloatArray, paint: Paint, sheet: Sheet, labels: FloatArray | None = None
) -> Figure:
    """Show colours on surfaces alone, or of one column after the other where there are none."""
    figure = new_figure(max(sheet.height, 1.6), layout='none')
    if sheet.height:
        sheet.draw(figure, values, paint, left=(WIDTH - sheet.width) / 2, labels=labels)
    else:
        draw_columns(figure, values, paint, (0.6, 0.45, WIDTH - 0.8, 0.9), sheet.space)
    return figure


def in_mask(
    image: nib.Nifti1Image,
    spec: MapSpec,
    mask: nib.Nifti1Image,
    dtype: npt.DTypeLike = np.float64,
) -> tuple[npt.NDArray[Any], BoolArray, npt.NDArray[Any]]:
    """Return a map in its unit, where it is shown, and the values that are finite there.

    Parameters
    ----------
    image
        The map, (x, y, z).
    spec
        Its scale.
    mask
        Voxels that are shown, on the same grid.
    dtype
        Of the values.
    """
    volume = spec.scale * np.asarray(image.dataobj, dtype=dtype).reshape(image.shape[:3])
    inside = np.asarray(mask.dataobj).reshape(mask.shape[:3]) > 0
    return volume, inside, volume[inside & np.isfinite(volume)]


def color_limits(values: RealArray, spec: MapSpec) -> tuple[float, float]:
    """Return the ends of the colours: the map's own, or the 2nd and 98th percentile.

    Parameters
    ----------
    values
        Of the voxels that are shown, (n,), finite.
    spec
        Says whether the map is symmetric about 0.
    """
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (2, 98)))
    if spec.symmetric:
        bound = max(abs(low), abs(high)) or 1.0
        return -bound, bound
    low = low if spec.low is None else spec.low
    high = high if spec.high is None else spec.high
    return (low, high) if high > low else (low, low + 1.0)


def _draw_histogram(
    axis: Axes, values: RealArray, selected: RealArray | None, spec: MapSpec
) -> None:
    """Draw the distribution in the mask and, where there is one, in the selection."""
    if not values.size:
        axis.set_axis_off()
        return
    distinct = np.unique(values)
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    edges = np.linspace(low, high if high > low else low + 1, 31).tolist()
    steps = float(np.diff(distinct).min()) if distinct.size > 1 else 1.0
    if distinct.size <= 25 and np.ptp(distinct) <= 60 * steps:
        # few values, evenly spread: a bar for each
        edges = sorted({*(distinct - 0.4 * steps), *(distinct + 0.4 * steps)})
    # shares, since few voxels are selected out of many
    counts, _ = np.histogram(values, edges)
    shares = 100 * counts / values.size
    name = f'{spec.of} ({values.size})'
    axis.stairs(shares, edges, fill=True, color=GREY, alpha=0.45, label=name)
    axis.axvline(float(np.median(values)), color=GREY, linewidth=1, linestyle='--')
    if selected is not None and selected.size:
        axis.hist(
            selected,
            bins=edges,
            weights=np.full(selected.size, 100 / selected.size),
            histtype='step',
            color=BLUE,
            linewidth=1.3,
            label=f'selected ({selected.size})',
        )
        axis.axvline(float(np.median(selected)), color=BLUE, linewidth=1, linestyle='--')
    if spec.symmetric:
        axis.axvline(0, color=RED, linewidth=0.8)
    axis.set(xlabel=spec.label, ylabel='% of voxels')
    whole_ticks(axis.yaxis)
    axis.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=2, fontsize=7, borderaxespad=0.2)


def viewer(
    image: nib.Nifti1Image,
    spec: MapSpec,
    *,
    mask: nib.Nifti1Image,
    background: nib.Nifti1Image | Path | None,
) -> str:
    """Return a page on which a map can be moved through (nilearn's viewer), whole in one file.

    Parameters
    ----------
    image
        The map, 3-D.
    spec
        Its title, units and colours.
    mask
        Voxels that are shown.
    background
        An anatomical image; None takes nilearn's MNI152 template.
    """
    from nilearn.datasets import load_mni152_template
    from nilearn.plotting import view_img

    if background is None:  # what resampling to 2 mm gives, without its time
        background = load_mni152_template(resolution=1).slicer[::2, ::2, ::2]
    volume, inside, values = in_mask(image, spec, mask)
    low, high = color_limits(values, spec)
    shown = np.where(inside, np.nan_to_num(volume), 0).astype(np.float32)
    with warnings.catch_warnings():
        # of nilearn's own scaling of the background, and of maps without small values
        warnings.filterwarnings('ignore', "Warning: 'partition' will ignore the 'mask'")
        warnings.filterwarnings('ignore', 'Threshold given was')
        view = view_img(
            nib.Nifti1Image(shown, image.affine),
            bg_img=background,
            threshold=0.05 * max(abs(low), abs(high)),
            cmap=spec.colormap,
            symmetric_cmap=spec.symmetric,
            vmin=low,
            vmax=high,
            resampling_interpolation='nearest',
        )
    # names are drawn by chance
    return re.sub(r'-[0-9a-f]{32}\b', '-map', with_heading(view.get_standalone(), spec.label))


def with_heading(page: str, text: str) -> str:
    """Return a viewer of nilearn's with a heading of its own, and without an icon.

    What nilearn writes beside the slices is cut where it is longer than one is wide, and the
    icon is the one thing that the page would fetch.

    Parameters
    ----------
    page
        The viewer.
    text
        Of the heading.
    """
    heading = f'<h1 style="font: 600 1.1rem system-ui, sans-serif">{html.escape(text)}</h1>'
    page = re.sub(r'<link[^>]*\bicon\b[^>]*>', '', page)
    page = re.sub(r'<title>.*?</title>', f'<title>{html.escape(text)}</title>', page, count=1)
    return page.replace('<body>', f'<body>{heading}', 1)
