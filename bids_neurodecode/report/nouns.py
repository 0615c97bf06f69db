"""Pages call the columns of responses what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.report.build import Code, Links, Page, Plot, References, Table, Viewer
from bids_neurodecode.spaces import Form

T = TypeVar('T')

_AS_IT_IS = (Code, Links, References, Viewer)


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
