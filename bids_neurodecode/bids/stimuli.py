"""Stimulus files: the names that events give, resolved below ``stimuli/`` and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from bids_neurodecode.bids.records import Paradigm
from bids_neurodecode.errors import InputError, raised_as
from bids_neurodecode.fetched import check_fetched
from bids_neurodecode.stimuli import films, images
from bids_neurodecode.stimuli.tables import SUFFIXES as FEATURES
from bids_neurodecode.stimuli.tables import suffix_of

IMAGES = images.SUFFIXES
FILMS = films.SUFFIXES
SOUNDS = frozenset({'.wav', '.mp3', '.ogg', '.flac', '.m4a', '.aac', '.aiff'})
"""What is heard and not seen, and therefore not read."""
MOVING = FILMS | FEATURES
"""What is shown over time: films, and tables of features that stand for one."""

OUTSIDE = (
    'The stim_file {name!r} in {events} leads out of {folder}. '
    'Name a file in that folder, relative to it; paths of another computer are found by the names '
    'of their files with events.stimulus = "{{stim_file}}".'
)
MISSING = (
    'The stimulus {name!r} in {events} is not there: no file {file}, nor one of its name in '
    'another folder. Add it, give the folder of the stimuli with --stimuli-dir, correct the '
    'events, or leave such rows out with events.exclude. Films are not needed with --level '
    'responses, which cleans and aligns series, and stops.'
)
UNREACHABLE = (
    'The stim_file {name!r} in {events} cannot be opened: {reason}. '
    'Correct the events, or the permissions of stimuli/.'
)
EMPTY = 'The stimulus {file} (in {events}) is empty. Replace the file.'
UNKNOWN_TYPE = (
    'The stimulus {file} (in {events}) is of an unknown type. '
    'Give an image ({images}), a film ({films}) or features of one ({features}).'
)
BROKEN_IMAGE = 'Cannot read the image {file} (in {events}): {reason}. Replace the file.'
MIXED = (
    'Task {task!r} shows both images ({image}) and films ({film}). '
    'Split it into two tasks, one for each.'
)


def resolve_stimulus(name: str, folder: Path, events: Path) -> Path:
    """Return the file that a ``stim_file`` names.

    Parameters
    ----------
    name
        As in the events, relative to ``folder``.
    folder
        The folder of stimuli: that of ``--stimuli-dir``, else the dataset's ``stimuli/``.
    events
        The events file, named in errors.

    Raises
    ------
    InputError
        If it leads out of the folder (``..``, an absolute path, a link), is missing, not fetched,
        empty, not a file or of an unknown type.
    """
    pure = PurePosixPath(name)
    file = folder / pure
    if pure.is_absolute() or '..' in pure.parts:
        raise InputError(OUTSIDE.format(name=name, events=events, folder=folder))
    try:
        file.lstat()
    except FileNotFoundError:
        pass  # said below
    except OSError as error:
        short = f'{name[:60]}...' if len(name) > 60 else name
        raise InputError(
            UNREACHABLE.format(name=short, events=events, reason=error.strerror)
        ) from error
    check_fetched(file)
    if not _within(file, folder):
        raise InputError(OUTSIDE.format(name=name, events=events, folder=folder))
    if not file.is_file():
        raise InputError(MISSING.format(name=name, events=events, file=file))
    if file.stat().st_size == 0:
        raise InputError(EMPTY.format(file=file, events=events))
    if file.suffix.lower() not in IMAGES | MOVING:
        raise InputError(
            UNKNOWN_TYPE.format(
                file=file,
                events=events,
                images=' '.join(sorted(IMAGES)),
                films=' '.join(sorted(FILMS)),
                features=' '.join(sorted(FEATURES)),
            )
        )
    return file


def _within(file: Path, folder: Path) -> bool:
    """Whether the real file lies in the real folder, or in a git-annex store above it."""
    below = [file, *file.parents]
    if not any(path.is_symlink() for path in below[: below.index(folder)]):
        return True  # no link on the way: nothing to follow, a thousand files long
    real, inside = file.resolve(), folder.resolve()
    stores = (
        above / '.git' / 'annex' / 'objects'
        for above in (folder.parent.resolve(), *inside.parents)
    )
    return real.is_relative_to(inside) or any(real.is_relative_to(store) for store in stores)


def check_image(file: Path, events: Path) -> None:
    """Read an image to its end: one still image, not too large, in values that are known.

    Parameters
    ----------
    file
        The image.
    events
        That name it, for the message.

    Raises
    ------
    InputError
        If it is none.
    """
    check_fetched(file)
    with raised_as(InputError, BROKEN_IMAGE, *images.DAMAGE, file=file, events=events):
        images.check_image(file)


def paradigm_of(names: Iterable[str], task: str) -> Paradigm:
    """Tell from the stimuli's types what a task shows.

    Parameters
    ----------
    names
        Of stimulus files.
    task
        For the message.

    Raises
    ------
    InputError
        If it shows both images and films.

    Examples
    --------
    >>> paradigm_of(['a.png', 'b.JPG'], 'img')
    'images'
    """
    kinds: dict[bool, str] = {}
    for name in sorted(names):
        kinds.setdefault(suffix_of(name) in MOVING, name)
    if len(kinds) > 1:
        raise InputError(MIXED.format(task=task, image=kinds[False], film=kinds[True]))
    return 'movie' if True in kinds else 'images'
