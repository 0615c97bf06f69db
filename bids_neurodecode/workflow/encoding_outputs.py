"""The output node of picture encoding: derivatives under their names, and the report's record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import File, isdefined

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.names import clean_label
from bids_neurodecode.bids.provenance import software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import copy_file, write_text
from bids_neurodecode.bids.trials import with_trials
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.encoding_runs import (
    HELD_OUT,
    NO_SHAPES,
    PredictedRun,
    ResponseShapes,
    write_betas,
    write_run,
)
from bids_neurodecode.workflow.files import load_map, read_json, read_table
from bids_neurodecode.workflow.outputs import (
    PREDICTION_COLUMNS,
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

    from bids_neurodecode.report.results import EncodingResults, ParticipantResults

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
PREDICTED_COLUMNS = {
    **PREDICTION_COLUMNS,
    'space': {'Description': 'Single trials, or averages of repeats'},
    'similarity': {'Description': 'Correlation of predicted and measured response over voxels'},
    'two_way': {'Description': 'Share of other candidates that are less alike than the true one'},
    'retrieved': {'Description': 'Candidate whose predicted response is the most alike'},
}
CURVES = {
    'fold': {'Description': 'Fold of the split, from 1'},
    'epoch': {'Description': 'Epoch, from 1'},
    'part': {'Description': 'Training or validation samples'},
    'loss': {'Description': 'The loss that is minimised'},
    'error': {'Description': 'The loss without the penalty on weights'},
    'penalty': {'Description': 'The penalty on weights'},
    'learning_rate': {'Description': 'Learning rate at the end of the epoch'},
}


def desc_of(model: str) -> str:
    """Return the ``desc`` of a model's outputs."""
    return DESCS.get(model, model)


class WriteEncodingInput(MeasuredInput):
    encode = File(exists=True, mandatory=True, desc='what the encoding model found')
    ridge = File(exists=True, desc='what ridge regression found beside it')


