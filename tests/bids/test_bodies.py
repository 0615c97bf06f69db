"""Files that hold more or fewer values than their headers say."""

import base64
import gzip
import os
import re
import zlib
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis

from bids_neurodecode.bids.series import bytes_behind, check_values, read_header, read_mask
from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.errors import InputError
from bids_neurodecode.spaces import Space
from tests.bad_input import check

BEHIND = b'padding of a block'


@pytest.mark.parametrize('extension', ['.nii', '.nii.gz'])
def test_bytes_behind_the_last_volume_are_counted(tmp_path, extension):
    values = np.ones((3, 4, 2, 5), dtype=np.int16) + np.arange(5, dtype=np.int16)
    path = tmp_path / f'x{extension}'
    pack = gzip.compress if extension == '.nii.gz' else bytes
    image = nib.Nifti1Image(values, np.eye(4)).to_bytes()
    inside = np.ones((3, 4, 2), dtype=bool)
    for behind in (b'', BEHIND):
        path.write_bytes(pack(image + behind))
        assert check_values(path, inside).n_behind == bytes_behind(path) == len(behind)
    path.write_bytes(pack(image + bytes(3 * 4 * 2 * 2)))
    with pytest.raises(InputError, match=r'48 bytes behind the 5 volumes .* as many as 1 volumes'):
        check_values(path, inside)
    for n_bytes in (1, 50):
        path.write_bytes(pack(image[:-n_bytes]))
        with pytest.raises(InputError, match=r'is cut short or corrupt .it ends in volume'):
            check_values(path, inside)


@pytest.mark.parametrize('offset', [np.inf, np.nan, -1.0, 1e30])
def test_a_header_whose_values_begin_nowhere_is_refused_in_one_line(tmp_path, offset):
    path = tmp_path / 'x.nii'
    content = bytearray(nib.Nifti1Image(np.ones((3, 4, 2, 5), np.int16), np.eye(4)).to_bytes())
    content[108:112] = np.float32(offset).tobytes()
    path.write_bytes(content)
    for read in (read_header, read_mask, partial(check_values, inside=np.ones((3, 4, 2), bool))):
        with pytest.raises(InputError):
            read(path)


def test_a_mask_is_read_again_when_either_file_of_it_changed(tmp_path):
    volume = tmp_path / 'mask.nii'
    nib.save(nib.Nifti1Image(np.ones((3, 4, 2), np.uint8), np.eye(4)), volume)
    assert read_mask(volume)[0].sum() == 24
    state = volume.stat()
    fewer = np.ones((3, 4, 2), np.uint8)
    fewer[0] = 0
    nib.save(nib.Nifti1Image(fewer, np.eye(4)), volume)
    os.utime(volume, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a copy that keeps times
    assert read_mask(volume)[0].sum() == 16
    axis = BrainModelAxis.from_surface(np.arange(9), 9, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(9), 9, 'CortexRight')
    for folder, n_right in ((tmp_path, 9), (tmp_path / 'other', 4)):
        inside = np.ones((18, 1, 1), np.float32)
        inside[9 + n_right :] = 0
        folder.mkdir(exist_ok=True)
        left = folder / 'a_hemi-L_space-fsnative_desc-brain_mask.shape.gii'
        write_image(left, Space(axis, 'gifti', 'fsnative').image(inside))
    mask = tmp_path / left.name
    assert read_mask(mask)[0].sum() == 18
    right = left.name.replace('hemi-L', 'hemi-R')
    (tmp_path / right).write_bytes((tmp_path / 'other' / right).read_bytes())
    assert read_mask(mask)[0].sum() == 13


def test_bytes_behind_the_last_row_of_cifti_are_counted(tmp_path):
    both = BrainModelAxis.from_surface(np.arange(9), 10, 'CortexLeft')
    both += BrainModelAxis.from_surface(np.arange(8), 10, 'CortexRight')
    rng = np.random.default_rng(0)
    series = Space(both, 'cifti', 'fsLR').image(rng.normal(size=(17, 1, 1, 4)))
    path = tmp_path / 'a_space-fsLR_bold.dtseries.nii'
    write_image(path, series, repetition_time=2.0)
    image, inside = path.read_bytes(), np.ones((17, 1, 1), dtype=bool)
    assert check_values(path, inside).n_behind == 0
    path.write_bytes(image + BEHIND)
    assert check_values(path, inside).n_behind == len(BEHIND)
    path.write_bytes(image + bytes(2 * 17 * 4))
    with pytest.raises(InputError, match=r'136 bytes behind the 4 volumes .* as many as 2'):
        check_values(path, inside)
    path.write_bytes(image[:-3])
    with pytest.raises(InputError, match=r'Cannot read .* as CIFTI'):
        check_values(path, inside)


def test_gifti_arrays_of_another_length_than_they_say_are_refused(tmp_path):
    path = tmp_path / 'a_hemi-L_space-fsnative_bold.func.gii'
    axis = BrainModelAxis.from_surface(np.arange(9), 9, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(9), 9, 'CortexRight')
    rng = np.random.default_rng(0)
    series = Space(axis, 'gifti', 'fsnative').image(rng.normal(size=(18, 1, 1, 4)))
    write_image(path, series, repetition_time=2.0)
    inside, text = np.ones((18, 1, 1), dtype=bool), path.read_text()
    assert check_values(path, inside).n_behind == 0
    data = re.search('<Data>([^<]*)</Data>', text)[1]
    values = zlib.decompress(base64.b64decode(data))
    for other in (values[:-4], values[:-2], values + bytes(2), values + bytes(4)):
        packed = base64.b64encode(zlib.compress(other)).decode()
        path.write_text(text.replace(data, packed, 1))
        with pytest.raises(InputError, match=r'Cannot read .* as GIFTI'):
            check_values(path, inside)


def test_bytes_behind_the_last_volume_are_said(make_dataset):
    data = make_dataset(participants=('01', '02'))
    for file in (data.bold(run='02'), data.mask()):
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + BEHIND))
    notes = [note for note in check(data).notes if 'bytes behind' in note]
    assert len(notes) == 2
    assert all(note.startswith(f'sub-01: {data.root}') for note in notes)
    assert all(f'holds {len(BEHIND)} bytes' in note for note in notes)
