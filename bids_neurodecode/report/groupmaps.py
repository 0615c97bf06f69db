"""Maps of several participants: column by column where they share a space, else by region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.maps import MAPS, maps_of
from bids_neurodecode.evaluation.paired import paired_difference
from bids_neurodecode.evaluation.statistics import fdr
from bids_neurodecode.report.results import ParticipantResults
from bids_neurodecode.report.section_signal import analysis_mask, load_map, region_names
from bids_neurodecode.spaces import Space, is_native, like, space_of
from bids_neurodecode.tables import column_texts

OF_CHANCE_0 = frozenset(key for key in maps_of('score') if MAPS[key].symmetric)
"""Maps whose chance level is 0, about which they are symmetric: they are tested."""
BY_REGION = maps_of('score', 'share', 'ceiling')
"""Maps that are averaged by region, the foremost first."""
SCORES = maps_of('score', 'share')
"""Maps of how well a model does: 0 where nothing was judged (outside of a selection, no variance).

A score that was judged is never exactly 0, but where all predictions of a voxel are the same. In
ceilings and signal-to-noise ratios 0 is a value: no reliable response.
"""


@dataclass(frozen=True, eq=False)
class Stack:
    """A map of several participants, column by column.

    Parameters
    ----------
    image
        Of the first participant: where the columns lie.
    values
        Shape (n_participants, x, y, z), float32; NaN where a participant has no such column.
    """

    image: nib.Nifti1Image
    values: npt.NDArray[np.float32]

    @property
    def count(self) -> npt.NDArray[np.int32]:
        """How many participants have each column, (x, y, z)."""
        return np.asarray(np.isfinite(self.values).sum(axis=0), dtype=np.int32)

    def mean(self, least: int) -> npt.NDArray[np.float32]:
        """Return the mean over those who have a column, (x, y, z); 0 where fewer than least do."""
        count = self.count
        total = np.nansum(self.values, axis=0, dtype=np.float64)
        mean = np.divide(total, count, out=np.zeros(count.shape), where=count >= max(1, least))
        return mean.astype(np.float32)


class Chosen(NamedTuple):
    """Whose maps are put together (``participants``), of them or others ``n_seen`` in training.

    ``tested``: whether there are intervals and tests; ``note``: what a reader should know of it.
    """

    participants: list[ParticipantResults]
    n_seen: int = 0
    tested: bool = True
    note: str = ''


def choose_held_out(participants: Sequence[ParticipantResults], key: str) -> Chosen:
    """Leave out who was scored on what trained the model, where two others or more are left.

    Parameters
    ----------
    participants
        Who have the map.
    key
        Of the map.

    Returns
    -------
    Chosen
        With fewer than two others all participants, and no test.
    """
    having = list(participants)
    held_out = [each for each in having if not each.leaks]
    n = len(having) - len(held_out)
    if key not in SCORES or not n:
        return Chosen(having)
    seen = f' {n} of {len(having)} participants were scored on data that trained their model'
    if len(held_out) > 1:
        return Chosen(held_out, n, note=f'{seen} and are left out.')
    return Chosen(having, n, tested=False, note=f'{seen}: there is no interval and no test.')


def stack_maps(participants: Sequence[ParticipantResults], key: str) -> Stack | None:
    """Put a map of all participants on each other, nothing resampled.

    Parameters
    ----------
    participants
        Who all have it.
    key
        Of the map.

    Returns
    -------
    Stack or None
        None where grids or meshes differ, or are of one participant each. Parcels and
        grayordinates are matched by what they are: those of the first participant are kept.
    """
    if any(is_native(each.space) for each in participants):
        return None
    first = load_map(participants[0].maps[key])
    target = space_of(first)
    stacked = []
    for results in participants:
        image = load_map(results.maps[key])
        inside = _inside(results, key, image.shape)
        if inside is None:
            return None
        values = np.where(inside, np.asarray(image.dataobj, dtype=np.float32), np.nan)
        own = space_of(image)
        if target is None or own is None:
            same = target is own and image.shape == first.shape
            if not (same and np.allclose(image.affine, first.affine)):
                return None
        elif not target.same_as(own):
            if not _matched(target, own):
                return None
            there = target.carry(np.ones(own.n_columns), own) > 0
            carried = target.carry(values.ravel(), own)
            values = np.where(there, carried, np.nan).astype(np.float32).reshape(first.shape)
        stacked.append(values)
    return Stack(first, np.stack(stacked))


def _inside(
    results: ParticipantResults, key: str, shape: Sequence[int]
) -> npt.NDArray[np.bool_] | None:
    """Return where a map of a participant has values; a model judges some voxels only."""
    mask = analysis_mask(results)
    if mask is None or mask.shape != tuple(shape):
        return None
    inside = np.asarray(mask.dataobj) > 0
    encoding = results.encoding
    predicted = encoding is not None and key in encoding.maps and encoding.voxels.exists()
    if encoding is not None and predicted:
        inside &= np.asarray(load_map(encoding.voxels).dataobj) > 0
    if key == 'noisenormalized' or (key in SCORES and not predicted):
        inside &= _not_zero(results, key)
    return np.asarray(inside)


def _not_zero(results: ParticipantResults, key: str) -> npt.NDArray[np.bool_]:
    """Return where a map is not 0, or is 0 as a negative r squared beside a ceiling that is known.

    The least ceiling of the voxels with a value stands for the threshold of the ceiling.
    """
    values = np.asarray(load_map(results.maps[key]).dataobj)
    known = values != 0
    own = {} if results.encoding is None else results.encoding.maps
    file = own.get('noiseceiling') or results.maps.get('noiseceiling')
    if key == 'noisenormalized' and file is not None and file.exists() and known.any():
        ceiling = np.asarray(load_map(file).dataobj)
        if ceiling.shape == values.shape:
            known |= ceiling >= ceiling[known].min()
    return np.asarray(known)


def _matched(target: Space, other: Space) -> bool:
    """Whether columns of two spaces that differ are known by name, or lie on the same meshes."""
    if target.form != other.form or target.label != other.label:
        return False
    meshes = (getattr(space.axis, 'nvertices', {}) for space in (target, other))
    return next(meshes) == next(meshes)


def mean_map(
    participants: Sequence[ParticipantResults], key: str
) -> tuple[nib.Nifti1Image, nib.Nifti1Image] | None:
    """Average a map over participants, in the voxels that the masks of all of them hold.

    Parameters
    ----------
    participants
        Records with the map.
    key
        Of the map.

    Returns
    -------
    tuple or None
        The mean and those voxels; None where grids differ or no voxel is shared.
    """
    stack = stack_maps(participants, key)
    if stack is None:
        return None
    shared = stack.count == len(participants)
    if not shared.any():
        return None
    mean = stack.mean(len(participants))
    return like(stack.image, mean), like(stack.image, shared.astype(np.uint8))


def region_values(results: ParticipantResults, key: str) -> dict[str, tuple[float, int]]:
    """Return the median of a map over the voxels of each region, and their number, by name.

    Parameters
    ----------
    results
        Of a participant: regions are those of the atlas on the own grid, or the parcels.
    key
        Of the map.
    """
    if key not in results.maps or not results.maps[key].exists():
        return {}
    image = load_map(results.maps[key])
    values = np.asarray(image.dataobj, dtype=np.float64)
    inside = _inside(results, key, values.shape)
    if inside is None:
        return {}
    inside &= np.isfinite(values)
    space = space_of(image)
    if space is not None and space.form in {'parcels', 'pcifti'}:
        names = [str(name) for name in space.axis.name]
        return {
            name: (float(value), 1)
            for name, value, known in zip(names, values.ravel(), inside.ravel(), strict=True)
            if known
        }
    if 'dseg' not in results.maps or not results.maps['dseg'].exists():
        return {}
    labels = np.asarray(load_map(results.maps['dseg']).dataobj)
    if labels.shape != values.shape:
        return {}
    named = region_names(results.maps['dseg'])
    found = {}
    for label in np.unique(labels[(labels > 0) & inside]):
        own = values[inside & (labels == label)]
        found[named.get(int(label), f'region {int(label)}')] = (float(np.median(own)), own.size)
    return found


def region_table(participants: Sequence[ParticipantResults]) -> pd.DataFrame:
    """Average maps over participants region by region, in whatever space each of them is.

    Parameters
    ----------
    participants
        With an atlas of the same names of regions, or parcels of the same names.

    Returns
    -------
    pandas.DataFrame
        One row per map and region that two participants or more have (``group_regions`` of
        ``data/columns.toml``).
    """
    rows: list[dict[str, Any]] = []
    for key in BY_REGION:
        having = [results for results in participants if key in results.maps]
        chosen = choose_held_out(having, key)
        found = [region_values(results, key) for results in chosen.participants]
        own = []
        for name in dict.fromkeys(name for each in found for name in each):
            values = [each[name] for each in found if name in each]
            if len(values) > 1:
                row = _over_participants(key, values, chosen.tested)
                own.append({'map': key, 'region': name, **row})
        adjusted = fdr([row['p'] for row in own])
        rows += [row | {'p_fdr': float(p)} for row, p in zip(own, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(column_texts('group_regions')))


def _over_participants(
    key: str, values: Sequence[tuple[float, int]], tested: bool
) -> dict[str, Any]:
    medians = np.array([value for value, _ in values])
    # the same table from the same maps
    test = paired_difference(medians, np.zeros(len(medians)), rng=np.random.default_rng(0))
    return {
        'n': len(values),
        'n_voxels': float(np.median([n for _, n in values])),
        'mean': float(medians.mean()),
        'sd': float(medians.std(ddof=1)),
        'ci_low': test.low if tested else math.nan,
        'ci_high': test.high if tested else math.nan,
        'p': test.p if tested and key in OF_CHANCE_0 else math.nan,
    }
