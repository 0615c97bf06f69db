"""Encoding heads: published sizes, initialisation, masks, losses, and that they learn."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_neurodecode.errors import ArgumentsError, DataError

torch = pytest.importorskip('torch')

from bids_neurodecode.models.heads import (  # noqa: E402
    EncodingObjective,
    FitLoss,
    HeadDesign,
    Masked,
    Sine,
    count_parameters,
    make_head,
)

SHAPE = (5, 6, 7)
KINDS = ('linear', 'mlp', 'siren', 'cnn')


def small(kind: str, **changes) -> HeadDesign:
    fields = {'n_features': 48, 'shape': SHAPE, 'n_voxels': math.prod(SHAPE), 'hidden': 16}
    return HeadDesign(kind=kind, **{**fields, 'width': 4, **changes})


def test_published_network_of_figure_2():
    design = HeadDesign('cnn', 32 * 768, (81, 104, 83), 81 * 104 * 83)
    head = make_head(design)
    assert count_parameters(head) == 798_734
    head.eval()
    with torch.no_grad():
        planes = head.layers(torch.zeros(1, 32, 32, 24))
        assert planes.shape == (1, 81, 128, 96)
        assert head.volume(torch.randn(1, 32 * 768)).shape == (1, 81, 104, 83)
        assert head(torch.randn(1, 32 * 768)).shape == (1, 81 * 104 * 83)


def test_counts_by_hand():
    voxels = math.prod(SHAPE)
    assert count_parameters(make_head(small('linear'))) == 49 * voxels
    mlp = make_head(small('mlp', n_queries=6))
    assert count_parameters(mlp) == (8 * 16 + 16) + (16 * 4 + 4) + (6 * 4 * voxels + voxels)
    siren = make_head(small('siren', n_hidden=2))
    assert count_parameters(siren) == 49 * 16 + 2 * 17 * 16 + 17 * voxels


def test_768_queries_of_32_values():
    head = make_head(HeadDesign('mlp', 32 * 768, (10, 10, 10), 50, n_queries=768, width=4))
    assert head.layers[0].in_features == 32
    assert head.out.in_features == 768 * 4


@pytest.mark.parametrize('kind', KINDS)
def test_any_volume_and_masked_voxels(kind):
    torch.manual_seed(0)
    features = torch.randn(3, 48)
    head = make_head(small(kind)).eval()
    assert head(features).shape == (3, math.prod(SHAPE))
    mask = np.random.default_rng(0).random(SHAPE) < 0.4
    masked = make_head(small(kind, n_voxels=int(mask.sum())), mask).eval()
    assert masked(features).shape == (3, int(mask.sum()))


def test_masked_voxels_are_those_of_the_volume():
    mask = np.random.default_rng(1).random(SHAPE) < 0.4
    head = make_head(small('cnn', n_voxels=int(mask.sum())), mask).eval()
    assert isinstance(head, Masked)
    features = torch.randn(2, 48)
    with torch.no_grad():
        volume = head.head.volume(features).numpy()
        np.testing.assert_array_equal(head(features).numpy(), volume[:, mask])


def test_queries_do_not_mix_before_the_last_layer():
    torch.manual_seed(0)
    head = make_head(small('mlp', n_queries=6))
    one = torch.randn(1, 48)
    other = one.clone()
    other[:, 8:16] = torch.randn(1, 8)  # a shift alone is taken off again by a norm
    with torch.no_grad():
        a, b = (head.layers(x.reshape(1, 6, 8))[0] for x in (one, other))
    changed = ~torch.isclose(a, b).all(dim=1)
    assert changed.tolist() == [False, True, False, False, False, False]


def test_sine_layers_start_as_published():
    """Uniform weights within the published limits, and arcsine activations in every layer."""
    torch.manual_seed(0)
    n, w0 = 256, 30.0
    first = Sine(3, n, w0, first=True)
    layers = [Sine(n, n, w0, first=False) for _ in range(3)]
    for layer, limit in ((first, 1 / 3), *((x, math.sqrt(6 / n) / w0) for x in layers)):
        weights = layer.linear.weight.detach().numpy().ravel() / limit
        assert np.abs(weights).max() <= 1
        assert stats.kstest(weights, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    # weights give every layer a variance of 1 before the sine, PyTorch's biases w0^2 / 3n more
    deviation = math.sqrt(1 + w0**2 / (3 * n))
    with torch.no_grad():
        x = first(2 * torch.rand(2000, 3) - 1)
        for layer in layers:
            before = layer.linear(x) * w0
            assert float(before.std()) == pytest.approx(deviation, rel=0.06)
            x = layer(x)
            expected = math.sqrt((1 - math.exp(-2 * deviation**2)) / 2)
            assert float(x.std()) == pytest.approx(expected, rel=0.04)


def test_output_layer_of_the_siren_has_the_hidden_limit():
    head = make_head(small('siren'))
    limit = math.sqrt(6 / 16) / 30
    weights = head.out.weight.detach().abs()
    assert 0.9 * limit < float(weights.max()) <= limit


@pytest.mark.parametrize(('kind', 'expected'), [('l1', 1.5), ('l2', 3.125), ('huber', 1.0625)])
def test_losses(kind, expected):
    loss = FitLoss(kind)
    found = loss.error(torch.tensor([[0.5, 2.5]]), torch.zeros(1, 2))
    if kind == 'l2':
        expected = (0.25 + 6.25) / 2
    if kind == 'huber':
        expected = (0.125 + 2.0) / 2
    assert float(found) == pytest.approx(expected)


def test_weight_penalties_leave_biases_free_and_count_in_training_only():
    head = torch.nn.Linear(2, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, -4.0]]))
        head.bias.fill_(100.0)
    assert float(FitLoss(l1_weights=2.0).penalty(head)) == pytest.approx(14)
    assert float(FitLoss(l2_weights=2.0).penalty(head)) == pytest.approx(50)
    objective = EncodingObjective(head, FitLoss(l2_weights=1.0), 2)
    batch = torch.zeros(4, 2), torch.zeros(4, 1)
    assert float(objective(*batch)['penalty']) == pytest.approx(25)
    objective.eval()
    terms = objective(*batch)
    assert float(terms['loss']) == float(terms['error']) == pytest.approx(100.0**2)


@pytest.mark.parametrize(
    'kind', [*(k for k in KINDS if k != 'cnn'), pytest.param('cnn', marks=pytest.mark.slow)]
)
def test_heads_learn(kind):
    """Every head brings the error on its training samples well below that of the mean."""
    torch.manual_seed(0)
    features = torch.randn(40, 48)
    truth = torch.tanh(features @ torch.randn(48, math.prod(SHAPE)) / 7)
    head = make_head(small(kind, hidden=64, width=64))
    objective = EncodingObjective(head, FitLoss(), 48)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3 if kind != 'linear' else 1e-2)
    for _ in range(60):
        loss = objective(features, truth)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.6 * float(truth.var())


def test_design_round_trip():
    design = small('cnn', map_shape=(8, 3, 2))
    assert HeadDesign.from_description(design.describe()) == design
    as_json = {k: list(v) if isinstance(v, tuple) else v for k, v in design.describe().items()}
    assert HeadDesign.from_description(as_json) == design


def test_bad_designs():
    with pytest.raises(ArgumentsError, match='divides the features'):
        small('mlp', n_queries=5)
    with pytest.raises(ArgumentsError, match='maps that hold all features'):
        small('cnn', map_shape=(4, 3, 3))
    with pytest.raises(ArgumentsError, match='no more voxels than its volume'):
        small('cnn', n_voxels=1000)
    with pytest.raises(ArgumentsError, match='mask of an encoding head'):
        make_head(small('cnn', n_voxels=10))
    with pytest.raises(ArgumentsError, match='l1, l2 or huber'):
        FitLoss('cosine')
    objective = EncodingObjective(make_head(small('linear')), FitLoss(), 48)
    with pytest.raises(DataError, match=r'shape \(n, 48\)'):
        objective(torch.zeros(2, 47), torch.zeros(2, 210))
