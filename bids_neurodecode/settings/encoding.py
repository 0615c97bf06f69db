"""Settings of the encoding system: which model, of which features, and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bids_neurodecode.extensions import EXTRACTORS, installed
from bids_neurodecode.settings.base import Settings

TABLE = 'table'
"""The band that stands for all those of a user's table."""
UNKNOWN_BAND = 'no installed package brings an extractor of that name'


def _installed(name: str) -> str:
    if name.partition(':')[0] not in installed(EXTRACTORS):
        raise ValueError(UNKNOWN_BAND)
    return name


Band = (  # fmt: skip
    Literal[
        'gabor',
        'clip',
        'dinov2',
        'blip',
        'blip-caption',
        'table',
        'efficientnet-lite0',
        'efficientnet-lite2',
        'mobilenetv2',
        'wordllama',
    ]
    | Annotated[str, Field(pattern=r'^table:[A-Za-z0-9][A-Za-z0-9_.-]*$')]
    | Annotated[str, Field(pattern=r'^(efficientnet-lite[02]|mobilenetv2):(stage[1-7]|avgpool)$')]
    | Annotated[str, AfterValidator(_installed)]
)


class EncodingSettings(Settings):
    """The encoding system (images to responses)."""

    model: Literal['ridge', 'banded', 'linear', 'mlp', 'siren', 'cnn', 'shared'] = 'ridge'
    """Ridge (all feature spaces side by side), banded ridge, a network, or a head that
    participants share (trained at group level) under a linear layer of the participant; ridge
    stays beside."""
    shared_head: Path | None = None
    """The shared head (``group/models/*_desc-shared_model.safetensors`` of an output folder); the
    participant level needs it with the model ``shared``."""
    bands: Annotated[tuple[Band, ...], Field(min_length=1)] = ('gabor',)
    """Names of the feature extractors whose features are the feature spaces. ``clip``, ``dinov2``,
    ``blip`` and ``blip-caption`` need pretrained weights; ``efficientnet-lite0`` (and ``-lite2``),
    ``mobilenetv2`` and ``wordllama`` the extra ``cpu-nets``; ``blip-caption`` and ``wordllama``
    also ``stimuli/captions.tsv``. ``efficientnet-lite0:stage5`` is one layer of a network
    (``stage1`` to ``stage7``, averaged over 4 x 4 places; ``avgpool`` if left out). Not set, for
    ridge and banded ridge where ``cpu-nets`` is installed: Gabor energies and two layers of
    EfficientNet-Lite0.
    ``table`` is every band of the table of ``features.table``, ``table:NAME`` one of them. Other
    packages may bring further ones."""
    partition: bool = False
    """Partition the explained variance between the feature spaces (two or more)."""
    voxels: Literal['mask', 'volume'] = 'mask'
    """What is predicted: the voxels of the brain mask (or of the regions of an atlas), or the
    whole volume as the CNN does; scores are of the mask either way."""
    average_training: bool = False
    """Fit on the mean of each image's training trials instead of on single trials."""
    n_training: Annotated[int, Field(ge=2)] | None = None
    """Number of training images, drawn at random; all if left out."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Voxels with a noise ceiling at or below this are left out of noise-normalised scores."""
    hidden: Annotated[int, Field(ge=1)] = 256
    """Units of the hidden layers of the per-query MLP."""
    n_queries: Annotated[int, Field(ge=1)] = 1
    """Queries that the features are cut into (per-query MLP): 768 for BLIP with captions."""
    width: Annotated[int, Field(ge=1)] = 256
    """Units of the layers of SIREN."""
    w0: Annotated[float, Field(gt=0)] = 5.0
    """Frequency of SIREN's first sines. Published: 30, for coordinates between -1 and 1; on
    components of features that predicts at chance (docs/evidence/encoding.md)."""
    network_components: Annotated[int, Field(ge=1)] | None = 100
    """Principal components of the features that a network takes; ``none``: the features as they
    are (queries and maps need that)."""
    loss: Literal['l1', 'l2', 'huber'] = 'l2'
    """Loss of the networks."""
    l1_weights: Annotated[float, Field(ge=0)] = 0.0
    """Penalty on the absolute weights of a network."""
    l2_weights: Annotated[float, Field(ge=0)] = 0.0
    """Penalty on the squared weights of a network."""
    n_epochs: Annotated[int, Field(ge=1)] = 50
    """The most epochs."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Samples a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of AdamW."""
    patience: Annotated[int, Field(ge=1)] | None = 5
    """Epochs without a better validation loss after which training stops; ``none``: never."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that decides when to stop."""
    precision: Literal['float32', 'tf32', 'bfloat16', 'float16'] = 'float32'
    """Of activations in training; weights are float32. ``tf32``: float32, multiplied with fewer
    bits on a GPU."""
    compile: bool = False
    """Whether the network is compiled before it is trained (``torch.compile``): a minute at the
    start for faster steps on a GPU; needs a C compiler."""

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if len(set(self.bands)) < len(self.bands):
            msg = f'every band once: {", ".join(self.bands)}'
            raise ValueError(msg)
        if self.partition and len(self.bands) < 2 and TABLE not in self.bands:
            msg = 'a partition (encoding.partition) needs two or more bands (encoding.bands)'
            raise ValueError(msg)
        if self.voxels == 'volume' and self.model in {'ridge', 'banded', 'shared'}:
            msg = (
                'the whole volume (encoding.voxels) is for networks: choose another encoding.model'
            )
            raise ValueError(msg)
        return self
