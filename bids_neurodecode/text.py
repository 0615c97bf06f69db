"""What is said in one line: errors, near names, durations."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

COMMAND = 'On its page: '
"""Beginning of the line of a log that holds the command as pages show it."""


def span_of(values: Sequence[float], unit: str = '') -> str:
    """Write values as one where they are equal, else from the least to the greatest.

    Parameters
    ----------
    values
        At least one.
    unit
        That follows.

    Examples
    --------
    >>> span_of([6, 6]), span_of([2.0, 1.5], ' s')
    ('6', '1.5 to 2 s')
    """
    low, high = (f'{value:.12g}' for value in (min(values), max(values)))
    return f'{low}{unit}' if low == high else f'{low} to {high}{unit}'


FOR_PROGRAMMERS = '; use sys.set_int_max_str_digits()'
"""What Python advises where a number has thousands of digits."""


def one_line(said: object) -> str:
    r"""Return what an error (or anything else) says, in one line; the kind of a silent error.

    Examples
    --------
    >>> one_line(ValueError('no such\n  voxel')), one_line(KeyError())
    ('no such voxel', 'KeyError')
    """
    text = ' '.join(str(said).split()) or type(said).__name__
    return text.partition(FOR_PROGRAMMERS)[0]


MEANT = {
    **dict.fromkeys(('decoding', 'decoder', 'decode', 'retrieval'), 'reconstruction'),
    **dict.fromkeys(('encoder', 'encode'), 'encoding'),
    **dict.fromkeys(('film', 'films', 'movies', 'video', 'videos'), 'movie'),
    **dict.fromkeys(('classification', 'classifier', 'categories', 'mvpa'), 'conditions'),
    **dict.fromkeys(('image', 'picture', 'pictures', 'photos'), 'images'),
}
"""Names that mean another one, however little they look like it."""


def shown_command(words: Iterable[str], folders: Mapping[str, Path]) -> str:
    """Write a command so that it can be pasted, without the paths of a machine.

    Parameters
    ----------
    words
        Its arguments.
    folders
        Folders by the names that stand for them; of other absolute paths the last part is left.

    Examples
    --------
    >>> words = ['/a/b/raw', 'out', '--atlas=/a/b/raw/at las.nii', '-w', '/tmp/x']
    >>> shown_command(words, {'BIDS_DIR': Path('/a/b/raw')})
    "bids_neurodecode BIDS_DIR out '--atlas=BIDS_DIR/at las.nii' -w .../x"
    """
    nearest = sorted(folders.items(), key=lambda each: -len(each[1].parts))

    def named(value: str) -> str:
        path = Path(value)
        if not path.is_absolute():
            return value
        for name, folder in nearest:
            if path.is_relative_to(folder):
                return str(name / path.relative_to(folder))
        return f'.../{path.name}'

    shown = []
    for word in words:
        start, equals, value = word.partition('=')
        both = equals and not start.startswith('/')
        shown.append(f'{start}={named(value)}' if both else named(word))
    return shlex.join(['bids_neurodecode', *shown])


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the question after an unknown name, with a space before it; '' if none is near.

    What a name means (:data:`MEANT`) comes before what it looks like.

    Parameters
    ----------
    name
        As it was asked for.
    known
        The names that there are.
    cutoff
        How like it a name has to be, from 0 to 1 (the ratio of :mod:`difflib`).

    Examples
    --------
    >>> did_you_mean('preset', ['presets', 'weights']), did_you_mean('GABOR', ['gabor'])
    (' Did you mean presets?', ' Did you mean gabor?')
    >>> did_you_mean('dream', ['movie'])
    ''
    >>> did_you_mean('decoding', ['reconstruction', 'encoding'])
    ' Did you mean reconstruction?'
    """
    folded = {each.casefold(): each for each in known}
    asked = str(name).casefold()
    meant = MEANT.get(asked, '')
    close = (
        [meant]
        if meant in folded
        else difflib.get_close_matches(asked, folded, n=1, cutoff=cutoff)
    )
    return f' Did you mean {folded[close[0]]}?' if close else ''


def coarse(seconds: float) -> str:
    """Write a duration that is not known exactly.

    Examples
    --------
    >>> coarse(4), coarse(47), coarse(130), coarse(860), coarse(8000)
    ('10 s', '50 s', '2 min', '14 min', '2 h 15 min')
    """
    steps = ((60, 10), (1800, 60), (3600, 300))
    step = next((step for limit, step in steps if seconds < limit), 900)
    return clock(max(round(seconds / step), 1) * step).replace(' 0 s', '')


def clock(seconds: float) -> str:
    """Write a duration as a person reads it.

    Examples
    --------
    >>> clock(75), clock(7260), clock(4)
    ('1 min 15 s', '2 h 1 min', '4 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours} h {minutes} min'
    return f'{minutes} min {rest} s' if minutes else f'{rest} s'
