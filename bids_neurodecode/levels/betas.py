"""Betas alone: single-trial betas, their reliability and their report, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import (
    Measured,
    Publisher,
    beta_results,
    publish_trials,
)
from bids_neurodecode.systems.steps.responses import (
    add_atlas,
    add_betas,
    publish_reliable,
    reliability,
    reliable_voxels,
)
from bids_neurodecode.workflow.nodes import Call, Ladder
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.step import ALL, step

SYSTEM = 'betas'
TUNED_ON_ALL = (
    'Noise components and fractions of ridge were chosen with repeats of all trials. A model that '
    'is judged on held-out trials of these betas had these in the tuning: set betas.model = "B", '
    'or leave out --level betas, which tunes within the training trials of each fold.'
)


def add_betas_level(ladder: Ladder) -> None:
    """Add the steps of the betas."""
    add_betas(ladder, hold_out=False)
    ladder.add(reliability)
    add_atlas(ladder)
    ladder.add(reliable_voxels)
    ladder.add(publish_betas)


def memory_of_outputs(size: DataSize) -> float:
    """Return GB: volumes are written some at a time, columns of surfaces and CIFTI all at once."""
    return 1 + 2 * (size.run_gb if size.filled < 1 else size.betas_gb)


@step('outputs', makes=('results',), settings=ALL, always=True, memory=memory_of_outputs)
def publish_betas(
    participant: ParticipantInput,
    config: Config,
    call: Call,
    plan: Plan,
    mask: VoxelMask,
    mean_bold: Path,
    tsnr: Path,
    betas: npt.NDArray[np.float32],
    beta_maps: list[Path],
    beta_info: Mapping[str, Any],
    reliability_maps: list[Path],
    folder: Path,
    atlas_labels: Path | None = None,
    atlas_table: Path | None = None,
    parcels: list[Path] | None = None,
    selected: Path | None = None,
    selection_info: Mapping[str, Any] | None = None,
) -> Mapping[str, object]:
    """Write the betas, their maps and events, and the record for the report.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    call
        Folders, notes and id of the call.
    plan
        Trials or samples, and what of them is held out.
    mask
        Voxels of the analysis.
    mean_bold
        Map of the mean series.
    tsnr
        Map of the temporal signal-to-noise ratio.
    betas
        Shape (n_trials, n_voxels), percent signal change.
    beta_maps
        Maps that came of making betas.
    beta_info
        How betas were made.
    reliability_maps
        Maps over repeats; none without.
    folder
        That is written into.
    atlas_labels
        Parcellation on the grid of the data.
    atlas_table
        Names of its parcels.
    parcels
        Tables of parcel means, one per run.
    selected
        Map of the chosen voxels.
    selection_info
        How voxels were chosen; None: they were not.
    """
    from bids_neurodecode.report import results as r

    publisher = Publisher.of(participant, call, config)
    maps = [*beta_maps, *reliability_maps]
    measured = Measured(mask, betas, tsnr, beta_info, maps, atlas_labels, atlas_table, parcels)
    warnings = [TUNED_ON_ALL] if beta_info['n_components'] else []
    written = measured.publish(publisher, folder)
    voxels = None
    if selected is not None and selection_info is not None:
        written['reliable'] = publish_reliable(publisher.writer, selected, selection_info)
        n_reliable = VoxelMask.load(selected).n_voxels
        voxels = r.VoxelResults(mask.n_voxels, n_reliable, selection_info['rule'])
        warnings += selection_info['warnings']
    record = publisher.record(
        SYSTEM,
        n_trials=plan.table['run'].value_counts().to_dict(),
        warnings=(*warnings, *beta_info['warnings']),
        betas=beta_results(beta_info),
        trials=publish_trials(publisher.writer, plan.table, participant.paradigm),
        voxels=voxels,
        maps=written,
        mean_bold=publisher.writer.image('meanbold', mean_bold),
        stimuli_dir=participant.stimuli_dir,
    )
    return publisher.finish(record)
