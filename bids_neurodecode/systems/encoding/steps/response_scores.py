"""Predicted responses of any program scored against measured ones, voxel by voxel, by region."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.responsesets import ResponseSet
from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation import identification
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.mapped import group_sums
from bids_neurodecode.samples import Fold, Split
from bids_neurodecode.signals.reliability import ncsnr
from bids_neurodecode.systems.encoding.outcomes import FoldResult
from bids_neurodecode.systems.encoding.scores import EncodingScorer
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, Outcome
from bids_neurodecode.systems.protocol import held_out
from bids_neurodecode.systems.scoring import Pairing
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray, RealArray

MODEL, PROTOCOL = 'predictions', 'responses'
THRESHOLD = 0.05
"""Of the noise ceiling, at or below which nothing is normalised."""
NOT_PAIRED = (
    'Measured responses {measured} and predicted ones {predicted} must have the same number of '
    'voxels.'
)
NOT_NAMED = 'There must be one name per row: {n} rows of responses, {found} names.'
BAD_SIZE = 'The {what} holds {found} values; there are {n} voxels.'
NO_COMMON = 'No image is on both sides ({measured}; {predicted}).'
TOO_FEW = 'Responses to two images or more are needed; there is {n}.'
NO_CEILING = (
    'No image is measured twice, so that there is no noise ceiling; accuracies are not normalised.'
)
ITSELF = (
    'Predictions are the measured responses themselves, noise included: noise-normalised accuracy '
    'lies above 1, which no prediction of the signal alone reaches.'
)
UNMATCHED = (
    'Not compared: {measured} measured images without a prediction, {predicted} predictions '
    'without a measurement.'
)
WITHIN_FOLDS = (
    'Predictions are of {n} folds of a cross-validation: responses are centred and compared '
    'within each, as means differ between folds, and nulls and intervals are widened, as folds '
    'share what they were trained on.'
)
FOLDS_IGNORED = (
    'Predictions are of {n} folds of a cross-validation, and {reason}: all images are taken as '
    'one set, responses are centred over folds, whose means differ, and nulls and intervals '
    'are not widened for what folds share.'
)
FOLD_OF_ONE = 'one of them holds a single image'
FOLDS_SHARE = 'an image lies in more than one'
OUTSIDE = '{n} of {total} voxels were not predicted (constant or not finite), and are left out.'


def score_response_sets(
    measured: ResponseSet,
    predicted: ResponseSet,
    *,
    ratio: RealArray | None,
    regions: Mapping[str, npt.NDArray[Any]],
    n_permutations: int,
    seed: int,
) -> tuple[tuple[Score, ...], tuple[str, ...]]:
    """Score predicted responses beside chance and noise ceiling.

    Repeats are averaged. Voxels that are not predicted (constant, or not finite) are left out.

    Parameters
    ----------
    measured, predicted
        Responses of the same voxels; images are matched by name.
    ratio
        Noise-ceiling signal-to-noise ratio, (n_voxels,); None: from the repeats that there are.
    regions
        Voxels of each region, (n_voxels,) each.
    n_permutations
        Of images among predictions.
    seed
        Of permutations and intervals.

    Returns
    -------
    tuple
        Rows of the metrics table, and notes.

    Raises
    ------
    DataError
        If the two do not fit.
    """
    n_voxels = _check(measured, predicted, ratio, regions)
    names = [name for name in dict.fromkeys(measured.names) if name in set(predicted.names)]
    if not names:
        shown = {'measured': measured.names[0], 'predicted': predicted.names[0]}
        raise DataError(NO_COMMON.format(**shown))
    if len(names) < 2:
        raise DataError(TOO_FEW.format(n=len(names)))
    truth, repeats = _averaged(measured, names)
    found, _ = _averaged(predicted, names)
    kept = np.isfinite(found).all(axis=0) & (np.ptp(np.nan_to_num(found), axis=0) > 0)
    kept &= np.isfinite(truth).all(axis=0)
    notes = []
    n_alone = [len(set(x.names) - set(names)) for x in (measured, predicted)]
    if any(n_alone):
        notes.append(UNMATCHED.format(measured=n_alone[0], predicted=n_alone[1]))
    if not kept.all():
        notes.append(OUTSIDE.format(n=int((~kept).sum()), total=n_voxels))
    if np.allclose(truth[:, kept], found[:, kept], rtol=1e-4):
        notes.append(ITSELF)
    if ratio is None and len(set(measured.names)) < len(measured.names):
        ratio = ncsnr(measured.values, np.asarray(measured.names), measured.sessions)
    elif ratio is None:
        notes.append(NO_CEILING)
    parts, ignored = _parts(predicted, names)
    split = held_out(names) if len(parts) == 1 else _cross_validated(names, parts)
    judge = EncodingScorer(
        split=split,
        settings=EvaluationSettings(n_permutations=n_permutations),
        threshold=THRESHOLD,
        ncsnr=None if ratio is None else np.asarray(ratio)[kept],
        regions={name: _as_mask(voxels)[kept] for name, voxels in regions.items()},
        rng=np.random.default_rng(seed),
    )
    notes += [WITHIN_FOLDS.format(n=len(parts))] if len(parts) > 1 else ignored
    results = [
        _result(truth[rows][:, kept], found[rows][:, kept], names, repeats, rows, number)
        for number, rows in enumerate(parts)
    ]
    judged = judge.judge(results, model=MODEL, space=REPEAT_AVERAGE)
    untested = Pairing.of([result.outcome for result in results], split).untested
    notes += [] if untested is None else [untested]
    rows = tuple(dataclasses.replace(s, protocol=PROTOCOL, units='images') for s in judged.scores)
    return rows, tuple(notes)


def _check(
    measured: ResponseSet,
    predicted: ResponseSet,
    ratio: RealArray | None,
    regions: Mapping[str, npt.NDArray[Any]],
) -> int:
    shapes = [x.values.shape for x in (measured, predicted)]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise DataError(NOT_PAIRED.format(measured=shapes[0], predicted=shapes[1]))
    for side in (measured, predicted):
        if len(side.names) != len(side.values):
            raise DataError(NOT_NAMED.format(n=len(side.values), found=len(side.names)))
    n_voxels = int(shapes[0][1])
    sized = {f'region {name!r}': voxels for name, voxels in regions.items()}
    if ratio is not None:
        sized['noise-ceiling signal-to-noise ratio'] = ratio
    for what, values in sized.items():
        if np.shape(values) != (n_voxels,):
            raise DataError(BAD_SIZE.format(what=what, found=np.shape(values), n=n_voxels))
    return n_voxels


def _as_mask(voxels: npt.NDArray[Any]) -> BoolArray:
    return np.asarray(voxels, dtype=np.bool_)


def _averaged(responses: ResponseSet, names: Sequence[str]) -> tuple[Float32Array, Any]:
    """Average the rows of each name; return how many there are, too."""
    place = {name: row for row, name in enumerate(names)}
    rows = np.array([place.get(name, -1) for name in responses.names])
    used = rows >= 0
    counts = np.bincount(rows[used], minlength=len(names))
    sums = group_sums(responses.values[used], rows[used], len(names))
    return (sums / counts[:, None]).astype(np.float32), counts.astype(np.intp)


def _parts(predicted: ResponseSet, names: Sequence[str]) -> tuple[list[IndexArray], list[str]]:
    """Return the images of each fold; all as one, and why, where folds cannot be kept apart."""
    place = {name: row for row, name in enumerate(names)}
    pairs = {x for x in zip(predicted.names, predicted.folds or (), strict=False) if x[0] in place}
    folds = sorted({fold for _, fold in pairs})
    if len(folds) < 2:
        return [np.arange(len(names))], []
    parts = [np.array(sorted(place[name] for name, of in pairs if of == k)) for k in folds]
    reason = FOLD_OF_ONE if min(map(len, parts)) < 2 else ''
    reason = FOLDS_SHARE if len(pairs) > len(names) else reason
    if not reason:
        return parts, []
    return [np.arange(len(names))], [FOLDS_IGNORED.format(n=len(folds), reason=reason)]


def _cross_validated(names: Sequence[str], parts: Sequence[IndexArray]) -> Split:
    """Return a split in which each fold was trained on the images of the others."""
    table = pd.DataFrame({'stimulus': names, 'run': '1'})
    every = np.arange(len(names))
    folds = tuple(Fold(train=np.setdiff1d(every, rows), test=rows) for rows in parts)
    return Split('stimulus', folds, table)


def _result(
    truth: Float32Array,
    predicted: Float32Array,
    every: Sequence[str],
    repeats: Any,
    rows: IndexArray,
    fold: int,
) -> FoldResult:
    names = [every[row] for row in rows]
    table = pd.DataFrame({'sample': rows, 'stimulus': names, 'run': '1'})
    alike = identification.similarity(truth, predicted, 'pearson')
    outcome = Outcome(MODEL, REPEAT_AVERAGE, fold, table, tuple(names), alike)
    return FoldResult(outcome, truth, predicted, repeats[rows])
