"""Images without BOLD, whose responses are to be predicted: a dataset of events, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_neurodecode.bids.description import check_raw
from bids_neurodecode.bids.entities import natural_key, run_entities, same_index
from bids_neurodecode.bids.features import picture_features
from bids_neurodecode.bids.filters import query_of
from bids_neurodecode.bids.pipelines import holds_series
from bids_neurodecode.bids.provenance import bids_uri
from bids_neurodecode.bids.publishedevents import EventsReader
from bids_neurodecode.bids.query import own_reader
from bids_neurodecode.bids.records import EventsInput, ParticipantInput
from bids_neurodecode.bids.request import Request, choose_participants
from bids_neurodecode.bids.stimuli import (
    IMAGES,
    check_image,
    paradigm_of,
    resolve_stimulus,
)
from bids_neurodecode.bids.timing import stimuli_of
from bids_neurodecode.errors import InputError

NO_EVENTS = (
    'No events of sub-{label} name images in {folder} ({asked}). Add *_events.tsv with '
    'stim_file, or give a folder of images with --stimuli-dir.'
)
SEVERAL_TASKS = 'Several tasks of sub-{label} show images: {tasks}. Choose one with --task-id.'
FILMS_SHOWN = (
    'Task {task!r} of sub-{label} shows films, and encoding models of images predict responses '
    'to images alone. Choose another --task-id.'
)
NO_PICTURES = 'There is no image ({types}) in {folder}. Give a folder of images.'
NO_FOLDER = 'There is no folder {folder}. Check --stimuli-dir.'
ASKED = 'task {task}, sessions {sessions}, runs {runs}'


def has_bold(request: Request) -> bool:
    """Tell whether derivatives are named, or preprocessed BOLD lies below the dataset."""
    if request.derivatives:
        return True
    query = query_of('bold', request.filters)
    return any(
        holds_series(folder, query) for folder in (request.bids_dir / 'derivatives').glob('*')
    )


def shows_folder(request: Request) -> bool:
    """Tell whether the folder of stimuli that is given is the one that the events name.

    It is where all of them lie; then it is no folder of others, to predict the responses to.
    """
    place = request.stimuli_dir
    if place is None or not place.is_dir() or own_reader(request) is not None:
        return False
    own = request.bids_dir / 'stimuli'
    if own.exists() and place.resolve() == own.resolve():
        return False
    found = False
    for label in participants_asked(request):
        for file in sorted((request.bids_dir / f'sub-{label}').rglob('*_events.tsv')):
            entities = run_entities(file)
            if _is_asked(file, request) and request.reader().shows(file, entities):
                if not request.reader().all_there(file, entities):
                    return False
                found = True
    return found


def participants_asked(request: Request) -> tuple[str, ...]:
    """Return the participants that are asked for; all of the dataset where none is named.

    Raises
    ------
    InputError
        If the folder is no dataset, or a participant is not there.
    """
    folder = request.bids_dir
    return choose_participants(request.participants, check_raw(folder), folder)


def find_event_runs(request: Request, label: str) -> ParticipantInput:
    """Return the runs of a participant as their events alone describe them.

    Parameters
    ----------
    request
        What the user asks for.
    label
        Of the participant.

    Raises
    ------
    InputError
        If there are none, they are of several tasks, or a table or image cannot be used.
    """
    index, _ = request.index(request.bids_dir, (label,))
    files = index.find({'suffix': 'events', 'extension': '.tsv', 'subject': label})
    found = sorted(files, key=lambda p: natural_key(p.name))
    reader = request.reader()
    asked_for = {file: run_entities(file) for file in found if _is_asked(file, request)}
    able = {file: own for file, own in asked_for.items() if reader.shows(file, own)}
    tasks = sorted({own['task'] for own in able.values()})
    if not able:
        asked = ASKED.format(
            task=', '.join(request.tasks) or 'any',
            sessions=', '.join(request.sessions) or 'any',
            runs=', '.join(request.runs) or 'any',
        )
        raise InputError(NO_EVENTS.format(label=label, folder=request.bids_dir, asked=asked))
    if len(tasks) > 1:
        raise InputError(SEVERAL_TASKS.format(label=label, tasks=', '.join(tasks)))
    reader.choose(able)
    runs = [_run(file, own, reader, request) for file, own in able.items()]
    stimuli_dir = reader.folder.path
    return ParticipantInput(
        label=label,
        task=tasks[0],
        paradigm='images',
        runs=(),
        stimuli_dir=stimuli_dir,
        stimuli=_pictures(runs, stimuli_dir, label, tasks[0]),
        features=picture_features(label, tasks[0], stimuli_dir, request.features),
        events_only=tuple(runs),
    )


def find_picture_folder(
    folder: Path, label: str, task: str, features: str | None = None
) -> ParticipantInput:
    """Return the images of a plain folder, to be shown to a model of one participant.

    ``features`` is the setting ``features.table``.

    Parameters
    ----------
    folder
        That holds images.
    label, task
        Of the participant whose model is asked.
    features
        The setting ``features.table``.

    Raises
    ------
    InputError
        If there is no such folder, it holds no image, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(NO_FOLDER.format(folder=folder))
    files = sorted(
        (
            file
            for file in folder.rglob('*')
            if file.suffix.lower() in IMAGES and not file.is_dir()
        ),
        key=lambda file: file.relative_to(folder).as_posix(),
    )
    if not files:
        types = ' '.join(sorted(IMAGES))
        raise InputError(NO_PICTURES.format(types=types, folder=folder))
    for file in files:
        check_image(file, folder)
    return ParticipantInput(
        label=label,
        task=task,
        paradigm='images',
        runs=(),
        stimuli_dir=folder,
        stimuli=tuple(file.relative_to(folder).as_posix() for file in files),
        features=picture_features(label, task, folder, features),
    )


def _is_asked(file: Path, request: Request) -> bool:
    """Whether an events file is of a task, session and run that are asked for."""
    entities = run_entities(file)
    if 'task' not in entities or (request.tasks and entities['task'] not in request.tasks):
        return False
    return all(
        not labels or any(same_index(x, entities.get(key, '')) for x in labels)
        for key, labels in (('ses', request.sessions), ('run', request.runs))
    )


def _run(
    file: Path, entities: dict[str, str], reader: EventsReader, request: Request
) -> EventsInput:
    """Return the run of an events file."""
    shown = reader.read(file, entities, length=float('inf'), repetition_time=0.0)
    return EventsInput(entities, shown.events, (bids_uri('raw', file, request.bids_dir),))


def _pictures(runs: Sequence[EventsInput], folder: Path, label: str, task: str) -> tuple[str, ...]:
    """Resolve and open every image of the runs once; names sorted."""
    seen: dict[str, Path] = {}
    for run in runs:
        for name in stimuli_of(run.events):
            seen.setdefault(name, run.events)
    for name, events in seen.items():
        file = resolve_stimulus(name, folder, events)
        if paradigm_of([name], task) == 'movie':
            raise InputError(FILMS_SHOWN.format(task=task, label=label))
        check_image(file, events)
    return tuple(sorted(seen))
