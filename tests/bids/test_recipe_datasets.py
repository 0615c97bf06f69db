"""Each recipe on a small copy of its dataset, and on one with other names."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.recipes import NOTHING, note_of, read_recipe, recipe_files, recognise
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.cli import tools
from bids_neurodecode.cli.checks import request_of
from bids_neurodecode.cli.main import main
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


def test_every_recipe_is_on_the_page_of_published_datasets():
    page = (Path(__file__).resolve().parents[2] / 'docs' / 'datasets.md').read_text('utf-8')
    rows = [line.split('|')[2].strip() for line in page.splitlines() if line.startswith('| ')]
    assert {name.strip('`') for name in rows} >= set(recipe_files())


def test_the_example_on_that_page_is_a_recipe(tmp_path):
    page = (Path(__file__).resolve().parents[2] / 'docs' / 'datasets.md').read_text('utf-8')
    file = tmp_path / 'cats.toml'
    file.write_text(page.split('```toml')[1].split('```')[0])
    assert read_recipe(file).content.title == 'Our cats'


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
    said = note_of(found, (), config)
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
    data = tree(name, False)
    copy = shutil.copytree(data.root, tmp_path / 'copy')
    for file in copy.rglob('*_events.tsv'):
        lines = file.read_text().splitlines()
        if 'stim_file' not in lines[0]:
            file.write_text(
                '\n'.join([f'{lines[0]}\tstim_file', *(f'{x}\tn/a' for x in lines[1:])])
            )
    found = recognise(copy)
    assert found is None or not found.settings(), name


def test_layouts_with_a_reader_of_their_own(tmp_path):
    nsd = make_nsd(tmp_path / 'nsd', participants=(1,))
    assert recognise(nsd).content.reader == 'nsd'
    films = make_emofilm(tmp_path / 'emofilm', tmp_path / 'films', participants=('S01',))
    assert recognise(films).content.reader == 'emofilm'
    assert not read_recipe('nsd').content.bids


def test_check_of_layouts_with_a_reader(tmp_path, capsys):
    nsd = make_nsd(tmp_path / 'nsd', participants=(1,))
    assert tools.main(['datasets', 'check', str(nsd)]) == 0
    out = capsys.readouterr().out
    for what in ('single-trial betas', 'the mask of visual cortex', 'the design', 'the images'):
        assert f'there     {what}\n' in out
    assert 'missing   captions (only where' in out
    assert 'A run would read this' in out
    (nsd / 'nsddata' / 'experiments' / 'nsd' / 'nsd_expdesign.mat').unlink()
    assert tools.main(['datasets', 'check', str(nsd)]) == 1
    out = capsys.readouterr().out
    assert 'missing   the design: download nsddata/experiments/nsd/nsd_expdesign.mat.' in out
    assert 'A run would say: There is no' in out


@pytest.mark.parametrize('top', ['subj01', 'subj07', ''])
def test_algonauts_2023_is_named(top, tmp_path, capsys):
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
    assert 'looks like the Algonauts 2023 Challenge' in error
    assert 'training_images' in error


@pytest.mark.parametrize('sub', ['01', '05'])
def test_algonauts_2025_is_named(sub, tmp_path, capsys):
    name = f'sub-{sub}_task-movie10_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net'
    folder = tmp_path / 'data' / 'fmri' / f'sub-{sub}' / 'func'
    folder.mkdir(parents=True)
    (folder / f'{name}_bold.h5').touch()
    assert recognise(tmp_path / 'data').name == 'algonauts2025'
    assert tools.main(['datasets', 'check', str(tmp_path / 'data')]) == 1
    out = capsys.readouterr().out
    assert 'the films, or features of them' in out


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize('name', TREES)
def test_a_run_reads_it_with_no_option_beside_paths(name, other, tree, tmp_path, capsys):
    data = tree(name, other)
    options = ('--dry-run', '--skip-bids-validation', '-w', str(tmp_path / 'work'))
    assert main(words(data, *options)) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    title = read_recipe(name).content.title
    assert f'The dataset was recognised as {title} by' in out
    assert f'{data.stimuli} stimuli in' in out
    assert not (tmp_path / 'work').exists()


@BOTH
@pytest.mark.parametrize(
    'name', ['things-fmri', 'generic-object-decoding', 'deep-image-reconstruction']
)
def test_what_is_held_out_is_what_was_published(name, other, tree, tmp_path):
    person = person_of(tree(name, other), tmp_path)
    shown: dict[str, set[str]] = {}
    for run in person.runs:
        for _, row in read_table(run.events).dropna(subset=['stim_file']).iterrows():
            part = 'n/a' if pd.isna(row['part']) else row['part']
            shown.setdefault(part, set()).add(Path(row['stim_file']).name)
    assert shown['test'] == tree(name, other).test
    assert not shown['train'] & shown['test']
    if name == 'deep-image-reconstruction':
        assert all('color' in file for file in shown['n/a'])


@BOTH
def test_parts_of_the_budapest_film_start_where_they_should(other, tree, tmp_path):
    """The overlap with the part before is a row of its own; the film goes on after it."""
    person = person_of(tree('budapest', other), tmp_path)
    tables = [read_table(run.events) for run in person.runs]
    films = [f'budapest_part{n}.mp4' for n in ((4, 5) if other else (2, 3))]
    assert [table['stim_file'].unique().tolist() for table in tables] == [[x] for x in films]
    starts = [table['film_onset'].astype(float).tolist() for table in tables]
    assert starts == [[0.0, 10.0], [0.0, 10.0]] if other else [[0.0], [0.0, 10.0]]


@BOTH
def test_frames_of_studyforrest_are_one_showing_a_run(other, tree, tmp_path):
    person = person_of(tree('studyforrest', other), tmp_path)
    for run, number in zip(person.runs, (4, 5) if other else (1, 2), strict=True):
        table = read_table(run.events)
        assert len(table) == 1
        assert table['stim_file'].item() == f'fg_av_ger_seg{number - 1}.mkv'
        assert float(table['onset'].item()) == 0.12
        assert float(table['duration'].item()) == pytest.approx(40, abs=0.1)


def person_of(data, tmp_path):
    arguments = parse_arguments([*words(data), '-w', str(tmp_path / 'work')])
    return find_inputs(request_of(arguments, settings_from(arguments))).participants[0]


@BOTH
def test_runs_of_the_naturalistic_database_go_on_in_the_film(other, tree, tmp_path):
    """No events are published: each participant saw the film of their task, run after run."""
    person = person_of(tree('nndb', other), tmp_path)
    tables = [read_table(run.events) for run in person.runs]
    film = f'task-{"split" if other else "500daysofsummer"}.mp4'
    assert [table['stim_file'].tolist() for table in tables] == [[film], [film]]
    assert [float(table['film_onset'].item()) for table in tables] == [0, 30]
    assert [float(table['onset'].item()) for table in tables] == [0, 0]
    assert [float(table['duration'].item()) for table in tables] == [30, 30]
    assert len(person.runs[0].sources) == len(person.runs[1].sources)
    assert not any('events' in source for run in person.runs for source in run.sources)
