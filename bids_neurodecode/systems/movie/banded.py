"""Banded ridge on several feature spaces of films, each with its own penalty and delays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.models.banded import fit_banded
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.movie.judging import FilmScorer, Judged
from bids_neurodecode.systems.movie.parts import showings_of
from bids_neurodecode.systems.movie.recipe import (
    FilmRidge,
    delayed_design,
    predict_folds,
    time_blocks,
)
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray

MODEL = 'banded-ridge'
LEFT_OUT = 'The features "{name}" do not vary over these films; banded ridge left them out.'
NOTHING_VARIES = 'No feature of the films varies over the training samples. Give other films.'


def encode_banded(
    samples: Samples,
    split: Split,
    features: Mapping[str, Float32Array],
    how: FilmRidge,
    *,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
    chosen: BoolArray | None = None,
) -> tuple[Judged, tuple[str, ...]]:
    """Fit on the training part of every fold and judge on its test part.

    Parameters
    ----------
    samples
        Responses on the film's clock, without any delay taken out. Rows with NaN (censored
        volumes) are neither fitted nor judged.
    split
        Folds over the same table.
    features
        Each feature space by name, (n_samples, n_features), one row per sample.
    how
        Delays, components of each space, ridge.
    evaluation
        Intervals and tests.
    rng
        Of these, and of the mixtures that are tried.
    chosen
        The voxels that each fold uses, (n_folds, n_voxels); all of them if None.

    Returns
    -------
    Judged
        Its scores, under the model name :data:`MODEL`.
    tuple of str
        Warnings.

    Raises
    ------
    DataError
        If no feature varies.
    """
    used = {name: x for name, x in features.items() if np.ptp(x, axis=0).max() > 0}
    if not used:
        raise DataError(NOTHING_VARIES)
    warnings = tuple(LEFT_OUT.format(name=name) for name in features if name not in used)
    showings, period = showings_of(samples.table), how.repetition_time

    def predict(rows: IndexArray, train: Samples) -> Float32Array:
        designs = {
            name: delayed_design(how.space(x[rows]), x, showings, period, how.delays)
            for name, x in used.items()
        }
        responses = Standardizer.fit(train.values)
        model = fit_banded(
            {name: design[rows] for name, design in designs.items()},
            responses.apply(train.values),
            alphas=how.ridge.alphas,
            groups=time_blocks(train.table),
            n_folds=how.ridge.n_folds,
            rng=rng,
            device=how.device,
        )
        return responses.invert(model.predict(designs))

    folds = predict_folds(samples, split, predict, chosen)
    judged = FilmScorer(split.protocol, period, evaluation, rng).judge(samples, folds, model=MODEL)
    return judged, (*warnings, *judged.notes)
