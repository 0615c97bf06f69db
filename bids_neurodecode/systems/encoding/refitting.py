"""Permutation tests of ridge encoding models that are fitted again on exchanged labels.

Which labels are exchanged is the same as in :mod:`bids_neurodecode.systems.refitting`. Feature
components are those of the analysis, as they depend on the set of training stimuli alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bids_neurodecode.models.refit import RidgePath
from bids_neurodecode.models.ridge import make_folds
from bids_neurodecode.samples import Fold, Parts, Samples, Split, relabelled
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.encoding.encoders import (
    Bands,
    EncoderSettings,
    RidgeEncoder,
    components,
    some_stimuli,
)
from bids_neurodecode.systems.encoding.outcomes import FoldResult, fold_result
from bids_neurodecode.systems.encoding.scores import Refitted, voxel_r
from bids_neurodecode.systems.linear import Group, group_labels
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL
from bids_neurodecode.systems.pooling import IDENTIFICATION, identification_values
from bids_neurodecode.systems.refitting import StrArray, relabellings
from bids_neurodecode.typing import FloatArray


@dataclass(frozen=True, eq=False)
class FittedFold:
    """One fold as it was analysed.

    Parameters
    ----------
    encoder
        Fitted to its training samples.
    part
        Its samples.
    candidates
        What test samples are identified among.
    number, fold
        Which fold, and the row numbers of its samples.
    seed
        Of what is drawn when a model is fitted.
    """

    encoder: RidgeEncoder
    part: Parts
    candidates: tuple[str, ...]
    number: int
    fold: Fold
    seed: int


def refit_encoders(
    folds: Sequence[FittedFold],
    split: Split,
    features: Bands,
    settings: EncoderSettings,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> dict[str, Refitted]:
    """Score ridge encoding models that are fitted again on exchanged labels.

    Parameters
    ----------
    folds
        The folds of ``split``.
    split, features, settings
        As in the analysis.
    n_permutations
        How many times.
    rng
        Source of randomness.

    Returns
    -------
    dict
        Permuted scores of single trials and, where there are any, of averages, by space.
    """
    draws, _ = relabellings([f.part for f in folds], split, n_permutations, rng)
    again = [_Again(fold, features, settings) for fold in folds]
    r: dict[str, list[FloatArray]] = {}
    identified: dict[str, dict[str, list[float]]] = {}
    for labels in draws:
        for space in again[0].spaces:
            results = [x.result(labels, average=space == REPEAT_AVERAGE) for x in again]
            r.setdefault(space, []).append(voxel_r(results))
            outcomes = [result.outcome for result in results]
            scores = identified.setdefault(space, {metric: [] for metric in IDENTIFICATION})
            for metric in IDENTIFICATION:
                scores[metric].append(float(identification_values(outcomes, metric).mean()))
    return {
        space: Refitted(
            np.stack(values).astype(np.float32),
            {metric: np.array(found) for metric, found in identified[space].items()},
        )
        for space, values in r.items()
    }


class _Again:
    """One fold, ready to be fitted to any labels."""

    def __init__(self, fitted: FittedFold, features: Bands, settings: EncoderSettings) -> None:
        self.fitted, self.settings = fitted, settings
        encoder = fitted.encoder
        names = {*fitted.part.train.table['stimulus'].astype(str), *fitted.candidates}
        known = tuple(sorted(names))
        parts = [
            components(space, features[name].of(known), encoder.whiten)
            for name, space in encoder.spaces.items()
        ]
        self.components = dict(zip(known, np.concatenate(parts, axis=1), strict=True))
        repeats = bool(fitted.part.test.table['stimulus'].duplicated().any())
        self.spaces = (SINGLE_TRIAL, REPEAT_AVERAGE) if repeats else (SINGLE_TRIAL,)
        self._labels: StrArray | None = None
        self._fit: tuple[RidgeEncoder, Any] | None = None

    def result(self, labels: StrArray, *, average: bool) -> FoldResult:
        """Fit to labels (of all samples) and predict the test samples by theirs."""
        if self._fit is None or self._labels is not labels:
            self._labels, self._fit = labels, self._refit(labels[self.fitted.fold.train])
        encoder, known = self._fit
        test = self.fitted.part.test
        names = labels[self.fitted.fold.test]
        return fold_result(
            'ridge',
            encoder,
            known,
            self.fitted.candidates,
            Samples(test.responses, test.table.assign(stimulus=names)),
            self.fitted.number,
            self.fitted.fold,
            average,
        )

    def _refit(self, labels: StrArray) -> tuple[RidgeEncoder, Any]:
        settings, encoder = self.settings, self.fitted.encoder
        train = self.fitted.part.train
        train, responses = (
            Samples(train.responses, relabelled(train.table, labels)),
            encoder.responses,
        )
        if settings.n_training is not None:
            rng = np.random.default_rng(self.fitted.seed)
            train = some_stimuli(train, settings.n_training, rng)
            # exchanged labels take other trials along
            responses = Standardizer.fit(train.values)
        if settings.average_training:
            train = train.averaged()
        names = train.table['stimulus'].astype(str)
        by: Group = 'stimulus' if settings.average_training else settings.groups
        groups = group_labels(train, names.nunique(), by)
        path = RidgePath(
            np.stack([self.components[name] for name in names]),
            np.stack([self.components[name] for name in self.fitted.candidates]),
            settings.ridge.alphas,
            make_folds(len(names), groups, settings.ridge.n_folds),
        )
        targets = responses.apply(train.values)
        known, cv_r2 = path.predict(targets, per_target=settings.ridge.per_target)
        ridge = replace(encoder.ridge, cv_r2=cv_r2.astype(np.float32))
        return (
            replace(encoder, ridge=ridge, responses=responses),
            responses.invert(known.astype(np.float32)),
        )
