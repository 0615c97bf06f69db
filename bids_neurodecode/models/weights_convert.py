"""Published pickles of tensors, read as weights only and kept as safetensors."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from bids_neurodecode.errors import DataError
from bids_neurodecode.text import one_line

NOT_WEIGHTS = 'The file {file} cannot be converted: {reason}. It must hold tensors alone.'

_OWN_NAMES = {'pytorch_model.bin': 'model.safetensors'}
_PICKLES = frozenset({'pytorch_model.bin', 'diffusion_pytorch_model.bin'})


def safetensors_name(name: str) -> str:
    """Return the name under which a ``.bin`` is kept.

    Examples
    --------
    >>> safetensors_name('unet/diffusion_pytorch_model.bin'), safetensors_name('pytorch_model.bin')
    ('unet/diffusion_pytorch_model.safetensors', 'model.safetensors')
    """
    path = PurePosixPath(name)
    return path.with_name(_OWN_NAMES.get(path.name, f'{path.stem}.safetensors')).as_posix()


def is_pickle(name: str, required: tuple[str, ...]) -> bool:
    """Return whether a file is one that is kept as safetensors.

    Parameters
    ----------
    name
        Path of the file within its entry.
    required
        Files that the entry needs.
    """
    path = PurePosixPath(name)
    known = path.name in _PICKLES or safetensors_name(name) in required
    return path.suffix == '.bin' and known


def convert_pickle(file: Path) -> Path:
    """Write the tensors of a ``.bin`` as safetensors beside it, and remove it; nothing in it runs.

    Tensors of nested mappings are named by the path to them, with dots.

    Raises
    ------
    DataError
        If it holds anything but tensors.
    """
    import torch
    from safetensors.torch import save_file

    target = file.with_name(PurePosixPath(safetensors_name(file.name)).name)
    try:
        found = torch.load(file, map_location='cpu', weights_only=True)
        # tensors that share memory are written each
        tensors = {name: x.clone().contiguous() for name, x in _flat(found).items()}
        part = target.with_name(f'.{target.name}.part')
        save_file(tensors, part, metadata={'format': 'pt'})
    except Exception as error:  # torch raises what it likes for files that are none of its own
        raise DataError(NOT_WEIGHTS.format(file=file, reason=one_line(error))) from error
    part.replace(target)
    file.unlink()
    return target


def _flat(values: Any, before: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{before}{name}.')
        else:
            flat[f'{before}{name}'] = value
    return flat
