"""CLIP features of images and captions, as Versatile Diffusion takes them.

Not CLIP's embeddings: all tokens of CLIP ViT-L/14, of an image 257 x 768 and of a text 77 x 768,
each projected into the joint space and divided by the length of the one that is CLIP's embedding
(the class token's; that of the text's end). These are what voxels are regressed on, and what the
second stage is guided by.

Images are 8-bit here and preprocessing is ours: floating-point images are scaled twice by
current image processors, which has spoiled many a reproduction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import DataError
from bids_neurodecode.fetched import need_files, read_part
from bids_neurodecode.models.precision import Precision, dtype_of
from bids_neurodecode.typing import Float32Array, Uint8Array

NOT_BYTES = 'CLIP takes images as uint8 of shape (n, h, w, 3); these are {found}.'
NO_CAPTION = 'Image {row} (counted from 0) has no caption that is not empty. Give it one.'
BAD_OUT = 'The array for {n} targets must be of shape {expected}; it is {found}.'
WEIGHTS = 'versatile-diffusion'
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
BETWEEN = 512
"""Pixels that images are brought to first, the size of Versatile Diffusion's own images."""


_FILES = ('image_encoder/config.json', 'text_encoder/config.json', 'tokenizer/vocab.json')


def clip_pixels(images: Uint8Array, size: int = 224, *, between: int | None = BETWEEN) -> Tensor:
    """Turn images into what CLIP looks at.

    Bilinear to 512 x 512, then bicubic to the network's size, as Brain-Diffuser does; both widen
    their kernels when they shrink.

    Parameters
    ----------
    images
        Shape (n, h, w, 3), uint8.
    size
        Of the network, in pixels.
    between
        Size that images are brought to first; None: none.

    Returns
    -------
    torch.Tensor
        Shape (n, 3, size, size), standardised by CLIP's means and deviations.
    """
    from PIL import Image

    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(NOT_BYTES.format(found=f'{images.dtype} {images.shape}'))
    pixels = np.empty((len(images), size, size, 3), dtype=np.float32)
    for row, image in enumerate(images):
        picture = Image.fromarray(image)
        if between is not None:
            picture = picture.resize((between, between), Image.Resampling.BILINEAR)
        pixels[row] = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
    standardised = (pixels / np.float32(255) - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(standardised.transpose(0, 3, 1, 2)))


