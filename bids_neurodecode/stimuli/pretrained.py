"""Frozen networks as feature extractors: CLIP, DINOv2 and BLIP, from a folder on this machine.

Nothing is downloaded here. A folder holds one repository in the format of transformers
(``config.json``, ``model.safetensors``, ``preprocessor_config.json``; for BLIP with captions the
tokenizer too). Images are turned into pixels by each network's own preprocessing, which takes
8-bit values: floating point would be scaled twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import check_device
from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.fetched import need_files, read_part
from bids_neurodecode.stimuli.features import WEIGHTS, check_pairs
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from torch import Tensor, nn

NOT_BYTES = (
    'A pretrained network takes images as uint8 of shape (n, h, w, 3), as its preprocessing '
    'scales them itself; these are {found}.'
)
BAD_CHOICE = '{what} must be one of {choices} for {name}; it is {found!r}.'
BAD_LAYER = '{name} has layers 0 to {last} (0: the embedding); {found} is none of them.'

BLIP_TOKENS = 32
"""Length that captions are padded or truncated to."""
RECORD = 'record.json'

_CLASSES = {
    'clip': ('CLIPVisionModelWithProjection', 'CLIPImageProcessorPil'),
    'dinov2': ('Dinov2Model', 'BitImageProcessorPil'),
    'blip': ('BlipForImageTextRetrieval', 'BlipImageProcessorPil'),
}
"""Of transformers: the network and its preprocessing."""
Pooling = Literal['cls', 'mean', 'tokens', 'projected']
Precision = Literal['float32', 'bfloat16', 'float16']

_FILES = ('config.json', 'model.safetensors', 'preprocessor_config.json')


@dataclass(frozen=True, eq=False)
class PretrainedVision:
    """Features of images by a frozen vision network.

    Parameters
    ----------
    name
        ``clip``, ``dinov2`` or ``blip``.
    model
        The network, (n, 3, h, w) to ``last_hidden_state`` (n, n_tokens, width), the first token
        being that of the class.
    processor
        Its preprocessing.
    weights
        What tells these weights from others (a digest).
    pooling
        ``cls``: the class token; ``mean``: the mean of the others; ``tokens``: all of them, one
        after the other; ``projected``: CLIP's embedding.
    layer
        Hidden layer (0 the embedding, negative from the end); None: the network's output.
    precision
        Of the activations (mixed precision); features are float32.
    device
        ``cpu`` or ``cuda``; features do not depend on it but for rounding.
    """

    version: ClassVar[str] = '1'

    name: str
    model: nn.Module
    processor: Callable[..., Any]
    weights: str
    pooling: Pooling = 'cls'
    layer: int | None = None
    precision: Precision = 'float32'
    device: str = 'cpu'

    def __post_init__(self) -> None:
        choices = ['cls', 'mean', 'tokens'] + ['projected'] * (self.name == 'clip')
        if self.pooling not in choices:
            raise ArgumentsError(
                BAD_CHOICE.format(
                    what='pooling', choices=choices, name=self.name, found=self.pooling
                )
            )
        _freeze(self.model, self.device)

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on."""
        return {
            'weights': self.weights,
            'pooling': self.pooling,
            'layer': self.layer,
            'precision': self.precision,
        }

    def transform(self, images: npt.NDArray[np.uint8]) -> Float32Array:
        """Turn images (n, h, w, 3), uint8, into features (n, n_features), float32."""
        pixels = preprocess(self.processor, images)
        with _inference(self.device, self.precision):
            output = self.model(
                pixel_values=pixels.to(self.device),
                output_hidden_states=self.layer is not None,
            )
            values = self._pool(output)
        return np.asarray(values.float().cpu().numpy(), dtype=np.float32)

    def _pool(self, output: Any) -> Tensor:
        if self.pooling == 'projected':
            embedding: Tensor = output.image_embeds
            return embedding
        tokens: Tensor = output.last_hidden_state
        if self.layer is not None:
            states = output.hidden_states
            if not -len(states) <= self.layer < len(states):
                raise ArgumentsError(
                    BAD_LAYER.format(name=self.name, last=len(states) - 1, found=self.layer)
                )
            tokens = states[self.layer]
        if self.pooling == 'cls':
            return tokens[:, 0]
        return tokens[:, 1:].mean(dim=1) if self.pooling == 'mean' else tokens.flatten(1)


