"""What participants share: planted agreement, ceilings and voxels come out; test rows stay out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.samples import Fold, Split, split_in_time
from bids_neurodecode.signals.reliability import leave_one_out_isc
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.systems.movie import targets
from bids_neurodecode.systems.movie.agreement import (
    NOT_SELECTED,
    PUBLISHED_SNR,
    SOME_FOLDS,
    Half,
    alone,
    clear_of_test,
    compare,
    compare_group,
    mean_of_others,
)
from bids_neurodecode.systems.movie.parts import showings_of
from bids_neurodecode.systems.movie.running import RunningAgreement, RunningScale
from bids_neurodecode.systems.movie.surrogates import MORE

N_VOXELS = 120
N_PLANTED = 40
TR = 2.0


def group(n=6, n_times=240, n_films=3, share=0.3, n_voxels=N_VOXELS, planted=N_PLANTED, seed=0):
    """Return participants who share a response in the first voxels, of that share of variance."""
    rng = np.random.default_rng(seed)
    shared = smooth(rng.normal(size=(n_times * n_films, n_voxels)))
    weight = np.sqrt(share) * (np.arange(n_voxels) < planted)
    noise = smooth(rng.normal(size=(n, n_times * n_films, n_voxels)))
    series = weight * shared + np.sqrt(1 - weight**2) * noise
    return series.astype(np.float32), shared * weight


def smooth(values):
    """Give unit noise an autocorrelation like that of BOLD."""
    past = np.roll(values, 1, axis=-2)
    return (values + 0.6 * past) / np.sqrt(1.36)


def film_table(n_times=240, n_films=3):
    rows = [
        (f'f{f}#{i:05d}', f'f{f}', f, TR * i, f) for f in range(n_films) for i in range(n_times)
    ]
    return pd.DataFrame(rows, columns=['stimulus', 'film', 'run', 'onset', 'showing'])


@pytest.fixture(scope='module')
def people():
    return group()[0]


@pytest.fixture(scope='module')
def split():
    return split_in_time(film_table(), gap=10.0)


def others_of(series, number):
    return (series.sum(axis=0) - series[number]) / (len(series) - 1)


def compared(series, split, settings, number=0, **more):
    return compare(
        series[number],
        others_of(series, number),
        split,
        settings,
        n_participants=len(series),
        rng=np.random.default_rng(1),
        **more,
    )


# agreement and ceilings


def test_agreement_within_one_showing_is_the_intersubject_correlation(people):
    one = people[:, :240]
    expected = leave_one_out_isc(one)
    for number in range(len(one)):
        found = targets.agreement(one[number], others_of(one, number), np.full(240, 'a')).r
        np.testing.assert_allclose(found, expected[number], atol=1e-5)


def test_levels_of_showings_are_no_agreement():
    rng = np.random.default_rng(0)
    labels = np.repeat(['a', 'b'], 100)
    own, others = rng.normal(size=(2, 200, 50)) + 10 * (labels == 'b')[:, None]
    assert abs(np.median(targets.agreement(own, others, labels).r)) < 0.05


@given(st.floats(0, 1), st.integers(2, 60))
def test_shared_variance_undoes_the_leave_one_out_correlation(share, n):
    r = share / np.sqrt(share + (1 - share) / (n - 1)) if share else 0.0
    assert targets.shared_variance(r, n) == pytest.approx(share, abs=1e-6)
    assert 0 <= targets.single_ceiling(r, n) <= targets.mean_ceiling(r, n) + 1e-9 <= 1 + 1e-9


@pytest.mark.parametrize('share', [0.1, 0.3, 0.6])
def test_ceilings_are_the_planted_ones(share):
    series, truth = group(n=8, n_times=1500, n_films=1, share=share)
    labels = np.full(series.shape[1], 'a')
    isc = [targets.agreement(series[i], others_of(series, i), labels).r for i in range(8)]
    single = np.median(targets.single_ceiling(isc[0], 8)[:N_PLANTED])
    # what the true shared response correlates with one participant, and with their mean
    perfect = pearson_by_column(series[0], truth)[:N_PLANTED]
    assert single == pytest.approx(np.sqrt(share), abs=0.05)
    assert single == pytest.approx(np.median(perfect), abs=0.05)
    mean = np.median(targets.mean_ceiling(np.mean(isc, axis=0), 8)[:N_PLANTED])
    perfect = pearson_by_column(series.mean(axis=0), truth)[:N_PLANTED]
    assert mean == pytest.approx(np.median(perfect), abs=0.05)
    assert mean > single


def test_a_prediction_fits_the_mean_better_than_any_participant():
    series, truth = group(share=0.2)
    prediction = truth + np.random.default_rng(5).normal(size=truth.shape)
    alone = [np.median(pearson_by_column(own, prediction)[:N_PLANTED]) for own in series]
    together = np.median(pearson_by_column(series.mean(axis=0), prediction)[:N_PLANTED])
    assert together > max(alone) + 0.1


def test_censored_volumes_and_missing_voxels_are_left_out(people):
    own, others = people[0].copy(), others_of(people, 0)
    labels = np.full(len(own), 'a')
    own[5:9] = np.nan
    others[:, 3] = np.nan
    found = targets.agreement(own, others, labels).r
    kept = np.r_[:5, 9 : len(own)]
    expected = targets.agreement(own[kept], others[kept], labels[kept]).r
    np.testing.assert_allclose(found, expected)
    assert np.isnan(found[3])
    assert np.isfinite(np.delete(found, 3)).all()
    with pytest.raises(DataError, match='of the test samples was measured in all'):
        targets.agreement(own * np.nan, others, labels, what='test')


def test_p_of_agreement_holds_its_level_without_agreement():
    """Noise as slow as BOLD (AR .5 and .93): circular shifts gave 7 % here, .5 % at .001."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 3, 400, 600))
    fast, slow = (
        lfilter([np.sqrt(1 - past**2)], [1, -past], each, axis=1)
        for past, each in zip((0.5, 0.93), noise, strict=True)
    )
    series = (fast + slow)[:, 100:]
    labels = np.repeat(['a', 'b'], 150)
    found = targets.agreement(
        series[0], others_of(series, 0), labels, n_surrogates=199, rng=np.random.default_rng(0)
    )
    assert found.p.min() >= 1 / (MORE * 199 + 1)
    assert 0.025 < (found.p <= 0.05).mean() < 0.08


