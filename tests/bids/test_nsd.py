"""NSD's own layout: design, betas, images and captions read in place, and the app on it."""

import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from bids_neurodecode.bids import nsd, nsd_betas, nsd_captions, nsd_design
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.recipes import recognise
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.series import EMPTY_MASK
from bids_neurodecode.bids.trials import precomputed_trials
from bids_neurodecode.cli.checks import check_all
from bids_neurodecode.cli.checks_data import ESTIMATED_BETAS, NO_SERIES, check_design
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.parser import parse_arguments
from bids_neurodecode.config import BetaSettings, SplitSettings, build_config, read_settings
from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.samples import VoxelMask, split_as_given
from bids_neurodecode.stimuli import images
from bids_neurodecode.stimuli.images import load_image, load_images
from bids_neurodecode.systems.protocol import choose_split
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.precomputed import AVERAGED, BY_SESSION, take_precomputed
from tests.app.test_science import validate
from tests.datasets import make_dataset
from tests.published import (
    BETAS,
    BRICK,
    DESIGN,
    N_OWN,
    N_SHARED,
    NSD_GRID,
    ROI,
    made_design,
    make_nsd,
    nsd_mask,
    nsd_pictures,
    read_record,
    stored_betas,
)
from tests.running import HERE


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_nsd(tmp_path_factory.mktemp('nsd') / 'nsd', captions=True)


@pytest.fixture
def copy(data, tmp_path):
    return Path(shutil.copytree(data, tmp_path / 'copy'))


def find(root, tmp_path, **changes):
    return find_inputs(Request(bids_dir=root, made_dir=tmp_path / 'made', **changes))


def refusal(root, tmp_path, **changes) -> str:
    with pytest.raises(InputError) as error:
        find(root, tmp_path, **changes)
    assert '\n' not in str(error.value)
    return str(error.value)


# the design -------------------------------------------------------------------------------------


def true_size_design(folder: Path) -> Path:
    """NSD's numbers: 8 people, 1,000 shared of 10,000 images, three times each; 62 or 63 trials
    in each of 12 runs of 75 slots, 40 sessions."""
    rng = np.random.default_rng(5)
    ids = rng.permutation(73000) + 1
    shared = np.sort(ids[:1000])
    own = ids[1000:].reshape(8, 9000)
    slots = np.zeros((40, 12, 75), dtype=np.uint8)
    for i, run in enumerate(slots.reshape(-1, 75)):
        run[3 + rng.choice(68, 63 - i % 2, replace=False)] = 1
    file = folder / 'nsd_expdesign.mat'
    savemat(
        file,
        {
            'masterordering': rng.permutation(np.repeat(np.arange(1, 10001), 3))[None],
            'subjectim': np.stack([np.concatenate([shared, x]) for x in own]),
            'sharedix': shared[None],
            'stimpattern': slots,
        },
    )
    return file


def test_counts_at_the_true_size(tmp_path):
    design = nsd_design.read_design(true_size_design(tmp_path))
    assert set(design.session_trials) == {750}
    table = nsd_design.trials_of(design, 3, range(1, 41))
    parts = table.groupby('part')['stim_file'].agg(['nunique', 'size'])
    assert parts.loc['train'].tolist() == [9000, 27000]
    assert parts.loc['test'].tolist() == [1000, 3000]
    assert set(table['protocol']) == {'nsd-shared1000'}
    assert table.groupby(['session', 'scan_run']).size().isin([62, 63]).all()
    # the same trial of the raw arrays, by the published rule
    raw = loadmat(design.file)
    trial = 36 * 750 + 123
    number = raw['subjectim'][2, raw['masterordering'][0, trial] - 1]
    part = nsd_design.trials_of(design, 3, [37])
    assert part['stim_file'].iloc[123] == table['stim_file'].iloc[trial] == f'nsd{number:05d}'
    assert table.groupby('session')['onset'].apply(lambda x: x.is_monotonic_increasing).all()


