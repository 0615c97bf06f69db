r"""Banded ridge regression: one penalty a feature space and target.

The weights minimise :math:`\|Y - \sum_b X_b B_b\|^2 + \sum_b \alpha_b \|B_b\|^2` over centred
training data (Dupré la Tour et al. 2022, NeuroImage 264:119728). How much each band counts is
drawn at random, with each band alone and all alike among the draws; each target keeps the draw
and penalty with the least squared error over held-out folds. The solvers are himalaya's: through
kernels where there are fewer samples than predictors, else through singular values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.ridge import Device, Folds, backend_of, checked_arrays, make_folds
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array, FloatArray

NO_BANDS = 'Banded ridge needs at least one feature space.'
BAND_LENGTHS = 'Feature spaces must have the same samples; these have {found}.'
CONSTANT_BAND = 'The feature space {name!r} does not vary over the training samples. Leave it out.'
OTHER_BANDS = 'The banded model was fitted on the feature spaces {expected}; these are {found}.'

# A band that is not used has this part of the mixture: the solvers divide by it.
_LEAST = 1e-6
_TARGETS_AT_ONCE = 4096
_ALPHAS_AT_ONCE_ABOVE = 3000  # samples

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

    def predict_by_band(self, bands: Bands) -> dict[str, Float32Array]:
        """Return what each band adds to the intercept, (n, n_targets) each."""
        centred = self._joined(bands) - self.mean
        edges = np.cumsum([0, *self.sizes])
        return {
            name: np.asarray(centred[:, a:b] @ self.weights[a:b], dtype=np.float32)
            for name, a, b in zip(self.names, edges, edges[1:], strict=False)
        }

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
        """Rebuild a model from :meth:`state`."""
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
    folds: Folds | None = None,
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
    groups, folds, n_folds
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
    cv = list(folds) if folds is not None else make_folds(len(X), groups, n_folds)
    mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
    parts = np.split(X - mean, np.cumsum(sizes)[:-1], axis=1)
    scales = _scales(names, parts)
    parts = [part * scale for part, scale in zip(parts, scales, strict=True)]
    targets = Standardizer.fit(Y)
    scaled = targets.apply(Y)
    mixtures = draw_mixtures(len(names), n_mixtures, rng)
    with backend_of(device):
        deltas, weights, scores = _solve(parts, scaled, alphas, cv, mixtures)
    weights *= np.repeat(scales, sizes)[:, None]
    variance = np.where(np.any(scaled != 0, axis=0), 1.0, np.nan)
    return BandedModel(
        names,
        sizes,
        mean,
        np.asarray(weights * targets.scale, dtype=np.float32),
        np.asarray(targets.mean, dtype=np.float32),
        np.exp(-deltas).astype(np.float32),
        (1 + scores.max(axis=0) / variance).astype(np.float32),
    )


def draw_mixtures(n_bands: int, n_draws: int, rng: np.random.Generator) -> FloatArray:
    """Draw how much each band counts: rows that sum to 1, (n_mixtures, n_bands).

    Half of the draws are from a flat Dirichlet distribution, half from one that favours few bands
    (concentration .1). All bands alike comes first and each band alone last.
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


def _solve(
    parts: Sequence[Float32Array],
    Y: Float32Array,
    alphas: Sequence[float],
    cv: Folds,
    mixtures: FloatArray,
) -> tuple[FloatArray, Float32Array, FloatArray]:
    """Return log scalings (n_bands, n_targets), weights of the scaled bands, and scores."""
    from himalaya.backend import get_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    from himalaya.ridge import solve_group_ridge_random_search

    n = len(Y)
    options: dict[str, Any] = {
        'n_iter': mixtures.astype(np.float32),
        'alphas': np.asarray(alphas, dtype=np.float32),
        'cv': cv,
        'n_targets_batch': _TARGETS_AT_ONCE,
        'n_targets_batch_refit': _TARGETS_AT_ONCE,
        'n_alphas_batch': 1 if n > _ALPHAS_AT_ONCE_ABOVE else None,
        'progress_bar': False,
        # each fold's own mean; over all training samples the mean is taken off already
        'fit_intercept': True,
    }
    backend = get_backend()
    if n < sum(part.shape[1] for part in parts):
        kernels = backend.asarray(np.stack([part @ part.T for part in parts]))
        found = solve_multiple_kernel_ridge_random_search(
            kernels, backend.asarray(Y), return_weights='dual', **options
        )
        deltas, dual, scores, _ = (
            np.asarray(backend.to_numpy(values), dtype=np.float64) for values in found
        )
        weights = [
            part.T @ (dual * np.exp(delta)) for part, delta in zip(parts, deltas, strict=True)
        ]
        return deltas, np.concatenate(weights).astype(np.float32), scores
    found = solve_group_ridge_random_search(
        [backend.asarray(part) for part in parts],
        backend.asarray(Y),
        return_weights=True,
        warn=False,
        **options,
    )
    deltas, weights_, scores, _ = (
        np.asarray(backend.to_numpy(values), dtype=np.float64) for values in found
    )
    return deltas, weights_.astype(np.float32), scores
