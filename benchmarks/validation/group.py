"""Maps of participants without an effect, tested over participants by flips of signs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from benchmarks.validation.harness import Check, once
from bids_neurodecode.evaluation.signflips import map_above_zero

FloatArray = npt.NDArray[np.float64]

N_COLUMNS = 60
N_VOLUMES = 100
N_FLIPS = 1999


@dataclass(frozen=True)
class World:
    """Maps of held-out r of participants whose series have no relation to what was predicted.

    Parameters
    ----------
    n_participants
        Each has a map of :data:`N_COLUMNS` columns.
    ar
        Correlation of a volume with the next, of predicted and measured series.
    shared
        Share of the variance of the series that neighbouring columns have in common.
    spread
        Participants differ in how noisy their maps are: standard deviation of the log of it.
    """

    n_participants: int
    ar: float = 0.9
    shared: float = 0.5
    spread: float = 0.0

    def maps(self, rng: np.random.Generator) -> FloatArray:
        """Draw (n_participants, n_columns) correlations."""
        shape = self.n_participants, 2, N_COLUMNS, N_VOLUMES + 50
        own = rng.standard_normal(shape)
        common = rng.standard_normal((self.n_participants, 2, 1, shape[-1]))
        noise = np.sqrt(1 - self.shared) * own + np.sqrt(self.shared) * common
        series = lfilter([1], [1, -self.ar], noise, axis=-1)[..., 50:]
        series -= series.mean(axis=-1, keepdims=True)
        series /= np.linalg.norm(series, axis=-1, keepdims=True)
        r = np.einsum('pct,pct->pc', series[:, 0], series[:, 1])
        scale = np.exp(self.spread * rng.standard_normal((self.n_participants, 1)))
        return np.asarray(r * scale)


@once
def tested(rng: np.random.Generator, world: World) -> tuple[FloatArray, bool, bool]:
    """Return p of all columns, and whether any passes by FDR, and by the highest statistic."""
    test = map_above_zero(world.maps(rng), rng=rng, n_flips=N_FLIPS)
    return test.p, bool((test.p_fdr <= 0.05).any()), bool((test.p_fwer <= 0.05).any())


def _part(rng: np.random.Generator, *, world: World, part: int) -> npt.ArrayLike:
    return tested(rng, world)[part]


_WORLDS = (
    ('6 participants, r of unrelated series, AR .9', World(6)),
    ('12 participants, r of unrelated series, AR .9', World(12)),
    ('12 participants that differ in noise, r of unrelated series, AR .9', World(12, spread=0.7)),
    ('30 participants, r of unrelated series, AR .5', World(30, ar=0.5)),
)
_NOTE = (
    'Of six participants there are 64 flips and p is at least .016: no column of many passes by '
    'FDR, by the highest statistic it can.'
)

CHECKS = [
    Check('group', name, label, kind, partial(_part, world=world, part=part), note=_NOTE)
    for label, world in _WORLDS
    for part, (name, kind) in enumerate(
        (('map of the mean', 'p'), ('map, FDR .05', 'any'), ('map, highest statistic', 'any'))
    )
]
