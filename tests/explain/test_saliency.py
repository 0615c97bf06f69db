"""Saliency finds the planted voxels and counts regions by their size."""

import numpy as np
import pytest
import torch
from torch import nn

from bids_neurodecode.errors import DataError
from bids_neurodecode.explain.saliency import saliency_by_region, voxel_saliency
from bids_neurodecode.models.losses import ssim
from bids_neurodecode.models.perceptual import stretch

N_VOXELS, PLANTED = 40, slice(10, 16)


class Painter(nn.Module):
    """A decoder that reads six voxels only, each the height of one bump."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        pictures = nn.functional.avg_pool2d(
            torch.randn(6, 3, 22, 22, generator=generator), 5, 1, 2
        )
        self.pictures = nn.Parameter(pictures.flatten(1))

    def forward(self, responses):
        frames = torch.sigmoid(3 * responses[:, PLANTED] @ self.pictures)
        return frames.unflatten(1, (3, 22, 22))


@pytest.fixture(scope='module')
def film():
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(30, N_VOXELS)).astype(np.float32)
    with torch.no_grad():
        frames = Painter()(torch.from_numpy(responses))
    noise = 0.1 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return responses, (frames + noise).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def test_planted_voxels_are_found(film):
    saliency = voxel_saliency(Painter(), *film, batch_size=7)
    assert saliency.shape == (N_VOXELS,)
    planted = np.zeros(N_VOXELS, dtype=bool)
    planted[PLANTED] = True
    assert (saliency[planted] > 0).all()
    assert (saliency[~planted] == 0).all()
    assert voxel_saliency(Painter(), *film, batch_size=30) == pytest.approx(saliency, rel=1e-4)


def test_it_is_the_derivative_of_the_similarity(film):
    responses, frames = film[0][:3], film[1][:3]
    truth = stretch(torch.from_numpy(frames).permute(0, 3, 1, 2), (1, 2, 3)).double()
    painter = Painter().double()

    def score(values):
        with torch.no_grad():
            return ssim(stretch(painter(values), (1, 2, 3)), truth)

    step, base = 1e-5, torch.from_numpy(responses).double()
    expected = np.zeros(N_VOXELS)
    for voxel in range(*PLANTED.indices(N_VOXELS)):
        shift = torch.zeros_like(base)
        shift[:, voxel] = step
        slope = (score(base + shift) - score(base - shift)) / (2 * step)
        expected[voxel] = slope.abs().sum()
    found = voxel_saliency(Painter(), responses, frames)
    assert found == pytest.approx(expected, rel=0.02, abs=1e-5)


def test_the_decoder_is_left_as_it_was(film):
    painter = Painter().train()
    voxel_saliency(painter, *film)
    assert painter.training
    assert all(p.grad is None for p in painter.parameters())


def test_regions_are_counted_by_size():
    saliency = np.linspace(0, 0.1, 100)
    saliency[:10] += 1.0  # a small region, all salient
    labels = np.repeat([7, 8, 9], [10, 60, 30])
    table = saliency_by_region(saliency, labels, {7: 'small', 8: 'large'})
    rows = table.set_index('region')
    assert list(rows.index[:1]) == ['small']
    assert rows.loc['small', 'share'] == pytest.approx(0.5)
    assert rows.loc['small', 'relative'] == pytest.approx(5.0)
    assert rows.loc['other', 'n_voxels'] == 30
    assert rows['share'].sum() == pytest.approx(1)
    assert (rows['relative'] * rows['size']).sum() == pytest.approx(1)
    assert rows.loc['small', 'mean_relative'] > 5


def test_saliency_by_chance_has_relative_one():
    rng = np.random.default_rng(0)
    table = saliency_by_region(rng.random(20_000), rng.integers(0, 4, 20_000), {0: 'a', 1: 'b'})
    assert table['relative'].to_numpy() == pytest.approx(1, abs=0.06)


def test_what_does_not_fit(film):
    responses, frames = film
    with pytest.raises(DataError, match='30 responses, 29 frames'):
        voxel_saliency(Painter(), responses, frames[:-1])
    with pytest.raises(DataError, match=r'in \[0, 1\]'):
        voxel_saliency(Painter(), responses, 2 * frames)
    with pytest.raises(DataError, match='one region label a voxel'):
        saliency_by_region(np.ones(5), [1, 2], {})
    with pytest.raises(DataError, match='No voxel has any saliency'):
        saliency_by_region(np.zeros(5), np.ones(5), {})
