"""The movie network over the folds of a split: voxels, training, predictions, scores, saliency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.explain.saliency import voxel_saliency
from bids_neurodecode.samples import Fold, Split
from bids_neurodecode.settings.movie import MovieSettings
from bids_neurodecode.systems.movie.frames import Reconstruction, judge_held_out
from bids_neurodecode.systems.movie.judging import FilmScorer, Judged
from bids_neurodecode.systems.movie.network import MovieNetwork, fit_movie
from bids_neurodecode.systems.movie.parts import FoldPrediction, Pool, rows_to_predict
from bids_neurodecode.systems.movie.scores import target_frames
from bids_neurodecode.systems.movie.setup import (
    SELECTED,
    Chunks,
    FilmData,
    choose_voxels,
    network_samples,
    network_settings,
)
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

if TYPE_CHECKING:
    from torch import Tensor

    from bids_neurodecode.models.trainingsettings import Progress

NOTHING_HELD_OUT = (
    'No held-out volume of the films was measured: {n} are held out, all of them censored or past '
    'the end of their run. Hold out more (split.test_fraction), or whole films.'
)
CHOSEN = (
    'The movie network used {used} of {total} voxels{folds}: those that ridge regression '
    'predicted best in folds within the training samples.'
)
UNSTOPPED = 'The movie network trained for all {n} epochs (fold {fold}); more might be better.'
NO_DECODER = 'Saliency needs a decoder: train with movie.mode = "joint" or "decoder".'
ALL = 'voxels'


@dataclass(frozen=True, eq=False)
class NetworkStudy:
    """What came of it.

    Parameters
    ----------
    keep
        Voxels that are judged, those of any fold, (n_voxels,).
    pool
        Of these, those of each fold, and how its scores are put together.
    judged
        Predicted responses of those; None without an encoder.
    reconstruction
        None without a decoder.
    saliency
        Of each kept voxel; None without a decoder, or where it is not asked for.
    scores
        Rows of the metrics table.
    curves
        Learning curves: as :class:`~bids_neurodecode.models.trainingsettings.Training` has
        them, and ``fold``.
    network
        Of the first fold.
    columns
        The voxels that network takes, row numbers of voxels.
    """

    keep: BoolArray
    judged: Judged | None
    reconstruction: Reconstruction | None
    saliency: FloatArray | None
    scores: tuple[Score, ...]
    curves: tuple[Mapping[str, Any], ...]
    network: MovieNetwork
    columns: IndexArray
    pool: Pool
    mean_frame: Float32Array | None = None
    """Mean frame that it was trained on; None without a decoder."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Fold:
    """What a fold leaves: predictions of the whole of its films, and frames of its test rows."""

    test: IndexArray
    columns: IndexArray
    network: MovieNetwork
    whole: Float32Array | None = None
    truth: Float32Array | None = None
    decoded: Float32Array | None = None
    through: Float32Array | None = None
    mean_frame: Float32Array | None = None


def study_network(
    data: FilmData,
    split: Split,
    config: Config,
    *,
    rng: np.random.Generator,
    device: str = 'cpu',
    vgg16: Mapping[str, Tensor] | None = None,
    checkpoint_dir: Path | None = None,
    progress: Callable[[int], Progress] | None = None,
) -> NetworkStudy:
    """Train on the training part of every fold, and judge on its test part.

    Parameters
    ----------
    data
        Samples of all films.
    split
        Folds over the same table.
    config
        Settings of the network, of ridge regression and of the tests.
    checkpoint_dir
        One folder per fold is made below it; training goes on from there.
    progress
        Gives the listener of each fold's training.

    Raises
    ------
    DataError
        If too few samples are left to train on, or none to test.
    """
    folds: list[_Fold] = []
    measured = np.asarray(np.isfinite(data.aligned.values).all(axis=1))
    held = np.concatenate([fold.test for fold in split])
    if not measured[held].any():
        raise DataError(NOTHING_HELD_OUT.format(n=len(held)))
    saliency = np.zeros(data.aligned.values.shape[1])
    for number, fold in enumerate(split):
        kept = [part[measured[part]] for part in (fold.train, fold.test, fold.validation)]
        train, validation = network_samples(
            data.aligned.table, Fold(kept[0], kept[1], kept[2]), number, config
        )
        test = kept[1]
        within = None if data.chosen is None else data.chosen[number]
        columns = choose_voxels(data, train, config, within=within, device=device)
        values = np.asarray(data.aligned.values[:, columns])
        network = fit_movie(
            data.chunks(train),
            values[train],
            network_settings(config.movie, len(columns), config.seed, device),
            val_chunks=data.chunks(validation) if validation.size else None,
            val_responses=values[validation] if validation.size else None,
            vgg16=vgg16,
            checkpoint_dir=None if checkpoint_dir is None else checkpoint_dir / f'fold-{number}',
            progress=None if progress is None else progress(number),
        )
        found = _applied(_Fold(test, columns, network), data, values, train, config.movie)
        folds.append(found)
        if found.truth is not None and 'saliency' in config.movie.explain:
            seen = values[test] if found.whole is None else found.whole[test]
            saliency[columns] += network_saliency(network, seen, found.truth, config.movie)
    return _gather(folds, data, split, config, saliency, rng)


