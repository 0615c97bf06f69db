"""From responses to latents: ridge or a network, fitted and used in the same way.

Ridge regression and networks alike are fitted to standardised targets, choose what they have to
choose on held-out training images (never with trials of one image on both sides), and may
give their predictions the mean and the deviation of the training targets back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.dual import PAPER_ALPHAS, Factorisation
from bids_neurodecode.models.latent_models import (
    LatentModel,
    NetworkLatents,
    RidgeLatents,
    predict_latents,
)
from bids_neurodecode.models.latents import KINDS, Kind, build_latent_regressor
from bids_neurodecode.models.training import own_randomness, train
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.models.wide import Renorm
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array

UNKNOWN_REGRESSOR = 'No regressor of latents is called {name!r}. There are: {names}.'
BAD_PAIRS = (
    'A regressor of latents takes finite responses (n, n_voxels), latents (n, length) and one '
    'image name each, n of at least 3; these are {x}, {y} and {n} name(s).'
)
TOO_FEW_PICTURES = (
    'The regressor {name!r} holds training images out to know when to stop; {n} are too few. '
    'Use more images, or ridge.'
)


REGRESSORS = ('ridge', *KINDS)
Regressor = Literal['ridge', 'gru', 'conv', 'transformer', 'regions-gru', 'regions-transformer']
Names = Sequence[str] | npt.NDArray[Any]

_FEWEST_PICTURES = 6


@dataclass(frozen=True)
class LatentSettings:
    """How latents are regressed on responses.

    Parameters
    ----------
    regressor
        ``ridge`` or one of the networks of :mod:`bids_neurodecode.models.latents`.
    alphas
        Penalties that cross-validation chooses from (ridge); one alone is taken as it is.
    n_folds
        Of that cross-validation.
    renorm
        See :meth:`LatentModel.predict`.
    n_hidden, dropout
        Of the networks.
    validation_fraction
        Share of the training images that decides when a network stops.
    training
        Of the trainer (networks).
    """

    regressor: Regressor = 'ridge'
    alphas: tuple[float, ...] = tuple(10.0**k for k in range(-2, 7))
    n_folds: int = 5
    renorm: Renorm = 'inductive'
    n_hidden: int = 100
    dropout: float = 0.5
    validation_fraction: float = 0.1
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            n_epochs=60, batch_size=64, learning_rate=1e-3, optimizer='adamw', weight_decay=0.01
        )
    )

    def __post_init__(self) -> None:
        if self.regressor not in REGRESSORS:
            names = ', '.join(REGRESSORS)
            raise ArgumentsError(UNKNOWN_REGRESSOR.format(name=self.regressor, names=names))

    @classmethod
    def of(cls, config: Config, *, seed: int = 0, device: str = 'cpu') -> LatentSettings:
        """Take what a configuration says; ``paper`` penalties are those of the latents.

        Parameters
        ----------
        config
            Settings of ``reconstruction`` and ``ridge`` are read.
        seed
            Of weights and batches.
        device
            ``cpu`` or ``cuda``.
        """
        told = config.reconstruction
        paper = told.ridge_alphas == 'paper'
        return cls(
            regressor=told.regressor,
            alphas=(PAPER_ALPHAS['vdvae'],) if paper else config.ridge.alphas,
            n_folds=config.ridge.n_folds,
            renorm=told.renorm,
            n_hidden=told.n_hidden,
            dropout=told.dropout,
            validation_fraction=told.validation_fraction,
            training=TrainingSettings(
                n_epochs=told.n_epochs,
                batch_size=told.batch_size,
                learning_rate=told.learning_rate,
                weight_decay=0.01,
                optimizer='adamw',
                patience=told.patience,
                seed=seed,
                device='cuda' if device == 'cuda' else 'cpu',
            ),
        )


def fit_latents(
    X: npt.NDArray[np.floating[Any]],
    latents: npt.NDArray[np.floating[Any]],
    settings: LatentSettings | None = None,
    *,
    names: Names,
    rng: np.random.Generator,
    regions: Sequence[npt.ArrayLike] | None = None,
    checkpoint_dir: Path | None = None,
) -> LatentModel:
    """Fit a regressor on training samples.

    Parameters
    ----------
    X
        Standardised responses of training samples, (n, n_voxels).
    latents
        Of the image of each sample, (n, length).
    settings
        Which regressor, and how.
    names
        The image of each sample: those of one are held out together.
    rng
        Draws the images that networks hold out, and the seed of their weights.
    regions
        Columns of each region's voxels, for networks of regions.
    checkpoint_dir
        Folder of the checkpoints of this training alone (networks).

    Raises
    ------
    DataError
        For arrays that do not match, or too few images to hold some out.
    """
    settings = settings or LatentSettings()
    labels = np.asarray(names).astype(str)
    _check(X, latents, labels)
    if settings.regressor == 'ridge':
        known = Factorisation(X, groups=labels, n_folds=settings.n_folds, device=_device(settings))
        regression = known.fit(latents, alphas=settings.alphas)
        return RidgeLatents(regression, settings.renorm)
    return _fit_network(X, latents, settings, labels, rng, regions, checkpoint_dir)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Standardised responses and latents."""

    responses: Float32Array
    latents: Float32Array

    def __len__(self) -> int:
        return len(self.responses)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.responses[index]), torch.from_numpy(self.latents[index])


