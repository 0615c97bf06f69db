"""Samples and splits: what is written comes back, and nothing ever leaks."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from bids_neurodecode import samples
from bids_neurodecode.errors import DataError
from bids_neurodecode.samples import (
    Fold,
    Responses,
    Samples,
    Split,
    VoxelMask,
    split_as_given,
    split_as_published,
    split_by_group,
    split_in_time,
)
from bids_neurodecode.standardizer import Standardizer

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])


def a_mask(n_voxels=5, seed=0):
    mask = np.zeros(24, dtype=bool)
    mask[np.random.default_rng(seed).permutation(24)[:n_voxels]] = True
    return VoxelMask(mask.reshape(2, 3, 4), AFFINE)


def a_table(stimuli, **columns):
    return pd.DataFrame({'stimulus': stimuli, 'run': 0, **columns})


def some_samples(stimuli, n_voxels=5, **columns):
    values = np.random.default_rng(1).standard_normal((len(stimuli), n_voxels)).astype(np.float32)
    return Samples(Responses(values, a_mask(n_voxels)), a_table(stimuli, **columns))


# masks and responses


@pytest.mark.parametrize('codes', [(4, 4), (1, 1), (0, 4), (1, 0), (0, 2), (0, 0)])
def test_maps_keep_the_form_codes_of_their_mask(tmp_path, codes):
    image = nib.Nifti1Image(a_mask().mask.astype(np.uint8), AFFINE)
    image.set_qform(AFFINE, codes[0])
    image.set_sform(AFFINE, codes[1])
    image.to_filename(tmp_path / 'in.nii.gz')
    mask = VoxelMask.load(tmp_path / 'in.nii.gz').restrict(np.ones(5, dtype=bool))
    mask.save(tmp_path / 'mask.nii.gz')
    mask.image(np.ones(5)).to_filename(tmp_path / 'map.nii.gz')
    for name in ('mask', 'map'):
        again = nib.load(tmp_path / f'{name}.nii.gz')
        header = again.header
        expected = codes if any(codes) else (0, 2)  # no code: the grid would be lost
        assert (int(header['qform_code']), int(header['sform_code'])) == expected
        np.testing.assert_allclose(again.affine, nib.load(tmp_path / 'in.nii.gz').affine)


def test_volumes_lie_on_one_grid_or_do_not():
    first = VoxelMask(np.ones((2, 3, 4), dtype=bool), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] += 5e-4
    assert first.same_grid(VoxelMask(first.mask, moved))
    moved[0, 3] += 1
    assert not first.same_grid(VoxelMask(first.mask, moved))
    assert not first.same_grid(VoxelMask(np.ones((2, 4, 3), dtype=bool), AFFINE))


def test_a_qform_of_another_space_is_not_kept(tmp_path):
    image = nib.Nifti1Image(a_mask().mask.astype(np.uint8), AFFINE)
    image.set_qform(np.diag([2.0, 2, 2.5, 1]), 1)
    image.set_sform(AFFINE, 4)
    image.to_filename(tmp_path / 'in.nii.gz')
    assert VoxelMask.load(tmp_path / 'in.nii.gz').codes == (0, 4)


@pytest.mark.parametrize(('shift', 'codes'), [(5e-4, (1, 4)), (0.5, (0, 4))])
def test_forms_agree_within_a_thousandth_of_a_millimetre(tmp_path, shift, codes):
    grid = np.diag([-2.0, 2, 2.5, 1])
    image = nib.Nifti1Image(a_mask().mask.astype(np.uint8), grid)
    moved = grid.copy()
    moved[1, 3] += shift
    image.set_qform(moved, 1)
    image.set_sform(grid, 4)
    image.to_filename(tmp_path / 'in.nii.gz')
    assert VoxelMask.load(tmp_path / 'in.nii.gz').codes == codes


def test_a_sheared_grid_is_kept(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.5
    mask = VoxelMask(a_mask().mask, sheared, (0, 4))
    mask.save(tmp_path / 'mask.nii.gz')
    np.testing.assert_allclose(VoxelMask.load(tmp_path / 'mask.nii.gz').affine, sheared)
    np.testing.assert_allclose(mask.image(np.ones(5)).affine, sheared)


@given(n=st.integers(1, 24), seed=st.integers(0, 99))
def test_volume_and_extract_undo_each_other(n, seed):
    mask = a_mask(n, seed)
    rows = np.random.default_rng(seed).standard_normal((3, n)).astype(np.float32)
    volume = mask.volume(rows, fill=-9)
    assert volume.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(mask.extract(volume), rows)
    np.testing.assert_array_equal(mask.extract(mask.volume(rows[0])), rows[0])
    assert (volume[~mask.mask] == -9).all()


@given(n=st.integers(2, 24), seed=st.integers(0, 99))
def test_restricted_mask_keeps_the_order_of_columns(n, seed):
    mask = a_mask(n, seed)
    keep = np.random.default_rng(seed).random(n) > 0.4
    assume(keep.any())
    values = np.arange(n, dtype=np.float32)
    smaller = mask.restrict(keep)
    np.testing.assert_array_equal(smaller.extract(mask.volume(values)), values[keep])


def test_mask_and_responses_come_back_from_disk(tmp_path):
    one = some_samples(list('abc')).responses
    one.save(tmp_path / 'values.npy', tmp_path / 'mask.nii.gz')
    back = Responses.load(tmp_path / 'values.npy', tmp_path / 'mask.nii.gz')
    np.testing.assert_array_equal(back.values, one.values)
    np.testing.assert_array_equal(back.mask.mask, one.mask.mask)
    np.testing.assert_allclose(back.mask.affine, AFFINE)
    assert isinstance(back.values, np.memmap)
    assert nib.load(tmp_path / 'mask.nii.gz').get_data_dtype() == np.uint8
    doubles = Responses(one.values.astype(np.float64), one.mask)
    doubles.save(tmp_path / 'doubles.npy', tmp_path / 'mask.nii.gz')
    assert np.load(tmp_path / 'doubles.npy').dtype == np.float32
    with pytest.raises(ValueError, match='read-only'):
        back.values[0, 0] = 1


def test_image_has_the_affine_and_units():
    image = a_mask().image(np.ones(5))
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.header.get_xyzt_units() == ('mm', 'sec')
    assert image.get_fdata().sum() == 5
    filled = a_mask().image(np.ones(5), fill=-2).get_fdata()
    assert filled.sum() == 5 - 2 * 19
    assert a_mask().volume(np.ones(5)).sum() == 5


def test_take_voxels_and_average():
    some = some_samples(['b', 'a', 'b', 'c', 'b'])
    taken = some.take([3, 0])
    assert taken.table['stimulus'].tolist() == ['c', 'b']
    np.testing.assert_array_equal(taken.values, some.values[[3, 0]])
    assert taken.table.columns.tolist() == ['stimulus', 'run']
    assert taken.table.index.tolist() == [0, 1]
    assert some.take([]).n_samples == 0
    keep = np.array([True, False, True, False, False])
    fewer = some.voxels(keep)
    np.testing.assert_array_equal(fewer.values, some.values[:, keep])
    assert fewer.responses.mask.n_voxels == 2
    mean = some.averaged()
    assert mean.table['stimulus'].tolist() == ['b', 'a', 'c']
    assert mean.table.columns.tolist() == ['stimulus', 'run', 'n_repeats']
    assert mean.table.index.tolist() == [0, 1, 2]
    assert mean.values.dtype == np.float32
    assert mean.table['n_repeats'].tolist() == [3, 1, 1]
    np.testing.assert_allclose(mean.values[0], some.values[[0, 2, 4]].mean(axis=0), rtol=1e-5)


# splits

tables = st.integers(0, 2**16).flatmap(
    lambda seed: st.tuples(st.integers(4, 40), st.integers(2, 8), st.integers(2, 4)).map(
        lambda sizes: random_table(seed, *sizes)
    )
)


def random_table(seed, n_samples, n_stimuli, n_runs):
    rng = np.random.default_rng(seed)
    film = rng.integers(0, 3, n_samples)
    return pd.DataFrame(
        {
            # an image belongs to one film here, as a moment of a film does
            'stimulus': [f'{f}-{rng.integers(0, n_stimuli)}' for f in film],
            'run': np.sort(rng.integers(0, n_runs, n_samples)),
            'session': np.sort(rng.integers(0, 3, n_samples)).astype(str),
            'film': film.astype(str),
        }
    )  # fmt: skip


def check_fold(fold, n_samples):
    parts = [fold.train, fold.validation, fold.test]
    every = np.concatenate(parts)
    assert len(np.unique(every)) == len(every)
    assert set(every) <= set(range(n_samples))
    assert fold.train.size
    assert fold.test.size


@pytest.mark.slow
@given(
    table=tables,
    by=st.sampled_from(['run', 'session', 'stimulus', 'film']),
    n_folds=st.one_of(st.none(), st.integers(1, 5)),
    test_fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_no_group_is_ever_on_both_sides(table, by, n_folds, test_fraction, seed):
    n_groups = table[by].nunique()
    assume(n_groups >= max(2, n_folds or 0))
    split = split_by_group(
        table, by, n_folds=n_folds, test_fraction=test_fraction, rng=np.random.default_rng(seed)
    )
    tested = []
    for fold in split:
        check_fold(fold, len(table))
        assert len(fold.train) + len(fold.test) == len(table)
        train, test = table.iloc[fold.train], table.iloc[fold.test]
        assert not set(train[by]) & set(test[by])
        if by in {'stimulus', 'film'}:
            assert not set(train['stimulus']) & set(test['stimulus'])
            assert not split.repeats_cross
        tested.extend(fold.test)
    if len(split) > 1:  # each sample is tested once
        assert sorted(tested) == list(range(len(table)))
    again = Split.from_table(by, split.to_table().sample(frac=1, random_state=seed), table)
    assert again.protocol == split.protocol
    for one, other in zip(split, again, strict=True):
        np.testing.assert_array_equal(one.train, np.sort(other.train))
        np.testing.assert_array_equal(one.test, np.sort(other.test))


@given(
    lengths=st.lists(st.integers(6, 40), min_size=1, max_size=3),
    showings=st.integers(1, 2),
    gap=st.floats(0, 8),
    test_fraction=st.floats(0.1, 0.6),
    n_folds=st.integers(1, 4),
    shuffle=st.integers(0, 99),
)
def test_blocks_in_time_keep_their_distance(
    lengths, showings, gap, test_fraction, n_folds, shuffle
):
    table = pd.DataFrame(
        [
            (f'f{film}#{i}', run * 10 + film, f'f{film}', 1.3 * i)
            for run in range(showings)
            for film, n in enumerate(lengths)
            for i in range(n)
        ],
        columns=['stimulus', 'run', 'film', 'onset'],
    ).sample(frac=1, random_state=shuffle, ignore_index=True)
    try:
        split = split_in_time(table, gap=gap, test_fraction=test_fraction, n_folds=n_folds)
    except DataError as error:
        assert str(error).startswith('Blocks in time leave no training samples')  # noqa: PT017
        return
    for fold in split:
        check_fold(fold, len(table))
        train, test = table.iloc[fold.train], table.iloc[fold.test]
        for film in set(test['film']):
            inside = train.loc[train['film'] == film, 'onset'].to_numpy()
            held = test.loc[test['film'] == film, 'onset'].to_numpy()
            if inside.size:
                assert np.abs(inside[:, None] - held).min() >= gap - 1e-9
                between = (inside > held.min()) & (inside < held.max())
                assert not between.any()  # the test block is in one piece
        assert not set(train['stimulus']) & set(test['stimulus'])
    if n_folds > 1:
        assert sorted(np.concatenate([fold.test for fold in split])) == list(range(len(table)))


@given(
    stimuli=st.lists(st.integers(0, 6), min_size=3, max_size=15),
    sides=st.lists(st.sampled_from(['train', 'validation', 'test', 'none']), min_size=15,
                   max_size=15),
    by=st.sampled_from(['stimulus', 'run', 'time', 'film']),
)  # fmt: skip
def test_a_split_made_by_hand_is_refused_if_it_leaks(stimuli, sides, by):
    table = a_table(stimuli).assign(
        run=np.arange(len(stimuli)) // 3, film=np.arange(len(stimuli)) // 4
    )
    rows = {p: [i for i, s in enumerate(sides[: len(stimuli)]) if s == p] for p in set(sides)}
    part = {p: table.iloc[rows.get(p, [])] for p in ('train', 'validation', 'test')}
    empty = part['train'].empty or part['test'].empty
    seen = pd.concat([part['train'], part['validation']])
    columns = {'stimulus': ['stimulus'], 'run': ['run'], 'time': ['stimulus']}
    leaks = any(set(seen[c]) & set(part['test'][c]) for c in columns.get(by, ['film', 'stimulus']))
    fold = Fold(rows.get('train', []), rows.get('test', []), rows.get('validation', []))
    if empty or leaks:
        with pytest.raises(DataError):
            Split(by, (fold,), table)
    else:
        assert len(Split(by, (fold,), table)) == 1


def test_repeats_cross_runs_and_the_split_says_so():
    table = a_table(list('abab'), run=[0, 0, 1, 1])
    split = split_by_group(table.assign(run=[0, 0, 1, 1]), 'run')
    assert split.repeats_cross
    assert split.protocol == 'leave-one-out-by-run'
    assert split_by_group(table, 'stimulus').protocol == 'hold-out-by-stimulus'
    many = a_table(list('abcdefgh'), onset=np.arange(8.0))
    assert split_by_group(many, 'stimulus', n_folds=4).protocol == '4-fold-by-stimulus'
    assert split_by_group(many, 'stimulus', n_folds=8).protocol == 'leave-one-out-by-stimulus'
    assert split_in_time(many, gap=0).protocol == 'hold-out-by-time'
    assert split_in_time(many, gap=0, n_folds=8).protocol == '8-fold-by-time'
    given = (Fold([0], [1]), Fold([1], [0]))
    assert Split('given', given, many).protocol == '2-fold-by-given'
    named = Split('given', given, many, 'own')
    assert named.protocol == 'own'
    assert Split.from_table('given', named.to_table(), many, 'own').protocol == 'own'


def test_copies_under_another_name_count_as_one_stimulus():
    # a and A show the same, b and B too
    table = a_table(list('abABcd'), run=[0, 0, 1, 1, 0, 1], content=list('ababcd'))
    split = split_by_group(table, 'stimulus', n_folds=4)
    assert split.protocol == 'leave-one-out-by-stimulus'
    for fold in split:
        seen, held = (set(table['content'].iloc[rows]) for rows in (fold.train, fold.test))
        assert len(held) == 1
        assert not seen & held
    assert refuse(lambda: split_by_group(table, 'stimulus', n_folds=5)) == samples.TOO_FEW.format(
        n_folds=5, n=4, group='stimulus'
    )
    assert not split.copies_across
    assert not split.repeats_cross
    by_run = split_by_group(table, 'run')
    # each stimulus name is in one run only
    assert by_run.repeats_cross
    assert by_run.protocol == 'leave-one-out-by-run'
    assert set(by_run.copies_across) == {('a', 'A'), ('b', 'B'), ('A', 'a'), ('B', 'b')}
    one_way = Split('run', (Fold([2], [0, 1, 4], [3, 5]),), table)
    assert one_way.copies_across == (('a', 'A'), ('b', 'B'))
    plain = split_by_group(table.drop(columns='content'), 'run')
    assert not plain.repeats_cross
    assert plain.copies_across == ()
    for by in ('stimulus', 'cluster'):
        clustered = table.assign(cluster=list('uvwxyz'))
        expected = samples.LEAK.format(fold=0, n=1, group='content', first='a')
        assert refuse(lambda c=clustered, b=by: Split(b, (Fold([2], [0]),), c)) == expected


def test_stimuli_are_shuffled_by_the_generator_only():
    table = a_table([f'{i}' for i in range(50)])
    first, again, other = (
        split_by_group(table, 'stimulus', rng=np.random.default_rng(seed)).folds[0].test
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_who_saw_the_same_images_has_the_same_ones_held_out():
    names = [f'{i}' for i in range(30)]
    held_out = []
    for seed in range(4):
        shown = np.random.default_rng(seed).permutation(names * 2)
        (fold,) = split_by_group(a_table(shown.tolist()), 'stimulus', rng=np.random.default_rng(7))
        held_out.append(set(shown[fold.test]))
    assert len(held_out[0]) == 6
    assert all(own == held_out[0] for own in held_out)


def test_a_fold_cannot_be_changed_after_it_was_checked():
    rows = np.array([0, 1])
    fold = Fold(rows, np.array([2]))
    rows[0] = 2
    assert fold.train.tolist() == [0, 1]
    with pytest.raises(ValueError, match='read-only'):
        fold.train[0] = 2


def test_samples_are_cut_into_separate_objects():
    some = some_samples(list('aabbc'))
    parts = some.fold(Fold([0, 1], [4], [2, 3]))
    assert parts.train.table['stimulus'].tolist() == ['a', 'a']
    assert parts.validation.table['stimulus'].tolist() == ['b', 'b']
    assert parts.test.table['stimulus'].tolist() == ['c']
    parts.train.values[:] = 0
    assert some.values[0].any()
    assert some.fold(Fold([0], [4])).validation is None


@pytest.mark.parametrize(
    ('train', 'test', 'message'),
    [
        ([0, 1], [1], samples.OVERLAP.format(fold=0, n=1, a='training', b='test')),
        ([0, -1], [4], samples.BAD_ROWS.format(fold=0, last=4)),
        ([0, 5], [4], samples.BAD_ROWS.format(fold=0, last=4)),
        ([], [4], samples.EMPTY_PART.format(fold=0, part='training')),
        ([1], [], samples.EMPTY_PART.format(fold=0, part='test')),
    ],
)
def test_a_fold_that_does_not_hold_is_refused_by_split_and_samples(train, test, message):
    some = some_samples(list('abcde'))
    for use in (some.fold, lambda fold: Split('stimulus', (fold,), some.table)):
        with pytest.raises(DataError) as error:
            use(Fold(train, test))
        assert str(error.value) == message


@given(seed=st.integers(0, 2**16))
def test_contents_are_the_pieces_that_tables_join(seed):
    """What one participant's table knows to be the same is the same in all, through any chain."""
    rng = np.random.default_rng(seed)
    names = np.array(list('abcdefghij'))
    pairs = rng.integers(0, 8, (2, int(rng.integers(0, 6)), 2))  # i and j are in no table
    tables = [
        pd.DataFrame({'stimulus': names[some[:, 0]], 'content': names[some[:, 1]]})
        for some in pairs
    ]
    graph = np.zeros((10, 10))
    graph[tuple(pairs.reshape(-1, 2).T)] = 1
    _, piece = connected_components(graph, directed=False)
    first = {number: min(names[piece == number]) for number in piece}
    plain = pd.DataFrame({'stimulus': ['a', 'b']})
    found = samples.contents(names, plain, *tables)
    assert found.tolist() == [first[number] for number in piece]
    assert samples.contents([3, 'x'], plain).tolist() == ['3', 'x']


