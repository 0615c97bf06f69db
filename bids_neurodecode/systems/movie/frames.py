"""How reconstructed frames are judged: structural similarity against surrogates and baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.statistics import p_value
from bids_neurodecode.samples import Samples
from bids_neurodecode.systems.comparison import compare_with
from bids_neurodecode.systems.movie.intervals import MeanTest, blocks_of, mean_test
from bids_neurodecode.systems.movie.judging import FilmScorer
from bids_neurodecode.systems.movie.parts import SHARED_TRAINING, held_out_parts, part_labels
from bids_neurodecode.systems.movie.scores import frame_ssim
from bids_neurodecode.systems.movie.surrogates import MIN_SECONDS, surrogate_responses
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray, Uint8Array

TOO_SHORT = (
    'The similarity of frames has no p value: {seconds:.0f} s of held-out film could be scored '
    '(where its response was measured), and the test holds its level from {need:g} s on. Hold out '
    'more (split.test_fraction), or whole films.'
)
MOST_SURROGATES = 99
"""Surrogates of the null; the frames of each are decoded and compared anew."""
MOST_FRAMES = 200
"""Frames, evenly over the held-out ones, that the null looks at."""
BLUR = 16
"""The blurred baseline has a Gaussian of this part of a frame's side."""

MEASURED, PREDICTED = 'frames from measured responses', 'frames from predicted responses'

Decode = Callable[[IndexArray, int], Iterator[Float32Array]]
"""From row numbers among the held-out frames, and a number of draws, to these frames decoded from
surrogates of the measured responses, draw by draw."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Frames of held-out or new samples, (n, height, width, 3) uint8, in order of the table."""

    rows: IndexArray
    truth: Uint8Array
    decoded: Uint8Array
    similarity: Float32Array

    @classmethod
    def of(
        cls,
        rows: IndexArray,
        truth: Float32Array,
        decoded: Float32Array,
        similarity: Float32Array,
    ) -> Reconstruction:
        """Round frames in [0, 1] to 8 bits.

        Parameters
        ----------
        rows
            Of the table of samples, (n,).
        truth, decoded
            Frames, (n, height, width, 3).
        similarity
            Of each pair, (n,).
        """
        shown, made = (
            np.asarray((np.clip(frames, 0, 1) * 255).round(), dtype=np.uint8)
            for frames in (truth, decoded)
        )
        return cls(rows, shown, made, similarity)

    def save(self, folder: Path) -> None:
        """Write each array as ``frames-NAME.npy``."""
        for name, values in vars(self).items():
            np.save(folder / f'frames-{name}.npy', values)


def judge_frames(
    truth: Float32Array,
    decoded: Float32Array,
    mean_frame: Float32Array,
    *,
    parts: npt.NDArray[np.str_],
    surrogates: Decode,
    through: Float32Array | None = None,
    scorer: FilmScorer,
    spread: float = 1.0,
) -> tuple[Float32Array, tuple[Score, ...], tuple[str, ...]]:
    """Judge reconstructions from measured responses.

    Parameters
    ----------
    truth, decoded
        Shape (n_frames, height, width, 3), in [0, 1]; ``decoded`` from measured responses.
    mean_frame
        Mean of the training frames, (height, width, 3): what a decoder without information does.
    parts
        One label per frame, in order of time: which held-out part of which presentation it is of.
    surrogates
        Frames decoded from surrogates of the responses: the null.
    through
        Frames decoded from the encoder's own predictions. They never saw a brain: the film went
        in, and the score says what passes through the voxels of the model.
    scorer
        How they are judged.
    spread
        By how much more scores vary, as folds share training data.

    Returns
    -------
    numpy.ndarray
        Structural similarity of each frame decoded from measured responses, (n_frames,).
    tuple of Score
        Rows of the metrics table: the network's, then baselines with how its frames differ from
        theirs, over blocks of time.
    tuple of str
        What the report should say of them.
    """
    similarity, evaluation = frame_ssim(truth, decoded), scorer.evaluation
    at, starts = blocks_of(parts, scorer.block)
    blocks = np.empty(len(parts), dtype=np.intp)
    blocks[at] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(at))))
    interval = partial(
        mean_test,
        parts=parts,
        block=scorer.block,
        confidence=evaluation.confidence,
        spread=spread,
    )
    row = partial(
        _row,
        protocol=scorer.protocol,
        interval=interval,
        image_size=truth.shape[1],
        n_units=len(starts),
        units='blocks of 30 s',
    )
    seconds, n_draws = len(truth) * scorer.repetition_time, evaluation.n_permutations
    short = n_draws > 0 and seconds < MIN_SECONDS
    notes = (TOO_SHORT.format(seconds=seconds, need=MIN_SECONDS),) if short else ()
    tested: dict[str, Any] = {}
    if n_draws and not short:
        tested = _test(truth, decoded, surrogates, min(MOST_SURROGATES, n_draws), spread)
    scores = [row('network', MEASURED, similarity, **tested)]
    if through is not None:
        scores.append(row('network', PREDICTED, frame_ssim(truth, through)))
    baselines = {
        'baseline-mean-image': np.broadcast_to(mean_frame, truth.shape).copy(),
        'baseline-blurred-truth': blurred(truth),
    }
    own, draws = similarity.astype(np.float64), scorer.rng.spawn(1)[0]
    for name, frames in baselines.items():
        theirs = frame_ssim(truth, frames)
        values = own, theirs.astype(np.float64)
        other = ('network', MEASURED)
        scores.append(
            compare_with(row(name, MEASURED, theirs), other, values, blocks, evaluation, draws)
        )
    return similarity, tuple(scores), notes


