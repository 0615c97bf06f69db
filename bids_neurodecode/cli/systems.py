"""Whether the system that was asked for goes with the data, and which model is applied."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_neurodecode import extensions
from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.names import PRODUCTS, clean_label
from bids_neurodecode.bids.provenance import DESCRIPTIONS, check_links
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.cli.checks_places import device_of
from bids_neurodecode.cli.parser import Arguments, from_command_line
from bids_neurodecode.config import Config, load_config, read_settings
from bids_neurodecode.errors import ArgumentsError, InputError, ReportError
from bids_neurodecode.extensions import find_system
from bids_neurodecode.extras import PACKAGED, has_networks, packaged_files
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.stimuli.features import WEIGHTS, extractor_names, get_extractor, networks_of
from bids_neurodecode.systems.reconstruction.generation.steps.model import (
    generation_model_of,
    generator_of,
)
from bids_neurodecode.systems.steps.records import read_results, results_path, system_of
from bids_neurodecode.text import one_line

LOGGER = logging.getLogger('bids_neurodecode')
WRONG_SYSTEM = (
    'The system {asked!r} does not go with the task {task!r} of sub-{label}, which shows '
    '{paradigm}. It is set by {where}. Ask for --system {right}{instead}.'
)
WHICH_MODEL = (
    'No one {what} of sub-{label} and its task in {folder} (found: {found}). '
    'Give the output folder of a training run {of} with --models-from.'
)
NO_MODEL_SETTINGS = (
    'The model {model} lacks the settings that it was trained with: there is no {file} beside it. '
    'Copy the whole output folder of the training run.'
)
BAD_MODEL = 'Cannot read the model {model}: {reason}. Copy it again, or train it again.'
NOT_APPLIED = (
    'The task {task!r} of sub-{label} names conditions alone, and their models are not kept: '
    'there is nothing to apply. Leave out --mode predict and --models-from.'
)
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
NOT_SELECTED = (
    'Encoding models predict all voxels of the mask (or of the regions of an atlas): none are '
    'selected by {measure!r} ({where}). Leave selection.measure at "auto".'
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
NO_NETWORKS = (
    '{setting} needs networks, which are not installed: install the extra "networks" '
    '(pip install ".[networks]" in the source; see Installation), or choose a linear model.'
)
NO_EXTRACTOR = (
    'features.extractor = {name!r} cannot be used: {reason}. Decoding and films use one of: '
    '{names}; others are feature spaces of encoding models (encoding.bands).'
)
NO_SELECTION = (
    'Voxels of films are not selected by {measure!r} ({where}). Set selection.measure to "isc" '
    '(agreement between participants), "none" or "auto".'
)
ONLY_PUBLISHED = (
    'selection.measure = "snr" looks at held-out volumes too: it goes with the published split '
    '(split.by = "paper") and clean.scaling = "none" only, as in the preset emofilm-paper. '
    'Set selection.measure to "isc".'
)

SYSTEMS = {
    'images': ('reconstruction', 'encoding'),
    'movie': ('movie',),
    'conditions': ('conditions',),
}
"""The systems of each paradigm, the default first."""
SHOWN = {'images': 'pictures', 'movie': 'films', 'conditions': 'conditions (trial_type)'}


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
    from bids_neurodecode.models.weights import weights_path
    from bids_neurodecode.systems.movie.steps.explain import check_explain
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
    check_extractor(arguments, config)
    check_explain(config)
    check_shared_head(arguments, config)
    check_links(arguments.output_dir, inputs.bids_dir, inputs.derivatives)
    check_declarations(config.system)
    check_system(arguments, config, inputs)
    check_networks(arguments, config, inputs)
    if arguments.level != 'full':
        check_responses_alone(arguments, inputs)
    elif not arguments.writes_texts_only:
        check_pictures(arguments, config, inputs)


def check_networks(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Check that networks are installed where something is trained, or applied, that is one.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError
        Naming the setting or the model, and the extra to install.
    """
    no_models = arguments.writes_texts_only or arguments.level != 'full'
    if has_networks() or no_models or arguments.analysis_level == 'group':
        return
    for person in inputs.participants:
        if arguments.models_from is None:
            needed = _trained_network(config, system_of(config, person.paradigm))
        else:
            needed = _applied_network(arguments.models_from, person, config)
        if needed:
            raise ArgumentsError(NO_NETWORKS.format(setting=needed))


