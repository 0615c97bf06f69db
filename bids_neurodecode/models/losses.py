"""Losses of the movie networks: responses, images, and their sum (arXiv 2507.12009).

Responses are (n, n_voxels); images (n, 3, height, width). Whatever the precision of training,
losses are computed in float32: variances as differences do not survive sixteen bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.perceptual import PictureMaps, perceptual_distance

BAD_WEIGHTS = 'Weights of the losses must not be negative, and those in use not all zero: {found}.'
NO_FEATURES = (
    'The perceptual loss has weight {weight:g} but no features to compare. Choose "vgg16" or '
    '"gabor" features, or set its weight to 0.'
)
SMALL_PICTURES = (
    'Structural similarity needs images of one shape (n, channels, height, width) with at least '
    '{window} pixels a side: {a} and {b}.'
)

Mode = Literal['joint', 'encoder', 'decoder']

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts.

    With E the loss of responses and D that of images::

        E = MSE + cosine * (1 - cosine similarity)
        D = perceptual * distance + structure * (1 - SSIM) + smooth * TV
        joint loss = responses * E + (1 - responses) * D

    Parameters
    ----------
    paper_mse
        Divide the mean squared error by the number of voxels once more, as the published code
        does: it is then negligible, and nothing holds the scale of the predictions.
    """

    responses: float = 0.5
    cosine: float = 0.5
    perceptual: float = 0.35
    structure: float = 0.35
    smooth: float = 0.30
    paper_mse: bool = False

    def __post_init__(self) -> None:
        pictures = (self.perceptual, self.structure, self.smooth)
        fine = min(self.cosine, *pictures) >= 0 and 0 <= self.responses <= 1 and sum(pictures) > 0
        if not fine:
            raise ArgumentsError(BAD_WEIGHTS.format(found=self))


def response_loss(prediction: Tensor, truth: Tensor, weights: LossWeights) -> dict[str, Tensor]:
    """Loss of responses: ``voxel_mse``, ``voxel_cosine`` (1 - similarity) and their sum ``E``.

    The cosine is over voxels, averaged over samples.

    Parameters
    ----------
    prediction, truth
        Responses, (n_samples, n_voxels) each.
    weights
        Weight of the cosine, and whether the mean square is divided by voxels as published.
    """
    prediction, truth = prediction.float(), truth.float()
    mse = functional.mse_loss(prediction, truth)
    cosine = 1 - functional.cosine_similarity(prediction, truth, dim=1).mean()
    scaled = mse / truth.shape[1] if weights.paper_mse else mse
    return {'voxel_mse': mse, 'voxel_cosine': cosine, 'E': scaled + weights.cosine * cosine}


def picture_loss(
    prediction: Tensor, truth: Tensor, weights: LossWeights, features: PictureMaps | None
) -> dict[str, Tensor]:
    """Loss of images: ``perceptual``, ``ssim`` (the similarity), ``tv``, and their sum ``D``.

    Parameters
    ----------
    features
        What the perceptual distance compares; None only where its weight is 0.

    Raises
    ------
    ArgumentsError
        If the perceptual distance has a weight and no features.
    """
    if features is None and weights.perceptual > 0:
        raise ArgumentsError(NO_FEATURES.format(weight=weights.perceptual))
    prediction, truth = prediction.float(), truth.float()
    similarity = ssim(prediction, truth).mean()
    variation = total_variation(prediction)
    total = weights.structure * (1 - similarity) + weights.smooth * variation
    terms = {'ssim': similarity, 'tv': variation}
    if features is not None and weights.perceptual > 0:
        terms['perceptual'] = perceptual_distance(features, prediction, truth)
        total = total + weights.perceptual * terms['perceptual']
    return {**terms, 'D': total}


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each pair of images, mean over channels.

    Gaussian window of 11 pixels and sigma 1.5, population covariance, values in [0, 1], only
    where the window fits (Wang et al. 2004, IEEE TIP 13:600).

    Parameters
    ----------
    a, b
        Shape (n, channels, height, width).

    Returns
    -------
    torch.Tensor
        Shape (n,), at most 1.

    Raises
    ------
    DataError
        If shapes differ or are smaller than the window.
    """
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[2:]) < _WINDOW:
        raise DataError(SMALL_PICTURES.format(window=_WINDOW, a=tuple(a.shape), b=tuple(b.shape)))
    with torch.autocast(a.device.type, enabled=False):
        a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
        window = _gaussian(a)
        moments = torch.stack([a, b, a * a, b * b, a * b])  # one pass over all five
        mean_a, mean_b, aa, bb, ab = _blur(moments, window)
        var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
        luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
        structure = (2 * cov + _C2) / (var_a + var_b + _C2)
        return cast('Tensor', (luminance * structure).mean((1, 2, 3)))


def total_variation(pictures: Tensor) -> Tensor:
    """Anisotropic total variation over the number of values (a scalar)."""
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().sum()
    across = (pictures[..., :, 1:] - pictures[..., :, :-1]).abs().sum()
    return (down + across) / pictures.numel()


class MovieObjective(nn.Module):
    """The networks that are trained with the loss that trains them.

    Parameters
    ----------
    encoder, decoder
        What is trained; None leaves it out. Both: the decoder is fed the encoder's predictions,
        and its loss reaches the encoder. The decoder alone is fed measured responses.
    weights
        How much each part counts.
    features
        What the perceptual distance compares (kept out of the state: it is not trained).
    """

    def __init__(
        self,
        encoder: nn.Module | None,
        decoder: nn.Module | None,
        weights: LossWeights,
        features: PictureMaps | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.weights, self.features = weights, features

    def forward(self, chunks: Tensor, responses: Tensor) -> dict[str, Tensor]:
        """Return the loss under ``loss`` and each of its terms.

        Parameters
        ----------
        chunks
            Film (n, 3, height, width, n_frames); for the decoder alone, its frames to
            reconstruct (n, 3, height, width) will do.
        responses
            Measured responses (n, n_voxels).
        """
        terms: dict[str, Tensor] = {}
        seen = responses
        if self.encoder is not None:
            seen = self.encoder(chunks)
            terms.update(response_loss(seen, responses, self.weights))
        if self.decoder is not None:
            frames = chunks if chunks.ndim == 4 else target_frame(chunks)
            terms.update(picture_loss(self.decoder(seen), frames, self.weights, self.features))
        return {'loss': self._total(terms), **terms}

    def _total(self, terms: dict[str, Tensor]) -> Tensor:
        if 'D' not in terms:
            return terms['E']
        if 'E' not in terms:
            return terms['D']
        share = self.weights.responses
        return share * terms['E'] + (1 - share) * terms['D']


def target_frame(chunks: Tensor) -> Tensor:
    """Return the frame that the decoder reconstructs: the last before the middle (15 of 32)."""
    return chunks[..., chunks.shape[-1] // 2 - 1]


def _gaussian(like: Tensor) -> Tensor:
    offsets = torch.arange(_WINDOW, device=like.device, dtype=like.dtype) - _WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    return window / window.sum()


def _blur(values: Tensor, window: Tensor) -> Tensor:
    """Blur the last two of (..., height, width) where the window fits.

    As products with banded matrices: on a CPU some twenty times as fast, backwards, as
    convolutions of one channel.
    """
    down, across = (_band(n, window) for n in values.shape[-2:])
    return down @ values @ across.T


def _band(n: int, window: Tensor) -> Tensor:
    """Return the matrix that slides the window over n values, (n - len(window) + 1, n)."""
    band = window.new_zeros(n - len(window) + 1, n)
    for offset, weight in enumerate(window):
        band.diagonal(offset).fill_(weight)
    return band
