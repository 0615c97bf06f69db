"""The linear film encoder, on responses with planted weights and delay."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_in_time
from bids_neurodecode.systems.movie.judging import BY_FOLD, TOO_SHORT
from bids_neurodecode.systems.movie.recipe import FilmRidge, encode_films
from bids_neurodecode.systems.movie.steps import prediction

TR = 2.0
N, K, V = 300, 4, 12


def planted(delay=4.0, shuffle=False, seed=0):
    """Half of the voxels follow the features ``delay`` seconds later; the others are noise."""
    rng = np.random.default_rng(seed)
    features, frames = [], []
    for film in ('f', 'g'):
        walk = np.cumsum(rng.normal(size=(N, K)), axis=0)
        features.append(walk - pd.DataFrame(walk).rolling(20, min_periods=1).mean().to_numpy())
        frames.append(pd.DataFrame({'film': film, 'onset': np.arange(N) * TR, 'run': len(frames)}))
    table = pd.concat(frames, ignore_index=True)
    table['stimulus'] = table['film'] + '#' + table['onset'].astype(str)
    lag = round(delay / TR)
    weights = rng.normal(size=(K, V))
    signal = np.concatenate(
        [np.vstack([np.zeros((lag, K)), f[: N - lag]]) @ weights for f in features]
    )
    signal[:, V // 2 :] = 0
    values = signal / (signal.std(axis=0) + 1e-9) + rng.normal(size=signal.shape)
    if shuffle:
        values = np.roll(values, 137, axis=0)
    mask = VoxelMask(np.ones((V, 1, 1), dtype=bool), np.eye(4))
    samples = Samples(Responses(values.astype(np.float32), mask), table)
    return samples, np.concatenate(features).astype(np.float32)


def run(samples, features, delays=(2.0, 4.0, 6.0)):
    return encode_films(
        samples,
        split_in_time(samples.table, gap=10.0),
        features,
        FilmRidge(TR, delays),
        evaluation=EvaluationSettings(n_bootstrap=100),
        rng=np.random.default_rng(0),
    )


def test_planted_voxels_are_predicted_and_others_are_not():
    result = run(*planted())
    assert result.r[: V // 2].min() > 0.5
    assert np.abs(result.r[V // 2 :]).max() < 0.35
    assert (result.p_fdr[: V // 2] < 0.05).all()
    # one in twenty discoveries may be false
    assert (result.p_fdr[V // 2 :] < 0.05).sum() <= 1
    assert result.scores[0].p < 0.02
    assert result.predictions.shape == (len(result.rows), V)


def test_the_planted_delay_is_best():
    samples, features = planted(delay=6.0)
    medians = [run(samples, features, (d,)).r[: V // 2].mean() for d in (2.0, 4.0, 6.0, 8.0)]
    assert int(np.argmax(medians)) == 2


def test_shifted_responses_are_at_chance():
    result = run(*planted(shuffle=True))
    assert abs(result.scores[0].value) < 0.15
    assert result.scores[0].p > 0.05


def test_training_never_sees_test_responses():
    samples, features = planted()
    (fold,) = split_in_time(samples.table, gap=10.0).folds
    first = run(samples, features)
    changed = np.array(samples.values)
    changed[fold.test] += 100
    second = run(Samples(Responses(changed, samples.responses.mask), samples.table), features)
    np.testing.assert_array_equal(first.predictions, second.predictions)


def test_voxels_that_one_fold_chose_are_scored_in_it_alone():
    samples, features = planted()
    split = split_in_time(samples.table, gap=10.0, n_folds=3)
    chosen = np.ones((3, V), dtype=bool)
    chosen[0, 0] = chosen[1, 1] = chosen[2, 1] = False
    result, whole = (
        encode_films(
            samples,
            split,
            features,
            FilmRidge(TR, (2.0, 4.0, 6.0)),
            evaluation=EvaluationSettings(n_permutations=99, n_bootstrap=100),
            rng=np.random.default_rng(0),
            chosen=each,
        )
        for each in (chosen, None)
    )
    np.testing.assert_array_equal(np.isfinite(result.by_fold), chosen)
    np.testing.assert_allclose(result.by_fold[chosen], whole.by_fold[chosen], atol=1e-5)
    weights = np.array([len(fold.test) for fold in split])
    assert result.r[0] == pytest.approx(np.average(whole.by_fold[1:, 0], weights=weights[1:]))
    assert result.r[1] == pytest.approx(whole.by_fold[0, 1])
    medians = [np.median(r[kept]) for r, kept in zip(whole.by_fold, chosen, strict=True)]
    assert result.scores[0].value == pytest.approx(np.average(medians, weights=weights))
    assert 0.01 <= result.scores[0].p < 0.3
    assert result.scores[0].ci_low < result.scores[0].value < result.scores[0].ci_high
    assert result.notes[0].startswith(BY_FOLD.split('{')[0])
    assert np.isnan(result.predictions).sum() == weights[0] + weights[1] + weights[2]
    assert result.encoder.ridge.predict(np.zeros((1, 3 * K))).shape == (1, V)
    assert whole.notes == ()


def test_a_minute_at_least_is_held_out_for_a_p_value():
    samples, features = planted()
    split = split_in_time(samples.table, gap=10.0, test_fraction=14 / N)
    result = encode_films(
        samples,
        split,
        features,
        FilmRidge(TR, (2.0, 4.0)),
        evaluation=EvaluationSettings(n_permutations=99),
        rng=np.random.default_rng(0),
    )
    assert result.notes == (TOO_SHORT.format(model='ridge', seconds=56, need=60),)
    assert result.scores[0].p is None
    assert np.isnan([*result.p_fdr, *result.p_fwer, result.r_fwer]).all()
    assert result.null.size == 0
    assert {score.model for score in result.scores} == {'ridge'}


def test_table_and_responses_must_fit():
    samples, _ = planted()
    with pytest.raises(Exception, match='one to one'):
        Samples(samples.responses, samples.table.iloc[:-1])


def test_films_without_series_have_a_volume_for_each_repetition_time():
    table = prediction.clock_of_films({'b.mp4': 3 * TR + 0.5, 'a.mp4': TR}, TR)
    assert [*table['stimulus']] == ['b.mp4#00000', 'b.mp4#00001', 'b.mp4#00002', 'a.mp4#00000']
    assert [*table['onset']] == [*table['run_onset']] == [0, TR, 2 * TR, 0]
    assert [*table['run']] == [*table['showing']] == [0, 0, 0, 1]
    assert [*table['run_label']] == [*table['film']]
    with pytest.raises(DataError, match=prediction.TOO_SHORT.split('{')[0]):
        prediction.clock_of_films({'long.mp4': 9.0, 'short.mp4': 1.0}, TR)
