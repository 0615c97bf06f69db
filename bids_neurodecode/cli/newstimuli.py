"""Predict mode without BOLD: for whom stimuli are read, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bids_neurodecode.bids.newpictures import participants_asked
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.bids.request import Request, read_each
from bids_neurodecode.errors import InputError


def find_for_all(
    request: Request,
    place: Path | None,
    models: Path,
    *,
    model_of: Callable[[Path, str], Path | None],
    find: Callable[[Request, Path | None, str, Path | None], ParticipantInput],
    messages: tuple[str, str, str],
) -> DatasetInput:
    """Return what is predicted for each participant.

    Participants are those asked for; without any named, those of the dataset with a model.

    Parameters
    ----------
    request
        What the command line asks for.
    place
        Folder (or file) of stimuli; None: what the events name.
    models
        Output folder of the training run.
    model_of
        Returns a participant's model in there; None if there is none.
    find
        Returns what is shown to a participant, from the request, the place, label and model.
    messages
        With a place, with events, and where nobody has a model.

    Raises
    ------
    InputError
        One line, if nobody is left.
    """
    of_place, of_events, no_model = messages
    of_each = {label: model_of(models, label) for label in participants_asked(request)}
    wanted = [label for label, own in of_each.items() if own is not None or request.participants]
    found, failures = read_each(wanted, lambda label: find(request, place, label, of_each[label]))
    if not found:
        label = ' or sub-'.join(participants_asked(request))
        raise InputError(no_model.format(label=label, folder=models, found='none'))
    note = of_events.format(folder=request.bids_dir)
    if place is not None:
        note = of_place.format(n=len(found[0].stimuli), folder=place)
    return DatasetInput(request.bids_dir, {}, tuple(found), failures, (note,))
