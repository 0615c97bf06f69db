"""Which split a dataset gets."""

import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.config import RidgeSettings, SplitSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import Fold, Responses, Samples, Split, VoxelMask
from bids_neurodecode.stimuli.duplicates import Repeat
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.systems.linear import DecoderSettings
from bids_neurodecode.systems.protocol import (
    COPIES_ACROSS,
    EMPTY_PART,
    FEW_IMAGES,
    IMAGINED,
    KEPT_TOGETHER,
    NO_CATEGORY,
    NO_IMAGERY,
    NOT_OF_FILMS,
    UNSEEN,
    WHERE,
    apart_from_repeats,
    check_clusters,
    choose_film_split,
    choose_split,
    cluster_stimuli,
    copies_note,
    with_content,
)
from bids_neurodecode.systems.reconstruction.recipe import evaluate_folds


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


def test_films_too_short_for_a_gap_are_held_out_whole():
    data = films(n=3, names=tuple('abcdefghij'))
    split, why = choose_film_split(data, SplitSettings(gap=10.0))
    assert len(split) == 5
    assert why == 'split by film: most are too short to hold out a part of each, 10 s apart'
    for fold in split:
        held_out = set(data['film'].iloc[fold.test])
        assert len(held_out) == 2
        assert not held_out & set(data['film'].iloc[fold.train])
    with pytest.raises(DataError, match='no training samples'):  # asked for, it is not replaced
        choose_film_split(data, SplitSettings(gap=10.0, by='time'))


def with_copies(table):
    """Every second stimulus is a copy of the one before it."""
    first = {f'{i}.png': f'{i - i % 2}.png' for i in range(40)}
    return with_content(table, first)


def test_copies_are_kept_on_one_side_and_it_is_said():
    data = with_copies(table([[f'{i}.png' for i in range(40)]] * 2))
    split, why = choose_split(data, SplitSettings(by='stimulus'), 0)
    assert split.copies_across == ()
    for fold in split:
        assert not set(data['content'].iloc[fold.train]) & set(data['content'].iloc[fold.test])
    assert KEPT_TOGETHER.format(n=20, first='0.png', other='1.png') in why
    assert copies_note(split) == ()


def test_copies_count_once_among_the_stimuli_of_folds():
    data = with_copies(table([[f'{i}.png' for i in range(8)]] * 2))
    split, _ = choose_split(data, SplitSettings(by='stimulus'), 0)
    assert len(split) == data['content'].nunique() // 2 == 2


def test_a_split_by_names_that_parts_copies_is_refused():
    data = with_copies(table([[f'{i}.png' for i in range(4)]] * 2))
    with pytest.raises(DataError, match='content'):
        Split('stimulus', (Fold(np.array([0, 2, 3, 4, 6, 7]), np.array([1, 5])),), data)


def test_copies_across_runs_are_reported():
    names = [[f'{i}.png' for i in range(0, 8, 2)], [f'{i}.png' for i in range(1, 8, 2)]]
    data = with_copies(table(names))
    split, why = choose_split(data, SplitSettings(), 0)  # by content, both runs show the same
    assert (split.by, split.repeats_cross) == ('run', True)
    assert 'same 4 stimuli' in why
    (line,) = copies_note(split)
    assert line == COPIES_ACROSS.format(n=8, test='0.png', train='1.png')


def test_stimuli_without_copies_have_no_column():
    data = table([list('abc')] * 2)
    assert 'content' not in with_content(data, {name: name for name in 'abc'}).columns


@pytest.fixture
def clustered():
    """Forty images in five clouds of unequal sizes, two presentations each."""
    rng = np.random.default_rng(0)
    cloud = np.repeat(np.arange(5), (4, 6, 8, 10, 12))
    features = 20 * rng.standard_normal((5, 7))[cloud] + rng.standard_normal((40, 7))
    names = [f'{i}.png' for i in range(40)]
    return table([names] * 2), names, features, cloud


def test_clusters_of_the_features_are_held_out_whole(clustered):
    data, names, features, cloud = clustered
    found = cluster_stimuli(data, names, [features], 5, 0)
    assert pd.crosstab(np.tile(cloud, 2), found['cluster']).gt(0).sum(axis=1).eq(1).all()
    split, _ = choose_split(found, SplitSettings(by='cluster', n_clusters=5, n_folds=2), 0)
    assert split.protocol == '2-fold-by-cluster'
    sizes = [len(fold.test) for fold in split]
    assert sum(sizes) == 80
    assert max(sizes) - min(sizes) <= 8  # clusters are shared out by their sizes
    for fold in split:
        assert not set(found['cluster'].iloc[fold.train]) & set(found['cluster'].iloc[fold.test])


