"""What other packages add, found through their entry points.

A package names in its metadata what it brings, each by the name that it is asked for::

    [project.entry-points."bids_neurodecode.systems"]
    mean-response = "my_package:SYSTEM"

- ``bids_neurodecode.systems``: a :class:`System`, asked for by ``--system``
- ``bids_neurodecode.extractors``: what makes a feature extractor
  (:class:`~bids_neurodecode.stimuli.features.FeatureExtractor`), asked for by
  ``features.extractor`` and ``encoding.bands``
- ``bids_neurodecode.generators``: a :class:`Generator`, by ``reconstruction.generator``
- ``bids_neurodecode.recipes``: the path of a recipe (``NAME.toml``), by ``--recipe`` or by what a
  dataset looks like

A name of this package stays this package's; a recipe of that name takes its place.
Nothing but recipes is imported before its name is asked for.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, get_args

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.text import did_you_mean

SYSTEMS, EXTRACTORS, GENERATORS, RECIPES = (
    f'bids_neurodecode.{kind}' for kind in ('systems', 'extractors', 'generators', 'recipes')
)
"""Groups of entry points."""
OWN = {
    'movie': 'movie',
    'reconstruction': 'images',
    'encoding': 'images',
    'conditions': 'conditions',
}
"""The systems of this package, each the ``SYSTEM`` of ``systems/<name>/system.py``, and what they
take (known without importing them): the first that takes it is its default."""
OwnGenerator = Literal[
    'auto', 'none', 'small', 'published', 'versatile-diffusion', 'unclip-2.1', 'kandinsky-2.2',
    'sdxl-ip-adapter', 'stable-cascade',
]  # fmt: skip
OWN_GENERATORS: tuple[str, ...] = get_args(OwnGenerator)
"""The generators of this package."""

UNKNOWN = 'there is no {kind} {name!r}.{near} Known: {known}'
BROKEN = (
    'The installed {kind} {name!r} ({place}) cannot be used: {reason}. Update or remove its '
    'package.'
)
TWICE = (
    'The installed systems {names} all declare {key!r} among their {table}, each otherwise. '
    'Remove the package of one of them, or have it choose another name.'
)
OTHER_KIND = 'it is a {found} and no {wanted}'
OTHER_NAME = 'it calls itself {name!r}'
NOT_APPLIED = (
    'The system {name!r} has no predict mode. Leave out --mode predict and --models-from.'
)


@dataclass(frozen=True)
class Asked:
    """What a run asks of a system, before anything is computed.

    Parameters
    ----------
    config
        The settings (:class:`~bids_neurodecode.config.Config`).
    people
        Whose data it is to analyse (:class:`~bids_neurodecode.bids.records.ParticipantInput`);
        nobody at the group level.
    everyone
        All participants of the call, those whose outputs stay as they are among them.
    models
        The trained model that is applied to the data of each, by label; none where it trains.
    fits
        Whether models are trained or applied: not where responses alone, or texts, are written.
    output_dir, weights_dir
        Of the run, and of pretrained weights (None: the default folder).
    device
        ``cpu`` or ``cuda``.
    where
        Says where a setting comes from, such as ``where('selection', 'measure')``.
    """

    config: Any
    people: tuple[Any, ...]
    everyone: tuple[Any, ...]
    models: Mapping[str, Path]
    fits: bool
    output_dir: Path
    weights_dir: Path | None
    device: str
    where: Callable[..., str]


@dataclass(frozen=True)
class System:
    """A system: of this package, or one that another package adds.

    Parameters
    ----------
    name
        As it is asked for, and as its group of settings is called: ``[extensions.<name>]``.
    paradigms
        What it takes: ``images``, ``movie``, ``conditions``.
    train
        Adds the steps of the analysis to a ``bids_neurodecode.workflow.nodes.Ladder``. The
        last one makes the product ``results``, by
        ``bids_neurodecode.systems.steps.publish.Publisher``.
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
        the methods of a paper, or several.
    check
        Takes an :class:`Asked` before the run, and refuses what cannot work, in one line, by an
        :class:`~bids_neurodecode.errors.ArgumentsError` or ``InputError``.
    check_model
        Takes the file of a trained model and a participant, and refuses data that it cannot be
        applied to, by an ``InputError``: this participant alone is left out.
    models
        What the models that predict mode takes are called (``desc``); () is the system's name.
    beside
        What further files of trained models are called.
    summary
        What it does, in a line.
    aim
        What a page says that the analysis does: a verb and what follows.
    large
        Takes the settings and returns the steps that hold most, whose memory is compared with
        what there is before a run.
    scores
        What its scores are of: responses of all voxels that it predicts (``voxels``), or what it
        decodes from the voxels that were chosen (``decoded``). Pages say what ceilings bound, and
        in which regions voxels lie; '' says nothing of these.
    identified_by
        By what its scores of identification tell stimuli apart.
    ceiling_from
        What a ceiling of its scores of responses takes, where there is none.
    shuffles_pairs
        Whether its baseline on shuffled data is trained again, once per fold.
    titles
        Titles of maps that are more special in its pages.
    methods_of_images
        Takes the settings, the generator that made images (None: as set) and the
        ``bids_neurodecode.report.facts.Facts`` of the data (None before a run), and returns
        further paragraphs.
    resolved
        Takes an :class:`Asked` and returns lines on what its settings that are ``auto`` become.
    became
        Takes the settings and returns, for the page, settings that may be ``auto``: name, as
        set, and what it became.
    together
        Takes the participants of a call that it analyses and the
        ``bids_neurodecode.workflow.nodes.RunSettings``, and writes down whom the steps of each can
        compare with; None: nobody.
    new_stimuli
        What predict mode predicts responses to where there is no BOLD (``images``, ``films``).
    packaged
        Takes the settings and the folder of weights (None: the default), and returns the settings
        (group and name) that become others where small networks are installed.
    needs
        Takes the settings and returns what needs ``neighbours`` of columns, or a ``grid``, by how
        a message names it.
    described
        Takes the settings and the mode, and returns what ``--dry-run`` says otherwise, or besides.
    networks
        Takes the settings and returns the pretrained networks (entries of the manifest) that it
        needs, and those of the protocol by which its images are judged.
    """

    name: str
    paradigms: tuple[str, ...]
    train: Callable[[Any], None]
    predict: Callable[[Any, Path], None] | None = None
    settings: Any = None
    products: Mapping[str, Any] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    sections: Callable[[Any], Iterable[Any]] | None = None
    methods: Callable[[Any], str | tuple[str, ...]] | None = None
    check: Callable[[Asked], None] | None = None
    check_model: Callable[[Path, Any], None] | None = None
    models: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    summary: str = ''
    aim: str = 'decodes from the brain responses what was shown'
    large: Callable[[Any], tuple[Any, ...]] | None = None
    scores: Literal['voxels', 'decoded', ''] = ''
    identified_by: str = ''
    ceiling_from: str = 'repeated stimuli'
    shuffles_pairs: bool = True
    titles: Mapping[str, str] = field(default_factory=dict)
    methods_of_images: Callable[[Any, str | None, Any], tuple[str, ...]] | None = None
    resolved: Callable[[Asked], Iterable[str]] | None = None
    became: Callable[[Any], Iterable[tuple[str, str, str]]] | None = None
    together: Callable[[Any, Any], Path | None] | None = None
    new_stimuli: Literal['images', 'films', ''] = ''
    packaged: Callable[[Any, Path | None], Mapping[tuple[str, str], Any]] | None = None
    needs: Callable[[Any], Mapping[str, Literal['neighbours', 'grid']]] | None = None
    described: Callable[[Any, str], Mapping[str, str]] | None = None
    networks: Callable[[Any], tuple[list[str], list[str]]] | None = None


@dataclass(frozen=True)
class Generator:
    """What makes images in the two stages of a reconstruction: a prior, and what refines.

    Parameters
    ----------
    name
        As ``reconstruction.generator`` asks for it; ``describe()`` of what it fits has it under
        ``generator``.
    make
        Takes the settings (:class:`~bids_neurodecode.config.Config`) and the device (``cpu`` or
        ``cuda``) and returns a
        :class:`~bids_neurodecode.systems.reconstruction.generation.generators.Generator`.
    restore
        Takes what ``state()`` and ``describe()`` of a ``FittedGenerator`` (of the same module)
        returned and the device, and returns it again (predict mode).
    caution
        What the page says of its images.
    methods
        Takes the settings and returns a paragraph for the methods of a paper.
    """

    name: str
    make: Callable[[Any, str], Any]
    restore: Callable[[Mapping[str, Any], Mapping[str, Any], str], Any]
    caution: str
    methods: Callable[[Any], str]


@functools.cache
def installed(group: str = SYSTEMS) -> dict[str, EntryPoint]:
    """Return the installed entry points of a group, by name."""
    return {each.name: each for each in sorted(entry_points(group=group), key=lambda e: e.name)}


def system_names() -> tuple[str, ...]:
    """Return the names of all systems, those of this package first."""
    return (*OWN, *(name for name in installed() if name not in OWN))


def own_systems(paradigm: str) -> tuple[str, ...]:
    """Return the systems of this package that take images, a film or conditions.

    Examples
    --------
    >>> own_systems('images')
    ('reconstruction', 'encoding')
    """
    return tuple(name for name, taken in OWN.items() if taken == paradigm)


def own_defaults() -> tuple[str, ...]:
    """Return the systems of this package that ``auto`` stands for.

    Examples
    --------
    >>> own_defaults()
    ('movie', 'reconstruction', 'conditions')
    """
    return tuple(own_systems(paradigm)[0] for paradigm in dict.fromkeys(OWN.values()))


def own_descriptions() -> dict[str, str]:
    """Return what each ``desc`` means that the systems of this package write."""
    return {k: v for name in OWN for k, v in system_named(name).descriptions.items()}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the middle of a message on a name that there is not.

    Parameters
    ----------
    kind
        What it is the name of.
    name
        As it was asked for.
    known
        The names that there are.
    """
    names = list(known)
    near = did_you_mean(name, names)
    return UNKNOWN.format(kind=kind, name=name, near=near, known=', '.join(names))


