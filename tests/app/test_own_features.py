"""The program on features that a user brings: films without a film, images with a table."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_neurodecode.bids import features
from bids_neurodecode.bids.query import find_inputs
from bids_neurodecode.bids.request import Request
from bids_neurodecode.bids.timing import read_table
from bids_neurodecode.cli.main import main
from bids_neurodecode.cli.systems import NO_EXTRACTOR
from bids_neurodecode.errors import InputError
from bids_neurodecode.stimuli import tables
from bids_neurodecode.systems.movie.steps.group_brain import OTHER_FEATURES, shared_tables
from bids_neurodecode.systems.reconstruction.generation.steps.choice import (
    OWN_FEATURES,
    RETRIEVED_ONLY,
)
from bids_neurodecode.systems.steps import own_features
from bids_neurodecode.systems.steps.records import read_results
from tests.running import HERE

TR, N = 2.0, 150
FILMS = ('one', 'two')
QUICK = """
[clean]
high_pass = "none"
scaling = "zscore"
[delay]
seconds = 0.0
fir_seconds = [0.0, 2.0, 4.0]
[split]
by = "film"
[selection]
measure = "none"
[evaluation]
n_permutations = 40
n_bootstrap = 20
[features]
{features}
[movie]
{movie}
"""


def film_table(number):
    """Two bands: a label, and three numbers; the second drives half of the voxels."""
    rng = np.random.default_rng(number)
    label = np.repeat(rng.integers(0, 2, N // 5), 5)
    return pd.DataFrame(
        {'time': np.arange(N) * TR, 'label_face': label}
        | {f'text_{k}': rng.normal(size=N).round(4) for k in range(3)}
    )


@pytest.fixture
def films(make_dataset):
    """Two participants who saw two films, known by tables of features alone."""
    data = make_dataset(
        participants=('01', '02'), tasks=('movie',), shape=(4, 4, 2), n_volumes=N,
        repetition_time=TR, stimuli=(),
    )  # fmt: skip
    folder = data.root / 'stimuli'
    weights = np.random.default_rng(9).normal(size=(3, 16))
    for number, run in enumerate(data.each_run()):
        film = int(run['run']) - 1
        table = film_table(film)
        folder.mkdir(exist_ok=True)
        table.to_csv(folder / f'{FILMS[film]}.tsv', sep='\t', index=False)
        signal = np.zeros((N, 32))
        signal[2:, :16] = table.to_numpy()[:-2, 2:] @ weights
        noise = np.random.default_rng(100 + number).normal(size=(N, 32))
        data.rewrite_bold(lambda x, y=signal + noise: 100 + y.T.reshape(x.shape), **run)
        data.rewrite_events([[0, N * TR, 'film', f'{FILMS[film]}.tsv']], **run)
    return data


def call(data, out='out', level='participant', own='', movie='banded = "on"', more=()):
    root = data.root.parent
    file = root / f'{out}-{level}.toml'
    file.write_text(QUICK.format(features=own, movie=movie))
    return main(
        [
            *(str(data.root), str(root / out), level, '-w', str(root / 'work')),
            *('--skip-bids-validation', '--device', 'cpu', *HERE),
            *('--config-file', str(file), *more),
        ]
    )


def metrics_of(folder):
    (file,) = Path(folder).rglob('func/*desc-linear_metrics.tsv')
    return pd.read_csv(file, sep='\t').set_index(['model', 'metric'])


def says(message, **more):
    """Return a pattern for a message with anything in its fields, and these values there."""
    for key, value in more.items():
        message = re.sub(r'\{' + key + r'(![rsa])?(:[^}]*)?\}', str(value), message)
    return '.*'.join(re.escape(x) for x in re.split(r'\{[^}]*\}', message))


def refused(capsys, message, code, **more):
    assert code == 2
    error = capsys.readouterr().err
    assert re.search(says(message, **more), error), error


@pytest.mark.slow
def test_films_are_known_by_their_features_alone(films):
    out = films.root.parent / 'out'
    assert call(films) == 0
    table = metrics_of(out / 'sub-01')
    assert table['value']['ridge', 'voxel_r_mean'] > 0.3
    assert table['value']['banded-ridge', 'voxel_r_mean'] > 0.3
    row = table.loc['ridge', 'voxel_r_mean']
    assert row['compared_model'] == 'banded-ridge'
    own = table['value']['banded-ridge', 'voxel_r_mean'] - row['value']
    assert row['difference'] == pytest.approx(own, abs=1e-5)
    assert row['difference_low'] < row['difference'] < row['difference_high']
    assert 0 < row['difference_p'] <= 1
    record = read_results(out / 'sub-01/log/sub-01_task-movie_results.json')
    assert any('label (1: label_face); text (3: ' in note for note in record.notes)
    image = nib.load(record.maps['pearsonr']).get_fdata().ravel()
    assert image[:16].min() > 0.3
    assert np.abs(image[16:]).max() < 0.3
    page = (out / 'sub-01.html').read_text()
    assert 'features that were given as tables' in page
    assert 'Frames (' not in page
    # the group brain takes the same tables
    assert call(films, level='group', movie='target = "group"\nbanded = "on"') == 0
    group = metrics_of(out / 'group')
    assert group['value']['ridge', 'voxel_r_mean'] > table['value']['ridge', 'voxel_r_mean']
    # and a model is applied to features of another film
    new = films.root.parent / 'new'
    new.mkdir()
    film_table(7).iloc[:40].to_csv(new / 'three.tsv', sep='\t', index=False)
    more = ('--mode', 'predict', '--models-from', str(out), '--stimuli-dir', str(new))
    assert call(films, 'applied', more=(*more, '--participant-label', '01')) == 0
    (predicted,) = (films.root.parent / 'applied').rglob('sub-01*_bold.nii.gz')
    assert nib.load(predicted).shape == (4, 4, 2, 40)


@pytest.mark.slow
def test_a_template_names_the_features_of_films_that_are_not_there(films, tmp_path, no_page):
    assert call(films, more=('--participant-label', '01')) == 0
    for name in FILMS:
        table = pd.read_csv(films.root / 'stimuli' / f'{name}.tsv', sep='\t')
        np.save(tmp_path / f'{name}_features.npy', table.to_numpy()[:, 1:])
        (films.root / 'stimuli' / f'{name}.tsv').unlink()
    for run in films.each_run():
        name = FILMS[int(run['run']) - 1]
        films.rewrite_events([[0, N * TR, 'film', f'{name}.mkv']], **run)
    own = f'table = "{tmp_path}/{{film}}_features.npy"'
    assert call(films, 'other', own=own, more=('--participant-label', '01')) == 0
    expected, found = (metrics_of(films.root.parent / x)['value'] for x in ('out', 'other'))
    for metric in ('voxel_r_mean', 'voxel_r_median'):
        assert found['ridge', metric] == pytest.approx(expected['ridge', metric], abs=1e-4)


def test_a_group_brain_needs_the_same_features_of_all(tmp_path):
    @dataclass
    class Record:
        participant: str
        features: dict

    for name, text in (('a', '1'), ('b', '1'), ('c', '2')):
        (tmp_path / f'{name}.tsv').write_text(text)
    a, b, c = (Record(x, {'film': tmp_path / f'{x}.tsv'}) for x in 'abc')
    assert shared_tables([a, b]) == a.features
    with pytest.raises(InputError, match=says(OTHER_FEATURES, film='film', a='a', b='c')):
        shared_tables([a, c])


def spoil(films, change):
    file = films.root / 'stimuli' / 'two.tsv'
    change(pd.read_csv(file, sep='\t')).to_csv(file, sep='\t', index=False, na_rep='n/a')


@pytest.mark.parametrize(
    ('change', 'message', 'more'),
    [
        (lambda t: t.iloc[:-1], tables.NOT_COVERED, {}),
        (lambda t: t.drop(columns='time').iloc[:-2], tables.NO_TIMES, {'rows': N - 2}),
        (lambda t: t.assign(text_1=t['text_1'].mask(t.index == 4)), tables.NOT_FINITE, {'row': 6}),
        (lambda t: pd.concat([t.iloc[:3], t.iloc[2:]]), tables.TIME_ORDER, {'row': 5}),
        (lambda t: t.drop(columns='text_1'), own_features.OTHER_BANDS, {}),
    ],
)
def test_tables_that_do_not_fit_a_run_are_refused(films, capsys, change, message, more):
    spoil(films, change)
    refused(capsys, message, call(films, more=['--dry-run']), **more)


def test_rows_of_a_second_say_how_long_a_film_lasts(films, capsys):
    """Films that are not there, shown to their end: their tables know where that is."""
    for name in FILMS:
        np.save(films.root / 'stimuli' / f'{name}_often.npy', np.ones((4 * 200, 2)))
    for run in films.each_run():
        name = FILMS[int(run['run']) - 1]
        films.rewrite_events([[0, 'n/a', 'film', f'{name}.mkv']], **run)
    for rate in (4, 2):
        own = f'table = "{{film}}_often.npy"\ntable_rate = {rate}'
        assert call(films, own=own, more=['--dry-run']) == 0
        # what is taken from a table is not more than the film that was shown
        said = 'comes after that is not used' in capsys.readouterr().out
        assert said is (rate == 2)
    asked = {'features': '{film}_often.npy', 'table_rate': 4}
    inputs = find_inputs(Request(films.root, made_dir=films.root.parent / 'made', **asked))
    run = inputs.participants[0].runs[0]
    assert read_table(run.events)['duration'].astype(float).tolist() == [200]


def test_what_cannot_be_done_with_features_alone_is_refused(films, capsys):
    code = call(films, movie='model = "network"\ndesign = "small"', more=['--dry-run'])
    refused(capsys, own_features.NO_FRAMES, code, film='one.tsv')
    code = call(films, own='bands = {text = ["word*"]}', more=['--dry-run'])
    refused(capsys, tables.NO_BAND, code, band='text')
    films.rewrite_events([[0, N * TR, 'film', 'three.mkv']], run='02')
    code = call(films, own='table = "{film}.npy"', more=['--dry-run', '--participant-label', '01'])
    refused(capsys, features.NOT_THERE, code)
    code = call(films, own='table = "{scan}.npy"', more=['--dry-run', '--participant-label', '01'])
    refused(capsys, features.UNKNOWN_FIELD, code, field="'scan'")


PICTURES = tuple(f'p{k:02d}.png' for k in range(24))
PICTURE_SETTINGS = """
[features]
{features}
[encoding]
{encoding}
[betas]
model = "B"
[split]
n_folds = 2
[selection]
measure = "none"
[evaluation]
n_permutations = 20
n_bootstrap = 20
[ridge]
n_folds = 2
"""


@pytest.fixture
def pictures(make_dataset):
    """Images with a table of features, in the order of nobody."""
    data = make_dataset(stimuli=PICTURES, n_volumes=110, shape=(4, 4, 2))
    rng = np.random.default_rng(0)
    order = rng.permutation(24)
    table = pd.DataFrame({'image': [PICTURES[k].removesuffix('.png') for k in order]})
    own = {name: rng.normal(size=24) for name in ('face_big', 'face_small', 'clip_1', 'clip_2')}
    table = table.assign(**own)
    table.to_csv(data.root / 'stimuli' / 'mine.tsv', sep='\t', index=False)
    return data


def picture_call(data, out, *more, own='table = "mine.tsv"', encoding=''):
    root = data.root.parent
    file = root / f'{out}.toml'
    file.write_text(PICTURE_SETTINGS.format(features=own, encoding=encoding))
    return main(
        [
            *(str(data.root), str(root / out), 'participant', '-w', str(root / 'work')),
            *('--skip-bids-validation', '--device', 'cpu', *HERE),
            *('--config-file', str(file), *more),
        ]
    )


@pytest.mark.slow
def test_a_table_gives_encoding_its_feature_spaces(pictures):
    out = pictures.root.parent / 'out'
    encoding = 'model = "banded"\npartition = true'
    assert picture_call(pictures, 'out', '--system', 'encoding', encoding=encoding) == 0
    record = json.loads((out / 'sub-01/log/sub-01_task-img_results.json').read_text())
    assert record['encoding']['bands'] == ['table:face', 'table:clip']
    assert {'uniquevariance-table:face', 'uniquevariance-table:clip'} <= set(
        record['encoding']['maps']
    )
    page = (out / 'sub-01.html').read_text()
    assert 'features that were given as a table (face)' in page
    # rows are taken by name, and each trained model takes the table of new data
    more = ('--system', 'encoding', '--mode', 'predict', '--models-from', str(out))
    assert picture_call(pictures, 'applied', *more, encoding=encoding) == 0


@pytest.mark.slow
def test_a_table_is_what_pictures_are_decoded_to(pictures):
    out = pictures.root.parent / 'out'
    assert picture_call(pictures, 'out') == 0
    record = read_results(out / 'sub-01/log/sub-01_task-img_results.json')
    assert RETRIEVED_ONLY in record.notes
    assert record.features == {'*': pictures.root / 'stimuli' / 'mine.tsv'}
    (kept,) = (pictures.root.parent / 'work').rglob('features/features.npy')
    table = pd.read_csv(pictures.root / 'stimuli' / 'mine.tsv', sep='\t').set_index('image')
    expected = table.loc[[name.removesuffix('.png') for name in PICTURES]]
    np.testing.assert_allclose(np.load(kept), expected.to_numpy(), atol=1e-6)
    assert 'given as a table' in (out / 'sub-01.html').read_text()


def test_tables_of_pictures_that_do_not_fit_are_refused(pictures, capsys):
    own = 'extractor = "table"'
    refused(capsys, own_features.NO_TABLE, picture_call(pictures, 'a', '--dry-run', own=own))
    asked = ('--system', 'encoding', '--dry-run')
    code = picture_call(pictures, 'b', *asked, encoding='bands = ["table:word"]')
    refused(capsys, own_features.NO_SUCH_BAND, code, band='table:word')
    one = 'table = "mine.tsv"\nbands = {all = ["*"]}'
    code = picture_call(pictures, 'c', *asked, own=one, encoding='partition = true')
    refused(capsys, own_features.ONE_BAND, code)
    file = pictures.root / 'stimuli' / 'mine.tsv'
    rows = file.read_text().splitlines()
    file.write_text('\n'.join(rows[:-3]) + '\n')
    refused(capsys, tables.NO_ROW, picture_call(pictures, 'd', '--dry-run'), n=3, total=24)
    file.write_text('\n'.join([*rows, rows[-1]]) + '\n')
    refused(capsys, tables.ROW_TWICE, picture_call(pictures, 'e', '--dry-run'), a=25, b=26)


def test_extractors_that_cannot_be_made_are_refused_before_work_starts(pictures, capsys):
    code = picture_call(pictures, 'a', '--dry-run', own='extractor = "gabr"')
    refused(capsys, NO_EXTRACTOR, code)


def test_pictures_that_are_made_have_no_row(pictures, capsys):
    own = 'table = "mine.tsv"\n[reconstruction]\ngenerator = "small"'
    refused(capsys, OWN_FEATURES, picture_call(pictures, 'a', '--dry-run', own=own))
