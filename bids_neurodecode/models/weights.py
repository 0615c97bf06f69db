"""Pretrained weights: which there are, where they lie, and whether they are whole.

Nothing here uses a network; :mod:`bids_neurodecode.models.weights_fetch` does, when asked to. In
the folder of weights each entry of the manifest has a folder of its own name, and in that a
``record.json`` with the size and SHA-256 of every file as it was fetched or imported.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, InputError, raised_as
from bids_neurodecode.fetched import check_fetched, state_of
from bids_neurodecode.text import did_you_mean

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

LOGGER = logging.getLogger('bids_neurodecode')
WEIGHTS_VARIABLE = 'BIDS_NEURODECODE_WEIGHTS'
RECORD = 'record.json'
CONVERTED = 'model.safetensors'

UNKNOWN_WEIGHTS = 'No weights are called {name!r}.{near} There are: {names}.'
BAD_MANIFEST = 'The manifest of weights {file} cannot be used: {reason}.'
BAD_RECORD = 'The record {file} cannot be read: {reason}. Delete it, and fetch the weights again.'
OUTSIDE = '{name!r} lies outside of the folder of the weights'
MISSING = (
    'The weights {name!r} are not in {folder}: {reason}. Get them with '
    '"bids_neurodecode-tools weights fetch {name} --weights-dir {folder}", or "weights import" '
    'from a copy.'
)
DAMAGED = (
    'The weights {name!r} in {folder} are damaged: {reason}. Get them again with '
    '"bids_neurodecode-tools weights fetch {name} --weights-dir {folder}".'
)

COMPARING = 'Comparing the weights %s (%.1f GB) with their SHA-256.'

Progress = Callable[[int, int], None]

_BLOCK = 1 << 20  # bytes read at once
_LARGE = 1e9  # bytes that take more than a moment to read
_FULL_DIGEST = 64  # hexadecimal digits
_SHORTEST_DIGEST = 8
_DIGEST = f'[0-9a-f]{{{_SHORTEST_DIGEST},{_FULL_DIGEST}}}'


@dataclass(frozen=True)
class WeightsEntry:
    """One entry of the manifest.

    Parameters
    ----------
    name
        What it is called, here and on the command line.
    kind
        ``file`` from the web, or a repository of the Hugging Face ``hub``.
    licence, about
        For people.
    used_by
        What needs it.
    urls
        Where the file is; each is tried in turn.
    file
        Its name.
    sha256
        Of the published file, or its first digits; empty if only recorded on first use.
    size
        Of the published file in bytes; 0 if unknown.
    about_mb
        About how many megabytes there are to fetch, for people; 0 if unknown.
    convert
        ``vdvae:<configuration>``: kept as safetensors.
    repo, revision, patterns
        Repository, branch or commit, and the files wanted.
    requires
        Files that a copy of the repository must have.
    """

    name: str
    kind: Literal['file', 'hub']
    licence: str
    about: str = ''
    used_by: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    file: str = ''
    sha256: str = ''
    size: int = 0
    about_mb: int = 0
    convert: str = ''
    repo: str = ''
    revision: str = 'main'
    patterns: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        reason = self._wrong()
        if reason:
            raise ValueError(reason)

    @property
    def needs(self) -> tuple[str, ...]:
        """Files that must be in the entry's folder."""
        if self.kind == 'hub':
            return self.requires
        return (CONVERTED,) if self.convert else (self.file,)

    def path_in(self, weights_dir: Path) -> Path:
        """Return the file, or the folder of a repository, whether it is there or not."""
        folder = weights_dir / self.name
        return folder if self.kind == 'hub' else folder / self.needs[0]

    def _wrong(self) -> str:
        digits = self.sha256
        names = (self.name, self.file)
        plain = all(Path(name).name == name and name not in {'.', '..'} for name in names)
        checks = {
            f'{self.name!r} or {self.file!r} is no plain name': bool(self.name) and plain,
            'requires names a file outside of the folder': all(map(_is_below, self.requires)),
            'kind is neither file nor hub': self.kind in {'file', 'hub'},
            'a licence is missing': bool(self.licence),
            'urls and file are needed': self.kind == 'hub' or bool(self.urls and self.file),
            'repo and requires are needed': self.kind == 'file'
            or bool(self.repo and self.requires),
            f'sha256 needs {_SHORTEST_DIGEST} to {_FULL_DIGEST} lower-case hexadecimal digits': (
                not digits or re.fullmatch(_DIGEST, digits) is not None
            ),
        }
        wrong = [reason for reason, passed in checks.items() if not passed]
        return f'{self.name}: {wrong[0]}' if wrong else ''


