"""What a paper says of images that were made."""

from __future__ import annotations

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.evaluation.protocols import get_protocol
from bids_neurodecode.extensions import OWN_GENERATORS, find_generator
from bids_neurodecode.models.generators import (
    PipelineRecipe,
    is_pipeline,
    read_recipe,
    shown_name,
)
from bids_neurodecode.report.boilerplate import described_by, paragraphs
from bids_neurodecode.report.facts import Facts

NOT_HERE = (
    'Images were made by the generator {name} of another package, or of a file that is not here: '
    'it cannot be asked for its methods where this text was written.'
)
SMALL = {'n_steps': 50, 'guidance': 2.0, 'strength': 0.04}
"""What the settings of the small refiner stand for where they are left out."""


def methods_of_images(
    config: Config, generator: str | None, facts: Facts | None
) -> tuple[str, ...]:
    """Return the paragraphs on images that were made, if any were.

    Parameters
    ----------
    config
        The settings.
    generator
        What made images (``none``: they were retrieved); None where the settings say.
    facts
        Of the data that were analysed; None before a run.
    """
    told = config.reconstruction
    name = generator or ('small' if told.generator == 'auto' else told.generator)
    if name == 'none':
        return ()
    try:
        foreign = find_generator(name)
    except (
        ArgumentsError
    ):  # as good as not installed: a page is made again after the package broke
        foreign = None
    recipe = recipe_of(name) if foreign is None else None
    if foreign is None and recipe is None and name not in OWN_GENERATORS:
        return (NOT_HERE.format(name=shown_name(name)),)
    first = SMALL if recipe is None else recipe.stages[0].model_dump()
    steps = told.n_steps or first['n_steps']
    strength = (first['strength'] or 1.0) if told.strength is None else told.strength
    return paragraphs(
        'reconstruction',
        config=config,
        name=name,
        foreign=None if foreign is None else foreign.methods(config),
        recipe=recipe,
        steps=steps,
        used=max(1, int(strength * steps)),
        strength=strength,
        guidance=first['guidance'] if told.guidance is None else told.guidance,
        described_by=described_by,
        facts=facts,
        scored=get_protocol(told.protocol),
    )


def recipe_of(generator: str) -> PipelineRecipe | None:
    """Return the recipe behind a generator; None where there is none, or its file is gone.

    Parameters
    ----------
    generator
        Its name, or the file of its recipe.
    """
    try:
        return read_recipe(generator) if is_pipeline(generator) else None
    except ArgumentsError:
        return None  # a page is made again after the file was moved


def networks_of(generator: str) -> str:
    """Name the networks of a generator of published weights.

    Examples
    --------
    >>> networks_of('unclip-2.1').partition(',')[0]
    'a VDVAE (trained on ImageNet) and Stable unCLIP 2.1'
    """
    recipe = read_recipe(generator)
    return (
        f'a VDVAE (trained on ImageNet) and {recipe.title} ({recipe.source}; trained on captioned '
        'images of the web)'
    )
