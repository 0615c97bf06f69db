"""Participants whom running again would not change: they are set aside before anything is read."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

from bids_neurodecode.bids.records import DatasetInput
from bids_neurodecode.bids.request import read_each
from bids_neurodecode.cli.checks_places import n_processors
from bids_neurodecode.cli.levels import options, run_settings, with_models
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config
from bids_neurodecode.errors import NeurodecodeError

LOGGER = logging.getLogger('bids_neurodecode')
AGAIN = 'sub-%s is run again: %s.'


def _never(arguments: Arguments) -> bool:
    """Whether all are run again, or none is run."""
    if arguments.study is not None or arguments.analysis_level == 'group':
        return True
    if arguments.dry_run or arguments.writes_texts_only:
        return True
    return bool(arguments.clean_workdir or arguments.write_graph)


def ended_before(arguments: Arguments) -> set[tuple[str, str]]:
    """Return labels and tasks of whom an earlier run ended well, and who may be set aside."""
    from bids_neurodecode.levels.unchanged import ended_in

    return set() if _never(arguments) else ended_in(arguments.work_dir)


def set_aside(arguments: Arguments, config: Config, inputs: DatasetInput) -> DatasetInput:
    """Move participants whose outputs are complete, and would come out the same, to ``unchanged``.

    Parameters
    ----------
    arguments, config
        The call and its settings.
    inputs
        Who would be run.
    """
    from bids_neurodecode.levels.participant import everyone_of
    from bids_neurodecode.levels.unchanged import why_again

    if _never(arguments):
        return inputs
    people = {person.label: person for person in inputs.participants}
    shared = run_settings(arguments, config, inputs, '')

    @cache
    def everyone() -> Path | None:
        return None if arguments.models_from else everyone_of(inputs.everyone, shared)

    def why(label: str) -> tuple[str | None]:
        try:
            run = with_models(shared, arguments, [people[label]])
            return (why_again(people[label], run, everyone, *options(arguments)),)
        except NeurodecodeError:  # what is wrong is said when it is looked for again
            return (None,)

    found, _ = read_each(people, why, arguments.nprocs or n_processors())
    reasons = {label: reason for label, (reason,) in zip(people, found, strict=True)}
    for label, reason in reasons.items():
        if reason:
            LOGGER.info(AGAIN, label, reason)
    unchanged = tuple(people[label] for label, reason in reasons.items() if reason == '')
    left = tuple(people[label] for label, reason in reasons.items() if reason != '')
    return replace(inputs, participants=left, unchanged=unchanged)
