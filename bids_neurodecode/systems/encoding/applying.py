"""A trained encoding model on images that are new to it, and how well where BOLD is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.samples import By, Fold, Samples, Split
from bids_neurodecode.systems.applying import PROTOCOL
from bids_neurodecode.systems.encoding.encoders import Bands, Encoder, predict
from bids_neurodecode.systems.encoding.outcomes import fold_result, pick_samples
from bids_neurodecode.systems.encoding.recipe import NO_CEILING, ceiling_notes
from bids_neurodecode.systems.encoding.scores import EncodingScorer, VoxelMaps
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL
from bids_neurodecode.systems.pooling import sample_table
from bids_neurodecode.systems.voxels import ncsnr_of
from bids_neurodecode.typing import Float32Array, FloatArray


@dataclass(frozen=True, eq=False)
class AppliedEncoding:
    """How well the responses to new images were predicted.

    Parameters
    ----------
    scores
        Rows of the metrics table.
    samples
        One row per trial, or an image: see :class:`bids_neurodecode.systems.base.Evaluation`.
    null
        Permuted identification of single trials, (n_permutations,).
    maps
        Of averages where images are repeated, else of single trials.
    examples
        See :func:`~bids_neurodecode.systems.encoding.outcomes.pick_samples`.
    notes
        What a reader should know.
    """

    scores: tuple[Score, ...]
    samples: pd.DataFrame
    null: FloatArray
    maps: VoxelMaps
    examples: tuple[pd.DataFrame, Float32Array]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Everything:
    """In the place of a split where all samples are new and nothing is trained."""

    table: pd.DataFrame
    by: By = 'stimulus'
    protocol: str = PROTOCOL

    def __len__(self) -> int:
        return 1


def apply_encoder(
    encoder: Encoder,
    samples: Samples,
    features: Bands,
    evaluation: EvaluationSettings,
    *,
    model: str,
    threshold: float,
    rng: np.random.Generator,
) -> AppliedEncoding | None:
    """Judge what a trained model predicts of new responses.

    Parameters
    ----------
    encoder
        Fitted on other responses of the same person.
    samples
        New trials, with the encoder's voxels in its order.
    features
        Feature spaces of (at least) their images.
    evaluation, rng
        Of permutations and bootstrap.
    model
        Its name in the table.
    threshold
        Noise ceiling at or below which voxels have no normalised score.

    Returns
    -------
    AppliedEncoding or None
        None where there are fewer than three images: nothing can be told apart.
    """
    names = samples.table['stimulus'].astype(str)
    candidates = tuple(sorted(set(names)))
    if len(candidates) < 3:
        return None
    fold = Fold(np.empty(0, dtype=np.intp), np.arange(samples.n_samples))
    ratio = ncsnr_of(samples)
    judge = EncodingScorer(
        cast('Split', _Everything(samples.table)), evaluation, threshold, ratio, {}, rng
    )
    known = predict(encoder, features, candidates)
    results: dict[str, Any] = {}
    for average in (False, True) if names.duplicated().any() else (False,):
        space = REPEAT_AVERAGE if average else SINGLE_TRIAL
        results[space] = fold_result(model, encoder, known, candidates, samples, 0, fold, average)
    judged = {space: judge.judge([r], model=model, space=space) for space, r in results.items()}
    tables = {space: sample_table(result.outcome) for space, result in results.items()}
    last = next(reversed(judged))
    return AppliedEncoding(
        tuple(replace(s, split='new') for found in judged.values() for s in found.scores),
        pd.concat(tables.values(), ignore_index=True),
        judged[SINGLE_TRIAL].nulls[f'{SINGLE_TRIAL}/identification_top1'],
        judged[last].maps,
        pick_samples([results[last]], tables[last]),
        (NO_CEILING,) if ratio is None else ceiling_notes(samples.table),
    )
