"""What each simulated voxel prefers, how it responds and how noisy it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_neurodecode.simulate.brain import Brain
from bids_neurodecode.simulate.features import FeatureTable
from bids_neurodecode.simulate.response import N_HRFS
from bids_neurodecode.simulate.spec import SimulationSpec
from bids_neurodecode.typing import BoolArray, FloatArray, IndexArray

HRF_FWHM = 25.0
"""Smoothness in mm of the map of haemodynamic responses."""
MAP_FWHM = 30.0
"""Smoothness in mm of the retinotopic map."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Planted properties of one participant's voxels.

    Parameters
    ----------
    weights
        On the standardised features, (n_features, n_voxels); 0 where a voxel does not respond.
    hrf_index
        Response of the library (from 0), (n_voxels,).
    ncsnr
        Planted signal-to-noise ratio of a single trial (or volume), (n_voxels,).
    """

    weights: FloatArray
    hrf_index: IndexArray
    ncsnr: FloatArray

    @property
    def responsive(self) -> BoolArray:
        """Which voxels carry signal, (n_voxels,)."""
        mask: BoolArray = (self.ncsnr > 0) & (self.weights != 0).any(axis=0)
        return mask

    def preferred(self, features: FeatureTable) -> FloatArray:
        """Return each voxel's course over the samples, unit deviation, (n_samples, n_voxels)."""
        course = features.standardised().values @ self.weights
        course -= course.mean(axis=0)
        scale = course.std(axis=0)
        scaled: FloatArray = course / np.where(scale > 1e-9, scale, np.inf)
        return scaled


def draw_voxels(
    spec: SimulationSpec, brain: Brain, features: FeatureTable, rng: np.random.Generator
) -> Voxels:
    """Draw tuning, responses and signal-to-noise ratios.

    Early visual voxels have receptive fields in the opposite half of the image, with a preferred
    frequency and orientation; colour voxels the same with a preferred colour; object voxels
    prefer categories (and motion, in films); auditory voxels follow the soundtrack.

    The share of a single trial's variance that is signal is drawn from a beta distribution
    between 0 and ``spec.max_noise_ceiling``, then ``spec.snr`` scales its ratio to the noise.

    Parameters
    ----------
    spec
        Of the dataset.
    brain
        Mask and regions.
    features
        Whose columns say where and what they are of.
    rng
        Draws all.
    """
    weights = np.zeros((len(features.columns), brain.n_voxels))
    _early(weights, brain, features, rng)
    _colour(weights, brain, features, rng)
    _object(weights, brain, features, rng)
    _auditory(weights, brain, features, rng)
    weights[:, rng.random(brain.n_voxels) >= spec.responsive_fraction] = 0
    field = brain.smooth_field(HRF_FWHM, rng)
    hrf_index = (_uniform(field) * N_HRFS).astype(np.intp)
    ceiling = spec.max_noise_ceiling * rng.beta(1.3, 1.6, size=brain.n_voxels)
    ceiling = np.clip(ceiling, 0.03, None)
    tuned = (weights != 0).any(axis=0)
    ncsnr = np.where(tuned, spec.snr * np.sqrt(ceiling / (1 - ceiling)), 0.0)
    return Voxels(weights, hrf_index, ncsnr)


def _early(
    weights: FloatArray, brain: Brain, features: FeatureTable, rng: np.random.Generator
) -> None:
    rows, voxels = features.group('gabor'), brain.role('early')
    columns = features.columns[rows]
    place = _receptive_field(columns, brain, voxels, rng)
    n = np.count_nonzero(voxels)
    octaves = rng.uniform(1, 3, size=n)  # preferred frequency: 2 to 8 cycles an image
    distance = np.log2(columns['frequency'].to_numpy(float))[:, None] - octaves
    angle = np.deg2rad(columns['orientation'].to_numpy(float))[:, None]
    turned = np.cos(2 * (angle - rng.uniform(0, np.pi, size=n)))
    weights[np.ix_(rows, voxels)] = (
        place * np.exp(-(distance**2) / (2 * 0.7**2)) * (0.15 + np.exp(1.5 * (turned - 1)))
    )


def _colour(
    weights: FloatArray, brain: Brain, features: FeatureTable, rng: np.random.Generator
) -> None:
    rows, voxels = features.group('colour'), brain.role('colour')
    columns = features.columns[rows]
    place = _receptive_field(columns, brain, voxels, rng)
    channel = columns['name'].str.extract(r'^([a-z]+)x', expand=False).factorize()[0]
    colour = rng.standard_normal((channel.max() + 1, np.count_nonzero(voxels)))
    weights[np.ix_(rows, voxels)] = place * colour[channel]


