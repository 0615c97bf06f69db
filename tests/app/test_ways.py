"""Further ways through the program: predict mode, precomputed betas, regions, reports alone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bids_neurodecode.cli.main import main
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import SimulationSpec
from tests.bad_input import listing
from tests.running import HERE

pytestmark = pytest.mark.slow
FAST = """
[evaluation]
n_permutations = 50
n_bootstrap = 50
[split]
by = "stimulus"
n_folds = 2
[reconstruction]
generator = "none"
"""
STUDY = """
title = "Seeds"
question = "Do seeds matter?"
system = "reconstruction"
metrics = ["identification_top1"]
seeds = [1, 2]
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A small dataset of two participants, and a run over the first."""
    folder = tmp_path_factory.mktemp('ways')
    spec = SimulationSpec(n_subjects=2, n_runs=2, n_images=24, n_repeats=2, voxel_size=12.0, snr=3)
    simulate_dataset(folder / 'data', spec)
    (folder / 'fast.toml').write_text(FAST)
    assert call(folder, 'out') == 0
    return folder


def call(folder: Path, out: str, *more: str, level: str = 'participant') -> int:
    places = [str(folder / 'data'), str(folder / out), level, '-w', str(folder / 'work')]
    common = ['--skip-bids-validation', '--participant-label', '01', *HERE]
    if '--config-file' not in more:
        common += ['--config-file', str(folder / 'fast.toml')]
    return main([*places, *common, *more])


def metrics(folder: Path, out: str) -> pd.DataFrame:
    (file,) = (folder / out / 'sub-01' / 'func').glob('*_metrics.tsv')
    return pd.read_csv(file, sep='\t')


def record(folder: Path, out: str) -> dict:
    (file,) = (folder / out / 'sub-01' / 'log').glob('*_results.json')
    return json.loads(file.read_text())


def test_a_trained_model_is_applied(trained, check_pybids):
    assert (
        call(trained, 'applied', '--mode', 'predict', '--models-from', str(trained / 'out')) == 0
    )
    table = metrics(trained, 'applied')
    top = table[table.metric == 'identification_top1'].iloc[0]
    # the model was trained on these trials: it has to know them, and the report to say so
    assert top.value > 0.5
    assert (table.protocol == 'in-sample').all()
    assert table[['p', 'ci_low', 'ci_high']].isna().all(axis=None)
    (leak,) = record(trained, 'applied')['leaks']
    assert leak.startswith('2 of the 2 runs trained the model sub-01_task-images_desc-linear')
    page = (trained / 'applied' / 'sub-01.html').read_text()
    assert leak in page
    assert page.index('class="bad"') < page.index('class="info"')
    assert 'held-out samples' not in page.split('id="summary"')[1].split('<section')[0]
    assert any(
        'images trained the model' in line for line in record(trained, 'applied')['warnings']
    )
    assert any('were retrieved, not made' in line for line in record(trained, 'applied')['notes'])
    assert (trained / 'applied' / 'sub-01.html').exists()
    for out in ('out', 'applied'):
        check_pybids(trained / out, trained / 'data')


def test_results_are_read_by_the_library(trained):
    """One tidy table, maps that nilearn plots, and the model as it was fitted."""
    import nibabel as nib
    import numpy as np
    from nilearn.masking import apply_mask

    import bids_neurodecode as nd

    results = nd.load_results(trained / 'out')
    assert results.participants == ('01',)
    table = results.metrics
    written = metrics(trained, 'out')
    assert table.columns[:2].tolist() == ['participant', 'task']
    np.testing.assert_array_equal(table['value'], written['value'])
    assert (table['chance'].notna() | written['chance'].isna()).all()
    assert 'identification_top1' in repr(results)
    for name, file in results.maps[['name', 'file']].itertuples(index=False):
        assert results.map(name).shape == nib.load(file).shape
    assert {'noiseceiling', 'reliable', 'tsnr', 'mean_bold'} <= set(results.maps['name'])
    trials = results.table('trials')
    model = results.model('linear')
    (betas,) = (trained / 'out' / 'sub-01' / 'func').glob('*desc-singletrial_statmap.nii.gz')
    responses = apply_mask(str(betas), results.map('reliable'))
    assert model.components(responses).shape[0] == len(trials)
    assert set(model.library) == set(trials['stimulus'])
    with pytest.raises(nd.UsageError, match=r'There is no map .x. of sub-01. Maps: .*tsnr'):
        results.map('x')
    with pytest.raises(nd.UsageError, match=r'Models: linear'):
        results.model('x')
    with pytest.raises(nd.UsageError, match=r'Tables: trials'):
        results.table('x')
    with pytest.raises(nd.UsageError, match=r'no results of sub-09'):
        results.map('tsnr', participant='sub-09')


def test_a_missing_model_is_named_before_work_starts(trained, capsys):
    (trained / 'empty').mkdir(exist_ok=True)
    code = call(trained, 'never', '--mode', 'predict', '--models-from', str(trained / 'empty'))
    assert code == 2
    assert str(trained / 'empty') in capsys.readouterr().err
    assert not (trained / 'never').exists()


def test_own_betas_taken_instead_give_the_same_scores_as_tuning_on_all(trained, no_page):
    (trained / 'all.toml').write_text(FAST + '[betas]\nmodel = "D"\ntuning = "all"\n')
    assert call(trained, 'all', '--config-file', str(trained / 'all.toml')) == 0
    assert any('may be optimistic' in line for line in record(trained, 'all')['warnings'])
    (trained / 'taken.toml').write_text(FAST + '[betas]\nprecomputed = "own"\n')
    sources = [
        f'fmriprep={trained / "data" / "derivatives" / "fmriprep"}',
        f'own={trained / "all"}',
    ]
    code = call(
        trained, 'taken', '--config-file', str(trained / 'taken.toml'), '--derivatives', *sources
    )
    assert code == 0
    ours, taken = metrics(trained, 'all'), metrics(trained, 'taken')
    same = ours.metric.str.startswith('identification') & (ours.model == 'ridge')
    assert taken[same]['value'].tolist() == pytest.approx(ours[same]['value'].tolist(), abs=0.03)


def test_regions_of_an_atlas_restrict_the_voxels(trained, no_page):
    (atlas,) = (trained / 'data').rglob('*atlas-Sim_dseg.nii.gz')
    (trained / 'region.toml').write_text(
        f'{FAST}[atlas]\nfile = "{atlas}"\nregions = ["EarlyVisual"]\n'
    )
    assert call(trained, 'region', '--config-file', str(trained / 'region.toml')) == 0
    whole, region = record(trained, 'out')['voxels'], record(trained, 'region')['voxels']
    assert 0 < region['n_selected'] < whole['n_selected']
    names = {path.name for path in (trained / 'region' / 'sub-01' / 'func').iterdir()}
    assert any(name.endswith('atlas-Sim_dseg.tsv') for name in names)
    assert sum(name.endswith('stat-mean_timeseries.tsv') for name in names) == 2


def test_reports_and_methods_alone(trained, capsys):
    page = trained / 'out' / 'sub-01.html'
    before = page.read_bytes()
    page.unlink()
    assert call(trained, 'out', '--reports-only') == 0
    assert page.read_bytes() == before
    citation = trained / 'out' / 'logs' / 'CITATION.md'
    citation.unlink()
    assert call(trained, 'out', '--boilerplate-only') == 0
    assert citation.read_text().startswith('# Methods')
    assert str(citation) in capsys.readouterr().err
    assert_left_alone(trained, capsys)


@pytest.mark.parametrize('out', ['dry', 'out'])
@pytest.mark.parametrize(
    ('level', 'more'),
    [
        ('participant', ()),
        ('participant', ('--level', 'betas')),
        ('participant', ('--blocks', '2', '--system', 'encoding')),
        ('participant', ('--mode', 'predict', '--models-from', 'out')),
        ('participant', ('--study', 'studies.toml')),
        ('participant', ('--participant-label', '02')),
        ('group', ()),
    ],
)
def test_a_dry_run_writes_nothing(trained, capsys, level, more, out):
    """Into a new folder, and where results and caches of an earlier run are."""
    if (level == 'group') == (out == 'dry') and (level == 'group' or 'betas' in more):
        pytest.skip('refused: there is nothing to gather, or more than betas would be replaced')
    (trained / 'studies.toml').write_text(STUDY)
    more = [str(trained / word) if word in {'out', 'studies.toml'} else word for word in more]
    before = listing(trained)
    assert call(trained, out, '--dry-run', *more, level=level) == 0
    said = capsys.readouterr().out
    assert 'nothing is written' in said
    assert 'sub-02' in said if '02' in more else level == 'group' or 'sub-01' in said
    assert listing(trained) == before


def assert_left_alone(trained, capsys):
    """Check that a second run finds the outputs of the first complete."""
    files = [file for file in (trained / 'out').rglob('sub-01*') if file.is_file()]
    before = [file.stat().st_mtime_ns for file in files]
    assert call(trained, 'out') == 0
    assert 'sub-01: nothing changed since the last run' in capsys.readouterr().err
    assert [file.stat().st_mtime_ns for file in files] == before


def test_group_level_names_who_is_missing(trained, capsys):
    places = [str(trained / 'data'), str(trained / 'out'), 'group', '-w', str(trained / 'work')]
    assert main([*places, '--skip-bids-validation']) == 0
    page = (trained / 'out' / 'group.html').read_text()
    assert '02' in page
    assert 'run the participant level' in page
    table = pd.read_csv(trained / 'out' / 'group' / 'task-images_metrics.tsv', sep='\t', dtype=str)
    assert set(table.participant) == {'01'}
    assert 'group.html' in (trained / 'out' / 'sub-01.html').read_text()
    assert_left_alone(trained, capsys)


def test_the_wrong_system_is_refused(trained, capsys):
    assert call(trained, 'never', '--system', 'movie') == 2
    assert 'films' in capsys.readouterr().err
    assert not (trained / 'never').exists()
