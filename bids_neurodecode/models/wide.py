"""Predictions of very many targets, brought back to the spread that targets have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.models.ridge import RidgeModel
from bids_neurodecode.models.storage import joined, under
from bids_neurodecode.typing import Float32Array

ONE_ROW = (
    'Re-standardising by the test samples themselves needs at least two of them. Use the '
    'inductive way.'
)

Renorm = Literal['inductive', 'transductive', 'none']

_ROUNDING = 1e-6  # of the spread of training targets: smaller spreads are none


@dataclass(frozen=True, eq=False)
class WideRegression:
    """A fitted regression, and what re-standardising its predictions needs.

    Parameters
    ----------
    ridge
        The regression.
    cv_mean, cv_std
        Of the cross-validated predictions of the training samples, (n_targets,).
    target_std
        Of the training targets (their mean is the intercept), (n_targets,).
    tried
        Mean squared error over held-out samples in units of variance, of each penalty that was
        tried: over the columns that it was chosen on.
    """

    ridge: RidgeModel
    cv_mean: Float32Array
    cv_std: Float32Array
    target_std: Float32Array
    tried: Mapping[float, float]

    def predict(
        self, X: npt.NDArray[np.floating[Any]], renorm: Renorm = 'inductive'
    ) -> Float32Array:
        """Predict targets.

        Ridge regression shrinks: predictions vary less than targets do. Each column is given mean
        and deviation of the training targets.

        Parameters
        ----------
        X
            Predictors, (n, n_predictors).
        renorm
            ``inductive``: by mean and deviation of cross-validated training predictions, so that
            a sample's prediction depends on that sample alone. ``transductive``: by those of the
            predictions of ``X`` itself, as in Brain-Diffuser's code, where test samples inform
            one another. ``none``: as the regression predicts.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_targets), float32.
        """
        predicted = self.ridge.predict(X)
        if renorm == 'none':
            return predicted
        mean, std = self.cv_mean, self.cv_std
        if renorm == 'transductive':
            if len(predicted) < 2:
                raise DataError(ONE_ROW)
            mean, std = predicted.mean(axis=0), predicted.std(axis=0)
        flat = std <= _ROUNDING * self.target_std
        predicted -= mean
        predicted *= np.where(flat, 1, self.target_std / np.where(flat, 1, std))
        predicted += self.ridge.intercept
        return predicted

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` rebuilds the regression from."""
        tried = np.array([*self.tried.items()], dtype=np.float64).reshape(-1, 2)
        own = {'cv_mean': self.cv_mean, 'cv_std': self.cv_std, 'target_std': self.target_std}
        return {**own, 'tried': tried, **joined({'ridge': self.ridge.state()})}

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> WideRegression:
        """Rebuild a regression from :meth:`state`."""
        return cls(
            RidgeModel.from_state(under(state, 'ridge')),
            np.asarray(state['cv_mean']),
            np.asarray(state['cv_std']),
            np.asarray(state['target_std']),
            {float(alpha): float(error) for alpha, error in state['tried']},
        )
