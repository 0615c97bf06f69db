"""Which model of single-trial betas tells stimuli apart, found within training trials.

Noise components (model C) take out what voxels share that do not respond to stimuli as such;
where stimuli differ in which voxels they drive, the components can hold that difference too. How
well repeats predict each other, by which components and fractions are chosen, is a squared
difference: it also falls where betas only get smaller. So the models are compared by what betas
are for: held-out runs of the training trials, whose presentations have to be identified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_neurodecode.signals.reliability import ncsnr
from bids_neurodecode.signals.trialtypes import InnerBetas, Model
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray

N_FOLDS = 5
"""Groups of training runs that are held out in turn."""
LEAST_FOLDS = 2


@dataclass(frozen=True, eq=False)
class InnerFold:
    """Trials that tune and learn, and trials of other runs that are identified, (n_trials,)."""

    train: BoolArray
    test: BoolArray


def inner_folds(
    training: BoolArray, stimulus: npt.ArrayLike, run: npt.ArrayLike
) -> tuple[InnerFold, ...]:
    """Hold out groups of runs of the training trials in turn.

    Parameters
    ----------
    training
        Trials that may be looked at, (n_trials,).
    stimulus, run
        Label of each trial, (n_trials,).

    Returns
    -------
    tuple of InnerFold
        Only trials of stimuli that are seen in the rest are identified. Empty where fewer than
        two groups can be held out: components cannot be chosen without a stimulus in two runs.
    """
    stimulus, run = np.asarray(stimulus), np.asarray(run)
    runs = np.unique(run[training])
    folds = []
    for held in np.array_split(runs, max(1, min(N_FOLDS, len(runs)))):
        outside = training & np.isin(run, held)
        train = training & ~outside
        seen = np.unique(stimulus[train])
        test = outside & np.isin(stimulus, seen)
        if len(seen) > 1 and test.any() and _repeats_over_runs(stimulus[train], run[train]):
            folds.append(InnerFold(train, test))
    return tuple(folds) if len(folds) >= LEAST_FOLDS else ()


def _repeats_over_runs(stimulus: npt.NDArray[np.generic], run: npt.NDArray[np.generic]) -> bool:
    pairs = {(s, r) for s, r in zip(stimulus.tolist(), run.tolist(), strict=True)}
    return len(pairs) > len({s for s, _ in pairs})


def identify_repeats(betas: Float32Array, stimulus: npt.ArrayLike, fold: InnerFold) -> FloatArray:
    """Identify held-out presentations by ridge regression onto which stimulus it was.

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels).
    stimulus
        Label of each trial, (n_trials,).
    fold
        Who learns, and who is identified.

    Returns
    -------
    ndarray of shape (n_test,)
        Share of the other stimuli seen in training that score below the true one, ties counted
        half: chance is .5.

    Notes
    -----
    Voxels are z-scored and weighted by their noise-ceiling signal-to-noise ratio, both from the
    trials that learn; the penalty is their mean squared length. Nothing is chosen by the result.
    """
    from sklearn.linear_model import Ridge

    _, codes = np.unique(np.asarray(stimulus), return_inverse=True)
    train, test = codes[fold.train], codes[fold.test]
    learn = betas[fold.train].astype(np.float64)
    mean, deviation = learn.mean(axis=0), learn.std(axis=0)
    keep = np.flatnonzero(np.isfinite(deviation) & (deviation > 0))
    ratio = np.zeros(0)
    if keep.size:
        ratio = ncsnr(learn[:, keep], train).astype(np.float64)
        # a voxel without noise would have an infinite weight
        finite = np.isfinite(ratio)
        ratio = np.where(finite, ratio, ratio[finite].max(initial=1.0))
    keep, ratio = keep[ratio > 0], ratio[ratio > 0]
    if not keep.size:
        return np.full(len(test), 0.5)
    scale = ratio / deviation[keep]
    known = np.unique(train)
    x = (learn[:, keep] - mean[keep]) * scale
    model = Ridge(alpha=float(np.square(x).sum(axis=1).mean()))
    model.fit(x, (train[:, None] == known).astype(np.float64))
    scores = model.predict((betas[fold.test][:, keep] - mean[keep]) * scale).reshape(len(test), -1)
    own = scores[np.arange(len(test)), np.searchsorted(known, test)][:, None]
    below = (scores < own).sum(axis=1) + 0.5 * ((scores == own).sum(axis=1) - 1)
    return np.asarray(below / (len(known) - 1), dtype=np.float64)


def compare_models(
    inner: Iterable[InnerBetas], stimulus: npt.ArrayLike, folds: Sequence[InnerFold]
) -> dict[Model, float]:
    """Return the mean share of pairs identified by the betas of each model, over all folds.

    Parameters
    ----------
    inner
        Betas of each inner fold, by model.
    stimulus
        What each trial showed, (n_trials,).
    folds
        The inner folds, in the order of ``inner``.
    """
    outcomes: dict[Model, list[FloatArray]] = {}
    for each, fold in zip(inner, folds, strict=True):
        for model, betas in each.betas.items():
            outcomes.setdefault(model, []).append(identify_repeats(betas, stimulus, fold))
    return {model: float(np.concatenate(found).mean()) for model, found in outcomes.items()}


def best_model(scores: Mapping[Model, float]) -> Model:
    """Return the model that identifies most; the simplest of equal ones.

    Examples
    --------
    >>> best_model({'B': 0.8, 'C': 0.9, 'D': 0.9})
    'C'
    """
    return max(sorted(scores), key=lambda model: scores[model])
