"""Emo-FilM (OpenNeuro ds004892) as it is published: films as tasks, FSL's derivatives.

What is used of the layout::

    sub-X/ses-Y/func/sub-X_ses-Y_task-scan_acq-FILM_events.tsv     when the film was shown
    sub-X/ses-Y/func/sub-X_ses-Y_task-FILM_bold.json               repetition time
    derivatives/preprocessing/sub-X/ses-Y/func/sub-X_ses-Y_task-FILM_space-MNI_desc-ppres_bold.nii.gz

The films are in a folder of the user's. Masks and tables that the layout lacks are made in the
work folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_neurodecode.bids.choices import keep_labels
from bids_neurodecode.bids.description import check_raw, read_json
from bids_neurodecode.bids.emofilm_events import (
    FILM_SECONDS,
    TOLERANCE,
    Showing,
    all_events,
    showing_of,
)
from bids_neurodecode.bids.entities import natural_key, run_entities
from bids_neurodecode.bids.features import film_features
from bids_neurodecode.bids.layouts import keep_table
from bids_neurodecode.bids.masks import MASK_VOLUMES, make_mask
from bids_neurodecode.bids.pairing import Series
from bids_neurodecode.bids.provenance import bids_uri
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput, RunInput
from bids_neurodecode.bids.request import Request, choose_participants, read_each
from bids_neurodecode.bids.series import read_header
from bids_neurodecode.bids.stimuli import FILMS
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.stimuli.films import check_film_once

DERIVATIVES = 'preprocessing'
SERIES = 'derivatives/preprocessing/sub-*/ses-*/func/*_space-MNI_desc-ppres_bold.nii*'
SPACE = 'MNI152NLin6Asym'
TASK = 'film'
REST = 'Rest'

NO_FOLDER = (
    'Emo-FilM does not hold its films ({films}). Name the folder that holds them, one file per '
    'film named as its task, with --stimuli-dir.'
)
NO_FILM = (
    'There is no film {film!r} in {folder} (files: {known}). Add it, named as its task '
    '({film}.mp4), or leave it out with --task-id or --session-label.'
)
SEVERAL_FILES = 'Several files in {folder} are named as the film {film!r}: {files}. Keep one.'
FILM_SHORT = (
    'The film {file} lasts {found:.1f} s, and {film} was shown for {shown:g} s (tolerance '
    '{tolerance:g} s). Give the version that was shown.'
)
RUN_SHORT = (
    'The run {bold} ends at {length:.1f} s, and {film} was shown until {end:.1f} s. '
    'Leave the participant out, or the film with --task-id.'
)
NO_TR = (
    'No repetition time for {bold}: {sidecar} has none, nor has the header. Add the sidecar of '
    'the raw run.'
)
OTHER_SPACE = 'The space {asked!r} is not read of Emo-FilM. Leave --space out: it is {space}.'
NO_FILTERS = (
    'A filter file is not used with the published layout of Emo-FilM. Choose with '
    '--participant-label, --session-label and --task-id.'
)
NO_SERIES = (
    'No preprocessed film run (space-MNI_desc-ppres_bold) of sub-{label} that was asked for in '
    '{folder}. Get it, or leave the participant out.'
)
LAYOUT = (
    'The dataset is Emo-FilM in its published layout: series of FSL (motion, white matter and CSF '
    'regressed out, smoothed by 6 mm, high-pass filtered), whose space-MNI is that of FSL '
    f'({SPACE}). There are no confounds, and no masks: voxels that vary over the first '
    f'{MASK_VOLUMES} volumes of all runs are used.'
)
FOUND = (
    'sub-{label}: task {task!r}, {runs} runs, {volumes} volumes, TR {period:g} s, films {films}.'
)
NO_EVENTS = (
    '{films}: left out. No run of them has events (*_task-scan_acq-FILM_events.tsv) in {folder}, '
    'so it is not known when they began. Get the events of a few participants.'
)
LACKS = 'sub-{label}: there are no preprocessed series of {films}, which others have.'
LONGER = (
    'The film {file} lasts {found:.1f} s, and {film} was shown for {shown:g} s: its first part is '
    'used. Check that it starts with the same image.'
)
OTHER_TR = (
    'sub-{label}: the header of {bold} gives a repetition time of {header:g} s and the raw '
    'sidecar {sidecar:g} s, which was taken.'
)


def find_emofilm(request: Request) -> DatasetInput:
    """Find what one call reads of Emo-FilM's published layout, and check it.

    All films of a participant are one analysis with the task label ``film``; its runs are told
    apart by ``acq-<film>``, as the dataset's own events are. With ``request.tasks`` it is the
    film of that name alone.

    Raises
    ------
    InputError
        If files are missing or do not fit, or no participant can be processed.
    """
    root = request.bids_dir
    wanted = choose_participants(request.participants, check_raw(root), root)
    series = _series(request)
    films = sorted({s.entities['task'] for s in series if s.entities['sub'] in wanted})
    events = all_events(root)
    unknown = [film for film in films if film not in events]
    without = [NO_EVENTS.format(films=', '.join(unknown), folder=root)] if unknown else []
    if len(unknown) < len(films):
        films = [film for film in films if film in events]
        series = [s for s in series if s.entities['task'] in films]
    files, notes = find_films(request.stimuli_dir or root / 'stimuli', films)
    notes += without

    def read(label: str) -> tuple[ParticipantInput, list[str]]:
        own = sorted((s for s in series if s.entities['sub'] == label), key=_order)
        person, lines = _participant(label, own, request, files, events)
        missing = sorted(set(films) - {s.entities['task'] for s in own})
        return person, lines + [LACKS.format(label=label, films=', '.join(missing))] * bool(
            missing
        )

    found, failures = read_each(wanted, read)
    notes += [line for _, lines in found for line in lines]
    derivatives = {DERIVATIVES: root / 'derivatives' / DERIVATIVES}
    return DatasetInput(
        root, derivatives, tuple(person for person, _ in found), failures, (LAYOUT, *notes)
    )


def _order(series: Series) -> tuple[object, ...]:
    return (natural_key(series.entities['ses']), series.entities['task'])


def _series(request: Request) -> list[Series]:
    """Return the film runs of all participants that were asked for."""
    space = request.space
    if space is not None and space.removeprefix('space-').split(':')[0] not in {SPACE, 'MNI'}:
        raise InputError(OTHER_SPACE.format(asked=space, space=SPACE))
    if request.filters:
        raise InputError(NO_FILTERS)
    files = sorted(request.bids_dir.glob(SERIES))
    found = [Series(file, DERIVATIVES) for file in files]
    found = [s for s in found if s.entities.get('task', REST) != REST]
    found = keep_labels(found, 'ses', 'session', request.sessions)
    tasks = tuple(task for task in request.tasks if task != TASK)
    return keep_labels(found, 'task', 'task', tasks)


def find_films(folder: Path, films: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Find the file of each film, and compare how long it lasts with how long it was shown.

    Parameters
    ----------
    folder
        The user's films, named as their tasks.
    films
        Names of tasks.

    Returns
    -------
    files : dict
        By the name of the film.
    notes : list of str
        On films that are longer than what was shown.

    Raises
    ------
    InputError
        If one is missing, there twice, or more than :data:`TOLERANCE` too short.
    """
    if not folder.is_dir():
        raise InputError(NO_FOLDER.format(films=', '.join(films)))
    there = sorted(f for f in folder.iterdir() if f.suffix.lower() in FILMS)
    files: dict[str, Path] = {}
    notes: list[str] = []
    for film in films:
        same = [file for file in there if file.stem == film]
        if not same:
            known = ', '.join(file.name for file in there) or 'none'
            raise InputError(NO_FILM.format(film=film, folder=folder, known=known))
        if len(same) > 1:
            names = ', '.join(file.name for file in same)
            raise InputError(SEVERAL_FILES.format(folder=folder, film=film, files=names))
        check_fetched(same[0])
        files[film] = same[0]
        shown = FILM_SECONDS.get(film)
        if shown is None:
            continue
        lasts = check_film_once(same[0]).duration
        told = {'file': same[0], 'found': lasts, 'film': film, 'shown': shown}
        if lasts < shown - TOLERANCE:
            raise InputError(FILM_SHORT.format(tolerance=TOLERANCE, **told))
        if lasts > shown + TOLERANCE:
            notes.append(LONGER.format(**told))
    return files, notes


