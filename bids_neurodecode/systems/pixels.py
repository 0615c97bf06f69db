"""Pixel scores of what was retrieved, beside those of the mean image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.evaluation import images
from bids_neurodecode.evaluation.metrics import TRUE_FEATURES, Score
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.outcomes import MEAN_IMAGE, OWN_MODEL, Outcome
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray

if TYPE_CHECKING:
    from bids_neurodecode.systems.scoring import Scorer

MANY_PAIRS = (
    'Pixel scores have no chance level and no p value: they would need {n} pairs of images '
    '(at most {limit} are compared).'
)

SPACE = 'images'
MAX_PAIRS = 10_000
_METRICS: dict[str, Callable[[Any, Any], FloatArray]] = {
    'pixcorr': images.pixcorr,
    'ssim_2d': images.ssim_2d,
}
_AT_ONCE = 256


def score_pictures(
    scorer: Scorer, outcomes: Sequence[Outcome], pictures: PerStimulus
) -> tuple[list[Score], list[str]]:
    """Compare the retrieved training image of each sample with the true one.

    A row beside the system's own is of the training image whose features are nearest to the true
    ones. It is no ceiling: the pixels of another image can be more like the true ones. Chance is
    the mean over permutations.

    Parameters
    ----------
    scorer
        Makes rows of values.
    outcomes
        Of each fold.
    pictures
        Of all stimuli, (n_stimuli, h, w, 3).

    Returns
    -------
    tuple
        Rows of the metrics table, and what its reader should know.
    """
    gallery, guess, truth, best = _gallery(outcomes, pictures)
    n_pairs = len(np.unique(guess)) * len(np.unique(truth))
    testable = n_pairs <= MAX_PAIRS
    scores = []
    for metric, compare in _METRICS.items():
        table = _Pairs(compare, gallery)

        def permuted(index: IndexArray, table: _Pairs = table) -> float:
            return float(table(truth[index], guess).mean())

        row, _ = scorer.score(
            metric,
            table(truth, guess),
            permuted if testable else None,
            space=SPACE,
            image_size=pictures.values.shape[1],
        )
        scores.append(row)
        if scorer.model == OWN_MODEL:
            scores.append(_of_truth(row, float(table(truth, best).mean())))
    notes = [] if testable else [MANY_PAIRS.format(n=n_pairs, limit=MAX_PAIRS)]
    return scores, notes


def _of_truth(row: Score, value: float) -> Score:
    """Return the row of what true features retrieve, beside that of the system's own model."""
    return replace(
        row,
        model=TRUE_FEATURES,
        value=value,
        chance=None,
        ci_low=None,
        ci_high=None,
        p=None,
        test=None,
    )


def _gallery(
    outcomes: Sequence[Outcome], pictures: PerStimulus
) -> tuple[Float32Array, IndexArray, IndexArray, IndexArray]:
    """Return the images needed, and each sample's guess, truth and best guess among them."""
    place = {name: row for row, name in enumerate(pictures.stimuli)}
    means: list[Float32Array] = []
    guess: list[int] = []
    truth: list[int] = []
    for number, outcome in enumerate(outcomes):
        truth.extend(place[name] for name in outcome.table['stimulus'])
        if outcome.model == MEAN_IMAGE:
            mean = pictures.of(outcome.library).mean(axis=0, dtype=np.float64) / 255
            means.append(mean.astype(np.float32))
            guess.extend([len(place) + number] * len(outcome.table))  # behind the stimuli
        else:
            guess.extend(place[name] for name in outcome.retrieved)
    best = [place[name] for outcome in outcomes for name in outcome.best]
    used, rows = np.unique(np.array([guess, truth, best]), return_inverse=True)
    stimuli = pictures.values[used[used < len(place)]].astype(np.float32) / np.float32(255)
    return np.concatenate([stimuli, *(mean[None] for mean in means)]), rows[0], rows[1], rows[2]


class _Pairs:
    """Scores of pairs of images, each computed once."""

    def __init__(
        self,
        compare: Callable[[Any, Any], FloatArray],
        gallery: Float32Array,
    ) -> None:
        self._compare = compare
        self._gallery = gallery
        self._known = np.full((len(gallery), len(gallery)), np.nan, dtype=np.float64)

    def __call__(self, truth: IndexArray, guess: IndexArray) -> FloatArray:
        missing = np.isnan(self._known[truth, guess])
        pairs = np.unique(np.stack([truth[missing], guess[missing]], axis=1), axis=0)
        for start in range(0, len(pairs), _AT_ONCE):
            a, b = pairs[start : start + _AT_ONCE].T
            self._known[a, b] = self._compare(self._gallery[a], self._gallery[b])
        return np.asarray(self._known[truth, guess])
