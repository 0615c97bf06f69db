"""What films publish: derivatives under their names, and the record for the report."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.maps import MAPS
from bids_neurodecode.bids.sink import copy_file
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.report.results import NullResults, ParticipantResults
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import UNITS
from bids_neurodecode.systems.movie.steps.earlier import Shown
from bids_neurodecode.systems.movie.steps.encoding import BandedFacts, FilmFacts
from bids_neurodecode.systems.movie.steps.group_outputs import (
    Compared,
    add_ceilings,
    write_agreement,
)
from bids_neurodecode.systems.movie.steps.network_outputs import (
    SIGNIFICANT,
    FilmStores,
    NetworkFacts,
    held_out_runs,
    write_network,
)
from bids_neurodecode.systems.steps.publish import (
    Outputs,
    Publisher,
    publish_tsnr,
    publishing,
)
from bids_neurodecode.typing import Float32Array, IndexArray
from bids_neurodecode.workflow.files import read_json, read_record
from bids_neurodecode.workflow.step import Inputs

DESC = 'linear'
DIFFERENCE = {
    'difference': 'mean',
    'difference_low': 'low',
    'difference_high': 'high',
    'difference_p': 'p',
}
"""Columns of the metrics table, by what a comparison of two models calls them."""


@dataclass(frozen=True, kw_only=True)
class LinearModel(Inputs):
    """What the linear models of films gave.

    Parameters
    ----------
    metrics, null
        The metrics table (TSV); scores of permutations.
    linear_maps
        Files of maps, each called as its product.
    by_fold
        Map of r in each fold.
    predictions, rows
        Of held-out samples, (n_rows, n_voxels), and their numbers, (n_rows,).
    model, encode_info
        File of the trained model, and how it was fitted.
    banded_metrics, banded_info
        Scores of banded ridge, and how it was fitted; None: it was not.
    """

    metrics: Path
    null: Path
    linear_maps: list[Path]
    by_fold: Path
    predictions: Float32Array
    rows: IndexArray
    model: Path
    encode_info: FilmFacts
    banded_metrics: pd.DataFrame | None = None
    banded_info: BandedFacts | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of ridge and banded ridge."""
        banded = () if self.banded_info is None else self.banded_info.warnings
        return (*self.encode_info.warnings, *banded)


@publishing(lambda size: size.series_gb)
def publish_films(
    outputs: Outputs,
    linear: LinearModel,
    compared: Compared,
    aligned: list[Float32Array],
    network: Path | None = None,
    film_stores: FilmStores | None = None,
) -> Mapping[str, object]:
    """Write the derivatives of films, and the record for the report.

    Parameters
    ----------
    outputs
        Where it is written, and maps of all systems.
    linear, compared
        What the linear models gave, and the comparison of participants.
    aligned
        Series of each run on the clock of its films, (n_volumes, n_voxels).
    network
        File of what the network gave; None: none was trained.
    film_stores
        Frames of the films, as stored; None: no network.
    """
    publisher, participant, info = outputs.publisher, outputs.participant, linear.encode_info
    writer, plan = publisher.writer, outputs.plan
    publish_aligned(publisher, outputs.mask, aligned, plan.table)
    scores = linear_metrics(linear)
    maps = publish_maps(writer, outputs.tsnr, linear) | outputs.publish_atlas()
    voxels = predicted_mask(outputs.mask, linear.model)
    publish_predicted(publisher, voxels, plan.table, linear)
    record = publisher.record(
        'movie',
        n_trials=films_of_runs(plan.table),
        plan=plan,
        warnings=linear.warnings,
        voxel_tests=() if info.tests is None else (info.tests,),
        voxels=info.voxels,
        maps=maps,
        mean_bold=writer.image('meanbold', outputs.mean_bold),
        metrics=publish_model(writer, outputs.config, linear, scores),
        null=None if info.tests is None else publisher.null(linear.null, info),
        stimuli_dir=participant.stimuli_dir,
    )
    if compared.compare_info is not None:
        predicted = outputs.folder / 'predicted.nii.gz'
        voxels.save(predicted)
        record = write_agreement(record, writer, compared, predicted, linear.by_fold)
    if network is not None and film_stores is not None:
        record = with_network(record, publisher, plan.table, network, scores, film_stores.notes)
        add_network_ceilings(record, compared, network, linear.by_fold)
    return publisher.finish(record)


def add_network_ceilings(
    record: ParticipantResults, compared: Compared, network: Path, by_fold: Path
) -> None:
    """Give the scores of the network the ceiling of the voxels they are over, where it is known.

    Parameters
    ----------
    record
        With the network's scores.
    compared
        The comparison of participants.
    network
        File of what the network gave.
    by_fold
        Map of the linear model's r in each fold.
    """
    agreement, info, ceiling = record.agreement, compared.compare_info, compared.ceiling_by_fold
    if agreement is None or info is None or ceiling is None or record.metrics is None:
        return
    judged = network.with_name('judged.nii.gz')
    sets = {'voxels': (agreement.voxels, by_fold)}
    if judged.exists():
        sets['selected voxels'] = (judged, network.with_name('by_fold.nii.gz'))
    add_ceilings(record.metrics, agreement.ceiling, ceiling, sets, info.weights)


