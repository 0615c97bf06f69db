"""Tables of features: every format read alike, clocks against integrals, and what is refused."""

import json
import re

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli import tablefiles, tables
from bids_neurodecode.stimuli.tablefiles import read_features
from bids_neurodecode.stimuli.tables import FeatureTable

VALUES = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32).round(3)
NAMES = ['a.png', 'b.png', 'faces/c.png', 'd']
COLUMNS = ['music', 'n_words', 'text01', 'text02', 'text03']
BANDS = {'labels': ('music', 'n_words'), 'text': ('text*',)}


def says(message, **more):
    """Return a pattern for a message with anything in its fields, and these values there."""
    for key, value in more.items():
        message = re.sub(r'\{' + key + r'(![rsa])?(:[^}]*)?\}', str(value), message)
    return '.*'.join(re.escape(x) for x in re.split(r'\{[^}]*\}', message))


def write_tsv(path, names=NAMES, values=VALUES, key='stim_file', columns=COLUMNS):
    rows = [[key, *columns], *([n, *map(str, v)] for n, v in zip(names, values, strict=True))]
    path.write_text(''.join('\t'.join(map(str, row)) + '\n' for row in rows))
    return path


def write_npy(path):
    np.save(path, VALUES)
    path.with_suffix('.tsv').write_text('\n'.join(['stim_file', *NAMES]) + '\n')
    path.with_suffix('.json').write_text(json.dumps({'Columns': COLUMNS}))
    return path


def write_h5(path):
    with h5py.File(path, 'w') as stream:
        stream['stim_file'] = NAMES
        stream['labels'] = VALUES[:, :2]
        stream['text'] = VALUES[:, 2:].reshape(4, 3, 1)
    return path


def write_tensors(path):
    both = {'labels': torch.tensor(VALUES[:, :2]), 'text': torch.tensor(VALUES[:, 2:])}
    save_file(both, path, metadata={'stim_file': json.dumps(NAMES)})
    return path


WRITERS = {
    'x.tsv': write_tsv,
    'x.npy': write_npy,
    'x.h5': write_h5,
    'x.safetensors': write_tensors,
}


@pytest.mark.parametrize('name', WRITERS)
def test_every_format_gives_the_same_features(tmp_path, name):
    table = read_features(WRITERS[name](tmp_path / name))
    wanted = BANDS if name in {'x.tsv', 'x.npy'} else None
    found = table.of_stimuli(['faces/c.png', 'a.png', 'd.jpg'], wanted)
    assert list(found) == ['labels', 'text']
    expected = VALUES[[2, 0, 3]]
    np.testing.assert_array_equal(found['labels'], expected[:, :2])
    np.testing.assert_array_equal(found['text'], expected[:, 2:])


def test_a_table_is_read_again_when_it_changes(tmp_path):
    file = write_tsv(tmp_path / 'x.tsv')
    assert read_features(file) is read_features(file)
    write_tsv(file, values=VALUES + 1)
    found = read_features(file).of_stimuli(['a.png'])
    np.testing.assert_allclose(np.concatenate([*found.values()], axis=1)[0], VALUES[0] + 1)


def test_columns_of_an_array_are_counted(tmp_path):
    file = write_npy(tmp_path / 'x.npy')
    file.with_suffix('.json').write_text(json.dumps({'Columns': COLUMNS[1:]}))
    with pytest.raises(InputError, match=says(tablefiles.COLUMN_NAMES, found=4, expected=5)):
        read_features(file)


def test_times_beside_an_array_are_read_and_blamed_by_their_row(tmp_path):
    file = write_npy(tmp_path / 'x.npy')
    rows = file.with_suffix('.tsv')
    rows.write_text('time\n0\n0.5\n1\n2\n')
    np.testing.assert_array_equal(read_features(file).times, [0, 0.5, 1, 2])
    rows.write_text('time\n0\n0.5\nlate\n2\n')
    with pytest.raises(InputError, match='late') as error:
        read_features(file)  # again, as what lies beside it changed
    assert rows.name in str(error.value)


def test_half_precision_tensors_are_read(tmp_path):
    save_file({'clip': torch.ones((3, 2), dtype=torch.bfloat16)}, tmp_path / 'x.safetensors')
    assert (read_features(tmp_path / 'x.safetensors').values == 1).all()


def test_text_columns_are_left_out_and_said(tmp_path):
    file = tmp_path / 'x.tsv'
    file.write_text('stim_file\tscene\tloud\na\tstreet\t1\nb\tdesk\t2\n')
    table = read_features(file)
    assert table.columns == ('loud',)
    assert any('scene' in note for note in table.notes())


