"""``--study``: the checks of a study, what a dry run says of it, and how it is run."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.bids.sink import BEGUN, remove_begun, write_tsv
from bids_neurodecode.cli.exits import FAILED, NO_REPORT, OK
from bids_neurodecode.cli.holding import hold, hold_results
from bids_neurodecode.cli.levels import (
    REPORT,
    jobs_of,
    only_submits,
    remove_leftovers,
    run_and_watch,
    run_settings,
    write_dataset,
)
from bids_neurodecode.cli.parser import Arguments, from_command_line, from_recipe, settings_from
from bids_neurodecode.cli.systems import check_before
from bids_neurodecode.errors import ArgumentsError, InputError, NeurodecodeError
from bids_neurodecode.levels.gathering import collect, results_of, study_folder
from bids_neurodecode.study import StudyPlan, plan_study, read_study
from bids_neurodecode.systems.steps.records import TASK, task_of_results
from bids_neurodecode.text import did_you_mean

if TYPE_CHECKING:
    from bids_neurodecode.workflow.nodes import RunSettings
    from bids_neurodecode.workflow.run import Failure
    from bids_neurodecode.workflow.sharing import Shared

LOGGER = logging.getLogger('bids_neurodecode')
LeftOut = Mapping[tuple[str, str], str]
"""Why a participant's variant is not run, by their labels and names."""

OTHER_SYSTEM = 'The study {study} is of the system {right!r}, not {asked!r}. Leave --system out.'
HAS_SEEDS = 'The study {study} lists its own seeds. Leave --random-seed out, or the seeds.'
UNKNOWN_METRIC = (
    'The study {study} shows the metric {name!r}, which there is not.{near} Metrics: {known}.'
)
BAD_VARIANT = 'The variant {variant!r} of the study {study} cannot be run: {reason}'
GROUP_TARGET = 'it predicts the group (movie.target), and studies are of single participants.'
NOTHING_LEFT = 'No variant of the study {study} can be run. The first reason: {reason}'
NO_RESULTS = (
    'There are no results of the study {study} in {folder}. Run it at participant level first.'
)
SEVERAL_TASKS = (
    'The results of the study {study} in {folder} are of several tasks ({tasks}). Choose one with '
    '--task-id.'
)
UNFINISHED = '{n} of {total} results of the study {study} are missing; {page} names them.'


def plan_of(arguments: Arguments) -> StudyPlan:
    """Return the study that is asked for, each variant with its settings.

    Preset, recipe, study, configuration file, command line, variant: the later ones win.

    Raises
    ------
    ArgumentsError
        For a study or settings that cannot be used; the line names the variant and the key.
    """
    from bids_neurodecode.config import read_settings
    from bids_neurodecode.evaluation.metrics import METRICS

    settings_from(arguments)
    file = [] if arguments.config_file is None else [read_settings(arguments.config_file)]
    own = [*file, from_command_line(arguments)]
    study = read_study(str(arguments.study))[2]
    varied = [entry.settings for axis in study.axes for entry in axis.entries]
    recipe = from_recipe(arguments, study.settings, *own, *varied)
    plan = plan_study(
        str(arguments.study),
        before=[read_settings(arguments.preset), recipe],
        after=own,
    )
    settings = plan.settings
    if arguments.system not in {None, settings.system}:
        raise ArgumentsError(
            OTHER_SYSTEM.format(study=plan.name, right=settings.system, asked=arguments.system)
        )
    if settings.seeds and arguments.random_seed is not None:
        raise ArgumentsError(HAS_SEEDS.format(study=plan.name))
    for name in (*settings.metrics, *(row.metric for row in settings.published)):
        if name not in METRICS:
            told = {'near': did_you_mean(name, METRICS), 'known': ', '.join(METRICS)}
            raise ArgumentsError(UNKNOWN_METRIC.format(study=plan.name, name=name, **told))
    return plan


def check_variants(
    arguments: Arguments, plan: StudyPlan, inputs: DatasetInput
) -> dict[tuple[str, str], str]:
    """Refuse a variant that cannot be run here; return what single participants cannot run.

    Parameters
    ----------
    arguments
        Of the call.
    plan
        The study.
    inputs
        What the dataset holds.

    Raises
    ------
    NeurodecodeError
        If weights, packages or a system are missing, naming the variant; if nothing is left; or
        if all outputs together do not fit on the disk.
    """
    from bids_neurodecode.cli.checks_data import check_atlas, check_design
    from bids_neurodecode.cli.checks_places import check_room

    left_out: dict[tuple[str, str], str] = {}
    for variant in plan.variants:
        try:
            if variant.config.movie.target == 'group':
                raise ArgumentsError(GROUP_TARGET)
            check_before(arguments, variant.config, inputs)
        except NeurodecodeError as error:
            line = BAD_VARIANT.format(variant=variant.label, study=plan.name, reason=error)
            raise type(error)(line) from error
        for person in inputs.participants:
            try:
                check_design(person, variant.config)
                check_atlas(person, variant.config.atlas, fetch=not arguments.dry_run)
            except (InputError, ArgumentsError) as error:
                left_out[person.label, variant.name] = str(error)
    n_all = len(inputs.participants) * len(plan.variants)
    if n_all and len(left_out) == n_all:
        reason = next(iter(left_out.values()))
        raise InputError(NOTHING_LEFT.format(study=plan.name, reason=reason))
    if not arguments.writes_texts_only:
        for variant in plan.variants:
            check_room(arguments, variant.config, inputs.participants, len(plan.variants))
    return left_out