def test_relabelled_samples_take_their_contents_along():
    table = a_table(list('abAc'), content=list('abac'))
    other = samples.relabelled(table, np.array(list('cAba')))
    assert other['stimulus'].tolist() == list('cAba')
    assert other['content'].tolist() == list('cAbA')  # the first of a and A
    assert other['run'].tolist() == table['run'].tolist()
    plain = samples.relabelled(table.drop(columns='content'), np.array(list('cAba')))
    assert plain.columns.tolist() == ['stimulus', 'run']


def film_table(rng, n_films, longest):
    """Films of whole seconds that follow each other in runs; each may be shown twice."""
    rows, begin = [], np.zeros(2)
    for film in rng.permutation(n_films):
        n = int(rng.integers(1, longest))
        for run in range(int(rng.integers(1, 3))):
            rows += [(f'{film}#{t}', f'f{film}', run, float(t), begin[run] + t) for t in range(n)]
            begin[run] += n
    columns = ['stimulus', 'film', 'run', 'onset', 'run_onset']
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=int(rng.integers(99)))


def blocks_by_hand(table, gap, share, n_folds, number, whole, unit):
    """Return held-out rows, and rows too near to them, one pair of rows at a time."""
    rows = table.reset_index(drop=True)
    held = set()
    for name, mine in rows.groupby(unit):
        times = sorted(set(mine['onset']))
        block = times[-max(1, round(share * len(times))) :]
        if n_folds > 1:  # the first parts are longer by one where they are not equal
            size, more = divmod(len(times), n_folds)
            first = number * size + min(number, more)
            block = times[first : first + size + (number < more)]
        if name in whole:
            block = times
        held |= set(mine.index[mine['onset'].isin(block)])
    near = set()
    for i, row in rows.iterrows():
        for test in (rows.loc[k] for k in held - {i}):
            film = row[unit] == test[unit] and abs(row['onset'] - test['onset']) < gap
            run = 'run_onset' in rows and (
                row['run'] == test['run'] and abs(row['run_onset'] - test['run_onset']) < gap
            )
            if film or run:
                near.add(i)
    return held, near - held


