"""The door in: from folders to one record a run, a participant, a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_neurodecode.bids.betas import find_betas
from bids_neurodecode.bids.choices import (
    check_once,
    choose_echo,
    choose_space,
    choose_task,
    keep_labels,
    space_label,
)
from bids_neurodecode.bids.conditions import ConditionReader, reader_of, shows_conditions
from bids_neurodecode.bids.description import check_raw, find_derivatives
from bids_neurodecode.bids.entities import natural_key, nearest, run_entities
from bids_neurodecode.bids.filters import query_of
from bids_neurodecode.bids.index import index_dataset
from bids_neurodecode.bids.layouts import layout_of
from bids_neurodecode.bids.pairing import Candidates, Series, pair_run
from bids_neurodecode.bids.publishedevents import EventsReader
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput, RunInput
from bids_neurodecode.bids.series import Grid, check_grid, open_image
from bids_neurodecode.bids.stimuli import check_image, paradigm_of, resolve_stimulus
from bids_neurodecode.bids.stimulusfolder import StimulusFolder
from bids_neurodecode.bids.timing import read_table, stimulus_names
from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.settings_conditions import ConditionSettings
from bids_neurodecode.settings_events import EventSettings

UNKNOWN_PARTICIPANT = 'There is no participant {label!r} in {folder}. Found: {known}.'
NO_BOLD = (
    'No preprocessed BOLD (desc-preproc_bold) {where} in {folders}. '
    'Run fMRIPrep, name its output with --derivatives, or ask for less.'
)
NO_BOLD_OF = (
    'No preprocessed BOLD (desc-preproc_bold) of sub-{label} that was asked for in {folders}. '
    'Preprocess it, or leave the participant out with --participant-label.'
)
NOBODY = '{first} (And so for all {n} participants: {labels}.)'
TR_BETWEEN = (
    'The repetition times of two runs disagree: {a:g} s in {first}, {b:g} s in {second}. '
    'Choose runs or sessions with one repetition time.'
)


@dataclass(frozen=True)
class Request:
    """What is asked for; labels without prefixes, empty for all.

    ``derivatives`` empty looks below ``<bids_dir>/derivatives``. ``filters`` are those of
    :func:`bids_neurodecode.bids.filters.read_filters`. ``betas_from`` names the derivatives that
    hold precomputed single-trial betas. ``stimuli_dir`` is the folder of films or pictures where
    it is not the dataset's ``stimuli/``. ``events`` say how its events name what was shown,
    ``split`` which rows are held out, ``conditions`` which trial types are conditions where they
    name no stimuli (or ``system`` asks for them). In ``made_dir`` files are made that the dataset
    lacks.
    """

    bids_dir: Path
    derivatives: Mapping[str, Path] = field(default_factory=dict)
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    space: str | None = None
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    database_dir: Path | None = None
    betas_from: str | None = None
    stimuli_dir: Path | None = None
    made_dir: Path | None = None
    events: EventSettings = field(default_factory=EventSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    conditions: ConditionSettings = field(default_factory=ConditionSettings)
    system: str = 'auto'

    def reader(self) -> EventsReader:
        """Return what reads the events of one participant."""
        return EventsReader(
            settings=self.events,
            folder=StimulusFolder(self.stimuli_dir or self.bids_dir / 'stimuli'),
            dataset=self.bids_dir,
            parts={part: getattr(self.split, part) for part in ('train', 'validation', 'test')},
            made_dir=self.made_dir,
        )


@dataclass(frozen=True)
class _Index:
    """The indices of the raw and derived datasets, and what was said while they were made."""

    raw: Any
    derived: Mapping[str, Any]
    notes: tuple[str, ...]


def find_inputs(request: Request) -> DatasetInput:
    """Find everything that one call reads, and check headers, tables and stimuli.

    Parameters
    ----------
    request
        What is asked for.

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
    layout = layout_of(request.bids_dir)
    if layout == 'nsd':
        from bids_neurodecode.bids.nsd import find_nsd

        return find_nsd(request)
    if layout == 'emofilm' and not request.derivatives:
        from bids_neurodecode.bids.emofilm import find_emofilm

        return find_emofilm(request)
    wanted = _participants(request)
    derivatives, notes = find_derivatives(
        request.bids_dir, request.derivatives, request.betas_from
    )
    index = _index(request, derivatives, wanted)
    notes += index.notes
    series, more = _select(request, derivatives, index)
    notes += more
    files = _candidates(request, derivatives, index)
    found: list[ParticipantInput] = []
    failures: dict[str, str] = {}
    for label in wanted:
        own = sorted((s for s in series if s.entities.get('sub') == label), key=lambda s: s.order)
        try:
            found.append(_participant(label, own, request, files, index))
        except InputError as error:
            failures[label] = str(error)
    if not found:
        raise InputError(all_failed(failures))
    notes += _describe(found)
    return DatasetInput(
        bids_dir=request.bids_dir,
        derivatives=derivatives,
        participants=tuple(found),
        failures=failures,
        notes=tuple(notes),
    )


