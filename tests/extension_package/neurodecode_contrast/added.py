"""A feature extractor, a generator and a recipe for a dataset, beside the system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.extensions import Generator
from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.systems.reconstruction.generation.generators import (
    Described,
    TrainingPictures,
    resize,
)

RECIPE = Path(__file__).parent / 'small-simulation.toml'
N_COMPONENTS = 6
SIZE = 16


@dataclass(frozen=True)
class MeanColour:
    """Mean colour of each cell of a coarse grid."""

    n_cells: int = 4
    name: str = 'mean-colour'
    version: str = '1'
    image_size: int = 48

    @property
    def params(self) -> Mapping[str, Any]:
        return {'n_cells': self.n_cells}

    def transform(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        small = resize(images, self.n_cells)
        return (small.reshape(len(images), -1) / 255).astype(np.float32)


@dataclass(frozen=True)
class Eigenimages:
    """Principal components of the training images: a prior without networks."""

    name: str = 'eigenimages'
    picture_size: int = 48

    def fit(self, training: TrainingPictures, *, seed: int, **_: Any) -> 'FittedEigenimages':
        pixels = flat(training.pictures)
        mean = pixels.mean(axis=0)
        axes = np.linalg.svd(pixels - mean, full_matrices=False)[2][:N_COMPONENTS]
        return FittedEigenimages(mean, axes)


@dataclass(frozen=True, eq=False)
class FittedEigenimages:
    """Mean, (n_pixels,), and axes, (n_components, n_pixels)."""

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]
    used: frozenset[str] = frozenset()
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    @property
    def n_latents(self) -> int:
        return len(self.axes)

    def encode(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return (flat(pictures) - self.mean) @ self.axes.T

    def decode(
        self, latents: npt.NDArray[np.float32], seeds: Sequence[int]
    ) -> npt.NDArray[np.uint8]:
        return self._images(np.asarray(latents) @ self.axes)

    def conditions(self, of: Described, folder: Path | None = None) -> dict[str, Any]:
        return {'latents': self.encode(of.pictures)}

    def refine(
        self, start: Any, conditions: Any, seeds: Any, sampling: Any, use: str, **_: Any
    ) -> npt.NDArray[np.uint8]:
        """Average the start image and what the condition says."""
        guided = conditions['latents'] @ self.axes
        return self._images(guided if start is None else (guided + flat(start) - self.mean) / 2)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        return {'mean': self.mean, 'axes': self.axes}

    def describe(self) -> dict[str, Any]:
        return {'generator': 'eigenimages', 'n_latents': self.n_latents}

    def curves(self) -> list[dict[str, Any]]:
        return []

    def _images(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        whole = np.rint(np.clip(pixels + self.mean, 0, 1) * 255).astype(np.uint8)
        return whole.reshape(-1, SIZE, SIZE, 3)


def flat(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return (resize(pictures, SIZE).reshape(len(pictures), -1) / 255).astype(np.float32)


def make(config: Config, device: str) -> Eigenimages:
    return Eigenimages()


def restore(
    state: Mapping[str, Any], description: Mapping[str, Any], device: str
) -> FittedEigenimages:
    return FittedEigenimages(state['mean'], state['axes'])


GENERATOR = Generator(
    name='eigenimages',
    make=make,
    restore=restore,
    caution='Eigenimages of the training images can show nothing that those do not.',
    methods=lambda config: 'Images were made of eigenimages of the training images.',
)
