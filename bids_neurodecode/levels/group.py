"""The group level: scores and maps over participants, agreement between them, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.bids.sink import atomic, write_image, write_json, write_tsv
from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.levels.group_maps import MapFacts, group_map, group_maps
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import is_native, load_image, one_each, sidecar_of
from bids_neurodecode.systems.movie.steps.earlier import AlignedFacts
from bids_neurodecode.systems.steps.records import GROUP_FOLDER, group_page, read_results
from bids_neurodecode.workflow.nodes import Call, Ladder, RunSettings
from bids_neurodecode.workflow.step import step

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

DIFFERENT_GRIDS = (
    'The series of these participants are on {n} different grids; intersubject correlation needs '
    'one space and resolution.'
)
NO_SCORES = (
    'The results in {folder} hold no scores, and there is nothing to compare over participants. '
    'Run the participant level of a system that scores (betas alone are not scored).'
)
NO_COMMON_FILM = 'No film was seen by all participants (they saw: {films}).'


@step('scores', seconds=20, makes=('group_metrics',), always=True, memory=lambda _: 0.4)
def group_scores(call: Call, records: list[Path]) -> Mapping[str, object]:
    """Put the metrics of all participants below each other, and compare models over them.

    Parameters
    ----------
    call
        Folders, notes and id of the call.
    records
        Files of the participants' records.
    """
    from bids_neurodecode.evaluation.metrics import describe_columns, with_types
    from bids_neurodecode.levels.group_scores import compare_over_participants, gather_metrics
    from bids_neurodecode.report.reader import Reader

    readers = [Reader(read_results(file)) for file in records]
    table = gather_metrics(readers)
    table.insert(0, 'participant', table.pop('participant'))
    task = readers[0].results.task
    target = call.output_dir / GROUP_FOLDER / f'task-{task}_metrics.tsv'
    write_tsv(target, with_types(table))
    compared = compare_over_participants(table).drop(columns='participant', errors='ignore')
    comparisons = target.with_name(f'task-{task}_desc-comparison_metrics.tsv')
    write_tsv(comparisons, with_types(compared))
    write_json(comparisons.with_suffix('.json'), describe_columns(set(compared['metric'])))
    return {'group_metrics': target}


@step('agreement', makes=('group_isc',), always=True, memory=lambda _: 3.4)
def group_agreement(call: Call, records: list[Path]) -> Mapping[str, object]:
    """Map the leave-one-participant-out intersubject correlation of films.

    Parameters
    ----------
    call
        Folders, notes and id of the call.
    records
        Files of the participants' records.
    """
    from bids_neurodecode.signals.reliability import leave_one_out_isc

    people = [read_results(file) for file in records]
    series, mask = aligned_series(people, call.output_dir)
    isc = leave_one_out_isc(series)
    first = people[0]
    target = call.output_dir / GROUP_FOLDER / group_map(first, mask.space, 'isc')
    write_image(target, mask.image(isc.mean(axis=0)), name='isc')
    write_json(
        sidecar_of(target),
        {
            'Description': 'Mean over participants of the correlation of each with the mean '
            'of the others',
            'Units': 'Pearson r',
            'Participants': [person.participant for person in people],
        },
    )
    return {'group_isc': target}


@step('report', seconds=25, makes=('page',), always=True, memory=lambda _: 1.4)
def make_group_page(
    call: Call,
    records: list[Path],
    failures: dict[str, str],
    shared_metrics: Path | None = None,
    region_means: Path | None = None,
    map_facts: MapFacts | None = None,
) -> Mapping[str, object]:
    """Make the page of the group.

    ``shared_metrics`` are of a head that participants share, ``region_means`` and ``map_facts``
    of :func:`~bids_neurodecode.levels.group_maps.group_maps`.

    Parameters
    ----------
    call
        Folders, notes and id of the call.
    records
        Files of the participants' records.
    failures
        Why, by participant.
    shared_metrics
        Scores of a shared head; None: none was trained.
    region_means
        Table of means by region; None: there is none.
    map_facts
        What was tested of each map.
    """
    from bids_neurodecode.levels.group_page import write_group_report
    from bids_neurodecode.report.build import link_pages

    people = [read_results(file) for file in records]
    page = call.output_dir / group_page(call.output_dir, people[0].task)
    figures = call.output_dir / GROUP_FOLDER / 'figures'
    with atomic(page) as temporary:
        write_group_report(
            people,
            temporary,
            figures,
            failures=failures,
            shared=shared_metrics,
            regions=region_means,
            tested=None if map_facts is None else map_facts.tested,
        )
    link_pages(call.output_dir)
    return {'page': page}


def init_group_wf(results: Sequence[Path], failures: dict[str, str], run: RunSettings) -> Any:
    """Return the workflow of the group level over the records of the participants.

    Parameters
    ----------
    results
        Files of the participants' records.
    failures
        Why, by participant.
    run
        Settings of the run.
    """
    from nipype.pipeline import engine as pe

    workflow = pe.Workflow(name='bids_neurodecode_group_wf', base_dir=str(run.work_dir))
    ladder, files = Ladder(workflow, run), [str(file) for file in results]
    records = [read_results(file) for file in results]
    # voxels of native spaces are nobody else's: there is nothing to correlate
    shared = not any(is_native(record.space) for record in records)
    agree = shared and len(records) > 1 and all(record.of_films for record in records)
    if any(record.metrics is not None for record in records):
        ladder.add(group_scores, records=files)
    elif not agree:
        raise InputError(NO_SCORES.format(folder=run.output_dir))
    if run.config.encoding.model == 'shared':
        from bids_neurodecode.systems.encoding.steps.group import add_shared_head

        add_shared_head(ladder, records, files)
    ladder.add(group_maps, records=files)
    ladder.add(make_group_page, records=files, failures=failures)
    if agree:
        ladder.add(group_agreement, records=files)
    if run.config.movie.target == 'group':
        from bids_neurodecode.levels.pages import make_brain_page
        from bids_neurodecode.systems.movie.steps.group_brain import add_group_brain

        brain = pe.Workflow(name='brain')
        add_group_brain(brain, records, run).add(make_brain_page)
        workflow.add_nodes([brain])
    crashes = run.output_dir / 'logs' / run.run_id
    for name in workflow.list_node_names():
        workflow.get_node(name).config = {'execution': {'crashdump_dir': str(crashes)}}
    return workflow


def aligned_series(
    records: Sequence[ParticipantResults], output_dir: Path
) -> tuple[np.ndarray[Any, Any], VoxelMask]:
    """Read the aligned series of all participants, film by film in one order for all.

    Which volumes belong to which film is read from the sidecars, so that participants may have
    seen the films in different orders. Volumes that are censored in one are left out of all.

    Parameters
    ----------
    records
        Of the participants.
    output_dir
        Of the run.

    Returns
    -------
    numpy.ndarray
        Shape (n_participants, n_volumes, n_voxels), float32.
    VoxelMask
        The voxels that all participants share.

    Raises
    ------
    DataError
        If the grids differ, or there is no film that all have seen.
    """
    masks = [[VoxelMask.load(run.mask) for run in record.runs] for record in records]
    grids: list[VoxelMask] = []
    for mask in (mask for person in masks for mask in person):
        if not any(mask.same_grid(other) for other in grids):
            grids.append(mask)
    if len(grids) > 1:
        raise DataError(DIFFERENT_GRIDS.format(n=len(grids)))
    shared = np.logical_and.reduce([m.mask for person in masks for m in person])
    mask = replace(masks[0][0], mask=shared)
    films = [films_of(record, output_dir, mask) for record in records]
    common = sorted(set.intersection(*(set(person) for person in films)))
    if not common:
        seen = '; '.join(', '.join(sorted(person)) for person in films)
        raise DataError(NO_COMMON_FILM.format(films=seen))
    lengths = {film: min(len(person[film]) for person in films) for film in common}
    series = np.stack(
        [np.concatenate([person[film][: lengths[film]] for film in common]) for person in films]
    )
    complete = np.isfinite(series).all(axis=(0, 2))
    return series[:, complete], mask


def films_of(
    record: ParticipantResults, output_dir: Path, mask: VoxelMask
) -> dict[str, np.ndarray[Any, Any]]:
    """Read a participant's aligned series, one array per film: of its first presentation.

    Parameters
    ----------
    record
        Of a participant.
    output_dir
        Of the run.
    mask
        Voxels of the analysis.
    """
    films: dict[str, np.ndarray[Any, Any]] = {}
    for file in _aligned_files(record, output_dir):
        volumes = mask.extract(np.asanyarray(load_image(file).dataobj, np.float32))
        start = 0
        for shown in AlignedFacts.read(file).films:
            stop = start + shown.n_volumes
            films.setdefault(shown.film, volumes[start:stop])
            start = stop
    return films


def _aligned_files(record: ParticipantResults, output_dir: Path) -> list[Path]:
    place = f'space-{record.space}_*' if record.space else ''
    pattern = f'sub-{record.participant}_*task-{record.task}_*{place}desc-aligned_bold.*'
    found = one_each((output_dir / f'sub-{record.participant}').rglob(pattern))
    if record.space is None:
        found = [file for file in found if '_space-' not in file.name]
    return found
