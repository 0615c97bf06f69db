"""Recipes: recognition, precedence of settings, users' own, and what cannot be one."""

import tomllib
from pathlib import Path

import pytest

from bids_neurodecode.bids import recipes
from bids_neurodecode.bids.pairing import Series
from bids_neurodecode.bids.recipes import (
    layer_of,
    note_of,
    preferred,
    read_recipe,
    recipe_files,
    recognise,
)
from bids_neurodecode.cli import tools
from bids_neurodecode.cli.parser import parse_arguments, settings_from
from bids_neurodecode.config import build_config
from bids_neurodecode.errors import ArgumentsError, InputError
from tests.datasets import write_json, write_table

MINE = """
title = "Our cats"
source = "the lab"
checked = "against nothing"
tasks = ["cats"]
[[recognise]]
columns = ["cat", "mood"]
[settings.events]
stimulus_column = "cat"
[settings.split]
by = "given"
test = { mood = ["calm"] }
[task.dogs.events]
stimulus_column = "dog"
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of the user's own recipes, with one in it."""
    folder = tmp_path / 'recipes'
    folder.mkdir()
    (folder / 'cats.toml').write_text(MINE)
    monkeypatch.setenv(recipes.VARIABLE, str(folder))
    return folder


def raw(root: Path, columns='cat mood', task='cats', **description) -> Path:
    """A dataset of which only the description and one participant's events are there."""
    write_json(
        root / 'dataset_description.json', {'Name': 'x', 'BIDSVersion': '1.8.0'} | description
    )
    header = ['onset', 'duration', *columns.split()]
    table = root / 'sub-7' / 'func' / f'sub-7_task-{task}_events.tsv'
    write_table(table, [header, [1, 2, *['a'] * len(columns.split())]])
    return root


def settings(root, *options):
    return settings_from(parse_arguments([str(root), str(root / 'out'), 'participant', *options]))


def test_all_recipes_of_the_package_are_whole():
    files = recipe_files()
    assert len(files) >= 15
    for name in files:
        recipe = read_recipe(name)
        assert recipe.content.title, name
        assert recipe.content.needs, name
        for need in recipe.content.needs:
            assert need.files or need.stimuli, name
        assert '..' not in ' '.join(str(need.get) for need in recipe.content.needs)


def test_a_users_own_recipe(mine, tmp_path):
    found = recognise(raw(tmp_path / 'raw'))
    assert (found.name, found.why) == ('cats', 'the columns cat, mood')
    config = settings(tmp_path / 'raw')
    assert config.events.stimulus_column == 'cat'
    assert config.split.test == {'mood': ('calm',)}
    said = note_of(found, (), config)
    assert said.startswith('The dataset was recognised as Our cats by the columns cat, mood')
    assert 'events.stimulus_column = "cat"' in said
    assert 'split.test = {mood = ["calm"]}' in said
    assert str(mine / 'cats.toml') in said
    assert settings(tmp_path / 'raw', '--task-id', 'dogs').events.stimulus_column == 'dog'
    assert settings(tmp_path / 'raw', '--recipe', 'none').events.stimulus_column is None


def test_the_users_recipe_stands_before_the_packages(mine, tmp_path):
    root = raw(tmp_path / 'raw', 'ImgName ImgType StimOn(s)', Name='BOLD5000')
    assert recognise(root).name == 'bold5000'
    own = MINE.replace('["cat", "mood"]', '["ImgName"]')
    (mine / 'cats.toml').write_text(own)
    assert recognise(root).name == 'cats'
    (mine / 'cats.toml').unlink()
    (mine / 'bold5000.toml').write_text(own)  # of the same name: in its place
    assert recognise(root).content.title == 'Our cats'


def test_two_that_recognise_a_dataset_are_an_error(mine, tmp_path):
    (mine / 'more.toml').write_text(MINE)
    root = raw(tmp_path / 'raw')
    with pytest.raises(ArgumentsError, match='--recipe cats or more, or --recipe none'):
        recognise(root)
    assert recognise(root, 'more').why == '--recipe'
    assert recognise(root, str(mine / 'more.toml')).name == 'more'


