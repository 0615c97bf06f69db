"""What the movie network made, under its names: maps, series, films, model, record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.bids.names import stimulus_path, unique_labels
from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.bids.video import beside, strip, write_picture, write_video
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.report.results import NetworkResults, VoxelTestResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.examples import pick_examples
from bids_neurodecode.systems.steps.publish import Publisher
from bids_neurodecode.systems.steps.records import Facts
from bids_neurodecode.workflow.files import read_record

DESC = 'network'
SIGNIFICANT = 'p by surrogates, adjusted for the false discovery rate, below .05'
EXAMPLES = 4
"""Frames of each kind (best, median, worst) that the report shows."""
VIDEO = (
    'Held-out frames, left as shown and right as reconstructed from the measured responses of '
    'one participant, one a volume'
)


@dataclass(frozen=True)
class NetworkAbout:
    """A network as the report names it."""

    mode: str
    perceptual: str
    n_voxels: int
    n_parameters: int


@dataclass(frozen=True)
class FilmStores:
    """The stores of the frames of films, and what the report says of them."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NetworkFacts(Facts):
    """What is said of a trained network."""

    about: NetworkAbout
    maps: tuple[str, ...]
    tables: tuple[str, ...]
    """What it relies on."""
    encoder: bool
    decoder: bool
    tests: VoxelTestResults | None
    """None where no voxel was tested."""
    observed: float | None
    """The score that was permuted."""
    null_metric: str


def write_network(
    publisher: Publisher, table: pd.DataFrame, result: Path, linear: pd.DataFrame
) -> tuple[NetworkResults, dict[str, Path], Path]:
    """Write everything of the network.

    Parameters
    ----------
    publisher
        Of the participant's products.
    table
        One row per sample of the films.
    result
        What the training left, its files beside it.
    linear
        Metrics of the linear models, which go under the network's in one table.

    Returns
    -------
    NetworkResults
        For the report.
    dict
        Maps by the names of the report.
    pathlib.Path
        The table of metrics.
    """
    folder, facts = result.parent, read_record(NetworkFacts, result)
    writer, config = publisher.writer, publisher.config
    maps = {
        key: writer.image(MAPS[key].product or key, folder / f'{key}.nii.gz', more=_DESC)
        for key in facts.maps
    }
    voxels = writer.image(
        'reliable',
        folder / 'voxels.nii.gz',
        more={'label': DESC, 'desc': 'chosen'},
        Description='Voxels that the movie network takes',
    )
    if facts.encoder:
        _write_encoding(publisher, table, folder, tested=facts.tests is not None)
    told: dict[str, Any] = vars(facts.about) | {
        name: writer.table(
            name,
            pd.read_csv(folder / f'{name}.tsv', sep='\t'),
            columns=f'network_{name}',
            more=_DESC,
        )
        for name in facts.tables
    }
    curves = pd.read_csv(folder / 'curves.tsv', sep='\t')
    network = NetworkResults(
        design=config.movie.design,
        curves=writer.table('curves', curves, columns='network_curves', more=_DESC),
        voxels=voxels,
        frames=write_frames(publisher, table, folder) if facts.decoder else None,
        **told,
    )
    writer.model(folder / 'model' / 'weights.safetensors', config, DESC, folder / 'model.md')
    writer.copy('model', folder / 'model' / 'model.json', desc=DESC, extension='.json')
    both = pd.concat([pd.read_csv(folder / 'metrics.tsv', sep='\t'), linear], ignore_index=True)
    return network, maps, writer.scores(both, DESC)


_DESC = {'desc': DESC}


def _write_encoding(
    publisher: Publisher, table: pd.DataFrame, folder: Path, *, tested: bool
) -> None:
    """Write which voxels are significant, and the predicted series of each run."""
    writer = publisher.writer
    if tested:
        writer.image(
            'significant',
            folder / 'significant.nii.gz',
            more=_DESC,
            Description=SIGNIFICANT,
        )
    mask = VoxelMask.load(folder / 'judged.nii.gz')
    rows, predicted = np.load(folder / 'rows.npy'), np.load(folder / 'predictions.npy')
    for run, mine, onsets in held_out_runs(publisher.participant, table, rows):
        times = onsets + publisher.config.delay.seconds
        writer.for_run(run.entities, run.sources).series(
            'predicted',
            mask.image(predicted[mine]),
            run.repetition_time,
            more={'desc': 'networkpredicted'},
            RunOnsets=[round(float(x), 6) for x in times],
            Model='movie network',
        )


