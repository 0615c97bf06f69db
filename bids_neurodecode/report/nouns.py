"""What pages call the columns of responses: voxels, or vertices, grayordinates, parcels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from bids_neurodecode.report.build import Code, Links, Page, Plot, References, Table, Viewer
from bids_neurodecode.spaces import Form

T = TypeVar('T')

NOUNS: Mapping[Form, tuple[str, str]] = {
    'gifti': ('vertex', 'vertices'),
    'cifti': ('grayordinate', 'grayordinates'),
    'pcifti': ('parcel', 'parcels'),
    'parcels': ('parcel', 'parcels'),
}
"""One and several columns, where they are no voxels."""
_WORD = re.compile(r'\b(brain )?(mask)\b|\b([Vv])oxel(s?)\b')
_AS_IT_IS = (Code, Links, References, Viewer)


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
    >>> in_nouns('30 of 90 voxels (selection.min_voxels)', 'parcels')
    '30 of 90 parcels (selection.min_voxels)'
    """
    if form is None:
        return text

    def word(found: re.Match[str]) -> str:
        if found[2]:
            return found[2]
        noun = NOUNS[form][bool(found[4])]
        return noun.capitalize() if found[3] == 'V' else noun

    return _WORD.sub(word, text)


def page_in_nouns(page: Page, form: Form | None) -> Page:
    """Return a page whose texts, titles and figures call columns what they are.

    Names of files, settings and the cells of tables stay as they are.

    Parameters
    ----------
    page
        Of voxels.
    form
        Of the data; None: volumes.
    """
    return page if form is None else _reworded(page, partial(in_nouns, form=form))


def _reworded(value: T, word: Callable[[str], str]) -> T:
    found: Any = value
    if isinstance(value, str):
        found = word(value)
    elif isinstance(value, tuple):
        found = tuple(_reworded(each, word) for each in value)
    elif isinstance(value, Table):
        caption, columns = word(value.caption), _reworded(value.columns, word)
        found = dataclasses.replace(value, caption=caption, columns=columns)
    elif isinstance(value, Plot):
        from matplotlib.text import Text

        for label in value.figure.findobj(Text):
            label.set_text(word(label.get_text()))
        caption, alt = word(value.caption), word(value.alt)
        found = dataclasses.replace(value, caption=caption, alt=alt)
    elif dataclasses.is_dataclass(value) and not isinstance(value, (*_AS_IT_IS, type)):
        fields = (field.name for field in dataclasses.fields(value))
        found = dataclasses.replace(
            value, **{n: _reworded(getattr(value, n), word) for n in fields}
        )
    return cast(T, found)
