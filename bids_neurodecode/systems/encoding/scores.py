"""How well held-out responses are predicted: voxel by voxel, by region, and as patterns.

Truth and prediction are standardised within each fold first: the training mean that a fold
predicts leans away from the mean of its test samples, and a fold whose training samples seem to
agree has the larger predictions.

Models are not fitted again for each permutation; predictions are exchanged within folds. With one
fold that is exact. With several, each pair of folds counts twice, as either predicts the other,
which doubles the variance of a score without any signal, and not that of its permutations: these
are widened by the root of 2 about their mean. In simulated noise 10 to 14 % of the voxels have p
below .05 without that, and 2 to 5 % with it. Correlations over several folds are also skewed, with
a mean of 0 and a median above it: medians over voxels have a p value with one fold only.

Intervals are those of the mean of jackknife pseudo-values (Tukey 1958, Ann Math Stat 29:614) over
stimuli or runs: what a score loses when each of them is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation import statistics
from bids_neurodecode.evaluation.metrics import Score, bounds_of
from bids_neurodecode.evaluation.voxels import (
    noise_normalized,
    noise_normalized_paper,
    pearson_by_column,
    r2_by_column,
    summary,
)
from bids_neurodecode.mapped import blocks, by_rows, room
from bids_neurodecode.samples import Split
from bids_neurodecode.signals.reliability import noise_ceiling
from bids_neurodecode.systems.comparison import Kept, median_without, unit_values
from bids_neurodecode.systems.encoding.outcomes import FoldResult
from bids_neurodecode.systems.outcomes import SINGLE_TRIAL
from bids_neurodecode.systems.pooling import IDENTIFICATION, identification_scores
from bids_neurodecode.systems.scoring import LABELS, REFIT, Pairing, Scorer
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

SYSTEM = 'encoding'
N_QUANTILES = 1001
"""How finely the distribution of permuted correlations is kept."""

_VOXELS_AT_ONCE = 256  # columns that stay in the processor's cache for all permutations
_VOXELS_OF_WEIGHTS = 4096
_COLUMNS_AT_ONCE = 4096  # of held-out responses and predictions
_MOST_LEFT_OUT = 200
_TEMPORARIES = 8  # arrays of doubles that scoring some columns takes
_ROUNDING = 1e-12  # of the mean square, that its deviation is to exceed


@dataclass(frozen=True, eq=False)
class VoxelMaps:
    """Scores of each voxel, (n_voxels,) each.

    Parameters
    ----------
    space
        What was scored: single trials or averages of repeats.
    r, r2
        Correlation and share of variance explained over all held-out samples, standardised and
        centred by fold.
    p, p_fdr, p_fwer
        Permutation p values: as they are, FDR-adjusted, corrected by the maximum over voxels.
    noise_ceiling
        Explainable share of the variance; NaN throughout where no stimulus is repeated.
    noise_normalized
        r squared over the ceiling; NaN where that is at or below the threshold.
    share_excluded
        Share of the voxels with that NaN.
    null
        Quantiles (evenly spaced) of the permuted correlations of all voxels together, (n,); empty
        without permutations.
    """

    space: str
    r: FloatArray
    r2: FloatArray
    p: FloatArray
    p_fdr: FloatArray
    p_fwer: FloatArray
    noise_ceiling: FloatArray
    noise_normalized: FloatArray
    share_excluded: float
    null: FloatArray


@dataclass(frozen=True, eq=False)
class Judgement:
    """Scores of one model in one space, the nulls behind their p values, maps, and ``kept``.

    The last is what each sample (of voxel scores: each unit) scores, for comparisons.
    """

    scores: tuple[Score, ...]
    nulls: Mapping[str, FloatArray]
    maps: VoxelMaps
    kept: Kept


@dataclass(frozen=True, eq=False)
class Refitted:
    """Scores of models that were fitted again on exchanged labels, in one space.

    Parameters
    ----------
    r
        Correlation of each voxel, (n_permutations, n_voxels).
    identified
        Identification by metric, (n_permutations,).
    """

    r: Float32Array
    identified: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class EncodingScorer:
    """What judging needs beside the results.

    Parameters
    ----------
    split
        What was held out.
    settings
        Permutations, bootstrap, confidence.
    threshold
        Of the noise ceiling.
    ncsnr
        Noise-ceiling signal-to-noise ratio of each voxel, (n_voxels,); None: no ceiling.
    regions
        Voxels of each region, (n_voxels,).
    rng
        Source of randomness.
    """

    split: Split
    settings: EvaluationSettings
    threshold: float
    ncsnr: npt.NDArray[np.floating[Any]] | None
    regions: Mapping[str, BoolArray]
    rng: np.random.Generator
    scored_ncsnr: npt.NDArray[np.floating[Any]] | None = None
    """Of the betas that are scored, where these are others: it bounds the scores."""

    def judge(
        self,
        results: Sequence[FoldResult],
        *,
        model: str,
        space: str,
        refitted: Refitted | None = None,
    ) -> Judgement:
        """Score the results of all folds, taken together.

        ``refitted`` is the null of models that were fitted again, where they were: folds depend
        on each other there as they do here, so that it is not widened.

        Parameters
        ----------
        results
            Of each fold.
        model, space
            Of the rows.
        refitted
            Null of models that were fitted to exchanged stimuli; None: predictions as they are.
        """
        outcomes = [result.outcome for result in results]
        pairing = Pairing.of(outcomes, self.split)
        n_permutations = 0 if pairing.untested else self.settings.n_permutations
        if pairing.untested is not None:
            refitted = None
        draws = [] if refitted is not None else list(self._draws(pairing, n_permutations))
        _, units = np.unique(pairing.groups, return_inverse=True)
        weights = self._without(units)
        same = len(weights) in {0, int(units.max()) + 1}
        r, r2, null, each, without = _by_columns(
            results, draws, units, weights[:0] if same else weights
        )
        null *= np.float32(np.sqrt(1 + pairing.shared))
        if refitted is not None:
            null = refitted.r
        if same:
            without = each[: len(weights)]
        repeats = np.concatenate([x.n_repeats for x in results])
        maps = self._maps(space, r, r2, null, repeats)
        bound = maps.noise_ceiling
        if self.scored_ncsnr is not None:
            bound = self._ceiling(self.scored_ncsnr, space, repeats)
        refits = refitted is not None
        rows = _Rows(self, model, space, maps, bound, null, each, without, pairing, refits)
        scores, nulls = rows.all()
        kept = rows.kept()
        about = (model, space, self.split.protocol, pairing, self.settings)
        scorer = Scorer(*about, self.rng, kept, SYSTEM)
        for metric in IDENTIFICATION:
            again = None if refitted is None else refitted.identified[metric]
            row, nulls[f'{space}/{metric}'] = identification_scores(
                scorer, outcomes, metric, refitted=again
            )
            scores.append(row)
        return Judgement(tuple(scores), nulls, maps, kept)

    def _maps(
        self, space: str, r: FloatArray, r2: FloatArray, null: Float32Array, repeats: IndexArray
    ) -> VoxelMaps:
        p = np.full(r.shape, np.nan)
        p_fwer = p.copy()
        if len(null):
            reached = (null >= r - 1e-6).sum(axis=0)
            p = np.where(np.isfinite(r), (reached + 1) / (len(null) + 1), np.nan)
            p_fwer = statistics.max_statistic_p(r, null)
        ceiling = np.full(r.shape, np.nan)
        if self.ncsnr is not None:
            ceiling = self._ceiling(self.ncsnr, space, repeats)
        honest = noise_normalized(r, ceiling, threshold=self.threshold)
        return VoxelMaps(
            space,
            r,
            r2,
            p,
            statistics.fdr(p),
            p_fwer,
            ceiling,
            honest.values,
            honest.share_excluded,
            _quantiles(null),
        )

    @staticmethod
    def _ceiling(ratio: npt.NDArray[Any], space: str, repeats: IndexArray) -> FloatArray:
        counts = 1 if space == SINGLE_TRIAL else repeats
        return np.asarray(noise_ceiling(ratio, counts), dtype=np.float64)

    def _draws(self, pairing: Pairing, n_permutations: int) -> Iterator[IndexArray]:
        return statistics.permutations(
            len(pairing.blocks),
            n_permutations,
            self.rng,
            blocks=pairing.blocks,
            units=pairing.units,
        )

    def _without(self, group: IndexArray) -> Float32Array:
        """Return weights that leave a group out each, (n_left_out, n_samples); none: no interval.

        Many groups are left out some at a time, at random.
        """
        n_groups = int(group.max()) + 1
        if n_groups < statistics.MIN_GROUPS or self.settings.n_bootstrap == 0:
            return np.empty((0, len(group)), dtype=np.float32)
        if n_groups > _MOST_LEFT_OUT:
            group = (self.rng.permutation(n_groups) % _MOST_LEFT_OUT)[group]
        left_out = np.arange(min(n_groups, _MOST_LEFT_OUT))[:, None]
        return np.asarray(group != left_out, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Makes the rows of the metrics table from maps of voxels."""

    judge: EncodingScorer
    model: str
    space: str
    maps: VoxelMaps
    bound: FloatArray
    """Noise ceiling of the betas that are scored, (n_voxels,)."""
    null: Float32Array
    each: Float32Array
    """Correlations with each unit left out, (n_units, n_voxels)."""
    without: Float32Array
    """The same where there is an interval; many units are left out some at a time."""
    pairing: Pairing
    refitted: bool

    def all(self) -> tuple[list[Score], dict[str, FloatArray]]:
        """Return rows of all voxels and of regions, and the nulls of all voxels."""
        every = np.ones(len(self.maps.r), dtype=bool)
        scores, nulls = self._of(every, self.space)
        for name, voxels in self.judge.regions.items():
            if (voxels & np.isfinite(self.maps.r)).any():
                scores += self._of(voxels, f'{self.space}/{name}')[0]
        return scores, nulls

    def kept(self) -> Kept:
        """Return what each unit contributes to the scores of all voxels."""
        finite = np.isfinite(self.maps.r)
        explainable = np.isfinite(self.maps.noise_normalized)
        ceiling = self.maps.noise_ceiling[explainable]

        def normalised(r: Any) -> Any:
            return np.maximum(r[:, explainable], 0) ** 2 / ceiling

        if not finite.any():
            return {}
        of_voxels: dict[str, Callable[[Any], Any]] = {'voxel_r': lambda r: r[:, finite]}
        if explainable.any():
            of_voxels['noise_normalized'] = normalised

        def without(of: Callable[[Any], Any]) -> dict[str, tuple[float, FloatArray]]:
            whole = of(self.maps.r[None])[0]
            mean = by_rows(self.each, lambda r: of(r).mean(axis=1))
            return {
                'median': (float(np.median(whole)), median_without(whole, self.each, of)),
                'mean': (float(whole.mean()), mean),
            }

        units = np.arange(len(self.each))
        return {
            (self.model, self.space, f'{name}_{average}'): (unit_values(value, left), units)
            for name, of in of_voxels.items()
            for average, (value, left) in without(of).items()
        }

    def _of(self, voxels: BoolArray, space: str) -> tuple[list[Score], dict[str, FloatArray]]:
        finite = voxels & np.isfinite(self.maps.r)
        kept = voxels & np.isfinite(self.maps.noise_normalized)
        ceiling = self.maps.noise_ceiling
        explainable = summary(np.sqrt(self.bound[finite]))[0]
        r2 = summary(self.maps.r2[finite])[0]
        nulls: dict[str, FloatArray] = {}

        def row(metric: str, over: BoolArray, of: Callable[[Any], Any], **more: Any) -> Score:
            value = float(of(self.maps.r[None])[0])
            null = by_rows(self.null, of)
            nulls[f'{self.space}/{metric}'] = null
            low, high = self._interval(metric, value, by_rows(self.without, of))
            one = len(self.judge.split) == 1 or self.refitted
            tested = len(null) and (one or not metric.endswith('_median'))
            p = statistics.p_value(null, value) if tested else None
            chance = float(null.mean()) if len(null) else 0.0
            test = REFIT if self.refitted else LABELS
            more |= {'ci_low': low, 'ci_high': high, 'test': test if tested else None}
            return self._score(metric, space, value, over, chance=chance, p=p, **more)

        def normalised(r: Any) -> Any:
            return np.maximum(r[:, kept], 0) ** 2 / ceiling[kept]

        known = None if np.isnan(explainable) else explainable
        scores = [
            row('voxel_r_median', finite, lambda r: _median(r[:, finite]), ceiling=known),
            row('voxel_r_mean', finite, lambda r: r[:, finite].mean(axis=1)),
            self._score('voxel_r2_median', space, r2, finite, chance=0.0),
        ]
        if kept.any():
            paper = noise_normalized_paper(self.maps.r[finite], ceiling[finite]) / 100
            scores += [
                row('noise_normalized_median', kept, lambda r: _median(normalised(r)), ceiling=1),
                row('noise_normalized_mean', kept, lambda r: normalised(r).mean(1), ceiling=1),
                self._score('noise_normalized_paper', space, paper, finite),
            ]
        return scores, nulls

    def _interval(
        self, metric: str, value: float, without: FloatArray
    ) -> tuple[float | None, float | None]:
        """Return the interval of a score from what it is without each group."""
        n = len(without)
        if not n:
            return None, None
        # about the score itself: squares of r are too high, and pseudo-values make up for it
        values = value + (n - 1) * (without.mean() - without.astype(np.float64))
        return self.pairing.interval(
            values,
            self.judge.settings,
            self.judge.rng,
            bounds=bounds_of(metric),
            groups=np.arange(n),
        )

    def _score(self, metric: str, space: str, value: float, over: BoolArray, **more: Any) -> Score:
        return Score(
            system=SYSTEM,
            model=self.model,
            protocol=self.judge.split.protocol,
            split='test',
            space=space,
            metric=metric,
            value=value,
            n=int(over.sum()),
            n_units=len(self.each),
            units=self.pairing.of_what,
            **more,
        )


