"""What a recipe says: how a published dataset is recognised, and what follows from it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bids_neurodecode.settings.base import Settings

OUTSIDE = 'may not leave the dataset: {pattern!r}'
NO_CLUE = 'a way of recognising needs at least one of accession, names, files and columns'
NO_WAY = 'a dataset that is not BIDS has no events and no description: recognise it by files'


class _Patterns(Settings):
    """Settings with patterns of paths, such as ``sub-*/func/*_task-movie_*events.tsv``."""

    @field_validator('files', 'stimuli', check_fields=False)
    @classmethod
    def _inside(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse patterns that leave the folder they are looked for in."""
        for pattern in patterns:
            path = PurePosixPath(pattern)
            if path.is_absolute() or '..' in path.parts or '\\' in pattern or not path.parts:
                raise ValueError(OUTSIDE.format(pattern=pattern))
        return patterns


class ClueSettings(_Patterns):
    """One way of recognising a dataset: all that it says has to hold."""

    accession: str | None = None
    """Of the archive (``ds004192``), in the DOI of the dataset or the name of its folder."""
    names: tuple[str, ...] = ()
    """Any of these is the ``Name`` in ``dataset_description.json`` (letters and digits count)."""
    files: tuple[str, ...] = ()
    """Each of these patterns finds something below the dataset."""
    columns: tuple[str, ...] = ()
    """Some events have all of these columns."""
    lacks: tuple[str, ...] = ()
    """None of these events (of all events, without ``columns``) has any of these: with
    ``stim_file``, a copy in which the events were rewritten for programs that need it is left
    alone."""

    @model_validator(mode='after')
    def _says_something(self) -> Self:
        if not (self.accession or self.names or self.files or self.columns):
            raise ValueError(NO_CLUE)
        return self


class NeedSettings(_Patterns):
    """Something that a run needs and that may not have come with the dataset."""

    what: str
    """In a few words."""
    files: tuple[str, ...] = ()
    """It is there where one of these patterns finds something below the dataset."""
    stimuli: tuple[str, ...] = ()
    """The same, below the folder of stimuli."""
    get: str
    """How to get it."""


class RecipeSettings(Settings):
    """A recipe, as its TOML file says it."""

    schema_version: Literal[1] = 1
    """Of recipes; a file of another version is refused."""
    title: str
    """The dataset's name, as people know it."""
    source: str
    """Where it is published."""
    checked: str
    """Against what the recipe was checked."""
    bids: bool = True
    """Whether there is a ``dataset_description.json``; a dataset without one is not validated."""
    reader: Literal['nsd', 'emofilm', 'algonauts', 'algonauts2025'] | None = None
    """A reader of the dataset's own layout. Derivatives that are named by the user are read as
    those of any BIDS dataset instead."""
    tasks: tuple[str, ...] = ()
    """Where several tasks were preprocessed and none is asked for: the first of these."""
    spaces: tuple[str, ...] = ()
    """Where there are several spaces and none is asked for: the first of these."""
    cautions: tuple[str, ...] = ()
    """What a user should know, said with what the dataset was recognised as."""
    recognise: Annotated[tuple[ClueSettings, ...], Field(min_length=1)]
    """Ways of recognising the dataset: one is enough."""
    needs: tuple[NeedSettings, ...] = ()
    """What has to be there."""
    settings: dict[str, Any] = Field(default={})
    """Settings of a run. Relative paths are below the folder of the recipe."""
    task: dict[str, dict[str, Any]] = Field(default={})
    """Further settings of single tasks, by their labels."""

    @model_validator(mode='after')
    def _recognisable(self) -> Self:
        if not self.bids and not all(clue.files for clue in self.recognise):
            raise ValueError(NO_WAY)
        return self
