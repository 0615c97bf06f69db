"""Images whose columns are no voxels of a grid: surfaces (GIFTI), CIFTI, series of parcels.

Everywhere in the program such an image is a NIfTI-2 image of shape (n_columns, 1, 1[, n_rows])
that carries, as its CIFTI extension, what each column is. So it passes between steps as volumes
do, and :func:`image_files` turns it back into the files of its space.

Columns have no neighbours along the grid: :mod:`~bids_neurodecode.signals.meshes` knows these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.headers import ELSEWHERE, check_promise
from bids_neurodecode.tables import read_table
from bids_neurodecode.text import one_line

if TYPE_CHECKING:
    import nibabel as nib

Form = Literal['gifti', 'cifti', 'pcifti', 'parcels']
"""A pair of GIFTI files, CIFTI of vertices and voxels, CIFTI of parcels, a TSV of parcels."""
Content = Literal['map', 'series', 'labels']

EXTENSIONS: dict[Form, dict[Content, str]] = {
    'gifti': {'map': '.shape.gii', 'series': '.func.gii', 'labels': '.label.gii'},
    'cifti': {'map': '.dscalar.nii', 'series': '.dtseries.nii', 'labels': '.dlabel.nii'},
    'pcifti': {'map': '.pscalar.nii', 'series': '.ptseries.nii', 'labels': '.pscalar.nii'},
    'parcels': {'map': '.tsv', 'series': '.tsv', 'labels': '.tsv'},
}
_INTENTS = {
    '.dscalar.nii': 'NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS',
    '.dtseries.nii': 'NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES',
    '.dlabel.nii': 'NIFTI_INTENT_CONNECTIVITY_DENSE_LABELS',
    '.pscalar.nii': 'NIFTI_INTENT_CONNECTIVITY_PARCELLATED_SCALAR',
    '.ptseries.nii': 'NIFTI_INTENT_CONNECTIVITY_PARCELLATED_SERIES',
}
NATIVE = frozenset({'T1w', 'T2w', 'fsnative', 'anat', 'boldref', 'func'})
"""Spaces of one participant each, whose columns are nobody else's, whatever their numbers."""
PARCELS = ('atlas', 'seg', 'scale')
"""Entities that name parcels."""
HEMISPHERES = {'L': 'CIFTI_STRUCTURE_CORTEX_LEFT', 'R': 'CIFTI_STRUCTURE_CORTEX_RIGHT'}
_HEMI = re.compile(r'(?<=_)hemi-[LR](?=_)')
_CIFTI = re.compile(r'\.[dp](scalar|tseries|label)\.nii$')
_ALONG = {'cifti': 'BrainModelAxis', 'pcifti': 'ParcelsAxis'}
WHAT_LIES = {'BrainModelAxis': 'vertices and voxels', 'ParcelsAxis': 'parcels'}
_EXTENSION_CODE = 32
"""NIfTI extension of CIFTI."""

BAD_SHAPE = (
    'The header of {file} gives the shape {shape}, and nothing has such. The file is corrupt; '
    'copy or regenerate it.'
)
NO_AFFINE = (
    'The header of {file} does not say where its voxels lie (an affine with NaN, or of no '
    'volume). Regenerate the file, with its sform or qform.'
)
NO_HEMISPHERE = 'There is no other hemisphere of {file}: {other} is missing. Add it.'
UNREADABLE = 'Cannot read {file} as {kind}: {reason}. The file is corrupt; copy it again.'
BAD_VERTICES = 'The arrays of {file} have different numbers of vertices ({found}). Make it again.'
NO_COLUMNS = (
    '{file} has no axis of vertices, voxels or parcels along its columns. Give a dense or '
    'parcellated CIFTI file.'
)
OTHER_COLUMNS = (
    '{file} has {found} along its columns, and its name says {expected}. Rename it (.dtseries.nii '
    'is dense, .ptseries.nii parcellated), or regenerate it.'
)
NOT_IN_TIME = (
    'The rows of {file} are {found}, and those of a series lie in time, in seconds. Regenerate '
    'the file, or give another.'
)
OTHER_MESH = (
    'A hemisphere has {n} vertices in the data and {other} in what is put on them. Give a file of '
    'the same surfaces.'
)
NOT_NUMBERS = '{file} holds {value!r} in the column {column!r}; a parcel has a number in each row.'
NEEDS_GRID = (
    '{what} needs voxels on a grid, and these data are {where}: choose volumes with --space, or '
    'leave it out.'
)
COLUMN: dict[Form, str] = {
    'gifti': 'a vertex',
    'cifti': 'a vertex or a subcortical voxel',
    'pcifti': 'a parcel',
    'parcels': 'a parcel',
}
"""What one column is."""
WHERE: dict[Form, str] = {
    'gifti': 'on a surface',
    'cifti': 'CIFTI grayordinates',
    'pcifti': 'parcels',
    'parcels': 'parcels',
}


