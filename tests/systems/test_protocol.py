"""Which split a dataset gets."""

import pandas as pd
import pytest

from bids_neurodecode.config import SplitSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.systems.protocol import choose_film_split, choose_split


def table(runs):
    rows = [(s, r, '1') for r, stimuli in enumerate(runs) for s in stimuli]
    return pd.DataFrame(rows, columns=['stimulus', 'run', 'session'])


def test_the_same_few_stimuli_in_every_run_are_split_by_run():
    split, why = choose_split(table([list('abcd')] * 5), SplitSettings(), 0)
    assert (split.by, len(split), split.repeats_cross) == ('run', 5, True)
    assert split.protocol == 'leave-one-out-by-run'
    assert 'same 4 stimuli' in why


def test_many_stimuli_are_split_by_stimulus():
    runs = [[f'{i}.png' for i in range(30)]] * 3
    split, _ = choose_split(table(runs), SplitSettings(), 0)
    assert (split.by, len(split), split.repeats_cross) == ('stimulus', 5, False)
    tested = [name for fold in split for name in split.table['stimulus'].iloc[fold.test]]
    assert sorted(tested) == sorted([s for run in runs for s in run])


def test_stimuli_that_differ_between_runs_are_split_by_stimulus():
    split, _ = choose_split(table([list('abc'), list('bcd')]), SplitSettings(), 0)
    assert split.by == 'stimulus'


def test_the_seed_decides_which_stimuli_are_held_out():
    data = table([[f'{i}.png' for i in range(40)]])
    first = choose_split(data, SplitSettings(), 1)[0].folds[0].test
    assert (first == choose_split(data, SplitSettings(), 1)[0].folds[0].test).all()
    assert list(first) != list(choose_split(data, SplitSettings(), 2)[0].folds[0].test)


def test_one_stimulus_in_one_run_is_refused():
    with pytest.raises(DataError, match='nothing can be held out'):
        choose_split(table([['a', 'a']]), SplitSettings(), 0)


def films(n=100, names=('f', 'g')):
    rows = [(f'{f}#{i}', f, r, '1', 2.0 * i) for r, f in enumerate(names) for i in range(n)]
    return pd.DataFrame(rows, columns=['stimulus', 'film', 'run', 'session', 'onset'])


def test_films_are_split_in_time_with_a_gap():
    data = films()
    split, why = choose_film_split(data, SplitSettings(gap=10.0))
    (fold,) = split.folds
    for film in ('f', 'g'):
        onset = data['onset'].where(data['film'] == film)
        gap = onset.iloc[fold.test].min() - onset.iloc[fold.train].max()
        assert gap >= 10.0
    assert len(fold.test) == 40
    assert '10 s' in why


def test_a_whole_film_can_be_held_out():
    split, _ = choose_film_split(films(), SplitSettings(by='film'))
    assert len(split) == 2
    assert split.protocol == 'leave-one-out-by-film'
