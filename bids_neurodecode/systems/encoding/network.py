"""Encoding networks: fitted on features and responses by the trainer of all systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.voxels import r2_by_column
from bids_neurodecode.models.storage import joined, set_weights, under, weights_of
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.samples import Samples, contents
from bids_neurodecode.spaces import needs_grid
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bids_neurodecode.models.heads import HeadDesign
    from bids_neurodecode.models.trainingsettings import Training

TOO_FEW_STIMULI = (
    'An encoding network holds out training stimuli to choose its weights; {n} are too few. '
    'Use more stimuli, or ridge.'
)
OTHER_BANDS = 'The encoder was fitted on the feature spaces {expected}; these are {found}.'
BAD_SETTINGS = 'The share of training stimuli held out must lie between 0 and 1; it is {found}.'

AT_ONCE = 256
"""Images whose responses are predicted together."""
HeadName = Literal['linear', 'mlp', 'siren', 'cnn']


@dataclass(frozen=True)
class NetworkSettings:
    """How an encoding network is made and trained.

    Parameters
    ----------
    n_components
        Principal components that take the place of the features; None keeps the features as they
        are, which queries and maps need.
    n_queries, hidden, width, n_hidden, w0, map_shape
        See :class:`bids_neurodecode.models.heads.HeadDesign`. The arguments of the first sines
        have a deviation of ``w0 / sqrt(3 n_features)``, features being standardised. The
        published 30 is for coordinates between -1 and 1; on 100 components 5 predicts far
        better.
    loss, delta, l1_weights, l2_weights
        See :class:`bids_neurodecode.models.heads.FitLoss`.
    volume
        Train on the whole grid, zero outside of the mask, as the reproduction of VISION does; else
        on the voxels of the mask alone. Predictions are of the mask either way.
    validation_fraction
        Share of the training stimuli held out to choose the epoch whose weights are kept.
    training
        Of the trainer.
    """

    n_components: int | None = None
    n_queries: int = 1
    hidden: int = 256
    width: int = 256
    n_hidden: int = 3
    w0: float = 30.0
    map_shape: tuple[int, int, int] | None = None
    loss: Literal['l1', 'l2', 'huber'] = 'l2'
    delta: float = 1.0
    l1_weights: float = 0.0
    l2_weights: float = 0.0
    volume: bool = False
    validation_fraction: float = 0.1
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            n_epochs=50, batch_size=64, learning_rate=1e-3, optimizer='adamw', patience=5
        )
    )

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise ArgumentsError(BAD_SETTINGS.format(found=self.validation_fraction))

    @classmethod
    def of(cls, config: Config, device: str = 'cpu') -> NetworkSettings:
        """Take what a configuration says of the encoding networks.

        Parameters
        ----------
        config
            Settings of ``encoding`` and ``seed``.
        device
            ``cpu`` or ``cuda``.
        """
        chosen = config.encoding
        same = ('n_queries', 'w0', 'loss', 'l1_weights', 'l2_weights', 'validation_fraction')
        trained = ('n_epochs', 'batch_size', 'learning_rate', 'patience', 'precision', 'compile')
        units = chosen.width if chosen.model == 'siren' else chosen.hidden
        return cls(
            n_components=chosen.network_components,
            hidden=units,
            width=units,
            volume=chosen.voxels == 'volume',
            **{name: getattr(chosen, name) for name in same},
            training=TrainingSettings(
                optimizer='adamw',
                seed=config.seed,
                device='cuda' if device == 'cuda' else 'cpu',
                **{name: getattr(chosen, name) for name in trained},
            ),
        )


@dataclass(frozen=True, eq=False)
class NetworkEncoder:
    """A fitted encoding network.

    Parameters
    ----------
    bands
        Names of the feature spaces, side by side.
    design
        Sizes of the network.
    head
        The network, in evaluation mode.
    inputs
        Mean and deviation of the training stimuli's features; or their feature space.
    responses
        Mean and deviation of the training responses.
    cv_r2
        Share of variance explained in the validation samples, (n_voxels,).
    mask
        Where the voxels lie in the network's volume, boolean (x, y, z); of a network of whole
        volumes these are the ones that it is asked for.
    training
        How the training went; None if it was read from disk.
    """

    bands: tuple[str, ...]
    design: HeadDesign
    head: nn.Module
    inputs: Standardizer | FeatureSpace
    responses: Standardizer
    cv_r2: Float32Array
    mask: npt.NDArray[np.bool_]
    training: Training | None = field(default=None, repr=False)

    def predict(self, features: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
        """Predict responses (n, n_voxels), in the units of the training responses."""
        if tuple(features) != self.bands:
            raise DataError(OTHER_BANDS.format(expected=[*self.bands], found=[*features]))
        values = _inputs(self.inputs, np.concatenate(list(features.values()), axis=1))
        return self.responses.invert(_predict(self.head, values, _columns(self.design, self.mask)))

    def describe(self) -> dict[str, Any]:
        """Return what is not an array (JSON)."""
        curves = () if self.training is None else self.training.curves
        return {
            'model': self.design.kind,
            'bands': [*self.bands],
            'design': self.design.describe(),
            'training': {} if self.training is None else self.training.facts(),
            'curves': [dict(row) for row in curves],
        }

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with :meth:`describe`, :meth:`from_state` rebuilds it from."""
        parts = {
            'inputs': self.inputs.state(),
            'responses': self.responses.state(),
            'head': weights_of(self.head),
        }
        return {'cv_r2': self.cv_r2, 'mask': self.mask.astype(np.uint8), **joined(parts)}

    @classmethod
    def from_state(
        cls, state: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
    ) -> NetworkEncoder:
        """Rebuild an encoder from :meth:`state` and :meth:`describe`.

        Parameters
        ----------
        state
            Arrays by name.
        description
            What JSON held.
        """
        from bids_neurodecode.models.heads import HeadDesign, make_head

        design = HeadDesign.from_description(description['design'])
        mask = np.asarray(state['mask'], dtype=bool)
        head = make_head(design, None if _columns(design, mask) is not None else mask)
        set_weights(head, under(state, 'head'))
        head.eval()
        inputs = under(state, 'inputs')
        return cls(
            tuple(description['bands']),
            design,
            head,
            FeatureSpace.from_state(inputs) if 'components' in inputs else Standardizer(**inputs),
            Standardizer(**under(state, 'responses')),
            np.asarray(state['cv_r2'], dtype=np.float32),
            mask,
        )


