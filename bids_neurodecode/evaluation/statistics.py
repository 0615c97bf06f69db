"""Chance, uncertainty and many tests at once.

Permutation p values are (b + 1) / (m + 1), where b of m permuted statistics reach the observed
one (Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39): never 0, and valid for any m.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import FloatArray, IndexArray

BAD_LABELS = 'There must be one {what} label a sample: {n} samples, labels of shape {found}.'
UNITS_CROSS = (
    'Samples of one unit must lie in one block to be exchanged together; unit {unit} lies in {n}.'
)
NO_SAMPLES = 'There are no samples to resample.'

Alternative = Literal['greater', 'less']
MIN_GROUPS = 6
"""Independent groups (stimuli, runs, participants) below which there is no interval and no p: the
spread of fewer says too little, and the smallest two-sided p of five flips of a sign is .0625."""
LEAST_ERROR = 0.3
"""Least standard error of a resampling, in those of the data: a few equal groups drawn again and
again have next to none, and would make limits endless."""


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """An observed statistic, what it is under permutation (n_permutations,), and its p value."""

    observed: float
    null: FloatArray
    p: float


def p_value(null: npt.ArrayLike, observed: float, alternative: Alternative = 'greater') -> float:
    """Return (b + 1) / (m + 1); a tie within rounding counts as reaching the observed value.

    NaN where nothing was observed or nothing can be compared with it: permuted statistics that
    are NaN do not count among the m.

    Parameters
    ----------
    null
        Statistics of permutations, (m,).
    observed
        The statistic of the data.
    alternative
        Which end of the null distribution is looked at.
    """
    values = np.asarray(null, dtype=np.float64)
    values = values[~np.isnan(values)]
    if math.isnan(observed) or not values.size:
        return math.nan
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
        One label per sample; samples change places only within their block (a run, a fold).
    units
        One label per sample; samples of one unit (repeats of a stimulus) move together. Each
        sample of a unit then takes a sample of the unit that it is exchanged with (its k-th
        repeat, counted round where that has fewer).

    Yields
    ------
    numpy.ndarray
        Row numbers (n_samples,): sample i takes the label of sample ``index[i]``.
    """
    block = block_labels(blocks, n_samples, 'block')
    if units is None:
        groups = [np.flatnonzero(block == code) for code in np.unique(block)]
        for _ in range(n_permutations):
            index = np.arange(n_samples)
            for rows in groups:
                index[rows] = rng.permutation(rows)
            yield index
        return
    unit = block_labels(units, n_samples, 'unit')
    members = [np.flatnonzero(unit == code) for code in np.unique(unit)]
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

    Parameters
    ----------
    n_samples
        Length of the series.
    n_draws
        How many sets of phases.
    rng
        Draws them.

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


