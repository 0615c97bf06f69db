r"""Ridge regression of many samples on many predictors, in the memory of one kernel.

Eigenvectors of a kernel take the room of seven, those of covariances, one a fold, of more. Here
each penalty is inverted in turn, in the lower triangle of the kernel, whose upper triangle brings
it back for the next one: with :math:`P` the inverse of :math:`K + \alpha` without the constant
direction, dual weights are :math:`C = PY`, and what a fit without the samples of a fold F misses
on them is :math:`P_{FF}^{-1} C_F` (:mod:`bids_neurodecode.models.ridge_solver`). Everything is
float64 up to the primal weights :math:`X^T C`, in which directions that rows repeat cancel. What
rounding to float32 left in directions that predictors lack is fitted as it is; with eigenvectors
it is cut off where the penalty is small (1e-4 of the kernel and less).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas, cho_factor, cho_solve, lapack

from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray

Folds = Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
Rows = slice | IndexArray

LARGE = 2**13
"""Samples and predictors from which one kernel is all that is held."""
COVARIANCES = 18
"""How many squares of predictors are held at a time where there are fewer of them than samples:
those of all samples and without each of five folds, their eigenvectors, and work space."""
AT_ONCE = 1024
"""Columns that are worked on together."""


def is_large(n_samples: int, n_predictors: int, n_targets: int) -> bool:
    """Whether one kernel after another is taken: few targets, half a GiB and more, least memory.

    Parameters
    ----------
    n_samples, n_predictors, n_targets
        Of the regression.

    Examples
    --------
    >>> is_large(30_000, 30_427, 100), is_large(1_000, 30_427, 100), is_large(90_000, 9_000, 100)
    (True, False, False)
    """
    fewest = min(n_samples, n_predictors)
    return n_targets <= n_samples and fewest >= LARGE and n_samples**2 <= COVARIANCES * fewest**2


def fit_penalties(
    X: npt.NDArray[np.float32],
    Y: npt.NDArray[np.floating[Any]],
    alphas: Sequence[float],
    folds: Folds,
    *,
    per_target: bool,
    orders: Sequence[IndexArray | None] = (None,),
) -> list[Best]:
    """Fit one penalty after another and keep the best of each target.

    Parameters
    ----------
    X
        Predictors, (n_samples, n_predictors); may lie in a file.
    Y
        Standardised targets, (n_samples, n_targets).
    alphas
        To choose from.
    folds
        (training rows, held-out rows) of the targets: each is held out once.
    per_target
        One penalty a target, or one for all.
    orders
        For each fit the sample that each row of the targets belongs to, (n_samples,); None: as
        they are. All take the same inverses.
    """
    samples = np.concatenate([held for _, held in folds])
    kernel = _Kernel(X, samples)
    fits = []
    for order in orders:
        rows, held_out = reordered(samples, order, folds)
        targets = np.asarray(Y, dtype=np.float64, order='F')[rows]
        best = Best(
            np.zeros((X.shape[1], Y.shape[1]), dtype=np.float32),
            np.zeros(Y.shape[1], dtype=np.intp),
            np.full(Y.shape[1], np.inf),
        )
        fits.append((targets - targets.mean(axis=0), held_out, best))
    for number, alpha in enumerate(alphas):
        kernel.invert(alpha)
        for targets, held_out, best in fits:
            dual = kernel.solve(targets)
            errors = np.zeros(dual.shape[1])
            for part in held_out:
                missed = cho_solve(kernel.factor(part), dual[part])
                errors += np.square(missed).mean(axis=0) / len(folds)
            better = errors < best.missed
            if not per_target:
                better[:] = errors.mean() < best.missed.mean()
            if better.any():
                best.chosen[better], best.missed[better] = number, errors[better]
                best.weights[:, better] = _primal(X, samples, dual[:, better])
    return [best for *_, best in fits]


@dataclass(frozen=True, eq=False)
class Best:
    """The best penalty of each target.

    Parameters
    ----------
    weights
        Primal, (n_predictors, n_targets), float32.
    chosen
        Number of the penalty, (n_targets,).
    missed
        Mean squared error over held-out samples at that penalty, (n_targets,).
    """

    weights: Float32Array
    chosen: IndexArray
    missed: FloatArray


def reordered(
    samples: IndexArray, order: IndexArray | None, folds: Folds
) -> tuple[IndexArray, list[IndexArray]]:
    """Bring targets and their folds into the order that samples have in a kernel.

    Parameters
    ----------
    samples
        Of the kernel, in its order.
    order
        The sample that each row of the targets belongs to, (n_samples,); None: as they are.
    folds
        Of the rows of the targets.

    Returns
    -------
    rows : numpy.ndarray
        Of the targets, in the order of the kernel.
    held_out : list of numpy.ndarray
        Rows of the kernel that each fold holds out, ascending.
    """
    order = np.arange(len(samples)) if order is None else order
    place = np.argsort(samples)
    return np.argsort(order)[samples], [np.sort(place[order[held]]) for _, held in folds]


class LargeSystem:
    """A :class:`~bids_neurodecode.models.ridge_solver.LinearSystem` in the memory of one kernel.

    Weights are dual, in the order of the folds; each change of the penalty inverts the kernel.

    Parameters
    ----------
    X
        Predictors, (n_samples, n_predictors); may lie in a file.
    order
        Samples in the order of the folds.
    folds
        The rows of each, in that order.
    """

    def __init__(
        self, X: npt.NDArray[np.float32], order: IndexArray, folds: Sequence[Rows]
    ) -> None:
        self.folds = folds
        self._kernel = _Kernel(X, order)

    def with_folds(self, folds: Sequence[Rows]) -> LargeSystem:
        """Return the same system with other folds: both share the kernel and what is inverted.

        Parameters
        ----------
        folds
            The rows of each, ascending.
        """
        other = copy.copy(self)
        other.folds = folds
        return other

    def see(self, targets: npt.NDArray[np.float32]) -> _LargeSeen:
        """Take centred targets, (n_samples, n_targets), in the order of the folds."""
        return _LargeSeen(self, targets)

    def missed(
        self,
        penalty: float,
        seen: Sequence[_LargeSeen],
        weights: Float32Array | None = None,
    ) -> Iterator[tuple[int, Rows, Float32Array]]:
        """Give what fits without a fold miss on it, of each of the seen.

        Parameters
        ----------
        penalty
            One for all targets.
        seen
            Targets, in blocks.
        weights
            Not used: those of the last block and penalty are kept.
        """
        self._kernel.invert(penalty)
        factors = [self._kernel.factor(rows) for rows in self.folds]
        for index, part in enumerate(seen):
            dual = self.dual(part, penalty)
            for rows, factor in zip(self.folds, factors, strict=True):
                yield index, rows, cho_solve(factor, dual[rows]).astype(np.float32)

    def dual(self, part: _LargeSeen, penalty: float) -> FloatArray:
        """Return dual weights, (n_samples, n_targets).

        Those of the last call are kept, once for all systems that share the kernel.

        Parameters
        ----------
        part
            Targets that were seen.
        penalty
            One for all of them.
        """
        kernel = self._kernel
        if kernel.known is None or kernel.known[:2] != (part, penalty):
            kernel.known = None
            kernel.invert(penalty)
            targets = np.asarray(part.targets, dtype=np.float64, order='F')
            kernel.known = part, penalty, kernel.solve(targets)
        return kernel.known[2]


@dataclass(frozen=True, eq=False)
class _LargeSeen:
    system: LargeSystem
    targets: npt.NDArray[np.float32]

    def weights(
        self,
        penalty: float | npt.NDArray[np.float64],
        columns: slice | npt.NDArray[np.intp] = slice(None),
    ) -> Float32Array:
        """See :class:`~bids_neurodecode.models.ridge_solver.Seen`.

        Parameters
        ----------
        penalty
            Of the targets, (n_columns,) or one number.
        columns
            Which targets.
        """
        numbers = np.arange(self.targets.shape[1])[columns]
        each = np.broadcast_to(penalty, numbers.shape)
        found = np.empty((len(self.targets), len(numbers)), dtype=np.float32)
        for one in np.unique(each):
            mine = each == one
            found[:, mine] = self.system.dual(self, float(one))[:, numbers[mine]]
        return found


class _Kernel:
    """The kernel of centred rows; the inverse of one penalty is in its lower triangle."""

    def __init__(self, X: npt.NDArray[np.float32], order: IndexArray) -> None:
        self._values = _kernel(X, order)
        self._diagonal = self._values.diagonal().copy()
        self._size = _largest(self._values)
        self._penalty: float | None = None
        self.known: tuple[_LargeSeen, float, FloatArray] | None = None

    def invert(self, alpha: float) -> None:
        n, size = len(self._values), self._size
        # a penalty below what rounding does to eigenvalues is none
        penalty = max(float(alpha), float(np.finfo(np.float64).eps) * n * size)
        if penalty == self._penalty:
            return
        # the constant vector is given the eigenvalue ``size`` and taken out of the inverse again
        _invert(self._values, self._diagonal, size / n, penalty)
        self._penalty, self._constant = penalty, 1 / (n * (size + penalty))

    def solve(self, targets: FloatArray) -> FloatArray:
        """Return dual weights of centred targets, (n_samples, n_targets)."""
        dual: FloatArray = blas.dsymm(1.0, self._values, targets, lower=1)
        dual -= self._constant * targets.sum(axis=0)
        return dual

    def factor(self, rows: Rows) -> tuple[FloatArray, bool]:
        """Return the factor of what the inverse is among some rows, ascending.

        What a fit without these rows misses on them is its solution for their dual weights.
        """
        square = (rows, rows) if isinstance(rows, slice) else np.ix_(rows, rows)
        block = np.asfortranarray(self._values[square]) - self._constant
        factor: tuple[FloatArray, bool] = cho_factor(
            block, lower=True, overwrite_a=True, check_finite=False
        )
        return factor


def _centred(X: npt.NDArray[np.float32], order: IndexArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield some centred columns at a time, their rows in an order."""
    for first in range(0, X.shape[1], AT_ONCE):
        columns = slice(first, min(first + AT_ONCE, X.shape[1]))
        part = X[:, columns].astype(np.float64)
        yield columns, (part - part.mean(axis=0))[order]


