"""Atlases on surfaces by TemplateFlow's names: which file is taken, and what its labels are."""

import sys
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable

from bids_neurodecode.errors import InputError
from bids_neurodecode.signals import atlasfiles, templateflowfiles
from bids_neurodecode.signals.atlasfiles import load_atlas
from bids_neurodecode.spaces import Space

NAME = 'Schaefer2018_seg-7n_scale-100'
N_5, N_FINE, N_LR = 10242, 163842, 32492


def surface(n: int, label: str) -> Space:
    left, right = (
        BrainModelAxis.from_surface(np.arange(n), n, f'Cortex{side}') for side in ('Left', 'Right')
    )
    return Space(left + right, 'gifti', label)


def grayordinates(label: str = 'fsLR:den-91k') -> Space:
    """Every second vertex, as where the medial wall is left out, and two voxels."""
    axis = BrainModelAxis.from_surface(np.arange(0, N_LR, 2), N_LR, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(1, N_LR, 2), N_LR, 'CortexRight')
    voxels = BrainModelAxis(
        np.repeat('CIFTI_STRUCTURE_THALAMUS_LEFT', 2),
        np.array([[1, 1, 1], [2, 1, 1]]),
        affine=np.eye(4),
        volume_shape=(4, 4, 4),
    )
    return Space(axis + voxels, 'cifti', label)


def labels_of(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, n).astype(np.int32)


def write_labels(folder, template, density, n, name=NAME, start=0):
    """A pair of label files whose numbers begin anew in the right hemisphere."""
    atlas, _, rest = name.partition('_')
    for seed, side in enumerate('LR'):
        image = GiftiImage(labeltable=GiftiLabelTable())
        for key in range(4):
            label = GiftiLabel(key)
            label.label = f'7Networks_{side}H_Vis_{key}' if key else '???'
            image.labeltable.labels.append(label)
        image.add_gifti_data_array(
            GiftiDataArray(labels_of(n, start + seed), 'NIFTI_INTENT_LABEL', 'NIFTI_TYPE_INT32')
        )
        stem = f'tpl-{template}_hemi-{side}_den-{density}_atlas-{atlas}_{rest}_dseg'
        image.to_filename(folder / f'{stem}.label.gii')


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    for template in ('fsaverage', 'fsLR'):
        (tmp_path / f'tpl-{template}').mkdir()
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """TemplateFlow with names, and without a network."""
    from requests.exceptions import ConnectionError as NoNetwork

    class Api:
        files = ()

        def ls(self, template, extension, density=None, **query):
            assert query['suffix'] == 'dseg'
            asked = [str(query[k]) for k in ('atlas', 'segmentation', 'scale') if k in query]
            found = [f for f in self.files if f.name.endswith(extension)]
            found = [f for f in found if f'tpl-{template}_' in f.name and all(
                x in f.name for x in asked)]  # fmt: skip
            return [f for f in found if density is None or f'_den-{density}_' in f.name]

        def get(self, *_, **query):
            raise NoNetwork('no route')

    # the package itself reads its folder once, when it is imported: other tests want another one
    stub = ModuleType('templateflow')
    stub.api = Api()
    monkeypatch.setitem(sys.modules, 'templateflow', stub)
    return stub.api


def test_the_mesh_of_the_data_is_taken_by_name(home):
    folder = home / 'tpl-fsaverage'
    write_labels(folder, 'fsaverage', '10k', N_5)
    write_labels(folder, 'fsaverage', '164k', N_FINE, start=5)
    columns = surface(N_5, 'fsaverage5')
    atlas = load_atlas(name=NAME, space='fsaverage5', columns=columns)
    left, right = labels_of(N_5, 0), labels_of(N_5, 1)
    placed = atlas.placed((2 * N_5, 1, 1), np.eye(4), columns).ravel()
    # the right hemisphere counts on from the left one, as its names differ
    np.testing.assert_array_equal(placed, [*left, *np.where(right > 0, right + 3, 0)])
    assert atlas.table['name'].tolist() == [
        f'7Networks_{s}H_Vis_{k}' for s in 'LR' for k in (1, 2, 3)
    ]
    assert (atlas.name, atlas.warnings) == (NAME, ())
    # a name may be given as it stands in the file's name
    again = load_atlas(name=f'atlas-{NAME}', space='fsaverage5', columns=columns)
    assert again.table.equals(atlas.table)


