"""Predicted responses under their names: betas as 4-D images, BOLD runs through the HRF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.tables import column_texts
from bids_neurodecode.workflow.files import save_map

if TYPE_CHECKING:
    from bids_neurodecode.bids.records import RunInput

NO_SHAPES = (
    'No BOLD runs were predicted: the response shape of each voxel is not known of precomputed '
    'betas.'
)
HELD_OUT = (
    'Predicted response about the baseline of each voxel: the responses to the '
    'trials in TrialOnsets, added up with the response shape of each voxel. Every trial was '
    'predicted by a model that did not see it; other events of the run, drift and noise are not '
    'in it'
)
NEW = (
    'Predicted response about the baseline of each voxel: the responses to the '
    'images in TrialOnsets, added up with the response shape of each voxel. Other events of '
    'the run, drift and noise are not in it'
)


@dataclass(frozen=True)
class PredictedRun:
    """One run to be written: its name and its volumes."""

    entities: dict[str, str]
    sources: tuple[str, ...]
    n_volumes: int
    start_time: float = 0.0

    @classmethod
    def of(cls, run: RunInput) -> PredictedRun:
        """Return a measured run."""
        return cls(dict(run.entities), run.sources, run.n_volumes, run.start_time)


@dataclass(frozen=True, kw_only=True)
class RunWriter:
    """Turns predicted betas into series, and writes them.

    Parameters
    ----------
    writer
        Of the participant's products.
    mask
        Voxels of the model.
    index
        Number of each voxel's response in the library, (n_voxels,).
    repetition_time, beta_repetition_time, stimulus_duration
        Seconds, as :func:`~bids_neurodecode.systems.encoding.synthesis.predict_run` takes them.
    model, description, units
        Of the sidecars.
    """

    writer: ProductWriter
    mask: VoxelMask
    index: npt.NDArray[np.integer[Any]]
    repetition_time: float
    beta_repetition_time: float | None
    stimulus_duration: float
    model: str
    description: str
    units: str

    def write(
        self, run: PredictedRun, values: npt.NDArray[np.float32], trials: pd.DataFrame
    ) -> Path:
        """Write the predicted series of one run.

        Parameters
        ----------
        run
            Its name and volumes.
        values
            Predicted betas of the trials, (n_trials, n_voxels).
        trials
            Their ``onset`` (s) and ``stim_file``.
        """
        from bids_neurodecode.systems.encoding.synthesis import predict_run

        series = predict_run(
            values,
            trials['onset'].to_numpy(dtype=float),
            self.index,
            n_volumes=run.n_volumes,
            repetition_time=self.repetition_time,
            stimulus_duration=self.stimulus_duration,
            start_time=run.start_time,
            beta_repetition_time=self.beta_repetition_time,
        )
        return self.writer.for_run(run.entities, run.sources).series(
            'predicted',
            self.mask.image(series),
            self.repetition_time,
            Description=self.description,
            StartTime=run.start_time or None,
            Units=self.units,
            Model=self.model,
            TrialOnsets=[float(x) for x in trials['onset']],
            TrialStimuli=[str(x) for x in trials['stim_file']],
        )


def write_betas(
    writer: ProductWriter,
    mask: VoxelMask,
    values: npt.NDArray[np.float32],
    table: pd.DataFrame,
    model: str,
    description: str,
    units: str,
) -> tuple[Path, Path]:
    """Write predicted betas, (n_rows, n_voxels), and the table of their volumes.

    Parameters
    ----------
    writer
        Of the participant's products.
    mask
        Voxels of the analysis.
    values
        Shape (n_rows, n_voxels).
    table
        One row per volume.
    model
        Name of the model.
    description
        Of the values, for the sidecar.
    units
        Of the responses.
    """
    image = writer.path('predicted_betas')
    save_map(image, mask, values)
    writer.describe('predicted_betas', {}, Description=description, Units=units, Model=model)
    known = [name for name in column_texts('predicted_trials') if name in table.columns]
    return image, writer.table('predicted_events', table[known], columns='predicted_trials')
