"""What participants who saw the same films share: agreement, ceilings, voxels, the group's mean.

Agreement is the correlation of a participant with the mean of the others over given volumes, each
presentation standardised by itself, as predictions are judged. Everything here takes the rows that
it may look at: training rows to choose voxels, test rows for a ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.statistics import fdr
from bids_neurodecode.evaluation.voxels import pearson_by_column
from bids_neurodecode.signals.selection import enough_voxels
from bids_neurodecode.systems.movie.parts import (
    FoldPrediction,
    held_out_parts,
    standardize_within,
)
from bids_neurodecode.systems.movie.surrogates import HeldOutFilm
from bids_neurodecode.typing import BoolArray, FloatArray, RealArray

AT_ONCE = 4096
"""Voxels that are compared at a time."""
CENTRED = (
    'The time means of the series hardly differ between subjects: they were centred, and the '
    'ratio has no meaning. Use noise="at_each_time", or series with scaling "none".'
)
MOST_CENTRED = 0.5
"""Share of voxels whose time means hardly differ from which on series count as centred."""

NO_ROWS = (
    'No volume of the {what} samples was measured in all participants; agreement between them '
    'cannot be computed. Set selection.measure = "none".'
)
NO_VOXELS = (
    'No voxel can be chosen by agreement between participants: none of the {n} voxels varies in '
    'all of them. Check the masks, or set selection.measure = "none".'
)

Measure = Literal['isc', 'snr']


class Agreement(NamedTuple):
    """Correlation with the mean of the others, and its p value by surrogates (or None)."""

    r: FloatArray
    p: FloatArray | None


def agreement(
    own: RealArray,
    others: RealArray,
    showings: npt.NDArray[np.str_],
    *,
    n_surrogates: int = 0,
    rng: np.random.Generator | None = None,
    what: str = 'training',
) -> Agreement:
    """Correlate a participant with the mean of the others.

    Parameters
    ----------
    own, others
        Shape (n_volumes, n_voxels). Rows without any finite value in either (censored volumes)
        are left out.
    showings
        One label per volume; each presentation is standardised by itself.
    n_surrogates, rng
        With surrogates, p is the share of surrogates of the others (the phases of each
        presentation drawn anew, the same for all voxels) that agree as well.
    what
        What the rows are, for the message.

    Returns
    -------
    Agreement
        ``r`` of shape (n_voxels,); NaN where the participant does not vary, or a value is missing.

    Raises
    ------
    DataError
        If no row is left.
    """
    rows = np.flatnonzero(_measured(own) & _measured(others))
    if not rows.size:
        raise DataError(NO_ROWS.format(what=what))
    labels = np.asarray(showings)[rows]
    n_voxels = own.shape[1]
    r = np.empty(n_voxels)
    p = np.full(n_voxels, np.nan)
    # one draw of phases for all voxels
    seed = int((rng or np.random.default_rng(0)).integers(2**32)) if n_surrogates else 0
    for start in range(0, n_voxels, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        a, b = np.asarray(own[rows, part]), np.asarray(others[rows, part])
        missing = ~(np.isfinite(a) & np.isfinite(b)).all(axis=0)
        b = np.where(missing, 0, b)
        a, scaled = (standardize_within(np.where(missing, 0, x), labels) for x in (a, b))
        r[part] = np.where(missing, np.nan, pearson_by_column(a, scaled))
        if n_surrogates:
            phases = np.random.default_rng(seed)
            p[part] = _test(a, b, r[part], labels, n_surrogates, phases)
    return Agreement(r, p if n_surrogates else None)


def _test(
    own: FloatArray,
    others: RealArray,
    r: FloatArray,
    labels: npt.NDArray[np.str_],
    n_surrogates: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return p of each voxel; all volumes are compared, none is predicted."""
    rows = np.arange(len(labels))
    table = pd.DataFrame({'film': labels, 'showing': labels, 'onset': rows})
    parts = held_out_parts(table, [rows])
    order = np.concatenate([part.rows for part in parts])
    held = HeldOutFilm(own[order], table, [FoldPrediction(rows, others)], parts)
    return held.test(r, n_surrogates, rng).p


def _measured(values: RealArray) -> BoolArray:
    """Tell which rows hold a finite value, a block of voxels at a time."""
    measured = np.zeros(len(values), dtype=bool)
    for start in range(0, values.shape[1], AT_ONCE):
        measured |= np.isfinite(values[:, start : start + AT_ONCE]).any(axis=1)
    return measured


def shared_variance(isc: npt.ArrayLike, n_participants: int) -> FloatArray:
    """Return the share of one participant's variance that is shared, from the agreement.

    With a shared response of variance s and noise of its own of variance 1 - s in each of n
    participants, one of them correlates with the mean of the others by
    ``r = s / sqrt(s + (1 - s) / (n - 1))``; this solves for s.

    Parameters
    ----------
    isc
        Correlation with the mean of the others; below 0 nothing is shared.
    n_participants
        How many there are together, 2 or more.

    Returns
    -------
    numpy.ndarray
        Same shape, from 0 to 1.

    Examples
    --------
    >>> round(float(shared_variance(0.3, 2)), 6)
    0.3
    """
    square = np.clip(np.asarray(isc, dtype=np.float64), 0, 1) ** 2
    m = n_participants - 1
    middle = square * (m - 1)
    return np.asarray((middle + np.sqrt(middle**2 + 4 * m * square)) / (2 * m))


