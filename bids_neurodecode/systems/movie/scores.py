"""How movie networks are judged: voxels over time, frames by structural similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import Float32Array


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