def voxel_r(results: Sequence[FoldResult]) -> FloatArray:
    """Correlate responses and predictions of all folds, standardised by fold, (n_voxels,)."""
    fold = np.repeat(np.arange(len(results)), [len(result.truth) for result in results])
    truth, predicted = (
        standardised(centred(np.concatenate(values), fold), fold)
        for values in ([x.truth for x in results], [x.predicted for x in results])
    )
    return pearson_by_column(truth, predicted)


def _by_columns(
    results: Sequence[FoldResult],
    draws: Sequence[IndexArray],
    units: IndexArray,
    weights: Float32Array,
) -> tuple[FloatArray, FloatArray, Float32Array, Float32Array, Float32Array]:
    """Correlate held-out responses and predictions of all folds, some columns at a time.

    Parameters
    ----------
    results
        Of each fold.
    draws
        Exchanges of samples, (n_samples,) each.
    units
        Unit of each sample, (n_samples,), from 0.
    weights
        How much each sample counts, (n_draws, n_samples).

    Returns
    -------
    tuple
        r and R2, (n_voxels,); r after each exchange, without each unit, and for ``weights``,
        (n_draws, n_voxels) each.
    """
    n_voxels = results[0].truth.shape[1]
    fold = np.repeat(np.arange(len(results)), [len(result.truth) for result in results])
    r, r2 = np.empty(n_voxels), np.empty(n_voxels)
    null, without = (np.empty((len(x), n_voxels), dtype=np.float32) for x in (draws, weights))
    each = room(results[0].truth, (int(units.max()) + 1, n_voxels))
    for many in blocks(n_voxels, len(fold), _COLUMNS_AT_ONCE):  # that are read at a time
        measured = np.concatenate([x.truth[:, many] for x in results])
        guessed = np.concatenate([x.predicted[:, many] for x in results])
        for some in blocks(measured.shape[1], _TEMPORARIES * len(fold)):
            part = slice(many.start + some.start, min(many.start + some.stop, many.stop))
            truth, predicted = centred(measured[:, some], fold), centred(guessed[:, some], fold)
            r2[part] = r2_by_column(truth, predicted)
            truth, predicted = standardised(truth, fold), standardised(predicted, fold)
            r[part] = pearson_by_column(truth, predicted)
            null[:, part] = permuted_r(truth, predicted, draws, fold)
            each[:, part] = left_out_r(truth, predicted, units)
            without[:, part] = weighted_r(truth, predicted, weights)
    return r, r2, null, each, without


