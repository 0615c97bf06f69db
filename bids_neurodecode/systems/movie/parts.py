"""Held-out parts of presentations of films, and how their scores are put together over folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.evaluation.voxels import summary
from bids_neurodecode.standardizer import Standardizer
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray, RealArray

SHARED_TRAINING = float(np.sqrt(2))
"""By how much scores over several folds vary more than if folds were independent, at most.

The held-out part of each fold is training data of the others: what two parts happen to have in
common enters the score of both, and the variance doubles (as in the corrected test of Nadeau &
Bengio 2003, Machine Learning 52:239).
"""


@dataclass(frozen=True, eq=False)
class FoldPrediction:
    """What the model of one fold predicts.

    Parameters
    ----------
    test
        Rows of the table that were held out from it and measured, (n_test,).
    predicted
        Predictions of all samples of the table, its training samples too, (n_samples, n_voxels).
        NaN throughout in voxels that the fold does not use, and in rows that are not needed
        (:func:`rows_to_predict`).
    """

    test: IndexArray
    predicted: RealArray

    @property
    def used(self) -> BoolArray:
        """The voxels that the fold uses, (n_voxels,)."""
        return np.asarray(np.isfinite(self.predicted[self.test]).all(axis=0))


class Part(NamedTuple):
    """A held-out part of one presentation: its rows in the table, and its moments of the film."""

    fold: int
    film: str
    rows: IndexArray
    moments: IndexArray


def on_voxels(predicted: Float32Array, voxels: BoolArray | None) -> Float32Array:
    """Put the predictions of some voxels among all, (n_samples, n_voxels); NaN in the others.

    Parameters
    ----------
    predicted
        Shape (n_samples, n_used).
    voxels
        Which they are, (n_voxels,); None: all.
    """
    if voxels is None or voxels.all():
        return predicted
    out = np.full((len(predicted), len(voxels)), np.nan, dtype=np.float32)
    out[:, voxels] = predicted
    return out


@dataclass(frozen=True, eq=False)
class Pool:
    """How values of voxels are put together over folds.

    Where all folds use the same voxels, a voxel has the mean over folds, and the summary is over
    voxels. Where each fold chose its own, the summary is the mean over folds of the summary of
    each over its own voxels: were voxels pooled first, those that other folds chose with the help
    of this fold's held-out part would count for more.

    Parameters
    ----------
    used
        Which voxels each fold uses, (n_folds, n_voxels).
    weights
        Held-out volumes of each fold, (n_folds,).
    """

    used: BoolArray
    weights: FloatArray

    @property
    def spread(self) -> float:
        """By how much more scores vary than if folds were independent."""
        return SHARED_TRAINING if len(self.used) > 1 else 1.0

    @property
    def same(self) -> bool:
        """Whether all folds use the same voxels."""
        return bool((self.used == self.used[0]).all())

    def each(
        self,
        measure: Callable[[FloatArray, FloatArray], FloatArray],
        truth: FloatArray,
        predicted: FloatArray,
        fold_of: npt.NDArray[np.intp],
    ) -> FloatArray:
        """Measure each fold by itself, (n_folds, n_voxels); NaN in voxels it does not use.

        Parameters
        ----------
        measure
            Takes truth and prediction, (n, n_used) each, and gives (n_used,).
        truth, predicted
            Responses, (n_samples, n_voxels).
        fold_of
            Fold of each sample, (n_samples,).
        """
        out = np.full(self.used.shape, np.nan)
        for number, used in enumerate(self.used):
            rows = fold_of == number
            out[number, used] = measure(truth[rows][:, used], predicted[rows][:, used])
        return out

    def voxels(self, values: FloatArray) -> FloatArray:
        """Average (n_folds, n_voxels) over the folds that have a value, (n_voxels,)."""
        weights = np.where(np.isfinite(values), self.weights[:, None], 0.0)
        total = weights.sum(axis=0)
        mean = (np.nan_to_num(values) * weights).sum(axis=0) / np.where(total > 0, total, 1.0)
        return np.where(total > 0, mean, np.nan)

    def summary(self, values: FloatArray) -> tuple[float, float]:
        """Return median and mean over voxels of (n_folds, n_voxels), as the class says."""
        if self.same:
            return summary(self.voxels(values))
        each = np.array([summary(row) for row in values])
        known = np.isfinite(each[:, 0])
        if not known.any():
            return float('nan'), float('nan')
        median, mean = np.average(each[known], axis=0, weights=self.weights[known])
        return float(median), float(mean)


def showings_of(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Label each presentation of each film: a run may hold several, a film several runs."""
    if 'showing' in table.columns:
        return table['showing'].astype(str).to_numpy(dtype=str)
    return (table['run'].astype(str) + '#' + table['film'].astype(str)).to_numpy(dtype=str)


