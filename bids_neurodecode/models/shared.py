"""Many participants, one model: a linear layer for each between its voxels and a shared space.

To encode, a shared head turns features into latents and each participant's layer turns latents
into its voxels; to decode, each participant's layer turns voxels into latents and the shared head
turns these into features (as MindEye2 does; Scotti et al. 2024, arXiv 2403.11207). A new
participant only needs a layer of its own, which few samples can give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.ridge import fit_ridge
from bids_neurodecode.models.training import own_randomness, train
from bids_neurodecode.models.trainingsettings import Training, TrainingSettings
from bids_neurodecode.typing import Float32Array

UNKNOWN_SUBJECT = 'The shared model has no layer for {name!r}. Participants: {names}.'
KNOWN_SUBJECT = 'The shared model has a layer for {name!r} already.'
NO_SUBJECTS = 'A shared model needs at least one participant.'
OTHER_SHAPES = (
    'The samples of {name!r} are {inputs} and {targets}; the shared model takes (n, {n_in}) and '
    '(n, {n_out}).'
)
ENCODING_ONLY = 'Only a model that encodes has a closed form; fine-tune a model that decodes.'

Direction = Literal['encode', 'decode']
Pairs = Mapping[str, tuple[Float32Array, Float32Array]]


class SharedModel(nn.Module):
    """One head for all participants and a linear layer for each.

    Parameters
    ----------
    head
        From features to latents (``encode``), or from latents to features (``decode``).
    n_voxels
        Voxels of each participant.
    n_latent
        Size of the shared space.
    n_features
        Size of the other side.
    direction
        From features to voxels, or the other way.
    """

    def __init__(
        self,
        head: nn.Module,
        n_voxels: Mapping[str, int],
        *,
        n_latent: int,
        n_features: int,
        direction: Direction = 'encode',
    ) -> None:
        super().__init__()
        if not n_voxels:
            raise ArgumentsError(NO_SUBJECTS)
        self.head, self.direction = head, direction
        self.n_latent, self.n_features = n_latent, n_features
        self.names: list[str] = []
        self.layers = nn.ModuleList()
        for name, n in n_voxels.items():
            self.add(name, n)

    def add(self, name: str, n_voxels: int) -> nn.Linear:
        """Give a new participant a layer (fresh weights).

        Parameters
        ----------
        name
            The participant's label.
        n_voxels
            Of that participant.

        Raises
        ------
        ArgumentsError
            If there is one of that name.
        """
        if name in self.names:
            raise ArgumentsError(KNOWN_SUBJECT.format(name=name))
        encodes = self.direction == 'encode'
        sizes = (self.n_latent, n_voxels) if encodes else (n_voxels, self.n_latent)
        layer = nn.Linear(*sizes)
        self.names.append(name)
        self.layers.append(layer.to(next(self.head.parameters()).device))
        return layer

    def layer(self, name: str) -> nn.Linear:
        """Return a participant's layer."""
        if name not in self.names:
            raise ArgumentsError(UNKNOWN_SUBJECT.format(name=name, names=', '.join(self.names)))
        return cast('nn.Linear', self.layers[self.names.index(name)])

    def forward(self, values: Tensor, name: str) -> Tensor:
        """Turn features (n, n_features) into voxels (n, n_voxels), or the other way.

        Parameters
        ----------
        values
            Shape (n, n_features), or (n, n_voxels) where it decodes.
        name
            The participant's label.
        """
        layer = self.layer(name)
        result: Tensor = (
            layer(self.head(values)) if self.direction == 'encode' else self.head(layer(values))
        )
        return result

    def sizes(self, name: str) -> tuple[int, int]:
        """Return the columns of a participant's inputs and targets."""
        layer = self.layer(name)
        if self.direction == 'encode':
            return self.n_features, layer.out_features
        return layer.in_features, self.n_features


class SharedObjective(nn.Module):
    """Mean squared error over the participants of a batch, each with the weight of its samples."""

    def __init__(self, model: SharedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, subject: Tensor) -> dict[str, Tensor]:
        """Return the loss.

        Parameters
        ----------
        inputs, targets
            Rows of samples, filled up with zeros to the widest participant.
        subject
            Number of each sample's participant, (n,).
        """
        total = torch.zeros((), device=inputs.device)
        for code in sorted(set(subject.tolist())):
            name, rows = self.model.names[code], subject == code
            n_in, n_out = self.model.sizes(name)
            predicted = self.model(inputs[rows, :n_in], name)
            error = nn.functional.mse_loss(predicted.float(), targets[rows, :n_out].float())
            total = total + error * rows.sum() / len(subject)
        return {'loss': total}


