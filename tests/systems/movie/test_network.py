"""The movie networks as a system: planted films are learned, saved, and read again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.models.losses import LossWeights
from bids_neurodecode.models.movie import MovieDesign
from bids_neurodecode.models.trainingsettings import TrainingSettings
from bids_neurodecode.stimuli.filmstore import FilmChunks, as_chunks, open_store
from bids_neurodecode.systems.movie.network import MovieNetwork, MovieNetworkSettings, fit_movie
from bids_neurodecode.systems.movie.scores import frame_ssim, target_frames

N_VOXELS = 50
DESIGN = MovieDesign(
    N_VOXELS, chunk=8, frame_size=24, spatial=4, temporal=8, slices=4, merged=6, decoder=8
)
SETTINGS = MovieNetworkSettings(
    DESIGN,
    LossWeights(),
    TrainingSettings(n_epochs=12, batch_size=8, learning_rate=3e-3, seed=1, device='cpu'),
)


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Several threads, on cores that others use too, wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Films of nine coloured patches that change with each chunk; voxels follow the patches."""
    rng = np.random.default_rng(seed)
    patches = rng.uniform(0, 1, (n, 3, 3, 3))
    film = patches.repeat(8, axis=1).repeat(8, axis=2)[:, None].repeat(8, axis=1)
    film = np.clip(255 * film + rng.normal(0, 8, film.shape), 0, 255).astype(np.uint8)
    weights = np.random.default_rng(99).normal(size=(27, N_VOXELS))
    signal = (patches.reshape(n, -1) - 0.5) @ weights
    return film, (5 + signal + 0.3 * rng.normal(size=signal.shape)).astype(np.float32)


@pytest.fixture(scope='module')
def data():
    return *planted(64, 0), *planted(40, 1)


@pytest.fixture(scope='module')
def joint(data):
    film, responses, held_out, held_out_responses = data
    return fit_movie(
        film, responses, SETTINGS, val_chunks=held_out[:16], val_responses=held_out_responses[:16]
    )


def test_joint_network_is_above_chance(joint, data):
    film, responses = (x[16:] for x in data[2:])
    predicted = joint.predict(film)
    r = pearson_by_column(responses, predicted)
    shifted = pearson_by_column(np.roll(responses, 7, axis=0), predicted)
    assert predicted.shape == (24, N_VOXELS)
    assert np.median(r) > 0.3
    assert abs(np.median(shifted)) < 0.2
    # in the units of the data, whose mean is 5
    assert predicted.mean() == pytest.approx(5, abs=0.5)


def test_joint_network_reconstructs(joint, data):
    film = data[2][16:]
    frames = joint.reconstruct(joint.predict(film))
    truth = target_frames(film)
    assert frames.shape == truth.shape == (24, 24, 24, 3)
    assert 0 <= frames.min() < frames.max() <= 1
    right, wrong = frame_ssim(truth, frames), frame_ssim(np.roll(truth, 5, axis=0), frames)
    assert right.shape == (24,)
    assert right.mean() > wrong.mean()


def test_curves_name_every_term(joint):
    table = joint.training.table()
    assert {'loss', 'E', 'D', 'voxel_cosine', 'perceptual', 'ssim', 'tv'} <= set(table.columns)
    validation = table[table['part'] == 'validation']['loss'].to_numpy()
    assert validation.min() < validation[0]


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['encoder', 'decoder'])
def test_parts_alone(data, mode):
    film, responses, held_out, held_out_responses = data
    epochs = 12 if mode == 'encoder' else 25
    settings = replace(SETTINGS, mode=mode, training=replace(SETTINGS.training, n_epochs=epochs))
    network = fit_movie(film, responses, settings)
    if mode == 'encoder':
        assert np.median(pearson_by_column(held_out_responses, network.predict(held_out))) > 0.3
        with pytest.raises(ArgumentsError, match='trained without a decoder'):
            network.reconstruct(responses)
        return
    truth, frames = target_frames(held_out), network.reconstruct(held_out_responses)
    mean_frame = np.broadcast_to(target_frames(film).mean(axis=0), truth.shape)
    assert ((truth - frames) ** 2).mean() < 0.9 * ((truth - mean_frame) ** 2).mean()
    with pytest.raises(ArgumentsError, match='trained without an encoder'):
        network.predict(held_out)


def test_bytes_and_values_are_the_same_to_it(joint, data):
    film = data[2][:5]
    values = as_chunks(torch.from_numpy(film))
    assert np.array_equal(joint.predict(film), joint.predict(values))
    assert np.array_equal(target_frames(film), target_frames(values))
    expected = film[:, 3] / np.float32(255)
    assert np.array_equal(target_frames(film), expected)


