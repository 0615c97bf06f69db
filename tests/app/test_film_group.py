"""Participants who saw the same films: voxels by agreement, ceilings, the group brain."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.levels import group_page as group
from bids_neurodecode.levels import participant_page as participant
from bids_neurodecode.levels.participant_page import write_participant_report
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.systems.movie.checks import NO_SELECTION, ONLY_PUBLISHED
from bids_neurodecode.systems.movie.steps.earlier import FromAligned, aligned_files
from bids_neurodecode.systems.movie.steps.group import FROM_EARLIER, NOBODY_ELSE
from bids_neurodecode.systems.steps.records import find_results, read_results
from tests.running import HERE

SETTINGS = """
[evaluation]
n_permutations = 40
n_bootstrap = 20
[features]
image_size = 32
n_components = 10
[split]
test_fraction = 0.3
gap = 6.0
[selection]
measure = "{measure}"
rule = "top"
fraction = 0.1
[movie]
target = "{target}"
motion = "changes"
banded = "off"
"""
NETWORK = """
model = "network"
mode = "encoder"
design = "small"
frame_size = 24
widths = [2, 3, 2, 3, 4]
n_epochs = 1
patience = "none"
explain = []
"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three participants with two films, each of them and their mean analysed."""
    root = tmp_path_factory.mktemp('group')
    spec = build_spec(
        paradigm='movie', n_subjects=3, n_runs=2, film_duration=105.0, voxel_size=14.0, snr=2.0
    )
    simulate_dataset(root / 'data', spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(participant, 'write_participant_report', some_pages)
        patch.setattr(group, 'write_group_report', lambda _, html, *__, **___: html.write_text(''))
        assert call(root, 'participant') == 0
        assert call(root, 'group', target='group', more=NETWORK) == 0
    return root


def some_pages(results, html, figures_dir):
    """Write the pages that are looked at: pages are what takes longest."""
    if results.participant in {'01', 'group'}:
        write_participant_report(results, html, figures_dir)
    else:
        html.write_text('')


def call(root, level, *options, out='out', measure='isc', target='participant', more=''):
    file = root / f'{level}-{measure}-{target}.toml'
    file.write_text(SETTINGS.format(measure=measure, target=target) + more)
    return main(
        [
            *(str(root / 'data'), str(root / out), level, '-w', str(root / 'work')),
            *('--skip-bids-validation', '--device', 'cpu', *HERE),
            *('--config-file', str(file), *options),
        ]
    )


def record(root, label='01', out='out'):
    return read_results(root / out / f'sub-{label}/log/sub-{label}_task-movie_results.json')


def brain(root):
    return read_results(root / 'out/group/sub-group/log/sub-group_task-movie_results.json')


def values(path, mask=None):
    volume = nib.load(path).get_fdata()
    return volume if mask is None else volume[nib.load(mask).get_fdata() > 0]


def metrics_of(results):
    return pd.read_csv(results.metrics, sep='\t')


def test_voxels_are_chosen_by_agreement(folder):
    results = record(folder, '02')
    assert results.voxels.rule.endswith(
        'highest 10% by isc, leave-one-out over 3 participants, training volumes only'
    )
    kept = values(results.maps['reliable']) > 0
    assert kept.sum() == results.voxels.n_selected
    (truth,) = (folder / 'data/derivatives/simulated-truth/sub-02/func').glob('*responsive_mask*z')
    planted = values(truth) > 0
    assert planted[kept].mean() >= 0.9 > 2 * planted.mean()
    assert any(note.startswith('Compared with 2 other') for note in results.notes)


def test_scores_stand_beside_their_ceiling(folder):
    results = record(folder)
    table = metrics_of(results).set_index(['model', 'metric'])['ceiling']
    ceiling = values(results.maps['ceilingr'], results.maps['reliable'])
    assert table['ridge', 'voxel_r_median'] == pytest.approx(np.nanmedian(ceiling), abs=1e-5)
    assert np.isnan(table['baseline-shuffled', 'voxel_r_median'])
    (truth,) = (folder / 'data/derivatives/simulated-truth/sub-01/func').glob('*ceiling_statmap*z')
    planted = np.sqrt(values(truth, results.maps['reliable']))
    assert np.nanmedian(ceiling) == pytest.approx(np.median(planted), abs=0.12)
    page = (folder / 'out/sub-01.html').read_text()
    assert 'Voxels and their ceiling' in page
    assert 'maximum over all voxels (hardly any are)' in page
    assert 'agreement of 3 participants' in page


def test_p_values_and_the_threshold_of_the_maximum_are_written(folder):
    results = record(folder)
    (file,) = (folder / 'out/sub-01/func').glob('*stat-pfdr_desc-linear_statmap.nii.gz')
    p, kept = values(file), values(results.maps['reliable']) > 0
    assert np.isfinite(p[kept]).all()
    assert np.isnan(p[~kept]).all()
    (test,) = results.voxel_tests
    assert test.n_fdr == (p[kept] < 0.05).sum()
    sidecar = json.loads(results.maps['pearsonr'].with_suffix('').with_suffix('.json').read_text())
    assert sidecar['MaxStatisticThreshold'] == pytest.approx(test.r_fwer)
    assert test.n_fwer == (values(results.maps['pearsonr'])[kept] > test.r_fwer).sum()


def test_the_group_brain_is_predicted_better_than_its_members(folder):
    results = brain(folder)
    assert results.members == ('01', '02', '03')
    together = metrics_of(results)
    ridge = together[(together['model'] == 'ridge') & (together['metric'] == 'voxel_r_median')]
    assert (ridge['ceiling'] > metrics_of(record(folder))['ceiling'].max()).all()
    kept = results.maps['reliable']
    r = [values(record(folder, label).maps['pearsonr'], kept) for label in results.members]
    mean = values(results.maps['pearsonr'], results.maps['reliable'])
    assert np.median(mean) > max(np.median(x) for x in r)


def test_pybids_reads_what_participants_and_the_group_left(folder, check_pybids):
    check_pybids(folder / 'out', folder / 'data')


def test_the_group_brain_has_a_network_and_a_page_of_its_own(folder):
    assert {'network', 'ridge'} <= set(metrics_of(brain(folder))['model'])
    network = metrics_of(brain(folder)).set_index(['model', 'metric'])
    assert network['ceiling']['network', 'voxel_r_median'] > 0.3
    page = (folder / 'out/group_movie.html').read_text()
    assert 'Mean of 3 participants' in page
    assert 'it says nothing of any one of them' in page
    assert (folder / 'out/group.html').is_file()
    assert [file.parent.parent.name for file in find_results(folder / 'out')] == [
        'sub-01',
        'sub-02',
        'sub-03',
    ]
    assert validate_dataset(folder / 'out') == {}


def test_the_mean_is_that_of_standardised_training_volumes(folder):
    files = aligned_files(folder / 'out', 'movie', 'MNI152NLin2009aSym')
    table = pd.DataFrame()
    each = []
    for label, mine in files.items():
        person = FromAligned(label, mine, delayed=False)
        names, series = zip(*person.showings(), strict=True)
        table = pd.DataFrame({'stimulus': [name for part in names for name in part]})
        each.append(np.concatenate(series))
    # the end of each film, the gap before it, and the delay after the last training volume
    index = table['stimulus'].str.rsplit('#').str[1].astype(int)
    films = table['stimulus'].str.rsplit('#').str[0]
    n = films.map(films.value_counts())
    first_test = n - (0.3 * n).round()
    train = (2.0 * index <= 2.0 * first_test - 6.0).to_numpy()
    z = [(x - x[train].mean(axis=0)) / x[train].std(axis=0) for x in each]
    found = sorted((folder / 'out/group/sub-group/func').glob('*desc-aligned_bold.nii.gz'))
    mask = VoxelMask.load(brain(folder).runs[0].mask)
    mean = np.concatenate([mask.extract(np.asarray(nib.load(file).dataobj)) for file in found])
    np.testing.assert_allclose(mean, np.mean(z, axis=0), atol=1e-3)


def test_the_same_call_again_leaves_all_as_it_is(folder, capsys):
    """What a call writes of its own participants is no series of an earlier one."""
    assert call(folder, 'participant') == 0
    log = capsys.readouterr().err
    for label in ('01', '02', '03'):
        assert f'sub-{label}: nothing changed since the last run' in log
    assert 'steps' not in log


def test_one_participant_alone_takes_the_others_from_the_output_folder(
    folder, capsys, monkeypatch
):
    assert call(folder, 'participant', '--participant-label', '01', out='none') == 2
    expected = NOBODY_ELSE.format(measure='isc', label='01', folder=folder / 'none')
    assert expected in capsys.readouterr().err
    before = values(record(folder).maps['reliable']) > 0
    monkeypatch.setattr(
        participant, 'write_participant_report', lambda _, html, __: html.write_text('')
    )
    # a copy: the page of sub-01 is looked at by other tests
    shutil.copytree(folder / 'out', folder / 'again')
    assert call(folder, 'participant', '--participant-label', '01', out='again') == 0
    again = record(folder, out='again')
    assert f'{FROM_EARLIER.format(labels="sub-02, sub-03")}.' in again.notes
    after = values(again.maps['reliable']) > 0
    # the delay was taken out and put in again, which smooths a little
    assert (before & after).sum() >= 0.8 * before.sum()


@pytest.mark.parametrize(
    ('measure', 'message'),
    [
        ('tsnr', NO_SELECTION.split(' ({where}')[0].format(measure='tsnr')),
        ('snr', ONLY_PUBLISHED),
    ],
)
def test_measures_that_films_do_not_have(folder, capsys, measure, message):
    assert call(folder, 'participant', '--dry-run', measure=measure) == 2
    assert message in capsys.readouterr().err


def test_all_of_it_lies_below_the_given_folder(folder: Path):
    assert {path.name for path in (folder / 'out/group').iterdir()} >= {'sub-group'}
    assert not (folder / 'out/sub-group').exists()
