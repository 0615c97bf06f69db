"""The door in: from folders to one record per run, participant and dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bids_neurodecode.bids.betas import find_betas
from bids_neurodecode.bids.captions import CAPTIONS
from bids_neurodecode.bids.choices import (
    JOINT,
    both_hemispheres,
    check_hemispheres,
    check_once,
    check_told_apart,
    choose_echo,
    choose_space,
    choose_task,
    keep_labels,
    note_on_tasks,
    space_label,
    together,
    volumes_first,
)
from bids_neurodecode.bids.conditions import ConditionReader, reader_of, shows_conditions
from bids_neurodecode.bids.description import NOT_THESE, check_raw, find_derivatives
from bids_neurodecode.bids.entities import natural_key, run_entities
from bids_neurodecode.bids.features import film_features, picture_features
from bids_neurodecode.bids.filters import query_of
from bids_neurodecode.bids.index import FileIndex
from bids_neurodecode.bids.pairing import Candidates, Series, pair_run
from bids_neurodecode.bids.pipelines import holds_series, instead_of_series, wanted_series
from bids_neurodecode.bids.publishedevents import EventsReader
from bids_neurodecode.bids.recipes import Recipe, preferred, recognise
from bids_neurodecode.bids.records import NOUNS, DatasetInput, Paradigm, ParticipantInput, RunInput
from bids_neurodecode.bids.request import Request, choose_participants, read_each
from bids_neurodecode.bids.series import check_grid, read_header
from bids_neurodecode.bids.stimuli import FILMS, check_image, paradigm_of, resolve_stimulus
from bids_neurodecode.bids.timing import stimuli_of
from bids_neurodecode.bids.trials import are_clips
from bids_neurodecode.errors import InputError, NeurodecodeError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.stimuli.tables import is_table

NO_BOLD = (
    'No preprocessed BOLD ({desc}) {where} in {folders}. '
    'Run fMRIPrep, name its output with --derivatives, or ask for less.'
)
NO_BOLD_OF = (
    'No preprocessed BOLD ({desc}) of sub-{label} that was asked for in {folders}. '
    'Preprocess it, or leave the participant out with --participant-label.'
)
NO_STIMULI = 'There is no folder {folder} (--stimuli-dir). Give the folder of the stimuli.'
TR_BETWEEN = (
    'The repetition times of two runs disagree: {a:g} s in {first}, {b:g} s in {second}. '
    'Choose runs or sessions with one repetition time.'
)

CLIPS = (
    'sub-{label}: the {n} films are short and shown one a trial, so each is taken as an image is: '
    'responses are single-trial betas, and the middle frame stands for the film in whatever looks '
    'at images. Choose --system movie to analyse them as films, volume by volume.'
)

STIMULI = 'stimuli'
"""Any system that reads stimuli: conditions are not looked for."""


@dataclass(frozen=True)
class _Index:
    """The indices of the raw and derived datasets, and what was said while they were made."""

    raw: FileIndex
    derived: Mapping[str, FileIndex]
    notes: tuple[str, ...]

    def check(self, label: str) -> None:
        """Check that the folders of a participant could be read."""
        for index in (self.raw, *self.derived.values()):
            if label in index.unreadable:
                raise InputError(index.unreadable[label])


def find_inputs(
    request: Request, check: Callable[[ParticipantInput], Iterable[str] | None] | None = None
) -> DatasetInput:
    """Find everything that one call reads, and check headers, tables and stimuli.

    Parameters
    ----------
    request
        What is asked for.
    check
        What else is asked of each participant who was found, while their tables and masks are in
        memory; what it says, or raises, is in ``checked``, but for None (not checked). Datasets
        in layouts of their own leave it to the caller.

    Returns
    -------
    DatasetInput
        Participants that can be processed; of the others, one line each in ``failures``.

    Raises
    ------
    InputError
        If the dataset, a label or the derivatives are not there, a choice is open, or no
        participant can be processed.
    ArgumentsError
        If ``betas_from`` is the name of no derivatives.
    """
    recipe = recognise(request.bids_dir, request.recipe)
    find = own_reader(request)
    if find is not None and not (request.derivatives and recipe and recipe.content.bids):
        return find(request)
    if request.stimuli_dir is not None and not request.stimuli_dir.is_dir():
        raise InputError(NO_STIMULI.format(folder=request.stimuli_dir))
    if request.system == 'auto' and _says_what_was_shown(request, recipe):
        # a name that no events have is an error then, and no reason to read conditions instead
        request = replace(request, system=STIMULI)
    wanted = choose_participants(
        request.participants, check_raw(request.bids_dir), request.bids_dir
    )
    derivatives, notes = find_derivatives(
        request.bids_dir,
        request.derivatives,
        request.betas_from,
        query_of('bold', request.filters),
    )
    index = _index(request, derivatives, wanted)
    notes += index.notes
    series, more = _select(request, derivatives, index, recipe)
    notes += more
    files = _candidates(request, derivatives, index, series)
    joint = together(series, request.tasks)
    of_each: dict[str, list[Series]] = {}
    for one in sorted(series, key=lambda s: s.order):
        of_each.setdefault(one.entities.get('sub', ''), []).append(one)

    def read(label: str) -> tuple[ParticipantInput, tuple[str, ...] | NeurodecodeError | None]:
        own = of_each.get(label, [])
        person = _participant(label, own, request, files, index, joint=bool(joint))
        return person, None if check is None else _said(check, person)

    read_ones, failures = read_each(wanted, read, request.processes)
    found = [person for person, _ in read_ones]
    if joint:
        notes.append(note_on_tasks(joint, request.tasks, found[0].task))
    notes += _describe(found)
    return DatasetInput(
        bids_dir=request.bids_dir,
        derivatives=derivatives,
        participants=tuple(found),
        failures=failures,
        notes=tuple(notes),
        checked={person.label: said for person, said in read_ones if said is not None},
    )


def _said(
    check: Callable[[ParticipantInput], Iterable[str] | None], person: ParticipantInput
) -> tuple[str, ...] | NeurodecodeError | None:
    """Return what a check says of a participant, or the error that it raises."""
    try:
        return None if (said := check(person)) is None else tuple(said)
    except NeurodecodeError as error:
        return error


def own_reader(request: Request) -> Callable[[Request], DatasetInput] | None:
    """Return the reader of a dataset's own layout that its recipe names; None for BIDS."""
    recipe = recognise(request.bids_dir, request.recipe)
    if recipe is None or recipe.content.reader is None:
        return None
    from bids_neurodecode.bids.algonauts import find_algonauts
    from bids_neurodecode.bids.algonauts2025 import find_algonauts2025
    from bids_neurodecode.bids.emofilm import find_emofilm
    from bids_neurodecode.bids.nsd import find_nsd

    readers = {
        'nsd': find_nsd,
        'emofilm': find_emofilm,
        'algonauts': find_algonauts,
        'algonauts2025': find_algonauts2025,
    }
    return readers[recipe.content.reader]


