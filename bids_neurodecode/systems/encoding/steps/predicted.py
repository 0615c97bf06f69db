"""What predict mode of encoding publishes: predicted betas and BOLD, scores where known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.trials import DURATION_TOLERANCE, shown_rows
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.report.results import EncodingResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import PERCENT
from bids_neurodecode.systems.encoding.steps.outputs import (
    VOXELS,
    desc_of,
    publish_voxels,
    shown_maps,
    write_maps,
    write_predictions,
)
from bids_neurodecode.systems.encoding.steps.runs import (
    NEW,
    NO_SHAPES,
    PredictedRun,
    RunWriter,
    write_betas,
)
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import APPLIED, Applied, Publisher, publishing
from bids_neurodecode.systems.steps.records import BetaFacts, ModelFacts
from bids_neurodecode.workflow.files import read_record

BETAS = (
    'Response amplitudes to new images as a trained model predicts them, one volume a row of '
    'the events table beside it'
)
OTHER_DURATION = (
    'Images are shown for {shown:g} s, and the model was trained with {trained:g} s: predicted '
    'responses are those to {trained:g} s.'
)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the description of a trained encoding model says of what it predicts."""

    model: str
    space: str | None
    """Of the grid."""
    resolution: str | None
    repetition_time: float
    beta_repetition_time: float | None = None
    stimulus_duration: float | None
    units: str = PERCENT


@dataclass(frozen=True, kw_only=True)
class AppliedFacts(ModelFacts):
    """What is said of an encoding model that was applied."""

    trained: Trained
    space: str = 'predicted'
    """Of the maps and scores."""
    maps: tuple[str, ...] = ()


@publishing(lambda size: 0.2 + size.predicted_gb)
def publish_predicted(
    trained: Applied,
    applied: Path,
    plan: Plan | None = None,
    beta_info: BetaFacts | None = None,
) -> Mapping[str, object]:
    """Write what a trained encoding model predicts, and the record for the report.

    Parameters
    ----------
    trained
        Which model, applied to whose data.
    applied
        File of what the model gave.
    plan
        Trials; None without BOLD.
    beta_info
        How betas were made; None without BOLD.
    """
    facts, participant = read_record(AppliedFacts, applied), trained.participant
    desc = desc_of(facts.trained.model)
    writer = ProductWriter(
        trained.call.output_dir,
        {'sub': participant.label, 'task': participant.task},
        facts.trained.space,
        facts.trained.resolution,
        sources=(
            *(source for each in participant.runs for source in each.sources),
            *(source for each in participant.events_only for source in each.sources),
        ),
    ).in_space(VoxelMask.load(applied.with_name(VOXELS)).space)
    publisher = trained.publisher(writer)
    encoding = publish_betas(publisher, applied, facts)
    notes = publish_runs(participant, writer, applied, facts)
    maps = shown_maps(encoding)
    warnings, n_trials = list(facts.warnings), {}
    if beta_info is not None and plan is not None:
        warnings += beta_info.warnings
        n_trials = plan.table['run'].value_counts().to_dict()
    maps |= trained.maps(writer)
    null = metrics = predictions = None
    if facts.observed is not None and plan is not None:
        metrics = writer.metrics(applied.with_name('metrics.tsv'), desc)
        predictions = write_predictions(writer, applied.parent, plan.table, desc)
        if not facts.leaks:
            null = publisher.null(applied.with_name('null.npy'), facts)
    return trained.finish(
        publisher,
        'encoding',
        leaks=facts.leaks,
        voxels=facts.voxels,
        n_trials=n_trials,
        notes=(APPLIED.format(name=Path(trained.model).name),),
        warnings=(*warnings, *notes),
        maps=maps,
        metrics=metrics,
        predictions=predictions,
        null=null,
        encoding=encoding,
    )


def publish_betas(publisher: Publisher, applied: Path, facts: AppliedFacts) -> EncodingResults:
    """Write one predicted volume an image and, where there are some, maps of scores.

    Parameters
    ----------
    publisher
        Of the participant's products.
    applied
        File of what the model gave.
    facts
        What is said of the result.
    """
    source, writer, desc = applied.parent, publisher.writer, desc_of(facts.trained.model)
    stimuli = list(publisher.participant.stimuli)
    table = pd.DataFrame({'onset': np.nan, 'duration': np.nan, 'stim_file': stimuli})
    values = np.load(source / 'predicted.npy', mmap_mode='r')
    mask = VoxelMask.load(source / VOXELS)
    betas, betas_table = write_betas(
        writer, mask, values, table, facts.trained.model, BETAS, facts.trained.units
    )
    examples = null_r = None
    if facts.observed is not None:
        examples = publisher.keep(source / 'examples.tsv', 'examples')
        publisher.keep(source / 'examples.npy', 'examples')
        if not facts.leaks:
            null_r = publisher.keep(source / 'null_r.npy', 'nullr')
    return EncodingResults(
        model=facts.trained.model,
        bands=publisher.config.encoding.bands,
        space=facts.space,
        voxels=publish_voxels(writer, source, desc),
        n_pictures=len(table),
        betas=betas,
        betas_table=betas_table,
        maps=write_maps(writer, source, facts.maps, desc),
        examples=examples,
        null_r=null_r,
    )


def publish_runs(
    participant: ParticipantInput,
    writer: ProductWriter,
    applied: Path,
    facts: AppliedFacts,
) -> tuple[str, ...]:
    """Write the predicted series of each run that shows images; return what to say.

    Parameters
    ----------
    participant
        Whose data.
    writer
        Of the participant's products.
    applied
        File of what the model gave.
    facts
        What is said of the result.
    """
    from bids_neurodecode.systems.encoding.synthesis import run_length

    source = applied.parent
    if not (participant.runs or participant.events_only):
        return ()
    period, duration = facts.trained.repetition_time, facts.trained.stimulus_duration
    if duration is None or not (source / 'hrfindex.npy').exists():
        return (NO_SHAPES,)
    writes = RunWriter(
        writer=writer,
        mask=VoxelMask.load(source / VOXELS),
        index=np.load(source / 'hrfindex.npy'),
        repetition_time=period,
        beta_repetition_time=facts.trained.beta_repetition_time,
        stimulus_duration=duration,
        model=facts.trained.model,
        description=NEW,
        units=facts.trained.units,
    )
    values = np.load(source / 'predicted.npy', mmap_mode='r')
    place = {name: row for row, name in enumerate(participant.stimuli)}
    notes: dict[str, None] = {}
    runs = [(PredictedRun.of(run), run.events) for run in participant.runs]
    for each in participant.events_only:
        trials = shown(each.events)
        n_volumes = run_length(trials['onset'], trials['duration'], period)
        run = PredictedRun(dict(each.entities), each.sources, n_volumes)
        runs.append((run, each.events))
    for run, events in runs:
        trials = shown(events)
        longest = float(trials['duration'].median())
        if abs(longest - duration) > DURATION_TOLERANCE:
            notes[OTHER_DURATION.format(shown=longest, trained=duration)] = None
        rows = [place[name] for name in trials['stim_file']]
        writes.write(run, np.asarray(values[rows]), trials)
    return tuple(notes)


def shown(events: Path) -> pd.DataFrame:
    """Return the rows of an events file that show an image, in order of their onsets."""
    rows = shown_rows(events)
    return rows.assign(stim_file=rows['stim_file'].astype(str))
