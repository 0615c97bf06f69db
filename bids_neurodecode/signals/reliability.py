"""How far voxels can be trusted: tSNR, agreement of repeats, noise ceiling, agreement of subjects.

All functions go through the voxels in blocks, in double precision, and keep no table of stimuli
by voxels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals.groups import TrialGroups, checked, ratio_of, voxel_blocks
from bids_neurodecode.typing import Float32Array, RealArray

NO_REPEATS = (
    '{measure} needs stimuli that are shown more than once, and none of these {stimuli} is. '
    'Choose another measure (selection.measure = "prediction").'
)
ONE_STIMULUS = '{measure} needs at least two stimuli; there is one. Choose another measure.'
SHORT_SESSION = (
    'Session {session} has {n} trial(s); z-scoring betas within a session needs at least two. '
    'Leave the session out.'
)
BAD_COUNTS = 'Repetition counts must be whole numbers of 1 or more; these are {counts}.'
FEW_SUBJECTS = 'Agreement between subjects needs at least two subjects; there is {n}.'


WITHIN_RUNS = 'no stimulus is repeated in another run, and repeats within a run share slow noise'
SAME_ORDER = (
    'all runs show their stimuli in the same order, so what follows the time in a run cannot be '
    'told from a response'
)


EXCHANGED_SCORES = 100_000_000
"""Scores that are exchanged for the null of :func:`repeat_test`, trials times draws."""
SAME_NEIGHBOURS = 0.5
"""Correlation of distances in time between stimuli above which two runs have the same order."""
SAME_LIST = 0.5
"""Share of the images of each that two runs have to have in common to be of one list."""


class RepeatTest(NamedTuple):
    """Agreement of repeats over runs.

    Parameters
    ----------
    agreement
        Mean product of the normal scores of a stimulus in two runs, (n_voxels,): a rank
        correlation between runs. NaN where a voxel is not finite, or without a test.
    p
        One-sided, (n_voxels,); NaN where it could not be tested.
    n_pairs
        Pairs of a stimulus in two runs (or two lists, runs of one order) that were compared.
    reason
        Why there is no test; empty if there is one.
    """

    agreement: Float32Array
    p: npt.NDArray[np.float64]
    n_pairs: int
    reason: str = ''


def tsnr(series: RealArray) -> Float32Array:
    """Temporal signal-to-noise ratio: mean over time / standard deviation over time.

    Linear and quadratic drift are removed before the deviation is taken (ddof 1).

    Parameters
    ----------
    series
        Shape (n_volumes, n_voxels), with its mean (not cleaned).

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32; 0 where a voxel does not vary, NaN where it is not finite.
    """
    series = checked(series, 2, 'volumes x voxels')
    n_volumes = len(series)
    time = np.linspace(-1, 1, n_volumes)
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(time, min(2, n_volumes - 2)))
    out = np.empty(series.shape[1], dtype=np.float32)
    for part, values in voxel_blocks(series):
        mean = values.mean(axis=0)
        residual = values - basis @ (basis.T @ values)
        deviation = residual.std(axis=0, ddof=1)
        # the residual of a constant voxel is rounding error
        still = deviation <= 1e-10 * np.abs(mean)
        out[part] = np.where(still, 0.0, mean / np.where(still, 1.0, deviation))
    return out


def snr_across_repeats(betas: RealArray, stimuli: npt.ArrayLike) -> Float32Array:
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
    betas: RealArray,
    stimuli: npt.ArrayLike,
    sessions: npt.ArrayLike | None = None,
) -> Float32Array:
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
        Shape (n_trials,): which session each trial is of, within which betas are z-scored
        (ddof 1), so that the total variance is 1. One session if left out.

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
        within = visits.zscored(values)
        noise = groups.mean_variance(within)
        total = np.einsum('tv,tv->v', within, within) / (len(betas) - len(visits.counts))
        out[part] = np.sqrt(ratio_of(np.maximum(total - noise, 0.0), noise))
    return out


def noise_ceiling(ratio: RealArray, counts: npt.ArrayLike = 1) -> Float32Array:
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


def repeat_test(
    betas: RealArray,
    stimuli: npt.ArrayLike,
    runs: npt.ArrayLike,
    *,
    seed: int = 0,
) -> RepeatTest:
    """Test whether a stimulus gives like responses in different runs.

    Noise is autocorrelated within a run: repeats that follow each other agree without any
    response. Pairs of a stimulus in two different runs are compared, and the null exchanges the
    stimuli of each run (all its repeats in the run together). The responses of each run are
    brought to normal scores (van der Waerden), so that this null is the same for all voxels, one
    that holds an artefact among them, and every run weighs the same. Pairs of runs with the same,
    or the reversed, order of stimuli are left out: position in the run is confounded with
    stimulus there, and autocorrelated noise agrees more than under the exchange.

    Parameters
    ----------
    betas
        Shape (n_trials, n_voxels), the trials of a run in order of time.
    stimuli, runs
        Shape (n_trials,): which stimulus each trial showed, in which run.
    seed
        Of the exchanges: up to 100,000, fewer where there are many trials (not fewer than 2,000);
        the smallest p value is 1 / (exchanges + 1).

    Returns
    -------
    RepeatTest
        NaN, with the reason, where no pair of runs can be compared. ``p`` is 1 where a voxel
        does not vary or is not finite.
    """
    betas = checked(betas, 2, 'trials x voxels')
    groups = TrialGroups(stimuli, len(betas), 'stimulus')
    visits = TrialGroups(runs, len(betas), 'run')
    lists, comparable, reason = _lists(groups, visits)
    of = lists[visits.codes]
    cells = TrialGroups(of * len(groups.counts) + groups.codes, len(betas), 'cell')
    image, run = cells.labels % len(groups.counts), cells.labels // len(groups.counts)
    partners = _partners(image, run, comparable)
    n_pairs = partners.nnz // 2
    if not n_pairs:
        nothing = np.full(betas.shape[1], np.nan)
        return RepeatTest(nothing.astype(np.float32), nothing, 0, reason)
    rows = [np.flatnonzero(run == number) for number in np.unique(run)]
    null = _null_agreement(rows, partners, np.random.default_rng(seed))
    total, varies = np.empty(betas.shape[1]), np.empty(betas.shape[1], dtype=bool)
    for part, values in voxel_blocks(betas):
        # repeats in a run are one response, of the same variance as others if noise were white
        scaled = cells.means(visits.zscored(values)) * np.sqrt(cells.counts)[:, None]
        scores = np.concatenate([normal_scores(scaled[index]) for index in rows])
        scores[np.concatenate(rows)] = scores.copy()
        total[part] = np.einsum('cv,cv->v', scores, np.asarray(partners @ scores)) / 2
        varies[part] = (scores != 0).any(axis=0)
    slack = 1e-9 * max(1.0, float(np.abs(null).max()))
    reached = len(null) - np.searchsorted(np.sort(null), total - slack)
    p = np.where(np.isfinite(total) & varies, (reached + 1) / (len(null) + 1), 1.0)
    return RepeatTest((total / n_pairs).astype(np.float32), p, n_pairs)


def normal_scores(values: RealArray) -> npt.NDArray[np.float64]:
    """Return van der Waerden scores along the first axis, centred; ties share a rank.

    Columns that do not vary are 0, columns that are not finite NaN.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0, nan_policy='propagate')
    scores = ndtri(ranks / (len(values) + 1))
    return np.asarray(scores - scores.mean(axis=0))


