"""Stimuli that are the same by their content, whatever their files are called.

Images are compared as thumbnails (a perceptual hash of real values). A pair counts as one image
where its thumbnails correlate *and* no single cell of them differs by much, in units of the
image's own contrast: re-encoding and resizing change all cells a little, another letter or
another face changes a few of them a lot. Mirrored, cropped, and brighter or greyer copies are
looked for where an image has the detail of a photograph: a disc to the left is not a copy of a
disc to the right, and a grating of half the contrast is another stimulus.

Films are compared in windows of some seconds. A window counts as shown twice where its frames
agree with another window's *in order*, and agree less when they are shifted by a second: the
background of a fixed camera looks the same at all times, what moves in front of it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.stimuli.films import decode_frames
from bids_neurodecode.stimuli.images import load_image
from bids_neurodecode.typing import BoolArray, Float32Array, IndexArray, Uint8Array

THUMBNAIL = 32
"""Pixels along a side of a thumbnail; verdicts are made on half of that."""
CANDIDATE_R = 0.75
"""Correlation of coarse luminance (8 x 8) from which a pair is looked at more closely."""
CLOSE_R = 0.85
"""The same at 16 x 16, from which everything is looked at."""
SAME_R = 0.93
SAME_FINE_R = 0.85
"""Correlations at 16 x 16 and 32 x 32 that a pair has to reach."""
MAX_CELL = 0.85
"""Largest difference of a cell, in standard deviations of the image, of detailed images."""
MAX_CELL_PLAIN = 0.3
"""The same of plain images, whose differences are few by nature."""
DETAIL = 5.0
"""Effective rank of the luminance (16 x 16) from which an image counts as detailed: 95 % of
photographs lie above, and gratings, discs, letters and words below."""
FLAT = 3.0
"""Grey levels: a thumbnail that varies by less has nothing to be compared by."""
FINE = 0.25
"""Share of an image's contrast that its thumbnail has to keep, else only exact copies count."""
CROPS = (0.05, 0.1)
"""Shares of the width and height that centred crops, which are looked for, cut off."""
BLOCK = 2048

FILM_RATE = 4.0
"""Frames a second at which films are compared: copies may be off by half of that."""
WINDOW = 5.0
"""Seconds of a window: scenes that are shorter are not looked for."""
FILM_SIDE = 12
SAME_WINDOW = 0.9
"""Mean correlation of the frames of two windows that show the same."""
SHIFTED = 0.2
"""How much smaller the disagreement of the windows has to be than after a shift of a second."""
RARE = 32
"""A stretch of features that is shown twice has values that are met at most this often."""
CHANCE = 1e-3
"""Stretches that may be the same by chance, of features that are shown twice."""
MIN_MOTION = 0.02
"""Disagreement after a shift by which a window counts as moving; a still scene shows nothing."""


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """What images are compared by.

    Parameters
    ----------
    thumbnails
        Shape (n, 32, 32, 3), uint8.
    contrast
        Standard deviation of the luminance of the whole images in grey levels, (n,).
    digests
        SHA-256 of the decoded pixels, by which exact copies are found.
    """

    thumbnails: Uint8Array
    contrast: Float32Array
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.digests)

    @classmethod
    def of(cls, images: Iterable[Uint8Array]) -> ImageHashes:
        """Hash images, (height, width, 3), uint8, one at a time."""
        parts = [hash_image(image) for image in images]
        thumbnails = [thumbnail for thumbnail, _, _ in parts]
        return cls(
            np.array(thumbnails, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL, 3),
            np.array([contrast for _, contrast, _ in parts], dtype=np.float32),
            tuple(digest for _, _, digest in parts),
        )

    def __add__(self, other: ImageHashes) -> ImageHashes:
        """Return both, one after the other."""
        return ImageHashes(
            np.concatenate([self.thumbnails, other.thumbnails]),
            np.concatenate([self.contrast, other.contrast]),
            self.digests + other.digests,
        )

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return arrays from which :meth:`from_state` makes the same."""
        digests = np.frombuffer(bytes.fromhex(''.join(self.digests)), dtype=np.uint8)
        return {
            'thumbnails': self.thumbnails,
            'contrast': self.contrast,
            'digests': digests.reshape(len(self), 32),
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> ImageHashes:
        """Rebuild what :meth:`state` returned."""
        digests = tuple(row.tobytes().hex() for row in arrays['digests'])
        return cls(arrays['thumbnails'], arrays['contrast'], digests)


def hash_image(image: Uint8Array) -> tuple[Uint8Array, float, str]:
    """Return the thumbnail, contrast and digest of one image, (height, width, 3), uint8."""
    from PIL import Image

    method = Image.Resampling.BILINEAR  # Pillow widens the kernel when it shrinks: no aliasing
    small = Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), method)
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return np.asarray(small), float(image.mean(axis=-1).std()), digest.hexdigest()


def hash_images(files: Sequence[Path]) -> ImageHashes:
    """Read images and hash them, one at a time.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    return ImageHashes.of(load_image(file) for file in files)