def _participant(
    label: str,
    series: Sequence[Series],
    request: Request,
    films: Mapping[str, Path],
    events: Mapping[str, Sequence[Path]],
) -> tuple[ParticipantInput, list[str]]:
    """Return one participant's record and what to say of it."""
    root = request.bids_dir
    if not series:
        folder = root / 'derivatives' / DERIVATIVES
        raise InputError(NO_SERIES.format(label=label, folder=folder))
    task = request.tasks[0] if request.tasks else TASK
    notes: list[str] = []
    runs = []
    for each in series:
        film = each.entities['task']
        shown = showing_of(each.entities, film, events.get(film, ()), root)
        notes += [shown.note] if shown.note else []
        run, note = _run(each, request, task, shown, films[film])
        notes += [note] if note else []
        runs.append(run)
    names = sorted({films[s.entities['task']].name for s in series})
    person = ParticipantInput(
        label=label,
        task=task,
        paradigm='movie',
        runs=tuple(runs),
        stimuli_dir=next(iter(films.values())).parent,
        stimuli=tuple(names),
        features=film_features(runs, next(iter(films.values())).parent, request.features),
        layout='emofilm',
    )
    told = FOUND.format(
        label=label,
        task=task,
        runs=len(runs),
        volumes=sum(run.n_volumes for run in runs),
        period=runs[0].repetition_time,
        films=', '.join(s.entities['task'] for s in series),
    )
    return person, [told, *notes]


