"""Which of the candidates was seen? Similarities, ranks and what follows from them.

All functions take a matrix of similarities, (n_samples, n_candidates), larger is more similar, and
``truth``, the column of each sample's true candidate. Ties are shared out evenly, so that a
prediction that says nothing scores chance: one that ties with e others counts 1 / (e + 1).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import blocks, group_sums, room
from bids_neurodecode.typing import FloatArray

BAD_TRUTH = 'Each of the {n} samples needs its true candidate, from 0 to {last}; found {found}.'
BAD_PAIRS = 'Predictions {a} and candidates {b} must have the same number of columns.'
NOT_FINITE = 'Similarities must be finite; {n} are not.'
NO_OTHERS = 'Identification needs at least two candidates; there is {n}.'
TOO_FEW = 'Identification among {need} needs 2 or more, and as many candidates; there are {n}.'

DOUBLE_DECIMALS = 12
SINGLE_DECIMALS = 5
"""Decimals of a similarity that the arithmetic of its rows holds on any processor."""
_ROWS_AT_ONCE = 256

Measure = Literal['pearson', 'cosine']


def similarity(
    predictions: npt.NDArray[np.floating[Any]],
    candidates: npt.NDArray[np.floating[Any]],
    measure: Measure = 'cosine',
) -> FloatArray:
    """Compare predictions with candidates.

    Parameters
    ----------
    predictions
        Shape (n_samples, n_features).
    candidates
        Shape (n_candidates, n_features).
    measure
        ``pearson`` centres each row over features; ``cosine`` does not, so that in centred
        coordinates it does not depend on the choice of axes.

    Returns
    -------
    numpy.ndarray
        Shape (n_samples, n_candidates); 0 where either row is constant (``pearson``) or
        zero (``cosine``), as it then points nowhere. Rounded to 12 decimals, to 5 where either
        is float32: what differs by the rounding of its arithmetic alone ties.
    """
    if (
        predictions.ndim != 2
        or candidates.ndim != 2
        or predictions.shape[1] != candidates.shape[1]
    ):
        raise DataError(BAD_PAIRS.format(a=predictions.shape, b=candidates.shape))
    # equal candidates must tie, whatever the order in which a library sums
    single = np.float32 in (predictions.dtype, candidates.dtype)
    decimals = SINGLE_DECIMALS if single else DOUBLE_DECIMALS
    alike = np.empty((len(predictions), len(candidates)))
    for columns in blocks(len(candidates), candidates.shape[1]):
        known = _unit_rows(candidates[columns], measure)
        for rows in blocks(len(predictions), predictions.shape[1]):
            products = _unit_rows(predictions[rows], measure) @ known.T
            np.round(products, decimals, out=alike[rows, columns])
    return alike


def outcomes_top1(similarities: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return what each sample would score in top-1 identification, were each candidate true.

    Shape (n_samples, n_candidates); rows sum to 1.
    """
    shares = room(similarities, similarities.shape, np.float64)
    for rows in blocks(*similarities.shape):
        best = similarities[rows] == similarities[rows].max(axis=1, keepdims=True)
        shares[rows] = best / best.sum(axis=1, keepdims=True)
    return shares


def outcomes_top1_of(similarities: npt.NDArray[np.floating[Any]], n_candidates: int) -> FloatArray:
    """Return what each sample would score in top-1 among random candidates, were each one true.

    That is the chance that none of ``n_candidates - 1`` others, drawn without replacement, is as
    alike: what repeated draws (MindEye: 30 of 300) estimate. Shape (n_samples, all candidates).

    Parameters
    ----------
    similarities
        Shape (n_samples, n_all_candidates), larger is more similar.
    n_candidates
        Size of the random sets, the true candidate among them; 2 or more.

    Raises
    ------
    DataError
        If there are fewer candidates.
    """
    from scipy.special import gammaln

    n = similarities.shape[1]
    if not 2 <= n_candidates <= n:
        raise DataError(TOO_FEW.format(need=n_candidates, n=n))
    drawn = n_candidates - 1
    shares = room(similarities, similarities.shape, np.float64)
    for row, values in enumerate(similarities):
        # those that would win against each candidate: ties do
        below = np.searchsorted(np.sort(values), values, side='left')
        enough = np.maximum(below, drawn)
        logs = gammaln(enough + 1) - gammaln(enough - drawn + 1) - gammaln(n) + gammaln(n - drawn)
        shares[row] = np.where(below >= drawn, np.exp(np.minimum(logs, 0.0)), 0.0)
    return shares


