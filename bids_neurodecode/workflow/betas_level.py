"""Betas alone: single-trial betas, their reliability and their report, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import isdefined

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.provenance import software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.bids.writer import ProductWriter
from bids_neurodecode.config import Config
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.workflow.atlases import connect_atlas
from bids_neurodecode.workflow.files import read_json, read_table
from bids_neurodecode.workflow.interfaces import Reliability
from bids_neurodecode.workflow.nodes import RunSettings, node
from bids_neurodecode.workflow.outputs import (
    MeasuredInput,
    WriteOutput,
    beta_results,
    given,
    run_results,
    trial_columns,
    with_model,
    write_atlas,
    write_measured,
    write_parcels,
)
from bids_neurodecode.workflow.pictures import connect_betas
from bids_neurodecode.workflow.reports import results_path
from bids_neurodecode.workflow.resources import DataSize
from bids_neurodecode.workflow.stage import Stage

SYSTEM = 'betas'
TUNED_ON_ALL = (
    'Noise components and fractions of ridge were chosen with repeats of all trials. A model that '
    'is judged on held-out trials of these betas had these in the tuning: set betas.model = "B", '
    'or leave out --level betas, which tunes within the training trials of each fold.'
)


class WriteBetas(Stage):
    """Write the betas, their maps and events, and the record for the report."""

    input_spec = MeasuredInput
    output_spec = WriteOutput
    _always_run = True

    def _compute(self, folder: Path) -> dict[str, Any]:
        from bids_neurodecode.report import results as r

        inputs = self.inputs
        run = json.loads(inputs.run)
        participant = ParticipantInput.from_json(inputs.participant)
        output_dir = Path(run['output_dir'])
        writer = ProductWriter.for_participant(participant, output_dir)
        betas = read_json(Path(inputs.beta_info))
        config = with_model(Config.model_validate_json(inputs.settings), betas['model'])
        trials = read_table(Path(inputs.trials))
        settings = output_dir / f'sub-{participant.label}' / 'log' / run['run_id'] / 'config.toml'
        write_text(settings, config.to_toml())
        tuned = (TUNED_ON_ALL,) if betas['n_components'] else ()
        record = r.ParticipantResults(
            participant=participant.label,
            version=__version__,
            run_id=run['run_id'],
            system=SYSTEM,
            paradigm=participant.paradigm,
            task=participant.task,
            bids_name=Path(run['bids_dir']).name,
            runs=run_results(participant, trials['run'].value_counts().to_dict()),
            derivatives=tuple(run['derivatives']),
            notes=tuple(run['notes']),
            warnings=(*tuned, *betas['warnings']),
            space=writer.space,
            in_mni=(writer.space or '').startswith('MNI152'),
            betas=beta_results(betas),
            trials=writer.table(
                'betas_events',
                trials.assign(stim_file=trials['stimulus'])
                if participant.paradigm == 'images'
                else trials.assign(trial_type=trials['stimulus']).drop(columns='stimulus'),
                columns=trial_columns(trials),
            ),
            maps=self._write_maps(writer, participant, config, betas, folder),
            mean_bold=writer.image('meanbold', Path(inputs.mean_bold)),
            stimuli_dir=participant.stimuli_dir,
            config=settings,
            versions=software_versions(),
        )
        target = results_path(output_dir, participant.label, participant.task)
        write_text(target, record.to_json())
        writer.finish()
        return {'results': target}

    def _write_maps(
        self,
        writer: ProductWriter,
        participant: ParticipantInput,
        config: Config,
        betas: dict[str, Any],
        folder: Path,
    ) -> dict[str, Path]:
        inputs = self.inputs
        maps = write_measured(
            writer,
            participant,
            VoxelMask.load(Path(inputs.mask)),
            betas=Path(inputs.betas),
            info=betas,
            tsnr=Path(inputs.tsnr),
            folder=folder,
        )
        for file in [*given(inputs.beta_maps), *given(inputs.reliability_maps)]:
            name = Path(file).name.removesuffix('.nii.gz')
            maps[name] = writer.image(name, Path(file))
        if isdefined(inputs.atlas_labels):
            table = Path(inputs.atlas_table)
            maps['dseg'] = write_atlas(writer, config, Path(inputs.atlas_labels), table)
            write_parcels(writer, participant, config, inputs.parcels)
        return maps


def connect_betas_level(
    workflow: Any, participant: ParticipantInput, run: RunSettings, size: DataSize
) -> Any:
    """Add the nodes of the betas and connect them; return the node of the outputs."""
    plan, quality, betas = connect_betas(workflow, participant, run, size, hold_out=False)
    reliability = node(Reliability(), 'reliability', run, size)
    outputs = node(
        WriteBetas(
            participant=participant.to_json(),
            settings=run.config.model_dump_json(),
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
            (plan, outputs, [('trials', 'trials'), ('plan', 'plan')]),
            (quality, outputs, [(name, name) for name in ('mask', 'mean_bold', 'tsnr')]),
            (betas, outputs, [('betas', 'betas'), ('maps', 'beta_maps'), ('info', 'beta_info')]),
            (reliability, outputs, [('maps', 'reliability_maps')]),
        ]
    )
    connect_atlas(workflow, participant, run, size, quality=quality, use=None, outputs=outputs)
    return outputs
