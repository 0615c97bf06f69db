"""One encoding head for many participants, and new participants with few images.

The head turns features into latents that all participants share; each participant has a linear
layer from latents to its voxels (:mod:`bids_neurodecode.models.shared`). Head and layers are
trained together. A participant's layer is then the ridge regression of its responses on the
latents, which needs far fewer images than a regression on the features: the way of a new
participant, who had no part in the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import RidgeSettings
from bids_neurodecode.errors import DataError, raised_as
from bids_neurodecode.models.ridge import RidgeModel, fit_ridge
from bids_neurodecode.models.storage import joined, set_weights, under, weights_of
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.samples import Samples, contents
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import group_labels
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from torch import nn

TOO_FEW_PEOPLE = 'A shared head is trained on at least two participants; there are {n}.'
OTHER_BANDS = 'The shared head was trained on the feature spaces {expected}; these are {found}.'
NOT_A_HEAD = 'These arrays are not those of a shared head: {reason}.'

Bands = Mapping[str, PerStimulus]


@dataclass(frozen=True)
class SharedSettings:
    """How a shared head is made and trained.

    Parameters
    ----------
    n_latent
        Size of the shared space.
    hidden
        Units between features and latents; 0: the head is linear.
    n_components
        Principal components that take the place of the features, at most; None keeps all.
    validation_fraction
        Share of the stimuli that chooses the epoch whose weights are kept.
    training
        Of the trainer.
    """

    n_latent: int = 32
    hidden: int = 0
    n_components: int | None = 100
    validation_fraction: float = 0.1
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            n_epochs=60, batch_size=64, learning_rate=3e-3, optimizer='adamw', patience=8
        )
    )


@dataclass(frozen=True, eq=False)
class SharedHead:
    """A head that was trained on several participants.

    Parameters
    ----------
    bands
        Names of the feature spaces, side by side.
    space
        Their principal components, of the stimuli that the head was trained on.
    head
        From components to latents, in evaluation mode.
    sizes
        ``n_components``, ``hidden`` and ``n_latent``.
    participants
        Whom it was trained on.
    stimuli
        What they saw: images that are not new to the head.
    """

    bands: tuple[str, ...]
    space: FeatureSpace
    head: nn.Module
    sizes: tuple[int, int, int]
    participants: tuple[str, ...]
    stimuli: tuple[str, ...]

    def latents(self, features: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
        """Turn features of each space, (n, n_features), into latents, (n, n_latent)."""
        import torch

        if tuple(features) != self.bands:
            raise DataError(OTHER_BANDS.format(expected=[*self.bands], found=[*features]))
        values = self.space.transform(np.concatenate([*features.values()], axis=1))
        with torch.inference_mode():
            found = self.head(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))
        return np.asarray(found.float().numpy(), dtype=np.float32)

    def describe(self) -> dict[str, Any]:
        """Return what is not an array (JSON)."""
        return {
            'bands': [*self.bands],
            'sizes': [*self.sizes],
            'participants': [*self.participants],
            'stimuli': [*self.stimuli],
        }

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with :meth:`describe`, :meth:`from_state` rebuilds it from."""
        return joined({'head': weights_of(self.head), 'space': self.space.state()})

    @classmethod
    def from_state(
        cls, state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
    ) -> SharedHead:
        """Rebuild a head from :meth:`state` and :meth:`describe`.

        Parameters
        ----------
        state
            Arrays by name.
        description
            What JSON held.

        Raises
        ------
        DataError
            If they are not of a shared head.
        """
        with raised_as(DataError, NOT_A_HEAD, KeyError, ValueError, TypeError, RuntimeError):
            n_in, hidden, n_latent = (int(size) for size in description['sizes'])
            head = _make_head(n_in, hidden, n_latent)
            set_weights(head, under(state, 'head'))
            space = FeatureSpace.from_state(under(state, 'space'))
            bands, people = tuple(description['bands']), tuple(description['participants'])
            stimuli = tuple(description['stimuli'])
        return cls(bands, space, head.eval(), (n_in, hidden, n_latent), people, stimuli)


