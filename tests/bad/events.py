"""Bad events and stimuli."""

import shutil

import numpy as np
from PIL import Image

from tests.bad_input import FILM, fault, set_stimulus

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


@fault(r'Cannot read the table .*events\.tsv', one=True)
def events_are_empty(data):
    data.events().write_text('')


@fault(r'Cannot read the table .*events\.tsv', one=True)
def events_are_binary(data):
    data.events().write_bytes(b'\xff\xfe\x00onset\xd8')


# stimuli


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


# tables that are none


@fault(r'Cannot read the table .*events\.tsv: .*codec', one=True)
def events_in_utf_16(data):
    data.events().write_text(data.events().read_text(), encoding='utf-16')


@fault(r'Cannot read the table .*events\.tsv: it holds NUL bytes', one=True)
def events_with_nul_bytes(data):
    data.events().write_text(data.events().read_text().replace('a.png', 'a\0.png'))


@fault(r"events\.tsv has two columns 'onset'", one=True)
def column_given_twice(data):
    columns = ['onset', 'duration', 'trial_type', 'stim_file', 'onset']
    data.rewrite_events([[2, 2, 'x', 'a.png', 5]], columns=columns)


@fault(r'events\.tsv has 20004 columns, and no more than 20000 are read', one=True)
def events_of_twenty_thousand_columns(data):
    lines = data.events().read_text().splitlines()
    more = '\t'.join(f'c{number}' for number in range(20_000))
    data.events().write_text('\n'.join(f'{line}\t{more}' for line in lines))


@fault(r"events\.tsv lack the column 'onset'", one=True)
def events_without_onsets(data):
    data.rewrite_events([[2, 'a.png']], columns=['duration', 'stim_file'])


for _text in ('onset duration stim_file\n2 2 a.png\n', 'onset,duration,stim_file\n2,2,a.png\n'):

    @fault(r"events\.tsv lack the column 'onset'.* separated by tabs", one=True)
    def events_without_tabs(data, text=_text):
        data.events().write_text(text)


for _value in ('inf', '2,5', '0x10', 'two'):

    @fault(r'Row 2 of .* has the onset .* it must be a number', one=True)
    def onset_is_no_number(data, value=_value):
        data.rewrite_events([[value, 2, 'x', 'a.png']])


for _rows, _line in (
    (
        [[2, 2, 'x', 'a.png'], [50, 2, 'y', 'b.png']],
        r'Row 3 of .*events\.tsv lasts until 52 s, but its run ends at 40 s',
    ),
    ([[36, 10, 'x', 'a.png']], r'Row 2 of .*lasts until 46 s'),
    ([[2, 4, 'x', 'a.png'], [5, 2, 'y', 'b.png']], r'Rows 2 and 3 of .* overlap'),
    ([[-2, 2, 'x', 'a.png']], r'starts before the run, at -2 s'),
    ([['n/a', 2, 'x', 'a.png']], r"onset 'n/a'; it must be a number"),
    ([['nan', 2, 'x', 'a.png']], r"onset 'nan'; it must be a number"),
    ([[2, 'long', 'x', 'a.png']], r"duration 'long'; it must be a number"),
    ([[2, -2, 'x', 'a.png']], r'lasts -2 s; a stimulus cannot last less'),
    ([[2, 2, 'x', 'a.png'], [10, 5, 'y', 'b.png']], r'Trials last from 2 to 5 s'),
    ([], r'No row of .*events\.tsv shows a stimulus'),
    ([['1e308', 2, 'x', 'a.png']], r'Row 2 of .* lasts until 1e\+308 s'),
    ([[2, 0, 'x', 'a.png']], r'Trials last from 0 to 2 s'),
    ([[2, 'inf', 'x', 'a.png']], r"Row 2 of .* has the duration 'inf'"),
):

    @fault(_line, one=True)
    def events_that_cannot_be_used(data, rows=_rows):
        data.rewrite_events(rows)


# images and films


@fault(r"'dir\.png' in .*events\.tsv is not there", one=True)
def stimulus_is_a_folder(data):
    (data.root / 'stimuli' / 'dir.png').mkdir()
    set_stimulus(data, 'dir.png')


