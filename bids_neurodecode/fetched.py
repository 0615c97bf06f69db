"""Files of which only a stand-in is there: content that datalad or Git LFS did not fetch.

Datasets of datalad (git-annex) and Git LFS are cloned without the content of large files. In the
place of each stands a link to where its content will be, or a line of text that names it.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from bids_neurodecode.errors import InputError, raised_as

LACKING = (
    'The weights {name!r} are not in {folder}: {file} is missing. Get them with '
    '"bids_neurodecode-tools weights fetch {name}".'
)
BAD_PART = (
    'The {part} in {folder} cannot be read: {reason}. Get it again with '
    '"bids_neurodecode-tools weights fetch {weights}".'
)
NOT_FETCHED = '{file} was not fetched: {found}. Get it first, with "{command}".'
TOO_LARGE = (
    '{file} holds {size:.1f} GB, and no more than {most:g} GB of such a file is read. '
    'Check that it is what its name says.'
)
NO_FILE = '{file} is a pipe or a device, and a file is needed there. Replace it, or remove it.'
TOO_LONG = 'No file has a name as long as {file}. Correct the name.'
LINK = 'it is a link to content that is not there ({target})'
LINK_ABOVE = 'it lies in {folder}, a link to a folder that is not there ({target})'
POINTER = 'it is a pointer of git-annex, in the place of the content'
LINK_AS_TEXT = 'it is a link that was written out as text ({target})'
LFS_POINTER = 'it is a pointer of Git LFS, in the place of the content'
SUBDATASET = 'it lies in {folder}, a subdataset that is not installed'
NOT_INSTALLED = 'it is a subdataset that is not installed'

_LONGEST = 32768  # bytes; git-annex takes no longer file for a pointer
_POINTER = re.compile(rb'/annex/objects/[^\s/]+(\r?\n|$)')
_LINK = re.compile(rb'(\.{1,2}/[^\s\0]+|[^\s\0]*\.git/annex/objects/[^\s\0]+)\Z')
_LFS = b'version https://git-lfs.github.com/spec/'


def check_fetched(file: Path) -> None:
    """Check that a file is itself, and no stand-in for content that was not fetched.

    A file that is missing for another reason passes.

    Raises
    ------
    InputError
        With the command that fetches it; also for what would be read without end.
    """
    facts = facts_of(file)
    if facts is not None and not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise InputError(NO_FILE.format(file=file))
    found = stand_in(file, facts)
    if found is not None:
        command = ['datalad', 'get', str(file)]
        if found == LFS_POINTER:
            command = ['git', '-C', str(file.parent), 'lfs', 'pull', '--include', file.name]
        raise InputError(NOT_FETCHED.format(file=file, found=found, command=shlex.join(command)))


def check_size(file: Path, most: float) -> None:
    """Check that a file that is read whole is not too large for it.

    Parameters
    ----------
    file
        May be missing.
    most
        Gigabytes that it may hold.

    Raises
    ------
    InputError
        If it holds more.
    """
    facts = facts_of(file)
    size = 0.0 if facts is None else facts.st_size / 1e9
    if size > most:
        raise InputError(TOO_LARGE.format(file=file, size=size, most=most))


def read_fetched(file: Path, most: float) -> bytes:
    """Read a whole file that is itself; as :func:`check_fetched` and :func:`check_size`, but once.

    Parameters
    ----------
    file
        That is read.
    most
        Gigabytes that it may hold.

    Raises
    ------
    InputError
        If it was not fetched, is too large, or would be read without end.
    OSError
        If it cannot be read.
    """
    facts = facts_of(file)
    if facts is None or not stat.S_ISREG(facts.st_mode) or facts.st_size > most * 1e9:
        check_fetched(file)
        check_size(file, most)
    content = file.read_bytes()
    if len(content) <= _LONGEST and _told_by(content) is not None:
        check_fetched(file)
    return content


def facts_of(file: Path) -> os.stat_result | None:
    """Return what the file system says of a file, asked once; None where it is not there.

    Raises
    ------
    InputError
        If its name is too long for any file.
    """
    try:
        return file.stat()
    except ValueError:  # a NUL byte in its name
        return None
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP}:
            return None
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(TOO_LONG.format(file=file)) from error
        raise


def state_of(*files: Path) -> tuple[tuple[int, ...], ...]:
    """Return what changes when files do: by it, and their names, caches know what was read.

    Size and time of change alone do not: who copies a file may keep both.

    Returns
    -------
    tuple
        Of each file its number on the disk, size (bytes), and the times (ns) of the last change of
        its content and of what the disk says of it; empty where one of them is not there.
    """
    try:
        facts = [file.stat() for file in files]
    except (OSError, ValueError):  # ValueError: a NUL byte in a name
        return ()
    return tuple(map(_key, facts))


def _key(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def stand_in(file: Path, facts: os.stat_result | None = None) -> str | None:
    """Say what stands in the place of a file; None where it is the file itself, or nothing.

    Parameters
    ----------
    file
        That is looked at.
    facts
        Of :func:`facts_of`, where they are known.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / 'bold.nii.gz'
    >>> _ = file.write_text('/annex/objects/SHA256E-s9--ab.nii.gz')
    >>> stand_in(file)
    'it is a pointer of git-annex, in the place of the content'
    """
    facts = facts or facts_of(file)
    if facts is None:
        return _in_its_place(file)
    if stat.S_ISDIR(facts.st_mode):
        return NOT_INSTALLED if _is_empty_subdataset(file) else None
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LONGEST:
        return None
    return _told_by_file(file, _key(facts))


@lru_cache(maxsize=1 << 14)
def _told_by_file(file: Path, _state: tuple[int, ...]) -> str | None:
    """Look into a small file once, and again when it changes: each who reads it asks."""
    try:
        return _told_by(file.read_bytes())
    except OSError:
        return None  # whoever reads it says why it cannot be read


def _told_by(content: bytes) -> str | None:
    if _POINTER.match(content):
        return POINTER
    if content.startswith(_LFS):
        return LFS_POINTER
    if _LINK.match(content):
        return LINK_AS_TEXT.format(target=content.decode('utf-8', 'replace'))
    return None


def _in_its_place(file: Path) -> str | None:
    """Say why a file is not there, if a link or a subdataset without content is the reason."""
    if file.is_symlink():
        return LINK.format(target=file.readlink())
    for folder in file.parents:
        if folder.is_symlink() and not folder.exists():
            return LINK_ABOVE.format(folder=folder, target=folder.readlink())
        if folder.is_file():
            return _told_by(folder.read_bytes()[:_LONGEST])
        if folder.is_dir():
            if _is_empty_subdataset(folder):
                return SUBDATASET.format(folder=folder)
            return None
    return None


def _is_empty_subdataset(folder: Path) -> bool:
    """Whether a folder is empty, and a dataset above lists it as one of its own."""
    try:
        if any(folder.iterdir()):
            return False
    except OSError:
        return False  # whoever reads it says why it cannot be read
    for above in folder.absolute().parents:
        modules = above / '.gitmodules'
        if modules.is_file():
            path = re.escape(folder.absolute().relative_to(above).as_posix())
            text = modules.read_text('utf-8', errors='replace')
            return re.search(rf'^\s*path\s*=\s*"?{path}/?"?\s*$', text, re.MULTILINE) is not None
    return False


def read_part(read: Callable[..., Any], folder: Path, weights: str, **options: Any) -> Any:
    """Read a part of published networks by what transformers or diffusers read it with.

    Parameters
    ----------
    read
        ``from_pretrained`` of its class.
    folder
        Of the part.
    weights
        Name of the entry that it is of.
    **options
        Of ``read``.

    Raises
    ------
    InputError
        If it is damaged.
    """
    with part_of(weights, folder.parent, folder.name):
        return read(folder, local_files_only=True, **options)


@contextmanager
def part_of(weights: str, folder: Path, part: str) -> Iterator[None]:
    """Tell what is raised of a damaged file as an error that names the part of the weights.

    Parameters
    ----------
    weights
        Name of the entry.
    folder
        Of the part.
    part
        A folder or file in it.

    Raises
    ------
    InputError
        If it is damaged.
    """
    from safetensors import SafetensorError

    damage = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)
    with raised_as(InputError, BAD_PART, *damage, part=part, folder=folder, weights=weights):
        yield


def need_files(folder: Path, weights: str, files: Iterable[str]) -> None:
    """Refuse a folder of weights that lacks a file.

    Parameters
    ----------
    folder
        Of the entry.
    weights
        Its name.
    files
        That it has to hold, relative to it.

    Raises
    ------
    InputError
        Naming the first that is missing.
    """
    for file in files:
        if not (folder / file).is_file():
            raise InputError(LACKING.format(name=weights, folder=folder, file=file))
