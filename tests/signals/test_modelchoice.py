"""The model of the betas is chosen within training trials."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_neurodecode.signals import singletrial
from bids_neurodecode.signals.modelchoice import (
    InnerFold,
    best_model,
    compare_models,
    identify_repeats,
    inner_folds,
)
from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.trialtypes import InnerBetas, SingleTrialOptions

RUN = np.repeat(np.arange(6), 8)
STIMULUS = np.tile(np.arange(8), 6)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def halves():
    return InnerFold(RUN < 4, RUN >= 4)


def patterns(rng, noise, n_voxels=40):
    means = rng.standard_normal((8, n_voxels))
    return (means[STIMULUS] + noise * rng.standard_normal((48, n_voxels))).astype(np.float32)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=4, max_size=40),
    st.data(),
)
def test_inner_folds_are_runs_of_the_training_trials(pairs, data):
    stimulus, run = np.array(pairs).T
    training = np.array(data.draw(st.lists(st.booleans(), min_size=len(run), max_size=len(run))))
    folds = inner_folds(training, stimulus, run)
    assert len(folds) != 1
    for fold in folds:
        assert not (fold.train & fold.test).any()
        assert not ((fold.train | fold.test) & ~training).any()
        assert not set(run[fold.train]) & set(run[fold.test])
        assert set(stimulus[fold.test]) <= set(stimulus[fold.train])
        shown = {(s, r) for s, r in zip(stimulus[fold.train], run[fold.train], strict=True)}
        assert len(shown) > len({s for s, _ in shown})  # a stimulus in two runs


def test_every_run_is_held_out_once():
    training = RUN != 2
    folds = inner_folds(training, STIMULUS, RUN)
    assert len(folds) == 5
    assert (sum(fold.test.astype(int) for fold in folds) == training).all()


@pytest.mark.parametrize('n_runs', [1, 2])
def test_too_few_runs_cannot_be_compared(n_runs):
    training = np.isin(RUN, np.arange(n_runs))
    assert inner_folds(training, STIMULUS, RUN) == ()


def test_clear_patterns_are_identified_and_noise_is_at_chance(rng):
    assert identify_repeats(patterns(rng, 0.1), STIMULUS, halves()).mean() > 0.99
    noise = [
        identify_repeats(
            rng.standard_normal((48, 40)).astype(np.float32), STIMULUS, halves()
        ).mean()
        for _ in range(40)
    ]
    assert abs(np.mean(noise) - 0.5) < 4 * np.std(noise) / np.sqrt(40)


def test_scale_and_voxels_that_do_not_vary_do_not_matter(rng):
    betas = patterns(rng, 2.0)
    expected = identify_repeats(betas, STIMULUS, halves())
    other = betas * 7 + 3
    other = np.column_stack([other, np.ones(48), np.full(48, np.nan)]).astype(np.float32)
    np.testing.assert_allclose(identify_repeats(other, STIMULUS, halves()), expected)
    flat = np.ones((48, 3), dtype=np.float32)
    assert (identify_repeats(flat, STIMULUS, halves()) == 0.5).all()


def test_the_model_with_the_clearer_patterns_is_chosen(rng):
    truth = patterns(rng, 0.0)
    noise = rng.standard_normal(truth.shape).astype(np.float32)
    voxels = np.arange(40)
    inner = InnerBetas(
        voxels, {'B': truth + 3 * noise, 'C': truth + noise, 'D': 0.1 * truth + noise}
    )
    scores = compare_models([inner, inner], STIMULUS, [halves(), halves()])
    assert best_model(scores) == 'C'
    assert scores['B'] < scores['C'] > scores['D']


def small_data(rng):
    """Six runs of eight stimuli: patterns in half of the voxels, noise common to all."""
    pattern = np.concatenate([rng.standard_normal((8, 30)), np.zeros((8, 30))], axis=1)
    series, onsets, shown = [], [], []
    for _ in range(6):
        order = rng.permutation(8)
        starts = 4 + 6 * np.arange(8)
        values = 500 + rng.standard_normal((64, 60)) + 2 * rng.standard_normal((64, 1))
        for volume, number in zip(starts, order, strict=True):
            values[volume + 2 : volume + 5] += 2 * pattern[number]
        series.append(values.astype(np.float32))
        onsets.append(starts)
        shown.append(order)
    return series, onsets, shown


def test_inner_betas_are_those_of_a_tuning_set(rng):
    series, onsets, shown = small_data(rng)
    masks = [RUN < 4, RUN != 0]
    call = series, onsets, shown, 2.0, 2.0
    as_sets = estimate_single_trials(*call, tuning_sets=masks)
    found = estimate_single_trials(*call, tuning_sets=masks[:1], inner_sets=masks)
    assert len(found.tuned) == 1
    for inner, expected in zip(found.inner, as_sets.tuned, strict=True):
        np.testing.assert_allclose(inner.betas['B'], as_sets.betas['B'][:, inner.voxels])
        for model, percent in (('C', True), ('D', False)):
            # in the data's units; D before scale and offset are restored
            want = expected.betas[model][:, inner.voxels]
            for column in range(len(inner.voxels)):
                a, b = inner.betas[model][:, column], want[:, column]
                slope = np.polyfit(a.astype(float), b.astype(float), 1)
                np.testing.assert_allclose(np.polyval(slope, a), b, rtol=1e-3, atol=1e-3)
            if percent:
                scale = 100 / np.abs(as_sets.mean_volume[inner.voxels])
                np.testing.assert_allclose(inner.betas[model] * scale, want, rtol=1e-4, atol=1e-4)


def test_inner_sets_keep_the_voxels_that_agree_and_see_no_other_trial(rng):
    series, onsets, shown = small_data(rng)
    call = series, onsets, shown, 2.0, 2.0
    options = SingleTrialOptions(inner_voxels=20, chunk_voxels=17)
    (inner,) = estimate_single_trials(*call, inner_sets=[RUN < 4], options=options).inner
    assert len(inner.voxels) == 20
    assert np.mean(inner.voxels < 30) > 0.9
    # other labels outside change nothing
    other = [*shown[:4], *(rng.permutation(8) for _ in range(2))]
    (same,) = estimate_single_trials(
        series, onsets, other, 2.0, 2.0, inner_sets=[RUN < 4], options=options
    ).inner
    assert np.array_equal(same.voxels, inner.voxels)
    for model, betas in inner.betas.items():
        np.testing.assert_array_equal(same.betas[model], betas)


def test_inner_sets_need_all_models(rng):
    with pytest.raises(singletrial.DataError) as caught:
        estimate_single_trials(
            *small_data(rng), 2.0, 2.0, inner_sets=[RUN < 4], options=SingleTrialOptions(('B',))
        )
    assert str(caught.value) == singletrial.INNER_NEED_ALL.format(found='B')
