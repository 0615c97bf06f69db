"""Films to features of the frames that each volume shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.stimuli.features import FeatureExtractor, extract_features
from bids_neurodecode.stimuli.films import read_frames

FRAMES_PER_VOLUME = 4
"""Frames, evenly over each volume, whose features are taken."""


def volume_features(
    film: Path,
    onsets: npt.NDArray[np.floating[Any]],
    period: float,
    extractor: FeatureExtractor,
    image_size: int,
    cache_dir: Path | None = None,
) -> npt.NDArray[np.float32]:
    """Describe the frames that a film shows in each volume.

    Parameters
    ----------
    film
        The film.
    onsets
        Seconds of the film at which volumes begin, ascending, (n_volumes,).
    period
        Seconds a volume.
    extractor
        Describes frames.
    image_size
        Pixels a side at which frames are described.
    cache_dir
        Where features are kept by content; None keeps none.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, :data:`FRAMES_PER_VOLUME`, n_features).
    """
    steps = (np.arange(FRAMES_PER_VOLUME) + 0.5) * period / FRAMES_PER_VOLUME
    times = (np.asarray(onsets, dtype=float)[:, None] + steps).ravel()
    frames = read_frames(film, times, (image_size, image_size))
    features = extract_features(frames, extractor, cache_dir=cache_dir)
    return features.reshape(len(onsets), FRAMES_PER_VOLUME, -1)
