"""Settings of the events: how a dataset says what was shown, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bids_neurodecode.settings.base import Settings


def _texts(values: Any) -> Any:
    """Read one value for a list of one, and numbers as they are written."""
    if not isinstance(values, list | tuple):
        values = [values]
    plain = (str, int, float)
    return [str(v) if isinstance(v, plain) and not isinstance(v, bool) else v for v in values]


Rows = dict[str, Annotated[tuple[str, ...], BeforeValidator(_texts), Field(min_length=1)]]
"""Rows of the events, by the values of columns or entities."""


class EventSettings(Settings):
    """How the events say what was shown, where they do not say it in ``stim_file``."""

    stimulus_column: str | None = None
    """The column that names what was shown, with or without folders and extension. Left out:
    ``stim_file``, else the one column whose values are files below the folder of stimuli."""
    stimulus: str | None = None
    """A template of that name over columns of the events and entities of the run:
    ``"{image_path}"``, ``"{stimulus_name}.JPEG"``, ``"fg_av_ger_seg{run-1}.mkv"`` (``{run-1}`` and
    ``{run+1}`` count from another number, ``{run:02d}`` pads). Films whose name is in the
    entities need no events."""
    lookup: Path | None = None
    """A table (TSV, CSV) whose columns are added to the events, matched by the columns and
    entities that it shares with them: for events that give a number for each image."""
    duration: Annotated[float, Field(gt=0)] | str | None = None
    """Seconds that each stimulus lasted, or the column that says so, instead of ``duration``. Left
    out: 0 is an impulse, as in BIDS, and films last as long as their files."""
    film_onset: Annotated[float, Field(ge=0)] | str | None = None
    """Where in the film a row starts: seconds, the column that says so, or ``"continue"``: each
    run goes on where the one before it ended. Left out: at the beginning."""
    exclude: Rows = Field(default={})
    """Rows that are left out, by columns of the events or entities: those to which one of the
    columns gives one of its values, such as ``{trial_type = ["catch", "blank*"]}`` (``*`` stands
    for any text, ``n/a`` for a missing value)."""
