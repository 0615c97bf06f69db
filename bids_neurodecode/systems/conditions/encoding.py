"""The responses to conditions of a held-out run, predicted by those of other runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation import identification
from bids_neurodecode.samples import Parts, Split
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.systems.conditions.patterns import patterns_of
from bids_neurodecode.systems.encoding.outcomes import FoldResult
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, Outcome
from bids_neurodecode.typing import BoolArray

MODEL = 'condition-means'


def predict_runs(
    parts: Iterable[Parts],
    split: Split,
    conditions: tuple[str, ...],
    voxels: Sequence[BoolArray],
) -> list[FoldResult]:
    """Predict the mean response of each condition of held-out runs by that of training runs.

    Parameters
    ----------
    parts
        The samples of each fold.
    split
        What is held out, whole runs.
    conditions
        Names, the candidates of identification by correlation.
    voxels
        Those that identify conditions in each fold, (n_voxels,) each.

    Returns
    -------
    list of FoldResult
        One row per condition and held-out run, of all voxels; levels of runs are taken off.
    """
    results = []
    for number, (fold, cut) in enumerate(zip(split, parts, strict=True)):
        train, test = (patterns_of(part, conditions) for part in (cut.train, cut.test))
        seen = train.counts.sum(axis=0) > 0
        known = np.zeros(train.means.shape[1:])
        known[seen] = np.nanmean(train.means[:, seen], axis=0)
        rows = [(r, c) for r, c in np.argwhere(test.counts > 0).tolist() if seen[c]]
        truth = np.stack([test.means[r, c] for r, c in rows]).astype(np.float32)
        order = [c for _, c in rows]
        keep = voxels[number]
        alike = identification.similarity(truth[:, keep], known[:, keep], 'pearson')
        names = [conditions[c] for c in order]
        labels, shown = run_labels(cut.test.table), cut.test.table['stimulus'].astype(str)
        first = [
            int(fold.test[np.flatnonzero((labels == test.runs[r]) & (shown == conditions[c]))[0]])
            for r, c in rows
        ]
        outcome = Outcome(
            model=MODEL,
            space=REPEAT_AVERAGE,
            fold=number,
            table=pd.DataFrame(
                {
                    'sample': first,
                    'stimulus': names,
                    'run': [test.runs[r] for r, _ in rows],
                }
            ),
            candidates=conditions,
            similarities=alike,
            retrieved=tuple(conditions[k] for k in identification.nearest(alike)),
        )
        repeats = np.array([test.counts[r, c] for r, c in rows], dtype=np.intp)
        predicted = known[order].astype(np.float32)
        results.append(FoldResult(outcome, truth, predicted, repeats))
    return results
