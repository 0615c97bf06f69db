"""Settings of the movie system: which model, how large, how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bids_neurodecode.settings.base import Settings

Weight = Annotated[float, Field(ge=0)]
Width = Annotated[int, Field(ge=1)]

DESIGNS: Mapping[str, Mapping[str, int]] = {
    'published': {
        'chunk': 32, 'frame_size': 112, 'spatial': 32, 'temporal': 256, 'slices': 128,
        'merged': 64, 'decoder': 48,
    },
    'small': {
        'chunk': 16, 'frame_size': 48, 'spatial': 8, 'temporal': 16, 'slices': 8, 'merged': 16,
        'decoder': 16,
    },
}  # fmt: skip
"""Sizes of the named networks; ``small`` trains on a CPU."""


class MovieSettings(Settings):
    """The movie system (films)."""

    model: Literal['linear', 'network'] = 'linear'
    """``linear``: features of frames, delays, ridge. ``network``: the encoder and decoder of
    arXiv 2507.12009 as well; the linear models stay beside it."""
    banded: Literal['auto', 'on', 'off'] = 'auto'
    """Banded ridge on the features of frames and on motion (see ``motion``). ``auto``: beside the
    network."""
    target: Literal['participant', 'group'] = 'participant'
    """Whose responses the models learn. ``group``: the mean over participants, at group level,
    from the aligned series of the participant level, which then leaves the network and the choice
    of voxels to the group level."""
    motion: Literal['auto', 'changes', 'energy'] = 'auto'
    """The second band of banded ridge. ``energy``: motion energy by the package pymoten (extra
    ``motion``). ``changes``: how much features change from frame to frame. ``auto``: ``energy``
    where pymoten is installed; the report says which."""
    mode: Literal['joint', 'encoder', 'decoder'] = 'joint'
    """Film to responses, responses to frames, or both trained together."""
    design: Literal['published', 'small'] = 'published'
    """Sizes of the network; the published ones ask for a GPU, the small ones train on a CPU."""
    chunk: Literal[16, 32, 64] | None = None
    """Frames of film a volume; the design's (32, small: 16) if left out."""
    frame_size: Annotated[int, Field(ge=16, multiple_of=8)] | None = None
    """Pixels a side of a frame; the design's (112, small: 48) if left out."""
    widths: tuple[Width, Width, Width, Width, Width] | None = None
    """Channels: over space, over time, of a time slice, merged, of the decoder; the design's if
    left out."""
    max_voxels: Annotated[int, Field(ge=1)] | None = 5000
    """At most this many voxels: those that ridge regression predicts best in folds within the
    training samples; ``none`` for all."""
    standardize: bool = True
    """Z-score each voxel by its training samples; published: false."""
    timing: Literal['clock', 'paper'] = 'clock'
    """Frames at their times, or spread evenly over the film (published)."""
    borders: Literal['keep', 'crop'] = 'keep'
    """What becomes of black borders."""
    min_max: bool = False
    """Stretch each frame to the whole range of brightness (published: true)."""
    paper_bn: bool = False
    """Batch normalisation after the decoder's sigmoid, as published."""
    paper_mse: bool = False
    """Divide the squared error by the number of voxels once more, as published."""
    perceptual: Literal['none', 'gabor', 'vgg16'] = 'gabor'
    """What the perceptual loss compares; ``vgg16`` needs its weights in --weights-dir."""
    weight_responses: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the loss of responses in joint training; the rest is that of frames."""
    weight_cosine: Weight = 0.5
    """Weight of the cosine distance in the loss of responses."""
    weight_perceptual: Weight = 0.35
    """Weight of the perceptual distance in the loss of frames; no part of it with ``none``."""
    weight_structure: Weight = 0.35
    """Weight of the structural dissimilarity in the loss of frames."""
    weight_smooth: Weight = 0.3
    """Weight of the total variation in the loss of frames."""
    n_epochs: Annotated[int, Field(ge=1)] = 30
    """The most epochs (published: 11)."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Volumes a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Of Adam."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradients are cut to this norm; ``none``: as they are (published)."""
    patience: Annotated[int, Field(ge=1)] | None = 5
    """Epochs without a better validation loss after which training stops, and the best epoch is
    kept; ``none``: all epochs, the last is kept (published)."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of each film's training samples (their end, after the gap of the split) that decides
    when to stop."""
    precision: Literal['float32', 'tf32', 'bfloat16', 'float16'] = 'float32'
    """Of activations in training; weights are float32. ``tf32``: float32, multiplied with fewer
    bits on a GPU."""
    compile: bool = False
    """Whether the network is compiled before it is trained (``torch.compile``): a minute at the
    start for faster steps on a GPU; needs a C compiler."""
    explain: tuple[Literal['saliency', 'perturbation', 'concepts'], ...] = (
        'saliency',
        'perturbation',
    )
    """How the trained network is explained: slopes of the reconstruction by voxel, regions of the
    atlas disturbed, concepts that its predictions depend on."""
    saliency: Literal['scaled', 'slope'] = 'scaled'
    """Slopes times the deviation of what the decoder reads, or slopes alone (published), which
    a decoder also has for voxels that never vary in what it reads."""
    concepts: Path | None = None
    """A folder of a user's concepts: one folder of images each (ten or more)."""
    explain_kinds: Annotated[tuple[Literal['zero', 'noise', 'gain'], ...], Field(min_length=1)] = (
        'zero',
        'noise',
        'gain',
    )
    """What is done to the responses of a region: set to their mean, replaced by noise of the same
    mean and deviation, or amplified."""
    explain_gain: Annotated[float, Field(gt=0)] = 4.0
    """Factor of ``gain``."""
    explain_random: Annotated[int, Field(ge=19)] = 199
    """At most this many sets of voxels like it that a disturbed region is compared with."""
    concept_permutations: Annotated[int, Field(ge=19)] = 999
    """Random concepts, as contiguous in time, that a concept is compared with."""
    explain_regions: Annotated[int, Field(ge=1)] = 12
    """At most this many regions, the largest, are disturbed and tested for concepts."""
    explain_frames: Annotated[int, Field(ge=1)] = 12
    """Held-out frames, evenly over them, that perturbation looks at."""

    @model_validator(mode='after')
    def _some_loss(self) -> Self:
        frames = self.weight_structure + self.weight_smooth
        frames += self.weight_perceptual if self.perceptual != 'none' else 0
        if self.mode != 'encoder' and frames == 0:
            msg = 'the loss of frames has no part with a weight above 0'
            raise ValueError(msg)
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the network by the names of :data:`DESIGNS`."""
        sizes = dict(DESIGNS[self.design])
        names = ('spatial', 'temporal', 'slices', 'merged', 'decoder')
        if self.widths is not None:
            sizes |= dict(zip(names, self.widths, strict=True))
        given = {'chunk': self.chunk, 'frame_size': self.frame_size}
        return sizes | {name: value for name, value in given.items() if value is not None}

    @property
    def with_banded(self) -> bool:
        """Whether banded ridge is fitted."""
        return self.banded == 'on' or (self.banded == 'auto' and self.model == 'network')