def phase_surrogates(
    series: FloatArray, angles: FloatArray, rows: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Return rows of surrogates of series, without their means.

    Parameters
    ----------
    series
        Shape (n_samples, n_series).
    angles
        Of :func:`random_phases`, (n_draws, n_frequencies); the same for all series.
    rows
        Which samples of the surrogates, (n_rows,).

    Returns
    -------
    numpy.ndarray
        Shape (n_draws, n_rows, n_series).
    """
    from scipy.fft import rfft

    n_samples, frequencies = len(series), np.arange(angles.shape[1])
    weights = np.where(2 * frequencies == n_samples, 1.0, 2.0) * (frequencies > 0) / n_samples
    at = 2 * np.pi * (np.asarray(rows)[:, None] * frequencies % n_samples) / n_samples
    waves = (weights * np.exp(1j * at)).astype(np.complex64)
    turned = np.exp(1j * angles).astype(np.complex64)[:, None] * waves
    spectrum = rfft(series, axis=0)
    # real parts of products: real and imaginary parts lie beside each other in both
    both = np.stack([spectrum.real, -spectrum.imag], axis=1).astype(np.float32)
    flat = turned.reshape(-1, len(frequencies)).view(np.float32)
    drawn: npt.NDArray[np.float32] = flat @ both.reshape(flat.shape[1], -1)
    return drawn.reshape(len(angles), len(at), -1)


def max_statistic_p(observed: npt.ArrayLike, null: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return p values corrected for all tests by the maximum (Westfall & Young 1993).

    Parameters
    ----------
    observed
        Shape (n_tests,).
    null
        Shape (n_permutations, n_tests); NaN (a test that could not be made) is passed over, and
        so are permutations with nothing else.
    """
    values = np.asarray(observed, dtype=np.float64)
    null = null[~np.isnan(null).all(axis=1)]
    if not len(null):
        return np.full(values.shape, np.nan)
    maxima = np.max(null, axis=1, where=~np.isnan(null), initial=-np.inf)
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
    bounds: tuple[float, float] = (-math.inf, math.inf),
    inflation: float = 1.0,
) -> tuple[float, float]:
    """Confidence interval of a mean over groups of samples.

    Percentiles of resampled means fall short with few groups (86 % at six), and the t
    distribution where values are skewed (88 %). Each limit is the wider one of the t
    distribution and of the bootstrap-t (Efron & Tibshirani 1993, chapter 12), in which groups are
    drawn with replacement and each mean is divided by its own standard error.

    Parameters
    ----------
    values
        One value per sample, (n_samples,).
    rng
        Source of randomness.
    groups
        One label per sample (its stimulus, its run); samples of a group are drawn together, as
        they are not independent. None: each sample by itself.
    n_bootstrap
        Number of resamplings; 0 gives no interval.
    confidence
        Coverage, such as .95.
    bounds
        Least and greatest mean that is possible; limits stay within. Where all samples lie on a
        bound the other limit is the exact one of as many right (or wrong) answers in a row.
    inflation
        Factor on the squared standard error, for groups that are not independent (folds share
        training samples: :func:`inflation_of`).

    Returns
    -------
    tuple of float
        Lower and upper limit; NaN where there are fewer than :data:`MIN_GROUPS` groups or no
        resampling.
    """
    from scipy.stats import t

    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise DataError(NO_SAMPLES)
    group = np.arange(len(x)) if groups is None else block_labels(groups, len(x), 'group')
    counts = np.bincount(group).astype(np.float64)
    n, mean = len(counts), float(x.mean())
    if n < MIN_GROUPS or n_bootstrap == 0 or not np.isfinite(x).all():
        return math.nan, math.nan
    sums = np.asarray(np.bincount(group, weights=x - mean), dtype=np.float64)
    error = float(_standard_error(np.ones((1, n)), sums, counts)[1][0])
    if error <= 1e-12 * max(1.0, abs(mean)):
        return _of_equals(mean, x.size, confidence, bounds)
    batch = max(1, 2_000_000 // n)
    drawn = []
    for start in range(0, n_bootstrap, batch):
        size = min(batch, n_bootstrap - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size)
        away, errors = _standard_error(weights, sums, counts)
        drawn.append(away / np.maximum(errors, LEAST_ERROR * error))
    below, above = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    half = float(t.ppf((1 + confidence) / 2, n - 1))
    scale = error * math.sqrt(inflation)
    low, high = mean - scale * max(half, float(above)), mean + scale * max(half, -float(below))
    return max(low, bounds[0]), min(high, bounds[1])


def shared_training(tested: npt.ArrayLike, trained: npt.ArrayLike) -> float:
    """Return how far folds train on each other's test groups: 1 for complete cross-validation.

    Of two groups of which each trains the model that is tested on the other, both scores hold the
    chance likeness of the same two. Without a signal a score is made of nothing else, so that in
    complete cross-validation the variance of its mean is twice that of independent groups.

    Parameters
    ----------
    tested, trained
        Whether fold f tests, or trains on, group g: (n_folds, n_groups).

    Returns
    -------
    float
        Of the groups that train a tested one, the share that is tested on it too: from 0 to 1.
    """
    test, train = np.asarray(tested, dtype=np.float64), np.asarray(trained, dtype=np.float64)
    learns = (test.T @ train) > 0
    used = test.any(axis=0)
    both = (learns & learns.T).sum(axis=1)[used]
    every = learns.sum(axis=1)[used]
    return float((both / np.maximum(every, 1)).mean()) if used.any() else 0.0


def inflation_of(shared: float, n_groups: int) -> float:
    """Return the factor of :func:`bootstrap_ci` for groups that train each other.

    The variance of the mean is 1 + ``shared`` times that of independent groups, and the spread of
    the groups is less than their variance. Close to the correction of Nadeau & Bengio (2003, Mach
    Learn 52:239), 1 + n_groups n_test / n_train for whole folds.

    Parameters
    ----------
    shared
        Covariance of two groups' values over their variance, from what they share.
    n_groups
        How many groups there are.
    """
    return (1 + shared) / (1 - shared / (n_groups - 1)) if n_groups > 2 else 1 + shared


def _standard_error(
    weights: npt.NDArray[Any], sums: FloatArray, counts: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return means of groups by weight, and their standard errors, (n_draws,) each."""
    n = len(sums)
    total = weights @ counts
    means = (weights @ sums) / total
    squares = weights @ sums**2 - 2 * means * (weights @ (sums * counts))
    squares += means**2 * (weights @ counts**2)
    return means, np.sqrt(np.maximum(squares, 0) * n / (n - 1)) / total


def _of_equals(
    mean: float, n_samples: int, confidence: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval of samples that are all the same."""
    low, high = bounds
    reach = (high - low) * (1 - ((1 - confidence) / 2) ** (1 / n_samples))
    slack = 1e-12 * max(1.0, abs(mean))
    if math.isfinite(reach) and mean >= high - slack:
        return high - reach, high
    if math.isfinite(reach) and mean <= low + slack:
        return low, low + reach
    return mean, mean


def block_labels(labels: npt.ArrayLike | None, n_samples: int, what: str) -> IndexArray:
    """Return labels as codes from 0; all 0 where there are none.

    Parameters
    ----------
    labels
        One per sample, (n_samples,); None puts all samples into one block.
    n_samples
        How many samples there are.
    what
        What the labels are called in a message.

    Raises
    ------
    DataError
        If there is not one label per sample.
    """
    if labels is None:
        return np.zeros(n_samples, dtype=np.intp)
    values = np.asarray(labels)
    if values.shape != (n_samples,):
        raise DataError(BAD_LABELS.format(what=what, n=n_samples, found=values.shape))
    _, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.intp)