def publish_aligned(
    publisher: Publisher,
    mask: VoxelMask,
    aligned: list[Float32Array],
    table: pd.DataFrame,
) -> None:
    """Write each run's cleaned series on the clock of its films, the delay taken out.

    Parameters
    ----------
    publisher
        Of the participant's products.
    mask
        Voxels of the analysis.
    aligned
        Series of each presentation on the clock of its film, (n_volumes, n_voxels).
    table
        One row per sample; presentations are in its order.
    """
    participant, config, writer = publisher.participant, publisher.config, publisher.writer
    first = table.drop_duplicates('showing')
    onsets, films = first['onset'].astype(float), first['film'].astype(str)
    shown = [*map(Shown, films, map(len, aligned), onsets)]
    for number, run in enumerate(participant.runs):
        mine = np.flatnonzero(first['run'] == number)
        writer.for_run(run.entities, run.sources).series(
            'delayed',
            mask.image(np.concatenate([aligned[i] for i in mine])),
            run.repetition_time,
            Delay=config.delay.seconds,
            Films=[shown[i].to_json() for i in mine],
            Scaling=config.clean.scaling,
            Units=UNITS[config.clean.scaling],
        )


def films_of_runs(table: pd.DataFrame) -> dict[Hashable, int]:
    """Return how many films each run showed, by its number; ``table`` has a row per sample."""
    return table.groupby('run')['showing'].nunique().to_dict()


def publish_maps(writer: ProductWriter, tsnr: Path, linear: LinearModel) -> dict[str, Path]:
    """Write the maps of the linear model, those of its test where it was tested.

    Parameters
    ----------
    writer
        Of the participant's products.
    tsnr
        Map of the temporal signal-to-noise ratio.
    linear
        What the linear models gave.
    """
    tests = linear.encode_info.tests
    threshold = (tests and tests.r_fwer) or 'n/a'
    fields: dict[str, dict[str, Any]] = {
        'pearsonr': {'MaxStatisticThreshold': threshold, 'MaxStatisticAlpha': 0.05},
        'significant': {'Description': SIGNIFICANT},
    }
    maps = publish_tsnr(writer, tsnr)
    for file in linear.linear_maps:
        key = file.name.removesuffix('.nii.gz')
        written = writer.image(key, file, more={'desc': DESC}, **fields.get(key, {}))
        maps |= {key: written} if key in MAPS else {}
    return maps


def publish_predicted(
    publisher: Publisher, mask: VoxelMask, table: pd.DataFrame, linear: LinearModel
) -> None:
    """Write the predicted series of the held-out samples of each run.

    Parameters
    ----------
    publisher
        Of the participant's products.
    mask
        Voxels that are predicted.
    table
        One row per sample.
    linear
        What the linear models gave.
    """
    for run, mine, onsets in held_out_runs(publisher.participant, table, linear.rows):
        image = mask.image(np.asarray(linear.predictions[mine]))
        of_run = publisher.writer.for_run(run.entities, run.sources)
        of_run.series('predicted', image, run.repetition_time, RunOnsets=onsets.tolist())


def publish_model(
    writer: ProductWriter, config: Config, linear: LinearModel, scores: pd.DataFrame
) -> Path:
    """Write the linear model and its scores; return the table of these.

    Parameters
    ----------
    writer
        Of the participant's products.
    config
        The settings.
    linear
        What the linear models gave.
    scores
        Of the linear models.
    """
    writer.model(linear.model, config, DESC)
    columns = read_json(linear.metrics.with_suffix('.json'))
    return writer.table('metrics', scores, columns=columns, more={'desc': DESC})


def linear_metrics(linear: LinearModel) -> pd.DataFrame:
    """Return the scores of the linear models: ridge, its null and, if fitted, banded ridge."""
    from bids_neurodecode.evaluation.metrics import with_types

    table = pd.read_csv(linear.metrics, sep='\t')
    if linear.banded_metrics is not None:
        table = pd.concat([table, linear.banded_metrics], ignore_index=True)
    if linear.banded_info is not None:
        mine = (table['model'] == 'ridge') & (table['metric'] == 'voxel_r_mean')
        told: dict[str, Any] = {'compared_model': 'banded-ridge', 'compared_space': 'voxels'}
        difference = linear.banded_info.difference
        told |= {column: getattr(difference, name) for column, name in DIFFERENCE.items()}
        for column, value in told.items():
            table[column] = table[column].astype(object).mask(mine, value)
    return with_types(table)


def with_network(
    record: ParticipantResults,
    publisher: Publisher,
    table: pd.DataFrame,
    result: Path,
    linear: pd.DataFrame,
    notes: Sequence[str],
) -> ParticipantResults:
    """Write what the movie network made and add it to the record.

    Parameters
    ----------
    record
        Of a participant.
    publisher
        Of the participant's products.
    table
        One row per sample.
    result
        File of what the step made.
    linear
        Scores of the linear models.
    notes
        What a reader should know; added to.
    """
    network, maps, metrics = write_network(publisher, table, result, linear)
    facts, null, tests = read_record(NetworkFacts, result), record.null, record.voxel_tests
    if facts.tests is not None and facts.observed is not None:
        tests = (facts.tests, *tests)
        if null is not None:
            copy_file(result.with_name('null.npy'), null.values)
            null = NullResults(null.values, facts.observed, facts.null_metric)
    return replace(
        record,
        network=network,
        voxel_tests=tests,
        maps={**record.maps, **maps},
        metrics=metrics,
        null=null,
        notes=(*record.notes, *notes),
        warnings=(*record.warnings, *facts.warnings),
    )


def predicted_mask(mask: VoxelMask, model: Path) -> VoxelMask:
    """Return the voxels that a saved encoder predicts.

    Parameters
    ----------
    mask
        Voxels of the analysis.
    model
        File of the trained model.
    """
    from bids_neurodecode.models.storage import load_arrays

    arrays, _ = load_arrays(model)
    return mask.restrict(arrays['keep'].astype(bool))
