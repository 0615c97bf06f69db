"""Short films, one a trial: read as images are, unless they are asked for as films."""

import pytest

from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.trials import trials_table
from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli.images import load_image


@pytest.fixture
def clips(make_dataset, datasets):
    """Make a dataset of films, shown at onsets for durations (s), and say what it is read as."""

    def make(onsets=(2, 8, 14), durations=(2, 2, 2), seconds=2.0, columns=(), **request):
        data = make_dataset(stimuli=('a.png',), n_volumes=40)
        names = [f'{"abc"[k]}.mp4' for k in range(3)]
        for name in names:
            datasets.write_film(data.root / 'stimuli' / name, seconds)
        rows = [[t, d, 'x', n, *columns] for t, d, n in zip(onsets, durations, names, strict=True)]
        head = [
            'onset',
            'duration',
            'trial_type',
            'stim_file',
            *(['film_onset'] if columns else []),
        ]
        for run in data.each_run():
            data.rewrite_events(rows, head, **run)
        (person,) = find_inputs(Request(bids_dir=data.root, **request)).participants
        return person

    return make


def test_short_films_in_trials_are_images(clips):
    person = clips()
    assert person.paradigm == 'images'
    assert person.stimuli == ('a.mp4', 'b.mp4', 'c.mp4')
    table = trials_table(person.runs)
    assert table['onset'].tolist() == [2, 8, 14] * 2
    assert table['stimulus'].tolist() == ['a.mp4', 'b.mp4', 'c.mp4'] * 2
    said = [note for note in person.runs[0].notes if 'middle frame' in note]
    assert len(said) == 1
    assert 'the 3 films are short' in said[0]
    # frames of these films are grey, brighter from frame to frame: 20 of them, the eleventh
    shown = load_image(person.stimuli_dir / 'a.mp4')
    assert shown.shape == (32, 32, 3)
    assert abs(float(shown.mean()) - 10) < 2


@pytest.mark.parametrize(
    ('design', 'paradigm'),
    [
        ({'system': 'movie'}, 'movie'),
        ({'system': 'encoding'}, 'images'),
        ({'needs_films': False}, 'movie'),
        ({'onsets': (2, 4, 6)}, 'movie'),  # without pauses
        ({'onsets': (2, 4, 6), 'system': 'encoding'}, 'images'),
        ({'durations': (1, 2, 2)}, 'movie'),  # no one duration
        ({'columns': (0,)}, 'movie'),  # parts of films
        ({'seconds': 12.0, 'onsets': (2, 20, 40)}, 'movie'),  # the beginning of a longer one
        ({'seconds': 12.0, 'durations': (12,) * 3, 'onsets': (2, 20, 40)}, 'movie'),
        (
            {'seconds': 12.0, 'durations': (12,) * 3, 'onsets': (2, 20, 40), 'system': 'encoding'},
            'movie',
        ),
    ],
)
def test_other_films_are_films(clips, design, paradigm):
    assert clips(**design).paradigm == paradigm


def test_one_table_of_features_for_all_is_of_images(clips, tmp_path):
    table = tmp_path / 'all.tsv'
    table.write_text('stim_file\tx\na.mp4\t1\nb.mp4\t2\nc.mp4\t3\n')
    person = clips(features=str(table))
    assert (person.paradigm, [*person.features.values()]) == ('images', [table])


def test_a_damaged_clip_is_refused_by_its_name(make_dataset, datasets):
    data = make_dataset(stimuli=('a.png',), n_volumes=40)
    for name in ('a.mp4', 'b.mp4'):
        datasets.write_film(data.root / 'stimuli' / name, 2.0)
    for run in data.each_run():
        data.rewrite_events([[2, 2, 'x', 'a.mp4'], [9, 2, 'x', 'b.mp4']], **run)
    film = data.root / 'stimuli' / 'b.mp4'
    film.write_bytes(film.read_bytes()[:200])
    with pytest.raises(InputError, match=r'b\.mp4'):
        find_inputs(Request(bids_dir=data.root))