def shown_among(hashes: ImageHashes, others: ImageHashes) -> BoolArray:
    """Tell of each image whether one of the others is, or is a copy of, it, (n_images,).

    Parameters
    ----------
    hashes
        Of n_images images.
    others
        Of those that they may be among.
    """
    groups = image_groups(hashes + others)
    return np.isin(groups[: len(hashes)], groups[len(hashes) :])


def image_groups(hashes: ImageHashes) -> IndexArray:
    """Group images of the same content.

    Returns
    -------
    numpy.ndarray
        Shape (n,): the number of each image's group; groups are numbered by first appearance.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = [_exact_pairs(hashes.digests)]
    if len(hashes) > 1:
        pairs.append(_near_pairs(hashes))
    a, b = np.concatenate(pairs).T
    n = len(hashes)
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.intp)[codes]


def _exact_pairs(digests: Sequence[str]) -> IndexArray:
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, row), row) for row, digest in enumerate(digests)]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def _near_pairs(hashes: ImageHashes) -> IndexArray:
    """Return the pairs of images that are copies of each other but not exact ones, (n, 2)."""
    thumbnails = hashes.thumbnails.astype(np.float32)
    luminance = thumbnails.mean(axis=-1)
    spread = luminance.reshape(len(luminance), -1).std(axis=1)
    usable = (spread >= FLAT) & (spread >= FINE * hashes.contrast)
    rows = np.flatnonzero(usable)
    detailed = rows[effective_rank(halved(luminance[rows])) >= DETAIL]
    found = [_same(thumbnails, rows, mirror=False, crop=0.0, plain=True)]
    found += [
        _same(thumbnails, detailed, mirror=mirror, crop=crop, plain=False)
        for crop in (0.0, *CROPS)
        for mirror in (False, True)
        if crop or mirror
    ]
    return np.concatenate(found)


def _same(
    thumbnails: Float32Array,
    rows: IndexArray,
    *,
    mirror: bool,
    crop: float,
    plain: bool,
) -> IndexArray:
    """Return pairs of ``rows`` of which the first, mirrored and cropped, is the second."""
    if not rows.size:
        return np.empty((0, 2), dtype=np.intp)
    coarse = unit(pooled(thumbnails[rows].mean(axis=-1), 4))
    pairs = []
    for start in range(0, len(rows), BLOCK):
        mine = rows[start : start + BLOCK]
        views = view(thumbnails[mine], mirror=mirror, crop=crop)
        similar = unit(pooled(views.mean(axis=-1), 4)) @ coarse.T >= CANDIDATE_R
        i, j = np.nonzero(similar)
        apart = mine[i] != rows[j] if crop else mine[i] < rows[j]
        i, j = i[apart], j[apart]
        for part in range(0, len(i), BLOCK):
            a, b = i[part : part + BLOCK], j[part : part + BLOCK]
            same = _verdicts(views[a], thumbnails[rows[b]], plain=plain)
            pairs.append(np.stack([mine[a[same]], rows[b[same]]], axis=1))
    return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.intp)


def _verdicts(a: Float32Array, b: Float32Array, *, plain: bool) -> BoolArray:
    """Compare pairs of thumbnails, (n, 32, 32, 3) each: whether they show the same, (n,)."""
    grey_a, grey_b = a.mean(axis=-1), b.mean(axis=-1)
    same = (unit(halved(grey_a)) * unit(halved(grey_b))).sum(axis=1) >= CLOSE_R
    close = np.flatnonzero(same)
    if close.size:
        same[close] = _same_content(a[close], b[close], plain=plain)
    return np.asarray(same)


def _same_content(a: Float32Array, b: Float32Array, *, plain: bool) -> BoolArray:
    """Judge the pairs that are close."""
    grey_a, grey_b = a.mean(axis=-1), b.mean(axis=-1)
    rank = np.minimum(effective_rank(halved(grey_a)), effective_rank(halved(grey_b)))
    detailed = rank >= DETAIL
    # a photograph and its grey copy are compared by luminance
    colourless = detailed & (np.minimum(_colour(a), _colour(b)) < FLAT)
    a = np.where(colourless[:, None, None, None], grey_a[..., None], a)
    b = np.where(colourless[:, None, None, None], grey_b[..., None], b)
    fine = (unit(a) * unit(b)).sum(axis=1)
    small_a, small_b = halved(a), halved(b)
    unit_a, unit_b = unit(small_a), unit(small_b)
    cells = ((unit_a - unit_b) ** 2).reshape(len(a), -1, 3).sum(axis=-1)
    # unit vectors times the root of their length are z-scores
    largest = np.sqrt(cells.max(axis=1) * unit_a.shape[1] / 3)
    same = ((unit_a * unit_b).sum(axis=1) >= SAME_R) & (fine >= SAME_FINE_R)
    same &= largest <= np.where(detailed, MAX_CELL, MAX_CELL_PLAIN)
    levels = _same_levels(small_a, small_b) if plain else np.zeros(len(a), dtype=bool)
    return np.asarray(same & (detailed | levels))


def _same_levels(a: Float32Array, b: Float32Array) -> BoolArray:
    """Whether plain images are as bright and of the same contrast (these are made on purpose)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    spread_a, spread_b = a.std(axis=1), b.std(axis=1)
    ratio = np.minimum(spread_a, spread_b) / np.maximum(np.maximum(spread_a, spread_b), 1e-6)
    return np.asarray((np.abs(a.mean(axis=1) - b.mean(axis=1)) <= 8) & (ratio >= 0.9))


