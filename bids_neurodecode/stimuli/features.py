"""Feature extractors: the interface, the registry, and a cache on disk.

An extractor is frozen: its output depends on the image, its name, its version and its
parameters, and on nothing else. That is what makes the cache right.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError, raised_as
from bids_neurodecode.extensions import EXTRACTORS, broken, installed, load
from bids_neurodecode.extras import PACKAGED
from bids_neurodecode.text import did_you_mean
from bids_neurodecode.typing import Float32Array

UNKNOWN_EXTRACTOR = 'No feature extractor is called {name!r}.{near} Extractors: {names}.'
BAD_PARAMETERS = 'The feature extractor {name!r} cannot be made: {reason}.'
NOT_PICTURES = 'Images must be uint8 of shape (n, h, w, 3) with n at least 1; these are {found}.'
NO_EXTRACTOR = 'what it makes has no name, version, params and transform of a feature extractor'
OTHER_NAME = 'what it makes calls itself {name!r}'
BAD_FEATURES = (
    'The feature extractor {name!r} returned {found} for {n} images; it must be (n, n_features).'
)
UNPAIRED = 'There must be one caption per image: {pictures} images, {captions} captions.'

WEIGHTS = {
    'clip': 'clip-vit-l14',
    'dinov2': 'dinov2-base',
    'blip': 'blip-itm-base',
    'blip-caption': 'blip-itm-base',
}
"""The weights of each feature space that needs some, by which protocols know networks, too."""
_PRETRAINED = 'bids_neurodecode.stimuli.pretrained'
_PACKAGED = 'bids_neurodecode.stimuli.packaged'
_EXTRACTORS: Mapping[str, tuple[str, ...]] = {
    'gabor': ('bids_neurodecode.stimuli.gabor', 'GaborPyramid'),
    **{name: (_PRETRAINED, 'read_vision', name) for name in ('clip', 'dinov2', 'blip')},
    **{
        name: (_PACKAGED, 'ConvNetFeatures', name)
        for name in ('efficientnet-lite0', 'efficientnet-lite2', 'mobilenetv2')
    },
}
"""Module, what makes the extractor there, and what that takes first."""
_CAPTIONED: Mapping[str, tuple[str, ...]] = {
    'blip-caption': (_PRETRAINED, 'blip_caption'),
    'wordllama': (_PACKAGED, 'CaptionEmbedding'),
}
_IMAGE_SIZES = {
    'clip': 224,
    'dinov2': 256,
    'blip': 384,
    'blip-caption': 384,
    'efficientnet-lite0': 224,
    'efficientnet-lite2': 260,
    'mobilenetv2': 224,
}
JOINED_SIZE = 64
"""Pixels a side at which an extractor of any size describes images beside another."""
_DIGEST = 32  # bytes of SHA-256 behind the array in a cache file


class Extractor(Protocol):
    """What features are known by that are the same every time."""

    @property
    def name(self) -> str:
        """The extractor's name in the registry."""

    @property
    def version(self) -> str:
        """Changes whenever the same parameters give other numbers."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on; JSON can hold it."""


@runtime_checkable
class FeatureExtractor(Extractor, Protocol):
    """What turns images into features, the same way every time."""

    def transform(self, images: npt.NDArray[np.uint8]) -> Float32Array:
        """Turn images (n, h, w, 3) into features (n, n_features)."""


class CaptionedExtractor(Extractor, Protocol):
    """What turns images with captions into features, the same way every time."""

    def transform(self, images: npt.NDArray[np.uint8], texts: Sequence[str]) -> Float32Array:
        """Turn images (n, h, w, 3) with n captions into features (n, n_features).

        Parameters
        ----------
        images
            Shape (n, h, w, 3), uint8.
        texts
            One caption per image.
        """


def extractor_names() -> tuple[str, ...]:
    """Return the names that :func:`get_extractor` knows, installed ones among them, sorted."""
    return tuple(sorted({*_EXTRACTORS, *installed(EXTRACTORS)}))


def get_extractor(name: str, **params: Any) -> FeatureExtractor:
    """Make a feature extractor.

    Parameters
    ----------
    name
        Of the registry; ``name:layer`` is one layer of a network that has several, ``name+name``
        the features of both.
    params
        Of the extractor.

    Raises
    ------
    ArgumentsError
        If no extractor has that name, or a parameter is unknown or out of range.
    """
    names = name.split('+')
    if len(names) == 1:
        return cast('FeatureExtractor', _make(_EXTRACTORS, name, params))
    parts = tuple(get_extractor(part, **params) for part in names)
    return JoinedFeatures(parts, tuple(image_size_of(part, JOINED_SIZE) for part in names))


