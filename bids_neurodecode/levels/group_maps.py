"""Maps of the group as files: means, how many participants, tests; and means by region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.bids.maps import MAPS, maps_of
from bids_neurodecode.bids.names import product_of
from bids_neurodecode.bids.nouns import told_in_nouns
from bids_neurodecode.bids.sink import write_image, write_json, write_tsv
from bids_neurodecode.report.results import AboveZero
from bids_neurodecode.spaces import EXTENSIONS, Space, like, sidecar_of, space_of
from bids_neurodecode.systems.steps.records import GROUP_FOLDER, read_results
from bids_neurodecode.tables import column_texts
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import step

if TYPE_CHECKING:
    from bids_neurodecode.report.groupmaps import Chosen, Stack
    from bids_neurodecode.report.results import ParticipantResults

ALPHA = 0.05
SEED = 0
"""The same maps from the same results."""
MEAN = 'Mean over the participants who have the column, two or more; 0 elsewhere: {about}'
COUNT = 'How many participants have the column: {about}'
TESTED = (
    'p of the mean over participants above 0, by flips of the signs of whole maps of participants '
    '(one-sided, t), adjusted for the false discovery rate; 1 where not all participants have the '
    'column'
)


@dataclass(frozen=True)
class MapFacts:
    """What is said of the maps of the group."""

    tested: dict[str, AboveZero]
    """By map; those that were not tested are not in it."""


@step(
    'maps',
    makes=('region_means',),
    records={'map_facts': MapFacts},
    always=True,
    memory=lambda _: 2.4,
)
def group_maps(call: Call, records: list[Path]) -> Mapping[str, object]:
    """Write maps over participants where they share a space, and a table by region in any.

    Parameters
    ----------
    call
        Folders, notes and id of the call.
    records
        Files of the participants' records.
    """
    from bids_neurodecode.report.groupmaps import choose_held_out, region_table, stack_maps

    people = [read_results(file) for file in records]
    folder, tested = call.output_dir / GROUP_FOLDER, dict[str, AboveZero]()
    for key in (key for key in maps_of() if MAPS[key].mean != 'no'):
        having = [each for each in people if key in each.maps and each.maps[key].exists()]
        chosen = choose_held_out(having, key)
        stack = stack_maps(chosen.participants, key) if len(having) > 1 else None
        if stack is not None and stack.count.max() > 1:
            found = write_stack(folder, chosen, key, stack)
            tested |= {} if found is None else {key: found}
    made: dict[str, Any] = {'map_facts': MapFacts(tested)}
    table = region_table(people)
    if len(table):
        made['region_means'] = folder / f'task-{people[0].task}_stat-mean_regions.tsv'
        write_tsv(made['region_means'], table)
        forms = {each.form for each in people}
        about = told_in_nouns(
            column_texts('group_regions'), forms.pop() if len(forms) == 1 else None
        )
        write_json(made['region_means'].with_suffix('.json'), about)
    return made


def write_stack(folder: Path, chosen: Chosen, key: str, stack: Stack) -> AboveZero | None:
    """Write mean, count and, where there are enough participants and chance is 0, p.

    Parameters
    ----------
    folder
        Of the group.
    chosen, key, stack
        Whose maps, which, and their values.

    Returns
    -------
    AboveZero or None
        In how many columns the mean is above 0; None where that was not tested.
    """
    from bids_neurodecode.evaluation.signflips import map_above_zero
    from bids_neurodecode.evaluation.statistics import MIN_GROUPS
    from bids_neurodecode.report.groupmaps import OF_CHANCE_0

    told = product_of(MAPS[key].product or key)
    prefix = 'network' if MAPS[key].of == 'network' else ''
    stat, about = told.entities['stat'], str(told.sidecar['Description'])
    people = chosen.participants
    fields: dict[str, Any] = {'Participants': [each.participant for each in people]}
    space, first = space_of(stack.image), people[0]
    if chosen.n_seen:
        fields['Note'] = chosen.note.strip()

    def write(values: Any, stat: str, desc: str, **more: Any) -> None:
        target = folder / group_map(first, space, stat, desc)
        write_image(target, like(stack.image, values), name=f'{stat} {desc}')
        write_json(sidecar_of(target), told_in_nouns({**fields, **more}, first.form))

    units = told.sidecar['Units']
    write(stack.mean(2), stat, f'{prefix}mean', Description=MEAN.format(about=about), Units=units)
    counted = stack.count.astype(np.float32)
    about_count = COUNT.format(about=about)
    write(counted, stat, f'{prefix}count', Description=about_count, Units='participants')
    shared = stack.count == len(people)
    enough = chosen.tested and len(people) >= MIN_GROUPS
    if key not in OF_CHANCE_0 or not enough or not shared.any():
        return None
    test = map_above_zero(stack.values[:, shared], rng=np.random.default_rng(SEED))
    p = np.ones(shared.shape, dtype=np.float32)
    p[shared] = test.p_fdr
    found = AboveZero(
        int(shared.sum()), int((test.p_fdr < ALPHA).sum()), int((test.p_fwer < ALPHA).sum())
    )
    passed = test.t[test.p_fwer < ALPHA]
    write(
        p,
        'pfdr',
        f'{prefix}{stat}',
        Description=f'{TESTED}: {about}',
        Units='probability',
        SignificantColumns=found.n_fdr,
        SignificantColumnsByMaximum=found.n_fwer,
        LeastSignificantTByMaximum=float(passed.min()) if passed.size else None,
    )
    return found


def group_map(first: ParticipantResults, space: Space | None, stat: str, desc: str = '') -> str:
    """Return the name of a map of the group; of surfaces it is the left one's.

    Parameters
    ----------
    first
        One of the participants.
    space
        What the columns are; None for volumes.
    stat, desc
        What the map is.
    """
    place = f'_space-{first.space}' if first.space else ''
    hemisphere, extension = '', '.nii.gz'
    if space is not None:
        hemisphere = '_hemi-L' if space.form == 'gifti' else ''
        extension = EXTENSIONS[space.form]['map']
        place += f'_den-{space.density}' if space.density else ''
    ending = f'_desc-{desc}' if desc else ''
    return f'task-{first.task}{hemisphere}{place}_stat-{stat}{ending}_statmap{extension}'
