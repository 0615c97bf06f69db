"""Who are neighbours: voxels that touch, vertices by edges, each within what is analysed."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from nibabel.cifti2.cifti2_axes import BrainModelAxis, ScalarAxis
from nilearn.maskers.nifti_spheres_masker import apply_mask_and_get_affinity
from scipy.sparse.csgraph import connected_components, dijkstra

from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.meshes import bridged, check_neighbours, neighbours, within_reach
from bids_neurodecode.spaces import Space
from tests.meshes import surfaces, write_mesh

AFFINE = np.array([[-2.0, 0, 0, 5], [0, 3, 0, 1], [0, 0, 1.5, 0], [0, 0, 0, 1]])
N_FSAVERAGE5 = 10242


def masked(inside, space=None) -> VoxelMask:
    inside = np.asarray(inside, dtype=bool)
    return VoxelMask(inside if space is None else inside.reshape(-1, 1, 1), AFFINE, space=space)


@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5)).filter(np.any))
def test_voxels_are_neighbours_where_they_touch(inside):
    found = neighbours(masked(inside)).toarray()
    places = np.argwhere(inside)
    apart = np.abs(places[:, None] - places[None])
    lengths = np.linalg.norm(apart * np.array([2.0, 3.0, 1.5]), axis=2)
    np.testing.assert_allclose(found, np.where(apart.max(axis=2) == 1, lengths, 0))


@given(
    arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5)).filter(np.any),
    st.floats(0.5, 8),
)
def test_balls_of_voxels_are_those_of_nilearn(inside, radius):
    places = np.argwhere(inside) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    mask = nib.Nifti1Image(inside.astype(np.uint8), AFFINE)
    _, expected = apply_mask_and_get_affinity(places, None, radius, True, mask_img=mask)
    found = within_reach(masked(inside), radius)
    assert [row.tolist() for row in found] == [sorted(row) for row in expected.rows]


def test_nothing_crosses_the_medial_wall_or_joins_the_hemispheres(tmp_path):
    """A strip of 7 vertices whose fourth is not analysed, and the same on the right."""
    places = np.stack([3.0 * np.arange(7), np.zeros(7), np.zeros(7)], axis=1)
    faces = np.stack([np.arange(6), np.arange(1, 7), np.arange(1, 7)], axis=1)
    for side in 'LR':
        folder = write_mesh(tmp_path, side, places, faces)
    inside = np.tile(np.arange(7) != 3, 2)
    mask = masked(inside, surfaces(7, 7))
    edges = neighbours(mask, [folder])
    assert edges.shape == (12, 12)
    n_pieces, piece = connected_components(edges)
    assert n_pieces == 4
    assert piece.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert edges[0, 1] == pytest.approx(3)
    near = within_reach(mask, 100.0, [folder])
    assert [row.tolist() for row in near[:4]] == [[0, 1, 2]] * 3 + [[3, 4, 5]]
    # what lies between chosen columns may be left out, but not the wall
    chosen = np.array([0, 2, 3, 5])
    n_pieces, piece = connected_components(bridged(edges, chosen))
    assert piece.tolist() == [0, 0, 1, 1]
    assert n_pieces == 2
    assert not bridged(edges, np.array([0, 3, 6])).nnz


@pytest.mark.slow
def test_ways_on_the_mesh_are_no_shortcuts():
    """Both banks of a sulcus of fsaverage5 are near in space and far along the cortex."""
    space = surfaces(N_FSAVERAGE5, N_FSAVERAGE5, label='fsaverage5')
    mask = masked(np.ones(2 * N_FSAVERAGE5), space)
    edges = neighbours(mask)
    counts = np.diff(edges.indptr)
    assert set(np.unique(counts)) == {5, 6}
    assert (counts == 5).sum() == 2 * 12  # a subdivided icosahedron
    assert (edges != edges.T).nnz == 0
    away = dijkstra(edges, indices=[0])[0]
    assert np.isfinite(away).sum() == N_FSAVERAGE5
    near = within_reach(mask, 8.0)
    assert near[0].tolist() == np.flatnonzero(away <= 8).tolist()
    assert 5 < len(near[0]) < 60


def test_structures_of_cifti_are_apart(tmp_path):
    """A vertex, two voxels of the thalamus, and one of the putamen that touches them."""
    folder = write_mesh(tmp_path, 'L', np.zeros((4, 3)), np.array([[0, 1, 2], [1, 2, 3]]))
    names = [f'CIFTI_STRUCTURE_{name}_LEFT' for name in ('THALAMUS', 'THALAMUS', 'PUTAMEN')]
    voxels = np.array([[1, 1, 1], [2, 1, 1], [3, 1, 1]])
    axis = BrainModelAxis.from_surface([1, 3], 4, 'CortexLeft')
    axis += BrainModelAxis(names, voxels, affine=AFFINE, volume_shape=(5, 5, 5))
    mask = masked(np.ones(5), Space(axis, 'cifti', 'fsnative'))
    edges = neighbours(mask, [folder]).toarray()
    assert np.argwhere(edges).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    assert edges[2, 3] == pytest.approx(2)
    near = within_reach(mask, 50.0, [folder])
    assert [row.tolist() for row in near] == [[0, 1], [0, 1], [2, 3], [2, 3], [4]]


def test_what_has_no_neighbours_is_refused_in_one_line(tmp_path):
    parcels = Space(ScalarAxis(['a', 'b']), 'parcels', 'MNI')
    with pytest.raises(DataError, match=r'A searchlight needs .* these data are parcels') as said:
        neighbours(masked([1, 1], parcels), what='A searchlight')
    assert '\n' not in str(said.value)
    with pytest.raises(DataError, match=r'needs the mesh of fsnative.*Put hemi-L_midthickness'):
        check_neighbours('A searchlight', surfaces(4, 4), [tmp_path / 'func'])
    # that of fsaverage5 has fewer vertices: it is good to look at, but says nothing of the others
    with pytest.raises(DataError, match='needs the mesh of fsaverage6'):
        check_neighbours('A searchlight', surfaces(40962, 40962, label='fsaverage6'))
    check_neighbours('A searchlight', None)
    check_neighbours('A searchlight', surfaces(N_FSAVERAGE5, label='fsaverage5'))
