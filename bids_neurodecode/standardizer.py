"""Standardising by training samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.mapped import blocks, room


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

        Parameters
        ----------
        values
            Training samples, (n_samples, n_columns).
        least
            The smallest deviation, in the units of the values.
        """
        mean, scale = (np.empty(values.shape[1:], dtype=np.float64) for _ in range(2))
        for part in blocks(values.shape[1], len(values)):
            np.mean(values[:, part], axis=0, dtype=np.float64, out=mean[part])
            np.std(values[:, part], axis=0, dtype=np.float64, out=scale[part])
        # a constant column has a deviation of rounding errors, not of zero
        constant = scale <= 1e-7 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
        return cls(mean, np.where(constant, max(1.0, least), np.maximum(scale, least)))

    def state(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return its arrays, by the names of its parameters."""
        return {'mean': self.mean, 'scale': self.scale}

    def columns(self, part: slice) -> Standardizer:
        """Return that of some columns."""
        return Standardizer(self.mean[part], self.scale[part])

    def apply(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Standardise rows of (n_samples, n_columns)."""
        out = room(values, values.shape)
        for part in blocks(len(values), values[0].size if len(values) else 1):
            out[part] = (values[part] - self.mean) / self.scale
        return out

    def invert(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Undo :meth:`apply`."""
        out = np.empty(values.shape, dtype=np.float32)
        for part in blocks(len(values), values[0].size if len(values) else 1):
            out[part] = values[part] * self.scale + self.mean
        return out
