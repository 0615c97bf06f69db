"""A planted concept is found, random ones are not."""

import numpy as np
import pytest
import torch
from torch import nn

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.explain.concepts import (
    Examples,
    concept_sensitivity,
    concept_vectors,
    fit_logistic,
    layer_activations,
    layer_gradients,
)
from bids_neurodecode.explain.perturbation import chunk_properties, concept_rows

N_UNITS = 12


def examples(rng, n, unit=None, size=2.0):
    values = rng.normal(size=(n, N_UNITS)) * np.linspace(0.5, 2, N_UNITS)
    if unit is not None:
        values[:, unit] += size
    return values


def pictures(concept, others):
    rows = np.arange(len(concept) + len(others))
    return Examples(np.concatenate([concept, others]), rows < len(concept))


def gradients(rng, unit, sign=1):
    values = 0.3 * rng.normal(size=(50, N_UNITS))
    values[:, unit] += sign
    return values


def test_vectors_point_to_the_concept():
    rng = np.random.default_rng(0)
    found = concept_vectors(examples(rng, 60, unit=3, size=4), examples(rng, 60), rng=rng)
    assert found.vectors.shape == (20, N_UNITS)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1)
    assert np.median(found.vectors[:, 3]) > 0.8
    assert found.accuracy.mean() > 0.85
    nothing = concept_vectors(examples(rng, 90), examples(rng, 90), rng=rng)
    assert nothing.accuracy.mean() == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize('size', [0.0, 1.0, 8.0])
def test_many_logistic_regressions_are_those_of_scikit_learn(size):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(int(size))
    x = rng.normal(size=(6, 40, N_UNITS))
    x[:, :20, 3] += size  # 8: told apart without an error
    y = np.repeat([1.0, 0.0], 20)
    slopes, offsets = fit_logistic(x, y, 2.0)
    for k in range(6):
        model = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(x[k], y)
        np.testing.assert_allclose(slopes[k], model.coef_[0], atol=1e-4)
        assert offsets[k] == pytest.approx(model.intercept_[0], abs=1e-4)


@pytest.mark.parametrize('sign', [1, -1])
def test_planted_concept_is_found_and_others_are_not(sign):
    rng = np.random.default_rng(2)
    drawn = {
        'used': examples(rng, 30, unit=3),
        'unused': examples(rng, 30, unit=7),
        'random': examples(rng, 30),
    }
    others = examples(rng, 60)
    concepts = {name: pictures(values, others) for name, values in drawn.items()}
    table = concept_sensitivity(
        concepts, gradients(rng, 3, sign), rng=rng, n_permutations=19
    ).set_index('concept')
    assert table.loc['used', 'p_fdr'] == pytest.approx(0.15)  # the least that 19 can give
    assert table.loc['used', 'p'] == pytest.approx(0.05)
    assert np.sign(table.loc['used', 'alignment']) == sign
    assert (table.loc['used', 'sensitivity'] > 0.9) == (sign == 1)
    assert (table.loc['used', 'sensitivity'] < 0.1) == (sign == -1)
    assert table.loc[['unused', 'random'], 'p'].min() > 0.05
    # the classifier is right of a concept that the output does not use
    assert table.loc['unused', 'accuracy'] > 0.7


def test_random_concepts_are_significant_no_more_often_than_they_should():
    rng = np.random.default_rng(5)
    others = examples(rng, 12)[:, :4]
    concepts = {f'{k}': pictures(examples(rng, 12)[:, :4], others) for k in range(12)}
    # one direction for all samples: sign fractions are near 0 or 1 for many a concept
    slopes = np.tile([1.0, 0.2, -0.3, 0.5], (30, 1))
    table = concept_sensitivity(concepts, slopes, rng=rng, n_permutations=9)
    assert ((table['sensitivity'] <= 0.2) | (table['sensitivity'] >= 0.8)).mean() > 0.3
    assert (table['p'] <= 0.1).mean() <= 0.34


def test_a_random_concept_of_film_is_as_contiguous():
    films = np.repeat(['a', 'b'], [60, 40])
    inside = np.zeros(100, dtype=bool)
    inside[5:20] = inside[70:75] = True
    scene = Examples(np.zeros((100, 3)), inside, films)
    rng, seen = np.random.default_rng(0), set()
    assert 0 in scene.shifts
    for _ in range(200):
        drawn = scene.random(scene.shifts, rng)
        assert drawn.sum() == 20
        new = drawn & np.r_[True, ~drawn[:-1] | (films[1:] != films[:-1])]
        assert new.sum() == 2  # as many stretches, none over the end or into another film
        seen.add(drawn.tobytes())
    assert len(seen) > 20


