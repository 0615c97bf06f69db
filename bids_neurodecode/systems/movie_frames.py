"""How reconstructed frames are judged: structural similarity against shifts and baselines."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.statistics import bootstrap_ci, p_value
from bids_neurodecode.systems.movie_scores import frame_ssim

MOST_SHIFTS = 99
"""Circular shifts of the null; each compares all frames that it looks at anew."""
MOST_FRAMES = 200
"""Frames, evenly over the held-out ones, that the null looks at."""
BLUR = 16
"""The blurred baseline has a Gaussian of this part of a frame's side."""

MEASURED, PREDICTED = 'frames from measured responses', 'frames from predicted responses'

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


def judge_frames(
    truth: Float32Array,
    decoded: Float32Array,
    mean_frame: Float32Array,
    *,
    showings: npt.ArrayLike,
    through: Float32Array | None = None,
    protocol: str,
    min_lag: int,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> tuple[Float32Array, tuple[Score, ...]]:
    """Judge reconstructions from measured responses.

    Parameters
    ----------
    truth, decoded
        Shape (n_frames, height, width, 3), in [0, 1]; ``decoded`` from measured responses.
    mean_frame
        Mean of the training frames, (height, width, 3): what a decoder without information does.
    showings
        A label a frame: the null shifts each showing by itself.
    through
        Frames decoded from the encoder's own predictions. They never saw a brain: the film went
        in, and the score says what passes through the voxels of the model.
    protocol
        Of the metrics table.
    min_lag
        Samples by which shifts of the null go at least.

    Returns
    -------
    numpy.ndarray
        Structural similarity of each frame decoded from measured responses, (n_frames,).
    tuple of Score
        Rows of the metrics table: the network's, then baselines.
    """
    similarity = frame_ssim(truth, decoded)
    low, high = bootstrap_ci(
        similarity.astype(np.float64),
        rng=rng,
        n_bootstrap=evaluation.n_bootstrap,
        confidence=evaluation.confidence,
    )
    n_shifts = min(MOST_SHIFTS, evaluation.n_permutations)
    observed, null = shifted_similarity(truth, decoded, showings, min_lag, n_shifts)
    row = partial(_row, protocol=protocol, n=len(truth))
    tested: dict[str, Any] = {}
    if null.size:
        tested = {'chance': float(null.mean()), 'p': p_value(null, observed)}
    mean = frame_ssim(truth, np.broadcast_to(mean_frame, truth.shape).copy())
    scores = [
        row('network', MEASURED, similarity, ci_low=low, ci_high=high, **tested),
        row('baseline-mean-image', MEASURED, mean),
        row('baseline-blurred-truth', MEASURED, frame_ssim(truth, blurred(truth))),
    ]
    if through is not None:
        scores.insert(1, row('network', PREDICTED, frame_ssim(truth, through)))
    return similarity, tuple(scores)


def shifted_similarity(
    truth: Float32Array,
    decoded: Float32Array,
    showings: npt.ArrayLike,
    min_lag: int,
    n_shifts: int,
) -> tuple[float, FloatArray]:
    """Compare frames with those decoded at other times of the same showing.

    Parameters
    ----------
    showings
        A label a frame.
    min_lag
        Circular shifts go by at least this many samples (half of a showing that is too short).
    n_shifts
        How many shifts, evenly from the shortest to the longest of each showing.

    Returns
    -------
    float
        Mean similarity over the frames that the null looks at.
    numpy.ndarray
        The same under each shift, (n,); fewer than asked for where there are not as many.
    """
    labels, n = np.asarray(showings), len(truth)
    looked = np.unique(np.linspace(0, n - 1, min(n, MOST_FRAMES)).round().astype(int))
    parts = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    most = max(len(rows) for rows in parts) - 2 * min_lag + 1
    observed = float(frame_ssim(truth[looked], decoded[looked]).mean())
    null = []
    for place in np.linspace(0, 1, max(0, min(n_shifts, most))):
        other = np.arange(n)
        for rows in parts:
            lag = min(min_lag, len(rows) // 2)
            lag += round(place * max(0, len(rows) - 2 * lag))
            other[rows] = np.roll(rows, -lag)
        null.append(frame_ssim(truth[looked], decoded[other[looked]]).mean())
    return observed, np.asarray(null, dtype=np.float64)


def blurred(frames: Float32Array) -> Float32Array:
    """Blur true frames: what a decoder scores that knows nothing but coarse shapes."""
    from scipy.ndimage import gaussian_filter

    sigma = frames.shape[1] / BLUR
    return np.asarray(gaussian_filter(frames, (0, sigma, sigma, 0)), dtype=np.float32)


def _row(
    model: str, space: str, similarity: Float32Array, *, protocol: str, n: int, **more: Any
) -> Score:
    value = float(similarity.mean())
    return Score('movie', model, protocol, 'test', space, 'frame_ssim', value, n, **more)


__all__ = ['MEASURED', 'PREDICTED', 'blurred', 'judge_frames', 'shifted_similarity']
