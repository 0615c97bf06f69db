"""How well responses to films agree: over presentations, and with other participants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.steps.group import others_of, read_everyone, sources_of
from bids_neurodecode.systems.movie.steps.totals import get_total
from bids_neurodecode.systems.steps.plan import Plan
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
def shared_responses(
    participant: ParticipantInput,
    config: Config,
    plan: Plan,
    mask: VoxelMask,
    responses: npt.NDArray[np.float32],
    everyone: str,
    sums: str,
    folder: Path,
) -> Mapping[str, object]:
    """Correlate presentations of a film with one another, and a participant with the others.

    Parameters
    ----------
    participant, config, plan
        Who is compared, how series are cleaned, and the samples of the films.
    mask, responses
        Voxels, and responses on the clock of the films, (n_samples, n_voxels).
    everyone
        File with the records of all participants of the call; empty: there is one.
    sums
        Folder of sums over participants.
    folder
        Where the maps are written.
    """
    from bids_neurodecode.systems.movie.agreement import agreement_of_repeats
    from bids_neurodecode.systems.movie.parts import showings_of
    from bids_neurodecode.systems.movie.targets import agreement

    maps: list[Path] = []
    notes: tuple[str, ...] = ()
    repeats = agreement_of_repeats(responses, plan.table)
    if repeats is not None:
        maps.append(save_map(folder / 'repeatr.nii.gz', mask, repeats))
    if everyone:
        people = read_everyone(Path(everyone))
        sources, key, notes = sources_of(participant, people, config, None, '')
        if len(sources) > 1:
            total = get_total(sources, Path(sums), key)
            notes = (*notes, *total.notes)
            label, table = participant.label, plan.table
            with others_of(total, label, table, mask, responses, folder) as (others, _):
                isc = agreement(responses, others, showings_of(table), what='aligned').r
            maps.append(save_map(folder / 'isc.nii.gz', mask, isc))
    return {'agreement_maps': maps, 'shared_info': SharedFacts(notes)}