def all_failed(failures: Mapping[str, str]) -> str:
    """Return the one line for a dataset in which nobody can be processed."""
    first = next(iter(failures.values()))
    if len(failures) == 1:
        return first
    labels = ', '.join(f'sub-{label}' for label in failures)
    return NOBODY.format(first=first, n=len(failures), labels=labels)


def _participants(request: Request) -> tuple[str, ...]:
    known = check_raw(request.bids_dir)
    for label in request.participants:
        if label not in known:
            raise InputError(
                UNKNOWN_PARTICIPANT.format(
                    label=label, folder=request.bids_dir, known=', '.join(known)
                )
            )
    return tuple(dict.fromkeys(request.participants)) or known


def _index(request: Request, derivatives: Mapping[str, Path], wanted: Sequence[str]) -> _Index:
    raw, note = index_dataset(
        request.bids_dir, wanted, derivative=False, database_dir=request.database_dir
    )
    derived, notes = {}, [note]
    for name, folder in derivatives.items():
        derived[name], note = index_dataset(
            folder, wanted, derivative=True, database_dir=request.database_dir
        )
        notes.append(note)
    return _Index(raw, derived, tuple(n for n in notes if n is not None))


def _files(layout: Any, query: Mapping[str, Any]) -> list[Path]:
    found = layout.get(return_type='filename', invalid_filters='allow', **query)
    return sorted(Path(file) for file in found)


def _select(
    request: Request, derivatives: Mapping[str, Path], index: _Index
) -> tuple[list[Series], list[str]]:
    """Return the series of one task in one space, and notes on what was chosen."""
    query = query_of('bold', request.filters)
    found = [
        Series(path, name)
        for name, layout in index.derived.items()
        if name != request.betas_from or len(derivatives) == 1
        for path in _files(layout, query)
        if 'task' in run_entities(path)
    ]
    notes = []
    for key, selected in request.filters.items():
        text = ', '.join(f'{k}={v}' for k, v in selected.items())
        n = len(found) if key == 'bold' else _count(key, request, index)
        notes.append(f'The filter of {key} ({text}) selected {n} files.')
    folders = ', '.join(str(folder) for folder in derivatives.values())
    if not found:
        where = ' that the filter selects' if 'bold' in request.filters else ''
        raise InputError(NO_BOLD.format(where=where.strip() or 'was found', folders=folders))
    found = keep_labels(found, 'ses', 'session', request.sessions)
    reader = request.reader()
    found, note = choose_task(
        found,
        request.tasks,
        lambda task: request.system != 'conditions' and _shows(task, index, reader),
        lambda task: _has_conditions(task, index, request),
    )
    notes.append(note or '')
    found = keep_labels(found, 'run', 'run', request.runs)
    found = choose_space(found, request.space)
    found, note = choose_echo(found)
    notes.append(note or '')
    return found, [note for note in notes if note]


def _count(key: str, request: Request, index: _Index) -> int:
    layouts = [index.raw] if key == 'events' else list(index.derived.values())
    return sum(len(_files(layout, query_of(key, request.filters))) for layout in layouts)


def _shows(task: str, index: _Index, reader: EventsReader) -> bool:
    """Whether any events of a task say what was shown."""
    files = _files(index.raw, {**query_of('events', {}), 'task': task})
    if any(reader.shows(file, run_entities(file)) for file in files):
        return True
    for file in files:
        check_fetched(file)  # what was not fetched may well name stimuli
    return False


def _has_conditions(task: str, index: _Index, request: Request) -> bool:
    """Whether any events of a task name conditions that may be analysed."""
    if request.system not in {'auto', 'conditions'}:
        return False
    files = _files(index.raw, {**query_of('events', {}), 'task': task})
    return any(shows_conditions(file, request.conditions) for file in files)


