"""Emo-FilM's published layout: onsets, films, masks, and the app on it."""

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids import emofilm, emofilm_events, masks
from bids_neurodecode.bids.emofilm_events import FILM_SECONDS
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.recipes import recognise
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.trials import film_table
from bids_neurodecode.cli.main import main
from bids_neurodecode.config import build_config, read_settings
from bids_neurodecode.errors import InputError
from tests.app.test_science import validate
from tests.datasets import write_film, write_series, write_table
from tests.published import (
    FILM_AFFINE,
    FILM_GRID,
    FILMS,
    PERIOD,
    WASHOUT,
    events_path,
    make_emofilm,
    read_record,
    series_path,
)
from tests.running import HERE


@pytest.fixture(scope='module', autouse=True)
def _short_films():
    """The films of these tests are shorter than those of their names."""
    with pytest.MonkeyPatch.context() as patch:
        for film, seconds in FILMS.items():
            patch.setitem(FILM_SECONDS, film, seconds)
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('emofilm')
    return make_emofilm(folder / 'data', folder / 'films')


@pytest.fixture
def copy(data, tmp_path):
    return Path(shutil.copytree(data.parent, tmp_path / 'copy')) / 'data'


def find(root, tmp_path, **changes):
    films = changes.pop('films', root.parent / 'films')
    places = {'stimuli_dir': films, 'made_dir': tmp_path / 'made'}
    return find_inputs(Request(bids_dir=root, **places, **changes))


def refusal(root, tmp_path, **changes) -> str:
    with pytest.raises(InputError) as error:
        find(root, tmp_path, **changes)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_the_layout_is_noticed(data):
    assert recognise(data).content.reader == 'emofilm'


def test_films_of_one_participant_are_one_analysis(data, tmp_path):
    found = find(data, tmp_path)
    assert [p.label for p in found.participants] == ['S01', 'S02', 'S03']
    person = found.participants[1]
    assert (person.task, person.paradigm) == ('film', 'movie')
    assert [run.label for run in person.runs] == [
        'ses-1 task-film acq-BigBuckBunny',
        'ses-2 task-film acq-Sintel',
    ]
    run = person.runs[0]
    assert (run.space, run.resolution, run.repetition_time) == ('MNI152NLin6Asym', '26', PERIOD)
    assert run.sources == (
        'bids:preprocessing:' + str(series_path('S02', 'BigBuckBunny')).split('preprocessing/')[1],
        'bids:raw:' + str(events_path('S02', 'BigBuckBunny')),
    )
    table = film_table(person.runs)
    for film, n_volumes in {'BigBuckBunny': 80, 'Sintel': 70}.items():
        rows = table[table['film'] == f'{film}.mp4']
        assert len(rows) == n_volumes
        assert rows['run_onset'].iloc[0] == pytest.approx(3.8 + WASHOUT + 0.1)
    assert found.notes[0] == emofilm.LAYOUT
    # nothing is made in the dataset, and nothing twice
    assert not list(data.rglob('*mask*'))
    assert find(data, tmp_path).participants == found.participants


def test_the_mask_holds_what_varies(data, tmp_path):
    run = find(data, tmp_path).participants[0].runs[0]
    inside = np.zeros(FILM_GRID, dtype=bool)
    inside[1:-1, 1:-1, 1:-1] = True
    mask = nib.load(run.mask)
    assert np.array_equal(np.asarray(mask.dataobj) > 0, inside)
    np.testing.assert_array_equal(mask.affine, FILM_AFFINE)


def test_one_film_alone(data, tmp_path):
    person = find(data, tmp_path, tasks=('Sintel',)).participants[0]
    assert person.task == 'Sintel'
    assert [run.stem for run in person.runs] == ['sub-S01_ses-2_task-Sintel']
    assert person.stimuli == ('Sintel.mp4',)
    assert "'Payload'" in refusal(data, tmp_path, tasks=('Payload',))


def test_a_film_of_which_nobody_has_events_is_left_out_and_said(copy, tmp_path):
    """A lab that got one participant lacks the onsets that others would give."""
    for file in copy.rglob('*_task-scan_acq-Sintel_events.tsv'):
        file.unlink()
    (copy.parent / 'films' / 'Sintel.mp4').unlink()  # nor is its film needed then
    found = find(copy, tmp_path)
    assert all(person.stimuli == ('BigBuckBunny.mp4',) for person in found.participants)
    assert [note for note in found.notes if note.startswith('Sintel: left out. No run of them')]
    line = refusal(copy, tmp_path, tasks=('Sintel',), films=copy.parent / 'films')
    assert 'Sintel' in line


