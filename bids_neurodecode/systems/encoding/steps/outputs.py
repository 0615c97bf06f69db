"""What encoding of images publishes: derivatives under their names, and the report's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.bids.names import clean_label, told_apart
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.metrics import scores_of, scores_table
from bids_neurodecode.report.results import EncodingResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.encoding.steps.runs import (
    HELD_OUT,
    NO_SHAPES,
    PredictedRun,
    RunWriter,
    write_betas,
)
from bids_neurodecode.systems.steps.publish import (
    Measured,
    Publisher,
    publish_trials,
    publishing,
    with_model,
)
from bids_neurodecode.systems.steps.records import BetaFacts, ModelFacts
from bids_neurodecode.systems.steps.responses import SelectionFacts, publish_reliable
from bids_neurodecode.workflow.files import load_map, read_record, read_table

VOXELS = 'voxels.nii.gz'
"""Beside what a model found: the voxels that it predicts."""
DESCS = {'linear': 'linearhead'}
"""Models whose outputs carry another name: ``desc-linear`` is the linear decoder."""
ENCODERS = frozenset({'ridge', 'banded', 'linearhead', 'mlp', 'siren', 'cnn', 'shared'})
"""The ``desc`` of all encoding models."""
SIGNIFICANT = 'Permutation p, adjusted for the false discovery rate, below .05'
UNIQUE = 'Voxels of which the feature space {band} explains a part that no other does (FDR .05)'
BETAS = (
    'Predicted response amplitudes of held-out trials, each by a model that did not see it, one '
    'volume a row of the events table beside it'
)


@dataclass(frozen=True, kw_only=True)
class EncodingFacts(ModelFacts):
    """What is said of an encoding model of images."""

    model: str
    space: str
    """Of the maps and scores."""
    maps: tuple[str, ...]
    n_parameters: int | None = None
    """Of a network."""


def desc_of(model: str) -> str:
    """Return the ``desc`` of a model's outputs."""
    return DESCS.get(model, model)


@publishing(lambda size: 0.2 + size.written_gb)
def publish_encoding(
    measured: Measured,
    encoded: Path,
    ridge: Path | None = None,
    selected: Path | None = None,
    selection_info: SelectionFacts | None = None,
) -> Mapping[str, object]:
    """Write the derivatives of image encoding, and the record for the report.

    Parameters
    ----------
    measured
        What was measured, and where it is written.
    encoded
        File of what the encoding model found.
    ridge
        File of what ridge regression found; None: it was not fitted beside.
    selected
        Map of the chosen voxels; None: they were not chosen.
    selection_info
        How voxels were chosen; None: they were not.
    """
    facts = read_record(EncodingFacts, encoded)
    plan, participant = measured.plan, measured.participant
    trials, beta_info, publisher = plan.table, measured.beta_info, measured.publisher
    desc, writer = desc_of(facts.model), publisher.writer
    maps = measured.publish()
    encoding = publish_model(publisher, encoded, ridge, facts, trials, beta_info)
    notes: tuple[str, ...] = (NO_SHAPES,)
    index = [file for file in measured.beta_maps if file.name.startswith('hrfindex')]
    if index and plan.stimulus_duration is not None:
        mask = VoxelMask.load(encoded.with_name(VOXELS))
        runs = RunWriter(
            writer=writer,
            mask=mask,
            index=np.rint(load_map(index[0], mask)).astype(np.intp),
            repetition_time=participant.runs[0].repetition_time,
            beta_repetition_time=beta_info.repetition_time,
            stimulus_duration=plan.stimulus_duration,
            model=facts.model,
            description=HELD_OUT,
            units=beta_info.units,
        )
        publish_runs(runs, participant, encoded.parent, trials)
        notes = ()
    if selected is not None and selection_info is not None:
        # a region to use later: the voxels of the model are in a mask of their own
        publish_reliable(writer, selected, selection_info)
    maps |= shown_maps(encoding)
    record = measured.record(
        'encoding',
        warnings=(*beta_info.warnings, *facts.warnings, *notes),
        leaks=facts.leaks,
        voxels=facts.voxels,
        trials=publish_trials(writer, trials),
        maps=maps,
        metrics=publish_metrics(writer, measured.config, encoded, ridge, desc),
        predictions=write_predictions(writer, encoded.parent, trials, desc),
        confusion=publisher.confusion(encoded.with_name('confusion.npy'), facts.labels),
        null=publisher.null(encoded.with_name('null.npy'), facts),
        encoding=encoding,
        stimuli_dir=participant.stimuli_dir,
    )
    return publisher.finish(record)


