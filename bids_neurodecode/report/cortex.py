"""Volumes of a template on the cortex of fsaverage5, and surfaces that can be rotated."""

from __future__ import annotations

import functools
import re
import warnings
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from bids_neurodecode.bids.maps import MapSpec
from bids_neurodecode.report.brain import color_limits, in_mask, with_heading
from bids_neurodecode.report.sheets import Sheet, columns_of, painter
from bids_neurodecode.report.slices import add_axes, color_bar
from bids_neurodecode.report.style import WIDTH, figure_style, new_figure
from bids_neurodecode.signals.meshes import N_FSAVERAGE5
from bids_neurodecode.spaces import HEMISPHERES, Space
from bids_neurodecode.typing import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 1.55
"""Inches of the row of views."""
GAP = 12.0
"""Millimetres between the hemispheres of the viewer."""
HOW = (
    'Sampled between the white and the pial surface of fsaverage5 (nilearn, mean of the voxels '
    'on the way), drawn inflated: left lateral, left medial, right medial, right lateral. Grey: '
    'no voxel of the mask. fsaverage is not the template of the data, so places are right to '
    'some millimetres; nothing is computed from this view.'
)
_NILEARN = (0, 14)
"""First version whose viewer of surfaces runs without further packages."""


def on_cortex(image: nib.Nifti1Image, mask: nib.Nifti1Image) -> tuple[Space, FloatArray]:
    """Sample a volume in MNI space along the cortex of fsaverage5.

    Parameters
    ----------
    image
        The map, 3-D.
    mask
        Voxels that have values, on the same grid.

    Returns
    -------
    Space
        Of fsaverage5.
    numpy.ndarray
        Shape (2 x 10,242,); NaN where no voxel of the mask is met.
    """
    from nilearn.surface import vol_to_surf

    meshes = _surfaces()
    with warnings.catch_warnings():
        # of vertices that meet no voxel of the mask
        warnings.filterwarnings('ignore', 'Mean of empty slice', RuntimeWarning)
        values = [
            vol_to_surf(
                image, meshes[f'pial_{side}'], inner_mesh=meshes[f'white_{side}'], mask_img=mask
            )
            for side in ('left', 'right')
        ]
    return _sheet().space, np.asarray(np.concatenate(values), dtype=np.float64).ravel()


@functools.cache
def _surfaces() -> dict[str, Any]:
    """Return the pial and the white surfaces of fsaverage5, by what nilearn calls them."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh

    files = fetch_surf_fsaverage('fsaverage5')
    names = (f'{kind}_{side}' for kind in ('pial', 'white') for side in ('left', 'right'))
    return {name: load_surf_mesh(files[name]) for name in names}


@functools.cache
def _sheet() -> Sheet:
    """Return what can be drawn of fsaverage5."""
    from nibabel.cifti2.cifti2_axes import BrainModelAxis

    left, right = (
        BrainModelAxis.from_surface(np.arange(N_FSAVERAGE5), N_FSAVERAGE5, name)
        for name in HEMISPHERES.values()
    )
    return Sheet.of(Space(left + right, 'gifti', 'fsaverage5'))


def plot_cortex(image: nib.Nifti1Image, spec: MapSpec, *, mask: nib.Nifti1Image) -> Figure | None:
    """Show a volume in MNI space on the inflated cortex; None where it does not reach it.

    Parameters
    ----------
    image
        The map, 3-D.
    spec
        Its title, units and colours, which are those of the slices.
    mask
        Voxels that have values.
    """
    low, high = color_limits(in_mask(image, spec, mask)[2], spec)
    _, values = on_cortex(image, mask)
    if not np.isfinite(values).any():
        return None
    with figure_style():
        figure = new_figure(HEIGHT + 0.2, layout='none')
        width = WIDTH - 0.95
        box = (0.05, 0.05, width, HEIGHT)
        paint = painter(spec.colormap, low, high)
        _sheet().draw_row(figure, spec.scale * values, paint, box)
        axis = add_axes(figure, width + 0.15, 0.2, 0.12, HEIGHT - 0.3)
        color_bar(figure, axis, spec.colormap, (low, high), spec.label)
    return figure


def can_turn(sheet: Sheet) -> bool:
    """Whether surfaces can be put into a viewer: there are meshes, and nilearn brings it."""
    from importlib.metadata import version

    found = tuple(int(part) for part in re.findall(r'\d+', version('nilearn'))[:2])
    return bool(sheet.meshes) and found >= _NILEARN


def surface_viewer(
    image: nib.Nifti1Image, spec: MapSpec, *, mask: nib.Nifti1Image, sheet: Sheet
) -> str:
    """Return a page on which surfaces can be turned (niivue, by nilearn), whole in one file.

    Parameters
    ----------
    image
        The map, one value per column.
    spec
        Its title, units and colours.
    mask
        Columns that are shown.
    sheet
        With the meshes; the hemispheres lie beside each other.
    """
    from nilearn.plotting import view_surf

    values = spec.scale * columns_of(image)
    inside = (columns_of(mask) > 0) & np.isfinite(values)
    low, high = color_limits(values[inside], spec)
    top = max(abs(low), abs(high))
    least = 0.02 * top
    coordinates, faces, shown, depth = [], [], [], []
    start = 0
    for side, mesh in sheet.meshes.items():
        where = mesh.coordinates.copy()
        edge = where[:, 0].max() + GAP / 2 if side == 'L' else where[:, 0].min() - GAP / 2
        where[:, 0] -= edge
        coordinates.append(where)
        faces.append(mesh.faces + start)
        shown.append(sheet.on_mesh(np.where(inside, values, np.nan), side))
        depth.append(np.zeros(len(where)) if mesh.depth is None else mesh.depth)
        start += len(where)
    page = view_surf(
        [np.concatenate(coordinates), np.concatenate(faces)],
        np.nan_to_num(np.concatenate(shown)),
        bg_map=np.concatenate(depth),
        cmap=_colors(spec, (low, high), (least, top)),
        threshold=least,
        vmax=top,
        engine='niivue',
    ).get_standalone()
    return with_heading(page, spec.label)


def _colors(spec: MapSpec, limits: tuple[float, float], shown: tuple[float, float]) -> Any:
    """Return the colours as the viewer takes them, which are those of the slices.

    Parameters
    ----------
    spec
        Names the colours.
    limits
        Values of the first and the last of them.
    shown
        Absolute values from which and up to which the viewer spreads its own: the upper half of
        what it is given for values above 0, the lower one, from the middle, for those below.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize

    above = np.linspace(*shown, 255)
    scale = Normalize(*limits, clip=True)
    return ListedColormap(colormaps[spec.colormap](scale(np.concatenate([-above[::-1], above]))))
