"""Fitting of the two-stage pipeline: what is learned of images, and what of responses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import room, rows_of
from bids_neurodecode.samples import Responses, Samples, contents
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus, run_labels
from bids_neurodecode.systems.encoding.encoders import EncoderSettings, fit
from bids_neurodecode.systems.linear import MANY_STIMULI
from bids_neurodecode.systems.reconstruction.generation.generators import (
    Described,
    FittedGenerator,
    Generator,
    Progress,
    TrainingPictures,
)
from bids_neurodecode.systems.reconstruction.generation.model import GenerationModel
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from bids_neurodecode.models.latent_training import LatentSettings
    from bids_neurodecode.models.wide import WideRegression
    from bids_neurodecode.systems.reconstruction.generation.data import Inputs

HELD_OUT_AMONG_EXTRA = (
    'The held-out image {name} is also among the further images that prior and refiner learn '
    'from. Remove it from reconstruction.prior_pictures.'
)


_PER_TARGET_UP_TO = 20_000  # columns that may have a penalty each
_ENCODED = 512  # images at once

NO_PICTURES = 'Synthetic responses need images without responses; there are none.'


@dataclass(frozen=True, eq=False)
class Stage:
    """What was learned of training images alone: shared by folds that have the same.

    Parameters
    ----------
    stimuli
        The training stimuli, sorted.
    space
        Feature components of their images.
    fitted
        Prior and refiner.
    latents, conditions
        Of the training stimuli, (n_stimuli, ...), in their order.
    inputs
        Images, features and captions.
    """

    stimuli: tuple[str, ...]
    space: FeatureSpace
    fitted: FittedGenerator
    latents: Float32Array
    conditions: Mapping[str, npt.NDArray[Any]]
    inputs: Inputs = field(repr=False)

    @classmethod
    def learn(
        cls,
        stimuli: Sequence[str],
        inputs: Inputs,
        generator: Generator,
        config: Config,
        *,
        checkpoint_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> Stage:
        """Fit components, prior and refiner to the images of training stimuli.

        Parameters
        ----------
        stimuli
            Of the training samples.
        inputs
            Images, features and captions.
        generator
            Prior and refiner.
        config
            Settings of ``features``, ``reconstruction`` and ``seed``.
        checkpoint_dir
            Where trainings go on from; None: nothing is kept.
        progress
            Called with (steps done, all steps).
        """
        names = tuple(sorted(set(stimuli)))
        features = inputs.features.of(names)
        space = FeatureSpace.fit(features, config.features.n_components)
        pictures = inputs.pictures.of(names)
        components = space.transform(features)
        if inputs.extra is not None:
            pictures = np.concatenate([pictures, inputs.extra.pictures])
            components = np.concatenate([components, space.transform(inputs.extra.features)])
        fitted = generator.fit(
            TrainingPictures(pictures, components, len(names)),
            seed=config.seed,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
        )
        folder = None if checkpoint_dir is None else checkpoint_dir / f'conditions-{_key(names)}'
        known = Described(
            pictures[: len(names)], components[: len(names)], _captions(inputs, names)
        )
        return cls(
            names, space, fitted, encoded(fitted, known.pictures),
            fitted.conditions(known, folder), inputs,
        )  # fmt: skip

    def extended(self, names: Sequence[str], checkpoint_dir: Path | None = None) -> Stage:
        """Return the same prior and refiner with latents and conditions of other stimuli.

        Parameters
        ----------
        names
            Of these stimuli.
        checkpoint_dir
            Where large conditions are kept; None: in memory.
        """
        stimuli = tuple(sorted(set(names)))
        if stimuli == self.stimuli:
            return self
        folder = None if checkpoint_dir is None else checkpoint_dir / f'conditions-{_key(stimuli)}'
        latents = encoded(self.fitted, self.inputs.pictures.of(stimuli))
        conditions = self.truth(stimuli, folder)
        return replace(self, stimuli=stimuli, latents=latents, conditions=conditions)

    def truth(
        self, names: Sequence[str], folder: Path | None = None
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Return the true conditions of any stimuli.

        Parameters
        ----------
        names
            Of these stimuli.
        folder
            Where large conditions are kept; None: in memory.
        """
        of = Described(
            self.inputs.pictures.of(names), self.components(names), _captions(self.inputs, names)
        )
        return self.fitted.conditions(of, folder)

    def components(self, names: Sequence[str]) -> Float32Array:
        """Return the feature components of any stimuli."""
        return self.space.transform(self.inputs.features.of(names))


@dataclass(frozen=True, eq=False)
class Rows:
    """Training samples of the regressions, and their targets.

    Parameters
    ----------
    values
        Responses, (n, n_voxels).
    names
        The image of each; images of the same content have one name.
    groups
        What is held out together when penalties are chosen.
    latents, conditions
        Targets, (n, ...).
    library
        The training stimuli, in order of first appearance.
    """

    values: Float32Array
    names: tuple[str, ...]
    groups: npt.NDArray[Any]
    latents: Float32Array
    conditions: Mapping[str, npt.NDArray[Any]]
    library: tuple[str, ...]

    def shuffled(self, rng: np.random.Generator) -> Rows:
        """Return the samples with responses that no longer belong to their images."""
        order = rng.permutation(len(self.values))
        return replace(self, values=rows_of(self.values, order, self.values))