@dataclass(frozen=True, eq=False)
class Space:
    """What the columns of an image are.

    Parameters
    ----------
    axis
        nibabel's ``BrainModelAxis``, ``ParcelsAxis`` or ``ScalarAxis`` (names of parcels) of
        length n_columns.
    form
        In which files images of it are kept.
    label
        Label of the space and, after colons, its density (``fsLR:den-91k``) and its parcels; may
        be empty.
    """

    axis: Any
    form: Form
    label: str = ''

    @property
    def n_columns(self) -> int:
        """Number of vertices, voxels and parcels together."""
        return len(self.axis)

    def same_as(self, other: Space | None) -> bool:
        """Whether the columns of both are the same."""
        if other is None or self.form != other.form or self.n_columns != other.n_columns:
            return False
        labels = {self.label, other.label} - {''}
        return len(labels) < 2 and bool(self.axis == other.axis)

    def carry(self, values: npt.NDArray[Any], source: Space) -> npt.NDArray[Any]:
        """Return values of another space's columns at these columns: nothing is resampled.

        Parameters
        ----------
        values
            One a column of ``source``, (n_source,).
        source
            With the same meshes, voxel grid or names of parcels; may lack some of the columns.

        Returns
        -------
        numpy.ndarray
            Shape (n_columns,); 0 where ``source`` has no such vertex, voxel or parcel.

        Raises
        ------
        DataError
            If the meshes of a hemisphere have different numbers of vertices.
        """
        out = np.zeros(self.n_columns, dtype=values.dtype)
        theirs = {key: place for place, key in enumerate(source._keys())}
        for place, key in enumerate(self._keys()):
            if key in theirs:
                out[place] = values[theirs[key]]
        for hemisphere in HEMISPHERES.values():
            ours, other = (getattr(x.axis, 'nvertices', {}) for x in (self, source))
            if hemisphere in ours and ours[hemisphere] != other.get(hemisphere, ours[hemisphere]):
                raise DataError(OTHER_MESH.format(n=ours[hemisphere], other=other[hemisphere]))
        return out

    def _keys(self) -> list[tuple[Any, ...]]:
        """Return what each column is, so that it is known in another space."""
        names = [str(name) for name in self.axis.name]
        if not hasattr(self.axis, 'vertex'):
            return [(name,) for name in names]
        vertices, voxels = self.axis.vertex, self.axis.voxel
        grid = '' if self.axis.affine is None else self.axis.affine.round(3).tobytes()
        return [
            (name, int(vertex)) if vertex >= 0 else (grid, *voxel.tolist())
            for name, vertex, voxel in zip(names, vertices, voxels, strict=True)
        ]

    def image(self, values: npt.ArrayLike) -> nib.Nifti2Image:
        """Return an image of (n_columns,), (n_columns, 1, 1) or (n_columns, 1, 1, n_rows)."""
        import nibabel as nib
        from nibabel.nifti1 import Nifti1Extension

        array = np.asarray(values)
        shape = (self.n_columns, 1, 1, *array.shape[3:])
        made = nib.Nifti2Image(array.reshape(shape), np.eye(4))
        made.header.extensions.append(Nifti1Extension(_EXTENSION_CODE, self.to_bytes()))
        return made

    def to_bytes(self) -> bytes:
        """Return the CIFTI XML that describes the columns."""
        from nibabel.cifti2 import Cifti2Header, Cifti2MetaData
        from nibabel.cifti2.cifti2_axes import ScalarAxis

        header = Cifti2Header.from_axes((ScalarAxis(['values']), self.axis))
        header.matrix.metadata = Cifti2MetaData({'Form': self.form, 'Space': self.label})
        return bytes(header.to_xml())

    @classmethod
    def from_bytes(cls, xml: bytes) -> Space:
        """Read what :meth:`to_bytes` wrote."""
        from nibabel.cifti2.parse_cifti2 import Cifti2Parser

        parser = Cifti2Parser()
        parser.parse(string=xml)
        return cls.from_header(parser.header)

    @classmethod
    def from_header(cls, header: Any) -> Space:
        """Read a CIFTI header that :meth:`to_bytes` wrote."""
        about = header.matrix.metadata
        return cls(header.get_axis(1), about['Form'], about['Space'])

    @property
    def density(self) -> str | None:
        """Label of the density (``91k``), where there is one."""
        return self._named.get('den')

    @property
    def parcellation(self) -> dict[str, str]:
        """Entities that name the parcels of series of parcels."""
        return {key: name for key, name in self._named.items() if key in PARCELS}

    @property
    def _named(self) -> dict[str, str]:
        """The entities of the label, behind the space."""
        pairs = (part.partition('-') for part in self.label.split(':')[1:])
        return {key: name for key, _, name in pairs}

    @cached_property
    def parts(self) -> tuple[tuple[str, slice], ...]:
        """The structures, with their columns; parcels are one part without a name."""
        from nibabel.cifti2.cifti2_axes import BrainModelAxis

        if not isinstance(self.axis, BrainModelAxis):
            return (('', slice(0, self.n_columns)),)
        found = []
        for name, columns, _ in self.axis.iter_structures():
            found.append((str(name), slice(columns.start, columns.stop or self.n_columns)))
        return tuple(found)

    def cortex(self, hemisphere: Literal['L', 'R']) -> tuple[int, npt.NDArray[np.intp], slice]:
        """Return, of a hemisphere, its number of vertices, those in the columns, and the columns.

        The number is 0 where there are none.
        """
        structure = HEMISPHERES[hemisphere]
        for name, columns in self.parts:
            if name == structure:
                vertices = np.asarray(self.axis.vertex[columns], dtype=np.intp)
                return int(self.axis.nvertices[name]), vertices, columns
        return 0, np.empty(0, dtype=np.intp), slice(0, 0)