def test_clusters_do_not_depend_on_the_units_of_a_space_or_on_the_call(clustered):
    data, names, features, _ = clustered
    one = cluster_stimuli(data, names, [features], 5, 0)['cluster']
    again = cluster_stimuli(data, names, [features * 1e4 + 3], 5, 0)['cluster']
    np.testing.assert_array_equal(one, again)


def test_one_fold_of_clusters_holds_out_about_the_share_asked_for(clustered):
    data, names, features, _ = clustered
    found = cluster_stimuli(data, names, [features], 10, 0)
    settings = SplitSettings(by='cluster', n_folds=1, test_fraction=0.2)
    split, _ = choose_split(found, settings, 0)
    assert len(split) == 1
    assert 0.1 <= len(split.folds[0].test) / 80 <= 0.35


def test_more_clusters_than_images_and_films_are_refused_in_one_line(clustered):
    data, names, features, _ = clustered
    settings = SplitSettings(by='cluster', n_clusters=50)
    message = FEW_IMAGES.format(n_clusters=50, n=40)
    with pytest.raises(DataError) as error:
        check_clusters(data, settings)
    assert str(error.value) == message
    with pytest.raises(DataError):
        cluster_stimuli(data, names, [features], 50, 0)
    with pytest.raises(DataError) as error:
        choose_film_split(films(), settings)
    assert str(error.value) == NOT_OF_FILMS.format(by='cluster')


def of_categories(n_categories=6, n_each=8, n_runs=2):
    names = [f'{"abcdef"[k % n_categories]}/{k:02d}.png' for k in range(n_categories * n_each)]
    data = table([names] * n_runs)
    return data.assign(trial_type=[f'kind {name[0]}' for name in data['stimulus']])


@pytest.mark.parametrize('where', ['trial_type', 'folder'])
def test_categories_are_held_out_whole(where):
    data = of_categories()
    split, _ = choose_split(data, SplitSettings(by='category', category=where), 0)
    assert (split.by, split.protocol, split.repeats_cross) == ('category', '5-fold-by-category', 0)
    kinds = data['trial_type'].to_numpy()
    assert sorted(k for fold in split for k in set(kinds[fold.test])) == sorted(set(kinds))
    for fold in split:
        assert not set(kinds[fold.train]) & set(kinds[fold.test])
    every, _ = choose_split(data, SplitSettings(by='category', n_folds=6), 0)
    assert every.protocol == 'leave-one-out-by-category'


def test_what_shows_the_same_has_one_category():
    data = with_content(
        of_categories(),
        {
            f'{"abcdef"[k % 6]}/{k:02d}.png': 'a/00.png'
            if k == 7
            else f'{"abcdef"[k % 6]}/{k:02d}.png'
            for k in range(48)
        },
    )
    split, why = choose_split(data, SplitSettings(by='category'), 0)
    assert split.table.set_index('stimulus').loc['b/07.png', 'category'].eq('kind a').all()
    assert KEPT_TOGETHER.format(n=1, first='a/00.png', other='b/07.png') in why


@pytest.mark.parametrize(
    ('change', 'where', 'reason'),
    [
        ({'trial_type': 'image'}, 'trial_type', "is one only ('image')"),
        ({'trial_type': [f'{k}' for k in range(96)]}, 'trial_type', "are 2 for 'a/00.png'"),
        ({'stimulus': [f'{k % 48}.png' for k in range(96)]}, 'folder', "is one only ('.')"),
        ({'trial_type': of_categories()['stimulus']}, 'trial_type', "is none for 'a/00.png'"),
        ({'trial_type': ['face', 'n/a'] * 48}, 'trial_type', "is none for 'b/01.png'"),
        ({'trial_type': [f'{k % 48}' for k in range(96)]}, 'trial_type', 'each image has its own'),
        ({'stimulus': [f'{k % 48}/a.png' for k in range(96)]}, 'folder', 'each image has its own'),
        (
            {'trial_type': ['shared', 'unique'] * 48},
            'trial_type',
            'stands whom or what part images are for (shared, unique)',
        ),
    ],
)
def test_categories_that_are_none_are_refused(change, where, reason):
    with pytest.raises(DataError) as error:
        choose_split(
            of_categories().assign(**change), SplitSettings(by='category', category=where), 0
        )
    assert str(error.value) == NO_CATEGORY.format(where=WHERE[where], reason=reason)


