"""Single-trial betas: equal to GLMsingle 1.2, true on planted data, and refused in one line."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.signals import singletrial, trialdesign, trialtypes
from bids_neurodecode.signals.badness import NO_REPEATS
from bids_neurodecode.signals.hrf import hrf_library
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.trialtypes import SingleTrialOptions

GOLDEN = Path(__file__).parents[1] / 'data' / 'glmsingle_1.2.npz'


@cache
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name].squeeze() for name in file.files}


@cache
def golden_inputs():
    values = golden()
    series = [values[f'data_{run}'].T for run in range(4)]
    designs = [values[f'design_{run}'] for run in range(4)]
    onsets = [np.flatnonzero(design.any(axis=1)) for design in designs]
    conditions = [
        design[rows].argmax(axis=1) for design, rows in zip(designs, onsets, strict=True)
    ]
    return series, onsets, conditions, float(values['tr']), float(values['stimdur'])


@pytest.fixture(scope='module')
def ours():
    return estimate_single_trials(*golden_inputs(), options=SingleTrialOptions(chunk_voxels=128))


def correlate(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


class TestEqualsGlmsingle:
    def test_responses(self, ours):
        assert np.mean(ours.hrf_index == golden()['typeb__HRFindex']) >= 0.99
        np.testing.assert_allclose(ours.mean_volume, golden()['typea__meanvol'], rtol=1e-6)
        np.testing.assert_allclose(ours.onoff_rsquared, golden()['typea__onoffR2'], atol=1e-3)

    def test_noise_pool_and_components(self, ours):
        assert np.mean(ours.noise_pool == golden()['typec__noisepool']) >= 0.99
        above = ours.onoff_rsquared > ours.onoff_threshold
        assert np.mean(above == golden()['typec__pcvoxels']) >= 0.99
        assert ours.n_components == golden()['typec__pcnum']
        np.testing.assert_allclose(
            ours.component_badness, golden()['typec__glmbadness'], rtol=1e-3
        )
        np.testing.assert_allclose(ours.component_curve, golden()['typec__xvaltrend'], rtol=1e-3)

    def test_fractions(self, ours):
        assert np.mean(np.isclose(ours.fraction, golden()['typed__FRACvalue'])) >= 0.98
        np.testing.assert_allclose(ours.fraction_badness, golden()['typed__rrbadness'], rtol=1e-3)

    @pytest.mark.parametrize('model', ['B', 'C', 'D'])
    def test_betas_and_fit(self, ours, model):
        theirs = golden()[f'type{model.lower()}__betasmd'].T
        r = correlate(ours.betas[model].astype(float), theirs.astype(float))
        assert np.median(r) >= 0.9999
        assert np.mean(r >= 0.999) >= 0.99
        error = np.abs(ours.betas[model] - theirs).mean(axis=0) / theirs.std(axis=0)
        assert np.quantile(error, 0.99) < 1e-3  # in size too, not in shape alone
        fit = golden()[f'type{model.lower()}__R2']
        np.testing.assert_allclose(ours.rsquared[model], fit, atol=0.01)

    def test_nothing_to_warn_of(self, ours):
        assert ours.warnings == ()
        assert ours.usable.all()
        assert ours.tuned == ()


def test_chunks_do_not_matter(ours):
    whole = estimate_single_trials(*golden_inputs())
    for model, betas in whole.betas.items():
        np.testing.assert_allclose(betas, ours.betas[model], atol=1e-3)
    np.testing.assert_array_equal(whole.fraction, ours.fraction)


def simulate(rng, *, n_volumes=(150, 130, 150), n_voxels=60, n_conditions=6, noise=0.5):
    """Series of known betas and responses; every condition has two trials a run."""
    repetition_time, duration = 1.5, 2.0
    library = hrf_library(repetition_time, duration)
    response = rng.integers(0, 20, n_voxels)
    truth = rng.normal(2, 1, (n_conditions, n_voxels))
    truth[:, ::3] = 0
    series, onsets, conditions, betas = [], [], [], []
    for length in n_volumes:
        volumes = np.sort(
            rng.choice(np.arange(2, length - 12, 5), 2 * n_conditions, replace=False)
        )
        labels = rng.permutation(np.repeat(np.arange(n_conditions), 2))
        trial = truth[labels]
        signal = np.zeros((length, n_voxels))
        for onset, amplitude in zip(volumes, trial, strict=True):
            stop = min(length, onset + len(library))
            signal[onset:stop] += library[: stop - onset, response] * amplitude
        drift = np.linspace(-1, 1, length)[:, None] ** 2 * rng.normal(size=n_voxels)
        shared = rng.normal(size=(length, 2)) @ rng.normal(size=(2, n_voxels))
        run = 100 + signal + drift + noise * (shared + rng.normal(size=(length, n_voxels)))
        series.append(run.astype(np.float32))
        onsets.append(volumes)
        conditions.append(labels)
        betas.append(trial)
    return (series, onsets, conditions, repetition_time, duration), np.concatenate(betas), response


@pytest.fixture
def small():
    return simulate(np.random.default_rng(0))


def test_planted_responses_and_betas_are_recovered():
    inputs, truth, response = simulate(np.random.default_rng(1), noise=0.02)
    found = estimate_single_trials(*inputs)
    active = truth.any(axis=0)
    assert np.mean(found.hrf_index[active] == response[active]) > 0.95
    for betas in found.betas.values():
        # the mean of a run is 100 and something: percent are units to within a few hundredths
        assert np.median(np.abs(betas - truth)[:, active]) < 0.1
    assert np.mean(found.noise_pool == ~active) > 0.9
    assert np.median(found.fraction[active]) > 0.8


def test_denoising_and_ridge_help_where_noise_is_shared():
    inputs, truth, _ = simulate(np.random.default_rng(2), noise=1.5)
    found = estimate_single_trials(*inputs)
    active = truth.any(axis=0)
    r = {m: np.median(correlate(b[:, active], truth[:, active])) for m, b in found.betas.items()}
    assert 1 <= found.n_components <= 4  # two were planted
    assert r['C'] > r['B'] + 0.05
    assert r['D'] >= r['C'] - 0.01


def test_inputs_are_left_alone_and_progress_is_told(small):
    inputs = small[0]
    before = [[np.copy(part) for part in each] for each in inputs[:3]]
    for run in inputs[0]:
        run.setflags(write=False)
    told = []
    estimate_single_trials(
        *inputs,
        options=SingleTrialOptions(chunk_voxels=25),
        progress=lambda done, total: told.append((done, total)),
    )
    for given, kept in zip(inputs[:3], before, strict=True):
        for a, b in zip(given, kept, strict=True):
            np.testing.assert_array_equal(a, b)
    assert told == [(step, 12) for step in range(1, 13)]


def test_order_of_trials_within_a_run_is_free(small):
    series, onsets, conditions, *times = small[0]
    rng = np.random.default_rng(3)
    orders = [rng.permutation(len(run)) for run in onsets]
    shuffled = estimate_single_trials(
        series,
        [run[order] for run, order in zip(onsets, orders, strict=True)],
        [run[order] for run, order in zip(conditions, orders, strict=True)],
        *times,
    )
    plain = estimate_single_trials(*small[0])
    rows = np.concatenate([order + 12 * run for run, order in enumerate(orders)])
    np.testing.assert_allclose(shuffled.betas['D'], plain.betas['D'][rows], atol=2e-3)


def test_labels_may_be_words(small):
    series, onsets, conditions, *times = small[0]
    words = [[f'image {label}' for label in run] for run in conditions]
    named = estimate_single_trials(series, onsets, words, *times)
    plain = estimate_single_trials(*small[0])
    np.testing.assert_array_equal(named.betas['D'], plain.betas['D'])


class TestTuningSets:
    def test_held_out_labels_have_no_say(self, small):
        series, onsets, conditions, *times = small[0]
        run_of = np.repeat(np.arange(3), 12)
        sets = [run_of != 2, run_of != 0]
        plain = estimate_single_trials(series, onsets, conditions, *times, tuning_sets=sets)
        rng = np.random.default_rng(4)
        false = [*conditions[:2], rng.permutation(conditions[2])]
        other = estimate_single_trials(series, onsets, false, *times, tuning_sets=sets)
        first, second = plain.tuned[0], other.tuned[0]
        assert first.n_components == second.n_components
        np.testing.assert_array_equal(first.fraction, second.fraction)
        np.testing.assert_array_equal(first.component_curve, second.component_curve)
        for model in 'CD':
            np.testing.assert_array_equal(first.betas[model], second.betas[model])
        # and the test can fail: a set that holds the shuffled run does change
        assert not np.array_equal(plain.tuned[1].fraction, other.tuned[1].fraction)

    def test_a_set_of_all_trials_changes_nothing(self, small):
        found = estimate_single_trials(*small[0], tuning_sets=[np.ones(36, dtype=bool)])
        for model in 'CD':
            np.testing.assert_array_equal(found.tuned[0].betas[model], found.betas[model])

    def test_betas_are_those_of_the_chosen_values(self, small):
        mask = np.repeat([True, True, False], 12)
        tuned = estimate_single_trials(*small[0], tuning_sets=[mask]).tuned[0]
        fixed = estimate_single_trials(
            *small[0], options=SingleTrialOptions(n_components=tuned.n_components, fraction=0.5)
        )
        np.testing.assert_allclose(tuned.betas['C'], fixed.betas['C'], atol=1e-4)
        half = np.isclose(tuned.fraction, 0.5)
        np.testing.assert_allclose(tuned.betas['D'][:, half], fixed.betas['D'][:, half], atol=1e-4)
        assert tuned.betas['D'].shape == (36, 60)

    def test_a_set_without_repeats(self, small):
        mask = np.repeat([True, False, False], 12)
        sets = [np.ones(36, dtype=bool), mask]
        with pytest.raises(DataError) as caught:
            estimate_single_trials(*small[0], tuning_sets=sets)
        assert str(caught.value) == NO_REPEATS.format(where=' of tuning set 1')
        fixed = SingleTrialOptions(n_components=1, fraction=0.4)
        found = estimate_single_trials(*small[0], tuning_sets=sets, options=fixed)
        np.testing.assert_array_equal(found.tuned[1].betas['D'], found.betas['D'])

    @pytest.mark.parametrize('mask', [np.ones(35, dtype=bool), np.ones(36)])
    def test_a_mask_that_is_none(self, small, mask):
        with pytest.raises(DataError) as caught:
            estimate_single_trials(*small[0], tuning_sets=[mask])
        assert str(caught.value) == singletrial.BAD_MASK.format(
            number=0, n_trials=36, dtype=mask.dtype, shape=mask.shape
        )


class TestNoRepeats:
    def unrepeated(self, small):
        series, onsets, _, *times = small[0]
        return series, onsets, np.arange(36).reshape(3, 12), *times

    def test_is_refused_with_the_way_out(self, small):
        with pytest.raises(DataError) as caught:
            estimate_single_trials(*self.unrepeated(small))
        assert str(caught.value) == NO_REPEATS.format(where='')
        for way_out in ('betas.model = "B"', 'betas.n_components', 'betas.fraction'):
            assert way_out in str(caught.value)

    def test_the_ways_out_work(self, small):
        model_b = SingleTrialOptions(models=('B',))
        found = estimate_single_trials(*self.unrepeated(small), options=model_b)
        assert set(found.betas) == {'B'}
        assert found.n_components is None
        assert found.fraction is None
        fixed = SingleTrialOptions(n_components=2, fraction=0.4)
        found = estimate_single_trials(*self.unrepeated(small), options=fixed)
        assert found.n_components == 2
        np.testing.assert_allclose(found.fraction, 0.4)
        assert np.isfinite(found.betas['D']).all()

    def test_repeats_within_one_run_do_not_count(self, small):
        series, onsets, conditions, *times = small[0]
        one = series[:1], onsets[:1], conditions[:1]
        with pytest.raises(DataError) as caught:
            estimate_single_trials(*one, *times)
        assert str(caught.value) == NO_REPEATS.format(where='')
        found = estimate_single_trials(*one, *times, options=SingleTrialOptions(models=('B',)))
        assert found.betas['B'].shape == (12, 60)


def test_fraction_one_and_no_components_are_model_b(small):
    options = SingleTrialOptions(n_components=0, fraction=1.0)
    found = estimate_single_trials(*small[0], options=options)
    np.testing.assert_allclose(found.betas['C'], found.betas['B'], atol=1e-5)
    np.testing.assert_allclose(found.betas['D'], found.betas['B'], atol=1e-3)
    np.testing.assert_allclose(found.rsquared['C'], found.rsquared['B'], atol=1e-3)


def test_extra_regressors_are_regressed_out(small):
    series, *rest = small[0]
    rng = np.random.default_rng(5)
    motion = [rng.normal(size=(len(run), 3)).cumsum(axis=0) for run in series]
    weights = rng.normal(size=(3, 60))
    moved = [run + 0.3 * m @ weights for run, m in zip(series, motion, strict=True)]
    clean = estimate_single_trials(*small[0], extra_regressors=motion)
    found = estimate_single_trials(moved, *rest, extra_regressors=motion)
    # R2, and with it the choice of the response, counts polynomials only: compare where it agrees
    same = (found.hrf_index == clean.hrf_index) & (clean.rsquared['B'] > 0)
    assert same.sum() >= 20
    r = correlate(found.betas['B'][:, same], clean.betas['B'][:, same])
    assert r.min() > 0.999
    spoiled = estimate_single_trials(moved, *rest)
    assert np.median(correlate(spoiled.betas['B'], clean.betas['B'])) < 0.9


def test_extra_regressors_of_some_runs_or_of_rank_zero_are_taken(small):
    series = small[0][0]
    ramp = [None, np.linspace(0, 1, len(series[1]))[:, None], np.ones((len(series[2]), 1))]
    found = estimate_single_trials(*small[0], extra_regressors=ramp)
    plain = estimate_single_trials(*small[0])
    # a constant is one of the polynomials already
    flat = [np.ones((len(series[0]), 1)), *ramp[1:]]
    given = estimate_single_trials(*small[0], extra_regressors=flat)
    for model in 'BCD':
        np.testing.assert_allclose(found.betas[model], given.betas[model], atol=1e-3)
        np.testing.assert_allclose(found.rsquared[model], given.rsquared[model], atol=1e-2)
    assert found.n_components == plain.n_components
    np.testing.assert_allclose(found.betas['B'][:12], plain.betas['B'][:12], atol=1e-3)


def test_sessions_are_standardised_apart(small):
    series, *rest = small[0]
    louder = [series[0], series[1], 100 + 20 * (series[2] - 100)]
    together = estimate_single_trials(louder, *rest)
    apart = estimate_single_trials(louder, *rest, sessions=['a', 'a', 'b'])
    assert not np.allclose(together.component_badness, apart.component_badness, rtol=0.05)
    np.testing.assert_array_equal(together.betas['B'], apart.betas['B'])


def test_bad_voxels_are_left_out_and_told(small):
    series, *rest = small[0]
    bad = [run.copy() for run in series]
    bad[1][3, 4] = np.nan
    bad[2][9, 5], bad[2][8, 5] = np.inf, -np.inf
    bad[0][:, 6] = 0
    bad[1][:, 6] = 0
    bad[2][:, 6] = 0
    bad[2][:, 7] = 0
    found = estimate_single_trials(bad, *rest)
    np.testing.assert_array_equal(np.flatnonzero(~found.usable), [4, 5, 6, 7])
    assert found.warnings == (trialtypes.UNUSABLE.format(n=4, total=60),)
    for betas in found.betas.values():
        np.testing.assert_array_equal(np.isnan(betas), np.tile(~found.usable, (36, 1)))
    assert np.all(found.hrf_index[[4, 5, 6, 7]] == -1)
    assert not found.noise_pool[[4, 5, 6, 7]].any()
    keep = found.usable
    without = estimate_single_trials([run[:, keep] for run in series], *rest)
    np.testing.assert_allclose(found.betas['D'][:, keep], without.betas['D'], atol=2e-3)


def test_no_good_voxel(small):
    series, *rest = small[0]
    with pytest.raises(DataError) as caught:
        estimate_single_trials([0 * run for run in series], *rest)
    assert str(caught.value) == trialtypes.NO_VOXELS.format(n=60)


def test_late_trials_are_warned_of(small):
    series, onsets, conditions, *times = small[0]
    last = len(series[1]) - 1
    late = [onsets[0], np.append(onsets[1], last), onsets[2]]
    labels = [conditions[0], np.append(conditions[1], 0), conditions[2]]
    found = estimate_single_trials(series, late, labels, *times)
    assert found.warnings == (
        trialdesign.LATE_TRIALS.format(n=1, seconds=8.0, run=2, volume=last),
    )
    # the response is zero at its onset: nothing to fit, and no infinities either
    np.testing.assert_array_equal(found.betas['B'][24], 0)
    assert np.isfinite(found.betas['D']).all()


def test_few_noise_voxels_limit_the_components(small):
    inputs = small[0]
    found = estimate_single_trials(
        [run[:, :12] for run in inputs[0]], *inputs[1:], options=SingleTrialOptions()
    )
    pool = int(found.noise_pool.sum())
    assert pool < 10
    note = singletrial.FEWER_COMPONENTS.format(found=pool, asked=10, pool=pool)
    assert note in found.warnings
    assert found.component_curve.shape == (pool + 1,)
    with pytest.raises(DataError) as caught:
        estimate_single_trials(
            [run[:, :12] for run in inputs[0]],
            *inputs[1:],
            options=SingleTrialOptions(n_components=10),
        )
    assert str(caught.value) == singletrial.TOO_FEW_COMPONENTS.format(
        asked=10, found=pool, pool=pool
    )


def test_one_volume_of_each_run_stays_free(small):
    series, onsets, conditions, *times = small[0]
    n_volumes = 24
    kept = [rows[rows < n_volumes - 8] for rows in onsets]
    labels = [names[: len(rows)] for names, rows in zip(conditions, kept, strict=True)]
    cut = [run[:n_volumes] for run in series], kept, labels
    minutes = n_volumes * times[0] / 60
    n_polynomials = round(minutes / 2) + 1  # below a minute: the mean alone
    free = n_volumes - n_polynomials - max(map(len, kept)) - 1
    options = SingleTrialOptions(models=('C',), n_components=free)
    assert estimate_single_trials(*cut, *times, options=options).n_components == free
    with pytest.raises(DataError) as caught:
        estimate_single_trials(*cut, *times, options=replace(options, n_components=free + 1))
    assert str(caught.value).startswith(singletrial.TOO_FEW_COMPONENTS.partition('{')[0])


def refuse(template, series, onsets, conditions, *times, fields, **given):
    with pytest.raises(DataError) as caught:
        estimate_single_trials(series, onsets, conditions, *times, **given)
    assert str(caught.value) == template.format(**fields)
    assert '\n' not in str(caught.value)


class TestRefusals:
    def test_empty_lists_and_runs(self, small):
        series, onsets, conditions, *times = small[0]
        refuse(trialdesign.NO_RUNS, [], [], [], *times, fields={})
        fields = {'name': 'onset_volumes', 'found': 2, 'n_runs': 3}
        refuse(trialdesign.UNEQUAL_LISTS, series, onsets[:2], conditions, *times, fields=fields)
        fields = {'name': 'sessions', 'found': 1, 'n_runs': 3}
        refuse(trialdesign.UNEQUAL_LISTS, *small[0], sessions=['a'], fields=fields)
        empty = [series[0], series[1][:0], series[2]]
        fields = {'run': 2, 'shape': (0, 60)}
        refuse(trialdesign.BAD_SERIES, empty, onsets, conditions, *times, fields=fields)
        none = [onsets[0], [], onsets[2]]
        refuse(trialdesign.NO_TRIALS, series, none, conditions, *times, fields={'run': 2})

    def test_other_voxels(self, small):
        series, *rest = small[0]
        fields = {'run': 3, 'found': 59, 'expected': 60}
        other = [*series[:2], series[2][:, 1:]]
        refuse(trialdesign.OTHER_VOXELS, other, *rest, fields=fields)

    @pytest.mark.parametrize('volume', [130, -1])
    def test_trial_outside_the_run(self, small, volume):
        series, onsets, *rest = small[0]
        beyond = [onsets[0], np.append(onsets[1][:-1], volume), onsets[2]]
        fields = {'run': 2, 'volume': volume, 'last': 129}
        refuse(trialdesign.BAD_VOLUME, series, beyond, *rest, fields=fields)

    def test_two_trials_in_one_volume(self, small):
        series, onsets, *rest = small[0]
        twice = [np.append(onsets[0][:-1], onsets[0][0]), *onsets[1:]]
        fields = {'run': 1, 'volume': onsets[0][0]}
        refuse(trialdesign.SHARED_VOLUME, series, twice, *rest, fields=fields)

    def test_onsets_in_seconds(self, small):
        series, onsets, *rest = small[0]
        seconds = [run * 1.5 for run in onsets]
        fields = {'run': 1, 'dtype': 'float64'}
        refuse(trialdesign.NOT_INTEGER, series, seconds, *rest, fields=fields)

    def test_a_condition_too_few(self, small):
        series, onsets, conditions, *times = small[0]
        short = [conditions[0], conditions[1][:-1], conditions[2]]
        fields = {'run': 2, 'onsets': 12, 'conditions': 11}
        refuse(trialdesign.UNEQUAL_TRIALS, series, onsets, short, *times, fields=fields)

    def test_extra_regressors(self, small):
        extra = [np.zeros((len(run), 2)) for run in small[0][0]]
        cut = [extra[0], extra[1][:-1], extra[2]]
        fields = {'run': 2, 'n_volumes': 130, 'shape': (129, 2)}
        refuse(trialdesign.BAD_EXTRA, *small[0], extra_regressors=cut, fields=fields)
        holes = [each.copy() for each in extra]
        holes[2][0, 1] = np.nan
        fields = {'run': 3, 'column': 1}
        refuse(trialdesign.EXTRA_NOT_FINITE, *small[0], extra_regressors=holes, fields=fields)

    def test_too_many_regressors(self, small):
        rng = np.random.default_rng(6)
        many = [rng.normal(size=(len(run), 120)) for run in small[0][0]]
        fields = {'run': 2, 'n_trials': 12, 'n_nuisance': 123, 'n_volumes': 130}
        refuse(trialdesign.TOO_MANY_REGRESSORS, *small[0], extra_regressors=many, fields=fields)


@pytest.mark.parametrize(
    ('option', 'reason'),
    [
        ({'models': ('A',)}, 'models must be some of B, C and D'),
        ({'models': ()}, 'models must be some of B, C and D'),
        ({'max_components': -1}, 'max_components must be 0 or more'),
        ({'n_components': -2}, 'n_components must be 0 or more'),
        ({'fraction': 0.0}, 'fractions must lie above 0 and at most at 1'),
        ({'fractions': (1.2, 1.0)}, 'fractions must lie above 0 and at most at 1'),
        ({'fractions': (0.5, 1.0)}, 'fractions must fall'),
        ({'chunk_voxels': -5}, 'chunk_voxels must be 1 or more'),
    ],
)
def test_options_out_of_range(option, reason):
    with pytest.raises(ArgumentsError) as caught:
        SingleTrialOptions(**option)
    assert str(caught.value) == trialtypes.BAD_OPTION.format(reason=reason)


def test_arrays_of_betas_can_be_made_elsewhere(small):
    made = {}

    def allocate(name, shape, dtype=np.float32):
        made[name] = np.zeros(shape, dtype)
        return made[name]

    found = estimate_single_trials(
        *small[0], tuning_sets=[np.repeat([True, True, False], 12)], allocate=allocate
    )
    assert {'B', 'D', 'D_tuned-0', f'C_components-{found.n_components}'} <= set(made)
    assert found.betas['B'] is made['B']
    assert found.tuned[0].betas['D'] is made['D_tuned-0']


@pytest.mark.parametrize('stop', [2, 4, 7, 10])
def test_a_killed_run_goes_on_from_what_it_left(small, stop):
    series, *rest = small[0]
    left, read = {}, []

    class Run:
        def __init__(self, values):
            self.values, self.shape, self.ndim = values, values.shape, 2

        def __array__(self, dtype=None, copy=None):
            read.append(self)
            return self.values

    def allocate(name, shape, dtype=np.float32):
        # in the order that files of betas have
        return left.setdefault(name, np.zeros(shape, dtype, order='F'))

    def kill(done, total):
        if done == stop:
            raise KeyboardInterrupt

    runs = [Run(values) for values in series]
    more = {'inner_sets': [np.repeat([True, True, False], 12)], 'allocate': allocate}
    with pytest.raises(KeyboardInterrupt):
        estimate_single_trials(runs, *rest, progress=kill, **more)
    assert len(read) == min(stop, 6)
    found = estimate_single_trials(runs, *rest, **more)
    assert len(read) == 6  # each run twice, in both calls together
    plain = estimate_single_trials(series, *rest, inner_sets=more['inner_sets'])
    for model in 'BCD':
        np.testing.assert_array_equal(found.betas[model], plain.betas[model])
        np.testing.assert_array_equal(found.inner[0].betas[model], plain.inner[0].betas[model])
        np.testing.assert_array_equal(found.rsquared[model], plain.rsquared[model])
    np.testing.assert_array_equal(found.fraction_badness, plain.fraction_badness)
