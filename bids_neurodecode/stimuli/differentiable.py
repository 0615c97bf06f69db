"""The Gabor bank in torch, so that images can be changed until they have given features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bids_neurodecode.stimuli.gabor import LUMINANCE, GaborPyramid, cell_shares

_ROUNDING = 1e-8  # of a squared energy: its root has no slope at 0


class DifferentiableGabor(nn.Module):
    """:meth:`GaborPyramid.transform` of square images of one size, with gradients.

    Every energy is the modulus of a linear function of luminance, so that one matrix product gives
    all of them.

    Parameters
    ----------
    bank
        The bank.
    size
        Height and width of the images, in pixels.

    Raises
    ------
    DataError
        If the images are too small for a frequency.
    """

    real: Tensor
    imaginary: Tensor
    luminance: Tensor
    luminance_rows: Tensor
    colour_rows: Tensor

    def __init__(self, bank: GaborPyramid, size: int) -> None:
        super().__init__()
        self.bank, self.size = bank, size
        maps = bank.linear_maps(size)
        buffers = {
            'real': maps.real,
            'imaginary': maps.imag,
            'luminance': LUMINANCE,
            'luminance_rows': cell_shares(size, bank.luminance_grid),
            'colour_rows': cell_shares(size, bank.colour_grid),
        }
        for name, values in buffers.items():
            tensor = torch.from_numpy(np.array(values, dtype=np.float32))
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features (n, n_features) of pixels (n, 3, size, size) from 0 to 1."""
        luminance = torch.einsum('c,nchw->nhw', self.luminance, pixels)
        flat = luminance.flatten(1)
        power = (flat @ self.real).square() + (flat @ self.imaginary).square()
        parts = [(power + _ROUNDING).sqrt()]
        if self.bank.luminance_grid:
            parts.append(_means(luminance, self.luminance_rows))
        if self.bank.colour_grid:
            red, green, blue = pixels.unbind(dim=1)
            parts.append(_means(red - green, self.colour_rows))
            parts.append(_means(blue - (red + green) / 2, self.colour_rows))
        return torch.cat(parts, dim=1)


def _means(plane: Tensor, rows: Tensor) -> Tensor:
    return (rows @ plane @ rows.T).flatten(1)
