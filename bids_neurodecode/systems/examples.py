"""Which held-out samples show how well a model does: the best, the middle and the worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bids_neurodecode.typing import IndexArray, RealArray


def draw_examples(names: Sequence[str], n: int) -> tuple[list[str], IndexArray]:
    """Draw samples at random, where no score can tell good from bad ones.

    Parameters
    ----------
    names
        What each sample shows: each comes once, as long as there are others.
    n
        How many, at most.

    Returns
    -------
    list of str
        ``random``, once a sample.
    numpy.ndarray
        Row numbers; the same for the same number of samples.
    """
    order = np.random.default_rng(0).permutation(len(names))
    again = pd.Series(names).iloc[order].duplicated().to_numpy()
    rows = order[np.argsort(again, kind='stable')][:n]
    return ['random'] * len(rows), rows.astype(np.intp)


def pick_examples(
    score: RealArray, n: int, names: Sequence[str] | None = None
) -> tuple[list[str], IndexArray]:
    """Choose the best, the middle and the worst samples.

    The best of the best, the worst of the worst and what is nearest to the median come first, as
    a page may show but the first of each. Of fewer than three samples the best one is taken.

    Parameters
    ----------
    score
        Of each sample, (n_samples,).
    n
        Of each kind, at most.
    names
        What each sample shows: within a kind each comes once, as long as there are others. None:
        each shows something else.

    Returns
    -------
    list of str
        ``best``, ``median`` or ``worst``.
    numpy.ndarray
        Row numbers.
    """
    order = np.argsort(-np.asarray(score), kind='stable')
    middle = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind='stable')
    n = min(n, len(order) // 3) or min(1, len(order))
    walks = {'best': order, 'median': order[middle], 'worst': order[::-1]}
    shown = pd.Series(range(len(order)) if names is None else names)
    kinds: list[str] = []
    rows: list[int] = []
    for kind in walks if len(order) > 2 else ('best',):
        walk = walks[kind]
        again = shown.iloc[walk].duplicated().to_numpy()
        kinds += [kind] * n
        rows += walk[np.argsort(again, kind='stable')][:n].tolist()
    return kinds, np.array(rows, dtype=np.intp)
