"""The bank in torch gives the bank's own features, and slopes that finite differences confirm."""

import numpy as np
import pytest
import torch

from bids_neurodecode.stimuli.differentiable import DifferentiableGabor
from bids_neurodecode.stimuli.gabor import GaborPyramid

BANKS = [
    GaborPyramid(),
    GaborPyramid((1.0, 4.0), n_orientations=3, bandwidth=1.5, colour_grid=5),
    GaborPyramid(luminance_grid=0),
    GaborPyramid(colour_grid=0),
]


@pytest.mark.parametrize('size', [16, 30, 32])
@pytest.mark.parametrize('bank', BANKS)
def test_equals_the_bank(bank, size):
    pictures = np.random.default_rng(size).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    found = DifferentiableGabor(bank, size)(pixels)
    np.testing.assert_allclose(found, bank.transform(pictures), atol=2e-4)


def test_linear_maps_are_linear():
    """The moduli of the map's products are the energies of any luminance, uniform ones too."""
    bank, rng = GaborPyramid(), np.random.default_rng(0)
    luminance = np.concatenate([rng.random((2, 16, 16)), np.full((1, 16, 16), 0.7)])
    luminance = luminance.astype(np.float32)
    found = np.abs(luminance.reshape(3, -1) @ bank.linear_maps(16))
    wanted = [bank.energy(luminance, f).reshape(3, -1) for f in bank.frequencies_for((16, 16))]
    np.testing.assert_allclose(found, np.concatenate(wanted, axis=1), atol=1e-5)


@pytest.mark.parametrize('size', [24])
def test_slopes(size):
    module = DifferentiableGabor(GaborPyramid(), size).double()
    pixels = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(module(pixels).shape, dtype=torch.float64)
    (slope,) = torch.autograd.grad((module(pixels) * weights).sum(), pixels)
    step = torch.randn_like(pixels)
    with torch.no_grad():
        ahead, behind = ((module(pixels + sign * 1e-6 * step) * weights).sum() for sign in (1, -1))
    assert float((ahead - behind) / 2e-6) == pytest.approx(float((slope * step).sum()), rel=1e-5)
