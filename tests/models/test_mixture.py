"""Mixtures of discretised logistics against sums over all 256 levels, and their means."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.mixture import Mixture, Noise, to_uint8, to_unit


def mixture(n=1, size=1, n_components=3, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, size, size, 10 * n_components)
    return Mixture.from_channels(
        spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    )


@pytest.mark.parametrize('seed', range(3))
def test_blue_s_levels_together_leave_the_probability_of_red_and_green(seed):
    found = mixture(seed=seed)
    levels = to_unit(torch.arange(256, dtype=torch.float64))
    pixels = torch.full((256, 1, 1, 3), 0.2, dtype=torch.float64)
    pixels[..., 2] = levels[:, None, None]
    many = Mixture(*(v.expand(256, *v.shape[1:]) for v in vars(found).values()))
    total = torch.exp(-3 * many.nll(pixels)).sum()
    assert float(total) == pytest.approx(_probability_of_red_and_green(found, 0.2), rel=1e-9)


def _probability_of_red_and_green(found, value):
    """What SciPy's logistic gives for the first two colours, component by component."""
    weights = found.log_weights.exp()[0, 0, 0].numpy()
    scales = found.log_scales.exp()[0, 0, 0].numpy()
    means = found.means[0, 0, 0].numpy().copy()
    means[1] += found.coefficients[0, 0, 0, 0].numpy() * value
    half = 1 / 255
    cells = [
        logistic.cdf(value + half, means[c], scales[c])
        - logistic.cdf(value - half, means[c], scales[c])
        for c in (0, 1)
    ]
    return float((weights * cells[0] * cells[1]).sum())


def test_a_sharp_component_far_away_has_a_finite_likelihood_and_gradient():
    channels = torch.zeros(1, 1, 1, 10)
    channels[..., 1:4] = torch.tensor([0.9, -50.0, 0.0])  # of red: mean, log-scale, coefficient
    channels.requires_grad_()
    nll = Mixture.from_channels(channels).nll(torch.full((1, 1, 1, 3), -0.9)).sum()
    nll.backward()
    # exp(7) of the scale's floor times a distance of 1.8, over three colours
    assert float(nll.detach()) == pytest.approx(math.exp(7) * 1.8 / 3, rel=0.05)
    assert torch.isfinite(channels.grad).all()
    assert channels.grad.abs().max() > 1


def test_the_mean_is_deterministic_and_chains_the_colours():
    channels = torch.zeros(1, 1, 1, 10, dtype=torch.float64)
    channels[0, 0, 0, 1::3] = torch.tensor([0.5, 0.1, -0.2])  # means of red, green and blue
    channels[0, 0, 0, 3::3] = torch.tensor([0.3, -0.4, 0.6])  # before the tanh
    green = 0.1 + math.tanh(0.3) * 0.5
    blue = -0.2 + math.tanh(-0.4) * 0.5 + math.tanh(0.6) * green
    found = Mixture.from_channels(channels).mean()
    np.testing.assert_allclose(found[0, 0, 0], [0.5, green, blue])


def test_eight_bits_and_back():
    levels = torch.arange(256, dtype=torch.float64)
    found = to_uint8(to_unit(levels) + 1e-9)
    np.testing.assert_array_equal(found, np.arange(256))
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_channels_and_seeds_that_do_not_fit():
    with pytest.raises(DataError, match='15 channels cannot be that'):
        Mixture.from_channels(torch.zeros(1, 2, 2, 15))
    with pytest.raises(DataError, match=r'2 image\(s\), 1 seed\(s\)'):
        Noise([1]).normal(torch.zeros(2, 3))
