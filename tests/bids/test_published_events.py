"""Events as datasets publish them, turned into the one table that the program reads."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.bids import columns, filmrows, publishedevents, rows, stimulusfolder
from bids_neurodecode.bids.captions import captions_of, first_captions
from bids_neurodecode.bids.newfilms import films_of_events
from bids_neurodecode.bids.newpictures import find_event_runs, shows_folder
from bids_neurodecode.bids.publishedevents import EventsReader
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.rows import Rows, same_value
from bids_neurodecode.bids.stimuli import MISSING
from bids_neurodecode.bids.stimulusfolder import StimulusFolder
from bids_neurodecode.bids.timing import NO_COLUMN, NO_STIM_FILE, TextTable, read_table
from bids_neurodecode.bids.trials import film_table, trials_table
from bids_neurodecode.config import SplitSettings, build_config
from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.settings.events import EventSettings
from bids_neurodecode.systems.movie.steps.totals import first_showings
from bids_neurodecode.systems.protocol import choose_film_split, choose_split

RUN = {'sub': '01', 'ses': 'test01', 'task': 'look', 'run': '02'}
PICTURES = ('a.jpg', 'b.jpg', 'c.jpg', 'd.jpg')


@pytest.fixture
def stimuli(tmp_path):
    return touched(tmp_path / 'stimuli', *(f'cat/{name}' for name in PICTURES))


def touched(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def written(folder, header, *lines, name='run_events.tsv'):
    """Write events; fields are separated by spaces, ``~`` is a space."""
    text = '\n'.join([header, *lines]) + '\n'
    file = folder / name
    file.write_text(text.replace(' ', '\t').replace('~', ' '))
    return file


class Read:
    """What a reader makes of some events files, the runs of one participant in order."""

    def __init__(
        self, folder, *files, parts=None, entities=RUN, length=1000.0, tr=2.0, **settings
    ):
        self.reader = EventsReader(
            EventSettings(**settings),
            StimulusFolder(folder),
            dataset=folder.parent,
            parts=parts or {},
            made_dir=folder.parent / 'made',
        )
        self.reader.choose({file: entities for file in files if file is not None})
        self.shown = [
            self.reader.read(file, entities, length=length, repetition_time=tr) for file in files
        ]
        self.tables = [read_table(shown.events) for shown in self.shown]
        self.table = self.tables[0]
        self.notes = '\n'.join(self.reader.notes())

    def column(self, name):
        return self.table[name].fillna('n/a').tolist()


def refused(*files, **settings):
    with pytest.raises(InputError) as error:
        Read(*files, **settings)
    return str(error.value)


# which column


def test_events_of_the_program_are_used_as_they_are(tmp_path):
    folder = touched(tmp_path / 'stimuli', *PICTURES)
    lines = ('0 2 x a.jpg', '4 2 y b.jpg', '8 2 z n/a')
    file = written(tmp_path, 'onset duration trial_type stim_file', *lines)
    read = Read(folder, file)
    assert (read.shown[0].events, read.shown[0].published, read.notes) == (file, file, '')
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('column', ['file_path', 'image_path', 'what'])
def test_the_one_column_of_files_is_found_and_said(tmp_path, stimuli, column):
    lines = ('0 .5 exp cat/a.jpg 3', '4 .5 test cat/b.jpg 7')
    file = written(tmp_path, f'onset duration trial_type {column} number', *lines)
    read = Read(stimuli, file)
    assert read.shown[0].published == file
    assert read.column('stim_file') == ['cat/a.jpg', 'cat/b.jpg']
    assert read.column('trial_type') == ['exp', 'test']
    said = columns.FOUND_COLUMN.format(column=column, folder=stimuli)
    assert read.notes == said


def test_names_without_extension_and_rows_of_rest(tmp_path):
    folder = touched(tmp_path / 'stimuli', 'n0_15.JPEG', 'deep/down/n1_7.JPEG')
    lines = ('0 33 rest n/a n/a', '33 9 seen 0.015 n0_15', '42 9 seen 1.007 n1_7')
    file = written(tmp_path, 'onset duration kind stimulus_id stimulus_name', *lines)
    read = Read(folder, file)
    assert read.column('stim_file') == ['n/a', 'n0_15.JPEG', 'deep/down/n1_7.JPEG']
    nothing = publishedevents.SHOWS_NOTHING.format(n=1, why='stimulus_name is n/a')
    assert nothing in read.notes


def test_identifiers_of_stimuli_are_those_of_bids(tmp_path):
    files = ('stim-face01_image.png', 'faces/stim-face02_image.jpg', 'stim-film_part-2_video.mp4')
    folder = touched(
        tmp_path / 'stimuli', *files, 'stim-face01_audio.wav', 'stim-face01_image.json'
    )
    lines = ('0 2 x stim-face01', '4 2 x stim-face02', '8 2 x n/a', '12 2 x stim-face01')
    file = written(tmp_path, 'onset duration trial_type stim_id', *lines)
    read = Read(folder, file)
    assert read.column('stim_file') == [files[0], files[1], 'n/a', files[0]]
    parts = StimulusFolder(folder)
    assert parts.find('stim-film_part-2', file) == files[2]
    assert parts.find('stim-film', file) is None  # of which part is not said


def test_two_columns_of_other_files_are_a_choice(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration cue target', '0 2 a.jpg b.jpg', '4 2 c.jpg d.jpg')
    expected = columns.DOUBT.format(
        file=file, folder=stimuli, columns="'cue', 'target'", first='cue'
    )
    assert refused(stimuli, file) == expected
    assert Read(stimuli, file, stimulus_column='target').column('stim_file') == [
        'cat/b.jpg',
        'cat/d.jpg',
    ]


def test_two_columns_of_the_same_files_are_none(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration ImgName path', '0 2 a.jpg cat/a.jpg', '4 2 b b')
    read = Read(stimuli, file)
    assert read.column('stim_file') == ['cat/a.jpg', 'cat/b.jpg']
    assert columns.ALIKE.format(others="'path'") in read.notes


def test_numbers_may_be_anything(tmp_path):
    folder = touched(tmp_path / 'stimuli', '1.png', '2.png', '3.png')
    file = written(tmp_path, 'onset duration response', '0 2 1', '4 2 2')
    expected = columns.NUMBERS.format(
        file=file, folder=folder, columns="'response'", found='1.png', first='response'
    )
    assert refused(folder, file) == expected
    touched(folder, '000000124419.png')
    coco = written(tmp_path, 'onset duration response id', '0 2 7 000000124419', name='c.tsv')
    assert Read(folder, coco).column('stim_file') == ['000000124419.png']
    named = Read(folder, file, stimulus_column='response')
    assert named.column('stim_file') == ['1.png', '2.png']


@pytest.mark.parametrize('there', ['folder', 'no folder', 'other files'])
def test_what_is_missing_is_said(tmp_path, there):
    folder = tmp_path / 'stimuli'
    also = columns.NO_FOLDER.format(folder=folder)
    lines = ('0 2 x', '4 2 y')
    header = 'onset duration trial_type'
    if there != 'no folder':
        touched(folder, 'other.jpg')
        also = columns.NOT_THERE.format(folder=folder)
    if there == 'other files':
        header, lines = 'onset duration seen', ('0 2 p/a.jpg', '4 2 p/b.jpg')
        also = columns.NOT_GOT.format(column='seen', name='p/a.jpg', folder=folder)
    file = written(tmp_path, header, *lines)
    assert refused(folder, file) == NO_STIM_FILE.format(file=file, also=also)
    reader = EventsReader(EventSettings(), StimulusFolder(folder), tmp_path)
    assert reader.shows(file, RUN) == (there == 'other files')


def test_a_column_that_is_named_must_be_there(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration seen', '0 2 a.jpg')
    expected = publishedevents.NO_SUCH_COLUMN.format(
        file=file, column='saw', columns='onset, duration, seen'
    )
    assert refused(stimuli, file, stimulus_column='saw') == expected


def test_each_task_has_its_own_column(tmp_path, stimuli):
    files = {
        written(tmp_path, 'onset duration seen', '0 2 a', name='1.tsv'): {**RUN, 'task': 'one'},
        written(tmp_path, 'onset duration stim_file', '0 2 cat/b.jpg', name='2.tsv'): RUN,
    }
    reader = EventsReader(EventSettings(), StimulusFolder(stimuli), tmp_path, made_dir=tmp_path)
    reader.choose(files)
    shown = [reader.read(f, e, length=9.0, repetition_time=2.0).events for f, e in files.items()]
    assert [read_table(x)['stim_file'].tolist() for x in shown] == [['cat/a.jpg'], ['cat/b.jpg']]


def test_a_template_of_entities_fits_where_its_file_is(tmp_path, datasets):
    folder = touched(tmp_path / 'stimuli', 'look.mp4')
    reader = EventsReader(EventSettings(stimulus='{task}.mp4'), StimulusFolder(folder), tmp_path)
    file = written(tmp_path, 'onset duration kind', '0 2 left')
    assert reader.shows(file, RUN)
    assert not reader.shows(file, {**RUN, 'task': 'retinotopy'})
    assert reader.shows_alone('look')
    assert not reader.shows_alone('rest')


def test_columns_that_nobody_reads_may_be_there_twice(tmp_path, stimuli):
    lines = ('0 2 a.jpg no yes 0', '4 2 b.jpg no no 1')
    file = written(tmp_path, 'onset duration seen answer answer ~', *lines)
    assert Read(stimuli, file).column('stim_file') == ['cat/a.jpg', 'cat/b.jpg']
    file = written(tmp_path, 'onset duration seen onset', '0 2 a.jpg 3')
    assert 'has two columns' in refused(stimuli, file)


# rows that show nothing


def test_words_beside_files_show_nothing_and_are_counted(tmp_path, stimuli):
    lines = ('0 2 a.jpg', '4 2 odd', '8 2 b.jpg', '12 2 odd', '16 2 n/a', '20 2 NaN')
    read = Read(stimuli, written(tmp_path, 'onset duration seen', *lines))
    assert read.column('stim_file') == ['cat/a.jpg', 'n/a', 'cat/b.jpg', 'n/a', 'n/a', 'n/a']
    why = "seen is 'odd', which is no file while most values are"
    assert publishedevents.SHOWS_NOTHING.format(n=2, why=why) in read.notes
    assert publishedevents.SHOWS_NOTHING.format(n=1, why='seen is n/a') in read.notes
    assert publishedevents.SHOWS_NOTHING.format(n=1, why="seen is 'NaN'") in read.notes


def test_a_file_that_is_not_there_is_no_blank_trial(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration seen', '0 2 a.jpg', '4 2 gone.jpg', '8 2 b.jpg')
    expected = MISSING.format(name='gone.jpg', events=file, file=stimuli / 'gone.jpg')
    assert refused(stimuli, file) == expected
    left_out = Read(stimuli, file, exclude={'seen': 'gone*'})
    assert left_out.column('stim_file') == ['cat/a.jpg', 'n/a', 'cat/b.jpg']
    said = publishedevents.LEFT_OUT.format(n=1, key='seen', value='gone.jpg')
    assert said in left_out.notes


def test_among_names_without_extension_the_user_says_what_shows_nothing(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration seen', '0 2 a', '4 2 odd', '8 2 b', '12 2 rest')
    expected = publishedevents.NOT_CLEAR.format(
        n=1, file=file, column='seen', value='odd', folder=stimuli, key='seen'
    )
    assert refused(stimuli, file) == expected
    read = Read(stimuli, file, exclude={'seen': ['odd']})
    assert read.column('stim_file') == ['cat/a.jpg', 'n/a', 'cat/b.jpg', 'n/a']
    assert publishedevents.SHOWS_NOTHING.format(n=1, why="seen is 'rest'") in read.notes


def test_rows_are_left_out_by_columns_and_entities(tmp_path, stimuli):
    lines = ('0 2 exp a.jpg', '4 2 catch b.jpg', '8 2 Catch9 c.jpg')
    file = written(tmp_path, 'onset duration trial_type stim_file', *lines)
    read = Read(stimuli, file, exclude={'trial_type': ['?atch*'], 'session': ['none']})
    assert read.column('stim_file') == ['cat/a.jpg', 'n/a', 'n/a']
    with pytest.raises(InputError, match=r'No row of .* shows a stimulus'):
        Read(stimuli, file, exclude={'session': ['test*']})
    assert refused(stimuli, file, exclude={'kind': ['x']}) == rows.NO_KEY.format(
        setting='events.exclude',
        key='kind',
        file=file,
        columns='onset, duration, trial_type, stim_file',
        entities='sub, ses, task, run',
    )


def test_fields_that_tabs_do_not_separate_are_told(tmp_path, stimuli):
    file = written(tmp_path, 'onset,duration,stim_file', '0,2,a.jpg', '4,2,b.jpg')
    assert refused(stimuli, file) == NO_COLUMN.format(file=file, column='onset')


def test_a_folder_of_stimuli_that_is_no_installed_subdataset_is_told(tmp_path):
    (tmp_path / 'stimuli').mkdir()
    (tmp_path / '.gitmodules').write_text('[submodule "stimuli"]\n\tpath = stimuli\n')
    file = written(tmp_path, 'onset duration image', '0 2 a.jpg', '4 2 b.jpg')
    assert 'datalad get' in refused(tmp_path / 'stimuli', file)


# files by name


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('dog/x.jpg', 'things/dog/x.jpg'),
        ('x.jpg', None),
        ('y.JPEG', 'coco/y.JPEG'),
        ('y.jpg', 'coco/y.JPEG'),
        ('y', 'coco/y.JPEG'),
        ('old/place/y.JPEG', 'coco/y.JPEG'),
        ('C:\\exp\\dog\\x.jpg', 'things/dog/x.jpg'),
        ('/home/me/cat/x.jpg', 'things/cat/x.jpg'),
        ('Dog/X.JPG', 'things/dog/x.jpg'),
        ('Y.jpeg', 'coco/y.JPEG'),
        ('Y', ''),
        ('z.jpg', ''),
    ],
)
def test_a_file_is_found_by_its_name_where_that_is_the_only_one(tmp_path, name, found):
    folder = touched(
        tmp_path / 's', 'things/dog/x.jpg', 'things/cat/x.jpg', 'coco/y.JPEG', 'n.txt'
    )
    if found is None:
        with pytest.raises(InputError) as error:
            StimulusFolder(folder).find(name, tmp_path)
        files = 'things/cat/x.jpg, things/dog/x.jpg'
        assert str(error.value) == stimulusfolder.SEVERAL.format(
            n=2, folder=folder, name=name, events=tmp_path, files=files
        )
        return
    assert (StimulusFolder(folder).find(name, tmp_path) or '') == found


names = st.lists(st.sampled_from('abc'), min_size=1, max_size=3).map('/'.join)


@given(st.sets(names, min_size=1, max_size=8), st.data())
def test_a_whole_path_always_means_its_own_file(tmp_path_factory, paths, data):
    folder = touched(tmp_path_factory.mktemp('s'), *(f'{path}.png' for path in paths))
    path = data.draw(st.sampled_from(sorted(paths)))
    assert StimulusFolder(folder).find(f'{path}.png', folder) == f'{path}.png'


def test_stim_file_never_leads_out_of_the_folder(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration stim_file', '0 2 ../cat/a.jpg')
    assert 'leads out of' in refused(stimuli, file)


# templates


EVENTS = pd.DataFrame(
    {'name': ['a', None], 'nr': ['7.0', '8.0'], 'StimOn(s)': ['1.5', '2']}, dtype='string'
)


@pytest.mark.parametrize(
    ('template', 'expected'),
    [
        ('{name}.JPEG', ['a.JPEG', None]),
        ('seg{run-1}.mkv', ['seg1.mkv'] * 2),
        ('seg{run+1:03d}.mkv', ['seg003.mkv'] * 2),
        ('{session}/{run}/{nr:04d}.png', ['test01/02/0007.png', 'test01/02/0008.png']),
        ('{StimOn(s):.1f}{{}}', ['1.5{}', '2.0{}']),
        ('film.mp4', ['film.mp4'] * 2),
    ],
)
def test_templates(template, expected):
    filled = Rows(TextTable.of(EVENTS), RUN, Path('e.tsv')).fill_in(template)
    assert [None if pd.isna(name) else name for name in filled] == expected


@pytest.mark.parametrize(
    ('template', 'message'),
    [
        ('{name', rows.BAD_TEMPLATE),
        ('{}.png', rows.BAD_TEMPLATE),
        ('{kind}.png', rows.NO_KEY),
        ('{name:03d}.png', rows.NO_FORMAT),
        ('{StimOn(s)+1}.png', rows.NO_FORMAT),
    ],
)
def test_templates_that_cannot_be_filled_in(template, message):
    start = message.split('{')[0]
    with pytest.raises(InputError, match=r'events\.stimulus') as error:
        Rows(TextTable.of(EVENTS), RUN, Path('e.tsv')).fill_in(template)
    assert str(error.value).startswith(start)


def test_numbers_are_looked_up_in_a_table(tmp_path, stimuli):
    (tmp_path / 'key.csv').write_text('nr,session,picture\n1,test01,a.jpg\n2,test01,b.jpg\n')
    file = written(tmp_path, 'onset duration nr', '0 2 1.0', '4 2 02', '8 2 3')
    settings = {'lookup': Path('key.csv'), 'stimulus_column': 'picture'}
    read = Read(stimuli, file, **settings)
    assert read.column('stim_file') == ['cat/a.jpg', 'cat/b.jpg', 'n/a']
    assert publishedevents.SHOWS_NOTHING.format(n=1, why='picture is n/a') in read.notes
    (tmp_path / 'key.csv').write_text('nr,picture\n1,a.jpg\n01,b.jpg\n')
    table = tmp_path / 'key.csv'
    expected = rows.LOOKUP_TWICE.format(table=table, keys="nr '1.0'")
    assert refused(stimuli, file, **settings) == expected
    table.write_text('index,picture\n1,a.jpg\n')
    expected = rows.NO_SHARED.format(table=table, file=file, columns='index, picture')
    assert refused(stimuli, file, **settings) == expected


# durations


def test_impulses_are_valid_and_said(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration stim_file', '0 0 cat/a.jpg', '4 0 cat/b.jpg')
    read = Read(stimuli, file)
    assert read.shown[0].events == file
    assert read.notes == publishedevents.IMPULSES.format(n=2)
    given = Read(stimuli, file, duration=1.5)
    assert given.column('duration') == ['1.5', '1.5']
    assert given.notes == ''


def test_images_without_a_duration_need_one(tmp_path, stimuli):
    file = written(tmp_path, 'onset duration shown stim_file', '0 n/a 3 cat/a.jpg')
    expected = publishedevents.NO_DURATIONS.format(file=file, why='duration is n/a')
    assert refused(stimuli, file) == expected
    assert Read(stimuli, file, duration='shown').column('duration') == ['3']
    file = written(tmp_path, 'onset shown stim_file', '0 3 cat/a.jpg')
    expected = publishedevents.NO_DURATIONS.format(file=file, why='no column duration')
    assert refused(stimuli, file) == expected
    assert Read(stimuli, file, duration=2).column('duration') == ['2']


# films


@pytest.fixture
def film(tmp_path, datasets):
    folder = tmp_path / 'stimuli'
    datasets.write_film(folder / 'seg1.mp4', 60)
    return folder


def frames(n, start=1.0, step=0.2, late=0):
    times = [f'{start + i * step + (late if i >= n // 2 else 0):.3f}' for i in range(n)]
    return [f'{time} {step} {i * step + 0.04:.3f}' for i, time in enumerate(times)]


def test_a_row_a_frame_is_one_showing(tmp_path, film):
    file = written(tmp_path, 'onset duration videotime', *frames(250))
    read = Read(film, file, stimulus='seg{run-1}.mp4')
    assert read.table.to_dict('list') == {
        'onset': ['1'],
        'duration': ['50'],
        'stim_file': ['seg1.mp4'],
    }
    assert filmrows.MERGED.format(film='seg1.mp4', n=250, onset=1, duration=50) in read.notes
    read = Read(film, file, stimulus='seg{run-1}.mp4', film_onset='videotime')
    assert read.column('film_onset') == ['0.04']


def test_frames_with_a_pause_need_the_time_of_the_film(tmp_path, film):
    file = written(tmp_path, 'onset duration videotime', *frames(100, late=7))
    expected = filmrows.PAUSED.format(file=file, film='seg1.mp4', n=2)
    assert refused(film, file, stimulus='seg1.mp4') == expected
    read = Read(film, file, stimulus='seg1.mp4', film_onset='videotime')
    assert read.column('onset') == ['1', '18']
    assert read.column('film_onset') == ['0.04', '10.04']
    assert read.column('duration') == ['10', '10']


def test_a_clip_shown_again_and_again_is_no_film_in_frames(tmp_path, datasets):
    datasets.write_film(tmp_path / 'stimuli' / 'clip.mp4', 1)
    lines = ('0 1 clip.mp4', '1 1 clip.mp4', '2 1 clip.mp4')
    file = written(tmp_path, 'onset duration stim_file', *lines)
    assert Read(tmp_path / 'stimuli', file).shown[0].events == file


@pytest.mark.parametrize('duration', ['n/a', '0'])
def test_a_film_lasts_as_long_as_its_file(tmp_path, film, duration):
    file = written(tmp_path, 'onset duration stim_file', f'4 {duration} seg1.mp4')
    assert Read(film, file).column('duration') == ['60']
    assert Read(film, file, length=50.0).column('duration') == ['46']


def test_a_run_without_events_shows_the_film_of_its_name(tmp_path, datasets):
    datasets.write_film(tmp_path / 'stimuli' / 'task-look.mp4', 20)
    read = Read(tmp_path / 'stimuli', None, stimulus='task-{task}.mp4')
    assert read.shown[0].published is None
    assert read.table.iloc[0].tolist() == ['0', '20', 'task-look.mp4']


def test_one_film_over_several_runs(tmp_path, film):
    files = [
        written(tmp_path, 'onset duration stim_file', line, name=f'{i}_events.tsv')
        for i, line in enumerate(('4 25 seg1.mp4', '2 n/a seg1.mp4'))
    ]
    first = RUN | {'run': '01'}
    read = Read(film, *files, entities=first, film_onset='continue')
    assert [table['film_onset'].tolist() for table in read.tables] == [['0'], ['25']]
    assert [table['duration'].tolist() for table in read.tables] == [['25'], ['35']]
    again = refused(film, *files, files[0], entities=first, film_onset='continue')
    assert again == filmrows.ENDED.format(file=files[0], film='seg1.mp4', duration=60)
    assert refused(film, files[0], film_onset=61) == filmrows.PAST_END.format(
        file=files[0], film='seg1.mp4', start=61, duration=60
    )


def test_a_run_goes_on_only_where_the_run_before_was_read(tmp_path, film):
    file = written(tmp_path, 'onset duration stim_file', '4 25 seg1.mp4')
    expected = publishedevents.NOT_READ_BEFORE.format(
        film='seg1.mp4', run='02', file=file, before=1
    )
    assert refused(film, file, film_onset='continue') == expected
    of_its_own = Read(film, file, film_onset='continue', stimulus='seg{run-1}.mp4')
    assert of_its_own.column('film_onset') == ['0']


def test_scenes_that_follow_each_other_are_one_showing(tmp_path, film):
    rows = ('0 12.5 seg1.mp4', '12.5 30 seg1.mp4', '42.5 17.5 seg1.mp4')
    read = Read(film, written(tmp_path, 'onset duration stim_file', *rows))
    assert (read.column('onset'), read.column('duration')) == (['0'], ['60'])
    assert 'combined into one presentation of seg1.mp4 (3 rows' in read.notes
    read = Read(film, written(tmp_path, 'onset duration stim_file', *rows[:2]))
    assert read.column('onset') == ['0', '12.5']


def test_runs_that_may_go_on_with_a_film_are_told(tmp_path, film):
    file = written(tmp_path, 'onset duration stim_file', '4 25 seg1.mp4')
    said = publishedevents.IN_PART.format(film='seg1.mp4', whole=60, n=2, shown=25)
    assert Read(film, file, file).notes == said
    assert Read(film, file).notes == ''


def film_runs(tmp_path, *events, tr=2.0):
    runs = []
    for number, row in enumerate(events):
        line = ' '.join(map(str, row))
        file = written(
            tmp_path, 'onset duration stim_file film_onset part', line, name=f'{number}'
        )
        label = {'sub': '01', 'task': 'x', 'run': str(number)}
        runs.append(RunInput(label, Path('b'), Path('m'), file, None, tr, 50))
    return runs


def test_samples_of_a_film_have_one_clock_in_all_runs(tmp_path):
    runs = film_runs(tmp_path, (3, 21, 'f.mp4', 0, 'train'), (5, 20, 'f.mp4', 17, 'test'), tr=2.0)
    table = film_table(runs)
    second = table[table['run'] == 1]
    assert second['onset'].tolist() == [18, 20, 22, 24, 26, 28, 30, 32, 34]
    # 18 s into the film is 1 s after the start of the presentation, which is 5 s into the run
    assert second['run_onset'].tolist() == (second['onset'] - 17 + 5).tolist()
    assert second['stimulus'].iloc[0] == 'f.mp4#00009'
    first = first_showings(table)
    assert first['onset'].tolist() == list(range(0, 36, 2))
    assert first['run'].tolist() == [0] * 10 + [1] * 8


def test_what_follows_a_part_that_was_seen_is_left_out(tmp_path):
    runs = film_runs(
        tmp_path, (0, 12, 'f.mp4', 8, 'a'), (0, 30, 'f.mp4', 0, 'a'), (0, 20, 'f.mp4', 18, 'a')
    )
    first = first_showings(film_table(runs))
    by_run = {run: rows['onset'].tolist() for run, rows in first.groupby('run')}
    assert by_run == {0: [8, 10, 12, 14, 16, 18], 1: [0, 2, 4, 6], 2: [30, 32, 34, 36]}


def test_a_film_from_its_beginning_is_shown_again(tmp_path):
    runs = film_runs(tmp_path, (0, 20, 'f.mp4', 0, 'a'), (0, 40, 'f.mp4', 0, 'a'))
    assert set(first_showings(film_table(runs))['run']) == {0}


# what is held out


def test_parts_by_column_and_entity(tmp_path, stimuli):
    lines = ('0 2 exp a.jpg', '4 2 test b.jpg', '8 2 catch c.jpg')
    file = written(tmp_path, 'onset duration trial_type stim_file', *lines)
    test = {'test': {'trial_type': ['test']}}
    assert Read(stimuli, file, parts=test).column('part') == ['train', 'test', 'train']
    both = {**test, 'train': {'trial_type': ['exp']}}
    assert Read(stimuli, file, parts=both).column('part') == ['train', 'test', 'n/a']
    session = {'test': {'session': ['test*'], 'trial_type': ['exp', 'test']}}
    assert Read(stimuli, file, parts=session).column('part') == ['test', 'test', 'train']
    twice = {**test, 'validation': {'run': ['2']}}
    with pytest.raises(InputError) as error:
        Read(stimuli, file, parts=twice)
    assert str(error.value) == rows.BOTH_PARTS.format(row=3, file=file, a='test', b='validation')


@pytest.mark.parametrize(
    ('test', 'expected'),
    [
        ({'kind': ['imagined'], 'scan_run': ['2']}, ['train', 'n/a', 'test']),
        ({'kind': ['imagined'], 'run': ['2']}, ['train', 'test', 'test']),
        ({'kind': ['imagined'], 'run': ['1']}, ['train', 'n/a', 'n/a']),
        ({'kind': ['imagined'], 'session': ['9']}, ['train', 'n/a', 'n/a']),
        ({'run': ['1']}, ['train', 'train', 'train']),
    ],
)
def test_what_is_imagined_is_in_no_training(tmp_path, stimuli, test, expected):
    """Held out is one run (or a part) of what was imagined: the rest of it is left out."""
    lines = ('0 2 seen 1 a.jpg', '4 2 imagined 1 b.jpg', '8 2 imagined 2 c.jpg')
    file = written(tmp_path, 'onset duration kind scan_run stim_file', *lines)
    split = SplitSettings(by='imagery', test=test)
    assert Read(stimuli, file, parts=rows.parts_of(split)).column('part') == expected
    given = SplitSettings(by='given', test=test)
    assert set(Read(stimuli, file, parts=rows.parts_of(given)).column('part')) <= {'train', 'test'}
    if 'n/a' in expected:
        trained = split.model_copy(update={'train': {'scan_run': ('1',)}})
        with pytest.raises(InputError) as error:
            Read(stimuli, file, parts=rows.parts_of(trained))
        said = rows.IMAGINED_TRAINED.format(row=3, file=file, part='train')
        assert str(error.value) == said


def test_parts_of_films(tmp_path):
    runs = film_runs(tmp_path, (0, 30, 'f.mp4', 0, 'train'), (0, 30, 'g.mp4', 0, 'test'))
    split, why = choose_film_split(film_table(runs), SplitSettings())
    assert (split.by, why) == (
        'given',
        'split as the dataset gives it (column "part" of the trials)',
    )
    assert len(split.folds[0].test) == 15


def test_what_is_in_no_part_is_counted():
    table = pd.DataFrame(
        {'stimulus': list('abc'), 'run': 0, 'part': ['train', 'test', None], 'session': '1'}
    )
    split, why = choose_split(table, SplitSettings(test={'kind': ['t']}), 0)
    assert split.folds[0].test.tolist() == [1]
    assert why == (
        'split as the settings give it (test samples: kind t); 1 of 3 samples are in no part and '
        'left out'
    )


def test_a_part_without_samples_is_refused_and_no_other_split_taken():
    table = pd.DataFrame(
        {'stimulus': list('abc'), 'run': 0, 'film': 'f', 'onset': 0.0, 'part': 'train'}
    )
    settings = SplitSettings(test={'kind': ['typo']})
    why = '(split as the settings give it (test samples: kind typo))'
    with pytest.raises(DataError, match=re.escape(f"of the part 'test' {why}")):
        choose_split(table, settings, 0)
    with pytest.raises(DataError, match=re.escape(f"of the part 'test' {why}")):
        choose_film_split(table, settings)
    with pytest.raises(DataError, match='needs the part of each sample'):
        choose_split(table.drop(columns='part'), SplitSettings(by='given'), 0)


@given(st.lists(st.sampled_from(['exp', 'test', '1.0', '01', None]), min_size=1))
def test_matching_is_by_value(values):
    table = pd.DataFrame({'x': pd.Series(values, dtype='string')})
    hits = Rows(TextTable.of(table), {}, Path('e')).matching({'x': ['test', '1', 'n/a']}, 's')['x']
    expected = [value != 'exp' for value in values]
    np.testing.assert_array_equal(hits, expected)


def test_values_are_compared_as_they_mean():
    assert same_value('[a]', '[a]')
    assert same_value('2', '02.0')
    assert not same_value('2a', '02a')


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        ({'split': {'train': {'run': '1'}}}, 'go with test'),
        ({'split': {'name': 'tau'}}, 'name goes with file'),
        ({'events': {'exclude': {'kind': []}}}, 'events.exclude.kind'),
        ({'events': {'duration': 0}}, 'events.duration'),
    ],
)
def test_settings_that_do_not_go_together(settings, reason):
    with pytest.raises(ArgumentsError, match=reason):
        build_config(settings)


# whole datasets


def test_a_dataset_with_its_pictures_elsewhere(make_dataset, tmp_path):
    data = make_dataset()
    (data.root / 'stimuli').rename(tmp_path / 'lab')
    for run in data.each_run():
        table = [['0', '0', 'x', 'a'], ['8', '0', 'y', 'faces/c'], ['16', '0', 'x', 'b']]
        data.rewrite_events(table, columns=['onset', 'duration', 'kind', 'seen'], **run)
    request = Request(
        data.root,
        stimuli_dir=tmp_path / 'lab',
        made_dir=tmp_path / 'made',
        split=SplitSettings(test={'run': ['2']}),
    )
    (person,) = find_inputs(request).participants
    assert person.stimuli == ('a.png', 'b.png', 'faces/c.png')
    assert person.stimuli_dir == tmp_path / 'lab'
    assert [run.sources[-1].split('/')[-1] for run in person.runs] == [
        data.events(run=run).name for run in ('01', '02')
    ]
    table = trials_table(person.runs)
    assert table['part'].tolist() == ['train'] * 3 + ['test'] * 3
    assert any("'seen'" in note for note in person.runs[0].notes)
    assert not list(data.root.rglob('*made*'))


@pytest.mark.parametrize('name', ['n/a', 'none', 'beep.wav'])
def test_a_task_whose_stim_file_shows_nothing_is_passed_over(make_dataset, name):
    data = make_dataset(tasks=('img', 'rest'), runs=('01',))
    (data.root / 'stimuli' / 'beep.wav').write_bytes(b'RIFF')
    data.rewrite_events([[0, 40, 'rest', name]], task='rest')
    (person,) = find_inputs(Request(bids_dir=data.root)).participants
    assert person.task == 'img'


def test_types_of_stimuli(make_dataset, tmp_path):
    data = make_dataset(runs=('01',), stimuli=('a.gif', 'b.png'))
    assert find_inputs(Request(bids_dir=data.root)).participants[0].paradigm == 'images'
    films = make_dataset('films', film='f.mp4', tasks=('f',), runs=('01',))
    (films.root / 'stimuli' / 'f.mp4').rename(films.root / 'stimuli' / 'f.m4v')
    request = Request(
        bids_dir=films.root,
        made_dir=tmp_path / 'made',
        events=EventSettings(stimulus='{task}'),
    )
    assert find_inputs(request).participants[0].stimuli == ('f.m4v',)


def test_a_task_with_stim_file_is_preferred_to_one_whose_column_is_found(make_dataset):
    data = make_dataset(tasks=('img', 'other'), runs=('01',))
    table = [['0', '2', 'a.png'], ['8', '2', 'b.png']]
    data.rewrite_events(table, columns=['onset', 'duration', 'seen'], task='other', run='01')
    (person,) = find_inputs(Request(data.root)).participants
    assert person.task == 'img'


def test_stimuli_of_precomputed_betas_are_found_by_name_too(tmp_path, stimuli):
    reader = EventsReader(EventSettings(), StimulusFolder(stimuli), tmp_path)
    reader.made_dir = tmp_path / 'made'
    file = written(tmp_path, 'stim_file run', 'a.jpg 1', 'b 1')
    assert read_table(reader.of_betas(file))['stim_file'].tolist() == ['cat/a.jpg', 'cat/b.jpg']
    file = written(tmp_path, 'stim_file run', 'cat/a.jpg 1')
    assert reader.of_betas(file) == file


def test_lists_of_laion_fmri(tmp_path):
    from bids_neurodecode.bids import splitfile

    variant = {'variant_id': 0, 'train_ids': ['a.jpg', 'elsewhere.jpg'], 'test_ids': ['c.jpg']}
    file = tmp_path / 'tau.json'
    file.write_text(json.dumps({'name': 'tau', 'n_train': 2, 'variants': [variant]}))
    table = pd.DataFrame({'stimulus': [f'cat/{x}.jpg' for x in 'abc'], 'run': 0, 'run_label': 'r'})
    added = splitfile.add_parts(table, file)
    assert added['part'].tolist() == ['train', 'n/a', 'test']
    assert set(added['protocol']) == {'tau'}
    # a number says nothing alone: reports know by the name what is out of distribution
    assert set(splitfile.add_parts(table, file, '0')['protocol']) == {'tau_0'}
    file.write_text(json.dumps({'ood': {'train': ['a'], 'test': ['b']}, 'tau': {'train': ['x']}}))
    assert splitfile.add_parts(table, file, 'ood')['part'].tolist() == ['train', 'test', 'n/a']
    with pytest.raises(InputError) as error:
        splitfile.add_parts(table, file, 'tau')
    expected = splitfile.NO_LISTS.format(file=file, of=" of 'tau'", keys='ood, tau')
    assert str(error.value) == expected
    file.write_text(json.dumps({'train': ['x'], 'test': ['a']}))
    with pytest.raises(InputError, match=r'None of the 1 stimuli .* lists for train is shown'):
        splitfile.add_parts(table, file)
    file.write_text(json.dumps({'train': ['cat/a.jpg', 'b'], 'test': ['c.jpg']}))
    assert splitfile.add_parts(table, file)['part'].tolist() == ['train', 'train', 'test']
    table_file = tmp_path / 'twelve.csv'
    table_file.write_text('stimulus,tau,ood\na.jpg,train,test\nb,test,train\ncat/c.jpg,n/a,n/a\n')
    assert splitfile.add_parts(table, table_file, 'ood')['part'].tolist() == [
        'test',
        'train',
        'n/a',
    ]


def test_the_published_form_of_laion_fmri_s_splits(tmp_path):
    """Keys, order and names are those of its package; counts are of the excerpt."""
    from bids_neurodecode.bids import splitfile

    regular = [
        'shared_12rep_LAION_cluster_1003_i0.jpg',
        'shared_12rep_LAION_cluster_1006_i0.jpg',
        'unique_LAION_initial_cluster_2817_i38_p01.jpg',
    ]
    far = ['shared_4rep_OOD_cropped_air_pump.png', 'shared_4rep_OOD_cropped_aloe.png']
    content = {
        'name': 'ood',
        'pool': 'sub-01 full pool (5833 images)',
        'splitter': 'ood_holdout',
        'params': {'method': 'ood_dataset_holdout', 'ood_types': ['cropped', 'gabor']},
        'n_train': 4,
        'n_test': 2,
        'variants': [
            # the last was seen by another participant
            {'variant_id': 0, 'train_ids': [*regular, 'unique_p03.jpg'], 'test_ids': far},
        ],
    }
    file = tmp_path / 'ood.json'
    file.write_text(json.dumps(content))
    left_out = 'shared_4rep_OOD_gabor_01.png'
    shown = [f'images/{name}' for name in [*far, left_out, *regular, far[0]]]
    table = pd.DataFrame({'stimulus': shown, 'run': 0, 'run_label': 'r'})
    added = splitfile.add_parts(table, file)
    assert added['part'].tolist() == ['test'] * 2 + ['n/a'] + ['train'] * 3 + ['test']
    assert set(added['protocol']) == {'ood'}


def test_captions_of_pictures_found_in_other_folders(tmp_path):
    rows = ('x/a.jpg one', 'b.jpg two', 'y/b.jpg three', 'z.jpg four')
    file = written(tmp_path, 'stim_file caption', *rows, name='captions.tsv')

    def person(*names):
        return ParticipantInput('01', 't', 'images', (), tmp_path, names, captions=file)

    assert first_captions(person('deep/a.jpg', 'b.jpg')) == {'deep/a.jpg': 'one', 'b.jpg': 'two'}
    known = captions_of(person('deep/a.jpg', 'b.jpg', 'deep/b.jpg'))
    assert known == {'deep/a.jpg': ('one',), 'b.jpg': ('two',)}
    file.rename(tmp_path / 'other.tsv')
    assert captions_of(person('deep/a.jpg')) == {}
    (tmp_path / 'other.tsv').rename(file)
    with pytest.raises(InputError, match='have no caption'):
        first_captions(person('deep/b.jpg'))


def test_pictures_without_bold_are_named_by_any_column(make_dataset, tmp_path):
    data = make_dataset()
    for run in data.each_run():
        data.rewrite_events(
            [['0', '2', 'a'], ['8', '2', 'c']], ['onset', 'duration', 'seen'], **run
        )
    lab = tmp_path / 'lab'
    (data.root / 'stimuli').rename(lab)
    request = Request(data.root, stimuli_dir=lab, made_dir=tmp_path / 'made')
    person = find_event_runs(request, '01')
    assert (person.stimuli, person.stimuli_dir) == (('a.png', 'faces/c.png'), lab)
    assert len(person.events_only) == 2
    assert shows_folder(request)
    # a folder of others is one to predict the responses to
    others = touched(tmp_path / 'others', 'a.png', 'new.png')
    assert not shows_folder(Request(data.root, stimuli_dir=others))


def test_films_without_bold_are_named_by_any_column(make_dataset, tmp_path):
    data = make_dataset(film='f.mp4', runs=('01',))
    data.rewrite_events([['0', '40', 'f']], ['onset', 'duration', 'film'])
    assert films_of_events(Request(data.root), '01') == ('f.mp4',)
