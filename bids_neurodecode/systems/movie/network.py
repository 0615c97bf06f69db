"""The movie networks: fit, predict and judge, from chunks of film and responses.

Chunks are any map-style sequence: of bytes (n_frames, height, width, 3), as a film store gives
them raw, or of values (3, height, width, n_frames) in [0, 1]. Responses are (n_samples, n_voxels)
and follow the chunks one to one, the delay being taken off already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, DataError, raised_as
from bids_neurodecode.models.storage import under
from bids_neurodecode.models.trainingsettings import Progress, Training, TrainingSettings
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bids_neurodecode.models.losses import LossWeights
    from bids_neurodecode.models.movie import MovieDesign

UNPAIRED = 'There must be one chunk of film a response: {chunks} chunks, {responses} responses.'
NOT_FINITE = 'Responses must be finite numbers (n_samples, n_voxels); {n} are not, of {shape}.'
OTHER_VOXELS = 'The design has {design} voxels, the {what} responses have {found}.'
NO_PART = 'This movie network was trained without {part}. Train it with mode {mode} or joint.'
NO_VALIDATION = 'Validation needs both chunks and responses.'
BAD_MODEL = 'Cannot read the movie network in {folder}: {reason}. Train it again.'

EXTRA = 'extra'

Chunks = Sequence[Any]


@dataclass(frozen=True)
class MovieNetworkSettings:
    """All that a fit depends on, beside the data.

    Parameters
    ----------
    design, losses, training
        Sizes of the networks, weights of the losses, how to train.
    mode
        ``joint``: the decoder reads the encoder's predictions and both are trained together;
        ``encoder`` or ``decoder`` alone (then it reads measured responses).
    perceptual
        What the perceptual loss compares: ``vgg16`` (needs its weights), ``gabor`` or ``none``
        (its weight must then be 0).
    standardize
        Z-score each voxel by its training responses; False as published.
    min_max
        Stretch each frame to [0, 1], as published (bytes only).
    """

    design: MovieDesign
    losses: LossWeights
    training: TrainingSettings
    mode: Literal['joint', 'encoder', 'decoder'] = 'joint'
    perceptual: Literal['vgg16', 'gabor', 'none'] = 'gabor'
    standardize: bool = True
    min_max: bool = False


@dataclass(frozen=True, eq=False)
class MovieNetwork:
    """Fitted networks.

    Parameters
    ----------
    encoder, decoder
        The networks, in evaluation mode; None if not trained.
    standardizer
        From units of the data to those of the networks; mean 0 and scale 1 changes nothing.
    settings
        What they were fitted with.
    training
        How the training went; None if it was read from disk.
    """

    encoder: nn.Module | None
    decoder: nn.Module | None
    standardizer: Standardizer
    settings: MovieNetworkSettings
    training: Training | None = field(default=None, repr=False)

    @property
    def n_parameters(self) -> int:
        """How many parameters were trained."""
        from bids_neurodecode.models.heads import count_parameters

        parts = [part for part in (self.encoder, self.decoder) if part is not None]
        return sum(count_parameters(part) for part in parts)

    def predict(self, chunks: Chunks) -> Float32Array:
        """Predict responses (n_samples, n_voxels), in units of the data, from film."""
        import torch

        if self.encoder is None:
            raise ArgumentsError(NO_PART.format(part='an encoder', mode='encoder'))
        device = _device(self.encoder)
        with torch.no_grad():
            rows = [
                self.encoder(to_chunks(batch.to(device), self.settings.min_max)).cpu()
                for batch in self._batches(chunks)
            ]
        return self.standardizer.invert(torch.cat(rows).numpy())

    def reconstruct(self, responses: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Reconstruct the frame of each response.

        Returns
        -------
        numpy.ndarray
            Shape (n_samples, height, width, 3), in [0, 1]; with ``paper_bn`` each frame is
            stretched to it, as published.
        """
        import torch

        from bids_neurodecode.models.perceptual import stretch

        if self.decoder is None:
            raise ArgumentsError(NO_PART.format(part='a decoder', mode='decoder'))
        values = torch.from_numpy(self.standardizer.apply(responses))
        device = _device(self.decoder)
        with torch.no_grad():
            frames = torch.cat(
                [
                    self.decoder(batch.to(device)).cpu()
                    for batch in torch.split(values, self.settings.training.batch_size)
                ]
            )
        if self.settings.design.paper_bn:
            frames = stretch(frames, (1, 2, 3))
        return np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy())

    def _batches(self, chunks: Chunks) -> Iterator[Tensor]:
        import torch

        size = self.settings.training.batch_size
        for start in range(0, len(chunks), size):
            rows = range(start, min(start + size, len(chunks)))
            yield torch.stack([torch.as_tensor(chunks[row]) for row in rows])

    def save(self, folder: Path, extra: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        """Write ``weights.safetensors`` and ``model.json`` into a folder.

        Parameters
        ----------
        extra
            Further arrays, kept with the weights under ``extra.<name>`` (:func:`read_extra`).
        """
        import torch

        from bids_neurodecode.models.checkpoints import save_weights

        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            f'{name}.{key}': value
            for name, part in (('encoder', self.encoder), ('decoder', self.decoder))
            if part is not None
            for key, value in part.state_dict().items()
        }
        weights['responses.mean'] = torch.from_numpy(self.standardizer.mean)
        weights['responses.scale'] = torch.from_numpy(self.standardizer.scale)
        for name, values in (extra or {}).items():
            weights[f'{EXTRA}.{name}'] = torch.from_numpy(np.ascontiguousarray(values))
        save_weights(weights, folder / 'weights.safetensors')
        (folder / 'model.json').write_text(json.dumps(self.describe(), indent=2), encoding='utf-8')

    def describe(self) -> dict[str, Any]:
        """Return the settings and how the training went (JSON)."""
        description: dict[str, Any] = {'settings': asdict(self.settings)}
        if self.training is not None:
            description['training'] = self.training.facts()
            description['curves'] = [dict(row) for row in self.training.curves]
        return description

    @classmethod
    def load(cls, folder: Path) -> MovieNetwork:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If files are missing, damaged, or do not fit each other.
        """
        return cls.read(folder / 'weights.safetensors', folder / 'model.json')

    @classmethod
    def read(cls, weights_file: Path, description: Path) -> MovieNetwork:
        """Read a network whose files have names of their own.

        Parameters
        ----------
        weights_file
            Safetensors.
        description
            JSON.

        Raises
        ------
        DataError
            If files are missing, damaged, or do not fit each other.
        """
        from bids_neurodecode.models.checkpoints import load_weights

        folder = weights_file.parent
        with raised_as(DataError, BAD_MODEL, *BROKEN_TEXT, KeyError, TypeError, folder=folder):
            saved = json.loads(description.read_text('utf-8'))
            settings = _settings(saved['settings'])
        weights = load_weights(weights_file)
        encoder, decoder = _networks(settings)
        with raised_as(DataError, BAD_MODEL, RuntimeError, KeyError, folder=folder):
            for name, part in (('encoder', encoder), ('decoder', decoder)):
                if part is not None:
                    part.load_state_dict(under(weights, name))
                    part.eval()
            scales = under(weights, 'responses')
            standardizer = Standardizer(scales['mean'].numpy(), scales['scale'].numpy())
        return cls(encoder, decoder, standardizer, settings)


def read_extra(weights_file: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the further arrays that a network was saved with, by name."""
    from bids_neurodecode.models.checkpoints import load_weights

    return {k: v.numpy() for k, v in under(load_weights(weights_file), EXTRA).items()}


