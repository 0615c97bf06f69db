"""Conditions where events name no stimuli: which there are, what is a trial, what is refused."""

import pytest

from bids_neurodecode.bids.choices import SEVERAL_CONDITIONS
from bids_neurodecode.bids.conditions import (
    ALIKE,
    FEW_CONDITIONS,
    NO_SUCH_CONDITION,
    ONE_RUN,
    OTHER_BETAS,
    OVERLAP,
    ConditionReader,
    is_rest,
)
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.records import ParticipantInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.stimulusfolder import StimulusFolder
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.bids.trials import trials_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.settings.conditions import ConditionSettings
from bids_neurodecode.settings.events import EventSettings
from tests.datasets import make_dataset

COLUMNS = ['onset', 'duration', 'trial_type']
EVENTS = [[4, 2, 'face'], [12, 2, 'house'], [20, 2, 'face'], [28, 4, 'rest'], [32, 2, 'house']]


def dataset(root, rows=EVENTS, columns=COLUMNS, **changes):
    data = make_dataset(root / 'data', **changes)
    for run in data.each_run():
        data.rewrite_events(rows, columns=columns, **run)
    return data


def find(data, tmp_path, **more):
    return find_inputs(Request(data.root, made_dir=tmp_path / 'made', **more))


def person_of(data, tmp_path, **more):
    (person,) = find(data, tmp_path, **more).participants
    return person


def pattern(message):
    """The constant part of a message, up to its first field."""
    return message.split('{')[0]


def test_conditions_are_found_without_options(tmp_path):
    data = dataset(tmp_path)
    inputs = find(data, tmp_path)
    (person,) = inputs.participants
    assert (person.paradigm, person.conditions, person.stimuli) == (
        'conditions', ('face', 'house'), (),
    )  # fmt: skip
    table = trials_table(person.runs)
    assert table['stimulus'].tolist() == ['face', 'house', 'face', 'house'] * 2
    assert table['onset'].tolist() == [4, 12, 20, 32] * 2
    assert any('taken for rest: rest' in note for note in inputs.notes)
    assert 'stim_file' not in read_table(person.runs[0].events).columns
    # what was published is named as the source, and was not touched
    assert person.runs[0].sources[-1].endswith('_events.tsv')
    assert len(read_table(data.events())) == len(EVENTS)
    assert ParticipantInput.from_json(person.to_json()) == person


def test_events_that_are_just_trials_are_used_as_they_are(tmp_path):
    data = dataset(tmp_path, [row for row in EVENTS if row[2] != 'rest'])
    person = person_of(data, tmp_path)
    assert person.runs[0].events == data.events()
    assert not (tmp_path / 'made').exists()


def test_stimuli_come_first_unless_conditions_are_asked_for(tmp_path):
    data = make_dataset(tmp_path / 'data')
    assert person_of(data, tmp_path).paradigm == 'images'
    person = person_of(data, tmp_path, system='conditions')
    assert person.paradigm == 'conditions'
    assert person.conditions == ('kind0', 'kind1', 'kind2')
    assert 'stim_file' not in read_table(person.runs[0].events).columns
    with pytest.raises(InputError, match='stim_file'):
        find(dataset(tmp_path / 'other'), tmp_path, system='reconstruction')


def test_a_task_without_stimuli_is_taken_where_no_other_has_any(tmp_path):
    data = make_dataset(tmp_path / 'data', tasks=('loc', 'rest'))
    for run in data.each_run():
        if run['task'] == 'loc':
            data.rewrite_events(EVENTS, columns=COLUMNS, **run)
        else:
            data.rewrite_events([[0, 40, 'rest']], columns=COLUMNS, **run)
    inputs = find(data, tmp_path)
    assert {p.task for p in inputs.participants} == {'loc'}
    assert any('have no trial_type' in note for note in inputs.notes)