def test_design_without_the_pattern_has_sessions_of_750(tmp_path):
    content = loadmat(true_size_design(tmp_path))
    names = ('masterordering', 'subjectim', 'sharedix')
    savemat(tmp_path / 'nsd_expdesign.mat', {name: content[name] for name in names})
    design = nsd_design.read_design(tmp_path / 'nsd_expdesign.mat')
    assert design.session_trials.tolist() == [750] * 40


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'masterordering': None}, "it lacks 'masterordering'"),
        ({'subjectim': np.ones((2, 10)) * 0.5}, 'not whole'),
        ({'sharedix': np.arange(1, 13)[None] * 2}, 'sharedix'),
        ({'stimpattern': np.ones((3, 2, 25))}, 'stimpattern'),
        ({'masterordering': np.full((1, 120), 49)}, 'leaves the 48 images'),
    ],
)
def test_designs_that_do_not_fit_together(tmp_path, change, reason):
    content = {k: v for k, v in {**made_design(), **change}.items() if v is not None}
    file = tmp_path / 'nsd_expdesign.mat'
    savemat(file, content)
    with pytest.raises(InputError, match=reason):
        nsd_design.read_design(file)


def test_broken_and_missing_design(copy, tmp_path):
    file = copy / DESIGN
    file.write_bytes(b'not a MATLAB file' * 20)
    start = nsd_design.BAD_DESIGN.format(file=file, reason='')[:20]
    assert refusal(copy, tmp_path).startswith(start)
    file.unlink()
    assert refusal(copy, tmp_path) == nsd_design.NO_DESIGN.format(file=file)


# what is found ----------------------------------------------------------------------------------


def test_the_layout_is_noticed(data, tmp_path):
    assert recognise(data).name == 'nsd'
    assert recognise(tmp_path) is None
    assert recognise(make_dataset(tmp_path / 'bids').root) is None


def test_participants_sessions_and_pictures(data, tmp_path):
    found = find(data, tmp_path)
    assert [p.label for p in found.participants] == ['01', '02']
    person = found.participants[0]
    assert [run.label for run in person.runs] == [f'ses-nsd0{i} task-nsdcore' for i in (1, 2, 3)]
    assert [run.bold.suffix for run in person.runs] == ['.hdf5'] * 3
    assert len(person.stimuli) == N_SHARED + N_OWN
    assert person.runs[0].sources[0] == f'bids:raw:{BETAS.format(1)}/betas_session01.hdf5'
    assert not list(data.rglob('*singletrial*'))
    own = set(person.stimuli) & set(found.participants[1].stimuli)
    assert len(own) == N_SHARED
    (line,) = (note for note in found.notes if note.startswith('sub-01'))
    assert f'{N_OWN} for training' in line
    assert f'{N_SHARED} of the shared {N_SHARED} for the test' in line
    # the same call makes the same files, so that nothing is computed again
    before = person.betas_events.stat().st_mtime_ns
    assert find(data, tmp_path).participants[0] == person
    assert person.betas_events.stat().st_mtime_ns == before


def test_a_choice_of_sessions_and_people(data, tmp_path):
    found = find(data, tmp_path, participants=('subj02',), sessions=('nsd03', '1'))
    (person,) = found.participants
    assert [run.entities['ses'] for run in person.runs] == ['nsd01', 'nsd03']
    trials = precomputed_trials(person.betas_events)
    rows = precomputed_trials(find(data, tmp_path).participants[1].betas_events)
    rows = rows[rows['session'] != 'nsd02']
    assert trials['stimulus'].tolist() == rows['stimulus'].tolist()
    assert trials['run'].unique().tolist() == [0, 1]


def test_mean_of_repeats_is_in_order_of_first_appearance(data, tmp_path):
    person = find(data, tmp_path).participants[0]
    single = precomputed_trials(person.betas_events)
    mean = precomputed_trials(person.betas_events, 'mean')
    assert mean['stimulus'].tolist() == list(dict.fromkeys(single['stimulus']))
    assert mean['n_repeats'].sum() == len(single)


# betas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('participant', [1, 2])
def test_betas_are_a_300th_of_what_is_stored_where_the_mask_is_above_0(
    data, tmp_path, participant
):
    person = find(data, tmp_path).participants[participant - 1]
    mask = VoxelMask.load(person.runs[0].mask)
    assert np.array_equal(mask.mask, nsd_mask() == 1)
    stored = np.split(stored_betas(participant, made_design()), 3, axis=-1)[1]
    values = nsd_betas.read_session(person.runs[1].bold, mask)
    expected = stored[nsd_mask() == 1].T / 300
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_an_upright_hdf5_array_is_read_too(tmp_path):
    stored = np.arange(np.prod(NSD_GRID) * 9).reshape(*NSD_GRID, 9).astype(np.int16)
    with h5py.File(tmp_path / 'betas_session01.hdf5', 'w') as file:
        file['betas'] = stored
    nsd_betas.check_session(tmp_path / 'betas_session01.hdf5', 9, NSD_GRID)
    mask = VoxelMask(nsd_mask() > 0, np.eye(4))
    values = nsd_betas.read_session(tmp_path / 'betas_session01.hdf5', mask)
    np.testing.assert_allclose(values, stored[nsd_mask() > 0].T / 300, rtol=1e-6)


