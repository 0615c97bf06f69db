r"""A pyramid of Gabor wavelets, with coarse luminance and colour: features without weights.

The wavelet of spatial frequency :math:`f` and orientation :math:`\theta` at :math:`(x_0, y_0)` is

.. math::

    \psi(x, y) = e^{-((x - x_0)^2 + (y - y_0)^2) / 2\sigma_f^2}
                 e^{2 \pi i f ((x - x_0)\cos\theta + (y - y_0)\sin\theta)}, \qquad
    \sigma_f = \frac{\sqrt{2 \ln 2}}{2 \pi f} \frac{2^b + 1}{2^b - 1}

with a bandwidth of :math:`b` octaves at half height. Its feature is the energy of the quadrature
pair, :math:`|\langle I, \psi\rangle|`, after the part that a uniform image would give is taken
off, and scaled so that a grating of amplitude A gives A. A frequency of f cycles an image has
f x f positions. (Daugman 1985, J Opt Soc Am A 2:1160, the wavelet; Kay et al. 2008, Nature
452:352, the pyramid and its quadrature energy as a model of voxels in visual cortex.)

The envelope is circular, so that a wavelet is the product of one function of x and one of y: two
small matrix products give all positions of all images, and nothing wraps around the edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.stimuli.images import as_float
from bids_neurodecode.typing import Float32Array

BAD_BANK = (
    'The Gabor bank needs at least one orientation, a bandwidth above 0, positive frequencies '
    'and grids of 0 or more cells; it was given {found}.'
)
TOO_FINE = (
    'A wavelet of {frequency:g} cycles an image needs images of at least {need} pixels; these '
    'have {have}. Make features.image_size larger, or leave that frequency out.'
)

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.709)."""
_ROWS = 512  # of the identity at once: the maps of all positions are large

