"""Bad events and stimuli."""

import shutil

import pytest

from tests.bad_input import (
    FILM,
    Kinds,
    command,
    left_out,
    refused,
    set_stimulus,
    spoiled,
)

fault = Kinds()


# events


@fault(r'name no stimuli, and 1 condition\(s\) that are shown in two runs or more \(x\)')
def no_stim_file_column(data):
    for run in data.each_run():
        data.rewrite_events([[2, 2, 'x']], columns=['onset', 'duration', 'trial_type'], **run)


@fault(r'No row of .*events\.tsv shows a stimulus', one=True)
def no_stimulus_in_a_run(data):
    set_stimulus(data, 'n/a', run='01')
    data.rewrite_events([[2, 2, 'x', 'n/a']])


@fault(r'do not say how long images were shown \(no column duration\)', one=True)
def no_duration_column(data):
    data.rewrite_events([[2, 'a.png']], columns=['onset', 'stim_file'])


@fault(r'Row 3 of .*events\.tsv lasts until 52 s, but its run ends at 40 s', one=True)
def event_after_the_run(data):
    data.rewrite_events([[2, 2, 'x', 'a.png'], [50, 2, 'y', 'b.png']])


@fault(r'Row 2 of .*lasts until 46 s', one=True)
def event_that_ends_after_the_run(data):
    data.rewrite_events([[36, 10, 'x', 'a.png']])


@fault(r'Rows 2 and 3 of .* overlap', one=True)
def overlapping_events(data):
    data.rewrite_events([[2, 4, 'x', 'a.png'], [5, 2, 'y', 'b.png']])


@fault(r'starts before the run, at -2 s', one=True)
def negative_onset(data):
    data.rewrite_events([[-2, 2, 'x', 'a.png']])


@fault(r"onset 'n/a'; it must be a number", one=True)
def missing_onset(data):
    data.rewrite_events([['n/a', 2, 'x', 'a.png']])


@fault(r"onset 'nan'; it must be a number", one=True)
def onset_nan(data):
    data.rewrite_events([['nan', 2, 'x', 'a.png']])


@fault(r"duration 'long'; it must be a number", one=True)
def duration_is_text(data):
    data.rewrite_events([[2, 'long', 'x', 'a.png']])


@fault(r'lasts -2 s; a stimulus cannot last less', one=True)
def negative_duration(data):
    data.rewrite_events([[2, -2, 'x', 'a.png']])


@fault(r'Trials last from 2 to 5 s', one=True)
def several_durations(data):
    data.rewrite_events([[2, 2, 'x', 'a.png'], [10, 5, 'y', 'b.png']])


@fault(r'Cannot read the table .*events\.tsv', one=True)
def events_are_empty(data):
    data.events().write_text('')


@fault(r'Cannot read the table .*events\.tsv', one=True)
def events_are_binary(data):
    data.events().write_bytes(b'\xff\xfe\x00onset\xd8')


# stimuli


@fault(r"'gone\.png' in .*events\.tsv is not there", one=True)
def stimulus_missing(data):
    set_stimulus(data, 'gone.png')


@fault(r'stimulus .*a\.png .* is empty')
def stimulus_empty(data):
    (data.root / 'stimuli' / 'a.png').write_bytes(b'')


@fault(r'a\.xyz .* of an unknown type', one=True)
def stimulus_of_unknown_type(data):
    (data.root / 'stimuli' / 'a.xyz').write_text('x')
    set_stimulus(data, 'a.xyz')


@fault(r"'\.\./secret\.png' .* leads out of", one=True)
def stimulus_above(data):
    shutil.copy(data.root / 'stimuli' / 'a.png', data.root / 'secret.png')
    set_stimulus(data, '../secret.png')


@fault(r'leads out of', one=True)
def stimulus_absolute(data):
    set_stimulus(data, str(data.root / 'stimuli' / 'a.png'))


@fault(r"'link\.png' .* leads out of", one=True)
def stimulus_link_out(data):
    target = data.root.parent / 'outside.png'
    shutil.copy(data.root / 'stimuli' / 'a.png', target)
    (data.root / 'stimuli' / 'link.png').symlink_to(target)
    set_stimulus(data, 'link.png')


@fault(r'was not fetched', one=True)
def stimulus_not_fetched(data):
    (data.root / 'stimuli' / 'link.png').symlink_to('../.git/annex/objects/gone')
    set_stimulus(data, 'link.png')


@fault(r'Cannot read the image .*a\.png')
def image_that_is_none(data):
    (data.root / 'stimuli' / 'a.png').write_text('not an image')


@fault(r'shows both images \(a\.png\) and films \(film\.mp4\)', one=True)
def images_and_films(data):
    (data.root / 'stimuli' / 'film.mp4').write_bytes(b'x')
    set_stimulus(data, 'film.mp4')


# films


@fault(r'film\.mp4 lasts 12 s, and .*events\.tsv shows it for 40 s', **FILM)
def film_shorter_than_its_run(data, datasets):
    datasets.write_film(data.root / 'stimuli' / 'film.mp4', 12)


@fault(r'film\.mp4 has a variable frame rate', **FILM)
def film_of_variable_rate(data, datasets):
    datasets.write_film(data.root / 'stimuli' / 'film.mp4', 40, variable=True)


@fault(r'film\.mp4 has no video stream', **FILM)
def film_without_pictures(data, datasets):
    datasets.write_sound(data.root / 'stimuli' / 'film.mp4')


@fault(r'Cannot read the film .*film\.mp4', **FILM)
def film_that_is_none(data):
    (data.root / 'stimuli' / 'film.mp4').write_text('not a film' * 50)


@fault(r'Row 2 of .*_events\.tsv has 5 fields, and its header names 4', one=True)
def rows_of_events_end_in_a_tab(data):
    lines = data.events().read_text().splitlines()
    data.events().write_text('\n'.join([lines[0], *(f'{line}\t' for line in lines[1:])]))


@fault(r'Row 2 of .*_events\.tsv has a stray quotation mark', one=True)
def stray_quotes_swallow_rows(data):
    rows = [[2, 2, '"open', 'a.png'], [6, 2, 'k', 'b.png'], [10, 2, 'close"', 'a.png']]
    data.rewrite_events(rows)


@fault(r"stim_file 'x{60}\.\.\.' .*cannot be opened: File name too long", one=True)
def a_stimulus_with_a_very_long_name(data):
    set_stimulus(data, 'x' * 5000 + '.png')


@pytest.mark.parametrize(('spoil', 'line', 'spec'), fault.all)
def test_refused(spoil, line, spec, make_dataset, datasets, tmp_path, capsys):
    data = make_dataset(**spec)
    refused(command(data, spoiled(spoil, data, datasets)), line, tmp_path, capsys)


@pytest.mark.parametrize(('spoil', 'line', 'spec'), fault.of_one)
def test_others_go_on(spoil, line, spec, make_dataset, datasets):
    left_out(spoil, line, make_dataset(**spec, participants=('01', '02', '03')), datasets)
