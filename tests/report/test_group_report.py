"""The page of the group: means, intervals, who failed, and mean maps."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_neurodecode.evaluation.metrics import COLUMNS, METRICS, NUMBERS, Score, scores_table
from bids_neurodecode.levels.group_page import _mean_table, write_group_report
from bids_neurodecode.levels.group_scores import (
    compare_over_participants,
    gather_metrics,
    group_verdict,
    mean_metrics,
    mean_score,
    verdicts_of_group_images,
)
from bids_neurodecode.levels.participant_page import write_participant_report
from bids_neurodecode.report import scores
from bids_neurodecode.report.build import Gallery, link_pages
from bids_neurodecode.report.groupmaps import mean_map
from bids_neurodecode.report.reader import Reader
from bids_neurodecode.report.results import ParticipantResults
from bids_neurodecode.report.section_group import _choose, _Image, group_gallery

VALUES = (0.5, 0.625, 0.8125)


@pytest.fixture(scope='module')
def group(
    results: ParticipantResults, tmp_path_factory: pytest.TempPathFactory
) -> list[ParticipantResults]:
    folder = tmp_path_factory.mktemp('group')
    table = pd.read_csv(results.metrics, sep='\t', keep_default_na=False)
    members = []
    for label, value in zip(('01', '02', '03'), VALUES, strict=True):
        path = folder / f'{label}.tsv'
        head = (table['model'] == 'ridge') & (table['metric'] == 'identification_top1')
        table.assign(value=table['value'].mask(head, value)).to_csv(path, sep='\t', index=False)
        maps = {key: results.maps[key] for key in ('tsnr', 'noiseceiling')}
        members.append(replace(results, participant=label, metrics=path, maps=maps))
    return members


def test_page_holds_mean_interval_chance_and_failures(
    group: list[ParticipantResults], tmp_path: Path
) -> None:
    html = tmp_path / 'group.html'
    write_group_report(
        group, html, tmp_path / 'figures', failures={'04': 'no <b>events</b> found'}
    )
    text = html.read_text('utf-8')
    assert 'against a chance level of 25.0 %' not in text, 'the headline says it'
    # three are too few for an interval: said once in summary and scores
    assert text.count('none with 3 participants (6 are needed)') == 1
    assert text.count('no tests with 3 participants (6 are needed)') == 1
    assert '95 % interval</th>' not in text
    assert 'sub-03</th>' in text
    mean = f'<p class="value">{100 * np.mean(VALUES):.1f} %</p>'
    assert mean in text, 'the headline is of the group'
    for fact in ('3 of 3', '81.2 % (sub-03)', '50.0 % (sub-01)'):
        assert f'<dd>{fact}</dd>' in text
    for value in VALUES:
        assert re.search(rf'>\s*{100 * value:.1f} %\s*</td>', text)
    assert 'sub-04: no &lt;b&gt;events&lt;/b&gt; found' in text
    assert '<script' not in text
    names = {path.name for path in (tmp_path / 'figures').glob('*.svg')}
    assert {'group_desc-tsnr_map.svg', 'group_desc-noiseceiling_map.svg'} <= names
    assert 'group_desc-scores_figure.svg' in names
    for anchor in ('summary', 'scores', 'maps', 'quality', 'warnings', 'methods', 'provenance'):
        assert f'id="{anchor}"' in text, anchor
    assert text.count('All settings of') >= 1, 'settings belong to what was done'
    assert 'high_pass = 0.008' in text
    assert 'Two trials start less than 8 s before the end of their run. (sub-01, sub-02' in text


@pytest.mark.slow
def test_pages_of_participants_and_group_link_to_each_other(
    group: list[ParticipantResults], tmp_path: Path
) -> None:
    bare = [replace(member, maps={}, predictions=None) for member in group[:2]]
    for member in bare:
        html = tmp_path / f'sub-{member.participant}.html'
        write_participant_report(member, html, tmp_path / 'figures')
    first = (tmp_path / 'sub-01.html').read_text('utf-8')
    assert 'group.html' not in first, 'no link to a page that is not there'
    write_group_report(bare, tmp_path / 'group.html', tmp_path / 'figures')
    link_pages(tmp_path)
    assert 'href="sub-01.html">sub-01</a>' in (tmp_path / 'group.html').read_text('utf-8')
    for label, other in (('01', '02'), ('02', '01')):
        text = (tmp_path / f'sub-{label}.html').read_text('utf-8')
        assert '<a href="group.html">group report</a>' in text
        assert f'<a href="sub-{other}.html">' in text
        assert f'<a href="sub-{label}.html">' not in text
    # the page that is regenerated is the page that was linked
    linked = (tmp_path / 'sub-01.html').read_bytes()
    write_participant_report(bare[0], tmp_path / 'sub-01.html', tmp_path / 'figures')
    assert (tmp_path / 'sub-01.html').read_bytes() == linked
    # with several tasks, the page of this one and not that of the first
    (tmp_path / f'sub-01_task-{bare[0].task}.html').touch()
    write_group_report(bare, tmp_path / 'group.html', tmp_path / 'figures')
    own = f'href="sub-01_task-{bare[0].task}.html">sub-01</a>'
    assert own in (tmp_path / 'group.html').read_text('utf-8')


@pytest.mark.parametrize(('n', 'tested'), [(3, False), (7, True)])
def test_means_are_a_table_of_metrics_whose_units_are_participants(n: int, tested: bool) -> None:
    rng = np.random.default_rng(0)
    values = 0.6 + 0.02 * rng.normal(size=n)
    base = (
        dict.fromkeys(COLUMNS, 'n/a')
        | dict.fromkeys(NUMBERS, np.nan)
        | {
            'system': 'reconstruction',
            'metric': 'identification_2way',
            'space': 'x',
            'chance': 0.5,
            'ceiling': 0.9,
            'p': 0.01,
            'n_units': 40,
            'ci_low': 0.5,
            'ci_high': 0.7,
        }
    )
    rows = []
    for who, value in enumerate(values):
        named = base | {'participant': f'{who:02d}'}
        rows.append(named | {'model': 'ridge', 'value': value, 'difference': np.nan})
        compared = {'compared_model': 'ridge', 'compared_space': 'x', 'difference': 0.05}
        rows.append(named | {'model': 'baseline-nearest', 'value': value - 0.05, **compared})
    metrics = pd.DataFrame(rows)
    means = mean_metrics(metrics, compare_over_participants(metrics)).set_index('model')
    own, other = means.loc['ridge'], means.loc['baseline-nearest']
    assert own['value'] == pytest.approx(values.mean())
    assert (own['n'], own['units'], own['ceiling']) == (n, 'participants', pytest.approx(0.9))
    assert other['difference'] == pytest.approx(0.05)
    # intervals and tests of single participants are not those of the mean
    assert np.isfinite([own['ci_low'], own['p'], other['difference_p']]).all() == tested
    if tested:
        assert own['p'] == pytest.approx(2 / 2**n)


def test_stimuli_that_participants_share_are_shown(
    build: Callable[..., ParticipantResults], tmp_path: Path
) -> None:
    people = [
        replace(build(tmp_path / label), participant=label, maps={}) for label in ('01', '02')
    ]
    (found,) = group_gallery([Reader(person) for person in people])
    assert isinstance(found, Gallery)
    assert found.roles == ('Shown', 'sub-01', 'sub-02')
    assert len(found.columns) == sum(n for _, n in found.groups)
    assert all(picture.image is not None for column in found.columns for picture in column)
    # one of them was tested on one stimulus alone
    predictions = pd.read_csv(people[1].predictions, sep='\t')
    few = tmp_path / 'few.tsv'
    predictions[predictions['stimulus'] == 'cat.png'].to_csv(few, sep='\t', index=False)
    (found,) = group_gallery([Reader(people[0]), Reader(replace(people[1], predictions=few))])
    assert isinstance(found, Gallery)
    missing = [column[2].missing for column in found.columns if column[2].image is None]
    assert set(missing) == {'not held out'}


@pytest.mark.slow
def test_same_group_gives_the_same_bytes(group: list[ParticipantResults], tmp_path: Path) -> None:
    group = [replace(member, maps={'tsnr': member.maps['tsnr']}) for member in group[:2]]
    pages = []
    for name in 'ab':
        (tmp_path / name).mkdir()
        write_group_report(group, tmp_path / name / 'g.html', tmp_path / name / 'figures')
        pages.append((tmp_path / name / 'g.html').read_bytes())
    assert pages[0] == pages[1]


def test_one_participant_has_no_interval(group: list[ParticipantResults], tmp_path: Path) -> None:
    write_group_report(group[:1], tmp_path / 'g.html', tmp_path / 'figures')
    text = (tmp_path / 'g.html').read_text('utf-8')
    assert '1 participant with results' in text
    assert '95 % interval 5' not in text
    assert 'Mean maps' not in text


def test_nobody_left(tmp_path: Path) -> None:
    write_group_report([], tmp_path / 'g.html', tmp_path / 'figures', failures={'01': 'no events'})
    text = (tmp_path / 'g.html').read_text('utf-8')
    assert '0 participants with results, 1 without.' in text
    assert 'sub-01: no events' in text


def test_metrics_are_gathered_with_their_participant(group: list[ParticipantResults]) -> None:
    table = gather_metrics([Reader(member) for member in group])
    assert table.groupby('participant').size().to_dict() == {'01': 4, '02': 4, '03': 4}


@pytest.mark.parametrize(
    ('values', 'tone', 'says'),
    [
        ([0.6, 0.62, 0.58, 0.66, 0.61, 0.6, 0.64], 'good', 'which is better than chance'),
        ([0.4, 0.38, 0.42, 0.34, 0.39, 0.4, 0.36], 'bad', 'which is worse than chance'),
        ([0.4, 0.62, 0.48, 0.5, 0.6, 0.42, 0.51], 'caution', 'cannot be told from chance'),
        ([0.6, 0.62, 0.58, 0.66, 0.61], 'info', 'not tested: 5 participants, 6 are needed'),
    ],
)
def test_the_group_is_judged_over_participants(tmp_path, values, tone, says) -> None:
    people = [
        Score(
            system='reconstruction',
            model='ridge',
            protocol='hold-out',
            split='test',
            space='single-trial',
            metric='identification_2way',
            value=value,
            n=40,
            chance=0.5,
            p=0.001,
        )
        for value in values
    ]
    scores_table(people).to_csv(tmp_path / 'm.tsv', sep='\t', index=False, na_rep='n/a')
    found = group_verdict(scores.read_metrics(tmp_path / 'm.tsv'))
    assert found.tone == tone
    assert found.text.startswith('Mean over participants. ')
    assert says in found.text
    assert f'{100 * np.mean(values):.1f} % against a chance level of 50.0 %' in found.text


def test_final_images_are_judged_over_participants(tmp_path) -> None:
    rows = [
        Score(
            system='reconstruction', model=model, protocol='hold-out', split='test',
            space='final', metric=metric, value=0.7 + participant / 100, n=40, chance=0.5, p=0.01,
        )
        for participant in range(7)
        for model in ('ridge', 'baseline-mean-image')
        for metric in ('pixel_2way', 'efficientnet_lite2_2way', 'identification_2way', 'pixcorr')
    ]  # fmt: skip
    scores_table(rows).to_csv(tmp_path / 'm.tsv', sep='\t', index=False, na_rep='n/a')
    found = verdicts_of_group_images(scores.read_metrics(tmp_path / 'm.tsv'))
    assert [verdict.tone for verdict in found] == ['good', 'good']
    for verdict in found:
        assert verdict.text.startswith('Final reconstructions. Mean over participants. ')
        assert '73.0 % against a chance level of 50.0 %' in verdict.text


BOUNDED = [
    name for name, metric in METRICS.items() if np.isfinite([metric.low, metric.high]).any()
]


@pytest.mark.parametrize('metric', BOUNDED)
def test_intervals_over_participants_stay_within_what_is_possible(metric: str) -> None:
    """Of every system's metrics, at either end."""
    values = np.array([0.99, 0.97, 1.0, 0.98, 1.0, 0.7])
    below, above = stats.t.interval(0.95, 5, np.mean(values), stats.sem(values))
    assert above > 1
    low, high = METRICS[metric].low, METRICS[metric].high
    ends = [(end, sign) for end, sign in ((low, -1.0), (high, 1.0)) if np.isfinite(end)]
    for end, sign in ends:
        known = {'metric': metric, 'value': end + sign * (values - 1), 'chance': 0.5, 'p': 1}
        rows = dict.fromkeys(NUMBERS, np.nan) | known | {'units': 'n/a', 'test': 'n/a'}
        found = mean_score(pd.DataFrame(rows))
        inner, outer = (found.low, found.high) if sign > 0 else (found.high, found.low)
        assert outer == pytest.approx(end)
        assert sign * inner <= sign * (end + sign * (below - 1)) + 1e-9
        few = mean_score(pd.DataFrame(rows).iloc[:5])
        assert np.isnan([few.low, few.high]).all()