@dataclass(frozen=True, eq=False)
class SharedSamples:
    """Samples of several participants, one after the other.

    Parameters
    ----------
    pairs
        Inputs and targets of each participant, (n_samples_s, n_columns_s) each.
    names
        The model's participants, which number them.
    """

    pairs: Pairs
    names: Sequence[str]

    def __post_init__(self) -> None:
        counts = [len(x) for x, _ in self.pairs.values()]
        widths = [[part.shape[1] for part in pair] for pair in self.pairs.values()]
        object.__setattr__(self, '_starts', np.cumsum([0, *counts]))
        object.__setattr__(self, '_widths', np.max(widths, axis=0))

    _starts: Any = None
    _widths: Any = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, int]:
        which = int(np.searchsorted(self._starts, item, side='right')) - 1
        name = list(self.pairs)[which]
        row = item - int(self._starts[which])
        filled = [
            np.pad(part[row].astype(np.float32), (0, int(width) - part.shape[1]))
            for part, width in zip(self.pairs[name], self._widths, strict=True)
        ]
        return (
            torch.from_numpy(filled[0]),
            torch.from_numpy(filled[1]),
            self.names.index(name),
        )


def train_shared(
    model: SharedModel,
    pairs: Pairs,
    settings: TrainingSettings,
    *,
    validation: Pairs | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Training:
    """Train the head and the layers of these participants together, in place.

    Parameters
    ----------
    model
        With a layer for each participant.
    pairs
        Inputs and targets of each participant: features and responses (``encode``), or responses
        and features; standardised.
    settings, progress
        See :func:`bids_neurodecode.models.training.train`.
    validation
        As ``pairs``, to choose the epoch whose weights are kept.

    Raises
    ------
    DataError
        If the samples do not fit the model.
    """
    for part in (pairs, validation or {}):
        _check(model, part)
    training = train(
        SharedObjective(model),
        SharedSamples(pairs, model.names),
        settings,
        validation=SharedSamples(validation, model.names) if validation else None,
        progress=progress,
    )
    model.eval()
    return training


def fine_tune(
    model: SharedModel,
    name: str,
    inputs: Float32Array,
    targets: Float32Array,
    settings: TrainingSettings,
    *,
    whole: bool = False,
    validation: tuple[Float32Array, Float32Array] | None = None,
) -> Training:
    """Train a new participant's layer, in place; the head and other layers stay.

    Parameters
    ----------
    model
        Trained on others.
    name
        The participant; gets a layer if it has none.
    inputs, targets
        Its samples.
    settings
        Of the trainer.
    whole
        Train the head too.
    validation
        Its samples that choose the epoch.
    """
    if name not in model.names:
        with own_randomness(settings.seed):
            model.add(name, (targets if model.direction == 'encode' else inputs).shape[1])
    own = set(model.layer(name).parameters())
    if whole:
        own |= set(model.head.parameters())
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(parameter in own)
    try:
        return train_shared(
            model,
            {name: (inputs, targets)},
            settings,
            validation={name: validation} if validation else None,
        )
    finally:
        for parameter, trained in before.items():
            parameter.requires_grad_(trained)


def adapt(
    model: SharedModel,
    name: str,
    features: Float32Array,
    responses: Float32Array,
    *,
    alphas: Sequence[float],
    groups: npt.ArrayLike | None = None,
    n_folds: int = 5,
) -> Float32Array:
    """Give a new participant the layer that ridge regression on the latents finds.

    Parameters
    ----------
    model
        Trained on others, to encode.
    name
        The participant; gets a layer if it has none.
    features, responses
        Its samples, standardised, (n_samples, n_features) and (n_samples, n_voxels).
    alphas, groups, n_folds
        See :func:`bids_neurodecode.models.ridge.fit_ridge`.

    Returns
    -------
    numpy.ndarray
        Share of variance explained in held-out samples, (n_voxels,).
    """
    if model.direction != 'encode':
        raise ArgumentsError(ENCODING_ONLY)
    if name not in model.names:
        model.add(name, responses.shape[1])
    _check(model, {name: (features, responses)})
    device = next(model.head.parameters()).device
    model.eval()
    with torch.no_grad():
        latents = model.head(torch.from_numpy(np.asarray(features, np.float32)).to(device))
        ridge = fit_ridge(
            latents.float().cpu().numpy(),
            responses,
            alphas=alphas,
            groups=groups,
            n_folds=n_folds,
        )
        weights = ridge.coefficients()
        layer = model.layer(name)
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T)))
        layer.bias.copy_(torch.from_numpy(ridge.intercept - ridge.mean @ weights))
    return ridge.cv_r2


def predict_shared(model: SharedModel, name: str, values: Float32Array) -> Float32Array:
    """Predict a participant's responses (or features), (n, n_columns).

    Parameters
    ----------
    model
        Trained.
    name
        The participant's label.
    values
        Shape (n, n_features), or (n, n_voxels) where it decodes.
    """
    device = next(model.head.parameters()).device
    with torch.inference_mode():
        inputs = torch.from_numpy(np.asarray(values, dtype=np.float32)).to(device)
        return np.asarray(model(inputs, name).float().cpu().numpy(), dtype=np.float32)


def _check(model: SharedModel, pairs: Pairs) -> None:
    for name, (inputs, targets) in pairs.items():
        n_in, n_out = model.sizes(name)
        shapes = (len(targets), n_in), (len(inputs), n_out)
        if (inputs.shape, targets.shape) != shapes:
            raise DataError(
                OTHER_SHAPES.format(
                    name=name, inputs=inputs.shape, targets=targets.shape, n_in=n_in, n_out=n_out
                )
            )
