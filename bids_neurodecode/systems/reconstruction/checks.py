"""What decoding and reconstruction are refused for, before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from bids_neurodecode.config import Config
from bids_neurodecode.evaluation.protocols import get_protocol
from bids_neurodecode.extensions import Asked
from bids_neurodecode.extras import require_networks
from bids_neurodecode.stimuli.features import networks_needed
from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
    check_generation,
    choose_generator,
    find_weights,
    metric_weights,
    weights_of,
)
from bids_neurodecode.systems.reconstruction.generation.steps.model import (
    generation_model_of,
    generator_of,
)

EXTRACTOR = 'gabor+efficientnet-lite0'
"""Describes images for identification where small networks are installed."""
LOGGER = logging.getLogger('bids_neurodecode')


def check_reconstruction(asked: Asked) -> None:
    """Check that what makes images is there: networks, weights, regions, further images.

    Parameters
    ----------
    asked
        What the run asks for.

    Raises
    ------
    ArgumentsError, InputError
        One line: what is missing, and the way out.
    """
    from bids_neurodecode.models.weights import default_weights_dir

    if not (asked.people and asked.fits):
        return
    require_networks(_network(asked))
    if not asked.models:
        LOGGER.info('%s', check_generation(asked.config, asked.device, asked.weights_dir).why)
        return
    models = map(generation_model_of, asked.models.values())
    for generator in sorted({generator_of(model) for model in models if model is not None}):
        find_weights(asked.weights_dir or default_weights_dir(), generator)


def generator_resolved(asked: Asked) -> Iterator[str]:
    """Say what makes images."""
    if asked.config.reconstruction.generator == 'auto':
        choice = choose_generator(asked.config, asked.device, asked.weights_dir)
        yield f'reconstruction.generator: {choice.name}. {choice.why}'


def image_networks(config: Config) -> tuple[list[str], list[str]]:
    """Return the pretrained networks that make images, and those that judge them."""
    from bids_neurodecode.models.weights import load_manifest

    generator = config.reconstruction.generator
    # a recipe of one's own may also need what lies beside it
    wanted = () if generator in {'auto', 'none'} else weights_of(generator)
    metrics = () if generator == 'none' else get_protocol(config.reconstruction.protocol).metrics
    return [name for name in wanted if name in load_manifest()], [x.network for x in metrics]


def features_packaged(config: Config, weights_dir: Path | None) -> dict[tuple[str, str], str]:
    """Describe images by a network, and judge them by those that are installed.

    Parameters
    ----------
    config
        The settings.
    weights_dir
        Of pretrained weights: published judges may be there.
    """
    wanted = {}
    if 'extractor' not in config.features.model_fields_set:
        wanted['features', 'extractor'] = EXTRACTOR
    told = config.reconstruction
    published = metric_weights(weights_dir, told.protocol)
    if not ('protocol' in told.model_fields_set or published):
        wanted['reconstruction', 'protocol'] = 'cpu-1'
    return wanted


def _network(asked: Asked) -> str:
    """Return the setting or the trained model that needs networks; empty if none does."""
    if asked.models:
        making = [model.name for model in asked.models.values() if generation_model_of(model)]
        return f'the model that makes images beside {making[0]}' if making else ''
    generator = asked.config.reconstruction.generator
    if generator not in {'auto', 'none'}:
        return f'reconstruction.generator = "{generator}"'
    return networks_needed(asked.config.features.extractor)
