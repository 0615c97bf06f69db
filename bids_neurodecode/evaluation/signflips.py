"""Maps of several participants against 0: signs of participants are flipped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation.statistics import MIN_GROUPS, fdr
from bids_neurodecode.typing import FloatArray, RealArray

BLOCK = 8_000_000
"""Numbers of flipped maps that are held at a time."""


class MapTest(NamedTuple):
    """One-sided test of a mean map against 0; each of shape (n_columns,).

    ``t`` the statistic, ``p`` by flips of signs, ``p_fdr`` adjusted for the false discovery rate
    over columns, ``p_fwer`` by the highest statistic of all columns. NaN below
    :data:`~bids_neurodecode.evaluation.statistics.MIN_GROUPS` participants.
    """

    t: FloatArray
    p: FloatArray
    p_fdr: FloatArray
    p_fwer: FloatArray


def map_above_zero(values: RealArray, *, rng: np.random.Generator, n_flips: int = 1999) -> MapTest:
    """Test where the mean over participants is above 0, by flips of the signs of participants.

    Without an effect a participant's map is as likely as its negative (where scores about chance
    are symmetric); the whole map is flipped, so that columns keep how they depend on each other.

    Parameters
    ----------
    values
        Shape (n_participants, n_columns), finite.
    rng
        Draws flips where not all can be counted.
    n_flips
        At most so many flips beside the data as they are.

    Returns
    -------
    MapTest
        Flips that change nothing count as the data do: the least p is 1 / (n_flips + 1), or
        1 / 2^n_participants where all are counted.
    """
    maps: FloatArray = np.asarray(values, dtype=np.float64)
    n, n_columns = maps.shape
    if n < MIN_GROUPS:
        unknown = np.full(n_columns, np.nan)
        return MapTest(unknown, unknown.copy(), unknown.copy(), unknown.copy())
    signs = _signs(n, n_flips, rng)
    total = (maps**2).sum(axis=0)
    observed = _t(np.ones((1, n)), maps, total)[0]
    above, highest = np.zeros(n_columns), np.zeros(n_columns)
    step = max(1, BLOCK // max(1, n_columns))
    # rounding of sums in another order must not tell a flip from its equal
    least = observed - 1e-9 * np.abs(observed)
    for start in range(0, len(signs), step):
        flipped = _t(signs[start : start + step], maps, total)
        above += (flipped >= least).sum(axis=0)
        top = np.sort(flipped.max(axis=1))
        highest += len(top) - np.searchsorted(top, least)
    p = above / len(signs)
    return MapTest(observed, p, fdr(p), highest / len(signs))


def _signs(n: int, n_flips: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return signs, (n_flips, n), the first all +1: all there are, or as many as asked for."""
    if 2**n <= n_flips + 1:
        bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return 1.0 - 2.0 * bits.astype(np.float64)
    drawn = 1.0 - 2.0 * rng.integers(0, 2, size=(n_flips, n)).astype(np.float64)
    return np.concatenate([np.ones((1, n)), drawn])


def _t(signs: FloatArray, values: FloatArray, total: FloatArray) -> FloatArray:
    """Return t values of flipped maps, (n_flips, n_columns); 0 where a column does not vary."""
    n = len(values)
    mean = signs @ values / n
    variance = np.maximum(total - n * mean**2, 0) / (n - 1)
    error = np.sqrt(variance / n)
    # where all participants have one value the error is 0, and so is what rounding leaves of it
    least = np.maximum(1e-12 * np.sqrt(total / n), np.finfo(float).tiny)
    return np.asarray(mean / np.maximum(error, least), dtype=np.float64)
