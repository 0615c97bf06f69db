"""What a shared head is worth to a participant who had no part in it.

Each participant in turn is the newcomer: the head is trained on the others, the newcomer's layer
on a growing number of their own images, and both are scored on images that were in nobody's
training. The baseline is ridge regression on the same images of the newcomer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_neurodecode.config import RidgeSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.identification import identification_2way, similarity
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.samples import Samples, contents
from bids_neurodecode.signals.reliability import ncsnr, noise_ceiling
from bids_neurodecode.systems.encoding.encoders import Encoder, EncoderSettings, fit, some_stimuli
from bids_neurodecode.systems.encoding.shared import (
    Bands,
    SharedHead,
    SharedSettings,
    fit_layer,
    train_head,
)
from bids_neurodecode.typing import BoolArray, Float32Array

TOO_FEW_PICTURES = (
    'Participant {person} saw {n} of the images that are held out for all; judging a new '
    'participant needs at least {needed}. Give participants more images in common.'
)
TOO_FEW_PEOPLE = (
    'Judging a shared head on a participant who had no part in it needs at least three '
    'participants; there are {n}.'
)
SHARES = (0.1, 0.25, 0.5, 1.0)
"""Of a newcomer's training images."""
TEST_SHARE = 0.2
MIN_TEST = 5
MIN_TRAINING = 10
PROTOCOL = 'new-participant'


@dataclass(frozen=True, eq=False)
class Newcomers:
    """The scores of all newcomers, and the head trained on everybody and everything.

    Parameters
    ----------
    scores
        One row per newcomer, number of images and model (``shared`` or ``ridge``):
        ``participant``, ``model``, ``protocol``, ``n_pictures``, ``n_test``, ``n_voxels``,
        ``voxel_r_median``, ``ceiling`` (median noise ceiling of these voxels, as r) and
        ``identification_2way``.
    head
        Trained on all participants, their test images included; no score is computed from it.
    """

    scores: pd.DataFrame
    head: SharedHead


def study_newcomers(
    people: Mapping[str, Samples],
    features: Bands,
    *,
    settings: SharedSettings | None = None,
    ridge: RidgeSettings | None = None,
    shares: Sequence[float] = SHARES,
    threshold: float = 0.05,
    rng: np.random.Generator,
) -> Newcomers:
    """Judge the shared head on each participant in turn, then train it on all.

    Parameters
    ----------
    people
        All trials of each participant, on voxels of its own.
    features
        Each feature space, of all stimuli.
    settings, ridge
        Of the head, and of the layers and the ridge beside.
    shares
        Of a newcomer's training images; fewer than 10 images are not tried.
    threshold
        Scores are of voxels with a noise ceiling above it (all, where no stimulus is repeated).
    rng
        Draws the test images (a fifth, the same for all) and the newcomers' images.

    Raises
    ------
    DataError
        If there are fewer than three participants, or a newcomer saw too few test images.
    """
    ridge = ridge or RidgeSettings()
    if len(people) < 3:
        raise DataError(TOO_FEW_PEOPLE.format(n=len(people)))
    names = sorted({str(name) for s in people.values() for name in s.table['stimulus']})
    shown = contents(names, *(s.table for s in people.values()))
    distinct = np.unique(shown)
    drawn = rng.permutation(distinct)[: round(TEST_SHARE * len(distinct))]
    test = {name for name, content in zip(names, shown, strict=True) if content in drawn}
    rows = []
    for person in people:
        others = {
            name: _split(samples, test)[0] for name, samples in people.items() if name != person
        }
        head = train_head(others, features, settings, rng=rng)
        training, held = _split(people[person], test)
        judge = _NewcomerScorer.of(person, people[person], held, threshold)
        pictures = training.table['stimulus'].nunique()
        for n in sorted({round(share * pictures) for share in shares}):
            if n < MIN_TRAINING:
                continue
            some = some_stimuli(training, n, rng)
            models: dict[str, Encoder] = {
                'shared': fit_layer(some, features, head, ridge),
                'ridge': fit(some, features, EncoderSettings(ridge=ridge, baseline=False)),
            }
            rows += [judge.row(model, n, encoder, features) for model, encoder in models.items()]
    return Newcomers(pd.DataFrame(rows), train_head(people, features, settings, rng=rng))


@dataclass(frozen=True, eq=False)
class _NewcomerScorer:
    """A newcomer's test images, and the mean response to each."""

    person: str
    stimuli: tuple[str, ...]
    truth: Float32Array
    voxels: BoolArray
    ceiling: float

    @classmethod
    def of(cls, person: str, samples: Samples, held: Samples, threshold: float) -> _NewcomerScorer:
        averaged = held.averaged()
        stimuli = tuple(averaged.table['stimulus'].astype(str))
        if len(stimuli) < MIN_TEST:
            raise DataError(
                TOO_FEW_PICTURES.format(person=person, n=len(stimuli), needed=MIN_TEST)
            )
        voxels, ceiling = np.ones(samples.values.shape[1], dtype=bool), float('nan')
        if samples.table['stimulus'].duplicated().any():
            ratio = ncsnr(samples.values, samples.table['stimulus'].astype(str))
            counts = held.table['stimulus'].value_counts().to_numpy()
            ceilings = np.asarray(noise_ceiling(ratio, counts))
            if (ceilings > threshold).any():
                voxels = ceilings > threshold
                ceiling = float(np.sqrt(np.median(ceilings[voxels])))
        return cls(person, stimuli, averaged.values, voxels, ceiling)

    def row(self, model: str, n: int, encoder: Encoder, features: Bands) -> dict[str, object]:
        predicted = encoder.predict(
            {name: band.of(list(self.stimuli)) for name, band in features.items()}
        )
        truth, predicted = self.truth[:, self.voxels], predicted[:, self.voxels]
        r = pearson_by_column(truth, predicted)
        alike = similarity(predicted, truth)
        return {
            'participant': self.person,
            'model': model,
            'protocol': PROTOCOL,
            'n_pictures': n,
            'n_test': len(self.stimuli),
            'n_voxels': int(self.voxels.sum()),
            'voxel_r_median': float(np.nanmedian(r)),
            'ceiling': self.ceiling,
            'identification_2way': identification_2way(alike, np.arange(len(truth))),
        }


def _split(samples: Samples, test: set[str]) -> tuple[Samples, Samples]:
    """Return the training and the test trials of a participant."""
    out = samples.table['stimulus'].astype(str).isin(test).to_numpy()
    return samples.take(np.flatnonzero(~out)), samples.take(np.flatnonzero(out))
