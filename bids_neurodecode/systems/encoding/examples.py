"""Which held-out samples show how well an encoding model does: the best, the middle, the worst."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bids_neurodecode.systems.encoding.outcomes import FoldResult
from bids_neurodecode.systems.examples import pick_examples
from bids_neurodecode.typing import Float32Array

N_EXAMPLES = 2
"""Samples of each kind, at most."""
COLUMNS = ('stimulus', 'fold', 'rank', 'n_candidates', 'similarity')


def pick_samples(
    results: list[FoldResult], samples: pd.DataFrame
) -> tuple[pd.DataFrame, Float32Array]:
    """Choose held-out samples by how like the prediction is to the response.

    Parameters
    ----------
    results
        Of all folds, in one space.
    samples
        One row per sample of these, in the same order: ``stimulus``, ``fold``, ``rank``,
        ``n_candidates`` and ``similarity`` (correlation of the patterns).

    Returns
    -------
    pandas.DataFrame
        Columns ``kind`` and those of ``samples``, one row per chosen sample.
    numpy.ndarray
        Shape (n_chosen, 2, n_voxels), float32: measured and predicted response, each less its
        mean over the held-out samples of the fold.
    """
    kinds, rows = pick_examples(samples['similarity'].to_numpy(dtype=float), N_EXAMPLES)
    fold = np.repeat(np.arange(len(results)), [len(result.truth) for result in results])
    start = np.flatnonzero(np.r_[True, np.diff(fold) > 0])
    volumes = []
    for row in rows:
        result, place = results[fold[row]], row - start[fold[row]]
        volumes.append(
            [part[place] - part.mean(axis=0) for part in (result.truth, result.predicted)]
        )
    table = samples.iloc[rows][list(COLUMNS)].reset_index(drop=True)
    table.insert(0, 'kind', kinds)
    return table, np.asarray(volumes, dtype=np.float32)
