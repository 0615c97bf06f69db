"""Models on disk: safetensors whose bytes depend on their content alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import BROKEN_TEXT, InputError, raised_as
from bids_neurodecode.fetched import check_fetched

if TYPE_CHECKING:
    from torch import nn

KEY = 'bids_neurodecode'
"""The one entry of the metadata: with more, safetensors writes them in a random order."""

T = TypeVar('T')

NOT_OURS = '{file} is no model of this program ({reason}). Give one that it wrote.'


def save_arrays(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], description: Mapping[str, Any]
) -> None:
    """Write arrays and what they are.

    Parameters
    ----------
    path
        A ``.safetensors`` file.
    arrays
        By name.
    description
        What JSON can hold.
    """
    from safetensors.numpy import save_file

    metadata = {KEY: json.dumps(description, sort_keys=True)}
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    save_file(contiguous, path, metadata)


def load_arrays(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote: the arrays, and what they are.

    Raises
    ------
    InputError
        If the file cannot be read or is not such a file.
    """
    return _load(path, with_arrays=True)


def load_description(path: Path) -> dict[str, Any]:
    """Read what the arrays of a file are, without the arrays; errors as :func:`load_arrays`."""
    return _load(path, with_arrays=False)[1]


def _load(path: Path, *, with_arrays: bool) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    check_fetched(path)
    with (
        raised_as(InputError, NOT_OURS, *BROKEN_TEXT, SafetensorError, KeyError, file=path),
        safe_open(path, 'numpy') as file,
    ):
        description: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
        names = file.keys() if with_arrays else ()
        return {name: file.get_tensor(name) for name in names}, description


def under(state: Mapping[str, T], part: str) -> dict[str, T]:
    """Return the arrays whose names start with ``part.``, without it.

    Parameters
    ----------
    state
        Arrays (or tensors) by name.
    part
        The beginning of a name.
    """
    prefix = f'{part}.'
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def joined(parts: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Return the arrays of several parts, each after the name of its part: see :func:`under`."""
    return {f'{part}.{name}': x for part, state in parts.items() for name, x in state.items()}


def weights_of(network: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """Return the parameters and buffers of a network as arrays."""
    return {name: x.detach().cpu().numpy() for name, x in network.state_dict().items()}


def set_weights(network: nn.Module, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Give a network what :func:`weights_of` returned.

    Parameters
    ----------
    network
        Of the same build.
    weights
        Arrays by name.

    Raises
    ------
    RuntimeError
        If they are of another build.
    """
    import torch

    network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