def _run(
    series: Series, request: Request, task: str, shown: Showing, film: Path
) -> tuple[RunInput, str]:
    """Return the record of one run, and a note on its repetition time."""
    bold, root = series.path, request.bids_dir
    header = read_header(bold)
    period, note = _repetition_time(series, root, header.repetition_time)
    name = series.entities['task']
    length, end = header.n_volumes * period, shown.onset + shown.duration
    if end > length + period:
        raise InputError(RUN_SHORT.format(bold=bold, length=length, film=name, end=end))
    entities = {key: series.entities[key] for key in ('sub', 'ses')} | {'task': task}
    if task != name:
        entities['acq'] = name
    stem = '_'.join(f'{key}-{value}' for key, value in entities.items())
    table = pd.DataFrame(
        {
            'onset': [shown.onset],
            'duration': [shown.duration],
            'trial_type': ['film'],
            'stim_file': [film.name],
        }
    )
    derivatives = root / 'derivatives' / DERIVATIVES
    sources = [bids_uri(DERIVATIVES, bold, derivatives)]
    if shown.file is not None:
        sources.append(bids_uri('raw', shown.file, root))
    size = np.linalg.norm(header.grid.affine[:3, :3], axis=0).round(3)
    whole = np.ptp(size) == 0 and float(size[0]).is_integer()
    run = RunInput(
        entities=entities,
        bold=bold,
        mask=make_mask(bold, request.made_dir, root),
        events=keep_table(request.made_dir, f'{stem}_events.tsv', table, root),
        confounds=None,
        repetition_time=period,
        n_volumes=header.n_volumes,
        space=SPACE,
        resolution=f'{size[0]:g}' if whole else None,
        sources=tuple(sources),
    )
    return run, note


def _repetition_time(series: Series, root: Path, header: float | None) -> tuple[float, str]:
    """Return the repetition time (s) of the raw sidecar, else of the header, and a note."""
    entities = run_entities(series.path)
    stem = '_'.join(f'{key}-{value}' for key, value in entities.items())
    folder = root / f'sub-{entities["sub"]}' / f'ses-{entities["ses"]}' / 'func'
    sidecar = folder / f'{stem}_bold.json'
    check_fetched(sidecar)
    value = read_json(sidecar).get('RepetitionTime') if sidecar.is_file() else None
    if isinstance(value, int | float) and value > 0:
        if header is None or abs(header - value) < 1e-3:
            return float(value), ''
        told = {'bold': series.path.name, 'header': header, 'sidecar': value}
        return float(value), OTHER_TR.format(label=entities['sub'], **told)
    if header is None:
        raise InputError(NO_TR.format(bold=series.path, sidecar=sidecar))
    return header, ''
