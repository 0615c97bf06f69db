"""Surfaces, CIFTI and parcels: read, written, told apart, and refused in one line."""

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.cifti2.cifti2_axes import BrainModelAxis, ParcelsAxis, ScalarAxis, SeriesAxis

from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.atlas import OTHER_FORM, Atlas
from bids_neurodecode.signals.atlasfiles import load_atlas
from bids_neurodecode.spaces import (
    BAD_VERTICES,
    EXTENSIONS,
    NEEDS_GRID,
    NO_COLUMNS,
    NO_HEMISPHERE,
    NOT_NUMBERS,
    OTHER_MESH,
    UNREADABLE,
    Space,
    files_of,
    image_files,
    like,
    load_image,
    needs_grid,
    one_each,
    sidecar_of,
    space_of,
)

RNG = np.random.default_rng(0)


def said(message: str) -> str:
    return message.split('{', maxsplit=1)[0]


def surfaces(left: int = 12, right: int = 9) -> Space:
    axis = BrainModelAxis.from_surface(np.arange(left), left, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(right), right, 'CortexRight')
    return Space(axis, 'gifti', 'fsnative')


def grayordinates() -> Space:
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1:3, 2:4, 3:6] = True
    axis = BrainModelAxis.from_surface([1, 4, 7], 10, 'CortexLeft')
    axis += BrainModelAxis.from_surface([0, 2, 9, 3], 10, 'CortexRight')
    axis += BrainModelAxis.from_mask(mask, 'thalamus_left', affine=np.diag([-2.0, 2, 2, 1]))
    return Space(axis, 'cifti', 'fsLR:den-91k')


def cifti_parcels() -> Space:
    vertices = [{'CIFTI_STRUCTURE_CORTEX_LEFT': np.arange(3 * i, 3 * i + 3)} for i in range(4)]
    voxels = [np.empty((0, 3), dtype=int)] * 4
    names = [f'area {i}' for i in range(4)]
    axis = ParcelsAxis(names, voxels, vertices, nvertices={'CIFTI_STRUCTURE_CORTEX_LEFT': 20})
    return Space(axis, 'pcifti', 'fsLR:den-91k')


def parcels() -> Space:
    return Space(ScalarAxis(['V1 left', 'V1 right', 'MT']), 'parcels', 'MNI152NLin6Asym')


ALL = [surfaces, grayordinates, cifti_parcels, parcels]


def name_of(space: Space, content: str) -> str:
    hemi = '_hemi-L' if space.form == 'gifti' else ''
    label, _, density = space.label.partition(':den-')
    density = f'_den-{density}' if density else ''
    return f'sub-01{hemi}_space-{label}{density}_x{EXTENSIONS[space.form][content]}'


@pytest.mark.parametrize('make', ALL)
@pytest.mark.parametrize('content', ['map', 'series', 'labels'])
def test_what_is_written_is_read_back(make, content, tmp_path):
    space = make()
    file = tmp_path / name_of(space, content)
    values = RNG.normal(size=(space.n_columns, 1, 1, 5)).astype(np.float32)
    if content == 'map':
        values = values[..., 0]
    if content == 'labels':
        values = np.rint(np.abs(3 * values[..., 0])).astype(np.int32)
    write_image(file, space.image(values), repetition_time=1.5 if content == 'series' else None)
    back = load_image(file)
    assert space.same_as(space_of(back))
    np.testing.assert_allclose(np.asarray(back.dataobj).reshape(values.shape), values, rtol=1e-6)
    if content == 'series' and space.form in {'cifti', 'pcifti'}:
        assert back.header.get_zooms()[3] == 1.5


