"""Ridge equals scikit-learn's, penalty by penalty and fold by fold."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from bids_neurodecode.algebra import algebra_of
from bids_neurodecode.errors import DataError, ResourceError
from bids_neurodecode.models import large, ridge_solver
from bids_neurodecode.models.banded import fit_banded
from bids_neurodecode.models.dual import Factorisation
from bids_neurodecode.models.ridge import RidgeModel, fit_ridge, fit_ridges, make_folds

ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def problem(n, p, t=6, seed=0, offset=5.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + offset
    B = rng.normal(size=(p, t)) / np.sqrt(p)
    noise = np.linspace(0.1, 4, t)
    return X, X @ B + rng.normal(size=(n, t)) * noise + 100, rng.normal(size=(9, p)) + offset


@pytest.mark.parametrize(('n', 'p', 't'), [(40, 90, 6), (90, 40, 6), (20, 200, 300)])
@pytest.mark.parametrize('alpha', [1.0, 100.0])
def test_predictions_of_one_penalty(n, p, t, alpha):
    X, Y, new = problem(n, p, t)
    model = fit_ridge(X, Y, alphas=[alpha])
    oracle = Ridge(alpha=alpha).fit(X, Y)
    np.testing.assert_allclose(model.predict(new), oracle.predict(new), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(model.coefficients(), oracle.coef_.T, atol=2e-3)


@pytest.mark.parametrize(('n', 'p'), [(60, 100), (100, 30)])
def test_chosen_penalties_equal_a_grid_search(n, p):
    X, Y, _ = problem(n, p)
    groups = np.repeat(np.arange(n // 5), 5)
    model = fit_ridge(X, Y, alphas=ALPHAS, groups=groups, n_folds=4)
    for target in range(Y.shape[1]):
        search = GridSearchCV(
            Ridge(), {'alpha': ALPHAS}, scoring='neg_mean_squared_error', cv=GroupKFold(4)
        ).fit(X, Y[:, target], groups=groups)
        assert model.alphas[target] == pytest.approx(search.best_params_['alpha'])
        expected = 1 + search.best_score_ / Y[:, target].var()
        assert model.cv_r2[target] == pytest.approx(expected, abs=1e-3)
    assert len(set(model.alphas.tolist())) > 1


def test_one_penalty_for_all_targets():
    X, Y, _ = problem(60, 100)
    model = fit_ridge(X, Y, alphas=ALPHAS, per_target=False)
    assert len(set(model.alphas.tolist())) == 1


def test_repeats_are_held_out_together():
    # targets are one random number a stimulus: only stimuli seen in training can be predicted
    rng = np.random.default_rng(1)
    stimulus = np.repeat(np.arange(30), 4)
    pattern, target = rng.normal(size=(30, 200)), rng.normal(size=(30, 3))
    X = pattern[stimulus] + 0.3 * rng.normal(size=(120, 200))
    grouped = fit_ridge(X, target[stimulus], alphas=ALPHAS, groups=stimulus)
    scattered = fit_ridge(
        X, target[stimulus], alphas=ALPHAS, groups=np.tile(np.arange(4), 30), n_folds=4
    )
    assert scattered.cv_r2.min() > 0.9
    assert grouped.cv_r2.max() < 0.2
    for train, held_out in make_folds(120, stimulus, 5):
        assert not set(stimulus[train]) & set(stimulus[held_out])


@pytest.mark.parametrize(('n', 'p'), [(47, 90), (90, 31)])
@pytest.mark.parametrize('alphas', [(20.0,), ALPHAS])
def test_unequal_folds_are_averaged_fold_by_fold(n, p, alphas):
    X, Y, _ = problem(n, p)
    groups = np.repeat(np.arange(n), 9)[:n] + np.arange(n) % 2  # folds interleave, sizes differ
    model = fit_ridge(X, Y, alphas=alphas, groups=groups, n_folds=4)
    errors = np.mean(
        [
            [
                ((Ridge(alpha=alpha).fit(X[a], Y[a]).predict(X[b]) - Y[b]) ** 2).mean(axis=0)
                for alpha in alphas
            ]
            for a, b in GroupKFold(4).split(X, groups=groups)
        ],
        axis=0,
    )
    np.testing.assert_allclose(model.cv_r2, 1 - errors.min(axis=0) / Y.var(axis=0), atol=1e-4)
    np.testing.assert_allclose(model.alphas, np.asarray(alphas)[errors.argmin(axis=0)])
    for target, alpha in enumerate(model.alphas):
        oracle = Ridge(alpha=alpha).fit(X, Y[:, target])
        np.testing.assert_allclose(
            model.coefficients()[:, target], oracle.coef_, atol=1e-5 * np.abs(oracle.coef_).max()
        )


def test_form_is_the_smaller_one_and_state_rebuilds():
    for n, p, t, dual in ((20, 200, 300, True), (20, 200, 2, False), (50, 10, 300, False)):
        X, Y, new = problem(n, p, t)
        model = fit_ridge(X, Y, alphas=[10.0])
        assert (model.basis is not None) == dual
        again = RidgeModel.from_state(model.state())
        np.testing.assert_array_equal(model.predict(new), again.predict(new))
        assert all(array.dtype == np.float32 for array in model.state().values())


def test_scale_of_targets_does_not_matter():
    # squared errors beyond 1e5 must not look like penalties that are too small
    X, Y, _ = problem(60, 100)
    small = fit_ridge(X, Y, alphas=ALPHAS)
    large = fit_ridge(X, Y * 1e5, alphas=ALPHAS)
    np.testing.assert_array_equal(small.alphas, large.alphas)
    np.testing.assert_allclose(small.cv_r2, large.cv_r2, atol=1e-3)


def test_tiny_penalties_of_a_singular_kernel_stay_finite():
    rng = np.random.default_rng(2)
    X = np.repeat(rng.normal(size=(10, 3000)), 4, axis=0) * 100
    model = fit_ridge(X, rng.normal(size=(40, 2)), alphas=(1e-8, 1e6))
    assert np.isfinite(model.predict(X)).all()


def by_svd(X, Y, new, alpha):
    """Predict in float64, within what the predictors span."""
    centre, mean = X.mean(axis=0), Y.mean(axis=0)
    u, s, axes = np.linalg.svd(X - centre, full_matrices=False)
    u, s, axes = (part[..., s > 1e-5 * s[0]] for part in (u, s, axes.T))
    return (new - centre) @ axes @ ((s / (s**2 + alpha))[:, None] * (u.T @ (Y - mean))) + mean


def of_rank(rng, n, p, repeats, rank):
    """Rows that repeat, in ``rank`` directions of unequal size, and new ones."""
    n_rows = n // repeats
    axes = np.linalg.qr(rng.normal(size=(p, rank)))[0] * np.geomspace(1, 0.1, rank)
    return np.repeat(rng.normal(size=(n_rows, rank)), repeats, axis=0) @ axes.T


# (n, p, repeats, rank): fewer samples than predictors or more, in directions that all rows have,
# that repeats leave, or that columns leave; the third kind has fewer rows than columns in a fold
RANKS = [(40, 90, 1, 90), (40, 90, 4, 90), (40, 90, 1, 5), (90, 30, 1, 30), (90, 30, 1, 6)]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(RANKS),
    log_alpha=st.floats(-16, 3),
    log_scale=st.integers(-4, 7),
    alone=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_rank_and_penalty(shape, log_alpha, log_scale, alone, seed):
    rng, scale = np.random.default_rng(seed), 10.0**log_scale
    X = (of_rank(rng, *shape) * scale).astype(np.float32)
    Y = (X[:, :3] / scale + rng.normal(size=(len(X), 3))).astype(np.float32)
    new = (rng.normal(size=(9, X.shape[1])) * scale).astype(np.float32)
    # shares of the largest eigenvalue
    alpha = 10.0**log_alpha * np.linalg.norm(X.astype(float) - X.mean(axis=0), 2) ** 2
    alphas = [alpha] if alone else [alpha, alpha * (1 + 1e-9)]
    exact = [array.astype(float) for array in (X, Y, new)]
    expected = by_svd(*exact, alpha)
    missed = [
        ((by_svd(exact[0][a], exact[1][a], exact[0][b], alpha) - exact[1][b]) ** 2).mean(axis=0)
        for a, b in make_folds(len(X), None, 5)
    ]
    r2 = 1 - np.mean(missed, axis=0) / exact[1].var(axis=0)
    # targets are predicted beyond their own size where no penalty keeps them from it
    size = max(1.0, np.abs(expected).max())
    narrow = fit_ridge(X, Y, alphas=alphas)
    wide = Factorisation(X).fit(Y, alphas=alphas, per_target=True).ridge
    for model in (narrow, wide):
        np.testing.assert_allclose(model.predict(new), expected, atol=2e-3 * size)
        np.testing.assert_allclose(model.cv_r2, r2, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('alphas', [(1e-6,), (1e-2,), (1e-2, 1e-1)])
def test_repeats_and_tiny_penalties_of_many_predictors(alphas):
    # float32 dual weights of Y / alpha in directions that differ between repeats
    rng = np.random.default_rng(3)
    X = np.repeat(rng.normal(size=(20, 20_000)).astype(np.float32), 4, axis=0)
    Y = X[:, :4] + rng.normal(size=(80, 4)).astype(np.float32)
    new = rng.normal(size=(9, 20_000)).astype(np.float32)
    model = Factorisation(X).fit(Y, alphas=alphas, per_target=True).ridge
    oracle = by_svd(*(array.astype(float) for array in (X, Y, new)), model.alphas.max())
    np.testing.assert_allclose(model.predict(new), oracle, atol=1e-4)


LARGE_ALPHAS = tuple(10.0**k for k in range(-2, 7))


@pytest.mark.parametrize('per_target', [True, False])
def test_one_kernel_after_another_gives_the_same(monkeypatch, per_target):
    """As the eigenvectors of the kernel do, tile by tile, with samples in any order of folds."""
    X, Y, new = problem(60, 90)
    groups = np.random.default_rng(0).permutation(60) // 3
    given = {'alphas': LARGE_ALPHAS, 'groups': groups, 'per_target': per_target}
    model = fit_ridge(X, Y, **given)
    monkeypatch.setattr(large, 'LARGE', 10)
    monkeypatch.setattr(large, 'AT_ONCE', 7)
    other = fit_ridge(X, Y, **given)
    assert (len(set(other.alphas.tolist())) > 1) == per_target
    np.testing.assert_array_equal(other.alphas, model.alphas)
    np.testing.assert_allclose(other.cv_r2, model.cv_r2, atol=1e-5)
    np.testing.assert_allclose(other.predict(new), model.predict(new), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    # what rounding leaves where predictors lack directions is not cut off
    at=st.one_of(
        st.tuples(st.sampled_from([*RANKS[:2], RANKS[3]]), st.floats(-10, 3)),
        st.tuples(st.sampled_from(RANKS), st.floats(-3, 3)),
    ),
    log_scale=st.integers(-4, 7),
    seed=st.integers(0, 5),
)
def test_one_kernel_after_another_at_any_rank(at, log_scale, seed):
    (shape, log_alpha), rng, scale = at, np.random.default_rng(seed), 10.0**log_scale
    X = (of_rank(rng, *shape) * scale).astype(np.float32)
    Y = (X[:, :3] / scale + rng.normal(size=(len(X), 3))).astype(np.float32)
    new = (rng.normal(size=(9, X.shape[1])) * scale).astype(np.float32)
    alpha = 10.0**log_alpha * np.linalg.norm(X.astype(float) - X.mean(axis=0), 2) ** 2
    expected = by_svd(*(array.astype(float) for array in (X, Y, new)), alpha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, 'LARGE', 10)
        assert large.is_large(len(X), X.shape[1], 3)
        model = fit_ridge(X, Y, alphas=[alpha])
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(model.predict(new), expected, atol=2e-3 * size)


def test_one_kernel_is_all_that_is_held(monkeypatch):
    """Beside blocks of predictors and folds; eigenvectors take several times as much."""
    monkeypatch.setattr(large, 'LARGE', 100)
    monkeypatch.setattr(large, 'AT_ONCE', 50)
    X, Y, _ = problem(1000, 1200)
    X, Y = X.astype(np.float32), Y.astype(np.float32)
    tracemalloc.start()
    fit_ridge(X, Y, alphas=LARGE_ALPHAS[:2], n_folds=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.6 * 8 * 1000**2


def test_constant_target_is_predicted_as_it_is():
    X, Y, new = problem(30, 50)
    Y[:, 0] = 3.5
    model = fit_ridge(X, Y, alphas=ALPHAS)
    np.testing.assert_allclose(model.predict(new)[:, 0], 3.5, rtol=1e-5)
    assert np.isnan(model.cv_r2[0])


def test_errors():
    X, Y, _ = problem(30, 50)
    broken = X.copy()
    broken[3, 4] = np.nan
    cases = [
        ((X, Y[:5]), {}, 'same n of at least 2'),
        ((X[:, :0], Y), {}, 'same n of at least 2'),
        ((broken, Y), {}, '1 of the predictors are not'),
        ((X, Y * np.inf), {}, '180 of the targets are not'),
        ((X, Y), {'alphas': [0.0]}, 'Penalties must be finite and above 0'),
        ((X, Y), {'alphas': []}, 'Penalties must be finite and above 0'),
        ((X, Y), {'groups': np.zeros(30)}, 'at least two groups .* there is 1'),
        ((X, Y), {'groups': np.zeros(3)}, 'one group label a sample: 30 samples'),
    ]
    for arrays, options, message in cases:
        with pytest.raises(DataError, match=message):
            fit_ridge(*arrays, **{'alphas': ALPHAS, **options})
    with pytest.raises(DataError, match='fitted on 50 predictors; these have 4'):
        fit_ridge(X, Y, alphas=ALPHAS).predict(X[:, :4])


@pytest.mark.parametrize(('n', 'p'), [(60, 100), (100, 30)])
@pytest.mark.parametrize('alphas', [(20.0,), ALPHAS])
def test_pytorch_gives_what_numpy_gives(monkeypatch, n, p, alphas):
    pytest.importorskip('torch')
    X, Y, new = problem(n, p)
    bands = {'a': X[:, :10], 'b': X[:, 10:]}
    rng = np.random.default_rng
    ridge = fit_ridge(X, Y, alphas=alphas)
    banded = fit_banded(bands, Y, alphas=alphas, n_mixtures=3, rng=rng(0))
    monkeypatch.setattr(ridge_solver, 'algebra_of', lambda _: algebra_of('torch'))
    again = fit_ridge(X, Y, alphas=alphas)
    np.testing.assert_array_equal(again.alphas, ridge.alphas)
    np.testing.assert_allclose(again.predict(new), ridge.predict(new), rtol=1e-5)
    again = fit_banded(bands, Y, alphas=alphas, n_mixtures=3, rng=rng(0))
    np.testing.assert_array_equal(again.penalties, banded.penalties)
    np.testing.assert_allclose(again.predict(bands), banded.predict(bands), rtol=1e-5)


def test_gpu_that_is_not_there():
    torch = pytest.importorskip('torch')
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    X, Y, _ = problem(30, 50)
    with pytest.raises(ResourceError, match="'cuda' is not there"):
        fit_ridge(X, Y, alphas=ALPHAS, device='cuda')


@pytest.mark.gpu
@pytest.mark.parametrize(('n', 'p'), [(60, 100), (100, 30)])
def test_gpu_equals_cpu(n, p):
    torch = pytest.importorskip('torch')
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    X, Y, new = problem(n, p)
    cpu, gpu = (fit_ridge(X, Y, alphas=ALPHAS, device=device) for device in ('cpu', 'cuda'))
    np.testing.assert_array_equal(cpu.alphas, gpu.alphas)
    np.testing.assert_allclose(cpu.predict(new), gpu.predict(new), rtol=1e-3, atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from([(30, 45), (45, 30), (30, 31)]),
    per_target=st.booleans(),
    is_large=st.booleans(),
    seed=st.integers(0, 50),
)
def test_shuffled_samples_together_are_what_they_are_alone(shape, per_target, is_large, seed):
    """Rows of targets keep their folds, whichever sample they are given."""
    X, Y, new = problem(*shape, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    given = {'alphas': ALPHAS, 'groups': rng.permutation(len(X)) // 3, 'per_target': per_target}
    expected = [fit_ridge(X, Y, **given), fit_ridge(X[order], Y, **given)]
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(large, 'LARGE', 10)
            patch.setattr(large, 'AT_ONCE', 7)
        found = fit_ridges(X, Y, [None, order], **given)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.alphas, other.alphas)
        np.testing.assert_allclose(one.cv_r2, other.cv_r2, atol=1e-5)
        np.testing.assert_allclose(one.predict(new), other.predict(new), rtol=2e-5)
