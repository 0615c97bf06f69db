"""Parcellations: labels on the grid of the data, voxels of named regions, means of parcels."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from bids_neurodecode.errors import DataError
from bids_neurodecode.spaces import WHERE, Space
from bids_neurodecode.typing import RealArray

LabelArray = npt.NDArray[np.int32]

NOT_LABELS = (
    'The atlas {source} is not a volume of whole, non-negative labels ({reason}). '
    'Give a dseg file, not a probabilistic one.'
)
BAD_TABLE = 'The table of the atlas needs the columns index and name; it has {columns}.'
REPEATED_INDEX = (
    'The table of the atlas names the index(es) {indices} more than once. Keep one row for each.'
)
BAD_AFFINE = 'An affine must be an invertible 4 x 4 matrix; this one is of shape {shape}.'
UNKNOWN_REGION = (
    'The atlas has no region or network called {name!r}{near}. It has {n} regions, such as '
    '{examples}. Fix atlas.regions.'
)
EMPTY_REGIONS = (
    'The region(s) {names} have no voxel on the grid of the data. The field of view may not cover '
    'them; choose others (atlas.regions).'
)
OTHER_FORM = (
    'The atlas {name} is {found}, the data are {data}. Give one in the form of the data '
    '(.label.gii of both hemispheres, .dlabel.nii), or "structures".'
)
WRONG_SHAPE = 'Labels of shape {labels} do not go with a series of shape {series}.'
NO_PARCELS = 'None of the voxels lies in a parcel of the atlas. Check the space of the data.'


@dataclass(frozen=True, eq=False)
class Atlas:
    """A parcellation in a standard space, and the names of its parcels.

    Attributes
    ----------
    labels
        Shape (x, y, z), int32; 0 is no parcel.
    affine
        Voxel-to-world matrix in mm.
    table
        Columns ``index``, ``name``, ``hemisphere`` (``L``, ``R`` or empty) and ``network`` (empty
        where the names do not say), sorted by index, without the background.
    name
        What the report calls it.
    space
        Identifier of the space, where it is known.
    warnings
        What the report should repeat.
    columns
        What the labels are of where they are of no volume: they are (n_columns, 1, 1) then.
    """

    labels: LabelArray
    affine: npt.NDArray[np.float64]
    table: pd.DataFrame = field(repr=False)
    name: str = 'atlas'
    space: str | None = None
    warnings: tuple[str, ...] = ()
    columns: Space | None = None

    def on_grid(self, shape: Sequence[int], affine: RealArray) -> LabelArray:
        """Return the labels on another grid (:func:`resample_labels`).

        Parameters
        ----------
        shape
            Of the other grid, (x, y, z).
        affine
            Of the other grid, (4, 4), in mm.
        """
        return resample_labels(self.labels, self.affine, shape, affine)

    def placed(self, shape: Sequence[int], affine: RealArray, space: Space | None) -> LabelArray:
        """Return the labels where data lie: on a grid, or at the columns of a space.

        Parameters
        ----------
        shape, affine
            Of the grid of the data; (n_columns, 1, 1) where they are of a space.
        space
            None for volumes.

        Raises
        ------
        DataError
            If one is a volume and the other is not, or the meshes differ.
        """
        if space is None and self.columns is None:
            return self.on_grid(shape, affine)
        if space is None or self.columns is None:
            what, data = (
                'a volume' if each is None else WHERE[each.form] for each in (self.columns, space)
            )
            raise DataError(OTHER_FORM.format(name=self.name, found=what, data=data))
        return space.carry(self.labels.ravel(), self.columns).reshape(tuple(shape))


class ParcelMeans(NamedTuple):
    """Mean series of parcels.

    ``values`` (n_samples, n_parcels), float32; ``ids`` (n_parcels,) the labels, ascending;
    ``n_voxels`` (n_parcels,) voxels averaged.
    """

    values: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    n_voxels: npt.NDArray[np.int64]


def as_labels(volume: npt.NDArray[Any], source: str = 'given') -> LabelArray:
    """Check that a volume holds labels, and return them as int32.

    Parameters
    ----------
    volume
        Shape (x, y, z) or (x, y, z, 1).
    source
        What it is called in a message.

    Raises
    ------
    DataError
        If the volume is not three-dimensional, or has fractions, colours, negative or missing
        values.
    """
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise DataError(NOT_LABELS.format(source=source, reason=f'its shape is {volume.shape}'))
    if volume.dtype.kind not in 'biuf':
        raise DataError(NOT_LABELS.format(source=source, reason='they are no whole numbers'))
    if not np.isfinite(volume).all() or volume.min() < 0:
        raise DataError(NOT_LABELS.format(source=source, reason='some are negative or missing'))
    labels = np.asarray(np.rint(volume), dtype=np.int32)
    if np.abs(labels - volume).max() > 1e-3:
        raise DataError(NOT_LABELS.format(source=source, reason='some are fractions'))
    return labels


def region_table(table: pd.DataFrame) -> pd.DataFrame:
    """Complete a table of regions by what the names say.

    Parameters
    ----------
    table
        With ``index`` and ``name`` (or ``label``); ``network`` and ``hemisphere`` are kept where
        they are there. Schaefer's names give both (``7Networks_LH_Vis_1``), others that have
        ``L``, ``R``, ``LH`` or ``RH`` between underscores the hemisphere.

    Returns
    -------
    pandas.DataFrame
        As in :class:`Atlas`; regions of one name bear their index behind it, those without one
        their index alone.

    Raises
    ------
    DataError
        If columns are missing or an index is there twice.
    """
    columns = list(table.columns)
    if 'name' not in columns and 'label' in columns:
        table = table.rename(columns={'label': 'name'})
    if 'index' not in table.columns or 'name' not in table.columns:
        raise DataError(BAD_TABLE.format(columns=', '.join(map(str, columns))))
    table = table[table['index'] != 0].sort_values('index').reset_index(drop=True)
    twice = table.loc[table['index'].duplicated(), 'index']
    if len(twice):
        raise DataError(REPEATED_INDEX.format(indices=', '.join(map(str, twice))))
    names = table['name'].fillna(table['index']).astype(str)
    while names.duplicated().any():  # names are columns, and keys of scores
        twins = names.duplicated(keep=False)
        names = names.where(~twins, names + ' (' + table['index'].astype(str) + ')')
    given = {c: table[c].fillna('').astype(str) for c in ('hemisphere', 'network') if c in table}
    return table[['index']].assign(
        name=names,
        hemisphere=given.get('hemisphere', names.map(_hemisphere)),
        network=given.get('network', names.map(_network)),
    )


def _hemisphere(name: str) -> str:
    sides = {'L': 'L', 'LH': 'L', 'R': 'R', 'RH': 'R'}
    return next((sides[part] for part in name.split('_') if part in sides), '')


def _network(name: str) -> str:
    parts = name.split('_')
    is_schaefer = len(parts) > 2 and parts[0].endswith('Networks') and parts[1] in {'LH', 'RH'}
    return parts[2] if is_schaefer else ''


def resample_labels(
    labels: npt.NDArray[np.integer[Any]],
    source_affine: RealArray,
    target_shape: Sequence[int],
    target_affine: RealArray,
) -> LabelArray:
    """Put labels on another grid: each target voxel gets the label at its centre's coordinates.

    Parameters
    ----------
    labels
        Shape (x, y, z).
    source_affine, target_affine
        Voxel-to-world matrices, mm. Orientation and resolution may differ; the space may not.
    target_shape
        Shape of the target grid (its first three dimensions).

    Returns
    -------
    numpy.ndarray
        Shape ``target_shape``, int32; 0 outside of the source.

    Raises
    ------
    DataError
        If an affine cannot be inverted.
    """
    from scipy import ndimage

    source, target = np.asarray(source_affine, float), np.asarray(target_affine, float)
    for affine in (source, target):
        if affine.shape != (4, 4) or abs(np.linalg.det(affine)) < 1e-12:
            raise DataError(BAD_AFFINE.format(shape=affine.shape))
    to_source = np.linalg.solve(source, target)
    # affines are stored in single precision: without rounding, centres that fall between two
    # voxels would go to either side by chance
    to_source = np.round(to_source, 5)
    out: LabelArray = ndimage.affine_transform(
        np.asarray(labels, dtype=np.int32),
        to_source[:3, :3],
        to_source[:3, 3],
        output_shape=tuple(target_shape[:3]),
        order=0,
        mode='grid-constant',
        cval=0,
    )
    return out


def find_regions(table: pd.DataFrame, regions: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of the parcels that each region or network names.

    A name selects the parcel that is called so, else the parcels of the network or hemisphere
    called so, else those whose names have it between underscores (``Vis`` and ``LH_Vis`` select
    ``7Networks_LH_Vis_1``; ``Calcarine`` selects ``Calcarine_L_47``).

    Parameters
    ----------
    table
        One row per parcel: ``index``, ``name``, ``network`` and ``hemisphere``.
    regions
        Names that were asked for.

    Raises
    ------
    DataError
        For a name that selects nothing, with the nearest names there are.
    """
    names = table['name'].astype(str)
    found = {}
    for region in regions:
        chosen = names == region
        if not chosen.any() and region:
            chosen = (table['network'] == region) | (table['hemisphere'] == region)
        if not chosen.any() and not region.replace('_', '').isdigit():
            chosen = names.map(lambda name, part=region: f'_{part}_' in f'_{name}_')
        if not chosen.any():
            raise DataError(_unknown(region, table))
        found[region] = table.loc[chosen, 'index'].astype(int).tolist()
    return found


