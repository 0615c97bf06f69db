"""Recipes: what is known of published datasets, so that nobody has to rewrite their files.

A recipe is a small TOML file (:class:`bids_neurodecode.settings.recipes.RecipeSettings`). It says
how a dataset is recognised and which settings follow, which stand above the preset and below
whatever the user says. Recipes come with the package, with other packages that are installed
(entry points of the group ``bids_neurodecode.recipes``), and from a folder of the user's.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_neurodecode.bids.choices import JOINT
from bids_neurodecode.bids.description import read_json
from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.config import Config, build_config, merge, validated
from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, InputError, raised_as
from bids_neurodecode.extensions import RECIPES, broken, installed, load, package_of
from bids_neurodecode.fetched import stand_in
from bids_neurodecode.settings.base import Settings
from bids_neurodecode.settings.recipes import ClueSettings, RecipeSettings
from bids_neurodecode.text import did_you_mean

if TYPE_CHECKING:
    from bids_neurodecode.bids.pairing import Series

LOGGER = logging.getLogger('bids_neurodecode')
VARIABLE = 'BIDS_NEURODECODE_RECIPES'
"""The environment variable that names the folder of the user's own recipes."""
AUTO, NONE, SUFFIX = 'auto', 'none', '.toml'
LONGEST_HEADER = 1_000_000
"""Characters of a first row that are looked at."""
LOOKED_AT = 8
"""Participants whose events are looked at: datasets show all of theirs the same columns."""

NO_RECIPES = 'There is no folder {folder} ({variable}). Make it, or unset the variable.'
NOT_ITS_FILE = 'it has to be the path of a file {name}, and is {file}'
UNKNOWN_RECIPE = 'No recipe or file is called {name!r}.{near} Recipes: {known}.'
UNREADABLE = 'Cannot read the recipe {file}: {reason}. Fix the file, or remove it.'
INVALID = 'Invalid recipe {file}: {key}: {reason}. Correct it.'
LEAVES = (
    'Invalid recipe {file}: {key}: {path!r} lies outside of the folder of the recipe. Put the '
    'file beside the recipe, and name it from there.'
)
NOT_THERE = (
    'Invalid recipe {file}: {key}: there is no file {path!r} beside the recipe. Add it, or '
    'correct the name.'
)
SEVERAL = (
    'The dataset {folder} looks like several: {titles}. Say which with --recipe {names}, or '
    '--recipe none.'
)
RECOGNISED = (
    'The dataset was recognised as {title} by {why} (recipe {name}, checked {checked}): {follows}.'
)
LEFT_OUT = '{reason} Until then the recipe {name!r} of the package {package} is left out.'
ASKED = '--recipe'
NOTHING = 'no settings follow'
OVERRIDDEN = '{settings}; {keys} as you set it'
PREFERRED = '{what} {label!r} was taken of {known}, as the recipe {name} says.'
OTHER_TASKS = (
    'The recipe {name} is for the task(s) {tasks}, and the preprocessed data are of {known}. Name '
    'the task with --task-id: it is then read without the recipe.'
)


@dataclass(frozen=True)
class Recipe:
    """A recipe, and by what a dataset was recognised."""

    name: str
    file: Path
    content: RecipeSettings
    why: str = ''

    def settings(self, tasks: Sequence[str] = ()) -> dict[str, Any]:
        """Return the settings that follow for tasks; none for the one that is preferred.

        None follow for tasks that the recipe does not name, if it names some: what it says of
        films does not hold of the localizer beside them.
        """
        known = {*self.content.tasks, *self.content.task, *JOINT.values()}
        if tasks and self.content.tasks and not known.intersection(tasks):
            return {}
        own = [self.content.task.get(task, {}) for task in tasks or self.content.tasks[:1]]
        values = merge(self.content.settings, *own)
        return _with_paths(values, Config, self.file, ())


def recipe_files() -> dict[str, Path]:
    """Return all recipes by name: the user's own, those of other packages, those of this one.

    Of one name, the first stands in the place of the others.

    Raises
    ------
    ArgumentsError
        If the user's folder is not there.
    """
    files = _own_files()
    for further in (_installed_files(), _files_in(_package())):
        files = files | {name: file for name, file in further.items() if name not in files}
    return files