def _kernel(X: npt.NDArray[np.float32], order: IndexArray) -> FloatArray:
    """Return the kernel of the centred rows, (n_samples, n_samples), in Fortran's order."""
    kernel = np.zeros((len(order), len(order)))
    for _, part in _centred(X, order):
        for rows in _tiles(len(order)):
            kernel[rows, rows.start :] += part[rows] @ part[rows.start :].T
    for rows in _tiles(len(order)):
        kernel[rows.start :, rows] = kernel[rows, rows.start :].T
    kernel -= kernel.mean(axis=0)  # what rounding left
    kernel -= kernel.mean(axis=1)[:, None]
    return kernel.T


def _largest(kernel: FloatArray) -> float:
    """Return what no eigenvalue exceeds: the largest sum of the magnitudes of a column."""
    sums = (np.abs(kernel[:, columns]).sum(axis=0).max() for columns in _tiles(len(kernel)))
    return max(float(np.finfo(np.float32).tiny), *map(float, sums))


def _invert(kernel: FloatArray, diagonal: FloatArray, shift: float, penalty: float) -> None:
    """Put the inverse of kernel + shift + penalty into the lower triangle.

    The kernel is above the diagonal, and in ``diagonal``.
    """
    n = len(kernel)
    for columns in _tiles(n):
        kernel[columns.stop :, columns] = kernel[columns, columns.stop :].T + shift
        square = kernel[columns, columns]
        below = np.tri(len(square), k=-1, dtype=bool)
        square[below] = (square.T + shift)[below]
    kernel[np.diag_indices(n)] = diagonal + shift + penalty
    factor, failed = lapack.dpotrf(kernel, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError(f'no Cholesky factor: minor {failed} is not positive')
    lapack.dpotri(factor, lower=1, overwrite_c=1)


def _primal(X: npt.NDArray[np.float32], order: IndexArray, dual: FloatArray) -> Float32Array:
    """Return the weights of the predictors, (n_predictors, n_targets)."""
    parts = [(part.T @ dual).astype(np.float32) for _, part in _centred(X, order)]
    return np.concatenate(parts)


def _tiles(n: int) -> Iterator[slice]:
    return (slice(start, min(start + AT_ONCE, n)) for start in range(0, n, AT_ONCE))
