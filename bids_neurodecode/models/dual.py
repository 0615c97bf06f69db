r"""Ridge regression of very many targets: one factorisation serves all of them.

For centred predictors :math:`X` (n_samples, n_predictors), :math:`XX^T = Q \Lambda Q^T` with the
constant direction left out of :math:`Q`. Then for every target and penalty

.. math::

    P = Q (\Lambda + \alpha)^{-1} Q^T, \qquad C = P Y, \qquad B = X^T C, \qquad
    Y_F - \hat Y_F = P_{FF}^{-1} C_F

where the last is what a regression fitted without the samples of a fold F would miss on them, its
intercept and mean fitted again: the exact shortcut that is known for one sample (Allen's PRESS
statistic), for blocks. So the factorisation is done once, penalties and folds cost small solves,
and the cross-validated predictions that re-standardisation needs come with the weights.

Targets are read and weights written in blocks of columns: both may be memory maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_neurodecode.errors import ArgumentsError, DataError, ResourceError
from bids_neurodecode.models.ridge import Folds, RidgeModel, make_folds
from bids_neurodecode.models.wide import WideRegression
from bids_neurodecode.typing import Float32Array

BAD_PREDICTORS = (
    'Predictors must be finite and of shape (n, p) with n of at least 3 and p of at least 1: '
    '{found}.'
)
BAD_TARGETS = 'Targets must be of shape ({n}, t) with t of at least 1; these are {found}.'
NOT_FINITE = 'Targets must be finite; there are others in columns {first} to {last}.'
BAD_ALPHAS = 'Penalties must be finite and above 0: {found}.'
BAD_FOLDS = 'Folds must hold out every sample once, and leave at least two to fit on.'
BAD_WEIGHTS = 'The array for the weights must be of shape {expected}; it is {found}.'
NO_DEVICE = 'The device {device!r} is not there. Use the CPU, or a PyTorch that sees the GPU.'
PAPER_ALPHAS: Mapping[str, float] = {'vdvae': 50_000.0, 'text': 100_000.0, 'vision': 60_000.0}
"""Penalties of Brain-Diffuser's code. (arXiv 2412.13237 states 50,000 for all three.)"""

Progress = Callable[[int, int], None]


