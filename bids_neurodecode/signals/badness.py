"""How badly repeats of a condition predict each other over runs (GLMsingle's cross-validation).

Prince et al. 2022 (doi:10.7554/eLife.77599): betas are z-scored by voxel and session; for each
trial of a held-out run and each trial of the same condition in the other runs, the squared
difference between the latter's beta (with the setting on trial) and the former's beta (without
regularisation) is summed. Nothing is refitted, so sums over conditions give it in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray

NO_REPEATS = (
    'No condition is repeated in two runs{where}, so neither noise components nor fractions can '
    'be chosen by cross-validation. Use betas.model = "B", or set betas.n_components and '
    'betas.fraction.'
)
BAD_MASK = 'Tuning set {number} has {found} entries for {n_trials} trials; give one a trial.'


@dataclass(frozen=True, eq=False)
class Repeats:
    """Which trials predict which.

    Parameters
    ----------
    trials
        Rows of the betas that take part, shape (n_trials,).
    session
        Session codes of these trials.
    n_partners
        Trials of the same condition in other runs, shape (n_trials,).
    same_condition, same_cell
        Indicators, (n_conditions, n_trials) and (n_cells, n_trials); a cell is the trials of a
        condition in a run.
    """

    trials: IndexArray
    session: IndexArray
    n_partners: npt.NDArray[np.float32]
    same_condition: sparse.csr_array
    same_cell: sparse.csr_array

    def sum_partners(self, values: Float32Array) -> Float32Array:
        """Sum each trial's partners, (n_trials, n_voxels) in and out."""
        over_runs = self.same_condition.T @ (self.same_condition @ values)
        return np.asarray(over_runs - self.same_cell.T @ (self.same_cell @ values))


def find_repeats(
    condition: IndexArray,
    run: IndexArray,
    session: IndexArray,
    *,
    mask: BoolArray | None = None,
    where: str = '',
) -> Repeats:
    """Find the trials whose condition occurs in two runs.

    Parameters
    ----------
    condition, run, session
        Codes from 0, shape (n_trials,).
    mask
        Trials that may be looked at (a fold's training trials); all if left out.
    where
        What an error adds, such as ``' of tuning set 2'``.

    Raises
    ------
    DataError
        If no condition is repeated in two runs.
    """
    trials = np.flatnonzero(mask) if mask is not None else np.arange(len(condition))
    cell = condition[trials] * (run.max() + 1) + run[trials]
    same_condition, same_cell = _indicator(condition[trials]), _indicator(cell)
    ones = np.ones((len(trials), 1), dtype=np.float32)
    found = Repeats(trials, session[trials], ones[:, 0], same_condition, same_cell)
    n_partners = found.sum_partners(ones)[:, 0]
    if not np.any(n_partners > 0):
        raise DataError(NO_REPEATS.format(where=where))
    return Repeats(trials, session[trials], n_partners, same_condition, same_cell)


class Badness:
    """Badness of betas, given the unregularised betas that they have to predict.

    Parameters
    ----------
    repeats
        Which trials take part.
    reference
        Unregularised betas, shape (n_all_trials, n_voxels). Their mean and deviation (ddof 1) in
        each session, over the trials that take part, z-score every setting's betas.
    """

    def __init__(self, repeats: Repeats, reference: Float32Array) -> None:
        self._repeats = repeats
        self._moments = [
            _moments(reference[repeats.trials[rows]]) for rows in _rows_of(repeats.session)
        ]
        z = self._standardize(reference)
        self._partners = repeats.sum_partners(z)
        self._constant = np.einsum('t,tv,tv->v', repeats.n_partners, z, z)

    def of(self, betas: Float32Array) -> Float32Array:
        """Return the badness of betas of shape (n_all_trials, n_voxels), shape (n_voxels,)."""
        z = self._standardize(betas)
        own = np.einsum('t,tv,tv->v', self._repeats.n_partners, z, z)
        shared = np.einsum('tv,tv->v', z, self._partners)
        return np.asarray(own - 2 * shared + self._constant, dtype=np.float32)

    def _standardize(self, betas: Float32Array) -> Float32Array:
        z = betas[self._repeats.trials]
        rows_of = _rows_of(self._repeats.session)
        for rows, (mean, inverse) in zip(rows_of, self._moments, strict=True):
            z[rows] = (z[rows] - mean) * inverse
        return z


def _moments(betas: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Return mean and inverse deviation over trials; the latter 0 where nothing varies."""
    mean = betas.mean(axis=0)
    if len(betas) < 2:
        return mean, np.zeros_like(mean)
    deviation = betas.std(axis=0, ddof=1)
    flat = deviation <= 1e-12
    return mean, np.where(flat, 0, 1 / np.where(flat, 1, deviation)).astype(np.float32)


def _rows_of(session: IndexArray) -> list[IndexArray]:
    return [np.flatnonzero(session == code) for code in np.unique(session)]


def _indicator(codes: IndexArray) -> sparse.csr_array:
    _, rows = np.unique(codes, return_inverse=True)
    shape = (int(rows.max()) + 1 if rows.size else 0, len(codes))
    entries = (np.ones(len(codes), dtype=np.float32), (rows, np.arange(len(codes))))
    return sparse.csr_array(entries, shape=shape)
