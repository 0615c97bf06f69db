"""Processes that a run starts: none outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Let this process be killed when the one that started it ends (Linux).

    Parameters
    ----------
    parent
        Its process id. Where it ended before the kernel was asked, this process ends here: nobody
        would tell it, and a worker would wait for work for ever.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def run_module(
    module: str, folder: Path, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run ``python -m MODULE FOLDER PARENT`` in a folder; it finds what this process finds.

    Parameters
    ----------
    module
        Full name.
    folder
        Of the job.
    env
        Variables besides those of this process.
    **options
        Of :func:`subprocess.run`.
    """
    # whether it is installed or not
    found = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100
    variables = {**os.environ, **(env or {}), 'PYTHONPATH': found}
    command = [sys.executable, '-m', module, str(folder), str(os.getpid())]
    return subprocess.run(command, cwd=folder, env=variables, check=False, **options)
