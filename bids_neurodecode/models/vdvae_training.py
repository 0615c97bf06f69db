"""Training a very deep VAE on images: the prior for machines without published weights.

A run is a function of (images, configuration, settings, seed): the images of a step, whether
they are mirrored and the noise of their latents depend on the seed and the number of the step
alone, so that a run which was stopped and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.models.mixture import Noise
from bids_neurodecode.models.vdvae import VDVAE, likelihood_of_images
from bids_neurodecode.models.vdvae_checkpoint import read_safetensors, save_tensors
from bids_neurodecode.models.vdvae_config import VDVAEConfig
from bids_neurodecode.typing import Uint8Array

BAD_SETTING = 'Training a VDVAE needs {what}; {found} is not that.'
NOT_PICTURES = (
    'Training the VDVAE needs at least 2 uint8 images of shape (n, {size}, {size}, 3); '
    'these are {found}.'
)
OTHER_RUN = (
    'The checkpoint is of another training ({what} differ). Delete it, or train with what it '
    'was made with.'
)
DIVERGED = (
    'Training the VDVAE failed at step {step}: {n} steps in a row gave no finite or too large '
    'gradient. Lower the learning rate.'
)
NO_STATE = 'The file {file} is no checkpoint of a training: {reason}. Delete it to start anew.'

Progress = Callable[[int, int], None]

_MOST_SKIPPED = 50  # steps in a row
_EMA_WARM_UP = 10  # steps: the first averages forget the initial weights


@dataclass(frozen=True)
class TrainingSettings:
    """How a VDVAE is trained.

    Parameters
    ----------
    n_steps, batch_size
        Updates, and images in each.
    learning_rate, weight_decay
        Of AdamW; the rate rises over ``n_warmup`` steps and then falls as a half cosine.
    n_warmup
        Steps until the full rate.
    clip_norm
        Gradients are scaled down to this norm.
    skip_norm
        Above this norm a step is skipped.
    ema
        Share of the averaged weights that is kept at each step; less in the first steps.
    mirror
        Whether half of the images are mirrored; not for letters.
    check_every
        Steps between looks at the validation images, and between checkpoints.
    """

    n_steps: int = 1500
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    n_warmup: int = 50
    clip_norm: float = 5.0
    skip_norm: float = 1000.0
    ema: float = 0.995
    mirror: bool = True
    check_every: int = 100

    def __post_init__(self) -> None:
        for name in ('n_steps', 'batch_size', 'check_every'):
            if getattr(self, name) < 1:
                found = getattr(self, name)
                raise DataError(BAD_SETTING.format(what=f'{name} of at least 1', found=found))
        for name in ('learning_rate', 'clip_norm', 'skip_norm'):
            if not 0 < getattr(self, name) < math.inf:
                found = getattr(self, name)
                raise DataError(BAD_SETTING.format(what=f'{name} above 0', found=found))
        if not 0 <= self.ema < 1:
            raise DataError(BAD_SETTING.format(what='ema from 0 to below 1', found=self.ema))


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that a stopped training goes on from.

    Parameters
    ----------
    step
        Updates done.
    tensors
        Weights, averaged weights, best averaged weights, and the optimiser's moments.
    recipe
        What the run is a function of, beside its images.
    losses
        Negative evidence lower bound of each step's images, nats a dimension.
    validation
        (step, bound) of the validation images, by the averaged weights.
    n_skipped
        Steps that were skipped.
    """

    step: int
    tensors: dict[str, Tensor]
    recipe: str
    losses: tuple[float, ...] = ()
    validation: tuple[tuple[int, float], ...] = ()
    n_skipped: int = 0


@dataclass(frozen=True, eq=False)
class TrainedVDVAE:
    """A trained model and how it came about.

    Parameters
    ----------
    model
        With the averaged weights: the last, or those best on the validation images.
    losses, validation, n_skipped
        As in :class:`TrainingState`.
    """

    model: VDVAE
    losses: tuple[float, ...]
    validation: tuple[tuple[int, float], ...]
    n_skipped: int