@pytest.mark.slow
def test_only_what_categories_share_is_decoded_out_of_distribution():
    """Voxels that name a category tell images of seen categories apart, and of no new one."""
    data = of_categories()
    names = tuple(dict.fromkeys(data['stimulus']))
    rng = np.random.default_rng(0)
    kind = np.eye(6)[[ord(name[0]) - 97 for name in names]]
    graded = rng.normal(size=(48, 6))
    features = PerStimulus(names, np.hstack([kind, graded]).astype(np.float32))
    place = [names.index(name) for name in data['stimulus']]
    mask = VoxelMask(np.ones((60, 1, 1), dtype=bool), np.eye(4))
    scores = {}
    for what, values in (('category', kind), ('graded', graded)):
        responses = values[place] @ rng.normal(size=(6, 60))
        responses += 0.3 * rng.normal(size=responses.shape)
        samples = Samples(Responses(responses.astype(np.float32), mask), data)
        for by in ('stimulus', 'category'):
            split, _ = choose_split(data, SplitSettings(by=by), 0)
            found = evaluate_folds(
                [samples.fold(fold) for fold in split],
                split,
                features,
                DecoderSettings(ridge=RidgeSettings(alphas=(1.0, 100.0), n_folds=3)),
                rng=np.random.default_rng(0),
            )
            row = next(
                s for s in found.scores if (s.model, s.metric) == ('ridge', 'identification_2way')
            )
            scores[what, by] = row
    assert scores['category', 'stimulus'].value > 0.8
    assert scores['category', 'category'].value < 0.6
    assert scores['graded', 'category'].value > 0.9
    assert scores['graded', 'category'].protocol == '5-fold-by-category'


