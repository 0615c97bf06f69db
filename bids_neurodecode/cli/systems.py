"""Whether the system that was asked for goes with the data, and which model is applied."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bids_neurodecode import extensions
from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.names import PRODUCTS, clean_label
from bids_neurodecode.bids.provenance import DESCRIPTIONS, check_links
from bids_neurodecode.bids.records import SHOWN, DatasetInput, ParticipantInput
from bids_neurodecode.cli.checks_places import device_of
from bids_neurodecode.cli.parser import Arguments, from_command_line
from bids_neurodecode.config import Config, load_config, read_settings
from bids_neurodecode.errors import ArgumentsError, InputError, ReportError, raised_as, retold
from bids_neurodecode.extensions import (
    NOT_APPLIED,
    OWN,
    Asked,
    find_system,
    own_defaults,
    own_descriptions,
    own_systems,
    system_named,
)
from bids_neurodecode.extras import has_networks
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.stimuli.features import WEIGHTS, extractor_names, get_extractor, networks_of
from bids_neurodecode.systems.steps.records import read_results, results_path, system_of

LOGGER = logging.getLogger('bids_neurodecode')
WRONG_SYSTEM = (
    'The system {asked!r} does not go with the task {task!r} of sub-{label}, which shows '
    '{paradigm}. It is set by {where}. Ask for --system {right}{instead}.'
)
WHICH_MODEL = (
    'No one model of the system {system!r} for sub-{label} and its task in {folder} (found: '
    '{found}). Give the output folder of a training run {of} with --models-from.'
)
NO_MODEL_SETTINGS = (
    'The model {model} lacks the settings that it was trained with: there is no {file} beside it. '
    'Copy the whole output folder of the training run.'
)
BAD_MODEL = 'Cannot read the model {model}: {reason}. Copy it again, or train it again.'
TAKEN = (
    'The installed system {name!r} declares {key!r} among its {table}, which this program has '
    'itself. Its package has to choose another name.'
)
SAME_MODELS = (
    'The models of the installed system {name!r} would be called "desc-{desc}", as those of '
    '{other}. Its package has to choose another name.'
)
BETAS_OF_FILMS = (
    'The task {task!r} of sub-{label} shows films, and their responses are no single-trial betas. '
    'Use --level responses (cleaned and aligned series), or choose another --task-id.'
)
BETAS_IN_RESULTS = (
    '{folder} holds results of sub-{label} beyond these, which --level {level} would replace. '
    'Give another output folder.'
)
BETAS_TAKEN = (
    'The betas of sub-{label} are there already ({file}), so --level {level} has nothing to do. '
    'Leave out --level {level}, or betas.precomputed.'
)
NOT_OF_NSD = (
    '--stimuli-dir is of no use with NSD in its published layout: its images are read from '
    'nsddata_stimuli/. Leave it out.'
)
NO_MASK_HERE = (
    '--mask is for preprocessed series in BIDS, and {folder} is read in the layout in which it '
    'was published ({layout}), which says what is inside. Leave it out.'
)
NO_DOT = (
    'Drawing the workflow needs Graphviz (the command "dot"). '
    'Install it, or leave out --write-graph.'
)
NO_GLMSINGLE = (
    'betas.engine = "glmsingle" needs the package glmsingle, which is not installed. '
    'Install it, or leave the engine at "native".'
)
NO_EXTRACTOR = (
    'features.extractor = {name!r} cannot be used: {reason}. Decoding and films use one of: '
    '{names}; others are feature spaces of encoding models (encoding.bands).'
)


def check_before(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Refuse what cannot work with these data, this machine or this output folder.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError, InputError
        One line: what, and the way out.
    """
    from bids_neurodecode.workflow.run import PluginSettings

    if arguments.use_plugin is not None:
        PluginSettings.read(arguments.use_plugin)
    if arguments.write_graph and shutil.which('dot') is None:
        raise ArgumentsError(NO_DOT)
    if config.betas.engine == 'glmsingle' and importlib.util.find_spec('glmsingle') is None:
        raise ArgumentsError(NO_GLMSINGLE)
    check_extractor(arguments, config)
    check_links(arguments.output_dir, inputs.bids_dir, inputs.derivatives)
    check_declarations(config.system)
    check_system(arguments, config, inputs)
    if arguments.level != 'full':
        check_responses_alone(arguments, inputs)
    ask_systems(arguments, config, inputs)


