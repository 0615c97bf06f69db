"""What predict mode of encoding publishes: predicted betas and BOLD, scores where known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    ResponseShapes,
    write_betas,
    write_run,
)
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import APPLIED, Applied, Publisher, publishing
from bids_neurodecode.workflow.files import read_json

BETAS = (
    'Response amplitudes to new images as a trained model predicts them, one volume a row of '
    'the events table beside it'
)
OTHER_DURATION = (
    'Images are shown for {shown:g} s, and the model was trained with {trained:g} s: predicted '
    'responses are those to {trained:g} s.'
)


@publishing(lambda size: 0.2 + size.predicted_gb)
def publish_predicted(
    trained: Applied,
    applied: Path,
    plan: Plan | None = None,
    beta_info: Mapping[str, Any] | None = None,
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
    info, participant = read_json(applied), trained.participant
    about, desc = info['about'], desc_of(info['about']['model'])
    writer = ProductWriter(
        trained.call.output_dir,
        {'sub': participant.label, 'task': participant.task},
        about['space'],
        about['resolution'],
        sources=(
            *(source for each in participant.runs for source in each.sources),
            *(source for each in participant.events_only for source in each.sources),
        ),
    ).in_space(VoxelMask.load(applied.with_name(VOXELS)).space)
    publisher = trained.publisher(writer)
    encoding = publish_betas(publisher, applied, info)
    notes = publish_runs(participant, writer, applied, info)
    maps = shown_maps(encoding)
    warnings, n_trials = list(info['warnings']), {}
    if beta_info is not None and plan is not None:
        warnings += beta_info['warnings']
        n_trials = plan.table['run'].value_counts().to_dict()
    maps |= trained.maps(writer)
    null = metrics = predictions = None
    if 'observed' in info and plan is not None:
        metrics = writer.metrics(applied.with_name('metrics.tsv'), desc)
        predictions = write_predictions(writer, applied.parent, plan.table, desc)
        if not info['leaks']:
            file = applied.with_name('null.npy')
            null = publisher.null(file, info['observed'], info['null_metric'])
    return trained.finish(
        publisher,
        'encoding',
        info,
        n_trials=n_trials,
        notes=(APPLIED.format(name=Path(trained.model).name),),
        warnings=(*warnings, *notes),
        maps=maps,
        metrics=metrics,
        predictions=predictions,
        null=null,
        encoding=encoding,
    )


def publish_betas(publisher: Publisher, applied: Path, info: Mapping[str, Any]) -> EncodingResults:
    """Write one predicted volume an image and, where there are some, maps of scores.

    Parameters
    ----------
    publisher
        Of the participant's products.
    applied
        File of what the model gave.
    info
        What is said of the result.
    """
    source, model, writer = applied.parent, info['about']['model'], publisher.writer
    desc = desc_of(model)
    stimuli = list(publisher.participant.stimuli)
    table = pd.DataFrame({'onset': np.nan, 'duration': np.nan, 'stim_file': stimuli})
    values = np.load(source / 'predicted.npy', mmap_mode='r')
    units = info['about'].get('units', PERCENT)
    mask = VoxelMask.load(source / VOXELS)
    betas, betas_table = write_betas(writer, mask, values, table, model, BETAS, units)
    examples = null_r = None
    if 'observed' in info:
        examples = publisher.keep(source / 'examples.tsv', 'examples')
        publisher.keep(source / 'examples.npy', 'examples')
        if not info['leaks']:
            null_r = publisher.keep(source / 'null_r.npy', 'nullr')
    return EncodingResults(
        model=model,
        bands=publisher.config.encoding.bands,
        space=info.get('space', 'predicted'),
        voxels=publish_voxels(writer, source, desc),
        n_pictures=len(table),
        betas=betas,
        betas_table=betas_table,
        maps=write_maps(writer, source, info.get('maps', ()), desc),
        examples=examples,
        null_r=null_r,
    )


def publish_runs(
    participant: ParticipantInput,
    writer: ProductWriter,
    applied: Path,
    info: Mapping[str, Any],
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
    info
        What is said of the result.
    """
    from bids_neurodecode.systems.encoding.synthesis import run_length

    source, about = applied.parent, info['about']
    if not (participant.runs or participant.events_only):
        return ()
    if not (source / 'hrfindex.npy').exists():
        return (NO_SHAPES,)
    period, duration = about['repetition_time'], about['stimulus_duration']
    shapes = ResponseShapes(
        np.load(source / 'hrfindex.npy'), period, about['beta_repetition_time'], duration
    )
    mask = VoxelMask.load(source / VOXELS)
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
        write_run(
            writer,
            run,
            mask,
            np.asarray(values[[place[name] for name in trials['stim_file']]]),
            trials,
            shapes,
            model=about['model'],
            description=NEW,
            units=about.get('units', PERCENT),
        )
    return tuple(notes)


def shown(events: Path) -> pd.DataFrame:
    """Return the rows of an events file that show an image, in order of their onsets."""
    rows = shown_rows(events)
    return rows.assign(stim_file=rows['stim_file'].astype(str))