def test_saved_and_read_again(joint, data, tmp_path):
    joint.save(tmp_path / 'model')
    again = MovieNetwork.load(tmp_path / 'model')
    assert again.settings == joint.settings
    assert np.array_equal(again.predict(data[2]), joint.predict(data[2]))
    assert np.array_equal(again.reconstruct(data[3]), joint.reconstruct(data[3]))
    assert joint.describe()['settings']['perceptual'] == 'gabor'
    assert joint.describe()['training']['n_steps'] == 96


@pytest.mark.slow
def test_damaged_models_are_told(joint, tmp_path):
    joint.save(tmp_path)
    card = tmp_path / 'model.json'
    text = card.read_text()
    card.write_text(text.replace('"n_voxels": 50', '"n_voxels": 51'))
    with pytest.raises(DataError, match='Train it again') as error:
        MovieNetwork.load(tmp_path)
    assert '\n' not in str(error.value)
    for damaged in (text.replace('"chunk"', '"chunks"'), '[' * 10_000):
        card.write_text(damaged)
        with pytest.raises(DataError, match='Cannot read the movie network'):
            MovieNetwork.load(tmp_path)


def test_published_switches(data):
    film, responses, *_ = data
    paper = replace(
        SETTINGS,
        design=replace(DESIGN, paper_bn=True),
        losses=LossWeights(paper_mse=True),
        training=replace(SETTINGS.training, n_epochs=1),
        standardize=False,
        min_max=True,
    )
    network = fit_movie(film, responses, paper)
    frames = network.reconstruct(responses)
    assert np.allclose(frames.reshape(64, -1).min(axis=1), 0)
    assert np.allclose(frames.reshape(64, -1).max(axis=1), 1)
    assert not network.standardizer.mean.any()


def test_standardizer_sees_training_samples_only(joint, data):
    assert joint.standardizer.mean == pytest.approx(data[1].mean(axis=0), abs=1e-5)


def test_what_does_not_fit(data):
    film, responses, *_ = data
    with pytest.raises(DataError, match='64 chunks, 63 responses'):
        fit_movie(film, responses[:-1], SETTINGS)
    with pytest.raises(DataError, match='The design has 50 voxels, the training responses have'):
        fit_movie(film, responses[:, :9], SETTINGS)
    broken = responses.copy()
    broken[3, 4] = np.nan
    with pytest.raises(DataError, match='1 are not'):
        fit_movie(film, broken, SETTINGS)
    with pytest.raises(ArgumentsError, match='needs the ImageNet weights'):
        fit_movie(film, responses, replace(SETTINGS, perceptual='vgg16'))
    with pytest.raises(ArgumentsError, match='no features to compare'):
        fit_movie(film, responses, replace(SETTINGS, perceptual='none'))
    with pytest.raises(ArgumentsError, match='both chunks and responses'):
        fit_movie(film, responses, SETTINGS, val_chunks=film)


@pytest.mark.slow
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_interrupted_and_resumed(data, tmp_path, precision):
    film, responses, *_ = data
    training = replace(SETTINGS.training, n_epochs=2, checkpoint_every=3, precision=precision)
    settings = replace(SETTINGS, training=training)

    def stop(done, _):
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_movie(film, responses, settings, checkpoint_dir=tmp_path, progress=stop)
    steps = []
    resumed = fit_movie(
        film, responses, settings, checkpoint_dir=tmp_path, progress=lambda n, _: steps.append(n)
    )
    straight = fit_movie(film, responses, settings)
    assert steps[0] == 10
    assert np.array_equal(resumed.predict(film), straight.predict(film))
    assert np.array_equal(resumed.reconstruct(responses), straight.reconstruct(responses))


@pytest.mark.slow
def test_film_is_streamed_from_its_store(data, tmp_path):
    frames = data[0][:12].repeat(2, axis=1)  # chunks of 16
    np.save(tmp_path / 'film.npy', frames)
    (tmp_path / 'film.json').write_text('{"notes": []}')
    store = open_store(tmp_path / 'film.npy')
    settings = replace(
        SETTINGS,
        design=replace(DESIGN, chunk=16),
        training=replace(SETTINGS.training, n_epochs=1, n_workers=1),
    )
    networks = [
        fit_movie(chunks, data[1][:12], settings) for chunks in (FilmChunks([store]), frames)
    ]
    predicted = [network.predict(frames) for network in networks]
    assert np.array_equal(predicted[0], predicted[1])
