"""The strict reader of tables: what others wrote is read as it stands, or refused by row."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.bids.timing import read_table as read_bids_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.signals.confounds import load_confounds
from bids_neurodecode.tables import count_rows, read_rows, read_table, to_numbers

WORD = st.text(st.characters(codec='ascii', categories=['L', 'N', 'P']), min_size=1, max_size=6)


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes):
        file = tmp_path / 'table.tsv'
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def test_plain_tables_with_any_line_end(write):
    for text in ('a\tb\n1\tn/a\n', 'a\tb\r\n1\tn/a\r\n', '\ufeffa\tb\n1\tn/a', 'a\tb\r1\t \r'):
        table = read_table(write(text))
        assert table.columns.tolist() == ['a', 'b']
        assert table['a'].tolist() == ['1']
        assert table['b'].isna().all()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a\tb\n1\t2\t\n3\t4\t\n', 'Row 2 .* 3 fields, and its header names 2'),
        ('a\tb\n1\t2\n3\t4\t\n', 'Row 3 .* 3 fields'),
        ('a\tb\n1\n', 'Row 2 .* 1 fields'),
        ('a\tb\n1\t"x\n3\ty"\n', 'Row 2 .* stray quotation mark'),
        ('a\tb\n1\t"x"y\n', 'Row 2 .* stray quotation mark'),
        ('a\tb\n\n1\t2\n', 'Row 2 .* is empty'),
        ('a\t\n1\t2\n', 'Column 2 .* has no name'),
        ('a\ta\n1\t2\n', "two columns 'a'"),
        ('', 'it is empty'),
        ('\n1\n', 'its first row is empty'),
        (b'a\n\xff\n', 'utf-8'),
        (b'a\n\x00\n', 'NUL'),
    ],
)
def test_what_would_be_shifted_or_swallowed_is_refused(write, text, message):
    with pytest.raises(InputError, match=message):
        read_table(write(text))


def test_quotes_enclose_whole_fields(write):
    assert read_table(write('"a"\tb\n"x\ty"\t"say ""hi"""\n'))['a'].tolist() == ['x\ty']
    assert read_table(write('a\tb\n5" disc\t1\n'))['a'].tolist() == ['5" disc']


@given(st.lists(st.lists(WORD, min_size=3, max_size=3), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp('rows') / 'a.tsv'
    text = io.StringIO()
    csv.writer(text, delimiter='\t', lineterminator='\n').writerows(rows)
    file.write_text(text.getvalue(), 'utf-8')
    assert read_rows(file) == rows
    assert count_rows(file) == len(rows)


@pytest.mark.parametrize(
    'text',
    ['a\tb\n1\t2\t\n', 'a\tb\n1\n', 'a\tb\n1\t"x"y\n', 'a\tb\n\n1\t2\n', 'a\tb\r\n1\t \r\n', ''],
)
def test_rows_are_counted_where_they_can_be_read(write, text):
    told = []
    for read in (lambda file: len(read_rows(file)), count_rows):
        try:
            told.append(read(write(text)))
        except InputError as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_numbers(write):
    file = write('x\ty\n1.5\tb\nn/a\tc\n-2e3\t4\n')
    table = read_table(file)
    np.testing.assert_array_equal(to_numbers(table, 'x', file), [1.5, np.nan, -2000])
    with pytest.raises(InputError, match=r"Row 2 of .* the y 'b', which is not a number"):
        to_numbers(table, 'y', file)
    with pytest.raises(InputError, match=r"Row 2 .* '1_0'"):
        to_numbers(read_table(write('x\n1_0\n')), 'x', file)


def test_one_file_is_one_stimulus_however_it_is_spelled(write):
    table = read_bids_table(write('stim_file\n./a.png\na.png\nfaces//./c.png\nn/a\n'))
    assert table['stim_file'].dropna().tolist() == ['a.png', 'a.png', 'faces/c.png']


def test_confounds_are_those_of_their_name(write):
    """A tab at the end of each row is not taken for an index column that shifts the names."""
    frame = pd.DataFrame({'trans_x': np.arange(4.0), 'trans_y': 100 + np.arange(4.0)})
    text = frame.to_csv(sep='\t', index=False)
    found = load_confounds(write(text), 4, columns=['trans_x'])
    np.testing.assert_array_equal(found.values[:, 0], frame['trans_x'])
    header, *rows = text.splitlines()
    with pytest.raises(InputError, match='header names 2'):
        load_confounds(
            write('\n'.join([header, *(f'{x}\t' for x in rows)])), 4, columns=['trans_x']
        )
    with pytest.raises(InputError, match='not a number'):
        load_confounds(write('trans_x\nx\n1\n2\n3\n'), 4, columns=['trans_x'])