# voxels

FDR = pytest.param('fdr', marks=pytest.mark.slow)  # draws surrogates


@pytest.mark.parametrize('rule', [FDR, 'top', 'threshold'])
def test_planted_voxels_are_chosen(people, split, rule):
    settings = SelectionSettings(measure='isc', rule=rule, fraction=N_PLANTED / N_VOXELS)
    found = compared(people, split, settings)
    hit = found.keep[:N_PLANTED].mean()
    false = found.keep[N_PLANTED:].sum() / max(found.keep.sum(), 1)
    assert hit >= 0.85
    assert false <= 0.1
    assert found.measure == 'isc'
    assert 'training volumes only' in found.rule


@pytest.mark.slow
def test_the_choice_does_not_see_test_volumes(people, split):
    (fold,) = split.folds
    changed = people.copy()
    rng = np.random.default_rng(9)
    # in held-out volumes, participants agree perfectly in voxels where there is nothing
    changed[:, fold.test] = 5 * rng.normal(size=(len(fold.test), N_VOXELS))
    settings = SelectionSettings(measure='isc', rule='fdr')
    before, after = (compared(x, split, settings) for x in (people, changed))
    np.testing.assert_array_equal(before.keep, after.keep)
    assert np.median(after.isc) > 0.9 > np.median(before.isc)


def test_auto_needs_three_participants(people, split):
    settings = SelectionSettings(rule='top')
    few = compared(people[:2], split, settings)
    assert few.keep.all()
    words = NOT_SELECTED.format(n=2, need=3, instead='all voxels of the brain mask')
    assert few.warnings == (words,)
    assert not compared(people[:3], split, settings).keep.all()
    nobody = alone(5, np.array([True, False, True, True, True]), settings)
    assert nobody.keep.sum() == 4
    assert np.isnan(nobody.isc).all()


