"""The Algonauts 2025 Challenge in its own layout, made from scratch."""

import re

import h5py
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids import algonauts2025
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.cli.exits import OK, USAGE
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.validation import validate_dataset
from bids_neurodecode.errors import InputError
from bids_neurodecode.report.boilerplate import cited, paragraphs
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.spaces import load_image, space_of
from bids_neurodecode.systems.steps.records import read_results
from tests.running import HERE

N_VOLUMES, N_PARCELS, N_RESPONDING = 160, 12, 6
NAME = 'sub-01_task-{task}_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net_bold.h5'
EPISODES = {
    'friends': ('ses-010_task-s01e02a', 'ses-003_task-s01e01b'),
    'movie10': ('ses-001_task-figures01_run-1', 'ses-001_task-figures01_run-2'),
}


def make(root, tasks=('friends',)):
    """Half of the parcels follow the first feature 3 volumes later."""
    rng = np.random.default_rng(0)
    func = root / 'fmri' / 'sub-01' / 'func'
    func.mkdir(parents=True)
    (root / 'stimuli').mkdir()
    for task in tasks:
        with h5py.File(func / NAME.format(task=task), 'w') as file:
            for name in EPISODES[task]:
                features = rng.normal(size=(N_VOLUMES, 3)).astype(np.float32)
                np.save(root / 'stimuli' / f'{name.split("_")[1][5:]}.npy', features)
                values = 0.3 * rng.normal(size=(N_VOLUMES, N_PARCELS))
                values[3:, :N_RESPONDING] += features[:-3, :1]
                values = (values - values.mean(0)) / values.std(0)
                file.create_dataset(name, data=values.astype(np.float32))
    return root


def find(root, **asked):
    given = {'features': '{film}.npy', 'made_dir': root.parent / 'made', **asked}
    return find_inputs(Request(bids_dir=root, **given))


def test_each_array_is_a_run_of_parcels(tmp_path):
    root = make(tmp_path / 'data')
    inputs = find(root)
    (person,) = inputs.participants
    assert (person.label, person.task, person.paradigm) == ('01', 'friends', 'movie')
    assert [run.entities['acq'] for run in person.runs] == ['s01e01b', 's01e02a']
    assert set(person.features) == {'s01e01b', 's01e02a'}
    run = person.runs[0]
    image = load_image(run.bold)
    with h5py.File(root / 'fmri/sub-01/func' / NAME.format(task='friends')) as file:
        np.testing.assert_array_equal(
            np.asarray(image.dataobj)[:, 0, 0].T, file['ses-003_task-s01e01b']
        )
    space = space_of(image)
    assert (space.form, str(space.axis.name[-1])) == ('parcels', 'parcel12')
    assert space.parcellation == {'atlas': 'Schaefer18', 'seg': '1000Par7Net'} == run.parcellation
    assert VoxelMask.load(run.mask).n_voxels == N_PARCELS
    events = pd.read_csv(run.events, sep='\t')
    assert events['stim_file'].tolist() == ['s01e01b']
    assert events['duration'].tolist() == pytest.approx([N_VOLUMES * 1.49])
    assert '2 episodes (friends), 320 volumes, 12 parcels' in inputs.notes[-1]
    assert cited(paragraphs('inputs', layout='algonauts2025', version='1', fmriprep=False))


def test_both_tasks_are_one_model_and_repeats_are_told_apart(tmp_path):
    root = make(tmp_path / 'data', ('friends', 'movie10'))
    (person,) = find(root).participants
    assert person.task == 'film'
    assert [run.entities.get('run') for run in person.runs] == ['1', '2', None, None]
    assert len({run.bold for run in person.runs}) == 4
    (person,) = find(root, tasks=('movie10',)).participants
    assert (person.task, person.stimuli) == ('movie10', ('figures01',))


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    root = make(tmp_path / 'data')
    with pytest.raises(
        InputError, match=r'no film of the episode s01e01b .*\{film\}\.npy.*--level'
    ):
        find(root, features=None)
    (person,) = find(root, features=None, needs_films=False).participants
    assert person.stimuli == ('s01e01b', 's01e02a')
    with pytest.raises(InputError, match=r'no series .* of sub-07'):
        find(root, participants=('07',))
    file = root / 'fmri/sub-01/func' / NAME.format(task='friends')
    with h5py.File(file, 'a') as opened:
        opened.create_dataset('ses-009_task-s01e03a', data=np.zeros(5))
    with pytest.raises(InputError, match=r'ses-009_task-s01e03a of shape 5'):
        find(root)
    file.write_bytes(b'no HDF5')
    with pytest.raises(InputError) as error:
        find(root)
    assert str(error.value).startswith(algonauts2025.BAD_FILE.split('{', maxsplit=1)[0])


