"""What settings that nobody set become where small networks are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bids_neurodecode.bids.records import DatasetInput
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config, load_config
from bids_neurodecode.extensions import system_named
from bids_neurodecode.extras import has_packaged
from bids_neurodecode.settings.base import Settings
from bids_neurodecode.systems.steps.records import system_of

GUIDE, JUDGE = 'efficientnet-lite0', 'efficientnet-lite2'
"""What describes images, and what judges reconstructions."""
NOT_INSTALLED = (
    'Images are described by Gabor energies alone: the networks of the extra "cpu-nets" are not '
    'installed (see Installation).'
)
TAKEN = '{setting} = {value}: the networks of the extra "cpu-nets" are installed.'
OF_MODEL = 'features.extractor = "{value}", as the model was trained with.'


def with_installed(
    config: Config, arguments: Arguments, inputs: DatasetInput
) -> tuple[Config, list[str]]:
    """Fill in what depends on the networks that are installed, where nobody set it.

    Parameters
    ----------
    config, arguments
        The settings and the call.
    inputs
        Participants; films and conditions are described as ever.

    Returns
    -------
    tuple
        The settings, and lines for the log.
    """
    people = inputs.participants
    images = bool(people) and all(person.paradigm == 'images' for person in people)
    if arguments.analysis_level == 'group' or not images or arguments.level != 'full':
        return config, []
    system = system_named(system_of(config, 'images'))
    if arguments.models_from is not None and system.scores == 'decoded':
        return _as_trained(config, arguments.models_from, inputs, system.name)
    if arguments.models_from is not None or system.packaged is None:
        return config, []
    wanted = system.packaged(config, arguments.weights_dir)
    if not wanted:
        return config, []
    if not all(has_packaged(name) for name in (GUIDE, JUDGE)):
        return config, [NOT_INSTALLED]
    notes = []
    for (group, name), value in wanted.items():
        config = _changed(config, group, name, value)
        told = f'"{value}"' if isinstance(value, str) else f'[{", ".join(value)}]'
        notes.append(TAKEN.format(setting=f'{group}.{name}', value=told))
    return config, notes


def _as_trained(
    config: Config, models_from: Path, inputs: DatasetInput, system: str
) -> tuple[Config, list[str]]:
    """Describe new images as the model's were."""
    from bids_neurodecode.cli.systems import find_model

    if 'extractor' in config.features.model_fields_set:
        return config, []
    file = find_model(models_from, inputs.participants[0], system).with_suffix('.toml')
    if not file.is_file():
        return config, []
    name = load_config(file).features.extractor
    return _changed(config, 'features', 'extractor', name), [OF_MODEL.format(value=name)]


def _changed(config: Config, group: str, name: str, value: Any) -> Config:
    settings: Settings = getattr(config, group)
    return config.model_copy(update={group: settings.model_copy(update={name: value})})