def _own_files() -> dict[str, Path]:
    """Return the user's own recipes."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise ArgumentsError(NO_RECIPES.format(folder=folder, variable=VARIABLE))
    return _files_in(Path(folder))


def _installed_files() -> dict[str, Path]:
    """Return the recipes that other packages bring; without, and a warning of, broken ones."""
    files = {}
    for name in installed(RECIPES):
        try:
            files[name] = _installed_file(name)
        except ArgumentsError as error:
            _warn(name, str(error))
    return files


def _installed_file(name: str) -> Path:
    """Return the recipe that an entry point is the path of."""
    file: Path = load(RECIPES, name, Path)
    if not file.is_file() or file.name != f'{name}{SUFFIX}':
        raise broken(RECIPES, name, NOT_ITS_FILE.format(file=file, name=f'{name}{SUFFIX}'))
    return file


@functools.cache
def _warn(name: str, reason: str) -> None:
    """Say once that an installed recipe is left out, and whose it is."""
    told = {'name': name, 'package': package_of(RECIPES, name)}
    LOGGER.warning(LEFT_OUT.format(reason=reason, **told))


def _package() -> Path:
    return Path(str(resources.files('bids_neurodecode') / 'recipes'))


def _files_in(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.glob(f'*{SUFFIX}'))}


def read_recipe(source: str | Path) -> Recipe:
    """Read a recipe, by its name or its file, and check all that it says.

    Raises
    ------
    ArgumentsError
        If there is none, or it cannot be read, says something unknown (the nearest is named), sets
        what cannot be set, or names a file outside of its folder.
    """
    files = recipe_files()
    if str(source) in installed(RECIPES).keys() - _own_files():
        _installed_file(str(source))  # one that is broken is left out of the files
    file = files.get(str(source)) or Path(source)
    if not file.is_file():
        told = {
            'name': str(source),
            'near': did_you_mean(source, files),
            'known': ', '.join(files),
        }
        raise ArgumentsError(UNKNOWN_RECIPE.format(**told))
    return _read(file)


def _read(file: Path) -> Recipe:
    """Read and check a recipe; those of this package, which do not change, once."""
    return _read_once(file) if file.parent == _package() else _checked(file)


@functools.cache
def _read_once(file: Path) -> Recipe:
    return _checked(file)


def _checked(file: Path) -> Recipe:
    with raised_as(ArgumentsError, UNREADABLE, *BROKEN_TEXT, file=file):
        values = tomllib.loads(file.read_text('utf-8-sig'))
    content = validated(RecipeSettings, values, INVALID, file=file)
    recipe = Recipe(file.stem, file, content)
    for tasks in ((), *([task] for task in content.task)):
        build_config(recipe.settings(tasks), source=f'the recipe {file}')
    return recipe


def read_usable(name: str, file: Path) -> Recipe | None:
    """Read one of :func:`recipe_files`; None, and a warning, if it is an installed, broken one.

    Parameters
    ----------
    name, file
        Of the recipe.

    Raises
    ------
    ArgumentsError
        If one of the user's own cannot be used.
    """
    try:
        return _read(file)
    except ArgumentsError as error:
        if _installed_files().get(name) != file:
            raise
        _warn(name, str(error))
        return None


def _with_paths(
    values: Mapping[str, Any], model: type[Settings], file: Path, above: tuple[str, ...]
) -> dict[str, Any]:
    """Return settings whose paths are absolute, and below the folder of the recipe."""
    result = dict(values)
    for key, value in values.items():
        field = model.model_fields.get(key)
        kind = None if field is None else field.annotation
        name = '.'.join((*above, key))
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, Settings):
            result[key] = _with_paths(value, kind, file, (*above, key))
        elif isinstance(value, str) and 'Path' in str(kind) and value != NONE:
            path = (file.parent / value).resolve()
            told = {'file': file, 'key': name, 'path': value}
            if not path.is_relative_to(file.parent.resolve()):
                raise ArgumentsError(LEAVES.format(**told))
            if not path.is_file():
                raise ArgumentsError(NOT_THERE.format(**told))
            result[key] = str(path)
    return result


def recognise(folder: Path, asked: str = AUTO) -> Recipe | None:
    """Find the recipe of a dataset.

    Parameters
    ----------
    folder
        The dataset.
    asked
        ``auto``, the name or the file of a recipe that is taken unseen, or ``none``.

    Returns
    -------
    Recipe or None
        The user's own before those of packages; None where none is known.

    Raises
    ------
    ArgumentsError
        If the recipe that is asked for, or one of the user's own, cannot be used, or several
        recognise the dataset.
    """
    if asked == NONE:
        return None
    if asked != AUTO:
        return replace(read_recipe(asked), why=ASKED)
    if not folder.is_dir():
        return None
    seen = _Seen(folder)
    own, others, ours = list[Recipe](), list[Recipe](), list[Recipe]()
    installed_files = {*_installed_files().values()}
    for name, file in recipe_files().items():
        recipe = read_usable(name, file)
        why = '' if recipe is None else seen.why(recipe.content)
        if recipe is not None and why:
            found = ours if file.parent == _package() else own
            found = others if file in installed_files else found
            found.append(replace(recipe, why=why))
    for found in (own, others, ours):
        if len(found) > 1:
            titles = ', '.join(recipe.content.title for recipe in found)
            names = ' or '.join(recipe.name for recipe in found)
            raise ArgumentsError(SEVERAL.format(folder=folder, titles=titles, names=names))
        if found:
            return found[0]
    return None


class _Seen:
    """What a dataset shows of itself, read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / 'dataset_description.json'
        self.bids = file.is_file() or file.is_symlink()
        self.description: Mapping[str, Any] = {}
        if self.bids:
            with suppress(InputError):  # told by who reads the dataset
                self.description = read_json(file)
        self._columns: list[frozenset[str]] | None = None

    @property
    def columns(self) -> list[frozenset[str]]:
        if self._columns is None:
            self._columns = list(_columns(self.folder)) if self.bids else []
        return self._columns

    def why(self, recipe: RecipeSettings) -> str:
        """Say by what the dataset is recognised; empty if it is not."""
        if recipe.bids != self.bids:
            return ''
        return next(filter(None, map(self._holds, recipe.recognise)), '')

    def _holds(self, clue: ClueSettings) -> str:
        words = []
        if clue.accession:
            if not self._accession(clue.accession):
                return ''
            words.append(f'its accession {clue.accession}')
        if clue.names:
            name = str(self.description.get('Name', ''))
            if _plain(name) not in {_plain(other) for other in clue.names}:
                return ''
            words.append(f'its name {name!r}')
        if clue.columns or clue.lacks:
            seen = [columns for columns in self.columns if columns >= set(clue.columns)]
            lacking = [columns for columns in seen if not columns & set(clue.lacks)]
            if (clue.columns and not lacking) or len(lacking) < len(seen):
                return ''
        if clue.columns:
            words.append(f'the columns {", ".join(clue.columns)}')
        if clue.files:
            if not all(_finds(self.folder, pattern) for pattern in clue.files):
                return ''
            words.append(f'the files {", ".join(clue.files)}')
        return ' and '.join(words)

    def _accession(self, accession: str) -> bool:
        pattern = rf'(?<![a-z0-9]){re.escape(accession.lower())}(?![a-z0-9])'
        texts = (str(self.description.get('DatasetDOI', '')), self.folder.resolve().name)
        return any(re.search(pattern, text.lower()) for text in texts)