@pytest.mark.parametrize(
    ('columns', 'bands'),
    [
        (['label_a', 'label_b', 'text_1'], {'label': [0, 1], 'text': [2]}),
        (COLUMNS, {'features': [0, 1], 'text': [2, 3, 4]}),
        (['x1'], {'features': [0]}),
        (['clip/0', 'clip/1', 'face.size'], {'clip': [0, 1], 'face': [2]}),
    ],
)
def test_columns_become_bands_by_their_names(tmp_path, columns, bands):
    values = VALUES[:, : len(columns)]
    assert (
        read_features(write_tsv(tmp_path / 'x.tsv', NAMES, values, columns=columns)).bands()
        == bands
    )


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            'stim_file\tx\na.png\t1\nb.png\tn/a\n',
            says(tables.NOT_FINITE, n=1, column="'x'", row=3),
        ),
        ('stim_file\tx\na.png\t1\nb.png\tinf\n', says(tables.NOT_FINITE, n=1, row=3)),
        ('stim_file\tx\na.png\t1\n', says(tables.NO_ROW, n=1, total=2, name="'b.png'")),
        ('stim_file\tx\na.png\t1\nb.png\t1\na.png\t2\n', says(tables.ROW_TWICE, a=2, b=4)),
        ('scene\tx\na.png\t1\nb.png\t1\n', says(tables.NO_NAMES)),
        ('stim_file\tscene\na.png\tstreet\nb.png\tdesk\n', says(tablefiles.NO_NUMBERS)),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, content, message):
    file = tmp_path / 'x.tsv'
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_features(file).of_stimuli(['a.png', 'b.png'])


def test_a_number_that_is_none_is_named(tmp_path):
    file = tmp_path / 'x.tsv'
    file.write_text('stim_file\tx\na\t1\nb\t1,5\n')
    with pytest.raises(InputError, match=r'Row 3 of .* has the x'):
        read_features(file)


def test_one_row_of_two_stimuli_is_refused(tmp_path):
    table = read_features(write_tsv(tmp_path / 'x.tsv'))
    with pytest.raises(InputError, match=says(tables.TWO_MEANT)):
        table.of_stimuli(['houses/a.png', 'faces/a.png'])


def test_the_column_of_names_may_be_another_one(tmp_path):
    file = write_tsv(tmp_path / 'x.tsv', key='coco_id')
    with pytest.raises(InputError, match=says(tables.NO_NAMES)):
        read_features(file).of_stimuli(['a.png'])
    assert read_features(file, 'coco_id').of_stimuli(['a.png'])


@pytest.mark.parametrize(
    ('bands', 'message'),
    [
        ({'a': ('nothing*',)}, says(tables.NO_BAND, band='a')),
        ({'a': ('text*',), 'b': ('text02',)}, says(tables.BAND_TWICE, column="'text02'")),
    ],
)
def test_bands_that_do_not_fit_are_refused(tmp_path, bands, message):
    with pytest.raises(InputError, match=message):
        read_features(write_tsv(tmp_path / 'x.tsv')).bands(bands)


@pytest.mark.parametrize('name', ['x.npy', 'x.h5', 'x.safetensors', 'x.tsv'])
@pytest.mark.parametrize('content', [b'\x00\x01damaged', b'', b'PK\x03\x04\x00 breaks off'])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / name))):
        read_features(tmp_path / name)


def film(values, times=None):
    values = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
    names = tuple(f'c{k}' for k in range(values.shape[1]))
    groups = ('features',) * len(names)
    return FeatureTable(tables.Path('f.tsv'), values, names, groups, times=times)


@given(
    n_rows=st.integers(2, 40),
    step=st.floats(0.05, 3.0),
    period=st.floats(0.5, 3.0),
    seed=st.integers(0, 99),
)
def test_a_volume_has_the_mean_over_its_time(n_rows, step, period, seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.5, 1.5, n_rows)) * step
    times -= times[0]
    values = rng.normal(size=n_rows)
    lasts = np.median(np.diff(times))
    n = int((times[-1] + lasts) / period)
    if n < 1:
        return
    onsets = np.arange(n) * period
    (found,) = film(values, times).of_volumes(onsets, period).values()
    # the oracle: what holds at many moments of each volume
    moments = onsets[:, None] + (np.arange(2000) + 0.5) / 2000 * period
    rows = np.clip(np.searchsorted(times, moments, side='right') - 1, 0, n_rows - 1)
    np.testing.assert_allclose(found[:, 0], values[rows].mean(axis=1), atol=0.02)


def test_rows_of_one_a_volume_are_taken_as_they_are():
    values = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    onsets = np.array([3.0, 4.5, 12.0])
    for table in (film(values), film(values, np.arange(9) * 1.5)):
        (found,) = table.of_volumes(onsets, 1.5, shown=13.5).values()
        np.testing.assert_array_equal(found, values[[2, 3, 8]])


