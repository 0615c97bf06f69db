"""What texts call the columns of responses: voxels, or vertices, grayordinates, parcels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from bids_neurodecode.spaces import Form

T = TypeVar('T')

NOUNS: Mapping[Form, tuple[str, str]] = {
    'gifti': ('vertex', 'vertices'),
    'cifti': ('grayordinate', 'grayordinates'),
    'pcifti': ('parcel', 'parcels'),
    'parcels': ('parcel', 'parcels'),
}
"""One and several columns, where they are no voxels."""
_WORD = re.compile(r'\b(brain )?(mask)\b|(?<!\.)\b([Vv])oxel(s?)\b(?!\.\w)')


def in_nouns(text: str, form: Form | None) -> str:
    """Return a text of voxels with what the columns of these data are called.

    Parameters
    ----------
    text
        Of voxels and the brain mask.
    form
        Of the data; None: volumes.

    Examples
    --------
    >>> in_nouns('A voxel. Voxels of the brain mask.', 'gifti')
    'A vertex. Vertices of the mask.'
    >>> in_nouns('30 of 90 voxels (selection.min_voxels, encoding.voxels)', 'parcels')
    '30 of 90 parcels (selection.min_voxels, encoding.voxels)'
    """
    if form is None:
        return text

    def word(found: re.Match[str]) -> str:
        if found[2]:
            return found[2]
        noun = NOUNS[form][bool(found[4])]
        return noun.capitalize() if found[3] == 'V' else noun

    return _WORD.sub(word, text)


def told_in_nouns(content: T, form: Form | None) -> T:
    """Return what a sidecar holds with all its texts so; keys stay, and so do sources.

    Parameters
    ----------
    content
        Of the sidecar, or a part of it.
    form
        Of the data; None: volumes.

    Examples
    --------
    >>> told_in_nouns({'n_voxels': {'Description': 'Voxels in it'}}, 'parcels')
    {'n_voxels': {'Description': 'Parcels in it'}}
    """
    found: Any = content
    if isinstance(content, str):
        found = in_nouns(content, form)
    elif isinstance(content, Mapping):
        found = {
            key: value if key == 'Sources' else told_in_nouns(value, form)
            for key, value in content.items()
        }
    elif isinstance(content, list | tuple):
        found = [told_in_nouns(value, form) for value in content]
    return cast(T, found)
