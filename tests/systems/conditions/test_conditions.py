"""Conditions over held-out runs: planted truth, and what independent code computes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.validation.conditions import N_VOXELS, World
from bids_neurodecode.config import EvaluationSettings, SplitSettings, build_config
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.signals.reliability import noise_ceiling
from bids_neurodecode.systems.conditions.analysis import (
    LACKING,
    UNEQUAL_TIMES,
    analyse_conditions,
    chance_of,
)
from bids_neurodecode.systems.conditions.decoding import (
    NOT_REFITTED,
    ONE_CONDITION,
    classify,
    classify_regions,
    conditions_of,
)
from bids_neurodecode.systems.conditions.encoding import predict_runs
from bids_neurodecode.systems.conditions.patterns import (
    pattern_ncsnr,
    residuals,
    run_patterns,
)
from bids_neurodecode.systems.conditions.searchlight import accuracy_p, searchlight
from bids_neurodecode.systems.conditions.similarity import dissimilarity, whitened
from bids_neurodecode.systems.protocol import CUT_RUNS, NOT_OF_CONDITIONS, choose_condition_split
from bids_neurodecode.systems.scoring import FEW_GROUPS, ONE_ORDER
from bids_neurodecode.systems.voxels import Estimates, cut_folds
from tests.meshes import surfaces, write_mesh

FAST = EvaluationSettings(n_permutations=99, n_bootstrap=100)


def estimates_of(samples, split):
    n_runs = samples.table['run'].nunique()
    return Estimates(samples, split, tsnr_runs=np.ones((n_runs, N_VOXELS), dtype=np.float32))


def world(seed=0, **changes):
    w = World(**{'n_runs': 6, 'n_conditions': 3, **changes})
    rng = np.random.default_rng(seed)
    samples, split, patterns = w.data(rng)
    config = w.config.model_copy(update={'evaluation': FAST})
    folds, selections = cut_folds(estimates_of(samples, split), conditions_of(split.table), config)
    return samples, split, patterns, config, folds, selections


def test_the_classifier_is_ridge_regression_on_indicators():
    """Scikit-learn's classifier, with one penalty, says the same of every trial."""
    _, split, _, config, folds, _ = world(signal=0.4)
    alpha = 30.0
    config = build_config(config.model_dump(), {'ridge': {'alphas': [alpha]}})
    found = classify(folds, split, config, rng=np.random.default_rng(1), with_baselines=False)
    expected = {}
    for fold, cut in zip(split, folds, strict=True):
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha))
        model.fit(cut.train.values, cut.train.table['stimulus'])
        expected |= dict(zip(fold.test.tolist(), model.predict(cut.test.values), strict=True))
    table = found.samples
    assert table['retrieved'].tolist() == [expected[k] for k in table['sample']]
    right = balanced_accuracy_score(table['stimulus'], table['retrieved'])
    assert found.scores[0].metric == 'balanced_accuracy'
    assert found.scores[0].value == pytest.approx(right)
    assert np.trace(found.confusion) / found.confusion.sum() == pytest.approx(right)


@pytest.mark.slow
def test_each_condition_counts_the_same():
    _, split, _, config, folds, _ = world(1, signal=0.3, unequal=True, n_conditions=4)
    found = classify(folds, split, config, rng=np.random.default_rng(1))
    score = found.scores[0]
    table = found.samples
    assert len(table) == 6 * 10
    right = balanced_accuracy_score(table['stimulus'], table['retrieved'])
    assert score.value == pytest.approx(right)
    assert score.value != pytest.approx(float((table['stimulus'] == table['retrieved']).mean()))
    assert (score.chance, score.n_units, score.units) == (0.25, 6, 'runs')
    assert score.system == 'conditions'
    # permuted scores are about chance whatever the numbers of trials
    assert found.nulls['single-trial/balanced_accuracy'].mean() == pytest.approx(0.25, abs=0.03)


