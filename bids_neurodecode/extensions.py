"""Systems of other packages, found through the entry point ``bids_neurodecode.systems``.

A package names an object of :class:`System` in its metadata::

    [project.entry-points."bids_neurodecode.systems"]
    mean-response = "my_package:SYSTEM"

and is then a choice of ``--system``. Nothing is imported before its name is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bids_neurodecode.errors import ArgumentsError

GROUP = 'bids_neurodecode.systems'
OWN = ('movie', 'reconstruction', 'encoding', 'conditions')
"""The systems of this package."""

UNKNOWN = 'there is no system {name!r}; known: {known}'
BROKEN = (
    'The installed system {name!r} ({place}) cannot be used: {reason}. Update or remove its '
    'package.'
)
TWICE = (
    'The installed systems {names} all declare {key!r} among their {table}, each otherwise. '
    'Remove the package of one of them, or have it choose another name.'
)
NO_SYSTEM = 'it is a {kind} and no bids_neurodecode.extensions.System'
OTHER_NAME = 'it calls itself {name!r}'
NOT_APPLIED = (
    'The system {name!r} has no predict mode. Leave out --mode predict and --models-from.'
)


@dataclass(frozen=True)
class System:
    """What another package adds.

    Parameters
    ----------
    name
        As it is asked for, and as its group of settings is called: ``[extensions.<name>]``.
    paradigms
        What it takes: ``images``, ``movie``, ``conditions``.
    train
        Adds the steps of the analysis to a ``bids_neurodecode.workflow.nodes.Ladder``. The
        last one makes the product ``results``, by
        ``bids_neurodecode.workflow.publish.Publisher``.
    predict
        Adds the steps that apply a trained model, whose file it is handed: the participant's
        ``models/*_desc-<name>_model.safetensors``, with its settings beside it (``.toml``). None:
        there are none.
    settings
        A pydantic model: what ``[extensions.<name>]`` may hold, and the defaults.
    products
        Names of its outputs, by key (:class:`~bids_neurodecode.bids.names.Product`).
    descriptions
        What each ``desc`` of these names means.
    sections
        Takes the ``bids_neurodecode.report.reader.Reader`` of a participant and returns the
        ``bids_neurodecode.report.build.Section`` that the page shows after the scores.
    methods
        Takes the settings (:class:`~bids_neurodecode.config.Config`) and returns a paragraph for
        the methods of a paper.
    """

    name: str
    paradigms: tuple[str, ...]
    train: Callable[[Any], None]
    predict: Callable[[Any, Path], None] | None = None
    settings: Any = None
    products: Mapping[str, Any] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    sections: Callable[[Any], Iterable[Any]] | None = None
    methods: Callable[[Any], str] | None = None


@functools.cache
def installed() -> dict[str, EntryPoint]:
    """Return the entry points of installed systems, by name."""
    return {each.name: each for each in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def system_names() -> tuple[str, ...]:
    """Return the names of all systems, those of this package first."""
    return (*OWN, *(name for name in installed() if name not in OWN))


def version_of(name: str) -> str:
    """Return the version of the package that brings a system; nothing for our own."""
    point = installed().get(name) if name not in {*OWN, 'auto'} else None
    return '' if point is None or point.dist is None else f'{point.dist.name} {point.dist.version}'


@functools.cache
def find_system(name: str) -> System | None:
    """Return an installed system; None for those of this package and for ``auto``.

    Raises
    ------
    ArgumentsError
        If there is none of that name, or it cannot be used.
    """
    if name in {*OWN, 'auto'}:
        return None
    points = installed()
    if name not in points:
        raise ArgumentsError(UNKNOWN.format(name=name, known=', '.join(system_names())))
    point, reason = points[name], ''
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises at import
        found, reason = None, f'{type(error).__name__}: {" ".join(str(error).split())}'
    if not reason and not isinstance(found, System):
        reason = NO_SYSTEM.format(kind=type(found).__name__)
    elif not reason and found.name != name:
        reason = OTHER_NAME.format(name=found.name)
    if reason:
        raise ArgumentsError(BROKEN.format(name=name, place=point.value, reason=reason))
    kept: System = found
    return kept


def declared(table: str, key: str) -> Any:
    """Return what an installed system declares: of its ``products`` or ``descriptions``.

    None where no system does, or one that cannot be used.

    Raises
    ------
    ArgumentsError
        If two systems declare it, and differently: which of them is meant cannot be known.
    """
    found: dict[str, Any] = {}
    for name in installed():
        try:
            system = find_system(name)
        except ArgumentsError:
            continue
        if system is not None and key in getattr(system, table):
            found[name] = getattr(system, table)[key]
    values = list(found.values())
    if any(value != values[0] for value in values):
        names = ', '.join(map(repr, found))
        raise ArgumentsError(TWICE.format(names=names, table=table, key=key))
    return values[0] if values else None
