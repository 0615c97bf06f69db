"""Second stages that are pipelines of diffusers, as recipes describe them.

See :mod:`bids_neurodecode.models.generators`. Each image is made by a call of its own, with a
random generator of its own seed, so that it is the same alone and among others.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import BROKEN_TEXT, ArgumentsError, InputError, raised_as
from bids_neurodecode.fetched import BAD_PART, part_of, read_part
from bids_neurodecode.models.clip_targets import clip_pixels
from bids_neurodecode.models.diffusion import (
    DiffusionSettings,
    MemorySettings,
    text_network,
)
from bids_neurodecode.models.generators import Adapter, PipelineRecipe, Stage
from bids_neurodecode.models.precision import dtype_of
from bids_neurodecode.models.sampling import (
    Conditions,
    check_inputs,
    resize_pictures,
)
from bids_neurodecode.text import did_you_mean
from bids_neurodecode.typing import Float32Array, Uint8Array

NO_PIPELINE = (
    'The installed diffusers ({version}) has no {name}, which the generator {recipe} is made of. '
    'Install another version of diffusers, or choose another reconstruction.generator.'
)
NO_ARGUMENT = (
    'The generator {recipe} hands {name!r} to {pipeline}, which takes no such argument.{near} '
    'Correct the recipe, or install another version of diffusers ({version} is installed).'
)
ONE_CONDITION = (
    'The generator {name} is guided by decoded image embeddings alone: reconstruction.conditions '
    '= "text" has nothing to guide it by. Leave it out, or choose "versatile-diffusion".'
)


@dataclass(frozen=True, eq=False)
class ImageEmbeddings:
    """The embedding that a recipe is guided by: one vector per image.

    Parameters
    ----------
    network
        ``CLIPVisionModelWithProjection`` of transformers.
    negative
        See :class:`PipelineRecipe`.
    memory
        Device and precision.
    """

    network: Any
    negative: Literal['zeros', 'mean-colour'] = 'zeros'
    memory: MemorySettings = field(default_factory=MemorySettings)

    def __post_init__(self) -> None:
        self.network.requires_grad_(requires_grad=False)
        self.network.eval()
        check_device(self.memory.device)
        self.network.to(self.memory.device, dtype_of(self.memory.precision))

    @property
    def vision_shape(self) -> tuple[int]:
        """Length of the embedding."""
        return (int(self.network.config.projection_dim),)

    @torch.inference_mode()
    def of_pictures(
        self,
        images: Uint8Array,
        *,
        batch_size: int = 32,
        out: npt.NDArray[np.floating[Any]] | None = None,
    ) -> npt.NDArray[np.floating[Any]]:
        """Embed images (n, h, w, 3), uint8: (n, d).

        Parameters
        ----------
        images
            Shape (n, h, w, 3), uint8.
        batch_size
            Images that are embedded at once.
        out
            Where embeddings are written, (n, d); None makes an array.
        """
        size = int(self.network.config.image_size)
        # in one step, as diffusers' own calls bring images to the encoder's size
        values = np.empty((len(images), *self.vision_shape), np.float32) if out is None else out
        for first in range(0, len(images), batch_size):
            rows = slice(first, first + batch_size)
            values[rows] = self._embed(clip_pixels(images[rows], size, between=None))
        return values

    def unconditional(self) -> dict[str, Float32Array]:
        """Return the embedding of no condition, ``vision``."""
        if self.negative == 'zeros':
            return {'vision': np.zeros(self.vision_shape, dtype=np.float32)}
        size = int(self.network.config.image_size)
        return {'vision': self._embed(torch.zeros(1, 3, size, size))[0]}

    @torch.inference_mode()
    def _embed(self, pixels: torch.Tensor) -> Float32Array:
        inputs = pixels.to(self.network.device, self.network.dtype)
        return np.asarray(self.network(inputs).image_embeds.float().cpu().numpy())


class PipelineRefiner:
    """A refiner of pipelines (see :class:`bids_neurodecode.models.sampling.Refiner`).

    Parameters
    ----------
    recipe
        How they are called.
    pipelines
        One a stage of the recipe.
    unconditional
        ``vision``: the embedding of no condition, (d,).
    settings, memory
        Sampling of the first stage; device, precision.
    """

    def __init__(
        self,
        recipe: PipelineRecipe,
        pipelines: Sequence[Any],
        unconditional: Mapping[str, npt.NDArray[Any]],
        settings: DiffusionSettings | None = None,
        memory: MemorySettings | None = None,
    ) -> None:
        self.recipe, self.pipelines = recipe, tuple(pipelines)
        self.settings = settings or DiffusionSettings(sampling=recipe.sampling)
        self.memory = memory or MemorySettings()
        self._nothing = np.asarray(unconditional['vision'], dtype=np.float32)
        check_device(self.memory.device)
        self._device = torch.device(self.memory.device)
        for pipeline, stage in zip(self.pipelines, recipe.stages, strict=True):
            self._place(pipeline, stage)

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""
        if self.recipe.size is not None:
            return self.recipe.size
        pipeline = self.pipelines[0]
        # of latents, what each level of the autoencoder but the first halves
        autoencoder = getattr(pipeline, 'vae', None) or pipeline.movq
        factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        return int(pipeline.unet.config.sample_size * factor)

    @property
    def condition_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of ``vision``."""
        return {'vision': self._nothing.shape}

    @torch.inference_mode()
    def refine(
        self,
        start_images: Uint8Array | None,
        conditions: Conditions,
        seeds: Sequence[int],
    ) -> Uint8Array:
        """Make images; see :meth:`bids_neurodecode.models.sampling.Refiner.refine`.

        Without start images a pipeline that has one starts from mid-grey at strength 1.

        Parameters
        ----------
        start_images
            Shape (n, h, w, 3), uint8, or None.
        conditions
            ``vision``, (n, d).
        seeds
            One per image.
        """
        check_inputs(start_images, conditions, seeds, self.condition_shapes)
        made = []
        for row, seed in enumerate(seeds):
            start = None if start_images is None else start_images[row]
            made.append(self._make(start, np.asarray(conditions['vision'][row]), seed))
        return np.stack(made)

    def _make(
        self, start: Uint8Array | None, embedding: npt.NDArray[Any], seed: int
    ) -> Uint8Array:
        generator = torch.Generator('cpu').manual_seed(seed % 2**63)
        before: Any = None
        for number, (pipeline, stage) in enumerate(
            zip(self.pipelines, self.recipe.stages, strict=True)
        ):
            arguments = self._call(stage, start, embedding, first=number == 0)
            if stage.takes is not None:
                arguments[stage.takes] = getattr(before, stage.takes)
            last = number == len(self.pipelines) - 1
            before = pipeline(**arguments, generator=generator, output_type='np' if last else 'pt')
        pixels = np.asarray(before.images[0], dtype=np.float64)
        return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)

    def _call(
        self, stage: Stage, start: Uint8Array | None, embedding: npt.NDArray[Any], *, first: bool
    ) -> dict[str, Any]:
        """Return the arguments of a pipeline's call for one image."""
        sampling = self.settings.sampling
        guidance = sampling.guidance if first else stage.guidance
        arguments: dict[str, Any] = {
            **stage.arguments,
            'num_inference_steps': sampling.n_steps if first else stage.n_steps,
            'guidance_scale': guidance,
        }
        if stage.embeds is not None:
            arguments[stage.embeds] = self._embedding(stage, embedding, guidance)
        if stage.negative_embeds is not None:
            arguments[stage.negative_embeds] = self._tensor(self._nothing[None])
        if stage.start is not None:
            arguments |= self._start(stage.start, start)
        if stage.start is not None or stage.sized:
            sides = {'height': self.size, 'width': self.size}
            # image-to-image of SDXL takes the size of its image
            arguments |= {} if stage.form == 'ip-adapter' else sides
        return arguments

    def _embedding(self, stage: Stage, embedding: npt.NDArray[Any], guidance: float) -> Any:
        if stage.form == 'vector':
            return self._tensor(embedding[None])
        if stage.form == 'sequence':
            return self._tensor(embedding[None, None])
        both = [embedding] if guidance <= 1 else [self._nothing, embedding]
        return [self._tensor(np.stack(both)[:, None])]

    def _start(self, name: str, start: Uint8Array | None) -> dict[str, Any]:
        from PIL import Image

        if start is None:
            grey = Image.new('RGB', (self.size, self.size), (128, 128, 128))
            return {name: grey, 'strength': 1.0}
        image = Image.fromarray(resize_pictures(start[None], self.size)[0])
        return {name: image, 'strength': self.settings.sampling.strength}

    def _tensor(self, values: npt.NDArray[Any]) -> torch.Tensor:
        dtype = dtype_of(self.memory.precision)
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(self._device, dtype)

    def _place(self, pipeline: Any, stage: Stage) -> None:
        pipeline.set_progress_bar_config(disable=True)
        if 'vae-slicing' in stage.memory and hasattr(pipeline, 'vae'):
            pipeline.vae.enable_slicing()
        if 'attention-slicing' in stage.memory:
            pipeline.enable_attention_slicing()
        if 'model-offload' in stage.memory and self._device.type == 'cuda':
            pipeline.enable_model_cpu_offload(device=self._device)
        else:
            pipeline.to(self._device)


