"""Two-stage reconstruction in the graph: one node after the linear decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.workflow.generation_choice import Choice, metric_weights
from bids_neurodecode.workflow.nodes import RunSettings, node
from bids_neurodecode.workflow.process import content_key, train_in_process
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.stage import Stage

MODULE = 'bids_neurodecode.workflow.generation_job'
WHAT = 'making of pictures'
REMEDY = (
    'give the run more memory, fewer voxels (selection.rule = "top"), or '
    'reconstruction.generator = "none"'
)
USED = ('reconstruction', 'selection', 'ridge', 'features', 'split', 'betas', 'seed')
"""Settings that what is trained depends on."""


class GeneratePicturesInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    generator = traits.Str(mandatory=True, desc='small or published')
    why = traits.Str(mandatory=True, desc='why this generator, for the report')
    weights = traits.Str('{}', usedefault=True, desc='files of its weights by name, as JSON')
    networks = traits.Str('{}', usedefault=True, desc='weights of networks of metrics, as JSON')
    generators = Directory(mandatory=True, desc='where trained priors and refiners are kept')
    cache = Directory(mandatory=True, desc='where features are kept by content')
    betas = File(exists=True, mandatory=True)
    tuned = InputMultiPath(File(exists=True), mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    features = File(exists=True, mandatory=True)
    tsnr_runs = File(exists=True, mandatory=True)
    within = File(exists=True)
    labels = File(exists=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class GeneratePicturesOutput(TraitedSpec):
    result = File(exists=True, desc='what was made, beside which everything lies')


class GeneratePictures(Stage):
    """Make pictures of held-out responses in a process of its own, and judge them.

    Checkpoints of regressors lie beside the node's folder under a key of all that the training
    depends on; priors and refiners, which depend on pictures alone, lie in a folder that all
    participants share. A killed run goes on from them, whatever killed it.
    """

    input_spec = GeneratePicturesInput
    output_spec = GeneratePicturesOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        job = self._job()
        result = train_in_process(
            folder, job, job_key(job), module=MODULE, what=WHAT, remedy=REMEDY
        )
        return {'result': result}

    def _job(self) -> dict[str, Any]:
        inputs = self.inputs
        plain = ('participant', 'settings', 'generator', 'why', 'generators', 'cache', 'device')
        files = ('betas', 'mask', 'trials', 'parts', 'plan', 'features', 'tsnr_runs')
        return {
            **{name: str(getattr(inputs, name)) for name in (*plain, *files)},
            **{name: given(getattr(inputs, name)) for name in ('within', 'labels')},
            **{name: json.loads(getattr(inputs, name)) for name in ('weights', 'networks')},
            'tuned': list(inputs.tuned),
        }


def job_key(job: dict[str, Any]) -> str:
    """Return a hash of what a training depends on: settings, and the content of its files."""
    config = Config.model_validate_json(job['settings'])
    words = [str(getattr(config, name)) for name in USED]
    words += [job['generator'], job['device'], job['participant'], json.dumps(job['weights'])]
    names = ('betas', 'mask', 'trials', 'parts', 'features', 'tsnr_runs', 'within', 'labels')
    return content_key(words, [*job['tuned'], *(job[name] for name in names if job[name])])


def connect_generation(
    workflow: Any,
    participant: ParticipantInput,
    run: RunSettings,
    size: DataSize,
    choice: Choice,
    nodes: dict[str, Any],
) -> None:
    """Add the node that makes pictures, unless none are made, and connect it.

    Parameters
    ----------
    nodes
        ``plan``, ``quality``, ``betas``, ``features`` and ``outputs``.
    """
    if choice.name == 'none':
        return
    generate = node(
        GeneratePictures(
            participant=participant.to_json(),
            settings=run.config.model_dump_json(),
            generator=choice.name,
            why=choice.why,
            weights=json.dumps(dict(choice.weights)),
            networks=json.dumps(
                metric_weights(run.weights_dir, run.config.reconstruction.protocol)
            ),
            generators=str(run.work_dir / 'generators'),
            cache=str(run.work_dir / 'features'),
            device=run.device,
            use_gpu=run.device == 'cuda',
        ),
        'generate',
        run,
        size,
        threads=2,
    )
    workflow.connect(
        [
            (nodes['plan'], generate, [(name, name) for name in ('trials', 'parts', 'plan')]),
            (nodes['quality'], generate, [('mask', 'mask'), ('tsnr_runs', 'tsnr_runs')]),
            (nodes['betas'], generate, [('betas', 'betas'), ('tuned', 'tuned')]),
            (nodes['features'], generate, [('features', 'features')]),
            (generate, nodes['outputs'], [('result', 'generated')]),
        ]
    )
    atlas = workflow.get_node('atlas')
    if atlas is not None:
        both = [('within', 'within'), ('labels', 'labels')]
        workflow.connect([(atlas, generate, both)])


def given(value: Any) -> str:
    """Return the file of an optional input; nothing where it was not given."""
    return str(value) if isdefined(value) else ''


__all__ = ['GeneratePictures', 'connect_generation', 'job_key']
