"""Standardising by training samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Means and deviations of training samples, applied to any samples.

    A column that does not vary is only centred.
    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, values: npt.NDArray[Any], *, least: float = 0.0) -> Standardizer:
        """Take mean and standard deviation (ddof 0) over rows of (n_samples, n_columns).

        Deviations below ``least`` are set to it: what is a trace in training need not be later.
        """
        mean = np.asarray(np.mean(values, axis=0, dtype=np.float64))
        scale = np.asarray(np.std(values, axis=0, dtype=np.float64))
        # a constant column has a deviation of rounding errors, not of zero
        constant = scale <= 1e-7 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
        return cls(mean, np.where(constant, max(1.0, least), np.maximum(scale, least)))

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Standardise rows of (n_samples, n_columns)."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def invert(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Undo :meth:`apply`."""
        return (values * self.scale + self.mean).astype(np.float32)
