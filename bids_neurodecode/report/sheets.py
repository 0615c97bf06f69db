"""Maps on cortical surfaces, subcortical voxels and parcels: lateral and medial views, slices.

Faces that look at the viewer are projected and painted from back to front. A view is an image,
not lines: a mesh has tens of thousands of faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.report.slices import add_axes, aspect, canonical
from bids_neurodecode.signals.meshes import NO_MESH, SIDES, Mesh, Side, find_mesh
from bids_neurodecode.spaces import COLUMN, Space
from bids_neurodecode.typing import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Paint = Callable[[FloatArray], FloatArray]
"""Values to colours (n, 4); what is missing is transparent."""

PANEL = (2.45, 1.55)
"""Width and height of one view, in inches."""
TITLE = 0.18
SLICES_HEIGHT = 1.0
N_SLICES = 6


@dataclass(frozen=True, eq=False)
class Sheet:
    """What of a space can be drawn.

    Parameters
    ----------
    space
        Of the data.
    meshes
        Of the hemispheres that have one.
    """

    space: Space
    meshes: dict[Side, Mesh]

    @classmethod
    def of(cls, space: Space, folders: Iterable[Path] = ()) -> Sheet:
        """Find the meshes of a space.

        Parameters
        ----------
        space
            Of the columns.
        folders
            Where meshes are looked for.
        """
        folders = tuple(folders)
        found = {side: find_mesh(space, side, folders) for side in SIDES}
        return cls(space, {side: mesh for side, mesh in found.items() if mesh is not None})

    @property
    def has_voxels(self) -> bool:
        """Whether some columns are voxels."""
        return getattr(self.space.axis, 'volume_shape', None) is not None

    @property
    def height(self) -> float:
        """Inches that :meth:`draw` takes."""
        height = 2 * PANEL[1] + TITLE if self.meshes else 0.0
        return height + (SLICES_HEIGHT if self.has_voxels else 0.0)

    @property
    def width(self) -> float:
        """Inches that the views of the cortex take."""
        return 2 * PANEL[0]

    def draw(
        self,
        figure: Figure,
        values: FloatArray,
        paint: Paint,
        *,
        left: float,
        labels: FloatArray | None = None,
    ) -> None:
        """Draw lateral views above medial ones, and the subcortical voxels below.

        Parameters
        ----------
        figure
            At least :attr:`height` high.
        values
            One value per column, (n_columns,).
        paint
            Turns values into colours.
        left
            Inches from the left of the figure.
        labels
            Regions of the columns, (n_columns,), whose borders are drawn as lines.
        """
        top = (figure.get_size_inches()[1] + self.height) / 2
        for side in self.meshes:
            across = left + (side == 'R') * PANEL[0]
            for row, outward in enumerate((side == 'R', side == 'L')):
                box = (across, top - TITLE - (row + 1) * PANEL[1], *PANEL)
                axis = self._view(figure, values, paint, box, side, labels, outward=outward)
                if row == 0:
                    axis.set_title(side, fontsize=7, weight='bold', pad=0)
        if self.has_voxels:
            self._draw_voxels(figure, values, paint, left, top - self.height)

    def draw_row(
        self, figure: Figure, values: FloatArray, paint: Paint, box: Sequence[float]
    ) -> None:
        """Draw the views beside each other in a box (left, bottom, width, height; inches).

        Parameters
        ----------
        figure
            That is drawn into.
        values
            Of all columns of the space, (n_columns,).
        paint
            Turns values into colours.
        box
            Left, bottom, width and height in inches.
        """
        left, bottom, width, height = box
        for side in self.meshes:
            for number, outward in enumerate((False, True)):
                place = left + (2 * (side == 'R') + number) * width / 4
                axis = self._view(
                    figure, values, paint, (place, bottom, width / 4, height), side, None,
                    outward=outward,
                )  # fmt: skip
                # the left one is first seen from outside, the right one from the middle
                view = 'lateral' if outward == (side == 'R') else 'medial'
                axis.set_title(f'{side} {view}', fontsize=7, pad=1)

    def _view(
        self,
        figure: Figure,
        values: FloatArray,
        paint: Paint,
        box: Sequence[float],
        side: Side,
        labels: FloatArray | None,
        *,
        outward: bool,
    ) -> Any:
        axis = add_axes(figure, box[0], box[1], box[2], box[3])
        axis.set_axis_off()
        axis.set_aspect('equal')
        regions = None if labels is None else self.on_mesh(labels, side)
        on_mesh = self.on_mesh(values, side)
        _draw_view(axis, self.meshes[side], on_mesh, paint, regions, outward=outward)
        return axis

    def on_mesh(self, values: FloatArray, side: Side) -> FloatArray:
        """Return values of the columns, (n_columns,), at the vertices of a mesh; NaN elsewhere.

        Parameters
        ----------
        values
            Shape (n_columns,).
        side
            ``L`` or ``R``.
        """
        n_vertices, vertices, columns = self.space.cortex(side)
        n = len(self.meshes[side].coordinates)
        full = np.full(max(n_vertices, n), np.nan)
        full[vertices] = values[columns]
        return full[:n]

    def _draw_voxels(
        self, figure: Figure, values: FloatArray, paint: Paint, left: float, bottom: float
    ) -> None:
        """Draw axial slices through the voxels, those of all structures in grey."""
        axis_of = self.space.axis
        inside = axis_of.volume_mask
        places = tuple(axis_of.voxel[inside].T)
        volume = np.full(axis_of.volume_shape, np.nan, dtype=np.float32)
        structure = np.zeros(axis_of.volume_shape, dtype=np.float32)
        volume[places], structure[places] = values[inside], 1
        volume, affine = canonical(nib.Nifti1Image(volume, axis_of.affine))
        structure, _ = canonical(nib.Nifti1Image(structure, axis_of.affine))
        there = np.argwhere(structure > 0)
        low, high = there.min(axis=0), there.max(axis=0) + 1
        box = (slice(low[0], high[0]), slice(low[1], high[1]))
        levels = np.unique(np.linspace(low[2] + 1, high[2] - 2, N_SLICES + 2).round()[1:-1])
        width = self.width / N_SLICES
        for number, z in enumerate(levels.astype(int)):
            panel = add_axes(
                figure, left + number * width, bottom, width - 0.05, SLICES_HEIGHT - 0.18
            )
            panel.set_axis_off()
            cut = structure[*box, z].T
            grey = np.stack([np.full_like(cut, 0.8)] * 3 + [(cut > 0).astype(cut.dtype)], axis=-1)
            panel.imshow(grey, origin='lower', aspect=aspect(affine), interpolation='nearest')
            colors = paint(volume[*box, z].T.astype(np.float64).ravel())
            panel.imshow(
                colors.reshape(*cut.shape, 4),
                origin='lower',
                aspect=aspect(affine),
                interpolation='nearest',
            )
            height = (affine @ [0, 0, z, 1])[2]
            panel.set_title(f'z = {height:.0f} mm', fontsize=7, weight='normal', pad=1)


def _draw_view(
    axis: Any,
    mesh: Mesh,
    values: FloatArray,
    paint: Paint,
    regions: FloatArray | None,
    *,
    outward: bool,
) -> None:
    """Draw one side of a hemisphere as seen from the right (``outward``) or the left."""
    from matplotlib.collections import LineCollection, TriMesh
    from matplotlib.tri import Triangulation

    sign = 1.0 if outward else -1.0
    flat = np.stack([sign * mesh.coordinates[:, 1], mesh.coordinates[:, 2]], axis=1)
    corners = mesh.coordinates[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    facing = sign * normal[:, 0]
    if _turned(corners, normal):
        facing = -facing
    seen = np.flatnonzero(facing > 0)
    seen = seen[np.argsort(sign * corners[seen, :, 0].mean(axis=1))]
    faces = mesh.faces[seen]
    shade = 0.6 + 0.4 * _at_vertices(np.maximum(facing, 0), mesh)[:, None]
    base = np.full(len(flat), 0.82)
    if mesh.depth is not None:
        base = np.where(mesh.depth > 0, 0.68, 0.85)
    painted = paint(values)
    alpha = painted[:, 3:]
    colors = np.ones((len(flat), 4))
    colors[:, :3] = alpha * painted[:, :3] * (0.25 + 0.75 * shade)
    colors[:, :3] += (1 - alpha) * base[:, None] * shade
    if len(faces):  # none of a flat patch that is seen from its edge
        shapes = TriMesh(Triangulation(flat[:, 0], flat[:, 1], faces), rasterized=True)
        shapes.set_facecolor(colors)
        # limits are set below: matplotlib would make a path of each face for them
        axis.add_collection(shapes, autolim=False)
    if regions is not None:
        axis.add_collection(
            LineCollection(
                _borders(flat, faces, regions), colors='0.45', linewidths=0.5, rasterized=True
            ),
            autolim=False,
        )
    margin = 2.0
    axis.set_xlim(flat[:, 0].min() - margin, flat[:, 0].max() + margin)
    axis.set_ylim(flat[:, 1].min() - margin, flat[:, 1].max() + margin)


def _at_vertices(values: FloatArray, mesh: Mesh) -> FloatArray:
    """Return the mean of the faces about each vertex, (n_vertices,)."""
    n = len(mesh.coordinates)
    corners = mesh.faces.ravel()
    total = np.bincount(corners, weights=np.repeat(values, 3), minlength=n)
    return np.asarray(total / np.maximum(np.bincount(corners, minlength=n), 1))


def _turned(corners: FloatArray, normal: FloatArray) -> bool:
    """Whether faces are wound so that their normals look inwards."""
    center = corners.reshape(-1, 3).mean(axis=0)
    outward = corners.mean(axis=1) - center
    return bool(np.einsum('ij,ij->i', normal, outward).mean() < 0)


def _borders(
    flat: FloatArray, faces: npt.NDArray[np.intp], regions: FloatArray
) -> list[FloatArray]:
    """Return the lines between regions: within a face of two regions, from edge to edge."""
    at = np.nan_to_num(regions[faces])
    lines = []
    for odd in range(3):  # the vertex that is alone in its region
        a, b = (odd + 1) % 3, (odd + 2) % 3
        alone = (at[:, a] == at[:, b]) & (at[:, odd] != at[:, a])
        here = faces[alone]
        one = (flat[here[:, odd]] + flat[here[:, a]]) / 2
        two = (flat[here[:, odd]] + flat[here[:, b]]) / 2
        lines += list(np.stack([one, two], axis=1))
    return lines


def painter(colormap: Any, low: float, high: float) -> Paint:
    """Return what turns values into colours; what is missing is transparent.

    Parameters
    ----------
    colormap
        Of matplotlib.
    low, high
        Values of its ends.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(low, high), colormap)

    def paint(values: FloatArray) -> FloatArray:
        colors = np.array(mappable.to_rgba(np.nan_to_num(values)), dtype=np.float64)
        colors[~np.isfinite(values), 3] = 0
        return colors

    return paint


