"""Regions of the user: masks, thresholded maps and labels, in every form, with their names."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis
from pydantic import ValidationError

from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.config import AtlasSettings, RoiFile
from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.signals import regions
from bids_neurodecode.signals.atlas import OTHER_FORM, find_regions
from bids_neurodecode.signals.atlasfiles import OTHER_SPACE
from bids_neurodecode.signals.regions import place_regions
from bids_neurodecode.spaces import Space

AFFINE = np.diag([2.0, 2, 2, 1])
SHAPE = (6, 5, 4)


def said(message):
    return message.split('{', maxsplit=1)[0]


def volume(file, values, affine=AFFINE):
    nib.Nifti1Image(values, affine).to_filename(file)
    return str(file)


def place(rois, subject='01', space='T1w', shape=SHAPE, affine=AFFINE, columns=None):
    settings = AtlasSettings(rois=rois)
    return place_regions(
        settings, subject, shape=shape, affine=affine, space=space, columns=columns
    )


def box(*slices):
    values = np.zeros(SHAPE, dtype=np.float32)
    values[slices] = 1
    return values


def test_masks_maps_and_labels_become_one_table(tmp_path):
    statistic = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    statistic[0, 0, 0] = np.nan
    labels = (box(5) + 2 * box(4, slice(0, 2))).astype(np.int16)
    (tmp_path / 'my_dseg.tsv').write_text('index\tname\n1\tV1\n2\tV2\n9\tgone\n')
    found = place(
        {
            'V4': volume(tmp_path / 'sub-01_mask.nii.gz', box(0)).replace('sub-01', 'sub-{sub}'),
            'FFA': volume(tmp_path / 'z.nii.gz', statistic) + ' > 0.5',
            'early': volume(tmp_path / 'my_dseg.nii.gz', labels),
        }
    )
    assert found.table['name'].tolist() == ['V4', 'FFA', 'early_V1', 'early_V2']
    np.testing.assert_array_equal(found.labels == 1, box(0) > 0)
    np.testing.assert_array_equal(found.labels == 2, (statistic > 0.5) & (box(0) == 0))
    np.testing.assert_array_equal(found.labels == 3, (labels == 1) & ~(statistic > 0.5))
    assert find_regions(found.table, ['early']) == {'early': [3, 4]}
    shared = [line for line in found.warnings if 'an earlier one, which keeps them' in line]
    assert len(shared) == 2


def test_another_grid_is_resampled_and_one_label_has_the_name_of_its_region(tmp_path):
    fine = np.diag([1.0, 1, 1, 1])
    fine[:3, 3] = -0.5
    labels = np.kron(box(slice(None), 2), np.ones((2, 2, 2))).astype(np.int16) * 7
    (tmp_path / 'a_dseg.tsv').write_text('index\tname\n7\tanything\n')
    found = place({'mine': volume(tmp_path / 'a_dseg.nii', labels, fine)})
    assert found.table['name'].tolist() == ['mine']
    np.testing.assert_array_equal(found.labels, box(slice(None), 2))


def surfaces(form='gifti'):
    axis = BrainModelAxis.from_surface(np.arange(5), 5, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(4), 4, 'CortexRight')
    return Space(axis, form, 'fsnative' if form == 'gifti' else 'fsLR:den-91k')


@pytest.mark.parametrize(
    ('form', 'place_of', 'ends'),
    [
        ('gifti', 'hemi-L_space-fsnative', ('mask.shape.gii', 'dseg.label.gii')),
        ('cifti', 'space-fsLR_den-91k', ('z.dscalar.nii', 'dseg.dlabel.nii')),
    ],
)
def test_surfaces_and_cifti(form, place_of, ends, tmp_path):
    space = surfaces(form)
    mask, labels = (f'sub-01_{place_of}_{end}' for end in ends)
    values = np.arange(9, dtype=np.float32)
    write_image(tmp_path / mask, space.image(values))
    write_image(tmp_path / labels, space.image((values % 3).astype(np.int32)))
    found = place(
        {'high': f'{tmp_path / mask} > 6.5', 'set': str(tmp_path / labels)},
        space='fsnative' if form == 'gifti' else 'fsLR',
        shape=(9, 1, 1),
        columns=space,
    )
    assert found.table['name'].tolist() == ['high', 'set_1', 'set_2']
    assert found.labels.ravel().tolist() == [0, 2, 3, 0, 2, 3, 0, 1, 1]
    with pytest.raises(DataError, match=said(OTHER_FORM)):
        place({'high': str(tmp_path / mask)}, space='fsnative' if form == 'gifti' else 'fsLR')


def test_what_cannot_be_a_region_is_said_in_one_line(tmp_path):
    good = volume(tmp_path / 'good_label-reliable_mask.nii', box(0))
    for rois, message in (
        ({'V1': str(tmp_path / 'none.nii')}, regions.NO_FILE),
        ({'V1': good + ' > 3'}, regions.EMPTY),
        ({'V1': volume(tmp_path / 'four.nii', np.ones((*SHAPE, 3)))}, regions.NOT_ONE_MAP),
        ({'V1': volume(tmp_path / 'x_space-MNI152Lin_mask.nii', box(0))}, OTHER_SPACE),
    ):
        with pytest.raises(InputError) as error:
            place(rois)
        assert str(error.value).startswith(said(message))
    (tmp_path / 'bad.nii').write_bytes(b'no image')
    with pytest.raises(InputError, match='Cannot read'):
        place({'V1': str(tmp_path / 'bad.nii')})
    assert regions.RELIABLE.format(file=good) in place({'V1': good}).warnings
    for bad in ({'name': 'A', 'rois': {'V1': good}}, {'regions': ['V1']}, {'rois': {'a b': good}}):
        with pytest.raises(ValidationError):
            AtlasSettings(**bad)


def test_a_path_may_hold_the_sign(tmp_path):
    odd = RoiFile.of('/data/a>b.nii')
    assert (str(odd.file), odd.threshold) == ('/data/a>b.nii', None)
    assert RoiFile.of('x.nii > -2').above == -2
    text = AtlasSettings(rois={'V1': 'x.nii > 2.50'}).rois['V1']
    assert AtlasSettings(rois={'V1': text}).rois['V1'] == text
    with pytest.raises(ValidationError):
        AtlasSettings(rois={'V1': 'x.nii > high'})


def test_regions_of_an_atlas_have_the_names_of_its_table(tmp_path):
    labels = (box(5) + 2 * box(4)).astype(np.int16)
    table = tmp_path / 'names.tsv'
    table.write_text('index\tname\n1\tV1\n2\tV2\n')
    file = volume(tmp_path / 'labels.nii.gz', labels)
    settings = AtlasSettings(file=file, table=table)
    found = place_regions(settings, '01', shape=SHAPE, affine=AFFINE, space='T1w', columns=None)
    assert found.table['name'].tolist() == ['V1', 'V2']
    np.testing.assert_array_equal(found.labels.reshape(SHAPE), labels)
