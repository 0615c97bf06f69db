"""High-pass filtering, confound regression and scaling of BOLD series.

The projection is :func:`nilearn.signal.clean`'s.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.typing import RealArray

BLOCK_BYTES = 2**28
"""Voxels are cleaned in blocks of about this many bytes (nilearn holds several copies)."""

WRONG_SHAPE = 'A series must be volumes x voxels with two volumes or more; this one is {shape}.'
CONFOUNDS_SHAPE = 'Confounds of shape {shape} do not go with a series of {volumes} volumes.'
CONFOUNDS_NOT_FINITE = (
    'Confounds hold values that are not finite, in column(s) {columns} (from 0).'
)
TOO_MANY = (
    'Cleaning would remove {n} regressors from {volumes} volumes and leave nothing. '
    'Use fewer confounds, or a lower high-pass.'
)
BAD_HIGH_PASS = (
    'A high-pass of {high_pass:g} Hz is not between 0 and {nyquist:g} Hz, half the rate of '
    'volumes. Set clean.high_pass within it, or leave it out.'
)
BAD_KEPT = (
    'The mask of kept volumes must be one boolean a volume ({volumes}) with at least two of them '
    'true; this one has shape {shape} with {n}.'
)
NO_BASELINE = (
    'Percent signal change needs a mean, and {share:.0%} of the voxels vary more than their mean: '
    'the series were centred already. Set clean.scaling to "zscore" or "none".'
)


PERCENT = 'percent signal change'
AS_IN_THE_SERIES = 'as in the series, which have no mean'
UNITS = {'psc': PERCENT, 'zscore': 'standard deviation', 'none': 'as in the preprocessed series'}
"""Units of a cleaned series by its scaling."""


def short_units(units: str) -> str:
    """Return units as axes of figures write them.

    Examples
    --------
    >>> short_units('percent signal change'), short_units('standard deviation')
    ('% signal change', 'standard deviation')
    >>> short_units('as in the series, which have no mean')
    'units of the series'
    """
    return {PERCENT: '% signal change', AS_IN_THE_SERIES: 'units of the series'}.get(units, units)


def lacks_mean(series: RealArray) -> bool:
    """Tell whether a series was centred: more than half of its voxels vary more than their mean.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels); voxels that do not vary or are not finite do not count.

    Returns
    -------
    bool
        Whether percent signal change would be meaningless.
    """
    deviation = series.std(axis=0, dtype=np.float64)
    varies = np.isfinite(deviation) & (deviation > 0)
    centred = np.abs(series.mean(axis=0, dtype=np.float64)) < deviation
    return bool(varies.any() and centred[varies].mean() > 0.5)


def with_baseline(series: RealArray, unit: float) -> npt.NDArray[np.float32]:
    """Put series that have no mean about 100 ``unit``: a percent of that mean is one ``unit``.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels).
    unit
        In units of the series; near their deviation, so that single precision suffices.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_voxels), float32. Voxels that do not vary stay what they are.
    """
    mean = series.mean(axis=0, dtype=np.float64)
    varies = series.std(axis=0, dtype=np.float64) > 0
    return np.where(varies, series - mean + 100 * unit, series).astype(np.float32)


def clean_series(
    series: RealArray,
    repetition_time: float,
    *,
    confounds: RealArray | None = None,
    high_pass: float | None = None,
    scaling: Literal['psc', 'zscore', 'none'] = 'psc',
    kept: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """Clean the series of one run.

    The linear trend, the cosines below the high-pass and the confounds are projected off
    together (:func:`nilearn.signal.clean`), which also centres the series.

    Parameters
    ----------
    series
        BOLD, shape (n_volumes, n_voxels).
    repetition_time
        Seconds between volumes.
    confounds
        Shape (n_volumes, n_confounds).
    high_pass
        Cut-off in Hz; none if None or 0 (the linear trend goes in any case).
    scaling
        ``psc``: percent of the mean over the kept volumes before cleaning (a voxel of mean zero
        gives zeros); ``zscore``: unit standard deviation (ddof 1) after cleaning (a constant
        voxel gives zeros); ``none``: units of the data.
    kept
        Shape (n_volumes,), boolean. Volumes that are not kept take no part in the fit.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, n_voxels), float32. Rows that are not kept are NaN, so that the row
        number stays the clock. A voxel with NaN anywhere is NaN everywhere.

    Raises
    ------
    DataError
        For shapes that do not fit, more regressors than volumes, or percent signal change of
        series that have no mean.
    """
    series = np.asarray(series)
    if series.ndim != 2 or len(series) < 2:
        raise DataError(WRONG_SHAPE.format(shape=series.shape))
    n_volumes, n_voxels = series.shape
    kept = np.ones(n_volumes, dtype=bool) if kept is None else np.asarray(kept)
    basis = _basis(n_volumes, repetition_time, confounds, high_pass, kept)
    out = np.full(series.shape, np.nan, dtype=np.float32)
    block = max(1, BLOCK_BYTES // (8 * n_volumes))
    no_baseline = 0
    for start in range(0, n_voxels, block):
        part = slice(start, start + block)
        values = series[kept, part].astype(np.float64)
        cleaned = _project(values, repetition_time, basis)
        mean = np.abs(values.mean(axis=0))
        if scaling == 'psc':
            no_baseline += int(np.sum(mean < values.std(axis=0)))
            cleaned = _divide(100 * cleaned, mean)
        elif scaling == 'zscore':
            deviation = cleaned.std(axis=0, ddof=1)
            # what is left of a constant voxel are rounding errors
            cleaned = _divide(cleaned, np.where(deviation <= 1e-10 * mean, 0, deviation))
        out[kept, part] = cleaned
    if scaling == 'psc' and no_baseline > n_voxels / 2:
        raise DataError(NO_BASELINE.format(share=no_baseline / n_voxels))
    return out


def _divide(values: RealArray, by: RealArray) -> npt.NDArray[np.float64]:
    """Divide columns; by zero gives zero."""
    return np.divide(values, by, out=np.zeros_like(values), where=by != 0)


def _project(
    values: RealArray, repetition_time: float, basis: RealArray | None
) -> npt.NDArray[np.float64]:
    """Clean one block of voxels; voxels that are not finite come back as NaN."""
    from nilearn.signal import clean

    finite = np.isfinite(values).all(axis=0)
    out = np.full(values.shape, np.nan)
    if finite.any():
        out[:, finite] = clean(
            values[:, finite],
            detrend=True,
            standardize=None,
            confounds=basis,
            standardize_confounds=True,
            filter=False,
            t_r=repetition_time,
        )
    return out


def _basis(
    n_volumes: int,
    repetition_time: float,
    confounds: RealArray | None,
    high_pass: float | None,
    kept: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64] | None:
    """Return an orthonormal basis of confounds and cosines over the kept volumes.

    nilearn's own cosine filter gives way to cosines among the confounds (which come with
    CompCor) even where their cut-off is another; here both are removed.
    """
    n_kept = int(np.count_nonzero(kept))
    if kept.shape != (n_volumes,) or kept.dtype != np.bool_ or n_kept < 2:
        raise DataError(BAD_KEPT.format(volumes=n_volumes, shape=kept.shape, n=n_kept))
    regressors = cosine_drift(n_volumes, repetition_time, high_pass or 0.0)
    if confounds is not None:
        confounds = np.asarray(confounds, dtype=np.float64)
        if confounds.ndim != 2 or len(confounds) != n_volumes:
            raise DataError(CONFOUNDS_SHAPE.format(shape=confounds.shape, volumes=n_volumes))
        bad = np.flatnonzero(~np.isfinite(confounds).all(axis=0))
        if bad.size:
            raise DataError(CONFOUNDS_NOT_FINITE.format(columns=', '.join(map(str, bad))))
        regressors = np.hstack([regressors, confounds])
    if not regressors.shape[1]:
        return None
    from scipy import linalg, signal

    raw = np.linalg.norm(regressors[kept], axis=0)
    regressors = signal.detrend(regressors[kept], axis=0)
    length = np.linalg.norm(regressors, axis=0)
    length[length <= 1e-10 * raw] = 0.0  # a constant or a line: rounding errors are left
    basis = linalg.orth(_divide(regressors, length), rcond=1e-6)
    if basis.shape[1] + 2 >= n_kept:
        raise DataError(TOO_MANY.format(n=basis.shape[1] + 2, volumes=n_kept))
    return np.asarray(basis) if basis.shape[1] else None


def cosine_drift(
    n_volumes: int, repetition_time: float, high_pass: float
) -> npt.NDArray[np.float64]:
    """Return the discrete cosines (type II) slower than a cut-off.

    Parameters
    ----------
    n_volumes
        Volumes of the run.
    repetition_time
        Seconds between volumes.
    high_pass
        Cut-off in Hz.

    Returns
    -------
    numpy.ndarray
        Shape (n_volumes, floor(2 * n_volumes * repetition_time * high_pass)).

    Raises
    ------
    DataError
        If the cut-off is negative or not below half the rate of volumes.
    """
    nyquist = 0.5 / repetition_time
    if not 0 <= high_pass < nyquist:
        raise DataError(BAD_HIGH_PASS.format(high_pass=high_pass, nyquist=nyquist))
    order = np.arange(1, int(2 * n_volumes * repetition_time * high_pass) + 1)
    time = (np.arange(n_volumes) + 0.5) / n_volumes
    return np.cos(np.pi * time[:, None] * order)
