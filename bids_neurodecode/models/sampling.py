r"""Denoising an image: the schedule, where it starts, guidance, and one seed per image.

Everything of a second stage that no network decides. Sampling is deterministic (DDIM with
:math:`\eta = 0`; Song et al. 2021, arXiv 2010.02502): with :math:`\bar\alpha_t` the share of
signal at time t and :math:`\epsilon` the noise that a network predicts,

.. math::

    x_{t'} = \sqrt{\bar\alpha_{t'}} \, \frac{x_t - \sqrt{1 - \bar\alpha_t} \, \epsilon}
             {\sqrt{\bar\alpha_t}} + \sqrt{1 - \bar\alpha_{t'}} \, \epsilon

The constants are those of Stable Diffusion and Versatile Diffusion.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.typing import Uint8Array

BAD_SETTING = 'Sampling needs {need}; {name} is {found}.'
BAD_PICTURES = 'Start images must be uint8 of shape ({n}, h, w, 3); these are {found}.'
BAD_CONDITION = (
    'The condition {name!r} must be an array of shape {expected} (images first); it is {found}.'
)
NO_PICTURES = 'There is nothing to refine: there are no seeds.'

N_TRAINED = 1000
"""Times that the networks were trained on."""

Conditions = Mapping[str, npt.NDArray[Any]]
Denoiser = Callable[[Tensor, int], Tensor]
Network = Callable[[Tensor, int, Tensor], Tensor]


class Refiner(Protocol):
    """What makes a final image of a start image and of what was decoded."""

    @property
    def size(self) -> int:
        """Height and width of the images that it makes, in pixels."""

    @property
    def condition_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each condition, for one image."""

    def refine(
        self,
        start_images: Uint8Array | None,
        conditions: Conditions,
        seeds: Sequence[int],
    ) -> Uint8Array:
        """Make images.

        Parameters
        ----------
        start_images
            Images of any size, (n, h, w, 3), uint8; None starts from noise alone.
        conditions
            What guides, (n, ...) each, by the names of :attr:`condition_shapes`.
        seeds
            One an image (see :func:`picture_seed`): an image depends on its own alone.

        Returns
        -------
        numpy.ndarray
            Shape (n, size, size, 3), uint8.
        """


@dataclass(frozen=True)
class SamplingSettings:
    """How an image is denoised.

    Parameters
    ----------
    n_steps
        Steps from pure noise, of which ``strength`` is the share that is taken.
    strength
        How far the start image is noised: int(strength * n_steps) steps are left to denoise, at
        least one.
    guidance
        Weight of the condition, e_without + guidance * (e_with - e_without); 1: the condition
        alone.
    start
        ``published``: the start is noised for one step more than is then taken off, as in the
        code of Versatile Diffusion and Brain-Diffuser. ``matched``: noised as much as is taken
        off.
    batch_size
        Images at once.
    match
        Whether a refiner that can (see :mod:`.matching`) moves images to the condition.
    weighted
        Whether each value of the condition then pulls by how well it is decoded.
    """

    n_steps: int = 50
    strength: float = 0.75
    guidance: float = 7.5
    start: Literal['published', 'matched'] = 'published'
    batch_size: int = 4
    match: bool = True
    weighted: bool = False

    def __post_init__(self) -> None:
        checks = {
            'n_steps': ('from 1 to 1000 steps', 1 <= self.n_steps <= N_TRAINED),
            'strength': ('a strength above 0 and up to 1', 0 < self.strength <= 1),
            'guidance': ('a finite guidance', math.isfinite(self.guidance)),
            'batch_size': ('batches of at least 1', self.batch_size >= 1),
        }
        for name, (need, fine) in checks.items():
            if not fine:
                found = getattr(self, name)
                raise ArgumentsError(BAD_SETTING.format(need=need, name=name, found=found))


@dataclass(frozen=True)
class Schedule:
    """The times that an image goes through.

    Parameters
    ----------
    timesteps
        Times at which the network is called, falling.
    noised_at
        Time to which the start image is noised; None starts from noise alone.
    """

    timesteps: tuple[int, ...]
    noised_at: int | None