@pytest.mark.parametrize(
    ('system', 'space', 'metric'),
    [
        ('reconstruction', 'single-trial', 'identification_top1'),
        ('movie', 'voxels', 'voxel_r_median'),
        ('movie', 'frames', 'frame_ssim'),
        ('encoding', 'repeat-average/LH_EarlyVisual', 'voxel_r_median'),
        ('conditions', 'single-trial', 'balanced_accuracy'),
    ],
)
def test_each_of_few_participants_is_shown_and_six_have_an_interval(
    tmp_path: Path, system: str, space: str, metric: str
) -> None:
    values = [0.21, 0.32, 0.43, 0.54, 0.95, 0.99]
    people = [Score(system, 'ridge', 'p', 'test', space, metric, value, 9) for value in values]
    scores_table(people).to_csv(tmp_path / 'm.tsv', sep='\t', index=False, na_rep='n/a')
    table = scores.read_metrics(tmp_path / 'm.tsv')
    table = table.assign(participant=[f'{k:02d}' for k in range(6)])
    few, enough = _mean_table(table.iloc[:5]), _mean_table(table)
    assert [f'sub-{k:02d}' for k in range(5)] == [c for c in few.columns if c.startswith('sub-')]
    assert '95 % interval' not in few.columns
    start = few.columns.index('sub-00')
    written = [METRICS[metric].write(value) for value in values]
    assert few.rows[0][start : start + 5] == tuple(written[:5])
    assert 'sub-00' not in enough.columns
    low, high = (
        float(text.removesuffix(' %')) / METRICS[metric].scale
        for text in enough.rows[0][enough.columns.index('95 % interval')].split(' to ')
    )
    assert METRICS[metric].low <= low < np.mean(values) < high <= METRICS[metric].high


