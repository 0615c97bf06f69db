"""What the movie network learns from, its voxels, and its settings from those of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import Fold, Samples, split_in_time
from bids_neurodecode.settings.movie import MovieSettings
from bids_neurodecode.systems.movie.network import MovieNetworkSettings
from bids_neurodecode.systems.movie.parts import Pool, showings_of
from bids_neurodecode.systems.movie.recipe import FilmRidge, fit_encoder
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

TOO_FEW = (
    'The movie network has {n} training samples left in fold {fold}; at least {least} are needed. '
    'Use more or longer films, or a smaller test fraction or gap.'
)
LEAST_SAMPLES = 16
SELECTED = 'selected voxels'
"""The set of voxels in the metrics table, where the network does not take all of them."""

Chunks = Sequence[Any]


@dataclass(frozen=True, eq=False)
class FilmData:
    """What the network learns from, sample by sample.

    Parameters
    ----------
    aligned
        Responses with the delay taken out; rows of NaN where there are none.
    responses
        The same without, for the choice of voxels.
    features
        Features of frames for that choice, (n_samples, n_features).
    chunks
        Gives the chunks of film of row numbers, as bytes.
    repetition_time
        Seconds.
    chosen
        The voxels that each fold may use, (n_folds, n_voxels); all of them if None.
    """

    aligned: Samples
    responses: Samples
    features: Float32Array
    chunks: Callable[[IndexArray], Chunks]
    repetition_time: float
    chosen: BoolArray | None = None


def network_samples(
    table: pd.DataFrame, fold: Fold, number: int, config: Config
) -> tuple[IndexArray, IndexArray]:
    """Return the rows of training and of validation samples of a fold.

    Validation is that of the split where it has one (the published split), else, with early
    stopping, the end of each film's training part.

    Parameters
    ----------
    table
        One row per sample.
    fold
        Of rows that were measured.
    number
        Of the fold, from 0, for errors.
    config
        Settings of ``movie`` and ``split``.

    Raises
    ------
    DataError
        If fewer are left to train on than the network needs.
    """
    train, validation = fold.train, fold.validation
    if not validation.size and config.movie.patience is not None and len(train) >= LEAST_SAMPLES:
        inner = split_in_time(
            table.iloc[train].reset_index(drop=True),
            gap=config.split.gap,
            test_fraction=config.movie.validation_fraction,
        ).folds[0]
        train, validation = train[inner.train], train[inner.test]
    if len(train) < LEAST_SAMPLES:
        raise DataError(TOO_FEW.format(n=len(train), fold=number + 1, least=LEAST_SAMPLES))
    return train, validation


def network_settings(
    settings: MovieSettings, n_voxels: int, seed: int, device: str
) -> MovieNetworkSettings:
    """Turn the settings of a run into those of a fit.

    Parameters
    ----------
    settings
        Of ``movie``.
    n_voxels
        That the network predicts.
    seed
        Of weights and batches.
    device
        ``cpu`` or ``cuda``.
    """
    from bids_neurodecode.models.losses import LossWeights
    from bids_neurodecode.models.movie import MovieDesign
    from bids_neurodecode.models.trainingsettings import TrainingSettings

    s = settings
    perceptual = s.weight_perceptual if s.perceptual != 'none' else 0.0
    training: dict[str, Any] = {
        name: getattr(s, name)
        for name in (
            *('n_epochs', 'batch_size', 'learning_rate', 'clip_norm', 'patience', 'precision'),
            'compile',
        )
    }
    return MovieNetworkSettings(
        MovieDesign(n_voxels, **s.sizes, paper_bn=s.paper_bn),
        LossWeights(
            s.weight_responses, s.weight_cosine, perceptual, s.weight_structure, s.weight_smooth,
            s.paper_mse,
        ),
        TrainingSettings(
            **training,
            keep='last' if s.patience is None else 'best',
            seed=seed,
            device='cuda' if device == 'cuda' else 'cpu',
        ),
        mode=s.mode,
        perceptual=s.perceptual if s.mode != 'encoder' else 'none',
        standardize=s.standardize,
        min_max=s.min_max,
    )  # fmt: skip


def choose_voxels(
    data: FilmData,
    train: IndexArray,
    config: Config,
    *,
    within: BoolArray | None = None,
    device: Any = 'cpu',
) -> IndexArray:
    """Return the voxels that ridge regression predicts best within training samples, in order.

    Parameters
    ----------
    data, config
        Responses, features, and how many voxels there may be.
    train
        Training rows.
    within
        The voxels to choose from, (n_voxels,); all of them if None.
    """
    n_voxels = data.aligned.values.shape[1]
    candidates = np.arange(n_voxels) if within is None else np.flatnonzero(within)
    most = config.movie.max_voxels
    if most is None or len(candidates) <= most:
        return candidates
    rows = train[np.isfinite(data.responses.values[train]).all(axis=1)]
    responses = data.responses.take(rows)
    encoder = fit_encoder(
        responses if within is None else responses.voxels(within),
        data.features,
        rows,
        showings_of(data.responses.table),
        FilmRidge.of(config, data.repetition_time, columns=False, device=device),
    )
    score = np.nan_to_num(encoder.ridge.cv_r2, nan=-np.inf)
    return candidates[np.sort(np.argsort(-score, kind='stable')[:most])]


def rows_on_voxels(r: Mapping[str, FloatArray], protocol: str, pool: Pool) -> tuple[Score, ...]:
    """Return the scores of other models on the network's voxels, to be compared with its own.

    Parameters
    ----------
    r
        Correlation of each of these voxels in each fold, (n_folds, n_voxels), by model.
    pool
        Which voxels the network uses in each fold.
    """
    scores = []
    for model, each in r.items():
        values = np.where(pool.used, each, np.nan)
        n = int(np.isfinite(values).any(axis=0).sum())
        found = pool.summary(values)
        for metric, value in zip(('voxel_r_median', 'voxel_r_mean'), found, strict=True):
            scores.append(
                Score('movie', model, protocol, 'test', SELECTED, metric, value, n, chance=0.0)
            )
    return tuple(scores)
