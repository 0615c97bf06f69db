"""Image files of many kinds become the same 8-bit RGB."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bids_neurodecode.errors import DataError, InputError
from bids_neurodecode.stimuli import images
from bids_neurodecode.stimuli.images import as_float, load_image, load_images


@pytest.fixture
def picture(rng_images):
    return rng_images.integers(0, 256, (12, 16, 3), dtype=np.uint8)


@pytest.fixture
def rng_images():
    return np.random.default_rng(3)


def test_rgb_is_read_unchanged(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(load_image(tmp_path / 'a.png'), picture)


def test_grey_palette_and_one_bit(tmp_path, picture):
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / 'grey.png')
    np.testing.assert_array_equal(
        load_image(tmp_path / 'grey.png'), np.repeat(grey[..., None], 3, axis=2)
    )
    palette = Image.fromarray(picture).quantize(8)
    palette.save(tmp_path / 'palette.png')
    np.testing.assert_array_equal(
        load_image(tmp_path / 'palette.png'), np.asarray(palette.convert('RGB'))
    )
    Image.fromarray(grey > 127).save(tmp_path / 'bit.png')
    np.testing.assert_array_equal(
        load_image(tmp_path / 'bit.png')[..., 0], np.where(grey > 127, 255, 0)
    )


def test_sixteen_bits_keep_their_shades(tmp_path):
    values = np.linspace(0, 65535, 12 * 16).astype(np.uint16).reshape(12, 16)
    for name in ('deep.png', 'deep.tif'):
        Image.fromarray(values).save(tmp_path / name)
        got = load_image(tmp_path / name)[..., 1]
        np.testing.assert_allclose(got, values / 257, atol=0.5)
        assert got.max() == 255


def test_transparency_shows_the_background(tmp_path, picture):
    alpha = np.zeros((12, 16, 1), np.uint8)
    alpha[:, 8:] = 255
    Image.fromarray(np.concatenate([picture, alpha], axis=2)).save(tmp_path / 'a.png')
    got = load_image(tmp_path / 'a.png')
    assert (got[:, :8] == images.GREY).all()
    np.testing.assert_array_equal(got[:, 8:], picture[:, 8:])


def test_orientation_of_the_camera_is_applied(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it
    Image.fromarray(picture).save(tmp_path / 'turned.png', exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / 'turned.png'), np.rot90(picture, k=-1))


def test_float_pictures_in_range_or_refused(tmp_path):
    values = np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12)
    Image.fromarray(values).save(tmp_path / 'fine.tif')
    np.testing.assert_allclose(load_image(tmp_path / 'fine.tif')[..., 0], values * 255, atol=0.5)
    Image.fromarray(values * 300).save(tmp_path / 'wide.tif')
    with pytest.raises(InputError, match=r'wide\.tif holds floating-point values from 0 to 300'):
        load_image(tmp_path / 'wide.tif')


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n' + b'\0' * 40])
def test_unreadable_file_is_named(tmp_path, content):
    (tmp_path / 'broken.png').write_bytes(content)
    with pytest.raises(InputError, match=r'Cannot read the image .*broken\.png: .+ Replace'):
        load_images([tmp_path / 'broken.png'])


def test_truncated_and_missing_files_are_named(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / 'a.png')
    whole = (tmp_path / 'a.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[: len(whole) // 2])
    for name in ('cut.png', 'missing.png'):
        with pytest.raises(InputError, match=f'Cannot read the image .*{name}'):
            load_image(tmp_path / name)


def test_bomb_is_refused(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)

    header = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
    content = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', b'')
    (tmp_path / 'bomb.png').write_bytes(content)
    with pytest.raises(InputError, match=r'bomb\.png has more than 89,478,485 pixels'):
        load_image(tmp_path / 'bomb.png')


def test_animation_is_refused(tmp_path, picture):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / 'moving.gif', save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r'moving\.gif holds 2 frames'):
        load_image(tmp_path / 'moving.gif')


def test_fit(tmp_path):
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 255
    Image.fromarray(wide).save(tmp_path / 'wide.png')
    pad = load_image(tmp_path / 'wide.png', size=16)
    assert pad.shape == (16, 16, 3)
    assert (pad[:4] == images.GREY).all()
    np.testing.assert_array_equal(pad[4:12], wide)
    assert (load_image(tmp_path / 'wide.png', size=8, fit='crop') == 255).all()
    assert load_image(tmp_path / 'wide.png', size=(5, 7), fit='stretch').shape == (5, 7, 3)


def test_sizes_must_agree_or_be_given(tmp_path):
    for name, shape in (('a.png', (8, 8, 3)), ('b.png', (9, 8, 3))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / name)
    files = [tmp_path / 'a.png', tmp_path / 'b.png']
    with pytest.raises(InputError, match=r'a\.png \(8 x 8\) and .*b\.png \(8 x 9\) differ'):
        load_images(files)
    assert load_images(files, size=6).shape == (2, 6, 6, 3)
    with pytest.raises(InputError, match='no images'):
        load_images([])


def test_as_float(picture):
    np.testing.assert_allclose(as_float(picture[None]), picture[None] / 255, rtol=1e-6)
    assert as_float(np.ones((1, 2, 2, 3))).dtype == np.float32
    for bad in (np.full((1, 2, 2, 3), 1.5), np.zeros((2, 2, 3)), np.zeros((1, 2, 2, 3), int)):
        with pytest.raises(DataError, match='Images must be uint8'):
            as_float(bad)


def write_tiff(path, values, *, white_is_zero=False, sample_format=1):
    """Write one grey strip, (h, w), as a TIFF of the array's own type."""
    data = np.ascontiguousarray(values).tobytes()
    h, w = values.shape
    tags = [
        (256, 3, w), (257, 3, h), (258, 3, 8 * values.itemsize), (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1), (273, 4, 8), (277, 3, 1), (278, 3, h),
        (279, 4, len(data)), (339, 3, sample_format),
    ]  # fmt: skip
    entries = b''.join(struct.pack('<HHII', tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack('<H', len(tags)) + entries + bytes(4)
    path.write_bytes(b'II*\0' + struct.pack('<I', 8 + len(data)) + data + directory)


def test_white_that_is_zero_is_white(tmp_path, picture):
    grey = picture[..., 0]
    for name, values, kind in (
        ('8.tif', grey, 1),
        ('16.tif', grey.astype(np.uint16) * 257, 1),
        ('float.tif', (grey / 255).astype(np.float32), 3),
    ):
        write_tiff(tmp_path / name, values, white_is_zero=True, sample_format=kind)
        np.testing.assert_array_equal(load_image(tmp_path / name)[..., 0], 255 - grey, name)
        write_tiff(tmp_path / name, values, sample_format=kind)
        np.testing.assert_array_equal(load_image(tmp_path / name)[..., 0], grey, name)


@pytest.mark.parametrize('top', [255, 4095, 70_000])
def test_32_bit_integers_of_unknown_white_are_refused(tmp_path, top):
    values = np.linspace(0, top, 12 * 16).astype(np.int32).reshape(12, 16)
    Image.fromarray(values).save(tmp_path / 'a.tif')
    with pytest.raises(InputError, match=rf'a\.tif holds integers from 0 to {top}'):
        load_image(tmp_path / 'a.tif')


def test_32_bit_integers_that_fill_16_bits_keep_their_shades(tmp_path, picture):
    Image.fromarray(picture[..., 0].astype(np.int32) * 257).save(tmp_path / 'a.tif')
    np.testing.assert_array_equal(load_image(tmp_path / 'a.tif')[..., 1], picture[..., 0])


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LA', 'PA'])
@pytest.mark.parametrize('kind', ['png', 'tif', 'bmp', 'webp', 'jpg'])
def test_modes_are_read_as_pillow_reads_them(tmp_path, picture, mode, kind):
    file = tmp_path / f'a.{kind}'
    alpha = np.full((12, 16, 1), 255, np.uint8)
    alpha[:, :5] = 90
    try:
        Image.fromarray(np.concatenate([picture, alpha], 2)).convert(mode).save(file)
    except OSError:
        pytest.skip(f'{kind} holds no {mode}')
    with Image.open(file) as opened:
        layer = opened.convert('RGBA')
    canvas = Image.new('RGBA', layer.size, (*images.GREY, 255))
    expected = np.asarray(Image.alpha_composite(canvas, layer).convert('RGB'))
    np.testing.assert_array_equal(load_image(file), expected)
    images.check_image(file)


def test_the_transparent_grey_of_16_bits_shows_the_background(tmp_path, picture):
    values = picture[..., 0].astype(np.uint16) * 257
    Image.fromarray(values).save(tmp_path / 'a.png', transparency=int(values[0, 0]))
    got = load_image(tmp_path / 'a.png')
    clear = values == values[0, 0]
    assert (got[clear] == images.GREY).all()
    np.testing.assert_array_equal(got[~clear][:, 0], picture[..., 0][~clear])


@pytest.mark.parametrize('progressive', [False, True])
def test_cut_jpegs_are_found_by_the_check(tmp_path, progressive):
    large = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / 'a.jpg', progressive=progressive)
    content = (tmp_path / 'a.jpg').read_bytes()
    images.check_image(tmp_path / 'a.jpg')
    for share in (0.5, 0.9):
        (tmp_path / 'a.jpg').write_bytes(content[: int(share * len(content))])
        with pytest.raises(images.DAMAGE):
            images.check_image(tmp_path / 'a.jpg')


@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif'])
def test_several_frames_are_found_by_the_check(tmp_path, picture, name):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match='holds 2 frames'):
        images.check_image(tmp_path / name)


def test_large_pictures_are_refused_by_both_ways(tmp_path):
    Image.new('1', (9_500, 9_500)).save(tmp_path / 'a.png')
    for read in (images.check_image, load_image):
        with pytest.raises(InputError, match=r'a\.png has more than 89,478,485 pixels'):
            read(tmp_path / 'a.png')
