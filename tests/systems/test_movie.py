"""The linear film encoder, on responses with planted weights and delay."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import EvaluationSettings, RidgeSettings
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.samples import Responses, Samples, VoxelMask, split_in_time
from bids_neurodecode.systems.movie import encode_films, shifted_correlations

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
        repetition_time=TR,
        delays=delays,
        n_components=None,
        ridge=RidgeSettings(),
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


def test_shifted_correlations_equal_rolling():
    rng = np.random.default_rng(1)
    truth, prediction = rng.normal(size=(2, 40, 3))
    found = shifted_correlations(truth, prediction, 5)
    expected = [pearson_by_column(truth, np.roll(prediction, k, axis=0)) for k in range(5, 36)]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_training_never_sees_test_responses():
    samples, features = planted()
    (fold,) = split_in_time(samples.table, gap=10.0).folds
    first = run(samples, features)
    changed = np.array(samples.values)
    changed[fold.test] += 100
    second = run(Samples(Responses(changed, samples.responses.mask), samples.table), features)
    np.testing.assert_array_equal(first.predictions, second.predictions)


def test_table_and_responses_must_fit():
    samples, _ = planted()
    with pytest.raises(Exception, match='one to one'):
        Samples(samples.responses, samples.table.iloc[:-1])
