"""Models of films against each other: differences over blocks of time."""

from __future__ import annotations

import numpy as np

from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.systems.movie.intervals import BLOCK_SECONDS, MeanTest, mean_test
from bids_neurodecode.systems.movie.parts import (
    SHARED_TRAINING,
    held_out_parts,
    part_labels,
    standardize_within,
)
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray


def compare_models(
    samples: Samples,
    split: Split,
    rows: IndexArray,
    predicted: Float32Array,
    others: Float32Array,
    *,
    repetition_time: float,
    confidence: float,
) -> MeanTest:
    """Compare two models of the same responses: mean r over voxels, theirs less the others'.

    The correlation of a voxel is the mean over held-out volumes of the product of measured and
    predicted response, both standardised; so is its difference between two models. What the
    interval and p are over are blocks of time of that product, averaged over voxels, which share
    their noise.

    Parameters
    ----------
    samples
        Measured responses of all samples.
    split
        Folds over the same table.
    rows
        Rows of the table that were held out and measured, ascending, (n_rows,).
    predicted, others
        What the two models predict of them, (n_rows, n_voxels); NaN in voxels that the fold of a
        row does not use.
    repetition_time
        Seconds between samples.
    confidence
        Of the interval.

    Returns
    -------
    MeanTest
        Of the difference, by :func:`~bids_neurodecode.systems.movie.intervals.mean_test`.
    """
    tests = [np.intersect1d(fold.test, rows) for fold in split]
    at, fold_of, labels = part_labels(held_out_parts(samples.table, tests))
    place = np.searchsorted(rows, at)
    difference = np.empty(len(at))
    for number in range(len(tests)):
        mine = fold_of == number
        both = [np.asarray(values[place[mine]]) for values in (predicted, others)]
        truth = np.asarray(samples.values[at[mine]])
        used = np.isfinite(both).all(axis=(0, 1)) & (np.ptp(truth, axis=0) > 0)
        own, theirs, truth = (
            _unit(standardize_within(x[:, used], labels[mine])) for x in (*both, truth)
        )
        difference[mine] = ((own - theirs) * truth).mean(axis=1)
    return mean_test(
        difference,
        labels,
        block=max(1, round(BLOCK_SECONDS / repetition_time)),
        confidence=confidence,
        spread=SHARED_TRAINING if len(tests) > 1 else 1.0,
    )


def _unit(values: FloatArray) -> FloatArray:
    """Bring columns to a mean square of 1; those that do not vary stay 0."""
    scale = np.sqrt((values**2).mean(axis=0))
    return values / np.where(scale > 0, scale, 1.0)
