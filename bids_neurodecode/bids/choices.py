"""Which tasks, one space, one series per run: decided by the data, else an error that lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from bids_neurodecode.bids.entities import (
    PARCEL_ENTITIES,
    counted,
    natural_key,
    parse_entities,
    same_index,
)
from bids_neurodecode.bids.pairing import Series
from bids_neurodecode.bids.records import RunInput
from bids_neurodecode.errors import InputError
from bids_neurodecode.spaces import NO_HEMISPHERE, files_of, form_of
from bids_neurodecode.text import did_you_mean

UNKNOWN = 'There is no {what} {label!r} in the preprocessed data.{near} Found: {known}.'
SEVERAL_TASKS = (
    'Several tasks show stimuli: {known}. Choose one with --task-id, or name those that belong '
    'together (--task-id A B): they go into one model.'
)
SEVERAL_CONDITIONS = (
    'No task shows stimuli, and several name conditions (trial_type): {known}. Choose one with '
    '--task-id, or name those that belong together (--task-id A B): they go into one model.'
)
NO_TASK_SHOWS = (
    'None of the tasks {known} shows stimuli: their events name no image or film. Choose one '
    'with --task-id to see what its events lack, or add "stim_file" to them.'
)
TOGETHER = (
    'The tasks {known} show films and were taken together as one analysis, with the task label '
    '{label!r}; runs are told apart by acq-<task>.'
)
ASKED_TOGETHER = (
    'The tasks {known} were taken together, as asked for, with the task label {label!r}; runs are '
    'told apart by acq-<task>.'
)
EACH_OWN = 'Each participant has a task of their own, which was taken: {known}.'
JOINT: Mapping[str, str] = {'movie': 'film', 'images': 'image', 'conditions': 'condition'}
"""The task label of an analysis of several tasks, by what they show."""
SEVERAL_SPACES = 'The data are there in several spaces: {known}. Choose one with --space.'
MULTI_ECHO = (
    '{file} is one echo of several, and no combined series is there. '
    'Run fMRIPrep so that it combines the echoes (its default), or filter for one echo.'
)
TWICE = (
    'The run {run} is there twice: {first} and {second}. '
    'Name one of the derivatives with --derivatives, rename or remove one of the files, or add a '
    'filter file.'
)
NATIVE = 'func'
"""What fMRIPrep calls the space of series whose names have no ``space``."""


def space_label(series: Series, *, with_cohort: bool = True) -> str:
    """Return the space as ``--space`` takes it, such as ``MNI152NLin6Asym:res-2``.

    Parameters
    ----------
    series
        Of any kind.
    with_cohort
        Whether the template's cohort is part of it.
    """
    own = parse_entities(series.path)
    further = ('cohort', 'res', 'den') if with_cohort else ('res', 'den')
    parts = [f'{key}-{own[key]}' for key in (*further, *PARCEL_ENTITIES) if own.get(key)]
    return ':'.join([own.get('space') or NATIVE, *parts])


def keep_labels(
    found: Sequence[Series], key: str, what: str, labels: Sequence[str]
) -> list[Series]:
    """Keep the series with one of the labels of an entity; all where none is given.

    Parameters
    ----------
    found
        Series of any label.
    key
        The entity, such as ``ses``.
    what
        What it is called in a message.
    labels
        Those that are asked for.

    Raises
    ------
    InputError
        If a label is not there at all, listing those that are.
    """
    if not labels:
        return list(found)
    known = sorted({s.entities[key] for s in found if key in s.entities}, key=natural_key)
    for label in labels:
        if not any(same_index(label, other) for other in known):
            listed = ', '.join(known) or f'none (the names have no {key}-)'
            near = did_you_mean(label, known)
            raise InputError(UNKNOWN.format(what=what, label=label, near=near, known=listed))
    return [s for s in found if any(same_index(x, s.entities.get(key, '')) for x in labels)]


def choose_task(
    found: Sequence[Series],
    labels: Sequence[str],
    shows: Callable[[str], bool],
    shows_films: Callable[[str], bool],
    has_conditions: Callable[[str], bool] = lambda task: False,
) -> tuple[list[Series], list[str]]:
    """Keep the tasks that were asked for, or those that show stimuli and belong together.

    Without a request it is the only task that shows stimuli, that of each participant where each
    has one, or all tasks that show films.

    Parameters
    ----------
    found
        Series of any task.
    labels
        Tasks asked for; also the label of the analysis of several (:data:`JOINT`).
    shows, shows_films
        Whether a task has events that name stimuli, and whether these are films.
    has_conditions
        Whether a task has events that name conditions: taken where no task shows stimuli.

    Returns
    -------
    series : list of Series
    notes : list of str
        What was taken, where there was more than one.

    Raises
    ------
    InputError
        If a task is not there, or the data leave it open.
    """
    there = {s.entities.get('task', '') for s in found}
    found = keep_labels(found, 'task', 'task', _without_joint(labels, there))
    tasks = sorted({s.entities.get('task', '') for s in found}, key=natural_key)
    if len(tasks) == 1:
        return list(found), []
    if len(labels) > 1:
        return list(found), []
    showing = [task for task in tasks if shows(task)]
    what, several = 'stim_file', SEVERAL_TASKS
    if not showing:
        showing = [task for task in tasks if has_conditions(task)]
        what, several = 'trial_type that is a condition', SEVERAL_CONDITIONS
    if not showing:
        raise InputError(NO_TASK_SHOWS.format(known=', '.join(tasks)))
    kept = [s for s in found if s.entities.get('task') in showing]
    if len(showing) == 1:
        others = ', '.join(task for task in tasks if task != showing[0])
        note = f'Task {showing[0]!r} was taken: the other tasks ({others}) have no {what}.'
        return kept, [note]
    if max(map(len, tasks_of(kept).values())) == 1:
        return kept, [EACH_OWN.format(known=_some(showing))]
    if several is SEVERAL_TASKS and all(shows_films(task) for task in showing):
        return kept, []
    raise InputError(several.format(known=', '.join(showing)))


def tasks_of(found: Sequence[Series]) -> dict[str, set[str]]:
    """Return the tasks of each participant."""
    tasks: dict[str, set[str]] = {}
    for series in found:
        tasks.setdefault(series.entities['sub'], set()).add(series.entities.get('task', ''))
    return tasks


def together(found: Sequence[Series], labels: Sequence[str]) -> list[str]:
    """Return the tasks that go into one analysis under a label of its own; none if each is alone.

    They do where several were asked for, or some participant has several; then so do those of
    the others.

    Parameters
    ----------
    found
        Series of all participants and tasks.
    labels
        Tasks that were asked for; none: all.
    """
    tasks = tasks_of(found)
    several = len(labels) > 1 or any(len(own) > 1 for own in tasks.values())
    return sorted(set().union(*tasks.values()), key=natural_key) if several else []


def note_on_tasks(tasks: Sequence[str], labels: Sequence[str], label: str) -> str:
    """Say that several tasks are one analysis.

    Parameters
    ----------
    tasks
        Those that are read.
    labels
        Those that were asked for.
    label
        Of the one analysis.
    """
    message = ASKED_TOGETHER if len(labels) > 1 else TOGETHER
    return message.format(known=_some(tasks), label=label)


def _some(names: Sequence[str], most: int = 6) -> str:
    """List names, not more than a few of them."""
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + rest


def _without_joint(labels: Sequence[str], there: Collection[str]) -> list[str]:
    return [x for x in labels if x in there or x not in JOINT.values()]


def both_hemispheres(found: Sequence[Series]) -> list[Series]:
    """Keep one series, the left hemisphere's, of each pair on a surface; one alone is kept."""
    paths = {series.path for series in found if 'hemi-' in series.path.name}
    return [
        s
        for s in found
        if 'hemi-R' not in s.path.name
        or (left := files_of(s.path)[0]) == s.path
        or left not in paths
    ]


