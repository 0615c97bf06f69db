"""What participants of one call share: voxels by agreement, and the ceiling of predictions.

Each participant's graph has a node that compares them with the others. It reads the others'
series itself (through one sum over participants that is built once), so that no graph waits for
another one, on whatever batch system, and a participant that cannot be read is left out and
named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.files import (
    read_json,
    read_split,
    read_table,
    save_json,
    save_map,
)
from bids_neurodecode.workflow.film_earlier import earlier_sources
from bids_neurodecode.workflow.film_totals import (
    FromInputs,
    Source,
    Total,
    first_showings,
    get_total,
)
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.systems.movie_agreement import Compared

NOBODY_ELSE = (
    'selection.measure = "{measure}" compares participants who saw the same films on the same '
    'grid, and there is nobody beside sub-{label}, in this call or in {folder}. Name several in '
    'one call, or run each with selection.measure = "none" first and then this again.'
)
FROM_EARLIER = (
    'Other participants were read from the aligned series of earlier calls in the output folder: '
    '{labels}'
)
OTHERS = 'Compared with {n} other participants who saw the same films: {labels}'


class CompareInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    everyone = File(exists=True, mandatory=True, desc='records of all participants of the call')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    output_dir = traits.Str('', usedefault=True, desc='searched for series of earlier calls')
    earlier = traits.Str('', usedefault=True, desc='state of these series')
    folder = Directory(mandatory=True, desc='where sums over participants are kept')
    responses = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    within = File(exists=True, desc='.npy, voxels of the regions of the atlas')


class CompareOutput(TraitedSpec):
    within = File(exists=True, desc='.npy, the voxels that are used, by fold')
    info = File(exists=True, desc='rule, notes, warnings and number of participants')
    isc = File(exists=True, desc='map of the agreement on test volumes')
    ceiling = File(exists=True, desc='map of the correlation that a perfect model would reach')
    ceiling_by_fold = File(exists=True, desc='the same, a map a fold')


class CompareParticipants(Stage):
    """Compare a participant with the others: choose voxels in training, a ceiling in test."""

    input_spec = CompareInput
    output_spec = CompareOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.systems.movie_agreement import alone
        from bids_neurodecode.systems.movie_targets import single_ceiling

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        own = ParticipantInput.from_json(inputs.participant)
        mask = VoxelMask.load(Path(inputs.mask))
        within = np.load(inputs.within) if isdefined(inputs.within) else None
        sources, key, notes = self._sources(own, config)
        if len(sources) < 2:
            if config.selection.measure in {'isc', 'snr'}:
                self._refuse(own, config)
            found = alone(mask.n_voxels, within, config.selection)
        else:
            total = get_total(sources, Path(inputs.folder), key)
            found = self._compare(own, total, config, mask, within, folder)
            notes = (*notes, *total.notes)
        n = max(found.n_participants, 2)
        return save_compared(found, lambda isc: single_ceiling(isc, n), mask, notes, folder)

    def _sources(
        self, own: ParticipantInput, config: Config
    ) -> tuple[Sequence[Source], str, tuple[str, ...]]:
        """Return who is compared, what their sum depends on, and what is to be said."""
        records = read_json(Path(self.inputs.everyone))['participants']
        everyone = [ParticipantInput.from_json(record) for record in records]
        mine = signature(own)
        alike = [person for person in everyone if signature(person) == mine]
        sources: list[Source] = [FromInputs(person, config.clean) for person in alike]
        key = '\n'.join([config.clean.model_dump_json(), *(p.fingerprint for p in alike)])
        others = [person.label for person in alike if person.label != own.label]
        if others or not self.inputs.output_dir:
            notes = (OTHERS.format(n=len(others), labels=_named(others)),) if others else ()
            return sources, key, notes
        earlier = earlier_sources(own, Path(self.inputs.output_dir), config)
        if not earlier:
            return sources, key, ()
        note = FROM_EARLIER.format(labels=_named([source.label for source in earlier]))
        return [*sources, *earlier], f'{key}\n{self.inputs.earlier}', (note,)

    def _refuse(self, own: ParticipantInput, config: Config) -> None:
        raise DataError(
            NOBODY_ELSE.format(
                measure=config.selection.measure,
                label=own.label,
                folder=self.inputs.output_dir or 'the output folder',
            )
        )

    def _compare(
        self,
        own: ParticipantInput,
        total: Total,
        config: Config,
        mask: VoxelMask,
        within: npt.NDArray[np.bool_] | None,
        folder: Path,
    ) -> Compared:
        from bids_neurodecode.systems.movie_agreement import compare, mean_of_others

        inputs = self.inputs
        table = read_table(Path(inputs.trials))
        responses = np.load(inputs.responses, mmap_mode='r')
        others = np.lib.format.open_memmap(
            folder / 'others.npy', 'w+', np.float32, responses.shape
        )
        rows, columns = places(total, table, mask)
        inside = own.label in total.labels
        n_others = len(total.labels) - inside
        mean_of_others(
            responses, total.values, rows, columns, n_others, others, own_in_total=inside
        )
        found = compare(
            responses,
            others,
            read_split(Path(inputs.parts), Path(inputs.plan), table),
            config.selection,
            n_participants=n_others + 1,
            rng=np.random.default_rng(config.seed),
            within=within,
            snr=snr_map(total, columns) if config.selection.measure == 'snr' else None,
        )
        del others
        (folder / 'others.npy').unlink()
        return found


def save_compared(
    found: Compared,
    ceiling: Callable[[npt.ArrayLike], npt.NDArray[np.float64]],
    mask: VoxelMask,
    notes: Sequence[str],
    folder: Path,
    *,
    members: Sequence[str] = (),
) -> dict[str, Any]:
    """Save what came of a comparison; return the outputs of its node.

    Parameters
    ----------
    ceiling
        From agreement to the correlation that a perfect model would reach.
    members
        Participants of a mean.
    """
    np.save(folder / 'within.npy', found.chosen)
    info = {
        'measure': found.measure,
        'rule': found.rule,
        'n_participants': found.n_participants,
        'warnings': list(found.warnings),
        'notes': list(notes),
        'members': list(members),
        'weights': found.weights.tolist(),
    }
    return {
        'within': folder / 'within.npy',
        'isc': save_map(folder / 'isc.nii.gz', mask, found.isc),
        'ceiling': save_map(folder / 'ceiling.nii.gz', mask, ceiling(found.isc)),
        'ceiling_by_fold': save_map(
            folder / 'ceiling_by_fold.nii.gz', mask, ceiling(found.isc_by_fold)
        ),
        'info': save_json(folder / 'info.json', info),
    }


def places(
    total: Total, table: pd.DataFrame, mask: VoxelMask
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the row of a sum for each sample, and its column for each voxel; -1: none."""
    rows = total.rows_of(table['stimulus'].astype(str).tolist())
    rows = np.where((rows >= 0) & total.complete[rows], rows, -1)
    first = np.zeros(len(table), dtype=bool)
    first[first_showings(table).index] = True
    numbers = np.full(total.mask.mask.shape, -1, dtype=np.intp)
    numbers[total.mask.mask] = np.arange(total.mask.n_voxels)
    return np.where(first, rows, -1), numbers[mask.mask]


