"""Predict mode of encoding models without BOLD: what is read, checked before work starts."""

from __future__ import annotations

from pathlib import Path

from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.newpictures import (
    find_event_runs,
    find_picture_folder,
    has_bold,
    shows_folder,
)
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.cli.newstimuli import find_for_all
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.cli.systems import WHICH_ENCODER, encoders_in
from bids_neurodecode.config import Config

FOLDER = 'Responses to the {n} images in {folder} are predicted: there is no BOLD.'
EVENTS = (
    'Responses to the images that the events of {folder} name are predicted: there is no '
    'preprocessed BOLD.'
)


def find_new_pictures(
    arguments: Arguments, config: Config, request: Request
) -> DatasetInput | None:
    """Return the images to predict responses to; None where BOLD is to be read.

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
    if config.system != 'encoding' or arguments.models_from is None:
        return None
    folder = None if shows_folder(request) else arguments.stimuli_dir
    if folder is None and has_bold(request):
        return None
    return find_for_all(
        request,
        folder,
        arguments.models_from,
        model_of=_any_model,
        find=_find,
        messages=(FOLDER, EVENTS, WHICH_ENCODER),
    )


def _find(
    request: Request, folder: Path | None, label: str, model: Path | None
) -> ParticipantInput:
    if folder is None:
        return find_event_runs(request, label)
    # without a model the task is of no use: its want is told when the model is looked for
    task = 'none' if model is None else parse_entities(model)['task']
    return find_picture_folder(folder, label, task, request.features)


def _any_model(folder: Path, label: str) -> Path | None:
    return next(iter(encoders_in(folder, label)), None)
