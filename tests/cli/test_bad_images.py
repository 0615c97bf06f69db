"""Bad images: series, masks, atlases."""

import nibabel as nib
import numpy as np
import pytest

from tests.bad_input import (
    FILM,
    Kinds,
    command,
    config,
    left_out,
    refused,
    spoiled,
    write_atlas,
)

fault = Kinds()


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


@fault(r'is zero in the whole mask\. Make', one=True)
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


@fault(r'There is no atlas file .*none\.nii\.gz')
def atlas_missing(data):
    return ['--atlas', '/nowhere/none.nii.gz']


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


@pytest.mark.parametrize(('spoil', 'line', 'spec'), fault.all)
def test_refused(spoil, line, spec, make_dataset, datasets, tmp_path, capsys):
    data = make_dataset(**spec)
    refused(command(data, spoiled(spoil, data, datasets)), line, tmp_path, capsys)


@pytest.mark.parametrize(('spoil', 'line', 'spec'), fault.of_one)
def test_others_go_on(spoil, line, spec, make_dataset, datasets):
    left_out(spoil, line, make_dataset(**spec, participants=('01', '02', '03')), datasets)