@fault(r'a\.wav .* of an unknown type', one=True)
def stimulus_is_a_sound(data):
    (data.root / 'stimuli' / 'a.wav').write_text('x')
    set_stimulus(data, 'a.wav')


for _name, _line in (
    ('gone.png', r"'gone\.png' in .*events\.tsv is not there"),
    ('x' * 5000 + '.png', r"stim_file 'x{60}\.\.\.' .*cannot be opened: File name too long"),
    ('..\\secret.png', r'secret\.png. in .*events\.tsv is not there'),
):

    @fault(_line, one=True)
    def stimulus_that_cannot_be_shown(data, name=_name):
        set_stimulus(data, name)


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


for _name in ('t.jpg', 't.png', 't.tif', 't.webp', 't.bmp'):

    @fault(r'Cannot read the image .*t\.\w+ \(in ', one=True)
    def picture_cut_in_half(data, name=_name):
        path = data.root / 'stimuli' / name
        noise().save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        set_stimulus(data, name)


@fault(r'm\.gif holds 2 frames', one=True)
def picture_that_moves(data):
    frames = [Image.new('RGB', (8, 8), (n, n, n)) for n in (0, 90)]
    frames[0].save(data.root / 'stimuli' / 'm.gif', save_all=True, append_images=frames[1:])
    set_stimulus(data, 'm.gif')


@fault(r'big\.png has more than 89,478,485 pixels', one=True)
def picture_of_too_many_pixels(data):
    Image.new('1', (14000, 14000)).save(data.root / 'stimuli' / 'big.png')
    set_stimulus(data, 'big.png')


for _values in (np.full((8, 8), np.nan), np.full((8, 8), 200.0), np.diag([np.inf] * 8)):

    @fault(r'f\.tif holds floating-point values .* between 0 and 1', one=True)
    def floats_that_are_no_shades(data, values=_values):
        with np.errstate(invalid='ignore'):
            Image.fromarray(values.astype(np.float32)).save(data.root / 'stimuli' / 'f.tif')
        set_stimulus(data, 'f.tif')


@fault(r'i\.tif holds integers from 200 to 200, and which of them is white is not known', one=True)
def integers_of_an_unknown_range(data):
    Image.fromarray(np.full((8, 8), 200, dtype=np.int32)).save(data.root / 'stimuli' / 'i.tif')
    set_stimulus(data, 'i.tif')


@fault(r'All images that sub-01 was shown are one and the same \(.*a\.png')
def pictures_that_are_all_the_same(data):
    for name in ('b.png', 'faces/c.png'):
        shutil.copy(data.root / 'stimuli' / 'a.png', data.root / 'stimuli' / name)


@fault(r'All images that sub-01 was shown are one and the same', one=True)
def one_picture_all_the_time(data):
    for run in ('01', '02'):
        data.rewrite_events([[2 + 8 * k, 2, 'x', 'a.png'] for k in range(4)], run=run)


@fault(r'Cannot read the film .*film\.mp4', **FILM)
def film_cut_in_half(data):
    film = data.root / 'stimuli' / 'film.mp4'
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])


@fault(r'The film .*film\.mp4 is damaged at about second \d+', **FILM)
def film_with_a_hole(data):
    film = data.root / 'stimuli' / 'film.mp4'
    content = film.read_bytes()
    n = len(content)
    film.write_bytes(content[: n // 3] + bytes(n // 2 - n // 3) + content[n // 2 :])


@fault(r'Fold \d has one candidate stimulus only, .* Use fewer folds', one=True)
def images_too_few_to_be_told_apart(data):
    """Three images, which no two folds can hold out by twos."""
    set_stimulus(data, 'a.png')


@fault(r'Fold \d has 2 training trial\(s\), and images are generated from at least 3', one=True)
def trials_too_few_to_generate_from(data):
    for run in ('01', '02'):
        data.rewrite_events([[2, 2, 'x', 'a.png'], [10, 2, 'x', 'b.png']], run=run)