@pytest.mark.parametrize('by_run_too', [False, True])
@pytest.mark.parametrize('n_folds', [1, 4])
@pytest.mark.parametrize('seed', range(4))
def test_blocks_in_time_are_those_of_the_definition(seed, n_folds, by_run_too):
    rng = np.random.default_rng(seed)
    table = film_table(rng, 4, 14)
    if not by_run_too:
        table = table.drop(columns='run_onset')
    whole = ('f2',) if n_folds == 1 and seed % 2 else ()
    share, gap = (0.02, 0.2, 0.35, 0.5)[seed], (3, 2, 1, 0)[seed]
    split = split_in_time(table, gap=gap, test_fraction=share, n_folds=n_folds, whole=whole)
    assert len(split) == n_folds
    for number, fold in enumerate(split):
        held, near = blocks_by_hand(table, gap, share, n_folds, number, whole, 'film')
        assert set(fold.test) == held
        assert set(fold.train) == set(range(len(table))) - held - near
        assert not fold.validation.size


def test_blocks_of_runs_where_there_are_no_films():
    table = a_table([f's{i}' for i in range(20)], onset=[*range(10), *range(10)])
    table['run'] = np.repeat([0, 1], 10)
    (fold,) = split_in_time(table, gap=3)
    held, near = blocks_by_hand(table, 3, 0.2, 1, 0, (), 'run')
    assert set(fold.test) == held == {8, 9, 18, 19}
    assert set(fold.train) == set(range(20)) - held - near
    assert refuse(lambda: split_in_time(table, gap=3, whole=('f',))) == (
        samples.MISSING_COLUMN.format(columns='film')
    )
    assert refuse(lambda: split_in_time(table.drop(columns='onset'), gap=3)) == (
        samples.MISSING_COLUMN.format(columns='onset')
    )


