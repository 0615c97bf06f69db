"""The last nodes: everything under its BIDS name, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.names import PRODUCTS, clean_label
from bids_neurodecode.bids.provenance import sidecar, software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_json, write_text
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import UNITS
from bids_neurodecode.workflow.files import read_json, read_table, save_map
from bids_neurodecode.workflow.generation_outputs import write_generation
from bids_neurodecode.workflow.reports import participant_report, results_path
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

RUN_LABEL = {
    'Description': 'Entities of the run in the raw data, of which the columns session and run '
    'are the labels (n/a where its name has none)'
}
TRIAL_COLUMNS = {
    'onset': {'Description': 'Onset of the trial in its run', 'Units': 's'},
    'duration': {'Description': 'Duration of the trial', 'Units': 's'},
    'stimulus': {'Description': 'Stimulus file, relative to the stimuli folder of the raw data'},
    'trial_type': {'Description': 'Condition, as in the events of the raw data'},
    'run_label': RUN_LABEL,
    'repeat': {'Description': 'How often the stimulus had been shown before'},
    'scan_run': {'Description': 'Number of the scanner run in its session, from 1'},
    'part': {'Description': 'Part of the split that the dataset gives (train, validation, test)'},
    'protocol': {'Description': 'Name of that split'},
    'content': {'Description': 'First of the stimuli that show the same, whatever their names'},
    'cluster': {'Description': 'Cluster of the stimulus in feature space'},
    'n_repeats': {'Description': 'Number of trials that the row is the mean of'},
    'stim_file': {'Description': 'The same as stimulus, under the name that BIDS gives it'},
}
PREDICTION_COLUMNS = {
    'fold': {'Description': 'Fold of the cross-validation in which the sample was held out'},
    'sample': {'Description': 'Volume of the single-trial betas, from 0'},
    'stimulus': {'Description': 'What was shown'},
    'n_candidates': {'Description': 'Number of stimuli that it was to be told from'},
    'rank': {'Description': 'Rank of the true stimulus among the candidates; 1 is best'},
    'similarity': {'Description': 'Correlation of decoded and true features'},
    'identified': {'Description': 'Whether the true stimulus came first (ties count in part)'},
    'retrieved': {'Description': 'The nearest stimulus of the library: the reconstruction'},
    'run_label': RUN_LABEL,
    'onset': {'Description': 'Onset of the (first) trial in its run', 'Units': 's'},
    'stim_file': {'Description': 'The same as stimulus, under the name that BIDS gives it'},
}


class MeasuredInput(BaseInterfaceInputSpec):
    """What every system that starts from single-trial betas writes, whatever it makes of them."""

    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    run = traits.Str(mandatory=True, desc='folders, run id and notes, as JSON')
    trials = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    mean_bold = File(exists=True, mandatory=True)
    tsnr = File(exists=True, mandatory=True)
    betas = File(exists=True, mandatory=True)
    beta_maps = InputMultiPath(File(exists=True))
    beta_info = File(exists=True, mandatory=True)
    reliability_maps = InputMultiPath(File(exists=True))
    atlas_labels = File(exists=True)
    atlas_table = File(exists=True)
    parcels = InputMultiPath(File(exists=True))


class WritePicturesInput(MeasuredInput):
    metrics = File(exists=True, mandatory=True)
    predictions = File(exists=True, mandatory=True)
    null = File(exists=True, mandatory=True)
    confusion = File(exists=True, mandatory=True)
    selected = File(exists=True, mandatory=True)
    model = File(exists=True, mandatory=True)
    decode_info = File(exists=True, mandatory=True)
    generated = File(exists=True, desc='what was made in two stages, where it was')


class WriteOutput(TraitedSpec):
    results = File(exists=True, desc='the record that the report is made from')


class WritePictures(Stage):
    """Write the derivatives of the picture paradigm, and the record for the report."""

    input_spec = WritePicturesInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        inputs = self.inputs
        run = json.loads(inputs.run)
        participant = ParticipantInput.from_json(inputs.participant)
        output_dir = Path(run['output_dir'])
        writer = ProductWriter.for_participant(participant, output_dir)
        results = self._results_record(participant, run, writer, folder)
        target = results_path(output_dir, participant.label, participant.task)
        write_text(target, results.to_json())
        writer.finish()
        return {'results': target}

    def _results_record(
        self,
        participant: ParticipantInput,
        run: dict[str, Any],
        writer: ProductWriter,
        folder: Path,
    ) -> ParticipantResults:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        info = read_json(Path(inputs.decode_info))
        betas = read_json(Path(inputs.beta_info))
        config = with_model(Config.model_validate_json(inputs.settings), betas['model'])
        plan = read_json(Path(inputs.plan))
        trials = read_table(Path(inputs.trials))
        tables = self._write_tables(writer, trials)
        generation = None
        warnings = [*plan['leaks'], *betas['warnings'], *info['warnings']]
        if isdefined(inputs.generated):
            result = Path(inputs.generated)
            linear = read_table(Path(inputs.metrics))
            generation, tables['metrics'] = write_generation(
                writer, config, result, linear, trials
            )
            warnings += [w for w in read_json(result)['warnings'] if w not in warnings]
        log = Path(run['output_dir']) / f'sub-{participant.label}' / 'log'
        stem = f'sub-{participant.label}_task-{participant.task}'
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        return r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system='reconstruction',
            paradigm=participant.paradigm,
            layout=participant.layout,
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, trials['run'].value_counts().to_dict()),
            derivatives=tuple(run['derivatives']),
            notes=(*run['notes'], sentence(plan['why'])),
            warnings=tuple(warnings),
            leaks=tuple(plan['leaks']),
            space=writer.space,
            in_mni=writer.in_mni,
            split=r.SplitResults(
                plan['by'],
                plan['protocol'],
                plan['n_folds'],
                plan['repeats_cross'],
                plan['why'],
            ),
            betas=beta_results(betas),
            voxels=r.VoxelResults(info['n_mask'], info['n_selected'], info['rule']),
            trials=tables['betas_events'],
            maps=self._write_maps(writer, info, folder),
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold)),
            metrics=tables['metrics'],
            predictions=tables['predictions'],
            confusion=r.ConfusionResults(
                self._keep(log, f'{stem}_confusion', Path(inputs.confusion)),
                tuple(info['labels']),
            ),
            null=r.NullResults(
                self._keep(log, f'{stem}_null', Path(inputs.null)),
                info['observed'],
                info['null_metric'],
            ),
            generation=generation,
            stimuli_dir=participant.stimuli_dir,
            features=dict(participant.features),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )

    def _write_tables(self, writer: ProductWriter, trials: Any) -> dict[str, Path]:
        inputs = self.inputs
        metrics = writer.path('metrics', desc='linear')
        writer.copy('metrics', Path(inputs.metrics), desc='linear')
        writer.copy(
            'metrics',
            Path(inputs.metrics).with_suffix('.json'),
            desc='linear',
            extension='.json',
        )
        writer.copy('model', Path(inputs.model), desc='linear')
        config = with_model(
            Config.model_validate_json(inputs.settings), read_json(Path(inputs.beta_info))['model']
        )
        writer.text('model_config', config.to_toml(), desc='linear')
        writer.copy('model_card', Path(inputs.model).with_name('model.md'), desc='linear')
        predictions = with_trials(read_table(Path(inputs.predictions)), trials)
        return {
            'metrics': metrics,
            'betas_events': writer.table(
                'betas_events',
                trials.assign(stim_file=trials['stimulus']),
                columns=trial_columns(trials),
            ),
            'predictions': writer.table(
                'predictions',
                predictions,
                columns={k: v for k, v in PREDICTION_COLUMNS.items() if k in predictions},
                more={'desc': 'linear'},
            ),
        }

    def _write_maps(
        self, writer: ProductWriter, info: dict[str, Any], folder: Path
    ) -> dict[str, Path]:
        inputs = self.inputs
        mask = VoxelMask.load(Path(inputs.mask))
        betas_info = read_json(Path(inputs.beta_info))
        maps = write_measured(
            writer,
            ParticipantInput.from_json(inputs.participant),
            mask,
            betas=Path(inputs.betas),
            info=betas_info,
            tsnr=Path(inputs.tsnr),
            folder=folder,
        )
        for file in [*given(inputs.beta_maps), *given(inputs.reliability_maps)]:
            name = Path(file).name.removesuffix('.nii.gz')
            maps[name] = writer.image(name, Path(file))
        maps['reliable'] = writer.image(
            'reliable',
            Path(inputs.selected),
            more={'desc': info['rule_name']},
            Description=info['rule'],
        )
        if isdefined(inputs.atlas_labels):
            participant = ParticipantInput.from_json(inputs.participant)
            config = Config.model_validate_json(inputs.settings)
            maps['dseg'] = write_atlas(
                writer,
                config,
                Path(inputs.atlas_labels),
                Path(inputs.atlas_table),
            )
            write_parcels(writer, participant, config, inputs.parcels)
        return maps

    @staticmethod
    def _keep(log: Path, name: str, source: Path) -> Path:
        """Keep an array that the report shows beside the record of the results."""
        target = log / f'{name}.npy'
        copy_file(source, target)
        return target


def write_measured(
    writer: ProductWriter,
    participant: ParticipantInput,
    mask: VoxelMask,
    *,
    betas: Path,
    info: Mapping[str, Any],
    tsnr: Path,
    folder: Path,
) -> dict[str, Path]:
    """Write the betas and the map of the series' quality; return the maps by name.

    In NSD's own layout there is nothing to write: betas were read in place, without series.
    """
    if not participant.has_series:
        return {}
    image = save_map(folder / 'betas.nii.gz', mask, np.load(betas, mmap_mode='r'))
    more = {}
    if info.get('model_scores'):
        scores = info['model_scores']
        more = {
            'ModelOfFolds': info['fold_models'],
            'ModelChoice': 'Share of pairs identified in runs held out within training trials, of '
            'all trials and then of those of each fold, by model',
            'ModelScores': {model: [each[model] for each in scores] for model in scores[0]},
        }
    writer.image('betas', image, Model=info['model'], Units=info['units'], **more)
    image.unlink()
    return {'tsnr': writer.image('tsnr', tsnr)}


def trial_columns(trials: Any) -> dict[str, Any]:
    """Return the descriptions of the columns that a table of trials has."""
    named = {*trials.columns, 'stim_file'}
    return {name: text for name, text in TRIAL_COLUMNS.items() if name in named}


def given(files: Any) -> list[str]:
    """Return the files of an optional input; none where it was not given."""
    return list(files) if isdefined(files) else []


def with_model(config: Config, model: str) -> Config:
    """Return the settings with the model of the betas that ``auto`` came to."""
    if model not in {'B', 'C', 'D'}:
        return config
    return config.model_copy(update={'betas': config.betas.model_copy(update={'model': model})})


def sentence(text: str) -> str:
    """Start with a capital, end with a stop."""
    return f'{text[:1].upper()}{text[1:].rstrip(".")}.'


def run_results(participant: ParticipantInput, n_trials: Mapping[Any, int]) -> tuple[Any, ...]:
    """Return the runs as the report lists them."""
    from bids_neurodecode.report.results import RunResults

    return tuple(
        RunResults(
            label=run.label,
            n_volumes=run.n_volumes,
            repetition_time=run.repetition_time,
            bold=run.bold,
            mask=run.mask,
            events=run.events,
            confounds=run.confounds,
            n_trials=n_trials.get(number, 0),
        )
        for number, run in enumerate(participant.runs)
    )


def beta_results(info: dict[str, Any]) -> Any:
    """Return what the report says of the betas."""
    from bids_neurodecode.report.results import BetaResults

    return BetaResults(
        model=info['model'],
        engine=info['engine'],
        tuning=info['tuning'],
        n_components=tuple(info['n_components']),
        component_curves=tuple(tuple(curve) for curve in info['component_curves']),
        n_noise_pool=info['n_noise_pool'],
        onoff_threshold=info['onoff_threshold'],
        hrf_times_to_peak=tuple(info['hrf_times_to_peak']),
        fold_models=tuple(info.get('fold_models', ())),
        model_scores=tuple(info.get('model_scores', ())),
    )


def atlas_entities(config: Config) -> dict[str, str]:
    """Return the entities that name an atlas, from its TemplateFlow name or its file.

    Examples
    --------
    >>> from bids_neurodecode.config import build_config
    >>> name = 'Schaefer2018_desc-100Parcels7Networks'
    >>> atlas_entities(build_config({'atlas': {'name': name}}))
    {'atlas': 'Schaefer2018', 'seg': '100Parcels7Networks'}
    """
    name = config.atlas.name or str(config.atlas.file and config.atlas.file.name)
    parts = dict(p.split('-', 1) for p in name.split('.')[0].split('_') if '-' in p)
    label = parts.get('atlas', name.split('_')[0].split('.')[0])
    entities = {'atlas': clean_label(label)}
    segmentation = parts.get('seg', parts.get('desc'))
    if segmentation:
        entities['seg'] = clean_label(segmentation)
    return entities


def write_atlas(writer: ProductWriter, config: Config, labels: Path, table: Path) -> Path:
    """Write the parcellation on the grid of the data, and its table."""
    entities = atlas_entities(config)
    writer.copy('dseg_table', table, **entities)
    if writer.form == 'gifti':  # the labels' own sidecars are of one hemisphere each
        fields = sidecar(sources=writer.sources, **writer.place)
        write_json(writer.path('dseg_table', extension='.json', **entities), fields)
    return writer.image('dseg', labels, more=entities)


def write_parcels(
    writer: ProductWriter, participant: ParticipantInput, config: Config, files: list[str]
) -> None:
    """Write the parcel means of each run as TSV with their sampling in a sidecar."""
    entities = atlas_entities(config)
    if not participant.has_series:
        return
    for run, file in zip(participant.runs, files, strict=True):
        of_run = writer.for_run(run.entities, run.sources)
        of_run.copy('timeseries', Path(file), **entities)
        fields = sidecar(
            sources=run.sources,
            fixed=PRODUCTS['timeseries'].sidecar,
            **writer.place,
            RepetitionTime=run.repetition_time,
            SamplingFrequency=1 / run.repetition_time,
            Scaling=config.clean.scaling,
            Units=UNITS[config.clean.scaling],
        )
        write_json(of_run.path('timeseries', extension='.json', **entities), fields)


class WriteReportInput(BaseInterfaceInputSpec):
    results = File(exists=True, mandatory=True)
    output_dir = traits.Str(mandatory=True)


class WriteReportOutput(TraitedSpec):
    page = File(exists=True)


class WriteReport(Stage):
    """Make the participant's page from the record of the results."""

    input_spec = WriteReportInput
    output_spec = WriteReportOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        return {
            'page': participant_report(Path(self.inputs.results), Path(self.inputs.output_dir))
        }


__all__ = [
    'MeasuredInput',
    'WritePictures',
    'WriteReport',
    'atlas_entities',
    'beta_results',
    'run_results',
    'write_atlas',
    'write_parcels',
]
