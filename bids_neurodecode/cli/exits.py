"""Exit codes, decided in one place."""

from __future__ import annotations

import os
import sys

from bids_neurodecode.errors import (
    ArgumentsError,
    InputError,
    NeurodecodeError,
    ReportError,
    ResourceError,
)

OK = 0
FAILED = 1
"""Some participant or node failed; the others' outputs are complete."""
USAGE = 2
"""Bad arguments or bad input, found before work started."""
NO_REPORT = 3
"""Finished, but a report could not be made."""
INTERRUPTED = 130
"""Interrupted; what is done is kept, and the same command resumes."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error that ends a run.

    Parameters
    ----------
    error
        One of the program's own errors, or an interruption.

    Raises
    ------
    BaseException
        ``error`` itself, if it is a bug: its traceback should be seen.

    Examples
    --------
    >>> exit_code(InputError('no such file'))
    2
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, ArgumentsError | InputError | ResourceError):
        return USAGE
    if isinstance(error, ReportError):
        return NO_REPORT
    if isinstance(error, NeurodecodeError):
        return FAILED
    raise error


def reader_is_gone() -> int:
    """Let the interpreter end in peace where what reads the output has ended (``| head``)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK
