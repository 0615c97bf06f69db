"""Linear decoding finds a planted truth, finds nothing where there is none, and never leaks."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from bids_neurodecode.config import EvaluationSettings, RidgeSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import TRUE_FEATURES, bounds_of, scores_table
from bids_neurodecode.samples import Responses, Samples, Split, VoxelMask, split_by_group
from bids_neurodecode.systems import baselines
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings, LinearDecoder, candidate_stimuli
from bids_neurodecode.systems.outcomes import OWN_MODEL, judge
from bids_neurodecode.systems.pooling import confusion_of
from bids_neurodecode.systems.reconstruction import recipe as reconstruction
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds, fit, predict
from bids_neurodecode.systems.scoring import FEW_GROUPS, FIXED_LABELS, ONE_ORDER, Pairing

N_FEATURES = 40
RIDGE = RidgeSettings(alphas=(1.0, 100.0, 10_000.0), n_folds=3)
SETTINGS = DecoderSettings(n_components=12, ridge=RIDGE)
QUICK = EvaluationSettings(n_permutations=199, n_bootstrap=200)


def world(n_stimuli=40, n_runs=3, n_voxels=80, noise=1.0, seed=0):
    """Every run shows every stimulus once; voxels are linear in correlated features."""
    rng = np.random.default_rng(seed)
    names = tuple(f's{k:02d}.png' for k in range(n_stimuli))
    latent = rng.normal(size=(n_stimuli, 8))
    features = latent @ rng.normal(size=(8, N_FEATURES)) + 0.2 * rng.normal(
        size=(n_stimuli, N_FEATURES)
    )
    tuning = rng.normal(size=(8, n_voxels)) / np.sqrt(8)
    order = np.concatenate([rng.permutation(n_stimuli) for _ in range(n_runs)])
    responses = latent[order] @ tuning + noise * rng.normal(size=(len(order), n_voxels)) + 5
    table = pd.DataFrame(
        {
            'stimulus': [names[k] for k in order],
            'run': np.repeat([f'{r + 1:02d}' for r in range(n_runs)], n_stimuli),
        }
    )
    mask = VoxelMask(np.ones((n_voxels, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(responses.astype(np.float32), mask), table)
    return samples, PerStimulus(names, features.astype(np.float32)), rng


def run(samples, split, features, *, rng_seed=1, settings=SETTINGS, **options):
    return evaluate_folds(
        [samples.fold(fold) for fold in split],
        split,
        features,
        settings,
        evaluation=options.pop('evaluation', QUICK),
        rng=np.random.default_rng(rng_seed),
        **options,
    )


def pick(result, model, metric, space='single-trial'):
    table = scores_table(result.scores)
    rows = table[(table.model == model) & (table.metric == metric) & (table.space == space)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope='module')
def by_stimulus():
    samples, features, _ = world()
    pictures = PerStimulus(
        features.stimuli,
        np.random.default_rng(5).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8),
    )
    split = split_by_group(samples.table, 'stimulus', n_folds=4)
    return samples, split, run(samples, split, features, pictures=pictures)


def test_planted_tuning_is_found(by_stimulus):
    _, _, result = by_stimulus
    single = pick(result, 'ridge', 'identification_top1')
    average = pick(result, 'ridge', 'identification_top1', 'repeat-average')
    assert single.value > 0.6
    assert single.chance == pytest.approx(0.1)
    assert single.p == pytest.approx(1 / 200)
    assert single.ci_low < single.value < single.ci_high
    assert single.ci_low > single.chance
    assert (single.n, average.n) == (120, 40)
    assert average.value >= single.value, 'averaging repeats takes noise off'
    assert pick(result, 'ridge', 'identification_2way').value > 0.9
    assert single.value > pick(result, 'baseline-nearest', 'identification_top1').value
    assert single.protocol == '4-fold-by-stimulus'


@pytest.mark.slow
def test_baselines_are_at_chance(by_stimulus):
    _, _, result = by_stimulus
    mean = pick(result, 'baseline-mean-image', 'identification_top1')
    assert mean.value == pytest.approx(0.1)
    assert mean.p == 1
    shuffled = pick(result, 'baseline-shuffled', 'identification_top1')
    assert shuffled.p > 0.01
    assert abs(shuffled.value - 0.1) < 0.1
    assert abs(pick(result, 'baseline-shuffled', 'identification_2way').value - 0.5) < 0.15


def test_it_is_not_counted_which_of_very_many_images_are_taken_for_which(monkeypatch):
    three = np.eye(3)
    outcomes = [SimpleNamespace(candidates=tuple('abc'), similarities=three, truth=np.arange(3))]
    counts, labels = confusion_of(outcomes)
    assert (counts == three).all()
    assert labels == ('a', 'b', 'c')
    monkeypatch.setattr('bids_neurodecode.systems.pooling.MOST_LABELS', 2)
    counts, labels = confusion_of(outcomes)
    assert (counts.size, labels) == (0, ())


def test_sample_table_confusion_and_null_agree_with_the_score(by_stimulus):
    samples, split, result = by_stimulus
    table = result.samples
    single = table[table.space == 'single-trial']
    value = pick(result, 'ridge', 'identification_top1').value
    assert single.identified.mean() == pytest.approx(value)
    assert sorted(single['sample']) == list(range(120))
    np.testing.assert_array_equal(
        single.stimulus, samples.table.stimulus.to_numpy()[single['sample']]
    )
    assert ((single['rank'] == 1) == (single.identified == 1)).all()
    assert (single.n_candidates == 10).all()
    assert np.trace(result.confusion) / result.confusion.sum() == pytest.approx(value)
    assert result.confusion.sum() == 120
    null = result.nulls['single-trial/identification_top1']
    assert null.shape == (199,)
    assert null.mean() == pytest.approx(0.1, abs=0.02)
    assert result.decoded.shape == (120, N_FEATURES)
    for number, fold in enumerate(split):
        tested = set(samples.table.stimulus[fold.test])
        assert not set(single.retrieved[single.fold == number]) & tested


def test_pixel_scores_of_retrieval(by_stimulus):
    _, _, result = by_stimulus
    for metric in ('pixcorr', 'ssim_2d'):
        row = pick(result, 'ridge', metric, 'images')
        assert row.n == 40
        assert row.value <= 1
        # the images are noise: what is retrieved is as good as any other
        assert row.value == pytest.approx(row.chance, abs=0.05)
        assert np.isnan(row.ceiling)
        truth = pick(result, TRUE_FEATURES, metric, 'images')
        assert truth.value == pytest.approx(row.chance, abs=0.05)
        assert np.isnan([truth.ceiling, truth.p, truth.difference]).all()
    blur = pick(result, 'baseline-mean-image', 'ssim_2d', 'images').value
    assert blur != pick(result, 'ridge', 'ssim_2d', 'images').value


@pytest.mark.slow
def test_shuffled_responses_are_at_chance_and_p_is_uniform():
    p, values = [], []
    for seed in range(16):
        samples, features, rng = world(n_stimuli=24, n_runs=2, n_voxels=30, seed=seed)
        samples = baselines.shuffled(samples, rng)
        split = split_by_group(samples.table, 'stimulus', n_folds=2, rng=rng)
        row = pick(
            run(
                samples,
                split,
                features,
                evaluation=EvaluationSettings(n_permutations=99, n_bootstrap=0),
            ),
            'ridge',
            'identification_2way',
        )
        p.append(row.p)
        values.append(row.value)
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)
    assert kstest(p, 'uniform').pvalue > 0.01


def test_few_stimuli_in_every_run_are_a_closed_set():
    samples, features, _ = world(n_stimuli=6, n_runs=8, noise=1.5)
    split = split_by_group(samples.table, 'run')
    pictures = PerStimulus(
        features.stimuli,
        np.random.default_rng(5).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8),
    )
    result = run(samples, split, features, pictures=pictures)
    row = pick(result, 'ridge', 'identification_top1')
    assert row.value > 0.5
    image = pick(result, 'ridge', 'pixcorr', 'images')
    # unlike images do not correlate: the score is the share identified
    assert image.value == pytest.approx(row.value, abs=0.05)
    assert pick(result, TRUE_FEATURES, 'pixcorr', 'images').value == pytest.approx(1)
    assert image.chance == pytest.approx(1 / 6, abs=0.05)
    assert image.p == pytest.approx(1 / 200)
    assert row.chance == pytest.approx(1 / 6)
    assert row.p == pytest.approx(1 / 200)
    assert result.labels == features.stimuli
    np.testing.assert_array_equal(result.confusion.sum(axis=1), 8)
    assert reconstruction.CLOSED_SET in result.notes
    assert any('equally far apart' in note for note in result.notes)
    assert 'repeat-average' not in set(result.samples.space)
    np.testing.assert_array_equal(
        result.samples.retrieved == result.samples.stimulus, result.samples.identified == 1
    )


def test_same_seed_same_result():
    samples, features, _ = world(n_stimuli=20, n_runs=2, n_voxels=20)
    split = split_by_group(samples.table, 'stimulus', n_folds=2)
    first, again = (run(samples, split, features) for _ in range(2))
    assert first.scores == again.scores
    pd.testing.assert_frame_equal(first.samples, again.samples)
    np.testing.assert_array_equal(first.decoded, again.decoded)
    other = run(samples, split, features, rng_seed=2)
    assert first.scores != other.scores


def test_nothing_of_the_test_samples_is_in_the_decoder():
    samples, features, _ = world()
    split = split_by_group(samples.table, 'stimulus', n_folds=4)
    train, _, test = samples.fold(split.folds[0])
    decoder = fit(train, features, SETTINGS)
    other = features.values.copy()
    tested = [features.stimuli.index(name) for name in set(test.table.stimulus)]
    other[tested] = 1e3
    same = fit(train, PerStimulus(features.stimuli, other), SETTINGS)
    for name, array in decoder.state().items():
        np.testing.assert_array_equal(array, same.state()[name])


def test_state_rebuilds_the_decoder():
    samples, features, _ = world()
    decoder = fit(samples, features, SETTINGS)
    again = LinearDecoder.from_state(decoder.state(), decoder.library)
    np.testing.assert_array_equal(predict(decoder, samples.values), predict(again, samples.values))


def test_penalty_is_chosen_on_unseen_stimuli_if_there_are_many(monkeypatch):
    seen = []
    real = reconstruction.fit_ridges

    def spy(*arrays, **options):
        seen.append(options)
        return real(*arrays, **options)

    monkeypatch.setattr(reconstruction, 'fit_ridges', spy)
    for n_stimuli in (6, 40):
        samples, features, _ = world(n_stimuli=n_stimuli)
        fit(samples, features, SETTINGS)
        by_run = n_stimuli == 6
        assert len(set(seen[-1]['groups'])) == (3 if by_run else 40)
        assert seen[-1]['per_target'] is not by_run


def test_a_saturated_space_does_not_depend_on_the_features():
    samples, features, rng = world(n_stimuli=6, n_runs=6)
    other = PerStimulus(features.stimuli, rng.normal(size=(6, 300)))
    results = []
    for table in (features, other):
        decoder = fit(samples, table, SETTINGS)
        outcome = judge(OWN_MODEL, decoder.components, decoder, samples, table, features.stimuli)
        results.append(outcome.similarities)
    np.testing.assert_allclose(*results, atol=1e-3)


def test_what_is_exchanged_and_what_intervals_are_over():
    samples, features, _ = world(n_stimuli=6, n_runs=3)
    decoder = fit(samples, features, SETTINGS)
    for by, n_folds in (('run', 3), ('stimulus', 2)):
        split = split_by_group(samples.table, by, n_folds=n_folds)
        outcomes = [
            judge(
                OWN_MODEL,
                decoder.components,
                decoder,
                samples.take(fold.test),
                features,
                features.stimuli,
                fold=number,
            )
            for number, fold in enumerate(split)
        ]
        pairing = Pairing.of(outcomes, split)
        table = pd.concat([outcome.table for outcome in outcomes])
        runs, stimuli = pd.factorize(table.run)[0], pd.factorize(table.stimulus)[0]
        assert pairing.shared == 1
        if by == 'run':
            assert pairing.untested == FEW_GROUPS.format(n=3, what='runs', need=6)
            np.testing.assert_array_equal(pairing.blocks, runs)
            np.testing.assert_array_equal(pairing.groups, runs)
            assert pairing.units is None
        else:
            np.testing.assert_array_equal(pairing.blocks, np.repeat([0, 1], 9))
            np.testing.assert_array_equal(pairing.groups, stimuli)
            np.testing.assert_array_equal(pairing.units, stimuli)
            assert pairing.untested is None
    # runs of two folds that bear one name do not mix
    by_session = Split('session', (), samples.table.assign(session='a'))
    blocks = Pairing.of(outcomes, by_session).blocks
    assert len(set(blocks)) == 6


def test_mean_image_predicts_the_mean_of_the_training_stimuli():
    samples, features, _ = world()
    decoder = fit(samples, features, SETTINGS)
    components = baselines.mean_image(decoder)(samples.values[:2])
    np.testing.assert_allclose(
        decoder.space.inverse(components)[0], features.values.mean(axis=0), atol=1e-4
    )


def test_nearest_takes_the_features_of_the_best_correlated_pattern():
    samples, features, _ = world(noise=0.01)
    decoder = fit(samples, features, SETTINGS)
    got = baselines.nearest(decoder, samples, features)(3 * samples.values[:5] - 7)
    expected = decoder.space.transform(features.of(samples.table.stimulus[:5]))
    # five rows and forty are other blocks of the same float32 product
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_candidates():
    samples, _, _ = world(n_stimuli=6)
    runs = samples.fold(split_by_group(samples.table, 'run').folds[0])
    assert candidate_stimuli(runs.train.table, runs.test.table)[1] is True
    stimuli = samples.fold(split_by_group(samples.table, 'stimulus', n_folds=3).folds[0])
    names, closed = candidate_stimuli(stimuli.train.table, stimuli.test.table)
    assert set(names) == set(stimuli.test.table.stimulus)
    assert not closed


def test_labels_that_cannot_be_exchanged_are_said():
    samples, features, _ = world(n_stimuli=6, n_runs=3)
    # two whole runs to learn from, then six runs of one sample
    runs = ['a'] * 6 + ['b'] * 6 + ['c', 'd', 'e', 'f', 'g', 'h']
    first = samples.take(np.arange(18))
    samples = Samples(first.responses, first.table.assign(run=runs))
    split = split_by_group(samples.table, 'run')
    single = Split('run', split.folds[2:], split.table)
    result = run(samples, single, features)
    assert np.isnan(pick(result, 'ridge', 'identification_top1').p)
    assert FIXED_LABELS.format(block='run') in result.notes


@pytest.mark.parametrize(('n_runs', 'tested'), [(5, False), (6, True)])
def test_fewer_than_six_runs_have_neither_interval_nor_p(n_runs, tested):
    samples, features, _ = world(n_stimuli=8, n_runs=n_runs)
    result = run(samples, split_by_group(samples.table, 'run'), features)
    table = scores_table(result.scores)
    assert table['p'].notna().all() == tested
    assert table[['p', 'ci_low']].notna().to_numpy().any() == tested
    assert (FEW_GROUPS.format(n=5, what='runs', need=6) in result.notes) != tested
    within = table.dropna(subset='ci_low')
    assert (within['ci_low'] >= [bounds_of(m)[0] for m in within['metric']]).all()
    assert (within['ci_high'] <= [bounds_of(m)[1] for m in within['metric']]).all()


@pytest.mark.parametrize('by_onset', [False, True])
def test_one_order_in_every_run_has_no_p_and_says_why(by_onset):
    samples, features, _ = world(n_stimuli=8, n_runs=6)
    order = samples.table.assign(place=lambda t: t.groupby('run')['stimulus'].rank())
    if by_onset:
        table = samples.table.assign(onset=10 * order['place'])
        ordered = Samples(samples.responses, table)
    else:
        rows = order.sort_values(['run', 'place']).index
        ordered = samples.take(rows)
    result = run(ordered, split_by_group(ordered.table, 'run'), features)
    table = scores_table(result.scores)
    assert table['p'].isna().all()
    assert table['ci_low'].notna().all()
    assert ONE_ORDER.format(agreement=1) in result.notes
    # stimuli that are held out have no place that training could know
    by_stimulus = run(ordered, split_by_group(ordered.table, 'stimulus', n_folds=4), features)
    assert not any('same order' in note for note in by_stimulus.notes)


def test_errors():
    samples, features, _ = world(n_stimuli=6)
    split = split_by_group(samples.table, 'run')
    with pytest.raises(DataError, match=r'6 stimuli \(5 different\) for 6 rows'):
        PerStimulus(('a', 'b', 'c', 'd', 'e', 'e'), features.values)
    with pytest.raises(DataError, match=r'1 stimuli of the samples have no .* s05\.png'):
        fit(samples, PerStimulus(features.stimuli[:5], features.values[:5]), SETTINGS)
    with pytest.raises(DataError, match='2 cut folds for a split of 3'):
        evaluate_folds(
            [samples.fold(fold) for fold in split.folds[:2]],
            split,
            features,
            rng=np.random.default_rng(0),
        )
    one = samples.take(np.flatnonzero(samples.table.stimulus == 's00.png'))
    with pytest.raises(DataError, match='at least two different stimuli'):
        fit(one, features, SETTINGS)
    by_one = split_by_group(samples.table, 'stimulus', n_folds=6)
    with pytest.raises(DataError, match='Fold 0 has one candidate stimulus only'):
        run(samples, by_one, features)
    single_run = samples.take(np.flatnonzero(samples.table.run == '01'))
    with pytest.raises(DataError, match='at least two run values'):
        fit(single_run, features, DecoderSettings(groups='run', ridge=RIDGE))
