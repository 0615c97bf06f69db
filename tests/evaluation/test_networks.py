"""Metrics of networks under the two published protocols, with random networks."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation import networks
from bids_neurodecode.evaluation.images import pixcorr, ssim_2d, ssim_columnwise_legacy
from bids_neurodecode.evaluation.metrics import METRICS
from bids_neurodecode.evaluation.networks import (
    Remembering,
    correlations,
    network_pixels,
    network_scores,
    notes_on,
    pixel_scores,
)
from bids_neurodecode.evaluation.protocols import (
    CLIP,
    IMAGENET,
    LITE,
    PROTOCOLS,
    NetworkMetric,
    get_protocol,
    held_out,
)
from bids_neurodecode.systems.reconstruction.generation.scores import ReconstructionScorer

NAMES = {m.network for protocol in PROTOCOLS.values() for m in protocol.metrics}


class RandomNetwork:
    """A random projection of the pixels of each image; remembers what it was given."""

    def __init__(self, seed=0):
        self.rng, self.matrices, self.sizes = np.random.default_rng(seed), {}, []

    def __call__(self, pixels, layers):
        self.sizes.append(pixels.shape[-1])
        small = pixels[:, :, ::16, ::16].reshape(len(pixels), -1)
        out = {}
        for layer in layers:
            shape = (small.shape[1], 48)
            matrix = self.matrices.setdefault((layer, shape), self.rng.normal(size=shape))
            out[layer] = (small @ matrix).reshape(len(pixels), 3, 4, 4)
        return out


def pictures(n, size=48, seed=0):
    """Images with structure at all scales, so that resizing leaves them different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((size, size))) for x in coarse])


def all_scores(truth, found, name, nets):
    protocol = get_protocol(name)
    return [
        *pixel_scores(truth, found, protocol),
        *network_scores(truth, found, protocol, nets),
    ]


SMALL = dataclasses.replace(
    PROTOCOLS['bd-982'],
    name='small',
    n_pictures=7,
    pixel_size=16,
    metrics=(
        NetworkMetric('alexnet2_2way', 'alexnet', 'early', '2way', 8),
        NetworkMetric('swav_distance', 'swav', 'late', 'distance', 8, CLIP),
        NetworkMetric('alexnet5_2way', 'alexnet', 'late', '2way', 8),
        NetworkMetric('inception_2way', 'alexnet', 'early', '2way', 6),
    ),
)
"""A protocol of few pixels, whose scores can be computed by hand."""


def of_network(pixels, layers):
    """Features that differ by layer and by the size of what is given."""
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    known = {'early': pixels[:, :, ::2, 1::2], 'late': np.tanh(pixels[:, :2, 1:, :3])}
    return {layer: known[layer] for layer in layers}


def by_hand(images, metric):
    """What ``of_network`` sees of images in the small protocol, (n, d)."""
    size, (mean, std) = (metric.size, metric.size), metric.scaling
    how = Image.Resampling.BILINEAR
    sized = np.array([np.asarray(Image.fromarray(x).resize(size, how)) for x in images]) / 255
    pixels = np.moveaxis((sized - mean) / std, -1, 1).astype(np.float32)
    return of_network(np.ascontiguousarray(pixels), [metric.layer])[metric.layer].reshape(
        len(images), -1
    )


def test_scores_of_a_small_protocol_by_hand():
    """All pairs, their diagonal and chance, networks in batches, in the order of the networks."""
    truth = pictures(7, size=20)
    found = (0.1 * truth + 0.9 * pictures(7, size=20, seed=1)).astype(np.uint8)
    nets = dict.fromkeys(('alexnet', 'swav'), of_network)
    scores = list(network_scores(truth, found, SMALL, nets, batch_size=3))
    order = (0, 2, 1, 3)
    assert [x.metric for x in scores] == [SMALL.metrics[k].metric for k in order]
    for score, metric in zip(scores, [SMALL.metrics[k] for k in order], strict=True):
        a, b = by_hand(truth, metric), by_hand(found, metric)
        r = np.array([[pearsonr(x, y)[0] for x in a] for y in b])
        own = np.diagonal(r)
        others = ~np.eye(7, dtype=bool)
        if metric.kind == 'distance':
            np.testing.assert_allclose(score.table, 1 - r, atol=1e-6)
            assert score.chance == pytest.approx((1 - r)[others].mean(), abs=1e-6)
        else:
            expected = [(r[k][others[k]] < own[k]).mean() for k in range(7)]
            np.testing.assert_allclose(score.values, expected)
            assert score.chance == 0.5
        np.testing.assert_array_equal(score.values, np.diagonal(score.table))
        assert score.value == score.values.mean()
        assert np.ptp(score.values) > 0
    (alone,) = network_scores(truth, found, SMALL, {'swav': of_network})
    assert alone.metric == 'swav_distance'
    np.testing.assert_allclose(alone.table, scores[2].table)