def versions_of(config: Any) -> str:
    """Return the versions of the packages that bring what settings ask for; empty for our own.

    A new version of one of them computes everything anew.
    """
    names = {
        SYSTEMS: [config.system],
        EXTRACTORS: [*config.features.extractor.split('+'), *config.encoding.bands],
        GENERATORS: [config.reconstruction.generator],
    }
    points = [
        installed(group).get(name.partition(':')[0])
        for group, asked in names.items()
        for name in asked
    ]
    brought = [point.dist for point in points if point is not None and point.dist is not None]
    return ' '.join(dict.fromkeys(f'{each.name} {each.version}' for each in brought))


def load(group: str, name: str, wanted: type) -> Any:
    """Return what an entry point stands for.

    Parameters
    ----------
    group, name
        Of the entry point, one of :func:`installed`.
    wanted
        The class that it has to be of; ``object`` takes anything that can be imported.

    Raises
    ------
    ArgumentsError
        If it cannot be imported, or is something else.
    """
    point, reason = installed(group)[name], ''
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises at import
        found, reason = None, f'{type(error).__name__}: {" ".join(str(error).split())}'
    if not reason and not isinstance(found, wanted):
        told = f'{wanted.__module__}.{wanted.__qualname__}'
        reason = OTHER_KIND.format(found=type(found).__name__, wanted=told)
    elif isinstance(found, System | Generator) and found.name != name:
        reason = OTHER_NAME.format(name=found.name)
    if reason:
        raise broken(group, name, reason)
    return found


