"""Bad images: series, masks, atlases."""

import gzip
import struct

import nibabel as nib
import numpy as np

from tests.bad_input import FILM, config, fault, write_atlas

# values


@fault(r'run-01.*is cut short or corrupt', one=True)
def truncated_series(data):
    path = data.bold()
    path.write_bytes(path.read_bytes()[:-200])


@fault(r'Cannot read .*bold\.nii\.gz as NIfTI', one=True)
def series_is_text(data):
    data.bold().write_text('not an image at all')


@fault(r'Cannot read .*bold\.nii\.gz as NIfTI', one=True)
def series_is_empty(data):
    data.bold().write_bytes(b'')


@fault(r'_bold\.nii\.gz is a folder, and an image is needed there', one=True)
def series_is_a_folder(data):
    data.bold(run='02').unlink()
    data.bold(run='02').mkdir()


@fault(r'is cut short or corrupt', one=True)
def series_with_a_flipped_byte(data):
    path = data.bold()
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the checksum at the end
    path.write_bytes(bytes(content))


@fault(r'has the shape \(4, 4, 3\); a series has four', one=True)
def series_of_three_dimensions(data):
    image = nib.load(data.bold())
    nib.save(image.slicer[..., 0], data.bold())


@fault(r'holds 1 values that are NaN or infinite inside the mask \(first in volume 7\)', one=True)
def nan_in_the_series(data):
    def spoil(values):
        values[1, 1, 1, 7] = np.nan
        return values

    data.rewrite_bold(spoil)


@fault(r'is zero in the whole mask\. Regenerate', one=True)
def series_of_zeros(data):
    data.rewrite_bold(np.zeros_like)


@fault(r'is zero in the whole mask in volume 3', one=True)
def volume_of_zeros(data):
    data.rewrite_bold(lambda values: values * (np.arange(20) != 3))


@fault(r'brain_mask\.nii\.gz is on another grid \(4x4x2', one=True)
def mask_of_another_shape(data, datasets):
    datasets.write_mask(data.mask(), np.ones((4, 4, 2)))


@fault(r'is on another grid .*from \(3, 0, 0\)', one=True)
def mask_of_another_place(data, datasets):
    affine = datasets.AFFINE.copy()
    affine[0, 3] = 3
    datasets.write_mask(data.mask(), np.ones((4, 4, 3)), affine)


@fault(r'holds no voxel', one=True)
def empty_mask(data, datasets):
    datasets.write_mask(data.mask(), np.zeros((4, 4, 3)))


@fault(r'run-02.*is on another grid', one=True)
def runs_of_different_grids(data, datasets):
    affine = datasets.AFFINE.copy()
    affine[2, 3] = 6
    values = np.ones((4, 4, 3, 20))
    datasets.write_series(data.bold(run='02'), values, 2.0, affine)
    datasets.write_mask(data.mask(run='02'), np.ones((4, 4, 3)), affine)


@fault(r'my_.*dseg\.nii\.gz has no voxel in the mask')
def atlas_elsewhere(data):
    return ['--atlas', str(write_atlas(data, np.ones((4, 4, 3)), origin=500.0))]


@fault(r'V2 .*have no voxel|no voxel .*V2|V2')
def region_outside(data):
    path = write_atlas(data, np.ones((4, 4, 3)))
    return config(data, f'[atlas]\nfile = "{path}"\nregions = ["V2"]\n')


# folders and the machine


@fault(r'was centred \(100% of its voxels vary more than their mean\)', **FILM, one=True)
def centred_series_in_percent(data):
    image = nib.load(data.bold())
    values = np.asarray(image.dataobj, dtype=np.float32)
    values = values - values.mean(axis=-1, keepdims=True)
    nib.save(nib.Nifti1Image(values, image.affine, image.header), data.bold())


def set_values(path, dtype):
    """Write an image of another type."""
    image = nib.load(path)
    values = np.zeros(image.shape, dtype=dtype)
    nib.save(nib.Nifti1Image(values, image.affine), path)


@fault(r'preproc_bold\.nii\.gz holds complex values', one=True)
def complex_series(data):
    set_values(data.bold(), np.complex64)


@fault(r'preproc_bold\.nii\.gz holds RGB values', one=True)
def colours_as_series(data):
    set_values(data.bold(), np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))


@fault(r'brain_mask\.nii\.gz holds RGB values', one=True)
def colours_as_mask(data):
    set_values(data.mask(), np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))


# headers that promise what is not there


