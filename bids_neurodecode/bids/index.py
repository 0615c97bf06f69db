"""The index of a dataset by pybids: only what was asked for, kept on disk where wanted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bids_neurodecode.errors import InputError

BAD_INDEX = 'The index in {folder} cannot be read ({reason}). Remove that folder; it is made anew.'
NOT_READABLE = (
    'The folder {folder} cannot be read. Change its permissions, or leave that participant out '
    'with --participant-label.'
)
LAYOUT = 1
"""Version of what is indexed; part of the name of a kept index."""

OTHER_FOLDERS = (
    r'^/(code|stimuli|sourcedata|models|derivatives|logs)(/|$)',
    r'/\.',
    r'/(anat|dwi|fmap|perf|eeg|ieeg|meg|pet|beh|micr|motion|nirs|mrs|figures|log|models)(/|$)',
)
"""Nothing that is read lies in these."""

OTHER_FILES = (
    r'\.(h5|gii|svg|html|txt|toml|md|bib|surf|mgz|edf|png|mp4|safetensors)$',
    r'^(?!.*(desc-preproc_bold|desc-brain_mask|_statmap)\.).*\.nii(\.gz)?$',
    r'^(?!.*(_bold|_events)\.).*\.json$',
)
"""Nothing of these kinds is read."""


def index_dataset(
    folder: Path, participants: Sequence[str], *, derivative: bool, database_dir: Path | None
) -> tuple[Any, str | None]:
    """Index the files of some participants of a dataset.

    Parameters
    ----------
    folder
        The dataset, checked to be one.
    participants
        Labels; other participants' folders are not entered.
    derivative
        Whether names may hold the entities of derivatives.
    database_dir
        Where the index is kept for the next call; in memory if None. A kept index that is older
        than any file of the dataset is made anew.

    Returns
    -------
    layout : bids.layout.BIDSLayout
        Without metadata (sidecars are read for the runs that are used).
    note : str or None
        What happened to the kept index.
    """
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    ignore = [re.compile(pattern) for pattern in _ignored(participants)]
    database, note = None, None
    if database_dir is not None:
        database = _database(folder, participants, database_dir)
        note = _prepare(database, folder, ignore)
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=ignore)
    try:
        layout = BIDSLayout(
            folder,
            validate=False,
            derivatives=False,
            is_derivative=derivative,
            indexer=indexer,
            database_path=database,
        )
    except PermissionError as error:
        # a folder that pybids may not enter
        place = Path(error.filename or folder)
        where = place if os.access(place.parent, os.X_OK) else place.parent
        raise InputError(NOT_READABLE.format(folder=where)) from error
    except _database_errors() as error:
        reason = ' '.join(str(error).split())
        raise InputError(BAD_INDEX.format(folder=database, reason=reason)) from error
    return layout, note


def _database_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError,)


def _ignored(participants: Sequence[str]) -> list[str]:
    wanted = '|'.join(re.escape(label) for label in participants)
    return [*OTHER_FOLDERS, *OTHER_FILES, rf'^/sub-(?!({wanted})(/|_|$))']


def _database(folder: Path, participants: Sequence[str], database_dir: Path) -> Path:
    """Return the folder of an index: one for each dataset and choice of participants."""
    import bids

    key = '\n'.join([str(folder.resolve()), bids.__version__, str(LAYOUT), *sorted(participants)])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return database_dir / f'{folder.name}-{digest}'


def _prepare(database: Path, folder: Path, ignore: Sequence[re.Pattern[str]]) -> str:
    file = database / 'layout_index.sqlite'
    if not file.is_file():
        return f'The index of {folder} is kept in {database}.'
    if newest_change(folder, ignore) > file.stat().st_mtime:
        shutil.rmtree(database)
        return f'The index in {database} was older than {folder} and was made anew.'
    return f'The index in {database} was reused.'


def newest_change(folder: Path, ignore: Sequence[re.Pattern[str]]) -> float:
    """Return the latest change (seconds of the epoch) of any folder or file that is indexed."""
    return max(os.stat(path).st_mtime for path in _walk(folder, ignore))  # noqa: PTH116


def _walk(folder: Path, ignore: Sequence[re.Pattern[str]]) -> Iterator[str]:
    for here, children, files in os.walk(folder):
        relative = '' if here == str(folder) else '/' + os.path.relpath(here, folder)
        children[:] = [c for c in children if not _matches(f'{relative}/{c}', ignore)]
        yield here
        for name in files:
            path = str(Path(here) / name)
            if not _matches(f'{relative}/{name}', ignore) and Path(path).exists():
                yield path


def _matches(relative: str, ignore: Sequence[re.Pattern[str]]) -> bool:
    return any(pattern.search(relative) for pattern in ignore)
