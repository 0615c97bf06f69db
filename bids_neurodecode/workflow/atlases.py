"""The part of the graph for an atlas, where one was chosen."""

from __future__ import annotations

from typing import Any

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.workflow.film_interfaces import ParcelSeries
from bids_neurodecode.workflow.interfaces import PlaceAtlas
from bids_neurodecode.workflow.nodes import RunSettings, node, settings_of
from bids_neurodecode.workflow.resources import DataSize


def connect_atlas(
    workflow: Any,
    participant: ParticipantInput,
    run: RunSettings,
    size: DataSize,
    *,
    quality: Any,
    use: Any,
    outputs: Any,
) -> None:
    """Place the atlas on the grid, restrict ``use`` to its regions, and write parcel series."""
    config = run.config
    if config.atlas.name is None and config.atlas.file is None:
        return
    settings = config.atlas.model_dump_json()
    space = participant.runs[0].space or ''
    atlas = node(PlaceAtlas(settings=settings, space=space), 'atlas', run, size)
    workflow.connect(
        [
            (quality, atlas, [('mask', 'mask')]),
            (atlas, use, [('within', 'within')]),
            (atlas, outputs, [('labels', 'atlas_labels'), ('table', 'atlas_table')]),
        ]
    )
    if not participant.has_series:
        return  # there are no series to average
    parcels = node(
        ParcelSeries(participant=participant.to_json(), settings=settings_of(config, 'clean')),
        'parcels',
        run,
        size,
    )
    workflow.connect(
        [
            (quality, parcels, [('mask', 'mask')]),
            (atlas, parcels, [('labels', 'labels'), ('table', 'table')]),
            (parcels, outputs, [('series', 'parcels')]),
        ]
    )
