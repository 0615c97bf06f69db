"""Whole simulated datasets: valid, deterministic, honest about themselves."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from bids_neurodecode.bids.video import write_video
from bids_neurodecode.errors import ArgumentsError, InputError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.simulate import brain, dataset, design, realnoise, response, stimuli
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec, build_spec

SMALL = {
    'n_subjects': 1,
    'n_runs': 2,
    'n_images': 12,
    'n_repeats': 2,
    'image_size': 48,
    'voxel_size': 15,
    'seed': 3,
}
SMALL_FILM = {
    'paradigm': 'movie',
    'n_subjects': 3,
    'n_runs': 2,
    'film_duration': 60,
    'image_size': 48,
    'voxel_size': 15,
}
QUIET = {'noise_sd': 0, 'drift': 0, 'physiology': 0, 'motion': 0}
SPACE = 'space-MNI152NLin2009aSym'


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('images')
    return simulate_dataset(out, build_spec(**(SMALL | {'n_sessions': 2})))


@pytest.fixture(scope='module')
def films(tmp_path_factory) -> Path:
    return simulate_dataset(tmp_path_factory.mktemp('films'), build_spec(**SMALL_FILM))


@pytest.fixture(scope='module')
def noiseless(tmp_path_factory) -> Path:
    return simulate_dataset(tmp_path_factory.mktemp('noiseless'), build_spec(**SMALL, **QUIET))


def truth_map(root: Path, name: str, sub: str = '01') -> np.ndarray:
    folder = root / 'derivatives' / 'simulated-truth' / f'sub-{sub}' / 'func'
    (path,) = folder.glob(f'*_{SPACE}_{name}.nii.gz')
    return mask_of(root).extract(np.asanyarray(nib.load(path).dataobj))


def mask_of(root: Path) -> VoxelMask:
    return VoxelMask.load(sorted((root / 'derivatives' / 'fmriprep').rglob('*_mask.nii.gz'))[0])


def runs_of(root: Path, sub: str = '01') -> list[tuple[np.ndarray, pd.DataFrame]]:
    """Return percent signal and events of each run, found by their names alone."""
    mask = mask_of(root)
    runs = []
    derivatives = root / 'derivatives' / 'fmriprep' / f'sub-{sub}'
    for bold in sorted(derivatives.rglob('*desc-preproc_bold.nii.gz')):
        events = root / bold.relative_to(root / 'derivatives' / 'fmriprep').parent
        events /= bold.name.split('_space-')[0] + '_events.tsv'
        series = mask.extract(np.asanyarray(nib.load(bold).dataobj)).astype(float)
        runs.append((100 * (series / series.mean(axis=0) - 1), pd.read_csv(events, sep='\t')))
    return runs


def digest(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob('*'))
        if p.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize('folder', ['.', 'derivatives/fmriprep', 'derivatives/simulated-truth'])
@pytest.mark.parametrize('kind', ['images', 'films'])
def test_valid_bids(kind, folder, request):
    root = request.getfixturevalue(kind) / folder
    tool = Path(sys.executable).with_name('bids-validator-deno')
    done = subprocess.run(
        [tool, root, '--format', 'json'], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)['issues']['issues']
    errors = [(i['code'], i.get('location')) for i in issues if i['severity'] == 'error']
    assert errors == []
    assert done.returncode == 0
    warned = {i['code'] for i in issues if i['severity'] == 'warning'}
    assert warned <= {
        'SIDECAR_KEY_RECOMMENDED',
        'JSON_KEY_RECOMMENDED',
        'TOO_FEW_AUTHORS',
        'SUSPICIOUSLY_SHORT_EVENT_DESIGN',
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    'values', [SMALL, SMALL_FILM | {'n_subjects': 1, 'film_duration': 10}], ids=['images', 'films']
)
def test_same_seed_same_bytes(values, tmp_path):
    first = digest(simulate_dataset(tmp_path / 'a', build_spec(**values)))
    again = digest(simulate_dataset(tmp_path / 'b', build_spec(**values)))
    assert first == again
    other = digest(simulate_dataset(tmp_path / 'c', build_spec(**(values | {'seed': 4}))))
    changed = [name for name in first if first[name] != other.get(name)]
    assert any(name.endswith('preproc_bold.nii.gz') for name in changed)
    assert any(name.startswith('stimuli/') for name in changed)


@pytest.mark.slow
def test_more_participants_leave_the_first_alone(images, tmp_path):
    spec = build_spec(**(SMALL | {'n_sessions': 2, 'n_subjects': 2}))
    more = digest(simulate_dataset(tmp_path / 'more', spec))
    bolds = {k: v for k, v in digest(images).items() if k.endswith('_bold.nii.gz')}
    assert bolds == {k: v for k, v in more.items() if k in bolds}
    assert any('sub-02' in name for name in more)


def test_every_picture_is_repeated_in_other_runs(images):
    tables = [events for _, events in runs_of(images)]
    assert len(tables) == 4
    assert all(table['stim_file'].is_unique for table in tables)
    counts = pd.concat(tables)['stim_file'].value_counts()
    assert len(counts) == 12
    assert set(counts) == {2}
    for series, table in runs_of(images):
        assert np.allclose(table['onset'] % 2.0, 0)
        assert table['onset'].iloc[-1] + 2 + 16 <= len(series) * 2.0
        assert all((images / 'stimuli' / name).is_file() for name in table['stim_file'])


def test_imagined_pictures_evoke_the_planted_share_in_runs_of_their_own(noiseless, tmp_path):
    spec = build_spec(**SMALL, **QUIET, imagery_runs=1, imagery_gain=0.25)
    root = simulate_dataset(tmp_path, spec)
    imagery, *seen = runs_of(root)
    assert sorted(imagery[1]['stim_file']) == sorted(seen[0][1]['stim_file'])
    assert len(list(root.rglob('sub-01_task-imagery_run-01_bold.nii.gz'))) == 1
    assert json.loads((root / 'task-imagery_bold.json').read_text())['TaskName'] == 'imagery'
    # runs of images that are seen do not change
    for one, other in zip(seen, runs_of(noiseless), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    # the mean response, over all images, is the planted share
    ratio = imagery[0].std(axis=0) / seen[0][0].std(axis=0)
    responsive = truth_map(root, 'label-responsive_mask') > 0
    assert np.median(ratio[responsive]) == pytest.approx(0.25, abs=0.06)


def test_off_grid_onsets():
    spec = build_spec(**SMALL, on_grid=False, isi=(1.0, 3.0))
    runs = design.design_images(spec, np.random.default_rng(0))
    onsets = np.concatenate([run.onsets for run in runs])
    assert (np.abs(onsets / 2.0 - np.rint(onsets / 2.0)) > 0.01).any()
    np.testing.assert_allclose(onsets * 10, np.rint(onsets * 10), atol=1e-6)
    gaps = np.concatenate([np.diff(run.onsets) for run in runs])
    assert gaps.min() >= 3.0 - 1e-9
    assert gaps.max() <= 5.0 + 1e-9


def test_oracle_finds_planted_responses_in_noiseless_data(noiseless):
    """A GLM written here (own polynomials, library read from the package) names every HRF."""
    root = Path(response.__file__).parents[1] / 'data' / 'hrf' / 'hrf_library.tsv'
    library = np.loadtxt(root)
    curves = np.apply_along_axis(np.convolve, 0, library, np.ones(20))
    curves /= curves.max(axis=0)
    hrf, responsive = truth_map(noiseless, 'stat-hrfindex_statmap'), None
    responsive = truth_map(noiseless, 'label-responsive_mask') > 0
    folder = noiseless / 'derivatives' / 'simulated-truth' / 'sub-01' / 'func'
    names = pd.read_csv(next(folder.glob('*_stimuli.tsv')), sep='\t')['stim_file'].tolist()
    true = truth_map(noiseless, 'stat-effect_statmap')
    residuals, betas, order = 0, [], []
    for series, events in runs_of(noiseless):
        lags = (np.arange(len(series)) * 20)[:, None] - np.rint(events['onset'] * 10).to_numpy(int)
        design_ = np.where(lags[..., None] >= 0, curves[np.clip(lags, 0, len(curves) - 1)], 0)
        fits = [np.hstack([design_[..., h], np.ones((len(series), 1))]) for h in range(20)]
        solved = [np.linalg.lstsq(X, series, rcond=None)[0] for X in fits]
        residuals += np.stack(
            [((series - X @ b) ** 2).sum(0) for X, b in zip(fits, solved, strict=True)]
        )
        betas.append(np.stack([b[:-1] for b in solved]))
        order += [names.index(s) for s in events['stim_file']]
    found = residuals.argmin(axis=0)
    assert np.count_nonzero(responsive) > 50
    assert (np.abs(found - hrf)[responsive] <= 1).mean() > 0.99
    voxels = np.flatnonzero(responsive)
    estimated = np.concatenate(betas, axis=1)[hrf[voxels].astype(int), :, voxels].T
    r = [
        np.corrcoef(e, t)[0, 1] for e, t in zip(estimated.T, true[order][:, voxels].T, strict=True)
    ]
    assert np.quantile(r, 0.05) > 0.99
    np.testing.assert_array_equal(true[:, ~responsive], 0)


def test_truth_agrees_with_itself(images):
    ncsnr, ceiling = (truth_map(images, f'stat-{s}_statmap') for s in ('ncsnr', 'noiseceiling'))
    signal, noise = (truth_map(images, f'stat-{s}_statmap') for s in ('signalsd', 'noisesd'))
    betas = truth_map(images, 'stat-effect_statmap')
    np.testing.assert_allclose(ncsnr, signal / noise, rtol=1e-5)
    np.testing.assert_allclose(ceiling, ncsnr**2 / (ncsnr**2 + 1 / 2), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(betas.std(axis=0), signal, rtol=1e-4, atol=1e-6)
    responsive = truth_map(images, 'label-responsive_mask') > 0
    np.testing.assert_array_equal(responsive, signal > 0)
    single = ncsnr**2 / (ncsnr**2 + 1)
    assert single[responsive].max() <= 0.7 + 1e-6
    assert np.ptp(single[responsive]) > 0.5
    peak = truth_map(images, 'stat-timetopeak_statmap')
    index = truth_map(images, 'stat-hrfindex_statmap').astype(int)
    np.testing.assert_allclose(peak, response.times_to_peak(2.0)[index], rtol=1e-5)


@pytest.mark.slow
def test_true_beta_noise_is_that_of_an_oracle_glm(tmp_path):
    """Single-trial betas, fitted by least squares, scatter around the truth as the truth says."""
    spec = build_spec(**(SMALL | {'n_runs': 8, 'n_images': 40, 'n_repeats': 4}))
    root = simulate_dataset(tmp_path / 'x', spec)
    hrf = truth_map(root, 'stat-hrfindex_statmap').astype(int)
    true, sd = truth_map(root, 'stat-effect_statmap'), truth_map(root, 'stat-noisesd_statmap')
    folder = root / 'derivatives' / 'simulated-truth' / 'sub-01' / 'func'
    names = pd.read_csv(next(folder.glob('*_stimuli.tsv')), sep='\t')['stim_file'].tolist()
    errors = []
    for series, events in runs_of(root):
        X = response.design_matrices(events['onset'].to_numpy(float), 2.0, len(series), 2.0)
        degree = round(len(series) * 2 / 120)
        drift = np.vander(np.linspace(-1, 1, len(series)), degree + 1)
        shown = [names.index(s) for s in events['stim_file']]
        estimate = np.empty((len(shown), len(hrf)))
        for h in np.unique(hrf):
            fit = np.linalg.lstsq(np.hstack([X[h], drift]), series[:, hrf == h], rcond=None)[0]
            estimate[:, hrf == h] = fit[: len(shown)]
        errors.append(estimate - true[shown])
    ratio = np.sqrt((np.concatenate(errors) ** 2).mean(axis=0)) / sd
    assert abs(np.median(ratio) - 1) < 0.05
    assert np.quantile(ratio, 0.05) > 0.8
    assert np.quantile(ratio, 0.95) < 1.2


@pytest.mark.slow
def test_confounds_are_read_by_nilearn(images, films):
    from nilearn.interfaces.fmriprep import load_confounds

    seen = []
    for root in (images, films):
        for bold in (root / 'derivatives' / 'fmriprep').rglob('*preproc_bold.nii.gz'):
            confounds, _ = load_confounds(
                str(bold),
                strategy=('motion', 'wm_csf', 'global_signal', 'high_pass', 'compcor'),
                motion='full',
                wm_csf='full',
                global_signal='full',
                compcor='anat_combined',
                n_compcor=5,
            )
            assert len(confounds) == nib.load(bold).shape[-1]
            assert np.isfinite(confounds.to_numpy()).all()
            expected = {'trans_x_derivative1_power2', 'csf_power2', 'white_matter'}
            assert expected | {'a_comp_cor_00'} <= set(confounds.columns)
            # runs shorter than 64 s have no drift that slow
            assert ('cosine00' in confounds.columns) == (len(confounds) * 2 >= 64)
            seen.append('cosine00' in confounds.columns)
    assert set(seen) == {True, False}


def test_confounds_first_row_is_missing_and_displacement_is_powers(images):
    table_file = next(images.rglob('*desc-confounds_timeseries.tsv'))
    assert 'n/a' in table_file.read_text().splitlines()[1]
    table = pd.read_csv(table_file, sep='\t')
    assert table['framewise_displacement'].isna().to_list() == [True] + [False] * (len(table) - 1)
    shifts = table[['trans_x', 'trans_y', 'trans_z']].diff().abs().sum(axis=1)
    turns = table[['rot_x', 'rot_y', 'rot_z']].diff().abs().sum(axis=1)
    found = table['framewise_displacement'][1:]
    np.testing.assert_allclose(found, (shifts + 50 * turns)[1:], rtol=1e-3, atol=1e-4)


def test_atlas_has_table_and_grid(images):
    folder = images / 'derivatives' / 'simulated-truth' / 'tpl-MNI152NLin2009aSym'
    atlas = nib.load(next(folder.glob('*_atlas-Sim_dseg.nii.gz')))
    table = pd.read_csv(next(folder.glob('*_dseg.tsv')), sep='\t')
    mask = mask_of(images)
    np.testing.assert_allclose(atlas.affine, mask.affine)
    labels = np.asanyarray(atlas.dataobj)
    assert set(np.unique(labels)) - {0} == set(table['index'])
    assert not labels[~mask.mask].any()
    responsive = truth_map(images, 'label-responsive_mask') > 0
    names = table.set_index('index')['name'].reindex(mask.extract(labels)[responsive])
    assert set(names.str.split('_').str[1]) == {'EarlyVisual', 'Colour', 'Object'}


@pytest.mark.slow
def test_films_are_shared_and_isc_is_as_planted(tmp_path):
    """Leave-one-out correlation, computed here, against the map of the truth."""
    values = SMALL_FILM | {'n_subjects': 4, 'film_duration': 180, 'image_size': 32, 'motion': 0}
    root = simulate_dataset(tmp_path / 'x', build_spec(**values))
    events = [table for sub in ('01', '02') for _, table in runs_of(root, sub)]
    assert events[0].equals(events[2])
    series = []
    for sub in ('01', '02', '03', '04'):
        clean = []
        for run, _ in runs_of(root, sub):
            basis = np.vander(np.linspace(-1, 1, len(run)), round(len(run) * 2 / 120) + 1)
            clean.append(run - basis @ np.linalg.lstsq(basis, run, rcond=None)[0])
        series.append(np.concatenate(clean))
    others = np.mean(series[1:], axis=0)
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(series[0].T, others.T, strict=True)]
    planted = truth_map(root, 'stat-isc_statmap')
    responsive = truth_map(root, 'label-responsive_mask') > 0
    difference = np.array(found)[responsive] - planted[responsive]
    assert abs(np.median(difference)) < 0.04
    assert spearmanr(np.array(found)[responsive], planted[responsive])[0] > 0.9
    assert abs(np.median(np.array(found)[~responsive])) < 0.06


@pytest.mark.slow
def test_planted_delay(tmp_path):
    values = SMALL_FILM | QUIET | {'n_subjects': 1, 'n_runs': 1, 'response_delay': 6.0}
    root = simulate_dataset(tmp_path / 'x', build_spec(**values))
    ((series, events),) = runs_of(root)
    assert events['onset'].tolist() == [6.0]
    # nothing moves before the film has been on for the delay
    changes = np.flatnonzero(np.abs(np.diff(series, axis=0)).max(axis=1) > 0.05) + 1
    assert changes[0] * 2.0 == 6.0 + 6.0
    assert set(truth_map(root, 'stat-timetopeak_statmap')) == {np.float32(6.0)}


@pytest.mark.slow
def test_film_covers_its_event(films):
    import av

    for series, events in runs_of(films):
        path = films / 'stimuli' / events['stim_file'].iloc[0]
        with av.open(str(path)) as film:
            assert film.streams.video[0].average_rate == 25
            duration = film.duration / 1e6
        assert duration >= events['duration'].iloc[0]
        assert events['onset'].iloc[0] + events['duration'].iloc[0] == len(series) * 2.0


def test_users_pictures(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ('cats', 'dogs'):
        (tmp_path / 'own' / kind).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'own' / kind / f'{number}.jpg')
    spec = build_spec(**SMALL, stimuli_dir=tmp_path / 'own')
    root = simulate_dataset(tmp_path / 'out', spec)
    events = pd.concat([table for _, table in runs_of(root)])
    assert set(events['trial_type']) == {'cats', 'dogs'}
    copied = sorted(p.relative_to(root / 'stimuli') for p in (root / 'stimuli').rglob('*.jpg'))
    assert sorted(set(events['stim_file'])) == [p.as_posix() for p in copied]
    assert len(copied) == 12


def test_users_films_shorter_than_asked(tmp_path):
    (tmp_path / 'own').mkdir()
    frames = [np.full((48, 64, 3), 5 * k % 255, dtype=np.uint8) for k in range(25 * 21)]
    write_video(tmp_path / 'own' / 'a.mp4', frames, 25)
    values = SMALL_FILM | {'n_subjects': 1, 'n_runs': 1, 'stimuli_dir': tmp_path / 'own'}
    root = simulate_dataset(tmp_path / 'out', build_spec(**values))
    ((series, events),) = runs_of(root)
    assert events['duration'].tolist() == [20.0]  # whole volumes of 21 s
    assert len(series) == 13


def test_real_noise_keeps_covariance(tmp_path):
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 5 * 6 * 4))
    values = 1000 + 10 * (rng.standard_normal((90, 4)) @ mixing).T.reshape(5, 6, 4, 90)
    image = nib.Nifti1Image(values.astype(np.float32), np.diag([4, 4, 4, 1]))
    image.header.set_xyzt_units('mm', 'sec')
    image.header.set_zooms((4, 4, 4, 2.0))
    image.to_filename(tmp_path / 'real.nii.gz')
    values = SMALL | {'snr': 0, 'drift': 0, 'motion': 0, 'noise_from': tmp_path / 'real.nii.gz'}
    root = simulate_dataset(tmp_path / 'out', build_spec(**values))
    series, _ = runs_of(root)[0]
    # four sources in the real run: four in the simulated one
    share = np.linalg.svd(series, compute_uv=False) ** 2
    assert share[:4].sum() / share.sum() > 0.98
    assert not (truth_map(root, 'label-responsive_mask') > 0).any()


@pytest.mark.real
def test_real_noise_of_haxby(shared, tmp_path):
    runs = (shared / 'data' / 'haxby2001' / 'derivatives').rglob('*run-01*preproc_bold.nii.gz')
    values = SMALL | {'repetition_time': 2.5, 'noise_from': next(runs), 'n_runs': 6}
    root = simulate_dataset(tmp_path / 'out', build_spec(**values))
    sd = truth_map(root, 'stat-noisesd_statmap')
    assert np.isfinite(sd).all()
    assert 0.3 < np.median(sd) < 5


def test_unfinished_dataset_is_not_left(tmp_path, monkeypatch):
    def stop(*_, **__):
        assert not (tmp_path / 'out' / 'dataset_description.json').exists()
        assert (tmp_path / 'out' / 'stimuli').is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, 'write_truth', stop)
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(tmp_path / 'out', build_spec(**SMALL))
    assert not (tmp_path / 'out').exists()


def matches(message: str) -> str:
    return message.split('{', maxsplit=1)[0]


def test_output_folder_must_be_empty(tmp_path):
    (tmp_path / 'mine.txt').write_text('x')
    with pytest.raises(ArgumentsError, match=matches(dataset.NOT_EMPTY)):
        simulate_dataset(tmp_path, build_spec(**SMALL))
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']
    with pytest.raises(ArgumentsError, match=matches(dataset.NOT_FOLDER)):
        simulate_dataset(tmp_path / 'mine.txt', build_spec(**SMALL))
    with pytest.raises(ArgumentsError, match=matches(dataset.CANNOT_WRITE)):
        simulate_dataset(tmp_path / 'mine.txt' / 'below', build_spec(**SMALL))


@pytest.mark.parametrize(
    ('values', 'says'),
    [
        ({'n_repeats': 9}, 'n_repeats'),
        ({'isi': (4, 2)}, 'isi'),
        ({'colour': 1}, 'colour: unknown key'),
        ({'snr': -1}, 'snr'),
        ({'paradigm': 'movie', 'n_runs': 3, 'n_repeats': 2}, 'n_repeats'),
    ],
)
def test_settings_that_do_not_go_together(values, says):
    with pytest.raises(ArgumentsError, match=says) as caught:
        build_spec(**values)
    assert '\n' not in str(caught.value)


def test_films_are_not_imagined():
    with pytest.raises(ArgumentsError, match='imagery_runs goes with images'):
        build_spec(paradigm='movie', imagery_runs=1)


def test_defaults_depend_on_the_paradigm():
    assert SimulationSpec(paradigm='movie').n_repeats == 1
    assert SimulationSpec(paradigm='movie', n_repeats=2).n_repeats == 2
    assert SimulationSpec().n_repeats == 3


def test_no_pause_fits():
    spec = build_spec(**SMALL, isi=(0.5, 1.0))
    with pytest.raises(ArgumentsError, match=matches(design.NO_PAUSE_FITS)):
        design.design_images(spec, np.random.default_rng(0))


@pytest.mark.slow
def test_bad_users_files(tmp_path):
    own = tmp_path / 'own'
    values = SMALL | {'n_images': 2, 'stimuli_dir': own}
    with pytest.raises(ArgumentsError, match=matches(stimuli.NO_FOLDER)):
        simulate_dataset(tmp_path / 'out', build_spec(**values))
    own.mkdir()
    (own / 'a.png').write_bytes(b'no image')
    with pytest.raises(ArgumentsError, match=matches(stimuli.TOO_FEW_FILES)):
        simulate_dataset(tmp_path / 'out', build_spec(**values))
    (own / 'b.png').write_bytes(b'no image')
    with pytest.raises(InputError, match=r'Cannot read the image .*a\.png'):
        simulate_dataset(tmp_path / 'out', build_spec(**values))
    (own / 'c.mp4').write_bytes(b'no film')
    films = SMALL_FILM | {'n_runs': 1, 'stimuli_dir': own}
    with pytest.raises(InputError, match=r'Cannot read the film .*c\.mp4'):
        simulate_dataset(tmp_path / 'out', build_spec(**films))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('shape', 'step', 'says'),
    [
        ((4, 4, 4, 20), 2.0, r'has 20 volumes'),
        ((4, 4, 4, 90), 1.0, r'a volume every 1 s'),
        ((4, 4, 4), 2.0, r'3 dimensions'),
    ],
)
def test_bad_real_run(shape, step, says, tmp_path):
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(
        (100 + rng.standard_normal(shape)).astype(np.float32), np.diag([3, 3, 3, 1])
    )
    image.header.set_xyzt_units('mm', 'sec')
    if len(shape) == 4:
        image.header.set_zooms((3, 3, 3, step))
    image.to_filename(tmp_path / 'run.nii')
    places = rng.uniform(-50, 50, size=(30, 3))
    with pytest.raises(InputError, match=says):
        realnoise.read_noise(tmp_path / 'run.nii', places, 2.0, 80)


@pytest.mark.parametrize('damage', ['nothing', 'bytes', 'header'])
def test_real_run_that_is_none(tmp_path, damage):
    values = np.random.default_rng(0).integers(3, size=(9, 9, 9, 50)).astype(np.float32)
    image = nib.Nifti1Image(values, np.eye(4))
    content = bytearray(image.to_bytes())
    if damage == 'header':
        content[70:72] = b'\xff\x7f'  # no type of data has that number
    packed = bytearray(gzip.compress(bytes(content)))
    if damage == 'bytes':
        packed[len(packed) // 2 :] = b'\xff' * (len(packed) - len(packed) // 2)
    (tmp_path / 'run.nii.gz').write_bytes(b'nothing' if damage == 'nothing' else packed)
    with pytest.raises(InputError, match=matches(realnoise.UNREADABLE_RUN)):
        realnoise.read_noise(tmp_path / 'run.nii.gz', np.zeros((3, 3)), 2.0, 80)


def test_voxels_too_coarse():
    with pytest.raises(ArgumentsError, match='Voxels of 60 mm'):
        brain.load_brain(60)