@pytest.mark.parametrize(
    ('clue', 'holds', 'fails'),
    [
        ('columns = ["cat"]', {}, {'columns': 'dog mood'}),
        ('columns = ["cat"]\nlacks = ["stim_file"]', {}, {'columns': 'cat stim_file'}),
        ('names = ["Cats & moods"]', {'Name': 'cats, moods'}, {'Name': 'Cats'}),
        (
            'accession = "ds009999"',
            {'DatasetDOI': 'doi:10.18112/openneuro.ds009999.v1.0.1'},
            {'DatasetDOI': '10.18112/openneuro.ds0099991.v1'},
        ),
        ('files = ["sub-*/func/*_task-cats_events.tsv"]', {}, {'task': 'dogs'}),
        ('columns = ["cat"]\nfiles = ["sub-*/anat"]', None, {}),
    ],
)  # fmt: skip
def test_clues(clue, holds, fails, mine, tmp_path):
    (mine / 'cats.toml').write_text(MINE.replace('columns = ["cat", "mood"]', clue))
    if holds is not None:
        assert recognise(raw(tmp_path / 'yes', **holds)).name == 'cats'
    assert recognise(raw(tmp_path / 'no', **fails)) is None


def test_the_folder_may_name_the_accession(mine, tmp_path):
    clue = 'accession = "ds009999"'
    (mine / 'cats.toml').write_text(MINE.replace('columns = ["cat", "mood"]', clue))
    assert recognise(raw(tmp_path / 'ds009999-download')).name == 'cats'
    assert recognise(raw(tmp_path / 'ds00999')) is None


def test_events_that_were_not_fetched_say_nothing(mine, tmp_path):
    root = raw(tmp_path / 'raw')
    file = next(root.rglob('*_events.tsv'))
    file.unlink()
    file.symlink_to('../../../.git/annex/objects/a/b/c.tsv')
    assert recognise(root) is None


@pytest.mark.parametrize('text', ['', '{', '[1]'])
def test_a_broken_description_is_left_to_who_reads_the_dataset(text, tmp_path):
    root = raw(tmp_path / 'raw')
    (root / 'dataset_description.json').write_text(text)
    assert recognise(root) is None
    assert recognise(tmp_path / 'nowhere') is None


def test_the_users_settings_stand_above(mine, tmp_path):
    """And settings of the recipe that cannot stand beside them are gone."""
    root = raw(tmp_path / 'raw')
    preset = tmp_path / 'preset.toml'
    preset.write_text('[events]\nstimulus_column = "p"\nduration = 3.0\n[split]\nby = "session"')

    def given(text):
        file = tmp_path / 'own.toml'
        file.write_text(text)
        return settings(root, '--preset', str(preset), '--config-file', str(file))

    plain = given('')
    assert (plain.events.stimulus_column, plain.events.duration) == ('cat', 3.0)
    assert (plain.split.by, plain.split.test) == ('given', {'mood': ('calm',)})
    runs = given('[split]\nby = "run"')
    assert (runs.split.by, runs.split.test) == ('run', {})
    assert runs.events.stimulus_column == 'cat'
    other = given('[split]\ntest = { mood = ["wild"] }')
    assert other.split.test == {'mood': ('wild',)}
    rows = given('[split]\ntest = { cat = ["tom"] }')
    assert rows.split.test == {'cat': ('tom',)}
    template = given('[events]\nstimulus = "{dog}.png"')
    assert template.events.stimulus_column == 'p'  # the preset's; the recipe's is gone
    assert given('[split]\nby = "given"').split.test == {'mood': ('calm',)}
    note = note_of(recognise(root), (), runs)
    assert 'split.by, split.test as you set it' in note
    assert 'events.stimulus_column = "cat"' in note


def test_rows_that_the_user_names_replace_those_of_the_recipe():
    recipe = read_recipe('things-fmri')
    for rows in ({'exemplar_nr': ['1']}, {}):
        own = {'events': {'exclude': rows}}
        events = build_config(layer_of(recipe, (), own), own).events
        assert {key: list(values) for key, values in events.exclude.items()} == rows
        assert events.stimulus_column == 'file_path'


def test_variants_of_a_study_may_split_otherwise(mine, tmp_path):
    from bids_neurodecode.cli.studies import plan_of

    study = tmp_path / 'study.toml'
    study.write_text(
        'title = "T"\nquestion = "Q?"\nsystem = "encoding"\nmetrics = ["voxel_r_median"]\n'
        '[[axes]]\nname = "split"\nkey = "split.by"\nvalues = ["run", "session"]\n'
    )
    words = [str(raw(tmp_path / 'raw')), str(tmp_path / 'out'), 'participant']
    plan = plan_of(parse_arguments([*words, '--study', str(study)]))
    assert [v.config.split.by for v in plan.variants] == ['run', 'session']
    assert {v.config.events.stimulus_column for v in plan.variants} == {'cat'}


