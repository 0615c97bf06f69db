"""What participants of one call share: voxels by agreement, and the ceiling of predictions.

Each participant's graph has a node that compares them with the others. It reads the others'
series itself (through one sum over participants that is built once), so that no graph waits for
another one, on whatever batch system, and a participant that cannot be read is left out and
named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.agreement import Compared, alone, compare, mean_of_others
from bids_neurodecode.systems.movie.steps.earlier import earlier_sources
from bids_neurodecode.systems.movie.steps.group_outputs import CompareFacts
from bids_neurodecode.systems.movie.steps.totals import (
    FromInputs,
    Source,
    Total,
    first_showings,
    get_total,
)
from bids_neurodecode.systems.movie.targets import single_ceiling, snr_of_films
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.workflow.files import read_record, save_map
from bids_neurodecode.workflow.nodes import RunSettings
from bids_neurodecode.workflow.step import Inputs, step

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


COMPARED = ('within', 'isc', 'ceiling', 'ceiling_by_fold')
"""Maps that comparing participants makes, for one of them as for their mean."""


@dataclass(frozen=True, kw_only=True)
class Viewer(Inputs):
    """A participant who is compared with the others who saw the same films.

    Parameters
    ----------
    participant, config, plan
        Who is compared, the settings, and the samples of the films.
    mask, responses
        Voxels, and responses on the clock of the films, (n_samples, n_voxels).
    everyone
        File with the records of all participants of the call; empty: there is one.
    sums
        Folder of sums over participants.
    folder
        Where everything is written.
    """

    participant: ParticipantInput
    config: Config
    plan: Plan
    mask: VoxelMask
    responses: npt.NDArray[np.float32]
    everyone: str
    sums: str
    folder: Path

    def total(
        self, output_dir: Path | None = None, earlier: str = ''
    ) -> tuple[Total | None, tuple[str, ...]]:
        """Return the sum over who is compared, None if there is nobody else, and what to say.

        Parameters
        ----------
        output_dir
            Whose earlier results are compared with; None: none.
        earlier
            What the earlier results are known by.
        """
        people = read_everyone(Path(self.everyone))
        sources, key, notes = sources_of(
            self.participant, people, self.config, output_dir, earlier
        )
        if len(sources) < 2:
            return None, notes
        total = get_total(sources, Path(self.sums), key)
        return total, (*notes, *total.notes)

    @contextmanager
    def others(self, total: Total) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Yield the mean of the others, kept on disk meanwhile, and how many they are."""
        file, own, label = self.folder / 'others.npy', self.responses, self.participant.label
        others = np.lib.format.open_memmap(file, 'w+', np.float32, own.shape)
        rows, columns = places(total, self.plan.table, self.mask)
        inside = label in total.labels
        n_others = len(total.labels) - inside
        mean_of_others(own, total.values, rows, columns, n_others, others, own_in_total=inside)
        yield others, n_others
        file.unlink()


@step(
    'compare',
    seconds=2,
    makes=COMPARED,
    records={'compare_info': CompareFacts},
    settings=('clean', 'selection', 'seed'),
    memory=lambda size: 4 * size.run_gb + size.series_gb,
)
def compare_participants(
    viewer: Viewer,
    output_dir: str,
    earlier: str,
    within: npt.NDArray[np.bool_] | None = None,
) -> Mapping[str, object]:
    """Compare a participant with the others: choose voxels in training, a ceiling in test.

    Parameters
    ----------
    viewer
        Who is compared, and with whom.
    output_dir, earlier
        Where series of earlier calls are looked for (empty: nowhere), and their state.
    within
        Voxels of the regions of an atlas, (n_voxels,).

    Raises
    ------
    DataError
        If voxels are to be chosen by agreement, and there is nobody to agree with.
    """
    config, mask, plan = viewer.config, viewer.mask, viewer.plan
    total, notes = viewer.total(Path(output_dir) if output_dir else None, earlier)
    if total is None:
        measure, label = config.selection.measure, viewer.participant.label
        if measure in {'isc', 'snr'}:
            where = output_dir or 'the output folder'
            raise DataError(NOBODY_ELSE.format(measure=measure, label=label, folder=where))
        found = alone(mask.n_voxels, within, config.selection)
    else:
        snr = None
        if config.selection.measure == 'snr':
            snr = snr_map(total, places(total, plan.table, mask)[1])
        with viewer.others(total) as (others, n_others):
            found = compare(
                viewer.responses,
                others,
                plan.split,
                config.selection,
                n_participants=n_others + 1,
                rng=np.random.default_rng(config.seed),
                within=within,
                snr=snr,
            )
    n = max(found.n_participants, 2)
    return save_compared(found, lambda isc: single_ceiling(isc, n), mask, notes, viewer.folder)