def publish_model(
    publisher: Publisher,
    encoded: Path,
    ridge: Path | None,
    facts: EncodingFacts,
    trials: pd.DataFrame,
    beta_info: BetaFacts,
) -> EncodingResults:
    """Write maps, predicted betas, model and curves.

    Parameters
    ----------
    publisher
        Of the participant's products.
    encoded
        File of what the encoding model found.
    ridge
        File of what ridge regression found; None: it was not fitted beside.
    facts
        What is said of the result.
    trials
        One row per trial.
    beta_info
        How betas were made.
    """
    source, desc, writer = encoded.parent, desc_of(facts.model), publisher.writer
    maps = write_maps(writer, source, facts.maps, desc)
    if ridge is not None:
        maps['ridge'] = write_maps(writer, ridge.parent, ['pearsonr'], 'ridge')['pearsonr']
    # what predict mode reads says which model of the betas the encoder takes
    config = with_model(publisher.config, beta_info.results.model)
    writer.model(source / 'model.safetensors', config, desc, source / 'model.md')
    curves = None
    if (source / 'curves.tsv').exists():
        table = pd.read_csv(source / 'curves.tsv', sep='\t')
        curves = writer.table('curves', table, columns='encoding_curves', more={'desc': desc})
    publisher.keep(source / 'examples.npy', 'examples')
    rows, values = _in_order(source)
    shown = trials.iloc[rows]
    shown = shown.assign(stim_file=shown['stimulus'], sample=rows)
    voxels = VoxelMask.load(source / VOXELS)
    betas, betas_table = write_betas(
        writer, voxels, values, shown, facts.model, BETAS, beta_info.units
    )
    return EncodingResults(
        model=facts.model,
        bands=publisher.config.encoding.bands,
        space=facts.space,
        voxels=publish_voxels(writer, source, desc),
        n_pictures=int(shown['stim_file'].nunique()),
        betas=betas,
        betas_table=betas_table,
        maps=maps,
        n_parameters=facts.n_parameters,
        examples=publisher.keep(source / 'examples.tsv', 'examples'),
        null_r=publisher.keep(source / 'null_r.npy', 'nullr'),
        curves=curves,
    )


def publish_voxels(writer: ProductWriter, source: Path, desc: str) -> Path:
    """Write which voxels a model predicts.

    Parameters
    ----------
    writer
        Of the participant's products.
    source
        Folder of what the step made.
    desc
        Label of the model in file names.
    """
    return writer.image(
        'reliable',
        source / VOXELS,
        more={'label': 'encoded', 'desc': desc},
        Description='Voxels that the encoding model predicts',
    )


def publish_runs(
    runs: RunWriter, participant: ParticipantInput, source: Path, trials: pd.DataFrame
) -> None:
    """Write the predicted series of the held-out trials of each run.

    Parameters
    ----------
    runs
        What writes them.
    participant
        Whose data.
    source
        Folder of what the encoding model found.
    trials
        One row per trial.
    """
    rows, values = _in_order(source)
    held_out = trials.iloc[rows]
    for number, run in enumerate(participant.runs):
        mine = held_out['run'].to_numpy() == number
        if mine.any():
            table = held_out[mine].assign(stim_file=held_out['stimulus'][mine])
            runs.write(PredictedRun.of(run), values[mine], table)


