"""Where the features are that a user brings: a table of each film, or one of all images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from string import Formatter

from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.bids.stimuli import FILMS, IMAGES
from bids_neurodecode.bids.timing import stimuli_of
from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli.tables import is_table, suffix_of

PICTURES = '*'
"""Under which the table of all images is kept."""

UNKNOWN_FIELD = (
    'features.table = "{template}" asks for {field!r}, which {what} does not have. It has {known}.'
)
NOT_THERE = (
    'There is no feature table {file} of {what} (features.table = "{template}", looked for in '
    '{places}). Add it, or correct the setting.'
)
TWO_TABLES = (
    'features.table = "{template}" gives two tables to the film {film} ({a} and {b}). A film has '
    'one: name films apart, or leave a run out with --run-label.'
)


def film_features(runs: Sequence[RunInput], folder: Path, template: str | None) -> dict[str, Path]:
    """Return the table of each film that has one, by the name of the film.

    Parameters
    ----------
    runs
        Their events name films, or tables of features in their place.
    folder
        Of the stimuli.
    template
        ``features.table``.

    Raises
    ------
    InputError
        If the template asks for what a run does not have, a table is not there, or a film has
        two.
    """
    found: dict[str, Path] = {}
    for run in runs:
        for name in dict.fromkeys(stimuli_of(run.events)):
            file = _table_of(name, run.entities, folder, template)
            if file is None:
                continue
            if found.setdefault(name, file) != file:
                raise InputError(
                    TWO_TABLES.format(template=template, film=name, a=found[name], b=file)
                )
    return found


def has_own_table(name: str, template: str | None) -> bool:
    """Tell whether a stimulus is a film with a table of features, so that it needs no file.

    Parameters
    ----------
    name
        As in ``stim_file``.
    template
        ``features.table``.

    Examples
    --------
    >>> has_own_table('a.mkv', 'a.npy'), has_own_table('a.png', 'all.npy')
    (True, False)
    >>> has_own_table('s01e01', '{film}.npy'), has_own_table('part-1.tsv', None)
    (True, True)
    """
    if is_table(name):
        return True
    suffix = suffix_of(name)
    by_name = template is not None and '{film}' in template and suffix not in IMAGES
    return by_name or (template is not None and suffix in FILMS)


def features_of_films(
    names: Iterable[str], entities: Mapping[str, str], folder: Path, template: str | None
) -> dict[str, Path]:
    """Return the table of each of some films that has one; errors as :func:`film_features`.

    Parameters
    ----------
    names
        Of films.
    entities
        That the template may name.
    folder
        Of the stimuli; relative paths are below it.
    template
        ``features.table``; None: only what is a table itself has one.
    """
    found = {name: _table_of(name, entities, folder, template) for name in names}
    return {name: file for name, file in found.items() if file is not None}


def picture_features(label: str, task: str, folder: Path, template: str | None) -> dict[str, Path]:
    """Return the table of a participant's images under ``*``; empty where none is asked for.

    Parameters
    ----------
    label, task
        Of the participant.
    folder
        Of the stimuli; relative paths are below it.
    template
        ``features.table``; ``{sub}`` and ``{task}`` stand for the participant's.

    Raises
    ------
    InputError
        If the template asks for what a participant does not have, or the table is not there.
    """
    if template is None:
        return {}
    entities = {'sub': label, 'task': task}
    return {PICTURES: _expand(template, entities, folder, f'sub-{label}')}


def _table_of(
    name: str, entities: Mapping[str, str], folder: Path, template: str | None
) -> Path | None:
    if is_table(name):
        return folder / name
    if template is None or not has_own_table(name, template):
        return None
    fields = {**entities, 'film': PurePosixPath(name).with_suffix('').as_posix()}
    return _expand(template, fields, folder, f'the film {name}')


def _expand(template: str, fields: Mapping[str, str], folder: Path, what: str) -> Path:
    """Return the file that a template means: below the folder, or a path of its own."""
    try:
        for _, field, _, _ in Formatter().parse(template):
            if field is not None and field not in fields:
                known = ', '.join(fields)
                raise InputError(
                    UNKNOWN_FIELD.format(template=template, field=field, what=what, known=known)
                )
        path = Path(template.format(**fields)).expanduser()
    except ValueError as error:
        raise InputError(
            UNKNOWN_FIELD.format(
                template=template, field=str(error), what=what, known=', '.join(fields)
            )
        ) from error
    places = (path,) if path.is_absolute() else (folder / path, Path.cwd() / path)
    for place in places:
        if place.is_file() or place.is_symlink():
            return place
    where = ' and '.join(str(place.parent) for place in places)
    raise InputError(NOT_THERE.format(file=path.name, what=what, template=template, places=where))
