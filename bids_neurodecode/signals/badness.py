"""How badly repeats of a condition predict each other over runs (GLMsingle's cross-validation).

Prince et al. 2022 (doi:10.7554/eLife.77599): betas are z-scored by voxel and session; for each
trial of a held-out run and each trial of the same condition in the other runs, the squared
difference between the latter's beta (with the setting on trial) and the former's beta (without
regularisation) is summed. Nothing is refitted, so sums over conditions give it in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_neurodecode.algebra import NUMPY, Algebra, Array, to_host
from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray

NO_REPEATS = (
    'No condition is repeated in two runs{where}, so neither noise components nor fractions can '
    'be chosen by cross-validation. Use betas.model = "B", or set betas.n_components and '
    'betas.fraction.'
)


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

    def sum_partners(self, values: Array, algebra: Algebra = NUMPY) -> Array:
        """Sum each trial's partners.

        Parameters
        ----------
        values
            Shape (n_trials, n_voxels), on the device, as what is returned.
        algebra
            Of the device.
        """
        condition, cell = algebra.sparse(self.same_condition), algebra.sparse(self.same_cell)
        return condition.T @ (condition @ values) - cell.T @ (cell @ values)


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
    n_partners = to_host(found.sum_partners(ones))[:, 0]
    if not np.any(n_partners > 0):
        raise DataError(NO_REPEATS.format(where=where))
    return Repeats(trials, session[trials], n_partners, same_condition, same_cell)


class Judge:
    """How badly betas predict repeats, of some voxels and all trials, run by run.

    Betas of each setting are z-scored by the mean and deviation (ddof 1) of the unregularised
    ones in each session, over the trials that take part. With n a trial's number of partners,
    z its beta and P the sum of its partners' unregularised ones, the badness is the sum over
    trials of ``n z^2 - 2 P z``, and a constant.

    Parameters
    ----------
    repeats
        Which trials take part.
    reference
        Unregularised betas, shape (n_all_trials, n_voxels), float32 on the device, as all arrays
        of voxels are.
    session
        Session codes of all trials.
    algebra
        Of the device.

    Attributes
    ----------
    partners
        Sum of each trial's partners, z-scored, (n_all_trials, n_voxels).
    constant, unregularised
        What does not depend on the setting, and the badness of the unregularised betas
        themselves, (n_voxels,), float64.
    """

    def __init__(
        self,
        repeats: Repeats,
        reference: Array,
        session: IndexArray,
        algebra: Algebra = NUMPY,
    ) -> None:
        self.algebra = algebra
        self._session = session
        self._n_partners = np.zeros(len(reference), dtype=np.float32)
        self._n_partners[repeats.trials] = repeats.n_partners
        zero = algebra.xp.zeros_like(reference[0])
        self._mean, self._inverse = ([zero] * (int(session.max()) + 1) for _ in range(2))
        z = reference[repeats.trials]
        rows_of = _rows_of(repeats.session)
        for rows in rows_of:
            code = repeats.session[rows[0]]
            self._mean[code], self._inverse[code] = _moments(algebra, z[rows])
            z[rows] = (z[rows] - self._mean[code]) * self._inverse[code]
        partners = repeats.sum_partners(z, algebra)
        self.partners = algebra.xp.zeros_like(reference)
        self.partners[repeats.trials] = partners
        self.constant, self.unregularised = algebra.double(zero), algebra.double(zero)
        for rows in rows_of:
            weighted = z[rows] * algebra.single(repeats.n_partners[rows, None])
            self.constant = self.constant + algebra.dot(weighted, z[rows])
            weighted -= partners[rows]
            self.unregularised = self.unregularised + 2 * algebra.dot(weighted, z[rows])

    def gains(self, trials: slice, plain: Array, spread: Float32Array, on: Array) -> Array:
        """Return what each further component adds to the badness in a run, (k, n_voxels).

        Parameters
        ----------
        trials
            Rows of the run's trials.
        plain
            Their unregularised betas, (n_trials, n_voxels).
        spread, on
            Betas with k components are ``plain - spread[:, :k] @ on[:k]``; ``spread`` is NumPy's.
        """
        counts, mean, inverse = self.of_run(trials)
        weights = self.algebra.single(counts[:, None])
        push = self.partners[trials] - weights * ((plain - mean) * inverse)
        inner = (spread.T * counts) @ spread
        pairs = 2 * np.tril(inner, -1) + np.diag(np.diagonal(inner))
        linear = 2 * inverse * (self.algebra.single(spread).T @ push)
        return (linear + inverse**2 * (self.algebra.single(pairs) @ on)) * on

    def of_run(self, trials: slice) -> tuple[Float32Array, Array, Array]:
        """Return how many partners a run's trials have, and voxels' mean and 1 / deviation."""
        code = self._session[trials.start]
        return self._n_partners[trials], self._mean[code], self._inverse[code]


class RunJudges:
    """Several judges of the same betas of one run; ``centre`` is taken off the betas beforehand.

    Parameters
    ----------
    judges
        Of one set of trials each.
    trials
        Rows of the run's trials.
    """

    def __init__(self, judges: Sequence[Judge], trials: slice) -> None:
        self.algebra = judges[0].algebra
        stacked, runs = self.algebra.xp.stack, [judge.of_run(trials) for judge in judges]
        self.centre = runs[0][1]
        counts = np.stack([each for each, _, _ in runs])
        self._counts = self.algebra.single(counts)
        self._partners = [judge.partners[trials] for judge in judges]
        self._offset = stacked([mean - self.centre for _, mean, _ in runs])
        self._inverse = stacked([inverse for _, _, inverse in runs])
        number = self.algebra.single(counts.sum(axis=1)[:, None])
        total = stacked([partners.sum(axis=0) for partners in self._partners])
        self._constant = self._offset * (
            self._inverse**2 * self._offset * number + 2 * self._inverse * total
        )

    def of(self, centred: Array) -> Array:
        """Return what betas add to the badness.

        Parameters
        ----------
        centred
            Betas without :attr:`centre`, (..., n_trials, n_voxels).

        Returns
        -------
        array of shape (..., n_judges, n_voxels)
        """
        on_partners = self.algebra.xp.stack(
            [self.algebra.dot(centred, partners) for partners in self._partners], axis=-2
        )
        squares, sums = self._counts @ centred**2, self._counts @ centred
        spread = squares - 2 * self._offset * sums
        return self._inverse * (self._inverse * spread - 2 * on_partners) + self._constant


def _moments(algebra: Algebra, betas: Array) -> tuple[Array, Array]:
    """Return mean and inverse deviation over trials; the latter 0 where nothing varies."""
    xp = algebra.xp
    mean = algebra.single(betas.mean(axis=0, dtype=xp.float64))
    if len(betas) < 2:
        return mean, xp.zeros_like(mean)
    centred = betas - mean
    deviation = xp.sqrt(algebra.dot(centred, centred) / (len(betas) - 1))
    flat = deviation <= 1e-12
    return mean, algebra.single(xp.where(flat, 0, 1 / xp.where(flat, 1, deviation)))


def _rows_of(session: IndexArray) -> list[IndexArray]:
    return [np.flatnonzero(session == code) for code in np.unique(session)]


def _indicator(codes: IndexArray) -> sparse.csr_array:
    _, rows = np.unique(codes, return_inverse=True)
    shape = (int(rows.max()) + 1 if rows.size else 0, len(codes))
    entries = (np.ones(len(codes), dtype=np.float32), (rows, np.arange(len(codes))))
    return sparse.csr_array(entries, shape=shape)
