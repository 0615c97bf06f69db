"""The self-contained generator trains, goes on where it was stopped, and comes back from disk."""

from dataclasses import replace

import numpy as np
import pytest
from filelock import FileLock

from bids_neurodecode.config import Config, build_config
from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.extras import has_packaged
from bids_neurodecode.models.matching import MatchingSettings
from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.systems.reconstruction.generation import published as generation_published
from bids_neurodecode.systems.reconstruction.generation import small as generation_small
from bids_neurodecode.systems.reconstruction.generation.generators import (
    Described,
    TrainingPictures,
)
from bids_neurodecode.systems.reconstruction.generation.published import PublishedGenerator
from bids_neurodecode.systems.reconstruction.generation.small import (
    SAMPLING,
    FittedSmall,
    SmallGenerator,
    small_generator,
)

QUICK = SmallGenerator(
    size=16, prior_steps=4, refiner_steps=3, sampling=replace(SAMPLING, n_steps=4)
)


@pytest.fixture(autouse=True, scope='module')
def _short_epochs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation_small, '_BATCHES', 1)
        yield


def training(n=8, seed=0):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, size=(n, 24, 24, 3)).astype(np.uint8)
    components = rng.normal(size=(n, 5)).astype(np.float32)
    return TrainingPictures(pictures, components, n)


@pytest.fixture(scope='module')
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp('generator')
    steps = []
    done = QUICK.fit(
        training(), seed=1, checkpoint_dir=folder, progress=lambda k, n: steps.append((k, n))
    )
    return done, folder, steps


def test_both_stages_make_pictures(fitted):
    made, _, steps = fitted
    known = training()
    latents = made.encode(known.pictures)
    initial = made.decode(latents, [0] * 8)
    assert initial.shape == (8, 16, 16, 3)
    assert initial.dtype == np.uint8
    conditions = made.conditions(Described(known.pictures, known.components, [()] * 8))
    final = made.refine(initial, conditions, list(range(8)), made.sampling, 'both')
    assert final.shape == (8, 16, 16, 3)
    assert {row['network'] for row in made.curves()} == {'prior', 'refiner'}
    assert steps[-1] == (7, 7)
    assert [k for k, _ in steps] == sorted(k for k, _ in steps)


def test_the_network_that_another_process_trains_comes_last_and_is_the_same(
    fitted, tmp_path, monkeypatch
):
    made, folder, _ = fitted
    (name,) = (kept.name for kept in folder.glob('small-*'))
    (tmp_path / name).mkdir()
    other, steps = FileLock(tmp_path / name / 'prior.lock'), []
    other.acquire()
    train = SmallGenerator._train_refiner

    def then_the_other_ends(self, *given):
        trained = train(self, *given)
        other.release()
        return trained

    monkeypatch.setattr(SmallGenerator, '_train_refiner', then_the_other_ends)
    again = QUICK.fit(
        training(), seed=1, checkpoint_dir=tmp_path, progress=lambda k, n: steps.append((k, n))
    )
    ours, theirs = made.state(), again.state()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(theirs[key], value)
    assert steps[-1] == (7, 7)
    assert [k for k, _ in steps] == sorted(k for k, _ in steps)


@pytest.mark.slow
def test_a_picture_depends_on_its_own_seed_alone(fitted):
    made, _, _ = fitted
    start = training().pictures[:3, :16, :16]
    known = training(3, seed=4)
    conditions = made.conditions(Described(known.pictures, known.components, [()] * 3))
    all_three = made.refine(start, conditions, [5, 6, 7], made.sampling, 'both')
    last = {'features': conditions['features'][2:]}
    alone = made.refine(start[2:], last, [7], made.sampling, 'both')
    assert np.abs(all_three[2:].astype(int) - alone).max() <= 1
    # text counts for nothing here: the same as no condition
    a, b = (made.refine(start, conditions, [5, 6, 7], made.sampling, u) for u in ('none', 'text'))
    np.testing.assert_array_equal(a, b)
    other = {'features': conditions['features'] + 9}
    c = made.refine(start, other, [5, 6, 7], made.sampling, 'none')
    np.testing.assert_array_equal(a, c)


