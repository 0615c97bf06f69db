"""A node's work in a process of its own.

Such a process gives its memory back, may use its own device (CUDA and forked workers do not mix),
and leaves checkpoints that the next one goes on from. It is started as ``python -m MODULE
FOLDER PARENT`` (a process id); the folder holds ``job.json``, and what is made is written beside
it, ``made.json`` last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_neurodecode import errors
from bids_neurodecode.processes import run_module
from bids_neurodecode.workflow.files import read_record

TRACEBACK = 'traceback.txt'
"""Where an error of the program is written, in the folder of the job."""
MADE = 'made.json'
"""What the process made, by name; written last."""

KILLED = (
    'The {what} of sub-{label} was killed (signal {signal}), most often for want of memory: '
    '{remedy}. The same command goes on from the last checkpoint.'
)
BROKEN = (
    'The {what} of sub-{label} failed with an error of the program (status {status}); its '
    'traceback is in {file}.'
)


@dataclass(frozen=True)
class Job:
    """A step, by the name that finds it, what it takes, and its folder of checkpoints."""

    step: str
    checkpoints: Path
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a job: the kind of error, and what it says."""

    kind: str
    message: str


def run_in_process(folder: Path, module: str, *, what: str, label: str, remedy: str) -> Path:
    """Run the job of a folder in a process of its own; return the file that it writes last.

    Parameters
    ----------
    folder
        Holds ``job.json``.
    module
        Full name of the module whose ``__main__`` calls :func:`serve`.
    what, label, remedy
        For the messages: ``training of the movie network``, the participant, and what to do where
        the process was killed.

    Raises
    ------
    NeurodecodeError
        What the process found wrong; a ``ResourceError`` where it was killed.
    RuntimeError
        If it failed with an error of the program.
    """
    done = run_module(module, folder)
    if (folder / 'error.json').exists():
        error = read_record(Wrong, folder / 'error.json')
        raise getattr(errors, error.kind)(error.message)
    if done.returncode < 0:
        signal_number = -done.returncode
        raise errors.ResourceError(
            KILLED.format(what=what, label=label, signal=signal_number, remedy=remedy)
        )
    if done.returncode != 0 or not (folder / MADE).is_file():
        file = folder / TRACEBACK
        raise RuntimeError(
            BROKEN.format(what=what, label=label, status=done.returncode, file=file)
        )
    return folder / MADE


def content_key(words: Iterable[str], files: Iterable[str]) -> str:
    """Return a hash of words and of the content of files.

    Parameters
    ----------
    words
        Texts that count.
    files
        Whose content counts.
    """
    digest = hashlib.sha256('\n'.join(words).encode())
    for file in files:
        with Path(file).open('rb') as stream:
            digest.update(hashlib.file_digest(stream, 'sha256').digest())
    return digest.hexdigest()[:16]
