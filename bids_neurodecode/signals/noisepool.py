"""Which voxels hold noise only, and the time courses that they share.

GLMdenoise (Kay et al. 2013, doi:10.3389/fnins.2013.00247) as GLMsingle does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from bids_neurodecode.algebra import Algebra, Array, to_host
from bids_neurodecode.typing import BoolArray, FloatArray

N_GROUPS = 4096
N_STEPS = 500
MAX_ITERATIONS = 100
TOLERANCE = 1e-10
STARTS = ((10, 90), (50, 99), (50, 99.9))
BRIGHT_PERCENTILE = 99.0
BRIGHT_SHARE = 0.1
N_BEST = 100
STOP = 1.05

NO_THRESHOLD = (
    'The voxels do not fall into responsive and unresponsive ones by ON-OFF R2; the threshold '
    'between them ({threshold:.2g} %) and with it the noise pool are a guess.'
)


def onoff_threshold(rsquared: npt.NDArray[Any]) -> tuple[float, tuple[str, ...]]:
    """Find the ON-OFF R2 above which a voxel responds.

    Parameters
    ----------
    rsquared
        Percent, shape (n_voxels,); values that are not finite are left out.

    Returns
    -------
    threshold : float
        Percent: where, coming from above, the posterior of the upper of two Gaussians falls to
        one half.
    warnings : tuple of str
        One line where there is no such point.
    """
    values = np.asarray(rsquared, dtype=np.float64)
    values = np.sort(values[np.isfinite(values)])
    if np.unique(values).size < 4:
        threshold = float(values.max()) if values.size else 0.0
        return threshold, (NO_THRESHOLD.format(threshold=threshold),)
    mixture = fit_two_gaussians(values)
    low, high = robust_range(values)
    low, high = min(low, mixture.mean.min()), max(high, mixture.mean.max())
    points = np.linspace(low, high, N_STEPS)
    posterior, _ = mixture.posterior(points)
    upper = posterior[int(np.argmax(posterior[:, -1]))]
    below = np.flatnonzero(upper <= 0.5)
    if below.size:
        return float(points[below[-1]]), ()
    return float(points[0]), (NO_THRESHOLD.format(threshold=points[0]),)


@dataclass(frozen=True, eq=False)
class TwoGaussians:
    """A mixture of two Gaussians: ``weight``, ``mean`` and ``variance``, each of shape (2,)."""

    weight: FloatArray
    mean: FloatArray
    variance: FloatArray

    def posterior(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return who made each value, (2, n_values), and its log density, (n_values,)."""
        centred = values - self.mean[:, None]
        log = np.log(self.weight / np.sqrt(2 * np.pi * self.variance))[:, None]
        log = log - centred**2 / (2 * self.variance[:, None])
        density = np.logaddexp(log[0], log[1])
        return np.exp(log - density), density


def fit_two_gaussians(values: FloatArray) -> TwoGaussians:
    """Fit two Gaussians by expectation and maximisation, to groups of neighbouring values.

    At most 100 steps from two means, as GLMsingle does: mostly it has not settled then. Of three
    starts the likeliest is kept.

    Parameters
    ----------
    values
        Rising, (n_values,), of four different ones or more. Up to 4,096 of them are taken one by
        one; of more, as many groups of equal number, by their mean and mean square.
    """
    edges = np.linspace(0, len(values), min(len(values), N_GROUPS) + 1).astype(np.intp)[:-1]
    counts = np.diff(edges, append=len(values))
    mean = np.add.reduceat(values, edges) / counts
    square = np.add.reduceat(values**2, edges) / counts
    floor = 1e-12 * values.var()
    found: dict[int, tuple[float, TwoGaussians]] = {}
    for start in STARTS:
        split = _two_means(mean, counts, np.percentile(values, start))
        if split not in found:
            found[split] = _maximise(mean, square, counts, split, floor)
    return max(found.values(), key=lambda each: each[0])[1]


def _two_means(values: FloatArray, counts: npt.NDArray[np.intp], centres: FloatArray) -> int:
    """Return how many of the rising values belong to the lower of two means (Lloyd)."""
    number, total = np.cumsum(counts), np.cumsum(values * counts)
    split = 0
    while True:
        last, split = split, int(np.searchsorted(values, centres.mean()))
        split = min(max(split, 1), len(values) - 1)
        if split == last:
            return split
        below, n_below = total[split - 1], number[split - 1]
        above, n_above = total[-1] - below, number[-1] - n_below
        centres = np.array([below / n_below, above / n_above])


def _maximise(
    mean: FloatArray,
    square: FloatArray,
    counts: npt.NDArray[np.intp],
    split: int,
    floor: float,
) -> tuple[float, TwoGaussians]:
    """Return the mean log likelihood and the mixture that the steps lead to."""
    lower = np.arange(len(mean)) < split
    posterior = np.stack([lower, ~lower]).astype(np.float64)
    total, likelihood = counts.sum(), -np.inf
    for _ in range(MAX_ITERATIONS + 1):
        share = posterior * counts
        weight = share.sum(axis=1) + 10 * np.finfo(float).eps
        centre = share @ mean / weight
        variance = np.maximum(share @ square / weight - centre**2, 0) + floor
        mixture = TwoGaussians(weight / weight.sum(), centre, variance)
        before = likelihood
        posterior, density = mixture.posterior(mean)
        likelihood = float(density @ counts / total)
        if abs(likelihood - before) < TOLERANCE:
            break
    return likelihood, mixture


