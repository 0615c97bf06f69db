"""Whether the system that was asked for goes with the data, and which model is applied."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, InputError

WRONG_SYSTEM = (
    'The system {asked!r} does not go with the task {task!r} of sub-{label}, which shows '
    '{paradigm}. Ask for --system {right}, or leave it out.'
)
NOT_YET = (
    'The system {asked!r} is not part of this version. Pictures: reconstruction; films: movie '
    '(--system, or leave it out).'
)
NO_FILM_PREDICTION = (
    'Participant {label} saw films: predict mode applies picture decoders only, as yet. '
    'Use --mode train.'
)
WHICH_MODEL = (
    'No one linear model of sub-{label} and its task in {folder} (found: {found}). '
    'Give the output folder of a training run of the same participant with --models-from.'
)

NO_DOT = (
    'Drawing the workflow needs Graphviz (the command "dot"). '
    'Install it, or leave out --write-graph.'
)
NO_GLMSINGLE = (
    'betas.engine = "glmsingle" needs the package glmsingle, which is not installed. '
    'Install it, or leave the engine at "native".'
)
NO_SELECTION = (
    'Voxels of films are not selected by {measure!r}: all of the mask (or of the regions of an '
    'atlas) are used. Leave selection.measure at "auto".'
)

SYSTEMS = {'images': ('reconstruction',), 'movie': ('movie',)}
"""The systems of each paradigm, the default first."""


def check_before(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Refuse what cannot work with these data, this machine or this output folder.

    Raises
    ------
    ArgumentsError, InputError
        One line: what, and the way out.
    """
    from bids_neurodecode.bids.provenance import check_links
    from bids_neurodecode.models.weights import weights_path
    from bids_neurodecode.workflow.run import PluginSettings

    if arguments.use_plugin is not None:
        PluginSettings.read(arguments.use_plugin)
    if arguments.write_graph and shutil.which('dot') is None:
        raise ArgumentsError(NO_DOT)
    if config.betas.engine == 'glmsingle' and importlib.util.find_spec('glmsingle') is None:
        raise ArgumentsError(NO_GLMSINGLE)
    movie = config.movie
    if movie.model == 'network' and movie.mode != 'encoder' and movie.perceptual == 'vgg16':
        weights_path('vgg16', arguments.weights_dir)
    check_links(arguments.output_dir, inputs.bids_dir, inputs.derivatives)
    check_system(arguments, config, inputs)


def check_system(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Refuse a system that the data cannot feed, or a model that is not there.

    Raises
    ------
    ArgumentsError
        If the system is not part of this version or is for the other paradigm.
    InputError
        If predict mode has no model for a participant.
    """
    known = {name for names in SYSTEMS.values() for name in names}
    if config.system != 'auto' and config.system not in known:
        raise ArgumentsError(NOT_YET.format(asked=config.system))
    for person in inputs.participants:
        able = SYSTEMS[person.paradigm]
        if config.system not in {'auto', *able}:
            raise ArgumentsError(
                WRONG_SYSTEM.format(
                    asked=config.system,
                    task=person.task,
                    label=person.label,
                    paradigm='films' if person.paradigm == 'movie' else 'pictures',
                    right=able[0],
                )
            )
        if person.paradigm == 'movie' and config.selection.measure not in {'auto', 'none'}:
            raise ArgumentsError(NO_SELECTION.format(measure=config.selection.measure))
        if arguments.models_from is not None:
            find_model(arguments.models_from, person)


def find_model(folder: Path, participant: ParticipantInput) -> Path:
    """Return the trained decoder of a participant.

    Raises
    ------
    InputError
        If there is none, or several and none of them of the participant's task.
    """
    label = participant.label
    if participant.paradigm != 'images':
        raise ArgumentsError(NO_FILM_PREDICTION.format(label=label))
    files = sorted((folder / f'sub-{label}' / 'models').glob('*_desc-linear_model.safetensors'))
    same = [file for file in files if f'_task-{participant.task}_' in file.name]
    if len(same) == 1 or len(files) == 1:
        return (same or files)[0]
    found = ', '.join(file.name for file in files) or 'none'
    raise InputError(WHICH_MODEL.format(label=label, folder=folder, found=found))