def _participant(
    label: str,
    series: Sequence[Series],
    request: Request,
    files: Candidates,
    index: _Index,
) -> ParticipantInput:
    """Pair and check all runs of one participant."""
    if not series:
        folders = ', '.join(str(folder) for folder in files.derivatives.values())
        raise InputError(NO_BOLD_OF.format(label=label, folders=folders))
    check_once(series)
    files = files.of(label)
    need = request.betas_from is None
    nearby = {s: nearest(s.path, request.bids_dir, files.events) for s in series}
    events = {file: s.entities for s, file in nearby.items() if file is not None}
    reader = reader_of(request.reader(), events, request.conditions, request.system)
    reader.choose(events)
    runs = tuple(pair_run(s, files, reader, need_confounds=need) for s in series)
    runs = (replace(runs[0], notes=(*runs[0].notes, *reader.notes())), *runs[1:])
    _check_alike(runs)
    task = series[0].entities['task']
    folder = reader.folder.path
    stimuli: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    if isinstance(reader, ConditionReader):
        runs, conditions = reader.finish(runs)
    else:
        stimuli = _stimuli(runs, folder)
    betas, betas_events = None, None
    if request.betas_from is not None:
        layout = index.derived[request.betas_from]
        betas, betas_events = find_betas(
            _files(layout, {'suffix': 'statmap', 'desc': 'singletrial'}),
            _files(layout, {'suffix': 'events', 'desc': 'singletrial', 'extension': '.tsv'}),
            runs,
            files.derivatives[request.betas_from],
        )
    return ParticipantInput(
        label=label,
        task=task,
        paradigm='conditions' if conditions else paradigm_of(stimuli, task),
        runs=runs,
        stimuli_dir=folder,
        stimuli=stimuli,
        conditions=conditions,
        betas=betas,
        betas_events=betas_events,
    )


def _candidates(request: Request, derivatives: Mapping[str, Path], index: _Index) -> Candidates:
    """Ask the indices once for everything that may belong to a series."""
    sidecars = {'suffix': 'bold', 'extension': '.json'}

    def each(query: Mapping[str, Any]) -> dict[str, list[Path]]:
        return {name: _files(layout, query) for name, layout in index.derived.items()}

    return Candidates(
        bids_dir=request.bids_dir,
        derivatives=derivatives,
        masks=each(query_of('mask', request.filters)),
        confounds=each(query_of('confounds', request.filters)),
        sidecars=each(sidecars),
        events=_files(index.raw, query_of('events', request.filters)),
        raw_sidecars=_files(index.raw, sidecars),
    )


def _check_alike(runs: Sequence[RunInput]) -> None:
    """Check that runs share their grid and repetition time."""
    first = runs[0]
    image = open_image(first.bold)
    expected = Grid(tuple(image.shape[:3]), image.affine)
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
        image = open_image(run.bold)
        check_grid(Grid(tuple(image.shape[:3]), image.affine), run.bold, expected, first.bold)


def _stimuli(runs: Sequence[RunInput], folder: Path) -> tuple[str, ...]:
    """Resolve and open every stimulus of the runs once; names sorted."""
    seen: dict[str, Path] = {}
    for run in runs:
        for name in stimulus_names(read_table(run.events), run.events):
            seen.setdefault(name, run.events)
    paradigm_of([name for name in seen if Path(name).suffix], runs[0].entities['task'])
    for name, events in seen.items():
        file = resolve_stimulus(name, folder, events)
        if paradigm_of([name], '') == 'images':
            check_image(file, events)
    return tuple(sorted(seen))


def _describe(found: Sequence[ParticipantInput]) -> list[str]:
    """Say what was found, a line a participant."""
    lines = []
    for person in sorted(found, key=lambda p: natural_key(p.label)):
        run = person.runs[0]
        space = space_label(Series(run.bold, ''))
        n_volumes = sum(r.n_volumes for r in person.runs)
        kind = {'movie': 'films', 'images': 'images'}.get(person.paradigm, 'conditions')
        told = 'trial_type' if person.conditions else 'the types of their files'
        lines.append(
            f'sub-{person.label}: task {person.task!r}, {len(person.runs)} runs, {n_volumes} '
            f'volumes, TR {run.repetition_time:g} s, space {space}, '
            f'{len(person.conditions or person.stimuli)} {kind} '
            f'(paradigm {person.paradigm!r}, by {told}).'
        )
        lines += list(dict.fromkeys(note for r in person.runs for note in r.notes))
    return lines
