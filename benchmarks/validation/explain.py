"""Disturbed regions and concepts of film that have nothing to do with the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from nibabel.cifti2.cifti2_axes import BrainModelAxis
from nilearn.datasets import load_fsaverage
from scipy import ndimage
from scipy.sparse import csr_array, eye_array

from benchmarks.validation.harness import Check
from benchmarks.validation.selection import noise
from bids_neurodecode.explain.concepts import Examples, concept_sensitivity
from bids_neurodecode.explain.perturbation import perturbation_effects
from bids_neurodecode.samples import VoxelMask
from bids_neurodecode.signals.meshes import bridged, neighbours
from bids_neurodecode.spaces import HEMISPHERES, Space

SIDE = 20
N_UNITS = 16


@dataclass(frozen=True, eq=False)
class Place:
    """Where voxels or vertices lie (n_voxels, 3), who are neighbours, and smooth maps of them."""

    where: npt.NDArray[np.float64]
    edges: csr_array
    smooth: Callable[[np.random.Generator, int, float], npt.NDArray[np.float64]]


@cache
def ball() -> Place:
    """Return a ball of voxels."""
    center = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    mask = (center**2).sum(axis=0) <= (SIDE / 2) ** 2

    def smooth(rng: np.random.Generator, n: int, fwhm: float) -> npt.NDArray[np.float64]:
        maps = rng.standard_normal((n, SIDE, SIDE, SIDE))
        maps = ndimage.gaussian_filter(maps, fwhm / 2.3548, mode='wrap', axes=(1, 2, 3))
        return np.asarray(maps / maps.std())[:, mask]

    edges = neighbours(VoxelMask(mask, np.eye(4)))
    return Place(np.argwhere(mask), bridged(edges, np.arange(edges.shape[0])), smooth)


@cache
def back() -> Place:
    """Return the back of both hemispheres of fsaverage5."""
    sides = [np.asarray(load_fsaverage()['pial'].parts[x].coordinates) for x in ('left', 'right')]
    axes = [
        BrainModelAxis.from_surface(np.arange(len(places)), len(places), name)
        for places, name in zip(sides, HEMISPHERES.values(), strict=True)
    ]
    where = np.concatenate(sides)
    mask = where[:, 1] < -55
    space = Space(axes[0] + axes[1], 'gifti', 'fsaverage5')
    edges = neighbours(VoxelMask(mask.reshape(-1, 1, 1), np.eye(4), space=space))
    average = edges.astype(bool).astype(float) + eye_array(edges.shape[0])
    average = average / np.asarray(average.sum(axis=1))[:, None]

    def smooth(rng: np.random.Generator, n: int, times: float) -> npt.NDArray[np.float64]:
        maps = rng.standard_normal((edges.shape[0], n))
        for _ in range(round(times)):
            maps = average @ maps
        return np.asarray((maps / maps.std()).T)

    return Place(where[mask], bridged(edges, np.arange(edges.shape[0])), smooth)


def region_world(
    rng: np.random.Generator, place: Place, size: int, fwhm: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], object, object]:
    """Return a compact region anywhere among smooth voxels that all feed the output."""
    responses = place.smooth(rng, 60, fwhm)
    weights = place.smooth(rng, 4, fwhm).T
    truth = responses @ weights
    truth = truth + truth.std() * rng.standard_normal(truth.shape)
    n = len(place.where)
    away = ((place.where - place.where[rng.integers(n)]) * rng.uniform(0.7, 1.4, 3)) ** 2
    region = np.zeros(n, dtype=bool)
    region[np.argsort(away.sum(axis=1))[:size]] = True

    def predict(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return values @ weights

    def correlation(predicted: npt.NDArray[np.floating]) -> float:
        return float(np.corrcoef(predicted.ravel(), truth.ravel())[0, 1])

    return region, responses, predict, correlation


def _region(
    rng: np.random.Generator, size: int, fwhm: float, place: Callable[[], Place] = ball
) -> float:
    region, responses, predict, correlation = region_world(rng, place(), size, fwhm)
    table = perturbation_effects(
        predict,  # type: ignore[arg-type]
        responses,
        {'region': region},
        {'r': correlation},  # type: ignore[dict-item]
        neighbours=place().edges,
        rng=rng,
        kinds=('zero',),
        n_random=199,
    )
    return float(table['p'].iloc[0])


def scene(rng: np.random.Generator, n: int, share: float) -> npt.NDArray[np.bool_]:
    """Return which volumes are those of one contiguous scene, (n,)."""
    length = round(share * n)
    start = int(rng.integers(n - length + 1))
    inside = np.zeros(n, dtype=bool)
    inside[start : start + length] = True
    return inside


def _concept(rng: np.random.Generator, n: int, share: float, phi: float) -> float:
    units = noise(rng, n, phi, N_UNITS)
    slopes = rng.standard_normal(N_UNITS) + 0.3 * rng.standard_normal((50, N_UNITS))
    concept = Examples(units, scene(rng, n, share), np.zeros(n))
    table = concept_sensitivity({'scene': concept}, slopes, rng=rng, n_permutations=39)
    return float(table['p'].iloc[0])


CHECKS = [
    Check(
        'explanation',
        'perturbation of a region',
        '25 of 4,224 voxels, smoothness 2.5 voxels',
        'p',
        partial(_region, size=25, fwhm=2.5),
        500,
        quick=3,
        before=(0.400, 0.312, 0.493),
    ),
    Check(
        'explanation',
        'perturbation of a region',
        '100 of 4,224 voxels, smoothness 2.5 voxels',
        'p',
        partial(_region, size=100, fwhm=2.5),
        20,
        before=(0.633, 0.541, 0.719),
        note='Fewer than 20 sets of this size and compactness fit beside each other.',
    ),
    Check(
        'explanation',
        'perturbation of a region',
        '40 of 4,224 voxels, smoothness 5.9 voxels',
        'p',
        partial(_region, size=40, fwhm=5.9),
        500,
        before=(0.667, 0.575, 0.750),
        note='Sets that overlap count as those that fit beside each other.',
    ),
    Check(
        'explanation',
        'perturbation of a region',
        '25 of 4,309 vertices of fsaverage5, correlated by .7 at 4 mm and .1 at 12',
        'p',
        partial(_region, size=25, fwhm=4, place=back),
        500,
        quick=3,
    ),
    Check(
        'explanation',
        'perturbation of a region',
        '40 of 4,309 vertices of fsaverage5, correlated by .8 at 4 mm and .3 at 12',
        'p',
        partial(_region, size=40, fwhm=8, place=back),
        500,
    ),
    Check(
        'explanation',
        'concept of one scene',
        'a fifth of 250 volumes, activations AR .9',
        'p',
        partial(_concept, n=250, share=0.2, phi=0.9),
        1000,
        quick=8,
        before=(0.113, 0.067, 0.175),
    ),
    Check(
        'explanation',
        'concept of one scene',
        'a fifth of 900 volumes, activations AR .97',
        'p',
        partial(_concept, n=900, share=0.2, phi=0.97),
        300,
        before=(0.190, 0.118, 0.281),
    ),
]