def check_recipe(recipe: PipelineRecipe) -> None:
    """Refuse what the installed diffusers cannot run, before any work.

    Parameters
    ----------
    recipe
        Which pipelines, and how they are called.

    Raises
    ------
    ArgumentsError
        If a class is missing, or the call of a pipeline lacks an argument.
    InputError
        If diffusers has removed Versatile Diffusion.
    """
    if recipe.loop != 'pipeline':
        text_network()
        return
    import diffusers

    for stage in recipe.stages:
        kind = find_class(stage.pipeline, recipe.name)
        for component in (stage.scheduler, *stage.components.values()):
            _ = component is None or find_class(component, recipe.name)
        called = [stage.embeds, stage.negative_embeds, stage.takes, *stage.arguments]
        called += [stage.start, 'strength'] if stage.start else []
        called += ['num_inference_steps', 'guidance_scale']
        taken = inspect.signature(kind.__call__).parameters
        for name in called:
            if name is not None and name not in taken:
                told = {'near': did_you_mean(name, taken), 'version': diffusers.__version__}
                raise ArgumentsError(
                    NO_ARGUMENT.format(
                        recipe=recipe.name, name=name, pipeline=stage.pipeline, **told
                    )
                )


def load_pipelines(
    recipe: PipelineRecipe, weights: Mapping[str, Path], memory: MemorySettings
) -> tuple[ImageEmbeddings, tuple[Any, ...]]:
    """Read the image encoder and the pipelines of a recipe; nothing is downloaded.

    Parameters
    ----------
    recipe
        Which.
    weights
        Folder of each entry of the manifest.
    memory
        Device and precision.

    Raises
    ------
    ArgumentsError
        If the installed diffusers lacks a pipeline.
    InputError
        If a folder is incomplete or damaged.
    """
    from transformers import CLIPVisionModelWithProjection

    entry, _, inner = recipe.encoder.partition('/')
    folder = weights[entry] / inner
    network = read_part(CLIPVisionModelWithProjection.from_pretrained, folder, entry)
    encoder = ImageEmbeddings(network, recipe.negative, memory)
    pipelines = []
    for stage in recipe.stages:
        kind = find_class(stage.pipeline, recipe.name)
        folder, dtype = weights[stage.weights], dtype_of(memory.precision)
        if stage.components:
            pipeline = _assemble(kind, folder, stage, recipe.name, dtype)
        else:
            pipeline = read_part(kind.from_pretrained, folder, stage.weights, torch_dtype=dtype)
        if stage.scheduler is not None:
            scheduler = find_class(stage.scheduler, recipe.name)
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
        if stage.adapter is not None:
            _adapt(pipeline, stage.adapter, weights[stage.adapter.weights])
        pipelines.append(pipeline)
    return encoder, tuple(pipelines)


