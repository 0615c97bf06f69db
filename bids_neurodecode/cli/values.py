"""Values of options: text to paths, labels, pairs, counts and amounts of memory."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bids_neurodecode.extensions import system_names, unknown
from bids_neurodecode.text import one_line

BAD_MEMORY = '{text!r} is no amount of memory; give a number with a unit, such as 16G or 16000M'
BAD_PAIR = '{text!r} is not NAME=PATH; give such as fmriprep=/data/derivatives/fmriprep'
BAD_LABEL = '{text!r} is no BIDS label; labels hold letters, digits and + only'
BAD_PATH = '{text!r} is no path that can be used: {reason}'
BAD_COUNT = '{text!r} is not a whole number of {low} or more'

UNITS = {'K': 1024.0**-2, 'M': 1 / 1024.0, 'G': 1.0, 'T': 1024.0}


def path_value(text: str) -> Path:
    """Return an absolute path (links are kept); whether anything is there is not asked."""
    if not text:  # a variable of the shell that was not set, most often
        raise argparse.ArgumentTypeError(BAD_PATH.format(text=text, reason='it is empty'))
    try:
        text.encode()  # what is written of it is UTF-8
        path = Path(text).expanduser().absolute()
        path.resolve()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()  # names that are too long
    except (OSError, RuntimeError, ValueError) as error:
        short = f'{text[:60]}...' if len(text) > 60 else text
        reason = getattr(error, 'strerror', None) or one_line(error)
        raise argparse.ArgumentTypeError(BAD_PATH.format(text=short, reason=reason)) from error
    return path


def label_value(key: str) -> Callable[[str], str]:
    """Return a function that strips ``key-`` and checks a BIDS label."""

    def label(text: str) -> str:
        bare = text.removeprefix(f'{key}-')
        if not re.fullmatch(r'[a-zA-Z0-9+]+', bare):
            raise argparse.ArgumentTypeError(BAD_LABEL.format(text=text))
        return bare

    return label


def system_value(text: str) -> str:
    """Return the name of a system, of this package or an installed one."""
    known = system_names()
    if text not in known:
        raise argparse.ArgumentTypeError(unknown('system', text, known))
    return text


def pair_value(text: str) -> tuple[str, Path]:
    """Return name and path of ``NAME=PATH``."""
    name, _, path = text.partition('=')
    if not re.fullmatch(r'[\w.-]+', name) or not path:
        raise argparse.ArgumentTypeError(BAD_PAIR.format(text=text))
    return name, path_value(path)


def count_value(low: int) -> Callable[[str], int]:
    """Return a function that reads a whole number of ``low`` or more."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(BAD_COUNT.format(text=text, low=low))
        return int(text)

    return count


def dashed(word: str) -> str:
    """Write the name of an option with dashes; other words, and values, stay as they are.

    Examples
    --------
    >>> dashed('--participant_label'), dashed('--mem_mb=16_000'), dashed('sub_01')
    ('--participant-label', '--mem-mb=16_000', 'sub_01')
    """
    if not word.startswith('--'):
        return word
    name, equals, value = word.partition('=')
    return f'{name.replace("_", "-")}{equals}{value}'


def amount_value(unit: str) -> Callable[[str], float]:
    """Return a function that reads an amount of memory in GB; a bare number is in ``unit``."""

    def amount(text: str) -> float:
        bare = re.fullmatch(r'\d+(?:\.\d+)?', text.strip())
        return memory_value(f'{text.strip()}{unit}' if bare else text)

    return amount


def memory_value(text: str) -> float:
    """Return an amount of memory in GB."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT])i?B?', text.strip(), flags=re.IGNORECASE)
    amount = float(match[1]) * UNITS[match[2].upper()] if match else 0.0
    if amount <= 0 or not math.isfinite(amount):
        raise argparse.ArgumentTypeError(BAD_MEMORY.format(text=text))
    return amount