def test_a_signal_is_found_beside_baselines_and_in_its_region():
    samples, split, _, config, folds, _ = world(signal=0.8)
    found = classify(folds, split, config, rng=np.random.default_rng(1))
    rows = {s.model: s for s in found.scores if s.metric == 'balanced_accuracy'}
    assert rows['ridge'].value > 0.9
    assert rows['ridge'].p == pytest.approx(0.01)
    assert rows['baseline-shuffled'].value < 0.7
    assert set(rows) == {
        'ridge', 'baseline-shuffled', 'baseline-nearest', 'baseline-mean-response',
    }  # fmt: skip
    assert rows['baseline-shuffled'].difference == pytest.approx(
        rows['ridge'].value - rows['baseline-shuffled'].value
    )
    noise = np.random.default_rng(3).standard_normal((samples.n_samples, 20)).astype(np.float32)
    samples.values[:, 20:] = noise
    place = np.arange(N_VOXELS)
    regions = {'signal': place < 20, 'noise': place >= 20, 'small': place < 5}
    table, scores = classify_regions(
        Estimates(samples, split), config, regions, rng=np.random.default_rng(1)
    )
    assert table['name'].tolist() == ['signal', 'noise']
    assert table['balanced_accuracy'][0] > 0.8 > 0.6 > table['balanced_accuracy'][1]
    assert table['p_fdr'].tolist() == pytest.approx([0.02, table['p'][1]])
    assert [s.space for s in scores] == ['single-trial/signal', 'single-trial/noise']


def test_no_p_below_six_runs_and_none_where_all_runs_have_one_order():
    _, split, _, config, folds, _ = world(signal=0.8, n_runs=5)
    found = classify(folds, split, config, rng=np.random.default_rng(1))
    assert all(s.p is None and s.ci_low is None for s in found.scores)
    assert found.notes[0].startswith(FEW_GROUPS.split('{')[0])
    samples, split, *_ = world(signal=0.8, per_run=1, n_conditions=6)
    table = samples.table.assign(onset=samples.table['stimulus'].str[1:].astype(float) * 4)
    one = type(samples)(samples.responses, table)
    split = split_by_group(table, 'run')
    found = analyse_conditions(estimates_of(one, split), config)
    assert any(note.startswith(ONE_ORDER.split('{')[0]) for note in found.notes)
    assert all(s.p is None for s in found.scores)
    assert np.isnan(found.dissimilarity.p).all()


def test_refitting_needs_as_many_trials_of_each():
    _, split, _, config, folds, _ = world(signal=0.8)
    evaluation = EvaluationSettings(n_permutations=19, n_bootstrap=0, permutation='refit')
    config = config.model_copy(update={'evaluation': evaluation})
    found = classify(folds, split, config, rng=np.random.default_rng(1), with_baselines=False)
    assert found.scores[0].test == 'refit'
    assert found.nulls['single-trial/balanced_accuracy'].mean() == pytest.approx(1 / 3, abs=0.1)
    _, split, _, _, folds, _ = world(1, signal=0.8, unequal=True, n_conditions=4)
    found = classify(folds, split, config, rng=np.random.default_rng(1), with_baselines=False)
    assert found.scores[0].test == 'labels'
    assert found.notes == (NOT_REFITTED,)


@pytest.mark.parametrize(('n_runs', 'per_run'), [(2, 1), (2, 3), (3, 1)])
def test_few_runs_have_scores_and_no_p(n_runs, per_run):
    """Two runs, as localizers have them: a training set of one run."""
    samples, split, *_ = world(signal=2.0, n_runs=n_runs, per_run=per_run)
    evaluation = EvaluationSettings(n_permutations=19, permutation='refit')
    config = build_config({'evaluation': evaluation.model_dump()})
    found = analyse_conditions(estimates_of(samples, split), config)
    assert found.scores[0].value > 0.8
    assert all(s.p is None and s.ci_low is None for s in found.scores)
    assert np.isfinite(found.dissimilarity.distance).all()


def test_one_condition_is_refused():
    with pytest.raises(DataError, match='There is one condition'):
        conditions_of(pd.DataFrame({'stimulus': ['a', 'a'], 'run': [0, 1]}))
    assert ONE_CONDITION.startswith('There is one condition')


def test_patterns_are_means_about_the_level_of_the_run():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((7, 3))
    shown, runs = list('aabbbab'), [0, 0, 0, 0, 1, 1, 1]
    found = run_patterns(values, shown, runs, ('a', 'b', 'c'))
    a, b = values[:2].mean(axis=0), values[2:4].mean(axis=0)
    np.testing.assert_allclose(found.means[0, 0], (a - b) / 2)
    np.testing.assert_allclose(found.means[0, :2].sum(axis=0), 0, atol=1e-12)
    assert np.isnan(found.means[:, 2]).all()
    assert found.counts.tolist() == [[2, 2, 0], [1, 2, 0]]
    # a shift of a whole run changes nothing
    moved = values + np.where(np.array(runs) == 1, 5.0, 0.0)[:, None]
    np.testing.assert_allclose(
        run_patterns(moved, shown, runs, ('a', 'b')).means, found.means[:, :2]
    )
    np.testing.assert_allclose(
        residuals(moved, shown, runs), residuals(values, shown, runs), atol=1e-12
    )


