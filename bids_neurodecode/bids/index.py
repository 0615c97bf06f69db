"""The index of a dataset: the names below the folders of the participants that are asked for.

Names are taken apart by the entities of pybids, and asked for as with its ``get``. pybids' own
index reads every folder of a dataset, and puts a row for each entity of each file into a database.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from bids_neurodecode.bids.entities import counted_label, entity_names
from bids_neurodecode.bids.sink import write_text
from bids_neurodecode.errors import BROKEN_TEXT, InputError, raised_as

BAD_INDEX = (
    'The index in {folder} cannot be read ({reason}). Remove that folder: it is made again.'
)
UNREADABLE = 'The folder {folder} cannot be read: {reason}. Correct its permissions.'
OUTSIDE = 'it names files outside of the dataset'
LAYOUT = 2
"""Version of what is kept; part of the name of a kept index."""
KEPT = 'index.json'
DEEPEST = 6
"""Folders below that of a participant that are entered: a link may lead out of the dataset."""

OTHER_FOLDERS = frozenset(
    {
        *(
            'dwi',
            'fmap',
            'perf',
            'eeg',
            'ieeg',
            'meg',
            'pet',
            'beh',
            'micr',
            'motion',
            'nirs',
            'mrs',
        ),
        *('figures', 'log', 'logs', 'models', 'code', 'stimuli', 'sourcedata', 'derivatives'),
    }
)
"""Nothing that is read lies in these."""

DATATYPES = frozenset({'anat', 'func'})
"""Folders whose name is the ``datatype`` of the files in them; others are not entered."""

_PART = re.compile(r'([a-zA-Z]+)-([a-zA-Z0-9+]+)\Z')
_PARTS = re.compile(r'(?:\A|_)([^_-]*)-([a-zA-Z0-9+]+)(?=_)')

Listing = dict[str, tuple[int, list[str]]]
"""Of each folder, relative to the dataset: when it was changed (ns), and names in it."""


class Folder(NamedTuple):
    """A folder, and the files in it; ``owned``: it is that of a participant, or lies below."""

    path: Path
    datatype: str
    names: tuple[str, ...]
    owned: bool

    def entities(self, name: str) -> Mapping[str, str]:
        """Return the entities of a file in it, by the names that pybids gives them."""
        known = name_entities(name)
        if self.datatype in DATATYPES:
            known['datatype'] = self.datatype
        return known


@dataclass(frozen=True)
class FileIndex:
    """Files of a dataset, to be asked for by their entities.

    Names are taken apart when they are asked about, as most never are.
    """

    folders: tuple[Folder, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Participants whose folder cannot be read, and the one line that says so."""

    def find(self, query: Mapping[str, Any]) -> list[Path]:
        """Return the files that a query selects, sorted.

        Parameters
        ----------
        query
            By pybids' names of entities: a label or number, several of them, or None where the
            entity must be absent. Numbers count the same however many zeros lead them.

        Returns
        -------
        list of pathlib.Path
        """
        wanted = {key: _labels(key, value) for key, value in query.items()}
        suffixes = wanted.pop('suffix', self._by_suffix)
        extensions = wanted.pop('extension', None)
        found: list[tuple[tuple[str, ...], Path]] = []
        for suffix in suffixes:
            for extension, named in self._by_suffix.get(suffix, {}).items():
                if extensions is not None and extension not in extensions:
                    continue
                for folder, name in named:
                    entities = folder.entities(name)
                    # what lies with a participant and does not say so is a stray ("Copy of ...")
                    owned = 'subject' in entities or not folder.owned
                    if owned and _fits(entities, wanted):
                        found.append(((*folder.path.parts, name), folder.path / name))
        return [path for _, path in sorted(found)]

    @cached_property
    def _by_suffix(self) -> dict[str | None, dict[str, list[tuple[Folder, str]]]]:
        """Files by their suffix and extension: names are taken apart of those that are wanted."""
        found: dict[str | None, dict[str, list[tuple[Folder, str]]]] = {}
        for folder in self.folders:
            for name in folder.names:
                stem, dot, extension = name.partition('.')
                suffix = stem.rpartition('_')[2]
                key = None if '-' in suffix and _PART.match(suffix) else suffix
                same = found.setdefault(key, {})
                same.setdefault(dot + extension, []).append((folder, name))
        return found


