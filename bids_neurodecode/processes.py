"""Processes that a run starts: none outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

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
