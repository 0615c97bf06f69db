"""Films without BOLD, whose responses are to be predicted: a dataset of events, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_neurodecode.bids.entities import run_entities
from bids_neurodecode.bids.features import features_of_films
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.stimuli import FILMS, MOVING, resolve_stimulus
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.stimuli.films import check_film_once
from bids_neurodecode.stimuli.tables import is_table

NO_FILMS = 'There is no film ({types}) in {folder}. Give a film, or a folder of films.'
NO_EVENTS = (
    'No events of sub-{label} name films in {folder}. Add *_events.tsv with stim_file, or give a '
    'film or a folder of films with --stimuli-dir.'
)


def films_of(place: Path) -> tuple[Path, tuple[str, ...]]:
    """Return a folder, and the names of the films in it; a film alone is a folder of one.

    Raises
    ------
    InputError
        If there is none.
    """
    if (
        not place.is_dir()
        and (place.exists() or place.is_symlink())
        and place.suffix.lower() in MOVING
    ):
        return place.parent, (place.name,)
    files = sorted(file for file in place.rglob('*') if place.is_dir() and not file.is_dir())
    films = [file for file in files if file.suffix.lower() in FILMS]
    # a folder of films may hold tables of any kind; one without films holds their features
    found = films or [file for file in files if file.suffix.lower() in MOVING]
    names = [file.relative_to(place).as_posix() for file in found]
    if not names:
        raise InputError(NO_FILMS.format(types=' '.join(sorted(FILMS)), folder=place))
    return place, tuple(names)


def films_of_events(request: Request, label: str) -> tuple[str, ...]:
    """Return the films that the events of a participant name, sorted; none if there are none.

    Parameters
    ----------
    request
        What the user asks for.
    label
        Of the participant.

    Raises
    ------
    InputError
        If one of them is not there.
    """
    names = dict[str, Path]()
    for file in sorted((request.bids_dir / f'sub-{label}').rglob('*_events.tsv')):
        entities, reader = run_entities(file), request.reader()
        unasked = request.tasks and entities.get('task') not in request.tasks
        if unasked or not reader.shows(file, entities):
            continue
        names |= dict.fromkeys(reader.names(file, entities), file)
    films = {name: file for name, file in names.items() if Path(name).suffix.lower() in MOVING}
    folder = request.stimuli.path
    for name, file in films.items():
        if request.features is not None and not (folder / name).exists():
            continue  # known by its features
        resolve_stimulus(name, folder, file)
    return tuple(sorted(films))


def of_films(
    label: str, task: str, folder: Path, names: Sequence[str], features: str | None = None
) -> ParticipantInput:
    """Return the record of films without BOLD, to be shown to the model of a participant.

    ``features`` is the setting ``features.table``.

    Parameters
    ----------
    label, task
        Of the participant whose model is asked.
    folder
        Of the stimuli.
    names
        Of films, below the folder.
    features
        The setting ``features.table``.

    Raises
    ------
    InputError
        If one cannot be decoded, or has no features.
    """
    entities = {'sub': label, 'task': task}
    tables = features_of_films(names, entities, folder, features)
    for name in names:
        check_fetched(folder / name)
        if not is_table(name) and (name not in tables or (folder / name).exists()):
            check_film_once(folder / name)
    return ParticipantInput(
        label=label, task=task, paradigm='movie', runs=(), stimuli_dir=folder,
        stimuli=tuple(names), features=tables,
    )  # fmt: skip
