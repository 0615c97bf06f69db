"""One task, one space, one series a run: decided by the data, else an error that lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bids_neurodecode.bids.entities import natural_key, same_index
from bids_neurodecode.bids.pairing import Series
from bids_neurodecode.errors import InputError

UNKNOWN = 'There is no {what} {label!r} in the preprocessed data. Found: {known}.'
SEVERAL_TASKS = 'Several tasks show stimuli: {known}. Choose one with --task-id.'
ONE_TASK = 'One task is analysed at a time; --task-id names {known}. Make one call for each.'
SEVERAL_SPACES = 'The data are there in several spaces: {known}. Choose one with --space.'
MULTI_ECHO = (
    '{file} is one echo of several, and no combined series is there. '
    'Run fMRIPrep so that it combines the echoes (its default), or filter for one echo.'
)
TWICE = (
    'The run {run} is there twice: {first} and {second}. '
    'Name one of the derivatives with --derivatives, or add a filter file.'
)
NATIVE = 'func'
"""What fMRIPrep calls the space of series whose names have no ``space``."""


def space_label(series: Series) -> str:
    """Return the space as ``--space`` takes it, such as ``MNI152NLin6Asym:res-2``."""
    label = series.space or NATIVE
    return f'{label}:res-{series.resolution}' if series.resolution else label


def keep_labels(
    found: Sequence[Series], key: str, what: str, labels: Sequence[str]
) -> list[Series]:
    """Keep the series with one of the labels of an entity; all where none is given.

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
            raise InputError(UNKNOWN.format(what=what, label=label, known=listed))
    return [s for s in found if any(same_index(x, s.entities.get(key, '')) for x in labels)]


def choose_task(
    found: Sequence[Series],
    labels: Sequence[str],
    shows: Callable[[str], bool],
    otherwise: Callable[[str], bool] = lambda task: False,
) -> tuple[list[Series], str | None]:
    """Keep one task: the one that was asked for, or the only one that shows stimuli.

    Parameters
    ----------
    found
        Series of any task.
    labels
        Tasks asked for, none or one.
    shows
        Whether a task has events that name stimuli.
    otherwise
        Whether a task may be taken where none does.

    Returns
    -------
    series : list of Series
    note : str or None
        Which was taken, where there was more than one.

    Raises
    ------
    InputError
        If the task is not there, or the data leave it open.
    """
    found = keep_labels(found, 'task', 'task', labels)
    tasks = sorted({s.entities.get('task', '') for s in found}, key=natural_key)
    if labels and len(tasks) > 1:
        raise InputError(ONE_TASK.format(known=', '.join(tasks)))
    if len(tasks) == 1:
        return found, None
    showing = [task for task in tasks if shows(task)]
    what = 'stim_file' if showing else 'trial_type that is a condition'
    showing = showing or [task for task in tasks if otherwise(task)]
    if len(showing) != 1:
        raise InputError(SEVERAL_TASKS.format(known=', '.join(showing or tasks)))
    others = ', '.join(task for task in tasks if task != showing[0])
    note = f'Task {showing[0]!r} was taken: the other tasks ({others}) have no {what}.'
    return [s for s in found if s.entities.get('task') == showing[0]], note


def choose_space(found: Sequence[Series], asked: str | None) -> list[Series]:
    """Keep one space: the one asked for, or the only one.

    Parameters
    ----------
    found
        Series of one task.
    asked
        ``LABEL``, ``LABEL:res-X``, or ``func`` for series without a space in their name.

    Raises
    ------
    InputError
        If it is not there or there are several, listing them.
    """
    labels = sorted({space_label(s) for s in found})
    if asked is not None:
        wanted = asked.removeprefix('space-')
        kept = [s for s in found if wanted in {space_label(s), s.space or NATIVE}]
        if not kept:
            raise InputError(UNKNOWN.format(what='space', label=wanted, known=', '.join(labels)))
        found, labels = kept, sorted({space_label(s) for s in kept})
    if len(labels) > 1:
        raise InputError(SEVERAL_SPACES.format(known=', '.join(labels)))
    return list(found)


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
    for series in single:
        rest = _without_echo(series)
        siblings = [s for s in single if _without_echo(s) == rest]
        if not any(s.entities == rest for s in combined) and len(siblings) > 1:
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
        key = tuple(sorted(series.entities.items()))
        if key in seen:
            run = ' '.join(f'{k}-{v}' for k, v in series.entities.items())
            raise InputError(TWICE.format(run=run, first=seen[key].path, second=series.path))
        seen[key] = series


def _without_echo(series: Series) -> dict[str, str]:
    return {k: v for k, v in series.entities.items() if k != 'echo'}