def imagined(n=8):
    names = [f'{k}.png' for k in range(n)]
    data = table([names, names, names, names[: n // 2]])
    return data.assign(part=np.where(data['run'] >= 2, 'test', 'train'))


def test_imagery_is_tested_on_images_that_were_seen():
    settings = SplitSettings(by='imagery', test={'task': ['imagery']})
    data = imagined()
    split, why = choose_split(data, settings, 0)
    assert (split.by, split.protocol, split.repeats_cross) == ('imagery', 'imagery', True)
    (fold,) = split
    assert data['run'].iloc[fold.train].tolist() == [0] * 8 + [1] * 8
    assert data['run'].iloc[fold.test].tolist() == [2] * 8 + [3] * 4
    assert why == IMAGINED.format(n=12, images=8, known=8)
    left = data.assign(part=data['part'].where(data['run'] != 2))
    assert choose_split(left, settings, 0)[1].endswith(
        '; 8 of 28 samples are in no part and left out'
    )
    again = Split.from_table('imagery', split.to_table(), data, split.name)
    assert again.protocol == 'imagery'
    new = data.assign(stimulus=data['stimulus'].where(data['run'] < 2, 'new ' + data['stimulus']))
    assert choose_split(new, settings, 0)[1] == IMAGINED.format(n=12, images=8, known=0)
    with pytest.raises(DataError) as error:
        choose_split(data.drop(columns='part'), settings, 0)
    assert str(error.value) == NO_IMAGERY.format(by='imagery')
    with pytest.raises(DataError, match='No sample is of the part'):
        choose_split(data.assign(part='train'), settings, 0)
    assert EMPTY_PART.startswith('No sample is of the part')
    with pytest.raises(DataError) as error:
        choose_film_split(films(), settings)
    assert str(error.value) == NOT_OF_FILMS.format(by='imagery')


def test_imagined_images_are_kept_out_of_training_where_they_are_to_be_new():
    settings = SplitSettings(by='imagery-unseen', test={'task': ['imagery']})
    data = imagined(10)
    split, why = choose_split(data, settings, 0)
    assert (split.by, split.protocol) == ('imagery-unseen', '5-fold-by-imagery-unseen')
    assert not split.repeats_cross
    assert why == UNSEEN.format(n=15, images=10, n_folds=5)
    shown, run = (data[name].to_numpy() for name in ('stimulus', 'run'))
    for fold in split:
        held_out = set(shown[fold.test])
        assert len(held_out) == 2
        assert set(run[fold.test]) <= {2, 3}
        # all that was seen of the others, and nothing that was imagined
        assert sorted(fold.train) == [k for k in range(20) if shown[k] not in held_out]
    assert sorted(np.concatenate([fold.test for fold in split])) == [*range(20, 35)]
    again = Split.from_table(split.by, split.to_table(), data)
    assert again.protocol == split.protocol
    leaky = Fold(train=np.arange(20), test=np.arange(20, 25))
    with pytest.raises(DataError, match='in both training and test'):
        Split('imagery-unseen', (leaky,), data)
    # copies under another name stay out too
    copied = data.assign(content=data['stimulus'].replace('9.png', '0.png'))
    for fold in choose_split(copied, settings, 0)[0]:
        known = copied['content'].to_numpy()
        assert not set(known[fold.train]) & set(known[fold.test])
    with pytest.raises(DataError) as error:
        choose_split(data.drop(columns='part'), settings, 0)
    assert str(error.value) == NO_IMAGERY.format(by='imagery-unseen')


@pytest.mark.slow
def test_what_is_known_of_one_image_alone_is_not_read_from_imagery_of_new_ones():
    """Images are imagined at half their response: by their features, or each by itself."""
    data = imagined(40)
    names = tuple(dict.fromkeys(data['stimulus']))
    rng = np.random.default_rng(0)
    graded = rng.normal(size=(40, 6))
    features = PerStimulus(names, graded.astype(np.float32))
    place = [names.index(name) for name in data['stimulus']]
    gain = np.where(data['run'] >= 2, 0.5, 1.0)[:, None]
    mask = VoxelMask(np.ones((60, 1, 1), dtype=bool), np.eye(4))
    scores = {}
    for what, signal in (
        ('graded', graded @ rng.normal(size=(6, 60))),
        ('each its own', 2.5 * rng.normal(size=(40, 60))),
    ):
        responses = gain * signal[place] + 0.3 * rng.normal(size=(len(data), 60))
        samples = Samples(Responses(responses.astype(np.float32), mask), data)
        for by in ('imagery', 'imagery-unseen'):
            split, _ = choose_split(data, SplitSettings(by=by, test={'task': ['imagery']}), 0)
            found = evaluate_folds(
                [samples.fold(fold) for fold in split],
                split,
                features,
                DecoderSettings(ridge=RidgeSettings(alphas=(1.0, 100.0), n_folds=3)),
                rng=np.random.default_rng(0),
            )
            scores[what, by] = next(
                s for s in found.scores if (s.model, s.metric) == ('ridge', 'identification_2way')
            )
    assert scores['graded', 'imagery'].value > 0.9
    assert scores['graded', 'imagery-unseen'].value > 0.9
    assert scores['graded', 'imagery-unseen'].p < 0.01
    assert scores['each its own', 'imagery'].value > 0.9
    assert abs(scores['each its own', 'imagery-unseen'].value - 0.5) < 0.15


def test_training_volumes_of_held_out_scenes_are_left_out():
    """The last 40 s of film f are also seconds 20 to 60 of film g."""
    split, _ = choose_film_split(films(), SplitSettings(gap=10.0))
    repeats = (Repeat(0, 160.0, 1, 20.0, 40.0),)
    apart, why, leaks = apart_from_repeats(split, ['f', 'g'], repeats, 2.0)
    gone = set(split.folds[0].train) - set(apart.folds[0].train)
    onsets = split.table['onset'].iloc[sorted(gone)]
    assert set(split.table['film'].iloc[sorted(gone)]) == {'g'}
    assert onsets.min() == pytest.approx(20, abs=2)
    assert onsets.max() == pytest.approx(58, abs=4)
    np.testing.assert_array_equal(apart.folds[0].test, split.folds[0].test)
    assert why.startswith(f'{len(gone)} training volumes were left out')
    assert leaks == ()


def test_repeats_within_training_or_within_test_change_nothing():
    split, _ = choose_film_split(films(), SplitSettings(gap=10.0))
    repeats = (Repeat(0, 10.0, 1, 60.0, 40.0), Repeat(0, 165.0, 1, 165.0, 30.0))
    apart, why, leaks = apart_from_repeats(split, ['f', 'g'], repeats, 2.0)
    assert (apart is split, why, leaks) == (True, '', ())


def test_where_runs_are_held_out_repeated_scenes_are_reported():
    split, _ = choose_film_split(films(), SplitSettings(by='run'))
    repeats = (Repeat(0, 0.0, 1, 100.0, 50.0),)
    apart, why, (leak,) = apart_from_repeats(split, ['f', 'g'], repeats, 2.0)
    assert apart is split
    assert why == ''
    assert 'scenes that were seen in training (first: f from 0.0 s, and g from 100.0 s)' in leak


def test_a_loop_cannot_be_held_out_in_part():
    split, _ = choose_film_split(films(names=('f',)), SplitSettings(gap=2.0))
    repeats = tuple(Repeat(0, 0.0, 0, lag, 200.0 - lag) for lag in range(10, 200, 10))
    with pytest.raises(DataError, match='loops'):
        apart_from_repeats(split, ['f'], repeats, 2.0)