@pytest.mark.slow
def test_a_training_that_was_stopped_ends_alike(fitted, tmp_path):
    class Stop(Exception):
        pass

    def stop_at(step):
        def tell(done, total):
            if done >= step:
                raise Stop

        return tell

    often = replace(QUICK, prior_steps=4)
    for step in (5, 6):  # in the refiner, then once more
        with pytest.raises(Stop):
            often.fit(training(), seed=1, checkpoint_dir=tmp_path, progress=stop_at(step))
    assert list(tmp_path.glob('small-*/prior/step-*'))
    resumed = often.fit(training(), seed=1, checkpoint_dir=tmp_path).state()
    whole = fitted[0].state()
    assert resumed.keys() == whole.keys()
    assert all(np.array_equal(resumed[key], whole[key]) for key in whole)


@pytest.mark.slow
def test_what_is_kept_belongs_to_pictures_components_and_seed(fitted):
    _, folder, _ = fitted
    before = set(folder.iterdir())
    assert len(before) == 1
    QUICK.fit(training(), seed=1, checkpoint_dir=folder)
    replace(QUICK, n_latents=2, sampling=SamplingSettings()).fit(
        training(), seed=1, checkpoint_dir=folder
    )
    assert set(folder.iterdir()) == before
    QUICK.fit(training(seed=2), seed=1, checkpoint_dir=folder)
    assert len(set(folder.iterdir())) == 2


def test_it_comes_back_from_its_arrays(fitted):
    made, _, _ = fitted
    again = FittedSmall.from_state(made.state(), made.describe())
    latents = made.encode(training().pictures)
    np.testing.assert_array_equal(again.encode(training().pictures), latents)
    np.testing.assert_array_equal(again.decode(latents, []), made.decode(latents, []))
    assert again.sampling == made.sampling
    with pytest.raises(InputError, match='These are not the arrays of a small generator'):
        FittedSmall.from_state({}, made.describe())


@pytest.mark.slow
@pytest.mark.skipif(not has_packaged('mobilenetv2'), reason='cpu-nets is not installed')
def test_a_network_guides_too_and_is_named(fitted):
    plain = fitted[0]
    made = replace(QUICK, network='mobilenetv2').fit(training(), seed=1, checkpoint_dir=fitted[1])
    assert made.used == {'mobilenetv2'}
    assert plain.used == frozenset()
    again = FittedSmall.from_state(made.state(), made.describe())
    start, other = training().pictures[:2, :16, :16], training(2, seed=9).pictures
    wanted = again.conditions(Described(other, np.empty((2, 0)), [()] * 2))
    gabor, seen = wanted['features'], wanted['network']
    assert seen.shape == (2, 7)

    def missed(**told):
        moved = replace(again, matching=MatchingSettings(freedom=1.0, n_start=60, n_step=5))
        sampling = replace(made.sampling, **told)
        final = moved.refine(start, wanted, [1, 2], sampling, 'both')
        found = again.conditions(Described(final, np.empty((2, 0)), [()] * 2))
        return np.square(found['network'] - seen).mean()

    assert missed() < 0.8 * missed(match=False)
    # a network of which nothing is decoded does not pull
    trust = {'features': np.ones(gabor.shape[1]), 'network': np.zeros(7)}
    trusting = replace(made.sampling, weighted=True)
    target, mover = again._wanted(wanted, trust)
    np.testing.assert_allclose(target, np.concatenate([gabor, 0 * seen], axis=1))
    assert mover.uncertainty.tolist() == [0] * gabor.shape[1] + [1] * 7
    final = again.refine(start, wanted, [1, 2], trusting, 'both', trust=trust)
    assert final.shape == (2, 16, 16, 3)


