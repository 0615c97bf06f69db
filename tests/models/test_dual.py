"""One factorisation for all targets: against scikit-learn, fold by fold."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models import large
from bids_neurodecode.models.dual import PAPER_ALPHAS, Factorisation, Targets
from bids_neurodecode.models.wide import WideRegression

ALPHAS = (1.0, 30.0, 1000.0)


def make_data(n=40, p=90, t=23, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(2, 1, (n, p)).astype(np.float32)
    B = rng.normal(size=(p, t)) * np.geomspace(0.05, 1, t)
    Y = X @ B + noise * rng.normal(size=(n, t)) * 5 + 3
    return X, Y.astype(np.float32), rng.normal(2, 1, (11, p)).astype(np.float32)


class Recorded:
    """Targets that remember how much of them was read at once."""

    def __init__(self, values):
        self.values, self.largest = values, 0
        self.shape, self.ndim, self.dtype = values.shape, values.ndim, values.dtype

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        part = self.values[index]
        self.largest = max(self.largest, part.size)
        return part


@pytest.mark.parametrize('shape', [(40, 90), (60, 12)])
@pytest.mark.parametrize('alpha', [0.5, 30.0, 5000.0])
def test_weights_are_those_of_scikit_learn(shape, alpha):
    X, Y, new = make_data(*shape)
    fit = Factorisation(X).fit(Y, alphas=[alpha])
    expected = Ridge(alpha=alpha).fit(X.astype(float), Y.astype(float))
    np.testing.assert_allclose(
        fit.predict(new, 'none'), expected.predict(new.astype(float)), rtol=2e-4, atol=2e-3
    )
    np.testing.assert_allclose(fit.ridge.coefficients(), expected.coef_.T, rtol=1e-2, atol=2e-4)
    # dual where there are fewer samples than predictors
    assert fit.ridge.weights.shape == (min(shape), Y.shape[1])
    assert (fit.ridge.basis is not None) == (shape[0] < shape[1])
    assert set(fit.ridge.alphas.tolist()) == {alpha}


@pytest.mark.parametrize('shape', [(40, 90), (60, 12)])
@pytest.mark.parametrize('alpha', [1.0, 1000.0])
def test_cross_validated_predictions_are_exact(shape, alpha):
    X, Y, _ = make_data(*shape)
    fit = Factorisation(X, n_folds=4).fit(Y, alphas=[alpha])
    held = cross_val_predict(Ridge(alpha=alpha), X.astype(float), Y.astype(float), cv=KFold(4))
    np.testing.assert_allclose(fit.cv_mean, held.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(fit.cv_std, held.std(axis=0), rtol=1e-4)
    r2 = 1 - ((Y - held) ** 2).mean(axis=0) / Y.var(axis=0)
    np.testing.assert_allclose(fit.ridge.cv_r2, r2, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fit.target_std, Y.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fit.ridge.intercept, Y.mean(axis=0), rtol=1e-5)


def errors_by_hand(X, Y, groups, alpha):
    X, Y = X.astype(float), Y.astype(float)
    held = cross_val_predict(Ridge(alpha=alpha), X, Y, cv=GroupKFold(5), groups=groups)
    return ((Y - held) ** 2).mean(axis=0) / Y.var(axis=0)


def test_penalty_is_chosen_by_groups():
    X, Y, _ = make_data(noise=2.0)
    groups = np.repeat(np.arange(20), 2)
    by_hand = np.stack([errors_by_hand(X, Y, groups, alpha) for alpha in ALPHAS])
    machine = Factorisation(X, groups=groups)
    each = machine.fit(Y, alphas=ALPHAS, per_target=True)
    best = np.asarray(ALPHAS)[by_hand.argmin(axis=0)]
    assert len(set(best)) > 1
    np.testing.assert_array_equal(each.ridge.alphas, best.astype(np.float32))
    np.testing.assert_allclose(each.ridge.cv_r2, 1 - by_hand.min(axis=0), atol=1e-3)
    one = machine.fit(Y, alphas=ALPHAS)
    np.testing.assert_allclose(list(one.tried.values()), by_hand.mean(axis=1), rtol=1e-3)
    assert set(one.ridge.alphas.tolist()) == {ALPHAS[by_hand.mean(axis=1).argmin()]}
    # chosen on every fifth column only
    some = machine.fit(Y, alphas=ALPHAS, n_choosing=4)
    np.testing.assert_allclose(list(some.tried.values()), by_hand[:, ::5].mean(axis=1), rtol=1e-3)


@pytest.mark.parametrize('per_target', [False, True])
def test_blocks_change_nothing_and_bound_what_is_read(tmp_path, per_target):
    X, Y, new = make_data(t=50)
    machine = Factorisation(X)
    whole = machine.fit(Y, alphas=ALPHAS, per_target=per_target)
    file = np.lib.format.open_memmap(
        tmp_path / 'w.npy', mode='w+', dtype=np.float32, shape=machine.weights_shape(50)
    )
    targets = Recorded(Y)
    blocks = machine.fit(targets, alphas=ALPHAS, per_target=per_target, block=7, weights=file)
    assert targets.largest == 40 * 7
    assert blocks.ridge.weights is file
    np.testing.assert_allclose(np.load(tmp_path / 'w.npy'), whole.ridge.weights, atol=1e-5)
    np.testing.assert_allclose(blocks.predict(new), whole.predict(new), rtol=1e-3, atol=1e-2)


def test_inductive_prediction_of_a_sample_depends_on_it_alone():
    X, Y, _ = make_data(n=400, p=500, noise=0.2)
    X, Y, new = X[:300], Y[:300], X[300:]
    fit = Factorisation(X).fit(Y, alphas=[1000.0])
    plain = fit.predict(new, 'none')
    together = fit.predict(new)
    expected = (plain - fit.cv_mean) / fit.cv_std * Y.std(axis=0) + Y.mean(axis=0)
    np.testing.assert_allclose(together, expected, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(fit.predict(new[3:4]), together[3:4], rtol=1e-4, atol=1e-3)
    # shrunk predictions regain their spread
    assert np.median(plain.std(axis=0) / Y.std(axis=0)) < 0.7
    assert 0.85 < np.median(together.std(axis=0) / Y.std(axis=0)) < 1.15


def test_transductive_prediction_as_published():
    X, Y, new = make_data()
    fit = Factorisation(X).fit(Y, alphas=[1000.0])
    found = fit.predict(new, 'transductive')
    np.testing.assert_allclose(found.mean(axis=0), Y.mean(axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.std(axis=0), Y.std(axis=0), rtol=1e-3)
    plain = Ridge(alpha=1000.0).fit(X, Y).predict(new)
    z = (plain - plain.mean(axis=0)) / plain.std(axis=0)
    np.testing.assert_allclose(found, z * Y.std(axis=0) + Y.mean(axis=0), rtol=1e-2, atol=2e-2)
    assert np.abs(fit.predict(new[:5], 'transductive') - found[:5]).max() > 0.1
    with pytest.raises(DataError, match='at least two'):
        fit.predict(new[:1], 'transductive')


def test_constant_target_is_predicted_as_it_is():
    X, Y, new = make_data()
    Y[:, 4] = 6.5
    for per_target in (False, True):
        fit = Factorisation(X).fit(Y, alphas=ALPHAS, per_target=per_target)
        assert np.isfinite(list(fit.tried.values())).all()
        for renorm in ('inductive', 'transductive', 'none'):
            np.testing.assert_allclose(fit.predict(new, renorm)[:, 4], 6.5, atol=1e-4)


def test_one_factorisation_for_all_targets():
    X, Y, _ = make_data()
    machine = Factorisation(X)
    both = machine.fit(Y, alphas=[30.0]).ridge
    parts = [machine.fit(part, alphas=[30.0]).ridge for part in (Y[:, :10], Y[:, 10:])]
    np.testing.assert_allclose(both.weights[:, :10], parts[0].weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both.weights[:, 10:], parts[1].weights, rtol=1e-4, atol=1e-6)
    assert parts[0].basis is parts[1].basis  # not kept twice


def test_state_round_trip():
    X, Y, new = make_data()
    fit = Factorisation(X).fit(Y, alphas=ALPHAS)
    again = WideRegression.from_state(fit.state())
    np.testing.assert_array_equal(again.predict(new), fit.predict(new))
    assert again.tried == fit.tried
    assert PAPER_ALPHAS['vdvae'] == 50_000


def test_errors():
    X, Y, _ = make_data()
    machine = Factorisation(X)
    with pytest.raises(DataError, match=r'shape \(40, t\)'):
        machine.fit(Y[:9], alphas=[1.0])
    with pytest.raises(ArgumentsError, match='above 0'):
        machine.fit(Y, alphas=[0.0])
    bad = Y.copy()
    bad[3, 12] = np.nan
    with pytest.raises(DataError, match='columns 10 to 19'):
        machine.fit(bad, alphas=[1.0], block=10)
    with pytest.raises(DataError, match=r'weights must be of shape \(40, 23\)'):
        machine.fit(Y, alphas=[1.0], weights=np.empty((3, 3), np.float32))
    with pytest.raises(DataError, match='Predictors must be finite'):
        Factorisation(X[:2])


@pytest.mark.parametrize('shape', [(60, 90), (90, 60)])
@pytest.mark.parametrize('per_target', [True, False])
@pytest.mark.parametrize('alphas', [ALPHAS, (30.0,)])
def test_one_kernel_after_another_gives_the_same(monkeypatch, shape, per_target, alphas):
    """Weights, chosen penalties and renormalisation, block by block of targets."""
    X, Y, new = make_data(*shape)
    groups = np.random.default_rng(0).permutation(shape[0]) // 3
    given = {'alphas': alphas, 'per_target': per_target, 'block': 7}
    model = Factorisation(X, groups=groups).fit(Y, **given)
    monkeypatch.setattr(large, 'LARGE', 10)
    monkeypatch.setattr(large, 'AT_ONCE', 7)
    known = Factorisation(X, groups=groups)
    other = known.fit(Y, **given)
    assert isinstance(known._known.factorise(alphas), large.LargeSystem)
    np.testing.assert_array_equal(other.ridge.alphas, model.ridge.alphas)
    np.testing.assert_allclose(other.ridge.cv_r2, model.ridge.cv_r2, atol=1e-5)
    for renorm in ('inductive', 'none'):
        expected = model.predict(new, renorm)
        size = np.abs(expected).max()
        np.testing.assert_allclose(other.predict(new, renorm), expected, atol=1e-5 * size)


def test_one_kernel_is_all_that_is_held(monkeypatch):
    """Beside blocks of targets and the factors of folds; eigenvectors take much more."""
    monkeypatch.setattr(large, 'LARGE', 100)
    monkeypatch.setattr(large, 'AT_ONCE', 50)
    X, Y, _ = make_data(1000, 1200)
    known = Factorisation(X, n_folds=10)
    tracemalloc.start()
    known.fit(Y, alphas=ALPHAS, per_target=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.6 * 8 * 1000**2


@st.composite
def sets_of_targets(draw):
    """Predictors, folds, and sets of targets in any order of samples."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = draw(st.sampled_from([(30, 45), (45, 30), (30, 31)]))
    X, Y, new = make_data(*shape, noise=draw(st.sampled_from([0.2, 2.0])), seed=rng)
    Y[:, 3] = 1.5
    groups = rng.permutation(shape[0]) // 3
    order = rng.permutation(shape[0])
    wanted, first = [], 0
    for _ in range(draw(st.integers(2, 4))):
        last = draw(st.integers(first + 1, min(first + 6, Y.shape[1])))
        wanted.append(
            Targets(
                Y[:, first:last],
                draw(st.permutations(ALPHAS)) if draw(st.booleans()) else [30.0],
                per_target=draw(st.booleans()),
                n_choosing=draw(st.sampled_from([None, 2])),
                order=order if draw(st.booleans()) else None,
            )
        )
        first = last
    return X, new, groups, wanted


