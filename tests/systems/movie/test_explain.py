"""A planted region and a planted concept are found, others are not."""

import numpy as np
import pytest
import torch
from torch import nn

from bids_neurodecode.config import build_config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.meshes import neighbours
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.movie.explain import (
    LEFT_OUT,
    NO_ACCURACY,
    NO_ENCODER,
    NO_REGION,
    TOO_FEW_CHUNKS,
    TOO_FEW_PLACES,
    explain_concepts,
    explain_perturbation,
    film_concepts,
    regions_of,
)
from bids_neurodecode.systems.movie.network import MovieNetwork
from bids_neurodecode.systems.movie.setup import network_settings
from bids_neurodecode.systems.movie.study import network_saliency

N_VOXELS, SIDE = 40, 16
LABELS = np.repeat([1, 2, 3, 4], 10)
NAMES = {1: 'seeing', 2: 'moving', 3: 'idle', 4: 'resting'}


def settings(**movie):
    return build_config({'movie': {'design': 'small', 'frame_size': SIDE, **movie}}).movie


class Painter(nn.Module):
    """Grey frames whose ten stripes are the responses of the first region."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, responses):
        stripes = torch.sigmoid(self.scale * responses[:, :10]).repeat_interleave(2, 1)[:, :SIDE]
        return stripes[:, None, :, None].expand(-1, 3, SIDE, SIDE)


class Merge(nn.Module):
    """Mean brightness, mean change from frame to frame, and a unit that is always the same."""

    def forward(self, chunks):
        change = (chunks[..., 1:] - chunks[..., :-1]).abs().mean((1, 2, 3, 4))
        bright = chunks.mean((1, 2, 3, 4))
        return torch.stack([bright, change, 0 * bright], dim=1)[:, :, None, None]


class Watcher(nn.Module):
    """The second region responds to change, the third to brightness."""

    def __init__(self):
        super().__init__()
        self.merge = Merge()
        self.readout = nn.Linear(3, N_VOXELS, bias=False)
        weights = torch.zeros(N_VOXELS, 3)
        weights[10:20, 1] = 1.0
        weights[20:30, 0] = 1.0
        self.readout.weight = nn.Parameter(weights)

    def forward(self, chunks):
        return self.readout(self.merge(chunks).flatten(1))


def network(encoder=None, decoder=None, n_voxels=N_VOXELS):
    own = network_settings(settings(), n_voxels, 0, 'cpu')
    return MovieNetwork(encoder, decoder, Standardizer(np.zeros(n_voxels), np.ones(n_voxels)), own)


def film(n, rng):
    """Chunks whose brightness and whose motion have nothing to do with each other."""
    bright = rng.uniform(60, 190, (n, 1, 1, 1, 1))
    flicker = rng.uniform(0, 60, (n, 1, 1, 1, 1))
    values = bright + flicker * rng.uniform(-1, 1, (n, 16, SIDE, SIDE, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def touching(n):
    """Neighbours among the voxels of a sheet of rows of five."""
    return neighbours(VoxelMask(np.ones((n // 5, 5, 1), dtype=bool), np.eye(4)))


@pytest.mark.slow
def test_the_region_that_paints_is_found():
    rng = np.random.default_rng(0)
    responses = 3 * rng.normal(size=(60, 400)).astype(np.float32)
    model = network(decoder=Painter(), n_voxels=400)
    truth = model.reconstruct(responses)
    labels = np.zeros(400, dtype=int)
    labels[:10], labels[205:215] = 1, 3
    found = explain_perturbation(
        model, responses, truth, labels, NAMES, settings(explain_random=199),
        neighbours=touching(400), accuracy=np.full(400, 0.3), rng=rng,
    )  # fmt: skip
    assert found.notes == ()
    table = found.table.set_index('region')
    seen, idle = table.loc['seeing'], table.loc['idle']
    assert (seen.p < 0.05).all()
    assert (seen.change < 0).all()
    assert idle.change.abs().max() == pytest.approx(0, abs=1e-6)
    assert (table.n_disjoint >= 20).all()


def test_too_few_places_and_no_accuracy_are_said():
    rng = np.random.default_rng(0)
    responses = 3 * rng.normal(size=(60, N_VOXELS)).astype(np.float32)
    model = network(decoder=Painter())
    truth = model.reconstruct(responses)
    found = explain_perturbation(
        model, responses, truth, LABELS, NAMES, settings(), neighbours=touching(N_VOXELS),
        accuracy=None, rng=rng,
    )  # fmt: skip
    assert np.isnan(found.table[['p', 'p_fdr', 'random_mean']].to_numpy()).all()
    line = TOO_FEW_PLACES.format(
        n=4, total=4, least=20, accuracy='', names='seeing, moving, idle, resting'
    )
    assert found.notes == (NO_ACCURACY, line)


def test_voxels_that_never_vary_have_no_saliency_whatever_their_slopes():
    rng = np.random.default_rng(4)
    responses = rng.normal(size=(30, N_VOXELS)).astype(np.float32)
    responses[:, :5] = 0.3
    model = network(decoder=Painter())
    truth = np.clip(model.reconstruct(responses) + 0.1 * rng.random((30, SIDE, SIDE, 3)), 0, 1)
    slopes = network_saliency(model, responses, truth, settings(saliency='slope'))
    assert (slopes[:5] > 0).all()
    scaled = network_saliency(model, responses, truth, settings())
    np.testing.assert_allclose(scaled, slopes * responses.std(axis=0), rtol=1e-6)
    assert scaled[:5].max() < 1e-5 * scaled[5:8].min()
    assert (scaled[10:] == 0).all()
    with pytest.raises(DataError, match='needs a decoder'):
        network_saliency(network(encoder=Watcher()), responses, truth, settings())


def test_regions_that_are_too_small_or_too_large_are_left_out_and_counted():
    labels = np.repeat([0, 1, 2, 3, 4], [2, 22, 3, 7, 6])
    chosen, total = regions_of(labels, NAMES, 12)
    assert list(chosen) == ['idle', 'resting']
    assert total == 4
    assert list(regions_of(labels, NAMES, 1)[0]) == ['idle']
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(8, 40)).astype(np.float32)
    model = network(decoder=Painter())
    truth = model.reconstruct(responses)
    asked = settings(explain_random=19, explain_kinds=['zero'])
    where = {'neighbours': touching(40), 'accuracy': np.ones(40)}
    found = explain_perturbation(model, responses, truth, labels, NAMES, asked, **where, rng=rng)
    assert set(found.table.region) == {'idle', 'resting'}
    assert found.notes[0] == LEFT_OUT.format(n=2, total=4, least=5, most=12)
    nothing = explain_perturbation(
        model, responses, truth, np.ones(40, dtype=int), NAMES, asked, **where, rng=rng
    )
    assert nothing.table is None
    assert nothing.notes == (NO_REGION.format(least=5),)


@pytest.mark.slow
def test_the_concept_that_a_region_follows_is_found_and_random_ones_are_not():
    rng = np.random.default_rng(1)
    train, test = film(150, rng), film(30, rng)
    pictures = {'white': np.full((12, SIDE, SIDE, 3), 230, np.uint8)}
    found = explain_concepts(
        network(encoder=Watcher()), train, test, LABELS, NAMES, settings(concept_permutations=99),
        pictures=pictures, films=np.zeros(150), rng=rng,
    )  # fmt: skip
    table = found.table.set_index(['output', 'concept'])
    assert found.notes == ()
    moving, idle = table.loc['moving'], table.loc['idle']
    assert moving.loc['much motion', 'p'] == pytest.approx(0.01)
    assert moving.loc['much motion', 'alignment'] > 0.9
    assert idle.loc['much brightness', 'alignment'] > 0.9
    assert idle.loc['white', 'alignment'] > 0.5
    assert abs(moving.loc['much brightness', 'alignment']) < 0.4
    random = table[table.kind == 'random']
    assert (random.p_fdr > 0.05).all()
    assert (random.accuracy < 0.7).all()


def test_concepts_need_an_encoder_and_enough_film():
    rng = np.random.default_rng(2)
    chunks = film(20, rng)
    asked = (chunks, chunks, None, {}, settings(concept_permutations=19))
    blind = explain_concepts(network(decoder=Painter()), *asked, films=np.zeros(20), rng=rng)
    assert (blind.table, blind.notes) == (None, (NO_ENCODER,))
    short = explain_concepts(network(encoder=Watcher()), *asked, films=np.zeros(20), rng=rng)
    assert (short.table, short.notes) == (None, (TOO_FEW_CHUNKS.format(n=20, least=50),))


def test_examples_of_film_concepts_have_most_of_the_property():
    rng = np.random.default_rng(3)
    chunks, films = film(60, rng), np.repeat(['a', 'b'], 30)
    found = {name: inside for name, _, inside in film_concepts(chunks, films, rng)}
    bright = found['much brightness']
    assert bright.sum() == 12
    level = chunks.mean(axis=(1, 2, 3, 4))
    assert level[bright].min() >= level[~bright].max()
    # controls are the same patterns at other times
    assert sum(name.startswith('random') for name in found) == 5
    spectrum = np.abs(np.fft.rfft(bright))
    assert np.abs(np.fft.rfft(found['random 1'])) == pytest.approx(spectrum)