def _lists(
    groups: TrialGroups, visits: TrialGroups
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_], str]:
    """Tell which runs have one order of stimuli, and so are one list.

    Returns
    -------
    numpy.ndarray
        List of each run, (n_runs,).
    numpy.ndarray
        Whether the orders of two lists differ, (n_lists, n_lists).
    str
        Why none can be compared, where that is so.
    """
    n_runs = len(visits.counts)
    place = np.empty(len(visits.codes))
    for number, count in enumerate(visits.counts):
        place[visits.codes == number] = np.arange(count)
    cells = TrialGroups(visits.codes * len(groups.counts) + groups.codes, len(place), 'cell')
    image, run = cells.labels % len(groups.counts), cells.labels // len(groups.counts)
    place = np.bincount(cells.codes, weights=place) / cells.counts
    places = [dict(zip(image[run == k], place[run == k], strict=True)) for k in range(n_runs)]
    met, same, one = (np.zeros((n_runs, n_runs)) for _ in range(3))
    for i, first in enumerate(places):
        for j, second in enumerate(places[:i]):
            common = [key for key in first if key in second]
            if not common:
                continue
            a, b = (np.array([each[key] for key in common]) for each in (first, second))
            most = len(common) >= SAME_LIST * max(len(first), len(second))
            met[i, j] = met[j, i] = 1
            same[i, j] = same[j, i] = _same_order(a, b)
            one[i, j] = one[j, i] = same[i, j] * most
    lists = _cliques(one)
    member = (lists[:, None] == np.arange(lists.max() + 1)).astype(float)
    # lists of which most runs have the same order as those of the other
    alike = 2 * (member.T @ same @ member) > member.T @ met @ member
    comparable = ~alike & ~np.eye(len(alike), dtype=bool)
    return lists, comparable, SAME_ORDER if met.any() else WITHIN_RUNS


