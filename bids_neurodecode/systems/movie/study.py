"""The movie network over the folds of a split: voxels, training, predictions, scores, saliency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
from bids_neurodecode.typing import Float32Array, IndexArray

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

    keep: npt.NDArray[np.bool_]
    judged: Judged | None
    reconstruction: Reconstruction | None
    saliency: npt.NDArray[np.float64] | None
    scores: tuple[Score, ...]
    curves: tuple[Mapping[str, Any], ...]
    network: MovieNetwork
    columns: npt.NDArray[np.intp]
    pool: Pool
    mean_frame: Float32Array | None = None
    """Mean frame that it was trained on; None without a decoder."""
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class _Folds:
    """What each fold leaves, in lists."""

    rows: list[Any] = field(default_factory=list)
    columns: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    whole: list[Any] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)
    decoded: list[Any] = field(default_factory=list)
    through: list[Any] = field(default_factory=list)
    mean_frames: list[Any] = field(default_factory=list)
    networks: list[MovieNetwork] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
    found = _Folds()
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
        found.rows.append(test)
        found.columns.append(columns)
        _apply(found, network, data, values, train, test, config.movie)
        _learned(found, network, number, config.movie)
        if network.decoder is not None and 'saliency' in config.movie.explain:
            seen = found.predictions[-1] if network.encoder is not None else values[test]
            saliency[columns] += network_saliency(network, seen, found.truth[-1], config.movie)
    return _gather(found, data, split, config, saliency, rng)


def network_saliency(
    network: MovieNetwork, seen: Float32Array, truth: Float32Array, settings: MovieSettings
) -> npt.NDArray[np.float64]:
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


def _apply(
    found: _Folds,
    network: MovieNetwork,
    data: FilmData,
    values: Float32Array,
    train: npt.NDArray[np.intp],
    test: npt.NDArray[np.intp],
    settings: MovieSettings,
) -> None:
    """Predict and reconstruct the held-out samples of a fold."""
    chunks = data.chunks(test)
    if network.encoder is not None:
        # the whole of each film, for the null; what is held out is part of it
        rows = rows_to_predict(data.aligned.table, test)
        predicted = np.full((len(values), values.shape[1]), np.nan, dtype=np.float32)
        predicted[rows] = network.predict(data.chunks(rows))
        found.whole.append(predicted)
        found.predictions.append(predicted[test])
    if network.decoder is None:
        return
    found.truth.append(target_frames(chunks, min_max=settings.min_max))
    found.decoded.append(network.reconstruct(values[test]))
    found.mean_frames.append(_mean_frame(data.chunks(train), settings.min_max))
    if network.encoder is not None:
        found.through.append(network.reconstruct(found.predictions[-1]))


def _mean_frame(chunks: Chunks, min_max: bool) -> Float32Array:
    """Average the target frames of training samples, a few at a time."""
    picked = np.unique(np.linspace(0, len(chunks) - 1, min(len(chunks), 500)).round().astype(int))
    frames = target_frames([chunks[int(row)] for row in picked], min_max=min_max)
    return np.asarray(frames.mean(axis=0), dtype=np.float32)


def _learned(found: _Folds, network: MovieNetwork, number: int, settings: MovieSettings) -> None:
    found.networks.append(network)
    if network.training is None:
        return
    found.curves += [{'fold': number + 1, **row} for row in network.training.curves]
    if settings.patience is not None and not network.training.stopped_early:
        found.notes.append(UNSTOPPED.format(n=settings.n_epochs, fold=number + 1))


def _gather(
    found: _Folds,
    data: FilmData,
    split: Split,
    config: Config,
    saliency: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> NetworkStudy:
    """Put the folds together, each on the voxels that it uses."""
    n_voxels = data.aligned.values.shape[1]
    used = np.zeros((len(split), n_voxels), dtype=bool)
    for number, columns in enumerate(found.columns):
        used[number, columns] = True
    keep = np.asarray(used.any(axis=0))
    space = ALL if used.all() else SELECTED
    notes = list(found.notes)
    if not used.all():
        folds = '' if len(split) == 1 else f' (in any of {len(split)} folds)'
        notes.insert(0, CHOSEN.format(used=int(keep.sum()), total=n_voxels, folds=folds))
    scorer = FilmScorer(split.protocol, data.repetition_time, config.evaluation, rng)
    scores: tuple[Score, ...] = ()
    judged = None
    if found.whole:
        predictions = []
        for test, whole, columns in zip(found.rows, found.whole, found.columns, strict=True):
            predicted = np.full((len(whole), n_voxels), np.nan, dtype=np.float32)
            predicted[:, columns] = whole
            predictions.append(FoldPrediction(test, predicted[:, keep]))
        judged = scorer.judge(data.aligned.voxels(keep), predictions, model='network', space=space)
        scores = judged.scores
        notes += judged.notes
    reconstruction = None
    if found.decoded:
        reconstruction, more, said = _reconstruction(found, data, scorer)
        scores = (*scores, *more)
        notes += said
    return NetworkStudy(
        keep,
        judged,
        reconstruction,
        saliency[keep] if found.decoded and 'saliency' in config.movie.explain else None,
        scores,
        tuple(found.curves),
        found.networks[0],
        found.columns[0],
        Pool(used[:, keep], np.array([len(rows) for rows in found.rows], dtype=np.float64)),
        found.mean_frames[0] if found.mean_frames else None,
        tuple(notes),
    )


def _reconstruction(
    found: _Folds, data: FilmData, scorer: FilmScorer
) -> tuple[Reconstruction, tuple[Score, ...], tuple[str, ...]]:
    fold_of = np.repeat(np.arange(len(found.rows)), [len(test) for test in found.rows])
    frames = np.concatenate(found.truth), np.concatenate(found.decoded)

    def decode(drawn: Float32Array, at: IndexArray) -> Float32Array:
        """Decode each frame with the network of its fold."""
        made = np.empty((len(at), *frames[1].shape[1:]), dtype=np.float32)
        for number, network in enumerate(found.networks):
            mine = fold_of[at] == number
            if mine.any():
                made[mine] = network.reconstruct(drawn[mine][:, found.columns[number]])
        return made

    return judge_held_out(
        data.aligned,
        found.rows,
        frames,
        np.mean(found.mean_frames, axis=0),
        decode,
        scorer,
        through=np.concatenate(found.through) if found.through else None,
    )
