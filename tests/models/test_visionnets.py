"""Networks of metrics: the published names and shapes, and the maps they give.

The digests are those of torchvision 0.28 (names and shapes of the parts that metrics use), where
all four gave the same features as torchvision's own for the same random weights.
"""

import hashlib

import numpy as np
import pytest
import torch

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.visionnets import (
    AlexNet,
    ClipEmbedding,
    EfficientNetB1,
    InceptionV3,
    MetricNetwork,
    ResNet50,
    metric_network,
)

PUBLISHED = {
    'alexnet': (AlexNet, 10, 2_469_696, 'b1e207d270dfe02f'),
    'inception-v3': (InceptionV3, 564, 21_820_094, '5c5cb906421dd921'),
    'efficientnet-b1-v1': (EfficientNetB1, 506, 6_575_301, 'f1dd3c4f92eef135'),
    'swav-resnet50': (ResNet50, 318, 23_561_205, 'c1f7fd3808aa49e7'),
}
REST = {  # of the published files, which metrics do not use
    'alexnet': {'classifier.1.weight': (4096, 9216)},
    'inception-v3': {'AuxLogits.fc.bias': (1000,), 'fc.bias': (1000,)},
    'efficientnet-b1-v1': {'classifier.1.bias': (1000,)},
    'swav-resnet50': {'prototypes.weight': (3000, 128), 'projection_head.0.bias': (2048,)},
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_names_and_shapes(name):
    kind, n_tensors, n_values, digest = PUBLISHED[name]
    with torch.device('meta'):
        state = kind().state_dict()
    lines = [f'{key} {tuple(value.shape)}' for key, value in sorted(state.items())]
    assert len(lines) == n_tensors
    assert sum(value.numel() for value in state.values()) == n_values
    assert hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16] == digest


def random_weights(name, seed=0):
    torch.manual_seed(seed)
    state = PUBLISHED[name][0]().state_dict()
    rest = {key: torch.zeros(shape) for key, shape in REST[name].items()}
    return {f'module.{key}': value for key, value in (state | rest).items()}


@pytest.mark.parametrize(
    ('name', 'layers'),
    [
        ('alexnet', {'features.4': (192, 27, 27), 'features.11': (256, 13, 13)}),
        ('inception-v3', {'avgpool': (2048,)}),
        ('efficientnet-b1-v1', {'avgpool': (1280,)}),
        ('swav-resnet50', {'avgpool': (2048,)}),
    ],
)
def test_layers(name, layers):
    size = 224 if name == 'alexnet' else 96
    pixels = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    with torch.random.fork_rng():
        network = metric_network(name, random_weights(name))
    maps = network(pixels, list(layers))
    assert {layer: values.shape[1:] for layer, values in maps.items()} == layers
    for layer, values in maps.items():
        assert np.isfinite(values).all()
        # a network in training mode would mix the images of a batch
        alone = network(pixels[1:], [layer])[layer]
        np.testing.assert_allclose(alone[0], values[1], rtol=1e-3, atol=1e-4 * values.std())
    if name == 'alexnet':  # after the rectification, not before
        assert maps['features.4'].min() == 0
        assert (maps['features.4'] == 0).mean() > 0.1


def test_inception_sees_colours_from_minus_one_to_one():
    with torch.random.fork_rng():
        network = InceptionV3().eval()
    seen = []
    network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    colours = torch.rand(1, 3, 80, 80)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    scaled = (colours - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        network(scaled)
    torch.testing.assert_close(seen[0], colours * 2 - 1, atol=1e-5, rtol=0)


def test_clip_embedding():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                image_size=16, patch_size=8, projection_dim=6,
            )
        ).eval()  # fmt: skip
    pixels = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = vision(torch.from_numpy(pixels)).image_embeds.numpy()
    found = MetricNetwork(ClipEmbedding(vision))(pixels, ['image_embeds'])
    np.testing.assert_allclose(found['image_embeds'], expected, rtol=1e-5, atol=1e-6)


def test_errors():
    weights = random_weights('alexnet')
    with pytest.raises(ArgumentsError, match='No network of metrics is called'):
        metric_network('vgg', weights)
    with pytest.raises(DataError, match='not the weights of swav-resnet50'):
        metric_network('swav-resnet50', weights)
    with pytest.raises(ArgumentsError, match=r"no layer 'avgpool'; it has: features\.0"):
        metric_network('alexnet', weights)(np.zeros((1, 3, 64, 64), np.float32), ['avgpool'])
