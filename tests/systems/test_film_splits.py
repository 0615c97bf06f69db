"""How films are split: as published, in blocks, whole films."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from bids_neurodecode.config import SplitSettings, build_config, preset_names, read_settings
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Split
from bids_neurodecode.systems.protocol import (
    NO_SUCH_FILM,
    NOT_OF_FILMS,
    choose_film_split,
    choose_split,
    named_films,
)
from bids_neurodecode.systems.steps.plan import Plan

PUBLISHED = {
    'AfterTheRain': 381, 'BetweenViewings': 621, 'BigBuckBunny': 376, 'Chatter': 311,
    'FirstBite': 460, 'LessonLearned': 513, 'Payload': 775, 'Sintel': 555, 'Spaceman': 619,
    'Superhero': 790, 'TearsOfSteel': 452, 'TheSecretNumber': 603, 'ToClaireFromSonny': 309,
    'YouAgain': 613,
}  # fmt: skip
"""Volumes of each film of Emo-FilM, at a repetition time of 1.3 s."""
PAPER = SplitSettings(by='paper', whole_films=('YouAgain',))


def films(lengths):
    """Return a table of films, each in a run of its own."""
    rows = [
        (f'{film}#{i:05d}', f'{film}.mp4', run, '1', round(1.3 * i, 6), round(90 + 1.3 * i, 6))
        for run, (film, n) in enumerate(lengths.items())
        for i in range(n)
    ]
    columns = ['stimulus', 'film', 'run', 'session', 'onset', 'run_onset']
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope='module')
def published():
    return films(PUBLISHED)


def test_the_published_split_has_the_published_counts(published):
    split, why = choose_film_split(published, PAPER)
    (fold,) = split.folds
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (4321, 1086, 1971)
    assert split.protocol == 'paper'
    assert 'YouAgain.mp4' in why
    assert 'without a gap' in why


def test_validation_is_every_fifth_volume_before_the_end(published):
    (fold,) = choose_film_split(published, PAPER)[0].folds
    index = published.groupby('film').cumcount().to_numpy()
    assert (index[fold.validation] % 5 == 0).all()
    assert (index[fold.train] % 5 != 0).all()
    whole = (published['film'] == 'YouAgain.mp4').to_numpy()
    assert set(np.flatnonzero(whole)) <= set(fold.test)
    before = np.concatenate([fold.train, fold.validation])
    for film, rows in published[~whole].groupby('film'):
        mine = np.isin(rows.index, fold.test)
        assert rows['onset'][mine].min() > rows['onset'][np.isin(rows.index, before)].max(), film


def test_the_name_of_the_protocol_survives_the_work_folder(published, tmp_path):
    split, why = choose_film_split(published, PAPER)
    again = Plan.load(Plan(split, why).save(tmp_path)['plan']).split
    assert again.protocol == 'paper'
    np.testing.assert_array_equal(again.folds[0].validation, split.folds[0].validation)


@pytest.mark.parametrize('name', ['b', 'b.mp4', 'clips/b.mp4'])
def test_a_film_is_held_out_whole_beside_the_end_of_the_others(name):
    data = films({'a': 60, 'b': 50})
    data['film'] = 'clips/' + data['film']
    split, why = choose_film_split(data, SplitSettings(whole_films=(name,), gap=6.5))
    (fold,) = split.folds
    test = data.iloc[fold.test]
    assert test['film'].value_counts().to_dict() == {'clips/a.mp4': 12, 'clips/b.mp4': 50}
    # a gap before the held-out end, and no validation samples outside the published split
    assert data['onset'].iloc[fold.train].max() <= test['onset'][test['film'] != 'b'].max() - 6.5
    assert not fold.validation.size
    assert 'all of clips/b.mp4' in why


def test_blocks_keep_their_gap_in_every_fold():
    data = films({'a': 100, 'b': 80})
    split, _ = choose_film_split(data, SplitSettings(by='time', n_folds=4, gap=10.4))
    assert len(split) == 4
    for fold in split:
        for film in ('a.mp4', 'b.mp4'):
            mine = data[data['film'] == film]
            test = mine.loc[np.intersect1d(mine.index, fold.test), 'onset'].to_numpy()
            train = mine.loc[np.intersect1d(mine.index, fold.train), 'onset'].to_numpy()
            assert np.abs(test[:, None] - train[None]).min() >= 10.4 - 1e-9
    tested = np.concatenate([fold.test for fold in split])
    assert sorted(tested) == list(range(len(data)))


def test_one_film_out_at_a_time():
    split, _ = choose_film_split(films({'a': 30, 'b': 20, 'c': 25}), SplitSettings(by='film'))
    assert split.protocol == 'leave-one-out-by-film'
    assert sorted(len(fold.test) for fold in split) == [20, 25, 30]


def test_a_film_that_is_not_there_is_named():
    data = films({'a': 30, 'b': 20})
    with pytest.raises(DataError) as error:
        choose_film_split(data, SplitSettings(whole_films=('Sintel',)))
    assert str(error.value) == NO_SUCH_FILM.format(name='Sintel', films='a.mp4, b.mp4')
    assert named_films(data, ()) == ()


def test_splits_of_the_other_paradigm_are_refused(published):
    with pytest.raises(DataError) as error:
        choose_film_split(published, SplitSettings(by='stimulus'))
    assert str(error.value) == NOT_OF_FILMS.format(by='stimulus')
    with pytest.raises(DataError, match='is for films; these are images'):
        choose_split(published, SplitSettings(by='paper'), 0)


@pytest.mark.parametrize('settings', [{'by': 'paper', 'n_folds': 3}, {'by': 'film'}])
def test_settings_that_do_not_go_together(settings):
    with pytest.raises(ValidationError, match='one fold'):
        SplitSettings(whole_films=('a',), **settings)


def test_a_film_shown_twice_stays_in_one_part():
    data = pd.concat([films({'a': 50}), films({'a': 50}).assign(run=1)], ignore_index=True)
    split, _ = choose_film_split(data, SplitSettings(by='paper'))
    assert isinstance(split, Split)  # which refuses a stimulus in training and test
    part = np.full(len(data), 0)
    part[split.folds[0].test] = 1
    part[split.folds[0].validation] = 2
    np.testing.assert_array_equal(part[:50], part[50:])


def test_only_the_published_preset_uses_the_published_split():
    assert settings_of('emofilm-paper').split == PAPER.model_copy(update={'gap': 0.0})
    others = [name for name in preset_names() if name != 'emofilm-paper']
    assert all(settings_of(name).split.by != 'paper' for name in others)


def settings_of(name):
    return build_config(read_settings(name))