def _cliques(joined: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return numbers of groups within which all are joined, (n,), from (n, n)."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(joined) < 2:
        return np.zeros(len(joined), dtype=np.intp)
    apart = squareform(1 - joined - np.eye(len(joined)))
    return np.asarray(fcluster(linkage(apart, 'complete'), 0.5, 'distance') - 1, dtype=np.intp)


def _partners(
    image: npt.NDArray[np.intp], run: npt.NDArray[np.intp], comparable: npt.NDArray[np.bool_]
) -> sparse.csr_array:
    """Pair the cells of a stimulus in different lists: (n_cells, n_cells), 1 for a pair."""
    by_image = TrialGroups(image, len(image), 'image')
    shown = sparse.csr_array((np.ones(len(image)), (np.arange(len(image)), by_image.codes)))
    pairs = sparse.coo_array(shown @ shown.T)
    kept = comparable[run[pairs.row], run[pairs.col]]
    places = (pairs.row[kept], pairs.col[kept])
    return sparse.csr_array((np.ones(kept.sum()), places), shape=pairs.shape)


def _same_order(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> bool:
    """Tell whether the stimuli of two runs have the same neighbours, from their places.

    The distances between all pairs of stimuli in the order of each run are correlated between
    runs, as they are and as autocorrelation weighs them: 1 for the same and for the reversed
    order, about 0 for random ones.
    """
    if len(a) < 3:
        return len(a) == 2 and bool((a[0] < a[1]) == (b[0] < b[1]))
    from scipy.stats import rankdata

    upper = np.triu_indices(len(a), 1)
    order = [rankdata(x) for x in (a, b)]
    apart = [np.abs(x[:, None] - x)[upper] for x in order]
    for weigh in (np.asarray, lambda d: 0.5**d):
        x, y = (weigh(d) - np.mean(weigh(d)) for d in apart)
        size = float(np.linalg.norm(x) * np.linalg.norm(y))
        if size == 0 or float(x @ y) / size > SAME_NEIGHBOURS:
            return True
    return False


def _null_agreement(
    rows: list[npt.NDArray[np.intp]], partners: sparse.csr_array, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw the summed products of normal scores when stimuli are exchanged within runs."""
    n_cells = partners.shape[0]
    n_draws = int(np.clip(EXCHANGED_SCORES // n_cells, 2_000, 100_000))
    scores = [normal_scores(np.arange(len(index), dtype=float)) for index in rows]
    null = np.empty(n_draws)
    at_once = max(1, 2**22 // n_cells)
    for start in range(0, n_draws, at_once):
        n = min(at_once, n_draws - start)
        drawn = np.empty((n_cells, n))
        for index, values in zip(rows, scores, strict=True):
            drawn[index] = rng.permuted(np.tile(values[:, None], n), axis=0)
        null[start : start + n] = np.einsum('cn,cn->n', drawn, np.asarray(partners @ drawn)) / 2
    return null


def leave_one_out_isc(series: RealArray) -> Float32Array:
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


def _sessions(sessions: npt.ArrayLike | None, n_trials: int) -> TrialGroups:
    visits = TrialGroups(np.zeros(n_trials) if sessions is None else sessions, n_trials, 'session')
    if visits.counts.min() < 2:
        first = int(np.argmin(visits.counts))
        raise DataError(SHORT_SESSION.format(session=visits.labels[first], n=visits.counts[first]))
    return visits


def _check_trials(
    betas: RealArray, stimuli: npt.ArrayLike, measure: str
) -> tuple[RealArray, TrialGroups]:
    betas = checked(betas, 2, 'trials x voxels')
    groups = TrialGroups(stimuli, len(betas), 'stimulus')
    if groups.counts.max() < 2:
        raise DataError(NO_REPEATS.format(measure=measure, stimuli=len(groups.counts)))
    return betas, groups


def _check_subjects(series: RealArray) -> RealArray:
    series = checked(series, 3, 'subjects x times x voxels')
    if len(series) < 2:
        raise DataError(FEW_SUBJECTS.format(n=len(series)))
    return series
