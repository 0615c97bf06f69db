"""What is said in one line."""

from __future__ import annotations

from collections.abc import Sequence


def span_of(values: Sequence[float], unit: str = '') -> str:
    """Write values as one where they are equal, else from the least to the greatest.

    Parameters
    ----------
    values
        At least one.
    unit
        That follows.

    Examples
    --------
    >>> span_of([6, 6]), span_of([2.0, 1.5], ' s')
    ('6', '1.5 to 2 s')
    """
    low, high = (f'{value:.12g}' for value in (min(values), max(values)))
    return f'{low}{unit}' if low == high else f'{low} to {high}{unit}'


def one_line(said: object) -> str:
    r"""Return what an error (or anything else) says, in one line; the kind of a silent error.

    Examples
    --------
    >>> one_line(ValueError('no such\n  voxel')), one_line(KeyError())
    ('no such voxel', 'KeyError')
    """
    return ' '.join(str(said).split()) or type(said).__name__
