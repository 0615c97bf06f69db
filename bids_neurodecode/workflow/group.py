"""The group level: scores and maps over participants, agreement between them, one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from bids_neurodecode.bids.sink import atomic, write_image, write_json, write_tsv
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.nodes import RunSettings
from bids_neurodecode.workflow.reports import read_results
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

GROUP_FOLDER = 'group'
DIFFERENT_GRIDS = (
    'The series of {a} and {b} are on different grids or of different lengths ({found}); '
    'intersubject correlation needs the same films in one space.'
)


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
        from bids_neurodecode.report.group import gather_metrics
        from bids_neurodecode.report.reader import Reader

        readers = [Reader(read_results(Path(file))) for file in self.inputs.results]
        table = gather_metrics(readers)
        table.insert(0, 'participant', table.pop('participant'))
        task = readers[0].results.task
        target = Path(self.inputs.output_dir) / GROUP_FOLDER / f'task-{task}_metrics.tsv'
        write_tsv(target, table)
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


class GroupPageOutput(TraitedSpec):
    page = File(exists=True)


class GroupPage(Stage):
    """Make the page of the group."""

    input_spec = GroupPageInput
    output_spec = GroupPageOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.report.group import write_group_report

        output_dir = Path(self.inputs.output_dir)
        records = [read_results(Path(file)) for file in self.inputs.results]
        failures = self.inputs.failures if isdefined(self.inputs.failures) else {}
        page = output_dir / 'group.html'
        with atomic(page) as temporary:
            write_group_report(
                records, temporary, output_dir / GROUP_FOLDER / 'figures', failures=failures
            )
        return {'page': page}


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
    crashes = run.output_dir / 'logs' / run.run_id
    for name in workflow.list_node_names():
        workflow.get_node(name).config = {'execution': {'crashdump_dir': str(crashes)}}
    return workflow


def aligned_series(
    records: Sequence[ParticipantResults], output_dir: Path
) -> tuple[np.ndarray[Any, Any], VoxelMask]:
    """Read the aligned series of all participants, runs one after the other.

    Returns
    -------
    numpy.ndarray
        Shape (n_participants, n_volumes, n_voxels), float32.
    VoxelMask
        The voxels that all participants share.

    Raises
    ------
    DataError
        If they do not fit together.
    """
    import nibabel as nib

    masks, images = [], []
    for record in records:
        images.append([nib.load(file) for file in _aligned_files(record, output_dir)])
        masks.append(np.logical_and.reduce([VoxelMask.load(run.mask).mask for run in record.runs]))
        shapes = [image.shape for image in images[-1]]
        if shapes != [image.shape for image in images[0]] or masks[-1].shape != masks[0].shape:
            raise DataError(
                DIFFERENT_GRIDS.format(
                    a=records[0].participant, b=record.participant, found=shapes
                )
            )
    mask = VoxelMask(np.logical_and.reduce(masks), np.asarray(images[0][0].affine))
    series = [
        np.concatenate([mask.extract(np.asanyarray(i.dataobj, np.float32)) for i in runs])
        for runs in images
    ]
    return np.stack(series), mask


def _aligned_files(record: ParticipantResults, output_dir: Path) -> list[Path]:
    pattern = f'sub-{record.participant}_*task-{record.task}_*desc-aligned_bold.nii.gz'
    return sorted((output_dir / f'sub-{record.participant}').rglob(pattern))


__all__ = ['GroupAgreement', 'GroupPage', 'GroupScores', 'aligned_series', 'init_group_wf']
