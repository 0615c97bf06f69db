"""Least squares for single trials, factorised once per response and run for all voxels.

A trial's regressor lives in its own run, and so do the nuisance regressors: the problem falls
apart into runs. With U S V' the nuisance-free design of a run, coefficients are kept in the
rotated space of V until they are needed: noise components then enter as a low-rank update, R2 is
a difference of squared lengths, and all ridge fractions share one decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.signals.trialdesign import TrialDesign, orthonormal_beside
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray

RANK_TOLERANCE = 1e-7


@dataclass(frozen=True, eq=False)
class RunFactor:
    """One run's design with one response, factorised.

    Parameters
    ----------
    basis
        U: orthonormal, (n_volumes, n_rank), of the design with all nuisance projected off.
    to_betas
        V / S, (n_trials, n_rank).
    drift_basis
        The same as ``basis`` with only the polynomials projected off (R2 is counted so).
    forward
        Takes betas to the coordinates of ``drift_basis``, (n_drift_rank, n_trials).
    design
        Regressors with all nuisance projected off, (n_volumes, n_trials), float64.
    """

    basis: Float32Array
    to_betas: Float32Array
    drift_basis: Float32Array
    forward: Float32Array
    design: FloatArray


@dataclass(frozen=True, eq=False)
class ComponentUpdate:
    """What k noise components do to the rotated coefficients of one run with one response.

    ``rotated - correction @ (components - overlap @ rotated)``, where ``components`` are the
    data's coordinates on the first k components (n_components, n_voxels).
    """

    overlap: Float32Array
    correction: Float32Array

    def apply(self, rotated: Float32Array, components: Float32Array) -> Float32Array:
        """Return rotated coefficients (n_rank, n_voxels) with the components regressed out."""
        k = len(self.overlap)
        return np.asarray(rotated - self.correction @ (components[:k] - self.overlap @ rotated))


@dataclass(frozen=True, eq=False)
class RidgeFactor:
    """Singular values and right singular vectors of one run's design, for the ridge."""

    singular: FloatArray
    vectors: Float32Array


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some voxels of all runs, nuisance projected off.

    ``drift_free`` and ``clean`` hold one array a run, (n_volumes_r, n_chunk_voxels); they are
    the same arrays where there are no extra regressors. ``total`` is the sum of squares of
    ``drift_free`` over all runs.
    """

    drift_free: list[Float32Array]
    clean: list[Float32Array]
    total: FloatArray

    def take(self, columns: npt.NDArray[np.intp]) -> Chunk:
        """Copy some of the voxels."""
        drift_free = [values[:, columns] for values in self.drift_free]
        if self.clean[0] is self.drift_free[0]:
            return Chunk(drift_free, drift_free, self.total[columns])
        clean = [values[:, columns] for values in self.clean]
        return Chunk(drift_free, clean, self.total[columns])


def decompose(design: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return thin U, S and V of a design, without directions that hold rounding only."""
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    keep = singular > RANK_TOLERANCE * max(singular[0], np.finfo(float).tiny)
    return left[:, keep], singular[keep], right[keep].T


def factorize(design: TrialDesign, response: FloatArray) -> list[RunFactor]:
    """Factorise every run's design for one response."""
    factors = []
    for run in range(design.n_runs):
        raw = design.regressors(run, response)
        drift_free = project_off(design.drift[run], raw)
        clean = project_off(design.nuisance[run], raw) if design.has_extra else drift_free
        left, singular, right = decompose(clean)
        drift_parts = decompose(drift_free) if design.has_extra else (left, singular, right)
        basis = _single(left)
        factors.append(
            RunFactor(
                basis=basis,
                to_betas=_single(right / singular),
                drift_basis=_single(drift_parts[0]) if design.has_extra else basis,
                forward=_single(drift_parts[1][:, None] * drift_parts[2].T),
                design=clean,
            )
        )
    return factors


def update_for(factor: RunFactor, components: FloatArray) -> ComponentUpdate:
    """Prepare the update for components (n_volumes, k), orthonormal and free of nuisance."""
    overlap = components.T @ factor.basis.astype(np.float64)
    # eigenvalues near 0 belong to components inside the design: that share stays the trials'
    schur = np.linalg.pinv(
        np.eye(len(overlap)) - overlap @ overlap.T, rcond=RANK_TOLERANCE, hermitian=True
    )
    return ComponentUpdate(_single(overlap), _single(overlap.T @ schur))


def ridge_factor(factor: RunFactor, components: FloatArray) -> RidgeFactor:
    """Decompose a run's design with the components (n_volumes, k) projected off too."""
    _, singular, right = decompose(project_off(components, factor.design))
    return RidgeFactor(singular, _single(right))


def project_off(basis: FloatArray, values: FloatArray) -> FloatArray:
    """Project columns of values off an orthonormal basis."""
    return np.asarray(values - basis @ (basis.T @ values))


