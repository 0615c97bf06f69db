"""What can go wrong, as one family of exceptions.

Each error says what is wrong, in which file, and what to do about it, in one line. ``cli`` turns
the family into exit codes; anything outside of it is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bids_neurodecode.text import one_line

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk, or a quota, that is full."""


LONGEST = 2000
"""Characters of a message: what lists names may meet a hundred thousand of them."""


BROKEN_TEXT = (OSError, ValueError, RecursionError)
"""What JSON or TOML raises that cannot be read: no file, no text, no such format, or too deep."""


class NeurodecodeError(Exception):
    """Base of every error that the program raises on purpose."""

    def __str__(self) -> str:
        said = super().__str__()
        if len(said) <= LONGEST:
            return said
        # the way out stands at the end
        return f'{said[: LONGEST // 2]} ... {said[-LONGEST // 2 :]}'


class ArgumentsError(NeurodecodeError):
    """An argument, a configuration or a filter that cannot be used (exit code 2)."""


class UsageError(ArgumentsError, ValueError):
    """An argument of a function of the library that cannot be used (exit code 2)."""


class InputError(NeurodecodeError):
    """A dataset or file that cannot be used, found before work starts (exit code 2)."""


class DataError(NeurodecodeError):
    """Arrays or files that a computation cannot use, found while it runs (exit code 1)."""


class ResourceError(NeurodecodeError):
    """Too little disk or memory, or a device that is not there (exit code 2)."""


class ReportError(NeurodecodeError):
    """A report that could not be made although the results were (exit code 3)."""


class NeurodecodeWarning(UserWarning):
    """Something that the user should know and that the report repeats."""


@contextmanager
def raised_as(
    kind: type[NeurodecodeError],
    message: str,
    *caught: type[BaseException],
    **told: object,
) -> Iterator[None]:
    """Raise some errors of what is done within as one of the program's, in one line.

    Parameters
    ----------
    kind
        The error of the program.
    message
        Its text, with fields in braces: ``reason`` is what the error said.
    *caught
        The errors that are raised so.
    **told
        The other fields.

    Examples
    --------
    >>> with raised_as(InputError, '{file} cannot be read: {reason}.', OSError, file='a.tsv'):
    ...     raise OSError('no such  file')
    Traceback (most recent call last):
    ...
    bids_neurodecode.errors.InputError: a.tsv cannot be read: no such file.
    """
    try:
        yield
    except caught as error:
        raise kind(message.format(reason=one_line(error), **told)) from error


@contextmanager
def retold(kind: type[Exception], *caught: type[Exception]) -> Iterator[None]:
    """Raise some errors of what is done within as another one that says the same.

    Parameters
    ----------
    kind
        The other one.
    *caught
        The errors that are raised so.
    """
    try:
        yield
    except caught as error:
        raise kind(str(error)) from error
