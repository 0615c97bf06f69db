"""Betas of several sessions put together: read one by one, or brought to one level and scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array, IndexArray

BLOCKS_MISS = (
    'The sessions hold {n} trials and the table of trials {rows}; they must be one to one.'
)
UNSEEN_SESSIONS = (
    'Session(s) {sessions} have fewer than two training trials in some fold, which cannot say '
    'their level and scale: their betas are used as they are there (betas.standardize).'
)
VOXELS_AT_ONCE = 4096
Allocate = Callable[[tuple[int, int]], Float32Array]


def gather_betas(
    blocks: Iterable[tuple[npt.NDArray[np.intp], Float32Array]],
    stimuli: Sequence[str],
    *,
    repeats: Literal['single', 'mean'] = 'single',
    standardize: Literal['none', 'session'] = 'none',
    allocate: Allocate,
) -> Float32Array:
    """Put the betas of sessions into one array, holding one session at a time.

    Parameters
    ----------
    blocks
        For each session the row numbers of its trials, (n,), and their betas, (n, n_voxels).
    stimuli
        Stimulus of each trial over all sessions.
    repeats
        ``single``: one row per trial. ``mean``: one row per stimulus, in order of first
        appearance, the mean over its trials, as Brain-Diffuser (Ozcelik & VanRullen
        2023, Sci Rep 13:15666) does.
    standardize
        ``session``: each voxel is z-scored (ddof 0) over the trials of its session, as MindEye
        (arXiv 2305.18274) does. Held-out trials of the session take part in that.
    allocate
        Makes the array, (n_rows, n_voxels), zeros; for arrays on disk.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows, n_voxels), float32.

    Raises
    ------
    DataError
        If sessions and trials are not one to one.
    """
    _, first, codes = np.unique(np.asarray(stimuli), return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.intp)
    place[np.argsort(first)] = np.arange(len(first))
    codes = place[codes] if repeats == 'mean' else np.arange(len(codes))
    counts = np.bincount(codes)
    out: Float32Array | None = None
    seen = np.zeros(len(codes), dtype=np.intp)
    for rows, values in blocks:
        if out is None:
            out = allocate((len(counts), values.shape[1]))
        if standardize == 'session':
            scale = values.std(axis=0)
            scaled = (values - values.mean(axis=0)) / np.where(scale > 0, scale, 1)
        else:
            scaled = values
        # one by one: an image may be shown twice in a session
        for row, beta in zip(rows, scaled, strict=True):
            out[codes[row]] += beta / np.float32(counts[codes[row]])
            seen[row] += 1
    if out is None or (seen != 1).any():
        raise DataError(BLOCKS_MISS.format(n=int(seen.sum()), rows=len(codes)))
    return out


def join_sessions(
    betas: Float32Array,
    sessions: npt.NDArray[Any],
    train: IndexArray,
    *,
    out: Float32Array,
) -> tuple[str, ...]:
    """Bring the sessions to one mean and deviation, a voxel at a time, by training trials.

    Of a session, ``(x - mean) / deviation * D + M``, where ``M`` and ``D`` are the averages of the
    means and deviations (ddof 0) of all sessions. That is z-scoring within sessions but for the
    unit, which stays that of the betas: models that standardise afterwards are the same, and
    betas of a session that was never seen need no change.

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels); may be memory-mapped.
    sessions
        Label of each trial, (n_trials,).
    train
        Row numbers of training trials: all that means and deviations are taken of.
    out
        Where the result goes, of the shape of ``betas``.

    Returns
    -------
    tuple of str
        Labels of the sessions with fewer than two training trials, which are left as they are.
    """
    labels = list(dict.fromkeys(sessions.tolist()))
    learned = {label: train[sessions[train] == label] for label in labels}
    unseen = tuple(str(label) for label in labels if len(learned[label]) < 2)
    for start in range(0, betas.shape[1], VOXELS_AT_ONCE):
        part = slice(start, start + VOXELS_AT_ONCE)
        scales = {
            label: Standardizer.fit(betas[rows, part])
            for label, rows in learned.items()
            if len(rows) > 1
        }
        level = Standardizer(
            np.mean([each.mean for each in scales.values()], axis=0),
            np.mean([each.scale for each in scales.values()], axis=0),
        )
        for label in labels:
            rows = np.flatnonzero(sessions == label)
            values = betas[rows, part]
            if label in scales:
                values = level.invert(scales[label].apply(values))
            out[rows, part] = values
    return unseen
