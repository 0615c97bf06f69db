"""The graph of one participant: small factories, every node with its resources."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bids_neurodecode._version import __version__
from bids_neurodecode.bids.captions import captions_file
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.config import Config, RoiFile, load_config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extensions import NOT_APPLIED, system_named, versions_of
from bids_neurodecode.levels.betas import add_betas_level, add_film_responses
from bids_neurodecode.levels.pages import make_report
from bids_neurodecode.spaces import files_of
from bids_neurodecode.stimuli.images import picture_source
from bids_neurodecode.systems.reconstruction.generation.steps.choice import picture_files
from bids_neurodecode.systems.steps.own_features import own_files
from bids_neurodecode.systems.steps.records import system_of
from bids_neurodecode.workflow.nodes import Ladder, RunSettings
from bids_neurodecode.workflow.resources import data_size

OWN_TABLE = ('table', 'table_key', 'table_rate')
"""Settings of the features that say where they lie: those of new stimuli lie elsewhere."""


def init_participant_wf(participant: ParticipantInput, run: RunSettings) -> Any:
    """Return the workflow of one participant, named ``sub_<label>_wf``.

    Its nodes leave their crash files in the participant's log folder.

    Parameters
    ----------
    participant
        Whose data.
    run
        Settings of the run.
    """
    from nipype.pipeline import engine as pe

    model = run.models.get(participant.label)
    participant = replace(participant, fingerprint=fingerprint(participant, run.config, model))
    workflow = pe.Workflow(name=workflow_name(participant.label))
    size = data_size(participant, run.config.selection)
    run = replace(run, notes=notes_of(participant.label, run.notes))
    system = system_named(system_of(run.config, participant.paradigm))
    ladder = Ladder(workflow, run, participant, size)
    if model is not None:
        ladder.run = with_model(run, model)
    if run.level != 'full':
        alone = add_film_responses if participant.of_films else add_betas_level
        alone(ladder)
    elif model is None:
        system.train(ladder)
    elif system.predict is None:  # refused before
        raise ArgumentsError(NOT_APPLIED.format(name=system.name))
    else:
        system.predict(ladder, model)
    ladder.add(make_report)
    crashes = run.output_dir / f'sub-{participant.label}' / 'log' / run.run_id
    for name in workflow.list_node_names():
        workflow.get_node(name).config = {'execution': {'crashdump_dir': str(crashes)}}
    return workflow


def workflow_name(label: str) -> str:
    """Return the name of a participant's workflow; Nipype's names may not hold a ``+``.

    Examples
    --------
    >>> workflow_name('01'), workflow_name('a+b')
    ('sub_01_wf', 'sub_a_p_b_wf')
    """
    return f'sub_{label.replace("+", "_p_")}_wf'


def notes_of(label: str, notes: Sequence[str]) -> tuple[str, ...]:
    """Return the notes without those on other participants.

    Parameters
    ----------
    label
        Of the participant.
    notes
        Of the call.

    Examples
    --------
    >>> notes_of('01', ['sub-01: two runs', 'sub-02: one run', 'All was read.'])
    ('sub-01: two runs', 'All was read.')
    """
    mine = f'sub-{label}:'
    return tuple(note for note in notes if not note.startswith('sub-') or note.startswith(mine))


def fingerprint(participant: ParticipantInput, config: Config, model: Path | None = None) -> str:
    """Return what changes when a file changes that the analysis reads, or the program.

    Nodes are given the names of their inputs, so that this is what tells Nipype's cache that the
    content is another one: size and time of change of every file, links followed.

    Parameters
    ----------
    participant, config
        Whose files, and the settings that name others.
    model
        Trained model that is applied; what lies beside it may be read too.
    """
    files = [
        file for run in participant.runs for file in (*files_of(run.bold), run.mask, run.events)
    ]
    tables = [run.confounds for run in participant.runs if run.confounds is not None]
    sidecars = (table.with_suffix('.json') for table in tables)
    files += [*tables, *(file for file in sidecars if file.is_file())]
    names = [participant.stimuli_dir / name for name in participant.stimuli]
    sources = dict.fromkeys(picture_source(name) for name in names)
    # a film may be known by its features alone, or not be needed
    files += [file for file in sources if file.is_file()]
    files += own_files(participant)
    files += [run.events for run in participant.events_only]
    others = (
        *(participant.betas, participant.betas_events),
        *(config.atlas.file, config.atlas.table, config.encoding.shared_head, config.split.file),
    )
    captions = captions_file(participant)
    files += [captions] if captions.is_file() else []
    files += [file for file in others if file is not None]
    if config.movie.concepts is not None:
        files += sorted(config.movie.concepts.glob('*/*'))
    if config.reconstruction.generator.endswith('.toml'):
        files.append(Path(config.reconstruction.generator))
    if config.reconstruction.prior_pictures is not None:
        files += picture_files(Path(config.reconstruction.prior_pictures))
    if config.atlas.file is not None:
        # the table is found beside it, and of surfaces the other hemisphere
        start = config.atlas.file.name.split('_')[0].split('.')[0]
        files += sorted(config.atlas.file.parent.glob(f'{start}*.[tc]sv'))
        files += files_of(config.atlas.file)
    for text in config.atlas.rois.values():
        files += files_of(RoiFile.of(text, participant.label).file)
    if model is not None:
        files += sorted(file for file in model.parent.iterdir() if file.is_file())
    digest = hashlib.sha256(f'{__version__}{versions_of(config)}'.encode())
    for file in dict.fromkeys(files):
        state = file.stat()
        digest.update(f'{file}|{state.st_size}|{state.st_mtime_ns}\n'.encode())
    return digest.hexdigest()


def with_model(run: RunSettings, model: Path) -> RunSettings:
    """Return the settings of a run that applies a model: those it was trained with.

    Only how scores are tested, the seed, and where features of the user lie are the run's own.

    Parameters
    ----------
    run
        Settings of the run.
    model
        File of the trained model.
    """
    trained = load_config(model.with_suffix('.toml'))
    table = {name: getattr(run.config.features, name) for name in OWN_TABLE}
    own = {
        'evaluation': run.config.evaluation,
        'features': trained.features.model_copy(update=table),
        'seed': run.config.seed,
        'system': run.config.system,
    }
    return replace(run, config=trained.model_copy(update=own))


def everyone_of(participants: Sequence[ParticipantInput], run: RunSettings) -> Path | None:
    """Write down who is analysed in this call, where a system compares each with the others.

    Parameters
    ----------
    participants
        Of the call.
    run
        Settings of the run.
    """
    people: dict[str, list[ParticipantInput]] = {}
    for person in () if run.models else participants:
        people.setdefault(system_of(run.config, person.paradigm), []).append(person)
    for name, own in people.items():
        if (together := system_named(name).together) is not None:
            marked = [replace(x, fingerprint=fingerprint(x, run.config)) for x in own]
            if (file := together(marked, run)) is not None:
                return file
    return None


def init_run_wf(
    participants: Sequence[ParticipantInput],
    run: RunSettings,
    everyone: Sequence[ParticipantInput] = (),
) -> Any:
    """Return the workflow of all participants of one call.

    Parameters
    ----------
    participants
        Who is run.
    run
        With which settings.
    everyone
        All participants of the call, where not all of them are run.
    """
    from nipype.pipeline import engine as pe

    workflow = pe.Workflow(name='bids_neurodecode_wf', base_dir=str(run.work_dir))
    run = replace(run, everyone=everyone_of(everyone or participants, run))
    workflow.add_nodes([init_participant_wf(participant, run) for participant in participants])
    return workflow
