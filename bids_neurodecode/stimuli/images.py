"""Image files to arrays: one way from any common format to 8-bit RGB.

Nothing is guessed in silence: a file that is not a still image is an error with its name.
Colour profiles are not applied; pixel values are taken as sRGB.

Images may also lie side by side in one array of an HDF5 file, as NSD's do: the image
``nsd_stimuli.hdf5/nsd02951`` is the 2,951st of the array ``imgBrick``, and it alone is read.
Of a short film that is the stimulus of a trial, the middle frame is read.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError, InputError, raised_as
from bids_neurodecode.fetched import check_fetched, state_of
from bids_neurodecode.headers import check_dataset
from bids_neurodecode.stimuli import films
from bids_neurodecode.text import one_line
from bids_neurodecode.typing import Uint8Array

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.gif'})

UNREADABLE = (
    'Cannot read the image {file}: {reason}. Replace the file, or take it out of the events.'
)
TOO_LARGE = (
    'The image {file} has more than {limit:,} pixels, the most that are read of one. '
    'Save a smaller copy of it.'
)
INTEGER_RANGE = (
    'The image {file} holds integers from {low} to {high}, and which of them is white is not '
    'known (65535 where they fill 16 bits). Save it with 8 bits a channel.'
)
ANIMATED = 'The image {file} holds {n} frames. Save the one that was shown as an image of its own.'
FLOAT_RANGE = (
    'The image {file} holds floating-point values from {low:g} to {high:g}; they must lie '
    'between 0 and 1. Save it with 8 bits a channel.'
)
SIZES_DIFFER = (
    'The images {first} ({first_size}) and {other} ({other_size}) differ in size. '
    'Give the size to bring them to.'
)
NO_PICTURES = 'There are no images to load.'
NO_ARRAY = (
    'Cannot read the images in {file}: {reason}. It must hold {array!r}, 8-bit images of '
    'shape (n, height, width, 3); copy it again.'
)
NO_ROW = 'There is no image {name!r} in {file}: it holds {n}, named by number from 1.'
NOT_IMAGES = 'Images must be uint8, or floating point in [0, 1], of shape (n, h, w, 3): {found}.'

_PHOTOMETRIC = 262  # TIFF's tag PhotometricInterpretation

Fit = Literal['pad', 'crop', 'stretch']

GREY = (128, 128, 128)
MAX_PIXELS = 89_478_485
"""A quarter of a gibibyte as RGB: Pillow's own bound, beyond which it warns."""
FORMATS = ('PNG', 'JPEG', 'BMP', 'DIB', 'TIFF', 'WEBP', 'GIF')
"""What is looked for in a file, whatever its name: nothing that runs another program."""
DAMAGE = (
    *(OSError, EOFError, MemoryError, ArithmeticError, LookupError, ValueError, TypeError),
    *(AttributeError, RuntimeError, SyntaxError, struct.error),
)
"""What Pillow raises for files that are damaged, or no images."""
PICTURE_ARRAY = 'imgBrick'
"""Name of the array of images in an HDF5 file."""
HDF5 = frozenset({'.hdf5', '.h5'})


