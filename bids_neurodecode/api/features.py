"""Features of images, with the extractors of the program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.api.usage import speaking_of_arguments
from bids_neurodecode.errors import UsageError
from bids_neurodecode.typing import Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.stimuli.features import FeatureExtractor

NO_FILES = 'There is no image in the folder {folder}. Give files, or another folder.'
NOT_IMAGES = 'images is {found}; give files, a folder, or an array of uint8 (n, h, w, 3).'


def extract_features(
    images: Any,
    extractor: str | FeatureExtractor = 'gabor',
    *,
    size: int | None = 64,
    cache_dir: str | Path | None = None,
    **parameters: Any,
) -> npt.NDArray[np.float32]:
    """Turn images into features.

    Parameters
    ----------
    images
        Files, a folder (its images in order of their names), or an array of uint8,
        (n, h, w, 3).
    extractor
        ``gabor`` needs no weights; ``clip``, ``dinov2`` and ``blip`` need theirs on this machine
        (``bids_neurodecode-tools weights``). Or an object with a method ``transform`` of one's
        own, see :class:`bids_neurodecode.stimuli.features.FeatureExtractor`.
    size
        Pixels a side that files are brought to (the rest is padded with mid-grey); None keeps
        theirs, which must be equal. Arrays stay as they are.
    cache_dir
        Folder in which features are kept by content; they are computed each time if left out.
    **parameters
        Of the extractor.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_features), float32.

    Raises
    ------
    UsageError
        If there is no such extractor, or it takes no such parameter.
    InputError
        If a file is no image that can be read.

    Examples
    --------
    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    >>> nd.extract_features(images).shape[0]
    3
    """
    from bids_neurodecode.stimuli import features

    with speaking_of_arguments():
        pictures = load(images, size)
        if isinstance(extractor, str):
            extractor = features.get_extractor(extractor, **parameters)
        cache = None if cache_dir is None else Path(cache_dir)
        return features.extract_features(pictures, extractor, cache_dir=cache)


def load(images: Any, size: int | None) -> Uint8Array:
    """Return images as uint8, (n, h, w, 3); see :func:`~bids_neurodecode.extract_features`.

    Parameters
    ----------
    images
        Array (n, h, w, 3), a file, a folder of images, or a list of files.
    size
        Pixels a side that files are brought to; None leaves them as they are.
    """
    from bids_neurodecode.stimuli.images import SUFFIXES, load_images

    if isinstance(images, np.ndarray):
        return images
    if isinstance(images, str | Path):
        folder = Path(images)
        files = [folder]
        if folder.is_dir():
            files = sorted(x for x in folder.iterdir() if x.suffix.lower() in SUFFIXES)
        if not files:
            raise UsageError(NO_FILES.format(folder=folder))
        return load_images(files, size=size)
    if isinstance(images, Sequence) and all(isinstance(x, str | Path) for x in images):
        return load_images(list(images), size=size)
    raise UsageError(NOT_IMAGES.format(found=type(images).__name__))