def judge_held_out(
    aligned: Samples,
    tests: Sequence[IndexArray],
    frames: tuple[Float32Array, Float32Array],
    mean_frame: Float32Array,
    decode: Callable[[Float32Array, IndexArray], Float32Array],
    scorer: FilmScorer,
    *,
    through: Float32Array | None = None,
) -> tuple[Reconstruction, tuple[Score, ...], tuple[str, ...]]:
    """Judge what was decoded from the held-out volumes of all folds.

    Parameters
    ----------
    aligned
        Measured responses with the delay taken out.
    tests
        Row numbers of the held-out volumes of each fold.
    frames
        The true and the decoded frames of these rows, one fold after the other.
    mean_frame
        Mean of the training frames, for the baseline.
    decode
        From responses in the place of the measured ones, (n, n_voxels), and which of the frames
        they are of, to frames.
    scorer
        How they are judged.
    through
        As in :func:`judge_frames`, in the order of ``frames``.

    Returns
    -------
    Reconstruction
        In order of the table.
    tuple of Score, tuple of str
        As of :func:`judge_frames`.
    """
    rows = np.concatenate(tests)
    order = np.argsort(rows, kind='stable')
    rows, (truth, decoded) = rows[order], (each[order] for each in frames)
    at, _, labels = part_labels(held_out_parts(aligned.table, tests))

    def surrogates(looked: IndexArray, n_draws: int) -> Iterator[Float32Array]:
        values, table = np.asarray(aligned.values), aligned.table
        for drawn in surrogate_responses(values, table, rows[looked], n_draws, scorer.rng):
            yield decode(drawn, order[looked])

    similarity, scores, notes = judge_frames(
        truth,
        decoded,
        mean_frame,
        parts=labels[np.argsort(at, kind='stable')],
        surrogates=surrogates,
        through=None if through is None else through[order],
        scorer=scorer,
        spread=SHARED_TRAINING if len(tests) > 1 else 1.0,
    )
    return Reconstruction.of(rows, truth, decoded, similarity), scores, notes


def _test(
    truth: Float32Array, decoded: Float32Array, surrogates: Decode, n_draws: int, spread: float
) -> dict[str, float]:
    """Return chance and p of the similarity of frames, from surrogates."""
    observed, null = surrogate_similarity(truth, decoded, surrogates, n_draws)
    null = null.mean() + spread * (null - null.mean())
    return {'chance': float(null.mean()), 'p': p_value(null, observed)}


def surrogate_similarity(
    truth: Float32Array, decoded: Float32Array, surrogates: Decode, n_draws: int
) -> tuple[float, FloatArray]:
    """Compare true frames with those decoded from surrogates of the responses.

    Parameters
    ----------
    truth, decoded
        Frames (n, height, width, 3), from 0 to 1.
    surrogates
        Decodes some frames from surrogates of the responses.
    n_draws
        How many.

    Returns
    -------
    float
        Mean similarity over the frames that the null looks at.
    numpy.ndarray
        The same of each surrogate, (n_draws,).
    """
    n = len(truth)
    looked = np.unique(np.linspace(0, n - 1, min(n, MOST_FRAMES)).round().astype(np.intp))
    observed = float(frame_ssim(truth[looked], decoded[looked]).mean())
    null = [frame_ssim(truth[looked], frames).mean() for frames in surrogates(looked, n_draws)]
    return observed, np.asarray(null, dtype=np.float64)


def blurred(frames: Float32Array) -> Float32Array:
    """Blur true frames: what a decoder scores that knows nothing but coarse shapes."""
    from scipy.ndimage import gaussian_filter

    sigma = frames.shape[1] / BLUR
    return np.asarray(gaussian_filter(frames, (0, sigma, sigma, 0)), dtype=np.float32)


def _row(
    model: str,
    space: str,
    similarity: Float32Array,
    *,
    protocol: str,
    interval: Callable[[Float32Array], MeanTest],
    **more: Any,
) -> Score:
    value, n, found = float(similarity.mean()), len(similarity), interval(similarity)
    if np.isfinite(found.low):
        more |= {'ci_low': found.low, 'ci_high': min(1.0, found.high)}
    return Score('movie', model, protocol, 'test', space, 'frame_ssim', value, n, **more)
