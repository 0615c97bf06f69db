"""Sets of voxels that are like a region: as many, as compact, as smooth and as accurate.

Sets are grown at random along the neighbours that voxels, vertices and grayordinates have
(:mod:`~bids_neurodecode.signals.meshes`): from one seed, or about the way between two, so that
some are long. Each piece of a region is grown by itself. Only sets like the region in
compactness, smoothness and accuracy are kept (calipers: Cochran & Rubin 1973, Sankhya A 35:417).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra

from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

LEAST_DISJOINT = 20
"""Sets without a common voxel that have to fit beside a region: fewer give no p below .05."""
N_CANDIDATES = 2000
CALIPER = 0.5
"""How far smoothness and accuracy may be from the region's, in deviations over candidates."""
COMPACTNESS = 0.15
"""How far compactness may be from the region's, as a share of it."""
ROUGHEST = 0.2
"""By how much, as a share, the roughest sets grow slower at some voxels than at others."""
_ENTRIES = 2**23
"""Distances that are held at a time."""


@dataclass(frozen=True, eq=False)
class Placements:
    """Sets like a region.

    Parameters
    ----------
    sets
        Voxel numbers, (n_sets, n_voxels_of_the_region); sets may overlap.
    n_disjoint
        How many sets were found beside each other without a common voxel.
    """

    sets: IndexArray
    n_disjoint: int


def place_alike(
    region: BoolArray,
    neighbours: sparse.csr_array,
    responses: npt.NDArray[np.floating[Any]],
    accuracy: FloatArray,
    *,
    n_random: int,
    rng: np.random.Generator,
) -> Placements:
    """Find sets of voxels like a region, none of them in it.

    Parameters
    ----------
    region
        Boolean (n_voxels,).
    neighbours
        How far apart neighbouring voxels are, (n_voxels, n_voxels), symmetric. A set is as
        compact as its voxels have neighbours within it.
    responses
        Shape (n_samples, n_voxels): the smoothness of a set is the deviation over samples of the
        mean of its z-scored voxels.
    accuracy
        One value per voxel, (n_voxels,).
    n_random
        At most so many sets.
    rng
        Draws seeds, how long sets are, and how they grow.

    Returns
    -------
    Placements
        Without sets where fewer than :data:`LEAST_DISJOINT` disjoint ones were found.
    """
    members, outside = np.flatnonzero(region), np.flatnonzero(~region)
    nothing = Placements(np.empty((0, len(members)), dtype=np.intp), 0)
    if len(outside) < LEAST_DISJOINT * len(members):
        return nothing
    candidates = np.concatenate([members[None], _grow(members, outside, neighbours, rng)])
    compactness = _compactness(neighbours, candidates)
    like = np.abs(compactness - compactness[0]) <= COMPACTNESS * compactness[0]
    for values in (_smoothness(responses, candidates), accuracy[candidates].mean(axis=1)):
        # a rounding error of equal values is no difference
        scale = max(float(values[1:].std()), 1e-9 * float(np.abs(values).max()))
        like &= np.abs(values - values[0]) <= CALIPER * scale
    alike = candidates[1:][like[1:]]
    taken = np.zeros(len(region), dtype=bool)
    n_disjoint = 0
    for voxels in alike:
        if not taken[voxels].any():
            taken[voxels] = True
            n_disjoint += 1
    return Placements(alike[:n_random], n_disjoint) if n_disjoint >= LEAST_DISJOINT else nothing


def _grow(
    members: IndexArray,
    outside: IndexArray,
    neighbours: sparse.csr_array,
    rng: np.random.Generator,
) -> IndexArray:
    """Return sets of as many voxels, of pieces as large as those of the region, (n_sets, n)."""
    n = neighbours.shape[0]
    free = np.zeros((N_CANDIDATES, n), dtype=bool)
    free[:, outside] = True
    grown = np.ones(N_CANDIDATES, dtype=bool)
    found: list[IndexArray] = []
    inner = sparse.csr_array(neighbours[members][:, members])
    _, piece = connected_components(inner, directed=False)
    for number in np.argsort(-np.bincount(piece), kind='stable'):
        own = np.flatnonzero(piece == number)
        length = _length(sparse.csr_array(inner[own][:, own]))
        part = np.zeros((N_CANDIDATES, len(own)), dtype=np.intp)
        here = outside[rng.integers(len(outside), size=N_CANDIDATES)]
        step = max(1, _ENTRIES // n)
        for start in range(0, N_CANDIDATES, step):
            rows = np.arange(start, min(start + step, N_CANDIDATES))
            away = _away(neighbours, here[rows], length, rng)
            away[~free[rows]] = np.inf
            for row, distance in zip(rows, away, strict=True):
                slower = 1 + ROUGHEST * rng.random() * rng.random(n, dtype=np.float32)
                nearest = np.argpartition(slower * distance, len(own) - 1)[: len(own)]
                grown[row] &= bool(np.isfinite(distance[nearest]).all())
                free[row, nearest] = False
                part[row] = nearest
        found.append(part)
    return np.concatenate(found, axis=1)[grown]


def _length(inner: sparse.csr_array) -> float:
    """Return about how long a connected piece is: the way to the voxel farthest from its end."""
    end = int(np.argmax(dijkstra(inner, directed=False, indices=0)))
    return float(dijkstra(inner, directed=False, indices=end).max())


def _away(
    neighbours: sparse.csr_array, seeds: IndexArray, length: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return the way to each voxel from a seed and back to another one, (n_seeds, n_voxels).

    Voxels to which it is the same lie on an ellipse about both; one that is no longer than a
    piece is reached within its length from either.
    """
    limit = max(length, float(neighbours.data.max(initial=0)))
    away = dijkstra(neighbours, directed=False, indices=seeds, limit=limit)
    apart = length * rng.random((len(seeds), 1))
    miss = np.abs(away - apart) + 0.05 * length * rng.random(away.shape, dtype=np.float32)
    there = miss.argmin(axis=1)
    away += dijkstra(neighbours, directed=False, indices=there, limit=limit)
    return np.asarray(away, dtype=np.float32)


def _compactness(neighbours: sparse.csr_array, sets: IndexArray) -> FloatArray:
    """Return how many neighbours the voxels of each set have in it, on average, at least one."""
    n_sets, size = sets.shape
    inside = sparse.csr_array(
        (np.ones(sets.size), sets.ravel(), size * np.arange(n_sets + 1)),
        shape=(n_sets, neighbours.shape[0]),
    )
    touching = neighbours.astype(bool).astype(np.float64)
    pairs = np.asarray((inside @ touching).multiply(inside).sum(axis=1)).ravel()
    return np.asarray(1 + pairs / size)


def _smoothness(responses: npt.NDArray[np.floating[Any]], sets: IndexArray) -> FloatArray:
    deviation = responses.std(axis=0)
    z = (responses - responses.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)
    return np.array([z[:, voxels].mean(axis=1).std() for voxels in sets], dtype=np.float64)
