"""Images move to decoded features as a least-squares problem says, where it can be solved."""

import dataclasses

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.models.matching import Matching, MatchingSettings
from bids_neurodecode.models.refiner import SmallRefiner
from bids_neurodecode.models.refiner_network import RefinerConfig, RefinerNetwork
from bids_neurodecode.standardizer import Standardizer


def problem(seed=0):
    rng = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(48, 48, generator=rng))[0]
    maps = torch.randn(48, 6, generator=rng) / 7
    pixels = torch.rand(3, 3, 4, 4, generator=rng) * 2 - 1
    wanted = torch.randn(3, 6, generator=rng)
    variances = torch.rand(1, 3, 4, 4, generator=rng) + 0.05
    return basis, maps, pixels, wanted, variances


def matching(basis, maps, limit=float('inf'), **told):
    return Matching(
        lambda x: x.flatten(1) @ maps,
        lambda w: (w.flatten(1) @ basis).view_as(w),
        MatchingSettings(**told),
        limit,
    )


@pytest.mark.parametrize('tolerance', [0.1, pytest.param(1.0, marks=pytest.mark.slow)])
def test_linear_features_give_the_posterior_mean(tolerance):
    basis, maps, pixels, wanted, variances = problem()
    moved = matching(basis, maps, tolerance=tolerance, rate=0.02).move(
        pixels, wanted, variances, 3000
    )
    prior = basis.T @ torch.diag(variances.flatten()) @ basis
    gain = prior @ maps @ torch.linalg.inv(maps.T @ prior @ maps + tolerance**2 * torch.eye(6))
    expected = pixels.flatten(1) + (wanted - pixels.flatten(1) @ maps) @ gain.T
    np.testing.assert_allclose(moved.flatten(1), expected, atol=5e-3)


@pytest.mark.slow
def test_features_that_are_decoded_worse_pull_less():
    basis, maps, pixels, wanted, variances = problem(2)
    missed = torch.tensor([0.0, 0.1, 0.5, 1.0, 4.0, 1e6])
    mover = dataclasses.replace(matching(basis, maps, rate=0.02), uncertainty=missed)
    moved = mover.move(pixels, wanted, variances, 3000)
    prior = basis.T @ torch.diag(variances.flatten()) @ basis
    error = torch.diag(missed + MatchingSettings().tolerance ** 2)
    gain = prior @ maps @ torch.linalg.inv(maps.T @ prior @ maps + error)
    expected = pixels.flatten(1) + (wanted - pixels.flatten(1) @ maps) @ gain.T
    np.testing.assert_allclose(moved.flatten(1), expected, atol=5e-3)


def test_each_picture_by_itself_and_none_without_updates():
    basis, maps, pixels, wanted, variances = problem(1)
    mover = matching(basis, maps)
    together = mover.move(pixels, wanted, variances, 30)
    alone = mover.move(pixels[1:2], wanted[1:2], variances, 30)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    torch.testing.assert_close(mover.move(pixels, wanted, variances, 0), pixels)


@pytest.mark.slow
def test_features_are_of_what_can_be_shown():
    """Better than to move without limits and to cut what lies beyond them."""
    basis, maps, pixels, wanted, variances = problem(4)
    mover = matching(basis, maps, limit=1.0, rate=0.02)
    moved = mover.move(pixels, 3 * wanted, variances, 2000)
    assert moved.abs().max() <= 1

    def loss(x):
        error = ((x - pixels).flatten(1) @ basis.T).square() / variances.flatten()
        missed = (x.flatten(1) @ maps - 3 * wanted).square().sum(1) / mover.settings.tolerance**2
        return (error.sum(1) + missed) / 2

    free = matching(basis, maps, rate=0.02).move(pixels, 3 * wanted, variances, 2000)
    assert (loss(moved) < loss(free.clamp(-1, 1))).all()


def test_a_picture_that_got_worse_stays():
    basis, maps, pixels, _, variances = problem(3)
    near = pixels.flatten(1) @ maps
    wild = matching(basis, maps, rate=5.0).move(pixels, near, variances, 1)
    torch.testing.assert_close(wild, pixels)


def test_gradients_do_not_leak_and_no_grad_is_overruled():
    basis, maps, pixels, wanted, variances = problem(2)
    with torch.no_grad():
        moved = matching(basis, maps).move(pixels, wanted, variances, 5)
    assert not moved.requires_grad
    assert (moved - pixels).abs().max() > 0.01


def test_errors():
    with pytest.raises(ArgumentsError, match=r'tolerance is 0\.0'):
        MatchingSettings(tolerance=0.0)
    with pytest.raises(ArgumentsError, match='n_step is -1'):
        MatchingSettings(n_step=-1)
    basis, maps, *_ = problem()
    network = RefinerNetwork(RefinerConfig(4, size=8, widths=(8, 16)))
    with pytest.raises(ArgumentsError, match='knows power spectra'):
        SmallRefiner(
            network, Standardizer(np.zeros(4), np.ones(4)), matching=matching(basis, maps)
        )