def train_vdvae(
    images: Uint8Array,
    config: VDVAEConfig,
    settings: TrainingSettings | None = None,
    *,
    seed: int,
    validation: Uint8Array | None = None,
    device: str = 'cpu',
    resume: TrainingState | None = None,
    checkpoint: Callable[[TrainingState], None] | None = None,
    progress: Progress | None = None,
) -> TrainedVDVAE:
    """Train a model on images.

    Parameters
    ----------
    images
        Training images of the model's size, (n, h, w, 3), uint8.
    config
        What the model is built from.
    settings
        How it is trained.
    seed
        Of the initial weights, the order of the images, mirroring and latents.
    validation
        Held-out training images: the weights that do best on them are kept.
    device
        ``cpu`` or ``cuda``.
    resume
        Where a stopped run goes on.
    checkpoint
        Called with the state at every ``check_every`` steps and at the end.
    progress
        Called with (steps done, all steps).

    Raises
    ------
    DataError
        For images of another shape, a state of another run, or a training that diverges.
    """
    settings = settings or TrainingSettings()
    for pictures in (images, validation):
        if pictures is not None:
            _check_pictures(pictures, config)
    run = _Run(config, settings, seed, device)
    if resume is not None:
        run.restore(resume)
    while run.step < settings.n_steps:
        run.update(images)
        if run.step % settings.check_every == 0 or run.step == settings.n_steps:
            if validation is not None:
                run.look(validation)
            if checkpoint is not None:
                checkpoint(run.state())
        if progress is not None:
            progress(run.step, settings.n_steps)
    return TrainedVDVAE(run.result(), tuple(run.losses), tuple(run.validation), run.n_skipped)


def save_state(state: TrainingState, file: Path) -> None:
    """Write the state of a training as safetensors, whole or not at all.

    Parameters
    ----------
    state
        Weights, averaged weights, optimiser and what was learned so far.
    file
        That is written.
    """
    told = {
        'step': state.step,
        'recipe': state.recipe,
        'losses': state.losses,
        'validation': state.validation,
        'n_skipped': state.n_skipped,
    }
    save_tensors(state.tensors, file, {'training': json.dumps(told)})


