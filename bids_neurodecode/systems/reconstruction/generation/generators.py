"""Where images come from: a prior with latents, and a refiner that is guided.

A :class:`Generator` is a recipe. Its ``fit`` learns from training images (the small one) or
reads weights (the published one) and returns a :class:`FittedGenerator`, which the pipeline uses
without knowing which it is. Other packages add theirs with the same interface
(:class:`bids_neurodecode.extensions.Generator`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.settings.reconstruction import ReconstructionSettings
from bids_neurodecode.typing import Float32Array, Uint8Array

Progress = Callable[[int, int], None]
Conditions = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class TrainingPictures:
    """What a generator may learn from: images of training samples, and extra ones.

    Parameters
    ----------
    pictures
        Shape (n, h, w, 3), uint8; distinct training stimuli first, then extra ones.
    components
        Whitened feature components of them, (n, n_components), of a space that was fitted on the
        training stimuli.
    n_stimuli
        How many of them are training stimuli.
    """

    pictures: Uint8Array
    components: Float32Array
    n_stimuli: int


@dataclass(frozen=True, eq=False)
class Described:
    """What conditions are taken from: images (n, h, w, 3), components and captions, one each."""

    pictures: Uint8Array
    components: Float32Array
    captions: Sequence[Sequence[str]]


class FittedGenerator(Protocol):
    """A prior and a refiner, ready to use."""

    @property
    def n_latents(self) -> int:
        """How many of the prior's latents are decoded."""

    @property
    def used(self) -> frozenset[str]:
        """Networks of metrics that guide it, by the names of :mod:`.extras`."""

    @property
    def sampling(self) -> SamplingSettings:
        """How its second stage samples."""

    def encode(self, pictures: Uint8Array) -> Float32Array:
        """Return the first latents (posterior means), (n, length), of images of any size."""

    def decode(self, latents: Float32Array, seeds: Sequence[int]) -> Uint8Array:
        """Make images (n, s, s, 3) of latents; what is not given is the prior's mean.

        Parameters
        ----------
        latents
            Shape (n, length).
        seeds
            One per image.
        """

    def conditions(
        self, of: Described, folder: Path | None = None
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Return the true conditions, (n, ...) each; large ones are written to the folder.

        Parameters
        ----------
        of
            Images, components and captions, n of each.
        folder
            Where large ones are written; None: kept in memory.
        """

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
        """Make final images (n, t, t, 3).

        ``use`` is ``both``, ``vision``, ``text`` or ``none``: which conditions guide.
        ``trust`` is the share of each value's variance that cross-validation on training samples
        explains, by condition, flat; None: all of it.

        Parameters
        ----------
        start
            Initial images, (n, s, s, 3), uint8; None starts from noise.
        conditions
            Decoded, (n, ...) each, by name.
        seeds
            One per image.
        sampling
            Steps, strength and guidance.
        use
            Which conditions guide.
        trust
            From 0 to 1.
        """

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that were learned here (none of weights that were read)."""

    def describe(self) -> dict[str, Any]:
        """Return what JSON can hold: ``generator`` (its name) and ``n_latents`` among it."""

    def curves(self) -> list[dict[str, Any]]:
        """Return how its networks learned: rows of ``network``, ``part``, ``step``, ``loss``."""


class Generator(Protocol):
    """A recipe of prior and refiner."""

    @property
    def name(self) -> str:
        """``small``, ``published``, or what another one is called."""

    @property
    def picture_size(self) -> int:
        """Pixels along a side that images should be given with."""

    def fit(
        self,
        training: TrainingPictures,
        *,
        seed: int,
        checkpoint_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> FittedGenerator:
        """Learn from training images, or read weights.

        Parameters
        ----------
        training
            Images of training samples, and extra ones.
        seed
            Of weights, batches and noise.
        checkpoint_dir
            Where a training goes on from; None: nothing is kept.
        progress
            Called with (steps done, all steps).
        """


def sampling_as_told(own: SamplingSettings, told: ReconstructionSettings) -> SamplingSettings:
    """Return how a second stage samples under settings; what they leave out is its own.

    Parameters
    ----------
    own
        Its defaults.
    told
        Settings of ``reconstruction``.
    """
    return replace(
        own,
        n_steps=told.n_steps or own.n_steps,
        strength=told.strength or own.strength,
        guidance=own.guidance if told.guidance is None else told.guidance,
    )


def resize(pictures: Uint8Array, size: int) -> Uint8Array:
    """Bring images (n, h, w, 3) to squares, bilinear, without aliasing.

    Parameters
    ----------
    pictures
        Shape (n, h, w, 3), uint8.
    size
        Pixels a side.
    """
    from PIL import Image

    if pictures.shape[1:3] == (size, size):
        return pictures
    method = Image.Resampling.BILINEAR
    sized = [np.asarray(Image.fromarray(x).resize((size, size), method)) for x in pictures]
    return np.stack(sized)
