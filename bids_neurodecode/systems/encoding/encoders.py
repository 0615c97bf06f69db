"""Encoding models: features of what was seen to the response of every voxel.

``fit`` learns on training samples, ``predict`` turns features of any images into responses. The
models are ridge, banded ridge over several feature spaces, and the networks of
:mod:`bids_neurodecode.systems.encoding.network`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Device
from bids_neurodecode.config import Config, RidgeSettings
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.mapped import blocks, room
from bids_neurodecode.models.banded import BandedModel, fit_banded
from bids_neurodecode.models.ridge import RidgeModel, fit_ridge
from bids_neurodecode.models.storage import joined, under
from bids_neurodecode.samples import Samples
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding.network import NetworkEncoder, NetworkSettings, fit_network
from bids_neurodecode.systems.encoding.shared import SharedEncoder, SharedHead, fit_layer
from bids_neurodecode.systems.linear import Group, group_labels
from bids_neurodecode.typing import Float32Array

NO_FEATURES = 'Encoding needs at least one feature space.'
OTHER_BANDS = 'The encoder was fitted on the feature spaces {expected}; these are {found}.'
NO_HEAD = (
    'The encoding model "shared" needs the head that participants share: train it at group level '
    '(bids_neurodecode BIDS_DIR OUTPUT_DIR group), and name it with encoding.shared_head.'
)
UNKNOWN_MODEL = 'No encoding model is called {name!r}. Models: {names}.'

Bands = Mapping[str, PerStimulus]
ModelName = Literal['ridge', 'banded', 'linear', 'mlp', 'siren', 'cnn', 'shared']

MODELS: tuple[ModelName, ...] = ('ridge', 'banded', 'linear', 'mlp', 'siren', 'cnn', 'shared')


class Encoder(Protocol):
    """A fitted encoding model."""

    @property
    def responses(self) -> Standardizer:
        """Mean and deviation of the training responses, voxel by voxel."""

    @property
    def cv_r2(self) -> Float32Array:
        """Share of variance explained in held-out training samples, (n_voxels,)."""

    def predict(self, features: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
        """Predict responses (n, n_voxels) from each space's features (n, n_features)."""

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with the description, rebuild the model."""

    def describe(self) -> dict[str, Any]:
        """Return what is not an array (JSON)."""


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoding model is fitted and judged.

    Parameters
    ----------
    model
        ``ridge`` (all feature spaces side by side), ``banded``, or a network.
    n_components
        Principal components kept of each feature space (ridge and banded), at most.
    whiten
        Bring components to unit variance; else they keep their variances, as ridge on the
        standardised features would have them.
    average_training
        Fit on the mean of each stimulus' training trials, not on single trials.
    n_training
        Fit on this many training stimuli, drawn at random; None: on all.
    ridge
        Penalties and folds.
    n_mixtures
        Random draws of how much each band counts (banded).
    groups
        What is held out together when penalties are chosen.
    threshold
        Voxels with a noise ceiling at or below this are left out of noise-normalised scores.
    partition
        Partition the explained variance between the feature spaces, where there are several.
    baseline
        Also fit on shuffled stimuli (ridge and banded).
    network
        Of the networks.
    device
        Of the regressions.
    head
        The head that participants share (``shared``).
    """

    model: ModelName = 'ridge'
    n_components: int | None = 100
    whiten: bool = False
    average_training: bool = False
    n_training: int | None = None
    ridge: RidgeSettings = field(default_factory=RidgeSettings)
    n_mixtures: int = 20
    groups: Group = 'auto'
    threshold: float = 0.05
    partition: bool = False
    baseline: bool = True
    network: NetworkSettings = field(default_factory=NetworkSettings)
    device: Device = 'cpu'
    head: SharedHead | None = None

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ArgumentsError(UNKNOWN_MODEL.format(name=self.model, names=', '.join(MODELS)))

    @classmethod
    def of(cls, config: Config, device: str = 'cpu', **changes: Any) -> EncoderSettings:
        """Take what a configuration says of features, ridge and the encoding model.

        Parameters
        ----------
        config
            Settings of ``encoding``, ``features``, ``ridge`` and ``seed``.
        device
            ``cpu`` or ``cuda``.
        **changes
            Fields that are to be otherwise.
        """
        encoding = config.encoding
        same = ('model', 'average_training', 'n_training', 'threshold', 'partition')
        return cls(
            **{
                'n_components': config.features.n_components,
                'ridge': config.ridge,
                'network': NetworkSettings.of(config, device),
                'device': 'cuda' if device == 'cuda' else 'cpu',
                **{name: getattr(encoding, name) for name in same},
                **changes,
            }
        )


