"""Datasets to samples: the same responses as from their files by hand."""

import numpy as np
import pytest

import bids_neurodecode as nd
from bids_neurodecode.api import datasets as module
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import clean_series
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.images import load_images

SMALL = {'n_subjects': 2, 'n_runs': 3, 'voxel_size': 18.0}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images') / 'data'
    return simulate_dataset(folder, build_spec(**SMALL, n_images=8, n_repeats=3))


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp('films') / 'data'
    return simulate_dataset(folder, build_spec(**SMALL, paradigm='movie', film_duration=60.0))


@pytest.mark.parametrize('model', ['auto', 'B', 'D'])
def test_samples_are_the_betas_of_the_files(images, model):
    dataset = nd.load_dataset(images)
    assert list(dataset) == ['01', '02']
    person = dataset['sub-02']
    samples = person.samples(model=model)
    by_hand = nd.fit_betas(person.bold, person.events, mask=person.mask, model=model)
    np.testing.assert_array_equal(samples.values, by_hand.values)
    assert samples.table['stimulus'].tolist() == by_hand.stimuli.tolist()
    assert samples.table['run'].tolist() == by_hand.runs.tolist()


def test_features_follow_the_trials(images):
    person = nd.load_dataset(images, participants='01')['01']
    found = person.features()
    names = person.trials['stimulus']
    files = [images / 'stimuli' / name for name in names]
    expected = extract_features(load_images(files, size=64), get_extractor('gabor'))
    np.testing.assert_array_equal(found, expected)


def test_samples_of_films_are_cleaned_series_on_their_clock(films):
    """The film starts with the volume at 6 s: what is read there is the volume itself."""
    import nibabel as nib

    person = nd.load_dataset(films, derivatives=films / 'derivatives' / 'fmriprep')['01']
    samples = person.samples()
    table = samples.table
    assert isinstance(person.mask, VoxelMask)
    for number, bold in enumerate(person.bold):
        image = nib.load(bold)
        series = person.mask.extract(np.asanyarray(image.dataobj, dtype=np.float32))
        cleaned = clean_series(series, 2.0, high_pass=0.008)
        rows = np.flatnonzero(table['run'] == number)
        first = int(table['run_onset'].iloc[rows[0]] / 2.0)
        expected = cleaned[first : first + len(rows)]
        np.testing.assert_allclose(samples.values[rows], expected, atol=1e-4)
    with pytest.raises(nd.UsageError) as error:
        person.samples(model='B')
    assert str(error.value) == module.NO_BETAS.format(label='01')
    with pytest.raises(nd.UsageError, match=r'sub-01 saw films'):
        person.features()


def test_events_as_they_are_published_are_read(images, tmp_path):
    """Another column names the images: a table is made, and stays while the data are in use."""
    import gc
    import shutil

    data = tmp_path / 'data'
    shutil.copytree(images, data)
    for file in data.glob('sub-*/func/*_events.tsv'):
        file.write_text(file.read_text().replace('stim_file', 'shown', 1))
    person = nd.load_dataset(data)['01']
    gc.collect()
    straight = nd.load_dataset(images)['01'].samples(model='B')
    np.testing.assert_array_equal(person.samples(model='B').values, straight.values)
    betas = nd.fit_betas(person.bold, person.events, mask=person.mask, model='B')
    np.testing.assert_array_equal(betas.values, straight.values)
    kept = nd.load_dataset(data, work_dir=tmp_path / 'made')['01']
    assert all(tmp_path / 'made' in file.parents for file in kept.events)
    assert not list(data.rglob('*layout*'))


def test_short_and_readable(images):
    dataset = nd.load_dataset(images)
    lines = repr(dataset).splitlines()
    assert lines[0].endswith(': 2 participants')
    assert lines[1] == '  sub-01: task images, 3 runs, 8 images'
    with pytest.raises(KeyError, match=r'no participant .09.* 01, 02'):
        dataset['09']


def test_settings_that_are_none_are_named(images):
    with pytest.raises(nd.UsageError, match=r'argument settings: clean.high_pas: unknown key'):
        nd.load_dataset(images, settings={'clean': {'high_pas': 1}})