def is_native(label: str | None) -> bool:
    """Whether a space is that of one participant.

    Examples
    --------
    >>> is_native('fsnative'), is_native('fsLR:den-91k'), is_native(None)
    (True, False, False)
    """
    return (label or '').split(':')[0] in NATIVE


def form_of(file: Path) -> Form | None:
    """Return the form of a file by its name; None for volumes.

    Examples
    --------
    >>> form_of(Path('sub-01_hemi-L_space-fsnative_bold.func.gii')), form_of(Path('x_bold.nii.gz'))
    ('gifti', None)
    """
    if file.name.endswith('.gii'):
        return 'gifti'
    if found := _CIFTI.search(file.name):
        return 'cifti' if found[0].startswith('.d') else 'pcifti'
    return 'parcels' if file.suffix == '.tsv' else None


def files_of(file: Path) -> tuple[Path, ...]:
    """Return all files of a kind: of surfaces and their sidecars, the left one and the right.

    Examples
    --------
    >>> [f.name for f in files_of(Path('sub-01_hemi-R_space-fsnative_bold.func.gii'))][0]
    'sub-01_hemi-L_space-fsnative_bold.func.gii'
    """
    if not _HEMI.search(file.name):
        return (file,)
    return tuple(file.with_name(_HEMI.sub(f'hemi-{side}', file.name)) for side in HEMISPHERES)


