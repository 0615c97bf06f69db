"""What a run is known by, whatever its file is called and however it is stored.

A checksum of a file changes with its compression, and one of its values with their type (float32
or scaled integers). Here the varying voxels are averaged in 32 groups, and the fingerprint says of
each group and each step from one volume to the next whether the signal rises: 32 bits a step.
Type, gain and offset hardly change these; another run agrees in about half of them. It holds no
image of the brain, and 300 volumes take 2.4 kB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

N_GROUPS = 32
MAX_DISTANCE = 0.2
"""Share of bits in which fingerprints of one run may differ: of real runs, other ones differ in
.43 and more at the best lag, copies with other types, gains or scaling in up to .16."""
MAX_LAG = 12
"""Volumes that may have been cut off the beginning of a copy, beside what its length tells."""
MIN_STEPS = 8
"""Fewer steps in common than this say nothing."""
VOXELS_AT_ONCE = 100_000


def fingerprint(series: npt.NDArray[np.floating[Any]]) -> str:
    """Return the fingerprint of a run.

    Parameters
    ----------
    series
        Shape (n_voxels, n_volumes).

    Returns
    -------
    str
        Eight hexadecimal digits a step; empty where nothing varies.
    """
    n_voxels, n_volumes = series.shape
    chunks = [series[i : i + VOXELS_AT_ONCE] for i in range(0, n_voxels, VOXELS_AT_ONCE)]
    varies = [np.isfinite(x).all(axis=1) & (np.ptp(x, axis=1) > 0) for x in chunks]
    rows = np.flatnonzero(np.concatenate(varies)) if varies else np.empty(0, dtype=np.intp)
    if not rows.size or n_volumes < 2:
        return ''
    means = np.zeros((N_GROUPS, n_volumes))
    for number, group in enumerate(np.array_split(rows, N_GROUPS)):
        if group.size:
            means[number] = series[group].mean(axis=0, dtype=np.float64)
    rises = np.diff(means, axis=1) > 0
    return np.packbits(rises.T, axis=1).tobytes().hex()


def same_run(a: str, b: str) -> bool:
    """Tell whether two fingerprints are of one run, of which some volumes may be missing.

    Parameters
    ----------
    a, b
        Fingerprints, as :func:`fingerprint` makes them.
    """
    first, second = sorted((_bits(a), _bits(b)), key=len)
    n, m = len(first), len(second)
    least = max(MIN_STEPS, n // 2)
    for lag in range(-MAX_LAG, m - n + MAX_LAG + 1):
        low, high = max(0, -lag), min(n, m - lag)
        if high - low < least:
            continue
        different = first[low:high] != second[low + lag : high + lag]
        if different.mean() <= MAX_DISTANCE:
            return True
    return False


def seen_runs(new: Mapping[str, str], trained: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the new runs whose fingerprint is among those of training.

    Parameters
    ----------
    new
        Fingerprints of new runs, by name.
    trained
        Fingerprints of the runs of training.
    """
    known = list(trained)
    return tuple(name for name, mark in new.items() if any(same_run(mark, x) for x in known))


def _bits(mark: str) -> npt.NDArray[np.uint8]:
    packed = np.frombuffer(bytes.fromhex(mark), dtype=np.uint8)
    return np.unpackbits(packed).reshape(-1, N_GROUPS)