def load_images(
    paths: Sequence[str | Path],
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit = 'pad',
) -> Uint8Array:
    """Load images as 8-bit RGB.

    Parameters
    ----------
    paths
        Image files (or images within an HDF5 file), at least one.
    size
        Height and width in pixels (one number for a square); None keeps the pictures' own, which
        must then be equal.
    fit
        How another aspect ratio is met: ``pad`` keeps the whole image on mid-grey,
        ``crop`` cuts the longer side at its middle, ``stretch`` distorts.

    Returns
    -------
    numpy.ndarray
        Shape (n, h, w, 3), uint8.

    Raises
    ------
    InputError
        If a file cannot be read, holds several frames, or the sizes differ and none is given.
    """
    if not paths:
        raise InputError(NO_PICTURES)
    images = [load_image(path, size=size, fit=fit) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(
                SIZES_DIFFER.format(
                    first=paths[0],
                    first_size=_size_text(images[0]),
                    other=path,
                    other_size=_size_text(image),
                )
            )
    return np.stack(images)


def load_image(
    path: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit = 'pad',
) -> Uint8Array:
    """Load one image as 8-bit RGB of shape (h, w, 3); see :func:`load_images`.

    Parameters
    ----------
    path
        Of the file.
    size
        Pixels a side, or (height, width); None leaves it as it is.
    fit
        How another aspect ratio is brought to the size.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with raised_as(InputError, UNREADABLE, *DAMAGE, file=path):
        rgb = _read(Path(path))
    if size is not None:
        rgb = _fit(rgb, (size, size) if isinstance(size, int) else size, fit)
    return np.asarray(rgb, dtype=np.uint8)


def check_image(path: Path) -> None:
    """Read an image to its end, in the cheapest way that finds damage.

    An image that many participants saw is read once.

    Raises
    ------
    InputError
        If it is too large, holds several frames, or values whose white is not known.
    OSError, ValueError, SyntaxError, ...
        If it cannot be read (:data:`DAMAGE`).
    """
    _check(path, state_of(path))


@lru_cache(maxsize=1 << 17)
def _check(path: Path, _state: tuple[tuple[int, ...], ...]) -> None:
    _read(path, small=True)


def _read(path: Path, *, small: bool = False) -> Image.Image:
    """Read an image as upright 8-bit RGB; JPEG at an eighth of its size if ``small``."""
    from PIL import Image, ImageOps

    try:
        with open_picture(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(TOO_LARGE.format(file=path, limit=MAX_PIXELS))
            frames = getattr(opened, 'n_frames', 1)
            # cameras write a preview as the second frame of an MPO file
            if frames > 1 and opened.format != 'MPO':
                raise InputError(ANIMATED.format(file=path, n=frames))
            if small:
                opened.draft(opened.mode, (1, 1))
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith(('I', 'F')):
                # of images of 8 bits and fewer, Pillow inverts those whose white is zero itself
                inverted = getattr(opened, 'tag_v2', {}).get(_PHOTOMETRIC) == 0
                sixteen = opened.format == 'PNG' or picture.mode != 'I'
                picture = _to_8_bits(picture, path, inverted=inverted, sixteen=sixteen)
            return _on_grey(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(TOO_LARGE.format(file=path, limit=MAX_PIXELS)) from error


def open_picture(path: str | Path) -> Image.Image:
    """Open an image file, one image of an HDF5 file, or the middle frame of a film, with Pillow.

    Raises
    ------
    InputError
        If there is no such image in the HDF5 file, or the film cannot be decoded.
    OSError, ValueError
        As Pillow does.
    """
    from PIL import Image

    if Path(path).suffix.lower() in films.SUFFIXES:
        return Image.fromarray(films.middle_frame(Path(path)))
    source = picture_source(path)
    if source == Path(path):
        with warnings.catch_warnings():
            # of the images that Pillow warns of, the most are refused by their size
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    return Image.fromarray(_row_of(source, Path(path).name))


def picture_source(path: str | Path) -> Path:
    """Return the file on disk that holds an image.

    Examples
    --------
    >>> picture_source('stimuli/nsd_stimuli.hdf5/nsd00012').name
    'nsd_stimuli.hdf5'
    """
    path = Path(path)
    return path.parent if path.parent.suffix in HDF5 else path


def count_pictures(file: Path) -> int:
    """Return how many images an HDF5 file holds, and check that it holds such.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.
    """
    import h5py

    check_fetched(file)
    try:
        with h5py.File(file, 'r') as opened:
            array = opened[PICTURE_ARRAY]
            check_dataset(array, file)
            shape, dtype = tuple(array.shape), array.dtype
    except (OSError, KeyError, AttributeError) as error:
        reason = one_line(error).strip('"')
        raise InputError(NO_ARRAY.format(file=file, reason=reason, array=PICTURE_ARRAY)) from error
    if len(shape) != 4 or shape[-1] != 3 or dtype != np.uint8:
        reason = f'{PICTURE_ARRAY!r} is {dtype} of shape {shape}'
        raise InputError(NO_ARRAY.format(file=file, reason=reason, array=PICTURE_ARRAY))
    return int(shape[0])


def _row_of(file: Path, name: str) -> Uint8Array:
    import h5py

    n = count_pictures(file)
    number = re.search(r'(\d+)$', name)
    if number is None or not 1 <= int(number[1]) <= n:
        raise InputError(NO_ROW.format(name=name, file=file, n=n))
    with h5py.File(file, 'r') as opened:
        return np.asarray(opened[PICTURE_ARRAY][int(number[1]) - 1], dtype=np.uint8)


def as_float(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return images as float32 in [0, 1].

    Parameters
    ----------
    images
        Shape (n, h, w, 3); uint8 (0 to 255), or floating point already in [0, 1].

    Raises
    ------
    DataError
        For another shape, type or range.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(NOT_IMAGES.format(found=f'shape {images.shape}'))
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(NOT_IMAGES.format(found=f'type {images.dtype}'))
    values = images.astype(np.float32)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(NOT_IMAGES.format(found=f'range {values.min():g} to {values.max():g}'))
    return values


def _to_8_bits(picture: Image.Image, path: Path, *, inverted: bool, sixteen: bool) -> Image.Image:
    """Bring a grey image of more bits or of floats to 8 bits (with alpha if it has a key).

    White is 1 in floats and 65,535 in integers, if they have ``sixteen`` bits or fill those.
    """
    from PIL import Image

    values = np.asarray(picture).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    white = 1.0 if picture.mode == 'F' else 65535.0
    if picture.mode == 'F' and not (low >= 0 and high <= white):
        raise InputError(FLOAT_RANGE.format(file=path, low=low, high=high))
    if picture.mode != 'F' and not sixteen and not (low >= 0 and white / 2 < high <= white):
        raise InputError(INTEGER_RANGE.format(file=path, low=int(low), high=int(high)))
    light = white - values if inverted else values
    result = Image.fromarray(np.rint(light * (255 / white)).astype(np.uint8))
    key = picture.info.get('transparency')
    if isinstance(key, int):
        result.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return result


def _on_grey(picture: Image.Image) -> Image.Image:
    """Return an image as RGB, grey where it is transparent."""
    from PIL import Image

    if picture.has_transparency_data:
        layer = picture.convert('RGBA')
        canvas = Image.new('RGBA', layer.size, (*GREY, 255))
        return Image.alpha_composite(canvas, layer).convert('RGB')
    return picture.convert('RGB')


def _fit(picture: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    from PIL import Image, ImageOps

    height_width = (size[1], size[0])
    method = Image.Resampling.BILINEAR  # Pillow widens the kernel when it shrinks: no aliasing
    if picture.size == height_width:
        return picture
    if fit == 'pad':
        return ImageOps.pad(picture, height_width, method, color=GREY)
    if fit == 'crop':
        return ImageOps.fit(picture, height_width, method)
    return picture.resize(height_width, method)


def _size_text(image: Uint8Array) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'