class WriteEncoding(Stage):
    """Write the derivatives of picture encoding, and the record for the report."""

    input_spec = WriteEncodingInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        run = json.loads(self.inputs.run)
        participant = ParticipantInput.from_json(self.inputs.participant)
        output_dir = Path(run['output_dir'])
        writer = ProductWriter.for_participant(participant, output_dir)
        record = self._record(participant, run, writer, folder)
        target = results_path(output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}

    def _record(
        self,
        participant: ParticipantInput,
        run: dict[str, Any],
        writer: ProductWriter,
        folder: Path,
    ) -> ParticipantResults:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        source, info = Path(inputs.encode).parent, read_json(Path(inputs.encode))
        betas, plan = read_json(Path(inputs.beta_info)), read_json(Path(inputs.plan))
        config = with_model(Config.model_validate_json(inputs.settings), betas['model'])
        trials = read_table(Path(inputs.trials))
        log = Path(run['output_dir']) / f'sub-{participant.label}' / 'log'
        stem = f'sub-{participant.label}_task-{participant.task}'
        write_text(log / run['run_id'] / 'config.toml', config.to_toml())
        maps = self._write_signal(writer, participant, config, betas, folder)
        encoding = self._write_encoding(writer, config, info, log / stem)
        shapes = self._shapes(source, participant, betas, plan)
        notes = self._write_predicted(writer, participant, trials, shapes, info['model'])
        maps |= {
            x: encoding.maps[x] for x in ('pearsonr', 'noisenormalized') if x in encoding.maps
        }
        return r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system='encoding',
            paradigm=participant.paradigm,
            layout=participant.layout,
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, trials['run'].value_counts().to_dict()),
            derivatives=tuple(run['derivatives']),
            notes=(*run['notes'], sentence(plan['why'])),
            warnings=(*plan['leaks'], *betas['warnings'], *info['warnings'], *notes),
            leaks=(*plan['leaks'], *info['leaks']),
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
            trials=writer.table(
                'betas_events',
                trials.assign(stim_file=trials['stimulus']),
                columns=trial_columns(trials),
            ),
            maps=maps,
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold)),
            metrics=self._write_metrics(writer, config, desc_of(info['model'])),
            predictions=write_predictions(writer, source, trials, desc_of(info['model'])),
            confusion=r.ConfusionResults(
                keep(source / 'confusion.npy', log / f'{stem}_confusion.npy'),
                tuple(info['labels']),
            ),
            null=r.NullResults(
                keep(source / 'null.npy', log / f'{stem}_null.npy'),
                info['observed'],
                info['null_metric'],
            ),
            encoding=encoding,
            stimuli_dir=participant.stimuli_dir,
            features=dict(participant.features),
            config=log / run['run_id'] / 'config.toml',
            versions=software_versions(),
        )

    def _write_signal(
        self,
        writer: ProductWriter,
        participant: ParticipantInput,
        config: Config,
        info: dict[str, Any],
        folder: Path,
    ) -> dict[str, Path]:
        """Write measured betas, the maps of their model and of reliability, and the atlas."""
        inputs = self.inputs
        mask = VoxelMask.load(Path(inputs.mask))
        maps = write_measured(
            writer,
            participant,
            mask,
            betas=Path(inputs.betas),
            info=info,
            tsnr=Path(inputs.tsnr),
            folder=folder,
        )
        for file in [*given(inputs.beta_maps), *given(inputs.reliability_maps)]:
            name = Path(file).name.removesuffix('.nii.gz')
            maps[name] = writer.image(name, Path(file))
        if isdefined(inputs.atlas_labels):
            labels, table = Path(inputs.atlas_labels), Path(inputs.atlas_table)
            maps['dseg'] = write_atlas(writer, config, labels, table)
            write_parcels(writer, participant, config, inputs.parcels)
        return maps

    def _write_encoding(
        self, writer: ProductWriter, config: Config, info: dict[str, Any], stem: Path
    ) -> EncodingResults:
        """Write maps, predicted betas, model and curves."""
        import pandas as pd

        from bids_neurodecode.report.results import EncodingResults

        source, desc = Path(self.inputs.encode).parent, desc_of(info['model'])
        maps = {name: write_map(writer, source, name, desc) for name in info['maps']}
        if isdefined(self.inputs.ridge):
            maps['ridge'] = write_map(writer, Path(self.inputs.ridge).parent, 'pearsonr', 'ridge')
        for name, key in (
            ('model.safetensors', 'model'),
            ('model.md', 'model_card'),
        ):
            writer.copy(key, source / name, desc=desc)
        writer.text('model_config', config.to_toml(), desc=desc)
        curves = None
        if (source / 'curves.tsv').exists():
            table = pd.read_csv(source / 'curves.tsv', sep='\t')
            known = {name: text for name, text in CURVES.items() if name in table}
            curves = writer.table('curves', table, columns=known, more={'desc': desc})
        examples = keep(source / 'examples.tsv', stem.with_name(f'{stem.name}_examples.tsv'))
        keep(source / 'examples.npy', examples.with_suffix('.npy'))
        mask = VoxelMask.load(source / 'voxels.nii.gz')
        rows, values = _in_order(source)
        trials = read_table(Path(self.inputs.trials)).iloc[rows]
        table = trials.assign(stim_file=trials['stimulus'], sample=rows)
        betas, betas_table = write_betas(
            writer, mask, values, table, info['model'], BETAS, self._units()
        )
        return EncodingResults(
            model=info['model'],
            bands=config.encoding.bands,
            space=info['space'],
            voxels=writer.image(
                'reliable',
                source / 'voxels.nii.gz',
                more={'label': 'encoded', 'desc': desc},
                Description='Voxels that the encoding model predicts',
            ),
            n_pictures=int(table['stim_file'].nunique()),
            betas=betas,
            betas_table=betas_table,
            maps=maps,
            n_parameters=info['n_parameters'],
            examples=examples,
            null_r=keep(source / 'null_r.npy', stem.with_name(f'{stem.name}_nullr.npy')),
            curves=curves,
        )

    def _units(self) -> str:
        return str(read_json(Path(self.inputs.beta_info))['units'])

    def _shapes(
        self,
        source: Path,
        participant: ParticipantInput,
        betas: dict[str, Any],
        plan: dict[str, Any],
    ) -> ResponseShapes | None:
        files = [f for f in given(self.inputs.beta_maps) if Path(f).name.startswith('hrfindex')]
        if not files:
            return None
        mask = VoxelMask.load(source / 'voxels.nii.gz')
        return ResponseShapes(
            np.rint(load_map(Path(files[0]), mask)).astype(np.intp),
            participant.runs[0].repetition_time,
            betas.get('repetition_time'),
            plan['stimulus_duration'],
        )

    def _write_predicted(
        self,
        writer: ProductWriter,
        participant: ParticipantInput,
        trials: pd.DataFrame,
        shapes: ResponseShapes | None,
        model: str,
    ) -> tuple[str, ...]:
        """Write the predicted series of the held-out trials of each run; return what to say."""
        if shapes is None:
            return (NO_SHAPES,)
        source = Path(self.inputs.encode).parent
        mask = VoxelMask.load(source / 'voxels.nii.gz')
        rows, values = _in_order(source)
        held_out = trials.iloc[rows]
        for number, run in enumerate(participant.runs):
            mine = held_out['run'].to_numpy() == number
            if not mine.any():
                continue
            table = held_out[mine].assign(stim_file=held_out['stimulus'][mine])
            write_run(
                writer,
                PredictedRun.of(run),
                mask,
                values[mine],
                table,
                shapes,
                model=model,
                description=HELD_OUT,
                units=self._units(),
            )
        return ()

    def _write_metrics(self, writer: ProductWriter, config: Config, desc: str) -> Path:
        """Write the scores of the model and, below them, of ridge; and those of regions."""
        import pandas as pd

        from bids_neurodecode.evaluation.metrics import describe_columns, with_types

        own = Path(self.inputs.encode)
        table = pd.read_csv(own.with_name('metrics.tsv'), sep='\t')
        if isdefined(self.inputs.ridge):
            ridge = _against_ridge(own, Path(self.inputs.ridge), config)
            table = pd.concat([table, ridge], ignore_index=True)
        columns = describe_columns(table['metric'])
        return writer.table('metrics', with_types(table), columns=columns, more={'desc': desc})