@pytest.mark.parametrize(('exact', 'first'), [(False, None), (True, None), (True, 12)])
def test_sizes_of_a_small_protocol_by_hand(exact, first):
    """First to one size, bilinear, then to that of the metric; 8 bits or floating point."""
    import torch

    def resized(images, size, how):
        if exact:
            tensor = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
            options = {'mode': how, 'antialias': True, 'align_corners': False}
            found = torch.nn.functional.interpolate(tensor, (size, size), **options)
            return np.moveaxis(found.clamp(0, 1).numpy(), 1, -1)
        how = Image.Resampling[how.upper()]
        whole = (images * 255).round().astype(np.uint8)
        sized = [np.asarray(Image.fromarray(x).resize((size, size), how)) for x in whole]
        return np.array(sized, np.float32) / 255

    protocol = dataclasses.replace(SMALL, exact=exact, first_size=first)
    truth, found = pictures(5, size=20), pictures(5, size=20, seed=1)
    once = [x.astype(np.float32) / 255 for x in (truth, found)]
    if first:
        once = [resized(x, first, 'bilinear') for x in once]
    mean, std = IMAGENET
    pixels = network_pixels(truth, SMALL.metrics[0], protocol)
    assert pixels.flags.c_contiguous
    expected = (resized(once[0], 8, 'bilinear') - mean) / std
    np.testing.assert_allclose(np.moveaxis(pixels, 1, -1), expected, atol=1e-5)
    a, b = (resized(x, 16, 'bicubic') for x in once)
    scores = pixel_scores(truth, found, protocol)
    assert [x.metric for x in scores] == ['pixcorr', 'ssim_columnwise_legacy', 'ssim_2d']
    assert [x.chance for x in scores] == [0, None, None]
    for score, function in zip(scores, (pixcorr, ssim_columnwise_legacy, ssim_2d), strict=True):
        np.testing.assert_allclose(score.values, function(a, b), atol=1e-5)
        assert score.table is None


def test_notes_on_a_small_protocol():
    protocol = dataclasses.replace(SMALL, lacking=('Something is lacking.',))
    missing = [
        'No weights of alexnet: alexnet2_2way, alexnet5_2way are not computed.',
        'No weights of alexnet: inception_2way are not computed.',
    ]
    own = {'name': 'small', 'expected': 7, 'n': 5}
    stands_in = networks.STANDS_IN.format(name=networks.STAND_IN)
    notes = notes_on(protocol, {'swav'}, 5, stand_in=True)
    lacking = ['Something is lacking.']
    assert [*notes] == [*missing, stands_in, *lacking, networks.OTHER_COUNT.format(**own)]
    assert [*notes_on(protocol, {'swav'}, 7, stand_in=False)] == [*missing, *lacking]
    everyone = {'swav', 'alexnet'}
    assert [*notes_on(protocol, everyone, 7, stand_in=True)] == lacking
    unbound = dataclasses.replace(protocol, n_pictures=None)
    assert [*notes_on(unbound, everyone, 5, stand_in=True)] == lacking


@pytest.mark.slow
@pytest.mark.parametrize('name', PROTOCOLS)
def test_identity_is_perfect_and_random_is_chance(name):
    truth, other = pictures(12), pictures(12, seed=1)
    nets = {network: RandomNetwork() for network in NAMES}
    perfect = all_scores(truth, truth, name, nets)
    for score in perfect:
        expected = 0 if score.metric.endswith('distance') else 1
        np.testing.assert_allclose(score.values, expected, atol=1e-6, err_msg=score.metric)
        assert score.metric in METRICS
        assert score.values.shape == (12,)
    for score in all_scores(truth, other, name, nets):
        if score.metric.endswith('2way'):
            assert score.chance == 0.5
            assert abs(score.value - 0.5) < 0.25
        elif score.metric.endswith('distance'):
            assert abs(score.value - 1) < 0.3
    metrics = {s.metric for s in perfect}
    notes = notes_on(get_protocol(name), nets, 12, stand_in=False)
    if name == 'seed':
        assert metrics == {'pixcorr', 'efficientnet_distance'}
        assert any('MM-Grounding-DINO' in note for note in notes)
        return
    assert metrics >= {'pixcorr', 'ssim_2d', *(m.metric for m in PROTOCOLS[name].metrics)}
    assert ('ssim_columnwise_legacy' in metrics) == (name == 'bd-982')
    # what this program defines has no table of its own
    published = any(f'Protocol {name} is defined on' in note for note in notes)
    assert published == (name != 'cpu-1')


