"""Captions of the nearest training image say what was seen, and nothing where they say nothing."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from bids_neurodecode.systems.reconstruction.generation import caption_scores
from tests.systems.reconstruction.test_brain_correlation import reconstruct
from tests.systems.reconstruction.test_generation import make_cheap, world


@pytest.fixture(autouse=True, scope='module')
def _cheap_scores():
    with pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        yield


class Coarse:
    """A network that sees colours of four places."""

    def __call__(self, pixels, layers):
        n, channels, side, _ = pixels.shape
        small = pixels.reshape(n, channels, 2, side // 2, 2, side // 2).mean(axis=(3, 5))
        return {layer: small.reshape(n, -1) for layer in layers}


def embed(texts):
    return np.array([[float(x) for x in text.split()] for text in texts], dtype=np.float32)


def caption(values):
    return ' '.join(f'{x:.3f}' for x in values)


def rows(result):
    return {
        (s.model, s.metric): s
        for s in result.scores
        if s.metric in {caption_scores.SIMILARITY, caption_scores.TWO_WAY}
    }


@pytest.fixture(scope='module')
def seen():
    return world(n_stimuli=60, noise=0.3)


def captions_of(pictures, *, shuffled=False):
    """Two captions of each image, which say its colours in four places."""
    colours = pictures.values[:, ::8, ::8].reshape(len(pictures.values), -1) / 128.0 - 1
    if shuffled:
        colours = np.random.default_rng(0).permutation(colours)
    return {
        name: (caption(values), caption(2 * values))
        for name, values in zip(pictures.stimuli, colours, strict=True)
    }


def score(samples, pictures, captions, embed=embed, **told):
    more = {'embed': embed, 'captions': captions, 'networks': {'mobilenetv2': Coarse()}}
    told = {'protocol': 'cpu-1', 'brain_correlation': False, **told}
    return reconstruct(samples, pictures, more=more, **told)


@pytest.mark.slow
def test_captions_of_what_is_like_the_truth_are_like_its_captions(seen):
    asked = []

    def counted(texts):
        asked.extend(texts)
        return embed(texts)

    found = rows(score(*seen, captions_of(seen[1]), counted))
    assert len(asked) == len(set(asked)) > 0  # however many models are compared
    own = found['ridge', caption_scores.TWO_WAY]
    assert own.space == 'final'
    assert own.protocol.endswith('/cpu-1')
    assert own.value > 0.7
    assert own.p == pytest.approx(1 / 50)
    assert own.chance == 0.5
    alike = found['ridge', caption_scores.SIMILARITY]
    assert alike.value > alike.chance + 0.2
    assert alike.image_size is None
    # the mean image has one caption whatever was seen
    assert found['baseline-mean-image', caption_scores.TWO_WAY].value == pytest.approx(0.5)


@pytest.mark.slow
def test_captions_that_say_nothing_are_at_chance_and_other_protocols_have_none(seen):
    result = score(*seen, captions_of(seen[1], shuffled=True))
    own = rows(result)['ridge', caption_scores.TWO_WAY]
    assert abs(own.value - 0.5) < 0.2
    assert own.p > 0.02
    assert caption_scores.STANDS_IN.format(network='mobilenetv2') in result.notes


@pytest.mark.slow
def test_without_captions_of_all_images_there_is_no_score(seen):
    captions = captions_of(seen[1])
    del captions['s07.png']
    result = score(*seen, captions)
    assert rows(result) == {}
    assert caption_scores.NO_CAPTIONS.format(n=1, total=60, first='s07.png') in result.notes
    assert rows(score(*seen, captions_of(seen[1]), protocol='bd-982')) == {}


def test_an_image_is_the_mean_direction_of_its_captions():
    captions = {'a': ('1 0', '0 5'), 'b': ('3 0',), 'c': ('0 0',)}
    found = caption_scores.Captions(embed, captions, None)._embedded(['a', 'b', 'c'])
    assert found[0] @ found[1] == pytest.approx(1 - cosine([1, 1], [1, 0]))
    np.testing.assert_array_equal(found[2], 0)
