"""NSD's captions: five people's descriptions of each image, from COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.layouts import keep_table
from bids_neurodecode.bids.nsd_design import picture_name
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.text import one_line

PLACES = ('', 'nsddata/experiments/nsd', 'nsddata_stimuli/stimuli/nsd')
ARRAY = 'COCO_73k_annots_curated.npy'
TABLE = 'captions.tsv'

PICKLED = (
    '{file} holds Python objects, which can run any code when they are read, and is not read. '
    'If you trust it, convert it: numpy.save(NEW, numpy.load(OLD, allow_pickle=True).astype(str)).'
)
BAD_ARRAY = (
    'Cannot read the captions {file}: {reason}. It must be text of shape (images, captions), '
    'one row per image of nsd_stimuli.hdf5.'
)
BAD_TABLE = 'The captions {file} lack the column {column!r}. It needs stim_file and caption.'
NO_CAPTION = (
    'The captions {file} have none for {name} and {n} more. Add them, or take the file away.'
)


def find_captions(root: Path) -> Path | None:
    """Return the file of captions, if there is one: a table wins over the array."""
    files = [root / place / name for name in (TABLE, ARRAY) for place in PLACES]
    there = (file for file in files if file.is_file() or file.is_symlink())
    return next(there, None)


def keep_captions(
    folder: Path | None,
    label: str,
    file: Path,
    captions: Mapping[str, Sequence[str]],
    names: Sequence[str],
    dataset: Path,
) -> Path:
    """Write the captions of a participant's images as a table; a table is taken as it is.

    Parameters
    ----------
    folder
        Where the table is made.
    label
        Of the participant.
    file, captions
        What :func:`read_captions` read.
    names
        Of the participant's images.
    dataset
        Named in errors.

    Raises
    ------
    InputError
        If an image has none.
    """
    missing = [name for name in names if not captions.get(name)]
    if missing:
        raise InputError(NO_CAPTION.format(file=file, name=missing[0], n=len(missing) - 1))
    if file.suffix == '.tsv':
        return file

    rows = [(name, caption) for name in names for caption in captions[name]]
    table = pd.DataFrame(rows, columns=['stim_file', 'caption'])
    return keep_table(folder, f'sub-{label}_captions.tsv', table, dataset)


def read_captions(file: Path) -> dict[str, tuple[str, ...]]:
    """Read captions by the name of their image.

    Parameters
    ----------
    file
        A table with ``stim_file`` and ``caption``, several rows an image; or the array
        ``COCO_73k_annots_curated.npy`` of fixed-width text, (images, captions), whose rows are
        those of ``nsd_stimuli.hdf5`` and whose empty entries are left out.

    Raises
    ------
    InputError
        If it cannot be read, or holds Python objects.
    """
    if file.suffix == '.tsv':
        table = read_table(file)
        for column in ('stim_file', 'caption'):
            if column not in table.columns:
                raise InputError(BAD_TABLE.format(file=file, column=column))
        known = table.dropna(subset=['stim_file', 'caption'])
        groups = known.groupby('stim_file', sort=False)['caption']
        return {str(name): tuple(map(one_line, rows)) for name, rows in groups}
    return {
        picture_name(number): tuple(one_line(x) for x in row if x.strip())
        for number, row in enumerate(_read_array(file), 1)
    }


def _read_array(file: Path) -> npt.NDArray[np.str_]:
    check_fetched(file)
    try:
        array: npt.NDArray[np.str_] = np.load(file, allow_pickle=False, mmap_mode='r')
    except ValueError as error:
        if 'Python objects' in str(error) or 'Object arrays' in str(error):
            raise InputError(PICKLED.format(file=file)) from error
        reason = one_line(error)
        raise InputError(BAD_ARRAY.format(file=file, reason=reason)) from error
    except (OSError, EOFError) as error:
        reason = one_line(error)
        raise InputError(BAD_ARRAY.format(file=file, reason=reason)) from error
    if array.ndim != 2 or array.dtype.kind != 'U':
        reason = f'it is {array.dtype} of shape {array.shape}'
        raise InputError(BAD_ARRAY.format(file=file, reason=reason))
    return array