@pytest.mark.slow
@pytest.mark.parametrize('given', ['name', 'file'])
def test_a_finer_mesh_of_fsaverage_serves_the_coarser_ones(home, given):
    folder = home / 'tpl-fsaverage'
    write_labels(folder, 'fsaverage', '164k', N_FINE)
    file = next(folder.glob('*hemi-R*'))
    columns = surface(N_5, 'fsaverage5')
    asked = {'name': NAME} if given == 'name' else {'file': file}
    atlas = load_atlas(**asked, space='fsaverage5', columns=columns)
    placed = atlas.placed((2 * N_5, 1, 1), np.eye(4), columns).ravel()
    np.testing.assert_array_equal(placed[:N_5], labels_of(N_FINE, 0)[:N_5])
    second = labels_of(N_FINE, 1)[:N_5]
    np.testing.assert_array_equal(placed[N_5:], np.where(second > 0, second + 3, 0))
    said = atlasfiles.COARSER.format(name=atlas.name, n_atlas='163,842', n='10,242')
    assert said in atlas.warnings


@pytest.mark.slow
def test_surfaces_of_fslr_and_dense_labels_go_with_cifti(home):
    folder, columns = home / 'tpl-fsLR', grayordinates()
    write_labels(folder, 'fsLR', '32k', N_LR)
    atlas = load_atlas(name=NAME, space='fsLR', columns=columns)
    placed = atlas.placed((columns.n_columns, 1, 1), np.eye(4), columns).ravel()
    np.testing.assert_array_equal(placed[: N_LR // 2], labels_of(N_LR, 0)[::2])
    assert not placed[-2:].any()
    # dense labels of the density of the data come first
    names = {0: ('???', (0, 0, 0, 0)), 9: ('all', (1, 0, 0, 1))}
    header = nib.Cifti2Header.from_axes((LabelAxis(['x'], [names]), columns.axis))
    dense = nib.Cifti2Image(np.full((1, columns.n_columns), 9, np.int32), header)
    dense.nifti_header.set_intent('NIFTI_INTENT_CONNECTIVITY_DENSE_LABELS')
    dense.to_filename(folder / f'tpl-fsLR_den-91k_atlas-{NAME}_dseg.dlabel.nii')
    atlas = load_atlas(name=NAME, space='fsLR', columns=columns)
    assert set(atlas.placed((columns.n_columns, 1, 1), np.eye(4), columns).ravel()) == {9}
    assert atlas.table['name'].tolist() == ['all']


def test_what_is_not_there_is_said(home, no_network):
    folder, columns = home / 'tpl-fsaverage', surface(N_5, 'fsaverage5')
    write_labels(folder, 'fsaverage', '10k', N_5)
    files = sorted(folder.glob('*'))
    no_network.files = [f.with_name(f.name.replace('scale-100', 'scale-200')) for f in files]
    with pytest.raises(InputError) as error:
        load_atlas(name=NAME.replace('100', '200'), space='fsaverage5', columns=columns)
    assert 'den-10k_atlas-Schaefer2018_seg-7n_scale-200_dseg.label.gii is not in' in str(
        error.value
    )
    with pytest.raises(InputError) as error:
        load_atlas(name=NAME.replace('100', '900'), space='fsaverage5', columns=columns)
    known = [NAME.replace('100', '200')]
    wanted = templateflowfiles.unknown_atlas(NAME.replace('100', '900'), 'fsaverage', known)
    assert str(error.value) == wanted
    with pytest.raises(InputError) as error:
        load_atlas(name=NAME, space=None, columns=surface(N_5, 'fsnative'))
    assert str(error.value) == templateflowfiles.NO_SPACE.format(name=NAME)
    # a half that was not fetched is no atlas
    next(folder.glob('*hemi-R*')).write_bytes(b'')
    no_network.files = files
    with pytest.raises(InputError, match='is not in TemplateFlow'):
        load_atlas(name=NAME, space='fsaverage5', columns=columns)