@settings(max_examples=40, deadline=None)
@given(sets_of_targets(), st.booleans())
def test_sets_of_targets_together_are_what_they_are_alone(sets, is_large):
    """Whatever shares a factorisation, and in which order: penalties, scores, predictions."""
    X, new, groups, wanted = sets
    alone = [
        Factorisation(X if one.order is None else X[one.order], groups=groups, n_folds=4).fit(
            one.values,
            alphas=one.alphas,
            per_target=one.per_target,
            n_choosing=one.n_choosing,
        )
        for one in wanted
    ]
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(large, 'LARGE', 10)
            patch.setattr(large, 'AT_ONCE', 7)
        together = Factorisation(X, groups=groups, n_folds=4).fit_all(wanted, block=4)
    for one, expected in zip(together, alone, strict=True):
        # all penalties are as good for a target that does not vary, and sets have other orders
        varies = np.isfinite(expected.ridge.cv_r2)
        np.testing.assert_array_equal(one.ridge.alphas[varies], expected.ridge.alphas[varies])
        np.testing.assert_allclose(one.ridge.cv_r2, expected.ridge.cv_r2, atol=1e-5)
        assert [*one.tried] == [*expected.tried]
        np.testing.assert_allclose([*one.tried.values()], [*expected.tried.values()], rtol=1e-5)
        for renorm in ('inductive', 'none'):
            found = expected.predict(new, renorm)
            atol = 1e-5 * max(1.0, np.abs(found).max())
            np.testing.assert_allclose(one.predict(new, renorm), found, atol=atol)


