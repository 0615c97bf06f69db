"""Chance, uncertainty and many tests at once.

Permutation p values are (b + 1) / (m + 1), where b of m permuted statistics reach the observed
one (Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39): never 0, and valid for any m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError

BAD_LABELS = 'There must be one {what} label a sample: {n} samples, labels of shape {found}.'
UNITS_CROSS = (
    'Samples of one unit must lie in one block to be exchanged together; unit {unit} lies in {n}.'
)
NO_SAMPLES = 'There are no samples to resample.'

Alternative = Literal['greater', 'less']
MIN_GROUPS = 6
"""Percentiles over fewer groups (runs, stimuli) fall short of their coverage: with four runs an
interval of 95 % was seen to cover chance in 72 to 87 % of null data."""

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """An observed statistic, what it is under permutation (n_permutations,), and its p value."""

    observed: float
    null: FloatArray
    p: float


def p_value(null: npt.ArrayLike, observed: float, alternative: Alternative = 'greater') -> float:
    """Return (b + 1) / (m + 1); a tie within rounding counts as reaching the observed value."""
    values = np.asarray(null, dtype=np.float64)
    slack = 1e-9 * max(1.0, abs(observed))
    reached = (
        values >= observed - slack if alternative == 'greater' else values <= observed + slack
    )
    return float((np.count_nonzero(reached) + 1) / (values.size + 1))


def permutations(
    n_samples: int,
    n_permutations: int,
    rng: np.random.Generator,
    *,
    blocks: npt.ArrayLike | None = None,
    units: npt.ArrayLike | None = None,
) -> Iterator[IndexArray]:
    """Draw shufflings of samples that keep what is not exchangeable together.

    Parameters
    ----------
    n_samples
        Number of samples.
    n_permutations
        How many to draw (independently, so the identity may be among them).
    rng
        Source of randomness.
    blocks
        A label a sample; samples change places only within their block (a run, a fold).
    units
        A label a sample; samples of one unit (repeats of a stimulus) move together. Each sample
        of a unit then takes a sample of the unit that it is exchanged with (its k-th repeat,
        counted round where that has fewer).

    Yields
    ------
    numpy.ndarray
        Row numbers (n_samples,): sample i takes the label of sample ``index[i]``.
    """
    block = _labels(blocks, n_samples, 'block')
    if units is None:
        groups = [np.flatnonzero(block == code) for code in np.unique(block)]
        for _ in range(n_permutations):
            index = np.arange(n_samples)
            for rows in groups:
                index[rows] = rng.permutation(rows)
            yield index
        return
    unit = _labels(units, n_samples, 'unit')
    members = [np.flatnonzero(unit == code) for code in range(int(unit.max(initial=-1)) + 1)]
    for code, rows in enumerate(members):
        n_blocks = len(np.unique(block[rows]))
        if n_blocks > 1:
            raise DataError(UNITS_CROSS.format(unit=code, n=n_blocks))
    unit_block = np.array([block[rows[0]] for rows in members])
    sizes = np.array([len(rows) for rows in members], dtype=np.intp)
    table = np.zeros((len(members), int(sizes.max(initial=0))), dtype=np.intp)
    place = np.empty(n_samples, dtype=np.intp)
    for code, rows in enumerate(members):
        table[code, : len(rows)], place[rows] = rows, np.arange(len(rows))
    for exchange in permutations(len(members), n_permutations, rng, blocks=unit_block):
        other = exchange[unit]
        # a unit that takes a smaller one's labels takes them again and again
        yield table[other, place % sizes[other]]


def permutation_test(
    statistic: Callable[[IndexArray], float],
    n_samples: int,
    n_permutations: int,
    rng: np.random.Generator,
    *,
    blocks: npt.ArrayLike | None = None,
    units: npt.ArrayLike | None = None,
    alternative: Alternative = 'greater',
) -> PermutationTest:
    """Test a statistic of the pairing of samples with their labels.

    Parameters
    ----------
    statistic
        Function of row numbers: sample i is paired with the label of sample ``index[i]``. Of
        the identity it gives the observed value.
    n_samples, n_permutations, rng, blocks, units
        See :func:`permutations`.
    alternative
        Whether larger or smaller values speak against chance.
    """
    observed = float(statistic(np.arange(n_samples)))
    draws = permutations(n_samples, n_permutations, rng, blocks=blocks, units=units)
    null = np.array([statistic(index) for index in draws], dtype=np.float64)
    return PermutationTest(observed, null, p_value(null, observed, alternative))


def random_phases(n_samples: int, n_draws: int, rng: np.random.Generator) -> FloatArray:
    """Draw the phases of surrogates of a real series of ``n_samples``.

    Surrogates with the amplitudes of a series and random phases have its autocorrelation, and no
    relation to what it goes with (Theiler et al. 1992, Physica D 58:77).

    Returns
    -------
    numpy.ndarray
        Angles in radians, (n_draws, n_samples // 2 + 1), for the frequencies of
        :func:`numpy.fft.rfft`; the highest of an even number of samples has only a sign.
    """
    angles = rng.uniform(0, 2 * np.pi, (n_draws, n_samples // 2 + 1))
    if n_samples % 2 == 0:
        angles[:, -1] = np.where(angles[:, -1] < np.pi, 0.0, np.pi)
    return angles


def phase_factors(
    angles: FloatArray, rows: npt.ArrayLike, n_samples: int
) -> npt.NDArray[np.float32]:
    """Return what the spectrum of a series is multiplied by to get rows of its surrogates.

    Parameters
    ----------
    angles
        Of :func:`random_phases`, (n_draws, n_frequencies).
    rows
        Which samples of the surrogates, (n_rows,).
    n_samples
        Length of the series.

    Returns
    -------
    numpy.ndarray
        Shape (n_draws, n_rows, 2 * n_frequencies): its product with the real parts of the
        spectrum (:func:`numpy.fft.rfft`), then the imaginary parts, is the surrogate without its
        mean.
    """
    frequencies = np.arange(angles.shape[1])
    turns = (np.asarray(rows)[:, None] * frequencies % n_samples) / n_samples
    weights = np.full(len(frequencies), 2.0 / n_samples)
    weights[0] = 0.0
    if n_samples % 2 == 0:
        weights[-1] = 1.0 / n_samples
    at = (angles[:, None, :] + 2 * np.pi * turns).astype(np.float32)
    scale = weights.astype(np.float32)
    return np.concatenate([np.cos(at) * scale, -np.sin(at) * scale], axis=-1)


def max_statistic_p(observed: npt.ArrayLike, null: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return p values corrected for all tests by the maximum (Westfall & Young 1993).

    Parameters
    ----------
    observed
        Shape (n_tests,).
    null
        Shape (n_permutations, n_tests); NaN (a test that could not be made) is passed over.
    """
    values = np.asarray(observed, dtype=np.float64)
    maxima = np.max(null, axis=1, where=np.isfinite(null), initial=-np.inf)
    reached = np.searchsorted(np.sort(maxima), values - 1e-9 * np.maximum(1, np.abs(values)))
    p = (len(maxima) - reached + 1) / (len(maxima) + 1)
    return np.where(np.isnan(values), np.nan, p)


def fdr(p: npt.ArrayLike) -> FloatArray:
    """Return p values adjusted for the false discovery rate (Benjamini & Hochberg 1995).

    NaN stays NaN and is not counted among the tests.
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    if tested.any():
        adjusted[tested] = false_discovery_control(values[tested], method='bh')
    return adjusted


def bootstrap_ci(
    values: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    groups: npt.ArrayLike | None = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    method: Literal['percentile', 'BCa'] = 'percentile',
) -> tuple[float, float]:
    """Confidence interval of a mean, groups of samples being drawn with replacement.

    Parameters
    ----------
    values
        One value a sample, (n_samples,).
    rng
        Source of randomness.
    groups
        A label a sample (its stimulus, its run); samples of a group are drawn together, as they
        are not independent. None: each sample by itself.
    n_bootstrap
        Number of resamplings; 0 gives no interval.
    confidence
        Coverage, such as .95.
    method
        Percentiles, or bias-corrected and accelerated (Efron 1987).

    Returns
    -------
    tuple of float
        Lower and upper limit; NaN where there are fewer than :data:`MIN_GROUPS` groups (such
        an interval covers too little) or no resampling.
    """
    from scipy.stats import bootstrap

    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise DataError(NO_SAMPLES)
    group = np.arange(len(x)) if groups is None else _labels(groups, len(x), 'group')
    sums, counts = np.bincount(group, weights=x), np.bincount(group).astype(np.float64)
    if len(sums) < MIN_GROUPS or n_bootstrap == 0:
        return float('nan'), float('nan')
    if np.ptp(sums / counts) == 0:
        return float(x.mean()), float(x.mean())

    def mean(s: FloatArray, c: FloatArray, axis: int = -1) -> FloatArray:
        return np.asarray(s.sum(axis=axis) / c.sum(axis=axis))

    result = bootstrap(
        (sums, counts),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=n_bootstrap,
        confidence_level=confidence,
        method=method,
        rng=rng,
        batch=max(1, 2_000_000 // len(sums)),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _labels(labels: npt.ArrayLike | None, n_samples: int, what: str) -> IndexArray:
    """Return labels as codes from 0; all 0 where there are none."""
    if labels is None:
        return np.zeros(n_samples, dtype=np.intp)
    values = np.asarray(labels)
    if values.shape != (n_samples,):
        raise DataError(BAD_LABELS.format(what=what, n=n_samples, found=values.shape))
    _, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.intp)