def _against_ridge(own: Path, ridge: Path, config: Config) -> pd.DataFrame:
    """Return the scores of ridge, with how the model differs from it on the same samples."""
    import pandas as pd

    from bids_neurodecode.evaluation.metrics import scores_of, scores_table
    from bids_neurodecode.systems.comparison import compare_models, load_kept

    scores = scores_of(pd.read_csv(ridge.with_name('metrics.tsv'), sep='\t', na_values='n/a'))
    info = read_json(own)
    # of runs that trained a shared head nothing is claimed
    if info['leaks'] or info['model'] == 'ridge':
        return scores_table(scores)
    kept = load_kept(own.with_name('kept.npz')) | load_kept(ridge.with_name('kept.npz'))
    rng = np.random.default_rng([config.seed, 1])
    return scores_table(
        compare_models(scores, kept, info['model'], 'ridge', config.evaluation, rng)
    )


def write_map(writer: ProductWriter, source: Path, name: str, desc: str) -> Path:
    """Write a map of scores under the name of its kind."""
    file = source / f'{name}.nii.gz'
    kind, _, band = name.partition('-')
    label = f'{desc}{clean_label(band)}'
    if kind in {'significant', 'unique'}:
        text = SIGNIFICANT if kind == 'significant' else UNIQUE.format(band=band)
        return writer.image('significant', file, more={'desc': label}, Description=text)
    if kind.endswith('variance'):
        return writer.image('variance', file, more={'stat': kind, 'desc': label})
    return writer.image(kind, file, more={'desc': desc})


def write_predictions(
    writer: ProductWriter, source: Path, trials: pd.DataFrame, desc: str
) -> Path:
    """Write the table of held-out samples with its columns described."""
    table = with_trials(read_table(source / 'predictions.tsv'), trials)
    known = {k: v for k, v in PREDICTED_COLUMNS.items() if k in table}
    return writer.table('predictions', table, columns=known, more={'desc': desc})


def _in_order(source: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the held-out trials and their predictions, in the order of the trials."""
    rows = np.load(source / 'rows.npy')
    order = np.argsort(rows, kind='stable')
    return rows[order], np.load(source / 'predicted.npy', mmap_mode='r')[order]


def keep(source: Path, target: Path) -> Path:
    """Keep a file that the report shows beside the record of the results."""
    copy_file(source, target)
    return target


__all__ = ['WriteEncoding', 'desc_of', 'keep', 'write_map', 'write_predictions']
