"""Axial slices of any image: which to show, where they go on a figure, and how they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ReportError
from bids_neurodecode.report.panels import Panel, whole_figure
from bids_neurodecode.typing import BoolArray, RealArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


OTHER_GRID = 'The {what} is of shape {shape}; the map beside it is of shape {expected}.'
N_SLICES = 12
"""The most that are shown."""
GAP, TITLE = 0.06, 0.17
"""Inches between slices, and above each for its title."""


def canonical(image: nib.Nifti1Image) -> tuple[RealArray, npt.NDArray[np.float64]]:
    """Return the volume with axes nearest to right, anterior, superior, and its affine."""
    turned = nib.as_closest_canonical(image)
    volume = np.asarray(turned.dataobj, dtype=np.float64)
    return volume.reshape(volume.shape[:3]), np.asarray(turned.affine, dtype=np.float64)


def choose_slices(mask: BoolArray) -> list[int]:
    """Choose axial slices that hold voxels of a mask (x, y, z), at one distance from each other.

    Examples
    --------
    >>> choose_slices(np.ones((2, 2, 1), dtype=bool))
    [0]
    >>> choose_slices(np.ones((2, 2, 13), dtype=bool))
    [1, 3, 5, 7, 9, 11]
    """
    covered = np.flatnonzero(mask.any(axis=(0, 1)))
    step = max(1, -(-covered.size // N_SLICES))
    # the outermost slices hold a few voxels only
    return [int(z) for z in covered[step // 2 :: step]]


@dataclass(frozen=True)
class SliceLayout:
    """Where the slices go: sizes in inches, the slices, and the in-plane box that is shown."""

    slices: tuple[int, ...]
    crop: tuple[slice, slice]
    n_columns: int
    panel_width: float
    panel_height: float

    @classmethod
    def of(cls, mask: BoolArray, affine: npt.NDArray[np.float64], width: float) -> SliceLayout:
        """Fit the slices of a mask into a width.

        Parameters
        ----------
        mask
            Shape (x, y, z).
        affine
            Of the grid, (4, 4), mm.
        width
            In inches.
        """
        crop = crop_box(mask)
        shown = mask[crop]
        ratio = shown.shape[1] * aspect(affine) / shown.shape[0]
        slices = tuple(choose_slices(mask))
        n_columns = min(len(slices), 6 if len(slices) > 4 else 4)
        panel = min((width - GAP * (n_columns - 1)) / n_columns, 3.0 / ratio, 4.2)
        return cls(slices, crop, n_columns, panel, panel * ratio)

    @property
    def width(self) -> float:
        """Of all columns."""
        return self.n_columns * (self.panel_width + GAP) - GAP

    @property
    def height(self) -> float:
        """Of all rows with their titles."""
        n_rows = math.ceil(len(self.slices) / self.n_columns)
        return n_rows * (self.panel_height + TITLE) + 0.15


def on_grid(image: nib.Nifti1Image, shape: tuple[int, ...], what: str) -> RealArray:
    """Return a canonical volume, or refuse one of another shape than the map beside it.

    Parameters
    ----------
    image
        Of any orientation.
    shape
        That it must have, canonical.
    what
        It is called in the message.

    Raises
    ------
    ReportError
        If it has another shape.
    """
    volume, _ = canonical(image)
    if volume.shape != shape:
        raise ReportError(OTHER_GRID.format(what=what, shape=volume.shape, expected=shape))
    return volume


def aspect(affine: npt.NDArray[np.float64]) -> float:
    """Return how much taller than wide a voxel is in an axial slice."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    return float(size[1] / size[0])


def crop_box(mask: BoolArray) -> tuple[slice, slice]:
    """Return the in-plane bounding box of the mask, one voxel wider."""
    bounds = []
    for axis in (0, 1):
        used = np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis)))
        bounds.append(slice(max(0, int(used[0]) - 1), int(used[-1]) + 2))
    return bounds[0], bounds[1]


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the lower left.

    Parameters
    ----------
    figure
        That is drawn into.
    left, bottom, width, height
        In inches.
    """
    across, up = figure.get_size_inches()
    axes: Axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    return axes


def color_bar(
    figure: Figure, axis: Axes, colormap: str, limits: tuple[float, float], label: str
) -> None:
    """Draw the colour bar of values that nothing on the figure holds, its letters small.

    Parameters
    ----------
    figure
        That is drawn into.
    axis
        Which the bar fills.
    colormap
        Of matplotlib.
    limits
        Values of its ends.
    label
        Units.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(*limits), colormap), cax=axis)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7)


def draw_slices(
    figure: Figure,
    mask: BoolArray,
    affine: npt.NDArray[np.float64],
    layout: SliceLayout,
    background: RealArray | None,
    *,
    left: float,
) -> list[tuple[Panel, int]]:
    """Draw the grey slices, ``left`` inches from the side; return each panel with its slice.

    Parameters
    ----------
    figure
        That is drawn into.
    mask
        Voxels that are shown, (x, y, z).
    affine
        Of the grid, (4, 4), mm.
    layout
        Which slices, and how large.
    background
        Grey values, (x, y, z); None: none.
    left
        Inches from the left side.
    """
    axes = whole_figure(figure)
    top = (figure.get_size_inches()[1] + layout.height) / 2 - 0.05
    low, high = 0.0, 1.0
    if background is not None:
        low, high = (float(v) for v in np.percentile(background[mask], (1, 99.5)))
    panels = []
    for number, z in enumerate(layout.slices):
        row, column = divmod(number, layout.n_columns)
        panel = Panel(
            axes,
            left + column * (layout.panel_width + GAP),
            top - (row + 1) * (layout.panel_height + TITLE),
            layout.panel_width,
            layout.panel_height,
        )
        grey: RealArray = mask[:, :, z] * 0.3 if background is None else background[:, :, z]
        panel.slice(grey[layout.crop], cmap='gray', vmin=min(low, 0.0), vmax=high)
        panel.title(height_of(affine, mask.shape, z), 'center', fontsize=7)
        panels.append((panel, z))
    panels[0][0].title('L', 'left', fontsize=7, weight='bold')
    panels[0][0].title('R', 'right', fontsize=7, weight='bold')
    return panels


def height_of(affine: npt.NDArray[np.float64], shape: tuple[int, ...], z: int) -> str:
    """Say how high the centre of an axial slice is.

    Parameters
    ----------
    affine
        Of the grid, (4, 4), mm.
    shape
        Of the grid, (x, y, z).
    z
        The slice.
    """
    return f'z = {(affine @ [shape[0] / 2, shape[1] / 2, z, 1])[2]:.0f} mm'
