"""Trained film models on new films and new responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.models.ridge import RidgeModel
from bids_neurodecode.models.storage import under
from bids_neurodecode.samples import Samples
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.movie.frames import Reconstruction, judge_held_out
from bids_neurodecode.systems.movie.judging import FilmScorer, Judged
from bids_neurodecode.systems.movie.parts import FoldPrediction
from bids_neurodecode.systems.movie.recipe import FilmEncoder
from bids_neurodecode.systems.movie.scores import target_frames
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from bids_neurodecode.systems.movie.network import MovieNetwork
    from bids_neurodecode.systems.movie.setup import Chunks

PROTOCOL = 'new-data'
UNSCORED = 'Predicted responses were not scored: no volume of the films was measured.'
NO_DECODER = 'No film was reconstructed: the model has no decoder (movie.mode = "encoder").'
NO_NETWORK = 'No film was reconstructed: the model is linear (movie.model = "linear").'
BAD_ENCODER = 'The model lacks {name}. Train it again with this version.'


def encoder_from(
    arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
) -> FilmEncoder:
    """Rebuild the linear model from what was saved.

    Parameters
    ----------
    arrays
        By name.
    description
        What JSON held.

    Raises
    ------
    DataError
        If something is missing.
    """
    try:
        responses = under(arrays, 'responses')
        return FilmEncoder(
            FeatureSpace.from_state(under(arrays, 'space')),
            RidgeModel.from_state(under(arrays, 'ridge')),
            Standardizer(responses['mean'], responses['scale']),
            float(description['repetition_time']),
            tuple(float(delay) for delay in arrays['delays']),
        )
    except KeyError as error:
        raise DataError(BAD_ENCODER.format(name=error)) from error


def judge_applied(
    samples: Samples, predicted: Float32Array, scorer: FilmScorer, *, model: str, space: str
) -> tuple[Judged | None, tuple[str, ...]]:
    """Judge predictions of new responses; None where nothing was measured.

    Parameters
    ----------
    samples
        Measured responses; rows of NaN are left out.
    predicted
        What is predicted, (n_samples, n_voxels).
    scorer
        How they are judged.
    model, space
        Names in the metrics table.
    """
    rows = np.flatnonzero(np.isfinite(samples.values).all(axis=1))
    if not rows.size:
        return None, (UNSCORED,)
    folds = [FoldPrediction(rows, predicted)]
    judged = scorer.judge(samples, folds, model=model, space=space)
    return judged, judged.notes


def reconstruct_applied(
    network: MovieNetwork,
    aligned: Samples,
    chunks: Chunks,
    mean_frame: Float32Array,
    scorer: FilmScorer,
) -> tuple[Reconstruction, tuple[Score, ...], tuple[str, ...]]:
    """Reconstruct the film from new responses, and compare it with the one that was shown.

    Parameters
    ----------
    aligned
        Measured responses with the delay taken out; rows of NaN are left out.
    chunks
        The chunk of film of each sample, as bytes.
    mean_frame
        Mean of the training frames, for the baseline.
    scorer
        How the frames are judged.
    """
    rows = np.flatnonzero(np.isfinite(aligned.values).all(axis=1))
    some = [chunks[int(row)] for row in rows]
    truth = target_frames(some, min_max=network.settings.min_max)
    frames = truth, network.reconstruct(np.asarray(aligned.values[rows]))
    return judge_held_out(
        aligned, [rows], frames, mean_frame, lambda drawn, _: network.reconstruct(drawn), scorer
    )
