"""The estimation of betas cut into shares: the same bytes as in one piece."""

from itertools import count

import numpy as np
import pytest

from bids_neurodecode.signals.singletrial import estimate_single_trials
from bids_neurodecode.signals.trialpasses import Share
from bids_neurodecode.systems.steps.betas import _Arrays
from tests.signals.test_singletrial import simulate

FOLDS = {
    'tuning_sets': [np.repeat([1, 0, 0, 1, 1, 1, 1, 1, 1, 1], 12) > 0],
    'inner_sets': [np.repeat([1, 1, 0, 1, 1, 1, 1, 1, 1, 1], 12) > 0],
}


@pytest.fixture
def inputs():
    # more runs than there are groups of sums
    return simulate(np.random.default_rng(7), n_volumes=tuple(range(125, 135)), n_voxels=90)[0]


def everything(found):
    yield from found.betas.items()
    yield from found.rsquared.items()
    yield 'fraction', found.fraction
    yield 'badness', found.fraction_badness
    yield 'curve', found.component_curve
    yield 'hrf', found.hrf_index
    for each in (*found.tuned, *found.inner):
        yield from each.betas.items()


def in_shares(inputs, folder, n, *, skip=()):
    number, left = count(), []
    for stage in range(4):
        made = []
        for share in range(n):
            if (stage, share) in skip:
                continue
            arrays = _Arrays(folder / str(next(number)), 120, left)
            part = Share(stage, share, n)
            estimate_single_trials(*inputs, **FOLDS, allocate=arrays, share=part)
            made += arrays.made
        left += made
    arrays = _Arrays(folder / 'all', 120, left)
    unread = [None] * len(inputs[0])
    for run, series in enumerate(inputs[0]):
        unread[run] = np.zeros_like(series)
    return estimate_single_trials(unread, *inputs[1:], **FOLDS, allocate=arrays)


@pytest.mark.parametrize('n', [1, pytest.param(3, marks=pytest.mark.slow)])
def test_shares_give_the_bytes_of_the_whole(inputs, tmp_path, n):
    inputs[0][3][5, 8] = np.nan
    whole = estimate_single_trials(*inputs, **FOLDS)
    joined = in_shares(inputs, tmp_path, n)  # the last call reads zeros, if any series
    for (name, expected), (_, found) in zip(everything(whole), everything(joined), strict=True):
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes(), name
    assert np.isnan(joined.betas['D'][:, 8]).all()


def test_a_share_that_is_missing_is_not_taken_for_zeros(inputs, tmp_path):
    with pytest.raises(RuntimeError, match='of pass 1 are missing'):
        in_shares(inputs, tmp_path, 3, skip=[(1, 2)])
