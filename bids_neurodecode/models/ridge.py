r"""Ridge regression with its penalty chosen by cross-validation, on CPU or GPU.

The weights minimise :math:`\|Y - XB\|^2 + \alpha \|B\|^2` over centred training data; each target
has the :math:`\alpha` with the least squared error over held-out folds: the mean over folds of
each fold's mean. :mod:`bids_neurodecode.models.ridge_solver` has the equations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Device
from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import blocks, rows_of
from bids_neurodecode.models.large import Folds, fit_penalties, is_large
from bids_neurodecode.models.ridge_solver import Predictors, errors_of_penalties
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array, IndexArray

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

_TARGETS_AT_ONCE = 4096
_ROWS_AT_ONCE = 1024


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
        One label per sample; samples of one label (repeats of a stimulus, a run) are held out
        together. None: contiguous folds of samples.
    n_folds
        Number of folds, or as many as there are groups if those are fewer.
    per_target
        One penalty per target, or one for all (least mean error of standardised targets).
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
    folds = make_folds(len(X), groups, n_folds)
    if device == 'cpu' and is_large(len(X), X.shape[1], Y.shape[1]):
        return _fit_large(X, Y, alphas, folds, per_target=per_target)[0]
    known = Predictors(X, folds, device)
    system = known.factorise(alphas)
    # one penalty for all targets is chosen by errors in units of their variance
    scales = Standardizer.fit(Y)
    n_targets = Y.shape[1]
    parts = list(blocks(n_targets, len(X), _TARGETS_AT_ONCE))
    # without a penalty for all, a block is done with before the next one is read; what is inverted
    # for each penalty in the dual form serves all blocks
    apart = per_target and not known.is_dual
    weights = np.empty((min(X.shape), n_targets), dtype=np.float32)
    chosen, missed = np.empty(n_targets), np.empty(n_targets)
    varies = np.empty(n_targets, dtype=bool)
    for group in [[part] for part in parts] if apart else [parts]:
        seen = []
        for columns in group:
            scaled = scales.columns(columns).apply(Y[:, columns])
            varies[columns] = np.any(scaled != 0, axis=0)
            seen.append(system.see(known.take(scaled)[0]))
        errors = errors_of_penalties(system, seen, alphas)
        of_all = None if per_target else np.concatenate(errors, axis=1).mean(axis=1).argmin()
        for columns, part, own in zip(group, seen, errors, strict=True):
            best = own.argmin(axis=0) if of_all is None else np.full(own.shape[1], of_all)
            missed[columns] = own[best, np.arange(own.shape[1])]
            chosen[columns] = np.asarray(alphas, dtype=np.float64)[best]
            weights[:, columns] = known.weights(part.weights(chosen[columns]))
    weights *= scales.scale.astype(np.float32)
    variance = np.where(varies, 1.0, np.nan)
    basis = known.centred if known.is_dual else None
    if basis is not None and basis.size + weights.size >= X.shape[1] * n_targets:
        weights, basis = basis.T @ weights, None
    return RidgeModel(
        known.mean,
        weights,
        scales.mean.astype(np.float32),
        chosen.astype(np.float32),
        (1 - missed / variance).astype(np.float32),
        basis,
    )


def fit_ridges(
    X: npt.NDArray[np.floating[Any]],
    Y: npt.NDArray[np.floating[Any]],
    orders: Sequence[IndexArray | None],
    *,
    alphas: Sequence[float],
    groups: npt.ArrayLike | None = None,
    n_folds: int = 5,
    per_target: bool = True,
    device: Device = 'cpu',
) -> list[RidgeModel]:
    """Fit what :func:`fit_ridge` does to the same samples in several orders.

    Each penalty of many samples and predictors costs an inversion, which serves all orders.

    Parameters
    ----------
    X, Y, alphas, groups, n_folds, per_target, device
        As in :func:`fit_ridge`; groups are those of the targets.
    orders
        The sample that each row of the targets belongs to, (n_samples,), of each fit; None: as
        they are.
    """
    X, Y = checked_arrays(X, Y, alphas)
    if device == 'cpu' and is_large(len(X), X.shape[1], Y.shape[1]):
        folds = make_folds(len(X), groups, n_folds)
        return _fit_large(X, Y, alphas, folds, per_target=per_target, orders=orders)
    fit = partial(
        fit_ridge,
        alphas=alphas,
        groups=groups,
        n_folds=n_folds,
        per_target=per_target,
        device=device,
    )
    return [fit(X if order is None else rows_of(X, order, X), Y) for order in orders]


def _fit_large(
    X: Float32Array,
    Y: Float32Array,
    alphas: Sequence[float],
    folds: Folds,
    *,
    per_target: bool,
    orders: Sequence[IndexArray | None] = (None,),
) -> list[RidgeModel]:
    """Fit in the memory of one kernel, see :mod:`bids_neurodecode.models.large`."""
    scales = Standardizer.fit(Y)
    scaled = scales.apply(Y)
    variance = np.where(np.any(scaled != 0, axis=0), 1.0, np.nan)
    return [
        RidgeModel(
            X.mean(axis=0, dtype=np.float64).astype(np.float32),
            best.weights * scales.scale.astype(np.float32),
            scales.mean.astype(np.float32),
            np.asarray(alphas, dtype=np.float32)[best.chosen],
            (1 - best.missed / variance).astype(np.float32),
        )
        for best in fit_penalties(X, scaled, alphas, folds, per_target=per_target, orders=orders)
    ]


def make_folds(n_samples: int, groups: npt.ArrayLike | None, n_folds: int) -> Folds:
    """Cut samples into folds that keep groups whole: (training rows, held-out rows) pairs.

    Parameters
    ----------
    n_samples
        How many samples there are.
    groups
        One label per sample, (n_samples,); None: each sample is its own group.
    n_folds
        At most.

    Raises
    ------
    DataError
        If there is not one label per sample.
    """
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

    Parameters
    ----------
    X
        Predictors.
    Y
        Targets.
    alphas
        Penalties, positive.

    Raises
    ------
    DataError
        If they do not go together, or hold values that are not finite.
    """
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or len(X) < 2 or not X.size or not Y.size:
        raise DataError(BAD_SHAPES.format(x=X.shape, y=Y.shape))
    for what, values in (('predictors', X), ('targets', Y)):
        parts = (values[k : k + _ROWS_AT_ONCE] for k in range(0, len(values), _ROWS_AT_ONCE))
        bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts)
        if bad:
            raise DataError(NOT_FINITE.format(n=bad, what=what))
    if len(alphas) == 0 or not all(np.isfinite(alphas)) or min(alphas) <= 0:
        raise DataError(BAD_ALPHAS.format(found=list(alphas)))
    return np.asarray(X, dtype=np.float32), np.asarray(Y, dtype=np.float32)
