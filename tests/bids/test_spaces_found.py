"""Which series are taken where volumes, surfaces, CIFTI and parcels lie beside each other."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, SeriesAxis

from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.series import Grid, check_values, open_image, read_header
from bids_neurodecode.errors import InputError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import NO_HEMISPHERE, space_of

N_VOLUMES = 20
WALL = 3
"""Vertices of each hemisphere without a signal, as in the medial wall."""


def find(data, **request):
    made = data.root.parent / 'made'
    return find_inputs(Request(bids_dir=data.root, made_dir=made, **request))


def write_surface(file, n, rng):
    rows = rng.normal(100, 5, size=(N_VOLUMES, n)).astype(np.float32)
    rows[:, :WALL] = 0
    arrays = [nib.gifti.GiftiDataArray(row) for row in rows]
    nib.gifti.GiftiImage(darrays=arrays).to_filename(file)


def write_cifti(file, rng):
    axis = BrainModelAxis.from_surface(np.arange(8), 12, 'CortexLeft')
    axis += BrainModelAxis.from_mask(np.ones((2, 2, 2)), 'thalamus_left', affine=np.eye(4))
    rows = rng.normal(100, 5, size=(N_VOLUMES, 16)).astype(np.float32)
    header = nib.Cifti2Header.from_axes((SeriesAxis(0, 2.0, N_VOLUMES), axis))
    image = nib.Cifti2Image(rows, header)
    image.nifti_header.set_intent('NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES')
    image.to_filename(file)


def add_all(data, *, left=10, right=12):
    """Add surfaces, CIFTI and parcels beside the volumes of each run."""
    rng = np.random.default_rng(0)
    for run in data.each_run():
        bold = data.bold(**run)
        head = bold.name.split('_space-')[0]
        for side, n in (('L', left), ('R', right)):
            name = f'{head}_hemi-{side}_space-fsaverage5_bold.func.gii'
            write_surface(bold.with_name(name), n, rng)
        write_cifti(bold.with_name(f'{head}_space-fsLR_den-91k_bold.dtseries.nii'), rng)
        rows = rng.normal(size=(N_VOLUMES, 3))
        rows[:, 1] = np.nan
        table = pd.DataFrame(rows, columns=['V1', 'empty', 'MT'])
        name = f'{head}_space-MNI152NLin6Asym_seg-Some_stat-mean_timeseries.tsv'
        table.to_csv(bold.with_name(name), sep='\t', index=False, na_rep='n/a')


def without_volumes(data):
    for run in data.each_run():
        data.bold(**run).unlink()
        data.mask(**run).unlink()
        sidecar = data.bold(**run).with_name(data.bold(**run).name.replace('.nii.gz', '.json'))
        sidecar.unlink(missing_ok=True)


def test_volumes_are_taken_unless_another_space_is_asked_for(make_dataset):
    data = make_dataset()
    before = find(data).participants
    add_all(data)
    assert find(data).participants == before
    assert find(data, space='MNI152NLin6Asym').participants == before


@pytest.mark.parametrize(
    ('space', 'n', 'label', 'density'),
    [
        ('fsaverage5', 22 - 2 * WALL, 'fsaverage5', None),
        ('fsLR:den-91k', 16, 'fsLR', '91k'),
        ('space-fsLR', 16, 'fsLR', '91k'),
        ('MNI152NLin6Asym:seg-Some', 2, 'MNI152NLin6Asym', None),
    ],
)
def test_each_space_can_be_asked_for(make_dataset, space, n, label, density):
    data = make_dataset()
    add_all(data)
    inputs = find(data, space=space)
    (person,) = inputs.participants
    assert len(person.runs) == 2
    assert sum('what is called a voxel here is' in note for note in inputs.notes) == 1
    for run in person.runs:
        assert (run.space, run.density) == (label, density)
        assert run.n_volumes == N_VOLUMES
        assert run.repetition_time == 2.0
        assert run.confounds == data.confounds(**run.entities)
        assert 'hemi' not in run.entities
        mask = VoxelMask.load(run.mask)
        assert mask.n_voxels == n
        assert Grid.of(open_image(run.bold)).space.same_as(mask.space)


def test_surfaces_alone_are_read_with_their_wall_left_out(make_dataset):
    data = make_dataset()
    add_all(data)
    without_volumes(data)
    for file in data.derivatives.rglob('*.dtseries.nii'):
        file.unlink()
    for file in data.derivatives.rglob('*_timeseries.tsv'):
        if 'seg-' in file.name:
            file.unlink()
    (person,) = find(data).participants
    mask = VoxelMask.load(person.runs[0].mask)
    wall = np.flatnonzero(~mask.mask.ravel())
    assert wall.tolist() == [0, 1, 2, 10, 11, 12]
    assert check_values(person.runs[0].bold, mask.mask).centred == 0


def test_one_hemisphere_alone_is_refused(make_dataset):
    data = make_dataset()
    add_all(data)
    next(data.derivatives.rglob('*run-02_hemi-R_*.func.gii')).unlink()
    with pytest.raises(InputError, match=NO_HEMISPHERE.split('{', maxsplit=1)[0]):
        find(data, space='fsaverage5')
    # and where it is not read, it does no harm
    (person,) = find(data, space='fsLR:den-91k').participants
    assert len(person.runs) == 2
    find(data)


def test_runs_on_other_meshes_are_refused(make_dataset):
    data = make_dataset()
    add_all(data)
    other = next(data.derivatives.rglob('*run-02_hemi-R_*.func.gii'))
    write_surface(other, 13, np.random.default_rng(1))
    with pytest.raises(InputError, match='is on another grid') as caught:
        find(data, space='fsaverage5')
    assert '23 vertices of fsaverage5' in str(caught.value)
    assert '22 vertices of fsaverage5' in str(caught.value)


def test_damage_is_found_before_work_starts(make_dataset):
    data = make_dataset()
    add_all(data)
    file = next(data.derivatives.rglob('*run-01*.dtseries.nii'))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match='as CIFTI'):
        find(data, space='fsLR')


def test_a_mask_may_be_given_for_surfaces(make_dataset):
    data = make_dataset()
    add_all(data)
    series = next(data.derivatives.rglob('*run-01_hemi-L_*.func.gii'))
    for side, n in (('L', 10), ('R', 12)):
        values = np.zeros(n, dtype=np.float32)
        values[WALL : WALL + 2] = 1
        image = nib.gifti.GiftiImage(darrays=[nib.gifti.GiftiDataArray(values)])
        image.to_filename(data.root.parent / f'my_hemi-{side}_mask.shape.gii')
    mask = data.root.parent / 'my_hemi-L_mask.shape.gii'
    (person,) = find(data, space='fsaverage5', mask=mask).participants
    assert VoxelMask.load(person.runs[0].mask).n_voxels == 4
    assert space_of(open_image(series)).same_as(VoxelMask.load(person.runs[0].mask).space)
    with pytest.raises(InputError, match='is on another grid'):
        find(data, space='fsLR', mask=mask)
    with pytest.raises(InputError, match='is on another grid'):
        find(data, space='fsaverage5', mask=data.mask(run='01'))


def test_cifti_with_another_description_is_taken_by_filter_alone(make_dataset):
    data = make_dataset()
    add_all(data)
    for file in data.derivatives.rglob('*.dtseries.nii'):
        shutil.move(file, file.with_name(file.name.replace('_bold', '_desc-denoised_bold')))
    with pytest.raises(InputError, match="no space 'fsLR'"):
        find(data, space='fsLR')
    (person,) = find(data, filters={'bold': {'desc': 'denoised'}}, space='fsLR').participants
    assert read_header(person.runs[0].bold).grid.space.label == 'fsLR:den-91k'
