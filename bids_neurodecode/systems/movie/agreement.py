"""One participant against the others: voxels of each fold, and the ceiling on test volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.mapped import blocks, group_sums
from bids_neurodecode.samples import Fold, Split
from bids_neurodecode.systems.movie.parts import Pool, showings_of
from bids_neurodecode.systems.movie.running import RunningAgreement
from bids_neurodecode.systems.movie.targets import FilmVoxels, agreement, choose_by_agreement
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray, RealArray

MIN_FOR_AUTO = 3
"""Participants from which on ``auto`` chooses voxels by their agreement."""
N_SURROGATES = 1000
"""Surrogates that the p values of agreement stand on."""
ROWS_AT_ONCE = 200

NOT_SELECTED = (
    'Voxels were not selected by agreement between participants: {n} have the same films on the '
    'same grid, and {need} are needed; {instead} are used.'
)
PUBLISHED_SNR = (
    'Voxels were selected by signal-to-noise ratio over all volumes of all films, the held-out '
    'ones too, as published: scores are too high by an unknown amount.'
)
SOME_FOLDS = (
    'Folds selected different voxels, each by its own training volumes: {n} were selected in any '
    'of {folds} folds, {every} in all. Each fold uses its own.'
)


@dataclass(frozen=True, eq=False)
class Compared:
    """What came of comparing participants.

    Parameters
    ----------
    chosen
        Voxels that each fold uses, (n_folds, n_voxels); one row where all use the same.
    isc_by_fold
        Agreement on the test volumes of each fold, (n_folds, n_voxels); NaN where there is none.
    weights
        Test volumes of each fold, (n_folds,).
    rule
        In words, how voxels were chosen.
    n_participants
        How many were compared, this one among them; 1 without others.
    measure
        ``isc``, ``snr`` or ``all``.
    warnings
        What the report should repeat.
    """

    chosen: BoolArray
    isc_by_fold: FloatArray
    weights: FloatArray
    rule: str
    n_participants: int
    measure: str = 'all'
    warnings: tuple[str, ...] = ()

    @property
    def keep(self) -> BoolArray:
        """Voxels that any fold uses, (n_voxels,)."""
        return np.asarray(self.chosen.any(axis=0))

    @property
    def isc(self) -> FloatArray:
        """Agreement on the test volumes of the folds that use a voxel (of all, where none does).

        Other folds' test volumes helped to choose it.
        """
        counted = np.broadcast_to(self.chosen | ~self.keep, self.isc_by_fold.shape)
        values = np.where(counted, self.isc_by_fold, np.nan)
        return Pool(counted, self.weights).voxels(values)


def all_voxels(n_voxels: int, within: BoolArray | None) -> tuple[BoolArray, str]:
    """Return all voxels of the mask, or of the regions, and their name.

    Parameters
    ----------
    n_voxels
        Of the mask.
    within
        Voxels of the chosen regions, (n_voxels,); None: all.
    """
    if within is None:
        return np.ones(n_voxels, dtype=bool), 'all voxels of the brain mask'
    return within, 'voxels of the regions'


def alone(n_voxels: int, within: BoolArray | None, settings: SelectionSettings) -> Compared:
    """Return what is used where there is nobody to compare with.

    Parameters
    ----------
    n_voxels
        Of the mask.
    within
        Voxels of the chosen regions, (n_voxels,); None: all.
    settings
        Of ``selection``.
    """
    none = np.full((1, n_voxels), np.nan)
    return _compared(none, np.ones(1), settings, within, 1, None, list)


def mean_of_others(
    own: Float32Array,
    total: Float32Array,
    rows: IndexArray,
    columns: IndexArray,
    n_others: int,
    out: Float32Array,
    *,
    own_in_total: bool = True,
) -> None:
    """Take a participant out of a sum over participants, a few rows at a time.

    Parameters
    ----------
    own
        Shape (n_samples, n_voxels).
    total
        Sum over participants, (n_moments, n_shared_voxels).
    rows
        The row of ``total`` of each sample; -1 where there is none, or not all were measured.
    columns
        The column of ``total`` of each voxel; -1 where there is none.
    n_others
        Participants in the mean.
    out
        Filled with the mean of the others, (n_samples, n_voxels); NaN where there is none.
    own_in_total
        Whether the participant is part of the sum.
    """
    shared = np.flatnonzero(columns >= 0)
    for start in range(0, len(own), ROWS_AT_ONCE):
        here = np.arange(start, min(start + ROWS_AT_ONCE, len(own)))
        out[here] = np.nan
        here = here[rows[here] >= 0]
        if not here.size:
            continue
        rest = np.asarray(total[rows[here]][:, columns[shared]], dtype=np.float64)
        if own_in_total:
            rest -= own[here][:, shared]
        out[np.ix_(here, shared)] = rest / n_others


def agreement_of_repeats(responses: Float32Array, table: pd.DataFrame) -> FloatArray | None:
    """Correlate each presentation of a film with the mean of its other presentations.

    Parameters
    ----------
    responses
        On the clock of the films, (n_samples, n_voxels).
    table
        One row per sample, with ``stimulus``, what was shown at that moment.

    Returns
    -------
    numpy.ndarray or None
        Pearson r over all repeated volumes, each presentation standardised by itself,
        (n_voxels,); None where nothing was shown twice.
    """
    codes, counts = np.unique(
        table['stimulus'].astype(str), return_inverse=True, return_counts=True
    )[1:]
    rows = np.flatnonzero(counts[codes] > 1)
    if not rows.size:
        return None
    showings = showings_of(table)[rows]
    moments = np.unique(codes[rows], return_inverse=True)[1]
    n_others = np.bincount(moments)[moments, None] - 1
    r = np.empty(responses.shape[1])
    for part in blocks(responses.shape[1], len(rows)):
        own = np.asarray(responses[rows, part], dtype=np.float64)
        total = group_sums(own, moments, moments.max() + 1)
        r[part] = agreement(own, (total[moments] - own) / n_others, showings, what='repeated').r
    return r


def compare(
    own: Float32Array,
    others: Float32Array,
    split: Split,
    settings: SelectionSettings,
    *,
    n_participants: int,
    rng: np.random.Generator,
    within: BoolArray | None = None,
    snr: RealArray | None = None,
) -> Compared:
    """Choose voxels by training volumes of each fold; measure agreement on test volumes.

    Parameters
    ----------
    own, others
        The participant and the mean of the others, (n_samples, n_voxels), samples as in the
        table of the split; rows of NaN where there is nothing.
    settings
        ``auto`` is ``isc`` with :data:`MIN_FOR_AUTO` participants or more, else all voxels.
    n_participants
        This one and the others.
    within
        Voxels of the regions asked for.
    snr
        The published signal-to-noise ratio over all volumes, where it is asked for.

    Raises
    ------
    DataError
        If no volume can be compared.
    """
    showings = showings_of(split.table)
    isc = np.stack(
        [
            agreement(own[fold.test], others[fold.test], showings[fold.test], what='test').r
            for fold in split
        ]
    )
    weights = np.array([len(fold.test) for fold in split], dtype=np.float64)

    def folds() -> list[FilmVoxels]:
        chosen = []
        for train in (fold.train for fold in split):
            found = agreement(
                own[train],
                others[train],
                showings[train],
                n_surrogates=N_SURROGATES if settings.rule == 'fdr' else 0,
                rng=rng,
            )
            chosen.append(choose_by_agreement(found.r, found.p, settings, within=within))
        return chosen

    return _compared(isc, weights, settings, within, n_participants, snr, folds)


@dataclass(frozen=True, eq=False)
class Half:
    """A sum over half of the participants, for the test of agreement.

    Parameters
    ----------
    values
        Shape (n_moments, n_voxels).
    rows
        Its row of each sample; -1 where there is none.
    columns
        Its column of each voxel of the whole.
    n
        How many were summed.
    """

    values: Float32Array
    rows: IndexArray
    columns: IndexArray
    n: int


def clear_of_test(table: pd.DataFrame, fold: Fold, delay: float) -> IndexArray:
    """Return training rows whose aligned response was not measured at the time of a test row.

    The aligned response of row t was measured at t + delay. Right before a test block without a
    gap, that is a time at which the (not aligned) response of a test row was measured.

    Parameters
    ----------
    table
        One row per sample, with ``onset`` (s).
    fold
        Row numbers of its samples.
    delay
        Seconds.
    """
    onset = table['onset'].to_numpy(dtype=float)
    showings = showings_of(table)
    train = np.asarray(fold.train)
    clear = np.ones(len(train), dtype=bool)
    for label in np.unique(showings[train]):
        mine = np.flatnonzero(showings[train] == label)
        test = np.sort(onset[fold.test][showings[fold.test] == label])
        at = onset[train[mine]]
        following = np.append(test, np.inf)[np.searchsorted(test, at)]
        clear[mine] = following > at + delay + 1e-6
    return np.asarray(train[clear])


def compare_group(
    total: Float32Array,
    rows: IndexArray,
    films: Callable[[], Iterable[tuple[IndexArray, Float32Array]]],
    split: Split,
    settings: SelectionSettings,
    *,
    n_participants: int,
    delay: float,
    rng: np.random.Generator,
    within: BoolArray | None = None,
    snr: RealArray | None = None,
    half: Half | None = None,
) -> Compared:
    """Do for the mean over participants what :func:`compare` does for one of them.

    Parameters
    ----------
    total
        Sum over participants of the aligned series, (n_moments, n_voxels).
    rows
        Its row of each sample; -1 where there is none.
    films
        Yields samples and series of each film of each participant, anew at each call.
    split, settings, n_participants, rng, within, snr
        As there; ``auto`` is ``isc`` from :data:`MIN_FOR_AUTO` participants on.
    delay
        Seconds that were taken out of the series.
    half
        For the rule ``fdr``: agreement of the halves is what is tested.

    Returns
    -------
    Compared
        ``isc_by_fold`` is the mean over participants.
    """
    n_voxels = total.shape[1]
    parts = {f'test {number}': fold.test for number, fold in enumerate(split)}
    weights = np.array([len(fold.test) for fold in split], dtype=np.float64)
    if _measure(settings, n_participants) == 'isc':
        for number, fold in enumerate(split):
            parts[f'training {number}'] = clear_of_test(split.table, fold, delay)
    running = {name: RunningAgreement(n_voxels) for name in parts}
    for samples, own in films():
        here = rows[samples] >= 0
        others = (total[rows[samples[here]]] - own[here]) / (n_participants - 1)
        for name, part in parts.items():
            mine = np.isin(samples[here], part)
            running[name].add(own[here][mine], others[mine])
    isc = np.stack([running[f'test {number}'].r('test') for number in range(len(split))])

    def folds() -> list[FilmVoxels]:
        chosen = []
        for name in (name for name in parts if name.startswith('training')):
            p = None
            if half is not None:
                p = _agreement_of_halves(
                    total, rows, half, parts[name], split.table, n_participants, rng, within
                )
            found = running[name].r('training')
            chosen.append(choose_by_agreement(found, p, settings, within=within))
        return chosen

    return _compared(isc, weights, settings, within, n_participants, snr, folds)


def _agreement_of_halves(
    total: Float32Array,
    rows: IndexArray,
    half: Half,
    samples: IndexArray,
    table: pd.DataFrame,
    n_participants: int,
    rng: np.random.Generator,
    within: BoolArray | None,
) -> FloatArray:
    samples = samples[(rows[samples] >= 0) & (half.rows[samples] >= 0)]
    voxels = np.arange(total.shape[1]) if within is None else np.flatnonzero(within)
    one = np.asarray(half.values[half.rows[samples]][:, half.columns[voxels]])
    other = (total[rows[samples]][:, voxels] - one) / (n_participants - half.n)
    p = np.full(total.shape[1], np.nan)
    found = agreement(
        one / half.n,
        other,
        showings_of(table)[samples],
        n_surrogates=N_SURROGATES,
        rng=rng,
    )
    p[voxels] = np.nan if found.p is None else found.p
    return p


def _measure(settings: SelectionSettings, n_participants: int) -> str:
    """Return what voxels are chosen by: ``auto`` is agreement between enough participants."""
    if settings.measure != 'auto':
        return settings.measure
    return 'isc' if n_participants >= MIN_FOR_AUTO else 'none'


def _compared(
    isc: FloatArray,
    weights: FloatArray,
    settings: SelectionSettings,
    within: BoolArray | None,
    n_participants: int,
    snr: RealArray | None,
    folds: Callable[[], list[FilmVoxels]],
) -> Compared:
    """Choose voxels: those of each fold by agreement, by the published ratio, or all of them."""
    measure = _measure(settings, n_participants)
    if measure == 'isc':
        return _together(folds(), isc, weights, n_participants)
    if measure == 'snr' and snr is not None:
        found = choose_by_agreement(snr, None, settings, within=within, measure='snr')
        rule, warnings = f'{found.description}, all volumes', (PUBLISHED_SNR, *found.warnings)
        return Compared(found.keep[None], isc, weights, rule, n_participants, 'snr', warnings)
    keep, rule = all_voxels(isc.shape[1], within)
    notes: tuple[str, ...] = ()
    if settings.measure == 'auto':
        notes = (NOT_SELECTED.format(n=n_participants, need=MIN_FOR_AUTO, instead=rule),)
    return Compared(keep[None], isc, weights, rule, n_participants, warnings=notes)


def _together(
    folds: list[FilmVoxels], isc: FloatArray, weights: FloatArray, n_participants: int
) -> Compared:
    """Keep the voxels of each fold for that fold: what others chose looked at its test volumes."""
    chosen = np.stack([fold.keep for fold in folds])
    warnings = tuple(dict.fromkeys(w for fold in folds for w in fold.warnings))
    rule = folds[0].description
    if (chosen != chosen[0]).any():
        counts = {'n': int(chosen.any(axis=0).sum()), 'every': int(chosen.all(axis=0).sum())}
        warnings = (SOME_FOLDS.format(**counts, folds=len(folds)), *warnings)
        rule = f'{counts["n"]} voxels in any of {len(folds)} folds ({counts["every"]} in all): '
        rule += folds[0].description.partition(': ')[2]
    rule += f', leave-one-out over {n_participants} participants, training volumes only'
    return Compared(chosen, isc, weights, rule, n_participants, 'isc', warnings)
