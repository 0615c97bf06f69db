"""All checks that can be made before any work, in order: cheap ones first, nothing written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bids_neurodecode.bids.description import check_raw
from bids_neurodecode.bids.filters import read_filters
from bids_neurodecode.bids.layouts import MADE
from bids_neurodecode.bids.provenance import check_output
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.recipes import Recipe, note_of, recognise
from bids_neurodecode.bids.records import DatasetInput, ParticipantInput, RunInput
from bids_neurodecode.bids.request import Request, all_failed, n_copies, side_by_side
from bids_neurodecode.cli.checks_data import check_atlas, check_design, check_run_values
from bids_neurodecode.cli.checks_places import (
    check_machine,
    check_places,
    check_previous,
    check_room,
    n_processors,
)
from bids_neurodecode.cli.newstimuli import find_new_stimuli
from bids_neurodecode.cli.parser import Arguments
from bids_neurodecode.cli.systems import check_trained
from bids_neurodecode.cli.unchanged import ended_before, set_aside
from bids_neurodecode.cli.validation import Validator, validate_dataset
from bids_neurodecode.config import Config
from bids_neurodecode.errors import InputError, NeurodecodeError, ResourceError

READ_ONCE = 'Every series was read once and checked.'
READ_IN = 'Reading the series once took %.1f s'
_Read = tuple[str | None, tuple[str, ...]]
LOGGER = logging.getLogger('bids_neurodecode')
VALIDATED = 'The schema validator found no error in {folder}.'
NOT_VALIDATED = 'The raw dataset was not validated (--skip-bids-validation).'
INVALID_OTHERS = 'Not valid BIDS, but not asked for: {labels}.'


def check_all(arguments: Arguments, config: Config, made_dir: Path | None = None) -> DatasetInput:
    """Check everything before work starts, and find what will be read.

    Parameters
    ----------
    arguments
        The command line.
    config
        The settings.
    made_dir
        As in :func:`request_of`.

    Returns
    -------
    DatasetInput
        Participants that can be processed, and one line each for the others; apart from them those
        whom running again would not change. Without participants at group level, which reads the
        results of the participant level.

    Raises
    ------
    ArgumentsError, InputError, ResourceError
        One line: what is wrong, where, and the way out.
    """
    check_places(arguments)
    check_machine(arguments)
    check_output(arguments.output_dir)
    check_previous(arguments)
    request = request_of(arguments, config, made_dir)
    recipe = recognise(arguments.bids_dir, arguments.recipe)
    if arguments.analysis_level == 'group':
        if recipe is None or recipe.content.bids:
            check_raw(arguments.bids_dir)
        return DatasetInput(arguments.bids_dir, dict(arguments.derivatives), ())
    new = find_new_stimuli(arguments, config, request)
    if new is not None:
        new = set_aside(arguments, config, new)
        new = _validated(new, arguments, recipe) if new.participants else new
        return _keep(new, lambda person: check_trained(arguments, config, person))
    with Validator(arguments.bids_dir) as validator:
        return _check_raw(arguments, config, request, recipe, validator)


def _check_raw(
    arguments: Arguments,
    config: Config,
    request: Request,
    recipe: Recipe | None,
    validator: Validator,
) -> DatasetInput:
    """Find and check a dataset with series; the validator is at work meanwhile."""
    validates = _validates(arguments, recipe)
    folds = arguments.level == 'full' and arguments.mode == 'train'

    def design(person: ParticipantInput) -> tuple[str, ...]:
        return check_design(person, config, hold_out=folds)

    ended = ended_before(arguments)
    if validates and not ended:
        with suppress(ResourceError):  # said when all else is found
            validator.start()
    inputs = find_inputs(
        request,
        lambda person: None if (person.label, person.task) in ended else design(person),
    )
    if recipe is not None:
        note = note_of(recipe, arguments.task_id, config)
        inputs = replace(inputs, notes=(note, *inputs.notes))
    inputs = set_aside(arguments, config, inputs)
    if not inputs.participants:
        return inputs
    if validates:
        validator.start()
    n_notes = len(inputs.notes)
    n_processes = arguments.nprocs or n_processors()
    known = inputs.checked
    all_known = all(person.label in known for person in inputs.participants)
    inputs = _keep(
        inputs, lambda person: _told(known, design, person), 1 if all_known else n_processes
    )
    fetch = not arguments.dry_run
    inputs = _keep(inputs, lambda person: check_atlas(person, config.atlas, fetch=fetch))
    inputs = _keep(inputs, lambda person: check_trained(arguments, config, person))
    if not arguments.writes_texts_only:
        inputs = _with_values(inputs, config, n_processes)
        check_room(arguments, config, inputs.participants)
    first = replace(inputs, notes=inputs.notes[:n_notes])
    notes = _validated(first, arguments, recipe, validator).notes
    return replace(inputs, notes=(*notes, *inputs.notes[n_notes:]))


def request_of(arguments: Arguments, config: Config, made_dir: Path | None = None) -> Request:
    """Return what a call asks for of the dataset.

    Parameters
    ----------
    arguments
        Of the call.
    config
        Its settings.
    made_dir
        Where files are made that the dataset lacks; in the work folder if None.
    """
    filters = read_filters(arguments.bids_filter_file) if arguments.bids_filter_file else {}
    return Request(
        bids_dir=arguments.bids_dir,
        derivatives=arguments.derivatives,
        participants=arguments.participant_label,
        sessions=arguments.session_label,
        tasks=arguments.task_id,
        runs=arguments.run_label,
        space=arguments.space,
        filters=filters,
        database_dir=arguments.bids_database_dir,
        betas_from=config.betas.precomputed,
        features=config.features.table,
        table_rate=config.features.table_rate,
        stimuli_dir=arguments.stimuli_dir,
        keep_index=not arguments.dry_run,
        made_dir=made_dir or arguments.work_dir / MADE,
        recipe=arguments.recipe,
        mask=arguments.mask,
        events=config.events,
        split=config.split,
        conditions=config.conditions,
        system=config.system,
        needs_films=arguments.level != 'responses',
        processes=arguments.nprocs or n_processors(),
    )


def _validates(arguments: Arguments, recipe: Recipe | None) -> bool:
    """Whether the raw dataset is to be validated, and one that can be."""
    return not arguments.skip_bids_validation and (recipe is None or recipe.content.bids)


def _validated(
    inputs: DatasetInput,
    arguments: Arguments,
    recipe: Recipe | None,
    validator: Validator | None = None,
) -> DatasetInput:
    """Run the schema validator and say what it found.

    Nothing is refused for it: most of what it finds is in files and fields that are never read,
    and what is read was checked.
    """
    if arguments.skip_bids_validation:
        return replace(inputs, notes=(*inputs.notes, NOT_VALIDATED))
    if not _validates(arguments, recipe):
        return inputs
    invalid = validate_dataset(arguments.bids_dir, validator)
    asked = {person.label for person in inputs.everyone} | set(inputs.failures) | {''}
    others = [f'sub-{label}' for label in invalid if label not in asked]
    notes = [line for label, line in invalid.items() if label in asked]
    if others:
        notes.append(INVALID_OTHERS.format(labels=', '.join(others)))
    if not invalid:
        notes.append(VALIDATED.format(folder=arguments.bids_dir))
    return replace(inputs, notes=(*inputs.notes, *notes))


def _keep(
    inputs: DatasetInput,
    check: Callable[[ParticipantInput], Iterable[str]],
    processes: int = 1,
) -> DatasetInput:
    """Check each participant; who fails is set aside with the reason, notes are told once."""
    people = {person.label: person for person in inputs.participants}
    said = side_by_side([*people], lambda label: tuple(check(people[label])), processes)
    failures = {
        label: why for label, (_, why) in zip(people, said, strict=True) if why is not None
    }
    notes = dict.fromkeys(note for told, _ in said for note in told or ())
    kept = _without(inputs, failures)
    return replace(kept, notes=(*kept.notes, *notes))


def _told(
    known: Mapping[str, tuple[str, ...] | NeurodecodeError],
    check: Callable[[ParticipantInput], tuple[str, ...]],
    person: ParticipantInput,
) -> tuple[str, ...]:
    """Return what a check says of a participant, which may be known since they were found."""
    said = known.get(person.label)
    if isinstance(said, NeurodecodeError):
        raise said
    return check(person) if said is None else said


def _without(inputs: DatasetInput, failures: dict[str, str]) -> DatasetInput:
    """Move participants to the failures; an error if nobody is left."""
    together = {**inputs.failures, **failures}
    left = tuple(p for p in inputs.participants if p.label not in failures)
    if not left and not inputs.unchanged:
        raise InputError(all_failed(together))
    return replace(inputs, participants=left, failures=together)


def _with_values(inputs: DatasetInput, config: Config, n_at_once: int) -> DatasetInput:
    """Read all series once, several at a time."""
    people = {person.label: person for person in inputs.participants}
    percent, atlas = config.clean.scaling == 'psc', config.atlas.given

    def read(label: str, series: Callable[..., Iterable[_Read]] = map) -> Iterable[_Read]:
        cleaned = atlas or people[label].of_films
        return series(partial(_values, percent=percent and cleaned), people[label].runs)

    start = time.monotonic()
    # threads wait for each other where series are small
    if n_copies(len(people), n_at_once) == n_at_once:
        said = side_by_side([*people], lambda label: [*read(label)], n_at_once)
        found = {label: own or [] for label, (own, _) in zip(people, said, strict=True)}
    else:  # decompression releases the interpreter lock
        with ThreadPoolExecutor(n_at_once) as pool:  # all are asked for before any is awaited
            asked = {label: read(label, pool.map) for label in people}
            found = {label: [*own] for label, own in asked.items()}
    failures = {
        label: next(reason for reason, _ in own if reason is not None)
        for label, own in found.items()
        if any(reason is not None for reason, _ in own)
    }
    inputs = _without(inputs, failures)
    notes = dict.fromkeys(x for own in found.values() for _, passed in own for x in passed)
    # not a note: notes go into the report, which is the same whenever it is made
    LOGGER.debug(READ_IN, time.monotonic() - start)
    return replace(inputs, notes=(*inputs.notes, *notes, READ_ONCE))


def _values(run: RunInput, *, percent: bool) -> _Read:
    """Read a series; return why it cannot be used, and what is passed over in it."""
    try:
        return None, check_run_values(run, percent=percent)
    except InputError as error:
        return str(error), ()