def _says_what_was_shown(request: Request, recipe: Recipe | None) -> bool:
    """Whether the user, and not the dataset's recipe alone, says what names stimuli."""
    known = {} if recipe is None else recipe.settings(request.tasks).get('events', {})
    said = {name: getattr(request.events, name) for name in ('stimulus', 'stimulus_column')}
    return any(value not in {None, known.get(name)} for name, value in said.items())


def _index(request: Request, derivatives: Mapping[str, Path], wanted: Sequence[str]) -> _Index:
    raw, note = request.index(request.bids_dir, wanted)
    derived, notes = {}, [note]
    for name, folder in derivatives.items():
        derived[name], note = request.index(folder, wanted)
        notes.append(note)
    return _Index(raw, derived, tuple(n for n in notes if n is not None))


def _select(
    request: Request, derivatives: Mapping[str, Path], index: _Index, recipe: Recipe | None
) -> tuple[list[Series], list[str]]:
    """Return the series of the tasks in one space, and notes on what was chosen."""
    query = query_of('bold', request.filters)
    found = [
        Series(path, name)
        for name, layout in index.derived.items()
        if name != request.betas_from or len(derivatives) == 1
        for path in (*layout.find(query), *layout.find(query_of('parcels', request.filters)))
        if 'task' in run_entities(path)
    ]
    notes = []
    for key, selected in request.filters.items():
        text = ', '.join(f'{k}={v}' for k, v in selected.items())
        n = len(found) if key == 'bold' else _count(key, request, index)
        notes.append(f'The filter of {key} ({text}) selected {n} files.')
    folders = ', '.join(str(folder) for folder in derivatives.values())
    if not found:
        for label in request.participants:
            index.check(label)
        for folder in derivatives.values():
            if not holds_series(folder, query) and (said := instead_of_series(folder)):
                desc = wanted_series(query)
                raise InputError(NOT_THESE.format(desc=desc, folder=folder, found=said))
        where = 'that the filter selects' if 'bold' in request.filters else 'was found'
        raise InputError(NO_BOLD.format(desc=wanted_series(query), where=where, folders=folders))
    found = volumes_first(both_hemispheres(found), request.space)
    found, more = preferred(found, recipe, request.tasks, request.space)
    notes += more
    found = keep_labels(found, 'ses', 'session', request.sessions)
    reader = request.reader()
    tasks = {s.entities.get('task', '') for s in found}
    # a task that says it outright is preferred to one whose columns happen to name files
    named = len(tasks) > 1 and any(_shows(task, index, reader, named=True) for task in tasks)
    found, more = choose_task(
        found,
        request.tasks,
        lambda task: request.system != 'conditions' and _shows(task, index, reader, named=named),
        lambda task: _shows_films(task, index, reader),
        lambda task: _has_conditions(task, index, request),
    )
    notes += more
    found = keep_labels(found, 'run', 'run', request.runs)
    # single echoes are left in the scanner's space, their combination is not
    found, note = choose_echo(found)
    notes.append(note or '')
    found = choose_space(found, request.space)
    check_hemispheres(found)
    return found, [note for note in notes if note]