def outcomes_2way(similarities: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return what each sample would score in 2-way identification, were each candidate true.

    That is the share of the other candidates that are less similar, ties counting half. Shape
    (n_samples, n_candidates); the mean of a row is 1/2.
    """
    from scipy.stats import rankdata

    n_samples, n_candidates = similarities.shape
    if n_candidates < 2:
        raise DataError(NO_OTHERS.format(n=n_candidates))
    shares = room(similarities, similarities.shape, np.float64)
    for start in range(0, n_samples, _ROWS_AT_ONCE):  # what ranking needs is several times that
        rows = slice(start, start + _ROWS_AT_ONCE)
        shares[rows] = rankdata(-similarities[rows].astype(np.float64), axis=1)
    np.subtract(n_candidates, shares, out=shares)
    shares /= n_candidates - 1
    return shares


def ranks(similarities: npt.NDArray[np.floating[Any]], truth: npt.ArrayLike) -> FloatArray:
    """Return the rank of each sample's true candidate, 1 the best; ties have their mean rank.

    Parameters
    ----------
    similarities
        Shape (n_samples, n_candidates), larger is more similar.
    truth
        Column of the true candidate of each sample, (n_samples,).
    """
    rows, columns = _pairs(similarities, truth)
    own = similarities[rows, columns][:, None]
    ahead = np.count_nonzero(similarities > own, axis=1)
    tied = np.count_nonzero(similarities == own, axis=1)
    return np.asarray(ahead + (tied + 1) / 2)


def identification_2way(
    similarities: npt.NDArray[np.floating[Any]], truth: npt.ArrayLike
) -> float:
    """Share of pairs (true, other) in which the true candidate is more similar; chance 1/2.

    For prediction j this is the share of the other candidates i with r(i, j) < r(j, j), as in
    the protocol of Brain-Diffuser (Ozcelik & VanRullen 2023, Sci Rep 13:15666).

    Parameters
    ----------
    similarities
        Shape (n_samples, n_candidates), larger is more similar.
    truth
        Column of the true candidate of each sample, (n_samples,).
    """
    n_candidates = similarities.shape[1]
    if n_candidates < 2:
        raise DataError(NO_OTHERS.format(n=n_candidates))
    return float(((n_candidates - ranks(similarities, truth)) / (n_candidates - 1)).mean())


def confusion_matrix(
    similarities: npt.NDArray[np.floating[Any]], truth: npt.ArrayLike
) -> FloatArray:
    """Count (true, identified) pairs, (n_candidates, n_candidates); ties are shared out.

    Parameters
    ----------
    similarities
        Shape (n_samples, n_candidates), larger is more similar.
    truth
        Column of the true candidate of each sample, (n_samples,).
    """
    rows, columns = _pairs(similarities, truth)
    return group_sums(outcomes_top1(similarities)[rows], columns, similarities.shape[1])


def nearest(similarities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.intp]:
    """Return the most similar candidate of each sample (the first of several)."""
    return np.asarray(similarities.argmax(axis=1))


def _pairs(
    similarities: npt.NDArray[np.floating[Any]], truth: npt.ArrayLike
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    columns = np.asarray(truth)
    n_samples, n_candidates = similarities.shape
    whole = columns.shape == (n_samples,) and np.issubdtype(columns.dtype, np.integer)
    if not whole or (n_samples and not (columns.min() >= 0 and columns.max() < n_candidates)):
        raise DataError(BAD_TRUTH.format(n=n_samples, last=n_candidates - 1, found=columns))
    bad = int(np.count_nonzero(~np.isfinite(similarities)))
    if bad:
        raise DataError(NOT_FINITE.format(n=bad))
    return np.arange(n_samples), columns.astype(np.intp)


def _unit_rows(values: npt.NDArray[np.floating[Any]], measure: Measure) -> FloatArray:
    rows = np.asarray(values, dtype=np.float64)
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    if measure == 'pearson':
        rows = rows - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    # what centring leaves of a constant row is rounding noise
    empty = norm <= 1e-12 * np.maximum(size, np.finfo(np.float64).tiny)
    return np.where(empty, 0.0, rows / np.where(empty, 1.0, norm))