def test_mean_score_counts_only_the_better_side() -> None:
    values = np.array([0.5, 1.5, 2.0, 0.8])
    known = {
        'metric': 'latent_mse',
        'value': values,
        'chance': 1.0,
        'p': [0.01, 0.01, 0.5, 0.01],
        'ci_low': values - 0.3,
        'ci_high': values + 0.3,
        'units': 'n/a',
        'test': 'n/a',
    }
    found = mean_score(rows := pd.DataFrame(dict.fromkeys(NUMBERS, np.nan) | known))
    # of the last the interval includes chance
    assert (found.n_significant, found.n_tested) == (1, 4)
    assert found.mean == pytest.approx(1.2)
    assert np.isnan(mean_score(rows.iloc[:1]).low)


def test_mean_map_is_the_mean_where_all_have_voxels(
    build: Callable[..., ParticipantResults], tmp_path: Path
) -> None:
    members = []
    for name, value in (('a', 2.0), ('b', 4.0)):
        member = build(tmp_path / name)
        image = nib.load(member.maps['tsnr'])
        volume = np.full(image.shape, value, dtype=np.float32)
        path = tmp_path / f'{name}.nii.gz'
        nib.Nifti1Image(volume, image.affine).to_filename(path)
        members.append(replace(member, maps={'tsnr': path}))
    found = mean_map(members, 'tsnr')
    assert found is not None
    mean, mask = (np.asarray(image.dataobj) for image in found)
    assert np.unique(mean[mask > 0]).tolist() == [3.0]
    assert mask.sum() == members[0].voxels.n_mask  # type: ignore[union-attr]


