"""The nodes of the group brain: the mean over participants, and how far they agree.

Participants are read one at a time and one run at a time from the aligned series of the output
folder; what is kept is a sum on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    OutputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.samples import Split, VoxelMask
from bids_neurodecode.workflow.files import (
    load_map,
    read_json,
    read_split,
    read_table,
    save_json,
    save_map,
)
from bids_neurodecode.workflow.film_earlier import FromAligned, with_delay
from bids_neurodecode.workflow.film_group import CompareOutput, places, save_compared, snr_map
from bids_neurodecode.workflow.film_interfaces import plan_films
from bids_neurodecode.workflow.film_totals import Scale, Source, Total, get_total
from bids_neurodecode.workflow.reports import read_results
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.systems.movie_agreement import Compared

Float32Array = npt.NDArray[np.float32]
OF_MEAN = 'The responses are the mean of {n} participants: {labels}'
STANDARDISED = 'Each participant was z-scored voxel by voxel by training volumes before the mean'
OWN_UNITS = 'The mean was taken in the units of the participants'


class GatherInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the group brain, as JSON')
    people = traits.Str(mandatory=True, desc='participants and their files, as JSON')
    results = traits.List(File(exists=True), mandatory=True, desc='records of the participants')
    settings = traits.Str(mandatory=True, desc='settings of split and models, as JSON')
    folder = Directory(mandatory=True, desc='where sums over participants are kept')


class GatherOutput(TraitedSpec):
    trials = File(exists=True, desc='one row a volume of a film')
    parts = File(exists=True, desc='the part of each sample in each fold')
    plan = File(exists=True, desc='the split in words')
    mask = File(exists=True, desc='voxels that all participants share')
    mean_bold = File(exists=True)
    tsnr = File(exists=True, desc='mean over participants')
    responses = File(exists=True, desc='.npy, samples x voxels on the clock of the films')
    aligned = OutputMultiPath(File(exists=True), desc='.npy a film, the delay taken out')
    showings = File(exists=True, desc='run, film and length of each of them')
    valid = File(exists=True, desc='.npy, which samples aligned holds')
    scaled = File(exists=True, desc='by which volumes participants were standardised')


class GatherGroup(Stage):
    """Average the aligned series of the participants, and plan what is held out."""

    input_spec = GatherInput
    output_spec = GatherOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        participant = ParticipantInput.from_json(inputs.participant)
        people = people_of(inputs.people)
        table = brain_table(participant)
        plan = plan_films(table, participant, config.split, config.features, folder)
        split = read_split(plan['parts'], plan['plan'], table)
        scaled = scaling(people, split, config)
        total = open_total(people, participant, Path(inputs.folder), scaled)
        return {
            **plan,
            'scaled': save_json(folder / 'scaled.json', {'stimuli': scaled}),
            **self._maps(total, folder),
            **_series(total, table, people[0], folder),
        }

    def _maps(self, total: Total, folder: Path) -> dict[str, Path]:
        """Save the shared mask, and the means over participants of their maps."""
        records = [read_results(Path(file)) for file in self.inputs.results]
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
    facts = person.facts(person.files[0])
    clock = (float(facts['RepetitionTime']), float(facts['Delay']))
    rows, _ = places(total, table, total.mask)
    responses = np.lib.format.open_memmap(
        folder / 'responses.npy', 'w+', np.float32, (len(table), total.mask.n_voxels)
    )
    aligned, showings = [], []
    for number, (film, mine) in enumerate(table.groupby('film', sort=False)):
        mean = np.full((len(mine), total.mask.n_voxels), np.nan, dtype=np.float32)
        there = rows[mine.index] >= 0
        mean[there] = total.values[rows[mine.index][there]] / len(total.labels)
        aligned.append(folder / f'aligned-{number:03d}.npy')
        np.save(aligned[-1], mean)
        responses[mine.index] = with_delay(mean, *clock)
        showings.append(
            {'run': number, 'film': str(film), 'n_samples': len(mine), 'film_onset': 0.0}
        )
    responses.flush()
    np.save(folder / 'valid.npy', np.ones(len(table), dtype=bool))
    return {
        'responses': folder / 'responses.npy',
        'aligned': aligned,
        'showings': save_json(folder / 'showings.json', {'showings': showings}),
        'valid': folder / 'valid.npy',
    }


class CompareGroupInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the group brain, as JSON')
    people = traits.Str(mandatory=True, desc='participants and their files, as JSON')
    settings = traits.Str(mandatory=True, desc='settings of the selection, as JSON')
    folder = Directory(mandatory=True, desc='where sums over participants are kept')
    scaled = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    within = File(exists=True, desc='.npy, voxels of the regions of the atlas')


class CompareGroup(Stage):
    """Agreement of the participants: voxels by training volumes, a ceiling on test volumes."""

    input_spec = CompareGroupInput
    output_spec = CompareOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.systems.movie_targets import mean_ceiling

        inputs = self.inputs
        people = people_of(inputs.people)
        mask = VoxelMask.load(Path(inputs.mask))
        scaled = read_json(Path(inputs.scaled))['stimuli']
        participant = ParticipantInput.from_json(inputs.participant)
        total = open_total(people, participant, Path(inputs.folder), scaled)
        found = self._compare(people, participant, total, scaled)
        labels = ', '.join(f'sub-{label}' for label in total.labels)
        notes = [
            OF_MEAN.format(n=len(total.labels), labels=labels),
            OWN_UNITS if scaled is None else STANDARDISED,
            *total.notes,
        ]
        n = len(total.labels)
        return save_compared(
            found,
            lambda isc: mean_ceiling(isc, n),
            mask,
            notes,
            folder,
            members=total.labels,
        )

    def _compare(
        self,
        people: Sequence[FromAligned],
        participant: ParticipantInput,
        total: Total,
        scaled: Sequence[str] | None,
    ) -> Compared:
        from bids_neurodecode.systems.movie_agreement import Half, compare_group

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        table = read_table(Path(inputs.trials))
        folder = Path(inputs.folder)
        snr, half = None, None
        if config.selection.measure == 'snr':
            plain = open_total(people, participant, folder, None)
            snr = snr_map(plain, np.arange(total.mask.n_voxels))
        elif config.selection.rule == 'fdr' and config.selection.measure != 'none':
            part = open_total(people[::2], participant, folder, scaled)
            half = Half(part.values, *places(part, table, total.mask), len(part.labels))
        rows, _ = places(total, table, total.mask)
        change = scale_by(scaled)
        facts = people[0].facts(people[0].files[0])
        return compare_group(
            total.values,
            rows,
            lambda: _scaled_films(people, total, table, change),
            read_split(Path(inputs.parts), Path(inputs.plan), table),
            config.selection,
            n_participants=len(total.labels),
            delay=float(facts['Delay']),
            rng=np.random.default_rng(config.seed),
            within=np.load(inputs.within) if isdefined(inputs.within) else None,
            snr=snr,
            half=half,
        )


def _scaled_films(
    people: Sequence[FromAligned],
    total: Total,
    table: pd.DataFrame,
    scale: Scale | None,
) -> Iterator[tuple[npt.NDArray[np.intp], Float32Array]]:
    """Yield the samples and series of each film of each participant, as they were added up."""
    place = {name: row for row, name in enumerate(table['stimulus'].astype(str))}
    for person in people:
        if person.label not in total.labels:
            continue
        inside = total.mask.mask[person.mask().mask]
        change = None if scale is None else scale(person, inside)
        for stimuli, series in person.showings():
            values = series[:, inside]
            rows = np.array([place[name] for name in stimuli], dtype=np.intp)
            yield rows, values if change is None else change(values)


def brain_table(participant: ParticipantInput) -> pd.DataFrame:
    """Return the table of samples of the group brain: one row a volume of a film."""
    import pandas as pd

    parts = []
    for number, (run, film) in enumerate(zip(participant.runs, participant.stimuli, strict=True)):
        onset = (np.arange(run.n_volumes) * run.repetition_time).round(6)
        names = [f'{film}#{i:05d}' for i in range(run.n_volumes)]
        facts = {'film': film, 'onset': onset, 'run': number, 'run_label': run.label}
        facts |= {'session': '1', 'showing': number, 'run_onset': onset}
        parts.append(pd.DataFrame({'stimulus': names, **facts}))
    return pd.concat(parts, ignore_index=True)


def scaling(people: Sequence[FromAligned], split: Split, config: Config) -> list[str] | None:
    """Return the moments by which participants are standardised; None: not at all.

    Only with one fold: with several, each would need a mean of its own.
    """
    from bids_neurodecode.systems.movie_agreement import clear_of_test

    if not config.movie.standardize or len(split) > 1:
        return None
    delay = float(people[0].facts(people[0].files[0])['Delay'])
    rows = clear_of_test(split.table, split.folds[0], delay)
    return split.table['stimulus'].iloc[rows].astype(str).tolist()


def scale_by(stimuli: Sequence[str] | None) -> Scale | None:
    """Return what z-scores a participant by these moments."""
    if stimuli is None:
        return None
    chosen = frozenset(stimuli)
    known: dict[str, Any] = {}

    def scale(
        source: Source, within: npt.NDArray[np.bool_]
    ) -> Callable[[Float32Array], Float32Array]:
        from bids_neurodecode.systems.movie_running import RunningScale

        if source.label not in known:
            known[source.label] = RunningScale(source.mask().n_voxels)
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
    """Open the sum over these participants on the clock of the aligned series."""
    key = [participant.fingerprint, *(person.label for person in people), json.dumps(scaled)]
    return get_total(people, folder, '\n'.join(key), scale=scale_by(scaled))


def people_json(people: Sequence[FromAligned]) -> str:
    """Write participants and their files as JSON."""
    return json.dumps({person.label: [str(file) for file in person.files] for person in people})


def people_of(text: str) -> list[FromAligned]:
    """Read what :func:`people_json` wrote."""
    return [
        FromAligned(label, tuple(Path(file) for file in files), delayed=False)
        for label, files in json.loads(text).items()
    ]


__all__ = ['CompareGroup', 'GatherGroup', 'brain_table', 'people_json', 'people_of']