@dataclass(frozen=True, eq=False)
class RidgeEncoder:
    """A fitted linear encoding model.

    Parameters
    ----------
    spaces
        Principal components of each feature space, of the training stimuli.
    whiten
        Whether components are brought to unit variance.
    ridge
        From components to standardised responses.
    responses
        Mean and deviation of the training trials, single ones also where means were fitted.
    """

    spaces: Mapping[str, FeatureSpace]
    whiten: bool
    ridge: RidgeModel | BandedModel
    responses: Standardizer

    @property
    def cv_r2(self) -> Float32Array:
        """Share of variance explained in held-out training samples, (n_voxels,)."""
        return self.ridge.cv_r2

    def predict(self, features: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
        """Predict responses, in the units of the training responses.

        Parameters
        ----------
        features
            Features of each space, (n_pictures, n_features).

        Returns
        -------
        numpy.ndarray
            Shape (n_pictures, n_voxels), float32.
        """
        if tuple(features) != tuple(self.spaces):
            raise DataError(OTHER_BANDS.format(expected=[*self.spaces], found=[*features]))
        parts = {
            name: components(space, features[name], self.whiten)
            for name, space in self.spaces.items()
        }
        if isinstance(self.ridge, BandedModel):
            return self.responses.invert(self.ridge.predict(parts))
        return self.responses.invert(self.ridge.predict(_joined(parts)))

    def describe(self) -> dict[str, Any]:
        """Return what is not an array (JSON)."""
        kind = 'banded' if isinstance(self.ridge, BandedModel) else 'ridge'
        return {'model': kind, 'bands': [*self.spaces], 'whiten': self.whiten}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with :meth:`describe`, :meth:`from_state` rebuilds it from."""
        parts = {'ridge': self.ridge.state(), 'responses': self.responses.state()}
        parts |= {f'space{k}': space.state() for k, space in enumerate(self.spaces.values())}
        return joined(parts)

    @classmethod
    def from_state(
        cls, state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
    ) -> RidgeEncoder:
        """Rebuild an encoder from :meth:`state` and :meth:`describe`.

        Parameters
        ----------
        state
            Arrays by name.
        description
            What JSON held.
        """
        names, fitted = tuple(description['bands']), under(state, 'ridge')
        banded = description['model'] == 'banded'
        return cls(
            {
                name: FeatureSpace.from_state(under(state, f'space{k}'))
                for k, name in enumerate(names)
            },
            bool(description['whiten']),
            BandedModel.from_state(fitted, names) if banded else RidgeModel.from_state(fitted),
            Standardizer(**under(state, 'responses')),
        )


def load_encoder(state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]) -> Encoder:
    """Rebuild any encoder from what its ``state`` and ``describe`` returned.

    Parameters
    ----------
    state
        Arrays by name.
    description
        What JSON held.
    """
    if description['model'] == 'shared':
        return SharedEncoder.from_state(state, description)
    if description['model'] in {'ridge', 'banded'}:
        return RidgeEncoder.from_state(state, description)
    return NetworkEncoder.from_state(state, description)


def fit(
    train: Samples,
    features: Bands,
    settings: EncoderSettings | None = None,
    *,
    rng: np.random.Generator | None = None,
    validation: Samples | None = None,
    checkpoint_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Encoder:
    """Fit an encoding model on training samples.

    Parameters
    ----------
    train
        Training samples only.
    features
        Each feature space, of (at least) the training stimuli.
    settings
        Which model, and how; the defaults if left out.
    rng
        Source of the stimuli drawn, the mixtures of banded ridge, and what networks hold out.
    validation
        Samples that decide when a network stops; some training stimuli if left out.
    checkpoint_dir, progress
        Of a network's training; see :func:`bids_neurodecode.models.training.train`.

    Raises
    ------
    DataError
        If a stimulus has no features, or there is nothing to hold out for the penalty.
    """
    settings = settings or EncoderSettings()
    rng = rng or np.random.default_rng(0)
    if not features:
        raise DataError(NO_FEATURES)
    if settings.n_training is not None:
        train = some_stimuli(train, settings.n_training, rng)
    responses = Standardizer.fit(train.values)
    if settings.average_training:
        # the units stay those of single trials: in deviations of means voxels with signal count
        # less and the others more, and patterns identify images worse
        train = train.averaged()
    if settings.model == 'shared':
        if settings.head is None:
            raise ArgumentsError(NO_HEAD)
        return fit_layer(train, features, settings.head, settings.ridge, responses)
    if settings.model == 'ridge' or settings.model == 'banded':  # noqa: PLR1714 - narrows the type
        return _fit_ridge(train, features, settings, responses, rng)
    return fit_network(
        train,
        features,
        settings.model,
        settings.network,
        rng=rng,
        validation=validation,
        responses=responses if settings.average_training else None,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )


def some_stimuli(samples: Samples, n: int, rng: np.random.Generator) -> Samples:
    """Return the samples of ``n`` stimuli drawn at random; all where there are no more.

    Parameters
    ----------
    samples
        Training samples.
    n
        Stimuli that are kept.
    rng
        Draws them.
    """
    names = samples.table['stimulus'].astype(str).to_numpy()
    distinct = np.unique(names)
    if len(distinct) <= n:
        return samples
    return samples.take(np.flatnonzero(np.isin(names, rng.permutation(distinct)[:n])))


def predict(
    encoder: Encoder,
    features: Bands,
    stimuli: Sequence[str],
    like: npt.NDArray[Any] | None = None,
) -> Float32Array:
    """Predict responses (n_stimuli, n_voxels) to stimuli that have features.

    Parameters
    ----------
    encoder
        Fitted.
    features
        Of each feature space.
    stimuli
        Names, one per row.
    like
        Beside whose file predictions lie, if it is mapped and they are large.
    """
    known = {name: space.of(stimuli) for name, space in features.items()}
    n_voxels = len(encoder.responses.mean)
    parts = list(blocks(len(stimuli), n_voxels))
    if like is None or len(parts) < 2:
        return encoder.predict(known)
    out = room(like, (len(stimuli), n_voxels))
    for part in parts:
        out[part] = encoder.predict({name: values[part] for name, values in known.items()})
    return out


def components(
    space: FeatureSpace, features: npt.NDArray[np.floating[Any]], whiten: bool
) -> Float32Array:
    """Return components (n, n_components) with a mean variance of 1 over training stimuli.

    Parameters
    ----------
    space
        Fitted on training stimuli.
    features
        Shape (n, n_features).
    whiten
        Whether each component gets a variance of 1, and not their mean alone.
    """
    scores = space.transform(features)
    if whiten:
        return scores
    deviations = space.deviations.astype(np.float64)
    return np.asarray(scores * (deviations / np.sqrt(np.mean(deviations**2))), dtype=np.float32)


def _fit_ridge(
    train: Samples,
    features: Bands,
    settings: EncoderSettings,
    responses: Standardizer,
    rng: np.random.Generator,
) -> RidgeEncoder:
    names = train.table['stimulus'].astype(str)
    library = tuple(dict.fromkeys(names))
    spaces, parts = {}, {}
    for name, band in features.items():
        spaces[name] = FeatureSpace.fit(band.of(library), settings.n_components)
        parts[name] = components(spaces[name], band.of(names), settings.whiten)
    targets = responses.apply(train.values)
    # averages of all runs cannot be held out by run
    by: Group = 'stimulus' if settings.average_training else settings.groups
    groups = group_labels(train, len(library), by)
    options: dict[str, Any] = {
        'alphas': settings.ridge.alphas,
        'groups': groups,
        'n_folds': settings.ridge.n_folds,
        'device': settings.device,
    }
    ridge: RidgeModel | BandedModel
    if settings.model == 'banded':
        ridge = fit_banded(parts, targets, n_mixtures=settings.n_mixtures, rng=rng, **options)
    else:
        ridge = fit_ridge(_joined(parts), targets, per_target=settings.ridge.per_target, **options)
    return RidgeEncoder(spaces, settings.whiten, ridge, responses)


def _joined(parts: Mapping[str, Float32Array]) -> Float32Array:
    return np.concatenate(list(parts.values()), axis=1)
