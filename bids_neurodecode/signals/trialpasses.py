"""The passes over the data that single-trial models need; each reads chunks of voxels in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.signals.badness import Badness, Repeats
from bids_neurodecode.signals.fractional import fit_scale_offset, penalties, shrink
from bids_neurodecode.signals.noisepool import unit_gram
from bids_neurodecode.signals.trialdesign import TrialDesign
from bids_neurodecode.signals.trialfits import (
    Chunk,
    ComponentUpdate,
    RidgeFactor,
    RunFactor,
    hrf_rsquared,
    iterate_slices,
    load_chunk,
    model_rsquared,
    onoff_rsquared,
    ridge_factor,
    rotate,
    to_betas,
    update_for,
)
from bids_neurodecode.signals.trialtypes import Model
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class Work:
    """The data, the design, and its factors for each response of the library.

    ``tick`` is called after each chunk of voxels.
    """

    series: Sequence[npt.NDArray[Any]]
    design: TrialDesign
    factors: list[list[RunFactor]]
    chunk_voxels: int
    tick: Callable[[], None]

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return int(self.series[0].shape[1])

    def chunks(self, usable: BoolArray) -> Iterator[tuple[slice, Chunk]]:
        """Yield the voxels' slices and their data with the nuisance projected off."""
        for voxels in iterate_slices(self.n_voxels, self.chunk_voxels):
            yield voxels, load_chunk(self.series, self.design, voxels, usable[voxels])
            self.tick()

    def groups(
        self, usable: BoolArray, hrf_index: IndexArray
    ) -> Iterator[tuple[IndexArray, int, Chunk]]:
        """Yield voxels (their columns in the whole), the index of their response, their data."""
        for voxels, chunk in self.chunks(usable):
            index = hrf_index[voxels]
            for hrf in np.unique(index[index >= 0]):
                columns = np.flatnonzero(index == hrf)
                yield columns + voxels.start, int(hrf), chunk.take(columns)


@dataclass(frozen=True, eq=False)
class Responses:
    """What the first pass finds, one value a voxel (see :class:`SingleTrialBetas`)."""

    usable: BoolArray
    mean_volume: npt.NDArray[np.float32]
    onoff_rsquared: npt.NDArray[np.float32]
    hrf_index: IndexArray
    rsquared: npt.NDArray[np.float32]


@dataclass(eq=False)
class Tuning:
    """One set of trials that tunes, what it chose, and the betas that follow.

    Without ``repeats`` nothing is chosen: there is one fraction. ``betas['C']`` is one array for
    all tunings with one number of components. With ``voxels`` (rising) the arrays hold these
    alone, and every tuning has its own.
    """

    repeats: Repeats | None
    n_components: int
    component_curve: FloatArray | None
    component_badness: npt.NDArray[np.float32] | None
    fraction: npt.NDArray[np.float32]
    fraction_badness: npt.NDArray[np.float32]
    betas: dict[Model, Float32Array]
    rsquared: dict[Model, npt.NDArray[np.float32]]
    voxels: IndexArray | None = None


class Denoiser:
    """Noise components of each run, and their updates for each response, made when needed."""

    def __init__(self, factors: list[list[RunFactor]], components: Sequence[FloatArray]) -> None:
        self._factors = factors
        self._components = list(components)
        self._updates: dict[tuple[int, int], list[ComponentUpdate]] = {}
        self._ridges: dict[tuple[int, int], list[RidgeFactor]] = {}

    @cached_property
    def _single(self) -> list[Float32Array]:
        return [np.ascontiguousarray(c, dtype=np.float32) for c in self._components]

    def coordinates(self, chunk: Chunk) -> list[Float32Array]:
        """Return the data's coordinates on the components, (n_components, n_chunk_voxels)."""
        return [basis.T @ values for basis, values in zip(self._single, chunk.clean, strict=True)]

    def betas(
        self, hrf: int, k: int, rotated: list[Float32Array], coordinates: list[Float32Array]
    ) -> Float32Array:
        """Return betas with k components regressed out, (n_trials, n_chunk_voxels)."""
        factors = self._factors[hrf]
        if k == 0:
            return to_betas(factors, rotated)
        key = hrf, k
        if key not in self._updates:
            self._updates[key] = [
                update_for(factor, found[:, :k])
                for factor, found in zip(factors, self._components, strict=True)
            ]
        parts = zip(self._updates[key], rotated, coordinates, strict=True)
        return to_betas(factors, [update.apply(part, on) for update, part, on in parts])

    def ridge(self, hrf: int, k: int) -> Ridge:
        """Return the ridge of a response with k components."""
        key = hrf, k
        if key not in self._ridges:
            self._ridges[key] = [
                ridge_factor(factor, found[:, :k])
                for factor, found in zip(self._factors[hrf], self._components, strict=True)
            ]
        return Ridge(self._ridges[key])


