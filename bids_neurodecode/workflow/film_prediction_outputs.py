"""What trained models of films say of new data, under its names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.names import PRODUCTS, unique_labels
from bids_neurodecode.bids.provenance import sidecar, software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_image, write_json, write_text
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.files import read_json, read_table
from bids_neurodecode.workflow.film_network_outputs import write_examples, write_films
from bids_neurodecode.workflow.outputs import WriteOutput, run_results
from bids_neurodecode.workflow.reports import results_path
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from bids_neurodecode.report.results import NetworkResults, NullResults

DESCS = {'linear': 'predicted', 'network': 'networkpredicted'}
MODELS = {'linear': 'ridge regression with finite impulse responses', 'network': 'movie network'}
OF_FILM = 'Volumes as predicted from a film that begins at second 0; see StartTime'
OF_RUN = 'Volumes as predicted from the films of the run; see RunOnsets'
APPLIED = 'A trained model was applied: {name}.'
PREDICTED = 'Responses were predicted to {films}.'


class WriteFilmPredictionsInput(BaseInterfaceInputSpec):
    participant = traits.Str(mandatory=True, desc='record of the participant, as JSON')
    settings = traits.Str(mandatory=True, desc='all settings, as JSON')
    run = traits.Str(mandatory=True, desc='folders, run id and notes, as JSON')
    model = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    info = File(exists=True, mandatory=True)
    mean_bold = File(exists=True)
    tsnr = File(exists=True)


class WriteFilmPredictions(Stage):
    """Write predicted BOLD and reconstructed films, and the record for the report."""

    input_spec = WriteFilmPredictionsInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        inputs = self.inputs
        run = json.loads(inputs.run)
        participant = ParticipantInput.from_json(inputs.participant)
        config = Config.model_validate_json(inputs.settings)
        writer = writer_of(participant, Path(run['output_dir']), Path(inputs.model))
        table, info = read_table(Path(inputs.trials)), read_json(Path(inputs.info))
        found = Path(inputs.info).parent
        for name in DESCS:
            if (found / f'{name}.npy').exists():
                delay = config.delay.seconds if name == 'network' else 0.0
                write_series(writer, participant, table, found, name, info['period'], delay)
        record = self._record(participant, config, run, writer, table, info)
        target = results_path(writer.output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}

    def _record(
        self,
        participant: ParticipantInput,
        config: Config,
        run: dict[str, Any],
        writer: ProductWriter,
        table: pd.DataFrame,
        info: dict[str, Any],
    ) -> Any:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        found = Path(inputs.info).parent
        log = writer.output_dir / f'sub-{participant.label}' / 'log'
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        films = ', '.join(dict.fromkeys(table['film'].astype(str)))
        maps = {} if not isdefined(inputs.tsnr) else {'tsnr': Path(inputs.tsnr)}
        maps = {name: writer.image(name, file) for name, file in maps.items()}
        for name, key in (('linear', 'pearsonr'), ('network', 'network_r')):
            if name in info['judged']:
                file = found / f'{name}-r.nii.gz'
                maps[key] = writer.image('pearsonr', file, more={'desc': f'{name}applied'})
        network = write_applied_network(writer, participant, config, table, info, found)
        n_films = table.groupby('run')['showing'].nunique().to_dict()
        return r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system='movie',
            paradigm='movie',
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, n_films),
            derivatives=tuple(run['derivatives']),
            notes=(
                *run['notes'],
                APPLIED.format(name=Path(inputs.model).name),
                PREDICTED.format(films=films),
            ),
            warnings=tuple(info['warnings']),
            leaks=tuple(info['leaks']),
            space=writer.space,
            in_mni=writer.in_mni,
            voxels=r.VoxelResults(info['n_mask'], info['n_selected'], 'the voxels of the model'),
            maps=maps,
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold))
            if isdefined(inputs.mean_bold)
            else None,
            metrics=_metrics(writer, found) if info['scored'] else None,
            null=_null(log, participant, info, found),
            network=network,
            stimuli_dir=participant.stimuli_dir,
            features=dict(participant.features),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )


def writer_of(participant: ParticipantInput, output_dir: Path, model: Path) -> ProductWriter:
    """Return the writer; without runs, space and resolution are those in the model's sidecars."""
    if participant.runs:
        return ProductWriter.for_participant(participant, output_dir)
    from bids_neurodecode.workflow.film_model import facts_of

    facts = facts_of(model)
    says = facts.description
    entities = {'sub': participant.label, 'task': participant.task}
    writer = ProductWriter(output_dir, entities, says.get('space'), says.get('resolution'))
    return writer.in_space(facts.mask.space)


