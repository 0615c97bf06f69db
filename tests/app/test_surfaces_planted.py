"""What is planted in a patch of the right hemisphere is found there, on GIFTI and on CIFTI."""

import json
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, SeriesAxis

from bids_neurodecode.bids.sink import write_image
from bids_neurodecode.cli.main import main
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.spaces import load_image, one_each, space_of
from tests.datasets import make_dataset, write_table
from tests.meshes import write_mesh
from tests.running import HERE

pytestmark = pytest.mark.slow
CONDITIONS = ('face', 'house', 'tool')
RUNS = tuple(f'{k:02d}' for k in range(1, 9))
SIDE, WIDE, EDGE = 9, 15, 3.0
"""Vertices along a side of each sheet (of films, in which regions need rivals), and mm between."""
N_DEEP = 27
SPACES = {'gifti': 'fsnative', 'cifti': 'fsLR:den-91k'}


def sheet(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat square of vertices, two triangles between any four."""
    x, y = np.divmod(np.arange(side**2), side)
    start = (side * x + y)[(x < side - 1) & (y < side - 1)]
    lower = np.stack([start, start + 1, start + side], axis=1)
    upper = np.stack([start + 1, start + side + 1, start + side], axis=1)
    return EDGE * np.stack([x, y, 0 * x], axis=1), np.concatenate([lower, upper])


def patch(side: int) -> np.ndarray:
    """Nine vertices in the middle of a sheet."""
    x, y = np.divmod(np.arange(side**2), side)
    middle = side // 2
    return np.flatnonzero((abs(x - middle) < 2) & (abs(y - middle) < 2))


def away() -> np.ndarray:
    """How far (mm) each vertex of a sheet lies from the nearest of the patch."""
    places = sheet(SIDE)[0]
    return np.linalg.norm(places[:, None] - places[patch(SIDE)], axis=2).min(axis=1)


def write_gifti(file: Path, head: str, rows: np.ndarray, step: float) -> None:
    n = (rows.shape[1] - N_DEEP) // 2
    for side, columns in (('L', slice(n)), ('R', slice(n, 2 * n))):
        arrays = [nib.gifti.GiftiDataArray(row) for row in rows[:, columns]]
        stem = f'{head}_hemi-{side}_space-fsnative_bold'
        nib.gifti.GiftiImage(darrays=arrays).to_filename(file.with_name(f'{stem}.func.gii'))
        file.with_name(f'{stem}.json').write_text(json.dumps({'RepetitionTime': step}))


def write_cifti(file: Path, head: str, rows: np.ndarray, step: float) -> None:
    n = (rows.shape[1] - N_DEEP) // 2
    axis = BrainModelAxis.from_surface(np.arange(n), n, 'CortexLeft')
    axis += BrainModelAxis.from_surface(np.arange(n), n, 'CortexRight')
    voxels = np.argwhere(np.ones((3, 3, 3), dtype=bool))
    names = np.repeat('CIFTI_STRUCTURE_THALAMUS_LEFT', N_DEEP)
    affine = np.diag([-2.0, 2, 2, 1])
    axis += BrainModelAxis(names, voxels, affine=affine, volume_shape=(9, 9, 9))
    header = nib.Cifti2Header.from_axes((SeriesAxis(0, step, len(rows)), axis))
    image = nib.Cifti2Image(rows, header)
    image.nifti_header.set_intent('NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES')
    image.to_filename(file.with_name(f'{head}_space-fsLR_den-91k_bold.dtseries.nii'))


def write_meshes(subject: Path, n: int) -> None:
    for side in ('L', 'R'):
        write_mesh(subject, side, *sheet(n))
        own = subject / 'anat' / f'sub-01_hemi-{side}_midthickness.surf.gii'
        nib.load(own).to_filename(
            own.with_name(f'sub-01_hemi-{side}_space-fsLR_den-32k_midthickness.surf.gii')
        )


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
    patterns[:, SIDE**2 + patch(SIDE)] = rng.standard_normal((3, 9))
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
    write_meshes(data.bold().parent.parent, SIDE)
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
            *('--skip-bids-validation', *HERE, '--space', SPACES[form]),
            *('--config-file', str(conditions / 'settings.toml')),
        ]
    )
    assert code == 0
    maps = {}
    for key, stat in (('accuracy', 'stat-accuracy'), ('p', 'stat-pfdr_desc-searchlight')):
        (file,) = one_each((out / 'sub-01' / 'func').glob(f'*_{stat}_statmap.*'))
        maps[key] = np.asarray(load_image(file).dataobj).ravel()
    left, right, deep = np.split(maps['accuracy'], [SIDE**2, 2 * SIDE**2])
    assert right[patch(SIDE)].min() > 0.8
    far = away() > 4.5
    assert far.sum() > 45
    elsewhere = np.concatenate([left, right[far], deep])
    assert abs(np.median(elsewhere) - 1 / 3) < 0.06
    assert elsewhere.max() < 0.6 < right[patch(SIDE)].min()
    p_left, p_right, p_deep = np.split(maps['p'], [SIDE**2, 2 * SIDE**2])
    assert p_right[patch(SIDE)].max() < 0.01
    assert np.mean(np.concatenate([p_left, p_right[far], p_deep]) < 0.05) < 0.02


def write_quarters(path: Path, levels: np.ndarray, rate: int = 8) -> None:
    """Encode a film whose quarters are as bright as told, (n_seconds, 4), from 0 to 255."""
    with av.open(path, 'w') as container:
        stream = container.add_stream('mpeg4', rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = 'yuv420p'
        for second in levels.astype(np.uint8).reshape(-1, 2, 2):
            pixels = np.repeat(second.repeat(16, axis=0).repeat(16, axis=1)[..., None], 3, axis=2)
            for _ in range(rate):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode())


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    """Two films whose quarters drive the patch of the right sheet, 6 s later.

    All else follows courses of its own that are as smooth: other patches their own, as many.
    """
    folder = tmp_path_factory.mktemp('films')
    n_volumes = 150
    data = make_dataset(
        folder / 'data', runs=('01', '02'), n_volumes=n_volumes, shape=(2, 2, 2), film='a.mp4',
        raw_bold=True,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    n = 2 * WIDE**2 + N_DEEP
    weights = rng.standard_normal((4, n))
    weights[:, WIDE**2 + patch(WIDE)] = weights[:, patch(WIDE)]  # as smooth as each other
    x, y = np.divmod(np.arange(WIDE**2), WIDE)
    tiles = x // 3 * (WIDE // 3) + y // 3
    tiles = np.concatenate([tiles, tiles.max() + 1 + tiles, np.full(N_DEEP, 2 * tiles.max() + 2)])
    planted = tiles[WIDE**2 + patch(WIDE)][0]
    for name, run in zip(('a.mp4', 'b.mp4'), data.each_run(), strict=True):
        # new levels every 4 s
        courses = rng.random((tiles.max() + 1, n_volumes // 2, 4)).repeat(2, axis=1)
        shown = courses[planted].repeat(2, axis=0)
        write_quarters(data.root / 'stimuli' / name, 20 + 220 * shown)
        data.rewrite_events([[0, 2 * n_volumes, 'film', name]], **run)
        courses = np.roll(courses, 3, axis=1) - 0.5
        values = 100 + 0.2 * rng.standard_normal((n_volumes, n))
        values += 2 * np.einsum('nkc,cn->kn', courses[tiles], weights)
        file = data.bold(**run)
        head = file.name.split('_space-')[0]
        write_gifti(file, head, values.astype(np.float32), 2.0)
        write_cifti(file, head, values.astype(np.float32), 2.0)
    subject = data.bold().parent.parent
    write_meshes(subject, WIDE)
    labels = np.zeros(n, dtype=np.float32)
    labels[patch(WIDE)], labels[WIDE**2 + patch(WIDE)] = 1, 2
    for form, end in (('gifti', 'hemi-L_dseg.label.gii'), ('cifti', 'dseg.dlabel.nii')):
        pattern = {'gifti': '*_hemi-L_*.func.gii', 'cifti': '*.dtseries.nii'}[form]
        space = space_of(load_image(next((subject / 'func').glob(pattern))))
        own = labels[: space.n_columns].reshape(-1, 1, 1).astype(np.int32)
        write_image(folder / f'atlas-{form}_{end}', space.image(own))
        table = [['index', 'name'], [1, 'left patch'], [2, 'right patch']]
        write_table(folder / f'atlas-{form}_dseg.tsv', table)
    return folder


@pytest.mark.parametrize('form', list(SPACES))
def test_disturbing_the_patch_costs_the_film(films, form, no_page):
    """Frames are lost without the right patch, and are not without the left one."""
    settings, end = films / f'{form}.toml', {'gifti': 'hemi-L_dseg.label.gii'}.get(form)
    atlas = films / f'atlas-{form}_{end or "dseg.dlabel.nii"}'
    settings.write_text(
        '[movie]\nmodel = "network"\nmode = "decoder"\ndesign = "small"\nframe_size = 16\n'
        'widths = [4, 4, 4, 4, 8]\nn_epochs = 60\npatience = 60\nlearning_rate = 3e-3\n'
        'explain = ["perturbation"]\nexplain_kinds = ["zero"]\nexplain_random = 60\n'
        '[delay]\nseconds = 6.0\n[selection]\nmeasure = "none"\n'
        '[evaluation]\nn_permutations = 20\nn_bootstrap = 20\n'
        '[features]\nimage_size = 32\nn_components = 10\n'
        '[split]\ntest_fraction = 0.3\ngap = 8.0\n'
        f'[atlas]\nfile = "{atlas}"\n'
    )
    out = films / f'out-{form}'
    code = main(
        [
            *(str(films / 'data'), str(out), 'participant', '-w', str(films / f'work-{form}')),
            *('--skip-bids-validation', *HERE, '--space', SPACES[form]),
            *('--config-file', str(settings)),
        ]
    )
    assert code == 0
    (file,) = (out / 'sub-01' / 'func').glob('*_desc-network_regions.tsv')
    table = pd.read_csv(file, sep='\t')
    found = table[table.metric == 'pixcorr'].set_index('region')
    right, left = found.loc['right patch'], found.loc['left patch']
    assert right.intact > 0.12
    assert min(right.n_disjoint, left.n_disjoint) >= 20
    assert right.p < 0.05 < left.p
    assert right.z < -4 < -2 < left.z
    assert right.change < 4 * left.change - 0.03
