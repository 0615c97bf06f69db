"""How far voxels can be trusted: tSNR, agreement of repeats, noise ceiling, agreement of subjects.

All functions go through the voxels in blocks, in double precision, and keep no table of stimuli
by voxels.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.groups import TrialGroups, checked, ratio_of, voxel_blocks

FloatArray = npt.NDArray[np.floating[Any]]
VoxelMap = npt.NDArray[np.float32]

NO_REPEATS = (
    '{measure} needs stimuli that are shown more than once, and none of these {stimuli} is. '
    'Choose another measure (selection.measure = "tsnr").'
)
ONE_STIMULUS = '{measure} needs at least two stimuli; there is one. Choose another measure.'
SHORT_SESSION = (
    'Session {session} has {n} trial(s); z-scoring betas within a session needs at least two. '
    'Leave the session out.'
)
BAD_COUNTS = 'Repetition counts must be whole numbers of 1 or more; these are {counts}.'
FEW_SUBJECTS = 'Agreement between subjects needs at least two subjects; there is {n}.'
CENTRED = (
    'The time means of the series hardly differ between subjects: they were centred, and the '
    'ratio has no meaning. Use noise="at_each_time", or series with scaling "none".'
)


class RepeatTest(NamedTuple):
    """One-way analysis of variance over stimuli: ``f`` and ``p`` of shape (n_voxels,)."""

    f: VoxelMap
    p: npt.NDArray[np.float64]
    df_between: int
    df_within: int


class IscCeiling(NamedTuple):
    """Mean over subjects of the leave-one-out correlation, and its square root."""

    correlation: VoxelMap
    corrected: VoxelMap


def tsnr(series: FloatArray, degree: int = 2) -> VoxelMap:
    """Temporal signal-to-noise ratio: mean over time / standard deviation over time.

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels), with its mean (not cleaned).
    degree
        Polynomials up to this degree are removed before the deviation is taken (ddof 1); the
        default takes out linear and quadratic drift.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32; 0 where a voxel does not vary, NaN where it is not finite.
    """
    series = checked(series, 2, 'volumes x voxels')
    n_volumes = len(series)
    time = np.linspace(-1, 1, n_volumes)
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(time, min(degree, n_volumes - 2)))
    out = np.empty(series.shape[1], dtype=np.float32)
    for part, values in voxel_blocks(series):
        mean = values.mean(axis=0)
        residual = values - basis @ (basis.T @ values)
        deviation = residual.std(axis=0, ddof=1)
        # the residual of a constant voxel is rounding error
        still = deviation <= 1e-10 * np.abs(mean)
        out[part] = np.where(still, 0.0, mean / np.where(still, 1.0, deviation))
    return out


def snr_across_repeats(betas: FloatArray, stimuli: npt.ArrayLike) -> VoxelMap:
    """Variance over stimuli of the mean response / mean variance across the repeats of a stimulus.

    Only stimuli shown more than once are used; variances have ddof 1. Noise alone gives the mean
    of 1 / n_repeats, not 0 (see :func:`ncsnr` for the ratio free of that).

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels).
    stimuli
        Shape (n_trials,): which stimulus each trial showed.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32; 0 where nothing varies.

    Raises
    ------
    DataError
        If fewer than two stimuli are repeated.
    """
    betas, groups = _check_trials(betas, stimuli, 'SNR across repeats')
    repeated = groups.counts >= 2
    if np.count_nonzero(repeated) < 2:
        raise DataError(ONE_STIMULUS.format(measure='SNR across repeats'))
    out = np.empty(betas.shape[1], dtype=np.float32)
    for part, values in voxel_blocks(betas):
        means = groups.means(values)
        noise = groups.variances(values, means)[repeated].mean(axis=0)
        out[part] = ratio_of(means[repeated].var(axis=0, ddof=1), noise)
    return out


def ncsnr(
    betas: FloatArray,
    stimuli: npt.ArrayLike,
    sessions: npt.ArrayLike | None = None,
    *,
    zscore: bool = True,
) -> VoxelMap:
    """Noise-ceiling signal-to-noise ratio: deviation of the signal / deviation of the noise.

    As in the manual of the Natural Scenes Dataset (Allen et al. 2022, *Nature Neuroscience*
    25:116): the noise variance is the mean over stimuli of the variance (ddof 1) across
    repetitions; the signal variance is the total variance less that, or 0. Stimuli shown once
    count towards the total variance only; repetition counts may be mixed.

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels).
    stimuli
        Shape (n_trials,): which stimulus each trial showed.
    sessions
        Shape (n_trials,): which session each trial is of. One session if left out.
    zscore
        Betas are z-scored (ddof 1) within each session, so that the total variance is 1. If
        false they are only centred there, for betas that already share a scale.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32; 0 where nothing varies, infinite where repeats are identical,
        NaN where a voxel is not finite.

    Raises
    ------
    DataError
        If no stimulus is repeated, or a session has a single trial.
    """
    betas, groups = _check_trials(betas, stimuli, 'The noise ceiling')
    visits = _sessions(sessions, len(betas))
    out = np.empty(betas.shape[1], dtype=np.float32)
    for part, values in voxel_blocks(betas):
        within = visits.scaled(values, zscore)
        noise = groups.mean_variance(within)
        total = np.einsum('tv,tv->v', within, within) / (len(betas) - len(visits.counts))
        out[part] = np.sqrt(ratio_of(np.maximum(total - noise, 0.0), noise))
    return out


def noise_ceiling(ratio: FloatArray, counts: npt.ArrayLike = 1) -> VoxelMap:
    """Share of the variance of (averaged) responses that the stimulus can explain.

    ``ncsnr**2 / (ncsnr**2 + mean(1 / counts))``. With A stimuli averaged over 3 repeats, B over 2
    and C of one trial this is the formula of the Natural Scenes Dataset's manual with
    (A / 3 + B / 2 + C) / (A + B + C).

    Parameters
    ----------
    ratio
        :func:`ncsnr`, shape (n_voxels,).
    counts
        How many trials the response to each stimulus is the mean of, shape (n_stimuli,), or one
        number for all. 1 is the ceiling of single trials.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32, from 0 to 1.

    Raises
    ------
    DataError
        If a count is below 1.
    """
    numbers = np.atleast_1d(np.asarray(counts, dtype=np.float64))
    if numbers.size == 0 or not (numbers >= 1).all():
        raise DataError(BAD_COUNTS.format(counts=numbers[:10].tolist()))
    ratio = np.asarray(ratio, dtype=np.float64)
    signal = np.where(np.isinf(ratio), 1.0, ratio**2)
    noise = np.where(np.isinf(ratio), 0.0, np.mean(1 / numbers))
    return np.asarray(signal / (signal + noise), dtype=np.float32)


def repeat_f_test(
    betas: FloatArray, stimuli: npt.ArrayLike, sessions: npt.ArrayLike | None = None
) -> RepeatTest:
    """Test whether repeats of a stimulus agree more than responses to different ones.

    One-way analysis of variance over stimuli with any numbers of repeats. With sessions, each
    session's mean is removed first and costs one degree of freedom within: exact where each
    session shows all stimuli equally often, conservative else (stimuli that are shown in one
    session only are not taken to agree because that session was higher).

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels).
    stimuli
        Shape (n_trials,): which stimulus each trial showed.
    sessions
        Shape (n_trials,), if session means are to be removed.

    Returns
    -------
    RepeatTest
        ``f`` is 0 and ``p`` 1 where a voxel does not vary; NaN and 1 where it is not finite.

    Raises
    ------
    DataError
        If there is one stimulus, or none is repeated.
    """
    betas, groups = _check_trials(betas, stimuli, 'The F test over stimuli')
    visits = None if sessions is None else _sessions(sessions, len(betas))
    n_sessions = 1 if visits is None else len(visits.counts)
    between, within = len(groups.counts) - 1, len(betas) - len(groups.counts) - n_sessions + 1
    if between < 1:
        raise DataError(ONE_STIMULUS.format(measure='The F test over stimuli'))
    if within < 1:
        raise DataError(
            NO_REPEATS.format(measure='The F test over stimuli', stimuli=len(groups.counts))
        )
    f = np.empty(betas.shape[1], dtype=np.float64)
    for part, values in voxel_blocks(betas):
        centred = values - values.mean(axis=0) if visits is None else visits.scaled(values, False)
        means = groups.means(centred)
        spread = groups.counts @ means**2
        rest = np.maximum(np.einsum('tv,tv->v', centred, centred) - spread, 0.0)
        # float32 betas cannot agree better than their rounding
        rest[rest <= 1e-13 * (rest + spread)] = 0.0
        f[part] = ratio_of(spread / between, rest / within)
    p = special.fdtrc(between, within, f)
    return RepeatTest(f.astype(np.float32), np.where(np.isnan(f), 1.0, p), between, within)


def movie_snr(
    series: FloatArray, noise: Literal['of_time_means', 'at_each_time'] = 'of_time_means'
) -> VoxelMap:
    """Across-subject signal-to-noise ratio of one film.

    The variance over time of the mean over subjects, divided by the variance over subjects of
    the mean over time (``of_time_means``, as in the published code of the movie system) or by the
    mean over time of the variance over subjects (``at_each_time``, as in its text). Variances
    have ddof 0.

    Parameters
    ----------
    series
        Shape (n_subjects, n_times, n_voxels).
    noise
        Which denominator. ``of_time_means`` needs series that were not centred.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32; 0 where nothing varies.

    Raises
    ------
    DataError
        For one subject, or centred series with ``of_time_means``.
    """
    series = _check_subjects(series)
    n_voxels = series.shape[2]
    above, below = np.empty(n_voxels), np.empty(n_voxels)
    for part, values in voxel_blocks(series):
        above[part] = values.mean(axis=0).var(axis=0)
        each = values.var(axis=0).mean(axis=0)
        of_means = values.mean(axis=1).var(axis=0)
        below[part] = each if noise == 'at_each_time' else of_means
        if noise == 'of_time_means' and np.mean(of_means <= 1e-8 * each) > 0.5:
            raise DataError(CENTRED)
    return ratio_of(above, below).astype(np.float32)


def leave_one_out_isc(series: FloatArray) -> VoxelMap:
    """Correlate each subject's series with the mean of the others'.

    Parameters
    ----------
    series
        Shape (n_subjects, n_times, n_voxels).

    Returns
    -------
    numpy.ndarray
        Pearson's r, shape (n_subjects, n_voxels), float32; 0 where a series does not vary.

    Raises
    ------
    DataError
        For one subject.
    """
    series = _check_subjects(series)
    out = np.empty((len(series), series.shape[2]), dtype=np.float32)
    for part, values in voxel_blocks(series):
        centred = values - values.mean(axis=1, keepdims=True)
        total = centred.sum(axis=0)
        for subject, own in enumerate(centred):
            others = total - own
            scale = np.sqrt(
                np.einsum('tv,tv->v', own, own) * np.einsum('tv,tv->v', others, others)
            )
            r = ratio_of(np.einsum('tv,tv->v', own, others), scale)
            out[subject, part] = np.clip(r, -1, 1)
    return out


def isc_ceiling(isc: FloatArray) -> IscCeiling:
    """Bound what a model of the shared response can reach.

    Parameters
    ----------
    isc
        :func:`leave_one_out_isc`, shape (n_subjects, n_voxels).

    Returns
    -------
    IscCeiling
        ``correlation``: the mean over subjects. ``corrected``: its square root (0 below 0), what
        a perfect model would correlate with one subject if the mean of the others were no less
        noisy than that subject; with many subjects ``correlation`` is nearer.
    """
    isc = checked(isc, 2, 'subjects x voxels')
    mean = isc.mean(axis=0, dtype=np.float64)
    return IscCeiling(mean.astype(np.float32), np.sqrt(np.maximum(mean, 0.0)).astype(np.float32))


def _sessions(sessions: npt.ArrayLike | None, n_trials: int) -> TrialGroups:
    visits = TrialGroups(np.zeros(n_trials) if sessions is None else sessions, n_trials, 'session')
    if visits.counts.min() < 2:
        first = int(np.argmin(visits.counts))
        raise DataError(SHORT_SESSION.format(session=visits.labels[first], n=visits.counts[first]))
    return visits


def _check_trials(
    betas: FloatArray, stimuli: npt.ArrayLike, measure: str
) -> tuple[FloatArray, TrialGroups]:
    betas = checked(betas, 2, 'trials x voxels')
    groups = TrialGroups(stimuli, len(betas), 'stimulus')
    if groups.counts.max() < 2:
        raise DataError(NO_REPEATS.format(measure=measure, stimuli=len(groups.counts)))
    return betas, groups


def _check_subjects(series: FloatArray) -> FloatArray:
    series = checked(series, 3, 'subjects x times x voxels')
    if len(series) < 2:
        raise DataError(FEW_SUBJECTS.format(n=len(series)))
    return series