def single_ceiling(isc: npt.ArrayLike, n_participants: int) -> FloatArray:
    """Return what a perfect model of the shared response correlates with one participant.

    The square root of :func:`shared_variance`. What a participant does not share with the others
    is not in it: a model fitted to one person can in principle exceed it.

    Parameters
    ----------
    isc
        Correlation of one with the mean of the others, (n_voxels,).
    n_participants
        That the agreement is over.
    """
    return np.sqrt(shared_variance(isc, n_participants))


def mean_ceiling(isc: npt.ArrayLike, n_participants: int) -> FloatArray:
    """Return what a perfect model of the shared response correlates with the group's mean.

    Parameters
    ----------
    isc
        Mean over participants of their correlation with the mean of the others.
    n_participants
        How many the mean is of.
    """
    s = shared_variance(isc, n_participants)
    return np.sqrt(n_participants * s / (1 + (n_participants - 1) * s))


def snr_of_films(
    films: Iterable[tuple[RealArray, RealArray, RealArray]], n_participants: int
) -> RealArray:
    """Average over films the published signal-to-noise ratio of the movie system.

    The variance over time of the mean over participants, divided by the variance over
    participants of the mean over time, as in the published code (not its text); from sums over
    participants, so that no table of participants by volumes by voxels is needed. Variances have
    ddof 0.

    Parameters
    ----------
    films
        Of each film: the sum over participants of the series, (n_volumes, n_voxels), and of
        their time means and of the squares of these, (n_voxels,).
    n_participants
        How many were summed.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), float32.

    Raises
    ------
    DataError
        If the series were centred: the ratio has no meaning then.
    """
    ratios = []
    for total, means, squares in films:
        mean = np.asarray(total, dtype=np.float64) / n_participants
        above = mean.var(axis=0)
        below = np.asarray(squares / n_participants - (means / n_participants) ** 2)
        if np.mean(below <= 1e-8 * above) > MOST_CENTRED:
            raise DataError(CENTRED)
        below = np.maximum(below, 0.0)
        ratios.append(np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0))
    return np.asarray(np.mean(ratios, axis=0), dtype=np.float32)


def with_ceilings(
    metrics: pd.DataFrame, ceilings: Mapping[str, tuple[float, float]]
) -> pd.DataFrame:
    """Give the correlations of a metrics table their ceiling.

    Parameters
    ----------
    metrics
        With the columns ``space``, ``metric``, ``model`` and ``ceiling``.
    ceilings
        Of each set of voxels (``space``), median and mean of their ceiling, put together over
        folds as the correlations are.

    Returns
    -------
    pandas.DataFrame
        A copy; rows of baselines have no ceiling.
    """
    table = metrics.copy()
    models = ~table['model'].astype(str).str.startswith('baseline')
    for space, (middle, mean) in ceilings.items():
        for metric, value in (('voxel_r_median', middle), ('voxel_r_mean', mean)):
            rows = models & (table['space'] == space) & (table['metric'] == metric)
            table.loc[rows, 'ceiling'] = value
    return table


@dataclass(frozen=True, eq=False)
class FilmVoxels:
    """The voxels that one fold uses, and why.

    Parameters
    ----------
    keep
        Shape (n_voxels,).
    description
        One sentence.
    warnings
        What the report should repeat.
    """

    keep: BoolArray
    description: str
    warnings: tuple[str, ...] = ()


def choose_by_agreement(
    values: npt.ArrayLike,
    p: FloatArray | None,
    settings: SelectionSettings,
    *,
    within: BoolArray | None = None,
    measure: Measure = 'isc',
) -> FilmVoxels:
    """Choose the voxels in which participants agree.

    Parameters
    ----------
    values
        Agreement on training volumes (or the signal-to-noise ratio), (n_voxels,); NaN where a
        voxel cannot be chosen.
    p
        Its p values, for the rule ``fdr``.
    settings
        Rule, share, threshold and the least number of voxels. The ratio ``snr`` has no test: the
        rule ``fdr`` becomes ``top``.
    within
        Voxels of the regions asked for.

    Raises
    ------
    DataError
        If there is no voxel to choose from.
    """
    found = np.asarray(values, dtype=np.float64)
    inside = np.isfinite(found)
    if within is not None:
        inside &= within
    if not inside.any():
        raise DataError(NO_VOXELS.format(n=len(found)))
    order = np.where(inside, found, -np.inf)
    n_inside = int(inside.sum())
    best = np.argsort(-order, kind='stable')
    passed = np.zeros(len(found), dtype=bool)
    if settings.rule == 'threshold':
        passed = order >= settings.threshold
        rule = f'{measure} of at least {settings.threshold:g}'
    elif settings.rule == 'fdr' and p is not None:
        adjusted = fdr(np.where(inside, p, np.nan))
        passed = np.nan_to_num(adjusted, nan=1.0) <= settings.fdr
        rule = (
            f'{measure} above chance (phase-randomised surrogates) at a false discovery rate of '
        )
        rule += f'{settings.fdr:g}'
    else:
        passed[best[: max(1, round(settings.fraction * n_inside))]] = True
        rule = f'highest {settings.fraction:.0%} by {measure}'
    passed, warnings, _ = enough_voxels(passed, order, rule, measure, settings.min_voxels)
    return FilmVoxels(passed, f'{passed.sum()} of {n_inside} voxels: {rule}', warnings)
