"""Ridge that is fitted again and again gives what fitting it once gives."""

import numpy as np
import pytest

from bids_neurodecode.models.refit import RidgePath
from bids_neurodecode.models.ridge import fit_ridge, make_folds

ALPHAS = (0.1, 10.0, 1000.0)


@pytest.mark.parametrize(('n', 'p'), [(40, 90), (60, 7)])
@pytest.mark.parametrize('per_target', [True, False])
def test_it_fits_as_fit_ridge_does(n, p, per_target):
    rng = np.random.default_rng(n + p)
    X, new = rng.normal(size=(n, p)) + 3, rng.normal(size=(9, p))
    Y = X[:, :5] @ rng.normal(size=(5, 6)) * 7 + rng.normal(size=(n, 6)) * (1, 3, 9, 27, 81, 1) + 2
    groups = np.arange(n) // 4
    path = RidgePath(X, new, ALPHAS, make_folds(n, groups, 4))
    for order in (np.arange(n), rng.permutation(n)):
        known = fit_ridge(
            X, Y[order], alphas=ALPHAS, groups=groups, n_folds=4, per_target=per_target
        )
        predicted, cv_r2 = path.predict(Y[order], per_target=per_target)
        np.testing.assert_allclose(predicted, known.predict(new), rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(cv_r2, known.cv_r2, atol=1e-4)


def test_other_folds_choose_another_penalty():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 50))
    X[15:] = X[:15]
    Y = rng.normal(size=(30, 4))
    Y[15:] = Y[:15]
    rows = np.arange(30)
    leaky = make_folds(30, rows // 15, 2)  # each row's copy is among the training rows
    whole = make_folds(30, rows % 15, 5)
    path = RidgePath(X, X, (1e-3, 1e4), leaky)
    _, best = path.predict(Y, per_target=True)
    path.hold_out(whole)
    _, honest = path.predict(Y, per_target=True)
    assert best.min() > 0.99
    assert honest.max() < 0.2