def centred(values: npt.NDArray[np.floating[Any]], fold: IndexArray) -> Float32Array:
    """Take off each fold's mean, column by column.

    Parameters
    ----------
    values
        Shape (n_samples, n_voxels).
    fold
        Of each sample, (n_samples,).
    """
    out = np.array(values, dtype=np.float32)
    for code in np.unique(fold):
        rows = fold == code
        out[rows] -= out[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
    return out


def standardised(values: Float32Array, fold: IndexArray) -> Float32Array:
    """Divide what is centred by each fold's deviation; a column that does not vary becomes 0.

    Parameters
    ----------
    values
        Centred in each fold, (n_samples, n_voxels).
    fold
        Of each sample, (n_samples,).
    """
    out = values.copy()
    for code in np.unique(fold):
        rows = fold == code
        out[rows] = _unit(out[rows]) * np.float32(np.sqrt(np.count_nonzero(rows)))
    return out


def permuted_r(
    truth: Float32Array,
    predicted: Float32Array,
    draws: Sequence[IndexArray],
    fold: IndexArray,
) -> Float32Array:
    """Correlate truth with exchanged predictions, voxel by voxel.

    Parameters
    ----------
    truth, predicted
        Standardised by fold, (n_samples, n_voxels).
    draws
        Row numbers: sample i gets the prediction of sample ``index[i]``.
    fold
        The fold of each sample; where repeats are exchanged with others that are fewer, its mean
        and deviation change and are taken off again.

    Returns
    -------
    numpy.ndarray
        Shape (n_permutations, n_voxels).
    """
    null = np.zeros((len(draws), truth.shape[1]), dtype=np.float32)
    for start in range(0, truth.shape[1], _VOXELS_AT_ONCE):
        part = slice(start, start + _VOXELS_AT_ONCE)
        a, b = _unit(truth[:, part]), _unit(predicted[:, part])
        for row, index in enumerate(draws):
            exchanged = b[index]
            if np.bincount(index, minlength=len(b)).max() > 1:
                exchanged = _unit(standardised(centred(exchanged, fold), fold))
            null[row, part] = np.einsum('sv,sv->v', a, exchanged)
    return null


def weighted_r(
    truth: Float32Array, predicted: Float32Array, weights: Float32Array
) -> Float32Array:
    """Correlate truth and prediction over weighted samples, voxel by voxel.

    Parameters
    ----------
    truth, predicted
        Shape (n_samples, n_voxels).
    weights
        How much each sample counts, (n_draws, n_samples).

    Returns
    -------
    numpy.ndarray
        Shape (n_draws, n_voxels); 0 where a draw does not vary.
    """
    out = np.zeros((len(weights), truth.shape[1]), dtype=np.float32)
    if not len(weights):
        return out
    share = weights / weights.sum(axis=1, keepdims=True)
    for start in range(0, truth.shape[1], _VOXELS_OF_WEIGHTS):
        part = slice(start, start + _VOXELS_OF_WEIGHTS)
        a, b = _unit(truth[:, part]), _unit(predicted[:, part])
        mean_a, mean_b = share @ a, share @ b
        covariance = share @ (a * b) - mean_a * mean_b
        variance = (share @ a**2 - mean_a**2) * (share @ b**2 - mean_b**2)
        varies = variance > 0
        out[:, part] = np.where(varies, covariance / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
    return np.clip(out, -1, 1)


def left_out_r(truth: Float32Array, predicted: Float32Array, units: IndexArray) -> Float32Array:
    """Correlate truth and prediction with each unit left out, voxel by voxel.

    Sums over the others are those of all less its own: no table of units by samples is needed.

    Parameters
    ----------
    truth, predicted
        Shape (n_samples, n_voxels).
    units
        Unit of each sample, (n_samples,), from 0.

    Returns
    -------
    numpy.ndarray
        Shape (n_units, n_voxels); 0 where the others do not vary.
    """
    member = sparse.csr_array((np.ones(len(units)), (units, np.arange(len(units)))))
    others = np.maximum(len(units) - np.bincount(units), 1)[:, None]
    a, b = _unit(truth), _unit(predicted)

    def mean(values: Float32Array) -> FloatArray:
        own = np.asarray(member @ values)
        return np.asarray((own.sum(axis=0) - own) / others)

    mean_a, mean_b, square_a, square_b = mean(a), mean(b), mean(a**2), mean(b**2)
    spread_a, spread_b = square_a - mean_a**2, square_b - mean_b**2
    varies = (spread_a > _ROUNDING * square_a) & (spread_b > _ROUNDING * square_b)
    size = np.sqrt(np.where(varies, spread_a * spread_b, 1.0))
    r = np.where(varies, (mean(a * b) - mean_a * mean_b) / size, 0.0)
    return np.asarray(np.clip(r, -1, 1), dtype=np.float32)


def _unit(values: Float32Array) -> Float32Array:
    """Scale centred columns to norm 1; a column that does not vary becomes 0."""
    norm = np.linalg.norm(values, axis=0)
    still = norm <= 1e-6 * np.sqrt(len(values)) * np.abs(values).max(axis=0, initial=0)
    return np.asarray(values / np.where(still | (norm == 0), np.inf, norm), dtype=np.float32)


def _quantiles(null: Float32Array) -> FloatArray:
    if not null.size:
        return np.empty(0)
    return np.asarray(np.quantile(null, np.linspace(0, 1, N_QUANTILES)), dtype=np.float64)


def _median(values: npt.NDArray[Any]) -> FloatArray:
    if not values.size:
        return np.empty(len(values), dtype=np.float64)
    return np.asarray(np.median(values, axis=1), dtype=np.float64)
