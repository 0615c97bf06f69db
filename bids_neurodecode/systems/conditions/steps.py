"""Conditions without stimulus files: decoded, predicted and compared over held-out runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bids_neurodecode.bids.maps import BESIDE, MAPS
from bids_neurodecode.bids.sink import write_tsv
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.outcomes import SINGLE_TRIAL
from bids_neurodecode.systems.steps.publish import (
    Measured,
    publish_trials,
    publishing,
    voxel_results,
)
from bids_neurodecode.systems.steps.records import ModelFacts
from bids_neurodecode.systems.steps.responses import (
    Trials,
    add_atlas,
    add_betas,
    reliability,
)
from bids_neurodecode.systems.steps.scores import write_scores
from bids_neurodecode.typing import Float32Array
from bids_neurodecode.workflow.files import (
    read_record,
    read_table,
    save_map,
)
from bids_neurodecode.workflow.nodes import Ladder
from bids_neurodecode.workflow.step import step

if TYPE_CHECKING:
    from bids_neurodecode.systems.conditions.analysis import ConditionAnalysis

ALPHA = 0.05
DESC = 'conditions'
DESCRIBED = {
    'pearsonr': 'Correlation of the mean response to each condition in held-out runs with that in '
    'the training runs, levels of runs taken off',
    'pfdr': 'Permutation p of that correlation (conditions exchanged within runs), adjusted over '
    'voxels for the false discovery rate',
}


@dataclass(frozen=True, kw_only=True)
class ConditionFacts(ModelFacts):
    """What is said of decoding, encoding and similarity of conditions."""

    rule_name: str
    n_predicted: int
    n_predicted_fdr: int | None
    """None where that was not tested."""
    n_lights: int
    n_lights_fdr: int | None
    maps: tuple[str, ...]


def add_conditions(ladder: Ladder) -> None:
    """Add the steps of conditions."""
    add_betas(ladder)
    ladder.add(reliability)
    add_atlas(ladder)
    ladder.add(analyse)
    ladder.add(publish_conditions)


@step(
    'conditions',
    seconds=30,
    records={'analysed': ConditionFacts},
    settings=('betas', 'selection', 'features', 'ridge', 'conditions', 'evaluation', 'seed'),
    memory=lambda size: 4 * size.betas_gb + 1,
)
def analyse(trials: Trials, tsnr_runs: Float32Array) -> Mapping[str, object]:
    """Decode conditions, predict the responses to them, and compare them, over held-out runs.

    Parameters
    ----------
    trials
        What is decoded and predicted.
    tsnr_runs
        Temporal signal-to-noise ratio, (n_runs, n_voxels).
    """
    from bids_neurodecode.systems.conditions.analysis import analyse_conditions

    estimates = trials.estimates(tsnr_runs)
    found = analyse_conditions(
        estimates,
        trials.config,
        regions=trials.regions,
        meshes=[run.bold.parent for run in trials.participant.runs],
    )
    return {'analysed': save_analysis(found, trials.mask, trials.folder, estimates.notes)}


def save_analysis(
    found: ConditionAnalysis, mask: VoxelMask, folder: Path, said: Sequence[str]
) -> ConditionFacts:
    """Write what was found; return what is said of it.

    Parameters
    ----------
    found
        Decoding, encoding and similarity of conditions.
    mask
        Voxels of the analysis.
    folder
        That is written into.
    said
        What a reader should know.
    """
    from bids_neurodecode.systems.conditions.decoding import ACCURACY

    decoded, maps = found.classification, found.maps
    write_scores(folder, found.scores)
    write_tsv(folder / 'predictions.tsv', decoded.samples)
    write_tsv(folder / 'regions.tsv', found.regions)
    write_tsv(folder / 'dissimilarity.tsv', found.dissimilarity.table())
    np.save(folder / 'null.npy', decoded.nulls[f'{SINGLE_TRIAL}/{ACCURACY}'])
    np.save(folder / 'confusion.npy', decoded.confusion)
    mask.restrict(found.selection.keep).save(folder / 'selected.nii.gz')
    encoded = mask.restrict(found.keep)
    written = {'pearsonr': np.nan_to_num(maps.r)}
    if np.isfinite(maps.noise_normalized).any():
        written['noisenormalized'] = np.nan_to_num(maps.noise_normalized)
    tested = bool(np.isfinite(maps.p_fdr).any())
    if tested:
        written['pfdr'] = np.nan_to_num(maps.p_fdr, nan=1.0)
    for name, values in written.items():
        # what was not tested is no finding
        fill = (MAPS | BESIDE)[name].outside
        save_map(folder / f'{name}.nii.gz', encoded, values, fill=fill)
    n_lights, n_lights_fdr = 0, None
    if found.accuracy is not None and found.accuracy_fdr is not None:
        save_map(folder / 'accuracy.nii.gz', mask, np.nan_to_num(found.accuracy))
        written['accuracy'] = found.accuracy
        n_lights = int(np.isfinite(found.accuracy).sum())
        if np.isfinite(found.accuracy_fdr).any():
            n_lights_fdr = int((found.accuracy_fdr <= ALPHA).sum())
            values = np.nan_to_num(found.accuracy_fdr, nan=1.0)
            fill = BESIDE['accuracypfdr'].outside
            save_map(folder / 'accuracypfdr.nii.gz', mask, values, fill=fill)
            written['accuracypfdr'] = found.accuracy_fdr
    score = next(s for s in decoded.scores if s.metric == ACCURACY)
    return ConditionFacts(
        voxels=voxel_results(mask, found.selection, found.fold_selections),
        rule_name=found.selection.rule,
        labels=decoded.labels,
        observed=score.value,
        null_metric=score.metric,
        n_predicted=int(found.keep.sum()),
        n_predicted_fdr=int((maps.p_fdr <= ALPHA).sum()) if tested else None,
        n_lights=n_lights,
        n_lights_fdr=n_lights_fdr,
        maps=tuple(written),
        warnings=(*said, *found.notes),
    )


@publishing(lambda size: 0.2 + size.written_gb)
def publish_conditions(measured: Measured, analysed: Path) -> Mapping[str, object]:
    """Write the derivatives of conditions, and the record for the report.

    Parameters
    ----------
    measured
        What was measured, and where it is written.
    analysed
        File of what the analysis found.
    """
    from bids_neurodecode.report import results as r

    facts, publisher = read_record(ConditionFacts, analysed), measured.publisher
    writer = publisher.writer
    tables = publish_tables(writer, analysed, measured.plan.table, facts.labels)
    maps = measured.publish()
    for name in facts.maps:
        fields: dict[str, Any] = {}
        if name in DESCRIBED:
            fields['Description'] = DESCRIBED[name]
        if name == 'accuracy':
            fields['Radius'] = f'{measured.config.conditions.searchlight:g} mm'
        maps[name] = writer.image(name, analysed.with_name(f'{name}.nii.gz'), **fields)
    selected = analysed.with_name('selected.nii.gz')
    maps['reliable'] = publisher.chosen(selected, facts.rule_name, facts.voxels)
    record = measured.record(
        'conditions',
        warnings=(*measured.beta_info.warnings, *facts.warnings),
        voxels=facts.voxels,
        trials=tables['betas_events'],
        maps=maps,
        metrics=tables['metrics'],
        predictions=tables['predictions'],
        confusion=publisher.confusion(analysed.with_name('confusion.npy'), facts.labels),
        null=publisher.null(analysed.with_name('null.npy'), facts),
        conditions=r.ConditionResults(
            names=facts.labels,
            dissimilarity=tables['dissimilarity'],
            n_predicted=facts.n_predicted,
            n_predicted_fdr=facts.n_predicted_fdr,
            regions=tables.get('regions'),
            n_lights=facts.n_lights,
            n_lights_fdr=facts.n_lights_fdr,
        ),
    )
    return publisher.finish(record)


def publish_tables(
    writer: ProductWriter, result: Path, trials: pd.DataFrame, labels: Sequence[str]
) -> dict[str, Path]:
    """Write the tables; return them by name.

    Parameters
    ----------
    writer
        Of the participant's products.
    result
        File of what the step made.
    trials
        One row per trial.
    labels
        Of the conditions.
    """
    predictions = with_trials(read_table(result.with_name('predictions.tsv')), trials)
    predictions = predictions.drop(columns=['stim_file', 'two_way', 'space'])
    predictions = predictions.rename(columns={'stimulus': 'trial_type', 'retrieved': 'decoded'})
    confusion = _with_names(np.load(result.with_name('confusion.npy')), labels)
    table = partial(writer.table, more={'desc': DESC})
    tables = {
        'metrics': writer.metrics(result.with_name('metrics.tsv'), DESC),
        'betas_events': publish_trials(writer, trials, 'conditions'),
        'predictions': table('predictions', predictions, columns='condition_predictions'),
        'confusion': table(
            'confusion',
            confusion,
            columns={
                str(confusion.columns[0]): {'Description': 'The condition that was shown'},
                **{x: {'Description': f'Held-out trials decoded as {x}'} for x in labels},
            },
        ),
        'dissimilarity': table(
            'dissimilarity',
            read_table(result.with_name('dissimilarity.tsv')),
            columns='condition_pairs',
        ),
    }
    regions = read_table(result.with_name('regions.tsv'))
    if len(regions):
        tables['regions'] = table('region_scores', regions, columns='condition_regions')
    return tables


def _with_names(confusion: np.ndarray[Any, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Return counts with a column for each decoded condition, after the one that was shown."""
    table = pd.DataFrame(confusion, columns=[*labels])
    first = 'shown'
    while first in labels:  # a condition may be called that
        first += '_condition'
    table.insert(0, first, labels)
    return table
