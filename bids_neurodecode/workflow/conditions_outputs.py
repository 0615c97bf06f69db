"""The last node of conditions: everything under its BIDS name, and the record for the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import (
    File,
    isdefined,
)

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.provenance import software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_text
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.files import read_json, read_table
from bids_neurodecode.workflow.outputs import (
    RUN_LABEL,
    MeasuredInput,
    WriteOutput,
    beta_results,
    given,
    run_results,
    sentence,
    trial_columns,
    with_model,
    write_atlas,
    write_measured,
    write_parcels,
)
from bids_neurodecode.workflow.reports import results_path
from bids_neurodecode.workflow.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

DESC = 'conditions'
PREDICTION_COLUMNS = {
    'fold': {'Description': 'Fold of the cross-validation in which the trial was held out'},
    'sample': {'Description': 'Volume of the single-trial betas, from 0'},
    'trial_type': {'Description': 'The condition'},
    'decoded': {'Description': 'The condition that was decoded'},
    'n_candidates': {'Description': 'Number of conditions'},
    'rank': {'Description': 'Rank of the true condition among them; 1 is best'},
    'similarity': {'Description': 'How like the true condition the decoded pattern is (cosine)'},
    'identified': {'Description': 'Whether the true condition came first (ties count in part)'},
    'run_label': RUN_LABEL,
    'onset': {'Description': 'Onset of the trial in its run', 'Units': 's'},
}
REGION_COLUMNS = {
    'name': {'Description': 'Region of the atlas'},
    'n_voxels': {'Description': 'Voxels of the region that were used: all that vary'},
    'balanced_accuracy': {'Description': 'Balanced accuracy on held-out runs', 'Units': 'share'},
    'chance': {'Description': 'What guessing scores', 'Units': 'share'},
    'ci_low': {'Description': 'Lower limit of the confidence interval over runs'},
    'ci_high': {'Description': 'Upper limit of the confidence interval'},
    'p': {'Description': 'Permutation p value: labels of held-out trials exchanged within runs'},
    'p_fdr': {'Description': 'The same, adjusted over regions for the false discovery rate'},
}
PAIR_COLUMNS = {
    'condition_a': {'Description': 'First condition of the pair'},
    'condition_b': {'Description': 'Second condition of the pair'},
    'distance': {
        'Description': 'Squared Mahalanobis distance of the response patterns a voxel, '
        'cross-validated over runs (crossnobis); 0 on average where they do not differ'
    },
    'ci_low': {'Description': 'Lower limit of the confidence interval over runs'},
    'ci_high': {'Description': 'Upper limit of the confidence interval'},
    'p': {'Description': 'p value: the two labels exchanged in held-out runs'},
    'p_fdr': {'Description': 'The same, adjusted over pairs for the false discovery rate'},
}
DESCRIBED = {
    'pearsonr': 'Correlation of the mean response to each condition in held-out runs with that in '
    'the training runs, levels of runs taken off',
    'pfdr': 'Permutation p of that correlation (conditions exchanged within runs), adjusted over '
    'voxels for the false discovery rate',
}


class WriteConditionsInput(MeasuredInput):
    result = File(exists=True, mandatory=True)


class WriteConditions(Stage):
    """Write the derivatives of conditions, and the record for the report."""

    input_spec = WriteConditionsInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        run = json.loads(inputs.run)
        participant = ParticipantInput.from_json(inputs.participant)
        output_dir = Path(run['output_dir'])
        writer = ProductWriter.for_participant(participant, output_dir)
        info, betas = read_json(Path(inputs.result)), read_json(Path(inputs.beta_info))
        config = with_model(Config.model_validate_json(inputs.settings), betas['model'])
        plan = read_json(Path(inputs.plan))
        trials = read_table(Path(inputs.trials))
        log = output_dir / f'sub-{participant.label}' / 'log'
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        tables = self._write_tables(writer, trials, info)
        stem = f'sub-{participant.label}_task-{participant.task}'
        kept = {name: log / f'{stem}_{name}.npy' for name in ('confusion', 'null')}
        for name, target in kept.items():
            copy_file(self._file(f'{name}.npy'), target)
        record = r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system='conditions',
            paradigm=participant.paradigm,
            layout=participant.layout,
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, trials['run'].value_counts().to_dict()),
            derivatives=tuple(run['derivatives']),
            notes=(*run['notes'], sentence(plan['why'])),
            warnings=(*plan['leaks'], *betas['warnings'], *info['warnings']),
            leaks=tuple(plan['leaks']),
            space=writer.space,
            in_mni=writer.in_mni,
            split=r.SplitResults(
                plan['by'],
                plan['protocol'],
                plan['n_folds'],
                plan['repeats_cross'],
                plan['why'],
            ),
            betas=beta_results(betas),
            voxels=r.VoxelResults(info['n_mask'], info['n_selected'], info['rule']),
            trials=tables['betas_events'],
            maps=self._write_maps(writer, participant, config, info, folder),
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold)),
            metrics=tables['metrics'],
            predictions=tables['predictions'],
            confusion=r.ConfusionResults(kept['confusion'], tuple(info['labels'])),
            null=r.NullResults(kept['null'], info['observed'], 'balanced_accuracy'),
            conditions=r.ConditionResults(
                names=tuple(info['labels']),
                dissimilarity=tables['dissimilarity'],
                n_predicted=info['n_predicted'],
                n_predicted_fdr=info['n_predicted_fdr'],
                regions=tables.get('regions'),
                n_lights=info.get('n_lights', 0),
                n_lights_fdr=info.get('n_lights_fdr'),
            ),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )
        target = results_path(output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}

    def _file(self, name: str) -> Path:
        return Path(self.inputs.result).with_name(name)

    def _write_tables(
        self, writer: ProductWriter, trials: pd.DataFrame, info: dict[str, Any]
    ) -> dict[str, Path]:
        shown = trials.assign(trial_type=trials['stimulus'])
        events = shown.drop(columns='stimulus')
        predictions = with_trials(read_table(self._file('predictions.tsv')), trials)
        predictions = predictions.drop(columns=['stim_file', 'two_way', 'space'])
        predictions = predictions.rename(
            columns={'stimulus': 'trial_type', 'retrieved': 'decoded'}
        )
        labels = list(info['labels'])
        confusion = _with_names(np.load(self._file('confusion.npy')), labels)
        tables = {
            'metrics': writer.copy('metrics', self._file('metrics.tsv'), desc=DESC),
            'betas_events': writer.table('betas_events', events, columns=trial_columns(events)),
            'predictions': writer.table(
                'predictions', predictions, columns=PREDICTION_COLUMNS, more={'desc': DESC}
            ),
            'confusion': writer.table(
                'confusion',
                confusion,
                columns={
                    str(confusion.columns[0]): {'Description': 'The condition that was shown'},
                    **{x: {'Description': f'Held-out trials decoded as {x}'} for x in labels},
                },
                more={'desc': DESC},
            ),
            'dissimilarity': writer.table(
                'dissimilarity',
                read_table(self._file('dissimilarity.tsv')),
                columns=PAIR_COLUMNS,
                more={'desc': DESC},
            ),
        }
        sidecar = self._file('metrics.json')
        writer.copy('metrics', sidecar, desc=DESC, extension='.json')
        regions = read_table(self._file('regions.tsv'))
        if len(regions):
            tables['regions'] = writer.table(
                'region_scores', regions, columns=REGION_COLUMNS, more={'desc': DESC}
            )
        return tables

    def _write_maps(
        self,
        writer: ProductWriter,
        participant: ParticipantInput,
        config: Config,
        info: dict[str, Any],
        folder: Path,
    ) -> dict[str, Path]:
        inputs = self.inputs
        maps = write_measured(
            writer,
            participant,
            VoxelMask.load(Path(inputs.mask)),
            betas=Path(inputs.betas),
            info=read_json(Path(inputs.beta_info)),
            tsnr=Path(inputs.tsnr),
            folder=folder,
        )
        for file in [*given(inputs.beta_maps), *given(inputs.reliability_maps)]:
            name = Path(file).name.removesuffix('.nii.gz')
            maps[name] = writer.image(name, Path(file))
        for name in info['maps']:
            fields: dict[str, Any] = {}
            if name in DESCRIBED:
                fields['Description'] = DESCRIBED[name]
            if name == 'accuracy':
                fields['Radius'] = f'{config.conditions.searchlight:g} mm'
            maps[name] = writer.image(name, self._file(f'{name}.nii.gz'), **fields)
        maps['reliable'] = writer.image(
            'reliable',
            self._file('selected.nii.gz'),
            more={'desc': info['rule_name']},
            Description=info['rule'],
        )
        if isdefined(inputs.atlas_labels):
            maps['dseg'] = write_atlas(
                writer, config, Path(inputs.atlas_labels), Path(inputs.atlas_table)
            )
            write_parcels(writer, participant, config, given(inputs.parcels))
        return maps


def _with_names(confusion: np.ndarray[Any, Any], labels: list[str]) -> pd.DataFrame:
    """Return counts with a column for each decoded condition, after the one that was shown."""
    import pandas as pd

    table = pd.DataFrame(confusion, columns=labels)
    first = 'shown'
    while first in labels:  # a condition may be called that
        first += '_condition'
    table.insert(0, first, labels)
    return table


__all__ = ['WriteConditions']
