"""How large the data of a participant are, read from headers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.fetched import state_of
from bids_neurodecode.mapped import BLOCK_BYTES
from bids_neurodecode.models.large import COVARIANCES, LARGE, is_large

GB = 1024.0**3
HELD_GB = 1.0
"""Series of all runs of a participant up to which they are held in memory."""
THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
"""Variables by which libraries know how many threads they may use."""
GIFTI_TIMES = 2.0
"""What is held of betas while they are written as GIFTI."""
INTERPRETER_GB = 0.6
"""A worker with the scientific libraries loaded and no data."""


def threads_here() -> int:
    """Return how many threads the node that runs here was counted with."""
    return int(os.environ.get(THREADS[0], '1'))


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
    n_trials
        Rows of the tables of events, which trials are some of; 0 where there are none.
    chosen
        Share of the columns that decoders read, as far as the settings say; else a third.
    is_gifti
        Whether columns are written as GIFTI: all rows of a hemisphere at once.
    networks_gb
        Files of the pretrained networks that are read; of films what the network holds.
    """

    n_voxels: int
    n_volumes: tuple[int, ...]
    n_stimuli: int
    filled: float = 1 / 3
    n_trials: int = 0
    chosen: float = 1 / 3
    is_gifti: bool = False
    networks_gb: float = 0.0

    @property
    def run_gb(self) -> float:
        """Memory of the longest run as float32."""
        return 4 * self.n_voxels * max(self.n_volumes) / GB

    @property
    def series_gb(self) -> float:
        """Memory of all runs as float32, masked."""
        return 4 * self.n_voxels * sum(self.n_volumes) / GB * self.filled

    @property
    def betas_gb(self) -> float:
        """Memory of a response to each trial as float32, masked; of the series without trials."""
        if not self.n_trials:
            return self.series_gb
        return 4 * self.n_voxels * self.n_trials / GB * self.filled

    @property
    def null_gb(self) -> float:
        """Memory of a thousand maps as float32, which permutations make."""
        return 4 * 1000 * self.n_voxels * self.filled / GB

    @property
    def block_gb(self) -> float:
        """Memory of the columns (4,096 at most) that are worked on together, float64."""
        columns = min(self.n_voxels * self.filled, 4096)
        return min(8 * self.n_trials * columns, BLOCK_BYTES) / GB

    @property
    def similarities_gb(self) -> float:
        """Memory of similarities of all trials to the images of a fold, one in five, float64."""
        return 8 * self.n_trials * self.n_stimuli / 5 / GB

    @property
    def factor_gb(self) -> float:
        """Memory of factorising what a decoder inverts, a square of trials or chosen columns.

        That is seven squares of trials, or more of columns where these are fewer; where both are
        many, one (and seven in folds with too few trials for that).
        """
        return self.factor_of(self.n_trials)

    def factor_of(self, n_rows: int) -> float:
        """Return the same of a number of rows: trials, or means over these."""
        n_columns = self.n_chosen
        if is_large(n_rows, n_columns, 1):
            return max(7 * 8 * LARGE**2, 8 * n_rows**2 + 4 * BLOCK_BYTES) / GB
        if n_rows < n_columns:
            return 7 * 8 * n_rows**2 / GB
        return COVARIANCES * 8 * n_columns**2 / GB

    @property
    def n_chosen(self) -> int:
        """Columns that decoders read."""
        return round(self.n_voxels * self.filled * self.chosen)

    def patterns_gb(self, n: int, times: int) -> float:
        """Memory of n patterns over the columns that decoders read, float32.

        Parameters
        ----------
        n
            How many there are.
        times
            How often each is held.
        """
        return 4 * n * times * self.n_chosen / GB

    @property
    def written_gb(self) -> float:
        """Memory of what is held of betas while they are written: little but of GIFTI."""
        return GIFTI_TIMES * self.betas_gb if self.is_gifti else 0.0

    @property
    def predicted_gb(self) -> float:
        """Memory of responses to all stimuli as float32."""
        return 4 * self.n_stimuli * self.n_voxels * self.filled / GB


def count_trials(participant: ParticipantInput) -> int:
    """Count the rows of the tables of events: trials, and rests among them."""
    if participant.betas_events is not None:
        files = [participant.betas_events]
    elif participant.has_series:
        files = [run.events for run in participant.runs]
    else:
        return sum(run.n_volumes for run in participant.runs)  # of betas
    states = [state_of(file) for file in files]
    if not all(states):
        return 0
    return sum(map(_count_rows, files, states))


@lru_cache(maxsize=1 << 16)
def _count_rows(file: Path, _state: tuple[tuple[int, ...], ...]) -> int:
    """Count the rows of a table once, and again when it changes; the first one names columns."""
    return max(file.read_bytes().count(b'\n') - 1, 0)


def chosen_share(settings: SelectionSettings) -> float:
    """Return the share of the columns that decoders read; a third where data will tell."""
    if settings.measure == 'none':
        return 1.0
    return settings.fraction if settings.rule == 'top' else 1 / 3


def data_size(
    participant: ParticipantInput, selection: SelectionSettings | None = None
) -> DataSize:
    """Read the size of a participant's data from the headers.

    Parameters
    ----------
    participant
        Whose data.
    selection
        Which columns decoders read; the defaults if left out.
    """
    if not participant.runs:
        return DataSize(0, (0,), len(participant.stimuli))
    is_gifti = False
    if not participant.has_series:
        # only voxels of the mask are ever held: as many as a third of such a grid
        inside = np.asarray(nib.load(participant.runs[0].mask).dataobj) > 0
        shape: Sequence[int] = (3 * int(inside.sum()),)
        filled = 1 / 3
    else:
        grid = read_header(participant.runs[0].bold).grid
        shape, filled = grid.shape, 1 / 3 if grid.space is None else 1.0
        is_gifti = grid.space is not None and grid.space.form == 'gifti'
    return DataSize(
        n_voxels=int(np.prod(shape[:3])),
        n_volumes=tuple(run.n_volumes for run in participant.runs),
        n_stimuli=len(participant.stimuli),
        filled=filled,
        n_trials=count_trials(participant),
        chosen=chosen_share(selection or SelectionSettings()),
        is_gifti=is_gifti,
    )
