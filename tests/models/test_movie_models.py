"""The movie networks: published sizes, shapes, and what each part does."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.heads import count_parameters
from bids_neurodecode.models.movie import MovieDecoder, MovieDesign, MovieEncoder

SMALL = MovieDesign(
    n_voxels=7, chunk=8, frame_size=16, spatial=2, temporal=5, slices=3, merged=4, decoder=6
)


@pytest.fixture(autouse=True, scope='module')
def one_thread():
    """Several threads, on cores that others use too, wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_published_sizes():
    with torch.device('meta'):
        encoder = MovieEncoder(MovieDesign(4609))
        decoder = MovieDecoder(MovieDesign(4609, paper_bn=True))
        plain = MovieDecoder(MovieDesign(4609))
        assert encoder(torch.empty(2, 3, 112, 112, 32)).shape == (2, 4609)
        assert decoder(torch.empty(2, 4609)).shape == (2, 3, 112, 112)
    assert count_parameters(encoder) == 63_766_593
    assert count_parameters(decoder) == 43_547_721
    assert count_parameters(encoder) + count_parameters(decoder) == 107_314_314
    assert count_parameters(plain) == 43_547_715  # without scale and shift of three channels


def test_published_shapes_of_each_stage():
    with torch.device('meta'):
        encoder = MovieEncoder(MovieDesign(10)).eval()
        seen = {}
        for name in ('space', 'time', 'slices', 'merge'):
            getattr(encoder, name).register_forward_hook(
                lambda _m, _i, out, name=name: seen.__setitem__(name, tuple(out.shape[1:]))
            )
        encoder(torch.empty(1, 3, 112, 112, 32))
    assert seen == {
        'space': (32, 112, 112, 32),
        'time': (256, 56, 56, 32),
        'slices': (2048, 28, 28),
        'merge': (64, 14, 14),
    }
    assert encoder.readout[2].in_features == 12_544


@pytest.mark.parametrize('chunk', [16, 32, 64])
@pytest.mark.parametrize('n_voxels', [1, 300])
def test_any_chunk_and_number_of_voxels(chunk, n_voxels):
    with torch.device('meta'):
        design = MovieDesign(n_voxels, chunk=chunk)
        assert MovieEncoder(design)(torch.empty(2, 3, 112, 112, chunk)).shape == (2, n_voxels)


def test_each_time_slice_has_its_own_convolution():
    torch.manual_seed(0)
    encoder = MovieEncoder(SMALL).eval()
    conv, _, norm = encoder.slices
    norm.running_mean.normal_()
    chunks = torch.rand(2, *SMALL.chunk_shape)
    x = encoder.halve(encoder.space(chunks))
    x = encoder.pool_time(encoder.halve(encoder.time(x)))
    slices = []
    for number in range(4):
        rows = slice(number * 3, (number + 1) * 3)
        single = functional.conv2d(x[..., number], conv.weight[rows], conv.bias[rows], padding=1)
        own = nn.BatchNorm2d(3).eval()
        own.running_mean = norm.running_mean[rows]
        slices.append(own(single.relu()))
    expected = encoder.readout(encoder.merge(torch.cat(slices, dim=1)))
    assert torch.allclose(encoder(chunks), expected, atol=1e-6)


def test_order_of_frames_matters():
    torch.manual_seed(0)
    encoder = MovieEncoder(SMALL).eval()
    chunks = torch.rand(1, *SMALL.chunk_shape)
    assert not torch.allclose(encoder(chunks), encoder(chunks.flip(-1)), atol=1e-4)


def test_frames_are_bound_unless_as_published():
    torch.manual_seed(0)
    responses = 5 * torch.randn(6, 7)
    frames = MovieDecoder(SMALL)(responses)
    assert frames.shape == (6, 3, 16, 16)
    assert frames.min() >= 0
    assert frames.max() <= 1
    published = MovieDecoder(MovieDesign(7, frame_size=16, decoder=6, paper_bn=True))(responses)
    assert published.min() < 0


@pytest.mark.parametrize(
    'change',
    [{'n_voxels': 0}, {'frame_size': 100}, {'chunk': 15}, {'dropout': 1.0}, {'decoder': 0}],
)
def test_impossible_designs(change):
    with pytest.raises(ArgumentsError, match='A movie network needs'):
        MovieDesign(**{'n_voxels': 5, **change})


def test_wrong_inputs():
    with pytest.raises(DataError, match=r'chunks of shape \(n, 3, 16, 16, 8\)'):
        MovieEncoder(SMALL)(torch.zeros(1, 3, 16, 16, 16))
    with pytest.raises(DataError, match=r'responses of shape \(n, 7\)'):
        MovieDecoder(SMALL)(torch.zeros(1, 8))