def robust_range(values: FloatArray) -> tuple[float, float]:
    """Return a range that leaves outliers out.

    A side whose 0.1 % tail is more than five times as far from the median as its decile is cut
    there, and the range is sought again; else it ends at the tail's start, or at the extreme
    where that is hardly farther.
    """
    while True:
        tail_low, decile_low, median, decile_high, tail_high = np.percentile(
            values, [0.1, 10, 50, 90, 99.9]
        )
        fence_low = median - 5 * (median - decile_low)
        fence_high = median + 5 * (decile_high - median)
        inside = np.ones(values.shape, dtype=bool)
        if tail_low < fence_low:
            inside &= values >= fence_low
        if tail_high > fence_high:
            inside &= values <= fence_high
        if inside.all():
            break
        values = values[inside]
    low, high = float(values.min()), float(values.max())
    if low < median - 1.1 * (median - tail_low):
        low = float(tail_low)
    if high > median + 1.1 * (tail_high - median):
        high = float(tail_high)
    return low, high


def noise_pool(
    mean_volume: npt.NDArray[Any], rsquared: npt.NDArray[Any], threshold: float
) -> BoolArray:
    """Return the bright voxels whose ON-OFF R2 lies below the threshold, shape (n_voxels,).

    Bright: above a tenth of the 99th percentile of the mean volume. Voxels that are not finite
    are never in the pool.

    Parameters
    ----------
    mean_volume
        Mean of the series over time, (n_voxels,).
    rsquared
        ON-OFF R2 in percent, (n_voxels,).
    threshold
        In percent.
    """
    finite = np.isfinite(mean_volume) & np.isfinite(rsquared)
    if not finite.any():
        return np.zeros(finite.shape, dtype=bool)
    floor = BRIGHT_SHARE * np.percentile(mean_volume[finite], BRIGHT_PERCENTILE)
    bright = np.where(finite, mean_volume, -np.inf) > floor
    return np.asarray(bright & (np.where(finite, rsquared, np.inf) < threshold))


def unit_gram(algebra: Algebra, series: Array) -> FloatArray:
    """Return the sum over voxels of outer products of their series at unit length.

    Parameters
    ----------
    algebra
        Of the device.
    series
        Shape (n_volumes, n_voxels), float32 on the device, polynomials projected off.

    Returns
    -------
    ndarray of shape (n_volumes, n_volumes)
        Adds up over chunks of voxels.
    """
    lengths = algebra.xp.linalg.norm(series, axis=0)
    unit = series / algebra.xp.where(lengths > 0, lengths, 1)
    return to_host(algebra.double(unit @ unit.T))


def noise_components(gram: FloatArray, n_components: int) -> FloatArray:
    """Return the leading time courses of a run's noise pool, (n_volumes, n_components).

    Orthonormal, the strongest first; fewer where the pool has fewer dimensions.

    Parameters
    ----------
    gram
        Inner products of the pool's volumes, (n_volumes, n_volumes).
    n_components
        How many, at most.
    """
    n_volumes = len(gram)
    if n_components == 0:
        return np.zeros((n_volumes, 0))
    first = max(0, n_volumes - n_components)
    values, vectors = linalg.eigh(gram, subset_by_index=[first, n_volumes - 1])
    keep = values > 1e-6 * max(values[-1], np.finfo(float).tiny)
    return np.asarray(vectors[:, keep][:, ::-1])


def judging_voxels(rsquared: npt.NDArray[Any], threshold: float) -> BoolArray:
    """Return the voxels that judge the number of components, shape (n_voxels,).

    Those with ON-OFF R2 above the threshold; where there are none, the 100 best.

    Parameters
    ----------
    rsquared
        ON-OFF R2 in percent, (n_voxels,).
    threshold
        In percent.
    """
    values = np.where(np.isfinite(rsquared), rsquared, -np.inf)
    above = values > threshold
    if not above.any():
        best = np.argsort(values, kind='stable')[::-1][:N_BEST]
        above[best[np.isfinite(values[best])]] = True
    return np.asarray(above)


def component_curve(badness: npt.NDArray[Any], judges: BoolArray) -> FloatArray:
    """Return the median performance (badness with its sign turned) for each number of components.

    Parameters
    ----------
    badness
        Shape (n_voxels, n_components + 1).
    judges
        Voxels that count, shape (n_voxels,).
    """
    return np.asarray(-np.median(badness[judges].astype(np.float64), axis=0))


def choose_components(curve: FloatArray) -> int:
    """Return the first number of components that gains nearly as much as any.

    The gain is counted from zero components; the first improvement whose gain times 1.05 reaches
    the largest gain is taken.

    Examples
    --------
    >>> choose_components(np.array([-10.0, -5.0, -4.2, -4.0]))
    2
    >>> choose_components(np.array([-10.0, -11.0, -12.0]))
    0
    """
    gain = curve - curve[0]
    enough = gain * STOP >= gain.max()
    return int(np.argmax(enough))
