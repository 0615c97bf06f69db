"""What each node asks for: memory from the size of the data, threads from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.series import read_header

GB = 1024.0**3
INTERPRETER_GB = 0.6
"""A worker with the scientific libraries loaded and no data."""


@dataclass(frozen=True)
class DataSize:
    """The size of one participant's data, read from headers alone.

    Parameters
    ----------
    n_voxels
        Voxels of the whole grid (the mask is not read here, so this is an upper bound).
    n_volumes
        Volumes of each run.
    n_stimuli
        Distinct stimuli.
    filled
        Share of the grid that is in the mask: a brain fills a third, a surface nearly all.
    """

    n_voxels: int
    n_volumes: tuple[int, ...]
    n_stimuli: int
    filled: float = 1 / 3

    @property
    def run_gb(self) -> float:
        """Memory of the longest run as float32."""
        return 4 * self.n_voxels * max(self.n_volumes) / GB

    @property
    def series_gb(self) -> float:
        """Memory of all runs as float32, masked."""
        return 4 * self.n_voxels * sum(self.n_volumes) / GB * self.filled


def data_size(participant: ParticipantInput) -> DataSize:
    """Read the size of a participant's data from the headers."""
    import nibabel as nib

    if not participant.runs:
        return DataSize(0, (0,), len(participant.stimuli))
    if not participant.has_series:
        # only voxels of the mask are ever held: as many as a third of such a grid
        inside = np.asarray(nib.load(participant.runs[0].mask).dataobj) > 0
        shape: Sequence[int] = (3 * int(inside.sum()),)
        filled = 1 / 3
    else:
        grid = read_header(participant.runs[0].bold).grid
        shape, filled = grid.shape, 1 / 3 if grid.space is None else 1.0
    return DataSize(
        n_voxels=int(np.prod(shape[:3])),
        n_volumes=tuple(run.n_volumes for run in participant.runs),
        n_stimuli=len(participant.stimuli),
        filled=filled,
    )


def memory_of(stage: str, size: DataSize) -> float:
    """Return the memory (GB) that a stage asks for.

    The factors are the measured peaks of ``docs/benchmarks.md``, rounded up.
    """
    asked = {
        'quality': 4 * size.run_gb,
        'betas': 4 * size.series_gb + 2 * size.run_gb,
        'decode': 3 * size.series_gb,
        'conditions': 4 * size.series_gb + 1,
        'encode': 4 * size.series_gb + 1,
        'ridge': 4 * size.series_gb,
        'parcels': 4 * size.run_gb,
        'align': 4 * size.run_gb + size.series_gb,
        'banded': 3 * size.series_gb,
        'compare': 4 * size.run_gb + size.series_gb,
        'gather': 4 * size.run_gb + size.series_gb,
        'network': 3 * size.series_gb + 3,
        'generate': 4 * size.series_gb + 2,
        'outputs': size.series_gb,
    }
    return round(INTERPRETER_GB + asked.get(stage, 0.2), 2)
