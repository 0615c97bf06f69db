"""What films publish: derivatives under their names, and the record for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.names import PRODUCTS
from bids_neurodecode.bids.provenance import sidecar
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_image, write_json
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import UNITS
from bids_neurodecode.systems.movie.steps.group_outputs import add_ceilings, write_agreement
from bids_neurodecode.systems.movie.steps.network_outputs import write_network
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import Publisher, write_atlas, write_parcels
from bids_neurodecode.workflow.files import read_json
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import ALL, step

if TYPE_CHECKING:
    from bids_neurodecode.report.results import ParticipantResults

DESC = 'linear'
DIFFERENCE = {
    'difference': 'mean',
    'difference_low': 'low',
    'difference_high': 'high',
    'difference_p': 'p',
}
"""Columns of the metrics table, by what a comparison of two models calls them."""


@step('outputs', makes=('results',), settings=ALL, always=True, memory=lambda size: size.series_gb)
def publish_films(
    participant: ParticipantInput,
    config: Config,
    call: Call,
    plan: Plan,
    mask: VoxelMask,
    mean_bold: Path,
    tsnr: Path,
    aligned: list[npt.NDArray[np.float32]],
    showings: Mapping[str, Any],
    metrics: Path,
    pearsonr: Path,
    by_fold: Path,
    significant: Path,
    p_values: Path,
    predictions: npt.NDArray[np.float32],
    rows: npt.NDArray[np.intp],
    null: Path,
    model: Path,
    encode_info: Mapping[str, Any],
    folder: Path,
    compare_info: Mapping[str, Any] | None = None,
    isc: Path | None = None,
    ceiling: Path | None = None,
    ceiling_by_fold: Path | None = None,
    banded_metrics: pd.DataFrame | None = None,
    banded_info: Mapping[str, Any] | None = None,
    network: Path | None = None,
    film_stores: Mapping[str, Any] | None = None,
    atlas_labels: Path | None = None,
    atlas_table: Path | None = None,
    parcels: list[Path] | None = None,
) -> Mapping[str, object]:
    """Write the derivatives of films, and the record for the report.

    What comes from the linear model (``metrics`` to ``encode_info``) is always there; what comes
    from comparing participants, banded ridge, the network and an atlas is where these are.

    Parameters
    ----------
    participant
        Whose data.
    config
        The settings.
    call
        Folders, notes and id of the call.
    plan
        Trials or samples, and what of them is held out.
    mask
        Voxels of the analysis.
    mean_bold
        Map of the mean series.
    tsnr
        Map of the temporal signal-to-noise ratio.
    aligned
        Series of each run on the clock of its films, (n_volumes, n_voxels).
    showings
        When each film was shown in which run.
    metrics
        The metrics table (TSV).
    pearsonr
        Map of r.
    by_fold
        Scores of each fold.
    significant
        Map of voxels beyond chance.
    p_values
        Map of p.
    predictions
        Shape (n_rows, n_voxels).
    rows
        Row numbers of the predicted samples.
    null
        Scores of permutations (TSV).
    model
        File of the trained model.
    encode_info
        How the linear model was fitted.
    folder
        That is written into.
    compare_info
        Who participants were compared with; None: nobody.
    isc
        Map of intersubject correlation; None: nobody to compare with.
    ceiling
        Map of the ceiling; None: there is none.
    ceiling_by_fold
        The ceiling of each fold; None: there is none.
    banded_metrics
        Scores of banded ridge; None: it was not fitted.
    banded_info
        How banded ridge was fitted; None: it was not.
    network
        File of what the network gave; None: none was trained.
    film_stores
        Frames of the films, as stored; None: no network.
    atlas_labels
        Parcellation on the grid of the data.
    atlas_table
        Names of its parcels.
    parcels
        Tables of parcel means, one per run.
    """
    from bids_neurodecode.report import results as r

    publisher = Publisher.of(participant, call, config)
    writer, info = publisher.writer, encode_info
    shown = showings['showings']
    publish_aligned(publisher, mask, aligned, shown)
    n_films = [sum(s['run'] == number for s in shown) for number in range(len(participant.runs))]
    linear = linear_metrics(metrics, banded_metrics, banded_info)
    maps = publish_maps(writer, tsnr, pearsonr, p_values, significant, info)
    if atlas_labels is not None and atlas_table is not None:
        maps['dseg'] = write_atlas(writer, config, atlas_labels, atlas_table)
        if parcels is not None:
            write_parcels(writer, participant, config, parcels)
    voxels = predicted_mask(mask, model)
    publish_predicted(publisher, voxels, plan.table, rows, predictions)
    tests = [info[x] for x in ('n_tested', 'n_significant', 'n_significant_fwer', 'r_fwer')]
    kept = publisher.keep(null, 'null')
    record = publisher.record(
        'movie',
        n_trials=dict(enumerate(n_films)),
        plan=plan,
        warnings=(*info['warnings'], *(banded_info or {}).get('warnings', ())),
        voxel_tests=(r.VoxelTestResults('ridge', *tests),) if info['tested'] else (),
        voxels=r.VoxelResults(info['n_mask'], info['n_selected'], info['rule']),
        maps=maps,
        mean_bold=writer.image('meanbold', mean_bold),
        metrics=publish_model(writer, config, model, metrics, linear),
        null=r.NullResults(kept, info['observed'], info['null_metric'])
        if info['tested']
        else None,
        stimuli_dir=participant.stimuli_dir,
    )
    if compare_info is not None and isc is not None and ceiling is not None:
        assert ceiling_by_fold is not None
        predicted = folder / 'predicted.nii.gz'
        voxels.save(predicted)
        both = {'isc': isc, 'ceilingr': ceiling}
        record = write_agreement(
            record, writer, compare_info, both, predicted, (ceiling_by_fold, by_fold)
        )
    if network is not None and film_stores is not None:
        record = with_network(record, publisher, plan.table, network, linear, film_stores['notes'])
        agreement = record.agreement
        if agreement is not None and compare_info is not None and record.metrics is not None:
            assert ceiling_by_fold is not None
            judged = network.with_name('judged.nii.gz')
            sets = {'voxels': (agreement.voxels, by_fold)}
            if judged.exists():
                sets['selected voxels'] = (judged, network.with_name('by_fold.nii.gz'))
            weights = compare_info['weights']
            add_ceilings(record.metrics, agreement.ceiling, ceiling_by_fold, sets, weights)
    return publisher.finish(record)


def publish_aligned(
    publisher: Publisher,
    mask: VoxelMask,
    aligned: list[npt.NDArray[np.float32]],
    showings: list[dict[str, Any]],
) -> None:
    """Write each run's cleaned series on the clock of its films, the delay taken out.

    Parameters
    ----------
    publisher
        Of the participant's products.
    mask
        Voxels of the analysis.
    aligned
        Series of each run on the clock of its films, (n_volumes, n_voxels).
    showings
        When each film was shown in which run.
    """
    participant, config, writer = publisher.participant, publisher.config, publisher.writer
    for number, run in enumerate(participant.runs):
        mine = [i for i, showing in enumerate(showings) if showing['run'] == number]
        of_run = writer.for_run(run.entities, run.sources)
        image = mask.image(np.concatenate([aligned[i] for i in mine]))
        write_image(of_run.path('delayed'), image, repetition_time=run.repetition_time)
        fields = sidecar(
            sources=run.sources,
            fixed={**PRODUCTS['delayed'].sidecar, 'SkullStripped': True},
            **writer.place,
            TaskName=participant.task,
            RepetitionTime=run.repetition_time,
            Delay=config.delay.seconds,
            Films=[_film_of(showings[i]) for i in mine],
            Scaling=config.clean.scaling,
            Units=UNITS[config.clean.scaling],
        )
        write_json(of_run.path('delayed', extension='.json'), fields)


def publish_maps(
    writer: ProductWriter,
    tsnr: Path,
    pearsonr: Path,
    p_values: Path,
    significant: Path,
    info: Mapping[str, Any],
) -> dict[str, Path]:
    """Write the maps of the linear model, those of its test where it was tested.

    Parameters
    ----------
    writer
        Of the participant's products.
    tsnr
        Map of the temporal signal-to-noise ratio.
    pearsonr
        Map of r.
    p_values
        Map of p.
    significant
        Map of voxels beyond chance.
    info
        What is said of the result.
    """
    more = {'desc': DESC}
    maps = {
        'tsnr': writer.image('tsnr', tsnr),
        'pearsonr': writer.image(
            'pearsonr',
            pearsonr,
            more=more,
            MaxStatisticThreshold=info['r_fwer'] or 'n/a',
            MaxStatisticAlpha=0.05,
        ),
    }
    if info['tested']:
        writer.image('pfdr', p_values, more=more)
        writer.image(
            'significant',
            significant,
            more=more,
            Description='p by surrogates, adjusted for the false discovery rate, below .05',
        )
    return maps


def publish_predicted(
    publisher: Publisher,
    mask: VoxelMask,
    table: pd.DataFrame,
    rows: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.float32],
) -> None:
    """Write the predicted series of the held-out samples of each run.

    Parameters
    ----------
    publisher
        Of the participant's products.
    mask
        Voxels of the analysis.
    table
        One row per sample.
    rows
        Row numbers of the predicted samples.
    predicted
        Shape (n_rows, n_voxels).
    """
    participant, writer = publisher.participant, publisher.writer
    for number, run in enumerate(participant.runs):
        mine = table['run'].to_numpy()[rows] == number
        if not mine.any():
            continue
        of_run = writer.for_run(run.entities, run.sources)
        image = mask.image(np.asarray(predicted[mine]))
        write_image(of_run.path('predicted'), image, repetition_time=run.repetition_time)
        fields = sidecar(
            sources=run.sources,
            fixed={**PRODUCTS['predicted'].sidecar, 'SkullStripped': True},
            **writer.place,
            TaskName=participant.task,
            RepetitionTime=run.repetition_time,
            RunOnsets=[float(x) for x in table['run_onset'].to_numpy()[rows[mine]]],
        )
        write_json(of_run.path('predicted', extension='.json'), fields)


def publish_model(
    writer: ProductWriter, config: Config, model: Path, metrics: Path, linear: pd.DataFrame
) -> Path:
    """Write the linear model and its scores; return the table of these.

    Parameters
    ----------
    writer
        Of the participant's products.
    config
        The settings.
    model
        File of the trained model.
    metrics
        The metrics table (TSV).
    linear
        Scores of the linear models.
    """
    writer.copy('model', model, desc=DESC)
    writer.text('model_config', config.to_toml(), desc=DESC)
    writer.copy('metrics', metrics.with_suffix('.json'), desc=DESC, extension='.json')
    return writer.table('metrics', linear, more={'desc': DESC})


def linear_metrics(
    metrics: Path, banded: pd.DataFrame | None, banded_info: Mapping[str, Any] | None
) -> pd.DataFrame:
    """Return the scores of the linear models: ridge, its null and, if fitted, banded ridge.

    Parameters
    ----------
    metrics
        The metrics table (TSV).
    banded
        Scores of banded ridge; None: it was not fitted.
    banded_info
        How banded ridge was fitted; None: it was not.
    """
    from bids_neurodecode.evaluation.metrics import with_types

    table = pd.read_csv(metrics, sep='\t')
    if banded is not None:
        table = pd.concat([table, banded], ignore_index=True)
    if banded_info is not None:
        mine = (table['model'] == 'ridge') & (table['metric'] == 'voxel_r_mean')
        told = {'compared_model': 'banded-ridge', 'compared_space': 'voxels'}
        told |= {x: banded_info['difference'][name] for x, name in DIFFERENCE.items()}
        for column, value in told.items():
            table[column] = table[column].astype(object).mask(mine, value)
    return with_types(table)


def with_network(
    record: ParticipantResults,
    publisher: Publisher,
    table: pd.DataFrame,
    result: Path,
    linear: pd.DataFrame,
    notes: list[str],
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
    from bids_neurodecode.report.results import NullResults, VoxelTestResults

    network, maps, metrics = write_network(
        publisher.writer, publisher.participant, publisher.config, table, result, linear
    )
    info, null, tests = read_json(result), record.null, record.voxel_tests
    if info['encoder'] and info['tested']:
        tests = (VoxelTestResults('network', **info['tests']), *tests)
        if null is not None:
            copy_file(result.with_name('null.npy'), null.values)
            null = NullResults(null.values, info['observed'], info['null_metric'])
    return replace(
        record,
        network=network,
        voxel_tests=tests,
        maps={**record.maps, **maps},
        metrics=metrics,
        null=null,
        notes=(*record.notes, *notes),
        warnings=(*record.warnings, *info['warnings']),
    )


def _film_of(showing: dict[str, Any]) -> dict[str, Any]:
    """Return what the sidecar says of a presentation: where in the film it starts, if later."""
    film = {'StimFile': showing['film'], 'Volumes': showing['n_samples']}
    return film | ({'FilmOnset': showing['film_onset']} if showing['film_onset'] else {})


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
