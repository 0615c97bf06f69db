"""Parcel series of all runs: the files of the parcellation node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.config import CleanSettings, Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.files import load_map, load_series, read_table


def clean_run(run: RunInput, mask: VoxelMask, settings: CleanSettings) -> npt.NDArray[np.float32]:
    """Load and clean one run: (n_volumes, n_voxels); censored volumes are NaN.

    Parameters
    ----------
    run
        Files and facts of one run.
    mask
        Voxels of the analysis.
    settings
        Of ``clean``.
    """
    from bids_neurodecode.signals.clean import clean_series
    from bids_neurodecode.signals.confounds import load_confounds

    confounds = None
    if settings.strategy or settings.columns:
        confounds = load_confounds(
            run.confounds, run.n_volumes, settings.strategy, settings.columns, run.label
        )
    return clean_series(
        load_series(run, mask),
        run.repetition_time,
        confounds=None if confounds is None else confounds.values,
        high_pass=settings.high_pass,
        scaling=settings.scaling,
        kept=None if confounds is None else confounds.kept,
    )


def parcel_series(
    participant: ParticipantInput,
    config: Config,
    mask: VoxelMask,
    labels: Path,
    table: Path,
    folder: Path,
) -> list[Path]:
    """Write the parcel means of each run as TSV, one column per parcel; return the files.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    mask
        Voxels of the analysis.
    labels
        Parcellation on the grid of the data.
    table
        Of the atlas: ``index`` and ``name``.
    folder
        That is written into.
    """
    import pandas as pd

    from bids_neurodecode.signals.atlas import parcel_means

    names = read_table(table).set_index('index')['name']
    voxel_labels = np.rint(load_map(labels, mask)).astype(int)
    files = []
    for number, run in enumerate(participant.runs):
        means = parcel_means(clean_run(run, mask, config.clean), voxel_labels)
        columns = [str(names[index]) for index in means.ids]
        file = folder / f'parcels-{number:03d}.tsv'
        write_tsv(file, pd.DataFrame(means.values, columns=columns))
        files.append(file)
    return files