def test_rows_by_frame_rate_are_averaged():
    (found,) = film(np.arange(20)).of_volumes([0.0, 2.0], 2.0, rate=5.0).values()
    np.testing.assert_allclose(found[:, 0], [4.5, 14.5])


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        (film(np.arange(9)), says(tables.NO_TIMES, rows=9)),
        (film(np.arange(11), np.arange(11) * 1.0), says(tables.NOT_COVERED)),
        (film(np.arange(12), np.arange(12) * 2.0 + 4), says(tables.NOT_COVERED, start='4')),
        (film(np.arange(12), np.r_[0.0, 2, 2, np.arange(3, 12)]), says(tables.TIME_ORDER, row=3)),
        (film(np.arange(12), np.r_[0.0, 4, 2, np.arange(3, 12)]), says(tables.TIME_ORDER, row=3)),
        (film(np.r_[np.nan, np.arange(9.0)]), says(tables.NOT_FINITE, row=1)),
    ],
)
def test_clocks_that_do_not_fit_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        table.of_volumes(np.arange(10) * 2.0, 2.0, shown=20.0)


def test_missing_values_of_moments_that_are_not_shown_do_not_matter():
    table = film(np.r_[np.nan, np.arange(9.0)])
    assert table.of_volumes(np.arange(1, 10) * 2.0, 2.0, shown=20.0)


def test_missing_values_of_bands_that_are_not_asked_for_do_not_matter(tmp_path):
    file = tmp_path / 'film.tsv'
    file.write_text('time\tloud\tpitch\n' + ''.join(f'{k}\t{k}\tn/a\n' for k in range(8)))
    found = read_features(file).of_volumes([0.0, 2, 4], 2.0, wanted={'own': ('loud',)})
    np.testing.assert_array_equal(found['own'], [[0.5], [2.5], [4.5]])
    with pytest.raises(InputError, match='pitch'):
        read_features(file).of_volumes([0.0, 2, 4], 2.0)


@pytest.mark.parametrize('head', ['Time\tloud', 'Onset\tDuration\tloud', 'time\tonset\tloud'])
def test_clocks_are_no_features_however_they_are_written(tmp_path, head):
    n = len(head.split('\t'))
    rows = ['0\t1', '2\t4'] if n == 2 else ['0\t2\t1', '2\t2\t4']
    (tmp_path / 'x.tsv').write_text('\n'.join([head, *rows]) + '\n')
    table = read_features(tmp_path / 'x.tsv')
    assert table.columns == ('loud',)
    assert table.times.tolist() == [0, 2]


def test_rows_that_do_not_fill_the_time_are_refused(tmp_path):
    """Events with gaps are no clock: a row would go on until the next one in silence."""
    file = tmp_path / 'x.tsv'
    file.write_text('onset\tduration\tface\n0\t2\t1\n10\t2\t0\n')
    with pytest.raises(InputError, match=says(tablefiles.NOT_FILLED, row=2, lasts='2', step='10')):
        read_features(file)
    file.write_text('onset\tduration\tface\n0\t1.33\t1\n1.3333\tn/a\t0\n2.7\t9\t0\n')
    assert read_features(file).times.tolist() == [0, 1.3333, 2.7]


def test_arrays_in_groups_have_their_clock_there(tmp_path):
    file = tmp_path / 'x.h5'
    with h5py.File(file, 'w') as stream:
        stream['film/time'] = np.arange(4) * 2.0
        stream['film/loud'] = np.arange(4)
        stream['film/image'] = np.ones((4, 3))
    table = read_features(file)
    assert table.bands() == {'film-image': [0, 1, 2], 'film-loud': [3]}
    assert table.times.tolist() == [0, 2, 4, 6]
    with h5py.File(file, 'a') as stream:
        stream['other/time'] = np.arange(4) * 3.0
    with pytest.raises(InputError, match=says(tablefiles.CLOCKS, first="'film/time'")):
        read_features(file)


def test_an_array_called_image_may_be_features(tmp_path):
    with h5py.File(tmp_path / 'x.h5', 'w') as stream:
        stream['image'] = np.ones((4, 3))
        stream['text'] = np.zeros((4, 2))
    assert list(read_features(tmp_path / 'x.h5').bands()) == ['image', 'text']


def test_times_are_one_a_row(tmp_path):
    """Beginnings and ends beside each other are not twice as many times."""
    with h5py.File(tmp_path / 'x.h5', 'w') as stream:
        stream['time'] = np.stack([np.arange(4) * 2.0, np.arange(4) * 2.0 + 1.9], axis=1)
        stream['loud'] = np.arange(4)
    with pytest.raises(InputError, match=says(tablefiles.CLOCK_SHAPE, rows=4)):
        read_features(tmp_path / 'x.h5')