@pytest.mark.parametrize(('share', 'whole'), [(0.2, ()), (0.9, ()), (0.35, ('f1', 'f3'))])
def test_the_published_split_is_that_of_its_definition(share, whole):
    table = film_table(np.random.default_rng(7), 5, 30)
    split = split_as_published(table, test_fraction=share, whole=whole)
    (fold,) = split
    assert (split.by, split.protocol) == ('time', 'paper')
    parts = {'train': set(), 'validation': set(), 'test': set()}
    rows = table.reset_index(drop=True)
    for film, mine in rows.groupby('film'):
        # exactly: a share of .9 leaves one of ten
        left = 0 if film in whole else (100 - round(100 * share)) * mine['onset'].nunique() // 100
        for i, second in mine['onset'].items():
            part = 'train' if second % 5 else 'validation'
            parts['test' if second >= left else part].add(i)
    assert {part: set(getattr(fold, part)) for part in parts} == parts
    ten = a_table([f'f#{t}' for t in range(10)], film='f', onset=np.arange(10.0))
    assert refuse(lambda: split_as_published(ten, test_fraction=0.9)) == samples.EMPTY_PART.format(
        fold=0, part='training'
    )
    (fold,) = split_as_published(ten)
    assert (fold.validation.tolist(), fold.test.tolist()) == ([0, 5], [8, 9])
    for column in ('film', 'run', 'onset'):
        assert refuse(lambda c=column: split_as_published(ten.drop(columns=c))) == (
            samples.MISSING_COLUMN.format(columns=column)
        )


