"""Which samples a page shows."""

from __future__ import annotations

import numpy as np
import pytest

from bids_neurodecode.systems.examples import pick_examples


@pytest.mark.parametrize(
    ('score', 'stimuli', 'kinds', 'rows'),
    [
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], 'aabbccddc', 3 * ['best', 'median', 'worst'], None),
        ([1, 2, 3], 'aaa', ['best', 'median', 'worst'], [2, 1, 0]),
        ([1, 2], 'ab', ['best'], [1]),
    ],
)
def test_examples_are_best_middle_and_worst_and_of_different_pictures(score, stimuli, kinds, rows):
    found, picked = pick_examples(np.array(score, dtype=float), 3, list(stimuli))
    assert sorted(found) == sorted(kinds)
    if rows is None:
        rows = [0, 2, 4, 4, 3, 6, 8, 7, 3]
    assert picked.tolist() == rows


def test_samples_that_each_show_something_else_are_taken_in_order():
    kinds, rows = pick_examples(np.array([3.0, 1, 2, 9, 8, 7, 5]), 2)
    assert kinds == ['best', 'best', 'median', 'median', 'worst', 'worst']
    assert rows.tolist() == [3, 4, 6, 5, 1, 2]
