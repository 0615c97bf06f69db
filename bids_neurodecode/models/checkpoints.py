"""Checkpoints of a training: whole or not there, and readable without executing anything.

``<folder>/step-<number>/`` holds ``weights.safetensors``, ``best.safetensors`` (if a best
epoch was kept), ``optimizer.pt`` (tensors and numbers, read with ``weights_only=True``), a
``random-<process>.pt`` for each process, and ``state.json``. The folder gets its name when all of
it is written; the highest number counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bids_neurodecode.errors import BROKEN_TEXT, DataError, raised_as

DAMAGED = 'The checkpoint {folder} is damaged: {reason}. Delete it to start the training again.'
OTHER_TRAINING = (
    'The checkpoint {folder} belongs to another training: {key} was {found} and is now '
    '{expected}. Give another folder, or delete it.'
)
BAD_WEIGHTS = 'Cannot read the weights {file}: {reason}. Train the model again.'

_PREFIX = 'step-'


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a training needs to go on as if it had not been interrupted.

    Parameters
    ----------
    weights
        State of the model.
    best
        Weights set aside at the best validation loss; None if there are none.
    optimizer
        States of optimiser, schedule and gradient scaler.
    progress
        Position in the training, sums and learning curves (JSON).
    """

    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Any]
    progress: Mapping[str, Any]


def prepare_checkpoint(folder: Path, step: int) -> Path:
    """Make the empty folder that a checkpoint is written to before it gets its name.

    Parameters
    ----------
    folder
        Of all checkpoints of a training.
    step
        Optimiser steps done.
    """
    partial = folder / f'partial-{step}'
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def save_random_states(partial: Path, process: int) -> None:
    """Write the states of Python's, NumPy's and torch's generators (CUDA's too, where used).

    Parameters
    ----------
    partial
        Folder of the checkpoint.
    process
        Rank of this process, from 0.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    states = {
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        'numpy': [
            str(kind),
            np.asarray(keys).tolist(),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        'python': [version, list(internal), gauss_next],
    }
    torch.save(states, partial / f'random-{process}.pt')


def load_random_states(folder: Path, process: int) -> None:
    """Put the generators back in the states of :func:`save_random_states`.

    Parameters
    ----------
    folder
        Of the checkpoint.
    process
        Rank of this process, from 0.
    """
    states = _load(folder / f'random-{process}.pt', folder)
    torch.set_rng_state(states['torch'])
    if states['cuda']:
        torch.cuda.set_rng_state_all(states['cuda'])
    kind, keys, *rest = states['numpy']
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss_next = states['python']
    random.setstate((version, tuple(internal), gauss_next))


def finish_checkpoint(
    partial: Path, step: int, checkpoint: Checkpoint, identity: Mapping[str, Any]
) -> Path:
    """Write the rest, give the folder its name, and delete those before it.

    Parameters
    ----------
    partial
        Folder of what was written so far.
    step
        Its number.
    checkpoint
        Weights, optimiser and progress.
    identity
        What must be the same for the training to go on (JSON).
    """
    save_file(_plain(checkpoint.weights), partial / 'weights.safetensors')
    if checkpoint.best is not None:
        save_file(_plain(checkpoint.best), partial / 'best.safetensors')
    torch.save(dict(checkpoint.optimizer), partial / 'optimizer.pt')
    sums = {file.name: _sha256(file) for file in sorted(partial.iterdir())}
    state = {'identity': identity, 'progress': checkpoint.progress, 'sha256': sums}
    (partial / 'state.json').write_text(json.dumps(state, indent=1), encoding='utf-8')
    for file in partial.iterdir():
        with file.open('rb') as stream:
            os.fsync(stream.fileno())
    final = partial.with_name(f'{_PREFIX}{step:09d}')
    if final.exists():
        shutil.rmtree(final)
    partial.replace(final)
    for old in partial.parent.iterdir():
        stale = old.name.startswith(_PREFIX) and old.name < final.name
        if stale or old.name.startswith('partial-'):
            shutil.rmtree(old)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint that counts, or None."""
    if not folder.is_dir():
        return None
    found = sorted(path for path in folder.iterdir() if path.name.startswith(_PREFIX))
    return found[-1] if found else None


def load_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    folder
        Of the checkpoint.
    identity
        What the training is a function of (data, settings, seed).

    Raises
    ------
    DataError
        If it is damaged, or belongs to a training of another identity.
    """
    with raised_as(DataError, DAMAGED, *BROKEN_TEXT, KeyError, folder=folder):
        state = json.loads((folder / 'state.json').read_text('utf-8'))
        sums = state['sha256']
        bad = next((name for name in sums if _sha256(folder / name) != sums[name]), None)
    if bad is not None:
        raise DataError(DAMAGED.format(folder=folder, reason=f'{bad} has changed'))
    for key, expected in json.loads(json.dumps(identity)).items():
        found = state['identity'].get(key)
        if found != expected:
            raise DataError(
                OTHER_TRAINING.format(folder=folder, key=key, found=found, expected=expected)
            )
    best = folder / 'best.safetensors'
    return Checkpoint(
        load_file(folder / 'weights.safetensors'),
        load_file(best) if best.name in sums else None,
        _load(folder / 'optimizer.pt', folder),
        state['progress'],
    )


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors under their final name at once.

    Parameters
    ----------
    weights
        Tensors by name.
    path
        Of the file.
    """
    aside = path.with_name(path.name + '.partial')
    save_file(_plain(weights), aside)
    aside.replace(path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises
    ------
    DataError
        If the file is not there or damaged.
    """
    with raised_as(DataError, BAD_WEIGHTS, OSError, SafetensorError, file=path):
        weights: dict[str, Tensor] = load_file(path)
    return weights


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}


def _load(file: Path, folder: Path) -> dict[str, Any]:
    with raised_as(DataError, DAMAGED, OSError, RuntimeError, ValueError, folder=folder):
        content: dict[str, Any] = torch.load(file, map_location='cpu', weights_only=True)
    return content


def _sha256(file: Path) -> str:
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()
