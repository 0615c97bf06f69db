"""Motion energy of films: spatio-temporal Gabor filters, by the package pymoten.

As in Nishimoto et al. 2011 (Current Biology 21:1641). The package is optional (extra ``motion``).
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.stimuli.films import read_frames
from bids_neurodecode.typing import Float32Array

NOT_INSTALLED = (
    'movie.motion = "energy" needs the package pymoten, which is not installed. '
    'Install it (pip install "bids-neurodecode[motion]"), or set movie.motion = "changes".'
)
FRAMES_PER_SECOND = 12
"""The fastest filters see 4 Hz."""
SIZE = (64, 96)
"""Height and width at which motion is looked at, in pixels."""
FILTERS_AT_ONCE = 128
FRAMES_AT_ONCE = 1200
_VERSION = 2  # raise whenever the same film gives other frames

TOO_FEW_FRAMES = 'Changes need at least two frames a volume; features of shape {found} have fewer.'


def has_motion_energy() -> bool:
    """Tell whether pymoten is installed."""
    return importlib.util.find_spec('moten') is not None


def require_motion_energy() -> None:
    """Refuse to go on without pymoten.

    Raises
    ------
    ArgumentsError
        If it is not installed.
    """
    if not has_motion_energy():
        raise ArgumentsError(NOT_INSTALLED)


def motion_energy(frames: npt.NDArray[np.uint8], frames_per_second: float) -> Float32Array:
    """Return the energy of each filter of pymoten's default pyramid at each frame.

    Parameters
    ----------
    frames
        Shape (n_frames, height, width, 3), RGB, in order of time.
    frames_per_second
        Of these frames.

    Returns
    -------
    numpy.ndarray
        Shape (n_frames, n_filters): log of the root of the summed squares of a filter's two
        phases, on the lightness of CIE-Lab (0 to 100).
    """
    require_motion_energy()
    from moten.pyramids import MotionEnergyPyramid
    from skimage.color import rgb2lab

    light = np.stack([rgb2lab(frame)[..., 0] for frame in frames]).astype(np.float32)
    pyramid: Any = MotionEnergyPyramid(
        stimulus_vhsize=frames.shape[1:3], stimulus_fps=frames_per_second
    )
    energy = pyramid.project_stimulus_batched(
        light, batch_size=FILTERS_AT_ONCE, stimulus_batch_size=FRAMES_AT_ONCE
    )
    return np.asarray(energy, dtype=np.float32)


def film_motion(
    film: Path, n_volumes: int, repetition_time: float, *, cache_dir: Path | None = None
) -> Float32Array:
    """Average the motion energy of a film over each volume.

    Parameters
    ----------
    film
        The file.
    n_volumes
        Volumes from the film's start on.
    repetition_time
        Seconds a volume.
    cache_dir
        Keeps the result by the content of the film.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_filters).
    """
    with film.open('rb') as stream:
        digest = hashlib.file_digest(stream, 'sha256')
    digest.update(f'{_VERSION} {n_volumes} {repetition_time} {FRAMES_PER_SECOND} {SIZE}'.encode())
    kept = None if cache_dir is None else cache_dir / f'motion-{digest.hexdigest()[:24]}.npy'
    if kept is not None and kept.exists():
        return np.asarray(np.load(kept), dtype=np.float32)
    times = np.arange(0, n_volumes * repetition_time, 1 / FRAMES_PER_SECOND)
    energy = motion_energy(read_frames(film, times, SIZE), FRAMES_PER_SECOND)
    volume = np.minimum((times / repetition_time + 1e-9).astype(np.intp), n_volumes - 1)
    starts = np.searchsorted(volume, np.arange(n_volumes))
    counts = np.diff(np.append(starts, len(times)))
    mean = np.add.reduceat(energy, starts, axis=0) / counts[:, None]
    result = mean.astype(np.float32)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f'.{digest.hexdigest()[24:32]}.part')
        with part.open('wb') as stream:
            np.save(stream, result)
        part.replace(kept)
    return result


def frame_changes(features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Average the absolute change of each feature between successive frames of a volume.

    Parameters
    ----------
    features
        Shape (n_volumes, n_frames, n_features), frames in order of time.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_features), not negative.

    Raises
    ------
    DataError
        For fewer than two frames.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise DataError(TOO_FEW_FRAMES.format(found=features.shape))
    return np.asarray(np.abs(np.diff(features, axis=1)).mean(axis=1), dtype=np.float32)
