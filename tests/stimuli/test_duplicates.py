"""Stimuli of the same content are found under any name; others are not taken for each other."""

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from bids_neurodecode.bids.video import write_video
from bids_neurodecode.simulate.stimuli import CATEGORIES, FRAME_RATE, make_picture
from bids_neurodecode.simulate.stimuli import film_frames as simulate_film
from bids_neurodecode.stimuli.duplicates import (
    ImageHashes,
    effective_rank,
    film_frames,
    hash_image,
    hash_images,
    image_groups,
    repeated_parts,
    repeated_rows,
    view,
)

SIZE = 96


def pictures(n: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(make_picture(CATEGORIES[k % 6], SIZE, rng)) for k in range(n)]


def groups(images: list[Image.Image]) -> np.ndarray:
    parts = [hash_image(np.asarray(image.convert('RGB'))) for image in images]
    small, contrast, digests = zip(*parts, strict=True)
    return image_groups(ImageHashes(np.stack(small), np.array(contrast), digests))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, 'JPEG', quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


def one_bit(image: Image.Image) -> Image.Image:
    values = np.array(image)
    values[40, 40, 0] ^= 1
    return Image.fromarray(values)


def crop(share: float) -> Callable[[Image.Image], Image.Image]:
    edge = round(SIZE * share / 2)
    return lambda image: image.crop((edge, edge, SIZE - edge, SIZE - edge))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    'the same': lambda image: image,
    'one bit': one_bit,
    'two pixels smaller': lambda image: image.resize((SIZE - 2, SIZE - 2)),
    'half the size': lambda image: image.resize((SIZE // 2, SIZE // 2)),
    'another aspect': lambda image: image.resize((SIZE, SIZE * 3 // 4)),
    'JPEG': lambda image: jpeg(image, 60),
    'brighter': lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    'less contrast': lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    'mirrored': ImageOps.mirror,
    'mirrored, smaller, JPEG': lambda image: jpeg(ImageOps.mirror(image).resize((80, 80)), 75),
    'cropped by 5 %': crop(0.05),
    'cropped by 10 %': crop(0.10),
}


@pytest.mark.parametrize('kind', COPIES)
def test_copies_are_found_and_nothing_else(kind):
    originals = pictures(24)
    found = groups([*originals, *map(COPIES[kind], originals)])
    np.testing.assert_array_equal(found, np.tile(np.arange(24), 2))


def test_pictures_of_one_category_stay_apart():
    rng = np.random.default_rng(1)
    same = [Image.fromarray(make_picture('disc', 64, rng)) for _ in range(150)]
    assert len(set(groups(same))) == 150


def disc(x: int, y: int, colour: tuple[int, int, int]) -> Image.Image:
    rows, columns = np.mgrid[:100, :100]
    inside = ((columns - x) ** 2 + (rows - y) ** 2 < 100)[..., None]
    return Image.fromarray(np.where(inside, colour, 128).astype(np.uint8))


def grating(angle: float, phase: float, contrast: float = 100) -> Image.Image:
    y, x = np.mgrid[:100, :100] / 100 - 0.5
    wave = np.sin(8 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return Image.fromarray(np.repeat((127.5 + contrast * wave)[..., None], 3, 2).astype(np.uint8))


def test_plain_stimuli_that_differ_on_purpose_stay_apart():
    """Places (mirrored ones too), colours, phases, directions, contrasts, flat fields."""
    plain = [disc(x, y, c) for x in (20, 50, 80) for y in (30, 70) for c in COLOURS]
    plain += [grating(a * np.pi / 8, p) for a in range(8) for p in (0, np.pi / 2, np.pi)]
    plain += [grating(0.3, 0.0, contrast) for contrast in (80, 50, 20)]
    plain += [Image.new('RGB', (8, 8), (40 * k, 90, 20)) for k in range(4)]
    assert len(set(groups(plain))) == len(plain)


COLOURS = ((255, 0, 0), (0, 0, 255), (255, 255, 255))


@pytest.mark.parametrize('kind', ['the same', 'one bit', 'two pixels smaller'])
def test_copies_of_plain_stimuli_are_found(kind):
    plain = [disc(20, 30, (255, 0, 0)), disc(80, 30, (255, 0, 0)), grating(0.3, 0)]
    plain = [image.resize((SIZE, SIZE)) for image in plain]
    found = groups([*plain, *map(COPIES[kind], plain)])
    np.testing.assert_array_equal(found, [0, 1, 2, 0, 1, 2])


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(8)))
def test_groups_do_not_depend_on_the_order(order):
    originals = pictures(4, seed=5)
    both = [*originals, *map(ImageOps.mirror, originals)]
    found = groups([both[k] for k in order])
    assert found[0] == 0
    for a in range(8):
        for b in range(8):
            assert (found[a] == found[b]) == (order[a] % 4 == order[b] % 4)


def test_files_are_read_whatever_their_type(tmp_path):
    first, other = pictures(2)
    files = [tmp_path / name for name in ('A.png', 'a.bmp', 'b.jpg', 'c.PNG')]
    for file, image in zip(files, (first, first, first, other), strict=True):
        image.save(file)
    np.testing.assert_array_equal(image_groups(hash_images(files)), [0, 0, 0, 1])


def test_views_are_those_of_the_image_itself():
    """Cropping a thumbnail is nearly the thumbnail of the crop; mirroring exactly."""
    image = Image.fromarray(make_picture('star', 320, np.random.default_rng(2)))
    small = hash_image(np.asarray(image))[0][None].astype(np.float32)
    turned = hash_image(np.asarray(ImageOps.mirror(image)))[0]
    np.testing.assert_allclose(view(small, mirror=True, crop=0)[0], turned, atol=1)
    cut = hash_image(np.asarray(image.crop((16, 16, 304, 304))))[0].astype(float)
    found = view(small, mirror=False, crop=0.1)[0]
    assert np.corrcoef(found.ravel(), cut.ravel())[0, 1] > 0.98


def test_effective_rank_of_known_matrices():
    constant, one = np.zeros((4, 4)), np.diag([1.0, 0, 0, 0])
    ranks = effective_rank(np.stack([constant, one - one.mean(), np.eye(4) - 0.25]))
    assert ranks[0] == 1  # nothing to be ranked
    assert ranks[1] < 2
    assert ranks[2] == pytest.approx(3, abs=1e-5)  # the identity without its mean


@pytest.mark.slow
@pytest.mark.real
def test_photographs_are_not_taken_for_each_other_and_their_copies_are_found(shared):
    folders = ('things720/images', 'coco_open/images', 'haxby2001/stimuli')
    files = [f for x in folders for f in sorted((shared / 'data' / x).iterdir())][::4]
    photographs = [Image.open(file).convert('RGB') for file in files]
    n = len(photographs)
    assert len(set(groups(photographs))) == n
    smaller = [jpeg(x.resize((x.width - 2, x.height - 2)), 75) for x in photographs]
    found = groups([*photographs, *smaller])
    np.testing.assert_array_equal(found, np.tile(np.arange(n), 2))
    found = groups([*photographs, *map(ImageOps.mirror, photographs)])
    assert (found[:n] == found[n:]).mean() > 0.9


# films


def write_film(path: Path, frames) -> None:
    write_video(path, frames, FRAME_RATE, preset='veryfast')


def film(path: Path, seconds: float, seed: int, *, start: float = 0, loop: int = 1) -> Path:
    """Write a film, from second ``start`` on, ``loop`` times."""
    frames = [frame for frame, _ in simulate_film(seconds, 6, 48, np.random.default_rng(seed))]
    write_film(path, frames[round(start * 25) :] * loop)
    return path


def total(repeats) -> float:
    return sum(repeat.length for repeat in repeats)


@pytest.mark.slow
def test_a_film_has_no_repeats_of_itself_or_of_another(tmp_path):
    films = [film_frames(film(tmp_path / f'{k}.mp4', 60, k)) for k in range(2)]
    assert repeated_parts(films) == ()


@pytest.mark.slow
def test_an_excerpt_is_found_where_it_lies(tmp_path):
    whole = film_frames(film(tmp_path / 'a.mp4', 40, 3))
    cut = film_frames(film(tmp_path / 'b.mp4', 40, 3, start=14.6))
    repeats = repeated_parts([whole, cut])
    assert total(repeats) == pytest.approx(25.4, abs=3)
    for repeat in repeats:
        assert (repeat.film, repeat.other) == (0, 1)
        assert repeat.start - repeat.other_start == pytest.approx(14.6, abs=0.5)


@pytest.mark.slow
def test_a_film_under_two_names_and_sizes(tmp_path):
    source = film(tmp_path / 'a.mp4', 30, 4)
    with av.open(str(source)) as container:
        small = [f.reformat(32, 40, 'rgb24').to_ndarray() for f in container.decode(video=0)]
    write_film(tmp_path / 'b.mp4', small)
    (repeat,) = repeated_parts([film_frames(source), film_frames(tmp_path / 'b.mp4')])
    assert repeat.start == repeat.other_start
    assert repeat.length == pytest.approx(30, abs=3)


def test_a_loop_repeats_itself(tmp_path):
    repeats = repeated_parts([film_frames(film(tmp_path / 'a.mp4', 10, 5, loop=3))])
    lags = {round(repeat.other_start - repeat.start) for repeat in repeats}
    assert lags == {10, 20}


def test_a_fixed_camera_and_a_still_scene_are_no_repeats(tmp_path):
    """The background is the same throughout; what moves in front of it is not."""
    rng = np.random.default_rng(6)
    background = make_picture('ring', 48, rng)
    frames = []
    for _ in range(8):
        path = np.cumsum(rng.normal(0, 1.5, (100, 2)), axis=0) + rng.uniform(10, 38, 2)
        for x, y in np.clip(path, 6, 42).astype(int):
            frame = background.copy()
            frame[y - 6 : y + 6, x - 6 : x + 6] = rng.integers(0, 255, 3) if x % 50 == 0 else 255
            frames.append(frame)
    write_film(tmp_path / 'a.mp4', frames)
    write_film(tmp_path / 'b.mp4', [background] * 500)
    assert repeated_parts([film_frames(tmp_path / f'{k}.mp4') for k in 'ab']) == ()


def test_a_film_shorter_than_a_window_has_no_repeats(tmp_path):
    write_film(tmp_path / 'a.mp4', [make_picture('disc', 32, np.random.default_rng(0))] * 10)
    assert repeated_parts([film_frames(tmp_path / 'a.mp4')] * 2) == ()


def shown(films, period=1.5):
    found = repeated_rows(films, period)
    times = [(r.start, r.other_start, r.length) for r in found]
    rows = [[round(x / period) for x in each] for each in times]
    return [(r.film, a, r.other, b, n) for r, (a, b, n) in zip(found, rows, strict=True)]


def test_stretches_of_features_that_are_shown_twice_are_found():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(80, 3)), rng.normal(size=(60, 3))
    assert shown([a, b]) == []
    b[5:15] = a[30:40]
    a[60:70] = a[10:20]
    assert shown([a, b]) == [(0, 10, 0, 60, 10), (0, 30, 1, 5, 10)]
    # shorter than five seconds
    assert shown([a[:33], b]) == []
    assert shown([a, b], period=0.4) == []


def test_a_loop_is_found_at_each_turn():
    once = np.random.default_rng(1).normal(size=(20, 2))
    assert shown([np.tile(once, (3, 1))]) == [(0, 0, 0, 20, 40), (0, 0, 0, 40, 20)]


def test_values_that_stay_and_coarse_labels_repeat_by_chance():
    rng = np.random.default_rng(2)
    labels = [np.repeat(rng.integers(0, 2, (150, 6)), 4, axis=0) for _ in range(2)]
    assert shown(labels) == []
    assert shown([np.zeros((50, 2)), np.zeros((50, 2))]) == []
    # thirty changes of labels in the same order are no chance
    labels[1][40:160] = labels[0][200:320]
    assert any(r[:2] == (0, 200) and r[4] == 120 for r in shown(labels))