def test_a_scene_of_autocorrelated_activations_is_not_significant_for_being_one():
    p, accuracy = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        units = rng.normal(size=(150, 8))
        for row in range(1, 150):
            units[row] = 0.9 * units[row - 1] + np.sqrt(1 - 0.81) * units[row]
        start = rng.integers(121)
        inside = (np.arange(150) >= start) & (np.arange(150) < start + 30)
        scene = Examples(units, inside, np.zeros(150))
        table = concept_sensitivity(
            {'scene': scene}, rng.normal(size=(1, 8)), rng=rng, n_permutations=9
        )
        p.append(table.p[0])
        accuracy.append((table.accuracy[0], table.accuracy_random[0]))
    assert np.mean(np.array(p) <= 0.1) < 0.3
    # told from the rest whatever it shows, as any stretch is
    assert np.mean(accuracy, axis=0) == pytest.approx([0.85, 0.85], abs=0.1)


def test_a_concept_that_fits_at_few_times_has_no_p():
    rng = np.random.default_rng(0)
    inside = np.arange(40) < 30
    rare = Examples(examples(rng, 40), inside, np.zeros(40))
    assert len(rare.shifts) < 20
    table = concept_sensitivity({'rare': rare}, gradients(rng, 3), rng=rng, n_permutations=19)
    assert np.isnan(table[['p', 'p_fdr', 'accuracy_random']].to_numpy()).all()
    assert np.isfinite(table.alignment[0])


def test_what_cannot_be_done():
    rng = np.random.default_rng(0)
    a, b = examples(rng, 20), examples(rng, 20)
    with pytest.raises(DataError, match='The concept faces needs at least 10'):
        concept_sensitivity({'faces': pictures(a[:4], b)}, a, rng=rng, n_permutations=1)
    with pytest.raises(DataError, match='the same number of columns'):
        concept_sensitivity({'faces': pictures(a, b)}, a[:, :3], rng=rng, n_permutations=1)
    with pytest.raises(DataError, match='one film label an example: 20 examples, 7 labels'):
        concept_sensitivity({'a': Examples(a, a[:, 0] > 0, np.zeros(7))}, a, rng=rng)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.drop(self.conv(x)).mean((2, 3)))


def test_layers_are_read_without_a_trace():
    torch.manual_seed(0)
    network, images = Network().train(), torch.rand(9, 3, 6, 6)
    activations = layer_activations(network, 'conv', images, batch_size=4)
    slopes = layer_gradients(network, 'conv', images, lambda out: out[:, 1], batch_size=4)
    expected = network.conv(images).mean((2, 3)).detach().numpy()
    assert activations == pytest.approx(expected, abs=1e-6)
    # a change of a channel at all positions changes its mean by as much
    weight = network.head.weight[1].detach().numpy()
    assert slopes == pytest.approx(np.tile(weight, (9, 1)), abs=1e-6)
    assert network.training
    assert not images.requires_grad
    assert not network.conv._forward_hooks
    assert all(p.grad is None for p in network.parameters())
    with pytest.raises(ArgumentsError, match='Layers: conv, drop, head'):
        layer_activations(network, 'pool', images)


def test_properties_of_film():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (1, 1, 12, 12, 3)), 6, axis=1)
    moving = rng.integers(0, 256, (1, 6, 12, 12, 3))
    grey = np.full((1, 6, 12, 12, 3), 51)
    found = chunk_properties(np.concatenate([still, moving, grey]).astype(np.uint8))
    assert found['motion'][0] == 0
    assert found['motion'][1] > 0.1
    assert found['brightness'][2] == pytest.approx(0.2)
    assert found['contrast'][2] == pytest.approx(0, abs=1e-9)
    assert found['edges'][0] > 0.05 > found['edges'][2]
    with pytest.raises(DataError, match='Chunks must be bytes'):
        chunk_properties(still.astype(float))


def test_rows_of_a_concept():
    values = np.arange(20.0)
    assert np.flatnonzero(concept_rows(values, share=0.25)).tolist() == [15, 16, 17, 18, 19]
    with pytest.raises(DataError, match='leaves none'):
        concept_rows(values, share=0.01)
