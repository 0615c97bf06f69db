"""The same responses as volumes, surfaces, CIFTI and parcels: the same scores in every system."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, SeriesAxis

from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.spaces import load_image, one_each, space_of
from bids_neurodecode.systems.steps.records import read_results
from tests.running import HERE, without_pages

pytestmark = pytest.mark.slow
MNI = 'MNI152NLin2009aSym'
SPACES = {
    'T1w': '.nii.gz',
    'fsaverage5': '.shape.gii',
    'fsLR:den-91k': '.dscalar.nii',
    f'{MNI}:seg-Test': '.tsv',
}
N_LEFT, N_DEEP = 150, 60
SETTINGS = """
[evaluation]
n_permutations = 30
n_bootstrap = 30
[reconstruction]
generator = "none"
[betas]
model = "B"
[features]
image_size = 32
n_components = 20
[split]
{split}
[movie]
model = "linear"
"""
SYSTEMS = {
    'reconstruction': ('images', 'by = "stimulus"\nn_folds = 2'),
    'encoding': ('images', 'by = "stimulus"\nn_folds = 2'),
    'movie': ('movie', 'test_fraction = 0.3\ngap = 6.0'),
}


def grayordinates(n: int) -> BrainModelAxis:
    """Vertices of both hemispheres with gaps, as where the medial wall is left out, and voxels."""
    n_right = n - N_LEFT - N_DEEP
    voxels = np.argwhere(np.ones((10, 10, 10), dtype=bool))[:N_DEEP]
    axis = BrainModelAxis.from_surface(2 * np.arange(N_LEFT), 32492, 'CortexLeft')
    axis += BrainModelAxis.from_surface(3 * np.arange(n_right) + 7, 32492, 'CortexRight')
    names = np.repeat('CIFTI_STRUCTURE_THALAMUS_LEFT', N_DEEP)
    affine = np.diag([-2.0, 2, 2, 1])
    return axis + BrainModelAxis(names, voxels, affine=affine, volume_shape=(20, 20, 20))


def in_every_space(data: Path) -> None:
    """Write simulated volumes again as all that pipelines write, column by column."""
    for file in sorted((data / 'derivatives' / 'fmriprep').rglob('*_desc-preproc_bold.nii.gz')):
        head = file.name.split('_space-')[0]
        inside = nib.load(file.with_name(f'{head}_space-{MNI}_desc-brain_mask.nii.gz'))
        mask = np.asarray(inside.dataobj) > 0
        image = nib.load(file)
        step = float(image.header.get_zooms()[3])
        rows = np.asarray(image.dataobj)[mask].T.astype(np.float32)
        n = rows.shape[1]
        for end in (
            'desc-preproc_bold.nii.gz',
            'desc-preproc_bold.json',
            'desc-brain_mask.nii.gz',
        ):
            old = file.with_name(f'{head}_space-{MNI}_{end}')
            shutil.copy(old, file.with_name(f'{head}_space-T1w_{end}'))
        for side, columns in (('L', slice(0, N_LEFT)), ('R', slice(N_LEFT, n))):
            some = rows[:, columns]
            vertices = np.zeros((len(rows), 10242), dtype=np.float32)
            vertices[:, 5 * np.arange(some.shape[1])] = some
            arrays = [nib.gifti.GiftiDataArray(row) for row in vertices]
            stem = f'{head}_hemi-{side}_space-fsaverage5_bold'
            nib.gifti.GiftiImage(darrays=arrays).to_filename(file.with_name(f'{stem}.func.gii'))
            file.with_name(f'{stem}.json').write_text(json.dumps({'RepetitionTime': step}))
        header = nib.Cifti2Header.from_axes((SeriesAxis(0, step, len(rows)), grayordinates(n)))
        cifti = nib.Cifti2Image(rows, header)
        cifti.nifti_header.set_intent('NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES')
        cifti.to_filename(file.with_name(f'{head}_space-fsLR_den-91k_bold.dtseries.nii'))
        table = pd.DataFrame(rows, columns=[f'parcel {i}' for i in range(n)])
        parcels = f'{head}_space-{MNI}_seg-Test_stat-mean_timeseries.tsv'
        table.to_csv(file.with_name(parcels), sep='\t', index=False)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Images and films of two participants, in every space."""
    folder = tmp_path_factory.mktemp('spaces')
    spec = {'n_subjects': 2, 'n_runs': 2, 'voxel_size': 14.0, 'snr': 3.0}
    simulate_dataset(folder / 'images', build_spec(n_images=24, n_repeats=2, **spec))
    films = build_spec(paradigm='movie', film_duration=90.0, **spec)
    simulate_dataset(folder / 'movie', films)
    for paradigm in ('images', 'movie'):
        in_every_space(folder / paradigm)
    return folder


