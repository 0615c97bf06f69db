"""The output node of films: derivatives under their names, and the record for the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiPath, isdefined, traits

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.names import PRODUCTS
from bids_neurodecode.bids.provenance import sidecar, software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_image, write_json, write_text
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import UNITS
from bids_neurodecode.workflow.files import read_json, read_table
from bids_neurodecode.workflow.outputs import (
    WriteOutput,
    run_results,
    sentence,
    write_atlas,
    write_parcels,
)
from bids_neurodecode.workflow.reports import results_path
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.report.results import ParticipantResults


DIFFERENCE = {
    'difference': 'mean',
    'difference_low': 'low',
    'difference_high': 'high',
    'difference_p': 'p',
}
"""Columns of the metrics table, by what a comparison of two models calls them."""


class WriteFilmsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    run = traits.Str(mandatory=True, desc='folders, run id and notes, as JSON')
    trials = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    mean_bold = File(exists=True, mandatory=True)
    tsnr = File(exists=True, mandatory=True)
    aligned = InputMultiPath(File(exists=True), mandatory=True)
    showings = File(exists=True, mandatory=True)
    metrics = File(exists=True, mandatory=True)
    pearsonr = File(exists=True, mandatory=True)
    significant = File(exists=True, mandatory=True)
    p_values = File(exists=True, mandatory=True)
    compare_info = File(exists=True, desc='what comparing participants gave')
    isc = File(exists=True, desc='map of the agreement on test volumes')
    ceiling = File(exists=True, desc='map of the correlation that a perfect model would reach')
    ceiling_by_fold = File(exists=True, desc='the same, a map a fold')
    by_fold = File(exists=True, desc='map of the correlation of each fold')
    predictions = File(exists=True, mandatory=True)
    rows = File(exists=True, mandatory=True)
    null = File(exists=True, mandatory=True)
    model = File(exists=True, mandatory=True)
    encode_info = File(exists=True, mandatory=True)
    banded_metrics = File(exists=True)
    banded_info = File(exists=True)
    network = File(exists=True, desc='what the movie network made')
    film_stores = File(exists=True)
    atlas_labels = File(exists=True)
    atlas_table = File(exists=True)
    parcels = InputMultiPath(File(exists=True))


class WriteFilms(Stage):
    """Write the derivatives of the film paradigm, and the record for the report."""

    input_spec = WriteFilmsInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        run = json.loads(self.inputs.run)
        participant = ParticipantInput.from_json(self.inputs.participant)
        output_dir = Path(run['output_dir'])
        writer = ProductWriter.for_participant(participant, output_dir)
        self._write_aligned(writer, participant)
        record = self._record(participant, run, writer)
        record = self._with_agreement(record, writer, folder)
        if isdefined(self.inputs.network):
            record = self._with_network(record, participant, writer)
        target = results_path(output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}

    def _write_aligned(self, writer: ProductWriter, participant: ParticipantInput) -> None:
        """Write each run's cleaned series on the clock of its films, the delay taken out."""
        config = Config.model_validate_json(self.inputs.settings)
        mask = VoxelMask.load(Path(self.inputs.mask))
        showings = read_json(Path(self.inputs.showings))['showings']
        for number, run in enumerate(participant.runs):
            mine = [i for i, showing in enumerate(showings) if showing['run'] == number]
            rows = np.concatenate([np.load(self.inputs.aligned[i]) for i in mine])
            of_run = writer.for_run(run.entities, run.sources)
            image: nib.Nifti1Image = mask.image(rows)
            write_image(of_run.path('delayed'), image, repetition_time=run.repetition_time)
            fields = sidecar(
                sources=run.sources,
                fixed={**PRODUCTS['delayed'].sidecar, 'SkullStripped': True},
                **writer.place,
                TaskName=participant.task,
                RepetitionTime=run.repetition_time,
                Delay=config.delay.seconds,
                Films=[_film_of(showings[i]) for i in mine],
                Scaling=config.clean.scaling,
                Units=UNITS[config.clean.scaling],
            )
            write_json(of_run.path('delayed', extension='.json'), fields)

    def _record(
        self, participant: ParticipantInput, run: dict[str, Any], writer: ProductWriter
    ) -> ParticipantResults:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        info, plan = read_json(Path(inputs.encode_info)), read_json(Path(inputs.plan))
        showings = read_json(Path(inputs.showings))['showings']
        log = Path(run['output_dir']) / f'sub-{participant.label}' / 'log'
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        null = log / f'sub-{participant.label}_task-{participant.task}_null.npy'
        copy_file(Path(inputs.null), null)
        n_films = [
            sum(s['run'] == number for s in showings) for number in range(len(participant.runs))
        ]
        return r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system='movie',
            paradigm=participant.paradigm,
            layout=participant.layout,
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, dict(enumerate(n_films))),
            derivatives=tuple(run['derivatives']),
            notes=(*run['notes'], sentence(plan['why'])),
            warnings=(*plan['leaks'], *info['warnings'], *self._banded_warnings()),
            leaks=tuple(plan['leaks']),
            space=writer.space,
            in_mni=writer.in_mni,
            voxel_tests=(
                r.VoxelTestResults(
                    'ridge',
                    info['n_tested'],
                    info['n_significant'],
                    info['n_significant_fwer'],
                    info['r_fwer'],
                ),
            )
            if info['tested']
            else (),
            split=r.SplitResults(
                plan['by'],
                plan['protocol'],
                plan['n_folds'],
                plan['repeats_cross'],
                plan['why'],
            ),
            voxels=r.VoxelResults(info['n_mask'], info['n_selected'], info['rule']),
            maps=self._write_maps(writer, participant, config),
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold)),
            metrics=self._write_model(writer, config),
            null=r.NullResults(null, info['observed'], info['null_metric'])
            if info['tested']
            else None,
            stimuli_dir=participant.stimuli_dir,
            features=dict(participant.features),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )

    def _with_agreement(
        self, record: ParticipantResults, writer: ProductWriter, folder: Path
    ) -> ParticipantResults:
        """Write what comparing participants gave and add it to the record."""
        inputs = self.inputs
        if not isdefined(inputs.compare_info):
            return record
        from bids_neurodecode.workflow.film_group_outputs import write_agreement

        predicted = folder / 'predicted.nii.gz'
        predicted_mask(Path(inputs.mask), Path(inputs.model)).save(predicted)
        maps = {'isc': Path(inputs.isc), 'ceilingr': Path(inputs.ceiling)}
        info = read_json(Path(inputs.compare_info))
        by_fold = (Path(inputs.ceiling_by_fold), Path(inputs.by_fold))
        return write_agreement(record, writer, info, maps, predicted, by_fold)

    def _banded_warnings(self) -> list[str]:
        if not isdefined(self.inputs.banded_info):
            return []
        return list(read_json(Path(self.inputs.banded_info))['warnings'])

    def _with_network(
        self, record: ParticipantResults, participant: ParticipantInput, writer: ProductWriter
    ) -> ParticipantResults:
        """Write what the movie network made and add it to the record."""
        from bids_neurodecode.report.results import NullResults, VoxelTestResults
        from bids_neurodecode.workflow.film_network_outputs import write_network

        inputs = self.inputs
        result = Path(inputs.network)
        network, maps, metrics = write_network(
            writer,
            participant,
            Config.model_validate_json(inputs.settings),
            read_table(Path(inputs.trials)),
            result,
            self._linear_metrics(),
        )
        info, null = read_json(result), record.null
        if record.agreement is not None:
            from bids_neurodecode.workflow.film_group_outputs import add_ceilings

            judged = result.with_name('judged.nii.gz')
            sets = {'voxels': (record.agreement.voxels, Path(inputs.by_fold))}
            if judged.exists():
                sets['selected voxels'] = (judged, result.with_name('by_fold.nii.gz'))
            weights = read_json(Path(inputs.compare_info))['weights']
            by_fold = Path(inputs.ceiling_by_fold)
            add_ceilings(metrics, record.agreement.ceiling, by_fold, sets, weights)
        if info['encoder'] and info['tested'] and null is not None:
            copy_file(result.with_name('null.npy'), null.values)
            null = NullResults(null.values, info['observed'], info['null_metric'])
        notes = read_json(Path(inputs.film_stores))['notes']
        tests = record.voxel_tests
        if info['encoder'] and info['tested']:
            tests = (VoxelTestResults('network', **info['tests']), *tests)
        return replace(
            record,
            network=network,
            voxel_tests=tests,
            maps={**record.maps, **maps},
            metrics=metrics,
            null=null,
            notes=(*record.notes, *notes),
            warnings=(*record.warnings, *info['warnings']),
        )

    def _linear_metrics(self) -> pd.DataFrame:
        """Return the scores of the linear models: ridge, its null and, if fitted, banded ridge."""
        import pandas as pd

        from bids_neurodecode.evaluation.metrics import with_types

        tables = [pd.read_csv(self.inputs.metrics, sep='\t')]
        if isdefined(self.inputs.banded_metrics):
            tables.append(pd.read_csv(self.inputs.banded_metrics, sep='\t'))
        table = pd.concat(tables, ignore_index=True)
        if isdefined(self.inputs.banded_info):
            found = read_json(Path(self.inputs.banded_info))['difference']
            mine = (table['model'] == 'ridge') & (table['metric'] == 'voxel_r_mean')
            told = {'compared_model': 'banded-ridge', 'compared_space': 'voxels'}
            told |= {column: found[name] for column, name in DIFFERENCE.items()}
            for column, value in told.items():
                table[column] = table[column].astype(object).mask(mine, value)
        return with_types(table)

    def _write_maps(
        self, writer: ProductWriter, participant: ParticipantInput, config: Config
    ) -> dict[str, Path]:
        inputs = self.inputs
        maps = {
            'tsnr': writer.image('tsnr', Path(inputs.tsnr)),
            'pearsonr': writer.image(
                'pearsonr',
                Path(inputs.pearsonr),
                more={'desc': 'linear'},
                MaxStatisticThreshold=read_json(Path(inputs.encode_info))['r_fwer'] or 'n/a',
                MaxStatisticAlpha=0.05,
            ),
        }
        if read_json(Path(inputs.encode_info))['tested']:
            writer.image('pfdr', Path(inputs.p_values), more={'desc': 'linear'})
            writer.image(
                'significant',
                Path(inputs.significant),
                more={'desc': 'linear'},
                Description='p by surrogates, adjusted for the false discovery rate, below .05',
            )
        if isdefined(inputs.atlas_labels):
            maps['dseg'] = write_atlas(
                writer, config, Path(inputs.atlas_labels), Path(inputs.atlas_table)
            )
            if isdefined(inputs.parcels):
                write_parcels(writer, participant, config, inputs.parcels)
        self._write_predicted(writer, participant)
        return maps

    def _write_predicted(self, writer: ProductWriter, participant: ParticipantInput) -> None:
        """Write the predicted series of the held-out samples of each run."""
        inputs = self.inputs
        table = read_table(Path(inputs.trials))
        rows, predicted = np.load(inputs.rows), np.load(inputs.predictions, mmap_mode='r')
        mask = predicted_mask(Path(inputs.mask), Path(inputs.model))
        for number, run in enumerate(participant.runs):
            mine = table['run'].to_numpy()[rows] == number
            if not mine.any():
                continue
            of_run = writer.for_run(run.entities, run.sources)
            image = mask.image(np.asarray(predicted[mine]))
            write_image(of_run.path('predicted'), image, repetition_time=run.repetition_time)
            fields = sidecar(
                sources=run.sources,
                fixed={**PRODUCTS['predicted'].sidecar, 'SkullStripped': True},
                **writer.place,
                TaskName=participant.task,
                RepetitionTime=run.repetition_time,
                RunOnsets=[float(x) for x in table['run_onset'].to_numpy()[rows[mine]]],
            )
            write_json(of_run.path('predicted', extension='.json'), fields)

    def _write_model(self, writer: ProductWriter, config: Config) -> Path:
        inputs = self.inputs
        writer.copy('model', Path(inputs.model), desc='linear')
        writer.text('model_config', config.to_toml(), desc='linear')
        description = Path(inputs.metrics).with_suffix('.json')
        writer.copy('metrics', description, desc='linear', extension='.json')
        return writer.table('metrics', self._linear_metrics(), more={'desc': 'linear'})


def _film_of(showing: dict[str, Any]) -> dict[str, Any]:
    """Return what the sidecar says of a showing: where in the film it starts, if not with it."""
    film = {'StimFile': showing['film'], 'Volumes': showing['n_samples']}
    return film | ({'FilmOnset': showing['film_onset']} if showing['film_onset'] else {})


def predicted_mask(mask: Path, model: Path) -> VoxelMask:
    """Return the voxels that a saved encoder predicts."""
    from bids_neurodecode.models.storage import load_arrays

    arrays, _ = load_arrays(model)
    return VoxelMask.load(mask).restrict(arrays['keep'].astype(bool))


__all__ = ['WriteFilms']