@pytest.mark.parametrize('shape', [(12, 30), (60, 8)])
def test_noise_is_taken_out_as_by_ledoit_and_wolf(shape):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(shape) @ rng.standard_normal((shape[1], shape[1]))
    noise -= noise.mean(axis=0)
    patterns = rng.standard_normal((4, shape[1]))
    precision = LedoitWolf(assume_centered=True).fit(noise).precision_
    np.testing.assert_allclose(whitened(patterns, noise), patterns @ precision, rtol=1e-6)


def test_distances_are_those_of_the_definition():
    """Pair by pair and run by run, with the precision matrix written out."""
    samples, _, _, _, folds, _ = world(signal=0.5)
    names = ('c0', 'c1', 'c2')
    found = dissimilarity(folds, names, 'p', FAST, rng=np.random.default_rng(0))
    table, values = samples.table, samples.values.astype(float)
    centred = values.copy()
    for run in range(6):
        mine = (table['run'] == run).to_numpy()
        centred[mine] -= values[mine].mean(axis=0)
    mean = np.array(
        [
            [
                centred[((table['run'] == r) & (table['stimulus'] == c)).to_numpy()].mean(axis=0)
                for c in names
            ]
            for r in range(6)
        ]
    )
    each = np.zeros((6, 3, 3))
    for run in range(6):
        others = [r for r in range(6) if r != run]
        train = (table['run'] != run).to_numpy()
        noise = centred[train].copy()
        for c in names:
            rows = (table['stimulus'][train] == c).to_numpy()
            noise[rows] -= noise[rows].mean(axis=0)
        noise *= np.sqrt(30 / (30 - 5 - 3 + 1))  # runs and conditions were taken off
        precision = LedoitWolf(assume_centered=True).fit(noise).precision_
        for a in range(3):
            for b in range(3):
                here = mean[run, a] - mean[run, b]
                there = (mean[others, a] - mean[others, b]).mean(axis=0)
                each[run, a, b] = here @ precision @ there / N_VOXELS
    np.testing.assert_allclose(found.distance, each.mean(axis=0), rtol=1e-5)
    assert found.score.value == pytest.approx(each.mean(axis=0)[np.triu_indices(3, 1)].mean())
    assert found.score.p == pytest.approx(0.01)
    table = found.table()
    assert table[['condition_a', 'condition_b']].to_numpy().tolist() == [
        ['c0', 'c1'], ['c0', 'c2'], ['c1', 'c2'],
    ]  # fmt: skip
    assert ((table['ci_low'] < table['distance']) & (table['distance'] < table['ci_high'])).all()


def test_the_residuals_have_the_variance_of_the_noise():
    rng = np.random.default_rng(0)
    runs, shown = np.repeat(np.arange(4), 6), np.tile(np.repeat(np.arange(3), 2), 4)
    values = rng.standard_normal((24, 5000)) * 2 + 3 * runs[:, None] + shown[:, None]
    assert (residuals(values, shown, runs) ** 2).mean() == pytest.approx(4, rel=0.02)
    # one trial of each condition leaves nothing
    assert not residuals(values[::2][:3], shown[::2][:3], runs[::2][:3]).any()


@pytest.mark.parametrize('lacks', [False, True])
def test_the_ceiling_is_that_of_means_about_the_level_of_the_run(lacks):
    """Levels of runs are no noise, and three conditions vary as much as their number allows."""
    rng = np.random.default_rng(0)
    runs, shown = np.repeat(np.arange(8), 9), np.tile(np.repeat(np.arange(3), 3), 8)
    truth = rng.standard_normal((3, 2000))
    values = truth[shown] + rng.standard_normal((72, 2000))
    values += 2 * rng.standard_normal((8, 2000))[runs]
    keep = (runs != shown) | (not lacks)
    found = run_patterns(values[keep], shown[keep].astype(str), runs[keep], ('0', '1', '2'))
    ceiling = noise_ceiling(pattern_ncsnr(found), found.counts[found.counts > 0])
    variance = truth.var(axis=0, ddof=1)
    expected = variance / (variance + 1 / 3)
    assert np.median(ceiling) == pytest.approx(np.median(expected), abs=0.02)
    assert np.corrcoef(ceiling, expected)[0, 1] > 0.8
    two = run_patterns(values, np.minimum(shown, 1).astype(str), runs, ('0', '1'))
    assert pattern_ncsnr(two) is None