def network_saliency(
    network: MovieNetwork, seen: Float32Array, truth: Float32Array, settings: MovieSettings
) -> FloatArray:
    """Return the saliency of each voxel of a network for what its decoder is fed.

    Nothing in training holds the weights of voxels that the encoder predicts to be constant: they
    keep their random slopes, to which no deviation of what is read corresponds.

    Parameters
    ----------
    network
        With a decoder.
    seen
        Responses that the decoder is fed, (n_samples, n_voxels).
    truth
        The frames, (n_samples, height, width, 3).
    settings
        Whether slopes are scaled by the deviation of what is read.

    Raises
    ------
    DataError
        If the network has no decoder.
    """
    if network.decoder is None:
        raise DataError(NO_DECODER)
    inputs = network.standardizer.apply(seen)
    slopes = voxel_saliency(network.decoder, inputs, truth)
    return slopes * inputs.std(axis=0) if settings.saliency == 'scaled' else slopes


def _applied(
    fold: _Fold, data: FilmData, values: Float32Array, train: IndexArray, settings: MovieSettings
) -> _Fold:
    """Predict and reconstruct the held-out samples of a fold."""
    network, test = fold.network, fold.test
    if network.encoder is not None:
        # the whole of each film, for the null; what is held out is part of it
        rows = rows_to_predict(data.aligned.table, test)
        predicted = np.full((len(values), values.shape[1]), np.nan, dtype=np.float32)
        predicted[rows] = network.predict(data.chunks(rows))
        fold = replace(fold, whole=predicted)
    if network.decoder is None:
        return fold
    return replace(
        fold,
        truth=target_frames(data.chunks(test), min_max=settings.min_max),
        decoded=network.reconstruct(values[test]),
        mean_frame=_mean_frame(data.chunks(train), settings.min_max),
        through=None if fold.whole is None else network.reconstruct(fold.whole[test]),
    )


def _mean_frame(chunks: Chunks, min_max: bool) -> Float32Array:
    """Average the target frames of training samples, a few at a time."""
    picked = np.unique(np.linspace(0, len(chunks) - 1, min(len(chunks), 500)).round().astype(int))
    frames = target_frames([chunks[int(row)] for row in picked], min_max=min_max)
    return np.asarray(frames.mean(axis=0), dtype=np.float32)


def _learned(
    folds: Sequence[_Fold], settings: MovieSettings
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Return the learning curves of all folds, and which might have gone on."""
    curves: list[dict[str, Any]] = []
    notes = []
    for number, fold in enumerate(folds, 1):
        if (training := fold.network.training) is None:
            continue
        curves += [{'fold': number, **row} for row in training.curves]
        if settings.patience is not None and not training.stopped_early:
            notes.append(UNSTOPPED.format(n=settings.n_epochs, fold=number))
    return tuple(curves), notes


def _gather(
    folds: Sequence[_Fold],
    data: FilmData,
    split: Split,
    config: Config,
    saliency: FloatArray,
    rng: np.random.Generator,
) -> NetworkStudy:
    """Put the folds together, each on the voxels that it uses."""
    n_voxels = data.aligned.values.shape[1]
    used = np.zeros((len(split), n_voxels), dtype=bool)
    for number, fold in enumerate(folds):
        used[number, fold.columns] = True
    keep = np.asarray(used.any(axis=0))
    space = ALL if used.all() else SELECTED
    curves, notes = _learned(folds, config.movie)
    if not used.all():
        several = '' if len(split) == 1 else f' (in any of {len(split)} folds)'
        notes.insert(0, CHOSEN.format(used=int(keep.sum()), total=n_voxels, folds=several))
    scorer = FilmScorer(split.protocol, data.repetition_time, config.evaluation, rng)
    scores: tuple[Score, ...] = ()
    judged = None
    predictions = []
    for fold in folds:
        if fold.whole is not None:
            predicted = np.full((len(fold.whole), n_voxels), np.nan, dtype=np.float32)
            predicted[:, fold.columns] = fold.whole
            predictions.append(FoldPrediction(fold.test, predicted[:, keep]))
    if predictions:
        judged = scorer.judge(data.aligned.voxels(keep), predictions, model='network', space=space)
        scores = judged.scores
        notes += judged.notes
    reconstruction = None
    decodes = folds[0].decoded is not None
    if decodes:
        reconstruction, more, said = _reconstruction(folds, data, scorer)
        scores = (*scores, *more)
        notes += said
    return NetworkStudy(
        keep,
        judged,
        reconstruction,
        saliency[keep] if decodes and 'saliency' in config.movie.explain else None,
        scores,
        curves,
        folds[0].network,
        folds[0].columns,
        Pool(used[:, keep], np.array([len(fold.test) for fold in folds], dtype=np.float64)),
        folds[0].mean_frame,
        tuple(notes),
    )


def _reconstruction(
    folds: Sequence[_Fold], data: FilmData, scorer: FilmScorer
) -> tuple[Reconstruction, tuple[Score, ...], tuple[str, ...]]:
    tests = [fold.test for fold in folds]
    fold_of = np.repeat(np.arange(len(folds)), [len(test) for test in tests])

    def each(name: str) -> list[Float32Array]:
        return [getattr(fold, name) for fold in folds]

    def decode(drawn: Float32Array, at: IndexArray) -> Float32Array:
        """Decode each frame with the network of its fold."""
        made = np.empty((len(at), *decoded.shape[1:]), dtype=np.float32)
        for number, fold in enumerate(folds):
            mine = fold_of[at] == number
            if mine.any():
                made[mine] = fold.network.reconstruct(drawn[mine][:, fold.columns])
        return made

    decoded = np.concatenate(each('decoded'))
    return judge_held_out(
        data.aligned,
        tests,
        (np.concatenate(each('truth')), decoded),
        np.mean(each('mean_frame'), axis=0),
        decode,
        scorer,
        through=None if folds[0].through is None else np.concatenate(each('through')),
    )
