"""Predict mode of film models without BOLD: what is read, checked before work starts."""

from __future__ import annotations

from pathlib import Path

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.newfilms import NO_EVENTS, films_of, films_of_events, of_films
from bids_neurodecode.bids.newpictures import has_bold, participants_asked, shows_folder
from bids_neurodecode.bids.query import own_reader
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.stimuli import MOVING
from bids_neurodecode.cli.newstimuli import find_for_all
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError

FOLDER = 'Responses to the {n} films in {folder} are predicted: there is no BOLD.'
EVENTS = (
    'Responses to the films that the events of {folder} name are predicted: there is no '
    'preprocessed BOLD.'
)


def find_new_films(arguments: Arguments, config: Config, request: Request) -> DatasetInput | None:
    """Return the films to predict responses to; None where BOLD is to be read.

    Participants are those asked for; without any named, those of the dataset with a model.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    request
        What the call asks for of the dataset.

    Raises
    ------
    InputError
        One line, if nobody is left.
    """
    if arguments.models_from is None or config.system not in {'auto', 'movie'}:
        return None
    place = None if shows_folder(request) else arguments.stimuli_dir
    if own_reader(request) is not None or (place is None and has_bold(request)):
        return None
    if config.system == 'auto' and not _holds_films(request, place):
        return None
    from bids_neurodecode.cli.systems import WHICH_MODEL

    return find_for_all(
        request,
        place,
        arguments.models_from,
        model_of=_any_model,
        find=_find,
        messages=(FOLDER, EVENTS, WHICH_MODEL),
    )


def _holds_films(request: Request, place: Path | None) -> bool:
    if place is None:
        return any(films_of_events(request, label) for label in participants_asked(request))
    if place.is_dir():
        return any(file.suffix.lower() in MOVING for file in place.rglob('*'))
    return place.suffix.lower() in MOVING


def _find(
    request: Request, place: Path | None, label: str, model: Path | None
) -> ParticipantInput:
    # without a model the task is of no use: its want is told when the model is looked for
    task = 'none' if model is None else parse_entities(model)['task']
    if place is not None:
        return of_films(label, task, *films_of(place), request.features)
    names = films_of_events(request, label)
    if not names:
        raise InputError(NO_EVENTS.format(label=label, folder=request.bids_dir))
    return of_films(label, task, request.stimuli.path, names, request.features)


def _any_model(folder: Path, label: str) -> Path | None:
    files = (folder / f'sub-{label}' / 'models').glob('*_desc-linear_model.safetensors')
    return next(iter(sorted(files)), None)