def test_folds_choose_by_themselves_and_keep_what_they_chose(people):
    split = split_in_time(film_table(), gap=10.0, n_folds=3)
    settings = SelectionSettings(measure='isc', rule='top', fraction=0.4)
    found = compared(people, split, settings)
    each = [compared(people, Split('time', (fold,), split.table), settings) for fold in split]
    np.testing.assert_array_equal(found.chosen, np.concatenate([x.chosen for x in each]))
    np.testing.assert_array_equal(found.isc_by_fold, np.concatenate([x.isc_by_fold for x in each]))
    any_fold, every = (int(f(found.chosen, axis=0).sum()) for f in (np.any, np.all))
    assert found.warnings == (SOME_FOLDS.format(n=any_fold, folds=3, every=every),)
    assert found.keep.sum() == any_fold > every
    assert f'{any_fold} voxels in any of 3 folds ({every} in all): highest 40%' in found.rule
    # the agreement beside a voxel's score is that of the folds which use it
    voxel = int(np.flatnonzero(found.chosen.sum(axis=0) == 1)[0])
    (fold,) = np.flatnonzero(found.chosen[:, voxel])
    assert found.isc[voxel] == found.isc_by_fold[fold, voxel]


def test_a_fold_does_not_see_its_test_volumes_through_the_others(people):
    """Voxels of one fold are those of that fold alone, whatever lies in its test volumes."""
    split = split_in_time(film_table(), gap=10.0, n_folds=3)
    settings = SelectionSettings(measure='isc', rule='top', fraction=0.3)
    changed = people.copy()
    noise = np.random.default_rng(9).normal(size=(len(split.folds[1].test), N_VOXELS))
    changed[:, split.folds[1].test] = 5 * noise
    before, after = (compared(x, split, settings).chosen for x in (people, changed))
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[[0, 2]] != after[[0, 2]]).any()


def test_too_few_voxels_are_filled_up_and_said():
    values = np.linspace(-0.5, 0.15, 50)
    settings = SelectionSettings(measure='isc', rule='threshold', threshold=0.2, min_voxels=7)
    found = targets.choose_by_agreement(values, None, settings)
    assert found.keep.nonzero()[0].tolist() == list(range(43, 50))
    assert '0 voxel(s) passed' in found.warnings[0]
    with pytest.raises(DataError, match='none of the 3 voxels'):
        targets.choose_by_agreement(np.full(3, np.nan), None, settings)


def test_regions_limit_the_choice(people, split):
    within = np.arange(N_VOXELS) % 2 == 0
    settings = SelectionSettings(measure='isc', rule='top', fraction=0.5)
    found = compared(people, split, settings, within=within)
    assert not found.keep[~within].any()
    assert found.keep.sum() == round(0.5 * within.sum())


# the published signal-to-noise ratio


def test_the_ratio_from_sums_is_the_published_one():
    rng = np.random.default_rng(0)
    films = [rng.normal(size=(5, n, 8)) + rng.normal(size=(5, 1, 8)) + 100 for n in (30, 50)]
    sums = [
        (x.sum(axis=0), x.mean(axis=1).sum(axis=0), (x.mean(axis=1) ** 2).sum(axis=0))
        for x in films
    ]
    expected = np.mean(
        [x.mean(axis=0).var(axis=0) / x.mean(axis=1).var(axis=0) for x in films], axis=0
    )
    np.testing.assert_allclose(targets.snr_of_films(sums, 5), expected, rtol=1e-4)
    zero = [(x - x, np.zeros(8), np.zeros(8)) for x, *_ in sums]
    with pytest.raises(DataError) as error:
        targets.snr_of_films(zero, 5)
    assert str(error.value) == targets.CENTRED


def test_the_ratio_is_named_as_a_leak(people, split):
    settings = SelectionSettings(measure='snr', rule='top', fraction=0.2)
    found = compared(people, split, settings, snr=np.arange(N_VOXELS, dtype=float))
    assert found.keep.nonzero()[0].tolist() == list(range(96, 120))
    assert found.warnings[0] == PUBLISHED_SNR


# sums and running values


