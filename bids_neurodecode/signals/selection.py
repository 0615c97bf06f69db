"""Which voxels are used, decided on training samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import rows_of
from bids_neurodecode.signals import reliability
from bids_neurodecode.typing import BoolArray, RealArray

Measure = Literal['ncsnr', 'noise_ceiling', 'snr', 'prediction', 'tsnr', 'isc', 'none']
Rule = Literal['fdr', 'top', 'threshold', 'all']
OF_REPEATS = ('ncsnr', 'noise_ceiling', 'snr')
MAP_NAMES = {
    'prediction': 'what the stimuli predict',
    'tsnr': 'temporal SNR',
    'isc': 'agreement between subjects',
}

WRONG_LENGTH = 'The {what} has {n} entries for {expected} {of}; they must be one to one.'
NEEDS_REPEATS = (
    'selection.measure = "{measure}" with rule "{rule}" needs stimuli that are shown more than '
    'once in training, and none is. Set selection.measure = "prediction" with rule = "top", or '
    '"none".'
)
NO_TEST = (
    'selection.rule = "fdr" with measure "{measure}" compares repeats in different runs of the '
    'training samples, and cannot: {reason}. Set selection.rule to "top" or "threshold".'
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
INSTEAD = 'the best {kept} by {measure}, as fewer passed the rule ({rule})'
NO_REPEATS = 'no stimulus is shown more than once in training'
IN_SESSION = 'Session {session} of the training samples alone: {reason}'
NO_VOTE = (
    'Session {session} has no vote on voxels (selection.sessions): its training samples alone '
    'have no repeats that can be compared.'
)
PASSED_IN = {
    'union': 'passed in at least one of the {n} sessions',
    'majority': 'passed in more than half of the {n} sessions',
    'every': 'passed in each of the {n} sessions',
}
FALLBACK = (
    'Agreement of repeats could not choose voxels, and no voxel has a p value: {reason}. '
    '{instead} are used.'
)
BY_PREDICTION = {
    'threshold': 'The voxels whose responses the stimuli predict in folds within training '
    '(ridge regression of features, and the mean response)',
    'top': 'The {fraction:.0%} of voxels whose responses the stimuli predict best in folds within '
    'training (ridge regression of features, and the mean response)',
    'all': 'All voxels',
}
TSNR_SAYS_NOTHING = (
    'Voxels were selected by temporal signal-to-noise ratio (selection.measure = "tsnr"), which '
    'says nothing of the stimulus: responses are variance over time, so strong ones lower it, and '
    'voxels that respond may be left out. Use "auto" or "prediction".'
)
SHARED_NOISE = (
    'Some repeats of a stimulus lie within one run and share its slow noise, so {measure}, which '
    'counts what they share as response, is too high. The rule "fdr" compares runs.'
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

    @property
    def rule_in_words(self) -> str:
        """The description without its counts."""
        return self.description.partition(': ')[2].rsplit(' (', 1)[0]


def select_voxels(
    train_values: RealArray,
    train_table: pd.DataFrame,
    settings: SelectionSettings,
    *,
    prediction: Callable[[], RealArray] | None = None,
    tsnr: RealArray | None = None,
    within: BoolArray | None = None,
    seed: int = 0,
) -> VoxelSelection:
    """Choose voxels by training samples.

    Parameters
    ----------
    train_values
        Responses to the training samples, shape (n_samples, n_voxels), those of a run in order
        of time.
    train_table
        One row per training sample, with ``stimulus`` and ``run`` and, where there are several,
        ``session``.
    settings
        Measure and rule. ``auto`` is ``ncsnr`` where stimuli are repeated in training, with the
        rule ``fdr`` where they are so over runs; else ``prediction``: with the rule ``top`` if
        that is asked for, or all voxels of which anything is predicted; or all voxels where
        there is no prediction. It is said in a warning.
    prediction
        Returns how much of the responses the stimuli predict in folds within the training
        samples, shape (n_voxels,), above 0 where anything; called only where it is needed.
    tsnr
        Temporal SNR of the training runs, shape (n_voxels,); NaN throughout where there are no
        series to take it from.
    within
        Voxels of the regions asked for, shape (n_voxels,); all if left out. Voxels that do not
        vary or are not finite in training are never chosen.
    seed
        Of the test of repeats.

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
    for name, given in (('region mask', within), ('tSNR map', tsnr)):
        if given is not None:
            _check_length(name, len(given), n_voxels, 'voxels')
    candidates = _candidates(train_values, within)
    chosen = train_values
    if not candidates.all():
        chosen = rows_of(train_values, np.arange(n_samples), train_values, candidates)
    test = _test_repeats(chosen, train_table, settings, seed)
    measure, rule, warnings = _resolve(train_table, settings, test, prediction is not None)
    missing = tsnr is None or bool(np.isnan(tsnr).all())
    maps = {'tsnr': None if missing else tsnr}
    if measure == 'prediction' and prediction is not None:
        maps['prediction'] = prediction()
    values = _measure(chosen, train_table, measure, maps, candidates)
    if rule == 'fdr' and test is not None:
        passed, threshold = _by_test(test.p, settings.fdr)
        order = np.where(np.isfinite(values), test.agreement, -np.inf)
    else:
        passed, threshold = _by_value(values, measure, rule, settings)
        order = np.where(np.isnan(values), -np.inf, values)
    words = _rule_words(rule, measure, settings)
    if rule != 'all':
        by = 'agreement of repeats over runs' if rule == 'fdr' else measure
        passed, more, words = enough_voxels(passed, order, words, by, settings.min_voxels)
        warnings += more
    keep, full = np.zeros(n_voxels, dtype=bool), np.full(n_voxels, np.nan, dtype=np.float32)
    keep[candidates], full[candidates] = passed, values
    description = (
        f'{keep.sum()} of {candidates.sum()} voxels: {words} ({n_samples} training samples)'
    )
    return VoxelSelection(keep, full, measure, rule, threshold, description, warnings)