def sources_of(
    own: ParticipantInput,
    everyone: Sequence[ParticipantInput],
    config: Config,
    output_dir: Path | None,
    earlier: str,
) -> tuple[Sequence[Source], str, tuple[str, ...]]:
    """Return who is compared, what their sum depends on, and what is to be said.

    Parameters
    ----------
    own
        The participant.
    everyone
        All participants of the call.
    config
        The settings.
    output_dir
        Whose earlier results are compared with; None: none.
    earlier
        What the earlier results are known by.
    """
    mine = signature(own)
    alike = [person for person in everyone if signature(person) == mine]
    sources: list[Source] = [FromInputs(person, config.clean) for person in alike]
    key = '\n'.join([config.clean.model_dump_json(), *(p.fingerprint for p in alike)])
    others = [person.label for person in alike if person.label != own.label]
    if others or output_dir is None:
        notes = (OTHERS.format(n=len(others), labels=_named(others)),) if others else ()
        return sources, key, notes
    called = {person.label for person in everyone}
    found = [x for x in earlier_sources(own, output_dir, config) if x.label not in called]
    if not found:
        return sources, key, ()
    note = FROM_EARLIER.format(labels=_named([source.label for source in found]))
    return [*sources, *found], f'{key}\n{earlier}', (note,)


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
    return {
        'within': found.chosen,
        'isc': save_map(folder / 'isc.nii.gz', mask, found.isc),
        'ceiling': save_map(folder / 'ceiling.nii.gz', mask, ceiling(found.isc)),
        'ceiling_by_fold': save_map(
            folder / 'ceiling_by_fold.nii.gz', mask, ceiling(found.isc_by_fold)
        ),
        'compare_info': CompareFacts(
            measure=found.measure,
            rule=found.rule,
            n_participants=found.n_participants,
            warnings=found.warnings,
            notes=tuple(notes),
            members=tuple(members),
            weights=tuple(found.weights),
        ),
    }


def places(
    total: Total, table: pd.DataFrame, mask: VoxelMask
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the row of a sum for each sample, and its column for each voxel; -1: none.

    Parameters
    ----------
    total
        Sums over participants, film by film.
    table
        One row per sample.
    mask
        Voxels of the analysis.
    """
    rows = total.rows_of(table['stimulus'].astype(str).tolist())
    rows = np.where((rows >= 0) & total.complete[rows], rows, -1)
    first = np.zeros(len(table), dtype=bool)
    first[first_showings(table).index] = True
    numbers = np.full(total.mask.mask.shape, -1, dtype=np.intp)
    numbers[total.mask.mask] = np.arange(total.mask.n_voxels)
    return np.where(first, rows, -1), numbers[mask.mask]


def snr_map(total: Total, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.floating[Any]]:
    """Return the published signal-to-noise ratio of each voxel; NaN where not all have it.

    Parameters
    ----------
    total
        Sums over participants, film by film.
    columns
        Of the sum, one per voxel; -1: none.
    """
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


def viewers_of(people: Sequence[ParticipantInput], run: RunSettings) -> Path | None:
    """Write down who saw films in this call, where there is somebody to compare with.

    Parameters
    ----------
    people
        Who saw films.
    run
        Settings of the run.
    """
    asked = run.config.selection.measure in {'isc', 'snr'}
    return write_everyone(people, run.work_dir) if len(people) > 1 or asked else None


@dataclass(frozen=True)
class Everyone:
    """Records of all participants of a call, each as JSON."""

    participants: tuple[str, ...]


def write_everyone(participants: Sequence[ParticipantInput], work_dir: Path) -> Path:
    """Write the records of all participants of a call under a name that tells their content.

    Parameters
    ----------
    participants
        Of the call.
    work_dir
        Of the run.
    """
    everyone = Everyone(tuple(person.to_json() for person in participants))
    content = json.dumps(vars(everyone))
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    file = work_dir / 'participants' / f'{name}.json'
    if not file.exists():
        write_text(file, content)
    return file


@lru_cache(maxsize=1)
def read_everyone(file: Path) -> tuple[ParticipantInput, ...]:
    """Read what :func:`write_everyone` wrote; once, as its name tells its content."""
    return tuple(map(ParticipantInput.from_json, read_record(Everyone, file).participants))


def _named(labels: Sequence[str]) -> str:
    return ', '.join(f'sub-{label}' for label in labels)