@dataclass(frozen=True, eq=False)
class Ridge:
    """Fractional ridge of all runs with one response: runs share the penalty, not vectors."""

    factors: list[RidgeFactor]

    @property
    def singular(self) -> FloatArray:
        """Singular values of all runs."""
        return np.concatenate([factor.singular for factor in self.factors])

    def rotate(self, betas: Float32Array) -> Float32Array:
        """Take betas (n_trials, n_voxels) to coefficients (n_singular, n_voxels)."""
        return self._per_run(betas, [factor.vectors.T for factor in self.factors])

    def unrotate(self, rotated: Float32Array) -> Float32Array:
        """Take coefficients (n_singular, n_voxels) to betas (n_trials, n_voxels)."""
        return self._per_run(rotated, [factor.vectors for factor in self.factors])

    @staticmethod
    def _per_run(values: Float32Array, matrices: Sequence[Float32Array]) -> Float32Array:
        ends = np.cumsum([matrix.shape[1] for matrix in matrices])
        parts = np.split(values, ends[:-1])
        return np.concatenate([m @ part for m, part in zip(matrices, parts, strict=True)])


def fit_responses(work: Work, assumed: FloatArray, betas: Float32Array | None) -> Responses:
    """Pass over all voxels: mean, ON-OFF R2, the best response, and betas of model B.

    Parameters
    ----------
    work
        Data, design and factors.
    assumed
        The canonical response, for the ON-OFF model.
    betas
        Filled with betas of model B in percent signal change, (n_trials, n_voxels); or None.
    """
    n_voxels = work.n_voxels
    usable, mean = inspect(work)
    onoff = np.full(n_voxels, np.nan, dtype=np.float32)
    best = np.full(n_voxels, np.nan, dtype=np.float32)
    index = np.full(n_voxels, -1, dtype=np.intp)
    for voxels, chunk in work.chunks(usable):
        onoff[voxels] = onoff_rsquared(chunk, work.design, assumed)
        scores = np.stack(
            [
                hrf_rsquared(chunk, factors, has_extra=work.design.has_extra)
                for factors in work.factors
            ]
        )
        fitted = usable[voxels] & np.isfinite(scores).all(axis=0)
        index[voxels] = np.where(fitted, np.argmax(scores, axis=0), -1)
        best[voxels] = np.where(fitted, scores.max(axis=0), np.nan)
        if betas is not None:
            to_percent = (100 / np.abs(mean[voxels])).astype(np.float32)
            _write_fithrf(work, chunk, index[voxels], betas[:, voxels], to_percent)
    usable &= index >= 0
    return Responses(usable, mean, onoff, index, best)


def inspect(work: Work) -> tuple[BoolArray, npt.NDArray[np.float32]]:
    """Return which voxels are finite and vary in every run, and their mean over all volumes."""
    usable = np.ones(work.n_voxels, dtype=bool)
    mean = np.zeros(work.n_voxels)
    for voxels in iterate_slices(work.n_voxels, work.chunk_voxels):
        for values in work.series:
            part = np.asarray(values[:, voxels])
            low, high = part.min(axis=0), part.max(axis=0)
            usable[voxels] &= np.isfinite(low) & np.isfinite(high) & (low < high)
            with np.errstate(invalid='ignore'):  # infinities of both signs, left out below
                total = part.sum(axis=0, dtype=np.float64)
            mean[voxels] += np.where(usable[voxels], total, 0)
    mean /= sum(work.design.n_volumes)
    usable &= mean != 0
    return usable, np.where(usable, mean, np.nan).astype(np.float32)


def collect_gram(work: Work, usable: BoolArray, pool: BoolArray) -> list[FloatArray]:
    """Pass over the noise pool: each run's sum of outer products of unit-length series."""
    grams = [np.zeros((n, n)) for n in work.design.n_volumes]
    for voxels, chunk in work.chunks(usable):
        columns = np.flatnonzero(pool[voxels])
        for run, values in enumerate(chunk.drift_free):
            grams[run] += unit_gram(values[:, columns])
    return grams


def judge_components(
    work: Work,
    found: Responses,
    denoiser: Denoiser,
    n_components: int,
    repeats: Sequence[Repeats],
) -> list[npt.NDArray[np.float32]]:
    """Pass over all voxels: badness of 0 to n components, (n_voxels, n + 1) a set of trials."""
    shape = work.n_voxels, n_components + 1
    badness = [np.full(shape, np.nan, dtype=np.float32) for _ in repeats]
    for voxels, hrf, chunk in work.groups(found.usable, found.hrf_index):
        rotated, on = rotate(chunk, work.factors[hrf]), denoiser.coordinates(chunk)
        judges: list[Badness] = []
        for k in range(n_components + 1):
            betas = denoiser.betas(hrf, k, rotated, on)
            judges = judges or [Badness(each, betas) for each in repeats]
            for values, judge in zip(badness, judges, strict=True):
                values[voxels, k] = judge.of(betas)
    return badness


