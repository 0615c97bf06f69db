"""A region that carries the signal costs more than sets like it; a null one does not."""

import numpy as np
import pytest
from scipy import ndimage

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.explain.perturbation import perturb, perturbation_effects
from bids_neurodecode.explain.placements import place_alike

SIDE = 12
PLACES = np.argwhere(np.ones((SIDE, SIDE, SIDE), dtype=bool))
N_VOXELS = len(PLACES)


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
        predict, responses, regions, metrics, positions=PLACES, rng=rng, n_random=99, **more
    )


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


def test_sets_are_like_the_region_and_not_in_it():
    rng = np.random.default_rng(0)
    region, responses = cube(3, 4, 4, side=2), smooth(rng, 40)
    accuracy = 1.0 * (PLACES[:, 0] < SIDE / 2)
    found = place_alike(region, PLACES, responses, accuracy, n_random=50, rng=rng)
    assert found.n_disjoint >= 20
    assert found.sets.shape == (50, 8)
    assert not region[found.sets].any()
    assert all(len(set(voxels)) == 8 for voxels in found.sets)
    deviation = PLACES[found.sets].var(axis=1).sum(axis=1) ** 0.5
    assert deviation == pytest.approx(PLACES[region].var(axis=0).sum() ** 0.5, rel=0.15)
    assert accuracy[found.sets].mean(axis=1).min() > 0.7  # none from the other half
    assert len(np.unique(found.sets[:, 0])) > 5
    spread = place_alike(region, PLACES, responses, 0 * accuracy, n_random=50, rng=rng)
    assert spread.n_disjoint > found.n_disjoint


def test_a_region_more_accurate_than_any_other_has_no_sets():
    rng = np.random.default_rng(0)
    region = cube(4, 4, 4)
    found = place_alike(region, PLACES, smooth(rng, 40), 1.0 * region, n_random=50, rng=rng)
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
    with pytest.raises(DataError, match='need the place of each voxel'):
        perturbation_effects(
            predict, responses, {'V1': cube(1, 1, 1)}, metrics, positions=PLACES[:5], rng=rng
        )
    with pytest.raises(ArgumentsError, match='No perturbation is called'):
        perturb(responses, [1], 'remove')