def join_selections(
    selections: Mapping[str, VoxelSelection], settings: SelectionSettings
) -> VoxelSelection:
    """Join the voxels that were chosen within each session.

    Parameters
    ----------
    selections
        By label of the session, each chosen with ``min_voxels = 0``. Where repeats judge some
        sessions, those that they cannot judge have no vote.
    settings
        ``sessions`` (``union``, ``majority`` or ``every``) and ``min_voxels``.

    Returns
    -------
    VoxelSelection
        Its ``values`` are the means over the sessions in which a voxel was a candidate, its
        ``threshold`` the mean over sessions.
    """
    voting = {k: one for k, one in selections.items() if one.measure in OF_REPEATS} or selections
    each = list(voting.values())
    n = len(each)
    votes = np.sum([one.keep for one in each], axis=0)
    least = {'union': 1, 'majority': n // 2 + 1, 'every': n}[settings.sessions]
    keep = np.asarray(votes >= least)
    known = np.isfinite([one.values for one in each])
    total = np.where(known, [one.values for one in each], 0).sum(axis=0)
    values = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
    warnings = [
        (IN_SESSION if label in voting else NO_VOTE).format(session=label, reason=line)
        for label, one in selections.items()
        for line in one.warnings
    ]
    words = f'{each[0].rule_in_words}, {PASSED_IN[settings.sessions].format(n=n)}'
    order = np.where(np.isfinite(values), values, -np.inf)
    keep, more, words = enough_voxels(keep, order, words, each[0].measure, settings.min_voxels)
    warnings += more
    counts = ', '.join(f'{label}: {one.n_kept}' for label, one in voting.items())
    return VoxelSelection(
        keep,
        values.astype(np.float32),
        each[0].measure,
        each[0].rule,
        float(np.mean([one.threshold for one in each])),
        f'{keep.sum()} of {len(keep)} voxels: {words} (session {counts})',
        tuple(warnings),
    )


def enough_voxels(
    passed: BoolArray, order: RealArray, rule: str, measure: str, minimum: int
) -> tuple[BoolArray, tuple[str, ...], str]:
    """Return the voxels that passed a rule, or the best where these are too few.

    Parameters
    ----------
    passed
        Shape (n_voxels,).
    order
        How good each is, (n_voxels,); minus infinity where it cannot be chosen.
    rule, measure
        In words.
    minimum
        Voxels that are taken where there are so many.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,).
    tuple of str
        Warnings.
    str
        What was done, in words.
    """
    n_kept = min(minimum, int(np.sum(order > -np.inf)))
    if passed.sum() >= n_kept:
        return passed, (), rule
    told = {'kept': n_kept, 'measure': measure, 'rule': rule}
    best = np.zeros(len(passed), dtype=bool)
    best[np.argsort(-order, kind='stable')[:n_kept]] = True
    warning = TOO_FEW.format(passed=int(passed.sum()), minimum=minimum, **told)
    return best, (warning,), INSTEAD.format(**told)


def _check_length(what: str, n: int, expected: int, of: str) -> None:
    if n != expected:
        raise DataError(WRONG_LENGTH.format(what=what, n=n, expected=expected, of=of))


def _candidates(values: RealArray, within: BoolArray | None) -> BoolArray:
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


def _test_repeats(
    values: RealArray, table: pd.DataFrame, settings: SelectionSettings, seed: int
) -> reliability.RepeatTest | None:
    """Test agreement of repeats, where the settings ask for it and a stimulus is repeated."""
    asked = settings.measure in {'auto', *OF_REPEATS} and settings.rule == 'fdr'
    if not asked or not _repeated(table):
        return None
    return reliability.repeat_test(
        values, table['stimulus'].to_numpy(), table['run'].to_numpy(), seed=seed
    )


def _repeated(table: pd.DataFrame) -> bool:
    return bool(table['stimulus'].duplicated().any()) and table['stimulus'].nunique() > 1


def _resolve(
    table: pd.DataFrame,
    settings: SelectionSettings,
    test: reliability.RepeatTest | None,
    predicted: bool,
) -> tuple[Measure, Rule, tuple[str, ...]]:
    """Return measure and rule, with a warning where ``auto`` had to fall back."""
    measure, repeated = settings.measure, _repeated(table)
    over_runs = bool((table.groupby('stimulus')['run'].nunique() > 1).any())
    reason = '' if over_runs else reliability.WITHIN_RUNS if repeated else NO_REPEATS
    if test is not None:
        reason = test.reason
    if measure == 'none':
        return 'none', 'all', ()
    if measure == 'auto':
        if not reason:
            return 'ncsnr', settings.rule, _shared_noise(table, 'ncsnr', settings.rule)
        rule: Rule = 'top' if settings.rule == 'top' else 'threshold'
        if not predicted:
            rule = 'all'
        instead = BY_PREDICTION[rule].format(fraction=settings.fraction)
        warning = FALLBACK.format(reason=reason, instead=instead)
        return 'prediction' if predicted else 'none', rule, (warning,)
    if measure not in OF_REPEATS:
        if settings.rule == 'fdr':
            raise DataError(FDR_NEEDS_REPEATS.format(measure=measure))
        return measure, settings.rule, (TSNR_SAYS_NOTHING,) if measure == 'tsnr' else ()
    if not repeated:
        raise DataError(NEEDS_REPEATS.format(measure=measure, rule=settings.rule))
    if test is not None and reason:
        raise DataError(NO_TEST.format(measure=measure, reason=reason))
    return measure, settings.rule, _shared_noise(table, measure, settings.rule)


def _shared_noise(table: pd.DataFrame, measure: str, rule: Rule) -> tuple[str, ...]:
    """Warn where a measure of repeats decides, and some lie within a run."""
    within = table.duplicated(['stimulus', 'run']).any()
    return (SHARED_NOISE.format(measure=measure),) if rule != 'fdr' and within else ()


def _measure(
    values: RealArray,
    table: pd.DataFrame,
    measure: Measure,
    maps: dict[str, RealArray | None],
    candidates: BoolArray,
) -> npt.NDArray[np.float32]:
    """Return the measure of the candidates, shape (n_candidates,)."""
    stimuli = table['stimulus'].to_numpy()
    if measure == 'none':
        return np.full(values.shape[1], np.nan, dtype=np.float32)
    if measure in MAP_NAMES:
        given = maps.get(measure)
        if given is None:
            raise DataError(NEEDS_MAP.format(measure=measure, name=MAP_NAMES[measure]))
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


def _by_test(p: npt.NDArray[np.float64], level: float) -> tuple[BoolArray, float]:
    """Return voxels that pass at a false discovery rate, and the largest p value that does."""
    from scipy.stats import false_discovery_control

    passed = false_discovery_control(p) <= level
    return passed, float(p[passed].max()) if passed.any() else 0.0


def _by_value(
    values: npt.NDArray[np.float32], measure: Measure, rule: Rule, settings: SelectionSettings
) -> tuple[BoolArray, float]:
    """Return voxels that pass, and the smallest value that does."""
    if rule == 'all':
        return np.ones(len(values), dtype=bool), float('nan')
    if rule == 'threshold':
        if measure == 'prediction' and settings.measure == 'auto':
            return values > 0, 0.0
        return values >= settings.threshold, settings.threshold
    n_kept = max(1, round(settings.fraction * len(values)))
    order = np.argsort(-np.where(np.isnan(values), -np.inf, values), kind='stable')[:n_kept]
    passed = np.zeros(len(values), dtype=bool)
    passed[order] = True
    passed &= ~np.isnan(values)
    return passed, float(values[order[-1]])


def _rule_words(rule: Rule, measure: Measure, settings: SelectionSettings) -> str:
    least = f'{measure} of at least {settings.threshold:g}'
    if measure == 'prediction' and settings.measure == 'auto':
        least = 'the stimuli predict their responses in folds within training'
    return {
        'all': 'all that vary',
        'fdr': 'repeats of a stimulus agree over runs, stimuli being exchanged within runs, at a '
        f'false discovery rate of {settings.fdr:g}',
        'top': f'highest {settings.fraction:.0%} by {measure}',
        'threshold': least,
    }[rule]
