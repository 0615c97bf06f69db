"""A run is known by its content: whatever its type, gain, length or name; no other run is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode.signals.fingerprints import fingerprint, same_run, seen_runs


def series(seed: int, n_voxels: int = 400, n_volumes: int = 120) -> np.ndarray:
    """Autocorrelated noise around 1,000, with voxels that never change."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_voxels, n_volumes))
    for t in range(1, n_volumes):
        noise[:, t] += 0.6 * noise[:, t - 1]
    values = (1000 + 10 * noise).astype(np.float32)
    values[::7] = 0
    return values


COPIES = {
    'itself': lambda x: x,
    'integers': np.round,
    'scaled integers': lambda x: np.round((x - x.min()) / np.ptp(x) * 4000),
    'another gain and offset': lambda x: 2.5 * x + 40,
    'without the first volumes': lambda x: x[:, 5:],
    'without the last volumes': lambda x: x[:, :-30],
    'without both': lambda x: x[:, 4:-9],
    'a little noise': lambda x: x + np.random.default_rng(9).normal(0, 0.5, x.shape),
}


@pytest.mark.parametrize('kind', COPIES)
def test_copies_are_known(kind):
    mark = fingerprint(series(0))
    copy = fingerprint(COPIES[kind](series(0)))
    assert same_run(mark, copy)
    assert same_run(copy, mark)


@settings(deadline=None, max_examples=30)
@given(a=st.integers(0, 10_000), b=st.integers(0, 10_000), shared=st.floats(0, 0.5))
def test_other_runs_are_not_taken_for_it(a, b, shared):
    """Also where half of the variance is the same, as under one design."""
    if a == b:
        return
    common = series(10_001)
    one, two = ((1 - shared) * series(k) + shared * common for k in (a, b))
    assert not same_run(fingerprint(one), fingerprint(two))


def test_only_the_runs_that_were_seen_are_named():
    known = [fingerprint(series(k)) for k in range(3)]
    new = {'run-1': fingerprint(series(7)), 'run-2': fingerprint(series(1)[:, 3:])}
    assert seen_runs(new, known) == ('run-2',)


def test_what_never_changes_has_no_fingerprint():
    assert fingerprint(np.ones((10, 20))) == ''
    assert fingerprint(np.full((10, 20), np.nan)) == ''
    assert not same_run('', fingerprint(series(0)))
    assert not same_run('', '')


def test_runs_too_short_to_tell_are_not_taken_for_each_other():
    short = fingerprint(series(0)[:, :6])
    assert not same_run(short, short)
