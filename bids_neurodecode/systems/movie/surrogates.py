"""The null of predicted responses to films: surrogates of the whole predicted series.

Of a held-out part that lasts a minute there are hardly more than a handful of independent circular
shifts, and their null is far too narrow for series as slow as BOLD and the features of films. Here
the phases of the predicted series of the whole film are drawn anew (Theiler et al. 1992, Physica D
58:77), the same for all voxels, which keeps its spectrum and what voxels have in common; then the
held-out part is cut out, standardised and correlated as the predictions are.

The smallest p is one over the number of surrogates. Over thousands of voxels it survives the
correction for the false discovery rate only where dozens of voxels reach it, so voxels that few
surrogates reach are compared with more of them (:data:`FEW`, :data:`MORE`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from bids_neurodecode.evaluation.statistics import phase_surrogates, random_phases
from bids_neurodecode.systems.movie.parts import (
    FoldPrediction,
    Part,
    Pool,
    moments_of,
    showings_of,
)
from bids_neurodecode.typing import Float32Array, FloatArray, IndexArray, RealArray

MIN_SECONDS = 60.0
"""Held-out time below which no p value is given."""
VOXELS_AT_ONCE = 512
MOST_BYTES = 2**24
"""Of the surrogates that are held at a time."""
ROUNDING = 1e-6
"""Correlations of surrogates are in single precision."""
ALPHA = 0.05
FEW = 5
"""Surrogates that reach a voxel's r, below which more are drawn for it.

