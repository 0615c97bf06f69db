"""Images compared by what networks see in them, under the protocols of published tables.

Networks are handed in. Where one is missing its metrics are missing; what may take their place is
a stand-in, whose scores bear the stand-in's own name and compare with no published number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.identification import outcomes_2way
from bids_neurodecode.evaluation.images import pixcorr, ssim_2d, ssim_columnwise_legacy
from bids_neurodecode.evaluation.protocols import NetworkMetric, PictureProtocol
from bids_neurodecode.mapped import blocks, room
from bids_neurodecode.typing import Float32Array, FloatArray, Uint8Array

BAD_PICTURES = (
    'Truth and reconstruction must be uint8 images (n, h, w, 3), as many of the one as of the '
    'other and at least two: {truth} and {found}.'
)
BAD_FEATURES = 'The network {name!r} gave features of shape {found} for {n} images.'
OTHER_COUNT = (
    'Protocol {name} is defined on {expected} test images and these scores are on {n}: do not '
    'put them beside published ones.'
)
NO_NETWORK = 'No weights of {network}: {metrics} are not computed.'
STANDS_IN = (
    '{name} stands in for networks without weights; its scores compare with no published number.'
)

STAND_IN = 'gabor-standin'


_COLUMNS_AT_ONCE = 16384


class FeatureNetwork(Protocol):
    """A frozen network that gives features at its layers."""

    def __call__(self, pixels: Float32Array, layers: Sequence[str], /) -> Mapping[str, Any]:
        """Turn standardised pixels (n, 3, size, size) into features (n, ...) of each layer."""


class Remembering:
    """A network that describes equal pixels once: truths are compared with many models.

    Parameters
    ----------
    network
        Whose layers are asked for together, and are small.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        self._network = network
        self._known: dict[bytes, dict[str, npt.NDArray[Any]]] = {}

    def __call__(self, pixels: Float32Array, layers: Sequence[str]) -> Mapping[str, Any]:
        """Return the features (n, ...) of some layers."""
        keys = [hashlib.sha256(repr((*layers, row.shape)).encode() + row.tobytes()).digest()
                for row in pixels]  # fmt: skip
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            found = self._network(pixels[[*new.values()]], layers)
            for place, key in enumerate(new):
                self._known[key] = {layer: np.asarray(found[layer])[place] for layer in layers}
        return {layer: np.stack([self._known[key][layer] for key in keys]) for layer in layers}


@dataclass(frozen=True, eq=False)
class PictureScore:
    """One metric over all images.

    Parameters
    ----------
    metric
        Its name; of a stand-in, with the stand-in's name in it.
    values
        One an image, (n,); the score is their mean.
    chance
        What a reconstruction without information scores: known, or the mean over all pairs of a
        reconstruction with another image. None if that is not known.
    table
        What each reconstruction would score were each image its true one, (n, n), where all
        pairs were compared; ``values`` are its diagonal.
    """

    metric: str
    values: FloatArray
    chance: float | None = None
    table: FloatArray | None = None

    @property
    def value(self) -> float:
        """The score."""
        return float(self.values.mean())


def network_scores(
    truth: Uint8Array,
    reconstruction: Uint8Array,
    protocol: PictureProtocol,
    networks: Mapping[str, FeatureNetwork],
    *,
    batch_size: int = 32,
) -> Iterator[PictureScore]:
    """Compare by the protocol's networks that there are; see :func:`pixel_scores` for the others.

    One metric at a time: a table of all pairs may be large.

    Parameters
    ----------
    truth, reconstruction
        Images (n, h, w, 3), uint8, pair by pair.
    protocol
        Networks, layers, sizes and interpolation.
    networks
        By name; those of the protocol that are not among them are left out.
    batch_size
        Images that a network is given at once.

    Raises
    ------
    DataError
        If the images are of another type or shape, or do not pair.
    """
    _check_pictures(truth, reconstruction)
    groups: dict[tuple[str, int], list[NetworkMetric]] = {}
    for metric in protocol.metrics:
        groups.setdefault((metric.network, metric.size), []).append(metric)
    present = {key: metrics for key, metrics in groups.items() if key[0] in networks}
    for (name, _), metrics in present.items():
        seen, found = (
            describe(images, networks[name], metrics, protocol, batch_size)
            for images in (truth, reconstruction)
        )
        for m in metrics:
            yield _score(m.metric, seen[m.layer], found[m.layer], m.kind)


