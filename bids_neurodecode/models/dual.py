"""Ridge regression of very many targets: one factorisation serves all of them.

Penalties and folds cost small solves (:mod:`bids_neurodecode.models.ridge_solver`), and the
cross-validated predictions that re-standardisation needs come with the weights. Targets are read
and weights written in blocks of columns: both may be memory maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Array, Device, to_numpy
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.mapped import by_rows
from bids_neurodecode.models.ridge import RidgeModel, make_folds
from bids_neurodecode.models.ridge_solver import (
    LinearSystem,
    Predictors,
    errors_of_penalties,
)
from bids_neurodecode.models.wide import WideRegression
from bids_neurodecode.typing import Float32Array

LEAST_ROWS = 3
BAD_PREDICTORS = (
    'Predictors must be finite and of shape (n, p) with n of at least {least} and p of at least '
    '1: {found}.'
)
BAD_TARGETS = 'Targets must be of shape ({n}, t) with t of at least 1; these are {found}.'
NOT_FINITE = 'Targets must be finite; there are others in columns {first} to {last}.'
BAD_ALPHAS = 'Penalties must be finite and above 0: {found}.'
BAD_WEIGHTS = 'The array for the weights must be of shape {expected}; it is {found}.'
PAPER_ALPHAS: Mapping[str, float] = {'vdvae': 50_000.0, 'text': 100_000.0, 'vision': 60_000.0}
"""Penalties of Brain-Diffuser's code. (arXiv 2412.13237 states 50,000 for all three.)"""


