"""Captions of images: ``stimuli/captions.tsv``, for features that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.fetched import check_fetched

CAPTIONS = 'captions.tsv'
"""In ``stimuli/``: columns ``stim_file`` and ``caption``; an image may have several rows."""

NO_CAPTIONS = (
    'There are no captions {file}. Add a table with the columns stim_file and caption, or choose '
    'features that read none.'
)
NO_COLUMN = 'The captions {file} lack the column {column!r}. It needs stim_file and caption.'
NOT_CAPTIONED = (
    '{n} of the {total} images shown have no caption in {file} (first: {first}). Add them.'
)


def captions_file(participant: ParticipantInput) -> Path:
    """Return where the captions of a participant's images are."""
    return participant.captions or participant.stimuli_dir / CAPTIONS


def read_captions(file: Path) -> dict[str, tuple[str, ...]]:
    """Read a table of captions.

    Returns
    -------
    dict
        Name of the image, relative to the folder, to its captions in their order.

    Raises
    ------
    InputError
        If there is no such table, or it lacks a column.
    """
    check_fetched(file)
    if not file.is_file():
        raise InputError(NO_CAPTIONS.format(file=file))
    table = read_table(file)
    for column in ('stim_file', 'caption'):
        if column not in table.columns:
            raise InputError(NO_COLUMN.format(file=file, column=column))
    found: dict[str, tuple[str, ...]] = {}
    for name, text in table[['stim_file', 'caption']].dropna().itertuples(index=False):
        found[str(name)] = (*found.get(str(name), ()), str(text).strip())
    return found


def captions_of(participant: ParticipantInput) -> Mapping[str, tuple[str, ...]]:
    """Return the captions of each of a participant's images; none where there is no table."""
    file = captions_file(participant)
    return _of(read_captions(file), participant.stimuli) if file.is_file() else {}


def first_captions(participant: ParticipantInput) -> Mapping[str, str]:
    """Return the first caption of each of a participant's images.

    Raises
    ------
    InputError
        If one has none.
    """
    file, names = captions_file(participant), participant.stimuli
    known = _of(read_captions(file), names)
    missing = [name for name in names if not any(known.get(name, ()))]
    if missing:
        raise InputError(
            NOT_CAPTIONED.format(n=len(missing), total=len(names), file=file, first=missing[0])
        )
    return {name: known[name][0] for name in names}


def _of(
    captions: Mapping[str, tuple[str, ...]], names: Sequence[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return the captions of each image: by its path, else by the only one of its file name."""
    by_name: dict[str, list[str]] = {}
    for named in captions:
        by_name.setdefault(PurePosixPath(named).name, []).append(named)
    found = {}
    for name in names:
        alike = by_name.get(PurePosixPath(name).name, [])
        if name in captions or len(alike) == 1:
            found[name] = captions[name if name in captions else alike[0]]
    return found