@pytest.mark.slow
def test_pictures_are_moved_to_the_features_that_guide(fitted):
    """Of another image, so that only the condition can have brought them there."""
    made = replace(fitted[0], matching=MatchingSettings(freedom=1.0))
    start, other = training().pictures[:4, :16, :16], training(4, seed=9).pictures
    wanted = made.conditions(Described(other, np.empty((4, 0)), [()] * 4))

    def missed(use='both', **changes):
        sampling = replace(made.sampling, **changes)
        final = made.refine(start, wanted, [1, 2, 3, 4], sampling, use)
        found = made.conditions(Described(final, np.empty((4, 0)), [()] * 4))
        return np.square(found['features'] - wanted['features']).mean()

    plain = missed(match=False)
    assert missed() < 0.6 * plain
    assert missed('text') > 0.8 * plain


@pytest.mark.slow
@pytest.mark.parametrize('radius', [0.2, 0.35])
def test_matching_of_objects_on_plain_backgrounds(radius):
    """Where training images are all alike, energies vary by rounding alone: no large steps."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:32, :32] + 0.5) / 32 - 0.5
    inside = (np.hypot(x, y) < radius)[None, :, :, None]
    objects = rng.normal(size=(60, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2) * 40 + 120
    pictures = np.where(inside, objects, 255).clip(0, 255).astype(np.uint8)
    quick = replace(QUICK, size=32, prior_steps=1, refiner_steps=1, n_components=20)
    made = quick.fit(TrainingPictures(pictures[:50], np.empty((50, 0)), 50), seed=0)
    wanted = made.conditions(Described(pictures[50:], np.empty((10, 0)), [()] * 10))
    start = pictures[:10]

    def missed(pictures):
        found = made.conditions(Described(pictures, np.empty((10, 0)), [()] * 10))
        return np.square(found['features'] - wanted['features']).mean()

    for freedom, share in ((0.1, 0.7), (1.0, 0.6)):
        free = replace(made, matching=MatchingSettings(freedom=freedom))
        moved = free.refine(start, wanted, list(range(10)), made.sampling, 'both')
        assert missed(moved) < share * missed(start)


@pytest.mark.parametrize(
    ('n_images', 'asked', 'kept'),
    [(8, 100, 100), (19, None, None), (80, 100, 20), (80, None, 20), (80, 7, 7), (480, 100, 100)],
)
def test_a_quarter_as_many_components_guide_as_there_are_images(n_images, asked, kept):
    assert replace(QUICK, n_components=asked)._n_guides(n_images) == kept
    few = replace(QUICK, n_components=100)
    digests = {few._digest(np.empty((80, 1)), n, seed=0) for n in (8, 80)}
    assert len(digests) == 2


def test_settings_come_from_the_configuration():
    told = {'prior_size': 16, 'latents': 3, 'strength': 0.4, 'refiner_steps': 9, 'match': False}
    config = {'reconstruction': told, 'features': {'n_components': 7}}
    made = small_generator(Config.model_validate(config))
    assert made.n_components == 7
    assert (made.size, made.n_latents, made.refiner_steps) == (16, 3, 9)
    assert made.sampling == replace(SAMPLING, strength=0.4, match=False)
    assert made.picture_size == 64


def test_an_untrained_gaussian_network_is_the_wiener_filter():
    """Against the posterior mean of Gaussian images, solved as linear equations."""
    import torch

    from bids_neurodecode.models.refiner_network import RefinerConfig, RefinerNetwork

    network = RefinerNetwork(RefinerConfig(3, size=8, patch=2, widths=(8, 16), gaussian=True))
    for weights in (network.unet.conv_out.weight, network.unet.conv_out.bias):
        torch.nn.init.zeros_(weights)
    pictures = np.random.default_rng(0).integers(0, 256, size=(9, 8, 8, 3)).astype(np.uint8)
    network.learn_spectrum(pictures)
    basis = network.combine(torch.eye(192).view(192, 3, 8, 8)).reshape(192, 192).double()
    np.testing.assert_allclose(basis @ basis.T, np.eye(192), atol=1e-5)
    covariance = basis.T @ torch.diag(network.spectrum.double().flatten()) @ basis
    noisy = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    time = 400
    share = float(network.signal[time])
    total = share * covariance + (1 - share) * torch.eye(192, dtype=torch.float64)
    clean = share**0.5 * covariance @ torch.linalg.solve(total, noisy.reshape(2, 192).double().T)
    wanted = (share**0.5 * noisy.reshape(2, 192) - clean.T) / (1 - share) ** 0.5
    with torch.inference_mode():
        context = network.context(torch.zeros(2, 3))
        found = network(noisy, torch.full((2,), time), context)
    np.testing.assert_allclose(found.reshape(2, 192), wanted, atol=1e-3)


class Clip:
    """What the published generator asks of CLIP."""

    vision_shape, text_shape = (3, 4), (2, 4)

    def of_pictures(self, images, *, out=None):
        return np.ones((len(images), 3, 4), np.float32)

    def of_captions(self, captions, *, out=None):
        return np.ones((len(captions), 2, 4), np.float32)

    def unconditional(self):
        return {'text': np.zeros((2, 4), np.float32), 'vision': np.zeros((3, 4), np.float32)}


@pytest.mark.parametrize(
    ('use', 'wanted'),
    [('both', (1, 1)), ('vision', (0, 1)), ('text', (1, 0)), ('none', (0, 0))],
)
def test_published_conditions_that_are_not_used_are_those_of_nothing(use, wanted):
    given = {}

    class Diffusion:
        @property
        def settings(self):
            return self._settings

        @settings.setter
        def settings(self, value):
            self._settings = value

        def refine(self, start, conditions, seeds):
            given.update(conditions)
            given['sampling'] = self._settings.sampling
            return start

    from bids_neurodecode.models.diffusion import DiffusionSettings

    diffusion = Diffusion()
    diffusion.settings = DiffusionSettings()
    made = PublishedGenerator(None, Clip(), diffusion, use=use)
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    conditions = made.conditions(Described(pictures, np.zeros((2, 3)), [('a',), ('b', '')]))
    sampling = SamplingSettings(strength=0.5)
    made.refine(pictures, conditions, [1, 2], sampling, use)
    assert (given['text'].max(), given['vision'].max()) == wanted
    assert given['sampling'] == sampling
    assert diffusion.settings == DiffusionSettings()


def test_captions_that_are_missing_are_named():
    made = PublishedGenerator(None, Clip(), None, use='both')
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(DataError) as error:
        made.conditions(Described(pictures, np.zeros((2, 3)), [('a',), (' ',)]))
    assert str(error.value) == generation_published.NO_CAPTIONS.format(n=1, total=2)


@pytest.mark.parametrize('save', ['none', 'split', 'offload'])
def test_memory_and_precision_reach_the_published_networks(monkeypatch, save, tmp_path):
    from bids_neurodecode.models import vdvae_checkpoint

    given = []

    def second_stage(config, recipe, weights, sampling, memory):
        given.append(memory)
        return None, None

    monkeypatch.setattr(generation_published, '_second_stage', second_stage)
    monkeypatch.setattr(vdvae_checkpoint, 'load_vdvae', lambda *_, **__: None)
    told = {'precision': 'bfloat16', 'save_memory': save}
    generation_published.published_generator(
        build_config({'reconstruction': told}),
        name='published',
        weights={'vdvae-imagenet64': tmp_path / 'prior.safetensors'},
    )
    (memory,) = given
    assert memory.precision == 'bfloat16'
    split = (memory.attention_slicing, memory.split_guidance, memory.split_decoding)
    assert set(split) == {save != 'none'}
    assert memory.offload == ('sequential' if save == 'offload' else 'none')
