"""The output node of predict mode of encoding: predicted betas and BOLD, scores where known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.provenance import software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.bids.trials import DURATION_TOLERANCE, shown_rows
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import PERCENT
from bids_neurodecode.workflow.encoding_outputs import desc_of, keep, write_map, write_predictions
from bids_neurodecode.workflow.encoding_runs import (
    NEW,
    NO_SHAPES,
    PredictedRun,
    ResponseShapes,
    write_betas,
    write_run,
)
from bids_neurodecode.workflow.files import read_json, read_table
from bids_neurodecode.workflow.outputs import WriteOutput, run_results
from bids_neurodecode.workflow.reports import results_path
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.report.results import EncodingResults, ParticipantResults

BETAS = (
    'Response amplitudes to new pictures as a trained model predicts them, one volume a row of '
    'the events table beside it'
)
OTHER_DURATION = (
    'Pictures are shown for {shown:g} s, and the model was trained with {trained:g} s: predicted '
    'responses are those to {trained:g} s.'
)
APPLIED = 'A trained model was applied: {name}.'
RULE = 'the voxels of the model'


class WritePredictedInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    run = traits.Str(mandatory=True, desc='folders, run id and notes, as JSON')
    model = traits.Str(mandatory=True)
    result = File(exists=True, mandatory=True, desc='what was predicted')
    trials = File(exists=True)
    mean_bold = File(exists=True)
    tsnr = File(exists=True)
    beta_info = File(exists=True)


class WritePredicted(Stage):
    """Write what a trained encoding model predicts, and the record for the report."""

    input_spec = WritePredictedInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        inputs = self.inputs
        run = json.loads(inputs.run)
        participant = ParticipantInput.from_json(inputs.participant)
        info = read_json(Path(inputs.result))
        about = info['about']
        writer = ProductWriter(
            Path(run['output_dir']),
            {'sub': participant.label, 'task': participant.task},
            about['space'],
            about['resolution'],
            sources=(
                *(source for each in participant.runs for source in each.sources),
                *(source for each in participant.events_only for source in each.sources),
            ),
        ).in_space(VoxelMask.load(Path(inputs.result).with_name('voxels.nii.gz')).space)
        record = self._record(participant, run, info, writer)
        target = results_path(writer.output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}

    def _record(
        self,
        participant: ParticipantInput,
        run: dict[str, Any],
        info: dict[str, Any],
        writer: ProductWriter,
    ) -> ParticipantResults:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        log = writer.output_dir / f'sub-{participant.label}' / 'log'
        stem = f'sub-{participant.label}_task-{participant.task}'
        source, desc = Path(inputs.result).parent, desc_of(info['about']['model'])
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        encoding = self._write_encoding(participant, writer, config, info, log / stem)
        notes = self._write_runs(participant, writer, info)
        maps = {x: encoding.maps[x] for x in ('pearsonr', 'noisenormalized') if x in encoding.maps}
        warnings = list(info['warnings'])
        n_trials: dict[Any, int] = {}
        if isdefined(inputs.beta_info):
            warnings += read_json(Path(inputs.beta_info))['warnings']
            n_trials = read_table(Path(inputs.trials))['run'].value_counts().to_dict()
        mean_bold = null = metrics = predictions = None
        if isdefined(inputs.mean_bold):
            mean_bold = writer.image('meanbold', Path(inputs.mean_bold))
            if participant.has_series:
                maps['tsnr'] = writer.image('tsnr', Path(inputs.tsnr))
        if 'observed' in info:
            metrics = writer.copy('metrics', source / 'metrics.tsv', desc=desc)
            writer.copy('metrics', source / 'metrics.json', desc=desc, extension='.json')
            trials = read_table(Path(inputs.trials))
            predictions = write_predictions(writer, source, trials, desc)
            if not info['leaks']:
                file = keep(source / 'null.npy', log / f'{stem}_null.npy')
                null = r.NullResults(file, info['observed'], info['null_metric'])
        return r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system='encoding',
            paradigm=participant.paradigm,
            layout=participant.layout,
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, n_trials),
            derivatives=tuple(run['derivatives']),
            notes=(*run['notes'], APPLIED.format(name=Path(inputs.model).name)),
            warnings=(*warnings, *notes),
            leaks=tuple(info['leaks']),
            space=writer.space,
            in_mni=writer.in_mni,
            voxels=r.VoxelResults(
                info.get('n_mask', info['n_selected']), info['n_selected'], RULE
            ),
            maps=maps,
            mean_bold=mean_bold,
            metrics=metrics,
            predictions=predictions,
            null=null,
            encoding=encoding,
            stimuli_dir=participant.stimuli_dir,
            features=dict(participant.features),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )

    def _write_encoding(
        self,
        participant: ParticipantInput,
        writer: ProductWriter,
        config: Config,
        info: dict[str, Any],
        stem: Path,
    ) -> EncodingResults:
        """Write one predicted volume a picture and, where there are some, maps of scores."""
        import pandas as pd

        from bids_neurodecode.report.results import EncodingResults

        source, model = Path(self.inputs.result).parent, info['about']['model']
        desc = desc_of(model)
        mask = VoxelMask.load(source / 'voxels.nii.gz')
        table = pd.DataFrame(
            {'onset': np.nan, 'duration': np.nan, 'stim_file': list(participant.stimuli)}
        )
        values = np.load(source / 'predicted.npy', mmap_mode='r')
        betas, betas_table = write_betas(
            writer, mask, values, table, model, BETAS, info['about'].get('units', PERCENT)
        )
        examples = null_r = None
        if 'observed' in info:
            examples = keep(source / 'examples.tsv', stem.with_name(f'{stem.name}_examples.tsv'))
            keep(source / 'examples.npy', examples.with_suffix('.npy'))
            if not info['leaks']:
                null_r = keep(source / 'null_r.npy', stem.with_name(f'{stem.name}_nullr.npy'))
        return EncodingResults(
            model=model,
            bands=config.encoding.bands,
            space=info.get('space', 'predicted'),
            voxels=writer.image(
                'reliable',
                source / 'voxels.nii.gz',
                more={'label': 'encoded', 'desc': desc},
                Description='Voxels that the encoding model predicts',
            ),
            n_pictures=len(table),
            betas=betas,
            betas_table=betas_table,
            maps={name: write_map(writer, source, name, desc) for name in info.get('maps', ())},
            examples=examples,
            null_r=null_r,
        )

    def _write_runs(
        self, participant: ParticipantInput, writer: ProductWriter, info: dict[str, Any]
    ) -> tuple[str, ...]:
        """Write the predicted series of each run that shows pictures; return what to say."""
        from bids_neurodecode.systems.synthesis import run_length

        source, about = Path(self.inputs.result).parent, info['about']
        if not (participant.runs or participant.events_only):
            return ()
        if not (source / 'hrfindex.npy').exists():
            return (NO_SHAPES,)
        period, duration = about['repetition_time'], about['stimulus_duration']
        shapes = ResponseShapes(
            np.load(source / 'hrfindex.npy'), period, about['beta_repetition_time'], duration
        )
        mask = VoxelMask.load(source / 'voxels.nii.gz')
        values = np.load(source / 'predicted.npy', mmap_mode='r')
        place = {name: row for row, name in enumerate(participant.stimuli)}
        notes: dict[str, None] = {}
        runs = [(PredictedRun.of(run), run.events) for run in participant.runs]
        for each in participant.events_only:
            trials = shown(each.events)
            n_volumes = run_length(trials['onset'], trials['duration'], period)
            run = PredictedRun(dict(each.entities), each.sources, n_volumes)
            runs.append((run, each.events))
        for run, events in runs:
            trials = shown(events)
            longest = float(trials['duration'].median())
            if abs(longest - duration) > DURATION_TOLERANCE:
                notes[OTHER_DURATION.format(shown=longest, trained=duration)] = None
            write_run(
                writer,
                run,
                mask,
                np.asarray(values[[place[name] for name in trials['stim_file']]]),
                trials,
                shapes,
                model=about['model'],
                description=NEW,
                units=about.get('units', PERCENT),
            )
        return tuple(notes)


def shown(events: Path) -> pd.DataFrame:
    """Return the rows of an events file that show a picture, in order of their onsets."""
    rows = shown_rows(events)
    return rows.assign(stim_file=rows['stim_file'].astype(str))


__all__ = ['WritePredicted']