def test_a_missing_onset_is_the_median_of_others_and_said(copy, tmp_path):
    (copy / events_path('S01', 'Sintel')).unlink()
    found = find(copy, tmp_path, participants=('S01',))
    # of S02 and S03, whose films began .1 and .2 s later
    expected = 3.8 + WASHOUT + 0.15
    table = film_table(found.participants[0].runs)
    starts = table[table['film'] == 'Sintel.mp4']['run_onset']
    assert starts.iloc[0] == pytest.approx(expected)
    (line,) = (note for note in found.notes if 'imputed' in note)
    assert line.startswith('sub-S01: the onset of Sintel (ses-2) is imputed')
    assert f'{expected:.3f} s' in line
    assert 'in 2 other run(s)' in line
    (run,) = (run for run in found.participants[0].runs if run.entities['acq'] == 'Sintel')
    assert not [source for source in run.sources if source.startswith('bids:raw:')]
    for label in ('S02', 'S03'):
        (copy / events_path(label, 'Sintel')).unlink()
    line = refusal(copy, tmp_path, tasks=('Sintel',))
    assert emofilm_events.NO_ONSET.format(film='Sintel', folder=copy) in line


@pytest.mark.parametrize(
    ('rows', 'reason'),
    [
        ([[1, 5, 'rest']], '0 rows are of a film'),
        ([[10, 'long', 'film']], 'times are no numbers'),
        ([[-1, 91, 'film']], 'times are no times'),
        ([[10, 95, 'film']], 'Sintel was shown for 95.000 s, and lasts 91 s'),
    ],
)
def test_broken_events_cost_their_participant_alone(copy, tmp_path, rows, reason):
    file = copy / events_path('S02', 'Sintel')
    write_table(file, [['onset', 'duration', 'trial_type'], *rows])
    found = find(copy, tmp_path)
    assert found.failures == {'S02': emofilm_events.BAD_EVENTS.format(file=file, reason=reason)}


def test_events_without_a_column(copy, tmp_path):
    file = copy / events_path('S02', 'Sintel')
    write_table(file, [['onset', 'trial_type'], [10, 'film']])
    assert "no column 'duration'" in find(copy, tmp_path).failures['S02']


def test_a_run_shorter_than_its_film_costs_its_participant_alone(copy, tmp_path):
    file = copy / series_path('S03', 'Sintel')
    data = np.asarray(nib.load(file).dataobj)[..., :-12]
    write_series(file, data, PERIOD, FILM_AFFINE)
    found = find(copy, tmp_path)
    assert [p.label for p in found.participants] == ['S01', 'S02']
    message = emofilm.RUN_SHORT.format(
        bold=file, length=data.shape[-1] * PERIOD, film='Sintel', end=3.8 + WASHOUT + 0.2 + 91
    )
    assert found.failures == {'S03': message}


def test_films_that_are_missing_short_twice_or_long(copy, tmp_path):
    folder = copy.parent / 'films'
    assert refusal(copy, tmp_path, films=None).startswith('Emo-FilM does not hold its films')
    write_film(folder / 'Sintel.mkv', 92)
    assert 'Sintel.mkv, Sintel.mp4' in refusal(copy, tmp_path)
    (folder / 'Sintel.mp4').unlink()
    write_film(folder / 'Sintel.mkv', 96)
    found = find(copy, tmp_path)
    assert any('Check that it starts with the same image' in note for note in found.notes)
    write_film(folder / 'Sintel.mkv', 80)
    line = refusal(copy, tmp_path)
    assert 'lasts 80.0 s' in line
    assert 'tolerance 1 s' in line
    (folder / 'Sintel.mkv').unlink()
    known = 'BigBuckBunny.mp4'
    assert refusal(copy, tmp_path) == emofilm.NO_FILM.format(
        film='Sintel', folder=folder, known=known
    )


