"""What trained models of films say of new data, under its names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.names import PRODUCTS, unique_labels
from bids_neurodecode.bids.provenance import sidecar
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_image, write_json
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.steps.network_outputs import write_examples, write_films
from bids_neurodecode.systems.steps.publish import Publisher
from bids_neurodecode.workflow.files import read_json
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import ALL, step

if TYPE_CHECKING:
    from bids_neurodecode.report.results import NetworkResults

DESCS = {'linear': 'predicted', 'network': 'networkpredicted'}
MODELS = {'linear': 'ridge regression with finite impulse responses', 'network': 'movie network'}
OF_FILM = 'Volumes as predicted from a film that begins at second 0; see StartTime'
OF_RUN = 'Volumes as predicted from the films of the run; see RunOnsets'
APPLIED = 'A trained model was applied: {name}.'
PREDICTED = 'Responses were predicted to {films}.'


@step('outputs', makes=('results',), settings=ALL, always=True, memory=lambda size: size.series_gb)
def publish_film_predictions(
    participant: ParticipantInput,
    config: Config,
    call: Call,
    model: str,
    trials: pd.DataFrame,
    applied: Path,
    mean_bold: Path | None = None,
    tsnr: Path | None = None,
) -> Mapping[str, object]:
    """Write predicted BOLD and reconstructed films, and the record for the report.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    call
        Folders, notes and id of the call.
    model
        File of the trained model.
    trials
        One row per trial.
    applied
        File of what the model gave.
    mean_bold
        Map of the mean series; None without BOLD.
    tsnr
        Map of the temporal signal-to-noise ratio; None without BOLD.
    """
    from bids_neurodecode.report import results as r

    writer = writer_of(participant, call.output_dir, Path(model))
    publisher = Publisher(participant, call, config, writer)
    info, found = read_json(applied), applied.parent
    for name in DESCS:
        if (found / f'{name}.npy').exists():
            delay = config.delay.seconds if name == 'network' else 0.0
            write_series(writer, participant, trials, found, name, info['period'], delay)
    films = ', '.join(dict.fromkeys(trials['film'].astype(str)))
    maps = {} if tsnr is None else {'tsnr': writer.image('tsnr', tsnr)}
    for name, key in (('linear', 'pearsonr'), ('network', 'network_r')):
        if name in info['judged']:
            file = found / f'{name}-r.nii.gz'
            maps[key] = writer.image('pearsonr', file, more={'desc': f'{name}applied'})
    null = found / 'null.npy'
    kept = None
    if null.exists() and not info['leaks']:
        file = publisher.keep(null, 'null')
        kept = r.NullResults(file, info['observed'], info['metric'])
    record = publisher.record(
        'movie',
        n_trials=trials.groupby('run')['showing'].nunique().to_dict(),
        notes=(APPLIED.format(name=Path(model).name), PREDICTED.format(films=films)),
        warnings=info['warnings'],
        leaks=info['leaks'],
        voxels=r.VoxelResults(info['n_mask'], info['n_selected'], 'the voxels of the model'),
        maps=maps,
        mean_bold=None if mean_bold is None else writer.image('meanbold', mean_bold),
        metrics=_metrics(writer, found) if info['scored'] else None,
        null=kept,
        network=write_applied_network(writer, participant, config, trials, info, found),
        stimuli_dir=participant.stimuli_dir,
    )
    return publisher.finish(record)


def writer_of(participant: ParticipantInput, output_dir: Path, model: Path) -> ProductWriter:
    """Return the writer; without runs, space and resolution are those in the model's sidecars.

    Parameters
    ----------
    participant
        Whose data.
    output_dir
        Of the run.
    model
        File of the trained model.
    """
    if participant.runs:
        return ProductWriter.for_participant(participant, output_dir)
    from bids_neurodecode.systems.movie.steps.model import facts_of

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

    Parameters
    ----------
    writer
        Of the participant's products.
    participant
        Whose data.
    table
        One row per sample.
    folder
        Of what the model gave.
    name
        Of the model.
    period
        Seconds of a volume.
    delay
        Seconds.
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
    """Write the reconstructed films; return what the report shows of the network.

    Parameters
    ----------
    writer
        Of the participant's products.
    participant
        Whose data.
    config
        The settings.
    table
        One row per sample.
    info
        What is said of the result.
    folder
        Of what the network gave.
    """
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
