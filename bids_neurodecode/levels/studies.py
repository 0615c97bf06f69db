"""The graph of a study: all variants of a participant as one workflow, and what gathers them.

Each variant is a derivatives dataset of its own, ``OUT/studies/<study>/<variant>``, made by the
factory of the system as a run without a study makes it. Steps that variants share are run once
(:mod:`bids_neurodecode.workflow.sharing`). Gathering is a workflow of one node, run after the
others, so that a variant that failed keeps it from nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.levels.gathering import gather_study, study_folder
from bids_neurodecode.levels.participant import everyone_of, init_participant_wf, workflow_name
from bids_neurodecode.study import StudyPlan, Variant
from bids_neurodecode.workflow.nodes import Ladder, RunSettings
from bids_neurodecode.workflow.sharing import Shared, share

WORKFLOW = 'bids_neurodecode_study_wf'
GATHERING = 'bids_neurodecode_gather_wf'
NOTE = 'This is the variant {variant} of the study {study}'


def variant_run(run: RunSettings, plan: StudyPlan, variant: Variant) -> RunSettings:
    """Return the settings of a run of one variant: into its own derivatives dataset.

    Parameters
    ----------
    run
        Settings of the run.
    plan
        The study.
    variant
        Of the study.
    """
    note = NOTE.format(variant=variant.name, study=plan.name)
    return replace(
        run,
        config=variant.config,
        output_dir=study_folder(run.output_dir, plan) / variant.name,
        notes=(*run.notes, f'{note}: {plan.settings.title}.'),
    )


def init_study_wf(
    participants: Sequence[ParticipantInput],
    plan: StudyPlan,
    run: RunSettings,
    without: Collection[tuple[str, str]] = (),
) -> tuple[Any, dict[str, Shared]]:
    """Return the workflow of a study, and what its steps are used for, by participant.

    Parameters
    ----------
    participants, plan, run
        Who, what, and how.
    without
        Participants and variants that are left out.
    """
    from nipype.pipeline import engine as pe

    workflow = pe.Workflow(name=WORKFLOW, base_dir=str(run.work_dir))
    crashes = study_folder(run.output_dir, plan) / 'log' / run.run_id
    runs = {variant.name: variant_run(run, plan, variant) for variant in plan.variants}
    for name, own in runs.items():
        runs[name] = replace(own, everyone=everyone_of(participants, own))
    shared: dict[str, Shared] = {}
    for person in participants:
        graphs = {
            name: init_participant_wf(person, own)
            for name, own in runs.items()
            if (person.label, name) not in without
        }
        together = share(graphs, workflow_name(person.label))
        for name in together.workflow.list_node_names():
            node = together.workflow.get_node(name)
            node.config = {'execution': {'crashdump_dir': str(crashes)}}
        workflow.add_nodes([together.workflow])
        shared[person.label] = together
    return workflow, shared


def init_gather_wf(
    plan: StudyPlan,
    run: RunSettings,
    *,
    task: str,
    asked: Sequence[str],
    reasons: Mapping[str, str],
) -> Any:
    """Return the workflow that gathers a study; its one node is called ``report``.

    Parameters
    ----------
    plan, run, task
        What is gathered.
    asked
        Participants of this call. The node's folder is named after them: the tasks of a job array
        gather into one study from folders of their own.
    reasons
        See :func:`~bids_neurodecode.levels.gathering.collect`.
    """
    from nipype.pipeline import engine as pe

    digest = hashlib.sha256(' '.join(asked).encode()).hexdigest()[:12]
    workflow = pe.Workflow(name=GATHERING, base_dir=str(run.work_dir / f'gather_{digest}'))
    node = Ladder(workflow, run).add(
        gather_study,
        plan_json=plan.to_json(),
        task=task,
        asked=' '.join(asked),
        reasons=dict(reasons),
    )
    crashes = study_folder(run.output_dir, plan) / 'log' / run.run_id
    node.config = {'execution': {'crashdump_dir': str(crashes)}}
    return workflow