def write_series(
    writer: ProductWriter,
    participant: ParticipantInput,
    table: pd.DataFrame,
    folder: Path,
    name: str,
    period: float,
    delay: float,
) -> None:
    """Write the predicted series of each run, or of each film where there are no runs.

    What is predicted from the film of second t is the response of second t + ``delay``.
    """
    mask = VoxelMask.load(folder / f'{name}-mask.nii.gz')
    predicted = np.load(folder / f'{name}.npy', mmap_mode='r')
    labels = unique_labels(participant.stimuli)
    numbers = table['run'].to_numpy()
    for number in np.unique(numbers):
        mine = numbers == number
        rows = table[mine]
        times = rows['run_onset'].to_numpy(dtype=float) + delay
        if participant.runs:
            run = participant.runs[int(number)]
            of_run, more = writer.for_run(run.entities, run.sources), dict[str, str]()
            fields = {'Description': OF_RUN, 'RunOnsets': [round(float(x), 6) for x in times]}
        else:
            film = str(rows['film'].iloc[0])
            of_run, more = writer, {'acq': labels[film]}
            fields = {'Description': OF_FILM, 'StimFile': film}
        more = {'desc': DESCS[name], **more}
        image = mask.image(np.asarray(predicted[mine]))
        image.header['toffset'] = times[0]
        write_image(of_run.path('predicted', **more), image, repetition_time=period)
        fixed = {**PRODUCTS['predicted'].sidecar, 'SkullStripped': True, **fields}
        content = sidecar(
            sources=of_run.sources,
            fixed=fixed,
            **writer.place,
            TaskName=participant.task,
            RepetitionTime=period,
            StartTime=round(float(times[0]), 6),
            Delay=delay,
            Model=MODELS[name],
        )
        write_json(of_run.path('predicted', extension='.json', **more), content)


def write_applied_network(
    writer: ProductWriter,
    participant: ParticipantInput,
    config: Config,
    table: pd.DataFrame,
    info: dict[str, Any],
    folder: Path,
) -> NetworkResults | None:
    """Write the reconstructed films; return what the report shows of the network."""
    from bids_neurodecode.report.results import NetworkResults

    if 'n_network' not in info:
        return None
    if not participant.runs:
        return None
    frames = None
    if info['decoder']:
        write_films(writer, participant, table, folder)
        frames = write_examples(writer, participant, table, folder)
    return NetworkResults(
        mode=info['mode'],
        design=config.movie.design,
        perceptual=info['perceptual'],
        n_voxels=info['n_network'],
        n_parameters=info['parameters'],
        curves=None,
        voxels=writer.image(
            'reliable',
            folder / 'network-voxels.nii.gz',
            more={'label': 'network', 'desc': 'applied'},
            Description='Voxels that the movie network takes',
        ),
        frames=frames,
    )


def _metrics(writer: ProductWriter, folder: Path) -> Path:
    file = folder / 'metrics.tsv'
    writer.copy('metrics', file.with_suffix('.json'), desc='applied', extension='.json')
    return writer.copy('metrics', file, desc='applied')


def _null(
    log: Path, participant: ParticipantInput, info: dict[str, Any], folder: Path
) -> NullResults | None:
    from bids_neurodecode.report.results import NullResults

    if info['leaks'] or not (folder / 'null.npy').exists():
        return None
    target = log / f'sub-{participant.label}_task-{participant.task}_null.npy'
    copy_file(folder / 'null.npy', target)
    return NullResults(target, info['observed'], info['metric'])


__all__ = ['WriteFilmPredictions', 'write_series']