@dataclass(frozen=True, eq=False)
class SharedEncoder:
    """A participant's encoder: the shared head, and a linear layer of its own.

    Parameters
    ----------
    head
        Shared.
    ridge
        From latents to standardised responses.
    responses
        Mean and deviation of the participant's training responses.
    """

    head: SharedHead
    ridge: RidgeModel
    responses: Standardizer

    @property
    def cv_r2(self) -> Float32Array:
        """Share of variance explained in held-out training samples, (n_voxels,)."""
        return self.ridge.cv_r2

    def predict(self, features: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
        """Predict responses (n, n_voxels), in the units of the training responses."""
        return self.responses.invert(self.ridge.predict(self.head.latents(features)))

    def describe(self) -> dict[str, Any]:
        """Return what is not an array (JSON)."""
        return {'model': 'shared', 'bands': [*self.head.bands], 'head': self.head.describe()}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with :meth:`describe`, :meth:`from_state` rebuilds it from."""
        ridge, responses = self.ridge.state(), self.responses.state()
        return joined({'shared': self.head.state(), 'ridge': ridge, 'responses': responses})

    @classmethod
    def from_state(
        cls, state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
    ) -> SharedEncoder:
        """Rebuild an encoder from :meth:`state` and :meth:`describe`.

        Parameters
        ----------
        state
            Arrays by name.
        description
            What JSON held.
        """
        return cls(
            SharedHead.from_state(under(state, 'shared'), description['head']),
            RidgeModel.from_state(under(state, 'ridge')),
            Standardizer(**under(state, 'responses')),
        )


def train_head(
    people: Mapping[str, Samples],
    features: Bands,
    settings: SharedSettings | None = None,
    *,
    rng: np.random.Generator,
) -> SharedHead:
    """Train a head on the training samples of several participants.

    Parameters
    ----------
    people
        Training samples of each participant; their voxels need not correspond.
    features
        Each feature space, of (at least) these stimuli.
    settings
        Sizes and training.
    rng
        Draws the stimuli that choose the epoch: held out for every participant.

    Raises
    ------
    DataError
        If there are fewer than two participants, or a stimulus has no features.
    """
    from bids_neurodecode.models.shared import SharedModel, train_shared
    from bids_neurodecode.models.training import own_randomness

    settings = settings or SharedSettings()
    if len(people) < 2:
        raise DataError(TOO_FEW_PEOPLE.format(n=len(people)))
    names = {person: _stimuli(samples) for person, samples in people.items()}
    library = tuple(np.unique(np.concatenate([*names.values()])))
    shown = contents(library, *(samples.table for samples in people.values()))
    distinct = np.unique(shown)
    n_held = max(1, round(settings.validation_fraction * len(distinct)))
    out_of = np.isin(shown, rng.permutation(distinct)[:n_held])
    held = {name for name, out in zip(library, out_of, strict=True) if out}
    seen = tuple(name for name in library if name not in held)
    space = FeatureSpace.fit(_joined(features, seen), settings.n_components)
    train, validation = {}, {}
    for person, samples in people.items():
        out = np.array([name in held for name in names[person]])
        responses = Standardizer.fit(samples.values[~out])
        inputs = space.transform(_joined(features, names[person]))
        targets = responses.apply(samples.values)
        train[person] = inputs[~out], targets[~out]
        if out.any():
            validation[person] = inputs[out], targets[out]
    sizes = space.n_components, settings.hidden, settings.n_latent
    with own_randomness(settings.training.seed):
        head = _make_head(*sizes)
        model = SharedModel(
            head,
            {person: targets.shape[1] for person, (_, targets) in train.items()},
            n_latent=settings.n_latent,
            n_features=space.n_components,
        )
    train_shared(model, train, settings.training, validation=validation or None)
    trained = head.cpu().eval()
    names_seen = tuple(str(name) for name in library)
    return SharedHead(tuple(features), space, trained, sizes, tuple(people), names_seen)


def fit_layer(
    train: Samples,
    features: Bands,
    head: SharedHead,
    ridge: RidgeSettings,
    responses: Standardizer | None = None,
) -> SharedEncoder:
    """Give a participant the layer that ridge regression on the latents finds.

    Parameters
    ----------
    train
        The participant's training samples; it may have had a part in the head or not.
    features
        Each feature space, of (at least) these stimuli.
    head
        Shared.
    ridge
        Penalties and folds.
    responses
        What standardises responses; mean and deviation of ``train`` if left out.
    """
    names = _stimuli(train)
    distinct = np.unique(names)
    responses = responses or Standardizer.fit(train.values)
    latents = head.latents({name: band.of(names) for name, band in features.items()})
    model = fit_ridge(
        latents,
        responses.apply(train.values),
        alphas=ridge.alphas,
        groups=group_labels(train, len(distinct), 'stimulus'),
        n_folds=ridge.n_folds,
        per_target=ridge.per_target,
    )
    return SharedEncoder(head, model, responses)


def _make_head(n_in: int, hidden: int, n_latent: int) -> nn.Module:
    from torch import nn

    if not hidden:
        return nn.Linear(n_in, n_latent)
    return nn.Sequential(nn.Linear(n_in, hidden), nn.GELU(), nn.Linear(hidden, n_latent))


def _stimuli(samples: Samples) -> npt.NDArray[np.str_]:
    return np.asarray(samples.table['stimulus'].astype(str).to_numpy(), dtype=np.str_)


def _joined(features: Bands, names: Sequence[str] | npt.NDArray[np.str_]) -> Float32Array:
    return np.concatenate([band.of(list(names)) for band in features.values()], axis=1)
