r"""The equations of all ridge regressions, on NumPy or on a GPU.

For centred predictors :math:`X` (n_samples, n_predictors) the weights are

.. math::

    B = X^T C, \quad C = (K + \alpha)^{-1} Y, \quad K = XX^T \qquad \text{or} \qquad
    B = (X^TX + \alpha)^{-1} X^T Y,

whichever matrix is smaller. Several penalties share its eigenvectors; one alone takes a Cholesky
factorisation, a sixth of the work. With :math:`P` the inverse of :math:`K + \alpha` without the
constant direction, what a regression fitted without the samples of a fold F, its intercept and
mean fitted again, would miss on them is

.. math:: Y_F - \hat Y_F = P_{FF}^{-1} C_F:

the exact shortcut that is known for one sample (Allen's PRESS statistic), for blocks. With fewer
predictors than samples, :math:`X^TX` of the samples without a fold is that of all samples less
the fold's own.

Inverses and eigenvectors are computed in float64, products with targets in float32. Where the
penalty is small, what rounding leaves in directions that the predictors do not span would be seen
in predictions: weights are 0 there, and a penalty that is small beside the matrix takes the
eigenvectors, which tell these directions apart, even where it is alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Algebra, Array, Device, algebra_of, to_numpy
from bids_neurodecode.mapped import blocks, room, rows_of
from bids_neurodecode.models.large import Folds, LargeSystem, Rows, is_large, reordered
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray

Columns = slice | npt.NDArray[np.intp]
Penalty = float | npt.NDArray[np.float64]

_COLUMNS_AT_ONCE = 4096  # of predictors that are float64 at one time
_SPANNED_BY_KERNEL, _SPANNED = 1e-10, 1e-12
"""Shares of the largest eigenvalue, of a kernel and a covariance: less is taken for rounding."""
_WELL_CONDITIONED = 1e-4
"""A penalty of this share of the matrix needs no more than float32."""


class _Factor:
    """A symmetric matrix A for whose sake (A + penalty) is inverted.

    L (A + penalty)^-1 R is ``through(L) @ shrink(penalty, project(R))``: what stands in the
    middle alone depends on the penalty, where there are several.

    Parameters
    ----------
    algebra
        Of the device.
    matrix
        A, positive semidefinite, float64 on the device.
    penalties
        All that will be asked for.
    kernel
        Whether A is the kernel of centred samples: its inverse is without the constant vector.
    """

    def __init__(
        self, algebra: Algebra, matrix: Array, penalties: Sequence[float], *, kernel: bool
    ) -> None:
        n = len(matrix)
        size = max(
            float(abs(matrix).sum(axis=0).max()), float(np.finfo(np.float32).tiny)
        )  # no eigenvalue is larger
        # a penalty below what rounding does to eigenvalues is none
        self._least = float(np.finfo(np.float64).eps * n * size)
        self._well_conditioned = _WELL_CONDITIONED * size
        self._values: Array = None
        self._double: Array
        self._algebra = algebra
        if len(penalties) == 1 and self.is_well_conditioned(penalties[0]):
            shifted = matrix + (size / n if kernel else 0.0)
            diagonal = np.arange(n)
            shifted[diagonal, diagonal] += penalties[0]
            inverse = algebra.inverse(shifted)
            if kernel:  # the constant vector now belongs to the eigenvalue ``size``
                inverse -= 1 / (n * (size + penalties[0]))
            self._double = inverse
        elif kernel:
            # moved to the top, the constant vector can be cut off
            values, vectors = algebra.eigh(matrix + 2 * size / n)
            self._values, self._double = values[:-1], vectors[:, :-1]
            least = _SPANNED_BY_KERNEL * float(self._values[-1])
            self._spanned = self._values > least
            self._least = max(self._least, least)
        else:
            self._values, self._double = algebra.eigh(matrix)
            self._spanned = self._values > _SPANNED * self._values[-1]
        self._single = algebra.single(self._double)

    @property
    def one(self) -> bool:
        """Whether it was made for one penalty."""
        return self._values is None

    def is_well_conditioned(self, penalty: float) -> bool:
        """Whether float32 holds products with the inverse for a penalty."""
        return bool(penalty >= self._well_conditioned)

    def project(self, right: Array) -> Array:
        return right if self._values is None else self._single.T @ right

    def through(self, left: Array) -> Array:
        return left @ self._single

    def shrink(self, penalty: Penalty, projected: Array) -> Array:
        """Take the penalty into account; of a small one within what A spans alone."""
        if self._values is None:
            return projected
        large = self._algebra.double(np.atleast_1d(penalty)) >= self._well_conditioned
        shrinkage = self._shrinkage(penalty) * (self._spanned[:, None] | large)
        return projected * self._algebra.single(shrinkage)

    def rows(self, penalty: float, rows: slice) -> Array:
        """Return what gives some rows of (A + penalty)^-1 R when multiplied by ``project(R)``."""
        return self._double[rows] * self._shrinkage(penalty).T

    def solve(self, penalty: Penalty, projected: Array) -> Array:
        """Return (A + penalty)^-1 R from ``project(R)``."""
        return self._single @ self.shrink(penalty, projected)

    def inverse_of_block(self, penalty: float, rows: slice) -> Array:
        """Return the inverse of what (A + penalty)^-1 is among some rows, float64."""
        if self._values is None:
            block = self._double[rows, rows] + 0.0
        else:
            block = self.rows(penalty, rows) @ self._double[rows].T
        return self._algebra.inverse(block)

    def _shrinkage(self, penalty: Penalty) -> Array:
        """Return 1 / (eigenvalue + penalty): a row each eigenvalue, a column each penalty."""
        each = np.maximum(np.atleast_1d(np.asarray(penalty, dtype=np.float64)), self._least)
        return 1 / (self._values.clip(min=0)[:, None] + self._algebra.double(each))


class Seen(Protocol):
    """Some targets that a :class:`LinearSystem` has seen."""

    def weights(self, penalty: Penalty, columns: Columns = slice(None)) -> Array:
        """Return the weights of some targets, (n_weights, n_columns).

        ``penalty`` is one for all of them, or one each.

        Parameters
        ----------
        penalty
            Of the targets, (n_columns,) or one number.
        columns
            Which targets.
        """


class LinearSystem(Protocol):
    """Predictors, factorised; rows of targets are in the order of their folds."""

    @property
    def folds(self) -> Sequence[Rows]:
        """The rows of each."""

    def see(self, targets: Array) -> Seen:
        """Take centred targets, (n_samples, n_targets) on the device."""

    def missed(
        self, penalty: float, seen: Sequence[Any], weights: Array | None = None
    ) -> Iterator[tuple[int, Rows, Array]]:
        """Give what fits without a fold miss on it: of each of the seen, and each fold.

        Parameters
        ----------
        penalty
            One for all targets.
        seen
            What :meth:`see` returned for some blocks of targets.
        weights
            Of that penalty, where they are known and one block is seen.

        Yields
        ------
        int, slice or numpy.ndarray, array
            Which of the seen, the rows of the fold, and (n_rows, n_targets).
        """


class DualSystem:
    """Through the kernel of the samples; weights are dual, (n_samples, n_targets).

    Parameters
    ----------
    algebra
        Of the device.
    kernel
        Of centred predictors, float64 on the device, (n_samples, n_samples).
    folds
        The rows of each.
    penalties
        All that will be asked for.
    """

    def __init__(
        self, algebra: Algebra, kernel: Array, folds: Sequence[slice], penalties: Sequence[float]
    ) -> None:
        self.folds = folds
        self._algebra = algebra
        self._factor = _Factor(algebra, kernel, penalties, kernel=True)
        self._inverses: dict[float, list[Array]] = {}

    def see(self, targets: Array) -> _DualSeen:
        """See :class:`LinearSystem`."""
        return _DualSeen(self._factor, targets)

    def missed(
        self, penalty: float, seen: Sequence[_DualSeen], weights: Array | None = None
    ) -> Iterator[tuple[int, slice, Array]]:
        """See :class:`LinearSystem`.

        Parameters
        ----------
        penalty
            One of those that are tried.
        seen
            Targets, in blocks.
        weights
            Of all samples, where they are known already, (n_samples, n_columns).
        """
        exact = self._factor.is_well_conditioned(penalty)
        if penalty not in self._inverses:
            inverses = (self._factor.inverse_of_block(penalty, rows) for rows in self.folds)
            take = self._algebra.single if exact else self._algebra.double
            self._inverses[penalty] = [take(inverse) for inverse in inverses]
        for rows, inverse in zip(self.folds, self._inverses[penalty], strict=True):
            if weights is not None and exact:
                yield 0, rows, inverse @ weights[rows]
                continue
            if self._factor.one:
                products = (inverse @ part.weights(penalty)[rows] for part in seen)
            else:
                # of a small penalty one factor is large and the other small, their product is not
                part_rows = self._factor.rows(penalty, rows)
                left = inverse @ (self._algebra.single(part_rows) if exact else part_rows)
                left = self._algebra.single(left)
                products = (left @ part.projected for part in seen)
            for index, product in enumerate(products):
                yield index, rows, product


class _DualSeen:
    def __init__(self, factor: _Factor, targets: Array) -> None:
        self._factor, self.projected = factor, factor.project(targets)

    def weights(self, penalty: Penalty, columns: Columns = slice(None)) -> Array:
        if self._factor.one:
            return self._only[:, columns]
        return self._factor.solve(penalty, self.projected[:, columns])

    @cached_property
    def _only(self) -> Array:
        return self._factor.solve(0.0, self.projected)  # it knows its penalty


class PrimalSystem:
    """Through the covariance of the predictors; weights are (n_predictors, n_targets).

    Parameters
    ----------
    algebra
        Of the device.
    X
        Centred predictors, float32 on the device.
    gram, fold_grams
        ``X.T @ X`` of all samples, and :func:`gram_without` each fold, float64 on the device.
    folds
        The rows of each.
    penalties
        All that will be asked for.
    """

    def __init__(
        self,
        algebra: Algebra,
        X: Array,
        gram: Array,
        fold_grams: Sequence[Array],
        folds: Sequence[slice],
        penalties: Sequence[float],
    ) -> None:
        self.X, self.folds = X, folds
        self.factor = _Factor(algebra, gram, penalties, kernel=False)
        self.fold_factors = [
            _Factor(algebra, matrix, penalties, kernel=False) for matrix in fold_grams
        ]
        self.fold_means = [fold_mean(X, rows) for rows in folds]
        self._rows = [
            factor.through(X[rows] - mean)
            for factor, rows, mean in zip(self.fold_factors, folds, self.fold_means, strict=True)
        ]

    def see(self, targets: Array) -> _PrimalSeen:
        """See :class:`LinearSystem`."""
        return _PrimalSeen(self, targets)

    def missed(
        self,
        penalty: float,
        seen: Sequence[_PrimalSeen],
        weights: Array | None = None,
    ) -> Iterator[tuple[int, slice, Array]]:
        """See :class:`LinearSystem`.

        Parameters
        ----------
        penalty
            One of those that are tried.
        seen
            Targets, in blocks.
        weights
            Not used here.
        """
        parts = zip(self.folds, self.fold_factors, self._rows, strict=True)
        for number, (rows, factor, through) in enumerate(parts):
            left = factor.shrink(penalty, through.T).T
            for index, part in enumerate(seen):
                predicted = left @ part.projected[number] + part.means[number]
                yield index, rows, part.targets[rows] - predicted


class _PrimalSeen:
    def __init__(self, system: PrimalSystem, targets: Array) -> None:
        self.targets = targets
        self._factor = system.factor
        products = system.X.T @ targets
        self._projected = self._factor.project(products)
        self.means = [fold_mean(targets, rows) for rows in system.folds]
        self.projected = []
        parts = zip(system.fold_factors, system.folds, system.fold_means, self.means, strict=True)
        for factor, rows, x_mean, y_mean in parts:
            part = system.X[rows]
            n = len(targets) - len(part)
            without = products - part.T @ targets[rows] - n * x_mean[:, None] * y_mean
            self.projected.append(factor.project(without))

    def weights(self, penalty: Penalty, columns: Columns = slice(None)) -> Array:
        return self._factor.solve(penalty, self._projected[:, columns])


class Predictors:
    """Training predictors, centred and factorised once for any number of targets.

    Parameters
    ----------
    X
        (n_samples, n_predictors), finite.
    folds
        (training rows, held-out rows): each sample is held out once.
    device
        ``cpu`` (NumPy) or ``cuda``.

    Raises
    ------
    ResourceError
        If the device is not there.
    """

    def __init__(self, X: npt.NDArray[np.floating[Any]], folds: Folds, device: Device) -> None:
        self.algebra = algebra_of(device)
        self.mean: Float32Array = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.centred: Float32Array = room(X, X.shape)
        for part in blocks(len(X), X.shape[1]):
            np.subtract(X[part], self.mean, out=self.centred[part], dtype=np.float32)
        self.order = np.concatenate([held for _, held in folds])
        edges = np.cumsum([0, *(len(held) for _, held in folds)])
        self.folds = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        self._known: tuple[tuple[float, ...], LinearSystem] | None = None
        self.is_large = device == 'cpu' and is_large(len(X), X.shape[1], 1)

    @property
    def is_dual(self) -> bool:
        """Whether there are fewer samples than predictors."""
        n_samples, n_predictors = self.centred.shape
        return bool(n_samples < n_predictors)

    def factorise(self, penalties: Sequence[float]) -> LinearSystem:
        """Return the system that serves some penalties; the last one is kept."""
        key = tuple(float(penalty) for penalty in penalties)
        one = self._known is not None and len(self._known[0]) == 1 and not self.is_large
        if self._known is None or (self._known[0] != key and one):
            self.release()  # two at once would be too large
            self._known = key, self._system(key)
        return self._known[1]

    def release(self) -> None:
        """Give back what :meth:`factorise` keeps."""
        self._known = None

    def reordered(self, order: IndexArray, folds: Folds) -> tuple[IndexArray, LargeSystem]:
        """Return the system of many samples for targets that belong to them in another order.

        Parameters
        ----------
        order
            The sample that each row of the targets belongs to, (n_samples,).
        folds
            Of the targets.

        Returns
        -------
        numpy.ndarray
            The rows of the targets in the order of the system, for :meth:`take`.
        LargeSystem
            It shares the kernel with that of :meth:`factorise`.
        """
        system = self.factorise(())
        assert isinstance(system, LargeSystem), 'few samples have a system an order'
        rows, held_out = reordered(self.order, order, folds)
        return rows, system.with_folds(held_out)

    def take(
        self, targets: npt.NDArray[np.floating[Any]], rows: IndexArray | None = None
    ) -> tuple[Array, Array]:
        """Take targets (n_samples, n_targets): centred, in the order of folds, and their mean.

        Parameters
        ----------
        targets
            Shape (n_samples, n_targets).
        rows
            Another order, as :meth:`reordered` returns it.
        """
        values = self.algebra.single(targets[self.order if rows is None else rows])
        mean = values.mean(axis=0)
        return values - mean, mean

    def weights(self, weights: Array) -> Float32Array:
        """Return weights of the device as NumPy's, dual ones in the order of the samples."""
        values = to_numpy(weights)
        if not (self.is_dual or self.is_large):
            return values
        back = np.empty_like(values)
        back[self.order] = values
        return back if self.is_dual else self.centred.T @ back

    def _system(self, penalties: Sequence[float]) -> LinearSystem:
        algebra, folds = self.algebra, self.folds
        if self.is_large:
            return LargeSystem(self.centred, self.order, folds)
        X = algebra.single(rows_of(self.centred, self.order, self.centred))
        if self.is_dual:
            return DualSystem(algebra, kernel_of(algebra, X), folds, penalties)
        whole = gram(algebra, X.T)
        without = [gram_without(algebra, X, whole, rows) for rows in folds]
        return PrimalSystem(algebra, X, whole, without, folds, penalties)