def _trained_network(config: Config, system: str) -> str:
    """Return the setting by which a training needs networks; nothing if none does."""
    from bids_neurodecode.systems.encoding.steps.training import LINEAR

    network = config.movie.model == 'network' and config.movie.target == 'participant'
    if system == 'movie' and network:
        return 'movie.model = "network"'
    if system == 'encoding' and config.encoding.model not in LINEAR:
        return f'encoding.model = "{config.encoding.model}"'
    frozen = sorted(
        band for band in config.encoding.bands if band.partition(':')[0] in {*WEIGHTS, *PACKAGED}
    )
    if system == 'encoding' and frozen:
        return f'encoding.bands with {", ".join(frozen)}'
    extractor = config.features.extractor
    if system != 'encoding' and not PACKAGED.keys().isdisjoint(networks_of(extractor)):
        return f'features.extractor = "{extractor}"'
    generator = config.reconstruction.generator
    if system == 'reconstruction' and generator not in {'auto', 'none'}:
        return f'reconstruction.generator = "{generator}"'
    return ''


def _applied_network(folder: Path, person: ParticipantInput, config: Config) -> str:
    """Return the trained model that is a network, or lies beside one; nothing if none does."""
    model = find_model(folder, person, config.system)
    system = system_of(config, person.paradigm)
    if system == 'encoding':
        return _trained_network(load_config(model.with_suffix('.toml')), system)
    if system == 'reconstruction' and generation_model_of(model) is not None:
        return f'the model that makes images beside {model.name}'
    networks = model.parent.glob('*_desc-network_model.safetensors')
    return next((f'the model {file.name}' for file in networks if system == 'movie'), '')


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
        if person.paradigm == 'movie' and arguments.level == 'betas':
            raise ArgumentsError(BETAS_OF_FILMS.format(task=person.task, label=person.label))
        if person.betas is not None:
            raise ArgumentsError(
                BETAS_TAKEN.format(label=person.label, file=person.betas, level=arguments.level)
            )
        record = results_path(arguments.output_dir, person.label, person.task)
        try:
            more = record.is_file() and read_results(record).fits_models
        except ReportError as error:
            raise InputError(str(error)) from error
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


def check_shared_head(arguments: Arguments, config: Config) -> None:
    """Check the head that participants share, where the encoding model is of it.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.

    Raises
    ------
    ArgumentsError
        If none was named, or it takes other feature spaces.
    InputError
        If the file is none.
    """
    from bids_neurodecode.systems.encoding.encoders import NO_HEAD
    from bids_neurodecode.systems.encoding.shared import OTHER_BANDS
    from bids_neurodecode.systems.encoding.steps.group import load_head

    encoding = config.encoding
    if arguments.analysis_level == 'group' or encoding.model != 'shared':
        return
    if arguments.mode == 'predict' or config.system != 'encoding':
        return
    if encoding.shared_head is None:
        raise ArgumentsError(NO_HEAD)
    bands = load_head(encoding.shared_head).bands
    if bands != encoding.bands:
        raise ArgumentsError(OTHER_BANDS.format(expected=[*bands], found=[*encoding.bands]))