def describe_study(
    arguments: Arguments, plan: StudyPlan, inputs: DatasetInput, left_out: LeftOut
) -> str:
    """Write what a study would run: its variants, what they share, the number of steps.

    Parameters
    ----------
    arguments
        Of the call.
    plan
        The study.
    inputs
        What the dataset holds.
    left_out
        Why, by variant and participant.
    """
    from bids_neurodecode.levels.studies import init_study_wf

    lines = ['', f'Study {plan.name}: {plan.settings.title}', f'  {plan.settings.question}']
    lines += [f'  variant {variant.name}: {variant.label}' for variant in plan.variants]
    lines += [f'  left out, sub-{who}, {what}: {why}' for (who, what), why in left_out.items()]
    if inputs.participants and not arguments.writes_texts_only:
        run = run_settings(arguments, plan.variants[0].config, inputs, 'dry-run')
        with TemporaryDirectory() as empty:  # where the graph notes who is in it
            run = replace(run, work_dir=Path(empty))
            _, shared = init_study_wf(inputs.participants, plan, run, left_out)
        for label, graph in shared.items():
            n_steps = len(graph.originals)
            lines.append(f'  sub-{label}: {n_steps} steps instead of {graph.n_before}')
            lines += [
                f'    once for {_who(users, plan)}: {graph.originals[step]}'
                for step, users in graph.users.items()
                if len(users) > 1
            ]
    folder = study_folder(arguments.output_dir, plan)
    lines.append(f'  results: {folder}/{plan.name}.html, {plan.name}_metrics.tsv, and a')
    lines.append('    derivatives dataset a variant')
    return '\n'.join(lines) + '\n'


def study_level(
    arguments: Arguments, plan: StudyPlan, inputs: DatasetInput, run_id: str, left_out: LeftOut
) -> int:
    """Run all variants of all participants, then gather; return the exit code.

    Parameters
    ----------
    arguments
        Of the call.
    plan
        The study.
    inputs
        What the dataset holds.
    run_id
        Of this run.
    left_out
        Why, by variant and participant.
    """
    from bids_neurodecode.levels.studies import variant_run

    run = run_settings(arguments, plan.variants[0].config, inputs, run_id)
    if arguments.analysis_level == 'group':
        folder = study_folder(run.output_dir, plan)
        task = task_of_results(arguments.task_id, folder / plan.variants[0].name) or _only_task(
            plan, run
        )
        with hold(run.work_dir, (), jobs=jobs_of(arguments)):
            return _gather(arguments, plan, run, task, (), {})
    folders = [variant_run(run, plan, variant).output_dir for variant in plan.variants]
    owners = [(person.label, person.task) for person in inputs.participants]
    with hold_results(folders, owners, run.work_dir, jobs=jobs_of(arguments)):
        return _participant_level(arguments, plan, inputs, run, left_out)


def _participant_level(
    arguments: Arguments,
    plan: StudyPlan,
    inputs: DatasetInput,
    run: RunSettings,
    left_out: LeftOut,
) -> int:
    from bids_neurodecode.levels.studies import variant_run

    _write_datasets(arguments, plan, inputs, run)
    if arguments.boilerplate_only:
        return OK
    labels = [person.label for person in inputs.participants]
    reasons = {f'{who}/{what}': why for (who, what), why in left_out.items()}
    task = inputs.participants[0].task
    if arguments.reports_only:
        _remake_pages(plan, run, labels, task)
        with hold(run.work_dir, labels):
            return _gather(arguments, plan, run, task, labels, {})
    with hold(run.work_dir, labels, jobs=jobs_of(arguments)):
        for variant in plan.variants:
            remove_leftovers(variant_run(run, plan, variant).output_dir, labels)
        remove_begun(study_folder(run.output_dir, plan).glob(f'{BEGUN}*'))
        failures, reasons = _run_variants(arguments, plan, inputs.participants, run, left_out)
        if only_submits(arguments):
            return FAILED if failures or inputs.failures else OK
        gathered = _gather(arguments, plan, run, task, labels, reasons)
    for label, reason in inputs.failures.items():
        LOGGER.error('sub-%s was left out: %s', label, reason)
    return FAILED if reasons or inputs.failures else gathered