@pytest.mark.parametrize('make', ALL)
def test_between_steps_columns_keep_their_meaning(make, tmp_path):
    space = make()
    inside = np.zeros((space.n_columns, 1, 1), dtype=bool)
    inside[::2] = True
    mask = VoxelMask(inside, np.eye(4), space=space)
    row = np.arange(mask.n_voxels, dtype=np.float32)
    write_image(tmp_path / 'map.nii.gz', mask.image(row))
    mask.save(tmp_path / 'mask.nii.gz')
    read = VoxelMask.load(tmp_path / 'mask.nii.gz')
    assert read.same_grid(mask)
    np.testing.assert_array_equal(read.mask, inside)
    image = load_image(tmp_path / 'map.nii.gz')
    np.testing.assert_array_equal(read.extract(np.asarray(image.dataobj)), row)
    for filled, value in ((image, 0), (mask.image(row, fill=7), 7)):
        outside = np.asarray(filled.dataobj).reshape(inside.shape)[~inside]
        np.testing.assert_array_equal(outside, value)
    stored = VoxelMask.from_state(read.restrict(row > 0).state())
    assert stored.same_grid(mask)
    assert stored.n_voxels == mask.n_voxels - 1
    assert space.same_as(space_of(like(image, inside.astype(np.uint8))))


def test_files_are_what_other_programs_expect(tmp_path):
    file = tmp_path / name_of(surfaces(), 'series')
    rows = RNG.normal(size=(21, 1, 1, 3)).astype(np.float32)
    write_image(file, surfaces().image(rows), repetition_time=2.0)
    for side, columns in (('L', slice(0, 12)), ('R', slice(12, 21))):
        image = nib.load(str(file).replace('hemi-L', f'hemi-{side}'))
        structure = image.meta['AnatomicalStructurePrimary']
        assert structure == {'L': 'CortexLeft', 'R': 'CortexRight'}[side]
        assert image.darrays[0].intent == nib.nifti1.intent_codes['NIFTI_INTENT_TIME_SERIES']
        np.testing.assert_allclose(image.agg_data('time series').T, rows[columns, 0, 0].T)
    write_image(tmp_path / 'x.dtseries.nii', grayordinates().image(RNG.normal(size=(19, 1, 1, 3))))
    image = nib.load(tmp_path / 'x.dtseries.nii')
    assert isinstance(image, nib.Cifti2Image)
    assert image.shape == (3, 19)
    assert image.nifti_header.get_intent()[0] == 'ConnDenseSeries'
    assert image.header.get_axis(1) == grayordinates().axis


@pytest.mark.skipif(shutil.which('wb_command') is None, reason='Connectome Workbench is missing')
@pytest.mark.parametrize('make', [surfaces, grayordinates, cifti_parcels])
@pytest.mark.parametrize('content', ['map', 'series', 'labels'])
def test_connectome_workbench_opens_them(make, content, tmp_path):
    """It reads structure, size and number of maps; values that it reduces are ours."""
    space = make()
    shape = (space.n_columns, 1, 1, 3) if content == 'series' else (space.n_columns, 1, 1)
    values = RNG.integers(0, 5, shape).astype(np.float32)
    written = tmp_path / f'sub-01_{name_of(space, content)}'
    write_image(written, space.image(values), repetition_time=2.0 if content == 'series' else None)

    def ask(*words):
        done = subprocess.run(
            ['wb_command', *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    files = files_of(written)
    for side, file in zip('LR', files, strict=False):
        told = ask('-file-information', file)
        told = ' '.join(told.split())
        assert f'Number of Maps: {3 if content == "series" else 1}' in told
        if space.form == 'gifti':
            columns = space.cortex(side)[2]
            assert f'Number of Vertices: {columns.stop - columns.start}' in told
            assert ('CortexLeft' if side == 'L' else 'CortexRight') in told
    if space.form == 'cifti' and content == 'map':
        mean = float(ask('-cifti-stats', files[0], '-reduce', 'MEAN'))
        assert mean == pytest.approx(values.mean(), abs=1e-5)


def test_nilearn_takes_a_pair_of_surfaces(tmp_path):
    from nilearn.datasets import load_fsaverage
    from nilearn.surface import SurfaceImage

    space = surfaces(10242, 10242)
    file = tmp_path / name_of(space, 'map')
    values = RNG.normal(size=space.n_columns).astype(np.float32)
    write_image(file, space.image(values))
    left, right = files_of(file)
    image = SurfaceImage(load_fsaverage('fsaverage5')['inflated'], {'left': left, 'right': right})
    np.testing.assert_array_equal(image.data.parts['right'].ravel(), values[10242:])


def test_a_gifti_may_hold_all_rows_in_one_array(tmp_path):
    rows = RNG.normal(size=(4, 7)).astype(np.float32)
    for side in 'LR':
        array = nib.gifti.GiftiDataArray(np.ascontiguousarray(rows.T))
        image = nib.gifti.GiftiImage(darrays=[array])
        image.to_filename(tmp_path / f'sub-1_hemi-{side}_bold.func.gii')
    image = load_image(tmp_path / 'sub-1_hemi-R_bold.func.gii')
    assert image.shape == (14, 1, 1, 4)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[7:, 0, 0].T, rows)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_columns_are_carried_by_what_they_are(data):
    """Any subset of vertices in any order gets the values of its own vertices."""
    n = 30
    one, two = (
        data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)) for _ in range(2)
    )
    source, target = (
        Space(BrainModelAxis.from_surface(each, n, 'CortexLeft'), 'cifti') for each in (one, two)
    )
    values = RNG.normal(size=len(one))
    full = np.zeros(n)
    full[one] = values
    np.testing.assert_array_equal(target.carry(values, source), full[two])


