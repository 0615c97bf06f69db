"""The group level: scores and maps over participants, agreement between them, one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from bids_neurodecode.bids.sink import atomic, write_image, write_json, write_tsv
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.files import read_json
from bids_neurodecode.workflow.nodes import RunSettings
from bids_neurodecode.workflow.reports import find_results, read_results
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

GROUP_FOLDER = 'group'
DIFFERENT_GRIDS = (
    'The series of these participants are on {n} different grids; intersubject correlation needs '
    'one space and resolution.'
)
NO_COMMON_FILM = 'No film was seen by all participants (they saw: {films}).'


class GroupScoresInput(BaseInterfaceInputSpec):
    results = traits.List(File(exists=True), mandatory=True)
    output_dir = traits.Str(mandatory=True)


class GroupScoresOutput(TraitedSpec):
    metrics = File(exists=True)


class GroupScores(Stage):
    """Put the metrics of all participants below each other."""

    input_spec = GroupScoresInput
    output_spec = GroupScoresOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.evaluation.metrics import describe_columns, with_types
        from bids_neurodecode.report.group import compare_over_participants, gather_metrics
        from bids_neurodecode.report.reader import Reader

        readers = [Reader(read_results(Path(file))) for file in self.inputs.results]
        table = gather_metrics(readers)
        table.insert(0, 'participant', table.pop('participant'))
        task = readers[0].results.task
        target = Path(self.inputs.output_dir) / GROUP_FOLDER / f'task-{task}_metrics.tsv'
        write_tsv(target, with_types(table))
        compared = compare_over_participants(table).drop(columns='participant', errors='ignore')
        comparisons = target.with_name(f'task-{task}_desc-comparison_metrics.tsv')
        write_tsv(comparisons, with_types(compared))
        write_json(comparisons.with_suffix('.json'), describe_columns(set(compared['metric'])))
        return {'metrics': target}


class GroupAgreementInput(BaseInterfaceInputSpec):
    results = traits.List(File(exists=True), mandatory=True)
    output_dir = traits.Str(mandatory=True)


class GroupAgreementOutput(TraitedSpec):
    isc = File(exists=True, desc='mean leave-one-out intersubject correlation')


class GroupAgreement(Stage):
    """Leave-one-participant-out intersubject correlation of films."""

    input_spec = GroupAgreementInput
    output_spec = GroupAgreementOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.signals.reliability import leave_one_out_isc

        output_dir = Path(self.inputs.output_dir)
        records = [read_results(Path(file)) for file in self.inputs.results]
        series, mask = aligned_series(records, output_dir)
        isc = leave_one_out_isc(series)
        first = records[0]
        place = f'_space-{first.space}' if first.space else ''
        stem = f'task-{first.task}{place}_stat-isc_statmap'
        target = output_dir / GROUP_FOLDER / f'{stem}.nii.gz'
        write_image(target, mask.image(isc.mean(axis=0)))
        write_json(
            target.with_name(f'{stem}.json'),
            {
                'Description': 'Mean over participants of the correlation of each with the mean '
                'of the others',
                'Units': 'Pearson r',
                'Participants': [record.participant for record in records],
            },
        )
        return {'isc': target}


class GroupPageInput(BaseInterfaceInputSpec):
    results = traits.List(File(exists=True), mandatory=True)
    output_dir = traits.Str(mandatory=True)
    failures = traits.Dict(traits.Str, traits.Str)
    shared = File(exists=True, desc='scores of a head that participants share')


class GroupPageOutput(TraitedSpec):
    page = File(exists=True)


class GroupPage(Stage):
    """Make the page of the group."""

    input_spec = GroupPageInput
    output_spec = GroupPageOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.report.build import link_pages
        from bids_neurodecode.report.group import write_group_report

        output_dir = Path(self.inputs.output_dir)
        records = [read_results(Path(file)) for file in self.inputs.results]
        failures = self.inputs.failures if isdefined(self.inputs.failures) else {}
        page = output_dir / group_page(output_dir, records[0].task)
        with atomic(page) as temporary:
            write_group_report(
                records,
                temporary,
                output_dir / GROUP_FOLDER / 'figures',
                failures=failures,
                shared=Path(self.inputs.shared) if isdefined(self.inputs.shared) else None,
            )
        link_pages(output_dir)
        return {'page': page}


def group_page(output_dir: Path, task: str) -> str:
    """Return the name of the group's page; with several tasks in a folder it carries its own."""
    several = {read_results(file).task for file in find_results(output_dir)} != {task}
    return f'group_task-{task}.html' if several else 'group.html'


def init_group_wf(results: Sequence[Path], failures: dict[str, str], run: RunSettings) -> Any:
    """Return the workflow of the group level over the records of the participants."""
    from nipype.pipeline import engine as pe

    workflow = pe.Workflow(name='bids_neurodecode_group_wf', base_dir=str(run.work_dir))
    common: dict[str, Any] = {
        'results': [str(file) for file in results],
        'output_dir': str(run.output_dir),
    }
    workflow.add_nodes(
        [
            pe.Node(GroupScores(**common), 'scores', mem_gb=1),
            pe.Node(GroupPage(**common, failures=failures), 'report', mem_gb=2),
        ]
    )
    records = [read_results(file) for file in results]
    if len(records) > 1 and all(record.paradigm == 'movie' for record in records):
        workflow.add_nodes([pe.Node(GroupAgreement(**common), 'agreement', mem_gb=4)])
    if run.config.movie.target == 'group':
        from bids_neurodecode.workflow.film_group_brain import add_group_brain

        brain = pe.Workflow(name='brain')
        add_group_brain(brain, records, run)
        workflow.add_nodes([brain])
    if run.config.encoding.model == 'shared':
        from bids_neurodecode.workflow.encoding_group import connect_shared_head

        connect_shared_head(workflow, records, results, run)
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
    grids = {(m.mask.shape, m.affine.round(3).tobytes()) for person in masks for m in person}
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
    """Read a participant's aligned series, one array a film; the first showing of each counts."""
    import nibabel as nib

    films: dict[str, np.ndarray[Any, Any]] = {}
    for file in _aligned_files(record, output_dir):
        volumes = mask.extract(np.asanyarray(nib.load(file).dataobj, np.float32))
        start = 0
        for film in read_json(file.with_name(file.name.replace('.nii.gz', '.json')))['Films']:
            stop = start + film['Volumes']
            films.setdefault(film['StimFile'], volumes[start:stop])
            start = stop
    return films


def _aligned_files(record: ParticipantResults, output_dir: Path) -> list[Path]:
    place = f'space-{record.space}_*' if record.space else ''
    pattern = f'sub-{record.participant}_*task-{record.task}_*{place}desc-aligned_bold.nii.gz'
    found = sorted((output_dir / f'sub-{record.participant}').rglob(pattern))
    if record.space is None:
        found = [file for file in found if '_space-' not in file.name]
    return found


__all__ = ['GroupAgreement', 'GroupPage', 'GroupScores', 'aligned_series', 'init_group_wf']
