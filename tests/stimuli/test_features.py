"""The cache gives what the extractor would, whatever happened to its files."""

from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np
import pytest

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.stimuli.features import extract_features, extractor_names, get_extractor


@dataclass
class Counting:
    name: str = 'counting'
    version: str = '1'
    params: dict = field(default_factory=dict)
    seen: int = 0

    def transform(self, images):
        self.seen += len(images)
        return images.reshape(len(images), -1)[:, :5].astype(np.float32) + len(self.params)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)


def test_second_time_is_read(tmp_path, pictures):
    extractor = Counting()
    first = extract_features(pictures, extractor, cache_dir=tmp_path, batch_size=3)
    again = extract_features(pictures[::-1], extractor, cache_dir=tmp_path)
    np.testing.assert_array_equal(again, first[::-1])
    assert extractor.seen == 7
    np.testing.assert_array_equal(extract_features(pictures, extractor), first)
    assert extractor.seen == 14


@pytest.mark.parametrize(
    'other', [Counting(version='2'), Counting(params={'a': 1}), Counting(name='another')]
)
def test_name_version_and_parameters_are_part_of_the_key(tmp_path, pictures, other):
    extract_features(pictures, Counting(), cache_dir=tmp_path)
    extract_features(pictures, other, cache_dir=tmp_path)
    assert other.seen == 7


@pytest.mark.parametrize('harm', ['empty', 'cut', 'flip'])
def test_damaged_files_are_computed_again(tmp_path, pictures, harm):
    extractor = Counting()
    first = extract_features(pictures, extractor, cache_dir=tmp_path)
    files = sorted(tmp_path.rglob('*.npy'))
    assert len(files) == 7
    content = bytearray(files[3].read_bytes())
    if harm == 'flip':
        content[-40] ^= 1
    files[3].write_bytes({'empty': b'', 'cut': content[:50], 'flip': content}[harm])
    np.testing.assert_array_equal(extract_features(pictures, extractor, cache_dir=tmp_path), first)
    assert extractor.seen == 8
    assert extract_features(pictures, extractor, cache_dir=tmp_path).shape == first.shape
    assert extractor.seen == 8, 'the damaged file was fixed'


def test_files_open_with_numpy_and_nothing_else_is_left(tmp_path, pictures):
    first = extract_features(pictures[:1], Counting(), cache_dir=tmp_path)
    (file,) = [path for path in tmp_path.rglob('*') if path.is_file()]
    np.testing.assert_array_equal(np.load(file, allow_pickle=False), first[0])


def _extract(folder, pictures):
    extract_features(pictures, get_extractor('gabor'), cache_dir=folder, batch_size=1)


@pytest.mark.slow
def test_several_processes_share_a_cache(tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    context = get_context('spawn')  # a fork after films were decoded hangs
    workers = [context.Process(target=_extract, args=(tmp_path, pictures)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert len(files) == 6
    got = extract_features(pictures, get_extractor('gabor'), cache_dir=tmp_path)
    np.testing.assert_array_equal(
        got, extract_features(pictures, get_extractor('gabor'), batch_size=1)
    )


def test_registry():
    assert {'blip', 'clip', 'dinov2', 'gabor', 'mobilenetv2'} <= {*extractor_names()}
    assert [*extractor_names()] == sorted(extractor_names())
    assert get_extractor('gabor', n_orientations=4).params['n_orientations'] == 4
    with pytest.raises(ArgumentsError, match=r"No feature extractor is called 'x'.*gabor"):
        get_extractor('x')
    with pytest.raises(ArgumentsError, match=r"'gabor' cannot be made: .*'colour'"):
        get_extractor('gabor', colour=1)


def test_wrong_shapes(pictures):
    with pytest.raises(DataError, match='Images must be uint8'):
        extract_features(pictures.astype(float), Counting())
    with pytest.raises(DataError, match='n at least 1'):
        extract_features(pictures[:0], Counting())
    bad = Counting()
    bad.transform = lambda images: np.zeros(3)
    with pytest.raises(DataError, match="'counting' returned"):
        extract_features(pictures, bad)
