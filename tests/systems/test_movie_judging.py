"""Circular shifts within showings."""

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.systems.movie_judging import draw_lags, shift_test, standardize_within


def test_all_combinations_where_there_are_few():
    rng = np.random.default_rng(0)
    lags = draw_lags([12, 11], 5, 1000, rng)
    assert lags.tolist() == [[a, b] for a in range(3) for b in range(2)]
    many = draw_lags([100, 100], 5, 50, rng)
    assert many.shape == (50, 2)
    assert many.max() <= 90


def test_too_short_a_part_is_said():
    with pytest.raises(DataError, match='part of 18 volumes of a film is too short'):
        draw_lags([40, 18], 10, 100, np.random.default_rng(0))


def judged(seed, n_showings=6, signal=0.0):
    """The same film shown several times; predictions are the same each time."""
    rng = np.random.default_rng(seed)
    film = rng.normal(size=(60, 3))
    labels = np.repeat([str(k) for k in range(n_showings)], 60)
    predicted = standardize_within(np.tile(film, (n_showings, 1)), labels)
    noise = rng.normal(size=predicted.shape)
    truth = standardize_within(signal * predicted + noise, labels)
    r = pearson_by_column(truth, predicted)
    return shift_test(truth, predicted, r, labels, 5, 200, rng)


def test_repeated_showings_reach_the_smallest_p():
    np.testing.assert_allclose(judged(0, signal=1.0).p, 1 / 201)


def test_p_is_uniform_without_a_signal():
    p = np.concatenate([judged(seed).p for seed in range(60)])
    assert 0.01 < (p <= 0.05).mean() < 0.1
    assert abs(p.mean() - 0.5) < 0.08