def check_hemispheres(found: Sequence[Series]) -> None:
    """Check that surfaces have both hemispheres.

    Raises
    ------
    InputError
        If the other hemisphere is missing.
    """
    for series in found:
        for other in files_of(series.path):
            if not (other.exists() or other.is_symlink()):
                raise InputError(NO_HEMISPHERE.format(file=series.path, other=other.name))


def volumes_first(found: Sequence[Series], asked: str | None) -> list[Series]:
    """Keep volumes where there are any and no space was asked for.

    fMRIPrep writes surfaces and CIFTI beside volumes: they are read where nothing else is there,
    or by name.

    Parameters
    ----------
    found
        Series of any form.
    asked
        The space that was asked for; None: none.
    """
    volumes = [series for series in found if form_of(series.path) is None]
    return volumes if volumes and asked is None else list(found)


def choose_space(found: Sequence[Series], asked: str | None) -> list[Series]:
    """Keep one space: the one asked for, or the only one.

    Each participant may be of a cohort of their own in a template that has several.

    Parameters
    ----------
    found
        Series of one analysis.
    asked
        ``LABEL``, ``LABEL:res-X``, ``LABEL:cohort-X:res-X``, ``LABEL:den-X``, ``LABEL:seg-X``
        (series of parcels), or ``func`` for series without a space in their name.

    Raises
    ------
    InputError
        If it is not there or there are several, listing them.
    """
    kept = list(found)
    if asked is not None:
        wanted = set(asked.removeprefix('space-').split(':'))
        kept = [s for s in found if wanted <= set(space_label(s).split(':'))]
        kept = [s for s in kept if not s.parcellation] or kept  # parcels are asked for by name
        if not kept:
            spaces = sorted({space_label(s) for s in found})
            label = asked.removeprefix('space-')
            near, listed = did_you_mean(label, spaces), ', '.join(spaces)
            raise InputError(UNKNOWN.format(what='space', label=label, near=near, known=listed))
    labels = {(s.entities.get('sub'), space_label(s)) for s in kept}
    alike = {space_label(s, with_cohort=False) for s in kept}
    if len(alike) > 1 or len(labels) > len({label for label, _ in labels}):
        known = ', '.join(sorted({label for _, label in labels}))
        raise InputError(SEVERAL_SPACES.format(known=known))
    return kept


