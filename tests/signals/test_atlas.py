"""Atlases: labels by coordinates, regions by name, means of parcels."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nilearn.image import resample_img

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.signals import atlas as rooms
from bids_neurodecode.signals import atlasfiles, templateflowfiles
from bids_neurodecode.signals.atlas import (
    as_labels,
    find_regions,
    parcel_means,
    region_mask,
    region_table,
    resample_labels,
)
from bids_neurodecode.signals.atlasfiles import load_atlas

SPACE = 'MNI152NLin6Asym'
RAS = np.array([[2.0, 0, 0, -20], [0, 2, 0, -30], [0, 0, 2, -10], [0, 0, 0, 1]])
NAMES = ['7Networks_LH_Vis_1', '7Networks_LH_Vis_10', '7Networks_LH_SomMot_1',
         '7Networks_RH_Vis_1', '7Networks_RH_DorsAttn_Post_2']  # fmt: skip


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 6, (11, 13, 9)).astype(np.int32)


@pytest.fixture
def table():
    return region_table(pd.DataFrame({'index': range(1, 6), 'name': NAMES, 'color': '#0'}))


def label_at(labels, affine, point):
    """The label of the voxel whose centre is nearest to a point in mm (brute force)."""
    voxel = np.rint(np.linalg.solve(affine, [*point, 1])[:3]).astype(int)
    inside = all(0 <= v < n for v, n in zip(voxel, labels.shape, strict=True))
    return labels[tuple(voxel)] if inside else 0


@given(
    zooms=st.tuples(*[st.sampled_from([1.1, 1.7, 2.0, 3.3, -2.0, -2.6])] * 3),
    shift=st.tuples(*[st.floats(-9.3, 9.3)] * 3),
)
def test_every_target_voxel_has_the_label_at_its_coordinates(zooms, shift):
    labels = np.random.default_rng(0).integers(0, 6, (7, 6, 5)).astype(np.int32)
    target = np.diag([*zooms, 1.0])
    target[:3, 3] = np.array(shift) + 0.0137 + (np.array(zooms) < 0) * 8
    out = resample_labels(labels, RAS, (5, 6, 4), target)
    for voxel in np.ndindex(out.shape):
        point = target @ [*voxel, 1]
        inner = np.linalg.solve(RAS, point)[:3]
        if np.abs(inner - np.floor(inner) - 0.5).min() > 1e-3:  # between two voxels: either
            assert out[voxel] == label_at(labels, RAS, point[:3])


def test_flipped_axes_agree_by_coordinates(labels):
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = labels.shape[0] - 1
    out = resample_labels(labels[::-1], RAS @ flip, labels.shape, RAS)
    np.testing.assert_array_equal(out, labels)
    assert out.dtype == np.int32


def test_rotated_grid_is_nilearns(labels):
    angle = 0.3
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    target = turn @ np.diag([2.3, 1.9, 2.1, 1])
    target[:3, 3] = [-11.3, -24.1, -7.7]
    expected = resample_img(
        nib.Nifti1Image(labels, RAS), target, (12, 12, 9), interpolation='nearest',
        copy_header=True, force_resample=True,
    )  # fmt: skip
    out = resample_labels(labels, RAS, (12, 12, 9), target)
    theirs = np.asarray(expected.dataobj)
    both = (out > 0) & (theirs > 0)  # half a voxel at the border is outside for nilearn
    assert both.mean() > 0.2
    np.testing.assert_array_equal(out[both], theirs[both])
    assert np.mean(out == theirs) > 0.9


def test_same_grid_in_single_precision_changes_nothing(labels):
    np.testing.assert_array_equal(
        resample_labels(labels, RAS * 1.0000001, labels.shape, RAS.astype(np.float32)), labels
    )


def test_table_is_completed_by_names(table):
    assert table['hemisphere'].tolist() == ['L', 'L', 'L', 'R', 'R']
    assert table['network'].tolist() == ['Vis', 'Vis', 'SomMot', 'Vis', 'DorsAttn']
    aal = region_table(pd.DataFrame({'index': [2, 1, 0], 'label': ['Fusiform_R', 'Vermis', 'bg']}))
    assert aal['name'].tolist() == ['Vermis', 'Fusiform_R']
    assert aal['hemisphere'].tolist() == ['', 'R']


@pytest.mark.parametrize(
    ('region', 'indices'),
    [
        ('7Networks_LH_Vis_1', [1]),
        ('Vis', [1, 2, 4]),
        ('LH_Vis', [1, 2]),
        ('L', [1, 2, 3]),
        ('RH', [4, 5]),
        ('Post', [5]),
        ('DorsAttn_Post', [5]),
    ],
)
def test_regions_by_name_network_or_part(table, labels, region, indices):
    assert find_regions(table, [region]) == {region: indices}
    np.testing.assert_array_equal(region_mask(labels, table, [region]), np.isin(labels, indices))


@pytest.mark.parametrize(
    ('region', 'near'), [('vis', 'near: Vis'), ('SomMott', 'near: SomMot'), ('1', ''), ('', '')]
)
def test_unknown_region_names_the_nearest(table, labels, region, near):
    with pytest.raises(DataError, match=f'no region or network called {region!r}') as error:
        region_mask(labels, table, ['Vis', region])
    assert near in str(error.value)


def test_region_outside_of_the_grid_is_said(table):
    with pytest.raises(DataError) as error:
        region_mask(np.full((3, 3, 3), 3), table, ['Vis'])
    assert str(error.value) == rooms.EMPTY_REGIONS.format(names='Vis')


def test_parcel_means_against_loops():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((8, 50)).astype(np.float32)
    labels = rng.integers(0, 5, 50)
    labels[labels == 3] = 7
    series[2, np.flatnonzero(labels == 4)[0]] = np.nan
    means = parcel_means(series, labels)
    assert means.ids.tolist() == [1, 2, 4, 7]
    for column, index in enumerate(means.ids):
        usable = (labels == index) & np.isfinite(series).all(axis=0)
        np.testing.assert_allclose(
            means.values[:, column], series[:, usable].mean(axis=1), atol=1e-6
        )
        assert means.n_voxels[column] == usable.sum()


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: parcel_means(np.ones((3, 4)), np.ones(5, int)),
            rooms.WRONG_SHAPE.format(labels=(5,), series=(3, 4)),
        ),
        (lambda: parcel_means(np.ones((3, 4)), np.zeros(4, int)), rooms.NO_PARCELS),
        (
            lambda: as_labels(np.full((2, 2, 2), 0.4), 'f.nii'),
            rooms.NOT_LABELS.format(source='f.nii', reason='some are fractions'),
        ),
        (
            lambda: as_labels(np.full((2, 2, 2), -1), 'f.nii'),
            rooms.NOT_LABELS.format(source='f.nii', reason='some are negative or missing'),
        ),
        (
            lambda: as_labels(np.ones((2, 2, 2, 3)), 'f.nii'),
            rooms.NOT_LABELS.format(source='f.nii', reason='its shape is (2, 2, 2, 3)'),
        ),
        (
            lambda: region_table(pd.DataFrame({'id': [1]})),
            rooms.BAD_TABLE.format(columns='id'),
        ),
        (
            lambda: region_table(pd.DataFrame({'index': [1, 1], 'name': ['a', 'b']})),
            rooms.REPEATED_INDEX.format(indices='1'),
        ),
        (
            lambda: resample_labels(np.ones((2, 2, 2), int), np.zeros((4, 4)), (2, 2, 2), RAS),
            rooms.BAD_AFFINE.format(shape=(4, 4)),
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == message


def write_atlas(folder, stem, labels, table_name, text):
    image = folder / f'{stem}.nii.gz'
    nib.Nifti1Image(labels.astype(np.float32), RAS).to_filename(image)
    (folder / table_name).write_text(text)
    return image


TSV = 'index\tname\tcolor\n' + ''.join(f'{i + 1}\t{n}\t#0\n' for i, n in enumerate(NAMES))


@pytest.mark.parametrize(
    'table_name',
    [f'atlas-My_space-{SPACE}_res-02_dseg.tsv', 'atlas-My_dseg.tsv', 'atlas-My_res-02_dseg.tsv'],
)
def test_file_with_its_table_beside_it(tmp_path, labels, table_name):
    image = write_atlas(tmp_path, f'atlas-My_space-{SPACE}_res-02_dseg', labels, table_name, TSV)
    atlas = load_atlas(file=image, space=SPACE)
    np.testing.assert_array_equal(atlas.labels, labels)
    assert atlas.table['name'].tolist() == NAMES
    assert (atlas.space, atlas.warnings) == (SPACE, ())
    np.testing.assert_array_equal(atlas.on_grid(labels.shape, RAS), labels)


def test_table_without_header_and_unnamed_labels(tmp_path, labels):
    image = write_atlas(tmp_path, 'my_dseg', labels, 'my.csv', '0,null\n1,L_V1v\n3,R_V1v\n')
    atlas = load_atlas(file=image, table=tmp_path / 'my.csv', space=SPACE)
    assert atlas.table['name'].tolist() == ['L_V1v', 'R_V1v']
    assert atlas.warnings == (
        atlasfiles.SPACE_ASSUMED.format(file=image, space=SPACE),
        atlasfiles.UNNAMED_LABELS.format(n=3, file=image),
    )
    assert load_atlas(file=image, table=tmp_path / 'my.csv').warnings == atlas.warnings[1:]


def test_file_of_another_space(tmp_path, labels):
    image = write_atlas(tmp_path, f'atlas-A_space-{SPACE}_dseg', labels, 'atlas-A_dseg.tsv', TSV)
    other = 'MNI152NLin2009cAsym'
    with pytest.raises(InputError) as error:
        load_atlas(file=image, space=other)
    expected = atlasfiles.OTHER_SPACE.format(file=image, found=SPACE, space=other)
    assert str(error.value) == expected
    with pytest.raises(InputError, match='the data are in none that is known'):
        load_atlas(file=image)


def test_file_that_is_not_there_not_an_image_or_without_table(tmp_path, labels):
    with pytest.raises(InputError, match=r'no atlas file .*gone.nii'):
        load_atlas(file=tmp_path / 'gone.nii')
    image = write_atlas(tmp_path, 'a_res-1_dseg', labels, 'other.tsv', TSV)
    with pytest.raises(InputError, match=r'looked for a_res-1_dseg.tsv, .*a_dseg.tsv'):
        load_atlas(file=image)
    bad = tmp_path / 'bad_dseg.nii.gz'
    bad.write_bytes(b'not an image')
    with pytest.raises(InputError, match=r'Cannot read the atlas file .*bad_dseg') as error:
        load_atlas(file=bad, table=tmp_path / 'other.tsv')
    assert '\n' not in str(error.value)
    with pytest.raises(InputError) as neither:
        load_atlas(space=SPACE)
    assert str(neither.value) == atlasfiles.NEITHER


@pytest.fixture
def home(tmp_path, labels, monkeypatch):
    """A TemplateFlow folder with one atlas, and the empty files that stand for others."""
    folder = tmp_path / f'tpl-{SPACE}'
    folder.mkdir()
    stem = f'tpl-{SPACE}_res-02_atlas-My_desc-5Parcels_dseg'
    write_atlas(folder, stem, labels, f'tpl-{SPACE}_atlas-My_desc-5Parcels_dseg.tsv', TSV)
    (folder / f'tpl-{SPACE}_res-01_atlas-My_desc-5Parcels_dseg.nii.gz').touch()
    (folder / 'template_description.json').write_text('{"Identifier": "x"}')
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    return tmp_path


def test_templateflow_name_from_the_folder(home, labels):
    atlas = load_atlas(name='My_desc-5Parcels', space=SPACE)
    np.testing.assert_array_equal(atlas.labels, labels)
    assert atlas.name == 'My_desc-5Parcels'


def test_templateflow_name_needs_a_space_and_its_form(home):
    with pytest.raises(InputError, match='My_desc-5Parcels is in a standard space'):
        load_atlas(name='My_desc-5Parcels')
    with pytest.raises(InputError, match="Cannot read the atlas name 'My_5Parcels'"):
        load_atlas(name='My_5Parcels', space=SPACE)


class FakeApi:
    """TemplateFlow without a network."""

    def __init__(self, files, error):
        self.files, self.error = files, error

    def ls(self, template, extension, **query):
        return [f for f in self.files if f.name.endswith(extension) and template in f.name]

    def templates(self, **query):
        return ['MNI152NLin2009cAsym']

    def get(self, template, **query):
        raise self.error


def test_templateflow_without_network_says_the_way_out(home, monkeypatch):
    import templateflow
    from requests.exceptions import ConnectionError as NoNetwork

    folder = home / f'tpl-{SPACE}'
    next(folder.glob('*_res-02_*')).unlink()
    fake = FakeApi(sorted(folder.glob('*dseg*')), NoNetwork('long\ntext'))
    monkeypatch.setattr(templateflow, 'api', fake)
    with pytest.raises(InputError) as error:
        load_atlas(name='My_desc-5Parcels', space=SPACE)
    message = str(error.value)
    assert 'res-01_atlas-My_desc-5Parcels_dseg.nii.gz is not in' in message
    assert f'templateflow get --atlas My {SPACE}' in message
    assert 'ConnectionError' in message
    assert '\n' not in message


def test_templateflow_atlas_of_another_space(home, monkeypatch):
    import templateflow

    monkeypatch.setattr(templateflow, 'api', FakeApi([], None))
    with pytest.raises(InputError) as error:
        load_atlas(name='My_desc-5Parcels', space='MNIColin27')
    assert str(error.value) == templateflowfiles.NOT_IN_SPACE.format(
        name='My_desc-5Parcels',
        space='MNIColin27',
        elsewhere=' (it has it in MNI152NLin2009cAsym)',
    )


def test_misspelt_atlas_in_a_space_without_any_suggests_names_elsewhere(home, monkeypatch):
    import templateflow

    files = sorted((home / f'tpl-{SPACE}').glob('*dseg*'))

    class WithoutQuery(FakeApi):
        def ls(self, template, extension, atlas=None, **query):
            return [] if atlas else super().ls(template, extension)

        def templates(self, **query):
            return [] if 'atlas' in query else [SPACE]

    monkeypatch.setattr(templateflow, 'api', WithoutQuery(files, None))
    for name, near in (
        ('my_desc-5Parcel', f', nor in any other; it has My_desc-5Parcels in {SPACE}'),
        ('Unlike', ''),
    ):
        with pytest.raises(InputError) as error:
            load_atlas(name=name, space='MNIColin27')
        wanted = {'name': name, 'space': 'MNIColin27', 'elsewhere': near}
        assert str(error.value) == templateflowfiles.NOT_IN_SPACE.format(**wanted)


@pytest.fixture
def schaefer(shared, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(shared / 'templateflow'))
    return load_atlas(name='Schaefer2018_desc-100Parcels7Networks', space=SPACE)


@pytest.mark.real
def test_schaefer_hemispheres_on_a_ras_grid(schaefer):
    assert nib.aff2axcodes(schaefer.affine) == ('L', 'A', 'S')
    affine = np.array([[3.0, 0, 0, -90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    labels = schaefer.on_grid((61, 73, 61), affine)
    for hemisphere, side in (('L', -1), ('R', 1)):
        indices = schaefer.table.loc[schaefer.table.hemisphere == hemisphere, 'index']
        points = nib.affines.apply_affine(affine, np.argwhere(np.isin(labels, indices)))
        assert np.mean(points[:, 0] * side > 0) > 0.95
        for index in indices:
            x = nib.affines.apply_affine(affine, np.argwhere(labels == index))[:, 0]
            assert np.median(x) * side > 0, index
    vis = nib.affines.apply_affine(
        affine, np.argwhere(region_mask(labels, schaefer.table, ['Vis']))
    )
    assert vis[:, 1].mean() < -60  # the back of the head


@pytest.mark.real
def test_las_and_ras_agree_at_the_same_coordinates(schaefer):
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = schaefer.labels.shape[0] - 1
    as_ras = schaefer.on_grid(schaefer.labels.shape, schaefer.affine @ flip)
    np.testing.assert_array_equal(as_ras, schaefer.labels[::-1])
    assert not np.array_equal(as_ras, schaefer.labels)


@pytest.mark.real
def test_aal3_and_wang2015_agree_on_primary_visual_cortex(shared, schaefer):
    folder = shared / 'data/atlases'
    aal = load_atlas(
        file=folder / 'aal3' / f'atlas-AAL3_space-{SPACE}_res-02_dseg.nii.gz', space=SPACE
    )
    wang = load_atlas(
        file=folder / 'wang2015/Princetonvisual-top_space-MNI152NLin6_res-2x2x2.nii.gz',
        table=folder / 'wang2015/Princetonvisual.csv',
        space=SPACE,
    )
    assert len(aal.table) == 166
    assert 'MNI152NLin6;' in wang.warnings[0]
    grid = (aal.labels.shape, aal.affine)
    v1 = region_mask(wang.on_grid(*grid), wang.table, ['L_V1v', 'L_V1d'])
    calcarine = region_mask(aal.on_grid(*grid), aal.table, ['Calcarine_L', 'Lingual_L'])
    right = region_mask(aal.on_grid(*grid), aal.table, ['Calcarine_R', 'Lingual_R'])
    assert (v1 & calcarine).sum() > 5 * (v1 & right).sum()
    assert (v1 & calcarine).sum() > 0.3 * v1.sum()
    visual = region_mask(schaefer.on_grid(*grid), schaefer.table, ['LH_Vis'])
    assert (calcarine & visual).sum() > 0.5 * calcarine.sum()


@pytest.mark.real
@pytest.mark.parametrize(
    ('name', 'space', 'words'),
    [
        ('Schaefer2018_desc-77Parcels7Networks', SPACE, 'There is no atlas Schaefer2018_desc-77'),
        ('Schaefer2018_desc-100Parcels7Networks', 'OASIS30ANTs', 'in the space OASIS30ANTs'),
    ],
)
def test_templateflow_itself_says_what_is_not_there(shared, monkeypatch, name, space, words):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(shared / 'templateflow'))
    with pytest.raises(InputError, match=words):
        load_atlas(name=name, space=space)