def matches(name: str, query: Mapping[str, Any]) -> bool:
    """Tell whether a query (see :meth:`FileIndex.find`) selects the file of a name.

    Parameters
    ----------
    name
        Of a file.
    query
        Labels by entity.
    """
    wanted = {key: _labels(key, value) for key, value in query.items()}
    return _fits(name_entities(name), wanted)


def index_dataset(
    folder: Path,
    participants: Sequence[str],
    *,
    database_dir: Path | None = None,
    keep: bool = True,
) -> tuple[FileIndex, str | None]:
    """Index the files of some participants of a dataset, and those of no one alone.

    Parameters
    ----------
    folder
        The dataset, checked to be one.
    participants
        Labels; other participants' folders are not entered.
    database_dir
        Where the list of names is kept for the next call; it is not kept if None. A list of which
        any folder was changed since is regenerated.
    keep
        Whether it may be written there; else it is only read.

    Returns
    -------
    index : FileIndex
    note : str or None
        What happened to the kept index.

    Raises
    ------
    InputError
        If a folder, or the kept index, cannot be read.
    """
    listing, note = None, None
    unreadable: dict[str, str] = {}
    if database_dir is not None:
        kept = _kept(folder, participants, database_dir)
        listing, note = _reuse(kept, folder)
    if listing is None:
        listing, unreadable = _list(folder, participants)
        if database_dir is not None and keep and not unreadable:
            write_text(kept, json.dumps(listing))
    folders: list[Folder] = []
    for where, (_, names) in listing.items():
        # a folder that is called as a file is must not be passed over: who reads it says so
        called = (name.rstrip('/') for name in names if '.' in name or not name.endswith('/'))
        kind = where.rpartition('/')[2]
        folders.append(Folder(folder / where, kind, tuple(called), owned=bool(where)))
    return FileIndex(tuple(folders), unreadable), note


def name_entities(name: str) -> dict[str, str]:
    """Return the entities of a file name, by the names that pybids gives them.

    Returns
    -------
    dict
        Also ``suffix`` and ``extension``.

    Examples
    --------
    >>> name_entities('sub-01_run-02_desc-preproc_bold.nii.gz')
    {'subject': '01', 'run': '02', 'desc': 'preproc', 'suffix': 'bold', 'extension': '.nii.gz'}
    """
    stem, dot, extension = name.partition('.')
    known = entity_names()
    found = {known[key]: label for key, label in _PARTS.findall(stem) if key in known}
    suffix = stem.rpartition('_')[2]
    if _PART.match(suffix) is None:
        found['suffix'] = suffix
    found['extension'] = dot + extension
    return found


@cache
def _keys() -> Mapping[str, str]:
    return {name: key for key, name in entity_names().items()}


def _labels(name: str, value: Any) -> frozenset[str | None]:
    """Return the labels that a query allows; None among them: the entity may be absent."""
    values = value if isinstance(value, list | tuple) else [value]
    return frozenset(_label(name, x) for x in values)


