"""What is planted in a patch of the right hemisphere is found there, on GIFTI and on CIFTI."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, SeriesAxis

from bids_neurodecode.cli.main import main
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.spaces import load_image, one_each
from tests.datasets import make_dataset
from tests.meshes import write_mesh

pytestmark = pytest.mark.slow
CONDITIONS = ('face', 'house', 'tool')
RUNS = tuple(f'{k:02d}' for k in range(1, 9))
SIDE, EDGE = 9, 3.0
"""Vertices along a side of each sheet, and mm between them."""
N_DEEP = 27
SPACES = {'gifti': 'fsnative', 'cifti': 'fsLR:den-91k'}


def sheet() -> tuple[np.ndarray, np.ndarray]:
    """A flat square of vertices, two triangles between any four."""
    x, y = np.divmod(np.arange(SIDE**2), SIDE)
    start = (SIDE * x + y)[(x < SIDE - 1) & (y < SIDE - 1)]
    lower = np.stack([start, start + 1, start + SIDE], axis=1)
    upper = np.stack([start + 1, start + SIDE + 1, start + SIDE], axis=1)
    return EDGE * np.stack([x, y, 0 * x], axis=1), np.concatenate([lower, upper])


def patch() -> np.ndarray:
    """Nine vertices in the middle of a sheet."""
    x, y = np.divmod(np.arange(SIDE**2), SIDE)
    return np.flatnonzero((abs(x - 4) < 2) & (abs(y - 4) < 2))


def away() -> np.ndarray:
    """How far (mm) each vertex of a sheet lies from the nearest of the patch."""
    places = sheet()[0]
    return np.linalg.norm(places[:, None] - places[patch()], axis=2).min(axis=1)


def write_gifti(file: Path, head: str, rows: np.ndarray, step: float) -> None:
    for side, columns in (('L', slice(SIDE**2)), ('R', slice(SIDE**2, 2 * SIDE**2))):
        arrays = [nib.gifti.GiftiDataArray(row) for row in rows[:, columns]]
        stem = f'{head}_hemi-{side}_space-fsnative_bold'
        nib.gifti.GiftiImage(darrays=arrays).to_filename(file.with_name(f'{stem}.func.gii'))
        file.with_name(f'{stem}.json').write_text(json.dumps({'RepetitionTime': step}))


def write_cifti(file: Path, head: str, rows: np.ndarray, step: float) -> None:
    axis = BrainModelAxis.from_surface(np.arange(SIDE**2), SIDE**2, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(SIDE**2), SIDE**2, 'CortexRight')
    voxels = np.argwhere(np.ones((3, 3, 3), dtype=bool))
    names = np.repeat('CIFTI_STRUCTURE_THALAMUS_LEFT', N_DEEP)
    affine = np.diag([-2.0, 2, 2, 1])
    axis += BrainModelAxis(names, voxels, affine=affine, volume_shape=(9, 9, 9))
    header = nib.Cifti2Header.from_axes((SeriesAxis(0, step, len(rows)), axis))
    image = nib.Cifti2Image(rows, header)
    image.nifti_header.set_intent('NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES')
    image.to_filename(file.with_name(f'{head}_space-fsLR_den-91k_bold.dtseries.nii'))


@pytest.fixture(scope='module')
def conditions(tmp_path_factory):
    """Eight runs of three conditions, whose patterns are in the patch of the right sheet alone."""
    folder = tmp_path_factory.mktemp('planted')
    data = make_dataset(
        folder / 'data', runs=RUNS, n_volumes=70, shape=(2, 2, 2), stimuli=(), raw_bold=True
    )
    rng = np.random.default_rng(0)
    n = 2 * SIDE**2 + N_DEEP
    patterns = np.zeros((3, n))
    patterns[:, SIDE**2 + patch()] = rng.standard_normal((3, 9))
    shape = hrf_library(2.0, 6.0)[:, 0]
    for run in data.each_run():
        rows, sticks = [], np.zeros((3, 70))
        for place, name in enumerate(rng.permutation(CONDITIONS * 3)):
            onset = 6 + 14 * place
            rows.append([onset, 6, name])
            sticks[CONDITIONS.index(name), onset // 2] = 1
        data.rewrite_events(rows, columns=['onset', 'duration', 'trial_type'], **run)
        signal = np.stack([np.convolve(stick, shape)[:70] for stick in sticks])
        values = 100 + rng.standard_normal((70, n)) + 1.5 * (signal / signal.max()).T @ patterns
        file = data.bold(**run)
        head = file.name.split('_space-')[0]
        write_gifti(file, head, values.astype(np.float32), 2.0)
        write_cifti(file, head, values.astype(np.float32), 2.0)
    subject = data.bold().parent.parent
    for side in ('L', 'R'):
        write_mesh(subject, side, *sheet())
        own = subject / 'anat' / f'sub-01_hemi-{side}_midthickness.surf.gii'
        nib.load(own).to_filename(
            own.with_name(f'sub-01_hemi-{side}_space-fsLR_den-32k_midthickness.surf.gii')
        )
    (folder / 'linear.yml').write_text('plugin: Linear\n')
    (folder / 'settings.toml').write_text(
        '[betas]\nmodel = "B"\n[evaluation]\nn_permutations = 20\nn_bootstrap = 20\n'
        '[conditions]\nsearchlight = 4.5\n'
    )
    return folder


@pytest.mark.parametrize('form', list(SPACES))
def test_searchlights_find_the_patch(conditions, form, no_page):
    """Accuracy is near 1 in the patch, at chance beyond its reach, and p says the same."""
    out, work = conditions / f'out-{form}', conditions / f'work-{form}'
    code = main(
        [
            *(str(conditions / 'data'), str(out), 'participant', '-w', str(work)),
            *('--skip-bids-validation', '--nprocs', '1', '--space', SPACES[form]),
            *('--config-file', str(conditions / 'settings.toml')),
            *('--use-plugin', str(conditions / 'linear.yml')),
        ]
    )
    assert code == 0
    maps = {}
    for key, stat in (('accuracy', 'stat-accuracy'), ('p', 'stat-pfdr_desc-searchlight')):
        (file,) = one_each((out / 'sub-01' / 'func').glob(f'*_{stat}_statmap.*'))
        maps[key] = np.asarray(load_image(file).dataobj).ravel()
    left, right, deep = np.split(maps['accuracy'], [SIDE**2, 2 * SIDE**2])
    assert right[patch()].min() > 0.8
    far = away() > 4.5
    assert far.sum() > 45
    elsewhere = np.concatenate([left, right[far], deep])
    assert abs(np.median(elsewhere) - 1 / 3) < 0.06
    assert elsewhere.max() < 0.6 < right[patch()].min()
    p_left, p_right, p_deep = np.split(maps['p'], [SIDE**2, 2 * SIDE**2])
    assert p_right[patch()].max() < 0.01
    assert np.mean(np.concatenate([p_left, p_right[far], p_deep]) < 0.05) < 0.02
