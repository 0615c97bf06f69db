"""How movie networks are judged: voxels over time, frames by structural similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import Float32Array


def voxel_r(
    truth: npt.NDArray[np.floating[Any]],
    prediction: npt.NDArray[np.floating[Any]],
    films: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Correlation over time of each voxel, all films together, each z-scored first.

    Parameters
    ----------
    truth, prediction
        Shape (n_samples, n_voxels).
    films
        One label per sample; None: one film.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,); see :func:`~bids_neurodecode.evaluation.voxels.pearson_by_column`.
    """
    labels = np.zeros(len(truth)) if films is None else np.asarray(films)
    a, b = np.array(truth, dtype=np.float64), np.array(prediction, dtype=np.float64)
    for label in np.unique(labels):
        rows = labels == label
        for values in (a, b):
            values[rows] = Standardizer.fit(values[rows]).apply(values[rows])
    return pearson_by_column(a, b)


def frame_ssim(truth: npt.NDArray[Any], reconstruction: npt.NDArray[Any]) -> Float32Array:
    """Structural similarity of colour frames (n, height, width, 3) in [0, 1]: (n,).

    Parameters
    ----------
    truth, reconstruction
        Frames, pair by pair.
    """
    import torch

    from bids_neurodecode.models.losses import ssim

    a, b = (
        torch.from_numpy(np.asarray(x, dtype=np.float32)).permute(0, 3, 1, 2)
        for x in (truth, reconstruction)
    )
    parts = [ssim(x, y) for x, y in zip(torch.split(a, 64), torch.split(b, 64), strict=True)]
    return np.asarray(torch.cat(parts).numpy())


def target_frames(chunks: Sequence[Any], *, min_max: bool = False) -> Float32Array:
    """Return the frame of each chunk that is to be reconstructed, (n, height, width, 3).

    Parameters
    ----------
    chunks
        Frames of each sample, as the network is given them.
    min_max
        Whether each chunk is stretched from 0 to 1.
    """
    import torch

    from bids_neurodecode.models.losses import target_frame
    from bids_neurodecode.systems.movie.network import to_chunks

    frames = [
        target_frame(to_chunks(torch.as_tensor(chunks[row])[None], min_max))
        for row in range(len(chunks))
    ]
    return np.ascontiguousarray(torch.cat(frames).permute(0, 2, 3, 1).numpy())
