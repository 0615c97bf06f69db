"""The space in which images are compared: principal components of unit variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array

BAD_FEATURES = 'Features must be finite and of shape (n_stimuli, n_features): {found}.'
TOO_FEW_STIMULI = (
    'A feature space needs at least two different stimuli to learn from; there are {n}. '
    'Use more stimuli, or features that tell them apart.'
)
OTHER_FEATURES = (
    'The feature space was fitted on {expected} columns; these have {found}. '
    'Use the same extractor and image size.'
)

# A component with less than this share of the largest variance is rounding noise of float32.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Standardised features, their principal components, each at unit variance (whitened).

    Fitted on training stimuli, then applied to any. With no more stimuli than components the
    training stimuli are all equally far from each other: decoding then names a stimulus, and
    says nothing about features they share.

    Parameters
    ----------
    standardizer
        Mean and deviation of each feature.
    components
        Orthonormal rows, shape (n_components, n_features).
    deviations
        Standard deviation (ddof 0) of the training stimuli along each component.
    """

    standardizer: Standardizer
    components: Float32Array
    deviations: Float32Array

    @property
    def n_components(self) -> int:
        """Number of components kept."""
        return len(self.components)

    @classmethod
    def fit(
        cls,
        features: npt.NDArray[np.floating[Any]],
        n_components: int | None = None,
        *,
        least_deviation: float = 0.0,
    ) -> FeatureSpace:
        """Learn the space from training stimuli.

        Parameters
        ----------
        features
            Shape (n_stimuli, n_features), one row per distinct stimulus.
        n_components
            Components kept, at most; None keeps all that the stimuli span (n_stimuli - 1).
        least_deviation
            Features that vary less are not brought to unit variance but divided by this.

        Raises
        ------
        DataError
            If features are not finite, or do not differ between stimuli.
        """
        _check(features)
        standardizer = Standardizer.fit(features, least=least_deviation)
        values = standardizer.apply(features).astype(np.float64)
        n = len(values)
        tall = n > values.shape[1]
        gram = values.T @ values if tall else values @ values.T
        variances, vectors = np.linalg.eigh(gram / n)
        order = np.argsort(variances)[::-1][: n_components or len(variances)]
        if n < 2 or variances[order[0]] <= 0:
            raise DataError(TOO_FEW_STIMULI.format(n=len(np.unique(features, axis=0))))
        order = order[variances[order] > _NEGLIGIBLE * variances[order[0]]]
        deviations = np.sqrt(variances[order])
        basis = vectors[:, order].T
        if not tall:
            basis = basis @ values / (deviations[:, None] * np.sqrt(n))
        return cls(standardizer, _fixed_sign(basis), deviations.astype(np.float32))

    @classmethod
    def of_columns(
        cls, features: npt.NDArray[np.floating[Any]], n_components: int | None = None
    ) -> FeatureSpace:
        """Learn a space whose axes are the features themselves, each at unit variance.

        With more features than ``n_components``, that of :meth:`fit`.

        Parameters
        ----------
        features
            Of training stimuli, (n_stimuli, n_features).
        n_components
            At most so many; None keeps all features.

        Raises
        ------
        DataError
            As there.
        """
        _check(features)
        n = features.shape[1]
        if n_components is not None and n > n_components:
            return cls.fit(features, n_components)
        if len(features) < 2 or np.ptp(features, axis=0).max() == 0:
            raise DataError(TOO_FEW_STIMULI.format(n=len(np.unique(features, axis=0))))
        own = np.eye(n, dtype=np.float32)
        return cls(Standardizer.fit(features), own, np.ones(n, dtype=np.float32))

    def transform(self, features: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Return features (n, n_features) as whitened components (n, n_components)."""
        _check(features)
        self._same_columns(features.shape[1], self.components.shape[1])
        scores = self.standardizer.apply(features) @ self.components.T
        return np.asarray(scores / self.deviations, dtype=np.float32)

    def inverse(self, scores: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Return whitened components (n, n_components) as features (n, n_features)."""
        self._same_columns(scores.shape[1], self.n_components)
        return self.standardizer.invert((scores * self.deviations) @ self.components)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` rebuilds the space from."""
        return {
            'mean': self.standardizer.mean,
            'scale': self.standardizer.scale,
            'components': self.components,
            'deviations': self.deviations,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> FeatureSpace:
        """Rebuild a space from :meth:`state`."""
        standardizer = Standardizer(state['mean'], state['scale'])
        return cls(standardizer, state['components'], state['deviations'])

    @staticmethod
    def _same_columns(found: int, expected: int) -> None:
        if found != expected:
            raise DataError(OTHER_FEATURES.format(expected=expected, found=found))


def _check(features: npt.NDArray[np.floating[Any]]) -> None:
    if features.ndim != 2 or features.shape[0] == 0:
        raise DataError(BAD_FEATURES.format(found=f'shape {features.shape}'))
    bad = int(np.count_nonzero(~np.isfinite(features)))
    if bad:
        raise DataError(BAD_FEATURES.format(found=f'{bad} values are not finite'))


def _fixed_sign(basis: npt.NDArray[np.float64]) -> Float32Array:
    """Make the largest loading of each component positive: the sign is free otherwise."""
    largest = np.abs(basis).argmax(axis=1)
    signs = np.sign(basis[np.arange(len(basis)), largest])
    return np.asarray(basis * signs[:, None], dtype=np.float32)
