"""Predict mode: a trained decoder on new BOLD of the same person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.report.results import VoxelResults
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.systems.applying import apply_decoder as decode
from bids_neurodecode.systems.applying import merge_stimuli
from bids_neurodecode.systems.reconstruction.generation.steps.choice import find_weights
from bids_neurodecode.systems.reconstruction.generation.steps.model import (
    generation_model_of,
    generator_of,
)
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import write_made
from bids_neurodecode.systems.reconstruction.generation.steps.prediction import (
    RETRIEVAL_ONLY,
    apply_generation,
)
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import (
    RULE,
    Applied,
    publish_samples,
    publish_trials,
    publishing,
)
from bids_neurodecode.systems.steps.records import ModelFacts
from bids_neurodecode.systems.steps.responses import add_picture_features, add_responses
from bids_neurodecode.systems.steps.seen import (
    compare_runs,
    in_sample,
    known_runs,
    model_columns,
    pictures_note,
)
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.step import step

DESC = 'applied'


def add_prediction(ladder: Ladder, model: Path) -> None:
    """Add the steps that apply a decoder, and the model that makes images beside it.

    Parameters
    ----------
    ladder
        That steps are added to.
    model
        File of the trained model.
    """
    run = ladder.run
    makes = generation_model_of(model)
    if makes is None:
        note = RETRIEVAL_ONLY.format(file=model.name)
        ladder.run = run = replace(run, notes=(*run.notes, note))
    add_responses(ladder, add_picture_features, hold_out=False)
    ladder.add(apply_decoder, model=str(model))
    if makes is not None:
        from bids_neurodecode.models.weights import default_weights_dir

        place = run.weights_dir or default_weights_dir()
        weights = find_weights(place, generator_of(makes))
        ladder.add(apply_generation, apart=True, generation_model=str(makes), weights=weights)
    ladder.add(publish_predictions, model=str(model))


@step(
    'apply',
    makes=('metrics', 'predictions', 'null'),
    records={'applied_info': ModelFacts},
    settings=('evaluation', 'seed'),
)
def apply_decoder(
    participant: ParticipantInput,
    config: Config,
    plan: Plan,
    mask: VoxelMask,
    betas: Float32Array,
    features: Float32Array,
    run_marks: Mapping[str, Any],
    model: str,
    folder: Path,
) -> Mapping[str, object]:
    """Decode new betas.

    Parameters
    ----------
    participant, config, plan
        Whose responses, scored how, to what.
    mask, betas, features
        Voxels; betas, (n_trials, n_voxels); features of the images, (n_stimuli, n_features).
    run_marks
        What the runs are known by: scores of runs that trained the model are in-sample.
    model
        File of the decoder.
    folder
        Where descriptions of the metrics are written.
    """
    from bids_neurodecode.evaluation.metrics import describe, scores_table
    from bids_neurodecode.models.storage import load_arrays
    from bids_neurodecode.systems.base import PerStimulus
    from bids_neurodecode.systems.linear import LinearDecoder

    arrays, description = load_arrays(Path(model))
    columns = model_columns(VoxelMask.from_state(arrays), mask, model)
    library = PerStimulus(tuple(description['library']), arrays.pop('library_features'))
    decoder = LinearDecoder.from_state(arrays, library.stimuli, description['measure'])
    runs = known_runs(run_marks, participant, betas, plan.table)
    seen = compare_runs(runs, description, model)
    known = pictures_note(participant, arrays, library.stimuli, model)
    result = decode(
        decoder,
        Samples(Responses(betas, mask), plan.table).voxels(columns),
        merge_stimuli(library, PerStimulus(participant.stimuli, features)),
        config.evaluation,
        np.random.default_rng(config.seed),
    )
    scores = in_sample(result.scores) if seen.leaks else result.scores
    write_json(folder / 'metrics.json', describe(scores))
    facts = ModelFacts(
        voxels=VoxelResults(mask.n_voxels, int(columns.sum()), RULE),
        observed=scores[0].value if scores and not seen.leaks else None,
        leaks=seen.leaks,
        warnings=(*seen.warnings, *known, *result.notes),
    )
    return {
        'metrics': scores_table(scores),
        'predictions': result.samples,
        'null': result.null,
        'applied_info': facts,
    }


@publishing(lambda size: size.series_gb)
def publish_predictions(
    trained: Applied,
    plan: Plan,
    metrics: Path,
    predictions: pd.DataFrame,
    null: Path,
    applied_info: ModelFacts,
    generated: Path | None = None,
) -> Mapping[str, object]:
    """Write what a trained decoder said of new data, and the record for the report.

    Parameters
    ----------
    trained
        Which model, applied to whose data.
    plan
        Trials or samples, and what of them is held out.
    metrics
        The metrics table (TSV).
    predictions
        One row per held-out sample.
    null
        Scores of permutations (TSV).
    applied_info
        What was applied to what.
    generated
        File of what was made in two stages; None: nothing was.
    """
    trials = plan.table
    writer = ProductWriter.for_participant(trained.participant, trained.call.output_dir)
    publisher = trained.publisher(writer)
    return trained.finish(
        publisher,
        'reconstruction',
        leaks=applied_info.leaks,
        voxels=applied_info.voxels,
        n_trials=trials['run'].value_counts().to_dict(),
        notes=(f'a trained model was applied: {Path(trained.model).name}',),
        warnings=applied_info.warnings,
        trials=publish_trials(writer, trials),
        maps=trained.maps(writer),
        metrics=writer.metrics(metrics, DESC),
        predictions=publish_samples(writer, predictions, trials, DESC),
        null=publisher.null(null, applied_info),
        generation=None if generated is None else write_made(writer, generated, trials),
    )