@dataclass(frozen=True, eq=False)
class BlipCaptioned:
    """Features of an image with its caption: BLIP's text encoder looking at the image.

    The caption is padded or truncated to 32 tokens and its first token is the encoder's own, as
    in the features of LAVIS (Li et al. 2022, arXiv 2201.12086); in the published configuration
    there are 32 x 768 values.

    Parameters
    ----------
    model
        ``BlipForImageTextRetrieval`` of transformers.
    processor, tokenizer
        Of images and of captions.
    weights
        What tells these weights from others.
    encode_token
        Number of the token that stands first; the published vocabulary ends with it.
    """

    name: ClassVar[str] = 'blip-caption'
    version: ClassVar[str] = '1'

    model: nn.Module
    processor: Callable[..., Any]
    tokenizer: Callable[..., Any]
    weights: str
    encode_token: int
    n_tokens: int = BLIP_TOKENS
    precision: Precision = 'float32'
    device: str = 'cpu'

    def __post_init__(self) -> None:
        _freeze(self.model, self.device)

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on."""
        return {
            'weights': self.weights,
            'encode_token': self.encode_token,
            'n_tokens': self.n_tokens,
            'precision': self.precision,
        }

    def transform(self, images: npt.NDArray[np.uint8], texts: Sequence[str]) -> Float32Array:
        """Turn images (n, h, w, 3) and n captions into features (n, n_tokens * width).

        Parameters
        ----------
        images
            Shape (n, h, w, 3), uint8.
        texts
            One caption per image.

        Raises
        ------
        DataError
            If images and captions do not pair.
        """
        import torch

        check_pairs(images, texts)
        pixels = preprocess(self.processor, images)
        words = self.tokenizer(
            list(texts),
            padding='max_length',
            truncation=True,
            max_length=self.n_tokens,
            return_tensors='pt',
        )
        tokens = words['input_ids'].clone()
        tokens[:, 0] = self.encode_token
        with _inference(self.device, self.precision):
            seen = self.model.vision_model(pixel_values=pixels.to(self.device)).last_hidden_state  # type: ignore[operator]
            states = self.model.text_encoder(  # type: ignore[operator]
                input_ids=tokens.to(self.device),
                attention_mask=words['attention_mask'].to(self.device),
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(
                    seen.shape[:2], dtype=torch.long, device=seen.device
                ),
            ).last_hidden_state
        return np.asarray(states.flatten(1).float().cpu().numpy(), dtype=np.float32)


def preprocess(processor: Callable[..., Any], images: npt.NDArray[np.uint8]) -> Tensor:
    """Turn 8-bit images (n, h, w, 3) into the network's pixels (n, 3, height, width).

    Parameters
    ----------
    processor
        Of transformers.
    images
        Shape (n, h, w, 3), uint8.

    Raises
    ------
    DataError
        If the images are not uint8.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(NOT_BYTES.format(found=f'{images.dtype} {images.shape}'))
    pixels: Tensor = processor(
        images=list(images), return_tensors='pt', input_data_format='channels_last'
    )['pixel_values']
    return pixels


def read_vision(
    name: str,
    folder: Path | str,
    *,
    pooling: Pooling | None = None,
    layer: int | None = None,
    precision: Precision = 'float32',
    device: str = 'cpu',
) -> PretrainedVision:
    """Read a vision network; see :class:`PretrainedVision`.

    CLIP (Radford et al. 2021), DINOv2 (Oquab et al. 2023) or BLIP (Li et al. 2022).

    Parameters
    ----------
    name
        ``clip``, ``dinov2`` or ``blip``.
    folder
        With the published files.
    pooling
        What an image gets of the tokens; None: CLIP's embedding, the class token of the others.
    layer
        Hidden layer (0 the embedding, negative from the end); None: the network's output.
    precision
        Of the activations.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        If files are missing or damaged.
    """
    place = Path(folder)
    need_files(place, WEIGHTS[name], _FILES)
    model, processor = _read(place, name)
    return PretrainedVision(
        name,
        model.vision_model if name == 'blip' else model,
        processor,
        digest(place),
        pooling=pooling or ('projected' if name == 'clip' else 'cls'),
        layer=layer,
        precision=precision,
        device=device,
    )


def blip_caption(
    folder: Path | str, *, precision: Precision = 'float32', device: str = 'cpu'
) -> BlipCaptioned:
    """Read BLIP for images with captions; see :class:`BlipCaptioned`.

    Parameters
    ----------
    folder
        With the published files, the tokenizer's among them.
    precision
        Of the activations.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        If files are missing or damaged.
    """
    place = Path(folder)
    need_files(place, WEIGHTS['blip'], (*_FILES, 'tokenizer.json'))
    from transformers import AutoTokenizer

    model, processor = _read(place, 'blip')
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
    last = model.config.text_config.vocab_size - 1
    return BlipCaptioned(
        model, processor, tokenizer, digest(place), last, precision=precision, device=device
    )


def digest(folder: Path) -> str:
    """Return what tells the weights in a folder from others, 16 hexadecimal digits.

    From the record that fetching them left (which holds the SHA-256 of each file), else from the
    files themselves.
    """
    recorded = folder / RECORD
    names = (RECORD,) if recorded.is_file() else _FILES
    total = hashlib.sha256()
    for name in names:
        with (folder / name).open('rb') as stream:
            total.update(hashlib.file_digest(stream, 'sha256').digest())
    return total.hexdigest()[:16]


def _read(folder: Path, name: str) -> tuple[Any, Any]:
    import transformers

    network, preprocessing = (getattr(transformers, each) for each in _CLASSES[name])
    model = read_part(network.from_pretrained, folder, WEIGHTS[name], use_safetensors=True)
    return model, read_part(preprocessing.from_pretrained, folder, WEIGHTS[name])


def _freeze(model: nn.Module, device: str) -> None:
    check_device(device)
    model.requires_grad_(False)
    model.eval()
    model.to(device)


@contextmanager
def _inference(device: str, precision: Precision) -> Iterator[None]:
    """Compute without gradients, activations in the precision asked for."""
    import torch

    kind, dtype = torch.device(device).type, getattr(torch, precision)
    mixed = torch.autocast(kind, dtype=dtype, enabled=precision != 'float32')
    with torch.inference_mode(), mixed:
        yield
