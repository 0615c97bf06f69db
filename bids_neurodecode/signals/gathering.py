"""Precomputed betas put together: session by session, trial by trial or one row a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import Float32Array

BLOCKS_MISS = (
    'The sessions hold {n} trials and the table of trials {rows}; they must be one to one.'
)
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
        ``single``: a row a trial. ``mean``: a row a stimulus, in order of first appearance, the
        mean over its trials, as Brain-Diffuser (Ozcelik & VanRullen 2023, Sci Rep 13:15666) does.
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
        # one by one: a picture may be shown twice in a session
        for row, beta in zip(rows, scaled, strict=True):
            out[codes[row]] += beta / np.float32(counts[codes[row]])
            seen[row] += 1
    if out is None or (seen != 1).any():
        raise DataError(BLOCKS_MISS.format(n=int(seen.sum()), rows=len(codes)))
    return out
