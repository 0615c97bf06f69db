"""Pages call columns what they are, in texts, titles, cells and figures; names stay."""

from functools import partial
from pathlib import Path

import matplotlib.figure
import pytest

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.evaluation.metrics import METRICS, Score, scores_table
from bids_neurodecode.report.build import (
    Bullets,
    Cell,
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
    Viewer,
    reworded,
    write_page,
)
from bids_neurodecode.report.scores import read_metrics
from bids_neurodecode.report.section_scores import score_table


def page_in_nouns(given, form):
    return reworded(given, partial(in_nouns, form=form))


def page():
    figure = matplotlib.figure.Figure()
    axis = figure.subplots()
    axis.set(xlabel='voxels of the mask', title='A voxel')
    axis.set_yticks([0, 1], ['voxels of V1', 'others'])
    blocks = (
        Text(('All voxels of the brain mask.',)),
        Verdicts((Verdict('info', 'One voxel.', ('Two voxels.',)),)),
        Table(
            ('region', 'voxels'),
            (('voxels', '3'), ('my voxels.png', Cell('Voxel-wise R²', '9 voxels'))),
            'Medians over the voxels of each.',
        ),
        Fold(
            'More voxels', (Bullets(('Each voxel.',)), Plot('a_voxels.svg', figure, 'Voxels.', ''))
        ),
        Code('Settings', 'min_voxels = 3  # voxels'),
        Links((('voxels', Path('voxels.tsv')),)),
        Viewer('voxels.html', 'Accuracy of voxels', str),
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
def test_all_words_of_a_page_but_names(form, one, many):
    found = page_in_nouns(page(), form)
    text, verdicts, table, fold, code, links, viewer = found.sections[0].blocks
    assert (found.title, found.sections[0].anchor) == (many.capitalize(), 'brain')
    assert text.paragraphs == (f'All {many} of the mask.',)
    assert verdicts.items[0].text == f'One {one}.'
    assert verdicts.items[0].details == (f'Two {many}.',)
    assert table.columns == ('region', many)
    said = Cell(f'{one.capitalize()}-wise R²', f'9 {many}')
    assert table.rows == (('voxels', '3'), ('my voxels.png', said)), 'names stay'
    assert table.caption == f'Medians over the {many} of each.'
    bullets, plot = fold.blocks
    assert (fold.title, bullets.items[0]) == (f'More {many}', f'Each {one}.')
    assert (plot.name, plot.caption) == ('a_voxels.svg', f'{many.capitalize()}.')
    axis = plot.figure.axes[0]
    assert (axis.get_xlabel(), axis.get_title()) == (f'{many} of the mask', f'A {one}')
    plot.figure.canvas.draw()
    assert [label.get_text() for label in axis.get_yticklabels()] == [f'{many} of V1', 'others']
    assert (viewer.name, viewer.title) == ('voxels.html', f'Accuracy of {many}')
    assert code.content == 'min_voxels = 3  # voxels'
    assert links.entries == (('voxels', Path('voxels.tsv')),)


def test_volumes_keep_their_voxels(tmp_path):
    assert in_nouns('All voxels of the brain mask.', None) == 'All voxels of the brain mask.'
    for form, said in ((None, 'All voxels of the brain mask.'), ('gifti', 'All vertices of the')):
        write_page(page(), tmp_path / 'page.html', tmp_path / 'figures', form)
        assert said in (tmp_path / 'page.html').read_text()


def test_no_table_of_scores_speaks_of_voxels_elsewhere(tmp_path):
    given = {'p': 0.01, 'chance': 0.1, 'ceiling': 0.5, 'ci_low': 0.2, 'ci_high': 0.4}
    rows = [Score('encoding', 'ridge', 'new', 'r', 'all', m, 0.3, 90, **given) for m in METRICS]
    scores_table(rows).to_csv(tmp_path / 'metrics.tsv', sep='\t', na_rep='n/a', index=False)
    metrics = read_metrics(tmp_path / 'metrics.tsv')
    table = page_in_nouns(score_table(metrics, metrics), 'gifti')
    assert 'Vertex-wise' in repr(table)
    assert 'oxel' not in repr(table)