def one_each(files: Iterable[Path]) -> list[Path]:
    """Return the images among files, of surfaces the left ones; sidecars are left out."""
    images = (file for file in files if file.suffix != '.json')
    return sorted(file for file in images if file == files_of(file)[0])


def sidecar_of(file: Path) -> Path:
    """Return the JSON file that describes an image.

    Examples
    --------
    >>> sidecar_of(Path('sub-01_hemi-L_space-fsnative_bold.func.gii')).name
    'sub-01_hemi-L_space-fsnative_bold.json'
    """
    return file.with_name(file.name.split('.')[0] + '.json')


def space_of(image: Any) -> Space | None:
    """Return what the columns of an image are; None for volumes."""
    for extension in getattr(image.header, 'extensions', ()):
        if extension.get_code() == _EXTENSION_CODE:
            content = extension.get_content()
            if isinstance(content, bytes):
                return Space.from_bytes(content)
            return Space.from_header(content)
    return None


def like(image: Any, values: npt.NDArray[Any]) -> Any:
    """Return an image of other values, (x, y, z[, n]), where another one lies.

    Parameters
    ----------
    image
        Gives affine and space.
    values
        Shape (x, y, z) or (x, y, z, n).
    """
    import nibabel as nib

    space = space_of(image)
    return nib.Nifti1Image(values, image.affine) if space is None else space.image(values)


def volume_seconds(image: Any) -> float:
    """Return the repetition time that a header states, in seconds.

    Parameters
    ----------
    image
        Of four dimensions.
    """
    code = int(image.header['xyzt_units']) & 0b111000  # other bits may hold anything
    return float(image.header.get_zooms()[3]) * {16: 1e-3, 24: 1e-6}.get(code, 1.0)


def image_damage() -> tuple[type[Exception], ...]:
    """Return what nibabel raises where a file is damaged, its parsers of XML among it."""
    import struct
    import zlib
    from xml.parsers.expat import ExpatError

    from nibabel.cifti2 import Cifti2HeaderError
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    return (
        *(OSError, EOFError, MemoryError, ArithmeticError, LookupError, ValueError, TypeError),
        *(AttributeError, AssertionError, struct.error, zlib.error, ExpatError),
        *(ImageFileError, HeaderDataError, Cifti2HeaderError),
    )


def load_image(file: Path) -> Any:
    """Open an image of any form; a volume is not read before its values are asked for.

    Parameters
    ----------
    file
        NIfTI; one of a pair of GIFTI files; CIFTI; a TSV: a column per parcel, a row per volume.

    Returns
    -------
    nibabel.Nifti1Image or nibabel.Nifti2Image
        Of shape (n_columns, 1, 1) or (n_columns, 1, 1, n_rows) where it is no volume.

    Raises
    ------
    DataError
        If a surface lacks a hemisphere, a file that is no volume cannot be read, or a header says
        what its file cannot hold.
    """
    import nibabel as nib

    form = form_of(file)
    if form is None:
        volume = nib.load(file)
        check_header(volume, file)
        return volume
    step = 0.0
    if form == 'parcels':
        space, rows = _read_parcels(file)
    elif form == 'gifti':
        space, rows = _read_surfaces(file)
    else:
        space, rows, step = _read_cifti(file, form)
    n = space.n_columns
    single = len(rows) == 1 and not file.name.endswith(EXTENSIONS[form]['series'])
    shape = (n, 1, 1) if single else (n, 1, 1, len(rows))
    image = space.image(rows.T.reshape(shape))
    if not single:
        image.header.set_zooms((1, 1, 1, step))
        image.header.set_xyzt_units('mm', 'sec')
    return image