def test_several_tasks_of_conditions_are_chosen_from_or_put_together(tmp_path):
    data = dataset(tmp_path, tasks=('loc', 'main'))
    with pytest.raises(InputError) as error:
        find(data, tmp_path)
    assert str(error.value) == SEVERAL_CONDITIONS.format(known='loc, main')
    both = person_of(data, tmp_path, tasks=('loc', 'main'))
    assert (both.task, len(both.runs), both.conditions) == ('condition', 4, ('face', 'house'))


@pytest.mark.parametrize(
    ('name', 'rest'),
    [
        ('rest', True), ('REST', True), ('resting_state', True), ('fixation', True),
        ('Fixation cross', True), ('fixationCross', True), ('baseline', True), ('null', True),
        ('blank_screen', True), ('n/a', True), ('ITI', True), ('rest2', True),
        ('rest block', True),
        ('crosshair', True),
        ('face', False), ('restaurant', False), ('rest_face', False), ('go', False),
        ('stimulus', False), ('trial', False), ('nullius', False), ('1', False), ('', False),
    ],
)  # fmt: skip
def test_names_of_rest(name, rest):
    assert is_rest(name) is rest


def block(onset, name, n=8, step=2.0, lasts=0.5):
    return [[onset + k * step, lasts, name] for k in range(n)]


@pytest.mark.parametrize('lasts', [0.5, 0.0])
def test_items_of_a_block_are_one_trial(tmp_path, lasts):
    """As the Haxby data are published: twelve images of half a second a block."""
    rows = [
        *block(4, 'face', lasts=lasts), *block(28, 'house', lasts=lasts),
        *block(52, 'face', lasts=lasts), *block(70, 'face', lasts=lasts),
    ]  # fmt: skip
    data = dataset(tmp_path, rows, n_volumes=60)
    inputs = find(data, tmp_path)
    table = trials_table(inputs.participants[0].runs)
    assert table['onset'].tolist()[:3] == [4, 28, 52]
    # the last two blocks are 4 s apart at most, so that they are one
    assert table['stimulus'].tolist()[:3] == ['face', 'house', 'face']
    assert table['duration'].tolist()[0] == pytest.approx(14.5 if lasts else 16)
    assert any('64 rows are 6 trials' in note for note in inputs.notes)
    settings = ConditionSettings(block_gap=2.0)
    apart = find(data, tmp_path, conditions=settings).participants[0]
    assert len(trials_table(apart.runs)) == 8
    single = find(data, tmp_path, conditions=ConditionSettings(blocks='rows')).participants[0]
    assert len(trials_table(single.runs)) == 64


@pytest.mark.parametrize('name', ['n/a', 'NaN', 'tone.wav'])
def test_a_stim_file_that_shows_nothing_is_none(tmp_path, name):
    rows = [[*row, name] for row in EVENTS]
    person = person_of(dataset(tmp_path, rows, [*COLUMNS, 'stim_file']), tmp_path)
    assert person.conditions == ('face', 'house')


@pytest.mark.parametrize('settings', [{'stimulus_column': 'imgae'}, {'stimulus': '{imgae}.png'}])
def test_conditions_are_not_read_where_the_user_names_stimuli(tmp_path, settings):
    data = dataset(tmp_path)
    events = EventSettings(**settings)
    with pytest.raises(InputError, match='imgae'):
        find(data, tmp_path, events=events)
    person = person_of(data, tmp_path, events=events, system='conditions')
    assert person.paradigm == 'conditions'


def test_trials_in_a_random_order_are_not_merged(tmp_path):
    rows = [[4 + 3 * k, 1, 'ab'[k in (1, 2, 5, 7, 8)]] for k in range(10)]
    person = person_of(dataset(tmp_path, rows), tmp_path)
    assert len(trials_table(person.runs)) == 20


