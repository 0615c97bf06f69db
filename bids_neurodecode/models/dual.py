"""Ridge regression of very many targets: one factorisation serves all of them.

Penalties and folds cost small solves (:mod:`bids_neurodecode.models.ridge_solver`), and the
cross-validated predictions that re-standardisation needs come with the weights. Where samples and
predictors are so many that each penalty costs an inversion (:mod:`bids_neurodecode.models.large`),
several sets of targets are fitted together (:meth:`Factorisation.fit_all`). Targets are read and
weights written in blocks of columns: both may be memory maps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Array, Device, to_numpy
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.mapped import by_rows, rows_of
from bids_neurodecode.models.ridge import RidgeModel, make_folds
from bids_neurodecode.models.ridge_solver import (
    LinearSystem,
    Predictors,
    errors_of_penalties,
)
from bids_neurodecode.models.wide import WideRegression
from bids_neurodecode.typing import IndexArray

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


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of one regression among several of the same predictors.

    Parameters
    ----------
    values
        Shape (n_samples, n_targets); an array or a memory map.
    alphas
        Penalties to choose from by cross-validation; one alone is taken as it is.
    per_target
        One penalty per target, or one for all of them.
    n_choosing
        Where one penalty serves all, it is chosen on this many columns, spread evenly; None: on
        all.
    weights
        Where to write the weights (see :meth:`Factorisation.weights_shape`), for example a memory
        map.
    order
        The sample that each row belongs to, (n_samples,), where samples are shuffled: the groups
        that are held out together stay those of the rows. None: as they are.
    """

    values: npt.NDArray[np.floating[Any]]
    alphas: Sequence[float]
    per_target: bool = False
    n_choosing: int | None = 2048
    weights: npt.NDArray[np.float32] | None = None
    order: IndexArray | None = None


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
        self._X, self._device = X, device
        self._folds = make_folds(len(X), groups, n_folds)
        self._known = Predictors(X, self._folds, device)

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
        given = Targets(Y, alphas, per_target, n_choosing, weights)
        return self.fit_all([given], block=block)[0]

    def fit_all(self, wanted: Sequence[Targets], *, block: int = 4096) -> list[WideRegression]:
        """Fit several sets of targets.

        Each penalty of many samples costs an inversion, which serves all of the sets: shuffled
        samples have the same kernel in another order.

        Parameters
        ----------
        wanted
            The sets.
        block
            Columns at once.

        Raises
        ------
        DataError
            For targets of another number of samples, or that are not finite.
        """
        checked = [self._checked(one) for one in wanted]
        if self._known.is_large:
            return self._fit_large(checked, block)
        found: dict[int, WideRegression] = {}
        orders = {id(one.order): one.order for one in checked}
        for key, order in orders.items():
            machine = self if order is None else self._reordered(order)
            mine = [number for number, one in enumerate(checked) if id(one.order) == key]
            found |= {number: machine._fit(checked[number], block) for number in mine}
        return [found[number] for number in range(len(checked))]

    def weights_shape(self, n_targets: int) -> tuple[int, int]:
        """Return the shape of the weights: dual where samples are fewer than predictors."""
        return min(self._known.centred.shape), n_targets

    def _checked(self, given: Targets) -> Targets:
        """Return targets with penalties and room for weights, all checked."""
        expected = self.weights_shape(_check_targets(given.values, self.n_samples))
        weights = given.weights
        if weights is None:
            weights = np.empty(expected, dtype=np.float32)
        elif weights.shape != expected:
            raise DataError(BAD_WEIGHTS.format(expected=expected, found=weights.shape))
        return replace(given, alphas=_checked_alphas(given.alphas), weights=weights)

    def _reordered(self, order: IndexArray) -> Factorisation:
        """Return the factorisation of the samples in another order, with the same folds."""
        self._known.release()  # two at once would be too large
        other = copy.copy(self)
        other._known = Predictors(rows_of(self._X, order, self._X), self._folds, self._device)
        return other

    def _fit(self, given: Targets, block: int) -> WideRegression:
        """Fit targets, block by block, once penalties are chosen."""
        system = self._known.factorise(given.alphas)
        alphas, tried = given.alphas, dict[float, float]()
        if len(alphas) > 1 and not given.per_target:
            tried = self._try(system, given, alphas, block)
            alphas = [min(tried, key=lambda alpha: tried[alpha])]
        fit = _Fit(given, system)
        fit.tried = tried
        for columns, values in _blocks(given.values, block):
            targets, mean = self._known.take(values)
            for alpha, some in self._chosen(system, targets, alphas):
                known = np.arange(columns.start, columns.stop)[some]
                self._keep(fit, known, alpha, targets[:, some], mean[some])
        return self._result(fit)

    def _fit_large(self, wanted: Sequence[Targets], block: int) -> list[WideRegression]:
        """Fit all targets at one penalty after another, and keep the best of each."""
        fits = []
        for given in wanted:
            rows, system = None, self._known.factorise(given.alphas)
            if given.order is not None:
                rows, system = self._known.reordered(given.order, self._folds)
            fits.append(_Fit(given, system, rows))
        alpha = 0.0
        for alpha in _each(one.given.alphas for one in fits if one.chooses):
            for fit in fits:
                if not fit.chooses or alpha not in fit.given.alphas:
                    continue
                if fit.given.per_target:
                    self._improve(fit, alpha, block)
                else:
                    fit.tried |= self._try(fit.system, fit.given, [alpha], block, fit.rows)
        # what is inverted last comes first
        for last in sorted(_each([fit.one] for fit in fits if fit.one), key=lambda x: x != alpha):
            for fit in fits:
                if fit.one == last:
                    self._improve(fit, last, block)
        return [self._result(fit) for fit in fits]

    def _improve(self, fit: _Fit, alpha: float, block: int) -> None:
        """Fit targets at a penalty; keep it of those that no earlier one was as good for."""
        for columns, values in _blocks(fit.given.values, block):
            targets, mean = self._known.take(values, fit.rows)
            known = np.arange(columns.start, columns.stop)
            self._keep(fit, known, alpha, targets, mean)

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

    def _keep(
        self, fit: _Fit, columns: IndexArray, alpha: float, targets: Array, mean: Array
    ) -> None:
        """Fit centred targets; keep what is known of those that were not fitted better before."""
        seen = fit.system.see(targets)
        solved = seen.weights(alpha)
        predicted, errors = targets + 0, []
        for _, rows, missed in fit.system.missed(alpha, [seen], solved):
            predicted[rows] -= missed
            errors.append(to_numpy((missed * missed).mean(axis=0)))
        error = np.sum(errors, axis=0)
        better = ~(error >= fit.error[columns])
        if not better.any():
            return
        fit.error[columns[better]] = error[better]
        variance = to_numpy((targets * targets).mean(axis=0))
        centre = predicted.mean(axis=0)
        predicted -= centre
        predicted *= predicted
        values = {
            'alphas': np.full(len(columns), alpha),
            'intercept': to_numpy(mean),
            'cv_r2': np.where(
                variance > 0, 1 - error / len(errors) / np.maximum(variance, 1e-30), np.nan
            ),
            'cv_mean': to_numpy(centre) + to_numpy(mean),
            'cv_std': np.sqrt(to_numpy(predicted.mean(axis=0))),
            'target_std': np.sqrt(variance),
        }
        for name, each in values.items():
            fit.found[name][columns[better]] = each[better]
        if better.all():
            fit.weights[:, columns] = self._known.weights(solved)
        else:
            fit.weights[:, columns[better]] = self._known.weights(solved[:, better])

    def _result(self, fit: _Fit) -> WideRegression:
        found = fit.found
        ridge = RidgeModel(
            self._known.mean,
            fit.weights,
            found['intercept'],
            found['alphas'],
            found['cv_r2'],
            self._known.centred if self._known.is_dual else None,
        )
        # in the order in which they were given, whatever else was fitted
        tried = {alpha: fit.tried[alpha] for alpha in fit.given.alphas if alpha in fit.tried}
        return WideRegression(ridge, found['cv_mean'], found['cv_std'], found['target_std'], tried)

    def _try(
        self,
        system: LinearSystem,
        given: Targets,
        alphas: Sequence[float],
        block: int,
        rows: IndexArray | None = None,
    ) -> dict[float, float]:
        """Return the mean error of each penalty over some columns, in units of variance."""
        n_columns, n_targets = given.n_choosing, given.values.shape[1]
        step = max(1, n_targets // n_columns) if n_columns is not None else 1
        sums, n = np.zeros(len(alphas)), 0
        for _, values in _blocks(given.values, block * step, step):
            targets, _ = self._known.take(values, rows)
            variance = to_numpy((targets * targets).mean(axis=0))
            varies = variance > 0
            errors = errors_of_penalties(system, [system.see(targets)], alphas)[0]
            sums += (errors[:, varies] / variance[varies]).sum(axis=1)
            n += int(varies.sum())
        return dict(zip(alphas, (sums / max(n, 1)).tolist(), strict=True))


_COLUMNS = ('alphas', 'intercept', 'cv_r2', 'cv_mean', 'cv_std', 'target_std')


class _Fit:
    """A regression under way: the best that was found for each target so far.

    Parameters
    ----------
    given
        The targets.
    system
        The predictors, with the folds of these targets.
    rows
        The order of the targets, if it is not that of the predictors.
    """

    def __init__(
        self, given: Targets, system: LinearSystem, rows: IndexArray | None = None
    ) -> None:
        assert given.weights is not None, 'room is made for weights'
        self.given, self.system, self.rows = given, system, rows
        self.weights, self.tried = given.weights, dict[float, float]()
        n_targets = given.values.shape[1]
        self.found = {name: np.empty(n_targets, dtype=np.float32) for name in _COLUMNS}
        self.error = np.full(n_targets, np.nan, dtype=np.float32)

    @property
    def chooses(self) -> bool:
        """Whether there are penalties to choose from."""
        return len(self.given.alphas) > 1

    @property
    def one(self) -> float | None:
        """The penalty of all targets, if they have one."""
        if not self.chooses:
            return self.given.alphas[0]
        if self.given.per_target:
            return None
        return min(self.given.alphas, key=lambda alpha: self.tried[alpha])


def _each(choices: Iterable[Sequence[float]]) -> list[float]:
    """Return all penalties, each once."""
    return list(dict.fromkeys(alpha for alphas in choices for alpha in alphas))


def _are_finite(rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(rows).all(axis=1))


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