def notes_on(
    protocol: PictureProtocol,
    networks: Collection[str],
    n_pictures: int,
    *,
    stand_in: bool,
) -> tuple[str, ...]:
    """Return what a reader of scores under a protocol should know, one line each.

    Parameters
    ----------
    protocol
        Of the scores.
    networks
        Names of those that there are.
    n_pictures
        How many were compared.
    stand_in
        Whether something stands in for the others.
    """
    groups: dict[tuple[str, int], list[str]] = {}
    for metric in protocol.metrics:
        if metric.network not in networks:
            groups.setdefault((metric.network, metric.size), []).append(metric.metric)
    notes = [
        NO_NETWORK.format(network=network, metrics=', '.join(metrics))
        for (network, _), metrics in groups.items()
    ]
    if groups and stand_in:
        notes.append(STANDS_IN.format(name=STAND_IN))
    notes += protocol.lacking
    if protocol.n_pictures not in {None, n_pictures}:
        told = {'name': protocol.name, 'expected': protocol.n_pictures, 'n': n_pictures}
        notes.append(OTHER_COUNT.format(**told))
    return tuple(notes)


def pixel_scores(
    truth: Uint8Array,
    reconstruction: Uint8Array,
    protocol: PictureProtocol,
    wanted: Collection[str] | None = None,
) -> list[PictureScore]:
    """Compare pixels: correlation, and the protocol's structural similarities.

    Parameters
    ----------
    truth, reconstruction
        Images (n, h, w, 3), uint8, pair by pair.
    protocol
        Size and interpolation, and which structural similarities it has.
    wanted
        Names of the metrics; None: all of the protocol.

    Raises
    ------
    DataError
        If the images are of another type or shape, or do not pair.
    """
    _check_pictures(truth, reconstruction)
    metrics = {
        'pixcorr': pixcorr,
        'ssim_2d': ssim_2d,
        'ssim_columnwise_legacy': ssim_columnwise_legacy,
    }
    names = [n for n in ('pixcorr', *protocol.ssim) if wanted is None or n in wanted]
    values: dict[str, list[FloatArray]] = {}
    for rows in (
        _batches(len(truth), 4) if names else ()
    ):  # larger ones spend their time on fresh memory
        a, b = (
            _resize(_first(images[rows], protocol), protocol.pixel_size, protocol)
            for images in (truth, reconstruction)
        )
        for name in names:
            values.setdefault(name, []).append(metrics[name](a, b))
    chances = {'pixcorr': 0.0}
    return [
        PictureScore(name, np.concatenate(parts), chances.get(name))
        for name, parts in values.items()
    ]


def network_pixels(
    images: Uint8Array, metric: NetworkMetric, protocol: PictureProtocol
) -> Float32Array:
    """Turn images into what a network is given, (n, 3, size, size).

    Parameters
    ----------
    images
        Shape (n, h, w, 3), uint8.
    metric
        Pixels a side, and the mean and deviation that the network expects.
    protocol
        First size and interpolation.
    """
    sized = _resize(_first(images, protocol), metric.size, protocol, method='bilinear')
    mean, std = (np.asarray(values, dtype=np.float32) for values in metric.scaling)
    return np.ascontiguousarray(((sized - mean) / std).transpose(0, 3, 1, 2))


def _all_pairs(
    truth: npt.NDArray[np.floating[Any]],
    reconstruction: npt.NDArray[np.floating[Any]],
    kind: Literal['2way', 'distance'],
) -> FloatArray:
    """Return what each reconstruction would score, were each image its true one, (n, n)."""
    r = correlations(reconstruction, truth)
    return np.subtract(1, r, out=r) if kind == 'distance' else outcomes_2way(r)


