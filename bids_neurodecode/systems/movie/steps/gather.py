"""The steps of the group brain: the mean over participants, and how far they agree.

Participants are read one at a time and one run at a time from the aligned series of the output
folder; what is kept is a sum on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Split, VoxelMask
from bids_neurodecode.systems.movie.steps.earlier import FromAligned, with_delay
from bids_neurodecode.systems.movie.steps.group import COMPARED, places, save_compared, snr_map
from bids_neurodecode.systems.movie.steps.group_outputs import CompareFacts
from bids_neurodecode.systems.movie.steps.totals import Scale, Source, Total, get_total, volumes_of
from bids_neurodecode.systems.steps.plan import Plan, PlanFacts, plan_of_films
from bids_neurodecode.systems.steps.records import read_results
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray
from bids_neurodecode.workflow.files import load_map, save_map
from bids_neurodecode.workflow.step import step

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

OF_MEAN = 'The responses are the mean of {n} participants: {labels}'
STANDARDISED = 'Each participant was z-scored voxel by voxel by training volumes before the mean'
OWN_UNITS = 'The mean was taken in the units of the participants'


@step(
    'gather',
    seconds=10,
    makes=(
        *('trials', 'parts', 'mask', 'mean_bold', 'tsnr'),
        *('responses', 'aligned', 'valid'),
    ),
    many=('aligned',),
    records={'plan': PlanFacts},
    settings=('split', 'movie', 'delay', 'features'),
    memory=lambda size: 4 * size.run_gb + size.series_gb,
)
def gather_group(
    participant: ParticipantInput,
    config: Config,
    people: dict[str, list[str]],
    records: list[Path],
    sums: str,
    folder: Path,
) -> Mapping[str, object]:
    """Average the aligned series of the participants, and plan what is held out.

    Parameters
    ----------
    participant, config
        The group brain, and how its films are split.
    people
        Files of the aligned series of each participant, by label.
    records
        Of the results of the participants.
    sums
        Folder of sums over participants.
    folder
        Where everything is written.
    """
    everyone, table = people_of(people), brain_table(participant)
    plan = plan_of_films(table, participant, config)
    files = plan.save(folder)
    # as every other step has it: read back from the tables
    plan = Plan.load(files['plan'])
    scaled = scaling(everyone, plan.split, config)
    total = open_total(everyone, participant, Path(sums), scaled)
    return {
        **files,
        **_maps([read_results(file) for file in records], total, folder),
        **_series(total, table, everyone[0], folder),
    }


def _maps(records: Sequence[ParticipantResults], total: Total, folder: Path) -> dict[str, Path]:
    """Save the shared mask, and the means over participants of their maps."""
    total.mask.save(folder / 'mask.nii.gz')
    found = {'mask': folder / 'mask.nii.gz'}
    files = {
        'mean_bold': [record.mean_bold for record in records],
        'tsnr': [record.maps.get('tsnr') for record in records],
    }
    for name, each in files.items():
        maps = [load_map(file, total.mask) for file in each if file is not None]
        values = np.mean(maps, axis=0) if maps else np.zeros(total.mask.n_voxels)
        found[name] = save_map(folder / f'{name}.nii.gz', total.mask, values)
    return found


def _series(
    total: Total, table: pd.DataFrame, person: FromAligned, folder: Path
) -> dict[str, Any]:
    """Save the mean over participants, film by film, with and without the delay."""
    facts = person.facts[0]
    clock = (facts.repetition_time, facts.delay)
    rows, _ = places(total, table, total.mask)
    responses = np.lib.format.open_memmap(
        folder / 'responses.npy', 'w+', np.float32, (len(table), total.mask.n_voxels)
    )
    aligned = []
    for number, (_, mine) in enumerate(table.groupby('film', sort=False)):
        mean = np.full((len(mine), total.mask.n_voxels), np.nan, dtype=np.float32)
        there = rows[mine.index] >= 0
        mean[there] = total.values[rows[mine.index][there]] / len(total.labels)
        aligned.append(folder / f'aligned-{number:03d}.npy')
        np.save(aligned[-1], mean)
        responses[mine.index] = with_delay(mean, *clock)
    responses.flush()
    return {
        'responses': folder / 'responses.npy',
        'aligned': aligned,
        'valid': np.ones(len(table), dtype=bool),
    }


@step(
    'compare',
    seconds=2,
    makes=COMPARED,
    records={'compare_info': CompareFacts},
    settings=('selection', 'movie', 'delay', 'seed'),
    memory=lambda size: 4 * size.run_gb + size.series_gb,
)
def compare_group(
    participant: ParticipantInput,
    config: Config,
    people: dict[str, list[str]],
    sums: str,
    plan: Plan,
    mask: VoxelMask,
    folder: Path,
    within: BoolArray | None = None,
) -> Mapping[str, object]:
    """Compare the participants: voxels by training volumes, a ceiling on test volumes.

    Parameters
    ----------
    participant, config, plan
        The group brain, how its voxels are chosen, and what of the films is held out.
    people, sums
        Files of the aligned series by label, and the folder of sums over participants.
    mask
        Voxels that all participants share.
    folder
        Where the maps are written.
    within
        Voxels of the regions of an atlas, (n_voxels,).
    """
    from bids_neurodecode.systems.movie import agreement as movie_agreement
    from bids_neurodecode.systems.movie.targets import mean_ceiling

    everyone, place = people_of(people), Path(sums)
    moments = scaling(everyone, plan.split, config)
    table, measure = plan.table, config.selection.measure
    total = open_total(everyone, participant, place, moments)
    n = len(total.labels)
    snr, half = None, None
    if measure == 'snr':
        plain = open_total(everyone, participant, place, None)
        snr = snr_map(plain, np.arange(total.mask.n_voxels))
    elif config.selection.rule == 'fdr' and measure != 'none':
        part = open_total(everyone[::2], participant, place, moments)
        where = places(part, table, total.mask)
        half = movie_agreement.Half(part.values, *where, len(part.labels))
    rows, _ = places(total, table, total.mask)
    change = scale_by(moments)
    found = movie_agreement.compare_group(
        total.values,
        rows,
        lambda: _scaled_films(everyone, total, table, change),
        plan.split,
        config.selection,
        n_participants=n,
        delay=everyone[0].facts[0].delay,
        rng=np.random.default_rng(config.seed),
        within=within,
        snr=snr,
        half=half,
    )
    labels = ', '.join(f'sub-{label}' for label in total.labels)
    notes = [
        OF_MEAN.format(n=n, labels=labels),
        OWN_UNITS if moments is None else STANDARDISED,
        *total.notes,
    ]
    return save_compared(
        found, lambda isc: mean_ceiling(isc, n), mask, notes, folder, members=total.labels
    )


def _scaled_films(
    people: Sequence[FromAligned],
    total: Total,
    table: pd.DataFrame,
    scale: Scale | None,
) -> Iterator[tuple[IndexArray, Float32Array]]:
    """Yield the samples and series of each film of each participant, as they were added up."""
    place = {name: row for row, name in enumerate(table['stimulus'].astype(str))}
    for person in people:
        if person.label not in total.labels:
            continue
        inside = total.mask.mask[person.mask.mask]
        change = None if scale is None else scale(person, inside)
        for stimuli, series in person.showings():
            values = series[:, inside]
            rows = np.array([place[name] for name in stimuli], dtype=np.intp)
            yield rows, values if change is None else change(values)


def brain_table(participant: ParticipantInput) -> pd.DataFrame:
    """Return the table of samples of the group brain: one row per volume of a film."""
    parts = [
        volumes_of(film, number, run.n_volumes, run.repetition_time, run.label)
        for number, (run, film) in enumerate(
            zip(participant.runs, participant.stimuli, strict=True)
        )
    ]
    return pd.concat(parts, ignore_index=True)


def scaling(people: Sequence[FromAligned], split: Split, config: Config) -> list[str] | None:
    """Return the moments by which participants are standardised; None: not at all.

    Only with one fold: with several, each would need a mean of its own.

    Parameters
    ----------
    people
        Participants with aligned series.
    split
        Of the samples.
    config
        The settings.
    """
    from bids_neurodecode.systems.movie.agreement import clear_of_test

    if not config.movie.standardize or len(split) > 1:
        return None
    delay = people[0].facts[0].delay
    rows = clear_of_test(split.table, split.folds[0], delay)
    return split.table['stimulus'].iloc[rows].astype(str).tolist()


def scale_by(stimuli: Sequence[str] | None) -> Scale | None:
    """Return what z-scores a participant by these moments."""
    if stimuli is None:
        return None
    chosen = frozenset(stimuli)
    known: dict[str, Any] = {}

    def scale(source: Source, within: BoolArray) -> Callable[[Float32Array], Float32Array]:
        from bids_neurodecode.systems.movie.running import RunningScale

        if source.label not in known:
            known[source.label] = RunningScale(source.mask.n_voxels)
            for names, series in source.showings():
                known[source.label].add(series[[name in chosen for name in names]])
        return cast('Callable[[Float32Array], Float32Array]', known[source.label].of(within).apply)

    return scale


def open_total(
    people: Sequence[FromAligned],
    participant: ParticipantInput,
    folder: Path,
    scaled: Sequence[str] | None,
) -> Total:
    """Open the sum over these participants on the clock of the aligned series.

    Parameters
    ----------
    people
        Participants with aligned series.
    participant
        Whose data.
    folder
        Of the sums.
    scaled
        Moments that participants are standardised by; None: not at all.
    """
    key = [participant.fingerprint, *(person.label for person in people), json.dumps(scaled)]
    return get_total(people, folder, '\n'.join(key), scale=scale_by(scaled))


def files_of(people: Sequence[FromAligned]) -> dict[str, list[str]]:
    """Return the files of each participant, by label."""
    return {person.label: [str(file) for file in person.files] for person in people}


def people_of(files: Mapping[str, Sequence[str]]) -> list[FromAligned]:
    """Return the participants whose files :func:`files_of` gave."""
    return [
        FromAligned(label, tuple(Path(file) for file in each), delayed=False)
        for label, each in files.items()
    ]