def get_captioned_extractor(name: str, **params: Any) -> CaptionedExtractor:
    """Make an extractor that reads captions too; errors as :func:`get_extractor`."""
    return cast('CaptionedExtractor', _make(_CAPTIONED, name, params))


def image_size_of(name: str, otherwise: int) -> int:
    """Return the pixels a side at which images are handed to an extractor.

    Parameters
    ----------
    name
        Of the extractor; networks take images of the size that they were trained with, and an
        installed extractor may say its own (an attribute ``image_size`` of what makes it).
    otherwise
        Where the extractor takes any size.
    """
    return max(_image_size(part, otherwise) for part in networks_of(name))


def _image_size(name: str, otherwise: int) -> int:
    if name in _EXTRACTORS or name in _CAPTIONED or name not in installed(EXTRACTORS):
        return _IMAGE_SIZES.get(name, otherwise)
    return int(getattr(load(EXTRACTORS, name, object), 'image_size', otherwise))


def networks_of(name: str) -> tuple[str, ...]:
    """Return what an extractor is made of, without layers.

    Examples
    --------
    >>> networks_of('gabor+efficientnet-lite0:stage5')
    ('gabor', 'efficientnet-lite0')
    """
    return tuple(part.partition(':')[0] for part in name.split('+'))


def networks_needed(extractor: str) -> str:
    """Return the setting of an extractor that needs networks; empty if it needs none.

    Examples
    --------
    >>> networks_needed('gabor'), networks_needed('gabor+mobilenetv2')
    ('', 'features.extractor = "gabor+mobilenetv2"')
    """
    needs = not PACKAGED.keys().isdisjoint(networks_of(extractor))
    return f'features.extractor = "{extractor}"' if needs else ''


def judges_of(name: str) -> tuple[str, ...]:
    """Return what an extractor is made of, by the names that networks have where they judge.

    Examples
    --------
    >>> judges_of('gabor+clip')
    ('gabor', 'clip-vit-l14')
    """
    return tuple(WEIGHTS.get(part, part) for part in networks_of(name))


@dataclass(frozen=True)
class JoinedFeatures:
    """The features of several extractors, one after the other.

    Parameters
    ----------
    parts
        The extractors.
    sizes
        Pixels a side at which each describes images.
    """

    version: ClassVar[str] = '1'

    parts: tuple[FeatureExtractor, ...]
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The names of the parts, joined by plus signs."""
        return '+'.join(part.name for part in self.parts)

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on."""
        told = zip(self.parts, self.sizes, strict=True)
        return {'parts': [[p.name, p.version, dict(p.params), size] for p, size in told]}

    def transform(self, images: npt.NDArray[np.uint8]) -> Float32Array:
        """Turn images (n, h, w, 3) into features (n, n_features)."""
        from PIL import Image

        columns = []
        for part, size in zip(self.parts, self.sizes, strict=True):
            sized = images
            if images.shape[1:3] != (size, size):
                method = Image.Resampling.BILINEAR
                resized = (Image.fromarray(x).resize((size, size), method) for x in images)
                sized = np.stack([np.asarray(x) for x in resized])
            columns.append(part.transform(sized))
        return np.concatenate(columns, axis=1)


def _make(table: Mapping[str, tuple[str, ...]], name: str, params: Mapping[str, Any]) -> Any:
    name, _, layer = name.partition(':')
    others = installed(EXTRACTORS) if table is _EXTRACTORS else {}
    first: Sequence[str] = ()
    if name in table:
        module, attribute, *first = table[name]
        make = getattr(importlib.import_module(module), attribute)
    elif name in others:
        make = load(EXTRACTORS, name, Callable)  # type: ignore[arg-type]
    else:
        known = sorted({*table, *others})
        told = {'near': did_you_mean(name, known), 'names': ', '.join(known)}
        raise ArgumentsError(UNKNOWN_EXTRACTOR.format(name=name, **told))
    with raised_as(ArgumentsError, BAD_PARAMETERS, TypeError, name=name):
        extractor = make(*first, **({'layer': layer} if layer else {}), **params)
    if name in others and name not in table:
        if not isinstance(extractor, FeatureExtractor):
            raise broken(EXTRACTORS, name, NO_EXTRACTOR)
        if extractor.name != name:
            raise broken(EXTRACTORS, name, OTHER_NAME.format(name=extractor.name))
    return extractor