def test_clusters_are_shared_out_by_their_sizes():
    # the largest first, each to the smallest share so far: 7 + 1, 5 + 2 + 1, 4 + 3
    sizes = {'g': 7, 'f': 5, 'e': 4, 'd': 3, 'c': 2, 'b': 1, 'a': 1}
    clusters = [name for name, n in sizes.items() for _ in range(n)]
    table = a_table([f's{i}' for i in range(len(clusters))], cluster=clusters)
    folds = split_by_group(table, 'cluster', n_folds=3).folds
    held = [set(table['cluster'].iloc[fold.test]) for fold in folds]
    assert held == [{'g', 'b'}, {'f', 'c', 'a'}, {'e', 'd'}]
    assert len(split_by_group(table, 'cluster')) == 7
    (once,) = split_by_group(table, 'cluster', n_folds=1, test_fraction=1 / 3)
    assert set(table['cluster'].iloc[once.test]) == held[0]
    # half at most: 7 + 3 + 1 + 1 of 5 + 4 + 2
    (most,) = split_by_group(table, 'cluster', n_folds=1, test_fraction=0.9)
    assert set(table['cluster'].iloc[most.test]) == {'g', 'd', 'b', 'a'}
    # those of equal size in turn, as they come: 20 of two samples, then 40 of one
    sizes = np.tile([1, 2, 1], 20)
    many = a_table([f's{i}' for i in range(80)], cluster=np.repeat(np.arange(60), sizes))
    order = sorted(range(60), key=lambda k: (-sizes[k], k))
    shares = [[], [], []]
    for k in order:
        min(shares, key=lambda share: sum(sizes[share])).append(k)
    for share, fold in zip(shares, split_by_group(many, 'cluster', n_folds=3), strict=True):
        assert set(many['cluster'].iloc[fold.test]) == set(share)
    two = a_table(['x', 'y', 'z'], cluster=[0, 0, 1])
    (least,) = split_by_group(two, 'cluster', n_folds=1, test_fraction=0.01)
    assert least.test.tolist() == [0, 1]