Stopping lifts the level at no u (a two-stage form of Besag & Clifford 1991, Biometrika 78:301).
Voxels that stop have p > FEW / (n + 1), so that below it only the p of all draws counts; from
there on every voxel that goes on would have been counted at the first stage, too.
"""
MORE = 10
"""Times as many surrogates as asked for, at most; no more than :data:`ALPHA` takes for one voxel
to be a discovery by itself."""


class SurrogateTest(NamedTuple):
    """p of each voxel and p corrected by the maximum over voxels, (n_voxels,).

    ``scores`` are the summary of each surrogate data set, (n_draws,); ``threshold`` is the r above
    which the corrected p is below :data:`ALPHA`.
    """

    p: FloatArray
    p_fwer: FloatArray
    scores: FloatArray
    threshold: float


@dataclass(frozen=True, eq=False)
class HeldOutFilm:
    """Measured and predicted responses of held-out parts, tested by surrogates of the predictions.

    Parameters
    ----------
    truth
        Measured responses of the parts, one after the other, each standardised by itself,
        (n_held_out, n_voxels).
    table
        One row per sample.
    folds
        Predictions of each fold.
    parts
        As :func:`held_out_parts` gives them.
    """

    truth: FloatArray
    table: pd.DataFrame
    folds: Sequence[FoldPrediction]
    parts: Sequence[Part]

    @cached_property
    def pool(self) -> Pool:
        """How folds are put together: by their voxels and held-out samples."""
        weights = np.zeros(len(self.folds))
        for part in self.parts:
            weights[part.fold] += len(part.rows)
        return Pool(np.stack([fold.used for fold in self.folds]), weights)

    def correlations(
        self, n_draws: int, rng: np.random.Generator
    ) -> Iterator[tuple[int, Float32Array]]:
        """Correlate measured responses with surrogates of their predictions, fold by fold.

        All presentations of a film get the same surrogate, as they get the same prediction: what
        the film evokes and no model predicts is in all of them too.

        Parameters
        ----------
        n_draws
            Number of surrogates.
        rng
            Of their phases.

        Yields
        ------
        int
            Number of the fold.
        numpy.ndarray
            Correlation of each surrogate, (n_draws, n_voxels), weighted over parts by their
            length; 0 in voxels that the fold does not use.
        """
        _, first = moments_of(self.table)
        phases = {
            film: random_phases(len(first[film]), n_draws, rng)
            for film in dict.fromkeys(part.film for part in self.parts)
        }
        ends = np.cumsum([len(part.rows) for part in self.parts])
        where = [
            slice(end - len(part.rows), end) for end, part in zip(ends, self.parts, strict=True)
        ]
        for number, fold in enumerate(self.folds):
            mine = [i for i, part in enumerate(self.parts) if part.fold == number]
            n_held = sum(len(self.parts[i].rows) for i in mine)
            null = np.zeros((n_draws, self.truth.shape[1]), dtype=np.float32)
            used = np.flatnonzero(fold.used)
            for start in range(0, len(used), VOXELS_AT_ONCE):
                voxels = used[start : start + VOXELS_AT_ONCE]
                for film in dict.fromkeys(self.parts[i].film for i in mine):
                    shown = [i for i in mine if self.parts[i].film == film]
                    series = np.asarray(fold.predicted[first[film]][:, voxels], dtype=np.float64)
                    null[:, voxels] += _of_film(
                        series,
                        [(self.parts[i].moments, self.truth[where[i]][:, voxels]) for i in shown],
                        phases[film],
                    )
            null /= max(n_held, 1)
            yield number, null

    def test(self, r: FloatArray, n_draws: int, rng: np.random.Generator) -> SurrogateTest:
        """Test the correlation of each voxel, and their summary, against surrogates.

        Predictions are taken as they are, models are not fitted anew. With several folds that is
        not enough, as each held-out part is training data of the others: the null is wider then
        (:data:`~bids_neurodecode.systems.movie.parts.SHARED_TRAINING`).

        Parameters
        ----------
        r
            What is tested, (n_voxels,).
        n_draws, rng
            As of :meth:`correlations`; without draws there is no test.
        """
        finite = np.isfinite(r)
        if not n_draws or not finite.any():
            none = np.full(r.shape, np.nan)
            return SurrogateTest(none, none, np.empty(0), float('nan'))
        observed = np.where(finite, r, np.inf)
        reached, maxima, medians = self._drawn(observed, n_draws, rng)
        drawn, rare = np.full(len(r), n_draws), np.flatnonzero(finite & (reached < FEW))
        wanted = min(MORE * n_draws, int(np.ceil(np.count_nonzero(finite) / ALPHA)))
        few = [FoldPrediction(fold.test, fold.predicted[:, rare]) for fold in self.folds]
        some = replace(self, truth=self.truth[:, rare], folds=few)
        for start in range(n_draws, wanted if rare.size else n_draws, n_draws):
            size = min(n_draws, wanted - start)
            reached[rare] += some._drawn(observed[rare], size, rng)[0]
            drawn[rare] += size
        above = n_draws - np.searchsorted(np.sort(maxima), observed - ROUNDING)
        p = np.where(finite, (reached + 1) / (drawn + 1), np.nan)
        p_fwer = np.where(finite, (above + 1) / (n_draws + 1), np.nan)
        return SurrogateTest(p, p_fwer, medians, threshold_of(maxima))

    def _drawn(
        self, observed: FloatArray, n_draws: int, rng: np.random.Generator
    ) -> tuple[IndexArray, FloatArray, FloatArray]:
        """Draw surrogates, and put their r together over folds.

        Returns
        -------
        reached : numpy.ndarray
            How many reach what was observed in each voxel, (n_voxels,); voxels of infinity are not
            tested.
        maxima, medians : numpy.ndarray
            Over tested voxels, of each surrogate, (n_draws,).
        """
        finite, pool = np.isfinite(observed), self.pool
        null = np.zeros((n_draws, self.truth.shape[1]), dtype=np.float32)
        medians = np.zeros(n_draws)
        share = pool.used * pool.weights[:, None]
        total = share.sum(axis=0)
        for number, drawn in self.correlations(n_draws, rng):
            weights = pool.spread * share[number] / np.where(total > 0, total, 1.0)
            null += drawn * weights.astype(np.float32)
            mine = pool.used[number] & finite
            if not pool.same and mine.any():
                weight = pool.spread * pool.weights[number] / pool.weights.sum()
                medians += weight * np.median(drawn[:, mine], axis=1)
        if pool.same:
            medians = np.median(null[:, finite], axis=1).astype(np.float64)
        reached = np.zeros(len(observed), dtype=np.intp)
        for start in range(0, len(observed), VOXELS_AT_ONCE):
            voxels = slice(start, start + VOXELS_AT_ONCE)
            reached[voxels] = (null[:, voxels] >= observed[voxels] - ROUNDING).sum(axis=0)
        return reached, null[:, finite].max(axis=1).astype(np.float64), medians


def _of_film(
    series: FloatArray, parts: Sequence[tuple[IndexArray, FloatArray]], phases: FloatArray
) -> Float32Array:
    """Sum products of truth and standardised surrogates over parts of a film.

    Only held-out moments of the surrogates are computed, as one product of matrices.

    Parameters
    ----------
    series
        Prediction of the whole film, (n_moments, n_voxels).
    parts
        Moments and standardised truth of each part, (n, n_voxels).
    phases
        Angles (n_draws, n_frequencies).
    """
    size = series.std(axis=0)
    scaled = (series - series.mean(axis=0)) / np.where(size > 0, size, 1.0)
    moments = np.unique(np.concatenate([at for at, _ in parts]))
    out = np.zeros((len(phases), series.shape[1]), dtype=np.float32)
    step = max(1, MOST_BYTES // (4 * len(moments) * max(series.shape)))
    for start in range(0, len(phases), step):
        batch = slice(start, start + step)
        surrogates = phase_surrogates(scaled, phases[batch], moments)
        for at, truth in parts:
            x = surrogates[:, np.searchsorted(moments, at)]
            spread = x.var(axis=1)
            product = np.einsum('ktv,tv->kv', x, truth.astype(np.float32))
            flat = spread <= 1e-8
            out[batch] += np.where(flat, 0, product / np.sqrt(np.where(flat, 1, spread)))
    return out


def threshold_of(maxima: FloatArray) -> float:
    """Return the largest maximum that is still reached too often; NaN where that is any."""
    n_reach = int(np.ceil(ALPHA * (len(maxima) + 1))) - 2  # so many may reach what is significant
    if n_reach < 0:
        return float('nan')
    return float(np.sort(maxima)[::-1][n_reach])


def surrogate_responses(
    values: RealArray,
    table: pd.DataFrame,
    rows: IndexArray,
    n_draws: int,
    rng: np.random.Generator,
) -> Iterator[Float32Array]:
    """Draw surrogates of measured responses, for decoders: they are fed these, not predicted.

    The phases of the whole presentation are drawn anew, the same for all voxels, and for all
    presentations of a film that are equally long.

    Parameters
    ----------
    values
        Measured responses (n_samples, n_voxels); rows of NaN (censored volumes) are passed over.
    table
        One row per sample.
    rows
        The samples whose surrogates are wanted, (n_rows,), all measured.

    Yields
    ------
    numpy.ndarray
        Responses of these samples, (n_rows, n_voxels).
    """
    from scipy.fft import irfft, rfft

    labels = showings_of(table)
    films = table['film'].astype(str).to_numpy()
    measured = np.asarray(np.isfinite(values).all(axis=1))
    shown = []
    for label in dict.fromkeys(labels[rows].tolist()):
        whole = np.flatnonzero((labels == label) & measured)
        series = np.asarray(values[whole], dtype=np.float64)
        mine = np.flatnonzero(labels[rows] == label)
        at = np.searchsorted(whole, rows[mine])
        mean = series.mean(axis=0)
        key = (films[whole[0]], len(whole))
        shown.append((key, mine, at, mean, rfft(series - mean, axis=0)))
    for _ in range(n_draws):
        out = np.empty((len(rows), values.shape[1]), dtype=np.float32)
        angles: dict[tuple[str, int], FloatArray] = {}
        for key, mine, at, mean, spectrum in shown:
            if key not in angles:
                angles[key] = random_phases(key[1], 1, rng)[0]
            turned = spectrum * np.exp(1j * angles[key])[:, None]
            out[mine] = irfft(turned, n=key[1], axis=0)[at] + mean
        yield out