def test_which_conditions(tmp_path):
    rows = [*EVENTS, [36, 1, 'button'], [38, 1, 'house2']]
    data = dataset(tmp_path, rows)
    assert person_of(data, tmp_path).conditions == ('button', 'face', 'house', 'house2')
    left = EventSettings(exclude={'trial_type': ['button', 'house2']})
    inputs = find(data, tmp_path, events=left)
    assert inputs.participants[0].conditions == ('face', 'house')
    assert any("trial_type is 'button'" in note for note in inputs.notes)
    asked = ConditionSettings(include=('house*', 'rest'))
    assert person_of(data, tmp_path, conditions=asked).conditions == ('house', 'house2', 'rest')


def test_rows_outside_of_the_run_are_left_out_and_said(tmp_path):
    data = dataset(tmp_path, [[-2, 2, 'face'], *EVENTS, [39, 9, 'face'], [90, 2, 'house']])
    inputs = find(data, tmp_path)
    assert len(trials_table(inputs.participants[0].runs)) == 8
    assert any(note.startswith('6 row(s)') for note in inputs.notes)


def test_a_condition_of_one_run_is_left_out(tmp_path):
    data = dataset(tmp_path)
    data.rewrite_events([*EVENTS, [37, 1, 'tool']], columns=COLUMNS)
    inputs = find(data, tmp_path)
    assert inputs.participants[0].conditions == ('face', 'house')
    assert any('in one run only' in note and 'tool' in note for note in inputs.notes)


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ([[4, 2, 'face'], [12, 2, 'face']], FEW_CONDITIONS),
        ([[4, 2, 'face'], [5, 2, 'house'], [12, 2, 'face']], OVERLAP),
        ([[4, 0, 'face'], [4, 0, 'house']], OVERLAP),
    ],
)
def test_what_cannot_be_analysed_is_refused(tmp_path, rows, message):
    with pytest.raises(InputError) as error:
        find(dataset(tmp_path, rows), tmp_path)
    assert str(error.value).startswith(pattern(message))


def test_one_run_is_refused(tmp_path):
    with pytest.raises(InputError) as error:
        find(dataset(tmp_path, runs=('01',)), tmp_path)
    assert str(error.value).startswith(pattern(ONE_RUN))


def test_a_missing_name_is_told(tmp_path):
    settings = ConditionSettings(include=('tool',))
    with pytest.raises(InputError) as error:
        find(dataset(tmp_path), tmp_path, conditions=settings, system='conditions')
    assert str(error.value).startswith(pattern(NO_SUCH_CONDITION))
    assert 'face, house' in str(error.value)


def test_a_given_split_reaches_the_trials(tmp_path):
    rows = [[*row, 'train'] for row in EVENTS]
    data = dataset(tmp_path, rows, [*COLUMNS, 'part'])
    data.rewrite_events([[*row, 'test'] for row in EVENTS], columns=[*COLUMNS, 'part'], run='02')
    table = trials_table(person_of(data, tmp_path).runs)
    assert table.groupby('run')['part'].unique().map(list).tolist() == [['train'], ['test']]


def test_precomputed_betas_are_of_the_conditions_alone(tmp_path):
    """What is left out by the settings is not decoded from betas that someone else made."""
    reader = ConditionReader(
        settings=EventSettings(), folder=StimulusFolder(tmp_path), dataset=tmp_path
    )
    reader._kept = ('face', 'house')
    file = tmp_path / 'betas_events.tsv'
    file.write_text('trial_type\trun\nface\t1\nhouse\t1\n')
    assert reader.of_betas(file) == file
    file.write_text('trial_type\trun\nface\t1\nbutton\t1\nrest\t2\n')
    with pytest.raises(InputError) as error:
        reader.of_betas(file)
    assert str(error.value) == OTHER_BETAS.format(file=file, names='button, rest')


def test_names_that_differ_in_case_alone_are_said(tmp_path):
    rows = [*EVENTS, [36, 1, 'Face']]
    inputs = find(dataset(tmp_path, rows), tmp_path)
    assert ALIKE.format(label='01', names='Face, face') in inputs.notes
