"""The movie system's linear model: frame features, finite impulse responses, ridge.

The response of a voxel at time t is a weighted sum of the film's features at t minus each of a
few delays (Nishimoto et al. 2011, Current Biology 21:1641). It is the baseline that any network
has to beat, and it needs no pretrained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.config import Config, EvaluationSettings, RidgeSettings
from bids_neurodecode.models.ridge import RidgeModel, fit_ridge
from bids_neurodecode.samples import Samples, Split
from bids_neurodecode.settings.encoding import TABLE
from bids_neurodecode.signals.delay import fir_design
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.movie.judging import FilmScorer, Judged
from bids_neurodecode.systems.movie.parts import FoldPrediction, on_voxels, showings_of
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray

BLOCK_SECONDS = 30.0
"""Training samples are held out in blocks of this length when the penalty is chosen."""


@dataclass(frozen=True)
class FilmRidge:
    """How linear models of films are fitted.

    Parameters
    ----------
    repetition_time, delays
        Seconds.
    n_components
        Principal components of each feature space, at most; all if None.
    ridge
        Penalties and folds.
    columns
        Take no more features than that as they are, each standardised.
    device
        ``cpu`` or ``cuda``.
    """

    repetition_time: float
    delays: Sequence[float]
    n_components: int | None = None
    ridge: RidgeSettings = field(default_factory=RidgeSettings)
    columns: bool = False
    device: Any = 'cpu'

    @classmethod
    def of(cls, config: Config, repetition_time: float, **changes: Any) -> FilmRidge:
        """Take what a configuration says of delays, features and ridge.

        Parameters
        ----------
        config
            Settings of ``delay``, ``features`` and ``ridge``.
        repetition_time
            Seconds.
        **changes
            Fields that are to be otherwise.
        """
        told: dict[str, Any] = {
            'n_components': config.features.n_components,
            'ridge': config.ridge,
            'columns': config.features.extractor == TABLE,
        }
        return cls(repetition_time, config.delay.fir_seconds, **{**told, **changes})

    def space(self, features: Float32Array) -> FeatureSpace:
        """Fit the components of the features of training samples, (n_train, n_features)."""
        fit = FeatureSpace.of_columns if self.columns else FeatureSpace.fit
        return fit(features, self.n_components)


@dataclass(frozen=True, eq=False)
class FilmEncoder:
    """A fitted linear encoding model.

    Parameters
    ----------
    space
        Principal components of the frame features, fitted on training samples.
    ridge
        From delayed components to standardised responses.
    responses
        Mean and deviation of the training responses, voxel by voxel.
    repetition_time, delays
        Seconds.
    """

    space: FeatureSpace
    ridge: RidgeModel
    responses: Standardizer
    repetition_time: float
    delays: tuple[float, ...]

    def predict(self, features: Float32Array, showings: npt.ArrayLike) -> Float32Array:
        """Predict responses, in the units of the training responses.

        Parameters
        ----------
        features
            Frame features (n_samples, n_features), one row per volume.
        showings
            One label per sample; the impulse responses do not reach from one presentation into the
            next.
        """
        design = delayed_design(self.space, features, showings, self.repetition_time, self.delays)
        return self.responses.invert(self.ridge.predict(design))


@dataclass(frozen=True, eq=False)
class FilmEncoding(Judged):
    """What the encoder scored on held-out samples.

    Parameters
    ----------
    encoder
        The final model, fitted on all samples.
    """

    encoder: FilmEncoder


def fit_encoder(
    train: Samples,
    features: Float32Array,
    design_rows: npt.NDArray[np.intp],
    all_showings: npt.ArrayLike,
    how: FilmRidge,
) -> FilmEncoder:
    """Fit the encoder on training samples.

    Parameters
    ----------
    train
        Responses and their table (``film``, ``onset``, ``run``).
    features
        Frame features of every sample of the films (n_all, n_features): the stimulus that went
        before a training sample is part of what it responds to, whichever part it lies in.
    design_rows
        Rows of ``features`` that the training samples are, (n_train,).
    all_showings
        A label for each row of ``features``; delays do not cross presentations.
    how
        Delays, components, ridge.
    """
    space = how.space(features[design_rows])
    period, delays = how.repetition_time, tuple(how.delays)
    design = delayed_design(space, features, all_showings, period, delays)[design_rows]
    responses = Standardizer.fit(train.values)
    ridge = fit_ridge(
        design,
        responses.apply(train.values),
        alphas=how.ridge.alphas,
        groups=time_blocks(train.table),
        n_folds=how.ridge.n_folds,
        per_target=how.ridge.per_target,
        device=how.device,
    )
    return FilmEncoder(space, ridge, responses, period, delays)


def encode_films(
    samples: Samples,
    split: Split,
    features: Float32Array,
    how: FilmRidge,
    *,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
    chosen: npt.NDArray[np.bool_] | None = None,
) -> FilmEncoding:
    """Fit on the training part of every fold, judge on its test part, then fit on everything.

    Parameters
    ----------
    samples
        Responses on the film's clock, without any delay taken out. Rows with NaN (censored
        volumes) are neither fitted nor judged.
    split
        Folds over the same table.
    features
        Frame features, one row per sample of ``samples``.
    how
        Delays, components, ridge.
    evaluation
        Intervals and tests.
    rng
        Of these.
    chosen
        The voxels that each fold uses, (n_folds, n_voxels); all of them if None. The model that
        is fitted on everything has all voxels.
    """
    showings = showings_of(samples.table)

    def fit(rows: IndexArray, train: Samples) -> FilmEncoder:
        return fit_encoder(train, features, rows, showings, how)

    def predict(rows: IndexArray, train: Samples) -> Float32Array:
        return fit(rows, train).predict(features, showings)

    scorer = FilmScorer(split.protocol, how.repetition_time, evaluation, rng)
    folds = predict_folds(samples, split, predict, chosen)
    judged = scorer.judge(samples, folds, model='ridge')
    every = np.flatnonzero(np.isfinite(samples.values).all(axis=1))
    return FilmEncoding(**vars(judged), encoder=fit(every, samples.take(every)))


def predict_folds(
    samples: Samples,
    split: Split,
    predict: Callable[[IndexArray, Samples], Float32Array],
    chosen: BoolArray | None = None,
) -> list[FoldPrediction]:
    """Predict all samples by a model of the training part of every fold.

    Parameters
    ----------
    samples
        Responses; rows with NaN (censored volumes) are neither fitted nor judged.
    split
        Folds over the same table.
    predict
        Takes the row numbers of the training samples and these samples, and returns what the
        model that is fitted to them predicts, (n_samples, n_voxels).
    chosen
        The voxels that each fold uses, (n_folds, n_voxels); all of them if None.
    """
    measured, folds = np.asarray(np.isfinite(samples.values).all(axis=1)), []
    for number, fold in enumerate(split):
        voxels = None if chosen is None else chosen[number]
        train, test = (part[measured[part]] for part in (fold.train, fold.test))
        predicted = predict(train, samples.take(train, voxels))
        folds.append(FoldPrediction(test, on_voxels(predicted, voxels)))
    return folds


def time_blocks(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Label blocks of :data:`BLOCK_SECONDS` of each film, the folds of a penalty's choice."""
    blocks = (table['onset'].to_numpy(dtype=float) // BLOCK_SECONDS).astype(int)
    labels = [
        f'{film}#{block}' for film, block in zip(table['film'].astype(str), blocks, strict=True)
    ]
    return np.asarray(labels, dtype=np.str_)


def delayed_design(
    space: FeatureSpace,
    features: Float32Array,
    showings: npt.ArrayLike,
    repetition_time: float,
    delays: Sequence[float],
) -> Float32Array:
    """Set delayed components side by side; presentations do not reach into each other.

    Parameters
    ----------
    space
        Fitted on training samples.
    features
        Shape (n_samples, n_features).
    showings
        One label per sample.
    repetition_time, delays
        Seconds.

    Returns
    -------
    numpy.ndarray
        Shape (n_samples, n_delays * n_components).
    """
    components = space.transform(features)
    labels = np.asarray(showings)
    design = np.empty((len(components), components.shape[1] * len(delays)), dtype=np.float32)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        design[rows] = fir_design(components[rows], repetition_time, delays)
    return design