def _object(
    weights: FloatArray, brain: Brain, features: FeatureTable, rng: np.random.Generator
) -> None:
    voxels = brain.role('object')
    n = np.count_nonzero(voxels)
    kinds, motion = features.group('category'), features.group('motion')
    n_kinds = np.count_nonzero(kinds)
    if n_kinds > 1:
        preferred = np.eye(int(n_kinds))[rng.integers(n_kinds, size=n)].T
        weights[np.ix_(kinds, voxels)] = preferred + 0.25 * rng.standard_normal((n_kinds, n))
    if motion.any():
        place = _receptive_field(features.columns[motion], brain, voxels, rng)
        weights[np.ix_(motion, voxels)] = 0.3 * place
    if n_kinds <= 1 and not motion.any():  # nothing to tell apart but the layout of colours
        layout = features.group('colour')
        weights[np.ix_(layout, voxels)] = rng.standard_normal((np.count_nonzero(layout), n))


def _auditory(
    weights: FloatArray, brain: Brain, features: FeatureTable, rng: np.random.Generator
) -> None:
    rows, voxels = features.group('soundtrack'), brain.role('auditory')
    if rows.any():
        shape = (np.count_nonzero(rows), np.count_nonzero(voxels))
        weights[np.ix_(rows, voxels)] = rng.standard_normal(shape)


def _receptive_field(
    columns: Any, brain: Brain, voxels: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """Return Gaussians over the features' places, (n_features, n_voxels of the region).

    Neighbours look at neighbouring places, on the other side of the image than theirs.
    """
    side = np.where(brain.coordinates[voxels, 0] < 0, 1, -1)
    x = side * 0.9 * _uniform(brain.smooth_field(MAP_FWHM, rng)[voxels])
    y = 1.8 * _uniform(brain.smooth_field(MAP_FWHM, rng)[voxels]) - 0.9
    width = rng.uniform(0.2, 0.4, size=x.size)
    dx = columns['x'].to_numpy(float)[:, None] - x
    dy = columns['y'].to_numpy(float)[:, None] - y
    field: FloatArray = np.exp(-(dx**2 + dy**2) / (2 * width**2))
    return field


def _uniform(values: FloatArray) -> FloatArray:
    """Replace values by their ranks, spread evenly over [0, 1)."""
    ranks: FloatArray = np.argsort(np.argsort(values, kind='stable')) / max(values.size, 1)
    return ranks


@dataclass(frozen=True, eq=False)
class NoiseFields:
    """How each kind of noise is spread over one participant's voxels.

    Parameters
    ----------
    sd
        Standard deviation of the autocorrelated noise, percent, (n_voxels,).
    shared, physiology, motion, drift
        Loadings, (5, n_voxels), (4, n_voxels), (12, n_voxels), (n_voxels,); percent where not
        relative.
    """

    sd: FloatArray
    shared: FloatArray
    physiology: FloatArray
    motion: FloatArray
    drift: FloatArray


def draw_noise_fields(
    spec: SimulationSpec, brain: Brain, rng: np.random.Generator, n_shared: int
) -> NoiseFields:
    """Draw the loadings: physiology strongest in fluid, motion strongest at the edge.

    Parameters
    ----------
    spec
        Of the dataset.
    brain
        Mask and tissue.
    rng
        Draws all.
    n_shared
        Courses of noise that all voxels share.
    """
    n = brain.n_voxels
    sd = spec.noise_sd * np.exp(0.15 * rng.standard_normal(n))
    shared = np.stack([brain.smooth_field(40, rng) for _ in range(n_shared)])
    shared += 0.3 * rng.standard_normal(shared.shape)
    shared /= np.linalg.norm(shared, axis=0)
    local = 0.5 + np.abs(np.stack([brain.smooth_field(30, rng) for _ in range(4)]))
    beat = spec.physiology / 2 * sd * local * (1 + 2 * brain.csf)
    edge = np.stack([brain.smooth_field(20, rng) for _ in range(12)])
    edge[6:] = np.abs(edge[6:])  # spin history only darkens
    moved = spec.motion * sd * edge * (0.3 + brain.edge)
    return NoiseFields(sd, shared, beat, moved, spec.drift * sd)
