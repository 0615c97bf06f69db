"""Bad series of surfaces and CIFTI."""

import itertools
import re

import nibabel as nib
import numpy as np
from nibabel.cifti2.cifti2_axes import BrainModelAxis, ParcelsAxis, ScalarAxis, SeriesAxis

from tests.bad_input import fault
from tests.meshes import write_mesh

N_VOLUMES = 20
SPACE = {'spaces': ('fsLR',)}
SURFACE = {'spaces': ('fsaverage5',)}
NATIVE = {'spaces': ('fsnative',)}
VERTICES = BrainModelAxis.from_surface(np.arange(8), 12, 'CortexLeft')
PARCELS = ParcelsAxis.from_brain_models([('a', VERTICES[:4]), ('b', VERTICES[4:])])
SECONDS = SeriesAxis(0, 2.0, N_VOLUMES)
ROWS = ScalarAxis([f'beta {number}' for number in range(N_VOLUMES)])
HERTZ = SeriesAxis(0, 2.0, N_VOLUMES, 'HERTZ')


def series(data, run, extension):
    """Take the volumes of a run away; return where a series of another form goes."""
    for extension_of_volumes in ('.nii.gz', '.json'):
        data.bold(**run, extension=extension_of_volumes).unlink()
    data.mask(**run).unlink()
    name = data.bold(**run).name.replace('_desc-preproc_bold.nii.gz', extension)
    return data.bold(**run).with_name(name)


def write_cifti(data, axes):
    """Write the series of the first participant with these axes, those of others as they are."""
    rng = np.random.default_rng(0)
    for run in data.each_run():
        header = nib.Cifti2Header.from_axes(axes if run['sub'] == '01' else (SECONDS, VERTICES))
        values = rng.normal(100, 5, header.matrix.get_data_shape()).astype(np.float32)
        file = series(data, run, '_den-91k_bold.dtseries.nii')
        nib.Cifti2Image(values, header).to_filename(file)


for _axes, _line in (
    ((VERTICES, SECONDS), r'dtseries\.nii has no axis of vertices, voxels or parcels'),
    ((SECONDS, SECONDS), r'dtseries\.nii has no axis of vertices, voxels or parcels'),
    ((SECONDS, PARCELS), r'has parcels along its columns, and its name says vertices and voxels'),
    ((ROWS, VERTICES), r'The rows of .*dtseries\.nii are no series, and those of a series lie in'),
    ((HERTZ, VERTICES), r'The rows of .*dtseries\.nii are hertz, and those of a series lie in'),
):

    @fault(_line, one=True, **SPACE)
    def cifti_with_other_axes(data, axes=_axes):
        write_cifti(data, axes)


def write_surfaces(data, first, change=str):
    """Write both hemispheres of all series; ``first`` are the arrays of one of them.

    ``change`` is applied to its text.
    """
    rng = np.random.default_rng(0)
    for run in data.each_run():
        left = series(data, run, '_bold.func.gii')
        name = left.name.replace('_space', '_hemi-L_space')
        for side in 'LR':
            arrays = rng.normal(100, 5, (N_VOLUMES, 10)).astype(np.float32)
            spoiled = side == 'L' and run['sub'] == '01'
            file = left.with_name(name.replace('hemi-L', f'hemi-{side}'))
            made = [nib.gifti.GiftiDataArray(x) for x in (first(arrays) if spoiled else arrays)]
            nib.gifti.GiftiImage(darrays=made).to_filename(file)
            if spoiled:
                file.write_text(change(file.read_text()))


@fault(r'func\.gii have different numbers of vertices \(9, 10\)', one=True, **SURFACE)
def surface_with_an_array_that_is_shorter(data):
    write_surfaces(data, lambda rows: [*rows[:-1], rows[-1, :9]])


@fault(r'as GIFTI: 19 and 20 arrays', one=True, **SURFACE)
def surface_with_a_volume_less_than_the_other(data):
    write_surfaces(data, lambda rows: rows[:-1])


@fault(r'func\.gii says that its values lie in another file', one=True, **SURFACE)
def surface_whose_values_lie_elsewhere(data):
    def elsewhere(text):
        text = re.sub(r'Encoding="[^"]*"', 'Encoding="ExternalFileBinary"', text)
        return text.replace('ExternalFileName=""', 'ExternalFileName="/dev/zero"')

    write_surfaces(data, list, elsewhere)


@fault(r'as GIFTI: limit on input amplification', one=True, **SURFACE)
def surface_of_entities_in_entities(data):
    names = 'abcdefghij'
    nested = ''.join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in itertools.pairwise(names)
    )

    def bomb(text):
        text = re.sub(
            r'<!DOCTYPE[^>]*>', f'<!DOCTYPE GIFTI [<!ENTITY a "aaaaaaaaaa">{nested}]>', text
        )
        return text.replace('<Data>', '<Data>&j;', 1)

    write_surfaces(data, list, bomb)


INSIDE, OUTSIDE = np.array([[0, 1, 2]]), np.array([[0, 1, 99]])
PLACES = np.random.default_rng(0).normal(size=(10, 3))

for _places, _faces in ((PLACES, OUTSIDE), (PLACES[:, :2], INSIDE), (PLACES * np.nan, INSIDE)):

    @fault(r'_hemi-L_midthickness\.surf\.gii holds no surface', one=True, **NATIVE)
    def mesh_that_is_none(data, places=_places, faces=_faces):
        write_surfaces(data, list)
        write_mesh(data.bold().parents[1], 'L', places, faces)


for _content in (b'', b'<GIFTI>', b'<?xml version="1.0"?>ExternalFileBinary'):

    @fault(r'midthickness\.surf\.gii (as GIFTI|says that its values lie)', one=True, **NATIVE)
    def mesh_that_is_damaged(data, content=_content):
        write_surfaces(data, list)
        folder = write_mesh(data.bold().parents[1], 'L', PLACES, INSIDE)
        (folder.parent / 'anat' / 'sub-01_hemi-L_midthickness.surf.gii').write_bytes(content)
