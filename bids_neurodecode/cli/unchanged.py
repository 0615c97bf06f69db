"""Participants whom running again would not change: they are set aside before anything is read."""

from __future__ import annotations

import logging
from dataclasses import replace

from bids_neurodecode.bids.records import DatasetInput, ParticipantInput
from bids_neurodecode.cli.levels import options, run_settings, with_models
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.config import Config
from bids_neurodecode.errors import NeurodecodeError

LOGGER = logging.getLogger('bids_neurodecode')
AGAIN = 'sub-%s is run again: %s.'


def set_aside(arguments: Arguments, config: Config, inputs: DatasetInput) -> DatasetInput:
    """Move participants whose outputs are complete, and would come out the same, to ``unchanged``.

    Parameters
    ----------
    arguments, config
        The call and its settings.
    inputs
        Who would be run.
    """
    from bids_neurodecode.levels.unchanged import why_again

    if arguments.study is not None or arguments.analysis_level == 'group':
        return inputs
    if arguments.dry_run or arguments.writes_texts_only:
        return inputs
    if arguments.clean_workdir or arguments.write_graph:
        return inputs
    unchanged: list[ParticipantInput] = []
    for person in inputs.participants:
        try:
            run = with_models(run_settings(arguments, config, inputs, ''), arguments, [person])
        except NeurodecodeError:  # said when the model is looked for again, with the way out
            continue
        reason = why_again(person, run, inputs.everyone, *options(arguments))
        if reason == '':
            unchanged.append(person)
        elif reason is not None:
            LOGGER.info(AGAIN, person.label, reason)
    left = tuple(person for person in inputs.participants if person not in unchanged)
    return replace(inputs, participants=left, unchanged=tuple(unchanged))
