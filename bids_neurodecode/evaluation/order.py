"""Do runs show their stimuli in one order? Then place in the run and stimulus are one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import FloatArray

NEIGHBOURS = 2.0
"""Places over which trials are taken to be alike for their time alone (1 / e)."""
_MOST_STIMULI = 400  # their pairs are compared


def order_agreement(runs: npt.ArrayLike, stimuli: npt.ArrayLike) -> float:
    """Return how far runs agree on the order of stimuli: 0 as by chance, 1 one order.

    The larger of two mean correlations between runs: of where each stimulus stands, and of which
    stimuli stand close together (as they also do where the order is reversed, or begun elsewhere).

    Parameters
    ----------
    runs, stimuli
        One label per trial, (n_trials,), in order of time within each run.

    Returns
    -------
    float
        0 where fewer than two runs share stimuli: those that at least half of the runs show count.
    """
    run, stimulus = np.asarray(runs), np.asarray(stimuli)
    sequences = [stimulus[run == label] for label in dict.fromkeys(run.tolist())]
    names, shown = np.unique(np.concatenate([np.unique(s) for s in sequences]), return_counts=True)
    common = names[shown >= max(2, len(sequences) / 2)][:_MOST_STIMULI]
    if len(common) < 2:
        return 0.0
    longest = max(len(s) for s in sequences)
    places, pairs = [], []
    upper = np.triu_indices(len(common), 1)
    for sequence in sequences:
        at = (sequence[:, None] == common).astype(np.float64)
        apart = np.abs(np.arange(len(at))[:, None] - np.arange(longest))
        near = np.exp(-apart / NEIGHBOURS)
        has = at.any(axis=0)
        count = np.maximum(at.sum(axis=0), 1)
        # how often a stimulus is shown says nothing of where
        spread = (at.T @ near) / count[:, None]
        spread[has] -= spread[has].mean(axis=0)
        places.append(spread.ravel())
        close = (at.T @ near[:, : len(at)] @ at / np.outer(count, count))[upper]
        known = np.outer(has, has)[upper]
        pairs.append(np.where(known, close - close[known].mean() if known.any() else 0.0, 0.0))
    return max(0.0, _mean_correlation(places), _mean_correlation(pairs))


def _mean_correlation(rows: list[FloatArray]) -> float:
    """Return the mean correlation of each row (centred) with each other."""
    lengths = np.array([np.linalg.norm(row) for row in rows])
    kept = [row / length for row, length in zip(rows, lengths, strict=True) if length > 1e-9]
    n = len(kept)
    if n < 2:
        return 0.0
    total = np.sum(kept, axis=0)
    return float((total @ total - n) / (n * (n - 1)))
