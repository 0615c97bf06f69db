"""Perturbing the region that carries the signal costs more than random voxels do."""

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.explain.perturbation import perturb, perturbation_effects

N_VOXELS = 60


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    responses = (3 + rng.normal(size=(40, N_VOXELS))).astype(np.float32)
    weights = np.zeros((N_VOXELS, 5))
    weights[:6] = rng.normal(size=(6, 5))
    weights[6:] = 0.05 * rng.normal(size=(N_VOXELS - 6, 5))
    truth = responses @ weights
    regions = {'planted': np.arange(N_VOXELS) < 6, 'idle': (np.arange(N_VOXELS) // 6) == 4}

    def predict(values):
        return values @ weights

    def correlation(prediction):
        return np.corrcoef(prediction.ravel(), truth.ravel())[0, 1]

    return responses, regions, predict, {'r': correlation}


def test_the_planted_region_is_found_and_the_idle_one_is_not(planted):
    responses, regions, predict, metrics = planted
    table = perturbation_effects(
        predict, responses, regions, metrics, rng=np.random.default_rng(1), n_random=99
    )
    rows = table.set_index(['region', 'kind'])
    assert list(table['metric'].unique()) == ['r']
    for kind in ('zero', 'noise', 'gain'):
        assert rows.loc[('planted', kind), 'p'] == pytest.approx(0.01)
        assert rows.loc[('planted', kind), 'change'] < -0.05
        assert rows.loc[('planted', kind), 'z'] < -3
        assert rows.loc[('idle', kind), 'p'] > 0.05
    assert (table['p_fdr'] >= table['p']).all()
    assert table['intact'].to_numpy() == pytest.approx(1)
    assert (table['perturbed'] - table['intact']).to_numpy() == pytest.approx(table['change'])


def test_p_values_of_no_effect_are_valid():
    rng = np.random.default_rng(0)
    weights, responses = rng.normal(size=N_VOXELS), rng.normal(size=(30, N_VOXELS))
    regions = {f'{k}': rng.permutation(N_VOXELS) < 8 for k in range(60)}
    table = perturbation_effects(
        lambda v: v @ weights, responses, regions, {'sd': np.std}, rng=rng, kinds=('zero',),
        n_random=39,
    )  # fmt: skip
    assert (table['p'] <= 0.1).mean() < 0.25
    assert 0.3 < table['p'].mean() < 0.7


def test_random_voxels_match_in_quality(planted):
    responses, _, _, metrics = planted
    quality = np.repeat([1.0, 2.0, 3.0], 20)
    region = {'best': np.arange(N_VOXELS) >= 50}
    seen = []

    def predict(values):
        seen.append(np.flatnonzero(np.ptp(values, axis=0) < 1e-6))
        return values @ np.ones((N_VOXELS, 5))

    perturbation_effects(
        predict, responses, region, metrics, rng=np.random.default_rng(0), kinds=('zero',),
        match=quality, n_bins=3, n_random=20,
    )  # fmt: skip
    intact, chosen, *random = seen
    assert not intact.size
    assert chosen.tolist() == list(range(50, 60))
    assert all(voxels.tolist() == list(range(40, 50)) for voxels in random)


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


def test_what_cannot_be_done(planted):
    responses, _, predict, metrics = planted
    arguments = {'metrics': metrics, 'rng': np.random.default_rng(0), 'n_random': 2}

    def run(region, **more):
        return perturbation_effects(predict, responses, {'V1': region}, **arguments, **more)

    with pytest.raises(DataError, match='V1 has no voxel'):
        run(np.zeros(N_VOXELS, dtype=bool))
    with pytest.raises(DataError, match='V1 must be a boolean array'):
        run(np.arange(5))
    with pytest.raises(DataError, match='V1 has 50 voxels where only 10'):
        run(np.arange(N_VOXELS) < 50)
    with pytest.raises(DataError, match='Matching needs one value a voxel'):
        run(np.arange(N_VOXELS) < 5, match=[1.0])
    with pytest.raises(ArgumentsError, match='No perturbation is called'):
        perturb(responses, [1], 'remove')
