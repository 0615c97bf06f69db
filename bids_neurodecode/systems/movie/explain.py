"""What the movie network relies on: regions that are disturbed, concepts that people name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.explain.concepts import (
    FEW_TIMES,
    LEAST_TIMES,
    Examples,
    concept_sensitivity,
    layer_activations,
    layer_gradients,
)
from bids_neurodecode.explain.perturbation import (
    Metric,
    chunk_properties,
    concept_rows,
    perturbation_effects,
)
from bids_neurodecode.explain.placements import LEAST_DISJOINT
from bids_neurodecode.settings.movie import MovieSettings
from bids_neurodecode.systems.movie.network import to_chunks
from bids_neurodecode.systems.movie.scores import frame_ssim
from bids_neurodecode.typing import Float32Array, Uint8Array

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from torch import Tensor, nn

    from bids_neurodecode.systems.movie.network import MovieNetwork, MovieNetworkSettings
    from bids_neurodecode.systems.movie.setup import Chunks

LEFT_OUT = (
    'Perturbation left out {n} of {total} regions: those of fewer than {least} voxels of the '
    'network or of more than half of them, and all but the {most} largest others.'
)
NO_REGION = (
    'Perturbation was left out: no region of the atlas has {least} voxels of the network and not '
    'more than half of them.'
)
TOO_FEW_PLACES = (
    'Perturbation has no p value for {n} of {total} regions: fewer than {least} sets of voxels of '
    'their size, compactness, smoothness{accuracy} fit beside each other into the other voxels of '
    'the network ({names}).'
)
NO_ACCURACY = (
    'The network has no encoder (movie.mode = "decoder"), so that disturbed regions are compared '
    'with sets of voxels of any held-out accuracy.'
)
NO_ENCODER = 'Concepts were left out: the network has no encoder (movie.mode = "decoder").'
TOO_FEW_CHUNKS = (
    'Concepts of the film were left out: {n} training volumes are too few; {least} are needed.'
)

LEAST_VOXELS = 5
"""Voxels below which a region is not disturbed."""
PROPERTY_SHARE = 0.2
"""Share of the training volumes, those with most of a property, that are its examples."""
LEAST_EXAMPLES = 10
LAYER = 'merge'
"""Where the encoder has joined the time slices: the last layer before the readout."""
ALL = 'all voxels'
FILM, RANDOM, PICTURES = 'film property', 'random', 'pictures'
N_RANDOM_CONCEPTS = 5
MOST_GRADIENTS = 200
"""Held-out volumes, evenly over them, at which outputs are differentiated."""


@dataclass(frozen=True, eq=False)
class Explained:
    """A table, and what the report should say."""

    table: pd.DataFrame | None
    notes: tuple[str, ...] = ()


def regions_of(
    labels: npt.NDArray[np.intp], names: Mapping[int, str], most: int
) -> tuple[dict[str, npt.NDArray[np.bool_]], int]:
    """Choose the regions that are looked at one by one.

    Parameters
    ----------
    labels
        Region of each voxel, 0 is none, (n_voxels,).
    names
        Of the regions.
    most
        At most so many, the largest.

    Returns
    -------
    dict
        Boolean (n_voxels,) by name, the largest first: those of at least :data:`LEAST_VOXELS`
        voxels and at most half of all.
    int
        How many regions have any voxel.
    """
    codes, counts = np.unique(labels[labels > 0], return_counts=True)
    order = np.argsort(-counts, kind='stable')
    fit = [k for k in order if LEAST_VOXELS <= counts[k] <= len(labels) / 2][:most]
    chosen = {names.get(int(codes[k]), str(codes[k])): labels == codes[k] for k in fit}
    return chosen, len(codes)


def explain_perturbation(
    network: MovieNetwork,
    responses: npt.NDArray[np.floating[Any]],
    frames: npt.NDArray[Any],
    labels: npt.NDArray[np.intp],
    names: Mapping[int, str],
    settings: MovieSettings,
    *,
    neighbours: csr_array,
    accuracy: npt.ArrayLike | None,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> Explained:
    """Disturb one region after the other and see what the reconstruction loses.

    Parameters
    ----------
    responses
        Measured, held-out responses, (n_samples, n_voxels), in units of the data.
    frames
        The true frames, (n_samples, height, width, 3): values in [0, 1], or bytes.
    labels, names
        Region of each voxel, (n_voxels,); 0 is none.
    settings
        Kinds of perturbation, how many random sets, regions and frames.
    neighbours
        How far apart neighbouring voxels are, (n_voxels, n_voxels).
    accuracy
        Correlation of each voxel with its held-out prediction, (n_voxels,), which sets of voxels
        share with the region; None without an encoder.

    Returns
    -------
    Explained
        See :func:`~bids_neurodecode.explain.perturbation.perturbation_effects`.
    """
    regions, total = regions_of(labels, names, settings.explain_regions)
    if not regions:
        return Explained(None, (NO_REGION.format(least=LEAST_VOXELS),))
    notes: tuple[str, ...] = ()
    if len(regions) < total:
        numbers = {'n': total - len(regions), 'total': total, 'most': settings.explain_regions}
        notes = (LEFT_OUT.format(**numbers, least=LEAST_VOXELS),)
    if accuracy is None:
        notes += (NO_ACCURACY,)
    looked = _evenly(len(responses), settings.explain_frames)
    seen = np.array(frames[looked])
    scale = np.float32(255 if seen.dtype == np.uint8 else 1)
    truth = np.asarray(seen.astype(np.float32) / scale, dtype=np.float32)

    def predict(some: Float32Array) -> Float32Array:
        return network.reconstruct(some[looked])

    table = perturbation_effects(
        predict,
        responses,
        regions,
        frame_metrics(truth),
        neighbours=neighbours,
        accuracy=accuracy,
        rng=rng,
        kinds=settings.explain_kinds,
        gain=settings.explain_gain,
        n_random=settings.explain_random,
        progress=progress,
    )
    untested = table.loc[table['n_disjoint'] < LEAST_DISJOINT, 'region'].unique()
    if len(untested):
        line = TOO_FEW_PLACES.format(
            n=len(untested),
            total=len(regions),
            least=LEAST_DISJOINT,
            accuracy='' if accuracy is None else ' and held-out accuracy',
            names=', '.join(untested),
        )
        notes += (line,)
    return Explained(table, notes)


def frame_metrics(truth: Float32Array) -> dict[str, Metric]:
    """Return how reconstructed frames are judged against true ones (n, height, width, 3)."""
    flat = truth.reshape(len(truth), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)

    def pixel_correlation(frames: npt.NDArray[Any]) -> float:
        values = frames.reshape(len(frames), -1)
        values = values - values.mean(axis=1, keepdims=True)
        size = np.linalg.norm(values, axis=1) * np.linalg.norm(centred, axis=1)
        return float(np.mean((values * centred).sum(axis=1) / np.maximum(size, 1e-12)))

    return {
        'frame_ssim': lambda frames: float(frame_ssim(truth, frames).mean()),
        'pixcorr': pixel_correlation,
    }


def explain_concepts(
    network: MovieNetwork,
    train: Chunks,
    test: Chunks,
    labels: npt.NDArray[np.intp] | None,
    names: Mapping[int, str],
    settings: MovieSettings,
    *,
    pictures: Mapping[str, Uint8Array] | None = None,
    films: npt.ArrayLike,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> Explained:
    """Test whether predicted responses depend on concepts.

    The outputs are the mean predicted response of all voxels and of each region; the examples of
    film properties are the training volumes with most of them; those of a user's concepts are
    images, shown as still chunks, against still frames of the training film. Random concepts,
    which are as contiguous in time as the film properties are, stand beside them as controls.

    Parameters
    ----------
    train, test
        Chunks of film as bytes: where examples come from, and where outputs are differentiated.
    labels, names
        Region of each voxel of the network, or None without an atlas.
    pictures
        Bytes (n, height, width, 3) of the size of the network's frames, by concept.
    films
        The film (and its presentation) of each training volume, (n_train,), volumes in order of
        time.

    Returns
    -------
    Explained
        See :func:`~bids_neurodecode.explain.concepts.concept_sensitivity`; ``kind`` says where
        the concept comes from.
    """
    if network.encoder is None:
        return Explained(None, (NO_ENCODER,))
    reader, notes = _Reader(network.encoder, network.settings), []
    labels_of_film = np.asarray(films)
    concepts: dict[str, Examples] = {}
    kinds: dict[str, str] = {}
    if round(PROPERTY_SHARE * len(train)) >= LEAST_EXAMPLES:
        units = reader.activations(train)
        for name, kind, inside in film_concepts(train, labels_of_film, rng):
            concepts[name], kinds[name] = Examples(units, inside, labels_of_film), kind
    else:
        least = int(np.ceil(LEAST_EXAMPLES / PROPERTY_SHARE))
        notes.append(TOO_FEW_CHUNKS.format(n=len(train), least=least))
    if pictures:
        still = reader.activations(_Still(train))
        for name, values in pictures.items():
            own = reader.activations(_Still(values, network.settings.design.chunk))
            inside = np.arange(len(own) + len(still)) < len(own)
            concepts[name], kinds[name] = Examples(np.concatenate([own, still]), inside), PICTURES
    if not concepts:
        return Explained(None, tuple(notes))
    looked = [test[int(row)] for row in _evenly(len(test), MOST_GRADIENTS)]
    outputs = _outputs(labels, names, network, settings)
    slopes = {name: reader.gradients(looked, voxels) for name, voxels in outputs.items()}
    table = concept_sensitivity(
        concepts, slopes, rng=rng, n_permutations=settings.concept_permutations, progress=progress
    )
    for name, examples in concepts.items():
        if examples.films is not None and len(examples.shifts) < LEAST_TIMES:
            times = len(examples.shifts)
            notes.append(FEW_TIMES.format(name=name, n=times, least=LEAST_TIMES))
    table.insert(2, 'kind', [kinds[str(name)] for name in table['concept']])
    return Explained(table, tuple(notes))


def film_concepts(
    chunks: Chunks, films: npt.NDArray[Any], rng: np.random.Generator
) -> list[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Return name, kind, and which chunks are the examples, of what film itself shows.

    A random concept is the pattern of one of the others at another time.

    Parameters
    ----------
    chunks
        Frames of each sample, as the network is given them.
    films
        Film of each chunk, (n_chunks,).
    rng
        Draws random concepts.
    """
    values: dict[str, list[float]] = {}
    for row in range(len(chunks)):
        for name, value in chunk_properties(np.asarray(chunks[row])[None]).items():
            values.setdefault(name, []).append(float(value[0]))
    found = [
        (f'much {name}', FILM, concept_rows(np.array(value), share=PROPERTY_SHARE))
        for name, value in values.items()
    ]
    for number in range(N_RANDOM_CONCEPTS):
        pattern = Examples(np.empty((len(chunks), 0)), found[number % len(values)][2], films)
        shifts = pattern.shifts
        found.append((f'random {number + 1}', RANDOM, pattern.random(shifts, rng)))
    return found


