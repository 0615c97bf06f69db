"""Generators of published networks: VDVAE of ImageNet-64, and a second stage of diffusion."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.models.clip_targets import ClipTargets
from bids_neurodecode.models.diffusion import DiffusionSettings, MemorySettings, VersatileDiffusion
from bids_neurodecode.models.generators import ENDING, guides_of
from bids_neurodecode.models.sampling import SamplingSettings
from bids_neurodecode.models.vdvae import VDVAE, decode_latents, encode_images
from bids_neurodecode.systems.reconstruction.generation.generators import (
    Conditions,
    Described,
    Progress,
    TrainingPictures,
    resize,
    sampling_as_told,
)
from bids_neurodecode.typing import Float32Array, Uint8Array

if TYPE_CHECKING:
    from bids_neurodecode.models.generators import PipelineRecipe
    from bids_neurodecode.models.pipelines import ImageEmbeddings, PipelineRefiner

NO_CAPTIONS = (
    'The text condition needs captions; {n} of {total} images have none. Add captions to the '
    "stimuli, or set reconstruction.conditions to 'vision'."
)

LATENTS = 31
"""How many latents Brain-Diffuser decodes."""
PICTURE_SIZE = 512
_ON_DISK_FROM = 2**28  # values: larger conditions are kept in files

Use = Literal['both', 'vision', 'text', 'none']


@dataclass(frozen=True, eq=False)
class PublishedGenerator:
    """Networks with published weights; nothing is trained, so it is its own fitted generator.

    Parameters
    ----------
    vdvae
        The prior.
    clip
        What conditions are taken from.
    diffusion
        The refiner.
    n_latents
        How many latents are decoded.
    use
        Which conditions are decoded at all.
    sampling
        Of the second stage.
    name
        What it is called in settings and results.
    """

    vdvae: VDVAE
    clip: ClipTargets | ImageEmbeddings
    diffusion: VersatileDiffusion | PipelineRefiner
    n_latents: int = LATENTS
    use: Use = 'both'
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    name: str = 'published'

    @property
    def used(self) -> frozenset[str]:
        """Those that a recipe of one's own names; CLIP is a judge of the published tables."""
        own = self.name.endswith(ENDING)
        return frozenset(guides_of(self.name)) if own else frozenset()

    @property
    def picture_size(self) -> int:
        """Pixels along a side that images should be given with."""
        return PICTURE_SIZE

    def fit(
        self,
        training: TrainingPictures,
        *,
        seed: int,
        checkpoint_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> PublishedGenerator:
        """Return itself: its weights do not depend on the images.

        Parameters
        ----------
        training
            Not looked at.
        seed
            Not used.
        checkpoint_dir
            Not used.
        progress
            Not called.
        """
        return self

    def encode(self, pictures: Uint8Array) -> Float32Array:
        """Return the first latents (posterior means), (n, length), of images of any size."""
        sized = resize(pictures, self.vdvae.config.image_size)
        return encode_images(self.vdvae, sized, n_latents=self.n_latents)

    def decode(self, latents: Float32Array, seeds: Sequence[int]) -> Uint8Array:
        """Make images of latents; those not given are drawn from the prior, one seed each.

        Parameters
        ----------
        latents
            Shape (n, length).
        seeds
            One per image.
        """
        return decode_latents(self.vdvae, latents, seeds=seeds)

    def conditions(
        self, of: Described, folder: Path | None = None
    ) -> dict[str, npt.NDArray[np.floating[Any]]]:
        """Return what is decoded: CLIP's tokens of images and captions, or an embedding.

        Those of many images are written to the folder, as half floats, where one is given.

        Parameters
        ----------
        of
            Images and captions, n of each.
        folder
            Where large ones are written; None: kept in memory.

        Raises
        ------
        DataError
            If an image lacks the caption that is needed.
        """
        found: dict[str, npt.NDArray[np.floating[Any]]] = {}
        n = len(of.pictures)
        if self.use != 'text':  # retrieval compares them even where none guides
            out = _room(folder, 'vision', (n, *self.clip.vision_shape))
            found['vision'] = self.clip.of_pictures(of.pictures, out=out)
        if self.use in {'both', 'text'}:
            clip = cast('ClipTargets', self.clip)  # others have no use for texts
            lacking = n - sum(any(text.strip() for text in texts) for texts in of.captions)
            if lacking:
                raise DataError(NO_CAPTIONS.format(n=lacking, total=n))
            out = _room(folder, 'text', (n, *clip.text_shape))
            found['text'] = clip.of_captions(of.captions, out=out)
        return found

    def refine(
        self,
        start: Uint8Array | None,
        conditions: Conditions,
        seeds: Sequence[int],
        sampling: SamplingSettings,
        use: str,
        *,
        trust: Mapping[str, Float32Array] | None = None,
    ) -> Uint8Array:
        """Make final images; a condition that is not used is that of nothing.

        Parameters
        ----------
        start
            Initial images, (n, s, s, 3), uint8; None starts from noise.
        conditions
            Decoded, (n, ...) each, by name.
        seeds
            One per image.
        sampling
            Steps, strength and guidance.
        use
            ``both``, ``vision``, ``text`` or ``none``.
        trust
            Not used.
        """
        wanted = {'both': ('text', 'vision'), 'none': ()}.get(use, (use,))
        nothing = self.clip.unconditional()
        given = {
            name: conditions[name]
            if name in wanted and name in conditions
            else np.repeat(nothing[name][None], len(seeds), axis=0)
            for name in nothing
        }
        diffusion = copy.copy(self.diffusion)
        diffusion.settings = replace(diffusion.settings, sampling=sampling)
        return diffusion.refine(start, given, seeds)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return nothing: its weights are read, not learned."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what was decoded, and how it samples."""
        return {
            'generator': self.name,
            'n_latents': self.n_latents,
            'use': self.use,
            'prior': self.vdvae.config.to_dict(),
            'sampling': asdict(self.sampling),
        }

    def curves(self) -> list[dict[str, Any]]:
        """Return nothing: nothing was trained."""
        return []


def published_generator(
    config: Config, *, name: str, weights: Mapping[str, Path], device: str = 'cpu'
) -> PublishedGenerator:
    """Read the networks of a generator.

    Parameters
    ----------
    config
        Latents, conditions, sampling, weight of the text and precision.
    name
        ``published``, or the name of a recipe.
    weights
        File or folder of each entry of the manifest: of the VDVAE (as published, or
        safetensors), and of the second stage.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    ArgumentsError
        If the second stage cannot be guided by the conditions that are asked for.
    InputError
        If a file is missing or damaged.
    """
    from bids_neurodecode.models.generators import read_recipe
    from bids_neurodecode.models.vdvae_checkpoint import load_vdvae
    from bids_neurodecode.models.vdvae_config import IMAGENET64

    told = config.reconstruction
    recipe = read_recipe(name)
    sampling = sampling_as_told(recipe.sampling, told)
    where: Literal['cpu', 'cuda'] = 'cuda' if device == 'cuda' else 'cpu'
    memory = MemorySettings(
        where,
        told.precision,
        offload='sequential' if told.save_memory == 'offload' else 'none',
        attention_slicing=told.save_memory != 'none',
        split_guidance=told.save_memory != 'none',
        split_decoding=told.save_memory != 'none',
    )
    clip, networks = _second_stage(config, recipe, weights, sampling, memory)
    vdvae = weights['vdvae-imagenet64']
    own_config = None if vdvae.suffix == '.safetensors' else IMAGENET64
    prior = load_vdvae(vdvae, own_config, device=where)
    only_vision = told.conditions == 'both' and 'text' not in recipe.conditions
    use: Use = 'vision' if only_vision else told.conditions
    return PublishedGenerator(prior, clip, networks, told.latents or LATENTS, use, sampling, name)


def _second_stage(
    config: Config,
    recipe: PipelineRecipe,
    weights: Mapping[str, Path],
    sampling: SamplingSettings,
    memory: MemorySettings,
) -> tuple[ClipTargets | ImageEmbeddings, VersatileDiffusion | PipelineRefiner]:
    """Read what is decoded, and what is guided by it."""
    from bids_neurodecode.models import pipelines

    told = config.reconstruction
    if recipe.loop == 'pipeline':
        if told.conditions == 'text':
            raise ArgumentsError(pipelines.ONE_CONDITION.format(name=recipe.name))
        embeddings, called = pipelines.load_pipelines(recipe, weights, memory)
        nothing = embeddings.unconditional()
        settings = DiffusionSettings(sampling=sampling)
        refiner = pipelines.PipelineRefiner(recipe, called, nothing, settings, memory)
        return embeddings, refiner
    folder = weights[recipe.stages[0].weights]
    clip = ClipTargets.from_folder(folder, device=memory.device, precision=memory.precision)
    # one condition alone has the whole weight
    weight = {'vision': 0.0, 'text': 1.0}.get(told.conditions, told.text_weight)
    settings = DiffusionSettings(sampling=sampling, text_weight=weight)
    networks = VersatileDiffusion.from_folder(folder, clip.unconditional(), settings, memory)
    return clip, networks


def _room(
    folder: Path | None, name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.floating[Any]] | None:
    """Return a file to write a large condition to."""
    if folder is None or np.prod(shape, dtype=np.int64) < _ON_DISK_FROM:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    rows: Mapping[str, Any] = {'mode': 'w+', 'dtype': np.float16, 'shape': shape}
    return np.lib.format.open_memmap(folder / f'condition-{name}-{shape[0]}.npy', **rows)
