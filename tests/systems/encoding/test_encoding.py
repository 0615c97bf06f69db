"""Image encoding: planted tuning, honest scores, leaks, nulls, round trips."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode import mapped
from bids_neurodecode.config import Config, EvaluationSettings, build_config
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.partition import partition_variance
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_by_group
from bids_neurodecode.signals.reliability import noise_ceiling
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.encoding import recipe as encoding_recipe
from bids_neurodecode.systems.encoding.applying import apply_encoder
from bids_neurodecode.systems.encoding.encoders import (
    EncoderSettings,
    RidgeEncoder,
    fit,
    load_encoder,
    predict,
)
from bids_neurodecode.systems.encoding.outcomes import informative
from bids_neurodecode.systems.encoding.recipe import encode_pictures
from bids_neurodecode.systems.encoding.scores import (
    centred,
    left_out_r,
    permuted_r,
    standardised,
    weighted_r,
)
from bids_neurodecode.systems.outcomes import REPEAT_AVERAGE, SINGLE_TRIAL
from bids_neurodecode.systems.voxels import Estimates

QUICK = {'n_permutations': 99, 'n_bootstrap': 100}
RIDGE = {'alphas': [0.1, 1, 10, 100, 1000, 10000]}


def config(**evaluation) -> Config:
    return build_config({'evaluation': {**QUICK, **evaluation}, 'ridge': RIDGE, 'seed': 5})


def names(n: int) -> tuple[str, ...]:
    return tuple(f'picture{k:04d}.png' for k in range(n))


def planted(n=150, repeats=2, n_features=12, n_voxels=60, ncsnr=1.0, tuned=40, seed=0, bands=1):
    """Voxels follow linear features at a known ratio; those from ``tuned`` on are noise.

    With two bands the first half of the tuned voxels follows the first band.
    """
    rng = np.random.default_rng(seed)
    spaces = {
        name: PerStimulus(names(n), rng.standard_normal((n, n_features)).astype(np.float32))
        for name in ('a', 'b')[:bands]
    }
    signal = np.zeros((n, n_voxels))
    for space, voxels in zip(
        spaces.values(), np.array_split(np.arange(tuned), bands), strict=True
    ):
        weights = rng.standard_normal((n_features, len(voxels)))
        made = space.values @ weights
        signal[:, voxels] = made / made.std(axis=0)
    order = np.concatenate([rng.permutation(n) for _ in range(repeats)])
    runs = np.repeat(np.arange(repeats * 5), n // 5)
    noise = rng.standard_normal((n * repeats, n_voxels))
    values = (100 + signal[order] * ncsnr + noise).astype(np.float32)
    table = pd.DataFrame({'stimulus': np.array(names(n))[order], 'run': runs})
    mask = VoxelMask(np.ones((n_voxels // 10, 5, 2), dtype=bool), np.eye(4))
    return Samples(Responses(values, mask), table), spaces


def encode(samples, spaces, *, by='stimulus', n_folds=5, cfg=None, within=None, **options):
    cfg = cfg or config()
    split = split_by_group(samples.table, by, n_folds=n_folds, rng=np.random.default_rng(cfg.seed))
    return encode_pictures(Estimates(samples, split, within=within), spaces, cfg, **options)


@pytest.fixture(scope='module')
def tuned_result():
    samples, spaces = planted()
    regions = {'tuned': np.arange(60) < 40, 'noise': np.arange(60) >= 40}
    settings = EncoderSettings.of(config())
    return samples, spaces, encode(samples, spaces, settings=settings, regions=regions)


def value(result, metric, space=REPEAT_AVERAGE, model='ridge'):
    rows = [s for s in result.scores if (s.metric, s.space, s.model) == (metric, space, model)]
    assert len(rows) == 1
    return rows[0]


def test_planted_tuning_is_predicted(tuned_result):
    """Nearly all that the noise allows is predicted where there is tuning, and nothing else."""
    _, _, found = tuned_result
    tuned = np.arange(60) < 40
    assert np.nanmedian(found.maps.noise_normalized[tuned]) > 0.75
    assert (found.maps.p_fdr[tuned] < 0.05).all()
    assert (found.maps.p_fdr[~tuned] < 0.05).mean() < 0.15
    assert abs(np.median(found.maps.r[~tuned])) < 0.08
    # the ceilings are those planted: ratio 1, two repeats
    np.testing.assert_allclose(np.median(found.maps.noise_ceiling[tuned]), 2 / 3, atol=0.05)
    np.testing.assert_allclose(np.median(found.trial_maps.noise_ceiling[tuned]), 0.5, atol=0.05)
    assert found.maps.space == REPEAT_AVERAGE
    assert found.trial_maps.space == SINGLE_TRIAL


def test_scores_of_regions_and_pictures(tuned_result):
    _, _, found = tuned_result
    tuned = value(found, 'voxel_r_median', f'{REPEAT_AVERAGE}/tuned')
    noise = value(found, 'voxel_r_median', f'{REPEAT_AVERAGE}/noise')
    assert tuned.value > 0.6
    assert tuned.p is None  # a median over several folds
    assert value(found, 'voxel_r_mean', f'{REPEAT_AVERAGE}/tuned').p == 0.01
    assert value(found, 'voxel_r_mean', f'{REPEAT_AVERAGE}/noise').p > 0.01
    assert tuned.ci_low < tuned.value < tuned.ci_high
    assert tuned.ceiling == pytest.approx(np.sqrt(2 / 3), abs=0.05)
    assert abs(noise.value) < 0.1
    two_way = value(found, 'identification_2way')
    assert two_way.value > 0.95
    assert two_way.system == 'encoding'
    assert two_way.n == 150
    assert value(found, 'identification_2way', SINGLE_TRIAL).n == 300
    shuffled = value(found, 'identification_2way', model='baseline-shuffled')
    assert 0.35 < shuffled.value < 0.65


def test_honest_and_paper_scores_differ_where_there_is_no_signal(tuned_result):
    _, _, found = tuned_result
    honest = value(found, 'noise_normalized_median')
    kept = np.isfinite(found.maps.noise_normalized)
    assert honest.n == kept.sum() < 60
    assert found.maps.share_excluded == pytest.approx(1 - kept.mean())
    assert any(f'of {found.maps.space} responses leave out' in note for note in found.warnings)
    r = found.maps.r
    negative = (r < 0) & np.isfinite(found.maps.noise_normalized)
    assert not found.maps.noise_normalized[negative].any(), 'the wrong way round explains nothing'
    paper = value(found, 'noise_normalized_paper')
    assert paper.n == 60
    assert paper.value != pytest.approx(100 * honest.value)


def test_what_is_stored_is_what_was_scored(tuned_result):
    """Correlation, identification and samples can be had again from the predictions."""
    samples, _, found = tuned_result
    assert found.predictions.shape == (300, 60)
    np.testing.assert_array_equal(np.sort(found.rows), np.arange(300))
    split = split_by_group(samples.table, 'stimulus', n_folds=5, rng=np.random.default_rng(5))
    fold = np.empty(300, dtype=int)
    for number, part in enumerate(split):
        fold[part.test] = number
    truth, prediction = samples.values[found.rows], found.predictions
    prediction = prediction.copy()
    for number in range(5):
        rows = fold[found.rows] == number
        for values in (truth, prediction):
            values[rows] = (values[rows] - values[rows].mean(0)) / values[rows].std(0)
    oracle = [np.corrcoef(a, b)[0, 1] for a, b in zip(truth.T, prediction.T, strict=True)]
    np.testing.assert_allclose(found.trial_maps.r, oracle, atol=1e-4)
    table = found.evaluation.samples
    assert (table['space'] == SINGLE_TRIAL).sum() == 300
    assert (table['space'] == REPEAT_AVERAGE).sum() == 150


def test_test_trials_have_no_say(tuned_result):
    """Another response to held-out images changes no prediction of them."""
    samples, spaces, found = tuned_result
    split = split_by_group(samples.table, 'stimulus', n_folds=5, rng=np.random.default_rng(5))
    first = split.folds[0]
    values = np.array(samples.values)
    values[first.test] += 1000 * np.random.default_rng(0).standard_normal((len(first.test), 60))
    spoilt = Samples(Responses(values.astype(np.float32), samples.responses.mask), samples.table)
    settings = EncoderSettings.of(config(), baseline=False)
    again = encode_pictures(Estimates(spoilt, split), spaces, config(), settings=settings)
    rows = np.isin(found.rows, first.test)
    np.testing.assert_array_equal(again.predictions[rows], found.predictions[rows])


def test_single_space_needs_no_name(tuned_result):
    samples, spaces, found = tuned_result
    settings = EncoderSettings.of(config(), baseline=False)
    again = encode(samples, spaces['a'], settings=settings)
    np.testing.assert_array_equal(again.predictions, found.predictions)


def test_same_seed_same_scores():
    samples, spaces = planted(n=40, n_voxels=20, tuned=10)
    a, b = (encode(samples, spaces) for _ in range(2))
    assert a.scores == b.scores


def test_state_round_trip(tuned_result):
    _, spaces, found = tuned_result
    encoder = found.encoder
    described = json.loads(json.dumps(encoder.describe()))
    rebuilt = load_encoder(encoder.state(), described)
    assert isinstance(rebuilt, RidgeEncoder)
    stimuli = names(150)[:7]
    np.testing.assert_array_equal(
        predict(rebuilt, spaces, stimuli), predict(encoder, spaces, stimuli)
    )
    with pytest.raises(DataError, match='was fitted on the feature spaces'):
        encoder.predict({'other': spaces['a'].values})


@pytest.mark.parametrize(('n', 'judged'), [(2, False), (3, True)])
def test_a_trained_model_is_judged_from_three_new_images_on(tuned_result, n, judged):
    samples, spaces, found = tuned_result
    few = samples.take(np.flatnonzero(samples.table['stimulus'].isin(names(150)[:n])))
    settings = EvaluationSettings(n_permutations=0, n_bootstrap=0)
    applied = apply_encoder(
        found.encoder, few, spaces, settings,
        model='ridge', threshold=0.0, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert (applied is not None) == judged
    if applied is not None:
        assert {score.split for score in applied.scores} == {'new'}
        assert set(applied.samples['stimulus']) == set(names(150)[:n])


def test_banded_model_and_partition(monkeypatch):
    """Each half of the tuned voxels is explained by its own feature space and no other."""
    units = []

    def spy(*arrays, **options):
        units.extend(options['units'])
        return partition_variance(*arrays, **options)

    monkeypatch.setattr(encoding_recipe, 'partition_variance', spy)
    samples, spaces = planted(bands=2, n=160, ncsnr=2.0)
    settings = EncoderSettings.of(
        config(), model='banded', partition=True, baseline=False, n_mixtures=8
    )
    found = encode(samples, spaces, settings=settings)
    shown = samples.table['stimulus'].to_numpy()[found.rows]
    assert len(set(zip(units, shown, strict=True))) == len(set(units)) == 160
    part = found.partition
    first, second, noise = slice(0, 20), slice(20, 40), slice(40, 60)
    assert np.median(part.unique['a'][first]) > 0.5
    assert np.median(part.unique['b'][second]) > 0.5
    for name, voxels in (('a', second), ('b', first), ('a', noise), ('b', noise)):
        assert abs(np.median(part.unique[name][voxels])) < 0.03
        assert (part.p_unique_fdr[name][voxels] < 0.05).mean() <= 0.1
    assert (part.p_unique_fdr['a'][first] < 0.05).all()
    assert np.abs(part.shared).max() < 0.15
    for metric, values in (('variance_unique', part.unique), ('variance_alone', part.alone)):
        for name in 'ab':
            score = value(found, metric, f'{SINGLE_TRIAL}/{name}', 'banded')
            assert score.value == pytest.approx(np.median(values[name]))
            assert score.split == 'test'
    whole = value(found, 'variance_full', SINGLE_TRIAL, 'banded')
    assert whole.value == pytest.approx(np.median(part.full))
    rebuilt = load_encoder(found.encoder.state(), found.encoder.describe())
    np.testing.assert_array_equal(
        predict(rebuilt, spaces, names(5)), predict(found.encoder, spaces, names(5))
    )


def test_repeats_are_exchanged_together():
    """Of repeats that are equal, each exchange is one of the 720 of six held-out images."""
    samples, spaces = planted(n=30, n_voxels=10, tuned=10)
    _, first, image = np.unique(samples.table['stimulus'], return_index=True, return_inverse=True)
    equal = Samples(Responses(samples.values[first][image], samples.responses.mask), samples.table)
    settings = EncoderSettings.of(config(), baseline=False)
    found = encode(equal, spaces, n_folds=1, settings=settings)
    _, once = np.unique(samples.table['stimulus'].to_numpy()[found.rows], return_index=True)
    assert len(once) == 6
    a, b = equal.values[found.rows[once]], found.predictions[once]
    a, b = (x - x.mean(axis=0) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=0) for x in (a, b))
    all_of = np.array([(a * b[list(p)]).sum(axis=0).mean() for p in permutations(range(6))])
    null = found.evaluation.nulls[f'{SINGLE_TRIAL}/voxel_r_mean']
    assert np.abs(null[:, None] - all_of).min(axis=1).max() < 1e-5


def test_averaged_training_and_planted_ceiling():
    samples, spaces = planted(n=80, n_voxels=20, tuned=20)
    # inner folds cannot hold out runs of what was averaged over runs, whatever is asked for
    settings = EncoderSettings.of(config(), average_training=True, baseline=False, groups='run')
    found = encode(samples, spaces, settings=settings)
    assert np.median(found.maps.noise_ceiling) == pytest.approx(noise_ceiling(1.0, 2), abs=0.1)
    assert value(found, 'voxel_r_median').value > 0.6


def test_split_by_run_identifies_the_picture_among_all():
    """The same eight images in every run: a closed set, judged run by run."""
    rng = np.random.default_rng(0)
    n_runs, n = 10, 8
    order = np.concatenate([rng.permutation(n) for _ in range(n_runs)])
    table = pd.DataFrame(
        {
            'stimulus': [names(n)[k] for k in order],
            'run': np.repeat(np.arange(n_runs), n),
        }
    )
    patterns = rng.standard_normal((n, 30))
    values = patterns[order] + rng.standard_normal((n * n_runs, 30))
    mask = VoxelMask(np.ones((3, 5, 2), dtype=bool), np.eye(4))
    samples = Samples(Responses(values.astype(np.float32), mask), table)
    space = PerStimulus(names(n), np.eye(n, dtype=np.float32))
    found = encode(samples, space, by='run', n_folds=None)
    top1 = value(found, 'identification_top1', SINGLE_TRIAL)
    assert top1.chance == pytest.approx(1 / 8)
    assert top1.value > 0.9
    assert top1.p == 0.01
    assert (found.maps.p_fdr < 0.05).mean() > 0.8
    assert any('also seen in training' in note for note in found.warnings)


def test_no_repeats_no_ceiling():
    samples, spaces = planted(repeats=1, n=60, n_voxels=20, tuned=20)
    found = encode(samples, spaces)
    assert np.isnan(found.maps.noise_ceiling).all()
    assert not any(s.metric.startswith('noise') for s in found.scores)
    assert any('no noise ceiling' in note for note in found.warnings)
    assert found.maps is found.trial_maps


def test_voxels_without_betas_are_left_out():
    samples, spaces = planted(n=40, n_voxels=20, tuned=20)
    values = np.array(samples.values)
    values[3, 4] = np.nan
    broken = Samples(Responses(values, samples.responses.mask), samples.table)
    within = np.arange(20) < 10
    found = encode(broken, spaces, within=within, regions={'one': np.arange(20) == 5})
    assert np.flatnonzero(found.keep).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert value(found, 'voxel_r_median', f'{REPEAT_AVERAGE}/one').n == 1
    with pytest.raises(DataError, match='No voxel has finite betas'):
        encode(broken, spaces, within=np.arange(20) == 4)


@pytest.mark.slow
def test_p_values_without_signal():
    """200 data sets of noise: false positives at .05 between 3 and 7 % of the voxels.

    With one hold-out the test is exact; with folds (every other data set) it is no worse.
    """
    cfg = config(n_permutations=99, n_bootstrap=0)
    ridge = cfg.ridge.model_copy(update={'alphas': (10.0, 1000.0), 'n_folds': 2})
    settings = EncoderSettings.of(cfg, baseline=False, ridge=ridge)
    p = {1: [], 3: []}
    scores = []
    for seed in range(200):
        n_folds = 3 if seed % 2 else 1
        samples, spaces = planted(n=45, n_voxels=30, tuned=0, n_features=4, seed=seed)
        found = encode(samples, spaces, n_folds=n_folds, settings=settings, cfg=cfg)
        p[n_folds].append(found.maps.p)
        scores += [value(found, 'identification_2way').p, value(found, 'voxel_r_mean').p]
        if n_folds == 1:
            scores.append(value(found, 'voxel_r_median').p)
    held_out, folds = (np.concatenate(p[k]) for k in (1, 3))
    assert 0.03 < np.mean(np.concatenate([held_out, folds]) <= 0.05) < 0.07
    assert 0.03 < np.mean(held_out <= 0.05) < 0.07
    assert 0.02 < np.mean(folds <= 0.05) < 0.07
    assert 0.47 < held_out.mean() < 0.53
    assert 0.02 < np.mean(np.asarray(scores) <= 0.05) < 0.07


def test_permuted_and_bootstrapped_correlations_by_hand():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((12, 3)).astype(np.float32) for _ in range(2))
    fold = np.repeat([0, 1], 6)
    a, b = (standardised(centred(x, fold), fold) for x in (a, b))
    uneven = np.array([1, 1, 0, 3, 4, 5, 8, 8, 8, 9, 10, 11])
    within = np.concatenate([rng.permutation(6), 6 + rng.permutation(6)])
    null = permuted_r(a, b, [within, uneven], fold)
    for row, exchanged in enumerate((b[within], standardised(centred(b[uneven], fold), fold))):
        oracle = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, exchanged.T, strict=True)]
        np.testing.assert_allclose(null[row], oracle, atol=1e-5)
    drawn = rng.integers(0, 12, 12)
    weights = np.bincount(drawn, minlength=12)[None].astype(np.float32)
    found = weighted_r(a, b, weights)[0]
    oracle = [np.corrcoef(x, y)[0, 1] for x, y in zip(a[drawn].T, b[drawn].T, strict=True)]
    np.testing.assert_allclose(found, oracle, atol=1e-4)


def test_correlations_without_a_unit_are_those_of_the_others():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((14, 5)).astype(np.float32) for _ in range(2))
    units = np.array([0, 1, 2, 0, 1, 3, 4, 4, 5, 5, 5, 2, 3, 0])
    fold = np.zeros(14, dtype=int)
    a[:, 3] = np.where(units == 2, 1.5, 0)  # nothing varies without that unit
    a, b = (standardised(centred(x, fold), fold) for x in (a, b))
    found = left_out_r(a, b, units)
    for unit in range(6):
        rest = units != unit
        for column in (0, 1, 2, 4):
            oracle = np.corrcoef(a[rest, column], b[rest, column])[0, 1]
            assert found[unit, column] == pytest.approx(oracle, abs=1e-5)
    assert found[2, 3] == 0
    assert found.dtype == np.float32


def encoded_in_blocks(n_folds, folder):
    samples, spaces = planted(n=60)
    np.save(folder / 'betas.npy', samples.values)
    values = np.load(folder / 'betas.npy', mmap_mode='r')
    samples = Samples(Responses(values, samples.responses.mask), samples.table)
    return encode(samples, spaces, n_folds=n_folds)


@pytest.mark.parametrize('n_folds', [1, pytest.param(3, marks=pytest.mark.slow)])
def test_blocks_and_mapped_parts_change_no_score(n_folds, monkeypatch, tmp_path):
    """Responses in a file, a few rows and columns at a time: the scores are those of the whole."""
    whole = encoded_in_blocks(n_folds, tmp_path)
    monkeypatch.setattr(mapped, 'MAPPED_BYTES', 1)
    monkeypatch.setattr(mapped, 'BLOCK_BYTES', 8 * 600)
    parts = encoded_in_blocks(n_folds, tmp_path)
    assert [s.metric for s in parts.scores] == [s.metric for s in whole.scores]
    for mine, theirs in zip(parts.scores, whole.scores, strict=True):
        for name in ('value', 'ci_low', 'ci_high', 'difference'):
            a, b = getattr(mine, name), getattr(theirs, name)
            assert (a is None) == (b is None)
            assert a is None or a == pytest.approx(b, abs=2e-4), (mine.metric, name)
    np.testing.assert_allclose(parts.predictions, whole.predictions, rtol=1e-4, atol=1e-4)
    assert isinstance(parts.predictions, np.memmap)
    assert not isinstance(whole.predictions, np.memmap)
    assert [file.name for file in tmp_path.iterdir()] == ['betas.npy']


def test_informative_voxels():
    r2 = np.linspace(-1, 0.5, 100).astype(np.float32)
    r2[3] = np.nan
    assert informative(r2).tolist() == np.flatnonzero(r2 > 0).tolist()
    assert informative(np.full(5, -1, np.float32)).tolist() == [0, 1, 2, 3, 4]
    assert len(informative(-np.arange(100, dtype=np.float32))) == 20


def test_bad_input():
    samples, _ = planted(n=20, n_voxels=20, tuned=10)
    with pytest.raises(ArgumentsError, match='No encoding model'):
        EncoderSettings(model='forest')
    with pytest.raises(DataError, match='at least one feature space'):
        fit(samples, {})
    split = split_by_group(samples.table, 'stimulus', n_folds=3)
    with pytest.raises(DataError, match='tuned for 2 folds'):
        Estimates(samples, split, [samples, samples])
    with pytest.raises(DataError, match='tuned for 0 folds'):
        Estimates(samples, split, [])  # else betas of all trials would stand for each fold's
    few = PerStimulus(names(5), np.zeros((5, 2), np.float32))
    with pytest.raises(DataError, match='no features or image'):
        encode_pictures(Estimates(samples, split), few, config())
