"""How predicted responses to films are judged: voxel by voxel, against surrogates.

Correlations are over all held-out samples, each held-out part of each presentation standardised by
itself. The null is that of :mod:`~bids_neurodecode.systems.movie.surrogates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.statistics import fdr, p_value
from bids_neurodecode.evaluation.voxels import pearson_by_column, r2_by_column
from bids_neurodecode.samples import Samples
from bids_neurodecode.systems.movie.intervals import (
    BLOCK_SECONDS,
    Intervals,
    block_intervals,
    blocks_of,
)
from bids_neurodecode.systems.movie.parts import (
    FoldPrediction,
    Pool,
    center_within,
    held_out_parts,
    part_labels,
    standardize_within,
)
from bids_neurodecode.systems.movie.surrogates import MIN_SECONDS, HeldOutFilm
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray

TOO_SHORT = (
    'The scores of {model} have no p values: {seconds:.0f} s of held-out film could be scored '
    '(where its response was measured), and the test holds its level from {need:g} s on. Hold out '
    'more (split.test_fraction), or whole films.'
)
BY_FOLD = (
    'Folds used different voxels ({n} in any of them, {every} in all): scores of {model} are '
    'means over folds, each on its own voxels, weighted by held-out volumes.'
)


@dataclass(frozen=True, eq=False)
class Judged:
    """What predicted responses score.

    Parameters
    ----------
    r
        Pearson r of each voxel, each held-out part of each presentation standardised; the mean
        over the folds that use the voxel, weighted by their volumes.
    p, p_fdr, p_fwer
        p values by surrogates: of each voxel, FDR-adjusted, and corrected by the maximum over
        voxels. NaN where none can be given.
    predictions
        Predicted responses of the held-out samples (n_held_out, n_voxels), in order of the table;
        NaN in voxels that the fold of a sample does not use.
    rows
        Their row numbers in the table.
    r_fwer
        The r above which a voxel is significant at .05 by the maximum over voxels;
        NaN without a test.
    null
        The median r over voxels of each surrogate data set; empty without a test.
    scores
        Rows of the metrics table.
    notes
        What the report should say of them.
    """

    r: FloatArray
    p: FloatArray
    p_fdr: FloatArray
    p_fwer: FloatArray
    predictions: Float32Array
    rows: IndexArray
    r_fwer: float
    null: FloatArray
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    by_fold: FloatArray
    """r of each fold, (n_folds, n_voxels); NaN in voxels that it does not use."""


@dataclass(frozen=True)
class FilmScorer:
    """How predictions of held-out film are judged.

    Parameters
    ----------
    protocol
        Column of the metrics table.
    repetition_time
        Seconds between samples.
    evaluation, rng
        Of intervals and tests.
    """

    protocol: str
    repetition_time: float
    evaluation: EvaluationSettings
    rng: np.random.Generator

    @property
    def block(self) -> int:
        """Samples of a block."""
        return max(1, round(BLOCK_SECONDS / self.repetition_time))

    def judge(
        self,
        samples: Samples,
        folds: Sequence[FoldPrediction],
        *,
        model: str,
        space: str = 'voxels',
    ) -> Judged:
        """Judge predictions of held-out samples.

        Parameters
        ----------
        samples
            Measured responses of all samples.
        folds
            What the model of each fold predicts, and what it was not fitted to.
        model, space
            Columns of the metrics table.
        """
        parts = held_out_parts(samples.table, [fold.test for fold in folds])
        rows, fold_of, labels = part_labels(parts)
        predicted = _held_out(folds, rows, fold_of)
        measured = np.asarray(samples.values[rows])
        truth, scaled = (standardize_within(x, labels) for x in (measured, predicted))
        held = HeldOutFilm(truth, samples.table, folds, parts)
        pool = held.pool
        by_fold = pool.each(pearson_by_column, truth, scaled, fold_of)
        r = pool.voxels(by_fold)
        median, mean = pool.summary(by_fold)
        levelled = [center_within(x, labels) for x in (measured, predicted)]
        r2, _ = pool.summary(pool.each(r2_by_column, levelled[0], levelled[1], fold_of))
        seconds = len(rows) * self.repetition_time
        n_draws = self.evaluation.n_permutations
        notes = _notes(pool, model, seconds, n_draws)
        n_draws *= seconds >= MIN_SECONDS
        test = held.test(r, n_draws, self.rng)
        limits = block_intervals(
            truth,
            scaled,
            labels,
            fold_of,
            pool,
            values=(median, mean),
            block=self.block,
            n_bootstrap=self.evaluation.n_bootstrap,
            confidence=self.evaluation.confidence,
            rng=self.rng.spawn(1)[0],
        )

        n, n_blocks = int(np.isfinite(r).sum()), len(blocks_of(labels, self.block)[1])
        row = _row(model, self.protocol, space, r2, n=n, n_blocks=n_blocks)
        scores = _score_rows(row, median, mean, limits, test.scores)
        order = np.argsort(rows, kind='stable')
        return Judged(
            r,
            test.p,
            fdr(test.p),
            test.p_fwer,
            predicted[order],
            rows[order],
            test.threshold,
            test.scores,
            scores,
            notes,
            by_fold,
        )


def _notes(pool: Pool, model: str, seconds: float, n_draws: int) -> tuple[str, ...]:
    """Say where folds differ in their voxels, and where there is too little for a test."""
    notes: tuple[str, ...] = ()
    if not pool.same:
        n, every = pool.used.shape[1], int(pool.used.all(axis=0).sum())
        notes = (BY_FOLD.format(n=n, every=every, model=model),)
    if n_draws and seconds < MIN_SECONDS:
        return (*notes, TOO_SHORT.format(model=model, seconds=seconds, need=MIN_SECONDS))
    return notes


def _held_out(
    folds: Sequence[FoldPrediction], rows: IndexArray, fold_of: IndexArray
) -> Float32Array:
    """Return what the fold of each row predicts of it, (n_rows, n_voxels)."""
    predicted = np.empty((len(rows), folds[0].predicted.shape[1]), dtype=np.float32)
    for number, fold in enumerate(folds):
        predicted[fold_of == number] = fold.predicted[rows[fold_of == number]]
    return predicted


def _row(model: str, protocol: str, space: str, r2: float, *, n: int, n_blocks: int) -> Score:
    """Return the row of R2, of which the others are variants."""
    return Score(
        system='movie',
        model=model,
        protocol=protocol,
        split='test',
        space=space,
        metric='voxel_r2_median',
        value=r2,
        n=n,
        chance=0.0,
        n_units=n_blocks,
        units='blocks of 30 s',
    )


def _score_rows(
    row: Score, median: float, mean: float, limits: Intervals, null: FloatArray
) -> tuple[Score, ...]:
    """Return the rows of r, of the given R2, and of what surrogates score where there are some."""
    scores = [
        replace(
            row,
            metric='voxel_r_median',
            value=median,
            ci_low=limits.median[0],
            ci_high=limits.median[1],
            p=p_value(null, median) if null.size else None,
            test='surrogates' if null.size else None,
        ),
        replace(
            row,
            metric='voxel_r_mean',
            value=mean,
            ci_low=limits.mean[0],
            ci_high=limits.mean[1],
        ),
        row,
    ]
    if null.size:
        value = float(np.median(null))
        scores.append(
            replace(row, metric='voxel_r_median', value=value, model='baseline-shuffled')
        )
    return tuple(scores)