@pytest.mark.slow
def test_it_runs_to_a_report(tmp_path):
    root, out = make(tmp_path / 'data'), tmp_path / 'out'
    (tmp_path / 'x.toml').write_text(
        '[features]\ntable = "{film}.npy"\n[evaluation]\nn_permutations = 50\nn_bootstrap = 50\n'
    )
    arguments = [str(root), str(out), 'participant', '-w', str(tmp_path / 'work')]
    assert main([*arguments, '--config-file', str(tmp_path / 'x.toml'), *HERE]) == 0
    assert 'Algonauts Project 2025 Challenge' in (out / 'sub-01.html').read_text()
    assert read_results(next(out.glob('sub-01/log/*_results.json'))).layout == 'algonauts2025'
    (table,) = out.glob('sub-01/func/*_stat-pearsonr_desc-linear_statmap.tsv')
    r = pd.read_csv(table, sep='\t').iloc[0]
    assert list(r.index) == [f'parcel{k:02d}' for k in range(1, N_PARCELS + 1)]
    assert r.iloc[:N_RESPONDING].min() > 0.6
    assert r.iloc[N_RESPONDING:].abs().max() < 0.5


def make_without_films(root):
    """Two participants share a response to one episode, shown twice, in half of the parcels."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(N_VOLUMES, 1))
    for label in ('01', '02'):
        func = root / 'fmri' / f'sub-{label}' / 'func'
        func.mkdir(parents=True)
        name = NAME.format(task='movie10').replace('sub-01', f'sub-{label}')
        with h5py.File(func / name, 'w') as file:
            for run in EPISODES['movie10']:
                values = rng.normal(size=(N_VOLUMES, N_PARCELS))
                values[:, :N_RESPONDING] += 2 * shared
                values = (values - values.mean(0)) / values.std(0)
                file.create_dataset(run, data=values.astype(np.float32))
    return root


@pytest.mark.slow
def test_series_alone_run_to_a_report(tmp_path):
    """Without films or features: aligned series, and how well they agree."""
    root, out = make_without_films(tmp_path / 'data'), tmp_path / 'out'
    arguments = [str(root), str(out), 'participant', '-w', str(tmp_path / 'work'), *HERE]
    assert main(arguments) == USAGE
    assert main([*arguments, '--level', 'betas']) == USAGE
    assert main([*arguments, '--level', 'responses']) == OK
    for stat in ('repeatr', 'isc'):
        for label in ('01', '02'):
            (table,) = out.glob(f'sub-{label}/func/*_stat-{stat}_statmap.tsv')
            r = pd.read_csv(table, sep='\t').iloc[0]
            assert r.iloc[:N_RESPONDING].min() > 0.6, stat
            assert r.iloc[N_RESPONDING:].abs().max() < 0.35, stat
    assert len([*out.rglob('*_desc-aligned_bold.tsv')]) == 4
    assert not [*out.rglob('*_metrics.tsv'), *out.rglob('*_stat-tsnr_*')]
    page = (out / 'sub-01.html').read_text()
    assert 'Temporal signal-to-noise ratio: not shown' in page
    assert 'Repeated presentations of a film correlate at 0.' in page
    assert 'voxel' not in re.sub(r'<(style|pre).*?</\1>', '', page, flags=re.DOTALL)
    assert validate_dataset(out) == {}
    assert main([*arguments, '--level', 'responses']) == OK  # again, over itself
    arguments[2] = 'group'
    assert main(arguments) == OK
    page = (out / 'group.html').read_text()
    assert 'Intersubject correlation, mean of 2 participants' in page
    assert 'No score was computed' in page
    (table,) = (out / 'group').glob('*_stat-isc_statmap.tsv')
    assert pd.read_csv(table, sep='\t').iloc[0, :N_RESPONDING].min() > 0.6
