"""Settings of the conditions system: conditions (``trial_type``) decoded, encoded and compared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bids_neurodecode.settings.base import Name, Settings


class ConditionSettings(Settings):
    """Conditions without stimulus files: classified, predicted, and compared with each other."""

    include: tuple[Name, ...] = ()
    """Values of ``trial_type`` that are conditions (``*`` stands for any text). Left out: all that
    are not named as rest (rest, fixation, baseline, null, blank, ...); ``events.exclude`` leaves
    others out."""
    blocks: Literal['auto', 'merge', 'rows'] = 'auto'
    """What a trial is: each row of the events (``rows``), or rows of one condition that follow
    each other closely together (``merge``). ``auto``: ``merge`` where at least half of such
    sequences have three rows or more, as in block designs whose events list each item."""
    block_gap: Annotated[float, Field(ge=0)] = 4.0
    """Seconds from the end of a row to the beginning of the next within one block, at most."""
    min_voxels: Annotated[int, Field(ge=2)] = 10
    """Regions of the atlas with fewer voxels in the mask are not decoded."""
    searchlight: Annotated[float, Field(gt=0)] | None = None
    """Radius (mm) of searchlights; left out, there are none: they take minutes to hours."""
