"""Named splits from a file: stimuli, runs or trials; what is wrong is one line."""

import pandas as pd
import pytest

from bids_neurodecode.bids import splitfile
from bids_neurodecode.bids.splitfile import add_parts
from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.systems.protocol import choose_film_split, choose_split

SETTINGS = SplitSettings(file='own.tsv')


@pytest.fixture
def table():
    rows = [
        (s, r, f'ses-{1 + r // 2} task-img run-{r % 2 + 1:02d}') for r in range(4) for s in 'abcd'
    ]
    return pd.DataFrame(rows, columns=['stimulus', 'run', 'run_label']).assign(session='1')


def written(folder, *rows: str):
    file = folder / 'own.tsv'
    file.write_text('\n'.join(rows).replace(' ', '\t').replace('~', ' ') + '\n')
    return file


def test_stimuli(tmp_path, table):
    file = written(tmp_path, 'stim_file split', 'a train', 'b test', 'c train', 'd n/a')
    split, why = choose_split(add_parts(table, file), SETTINGS, 0)
    (fold,) = split.folds
    assert (split.by, split.protocol) == ('given', 'own')
    assert set(table['stimulus'].iloc[fold.test]) == {'b'}
    assert set(table['stimulus'].iloc[fold.train]) == {'a', 'c'}
    assert 'own.tsv' in why


@pytest.mark.parametrize('name', ['ses-2~task-img~run-02', 'task-img~run-02'])
def test_whole_runs_are_a_split_by_run(tmp_path, table, name):
    if not name.startswith('ses'):
        table = table.iloc[:8]
    labels = list(dict.fromkeys(table['run_label']))
    rest = [
        label.replace(' ', '~') for label in labels if not label.endswith(name.replace('~', ' '))
    ]
    rows = [f'{label} train' for label in rest]
    file = written(tmp_path, 'run split', f'{name} test', *rows)
    split, _ = choose_split(add_parts(table, file), SETTINGS, 0)
    assert (split.by, split.protocol, split.repeats_cross) == ('run', 'own', True)
    assert set(table['run'].iloc[split.folds[0].test]) == {table['run'].max()}


def test_trials(tmp_path, table):
    rows = [f'{k} {"test" if k % 4 == 1 else "train"}' for k in range(16)]
    split, _ = choose_split(add_parts(table, written(tmp_path, 'trial split', *rows)), SETTINGS, 0)
    assert split.folds[0].test.tolist() == [1, 5, 9, 13]


def test_one_stimulus_in_both_parts_is_a_leak(tmp_path, table):
    rows = [f'{k} {"test" if k == 1 else "train"}' for k in range(16)]
    parts = add_parts(table, written(tmp_path, 'trial split', *rows))
    with pytest.raises(DataError, match='both training and test'):
        choose_split(parts, SETTINGS, 0)


def test_films(tmp_path):
    films = pd.DataFrame(
        {'film': ['f', 'f', 'g', 'g'], 'run': [0, 0, 1, 1], 'onset': [0.0, 2] * 2}
    )
    films = films.assign(stimulus=[f'{x}#{k}' for k, x in enumerate(films['film'])])
    parts = add_parts(films, written(tmp_path, 'stimulus split', 'f train', 'g test'))
    split, _ = choose_film_split(parts, SETTINGS)
    assert split.folds[0].test.tolist() == [2, 3]


@pytest.mark.parametrize(
    ('rows', 'message', 'facts'),
    [
        (
            ['stimulus part', 'a train'],
            splitfile.COLUMNS,
            {'part': 'split', 'columns': 'stimulus, part'},
        ),
        (
            ['stimulus run split', 'a 1 train'],
            splitfile.COLUMNS,
            {'part': 'split', 'columns': 'stimulus, run, split'},
        ),
        (
            ['stimulus split', 'a train', 'b held'],
            splitfile.BAD_PART,
            {'key': 'stimulus', 'name': 'b', 'part': 'held'},
        ),
        (
            ['stimulus split', 'a train', 'a test'],
            splitfile.TWICE,
            {'key': 'stimulus', 'name': 'a', 'a': 'train', 'b': 'test'},
        ),
        (
            ['stimulus split', 'a train', 'b test', 'c train', 'd train', 'e train'],
            splitfile.UNKNOWN,
            {'n': 1, 'key': 'stimulus', 'name': 'e', 'shown': "'a', 'b', 'c'"},
        ),
        (
            ['stimulus split', 'a train', 'b test'],
            splitfile.MISSING,
            {'n': 2, 'key': 'stimulus', 'name': 'c'},
        ),
        (
            ['run split', 'run-01 train', 'ses-1~task-img~run-01 test'],
            splitfile.TWICE,
            {'key': 'run', 'name': 'ses-1 task-img run-01', 'a': 'train', 'b': 'test'},
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, table, rows, message, facts):
    file = written(tmp_path, *rows)
    with pytest.raises(InputError) as error:
        add_parts(table, file)
    assert str(error.value) == message.format(file=file, **facts)


def test_a_file_that_cannot_be_read_is_named(tmp_path, table):
    with pytest.raises(InputError, match=r'none\.tsv'):
        add_parts(table, tmp_path / 'none.tsv')
