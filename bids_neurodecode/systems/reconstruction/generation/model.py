"""A fitted two-stage model: regressions from responses, and the generator they feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.models.latent_models import LatentModel, load_latents
from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.models.storage import joined, under
from bids_neurodecode.models.wide import Renorm, WideRegression
from bids_neurodecode.settings.reconstruction import ReconstructionSettings
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.reconstruction.generation.generators import (
    FittedGenerator,
    sampling_as_told,
)
from bids_neurodecode.systems.reconstruction.generation.small import FittedSmall
from bids_neurodecode.typing import Float32Array, Uint8Array

OTHER_VOXELS = 'The model was fitted on {expected} voxels; these responses have {found}.'
OTHER_GENERATOR = (
    'The model was fitted with the generator {name!r}, whose weights are not in its file. '
    'Give that generator.'
)
NOT_A_MODEL = 'These are not the arrays of a two-stage model: {name} is missing.'

ALL_NOISE = 256
"""The level of noise, in grey levels, that stands for a start without an image."""
_NOISE_STREAM = 7  # so that this noise is not that of the diffusion


@dataclass(frozen=True, eq=False)
class GenerationModel:
    """A fitted two-stage model.

    Parameters
    ----------
    voxels
        Mean and deviation of the training responses.
    latents
        From standardised responses to latents.
    conditions
        From standardised responses to each condition, flat.
    shapes
        Of each condition, for one image.
    renorm
        How the conditions are given their mean and deviation back.
    fitted
        Prior and refiner.
    library
        The training stimuli, in order of first appearance.
    """

    voxels: Standardizer
    latents: LatentModel
    conditions: Mapping[str, WideRegression]
    shapes: Mapping[str, tuple[int, ...]]
    renorm: Renorm
    fitted: FittedGenerator
    library: tuple[str, ...]

    @property
    def generator(self) -> str:
        """The name of the generator."""
        return str(self.fitted.describe()['generator'])

    def predict_latents(self, responses: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Predict latents (n, length) from responses (n, n_voxels)."""
        return self.latents.predict(self._standard(responses))

    def predict_conditions(
        self, responses: npt.NDArray[np.floating[Any]], renorm: Renorm | None = None
    ) -> dict[str, Float32Array]:
        """Predict each condition, (n, ...), from responses (n, n_voxels).

        Parameters
        ----------
        responses
            Shape (n, n_voxels).
        renorm
            How predictions get their mean and deviation back; None: as it was fitted.
        """
        X = self._standard(responses)
        return {
            name: regression.predict(X, renorm or self.renorm).reshape(len(X), *self.shapes[name])
            for name, regression in self.conditions.items()
        }

    @property
    def trust(self) -> dict[str, Float32Array] | None:
        """How well each value of each condition is decoded: cross-validated shares from 0 to 1."""
        return {
            name: np.clip(np.nan_to_num(regression.ridge.cv_r2), 0, 1).astype(np.float32)
            for name, regression in self.conditions.items()
        }

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that, with :meth:`describe`, :meth:`from_state` rebuilds it from."""
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {
            'voxels': self.voxels.state(),
            'latents': self.latents.state(),
            'generator': self.fitted.state(),
        }
        parts |= {f'conditions.{name}': r.state() for name, r in self.conditions.items()}
        return joined(parts)

    def describe(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            'latents': self.latents.describe(),
            'conditions': {name: [*shape] for name, shape in self.shapes.items()},
            'renorm': self.renorm,
            'generator': self.fitted.describe(),
            'library': [*self.library],
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, npt.NDArray[Any]],
        description: Mapping[str, Any],
        *,
        fitted: FittedGenerator | None = None,
    ) -> GenerationModel:
        """Rebuild a model.

        Parameters
        ----------
        state, description
            What :meth:`state` and :meth:`describe` returned.
        fitted
            The generator, where its weights are not among the arrays (the published one).

        Raises
        ------
        InputError
            If something is missing.
        """
        try:
            told = description['generator']
            if fitted is None and told['generator'] != 'small':
                raise InputError(OTHER_GENERATOR.format(name=told['generator']))
            return cls(
                Standardizer(state['voxels.mean'], state['voxels.scale']),
                load_latents(under(state, 'latents'), description['latents']),
                {
                    name: WideRegression.from_state(under(state, f'conditions.{name}'))
                    for name in description['conditions']
                },
                {name: tuple(shape) for name, shape in description['conditions'].items()},
                description['renorm'],
                fitted or FittedSmall.from_state(under(state, 'generator'), told),
                tuple(description['library']),
            )
        except KeyError as error:
            raise InputError(NOT_A_MODEL.format(name=error.args[0])) from error

    def _standard(self, responses: npt.NDArray[np.floating[Any]]) -> Float32Array:
        if responses.ndim != 2 or responses.shape[1] != len(self.voxels.mean):
            expected, found = len(self.voxels.mean), responses.shape[-1]
            raise DataError(OTHER_VOXELS.format(expected=expected, found=found))
        return self.voxels.apply(responses)


def refine(
    fitted: FittedGenerator,
    initial: Uint8Array,
    conditions: Mapping[str, npt.NDArray[Any]],
    seeds: Sequence[int],
    told: ReconstructionSettings,
    *,
    trust: Mapping[str, Float32Array] | None = None,
) -> Uint8Array:
    """Make final images of initial ones, with the switches of the settings.

    Parameters
    ----------
    fitted
        The generator.
    initial
        Images of stage 1, (n, s, s, 3), uint8.
    conditions
        What guides.
    seeds
        One an image.
    told
        ``start``, ``noise``, ``conditions``, and what :func:`sampling_of` takes.
    trust
        See :meth:`.generators.FittedGenerator.refine`.
    """
    start = None if told.start == 'noise' else noisy(initial, told.noise, seeds)
    sampling = sampling_of(fitted, told)
    return fitted.refine(start, conditions, seeds, sampling, told.conditions, trust=trust)


def sampling_of(fitted: FittedGenerator, told: ReconstructionSettings) -> SamplingSettings:
    """Return how a generator samples under settings; what they leave out is its own.

    Parameters
    ----------
    fitted
        The generator.
    told
        Settings of ``reconstruction``.
    """
    own = sampling_as_told(fitted.sampling, told)
    return replace(own, match=told.match, weighted=told.match_weighted)


def noisy(pictures: Uint8Array, level: float, seeds: Sequence[int]) -> Uint8Array | None:
    """Add normal noise of a deviation in grey levels; the draws are the same at every level.

    None stands for noise alone (from :data:`ALL_NOISE` on).

    Parameters
    ----------
    pictures
        Shape (n, s, s, 3), uint8.
    level
        Standard deviation in grey levels, 0 to 256.
    seeds
        One per image.
    """
    if level >= ALL_NOISE:
        return None
    if level == 0:
        return pictures
    rows = []
    for picture, seed in zip(pictures, seeds, strict=True):
        noise = np.random.default_rng([seed, _NOISE_STREAM]).standard_normal(picture.shape)
        rows.append(np.clip(np.rint(picture + level * noise), 0, 255).astype(np.uint8))
    return np.stack(rows)