def test_other_meshes_and_spaces_are_told_apart():
    space = surfaces()
    assert space.same_as(surfaces())
    assert not space.same_as(surfaces(12, 10))
    assert not space.same_as(Space(space.axis, 'gifti', 'fsaverage5'))
    assert space.same_as(Space(space.axis, 'gifti', ''))
    assert not space.same_as(None)
    ones = np.ones((21, 1, 1), dtype=bool)
    assert not VoxelMask(ones, np.eye(4)).same_grid(VoxelMask(ones, np.eye(4), space=space))
    with pytest.raises(DataError, match=said(OTHER_MESH)):
        space.carry(np.ones(22), surfaces(13, 9))


def test_names():
    left = Path('sub-01_hemi-L_space-fsaverage5_bold.func.gii')
    both = files_of(left)
    assert [file.name for file in both][1] == 'sub-01_hemi-R_space-fsaverage5_bold.func.gii'
    assert files_of(sidecar_of(left))[1].name == 'sub-01_hemi-R_space-fsaverage5_bold.json'
    assert one_each([*both, *map(sidecar_of, both)]) == [left]


def write_left(folder: Path, n: int = 5) -> Path:
    file = folder / 'sub-1_hemi-L_bold.func.gii'
    array = nib.gifti.GiftiDataArray(np.zeros(n, dtype=np.float32))
    nib.gifti.GiftiImage(darrays=[array]).to_filename(file)
    return file


def test_damaged_files_are_refused_in_one_line(tmp_path):
    left = write_left(tmp_path)
    with pytest.raises(DataError, match=said(NO_HEMISPHERE)):
        load_image(left)
    left.with_name('sub-1_hemi-R_bold.func.gii').write_text('<GIFTI')
    with pytest.raises(DataError, match=r'Cannot read .* as GIFTI'):
        load_image(left)
    right = left.with_name('sub-1_hemi-R_bold.func.gii')
    right.write_text(left.read_text().replace('GZipBase64Binary', 'Base65'))
    with pytest.raises(DataError, match=r'Cannot read .* as GIFTI'):
        load_image(left)
    arrays = [nib.gifti.GiftiDataArray(np.zeros(n, dtype=np.float32)) for n in (5, 6)]
    nib.gifti.GiftiImage(darrays=arrays).to_filename(left)
    with pytest.raises(DataError, match=BAD_VERTICES.split('{file}')[1].split('(')[0].strip()):
        load_image(left)
    cifti = tmp_path / 'x.dtseries.nii'
    cifti.write_bytes(b'no CIFTI at all')
    with pytest.raises(DataError, match=r'Cannot read .* as CIFTI'):
        load_image(cifti)
    nib.Nifti2Image(np.zeros((2, 2, 2)), np.eye(4)).to_filename(cifti)
    with pytest.raises(DataError, match=NO_COLUMNS.split('{file}')[1].split('.')[0].strip()):
        load_image(cifti)
    header = nib.Cifti2Header.from_axes((SeriesAxis(0, 1, 2), ScalarAxis(['a', 'b'])))
    nib.Cifti2Image(np.zeros((2, 2), dtype=np.float32), header).to_filename(cifti)
    with pytest.raises(DataError, match=NO_COLUMNS.split('{file}')[1].split('.')[0].strip()):
        load_image(cifti)
    table = tmp_path / 'x.tsv'
    pd.DataFrame({'V1': [1, 2], 'V2': ['3', 'many']}).to_csv(table, sep='\t', index=False)
    with pytest.raises(DataError, match=NOT_NUMBERS.split('{column!r}')[1].strip('; .')):
        load_image(table)
    assert '\n' not in UNREADABLE
    with pytest.raises(DataError):
        image_files(cifti, nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)))