def _plain(text: str) -> str:
    return re.sub(r'[^a-z0-9]', '', text.lower())


def _finds(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


def _columns(folder: Path) -> Iterator[frozenset[str]]:
    """Yield the columns of one file of events a task, of the first participants."""
    tasks: set[str] = set()
    people = [p for p in sorted(folder.glob('sub-*')) if p.is_dir()][:LOOKED_AT]
    places = [(folder, '*_events.tsv')]
    for person in people:
        places += [(person, 'func/*_events.tsv'), (person, 'ses-*/func/*_events.tsv')]
    for place, pattern in places:
        for file in sorted(place.glob(pattern)):
            task = parse_entities(file).get('task', '')
            if task in tasks or not file.is_file() or stand_in(file) is not None:
                continue
            try:
                with file.open(encoding='utf-8-sig') as lines:
                    header = lines.readline(LONGEST_HEADER)
            except (OSError, UnicodeDecodeError):
                continue  # told by who reads the events
            tasks.add(task)
            yield frozenset(name.strip() for name in header.rstrip('\r\n').split('\t'))


def layer_of(
    recipe: Recipe | None, tasks: Sequence[str], *stronger: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a recipe without those that cannot stand beside stronger ones.

    A user who says how the split is made, or what was shown, replaces all that the recipe says of
    that; settings by which a recipe names the test samples mean nothing where folds are made.

    Parameters
    ----------
    recipe
        None gives no settings.
    tasks
        Those that are asked for.
    *stronger
        The user's settings.
    """
    if recipe is None:
        return {}
    values = recipe.settings(tasks)
    theirs = merge(*stronger)
    split, events = theirs.get('split', {}), theirs.get('events', {})
    dropped: dict[str, set[str]] = {'split': set(), 'events': set()}
    folds = split.get('by', 'given') not in {'auto', 'given'}
    if folds or split.keys() & {'test', 'file'}:
        dropped['split'] = {'test', 'train', 'validation', 'file', 'name', *(['by'] * folds)}
    if events.keys() & {'stimulus', 'stimulus_column'}:
        dropped['events'] = {'stimulus', 'stimulus_column', 'lookup'}
    return {
        group: {k: v for k, v in keys.items() if k not in dropped.get(group, ())}
        if isinstance(keys, Mapping)
        else keys
        for group, keys in values.items()
    }


def note_of(recipe: Recipe, tasks: Sequence[str], config: Config) -> str:
    """Say what a dataset was recognised as, and which settings follow.

    Parameters
    ----------
    recipe
        Its recipe.
    tasks
        Those that are asked for.
    config
        The settings of the run: those that the user set otherwise are named.
    """
    values = recipe.settings(tasks)
    theirs = build_config(values)
    kept: list[str] = []
    other: list[str] = []
    for group, keys in values.items():
        pairs = keys.items() if isinstance(keys, Mapping) else [('', keys)]
        for key, value in pairs:
            name = f'{group}.{key}' if key else group
            same = _value(config, group, key) == _value(theirs, group, key)
            (kept if same else other).append(f'{name} = {_text(value)}' if same else name)
    follows = ', '.join(kept) or NOTHING
    if other:
        follows = OVERRIDDEN.format(settings=follows, keys=', '.join(other))
    content = recipe.content
    said = RECOGNISED.format(
        title=content.title,
        why=recipe.why,
        name=recipe.name if recipe.file.parent == _package() else recipe.file,
        checked=content.checked,
        follows=follows,
    )
    return ' '.join((said, *content.cautions))


def _value(config: Config, group: str, key: str) -> Any:
    value = getattr(config, group)
    return getattr(value, key) if key else value


def _text(value: Any) -> str:
    """Write a value as TOML would."""
    if isinstance(value, Mapping):
        return '{' + ', '.join(f'{k} = {_text(v)}' for k, v in value.items()) + '}'
    if isinstance(value, list | tuple):
        return '[' + ', '.join(map(_text, value)) + ']'
    return json.dumps(value, default=str)


def preferred(
    found: Sequence[Series], recipe: Recipe | None, tasks: Sequence[str], space: str | None
) -> tuple[list[Series], list[str]]:
    """Keep the task and the space that the recipe of a dataset prefers, where none is asked for.

    Parameters
    ----------
    found
        Series of any task and space.
    recipe
        None keeps all.
    tasks, space
        What the user asks for.

    Returns
    -------
    series : list of Series
    notes : list of str
        What was taken where there was more than one.

    Raises
    ------
    InputError
        If none of the recipe's tasks is there, and its settings would be taken for another.
    """
    kept, notes = list(found), list[str]()
    if recipe is None:
        return kept, notes
    wishes: list[tuple[str, tuple[str, ...], Callable[[Series], str]]] = []
    if not tasks:
        wishes.append(('Task', recipe.content.tasks, lambda s: s.entities.get('task', '')))
    if space is None:
        wishes.append(('Space', recipe.content.spaces, lambda s: s.space or ''))
    for what, labels, label_of in wishes:
        known = sorted({label_of(series) for series in kept})
        label = next((label for label in labels if label in known), None)
        if what == 'Task' and label is None and recipe.settings() and labels:
            raise InputError(
                OTHER_TASKS.format(
                    name=recipe.name, tasks=', '.join(labels), known=', '.join(known)
                )
            )
        if label is not None and len(known) > 1:
            kept = [series for series in kept if label_of(series) == label]
            told = ', '.join(filter(None, known))
            notes.append(PREFERRED.format(what=what, label=label, known=told, name=recipe.name))
    return kept, notes
