"""What the interfaces read and write: the formats that pass between nodes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.records import RunInput, read_as
from bids_neurodecode.bids.sink import write_image, write_text, write_volumes
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import load_image
from bids_neurodecode.tables import IDENTIFIERS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar('T')
NOT_PLAIN = 'A {kind} cannot be written as JSON.'
WRONG_FORM = (
    '{file} is not what this version of the program leaves there ({kind}, {what}). Run again with '
    '--clean-workdir.'
)
NO_COMMON_VOXEL = (
    'The brain masks of {n} run(s) have no voxel in common (first: {file}). Correct them, leave '
    'runs out with --run-label or --session-label, or give one mask for all with --mask.'
)


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV; identifiers stay text."""
    text = dict.fromkeys(IDENTIFIERS, str)
    return pd.read_csv(path, sep='\t', na_values=['n/a'], keep_default_na=False, dtype=text)


VOLUMES_AT_ONCE = 128


def load_series(run: RunInput, mask: VoxelMask) -> npt.NDArray[np.float32]:
    """Read the masked voxels of a run: (n_volumes, n_voxels), float32.

    Parameters
    ----------
    run
        Files and facts of one run.
    mask
        Voxels of the analysis.
    """
    return np.ascontiguousarray(mask.extract(load_volumes(run)))


def load_volumes(run: RunInput) -> npt.NDArray[np.float32]:
    """Read a whole run: (x, y, z, n_volumes), float32."""
    return np.asanyarray(load_image(run.bold).dataobj, dtype=np.float32)


def common_mask(runs: Sequence[RunInput]) -> VoxelMask:
    """Return the voxels that every run's brain mask holds.

    Raises
    ------
    DataError
        If there are none.
    """
    masks = [VoxelMask.load(run.mask) for run in runs]
    shared = np.logical_and.reduce([m.mask for m in masks])
    if not shared.any():
        raise DataError(NO_COMMON_VOXEL.format(n=len(masks), file=runs[0].mask))
    return replace(masks[0], mask=shared)


def save_map(path: Path, mask: VoxelMask, values: npt.ArrayLike, *, fill: float = 0.0) -> Path:
    """Write one value per voxel (or one row per volume) as NIfTI and return the path.

    Volumes are written some at a time: betas may be larger than memory.

    Parameters
    ----------
    path
        That is written.
    mask
        Voxels of the analysis.
    values
        Shape (n_voxels,) or (n_volumes, n_voxels).
    fill
        Value of voxels outside the mask.
    """
    rows = np.asanyarray(values)
    if rows.ndim == 1 or len(rows) <= VOLUMES_AT_ONCE or mask.space is not None:
        write_image(path, mask.image(rows, fill))
        return path
    parts = (
        mask.volume(rows[start : start + VOLUMES_AT_ONCE], fill)
        for start in range(0, len(rows), VOLUMES_AT_ONCE)
    )
    write_volumes(path, mask.image(rows[:1], fill), len(rows), parts)
    return path


def save_labels(path: Path, labels: npt.NDArray[Any], mask: VoxelMask) -> Path:
    """Write integer labels on the grid of a mask as a compressed NIfTI without a time in it.

    Parameters
    ----------
    path
        That is written.
    labels
        Whole numbers, (n_voxels,).
    mask
        Voxels of the analysis.
    """
    image = mask.labels_image(labels)
    with path.open('wb') as raw, gzip.GzipFile('', 'wb', 6, raw, mtime=0) as stream:
        stream.write(image.to_bytes())
    return path


def load_map(path: Path, mask: VoxelMask) -> npt.NDArray[np.float32]:
    """Read the masked voxels of a 3-D map: (n_voxels,).

    Parameters
    ----------
    path
        The map.
    mask
        Voxels of the analysis.
    """
    volume = np.asanyarray(load_image(path).dataobj, dtype=np.float32)
    return np.asarray(mask.extract(volume))


def load_regions(
    labels: Path | None, table: Path | None, mask: VoxelMask
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the voxels of each region of the atlas, (n_voxels,), where there is one.

    Parameters
    ----------
    labels
        Parcellation on the grid of the mask; None: no atlas.
    table
        Names of its parcels; None: no atlas.
    mask
        Voxels of the analysis.
    """
    if labels is None or table is None:
        return {}
    names = read_table(table).set_index('index')['name']
    codes = np.rint(load_map(labels, mask)).astype(int)
    return {
        str(name): codes == int(str(index))
        for index, name in names.items()
        if (codes == int(str(index))).any()
    }


def fold_voxels(
    within: npt.NDArray[np.bool_], n_folds: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the voxels that any fold uses, and those of each fold, (n_folds, n_voxels).

    Parameters
    ----------
    within
        Shape (n_voxels,), (1, n_voxels) where all folds use the same, or (n_folds, n_voxels).
    """
    each = np.broadcast_to(np.atleast_2d(within), (n_folds, within.shape[-1]))
    return np.asarray(each.any(axis=0)), np.asarray(each)


def save_json(path: Path, content: Mapping[str, object] | DataclassInstance) -> Path:
    """Write JSON and return the path.

    Parameters
    ----------
    path
        That is written.
    content
        What JSON can hold, or a record of it; arrays become lists.
    """
    write_text(path, json.dumps(content, indent=2, default=_plain))
    return path


def _plain(value: object) -> Any:
    """Return a value as JSON has it: numbers of NumPy as numbers, paths as text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(NOT_PLAIN.format(kind=type(value).__name__))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(path.read_text('utf-8'))
    return content


def read_record(kind: type[T], path: Path) -> T:
    """Read a record, a dataclass, that :func:`save_json` wrote.

    Parameters
    ----------
    kind
        The dataclass.
    path
        Its file.

    Raises
    ------
    DataError
        If a field is missing or of another type.
    """
    try:
        return read_as(kind, path.read_bytes())
    except ValueError as error:
        raise DataError(WRONG_FORM.format(file=path, kind=kind.__name__, what=error)) from error