def _count(key: str, request: Request, index: _Index) -> int:
    layouts = [index.raw] if key == 'events' else list(index.derived.values())
    return sum(len(layout.find(query_of(key, request.filters))) for layout in layouts)


def _shows(task: str, index: _Index, reader: EventsReader, *, named: bool) -> bool:
    """Whether any events of a task say what was shown; ``named``: outright."""
    files = index.raw.find({**query_of('events', {}), 'task': task})
    if any(reader.shows(file, run_entities(file), named=named) for file in files):
        return True
    if not files and reader.shows_alone(task):
        return True
    for file in files:
        check_fetched(file)  # what was not fetched may well name stimuli
    return False


def _has_conditions(task: str, index: _Index, request: Request) -> bool:
    """Whether any events of a task name conditions that may be analysed."""
    if request.system not in {'auto', 'conditions'}:
        return False
    files = index.raw.find({**query_of('events', {}), 'task': task})
    return any(shows_conditions(file, request.conditions) for file in files)


def _shows_films(task: str, index: _Index, reader: EventsReader) -> bool:
    """Whether what the events of a task name are films.

    Raises
    ------
    InputError
        If no events say what was shown in files that are there.
    """
    reason: InputError | None = None
    for file in index.raw.find({**query_of('events', {}), 'task': task}):
        entities = run_entities(file)
        if not reader.shows(file, entities):
            continue
        try:
            names = reader.names(file, entities)
        except InputError as error:
            reason = reason or error
        else:
            return all(Path(name).suffix.lower() in FILMS for name in names)
    if reason is not None:
        raise reason
    return reader.shows_alone(task)