def choose_echo(found: Sequence[Series]) -> tuple[list[Series], str | None]:
    """Keep the combined series of multi-echo runs.

    Raises
    ------
    InputError
        If a run has several single echoes and no combined series.
    """
    combined = [s for s in found if 'echo' not in s.entities]
    single = [s for s in found if 'echo' in s.entities]
    if not single:
        return list(found), None
    n_echoes = Counter(map(_without_echo, single))
    known = {frozenset(counted(s.entities).items()) for s in combined}
    for series in single:
        run = _without_echo(series)
        if run not in known and n_echoes[run] > 1:
            raise InputError(MULTI_ECHO.format(file=series.path))
    if not combined:
        return list(found), None
    note = f'{len(single)} single-echo series were left out: their combined series were taken.'
    return combined, note


def check_once(found: Sequence[Series]) -> None:
    """Check that each run has one series.

    Raises
    ------
    InputError
        Naming both files of a run that is there twice.
    """
    seen: dict[tuple[tuple[str, str], ...], Series] = {}
    for series in found:
        key = tuple(sorted(counted(series.entities).items()))
        if key in seen:
            run = ' '.join(f'{k}-{v}' for k, v in series.entities.items())
            raise InputError(TWICE.format(run=run, first=seen[key].path, second=series.path))
        seen[key] = series


def check_told_apart(runs: Sequence[RunInput]) -> None:
    """Check that runs of several tasks have names of their own in one analysis.

    Raises
    ------
    InputError
        Naming two that have not.
    """
    seen: dict[str, RunInput] = {}
    for run in runs:
        if run.stem in seen:
            raise InputError(
                TWICE.format(run=run.label, first=seen[run.stem].bold, second=run.bold)
            )
        seen[run.stem] = run


def _without_echo(series: Series) -> frozenset[tuple[str, str]]:
    return frozenset((k, v) for k, v in counted(series.entities).items() if k != 'echo')
