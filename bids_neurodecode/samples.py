"""Responses, the stimuli they belong to, and splits that cannot leak.

``Responses`` are samples x voxels with the mask that turns a row back into a volume. ``Samples``
pair them with a table (one row per sample). A ``Split`` holds checked folds; only
:meth:`Samples.fold` cuts samples by one, so training and test samples are different objects and
what is fitted never holds the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import blocks, group_sums, room, rows_of
from bids_neurodecode.spaces import Space, load_image, space_of
from bids_neurodecode.typing import IndexArray

By = Literal[
    'run', 'session', 'stimulus', 'cluster', 'category', 'film', 'time', 'given', 'imagery',
    'imagery-unseen',
]  # fmt: skip

BAD_MASK = (
    'A mask must be three-dimensional and hold at least one voxel; this one is {shape} with {n}.'
)
BAD_VALUES = (
    'Responses must be samples x voxels with {expected} voxels of the mask; these are {shape}.'
)
BAD_TABLE = (
    'The table of samples has {rows} rows for {samples} responses; they must be one to one.'
)
MISSING_COLUMN = 'The table of samples lacks the column(s) {columns}.'
MISSING_VALUE = (
    'The {column} of {n} sample(s) is missing. Every sample needs one, or leave it out.'
)
BAD_ROWS = 'Fold {fold} names samples that are not there (from 0 to {last}).'
NOT_ROWS = (
    'A fold holds row numbers (integers); these are {dtype}. Use numpy.flatnonzero on a mask.'
)
EMPTY_PART = 'Fold {fold} has no {part} samples. Hold out less, or use fewer folds.'
OVERLAP = 'Fold {fold} has {n} samples in both {a} and {b}; a sample has one place only.'
LEAK = (
    'Fold {fold} has {n} {group}(s) in both training and test (first: {first}). '
    'Split by {group}, or by run or session and say so.'
)
TOO_FEW = 'Cannot make {n_folds} folds of {n} {group}(s). Ask for {n} folds or fewer.'
NEEDS_TWO = 'A split by {group} needs at least two of them; there is {n}. Choose another split.'
NO_TRAINING_TIME = (
    'Blocks in time leave no training samples: a gap of {gap:g} s around a test share of '
    '{share:g} is too much for {n} samples. Shorten the gap.'
)


BY_CONTENT = frozenset({'stimulus', 'cluster', 'category', 'imagery-unseen'})
"""Splits that keep stimuli of the same content on one side."""
COLUMNS = 8192
"""Voxels that are worked on together."""
FormCodes = tuple[int, int]
"""NIfTI codes of ``qform`` and ``sform``."""
ALIGNED: FormCodes = (0, 2)
MASK_ARRAYS = ('mask', 'affine', 'codes', 'space')
"""Names of the arrays of :meth:`VoxelMask.state`."""


def form_codes(image: nib.Nifti1Image) -> FormCodes:
    """Return the codes of an image that another one on its grid may carry.

    That of a ``qform`` which disagrees with the affine (the scanner's beside MNI's ``sform``) is
    0: one affine cannot be both.
    """
    header = image.header
    q, s = int(header['qform_code']), int(header['sform_code'])
    if q and s and not np.allclose(header.get_qform(), image.affine, atol=1e-3):
        q = 0
    return (q, s) if q or s else ALIGNED


def set_codes(image: nib.Nifti1Image, codes: FormCodes) -> nib.Nifti1Image:
    """Write form codes, and the units mm and s, into an image; return it.

    Parameters
    ----------
    image
        It is changed in place.
    codes
        Codes of qform and sform (NIfTI's: 1 scanner, 2 aligned, 3 Talairach, 4 MNI, ...).
    """
    q, s = codes
    image.header.set_xyzt_units('mm', 'sec')
    image.set_qform(image.affine, q)
    image.set_sform(image.affine, s)  # it keeps shears, which a qform cannot
    return image


@dataclass(frozen=True, eq=False)
class VoxelMask:
    """Which voxels of a grid make the columns of a matrix.

    Parameters
    ----------
    mask
        Boolean array of shape (x, y, z) with at least one true voxel.
    affine
        Voxel-to-world matrix in mm, shape (4, 4).
    codes
        NIfTI codes of what the world is, by ``qform`` and ``sform`` (1 the scanner's, 2 another
        image's, 3 Talairach's, 4 MNI's), written into the images that are made.
    space
        What the columns are where they are no voxels of a grid (a surface, CIFTI, parcels): the
        mask is then of shape (n_columns, 1, 1), and the affine says nothing.
    """

    mask: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]
    codes: FormCodes = ALIGNED
    space: Space | None = None

    def __post_init__(self) -> None:
        n = int(np.count_nonzero(self.mask))
        if self.mask.ndim != 3 or self.mask.dtype != np.bool_ or n == 0:
            raise DataError(BAD_MASK.format(shape=self.mask.shape, n=n))

    @property
    def n_voxels(self) -> int:
        """Number of true voxels."""
        return int(np.count_nonzero(self.mask))

    def volume(self, row: npt.ArrayLike, fill: float = 0.0) -> npt.NDArray[np.float32]:
        """Put values of shape (n_voxels,) or (n_samples, n_voxels) back on the grid.

        Parameters
        ----------
        row
            Values of the voxels, in their order.
        fill
            Value of voxels outside the mask.

        Returns
        -------
        numpy.ndarray
            Shape (x, y, z) or (x, y, z, n_samples), float32, ``fill`` outside the mask.

        Raises
        ------
        DataError
            If there is not one value per voxel.
        """
        values = np.asarray(row)
        if values.shape[-1] != self.n_voxels:
            raise DataError(BAD_VALUES.format(expected=self.n_voxels, shape=values.shape))
        shape = self.mask.shape + values.shape[:-1]
        out = np.full(shape, fill, dtype=np.float32)
        out[self.mask] = values.T
        return out

    def image(self, row: npt.ArrayLike, fill: float = 0.0) -> nib.Nifti1Image:
        """Return :meth:`volume` as a NIfTI image (mm, s), with the space of its columns.

        Parameters
        ----------
        row
            Values of the voxels, (n_voxels,) or (n_samples, n_voxels).
        fill
            Value of voxels outside the mask.
        """
        if self.space is not None:
            return self.space.image(self.volume(row, fill))
        image = nib.Nifti1Image(self.volume(row, fill), self.affine)
        return set_codes(image, self.codes)

    def extract(self, volumes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take the masked voxels of (x, y, z) or (x, y, z, n): (n_voxels,) or (n, n_voxels)."""
        return np.ascontiguousarray(volumes[self.mask].T)

    def restrict(self, keep: npt.NDArray[np.bool_]) -> VoxelMask:
        """Return the mask of the voxels kept, ``keep`` being of shape (n_voxels,)."""
        if keep.shape != (self.n_voxels,):
            raise DataError(BAD_VALUES.format(expected=self.n_voxels, shape=keep.shape))
        mask = np.zeros_like(self.mask)
        mask[self.mask] = keep
        return replace(self, mask=mask)

    def same_grid(self, other: VoxelMask) -> bool:
        """Whether columns of both lie on one grid (to .001 mm), or are of one space."""
        if self.space is not None or other.space is not None:
            return self.space is not None and self.space.same_as(other.space)
        same = self.mask.shape == other.mask.shape
        return same and bool(np.allclose(self.affine, other.affine, atol=1e-3))

    def labels_image(self, labels: npt.NDArray[Any]) -> nib.Nifti1Image:
        """Return integers on the whole grid, of the mask's shape, as an image."""
        if self.space is not None:
            return self.space.image(labels.astype(np.int32))
        return set_codes(nib.Nifti1Image(labels.astype(np.int32), self.affine), self.codes)

    def save(self, path: Path) -> None:
        """Write the mask as a NIfTI of 0 and 1."""
        values = self.mask.astype(np.uint8)
        if self.space is not None:
            self.space.image(values).to_filename(path)
            return
        set_codes(nib.Nifti1Image(values, self.affine), self.codes).to_filename(path)

    @classmethod
    def load(cls, path: Path) -> VoxelMask:
        """Read a mask; every voxel above 0 is in it."""
        image = load_image(path)
        return cls.of(image, np.asanyarray(image.dataobj) > 0)

    @classmethod
    def of(cls, image: Any, inside: npt.NDArray[np.bool_]) -> VoxelMask:
        """Return the mask of voxels, (x, y, z), of an image.

        Parameters
        ----------
        image
            Gives affine, form codes and space.
        inside
            Which voxels, (x, y, z).
        """
        affine = np.asarray(image.affine, dtype=np.float64)
        return cls(inside, affine, form_codes(image), space_of(image))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by which a saved model knows its voxels."""
        arrays: dict[str, npt.NDArray[Any]] = {
            'mask': self.mask.astype(np.uint8),
            'affine': np.asarray(self.affine),
            'codes': np.asarray(self.codes),
        }
        if self.space is not None:
            arrays['space'] = np.frombuffer(self.space.to_bytes(), dtype=np.uint8).copy()
        return arrays

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> VoxelMask:
        """Return the voxels that a model was saved with; models of before lack the form codes."""
        q, s = (int(code) for code in arrays.get('codes', ALIGNED))
        xml = arrays.get('space')
        space = None if xml is None else Space.from_bytes(np.asarray(xml).tobytes())
        return cls(arrays['mask'].astype(bool), arrays['affine'], (q, s), space)


@dataclass(frozen=True, eq=False)
class Responses:
    """Samples x voxels, on disk or in memory, with the mask that turns rows into volumes."""

    values: npt.NDArray[np.float32]
    mask: VoxelMask

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != self.mask.n_voxels:
            raise DataError(
                BAD_VALUES.format(expected=self.mask.n_voxels, shape=self.values.shape)
            )

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return int(self.values.shape[0])

    def save(self, values_path: Path, mask_path: Path) -> None:
        """Write the values as ``.npy`` and the mask as NIfTI.

        Parameters
        ----------
        values_path
            Of the ``.npy``, (n_samples, n_voxels), float32.
        mask_path
            Of the NIfTI.
        """
        np.save(values_path, np.asarray(self.values, dtype=np.float32))
        self.mask.save(mask_path)

    @classmethod
    def load(cls, values_path: Path, mask_path: Path) -> Responses:
        """Map the values into memory (read only) and read the mask.

        Parameters
        ----------
        values_path, mask_path
            As :meth:`save` wrote them.
        """
        return cls(
            np.load(values_path, mmap_mode='r', allow_pickle=False), VoxelMask.load(mask_path)
        )


class Parts(NamedTuple):
    """One fold: fit on ``train``, stop early on ``validation``, judge on ``test``."""

    train: Samples
    validation: Samples | None
    test: Samples


@dataclass(frozen=True, eq=False)
class Samples:
    """Responses and what was seen, one row of ``table`` a row of ``responses``.

    ``table`` has at least the columns ``stimulus`` (an identifier) and ``run``; ``session``,
    ``film``, ``onset`` (seconds in the run, or in the film) and ``trial_type`` where they are
    known. ``content`` names the first of the stimuli that show the same, where any do.
    """

    responses: Responses
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if len(self.table) != self.responses.n_samples:
            raise DataError(
                BAD_TABLE.format(rows=len(self.table), samples=self.responses.n_samples)
            )
        _need(self.table, ('stimulus', 'run'))

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.responses.n_samples

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The responses, (n_samples, n_voxels)."""
        return self.responses.values

    def take(self, rows: npt.ArrayLike, keep: npt.NDArray[np.bool_] | None = None) -> Samples:
        """Return the samples at these row numbers, in their order.

        Parameters
        ----------
        rows
            Shape (n,).
        keep
            Voxels that are kept, (n_voxels,); all if left out.
        """
        index = np.asarray(rows, dtype=np.intp)
        mask, values = self.responses.mask, self.values
        if keep is not None and keep.all():
            keep = None
        mask = mask if keep is None else mask.restrict(keep)
        out = rows_of(values, index, values, keep)
        return Samples(Responses(out, mask), self.table.iloc[index].reset_index(drop=True))

    def voxels(self, keep: npt.NDArray[np.bool_]) -> Samples:
        """Return the samples with only the voxels kept, ``keep`` of shape (n_voxels,)."""
        if keep.all():
            return self
        return replace(self.take(np.arange(self.n_samples), keep), table=self.table)

    def fold(self, fold: Fold, keep: npt.NDArray[np.bool_] | None = None) -> Parts:
        """Cut the samples by a checked fold: the one way from all samples to training and test.

        Parameters
        ----------
        fold
            Row numbers.
        keep
            Voxels that are kept, (n_voxels,); all if left out.
        """
        _check_fold(0, fold, self.n_samples)
        return Parts(
            self.take(fold.train, keep),
            self.take(fold.validation, keep) if fold.validation.size else None,
            self.take(fold.test, keep),
        )

    def averaged(self) -> Samples:
        """Average the repeats: one row per stimulus, in order of first appearance."""
        codes, first = _codes(self.table['stimulus'])
        counts = np.bincount(codes)
        table = self.table.iloc[first].reset_index(drop=True).assign(n_repeats=counts)
        means = room(self.values, (len(first), self.values.shape[1]))
        for part in blocks(means.shape[1], len(first), COLUMNS):
            sums = group_sums(self.values[:, part], codes, len(first))
            means[:, part] = sums / counts[:, None]
        return Samples(Responses(means, self.responses.mask), table)


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of training, validation and test samples; only validation may be empty."""

    train: IndexArray
    test: IndexArray
    validation: IndexArray = field(default_factory=lambda: np.empty(0, dtype=np.intp))

    def __post_init__(self) -> None:
        for part in ('train', 'test', 'validation'):
            rows = np.asarray(getattr(self, part))
            if rows.size and rows.dtype.kind not in 'iu':
                raise DataError(NOT_ROWS.format(dtype=rows.dtype))
            rows = rows.astype(np.intp)  # a copy: what was checked cannot change
            rows.setflags(write=False)
            object.__setattr__(self, part, rows)


@dataclass(frozen=True, eq=False)
class Split:
    """Folds that were checked against the table they cut.

    Parameters
    ----------
    by
        What is kept whole: no value of this column is on both sides of any fold. For ``run`` and
        ``session`` the same stimulus may be on both sides (``repeats_cross`` is then true, and
        the report says what the score means); for every other it may not. ``time`` splits
        samples of one film in blocks; a moment that is shown twice is one stimulus. ``given``:
        the dataset (or a file) says which sample is of which part. ``imagery``: the same, test
        samples are imagined and may be of stimuli that were seen in training;
        ``imagery-unseen``: and of none of these. By ``stimulus``, ``cluster``, ``category`` and
        ``imagery-unseen``, stimuli of the same content (column ``content``) are kept whole too.
    folds
        One or more folds.
    table
        The table of samples that the folds index.
    name
        The published protocol that this is; made from ``by`` and the folds if empty.
    """

    by: By
    folds: tuple[Fold, ...]
    table: pd.DataFrame = field(repr=False)
    name: str = ''

    def __post_init__(self) -> None:
        whole: list[str] = []
        if self.by not in {'time', 'given', 'imagery', 'imagery-unseen'}:
            whole.append(self.by)
        if self.by not in {'run', 'session', 'stimulus', 'imagery'}:
            whole.append('stimulus')
        if self.by in BY_CONTENT and 'content' in self.table.columns:
            whole.append('content')
        coded: dict[str, tuple[IndexArray, list[int]]] = {}
        for number, fold in enumerate(self.folds):
            _check_fold(number, fold, len(self.table))
            for column in whole:
                if column not in coded:
                    _need(self.table, (column,))
                    coded[column] = _codes(self.table[column])
                self._check_group(number, fold, column, *coded[column])

    def _check_group(
        self, number: int, fold: Fold, column: str, codes: IndexArray, first: list[int]
    ) -> None:
        seen, tested = np.zeros((2, len(first)), dtype=np.bool_)
        seen[codes[fold.train]] = seen[codes[fold.validation]] = True
        tested[codes[fold.test]] = True
        if (seen & tested).any():
            values = self.table[column].to_numpy()[first]
            shared = sorted(values[seen & tested], key=str)
            raise DataError(LEAK.format(fold=number, n=len(shared), group=column, first=shared[0]))

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    @property
    def repeats_cross(self) -> bool:
        """Whether some stimulus has repeats on both sides of a fold.

        Where whole runs or sessions are held out, a copy under another name is a repeat.
        """
        column = content_column(self.table) if self.by in {'run', 'session'} else 'stimulus'
        stimuli = self.table[column].to_numpy()
        return any(set(stimuli[f.train]) & set(stimuli[f.test]) for f in self.folds)

    @property
    def copies_across(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a test stimulus and a training stimulus of another name that shows the same."""
        if 'content' not in self.table.columns:
            return ()
        names = self.table['stimulus'].astype(str).to_numpy()
        content = self.table['content'].astype(str).to_numpy()
        pairs: dict[tuple[str, str], None] = {}
        for fold in self.folds:
            seen = np.concatenate([fold.train, fold.validation])
            for test in dict.fromkeys(names[fold.test]):
                same = seen[content[seen] == content[names == test][0]]
                pairs |= {(test, name): None for name in names[same] if name != test}
        return tuple(pairs)

    @property
    def protocol(self) -> str:
        """The name under which scores of this split are reported."""
        if self.name:
            return self.name
        kind = 'leave-one-out' if self._leaves_one_out() else f'{len(self)}-fold'
        if len(self) == 1:
            kind = 'hold-out'
        return f'{kind}-by-{self.by}'

    def _leaves_one_out(self) -> bool:
        if self.by in {'time', 'given', 'imagery', 'imagery-unseen'}:
            return False
        column = content_column(self.table) if self.by == 'stimulus' else self.by
        return len(self) == self.table[column].nunique()

    def to_table(self) -> pd.DataFrame:
        """Return the part of each sample in each fold: columns ``fold``, ``sample``, ``part``."""
        rows = [
            (number, int(sample), part)
            for number, fold in enumerate(self.folds)
            for part in ('train', 'validation', 'test')
            for sample in getattr(fold, part)
        ]
        return pd.DataFrame(rows, columns=['fold', 'sample', 'part'])

    @classmethod
    def from_table(cls, by: By, parts: pd.DataFrame, table: pd.DataFrame, name: str = '') -> Split:
        """Rebuild (and check again) what :meth:`to_table` wrote.

        Parameters
        ----------
        by
            What was held out.
        parts
            One row per sample of a part: ``fold``, ``part``, ``sample``.
        table
            One row per sample, which the row numbers mean.
        name
            Of a published split.

        Raises
        ------
        DataError
            If a fold leaks, or names samples that are not there.
        """
        folds = []
        for _, rows in parts.groupby('fold', sort=True):
            index = {
                part: rows.loc[rows['part'] == part, 'sample'].to_numpy(dtype=np.intp)
                for part in ('train', 'validation', 'test')
            }
            folds.append(Fold(**index))
        return cls(by, tuple(folds), table, name)


def content_column(table: pd.DataFrame) -> str:
    """Return the column that tells stimuli apart: by content where that is known."""
    return 'content' if 'content' in table.columns else 'stimulus'


def contents(names: Iterable[Any], *tables: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Return of each stimulus the first name, in the order of text, that shows the same.

    Parameters
    ----------
    names
        Of stimuli; those that no table holds go by their own names.
    tables
        One row per sample, with ``stimulus`` and, where some show the same, ``content``. What one
        table (of a participant) knows to be the same is the same in all.

    Returns
    -------
    numpy.ndarray
        Shape (n_names,).
    """
    first: dict[str, str] = {}

    def of(name: str) -> str:
        while name in first:
            name = first[name]
        return name

    for table in tables:
        if 'content' not in table.columns:
            continue
        for pair in table[['stimulus', 'content']].astype(str).drop_duplicates().to_numpy():
            low, high = sorted(of(name) for name in pair)
            if low != high:
                first[high] = low
    return np.array([of(str(name)) for name in names], dtype=np.str_)


def relabelled(table: pd.DataFrame, names: npt.NDArray[Any]) -> pd.DataFrame:
    """Give samples other stimuli of the same table, whose contents go with them.

    Parameters
    ----------
    table
        One row per sample, with ``stimulus`` and, where known, ``content``.
    names
        The other stimulus of each sample, (n_samples,).
    """
    other = table.assign(stimulus=names)
    if 'content' in table.columns:
        other = other.assign(content=contents(names, table))
    return other


def split_by_group(
    table: pd.DataFrame,
    by: Literal['run', 'session', 'film', 'stimulus', 'cluster', 'category'],
    *,
    n_folds: int | None = None,
    test_fraction: float = 0.2,
    rng: np.random.Generator | None = None,
) -> Split:
    """Hold out whole groups.

    Parameters
    ----------
    table
        One row per sample, with the column ``by``.
    by
        The column whose values are kept whole.
    n_folds
        Number of folds that share out the groups (each is tested once). 1 holds out
        ``test_fraction`` of the groups once: of stimuli the same ones, in whatever order they were
        shown. None leaves one run, session, film or cluster out at a time, and holds stimuli out
        once. Clusters and categories are shared out by their sizes.
    test_fraction
        Share of groups held out when there is one fold.
    rng
        Shuffles stimuli before they are shared out (other groups stay in order).

    Raises
    ------
    DataError
        If there are fewer than two groups, or fewer groups than folds.
    """
    _need(table, (by,))
    column = table[content_column(table) if by == 'stimulus' else by]
    codes, first = _codes(column)
    n_groups = len(first)
    if n_groups < 2:
        raise DataError(NEEDS_TWO.format(group=by, n=n_groups))
    if n_folds is None:
        n_folds = 1 if by == 'stimulus' else n_groups
    if n_folds > n_groups:
        raise DataError(TOO_FEW.format(n_folds=n_folds, n=n_groups, group=by))
    order = np.arange(n_groups)
    if by == 'stimulus':
        order = (rng or np.random.default_rng(0)).permutation(n_groups)
    if by in {'cluster', 'category'}:
        one = n_folds == 1
        n_parts = min(n_groups, max(2, round(1 / test_fraction))) if one else n_folds
        chunks = _shares_of_equal_size(np.bincount(codes), n_parts)[: 1 if one else None]
    elif n_folds == 1:
        n_test = min(n_groups - 1, max(1, round(test_fraction * n_groups)))
        chunks = [order[-n_test:]]
        if by == 'stimulus':  # participants who saw the same images have the same ones held out
            by_name = np.argsort(column.iloc[first].to_numpy(dtype=str), kind='stable')
            chunks = [by_name[order[:n_test]]]
    else:
        chunks = np.array_split(order, n_folds)
    folds = []
    for chunk in chunks:
        held_out = np.isin(codes, chunk)
        folds.append(Fold(train=np.flatnonzero(~held_out), test=np.flatnonzero(held_out)))
    return Split(by, tuple(folds), table)


def _shares_of_equal_size(sizes: IndexArray, n_shares: int) -> list[IndexArray]:
    """Share groups of these sizes out: the largest first, each to the smallest share so far."""
    shares: list[list[int]] = [[] for _ in range(n_shares)]
    totals = np.zeros(n_shares, dtype=np.intp)
    for group in np.argsort(-sizes, kind='stable'):
        smallest = int(np.argmin(totals))
        shares[smallest].append(int(group))
        totals[smallest] += sizes[group]
    return [np.array(share, dtype=np.intp) for share in shares]


def split_as_given(table: pd.DataFrame, by: Literal['imagery'] | None = None) -> Split:
    """Take the parts that the dataset gives its samples.

    Where whole runs are of one part and stimuli of both, it is a split by run: the same stimulus
    may then be on both sides, as in any other of these.

    Parameters
    ----------
    table
        One row per sample, with ``part`` (``train``, ``validation`` or ``test``; others are left
        out) and, where the split has a name, ``protocol`` (the same in all rows).
    by
        ``imagery``: test samples are imagined, and may be of stimuli of the training samples.

    Raises
    ------
    DataError
        If there is no such column, a part is empty, or a stimulus is in training and test though
        runs are not kept whole.
    """
    _need(table, ('part',))
    part = table['part'].astype(str).to_numpy()
    rows = {name: np.flatnonzero(part == name) for name in ('train', 'validation', 'test')}
    name: str = by or 'given'
    if 'protocol' in table.columns and table['protocol'].nunique() == 1:
        name = str(table['protocol'].iloc[0])
    fold = Fold(**rows)
    if by is not None:
        return Split(by, (fold,), table, name)
    seen = np.concatenate([fold.train, fold.validation])
    crossing = {
        column: bool(set(table[column].iloc[seen]) & set(table[column].iloc[fold.test]))
        for column in ('stimulus', 'run')
        if column in table.columns
    }
    whole_runs = crossing.get('stimulus') and crossing.get('run') is False
    return Split('run' if whole_runs else 'given', (fold,), table, name)


def split_in_time(
    table: pd.DataFrame,
    *,
    gap: float,
    test_fraction: float = 0.2,
    n_folds: int = 1,
    whole: Sequence[str] = (),
) -> Split:
    """Hold out contiguous blocks of each film or run, with a gap of ``gap`` seconds around them.

    Parameters
    ----------
    table
        One row per sample, with ``run``, ``onset`` and, where known, ``film``. The onset is in
        seconds of the film where there is a film, so that its presentations are cut alike, else of
        the run.
    gap
        Samples closer than this to a test sample of the same film, or of the same run
        (``run_onset``, where it is known), are left out.
    test_fraction
        Share of each film held out when there is one fold (its end).
    n_folds
        With more than one, each film is cut into that many blocks and each is tested once.
    whole
        Films (values of ``film``) all of whose samples are test samples; with one fold only.
    """
    _need(table, ('run', 'onset', *(('film',) if whole else ())))
    unit, first = _codes(table['film'] if 'film' in table.columns else table['run'])
    onset = table['onset'].to_numpy(dtype=float)
    folds = []
    for number in range(n_folds):
        test = np.zeros(len(table), dtype=bool)
        near = np.zeros(len(table), dtype=bool)
        for code in range(len(first)):
            rows = np.flatnonzero(unit == code)
            times = np.unique(onset[rows])
            if whole and table['film'].iloc[rows[0]] in whole:
                block = times
            elif n_folds == 1:
                block = times[len(times) - max(1, round(test_fraction * len(times))) :]
            else:
                block = np.array_split(times, n_folds)[number]
            if not block.size:
                continue
            inside = (onset[rows] >= block[0]) & (onset[rows] <= block[-1])
            close = (onset[rows] > block[0] - gap) & (onset[rows] < block[-1] + gap)
            test[rows[inside]] = True
            near[rows[close & ~inside]] = True
        near |= _near_in_run(table, test, gap)
        train = ~test & ~near
        if not train.any():
            raise DataError(
                NO_TRAINING_TIME.format(gap=gap, share=float(test.mean()), n=len(table))
            )
        folds.append(Fold(train=np.flatnonzero(train), test=np.flatnonzero(test)))
    return Split('time', tuple(folds), table)


def split_as_published(
    table: pd.DataFrame, *, test_fraction: float = 0.2, whole: Sequence[str] = ()
) -> Split:
    """Hold out the end of each film, and every fifth sample before it for validation.

    The split of arXiv 2507.12009, for comparison: validation samples lie between training
    samples, and no gap parts training from test.

    Parameters
    ----------
    table
        One row per sample, with ``film``, ``run`` and ``onset`` (seconds of the film).
    test_fraction
        Share of each film held out: of n samples, those from ``floor((1 - share) * n)`` on.
    whole
        Films all of whose samples are test samples.
    """
    _need(table, ('film', 'run', 'onset'))
    part = np.full(len(table), 'train', dtype='<U10')
    onset = table['onset'].to_numpy(dtype=float)
    codes, first = _codes(table['film'])
    for code, row in enumerate(first):
        rows = np.flatnonzero(codes == code)
        times = np.unique(onset[rows])
        index = np.searchsorted(times, onset[rows])
        n_before = int(np.floor((1 - test_fraction) * len(times) + 1e-9))
        if table['film'].iloc[row] in whole:
            n_before = 0
        part[rows[index % 5 == 0]] = 'validation'
        part[rows[index >= n_before]] = 'test'
    fold = Fold(*(np.flatnonzero(part == name) for name in ('train', 'test', 'validation')))
    return Split('time', (fold,), table, 'paper')


def _near_in_run(
    table: pd.DataFrame, test: npt.NDArray[np.bool_], gap: float
) -> npt.NDArray[np.bool_]:
    """Return samples within the gap of a test sample of the same run, whatever the film.

    Films that follow each other share the end of one in the beginning of the other.
    """
    near = np.zeros(len(table), dtype=bool)
    if 'run_onset' not in table.columns:
        return near
    times = table['run_onset'].to_numpy(dtype=float)
    codes, first = _codes(table['run'])
    for code in range(len(first)):
        mine = codes == code
        held = np.sort(times[mine & test])
        others = np.flatnonzero(mine & ~test)
        if held.size and others.size:
            after = np.clip(np.searchsorted(held, times[others]), 0, held.size - 1)
            before = np.clip(after - 1, 0, None)
            distance = np.minimum(
                np.abs(held[after] - times[others]), np.abs(held[before] - times[others])
            )
            near[others[distance < gap]] = True
    return near


def _need(table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(MISSING_COLUMN.format(columns=', '.join(missing)))


def _codes(column: pd.Series[Any]) -> tuple[IndexArray, list[int]]:
    """Return codes of the distinct values by first appearance, and their first rows."""
    codes, _ = pd.factorize(column)
    missing = int(np.count_nonzero(codes < 0))
    if missing:
        raise DataError(MISSING_VALUE.format(column=column.name, n=missing))
    _, first = np.unique(codes, return_index=True)
    return codes.astype(np.intp), first.tolist()


def _check_fold(number: int, fold: Fold, n_samples: int) -> None:
    """Check that the parts of a fold are there, apart, and within the table."""
    parts = {'training': fold.train, 'validation': fold.validation, 'test': fold.test}
    for part in ('training', 'test'):
        if parts[part].size == 0:
            raise DataError(EMPTY_PART.format(fold=number, part=part))
    every = np.concatenate(list(parts.values()))
    if every.min() < 0 or every.max() >= n_samples:  # -1 would be another name of the last one
        raise DataError(BAD_ROWS.format(fold=number, last=n_samples - 1))
    held = {part: np.zeros(n_samples, dtype=np.bool_) for part in parts}
    for part, rows in parts.items():
        held[part][rows] = True
    for a, b in itertools.combinations(parts, 2):
        shared = int(np.count_nonzero(held[a] & held[b]))
        if shared:
            raise DataError(OVERLAP.format(fold=number, n=shared, a=a, b=b))