def rewrite_header(path, offset, form, *values):
    """Change bytes of a compressed header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(f'<{form}', content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)))


TERABYTE = (40, '8h', 3, 10_000, 10_000, 10_000, 1, 1, 1, 1)
"""Where a header says the shape of a volume, and one of as many voxels."""


@fault(r'header of .*bold\.nii\.gz promises 80000000000352 bytes', one=True)
def series_of_eighty_terabytes(data):
    rewrite_header(data.bold(), 40, '8h', 4, 10_000, 10_000, 10_000, 20, 1, 1, 1)


@fault(r'header of .*mask\.nii\.gz promises 1000000000352 bytes', one=True)
def mask_of_a_terabyte(data):
    rewrite_header(data.mask(), *TERABYTE)


@fault(r'holds 2304 bytes behind the 20 volumes of its header, as many as 12 volumes', one=True)
def series_of_fewer_volumes_than_there_are(data):
    data.rewrite_bold(lambda values: np.concatenate([values, values[..., :12]], axis=3))
    rewrite_header(data.bold(), 40, '8h', 4, 4, 4, 3, 20, 1, 1, 1)


def write_infinite(path):
    """Write a mask that somebody divided by zero."""
    values = np.ones((4, 4, 3), dtype=np.float32)
    values[0, 0, :2] = np.inf
    nib.save(nib.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1.0])), path)


@fault(r'2 voxels of the mask .*_mask\.nii\.gz are infinite, .* neither inside', one=True)
def mask_that_is_infinite(data):
    write_infinite(data.mask())


@fault(r'2 voxels of the mask .*mine\.nii\.gz are infinite')
def given_mask_that_is_infinite(data):
    write_infinite(file := data.root.parent / 'mine.nii.gz')
    return ['--mask', str(file)]


@fault(r'2 voxels of .*_V1\.nii\.gz are infinite, .* the region V1 a threshold')
def region_that_is_infinite(data):
    write_infinite(file := data.root.parent / 'space-MNI152NLin6Asym_V1.nii.gz')
    return config(data, f'[atlas.rois]\nV1 = "{file}"\n')


@fault(r'has 20 rows.* has 32000 volumes', one=True)
def series_of_more_volumes_than_there_are(data):
    rewrite_header(data.bold(), 40, '8h', 4, 4, 4, 3, 32000, 1, 1, 1)


for _shape in ((4, 4, -4, 3, 20), (0, 0, 0, 0, 0), (4, 4, 0, 3, 20)):

    @fault(r'header of .*bold\.nii\.gz gives the shape \(.*0|-4.*\)', one=True)
    def shape_of_nothing(data, shape=_shape):
        rewrite_header(data.bold(), 40, '8h', *shape, 1, 1, 1)


@fault(r'data code 9999 not recognized', one=True)
def unknown_type_of_values(data):
    rewrite_header(data.bold(), 70, 'h', 9999)


@fault(r'header of .*bold\.nii\.gz promises', one=True)
def values_that_begin_behind_the_end(data):
    rewrite_header(data.bold(), 108, 'f', 1e30)


for _offset in (float('nan'), -500):

    @fault(r'Cannot read .*bold\.nii\.gz as NIfTI', one=True)
    def values_that_begin_nowhere(data, offset=_offset):
        rewrite_header(data.bold(), 108, 'f', offset)


@fault(r'holds 960 values that are NaN or infinite .* too large for single precision', one=True)
def scaled_beyond_all_bounds(data):
    rewrite_header(data.bold(), 112, 'f', 1e38)


@fault(r'Cannot read .*bold\.nii\.gz as NIfTI: .*intercept nan', one=True)
def scaled_by_nan(data):
    rewrite_header(data.bold(), 112, 'ff', 1.0, float('nan'))


for _row in ([float('nan')] * 12, [0.0] * 12):

    @fault(r'header of .*bold\.nii\.gz does not say where its voxels lie', one=True)
    def voxels_that_lie_nowhere(data, row=_row):
        rewrite_header(data.bold(), 252, 'hh', 0, 1)
        rewrite_header(data.bold(), 280, '12f', *row)


@fault(r'has the shape \(4, 4, 3, 1\); a series has four', one=True)
def series_of_one_volume(data):
    data.rewrite_bold(lambda values: values[..., :1])


@fault(r'does not vary over time in the whole mask', one=True)
def series_without_change(data):
    data.rewrite_bold(lambda values: np.full_like(values, 100))


# masks


def write_volume(path, values):
    nib.save(nib.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1.0])), path)


@fault(r'mask\.nii\.gz has the shape \(4, 4, 3, 2\)', one=True)
def mask_of_four_dimensions(data):
    write_volume(data.mask(), np.ones((4, 4, 3, 2), dtype=np.uint8))


@fault(r'mask\.nii\.gz holds no voxel', one=True)
def mask_of_nan(data):
    write_volume(data.mask(), np.full((4, 4, 3), np.nan, dtype=np.float32))


@fault(r'mask\.nii\.gz holds complex values', one=True)
def complex_mask(data):
    write_volume(data.mask(), np.ones((4, 4, 3), dtype=np.complex64))


for _content in (b'not an image at all', b'', b'\x1f\x8b\x08\x00'):

    @fault(r'Cannot read .*mask\.nii\.gz as NIfTI', one=True)
    def mask_that_is_none(data, content=_content):
        data.mask().write_bytes(content)


@fault(r'The brain masks of 2 run\(s\) have no voxel in common', one=True)
def masks_that_share_nothing(data, datasets):
    left = np.zeros((4, 4, 3))
    left[:2] = 1
    datasets.write_mask(data.mask(), left)
    datasets.write_mask(data.mask(run='02'), 1 - left)


@fault(r'Cannot read .*m\.nii\.gz as NIfTI')
def given_mask_is_text(data):
    file = data.root.parent / 'm.nii.gz'
    file.write_text('x')
    return ['--mask', str(file)]


@fault(r'm\.nii\.gz is on another grid')
def given_mask_elsewhere(data, datasets):
    affine = datasets.AFFINE.copy()
    affine[:3, 3] = 500
    file = data.root.parent / 'm.nii.gz'
    datasets.write_mask(file, np.ones((4, 4, 3)), affine)
    return ['--mask', str(file)]


# atlases

COLOURS = np.zeros((4, 4, 3), dtype=np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))

for _values in (
    np.ones((4, 4, 3, 2), dtype=np.int16),
    np.full((4, 4, 3), 1.5, dtype=np.float32),
    np.full((4, 4, 3), np.nan, dtype=np.float32),
    np.full((4, 4, 3), -1, dtype=np.int16),
    np.ones((4, 4, 3), dtype=np.complex64),
    COLOURS,
):

    @fault(r'dseg\.nii\.gz is not a volume of whole, non-negative labels')
    def atlas_without_labels(data, values=_values):
        path = write_atlas(data, np.ones((4, 4, 3)))
        write_volume(path, values)
        return ['--atlas', str(path)]


@fault(r'header of .*dseg\.nii\.gz promises 2000000000352 bytes')
def atlas_of_two_terabytes(data):
    path = write_atlas(data, np.ones((4, 4, 3)))
    rewrite_header(path, *TERABYTE)
    return ['--atlas', str(path)]


for _n_bytes in (0, 40, 80):

    @fault(r'dseg\.nii\.gz')
    def atlas_cut_short(data, n_bytes=_n_bytes):
        path = write_atlas(data, np.ones((4, 4, 3)))
        path.write_bytes(path.read_bytes()[:n_bytes])
        return ['--atlas', str(path)]


@fault(r'dseg\.tsv')
def atlas_without_a_table(data):
    path = write_atlas(data, np.ones((4, 4, 3)))
    path.with_name('my_space-MNI152NLin6Asym_dseg.tsv').unlink()
    return ['--atlas', str(path)]


for _text in (
    '',
    'index\tcolour\n1\tred\n',
    'index\tname\none\tV1\n',
    'index\tname\n1.5\tV1\n',
    'index\tname\n1\tV1\n1\tV2\n',
):

    @fault(r'dseg\.tsv|table')
    def atlas_table_that_is_none(data, text=_text):
        path = write_atlas(data, np.ones((4, 4, 3)))
        path.with_name('my_space-MNI152NLin6Asym_dseg.tsv').write_text(text)
        return ['--atlas', str(path)]


@fault(r'is in T1w, the data are in MNI152NLin6Asym')
def atlas_of_another_space(data):
    path = write_atlas(data, np.ones((4, 4, 3)))
    for name in ('dseg.nii.gz', 'dseg.tsv'):
        own = path.with_name(f'my_space-MNI152NLin6Asym_{name}')
        own.rename(own.with_name(f'my_space-T1w_{name}'))
    return ['--atlas', str(path.with_name('my_space-T1w_dseg.nii.gz'))]


@fault(r'V9')
def region_that_the_atlas_lacks(data):
    path = write_atlas(data, np.ones((4, 4, 3)))
    return config(data, f'[atlas]\nfile = "{path}"\nregions = ["V9"]\n')


for _option, _line in (
    (['--atlas', '/nowhere/none.nii.gz'], r'There is no atlas file .*none\.nii\.gz'),
    (['--mask', '/nowhere/m.nii.gz'], r'There is no mask file /nowhere/m\.nii\.gz'),
    (['--atlas', '../../etc/passwd'], r'atlas'),
):

    @fault(_line)
    def option_that_cannot_be_used(data, option=_option):
        return option
