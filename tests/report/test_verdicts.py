"""Verdicts claim what p value and interval agree on, and say what is worse as plainly."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.evaluation.metrics import METRICS, Score, scores_table
from bids_neurodecode.levels.headlines import _lines
from bids_neurodecode.report import scores
from bids_neurodecode.report.pagehead import OF_FEATURES, PIXELS_ALONE, make_headline
from bids_neurodecode.report.provisos import motion_verdict, split_verdict, voxel_verdict
from bids_neurodecode.report.quality import RunMotion
from bids_neurodecode.report.results import SplitResults, VoxelResults
from bids_neurodecode.report.section_scores import (
    _interval,
    comparison_table,
    metrics_table,
    tables_guide,
)
from bids_neurodecode.report.verdicts import (
    BETTER,
    DECODED,
    DISAGREE_SHORT,
    FINAL,
    INCLUDES,
    NEITHER,
    WHY_LATENTS,
    difference_verdict,
    differences,
    score_verdict,
    verdicts_of,
    verdicts_of_page,
    worse_verdicts,
)


def table(tmp_path, *rows):
    """Return rows as the page reads them."""
    base = {
        'system': 'reconstruction',
        'model': 'ridge',
        'protocol': 'hold-out',
        'split': 'test',
        'space': 'final',
        'metric': 'identification_2way',
        'value': 0.534,
        'chance': 0.5,
        'n': 20,
        'n_units': 20,
        'units': 'stimuli',
    }
    file = tmp_path / 'metrics.tsv'
    scores_table([Score(**(base | row)) for row in rows]).to_csv(
        file, sep='\t', index=False, na_rep='n/a'
    )
    return scores.read_metrics(file)


def compared(**row):
    return {
        'model': 'baseline-mean-image',
        'compared_model': 'ridge',
        'compared_space': 'final',
        **row,
    }


@pytest.mark.parametrize(
    ('low', 'high', 'p', 'tone', 'says', 'short'),
    [
        (0.41, 0.67, 0.001, 'info', 'the interval includes chance', INCLUDES),
        (0.51, 0.67, 0.2, 'info', 'p and interval disagree', DISAGREE_SHORT),
        (0.51, 0.67, 0.001, 'good', 'chance (95 % interval 51.0 % to 67.0 %, p =', BETTER),
        (0.41, 0.67, 0.2, 'caution', 'cannot be told from chance', NEITHER),
        (0.41, 0.67, None, 'info', 'there is no p value', 'not tested'),
        (None, None, 0.001, 'info', 'no interval stands beside it', 'no interval: no claim'),
        (0.51, 0.67, None, 'info', 'no p value stands beside it', 'no p value: no claim'),
    ],
)
def test_good_only_where_p_and_interval_agree(tmp_path, low, high, p, tone, says, short):
    row = table(tmp_path, {'ci_low': low, 'ci_high': high, 'p': p}).iloc[0]
    verdict = score_verdict(row)
    assert verdict.tone == tone
    assert says in verdict.text
    assert verdict.short == dict(make_headline(row, 0.95, 1).facts)['shows'] == short


@pytest.mark.parametrize(
    ('test', 'units', 'says'),
    [
        ('labels', 'stimuli', 'held-out labels permuted within folds, models as fitted'),
        ('labels', 'runs', 'held-out labels permuted within runs, models as fitted'),
        ('refit', 'runs', 'all labels permuted, models refitted'),
    ],
)
def test_a_p_value_says_what_it_is_of(tmp_path, test, units, says):
    told = {'ci_low': 0.51, 'ci_high': 0.67, 'p': 0.001, 'test': test, 'units': units}
    row = table(tmp_path, told).iloc[0]
    assert f'p = 0.001: {says})' in score_verdict(row).text
    assert dict(make_headline(row, 0.95, 1).facts)[f'p ({says})'] == '0.001'
    assert f'p: {says}.' in metrics_table(table(tmp_path, told)).caption


def test_a_score_without_a_ceiling_says_why(tmp_path):
    decoded = {'metric': 'identification_2way'}
    encoded = {'metric': 'voxel_r_median', 'system': 'encoding'}
    film = {'metric': 'voxel_r_median', 'system': 'movie'}
    rows = [row for _, row in table(tmp_path, decoded, encoded, film).iterrows()]
    said = [scores.no_ceiling(row) for row in rows]
    assert [text.split()[-1] for text in said] == ['them', 'stimuli', 'films']
    for row, text in zip(rows, said, strict=True):
        # the headline names it; why is said once, above the tables
        assert dict(make_headline(row, 0.95, 1).facts)['ceiling'] == text.split(':')[0]
        assert text in tables_guide(pd.DataFrame([row])).paragraphs[0]
    known = table(tmp_path, encoded | {'ceiling': 0.6}).iloc[0]
    assert dict(make_headline(known, 0.95, 1).facts)['noise ceiling'] == '0.600'


def test_latents_that_are_worse_than_the_mean_say_why(tmp_path):
    latents = {'metric': 'latent_mse', 'space': 'latents'}
    worse = {'difference_low': 0.005, 'difference_high': 0.015, 'difference_p': 0.002}
    shuffled = compared(value=0.027, difference=0.01, **worse) | latents
    metrics = table(
        tmp_path,
        latents | {'value': 0.037},
        shuffled | {'compared_space': 'latents'},
        shuffled | {'model': 'baseline-shuffled', 'compared_space': 'latents'},
    )
    (line,) = worse_verdicts(metrics)
    assert (line.tone, line.details[-1]) == ('bad', WHY_LATENTS)
    # what it says of errors is so: the spread is given back to predictions that correlate by r
    rng = np.random.default_rng(0)
    true = rng.normal(size=200_000)
    for r in (0.3, 0.7):
        scaled = r * true + np.sqrt(1 - r**2) * rng.normal(size=true.size)
        error = np.mean((scaled - true) ** 2)
        assert error == pytest.approx(2 * (1 - r), abs=0.02)
        assert (error > np.var(true)) == (r < 0.5)


def test_below_chance_is_said(tmp_path):
    row = table(tmp_path, {'value': 0.3, 'ci_low': 0.2, 'ci_high': 0.4, 'p': 0.99}).iloc[0]
    assert score_verdict(row).tone == 'bad'
    assert 'worse than chance' in score_verdict(row).text
    # as above it, an interval alone is no claim
    for low, high in ((0.2, 0.4), (0.6, 0.8)):
        untested = {'value': (low + high) / 2, 'ci_low': low, 'ci_high': high, 'p': np.nan}
        found = score_verdict(table(tmp_path, untested).iloc[0])
        assert (found.tone, found.short) == ('info', 'no p value: no claim')


def test_lower_is_better_turns_the_sides(tmp_path):
    error = {'metric': 'latent_mse', 'space': 'latents', 'value': 0.0358, 'chance': 0.0544}
    row = table(tmp_path, error | {'ci_low': 0.033, 'ci_high': 0.0388, 'p': 0.001}).iloc[0]
    assert score_verdict(row).tone == 'good'


def test_a_correlation_of_nothing_is_no_success(tmp_path):
    """Chance of a comparison can be negative: what is above it may still be no relation."""
    base = {'metric': 'brain_correlation', 'chance': -0.15, 'p': 0.001}
    none, some = (
        table(tmp_path, {**base, 'value': value, 'ci_low': value - 0.09, 'ci_high': value + 0.09})
        for value in (-0.004, 0.2)
    )
    assert score_verdict(none.iloc[0]).tone == 'caution'
    assert 'not above 0' in score_verdict(none.iloc[0]).text
    assert score_verdict(some.iloc[0]).tone == 'good'


def test_few_units_are_not_tested(tmp_path):
    few = {'n_units': 4, 'units': 'runs'}
    metrics = table(tmp_path, few, compared(value=0.49, difference=0.034, **few))
    first, second = verdicts_of(metrics, metrics.iloc[0])
    assert 'not tested: 4 runs, 6 are needed' in first.text
    assert 'not tested: 4 runs, 6 are needed' in second.text
    assert {first.tone, second.tone} == {'info'}


@pytest.mark.parametrize(
    ('difference', 'low', 'high', 'p', 'tone', 'says'),
    [
        (0.034, -0.1, 0.16, 0.6, 'info', 'no difference shown from the baseline "mean-image"'),
        (0.034, 0.01, 0.06, 0.01, 'good', 'better than the baseline "mean-image"'),
        (-0.034, -0.06, -0.01, 0.01, 'bad', 'worse than the baseline "mean-image"'),
        (0.034, 0.01, 0.06, 0.08, 'info', 'p and interval disagree'),
    ],
)
def test_baselines_are_compared_not_subtracted(tmp_path, difference, low, high, p, tone, says):
    metrics = table(
        tmp_path,
        {'ci_low': 0.41, 'ci_high': 0.67, 'p': 0.2},
        compared(
            value=0.49, difference=difference, difference_low=low, difference_high=high,
            difference_p=p,
        ),
    )  # fmt: skip
    verdict = verdicts_of(metrics, metrics.iloc[0])[1]
    assert verdict.tone == tone
    assert says in verdict.text
    assert f'{100 * difference:+.1f} points' in verdict.text
    assert '20 stimuli' in verdict.text
    assert len(comparison_table(metrics, metrics).rows) == 1


def test_one_image_for_all_is_chance_and_not_compared_again(tmp_path):
    """A second test of the same would say other things than that against chance."""
    tested = {'difference_low': 0.01, 'difference_high': 0.06, 'difference_p': 0.01}
    metrics = table(
        tmp_path,
        {'ci_low': 0.49, 'ci_high': 0.67, 'p': 0.01},
        compared(value=0.5, difference=0.034, **tested),
        compared(model='baseline-nearest', value=0.5, difference=0.034, **tested),
    )
    alone, other = (difference_verdict(metrics, metrics.iloc[k]) for k in (1, 2))
    assert (alone.tone, alone.short) == ('info', 'is chance')
    assert alone.text.endswith('the test against chance is that comparison.')
    assert other.short == 'model better'


def test_what_is_worse_elsewhere_stands_in_the_summary(tmp_path):
    ssim = {'metric': 'ssim_2d', 'space': 'images', 'image_size': 64}
    tested = {'difference_low': -0.11, 'difference_high': -0.05, 'difference_p': 0.001}
    stage = {'metric': 'pixcorr', 'compared_model': 'ridge', 'compared_space': 'final'}
    metrics = table(
        tmp_path,
        {},
        ssim | {'value': 0.115},
        compared(value=0.196, difference=-0.081, **tested) | ssim | {'compared_space': 'images'},
        {'metric': 'pixcorr', 'value': 0.286},
        {'space': 'initial', 'value': 0.353, 'difference': -0.067, **stage, **tested},
    )
    found = worse_verdicts(metrics, shown=[metrics.iloc[0]])
    stages, line = found
    assert stages.text == (
        'The second stage (final images) is worse than the first stage (initial images) in 1 of 1 '
        'metrics: Pixel correlation (0.286 against 0.353).'
    )
    assert stages.tone == line.tone == 'bad'
    assert line.text.startswith('Worse in 2 of 2 comparisons with baselines')
    assert '(by p and interval; better in 0)' in line.text
    # so few are named at once
    assert not line.details
    assert line.text.endswith(
        ': than the baseline "mean-image" (ridge, images): SSIM (0.115 against '
        '0.196); than the first stage (initial images) (ridge + generator, final): Pixel '
        'correlation (0.286 against 0.353).'
    )
    others = [f'baseline-{name}' for name in 'abcd']
    many = [
        compared(value=0.196, difference=-0.081, **tested) | ssim
        | {'compared_space': 'images', 'model': name}
        for name in others
    ]  # fmt: skip
    (line,) = worse_verdicts(table(tmp_path, ssim | {'value': 0.115}, *many))
    assert line.text.endswith('better in 0).')
    assert line.details[0] == (
        'Than the baseline "a" (ridge, images): SSIM (0.115 against 0.196).'
    )
    assert len(line.details) == len(others)


def test_old_tables_without_comparisons_are_read(tmp_path):
    file = tmp_path / 'old.tsv'
    pd.DataFrame(
        {'model': ['ridge', 'baseline-nearest'], 'metric': 'pixcorr', 'value': [0.3, 0.2]}
    ).to_csv(file, sep='\t', index=False)
    metrics = scores.read_metrics(file)
    assert math.isnan(metrics['difference'].iloc[0])
    texts = [v.text for v in verdicts_of(metrics, metrics.iloc[0])]
    assert 'it was not compared unit by unit' in texts[1]


def test_every_metric_is_written_in_one_unit():
    for name, metric in METRICS.items():
        assert ('%' in metric.write(0.5)) == ('(%)' in metric.label) == metric.share, name
        assert ('points' in metric.write_difference(0.1)) == metric.share, name
        assert metric.low < metric.high
    assert METRICS['identification_top1'].clip(-0.2) == 0.0
    assert METRICS['ssim_2d'].by_pixels


def test_no_bar_of_a_null_of_a_share_lies_below_zero():
    figure = scores.plot_null(pd.Series([0.0, 0.0, 0.25, 0.5]).to_numpy(), 0.5, 'pixel_top1')
    assert min(bar.get_x() for bar in figure.axes[0].patches) >= 0


def test_two_sizes_have_a_panel_each(tmp_path):
    ssim = {'metric': 'ssim_2d', 'value': 0.2, 'chance': None}
    metrics = table(tmp_path, ssim | {'image_size': 64}, ssim | {'image_size': 425})
    titles = [axis.get_title(loc='left') for axis in scores.plot_scores(metrics).axes]
    assert titles == ['SSIM at 64 x 64 pixels', 'SSIM at 425 x 425 pixels']


def test_the_baseline_of_another_model_is_no_uncompared_one(tmp_path):
    metrics = table(
        tmp_path,
        {'model': 'banded'},
        compared(value=0.5, difference=0.03, compared_model='banded'),
        compared(value=0.5, difference=0.02, compared_model='ridge'),
    )
    texts = [v.text for v in verdicts_of(metrics, metrics.iloc[0])]
    assert len(texts) == 2
    assert not any('not compared' in text for text in texts)


def test_another_model_that_is_better_is_named_though_it_was_not_compared(tmp_path):
    """A network at chance stands beside the ridge regression that is not."""
    same = {'metric': 'voxel_r_median', 'chance': 0}
    metrics = table(
        tmp_path,
        same | {'model': 'network', 'value': 0.007},
        same | {'model': 'ridge', 'value': 0.655},
        same | {'model': 'reference-truth', 'value': 1.0},
    )
    _, beside = verdicts_of(metrics, metrics.iloc[0])
    assert beside.text == (
        'The model "ridge" scores 0.655, better than network (0.007); it was not compared unit by '
        'unit.'
    )
    assert beside.tone == 'caution'
    _, beside = verdicts_of(metrics, metrics.iloc[1])
    assert beside.text == 'The model "network" scores 0.007; it was not compared unit by unit.'
    assert beside.tone == 'info'


@pytest.mark.parametrize(
    ('by', 'protocol', 'crosses', 'tone', 'says'),
    [
        ('imagery', 'imagery', True, 'caution', 'Same images, seen in training'),
        ('cluster', '5-fold-by-cluster', False, 'good', 'Out of distribution: whole clusters'),
        ('category', 'hold-out-by-category', False, 'good', 'whole categories of images'),
        ('given', 'ood', False, 'info', 'the given split ood is out of distribution'),
        ('given', 'cluster_k5_0', False, 'info', 'cluster_k5_0 is out of distribution'),
        ('given', 'wood', False, 'good', 'No stimulus occurs in both'),
        ('stimulus', '5-fold-by-stimulus', False, 'good', 'never seen in training'),
        ('run', 'leave-one-out-by-run', True, 'caution', 'Whole runs were held out'),
    ],
)
def test_what_is_held_out_is_said(build, tmp_path, by, protocol, crosses, tone, says):
    split = SplitResults(by, protocol, 1, repeats_cross=crosses)
    results = replace(build(tmp_path), split=split)
    verdict = split_verdict(results)
    assert verdict.tone == tone
    assert says in verdict.text


@pytest.mark.parametrize(
    ('by', 'why', 'tone', 'says'),
    [
        ('time', 'split in time: the last 30% of every film, after 6 s', 'caution', 'The rest of'),
        ('time', '', 'caution', 'Parts of every film were held out. The rest of the same films'),
        ('given', '', 'info', 'as the split was given'),
        ('film', '', 'good', 'Whole films were held out'),
    ],
)
def test_films_whose_other_parts_train_are_not_called_unseen(build, tmp_path, by, why, tone, says):
    split = SplitResults(by, f'hold-out-by-{by}', 1, repeats_cross=False, why=why)
    verdict = split_verdict(replace(build(tmp_path), split=split, paradigm='movie'))
    assert verdict.tone == tone
    assert says in verdict.text
    assert 'No stimulus occurs' not in verdict.text
    if by == 'time':
        assert 'drift, arousal' in verdict.text
        assert verdict.text.startswith(f'{why[:1].upper()}{why[1:]}')


def test_the_list_of_worse_scores_begins_with_the_model_that_was_not_compared(tmp_path):
    """Ridge in the same voxels is the largest failure of a network, though nothing tested it."""
    film = {'system': 'movie', 'metric': 'voxel_r_median', 'chance': 0, 'space': 'voxels'}
    frames = {'system': 'movie', 'metric': 'frame_ssim', 'space': 'frames', 'n_units': 2}
    metrics = table(
        tmp_path,
        film | {'model': 'network', 'value': 0.007},
        film | {'model': 'ridge', 'value': 0.655},
        film | {'model': 'baseline-shuffled', 'value': 0.001},
        frames | {'model': 'network', 'value': 0.109},
        frames
        | {'model': 'baseline-mean-image', 'value': 0.115, 'difference': -0.006}
        | {'compared_model': 'network', 'compared_space': 'frames'},
    )
    (line,) = worse_verdicts(metrics, shown=[metrics.iloc[0]])
    assert 'in 1 of 1 comparisons' in line.text
    assert 'and than 1 other, not compared unit by unit: than the model "ridge"' in line.text
    assert '(0.007 against 0.655)' in line.text
    assert 'shuffled' not in line.text
    (alone,) = worse_verdicts(metrics)
    assert 'ridge' not in alone.text


def test_voxels_of_scores_and_of_the_final_model_are_both_said(build, tmp_path):
    results = replace(build(tmp_path), voxels=VoxelResults(2566, 561, 'repeats agree', (520, 527)))
    text = voxel_verdict(results).text
    assert text.startswith('Scores use 520 to 527 voxels, selected on the training samples')
    assert '561 of 2566 voxels of the mask (21.9 %), selected on all samples' in text
    alone = voxel_verdict(replace(results, voxels=VoxelResults(90, 9, 'the regions')))
    assert alone.text == '9 of 90 voxels of the mask (10.0 %): the regions.'


def test_images_are_headed_by_scores_of_images(tmp_path):
    """What decides the images does not judge them: even from the truth they may fail it."""
    sure = {'ci_low': 0.6, 'ci_high': 0.8, 'p': 0.001, 'value': 0.7}
    metrics = table(
        tmp_path,
        {'space': 'single-trial', 'metric': 'identification_top1', 'chance': 0.05, **sure},
        {**sure, 'value': 0.5},
        {'metric': 'pixel_2way', **sure},
        {'metric': 'mobilenetv2_2way', **sure},
        {'metric': 'mobilenetv2_2way', 'model': 'baseline-shuffled', **sure},
        {'metric': 'pixcorr', **sure},
    )
    found = scores.of_final_images(metrics)
    assert found['metric'].tolist() == ['mobilenetv2_2way', 'pixel_2way']
    # a network that is kin of what guided the images is no judge
    guided = scores.of_final_images(metrics, ['gabor', 'mobilenetv2'])
    assert guided['metric'].tolist() == ['pixel_2way', 'mobilenetv2_2way']
    images = pd.DataFrame(columns=['pixcorr_final', 'pixel_two_way', 'mobilenetv2_two_way'])
    assert scores.ranked_by(images, metrics) == 'mobilenetv2_2way', 'as the page is headed'
    assert scores.ranked_by(images, metrics, ['mobilenetv2']) == 'pixel_2way'
    assert scores.ranked_by(images[['pixcorr_final']], metrics) == 'pixcorr'
    lines = _lines(metrics, lambda row: f'{row["space"]} {row["metric"]}')
    assert lines == (
        FINAL.format(text='final mobilenetv2_2way'),
        FINAL.format(text='final pixel_2way'),
        DECODED.format(text='single-trial identification_top1'),
    )
    head = scores.page_headline(metrics)
    assert (head['space'], head['metric']) == ('final', 'mobilenetv2_2way')
    first, *more = verdicts_of_page(metrics, 0.95)
    assert first.text.startswith('Final reconstructions. Identification by MobileNetV2, two-way')
    (decoded,) = (line for line in more if line.text.startswith('Decoded features. '))
    assert decoded.text.startswith('Decoded features. Identification')
    retrieval = metrics[metrics['space'] == 'single-trial']
    assert scores.page_headline(retrieval)['metric'] == 'identification_top1'
    assert OF_FEATURES in make_headline(metrics.iloc[0], 0.95, 1).label
    assert OF_FEATURES not in make_headline(metrics.iloc[2], 0.95, 1).label


@pytest.mark.parametrize(
    ('network', 'pixels', 'says'),
    [
        (0.01, 0.01, 'Images are told apart by their reconstructions'),
        (0.2, 0.01, 'Colours and layout are recovered; shapes and objects are not shown to be.'),
        (0.01, 0.2, 'What a network sees in images is recovered in part'),
        (0.2, 0.2, 'No image is shown to be recovered'),
    ],
)
def test_the_headline_says_whether_images_are_recovered(tmp_path, network, pixels, says):
    def row(metric: str, gap: float, p: float) -> dict[str, object]:
        low = 0.6 if p < 0.05 else 0.4
        return {'metric': metric, 'value': 0.7 + gap, 'ci_low': low, 'ci_high': 0.9, 'p': p}

    metrics = table(
        tmp_path, row('pixel_2way', 0.1, pixels), row('efficientnet_lite2_2way', 0, network)
    )
    head = scores.page_headline(metrics)
    found = make_headline(head, 0.95, 1, metrics=metrics)
    assert found.value == '70.0 %'
    assert found.label.startswith(says)
    assert 'in 70.0 % of pairs by EfficientNet-Lite2 (' in found.label
    assert ' and in 80.0 % of pairs by pixels (' in found.label
    # tests that were seen in training recover nothing
    leaked = make_headline(head, 0.95, 1, sure=False, metrics=metrics)
    assert leaked.label.startswith('Final reconstructions are told')
    assert 'better' not in leaked.label
    alone = make_headline(metrics.iloc[0], 0.95, 1, metrics=metrics)
    assert alone.label.endswith(PIXELS_ALONE)


def test_pages_of_encoding_models_are_headed_by_what_these_predict(tmp_path):
    own = {'system': 'encoding', 'space': 'single-trial', 'ci_low': 0.6, 'ci_high': 0.9, 'p': 0.01}
    metrics = table(
        tmp_path,
        own | {'metric': 'voxel_r_mean', 'space': 'single-trial/V1', 'value': 0.9, 'chance': 0},
        own | {'metric': 'identification_top1', 'value': 0.8},
        own | {'metric': 'voxel_r_mean', 'value': 0.7, 'chance': 0},
    )
    assert scores.headline(metrics)['value'] == 0.7
    first, told, *_ = verdicts_of_page(metrics, 0.95)
    assert first.text.startswith('Voxel-wise correlation (mean): 0.700')
    assert told.text.startswith('Identification by predicted responses, among all candidates: 80')


def test_baselines_that_come_out_alike_are_one_line(tmp_path):
    clear = {'value': 0.3, 'difference': 0.23, 'difference_low': 0.1, 'difference_high': 0.4}
    others = [compared(**clear, difference_p=0.002) | {'model': f'baseline-{x}'} for x in 'ab']
    metrics = table(tmp_path, {}, *others)
    (line,) = differences(metrics, metrics.iloc[1:])
    assert line.text.endswith('53.4 %, better than the baselines "a" (30.0 %), "b" (30.0 %).')
    assert (line.tone, len(line.details)) == ('good', 2)
    assert 'difference +23.0 points' in line.details[1]


def test_better_than_chance_and_worse_than_a_baseline_stand_together(tmp_path):
    good = {'ci_low': 0.51, 'ci_high': 0.67, 'p': 0.001}
    worse = {'difference_low': -0.2, 'difference_high': -0.1, 'difference_p': 0.002}
    metrics = table(tmp_path, good, compared(value=0.7, difference=-0.16, **worse))
    shows = metrics_table(metrics).rows[0][-1]
    assert shows == 'better than chance, and worse than mean image'


def test_chance_that_depends_on_images_and_wide_intervals_are_explained(tmp_path):
    own = {'metric': 'ssim_2d', 'ci_low': 0.4, 'ci_high': 0.6}
    said = ' '.join(tables_guide(table(tmp_path, own)).paragraphs)
    assert 'Chance of SSIM is what the same images score beside the true images of other' in said
    assert 'Where the two disagree nothing is claimed' in said
    alone = ' '.join(
        tables_guide(table(tmp_path, own | {'ci_low': None, 'ci_high': None})).paragraphs
    )
    assert 'Chance of SSIM is what' in alone
    assert 'p is for these images alone' not in alone
    final = {'space': 'final'}
    rows = table(tmp_path, final | {'metric': 'pixcorr'}, final | {'metric': 'pixel_2way'})
    assert scores.headline_first(rows)['metric'].tolist() == ['pixel_2way', 'pixcorr']
    assert 'Intervals are over the 20 stimuli' in said
    fixed = {'ci_low': 0.4, 'ci_high': 0.6, 'n_units': 300}
    said = ' '.join(tables_guide(table(tmp_path, fixed)).paragraphs)
    assert 'Chance of' not in said
    assert 'Intervals are over' not in said
    few = ' '.join(tables_guide(table(tmp_path, {'n_units': 4})).paragraphs)
    assert 'There are no intervals and no tests with 4 stimuli (6 are needed).' in few


def test_motion_says_the_mean_the_largest_and_what_counts_as_good() -> None:
    def run(label: str, *moved: float) -> RunMotion:
        displacement = np.array([np.nan, *moved])
        still = np.zeros((len(displacement), 3))
        return RunMotion(label, 2.0, displacement, still, still, computed=False)

    calm = motion_verdict([run('run-01', 0.1, 0.1, 0.1, 0.1), run('run-02', 2.8, 0, 0, 0)])
    assert calm is not None
    assert calm.tone == 'good'
    assert calm.text == (
        'Mean framewise displacement 0.40 mm, at most 2.8 mm (run-02); 12.5 % of the volumes '
        'moved more than 0.5 mm (up to 20.0 % count as good).'
    )
    restless = motion_verdict([run('run-01', 0.6, 0.1)])
    assert restless is not None
    assert restless.tone == 'caution'


def test_a_ceiling_of_0_is_left_out_and_each_score_says_its_own_reason(tmp_path):
    base = {'system': 'encoding', 'space': 'single-trial'}
    metrics = table(
        tmp_path,
        base | {'metric': 'voxel_r_median', 'ceiling': 0.0},
        base | {'metric': 'voxel_r_mean'},
        base | {'metric': 'noise_normalized_mean', 'ceiling': 1.0},
    )
    assert scores.known_ceilings(metrics)['ceiling'].isna().tolist() == [True, True, False]
    said = ' '.join(tables_guide(metrics).paragraphs)
    assert 'noise ceiling of 0' in said
    assert 'none is computed [Voxel-wise correlation (mean)]' in said
    assert 'without repeated stimuli' not in said, 'a ceiling is known, so stimuli were repeated'
    facts = dict(make_headline(metrics.iloc[0], 0.95, 1).facts)
    assert 'noise ceiling' not in facts
    assert 'ceiling of 0' in facts['ceiling']


def test_what_is_printed_alike_is_drawn_in_one_place(tmp_path):
    r2 = {'system': 'encoding', 'space': 'single-trial', 'metric': 'voxel_r2_median'}
    tiny = table(tmp_path, r2 | {'value': -5e-7, 'chance': 0.0}).iloc[0]
    drawn = _interval(tiny, pd.DataFrame([tiny]))
    assert drawn.value == drawn.chance == 0.5
    near = table(tmp_path, r2 | {'value': 0.01, 'chance': 0.0}).iloc[0]
    drawn = _interval(near, pd.DataFrame([near]))
    assert drawn.value - drawn.chance == pytest.approx(0.1), '1 of 10 points'
    far = table(tmp_path, r2 | {'value': 0.3, 'chance': 0.0}).iloc[0]
    drawn = _interval(far, pd.DataFrame([far]))
    assert (drawn.chance, drawn.value) == (0, 1)
