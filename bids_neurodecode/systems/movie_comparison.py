"""Reconstructed frames against baselines: differences over blocks of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.systems.comparison import compare_with
from bids_neurodecode.systems.movie_frames import MEASURED, blurred
from bids_neurodecode.systems.movie_scores import frame_ssim

BLOCK_SECONDS = 30.0
"""Frames that are nearer in time are not independent."""

Float32Array = npt.NDArray[np.float32]


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
        Rows that :func:`~bids_neurodecode.systems.movie_frames.judge_frames` gave.
    truth, decoded
        Shape (n_frames, height, width, 3), in [0, 1]; ``decoded`` from measured responses.
    mean_frame
        Mean of the training frames, (height, width, 3).
    parts
        A label a frame, in order of time: which held-out part of which presentation it is of.
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


def time_blocks(parts: npt.NDArray[Any], block: int) -> npt.NDArray[np.intp]:
    """Return the block of each sample: at least ``block`` samples, none across two parts.

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


__all__ = ['compare_frames', 'time_blocks']