def ask_systems(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Let each system refuse what cannot work with what is asked of it.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError, InputError
        As the systems say.
    """
    group = arguments.analysis_level == 'group'
    people: dict[str, list[ParticipantInput]] = {}
    if group:
        people = {name: [] for name in ((config.system,) if config.system != 'auto' else OWN)}
    for person in () if group else inputs.participants:
        people.setdefault(system_of(config, person.paradigm), []).append(person)
    for name, own in people.items():
        system, models = system_named(name), dict[str, Path]()
        if arguments.models_from is not None:
            models = {p.label: find_model(arguments.models_from, p, name) for p in own}
        if system.check is not None:
            system.check(asked_of(arguments, config, inputs, own, models))


def asked_of(
    arguments: Arguments,
    config: Config,
    inputs: DatasetInput,
    people: Sequence[ParticipantInput],
    models: Mapping[str, Path],
) -> Asked:
    """Return what a run asks of a system.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.
    people, models
        Participants of the system, and the trained model of each by label.
    """
    return Asked(
        config=config,
        people=tuple(people),
        everyone=inputs.everyone,
        models=models,
        fits=arguments.level == 'full' and not arguments.writes_texts_only,
        output_dir=arguments.output_dir,
        weights_dir=arguments.weights_dir,
        device=device_of(arguments.device),
        where=partial(_where_set, arguments),
    )


def check_responses_alone(arguments: Arguments, inputs: DatasetInput) -> None:
    """Refuse responses alone where there are none to estimate, or more would be lost.

    Parameters
    ----------
    arguments
        Of the call.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError, InputError
        Naming the participant, or the record that cannot be read.
    """
    for person in inputs.participants:
        if person.of_films and arguments.level == 'betas':
            raise ArgumentsError(BETAS_OF_FILMS.format(task=person.task, label=person.label))
        if person.betas is not None:
            raise ArgumentsError(
                BETAS_TAKEN.format(label=person.label, file=person.betas, level=arguments.level)
            )
        record = results_path(arguments.output_dir, person.label, person.task)
        with retold(InputError, ReportError):
            more = record.is_file() and read_results(record).fits_models
        if more:
            told = {'folder': arguments.output_dir, 'label': person.label}
            told |= {'level': arguments.level}
            raise ArgumentsError(BETAS_IN_RESULTS.format(**told))


def check_extractor(arguments: Arguments, config: Config) -> None:
    """Check that the feature extractor is there and needs no weights.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.

    Raises
    ------
    ArgumentsError
        If it is unknown, or one of encoding models.
    """
    extractor = config.features.extractor
    if arguments.analysis_level == 'group':
        return
    able = [known for known in (*extractor_names(), TABLE) if known not in WEIGHTS]
    parts = networks_of(extractor)
    for name in parts:
        if name not in able or (name == TABLE and len(parts) > 1):
            known = name in extractor_names()
            reason = 'it needs pretrained weights' if known else 'there is none of that name'
            told = {'name': name, 'reason': reason, 'names': ', '.join(able)}
            raise ArgumentsError(NO_EXTRACTOR.format(**told))
    if has_networks() and extractor not in {'gabor', TABLE}:
        get_extractor(extractor)


def check_system(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Refuse a system that the data cannot feed, or a model that is not there.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError
        If the system is not part of this version or is for the other paradigm.
    InputError
        If predict mode has no model for a participant.
    """
    layouts = {person.layout for person in inputs.participants} - {'bids'}
    if arguments.mask is not None and layouts:
        raise ArgumentsError(
            NO_MASK_HERE.format(folder=inputs.bids_dir, layout=', '.join(sorted(layouts)))
        )
    for person in inputs.participants:
        if not _goes_with(config.system, person):
            raise ArgumentsError(
                WRONG_SYSTEM.format(
                    where=_where_set(arguments, 'system'),
                    instead=', or leave it out' if arguments.system else '',
                    asked=config.system,
                    task=person.task,
                    label=person.label,
                    paradigm=SHOWN[person.paradigm],
                    right=own_systems(person.paradigm)[0],
                )
            )
        name = system_of(config, person.paradigm)
        if arguments.models_from is not None and system_named(name).predict is None:
            raise ArgumentsError(NOT_APPLIED.format(name=name))
        if arguments.stimuli_dir is not None and person.layout == 'nsd' and person.runs:
            raise ArgumentsError(NOT_OF_NSD)


def _goes_with(system: str, person: ParticipantInput) -> bool:
    """Return whether a system takes what a participant was shown."""
    return system == 'auto' or person.paradigm in system_named(system).paradigms


def check_declarations(system: str) -> None:
    """Refuse an installed system whose names of outputs are also those of another system.

    Raises
    ------
    ArgumentsError
        Naming the systems and the name.
    """
    extension = find_system(system)
    if extension is None:
        return
    word = clean_label(system).casefold()
    same = [x for x in extensions.installed() if clean_label(x).casefold() == word and x != system]
    if not word or same or word in own_models():
        other = repr(same[0]) if same else 'systems of this program'
        raise ArgumentsError(SAME_MODELS.format(name=system, desc=word, other=other))
    for table, own in (
        ('products', PRODUCTS),
        ('descriptions', {**DESCRIPTIONS, **own_descriptions()}),
    ):
        for key in getattr(extension, table):
            if key in own:
                raise ArgumentsError(TAKEN.format(name=extension.name, key=key, table=table))
            extensions.declared(table, key)


def own_models() -> frozenset[str]:
    """Return what the models of this package's systems are called (``desc``)."""
    systems = map(system_named, OWN)
    return frozenset(name for system in systems for name in (*system.models, *system.beside))


def _where_set(arguments: Arguments, *keys: str) -> str:
    """Say which layer of the settings a setting comes from: command line, file or preset.

    Parameters
    ----------
    arguments
        The call.
    *keys
        Groups, and the name of the setting.
    """
    name = '.'.join(keys)
    if _holds(from_command_line(arguments), keys):
        return f'the option --{keys[-1]}'
    if arguments.config_file is not None and _holds(read_settings(arguments.config_file), keys):
        return f'{name} in {arguments.config_file}'
    if _holds(read_settings(arguments.preset), keys):
        return f'{name} in the preset {arguments.preset}'
    return f'{name} in the recipe of the dataset'


def _holds(values: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def models_in(folder: Path, label: str, system: str) -> list[Path]:
    """Return the trained models of a participant that a system applies, in order of their names.

    Parameters
    ----------
    folder
        An output folder.
    label
        Of the participant.
    system
        Of which the models are.
    """
    names = system_named(system).models or (clean_label(system),)
    files = (folder / f'sub-{label}' / 'models').glob('*_model.safetensors')
    return sorted(file for file in files if parse_entities(file).get('desc') in names)


def no_model(folder: Path, label: str, system: str, found: Sequence[Path] = ()) -> str:
    """Say that there is no one trained model, and the way out.

    Parameters
    ----------
    folder
        An output folder.
    label
        Of the participant.
    system
        Of which the model would be.
    found
        Those that are there.
    """
    of = 'of the same participant'
    if system not in own_defaults():
        of = f'with --system {system}'
    names = ', '.join(file.name for file in found) or 'none'
    return WHICH_MODEL.format(system=system, label=label, folder=folder, found=names, of=of)


def check_trained(
    arguments: Arguments, config: Config, person: ParticipantInput
) -> tuple[str, ...]:
    """Check the trained model that a participant's data are given to, in predict mode.

    Parameters
    ----------
    arguments, config
        The call, and its settings.
    person
        Whose model.

    Raises
    ------
    InputError
        If there is none, it is damaged, or was trained on another grid or repetition time.
    """
    # what no system predicts, or another one, is refused for all at once (check_system)
    if arguments.models_from is None or not _goes_with(config.system, person):
        return ()
    system = system_named(system_of(config, person.paradigm))
    if system.predict is not None:
        model = find_model(arguments.models_from, person, system.name)
        check_model(model)
        if system.check_model is not None:
            system.check_model(model, person)
    return ()


def check_model(model: Path) -> None:
    """Check that a model can be opened, and that its settings lie beside it.

    Raises
    ------
    InputError
        If one is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    settings = model.with_suffix('.toml')
    if not settings.is_file():
        raise InputError(NO_MODEL_SETTINGS.format(model=model, file=settings.name))
    # of this participant alone
    with retold(InputError, ArgumentsError):
        load_config(settings)
    with (
        raised_as(InputError, BAD_MODEL, OSError, SafetensorError, model=model),
        safe_open(model, 'numpy') as found,
    ):
        found.keys()


def find_model(folder: Path, participant: ParticipantInput, system: str = 'auto') -> Path:
    """Return the trained model of a participant.

    Parameters
    ----------
    folder
        An output folder.
    participant
        Label and task.
    system
        Of which the model is.

    Raises
    ------
    InputError
        If there is none, or several and none of them of the participant's task.
    """
    system = own_systems(participant.paradigm)[0] if system == 'auto' else system
    files = models_in(folder, participant.label, system)
    same = [file for file in files if f'_task-{participant.task}_' in file.name]
    if len(same) == 1 or len(files) == 1:
        check_fetched((same or files)[0])
        return (same or files)[0]
    raise InputError(no_model(folder, participant.label, system, files))
