r"""Ridge regression of the same predictors again and again: one factorisation serves all targets.

A permutation test that fits its models again needs thousands of fits that differ in which target
belongs to which sample. With the singular value decomposition :math:`X = U S V^T` of the centred
predictors, predictions for new samples are :math:`X_{new} V \, S (S^2 + \alpha)^{-1} U^T Y` for
any targets and penalty; so it is with each fold by which the penalty is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.models.large import Folds
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import FloatArray


@dataclass(frozen=True, eq=False)
class _Factors:
    """Centred training predictors as ``u * s`` in the axes of their right singular vectors."""

    u: FloatArray
    s: FloatArray
    new: FloatArray
    """The samples to be predicted, in these axes, (n_new, rank)."""

    @classmethod
    def of(cls, X: FloatArray, new: FloatArray) -> _Factors:
        mean = X.mean(axis=0)
        u, s, axes = np.linalg.svd(X - mean, full_matrices=False)
        return cls(u, s, (new - mean) @ axes.T)

    def predict(self, Y: FloatArray, alphas: FloatArray) -> FloatArray:
        """Predict targets (n_new, n_targets) of centred Y; one penalty per target."""
        shrunk = self.s[:, None] / (self.s[:, None] ** 2 + alphas)
        predicted: FloatArray = self.new @ (shrunk * (self.u.T @ Y))
        return predicted


class RidgePath:
    """Fits like :func:`~bids_neurodecode.models.ridge.fit_ridge`, for many sets of targets.

    Parameters
    ----------
    X
        Training predictors, (n_samples, n_predictors).
    X_new
        Predictors of the samples to be predicted, (n_new, n_predictors).
    alphas
        Penalties to choose from, for each set of targets anew.
    folds
        (training rows, held-out rows) by which the penalty is chosen.
    """

    def __init__(
        self,
        X: npt.NDArray[np.floating[Any]],
        X_new: npt.NDArray[np.floating[Any]],
        alphas: Sequence[float],
        folds: Folds,
    ) -> None:
        # a rotation to the axes that the training samples span keeps all products
        centre = X.mean(axis=0, dtype=np.float64)
        _, _, axes = np.linalg.svd(X - centre, full_matrices=False)
        self._X, new = (np.asarray(x - centre) @ axes.T for x in (X, X_new))
        self._alphas = np.asarray(alphas, dtype=np.float64)
        self._whole = _Factors.of(self._X, new)
        self._folds: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], _Factors]] = []
        self.hold_out(folds)

    def hold_out(self, folds: Folds) -> None:
        """Choose penalties by other folds from now on."""
        self._folds = [
            (train, test, _Factors.of(self._X[train], self._X[test])) for train, test in folds
        ]

    def predict(
        self, Y: npt.NDArray[np.floating[Any]], *, per_target: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Fit targets (n_samples, n_targets) and predict those of the new samples.

        Parameters
        ----------
        Y
            Targets of the training samples.
        per_target
            One penalty per target, or one for all (least mean error of standardised targets).

        Returns
        -------
        numpy.ndarray
            Predictions, (n_new, n_targets).
        numpy.ndarray
            Share of each target's variance explained in held-out folds, (n_targets,).
        """
        scales = Standardizer.fit(Y)
        scaled = np.asarray(scales.apply(Y), dtype=np.float64)
        errors = np.zeros((len(self._alphas), scaled.shape[1]))
        for train, test, factors in self._folds:
            mean = scaled[train].mean(axis=0)
            centred = scaled[train] - mean
            for row, alpha in enumerate(self._alphas):
                residual = factors.predict(centred, np.full(1, alpha)) + mean - scaled[test]
                errors[row] += np.square(residual).mean(axis=0) / len(self._folds)
        best = errors.argmin(axis=0)
        if not per_target:
            best = np.full_like(best, errors.mean(axis=1).argmin())
        mean = scaled.mean(axis=0)
        predicted = self._whole.predict(scaled - mean, self._alphas[best]) + mean
        cv_r2 = 1 - errors[best, np.arange(len(best))]
        return scales.invert(predicted).astype(np.float64), cv_r2
