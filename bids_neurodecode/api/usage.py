"""Errors of the library: they speak of arguments, where the program speaks of its settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from bids_neurodecode.errors import ArgumentsError, DataError

_SETTING = re.compile(
    r'\b(?:betas|selection|ridge|features|evaluation|clean|delay)\.(?=[a-z])(\w+)(?: = )?'
)
_EQUALS = re.compile(r'\b(?:betas|selection|ridge|features|evaluation|clean|delay)\.(\w+) = ')


class UsageError(ArgumentsError, ValueError):
    """An argument of a function of the library that cannot be used."""


@contextmanager
def speaking_of_arguments() -> Iterator[None]:
    """Turn what a computation refuses into a :class:`UsageError` that names arguments.

    Examples
    --------
    >>> from bids_neurodecode.errors import DataError
    >>> try:
    ...     with speaking_of_arguments():
    ...         raise DataError('Onsets fall between volumes. Set betas.off_grid = "resample".')
    ... except UsageError as error:
    ...     print(error)
    Onsets fall between volumes. Set off_grid="resample".
    """
    try:
        yield
    except UsageError:
        raise
    except (ArgumentsError, DataError) as error:
        raise UsageError(_SETTING.sub(r'\1', _EQUALS.sub(r'\1=', str(error)))) from error
