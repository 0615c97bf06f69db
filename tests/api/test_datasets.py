"""Datasets to samples: the same responses as from their files by hand."""

import numpy as np
import pandas as pd
import pytest

import bids_neurodecode as nd
from bids_neurodecode.api import datasets as module
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.clean import clean_series
from bids_neurodecode.simulate.dataset import simulate_dataset
from bids_neurodecode.simulate.spec import build_spec
from bids_neurodecode.stimuli.features import extract_features, get_extractor
from bids_neurodecode.stimuli.films import read_frames
from bids_neurodecode.stimuli.images import load_images
from tests.published import made_design, make_nsd, nsd_mask, stored_betas

SMALL = {'n_subjects': 2, 'n_runs': 3, 'voxel_size': 18.0}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images') / 'data'
    return simulate_dataset(folder, build_spec(**SMALL, n_images=8, n_repeats=3))


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp('films') / 'data'
    return simulate_dataset(folder, build_spec(**SMALL, paradigm='movie', film_duration=60.0))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(('space', 'kind'), [('fsaverage5', dict), ('parcels', pd.DataFrame)])
def test_surfaces_and_parcels_are_read_as_the_program_reads_them(tmp_path, space, kind):
    spec = build_spec(**{**SMALL, 'n_subjects': 1}, n_images=6, n_repeats=3, space=space)
    person = nd.load_dataset(simulate_dataset(tmp_path / 'data', spec))['01']
    samples = person.samples()
    betas = nd.fit_betas(person.bold, person.events, mask=person.mask, model='B')
    np.testing.assert_array_equal(samples.values, betas.values)
    image = betas.to_image(betas.rsquared)
    assert isinstance(image, kind)
    if kind is dict:
        both = np.concatenate([image[side].darrays[0].data for side in ('left', 'right')])
        inside = person.mask.mask.ravel()
        np.testing.assert_array_equal(both[inside], np.nan_to_num(betas.rsquared))
        flat = nd.fit_betas(person.bold, person.events, mask=inside, model='B')
        np.testing.assert_array_equal(flat.values, betas.values)
    else:
        assert image.shape == (1, person.mask.n_voxels)


def test_features_follow_the_trials(images):
    person = nd.load_dataset(images, participants='01')['01']
    found = person.features()
    names = person.trials['stimulus']
    files = [images / 'stimuli' / name for name in names]
    expected = extract_features(load_images(files, size=64), get_extractor('gabor'))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
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
        person.samples(model='D')
    assert str(error.value) == module.NO_BETAS.format(label='01')


@pytest.mark.slow
def test_a_film_is_encoded_from_its_frames(films):
    """The planted voxels follow the frames: trained on one film, tested on the other."""
    person = nd.load_dataset(films)['01']
    samples, features = person.samples(), person.features(size=32)
    assert len(features) == samples.n_samples
    run = samples.table['run'].to_numpy()
    row = int(np.flatnonzero(run == 1)[3])
    film = films / 'stimuli' / samples.table['film'][row]
    times = samples.table['onset'][row] + (np.arange(4) + 0.5) * 0.5
    frames = read_frames(film, times, (32, 32))
    expected = extract_features(frames, get_extractor('gabor')).mean(axis=0)
    np.testing.assert_allclose(features[row], expected, rtol=1e-5)
    model = nd.MovieEncoder(2.0).fit(features[run == 0], samples.values[run == 0])
    assert np.isfinite(model.score(features[run == 1], samples.values[run == 1]))


@pytest.mark.slow
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


@pytest.mark.parametrize('repeats', ['single', 'mean'])
def test_nsd_is_read_in_place(tmp_path, repeats):
    root = make_nsd(tmp_path / 'nsd', participants=(1,))
    person = nd.load_dataset(root, settings={'betas': {'repeats': repeats}})['01']
    samples = person.samples()
    design = made_design()
    stored = stored_betas(1, design).reshape(-1, 120)[(nsd_mask() > 0).ravel()].T / 300
    order = design['masterordering'].ravel()
    if repeats == 'mean':
        first = [np.flatnonzero(order == x) for x in dict.fromkeys(order)]
        stored = np.stack([stored[rows].mean(axis=0) for rows in first])
    np.testing.assert_allclose(samples.values, stored, atol=1e-5)
    assert len(samples.table) == len(stored)
    features = person.features(size=32)
    same = samples.table['stimulus'] == samples.table['stimulus'].iloc[0]
    assert (features[same] == features[0]).all()
    assert len(np.unique(features, axis=0)) == samples.table['stimulus'].nunique()


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