def _label(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if name == 'extension':
        text = str(value)
        return text if text.startswith('.') or not text else f'.{text}'
    return counted_label(_keys().get(name, name), str(value))


def _fits(own: Mapping[str, str], wanted: Mapping[str, frozenset[str | None]]) -> bool:
    return all(
        own.get(name) in labels
        or _label(name, own.get(name)) in labels
        or (name == 'desc' and _unsaid(own, labels))
        for name, labels in wanted.items()
    )


def _unsaid(own: Mapping[str, str], labels: frozenset[str | None]) -> bool:
    """Whether a series is a preprocessed one whose name has no ``desc``.

    So fMRIPrep names series on surfaces and in CIFTI.
    """
    surface = own.get('extension') in {'.func.gii', '.dtseries.nii'}
    return surface and own.get('suffix') == 'bold' and 'desc' not in own and 'preproc' in labels


def _list(folder: Path, participants: Sequence[str]) -> tuple[Listing, dict[str, str]]:
    """List the top folder and those of the participants; who cannot be read, and why."""
    listing: Listing = {}
    wanted = {f'sub-{label}' for label in participants}
    _list_one(folder, '', listing)
    changed, names = listing['']
    mine = [n for n in names if not n.startswith('sub-') or re.split('[_/]', n)[0] in wanted]
    listing[''] = (changed, [n for n in mine if not n.endswith('/')])
    unreadable = {}
    for name in (n.rstrip('/') for n in mine if n.endswith('/') and n.startswith('sub-')):
        try:
            _list_below(folder, name, listing)
        except InputError as error:
            unreadable[name.removeprefix('sub-')] = str(error)
    return listing, unreadable


def _list_below(folder: Path, top: str, listing: Listing) -> None:
    """List a folder and those below it; one where links lead again, or back up, is passed over."""
    seen = {_identity(above) for above in (folder.absolute(), *folder.absolute().parents)}
    left = [(top, 0)]
    while left:
        where, depth = left.pop()
        if (found := _identity(folder / where)) in seen:
            continue
        seen.add(found)
        _list_one(folder, where, listing)
        if depth < DEEPEST:
            children = (x.rstrip('/') for x in listing[where][1] if x.endswith('/'))
            below = [(f'{where}/{x}', depth + 1) for x in children if x not in OTHER_FOLDERS]
            left += reversed(below)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        facts = folder.stat()
    except OSError as error:
        raise InputError(UNREADABLE.format(folder=folder, reason=error.strerror)) from error
    return facts.st_dev, facts.st_ino


def _list_one(folder: Path, where: str, listing: Listing) -> None:
    """List one folder: names of folders end in a slash, hidden ones are left out."""
    here = folder / where
    try:
        changed = here.stat().st_mtime_ns
        with os.scandir(here) as entries:
            names = sorted(
                f'{entry.name}/' if _is_folder(entry) else entry.name
                for entry in entries
                if not entry.name.startswith('.')
            )
    except OSError as error:
        raise InputError(UNREADABLE.format(folder=here, reason=error.strerror)) from error
    listing[where] = (changed, names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself: who reads it says so


def _kept(folder: Path, participants: Sequence[str], database_dir: Path) -> Path:
    """Return the file of an index: one for each dataset and choice of participants."""
    key = '\n'.join([str(folder.resolve()), str(LAYOUT), *sorted(participants)])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return database_dir / f'{folder.name}-{digest}' / KEPT


def _reuse(kept: Path, folder: Path) -> tuple[Listing | None, str]:
    """Return a kept list, if no folder in it was changed since, and what is said of it."""
    if not kept.is_file():
        return None, f'The index of {folder} is kept in {kept.parent}.'
    with raised_as(
        InputError, BAD_INDEX, *BROKEN_TEXT, TypeError, AttributeError, folder=kept.parent
    ):
        read = json.loads(kept.read_text('utf-8'))
        listing: Listing = {
            str(where): (int(changed), [str(name) for name in names])
            for where, (changed, names) in read.items()
        }
    if not all(_is_below(where, names) for where, (_, names) in listing.items()):
        raise InputError(BAD_INDEX.format(folder=kept.parent, reason=OUTSIDE))
    if any(_changed(folder / where) != changed for where, (changed, _) in listing.items()):
        return None, f'The index in {kept.parent} was older than {folder} and was regenerated.'
    return listing, f'The index in {kept.parent} was reused.'


def _is_below(where: str, names: Sequence[str]) -> bool:
    """Whether a kept folder, and the names in it, stay below the dataset."""
    folder = PurePosixPath(where)
    plain = all('/' not in name.removesuffix('/') and name not in {'..', '../'} for name in names)
    return plain and not folder.is_absolute() and '..' not in folder.parts


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1
