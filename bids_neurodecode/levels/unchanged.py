"""Whether running a participant again would change nothing, as nothing has changed since.

What a run was given is a hash of its graph: settings, versions, and the names, sizes and times of
change of files. What it left is a list of files. Both are kept in the work folder, so that without
it, or with another one, everything is run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bids_neurodecode.bids.anatomy import anatomical_image, place_of, tissue_file
from bids_neurodecode.bids.entities import parse_entities
from bids_neurodecode.bids.provenance import software_versions
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.sink import BEGUN, write_json
from bids_neurodecode.bids.writer import products_of
from bids_neurodecode.errors import NeurodecodeError
from bids_neurodecode.levels.participant import init_participant_wf, notes_of, workflow_name
from bids_neurodecode.report.reader import page_file
from bids_neurodecode.workflow.nodes import Call, RunSettings
from bids_neurodecode.workflow.step import Step

OTHER_SETTINGS = 'its settings changed'
OTHER_INPUTS = 'what it reads, the options or the versions of the software changed'
MISSING = 'its output {file} is missing'
ALTERED = 'its output {file} was altered'
CHUNK = 1 << 22
"""Bytes that are read at a time."""


class _Record(BaseModel):
    settings: str
    key: str
    files: dict[str, tuple[int, int, str]]


def keys_of(
    workflow: Any, participants: Sequence[ParticipantInput], run: RunSettings, *more: str
) -> dict[str, str]:
    """Return a hash of all that a run of each participant is given, by label.

    Parameters
    ----------
    workflow
        That is run, of all of them.
    participants
        Who is run.
    run
        With which settings; its notes and its number are no part of the hash.
    *more
        What else the outputs depend on.
    """
    versions = _versions(more)
    return {
        person.label: _key(
            workflow.get_node(workflow_name(person.label)),
            person,
            notes_of(person.label, run.notes),
            versions,
        )
        for person in participants
    }


def _versions(more: Sequence[str]) -> str:
    return json.dumps([software_versions(), *more], sort_keys=True)


def _key(workflow: Any, participant: ParticipantInput, notes: Sequence[str], versions: str) -> str:
    """Return the hash of one participant's graph, which begins with some notes of the call."""
    digest = hashlib.sha256(versions.encode())
    looked: dict[tuple[Path | None, str | None], tuple[Path | None, ...]] = {}
    for each in participant.runs:
        # the page alone reads these, which are looked for once a space
        place = place_of(each.bold)
        if place not in looked:
            looked[place] = (tissue_file(each.bold), anatomical_image(each.bold))
        for file in looked[place]:
            state = None if file is None else file.stat()
            digest.update(f'{file} {state and (state.st_size, state.st_mtime_ns)}\n'.encode())
    for name in sorted(workflow.list_node_names()):
        node = workflow.get_node(name)
        with _without_call(node, len(notes)):
            _, given = node.inputs.get_hashval(hash_method='timestamp')
        digest.update(f'{name} {given}\n'.encode())
    return digest.hexdigest()


@contextmanager
def _without_call(node: Any, n_notes: int) -> Iterator[None]:
    """Let a node know nothing of the call that runs it: its number, and its first notes."""
    step = getattr(node.interface, 'step', None)
    parameters = step.parameters if isinstance(step, Step) else ()
    given = {p.name: getattr(node.inputs, p.name) for p in parameters if p.kind is Call}
    for name, text in given.items():
        call = Call.from_json(text)
        call = replace(call, run_id='', notes=call.notes[n_notes:])
        setattr(node.inputs, name, call.to_json())
    yield
    for name, text in given.items():
        setattr(node.inputs, name, text)