def correlations(a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Correlate each row of (n, d) with each row of (m, d): (n, m); 0 where a row is constant.

    Features of all images may be large, so rows and columns are taken in blocks; correlations
    of features that lie in a file lie in one, too.

    Parameters
    ----------
    a
        Shape (n, d).
    b
        Shape (m, d).
    """
    out = room(a, (len(a), len(b)), np.float64)
    for rows in blocks(len(a), len(b)):
        out[rows] = _correlated(a[rows], b)
    return out


def _correlated(a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]) -> FloatArray:
    means = [x.mean(axis=1, dtype=np.float64, keepdims=True) for x in (a, b)]
    products = np.zeros((len(a), len(b)))
    squares = np.zeros(len(a)), np.zeros(len(b))
    for columns in blocks(a.shape[1], max(len(a), len(b)), _COLUMNS_AT_ONCE):
        parts = [x[:, columns] - mean for x, mean in zip((a, b), means, strict=True)]
        products += parts[0] @ parts[1].T
        for k, part in enumerate(parts):
            squares[k][:] += (part**2).sum(axis=1)
    norms = []
    for square, mean in zip(squares, means, strict=True):
        # what centring leaves of a constant row is rounding noise
        noise = 1e-20 * a.shape[1] * mean[:, 0] ** 2
        norms.append(np.where(square <= noise, np.inf, np.sqrt(square)))
    # equal candidates must tie, whatever the order in which a library sums
    return np.round(products / np.outer(*norms), 12)


def describe(
    images: Uint8Array,
    network: FeatureNetwork,
    metrics: Sequence[NetworkMetric],
    protocol: PictureProtocol,
    batch_size: int = 32,
) -> dict[str, Float32Array]:
    """Return what a network sees in images, (n, n_features) of each layer.

    Parameters
    ----------
    images
        Shape (n, h, w, 3), uint8.
    network
        Whose features.
    metrics
        Which need them: of one network and size.
    protocol
        How images are brought to size.
    batch_size
        Images that the network is given at once.
    """
    layers = [metric.layer for metric in metrics]
    features: dict[str, Float32Array] = {}
    for rows in _batches(len(images), batch_size):
        pixels = network_pixels(images[rows], metrics[0], protocol)
        for layer, values in network(pixels, layers).items():
            flat = np.asarray(values, dtype=np.float32)
            if len(flat) != len(pixels):
                name = metrics[0].network
                raise DataError(BAD_FEATURES.format(name=name, found=flat.shape, n=len(pixels)))
            flat = flat.reshape(len(flat), -1)
            if layer not in features:
                features[layer] = room(images, (len(images), flat.shape[1]))
            features[layer][rows] = flat
    return features


def _score(
    metric: str,
    truth: npt.NDArray[np.floating[Any]],
    reconstruction: npt.NDArray[np.floating[Any]],
    kind: Literal['2way', 'distance'],
) -> PictureScore:
    table = _all_pairs(truth, reconstruction, kind)
    values, n = np.diagonal(table).copy(), len(table)
    # of a distance: that to the images of others
    chance = 0.5 if kind == '2way' else float((table.sum() - values.sum()) / (n * (n - 1)))
    return PictureScore(metric, values, chance, table)


def _first(images: Uint8Array, protocol: PictureProtocol) -> Float32Array | Uint8Array:
    if protocol.first_size is None:
        return images
    return _resize(images, protocol.first_size, protocol, method='bilinear')


def _resize(
    images: npt.NDArray[Any],
    size: int,
    protocol: PictureProtocol,
    method: Literal['bilinear', 'bicubic'] | None = None,
) -> Float32Array:
    """Resize to squares, without aliasing; (n, size, size, 3) in [0, 1]."""
    method = method or protocol.pixel_method
    if protocol.exact:
        return _resize_exactly(images, size, method)
    from PIL import Image

    how = Image.Resampling[method.upper()]
    sized = [np.asarray(Image.fromarray(x).resize((size, size), how)) for x in images]
    return np.stack(sized).astype(np.float32) / np.float32(255)


def _resize_exactly(images: npt.NDArray[Any], size: int, method: str) -> Float32Array:
    import torch
    from torch.nn.functional import interpolate

    values = images.astype(np.float32)
    if images.dtype == np.uint8:
        values /= np.float32(255)
    tensor = torch.from_numpy(values).permute(0, 3, 1, 2)
    sized = interpolate(tensor, (size, size), mode=method, antialias=True, align_corners=False)
    array: Float32Array = sized.clamp(0, 1).permute(0, 2, 3, 1).contiguous().numpy()
    return array


def _batches(n: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, n, size)]


def _check_pictures(truth: Uint8Array, reconstruction: Uint8Array) -> None:
    def fine(images: npt.NDArray[Any]) -> bool:
        return images.ndim == 4 and images.shape[-1] == 3 and images.dtype == np.uint8

    if not (fine(truth) and fine(reconstruction) and 2 <= len(truth) == len(reconstruction)):
        told = [f'{images.dtype} {images.shape}' for images in (truth, reconstruction)]
        raise DataError(BAD_PICTURES.format(truth=told[0], found=told[1]))
