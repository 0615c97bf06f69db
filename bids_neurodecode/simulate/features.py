"""What simulated voxels respond to: features of images and film frames.

Kept apart from the feature banks that decode, so that a decoder does not hold the generator of its
data: here the energies of oriented filters are made in the Fourier domain (log-Gabor filters;
Field 1987, J Opt Soc Am A 4:2379) and pooled over a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.typing import FloatArray, Uint8Array

SIZE = 48
"""Pixels a side of the images that features are taken from."""
FREQUENCIES = (2.0, 4.0, 8.0)
"""Cycles an image."""
N_ORIENTATIONS = 4
GRID = 8
COLOUR_GRID = 4
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
OPPONENT = np.array([[1 / 3, 1 / 2, -1 / 4], [1 / 3, -1 / 2, -1 / 4], [1 / 3, 0, 1 / 2]])


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of samples, and where each one looks.

    Parameters
    ----------
    values
        Shape (n_samples, n_features).
    columns
        One row per feature: ``name``, ``group`` (``gabor``, ``colour``, ``category``, ``motion``
        or ``soundtrack``), and for places ``x``, ``y`` (-1 to 1, right and down positive),
        ``frequency`` (cycles an image) and ``orientation`` (degrees of the stripes' normal).
    """

    values: FloatArray
    columns: pd.DataFrame

    def standardised(self) -> FeatureTable:
        """Return features of zero mean and unit deviation over the samples (constant: 0)."""
        centred = self.values - self.values.mean(axis=0)
        scale = centred.std(axis=0)
        return FeatureTable(centred / np.where(scale > 1e-9, scale, np.inf), self.columns)

    def group(self, *names: str) -> npt.NDArray[np.bool_]:
        """Return which features are of these groups, (n_features,)."""
        return self.columns['group'].isin(names).to_numpy()


def join(*tables: FeatureTable) -> FeatureTable:
    """Put features of the same samples side by side."""
    return FeatureTable(
        np.concatenate([t.values for t in tables], axis=1),
        pd.concat([t.columns for t in tables], ignore_index=True),
    )


def gabor_energy(images: Uint8Array) -> FeatureTable:
    """Return pooled energies of oriented filters.

    Parameters
    ----------
    images
        Shape (n, SIZE, SIZE, 3), uint8.

    Returns
    -------
    FeatureTable
        3 frequencies x 4 orientations x 8 x 8 places; square roots of energies.
    """
    luminance = images.astype(np.float64) @ LUMINANCE / 255
    luminance -= luminance.mean(axis=(1, 2), keepdims=True)
    maps, rows = [], []
    spectrum = np.fft.fft2(luminance)
    for frequency in FREQUENCIES:
        for k in range(N_ORIENTATIONS):
            angle = 180.0 * k / N_ORIENTATIONS
            energy = np.abs(np.fft.ifft2(spectrum * _log_gabor(frequency, angle)))
            maps.append(_pool(energy[..., None], GRID))
            rows += _places('gabor', GRID, f'f{frequency:g}o{angle:g}', frequency, angle)
    return _table(maps, rows)


def colours(images: Uint8Array) -> FeatureTable:
    """Return luminance and two opponent colours on a 4 x 4 grid; images (n, SIZE, SIZE, 3)."""
    layers = images.astype(np.float64) / 255 @ OPPONENT
    maps = [_pool(layers[..., k : k + 1], COLOUR_GRID) for k in range(3)]
    names = ('luminance', 'redgreen', 'blueyellow')
    return _table(maps, [row for n in names for row in _places('colour', COLOUR_GRID, n)])


def motion_energy(frames: Uint8Array) -> FeatureTable:
    """Return the mean absolute change from the frame before on a 4 x 4 grid."""
    luminance = frames.astype(np.float64).mean(axis=-1, keepdims=True) / 255
    change = np.abs(np.diff(luminance, axis=0, prepend=luminance[:1]))
    return _table([_pool(change, COLOUR_GRID)], _places('motion', COLOUR_GRID, 'motion'))


def categories(names: Sequence[str], kinds: Sequence[str] | None = None) -> FeatureTable:
    """Return one indicator a category (of ``kinds``, or of those there), of each sample's.

    Parameters
    ----------
    names
        Category of each sample.
    kinds
        All categories, in their order; None: those of ``names``, sorted.
    """
    distinct = sorted(set(names)) if kinds is None else kinds
    values = np.array([[float(name == d) for d in distinct] for name in names])
    return _table([values], [_row(d, 'category') for d in distinct])


def soundtrack(n_samples: int, interval: float, rng: np.random.Generator) -> FeatureTable:
    """Return three slow random courses that are in no image, for what viewers share beyond it.

    Smooth over about 2 s; ``interval`` is the time between samples.

    Parameters
    ----------
    n_samples
        How many.
    interval
        Seconds between samples.
    rng
        Draws the courses.
    """
    from scipy.ndimage import gaussian_filter1d

    noise = rng.standard_normal((n_samples, 3))
    values = gaussian_filter1d(noise, 2.0 / interval, axis=0, mode='reflect')
    return _table([values], [_row(f'sound{k}', 'soundtrack') for k in range(3)])


def _log_gabor(frequency: float, angle: float) -> FloatArray:
    """Return the one-sided filter in the Fourier domain, (SIZE, SIZE)."""
    fy, fx = np.meshgrid(*[np.fft.fftfreq(SIZE, 1 / SIZE)] * 2, indexing='ij')
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1
    radial = np.exp(-(np.log(radius / frequency) ** 2) / (2 * np.log(1.6) ** 2))
    radial[0, 0] = 0
    turn = np.angle(np.exp(1j * (np.arctan2(fy, fx) - np.deg2rad(angle))))
    filtered: FloatArray = radial * np.exp(-(turn**2) / (2 * 0.4**2))
    return filtered


def _pool(layers: FloatArray, grid: int) -> FloatArray:
    """Average (n, SIZE, SIZE, 1) over the cells of a grid, (n, grid * grid)."""
    n, cell = len(layers), SIZE // grid
    cells = layers.reshape(n, grid, cell, grid, cell)
    pooled: FloatArray = cells.mean(axis=(2, 4)).reshape(n, grid * grid)
    return pooled


def _places(
    group: str, grid: int, name: str, frequency: float = np.nan, angle: float = np.nan
) -> list[dict[str, Any]]:
    centres = (np.arange(grid) + 0.5) * 2 / grid - 1
    return [
        _row(f'{name}x{i}y{j}', group, x, y, frequency, angle)
        for j, y in enumerate(centres)
        for i, x in enumerate(centres)
    ]


def _row(
    name: str,
    group: str,
    x: float = np.nan,
    y: float = np.nan,
    frequency: float = np.nan,
    orientation: float = np.nan,
) -> dict[str, Any]:
    return {
        'name': name,
        'group': group,
        'x': x,
        'y': y,
        'frequency': frequency,
        'orientation': orientation,
    }


def _table(maps: list[FloatArray], rows: list[dict[str, Any]]) -> FeatureTable:
    return FeatureTable(np.concatenate(maps, axis=1).astype(np.float64), pd.DataFrame(rows))
