"""Records: what steps hand on as facts, and what participants left for their pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.bids.choices import JOINT
from bids_neurodecode.config import Config, load_config
from bids_neurodecode.errors import InputError
from bids_neurodecode.extensions import own_systems
from bids_neurodecode.report.results import BetaResults, ParticipantResults, VoxelResults

if TYPE_CHECKING:
    from bids_neurodecode.bids.records import Paradigm
    from bids_neurodecode.spaces import Form


NO_RESULTS = (
    'No results of participant level in {folder}{which}. '
    'Run the participant level first: bids_neurodecode BIDS_DIR {folder} participant.'
)

TASK = re.compile(r'_task-([0-9a-zA-Z+]+)_')
SEVERAL_TASKS = (
    'The results in {folder} are of several tasks ({tasks}). Choose one with --task-id.'
)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What any step says of its result."""

    warnings: tuple[str, ...] = ()
    """What a reader should know, one line each."""


@dataclass(frozen=True, kw_only=True)
class BetaFacts(Facts):
    """How single-trial betas were made."""

    results: BetaResults
    units: str
    repetition_time: float | None = None
    """Seconds, of the series that they were estimated from; None of precomputed ones."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Facts):
    """What is said of a model of voxels that was judged."""

    voxels: VoxelResults
    leaks: tuple[str, ...] = ()
    """What of the data that it was judged on it had seen."""
    labels: tuple[str, ...] = ()
    """Of the confusion matrix."""
    observed: float | None = None
    """The score that was permuted; None: nothing was."""
    null_metric: str = 'identification_top1'
    """Its name."""


def results_path(output_dir: Path, participant: str, task: str) -> Path:
    """Return where the record that the reports are made from is kept.

    Parameters
    ----------
    output_dir
        Of the run.
    participant
        Label of the participant.
    task
        Label of the task.
    """
    name = f'sub-{participant}_task-{task}_results.json'
    return output_dir / f'sub-{participant}' / 'log' / name


def task_of_results(asked: Sequence[str], output_dir: Path) -> str | None:
    """Return the task label of the results of the tasks that were asked for.

    Several tasks have theirs under a label of their own, by what they show.

    Parameters
    ----------
    asked
        Labels of the tasks that were asked for.
    output_dir
        Of the run.
    """
    if len(asked) < 2:
        return asked[0] if asked else None
    labels = list(JOINT.values())
    there = [x for x in labels if any(output_dir.glob(f'sub-*/log/*_task-{x}_results.json'))]
    return (there or labels)[0]


def find_results(
    output_dir: Path,
    participants: Sequence[str] = (),
    task: str | None = None,
    *,
    one_task: bool = False,
) -> list[Path]:
    """Return the records in an output folder, in order of their names.

    Parameters
    ----------
    output_dir
        Of the run.
    participants
        Labels; none: all.
    task
        Label of the task; None: any.
    one_task
        Whether several tasks are an error.

    Raises
    ------
    InputError
        If there are none, or they are of several tasks where one was needed.
    """
    labels = participants or ('*',)
    files = sorted(
        file
        for label in labels
        for file in output_dir.glob(f'sub-{label}/log/sub-*_task-{task or "*"}_results.json')
    )
    tasks = sorted({match.group(1) for f in files if (match := TASK.search(f.name))})
    if one_task and len(tasks) > 1:
        raise InputError(SEVERAL_TASKS.format(folder=output_dir, tasks=', '.join(tasks)))
    if not files:
        which = f' for {", ".join(f"sub-{x}" for x in participants)}' if participants else ''
        raise InputError(NO_RESULTS.format(folder=output_dir, which=which))
    return files


def owner_of(results: Path) -> tuple[str, str]:
    """Return the labels of the participant and the task that a record is of.

    Examples
    --------
    >>> owner_of(Path('out/sub-01/log/sub-01_task-images_results.json'))
    ('01', 'images')
    """
    found = TASK.search(results.name)
    return results.parent.parent.name.removeprefix('sub-'), found.group(1) if found else ''


def read_results(file: Path) -> ParticipantResults:
    """Read one record."""
    return ParticipantResults.from_json(file.read_bytes(), source=str(file), folder=file.parent)


def citations(
    config: Config,
    paradigm: Paradigm,
    derivatives: Sequence[str],
    layout: str = 'bids',
    system: str | None = None,
    form: Form | None = None,
) -> dict[str, str]:
    """Return the contents of ``logs/CITATION.*`` before anything was run.

    Parameters
    ----------
    config
        The settings.
    paradigm
        ``images``, ``movie`` or ``conditions``.
    derivatives
        Names of the preprocessed datasets.
    layout
        Of the dataset.
    system
        Of the analysis; None: that of the settings.
    form
        Of the series (surfaces, CIFTI, parcels); None: volumes.
    """
    from bids_neurodecode._version import __version__
    from bids_neurodecode.bids.provenance import software_versions
    from bids_neurodecode.report.boilerplate import citation_files, methods

    paragraphs = methods(
        config,
        paradigm=paradigm,
        system=system or system_of(config, paradigm),
        version=__version__,
        derivatives=derivatives,
        versions=software_versions(),
        layout=layout,
        form=form,
    )
    return citation_files(paragraphs, __version__)


def system_of(config: Config, paradigm: Paradigm) -> str:
    """Return which of the systems is run: the one that is asked for, else that of the paradigm.

    Parameters
    ----------
    config
        The settings.
    paradigm
        ``images``, ``movie`` or ``conditions``.
    """
    return own_systems(paradigm)[0] if config.system == 'auto' else config.system


def results_alike(results: Path, output_dir: Path) -> list[ParticipantResults]:
    """Return the records of the participants of a task that were analysed by the same system.

    Parameters
    ----------
    results
        Record of one of them.
    output_dir
        Of the run.
    """
    task, system = owner_of(results)[1], read_results(results).system
    records = [read_results(file) for file in find_results(output_dir, task=task)]
    alike = [record for record in records if record.system == system]
    # the mean of participants is none of them
    return [record for record in alike if not record.members] or alike


def citations_of(records: Sequence[ParticipantResults]) -> dict[str, str]:
    """Return the contents of ``logs/CITATION.*`` of the participants that were analysed."""
    from bids_neurodecode.report.boilerplate import citation_files, methods_of

    versions = ', '.join(dict.fromkeys(record.version for record in records))
    return citation_files(methods_of(records, config_of(records[0])), versions)


def config_of(record: ParticipantResults) -> Config:
    """Return the settings that a record was made with."""
    return Config() if record.config is None else load_config(record.config)


GROUP_FOLDER = 'group'


def group_page(output_dir: Path, task: str) -> str:
    """Return the name of the group's page; with several tasks in a folder it carries its own.

    Parameters
    ----------
    output_dir
        Of the run.
    task
        Label of the task.
    """
    several = {read_results(file).task for file in find_results(output_dir)} != {task}
    return f'group_task-{task}.html' if several else 'group.html'
