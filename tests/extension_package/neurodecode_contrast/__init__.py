"""How much larger responses are to some stimuli than to all others, voxel by voxel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from bids_neurodecode.bids.names import Product
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extensions import Asked, System
from bids_neurodecode.report.build import Section, Table, Text
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.publish import Publisher, publish_trials
from bids_neurodecode.systems.steps.responses import add_betas
from bids_neurodecode.workflow.files import save_map
from bids_neurodecode.workflow.nodes import Call, Ladder
from bids_neurodecode.workflow.step import ALL, step


class ContrastSettings(BaseModel):
    """Which stimuli are compared with all others."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    prefix: str = ''
    """What their names begin with."""
    n_trials: int | None = None
    """Not used: a setting that may be left open."""


NOBODY = 'No stimulus of sub-{label} has a name that begins with {prefix!r}.'


def check(asked: Asked) -> None:
    """Refuse a beginning that no name has."""
    prefix = asked.config.extension('contrast').prefix
    for person in asked.people:
        if not any(name.startswith(prefix) for name in person.stimuli):
            raise ArgumentsError(NOBODY.format(label=person.label, prefix=prefix))


def add_contrast(ladder: Ladder) -> None:
    """Add the steps."""
    add_betas(ladder)
    ladder.add(contrast)
    ladder.add(publish_contrast)


@step('contrast', makes=('contrast', 'table'), settings=('extensions',))
def contrast(
    config: Config, plan: Plan, mask: VoxelMask, betas: npt.NDArray[np.float32], folder: Path
) -> Mapping[str, Any]:
    """Subtract the mean response to all other stimuli."""
    prefix = config.extension('contrast').prefix
    chosen = plan.table['stimulus'].astype(str).str.startswith(prefix).to_numpy()
    others = betas[~chosen].mean(axis=0) if (~chosen).any() else 0
    difference = betas[chosen].mean(axis=0) - others
    counts = pd.DataFrame({'stimuli': ['chosen', 'others'], 'n': [chosen.sum(), (~chosen).sum()]})
    file = save_map(folder / 'contrast.nii.gz', mask, difference)
    return {'contrast': file, 'table': counts}


@step('outputs', makes=('results',), settings=ALL, always=True)
def publish_contrast(
    participant: ParticipantInput,
    config: Config,
    call: Call,
    plan: Plan,
    mean_bold: Path,
    contrast: Path,
    table: pd.DataFrame,
) -> Mapping[str, Any]:
    """Write the map, the table and the record for the report."""
    publisher = Publisher.of(participant, call, config)
    writer = publisher.writer
    columns = {'stimuli': {'Description': 'Which stimuli'}, 'n': {'Description': 'Trials'}}
    record = publisher.record(
        'contrast',
        n_trials=plan.table['run'].value_counts().to_dict(),
        plan=plan,
        trials=publish_trials(writer, plan.table),
        maps={'contrast': writer.image('contrast', contrast)},
        mean_bold=writer.image('meanbold', mean_bold),
        extension={
            'table': str(writer.table('contrast_table', table, columns=columns)),
            'prefix': config.extension('contrast').prefix,
        },
        stimuli_dir=participant.stimuli_dir,
    )
    return publisher.finish(record)


def sections(reader: Reader) -> list[Section]:
    """Show how many trials were compared."""
    told = reader.results.extension
    table = pd.read_csv(told['table'], sep='\t')
    rows = tuple((str(row.stimuli), str(row.n)) for row in table.itertuples())
    text = Text((f'Stimuli whose names begin with "{told["prefix"]}" against all others.',))
    shown = Table(('stimuli', 'trials'), rows, 'Trials that were compared.')
    return [Section('contrast', 'Contrast', (text, shown))]


SYSTEM = System(
    name='contrast',
    paradigms=('images',),
    train=add_contrast,
    settings=ContrastSettings,
    products={
        'contrast': Product(
            'statmap',
            entities={'stat': 'effect', 'desc': 'contrast'},
            sidecar={'Description': 'Mean response less that to others', 'Units': 'percent'},
        ),
        'contrast_table': Product('metrics', '.tsv', {'desc': 'contrast'}),
    },
    descriptions={'contrast': 'Responses to some stimuli against those to all others'},
    sections=sections,
    check=check,
    resolved=lambda asked: [f'compared: stimuli of {len(asked.people)} participants'],
    methods=lambda config: 'Responses to some stimuli were compared with those to all others.',
)
