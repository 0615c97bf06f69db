"""Which voxels hold noise only, and the time courses that they share.

GLMdenoise (Kay et al. 2013, doi:10.3389/fnins.2013.00247) as GLMsingle does it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from bids_neurodecode.typing import BoolArray, FloatArray

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture


MAX_VALUES = 200_000
N_STEPS = 500
BRIGHT_PERCENTILE = 99.0
BRIGHT_SHARE = 0.1
N_BEST = 100
STOP = 1.05

NO_THRESHOLD = (
    'The voxels do not fall into responsive and unresponsive ones by ON-OFF R2; the threshold '
    'between them ({threshold:.2g} %) and with it the noise pool are a guess.'
)


def onoff_threshold(rsquared: npt.NDArray[Any], seed: int) -> tuple[float, tuple[str, ...]]:
    """Find the ON-OFF R2 above which a voxel responds.

    Parameters
    ----------
    rsquared
        Percent, shape (n_voxels,); values that are not finite are left out.
    seed
        Of the starts of the mixture, and of the subset where there are more than 200,000 values.

    Returns
    -------
    threshold : float
        Percent: where, coming from above, the posterior of the upper of two Gaussians falls to
        one half.
    warnings : tuple of str
        One line where there is no such point.
    """
    values = np.asarray(rsquared, dtype=np.float64)
    values = values[np.isfinite(values)]
    if np.unique(values).size < 4:
        threshold = float(values.max()) if values.size else 0.0
        return threshold, (NO_THRESHOLD.format(threshold=threshold),)
    if values.size > MAX_VALUES:
        values = np.random.default_rng(seed).choice(values, MAX_VALUES, replace=False)
    mixture = _two_gaussians(values, seed)
    low, high = robust_range(values)
    low, high = min(low, mixture.means_.min()), max(high, mixture.means_.max())
    points = np.linspace(low, high, N_STEPS)
    posterior = mixture.predict_proba(points[:, None])
    upper = posterior[:, int(np.argmax(posterior[-1]))]
    below = np.flatnonzero(upper <= 0.5)
    if below.size:
        return float(points[below[-1]]), ()
    return float(points[0]), (NO_THRESHOLD.format(threshold=points[0]),)


def _two_gaussians(values: FloatArray, seed: int) -> GaussianMixture:
    """Fit the mixture by at most 100 steps, as GLMsingle does: mostly it has not settled then."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    floor = 1e-12 * values.var()
    mixture = GaussianMixture(
        2, tol=1e-10, reg_covar=floor, n_init=3, max_iter=100, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', category=ConvergenceWarning)
        return mixture.fit(values[:, None])


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
    """
    finite = np.isfinite(mean_volume) & np.isfinite(rsquared)
    if not finite.any():
        return np.zeros(finite.shape, dtype=bool)
    floor = BRIGHT_SHARE * np.percentile(mean_volume[finite], BRIGHT_PERCENTILE)
    bright = np.where(finite, mean_volume, -np.inf) > floor
    return np.asarray(bright & (np.where(finite, rsquared, np.inf) < threshold))


def unit_gram(series: npt.NDArray[np.float32]) -> FloatArray:
    """Return the sum over voxels of outer products of their series at unit length.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels), polynomials projected off.

    Returns
    -------
    ndarray of shape (n_volumes, n_volumes)
        Adds up over chunks of voxels.
    """
    lengths = np.linalg.norm(series, axis=0)
    unit = series / np.where(lengths > 0, lengths, 1)
    return np.asarray((unit @ unit.T).astype(np.float64))


def noise_components(gram: FloatArray, n_components: int) -> FloatArray:
    """Return the leading time courses of a run's noise pool, (n_volumes, n_components).

    Orthonormal, the strongest first; fewer where the pool has fewer dimensions.
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
