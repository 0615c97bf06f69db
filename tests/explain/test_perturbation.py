"""A region that carries the signal costs more than sets like it; a null one does not."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.explain.perturbation import perturb, perturbation_effects
from bids_neurodecode.explain.placements import place_alike
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.meshes import bridged, neighbours
from tests.meshes import surfaces, write_mesh

SIDE = 12
PLACES = np.argwhere(np.ones((SIDE, SIDE, SIDE), dtype=bool))
N_VOXELS = len(PLACES)
EDGES = neighbours(VoxelMask(np.ones((SIDE, SIDE, SIDE), dtype=bool), np.eye(4)))
WIDE = 40


def smooth(rng, n):
    """n maps of a smoothness of 2.5 voxels, (n, n_voxels)."""
    maps = rng.standard_normal((n, SIDE, SIDE, SIDE))
    maps = ndimage.gaussian_filter(maps, 2.5 / 2.3548, mode='wrap', axes=(1, 2, 3))
    return (maps / maps.std()).reshape(n, -1)


def cube(*corner, side=3):
    start = np.array(corner)
    return ((start <= PLACES) & (start + side > PLACES)).all(axis=1)


def world(rng, planted=None):
    responses = smooth(rng, 40).astype(np.float32)
    weights = smooth(rng, 4).T
    if planted is not None:
        weights[planted] *= 8
    truth = responses @ weights
    truth = truth + truth.std() * rng.standard_normal(truth.shape)
    return responses, lambda v: v @ weights, {'r': lambda x: np.corrcoef(x.flat, truth.flat)[0, 1]}


def effects(rng, regions, planted=None, **more):
    responses, predict, metrics = world(rng, planted)
    return perturbation_effects(
        predict, responses, regions, metrics, neighbours=EDGES, rng=rng, n_random=99, **more
    )


@pytest.mark.slow
def test_the_planted_region_is_found_and_the_idle_one_is_not():
    regions = {'planted': cube(2, 3, 4), 'idle': cube(8, 8, 2)}
    table = effects(np.random.default_rng(1), regions, regions['planted'])
    rows = table.set_index(['region', 'kind'])
    assert (table['n_disjoint'] >= 20).all()
    for kind in ('zero', 'noise', 'gain'):
        planted = rows.loc[('planted', kind)]
        assert planted.p < 0.06
        assert planted.p >= 1 / (planted.n_disjoint + 1)
        assert planted.change < -0.01
        assert planted.z < -3
        assert rows.loc[('idle', kind), 'p'] > 0.06
    assert (table['p_fdr'] >= table['p']).all()
    assert (table['perturbed'] - table['intact']).to_numpy() == pytest.approx(table['change'])


@pytest.mark.slow
def test_contiguous_regions_of_smooth_data_are_not_significant_for_being_contiguous():
    p = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        corners = rng.integers(0, SIDE - 3, size=(3, 3))
        regions = {str(k): cube(*corner) for k, corner in enumerate(corners)}
        p.append((effects(rng, regions, kinds=('zero',))['p'] <= 0.1).mean())
    assert np.mean(p) < 0.3


def test_too_few_places_give_no_p_and_no_comparison():
    large = cube(0, 0, 0, side=6)
    table = effects(np.random.default_rng(0), {'large': large}, kinds=('zero',))
    assert table['n_disjoint'].tolist() == [0]
    missing = ['random_mean', 'random_sd', 'z', 'p', 'p_fdr']
    assert np.isnan(table[missing].to_numpy()).all()
    assert np.isfinite(table['change'][0])


def ball(*center):
    """Seven voxels: one and those that share its faces."""
    return np.abs(PLACES - center).sum(axis=1) <= 1


def touching(sets):
    """Neighbours that the voxels of each set have in it, by their places."""
    apart = np.abs(PLACES[sets][:, :, None] - PLACES[sets][:, None]).max(axis=-1)
    return (apart == 1).sum(axis=(1, 2)) / sets.shape[1]


def test_sets_are_like_the_region_and_not_in_it():
    rng = np.random.default_rng(0)
    region, responses = ball(3, 4, 4), smooth(rng, 40)
    accuracy = 1.0 * (PLACES[:, 0] < SIDE / 2)
    found = place_alike(region, EDGES, responses, accuracy, n_random=50, rng=rng)
    assert found.n_disjoint >= 20
    assert found.sets.shape == (50, 7)
    assert not region[found.sets].any()
    assert all(len(set(voxels)) == 7 for voxels in found.sets)
    own = 1 + touching(np.flatnonzero(region)[None])
    assert 1 + touching(found.sets) == pytest.approx(np.repeat(own, 50), rel=0.15)
    assert accuracy[found.sets].mean(axis=1).min() > 0.7  # none from the other half
    assert len(np.unique(found.sets[:, 0])) > 5
    spread = place_alike(region, EDGES, responses, 0 * accuracy, n_random=50, rng=rng)
    assert spread.n_disjoint > found.n_disjoint


def test_pieces_of_a_region_are_placed_each_by_itself():
    """A region of both halves: its sets have two pieces of as many voxels, too."""
    rng = np.random.default_rng(0)
    region = ball(1, 4, 4) | ball(9, 4, 4)
    responses = rng.standard_normal((40, N_VOXELS))
    found = place_alike(region, EDGES, responses, np.zeros(N_VOXELS), n_random=30, rng=rng)
    assert found.n_disjoint >= 20
    for voxels in found.sets:
        n_pieces, piece = connected_components(EDGES[voxels][:, voxels])
        assert n_pieces == 1 or (n_pieces == 2 and np.bincount(piece).tolist() == [7, 7])
        assert len(set(voxels)) == 14


def sheet_world(rng, planted):
    """A flat sheet of smooth columns; those of the planted region feed the output most."""
    maps = ndimage.gaussian_filter(rng.standard_normal((44, WIDE, WIDE)), (0, 1.2, 1.2))
    maps = maps.reshape(44, -1) / maps.std()
    responses, weights = maps[:40].astype(np.float32), maps[40:].T
    weights[planted] *= 8
    truth = responses @ weights
    truth = truth + truth.std() * rng.standard_normal(truth.shape)
    return responses, lambda v: v @ weights, {'r': lambda x: np.corrcoef(x.flat, truth.flat)[0, 1]}


@pytest.mark.slow
def test_the_same_sheet_as_voxels_and_as_a_mesh_gives_the_same_answer(tmp_path):
    """Squares have four neighbours and triangles six: p agrees, what is lost is the same."""
    where = np.stack(np.divmod(np.arange(WIDE**2), WIDE), axis=1)
    number = np.arange(WIDE**2).reshape(WIDE, WIDE)
    a, b, c, d = (number[x, y].ravel() for x in np.s_[:-1, 1:] for y in np.s_[:-1, 1:])
    faces = np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])
    places = 2.0 * np.column_stack([where, np.zeros(WIDE**2)])
    folder = write_mesh(tmp_path, 'L', places, faces)
    inside = np.ones((WIDE, WIDE, 1), dtype=bool)
    masks = (
        VoxelMask(inside, np.diag([2.0, 2, 2, 1])),
        VoxelMask(inside.reshape(-1, 1, 1), np.eye(4), space=surfaces(WIDE**2)),
    )
    regions = {
        name: (np.abs(where - center) <= 2).all(axis=1)
        for name, center in (('planted', (10, 12)), ('idle', (30, 28)))
    }
    found = []
    for mask in masks:
        rng = np.random.default_rng(4)
        responses, predict, metrics = sheet_world(rng, regions['planted'])
        edges = bridged(neighbours(mask, [folder]), np.arange(WIDE**2))
        found.append(
            perturbation_effects(
                predict, responses, regions, metrics, neighbours=edges, rng=rng, kinds=('zero',)
            ).set_index('region')
        )
    volume, surface = found
    np.testing.assert_allclose(volume['change'], surface['change'])
    for table in found:
        assert (table['n_disjoint'] >= 20).all()
        assert table.loc['planted', 'p'] < 0.06 < 0.2 < table.loc['idle', 'p']
    assert volume.loc['planted', 'p'] == pytest.approx(surface.loc['planted', 'p'], abs=0.02)
    assert volume.loc['planted', 'z'] == pytest.approx(surface.loc['planted', 'z'], rel=0.3)


def test_a_region_more_accurate_than_any_other_has_no_sets():
    rng = np.random.default_rng(0)
    region = cube(4, 4, 4)
    found = place_alike(region, EDGES, smooth(rng, 40), 1.0 * region, n_random=50, rng=rng)
    assert (found.n_disjoint, len(found.sets)) == (0, 0)


@pytest.mark.parametrize('kind', ['zero', 'noise', 'gain'])
def test_only_the_voxels_are_disturbed(kind):
    rng = np.random.default_rng(0)
    responses = (5 + rng.normal(size=(2000, 4))).astype(np.float32)
    voxels = np.array([False, True, False, True])
    disturbed = perturb(responses, voxels, kind, gain=4.0, rng=rng)
    assert np.array_equal(disturbed[:, ~voxels], responses[:, ~voxels])
    assert np.array_equal(perturb(responses, voxels, 'zero'), perturb(responses, [1, 3], 'zero'))
    assert disturbed.mean(axis=0) == pytest.approx(5, abs=0.2)
    deviation = disturbed[:, voxels].std(axis=0)
    expected = {'zero': 0, 'noise': 1, 'gain': 4}[kind]
    assert deviation == pytest.approx(expected, abs=0.2)
    if kind == 'noise':
        r = np.corrcoef(disturbed[:, 1], responses[:, 1])[0, 1]
        assert abs(r) < 0.1


def test_what_cannot_be_done():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match='V1 has no voxel'):
        effects(rng, {'V1': np.zeros(N_VOXELS, dtype=bool)})
    with pytest.raises(DataError, match='V1 must be a boolean array'):
        effects(rng, {'V1': np.arange(5)})
    with pytest.raises(DataError, match='Matching needs one value per voxel'):
        effects(rng, {'V1': cube(1, 1, 1)}, accuracy=[1.0])
    responses, predict, metrics = world(rng)
    with pytest.raises(DataError, match='need the neighbours of each voxel'):
        perturbation_effects(
            predict, responses, {'V1': cube(1, 1, 1)}, metrics, neighbours=EDGES[:5], rng=rng
        )
    with pytest.raises(ArgumentsError, match='No perturbation is called'):
        perturb(responses, [1], 'remove')
