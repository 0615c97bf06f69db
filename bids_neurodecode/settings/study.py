"""What a study file may say: which settings are varied, and what is shown of the results."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bids_neurodecode.extensions import system_names, unknown
from bids_neurodecode.settings.base import Settings

Text = Annotated[str, Field(min_length=1)]

EITHER = 'an axis has a key with values, or variants'
LENGTHS = 'axes that are listed side by side (combine = "zip") are equally long, these are {found}'
TWICE = '{what} {name!r} is there twice'
NO_REFERENCE = 'there is no variant {name!r} (there are {known}).{near}'


class VariantSettings(Settings):
    """One entry of an axis: a name, and the settings that it stands for."""

    label: Text
    """As tables and figures show it."""
    at: float | None = None
    """Its place on a numeric axis."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Nested settings, as in a configuration file."""


class AxisSettings(Settings):
    """What is varied."""

    name: Text
    """As tables and figures show it, with its unit."""
    key: Text | None = None
    """A setting by its dotted name, such as ``delay.seconds``; with ``values``."""
    values: tuple[Any, ...] = ()
    """Its values."""
    variants: tuple[VariantSettings, ...] = ()
    """Or named variants, of any settings."""

    @model_validator(mode='after')
    def _either(self) -> Self:
        if bool(self.variants) == (self.key is not None) or bool(self.values) != bool(self.key):
            raise ValueError(EITHER)
        labels = [entry.label for entry in self.entries]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(TWICE.format(what='the variant', name=label))
        return self

    @property
    def entries(self) -> tuple[VariantSettings, ...]:
        """The variants of the axis; a key's values as variants."""
        if self.key is None:
            return self.variants
        entries = []
        for value in self.values:
            nested: Any = value
            for part in reversed(self.key.split('.')):
                nested = {part: nested}
            number = isinstance(value, int | float) and not isinstance(value, bool)
            at = float(value) if number else None
            entries.append(VariantSettings(label=_written(value), at=at, settings=nested))
        return tuple(entries)

    @property
    def numeric(self) -> bool:
        """Whether every variant has its place in numbers."""
        return all(entry.at is not None for entry in self.entries)


class PublishedSettings(Settings):
    """A published number, shown beside this run's."""

    label: Text
    metric: Text
    value: float
    source: Text
    """Where it is printed."""
    variant: str | None = None
    """The variant that it belongs to."""


class StudySettings(Settings):
    """A study: one set of settings, varied along axes."""

    schema_version: Literal[1] = 1
    """Of study files."""
    title: Text
    """The heading of the page."""
    question: Text
    """What the study answers, in a sentence."""
    system: str
    """Which system is run."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Nested settings that all variants share; a configuration file overrides them."""
    axes: tuple[AxisSettings, ...] = ()
    """What is varied; none: participants are compared."""
    combine: Literal['grid', 'zip'] = 'grid'
    """Every combination of the axes, or their first entries together, their second, and so on."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    """Every variant is run with each of these; with the one seed of the settings if left out."""
    reference: str | None = None
    """Label of the variant that the others are compared with, pair by pair (labels of several
    axes are joined by a comma and a space)."""
    metrics: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Which metrics are shown, the most telling first; the table holds all."""
    model: str | None = None
    """Which model's rows are shown; the main model's of each variant if left out."""
    space: str | None = None
    """Which voxel or image set is shown; if left out, the final images, and where none are made
    the first that the metric is given for."""
    notes: tuple[str, ...] = ()
    """What a reader should know, a sentence each."""
    published: tuple[PublishedSettings, ...] = ()
    """Published numbers."""

    @field_validator('system')
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in system_names():
            raise ValueError(unknown('system', name, system_names()))
        return name

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        lengths = [len(axis.entries) for axis in self.axes]
        if self.combine == 'zip' and len(set(lengths)) > 1:
            raise ValueError(LENGTHS.format(found=', '.join(map(str, lengths))))
        for what, names in (
            ('the axis', [axis.name for axis in self.axes]),
            ('the seed', [str(seed) for seed in self.seeds]),
            ('the metric', list(self.metrics)),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(TWICE.format(what=what, name=name))
        return self


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, list | tuple):
        return '+'.join(_written(part) for part in value)
    return f'{value:g}' if isinstance(value, float) else str(value)
