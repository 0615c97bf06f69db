"""The movie system's linear model: frame features, finite impulse responses, ridge.

The response of a voxel at time t is a weighted sum of the film's features at t minus each of a
few delays (Nishimoto et al. 2011, Current Biology 21:1641). It is the baseline that any network
has to beat, and it needs no pretrained weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings, RidgeSettings
from bids_neurodecode.evaluation.metrics import Score
from bids_neurodecode.evaluation.statistics import bootstrap_ci, fdr, p_value
from bids_neurodecode.evaluation.voxels import pearson_by_column, r2_by_column, summary
from bids_neurodecode.models.ridge import RidgeModel, fit_ridge
from bids_neurodecode.samples import Samples, Split, Standardizer
from bids_neurodecode.signals.delay import fir_design
from bids_neurodecode.stimuli.space import FeatureSpace

if TYPE_CHECKING:
    import pandas as pd

BLOCK_SECONDS = 30.0
"""Training samples are held out in blocks of this length when the penalty is chosen."""
MIN_LAG_SECONDS = 10.0
"""Circular shifts of the null move predictions by at least this much."""
VOXELS_AT_ONCE = 20_000

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FilmEncoder:
    """A fitted linear encoding model.

    Parameters
    ----------
    space
        Principal components of the frame features, fitted on training samples.
    ridge
        From delayed components to standardised responses.
    responses
        Mean and deviation of the training responses, voxel by voxel.
    repetition_time, delays
        Seconds.
    """

    space: FeatureSpace
    ridge: RidgeModel
    responses: Standardizer
    repetition_time: float
    delays: tuple[float, ...]

    def predict(self, features: Float32Array, showings: npt.ArrayLike) -> Float32Array:
        """Predict responses, in the units of the training responses.

        Parameters
        ----------
        features
            Frame features (n_samples, n_features), one row a volume.
        showings
            A label a sample; the impulse responses do not reach from one showing into the next.
        """
        design = _design(self.space, features, showings, self.repetition_time, self.delays)
        return self.responses.invert(self.ridge.predict(design))


@dataclass(frozen=True, eq=False)
class FilmEncoding:
    """What the encoder scored on held-out samples.

    Parameters
    ----------
    r
        Pearson r of each voxel over all held-out samples, each film standardised.
    p_fdr, p_fwer
        Circular-shift p values: FDR-adjusted, and corrected by the maximum over voxels.
    predictions
        Predicted responses of the held-out samples (n_held_out, n_voxels).
    rows
        Their row numbers in the table.
    null
        Median r over voxels under each circular shift.
    scores
        Rows of the metrics table.
    encoder
        The final model, fitted on all samples.
    """

    r: FloatArray
    p_fdr: FloatArray
    p_fwer: FloatArray
    predictions: Float32Array
    rows: npt.NDArray[np.intp]
    null: FloatArray
    scores: tuple[Score, ...]
    encoder: FilmEncoder


def fit_encoder(
    train: Samples,
    features: Float32Array,
    design_rows: npt.NDArray[np.intp],
    all_showings: npt.ArrayLike,
    *,
    repetition_time: float,
    delays: Sequence[float],
    n_components: int | None,
    settings: RidgeSettings,
    device: Any = 'cpu',
) -> FilmEncoder:
    """Fit the encoder on training samples.

    Parameters
    ----------
    train
        Responses and their table (``film``, ``onset``, ``run``).
    features
        Frame features of every sample of the films (n_all, n_features): the stimulus that went
        before a training sample is part of what it responds to, whichever part it lies in.
    design_rows
        Rows of ``features`` that the training samples are, (n_train,).
    all_showings
        A label for each row of ``features``; delays do not cross showings.
    repetition_time, delays
        Seconds.
    n_components
        Principal components of the features; all if None.
    """
    space = FeatureSpace.fit(features[design_rows], n_components)
    design = _design(space, features, all_showings, repetition_time, delays)[design_rows]
    responses = Standardizer.fit(train.values)
    blocks = (train.table['onset'].to_numpy(dtype=float) // BLOCK_SECONDS).astype(int)
    units = train.table['film'].astype(str).str.cat(blocks.astype(str), sep='#')
    ridge = fit_ridge(
        design,
        responses.apply(train.values),
        alphas=settings.alphas,
        groups=units.to_numpy(),
        n_folds=settings.n_folds,
        per_target=settings.per_target,
        device=device,
    )
    return FilmEncoder(space, ridge, responses, repetition_time, tuple(delays))


def encode_films(
    samples: Samples,
    split: Split,
    features: Float32Array,
    *,
    repetition_time: float,
    delays: Sequence[float],
    n_components: int | None,
    ridge: RidgeSettings,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
    device: Any = 'cpu',
) -> FilmEncoding:
    """Fit on the training part of every fold, judge on its test part, then fit on everything.

    Parameters
    ----------
    samples
        Responses on the film's clock, without any delay taken out. Rows with NaN (censored
        volumes) are neither fitted nor judged.
    split
        Folds over the same table.
    features
        Frame features, one row a sample of ``samples``.
    """
    showings = _showings(samples.table)
    measured = np.asarray(np.isfinite(samples.values).all(axis=1))

    def fit(rows: npt.NDArray[np.intp]) -> FilmEncoder:
        rows = rows[measured[rows]]
        return fit_encoder(
            samples.take(rows),
            features,
            rows,
            showings,
            repetition_time=repetition_time,
            delays=delays,
            n_components=n_components,
            settings=ridge,
            device=device,
        )

    rows, predictions = [], []
    for fold in split:
        tested = fold.test[measured[fold.test]]
        rows.append(tested)
        predictions.append(fit(fold.train).predict(features, showings)[tested])
    everything = np.arange(samples.n_samples)
    lag = max(1, round(MIN_LAG_SECONDS / repetition_time))
    return _judge(
        samples,
        split,
        np.concatenate(rows),
        np.concatenate(predictions),
        fit(everything),
        lag=lag,
        evaluation=evaluation,
        rng=rng,
    )


def shifted_correlations(
    truth: npt.NDArray[np.floating[Any]], prediction: npt.NDArray[np.floating[Any]], min_lag: int
) -> FloatArray:
    """Correlate truth with every circular shift of the prediction, voxel by voxel.

    Parameters
    ----------
    truth, prediction
        Shape (n_samples, n_voxels).
    min_lag
        Shifts from ``min_lag`` to ``n_samples - min_lag`` are taken.

    Returns
    -------
    numpy.ndarray
        Shape (n_shifts, n_voxels); the circular cross-correlation theorem gives all at once.
    """
    from scipy.fft import irfft, rfft

    def unit(values: npt.NDArray[np.floating[Any]]) -> FloatArray:
        centred = np.asarray(values - values.mean(axis=0), dtype=np.float64)
        size = np.linalg.norm(centred, axis=0)
        return centred / np.where(size > 0, size, 1.0)

    spectrum = rfft(unit(truth), axis=0) * np.conj(rfft(unit(prediction), axis=0))
    correlations: FloatArray = irfft(spectrum, n=len(truth), axis=0)
    return correlations[min_lag : len(truth) - min_lag + 1]


def _judge(
    samples: Samples,
    split: Split,
    rows: npt.NDArray[np.intp],
    predicted: Float32Array,
    encoder: FilmEncoder,
    *,
    lag: int,
    evaluation: EvaluationSettings,
    rng: np.random.Generator,
) -> FilmEncoding:
    order = np.argsort(rows, kind='stable')
    rows, predicted = rows[order], predicted[order]
    units = _showings(samples.table.iloc[rows])
    truth = _standardize_within(np.asarray(samples.values[rows]), units)
    scaled = _standardize_within(predicted, units)
    r = pearson_by_column(truth, scaled)
    p, p_fwer, medians = _shift_test(truth, scaled, r, lag)
    median, mean = summary(r)
    low, high = bootstrap_ci(
        r[np.isfinite(r)],
        rng=rng,
        n_bootstrap=evaluation.n_bootstrap,
        confidence=evaluation.confidence,
    )
    r2, _ = summary(
        r2_by_column(_center_within(samples.values[rows], units), _center_within(predicted, units))
    )
    finite = int(np.isfinite(r).sum())

    def score(metric: str, value: float, model: str = 'ridge', **more: Any) -> Score:
        return Score(
            system='movie',
            model=model,
            protocol=split.protocol,
            split='test',
            space='voxels',
            metric=metric,
            value=value,
            n=finite,
            chance=0.0,
            **more,
        )

    scores = (
        score('voxel_r_median', median, p=p_value(medians, median)),
        score('voxel_r_mean', mean, ci_low=low, ci_high=high),
        score('voxel_r2_median', r2),
        score('voxel_r_median', float(np.median(medians)), model='baseline-shuffled'),
    )
    return FilmEncoding(r, fdr(p), p_fwer, predicted, rows, medians, scores, encoder)


def _shift_test(
    truth: FloatArray, predicted: FloatArray, r: FloatArray, lag: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return p of each voxel, p corrected by the maximum, and the median r under each shift."""
    n_shifts = len(truth) - 2 * lag + 1
    reached = np.zeros(r.shape)
    maxima = np.full(n_shifts, -np.inf)
    null = np.empty((n_shifts, len(r)), dtype=np.float32)
    for start in range(0, len(r), VOXELS_AT_ONCE):
        block = slice(start, start + VOXELS_AT_ONCE)
        shifted = shifted_correlations(truth[:, block], predicted[:, block], lag)
        null[:, block] = shifted
        reached[block] = (shifted >= r[block] - 1e-9).sum(axis=0)
        maxima = np.maximum(maxima, shifted.max(axis=1))
    p = np.where(np.isfinite(r), (reached + 1) / (n_shifts + 1), np.nan)
    above = (maxima[:, None] >= np.nan_to_num(r)[None] - 1e-9).sum(axis=0)
    p_fwer = np.where(np.isfinite(r), (above + 1) / (n_shifts + 1), np.nan)
    finite = np.isfinite(r)
    return p, p_fwer, np.median(null[:, finite], axis=1).astype(np.float64)


