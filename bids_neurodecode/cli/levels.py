"""The two levels of analysis: what they run, and the exit code that comes of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bids_neurodecode.bids.provenance import is_complete, write_dataset_files
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.bids.sink import BEGUN, remove_begun, write_tsv
from bids_neurodecode.cli.checks_places import device_of, n_processors, total_memory_gb
from bids_neurodecode.cli.environment import threads_of
from bids_neurodecode.cli.exits import FAILED, NO_REPORT, OK
from bids_neurodecode.cli.holding import Jobs, hold, hold_group, hold_results
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.cli.progress import Progress
from bids_neurodecode.cli.systems import find_model
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError
from bids_neurodecode.levels.headlines import group_headlines, participant_headlines
from bids_neurodecode.systems.steps.records import (
    citations,
    citations_of,
    find_results,
    group_page,
    owner_of,
    read_results,
    results_alike,
    task_of_results,
)
from bids_neurodecode.workflow.nodes import RunSettings
from bids_neurodecode.workflow.run import (
    Failure,
    PluginSettings,
    execution_config,
    nodes_of,
    run_workflow,
)

LOGGER = logging.getLogger('bids_neurodecode')
REPORT = 'report'
USED = 0.9
"""Share of the memory that nodes may ask for together."""
SUBMITTED = (
    '{n} steps were submitted to the batch system. When its queue is empty, run the same command '
    'again without --use-plugin: what is done is reused, what failed is run again or reported.'
)
WARNED = 'sub-%s: %d warning%s, in full in the report (%s) and in %s.'
METHODS_WRITTEN = 'Methods text: {folder}/CITATION.md (also .html; references: CITATION.bib)'
UNCHANGED = (
    'sub-%s: nothing changed since the last run, and its outputs are complete: they are left as '
    'they are.'
)


def participant_level(
    arguments: Arguments, config: Config, inputs: DatasetInput, run_id: str
) -> int:
    """Run all participants that can be processed; report those that cannot at the end.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.
    run_id
        Of this run.
    """
    people = inputs.participants
    run = run_settings(arguments, config, inputs, run_id)
    if not people:
        return _nothing_to_run(arguments, config, inputs)
    run, jobs = with_models(run, arguments, people), jobs_of(arguments)
    labels = [person.label for person in people]
    owners = [(person.label, person.task) for person in people]
    with hold_results([run.output_dir], owners, run.work_dir, jobs=jobs):
        write_dataset(arguments, config, inputs, _earlier_results(arguments, inputs))
        if arguments.writes_texts_only:
            return _write_texts(arguments, run.output_dir, labels)
        from bids_neurodecode.levels.participant import init_run_wf
        from bids_neurodecode.levels.unchanged import keys_of, remember

        with hold(run.work_dir, labels, jobs=jobs):
            _remove_earlier(arguments, people, run)
            workflow = init_run_wf(people, run, inputs.everyone)
            keys = keys_of(workflow, people, run, *options(arguments))
            failures = run_and_watch(workflow, arguments)
            _gather_stages(arguments, run, labels)
        failed = {failure.participant for failure in failures}
        done = [] if only_submits(arguments) else [x for x in people if x.label not in failed]
        if done:
            results = _results_of(inputs, run.output_dir, [person.label for person in done])
            write_dataset(arguments, config, inputs, results)
            # not before: what is remembered is never written again, the dataset's files among it
            for person in done:
                remember(person, run, keys[person.label])
            _say_what_was_found(results, run)
        _say_outcome(inputs, run.output_dir, done)
        return FAILED if inputs.failures else code_of(failures)


def _write_texts(arguments: Arguments, output_dir: Path, labels: Sequence[str]) -> int:
    """Say where the methods text is, or regenerate the pages of earlier results."""
    from bids_neurodecode.levels.pages import participant_report

    if arguments.boilerplate_only:
        LOGGER.info(METHODS_WRITTEN.format(folder=output_dir / 'logs'))
        return OK
    files = find_results(output_dir, labels, task_of_results(arguments.task_id, output_dir))
    pages = [participant_report(file, output_dir) for file in files]
    _say_scores(files)
    for page in pages:
        LOGGER.info('Report: %s', page)
    return OK


def _remove_earlier(
    arguments: Arguments, people: Sequence[ParticipantInput], run: RunSettings
) -> None:
    """Remove what earlier runs of these participants left, as far as it is not gone on with."""
    from bids_neurodecode.levels.participant import workflow_name
    from bids_neurodecode.levels.unchanged import forget

    labels = [person.label for person in people]
    remove_leftovers(run.output_dir, labels)
    for person in people:
        forget(person, run.work_dir)
    if arguments.clean_workdir:
        clean(run.work_dir, [workflow_name(label) for label in labels])


def _nothing_to_run(arguments: Arguments, config: Config, inputs: DatasetInput) -> int:
    """Leave the outputs of all participants as they are."""
    if not is_complete(arguments.output_dir):
        results = _results_of(inputs, arguments.output_dir)
        write_dataset(arguments, config, inputs, results)
    _say_outcome(inputs, arguments.output_dir)
    return FAILED if inputs.failures else OK


def _say_report(output_dir: Path, person: ParticipantInput) -> None:
    from bids_neurodecode.report.reader import page_file

    page = page_file(output_dir, person.label, person.task)
    if page is not None:
        LOGGER.info('Report: %s', page)


def _say_outcome(
    inputs: DatasetInput, output_dir: Path, done: Sequence[ParticipantInput] = ()
) -> None:
    """Say at the end what matters: who has no results, the scores, and where the pages are."""
    for person in inputs.unchanged:
        LOGGER.info(UNCHANGED, person.label)
    for label, reason in inputs.failures.items():
        LOGGER.error('sub-%s was left out: %s', label, reason)
    people = [*done, *inputs.unchanged]
    if people:
        _say_scores(_results_of(inputs, output_dir, [person.label for person in people]))
    for person in people:
        _say_report(output_dir, person)


def _say_scores(files: Sequence[Path]) -> None:
    """Log the score that heads the page of each participant."""
    for record in map(read_results, files):
        for line in participant_headlines(record):
            LOGGER.info('sub-%s: %s', record.participant, line)


def _results_of(
    inputs: DatasetInput, output_dir: Path, labels: Sequence[str] | None = None
) -> list[Path]:
    """Return the records of participants (of all by default), each of their own task."""
    return [
        file
        for person in inputs.everyone
        if labels is None or person.label in labels
        for file in find_results(output_dir, [person.label], person.task)
    ]


def _say_what_was_found(files: Sequence[Path], run: RunSettings) -> None:
    """Log what was held out and, as warnings, what of it was seen in training all the same.

    Nodes may run in processes without this log: what else they warn of is read from the records.
    The terminal counts it, unless it is to say more (-v).
    """
    for record in map(read_results, files):
        if record.split is not None:
            LOGGER.info('sub-%s: %s', record.participant, record.split.why)
        for line in record.leaks:
            LOGGER.warning('sub-%s: %s', record.participant, line)
        for line in record.warnings:
            LOGGER.debug('sub-%s, warning: %s', record.participant, line)
        n, log = len(record.warnings), run.output_dir / 'logs' / f'{run.run_id}.log'
        if n:
            where = 'Warnings and errors'
            LOGGER.info(WARNED, record.participant, n, 's' * (n > 1), where, log)


def group_level(arguments: Arguments, config: Config, inputs: DatasetInput, run_id: str) -> int:
    """Put together what the participants left in the output folder.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.
    run_id
        Of this run.
    """
    from bids_neurodecode.levels.group import init_group_wf

    run = run_settings(arguments, config, inputs, run_id)
    task = task_of_results(arguments.task_id, run.output_dir)
    results = find_results(run.output_dir, arguments.participant_label, task, one_task=True)
    found = {label for label, _ in map(owner_of, results)}
    missing = _without_results(arguments, run.output_dir, found)
    jobs = jobs_of(arguments)
    owners = [owner_of(file) for file in results]
    with (
        hold_group(run.output_dir, owners, run.work_dir, jobs=jobs),
        hold(run.work_dir, (), jobs=jobs),
    ):
        remove_begun(run.output_dir.glob(f'{BEGUN}*group*.html'))
        remove_begun((run.output_dir / 'group').rglob(f'{BEGUN}*'))
        failures = run_and_watch(init_group_wf(results, missing, run), arguments)
    if failures or only_submits(arguments):
        return code_of(failures)
    records = [read_results(file) for file in results]
    for line in group_headlines(records):
        LOGGER.info('%s', line)
    LOGGER.info('Report: %s', run.output_dir / group_page(run.output_dir, records[0].task))
    if config.movie.target == 'group':
        LOGGER.info('Report: %s', run.output_dir / 'group_movie.html')
    return OK


def remove_leftovers(output_dir: Path, labels: Sequence[str]) -> None:
    """Remove files that a killed run of these participants had begun to write.

    Parameters
    ----------
    output_dir
        Of the run.
    labels
        Of participants.
    """
    for label in labels:
        pages = (f'{BEGUN}*sub-{label}.html', f'{BEGUN}*sub-{label}_task-*.html')
        begun = [file for pattern in pages for file in output_dir.glob(pattern)]
        for folder in (output_dir / f'sub-{label}', output_dir / 'stimuli' / f'sub-{label}'):
            begun += folder.rglob(f'{BEGUN}*')
        remove_begun(begun)


def clean(work_dir: Path, names: Sequence[str]) -> None:
    """Remove what earlier runs left of these workflows, cached features and trained generators.

    Parameters
    ----------
    work_dir
        Of this dataset.
    names
        Of workflows.
    """
    caches = (work_dir / 'features', work_dir / 'generators')
    for folder in (*caches, *(work_dir / 'bids_neurodecode_wf' / x for x in names)):
        shutil.rmtree(folder, ignore_errors=True)


def run_and_watch(
    workflow: Any, arguments: Arguments, titles: Mapping[str, str] | None = None
) -> list[Failure]:
    """Run a workflow with progress on the terminal; log what failed and why.

    ``titles`` says what nodes are called there, by their full names.

    Parameters
    ----------
    workflow
        Of Nipype.
    arguments
        Of the call: processes, memory, plugin.
    titles
        What nodes are called, by their full names.
    """
    for section, values in execution_config(
        stop_on_first_crash=arguments.stop_on_first_crash
    ).items():
        workflow.config.setdefault(section, {}).update(values)
    names = workflow.list_node_names()
    if arguments.write_graph:
        target = arguments.output_dir / 'logs' / f'{workflow.name}.dot'
        workflow.write_graph(graph2use='colored', dotfilename=str(target), format='svg')
    titles = titles or {}
    progress = Progress(len(names), titles, costs_of(workflow))
    failures = run_workflow(workflow, plugin_of(arguments), progress)
    if only_submits(arguments):
        LOGGER.info(SUBMITTED.format(n=len(names)))
        return failures
    for failure in failures:
        name = titles.get(failure.node, failure.node)
        LOGGER.error('%s: %s (details: %s)', name, failure.reason, failure.crash_file)
    LOGGER.info('%s', progress.summary())
    return failures


def costs_of(workflow: Any) -> dict[str, float]:
    """Return about how long each node takes, by the full name by which its progress is told."""
    from bids_neurodecode.workflow.nodes import cost_of

    return {f'{workflow.name}.{name}': cost_of(node) for name, node in nodes_of(workflow).items()}


def code_of(failures: Sequence[Failure]) -> int:
    """Return the exit code of what failed: reports alone count less than results."""
    if not failures:
        return OK
    nodes = {failure.node.split('.')[-1] for failure in failures}
    return NO_REPORT if nodes == {REPORT} else FAILED


def only_submits(arguments: Arguments) -> bool:
    """Tell whether the plugin submits all nodes and ends without waiting for them."""
    return jobs_of(arguments) == 'left'


def jobs_of(arguments: Arguments) -> Jobs:
    """Return what the plugin submits; only Slurm is asked what is left of it."""
    name = plugin_of(arguments).name
    if name.endswith('Graph'):
        return 'left'
    return 'watched' if name == 'SLURM' else 'none'


def plugin_of(arguments: Arguments) -> PluginSettings:
    """Return the plugin: the file's where one is given, else MultiProc with the resources."""
    if arguments.use_plugin is not None:
        return PluginSettings.read(arguments.use_plugin)
    n_procs = 1 if arguments.low_mem else arguments.nprocs or n_processors()
    settings: dict[str, Any] = {'n_procs': n_procs}
    # Nipype knows what the machine has, and not what a container or a job is given
    settings['memory_gb'] = arguments.mem_gb or USED * total_memory_gb()
    if device_of(arguments.device) == 'cuda':
        settings |= {'fresh_workers': True, 'n_gpu_procs': arguments.n_gpus or 1}
    # a node that states more than there is runs alone instead of not at all
    settings['raise_insufficient'] = False
    return PluginSettings('MultiProc', settings)


