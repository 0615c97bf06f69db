"""A second stage without downloads: a small diffusion model of the dataset's own images.

It does at a small scale what Versatile Diffusion does in Brain-Diffuser: a start image is
noised for a share of the way and denoised under the guidance of decoded features. The network, a
U-Net with cross-attention made of diffusers' blocks, works on pixels and learns from the training
images alone, so that it knows what those look like and nothing else. Guidance is classifier-free
(Ho & Salimans 2022, arXiv 2207.12598). A few hundred images do not teach a network what features
mean; where the features are a function that is known, images are also moved to where it gives
the decoded ones (:mod:`.matching`): the start, and what each step takes for the clean image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import ArgumentsError, DataError, InputError, raised_as
from bids_neurodecode.models.matching import Matching
from bids_neurodecode.models.mixture import Noise
from bids_neurodecode.models.refiner_network import (
    BAD_NETWORK,
    RefinerConfig,
    RefinerNetwork,
    RefinerObjective,
)
from bids_neurodecode.models.sampling import (
    Conditions,
    Denoiser,
    SamplingSettings,
    add_noise,
    alpha_bar,
    check_inputs,
    denoise,
    from_signed,
    guided,
    make_schedule,
    resize_pictures,
    to_signed,
)
from bids_neurodecode.models.storage import joined, set_weights, under, weights_of
from bids_neurodecode.models.training import as_read, by_channel, train
from bids_neurodecode.models.trainingsettings import Progress, Training, TrainingSettings
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array, Uint8Array

BAD_PAIRS = (
    'A refiner is trained on uint8 images of shape (n, h, w, 3) and their features of shape '
    '(n, n_features), n at least 2; these are {pictures} and {features}.'
)
NO_VARIANCES = 'Only a network that knows power spectra (gaussian) can match images to features.'
NOT_A_REFINER = 'These are not the arrays of a refiner: {reason}.'


_FEATURES = 'features'


def _training() -> TrainingSettings:
    return TrainingSettings(
        n_epochs=100,
        batch_size=32,
        learning_rate=1e-3,
        weight_decay=0.01,
        optimizer='adamw',
        schedule='cosine',
        warmup=0.05,
        keep='last',
    )


@dataclass(frozen=True)
class RefinerSettings:
    """How a refiner is trained.

    Parameters
    ----------
    size, patch, widths, gaussian
        See :class:`RefinerConfig`.
    drop
        Share of the images whose features are withheld in training, so that the network also
        knows what images look like without them.
    feature_noise
        Standard deviation of what is added to the (standardised) features in training: decoded
        features are not exact either.
    training
        Epochs, batches, seed, device.
    """

    size: int = 32
    patch: int = 2
    widths: tuple[int, ...] = (32, 64, 96)
    drop: float = 0.1
    feature_noise: float = 0.3
    gaussian: bool = False
    training: TrainingSettings = field(default_factory=_training)

    def __post_init__(self) -> None:
        for name, need, fine in (
            ('drop', 'a share from 0 to below 1', 0 <= self.drop < 1),
            ('feature_noise', 'a deviation of 0 or more', self.feature_noise >= 0),
        ):
            if not fine:
                found = getattr(self, name)
                raise ArgumentsError(BAD_NETWORK.format(need=need, name=name, found=found))


class SmallRefiner:
    """A refiner (see :class:`bids_neurodecode.models.sampling.Refiner`); it needs ``features``.

    Parameters
    ----------
    network
        Trained.
    features
        Means and deviations of the training pictures' features.
    sampling
        Steps, strength, guidance, batches.
    matching
        What moves images to decoded features; None: the network's guidance alone. Its modules
        must be on the device.
    device
        Where it computes.

    Raises
    ------
    ArgumentsError
        If images are to be matched and the network does not know their spectra.
    ResourceError
        If the device is not there.
    """

    def __init__(
        self,
        network: RefinerNetwork,
        features: Standardizer,
        sampling: SamplingSettings | None = None,
        *,
        matching: Matching | None = None,
        device: Literal['cpu', 'cuda'] = 'cpu',
    ) -> None:
        check_device(device)
        if matching is not None and not network.config.gaussian:
            raise ArgumentsError(NO_VARIANCES)
        self.matching = matching
        self.network = network.eval().requires_grad_(requires_grad=False).to(device)
        self.features, self._device = features, device
        self.sampling = sampling or SamplingSettings(guidance=2.0, batch_size=64)

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.network.config.size

    @property
    def condition_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of ``features``."""
        return {_FEATURES: (self.network.config.n_features,)}

    @torch.no_grad()
    def refine(
        self,
        start_images: Uint8Array | None,
        conditions: Conditions,
        seeds: Sequence[int],
        *,
        matched: Float32Array | None = None,
    ) -> Uint8Array:
        """Make images; see :meth:`bids_neurodecode.models.sampling.Refiner.refine`.

        Parameters
        ----------
        start_images, conditions, seeds
            As there.
        matched
            Features that images are moved to, (n, n_matched), if not ``conditions['features']``.
        """
        check_inputs(start_images, conditions, seeds, self.condition_shapes)
        schedule = make_schedule(self.sampling, from_picture=start_images is not None)
        size = self.sampling.batch_size
        targets = conditions[_FEATURES] if matched is None else matched
        pictures = []
        for first in range(0, len(seeds), size):
            rows = slice(first, first + size)
            noise = Noise(seeds[rows])
            given = None if start_images is None else start_images[rows]
            wanted = torch.from_numpy(np.array(targets[rows], dtype=np.float32))
            wanted = wanted.to(self._device)
            pixels = self._start(given, noise, schedule.noised_at, wanted)
            values = torch.from_numpy(self.features.apply(conditions[_FEATURES][rows]))
            context = self.network.context(values.to(self._device))
            without = self.network.without(len(noise))
            predict = guided(self._predict, context, without, self.sampling.guidance)
            if self.matching is not None:
                predict = self._matched(predict, self.matching, wanted)
            pictures.append(from_signed(denoise(pixels, schedule, predict)))
        return np.concatenate(pictures)

    def _start(
        self, images: Uint8Array | None, noise: Noise, time: int | None, wanted: Tensor
    ) -> Tensor:
        if images is None or time is None:
            shape = (len(noise), 3, self.size, self.size)
            return noise.normal(torch.empty(shape)).to(self._device)
        pixels = to_signed(resize_pictures(images, self.size)).to(self._device)
        if self.matching is not None:
            told = self.matching.settings
            error = told.freedom * self.network.spectrum[None]
            pixels = self.matching.move(pixels, wanted, error, told.n_start)
        return add_noise(pixels, noise.normal(pixels), time)

    def _matched(self, predict: Denoiser, matching: Matching, wanted: Tensor) -> Denoiser:
        """Move what a prediction takes for the clean image, and predict noise that fits it."""
        signal, n_updates = alpha_bar(), matching.settings.n_step

        def matched(pixels: Tensor, time: int) -> Tensor:
            share = float(signal[time])
            noise = predict(pixels, time).float()
            clean = (pixels - math.sqrt(1 - share) * noise) / math.sqrt(share)
            left = self.network.uncertainty(time)
            clean = matching.move(clean.clamp(-1, 1), wanted, left, n_updates)
            return (pixels - math.sqrt(share) * clean) / math.sqrt(1 - share)

        return matched

    def _predict(self, pixels: Tensor, time: int, context: Tensor) -> Tensor:
        share = float(alpha_bar()[time])
        times = torch.full((len(pixels),), time, device=pixels.device)
        velocity: Tensor = self.network(pixels, times, context)
        return math.sqrt(share) * velocity + math.sqrt(1 - share) * pixels

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` rebuilds the refiner from."""
        return joined({'features': self.features.state(), 'network': weights_of(self.network)})

    def description(self) -> dict[str, Any]:
        """Return what JSON can hold: the network's build, and how it samples."""
        return {'network': asdict(self.network.config), 'sampling': asdict(self.sampling)}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, npt.NDArray[Any]],
        description: Mapping[str, Any],
        *,
        device: Literal['cpu', 'cuda'] = 'cpu',
    ) -> SmallRefiner:
        """Rebuild a refiner from :meth:`state` and :meth:`description`, without matching.

        Parameters
        ----------
        state
            Arrays by name.
        description
            What JSON held.
        device
            Where it is run.

        Raises
        ------
        InputError
            If they are not a refiner's.
        """
        with raised_as(InputError, NOT_A_REFINER, KeyError, TypeError, RuntimeError):
            told = dict(description['network'])
            config = RefinerConfig(**{**told, 'widths': tuple(told['widths'])})
            sampling = SamplingSettings(**description['sampling'])
            network = RefinerNetwork(config)
            set_weights(network, under(state, 'network'))
            features = Standardizer(state['features.mean'], state['features.scale'])
        return cls(network, features, sampling, device=device)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Images and their standardised features."""

    pictures: Uint8Array
    features: Float32Array

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return (
            torch.from_numpy(np.array(self.pictures[index])),
            torch.from_numpy(self.features[index]),
        )


def train_refiner(
    images: Uint8Array,
    features: npt.NDArray[np.floating[Any]],
    settings: RefinerSettings | None = None,
    *,
    sampling: SamplingSettings | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress | None = None,
) -> tuple[SmallRefiner, Training]:
    """Train a refiner on training images and their (true) features.

    Parameters
    ----------
    images
        Training images of any size, (n, h, w, 3), uint8.
    features
        Shape (n, n_features).
    settings, sampling
        How it is trained, and how it makes images.
    checkpoint_dir
        Folder of the checkpoints of this training alone, to go on from after a stop.
    progress
        Called with (steps done, all steps).

    Raises
    ------
    DataError
        For arrays of other shapes, or a training that diverges.
    """
    settings = settings or RefinerSettings()
    _check_pairs(images, features)
    scaler = Standardizer.fit(features)
    config = RefinerConfig(
        features.shape[1],
        size=settings.size,
        patch=settings.patch,
        widths=settings.widths,
        gaussian=settings.gaussian,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        network = RefinerNetwork(config)
    if settings.gaussian:
        network.learn_spectrum(resize_pictures(images, settings.size))
    by_channel(network)
    objective = RefinerObjective(network, settings.drop, settings.feature_noise)
    told = train(
        objective,
        _Pairs(resize_pictures(images, settings.size), scaler.apply(features)),
        settings.training,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    as_read(network)
    device: Literal['cpu', 'cuda'] = 'cuda' if told.device.startswith('cuda') else 'cpu'
    return SmallRefiner(network, scaler, sampling, device=device), told


def _check_pairs(images: npt.NDArray[Any], features: npt.NDArray[Any]) -> None:
    pictures = images.ndim == 4 and images.shape[-1] == 3 and images.dtype == np.uint8
    if not pictures or features.ndim != 2 or not 2 <= len(images) == len(features):
        found = {'pictures': f'{images.dtype} {images.shape}', 'features': features.shape}
        raise DataError(BAD_PAIRS.format(**found))
