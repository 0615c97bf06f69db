"""Layouts in which datasets are published that are not BIDS with fMRIPrep's derivatives.

What such a layout lacks and the program needs as a file (a table of trials, a mask) is made in the
work folder; nothing is written into the dataset.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MADE = 'layout'
"""Folder in the work folder where such files are made."""
NO_PLACE = (
    'The layout of {folder} needs files that it does not hold, and no work folder is given to '
    'make them in. Give one.'
)


def keep_table(folder: Path | None, name: str, table: pd.DataFrame, dataset: Path) -> Path:
    """Write a table that the dataset lacks; one of the same content is left as it is.

    Parameters
    ----------
    folder
        Where such files are made.
    name
        Of the file; the folder it is put in is named by its content, so that two calls with
        other choices do not meet.
    table
        What is written.
    dataset
        Named in errors.

    Raises
    ------
    InputError
        If there is no folder.
    """
    if folder is None:
        raise InputError(NO_PLACE.format(folder=dataset))
    text = table.to_csv(
        None, sep='\t', index=False, na_rep='n/a', float_format='%.9g', lineterminator='\n'
    )
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:12] / name
    if not path.exists():
        write_text(path, text)
    return path
