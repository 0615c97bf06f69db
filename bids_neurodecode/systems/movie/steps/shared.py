"""How well responses to films agree: over presentations, and with other participants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bids_neurodecode.systems.movie.steps.group import Viewer
from bids_neurodecode.workflow.files import save_map
from bids_neurodecode.workflow.step import step


@dataclass(frozen=True)
class SharedFacts:
    """Who was compared."""

    notes: tuple[str, ...]


@step(
    'shared',
    makes=('agreement_maps',),
    many=('agreement_maps',),
    records={'shared_info': SharedFacts},
    settings=('clean',),
    memory=lambda size: 4 * size.run_gb + size.series_gb,
)
def shared_responses(viewer: Viewer) -> Mapping[str, object]:
    """Correlate presentations of a film with one another, and a participant with the others.

    Parameters
    ----------
    viewer
        Whose responses, and with whom they are compared.
    """
    from bids_neurodecode.systems.movie.agreement import agreement_of_repeats
    from bids_neurodecode.systems.movie.parts import showings_of
    from bids_neurodecode.systems.movie.targets import agreement

    responses, table, folder = viewer.responses, viewer.plan.table, viewer.folder
    maps: list[Path] = []
    repeats = agreement_of_repeats(responses, table)
    if repeats is not None:
        maps.append(save_map(folder / 'repeatr.nii.gz', viewer.mask, repeats))
    total, notes = viewer.total() if viewer.everyone else (None, ())
    if total is not None:
        with viewer.others(total) as (others, _):
            isc = agreement(responses, others, showings_of(table), what='aligned').r
        maps.append(save_map(folder / 'isc.nii.gz', viewer.mask, isc))
    return {'agreement_maps': maps, 'shared_info': SharedFacts(notes)}
