"""Selection of voxels: planted voxels, rules, fallbacks that are said, training samples only."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import reliability, selection
from bids_neurodecode.signals.selection import join_selections, select_voxels

N_RESPONSIVE, N_VOXELS = 100, 1000


@pytest.fixture(scope='module')
def training():
    """120 trials of 40 stimuli in three orders; the first tenth of the voxels respond."""
    rng = np.random.default_rng(0)
    stimuli = np.concatenate([np.arange(40), *(rng.permutation(40) for _ in range(2))])
    signal = np.zeros((40, N_VOXELS))
    signal[:, :N_RESPONSIVE] = 1.5 * rng.standard_normal((40, N_RESPONSIVE))
    values = signal[stimuli] + rng.standard_normal((120, N_VOXELS))
    table = pd.DataFrame({'stimulus': stimuli, 'run': np.repeat([0, 1, 2], 40), 'session': '1'})
    return values.astype(np.float32), table


def test_default_finds_the_planted_voxels(training):
    chosen = select_voxels(*training, SelectionSettings())
    assert chosen.keep[:N_RESPONSIVE].mean() > 0.95
    assert np.mean(np.flatnonzero(chosen.keep) < N_RESPONSIVE) > 0.9
    assert (chosen.measure, chosen.rule, chosen.warnings) == ('ncsnr', 'fdr', ())
    np.testing.assert_allclose(
        chosen.values, reliability.ncsnr(training[0], training[1].stimulus), rtol=1e-5
    )
    assert chosen.description.startswith(f'{chosen.n_kept} of 1000 voxels: repeats of a stimulus')
    assert 0 < chosen.threshold < 0.05


def test_fdr_is_benjamini_hochberg_on_the_test_of_repeats(training):
    values, table = training
    p = reliability.repeat_test(values, table.stimulus, table.run).p
    chosen = select_voxels(values, table, SelectionSettings(fdr=0.01))
    np.testing.assert_array_equal(chosen.keep, stats.false_discovery_control(p) <= 0.01)


def test_top_takes_the_share_and_threshold_the_value(training):
    top = select_voxels(*training, SelectionSettings(rule='top', fraction=0.05))
    assert top.n_kept == 50
    assert np.nanmin(top.values[top.keep]) >= np.nanmax(top.values[~top.keep])
    assert top.threshold == pytest.approx(float(top.values[top.keep].min()))
    above = select_voxels(
        *training, SelectionSettings(measure='noise_ceiling', rule='threshold', threshold=0.5)
    )
    np.testing.assert_array_equal(above.keep, above.values >= 0.5)
    ratio = reliability.ncsnr(training[0], training[1].stimulus)
    np.testing.assert_allclose(above.values, ratio**2 / (ratio**2 + 1 / 3), rtol=1e-5)


def test_a_value_that_equals_the_threshold_passes(training):
    tsnr = np.repeat(np.float32([0.25, 0.5, 0.75, np.nan]), N_VOXELS // 4)
    chosen = select_voxels(
        *training, SelectionSettings(measure='tsnr', rule='threshold', threshold=0.5), tsnr=tsnr
    )
    np.testing.assert_array_equal(chosen.keep, np.isin(tsnr, [0.5, 0.75]))


def test_snr_measure(training):
    chosen = select_voxels(*training, SelectionSettings(measure='snr', rule='top', fraction=0.1))
    assert chosen.keep[:N_RESPONSIVE].mean() > 0.95


def test_region_restricts_candidates(training):
    within = np.zeros(N_VOXELS, dtype=bool)
    within[50:300] = True
    chosen = select_voxels(*training, SelectionSettings(), within=within)
    assert not (chosen.keep & ~within).any()
    assert np.isnan(chosen.values[~within]).all()
    assert chosen.keep[50:100].mean() > 0.9


def test_dead_voxels_are_never_chosen(training):
    values = training[0].copy()
    values[:, 3] = 1
    values[5, 4] = np.nan
    for given in (SelectionSettings(), SelectionSettings(measure='none')):
        chosen = select_voxels(values, training[1], given)
        assert not chosen.keep[[3, 4]].any()
        assert chosen.keep[[0, 1, 2]].all()


def test_too_few_takes_the_best_and_says_so(training):
    values, table = training
    noise = values[:, N_RESPONSIVE:]
    chosen = select_voxels(noise, table, SelectionSettings(fdr=1e-6, min_voxels=30))
    best = np.argsort(-reliability.repeat_test(noise, table.stimulus, table.run).agreement)[:30]
    assert set(np.flatnonzero(chosen.keep)) == set(best)
    assert '0 voxel(s) passed' in chosen.warnings[0]
    assert 'the best 30 by agreement of repeats over runs' in chosen.warnings[0]
    # neither text claims the rule that they did not pass
    assert chosen.rule_in_words.startswith(
        'the best 30 by agreement of repeats over runs, as fewer'
    )
    few = select_voxels(values[:, :12], table, SelectionSettings(rule='threshold', threshold=99))
    assert few.n_kept == 12


def test_shuffled_stimuli_choose_hardly_anything(training):
    values, table = training
    shuffled = table.assign(stimulus=np.random.default_rng(3).permutation(table.stimulus))
    chosen = select_voxels(values, shuffled, SelectionSettings(min_voxels=1))
    assert chosen.n_kept < 10


def test_runs_that_differ_choose_nothing():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            'stimulus': np.concatenate([rng.permutation(30) for _ in range(4)]),
            'run': np.repeat(range(4), 30),
            'session': np.repeat(['a', 'b'], 60),
        }
    )
    values = rng.standard_normal((120, 500)) + 4 * table['run'].to_numpy()[:, None]
    assert select_voxels(values, table, SelectionSettings(min_voxels=1)).n_kept <= 5


@pytest.fixture
def unrepeated(training):
    values, table = training
    return values[:40], table.iloc[:40]


def test_auto_without_repeats_looks_for_the_stimulus_aloud(unrepeated):
    share = np.linspace(-0.5, 0.5, N_VOXELS)
    tsnr = np.arange(N_VOXELS, 0, -1.0)  # says the contrary, and nothing of the stimulus
    given = {'prediction': lambda: share, 'tsnr': tsnr}
    chosen = select_voxels(*unrepeated, SelectionSettings(), **given)
    assert (chosen.measure, chosen.rule, chosen.threshold) == ('prediction', 'threshold', 0)
    np.testing.assert_array_equal(chosen.keep, share > 0)
    instead = selection.BY_PREDICTION['threshold']
    line = selection.FALLBACK.format(reason=selection.NO_REPEATS, instead=instead)
    assert chosen.warnings == (line,)
    top = select_voxels(*unrepeated, SelectionSettings(rule='top'), **given)
    assert (top.measure, top.rule, top.n_kept) == ('prediction', 'top', 300)
    assert top.keep[-300:].all()
    every = select_voxels(*unrepeated, SelectionSettings(), tsnr=tsnr)
    assert every.keep.all()
    assert 'All voxels are used' in every.warnings[0]


@pytest.mark.parametrize('rule', ['fdr', 'top'])
def test_repeats_that_cannot_be_tested_are_not_used(training, rule):
    values, table = training
    within = table.assign(run=0)
    one_order = table.assign(stimulus=np.tile(np.arange(40), 3))
    for given, reason in (
        (within, reliability.WITHIN_RUNS),
        (one_order, reliability.SAME_ORDER),
    ):
        if rule == 'top' and given is one_order:
            continue  # a share of the voxels is no test
        chosen = select_voxels(
            values, given, SelectionSettings(rule=rule), prediction=lambda: np.ones(N_VOXELS)
        )
        assert chosen.measure == 'prediction'
        assert reason in chosen.warnings[0]
    with pytest.raises(DataError) as error:
        select_voxels(values, within, SelectionSettings(measure='ncsnr'))
    message = selection.NO_TEST.format(measure='ncsnr', reason=reliability.WITHIN_RUNS)
    assert str(error.value) == message


def test_a_prediction_is_made_only_where_it_is_needed(training):
    def never():
        raise AssertionError

    assert select_voxels(*training, SelectionSettings(), prediction=never).measure == 'ncsnr'


def test_repeats_that_share_a_run_are_said(training):
    values, table = training
    both = table.assign(run=np.repeat([0, 1, 1], 40))
    chosen = select_voxels(values, both, SelectionSettings(rule='top'))
    assert chosen.warnings == (selection.SHARED_NOISE.format(measure='ncsnr'),)


def test_a_map_with_gaps_never_passes(unrepeated):
    tsnr = np.full(N_VOXELS, np.nan)
    tsnr[:7] = 50
    chosen = select_voxels(
        *unrepeated, SelectionSettings(measure='tsnr', rule='top', min_voxels=1), tsnr=tsnr
    )
    assert np.flatnonzero(chosen.keep).tolist() == list(range(7))
    assert chosen.warnings == (selection.TSNR_SAYS_NOTHING,)
    more = select_voxels(
        *unrepeated, SelectionSettings(measure='tsnr', rule='top', min_voxels=20), tsnr=tsnr
    )
    assert np.flatnonzero(more.keep).tolist() == list(range(7))


@pytest.mark.parametrize('measure', ['ncsnr', 'noise_ceiling', 'snr'])
def test_measures_of_repeats_need_repeats(unrepeated, measure):
    with pytest.raises(DataError) as error:
        select_voxels(*unrepeated, SelectionSettings(measure=measure))
    assert str(error.value) == selection.NEEDS_REPEATS.format(measure=measure, rule='fdr')


def test_bad_input_is_named(training):
    values, table = training
    with pytest.raises(DataError, match='"fdr" is a test of repeats'):
        select_voxels(values, table, SelectionSettings(measure='tsnr'))
    with pytest.raises(DataError, match='needs a map of temporal SNR'):
        select_voxels(values, table, SelectionSettings(measure='tsnr', rule='top'))
    with pytest.raises(DataError, match='has 3 entries for 120 samples'):
        select_voxels(values, table.iloc[:3], SelectionSettings())
    with pytest.raises(DataError, match='region mask has 7 entries for 1000 voxels'):
        select_voxels(values, table, SelectionSettings(), within=np.ones(7, dtype=bool))
    with pytest.raises(DataError) as error:
        select_voxels(values, table, SelectionSettings(), within=np.zeros(N_VOXELS, dtype=bool))
    assert str(error.value) == selection.NO_VOXELS.format(n=N_VOXELS, inside=0, varying=0)


def test_joined_sessions_show_the_mean_of_what_each_found(training):
    first = select_voxels(*training, SelectionSettings(rule='top', fraction=0.3))
    gaps = np.where(np.arange(N_VOXELS) < 3, np.nan, np.float32(5))
    joined = join_selections(
        {'1': first, '2': replace(first, values=gaps)}, SelectionSettings(sessions='union')
    )
    np.testing.assert_allclose(joined.values[3:], (first.values[3:] + 5) / 2, rtol=1e-6)
    np.testing.assert_allclose(joined.values[:3], first.values[:3])
    np.testing.assert_array_equal(joined.keep, first.keep)
