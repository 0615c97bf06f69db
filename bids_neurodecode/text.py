"""What is said in one line."""

from __future__ import annotations


def one_line(said: object) -> str:
    r"""Return what an error (or anything else) says, in one line; the kind of a silent error.

    Examples
    --------
    >>> one_line(ValueError('no such\n  voxel')), one_line(KeyError())
    ('no such voxel', 'KeyError')
    """
    return ' '.join(str(said).split()) or type(said).__name__