def test_the_mean_of_the_others_is_the_sum_less_the_own(people):
    series = people[:, :300]
    columns = np.r_[np.arange(60), np.full(60, -1)]
    rows = np.where(np.arange(300) % 7 == 0, -1, np.arange(300))
    out = np.empty_like(series[0])
    total = series.sum(axis=0)[:, :60]
    mean_of_others(series[2], total, rows, columns, len(series) - 1, out)
    expected = np.delete(series, 2, axis=0).mean(axis=0)
    np.testing.assert_allclose(out[rows >= 0][:, :60], expected[rows >= 0][:, :60], atol=1e-5)
    assert np.isnan(out[rows < 0]).all()
    assert np.isnan(out[:, 60:]).all()


def test_running_values_are_those_of_all_rows_at_once(people):
    own, others = people[0], others_of(people, 0)
    labels = np.repeat(['a', 'b', 'c'], 240)
    running, scale = RunningAgreement(N_VOXELS), RunningScale(N_VOXELS)
    for label in 'abc':
        running.add(own[labels == label], others[labels == label])
        scale.add(1000 + own[labels == label])
    expected = targets.agreement(own, others, labels).r
    np.testing.assert_allclose(running.r('test'), expected, atol=1e-4)
    within = np.arange(N_VOXELS) < 9
    whole = Standardizer.fit(1000 + own[:, :9].astype(np.float64))
    np.testing.assert_allclose(scale.of(within).mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(scale.of(within).scale, whole.scale, rtol=1e-3)


# the mean over participants


def grouped(series, split, settings, **more):
    n_rows = series.shape[1]
    labels = showings_of(split.table)

    def films():
        for own in series:
            for label in dict.fromkeys(labels):
                rows = np.flatnonzero(labels == label)
                yield rows, own[rows]

    half = Half(series[::2].sum(axis=0), np.arange(n_rows), np.arange(series.shape[2]), 3)
    return compare_group(
        series.sum(axis=0),
        np.arange(n_rows),
        films,
        split,
        settings,
        n_participants=len(series),
        delay=5.2,
        rng=np.random.default_rng(1),
        half=half if settings.rule == 'fdr' else None,
        **more,
    )


@pytest.mark.parametrize('rule', [FDR, 'top'])
def test_the_group_chooses_planted_voxels_without_test_volumes(people, split, rule):
    settings = SelectionSettings(measure='isc', rule=rule, fraction=N_PLANTED / N_VOXELS)
    found = grouped(people, split, settings)
    assert found.keep[:N_PLANTED].mean() >= 0.9
    assert found.keep[N_PLANTED:].sum() <= 0.1 * found.keep.sum()
    changed = people.copy()
    changed[:, split.folds[0].test] = np.random.default_rng(3).normal(size=(144, N_VOXELS))
    np.testing.assert_array_equal(grouped(changed, split, settings).keep, found.keep)


def test_the_agreement_of_the_group_is_the_mean_over_participants(people, split):
    found = grouped(people, split, SelectionSettings(measure='none'))
    test = split.folds[0].test
    labels = showings_of(split.table)[test]
    each = [
        targets.agreement(people[i][test], others_of(people, i)[test], labels).r
        for i in range(len(people))
    ]
    np.testing.assert_allclose(found.isc, np.mean(each, axis=0), atol=1e-4)
    assert found.keep.all()


def test_aligned_rows_next_to_a_test_block_are_kept_out():
    table = film_table(100, 1)
    fold = Fold(np.r_[:80, 95:100], np.arange(80, 95))
    clear = clear_of_test(table, fold, 5.2)
    # rows up to 80 - 5.2 s / 2 s, and those after the block
    assert clear.tolist() == [*range(78), *range(95, 100)]


def test_ceilings_go_to_the_rows_of_their_voxels():
    rows = [
        ('ridge', 'voxels', 'voxel_r_median'),
        ('ridge', 'voxels', 'voxel_r_mean'),
        ('network', 'selected voxels', 'voxel_r_median'),
        ('ridge', 'voxels', 'voxel_r2_median'),
        ('baseline-shuffled', 'voxels', 'voxel_r_median'),
    ]
    table = pd.DataFrame(rows, columns=['model', 'space', 'metric']).assign(ceiling=np.nan)
    found = targets.with_ceilings(table, {'voxels': (0.2, 0.3), 'selected voxels': (0.5, 0.5)})
    np.testing.assert_allclose(found['ceiling'], [0.2, 0.3, 0.5, np.nan, np.nan])
    assert table['ceiling'].isna().all()
