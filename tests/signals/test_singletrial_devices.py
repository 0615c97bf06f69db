"""Betas by PyTorch: those of NumPy but for rounding, and nothing of the host mixed in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode import algebra
from bids_neurodecode.errors import ResourceError
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.trialtypes import SingleTrialOptions
from tests.signals.test_singletrial import correlate, golden_inputs, simulate

torch = pytest.importorskip('torch')

FOLDS = {
    'sessions': ['a', 'a', 'b'],
    'tuning_sets': [np.repeat([True, True, False], 12), np.repeat([False, True, True], 12)],
    'inner_sets': [np.repeat([True, True, False], 12)],
}


def assert_alike(found, expected):
    """Float32 rounds betas of some percent by some 1e-7; fits that tie may fall either way."""
    assert found.n_components == expected.n_components
    np.testing.assert_allclose(found.onoff_threshold, expected.onoff_threshold, atol=1e-4)
    np.testing.assert_array_equal(found.usable, expected.usable)
    np.testing.assert_array_equal(found.noise_pool, expected.noise_pool)
    np.testing.assert_allclose(found.onoff_rsquared, expected.onoff_rsquared, atol=1e-3)
    same = found.hrf_index == expected.hrf_index
    if expected.fraction is not None:
        same &= found.fraction == expected.fraction
        both = found.fraction_badness[same], expected.fraction_badness[same]
        np.testing.assert_allclose(*both, rtol=1e-4)
    assert np.mean(same[expected.usable]) >= 0.98
    for model, betas in expected.betas.items():
        scale = np.nanstd(betas)
        np.testing.assert_allclose(
            found.betas[model][:, same], betas[:, same], rtol=1e-4, atol=1e-4 * scale
        )
        fits = found.rsquared[model][same], expected.rsquared[model][same]
        np.testing.assert_allclose(*fits, atol=1e-3)


@pytest.mark.parametrize('models', [('B',), ('C',), ('D',), ('B', 'C', 'D')])
def test_golden_design(models):
    options = SingleTrialOptions(models=models, chunk_voxels=128)
    plain, other = (
        estimate_single_trials(*golden_inputs(), options=options, device=device)
        for device in ('cpu', 'torch')
    )
    assert set(other.betas) == set(models)
    assert_alike(other, plain)


def test_planted_responses_and_betas_are_recovered():
    inputs, truth, response = simulate(np.random.default_rng(1), noise=0.02)
    found = estimate_single_trials(*inputs, device='torch')
    active = truth.any(axis=0)
    assert np.mean(found.hrf_index[active] == response[active]) > 0.95
    for betas in found.betas.values():
        assert np.median(correlate(betas[:, active], truth[:, active])) > 0.99


@pytest.mark.slow
def test_folds_sessions_confounds_and_voxels_that_cannot_be_used():
    inputs = simulate(np.random.default_rng(5))[0]
    inputs[0][1][3, 4] = np.nan
    inputs[0][2][:, 7] = 0
    rng = np.random.default_rng(6)
    extra = [rng.normal(size=(len(run), 3)) for run in inputs[0]]
    plain, other = (
        estimate_single_trials(*inputs, **FOLDS, extra_regressors=extra, device=device)
        for device in ('cpu', 'torch')
    )
    assert_alike(other, plain)
    np.testing.assert_array_equal(np.flatnonzero(~other.usable), [4, 7])
    for found, expected in zip(other.tuned, plain.tuned, strict=True):
        assert found.n_components == expected.n_components
        same = found.fraction == expected.fraction
        assert np.mean(same[plain.usable]) >= 0.98
        for model in 'CD':
            both = found.betas[model][:, same], expected.betas[model][:, same]
            np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(other.inner[0].voxels, plain.inner[0].voxels)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_voxels=st.integers(1, 40),
    n_runs=st.integers(2, 4),
    n_conditions=st.integers(2, 6),
)
def test_any_shape(seed, n_voxels, n_runs, n_conditions):
    lengths = tuple(130 + 7 * run for run in range(n_runs))
    inputs, _, _ = simulate(
        np.random.default_rng(seed),
        n_volumes=lengths,
        n_voxels=n_voxels,
        n_conditions=n_conditions,
    )
    # few voxels have no noise pool
    fixed = SingleTrialOptions(n_components=int(n_voxels >= 20), fraction=0.5)
    plain, other = (
        estimate_single_trials(*inputs, options=fixed, device=device)
        for device in ('cpu', 'torch')
    )
    same = plain.hrf_index == other.hrf_index
    for model, betas in plain.betas.items():
        both = other.betas[model][:, same], betas[:, same]
        np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-3 * betas.std())


class OnCard(torch.Tensor):
    """A tensor that, as one on a GPU, is computed with others of its kind alone."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, '__name__', '')
        for each in args if 'item' not in name else args[:1]:  # an index may lie anywhere
            several = each if isinstance(each, list | tuple) else [each]
            for one in several:
                own = isinstance(one, OnCard)
                if not own and np.ndim(one) and isinstance(one, np.ndarray | torch.Tensor):
                    raise TypeError(f'{name} mixes a card and the host')
        found = super().__torch_function__(function, types, args, kwargs or {})
        return found.as_subclass(torch.Tensor) if name == 'cpu' else found

    def __array__(self, *_, **__):
        raise TypeError('NumPy reads from a card')


@pytest.mark.slow
def test_nothing_of_the_host_is_mixed_in(monkeypatch):
    inputs = simulate(np.random.default_rng(5))[0]
    plain = estimate_single_trials(*inputs, **FOLDS)
    kind = type(algebra.algebra_of('torch'))
    single, double = kind.single, kind.double
    monkeypatch.setattr(kind, 'single', lambda self, x: single(self, x).as_subclass(OnCard))
    monkeypatch.setattr(kind, 'double', lambda self, x: double(self, x).as_subclass(OnCard))
    # a sparse tensor cannot be of another class
    monkeypatch.setattr(kind, 'sparse', lambda self, x: self.single(x.toarray()))
    assert_alike(estimate_single_trials(*inputs, **FOLDS, device='torch'), plain)
    with pytest.raises(TypeError):
        algebra.algebra_of('torch').single(np.ones(3)) * torch.ones(3)


def test_a_device_that_is_not_there(monkeypatch):
    inputs = simulate(np.random.default_rng(5))[0]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ResourceError) as caught:
        estimate_single_trials(*inputs, device='cuda')
    assert str(caught.value) == algebra.NO_GPU.format(device='cuda')
    monkeypatch.setattr(algebra.importlib.util, 'find_spec', lambda _: None)
    with pytest.raises(ResourceError) as caught:
        estimate_single_trials(*inputs, device='torch')
    assert str(caught.value) == algebra.NO_GPU.format(device='torch')


@pytest.mark.gpu
def test_gpu_equals_cpu():
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    inputs = simulate(np.random.default_rng(5), n_voxels=500)[0]
    plain, other = (
        estimate_single_trials(*inputs, **FOLDS, device=device) for device in ('cpu', 'cuda')
    )
    assert_alike(other, plain)