def check_header(image: Any, file: Path) -> None:
    """Check that a header gives a size that the file can hold, and the places of voxels.

    Parameters
    ----------
    image
        Opened, its values not read.
    file
        That it was read from.

    Raises
    ------
    DataError
        If it does not.
    """
    shape = tuple(int(n) for n in image.shape)
    if any(n < 1 for n in shape):
        raise DataError(BAD_SHAPE.format(file=file, shape=shape))
    offset = int(getattr(image.dataobj, 'offset', 0))
    n_bytes = math.prod(shape) * image.dataobj.dtype.itemsize
    check_promise(file, offset + n_bytes)
    if form_of(file) is not None:
        return
    affine = image.affine
    if affine is None or not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise DataError(NO_AFFINE.format(file=file))


def label_of(file: Path) -> str:
    """Return the label of the space of a file, with its density and parcels.

    Examples
    --------
    >>> label_of(Path('sub-01_space-fsLR_den-91k_bold.dtseries.nii'))
    'fsLR:den-91k'
    """
    found = dict(re.findall(r'_(space|den|atlas|seg|scale)-([a-zA-Z0-9+]+)', file.name))
    further = ('den', *PARCELS) if form_of(file) in {'parcels', 'pcifti'} else ('den',)
    parts = (f'{key}-{found[key]}' for key in further if key in found)
    return ':'.join([found.get('space', ''), *parts])


def _read_surfaces(file: Path) -> tuple[Space, npt.NDArray[Any]]:
    """Read both hemispheres: their space and (n_rows, n_vertices)."""
    from nibabel.cifti2.cifti2_axes import BrainModelAxis

    axes, values = [], []
    for side, each in zip(HEMISPHERES, files_of(file), strict=False):
        if not each.exists():
            raise DataError(NO_HEMISPHERE.format(file=file, other=each.name))
        rows = _read_gifti(each)
        n = rows.shape[1]
        structure = HEMISPHERES[side if len(files_of(file)) > 1 else 'L']
        axes.append(BrainModelAxis.from_surface(np.arange(n), n, structure))
        values.append(rows)
    if len({len(rows) for rows in values}) > 1:
        n_rows = ' and '.join(str(len(rows)) for rows in values)
        raise DataError(UNREADABLE.format(file=file, kind='GIFTI', reason=f'{n_rows} arrays'))
    axis = axes[0] if len(axes) == 1 else axes[0] + axes[1]
    return Space(axis, 'gifti', label_of(file)), np.concatenate(values, axis=1)


def read_gifti(file: Path) -> Any:
    """Read a GIFTI file whose values lie in it.

    Raises
    ------
    DataError
        If it is damaged, or names another file for its values.
    """
    import nibabel as nib

    try:
        # nibabel would open any file that is named, while it parses
        with file.open('rb') as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            elsewhere = content.find(b'ExternalFileBinary') >= 0
        if elsewhere:
            raise DataError(ELSEWHERE.format(file=file))
        return nib.load(file)
    except image_damage() as error:
        raise _unreadable(file, 'GIFTI', error) from error


def _read_gifti(file: Path) -> npt.NDArray[Any]:
    """Read the arrays of one hemisphere: (n_rows, n_vertices)."""
    arrays = [np.asarray(array.data) for array in read_gifti(file).darrays]
    # one row per array, as fMRIPrep writes them, or all rows in one
    rows = [row for array in arrays for row in (array.T if array.ndim == 2 else array[None])]
    sizes = {len(row) for row in rows}
    if len(sizes) != 1:
        found = ', '.join(map(str, sorted(sizes))) or 'none'
        raise DataError(BAD_VERTICES.format(file=file, found=found))
    return np.stack(rows)