class Factorisation:
    """The predictors, factorised; see :mod:`bids_neurodecode.models.ridge_solver`.

    Parameters
    ----------
    X
        Predictors, (n_samples, n_predictors). Only centred here: standardise them before.
    groups, n_folds
        What is held out together, as in :func:`bids_neurodecode.models.ridge.fit_ridge`.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    DataError
        For predictors or folds that cannot be used.
    ResourceError
        If the device is not there.
    """

    def __init__(
        self,
        X: npt.NDArray[np.floating[Any]],
        *,
        groups: npt.ArrayLike | None = None,
        n_folds: int = 5,
        device: Device = 'cpu',
    ) -> None:
        if X.ndim != 2 or len(X) < LEAST_ROWS or not X.size or not by_rows(X, _are_finite).all():
            raise DataError(BAD_PREDICTORS.format(least=LEAST_ROWS, found=f'{X.dtype} {X.shape}'))
        self._known = Predictors(X, make_folds(len(X), groups, n_folds), device)

    @property
    def n_samples(self) -> int:
        """Number of training samples."""
        return len(self._known.centred)

    def fit(
        self,
        Y: npt.NDArray[np.floating[Any]],
        *,
        alphas: Sequence[float],
        per_target: bool = False,
        n_choosing: int | None = 2048,
        block: int = 4096,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> WideRegression:
        """Fit targets.

        Parameters
        ----------
        Y
            Targets, (n_samples, n_targets); an array or a memory map.
        alphas
            Penalties to choose from by cross-validation; one alone is taken as it is.
        per_target
            One penalty per target, or one for all of them.
        n_choosing
            Where one penalty serves all, it is chosen on this many columns, spread evenly; None:
            on all.
        block
            Columns at once.
        weights
            Where to write the weights (see :meth:`weights_shape`), for example a memory map.

        Raises
        ------
        DataError
            For targets of another number of samples, or that are not finite.
        """
        n_targets = _check_targets(Y, self.n_samples)
        choices = _checked_alphas(alphas)
        if weights is None:
            weights = np.empty(self.weights_shape(n_targets), dtype=np.float32)
        elif weights.shape != self.weights_shape(n_targets):
            expected = self.weights_shape(n_targets)
            raise DataError(BAD_WEIGHTS.format(expected=expected, found=weights.shape))
        system = self._known.factorise(choices)
        tried: dict[float, float] = {}
        one = choices[0]
        if len(choices) > 1 and not per_target:
            tried = self._try(system, Y, choices, n_choosing, block)
            one = min(tried, key=lambda alpha: tried[alpha])
        found = {name: np.empty(n_targets, np.float32) for name in _COLUMNS}
        for columns, values in _blocks(Y, block):
            targets, mean = self._known.take(values)
            found['intercept'][columns] = to_numpy(mean)
            for chosen, some in self._chosen(system, targets, choices if per_target else [one]):
                known = np.arange(columns.start, columns.stop)[some]
                weights[:, known] = self._fit(system, targets[:, some], chosen, known, found)
        return self._result(weights, found, tried)

    def weights_shape(self, n_targets: int) -> tuple[int, int]:
        """Return the shape of the weights: dual where samples are fewer than predictors."""
        return min(self._known.centred.shape), n_targets

    def _chosen(
        self, system: LinearSystem, targets: Array, alphas: Sequence[float]
    ) -> Iterator[tuple[float, slice | npt.NDArray[np.intp]]]:
        """Give each penalty and the columns that it is best for."""
        if len(alphas) == 1:
            yield alphas[0], slice(None)
            return
        best = errors_of_penalties(system, [system.see(targets)], alphas)[0].argmin(axis=0)
        for index in np.unique(best):
            yield alphas[index], np.flatnonzero(best == index)

    def _fit(
        self,
        system: LinearSystem,
        targets: Array,
        alpha: float,
        columns: npt.NDArray[np.intp],
        found: Mapping[str, Float32Array],
    ) -> Float32Array:
        """Fit centred targets; note what is known of each; return the weights."""
        seen = system.see(targets)
        solved = seen.weights(alpha)
        predicted, errors = targets + 0, []
        for _, rows, missed in system.missed(alpha, [seen], solved):
            predicted[rows] -= missed
            errors.append(to_numpy((missed * missed).mean(axis=0)))
        variance = to_numpy((targets * targets).mean(axis=0))
        explained = 1 - np.mean(errors, axis=0) / np.maximum(variance, 1e-30)
        found['alphas'][columns] = alpha
        found['cv_r2'][columns] = np.where(variance > 0, explained, np.nan)
        mean = predicted.mean(axis=0)
        predicted -= mean
        predicted *= predicted
        found['cv_mean'][columns] = to_numpy(mean) + found['intercept'][columns]
        found['cv_std'][columns] = np.sqrt(to_numpy(predicted.mean(axis=0)))
        found['target_std'][columns] = np.sqrt(variance)
        return self._known.weights(solved)

    def _result(
        self, weights: Float32Array, found: Mapping[str, Float32Array], tried: dict[float, float]
    ) -> WideRegression:
        ridge = RidgeModel(
            self._known.mean,
            weights,
            found['intercept'],
            found['alphas'],
            found['cv_r2'],
            self._known.centred if self._known.is_dual else None,
        )
        return WideRegression(ridge, found['cv_mean'], found['cv_std'], found['target_std'], tried)

    def _try(
        self,
        system: LinearSystem,
        Y: npt.NDArray[np.floating[Any]],
        alphas: Sequence[float],
        n_columns: int | None,
        block: int,
    ) -> dict[float, float]:
        """Return the mean error of each penalty over some columns, in units of variance."""
        step = max(1, Y.shape[1] // n_columns) if n_columns is not None else 1
        sums, n = np.zeros(len(alphas)), 0
        for _, values in _blocks(Y, block * step, step):
            targets, _ = self._known.take(values)
            variance = to_numpy((targets * targets).mean(axis=0))
            varies = variance > 0
            errors = errors_of_penalties(system, [system.see(targets)], alphas)[0]
            sums += (errors[:, varies] / variance[varies]).sum(axis=1)
            n += int(varies.sum())
        return dict(zip(alphas, (sums / max(n, 1)).tolist(), strict=True))


def _are_finite(rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(rows).all(axis=1))


_COLUMNS = ('alphas', 'intercept', 'cv_r2', 'cv_mean', 'cv_std', 'target_std')


def _blocks(
    Y: npt.NDArray[np.floating[Any]], block: int, step: int = 1
) -> Iterator[tuple[slice, npt.NDArray[np.floating[Any]]]]:
    """Read targets, some columns at a time."""
    for first in range(0, Y.shape[1], block):
        columns = slice(first, min(first + block, Y.shape[1]))
        values = np.ascontiguousarray(Y[:, columns.start : columns.stop : step])
        if not np.isfinite(values).all():
            raise DataError(NOT_FINITE.format(first=columns.start, last=columns.stop - 1))
        yield columns, values


def _check_targets(Y: npt.NDArray[Any], n_samples: int) -> int:
    if Y.ndim != 2 or len(Y) != n_samples or Y.shape[1] < 1:
        raise DataError(BAD_TARGETS.format(n=n_samples, found=Y.shape))
    return int(Y.shape[1])


def _checked_alphas(alphas: Sequence[float]) -> list[float]:
    values = [float(alpha) for alpha in alphas]
    if not values or not np.isfinite(values).all() or min(values) <= 0:
        raise ArgumentsError(BAD_ALPHAS.format(found=values))
    return values
