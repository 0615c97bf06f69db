"""The folder of stimuli: a file is found by its name, wherever below the folder it lies."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from bids_neurodecode.bids.stimuli import FILMS, IMAGES
from bids_neurodecode.errors import InputError

SEVERAL = (
    '{n} files below {folder} are called {name!r}, which {events} names: {files}. Keep one, or '
    'name the folder too (events.stimulus).'
)
KNOWN = IMAGES | FILMS
IDENTIFIED = re.compile(r'(stim-[^_]+(?:_part-[^_]+)?)_(?:image|video|audiovideo)')
"""Files as BIDS' extension for stimuli (BEP044) calls them: events name what is in brackets."""


@dataclass(frozen=True)
class StimulusFolder:
    """Images and films of one folder. What lies below it is listed when a name first needs it.

    Parameters
    ----------
    path
        The folder; it need not be there.
    """

    path: Path

    def find(self, name: str, events: Path) -> str | None:
        r"""Return the path, relative to the folder, of the one file that a name means.

        Parameters
        ----------
        name
            With or without folders (``/`` or ``\``) and extension. Taken are, in this order: the
            file of this very path; the only file whose path ends in it; the only one of that file
            name in another folder. Where the name has no known extension, or no file has it, any
            known extension counts; where it has one, also in other upper and lower case. The
            ``stim_id`` of BIDS' extension for stimuli means the file that is called by it.
        events
            Named in errors.

        Returns
        -------
        str or None
            None where no file is meant.

        Raises
        ------
        InputError
            If several files are called so.
        """
        found = self.candidates(name)
        if len(found) > 1:
            shown = ', '.join(found[:3]) + (', ...' if len(found) > 3 else '')
            raise InputError(
                SEVERAL.format(
                    n=len(found), folder=self.path, name=name, events=events, files=shown
                )
            )
        return found[0] if found else None

    def candidates(self, name: str) -> tuple[str, ...]:
        """Return all files that a name may mean: the best of those of :meth:`find`, sorted."""
        if name not in self._known:
            self._known[name] = self._look_for(name)
        return self._known[name]

    @cached_property
    def _known(self) -> dict[str, tuple[str, ...]]:
        """What was found: the same names come in every run of every participant."""
        return {}

    def _look_for(self, name: str) -> tuple[str, ...]:
        if self._is_there(name):
            return (PurePosixPath(name).as_posix(),)
        wanted = _parts(name)
        return next(filter(None, self._by_rank(wanted)), ()) if wanted else ()

    def _is_there(self, name: str) -> bool:
        pure = PurePosixPath(name)
        inside = not pure.is_absolute() and '..' not in pure.parts
        file = self.path / pure
        return has_extension(name) and inside and _exists(file) and not file.is_dir()

    def _by_rank(self, wanted: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        """Yield files with the extension, then with any; those in folders named so come first."""
        by_name, by_stem = self._listed
        last = wanted[-1]
        named = by_name.get(last, ())
        stem = PurePosixPath(last).stem if has_extension(last) else last
        for files, exact in ((named, True), (by_stem.get(stem, ()), False)):
            if exact and not has_extension(last):
                continue
            yield from _by_folders(files, wanted[:-1])
        if has_extension(last):
            *folders, plain = map(_plain, wanted)
            found = self._plain_names.get(plain, ())
            yield from _by_folders(found, tuple(folders), _plain)

    @cached_property
    def _listed(self) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
        """Files by their name, and by their name without the extension."""
        by_name: dict[str, list[str]] = {}
        by_stem: dict[str, list[str]] = {}
        for folder, subfolders, names in os.walk(self.path):
            subfolders[:] = sorted(x for x in subfolders if not x.startswith('.'))
            inside = PurePosixPath(Path(folder).relative_to(self.path).as_posix())
            for name in sorted(names):
                if has_extension(name) and not name.startswith('.'):
                    path = (inside / name).as_posix()
                    by_name.setdefault(name, []).append(path)
                    stem = PurePosixPath(name).stem
                    by_stem.setdefault(stem, []).append(path)
                    if identified := IDENTIFIED.fullmatch(stem):
                        by_stem.setdefault(identified[1], []).append(path)
        return _frozen(by_name), _frozen(by_stem)

    @cached_property
    def _plain_names(self) -> Mapping[str, tuple[str, ...]]:
        """Files by their name, however it is spelled."""
        found: dict[str, list[str]] = {}
        for name, files in self._listed[0].items():
            found.setdefault(_plain(name), []).extend(files)
        return _frozen(found)


def _plain(name: str) -> str:
    """Return a name in lower case, its accents composed (macOS takes them apart)."""
    return unicodedata.normalize('NFC', name).lower()


def _by_folders(
    files: Sequence[str], folders: tuple[str, ...], spelled: Callable[[str], str] = str
) -> Iterator[tuple[str, ...]]:
    """Yield files that lie in folders named so: in all of them, in the last ones, in any."""
    inside = {file: _folders(spelled(file)) for file in files}
    for depth in range(len(folders), -1, -1):
        tail = folders[len(folders) - depth :]
        yield tuple(f for f, own in inside.items() if own[len(own) - depth :] == tail)


def has_extension(name: str) -> bool:
    """Whether a name ends as those of images or films do.

    Examples
    --------
    >>> has_extension('faces/c.JPEG'), has_extension('n02766534_15976'), has_extension('7.015')
    (True, False, False)
    """
    return PurePosixPath(name).suffix.lower() in KNOWN


def _parts(name: str) -> tuple[str, ...]:
    """Return folders and file of a name, however the computer of the experiment wrote them."""
    parts = PurePosixPath(name.replace('\\', '/')).parts
    return tuple(part for part in parts if part not in {'/', '..', '.'} and part[-1:] != ':')


def _folders(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts[:-1]


def _exists(file: Path) -> bool:
    try:
        return os.path.lexists(file)
    except ValueError:  # a NUL byte
        return False


def _frozen(lists: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(files) for name, files in lists.items()}