def test_held_out_shares_of_groups():
    table = a_table([f's{i}' for i in range(20)], run=np.repeat(np.arange(10), 2))
    tested = {}
    for share in (0.01, 0.2, 0.34, 1.0):
        (fold,) = split_by_group(table, 'run', n_folds=1, test_fraction=share)
        tested[share] = set(table['run'].iloc[fold.test])
    # runs stay in order: the last ones are held out, at least one, and never all
    assert tested == {0.01: {9}, 0.2: {8, 9}, 0.34: {7, 8, 9}, 1.0: set(range(1, 10))}
    (fold,) = split_by_group(table, 'run', n_folds=1)
    assert set(table['run'].iloc[fold.test]) == {8, 9}
    assert [set(table['run'].iloc[f.test]) for f in split_by_group(table, 'run', n_folds=4)] == [
        {0, 1, 2}, {3, 4, 5}, {6, 7}, {8, 9},
    ]  # fmt: skip
    assert len(split_by_group(table, 'run')) == 10
    (once,) = split_by_group(table, 'stimulus')
    assert len(once.test) == 4
    default, zero = (
        split_by_group(table, 'stimulus', rng=rng).folds[0].test
        for rng in (None, np.random.default_rng(0))
    )
    np.testing.assert_array_equal(default, zero)


