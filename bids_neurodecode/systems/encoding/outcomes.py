"""What an encoding model predicted of one fold's test samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation import identification
from bids_neurodecode.mapped import rows_of
from bids_neurodecode.samples import Fold, Samples
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.systems.encoding.encoders import Encoder
from bids_neurodecode.systems.examples import pick_examples
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL, Outcome
from bids_neurodecode.typing import Float32Array, IndexArray

N_EXAMPLES = 2
"""Samples of each kind, at most."""
COLUMNS = ('stimulus', 'fold', 'rank', 'n_candidates', 'similarity')
MIN_VOXELS = 20
"""At least this many voxels, the best predicted in training, identify images."""


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What an encoding model predicted of one fold's test samples.

    Parameters
    ----------
    outcome
        Identification of each sample's image by its response; its table names the samples.
    truth, predicted
        Responses and predictions, (n_samples, n_voxels).
    n_repeats
        Trials that each row of ``truth`` is the mean of, (n_samples,).
    """

    outcome: Outcome
    truth: Float32Array
    predicted: Float32Array
    n_repeats: IndexArray


def fold_result(
    model: str,
    encoder: Encoder,
    known: Float32Array,
    candidates: Sequence[str],
    test: Samples,
    number: int,
    fold: Fold,
    average: bool,
) -> FoldResult:
    """Compare one fold's test samples with the predicted patterns of all candidates.

    Parameters
    ----------
    model
        Name in the metrics table.
    encoder
        Fitted on the training samples of the fold.
    known
        Predicted patterns of the candidates, (n_candidates, n_voxels).
    candidates
        Their names.
    test
        Test samples of the fold.
    number
        Of the fold, from 0.
    fold
        Row numbers of its samples.
    average
        Whether the repeats of a stimulus are averaged.
    """
    tested = Samples(test.responses, test.table.assign(sample=fold.test))
    if average:
        tested = tested.averaged()
    table = tested.table
    names = table['stimulus'].astype(str)
    place = {name: row for row, name in enumerate(candidates)}
    voxels = np.zeros(len(encoder.cv_r2), dtype=bool)
    voxels[informative(encoder.cv_r2)] = True
    scale = Standardizer(encoder.responses.mean[voxels], encoder.responses.scale[voxels])
    measured, offered = (
        scale.apply(rows_of(values, np.arange(len(values)), test.values, voxels))
        for values in (tested.values, known)
    )
    alike = identification.similarity(measured, offered, 'pearson')
    outcome = Outcome(
        model=model,
        space=REPEAT_AVERAGE if average else SINGLE_TRIAL,
        fold=number,
        table=table.assign(stimulus=names, run=run_labels(table))[['sample', 'stimulus', 'run']],
        candidates=tuple(candidates),
        similarities=alike,
        retrieved=tuple(candidates[k] for k in identification.nearest(alike)),
    )
    repeats = table['n_repeats'].to_numpy() if average else np.ones(len(table))
    rows = np.array([place[name] for name in names])
    predicted = rows_of(known, rows, test.values)
    return FoldResult(outcome, tested.values, predicted, repeats.astype(np.intp))


def informative(cv_r2: Float32Array) -> IndexArray:
    """Return the voxels that identify images: predicted in held-out training samples."""
    r2 = np.nan_to_num(cv_r2, nan=-np.inf)
    order = np.argsort(-r2, kind='stable')
    return np.sort(order[: max(int((r2 > 0).sum()), min(MIN_VOXELS, len(r2)))])


def pick_samples(
    results: Sequence[FoldResult], samples: pd.DataFrame
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
