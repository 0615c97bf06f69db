"""Sums over participants who saw the same films, and who cannot be averaged."""

import json
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.systems.movie.steps.earlier import with_delay
from bids_neurodecode.systems.movie.steps.group_brain import DIFFERENT, TOO_FEW, find_people
from bids_neurodecode.systems.movie.steps.totals import LEFT_OUT, NOBODY, get_total

# what cannot be averaged


def people_of(root, change=None):
    """Return two records with aligned series, the second changed."""
    records = []
    for label in ('1', '2'):
        func = root / f'sub-{label}' / 'func'
        func.mkdir(parents=True)
        stem = func / f'sub-{label}_task-m_space-T_desc-aligned_bold'
        facts = {'RepetitionTime': 2.0, 'Delay': 4.0, 'Scaling': 'psc'}
        facts['Films'] = [{'StimFile': 'a.mp4', 'Volumes': 9}]
        affine = np.eye(4)
        if label == '2' and change == 'grid':
            affine[0, 3] = 1
        elif label == '2' and change is not None:
            facts |= change
        data = np.random.default_rng(int(label)).normal(size=(2, 2, 1, 9)).astype(np.float32)
        nib.Nifti1Image(data, affine).to_filename(f'{stem}.nii.gz')
        stem.with_suffix('.json').write_text(json.dumps(facts))
        records.append(Record(label))
    return records


@dataclass(frozen=True)
class Record:
    participant: str
    task: str = 'm'
    space: str = 'T'
    paradigm: str = 'movie'


@pytest.mark.parametrize(
    ('change', 'what'),
    [
        ('grid', 'grid'),
        ({'Films': [{'StimFile': 'b.mp4', 'Volumes': 9}]}, 'films'),
        ({'Delay': 5.2}, 'delay'),
        ({'RepetitionTime': 1.3}, 'repetition time'),
        ({'Scaling': 'none'}, 'scaling'),
    ],
)
def test_what_differs_is_named(tmp_path, change, what):
    with pytest.raises(InputError) as error:
        find_people(people_of(tmp_path, change), tmp_path)
    assert str(error.value) == DIFFERENT.format(a='1', b='2', what=what)


def test_a_mean_needs_two(tmp_path):
    with pytest.raises(InputError) as error:
        find_people(people_of(tmp_path)[:1], tmp_path)
    assert str(error.value) == TOO_FEW.format(folder=tmp_path, n=1)


def test_the_delay_is_put_in_again():
    series = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    found = with_delay(series, 2.0, 4.0)
    np.testing.assert_array_equal(found[2:], series[:-2])
    assert np.isnan(found[:2]).all()


# sums over participants


@dataclass(frozen=True)
class Viewer:
    """A participant of two voxels."""

    label: str
    films: dict
    broken: bool = False

    @property
    def mask(self):
        return VoxelMask(np.ones((2, 1, 1), bool), np.eye(4))

    def showings(self):
        for film, series in self.films.items():
            yield [f'{film}#{i:05d}' for i in range(len(series))], series
        if self.broken:
            raise OSError('cut short')


def viewer(label, seed, n=5, **more):
    rng = np.random.default_rng(seed)
    films = {name: rng.normal(size=(n, 2)).astype(np.float32) for name in ('b', 'a')}
    return Viewer(label, films, **more)


def test_who_cannot_be_read_is_left_out_of_the_sum_and_named(tmp_path):
    people = [viewer('1', 1), viewer('2', 2, broken=True), viewer('3', 3, n=7)]
    total = get_total(people, tmp_path, 'key')
    assert total.labels == ('1', '3')
    assert total.notes == (LEFT_OUT.format(label='2', reason='cut short'),)
    rows = total.rows_of(['a#00000', 'b#00004', 'b#00006', 'c#00000'])
    expected = [people[0].films['a'][0] + people[2].films['a'][0]]
    expected.append(people[0].films['b'][4] + people[2].films['b'][4])
    np.testing.assert_allclose(total.values[rows[:2]], expected, atol=1e-6)
    # the third has more of the film than the first: the end is not complete
    assert total.complete[rows[:3]].tolist() == [True, True, False]
    assert rows[3] == -1
    with pytest.raises(DataError) as error:
        get_total(people[1:2], tmp_path, 'other')
    assert str(error.value) == NOBODY.format(reasons='sub-2: cut short')


def test_a_sum_is_built_once(tmp_path):
    people = [viewer('1', 1), viewer('2', 2)]
    get_total(people, tmp_path, 'key')
    again = get_total([viewer('1', 1, broken=True)], tmp_path, 'key')
    assert again.labels == ('1', '2')


def test_censored_volumes_are_counted_out(tmp_path):
    people = [viewer('1', 1), viewer('2', 2)]
    people[0].films['a'][2] = np.nan
    total = get_total(people, tmp_path, 'key')
    row = total.rows_of(['a#00002'])[0]
    assert total.counts[row] == 1
    np.testing.assert_array_equal(total.values[row], people[1].films['a'][2])


class Pieces:
    """A participant who saw a film in pieces: (first sample, series) of each."""

    def __init__(self, label, *pieces):
        self.label, self.pieces = label, pieces

    @property
    def mask(self):
        return VoxelMask(np.ones((2, 1, 1), dtype=bool), np.eye(4))

    def showings(self):
        for first, values in self.pieces:
            yield [f'f.mp4#{first + i:05d}' for i in range(len(values))], values


def test_pieces_of_a_film_are_added_up_where_they_belong(tmp_path):
    rng = np.random.default_rng(0)
    film = rng.standard_normal((3, 12, 2)).astype(np.float32)
    people = [
        Pieces('01', (0, film[0])),
        Pieces('02', (0, film[1][:5]), (5, film[1][5:])),
        Pieces('03', (7, film[2][7:]), (0, film[2][:7])),
    ]
    total = get_total(people, tmp_path, 'key')
    np.testing.assert_allclose(total.values, film.sum(axis=0), rtol=1e-5)
    assert total.complete.all()
    assert total.stimuli[0] == 'f.mp4#00000'
    means = film.mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(total.moments[0], [means.sum(axis=0), (means**2).sum(axis=0)])
