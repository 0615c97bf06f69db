"""What trained models of films say of new data, under its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.names import unique_labels
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.report.results import NetworkResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.steps.network_outputs import NetworkAbout, write_frames
from bids_neurodecode.systems.movie.steps.outputs import films_of_runs
from bids_neurodecode.systems.steps.publish import APPLIED, Applied, Publisher, publishing
from bids_neurodecode.systems.steps.records import ModelFacts
from bids_neurodecode.workflow.files import read_record

DESCS = {'linear': 'predicted', 'network': 'networkpredicted'}
MODELS = {'linear': 'ridge regression with finite impulse responses', 'network': 'movie network'}
OF_FILM = 'Volumes as predicted from a film that begins at second 0; see StartTime'
OF_RUN = 'Volumes as predicted from the films of the run; see RunOnsets'
PREDICTED = 'Responses were predicted to {films}.'


@dataclass(frozen=True, kw_only=True)
class AppliedFacts(ModelFacts):
    """What is said of models of films that were applied."""

    period: float
    """Seconds of a volume."""
    judged: tuple[str, ...]
    """Models whose predictions were held against responses."""
    scored: bool
    decoder: bool
    network: NetworkAbout | None
    """None where there is none."""


@publishing(lambda size: size.series_gb)
def publish_film_predictions(
    trained: Applied, trials: pd.DataFrame, applied: Path
) -> Mapping[str, object]:
    """Write predicted BOLD and reconstructed films, and the record for the report.

    Parameters
    ----------
    trained
        Which model, applied to whose data.
    trials
        One row per trial.
    applied
        File of what the model gave.
    """
    model = Path(trained.model)
    writer = writer_of(trained.participant, trained.call.output_dir, model)
    publisher = trained.publisher(writer)
    facts, found = read_record(AppliedFacts, applied), applied.parent
    for name in DESCS:
        if (found / f'{name}.npy').exists():
            write_series(publisher, trials, found, name, facts.period)
    films = ', '.join(dict.fromkeys(trials['film'].astype(str)))
    maps = trained.maps(writer)
    for name, key in (('linear', 'pearsonr'), ('network', 'network_r')):
        if name in facts.judged:
            file = found / f'{name}-r.nii.gz'
            maps[key] = writer.image('pearsonr', file, more={'desc': f'{name}applied'})
    null = found / 'null.npy'
    return trained.finish(
        publisher,
        'movie',
        leaks=facts.leaks,
        voxels=facts.voxels,
        n_trials=films_of_runs(trials),
        notes=(APPLIED.format(name=model.name), PREDICTED.format(films=films)),
        warnings=facts.warnings,
        maps=maps,
        metrics=writer.metrics(found / 'metrics.tsv', 'applied') if facts.scored else None,
        null=publisher.null(null, facts) if null.exists() and not facts.leaks else None,
        network=write_applied_network(publisher, trials, facts, found),
    )


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
    publisher: Publisher, table: pd.DataFrame, folder: Path, name: str, period: float
) -> None:
    """Write the predicted series of each run, or of each film where there are no runs.

    What the network predicts from the film of second t is the response a delay later.

    Parameters
    ----------
    publisher
        Of the participant's products.
    table
        One row per sample.
    folder
        Of what the model gave.
    name
        Of the model.
    period
        Seconds of a volume.
    """
    participant, writer = publisher.participant, publisher.writer
    delay = publisher.config.delay.seconds if name == 'network' else 0.0
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
        of_run.series(
            'predicted',
            image,
            period,
            more=more,
            fixed=fields,
            StartTime=round(float(times[0]), 6),
            Delay=delay,
            Model=MODELS[name],
        )


def write_applied_network(
    publisher: Publisher, table: pd.DataFrame, facts: AppliedFacts, folder: Path
) -> NetworkResults | None:
    """Write the reconstructed films; return what the report shows of the network.

    Parameters
    ----------
    publisher
        Of the participant's products.
    table
        One row per sample.
    facts
        What is said of the result.
    folder
        Of what the network gave.
    """
    about = facts.network
    if about is None or not publisher.participant.runs:
        return None
    return NetworkResults(
        design=publisher.config.movie.design,
        **vars(about),
        curves=None,
        voxels=publisher.writer.image(
            'reliable',
            folder / 'network-voxels.nii.gz',
            more={'label': 'network', 'desc': 'applied'},
            Description='Voxels that the movie network takes',
        ),
        frames=write_frames(publisher, table, folder) if facts.decoder else None,
    )
