"""The part of the graph for single pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.workflow.atlases import connect_atlas
from bids_neurodecode.workflow.generation import connect_generation
from bids_neurodecode.workflow.generation_choice import choose_generator, note_choice
from bids_neurodecode.workflow.interfaces import (
    Decode,
    EstimateBetas,
    ExtractFeatures,
    PlanTrials,
    Quality,
    Reliability,
)
from bids_neurodecode.workflow.nodes import RunSettings, node, settings_of
from bids_neurodecode.workflow.outputs import WritePictures
from bids_neurodecode.workflow.resources import DataSize


def connect_pictures(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add the nodes of the picture paradigm and connect them; return the node of the outputs."""
    record, config = participant.to_json(), run.config
    everything = config.model_dump_json()
    choice = choose_generator(config, run.device, run.weights_dir)
    run = replace(run, notes=(*run.notes, note_choice(choice, participant.label)))
    plan, quality, betas, features = connect_responses(workflow, participant, run, size)
    reliability = node(Reliability(), 'reliability', run, size)
    decode = node(
        Decode(
            participant=record,
            settings=settings_of(
                config, 'betas', 'features', 'selection', 'ridge', 'evaluation', 'seed'
            ),
            device=run.device,
            use_gpu=run.device == 'cuda',
        ),
        'decode',
        run,
        size,
        threads=2,
    )
    outputs = node(
        WritePictures(participant=record, settings=everything, run=run.record()),
        'outputs',
        run,
        size,
    )
    planned = [(name, name) for name in ('trials', 'parts', 'plan')]
    scored = [
        (name, name)
        for name in ('metrics', 'predictions', 'null', 'confusion', 'selected', 'model')
    ]
    workflow.connect(
        [
            (betas, reliability, [('betas', 'betas')]),
            (quality, reliability, [('mask', 'mask')]),
            (plan, reliability, [('trials', 'trials')]),
            (plan, decode, planned),
            (quality, decode, [('mask', 'mask'), ('tsnr_runs', 'tsnr_runs')]),
            (betas, decode, [('betas', 'betas'), ('tuned', 'tuned')]),
            (features, decode, [('features', 'features')]),
            (plan, outputs, [('trials', 'trials'), ('plan', 'plan')]),
            (quality, outputs, [(name, name) for name in ('mask', 'mean_bold', 'tsnr')]),
            (betas, outputs, [('betas', 'betas'), ('maps', 'beta_maps'), ('info', 'beta_info')]),
            (reliability, outputs, [('maps', 'reliability_maps')]),
            (decode, outputs, [*scored, ('info', 'decode_info')]),
        ]
    )
    connect_atlas(workflow, participant, run, size, quality=quality, use=decode, outputs=outputs)
    nodes = {
        'plan': plan,
        'quality': quality,
        'betas': betas,
        'features': features,
        'outputs': outputs,
    }
    connect_generation(workflow, participant, run, size, choice, nodes)
    return outputs


def connect_responses(
    workflow: Any,
    participant: ParticipantInput,
    run: RunSettings,
    size: DataSize,
    *,
    hold_out: bool = True,
) -> tuple[Any, Any, Any, Any]:
    """Add the nodes that training and applying share: plan, quality, betas and features."""
    plan, quality, betas = connect_betas(workflow, participant, run, size, hold_out=hold_out)
    features = node(
        ExtractFeatures(
            participant=participant.to_json(),
            settings=run.config.features.model_dump_json(),
            cache=str(run.work_dir / 'features'),
        ),
        'features',
        run,
        size,
    )
    workflow.add_nodes([features])
    if hold_out and run.config.split.by == 'cluster':
        workflow.connect(features, 'features', plan, 'features')
    return plan, quality, betas, features


def connect_betas(
    workflow: Any,
    participant: ParticipantInput,
    run: RunSettings,
    size: DataSize,
    *,
    hold_out: bool = True,
) -> tuple[Any, Any, Any]:
    """Add the nodes of the responses: plan, quality and betas."""
    record, config = participant.to_json(), run.config
    plan = node(
        PlanTrials(
            participant=record,
            split=config.split.model_dump_json(),
            seed=config.seed,
            hold_out=hold_out,
            repeats=config.betas.repeats,
        ),
        'plan',
        run,
        size,
    )
    quality = node(Quality(participant=record), 'quality', run, size)
    betas = node(
        EstimateBetas(participant=record, settings=settings_of(config, 'betas', 'clean', 'seed')),
        'betas',
        run,
        size,
        threads=2,
    )
    workflow.connect(
        [
            (plan, betas, [(name, name) for name in ('trials', 'parts', 'plan')]),
            (quality, betas, [('mask', 'mask')]),
        ]
    )
    return plan, quality, betas