def moments_of(table: pd.DataFrame) -> tuple[IndexArray, dict[str, IndexArray]]:
    """Give the volumes of each film numbers.

    Returns
    -------
    numpy.ndarray
        Of each sample, its number among the volumes of its film, (n_samples,).
    dict
        Of each film, the row of the table at which each of its volumes is first shown.
    """
    films = table['film'].astype(str).to_numpy()
    onsets = table['onset'].to_numpy(dtype=float)
    moments = np.empty(len(table), dtype=np.intp)
    first: dict[str, IndexArray] = {}
    for film in dict.fromkeys(films):
        rows = np.flatnonzero(films == film)
        _, where, inverse = np.unique(onsets[rows], return_index=True, return_inverse=True)
        moments[rows] = inverse
        first[film] = rows[where]
    return moments, first


def of_moments(
    table: pd.DataFrame, describe: Callable[[str, FloatArray], Mapping[str, RealArray]]
) -> dict[str, RealArray]:
    """Describe each moment of each film once, however often it is shown.

    Parameters
    ----------
    table
        One row per sample, with ``film`` and ``onset`` (s), numbered from 0.
    describe
        Takes a film and moments of it (s), and returns features of these by name,
        (n_moments, n_features) each.

    Returns
    -------
    dict
        The features of each sample by name, (n_samples, n_features).
    """
    found: dict[str, RealArray] = {}
    for film, rows in table.groupby('film', sort=False):
        onsets, place = np.unique(rows['onset'].to_numpy(dtype=float), return_inverse=True)
        for name, values in describe(str(film), onsets).items():
            if name not in found:
                found[name] = np.empty((len(table), values.shape[1]), dtype=values.dtype)
            found[name][rows.index] = values[place]
    return found


def rows_to_predict(table: pd.DataFrame, test: IndexArray) -> IndexArray:
    """Return the rows that a :class:`FoldPrediction` needs: held out, and once the whole film.

    Parameters
    ----------
    table
        One row per sample.
    test
        Row numbers of held-out samples.
    """
    _, first = moments_of(table)
    films = table['film'].astype(str).to_numpy()[test]
    return np.unique(np.concatenate([test, *(first[film] for film in dict.fromkeys(films))]))


def part_labels(parts: Sequence[Part]) -> tuple[IndexArray, IndexArray, npt.NDArray[np.str_]]:
    """Return rows of the table, the fold of each, and a label of its part, one after the other."""
    rows = np.concatenate([part.rows for part in parts])
    folds = np.repeat([part.fold for part in parts], [len(part.rows) for part in parts])
    labels = np.repeat(np.arange(len(parts)).astype(str), [len(part.rows) for part in parts])
    return rows, folds, labels


def held_out_parts(table: pd.DataFrame, tests: Sequence[IndexArray]) -> list[Part]:
    """Return the held-out part of each presentation in each fold, in order of time.

    Parameters
    ----------
    table
        One row per sample, with ``film``, ``onset`` and what tells presentations apart.
    tests
        Held-out rows of each fold.
    """
    labels = showings_of(table)
    films = table['film'].astype(str).to_numpy()
    moments, _ = moments_of(table)
    parts = []
    for number, test in enumerate(tests):
        for label in dict.fromkeys(labels[test].tolist()):
            rows = np.sort(test[labels[test] == label])
            parts.append(Part(number, str(films[rows[0]]), rows, moments[rows]))
    return parts


def center_within(
    values: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.str_]
) -> FloatArray:
    """Take the mean of each part out: levels of runs are not what a film predicts.

    Parameters
    ----------
    values
        Shape (n_samples, n_voxels).
    labels
        Part of each sample, (n_samples,).
    """
    out = np.array(values, dtype=np.float64)
    for label in np.unique(labels):
        out[labels == label] -= out[labels == label].mean(axis=0)
    return out


def standardize_within(
    values: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.str_]
) -> FloatArray:
    """Z-score each part by itself, so that levels of runs do not count as prediction.

    Parameters
    ----------
    values
        Shape (n_samples, n_voxels).
    labels
        Part of each sample, (n_samples,).
    """
    out = np.empty(values.shape, dtype=np.float64)
    for label in np.unique(labels):
        rows = labels == label
        out[rows] = Standardizer.fit(values[rows]).apply(values[rows])
    return out
