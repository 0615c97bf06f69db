"""Predict mode: a trained decoder on new BOLD of the same person."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.provenance import software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_json, write_text, write_tsv
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import MASK_ARRAYS, Responses, Samples, VoxelMask
from bids_neurodecode.workflow.files import read_json, read_table, save_json
from bids_neurodecode.workflow.generation_choice import find_weights
from bids_neurodecode.workflow.generation_model import generation_model_of, generator_of
from bids_neurodecode.workflow.generation_outputs import write_made
from bids_neurodecode.workflow.generation_prediction import RETRIEVAL_ONLY, ApplyGeneration
from bids_neurodecode.workflow.nodes import RunSettings, node
from bids_neurodecode.workflow.outputs import (
    PREDICTION_COLUMNS,
    WriteOutput,
    run_results,
    trial_columns,
)
from bids_neurodecode.workflow.pictures import connect_responses
from bids_neurodecode.workflow.reports import results_path
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.seen import PREFIX, compare_runs, in_sample, pictures_note, runs_of
from bids_neurodecode.workflow.stage import Stage

OTHER_GRID = (
    'The model {file} was trained on a grid of {model} voxels, these data have {data} (or lie '
    'elsewhere). Apply it to data in the same space and resolution.'
)
VOXELS_MISSING = (
    '{n} of the {total} voxels of the model {file} are outside of the brain masks of these runs. '
    'Apply it to runs that cover the same brain.'
)


class ApplyDecoderInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    model = File(exists=True, mandatory=True)
    betas = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    features = File(exists=True, mandatory=True)


class ApplyDecoderOutput(TraitedSpec):
    metrics = File(exists=True)
    predictions = File(exists=True)
    null = File(exists=True)
    info = File(exists=True)


class ApplyDecoder(Stage):
    """Load a decoder, decode new betas, save."""

    input_spec = ApplyDecoderInput
    output_spec = ApplyDecoderOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.evaluation.metrics import describe, scores_table
        from bids_neurodecode.models.storage import load_arrays
        from bids_neurodecode.systems.applying import apply_decoder, merge_stimuli
        from bids_neurodecode.systems.base import PerStimulus
        from bids_neurodecode.systems.reconstruction import LinearDecoder

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        participant = ParticipantInput.from_json(inputs.participant)
        arrays, description = load_arrays(Path(inputs.model))
        mask = VoxelMask.load(Path(inputs.mask))
        columns = model_columns(VoxelMask.from_state(arrays), mask, inputs.model)
        library = PerStimulus(tuple(description['library']), arrays.pop('library_features'))
        state = {
            name: values
            for name, values in arrays.items()
            if name not in MASK_ARRAYS and not name.startswith(PREFIX)
        }
        decoder = LinearDecoder.from_state(state, library.stimuli, description['measure'])
        samples = Samples(
            Responses(np.load(inputs.betas, mmap_mode='r'), mask),
            read_table(Path(inputs.trials)),
        ).voxels(columns)
        table = samples.table
        runs = runs_of(inputs.mask, participant, inputs.betas, table)
        seen = compare_runs(runs, description, inputs.model)
        known = pictures_note(participant, arrays, library.stimuli, inputs.model)
        new = PerStimulus(participant.stimuli, np.load(inputs.features))
        result = apply_decoder(
            decoder,
            samples,
            merge_stimuli(library, new),
            config.evaluation,
            np.random.default_rng(config.seed),
        )
        scores = in_sample(result.scores) if seen.leaks else result.scores
        write_tsv(folder / 'metrics.tsv', scores_table(scores))
        write_json(folder / 'metrics.json', describe(scores))
        write_tsv(folder / 'predictions.tsv', result.samples)
        np.save(folder / 'null.npy', result.null)
        info = {
            'n_mask': mask.n_voxels,
            'n_selected': int(columns.sum()),
            'observed': scores[0].value if scores and not seen.leaks else None,
            'leaks': list(seen.leaks),
            'warnings': [*seen.warnings, *known, *result.notes],
        }
        return {
            'metrics': folder / 'metrics.tsv',
            'predictions': folder / 'predictions.tsv',
            'null': folder / 'null.npy',
            'info': save_json(folder / 'info.json', info),
        }


def model_columns(
    voxels: VoxelMask, mask: VoxelMask, file: str
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which voxels of ``mask`` a model of some ``voxels`` takes, (n_voxels,).

    Raises
    ------
    DataError
        If the model is of another grid, or takes voxels that the mask does not hold.
    """
    wanted = voxels.mask
    if not voxels.same_grid(mask):
        raise DataError(OTHER_GRID.format(file=file, model=wanted.shape, data=mask.mask.shape))
    outside = int((wanted & ~mask.mask).sum())
    if outside:
        raise DataError(VOXELS_MISSING.format(n=outside, total=int(wanted.sum()), file=file))
    return np.asarray(mask.extract(wanted))


class WritePredictionsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    run = traits.Str(mandatory=True, desc='folders, run id and notes, as JSON')
    model = traits.Str(mandatory=True)
    trials = File(exists=True, mandatory=True)
    metrics = File(exists=True, mandatory=True)
    predictions = File(exists=True, mandatory=True)
    null = File(exists=True, mandatory=True)
    info = File(exists=True, mandatory=True)
    generated = File(exists=True, desc='pictures that were made, where any were')
    mean_bold = File(exists=True, mandatory=True)
    tsnr = File(exists=True, mandatory=True)


class WritePredictions(Stage):
    """Write what a trained decoder said of new data, and the record for the report."""

    input_spec = WritePredictionsInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        run = json.loads(inputs.run)
        participant = ParticipantInput.from_json(inputs.participant)
        config = Config.model_validate_json(inputs.settings)
        writer = ProductWriter.for_participant(participant, Path(run['output_dir']))
        info = read_json(Path(inputs.info))
        log = writer.output_dir / f'sub-{participant.label}' / 'log'
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        trials = read_table(Path(inputs.trials))
        predictions = with_trials(read_table(Path(inputs.predictions)), trials)
        writer.copy(
            'metrics', Path(inputs.metrics).with_suffix('.json'), desc='applied', extension='.json'
        )
        null = None
        if info['observed'] is not None:
            file = log / f'sub-{participant.label}_task-{participant.task}_null.npy'
            copy_file(Path(inputs.null), file)
            null = r.NullResults(file, info['observed'], 'identification_top1')
        generation = None
        if isdefined(inputs.generated):
            generation = write_made(writer, Path(inputs.generated), trials)
        record = r.ParticipantResults(
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
            notes=(*run['notes'], f'a trained model was applied: {Path(inputs.model).name}'),
            warnings=tuple(info['warnings']),
            leaks=tuple(info['leaks']),
            space=writer.space,
            in_mni=writer.in_mni,
            voxels=r.VoxelResults(info['n_mask'], info['n_selected'], 'the voxels of the model'),
            trials=writer.table(
                'betas_events',
                trials.assign(stim_file=trials['stimulus']),
                columns=trial_columns(trials),
            ),
            # there are no series in NSD's own layout
            maps={}
            if not participant.has_series
            else {'tsnr': writer.image('tsnr', Path(inputs.tsnr))},
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold)),
            metrics=writer.copy('metrics', Path(inputs.metrics), desc='applied'),
            predictions=writer.table(
                'predictions',
                predictions,
                columns={k: v for k, v in PREDICTION_COLUMNS.items() if k in predictions},
                more={'desc': 'applied'},
            ),
            null=null,
            generation=generation,
            stimuli_dir=participant.stimuli_dir,
            features=dict(participant.features),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )
        target = results_path(writer.output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}


def connect_prediction(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize, model: Path
) -> Any:
    """Add the nodes that apply a decoder and connect them; return the node of the outputs."""
    record, everything = participant.to_json(), run.config.model_dump_json()
    makes = generation_model_of(model)
    if makes is None:
        run = replace(run, notes=(*run.notes, RETRIEVAL_ONLY.format(file=model.name)))
    plan, quality, betas, features = connect_responses(
        workflow, participant, run, size, hold_out=False
    )
    apply = node(
        ApplyDecoder(participant=record, settings=everything, model=str(model)), 'apply', run, size
    )
    outputs = node(
        WritePredictions(
            participant=record, settings=everything, run=run.record(), model=str(model)
        ),
        'outputs',
        run,
        size,
    )
    workflow.connect(
        [
            (plan, apply, [('trials', 'trials')]),
            (quality, apply, [('mask', 'mask')]),
            (betas, apply, [('betas', 'betas')]),
            (features, apply, [('features', 'features')]),
            (plan, outputs, [('trials', 'trials')]),
            (quality, outputs, [('mean_bold', 'mean_bold'), ('tsnr', 'tsnr')]),
            (apply, outputs, [(n, n) for n in ('metrics', 'predictions', 'null', 'info')]),
        ]
    )
    if makes is not None:
        generate = _generation(makes, participant, run, size)
        workflow.connect(
            [
                (plan, generate, [('trials', 'trials')]),
                (quality, generate, [('mask', 'mask')]),
                (betas, generate, [('betas', 'betas')]),
                (generate, outputs, [('result', 'generated')]),
            ]
        )
    return outputs


def _generation(
    model: Path, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Return the node that makes pictures; the published generator needs its weights."""
    from bids_neurodecode.models.weights import default_weights_dir

    weights = {}
    if generator_of(model) == 'published':
        weights = find_weights(run.weights_dir or default_weights_dir())
    interface = ApplyGeneration(
        participant=participant.to_json(),
        settings=run.config.model_dump_json(),
        model=str(model),
        weights=json.dumps(weights),
        device=run.device,
        use_gpu=run.device == 'cuda',
    )
    return node(interface, 'generate', run, size, threads=2)


__all__ = ['ApplyDecoder', 'WritePredictions', 'connect_prediction', 'model_columns']