def test_parts_that_the_dataset_gives():
    part = ['train', 'train', 'validation', 'test', 'test', 'other']
    table = a_table(list('aabcdd'), run=[1, 2, 2, 3, 3, 3]).assign(part=part)
    split = split_as_given(table)
    (fold,) = split
    assert (split.by, split.protocol) == ('given', 'given')
    assert (fold.train.tolist(), fold.validation.tolist(), fold.test.tolist()) == (
        [0, 1], [2], [3, 4],
    )  # fmt: skip
    assert split_as_given(table.assign(protocol='nsd-1000')).protocol == 'nsd-1000'
    assert split_as_given(table.assign(protocol=['x', 'y'] * 3)).protocol == 'given'
    # the same stimulus on both sides, in other runs: a split by run; validation has seen it too
    for name in 'ab':
        crossing = table.assign(stimulus=[*'aab', name, *'dd'])
        assert split_as_given(crossing).by == 'run'
        assert split_as_given(crossing).repeats_cross == (name == 'a')
        leak = samples.LEAK.format(fold=0, n=1, group='stimulus', first=name)
        same_run = crossing.assign(run=[1, 2, 3, 3, 3, 3])
        assert refuse(lambda t=same_run: split_as_given(t)) == leak
        assert refuse(lambda t=crossing: split_as_given(t.drop(columns='run'))) == leak
    assert refuse(lambda: split_as_given(table.drop(columns='part'))) == (
        samples.MISSING_COLUMN.format(columns='part')
    )


@pytest.mark.parametrize(
    ('train', 'validation', 'test', 'a', 'b'),
    [
        ([0, 1], [1, 2], [4], 'training', 'validation'),
        ([0], [2, 4], [4, 3], 'validation', 'test'),
        ([0, 4], [2], [4], 'training', 'test'),
    ],
)
def test_a_sample_has_one_place_only(train, validation, test, a, b):
    some = some_samples(list('abcde'))
    for use in (some.fold, lambda fold: Split('given', (fold,), some.table)):
        assert refuse(lambda u=use: u(Fold(train, test, validation))) == samples.OVERLAP.format(
            fold=0, n=1, a=a, b=b
        )


