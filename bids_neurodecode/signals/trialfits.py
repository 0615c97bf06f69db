"""Least squares for single trials, factorised once per run and response for all voxels.

A trial's regressor lives in its own run, and so do the nuisance regressors: the problem falls
apart into runs. With Q G the nuisance-free design of a run (Q orthonormal), all that the data say
of its trials are their coordinates on Q and on the noise components. Betas with any number of
components, their fit and their ridge follow from these without another look at the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from bids_neurodecode.algebra import Algebra, Array, to_host
from bids_neurodecode.signals.trialdesign import TrialDesign
from bids_neurodecode.typing import Float32Array, FloatArray

RANK_TOLERANCE = 1e-7
WELL_CONDITIONED = 1e-4
"""Least ratio of the diagonal of a triangular factor with which it can be squared and inverted."""


@dataclass(frozen=True, eq=False)
class RunFactor:
    """One run's design with one response, factorised.

    Parameters
    ----------
    basis
        Q: orthonormal, (n_volumes, n_trials), of the design with all nuisance projected off;
        columns of zeros where trials are not independent.
    factor
        G: the design is Q G, (n_trials, n_trials), float64.
    to_betas
        Takes coordinates on Q to betas, (n_trials, n_trials).
    drift_basis
        The same as ``basis`` with only the polynomials projected off (R2 is counted so).
    forward
        Takes betas to the coordinates on ``drift_basis``, (n_trials, n_trials).
    """

    basis: Float32Array
    factor: FloatArray
    to_betas: Float32Array
    drift_basis: Float32Array
    forward: Float32Array

    @property
    def has_extra(self) -> bool:
        """Whether anything beside the polynomials was projected off."""
        return self.drift_basis is not self.basis

    @property
    def coordinates(self) -> Float32Array:
        """What takes series to all that is kept of them, (n_trials or twice that, n_volumes)."""
        return np.vstack([self.basis.T, self.drift_basis.T][: 1 + self.has_extra])

    @property
    def missed(self) -> Float32Array:
        """What takes series to the part on ``drift_basis`` that betas miss."""
        return np.asarray(self.drift_basis.T - (self.forward @ self.to_betas) @ self.basis.T)


@dataclass(frozen=True, eq=False)
class RunDenoiser:
    """What noise components do to the betas of one run with one response.

    The components' parts outside of the design are made orthonormal in turn, so that the first k
    of them serve for k components: ``betas - spread[:, :k] @ on_components[:k]``.

    Parameters
    ----------
    rows
        Takes coordinates on the design and the components to betas without components and to
        ``on_components``, (n_trials + n_components, n_trials + n_components).
    spread
        Shape (n_trials, n_components).
    overlap
        Of the components with the design's basis, (n_components, n_trials), float64.
    """

    rows: Float32Array
    spread: Float32Array
    overlap: FloatArray


@dataclass(frozen=True, eq=False)
class RidgeFactor:
    """Squared singular values and right singular vectors of one run's design, for the ridge."""

    squares: FloatArray
    vectors: Float32Array


def factorize(design: TrialDesign, run: int, responses: FloatArray) -> list[RunFactor]:
    """Factorise a run's design for each response, (n_timepoints, n_responses).

    Parameters
    ----------
    design
        Onsets, nuisance and drift of all runs.
    run
        Which run, from 0.
    responses
        Haemodynamic responses, (n_timepoints, n_responses), sampled at the volumes.
    """
    factors = []
    for raw in design.regressors(run, responses):
        clean = project_off(design.nuisance[run], raw)
        basis, factor, inverse = orthogonalise(clean)
        drift_basis, forward = basis, factor
        single = _single(basis)
        if design.nuisance[run] is not design.drift[run]:
            drift_basis, forward, _ = orthogonalise(project_off(design.drift[run], raw))
        factors.append(
            RunFactor(
                basis=single,
                factor=factor,
                to_betas=_single(inverse),
                drift_basis=single if drift_basis is basis else _single(drift_basis),
                forward=_single(forward),
            )
        )
    return factors