class _Still:
    """One frame, repeated: what an image is to the encoder."""

    def __init__(self, frames: Any, length: int | None = None) -> None:
        self.frames, self.length = frames, length

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        frame = np.asarray(self.frames[row])
        if self.length is None:  # a chunk of film: its middle frame
            return np.repeat(frame[len(frame) // 2 - 1][None], len(frame), axis=0)
        return np.repeat(frame[None], self.length, axis=0)


@dataclass(frozen=True, eq=False)
class _Reader:
    """What film does to the encoder's layer."""

    encoder: nn.Module
    settings: MovieNetworkSettings

    def activations(self, chunks: Any) -> Float32Array:
        """Return the layer's activations of chunks of bytes, a batch at a time."""
        size = self.settings.training.batch_size
        parts = []
        for start in range(0, len(chunks), size):
            some = [chunks[row] for row in range(start, min(start + size, len(chunks)))]
            parts.append(layer_activations(self.encoder, LAYER, self.inputs(some)))
        return np.concatenate(parts)

    def gradients(self, chunks: Sequence[Any], voxels: npt.NDArray[np.bool_]) -> Float32Array:
        """Differentiate the mean predicted response of some voxels by the layer's activations."""
        import torch

        size = self.settings.training.batch_size
        columns = torch.from_numpy(np.flatnonzero(voxels))

        def output(predicted: Tensor) -> Tensor:
            return predicted[:, columns.to(predicted.device)].mean(dim=1)

        parts = []
        for start in range(0, len(chunks), size):
            inputs = self.inputs(chunks[start : start + size])
            parts.append(layer_gradients(self.encoder, LAYER, inputs, output))
        return np.concatenate(parts)

    def inputs(self, chunks: Sequence[Any]) -> Tensor:
        """Return the encoder's input."""
        import torch

        batch = torch.stack([torch.as_tensor(np.asarray(chunk)) for chunk in chunks])
        device = next(self.encoder.parameters()).device
        return to_chunks(batch.to(device), self.settings.min_max)


def _outputs(
    labels: npt.NDArray[np.intp] | None,
    names: Mapping[int, str],
    network: MovieNetwork,
    settings: MovieSettings,
) -> dict[str, npt.NDArray[np.bool_]]:
    everything = {ALL: np.ones(network.settings.design.n_voxels, dtype=bool)}
    if labels is None:
        return everything
    return everything | regions_of(labels, names, settings.explain_regions)[0]


def _evenly(n: int, most: int) -> npt.NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
