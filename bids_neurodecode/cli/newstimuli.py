"""Predict mode without BOLD: images and films to predict responses to, checked before work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.newfilms import NO_EVENTS, films_of, films_of_events, of_films
from bids_neurodecode.bids.newpictures import (
    find_event_runs,
    find_picture_folder,
    has_bold,
    participants_asked,
    shows_folder,
)
from bids_neurodecode.bids.query import own_reader
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.bids.request import Request, read_each
from bids_neurodecode.bids.stimuli import MOVING
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.cli.systems import models_in, no_model
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError
from bids_neurodecode.extensions import own_defaults, system_named

FOLDER = 'Responses to the {n} {what} in {folder} are predicted: there is no BOLD.'
EVENTS = (
    'Responses to the {what} that the events of {folder} name are predicted: there is no '
    'preprocessed BOLD.'
)


def find_new_stimuli(
    arguments: Arguments, config: Config, request: Request
) -> DatasetInput | None:
    """Return the images or films to predict responses to; None where BOLD is to be read.

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
    models = arguments.models_from
    names = own_defaults() if config.system == 'auto' else (config.system,)
    able = {each: name for name in names if (each := system_named(name).new_stimuli)}
    if models is None or not able:
        return None
    place = None if shows_folder(request) else arguments.stimuli_dir
    if 'images' in able:
        if place is None and has_bold(request):
            return None
        return _find_for_all(request, place, models, able['images'], 'images', _find_pictures)
    if own_reader(request) is not None or (place is None and has_bold(request)):
        return None
    if config.system == 'auto' and not _holds_films(request, place):
        return None
    return _find_for_all(request, place, models, able['films'], 'films', _find_films)


def _find_for_all(
    request: Request,
    place: Path | None,
    models: Path,
    system: str,
    what: str,
    find: Callable[[Request, Path | None, str, str], ParticipantInput],
) -> DatasetInput:
    """Return what is predicted for each participant with a model, or who was asked for."""

    def read(label: str) -> ParticipantInput:
        # without a model the task is of no use: its want is told when the model is looked for
        own = of_each[label]
        return find(request, place, label, parse_entities(own[0])['task'] if own else 'none')

    of_each = {x: models_in(models, x, system) for x in participants_asked(request)}
    wanted = [label for label, own in of_each.items() if own or request.participants]
    found, failures = read_each(wanted, read)
    if not found:
        label = ' or sub-'.join(of_each)
        raise InputError(no_model(models, label, system))
    note = EVENTS.format(what=what, folder=request.bids_dir)
    if place is not None:
        note = FOLDER.format(n=len(found[0].stimuli), what=what, folder=place)
    return DatasetInput(request.bids_dir, {}, tuple(found), failures, (note,))


def _find_pictures(
    request: Request, folder: Path | None, label: str, task: str
) -> ParticipantInput:
    if folder is None:
        return find_event_runs(request, label)
    return find_picture_folder(folder, label, task, request.features)


def _find_films(request: Request, place: Path | None, label: str, task: str) -> ParticipantInput:
    if place is not None:
        return of_films(label, task, *films_of(place), request.features)
    names = films_of_events(request, label)
    if not names:
        raise InputError(NO_EVENTS.format(label=label, folder=request.bids_dir))
    return of_films(label, task, request.stimuli.path, names, request.features)


def _holds_films(request: Request, place: Path | None) -> bool:
    if place is None:
        return any(films_of_events(request, label) for label in participants_asked(request))
    if place.is_dir():
        return any(file.suffix.lower() in MOVING for file in place.rglob('*'))
    return place.suffix.lower() in MOVING