def broken(group: str, name: str, reason: str) -> ArgumentsError:
    """Return the error of an entry point that cannot be used.

    Parameters
    ----------
    group, name
        Of the entry point, one of :func:`installed`.
    reason
        What is wrong, as the middle of a sentence.
    """
    kind = group.rpartition('.')[2].removesuffix('s')
    place = installed(group)[name].value
    return ArgumentsError(BROKEN.format(kind=kind, name=name, place=place, reason=reason))


def package_of(group: str, name: str) -> str:
    """Return the name of the package that brings an entry point.

    Parameters
    ----------
    group, name
        Of the entry point, one of :func:`installed`.
    """
    point = installed(group)[name]
    return point.module.partition('.')[0] if point.dist is None else point.dist.name


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
    if name not in installed():
        raise ArgumentsError(unknown('system', name, system_names()))
    system: System = load(SYSTEMS, name, System)
    return system


def system_named(name: str) -> System:
    """Return a system, of this package or installed.

    Raises
    ------
    ArgumentsError
        If there is none of that name, or it cannot be used.
    """
    system = find_system(name)
    if system is None:
        own: System = importlib.import_module(f'bids_neurodecode.systems.{name}.system').SYSTEM
        return own
    return system


def said_by(name: str) -> System:
    """Return a system for what pages say of it: nothing where it cannot be asked.

    Responses alone are no system's, and a page is made again after a package was removed.
    """
    try:
        system = None if name == 'auto' else system_named(name)
    except ArgumentsError:
        system = None
    return system or System(name, (), train=lambda _: None)


@functools.cache
def find_generator(name: str) -> Generator | None:
    """Return an installed generator; None for those of this package, and where there is none.

    Raises
    ------
    ArgumentsError
        If it cannot be used.
    """
    if name in OWN_GENERATORS or name not in installed(GENERATORS):
        return None
    generator: Generator = load(GENERATORS, name, Generator)
    return generator


def declared(table: str, key: str) -> Any:
    """Return what an installed system declares: of its ``products`` or ``descriptions``.

    None where no system does, or one that cannot be used.

    Parameters
    ----------
    table
        ``products`` or ``descriptions``.
    key
        Name of the product, or ``desc``.

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
