"""Losses against independent implementations, and what each must and must not do."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models import losses
from bids_neurodecode.models.losses import LossWeights, MovieObjective
from bids_neurodecode.models.movie import MovieDecoder, MovieDesign, MovieEncoder
from bids_neurodecode.models.perceptual import (
    GaborMaps,
    VGG16Maps,
    perceptual_distance,
    picture_maps,
    stretch,
)
from bids_neurodecode.stimuli.gabor import GaborPyramid

TINY = MovieDesign(
    n_voxels=9, chunk=4, frame_size=16, spatial=2, temporal=3, slices=3, merged=3, decoder=3
)


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Several threads, on cores that others use too, wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(n=3, size=32, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(n, 3, size, size)), -1), -2)
    smooth -= smooth.min()
    return torch.from_numpy((smooth / smooth.max()).astype(np.float32))


@pytest.mark.parametrize('noise', [0.0, 0.05, 0.5])
def test_ssim_is_that_of_scikit_image(noise):
    a = pictures()
    b = (a + noise * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    expected = [
        structural_similarity(
            x.numpy(), y.numpy(), data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, channel_axis=0,
        )
        for x, y in zip(a, b, strict=True)
    ]  # fmt: skip
    assert losses.ssim(a, b).numpy() == pytest.approx(expected, abs=2e-5)


def test_ssim_has_the_right_gradient():
    a = pictures(1, 12)[:, :1].double().requires_grad_()
    b = pictures(1, 12, seed=4)[:, :1].double()
    assert torch.autograd.gradcheck(lambda x: losses.ssim(x, b), a)


def test_ssim_is_kept_out_of_mixed_precision():
    a, b = pictures(), pictures(seed=2)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = losses.ssim(a, b)
    assert torch.equal(mixed, losses.ssim(a, b))


def test_ssim_refuses_other_shapes():
    with pytest.raises(DataError, match='at least 11 pixels'):
        losses.ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_total_variation():
    ramp = torch.arange(4.0).repeat(1, 3, 4, 1)
    assert losses.total_variation(ramp).item() == pytest.approx(3 * 12 / (3 * 16))
    assert losses.total_variation(torch.ones(2, 3, 5, 5)) == 0
    assert losses.total_variation(ramp.mT) == losses.total_variation(ramp)


def test_response_loss_and_the_published_quirk():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(6, 10)) for _ in range(2))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    truth = {'mse': ((a - b) ** 2).mean(), 'cosine': 1 - cosine.mean()}
    tensors = torch.from_numpy(a), torch.from_numpy(b)
    plain = losses.response_loss(*tensors, LossWeights())
    paper = losses.response_loss(*tensors, LossWeights(paper_mse=True))
    assert plain['E'].item() == pytest.approx(truth['mse'] + 0.5 * truth['cosine'], rel=1e-5)
    assert paper['E'].item() == pytest.approx(truth['mse'] / 10 + 0.5 * truth['cosine'], rel=1e-5)
    assert paper['voxel_mse'].item() == pytest.approx(truth['mse'], rel=1e-5)
    scaled = losses.response_loss(3 * tensors[0], tensors[1], LossWeights())
    assert scaled['voxel_cosine'].item() == pytest.approx(truth['cosine'], rel=1e-5)


def test_gabor_maps_are_those_of_the_feature_bank():
    images = pictures(2, 40)
    grey = torch.einsum('nchw,c->nhw', images, torch.tensor((0.2126, 0.7152, 0.0722)))
    for frequency in (2.0, 8.0):
        found = GaborMaps().energy(grey, frequency)
        expected = GaborPyramid().energy(grey.numpy(), frequency)
        assert found.numpy() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize('other', ['noise', 'turned', 'hue'])
def test_gabor_distance_sees_differences(other):
    a = pictures(2, 64)
    b = {
        'noise': torch.rand(a.shape, generator=torch.Generator().manual_seed(0)),
        'turned': a.mT,
        'hue': a.flip(1),
    }[other]
    same = perceptual_distance(GaborMaps(), a, a.clone())
    assert same.item() == pytest.approx(0, abs=1e-5)
    assert perceptual_distance(GaborMaps(), b, a) > 0.003


def test_uniform_pictures_are_alike_and_have_gradients():
    a = torch.full((1, 3, 32, 32), 0.3, requires_grad=True)
    distance = perceptual_distance(GaborMaps(), a, torch.full((1, 3, 32, 32), 0.3))
    assert distance.item() == pytest.approx(0, abs=1e-5)
    distance.backward()
    assert torch.isfinite(a.grad).all()


def vgg_weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights, n_in = {}, 3
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    for number, n_out in zip(
        numbers, (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6, strict=True
    ):
        scale = (2 / (9 * n_in)) ** 0.5
        weights[f'features.{number}.weight'] = scale * torch.randn(
            n_out, n_in, 3, 3, generator=generator
        )
        weights[f'features.{number}.bias'] = torch.zeros(n_out)
        n_in = n_out
    return weights


@pytest.mark.slow
def test_vgg16_maps_are_those_of_the_published_cuts():
    weights = vgg_weights()
    layers, number = [], 0
    for width in (64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512,
                  512, 'M'):  # fmt: skip
        if width == 'M':
            layers.append(torch.nn.MaxPool2d(2, 2))
        else:
            weight = weights[f'features.{number}.weight']
            conv = torch.nn.Conv2d(weight.shape[1], width, 3, padding=1)
            conv.weight.data, conv.bias.data = weight, weights[f'features.{number}.bias']
            layers += [conv, torch.nn.ReLU()]
        number = len(layers)
    sequence = torch.nn.Sequential(*layers)
    images = pictures(1)
    x = torch.nn.functional.interpolate(images, (224, 224), mode='bilinear')
    x = (x - x.min()) / (x.max() - x.min())
    with torch.no_grad():
        maps = VGG16Maps(weights)(images)
        for cut, found in zip((5, 10, 17, 24, 31), maps, strict=True):
            assert torch.allclose(sequence[:cut](x), found, atol=1e-4)
    assert VGG16Maps(weights).state_dict() == {}
    assert [m.shape[-1] for m in maps] == [112, 56, 28, 14, 7]


def test_features_are_chosen_by_name_and_never_replaced():
    assert picture_maps('none') is None
    assert picture_maps('gabor').name == 'gabor'
    with pytest.raises(ArgumentsError, match='needs the ImageNet weights'):
        picture_maps('vgg16')
    with pytest.raises(ArgumentsError, match='No perceptual features are called'):
        picture_maps('alexnet')
    weights = vgg_weights()
    del weights['features.28.bias']
    with pytest.raises(ArgumentsError, match=r'features\.28\.bias is missing'):
        picture_maps('vgg16', weights)
    weights['features.28.bias'] = torch.zeros(3)
    with pytest.raises(ArgumentsError, match=r'has shape \(3,\), not \(512,\)'):
        picture_maps('vgg16', weights)


def test_picture_loss_is_its_parts():
    a, b = pictures(), pictures(seed=3)
    terms = losses.picture_loss(a, b, LossWeights(), GaborMaps())
    total = 0.35 * terms['perceptual'] + 0.35 * (1 - terms['ssim']) + 0.30 * terms['tv']
    assert terms['D'].item() == pytest.approx(total.item(), rel=1e-6)
    with pytest.raises(ArgumentsError, match='no features to compare'):
        losses.picture_loss(a, b, LossWeights(), None)
    without = losses.picture_loss(a, b, LossWeights(perceptual=0), GaborMaps())
    assert 'perceptual' not in without


def objective(weights, *, encoder=True, decoder=True):
    torch.manual_seed(0)
    return MovieObjective(
        MovieEncoder(TINY) if encoder else None,
        MovieDecoder(TINY) if decoder else None,
        weights,
        GaborMaps((2, 4)),
    )


def batch():
    generator = torch.Generator().manual_seed(5)
    return (
        torch.rand(4, *TINY.chunk_shape, generator=generator),
        torch.randn(4, 9, generator=generator),
    )


def test_the_decoders_loss_alone_reaches_the_encoder():
    model = objective(LossWeights(responses=0))
    terms = model(*batch())
    assert terms['loss'].item() == terms['D'].item()
    terms['loss'].backward()
    # a bias before batch normalisation changes nothing; every other tensor must feel the loss
    felt = {name: p.grad.abs().max().item() for name, p in model.encoder.named_parameters()}
    assert min(felt[f'{part}.weight'] for part in ('space', 'time', 'slices.0', 'merge.0')) > 0
    assert felt['readout.2.weight'] > 0
    assert felt['readout.2.bias'] > 0


def test_joint_loss_mixes_and_parts_stand_alone():
    both = objective(LossWeights(responses=0.75))(*batch())
    mixed = 0.75 * both['E'] + 0.25 * both['D']
    assert both['loss'].item() == pytest.approx(mixed.item(), rel=1e-6)
    alone = objective(LossWeights(), decoder=False)(*batch())
    assert set(alone) == {'loss', 'voxel_mse', 'voxel_cosine', 'E'}
    decoder = objective(LossWeights(), encoder=False)
    chunks, responses = batch()
    whole = decoder(chunks, responses)
    frames = decoder(losses.target_frame(chunks), responses)
    assert whole['loss'] == frames['loss']


def test_target_frame_is_the_sixteenth_of_32():
    chunks = torch.arange(32.0).expand(1, 3, 2, 2, 32)
    assert losses.target_frame(chunks).unique().tolist() == [15]


def test_bad_weights():
    for bad in ({'smooth': -1.0}, {'responses': 1.5}, dict.fromkeys(
        ('perceptual', 'structure', 'smooth'), 0.0)):  # fmt: skip
        with pytest.raises(ArgumentsError, match='Weights of the losses'):
            LossWeights(**bad)


def test_stretch():
    values = torch.tensor([[0.2, 0.4], [0.3, 0.3]])
    assert torch.allclose(stretch(values, (1,)), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