def gram(algebra: Algebra, X: Array) -> Array:
    """Return ``X @ X.T`` in float64, (n_rows, n_rows), of float32 values on the device.

    Parameters
    ----------
    algebra
        Of the device.
    X
        Shape (n_rows, n_columns), float32.
    """
    first, *others = blocks(X.shape[1], len(X), _COLUMNS_AT_ONCE)
    columns = algebra.double(X[:, first])
    total = columns @ columns.T
    for part in others:
        columns = algebra.double(X[:, part])
        total += columns @ columns.T
    return total


def kernel_of(algebra: Algebra, X: Array) -> Array:
    """Return the kernel of centred predictors, (n_samples, n_samples), float64.

    Parameters
    ----------
    algebra
        Of the device.
    X
        Centred predictors, (n_samples, n_features), float32.
    """
    kernel = gram(algebra, X)
    kernel -= kernel.mean(axis=0)  # what rounding left
    kernel -= kernel.mean(axis=1)[:, None]
    return kernel


def gram_without(algebra: Algebra, X: Array, whole: Array, rows: slice) -> Array:
    """Return the covariance sums of centred predictors without the samples of a fold.

    Parameters
    ----------
    algebra
        Of the device.
    X
        Centred predictors, (n_samples, n_features), float32.
    whole
        Covariance sums of all samples, (n_features, n_features), float64.
    rows
        Samples of the fold.
    """
    part = algebra.double(X[rows])
    mean = fold_mean(algebra.double(X), rows)
    return whole - part.T @ part - (len(X) - len(part)) * mean[:, None] * mean


def fold_mean(values: Array, rows: slice) -> Array:
    """Return the mean of centred values over the samples without a fold.

    Parameters
    ----------
    values
        Shape (n_samples, n), centred over all samples.
    rows
        Samples of the fold.
    """
    part = values[rows]
    return (values.sum(axis=0) - part.sum(axis=0)) / (len(values) - len(part))


def errors_of_penalties(
    system: LinearSystem, seen: Sequence[Seen], penalties: Sequence[float]
) -> list[FloatArray]:
    """Return mean squared errors of held-out samples: the mean over folds of each fold's mean.

    Parameters
    ----------
    system
        The predictors.
    seen
        Blocks of targets.
    penalties
        To choose from.

    Returns
    -------
    list of numpy.ndarray
        Of each block, (n_penalties, n_targets).
    """
    sums: list[list[Array]] = [[0.0] * len(penalties) for _ in seen]
    for number, penalty in enumerate(penalties):
        for index, _, missed in system.missed(penalty, seen):
            sums[index][number] = sums[index][number] + (missed * missed).mean(axis=0)
    n_folds = len(system.folds)
    return [
        np.stack([np.asarray(to_numpy(row), dtype=np.float64) / n_folds for row in rows])
        for rows in sums
    ]
