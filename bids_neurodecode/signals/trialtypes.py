"""Options and results of single-trial betas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

Model = Literal['B', 'C', 'D']

BAD_OPTION = 'Invalid option for single-trial betas: {reason}.'
NO_VOXELS = (
    'None of the {n} voxels is finite and varies in every run, so there is nothing to estimate. '
    'Check the mask against the series.'
)
UNUSABLE = (
    '{n} of {total} voxels are not finite, or do not vary in some run; their betas are NaN. '
    'Leave them out of the mask.'
)


@dataclass(frozen=True)
class SingleTrialOptions:
    """What is estimated, and what is fixed beforehand.

    Parameters
    ----------
    models
        Betas that are kept: B (library of responses), C (noise components), D (fractional ridge).
    max_components
        Largest number of noise components that is tried.
    n_components, fraction
        Fixed values; chosen by cross-validation over repeats if left out.
    fractions
        Fractions that are tried, falling.
    chunk_voxels
        Voxels of all runs in memory at once; about 512 MiB of them if left out.
    inner_voxels
        Voxels of which inner sets keep betas, at most.
    """

    models: tuple[Model, ...] = ('B', 'C', 'D')
    max_components: int = 10
    n_components: int | None = None
    fraction: float | None = None
    fractions: tuple[float, ...] = tuple(round(1 - 0.05 * step, 2) for step in range(20))
    chunk_voxels: int | None = None
    inner_voxels: int = 2000

    def __post_init__(self) -> None:
        fixed = () if self.fraction is None else (self.fraction,)
        checks = {
            'models must be some of B, C and D': bool(self.models)
            and set(self.models) <= {'B', 'C', 'D'},
            'max_components must be 0 or more': self.max_components >= 0,
            'n_components must be 0 or more': (self.n_components or 0) >= 0,
            'fractions must lie above 0 and at most at 1': bool(self.fractions)
            and all(0 < value <= 1 for value in (*self.fractions, *fixed)),
            'fractions must fall': all(np.diff(self.fractions) < 0),
            'chunk_voxels must be 1 or more': (self.chunk_voxels or 1) >= 1,
            'inner_voxels must be 1 or more': self.inner_voxels >= 1,
        }
        for reason, holds in checks.items():
            if not holds:
                raise ArgumentsError(BAD_OPTION.format(reason=reason))

    @property
    def denoises(self) -> bool:
        """Whether noise components are needed."""
        return 'C' in self.models or 'D' in self.models

    @property
    def asked_components(self) -> int:
        """Noise components that are looked for."""
        if not self.denoises:
            return 0
        return self.max_components if self.n_components is None else self.n_components

    @property
    def chooses_components(self) -> bool:
        """Whether the number of components is chosen by cross-validation."""
        return self.denoises and self.n_components is None

    @property
    def needs_repeats(self) -> bool:
        """Whether anything is chosen by cross-validation over repeats."""
        by_ridge = 'D' in self.models and self.fraction is None
        return self.chooses_components or by_ridge

    @property
    def tried_fractions(self) -> tuple[float, ...]:
        """Return the fixed fraction alone, or all that are tried."""
        return self.fractions if self.fraction is None else (self.fraction,)


@dataclass(frozen=True, eq=False)
class TunedBetas:
    """What one set of trials chose, and the betas of all trials that follow.

    Parameters
    ----------
    n_components
        Noise components regressed out.
    fraction
        Fraction of each voxel, (n_voxels,); NaN where no ridge was asked for.
    betas
        Models C and D, as asked for: (n_trials, n_voxels) in percent signal change.
    component_curve
        Median performance for 0 to ``max_components`` components; None if their number was fixed.
    """

    n_components: int
    fraction: npt.NDArray[np.float32]
    betas: dict[Model, Float32Array]
    component_curve: FloatArray | None


@dataclass(frozen=True, eq=False)
class InnerBetas:
    """Betas by which models are compared within training trials.

    Parameters
    ----------
    voxels
        Those whose model B betas agree best over the repeats of these trials, rising.
    betas
        By model: of all trials, tuned on these alone, (n_trials, len(voxels)).
    """

    voxels: IndexArray
    betas: dict[Model, Float32Array]


@dataclass(frozen=True, eq=False)
class SingleTrialBetas:
    """Single-trial betas of all models, and how they came about.

    Parameters
    ----------
    betas
        By model: (n_trials, n_voxels), percent signal change, trials run by run in the order
        given. Voxels that cannot be used are NaN. C and D are tuned on all trials.
    hrf_index
        Response of the library, from 0; -1 where there is none, (n_voxels,).
    rsquared
        By model, percent, (n_voxels,), with only polynomials removed from data and prediction;
        that of D before the shrunken betas are scaled back.
    usable
        Voxels that are finite and vary in every run, (n_voxels,).
    mean_volume
        Mean over all volumes of all runs, (n_voxels,).
    onoff_rsquared, onoff_threshold
        R2 of one regressor for all trials, percent, (n_voxels,), and what divides responsive
        from unresponsive voxels.
    noise_pool
        Voxels whose shared time courses are the noise components, (n_voxels,).
    n_components, component_curve, component_badness
        Components regressed out; None with model B alone. Median performance (n_numbers,) and
        badness (n_voxels, n_numbers) for 0 to ``max_components``; None if the number was fixed.
    fraction, fraction_badness
        Chosen fraction (n_voxels,), and badness (n_voxels, n_fractions); None without model D.
    warnings
        What the user should know, a line each.
    tuned
        For each tuning set, what it chose and the betas that follow.
    inner
        For each inner set, betas of few voxels to compare the models by.
    """

    betas: dict[Model, Float32Array]
    hrf_index: IndexArray
    rsquared: dict[Model, npt.NDArray[np.float32]]
    usable: BoolArray
    mean_volume: npt.NDArray[np.float32]
    onoff_rsquared: npt.NDArray[np.float32]
    onoff_threshold: float
    noise_pool: BoolArray
    n_components: int | None
    component_curve: FloatArray | None
    component_badness: npt.NDArray[np.float32] | None
    fraction: npt.NDArray[np.float32] | None
    fraction_badness: npt.NDArray[np.float32] | None
    warnings: tuple[str, ...]
    tuned: tuple[TunedBetas, ...] = ()
    inner: tuple[InnerBetas, ...] = ()
