"""The self-contained generator: a small prior and a small refiner, both learned here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, InputError, raised_as
from bids_neurodecode.models.matching import Matching, MatchingSettings
from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.models.storage import joined, set_weights, under, weights_of
from bids_neurodecode.models.vdvae import VDVAE, decode_latents, encode_images
from bids_neurodecode.models.vdvae_config import SMALL32, SMALL64, VDVAEConfig
from bids_neurodecode.stimuli.gabor import GaborPyramid
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.linear import MANY_STIMULI
from bids_neurodecode.systems.reconstruction.generation.generators import (
    Conditions,
    Described,
    Progress,
    TrainingPictures,
    resize,
    sampling_as_told,
)
from bids_neurodecode.typing import Float32Array, Uint8Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bids_neurodecode.models.refiner import SmallRefiner

OTHER_SIZE = 'The prior makes images of {found} pixels a side; the generator is of {size}.'
NOT_A_GENERATOR = 'These are not the arrays of a small generator: {reason}.'


SAMPLING = SamplingSettings(
    n_steps=50, strength=0.04, guidance=2.0, start='matched', batch_size=64
)
"""Defaults of its second stage: with few training images, more noise only adds texture."""
MATCHING = MatchingSettings()
BANK = GaborPyramid()
"""Features that guide its second stage, whatever features are decoded otherwise: it must be able
to see how they change with the image."""
_BATCHES = 10  # an epoch of the refiner, at least: what is looked at and saved in between
_REFINER_BATCH = 32
_IMAGES_A_COMPONENT = 4  # that guides
_GREY_LEVEL = 1 / 255  # energies of plain backgrounds vary by rounding alone
_PATCH = {16: 2, 32: 2, 64: 4}
_CONDITION, _NETWORK = 'features', 'network'
_SEEN_SIZE, _SEEN_LAYER = 64, 'stage5'  # of a network that guides
_PICTURES = 64  # that are described at once


@dataclass(frozen=True)
class SmallGenerator:
    """Learns a very deep VAE and a diffusion model from the training images alone.

    Parameters
    ----------
    size
        Pixels along a side of the images that it makes: 16, 32 or 64.
    n_latents
        How many of the prior's latents are decoded; None: all.
    prior_steps, refiner_steps
        Updates.
    prior_batch_size
        Images of each update of the prior.
    n_components
        Components of the features that guide the second stage, at most; None: all. Of 20
        images and more, a quarter of their number at most.
    network
        A network of the extra ``cpu-nets`` that guides too; None: Gabor energies alone.
    sampling
        Of the second stage.
    device
        ``cpu`` or ``cuda``.
    prior
        What the prior is built from, for images of ``size``; None: :func:`prior_config`.
    """

    size: int = 32
    n_latents: int | None = None
    prior_steps: int = 200
    refiner_steps: int = 150
    prior_batch_size: int = 16
    n_components: int | None = 100
    network: str | None = None
    sampling: SamplingSettings = SAMPLING
    device: Literal['cpu', 'cuda'] = 'cpu'
    prior: VDVAEConfig | None = None
    locks_each_network: ClassVar[bool] = True
    """Two processes with the same images train one network each, and read the other's."""

    def __post_init__(self) -> None:
        if self.prior is not None and self.prior.image_size != self.size:
            found = self.prior.image_size
            raise ArgumentsError(OTHER_SIZE.format(found=found, size=self.size))

    @property
    def name(self) -> str:
        """``small``."""
        return 'small'

    @property
    def picture_size(self) -> int:
        """Pixels along a side that images should be given with."""
        return max(64, self.size)

    def fit(
        self,
        training: TrainingPictures,
        *,
        seed: int,
        checkpoint_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> FittedSmall:
        """Train prior and refiner; go on where a stopped run left off.

        Parameters
        ----------
        training
            Images; their components are not used.
        seed
            Of weights, batches and noise.
        checkpoint_dir
            Folder of checkpoints, each under the digest of what it is a function of.
        progress
            Called with (updates done, all updates).
        """
        pictures = resize(training.pictures, self.size)
        folder = None
        if checkpoint_dir is not None:
            folder = checkpoint_dir / f'small-{self._digest(pictures, training.n_stimuli, seed)}'
        features, n_guides = _describe(BANK, pictures), self._n_guides(training.n_stimuli)
        space = FeatureSpace.fit(features, n_guides, least_deviation=_GREY_LEVEL)
        components = space.transform(features)
        trained: dict[str, tuple[Any, list[dict[str, Any]]]] = {}
        for name in _in_turn(folder, ('prior', 'refiner')):
            if name == 'prior':
                told = self._told(progress, self.refiner_steps if trained else 0, self.prior_steps)
                trained[name] = self._train_prior(pictures, seed, folder, told)
            else:
                told = self._told(progress, self.prior_steps if trained else 0, self.refiner_steps)
                trained[name] = self._train_refiner(pictures, components, seed, folder, told)
        (prior, curves), (refiner, more) = trained['prior'], trained['refiner']
        seen = None
        if self.network is not None:
            seen = FeatureSpace.fit(see(self.network, pictures, self.device), n_guides)
        return FittedSmall(
            prior, refiner, space, self.n_latents or len(prior.config.decoder), self.sampling,
            learned=(*curves, *more), network=self.network, network_space=seen,
        )  # fmt: skip

    def _train_prior(
        self, pictures: Uint8Array, seed: int, folder: Path | None, progress: Progress | None
    ) -> tuple[VDVAE, list[dict[str, Any]]]:
        from bids_neurodecode.models.vdvae_training import TRAINING, train_vdvae

        prior, told = train_vdvae(
            pictures,
            self.prior or prior_config(self.size),
            replace(TRAINING, batch_size=self.prior_batch_size, seed=seed, device=self.device),
            n_steps=self.prior_steps,
            checkpoint_dir=None if folder is None else folder / 'prior',
            progress=progress,
        )
        curves = [
            {'network': 'prior', 'part': r['part'], 'step': r['step'], 'loss': r['loss']}
            for r in told.curves
        ]
        return prior, curves

    def _train_refiner(
        self,
        pictures: Uint8Array,
        components: Float32Array,
        seed: int,
        folder: Path | None,
        progress: Progress | None,
    ) -> tuple[SmallRefiner, list[dict[str, Any]]]:
        from bids_neurodecode.models.refiner import RefinerSettings, train_refiner

        # few images come several times an epoch
        times = math.ceil(_BATCHES * _REFINER_BATCH / len(pictures))
        n_batches = max(1, len(pictures) * times // _REFINER_BATCH)
        settings = RefinerSettings(size=self.size, patch=_PATCH[self.size], gaussian=True)
        settings = replace(
            settings,
            training=replace(
                settings.training,
                n_epochs=max(1, round(self.refiner_steps / n_batches)),
                batch_size=_REFINER_BATCH,
                seed=seed,
                device=self.device,
            ),
        )
        refiner, training_told = train_refiner(
            np.concatenate([pictures] * times),
            np.concatenate([components] * times),
            settings,
            sampling=self.sampling,
            checkpoint_dir=None if folder is None else folder / 'refiner',
            progress=progress,
        )
        curves = [
            {'network': 'refiner', 'part': r['part'], 'step': r['epoch'], 'loss': r['loss']}
            for r in training_told.curves
        ]
        return refiner, curves

    def _n_guides(self, n_images: int) -> int | None:
        """Return how many components guide: of as many as there are images none is decoded well.

        The same few images shown again and again need all that tells them apart.
        """
        if n_images < MANY_STIMULI:
            return self.n_components
        most = n_images // _IMAGES_A_COMPONENT
        return most if self.n_components is None else min(most, self.n_components)

    def _told(self, progress: Progress | None, done: int, own: int) -> Progress | None:
        """Count the updates of both networks as one: of this one, after those that were done."""
        if progress is None:
            return None
        tell, total = progress, self.prior_steps + self.refiner_steps
        return lambda step, steps: tell(done + round(step / steps * own), total)

    def _digest(self, pictures: Uint8Array, n_stimuli: int, seed: int) -> str:
        prior = (self.prior or prior_config(self.size)).to_dict()
        recipe = {**asdict(self), 'prior': prior, 'bank': asdict(BANK), 'seed': seed}
        recipe |= {'version': 5, 'n_guides': self._n_guides(n_stimuli)}
        for name in ('sampling', 'n_latents', 'network'):  # nothing is learned for these
            del recipe[name]
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(pictures).tobytes())
        return digest.hexdigest()[:24]


def _in_turn(folder: Path | None, names: Sequence[str]) -> Iterator[str]:
    """Yield trainings, first those that no other process is at; each is this one's meanwhile.

    Who finds one done reads it: two participants with the same images train one network each.
    """
    if folder is None:
        yield from names
        return
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    taken: list[str] = []
    for wait, some in ((0, names), (-1, taken)):
        for name in some:
            try:
                lock = FileLock(folder / f'{name}.lock').acquire(timeout=wait)
            except Timeout:
                taken.append(name)
                continue
            with lock:
                yield name


def small_generator(config: Config, device: str = 'cpu') -> SmallGenerator:
    """Take what a configuration says of the small generator and its sampling.

    Parameters
    ----------
    config
        Settings of ``reconstruction`` and ``features``.
    device
        ``cpu`` or ``cuda``.
    """
    told = config.reconstruction
    return SmallGenerator(
        size=told.prior_size,
        n_latents=told.latents,
        prior_steps=told.prior_steps,
        refiner_steps=told.refiner_steps,
        prior_batch_size=told.prior_batch_size,
        n_components=config.features.n_components,
        network=None if told.match_network == 'none' else told.match_network,
        sampling=replace(
            sampling_as_told(SAMPLING, told), match=told.match, weighted=told.match_weighted
        ),
        device='cuda' if device == 'cuda' else 'cpu',
    )


def prior_config(size: int) -> VDVAEConfig:
    """Return what the prior of this size is built from."""
    if size == 64:
        return SMALL64
    if size == 32:
        return SMALL32
    return replace(
        SMALL32,
        image_size=16,
        encoder_blocks='16d2,8x1,8d2,4x1,4d4,1x1',
        decoder_blocks='1x1,4m1,4x1,8m4,8x2,16m8',
        custom_widths='16:24',
    )


@dataclass(frozen=True, eq=False)
class FittedSmall:
    """A small prior and refiner.

    Parameters
    ----------
    prior, refiner
        Trained.
    space
        Components of the features that guide the second stage.
    n_latents
        How many of the prior's latents are decoded.
    sampling
        Of the second stage.
    bank
        What these are components of.
    matching
        How images are moved to the decoded ones.
    learned
        Learning curves.
    network, network_space
        The network that guides too, and components of its features; None: none does.
    """

    prior: VDVAE
    refiner: SmallRefiner
    space: FeatureSpace
    n_latents: int
    sampling: SamplingSettings
    bank: GaborPyramid = BANK
    matching: MatchingSettings = MATCHING
    learned: Sequence[Mapping[str, Any]] = ()
    network: str | None = None
    network_space: FeatureSpace | None = None

    @property
    def used(self) -> frozenset[str]:
        """The network that guides it."""
        return frozenset() if self.network is None else frozenset({self.network})

    def encode(self, pictures: Uint8Array) -> Float32Array:
        """Return the first latents (posterior means), (n, length), of images of any size."""
        sized = resize(pictures, self.prior.config.image_size)
        return encode_images(self.prior, sized, n_latents=self.n_latents)

    def decode(self, latents: Float32Array, seeds: Sequence[int]) -> Uint8Array:
        """Make images of latents; what is not given is the prior's mean.

        Parameters
        ----------
        latents
            Shape (n, length).
        seeds
            Not used: the prior's means are taken.
        """
        return decode_latents(self.prior, latents)

    def conditions(self, of: Described, folder: Path | None = None) -> dict[str, Float32Array]:
        """Return the components of the pictures' features, at the size of the prior.

        Parameters
        ----------
        of
            Images, n of them.
        folder
            Not used: components are small.
        """
        sized = resize(of.pictures, self.prior.config.image_size)
        values = {_CONDITION: self.space.transform(_describe(self.bank, sized))}
        if self.network is not None and self.network_space is not None:
            values[_NETWORK] = self.network_space.transform(see(self.network, sized, self._device))
        return values

    @property
    def _device(self) -> Literal['cpu', 'cuda']:
        return 'cuda' if self.refiner.network.spectrum.is_cuda else 'cpu'

    def refine(
        self,
        start: Uint8Array | None,
        conditions: Conditions,
        seeds: Sequence[int],
        sampling: SamplingSettings,
        use: str,
        *,
        trust: Mapping[str, Float32Array] | None = None,
    ) -> Uint8Array:
        """Make final images; the components count as the vision condition.

        Parameters
        ----------
        start
            Initial images, (n, s, s, 3), uint8; None starts from noise.
        conditions
            Decoded components, (n, n_components) each, by name.
        seeds
            One per image.
        sampling
            Steps, strength, guidance, and whether images are moved.
        use
            ``both``, ``vision``, ``text`` or ``none``.
        trust
            How well each component is decoded, from 0 to 1; used where features are weighted.
        """
        from bids_neurodecode.models.refiner import SmallRefiner

        guides = use not in {'none', 'text'}
        if not guides:
            sampling = replace(sampling, guidance=0.0)
        wanted, mover = self._wanted(conditions, trust if sampling.weighted else None)
        refiner = SmallRefiner(
            self.refiner.network,
            self.refiner.features,
            sampling,
            matching=mover if guides and sampling.match else None,
            device=self._device,
        )
        return refiner.refine(start, conditions, seeds, matched=wanted)

    def _wanted(
        self, conditions: Conditions, trust: Mapping[str, Float32Array] | None
    ) -> tuple[Float32Array, Matching]:
        """Return the features that images are moved to, and what moves them.

        Decoded features have the deviation of training features, whatever is known of them. Where
        that is known, they are shrunk to what is expected of them, and miss by the rest.
        """
        import torch

        names = [_CONDITION, *([] if self.network is None else [_NETWORK])]
        wanted = np.concatenate([conditions[name] for name in names], axis=1)
        if trust is None:
            return wanted, self._mover
        known = np.concatenate([trust[name] for name in names])
        missed = torch.from_numpy(1 - known).to(self.refiner.network.spectrum.device)
        return wanted * np.sqrt(known), replace(self._mover, uncertainty=missed)

    @cached_property
    def _mover(self) -> Matching:
        import torch

        from bids_neurodecode.stimuli.differentiable import DifferentiableGabor

        device = self.refiner.network.spectrum.device
        bank = DifferentiableGabor(self.bank, self.refiner.size).to(device)
        parts: list[tuple[Callable[[Tensor], Tensor], tuple[Tensor, ...]]] = [
            (bank, _as_tensors(self.space, device))
        ]
        if self.network is not None and self.network_space is not None:
            parts.append(
                (seer(self.network, self._device), _as_tensors(self.network_space, device))
            )

        def describe(pixels: Tensor) -> Tensor:
            shown = pixels / 2 + 0.5
            return torch.cat(
                [((of(shown) - mean) / scale) @ rows for of, (mean, scale, rows) in parts], dim=1
            )

        return Matching(describe, self.refiner.network.combine, self.matching)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the weights of both networks."""
        parts = {
            'prior': weights_of(self.prior),
            'refiner': self.refiner.state(),
            'space': self.space.state(),
        }
        if self.network_space is not None:
            parts['network_space'] = self.network_space.state()
        return joined(parts)

    def describe(self) -> dict[str, Any]:
        """Return what both networks are built from."""
        return {
            'generator': 'small',
            'n_latents': self.n_latents,
            'prior': self.prior.config.to_dict(),
            'refiner': self.refiner.description(),
            'sampling': asdict(self.sampling),
            'bank': asdict(self.bank),
            'matching': asdict(self.matching),
            'network': self.network,
        }

    def curves(self) -> list[dict[str, Any]]:
        """Return how both networks learned."""
        return [dict(row) for row in self.learned]

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, npt.NDArray[Any]],
        description: Mapping[str, Any],
        *,
        device: Literal['cpu', 'cuda'] = 'cpu',
    ) -> FittedSmall:
        """Rebuild both networks from :meth:`state` and :meth:`describe`.

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
            If they are not a small generator's.
        """
        from bids_neurodecode.models.refiner import SmallRefiner

        with raised_as(InputError, NOT_A_GENERATOR, KeyError, TypeError, RuntimeError):
            prior = VDVAE(VDVAEConfig.from_dict(description['prior']))
            set_weights(prior, under(state, 'prior'))
            sampling = SamplingSettings(**description['sampling'])
            n_latents, frequencies = description['n_latents'], description['bank']['frequencies']
            frequencies = None if frequencies is None else tuple(frequencies)
            bank = GaborPyramid(**{**description['bank'], 'frequencies': frequencies})
            matching = MatchingSettings(**description['matching'])
            space = FeatureSpace.from_state(under(state, 'space'))
            told, network = description['refiner'], description.get('network')
            seen = None
            if network is not None:
                seen = FeatureSpace.from_state(under(state, 'network_space'))
        refiner = SmallRefiner.from_state(under(state, 'refiner'), told, device=device)
        frozen = prior.to(device).eval().requires_grad_(requires_grad=False)
        return cls(
            frozen, refiner, space, int(n_latents), sampling, bank, matching,
            network=network, network_space=seen,
        )  # fmt: skip


def _describe(bank: GaborPyramid, pictures: Uint8Array) -> Float32Array:
    """Return features of images; a few at once, since wavelets are many."""
    rows = range(0, len(pictures), _PICTURES)
    return np.concatenate([bank.transform(pictures[k : k + _PICTURES]) for k in rows])


def seer(name: str, device: Literal['cpu', 'cuda'] = 'cpu') -> Callable[[Tensor], Tensor]:
    """Return what describes pixels (n, 3, h, w) from 0 to 1 by a network, with gradients.

    Small images are enlarged to 64 pixels: the network's middle stage, averaged over 4 x 4
    places, then costs a twelfth of what it does at its own size.

    Parameters
    ----------
    name
        Of the network.
    device
        Where it is run.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    from bids_neurodecode.stimuli.packaged import read_convnet

    network = read_convnet(name).to(device)

    def describe(pixels: Tensor) -> Tensor:
        maps = network(network.standardise(pixels, _SEEN_SIZE), until=_SEEN_LAYER)
        return adaptive_avg_pool2d(maps[_SEEN_LAYER], 4).flatten(1)

    return describe


def see(name: str, pictures: Uint8Array, device: Literal['cpu', 'cuda'] = 'cpu') -> Float32Array:
    """Return the features of images (n, h, w, 3) that :func:`seer` gives, (n, n_features).

    Parameters
    ----------
    name
        Of the network.
    pictures
        Shape (n, h, w, 3), uint8.
    device
        Where it is run.
    """
    import torch

    describe, rows = seer(name, device), []
    with torch.no_grad():
        for first in range(0, len(pictures), _PICTURES):
            some = torch.from_numpy(np.ascontiguousarray(pictures[first : first + _PICTURES]))
            rows.append(describe(some.to(device).permute(0, 3, 1, 2) / 255).cpu().numpy())
    return np.concatenate(rows)


def _as_tensors(space: FeatureSpace, device: torch.device) -> tuple[Tensor, ...]:
    import torch

    values = (
        space.standardizer.mean,
        space.standardizer.scale,
        space.components.T / space.deviations,
    )
    return tuple(torch.from_numpy(np.asarray(v, dtype=np.float32)).to(device) for v in values)
