"""Betas alone: the engine's betas and ceilings, valid BIDS, a report, and no more."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import bids_neurodecode as nd
from bids_neurodecode.cli.exits import OK, USAGE
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.systems import BETAS_IN_RESULTS, BETAS_OF_FILMS
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.levels.betas import TUNED_ON_ALL
from bids_neurodecode.levels.group import NO_SCORES
from bids_neurodecode.signals.clean import AS_IN_THE_SERIES
from bids_neurodecode.signals.preparing import NO_MEAN
from bids_neurodecode.signals.regions import RELIABLE
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.systems.steps.records import results_path
from tests.running import HERE

pytestmark = pytest.mark.slow
LABELS = 'space-MNI152NLin2009aSym'


def call(folder: Path, *more: str, out: str = 'out') -> int:
    places = [str(folder / 'data'), str(folder / out), 'participant', '-w', str(folder / 'work')]
    return main([*places, '--skip-bids-validation', *HERE, '--level', 'betas', *more])


@pytest.fixture(scope='module')
def estimated(tmp_path_factory):
    """One participant, model D, with the atlas of the simulation."""
    folder = tmp_path_factory.mktemp('betas')
    spec = build_spec(n_subjects=1, n_runs=3, n_images=10, n_repeats=3, voxel_size=16.0, snr=2)
    simulate_dataset(folder / 'data', spec)
    (folder / 'd.toml').write_text('[betas]\nmodel = "D"\n')
    (atlas,) = (folder / 'data').rglob('*atlas-Sim_dseg.nii.gz')
    assert call(folder, '--config-file', str(folder / 'd.toml'), '--atlas', str(atlas)) == OK
    return folder


def test_cut_into_blocks_the_betas_are_the_same_bytes(estimated, no_page):
    # of images "responses" is another name for betas
    more = ['--config-file', str(estimated / 'd.toml'), '--blocks', '3', '--level', 'responses']
    assert call(estimated, *more, out='cut') == OK
    whole, cut = (estimated / out / 'sub-01' / 'func' for out in ('out', 'cut'))
    files = sorted(file.name for file in whole.glob('*_statmap.nii.gz'))
    assert len(files) >= 4
    for name in files:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    nodes = {file.parent.name for file in (estimated / 'work').rglob('_node.pklz')}
    for stage in ('responses', 'coordinates', 'judging', 'tuning'):
        assert {f'betas_{stage}_{number}' for number in range(3)} <= nodes


def test_betas_and_ceilings_are_those_of_the_library(estimated):
    func = estimated / 'out' / 'sub-01' / 'func'
    person = nd.load_dataset(estimated / 'data')['01']
    betas = nd.fit_betas(person.bold, person.events, mask=person.mask, model='D')
    stem = func / f'sub-01_task-images_{LABELS}'
    written = nib.load(f'{stem}_stat-effect_desc-singletrial_statmap.nii.gz').get_fdata()
    np.testing.assert_allclose(person.mask.extract(written), betas.values, rtol=1e-5)
    ceiling = nib.load(f'{stem}_stat-noiseceiling_statmap.nii.gz').get_fdata()
    np.testing.assert_allclose(
        person.mask.extract(ceiling), nd.noise_ceiling(betas), rtol=1e-5, atol=1e-7
    )
    fraction = nib.load(f'{stem}_stat-fracridge_statmap.nii.gz').get_fdata()
    np.testing.assert_allclose(person.mask.extract(fraction), betas.estimates.fraction)
    events = pd.read_csv(func / 'sub-01_task-images_desc-singletrial_events.tsv', sep='\t')
    assert events['stim_file'].tolist() == betas.stimuli.tolist()


def test_nothing_else_is_made(estimated, check_pybids):
    out = estimated / 'out'
    check_pybids(out, estimated / 'data')
    names = {file.name for file in out.rglob('*') if file.is_file()}
    assert not any('_metrics' in name or '_model' in name for name in names)
    assert any(name.endswith('_dseg.nii.gz') for name in names)
    assert any('_timeseries.tsv' in name for name in names)
    assert validate_dataset(out) == {}


def test_the_report_says_what_it_is(estimated):
    page = (estimated / 'out' / 'sub-01.html').read_text('utf-8')
    assert 'estimates the brain response to each trial' in page
    assert 'No score was computed' not in page
    assert re.search(r'explain\): \d+\.\d % in the median voxel, \d+\.\d % or more', page)
    assert 'held out' not in page.split('id="summary"')[1].split('<section')[0]
    record = json.loads(results_path(estimated / 'out', '01', 'images').read_text())
    assert record['system'] == 'betas'
    assert TUNED_ON_ALL in record['warnings']
    methods = (estimated / 'out' / 'logs' / 'CITATION.md').read_text('utf-8')
    assert 'These choices were made on all trials.' in methods
    assert 'Noise ceilings follow' in methods
    assert 'identified' not in methods
    results = nd.load_results(estimated / 'out')
    assert results.metrics.empty
    assert results.map('noiseceiling').ndim == 3
    assert 'betas' in repr(results)


def test_reports_are_made_again(estimated):
    page = estimated / 'out' / 'sub-01.html'
    page.unlink()
    assert call(estimated, '--reports-only') == OK
    assert page.is_file()


def test_there_is_nothing_to_compare_over_participants(estimated, capsys):
    out = estimated / 'out'
    call = [str(estimated / 'data'), str(out), 'group', '-w', str(estimated / 'work')]
    assert main([*call, '--skip-bids-validation']) == USAGE
    assert NO_SCORES.format(folder=out) in capsys.readouterr().err


def test_results_beyond_betas_are_not_replaced(estimated, capsys):
    file = results_path(estimated / 'out', '01', 'images')
    kept = file.read_text()
    file.write_text(kept.replace('"system": "betas"', '"system": "reconstruction"'))
    assert call(estimated) == USAGE
    file.write_text(kept)
    told = BETAS_IN_RESULTS.format(folder=estimated / 'out', label='01', level='betas')
    assert told in capsys.readouterr().err


@pytest.mark.parametrize('way', ['mask', 'rois'])
def test_the_mask_of_reliable_voxels_is_a_region_of_a_later_run(estimated, no_page, way):
    """The same voxels are decoded from, and it is said how they were chosen."""
    name = f'sub-01_task-images_{LABELS}_label-reliable_desc-fdr_mask.nii.gz'
    region = estimated / 'out' / 'sub-01' / 'func' / name
    chosen = nib.load(region).get_fdata() > 0
    quick = '[evaluation]\nn_permutations = 20\nn_bootstrap = 20\n[betas]\nmodel = "B"\n'
    quick += '[reconstruction]\ngenerator = "none"\n[selection]\nmeasure = "none"\n'
    given = [f'--mask={region}']
    if way == 'rois':
        quick += f'[atlas]\nregions = ["good"]\n[atlas.rois]\ngood = "{region}"\n'
        given = []
    settings = estimated / f'{way}.toml'
    settings.write_text(quick)
    places = [str(estimated / 'data'), str(estimated / way), 'participant']
    more = ['-w', str(estimated / 'work'), '--skip-bids-validation', *HERE]
    more += ['--system', 'reconstruction']
    assert main([*places, *more, '--config-file', str(settings), *given]) == OK
    used = next((estimated / way).rglob('*_label-reliable_desc-all_mask.nii.gz'))
    assert 0 < chosen.sum() < 0.5 * chosen.size
    np.testing.assert_array_equal(nib.load(used).get_fdata() > 0, chosen)
    record = json.loads(results_path(estimated / way, '01', 'images').read_text())
    said = RELIABLE.split('{file}')[1]
    assert any(line.endswith(said) for line in (*record['warnings'], *record['notes']))


def test_conditions_alone_have_betas_too(estimated, tmp_path):
    """The same data without files of images: trial_type names what was shown."""
    import shutil

    data = tmp_path / 'data'
    shutil.copytree(estimated / 'data', data)
    for file in data.glob('sub-01/func/*_events.tsv'):
        events = pd.read_csv(file, sep='\t')
        events['trial_type'] = 'c' + events['stim_file'].str.extract(r'(\d+)')[0]
        events[['onset', 'duration', 'trial_type']].to_csv(file, sep='\t', index=False)
    assert call(tmp_path) == OK
    table = pd.read_csv(
        tmp_path / 'out' / 'sub-01' / 'func' / 'sub-01_task-images_desc-singletrial_events.tsv',
        sep='\t',
    )
    assert table['trial_type'].str.fullmatch(r'c\d+').all()
    assert 'stim_file' not in table
    assert validate_dataset(tmp_path / 'out') == {}


def test_betas_of_standardised_series_have_the_units_of_the_series(estimated, tmp_path):
    """There is no percent signal change, neither in sidecars nor on the page."""
    import shutil

    shutil.copytree(estimated / 'data', tmp_path / 'data')
    for file in (tmp_path / 'data').rglob('*_desc-preproc_bold.nii.gz'):
        image = nib.load(file)
        values = image.get_fdata()
        size = values.std(axis=-1, keepdims=True)
        values = (values - values.mean(axis=-1, keepdims=True)) / np.where(size > 0, size, 1)
        nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), file)
    (tmp_path / 'b.toml').write_text('[betas]\nmodel = "B"\n')
    assert call(tmp_path, '--config-file', str(tmp_path / 'b.toml')) == OK
    func = tmp_path / 'out' / 'sub-01' / 'func'
    (about,) = func.glob('*_stat-effect_desc-singletrial_statmap.json')
    assert json.loads(about.read_text())['Units'] == AS_IN_THE_SERIES
    for image in (tmp_path / 'out').rglob('*.svg'):
        assert 'signal change' not in image.read_text('utf-8'), image.name
    (shape,) = (tmp_path / 'out').rglob('*_desc-evoked_figure.svg')
    assert 'units of the series' in shape.read_text('utf-8')
    assert NO_MEAN in (tmp_path / 'out' / 'sub-01.html').read_text('utf-8')


def test_films_have_no_single_trial_betas(tmp_path, capsys):
    spec = build_spec(
        paradigm='movie', n_subjects=1, n_runs=1, film_duration=40.0, voxel_size=18.0
    )
    simulate_dataset(tmp_path / 'data', spec)
    assert call(tmp_path) == USAGE
    assert BETAS_OF_FILMS.format(task='movie', label='01') in capsys.readouterr().err