@pytest.mark.parametrize('per_target', [False, True])
def test_of_penalties_that_are_as_good_the_first_is_taken(monkeypatch, per_target):
    """One penalty for all is the first of the set's own, whatever order other sets have."""
    X, Y, _ = make_data()
    flat = np.full((len(X), 3), 1.5, dtype=np.float32)
    falling = ALPHAS if per_target else [*reversed(ALPHAS)]
    for limit in (large.LARGE, 10):
        monkeypatch.setattr(large, 'LARGE', limit)
        wanted = [Targets(Y, ALPHAS), Targets(flat, falling, per_target=per_target)]
        _, found = Factorisation(X).fit_all(wanted)
        np.testing.assert_array_equal(found.ridge.alphas, np.float32(falling[0]))


def test_no_more_is_held_of_several_sets_than_of_one(monkeypatch):
    """Dual weights of one set at a time, also of shuffled ones."""
    monkeypatch.setattr(large, 'LARGE', 10)
    X, Y, _ = make_data(300, 310)
    Y = np.tile(Y, (1, 100))
    order = np.random.default_rng(0).permutation(len(X))
    peaks = []
    for n_sets in (1, 4):
        orders = [None if n % 2 else order for n in range(n_sets)]
        weights = [np.empty((len(X), Y.shape[1]), dtype=np.float32) for _ in orders]
        known = Factorisation(X)
        tracemalloc.start()
        known.fit_all(
            [Targets(Y, ALPHAS, weights=w, order=o) for w, o in zip(weights, orders, strict=True)]
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 0.5 * 12 * Y.size


def test_each_penalty_is_inverted_once_for_all_targets(monkeypatch):
    """And once more where one serves all columns of many, but not if it was the last."""
    X, Y, _ = make_data()
    inverted = []
    real = large._invert

    def spy(kernel, diagonal, shift, penalty):
        inverted.append(penalty)
        real(kernel, diagonal, shift, penalty)

    monkeypatch.setattr(large, 'LARGE', 10)
    monkeypatch.setattr(large, '_invert', spy)
    order = np.random.default_rng(0).permutation(len(X))
    each = [Targets(Y[:, :9], ALPHAS, per_target=True), Targets(Y[:, 9:], ALPHAS, per_target=True)]
    mixed = [replace(one, order=order) for one in each]
    Factorisation(X).fit_all([*each, *mixed], block=4)
    assert inverted == [*ALPHAS]
    inverted.clear()
    noise = np.random.default_rng(1).normal(size=Y.shape).astype(np.float32)
    Factorisation(X).fit_all([*each, Targets(noise, ALPHAS), Targets(Y, [30.0])])
    assert inverted == [*ALPHAS, 30.0]
