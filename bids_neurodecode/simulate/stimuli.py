"""Images and films made by the program, or taken from a user's folder.

A made image is a texture whose amplitude falls with spatial frequency about as in natural scenes
(1/f; Field 1987, J Opt Soc Am A 4:2379), with one shape of some category in front. A made film is
a row of scenes; in each, the texture drifts and the shape moves and turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.stimuli.films import probe_film, read_frames
from bids_neurodecode.stimuli.images import load_image
from bids_neurodecode.typing import FloatArray, Uint8Array

FRAME_RATE = 25
PICTURE_TYPES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
FILM_TYPES = ('.mp4', '.mkv', '.avi', '.mov', '.webm', '.m4v')
CATEGORIES = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')

NO_FOLDER = 'The folder of stimuli {folder} is not there. Give a folder with {kind}.'
TOO_FEW_FILES = (
    'The folder of stimuli {folder} holds {found} {kind} ({types}); {needed} are needed. '
    'Add some, or ask for fewer.'
)


@dataclass(frozen=True)
class Shape:
    """One object-like shape: where, how large, how turned, of which colour.

    ``x``, ``y`` and ``radius`` are in half image widths (-1 to 1), ``angle`` in radians.
    """

    category: str
    x: float
    y: float
    radius: float
    angle: float
    colour: tuple[float, float, float]


def natural_texture(size: int, rng: np.random.Generator) -> FloatArray:
    """Draw a coloured texture that wraps around, (size, size, 3), in [0, 1].

    Amplitudes fall as f to the power -1.3, within the range of natural scenes. Two thirds
    of the amplitude is shared by the colours, as most of natural contrast is luminance.

    Parameters
    ----------
    size
        Pixels a side.
    rng
        Draws it.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((4, size, size))) / frequency
    layers = np.fft.ifft2(spectrum).real
    layers /= layers.std(axis=(1, 2), keepdims=True)
    mixed = np.moveaxis(layers[:1] * 0.9 + layers[1:] * 0.45, 0, -1)
    level = rng.uniform(0.35, 0.65, size=3)
    texture: FloatArray = np.clip(level + rng.uniform(0.08, 0.2) * mixed, 0, 1)
    return texture


def random_shape(category: str, rng: np.random.Generator) -> Shape:
    """Draw place, size, angle and colour of a shape.

    Parameters
    ----------
    category
        Of the shape.
    rng
        Draws it.
    """
    x, y = rng.uniform(-0.5, 0.5, size=2)
    red, green, blue = rng.uniform(0, 1, size=3)
    return Shape(
        category,
        float(x),
        float(y),
        float(rng.uniform(0.3, 0.6)),
        float(rng.uniform(0, 2 * np.pi)),
        (float(red), float(green), float(blue)),
    )


def shape_mask(shape: Shape, size: int) -> FloatArray:
    """Return how much of each pixel the shape covers, (size, size), in [0, 1].

    Parameters
    ----------
    shape
        Place and radius in half-widths of the image, angle in radians.
    size
        Pixels a side.
    """
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    dx, dy = (axis[None, :] - shape.x) / shape.radius, (axis[:, None] - shape.y) / shape.radius
    c, s = np.cos(shape.angle), np.sin(shape.angle)
    u, v = c * dx + s * dy, c * dy - s * dx
    pixel = 2 / size / shape.radius
    return np.clip(0.5 - _signed_distance(shape.category, u, v) / pixel, 0, 1)


def _signed_distance(category: str, u: FloatArray, v: FloatArray) -> FloatArray:
    """Return roughly the distance to the edge of a shape of radius 1, negative inside."""
    r: FloatArray = np.hypot(u, v)
    if category == 'disc':
        return r - 0.8
    if category == 'square':
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) - 0.7)
    if category == 'triangle':
        return np.asarray(np.maximum(v - 0.5, np.abs(u) * 0.87 - v * 0.5 - 0.5))
    if category == 'star':
        return np.asarray(r - (0.65 + 0.35 * np.cos(5 * np.arctan2(v, u))))
    if category == 'ring':
        return np.asarray(np.abs(r - 0.75) - 0.2)
    bars = np.minimum(
        np.maximum(np.abs(u) - 0.95, np.abs(v) - 0.25),
        np.maximum(np.abs(v) - 0.95, np.abs(u) - 0.25),
    )
    return np.asarray(bars)


def render(texture: FloatArray, shape: Shape) -> Uint8Array:
    """Put a shape on a texture, (size, size, 3), and round to 8 bits.

    Parameters
    ----------
    texture
        Shape (size, size, 3), from 0 to 1.
    shape
        That is put on it.
    """
    cover = shape_mask(shape, texture.shape[0])[..., None]
    # some of the texture shows through, so that shapes have an inside
    inside = np.asarray(shape.colour) + 0.5 * (texture - texture.mean())
    picture = texture * (1 - cover) + inside * cover
    return np.asarray(np.rint(np.clip(picture, 0, 1) * 255), dtype=np.uint8)


