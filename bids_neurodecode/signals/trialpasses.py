"""The passes over the data that single-trial models need: runs to coordinates, kept by blocks.

Runs are read one after the other, twice: for each voxel's response, and for its coordinates on
its own design and on the noise components. These are kept by blocks of voxels with one response,
all runs of a block together; all else follows from them, block by block
(:mod:`~bids_neurodecode.signals.trialbetas`).

What :data:`Allocate` returns may hold what a run that was killed has left; ``done`` says how far
each pass came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Algebra, Array, to_host
from bids_neurodecode.signals.noisepool import noise_components, unit_gram
from bids_neurodecode.signals.trialdesign import RunSeries, TrialDesign, orthonormal_beside
from bids_neurodecode.signals.trialfits import (
    RidgeFactor,
    RunDenoiser,
    RunFactor,
    denoiser,
    drift_free,
    factorize,
    percent,
    project_off,
    ridge_factor,
    stack,
)
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

BLOCK_BYTES = 512 * 2**20
NOT_DONE = 'The units {units} of pass {number} are missing.'
MOST_GROUPS = 8
"""Of runs whose sums over volumes are kept."""


class Allocate(Protocol):
    """Makes an array of a name: of zeros, or what it held where a killed run goes on."""

    def __call__(
        self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = ..., /
    ) -> npt.NDArray[Any]:
        """Make it."""


@dataclass(frozen=True)
class Share:
    """A share of one of the four passes: every ``of``-th of its units, from ``number`` on."""

    stage: int
    number: int
    of: int


@dataclass(frozen=True)
class Block:
    """Voxels of one response, (n_block_voxels,), rising, and their place among all blocks."""

    number: int
    voxels: IndexArray
    hrf: int
    start: int


@dataclass(frozen=True, eq=False)
class Work:
    """The data, the design, and its factors for each response of the library.

    Parameters
    ----------
    series
        One array per run, (n_volumes_r, n_voxels); read whole, one at a time.
    design, library
        The trials, and the responses (n_timepoints, n_responses).
    make
        Makes the arrays that are kept.
    chunk_voxels
        Voxels at once, at most.
    tick
        Called with the share of a pass that was done since.
    algebra
        Of the device that multiplies.
    share
        Of one pass, where others do the rest; None: all of it.
    """

    series: Sequence[RunSeries]
    design: TrialDesign
    library: FloatArray
    make: Allocate
    chunk_voxels: int | None
    tick: Callable[[float], None]
    algebra: Algebra
    share: Share | None = None
    _factors: dict[int, list[RunFactor]] = field(default_factory=dict)
    _done: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return int(self.series[0].shape[1])

    @property
    def n_responses(self) -> int:
        """Number of responses of the library."""
        return int(self.library.shape[1])

    @cached_property
    def trials(self) -> list[slice]:
        """Rows of each run's trials."""
        return [self.design.trials_of(run) for run in range(self.design.n_runs)]

    def done(self, number: int) -> npt.NDArray[np.uint8]:
        """Return what was done of one of four passes, (n_runs or n_blocks, at least)."""
        if number not in self._done:
            n = max(self.design.n_runs, self.n_voxels)
            self._done[number] = self.make(f'done-{number}', (n,), np.uint8)
        return self._done[number]

    @cached_property
    def groups(self) -> list[range]:
        """Runs whose sums are added up before those of the next group."""
        n = self.design.n_runs
        edges = [n * group // min(n, MOST_GROUPS) for group in range(min(n, MOST_GROUPS) + 1)]
        return [range(*edge) for edge in pairwise(edges)]

    def has(self, number: int, unit: int) -> bool:
        """Return whether a unit of a pass is to be done here.

        Parameters
        ----------
        number
            Of the pass.
        unit
            A group of runs, a run or a block, from 0.
        """
        mine = self.share
        return mine is None or (mine.stage == number and unit % mine.of == mine.number)

    def check_done(self, number: int, n_units: int) -> None:
        """Check that others did a pass before this share.

        Parameters
        ----------
        number
            Of the pass.
        n_units
            How many runs or blocks it has.

        Raises
        ------
        RuntimeError
            If some units of it are missing.
        """
        if self.share is not None and self.share.stage > number:
            missing = np.flatnonzero(self.done(number)[:n_units] == 0)
            if missing.size:
                raise RuntimeError(NOT_DONE.format(units=missing.tolist(), number=number))

    def ends_with(self, number: int) -> bool:
        """Return whether nothing is to be done here after a pass."""
        return self.share is not None and self.share.stage == number

    def factors(self, run: int) -> list[RunFactor]:
        """Return a run's factors, one a response."""
        if run not in self._factors:
            self._factors[run] = factorize(self.design, run, self.library)
        return self._factors[run]

    def runs(self, number: int, runs: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield what is left of a pass over runs: their number and series.

        Parameters
        ----------
        number
            Of the pass.
        runs
            Those that are to be done here.
        """
        for run in runs:
            if not self.done(number)[run]:
                yield run, np.asarray(self.series[run])
                self.done(number)[run] = 1
            self.tick(1 / self.design.n_runs)

    def blocks(self, number: int, blocks: Sequence[Block]) -> Iterator[Block]:
        """Yield what is left of a pass over blocks.

        Parameters
        ----------
        number
            Of the pass.
        blocks
            All blocks of it; those that are marked as done are left out.
        """
        total = sum(len(block.voxels) for block in blocks)
        for block in blocks:
            if self.has(number, block.number) and not self.done(number)[block.number]:
                yield block
                self.done(number)[block.number] = 1
            self.tick(len(block.voxels) / total)

    def slices(self, n_voxels: int) -> Iterator[slice]:
        """Yield slices of neighbouring voxels."""
        size = min(self.chunk_voxels or self.algebra.columns, self.algebra.columns)
        for start in range(0, n_voxels, size):
            yield slice(start, min(start + size, n_voxels))


@dataclass(frozen=True, eq=False)
class Responses:
    """What the first pass finds, one value per voxel (see :class:`SingleTrialBetas`)."""

    usable: BoolArray
    mean_volume: npt.NDArray[np.float32]
    onoff_rsquared: npt.NDArray[np.float32]
    hrf_index: IndexArray
    rsquared: npt.NDArray[np.float32]
    total: FloatArray
    """Sum of squares over all runs with the polynomials removed."""

    def to_percent(self, voxels: IndexArray) -> Float32Array:
        """Return what takes betas to percent signal change, (len(voxels),)."""
        return (100 / np.abs(self.mean_volume[voxels])).astype(np.float32)


def fit_responses(work: Work, assumed: FloatArray) -> Responses:
    """Pass over all runs: mean, ON-OFF R2 with the canonical response, and the best response.

    Sums over the runs of a group are kept twice: a run's sums are added to those of the run
    before, into the other copy, so that a killed run leaves one of them whole.

    Parameters
    ----------
    work
        Series, design and the folder of intermediate arrays.
    assumed
        The canonical response, (n_timepoints,).
    """
    n, n_runs = work.n_responses, work.design.n_runs
    work.check_done(0, n_runs)
    onoff = [onoff_rows(work.design, run, assumed) for run in range(n_runs)]
    sums = np.zeros((n + 5, work.n_voxels))
    for number, group in enumerate(work.groups):
        shape = min(2, len(group)), n + 5, work.n_voxels
        if work.share is not None and work.share.stage == 0 and not work.has(0, number):
            continue
        copies = work.make(f'sums-{number}', shape, np.float64)
        for run, values in work.runs(0, group if work.has(0, number) else ()):
            place = run - group.start
            before, after = copies[place % len(copies)], copies[(place + 1) % len(copies)]
            sum_run(work, run, values, onoff[run].astype(np.float32), after)
            if place:
                after += before
        sums += copies[len(group) % len(copies)]
    energies = np.sum([(rows**2).sum(axis=1) for rows in onoff], axis=0)
    *explained, total_signal, n_bad, total, shared, drift_shared = sums
    usable = (n_bad == 0) & (total_signal != 0)
    mean = np.where(usable, total_signal / sum(work.design.n_volumes), np.nan)
    scores = percent(np.stack(explained), total)
    usable &= np.isfinite(scores).all(axis=0)
    beta = shared / energies[0] if energies[0] > 0 else shared
    fit = percent(2 * beta * drift_shared - beta**2 * energies[1], total)
    return Responses(
        usable=usable,
        mean_volume=mean.astype(np.float32),
        onoff_rsquared=np.where(usable, fit, np.nan).astype(np.float32),
        hrf_index=np.where(usable, np.argmax(scores, axis=0), -1),
        rsquared=np.where(usable, scores.max(axis=0), np.nan).astype(np.float32),
        total=total,
    )


def sum_run(
    work: Work, run: int, values: npt.NDArray[Any], onoff: Float32Array, sums: FloatArray
) -> None:
    """Sum a run over its volumes.

    Parameters
    ----------
    work, run, values
        The run and its series, (n_volumes, n_voxels).
    onoff
        What :func:`onoff_rows` returns.
    sums
        Filled, (n_responses + 5, n_voxels): sum of squares that trials with each response
        explain; sum; whether the voxel cannot be used; sum of squares without the polynomials;
        products with both rows of ``onoff``.
    """
    n, factors, algebra = work.n_responses, work.factors(run), work.algebra
    xp, pair = algebra.xp, algebra.single(onoff)
    rows = algebra.single(stack([factor.drift_basis.T for factor in factors]))
    missed = None
    if work.design.has_extra:
        missed = algebra.single(stack([factor.missed for factor in factors]))
    for voxels in work.slices(work.n_voxels):
        part = algebra.single(np.array(values[:, voxels], dtype=np.float32))
        low, high = xp.amin(part, axis=0), xp.amax(part, axis=0)
        bad = ~(xp.isfinite(low) & xp.isfinite(high) & (low < high))
        part[:, bad] = 0
        found = sums[:, voxels]
        found[n] = to_host(part.sum(axis=0, dtype=xp.float64))
        found[n + 1] = to_host(bad)
        drift_free(algebra, part, work.design.drift[run])
        found[n + 2] = to_host(algebra.dot(part, part))
        found[n + 3 :] = to_host(pair @ part)
        squares = _squares_by_response(algebra, rows @ part, n)
        if missed is not None:
            squares -= _squares_by_response(algebra, missed @ part, n)
        found[:n] = to_host(squares)


def onoff_rows(design: TrialDesign, run: int, assumed: FloatArray) -> FloatArray:
    """Return one regressor for all trials, all nuisance and the drift projected off, (2, n).

    Parameters
    ----------
    design
        Onsets, nuisance and drift of all runs.
    run
        Which run, from 0.
    assumed
        The canonical response, (n_timepoints,).
    """
    raw = design.regressors(run, assumed[:, None])[0].sum(axis=1, keepdims=True)
    clean, free = (project_off(b[run], raw) for b in (design.nuisance, design.drift))
    return np.stack([clean[:, 0], free[:, 0]])


def _squares_by_response(algebra: Algebra, coordinates: Array, n: int) -> Array:
    parts = coordinates.reshape(n, -1, coordinates.shape[1])
    return algebra.double(algebra.dot(parts, parts))


class Coordinates:
    """Each voxel's coordinates on its own design and on the noise components, by blocks.

    A block's are (n_rows, n_block_voxels), all runs one after the other: for each, its trials',
    where it has extra regressors those of the drift-free design, and the components'. They are
    kept by runs, so that several can be written at a time.
    """

    def __init__(self, work: Work, found: Responses, n_components: int) -> None:
        self._work = work
        trials = [len(onsets) for onsets in work.design.onset_volumes]
        self._extra = [work.design.run_has_extra(run) for run in range(work.design.n_runs)]
        self._fitted = [(1 + more) * n for n, more in zip(trials, self._extra, strict=True)]
        self.n_components = n_components
        self._rows = np.concatenate([[0], np.cumsum([n + n_components for n in self._fitted])])
        self._n_usable = int(found.usable.sum())
        self._runs: dict[int, Float32Array] = {}

    def in_block(self, block: Block) -> Float32Array:
        """Return the coordinates of a block."""
        return np.concatenate([self._part(block, run) for run in range(len(self._fitted))])

    def _part(self, block: Block, run: int) -> Float32Array:
        """Return the coordinates of a block on a run, (n_rows_r, n_block_voxels)."""
        n_rows = int(self._rows[run + 1] - self._rows[run])
        if run not in self._runs:
            # flat, so that a block is a view in whatever order arrays are made
            shape = (self._n_usable * n_rows,)
            self._runs[run] = self._work.make(f'coordinates-{run}', shape)
        start, stop = block.start * n_rows, (block.start + len(block.voxels)) * n_rows
        return self._runs[run][start:stop].reshape(n_rows, len(block.voxels))

    def put(self, block: Block, run: int, voxels: slice, values: Float32Array) -> None:
        """Keep a run's coordinates (n_rows_r, n_voxels) of some voxels of a block.

        Parameters
        ----------
        block
            Which block.
        run
            Which run, from 0.
        voxels
            Which of the block's voxels.
        values
            Shape (n_rows_r, n_voxels).
        """
        self._part(block, run)[:, voxels] = values

    def of_run(self, rows: Array, run: int) -> tuple[Array, Array]:
        """Return a run's coordinates on trials and components, and on the drift-free design.

        The first are (n_trials + n_components, n_block_voxels).

        Parameters
        ----------
        rows
            The block's coordinates on all runs, (n_rows, n_block_voxels), on the device.
        run
            Which run, from 0.
        """
        n = len(self._work.design.onset_volumes[run])
        mine = rows[self._rows[run] : self._rows[run + 1]]
        if not self._extra[run]:
            return mine, mine[:n]
        xp = self._work.algebra.xp
        return xp.concatenate([mine[:n], mine[2 * n :]]), mine[n : 2 * n]


def make_blocks(found: Responses, block_voxels: int) -> list[Block]:
    """Gather voxels of one response into blocks.

    Parameters
    ----------
    found
        The best response of each voxel, and which voxels are usable.
    block_voxels
        Voxels of a block, at most.
    """
    blocks: list[Block] = []
    start = 0
    for hrf in np.unique(found.hrf_index[found.usable]):
        voxels = np.flatnonzero(found.usable & (found.hrf_index == hrf))
        for part in np.array_split(voxels, -(-len(voxels) // block_voxels)):
            blocks.append(Block(len(blocks), part, int(hrf), start))
            start += len(part)
    return blocks


def project_runs(
    work: Work, blocks: Sequence[Block], pool: BoolArray, coordinates: Coordinates
) -> list[FloatArray]:
    """Pass over all runs: noise components of each, and the coordinates of all voxels.

    Parameters
    ----------
    work
        Series, design and the folder of intermediate arrays.
    blocks
        Voxels of one response each.
    pool
        Whether a voxel is in the noise pool, (n_voxels,).
    coordinates
        Where the coordinates are written.

    Returns
    -------
    list of ndarray
        Components of each run, (n_volumes_r, n_r), orthonormal and free of nuisance.
    """
    share, n_runs = work.share, work.design.n_runs
    work.check_done(1, n_runs)
    mine = [run for run in range(n_runs) if work.has(1, run)]
    known = mine if share is not None and share.stage == 1 else range(n_runs)
    parts = {
        run: work.make(
            f'components-{run}',
            (work.design.n_volumes[run], coordinates.n_components),
            np.float64,
        )
        for run in known
    }
    inside, algebra = np.flatnonzero(pool), work.algebra
    for run, values in work.runs(1, mine):
        if coordinates.n_components:
            components = run_components(work, run, values, inside, coordinates.n_components)
            parts[run][:, : components.shape[1]] = components
        single = parts[run].astype(np.float32)
        stacks = [algebra.single(stack([f.coordinates, single.T])) for f in work.factors(run)]
        for block in blocks:
            for voxels in work.slices(len(block.voxels)):
                part = algebra.single(values[:, block.voxels[voxels]])
                part = drift_free(algebra, part, work.design.drift[run])
                coordinates.put(block, run, voxels, to_host(stacks[block.hrf] @ part))
    return [part[:, part.any(axis=0)] for part in parts.values()]


def run_components(
    work: Work, run: int, values: npt.NDArray[Any], pool: IndexArray, n_components: int
) -> FloatArray:
    """Return the time courses shared by the voxels of the noise pool, free of nuisance.

    Parameters
    ----------
    work
        Design and sizes of chunks.
    run
        Which run, from 0.
    values
        Its series, (n_volumes, n_voxels).
    pool
        Columns of the noise pool.
    n_components
        How many, at most.
    """
    gram = np.zeros((len(values), len(values)))
    for voxels in work.slices(len(pool)):
        part = work.algebra.single(values[:, pool[voxels]])
        part = drift_free(work.algebra, part, work.design.drift[run])
        gram += unit_gram(work.algebra, part)
    return orthonormal_beside(work.design.nuisance[run], noise_components(gram, n_components))


class Denoiser:
    """What noise components do to the betas of each HRF; computed when that HRF is reached."""

    def __init__(self, work: Work, components: Sequence[FloatArray], n_kept: int) -> None:
        self._work = work
        self._components = [
            np.pad(found, [(0, 0), (0, n_kept - found.shape[1])]) for found in components
        ]
        self._hrf = -1
        self._runs: list[RunDenoiser] = []
        self._ridges: dict[int, list[RidgeFactor]] = {}

    def runs(self, hrf: int) -> list[RunDenoiser]:
        """Return what they do in each run."""
        if hrf != self._hrf:
            self._hrf, self._ridges = hrf, {}
            self._runs = [
                denoiser(self._work.factors(run)[hrf], found)
                for run, found in enumerate(self._components)
            ]
        return self._runs

    def ridge(self, hrf: int, k: int) -> list[RidgeFactor]:
        """Return the ridge of each run with k components: runs share the penalty, not vectors.

        Parameters
        ----------
        hrf
            Index of the response.
        k
            Components that are projected off.
        """
        runs = self.runs(hrf)
        if k not in self._ridges:
            self._ridges[k] = [
                ridge_factor(self._work.factors(run)[hrf], each.overlap[:k])
                for run, each in enumerate(runs)
            ]
        return self._ridges[k]