@dataclass(frozen=True)
class Record:
    """What was fetched or imported.

    Parameters
    ----------
    source
        Address, repository at its commit, or path.
    published
        SHA-256 of the file before it was converted; empty for repositories.
    files
        {path in the entry's folder: (bytes, SHA-256)}.
    """

    source: str
    published: str
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class WeightsState:
    """Whether weights can be used.

    Parameters
    ----------
    state
        ``unverified``: there, but with nothing that they could be compared with.
    reason
        What is wrong, in a few words; empty if nothing is.
    size
        Bytes of its files.
    """

    state: Literal['good', 'unverified', 'missing', 'damaged']
    reason: str = ''
    size: int = 0


Manifest = Mapping[str, WeightsEntry]


def load_manifest(file: Path | None = None) -> dict[str, WeightsEntry]:
    """Read the manifest: {name: entry}, in its order.

    Parameters
    ----------
    file
        Another manifest than the package's own.

    Raises
    ------
    ArgumentsError
        If it cannot be read, or an entry is wrong.
    """
    return dict(_own_manifest() if file is None else _read_manifest(file))


@functools.cache
def _own_manifest() -> Mapping[str, WeightsEntry]:
    """Read the package's own manifest once."""
    return _read_manifest(resources.files('bids_neurodecode') / 'data' / 'weights.toml')


def _read_manifest(place: Path | Traversable) -> dict[str, WeightsEntry]:
    with raised_as(
        ArgumentsError, BAD_MANIFEST, *BROKEN_TEXT, AttributeError, KeyError, TypeError, file=place
    ):
        tables = tomllib.loads(place.read_text('utf-8'))['weights']
        entries = [_entry(table) for table in tables]
    return {entry.name: entry for entry in entries}


def find_entry(name: str, manifest: Manifest | None = None) -> WeightsEntry:
    """Return the entry of a name.

    Parameters
    ----------
    name
        Of the entry.
    manifest
        Of all entries; None: that of the package.

    Raises
    ------
    ArgumentsError
        If there is none.
    """
    manifest = load_manifest() if manifest is None else manifest
    if name not in manifest:
        told = {'near': did_you_mean(name, manifest), 'names': ', '.join(manifest)}
        raise ArgumentsError(UNKNOWN_WEIGHTS.format(name=name, **told))
    return manifest[name]


def default_weights_dir() -> Path:
    """Return the folder of weights: ``BIDS_NEURODECODE_WEIGHTS``, else one in the user's cache."""
    if os.environ.get(WEIGHTS_VARIABLE):
        return Path(os.environ[WEIGHTS_VARIABLE]).expanduser()
    cache = os.environ.get('XDG_CACHE_HOME')
    base = Path(cache) if cache else Path.home() / '.cache'
    return base / 'bids_neurodecode' / 'weights'


def weights_path(
    name: str, weights_dir: Path | None = None, *, manifest: Manifest | None = None
) -> Path:
    """Return where weights lie, if they are there; never downloads anything.

    Contents are compared with their SHA-256, once in each process for a file that stays as it is.

    Parameters
    ----------
    name
        Of an entry of the manifest.
    weights_dir
        The folder of weights; None takes :func:`default_weights_dir`.
    manifest
        Another than the package's own.

    Returns
    -------
    pathlib.Path
        A file, or the folder of a repository.

    Raises
    ------
    InputError
        If they are missing or damaged, with the command that gets them.
    """
    entry = find_entry(name, manifest)
    folder = default_weights_dir() if weights_dir is None else weights_dir
    for file in entry.needs:
        check_fetched(folder / entry.name / file)
    found = check_sizes(entry, folder)
    if found.state in {'good', 'unverified'}:
        if found.size > _LARGE:
            LOGGER.info(COMPARING, name, found.size / 1e9)
        found = verify_weights(entry, folder, anew=False)
    if found.state in {'missing', 'damaged'}:
        message = MISSING if found.state == 'missing' else DAMAGED
        raise InputError(message.format(name=name, folder=folder, reason=found.reason))
    return entry.path_in(folder)


def check_sizes(entry: WeightsEntry, weights_dir: Path) -> WeightsState:
    """Look whether the files of weights are there and of the size that was recorded.

    Parameters
    ----------
    entry
        Of the manifest.
    weights_dir
        Folder that holds a folder for each entry.
    """
    folder = weights_dir / entry.name
    if not folder.is_dir():
        return WeightsState('missing', 'there is no such folder')
    record = read_record(folder)
    expected: dict[str, int] = dict.fromkeys(entry.needs, 0)
    if record is not None:
        expected |= {name: size for name, (size, _) in record.files.items()}
    elif entry.kind == 'file' and not entry.convert:
        expected[entry.file] = entry.size
    for name, size in expected.items():
        file = folder / name
        if not file.is_file():
            # a lost file of a recorded set is damage; without a record nothing was complete yet
            state: Literal['damaged', 'missing'] = 'missing' if record is None else 'damaged'
            return WeightsState(state, f'{name} is not there')
        found = file.stat().st_size
        if not found or (size and found != size):
            return WeightsState('damaged', f'{name} has {found} bytes instead of {size or "some"}')
    total = sum((folder / name).stat().st_size for name in expected)
    return WeightsState('unverified' if record is None else 'good', size=total)


