"""Which voxels are used, decided on training samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import reliability

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Measure = Literal['ncsnr', 'noise_ceiling', 'snr', 'tsnr', 'isc', 'none']
Rule = Literal['fdr', 'top', 'threshold', 'all']

WRONG_LENGTH = 'The {what} has {n} entries for {expected} {of}; they must be one to one.'
NEEDS_REPEATS = (
    'selection.measure = "{measure}" with rule "{rule}" needs stimuli that are shown more than '
    'once in training, and none is. Set selection.measure = "tsnr" with rule = "top", or "none".'
)
NEEDS_MAP = (
    'selection.measure = "{measure}" needs a map of {name}, and there is none for these data. '
    'Choose another measure (selection.measure).'
)
FDR_NEEDS_REPEATS = (
    'selection.rule = "fdr" is a test of repeats and does not go with selection.measure = '
    '"{measure}". Set selection.rule to "top" or "threshold".'
)
NO_VOXELS = (
    'No voxel is left to choose from: of {n} voxels {inside} lie in the regions asked for and '
    '{varying} of these vary in training. Check the regions (atlas.regions) and the mask.'
)
TOO_FEW = (
    '{passed} voxel(s) passed the rule ({rule}); the best {kept} by {measure} were taken instead '
    '(selection.min_voxels = {minimum}).'
)
NO_REPEATS_FALLBACK = (
    'No stimulus is shown more than once in training, so agreement of repeats cannot choose '
    'voxels: {instead}.'
)


@dataclass(frozen=True, eq=False)
class VoxelSelection:
    """The voxels that are used, and why.

    Attributes
    ----------
    keep
        Shape (n_voxels,), boolean.
    values
        The measure, shape (n_voxels,), float32; NaN where a voxel was not a candidate.
    measure
        Its name.
    rule
        ``fdr``, ``top``, ``threshold`` or ``all``.
    threshold
        What the measure (``fdr``: the p value) was compared with; NaN for ``all``.
    description
        One sentence for the methods text.
    warnings
        What the report should repeat.
    """

    keep: BoolArray
    values: npt.NDArray[np.float32]
    measure: Measure
    rule: Rule
    threshold: float
    description: str
    warnings: tuple[str, ...] = ()

    @property
    def n_kept(self) -> int:
        """Number of voxels kept."""
        return int(np.count_nonzero(self.keep))


def select_voxels(
    train_values: FloatArray,
    train_table: pd.DataFrame,
    settings: SelectionSettings,
    *,
    tsnr: FloatArray | None = None,
    isc: FloatArray | None = None,
    within: BoolArray | None = None,
) -> VoxelSelection:
    """Choose voxels by training samples.

    Parameters
    ----------
    train_values
        Responses to the training samples, shape (n_samples, n_voxels).
    train_table
        One row a training sample, with ``stimulus`` and, where there are several, ``session``.
    settings
        Measure and rule. ``auto`` is ``ncsnr`` where stimuli are repeated in training; else tSNR
        with the rule ``top``, or all voxels where there is no tSNR, with a warning.
    tsnr
        Temporal SNR of the training runs, shape (n_voxels,); NaN throughout where there are no
        series to take it from.
    isc
        Agreement between subjects on training samples, shape (n_voxels,).
    within
        Voxels of the regions asked for, shape (n_voxels,); all if left out. Voxels that do not
        vary or are not finite in training are never chosen.

    Returns
    -------
    VoxelSelection
        At least ``settings.min_voxels`` voxels where there are as many candidates.

    Raises
    ------
    DataError
        If the measure needs repeats or a map that are not there, or no voxel is left.
    """
    n_samples, n_voxels = train_values.shape
    _check_length('table of training samples', len(train_table), n_samples, 'samples')
    for name, given in (('region mask', within), ('tSNR map', tsnr), ('ISC map', isc)):
        if given is not None:
            _check_length(name, len(given), n_voxels, 'voxels')
    candidates = _candidates(train_values, within)
    tsnr = None if tsnr is not None and np.isnan(tsnr).all() else tsnr
    measure, rule, warnings = _resolve(train_table, settings, tsnr)
    maps = {'tsnr': tsnr, 'isc': isc}
    values = _measure(train_values[:, candidates], train_table, measure, maps, candidates)
    if rule == 'fdr':
        passed, order, threshold = _by_test(train_values[:, candidates], train_table, settings.fdr)
        order = np.where(np.isfinite(values), order, -np.inf)
    else:
        passed, threshold = _by_value(values, rule, settings)
        order = np.where(np.isnan(values), -np.inf, values)
    words = _rule_words(rule, measure, settings)
    if passed.sum() < settings.min_voxels and rule != 'all':
        n_kept = min(settings.min_voxels, int(np.sum(order > -np.inf)))
        if n_kept > passed.sum():
            warnings += (
                TOO_FEW.format(
                    passed=int(passed.sum()),
                    rule=words,
                    kept=n_kept,
                    measure='the F test over stimuli' if rule == 'fdr' else measure,
                    minimum=settings.min_voxels,
                ),
            )
            passed = np.zeros(len(passed), dtype=bool)
            passed[np.argsort(-order, kind='stable')[:n_kept]] = True
    keep, full = np.zeros(n_voxels, dtype=bool), np.full(n_voxels, np.nan, dtype=np.float32)
    keep[candidates], full[candidates] = passed, values
    description = (
        f'{keep.sum()} of {candidates.sum()} voxels: {words} ({n_samples} training samples)'
    )
    return VoxelSelection(keep, full, measure, rule, threshold, description, warnings)


def _check_length(what: str, n: int, expected: int, of: str) -> None:
    if n != expected:
        raise DataError(WRONG_LENGTH.format(what=what, n=n, expected=expected, of=of))


def _candidates(values: FloatArray, within: BoolArray | None) -> BoolArray:
    low, high = values.min(axis=0), values.max(axis=0)
    varies = np.isfinite(low) & np.isfinite(high) & (high > low)
    inside = np.ones(len(varies), dtype=bool) if within is None else np.asarray(within, dtype=bool)
    if not (varies & inside).any():
        raise DataError(
            NO_VOXELS.format(
                n=len(varies), inside=int(inside.sum()), varying=int((varies & inside).sum())
            )
        )
    return np.asarray(varies & inside)


def _resolve(
    table: pd.DataFrame, settings: SelectionSettings, tsnr: FloatArray | None
) -> tuple[Measure, Rule, tuple[str, ...]]:
    """Return measure and rule, with a warning where ``auto`` had to fall back."""
    repeated = bool(table['stimulus'].duplicated().any()) and table['stimulus'].nunique() > 1
    if settings.measure == 'none':
        return 'none', 'all', ()
    if settings.measure == 'auto':
        if repeated:
            return 'ncsnr', settings.rule, ()
        if tsnr is None:
            instead = 'all voxels are used'
            return 'none', 'all', (NO_REPEATS_FALLBACK.format(instead=instead),)
        instead = f'the {settings.fraction:.0%} with the highest tSNR are used'
        return 'tsnr', 'top', (NO_REPEATS_FALLBACK.format(instead=instead),)
    if settings.measure in {'tsnr', 'isc'}:
        if settings.rule == 'fdr':
            raise DataError(FDR_NEEDS_REPEATS.format(measure=settings.measure))
    elif not repeated:
        raise DataError(NEEDS_REPEATS.format(measure=settings.measure, rule=settings.rule))
    return settings.measure, settings.rule, ()


def _measure(
    values: FloatArray,
    table: pd.DataFrame,
    measure: Measure,
    maps: dict[str, FloatArray | None],
    candidates: BoolArray,
) -> npt.NDArray[np.float32]:
    """Return the measure of the candidates, shape (n_candidates,)."""
    stimuli = table['stimulus'].to_numpy()
    if measure == 'none':
        return np.full(values.shape[1], np.nan, dtype=np.float32)
    if measure in {'tsnr', 'isc'}:
        given = maps[measure]
        if given is None:
            name = {'tsnr': 'temporal SNR', 'isc': 'agreement between subjects'}[measure]
            raise DataError(NEEDS_MAP.format(measure=measure, name=name))
        return np.asarray(given, dtype=np.float32)[candidates]
    if measure == 'snr':
        return reliability.snr_across_repeats(values, stimuli)
    ratio = reliability.ncsnr(values, stimuli, _several_sessions(table))
    if measure == 'ncsnr':
        return ratio
    return reliability.noise_ceiling(ratio, table['stimulus'].value_counts().to_numpy())


def _several_sessions(table: pd.DataFrame) -> npt.NDArray[Any] | None:
    if 'session' not in table.columns or table['session'].nunique() < 2:
        return None
    return np.asarray(table['session'].to_numpy())


def _by_test(
    values: FloatArray, table: pd.DataFrame, level: float
) -> tuple[BoolArray, FloatArray, float]:
    """Return voxels that pass the F test, F, and the largest p value that passes."""
    test = reliability.repeat_f_test(
        values, table['stimulus'].to_numpy(), _several_sessions(table)
    )
    passed = stats.false_discovery_control(test.p) <= level
    largest = float(test.p[passed].max()) if passed.any() else 0.0
    return passed, np.where(np.isnan(test.f), 0.0, test.f), largest


def _by_value(
    values: npt.NDArray[np.float32], rule: Rule, settings: SelectionSettings
) -> tuple[BoolArray, float]:
    """Return voxels that pass, and the smallest value that does."""
    if rule == 'all':
        return np.ones(len(values), dtype=bool), float('nan')
    if rule == 'threshold':
        return values >= settings.threshold, settings.threshold
    n_kept = max(1, round(settings.fraction * len(values)))
    order = np.argsort(-np.where(np.isnan(values), -np.inf, values), kind='stable')[:n_kept]
    passed = np.zeros(len(values), dtype=bool)
    passed[order] = True
    passed &= ~np.isnan(values)
    return passed, float(values[order[-1]])


def _rule_words(rule: Rule, measure: Measure, settings: SelectionSettings) -> str:
    return {
        'all': 'all that vary',
        'fdr': 'repeats of a stimulus agree, F test over stimuli at a false discovery rate of '
        f'{settings.fdr:g}',
        'top': f'highest {settings.fraction:.0%} by {measure}',
        'threshold': f'{measure} of at least {settings.threshold:g}',
    }[rule]