def call(made: Path, system: str, out: Path, *more: str, level: str = 'participant') -> int:
    paradigm, split = SYSTEMS[system]
    settings = made / f'{system}.toml'
    settings.write_text(SETTINGS.format(split=split))
    # both systems of images have one work folder a space: betas are estimated once
    work = made / f'work-{out.name.replace(system, paradigm, 1)}'
    return main(
        [
            *(str(made / paradigm), str(out), level, '-w', str(work)),
            *('--system', system, '--skip-bids-validation', *HERE, '--device', 'cpu'),
            *('--config-file', str(settings), *more),
        ]
    )


def scores(out: Path) -> pd.DataFrame:
    tables = sorted(out.glob('sub-*/func/*_metrics.tsv'))
    assert tables
    return pd.concat([pd.read_csv(file, sep='\t') for file in tables], ignore_index=True)


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module', params=list(SYSTEMS))
def volumes(request, made):
    """A system trained and applied on volumes."""
    system = request.param
    out, applied = made / f'{system}-volumes', made / f'{system}-volumes-applied'
    more = ('--mode', 'predict', '--models-from', str(out), '--space', MNI)
    with without_pages():
        assert call(made, system, out, '--space', MNI) == 0
        assert call(made, system, applied, *more) == 0
    return system, out, applied


@pytest.mark.parametrize('space', list(SPACES))
def test_scores_do_not_depend_on_the_space(made, volumes, space, no_page, check_pybids):
    system, out, applied = volumes
    name = f'{system}-{space.replace(":", "_")}'
    mine = made / name
    assert call(made, system, mine, '--space', space) == 0
    same(scores(mine), scores(out))
    more = ('--mode', 'predict', '--models-from', str(mine), '--space', space)
    assert call(made, system, made / f'{name}-applied', *more) == 0
    same(scores(made / f'{name}-applied'), scores(applied))
    record = read_results(next(mine.glob('sub-01/log/*_results.json')))
    files = record.maps.values()
    assert files
    assert all(file.exists() for file in files)
    assert any(file.name.endswith(SPACES[space]) for file in files)
    assert validate_dataset(mine) == {}
    check_pybids(mine, made / SYSTEMS[system][0])
    told = texts_of(mine)
    assert len(told) > 10
    of_voxels = {file for file, text in told.items() if re.search(r'(?<!\.)\b[Vv]oxels?\b', text)}
    assert bool(of_voxels) == (space == 'T1w'), of_voxels


def texts_of(out: Path) -> dict[str, str]:
    """Return what sidecars, model cards and the list of descriptions say, without keys."""

    def values(content):
        if isinstance(content, dict):
            return ' | '.join(values(v) for k, v in content.items() if k != 'Sources')
        return str(content)

    files = [f for f in out.glob('sub-*/**/*.json') if 'log' not in f.parts]
    told = {file.name: values(json.loads(file.read_text())) for file in files}
    cards = [out / 'descriptions.tsv', *out.glob('sub-*/models/*.md')]
    return told | {
        file.name: '\n'.join(x for x in file.read_text().splitlines() if x[:1] != '|')
        for file in cards
    }


