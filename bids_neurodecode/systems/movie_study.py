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
from bids_neurodecode.samples import Fold, Split, split_in_time
from bids_neurodecode.settings_movie import MovieSettings
from bids_neurodecode.systems.movie_comparison import compare_frames
from bids_neurodecode.systems.movie_frames import judge_frames
from bids_neurodecode.systems.movie_judging import (
    MIN_LAG_SECONDS,
    TOO_SHORT,
    Judged,
    judge_responses,
    showings_of,
)
from bids_neurodecode.systems.movie_network import MovieNetwork, fit_movie
from bids_neurodecode.systems.movie_scores import target_frames
from bids_neurodecode.systems.movie_setup import (
    SELECTED,
    Chunks,
    FilmData,
    choose_voxels,
    network_settings,
)

if TYPE_CHECKING:
    from torch import Tensor

    from bids_neurodecode.models.trainingsettings import Progress

NO_COMMON_VOXEL = (
    'The folds chose different voxels and have none in common. Set movie.max_voxels higher, or '
    'to none.'
)
TOO_FEW = (
    'The movie network has {n} training samples left in fold {fold}; at least {least} are needed. '
    'Use more or longer films, or a smaller test fraction or gap.'
)
CHOSEN = (
    'The movie network used {used} of {total} voxels: those that ridge regression predicted best '
    'in folds within the training samples.'
)
UNSTOPPED = 'The movie network trained for all {n} epochs (fold {fold}); more might be better.'
NO_DECODER = 'Saliency needs a decoder: train with movie.mode = "joint" or "decoder".'
LEAST_SAMPLES = 16
ALL = 'voxels'

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Frames of the held-out samples, (n, height, width, 3) uint8, in order of the table."""

    rows: npt.NDArray[np.intp]
    truth: UInt8Array
    decoded: UInt8Array
    similarity: Float32Array


@dataclass(frozen=True, eq=False)
class NetworkStudy:
    """What came of it.

    Parameters
    ----------
    keep
        Voxels that are judged, (n_voxels,).
    judged
        Predicted responses of those; None without an encoder.
    reconstruction
        None without a decoder.
    saliency
        Of each kept voxel; None without a decoder, or where it is not asked for.
    scores
        Rows of the metrics table.
    curves
        Learning curves: as :class:`~bids_neurodecode.models.training.Training` has them, and
        ``fold``.
    network
        Of the first fold, which the scores are about.
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
    mean_frame: Float32Array | None = None
    """Mean frame that it was trained on; None without a decoder."""
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class _Folds:
    """What each fold leaves, in lists."""

    rows: list[Any] = field(default_factory=list)
    columns: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
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
        A folder a fold is made below it; training goes on from there.
    progress
        Gives the listener of each fold's training.

    Raises
    ------
    DataError
        If too few samples are left to train on, or the folds have no voxel in common.
    """
    found = _Folds()
    measured = np.asarray(np.isfinite(data.aligned.values).all(axis=1))
    _check_lengths(data, split, measured, config)
    saliency = np.zeros(data.aligned.values.shape[1])
    for number, fold in enumerate(split):
        train, validation, test = _parts(data, fold, measured, number, config)
        columns = choose_voxels(data, train, config, device=device)
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
    """
    if network.decoder is None:
        raise DataError(NO_DECODER)
    inputs = network.standardizer.apply(seen)
    slopes = voxel_saliency(network.decoder, inputs, truth)
    return slopes * inputs.std(axis=0) if settings.saliency == 'scaled' else slopes


def _check_lengths(
    data: FilmData, split: Split, measured: npt.NDArray[np.bool_], config: Config
) -> None:
    """Refuse held-out parts that cannot be judged, before anything is trained."""
    held = np.unique(np.concatenate([fold.test for fold in split]))
    _, counts = np.unique(
        showings_of(data.aligned.table.iloc[held[measured[held]]]), return_counts=True
    )
    lag = max(1, round(MIN_LAG_SECONDS / data.repetition_time))
    shortest = int(counts.min(initial=len(measured)))
    if config.movie.mode != 'decoder' and (not counts.size or shortest < 2 * lag):
        raise DataError(TOO_SHORT.format(n=shortest, need=2 * lag, lag=lag))