def test_what_needs_a_grid_is_refused():
    needs_grid('A convolutional model', None)
    words = NEEDS_GRID.format(what='A convolutional model', where='on a surface').split(':')[0]
    with pytest.raises(DataError, match=words):
        needs_grid('A convolutional model', surfaces())


def write_labels(folder: Path, names: dict[str, list[str]]) -> Path:
    for side, n in (('L', 12), ('R', 9)):
        table = nib.gifti.GiftiLabelTable()
        for key, name in enumerate(['???', *names[side]]):
            label = nib.gifti.GiftiLabel(key)
            label.label = name
            table.labels.append(label)
        data = (np.arange(n) % (len(names[side]) + 1)).astype(np.int32)
        array = nib.gifti.GiftiDataArray(data, intent='NIFTI_INTENT_LABEL')
        image = nib.gifti.GiftiImage(darrays=[array], labeltable=table)
        image.to_filename(folder / f'x_hemi-{side}_a.label.gii')
    return folder / 'x_hemi-L_a.label.gii'


def test_an_atlas_on_surfaces_brings_its_names(tmp_path):
    file = write_labels(tmp_path, {'L': ['lV1', 'lV2'], 'R': ['rV1', 'rV2']})
    atlas = load_atlas(file=file, space=None)
    assert list(atlas.table['name']) == ['lV1', 'lV2', 'rV1', 'rV2']
    labels = atlas.placed((21, 1, 1), np.eye(4), surfaces()).ravel()
    np.testing.assert_array_equal(labels[:12], np.arange(12) % 3)
    expected = np.arange(9) % 3
    np.testing.assert_array_equal(labels[12:], np.where(expected > 0, expected + 2, 0))
    same = write_labels(tmp_path, {'L': ['V1', 'V2'], 'R': ['V1', 'V2']})
    assert list(load_atlas(file=same).table['name']) == ['V1', 'V2']
    with pytest.raises(DataError, match=said(OTHER_FORM)):
        atlas.placed((3, 3, 3), np.eye(4), None)


@pytest.mark.parametrize(
    ('make', 'names'),
    [
        (grayordinates, ['CORTEX_LEFT', 'CORTEX_RIGHT', 'THALAMUS_LEFT']),
        (surfaces, ['CORTEX_LEFT', 'CORTEX_RIGHT']),
        (parcels, ['V1 left', 'V1 right', 'MT']),
        (cifti_parcels, ['area 0', 'area 1', 'area 2', 'area 3']),
    ],
)
def test_the_structures_of_the_data_are_an_atlas(make, names):
    space = make()
    atlas = load_atlas(name='structures', columns=space)
    assert isinstance(atlas, Atlas)
    assert list(atlas.table['name']) == names
    labels = atlas.placed((space.n_columns, 1, 1), np.eye(4), space)
    assert labels.min() == 1
    assert labels.max() == len(names)
    assert (np.diff(labels.ravel()) >= 0).all()
