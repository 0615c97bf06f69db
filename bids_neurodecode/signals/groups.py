"""Sums over groups of trials and blocks of voxels, shared by what judges voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import RealArray

BLOCK_BYTES = 2**26
"""Size of a block of voxels in double precision."""

WRONG_SHAPE = 'Expected an array of {expected}; this one is {shape}.'
WRONG_LENGTH = 'There are {n} entries of {what} for {trials} trials; they must be one to one.'
MISSING_LABEL = 'The {what} of {n} trial(s) is missing. Every trial needs one.'


class TrialGroups:
    """Trials by label: means and variances of groups as sparse products.

    Parameters
    ----------
    labels
        Shape (n_trials,); groups are numbered by first appearance.
    n_trials
        Number of trials.
    what
        What an error calls the labels.

    Raises
    ------
    DataError
        If the labels are not one a trial, or one is missing.
    """

    def __init__(self, labels: npt.ArrayLike, n_trials: int, what: str) -> None:
        codes, self.labels = pd.factorize(np.asarray(labels))
        if codes.shape != (n_trials,):
            raise DataError(WRONG_LENGTH.format(n=len(codes), what=what, trials=n_trials))
        if (codes < 0).any():
            raise DataError(MISSING_LABEL.format(what=what, n=int(np.sum(codes < 0))))
        self.codes = codes
        self.counts = np.bincount(codes)
        ones = np.ones(n_trials)
        self._sum = sparse.csr_array((ones, (codes, np.arange(n_trials))))

    def means(self, values: RealArray) -> npt.NDArray[np.float64]:
        """(n_trials, n) to (n_groups, n)."""
        return np.asarray(self._sum @ values) / self.counts[:, None]

    def variances(self, values: RealArray, means: RealArray) -> npt.NDArray[np.float64]:
        """Variance (ddof 1) within each group, (n_groups, n); 0 for groups of one.

        Parameters
        ----------
        values
            Shape (n_trials, n).
        means
            Of each group, (n_groups, n).
        """
        residual = values - means[self.codes]
        return np.asarray(self._sum @ residual**2) / np.maximum(self.counts - 1, 1)[:, None]

    def mean_variance(self, values: RealArray) -> npt.NDArray[np.float64]:
        """Mean of the variances (ddof 1) of the groups of two and more, (n,).

        The values should be centred: this is a difference of sums of squares, which takes no
        copy of them.
        """
        several = self.counts > 1
        weights = np.where(several, 1 / np.maximum(self.counts - 1, 1), 0) / np.sum(several)
        squares = np.einsum('t,tv,tv->v', weights[self.codes], values, values)
        rest = squares - (weights * self.counts) @ self.means(values) ** 2
        return np.where(rest <= 1e-13 * squares, 0.0, rest)

    def zscored(self, values: RealArray) -> npt.NDArray[np.float64]:
        """Z-score values, (n_trials, n), of each group (ddof 1); one that does not vary is 0."""
        means = self.means(values)
        centred = values - means[self.codes]
        squares = np.asarray(self._sum @ centred**2)
        deviation = np.sqrt(squares / np.maximum(self.counts - 1, 1)[:, None])
        still = deviation <= 1e-7 * np.abs(means)
        return np.asarray(centred / np.where(still, np.inf, deviation)[self.codes])


def checked(values: RealArray, n_dimensions: int, expected: str) -> RealArray:
    """Return the array, or say what it should have been.

    Parameters
    ----------
    values
        An array, or a memory map.
    n_dimensions
        That it must have, none of them empty.
    expected
        Its shape in words, for the message.

    Raises
    ------
    DataError
        If it has another number of dimensions, or none of its samples.
    """
    values = np.asanyarray(values)  # may be a memory map
    if values.ndim != n_dimensions or 0 in values.shape:
        raise DataError(WRONG_SHAPE.format(expected=expected, shape=values.shape))
    return values


def voxel_blocks(values: RealArray) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Go through the last axis in blocks of double precision."""
    n_voxels = values.shape[-1]
    size = max(1, BLOCK_BYTES // (8 * (values.size // n_voxels)))
    for start in range(0, n_voxels, size):
        part = slice(start, start + size)
        yield part, np.asarray(values[..., part], dtype=np.float64)


def ratio_of(above: RealArray, below: RealArray) -> npt.NDArray[np.float64]:
    """Divide; 0 / 0 is 0, more than 0 / 0 is infinite.

    Parameters
    ----------
    above, below
        Of one shape; not negative.
    """
    nothing = np.where(above > 0, np.inf, 0.0 * above)
    return np.where(below != 0, above / np.where(below != 0, below, 1.0), nothing)
