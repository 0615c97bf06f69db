"""Recipes of second stages: which pipeline of diffusers, and how it is called.

A recipe (``data/generators/*.toml``, or a file of a user's own) names the pipeline, the argument
through which a decoded embedding enters, whether there is a start image, and how it samples. What
is regressed follows: the embedding of the recipe's own image encoder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bids_neurodecode.config import reason_of
from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.settings.base import Settings
from bids_neurodecode.text import one_line

if TYPE_CHECKING:
    from bids_neurodecode.models.sampling import SamplingSettings

UNKNOWN_RECIPE = 'No generator is called {name!r}. There are: {names}.'
BAD_RECIPE = 'The generator {file} cannot be used: {reason}.'
ENDING = '.toml'
"""Of the file of a recipe."""
NO_START = 'starts = {starts}, and {has} stage has "start"'
NO_STRENGTH = 'a stage without "start" has a "strength"'


class Adapter(Settings):
    """An IP-Adapter: an entry of the manifest, and its file in that."""

    weights: str
    folder: str
    file: str


class Stage(Settings):
    """A pipeline of diffusers and its call."""

    pipeline: str
    weights: str
    embeds: str | None = None
    """Argument that takes the decoded embedding."""
    form: Literal['vector', 'sequence', 'ip-adapter'] = 'vector'
    """(1, d), (1, 1, d), or a list of the embeddings without and with the condition."""
    negative_embeds: str | None = None
    """Argument that takes the embedding of no condition, where the call wants one."""
    takes: str | None = None
    """Argument and field of the output of the stage before."""
    start: str | None = None
    """Argument that takes the start image."""
    n_steps: Annotated[int, Field(ge=1)]
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    guidance: Annotated[float, Field(ge=0)]
    scheduler: str | None = None
    """Class of diffusers in the place of the pipeline's own."""
    arguments: Mapping[str, str | int | float] = Field(default_factory=dict)
    sized: bool = False
    """Whether height and width are given."""
    adapter: Adapter | None = None
    components: Mapping[str, str] = Field(default_factory=dict)
    """Classes (``module:class``) of parts that diffusers does not find by their names."""
    memory: tuple[Literal['vae-slicing', 'attention-slicing', 'model-offload'], ...] = ()


class PipelineRecipe(Settings):
    """A second stage: its pipelines, what is decoded for it, and what proves it."""

    name: str
    title: str
    source: str
    loop: Literal['pipeline', 'versatile-diffusion'] = 'pipeline'
    conditions: tuple[Literal['text', 'vision'], ...]
    encoder: str
    """Entry of the manifest and folder of the image encoder."""
    negative: Literal['zeros', 'mean-colour'] = 'zeros'
    """The embedding of no condition: zeros, or that of an image of CLIP's mean colour."""
    starts: bool
    """Whether there is a start image."""
    size: int | None = None
    """Pixels a side, where the networks do not say."""
    guided_by: tuple[str, ...] = ()
    """Networks of protocols of images whose embeddings guide it."""
    oracle: str
    """What it is held against."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @model_validator(mode='after')
    def _starts_as_told(self) -> Self:
        if self.loop != 'pipeline':
            return self
        started = any(stage.start for stage in self.stages)
        if started != self.starts:
            told = {'starts': str(self.starts).lower(), 'has': 'a' if started else 'no'}
            raise ValueError(NO_START.format(**told))
        if any(stage.strength and not stage.start for stage in self.stages):
            raise ValueError(NO_STRENGTH)
        return self

    @property
    def weights(self) -> tuple[str, ...]:
        """Entries of the manifest that it needs."""
        names = [self.encoder.partition('/')[0]]
        for stage in self.stages:
            names += [stage.weights, *([stage.adapter.weights] if stage.adapter else [])]
        return tuple(dict.fromkeys(names))

    @property
    def sampling(self) -> SamplingSettings:
        """How its first pipeline samples."""
        from bids_neurodecode.models.sampling import SamplingSettings

        first, own = self.stages[0], SamplingSettings()
        return SamplingSettings(
            n_steps=first.n_steps,
            strength=own.strength if first.strength is None else first.strength,
            guidance=first.guidance,
        )


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes in the package.

    Examples
    --------
    >>> recipe_names()
    ('kandinsky-2.2', 'sdxl-ip-adapter', 'stable-cascade', 'unclip-2.1', 'versatile-diffusion')
    """
    return tuple(sorted(file.name.removesuffix('.toml') for file in _folder().iterdir()))


def read_recipe(name: str) -> PipelineRecipe:
    """Read a recipe.

    Parameters
    ----------
    name
        One of the package (``published`` is ``versatile-diffusion``), or a file (``.toml``).

    Raises
    ------
    ArgumentsError
        If there is none of that name, or it is wrong.
    """
    name = 'versatile-diffusion' if name == 'published' else name
    if not name.endswith(ENDING) and name not in recipe_names():
        raise ArgumentsError(UNKNOWN_RECIPE.format(name=name, names=', '.join(recipe_names())))
    file = Path(name) if name.endswith(ENDING) else _folder() / f'{name}{ENDING}'
    values: dict[str, Any] = {}
    try:
        values = tomllib.loads(file.read_text('utf-8'))
        return PipelineRecipe.model_validate({**values, 'name': shown_name(name)})
    except ValidationError as error:
        key, reason = reason_of(error, PipelineRecipe, values)
        reason = f'{key}: {reason}'
        raise ArgumentsError(BAD_RECIPE.format(file=file, reason=reason)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentsError(BAD_RECIPE.format(file=file, reason=one_line(error))) from error


def is_pipeline(generator: str) -> bool:
    """Whether a recipe stands behind the name of a generator: one of the package, or a file.

    Examples
    --------
    >>> is_pipeline('published'), is_pipeline('/mine/sd3.toml'), is_pipeline('small')
    (True, True, False)
    """
    return generator == 'published' or generator.endswith(ENDING) or generator in recipe_names()


def shown_name(generator: str) -> str:
    """Return what a generator is called: of a file its name, without folder and extension.

    Examples
    --------
    >>> shown_name('/mine/sd3.toml'), shown_name('small')
    ('sd3', 'small')
    """
    return Path(generator).stem if generator.endswith(ENDING) else generator


def guides_of(generator: str) -> tuple[str, ...]:
    """Return the judges of protocols that guide a generator of published networks.

    Runs keep those of the package's recipes, as published tables do (``used`` is without them).

    Examples
    --------
    >>> guides_of('published'), guides_of('unclip-2.1')
    (('clip-vit-l14',), ())
    """
    return read_recipe(generator).guided_by if is_pipeline(generator) else ()


def _folder() -> Any:
    return resources.files('bids_neurodecode') / 'data' / 'generators'