def clean_components(design: TrialDesign, components: Sequence[FloatArray]) -> list[FloatArray]:
    """Return each run's components orthonormal, in order, and free of nuisance."""
    return [
        orthonormal_beside(nuisance, found)
        for nuisance, found in zip(design.nuisance, components, strict=True)
    ]


def iterate_slices(n_voxels: int, chunk_voxels: int) -> Iterator[slice]:
    """Yield slices of at most ``chunk_voxels`` neighbouring voxels."""
    for start in range(0, n_voxels, chunk_voxels):
        yield slice(start, min(start + chunk_voxels, n_voxels))


def load_chunk(
    series: Sequence[npt.NDArray[Any]], design: TrialDesign, voxels: slice, usable: BoolArray
) -> Chunk:
    """Copy some voxels of all runs and project the nuisance off; unusable voxels become 0."""
    drift_free, clean = [], []
    total = np.zeros(voxels.stop - voxels.start)
    for run, values in enumerate(series):
        part = np.array(values[:, voxels], dtype=np.float32)
        part[:, ~usable] = 0
        # the mean first and in float64: it is large beside the signal
        part -= part.mean(axis=0, dtype=np.float64).astype(np.float32)
        part = _project_single(design.drift[run], part)
        total += np.einsum('tv,tv->v', part, part)
        drift_free.append(part)
        clean.append(_project_single(design.nuisance[run], part) if design.has_extra else part)
    return Chunk(drift_free, clean, total)


def onoff_rsquared(chunk: Chunk, design: TrialDesign, response: FloatArray) -> FloatArray:
    """Return R2 in percent of one regressor for all trials of all runs, (n_chunk_voxels,)."""
    shared, energy = np.zeros(len(chunk.total)), 0.0
    drift_shared, drift_energy = np.zeros(len(chunk.total)), 0.0
    for run in range(design.n_runs):
        raw = design.regressors(run, response).sum(axis=1, keepdims=True)
        drift_free = project_off(design.drift[run], raw)
        clean = project_off(design.nuisance[run], raw)
        shared += (_single(clean).T @ chunk.clean[run])[0]
        energy += float((clean**2).sum())
        drift_shared += (_single(drift_free).T @ chunk.drift_free[run])[0]
        drift_energy += float((drift_free**2).sum())
    beta = shared / energy if energy > 0 else shared
    explained = 2 * beta * drift_shared - beta**2 * drift_energy
    return percent(explained, chunk.total)


def hrf_rsquared(chunk: Chunk, factors: Sequence[RunFactor], *, has_extra: bool) -> FloatArray:
    """Return R2 in percent of single trials with one response, (n_chunk_voxels,)."""
    rotated = rotate(chunk, factors)
    if has_extra:
        return model_rsquared(chunk, factors, to_betas(factors, rotated))
    # without extra regressors the fit is a projection: its length is that of its coordinates
    explained = np.zeros(len(chunk.total))
    for part in rotated:
        explained += np.einsum('tv,tv->v', part, part)
    return percent(explained, chunk.total)


def rotate(chunk: Chunk, factors: Sequence[RunFactor]) -> list[Float32Array]:
    """Return the data's coordinates on each run's design, (n_rank, n_chunk_voxels)."""
    return [factor.basis.T @ values for factor, values in zip(factors, chunk.clean, strict=True)]


def to_betas(factors: Sequence[RunFactor], rotated: Sequence[Float32Array]) -> Float32Array:
    """Return betas of all trials, (n_trials, n_chunk_voxels), in the data's units."""
    parts = [factor.to_betas @ part for factor, part in zip(factors, rotated, strict=True)]
    return np.concatenate(parts)


def model_rsquared(chunk: Chunk, factors: Sequence[RunFactor], betas: Float32Array) -> FloatArray:
    """Return R2 in percent of betas (n_trials, n_chunk_voxels), with only polynomials removed."""
    explained = np.zeros(len(chunk.total))
    start = 0
    for factor, values in zip(factors, chunk.drift_free, strict=True):
        stop = start + len(factor.to_betas)
        on_basis = factor.drift_basis.T @ values
        missed = on_basis - factor.forward @ betas[start:stop]
        explained += np.einsum('tv,tv->v', on_basis, on_basis)
        explained -= np.einsum('tv,tv->v', missed, missed)
        start = stop
    return percent(explained, chunk.total)


def percent(explained: FloatArray, total: FloatArray) -> FloatArray:
    """Return 100 explained / total, NaN where the total is 0."""
    return np.where(total > 0, 100 * explained / np.where(total > 0, total, 1), np.nan)


def _project_single(basis: FloatArray, values: Float32Array) -> Float32Array:
    single = _single(basis)
    return values - single @ (single.T @ values)


def _single(values: FloatArray) -> Float32Array:
    return np.ascontiguousarray(values, dtype=np.float32)
