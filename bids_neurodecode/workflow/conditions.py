"""The part of the graph for conditions without stimulus files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_json, write_tsv
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.atlases import connect_atlas
from bids_neurodecode.workflow.conditions_outputs import WriteConditions
from bids_neurodecode.workflow.encoding_training import load_regions, load_samples
from bids_neurodecode.workflow.files import read_split, read_table, save_json, save_map
from bids_neurodecode.workflow.interfaces import Reliability
from bids_neurodecode.workflow.nodes import RunSettings, node, settings_of
from bids_neurodecode.workflow.pictures import connect_betas
from bids_neurodecode.workflow.process import RESULT
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.stage import Stage

ALPHA = 0.05


class AnalyseConditionsInput(BaseInterfaceInputSpec):
    settings = traits.Str(mandatory=True, desc='settings of the analysis, as JSON')
    betas = File(exists=True, mandatory=True)
    tuned = InputMultiPath(File(exists=True), mandatory=True)
    mask = File(exists=True, mandatory=True)
    trials = File(exists=True, mandatory=True)
    parts = File(exists=True, mandatory=True)
    plan = File(exists=True, mandatory=True)
    tsnr_runs = File(exists=True, mandatory=True)
    within = File(exists=True)
    labels = File(exists=True)
    regions = File(exists=True)


class AnalyseConditionsOutput(TraitedSpec):
    result = File(exists=True, desc='what was found, beside which everything lies')


class AnalyseConditions(Stage):
    """Decode conditions, predict the responses to them, and compare them, over held-out runs."""

    input_spec = AnalyseConditionsInput
    output_spec = AnalyseConditionsOutput

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.systems.conditions.analysis import analyse_conditions

        inputs = self.inputs
        mask = VoxelMask.load(Path(inputs.mask))
        table = read_table(Path(inputs.trials))
        tsnr_runs = np.load(inputs.tsnr_runs)
        n_runs = int(table['run'].max()) + 1
        if len(tsnr_runs) < n_runs:
            # the runs of precomputed betas need not be the runs of the series
            tsnr_runs = np.tile(tsnr_runs.mean(axis=0), (n_runs, 1))
        atlas = {'labels': '', 'regions': ''}
        if isdefined(inputs.labels):
            atlas = {'labels': inputs.labels, 'regions': inputs.regions}
        found = analyse_conditions(
            load_samples(inputs.betas, mask, table),
            [load_samples(file, mask, table) for file in inputs.tuned],
            read_split(Path(inputs.parts), Path(inputs.plan), table),
            Config.model_validate_json(inputs.settings),
            tsnr_runs=tsnr_runs,
            within=np.load(inputs.within) if isdefined(inputs.within) else None,
            regions=load_regions(atlas, mask),
        )
        return {'result': save_analysis(found, mask, folder)}


def save_analysis(found: Any, mask: VoxelMask, folder: Path) -> Path:
    """Write what was found; ``result.json`` comes last.

    Parameters
    ----------
    found
        A :class:`~bids_neurodecode.systems.conditions.analysis.ConditionAnalysis`.
    mask
        The voxels of the betas.
    folder
        Of the node.
    """
    from bids_neurodecode.evaluation.metrics import describe, scores_table
    from bids_neurodecode.systems.conditions.analysis import voxel_rule

    decoded, maps = found.classification, found.maps
    write_tsv(folder / 'metrics.tsv', scores_table(found.scores))
    write_json(folder / 'metrics.json', describe(found.scores))
    write_tsv(folder / 'predictions.tsv', decoded.samples)
    write_tsv(folder / 'regions.tsv', found.regions)
    write_tsv(folder / 'dissimilarity.tsv', found.dissimilarity.table())
    np.save(folder / 'null.npy', decoded.null)
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
        save_map(folder / f'{name}.nii.gz', encoded, values, fill=float(name == 'pfdr'))
    lights = {}
    if found.accuracy is not None:
        save_map(folder / 'accuracy.nii.gz', mask, np.nan_to_num(found.accuracy))
        written['accuracy'] = found.accuracy
        lights = {'n_lights': int(np.isfinite(found.accuracy).sum())}
        if np.isfinite(found.accuracy_fdr).any():
            lights['n_lights_fdr'] = int((found.accuracy_fdr <= ALPHA).sum())
            values = np.nan_to_num(found.accuracy_fdr, nan=1.0)
            save_map(folder / 'accuracypfdr.nii.gz', mask, values, fill=1.0)
            written['accuracypfdr'] = found.accuracy_fdr
    score = next(s for s in decoded.scores if s.metric == 'balanced_accuracy')
    info = {
        'n_mask': mask.n_voxels,
        'n_selected': int(found.selection.keep.sum()),
        'rule': voxel_rule(found.selection, decoded.selections),
        'rule_name': found.selection.rule,
        'labels': list(decoded.labels),
        'observed': score.value,
        'n_predicted': int(found.keep.sum()),
        'n_predicted_fdr': int((maps.p_fdr <= ALPHA).sum()) if tested else None,
        'maps': list(written),
        'warnings': list(found.notes),
        **lights,
    }
    return save_json(folder / RESULT, info)


def connect_conditions(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add the nodes of conditions and connect them; return the node of the outputs."""
    config = run.config
    plan, quality, betas = connect_betas(workflow, participant, run, size)
    reliability = node(Reliability(), 'reliability', run, size)
    groups = ('selection', 'ridge', 'conditions', 'evaluation', 'seed')
    analyse = node(
        AnalyseConditions(settings=settings_of(config, *groups)), 'conditions', run, size
    )
    outputs = node(
        WriteConditions(
            participant=participant.to_json(),
            settings=config.model_dump_json(),
            run=run.record(),
        ),
        'outputs',
        run,
        size,
    )
    workflow.connect(
        [
            (betas, reliability, [('betas', 'betas')]),
            (quality, reliability, [('mask', 'mask')]),
            (plan, reliability, [('trials', 'trials')]),
            (plan, analyse, [(name, name) for name in ('trials', 'parts', 'plan')]),
            (quality, analyse, [('mask', 'mask'), ('tsnr_runs', 'tsnr_runs')]),
            (betas, analyse, [('betas', 'betas'), ('tuned', 'tuned')]),
            (plan, outputs, [('trials', 'trials'), ('plan', 'plan')]),
            (quality, outputs, [(name, name) for name in ('mask', 'mean_bold', 'tsnr')]),
            (betas, outputs, [('betas', 'betas'), ('maps', 'beta_maps'), ('info', 'beta_info')]),
            (reliability, outputs, [('maps', 'reliability_maps')]),
            (analyse, outputs, [('result', 'result')]),
        ]
    )
    connect_atlas(workflow, participant, run, size, quality=quality, use=analyse, outputs=outputs)
    atlas = workflow.get_node('atlas')
    if atlas is not None:
        workflow.connect(atlas, 'labels', analyse, 'labels')
        workflow.connect(atlas, 'table', analyse, 'regions')
    return outputs


__all__ = ['AnalyseConditions', 'connect_conditions', 'save_analysis']
