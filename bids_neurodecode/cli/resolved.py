"""What a dry run can say for sure: what each ``auto`` becomes, and the steps with their needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.cli.checks_places import device_of, disk_needed
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config
from bids_neurodecode.extensions import said_by, system_named
from bids_neurodecode.text import coarse

ROUGH = (
    'very roughly {time} on {n} CPU{s} (scaled from the simulated dataset; it can be ten times '
    'less or more); a run says how much is left'
)
CHOSEN_WITHIN = 'B, C or D, chosen within the training trials of each fold'
REFERENCE_GB = 0.005
"""Masked series of a simulated participant, from which seconds are scaled."""


def resolved(arguments: Arguments, config: Config, inputs: DatasetInput) -> list[str]:
    """Return what each setting that is ``auto`` becomes, one line each.

    Parameters
    ----------
    arguments, config
        The call and its settings.
    inputs
        Participants that will be processed; what differs between them is said of the first.
    """
    from bids_neurodecode.cli.systems import asked_of
    from bids_neurodecode.systems.steps.records import system_of

    lines = []
    device = device_of(arguments.device)
    if arguments.device == 'auto':
        lines.append(f'--device: {device}')
    first = {person.paradigm: person for person in reversed(inputs.participants)}
    for paradigm, person in first.items():
        system = system_of(config, person.paradigm)
        if config.system == 'auto':
            lines.append(f'system: {system} (task {person.task})')
        if arguments.mode != 'train':
            continue
        people = [each for each in inputs.participants if each.paradigm == paradigm]
        if (tell := system_named(system).resolved) is not None:
            lines += tell(asked_of(arguments, config, inputs, people, {}))
        if person.paradigm == 'images' and person.runs and person.betas_events is None:
            lines += _of_trials(config, person, system)
    return lines


def _of_trials(config: Config, person: ParticipantInput, system: str) -> Iterator[str]:
    """Say how trials will be split, and by which model their betas are estimated."""
    from bids_neurodecode.bids.splitfile import add_parts
    from bids_neurodecode.bids.trials import trials_table
    from bids_neurodecode.systems.protocol import choose_split, with_content
    from bids_neurodecode.systems.steps.betas import repeats_over_runs, resolve_model
    from bids_neurodecode.systems.steps.plan import content_of

    if config.split.by == 'cluster':  # features decide; they are not made here
        return
    table = add_parts(trials_table(person.runs), config.split.file, config.split.name)
    table = with_content(table, content_of(person))
    split, why = choose_split(table, config.split, config.seed)
    if config.split.by == 'auto':
        yield f'split.by: {split.by} ({split.protocol}, {len(split.folds)} folds): {why}'
    rows = np.arange(len(table))
    training = [np.isin(rows, fold.train) for fold in split.folds]
    if config.selection.measure == 'auto' and said_by(system).scores == 'decoded':
        repeated = all(repeats_over_runs(table[chosen]) for chosen in training)
        yield f'selection.measure: {"ncsnr" if repeated else "prediction"} (training trials only)'
    if config.betas.model == 'auto' and config.betas.precomputed is None:
        model, notes = resolve_model(config.betas, table, training)
        told = CHOSEN_WITHIN if model == 'auto' else f'{model}. {" ".join(notes)}'
        yield f'betas.model: {told}'


def steps_of(arguments: Arguments, config: Config, inputs: DatasetInput) -> list[str]:
    """Return the steps of a participant, the memory that they ask for, and about how long.

    The graph is built as a run builds it, below a folder that is removed again.

    Parameters
    ----------
    arguments, config
        Of the call, and its settings.
    inputs
        What the dataset holds.
    """
    from bids_neurodecode.cli.environment import configure_nipype
    from bids_neurodecode.cli.levels import plugin_of, run_settings
    from bids_neurodecode.cli.systems import find_model
    from bids_neurodecode.levels.participant import init_run_wf, workflow_name
    from bids_neurodecode.workflow.nodes import cost_of
    from bids_neurodecode.workflow.resources import data_size

    run = run_settings(arguments, config, inputs, 'dry')
    if arguments.models_from is not None:
        models = {
            p.label: find_model(arguments.models_from, p, config.system)
            for p in inputs.participants
        }
        run = replace(run, models=models)
    with tempfile.TemporaryDirectory() as folder:
        configure_nipype(Path(folder) / 'nipype', level='CRITICAL')
        workflow = init_run_wf(inputs.participants, replace(run, work_dir=Path(folder)))
        names = workflow.list_node_names()
        nodes = [workflow.get_node(name) for name in names]
    plugin = plugin_of(arguments).arguments
    n_procs = int(plugin.get('n_procs', 1))
    each = _memory(names, nodes)
    largest = max(each.values())
    parallel = sorted((node.mem_gb for node in nodes), reverse=True)[:n_procs]
    limit = float(plugin.get('memory_gb', 'inf'))
    together = min(sum(parallel), max(limit, largest))
    scale = {
        workflow_name(person.label): max(1.0, data_size(person).series_gb / REFERENCE_GB)
        for person in inputs.participants
    }
    seconds = [
        cost_of(node) * scale.get(name.split('.')[0], 1.0)
        for name, node in zip(names, nodes, strict=True)
    ]
    width = min(n_procs, len(inputs.participants))
    time = coarse(sum(seconds) / width)
    steps = ', '.join(f'{step} ({memory:.1f} GB)' for step, memory in each.items())
    lines = [f'{len(names)} steps: {steps}']
    lines.append(f'memory: {largest:.1f} GB for the largest step, up to {together:.1f} GB at once')
    in_output, in_work = disk_needed(inputs.participants)
    lines.append(f'disk: about {in_output:.2f} GB of results, {in_work:.2f} GB in the work folder')
    lines.append(f'time: {ROUGH.format(time=time, n=n_procs, s="s" * (n_procs > 1))}')
    return lines


def _memory(names: list[str], nodes: list[Any]) -> dict[str, float]:
    """Return, by the name of a step, the most memory (GB) that it asks for in any participant."""
    memory: dict[str, float] = {}
    for name, node in zip(names, nodes, strict=True):
        step = name.rsplit('.', 1)[-1]
        memory[step] = max(memory.get(step, 0.0), float(node.mem_gb))
    return memory
