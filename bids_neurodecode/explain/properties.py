"""Properties of film that need no labels, and the concepts that follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import FloatArray

BAD_CHUNKS = 'Chunks must be bytes (n, n_frames, height, width, 3); these are {found}.'
TOO_FEW = 'Of {n} chunks, a share of {share:g} leaves none to make a concept. Take a larger share.'

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709


def chunk_properties(chunks: npt.NDArray[np.uint8]) -> dict[str, FloatArray]:
    """Measure the luminance of each chunk.

    Parameters
    ----------
    chunks
        Shape (n, n_frames, height, width, 3), uint8.

    Returns
    -------
    dict
        ``brightness`` (mean), ``contrast`` (deviation over pixels), ``edges`` (mean size of the
        gradient over space) and ``motion`` (mean change from frame to frame), each (n,), in
        units of the range from black to white.
    """
    if chunks.ndim != 5 or chunks.shape[-1] != 3 or chunks.dtype != np.uint8:
        raise DataError(BAD_CHUNKS.format(found=f'{chunks.dtype} {chunks.shape}'))
    found: dict[str, list[float]] = {'brightness': [], 'contrast': [], 'edges': [], 'motion': []}
    for chunk in chunks:  # one by one: a film in floating point would not fit
        grey = chunk @ _LUMINANCE / 255
        down, across = np.gradient(grey, axis=(1, 2))
        found['brightness'].append(float(grey.mean()))
        found['contrast'].append(float(grey.std(axis=(1, 2)).mean()))
        found['edges'].append(float(np.hypot(down, across).mean()))
        found['motion'].append(float(np.abs(np.diff(grey, axis=0)).mean()))
    return {name: np.array(values) for name, values in found.items()}


def concept_rows(values: npt.NDArray[np.floating[Any]], *, share: float) -> npt.NDArray[np.bool_]:
    """Choose the examples of a concept.

    Parameters
    ----------
    values
        A property of each chunk, (n,).
    share
        The chunks with the highest values, this share of all, are the concept.

    Returns
    -------
    numpy.ndarray
        Which chunks they are, (n,).
    """
    size = round(share * len(values))
    if size < 1 or size >= len(values):
        raise DataError(TOO_FEW.format(n=len(values), share=share))
    inside = np.zeros(len(values), dtype=bool)
    inside[np.argsort(-values, kind='stable')[:size]] = True
    return inside