def _unknown(region: str, table: pd.DataFrame) -> str:
    names = table['name'].astype(str).tolist()
    parts = {part for name in names for part in name.split('_') if not part.isdigit()}
    known = {name.lower(): name for name in sorted({*names, *parts, *table['network']}) if name}
    near = difflib.get_close_matches(region.lower(), known, n=3, cutoff=0.5)
    return UNKNOWN_REGION.format(
        name=region,
        near=f' (near: {", ".join(known[match] for match in near)})' if near else '',
        n=len(names),
        examples=', '.join(names[:3]),
    )


def region_mask(
    labels: npt.NDArray[np.integer[Any]], table: pd.DataFrame, regions: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Return the voxels of regions or networks.

    Parameters
    ----------
    labels
        Labels on the grid of the data, any shape.
    table
        :func:`region_table`.
    regions
        As :func:`find_regions` takes them.

    Returns
    -------
    numpy.ndarray
        Boolean, of the shape of ``labels``.

    Raises
    ------
    DataError
        For an unknown region, or if no voxel on the grid lies in any.
    """
    indices = [index for group in find_regions(table, regions).values() for index in group]
    mask = np.isin(labels, indices)
    if not mask.any():
        raise DataError(EMPTY_REGIONS.format(names=', '.join(regions)))
    return mask


def parcel_means(series: RealArray, labels: npt.NDArray[np.integer[Any]]) -> ParcelMeans:
    """Average the voxels of each parcel.

    Parameters
    ----------
    series
        Shape (n_samples, n_voxels). Voxels with a value that is not finite are left out.
    labels
        Shape (n_voxels,); 0 is no parcel.

    Returns
    -------
    ParcelMeans
        Columns only for parcels that have voxels.

    Raises
    ------
    DataError
        If shapes do not fit or no voxel lies in a parcel.
    """
    series, labels = np.asanyarray(series), np.asarray(labels)
    if series.ndim != 2 or labels.shape != (series.shape[1],):
        raise DataError(WRONG_SHAPE.format(labels=labels.shape, series=series.shape))
    usable = np.isfinite(series).all(axis=0) & (labels != 0)
    present, codes, counts = np.unique(labels[usable], return_inverse=True, return_counts=True)
    if not present.size:
        raise DataError(NO_PARCELS)
    weights = sparse.csr_array(
        (1.0 / counts[codes], (codes, np.arange(len(codes)))), shape=(len(present), len(codes))
    )
    values = (weights @ series[:, usable].T).T.astype(np.float32)
    return ParcelMeans(values, present.astype(np.int64), counts.astype(np.int64))
