"""The part of the graph for films."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.workflow.atlases import connect_atlas
from bids_neurodecode.workflow.film_earlier import aligned_files, state_of
from bids_neurodecode.workflow.film_group import CompareParticipants
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
from bids_neurodecode.workflow.own_features import with_own_features
from bids_neurodecode.workflow.resources import DataSize

SCORED = (
    *('metrics', 'pearsonr', 'by_fold', 'significant', 'p_values'),
    *('predictions', 'rows', 'null', 'model'),
)


def connect_films(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add the nodes of the film paradigm and connect them; return the node of the outputs."""
    run = replace(run, config=with_motion(with_own_features(run.config, participant)))
    record, config = participant.to_json(), run.config
    plan = node(
        PlanFilms(
            participant=record,
            split=config.split.model_dump_json(),
            features=config.features.model_dump_json(),
            seed=config.seed,
        ),
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
    workflow.connect([(plan, align, [('trials', 'trials')])])
    workflow.connect([(quality, align, [('mask', 'mask')])])
    nodes = {'plan': plan, 'quality': quality, 'align': align}
    add_linear(workflow, participant, run, size, nodes)
    compare = _compare_node(participant, run, size)
    if compare is not None:
        nodes['compare'] = compare
        _feed_compare(workflow, nodes)
    connect_atlas(
        workflow,
        participant,
        run,
        size,
        quality=quality,
        use=nodes.get('compare', nodes['encode']),
        outputs=nodes['outputs'],
    )
    if config.movie.target == 'participant':
        connect_network(workflow, participant, run, size, nodes)
    return nodes['outputs']


def add_linear(
    workflow: Any,
    participant: ParticipantInput,
    run: RunSettings,
    size: DataSize,
    nodes: dict[str, Any],
) -> None:
    """Add features, the linear model and the outputs, and connect them.

    Parameters
    ----------
    nodes
        ``plan``, ``quality`` and ``align``, which may be one node; ``features``, ``encode`` and
        ``outputs`` are added.
    """
    record, config = participant.to_json(), run.config
    features = node(
        FilmFeatures(
            participant=record,
            settings=config.features.model_dump_json(),
            motion='energy' if config.movie.motion == 'energy' else 'changes',
            cache=str(run.work_dir / 'features'),
        ),
        'features',
        run,
        size,
    )
    encode = node(
        EncodeFilms(
            participant=record,
            settings=settings_of(config, 'delay', 'features', 'ridge', 'evaluation', 'seed'),
            device=run.device,
            use_gpu=run.device == 'cuda',
        ),
        'encode',
        run,
        size,
        threads=2,
    )
    outputs = node(
        WriteFilms(participant=record, settings=config.model_dump_json(), run=run.record()),
        'outputs',
        run,
        size,
    )
    nodes |= {'features': features, 'encode': encode, 'outputs': outputs}
    _connect_linear(workflow, nodes)


def _connect_linear(workflow: Any, nodes: Mapping[str, Any]) -> None:
    """Connect the linear model with what it needs, and with the outputs."""
    plan, quality, align = (nodes[name] for name in ('plan', 'quality', 'align'))
    features, encode, outputs = (nodes[name] for name in ('features', 'encode', 'outputs'))
    workflow.connect(
        [
            (plan, features, [('trials', 'trials')]),
            (plan, encode, [(name, name) for name in ('trials', 'parts', 'plan')]),
            (quality, encode, [('mask', 'mask')]),
            (align, encode, [('responses', 'responses')]),
            (features, encode, [('features', 'features')]),
            (plan, outputs, [('trials', 'trials'), ('plan', 'plan')]),
            (quality, outputs, [(name, name) for name in ('mask', 'mean_bold', 'tsnr')]),
            (align, outputs, [('aligned', 'aligned'), ('showings', 'showings')]),
            (encode, outputs, [*((name, name) for name in SCORED), ('info', 'encode_info')]),
        ]
    )


def _compare_node(participant: ParticipantInput, run: RunSettings, size: DataSize) -> Any:
    """Return the node that compares a participant with the others; None where it has no use."""
    if run.everyone is None:
        return None
    config = run.config
    earlier: dict[str, Any] = {}
    if config.movie.target == 'group':
        # the group brain has its own voxels; here there is the ceiling alone
        config = without_selection(config)
    elif config.selection.measure in {'isc', 'snr'}:
        space = participant.runs[0].space
        files = aligned_files(run.output_dir, participant.task, space)
        files.pop(participant.label, None)
        earlier = {'output_dir': str(run.output_dir), 'earlier': state_of(files)}
    interface = CompareParticipants(
        participant=participant.to_json(),
        everyone=str(run.everyone),
        settings=settings_of(config, 'clean', 'selection', 'seed'),
        folder=str(run.work_dir / 'sums'),
        **earlier,
    )
    return node(interface, 'compare', run, size)


def with_motion(config: Config) -> Config:
    """Return the settings with what ``auto`` motion is here, where banded ridge is fitted."""
    from bids_neurodecode.stimuli.motion import has_motion_energy

    motion = config.movie.motion
    if motion == 'auto':
        motion = 'energy' if has_motion_energy() else 'changes'
    if not config.movie.with_banded:
        motion = 'changes'
    return config.model_copy(update={'movie': config.movie.model_copy(update={'motion': motion})})


def without_selection(config: Config) -> Config:
    """Return the settings with all voxels of the mask, or of the regions."""
    selection = config.selection.model_copy(update={'measure': 'none'})
    return config.model_copy(update={'selection': selection})


def _feed_compare(workflow: Any, nodes: Mapping[str, Any]) -> None:
    compare = nodes['compare']
    workflow.connect(
        [
            (nodes['plan'], compare, [(name, name) for name in ('trials', 'parts', 'plan')]),
            (nodes['quality'], compare, [('mask', 'mask')]),
            (nodes['align'], compare, [('responses', 'responses')]),
        ]
    )
    use_compared(workflow, nodes)


def use_compared(workflow: Any, nodes: Mapping[str, Any]) -> None:
    """Let the linear model and the outputs use what comparing participants gave."""
    compare = nodes['compare']
    workflow.connect(
        [
            (compare, nodes['encode'], [('within', 'within')]),
            (
                compare,
                nodes['outputs'],
                [
                    ('info', 'compare_info'),
                    *((name, name) for name in ('isc', 'ceiling', 'ceiling_by_fold')),
                ],
            ),
        ]
    )