def alpha_bar() -> npt.NDArray[np.float64]:
    """Return the share of signal at each of the 1,000 times of training."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), N_TRAINED) ** 2
    return np.asarray(np.cumprod(1 - betas))


def make_schedule(settings: SamplingSettings, *, from_picture: bool) -> Schedule:
    """Find the times of a sampling.

    With 50 steps and strength .75: noised at 741, called at 721, 701, ..., 1 (37 times).

    Parameters
    ----------
    settings
        Steps, strength, and by which rule a start image is noised.
    from_picture
        Whether there is a start image.
    """
    every = N_TRAINED // settings.n_steps
    # the published schedule counts from 1
    times = [min(1 + every * k, N_TRAINED - 1) for k in range(settings.n_steps)]
    if not from_picture:
        return Schedule(tuple(reversed(times)), None)
    n_taken = max(1, int(settings.strength * settings.n_steps))
    noised = n_taken if settings.start == 'published' else n_taken - 1
    return Schedule(tuple(reversed(times[:n_taken])), times[min(noised, settings.n_steps - 1)])


def add_noise(latents: Tensor, noise: Tensor, time: int) -> Tensor:
    """Mix latents with standard normal noise as at a time of training.

    Parameters
    ----------
    latents, noise
        Of one shape.
    time
        Of training, from 0 to 999.
    """
    share = float(alpha_bar()[time])
    return math.sqrt(share) * latents + math.sqrt(1 - share) * noise


def denoise(latents: Tensor, schedule: Schedule, predict: Denoiser) -> Tensor:
    """Take the noise off.

    Parameters
    ----------
    latents
        At the schedule's first time, (n, ...), float32.
    schedule
        The times.
    predict
        Predicts the noise from (latents, time).
    """
    signal = alpha_bar()
    targets = (*schedule.timesteps[1:], None)
    for time, after in zip(schedule.timesteps, targets, strict=True):
        # the last step goes to time 0, not to an image without any noise
        now, then = float(signal[time]), float(signal[after or 0])
        noise = predict(latents, time).float()
        clean = (latents - math.sqrt(1 - now) * noise) / math.sqrt(now)
        latents = math.sqrt(then) * clean + math.sqrt(1 - then) * noise
    return latents


def guided(
    network: Network,
    context: Tensor,
    without: Tensor,
    guidance: float,
    *,
    together: bool = True,
) -> Denoiser:
    """Push predictions away from what the network would say without the condition.

    Parameters
    ----------
    network
        Predicts the noise from (latents, time, context).
    context, without
        The condition and its absence, (n, n_tokens, width) each.
    guidance
        See :class:`SamplingSettings`.
    together
        One call for both, or two calls of half the memory.
    """
    if guidance == 1:
        return lambda latents, time: network(latents, time, context)
    both = torch.cat([without, context])

    def predict(latents: Tensor, time: int) -> Tensor:
        if together:
            absent, present = network(torch.cat([latents] * 2), time, both).float().chunk(2)
        else:
            absent = network(latents, time, without).float()
            present = network(latents, time, context).float()
        return absent + guidance * (present - absent)

    return predict


def picture_seed(seed: int, stimulus: str) -> int:
    """Return the seed of one image: a function of the run's seed and the stimulus alone.

    Parameters
    ----------
    seed
        Of the run.
    stimulus
        Name of the image.
    """
    digest = hashlib.sha256(f'{seed}\n{stimulus}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


def resize_pictures(images: Uint8Array, size: int) -> Uint8Array:
    """Resize images (n, h, w, 3) to squares, bicubic, as an image program would.

    Parameters
    ----------
    images
        Shape (n, h, w, 3), uint8.
    size
        Pixels a side.
    """
    from PIL import Image

    if images.shape[1:3] == (size, size):
        return images
    method = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(x).resize((size, size), method)) for x in images])


def to_signed(images: Uint8Array) -> Tensor:
    """Turn images (n, h, w, 3) into numbers from -1 to 1, (n, 3, h, w)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1


def from_signed(pixels: Tensor) -> Uint8Array:
    """Turn numbers from -1 to 1, (n, 3, h, w), into images (n, h, w, 3)."""
    scaled = (pixels.float() / 2 + 0.5).clamp(0, 1) * 255
    array: Uint8Array = scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return array


def check_inputs(
    start_images: Uint8Array | None,
    conditions: Conditions,
    seeds: Sequence[int],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Check that there is a start image and every condition for each seed.

    Parameters
    ----------
    start_images
        Shape (n, h, w, 3), uint8, or None.
    conditions
        Arrays by name, (n, ...).
    seeds
        One per image.
    shapes
        Of one row of each condition, by name.

    Raises
    ------
    DataError
        If there is not.
    """
    n = len(seeds)
    if n == 0:
        raise DataError(NO_PICTURES)
    if start_images is not None:
        shape = start_images.shape
        if len(shape) != 4 or shape[0] != n or shape[3] != 3 or start_images.dtype != np.uint8:
            found = f'{start_images.dtype} {shape}'
            raise DataError(BAD_PICTURES.format(n=n, found=found))
    for name, shape in shapes.items():
        given = conditions.get(name)
        if given is None or given.shape != (n, *shape):
            found = 'missing' if given is None else str(given.shape)
            raise DataError(BAD_CONDITION.format(name=name, expected=(n, *shape), found=found))