def orthogonalise(design: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return an orthonormal basis of a design, what makes the design of it, and that inverted.

    By the Cholesky factor of the design's inner products where these are well conditioned; else
    by singular values, without directions that hold rounding only.
    """
    try:
        factor = linalg.cholesky(design.T @ design, check_finite=False)
    except linalg.LinAlgError:
        factor = None
    if factor is not None:
        diagonal = np.diagonal(factor)
        if diagonal.min() > WELL_CONDITIONED * diagonal.max():
            inverse = linalg.solve_triangular(factor, np.eye(len(factor)), check_finite=False)
            return design @ inverse, factor, inverse
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    keep = singular > RANK_TOLERANCE * max(singular[0], np.finfo(float).tiny)
    left, singular = np.where(keep, left, 0), np.where(keep, singular, 0)
    reciprocal = np.where(keep, 1 / np.where(keep, singular, 1), 0)
    return left, singular[:, None] * right, right.T * reciprocal


def denoiser(factor: RunFactor, components: FloatArray) -> RunDenoiser:
    """Prepare for components (n_volumes, n_components), orthonormal and free of nuisance.

    Parameters
    ----------
    factor
        A run's design with one response.
    components
        Time courses of the run, (n_volumes, n_components).
    """
    overlap = components.T @ factor.basis.astype(np.float64)
    outside = _inverse_triangle(np.eye(len(overlap)) - overlap @ overlap.T)
    n_trials = len(factor.to_betas)
    rows = np.zeros((n_trials + len(overlap),) * 2)
    rows[:n_trials, :n_trials] = factor.to_betas
    rows[n_trials:, :n_trials] = -outside.T @ overlap
    rows[n_trials:, n_trials:] = outside.T
    return RunDenoiser(_single(rows), _single(factor.to_betas @ (overlap.T @ outside)), overlap)


def _inverse_triangle(inner: FloatArray) -> FloatArray:
    """Invert the upper Cholesky factor of inner products of components outside of the design.

    A component that lies inside the design and the components before it has a row and a column
    of zeros: its share stays the trials'.
    """
    inverse = np.zeros_like(inner)
    for k in range(len(inner)):
        on = inverse[:, :k].T @ inner[:, k]
        rest = inner[k, k] - on @ on
        if rest > RANK_TOLERANCE:
            inverse[:, k] = -inverse[:, :k] @ on
            inverse[k, k] = 1
            inverse[:, k] /= np.sqrt(rest)
    return inverse


def ridge_factor(factor: RunFactor, overlap: FloatArray) -> RidgeFactor:
    """Decompose a run's design with components of that overlap (k, n_trials) projected off.

    Parameters
    ----------
    factor
        A run's design with one response.
    overlap
        Of the components with the design's basis, (k, n_trials).
    """
    on = overlap @ factor.factor
    squares, vectors = np.linalg.eigh(factor.factor.T @ factor.factor - on.T @ on)
    if squares[0] <= WELL_CONDITIONED**2 * squares[-1]:
        # squared, what is small is lost in rounding: the root of what is left of the basis
        inside, shares = np.linalg.eigh(np.eye(len(factor.factor)) - overlap.T @ overlap)
        rest = np.sqrt(np.maximum(inside, 0))[:, None] * (shares.T @ factor.factor)
        _, singular, right = np.linalg.svd(rest)
        squares, vectors = singular**2, right.T
    keep = squares > RANK_TOLERANCE**2 * max(squares.max(), np.finfo(float).tiny)
    return RidgeFactor(squares[keep], _single(vectors[:, keep]))


def project_off(basis: FloatArray, values: FloatArray) -> FloatArray:
    """Project columns of values off an orthonormal basis.

    Parameters
    ----------
    basis
        Orthonormal, (n_volumes, n).
    values
        Shape (n_volumes, m).
    """
    return np.asarray(values - basis @ (basis.T @ values))


def drift_free(algebra: Algebra, values: Array, drift: FloatArray) -> Array:
    """Project the drift off some voxels of a run, (n_volumes, n_chunk_voxels), in place.

    Parameters
    ----------
    algebra
        Of the device.
    values
        Shape (n_volumes, n_chunk_voxels), float32 on the device; changed in place.
    drift
        Orthonormal polynomials, (n_volumes, degree + 1).
    """
    # the mean first and in float64: it is large beside the signal
    values -= algebra.single(values.mean(axis=0, dtype=algebra.xp.float64))
    basis = algebra.single(_single(drift))
    values -= basis @ (basis.T @ values)
    return values


def explained_by(algebra: Algebra, fitted: Array, missed: Array) -> FloatArray:
    """Return the sum of squares that a fit explains, (n_chunk_voxels,), float64.

    Parameters
    ----------
    algebra
        Of the device.
    fitted
        The series on the orthonormal basis of a design, (n_trials, n_chunk_voxels), on the
        device.
    missed
        What betas leave of that, of the same shape.
    """
    squares = algebra.double(algebra.dot(fitted, fitted)) - algebra.dot(missed, missed)
    return to_host(squares)


def percent(explained: FloatArray, total: FloatArray) -> FloatArray:
    """Return 100 explained / total, NaN where the total is 0.

    Parameters
    ----------
    explained, total
        Sums of squares, (n_voxels,) each.
    """
    return np.where(total > 0, 100 * explained / np.where(total > 0, total, 1), np.nan)


def stack(matrices: Sequence[Float32Array]) -> Float32Array:
    """Stack what takes series to several numbers, so that one product serves."""
    return np.ascontiguousarray(np.vstack(matrices))


def _single(values: FloatArray) -> Float32Array:
    return np.ascontiguousarray(values, dtype=np.float32)