@pytest.mark.skipif(shutil.which('wb_command') is None, reason='Connectome Workbench is missing')
@pytest.mark.parametrize('space', ['fsaverage5', 'fsLR:den-91k'])
def test_connectome_workbench_opens_what_is_written(made, volumes, space, no_page):
    system, _, _ = volumes
    mine = made / f'{system}-{space.replace(":", "_")}'
    if not mine.exists():
        assert call(made, system, mine, '--space', space) == 0
    files = [*mine.rglob('*.gii'), *mine.rglob(f'*{SPACES["fsLR:den-91k"]}')]
    files += [*mine.rglob('*.dtseries.nii'), *mine.rglob('*.dlabel.nii')]
    assert len(files) >= 3
    for file in files:
        command = ['wb_command', '-file-information', str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f'{file}: {done.stderr}'
        assert 'ERROR' not in done.stdout


@pytest.mark.parametrize('space', list(SPACES))
def test_the_group_level_goes_over_columns(made, volumes, space, no_page):
    """Maps are averaged and compared vertex by vertex (parcels by name), as voxels are.

    Voxels of native volumes are not: these have the scores alone, and regions (below).
    """
    system, out, _ = volumes
    mine = made / f'{system}-{space.replace(":", "_")}'
    if not mine.exists():
        assert call(made, system, mine, '--space', space) == 0
    for folder in (out, mine):
        if not (folder / 'group').exists():
            assert call(made, system, folder, level='group') == 0
    paradigm = SYSTEMS[system][0]
    table = f'group/task-{paradigm}_metrics.tsv'
    a, b = (pd.read_csv(folder / table, sep='\t') for folder in (out, mine))
    same(a, b)
    if space == 'T1w':
        assert not one_each((mine / 'group').glob('*_statmap.*'))
        return
    stats = ['stat-tsnr_desc-mean', 'stat-tsnr_desc-count']
    stats += {'movie': ['stat-isc'], 'encoding': ['stat-pearsonr_desc-mean']}.get(system, [])
    for stat in stats:
        (volume,) = (out / 'group').glob(f'*_{stat}_statmap.nii.gz')
        found = one_each((mine / 'group').glob(f'*_{stat}_statmap.*'))
        assert len(found) == 1
        assert found[0].name.endswith(SPACES[space])
        expected = np.asarray(nib.load(volume).dataobj)
        values = np.asarray(load_image(found[0]).dataobj)
        np.testing.assert_allclose(
            values[values != 0], expected[expected != 0], rtol=1e-3, atol=1e-5
        )


def test_native_volumes_are_compared_by_region(made, no_page):
    """The means by region of an atlas are those in a template; voxels are not averaged."""
    (atlas,) = (made / 'images').rglob('*atlas-Sim_dseg.nii.gz')
    tables = []
    for space in (MNI, 'T1w'):
        given = atlas
        if space == 'T1w':  # one of the participant's own space
            given = made / 'atlas-Sim_dseg.nii.gz'
            shutil.copy(atlas, given)
            (table,) = (made / 'images').rglob('*atlas-Sim_dseg.tsv')
            shutil.copy(table, given.with_name('atlas-Sim_dseg.tsv'))
        out = made / f'regions-{space}'
        assert call(made, 'encoding', out, '--space', space, '--atlas', str(given)) == 0
        assert call(made, 'encoding', out, level='group') == 0
        tables.append(pd.read_csv(out / 'group' / 'task-images_stat-mean_regions.tsv', sep='\t'))
        averaged = list((out / 'group').glob('*_desc-mean_statmap.nii.gz'))
        assert bool(averaged) == (space == MNI)
    same(*tables)
    assert {'pearsonr', 'noiseceiling'} <= set(tables[0]['map'])
    assert set(tables[0]['n']) == {2}


def test_maps_on_surfaces_are_those_that_nilearn_makes(made, no_page):
    """Mean and temporal signal-to-noise ratio by nilearn's own loaders and masker."""
    from nilearn.datasets import load_fsaverage
    from nilearn.maskers import SurfaceMasker
    from nilearn.surface import SurfaceImage

    out = made / 'reconstruction-fsaverage5'
    if not out.exists():
        assert call(made, 'reconstruction', out, '--space', 'fsaverage5') == 0
    mesh = load_fsaverage('fsaverage5')['inflated']
    folder = made / 'images' / 'derivatives' / 'fmriprep' / 'sub-01' / 'func'
    runs = []
    for left in sorted(folder.glob('*_hemi-L_space-fsaverage5_bold.func.gii')):
        right = str(left).replace('_hemi-L_', '_hemi-R_')
        runs.append(
            SurfaceMasker().fit_transform(SurfaceImage(mesh, {'left': left, 'right': right}))
        )
    assert len(runs) == 2
    wall = runs[0].std(axis=0) == 0
    func = out / 'sub-01' / 'func'
    stem = 'sub-01_task-images_hemi-{side}_space-fsaverage5_stat-{stat}_boldmap.shape.gii'
    ratio = []
    for run in runs:
        time = np.linspace(-1, 1, len(run))
        drift = np.polynomial.polynomial.polyval(
            time, np.polynomial.polynomial.polyfit(time, run, 2)
        ).T
        deviation = (run - drift).std(axis=0, ddof=1)
        ratio.append(run.mean(axis=0) / np.where(wall, np.inf, deviation))
    for stat, expected in (
        ('mean', np.concatenate(runs).mean(axis=0)),
        ('tsnr', np.mean(ratio, axis=0)),
    ):
        parts = {
            name: func / stem.format(side=side, stat=stat)
            for side, name in (('L', 'left'), ('R', 'right'))
        }
        found = SurfaceMasker().fit_transform(SurfaceImage(mesh, parts)).ravel()
        np.testing.assert_allclose(found[~wall], expected[~wall], rtol=1e-3)
        assert not found[wall].any()


@pytest.mark.parametrize('space', list(SPACES))
def test_betas_of_an_earlier_run_are_taken_from_any_space(made, space, no_page):
    """What was written is read again as precomputed betas, and gives the same scores.

    Both systems of images write the same betas, and films have none.
    """
    system = 'reconstruction'
    name = f'{system}-{space.replace(":", "_")}'
    mine, again = made / name, made / f'{name}-again'
    if not mine.exists():
        assert call(made, system, mine, '--space', space) == 0
    (made / 'again.toml').write_text(
        SETTINGS.format(split=SYSTEMS[system][1]).replace('model = "B"', 'precomputed = "before"')
    )
    derivatives = [f'before={mine}', f'fmriprep={made / "images" / "derivatives" / "fmriprep"}']
    more = ('--space', space, '--derivatives', *derivatives)
    assert call(made, system, again, *more, '--config-file', str(made / 'again.toml')) == 0
    a, b = (table[table.model == 'ridge'] for table in (scores(mine), scores(again)))
    columns = ['metric', 'value']
    same(a[columns].reset_index(drop=True), b[columns].reset_index(drop=True))


@pytest.mark.parametrize('space', ['fsaverage5', 'fsLR:den-91k', f'{MNI}:seg-Test'])
def test_responses_to_new_images_are_written_in_the_space_of_the_model(made, space, no_page):
    from PIL import Image

    mine = made / f'encoding-{space.replace(":", "_")}'
    if not mine.exists():
        assert call(made, 'encoding', mine, '--space', space) == 0
    new = made / 'new'
    new.mkdir(exist_ok=True)
    for number, value in enumerate((30, 200)):
        Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(new / f'{number}.png')
    out = made / f'{mine.name}-new'
    more = ('--mode', 'predict', '--models-from', str(mine), '--stimuli-dir', str(new))
    assert call(made, 'encoding', out, *more, '--participant-label', '01') == 0
    pattern = '*_desc-predicted_statmap.*'
    (file,) = one_each((out / 'sub-01' / 'func').glob(pattern))
    trained = next((mine / 'sub-01' / 'func').glob('*_stat-mean_boldmap.*i'), None)
    image = load_image(file)
    assert image.shape[3] == 2
    if trained is not None:
        other = load_image(trained)
        assert space_of(image).same_as(space_of(other))
    assert validate_dataset(out) == {}
