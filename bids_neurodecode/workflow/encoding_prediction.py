"""Predict mode of encoding: a trained model on new pictures, with or without their BOLD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.encoding_features import connect_bands
from bids_neurodecode.workflow.encoding_predicted import WritePredicted
from bids_neurodecode.workflow.encoding_training import load_bands, load_samples, save_maps
from bids_neurodecode.workflow.files import read_table, save_json
from bids_neurodecode.workflow.nodes import RunSettings, node
from bids_neurodecode.workflow.pictures import connect_betas
from bids_neurodecode.workflow.prediction import model_columns
from bids_neurodecode.workflow.process import RESULT
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.seen import compare_runs, in_sample, pictures_note, runs_of
from bids_neurodecode.workflow.stage import Stage

NO_ENCODER = (
    'The model {file} is of the kind {kind!r}, and an encoding model of pictures is needed. Give '
    'the output folder of a training run with --system encoding.'
)
HIDDEN = frozenset({'encoder', 'stimuli', 'runs'})
"""What of a model's description the outputs do not need."""
NOT_SCORED = 'Fewer than three pictures were shown: predictions were not scored.'


class ApplyEncoderInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    model = File(exists=True, mandatory=True)
    features = InputMultiPath(File(exists=True), mandatory=True, desc='a file a feature space')
    betas = File(exists=True, desc='measured betas, where there is BOLD')
    mask = File(exists=True)
    trials = File(exists=True)


class ApplyEncoderOutput(TraitedSpec):
    result = File(exists=True, desc='what was predicted, beside which everything lies')


class ApplyEncoder(Stage):
    """Load a model, predict the responses to all pictures, judge them where BOLD is there."""

    input_spec = ApplyEncoderInput
    output_spec = ApplyEncoderOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.models.storage import load_arrays
        from bids_neurodecode.systems.encoders import load_encoder, predict

        inputs = self.inputs
        config = Config.model_validate_json(inputs.settings)
        participant = ParticipantInput.from_json(inputs.participant)
        arrays, about = load_arrays(Path(inputs.model))
        if about.get('kind') != 'picture-encoder':
            raise DataError(NO_ENCODER.format(file=inputs.model, kind=about.get('kind')))
        mask = VoxelMask.from_state(arrays)
        state = {
            name.removeprefix('encoder.'): values
            for name, values in arrays.items()
            if name.startswith('encoder.')
        }
        encoder = load_encoder(state, about['encoder'])
        bands = load_bands(inputs.features, participant, config)
        mask.save(folder / 'voxels.nii.gz')
        np.save(folder / 'predicted.npy', predict(encoder, bands, participant.stimuli))
        if 'hrfindex' in arrays:
            np.save(folder / 'hrfindex.npy', arrays['hrfindex'].astype(np.intp))
        info: dict[str, Any] = {
            'about': {name: x for name, x in about.items() if name not in HIDDEN},
            'warnings': list(pictures_note(participant, arrays, about['stimuli'], inputs.model)),
            'n_selected': mask.n_voxels,
            'leaks': [],
        }
        if isdefined(inputs.betas):
            table = read_table(Path(inputs.trials))
            runs = runs_of(inputs.mask, participant, inputs.betas, table)
            seen = compare_runs(runs, about, inputs.model)
            info['warnings'] = [*seen.warnings, *info['warnings']]
            info['leaks'] = list(seen.leaks)
            info |= self._judge(encoder, bands, mask, info, config, folder)
        return {'result': save_json(folder / RESULT, info)}

    def _judge(
        self,
        encoder: Any,
        bands: Any,
        mask: VoxelMask,
        info: dict[str, Any],
        config: Config,
        folder: Path,
    ) -> dict[str, Any]:
        """Hold predictions against measured betas; return what to add to ``info``."""
        from bids_neurodecode.evaluation.metrics import describe, scores_table
        from bids_neurodecode.systems.encoding_applying import apply_encoder

        inputs = self.inputs
        measured = VoxelMask.load(Path(inputs.mask))
        columns = model_columns(mask, measured, inputs.model)
        samples = load_samples(inputs.betas, measured, read_table(Path(inputs.trials)))
        found = apply_encoder(
            encoder,
            samples.voxels(columns),
            bands,
            config.evaluation,
            model=info['about']['model'],
            threshold=config.encoding.threshold,
            rng=np.random.default_rng(config.seed),
        )
        more: dict[str, Any] = {'n_mask': measured.n_voxels}
        if found is None:
            return more | {'warnings': [*info['warnings'], NOT_SCORED]}
        scores = in_sample(found.scores) if info['leaks'] else found.scores
        write_tsv(folder / 'metrics.tsv', scores_table(scores))
        write_json(folder / 'metrics.json', describe(scores))
        write_tsv(folder / 'predictions.tsv', found.samples)
        examples, volumes = found.examples
        write_tsv(folder / 'examples.tsv', examples)
        arrays: dict[str, Any] = {
            'examples': volumes,
            'null': found.null,
            'null_r': found.maps.null,
        }
        for name, values in arrays.items():
            np.save(folder / f'{name}.npy', values)
        headline = next(s for s in scores if s.metric == 'identification_top1')
        return more | {
            'space': found.maps.space,
            'maps': save_maps(found.maps, None, mask, folder, tested=not info['leaks']),
            'observed': headline.value,
            'null_metric': headline.metric,
            'warnings': [*info['warnings'], *found.notes],
        }


def connect_encoding_prediction(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize, model: Path
) -> Any:
    """Add the nodes that apply an encoding model; return the node of the outputs."""
    record, everything = participant.to_json(), run.config.model_dump_json()
    apply = node(
        ApplyEncoder(participant=record, settings=everything, model=str(model)), 'apply', run, size
    )
    outputs = node(
        WritePredicted(
            participant=record, settings=everything, run=run.record(), model=str(model)
        ),
        'outputs',
        run,
        size,
    )
    bands = connect_bands(workflow, participant, run, size)
    workflow.connect(
        [
            (bands, apply, [('out', 'features')]),
            (apply, outputs, [('result', 'result')]),
        ]
    )
    if participant.runs:
        plan, quality, betas = connect_betas(workflow, participant, run, size, hold_out=False)
        workflow.connect(
            [
                (plan, apply, [('trials', 'trials')]),
                (quality, apply, [('mask', 'mask')]),
                (betas, apply, [('betas', 'betas')]),
                (plan, outputs, [('trials', 'trials')]),
                (quality, outputs, [('mean_bold', 'mean_bold'), ('tsnr', 'tsnr')]),
                (betas, outputs, [('info', 'beta_info')]),
            ]
        )
    return outputs


__all__ = ['ApplyEncoder', 'connect_encoding_prediction']
