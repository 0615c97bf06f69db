"""What was found in a dataset: one record per run, participant and dataset.

Plain frozen data that the workflow can write as JSON and a person can read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from bids_neurodecode.bids.entities import natural_key
from bids_neurodecode.errors import NeurodecodeError

T = TypeVar('T')
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""What reads a dataclass, which takes longer to make than to use."""
Paradigm = Literal['images', 'movie', 'conditions']
NOUNS: dict[Paradigm, str] = {'images': 'images', 'movie': 'films', 'conditions': 'conditions'}
"""What the stimuli of a paradigm are called."""
SHOWN = NOUNS | {'conditions': 'conditions (trial_type)'}
"""The same where a message says what is read of the events."""
Layout = Literal['bids', 'nsd', 'emofilm', 'algonauts', 'algonauts2025']
"""BIDS, or how the Natural Scenes Dataset, Emo-FilM and the Algonauts Challenge are published."""
OF_RESPONSES: frozenset[Layout] = frozenset({'nsd', 'algonauts'})
"""Layouts that hold a response to each image: no series, and a session of betas is a run."""


def read_as(kind: type[T], text: str | bytes) -> T:
    """Read JSON as what a dataclass holds, by the types of its fields.

    Parameters
    ----------
    kind
        The dataclass.
    text
        The JSON.

    Raises
    ------
    ValueError
        Naming the first field that is missing or of another type.
    """
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        record: T = _ADAPTERS[kind].validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f'{".".join(map(str, first["loc"]))}: {first["msg"]}') from error
    return record


@dataclass(frozen=True)
class RunInput:
    """One preprocessed run and the files that belong to it.

    ``entities`` are the BIDS entities that name it, by their short keys and without prefixes, in
    BIDS order (``{'sub': '01', 'ses': 'a', 'task': 'img', 'run': '01'}``); ``space`` and ``res``
    are kept apart. ``n_volumes`` and ``repetition_time`` (s) were checked against the series.
    """

    entities: Mapping[str, str]
    bold: Path
    mask: Path
    events: Path
    confounds: Path | None
    repetition_time: float
    n_volumes: int
    space: str | None = None
    resolution: str | None = None
    density: str | None = None
    """Label of the density of a surface or of CIFTI (``91k``)."""
    parcellation: Mapping[str, str] = field(default_factory=dict)
    """Entities that name the parcels of a series of parcels (``seg``, ``atlas``, ``scale``)."""
    start_time: float = 0.0
    """Seconds of the run at which the first volume was taken to be acquired (``StartTime``)."""
    sources: tuple[str, ...] = ()
    """BIDS URIs of the series, mask, confounds and events (``bids:fmriprep:sub-01/...``)."""
    notes: tuple[str, ...] = ()
    """What was odd about its files and how it was read, one line each."""

    @property
    def label(self) -> str:
        """The run as a person names it, such as ``ses-a task-img run-01``."""
        return ' '.join(f'{k}-{v}' for k, v in self.entities.items() if k != 'sub')

    def under_task(self, task: str) -> Self:
        """Return the run as one of an analysis of several tasks: ``acq`` says which it was.

        Examples
        --------
        >>> from pathlib import Path
        >>> own = {'sub': '01', 'task': 'e01', 'run': '1'}
        >>> RunInput(own, Path(), Path(), Path(), None, 2.0, 9).under_task('film').stem
        'sub-01_task-film_acq-e01_run-1'
        """
        entities: dict[str, str] = {}
        for key, label in self.entities.items():
            if key == 'task':
                entities |= {'task': task, 'acq': label + self.entities.get('acq', '')}
            elif key != 'acq':
                entities[key] = label
        return dataclasses.replace(self, entities=entities)

    @property
    def stem(self) -> str:
        """The entities as a file name starts, such as ``sub-01_ses-a_task-img_run-01``."""
        return '_'.join(f'{k}-{v}' for k, v in self.entities.items())


@dataclass(frozen=True)
class EventsInput:
    """The events of a run without BOLD, whose responses are to be predicted."""

    entities: Mapping[str, str]
    events: Path
    sources: tuple[str, ...] = ()


class Paradigmatic:
    """What was shown, by the paradigm of a record: nobody else compares its name."""

    paradigm: Paradigm

    @property
    def of_films(self) -> bool:
        """Whether films were shown: responses are series on their clock, else betas."""
        return self.paradigm == 'movie'

    @property
    def of_conditions(self) -> bool:
        """Whether conditions are told apart, of which there are no stimulus files."""
        return self.paradigm == 'conditions'


@dataclass(frozen=True)
class ParticipantInput(Paradigmatic):
    """All runs of one participant that go into one analysis, in chronological order."""

    label: str
    task: str
    paradigm: Paradigm
    runs: tuple[RunInput, ...]
    stimuli_dir: Path
    stimuli: tuple[str, ...]
    """Names of the stimulus files that the events use, relative to ``stimuli_dir``, sorted; none
    where the events name conditions alone."""
    betas: Path | None = None
    """Precomputed single-trial betas (4-D NIfTI) of a derivatives dataset, where asked for."""
    betas_events: Path | None = None
    """Their table: one row per volume."""
    layout: Layout = 'bids'
    """In those of :data:`OF_RESPONSES` each run is a session of betas: there are no series."""
    features: Mapping[str, Path] = field(default_factory=dict)
    """Tables of features that the user brings: of each film by its name, of images one, under
    ``*``."""
    captions: Path | None = None
    """Table of captions (``stim_file``, ``caption``; several rows an image), if there is one."""
    conditions: tuple[str, ...] = ()
    """Values of ``trial_type`` that are told apart, where no stimuli are named, sorted."""
    events_only: tuple[EventsInput, ...] = ()
    """Runs without BOLD (predict mode of encoding models); there are no ``runs`` then."""
    fingerprint: str = ''
    """Changes when a file changes that the analysis reads: what is cached is then regenerated."""

    @property
    def has_series(self) -> bool:
        """Whether there are series; else each run is a session of betas."""
        return self.layout not in OF_RESPONSES

    def to_json(self) -> str:
        """Write the record as JSON (paths as text)."""
        return json.dumps(self, default=_plain)  # with indentation Python writes it, at length

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        return read_as(cls, text)


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a record or a path."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)


@dataclass(frozen=True)
class DatasetInput:
    """Everything that one call will read, and who cannot be processed and why."""

    bids_dir: Path
    derivatives: Mapping[str, Path]
    participants: tuple[ParticipantInput, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Participant label to the one line that says what is wrong with their data."""
    notes: tuple[str, ...] = ()
    """What was found and why it was chosen, one line each, for the log and the report."""
    unchanged: tuple[ParticipantInput, ...] = ()
    """Whose earlier run would come out the same: these are not among ``participants``."""
    checked: Mapping[str, tuple[str, ...] | NeurodecodeError] = field(default_factory=dict)
    """By label what a check made of participants while their files were at hand."""

    @property
    def everyone(self) -> tuple[ParticipantInput, ...]:
        """All participants of the call, in order of their labels."""
        people = (*self.participants, *self.unchanged)
        return tuple(sorted(people, key=lambda person: natural_key(person.label)))
