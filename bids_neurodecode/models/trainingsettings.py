"""How a network is trained, and how its training went."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pandas as pd

from bids_neurodecode.errors import ArgumentsError

if TYPE_CHECKING:
    from bids_neurodecode.models.precision import Precision

BAD_SETTINGS = 'Training needs {need}; {name} is {found}.'

Progress = Callable[[int, int], None]


class Dataset(Protocol):
    """What samples are drawn from: item i is a tuple of tensors, arrays or numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Parameters
    ----------
    n_epochs, batch_size, learning_rate, weight_decay
        As usual; a batch is shared out among processes.
    optimizer
        Adam, or AdamW where weight decay is apart from the gradient.
    betas
        Of either; None: those of torch.
    fused
        Whether torch updates all parameters at once, which rounds otherwise.
    schedule
        Learning rate: constant, or falling to 0 along a cosine after ``warmup`` (share of all
        steps; from 1 on, steps).
    clip_norm
        Gradients are cut to this norm; None: as they are.
    skip_norm
        A step whose gradient is larger, or not finite, changes nothing, and training fails after
        many in a row; None: what is not finite is an error at once.
    ema
        Share of the averaged weights that is kept at each step, less in the first: these are the
        result; None: weights are not averaged.
    shuffle
        Whether the order of samples is drawn anew in each epoch; else it is that of the data.
    curve
        What the learning curves have one training row for.
    patience
        Epochs without a better validation loss after which training stops; None: never.
    keep
        Which weights are kept: of the epoch with the best validation loss, or the last.
    precision
        Of activations; weights are float32. ``tf32``: float32, multiplied as TF32 on a GPU.
    compile
        Whether the objective is compiled first, which takes a minute and needs a C compiler.
    seed
        Of dropout and the order of samples.
    device
        ``auto`` is a GPU where there is one.
    checkpoint_every
        Batches between checkpoints; None: at the end of each epoch only.
    n_workers
        Processes that load data; 0 loads in this one.
    """

    n_epochs: int = 11
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    optimizer: Literal['adam', 'adamw'] = 'adam'
    betas: tuple[float, float] | None = None
    fused: bool = False
    schedule: Literal['constant', 'cosine'] = 'constant'
    warmup: float = 0.0
    clip_norm: float | None = 1.0
    skip_norm: float | None = None
    ema: float | None = None
    shuffle: bool = True
    curve: Literal['epoch', 'step'] = 'epoch'
    patience: int | None = None
    keep: Literal['best', 'last'] = 'best'
    precision: Precision = 'float32'
    compile: bool = False
    seed: int = 0
    device: Literal['auto', 'cpu', 'cuda'] = 'auto'
    checkpoint_every: int | None = None
    n_workers: int = 0

    def __post_init__(self) -> None:
        for name in ('n_epochs', 'batch_size', 'patience', 'checkpoint_every'):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentsError(BAD_SETTINGS.format(need='1 or more', name=name, found=value))
        for name in ('learning_rate', 'clip_norm', 'skip_norm'):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentsError(BAD_SETTINGS.format(need='above 0', name=name, found=value))
        if self.warmup < 0:
            raise ArgumentsError(
                BAD_SETTINGS.format(need='0 or more', name='warmup', found=self.warmup)
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ArgumentsError(
                BAD_SETTINGS.format(need='a share below 1', name='ema', found=self.ema)
            )


@dataclass(frozen=True, eq=False)
class Training:
    """How a training went.

    Parameters
    ----------
    curves
        One row per epoch and part: ``epoch`` (from 1), ``part`` (training or validation), ``loss``
        and its terms, ``learning_rate``. Training values are means over the epoch, in training
        mode; or there is a row per ``step`` (from 1), with the values of its batch.
    kept_epoch
        Epoch whose weights were kept.
    stopped_early
        Whether patience ended it.
    n_steps
        Optimiser steps.
    device, precision, n_processes
        What it ran on.
    seconds, wait_share
        Time of this process (since resumed), and the share of it spent waiting for data.
    """

    curves: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    stopped_early: bool
    n_steps: int
    device: str
    precision: str
    n_processes: int
    seconds: float
    wait_share: float

    def facts(self) -> dict[str, Any]:
        """Return what belongs to the model: no times, which differ from run to run."""
        without = {'curves', 'seconds', 'wait_share'}
        return {name: value for name, value in vars(self).items() if name not in without}

    def table(self) -> pd.DataFrame:
        """Return the learning curves."""
        return pd.DataFrame(list(self.curves))