def check_pictures(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Check that what makes images is there: weights, regions, further images.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError, InputError
        One line: what is missing, and the way out.
    """
    from bids_neurodecode.models.weights import default_weights_dir
    from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
        check_generation,
        find_weights,
    )

    people = [person for person in inputs.participants if person.paradigm == 'images']
    if not people or config.system not in {'auto', 'reconstruction'}:
        return
    if arguments.models_from is None:
        device = device_of(arguments.device)
        LOGGER.info('%s', check_generation(config, device, arguments.weights_dir).why)
        return
    models = [generation_model_of(find_model(arguments.models_from, p)) for p in people]
    made_by = {generator_of(model) for model in models if model is not None}
    for generator in sorted(made_by):
        find_weights(arguments.weights_dir or default_weights_dir(), generator)


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
    extension = find_system(config.system)
    if extension is not None and extension.predict is None and arguments.models_from is not None:
        raise ArgumentsError(extensions.NOT_APPLIED.format(name=config.system))
    for person in inputs.participants:
        able = SYSTEMS[person.paradigm]
        if extension is not None and person.paradigm in extension.paradigms:
            able = (*able, config.system)
        if config.system not in {'auto', *able}:
            raise ArgumentsError(
                WRONG_SYSTEM.format(
                    where=_where_set(arguments, 'system'),
                    instead=', or leave it out' if arguments.system else '',
                    asked=config.system,
                    task=person.task,
                    label=person.label,
                    paradigm=SHOWN[person.paradigm],
                    right=able[0],
                )
            )
        if person.paradigm == 'conditions' and arguments.models_from is not None:
            raise ArgumentsError(NOT_APPLIED.format(task=person.task, label=person.label))
        if person.paradigm == 'movie':
            check_selection(arguments, config)
            check_others(arguments, config, inputs)
        if config.system == 'encoding':
            check_encoding(arguments, config, person)
        if arguments.stimuli_dir is not None and person.layout == 'nsd' and person.runs:
            raise ArgumentsError(NOT_OF_NSD)


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
    for table, own in (('products', PRODUCTS), ('descriptions', DESCRIPTIONS)):
        for key in getattr(extension, table):
            if key in own:
                raise ArgumentsError(TAKEN.format(name=extension.name, key=key, table=table))
            extensions.declared(table, key)


def own_models() -> frozenset[str]:
    """Return what the models of this package's systems are called (``desc``)."""
    from bids_neurodecode.systems.encoding.steps import outputs as encoding_outputs
    from bids_neurodecode.systems.movie.steps import network_outputs as film_network_outputs
    from bids_neurodecode.systems.movie.steps import outputs as film_outputs
    from bids_neurodecode.systems.reconstruction.generation.steps import (
        outputs as generation_outputs,
    )
    from bids_neurodecode.systems.reconstruction.steps import training as pictures

    others = (pictures, film_outputs, film_network_outputs, generation_outputs)
    return encoding_outputs.ENCODERS | {module.DESC for module in others}


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


def check_encoding(arguments: Arguments, config: Config, person: ParticipantInput) -> None:
    """Check the feature spaces of an encoding model: their weights, and captions.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    person
        The participant.

    Raises
    ------
    ArgumentsError, InputError
        If voxels are to be selected, or weights or captions are missing.
    """
    from bids_neurodecode.bids.captions import first_captions
    from bids_neurodecode.models.weights import weights_path
    from bids_neurodecode.systems.encoding.steps.features import CAPTIONED

    if config.selection.measure not in {'auto', 'none'}:
        where = _where_set(arguments, 'selection', 'measure')
        raise ArgumentsError(NOT_SELECTED.format(measure=config.selection.measure, where=where))
    if arguments.models_from is not None:
        model = find_model(arguments.models_from, person, config.system)
        config = load_config(model.with_suffix('.toml'))
    for band in config.encoding.bands:
        if band in WEIGHTS:
            weights_path(WEIGHTS[band], arguments.weights_dir)
        if (name := band.partition(':')[0]) in PACKAGED:
            packaged_files(name)
        if band in CAPTIONED:
            first_captions(person)


def models_in(folder: Path, label: str, system: str) -> list[Path]:
    """Return the trained models of a participant that a system applies, in order of their names.

    Parameters
    ----------
    folder
        An output folder.
    label
        Of the participant.
    system
        Of which the models are; of images and films without encoding they are linear.
    """
    from bids_neurodecode.systems.encoding.steps.outputs import ENCODERS

    names = ENCODERS if system == 'encoding' else frozenset({'linear'})
    if find_system(system) is not None:
        names = frozenset({clean_label(system)})
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
    what = {'encoding': 'encoding model'}.get(system, 'linear model')
    if find_system(system) is not None:
        what = f'model of the system {system!r}'
    of = 'with --system encoding' if system == 'encoding' else 'of the same participant'
    names = ', '.join(file.name for file in found) or 'none'
    return WHICH_MODEL.format(what=what, label=label, folder=folder, found=names, of=of)


def check_selection(arguments: Arguments, config: Config) -> None:
    """Refuse measures that films do not have, and motion energy without its package.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.

    Raises
    ------
    ArgumentsError
        Also for the published measure outside of the published split.
    """
    from bids_neurodecode.stimuli.motion import require_motion_energy

    if config.movie.motion == 'energy' and config.movie.with_banded:
        require_motion_energy()
    measure = config.selection.measure
    if measure not in {'auto', 'none', 'isc', 'snr'}:
        where = _where_set(arguments, 'selection', 'measure')
        raise ArgumentsError(NO_SELECTION.format(measure=measure, where=where))
    if measure == 'snr' and (config.split.by != 'paper' or config.clean.scaling != 'none'):
        raise ArgumentsError(ONLY_PUBLISHED)


def check_others(arguments: Arguments, config: Config, inputs: DatasetInput) -> None:
    """Refuse a choice of voxels by agreement where there is nobody to agree with.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.

    Raises
    ------
    ArgumentsError
        If one participant is asked for and earlier calls left no others to compare with.
    """
    from bids_neurodecode.systems.movie.steps.earlier import earlier_sources
    from bids_neurodecode.systems.movie.steps.group import NOBODY_ELSE

    measure = config.selection.measure
    viewers = [person for person in inputs.everyone if person.paradigm == 'movie']
    asked = measure in {'isc', 'snr'} and config.movie.target == 'participant'
    if not asked or len(viewers) > 1 or arguments.models_from is not None:
        return
    if not earlier_sources(viewers[0], arguments.output_dir, config):
        raise ArgumentsError(
            NOBODY_ELSE.format(
                measure=measure, label=viewers[0].label, folder=arguments.output_dir
            )
        )


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
    from bids_neurodecode.systems.movie.steps.model import check_film_model

    # what no system predicts, or another one, is refused for all at once (check_system)
    if arguments.models_from is None or not _goes_with(config.system, person):
        return ()
    model = find_model(arguments.models_from, person, config.system)
    check_model(model)
    if person.paradigm == 'movie':
        check_film_model(model, person)
    return ()


def _goes_with(system: str, person: ParticipantInput) -> bool:
    """Whether the models of a system may be applied to what a participant was shown."""
    extension = find_system(system)
    if extension is not None:
        return extension.predict is not None and person.paradigm in extension.paradigms
    return person.paradigm != 'conditions' and system in {'auto', *SYSTEMS[person.paradigm]}


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
    try:
        load_config(settings)
    except ArgumentsError as error:  # of this participant alone
        raise InputError(str(error)) from error
    try:
        with safe_open(model, 'numpy') as found:
            found.keys()
    except (OSError, SafetensorError) as error:
        raise InputError(BAD_MODEL.format(model=model, reason=one_line(error))) from error


def find_model(folder: Path, participant: ParticipantInput, system: str = 'auto') -> Path:
    """Return the trained decoder (or, of the system ``encoding``, encoder) of a participant.

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
    files = models_in(folder, participant.label, system)
    same = [file for file in files if f'_task-{participant.task}_' in file.name]
    if len(same) == 1 or len(files) == 1:
        check_fetched((same or files)[0])
        return (same or files)[0]
    raise InputError(no_model(folder, participant.label, system, files))