def verify_weights(
    entry: WeightsEntry,
    weights_dir: Path,
    progress: Progress | None = None,
    *,
    anew: bool = True,
) -> WeightsState:
    """Compare the content of every file with its SHA-256, as recorded or as published.

    Parameters
    ----------
    entry
        Of the manifest.
    weights_dir
        The folder of weights.
    progress
        Called with (bytes read, all bytes).
    anew
        Whether files are read again that this process has read, and that stayed as they were.
    """
    found = check_sizes(entry, weights_dir)
    if found.state in {'missing', 'damaged'}:
        return found
    folder = weights_dir / entry.name
    record = read_record(folder)
    hashes = {name: digest for name, (_, digest) in record.files.items()} if record else {}
    if record is not None and not record.published.startswith(entry.sha256):
        reason = f'{entry.file} was recorded with another SHA-256 than the published one'
        return WeightsState('damaged', reason)
    if record is None and entry.kind == 'file' and not entry.convert and entry.sha256:
        hashes = {entry.file: entry.sha256}
    done = 0
    for name, digest in hashes.items():
        file = folder / name
        read = _shifted(progress, done, found.size)
        if not (hash_file(file, read) if anew else _hash_once(file)).startswith(digest):
            return WeightsState('damaged', f'the SHA-256 of {name} differs')
        done += file.stat().st_size
    return WeightsState('good' if hashes else 'unverified', size=found.size)


def hash_file(file: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file; ``progress`` is called with the bytes read so far.

    Parameters
    ----------
    file
        Of any size; it is read in blocks.
    progress
        Called with the bytes read so far.
    """
    digest = hashlib.sha256()
    done = 0
    with file.open('rb') as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


def _hash_once(file: Path) -> str:
    return _hash_of(file, state_of(file))


@functools.cache
def _hash_of(file: Path, _state: tuple[tuple[int, ...], ...]) -> str:
    return hash_file(file)


def read_record(folder: Path) -> Record | None:
    """Read the record of an entry's folder; None if there is none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    file = folder / RECORD
    try:
        told = json.loads(file.read_text('utf-8'))
        files = {n: (int(f['size']), str(f['sha256'])) for n, f in told['files'].items()}
        record = Record(str(told['source']), str(told['published']), files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        reason = f'{type(error).__name__} {error}'
        raise InputError(BAD_RECORD.format(file=file, reason=reason)) from error
    outside = [name for name in files if not _is_below(name)]
    if outside:
        reason = OUTSIDE.format(name=outside[0])
        raise InputError(BAD_RECORD.format(file=file, reason=reason))
    return record


def _is_below(name: str) -> bool:
    """Whether a name stays below the folder that it is relative to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and '..' not in path.parts


def write_record(folder: Path, record: Record) -> None:
    """Write the record of an entry's folder, whole or not at all.

    Parameters
    ----------
    folder
        Of the entry.
    record
        Source, and size and SHA-256 of each file.
    """
    files = {n: {'size': size, 'sha256': digest} for n, (size, digest) in record.files.items()}
    told = {'source': record.source, 'published': record.published, 'files': files}
    part = folder / f'.{RECORD}.part'
    part.write_text(json.dumps(told, indent=2) + '\n', 'utf-8')
    part.replace(folder / RECORD)


def record_files(folder: Path, source: str, published: str = '') -> Record:
    """Hash every file in an entry's folder, and write its record.

    Parameters
    ----------
    folder
        Of the entry.
    source
        Where the files are from.
    published
        SHA-256 that the source states, where it states one.
    """
    files = {}
    for file in sorted(folder.rglob('*')):
        name = file.relative_to(folder)
        hidden = any(part.startswith('.') for part in name.parts)
        if file.is_file() and not hidden and file.name != RECORD:
            files[name.as_posix()] = (file.stat().st_size, hash_file(file))
    record = Record(source, published, files)
    write_record(folder, record)
    return record


def _entry(table: Mapping[str, Any]) -> WeightsEntry:
    unknown = sorted(set(table) - {f.name for f in fields(WeightsEntry)})
    if unknown:
        msg = f'{table.get("name")}: unknown key {unknown[0]}'
        raise ValueError(msg)
    plain: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in table.items()
    }
    return WeightsEntry(**plain)


def _shifted(progress: Progress | None, done: int, total: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda read: progress(done + read, total)
