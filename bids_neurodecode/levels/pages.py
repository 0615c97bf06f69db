"""The pages of participants and of the group brain, from the records of their results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bids_neurodecode.bids.sink import atomic
from bids_neurodecode.errors import ReportError
from bids_neurodecode.systems.steps.records import find_results, group_page, read_results
from bids_neurodecode.workflow.nodes import Call
from bids_neurodecode.workflow.step import step

OUTSIDE = (
    'The record {results} names settings outside of its output folder ({file}), and no page is '
    'made of it. Run the participant level again.'
)


def participant_report(results: Path, output_dir: Path) -> Path:
    """Write the page of a participant and its figures; return the page.

    The page of a participant with one task is ``sub-<label>.html``; further tasks carry theirs.

    Parameters
    ----------
    results
        File of the record.
    output_dir
        Of the run.
    """
    from bids_neurodecode.levels.participant_page import write_participant_report

    record = read_results(results)
    if record.config is not None and not _within(record.config, output_dir):
        # its text is shown, and that of crash files beside it
        raise ReportError(OUTSIDE.format(results=results, file=record.config))
    tasks = {file.name for file in find_results(output_dir, (record.participant,))}
    name = f'sub-{record.participant}'
    if len(tasks) > 1:
        # the page of the first task had no task in its name: there was no other then
        (output_dir / f'{name}.html').unlink(missing_ok=True)
        name += f'_task-{record.task}'
    page = output_dir / f'{name}.html'
    figures = output_dir / f'sub-{record.participant}' / 'figures'
    with atomic(page) as temporary:
        write_participant_report(record, temporary, figures)
    return page


def _within(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


@step('report', seconds=25, makes=('page',), always=True, memory=lambda _: 0.5)
def make_report(call: Call, results: Path) -> Mapping[str, object]:
    """Make the page of a participant from the record of the results.

    Parameters
    ----------
    call
        Folders, notes and id of the call.
    results
        File of the record.
    """
    return {'page': participant_report(results, call.output_dir)}


@step('report', seconds=25, makes=('page',), always=True, memory=lambda _: 0.5)
def make_brain_page(call: Call, results: Path) -> Mapping[str, object]:
    """Make the page of the group brain from the record of its results.

    Parameters
    ----------
    call
        Folders, notes and id of the call.
    results
        File of the record.
    """
    from bids_neurodecode.levels.participant_page import write_participant_report
    from bids_neurodecode.systems.movie.steps.group_brain import LABEL

    record, output_dir = read_results(results), call.output_dir.parent
    page = output_dir / brain_page(output_dir, record.task)
    figures = output_dir / LABEL / f'sub-{LABEL}' / 'figures'
    with atomic(page) as temporary:
        write_participant_report(record, temporary, figures)
    return {'page': page}


def brain_page(output_dir: Path, task: str) -> str:
    """Return the name of the page; with several tasks in a folder it carries its own.

    Parameters
    ----------
    output_dir
        Of the run.
    task
        Label of the task.
    """
    return group_page(output_dir, task).replace('.html', '_movie.html')
