"""Each recipe on a small copy of its dataset, and on one with other names."""

import pytest

from bids_neurodecode.bids.recipes import NOTHING, note_of, read_recipe, recipe_files, recognise
from bids_neurodecode.cli.parser import parse_arguments, settings_from
from tests.published import make_emofilm, make_nsd
from tests.recipe_trees import TREES

OTHERWISE = {'nsd', 'emofilm', 'algonauts2023', 'algonauts2025'}
"""Recipes whose trees are no BIDS datasets with derivatives of fMRIPrep."""
SETTINGS = {
    'things-fmri': {
        'events': {'stimulus_column': 'file_path', 'exclude': {'trial_type': ('catch',)}},
        'split': {'by': 'given', 'test': {'trial_type': ('test',)}},
    },
    'bold5000': {},
    'generic-object-decoding': {
        'events': {'stimulus_column': 'stimulus_name'},
        'split': {'by': 'given', 'test': {'session': ('perceptionTest*',)}},
    },
    'deep-image-reconstruction': {
        'events': {'stimulus_column': 'stimulus_name', 'exclude': {'event_type': ('2',)}},
        'split': {
            'by': 'given',
            'train': {'session': ('perceptionNaturalImageTraining*',)},
            'test': {'session': ('perceptionNaturalImageTest*',)},
        },
    },
    'natural-object-dataset': {},
    'studyforrest': {'events': {'stimulus': 'fg_av_ger_seg{run-1}.mkv'}},
    'budapest': {
        'events': {'stimulus': 'budapest_part{run+1}.mp4', 'film_onset': 'continue'},
    },
    'nndb': {'events': {'stimulus': 'task-{task}', 'film_onset': 'continue'}},
    'cneuromod-things': {'events': {'stimulus_column': 'image_path'}},
    'cneuromod-friends': {},
    'laion-fmri': {'events': {'stimulus_column': 'label'}},
}
BOTH = pytest.mark.parametrize('other', [False, True], ids=['published', 'other'])


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Make each dataset once."""
    made = {}

    def make(name, other):
        if (name, other) not in made:
            folder = tmp_path_factory.mktemp('other' if other else 'published')
            made[name, other] = TREES[name](folder / 'data', other)
        return made[name, other]

    return make


def words(data, *options):
    return [str(data.root), str(data.root.parent / 'out'), 'participant', *data.options, *options]


def test_every_recipe_has_its_tree():
    assert set(TREES) | OTHERWISE == set(recipe_files())
    assert set(SETTINGS) == set(TREES)


@BOTH
@pytest.mark.parametrize('name', TREES)
def test_recognised_with_its_settings(name, other, tree):
    data = tree(name, other)
    found = recognise(data.root)
    assert found.name == name
    assert found.why
    config = settings_from(parse_arguments(words(data)))
    for group, keys in SETTINGS[name].items():
        for key, value in keys.items():
            assert getattr(getattr(config, group), key) == value
    said = note_of(found, None, config)
    assert said.count('\n') == 0
    assert (NOTHING in said) == (not SETTINGS[name])
    assert all(caution in said for caution in found.content.cautions)


def test_tasks_of_the_natural_object_dataset_name_images_otherwise(tree):
    data = tree('natural-object-dataset', False)
    config = settings_from(parse_arguments(words(data, '--task-id', 'coco')))
    assert config.events.stimulus_column == 'condition'


@pytest.mark.parametrize('name', [n for n in TREES if n not in {'bold5000', 'nndb'}])
def test_events_that_name_stim_file_already_are_left_alone(name, tree, tmp_path):
    """A copy whose events a lab has rewritten is read as any dataset: nothing of it changes."""
    import shutil

    data = tree(name, False)
    copy = shutil.copytree(data.root, tmp_path / 'copy')
    for file in copy.rglob('*_events.tsv'):
        lines = file.read_text().splitlines()
        if 'stim_file' not in lines[0]:
            file.write_text(
                '\n'.join([f'{lines[0]}\tstim_file', *(f'{x}\tn/a' for x in lines[1:])])
            )
    found = recognise(copy)
    if found is not None and found.name != 'cneuromod-things':
        assert not found.settings(), name


def test_layouts_with_a_reader_of_their_own(tmp_path):
    nsd = make_nsd(tmp_path / 'nsd', participants=(1,))
    assert recognise(nsd).content.reader == 'nsd'
    films = make_emofilm(tmp_path / 'emofilm', tmp_path / 'films', participants=('S01',))
    assert recognise(films).content.reader == 'emofilm'
    assert not read_recipe('nsd').content.bids


@pytest.mark.parametrize('top', ['subj01', 'subj07', ''])
def test_algonauts_2023_is_named(top, tmp_path, capsys):
    from bids_neurodecode.cli.main import main

    folder = tmp_path / 'data' / top / 'training_split' / 'training_fmri'
    folder.mkdir(parents=True)
    (folder / 'lh_training_fmri.npy').touch()
    assert recognise(tmp_path / 'data').name == 'algonauts2023'
    call = [
        str(tmp_path / 'data'),
        str(tmp_path / 'out'),
        'participant',
        '-w',
        str(tmp_path / 'w'),
    ]
    assert main(call) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'recognised as Algonauts 2023' in error
    assert 'npy' in error
    assert 'Natural Scenes Dataset' in error


@pytest.mark.parametrize('sub', ['01', '05'])
def test_algonauts_2025_is_named(sub, tmp_path, capsys):
    from bids_neurodecode.cli import tools

    name = f'sub-{sub}_task-movie10_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net'
    folder = tmp_path / 'data' / 'fmri' / f'sub-{sub}' / 'func'
    folder.mkdir(parents=True)
    (folder / f'{name}_bold.h5').touch()
    assert recognise(tmp_path / 'data').name == 'algonauts2025'
    assert tools.main(['datasets', 'check', str(tmp_path / 'data')]) == 1
    out = capsys.readouterr().out
    assert 'cannot' in out
    assert 'friends.fmriprep' in out
