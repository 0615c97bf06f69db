"""Betas alone: single-trial betas, their reliability and their report, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.steps.publish import (
    Measured,
    publish_trials,
    publishing,
)
from bids_neurodecode.systems.steps.responses import (
    add_atlas,
    add_betas,
    publish_reliable,
    reliability,
    reliable_voxels,
)
from bids_neurodecode.workflow.nodes import Ladder

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


@publishing(lambda size: 0.2 + size.written_gb)
def publish_betas(
    measured: Measured,
    selected: Path | None = None,
    selection_info: Mapping[str, Any] | None = None,
) -> Mapping[str, object]:
    """Write the betas, their maps and events, and the record for the report.

    Parameters
    ----------
    measured
        What was measured, and where it is written.
    selected
        Map of the chosen voxels.
    selection_info
        How voxels were chosen; None: they were not.
    """
    from bids_neurodecode.report import results as r

    publisher, participant = measured.publisher, measured.participant
    beta_info = measured.beta_info
    warnings = [TUNED_ON_ALL] if beta_info['n_components'] else []
    written = measured.publish()
    voxels = None
    if selected is not None and selection_info is not None:
        written['reliable'] = publish_reliable(publisher.writer, selected, selection_info)
        n_reliable = VoxelMask.load(selected).n_voxels
        voxels = r.VoxelResults(measured.mask.n_voxels, n_reliable, selection_info['rule'])
        warnings += selection_info['warnings']
    record = measured.record(
        SYSTEM,
        plan=None,
        warnings=(*warnings, *beta_info['warnings']),
        trials=publish_trials(publisher.writer, measured.plan.table, participant.paradigm),
        voxels=voxels,
        maps=written,
        stimuli_dir=participant.stimuli_dir,
    )
    return publisher.finish(record)
