"""Fitted regressors of latents: ridge or a network, used, kept and read in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bids_neurodecode.errors import DataError, InputError, raised_as
from bids_neurodecode.models.latents import Kind, build_latent_regressor
from bids_neurodecode.models.storage import joined, set_weights, under, weights_of
from bids_neurodecode.models.trainingsettings import Training
from bids_neurodecode.models.wide import ONE_ROW, Renorm, WideRegression
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array

OTHER_VOXELS = 'The regressor was fitted on {expected} voxels; these responses have {found}.'
NOT_A_MODEL = 'These are not the arrays of a regressor of latents: {reason}.'


_ROUNDING = 1e-6
_AT_ONCE = 512


class LatentModel(Protocol):
    """A fitted regressor of latents."""

    def predict(
        self, X: npt.NDArray[np.floating[Any]], renorm: Renorm | None = None
    ) -> Float32Array:
        """Predict latents.

        Parameters
        ----------
        X
            Standardised responses, (n, n_voxels).
        renorm
            Predictions vary less than latents do. ``inductive`` gives each latent the mean and
            deviation of the training latents by those of predictions for training images that
            were held out; ``transductive`` by those of the predictions of ``X`` itself (as in
            Brain-Diffuser's code: test samples inform one another); ``none`` leaves them. None:
            as in the settings.

        Returns
        -------
        numpy.ndarray
            Shape (n, length), float32.
        """

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with :meth:`describe`, :func:`load_latents` rebuilds it from."""

    def describe(self) -> dict[str, Any]:
        """Return what JSON can hold."""

    def curves(self) -> list[dict[str, Any]]:
        """Return how it learned: rows of ``network``, ``part``, ``step`` and ``loss``."""


@dataclass(frozen=True, eq=False)
class RidgeLatents:
    """Ridge regression of latents.

    Parameters
    ----------
    regression
        All latents, one factorisation.
    renorm
        See :meth:`LatentModel.predict`.
    """

    regression: WideRegression
    renorm: Renorm

    def predict(
        self, X: npt.NDArray[np.floating[Any]], renorm: Renorm | None = None
    ) -> Float32Array:
        """Predict latents; see :meth:`LatentModel.predict`.

        Parameters
        ----------
        X
            Responses, (n, n_voxels).
        renorm
            How predictions get their mean and deviation back; None: as it was fitted.
        """
        return self.regression.predict(X, renorm or self.renorm)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the regression's arrays."""
        return self.regression.state()

    def describe(self) -> dict[str, Any]:
        """Return the kind, and the error of each penalty that was tried."""
        alphas = self.regression.ridge.alphas
        return {
            'regressor': 'ridge',
            'renorm': self.renorm,
            'alpha': float(np.median(alphas)),
            'tried': {f'{alpha:g}': error for alpha, error in self.regression.tried.items()},
        }

    def curves(self) -> list[dict[str, Any]]:
        """Return nothing: it has no learning curve."""
        return []


@dataclass(frozen=True, eq=False)
class NetworkLatents:
    """A network of latents.

    Parameters
    ----------
    kind, n_hidden, dropout, regions
        What it was built as; ``regions`` are the columns of each region's voxels.
    network
        In evaluation mode.
    targets
        Mean and deviation of the training latents.
    mean, spread
        Of its (standardised) predictions for images that it was not fitted to, (length,).
    renorm
        See :meth:`LatentModel.predict`.
    training
        How the training went; None if it was read from disk.
    """

    kind: Kind
    n_hidden: int
    dropout: float
    regions: tuple[npt.NDArray[np.int64], ...]
    network: nn.Module
    targets: Standardizer
    mean: Float32Array
    spread: Float32Array
    renorm: Renorm
    training: Training | None = field(default=None, repr=False)

    def predict(
        self, X: npt.NDArray[np.floating[Any]], renorm: Renorm | None = None
    ) -> Float32Array:
        """Predict latents; see :meth:`LatentModel.predict`.

        Parameters
        ----------
        X
            Responses, (n, n_voxels).
        renorm
            How predictions get their mean and deviation back; None: as it was fitted.

        Raises
        ------
        DataError
            If a single response is to be re-standardised by the predictions themselves.
        """
        how = renorm or self.renorm
        predicted = predict_latents(self.network, X)
        if how != 'none':
            mean, spread = self.mean, self.spread
            if how == 'transductive':
                if len(predicted) < 2:
                    raise DataError(ONE_ROW)
                mean, spread = predicted.mean(axis=0), predicted.std(axis=0)
            flat = spread <= _ROUNDING
            predicted = ((predicted - mean) / np.where(flat, 1, spread)).astype(np.float32)
        return self.targets.invert(predicted)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return weights, scales and regions."""
        parts: dict[str, Mapping[str, npt.NDArray[Any]]] = {
            'targets': self.targets.state(),
            'regions': {f'{k:03d}': columns for k, columns in enumerate(self.regions)},
            'network': weights_of(self.network),
        }
        return {'mean': self.mean, 'spread': self.spread, **joined(parts)}

    def describe(self) -> dict[str, Any]:
        """Return what the network was built as, and how its training went."""
        told: dict[str, Any] = {
            'regressor': self.kind,
            'renorm': self.renorm,
            'n_voxels': int(cast(int, self.network.n_voxels)),
            'n_hidden': self.n_hidden,
            'dropout': self.dropout,
        }
        if self.training is not None:
            told['kept_epoch'] = self.training.kept_epoch
            told['stopped_early'] = self.training.stopped_early
        return told

    def curves(self) -> list[dict[str, Any]]:
        """Return the losses of each epoch."""
        rows = [] if self.training is None else self.training.curves
        return [
            {'network': 'latents', **{k: r[k] for k in ('part', 'loss')}, 'step': r['epoch']}
            for r in rows
        ]


def load_latents(
    state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
) -> LatentModel:
    """Rebuild a regressor from what its ``state`` and ``describe`` returned.

    Parameters
    ----------
    state
        Arrays by name.
    description
        What JSON held.

    Raises
    ------
    InputError
        If they are not a regressor's.
    """
    with raised_as(InputError, NOT_A_MODEL, KeyError, TypeError, RuntimeError, DataError):
        if description['regressor'] == 'ridge':
            return RidgeLatents(WideRegression.from_state(state), description['renorm'])
        return _load_network(state, description)


@torch.inference_mode()
def predict_latents(network: nn.Module, X: npt.NDArray[np.floating[Any]]) -> Float32Array:
    """Predict standardised latents (n, length) by a network from responses (n, n_voxels).

    Parameters
    ----------
    network
        Takes ``n_voxels`` responses.
    X
        Standardised responses, (n, n_voxels).

    Raises
    ------
    DataError
        If these are responses of another number of voxels.
    """
    expected = int(cast(int, network.n_voxels))
    if X.ndim != 2 or X.shape[1] != expected:
        raise DataError(OTHER_VOXELS.format(expected=expected, found=X.shape[-1]))
    device = next(network.parameters()).device
    values = torch.from_numpy(np.asarray(X, dtype=np.float32))
    parts = [
        network(values[start : start + _AT_ONCE].to(device)).float().cpu()
        for start in range(0, len(values), _AT_ONCE)
    ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def _load_network(
    state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
) -> NetworkLatents:
    regions = tuple(
        np.asarray(state[key], dtype=np.int64)
        for key in sorted(k for k in state if k.startswith('regions.'))
    )
    targets = Standardizer(np.asarray(state['targets.mean']), np.asarray(state['targets.scale']))
    options = {name: description[name] for name in ('n_hidden', 'dropout')}
    network = build_latent_regressor(
        description['regressor'],
        int(description['n_voxels']),
        len(targets.mean),
        regions=regions or None,
        **options,
    )
    set_weights(network, under(state, 'network'))
    return NetworkLatents(
        description['regressor'], regions=regions, network=network.eval(), targets=targets,
        mean=np.asarray(state['mean']), spread=np.asarray(state['spread']),
        renorm=description['renorm'], **options,
    )  # fmt: skip