def why_again(
    participant: ParticipantInput,
    run: RunSettings,
    everyone: Callable[[], Path | None],
    *more: str,
) -> str | None:
    """Return why a participant has to be run again.

    Parameters
    ----------
    participant, run, *more
        As for :func:`keys_of`.
    everyone
        Returns the file of all participants of the call, with whom this one may be compared (see
        :func:`~bids_neurodecode.levels.participant.everyone_of`).

    Returns
    -------
    str or None
        The reason, empty where there is none; None where no earlier run ended well.
    """
    file = _record(participant, run.work_dir)
    if not file.is_file():
        return None
    try:
        record = _Record.model_validate_json(file.read_bytes())
    except ValueError:
        return None  # damaged with its file system
    # the graph of other settings is not built, as they were not checked yet
    if record.settings != run.config.model_dump_json():
        return OTHER_SETTINGS
    try:
        same = replace(run, notes=(), everyone=everyone())
        key = _key(init_participant_wf(participant, same), participant, (), _versions(more))
    except (NeurodecodeError, OSError):
        return OTHER_INPUTS
    if record.key != key:
        return OTHER_INPUTS
    return _damage(run.output_dir, record.files)


def _damage(output_dir: Path, files: Mapping[str, tuple[int, int, str]]) -> str:
    """Return which of some outputs is no longer as it was left; nothing if all are."""
    for name, (size, changed, digest) in files.items():
        output = output_dir / name
        if not output.is_file():
            return MISSING.format(file=output)
        state = output.stat()
        # a copied dataset has other times, and a page gets links to pages that were added
        if (state.st_size, state.st_mtime_ns) != (size, changed) and _digest(output) != digest:
            return ALTERED.format(file=output)
    return ''


def remember(participant: ParticipantInput, run: RunSettings, key: str) -> None:
    """Keep what a run that ended well was given, and the state of what it left.

    Parameters
    ----------
    participant
        Whose data.
    run
        Settings of the run.
    key
        What the run was given.
    """
    files: dict[str, Any] = {}
    for file in sorted(set(_outputs(participant, run))):
        state = file.stat()
        name = file.relative_to(run.output_dir).as_posix()
        files[name] = (state.st_size, state.st_mtime_ns, _digest(file))
    content = {'settings': run.config.model_dump_json(), 'key': key, 'files': files}
    write_json(_record(participant, run.work_dir), content)


def ended_in(work_dir: Path) -> set[tuple[str, str]]:
    """Return participants and tasks of whom runs ended well, in any folder of a work folder."""
    found = map(parse_entities, work_dir.glob('*/ended/*.json'))
    return {(own.get('sub', ''), own.get('task', '')) for own in found}


def forget(participant: ParticipantInput, work_dir: Path) -> None:
    """Remove that, as the outputs are about to be written again.

    Parameters
    ----------
    participant
        Whose data.
    work_dir
        Of the run.
    """
    _record(participant, work_dir).unlink(missing_ok=True)


def _record(participant: ParticipantInput, work_dir: Path) -> Path:
    return work_dir / 'ended' / f'sub-{participant.label}_task-{participant.task}.json'


def _outputs(participant: ParticipantInput, run: RunSettings) -> Iterator[Path]:
    """Yield all files that a run of a participant left."""
    label, task, root = participant.label, participant.task, run.output_dir
    folder = root / f'sub-{label}'
    yield from (root / name for name in products_of(root, label, task))
    page = page_file(root, label, task)
    if page is not None:
        yield page
    places = (
        (folder, f'*_task-{task}_*'),
        (folder / 'log' / run.run_id, '*'),
        (root / 'stimuli' / f'sub-{label}' / f'task-{task}', '*'),
    )
    for place, pattern in places:
        files = (file for file in place.rglob(pattern) if file.is_file())
        yield from (file for file in files if not file.name.startswith(BEGUN))


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file; links between pages are no part of a page."""
    from bids_neurodecode.report.build import unlinked

    if file.suffix == '.html':
        text = file.read_text('utf-8', errors='replace')  # an altered page may hold anything
        return hashlib.sha256(unlinked(text).encode()).hexdigest()
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
