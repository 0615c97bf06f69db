"""Agreement of the order of stimuli: by its definition, one pair of trials at a time."""

import itertools
import warnings

import numpy as np
import pytest

from bids_neurodecode.evaluation.order import order_agreement


def agreement(*runs):
    """Run it on one string of stimuli a run."""
    labels = [number for number, run in enumerate(runs) for _ in run]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return order_agreement(labels, list(''.join(runs)))


def near(a, b):
    return np.exp(-abs(a - b) / 2)


def by_hand(*runs):
    """Return the larger mean likeness of two runs, of places and of neighbours."""
    names = sorted({name for run in runs for name in run})
    names = [n for n in names if sum(n in run for run in runs) >= max(2, len(runs) / 2)]
    longest = max(map(len, runs))
    places, neighbours = [], []
    for run in runs:
        at = {name: [k for k, other in enumerate(run) if other == name] for name in names}
        shown = [name for name in names if at[name]]
        profile = {
            n: [np.mean([near(k, x) for k in at[n]]) for x in range(longest)] for n in shown
        }
        mean = np.mean(list(profile.values()), axis=0) if shown else 0
        nothing = np.zeros(longest)
        places.append(
            np.concatenate([profile[n] - mean if n in profile else nothing for n in names])
        )
        close = {
            (a, b): np.mean([near(j, k) for j in at[a] for k in at[b]])
            for a, b in itertools.combinations(shown, 2)
        }
        mean = np.mean(list(close.values())) if close else 0
        neighbours.append(
            [close.get(pair, mean) - mean for pair in itertools.combinations(names, 2)]
        )
    found = [0.0]
    for vectors in (places, neighbours):
        some = [np.array(v) / np.linalg.norm(v) for v in vectors if np.linalg.norm(v) > 1e-9]
        pairs = [a @ b for a, b in itertools.combinations(some, 2)]
        found.append(np.mean(pairs) if pairs else 0.0)
    return max(found)


@pytest.mark.parametrize('seed', range(12))
def test_it_is_the_likeness_of_places_or_of_neighbours(seed):
    """Runs of unequal length that repeat some stimuli and leave others out."""
    rng = np.random.default_rng(seed)
    letters = np.array(list('abcdefgh')[: rng.integers(4, 9)])
    runs = [
        ''.join(rng.choice(letters, int(rng.integers(2, 12)))) for _ in range(rng.integers(2, 7))
    ]
    if seed % 3 == 0:  # nearly one order
        runs = [''.join(np.delete(letters, rng.integers(len(letters)))) for _ in runs]
    assert agreement(*runs) == pytest.approx(by_hand(*runs), abs=1e-9)


def test_how_often_a_stimulus_is_shown_is_no_order():
    """One condition twice as often as the others, in random orders of eight runs."""
    rng = np.random.default_rng(0)
    found = [
        agreement(*(''.join(rng.permutation(list('aaaabbccdd'))) for _ in range(8)))
        for _ in range(100)
    ]
    assert np.mean(np.array(found) >= 0.3) < 0.05
    assert agreement(*['abacadbcad'] * 8) == pytest.approx(1)


def test_one_order_is_found_forwards_backwards_and_turned():
    assert agreement('abcdefgh', 'abcdefgh') == pytest.approx(1)
    assert agreement('abcdefgh', 'hgfedcba') == pytest.approx(1)
    assert agreement('ab', 'ab', 'ab') == pytest.approx(1)
    assert agreement('abcdefgh', 'efghabcd', 'ghabcdef') > 0.4
    rng = np.random.default_rng(0)
    random = [agreement(*(''.join(rng.permutation(list('abcdefgh'))) for _ in range(6)))
              for _ in range(40)]  # fmt: skip
    assert np.mean(random) < 0.1


def test_where_nothing_is_shared_nothing_agrees():
    assert agreement('abc', 'def') == 0
    assert agreement('abc', 'ade') == 0  # one stimulus has no order
    assert agreement('ab', 'ba') == 0
    assert agreement('abcdefgh') == 0  # one run


def test_what_half_of_the_runs_show_counts():
    # x and y have one order in two of four runs, and are not in the others
    runs = ('xy', 'xy', 'ab', 'ba')
    assert agreement(*runs) == pytest.approx(by_hand(*runs))
    assert agreement('xy', 'xy', 'cd', 'ef', 'gh') == 0
