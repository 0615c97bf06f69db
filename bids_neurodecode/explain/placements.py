"""Sets of voxels that are like a region: as many, as compact, as smooth and as accurate.

A region is moved and mirrored at random over the analysed voxels; what leaves them is replaced by
the voxels nearest to the moved shape. Only sets like the region in compactness, smoothness and
accuracy are kept (calipers: Cochran & Rubin 1973, Sankhya A 35:417).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

LEAST_DISJOINT = 20
"""Sets without a common voxel that have to fit beside a region: fewer give no p below .05."""
N_CANDIDATES = 2000
CALIPER = 0.5
"""How far smoothness and accuracy may be from the region's, in deviations over candidates."""
COMPACTNESS = 0.15
"""How far the radius may be from the region's, as a share of it."""


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
    positions: IndexArray,
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
    positions
        Place of each voxel on the grid, (n_voxels, 3).
    responses
        Shape (n_samples, n_voxels): the smoothness of a set is the deviation over samples of the
        mean of its z-scored voxels.
    accuracy
        One value per voxel, (n_voxels,).
    n_random
        At most so many sets.
    rng
        Moves and mirrors.

    Returns
    -------
    Placements
        Without sets where fewer than :data:`LEAST_DISJOINT` disjoint ones were found.
    """
    members, outside = np.flatnonzero(region), np.flatnonzero(~region)
    nothing = Placements(np.empty((0, len(members)), dtype=np.intp), 0)
    if len(outside) < LEAST_DISJOINT * len(members):
        return nothing
    candidates = _move(positions[members], positions[outside], rng)
    candidates = np.concatenate([members[None], outside[candidates]])
    radius = _radius(positions, candidates)
    like = np.abs(radius - radius[0]) <= COMPACTNESS * radius[0]
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


def _move(shape: IndexArray, places: IndexArray, rng: np.random.Generator) -> IndexArray:
    """Return the rows of ``places`` that a moved and mirrored shape takes, (n_candidates, n)."""
    from scipy.ndimage import distance_transform_edt

    low = np.minimum(shape.min(axis=0), places.min(axis=0))
    extent = np.maximum(shape.max(axis=0), places.max(axis=0)) - low
    # distance to the shape at any offset within the brain
    grid = np.ones(2 * extent + 1 + np.ptp(shape, axis=0), dtype=bool)
    corner = extent
    grid[tuple((shape - shape.min(axis=0) + corner).T)] = False
    distance = distance_transform_edt(grid).astype(np.float32)
    center = shape.mean(axis=0).round().astype(np.intp) - shape.min(axis=0) + corner
    last = np.array(grid.shape) - 1
    found = np.empty((N_CANDIDATES, len(shape)), dtype=np.intp)
    for row, seed in enumerate(rng.integers(len(places), size=N_CANDIDATES)):
        mirror = rng.choice((-1, 1), size=3)
        at = np.clip((places - places[seed]) * mirror + center, 0, last)
        away = distance[tuple(at.T)] + 0.01 * rng.random(len(places), dtype=np.float32)
        found[row] = np.argpartition(away, len(shape) - 1)[: len(shape)]
    return found


def _radius(positions: IndexArray, sets: IndexArray) -> FloatArray:
    """Return the root mean square distance of each set's voxels from their centre."""
    places = positions[sets].astype(np.float64)
    return np.asarray(np.sqrt(places.var(axis=1).sum(axis=1)))


def _smoothness(responses: npt.NDArray[np.floating[Any]], sets: IndexArray) -> FloatArray:
    deviation = responses.std(axis=0)
    z = (responses - responses.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)
    return np.array([z[:, voxels].mean(axis=1).std() for voxels in sets], dtype=np.float64)


__all__ = ['LEAST_DISJOINT', 'Placements', 'place_alike']
