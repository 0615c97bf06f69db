"""Which held-out samples show how well an encoding model does: the best, the middle, the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_neurodecode.systems.encoding.outcomes import FoldResult
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    import pandas as pd

KINDS = ('best', 'median', 'worst')
COLUMNS = ('stimulus', 'fold', 'rank', 'n_candidates', 'similarity')


def pick_samples(
    results: list[FoldResult], samples: pd.DataFrame, n: int = 2
) -> tuple[pd.DataFrame, Float32Array]:
    """Choose held-out samples by how like the prediction is to the response.

    Parameters
    ----------
    results
        Of all folds, in one space.
    samples
        One row per sample of these, in the same order: ``stimulus``, ``fold``, ``rank``,
        ``n_candidates`` and ``similarity`` (correlation of the patterns).
    n
        How many of each kind, at most.

    Returns
    -------
    pandas.DataFrame
        Columns ``kind`` and those of ``samples``, one row per chosen sample.
    numpy.ndarray
        Shape (n_chosen, 2, n_voxels), float32: measured and predicted response, each less its
        mean over the held-out samples of the fold.
    """
    order = np.argsort(-samples['similarity'].to_numpy(dtype=float), kind='stable')
    n = min(n, len(order) // len(KINDS)) or 1
    middle = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind='stable')
    places = {'best': order[:n], 'median': order[middle[:n]], 'worst': order[::-1][:n]}
    chosen = [(kind, int(row)) for kind in KINDS for row in places[kind]]
    fold = np.repeat(np.arange(len(results)), [len(result.truth) for result in results])
    start = np.flatnonzero(np.r_[True, np.diff(fold) > 0])
    volumes = []
    for _, row in chosen:
        result, place = results[fold[row]], row - start[fold[row]]
        volumes.append(
            [part[place] - part.mean(axis=0) for part in (result.truth, result.predicted)]
        )
    table = samples.iloc[[row for _, row in chosen]][list(COLUMNS)].reset_index(drop=True)
    table.insert(0, 'kind', [kind for kind, _ in chosen])
    return table, np.asarray(volumes, dtype=np.float32)
