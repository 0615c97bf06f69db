"""The movie encoder (film to voxels) and decoder (voxels to a frame), arXiv 2507.12009.

Chunks of film are (n, 3, height, width, n_frames), time last, values in [0, 1]; responses are
(n, n_voxels). With the defaults and 4,609 voxels the encoder has 63,766,593 parameters and the
published decoder 43,547,721.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from bids_neurodecode.errors import ArgumentsError, DataError

BAD_DESIGN = (
    'A movie network needs at least one voxel and one channel everywhere, frames of a multiple '
    'of 8 pixels, an even number of frames a chunk and a dropout in [0, 1): {found}.'
)
WRONG_CHUNKS = 'The encoder takes chunks of shape (n, {expected}); these are {found}.'
WRONG_VOXELS = 'The decoder takes responses of shape (n, {expected}); these are {found}.'

_SCALE = 8  # both ways, three steps of two between the frame and the smallest map


@dataclass(frozen=True)
class MovieDesign:
    """Sizes of the two networks; the defaults are the published ones.

    Parameters
    ----------
    n_voxels
        Number of voxels.
    chunk
        Frames of film that belong to one volume (16, 32 or 64 in the paper).
    frame_size
        Height and width of a frame in pixels.
    spatial, temporal
        Channels after the convolution over space and the one over time.
    slices
        Channels of each time slice's own convolution.
    merged
        Channels after the slices are joined.
    decoder
        Channels throughout the decoder.
    dropout
        Share of the encoder's last features dropped in training.
    paper_bn
        Batch normalisation after the decoder's sigmoid, as published. Frames are then not bound
        to [0, 1].
    """

    n_voxels: int
    chunk: int = 32
    frame_size: int = 112
    spatial: int = 32
    temporal: int = 256
    slices: int = 128
    merged: int = 64
    decoder: int = 48
    dropout: float = 0.5
    paper_bn: bool = False

    def __post_init__(self) -> None:
        sizes = (self.n_voxels, self.spatial, self.temporal, self.slices, self.merged)
        fine = (
            min(*sizes, self.decoder) >= 1
            and self.frame_size >= _SCALE
            and self.frame_size % _SCALE == 0
            and self.chunk >= 2
            and self.chunk % 2 == 0
            and 0 <= self.dropout < 1
        )
        if not fine:
            raise ArgumentsError(BAD_DESIGN.format(found=self))

    @property
    def chunk_shape(self) -> tuple[int, int, int, int]:
        """Shape of one chunk, (3, height, width, n_frames)."""
        return (3, self.frame_size, self.frame_size, self.chunk)


class MovieEncoder(nn.Module):
    """Chunks of film (n, 3, height, width, n_frames) to responses (n, n_voxels).

    Two convolutions, over space and then over time, with no non-linearity between them; then each
    of the chunk's time slices has a convolution of its own (here the groups of one), and they are
    joined by channels.
    """

    def __init__(self, design: MovieDesign) -> None:
        super().__init__()
        self.design = design
        n_slices = design.chunk // 2
        self.space = nn.Conv3d(3, design.spatial, (3, 3, 1), padding=(1, 1, 0))
        self.time = nn.Conv3d(design.spatial, design.temporal, (1, 1, 5), padding=(0, 0, 2))
        self.halve = nn.MaxPool3d((2, 2, 1))
        self.pool_time = nn.AvgPool3d((1, 1, 2))
        self.slices = nn.Sequential(
            nn.Conv2d(
                n_slices * design.temporal, n_slices * design.slices, 3, padding=1, groups=n_slices
            ),
            nn.ReLU(),
            nn.BatchNorm2d(n_slices * design.slices),
        )
        self.merge = nn.Sequential(
            nn.Conv2d(n_slices * design.slices, design.merged, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(design.merged),
        )
        n_features = design.merged * (design.frame_size // _SCALE) ** 2
        self.readout = nn.Sequential(
            nn.Flatten(), nn.Dropout(design.dropout), nn.Linear(n_features, design.n_voxels)
        )

    def forward(self, chunks: Tensor) -> Tensor:
        """Predict responses (n, n_voxels)."""
        if chunks.shape[1:] != self.design.chunk_shape:
            expected = ', '.join(str(n) for n in self.design.chunk_shape)
            raise DataError(WRONG_CHUNKS.format(expected=expected, found=tuple(chunks.shape)))
        x = self.halve(self.space(chunks))
        x = self.pool_time(self.halve(self.time(x)))
        x = x.permute(0, 4, 1, 2, 3).flatten(1, 2)  # slice by slice, the channels of each
        return cast('Tensor', self.readout(self.merge(self.slices(x))))


class MovieDecoder(nn.Module):
    """Responses (n, n_voxels) to a frame (n, 3, height, width)."""

    def __init__(self, design: MovieDesign) -> None:
        super().__init__()
        self.design = design
        n, start = design.decoder, design.frame_size // _SCALE
        self.readin = nn.Sequential(
            nn.Linear(design.n_voxels, n * start**2), nn.ReLU(), nn.Unflatten(1, (n, start, start))
        )
        grow = [
            layer
            for _ in range(3)
            for layer in (
                nn.ConvTranspose2d(n, n, 5, padding=2),
                nn.ReLU(),
                nn.Upsample(scale_factor=2, mode='nearest'),
                nn.BatchNorm2d(n),
            )
        ]
        self.grow = nn.Sequential(*grow)
        paint: list[nn.Module] = [nn.ConvTranspose2d(n, 3, 5, padding=2), nn.Sigmoid()]
        if design.paper_bn:
            paint.append(nn.BatchNorm2d(3))
        self.paint = nn.Sequential(*paint)

    def forward(self, responses: Tensor) -> Tensor:
        """Reconstruct frames; in [0, 1] unless the design says ``paper_bn``."""
        if responses.ndim != 2 or responses.shape[1] != self.design.n_voxels:
            raise DataError(
                WRONG_VOXELS.format(expected=self.design.n_voxels, found=tuple(responses.shape))
            )
        return cast('Tensor', self.paint(self.grow(self.readin(responses))))