def fit_network(
    train: Samples,
    features: Mapping[str, PerStimulus],
    kind: HeadName,
    settings: NetworkSettings,
    *,
    rng: np.random.Generator,
    validation: Samples | None = None,
    responses: Standardizer | None = None,
    checkpoint_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NetworkEncoder:
    """Train an encoding network.

    Parameters
    ----------
    train
        Training samples only.
    features
        Feature spaces, put side by side.
    kind
        Which network.
    settings
        Its sizes and training.
    rng
        Draws the training stimuli that are held out where no validation samples are given.
    validation
        Samples that choose the epoch whose weights are kept; never test samples.
    responses
        What standardises responses; mean and deviation of ``train`` if left out.
    checkpoint_dir, progress
        See :func:`bids_neurodecode.models.training.train`.

    Raises
    ------
    DataError
        If there are too few stimuli to hold any out, or a stimulus has no features.
    """
    from bids_neurodecode.models.heads import EncodingObjective, FitLoss, HeadDesign, make_head
    from bids_neurodecode.models.training import own_randomness
    from bids_neurodecode.models.training import train as run_training

    if validation is None:
        train, validation = _hold_out(train, settings.validation_fraction, rng)
    names = tuple(dict.fromkeys(train.table['stimulus'].astype(str)))
    seen = _features(features, names)
    inputs: Standardizer | FeatureSpace = Standardizer.fit(seen)
    if settings.n_components is not None:
        inputs = FeatureSpace.fit(seen, settings.n_components)
    responses = responses or Standardizer.fit(train.values)
    if kind == 'cnn':
        needs_grid('A convolutional encoding model', train.responses.mask.space)
    mask = train.responses.mask.mask
    mask = mask if settings.volume else _box(mask)
    design = HeadDesign(
        kind=kind,
        n_features=_inputs(inputs, seen[:1]).shape[1],
        shape=(mask.shape[0], mask.shape[1], mask.shape[2]),
        n_voxels=mask.size if settings.volume else train.values.shape[1],
        **{
            name: getattr(settings, name)
            for name in ('n_queries', 'hidden', 'width', 'n_hidden', 'w0', 'map_shape')
        },
    )
    columns = _columns(design, mask)
    data, checked = (
        _Pairs.of(part, features, inputs, responses, columns) for part in (train, validation)
    )
    with own_randomness(settings.training.seed):
        head = make_head(design, None if columns is not None else mask)
    loss = FitLoss(settings.loss, settings.delta, settings.l1_weights, settings.l2_weights)
    objective = EncodingObjective(head, loss, design.n_features)
    training = run_training(
        objective,
        data,
        settings.training,
        validation=checked,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    head.eval()
    predicted = _predict(head, checked.features, columns)[checked.index]
    cv_r2 = r2_by_column(checked.responses, predicted).astype(np.float32)
    bands = tuple(features)
    return NetworkEncoder(bands, design, head, inputs, responses, cv_r2, mask, training)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Features of distinct stimuli, which of them each sample showed, and its responses.

    ``columns`` says which voxels of the whole volume they are, where that is trained on.
    """

    features: Float32Array
    index: npt.NDArray[np.intp]
    responses: Float32Array
    columns: npt.NDArray[np.bool_] | None

    @classmethod
    def of(
        cls,
        samples: Samples,
        features: Mapping[str, PerStimulus],
        inputs: Standardizer | FeatureSpace,
        responses: Standardizer,
        columns: npt.NDArray[np.bool_] | None,
    ) -> _Pairs:
        names = samples.table['stimulus'].astype(str)
        distinct = tuple(dict.fromkeys(names))
        place = {name: row for row, name in enumerate(distinct)}
        return cls(
            _inputs(inputs, _features(features, distinct)),
            np.array([place[name] for name in names], dtype=np.intp),
            responses.apply(samples.values),
            columns,
        )

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        import torch

        row, truth = self.features[self.index[item]], self.responses[item]
        if self.columns is not None:
            volume = np.zeros(len(self.columns), dtype=np.float32)
            volume[self.columns] = truth
            truth = volume
        return torch.from_numpy(row), torch.from_numpy(truth)


def _hold_out(
    train: Samples, fraction: float, rng: np.random.Generator
) -> tuple[Samples, Samples]:
    names = contents(train.table['stimulus'], train.table)
    distinct = np.unique(names)
    if len(distinct) < 4:
        raise DataError(TOO_FEW_STIMULI.format(n=len(distinct)))
    n_out = min(len(distinct) - 2, max(2, round(fraction * len(distinct))))
    out = np.isin(names, rng.permutation(distinct)[:n_out])
    return train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))


def _features(features: Mapping[str, PerStimulus], names: Sequence[str]) -> Float32Array:
    return np.concatenate([band.of(names) for band in features.values()], axis=1, dtype=np.float32)


def _inputs(inputs: Standardizer | FeatureSpace, values: npt.NDArray[Any]) -> Float32Array:
    if isinstance(inputs, FeatureSpace):
        return inputs.transform(values)
    return inputs.apply(values)


def _columns(design: HeadDesign, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Return which outputs are voxels of the mask, where the network predicts all others too."""
    if design.n_voxels == int(mask.sum()):
        return None
    return mask.ravel()


def _predict(
    head: nn.Module,
    values: Float32Array,
    columns: npt.NDArray[np.bool_] | None = None,
) -> Float32Array:
    import torch

    device = next(head.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(values), AT_ONCE):
            batch = torch.from_numpy(values[start : start + AT_ONCE]).to(device)
            part = head(batch).float().cpu().numpy()
            parts.append(part if columns is None else part[:, columns])
    return np.concatenate(parts).astype(np.float32)


def _box(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cut a mask to its bounding box: the volume that a network predicts."""
    found = np.nonzero(mask)
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in found)
    return np.ascontiguousarray(mask[box])