def test_series_that_were_not_fetched_or_do_not_vary(copy, tmp_path):
    file = copy / series_path('S01', 'Sintel')
    write_series(file, np.ones((*FILM_GRID, 90)), PERIOD, FILM_AFFINE)
    message = masks.NO_BRAIN.format(bold=file, n=masks.MASK_VOLUMES)
    assert find(copy, tmp_path).failures == {'S01': message}
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:5000]))
    assert 'cut short' in find(copy, tmp_path).failures['S01']
    file.unlink()
    file.symlink_to('../../../../.git/annex/objects/gone')
    assert f'{file} was not fetched' in find(copy, tmp_path).failures['S01']


def test_the_repetition_time_of_the_sidecar_wins_and_is_said(copy, tmp_path):
    file = copy / series_path('S01', 'Sintel')
    write_series(file, np.asarray(nib.load(file).dataobj), 1.0, FILM_AFFINE)
    found = find(copy, tmp_path, participants=('S01',))
    assert {run.repetition_time for run in found.participants[0].runs} == {PERIOD}
    assert any('gives a repetition time of 1 s' in note for note in found.notes)


def test_films_that_one_participant_lacks_are_said(copy, tmp_path):
    (copy / series_path('S02', 'Sintel')).unlink()
    found = find(copy, tmp_path)
    assert [len(p.runs) for p in found.participants] == [2, 1, 2]
    assert emofilm.LACKS.format(label='S02', films='Sintel') in found.notes


def test_other_spaces_and_filters_are_refused(data, tmp_path):
    line = refusal(data, tmp_path, space='MNI152NLin2009cAsym')
    assert line == emofilm.OTHER_SPACE.format(asked='MNI152NLin2009cAsym', space='MNI152NLin6Asym')
    assert refusal(data, tmp_path, filters={'bold': {'run': '1'}}) == emofilm.NO_FILTERS
    assert find(data, tmp_path, space='MNI152NLin6Asym:res-2').participants


def test_the_table_of_films_has_the_published_length():
    seconds = pd.Series(FILM_SECONDS).drop(list(FILMS))
    true = {'BigBuckBunny': 490.0, 'Sintel': 722.0}
    total = pd.concat([seconds, pd.Series(true)])
    assert len(total) == 14
    assert total.sum() == 9600
    assert int((total / PERIOD).astype(int).sum()) == 7378


@pytest.mark.parametrize('name', ['emofilm-paper', 'emofilm-blocked'])
def test_presets_are_read(name):
    config = build_config(read_settings(name), source=name)
    assert config.system == 'movie'
    assert config.atlas.name is not None
    assert config.clean.strategy == ()


# the app ----------------------------------------------------------------------------------------

SETTINGS = """
[split]
test_fraction = 0.3
gap = 5.2
[evaluation]
n_permutations = 50
n_bootstrap = 50
"""


@pytest.fixture(scope='module')
def encoded(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('app')
    copied = Path(shutil.copytree(data, folder / 'data'))
    (copied / events_path('S02', 'Sintel')).unlink()
    (folder / 'settings.toml').write_text(SETTINGS)
    places = [str(copied), str(folder / 'out'), 'participant', '-w', str(folder / 'work')]
    options = ['--config-file', str(folder / 'settings.toml'), *HERE]
    films = ['--stimuli-dir', str(data.parent / 'films')]
    assert main([*places, *options, *films, '--participant-label', 'S02']) == 0
    return folder / 'out'


@pytest.mark.slow
def test_both_films_are_encoded(encoded):
    file = encoded / 'sub-S02/func/sub-S02_task-film_desc-linear_metrics.tsv'
    rows = pd.read_csv(file, sep='\t')
    assert {'voxel_r_median', 'voxel_r_mean'} <= set(rows[rows['model'] == 'ridge']['metric'])
    place = 'space-MNI152NLin6Asym_res-26_desc-aligned_bold.nii.gz'
    for session, film in enumerate(FILMS, 1):
        name = f'sub-S02/ses-{session}/func/sub-S02_ses-{session}_task-film_acq-{film}_{place}'
        assert nib.load(encoded / name).shape[3] > 0.8 * FILMS[film] / PERIOD


@pytest.mark.slow
def test_what_was_imputed_is_in_the_report(encoded):
    record = read_record(encoded, 'S02')
    assert any('imputed' in note for note in record['notes'])
    assert 'is imputed' in (encoded / 'sub-S02.html').read_text()


@pytest.mark.slow
def test_derivatives_are_valid_bids(encoded):
    validate(encoded)
