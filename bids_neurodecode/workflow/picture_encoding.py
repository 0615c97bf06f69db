"""The part of the graph for encoding models of single pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.workflow.atlases import connect_atlas
from bids_neurodecode.workflow.encoding_features import connect_bands
from bids_neurodecode.workflow.encoding_outputs import WriteEncoding
from bids_neurodecode.workflow.encoding_training import run_job
from bids_neurodecode.workflow.interfaces import Reliability
from bids_neurodecode.workflow.nodes import RunSettings, node
from bids_neurodecode.workflow.outputs import given
from bids_neurodecode.workflow.own_features import with_own_features
from bids_neurodecode.workflow.pictures import connect_betas
from bids_neurodecode.workflow.process import RESULT, content_key, train_in_process
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.stage import Stage

MODULE = 'bids_neurodecode.workflow.encoding_training'
WHAT = 'training of the encoding network'
REMEDY = 'choose encoding.voxels = "mask", regions of an atlas, or a smaller network'
REGRESSIONS = frozenset({'ridge', 'banded', 'shared'})


class EncodePicturesInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    model = traits.Str(mandatory=True, desc='name of the encoding model')
    betas = File(exists=True, mandatory=True)
    tuned = InputMultiPath(File(exists=True), mandatory=True)
    beta_maps = InputMultiPath(File(exists=True))
    beta_info = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    features = InputMultiPath(File(exists=True), mandatory=True, desc='a file a feature space')
    within = File(exists=True)
    labels = File(exists=True)
    regions = File(exists=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class EncodePicturesOutput(TraitedSpec):
    result = File(exists=True, desc='what was found, beside which everything lies')


class EncodePictures(Stage):
    """Fit and judge an encoding model fold by fold, then fit it once on everything.

    A network runs in a process of its own. Its checkpoints lie beside the node's folder under a
    key of all that the training depends on, so that a killed run goes on from them.
    """

    input_spec = EncodePicturesInput
    output_spec = EncodePicturesOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        job = self._job()
        if job['model'] in REGRESSIONS:
            run_job({**job, 'checkpoints': ''}, folder)
            return {'result': folder / RESULT}
        result = train_in_process(
            folder, job, job_key(job), module=MODULE, what=WHAT, remedy=REMEDY
        )
        return {'result': result}

    def _job(self) -> dict[str, Any]:
        inputs = self.inputs
        plain = ('participant', 'settings', 'model', 'device')
        files = ('betas', 'beta_info', 'mask', 'trials', 'parts', 'plan')
        shapes = [f for f in given(inputs.beta_maps) if Path(f).name.startswith('hrfindex')]
        job = {name: getattr(inputs, name) for name in (*plain, *files)}
        job |= {name: _optional(getattr(inputs, name)) for name in ('within', 'labels', 'regions')}
        return {
            **job,
            'tuned': list(inputs.tuned),
            'features': list(inputs.features),
            'hrfindex': shapes[0] if shapes else '',
        }


def job_key(job: dict[str, Any]) -> str:
    """Return a hash of what a training depends on: settings, and the content of its files."""
    config = Config.model_validate_json(job['settings'])
    used = ('encoding', 'features', 'ridge', 'split', 'seed')
    words = [job['model'], job['device'], *(str(getattr(config, name)) for name in used)]
    files = [job[name] for name in ('betas', 'mask', 'trials', 'parts', 'within') if job[name]]
    return content_key(words, [*files, *job['tuned'], *job['features']])


def connect_picture_encoding(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add the nodes of picture encoding and connect them; return the node of the outputs.

    Ridge regression stands beside every other model.
    """
    run = replace(run, config=with_own_features(run.config, participant))
    plan, quality, betas = connect_betas(workflow, participant, run, size)
    bands = connect_bands(workflow, participant, run, size)
    if run.config.split.by == 'cluster':
        workflow.connect(bands, 'out', plan, 'features')
    reliability = node(Reliability(), 'reliability', run, size)
    outputs = node(
        WriteEncoding(
            participant=participant.to_json(),
            settings=run.config.model_dump_json(),
            run=run.record(),
        ),
        'outputs',
        run,
        size,
    )
    main = run.config.encoding.model
    encode = _encoding_node('encode', main, participant, run, size)
    models = {'encode': encode}
    if main != 'ridge':
        models['ridge'] = _encoding_node('ridge', 'ridge', participant, run, size)
    for name, each in models.items():
        workflow.connect(
            [
                (plan, each, [(x, x) for x in ('trials', 'parts', 'plan')]),
                (quality, each, [('mask', 'mask')]),
                (betas, each, [('betas', 'betas'), ('tuned', 'tuned'), ('maps', 'beta_maps')]),
                (betas, each, [('info', 'beta_info')]),
                (bands, each, [('out', 'features')]),
                (each, outputs, [('result', name)]),
            ]
        )
    workflow.connect(
        [
            (betas, reliability, [('betas', 'betas')]),
            (quality, reliability, [('mask', 'mask')]),
            (plan, reliability, [('trials', 'trials')]),
            (plan, outputs, [('trials', 'trials'), ('plan', 'plan')]),
            (quality, outputs, [(x, x) for x in ('mask', 'mean_bold', 'tsnr')]),
            (betas, outputs, [('betas', 'betas'), ('maps', 'beta_maps'), ('info', 'beta_info')]),
            (reliability, outputs, [('maps', 'reliability_maps')]),
        ]
    )
    connect_atlas(workflow, participant, run, size, quality=quality, use=encode, outputs=outputs)
    _share_atlas(workflow, run.config, models)
    return outputs


def _encoding_node(
    name: str, model: str, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    interface = EncodePictures(
        participant=participant.to_json(),
        settings=run.config.model_dump_json(),
        model=model,
        device=run.device,
        use_gpu=run.device == 'cuda',
    )
    return node(interface, name, run, size, threads=2)


def _share_atlas(workflow: Any, config: Config, models: dict[str, Any]) -> None:
    """Give all models the regions of the atlas; voxels are restricted where some are chosen."""
    atlas = workflow.get_node('atlas')
    if atlas is None:
        return
    if 'ridge' in models:
        workflow.connect(atlas, 'within', models['ridge'], 'within')
    for each in models.values():
        workflow.connect([(atlas, each, [('labels', 'labels'), ('table', 'regions')])])


def _optional(value: Any) -> str:
    return str(value) if isdefined(value) else ''


__all__ = ['EncodePictures', 'connect_picture_encoding', 'job_key']
