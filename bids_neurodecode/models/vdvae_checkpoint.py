"""Checkpoints of very deep VAEs: read as published, kept as safetensors.

A published checkpoint is a flat dictionary of tensors in PyTorch's format. It is read with
``weights_only``, so that a file cannot run code; a safetensors file also holds its configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.models.vdvae import VDVAE
from bids_neurodecode.models.vdvae_config import VDVAEConfig
from bids_neurodecode.text import one_line

UNREADABLE = 'Cannot read the checkpoint {file}: {reason}. Fetch or copy it again.'
NO_TENSORS = 'The checkpoint {file} is no flat dictionary of tensors: it holds {found}.'
KEYS_MISSING = (
    'The checkpoint {file} lacks {n} of the {total} tensors of this VDVAE ({first}, ...): '
    'it is of another configuration.'
)
KEYS_LEFT = (
    'The checkpoint {file} has {n} tensors that this VDVAE lacks ({first}, ...): '
    'it is of another configuration.'
)
SHAPE_DIFFERS = (
    'The checkpoint {file} has {key} of shape {found} where this VDVAE has {expected}: '
    'it is of another configuration.'
)
NO_CONFIG = (
    'The checkpoint {file} does not say what it was built from. Give its configuration, or '
    'import it again.'
)

_PREFIX = 'module.'  # of models that were trained on several devices
_CONFIG = 'config'


def load_vdvae(
    file: Path, config: VDVAEConfig | None = None, *, device: str | torch.device = 'cpu'
) -> VDVAE:
    """Load a model, ready to be used.

    Parameters
    ----------
    file
        ``.safetensors``, or a state dictionary in PyTorch's format.
    config
        What the model is built from; None takes what the (safetensors) file says.
    device
        Where the model is put.

    Raises
    ------
    InputError
        If the file cannot be read, or is of another configuration.
    """
    tensors, found = _read(file)
    if config is None and found is None:
        raise InputError(NO_CONFIG.format(file=file))
    model = build_vdvae(config or _config_of(file, found), tensors, file)
    return model.to(device)


def build_vdvae(config: VDVAEConfig, tensors: Mapping[str, Tensor], file: Path) -> VDVAE:
    """Build a model around tensors; ``file`` is what errors name.

    Parameters
    ----------
    config
        What the model is built from.
    tensors
        Weights by name.
    file
        That they were read from.

    Raises
    ------
    InputError
        If a tensor is missing, left over, or of another shape.
    """
    with torch.device('meta'):  # no memory, and no initial values that would be thrown away
        model = VDVAE(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    stripped = {key.removeprefix(_PREFIX): value for key, value in tensors.items()}
    _check_keys(expected, stripped, file)
    model.load_state_dict({k: v.float() for k, v in stripped.items()}, assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def save_vdvae(model: VDVAE, file: Path) -> None:
    """Write a model and its configuration as safetensors, whole or not at all.

    Parameters
    ----------
    model
        Of any device.
    file
        That is written.
    """
    save_tensors(model.state_dict(), file, {_CONFIG: json.dumps(model.config.to_dict())})


def save_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors: to a temporary file, then renamed.

    Parameters
    ----------
    tensors
        By name.
    file
        That is written; its folder is made.
    metadata
        Text by name, kept in the header.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f'.{file.name}.part')
    try:
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(contiguous, part, metadata=dict(metadata))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def convert_vdvae(source: Path, target: Path, config: VDVAEConfig) -> None:
    """Check a checkpoint against a configuration, and write it as safetensors.

    Parameters
    ----------
    source
        A published checkpoint.
    target
        The safetensors file that is written.
    config
        That it has to fit.

    Raises
    ------
    InputError
        If the file cannot be read, or is of another configuration.
    """
    save_vdvae(load_vdvae(source, config), target)


def read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors and the metadata of a safetensors file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with safe_open(file, framework='pt') as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
            return tensors, stored.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(UNREADABLE.format(file=file, reason=_one_line(error))) from error


def _read(file: Path) -> tuple[dict[str, Tensor], str | None]:
    if file.suffix == '.safetensors':
        tensors, metadata = read_safetensors(file)
        return tensors, metadata.get(_CONFIG)
    try:
        state = torch.load(file, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise InputError(UNREADABLE.format(file=file, reason=_one_line(error))) from error
    if not isinstance(state, Mapping):
        raise InputError(NO_TENSORS.format(file=file, found=type(state).__name__))
    odd = [f'{key}: {type(value).__name__}' for key, value in state.items() if not _fits(value)]
    if odd or not state:
        raise InputError(NO_TENSORS.format(file=file, found=odd[0] if odd else 'nothing'))
    return dict(state), None


def _fits(value: Any) -> bool:
    return isinstance(value, Tensor)


def _config_of(file: Path, text: str | None) -> VDVAEConfig:
    try:
        return VDVAEConfig.from_dict(json.loads(text or ''))
    except (ValueError, TypeError, RecursionError, DataError) as error:
        raise InputError(UNREADABLE.format(file=file, reason=_one_line(error))) from error


def _check_keys(
    expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], file: Path
) -> None:
    missing = sorted(set(expected) - set(tensors))
    if missing:
        raise InputError(
            KEYS_MISSING.format(file=file, n=len(missing), total=len(expected), first=missing[0])
        )
    left = sorted(set(tensors) - set(expected))
    if left:
        raise InputError(KEYS_LEFT.format(file=file, n=len(left), first=left[0]))
    for key, shape in expected.items():
        if tuple(tensors[key].shape) != shape:
            found = tuple(tensors[key].shape)
            raise InputError(SHAPE_DIFFERS.format(file=file, key=key, found=found, expected=shape))


def _one_line(error: Exception) -> str:
    text = one_line(error)
    # PyTorch explains its own options at length; the first sentence says what is wrong
    return text.split('. ')[0].rstrip('.')
