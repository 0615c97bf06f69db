"""Betas of sessions, read one by one, are those of one table."""

import numpy as np
import pytest

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.gathering import BLOCKS_MISS, gather_betas

STIMULI = ['b', 'a', 'b', 'c', 'a', 'b']
ROWS = (np.array([0, 3, 4]), np.array([1, 2, 5]))


@pytest.fixture
def betas():
    values = np.random.default_rng(0).normal(3, 2, (6, 4)).astype(np.float32)
    values[ROWS[1], 2] = 1.5  # says nothing in one session
    return values


def zeros(shape):
    return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize('standardize', ['none', 'session'])
@pytest.mark.parametrize('repeats', ['single', 'mean'])
def test_sessions_are_read_one_by_one(betas, standardize, repeats):
    blocks = [(rows, betas[rows]) for rows in ROWS]
    found = gather_betas(blocks, STIMULI, repeats=repeats, standardize=standardize, allocate=zeros)
    wanted = betas.astype(np.float64)
    if standardize == 'session':
        for rows in ROWS:
            mine = wanted[rows]
            deviation = mine.std(axis=0)
            wanted[rows] = (mine - mine.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)
    if repeats == 'mean':
        wanted = np.array([wanted[[k == name for k in STIMULI]].mean(axis=0) for name in 'bac'])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_sessions_and_trials_are_one_to_one(betas):
    with pytest.raises(DataError) as error:
        gather_betas([(ROWS[0], betas[ROWS[0]])], STIMULI, allocate=zeros)
    assert str(error.value) == BLOCKS_MISS.format(n=3, rows=6)