def _read_cifti(file: Path, form: Form) -> tuple[Space, npt.NDArray[Any], float]:
    """Read a CIFTI file: its space, (n_rows, n_columns), and the step in time (s; 0 if none)."""
    import nibabel as nib

    try:
        image = nib.load(file)
        check_header(image, file)
        values = np.asarray(image.dataobj)
    except image_damage() as error:
        raise _unreadable(file, 'CIFTI', error) from error
    try:
        rows, axis = (image.header.get_axis(i) for i in (0, 1))
    except image_damage() as error:
        raise DataError(NO_COLUMNS.format(file=file)) from error
    expected, found = _ALONG[form], type(axis).__name__
    if found not in _ALONG.values():
        raise DataError(NO_COLUMNS.format(file=file))
    if found != expected:
        said = {'expected': WHAT_LIES[expected], 'found': WHAT_LIES[found]}
        raise DataError(OTHER_COLUMNS.format(file=file, **said))
    unit = getattr(rows, 'unit', 'no series')
    if 'tseries' in file.name and unit != 'SECOND':
        raise DataError(NOT_IN_TIME.format(file=file, found=unit.lower()))
    step = float(rows.step) if unit == 'SECOND' else 0.0
    return Space(axis, form, label_of(file)), values, step


def _read_parcels(file: Path) -> tuple[Space, npt.NDArray[Any]]:
    """Read a table of parcels: their space and (n_rows, n_parcels); ``n/a`` is NaN."""
    import pandas as pd
    from nibabel.cifti2.cifti2_axes import ScalarAxis

    table = read_table(file)
    cells = table.to_numpy(dtype=object)
    # all at once: column by column takes ten times as long
    numbers = pd.to_numeric(pd.Series(cells.ravel()), errors='coerce')
    values = numbers.to_numpy(np.float64).reshape(cells.shape)
    for column, row in np.argwhere((np.isnan(values) & table.notna().to_numpy()).T):
        told = {'value': cells[row, column], 'column': table.columns[column]}
        raise DataError(NOT_NUMBERS.format(file=file, **told))
    return Space(ScalarAxis(list(table.columns)), 'parcels', label_of(file)), values


def _unreadable(file: Path, kind: str, error: Exception) -> DataError:
    reason = one_line(error)
    return DataError(UNREADABLE.format(file=file, kind=kind, reason=reason))


def image_files(
    file: Path, image: Any, *, repetition_time: float | None = None, name: str = ''
) -> tuple[tuple[Path, Callable[[Path], object]], ...]:
    """Return the files of an image of a space, each with what writes it.

    Parameters
    ----------
    file
        Its name ends as :data:`EXTENSIONS` says; of a surface, that of either hemisphere.
    image
        Shape (n_columns, 1, 1) or (n_columns, 1, 1, n_rows), with its :class:`Space`.
    repetition_time
        Seconds from row to row of a series.
    name
        Of the rows; ``values`` if empty.
    """
    space = space_of(image)
    if space is None:
        raise DataError(NO_COLUMNS.format(file=file))
    array = np.asanyarray(image.dataobj)
    rows = array.reshape(space.n_columns, -1).T
    extension = '.' + '.'.join(file.name.split('.')[1:])
    name = name or 'values'
    if space.form == 'parcels':
        return ((file, lambda path: path.write_bytes(_table_bytes(space, rows))),)
    if space.form == 'gifti':
        written = []
        for side, each in zip(('L', 'R'), files_of(file), strict=False):
            columns = space.cortex('L' if side == 'L' else 'R')[2]
            content = partial(_gifti_bytes, rows[:, columns], extension, side, repetition_time)
            written.append((each, lambda path, content=content: path.write_bytes(content())))
        return tuple(written)
    # column by column: the image may be larger than the memory
    return ((file, _cifti_image(space, rows, extension, repetition_time, name).to_filename),)


def _table_bytes(space: Space, rows: npt.NDArray[Any]) -> bytes:
    import pandas as pd

    table = pd.DataFrame(rows, columns=[str(name) for name in space.axis.name])
    text: str = table.to_csv(
        None, sep='\t', index=False, na_rep='n/a', float_format='%.9g', lineterminator='\n'
    )
    return text.encode()