def run_settings(
    arguments: Arguments, config: Config, inputs: DatasetInput, run_id: str
) -> RunSettings:
    """Return what the factories need; the work folder is this dataset's own.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.
    run_id
        Of this run.
    """
    return RunSettings(
        config=config,
        output_dir=arguments.output_dir,
        work_dir=work_folder(arguments, inputs),
        run_id=run_id,
        threads=threads_of(arguments.omp_nthreads, arguments.nprocs),
        device=device_of(arguments.device),
        bids_dir=inputs.bids_dir,
        derivatives=dict(inputs.derivatives),
        notes=tuple(inputs.notes),
        weights_dir=arguments.weights_dir,
        level=arguments.level,
        blocks=arguments.blocks,
    )


def options(arguments: Arguments) -> tuple[str, ...]:
    """Return the options that outputs depend on and the graph does not tell."""
    return ('not validated',) if arguments.skip_bids_validation else ()


def work_folder(arguments: Arguments, inputs: DatasetInput) -> Path:
    """Return the folder below the work folder that is of one dataset, output and mode.

    Parameters
    ----------
    arguments
        Of the call: output and work folder, mode.
    inputs
        Folders of the dataset.
    """
    import hashlib

    key = '\n'.join([str(inputs.bids_dir), *(str(p) for p in inputs.derivatives.values())])
    key += f'\n{arguments.output_dir}\n{arguments.mode}'
    return arguments.work_dir / hashlib.sha256(key.encode()).hexdigest()[:12]


