"""Settings of the reconstruction system: from responses to images in two stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bids_neurodecode.errors import ArgumentsError, retold
from bids_neurodecode.extensions import (
    GENERATORS,
    OWN_GENERATORS,
    OwnGenerator,
    find_generator,
    installed,
    unknown,
)
from bids_neurodecode.settings.base import Settings

Positive = Annotated[float, Field(gt=0)]


class ReconstructionSettings(Settings):
    """Images from responses, in two stages (Brain-Diffuser, arXiv 2412.13237)."""

    generator: OwnGenerator | str = 'auto'
    """``none``: decode features and retrieve images only. ``small``: the self-contained prior
    and refiner, trained on the training images. ``published``: VDVAE (ImageNet-64) and Versatile
    Diffusion (``versatile-diffusion``), which need weights and, in practice, a GPU; the others
    take a pipeline of diffusers, guided by one decoded image embedding, in its place; a file
    (``.toml``) is the recipe of a further one, whose weights are entries of the manifest or
    folders beside the file. ``auto``: ``published`` where its weights and a GPU are there, else
    ``small``. Other packages may bring further ones."""
    latents: Annotated[int, Field(ge=1)] | None = None
    """How many of the VDVAE's latents are decoded (published: 15 or 31), the first ones; all of
    the small prior's, and 31 of the published one's, if left out."""
    regressor: Literal[
        'ridge', 'gru', 'conv', 'transformer', 'regions-gru', 'regions-transformer'
    ] = 'ridge'
    """From responses to latents."""
    ridge_alphas: Literal['cv', 'paper'] = 'cv'
    """Penalties chosen by cross-validation, or the published ones."""
    renorm: Literal['inductive', 'transductive', 'none'] = 'inductive'
    """Predictions get the mean and deviation of the training targets back: by those of
    cross-validated training predictions, or (as published) of the test predictions."""
    n_hidden: Annotated[int, Field(ge=1)] = 100
    """Units of each direction of the networks."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Of the networks."""
    n_epochs: Annotated[int, Field(ge=1)] = 60
    """The most epochs of the networks."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Samples a step of the networks."""
    learning_rate: Positive = 1e-3
    """Of the networks."""
    patience: Annotated[int, Field(ge=1)] | None = 8
    """Epochs without a better validation loss after which a network stops; ``none``: never."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that decides when a network stops."""
    prior_steps: Annotated[int, Field(ge=1)] = 200
    """Updates of the small prior."""
    prior_batch_size: Annotated[int, Field(ge=2)] = 16
    """Images of each update of the small prior; its time grows with them."""
    prior_size: Literal[16, 32, 64] = 32
    """Pixels along a side of the small prior's images."""
    prior_pictures: str | None = None
    """Folder of further images that the small prior and refiner learn from; none of the held-out
    images may be among them."""
    refiner_steps: Annotated[int, Field(ge=1)] = 150
    """Updates of the small refiner."""
    match: bool = True
    """Whether the small refiner also moves images towards the decoded features, which are Gabor
    energies of its own, whatever ``features.extractor`` is."""
    match_weighted: bool = False
    """Whether a decoded feature pulls by how well it is cross-validated on training samples, and
    not all alike."""
    match_network: Literal['none', 'efficientnet-lite0', 'efficientnet-lite2', 'mobilenetv2'] = (
        'none'
    )
    """A network (extra ``cpu-nets``) whose features are decoded too, and which images are moved
    towards by its gradient; it then judges nothing."""
    n_steps: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Steps of the diffusion's whole schedule; 50 (as published), or those of the generator's
    recipe, if left out."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How far the start image is noised (published: .75, 37 of 50 steps); .75, or .04 of the
    small refiner, if left out. Generators without a start image (unclip-2.1, stable-cascade) have
    none."""
    guidance: Annotated[float, Field(ge=0)] | None = None
    """Weight of the condition in classifier-free guidance (published: 7.5); 7.5, or 2 of the small
    refiner, if left out."""
    text_weight: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Weight of the text against the vision condition (Versatile Diffusion; published: .4)."""
    conditions: Literal['both', 'vision', 'text', 'none'] = 'both'
    """Which decoded conditions guide the second stage (ablation). The small refiner has one, the
    decoded features, which counts as vision."""
    start: Literal['decoded', 'noise'] = 'decoded'
    """What the second stage starts from: the first stage's image, or noise (ablation)."""
    noise: Annotated[float, Field(ge=0, le=256)] = 0.0
    """Noise added to the first stage's image before the second, in grey levels of 0 to 255; 256
    starts from noise alone (a study of sensitivity; the draws are the same at every level)."""
    protocol: Literal['bd-982', 'me2-1000', 'cpu-1'] = 'bd-982'
    """How images that were made are compared with those shown: sizes, interpolation and networks
    of Brain-Diffuser's tables or of MindEye2's, or the networks of the extra ``cpu-nets``
    (``cpu-1``: where nothing is set, it is installed and no published network is there)."""
    brain_correlation: bool = True
    """Whether reconstructions of single trials are also judged by the responses that they should
    give: an encoding model (ridge regression on a network of the extra ``cpu-nets`` that had no
    part in the images, fitted on training trials) predicts the response to each, which is
    correlated with that to its image in other held-out runs."""
    precision: Literal['float32', 'tf32', 'bfloat16', 'float16'] = 'float32'
    """Of the published networks when they are applied. ``tf32``: float32, multiplied with fewer
    bits on a GPU."""
    save_memory: Literal['none', 'split', 'offload'] = 'none'
    """What Versatile Diffusion gives up for memory: ``split``: attention, guidance and decoding
    one after the other; ``offload``: weights also wait on the CPU, which is slow. Other generators
    do what their recipe says."""
    synthetic: Annotated[float, Field(ge=0)] = 0.0
    """Responses predicted by an encoder to images without data, added to the training set of the
    decoders: how many, as a share of the real training samples. They come from
    ``prior_pictures``."""

    @field_validator('generator')
    @classmethod
    def _known_generator(cls, name: str) -> str:
        if name.endswith('.toml'):  # read, and refused, before any work
            return str(Path(name).expanduser().absolute())
        with retold(ValueError, ArgumentsError):
            known = name in OWN_GENERATORS or find_generator(name) is not None
        if not known:
            names = (*OWN_GENERATORS, *installed(GENERATORS))
            raise ValueError(unknown('generator', name, names))
        return name

    @field_validator('prior_pictures')
    @classmethod
    def _absolute(cls, folder: str | None) -> str | None:
        """Make a path absolute, as steps run in folders of their own."""
        return None if folder is None else str(Path(folder).expanduser().absolute())
