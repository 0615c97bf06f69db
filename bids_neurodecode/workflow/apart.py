"""A step in a process of its own: ``python -m bids_neurodecode.workflow.apart FOLDER PARENT``."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType

from bids_neurodecode import errors
from bids_neurodecode.processes import die_with
from bids_neurodecode.workflow.files import read_record, save_json
from bids_neurodecode.workflow.process import MADE, TRACEBACK, Job, Wrong
from bids_neurodecode.workflow.step import find_step


def main() -> int:
    """Run the step of the folder that the command line names first; return the exit status.

    What is wrong with the job goes into ``error.json``; the traceback of any other error is kept.
    The process dies with the one that started it (Linux), whose id comes second.
    """
    folder = Path(sys.argv[1])
    sys.excepthook = functools.partial(_keep_traceback, folder)
    die_with(int(sys.argv[2]))
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', datefmt='%H:%M:%S')
    try:
        job = read_record(Job, folder / 'job.json')
        made = find_step(job.step).call(job.inputs, folder, job.checkpoints)
        # written last
        save_json(folder / MADE, made)
    except errors.NeurodecodeError as error:
        save_json(folder / 'error.json', Wrong(_kind_of(error), str(error)))
        return 1
    return 0


def _kind_of(error: errors.NeurodecodeError) -> str:
    """Return the name of an error's class, or of the nearest one that the parent knows."""
    own = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return next(own)


def _keep_traceback(
    folder: Path,
    kind: type[BaseException],
    error: BaseException,
    where: TracebackType | None,
) -> None:
    lines = traceback.format_exception(kind, error, where)
    (folder / TRACEBACK).write_text(''.join(lines), encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())