def publish_metrics(
    writer: ProductWriter, config: Config, encoded: Path, ridge: Path | None, desc: str
) -> Path:
    """Write the scores of the model and, below them, of ridge; and those of regions.

    Parameters
    ----------
    writer
        Of the participant's products.
    config
        The settings.
    encoded
        File of what the encoding model found.
    ridge
        File of what ridge regression found; None: it was not fitted beside.
    desc
        Label of the model in file names.
    """
    table = pd.read_csv(encoded.with_name('metrics.tsv'), sep='\t')
    if ridge is not None:
        table = pd.concat([table, _against_ridge(encoded, ridge, config)], ignore_index=True)
    return writer.scores(table, desc)


def _against_ridge(own: Path, ridge: Path, config: Config) -> pd.DataFrame:
    """Return the scores of ridge, with how the model differs from it on the same samples."""
    from bids_neurodecode.systems.comparison import compare_models, load_kept

    scores = scores_of(pd.read_csv(ridge.with_name('metrics.tsv'), sep='\t', na_values='n/a'))
    facts = read_record(EncodingFacts, own)
    # of runs that trained a shared head nothing is claimed
    if facts.leaks or facts.model == 'ridge':
        return scores_table(scores)
    kept = load_kept(own.with_name('kept.npz')) | load_kept(ridge.with_name('kept.npz'))
    rng = np.random.default_rng([config.seed, 1])
    return scores_table(compare_models(scores, kept, facts.model, 'ridge', config.evaluation, rng))


def write_maps(
    writer: ProductWriter, source: Path, names: Sequence[str], desc: str
) -> dict[str, Path]:
    """Write maps of scores under the names of their kinds, each feature space under its own.

    Parameters
    ----------
    writer
        Of the participant's products.
    source
        Folder of what the step made.
    names
        Of the maps: kind, or kind and feature space.
    desc
        Label of the model in file names.
    """
    bands = {name.partition('-')[2] for name in names} - {''}
    labels = {'': '', **told_apart({band: clean_label(band) for band in sorted(bands)})}
    return {name: _write_map(writer, source, name, desc, labels) for name in names}


def _write_map(
    writer: ProductWriter, source: Path, name: str, desc: str, labels: Mapping[str, str]
) -> Path:
    file = source / f'{name}.nii.gz'
    kind, _, band = name.partition('-')
    label = f'{desc}{labels[band]}'
    if kind in {'significant', 'unique'}:
        text = SIGNIFICANT if kind == 'significant' else UNIQUE.format(band=band)
        return writer.image('significant', file, more={'desc': label}, Description=text)
    if kind.endswith('variance'):
        return writer.image('variance', file, more={'stat': kind, 'desc': label})
    return writer.image(kind, file, more={'desc': desc})


def shown_maps(encoding: EncodingResults) -> dict[str, Path]:
    """Return the maps that pages show; the ceiling on them is that of all trials."""
    maps = encoding.maps.items()
    return {x: file for x, file in maps if x in MAPS and MAPS[x].kind != 'ceiling'}


def write_predictions(
    writer: ProductWriter, source: Path, trials: pd.DataFrame, desc: str
) -> Path:
    """Write the table of held-out samples with its columns described.

    Parameters
    ----------
    writer
        Of the participant's products.
    source
        Folder of what the step made.
    trials
        One row per trial.
    desc
        Label of the model in file names.
    """
    table = with_trials(read_table(source / 'predictions.tsv'), trials)
    columns = ('predictions', 'encoding_predictions')
    return writer.table('predictions', table, columns=columns, more={'desc': desc})


def _in_order(source: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the held-out trials and their predictions, in the order of the trials."""
    rows = np.load(source / 'rows.npy')
    order = np.argsort(rows, kind='stable')
    return rows[order], np.load(source / 'predicted.npy', mmap_mode='r')[order]
