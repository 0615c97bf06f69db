"""The part of the graph for films."""

from __future__ import annotations

from typing import Any

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.workflow.atlases import connect_atlas
from bids_neurodecode.workflow.film_interfaces import (
    AlignFilms,
    EncodeFilms,
    FilmFeatures,
    PlanFilms,
)
from bids_neurodecode.workflow.film_network import connect_network
from bids_neurodecode.workflow.film_outputs import WriteFilms
from bids_neurodecode.workflow.interfaces import Quality
from bids_neurodecode.workflow.nodes import RunSettings, node, settings_of
from bids_neurodecode.workflow.resources import DataSize


def connect_films(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add the nodes of the film paradigm and connect them; return the node of the outputs."""
    record, config = participant.to_json(), run.config
    everything = config.model_dump_json()
    plan = node(
        PlanFilms(participant=record, split=config.split.model_dump_json(), seed=config.seed),
        'plan',
        run,
        size,
    )
    quality = node(Quality(participant=record), 'quality', run, size)
    align = node(
        AlignFilms(participant=record, settings=settings_of(config, 'clean', 'delay')),
        'align',
        run,
        size,
    )
    features = node(
        FilmFeatures(
            participant=record,
            settings=config.features.model_dump_json(),
            cache=str(run.work_dir / 'features'),
        ),
        'features',
        run,
        size,
    )
    encode = node(
        EncodeFilms(
            participant=record,
            settings=everything,
            device=run.device,
            use_gpu=run.device == 'cuda',
        ),
        'encode',
        run,
        size,
        threads=2,
    )
    outputs = node(
        WriteFilms(participant=record, settings=everything, run=run.record()),
        'outputs',
        run,
        size,
    )
    planned = [(name, name) for name in ('trials', 'parts', 'plan')]
    scored = [
        (name, name)
        for name in ('metrics', 'pearsonr', 'significant', 'predictions', 'rows', 'null', 'model')
    ]
    workflow.connect(
        [
            (plan, align, [('trials', 'trials')]),
            (quality, align, [('mask', 'mask')]),
            (plan, features, [('trials', 'trials')]),
            (plan, encode, planned),
            (quality, encode, [('mask', 'mask')]),
            (align, encode, [('responses', 'responses')]),
            (features, encode, [('features', 'features')]),
            (plan, outputs, [('trials', 'trials'), ('plan', 'plan')]),
            (quality, outputs, [(name, name) for name in ('mask', 'mean_bold', 'tsnr')]),
            (align, outputs, [('aligned', 'aligned'), ('showings', 'showings')]),
            (encode, outputs, [*scored, ('info', 'encode_info')]),
        ]
    )
    connect_atlas(workflow, participant, run, size, quality=quality, use=encode, outputs=outputs)
    nodes = {
        'plan': plan,
        'quality': quality,
        'align': align,
        'features': features,
        'encode': encode,
        'outputs': outputs,
    }
    connect_network(workflow, participant, run, size, nodes)
    return outputs