def training_rows(train: Samples, stage: Stage, config: Config, rng: np.random.Generator) -> Rows:
    """Make the training set of the regressions.

    The trials of a stimulus are averaged where there are many stimuli; where the same few are
    shown again and again, single trials are needed to know what is noise.

    Parameters
    ----------
    train
        Training samples of the fold.
    stage
        What was learned of their images.
    config
        Settings of ``reconstruction`` and ``encoding``.
    rng
        Draws synthetic responses, where some are added.
    """
    library = tuple(dict.fromkeys(train.table['stimulus'].astype(str)))
    if len(library) >= MANY_STIMULI:
        averaged = train.averaged()
        place = {name: row for row, name in enumerate(averaged.table['stimulus'].astype(str))}
        train = averaged.take([place[name] for name in stage.stimuli])
    names = tuple(train.table['stimulus'].astype(str))
    shown = contents(names, train.table)
    groups = shown if len(library) >= MANY_STIMULI else run_labels(train.table)
    if len(set(groups)) < 2:
        groups = shown
    row = {name: k for k, name in enumerate(stage.stimuli)}
    index = [row[name] for name in names]
    # as they are (perhaps files) where samples and stimuli are one to one
    whole = index == list(range(len(stage.stimuli)))
    rows = Rows(
        train.values,
        tuple(shown.tolist()),
        groups,
        stage.latents if whole else stage.latents[index],
        {k: v if whole else v[index] for k, v in stage.conditions.items()},
        library,
    )
    return _with_synthetic(rows, train, stage, config, rng)


def fit_model(
    rows: Rows,
    stage: Stage,
    config: Config,
    settings: LatentSettings,
    *,
    rng: np.random.Generator,
    regions: Sequence[npt.ArrayLike] | None = None,
    device: str = 'cpu',
    checkpoint_dir: Path | None = None,
) -> GenerationModel:
    """Fit the regressions of latents and conditions; one factorisation serves all of ridge.

    Parameters
    ----------
    rows
        Responses and targets.
    stage
        Prior, refiner, and true conditions.
    config
        Settings of ``ridge`` and ``reconstruction``.
    settings
        Of the regression of latents.
    rng
        Of folds and networks.
    regions
        Voxels of each region, for regressors with regions.
    device
        ``cpu`` or ``cuda``.
    checkpoint_dir
        Where trainings go on from; None: nothing is kept.
    """
    from bids_neurodecode.models.dual import PAPER_ALPHAS, Factorisation
    from bids_neurodecode.models.latent_models import RidgeLatents
    from bids_neurodecode.models.latent_training import fit_latents

    voxels = Standardizer.fit(rows.values)
    X = voxels.apply(rows.values)
    where: Literal['cpu', 'cuda'] = 'cuda' if device == 'cuda' else 'cpu'
    known = Factorisation(X, groups=rows.groups, n_folds=config.ridge.n_folds, device=where)
    paper = config.reconstruction.ridge_alphas == 'paper'
    # few images: the solution should not depend on the axes of what is decoded
    saturated = stage.space.n_components >= len(stage.stimuli) - 1

    def ridge(name: str, targets: npt.NDArray[Any]) -> WideRegression:
        wide = targets.shape[1] > _PER_TARGET_UP_TO
        published = paper and name in PAPER_ALPHAS
        alone = saturated and targets.shape[1] >= len(stage.stimuli) - 1
        return known.fit(
            targets,
            alphas=(PAPER_ALPHAS[name],) if published else config.ridge.alphas,
            per_target=config.ridge.per_target and not (wide or alone),
            # few responses are held in memory, and weights of many targets not for that reason
            weights=room(stage.inputs.pictures.values, known.weights_shape(targets.shape[1])),
        )

    latents = (
        RidgeLatents(ridge('vdvae', rows.latents), settings.renorm)
        if settings.regressor == 'ridge'
        else fit_latents(
            X, rows.latents, settings, names=rows.names, rng=rng, regions=regions,
            checkpoint_dir=_folder(checkpoint_dir, settings, X, rows),
        )
    )  # fmt: skip
    conditions = {k: ridge(k, v.reshape(len(v), -1)) for k, v in rows.conditions.items()}
    shapes = {k: tuple(v.shape[1:]) for k, v in rows.conditions.items()}
    return GenerationModel(
        voxels, latents, conditions, shapes, settings.renorm, stage.fitted, rows.library
    )


def encoded(fitted: FittedGenerator, pictures: npt.NDArray[np.uint8]) -> Float32Array:
    """Return the latents of images; those of many that lie in a file lie in one, too.

    Parameters
    ----------
    fitted
        Whose prior encodes them.
    pictures
        Shape (n, h, w, 3), uint8.
    """
    latents: Float32Array = fitted.encode(pictures[:_ENCODED])
    if len(pictures) <= _ENCODED:
        return latents
    out = room(pictures, (len(pictures), latents.shape[1]))
    out[:_ENCODED] = latents
    for at in range(_ENCODED, len(pictures), _ENCODED):
        out[at : at + _ENCODED] = fitted.encode(pictures[at : at + _ENCODED])
    return out


