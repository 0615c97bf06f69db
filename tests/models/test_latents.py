"""Latent regressors: the published counts, which weights live, and what they can learn."""

import re

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import DataError
from bids_neurodecode.models import latents
from bids_neurodecode.models.latents import KINDS, build_latent_regressor

REGIONS = [np.arange(5), np.arange(5, 12), np.arange(10, 20)]


def build(kind, n_voxels=20, n_outputs=6, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_latent_regressor(
            kind, n_voxels, n_outputs, regions=REGIONS, n_hidden=8, **options
        )


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def gradients(model, n=16):
    generator = torch.Generator().manual_seed(1)
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model(torch.randn(n, 20, generator=generator)).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_the_published_parameter_counts():
    with torch.device('meta'):
        model = build_latent_regressor('gru', 15_724, 13_344)
    assert count(model) == 12_400_344
    assert count(model.first) == 9_495_600
    assert count(model.first_norm) + count(model.second) + count(model.second_norm) == 182_000
    assert count(model.head[:-1]) == 40_600
    assert count(model.head[-1]) == 2_682_144


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('n_outputs', [13_344, 91_168])
def test_shapes_at_the_published_sizes(kind, n_outputs):
    regions = [np.arange(8000), np.arange(8000, 15_724)]
    with torch.device('meta'):
        model = build_latent_regressor(kind, 15_724, n_outputs, regions=regions)
        assert model.eval()(torch.zeros(2, 15_724)).shape == (2, n_outputs)


class TestDeadWeights:
    """Over one step nothing recurs."""

    @pytest.mark.parametrize('kind', ['gru', 'transformer'])
    def test_recurrent_matrices_receive_no_gradient(self, kind):
        found = gradients(build(kind))
        recurrent = {name: g for name, g in found.items() if 'weight_hh' in name}
        assert len(recurrent) == 4  # two layers, two directions
        assert all(torch.count_nonzero(g) == 0 for g in recurrent.values())
        alive = {n: g for n, g in found.items() if 'weight_ih' in n}
        assert all(torch.count_nonzero(g) > 0 for g in alive.values())

    def test_there_are_120_000_of_them_at_the_published_size(self):
        with torch.device('meta'):
            model = build_latent_regressor('gru', 15_724, 13_344)
        dead = [p.numel() for name, p in model.named_parameters() if 'weight_hh' in name]
        assert sum(dead) == 120_000

    def test_they_have_no_effect_either(self):
        model = build('gru').eval()
        x = torch.randn(4, 20, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            before = model(x)
            for name, parameter in model.named_parameters():
                if 'weight_hh' in name:
                    parameter.normal_()
            assert torch.equal(model(x), before)

    def test_queries_and_keys_of_the_single_token_are_dead_too(self):
        width = 16
        found = gradients(build('transformer', dropout=0.0))['block.self_attn.in_proj_weight']
        assert found[: 2 * width].abs().max() < 1e-6 * found[2 * width :].abs().max()

    @pytest.mark.parametrize(
        ('kind', 'n_alive'), [('conv', 2), ('regions-gru', 2), ('regions-transformer', 0)]
    )
    def test_real_sequences_do_recur(self, kind, n_alive):
        found = gradients(build(kind))
        alive = [n for n, g in found.items() if 'weight_hh' in n and torch.count_nonzero(g) > 0]
        assert len(alive) == n_alive

    def test_attention_between_regions_is_alive(self):
        found = gradients(build('regions-transformer'))['mixer.self_attn.in_proj_weight']
        assert torch.count_nonzero(found[:32]) > 0


def test_a_region_s_token_sees_its_own_voxels_only():
    model = build('regions-gru').eval()
    x = torch.randn(1, 20, generator=torch.Generator().manual_seed(3)).requires_grad_()
    tokens = []
    model.tokens[0].register_forward_hook(lambda *a: tokens.append(a[2]))
    model(x)
    (gradient,) = torch.autograd.grad(tokens[0].sum(), x)
    assert torch.count_nonzero(gradient[:, 5:]) == 0
    assert torch.count_nonzero(gradient[:, :5]) == 5


@pytest.mark.parametrize(
    'kind',
    [
        pytest.param(kind, marks=pytest.mark.slow)
        if kind in {'conv', 'transformer', 'regions-transformer'}
        else kind
        for kind in KINDS
    ],
)
def test_every_kind_learns_a_planted_map(kind):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((256, 20)).astype(np.float32))
    y = x @ torch.from_numpy(rng.standard_normal((20, 6)).astype(np.float32) / 20**0.5)
    model = build(kind, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = (model(x[:192]) - y[:192]).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        held_out = (model.eval()(x[192:]) - y[192:]).square().mean() / y[192:].var()
    # from 0.04 (regions) to 0.53 (convolutions along units without an order); a constant gets 1
    assert float(held_out) < 0.75


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: build('lstm'), latents.UNKNOWN_KIND),
        (lambda: build('gru', n_outputs=0), latents.BAD_SIZE),
        (lambda: build('gru')(torch.zeros(2, 19)), latents.BAD_VOXELS),
        (lambda: build('regions-gru')(torch.zeros(20)), latents.BAD_VOXELS),
        (lambda: build_latent_regressor('regions-gru', 20, 6), latents.NO_REGIONS),
        (lambda: build_latent_regressor('regions-gru', 20, 6, regions=[[0], [20]]),
         latents.BAD_REGION),
        (lambda: build_latent_regressor('regions-gru', 20, 6, regions=[[0, 0], [2]]),
         latents.BAD_REGION),
        (lambda: build_latent_regressor('transformer', 20, 6, n_hidden=3), latents.BAD_HEADS),
    ],
)  # fmt: skip
def test_errors_are_one_line(call, message):
    with pytest.raises(DataError, match=re.escape(message.split('{')[0])) as caught:
        call()
    assert '\n' not in str(caught.value)