def test_means_and_session_scores(data, tmp_path):
    person = find(data, tmp_path).participants[0]
    mask = VoxelMask.load(person.runs[0].mask)
    trials = precomputed_trials(person.betas_events)
    stored = stored_betas(1, made_design())[nsd_mask() > 0].T / 300

    def take(name, **changes):
        (tmp_path / name).mkdir()
        result = take_precomputed(person, BetaSettings(**changes), mask, tmp_path / name)
        return np.load(result['betas']), result['beta_info'].warnings

    single, warnings = take('single')
    np.testing.assert_allclose(single, stored, rtol=1e-5, atol=1e-6)
    assert warnings == ()
    frame = pd.DataFrame(stored).groupby(trials['stimulus'].to_numpy(), sort=False).mean()
    mean, warnings = take('mean', repeats='mean')
    np.testing.assert_allclose(mean, frame.to_numpy(), rtol=1e-4, atol=1e-5)
    assert AVERAGED in warnings
    scored, warnings = take('z', standardize='session')
    assert BY_SESSION in warnings
    for session in np.split(scored, 3):
        np.testing.assert_allclose(session.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(session.std(axis=0), 1, atol=1e-5)


def session_file(root, number=2, participant=1, suffix='hdf5') -> Path:
    return root / BETAS.format(participant) / f'betas_session{number:02d}.{suffix}'


def test_a_missing_session(copy, tmp_path):
    session_file(copy).unlink()
    folder = copy / BETAS.format(1)
    message = nsd.MISSING_SESSION.format(number=2, label='01', folder=folder, found='1, 3')
    assert find(copy, tmp_path).failures == {'01': message}
    assert refusal(copy, tmp_path, participants=('01',)) == message
    assert find(copy, tmp_path, participants=('01',), sessions=('1', '3')).participants


def rewrite(file, change) -> None:
    with h5py.File(file, 'r') as opened:
        values = change(opened['betas'][()])
    with h5py.File(file, 'w') as opened:
        opened['betas'] = values


@pytest.mark.parametrize(
    ('change', 'message', 'part'),
    [
        (lambda x: x.astype(np.float32), nsd_betas.WRONG_TYPE, 'float32'),
        (lambda x: x[:-1], nsd_betas.WRONG_SHAPE, '39x5x7x6'),
        (lambda x: x[..., :-1], nsd_betas.WRONG_SHAPE, '40x5x7x5'),
    ],
)
def test_wrong_type_and_shape(copy, tmp_path, change, message, part):
    rewrite(session_file(copy), change)
    line = refusal(copy, tmp_path, participants=('01',))
    assert part in line
    assert line.endswith(message.split('. ')[-1])


def test_truncated_and_foreign_files(copy, tmp_path):
    file = session_file(copy)
    file.write_bytes(file.read_bytes()[:-200])
    line = refusal(copy, tmp_path, participants=('01',))
    assert line.startswith(f'Cannot read the betas {file}')
    assert 'truncated' in line
    with h5py.File(file, 'w') as opened:
        opened['other'] = np.zeros(3)
    assert 'betas' in refusal(copy, tmp_path, participants=('01',))
    packed = session_file(copy, participant=2, suffix='nii.gz')
    image = nib.load(packed)
    rescaled = nib.Nifti1Image(image.get_fdata() / 300, image.affine)
    rescaled.set_data_dtype(np.int16)
    nib.save(rescaled, packed)
    assert 'scaled in their header' in refusal(copy, tmp_path, participants=('02',))


def test_masks(copy, tmp_path):
    file = copy / ROI.format(1)
    nothing = np.where(nsd_mask() > 0, 0, -1).astype(np.int16)
    nib.save(nib.Nifti1Image(nothing, np.eye(4)), file)
    line = refusal(copy, tmp_path, participants=('01',))
    assert line == EMPTY_MASK.format(file=file)
    file.unlink()
    line = refusal(copy, tmp_path, participants=('01',))
    assert line == nsd.NO_FILE.format(file=file, folder=copy)


def test_unknown_people_versions_and_tasks(data, tmp_path):
    assert "'05'" in refusal(data, tmp_path, participants=('05',))
    line = refusal(data, tmp_path, betas_from='betas_assumehrf')
    assert 'betas_fithrf_GLMdenoise_RR' in line
    line = refusal(data, tmp_path, tasks=('rest',))
    assert line == nsd.NO_TASK.format(task='nsdcore', asked='rest')


# images and captions --------------------------------------------------------------------------


def test_pictures_are_read_from_the_array(data):
    pictures = nsd_pictures()
    assert np.array_equal(load_image(data / BRICK / 'nsd00007'), pictures[6])
    small = load_images([data / BRICK / f'nsd{i:05d}' for i in (1, 90)], size=16)
    assert small.shape == (2, 16, 16, 3)
    with pytest.raises(InputError, match='holds 90'):
        load_image(data / BRICK / 'nsd00091')


def test_broken_pictures(copy, tmp_path):
    file = copy / BRICK
    with h5py.File(file, 'w') as opened:
        opened['imgBrick'] = nsd_pictures()[:30]
    assert 'holds 30 images' in refusal(copy, tmp_path)
    with h5py.File(file, 'w') as opened:
        opened['imgBrick'] = nsd_pictures()[..., 0]
    assert refusal(copy, tmp_path).endswith(
        images.NO_ARRAY.split('. ')[-1].format(array='imgBrick')
    )
    file.write_bytes(b'')
    assert refusal(copy, tmp_path).startswith(f'Cannot read the images in {file}')
    file.unlink()
    assert refusal(copy, tmp_path) == nsd.NO_FILE.format(file=file, folder=copy)


def test_captions(data, copy, tmp_path):
    person = find(data, tmp_path).participants[0]
    table = pd.read_csv(person.captions, sep='\t')
    number = int(person.stimuli[0][3:])
    rows = table.loc[table['stim_file'] == person.stimuli[0], 'caption']
    assert rows.tolist() == [f'image {number}', 'it has colours']
    array = copy / 'COCO_73k_annots_curated.npy'
    np.save(array, np.array([['a', 'b']], dtype=object), allow_pickle=True)
    assert refusal(copy, tmp_path) == nsd_captions.PICKLED.format(file=array)
    np.save(array, np.array([['only one']]))
    assert 'Add them, or take the file away.' in refusal(copy, tmp_path)
    array.write_bytes(b'nothing')
    assert refusal(copy, tmp_path).startswith(f'Cannot read the captions {array}')
    # a table wins, and is taken as it is
    (copy / 'captions.tsv').write_text(
        'stim_file\tcaption\n' + ''.join(f'nsd{i:05d}\twords\n' for i in range(1, 91))
    )
    assert find(copy, tmp_path).participants[0].captions == copy / 'captions.tsv'


# the split --------------------------------------------------------------------------------------


def test_the_split_is_the_published_one(data, tmp_path):
    table = precomputed_trials(find(data, tmp_path).participants[0].betas_events)
    split, why = choose_split(table, SplitSettings(), seed=1)
    assert split.protocol == 'nsd-shared1000'
    assert 'as the dataset gives it' in why
    (fold,) = split
    assert set(table['trial_type'].to_numpy()[fold.test]) == {'shared'}
    assert len(fold.train) + len(fold.test) == len(table)
    assert not split.repeats_cross
    # asked for otherwise, it is otherwise
    assert choose_split(table, SplitSettings(by='session'), seed=1)[0].by == 'session'
    # who saw an image is no kind of image
    with pytest.raises(DataError, match=r'part images are for \(shared, unique\)'):
        choose_split(table, SplitSettings(by='category'), seed=1)
    # and it comes back from disk with its name
    saved = Plan(split, why).save(tmp_path)
    assert Plan.load(saved['plan']).split.protocol == 'nsd-shared1000'


def test_given_parts_must_not_leak():
    table = pd.DataFrame(
        {'stimulus': ['a', 'b', 'a'], 'run': 0, 'part': ['train', 'train', 'test']}
    )
    with pytest.raises(DataError, match='both training and test'):
        split_as_given(table)
    table['stimulus'] = ['a', 'b', 'c']
    assert split_as_given(table).protocol == 'given'
    with pytest.raises(DataError, match='no test'):
        split_as_given(table.assign(part='train'))


def test_settings_that_need_series(data, tmp_path):
    person = find(data, tmp_path).participants[0]
    config = build_config({'selection': {'measure': 'tsnr', 'rule': 'top'}})
    with pytest.raises(InputError, match=r'selection\.measure') as error:
        check_design(person, config)
    assert str(error.value) == NO_SERIES.format(folder=person.betas)
    made = find_inputs(Request(bids_dir=make_dataset(tmp_path / 'bids').root)).participants[0]
    with pytest.raises(ArgumentsError) as other:
        check_design(made, build_config({'betas': {'repeats': 'mean'}}))
    assert str(other.value) == ESTIMATED_BETAS


@pytest.mark.parametrize('name', ['nsd-ridge', 'nsd-gru-15', 'nsd-gru-31'])
def test_presets(name, data, tmp_path):
    config = build_config(read_settings(name), source=name)
    assert config.betas.repeats == 'mean'
    assert config.selection.measure == 'none'
    assert config.reconstruction.latents == {'nsd-gru-15': 15}.get(name, 31)
    check_design(find(data, tmp_path).participants[0], config)


# the app ----------------------------------------------------------------------------------------

SETTINGS = """
[reconstruction]
generator = "none"
[features]
n_components = 6
[evaluation]
n_permutations = 100
n_bootstrap = 50
"""


def run_app(data, folder, *options):
    (folder / 'settings.toml').write_text(SETTINGS)
    words = [str(data), str(folder / 'out'), 'participant', '-w', str(folder / 'work')]
    assert main([*words, '--config-file', str(folder / 'settings.toml'), *HERE, *options]) == 0
    return folder / 'out'


@pytest.fixture(scope='module')
def decoded(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('decoded')
    return run_app(data, folder, '--participant-label', '01')


@pytest.fixture(scope='module')
def encoded(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('encoded')
    return run_app(data, folder, '--system', 'encoding', '--participant-label', 'subj02')


def score(out, label, desc, space, metric):
    file = out / f'sub-{label}/func/sub-{label}_task-nsdcore_desc-{desc}_metrics.tsv'
    table = pd.read_csv(file, sep='\t')
    assert set(table['protocol']) == {'nsd-shared1000'}
    rows = table[(table.model == 'ridge') & (table.space == space) & (table.metric == metric)]
    return rows.iloc[0]


@pytest.mark.slow
def test_shared_pictures_are_identified(decoded):
    found = score(decoded, '01', 'linear', 'repeat-average', 'identification_2way')
    assert found.n == N_SHARED
    assert found.value > 0.7
    assert found.p < 0.05


@pytest.mark.slow
def test_nothing_is_written_that_was_not_measured(decoded):
    names = [path.name for path in (decoded / 'sub-01' / 'func').iterdir()]
    assert not [name for name in names if 'tsnr' in name or 'singletrial_statmap' in name]
    assert [name for name in names if name.endswith('desc-singletrial_events.tsv')]
    record = read_record(decoded, '01')
    assert record['split']['protocol'] == 'nsd-shared1000'
    assert 'tsnr' not in record['maps']
    page = (decoded / 'sub-01.html').read_text()
    assert 'Natural Scenes Dataset in its own layout' in page
    assert 'held out by given' not in page


@pytest.mark.slow
def test_derivatives_are_valid_bids(decoded, encoded):
    validate(decoded)
    validate(encoded)


@pytest.mark.slow
def test_voxels_of_the_region_are_predicted(encoded):
    found = score(encoded, '02', 'ridge', 'repeat-average', 'voxel_r_median')
    assert found.n == int((nsd_mask() > 0).sum())
    assert found.value > 0.3
    assert found.p < 0.05


@pytest.mark.slow
def test_group_level_asks_for_no_description(data, decoded, tmp_path):
    words = [str(data), str(decoded), 'group', '-w', str(tmp_path / 'work')]
    assert check_all(parse_arguments(words), build_config()).bids_dir == data
