r"""What an analysis could find at best, worked out from what was planted.

A single-trial beta is a linear function of a run's series, :math:`\hat\beta = A y`, with A the
first rows of the pseudo-inverse of [trials, polynomials] under the voxel's own response. Noise of
covariance :math:`\Sigma` gives it the variance :math:`\mathrm{diag}(A \Sigma A^\top)`; drift,
physiology and motion, which are known, add the square of :math:`A s`. The mean over trials is the
noise variance of a single trial; with the signal's variance over images it makes

.. math::

    \mathrm{ncsnr} = \sigma_{signal} / \sigma_{noise}, \qquad
    NC = \frac{\mathrm{ncsnr}^2}{\mathrm{ncsnr}^2 + 1 / n}

for the mean of n repeats (Allen et al. 2022, Nat Neurosci 25:116).
"""

from __future__ import annotations

import numpy as np

from bids_neurodecode.simulate.response import N_HRFS, polynomials
from bids_neurodecode.typing import FloatArray, IndexArray


def beta_filters(designs: FloatArray, repetition_time: float) -> FloatArray:
    """Return the rows that turn a run's series into single-trial betas (ordinary least squares).

    Parameters
    ----------
    designs
        Of the run, one for each response, (20, n_volumes, n_trials).

    Returns
    -------
    numpy.ndarray
        Shape (20, n_trials, n_volumes).
    """
    nuisance = polynomials(designs.shape[1], repetition_time)
    n_trials = designs.shape[2]
    return np.stack([np.linalg.pinv(np.hstack([d, nuisance]))[:n_trials] for d in designs])


def ar1_beta_variance(filters: FloatArray, rho: float) -> FloatArray:
    """Return the mean variance of a trial's beta under unit AR(1) noise, (20,).

    Parameters
    ----------
    filters
        From a run's series to its betas, (20, n_trials, n_volumes), one per response.
    rho
        Correlation of neighbouring volumes.
    """
    lags = np.abs(np.subtract.outer(*[np.arange(filters.shape[2])] * 2))
    sigma = rho**lags if rho > 0 else np.eye(filters.shape[2])
    variance: FloatArray = np.einsum('htu,htu->ht', filters @ sigma, filters).mean(axis=1)
    return variance


def stationary_beta_variance(filters: FloatArray, series: FloatArray) -> FloatArray:
    """Return the mean variance of a trial's beta under phase-randomised series.

    Parameters
    ----------
    filters
        Shape (20, n_trials, n_volumes).
    series
        The real residuals that are phase-randomised, (n_real_volumes >= n_volumes, n_voxels).

    Returns
    -------
    numpy.ndarray
        Shape (20, n_voxels).
    """
    n = len(series)
    power = np.abs(np.fft.fft(series, axis=0)) ** 2 / n**2
    gain = (np.abs(np.fft.fft(filters, n=n, axis=2)) ** 2).mean(axis=1)
    variance: FloatArray = gain @ power
    return variance


def structured_beta_variance(
    filters: FloatArray, structured: FloatArray, hrf_index: IndexArray
) -> FloatArray:
    """Return the mean square that known nuisance adds to a trial's beta, (n_voxels,).

    ``structured`` is (n_volumes, n_voxels).

    Parameters
    ----------
    filters
        From a run's series to its betas, (20, n_trials, n_volumes), one per response.
    structured
        Known nuisance, (n_volumes, n_voxels).
    hrf_index
        Response of each voxel, (n_voxels,).
    """
    out = np.zeros(structured.shape[1])
    for index in range(N_HRFS):
        voxels = hrf_index == index
        out[voxels] = ((filters[index] @ structured[:, voxels]) ** 2).mean(axis=0)
    return out


def noise_ceiling(ncsnr: FloatArray, n_repeats: int) -> FloatArray:
    """Return the share of variance of the mean of ``n_repeats`` that is signal, in [0, 1].

    Parameters
    ----------
    ncsnr
        Deviation of signal over that of noise, (n_voxels,).
    n_repeats
        Trials that are averaged.
    """
    with np.errstate(divide='ignore'):
        ceiling: FloatArray = 1 / (1 + 1 / (n_repeats * np.square(ncsnr)))
    return ceiling


def leave_one_out_isc(signal_sd: FloatArray, noise_sd: FloatArray) -> FloatArray:
    """Return each participant's expected correlation with the mean of the others.

    Parameters
    ----------
    signal_sd, noise_sd
        Standard deviations over time of the common signal and of the independent noise, polynomial
        drifts aside, (n_subjects, n_voxels).

    Returns
    -------
    numpy.ndarray
        Shape (n_subjects, n_voxels); 0 where there is neither signal nor noise.
    """
    n_others = len(signal_sd) - 1
    others_signal = (signal_sd.sum(axis=0) - signal_sd) / n_others
    squares = noise_sd**2
    others_noise = (squares.sum(axis=0) - squares) / n_others**2
    scale = np.sqrt((signal_sd**2 + squares) * (others_signal**2 + others_noise))
    isc: FloatArray = signal_sd * others_signal / np.where(scale > 0, scale, np.inf)
    return isc


def detrended_sd(series: FloatArray, repetition_time: float) -> FloatArray:
    """Return the standard deviation over time once polynomials are out, (n_voxels,).

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels).
    repetition_time
        Seconds.
    """
    basis = polynomials(len(series), repetition_time)
    residuals = series - basis @ np.linalg.lstsq(basis, series, rcond=None)[0]
    sd: FloatArray = np.sqrt((residuals**2).mean(axis=0))
    return sd