@pytest.mark.slow
def test_distances_without_a_difference_are_zero_on_average():
    values = [
        dissimilarity(world(seed)[4], ('c0', 'c1', 'c2'), 'p', FAST, rng=np.random.default_rng(0))
        .score.value
        for seed in range(30)
    ]  # fmt: skip
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30)
    assert min(values) < 0 < max(values)


def test_chance_where_runs_show_other_conditions():
    """What marks a run tells its conditions: guessing among these is chance."""
    samples, _, _, config, _, _ = world(signal=0.0, n_runs=8, per_run=6, n_conditions=4)
    number = samples.table['stimulus'].str[1:].astype(int) // 2
    odd = samples.table['run'] % 2
    half = samples.take(np.flatnonzero(number == odd))
    half.values[:] += 8 * (half.table['run'].to_numpy()[:, None] % 2)
    split = split_by_group(half.table, 'run')
    folds, _ = cut_folds(estimates_of(half, split), conditions_of(split.table), config)
    found = classify(
        folds, split, config, rng=np.random.default_rng(1), with_baselines=False
    ).scores[0]
    assert found.chance != pytest.approx(0.25, abs=0.05)
    assert found.value == pytest.approx(found.chance, abs=0.2)
    assert found.p > 0.01
    assert chance_of(split) == 0.5
    assert chance_of(split_by_group(samples.table, 'run')) == 0.25


def test_pairs_that_a_run_lacks_are_measured_in_the_others():
    samples, _, _, config, _, _ = world(signal=0.8)
    keep = ~((samples.table['run'] == 0) & (samples.table['stimulus'] == 'c2'))
    fewer = samples.take(np.flatnonzero(keep))
    split = split_by_group(fewer.table, 'run')
    estimates = estimates_of(fewer, split)
    folds, _ = cut_folds(estimates, conditions_of(split.table), config)
    found = dissimilarity(folds, ('c0', 'c1', 'c2'), 'p', FAST, rng=np.random.default_rng(0))
    assert np.isfinite(found.distance).all()
    assert found.distance[0, 2] > 0.1
    assert found.score.p is None  # labels of that run cannot be exchanged with the others'
    assert LACKING in analyse_conditions(estimates, config).notes


def test_responses_are_predicted_from_other_runs():
    samples, split, patterns, _, _, _ = world(signal=0.8)
    every = [np.ones(N_VOXELS, dtype=bool)] * len(split)
    results = predict_runs(Estimates(samples, split).parts(), split, ('c0', 'c1', 'c2'), every)
    first = results[0]
    assert first.truth.shape == (3, N_VOXELS)
    train = run_patterns(
        samples.values[split.folds[0].train],
        samples.table['stimulus'].iloc[split.folds[0].train],
        samples.table['run'].iloc[split.folds[0].train],
        ('c0', 'c1', 'c2'),
    )
    np.testing.assert_allclose(first.predicted, train.means.mean(axis=0), atol=1e-5)
    assert first.n_repeats.tolist() == [2, 2, 2]
    true = patterns - patterns.mean(axis=0)
    assert np.corrcoef(first.predicted.ravel(), true.ravel())[0, 1] > 0.9


@pytest.mark.slow
def test_the_whole_analysis_tells_signal_voxels():
    samples, split, *_ = world(signal=1.5, n_runs=8)
    config = build_config(
        {
            'selection': {'measure': 'none'},
            'conditions': {'searchlight': 3.5},
            'evaluation': {'n_permutations': 99, 'n_bootstrap': 50},
        }
    )
    samples.values[:, 20:] = np.random.default_rng(3).standard_normal((samples.n_samples, 20))
    found = analyse_conditions(estimates_of(samples, split), config)
    assert np.nanmedian(found.maps.r[:20]) > 0.5 > 0.25 > np.nanmedian(found.maps.r[20:])
    assert found.accuracy[:16].mean() > 0.7 > 0.45 > found.accuracy[24:].mean()
    assert found.accuracy_fdr[:16].max() < 0.05 < found.accuracy_fdr[24:].min()
    assert {s.metric for s in found.scores} >= {
        'balanced_accuracy', 'identification_2way', 'voxel_r_median', 'crossnobis_mean',
    }  # fmt: skip
    assert all(s.system == 'conditions' for s in found.scores)


