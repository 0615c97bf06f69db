r"""Banded ridge regression: one penalty per feature space and target.

The weights minimise :math:`\|Y - \sum_b X_b B_b\|^2 + \sum_b \alpha_b \|B_b\|^2` over centred
training data (Dupré la Tour et al. 2022, NeuroImage 264:119728). How much each band counts is
drawn at random, with each band alone and all alike among the draws; each target keeps the draw
and penalty with the least squared error over held-out folds. A draw takes one eigendecomposition
where there are fewer samples than predictors, else one and one a fold: the equations are those of
:mod:`bids_neurodecode.models.ridge_solver`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Device, to_numpy
from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import blocks
from bids_neurodecode.models.ridge import checked_arrays, make_folds
from bids_neurodecode.models.ridge_solver import (
    DualSystem,
    LinearSystem,
    Predictors,
    PrimalSystem,
    errors_of_penalties,
    gram,
    gram_without,
    kernel_of,
)
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array, FloatArray

NO_BANDS = 'Banded ridge needs at least one feature space.'
BAND_LENGTHS = 'Feature spaces must have the same samples; these have {found}.'
CONSTANT_BAND = 'The feature space {name!r} does not vary over the training samples. Leave it out.'
OTHER_BANDS = 'The banded model was fitted on the feature spaces {expected}; these are {found}.'

# A band that is not used has this part of the mixture: penalties are divided by it.
_LEAST = 1e-6
_TARGETS_AT_ONCE = 4096

Bands = Mapping[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class BandedModel:
    """A fitted banded ridge regression.

    Parameters
    ----------
    names, sizes
        The bands, and how many predictors each has, in their order.
    mean
        Mean of the training predictors of all bands, (n_predictors,).
    weights
        Of the predictors as they come, (n_predictors, n_targets).
    intercept
        Mean of the training targets, (n_targets,).
    penalties
        Of each band and target, (n_bands, n_targets), for bands scaled to one variance; very large
        where a band is not used.
    cv_r2
        Share of each target's variance explained in held-out folds at those penalties.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    mean: Float32Array
    weights: Float32Array
    intercept: Float32Array
    penalties: Float32Array
    cv_r2: Float32Array

    def predict(self, bands: Bands) -> Float32Array:
        """Predict targets (n, n_targets) from each band's predictors (n, n_predictors_b)."""
        X = self._joined(bands)
        return np.asarray((X - self.mean) @ self.weights + self.intercept, dtype=np.float32)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with ``names``, :meth:`from_state` rebuilds the model from."""
        return {
            'sizes': np.asarray(self.sizes, dtype=np.int64),
            'mean': self.mean,
            'weights': self.weights,
            'intercept': self.intercept,
            'penalties': self.penalties,
            'cv_r2': self.cv_r2,
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> BandedModel:
        """Rebuild a model from :meth:`state`.

        Parameters
        ----------
        state
            Arrays by name.
        names
            Of the bands, in the order of their columns.
        """
        arrays = {key: np.asarray(values) for key, values in state.items()}
        sizes = tuple(int(size) for size in arrays.pop('sizes'))
        return cls(tuple(names), sizes, **arrays)

    def _joined(self, bands: Bands) -> Float32Array:
        found = {name: values.shape[1] for name, values in bands.items()}
        expected = dict(zip(self.names, self.sizes, strict=True))
        if found != expected:
            raise DataError(OTHER_BANDS.format(expected=expected, found=found))
        return np.concatenate([bands[name] for name in self.names], axis=1, dtype=np.float32)


def fit_banded(
    bands: Bands,
    Y: npt.NDArray[np.floating[Any]],
    *,
    alphas: Sequence[float],
    groups: npt.ArrayLike | None = None,
    n_folds: int = 5,
    n_mixtures: int = 20,
    rng: np.random.Generator,
    device: Device = 'cpu',
) -> BandedModel:
    """Fit banded ridge regression and choose its penalties by cross-validation.

    Parameters
    ----------
    bands
        Predictors of each feature space, (n_samples, n_predictors_b).
    Y
        Targets, (n_samples, n_targets).
    alphas
        Penalties to choose from.
    groups, n_folds
        As in :func:`bids_neurodecode.models.ridge.fit_ridge`.
    n_mixtures
        Random draws of how much each band counts, beside each band alone and all alike.
    rng
        Source of the draws.
    device
        ``cpu`` (NumPy) or ``cuda``.

    Raises
    ------
    DataError
        For shapes that do not match, a band that does not vary, or values that are not finite.
    ResourceError
        If the device is not there.
    """
    if not bands:
        raise DataError(NO_BANDS)
    lengths = {name: len(values) for name, values in bands.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(BAND_LENGTHS.format(found=lengths))
    names, sizes = tuple(bands), tuple(values.shape[1] for values in bands.values())
    X, Y = checked_arrays(np.concatenate(list(bands.values()), axis=1), Y, alphas)
    mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
    parts = np.split(X - mean, np.cumsum(sizes)[:-1], axis=1)
    scales = np.repeat(_scales(names, parts), sizes)
    scales_of_targets = Standardizer.fit(Y)
    scaled = scales_of_targets.apply(Y)
    mixtures = draw_mixtures(len(names), n_mixtures, rng)
    known = Predictors((X - mean) * scales, make_folds(len(X), groups, n_folds), device)
    best = _search(known, _Mixer(known, sizes, alphas), scaled, alphas, mixtures)
    weights = best.weights * scales[:, None] * scales_of_targets.scale
    variance = np.where(np.any(scaled != 0, axis=0), 1.0, np.nan)
    return BandedModel(
        names,
        sizes,
        mean,
        weights.astype(np.float32),
        np.asarray(scales_of_targets.mean, dtype=np.float32),
        (best.alphas / mixtures[best.mixtures].T).astype(np.float32),
        (1 - best.errors / variance).astype(np.float32),
    )


def draw_mixtures(n_bands: int, n_draws: int, rng: np.random.Generator) -> FloatArray:
    """Draw how much each band counts: rows that sum to 1, (n_mixtures, n_bands).

    Half of the draws are from a flat Dirichlet distribution, half from one that favours few bands
    (concentration .1). All bands alike comes first and each band alone last.

    Parameters
    ----------
    n_bands
        How many feature spaces there are.
    n_draws
        Random mixtures, beside each band alone and all alike.
    rng
        Draws them.
    """
    alike = np.full((1, n_bands), 1 / n_bands)
    if n_bands == 1:
        return alike
    few = rng.dirichlet(np.full(n_bands, 0.1), size=n_draws // 2)
    flat = rng.dirichlet(np.ones(n_bands), size=n_draws - n_draws // 2)
    drawn = np.maximum(np.concatenate([alike, flat, few, np.eye(n_bands)]), _LEAST)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def _scales(names: Sequence[str], parts: Sequence[Float32Array]) -> Float32Array:
    """Return factors that give all bands one variance: that of standardised predictors."""
    total = sum(part.shape[1] for part in parts)
    sizes = np.array([np.square(part, dtype=np.float64).sum(axis=1).mean() for part in parts])
    for name, size in zip(names, sizes, strict=True):
        if not size > 0:
            raise DataError(CONSTANT_BAND.format(name=name))
    return np.asarray(np.sqrt(total / sizes), dtype=np.float32)


@dataclass(eq=False)
class _Best:
    """What was found best for each target so far."""

    errors: FloatArray
    alphas: FloatArray
    mixtures: npt.NDArray[np.intp]
    weights: Float32Array
    """Of the scaled predictors, (n_predictors, n_targets); dual until the search ends."""


class _Mixer:
    """Systems of all mixtures from what the bands have been factorised into once."""

    def __init__(self, known: Predictors, sizes: Sequence[int], alphas: Sequence[float]) -> None:
        self._known, self._sizes, self._alphas = known, sizes, alphas
        algebra = known.algebra
        self._X = algebra.single(known.centred[known.order])
        if known.is_dual:
            edges = np.cumsum([0, *sizes])
            self._kernels = [kernel_of(algebra, self._X[:, a:b]) for a, b in pairwise(edges)]
            return
        self._whole = gram(algebra, self._X.T)
        self._without = [gram_without(algebra, self._X, self._whole, rows) for rows in known.folds]

    def system(self, mixture: FloatArray) -> LinearSystem:
        """Return the system of predictors whose bands count as a mixture says."""
        algebra, folds = self._known.algebra, self._known.folds
        if self._known.is_dual:
            kernel = sum(
                share * kernel for share, kernel in zip(mixture, self._kernels, strict=True)
            )
            return DualSystem(algebra, kernel, folds, self._alphas)
        roots = np.sqrt(np.repeat(mixture, self._sizes))
        both = algebra.double(np.outer(roots, roots))
        return PrimalSystem(
            algebra,
            self._X * algebra.single(roots),
            self._whole * both,
            [matrix * both for matrix in self._without],
            folds,
            self._alphas,
        )

    def primal(self, weights: Float32Array, mixtures: FloatArray) -> Float32Array:
        """Return weights of the scaled predictors, (n_predictors, n_targets).

        Parameters
        ----------
        weights
            Of the systems.
        mixtures
            The mixture of each target, (n_targets, n_bands).
        """
        shares = mixtures.T.astype(np.float32)
        if not self._known.is_dual:
            return np.asarray(weights * np.repeat(np.sqrt(shares), self._sizes, axis=0))
        bands = np.split(self._known.centred, np.cumsum(self._sizes)[:-1], axis=1)
        products = [part.T @ (weights * share) for part, share in zip(bands, shares, strict=True)]
        return np.concatenate(products)


def _search(
    known: Predictors,
    mixer: _Mixer,
    Y: Float32Array,
    alphas: Sequence[float],
    mixtures: FloatArray,
) -> _Best:
    """Try all mixtures; keep the best of each target."""
    n_targets, penalties = Y.shape[1], np.asarray(alphas, dtype=np.float64)
    best = _Best(
        np.full(n_targets, np.inf),
        np.empty(n_targets),
        np.zeros(n_targets, dtype=np.intp),
        np.empty((min(known.centred.shape), n_targets), dtype=np.float32),
    )
    for number, mixture in enumerate(mixtures):
        system = mixer.system(mixture)
        for part in blocks(n_targets, len(Y), _TARGETS_AT_ONCE):
            seen = system.see(known.take(Y[:, part])[0])
            errors = errors_of_penalties(system, [seen], alphas)[0]
            least = errors.min(axis=0)
            better = np.flatnonzero(least < best.errors[part])
            if not better.size:
                continue
            columns = part.start + better
            best.errors[columns] = least[better]
            best.alphas[columns] = penalties[errors[:, better].argmin(axis=0)]
            best.mixtures[columns] = number
            best.weights[:, columns] = to_numpy(seen.weights(best.alphas[columns], better))
    best.weights = mixer.primal(known.weights(best.weights), mixtures[best.mixtures])
    return best
