"""Which voxels a reconstruction depends on, and in which regions they lie (arXiv 2507.12009)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import FloatArray

if TYPE_CHECKING:
    from torch import Tensor, nn

UNPAIRED = 'There must be one frame a response: {responses} responses, {frames} frames.'
BAD_FRAMES = 'Frames must be (n, height, width, 3) in [0, 1]; these are {found}.'
BAD_LABELS = 'There must be one region label a voxel: {voxels} voxels, {labels} labels.'
MOST = 0.2
"""Share of the voxels that count as the most salient."""
NO_SALIENCY = 'No voxel has any saliency: the reconstruction does not depend on the responses.'


def voxel_saliency(
    decoder: nn.Module,
    responses: npt.NDArray[np.floating[Any]],
    frames: npt.NDArray[np.floating[Any]],
    *,
    batch_size: int = 32,
) -> FloatArray:
    """Saliency of each voxel for the reconstruction of a film.

    The sum over volumes of the absolute derivative, by the response of the voxel, of the
    structural similarity of decoded and true frame, both stretched to [0, 1].

    Parameters
    ----------
    decoder
        From responses (n, n_voxels), in its own units, to frames (n, 3, height, width).
    responses
        What the decoder is fed, (n_samples, n_voxels): predicted or measured.
    frames
        The true frames, (n_samples, height, width, 3) in [0, 1].
    batch_size
        Volumes at once.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), not negative.

    Raises
    ------
    DataError
        If frames and responses do not fit each other.
    """
    import torch

    n = len(responses)
    if len(frames) != n:
        raise DataError(UNPAIRED.format(responses=n, frames=len(frames)))
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.min() < 0 or frames.max() > 1:
        raise DataError(BAD_FRAMES.format(found=frames.shape))
    device = next(decoder.parameters()).device
    was_training = decoder.training
    decoder.eval()
    similarity = _similarity(decoder)
    total = np.zeros(responses.shape[1])
    for start in range(0, n, batch_size):
        rows = slice(start, start + batch_size)
        seen = torch.tensor(responses[rows], dtype=torch.float32, device=device)
        truth = torch.tensor(frames[rows], dtype=torch.float32, device=device)
        seen.requires_grad_()
        # a row of responses makes one frame: the slope of the sum holds that of each
        scored = similarity(seen, truth.permute(0, 3, 1, 2)).sum()
        (slopes,) = torch.autograd.grad(scored, seen)
        total += slopes.abs().double().sum(0).cpu().numpy()
    decoder.train(was_training)
    return total


def saliency_by_region(
    saliency: FloatArray,
    labels: npt.ArrayLike,
    names: Mapping[int, str],
) -> pd.DataFrame:
    """Attribute the most salient voxels, a fifth of all, to regions.

    Parameters
    ----------
    saliency
        Shape (n_voxels,).
    labels
        The region of each voxel, (n_voxels,), integers.
    names
        Names of regions; voxels of other labels are ``other``.

    Returns
    -------
    pandas.DataFrame
        One row per region, the most over-represented first: ``region``, ``n_voxels``, ``share``
        (of the most salient voxels), ``size`` (share of all voxels), ``relative`` (share over
        size: 1 is what chance gives, as large regions win by count), ``mean_relative`` (mean
        saliency of the region over that of all voxels).

    Raises
    ------
    DataError
        If the labels do not fit, or no voxel is salient.
    """
    region = np.asarray(labels)
    if region.shape != saliency.shape:
        raise DataError(BAD_LABELS.format(voxels=saliency.shape, labels=region.shape))
    if not saliency.max() > 0:
        raise DataError(NO_SALIENCY)
    n_top = max(1, round(MOST * len(saliency)))
    chosen = np.zeros(len(saliency), dtype=bool)
    chosen[np.argsort(-saliency, kind='stable')[:n_top]] = True
    rows = []
    named = {int(code): names.get(int(code), 'other') for code in np.unique(region)}
    for name in sorted(set(named.values())):
        inside = np.isin(region, [code for code, n in named.items() if n == name])
        share, size = float(inside[chosen].mean()), float(inside.mean())
        rows.append(
            {
                'region': name,
                'n_voxels': int(inside.sum()),
                'share': share,
                'size': size,
                'relative': share / size,
                'mean_relative': float(saliency[inside].mean() / saliency.mean()),
            }
        )
    table = pd.DataFrame(rows).sort_values('relative', ascending=False, kind='stable')
    return table.reset_index(drop=True)


def _similarity(decoder: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the similarity of stretched frames as a function of responses: (n,)."""
    from bids_neurodecode.models.losses import ssim
    from bids_neurodecode.models.perceptual import stretch

    def similarity(responses: Tensor, frames: Tensor) -> Tensor:
        decoded = stretch(decoder(responses), (1, 2, 3))
        return ssim(decoded, stretch(frames, (1, 2, 3)))

    return similarity