def test_other_grids_have_no_mean(
    build: Callable[..., ParticipantResults], tmp_path: Path
) -> None:
    first = build(tmp_path / 'a')
    image = nib.load(first.maps['tsnr'])
    moved = image.affine.copy()
    moved[0, 3] += 5
    path = tmp_path / 'moved.nii.gz'
    nib.Nifti1Image(np.asarray(image.dataobj), moved).to_filename(path)
    second = replace(first, maps={'tsnr': path})
    assert mean_map([first, second], 'tsnr') is None


@pytest.mark.parametrize(('n', 'tested'), [(4, False), (7, True)])
def test_models_are_compared_over_participants(n: int, tested: bool) -> None:
    from bids_neurodecode.evaluation.metrics import COLUMNS
    from bids_neurodecode.levels.group_scores import compare_over_participants

    rng = np.random.default_rng(0)
    base = (
        dict.fromkeys(COLUMNS, 'n/a')
        | dict.fromkeys(NUMBERS, np.nan)
        | {
            'system': 'reconstruction',
            'metric': 'pixcorr',
            'space': 'final',
        }
    )
    rows = []
    for who in range(n):
        own, other = 0.5 + 0.01 * rng.normal(), 0.3 + 0.01 * rng.normal()
        named = base | {'participant': f'{who:02d}'}
        rows.append(named | {'model': 'gru', 'value': own, 'difference': np.nan})
        compared = {'compared_model': 'gru', 'compared_space': 'final', 'difference': 0.1}
        rows.append(named | {'model': 'baseline-nearest', 'value': other, **compared})
    # what each participant's own table says of its stimuli is nothing about participants
    of_stimuli = {'p': 0.001, 'ci_low': 0.2, 'ci_high': 0.6, 'test': 'labels'}
    of_stimuli |= {'difference_low': 0.05, 'difference_high': 0.15, 'difference_p': 0.002}
    found = compare_over_participants(pd.DataFrame([each | of_stimuli for each in rows]))
    row = found[found['difference'].notna()].iloc[0]
    (own,) = found[found['model'] == 'gru'].to_dict('records')
    differences = [own[name] for name in own if name.startswith('difference')]
    assert np.isnan(differences).all()
    assert own['value'] == pytest.approx(0.5, abs=0.02)
    assert row['value'] == pytest.approx(0.3, abs=0.02)
    for mean in (row, own):
        assert np.isfinite([mean['ci_low'], mean['ci_high']]).all() == tested
        assert mean['ci_low'] != 0.2
        assert mean['p'] != 0.001
    assert row['difference'] == pytest.approx(0.2, abs=0.02)
    assert (row['n_units'], row['units']) == (n, 'participants')
    assert np.isfinite(row['difference_p']) == tested