def write_betas(
    work: Work,
    found: Responses,
    denoiser: Denoiser,
    tunings: Sequence[Tuning],
    fractions: Sequence[float],
) -> None:
    """Pass over all voxels: betas of models C and D of every tuning, in percent signal change."""
    numbers = sorted({tuning.n_components for tuning in tunings})
    for voxels, hrf, chunk in work.groups(found.usable, found.hrf_index):
        rotated, on = rotate(chunk, work.factors[hrf]), denoiser.coordinates(chunk)
        to_percent = (100 / np.abs(found.mean_volume[voxels])).astype(np.float32)
        for k in numbers:
            plain = denoiser.betas(hrf, k, rotated, on)
            same = [tuning for tuning in tunings if tuning.n_components == k]
            inner = [tuning for tuning in same if tuning.voxels is not None]
            same = [tuning for tuning in same if tuning.voxels is None]
            for tuning in inner:
                _write_inner(tuning, denoiser.ridge(hrf, k), plain, fractions, voxels)
            if not same:
                continue
            scores = model_rsquared(chunk, work.factors[hrf], plain)
            if 'C' in same[0].betas:
                same[0].betas['C'][:, voxels] = plain * to_percent
                for tuning in same:
                    tuning.rsquared['C'][voxels] = scores
            if 'D' not in same[0].betas:
                continue
            ridge = denoiser.ridge(hrf, k)
            for tuning, shrunk in zip(
                same, _shrink_each(ridge, plain, same, fractions, voxels), strict=True
            ):
                # counted before the scale is restored, as GLMsingle does
                tuning.rsquared['D'][voxels] = model_rsquared(chunk, work.factors[hrf], shrunk)
                scale, offset = fit_scale_offset(shrunk, plain)
                tuning.betas['D'][:, voxels] = (scale * shrunk + offset) * to_percent


def _write_inner(
    tuning: Tuning,
    ridge: Ridge,
    plain: Float32Array,
    fractions: Sequence[float],
    voxels: IndexArray,
) -> None:
    """Write betas of models C and D of the voxels that a tuning is about, in the data's units."""
    assert tuning.voxels is not None
    here = np.flatnonzero(np.isin(voxels, tuning.voxels))
    if not here.size:
        return
    columns = np.searchsorted(tuning.voxels, voxels[here])
    plain = plain[:, here]
    tuning.betas['C'][:, columns] = plain
    # scale and offset of the unregularised betas do not matter where betas are z-scored
    (tuning.betas['D'][:, columns],) = _shrink_each(ridge, plain, [tuning], fractions, columns)


def _shrink_each(
    ridge: Ridge,
    plain: Float32Array,
    tunings: Sequence[Tuning],
    fractions: Sequence[float],
    voxels: IndexArray,
) -> Iterator[Float32Array]:
    """Yield each tuning's shrunken betas, for tunings with one number of components."""
    rotated, singular = ridge.rotate(plain), ridge.singular
    strengths = penalties(rotated, singular, fractions)
    badness = np.zeros((len(tunings), *strengths.shape), dtype=np.float32)
    judges = [Badness(each.repeats, plain) for each in tunings if each.repeats is not None]
    for number, strength in enumerate(strengths):
        betas = ridge.unrotate(shrink(rotated, singular, strength))
        for values, judge in zip(badness, judges, strict=False):
            values[number] = judge.of(betas)
    for tuning, values in zip(tunings, badness, strict=True):
        choice = np.argmin(values, axis=0)
        tuning.fraction[voxels] = np.asarray(fractions)[choice]
        tuning.fraction_badness[voxels] = values.T
        strength = np.take_along_axis(strengths, choice[None], axis=0)[0]
        yield ridge.unrotate(shrink(rotated, singular, strength))


def _write_fithrf(
    work: Work, chunk: Chunk, index: IndexArray, betas: Float32Array, to_percent: Float32Array
) -> None:
    """Write betas of model B of a chunk; where no response fits, they stay as they are."""
    for hrf in np.unique(index[index >= 0]):
        columns = np.flatnonzero(index == hrf)
        factors = work.factors[hrf]
        found = to_betas(factors, rotate(chunk.take(columns), factors))
        betas[:, columns] = found * to_percent[columns]
