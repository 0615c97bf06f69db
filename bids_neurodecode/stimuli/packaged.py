"""Feature extractors whose weights come with Python packages: no folder of weights is needed.

``efficientnet-lite0``, ``efficientnet-lite2`` and ``mobilenetv2`` describe images at any of their
layers (``mobilenetv2:stage5``); ``wordllama`` describes captions by the mean of their words'
embeddings. The packages are never imported: their files are read, by :mod:`safetensors` or
``torch.load(weights_only=True)``, once their SHA-256 is that of the published ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.extras import LAYERS, PACKAGED, packaged_files
from bids_neurodecode.stimuli.features import check_pairs
from bids_neurodecode.typing import Float32Array

if TYPE_CHECKING:
    from bids_neurodecode.stimuli.convnets import ConvNet

UNKNOWN_LAYER = 'The network {name!r} has no layer {layer!r}; it has: {layers}.'

AT_ONCE = {'cpu': 4, 'cuda': 64}
"""Images that a network is given at once: one takes several MB on its way, and with more a CPU
spends its time on fresh memory."""
_CELLS = 4  # along a side, over which maps are averaged


@dataclass(frozen=True)
class ConvNetFeatures:
    """Features of images by a frozen network of the extra ``cpu-nets``.

    Parameters
    ----------
    name
        ``efficientnet-lite0``, ``efficientnet-lite2`` or ``mobilenetv2``.
    layer
        ``avgpool``, (n, 1280); ``stage1`` to ``stage7``: maps, averaged over 4 x 4 places.
    device
        ``cpu`` or ``cuda``; features do not depend on it but for rounding.
    size
        Pixels a side that the network is given; those of its training if left out.

    Raises
    ------
    ArgumentsError
        If there is no such layer.
    InputError
        If the network's package is not installed.
    """

    version: ClassVar[str] = '1'

    name: str
    layer: str = 'avgpool'
    device: str = 'cpu'
    size: int | None = None

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise ArgumentsError(
                UNKNOWN_LAYER.format(name=self.name, layer=self.layer, layers=', '.join(LAYERS))
            )
        packaged_files(self.name)  # the network is made of them when it is used

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on."""
        weights = [digest[:16] for digest in PACKAGED[self.name].files.values()]
        sized = {} if self.size is None else {'size': self.size}
        return {'layer': self.layer, 'weights': weights, **sized}

    def transform(self, images: npt.NDArray[np.uint8]) -> Float32Array:
        """Turn images (n, h, w, 3), uint8, into features (n, n_features), float32."""
        step = AT_ONCE[self.device]
        starts = range(0, max(1, len(images)), step)
        return np.concatenate([self._features(images[at : at + step]) for at in starts])

    def _features(self, images: npt.NDArray[np.uint8]) -> Float32Array:
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        network = read_convnet(self.name).to(self.device)
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
            pixels = pixels.permute(0, 3, 1, 2).float() / 255
            values = network(network.standardise(pixels, self.size), self.layer)[self.layer]
            if values.ndim == 4:
                values = adaptive_avg_pool2d(values, _CELLS).flatten(1)
        return np.asarray(values.cpu().numpy(), dtype=np.float32)


@dataclass(frozen=True)
class CaptionEmbedding:
    """WordLlama: the mean of the embeddings of a caption's tokens, (n, 256).

    Raises
    ------
    InputError
        If the package is not installed.
    """

    name: ClassVar[str] = 'wordllama'
    version: ClassVar[str] = '1'

    def __post_init__(self) -> None:
        _read_wordllama()

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on."""
        return {'weights': [digest[:16] for digest in PACKAGED[self.name].files.values()]}

    def transform(self, images: npt.NDArray[np.uint8], texts: Sequence[str]) -> Float32Array:
        """Turn the captions of n images into features (n, 256); images are not looked at.

        Parameters
        ----------
        images
            Only counted.
        texts
            One caption per image.

        Raises
        ------
        DataError
            If images and captions do not pair.
        """
        check_pairs(images, texts)
        return self.embed(texts)

    def embed(self, texts: Sequence[str]) -> Float32Array:
        """Turn texts into features, (n, 256); without a word they are 0."""
        embedding, tokenizer = _read_wordllama()
        rows = []
        for encoded in tokenizer.encode_batch(list(texts), add_special_tokens=False):
            known = embedding[np.minimum(np.array(encoded.ids, dtype=int), len(embedding) - 1)]
            rows.append(known.sum(axis=0) / max(1, len(known)))
        return np.asarray(rows, dtype=np.float32)


@cache
def read_convnet(name: str) -> ConvNet:
    """Return a network of the extra ``cpu-nets``, frozen; read once a process.

    Raises
    ------
    InputError
        If its package is not installed.
    """
    import torch

    from bids_neurodecode.stimuli.convnets import make_convnet

    (file,) = packaged_files(name)
    return make_convnet(name, torch.load(file, map_location='cpu', weights_only=True))


@cache
def _read_wordllama() -> tuple[npt.NDArray[np.float32], Any]:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights, vocabulary = packaged_files('wordllama')
    return load_file(weights)['embedding.weight'].astype(np.float32), Tokenizer.from_file(
        str(vocabulary)
    )