def check_extra(inputs: Inputs, held_out: Sequence[str]) -> None:
    """Check that no held-out image, or a copy of it, is among the extra ones.

    Parameters
    ----------
    inputs
        Images, and the extra ones.
    held_out
        Names of held-out stimuli.

    Raises
    ------
    DataError
        If one is.
    """
    from bids_neurodecode.stimuli.duplicates import ImageHashes, shown_among

    if inputs.extra is None or not held_out:
        return
    extra = ImageHashes.of(inputs.extra.pictures)
    known = shown_among(ImageHashes.of(inputs.pictures.of(held_out)), extra)
    if known.any():
        raise DataError(HELD_OUT_AMONG_EXTRA.format(name=held_out[int(known.argmax())]))


def _with_synthetic(
    rows: Rows, train: Samples, stage: Stage, config: Config, rng: np.random.Generator
) -> Rows:
    """Add responses that an encoder predicts to images without responses."""
    n = round(config.reconstruction.synthetic * len(rows.values))
    if n == 0:
        return rows
    extra = stage.inputs.extra
    if extra is None:
        raise DataError(NO_PICTURES)
    drawn = draw_pictures(len(extra.pictures), n, rng)
    pictures, features = extra.pictures[drawn], extra.features[drawn]
    values = synthetic_responses(
        Samples(Responses(rows.values, train.responses.mask), train.table),
        stage.inputs.features,
        features,
        EncoderSettings.of(config),
        rng=rng,
    )
    names = tuple(f'extra {k}' for k in drawn)
    known = Described(pictures, stage.space.transform(features), [()] * n)
    new = stage.fitted.conditions(known)
    # with the run's name as the group, all of them would be held out at once
    groups = np.array(names) if rows.groups[0] == rows.names[0] else np.resize(rows.groups, n)
    return Rows(
        np.concatenate([rows.values, values]),
        rows.names + names,
        np.concatenate([rows.groups, groups]),
        np.concatenate([rows.latents, stage.fitted.encode(pictures)]),
        {k: np.concatenate([v, new[k]]) for k, v in rows.conditions.items()},
        rows.library,
    )


def _captions(inputs: Inputs, names: Sequence[str]) -> list[Sequence[str]]:
    return [inputs.captions.get(name, ()) for name in names]


def _folder(
    folder: Path | None, settings: LatentSettings, X: Float32Array, rows: Rows
) -> Path | None:
    """Return the folder of a network's checkpoints: named by what it is a function of."""
    if folder is None:
        return None
    digest = hashlib.sha256(repr((settings, rows.names)).encode())
    for values in (X, rows.latents):
        digest.update(np.ascontiguousarray(values).tobytes())
    return folder / f'latents-{digest.hexdigest()[:24]}'


def _key(names: Sequence[str]) -> str:
    return hashlib.sha256('\n'.join(names).encode()).hexdigest()[:24]


def synthetic_responses(
    train: Samples,
    features: PerStimulus,
    new: npt.NDArray[np.floating[Any]],
    settings: EncoderSettings | None = None,
    *,
    rng: np.random.Generator,
) -> Float32Array:
    """Predict responses to images without responses, with noise.

    Parameters
    ----------
    train
        Training samples; the noise is that of these samples (single trials, or averages).
    features
        Of (at least) the training stimuli.
    new
        Features of the images without responses, (n, n_features).
    settings
        Of the encoder; ridge.
    rng
        Draws the noise.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_voxels), float32, in the units of the training responses.

    Raises
    ------
    DataError
        If there are no images, or the encoder cannot be fitted.
    """
    if not len(new):
        raise DataError(NO_PICTURES)
    settings = replace(settings or EncoderSettings(), model='ridge')
    encoder = fit(train, {'features': features}, settings, rng=rng)
    names = train.table['stimulus'].astype(str)
    residuals = train.values - encoder.predict({'features': features.of(names)})
    residuals = residuals - residuals.mean(axis=0)
    missed = 1 - np.clip(np.nan_to_num(encoder.cv_r2), 0, 1)
    wanted = encoder.responses.scale * np.sqrt(missed)
    found = residuals.std(axis=0)
    factor = np.where(found > 0, wanted / np.where(found > 0, found, 1), 0)
    drawn = residuals[rng.integers(len(residuals), size=len(new))]
    predicted = encoder.predict({'features': np.asarray(new, dtype=np.float32)})
    return np.asarray(predicted + drawn * factor, dtype=np.float32)


def draw_pictures(n_pictures: int, n_wanted: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw rows of images: each once before any comes again.

    Parameters
    ----------
    n_pictures
        How many there are.
    n_wanted
        How many rows are drawn.
    rng
        Draws them.

    Raises
    ------
    DataError
        If there are none.
    """
    if n_pictures < 1:
        raise DataError(NO_PICTURES)
    rounds = -(-n_wanted // n_pictures)
    return np.concatenate([rng.permutation(n_pictures) for _ in range(max(rounds, 1))])[:n_wanted]