def _gifti_bytes(
    rows: npt.NDArray[Any], extension: str, side: str, repetition_time: float | None
) -> bytes:
    """Write one hemisphere, an array a row."""
    import nibabel as nib
    from nibabel.gifti import (
        GiftiDataArray,
        GiftiImage,
        GiftiLabel,
        GiftiLabelTable,
        GiftiMetaData,
    )

    about = {'AnatomicalStructurePrimary': {'L': 'CortexLeft', 'R': 'CortexRight'}[side]}
    image = GiftiImage(meta=GiftiMetaData(about))
    labels = extension == '.label.gii'
    intents = {'.func.gii': 'NIFTI_INTENT_TIME_SERIES', '.label.gii': 'NIFTI_INTENT_LABEL'}
    intent = intents.get(extension, 'NIFTI_INTENT_SHAPE')
    if extension == '.func.gii' and repetition_time is None:
        intent = 'NIFTI_INTENT_NONE'  # rows are trials
    if labels:
        image.labeltable = GiftiLabelTable()
        for key in np.unique(np.append(rows, 0)).astype(int):
            red, green, blue, alpha = _color(int(key))
            label = GiftiLabel(int(key), red, green, blue, alpha)
            label.label = _label_name(int(key))
            image.labeltable.labels.append(label)
    step = {} if repetition_time is None else {'TimeStep': f'{1000 * repetition_time:g}'}
    for row in rows:
        array = np.ascontiguousarray(row, dtype=np.int32 if labels else np.float32)
        image.add_gifti_data_array(
            GiftiDataArray(
                array,
                intent=intent,
                datatype='NIFTI_TYPE_INT32' if labels else 'NIFTI_TYPE_FLOAT32',
                meta=step,
            )
        )
    return bytes(nib.GiftiImage.to_bytes(image))


def _cifti_image(
    space: Space,
    rows: npt.NDArray[Any],
    extension: str,
    repetition_time: float | None,
    name: str,
) -> Any:
    """Return a CIFTI image with the columns as they were read."""
    import nibabel as nib
    from nibabel.cifti2.cifti2_axes import LabelAxis, ScalarAxis, SeriesAxis

    dtype: type[np.generic] = np.float32
    if extension.endswith('tseries.nii'):
        # single trials have no step in time: they are numbered
        step, unit = (1.0, 'SECOND') if repetition_time is None else (repetition_time, 'SECOND')
        first: Any = SeriesAxis(0.0, step, len(rows), unit)
    elif extension == '.dlabel.nii':
        keys = np.unique(np.append(rows, 0)).astype(int)
        table = {int(key): (_label_name(int(key)), _color(int(key))) for key in keys}
        first, dtype = LabelAxis([name] * len(rows), [table] * len(rows)), np.int32
    else:
        names = [name] if len(rows) == 1 else [f'{name} {n}' for n in range(len(rows))]
        first = ScalarAxis(names)
    header = nib.Cifti2Header.from_axes((first, space.axis))
    image = nib.Cifti2Image(np.asarray(rows, dtype=dtype), header=header)
    image.nifti_header.set_intent(_INTENTS[extension])
    image.update_headers()
    return image


def _label_name(key: int) -> str:
    return '???' if key == 0 else str(key)


def _color(key: int) -> tuple[float, float, float, float]:
    """Return a colour of a label: neighbouring numbers are unlike, 0 cannot be seen."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((key * 0.618034) % 1, 0.6, 0.9)
    return (red, green, blue, float(key != 0))


def needs_grid(what: str, space: Space | None) -> None:
    """Refuse what needs voxels on a grid where there are none.

    Parameters
    ----------
    what
        That is refused, as the beginning of a sentence.
    space
        Of the data; None is a grid of voxels.

    Raises
    ------
    DataError
        If the data are of a :class:`Space`.
    """
    if space is not None:
        raise DataError(NEEDS_GRID.format(what=what, where=WHERE[space.form]))


def structures(space: Space) -> Sequence[str]:
    """Return the structures of a space in the order of the columns, named as in CIFTI.

    Examples
    --------
    >>> from nibabel.cifti2.cifti2_axes import BrainModelAxis
    >>> axis = BrainModelAxis.from_surface([0, 1], 4, 'CortexLeft')
    >>> structures(Space(axis, 'cifti'))
    ['CORTEX_LEFT']
    """
    return [name.removeprefix('CIFTI_STRUCTURE_') for name, _ in space.parts]