@dataclass(frozen=True, eq=False)
class ClipTargets:
    """The two networks of CLIP and its tokenizer.

    Parameters
    ----------
    vision, text
        ``CLIPVisionModelWithProjection`` and ``CLIPTextModelWithProjection`` of transformers.
    tokenizer
        Of the texts.
    device
        ``cpu`` or ``cuda``.
    precision
        Of weights and activations; features are float32.
    """

    vision: Any
    text: Any
    tokenizer: Callable[..., Any]
    device: Literal['cpu', 'cuda'] = 'cpu'
    precision: Precision = 'float32'

    def __post_init__(self) -> None:
        check_device(self.device)
        for network in (self.vision, self.text):
            network.requires_grad_(requires_grad=False)
            network.eval()
            network.to(device=self.device, dtype=self._dtype)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        device: Literal['cpu', 'cuda'] = 'cpu',
        precision: Precision = 'float32',
    ) -> ClipTargets:
        """Read CLIP from a folder of Versatile Diffusion; nothing is downloaded.

        Parameters
        ----------
        folder
            With the image and text encoders in the published layout.
        device
            Where the networks are run.
        precision
            Of their weights.

        Raises
        ------
        InputError
            If it is incomplete or damaged.
        """
        from transformers import (
            CLIPTextModelWithProjection,
            CLIPTokenizer,
            CLIPVisionModelWithProjection,
        )

        need_files(folder, WEIGHTS, _FILES)
        kinds: dict[str, Any] = {
            'image_encoder': CLIPVisionModelWithProjection,
            'text_encoder': CLIPTextModelWithProjection,
            'tokenizer': CLIPTokenizer,
        }
        vision, text, tokenizer = (
            read_part(kind.from_pretrained, folder / name, WEIGHTS) for name, kind in kinds.items()
        )
        return cls(vision, text, tokenizer, device, precision)

    @property
    def vision_shape(self) -> tuple[int, int]:
        """Tokens of an image and their width: (257, 768) as published."""
        config = self.vision.config
        n_patches = (int(config.image_size) // int(config.patch_size)) ** 2
        return n_patches + 1, int(config.projection_dim)

    @property
    def text_shape(self) -> tuple[int, int]:
        """Tokens of a text and their width: (77, 768) as published."""
        config = self.text.config
        return int(config.max_position_embeddings), int(config.projection_dim)

    def of_pictures(
        self,
        images: Uint8Array,
        *,
        batch_size: int = 32,
        out: npt.NDArray[np.floating[Any]] | None = None,
    ) -> npt.NDArray[np.floating[Any]]:
        """Extract the features of images.

        Parameters
        ----------
        images
            Shape (n, h, w, 3), uint8.
        batch_size
            Images at once.
        out
            Where to write, (n, n_tokens, width), a memory map for example; None: float32.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_tokens, width).
        """
        values = _output(out, (len(images), *self.vision_shape))
        for first in range(0, len(images), batch_size):
            rows = slice(first, first + batch_size)
            pixels = clip_pixels(images[rows], int(self.vision.config.image_size))
            values[rows] = self._see(pixels)
        return values

    def of_captions(
        self,
        captions: Sequence[Sequence[str]],
        *,
        out: npt.NDArray[np.floating[Any]] | None = None,
    ) -> npt.NDArray[np.floating[Any]]:
        """Extract the features of each image's captions: the mean over those not empty.

        Parameters
        ----------
        captions
            Any number for each of n images; longer ones are cut.
        out
            As in :meth:`of_pictures`.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_tokens, width).
        """
        values = _output(out, (len(captions), *self.text_shape))
        for row, texts in enumerate(captions):
            kept = [text for text in texts if text.strip()]
            if not kept:
                raise DataError(NO_CAPTION.format(row=row))
            values[row] = self._read(kept).mean(axis=0)
        return values

    def unconditional(self) -> dict[str, Float32Array]:
        """Return the features of no text and of a grey image: ``text`` and ``vision``."""
        size = int(self.vision.config.image_size)
        grey = torch.from_numpy((np.float32(0.5) - MEAN) / STD)
        pixels = grey[None, :, None, None].expand(1, 3, size, size)
        return {'text': self._read([''])[0], 'vision': self._see(pixels)[0]}

    @torch.inference_mode()
    def _see(self, pixels: Tensor) -> Float32Array:
        inputs = pixels.to(self.device, self._dtype)
        states = self.vision.vision_model(pixel_values=inputs).last_hidden_state
        # CLIP normalises the class token alone; here every token is
        states = self.vision.vision_model.post_layernorm(states)
        tokens = self.vision.visual_projection(states).float()
        return _to_numpy(tokens / tokens[:, :1].norm(dim=-1, keepdim=True))

    @torch.inference_mode()
    def _read(self, texts: list[str]) -> Float32Array:
        words = self.tokenizer(
            texts,
            padding='max_length',
            max_length=self.text_shape[0],
            truncation=True,
            return_tensors='pt',
        )
        # no mask: nothing before the end of a text sees what follows it
        output = self.text(input_ids=words['input_ids'].to(self.device))
        tokens = self.text.text_projection(output.last_hidden_state).float()
        length = output.text_embeds.float().norm(dim=-1)
        return _to_numpy(tokens / length[:, None, None])

    @property
    def _dtype(self) -> torch.dtype:
        return dtype_of(self.precision)


def _output(
    out: npt.NDArray[np.floating[Any]] | None, shape: tuple[int, ...]
) -> npt.NDArray[np.floating[Any]]:
    if out is None:
        return np.empty(shape, dtype=np.float32)
    if out.shape != shape:
        raise DataError(BAD_OUT.format(n=shape[0], expected=shape, found=out.shape))
    return out


def _to_numpy(values: Tensor) -> Float32Array:
    return np.asarray(values.cpu().numpy(), dtype=np.float32)
