"""The brain that is simulated: nilearn's MNI152 template on a coarse grid, with regions.

The template in nilearn's package is the symmetric ICBM 2009a average (its file is
``mni_icbm152_t1_tal_nlin_sym_09a``), which BIDS calls ``MNI152NLin2009aSym``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
import pandas as pd

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

SPACE = 'MNI152NLin2009aSym'
ATLAS = 'Sim'
BASELINE = 10_000.0
"""Mean intensity of the series, so that 0.01 percent is one step of a 16-bit integer."""

TOO_COARSE = (
    'Voxels of {size:g} mm leave the region {region} without a voxel. Choose smaller voxels '
    '(voxel_size), such as 9.'
)

Role = Literal['early', 'colour', 'object', 'auditory', 'none']


@dataclass(frozen=True)
class Region:
    """A pair of ellipsoids, mirrored over the midline.

    ``centre`` (right hemisphere) and ``radii`` in mm (MNI); ``role`` says what it responds to.
    """

    name: str
    role: Role
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


REGIONS = (
    Region('EarlyVisual', 'early', (14, -84, 6), (32, 36, 40)),
    Region('Colour', 'colour', (28, -68, -18), (26, 32, 24)),
    Region('Object', 'object', (44, -52, -2), (28, 42, 40)),
    Region('Auditory', 'auditory', (54, -20, 8), (16, 20, 14)),
    Region('Frontal', 'none', (30, 40, 20), (20, 18, 20)),
)
"""Where two overlap, the nearer one (in units of its radii) has the voxel."""


@dataclass(frozen=True, eq=False)
class Brain:
    """Voxels of the mask and what is known about each, in the order of the mask.

    Parameters
    ----------
    mask
        Grid and mask.
    coordinates
        Voxel centres in mm, (n_voxels, 3).
    labels
        Index of the region of each voxel, 0 for none, (n_voxels,).
    csf, white_matter
        Tissue masks, (n_voxels,).
    baseline
        Mean intensity of each voxel, (n_voxels,).
    edge
        How near the edge of the brain a voxel is, from 0 (inside) to 1, (n_voxels,).
    """

    mask: VoxelMask
    coordinates: FloatArray
    labels: IndexArray
    csf: BoolArray
    white_matter: BoolArray
    baseline: FloatArray
    edge: FloatArray

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the mask."""
        return self.mask.n_voxels

    def role(self, *names: Role) -> BoolArray:
        """Return which voxels lie in regions of these roles, (n_voxels,)."""
        indices = [index for index, _, role in region_list() if role in names]
        return np.isin(self.labels, indices)

    def smooth_field(self, fwhm: float, rng: np.random.Generator) -> FloatArray:
        """Draw a Gaussian field of unit variance, smooth over ``fwhm`` mm, (n_voxels,).

        Parameters
        ----------
        fwhm
            Millimetres.
        rng
            Draws it.
        """
        from scipy.ndimage import gaussian_filter

        sigma = fwhm / 2.3548 / np.abs(np.diag(self.mask.affine)[:3])
        field = gaussian_filter(rng.standard_normal(self.mask.mask.shape), sigma, mode='wrap')
        values: FloatArray = field[self.mask.mask]
        standardised: FloatArray = (values - values.mean()) / values.std()
        return standardised


def region_list() -> list[tuple[int, str, Role]]:
    """Return index, name and role of every region: left then right hemisphere of each."""
    rows: list[tuple[int, str, Role]] = []
    for region in REGIONS:
        for side in ('LH', 'RH'):
            rows.append((len(rows) + 1, f'{side}_{region.name}', region.role))
    return rows


def atlas_table() -> pd.DataFrame:
    """Return the table of the atlas: columns ``index`` and ``name``."""
    return pd.DataFrame([(i, name) for i, name, _ in region_list()], columns=['index', 'name'])


def load_brain(voxel_size: float) -> Brain:
    """Lay a grid over the template.

    Parameters
    ----------
    voxel_size
        Side of the (cubic) voxels in mm.

    Raises
    ------
    ArgumentsError
        If a region would have no voxel.
    """
    from nilearn import datasets

    mask = _load_mask(voxel_size)
    coordinates = np.argwhere(mask.mask) * voxel_size + mask.affine[:3, 3]
    labels = label_voxels(coordinates)
    for index, name, _ in region_list():
        if not (labels == index).any():
            raise ArgumentsError(TOO_COARSE.format(size=voxel_size, region=name))
    grey, white = (
        _average(load(resolution=1), coordinates, voxel_size)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    edge = _edge(mask)
    inside = (labels == 0) & (edge < 0.5)
    # a coarse grid has few pure voxels: take the least mixed, so that neither set is empty
    csf = _top(np.where(inside, -(grey + white), -np.inf), max(5, mask.n_voxels // 100))
    white_matter = _top(np.where(inside & ~csf, white, -np.inf), max(10, mask.n_voxels // 20))
    baseline = BASELINE * (1 + 0.3 * csf - 0.1 * white_matter - 0.3 * edge)
    return Brain(mask, coordinates, labels, csf, white_matter, baseline, edge)


def label_voxels(coordinates: FloatArray) -> IndexArray:
    """Return the region index of each place in mm, 0 outside of all; (n, 3) to (n,)."""
    distances = []
    for region in REGIONS:
        for side in (-1, 1):
            centre = np.array(region.centre) * (side, 1, 1)
            inside = np.linalg.norm((coordinates - centre) / region.radii, axis=1)
            inside[coordinates[:, 0] * side < 0] = np.inf
            distances.append(inside)
    stacked = np.stack(distances)
    return np.where(stacked.min(axis=0) <= 1, stacked.argmin(axis=0) + 1, 0).astype(np.intp)


def _load_mask(voxel_size: float) -> VoxelMask:
    from nilearn import datasets

    source = datasets.load_mni152_brain_mask(resolution=1)
    low = source.affine[:3, 3]
    high = low + np.array(source.shape) - 1
    shape = tuple(int(n) for n in np.ceil((high - low) / voxel_size))
    affine: FloatArray = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = (low + high - (np.array(shape) - 1) * voxel_size) / 2
    voxels = np.argwhere(np.ones(shape, dtype=bool)).astype(np.float64)
    everywhere = voxels * voxel_size + affine[:3, 3]
    inside = _average(source, everywhere, voxel_size).reshape(shape) > 0.5
    return VoxelMask(inside, affine)


def _average(source: nib.Nifti1Image, places: FloatArray, size: float) -> FloatArray:
    """Average a 1-mm image of the template over cubes around places in mm, (n, 3) to (n,)."""
    from scipy.ndimage import map_coordinates, uniform_filter

    smoothed = uniform_filter(np.asarray(source.dataobj, dtype=np.float32), round(size))
    voxels = (places - source.affine[:3, 3]).T
    return np.asarray(map_coordinates(smoothed, voxels, order=1), dtype=np.float64)


def _edge(mask: VoxelMask) -> FloatArray:
    from scipy.ndimage import distance_transform_edt

    depth: FloatArray = distance_transform_edt(np.pad(mask.mask, 1))[1:-1, 1:-1, 1:-1][mask.mask]
    return np.exp(1 - depth)


def _top(score: FloatArray, n: int) -> BoolArray:
    chosen = np.zeros(score.size, dtype=bool)
    chosen[np.argsort(-score, kind='stable')[:n]] = True
    return chosen & np.isfinite(score)