def _participant(
    label: str,
    series: Sequence[Series],
    request: Request,
    files: Candidates,
    index: _Index,
    *,
    joint: bool,
) -> ParticipantInput:
    """Pair and check all runs of one participant; with ``joint``, those of several tasks."""
    index.check(label)
    if not series:
        folders = ', '.join(str(folder) for folder in files.derivatives.values())
        desc = wanted_series(query_of('bold', request.filters))
        raise InputError(NO_BOLD_OF.format(desc=desc, label=label, folders=folders))
    check_once(series)
    files = files.of(label)
    need = request.betas_from is None
    nearby = {s: files.events_of(s) for s in series}
    events = {file: s.entities for s, file in nearby.items() if file is not None}
    reader = reader_of(request.reader(), events, request.conditions, request.system)
    reader.choose(events)
    runs = tuple(pair_run(s, files, reader, need_confounds=need) for s in series)
    notes = (*runs[0].notes, *(f'sub-{label}: {note}' for note in reader.notes()))
    runs = (replace(runs[0], notes=notes), *runs[1:])
    _check_alike(runs)
    task = series[0].entities['task']
    folder = reader.folder.path
    if isinstance(reader, ConditionReader):
        runs, conditions = reader.finish(runs)
        shown = _Shown('conditions', conditions=conditions)
    else:
        shown = _shown(label, task, runs, folder, request)
    if shown.clips:
        noted = (*runs[0].notes, CLIPS.format(n=len(shown.stimuli), label=label))
        runs = (replace(runs[0], notes=noted), *runs[1:])
    if joint:
        task = JOINT[shown.paradigm]
        runs = tuple(run.under_task(task) for run in runs)
        check_told_apart(runs)
    betas, betas_events = None, None
    if request.betas_from is not None:
        layout, folder_of = index.derived[request.betas_from], files.derivatives
        betas, betas_events = _betas(layout, runs, folder_of[request.betas_from])
        betas_events = reader.of_betas(betas_events)
    return ParticipantInput(
        label=label,
        task=task,
        paradigm=shown.paradigm,
        runs=runs,
        stimuli_dir=folder,
        stimuli=shown.stimuli,
        features=shown.features,
        conditions=shown.conditions,
        captions=_captions(request, folder),
        betas=betas,
        betas_events=betas_events,
    )


class _Shown(NamedTuple):
    """What a participant was shown; ``clips``: films that are taken for images."""

    paradigm: Paradigm
    stimuli: tuple[str, ...] = ()
    features: Mapping[str, Path] = {}
    conditions: tuple[str, ...] = ()
    clips: bool = False


def _shown(
    label: str, task: str, runs: Sequence[RunInput], folder: Path, request: Request
) -> _Shown:
    features = film_features(runs, folder, request.features)
    stimuli = _stimuli(runs, folder, features, needs_films=request.needs_films)
    paradigm = 'movie' if features else paradigm_of(stimuli, task)
    # one table for all films is no table of a film
    of_each = features and '{film}' in (request.features or '{film}')
    clips = paradigm == 'movie' and not of_each and _as_images(runs, folder, request)
    if clips or paradigm == 'images':
        paradigm, features = 'images', picture_features(label, task, folder, request.features)
    return _Shown(paradigm, stimuli, features, clips=clips)


def _as_images(runs: Sequence[RunInput], folder: Path, request: Request) -> bool:
    """Whether films are short ones in trials, and no system of films was asked for."""
    asked = request.system in {'reconstruction', 'encoding'}
    if not request.needs_films or not (asked or request.system in {'auto', STIMULI}):
        return False
    return are_clips(runs, folder, asked=asked)


