"""Training of networks: one way for every system, resumable to the bit.

What is trained is an objective: a module that takes a batch and returns a dictionary of scalar
tensors, among them ``loss``. The order of the samples is a function of seed and epoch alone. On a
CPU, a training that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import atexit
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import ArgumentsError, ResourceError
from bids_neurodecode.models.loop import TrainingLoop
from bids_neurodecode.models.precision import products
from bids_neurodecode.models.trainingsettings import (
    Dataset,
    Progress,
    Training,
    TrainingSettings,
)

if TYPE_CHECKING:
    from accelerate import Accelerator


OTHER_DEVICE = (
    'This process trains on {found} already and cannot change to {wanted}. Start another process.'
)
NO_VALIDATION = 'Early stopping needs validation samples. Give some, or set the patience to none.'
AVERAGED = 'Validation does not see averaged weights. Leave out validation samples, or ema.'


def train(
    objective: nn.Module,
    data: Dataset,
    settings: TrainingSettings,
    *,
    validation: Dataset | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress | None = None,
) -> Training:
    """Train an objective in place; go on from the checkpoint if there is one.

    Parameters
    ----------
    objective
        Module that turns a batch into a dictionary of scalar tensors with ``loss``.
    data
        Training samples.
    settings
        How to train.
    validation
        Samples that decide when to stop and which weights to keep.
    checkpoint_dir
        Folder of checkpoints of this training alone; None: no checkpoints.
    progress
        Called with (steps done, all steps).

    Raises
    ------
    DataError
        If the loss is not finite, samples are too few, or the checkpoint is another training's.
    ResourceError
        If the device is not there.
    """
    if settings.patience is not None and validation is None:
        raise ArgumentsError(NO_VALIDATION)
    if settings.ema is not None and validation is not None:
        raise ArgumentsError(AVERAGED)
    accelerator = _accelerator(settings)
    seed = settings.seed + accelerator.process_index
    with products(settings.precision), own_randomness(seed, accelerator.device):
        loop = TrainingLoop(accelerator, objective, data, validation, settings, checkpoint_dir)
        return loop.run(progress)


def by_channel(network: nn.Module) -> None:
    """Lay weights by channel: convolutions in training then reorder less, a sixth of the time."""
    convert_conv2d_weight_memory_format(network, torch.channels_last)


def as_read(network: nn.Module) -> None:
    """Lay weights as those read from a file lie: the rounding of what they make depends on it."""
    for value in network.parameters():
        value.data = value.data.clone(memory_format=torch.contiguous_format)


def _accelerator(settings: TrainingSettings) -> Accelerator:
    """Find the device and the processes; precision is ours, as accelerate's is per process."""
    from accelerate import Accelerator

    check_device(settings.device)
    wanted = settings.device
    if wanted == 'auto':
        wanted = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        accelerator = Accelerator(cpu=wanted == 'cpu')
    except ValueError as error:
        raise ResourceError(OTHER_DEVICE.format(found='another device', wanted=wanted)) from error
    if accelerator.device.type != wanted:
        raise ResourceError(OTHER_DEVICE.format(found=accelerator.device.type, wanted=wanted))
    if accelerator.num_processes > 1:
        _leave_together()
    return accelerator


@cache
def _leave_together() -> None:
    """End the process group before the interpreter ends: its threads would abort the process."""
    atexit.register(_end_process_group)


def _end_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def own_randomness(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators, and give them back as they were.

    Parameters
    ----------
    seed
        Of Python's, NumPy's and torch's generators.
    device
        A GPU whose generator is set too; None: the CPU's alone.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [device] if device is not None and device.type == 'cuda' else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