class _Objective(nn.Module):
    """Mean squared error of standardised latents."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, responses: Tensor, latents: Tensor) -> dict[str, Tensor]:
        return {'loss': (self.network(responses) - latents).square().mean()}


def _fit_network(
    X: npt.NDArray[np.floating[Any]],
    latents: npt.NDArray[np.floating[Any]],
    settings: LatentSettings,
    names: npt.NDArray[Any],
    rng: np.random.Generator,
    regions: Sequence[npt.ArrayLike] | None,
    checkpoint_dir: Path | None,
) -> NetworkLatents:
    kind = cast(Kind, settings.regressor)
    out = _held_out(names, settings, rng)
    targets = Standardizer.fit(latents[~out])
    standard = targets.apply(latents)
    responses = np.asarray(X, dtype=np.float32)
    with own_randomness(int(rng.integers(2**31))):
        network = build_latent_regressor(
            kind,
            X.shape[1],
            latents.shape[1],
            regions=regions,
            n_hidden=settings.n_hidden,
            dropout=settings.dropout,
        )
    training = train(
        _Objective(network),
        _Pairs(responses[~out], standard[~out]),
        settings.training,
        validation=_Pairs(responses[out], standard[out]),
        checkpoint_dir=checkpoint_dir,
    )
    network.eval()
    mean, spread = _spread(predict_latents(network, responses), out)
    columns = tuple(np.asarray(region, dtype=np.int64) for region in regions or ())
    return NetworkLatents(
        kind, settings.n_hidden, settings.dropout, columns, network, targets, mean, spread,
        settings.renorm, training,
    )  # fmt: skip


def _held_out(
    names: npt.NDArray[Any], settings: LatentSettings, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw the training images that decide when to stop; return their samples."""
    distinct = np.unique(names)
    if len(distinct) < _FEWEST_PICTURES:
        raise DataError(TOO_FEW_PICTURES.format(name=settings.regressor, n=len(distinct)))
    n_out = min(len(distinct) - 4, max(2, round(settings.validation_fraction * len(distinct))))
    return np.isin(names, rng.permutation(distinct)[:n_out])


def _spread(
    predicted: Float32Array, out: npt.NDArray[np.bool_]
) -> tuple[Float32Array, Float32Array]:
    """Return mean and deviation of predictions for images that were not fitted.

    The images held out are too few to give each latent its own; they tell by how much
    predictions vary less there than for images that were fitted, one factor for all latents.
    """
    fitted, held = predicted[~out], predicted[out]
    centre = fitted.mean(axis=0)
    size = float(fitted.var(axis=0).mean())
    # about the centre of the fitted ones: the mean of few would take a part of the variance away
    factor = math.sqrt(float(np.square(held - centre).mean()) / size) if size > 0 else 1.0
    return centre, (factor * fitted.std(axis=0)).astype(np.float32)


def _device(settings: LatentSettings) -> Literal['cpu', 'cuda']:
    return 'cuda' if settings.training.device == 'cuda' else 'cpu'


def _check(X: npt.NDArray[Any], latents: npt.NDArray[Any], names: npt.NDArray[Any]) -> None:
    same = X.ndim == 2 and latents.ndim == 2 and 3 <= len(X) == len(latents) == len(names)
    if not same or not np.isfinite(X).all():
        raise DataError(BAD_PAIRS.format(x=X.shape, y=latents.shape, n=len(names)))