def _design(
    space: FeatureSpace,
    features: Float32Array,
    showings: npt.ArrayLike,
    repetition_time: float,
    delays: Sequence[float],
) -> Float32Array:
    components = space.transform(features)
    labels = np.asarray(showings)
    design = np.empty((len(components), components.shape[1] * len(delays)), dtype=np.float32)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        design[rows] = fir_design(components[rows], repetition_time, delays)
    return design


def _showings(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Label each showing of each film: a run may hold several, a film several runs."""
    if 'showing' in table.columns:
        return table['showing'].astype(str).to_numpy(dtype=str)
    return (table['run'].astype(str) + '#' + table['film'].astype(str)).to_numpy(dtype=str)


def _center_within(
    values: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.str_]
) -> FloatArray:
    """Take the mean of each showing out: levels of runs are not what a film predicts."""
    out = np.array(values, dtype=np.float64)
    for label in np.unique(labels):
        out[labels == label] -= out[labels == label].mean(axis=0)
    return out


def _standardize_within(
    values: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.str_]
) -> FloatArray:
    """Z-score each showing by itself, so that levels of runs do not count as prediction."""
    out = np.empty(values.shape, dtype=np.float64)
    for label in np.unique(labels):
        rows = labels == label
        out[rows] = Standardizer.fit(values[rows]).apply(values[rows])
    return out


__all__ = [
    'FilmEncoder',
    'FilmEncoding',
    'encode_films',
    'fit_encoder',
    'shifted_correlations',
]