def _parts(
    data: FilmData, fold: Fold, measured: npt.NDArray[np.bool_], number: int, config: Config
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return rows of training, validation and test.

    Validation is that of the split where it has one (the published split), else, with early
    stopping, the end of each film's training part.
    """
    train, test = (part[measured[part]] for part in (fold.train, fold.test))
    validation = fold.validation[measured[fold.validation]]
    if not validation.size and config.movie.patience is not None and len(train) >= LEAST_SAMPLES:
        table = data.aligned.table.iloc[train].reset_index(drop=True)
        inner = split_in_time(
            table, gap=config.split.gap, test_fraction=config.movie.validation_fraction
        ).folds[0]
        train, validation = train[inner.train], train[inner.test]
    if len(train) < LEAST_SAMPLES:
        raise DataError(TOO_FEW.format(n=len(train), fold=number + 1, least=LEAST_SAMPLES))
    return train, validation, test


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
        found.predictions.append(network.predict(chunks))
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
    """Put the folds together on the voxels that all of them use."""
    n_voxels = data.aligned.values.shape[1]
    used = np.zeros(n_voxels, dtype=int)
    for columns in found.columns:
        used[columns] += 1
    keep = used == len(split)
    if not keep.any():
        raise DataError(NO_COMMON_VOXEL)
    space = ALL if keep.all() else SELECTED
    notes = list(found.notes)
    if not keep.all():
        notes.insert(0, CHOSEN.format(used=int(keep.sum()), total=n_voxels))
    scores: tuple[Score, ...] = ()
    judged = None
    if found.predictions:
        judged = judge_responses(
            data.aligned.voxels(keep),
            np.concatenate(found.rows),
            np.concatenate(
                [
                    predicted[:, keep[columns]]
                    for predicted, columns in zip(found.predictions, found.columns, strict=True)
                ]
            ),
            model='network',
            protocol=split.protocol,
            space=space,
            repetition_time=data.repetition_time,
            evaluation=config.evaluation,
            rng=rng,
        )
        scores = judged.scores
    reconstruction = None
    if found.decoded:
        reconstruction, more = _reconstruction(found, data, split, config, rng)
        scores = (*scores, *more)
    return NetworkStudy(
        keep,
        judged,
        reconstruction,
        saliency[keep] if found.decoded and 'saliency' in config.movie.explain else None,
        scores,
        tuple(found.curves),
        found.networks[0],
        found.columns[0],
        found.mean_frames[0] if found.mean_frames else None,
        tuple(notes),
    )


def _reconstruction(
    found: _Folds, data: FilmData, split: Split, config: Config, rng: np.random.Generator
) -> tuple[Reconstruction, tuple[Score, ...]]:
    order = np.argsort(np.concatenate(found.rows), kind='stable')
    truth, decoded = (np.concatenate(x)[order] for x in (found.truth, found.decoded))
    similarity, scores = judge_frames(
        truth,
        decoded,
        np.mean(found.mean_frames, axis=0),
        showings=showings_of(data.aligned.table.iloc[np.concatenate(found.rows)[order]]),
        through=np.concatenate(found.through)[order] if found.through else None,
        protocol=split.protocol,
        min_lag=max(1, round(MIN_LAG_SECONDS / data.repetition_time)),
        evaluation=config.evaluation,
        rng=rng,
    )
    rows = np.concatenate(found.rows)[order]
    scores = compare_frames(
        scores,
        truth,
        decoded,
        np.mean(found.mean_frames, axis=0),
        parts=showings_of(data.aligned.table.iloc[rows]),
        repetition_time=data.repetition_time,
        evaluation=config.evaluation,
        rng=rng.spawn(1)[0],
    )
    return Reconstruction(rows, _bytes(truth), _bytes(decoded), similarity), scores


def _bytes(frames: Float32Array) -> UInt8Array:
    return np.asarray((np.clip(frames, 0, 1) * 255).round(), dtype=np.uint8)