def find_class(name: str, recipe: str) -> Any:
    """Return a class of diffusers, or of one of its modules (``module:class``).

    Parameters
    ----------
    name
        Of the class.
    recipe
        Name of the generator, for the message.

    Raises
    ------
    ArgumentsError
        If the installed version has none of that name.
    """
    import diffusers

    module, _, own = name.rpartition(':')
    try:
        return getattr(import_module(module) if module else diffusers, own)
    except (AttributeError, ImportError, RuntimeError) as error:
        told = {'version': diffusers.__version__, 'name': own, 'recipe': recipe}
        raise ArgumentsError(NO_PIPELINE.format(**told)) from error


def _assemble(kind: Any, folder: Path, stage: Stage, recipe: str, dtype: torch.dtype) -> Any:
    """Read a pipeline part by part, where diffusers does not find a class that its index names."""
    import transformers

    told = {'part': folder.name, 'folder': folder.parent, 'weights': stage.weights}
    with raised_as(InputError, BAD_PART, *BROKEN_TEXT, **told):
        index = json.loads((folder / 'model_index.json').read_text('utf-8'))
    parts: dict[str, Any] = {}
    for name, value in index.items():
        if not isinstance(value, list):
            parts |= {} if name.startswith('_') else {name: value}
            continue
        library, own = value
        if own is None:
            continue
        if name in stage.components:
            part = find_class(stage.components[name], recipe)
        else:
            part = (
                getattr(transformers, own)
                if library == 'transformers'
                else find_class(own, recipe)
            )
        is_network = issubclass(part, torch.nn.Module)
        more = {'torch_dtype': dtype, 'low_cpu_mem_usage': False} if is_network else {}
        parts[name] = read_part(part.from_pretrained, folder / name, stage.weights, **more)
    return kind(**parts)


def _adapt(pipeline: Any, adapter: Adapter, folder: Path) -> None:
    """Load an IP-Adapter, as safetensors where it is there, else as ``.bin``."""
    names = [f'{adapter.file}{ending}' for ending in ('.safetensors', '.bin')]
    name = next((n for n in names if (folder / adapter.folder / n).is_file()), names[0])
    with part_of(adapter.weights, folder, name):
        pipeline.load_ip_adapter(
            str(folder),
            subfolder=adapter.folder,
            weight_name=name,
            image_encoder_folder=None,
            local_files_only=True,
        )
