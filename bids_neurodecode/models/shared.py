"""Many participants, one model: a linear layer for each between its voxels and a shared space.

A shared head turns features into latents, and each participant's layer turns latents into its
voxels (MindEye2 shares a space so, the other way; Scotti et al. 2024, arXiv 2403.11207). A new
participant only needs a layer of its own, which few samples can give
(:func:`bids_neurodecode.systems.encoding.shared.fit_layer`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.training import train
from bids_neurodecode.models.trainingsettings import Training, TrainingSettings
from bids_neurodecode.typing import Float32Array

UNKNOWN_SUBJECT = 'The shared model has no layer for {name!r}. Participants: {names}.'
KNOWN_SUBJECT = 'The shared model has a layer for {name!r} already.'
NO_SUBJECTS = 'A shared model needs at least one participant.'
OTHER_SHAPES = (
    'The samples of {name!r} are {inputs} and {targets}; the shared model takes (n, {n_in}) and '
    '(n, {n_out}).'
)

Pairs = Mapping[str, tuple[Float32Array, Float32Array]]


class SharedModel(nn.Module):
    """One head for all participants and a linear layer for each.

    Parameters
    ----------
    head
        From features to latents.
    n_voxels
        Voxels of each participant.
    n_latent
        Size of the shared space.
    n_features
        That the head takes.
    """

    def __init__(
        self,
        head: nn.Module,
        n_voxels: Mapping[str, int],
        *,
        n_latent: int,
        n_features: int,
    ) -> None:
        super().__init__()
        if not n_voxels:
            raise ArgumentsError(NO_SUBJECTS)
        self.head = head
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
        layer = nn.Linear(self.n_latent, n_voxels)
        self.names.append(name)
        self.layers.append(layer.to(next(self.head.parameters()).device))
        return layer

    def layer(self, name: str) -> nn.Linear:
        """Return a participant's layer."""
        if name not in self.names:
            raise ArgumentsError(UNKNOWN_SUBJECT.format(name=name, names=', '.join(self.names)))
        return cast('nn.Linear', self.layers[self.names.index(name)])

    def forward(self, values: Tensor, name: str) -> Tensor:
        """Turn features (n, n_features) into voxels (n, n_voxels).

        Parameters
        ----------
        values
            Shape (n, n_features).
        name
            The participant's label.
        """
        voxels: Tensor = self.layer(name)(self.head(values))
        return voxels

    def sizes(self, name: str) -> tuple[int, int]:
        """Return the columns of a participant's inputs and targets."""
        return self.n_features, self.layer(name).out_features


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
) -> Training:
    """Train the head and the layers of these participants together, in place.

    Parameters
    ----------
    model
        With a layer for each participant.
    pairs
        Features and responses of each participant, standardised.
    settings
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
    )
    model.eval()
    return training


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