def _run_variants(
    arguments: Arguments,
    plan: StudyPlan,
    participants: Sequence[ParticipantInput],
    run: RunSettings,
    left_out: LeftOut,
) -> tuple[list[Failure], dict[str, str]]:
    """Run the graph; return what failed, and why each unfinished variant is that."""
    from bids_neurodecode.levels.participant import workflow_name
    from bids_neurodecode.levels.studies import WORKFLOW, init_study_wf

    if arguments.clean_workdir:
        shutil.rmtree(run.work_dir / 'features', ignore_errors=True)
        for person in participants:
            folder = run.work_dir / WORKFLOW / workflow_name(person.label)
            shutil.rmtree(folder, ignore_errors=True)
    workflow, shared = init_study_wf(participants, plan, run, left_out)
    titles, users = {}, {}
    for label, graph in shared.items():
        for step, names in graph.users.items():
            full = f'{WORKFLOW}.{workflow_name(label)}.{step}'
            titles[full] = f'sub-{label} {graph.originals[step]} ({_who(names, plan)})'
            users[full] = (label, graph.originals[step], names)
    n_before = sum(graph.n_before for graph in shared.values())
    LOGGER.info(
        'Study %s: %d variants, %d steps instead of %d: what variants share is run once.',
        plan.name, len(plan.variants), len(users), n_before,
    )  # fmt: skip
    failures = run_and_watch(workflow, arguments, titles)
    _write_stages(plan, run, shared)
    reasons = {f'{who}/{what}': why for (who, what), why in left_out.items()}
    for failure in failures:
        label, step, names = users[failure.node]
        if step != REPORT:
            reasons |= {f'{label}/{name}': f'{step}: {failure.reason}' for name in names}
    return failures, reasons


def _gather(
    arguments: Arguments,
    plan: StudyPlan,
    run: RunSettings,
    task: str,
    labels: Sequence[str],
    reasons: Mapping[str, str],
) -> int:
    from bids_neurodecode.levels.studies import init_gather_wf
    from bids_neurodecode.report.study import study_headline

    workflow = init_gather_wf(plan, run, task=task, asked=labels, reasons=reasons)
    failures = run_and_watch(workflow, arguments)
    if failures:
        return NO_REPORT
    if not only_submits(arguments):
        folder = study_folder(run.output_dir, plan)
        page = folder / f'{plan.name}.html'
        if reasons:
            total = len(labels) * len(plan.variants)
            line = UNFINISHED.format(n=len(reasons), total=total, study=plan.name, page=page)
            LOGGER.error('%s', line)
        headline = study_headline(collect(plan, folder, task, labels, reasons))
        if headline:
            LOGGER.info('%s', headline)
        LOGGER.info('Report: %s', page)
    return OK


def _write_datasets(
    arguments: Arguments, plan: StudyPlan, inputs: DatasetInput, run: RunSettings
) -> None:
    """Make the output folder, and that of each variant, a derivatives dataset."""
    from bids_neurodecode.levels.studies import variant_run

    write_dataset(arguments, plan.variants[0].config, inputs)
    for variant in plan.variants:
        folder = variant_run(run, plan, variant).output_dir
        write_dataset(replace(arguments, output_dir=folder), variant.config, inputs)


def _remake_pages(plan: StudyPlan, run: RunSettings, labels: Sequence[str], task: str) -> None:
    from bids_neurodecode.levels.pages import participant_report
    from bids_neurodecode.levels.studies import variant_run

    for variant in plan.variants:
        folder = variant_run(run, plan, variant).output_dir
        for label, file in results_of(folder, task).items():
            if label in labels:
                LOGGER.info('Report: %s', participant_report(file, folder))


def _only_task(plan: StudyPlan, run: RunSettings) -> str:
    """Return the task of the results.

    Raises
    ------
    InputError
        If there are none, or they are of several tasks.
    """
    folder = study_folder(run.output_dir, plan)
    files = [
        file
        for variant in plan.variants
        for file in (folder / variant.name).glob('sub-*/log/sub-*_task-*_results.json')
    ]
    tasks = sorted({match.group(1) for file in files if (match := TASK.search(file.name))})
    if not tasks:
        raise InputError(NO_RESULTS.format(study=plan.name, folder=folder))
    if len(tasks) > 1:
        raise InputError(
            SEVERAL_TASKS.format(study=plan.name, folder=folder, tasks=', '.join(tasks))
        )
    return tasks[0]


def _write_stages(plan: StudyPlan, run: RunSettings, shared: Mapping[str, Shared]) -> None:
    """Write what each step took, and which variants use it, one table per participant."""
    from bids_neurodecode.levels.participant import workflow_name
    from bids_neurodecode.levels.studies import WORKFLOW

    log = study_folder(run.output_dir, plan) / 'log' / run.run_id
    for label, graph in shared.items():
        rows: list[dict[str, Any]] = []
        for step, users in graph.users.items():
            file = run.work_dir / WORKFLOW / workflow_name(label) / step / 'stage.json'
            if file.is_file():
                row = {'stage': graph.originals[step], 'variants': ', '.join(users)}
                rows.append(row | json.loads(file.read_text('utf-8')))
        if rows:
            write_tsv(log / f'sub-{label}_stages.tsv', pd.DataFrame(rows))


def _who(names: Sequence[str], plan: StudyPlan) -> str:
    """Return whose step it is, in few words."""
    if len(names) == 1:
        return names[0]
    if len(names) == len(plan.variants):
        return 'all variants'
    return f'{len(names)} variants: {names[0]} to {names[-1]}'
