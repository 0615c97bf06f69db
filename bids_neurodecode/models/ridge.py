r"""Ridge regression with its penalty chosen by cross-validation, on CPU or GPU.

The weights minimise :math:`\|Y - XB\|^2 + \alpha \|B\|^2` over centred training data; each target
has the :math:`\alpha` with the least squared error over held-out folds. The solvers are
himalaya's (Dupré la Tour et al. 2022, NeuroImage 264:119728): through the kernel where there are
fewer samples than predictors, else through the singular values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError, ResourceError
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array

BAD_SHAPES = (
    'Ridge needs predictors (n, p) and targets (n, t) with the same n of at least 2; these are '
    '{x} and {y}.'
)
NOT_FINITE = 'Ridge needs finite values; {n} of the {what} are not. Leave those columns out.'
BAD_ALPHAS = 'Penalties must be finite and above 0: {found}.'
BAD_GROUPS = 'Ridge needs one group label a sample: {n} samples, {found} labels.'
ONE_GROUP = (
    'Choosing the penalty needs at least two groups of training samples to hold out in turn; '
    'there is {n}. Use more runs or stimuli.'
)
OTHER_PREDICTORS = 'The ridge model was fitted on {expected} predictors; these have {found}.'
NO_GPU = 'The device {device!r} is not there. Use the CPU, or install a PyTorch that sees the GPU.'

# Targets and penalties are taken in batches: the resolution matrices of all penalties, and the
# predictions of all targets with them, would otherwise be held at once.
_TARGETS_AT_ONCE = 4096
_ALPHAS_AT_ONCE_ABOVE = 3000  # samples

Device = Literal['cpu', 'cuda']
Folds = Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclass(frozen=True, eq=False)
class RidgeModel:
    """A fitted ridge regression.

    Parameters
    ----------
    mean
        Mean of the training predictors, (n_predictors,).
    weights
        Primal weights (n_predictors, n_targets) if ``basis`` is None, else dual weights
        (n_samples, n_targets).
    intercept
        Mean of the training targets, (n_targets,).
    alphas
        The penalty chosen for each target, (n_targets,).
    cv_r2
        Share of each target's variance explained in held-out folds at that penalty.
    basis
        Centred training predictors (n_samples, n_predictors) of a dual model.
    """

    mean: Float32Array
    weights: Float32Array
    intercept: Float32Array
    alphas: Float32Array
    cv_r2: Float32Array
    basis: Float32Array | None = None

    def predict(self, X: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Predict targets (n, n_targets) from predictors (n, n_predictors)."""
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise DataError(OTHER_PREDICTORS.format(expected=len(self.mean), found=X.shape[-1]))
        centred = np.asarray(X, dtype=np.float32) - self.mean
        if self.basis is not None:
            centred = centred @ self.basis.T
        return np.asarray(centred @ self.weights + self.intercept, dtype=np.float32)

    def coefficients(self) -> Float32Array:
        """Return the primal weights, (n_predictors, n_targets)."""
        return self.weights if self.basis is None else self.basis.T @ self.weights

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` rebuilds the model from."""
        arrays = {
            'mean': self.mean,
            'weights': self.weights,
            'intercept': self.intercept,
            'alphas': self.alphas,
            'cv_r2': self.cv_r2,
        }
        return arrays if self.basis is None else {**arrays, 'basis': self.basis}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> RidgeModel:
        """Rebuild a model from :meth:`state`."""
        return cls(**{name: np.asarray(values) for name, values in state.items()})


def fit_ridge(
    X: npt.NDArray[np.floating[Any]],
    Y: npt.NDArray[np.floating[Any]],
    *,
    alphas: Sequence[float],
    groups: npt.ArrayLike | None = None,
    folds: Folds | None = None,
    n_folds: int = 5,
    per_target: bool = True,
    device: Device = 'cpu',
) -> RidgeModel:
    """Fit ridge regression and choose its penalty by cross-validation.

    Parameters
    ----------
    X
        Predictors, (n_samples, n_predictors). Only centred here: standardise them before.
    Y
        Targets, (n_samples, n_targets).
    alphas
        Penalties to choose from.
    groups
        A label a sample; samples of one label (repeats of a stimulus, a run) are held out
        together. None: contiguous folds of samples.
    folds
        (training rows, held-out rows) pairs, instead of ``groups`` and ``n_folds``.
    n_folds
        Number of folds, or as many as there are groups if those are fewer.
    per_target
        One penalty a target, or one for all (least mean error of standardised targets).
    device
        ``cpu`` (NumPy) or ``cuda``.

    Returns
    -------
    RidgeModel
        Kept in its dual form where there are fewer samples than predictors and that is smaller.

    Raises
    ------
    DataError
        For shapes that do not match, values that are not finite, or fewer than two groups.
    ResourceError
        If the device is not there.
    """
    X, Y = checked_arrays(X, Y, alphas)
    cv = list(folds) if folds is not None else make_folds(len(X), groups, n_folds)
    mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = X - mean
    # himalaya marks penalties too small for float32 by a score of -1e5, so errors must be small
    targets = Standardizer.fit(Y)
    scaled = targets.apply(Y)
    fit = _fit_dual if len(X) < X.shape[1] else _fit_primal
    with backend_of(device):
        weights, intercept, chosen, scores = fit(centred, scaled, alphas, cv, per_target)
    weights = (weights * targets.scale).astype(np.float32)
    intercept = targets.invert(intercept[None])[0]
    nearest = np.abs(np.log(chosen)[:, None] - np.log(np.asarray(alphas, dtype=float))).argmin(1)
    variance = np.where(np.any(scaled != 0, axis=0), 1.0, np.nan)
    cv_r2 = (1 + scores / variance).astype(np.float32)
    alpha = np.asarray(alphas, dtype=np.float32)[nearest]
    if fit is _fit_primal:
        return RidgeModel(mean, weights, intercept, alpha, cv_r2)
    if centred.size + weights.size < X.shape[1] * Y.shape[1]:
        return RidgeModel(mean, weights, intercept, alpha, cv_r2, basis=centred)
    return RidgeModel(mean, centred.T @ weights, intercept, alpha, cv_r2)


def make_folds(n_samples: int, groups: npt.ArrayLike | None, n_folds: int) -> Folds:
    """Cut samples into folds that keep groups whole: (training rows, held-out rows) pairs."""
    from sklearn.model_selection import GroupKFold, KFold

    rows = np.zeros(n_samples)
    if groups is None:
        return list(KFold(min(n_folds, n_samples)).split(rows))
    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise DataError(BAD_GROUPS.format(n=n_samples, found=labels.shape))
    n_groups = len(np.unique(labels))
    if n_groups < 2:
        raise DataError(ONE_GROUP.format(n=n_groups))
    return list(GroupKFold(min(n_folds, n_groups)).split(rows, groups=labels))


def checked_arrays(
    X: npt.NDArray[np.floating[Any]], Y: npt.NDArray[np.floating[Any]], alphas: Sequence[float]
) -> tuple[Float32Array, Float32Array]:
    """Return predictors and targets, (n_samples, n_features) and (n_samples, n_targets), checked.

    Raises
    ------
    DataError
        If they do not go together, or hold values that are not finite.
    """
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or len(X) < 2 or not X.size or not Y.size:
        raise DataError(BAD_SHAPES.format(x=X.shape, y=Y.shape))
    for what, values in (('predictors', X), ('targets', Y)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise DataError(NOT_FINITE.format(n=bad, what=what))
    if len(alphas) == 0 or not all(np.isfinite(alphas)) or min(alphas) <= 0:
        raise DataError(BAD_ALPHAS.format(found=list(alphas)))
    return np.asarray(X, dtype=np.float32), np.asarray(Y, dtype=np.float32)


_Fitted = tuple[Float32Array, Float32Array, Float32Array, Float32Array]


def _fit_dual(
    X: Float32Array, Y: Float32Array, alphas: Sequence[float], cv: Folds, per_target: bool
) -> _Fitted:
    from himalaya.kernel_ridge import KernelRidgeCV

    model = KernelRidgeCV(
        alphas=np.asarray(alphas, dtype=np.float32),
        fit_intercept=True,
        cv=cv,
        solver_params=_solver_params(len(X), per_target),
    )
    model.fit(X, Y)
    return _to_numpy(model.dual_coef_, model.intercept_, model.best_alphas_, model.cv_scores_)


def _fit_primal(
    X: Float32Array, Y: Float32Array, alphas: Sequence[float], cv: Folds, per_target: bool
) -> _Fitted:
    from himalaya.ridge import RidgeCV

    model = RidgeCV(
        alphas=np.asarray(alphas, dtype=np.float32),
        fit_intercept=True,
        cv=cv,
        # its folds may have fewer samples than predictors where all samples do not
        solver_params={**_solver_params(len(X), per_target), 'warn': False},
    )
    model.fit(X, Y)
    return _to_numpy(model.coef_, model.intercept_, model.best_alphas_, model.cv_scores_)


def _solver_params(n_samples: int, per_target: bool) -> dict[str, Any]:
    return {
        'local_alpha': per_target,
        'n_targets_batch': _TARGETS_AT_ONCE,
        'n_targets_batch_refit': _TARGETS_AT_ONCE,
        'n_alphas_batch': 1 if n_samples > _ALPHAS_AT_ONCE_ABOVE else None,
    }


def _to_numpy(*arrays: Any) -> _Fitted:
    from himalaya.backend import get_backend

    backend = get_backend()
    weights, intercept, alphas, scores = (
        np.asarray(backend.to_numpy(array), dtype=np.float32) for array in arrays
    )
    return weights, intercept, alphas, scores


@contextmanager
def backend_of(device: Device) -> Iterator[None]:
    """Set himalaya's backend, which is global, and put it back."""
    from himalaya.backend import get_backend, set_backend

    if device == 'cuda':
        import torch

        if not torch.cuda.is_available():
            raise ResourceError(NO_GPU.format(device=device))
    before = get_backend().name
    set_backend('torch_cuda' if device == 'cuda' else 'numpy')
    try:
        yield
    finally:
        set_backend(before)
