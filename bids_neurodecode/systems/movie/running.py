"""Statistics over participants and films that do not fit into memory, taken in part by part."""

from __future__ import annotations

import numpy as np

from bids_neurodecode.errors import DataError
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.movie.targets import AT_ONCE, NO_ROWS
from bids_neurodecode.typing import BoolArray, FloatArray, RealArray


class RunningScale:
    """Mean and deviation of voxels, taken in part by part; then applied.

    Rows with NaN throughout (censored volumes) are passed over.
    """

    def __init__(self, n_voxels: int) -> None:
        self.n = 0
        self.mean = np.zeros(n_voxels)
        self.spread = np.zeros(n_voxels)

    def add(self, values: RealArray) -> None:
        """Take in rows (n_volumes, n_voxels), by the update of Chan et al. (1979)."""
        rows = np.asarray(values[np.isfinite(values).any(axis=1)], dtype=np.float64)
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        n = self.n + len(rows)
        step = mean - self.mean
        self.spread += ((rows - mean) ** 2).sum(axis=0) + step**2 * self.n * len(rows) / n
        self.mean += step * len(rows) / n
        self.n = n

    def of(self, within: BoolArray) -> Standardizer:
        """Return what standardises these voxels, ``within`` of shape (n_voxels,)."""
        scale = np.sqrt(self.spread[within] / max(self.n, 1))
        return Standardizer(self.mean[within], np.where(scale > 0, scale, 1.0))


class RunningAgreement:
    """Agreement of one or more participants with the others, taken presentation by presentation.

    Each presentation is standardised by itself, as in
    :func:`~bids_neurodecode.systems.movie.targets.agreement`.
    """

    def __init__(self, n_voxels: int) -> None:
        self.n = 0
        self.products = np.zeros(n_voxels)

    def add(self, own: RealArray, others: RealArray) -> None:
        """Take in the same volumes of one presentation, (n_volumes, n_voxels) each.

        Parameters
        ----------
        own, others
            Of the participant, and the mean of the others; volumes that are NaN are left out.
        """
        rows = np.isfinite(own).any(axis=1) & np.isfinite(others).any(axis=1)
        if rows.sum() < 2:
            return
        for start in range(0, own.shape[1], AT_ONCE):
            part = slice(start, start + AT_ONCE)
            a, b = (Standardizer.fit(x[rows, part]).apply(x[rows, part]) for x in (own, others))
            self.products[part] += np.einsum('tv,tv->v', a, b, dtype=np.float64)
        self.n += int(rows.sum())

    def r(self, what: str) -> FloatArray:
        """Return the correlation, weighted over presentations and participants, (n_voxels,).

        Raises
        ------
        DataError
            If nothing was taken in.
        """
        if not self.n:
            raise DataError(NO_ROWS.format(what=what))
        return np.asarray(np.clip(self.products / self.n, -1, 1))
