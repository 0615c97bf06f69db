"""A step in a process of its own: ``python -m bids_neurodecode.workflow.apart FOLDER PARENT``."""

from __future__ import annotations

import sys
from pathlib import Path

from bids_neurodecode.workflow.files import save_json
from bids_neurodecode.workflow.process import MADE, Job, serve
from bids_neurodecode.workflow.step import find_step


def run_job(job: Job, folder: Path) -> None:
    """Run the step; what it made is written down last.

    Parameters
    ----------
    job
        Name of the step, inputs and the folder of checkpoints.
    folder
        That is written into.
    """
    made = find_step(job.step).call(job.inputs, folder, job.checkpoints)
    save_json(folder / MADE, made)


if __name__ == '__main__':
    sys.exit(serve(run_job))