def test_pixel_scores_of_the_group_bear_their_image_size(tmp_path) -> None:
    people = [
        Score('reconstruction', 'ridge', 'p', 'test', 'images', 'ssim_2d', value, 9, image_size=64)
        for value in (0.1, 0.2)
    ]
    scores_table(people).to_csv(tmp_path / 'm.tsv', sep='\t', index=False, na_rep='n/a')
    table = scores.read_metrics(tmp_path / 'm.tsv').assign(participant=['01', '02'])
    (row,) = _mean_table(table).rows
    assert row[2] == 'SSIM at 64 x 64 pixels'


def test_stimuli_that_most_participants_have_are_shown() -> None:
    """Of 3 participants none shares a stimulus with all: those of two come before those of one."""
    image = _Image(Path('x.png'), 0.5)
    pairs = [{'a', 'b', 'c', 'd'}, {'c', 'd', 'e', 'f'}, {'a', 'b', 'e', 'f'}]
    found = [dict.fromkeys((*names, f'alone{n}'), image) for n, names in enumerate(pairs)]
    shown = [name for _, names in _choose(found) for name in names]
    assert sorted(shown) == ['a', 'b', 'c', 'd', 'e', 'f']
    ((title, drawn),) = _choose(found, ranked=False)
    assert title == 'Drawn at random'
    assert sorted(drawn) == ['a', 'b', 'c', 'd', 'e', 'f']
