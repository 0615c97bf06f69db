"""What decoding and reconstruction are refused for, before anything runs."""

from __future__ import annotations

import logging

from bids_neurodecode.extensions import Asked
from bids_neurodecode.extras import require_networks
from bids_neurodecode.stimuli.features import networks_needed
from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
    check_generation,
    find_weights,
)
from bids_neurodecode.systems.reconstruction.generation.steps.model import (
    generation_model_of,
    generator_of,
)

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


def _network(asked: Asked) -> str:
    """Return the setting or the trained model that needs networks; empty if none does."""
    if asked.models:
        making = [model.name for model in asked.models.values() if generation_model_of(model)]
        return f'the model that makes images beside {making[0]}' if making else ''
    generator = asked.config.reconstruction.generator
    if generator not in {'auto', 'none'}:
        return f'reconstruction.generator = "{generator}"'
    return networks_needed(asked.config.features.extractor)