def _betas(layout: FileIndex, runs: Sequence[RunInput], folder: Path) -> tuple[Path, Path]:
    """Return the single-trial betas of derivatives, and what was shown in their trials."""
    return find_betas(
        layout.find({'suffix': 'statmap', 'desc': 'singletrial'}),
        layout.find({'suffix': 'events', 'desc': 'singletrial', 'extension': '.tsv'}),
        runs,
        folder,
    )


def _captions(request: Request, folder: Path) -> Path | None:
    """Return the dataset's captions where its stimuli lie elsewhere, without any."""
    own = request.bids_dir / 'stimuli' / CAPTIONS
    return own if own.is_file() and not (folder / CAPTIONS).exists() else None


def _candidates(
    request: Request, derivatives: Mapping[str, Path], index: _Index, series: Sequence[Series]
) -> Candidates:
    """Ask the indices once for everything that may belong to a series."""
    spaces = [None, *dict.fromkeys(one.space for one in series if one.space is not None)]
    sidecars = {'suffix': 'bold', 'extension': '.json', 'space': spaces}

    def each(query: Mapping[str, Any]) -> dict[str, list[Path]]:
        return {name: layout.find(query) for name, layout in index.derived.items()}

    return Candidates(
        bids_dir=request.bids_dir,
        derivatives=derivatives,
        masks=each(query_of('mask', request.filters)),
        confounds=each(query_of('confounds', request.filters)),
        sidecars=each(sidecars),
        events=index.raw.find(query_of('events', request.filters)),
        raw_sidecars=index.raw.find(sidecars),
        mask=request.mask,
        made_dir=request.made_dir,
    )


def _check_alike(runs: Sequence[RunInput]) -> None:
    """Check that runs share their grid and repetition time."""
    first = runs[0]
    expected = read_header(first.bold).grid
    for run in runs[1:]:
        if abs(run.repetition_time - first.repetition_time) > 1e-3:
            raise InputError(
                TR_BETWEEN.format(
                    a=first.repetition_time,
                    first=first.bold,
                    b=run.repetition_time,
                    second=run.bold,
                )
            )
        check_grid(read_header(run.bold).grid, run.bold, expected, first.bold)


def _stimuli(
    runs: Sequence[RunInput], folder: Path, features: Mapping[str, Path], *, needs_films: bool
) -> tuple[str, ...]:
    """Resolve and open every stimulus of the runs once; names sorted.

    A film with a table of features needs no file, nor any film where none is looked at.
    """
    seen: dict[str, Path] = {}
    for run in runs:
        for name in stimuli_of(run.events):
            seen.setdefault(name, run.events)
    paradigm_of([name for name in seen if Path(name).suffix], runs[0].entities['task'])
    for name, events in seen.items():
        known = name in features or (not needs_films and Path(name).suffix.lower() in FILMS)
        if known and not is_table(name) and not (folder / name).exists():
            continue
        file = resolve_stimulus(name, folder, events)
        if paradigm_of([name], '') == 'images':
            check_image(file, events)
    return tuple(sorted(seen))


def _describe(found: Sequence[ParticipantInput]) -> list[str]:
    """Say what was found, one line per participant."""
    lines = []
    for person in sorted(found, key=lambda p: natural_key(p.label)):
        run = person.runs[0]
        space = space_label(Series(run.bold, ''))
        n_volumes = sum(r.n_volumes for r in person.runs)
        kind = NOUNS[person.paradigm]
        if kind == 'images' and all(Path(x).suffix.lower() in FILMS for x in person.stimuli):
            kind = 'clips'
        told = 'trial_type' if person.conditions else 'the types of their files'
        lines.append(
            f'sub-{person.label}: task {person.task!r}, {len(person.runs)} runs, {n_volumes} '
            f'volumes, TR {run.repetition_time:g} s, space {space}, '
            f'{len(person.conditions or person.stimuli)} {kind} '
            f'(paradigm {person.paradigm!r}, by {told}).'
        )
        lines += list(dict.fromkeys(note for r in person.runs for note in r.notes))
    return lines
