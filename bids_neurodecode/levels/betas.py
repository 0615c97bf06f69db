"""Responses alone: single-trial betas or aligned series, their reliability and their report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.steps.outputs import films_of_runs, publish_aligned
from bids_neurodecode.systems.movie.steps.shared import SharedFacts, shared_responses
from bids_neurodecode.systems.movie.steps.training import align_films
from bids_neurodecode.systems.steps.plan import plan_films
from bids_neurodecode.systems.steps.publish import (
    Measured,
    Outputs,
    publish_trials,
    publish_tsnr,
    publishing,
    sentence,
)
from bids_neurodecode.systems.steps.responses import (
    SelectionFacts,
    add_atlas,
    add_betas,
    publish_reliable,
    quality,
    reliability,
    reliable_voxels,
)
from bids_neurodecode.workflow.nodes import Ladder

SYSTEM, SERIES = 'betas', 'responses'
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


def add_film_responses(ladder: Ladder) -> None:
    """Add the steps of cleaned series on the clock of the films, which need no film."""
    run = ladder.run
    ladder.add(plan_films, hold_out=False)
    ladder.add(quality)
    ladder.add(align_films)
    add_atlas(ladder)
    everyone = '' if run.everyone is None else str(run.everyone)
    ladder.add(shared_responses, everyone=everyone, sums=str(run.work_dir / 'sums'))
    ladder.add(publish_film_responses)


@publishing(lambda size: size.series_gb)
def publish_film_responses(
    outputs: Outputs,
    aligned: list[npt.NDArray[np.float32]],
    agreement_maps: list[Path],
    shared_info: SharedFacts,
) -> Mapping[str, object]:
    """Write the aligned series, how well they agree, and the record for the report.

    Parameters
    ----------
    outputs
        Where it is written, and maps of all systems.
    aligned
        Series of each presentation on the clock of its film, (n_volumes, n_voxels).
    agreement_maps, shared_info
        Correlation between presentations and between participants, and who was compared.
    """
    publisher, table = outputs.publisher, outputs.plan.table
    writer, participant = publisher.writer, outputs.participant
    publish_aligned(publisher, outputs.mask, aligned, table)
    maps = publish_tsnr(writer, outputs.tsnr) | outputs.publish_atlas()
    for file in agreement_maps:
        name = file.name.removesuffix('.nii.gz')
        maps[name] = writer.image(name, file)
    return publisher.finish(
        publisher.record(
            SERIES,
            n_trials=films_of_runs(table),
            notes=tuple(map(sentence, shared_info.notes)),
            maps=maps,
            mean_bold=writer.image('meanbold', outputs.mean_bold),
            stimuli_dir=participant.stimuli_dir,
        )
    )


@publishing(lambda size: 0.2 + size.written_gb)
def publish_betas(
    measured: Measured,
    selected: Path | None = None,
    selection_info: SelectionFacts | None = None,
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
    warnings = [TUNED_ON_ALL] if beta_info.results.n_components else []
    written = measured.publish()
    voxels = None
    if selected is not None and selection_info is not None:
        written['reliable'] = publish_reliable(publisher.writer, selected, selection_info)
        n_reliable = VoxelMask.load(selected).n_voxels
        voxels = r.VoxelResults(measured.mask.n_voxels, n_reliable, selection_info.rule)
        warnings += selection_info.warnings
    record = measured.record(
        SYSTEM,
        plan=None,
        warnings=(*warnings, *beta_info.warnings),
        trials=publish_trials(publisher.writer, measured.plan.table, participant.paradigm),
        voxels=voxels,
        maps=written,
        stimuli_dir=participant.stimuli_dir,
    )
    return publisher.finish(record)