def _colour(thumbnails: Float32Array) -> Float32Array:
    """Return the mean distance of the channels from grey, in levels, (n,)."""
    grey = thumbnails.mean(axis=-1, keepdims=True)
    return np.asarray(np.abs(thumbnails - grey).mean(axis=(1, 2, 3)))


def view(thumbnails: Float32Array, *, mirror: bool, crop: float) -> Float32Array:
    """Mirror thumbnails, (n, side, side, 3), and cut ``crop`` of each side off around the middle.

    The crop is taken by linear interpolation, as if the image had been cropped and resized.

    Parameters
    ----------
    thumbnails
        Shape (n, side, side, 3).
    mirror
        Whether left and right are exchanged.
    crop
        Share of each side that is cut off, from 0 to 1.
    """
    if mirror:
        thumbnails = thumbnails[:, :, ::-1]
    if not crop:
        return thumbnails
    side = thumbnails.shape[1]
    centre = (np.arange(side) + 0.5 - side / 2) * (1 - crop) + side / 2 - 0.5
    low = np.clip(np.floor(centre).astype(int), 0, side - 2)
    weight = (centre - low).astype(np.float32)
    rows = thumbnails[:, low] * (1 - weight)[:, None, None]
    rows = rows + thumbnails[:, low + 1] * weight[:, None, None]
    columns = rows[:, :, low] * (1 - weight)[:, None] + rows[:, :, low + 1] * weight[:, None]
    return np.asarray(columns, dtype=np.float32)


def effective_rank(images: Float32Array) -> Float32Array:
    """Return the exponential of the entropy of the singular values of images, (n, h, w): (n,).

    Roy and Vetterli (2007), EUSIPCO 606. Gratings have two at most, whatever their direction.
    """
    if not len(images):
        return np.empty(0, dtype=np.float32)
    values = np.linalg.svd(
        images - images.mean(axis=(1, 2), keepdims=True), compute_uv=False
    ).astype(np.float64)
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9)
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(axis=1)
    return np.asarray(np.exp(entropy), dtype=np.float32)


