"""Models of films against each other: differences over blocks of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.systems.comparison import compare_with
from bids_neurodecode.systems.movie.frames import MEASURED, blurred
from bids_neurodecode.systems.movie.intervals import MeanTest, mean_test
from bids_neurodecode.systems.movie.parts import (
    SHARED_TRAINING,
    held_out_parts,
    part_labels,
    standardize_within,
)
from bids_neurodecode.systems.movie.scores import frame_ssim
from bids_neurodecode.typing import Float32Array

BLOCK_SECONDS = 30.0
"""Frames that are nearer in time are not independent."""


def compare_frames(
    scores: Sequence[Score],
    truth: Float32Array,
    decoded: Float32Array,
    mean_frame: Float32Array,
    *,
    parts: npt.NDArray[Any],
    repetition_time: float,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> tuple[Score, ...]:
    """Write into the rows of baselines how the network's frames differ from theirs.

    Parameters
    ----------
    scores
        Rows that :func:`~bids_neurodecode.systems.movie.frames.judge_frames` gave.
    truth, decoded
        Shape (n_frames, height, width, 3), in [0, 1]; ``decoded`` from measured responses.
    mean_frame
        Mean of the training frames, (height, width, 3).
    parts
        One label per frame, in order of time: which held-out part of which presentation it is of.
    repetition_time
        Seconds between frames.
    evaluation, rng
        Of the intervals and tests.
    """
    others = {
        'baseline-mean-image': np.broadcast_to(mean_frame, truth.shape).copy(),
        'baseline-blurred-truth': blurred(truth),
    }
    own = frame_ssim(truth, decoded).astype(np.float64)
    blocks = time_blocks(parts, max(1, round(BLOCK_SECONDS / repetition_time)))
    size = truth.shape[1]
    rows = []
    for score in scores:
        row = score
        if row.metric == 'frame_ssim':
            n_units = int(blocks.max()) + 1
            row = dataclasses.replace(
                row, image_size=size, n_units=n_units, units='blocks of 30 s'
            )
        if row.model in others and row.space == MEASURED:
            theirs = frame_ssim(truth, others[row.model]).astype(np.float64)
            other = ('network', MEASURED)
            row = compare_with(row, other, (own, theirs), blocks, evaluation, rng)
        rows.append(row)
    return tuple(rows)


def compare_models(
    samples: Samples,
    split: Split,
    rows: npt.NDArray[np.intp],
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


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bring columns to a mean square of 1; those that do not vary stay 0."""
    scale = np.sqrt((values**2).mean(axis=0))
    return values / np.where(scale > 0, scale, 1.0)


def time_blocks(parts: npt.NDArray[Any], block: int) -> npt.NDArray[np.intp]:
    """Return the block of each sample: at least ``block`` samples, none across two parts.

    Parameters
    ----------
    parts
        Label of each sample, (n_samples,), in order of time.
    block
        Samples of a block, at least.

    Examples
    --------
    >>> time_blocks(np.array(['a', 'a', 'a', 'a', 'a', 'b']), 2).tolist()
    [0, 0, 0, 1, 1, 2]
    """
    numbers = np.empty(len(parts), dtype=np.intp)
    n = 0
    for label in dict.fromkeys(np.asarray(parts).tolist()):
        mine = np.flatnonzero(parts == label)
        for rows in np.array_split(mine, max(1, len(mine) // block)):
            numbers[rows] = n
            n += 1
    return numbers
