"""Permutation tests that fit the models again: labels are exchanged before anything is fitted.

The labels of all samples (which stimulus each of them shows) are exchanged among samples that are
exchangeable: within runs where runs or sessions are held out; else stimuli as a whole, repeats
moving together, within the samples of one test part (and within those that are never tested).
Then every fold is fitted, penalty included, and scored as in the analysis itself. As folds share
training samples their scores depend on each other, and so they do under these permutations: no
correction is needed. Betas and the choice of voxels are those of the analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation import identification, statistics
from bids_neurodecode.mapped import group_sums
from bids_neurodecode.models.refit import RidgePath
from bids_neurodecode.models.ridge import make_folds
from bids_neurodecode.samples import Parts, Samples, Split, contents, relabelled
from bids_neurodecode.systems.base import PerStimulus, run_labels
from bids_neurodecode.systems.linear import (
    MANY_STIMULI,
    DecoderSettings,
    LinearDecoder,
    candidate_stimuli,
    group_labels,
)
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL
from bids_neurodecode.systems.pooling import IDENTIFICATION
from bids_neurodecode.typing import FloatArray

StrArray = npt.NDArray[np.str_]


def relabellings(
    parts: Sequence[Parts], split: Split, n_permutations: int, rng: np.random.Generator
) -> tuple[Iterator[StrArray], bool]:
    """Exchange the labels of all samples of a split.

    Parameters
    ----------
    parts
        The samples of each fold.
    split
        What was held out.
    n_permutations
        How many times.
    rng
        Source of randomness.

    Returns
    -------
    iterator of numpy.ndarray
        The stimulus of each sample, (n_samples,), by its number among all.
    bool
        Whether the repeats of a stimulus stay together.
    """
    n = 1 + max(int(max(fold.train.max(), fold.test.max())) for fold in split)
    stimulus, run = np.full(n, '', dtype=object), np.full(n, '', dtype=object)
    tested = np.full(n, -1)
    for number, (fold, part) in enumerate(zip(split, parts, strict=True)):
        for rows, samples in ((fold.train, part.train), (fold.test, part.test)):
            stimulus[rows] = samples.table['stimulus'].astype(str).to_numpy()
            run[rows] = run_labels(samples.table)
        tested[fold.test] = number
    used = np.flatnonzero(stimulus != '')
    by_run = split.by in {'run', 'session'}
    blocks = run[used].astype(str) if by_run else tested[used]
    units = None
    if not by_run:
        shown = contents(stimulus[used], split.table)
        pairs = [f'{block} {name}' for block, name in zip(blocks, shown, strict=True)]
        units = np.asarray(pairs)
    draws = statistics.permutations(len(used), n_permutations, rng, blocks=blocks, units=units)

    def labels() -> Iterator[StrArray]:
        for index in draws:
            given = stimulus.copy()
            given[used] = stimulus[used[index]]
            yield given.astype(str)

    return labels(), not by_run


def refitted_nulls(
    decoders: Sequence[LinearDecoder],
    parts: Sequence[Parts],
    split: Split,
    features: PerStimulus,
    settings: DecoderSettings,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """Score linear decoders that are fitted again on exchanged labels.

    Parameters
    ----------
    decoders
        The decoder of each fold.
    parts, split, features, settings
        As in :func:`bids_neurodecode.systems.reconstruction.recipe.evaluate_folds`.
    n_permutations
        How many times.
    rng
        Source of randomness.

    Returns
    -------
    dict
        Identification, (n_permutations,), by ``<space>/<metric>``.
    """
    draws, whole = relabellings(parts, split, n_permutations, rng)
    folds = [
        _Fold(decoder, part, features, settings, whole)
        for decoder, part in zip(decoders, parts, strict=True)
    ]
    rows = []
    for labels in draws:
        found = [
            fold.scores(labels[where.train], labels[where.test])
            for fold, where in zip(folds, split, strict=True)
        ]
        rows.append({name: np.concatenate([f[name] for f in found]).mean() for name in found[0]})
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


class _Fold:
    """One fold, ready to be fitted to any labels."""

    def __init__(
        self,
        decoder: LinearDecoder,
        part: Parts,
        features: PerStimulus,
        settings: DecoderSettings,
        whole: bool,
    ) -> None:
        self.train, self.settings, self.measure = part.train, settings, decoder.measure
        self.n_library = len(decoder.library)
        candidates, _ = candidate_stimuli(part.train.table, part.test.table)
        self.place = {name: row for row, name in enumerate(candidates)}
        known = tuple(dict.fromkeys([*decoder.library, *candidates]))
        components = decoder.space.transform(features.of(known))
        self.components = dict(zip(known, components, strict=True))
        self.offered = np.stack([self.components[name] for name in candidates])
        saturated = decoder.space.n_components >= self.n_library - 1
        self.per_target = settings.ridge.per_target and not saturated
        self.repeats = bool(part.test.table['stimulus'].duplicated().any())
        by_run = settings.groups == 'run' or (
            settings.groups == 'auto' and self.n_library < MANY_STIMULI
        )
        # where repeats move together, or runs are held out, the folds of the penalty stay
        self.same_folds = whole or by_run
        own = part.train.table['stimulus'].astype(str).to_numpy(dtype=str)
        self.path = RidgePath(
            decoder.voxels.apply(part.train.values),
            decoder.voxels.apply(part.test.values),
            settings.ridge.alphas,
            self._folds(own),
        )

    def _folds(self, labels: StrArray) -> Any:
        table = relabelled(self.train.table, labels)
        samples = Samples(self.train.responses, table)
        groups = group_labels(samples, self.n_library, self.settings.groups)
        return make_folds(len(labels), groups, self.settings.ridge.n_folds)

    def scores(self, train: StrArray, test: StrArray) -> dict[str, FloatArray]:
        """Fit to labels and identify test samples by theirs; what each of them scores."""
        if not self.same_folds:
            self.path.hold_out(self._folds(train))
        targets = np.stack([self.components[name] for name in train])
        predicted, _ = self.path.predict(targets, per_target=self.per_target)
        found = self._identified(SINGLE_TRIAL, predicted, test)
        if self.repeats:
            names, codes = np.unique(test, return_inverse=True)
            mean = group_sums(predicted, codes, len(names)) / np.bincount(codes)[:, None]
            found |= self._identified(REPEAT_AVERAGE, mean, names)
        return found

    def _identified(
        self, space: str, predicted: FloatArray, names: StrArray
    ) -> dict[str, FloatArray]:
        alike = identification.similarity(predicted, self.offered, self.measure)
        rows, truth = np.arange(len(names)), np.array([self.place[name] for name in names])
        return {f'{space}/{k}': of(alike)[rows, truth] for k, of in IDENTIFICATION.items()}