def fit_movie(
    chunks: Chunks,
    responses: npt.NDArray[np.floating[Any]],
    settings: MovieNetworkSettings,
    *,
    val_chunks: Chunks | None = None,
    val_responses: npt.NDArray[np.floating[Any]] | None = None,
    vgg16: Mapping[str, Tensor] | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress | None = None,
) -> MovieNetwork:
    """Train the movie networks.

    Parameters
    ----------
    chunks, responses
        Training samples, see this module.
    settings
        What to train, and how.
    val_chunks, val_responses
        Samples that decide when to stop; never test samples.
    vgg16
        ImageNet weights of VGG16, only for ``perceptual='vgg16'``.
    checkpoint_dir, progress
        See :func:`bids_neurodecode.models.training.train`.

    Raises
    ------
    ArgumentsError
        If settings do not fit each other, or weights are missing.
    DataError
        If the data do not fit each other or the design.
    """
    from bids_neurodecode.models.losses import MovieObjective
    from bids_neurodecode.models.perceptual import picture_maps
    from bids_neurodecode.models.training import own_randomness, train

    if (val_chunks is None) != (val_responses is None):
        raise ArgumentsError(NO_VALIDATION)
    _check(chunks, responses, settings, 'training')
    standardizer = Standardizer.fit(responses)
    if not settings.standardize:
        n = responses.shape[1]
        standardizer = Standardizer(np.zeros(n), np.ones(n))
    validation = None
    if val_chunks is not None and val_responses is not None:
        _check(val_chunks, val_responses, settings, 'validation')
        validation = _Pairs(val_chunks, standardizer.apply(val_responses), settings)
    with own_randomness(settings.training.seed):
        encoder, decoder = _networks(settings)
    features = picture_maps(settings.perceptual, vgg16) if decoder is not None else None
    objective = _on_bytes(
        MovieObjective(encoder, decoder, settings.losses, features), settings.min_max
    )
    training = train(
        objective,
        _Pairs(chunks, standardizer.apply(responses), settings),
        settings.training,
        validation=validation,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return MovieNetwork(encoder, decoder, standardizer, settings, training)


class _Pairs:
    """Chunks with their responses; only the target frame where nothing else is read."""

    def __init__(
        self, chunks: Chunks, responses: Float32Array, settings: MovieNetworkSettings
    ) -> None:
        self.chunks, self.responses = chunks, responses
        self.frame_only = settings.mode == 'decoder'

    def __len__(self) -> int:
        return len(self.responses)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import torch

        chunk = torch.as_tensor(self.chunks[index])
        if self.frame_only:  # a chunk of one frame, in either layout
            middle = slice(n := chunk.shape[_time_axis(chunk)] // 2 - 1, n + 1)
            chunk = chunk[middle] if chunk.dtype == torch.uint8 else chunk[..., middle]
        return chunk, torch.from_numpy(self.responses[index])


def _time_axis(chunk: Tensor) -> int:
    import torch

    return 0 if chunk.dtype == torch.uint8 else -1


def to_chunks(batch: Tensor, min_max: bool) -> Tensor:
    """Turn a batch of bytes into the encoder's input; values are that already.

    Parameters
    ----------
    batch
        Bytes from 0 to 255, or values.
    min_max
        Whether each chunk is stretched from 0 to 1.
    """
    import torch

    from bids_neurodecode.stimuli.filmstore import as_chunks

    return as_chunks(batch, min_max=min_max) if batch.dtype == torch.uint8 else batch.float()


def _on_bytes(objective: nn.Module, min_max: bool) -> nn.Module:
    """Let an objective take film as it is stored: bytes are turned on the device."""

    def turn(_: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        chunks = to_chunks(batch[0], min_max)
        return (chunks[..., 0] if chunks.shape[-1] == 1 else chunks), batch[1]

    objective.register_forward_pre_hook(turn)
    return objective


def _check(
    chunks: Chunks, responses: npt.NDArray[Any], settings: MovieNetworkSettings, what: str
) -> None:
    if len(chunks) != len(responses):
        raise DataError(UNPAIRED.format(chunks=len(chunks), responses=len(responses)))
    n_bad = int(np.count_nonzero(~np.isfinite(responses)))
    if responses.ndim != 2 or n_bad:
        raise DataError(NOT_FINITE.format(n=n_bad, shape=responses.shape))
    if responses.shape[1] != settings.design.n_voxels:
        design, found = settings.design.n_voxels, responses.shape[1]
        raise DataError(OTHER_VOXELS.format(design=design, what=what, found=found))


def _networks(settings: MovieNetworkSettings) -> tuple[nn.Module | None, nn.Module | None]:
    from bids_neurodecode.models.movie import MovieDecoder, MovieEncoder

    encoder = MovieEncoder(settings.design) if settings.mode != 'decoder' else None
    decoder = MovieDecoder(settings.design) if settings.mode != 'encoder' else None
    return encoder, decoder


def _settings(saved: Mapping[str, Any]) -> MovieNetworkSettings:
    from bids_neurodecode.models.losses import LossWeights
    from bids_neurodecode.models.movie import MovieDesign

    parts = {
        'design': MovieDesign(**saved['design']),
        'losses': LossWeights(**saved['losses']),
        'training': TrainingSettings(**saved['training']),
    }
    return MovieNetworkSettings(**{**saved, **parts})


def _device(module: nn.Module) -> torch.device:
    return cast('Tensor', next(module.parameters())).device