@given(seed=st.integers(0, 2**16), gap=st.integers(0, 6))
def test_near_in_a_run_is_counted_sample_by_sample(seed, gap):
    """Held-out samples anywhere, runs without any, runs with nothing else."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    run, time = rng.integers(0, 4, n), rng.integers(0, 30, n).astype(float)
    test = (rng.random(n) < 0.3) & (run != 1) | (run == 2)
    near = [
        not test[i] and any(run[i] == run[k] and abs(time[i] - time[k]) < gap for k in held)
        for held in [np.flatnonzero(test)]
        for i in range(n)
    ]
    table = pd.DataFrame({'run': run, 'run_onset': time})
    np.testing.assert_array_equal(samples._near_in_run(table, test, gap), near)


def test_a_moment_of_a_film_on_both_sides_is_a_leak():
    table = a_table(['f#0', 'f#1', 'f#0'], run=[0, 0, 1])
    with pytest.raises(DataError) as error:
        Split('time', (Fold([1, 2], [0]),), table)
    assert str(error.value) == samples.LEAK.format(fold=0, n=1, group='stimulus', first='f#0')


def test_the_fold_that_leaks_is_named_whatever_stimuli_are_called():
    table = a_table([1, 'b', 2, 1, 'b'])
    with pytest.raises(DataError) as error:
        Split('stimulus', (Fold([0, 3], [1, 4]), Fold([0, 1], [3, 4])), table)
    assert str(error.value) == samples.LEAK.format(fold=1, n=2, group='stimulus', first=1)


# standardising

columns = st.integers(0, 2**16).map(
    lambda seed: np.random.default_rng(seed).normal(
        np.random.default_rng(seed).uniform(-1e3, 1e3, 4), [1e-2, 1, 50, 0], (9, 4)
    )
)


@given(values=columns)
def test_standardizer_has_mean_zero_deviation_one_and_can_be_undone(values):
    fitted = Standardizer.fit(values)
    z = fitted.apply(values)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axis=0), [1, 1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(fitted.invert(z), values, rtol=1e-5, atol=1e-3)
    assert z.dtype == np.float32


def test_standardizer_uses_what_it_was_fitted_on():
    train, test = np.array([[0.0], [2.0]]), np.array([[5.0]])
    fitted = Standardizer.fit(train)
    assert fitted.apply(test).item() == 4
    assert fitted.invert(np.array([[4.0]])).item() == 5
    assert fitted.invert(np.array([[4.0]])).dtype == np.float32


def test_what_does_not_vary_is_centred_only():
    turn = np.tile([-1.0, 1.0], 8)[:, None]
    # constant but for a rounding of its size; small, but it varies
    train = np.hstack([3 + 0 * turn, 1e4 + 1e-4 * turn, 1e-3 + 1e-5 * turn, 0 * turn])
    np.testing.assert_allclose(Standardizer.fit(train).scale, [1, 1, 1e-5, 1])
    np.testing.assert_allclose(Standardizer.fit(train).apply(train + 2)[:, 0], 2)
    np.testing.assert_allclose(Standardizer.fit(train, least=0.5).scale, [1, 1, 0.5, 1])
    np.testing.assert_allclose(Standardizer.fit(train, least=5).scale, 5)


def test_standardizer_sums_single_precision_in_double():
    values = np.random.default_rng(0).normal(1000, 1, (20_000, 2)).astype(np.float32)
    fitted = Standardizer.fit(values)
    np.testing.assert_allclose(fitted.mean, values.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.scale, values.astype(np.float64).std(axis=0), rtol=1e-12)


# messages


def refuse(call):
    with pytest.raises(DataError) as error:
        call()
    return str(error.value)


def test_bad_masks_values_and_tables_are_named():
    empty = np.zeros((2, 2, 2), dtype=bool)
    assert refuse(lambda: VoxelMask(empty, AFFINE)) == samples.BAD_MASK.format(
        shape=(2, 2, 2), n=0
    )
    assert 'three-dimensional' in refuse(lambda: VoxelMask(np.ones((2, 2), bool), AFFINE))
    assert 'three-dimensional' in refuse(lambda: VoxelMask(np.ones((2, 2, 2)), AFFINE))
    expected = samples.BAD_VALUES.format(expected=5, shape=(3, 4))
    assert refuse(lambda: Responses(np.ones((3, 4), np.float32), a_mask())) == expected
    assert refuse(lambda: a_mask().volume(np.ones((3, 4)))) == expected
    responses = Responses(np.ones((3, 5), np.float32), a_mask())
    assert refuse(lambda: Samples(responses, a_table(['a']))) == samples.BAD_TABLE.format(
        rows=1, samples=3
    )
    lacking = pd.DataFrame({'onset': [1, 2, 3]})
    assert refuse(lambda: Samples(responses, lacking)) == samples.MISSING_COLUMN.format(
        columns='stimulus, run'
    )


def test_splits_that_cannot_be_made_are_named():
    table = a_table(list('aab'))
    assert refuse(lambda: split_by_group(table, 'run')) == samples.NEEDS_TWO.format(
        group='run', n=1
    )
    assert refuse(lambda: split_by_group(table, 'stimulus', n_folds=3)) == samples.TOO_FEW.format(
        n_folds=3, n=2, group='stimulus'
    )
    assert refuse(lambda: split_by_group(table, 'film')) == samples.MISSING_COLUMN.format(
        columns='film'
    )
    short = a_table(['a', 'b', 'c'], onset=[0.0, 1.0, 2.0])
    assert 'gap of 20 s' in refuse(lambda: split_in_time(short, gap=20))
    assert refuse(lambda: Fold(np.array([True, False]), [1])) == samples.NOT_ROWS.format(
        dtype='bool'
    )


def test_missing_stimulus_is_named_and_never_mixed_into_another():
    some = some_samples(['a', None, 'b'])
    expected = samples.MISSING_VALUE.format(column='stimulus', n=1)
    assert refuse(some.averaged) == expected
    assert refuse(lambda: split_by_group(some.table, 'stimulus')) == expected
    assert refuse(lambda: Split('stimulus', (Fold([0], [1]),), some.table)) == expected