def feature_scores(truth, found, kind):
    """Each image against its own: the diagonal of all pairs."""
    return np.diagonal(networks._all_pairs(truth, found, kind))


def test_chance_over_many_pictures():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 400, 30))
    assert feature_scores(a, b, '2way').mean() == pytest.approx(0.5, abs=0.05)
    assert feature_scores(a, b, 'distance').mean() == pytest.approx(1, abs=0.05)


def test_2way_by_hand():
    """For prediction j: the share of other truths i with r(i, j) < r(j, j)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(9, 50)) + 3
    found = truth + 5 * rng.normal(size=truth.shape)
    expected = [
        np.mean(
            [
                pearsonr(truth[i], found[j])[0] < pearsonr(truth[j], found[j])[0]
                for i in range(9)
                if i != j
            ]
        )
        for j in range(9)
    ]
    np.testing.assert_allclose(feature_scores(truth, found, '2way'), expected)
    assert 0.5 < np.mean(expected) < 1
    distances = [1 - pearsonr(truth[j], found[j])[0] for j in range(9)]
    np.testing.assert_allclose(feature_scores(truth, found, 'distance'), distances)


def test_correlations_in_blocks_of_columns():
    rng = np.random.default_rng(1)
    a = rng.normal(5, 1, size=(4, 40_000)).astype(np.float32)
    b = rng.normal(-2, 3, size=(3, 40_000)).astype(np.float32)
    a[2] = 0.1  # a constant row correlates with nothing
    found = correlations(a, b)
    expected = np.corrcoef(np.delete(a, 2, 0).astype(float), b.astype(float))[:3, 3:]
    np.testing.assert_allclose(np.delete(found, 2, 0), expected, atol=1e-10)
    np.testing.assert_array_equal(found[2], 0)
    # what is constant does not depend on the unit
    small = correlations(1e-6 * a.astype(float), 1e5 * b.astype(float))
    np.testing.assert_allclose(small, found, atol=1e-7)


@pytest.mark.parametrize('value', [0, -0.1, 1e4 + 0.1, -1e-6])
def test_a_constant_row_correlates_with_nothing(value):
    """A layer that does not respond at all among them."""
    a = np.random.default_rng(0).normal(size=(3, 20_000))
    a[1] = value
    for found in (correlations(a, a), correlations(a, a).T):
        np.testing.assert_array_equal(found[1], 0)
        np.testing.assert_allclose(found[[0, 2], [0, 2]], 1)


def test_preprocessing_of_one_colour():
    """What every pixel of a uniform image becomes."""
    grey = np.full((1, 60, 90, 3), 128, dtype=np.uint8)
    expected = {
        IMAGENET: [0.0740655, 0.2052405, 0.4264984],
        CLIP: [0.0763352, 0.1688966, 0.3399482],
        LITE: [1 / 128] * 3,
    }
    for protocol in PROTOCOLS.values():
        for metric in protocol.metrics:
            pixels = network_pixels(grey, metric, protocol)
            assert pixels.shape == (1, 3, metric.size, metric.size)
            means = pixels.mean(axis=(0, 2, 3))
            np.testing.assert_allclose(means, expected[metric.scaling], atol=2e-4)


def test_sizes_of_the_protocols():
    sizes = {
        name: {m.metric: m.size for m in protocol.metrics} for name, protocol in PROTOCOLS.items()
    }
    assert set(sizes['bd-982'].values()) == {224}
    assert sizes['me2-1000'] == {
        'alexnet2_2way': 256, 'alexnet5_2way': 256, 'inception_2way': 342, 'clip_2way': 224,
        'efficientnet_distance': 255, 'swav_distance': 224,
    }  # fmt: skip
    assert {m.network for m in PROTOCOLS['bd-982'].metrics} >= {'efficientnet-b1-v1'}
    assert {m.network for m in PROTOCOLS['me2-1000'].metrics} >= {'efficientnet-b1-v2'}
    for name, efficientnet in (
        ('bd-982', 'efficientnet-b1-v1'),
        ('me2-1000', 'efficientnet-b1-v2'),
    ):
        metrics = PROTOCOLS[name].metrics
        assert [(m.metric, m.network, m.layer, m.kind) for m in metrics] == [
            # the outputs of the second and the fifth convolution after their rectification
            ('alexnet2_2way', 'alexnet', 'features.4', '2way'),
            ('alexnet5_2way', 'alexnet', 'features.11', '2way'),
            ('inception_2way', 'inception-v3', 'avgpool', '2way'),
            ('clip_2way', 'clip-vit-l14', 'image_embeds', '2way'),
            ('efficientnet_distance', efficientnet, 'avgpool', 'distance'),
            ('swav_distance', 'swav-resnet50', 'avgpool', 'distance'),
        ]
        assert [m.metric for m in metrics if m.scaling == CLIP] == ['clip_2way']
        assert all(m.scaling == IMAGENET for m in metrics if m.network != 'clip-vit-l14')
    with pytest.raises(ArgumentsError, match='There are: bd-982, me2-1000'):
        get_protocol('nsd')


def test_interpolation():
    """8 bits and no first size for the one; through 256 in floating point for the other."""
    images = pictures(2, size=300)
    metric = PROTOCOLS['bd-982'].metrics[0]
    mean, std = (np.array(x)[:, None, None] for x in IMAGENET)
    colours = network_pixels(images, metric, PROTOCOLS['bd-982']) * std + mean
    by_pillow = [
        np.asarray(Image.fromarray(x).resize((224, 224), Image.Resampling.BILINEAR))
        for x in images
    ]
    np.testing.assert_allclose(colours.transpose(0, 2, 3, 1) * 255, by_pillow, atol=1e-3)
    metric = PROTOCOLS['me2-1000'].metrics[0]
    colours = network_pixels(images, metric, PROTOCOLS['me2-1000']) * std + mean
    by_pillow = [
        np.asarray(Image.fromarray(x).resize((256, 256), Image.Resampling.BILINEAR)).astype(float)
        for x in images
    ]
    difference = np.abs(colours.transpose(0, 2, 3, 1) * 255 - by_pillow)
    assert difference.max() < 1.5
    assert difference.max() > 0.1  # not rounded to 8 bits


def test_pixel_scores_are_at_425():
    truth, found = pictures(3, size=425), pictures(3, size=425, seed=1)
    scores = {s.metric: s.values for s in pixel_scores(truth, found, PROTOCOLS['bd-982'])}
    np.testing.assert_allclose(scores['pixcorr'], pixcorr(truth, found), atol=1e-6)
    np.testing.assert_allclose(scores['ssim_2d'], ssim_2d(truth, found), atol=1e-5)
    other = {s.metric: s.values for s in pixel_scores(truth, found, PROTOCOLS['me2-1000'])}
    assert np.abs(other['ssim_2d'] - scores['ssim_2d']).max() > 1e-5


def test_missing_networks_are_told_and_never_named():
    truth = pictures(4)
    protocol = get_protocol('bd-982')
    alone = {s.metric for s in all_scores(truth, truth, 'bd-982', {})}
    assert alone == {'pixcorr', 'ssim_2d', 'ssim_columnwise_legacy'}
    notes = notes_on(protocol, {}, 4, stand_in=False)
    assert any('No weights of alexnet: alexnet2_2way, alexnet5_2way' in note for note in notes)
    nets = {'alexnet': RandomNetwork()}
    names = {s.metric for s in all_scores(truth, truth, 'bd-982', nets)}
    assert 'alexnet2_2way' in names
    assert not {'clip_2way', 'inception_2way', 'swav_distance'} & names
    assert any('stands in' in note for note in notes_on(protocol, nets, 4, stand_in=True))
    complete = notes_on(protocol, dict.fromkeys(NAMES, RandomNetwork()), 4, stand_in=True)
    assert not any('stands in' in note for note in complete)


@pytest.mark.parametrize('name', PROTOCOLS)
def test_a_stand_in_sees_what_networks_see(name):
    """Images of 224 pixels, bilinear, of 8 bits, each once."""
    truth = pictures(5, size=300)
    seen = []

    def stand_in(images):
        seen.append(images)
        return images[:, ::16, ::16].reshape(len(images), -1).astype(np.float32)

    rng, own = np.random.default_rng(0), EvaluationSettings()
    scorer = ReconstructionScorer(None, own, stand_in, {}, rng, get_protocol(name))
    described = scorer.described(truth)
    again = scorer.described(truth[::-1])
    np.testing.assert_array_equal(again, described[::-1])
    (given,) = seen
    np.testing.assert_array_equal(described, given[:, ::16, ::16].reshape(5, -1))
    mine = [Image.fromarray(x) for x in truth]
    if name == 'me2-1000':
        mine = [x.resize((256, 256), Image.Resampling.BILINEAR) for x in mine]
    expected = [np.asarray(x.resize((224, 224), Image.Resampling.BILINEAR)) for x in mine]
    assert given.dtype == np.uint8
    difference = np.abs(given.astype(int) - expected)
    assert difference.max() <= (0 if name == 'bd-982' else 2)


def test_what_interpolation_overshoots_is_cut():
    """Cubic weights are below 0 beside an edge."""
    edges = np.zeros((2, 300, 300, 3), np.uint8)
    edges[0, :, 100:200] = edges[1, 100:200] = 255
    protocol = dataclasses.replace(get_protocol('me2-1000'), pixel_method='bicubic')
    for score in pixel_scores(edges, edges, protocol):
        np.testing.assert_allclose(score.values, 1)
    pixels = network_pixels(edges, protocol.metrics[0], protocol)
    assert pixels.dtype == np.float32


def test_networks_are_passed_once_in_batches():
    truth, network = pictures(5), RandomNetwork()
    list(
        network_scores(truth, truth, get_protocol('me2-1000'), {'alexnet': network}, batch_size=2)
    )
    assert network.sizes == [256] * 6  # both layers at once, truth and reconstruction


def test_errors():
    truth = pictures(4, size=20)
    fine = [len(x.values) for x in pixel_scores(truth[:2], truth[2:], SMALL)]
    assert fine == [2, 2, 2]
    for other in (truth[:3], truth / np.float32(255), truth[..., :1], truth[0], truth[0, ..., 0]):
        for pair in ((truth, other), (other, truth)):
            with pytest.raises(DataError, match='must be uint8 images'):
                pixel_scores(*pair, SMALL)
    with pytest.raises(DataError, match='at least two'):
        pixel_scores(truth[:1], truth[:1], SMALL)
    one = dataclasses.replace(SMALL, metrics=SMALL.metrics[1:2])
    with pytest.raises(DataError, match="network 'swav' gave features"):
        list(network_scores(truth, truth, one, {'swav': lambda pixels, _: {'late': pixels[:1]}}))
    broken = {'alexnet': lambda pixels, layers: dict.fromkeys(layers, pixels[:1])}
    with pytest.raises(DataError, match="network 'alexnet' gave features"):
        list(network_scores(truth, truth, get_protocol('bd-982'), broken))


def test_equal_images_are_described_once():
    protocol, network = get_protocol('cpu-1'), RandomNetwork()
    truth, others = pictures(4), pictures(4, seed=1)
    remembering = Remembering(network)
    for made in (others, truth, others[::-1]):
        plain = list(network_scores(truth, made, protocol, {'mobilenetv2': network}))
        n_before = len(network.sizes)
        again = list(network_scores(truth, made, protocol, {'mobilenetv2': remembering}))
        for one, other in zip(plain, again, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
        # truth and others when they are first seen, and never again
        assert len(network.sizes) - n_before == (2 if made is others else 0)


def test_what_is_remembered_is_of_layers_and_shapes():
    """Equal bytes of another shape, and other layers of known pixels, are described anew."""
    remembering = Remembering(of_network)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    for layers in (['early'], ['late'], ['early', 'late']):
        for given in (pixels, pixels.reshape(2, 3, 4, 16), pixels[::-1].copy()):
            found, plain = remembering(given, layers), of_network(given, layers)
            assert [*found] == layers
            for layer in layers:
                np.testing.assert_array_equal(found[layer], plain[layer])


def test_a_network_that_had_a_part_in_images_judges_none_of_them():
    protocol = get_protocol('cpu-1')
    networks = {name: RandomNetwork() for name in NAMES}
    truth = pictures(6)
    kept = held_out(protocol, {'efficientnet-lite0', 'gabor'})
    found = [*pixel_scores(truth, truth, kept), *network_scores(truth, truth, kept, networks)]
    scores = {s.metric for s in found}
    assert {'efficientnet_lite2_2way', 'mobilenetv2_distance', 'pixcorr', 'ssim_2d'} <= scores
    assert not any('lite0' in metric for metric in scores)
    assert not networks['efficientnet-lite0'].sizes
    with pytest.raises(ArgumentsError, match=r'cpu-1 has no network left .*: .*mobilenetv2 made'):
        held_out(protocol, {'efficientnet-lite0', 'efficientnet-lite2', 'mobilenetv2'})
