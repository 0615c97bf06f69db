"""Trained film models on new films and new responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.models.ridge import RidgeModel
from bids_neurodecode.samples import Samples
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.movie import FilmEncoder
from bids_neurodecode.systems.movie_comparison import compare_frames
from bids_neurodecode.systems.movie_frames import judge_frames
from bids_neurodecode.systems.movie_judging import (
    MIN_LAG_SECONDS,
    Judged,
    judge_responses,
    showings_of,
)
from bids_neurodecode.systems.movie_scores import target_frames

if TYPE_CHECKING:
    from bids_neurodecode.systems.movie_network import MovieNetwork
    from bids_neurodecode.systems.movie_setup import Chunks

PROTOCOL = 'new-data'
UNSCORED = (
    'Predicted responses were not scored: a showing of {n} measured volumes is too short for a '
    'test that shifts it by {lag} or more either way.'
)
NO_DECODER = 'No film was reconstructed: the model has no decoder (movie.mode = "encoder").'
NO_NETWORK = 'No film was reconstructed: the model is linear (movie.model = "linear").'
BAD_ENCODER = 'The model lacks {name}. Train it again with this version.'

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """Frames of new responses, (n, height, width, 3) in [0, 1]; ``rows`` of the table."""

    rows: npt.NDArray[np.intp]
    truth: Float32Array
    decoded: Float32Array
    similarity: Float32Array
    scores: tuple[Score, ...]


def encoder_from(
    arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
) -> FilmEncoder:
    """Rebuild the linear model from what was saved.

    Raises
    ------
    DataError
        If something is missing.
    """

    def under(part: str) -> dict[str, npt.NDArray[Any]]:
        prefix = f'{part}.'
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    try:
        responses = under('responses')
        return FilmEncoder(
            FeatureSpace.from_state(under('space')),
            RidgeModel.from_state(under('ridge')),
            Standardizer(responses['mean'], responses['scale']),
            float(description['repetition_time']),
            tuple(float(delay) for delay in arrays['delays']),
        )
    except KeyError as error:
        raise DataError(BAD_ENCODER.format(name=error)) from error


def judge_applied(
    samples: Samples,
    predicted: Float32Array,
    model: str,
    config: Config,
    repetition_time: float,
    rng: np.random.Generator,
    *,
    space: str = 'voxels',
) -> tuple[Judged | None, tuple[str, ...]]:
    """Judge predictions of new responses; none where a showing is too short to be tested.

    Parameters
    ----------
    samples
        Measured responses; rows of NaN are left out.
    predicted
        What is predicted, (n_samples, n_voxels).
    model, space
        Names in the metrics table.
    """
    rows = np.flatnonzero(np.isfinite(samples.values).all(axis=1))
    _, counts = np.unique(showings_of(samples.table.iloc[rows]), return_counts=True)
    lag = max(1, round(MIN_LAG_SECONDS / repetition_time))
    shortest = int(counts.min(initial=len(rows)))
    if shortest < 2 * lag:
        return None, (UNSCORED.format(n=shortest, lag=lag),)
    judged = judge_responses(
        samples,
        rows,
        predicted[rows],
        model=model,
        protocol=PROTOCOL,
        space=space,
        repetition_time=repetition_time,
        evaluation=config.evaluation,
        rng=rng,
    )
    return judged, ()


def reconstruct_applied(
    network: MovieNetwork,
    aligned: Samples,
    chunks: Chunks,
    mean_frame: Float32Array,
    config: Config,
    repetition_time: float,
    rng: np.random.Generator,
) -> Reconstructed:
    """Reconstruct the film from new responses, and compare it with the one that was shown.

    Parameters
    ----------
    aligned
        Measured responses with the delay taken out; rows of NaN are left out.
    chunks
        The chunk of film of each sample, as bytes.
    mean_frame
        Mean of the training frames, for the baseline.
    """
    rows = np.flatnonzero(np.isfinite(aligned.values).all(axis=1))
    some = [chunks[int(row)] for row in rows]
    truth = target_frames(some, min_max=network.settings.min_max)
    decoded = network.reconstruct(np.asarray(aligned.values[rows]))
    similarity, scores = judge_frames(
        truth,
        decoded,
        mean_frame,
        showings=showings_of(aligned.table.iloc[rows]),
        protocol=PROTOCOL,
        min_lag=max(1, round(MIN_LAG_SECONDS / repetition_time)),
        evaluation=config.evaluation,
        rng=rng,
    )
    scores = compare_frames(
        scores,
        truth,
        decoded,
        mean_frame,
        parts=showings_of(aligned.table.iloc[rows]),
        repetition_time=repetition_time,
        evaluation=config.evaluation,
        rng=rng.spawn(1)[0],
    )
    return Reconstructed(rows, truth, decoded, similarity, scores)


__all__ = [
    'NO_DECODER',
    'NO_NETWORK',
    'PROTOCOL',
    'UNSCORED',
    'Reconstructed',
    'encoder_from',
    'judge_applied',
    'reconstruct_applied',
]
