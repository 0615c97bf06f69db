"""Fitting of the two-stage pipeline: what is learned of images, and what of responses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from bids_neurodecode.typing import Float32Array, IndexArray

if TYPE_CHECKING:
    from bids_neurodecode.models.dual import Factorisation, Targets
    from bids_neurodecode.models.latent_models import LatentModel
    from bids_neurodecode.models.latent_training import LatentSettings
    from bids_neurodecode.models.wide import WideRegression
    from bids_neurodecode.systems.reconstruction.generation.data import Inputs

HELD_OUT_AMONG_EXTRA = (
    'The held-out image {name} is also among the further images that prior and refiner learn '
    'from. Remove it from reconstruction.prior_pictures.'
)


_PER_TARGET_UP_TO = 20_000  # columns that may have a penalty each
_ENCODED = 512  # images at once
_LATENTS = 'vdvae'  # as the published penalties call them

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


@dataclass(frozen=True, eq=False)
class Models:
    """A fitted model, and those that it is compared with.

    Parameters
    ----------
    own
        As the settings ask.
    shuffled
        Fitted to responses that no longer belong to their images.
    ridge
        With latents by ridge regression, where the settings ask for a network.
    """

    own: GenerationModel
    shuffled: GenerationModel
    ridge: GenerationModel | None


@dataclass(frozen=True, eq=False)
class Fitting:
    """What is fitted to responses: latents and conditions.

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
    regions
        Voxels of each region, for regressors with regions.
    device
        ``cpu`` or ``cuda``.
    checkpoint_dir
        Where trainings go on from; None: nothing is kept.
    """

    rows: Rows
    stage: Stage
    config: Config
    settings: LatentSettings
    regions: Sequence[npt.ArrayLike] | None = None
    device: str = 'cpu'
    checkpoint_dir: Path | None = None

    @cached_property
    def voxels(self) -> Standardizer:
        """Mean and deviation of the responses."""
        return Standardizer.fit(self.rows.values)

    @cached_property
    def responses(self) -> Float32Array:
        """Standardised responses, (n, n_voxels)."""
        return self.voxels.apply(self.rows.values)

    def model(self, rng: np.random.Generator) -> GenerationModel:
        """Fit the model.

        Parameters
        ----------
        rng
            Of networks.
        """
        own = self._network(rng)
        (found,) = self._regressions([(None, own is None)])
        return self._model(found, own)

    def models(self, rng: np.random.Generator) -> Models:
        """Fit the model and what it is compared with; one factorisation serves all of ridge.

        Parameters
        ----------
        rng
            Of networks, and of the order of shuffled samples.
        """
        own = self._network(rng)
        order = rng.permutation(len(self.rows.values))
        mixed = self._network(rng, order)
        plain, shuffled = self._regressions([(None, True), (order, mixed is None)])
        ridge = None if own is None else self._model(plain)
        return Models(self._model(plain, own), self._model(shuffled, mixed), ridge)

    def _network(
        self, rng: np.random.Generator, order: IndexArray | None = None
    ) -> LatentModel | None:
        """Fit a network of latents; None where ridge regression fits them."""
        from bids_neurodecode.models.latent_training import fit_latents

        settings, rows, X = self.settings, self.rows, self.responses
        if settings.regressor == 'ridge':
            return None
        X = X if order is None else rows_of(X, order, X)
        return fit_latents(
            X, rows.latents, settings, names=rows.names, rng=rng, regions=self.regions,
            checkpoint_dir=_folder(self.checkpoint_dir, settings, X, rows),
        )  # fmt: skip

    def _regressions(
        self, wanted: Sequence[tuple[IndexArray | None, bool]]
    ) -> list[dict[str, WideRegression]]:
        """Fit ridge regressions of conditions and latents, for each order of the samples."""
        from bids_neurodecode.models.dual import Factorisation

        rows = self.rows
        known = Factorisation(
            self.responses,
            groups=rows.groups,
            n_folds=self.config.ridge.n_folds,
            device='cuda' if self.device == 'cuda' else 'cpu',
        )
        values = {k: v.reshape(len(v), -1) for k, v in rows.conditions.items()}
        keys, targets = [], []
        for number, (order, latents) in enumerate(wanted):
            for name, each in ({_LATENTS: rows.latents, **values} if latents else values).items():
                keys.append((number, name))
                targets.append(self._targets(name, each, known, order))
        found: list[dict[str, WideRegression]] = [{} for _ in wanted]
        for (number, name), regression in zip(keys, known.fit_all(targets), strict=True):
            found[number][name] = regression
        return found

    def _targets(
        self,
        name: str,
        values: npt.NDArray[Any],
        known: Factorisation,
        order: IndexArray | None,
    ) -> Targets:
        """Return targets with the penalties that the settings ask for, and room for weights."""
        from bids_neurodecode.models.dual import PAPER_ALPHAS, Targets

        stage, ridge = self.stage, self.config.ridge
        n_targets = values.shape[1]
        published = self.config.reconstruction.ridge_alphas == 'paper' and name in PAPER_ALPHAS
        # few images: the solution should not depend on the axes of what is decoded
        n_spanned = len(stage.stimuli) - 1
        alone = stage.space.n_components >= n_spanned and n_targets >= n_spanned
        return Targets(
            values,
            (PAPER_ALPHAS[name],) if published else ridge.alphas,
            ridge.per_target and not (n_targets > _PER_TARGET_UP_TO or alone),
            # few responses are held in memory, and weights of many targets not for that reason
            weights=room(stage.inputs.pictures.values, known.weights_shape(n_targets)),
            order=order,
        )

    def _model(
        self, found: Mapping[str, WideRegression], latents: LatentModel | None = None
    ) -> GenerationModel:
        """Return the model of regressions, and of a network of latents if there is one."""
        from bids_neurodecode.models.latent_models import RidgeLatents

        renorm, conditions = self.settings.renorm, self.rows.conditions
        return GenerationModel(
            self.voxels,
            latents or RidgeLatents(found[_LATENTS], renorm),
            {name: found[name] for name in conditions},
            {name: tuple(values.shape[1:]) for name, values in conditions.items()},
            renorm,
            self.stage.fitted,
            self.rows.library,
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
