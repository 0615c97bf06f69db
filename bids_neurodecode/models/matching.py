r"""Moving images towards where their features are the decoded ones.

An image that stands for many (a start, or what a network takes a noisy image for) is moved, for
a given number of updates, towards

.. math::

    \min_x \; \tfrac12 \sum_j \frac{(b_j \cdot (x - x_0))^2}{v_j}
        + \frac{1}{2 \tau^2} \sum_k (f_k(x) - \hat f_k)^2

with :math:`b_j` an orthonormal basis in which the image's error has variances :math:`v_j`,
:math:`f` its features, :math:`\hat f` the decoded ones and :math:`\tau` how far they may be
missed; where it is known how well each is decoded, the variance of its error adds to
:math:`\tau^2`, so that a feature that is not decoded does not pull. Within a step of diffusion
this is the guidance by a likelihood of Zhu et al. 2023 (DiffPIR, arXiv 2305.08995), with the
variances that a Gaussian prior leaves; before the first step it brings to a start image what its
own decoding left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bids_neurodecode.errors import ArgumentsError

BAD_MATCHING = 'Matching needs {need}; {name} is {found}.'

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MatchingSettings:
    """How images are moved.

    Parameters
    ----------
    freedom
        Variance of a start image's error, as a share of the mean power of training images
        (about mid-grey).
    tolerance
        How far features may be missed, in standard deviations over training images.
    n_start, n_step
        Updates (Adam) of a start image, and within each step of denoising.
    rate
        Size of an update, in standard deviations of the error.
    """

    freedom: float = 0.1
    tolerance: float = 0.3
    n_start: int = 100
    n_step: int = 20
    rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ('freedom', 'tolerance', 'rate'):
            self._check(name, 'a finite number above 0', 0 < getattr(self, name) < math.inf)
        for name in ('n_start', 'n_step'):
            self._check(name, '0 updates or more', getattr(self, name) >= 0)

    def _check(self, name: str, need: str, fine: bool) -> None:
        if not fine:
            found = getattr(self, name)
            raise ArgumentsError(BAD_MATCHING.format(need=need, name=name, found=found))


@dataclass(frozen=True, eq=False)
class Matching:
    """What moves images.

    Parameters
    ----------
    describe
        Features (n, n_features) of pixels (n, 3, h, w) from -1 to 1, with gradients.
    combine
        Pixels of coefficients in the orthonormal basis, (n, 3, h, w) both.
    settings
        How they are moved.
    limit
        Pixels are kept from ``-limit`` to ``limit``, so that features are those of what is shown.
    uncertainty
        Variance of the error of each decoded feature, (n_features,), in variances over training
        images: it adds to the tolerance. None: all are decoded equally well.
    """

    describe: Transform
    combine: Transform
    settings: MatchingSettings = MatchingSettings()
    limit: float = 1.0
    uncertainty: Tensor | None = None

    def move(self, pixels: Tensor, wanted: Tensor, variances: Tensor, n_updates: int) -> Tensor:
        """Move images, each by itself; one that got worse stays where it was.

        Parameters
        ----------
        pixels
            Shape (n, 3, h, w), from -1 to 1.
        wanted
            Decoded features, (n, n_features).
        variances
            Of the pictures' error along the basis, (n or 1, 3, h, w).
        n_updates
            How long to go on.

        Returns
        -------
        torch.Tensor
            Of the shape of ``pixels``.
        """
        deviations = variances.sqrt()
        # an error in its own deviations: all coefficients then move at one rate
        moved = torch.zeros_like(pixels, requires_grad=True)
        with torch.enable_grad():
            adam = torch.optim.Adam([moved], lr=self.settings.rate)
            for _ in range(n_updates):
                adam.zero_grad()
                torch.autograd.backward(self._losses(pixels, moved, deviations, wanted).sum())
                adam.step()
        with torch.no_grad():
            end = moved.detach()
            before = self._losses(pixels, torch.zeros_like(end), deviations, wanted)
            better = self._losses(pixels, end, deviations, wanted) < before
            return self._shown(pixels, end * deviations * better[:, None, None, None])

    def _shown(self, pixels: Tensor, error: Tensor) -> Tensor:
        return (pixels + self.combine(error)).clamp(-self.limit, self.limit)

    def _losses(self, pixels: Tensor, moved: Tensor, deviations: Tensor, wanted: Tensor) -> Tensor:
        missed = self.describe(self._shown(pixels, moved * deviations)) - wanted
        tolerated: Tensor | float = self.settings.tolerance**2
        if self.uncertainty is not None:
            tolerated = self.uncertainty + tolerated
        likelihood = (missed.square() / tolerated).sum(dim=1)
        return (moved.square().flatten(1).sum(dim=1) + likelihood) / 2