def load_state(file: Path) -> TrainingState:
    """Read the state of a training.

    Raises
    ------
    InputError
        If the file is damaged, or something else.
    """
    tensors, metadata = read_safetensors(file)
    try:
        told = json.loads(metadata['training'])
        return TrainingState(
            step=int(told['step']),
            tensors=tensors,
            recipe=str(told['recipe']),
            losses=tuple(told['losses']),
            validation=tuple((int(step), float(bound)) for step, bound in told['validation']),
            n_skipped=int(told['n_skipped']),
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        reason = f'{type(error).__name__} {error}'
        raise InputError(NO_STATE.format(file=file, reason=reason)) from error


@dataclass
class _Run:
    """A training under way."""

    config: VDVAEConfig
    settings: TrainingSettings
    seed: int
    device: str
    step: int = 0
    n_skipped: int = 0
    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            # convolutions need not reorder what lies by channel: a quarter of the time
            self.model = VDVAE(self.config).to(self.device)
            convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        self.average, self.best = self._copy_of_weights(), self._copy_of_weights()
        self._skipped_in_a_row = 0
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.settings.learning_rate,
            betas=(0.9, 0.9),
            weight_decay=self.settings.weight_decay,
            fused=True,
        )

    def update(self, images: Uint8Array) -> None:
        """Do one step."""
        rng = np.random.default_rng([self.seed, self.step])
        batch = self._pictures(images, rng)
        noise = Noise(rng.integers(2**62, size=len(batch)).tolist())
        self.model.train()
        pictures = torch.from_numpy(batch.astype(np.float32)).to(self.device)
        loss = self.model.likelihood(pictures, noise).elbo.mean()
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for group in self._optimizer.param_groups:
            group['lr'] = self._rate()
        self.step += 1
        # both come from the device at once: it waits once a step
        told, size = torch.stack([loss.detach(), norm]).tolist()
        self.losses.append(told)
        if math.isfinite(told) and size <= self.settings.skip_norm:
            self._skipped_in_a_row = 0
            self._optimizer.step()
            self._follow()
        else:
            self._skip()

    def look(self, images: Uint8Array) -> None:
        """Measure the averaged weights on held-out images; keep them if they are the best."""
        bounds = likelihood_of_images(
            self._with(self.average), images, batch_size=self.settings.batch_size
        )
        bound = float(bounds['elbo'].mean())
        if bound < min((b for _, b in self.validation), default=math.inf):
            self.best = {key: value.clone() for key, value in self.average.items()}
        self.validation.append((self.step, bound))

    def result(self) -> VDVAE:
        """Return the model with its averaged weights."""
        return self._with(self.best if self.validation else self.average)

    def state(self) -> TrainingState:
        """Return what :meth:`restore` takes."""
        tensors = {f'model.{k}': v for k, v in self.model.state_dict().items()}
        tensors |= {f'average.{k}': v for k, v in self.average.items()}
        tensors |= {f'best.{k}': v for k, v in self.best.items()}
        for index, moments in self._optimizer.state_dict()['state'].items():
            tensors |= {f'optimizer.{index}.{name}': v for name, v in moments.items()}
        return TrainingState(
            self.step,
            {key: _in_rows(value.detach().cpu()) for key, value in tensors.items()},
            self._recipe(),
            tuple(self.losses),
            tuple(self.validation),
            self.n_skipped,
        )

    def restore(self, state: TrainingState) -> None:
        """Go on from a state of the same run."""
        if state.recipe != self._recipe():
            raise DataError(OTHER_RUN.format(what=_differences(state.recipe, self._recipe())))
        parts: dict[str, dict[str, Tensor]] = {'model': {}, 'average': {}, 'best': {}}
        moments: dict[int, dict[str, Tensor]] = {}
        weights = list(self.model.parameters())
        for key, value in state.tensors.items():
            part, rest = key.split('.', 1)
            if part == 'optimizer':
                index, name = rest.split('.')
                # the fused optimiser takes moments to lie as their weights do
                like = value if name == 'step' else weights[int(index)]
                moments.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(value)
            else:
                parts[part][rest] = value.to(self.device, copy=True)
        self.model.load_state_dict(parts['model'])
        self.average, self.best = parts['average'], parts['best']
        optimizer = self._optimizer.state_dict()
        self._optimizer.load_state_dict({**optimizer, 'state': moments})
        self.step, self.n_skipped = state.step, state.n_skipped
        self.losses, self.validation = list(state.losses), list(state.validation)

    def _pictures(self, images: Uint8Array, rng: np.random.Generator) -> Uint8Array:
        """Take this step's images: each image once before any comes again."""
        size = self.settings.batch_size
        positions = range(self.step * size, (self.step + 1) * size)
        batch = images[[self._row(position, len(images)) for position in positions]]
        if self.settings.mirror:
            mirrored = rng.random(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored, :, ::-1]
        return batch

    def _row(self, position: int, n_images: int) -> int:
        epoch, place = divmod(position, n_images)
        if getattr(self, '_epoch', None) != (epoch, n_images):
            self._epoch = (epoch, n_images)
            self._order = np.random.default_rng([self.seed, epoch, 1]).permutation(n_images)
        return int(self._order[place])

    def _rate(self) -> float:
        settings = self.settings
        if self.step < settings.n_warmup:
            return settings.learning_rate * (self.step + 1) / settings.n_warmup
        done = (self.step - settings.n_warmup) / max(1, settings.n_steps - settings.n_warmup)
        return settings.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done))

    def _follow(self) -> None:
        keep = min(self.settings.ema, self.step / (self.step + _EMA_WARM_UP))
        now = self.model.state_dict()
        average = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]
        average(list(self.average.values()), [now[key] for key in self.average], None)

    def _skip(self) -> None:
        self.n_skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= _MOST_SKIPPED:
            raise DataError(DIVERGED.format(step=self.step, n=_MOST_SKIPPED))

    def _with(self, weights: dict[str, Tensor]) -> VDVAE:
        with torch.device('meta'):
            model = VDVAE(self.config)
        copies = {key: _in_rows(value) for key, value in weights.items()}
        model.load_state_dict(copies, assign=True)
        return model.eval().requires_grad_(requires_grad=False)

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _recipe(self) -> str:
        settings = replace(self.settings, check_every=1)  # looking does not change the weights
        recipe = {'seed': self.seed, **self.config.to_dict(), **vars(settings)}
        return json.dumps(recipe, sort_keys=True)


def _in_rows(value: Tensor) -> Tensor:
    """Return a copy that lies as tensors read from a file do: rounding depends on it."""
    return value.clone(memory_format=torch.contiguous_format)


def _differences(one: str, other: str) -> str:
    first, second = json.loads(one), json.loads(other)
    names = sorted(set(first) | set(second))
    return ', '.join(name for name in names if first.get(name) != second.get(name))


def _check_pictures(images: Uint8Array, config: VDVAEConfig) -> None:
    size = config.image_size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3) or len(images) < 2:
        found = f'{images.dtype} {images.shape}'
        raise DataError(NOT_PICTURES.format(size=size, found=found))