def pooled(images: Float32Array, factor: int) -> Float32Array:
    """Average squares of ``factor`` pixels: (n, h, w, ...) to (n, h / factor, w / factor, ...).

    Parameters
    ----------
    images
        Shape (n, h, w, ...); h and w are multiples of ``factor``.
    factor
        Pixels a side of a square.
    """
    n, height, width, *rest = images.shape
    shape = (n, height // factor, factor, width // factor, factor, *rest)
    return np.asarray(images.reshape(shape).mean(axis=(2, 4)))


def halved(images: Float32Array) -> Float32Array:
    """Return :func:`pooled` by two."""
    return pooled(images, 2)


def unit(images: Float32Array) -> Float32Array:
    """Flatten images, take their mean off and scale them to length 1: (n, n_values)."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


@dataclass(frozen=True)
class Repeat:
    """A part of a film that is shown again, in the same film or in another one.

    Parameters
    ----------
    film, other
        Numbers of the films.
    start, other_start
        Seconds of the films at which the part begins.
    length
        Seconds.
    """

    film: int
    start: float
    other: int
    other_start: float
    length: float


def film_frames(path: Path) -> Float32Array:
    """Read the frames by which a film is compared: 4 a second, (n, 432), mean 0 and length 1.

    Raises
    ------
    InputError
        If the film cannot be decoded.
    """
    frames: list[npt.NDArray[Any]] = []
    last = None
    for start, frame in decode_frames(path):
        while last is not None and len(frames) / FILM_RATE < start - 1e-6:
            frames.append(_tiny(last))
        last = frame
    if last is not None:
        frames.append(_tiny(last))
    return unit(np.stack(frames).astype(np.float32))


def _tiny(frame: Any) -> npt.NDArray[Any]:
    return np.asarray(frame.rgb((FILM_SIDE, FILM_SIDE)))


def repeated_parts(films: Sequence[Float32Array]) -> tuple[Repeat, ...]:
    """Find parts of films that are shown twice: loops, copies, excerpts.

    Parameters
    ----------
    films
        What :func:`film_frames` read.

    Returns
    -------
    tuple of Repeat
        Each pair once, the earlier film (or the earlier second) first.
    """
    found = []
    for number, film in enumerate(films):
        for other in range(number, len(films)):
            found += [
                Repeat(
                    number,
                    row / FILM_RATE,
                    other,
                    column / FILM_RATE,
                    (length + WINDOW * FILM_RATE - 1) / FILM_RATE,
                )
                for row, column, length in _diagonals(film, films[other], same=number == other)
            ]
    return tuple(found)


def repeated_rows(
    films: Sequence[npt.NDArray[np.floating[Any]]], period: float
) -> tuple[Repeat, ...]:
    """Find parts of films that are shown twice, by features that are the same in order.

    Features that take few values repeat by chance. A stretch counts where the number of stretches
    that films with as common values in any order would share is below :data:`CHANCE`.

    Parameters
    ----------
    films
        Features of each volume, (n_volumes, n_features).
    period
        Seconds a volume.

    Returns
    -------
    tuple of Repeat
        As :func:`repeated_parts`; stretches of :data:`WINDOW` seconds or more.
    """
    lengths = [len(film) for film in films]
    _, codes = np.unique(np.concatenate(films), axis=0, return_inverse=True)
    codes, starts = codes.ravel(), np.cumsum([0, *lengths])
    # values that stay are one step: a label that is on for a minute is no evidence of a minute
    step = np.append(True, codes[1:] != codes[:-1])
    step[starts[:-1]] = True
    steps = codes[step]
    counts = np.bincount(steps)
    surprise = -np.log10(counts / len(steps))
    film_of = np.searchsorted(starts, np.arange(len(codes)), side='right') - 1
    looked: dict[int, list[tuple[int, int]]] = {}
    found = []
    for code in np.flatnonzero((counts > 1) & (counts <= RARE)):
        at = np.flatnonzero((codes == code) & step).tolist()
        for a, b in ((a, b) for i, a in enumerate(at) for b in at[i + 1 :]):
            lag = b - a
            if any(first <= a <= last for first, last in looked.get(lag, ())):
                continue
            first, last = _same_rows(codes, film_of, a, b)
            looked.setdefault(lag, []).append((first, last))
            both = step[first + 1 : last + 1] & step[first + 1 + lag : last + 1 + lag]
            changes = codes[first + 1 : last + 1][both]
            evidence = surprise[codes[first]] + surprise[changes].sum() - 2 * np.log10(len(steps))
            length = (last - first + 1) * period
            near = film_of[a] == film_of[b] and lag * period < WINDOW
            if length < WINDOW or near or evidence < -np.log10(CHANCE):
                continue
            begin = (first - starts[film_of[a]], first + lag - starts[film_of[b]])
            here, there = (float(row * period) for row in begin)
            found.append(Repeat(int(film_of[a]), here, int(film_of[b]), there, float(length)))
    return tuple(sorted(found, key=lambda x: (x.film, x.other, x.start, x.other_start)))


def _same_rows(codes: IndexArray, film_of: IndexArray, a: int, b: int) -> tuple[int, int]:
    """Return first and last row, around ``a``, that are as those as far behind ``b``."""
    lag, n = b - a, len(codes)
    same = (codes[: n - lag] == codes[lag:]) & (film_of[: n - lag] == film_of[a])
    same &= film_of[lag:] == film_of[b]
    before, after = np.flatnonzero(~same[:a]), np.flatnonzero(~same[a:])
    first = int(before[-1]) + 1 if before.size else 0
    return first, a + int(after[0]) - 1 if after.size else n - lag - 1


def _diagonals(a: Float32Array, b: Float32Array, *, same: bool) -> list[tuple[int, int, int]]:
    """Return (row, column, number of windows) of the windows of ``a`` that ``b`` shows as well."""
    size, shift = int(WINDOW * FILM_RATE), int(FILM_RATE)
    n_a, n_b = len(a) - size + 1, len(b) - size + 1
    if n_a < 1 or n_b < 1:
        return []
    own_a, own_b = _motion(a, size, shift), _motion(b, size, shift)
    found: list[tuple[int, int, int]] = []
    step = max(size, 4_000_000 // max(1, len(b)))
    hits: dict[int, list[int]] = {}
    for start in range(0, n_a, step):
        stop = min(start + step, n_a)
        begin = start if same else 0  # what was shown before was compared from there
        frames = a[start : stop + size - 1] @ b[begin:].T
        mean = np.zeros((stop - start, n_b - begin), dtype=np.float32)
        for k in range(size):
            mean += frames[k : k + stop - start, k : k + n_b - begin]
        mean /= size
        still = np.minimum(own_a[start:stop, None], own_b[None, begin:])
        alike = (mean >= SAME_WINDOW) & (still >= MIN_MOTION) & (1 - mean <= SHIFTED * still)
        rows, columns = np.nonzero(alike)
        for row, column in zip(rows + start, columns + begin, strict=True):
            # a window and its own neighbours are no repeat
            if not same or column - row >= size:
                hits.setdefault(int(column - row), []).append(int(row))
    for lag, starts in sorted(hits.items()):
        cuts = np.flatnonzero(np.diff(starts) > size) + 1
        found += [
            (int(run[0]), int(run[0]) + lag, int(run[-1] - run[0]) + 1)
            for run in np.split(np.array(starts), cuts)
        ]
    return _one_lag_each(found)


def _motion(frames: Float32Array, size: int, shift: int) -> Float32Array:
    """Return by how much each window disagrees with itself a second earlier and later."""
    n = len(frames) - size + 1
    change = np.ones(len(frames), dtype=np.float32)
    change[:-shift] = 1 - (frames[:-shift] * frames[shift:]).sum(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(change[:-shift], dtype=np.float64)])
    inner = np.maximum(size - shift, 1)
    first = np.minimum(np.arange(n), len(sums) - 1 - inner).clip(min=0)
    return np.asarray((sums[first + inner] - sums[first]) / inner, dtype=np.float32)


def _one_lag_each(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Leave out what a longer repeat at a neighbouring lag says already."""
    kept: list[tuple[int, int, int]] = []
    for row, column, length in sorted(found, key=lambda x: -x[2]):
        lag = column - row
        covered = any(
            abs((c - r) - lag) <= 2 and r - 2 <= row and row + length <= r + n + 2
            for r, c, n in kept
        )
        if not covered:
            kept.append((row, column, length))
    return sorted(kept)