def test_held_out_responses_do_not_reach_what_is_fitted():
    """A held-out run of noise leaves the voxels and patterns of its training runs as they are."""
    samples, split, _, config, folds, selections = world(signal=0.8, measure='auto')
    changed = samples.take(np.arange(samples.n_samples))
    changed.values[split.folds[0].test] = 100 * np.random.default_rng(1).standard_normal(
        (len(split.folds[0].test), N_VOXELS)
    )
    estimates = estimates_of(changed, split)
    others, again = cut_folds(estimates, conditions_of(split.table), config)
    np.testing.assert_array_equal(selections[0].keep, again[0].keep)
    np.testing.assert_array_equal(folds[0].train.values, others[0].train.values)


def test_p_of_searchlights_is_never_nothing():
    perfect = np.ones((6, 2))
    p = accuracy_p(perfect, 0.25, 4)
    assert ((p > 0) & (p < 0.01)).all()
    assert np.isnan(accuracy_p(perfect[:5], 0.25, 4)).all()
    assert accuracy_p(np.full((8, 1), 0.25), 0.25, 4)[0] == pytest.approx(0.5)


@pytest.mark.slow
def test_searchlights_stay_within_their_voxels():
    samples, split, *_ = world(signal=0.8)
    within = np.arange(N_VOXELS) < 12
    found = searchlight(Estimates(samples, split), within, 3.5)
    assert np.isfinite(found[:, within]).all()
    assert np.isnan(found[:, ~within]).all()


@pytest.mark.slow
def test_searchlights_of_a_strip_are_those_of_a_line_of_voxels(tmp_path):
    """Along a mesh whose vertices lie as far apart as the voxels of a line."""
    samples, split, *_ = world(signal=0.8)
    line = VoxelMask(np.ones((N_VOXELS, 1, 1), dtype=bool), np.diag([3.0, 3, 3, 1]))
    places = np.outer(np.arange(N_VOXELS), (3.0, 0, 0))
    faces = np.stack([np.arange(N_VOXELS - 1), *(2 * [np.arange(1, N_VOXELS)])], axis=1)
    folder = write_mesh(tmp_path, 'L', places, faces)
    found = []
    for mask in (line, replace(line, space=surfaces(N_VOXELS))):
        moved = Samples(Responses(samples.values, mask), samples.table)
        estimates, within = Estimates(moved, split), np.arange(N_VOXELS) != 20
        found.append(searchlight(estimates, within, 6.5, [folder]))
    volume, surface = found
    # voxels look across the hole at 20, vertices do not
    assert (volume != surface)[:, [18, 19, 21, 22]].any()
    away = np.abs(np.arange(N_VOXELS) - 20) > 2
    np.testing.assert_array_equal(volume[:, away], surface[:, away])


def test_conditions_that_last_longer_are_said():
    samples, _, _, config, _, _ = world()
    lasting = np.where(samples.table['stimulus'] == 'c0', 12.0, 2.0)
    table = samples.table.assign(duration=lasting)
    longer = type(samples)(samples.responses, table)
    found = analyse_conditions(estimates_of(longer, split_by_group(table, 'run')), config)
    assert any(note.startswith(UNEQUAL_TIMES.split('{')[0]) for note in found.notes)


def test_whole_runs_are_held_out():
    samples = world()[0]
    table = samples.table
    split, why = choose_condition_split(table, SplitSettings())
    assert split.protocol == 'leave-one-out-by-run'
    assert '3 conditions in 6 runs' in why
    assert len(choose_condition_split(table, SplitSettings(n_folds=3))[0]) == 3
    with pytest.raises(DataError) as error:
        choose_condition_split(table, SplitSettings(by='stimulus'))
    assert str(error.value) == NOT_OF_CONDITIONS.format(by='stimulus')
    part = np.where(table['run'] < 4, 'train', 'test')
    split, _ = choose_condition_split(table.assign(part=part), SplitSettings())
    assert (split.by, len(split)) == ('run', 1)
    cut = np.where(np.arange(len(table)) % 2, 'train', 'test')
    with pytest.raises(DataError) as error:
        choose_condition_split(table.assign(part=cut), SplitSettings(by='given'))
    assert str(error.value) == CUT_RUNS