Complex64Array = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class GaborPyramid:
    """The bank; see the equations of this module.

    Parameters
    ----------
    frequencies
        Cycles an image (its shorter side). None: 1, 2, 4, ... up to a quarter of the pixels.
    n_orientations
        Orientations, evenly from 0 to 180 degrees; 0 has vertical stripes.
    bandwidth
        In octaves, full width at half height.
    luminance_grid, colour_grid
        Cells along a side over which luminance, and red-green and blue-yellow, are averaged;
        0 leaves them out.
    """

    name: ClassVar[str] = 'gabor'
    version: ClassVar[str] = '1'

    frequencies: tuple[float, ...] | None = None
    n_orientations: int = 8
    bandwidth: float = 1.0
    luminance_grid: int = 8
    colour_grid: int = 4

    def __post_init__(self) -> None:
        fine = (
            self.n_orientations >= 1
            and self.bandwidth > 0
            and min(self.luminance_grid, self.colour_grid) >= 0
            and (self.frequencies is None or (self.frequencies and min(self.frequencies) > 0))
        )
        if not fine:
            raise ArgumentsError(BAD_BANK.format(found=asdict(self)))

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter that the features depend on."""
        return asdict(self)

    def transform(self, images: npt.NDArray[np.uint8]) -> Float32Array:
        """Turn images into energies, then luminance, then colour.

        Parameters
        ----------
        images
            Shape (n, h, w, 3), uint8 (or floating point in [0, 1]).

        Returns
        -------
        numpy.ndarray
            Shape (n, n_features), float32. The energies are ordered by frequency, orientation,
            row and column.

        Raises
        ------
        DataError
            If the images are too small for a frequency.
        """
        rgb = as_float(images)
        luminance = rgb @ LUMINANCE
        parts = [
            self.energy(luminance, frequency).reshape(len(rgb), -1)
            for frequency in self.frequencies_for(luminance.shape[1:])
        ]
        parts.extend(self._channels(rgb, luminance))
        return np.concatenate(parts, axis=1)

    def frequencies_for(self, shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return the frequencies used for images of (h, w), checked against the pixels."""
        shorter = min(shape)
        frequencies = self.frequencies
        if frequencies is None:
            octaves = max(0, int(math.log2(max(shorter, 4) / 4)))
            frequencies = tuple(float(2**k) for k in range(octaves + 1))
        for frequency in frequencies:
            if shorter < 4 * frequency:
                raise DataError(
                    TOO_FINE.format(
                        frequency=frequency, need=math.ceil(4 * frequency), have=shorter
                    )
                )
        return frequencies

    def energy(self, luminance: Float32Array, frequency: float) -> Float32Array:
        """Quadrature energy of one frequency.

        Parameters
        ----------
        luminance
            Shape (n, h, w).
        frequency
            Cycles an image.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_orientations, n_rows, n_columns).
        """
        responses, weight = self._responses(luminance, frequency)
        return np.asarray(np.abs(responses) * 2 / weight, dtype=np.float32)

    def linear_maps(self, size: int) -> Complex64Array:
        """Return what the energies of a square image are the moduli of.

        Parameters
        ----------
        size
            Height and width of the image, in pixels.

        Returns
        -------
        numpy.ndarray
            Shape (size * size, n_energies), complex64: luminance, flat, times this gives complex
            numbers whose moduli are the energies, in the order of :meth:`transform`.
        """
        frequencies = self.frequencies_for((size, size))
        blocks = []
        for first in range(0, size * size, _ROWS):
            pixels = np.eye(min(_ROWS, size * size - first), size * size, first, dtype=np.float32)
            planes = pixels.reshape(-1, size, size)
            found = [self._responses(planes, f) for f in frequencies]
            parts = [(z * 2 / weight).reshape(len(planes), -1) for z, weight in found]
            blocks.append(np.concatenate(parts, axis=1))
        return np.concatenate(blocks)

    def _responses(
        self, luminance: Float32Array, frequency: float
    ) -> tuple[Complex64Array, Float32Array]:
        """Return complex responses, of the shape of :meth:`energy`, and their envelopes' sums."""
        n, height, width = luminance.shape
        rows, columns = self._wavelets(height, width, frequency)
        centred = luminance - luminance.mean(axis=(1, 2), keepdims=True)  # keeps float32 exact
        stacked = columns.reshape(-1, width).T
        along_x = (centred.reshape(-1, width) @ stacked).reshape(
            n, height, columns.shape[0], columns.shape[1]
        )
        response: Complex64Array = np.matmul(rows[None], along_x.transpose(0, 2, 1, 3))
        envelope_rows, envelope_columns = np.abs(rows[:1]), np.abs(columns[:1])
        weight = envelope_rows.sum(-1)[:, :, None] * envelope_columns.sum(-1)[:, None, :]
        local_mean = (envelope_rows[0] @ centred @ envelope_columns[0].T)[:, None] / weight
        uniform = rows.sum(-1)[:, :, None] * columns.sum(-1)[:, None, :]
        return response - local_mean * uniform, weight

    def _wavelets(
        self, height: int, width: int, frequency: float
    ) -> tuple[Complex64Array, Complex64Array]:
        """Return the factors along y and x: (n_orientations, n_positions, n_pixels) each."""
        shorter = min(height, width)
        ratio = (2**self.bandwidth + 1) / (2**self.bandwidth - 1)
        sigma = math.sqrt(2 * math.log(2)) / (2 * math.pi * frequency) * ratio
        angles = np.arange(self.n_orientations) * np.pi / self.n_orientations

        def factor(n_pixels: int, projection: npt.NDArray[np.float64]) -> Complex64Array:
            extent = n_pixels / shorter
            n_positions = max(1, round(frequency * extent))
            centres = (np.arange(n_positions) + 0.5) * extent / n_positions
            offsets = (np.arange(n_pixels) + 0.5) / shorter - centres[:, None]
            carrier = 2j * np.pi * frequency * projection[:, None, None] * offsets
            wavelets = np.exp(carrier - offsets**2 / (2 * sigma**2))
            return np.asarray(wavelets, dtype=np.complex64)

        return factor(height, np.sin(angles)), factor(width, np.cos(angles))

    def _channels(self, rgb: Float32Array, luminance: Float32Array) -> list[Float32Array]:
        red, green, blue = (rgb[..., k] for k in range(3))
        channels = []
        if self.luminance_grid:
            channels.append(_cell_means(luminance, self.luminance_grid))
        if self.colour_grid:
            channels.append(_cell_means(red - green, self.colour_grid))
            channels.append(_cell_means(blue - (red + green) / 2, self.colour_grid))
        return channels


def _cell_means(plane: npt.NDArray[np.floating[Any]], n_cells: int) -> Float32Array:
    """Average (n, h, w) over a grid of n_cells x n_cells: (n, n_cells ** 2)."""
    rows = cell_shares(plane.shape[1], n_cells)
    columns = cell_shares(plane.shape[2], n_cells)
    means = (rows @ plane @ columns.T).reshape(len(plane), -1)
    return np.asarray(means, dtype=np.float32)


def cell_shares(n_pixels: int, n_cells: int) -> Float32Array:
    """Return the share of each cell that each pixel covers, (n_cells, n_pixels); rows sum to 1.

    Parameters
    ----------
    n_pixels
        Along a side.
    n_cells
        Along the same side.
    """
    edges = np.arange(n_cells + 1) * n_pixels / max(n_cells, 1)
    pixel = np.arange(n_pixels)
    upper = np.minimum(edges[1:, None], pixel + 1)
    lower = np.maximum(edges[:-1, None], pixel)
    shares = np.clip(upper - lower, 0, None) * n_cells / n_pixels
    return np.asarray(shares, dtype=np.float32)