def with_models(
    run: RunSettings, arguments: Arguments, participants: Sequence[ParticipantInput]
) -> RunSettings:
    """Return the settings of a run with the trained model of each participant, in predict mode.

    Parameters
    ----------
    run
        Settings of the run.
    arguments
        Of the call: where the models are.
    participants
        Each needs one.

    Raises
    ------
    InputError
        If there is none.
    """
    if arguments.models_from is None:
        return run
    models = {
        person.label: find_model(arguments.models_from, person, run.config.system)
        for person in participants
    }
    return replace(run, models=models)


def _earlier_results(arguments: Arguments, inputs: DatasetInput) -> list[Path]:
    """Return the records of an earlier run where only texts are regenerated from them."""
    if not arguments.writes_texts_only:
        return []
    labels = [participant.label for participant in inputs.participants]
    try:
        return _results_of(inputs, arguments.output_dir, labels)
    except InputError:
        if arguments.reports_only:
            raise
        return []


def write_dataset(
    arguments: Arguments,
    config: Config,
    inputs: DatasetInput,
    results: Sequence[Path] = (),
) -> None:
    """Write the dataset-level files; the methods text again once results say what was run.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.
    results
        Records of participants that were run: the text is of these, and of those in the folder
        that were analysed by the same system.
    """
    from bids_neurodecode.spaces import form_of

    if results:
        citation = citations_of(results_alike(results[0], arguments.output_dir))
    else:
        first = inputs.participants[0]
        system = None if arguments.level == 'full' else arguments.level
        form = form_of(first.runs[0].bold) if first.runs else None
        citation = citations(
            config, first.paradigm, list(inputs.derivatives), first.layout, system, form
        )
    write_dataset_files(
        arguments.output_dir,
        bids_dir=inputs.bids_dir,
        derivatives=inputs.derivatives,
        citation=citation,
    )


def _gather_stages(arguments: Arguments, run: RunSettings, labels: Sequence[str]) -> None:
    """Gather what each stage took into one table per participant, in the log of this run."""
    import json

    from bids_neurodecode.levels.participant import workflow_name

    for label in labels:
        folder = run.work_dir / 'bids_neurodecode_wf' / workflow_name(label)
        rows = [
            {'stage': file.parent.name, **json.loads(file.read_text('utf-8'))}
            for file in sorted(folder.glob('*/stage.json'))
        ]
        if rows:
            target = run.output_dir / f'sub-{label}' / 'log' / run.run_id / 'stages.tsv'
            table = pd.DataFrame(rows)
            write_tsv(target, table)
            if arguments.resource_monitor:
                LOGGER.info('sub-%s took:\n%s', label, table.to_string(index=False))


def _without_results(arguments: Arguments, output_dir: Path, found: set[str]) -> dict[str, str]:
    """Return the participants of the raw dataset that left no results."""
    asked = arguments.participant_label or tuple(
        folder.name.removeprefix('sub-')
        for folder in sorted(arguments.bids_dir.glob('sub-*'))
        if folder.is_dir()
    )
    return {
        label: f'no results in {output_dir}; run the participant level'
        for label in asked
        if label not in found
    }