class Factorisation:
    """The predictors, factorised; see the equations of this module.

    Parameters
    ----------
    X
        Predictors, (n_samples, n_predictors). Only centred here: standardise them before.
    groups, folds, n_folds
        What is held out together, as in :func:`bids_neurodecode.models.ridge.fit_ridge`; each
        sample must be held out once.
    device
        ``cpu`` or ``cuda``.
    precision
        Of the products with targets; the factorisation itself is in float64.

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
        folds: Folds | None = None,
        n_folds: int = 5,
        device: Literal['cpu', 'cuda'] = 'cpu',
        precision: Literal['float32', 'float64'] = 'float32',
    ) -> None:
        if X.ndim != 2 or len(X) < 3 or not X.size or not np.isfinite(X).all():
            raise DataError(BAD_PREDICTORS.format(found=f'{X.dtype} {X.shape}'))
        if device == 'cuda' and not torch.cuda.is_available():
            raise ResourceError(NO_DEVICE.format(device=device))
        self._device, self._dtype = torch.device(device), getattr(torch, precision)
        pairs = folds if folds is not None else make_folds(len(X), groups, n_folds)
        self._held_out = _checked_folds([held for _, held in pairs], len(X))
        self._mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._centred = np.asarray(X, dtype=np.float32) - self._mean
        self._values, self._vectors = self._factorise()
        self._narrow = self._vectors.to(self._dtype)
        self._known: dict[float, list[Tensor]] = {}

    @property
    def n_samples(self) -> int:
        """Number of training samples."""
        return len(self._centred)

    def fit(
        self,
        Y: npt.NDArray[np.floating[Any]],
        *,
        alphas: Sequence[float],
        per_target: bool = False,
        n_choosing: int | None = 2048,
        block: int = 4096,
        weights: npt.NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> WideRegression:
        """Fit targets.

        Parameters
        ----------
        Y
            Targets, (n_samples, n_targets); an array or a memory map.
        alphas
            Penalties to choose from by cross-validation; one alone is taken as it is.
        per_target
            One penalty a target, or one for all of them.
        n_choosing
            Where one penalty serves all, it is chosen on this many columns, spread evenly; None:
            on all.
        block
            Columns at once.
        weights
            Where to write the weights (see :meth:`weights_shape`), for example a memory map.
        progress
            Called with (columns done, all columns).

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
        tried: dict[float, float] = {}
        one = choices[0]
        if len(choices) > 1 and not per_target:
            tried = self._try(Y, choices, n_choosing, block)
            one = min(tried, key=lambda alpha: tried[alpha])
        found = {name: np.empty(n_targets, np.float32) for name in _COLUMNS}
        for columns, values in _blocks(Y, block):
            block_of = self._block(values)
            chosen = np.full(len(values.T), one)
            if per_target and len(choices) > 1:
                errors = np.stack([block_of.held_out_error(a) for a in choices])
                chosen = np.asarray(choices)[errors.argmin(axis=0)]
            weights[:, columns] = self._fit_block(block_of, chosen, columns, found)
            if progress is not None:
                progress(columns.stop, n_targets)
        return self._result(weights, found, tried)

    def weights_shape(self, n_targets: int) -> tuple[int, int]:
        """Return the shape of the weights: dual where samples are fewer than predictors."""
        return min(self._centred.shape), n_targets

    @property
    def _is_dual(self) -> bool:
        n_samples, n_predictors = self._centred.shape
        return bool(n_samples < n_predictors)

    def _factorise(self) -> tuple[Tensor, Tensor]:
        X = torch.from_numpy(self._centred).to(self._device, torch.float64)
        kernel = X @ X.T
        kernel -= kernel.mean(dim=0)  # what rounding left
        kernel -= kernel.mean(dim=1, keepdim=True)
        # the constant vector belongs to the eigenvalue 0: moved to the top, it can be cut off
        top = float(torch.trace(kernel)) + 1.0
        values, vectors = torch.linalg.eigh(kernel + top / len(X))
        return values[:-1].clamp(min=0), vectors[:, :-1].contiguous()

    @cached_property
    def _turned(self) -> tuple[Tensor, Tensor]:
        """Return which directions have variance, and the predictors along them."""
        # those without any would only add rounding errors
        kept = self._values > self._values.max() * 1e-12
        X = torch.from_numpy(self._centred).to(self._device, torch.float64)
        return kept, (X.T @ self._vectors[:, kept]).to(self._dtype)

    def _inverses(self, alpha: float) -> list[Tensor]:
        """Return the inverse of P among the samples of each fold, for a penalty."""
        if alpha not in self._known:
            shrink = 1 / (self._values + alpha)
            rows = [self._vectors[held] for held in self._held_out]
            self._known[alpha] = [
                torch.linalg.inv((part * shrink) @ part.T).to(self._dtype) for part in rows
            ]
        return self._known[alpha]

    def _block(self, values: npt.NDArray[np.floating[Any]]) -> _Block:
        return _Block(self, torch.from_numpy(values).to(self._device, self._dtype))

    def _fit_block(
        self,
        block: _Block,
        alphas: npt.NDArray[np.float64],
        columns: slice,
        found: dict[str, Float32Array],
    ) -> Float32Array:
        """Fit the columns of a block; note what is known of each; return its weights."""
        dual = block.dual(alphas)
        missed = block.missed(dual, alphas)
        predicted = block.centred - missed
        variance = block.centred.square().mean(dim=0)
        explained = 1 - missed.square().mean(dim=0) / variance.clamp(min=1e-30)
        values: dict[str, Tensor | npt.NDArray[Any]] = {
            'alphas': alphas,
            'intercept': block.mean,
            'cv_r2': torch.where(variance > 0, explained, torch.nan),
            'cv_mean': predicted.mean(dim=0) + block.mean,
            'cv_std': predicted.std(dim=0, correction=0),
            'target_std': variance.sqrt(),
        }
        for name, column_values in values.items():
            found[name][columns] = _to_numpy(column_values)
        return _to_numpy(dual if self._is_dual else block.primal(alphas))

    def _result(
        self, weights: Float32Array, found: Mapping[str, Float32Array], tried: dict[float, float]
    ) -> WideRegression:
        ridge = RidgeModel(
            self._mean,
            weights,
            found['intercept'],
            found['alphas'],
            found['cv_r2'],
            self._centred if self._is_dual else None,
        )
        return WideRegression(ridge, found['cv_mean'], found['cv_std'], found['target_std'], tried)

    def _try(
        self,
        Y: npt.NDArray[np.floating[Any]],
        alphas: Sequence[float],
        n_columns: int | None,
        block: int,
    ) -> dict[float, float]:
        """Return the mean error of each penalty over some columns."""
        step = max(1, Y.shape[1] // n_columns) if n_columns is not None else 1
        sums, n = np.zeros(len(alphas)), 0
        for _, values in _blocks(Y, block * step, step):
            part = self._block(values)
            varies = _to_numpy(part.centred.square().mean(dim=0)) > 0
            errors = np.stack([part.held_out_error(alpha) for alpha in alphas])
            sums += errors[:, varies].sum(axis=1)
            n += int(varies.sum())
        return dict(zip(alphas, (sums / max(n, 1)).tolist(), strict=True))


_COLUMNS = ('alphas', 'intercept', 'cv_r2', 'cv_mean', 'cv_std', 'target_std')


class _Block:
    """Some columns of the targets, and what the factorisation makes of them."""

    def __init__(self, of: Factorisation, values: Tensor) -> None:
        self._of = of
        self.mean = values.mean(dim=0)
        self.centred = values - self.mean
        self._rotated = of._narrow.T @ self.centred

    def dual(self, alphas: npt.NDArray[np.float64]) -> Tensor:
        """Return the dual weights, (n_samples, n_columns)."""
        return self._of._narrow @ (self._shrink(alphas) * self._rotated)

    def primal(self, alphas: npt.NDArray[np.float64]) -> Tensor:
        """Return the primal weights, (n_predictors, n_columns)."""
        kept, turned = self._of._turned
        return turned @ (self._shrink(alphas) * self._rotated)[kept]

    def missed(self, dual: Tensor, alphas: npt.NDArray[np.float64]) -> Tensor:
        """Return what fits without each fold miss on it, (n_samples, n_columns)."""
        of, missed = self._of, torch.empty_like(dual)
        for alpha in np.unique(alphas):
            columns = torch.from_numpy(np.flatnonzero(alphas == alpha)).to(of._device)
            for held, inner in zip(of._held_out, of._inverses(float(alpha)), strict=True):
                missed[held[:, None], columns] = inner @ dual[held][:, columns]
        return missed

    def held_out_error(self, alpha: float) -> npt.NDArray[np.float64]:
        """Return the mean squared error over held-out samples, in units of variance."""
        alphas = np.full(self.centred.shape[1], alpha)
        missed = self.missed(self.dual(alphas), alphas)
        variance = self.centred.square().mean(dim=0).clamp(min=1e-30)
        error: npt.NDArray[np.float64] = (
            (missed.square().mean(dim=0) / variance).double().cpu().numpy()
        )
        return error

    def _shrink(self, alphas: npt.NDArray[np.float64]) -> Tensor:
        each = torch.from_numpy(np.asarray(alphas, dtype=np.float64)).to(self._of._device)
        if len(alphas) and (alphas == alphas[0]).all():
            each = each[:1]
        return (1 / (self._of._values[:, None] + each)).to(self._of._dtype)


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


def _checked_folds(held_out: Sequence[npt.ArrayLike], n_samples: int) -> list[Tensor]:
    rows = [np.asarray(held, dtype=np.int64) for held in held_out]
    all_rows = np.sort(np.concatenate(rows)) if rows else np.empty(0)
    longest = max((len(held) for held in rows), default=n_samples)
    if not np.array_equal(all_rows, np.arange(n_samples)) or longest > n_samples - 2:
        raise DataError(BAD_FOLDS)
    return [torch.from_numpy(held) for held in rows if len(held)]


def _to_numpy(values: Tensor | npt.NDArray[Any]) -> Float32Array:
    if isinstance(values, Tensor):
        values = values.cpu().numpy()
    return cast('Float32Array', np.asarray(values, dtype=np.float32))
