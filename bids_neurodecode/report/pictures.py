"""Images inside the page: what was shown beside what was decoded, good and bad alike."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from bids_neurodecode.errors import InputError
from bids_neurodecode.report.panels import Pair, draw_pairs
from bids_neurodecode.report.style import plain, shorten, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Kind = Literal['best', 'median', 'worst']

THUMBNAIL = 128
"""Longest side in pixels of an image in the page."""


@dataclass(frozen=True)
class Example:
    """One held-out sample: what was shown, what was decoded, and how well it ranked."""

    kind: Kind
    stimulus: str
    retrieved: str
    rank: float
    n_candidates: int


def pick_examples(predictions: pd.DataFrame, n: int = 4) -> list[Example]:
    """Choose the best, the middle and the worst held-out samples.

    Samples are put in order by rank (as a share of their candidates) and, within one rank, by the
    similarity of the decoded features to the true stimulus. A stimulus appears once where there
    are others to show.

    Parameters
    ----------
    predictions
        Columns ``stimulus``, ``retrieved``, ``rank``, ``n_candidates``; ``similarity`` is used
        where it is there.
    n
        How many of each kind; fewer where there are not three times as many samples.
    """
    known = predictions['retrieved'].notna() & (predictions['retrieved'] != '')
    table = predictions[known].copy()
    n = min(n, len(table) // 3) or min(1, len(table))
    if not n:
        return []
    table['_share'] = table['rank'] / table['n_candidates']
    keys, ascending = ['_share'], [True]
    if 'similarity' in table.columns:
        keys, ascending = ['_share', 'similarity'], [True, False]
    table = table.sort_values(keys, ascending=ascending, kind='stable')
    order = np.arange(len(table))
    middle = order[np.argsort(np.abs(order - (len(table) - 1) / 2), kind='stable')]
    walks: dict[Kind, Any] = {'best': order, 'median': middle, 'worst': order[::-1]}
    examples = []
    seen: set[str] = set()
    for kind, walk in walks.items():
        if kind != 'best' and len(table) < 3:
            continue
        for place in _distinct(table['stimulus'].tolist(), walk, n, seen):
            row = table.iloc[place]
            examples.append(
                Example(
                    kind,
                    str(row['stimulus']),
                    str(row['retrieved']),
                    float(row['rank']),
                    int(row['n_candidates']),
                )
            )
    return examples


def _distinct(stimuli: list[str], walk: Any, n: int, seen: set[str]) -> list[int]:
    """Take the first ``n`` places of a walk, each stimulus once, then fill up with the rest.

    Stimuli in ``seen`` come last, and those that are taken are added to it.
    """
    first: list[int] = []
    rest: list[int] = []
    met = set(seen)
    for place in walk:
        (rest if stimuli[place] in met else first).append(int(place))
        met.add(stimuli[place])
    chosen = (first + rest)[:n]
    seen.update(stimuli[place] for place in chosen)
    return chosen


def thumbnail(path: Path, size: int = THUMBNAIL) -> Image | None:
    """Read an image, at most ``size`` pixels a side; None where it cannot be read as one.

    Parameters
    ----------
    path
        Of the image.
    size
        Pixels of the longer side, at most.
    """
    from PIL import Image, UnidentifiedImageError

    from bids_neurodecode.stimuli.images import open_picture

    try:
        with open_picture(path) as image:
            small = image.convert('RGB')
    except (OSError, InputError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    return small


def data_uri(image: Image) -> str:
    """Return an image as a JPEG inside a ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, format='JPEG', quality=85)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode('ascii')


@styled
def plot_examples(examples: list[Example], pictures: dict[str, Image]) -> Figure:
    """Draw shown stimuli above retrieved ones, one column per sample, two rows a kind.

    Parameters
    ----------
    examples
        From :func:`pick_examples`.
    pictures
        Thumbnails by stimulus name; one that is missing leaves an empty frame.
    """
    rows: dict[str, list[Pair]] = {}
    for example in examples:
        names = (example.stimulus, example.retrieved)
        shown, retrieved = (
            np.asarray(pictures[name]) if name in pictures else None for name in names
        )
        title = f'rank {example.rank:g} of {example.n_candidates}'
        below = plain(shorten(names[0], 18)), plain(shorten(names[1], 18))
        rows.setdefault(example.kind, []).append(Pair(title, (shown, retrieved), below))
    return draw_pairs(rows, ('shown', 'retrieved'))
