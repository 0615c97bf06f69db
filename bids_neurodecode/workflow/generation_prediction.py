"""Predict mode: pictures of new responses, where a model that makes some lies beside the decoder.

The model is applied in a process of its own (``python -m ...workflow.generation_prediction``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.workflow.files import read_table, save_json
from bids_neurodecode.workflow.process import run_in_process, serve
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.systems.generation import Applied

MODULE = 'bids_neurodecode.workflow.generation_prediction'
WHAT = 'making of pictures'
REMEDY = 'give the run more memory'
RETRIEVAL_ONLY = (
    'No model that makes pictures lies beside {file}: pictures were retrieved, not made. Train '
    'with another reconstruction.generator than "none" to have them made.'
)
NOT_FINITE = 'The responses hold values that are not finite in {n} of the voxels of {file}.'
APPLIED = 'Pictures are made by the trained model {file}.'
FEWEST = 2
"""Pictures that can be scored."""
FEWEST_PIXELS = 64
SPACES = {True: 'repeat-average', False: 'single-trial'}


class ApplyGenerationInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    model = File(exists=True, mandatory=True)
    weights = traits.Str('{}', usedefault=True, desc='files of weights by name, as JSON')
    betas = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    device = traits.Str('cpu', usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc='counted against the GPUs')


class ApplyGenerationOutput(TraitedSpec):
    result = File(exists=True, desc='what was made, beside which everything lies')


class ApplyGeneration(Stage):
    """Make pictures of new responses, in a process of its own."""

    input_spec = ApplyGenerationInput
    output_spec = ApplyGenerationOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        inputs = self.inputs
        names = ('participant', 'settings', 'model', 'betas', 'mask', 'trials', 'device')
        job = {name: str(getattr(inputs, name)) for name in names}
        save_json(folder / 'job.json', {**job, 'weights': json.loads(inputs.weights)})
        label = ParticipantInput.from_json(inputs.participant).label
        return {'result': run_in_process(folder, MODULE, what=WHAT, label=label, remedy=REMEDY)}


def run_job(job: Mapping[str, Any], folder: Path) -> None:
    """Load, make pictures, compare them with what was shown, save."""
    from bids_neurodecode.systems.generation import apply_generation
    from bids_neurodecode.workflow.generation_model import load_model
    from bids_neurodecode.workflow.prediction import model_columns

    config = Config.model_validate_json(job['settings'])
    model, voxels = load_model(Path(job['model']), job['weights'], config, job['device'])
    mask = VoxelMask.load(Path(job['mask']))
    columns = model_columns(VoxelMask.from_state(voxels), mask, job['model'])
    table = read_table(Path(job['trials']))
    values = np.load(job['betas'], mmap_mode='r')
    table = table.assign(sample=np.arange(len(table)))
    samples = Samples(Responses(values, mask), table).voxels(columns)
    bad = int((~np.isfinite(samples.values)).any(axis=0).sum())
    if bad:
        raise DataError(NOT_FINITE.format(n=bad, file=job['model']))
    average = bool(table['stimulus'].duplicated().any())
    shown = samples.averaged() if average else samples
    names = [Path(str(name)).with_suffix('').as_posix() for name in shown.table['stimulus']]
    made = apply_generation(model, shown.values, names, config)
    for stage in ('initial', 'final'):
        np.save(folder / f'{stage}.npy', getattr(made, stage))
    pictures = table_of(shown.table, names, SPACES[average])
    size = max(FEWEST_PIXELS, made.final.shape[1])
    participant = ParticipantInput.from_json(job['participant'])
    protocol = config.reconstruction.protocol
    compared = compare(participant, pictures, made, size, folder, protocol)
    write_tsv(folder / 'pictures.tsv', compared)
    told = model.describe()
    save_json(
        folder / 'result.json',
        {
            'generator': told['generator']['generator'],
            'why': APPLIED.format(file=Path(job['model']).name),
            'regressor': told['latents']['regressor'],
            'facts': [],
            'warnings': [],
        },
    )


def table_of(shown: pd.DataFrame, names: list[str], space: str) -> pd.DataFrame:
    """Return one row a picture: what it was made from."""
    table = shown.reset_index(drop=True)
    repeats = table['n_repeats'] if 'n_repeats' in table.columns else 1
    made = table[['stimulus', 'sample']]
    made = made.assign(picture=names, space=space, fold=0, n_repeats=repeats)
    return made[['picture', 'space', 'fold', 'sample', 'stimulus', 'n_repeats']]


def compare(
    participant: ParticipantInput,
    table: pd.DataFrame,
    made: Applied,
    size: int,
    folder: Path,
    protocol: str,
) -> pd.DataFrame:
    """Load what was shown, keep it beside the pictures, and add scores to their table."""
    from bids_neurodecode.stimuli.images import load_images
    from bids_neurodecode.systems.generation_applied import pair_scores

    files = [participant.stimuli_dir / str(name) for name in table['stimulus']]
    truth = load_images(files, size=size)
    np.save(folder / 'truth.npy', truth)
    if len(truth) < FEWEST:
        return table
    return table.assign(**pair_scores(truth, made.initial, made.final, protocol))


__all__ = ['RETRIEVAL_ONLY', 'ApplyGeneration']

if __name__ == '__main__':
    sys.exit(serve(run_job))