@pytest.mark.parametrize(
    ('before', 'after', 'says'),
    [
        ('title = "Our cats"', '', 'title: Field required'),
        ('title = "Our cats"', 'titel = "Our cats"', 'titel: unknown key; did you mean title'),
        ('[[recognise]]', '[[recognize]]', 'recognise'),
        ('columns = ["cat", "mood"]', 'colums = ["cat"]', r'did you mean recognise\.0\.columns'),
        ('columns = ["cat", "mood"]', '', 'recognising needs at least one'),
        ('columns = ["cat", "mood"]', 'files = ["../x"]', "leave the dataset: '../x'"),
        ('columns = ["cat", "mood"]', 'files = ["/etc/*"]', 'leave the dataset'),
        ('columns = ["cat", "mood"]', r"files = ['sub-*\..\..']", 'leave the dataset'),
        ('stimulus_column = "cat"', 'stimulus_colum = "cat"', r'mean events\.stimulus_column\?'),
        ('[settings.split]', '[settings.splitt]', 'splitt: unknown key; did you mean split?'),
        ('test = {', 'file = "../split.tsv" #', r'split\.file: .*outside of the folder'),
        ('test = {', 'file = "/etc/hosts" #', r'split\.file: .*outside of the folder'),
        ('test = {', 'file = "split.tsv" #', r"split\.file: there is no file 'split\.tsv'"),
        ('stimulus_column = "dog"', 'stimulus_colum = "dog"', r'mean events\.stimulus_column\?'),
        (
            'tasks = ["cats"]',
            'reader = "cats"',
            "reader: Input should be 'nsd', 'emofilm', 'algonauts' or 'algonauts2025'",
        ),
        ('tasks = ["cats"]', 'bids = false', 'recognise it by files'),
        ('tasks = ["cats"]', 'schema_version = 2', 'schema_version'),
        ('by = "given"', 'name = "tau"', 'split: name goes with file'),
        ('title', '=', 'Cannot read the recipe'),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_one_line(before, after, says, mine, tmp_path, capsys):
    assert before in MINE
    file = mine / 'cats.toml'
    file.write_text(MINE.replace(before, after, 1))
    with pytest.raises(ArgumentsError, match=says) as error:
        recognise(raw(tmp_path / 'raw'))
    assert 'cats.toml' in str(error.value)
    assert tools.main(['datasets', 'list']) == 1
    told = capsys.readouterr()
    assert told.err.count('\n') == 1
    assert 'bold5000: ' in told.out, 'the others are listed'


def test_a_file_beside_the_recipe_is_found_from_anywhere(mine, tmp_path, monkeypatch):
    (mine / 'splits').mkdir()
    (mine / 'splits' / 'mood.tsv').write_text('stimulus\tsplit\na.png\ttest\n')
    text = MINE.replace('test = { mood = ["calm"] }', 'file = "splits/mood.tsv"')
    (mine / 'cats.toml').write_text(text)
    monkeypatch.chdir(tmp_path)
    config = settings(raw(tmp_path / 'raw'))
    assert config.split.file == (mine / 'splits' / 'mood.tsv').resolve()
    (mine / 'splits' / 'mood.tsv').unlink()
    (tmp_path / 'elsewhere.tsv').touch()
    (mine / 'splits' / 'mood.tsv').symlink_to(tmp_path / 'elsewhere.tsv')
    with pytest.raises(ArgumentsError, match='outside of the folder'):
        settings(tmp_path / 'raw')


def test_the_users_folder_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv(recipes.VARIABLE, str(tmp_path / 'nowhere'))
    with pytest.raises(ArgumentsError, match=recipes.VARIABLE):
        recognise(raw(tmp_path / 'raw'))
    monkeypatch.delenv(recipes.VARIABLE)
    with pytest.raises(ArgumentsError, match="No recipe or file is called 'birds'"):
        read_recipe('birds')


def test_preferred_task_and_space(mine):
    recipe = read_recipe('natural-object-dataset')
    files = [
        f'/d/sub-1_task-{task}_run-1_space-{space}_desc-preproc_bold.nii.gz'
        for task in ('coco', 'imagenet', 'prf')
        for space in ('MNI152NLin2009cAsym', 'T1w')
    ]
    found = [Series(Path(file), 'fmriprep') for file in files]
    kept, notes = preferred(found, recipe, (), None)
    assert [s.path.name for s in kept] == [
        'sub-1_task-imagenet_run-1_space-T1w_desc-preproc_bold.nii.gz'
    ]
    assert len(notes) == 2
    assert "'imagenet' was taken of coco, imagenet, prf" in notes[0]
    assert preferred(found, recipe, ('coco',), 'T1w') == (found, [])
    assert preferred(found, None, (), None) == (found, [])
    only = [s for s in found if s.entities['task'] == 'prf' and s.space == 'T1w']
    assert preferred(only, recipe, (), None) == (only, [])


def test_settings_do_not_follow_for_tasks_that_a_recipe_does_not_name(mine):
    recipe = read_recipe('cats')
    of_cats = recipe.settings()
    assert of_cats['events'] == {'stimulus_column': 'cat'}
    for tasks in (('cats',), ('cats', 'localizer'), ('image',)):
        assert recipe.settings(tasks) == of_cats
    assert recipe.settings(('dogs',))['events'] == {'stimulus_column': 'dog'}
    assert recipe.settings(('localizer',)) == {}
    assert read_recipe('nndb').settings(('anyfilm',))['events']['stimulus'] == 'task-{task}'


def test_a_recipe_is_not_taken_for_other_tasks(mine):
    found = [Series(Path('sub-1_task-localizer_desc-preproc_bold.nii.gz'), 'x')]
    with pytest.raises(InputError) as error:
        preferred(found, read_recipe('cats'), (), None)
    assert str(error.value) == recipes.OTHER_TASKS.format(
        name='cats', tasks='cats', known='localizer'
    )
    assert preferred(found, read_recipe('cats'), ('localizer',), None) == (found, [])


def test_tools(mine, tmp_path, capsys):
    assert tools.main(['datasets', 'list']) == 0
    out = capsys.readouterr().out
    assert 'cats: Our cats, the lab\n' in out
    assert 'things-fmri: THINGS-fMRI, https://openneuro.org/datasets/ds004192' in out
    assert tools.main(['datasets', 'show', 'cats']) == 0
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads(MINE)
    assert tools.main(['datasets', 'show', 'birds']) == 2
    error = capsys.readouterr().err
    assert 'things-fmri' in error
    assert error.count('\n') == 1


def test_check_says_what_is_missing_and_how_to_get_it(tmp_path, capsys):
    root = raw(tmp_path / 'raw', 'ImgName ImgType StimOn(s) stim_file', '5000scenes')
    assert tools.main(['datasets', 'check', str(root)]) == 1
    out = capsys.readouterr().out
    assert 'recognised as BOLD5000 by the columns' in out
    assert 'missing   preprocessed series: run fMRIPrep' in out
    assert 'missing   the images that were shown: download BOLD5000_Stimuli.zip' in out
    assert 'A run would say: No derivatives' in out
    images = tmp_path / 'images' / 'Scene_Stimuli' / 'COCO'
    images.mkdir(parents=True)
    (images / 'COCO_train2014_000000000001.jpg').touch()
    prep = tmp_path / 'prep' / 'sub-7' / 'ses-1' / 'func'
    prep.mkdir(parents=True)
    (prep / 'sub-7_ses-1_task-5000scenes_run-1_space-T1w_desc-preproc_bold.nii.gz').touch()
    options = ['-d', f'prep={tmp_path / "prep"}', '--stimuli-dir', str(tmp_path / 'images')]
    tools.main(['datasets', 'check', str(root), *options])
    out = capsys.readouterr().out
    assert 'there     preprocessed series' in out
    assert 'there     the images that were shown' in out
    assert tools.main(['datasets', 'check', str(raw(tmp_path / 'other'))]) == 1
    assert 'No recipe knows' in capsys.readouterr().out


def test_unknown_settings_name_the_nearest_everywhere():
    with pytest.raises(ArgumentsError, match=r'clean\.hihg_pass: unknown key; did you mean clean'):
        build_config({'clean': {'hihg_pass': 1}})
    with pytest.raises(ArgumentsError, match=r'encoding\.modell: .* mean encoding\.model\?'):
        build_config({'encoding': {'modell': 'ridge'}})
    with pytest.raises(ArgumentsError, match=r'colour: unknown key\.$'):
        build_config({'colour': 1})