def make_picture(category: str, size: int, rng: np.random.Generator) -> Uint8Array:
    """Make one image with a shape of a category, (size, size, 3), uint8.

    Parameters
    ----------
    category
        Of the shape.
    size
        Pixels a side.
    rng
        Of texture and shape.
    """
    return render(natural_texture(size, rng), random_shape(category, rng))


def write_pictures(
    folder: Path, n_images: int, n_categories: int, size: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Make images and write them as PNG.

    Parameters
    ----------
    folder
        That is written into.
    n_images, n_categories
        How many.
    size
        Pixels a side.
    rng
        Of textures and shapes.

    Returns
    -------
    list of (str, str)
        File name and category of each, the categories in turn.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(n_images):
        category = CATEGORIES[number % n_categories]
        name = f'{category}{number // n_categories + 1:03d}.png'
        Image.fromarray(make_picture(category, size, rng)).save(folder / name)
        rows.append((name, category))
    return rows


def read_pictures(files: Iterable[Path], size: int) -> Uint8Array:
    """Read images, cut to a square in their middle, as (n, size, size, 3), uint8.

    Parameters
    ----------
    files
        In the order of the rows.
    size
        Pixels a side.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    return np.stack([load_image(file, size=size, fit='crop') for file in files])


def film_frames(
    duration: float, n_categories: int, size: int, rng: np.random.Generator
) -> Iterator[tuple[Uint8Array, str]]:
    """Yield the frames of a film and the category that each shows.

    Scenes last 3 to 7 s. Frames are (size, size, 3), uint8, 25 a second.

    Parameters
    ----------
    duration
        Seconds.
    n_categories
        How many.
    size
        Pixels a side.
    rng
        Of scenes.
    """
    left = round(duration * FRAME_RATE)
    while left > 0:
        length = min(left, int(rng.integers(3 * FRAME_RATE, 7 * FRAME_RATE)))
        category = CATEGORIES[int(rng.integers(n_categories))]
        for frame in _scene(length, category, size, rng):
            yield frame, category
        left -= length


def _scene(
    n_frames: int, category: str, size: int, rng: np.random.Generator
) -> Iterator[Uint8Array]:
    texture = natural_texture(size, rng)
    shape = random_shape(category, rng)
    drift = rng.normal(0, 0.15 * size, size=2)  # pixels a second
    velocity = rng.normal(0, 0.3, size=2)
    spin = float(rng.normal(0, 1))
    for number in range(n_frames):
        t = number / FRAME_RATE
        moved = np.roll(texture, np.rint(drift * t).astype(int), axis=(0, 1))
        x, y = _bounce(shape.x + velocity[0] * t), _bounce(shape.y + velocity[1] * t)
        now = Shape(category, x, y, shape.radius, shape.angle + spin * t, shape.colour)
        yield render(moved, now)


def _bounce(position: float, limit: float = 0.7) -> float:
    """Reflect a position at both limits."""
    phase = (position + limit) % (4 * limit)
    return float(phase - limit if phase <= 2 * limit else 3 * limit - phase)


def read_film(path: Path, interval: float, size: int) -> tuple[Uint8Array, float]:
    """Read frames of a film at regular times.

    Parameters
    ----------
    path
        A film of any format that FFmpeg reads.
    interval
        Seconds between the frames taken; the frame that shows at each time is taken.
    size
        Height and width to bring them to, in pixels.

    Returns
    -------
    frames : numpy.ndarray
        Shape (n, size, size, 3), uint8.
    duration : float
        Of the whole film in seconds.

    Raises
    ------
    InputError
        If it cannot be read or holds no frames.
    """
    duration = probe_film(path).duration
    return read_frames(path, np.arange(0, duration - 1e-6, interval), (size, size)), duration


def user_files(folder: Path, kind: str, needed: int) -> list[tuple[Path, str]]:
    """List a user's stimuli, sorted by name, and the category of each.

    Parameters
    ----------
    folder
        With files, or with one sub-folder a category.
    kind
        ``pictures`` or ``films``.
    needed
        How many are taken: spread evenly over the sorted list, so that all folders have a share.

    Returns
    -------
    list of (Path, str)
        Files and their categories (name of the sub-folder; else of the kind).

    Raises
    ------
    ArgumentsError
        If the folder is not there or holds too few.
    """
    types = PICTURE_TYPES if kind == 'pictures' else FILM_TYPES
    if not folder.is_dir():
        raise ArgumentsError(NO_FOLDER.format(folder=folder, kind=kind))
    found = sorted(p for p in folder.rglob('*') if p.suffix.lower() in types and p.is_file())
    if len(found) < needed:
        raise ArgumentsError(
            TOO_FEW_FILES.format(
                folder=folder, found=len(found), kind=kind, types=' '.join(types), needed=needed
            )
        )
    chosen = [found[i * len(found) // needed] for i in range(needed)]
    default = kind.removesuffix('s')
    return [(p, p.parent.name if p.parent != folder else default) for p in chosen]
