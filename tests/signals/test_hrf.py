"""The library of haemodynamic responses against what GLMsingle made of the same numbers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.signals.hrf import (
    BAD_DURATION,
    BAD_REPETITION_TIME,
    assumed_hrf,
    hrf_library,
    time_to_peak,
)

GOLDEN = Path(__file__).parents[1] / 'data' / 'glmsingle_1.2.npz'


def test_library_equals_glmsingle():
    golden = np.load(GOLDEN)
    expected = golden['hrf_library'].T
    ours = hrf_library(float(golden['tr']), float(golden['stimdur']))
    # there all responses are divided by one number, here each by its own maximum
    np.testing.assert_allclose(ours, expected / expected.max(axis=0), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 4.0), st.floats(0.0, 30.0))
def test_every_grid_is_usable(repetition_time, duration):
    library = hrf_library(repetition_time, duration)
    np.testing.assert_allclose(library.max(axis=0), 1)
    assert np.isfinite(library).all()
    np.testing.assert_array_equal(library[0], 0 if duration < 0.15 else library[0])
    span = (len(library) - 1) * repetition_time
    assert span <= 50 + duration + 0.1 < span + repetition_time + 0.2
    assert assumed_hrf(repetition_time, duration).max() == pytest.approx(1)


def test_longer_stimuli_add_up():
    # two stimuli of 1 s, one after the other, are one of 2 s (before division by the maximum)
    one, two = hrf_library(0.1, 1.0), hrf_library(0.1, 2.0)
    both = np.zeros_like(two)
    both[: len(one)] += one
    both[10 : 10 + len(one)] += one[: len(both) - 10]
    np.testing.assert_allclose(two, both / both.max(axis=0), atol=1e-9)


def test_peaks_span_the_library_and_move_with_duration():
    short, long = time_to_peak(0.1), time_to_peak(4.0)
    assert short.shape == (20,)
    assert 2.5 < short.min() < short.max() < 10
    assert np.all(long > short)
    for peak, response in zip(short, hrf_library(0.1, 0.1).T, strict=True):
        assert np.argmax(response) * 0.1 == pytest.approx(peak)


@pytest.mark.parametrize('value', [0, -1, 25, float('nan'), float('inf')])
def test_bad_repetition_time(value):
    with pytest.raises(ArgumentsError) as caught:
        hrf_library(value, 1.0)
    assert str(caught.value) == BAD_REPETITION_TIME.format(value=value)


@pytest.mark.parametrize('value', [-0.1, float('nan'), float('inf')])
def test_bad_duration(value):
    with pytest.raises(ArgumentsError) as caught:
        assumed_hrf(1.0, value)
    assert str(caught.value) == BAD_DURATION.format(value=value)