def snr_map(total: Total, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.floating[Any]]:
    """Return the published signal-to-noise ratio of each voxel; NaN where not all have it."""
    from bids_neurodecode.systems.movie_targets import snr_of_films

    names = total.films
    films = sorted(set(names.tolist()))
    parts = (
        (total.values[(names == film) & total.complete], moments[0], moments[1])
        for film, moments in zip(films, total.moments, strict=True)
    )
    ratio = snr_of_films(parts, len(total.labels))
    return np.where(columns >= 0, ratio[columns], np.nan)


def signature(participant: ParticipantInput) -> str:
    """Return what has to be the same in two participants to compare them volume by volume."""
    where = read_header(participant.runs[0].bold).grid
    grid = [where.affine.round(3).tolist(), str(where) if where.space else '']
    period = round(participant.runs[0].repetition_time, 4)
    return json.dumps([list(where.shape), grid, period, sorted(participant.stimuli)])


def write_everyone(participants: Sequence[ParticipantInput], work_dir: Path) -> Path:
    """Write the records of all participants of a call under a name that tells their content."""
    content = json.dumps({'participants': [person.to_json() for person in participants]})
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    file = work_dir / 'participants' / f'{name}.json'
    if not file.exists():
        write_text(file, content)
    return file


def _named(labels: Sequence[str]) -> str:
    return ', '.join(f'sub-{label}' for label in labels)


__all__ = ['NOBODY_ELSE', 'CompareParticipants', 'signature', 'snr_map', 'write_everyone']
