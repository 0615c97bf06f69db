"""Selection of voxels: planted voxels, rules, fallbacks that are said, training samples only."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import reliability, selection
from bids_neurodecode.signals.selection import select_voxels

N_RESPONSIVE, N_VOXELS = 100, 1000


@pytest.fixture(scope='module')
def training():
    """120 trials of 40 stimuli; the first tenth of the voxels respond."""
    rng = np.random.default_rng(0)
    stimuli = np.tile(np.arange(40), 3)
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


def test_fdr_is_benjamini_hochberg_on_the_f_test(training):
    values, table = training
    p = stats.f_oneway(*[values[table.stimulus == s].astype(float) for s in range(40)]).pvalue
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
    f = reliability.repeat_f_test(noise, table.stimulus).f
    assert set(np.flatnonzero(chosen.keep)) == set(np.argsort(-f)[:30])
    assert '0 voxel(s) passed' in chosen.warnings[0]
    assert 'the best 30 by the F test over stimuli' in chosen.warnings[0]
    few = select_voxels(values[:, :12], table, SelectionSettings(rule='threshold', threshold=99))
    assert few.n_kept == 12


def test_shuffled_stimuli_choose_hardly_anything(training):
    values, table = training
    shuffled = table.assign(stimulus=np.random.default_rng(3).permutation(table.stimulus))
    chosen = select_voxels(values, shuffled, SelectionSettings(min_voxels=1))
    assert chosen.n_kept < 10


def test_sessions_that_differ_choose_nothing():
    rng = np.random.default_rng(0)
    session = np.repeat(['a', 'b'], 60)
    stimuli = np.concatenate([np.repeat(np.arange(20), 3), 20 + np.repeat(np.arange(20), 3)])
    values = rng.standard_normal((120, 500)) + 4 * (session == 'b')[:, None]
    table = pd.DataFrame({'stimulus': stimuli, 'run': 0, 'session': session})
    assert select_voxels(values, table, SelectionSettings(min_voxels=1)).n_kept <= 5
    one = table.assign(session='a')
    assert select_voxels(values, one, SelectionSettings(min_voxels=1)).n_kept > 400


@pytest.fixture
def unrepeated(training):
    values, table = training
    return values[:40], table.iloc[:40]


def test_auto_without_repeats_falls_back_aloud(unrepeated):
    tsnr = np.arange(N_VOXELS, dtype=float)
    chosen = select_voxels(*unrepeated, SelectionSettings(), tsnr=tsnr)
    assert (chosen.measure, chosen.rule, chosen.n_kept) == ('tsnr', 'top', 300)
    assert chosen.keep[-300:].all()
    instead = 'the 30% with the highest tSNR are used'
    assert chosen.warnings == (selection.NO_REPEATS_FALLBACK.format(instead=instead),)
    every = select_voxels(*unrepeated, SelectionSettings())
    assert every.keep.all()
    assert 'all voxels are used' in every.warnings[0]


def test_isc_map(unrepeated):
    isc = np.linspace(-1, 1, N_VOXELS)
    chosen = select_voxels(
        *unrepeated, SelectionSettings(measure='isc', rule='threshold', threshold=0.5), isc=isc
    )
    np.testing.assert_array_equal(chosen.keep, isc.astype(np.float32) >= 0.5)


def test_a_map_with_gaps_never_passes(unrepeated):
    tsnr = np.full(N_VOXELS, np.nan)
    tsnr[:7] = 50
    chosen = select_voxels(
        *unrepeated, SelectionSettings(measure='tsnr', rule='top', min_voxels=1), tsnr=tsnr
    )
    assert np.flatnonzero(chosen.keep).tolist() == list(range(7))
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