def held_out_runs(
    participant: ParticipantInput, table: pd.DataFrame, rows: npt.NDArray[np.intp]
) -> Iterator[tuple[RunInput, npt.NDArray[np.bool_], npt.NDArray[np.float64]]]:
    """Yield each run that held-out samples are of, which these are, and their seconds in it.

    Parameters
    ----------
    participant
        Whose data.
    table
        One row per sample.
    rows
        Of held-out samples, (n_rows,).
    """
    held_out = table.iloc[rows]
    for number, run in enumerate(participant.runs):
        mine = held_out['run'].to_numpy() == number
        if mine.any():
            yield run, mine, held_out['run_onset'].to_numpy(dtype=float)[mine]


def write_frames(publisher: Publisher, table: pd.DataFrame, folder: Path) -> Path:
    """Write reconstructed films; return the table of the frames that the report shows.

    Parameters
    ----------
    publisher
        Of the participant's products.
    table
        One row per sample.
    folder
        Of what the network gave.
    """
    shown = table.iloc[np.load(folder / 'frames-rows.npy')]
    frames = [np.load(folder / f'frames-{x}.npy', mmap_mode='r') for x in ('truth', 'decoded')]
    _write_films(publisher, shown, frames)
    return _write_examples(publisher, shown, frames, folder)


def _write_films(
    publisher: Publisher, shown: pd.DataFrame, frames: Sequence[npt.NDArray[Any]]
) -> None:
    """Write each film's held-out frames beside their reconstruction (its first presentation)."""
    participant, writer = publisher.participant, publisher.writer
    period = participant.runs[0].repetition_time
    labels = unique_labels(participant.stimuli)
    for film in dict.fromkeys(shown['film'].astype(str)):
        of_film = (shown['film'].astype(str) == film).to_numpy()
        first = shown['showing'].to_numpy() == shown['showing'].to_numpy()[of_film].min()
        mine = np.flatnonzero(of_film & first)
        a, b = (np.asarray(each[mine]) for each in frames)
        video = _stimulus(writer, labels[film], 'video')
        write_video(video, beside(a, b), 1 / period)
        write_picture(_stimulus(writer, labels[film], 'image'), strip(a, b))
        write_json(
            video.with_suffix('.json'),
            {
                'Description': VIDEO,
                'StimFile': film,
                'FilmOnsets': [float(x) for x in shown['onset'].to_numpy()[mine]],
                'FrameRate': 1 / period,
            },
        )
        writer.written.append(video.with_suffix('.json'))


def _stimulus(writer: ProductWriter, label: str, suffix: Any) -> Path:
    path = writer.output_dir / stimulus_path(writer.entities, label, suffix, 'recon')
    writer.written.append(path)
    return path


def _write_examples(
    publisher: Publisher,
    shown: pd.DataFrame,
    frames: Sequence[npt.NDArray[Any]],
    folder: Path,
) -> Path:
    """Keep the frames that the report shows: a table, and ``.npy`` beside it."""
    similarity = np.load(folder / 'frames-similarity.npy')
    kinds, picked = pick_examples(similarity, EXAMPLES)
    examples = pd.DataFrame(
        {
            'kind': kinds,
            'film': shown['film'].iloc[picked].astype(str).to_numpy(),
            'onset': shown['onset'].to_numpy()[picked],
            'similarity': similarity[picked],
        }
    )
    np.save(folder / 'examples.npy', np.stack([each[picked] for each in frames], axis=1))
    write_tsv(folder / 'examples.tsv', examples)
    publisher.keep(folder / 'examples.npy', 'frames')
    return publisher.keep(folder / 'examples.tsv', 'frames')