def columns_of(image: Any) -> FloatArray:
    """Return one value per column of an image of a space, (n_columns,)."""
    values = np.asarray(image.dataobj, dtype=np.float64)
    return values.reshape(values.shape[0], -1)[:, 0]


def where_shown(sheet: Sheet, n_voxels: int, *, alone: bool = False) -> str:
    """Say, in a caption, what the views are.

    Parameters
    ----------
    sheet
        Meshes that there are.
    n_voxels
        Columns that have values.
    alone
        Whether no distribution stands beside the views.
    """
    parts = []
    if sheet.meshes:
        parts.append('Lateral (top) and medial views of the left (L) and right (R) hemisphere')
    elif sheet.space.form in {'gifti', 'cifti'}:
        shown = 'Only the distribution is shown'
        if alone:
            shown = 'The cortex is not shown' if sheet.has_voxels else 'In the order of the data'
        parts.append(f'{shown}, as {NO_MESH.format(label=sheet.space.label or "these surfaces")}')
    if sheet.has_voxels:
        parts.append('axial slices of the subcortical structures (grey)')
    if not parts:
        parts.append(f'One bar for each of the {n_voxels} parcels, in their order in the data')
    return ' ' + '; '.join(parts) + '.'


def draw_columns(
    figure: Figure, values: FloatArray, paint: Paint, box: Sequence[float], space: Space
) -> None:
    """Draw a bar for each parcel, or a line for each vertex, in the order of the columns.

    Parameters
    ----------
    figure
        That is drawn into.
    values
        One per column, (n_columns,).
    paint
        Turns values into colours.
    box
        Left, bottom, width and height in inches.
    space
        What the columns are.
    """
    axis = add_axes(figure, box[0], box[1], box[2], box[3])
    if space.form in {'parcels', 'pcifti'}:
        axis.bar(np.arange(len(values)), np.nan_to_num(values), color=paint(values), width=1.0)
    else:  # too many for bars
        axis.imshow(paint(values)[None], aspect='auto', interpolation='nearest')
        axis.set_yticks([])
    axis.set(xlabel=COLUMN[space.form].removeprefix('a '), xlim=(-1, len(values)))