def extract_features(
    images: npt.NDArray[np.uint8],
    extractor: FeatureExtractor,
    *,
    cache_dir: Path | None = None,
    batch_size: int = 64,
) -> Float32Array:
    """Turn images into features, reading those seen before from a cache.

    Parameters
    ----------
    images
        Shape (n, h, w, 3), uint8.
    extractor
        The frozen extractor.
    cache_dir
        Folder of the cache (made if need be); None computes everything. Any number of processes
        may share it. It can be deleted at any time.
    batch_size
        Images handed to the extractor at once.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_features), float32.

    Raises
    ------
    DataError
        If the images or what the extractor returns have the wrong shape.
    """
    _check_pictures(images)
    files = _cache_files(cache_dir, extractor, images, None)

    def transform(rows: list[int]) -> Float32Array:
        return extractor.transform(images[rows])

    return _extract(transform, extractor.name, files, batch_size)


def extract_captioned_features(
    images: npt.NDArray[np.uint8],
    captions: Sequence[str],
    extractor: CaptionedExtractor,
    *,
    cache_dir: Path | None = None,
) -> Float32Array:
    """Turn images with one caption each into features; see :func:`extract_features`.

    Parameters
    ----------
    images
        Shape (n, h, w, 3), uint8.
    captions
        One per image.
    extractor
        The frozen extractor.
    cache_dir
        Folder of the cache; None computes everything.

    Raises
    ------
    DataError
        If images and captions do not pair, or have the wrong shape.
    """
    _check_pictures(images)
    check_pairs(images, captions)
    files = _cache_files(cache_dir, extractor, images, captions)

    def transform(rows: list[int]) -> Float32Array:
        return extractor.transform(images[rows], [captions[row] for row in rows])

    return _extract(transform, extractor.name, files)


def check_pairs(images: Sized, captions: Sized) -> None:
    """Refuse captions that are not one per image.

    Parameters
    ----------
    images, captions
        As many of the one as of the other.
    """
    if len(captions) != len(images):
        raise DataError(UNPAIRED.format(pictures=len(images), captions=len(captions)))


def _check_pictures(images: npt.NDArray[Any]) -> None:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise DataError(NOT_PICTURES.format(found=f'{images.dtype} {images.shape}'))


def _extract(
    transform: Callable[[list[int]], Float32Array],
    name: str,
    files: Sequence[Path | None],
    batch_size: int = 64,
) -> Float32Array:
    rows = [None if file is None else _read(file) for file in files]
    missing = [index for index, row in enumerate(rows) if row is None]
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        values = np.asarray(transform(batch), dtype=np.float32)
        if values.ndim != 2 or len(values) != len(batch):
            raise DataError(BAD_FEATURES.format(name=name, found=values.shape, n=len(batch)))
        for index, row in zip(batch, values, strict=True):
            rows[index] = row
            file = files[index]
            if file is not None:
                _write(file, row)
    return np.stack([row for row in rows if row is not None])


def _cache_files(
    folder: Path | None,
    extractor: FeatureExtractor | CaptionedExtractor,
    images: npt.NDArray[np.uint8],
    captions: Sequence[str] | None,
) -> list[Path | None]:
    """Return the file of each row: named by the recipe and the content, bit by bit."""
    if folder is None:
        return [None] * len(images)
    recipe = [extractor.name, extractor.version, dict(extractor.params), images.shape[1:]]
    files: list[Path | None] = []
    for row, image in enumerate(images):
        words = [] if captions is None else [captions[row]]
        digest = hashlib.sha256(json.dumps(recipe + words, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(image).tobytes())
        key = digest.hexdigest()
        files.append(folder / extractor.name / key[:2] / f'{key}.npy')
    return files


def _read(file: Path) -> Float32Array | None:
    """Read a cached row; None where there is none or where it is damaged."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        return None
    return cast('Float32Array', np.load(io.BytesIO(body), allow_pickle=False))


def _write(file: Path, row: Float32Array) -> None:
    """Write a row under its final name at once, whole; the last of several writers wins."""
    buffer = io.BytesIO()
    np.save(buffer, row, allow_pickle=False)
    body = buffer.getvalue()
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, suffix='.tmp')
    try:
        with os.fdopen(handle, 'wb') as stream:
            # numpy reads the array and leaves the digest behind it alone
            stream.write(body + hashlib.sha256(body).digest())
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
