"""Images from betas: the linear decoder, images made in two stages, and what is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bids_neurodecode.systems.reconstruction.generation.steps.choice import choose_generator
from bids_neurodecode.systems.reconstruction.generation.steps.outputs import (
    GenerationFacts,
    write_generation,
)
from bids_neurodecode.systems.reconstruction.generation.steps.training import add_generation
from bids_neurodecode.systems.reconstruction.steps.decoding import DecoderFacts, decode
from bids_neurodecode.systems.steps.publish import (
    Measured,
    publish_samples,
    publish_trials,
    publishing,
    with_model,
)
from bids_neurodecode.systems.steps.responses import (
    add_atlas,
    add_picture_features,
    add_responses,
    reliability,
)
from bids_neurodecode.workflow.files import read_record
from bids_neurodecode.workflow.nodes import Ladder

DESC = 'linear'


def add_pictures(ladder: Ladder) -> None:
    """Add the steps that train and judge the decoding of images."""
    run = ladder.run
    choice = choose_generator(run.config, run.device, run.weights_dir)
    ladder.run = replace(run, notes=(*run.notes, choice.why))
    add_responses(ladder, add_picture_features)
    ladder.add(reliability)
    add_atlas(ladder)
    ladder.add(decode)
    if choice.name != 'none':
        add_generation(ladder, choice)
    ladder.add(publish_pictures)


@publishing(lambda size: 0.2 + size.written_gb)
def publish_pictures(
    measured: Measured,
    metrics: Path,
    predictions: pd.DataFrame,
    null: Path,
    confusion: Path,
    selected: Path,
    model: Path,
    decode_info: DecoderFacts,
    decoded_regions: pd.DataFrame,
    generated: Path | None = None,
) -> Mapping[str, object]:
    """Write the derivatives of images, and the record for the report.

    Parameters
    ----------
    measured
        What was measured, and where it is written.
    metrics
        The metrics table (TSV).
    predictions
        One row per held-out sample.
    null
        Scores of permutations (TSV).
    confusion
        Counts of true and identified stimuli.
    selected
        Map of the chosen voxels.
    model
        File of the trained model.
    decode_info
        How the decoder was fitted.
    decoded_regions
        What each region of the atlas scores alone.
    generated
        File of what was made in two stages; None: nothing was.
    """
    plan, beta_info = measured.plan, measured.beta_info
    trials, publisher, writer = plan.table, measured.publisher, measured.publisher.writer
    # what predict mode reads says which model of the betas the decoder takes
    config = with_model(measured.config, beta_info.results.model)
    table = writer.metrics(metrics, DESC)
    writer.model(model, config, DESC, model.with_name('model.md'))
    generation = None
    warnings = [*beta_info.warnings, *decode_info.warnings]
    if generated is not None:
        linear = pd.read_csv(metrics, sep='\t', na_values=['n/a'], keep_default_na=False)
        generation, table = write_generation(writer, config, generated, linear, trials)
        said = {*plan.leaks, *warnings}
        facts = read_record(GenerationFacts, generated)
        warnings += [line for line in facts.warnings if line not in said]
    maps = measured.publish()
    maps['reliable'] = publisher.chosen(selected, decode_info.rule_name, decode_info.voxels)
    record = measured.record(
        'reconstruction',
        warnings=warnings,
        voxels=decode_info.voxels,
        trials=publish_trials(writer, trials),
        maps=maps,
        metrics=table,
        predictions=publish_samples(writer, predictions, trials, DESC),
        confusion=publisher.confusion(confusion, decode_info.labels),
        null=publisher.null(null, decode_info),
        generation=generation,
        decoded_regions=writer.table(
            'region_scores', decoded_regions, columns='decoded_regions', more={'desc': DESC}
        )
        if len(decoded_regions)
        else None,
        stimuli_dir=measured.participant.stimuli_dir,
    )
    return publisher.finish(record)
