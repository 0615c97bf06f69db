"""Pages call columns what they are, in texts, titles and figures; names and cells stay."""

from pathlib import Path

import matplotlib.figure
import pytest

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.report.build import (
    Bullets,
    Code,
    Fold,
    Links,
    Page,
    Plot,
    Section,
    Table,
    Text,
    Verdict,
    Verdicts,
)
from bids_neurodecode.report.nouns import page_in_nouns


def page():
    figure = matplotlib.figure.Figure()
    figure.subplots().set(xlabel='voxels of the mask', title='A voxel')
    blocks = (
        Text(('All voxels of the brain mask.',)),
        Verdicts((Verdict('info', 'One voxel.', ('Two voxels.',)),)),
        Table(('region', 'voxels'), (('voxels', '3'),), 'Medians over the voxels of each.'),
        Fold(
            'More voxels', (Bullets(('Each voxel.',)), Plot('a_voxels.svg', figure, 'Voxels.', ''))
        ),
        Code('Settings', 'min_voxels = 3  # voxels'),
        Links((('voxels', Path('voxels.tsv')),)),
    )
    return Page('Voxels', 'x', (Section('brain', 'Voxels', blocks),))


@pytest.mark.parametrize(
    ('form', 'one', 'many'),
    [
        ('gifti', 'vertex', 'vertices'),
        ('cifti', 'grayordinate', 'grayordinates'),
        ('parcels', 'parcel', 'parcels'),
        ('pcifti', 'parcel', 'parcels'),
    ],
)
def test_all_words_of_a_page_but_names_and_cells(form, one, many):
    found = page_in_nouns(page(), form)
    text, verdicts, table, fold, code, links = found.sections[0].blocks
    assert (found.title, found.sections[0].anchor) == (many.capitalize(), 'brain')
    assert text.paragraphs == (f'All {many} of the mask.',)
    assert verdicts.items[0].text == f'One {one}.'
    assert verdicts.items[0].details == (f'Two {many}.',)
    assert (table.columns, table.rows) == (('region', many), (('voxels', '3'),))
    assert table.caption == f'Medians over the {many} of each.'
    bullets, plot = fold.blocks
    assert (fold.title, bullets.items[0]) == (f'More {many}', f'Each {one}.')
    assert (plot.name, plot.caption) == ('a_voxels.svg', f'{many.capitalize()}.')
    axis = plot.figure.axes[0]
    assert (axis.get_xlabel(), axis.get_title()) == (f'{many} of the mask', f'A {one}')
    assert code.content == 'min_voxels = 3  # voxels'
    assert links.entries == (('voxels', Path('voxels.tsv')),)


def test_volumes_keep_their_voxels():
    given = page()
    assert page_in_nouns(given, None) is given
    assert in_nouns('All voxels of the brain mask.', None) == 'All voxels of the brain mask.'
