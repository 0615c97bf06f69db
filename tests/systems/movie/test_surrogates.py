"""The null of predicted series: surrogates of whole films, cut as the predictions are."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.systems.movie.parts import (
    FoldPrediction,
    held_out_parts,
    part_labels,
    rows_to_predict,
    standardize_within,
)
from bids_neurodecode.systems.movie.surrogates import (
    ALPHA,
    FEW,
    MORE,
    HeldOutFilm,
    surrogate_responses,
)

TR = 1.3


def autocorrelated(rng, n, n_series, past):
    noise = rng.normal(size=(n + 200, n_series))
    return lfilter([np.sqrt(1 - past**2)], [1, -past], noise, axis=0)[200:]


def shown(films, n):
    """One row per volume; a film that is named twice is shown twice."""
    return pd.DataFrame(
        {
            'film': np.repeat(films, n),
            'onset': np.tile(np.arange(n) * TR, len(films)).round(6),
            'run': np.repeat(np.arange(len(films)), n),
            'showing': np.repeat(np.arange(len(films)), n),
        }
    )


def judged(seed, films=('a', 'b'), n=250, held=50, n_voxels=12, signal=0.0, n_draws=199):
    """Test predictions of features (AR .9) for noise (AR .5 and a slow AR .93)."""
    rng = np.random.default_rng(seed)
    table = shown(films, n)
    by_film = {film: autocorrelated(rng, n, n_voxels, 0.9) for film in dict.fromkeys(films)}
    predicted = np.concatenate([by_film[film] for film in films])
    fast, slow = (
        np.concatenate([autocorrelated(rng, n, n_voxels, past) for _ in films])
        for past in (0.5, 0.93)
    )
    measured = signal * predicted + fast + slow
    test = np.flatnonzero(table['onset'].to_numpy() >= (n - held) * TR - 1e-6)
    parts = held_out_parts(table, [test])
    rows, _, labels = part_labels(parts)
    truth = standardize_within(measured[rows], labels)
    r = pearson_by_column(truth, standardize_within(predicted[rows], labels))
    held = HeldOutFilm(truth, table, [FoldPrediction(test, predicted)], parts)
    return held.test(r, n_draws, rng)


@pytest.mark.slow
def test_p_is_uniform_without_a_signal():
    p = np.concatenate([judged(seed).p for seed in range(100)])
    # 1,200 p values of independent voxels: a deviation of .006 at this level
    assert 0.03 < (p <= 0.05).mean() < 0.07
    assert (p <= 0.01).mean() < 0.02
    assert abs(p.mean() - 0.5) < 0.03


def test_a_signal_is_found_and_the_family_is_corrected():
    test = judged(0, signal=2.0, n_voxels=6)
    np.testing.assert_allclose(test.p, 1 / 200)
    assert (test.p_fwer < 0.05).all()
    assert test.scores.shape == (199,)


def test_voxels_that_few_surrogates_reach_are_compared_with_more():
    """One voxel with a signal among 300: no p of 99 surrogates would be a discovery."""
    signal = np.zeros(300)
    signal[7] = 4.0
    test = judged(0, signal=signal, n_voxels=300, n_draws=99)
    assert test.p[7] == pytest.approx(1 / (MORE * 99 + 1))
    assert test.scores.shape == (99,)
    first, more = (
        np.isclose(test.p * (n + 1), np.rint(test.p * (n + 1)), atol=1e-9) for n in (99, MORE * 99)
    )
    assert (first | more).all()
    assert more[test.p <= FEW / 100].all()
    assert first[test.p > 2 * FEW / 100].all()


def test_no_more_are_drawn_than_one_discovery_takes():
    test = judged(0, signal=4.0, n_voxels=6, n_draws=99)
    np.testing.assert_allclose(test.p, 1 / (6 / ALPHA + 1))


@pytest.mark.slow
def test_the_level_of_small_p_holds():
    """10,000 voxels without a signal, compared with 19 surrogates or 190."""
    p = np.concatenate([judged(seed, n_voxels=400, n_draws=19).p for seed in range(25)])
    assert p.min() == pytest.approx(1 / 191)
    for level in (0.25, 0.1, 0.05, 0.02, 0.01):
        assert (p <= level).mean() < 1.35 * level


def test_presentations_of_a_film_share_their_surrogate():
    """What the film evokes comes back with each presentation: their noise does not average out."""
    rng = np.random.default_rng(1)
    table = shown(('a', 'a', 'b'), 60)
    predicted = autocorrelated(rng, 60, 3, 0.9)[np.tile(np.arange(60), 3)]
    test = np.flatnonzero(table['onset'].to_numpy() >= 40 * TR)
    parts = held_out_parts(table, [test])
    rows, _, labels = part_labels(parts)
    evoked = rng.normal(size=(20, 3))
    truth = standardize_within(np.concatenate([evoked] * 3), labels)
    folds = [FoldPrediction(test, predicted)]

    def null(which):
        mine = [parts[i] for i in which]
        inside = np.isin(rows, np.concatenate([part.rows for part in mine]))
        draws = np.random.default_rng(5)
        ((_, found),) = HeldOutFilm(truth[inside], table, folds, mine).correlations(300, draws)
        return found

    # twice the same film adds nothing; another film has phases of its own
    np.testing.assert_allclose(null([0, 1]), null([0]), atol=1e-5)
    assert null([0, 2]).std() < 0.85 * null([0]).std()


def test_only_the_spectrum_of_the_whole_prediction_matters():
    """A prediction of one sine has surrogates of one sine, whatever part is held out."""
    table = shown(('a',), 100)
    wave = np.sin(2 * np.pi * 5 * np.arange(100) / 100)[:, None].repeat(2, axis=1)
    test = np.arange(60, 100)
    parts = held_out_parts(table, [test])
    truth = standardize_within(wave[test], np.full(40, '0'))
    folds = [FoldPrediction(test, 7 + 3 * wave)]
    held = HeldOutFilm(truth, table, folds, parts)
    ((_, found),) = held.correlations(500, np.random.default_rng(0))
    # two full turns are held out: r is the cosine of the phase, the same in both voxels
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert found.max() == pytest.approx(1, abs=1e-3)
    assert found.min() == pytest.approx(-1, abs=1e-3)
    assert found.std() == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_a_prediction_without_variance_correlates_with_nothing():
    table, test = shown(('a',), 100), np.arange(60, 100)
    predicted = np.random.default_rng(0).normal(size=(100, 2))
    predicted[:, 1] = 3.0
    truth = standardize_within(np.random.default_rng(1).normal(size=(40, 2)), np.full(40, '0'))
    folds = [FoldPrediction(test, predicted)]
    held = HeldOutFilm(truth, table, folds, held_out_parts(table, [test]))
    ((_, found),) = held.correlations(9, np.random.default_rng(2))
    assert found[:, 0].all()
    assert not found[:, 1].any()


def test_folds_that_do_not_use_a_voxel_leave_it_out():
    rng = np.random.default_rng(2)
    table = shown(('a', 'b'), 50)
    predicted = rng.normal(size=(100, 3))
    fewer = predicted.copy()
    fewer[:, 1] = np.nan
    folds = [FoldPrediction(np.arange(50), fewer), FoldPrediction(np.arange(50, 100), predicted)]
    parts = held_out_parts(table, [fold.test for fold in folds])
    truth = standardize_within(rng.normal(size=(100, 3)), np.repeat(['0', '1'], 50))
    held = HeldOutFilm(truth, table, folds, parts)
    found = dict(held.correlations(9, rng))
    assert not found[0][:, 1].any()
    assert found[1].all()
    assert held.pool.weights.tolist() == [50, 50]
    values = np.where(held.pool.used, [[0.1, 9, 0.5], [0.3, 0.4, 0.8]], np.nan)
    np.testing.assert_allclose(held.pool.voxels(values), [0.2, 0.4, 0.65])
    # each fold on its own voxels, then the mean over folds
    np.testing.assert_allclose(held.pool.summary(values), [(0.3 + 0.4) / 2, (0.3 + 0.5) / 2])


def test_surrogates_of_responses_keep_the_relations_of_voxels():
    rng = np.random.default_rng(3)
    table = shown(('a', 'b'), 80)
    own = autocorrelated(rng, 160, 2, 0.8)
    values = np.column_stack([own, own.sum(axis=1)]) + 5
    values[3] = np.nan
    rows = np.r_[50:80, 130:160]
    drawn = np.stack(list(surrogate_responses(values, table, rows, 20, rng)))
    assert drawn.shape == (20, 60, 3)
    np.testing.assert_allclose(drawn[..., 2] - 5, (drawn[..., :2] - 5).sum(axis=2), atol=1e-4)
    same = [np.corrcoef(x[:, 0], values[rows, 0])[0, 1] for x in drawn]
    assert abs(np.mean(same)) < 0.2


def test_surrogates_of_responses_are_drawn_once_a_film():
    """Equal responses stay equal in presentations of a film, and in no other film."""
    rng = np.random.default_rng(4)
    table = shown(('a', 'a', 'b'), 64)
    values = np.tile(autocorrelated(rng, 64, 2, 0.8), (3, 1))
    for draw in surrogate_responses(values, table, np.arange(192), 20, rng):
        first, again, other = draw.reshape(3, 64, 2)
        np.testing.assert_allclose(again, first, atol=1e-6)
        assert np.abs(other - first).max() > 0.5


def test_rows_to_predict_hold_each_film_once():
    table = shown(('a', 'a', 'b'), 10)
    assert rows_to_predict(table, np.array([18, 19])).tolist() == [*range(10), 18, 19]
