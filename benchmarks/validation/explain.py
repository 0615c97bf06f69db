"""Disturbed regions and concepts of film that have nothing to do with the output."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.validation.harness import Check
from benchmarks.validation.selection import noise
from bids_neurodecode.explain.concepts import Examples, concept_sensitivity
from bids_neurodecode.explain.perturbation import perturbation_effects

SIDE = 20
N_UNITS = 16


def smooth(rng: np.random.Generator, n: int, fwhm: float) -> npt.NDArray[np.float64]:
    """Return n maps of a smoothness in voxels, (n, SIDE, SIDE, SIDE)."""
    maps = rng.standard_normal((n, SIDE, SIDE, SIDE))
    maps = ndimage.gaussian_filter(maps, fwhm / 2.3548, mode='wrap', axes=(1, 2, 3))
    return np.asarray(maps / maps.std())


def region_world(
    rng: np.random.Generator, size: int, fwhm: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp], npt.NDArray[np.float64], object, object]:
    """Return a compact region anywhere in a ball of smooth voxels that all feed the output."""
    center = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    mask = (center**2).sum(axis=0) <= (SIDE / 2) ** 2
    places = np.argwhere(mask)
    responses = smooth(rng, 60, fwhm)[:, mask]
    weights = smooth(rng, 4, fwhm)[:, mask].T
    truth = responses @ weights
    truth = truth + truth.std() * rng.standard_normal(truth.shape)
    away = ((places - places[rng.integers(len(places))]) * rng.uniform(0.7, 1.4, 3)) ** 2
    region = np.zeros(len(places), dtype=bool)
    region[np.argsort(away.sum(axis=1))[:size]] = True

    def predict(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return values @ weights

    def correlation(predicted: npt.NDArray[np.floating]) -> float:
        return float(np.corrcoef(predicted.ravel(), truth.ravel())[0, 1])

    return region, places, responses, predict, correlation


def _region(rng: np.random.Generator, size: int, fwhm: float) -> float:
    region, places, responses, predict, correlation = region_world(rng, size, fwhm)
    table = perturbation_effects(
        predict,  # type: ignore[arg-type]
        responses,
        {'region': region},
        {'r': correlation},  # type: ignore[dict-item]
        positions=places,
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
