"""The betas of a block of voxels, from its coordinates: judged by repeats, tuned, written.

Series are not read again: all follows from what :mod:`bids_neurodecode.signals.trialpasses` keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Array, to_host
from bids_neurodecode.signals.badness import Judge, Repeats, RunJudges
from bids_neurodecode.signals.fractional import fit_scale_offset, penalties
from bids_neurodecode.signals.reliability import ncsnr
from bids_neurodecode.signals.trialfits import (
    RidgeFactor,
    explained_by,
    percent,
)
from bids_neurodecode.signals.trialpasses import Block, Coordinates, Denoiser, Responses, Work
from bids_neurodecode.signals.trialtypes import Model
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray


@dataclass(frozen=True, eq=False)
class BlockBetas:
    """A block's betas without components, and its coordinates on these, float32 on the device.

    Parameters
    ----------
    plain
        In the data's units, (n_trials, n_block_voxels).
    on
        One array per run, (n_components, n_block_voxels).
    drift_free
        One array per run: the data's coordinates on the drift-free design, for R2.
    """

    plain: Array
    on: list[Array]
    drift_free: list[Array]


def fit_block(
    work: Work, coordinates: Coordinates, denoiser: Denoiser, block: Block
) -> BlockBetas:
    """Read a block, and regress its series on its trials.

    Parameters
    ----------
    work
        The design.
    coordinates
        Where the series of the block is read.
    denoiser
        Of each response.
    block
        Which block.
    """
    rows = work.algebra.single(np.array(coordinates.in_block(block)))
    plain, on, free = [], [], []
    for run, (trials, each) in enumerate(zip(work.trials, denoiser.runs(block.hrf), strict=True)):
        mine, of_design = coordinates.of_run(rows, run)
        both = work.algebra.single(each.rows) @ mine
        n = trials.stop - trials.start
        plain.append(both[:n])
        on.append(both[n:])
        free.append(of_design)
    return BlockBetas(work.algebra.xp.concatenate(plain), on, free)


@dataclass(frozen=True, eq=False)
class Judged:
    """Badness of 0 to n components by set of trials, (n_voxels, n + 1), and agreement.

    ``agreement`` holds the noise-ceiling signal-to-noise ratio of model B's betas in each inner
    set, (n_inner_sets, n_voxels).
    """

    badness: list[npt.NDArray[np.float32]]
    agreement: npt.NDArray[np.float32]


def judge_components(
    work: Work,
    found: Responses,
    coordinates: Coordinates,
    denoiser: Denoiser,
    blocks: Sequence[Block],
    *,
    plain: Float32Array | None,
    n_components: int,
    repeats: Sequence[Repeats],
    inner_sets: Sequence[BoolArray],
) -> Judged:
    """Pass over all blocks: betas of model B, and how badly components make repeats agree.

    Parameters
    ----------
    work, found, coordinates, denoiser, blocks
        The data.
    plain
        Filled with betas of model B in percent signal change, (n_trials, n_voxels); or None.
    n_components
        The largest number that is judged.
    repeats
        Of each set of trials that judges.
    inner_sets
        Sets in which voxels are chosen by how well their repeats agree.
    """
    work.check_done(2, len(blocks))
    shape = work.n_voxels, n_components + 1
    badness = [work.make(f'badness-{k}', shape) for k in range(len(repeats))]
    agreement = work.make('agreement', (len(inner_sets), work.n_voxels))
    algebra, session = work.algebra, work.design.session
    for block in work.blocks(2, blocks):
        betas = fit_block(work, coordinates, denoiser, block)
        percents = to_host(betas.plain * algebra.single(found.to_percent(block.voxels)))
        if plain is not None:
            plain.T[block.voxels] = percents.T
        for row, mask in zip(agreement, inner_sets, strict=True):
            row[block.voxels] = ncsnr(percents[mask], work.design.condition[mask])
        for values, each in zip(badness, repeats, strict=True):
            judge = Judge(each, betas.plain, session, algebra)
            gains: Array = 0
            for trials, small, on in zip(
                work.trials, denoiser.runs(block.hrf), betas.on, strict=True
            ):
                spread = small.spread[:, :n_components]
                more = judge.gains(trials, betas.plain[trials], spread, on[:n_components])
                gains = algebra.double(more) + gains
            values[block.voxels, 0] = to_host(judge.unregularised)
            curve = judge.unregularised + algebra.xp.cumsum(gains, axis=0)
            values[block.voxels, 1:] = to_host(curve).T
    for values in badness:
        values[~found.usable] = np.nan
    if plain is not None:
        plain.T[~found.usable] = np.nan
    return Judged(badness, agreement)


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

    def forget(self, unusable: BoolArray) -> None:
        """Set what is said of voxels that cannot be used to NaN."""
        if self.voxels is None:
            for values in (self.fraction, self.fraction_badness, *self.rsquared.values()):
                values[unusable] = np.nan
            for betas in self.betas.values():
                betas.T[unusable] = np.nan


def write_betas(
    work: Work,
    found: Responses,
    coordinates: Coordinates,
    denoiser: Denoiser,
    blocks: Sequence[Block],
    *,
    tunings: Sequence[Tuning],
    fractions: Sequence[float],
) -> None:
    """Pass over all blocks: betas of models C and D of every tuning, in percent signal change.

    Parameters
    ----------
    work
        Design, and the arrays that betas are written to.
    found
        Means of the voxels, by which percent are counted.
    coordinates
        Where series are read.
    denoiser
        Of each response.
    blocks
        Voxels of one response each.
    tunings
        Components and ridge fractions of each fit (all data, or a fold).
    fractions
        All ridge fractions that a voxel may have chosen, from 0 to 1.
    """
    numbers = sorted({tuning.n_components for tuning in tunings})
    for block in work.blocks(3, blocks):
        betas = fit_block(work, coordinates, denoiser, block)
        for k in numbers:
            plain = work.algebra.xp.concatenate(
                [
                    betas.plain[trials] - work.algebra.single(small.spread[:, :k]) @ on[:k]
                    for trials, small, on in zip(
                        work.trials, denoiser.runs(block.hrf), betas.on, strict=True
                    )
                ]
            )
            same = [tuning for tuning in tunings if tuning.n_components == k]
            for tuning in same:
                if tuning.voxels is not None:
                    _write_inner(work, tuning, denoiser, block, plain, fractions)
            same = [tuning for tuning in same if tuning.voxels is None]
            if same:
                _write_same(work, found, denoiser, block, betas, plain, same, fractions)
    for tuning in tunings:
        tuning.forget(~found.usable)


def _write_same(
    work: Work,
    found: Responses,
    denoiser: Denoiser,
    block: Block,
    betas: BlockBetas,
    plain: Array,
    tunings: Sequence[Tuning],
    fractions: Sequence[float],
) -> None:
    """Write a block's betas of tunings with one number of components."""
    voxels, algebra = block.voxels, work.algebra
    to_percent = algebra.single(found.to_percent(voxels))
    if 'C' in tunings[0].betas:
        tunings[0].betas['C'].T[voxels] = to_host(plain * to_percent).T
        scores = _rsquared(work, found, block, betas, plain)
        for tuning in tunings:
            tuning.rsquared['C'][voxels] = scores
    if 'D' not in tunings[0].betas:
        return
    ridge = denoiser.ridge(block.hrf, tunings[0].n_components)
    each = shrink_each(work, ridge, plain, tunings, fractions, voxels)
    for tuning, shrunk in zip(tunings, each, strict=True):
        # counted before the scale is restored, as GLMsingle does
        tuning.rsquared['D'][voxels] = _rsquared(work, found, block, betas, shrunk)
        scale, offset = (
            algebra.single(to_percent * x) for x in fit_scale_offset(shrunk, plain, algebra)
        )
        tuning.betas['D'].T[voxels] = to_host(shrunk * scale + offset).T


def _rsquared(
    work: Work, found: Responses, block: Block, betas: BlockBetas, values: Array
) -> FloatArray:
    """Return R2 in percent of betas (n_trials, n_block_voxels), with only polynomials removed."""
    explained = np.zeros(len(block.voxels))
    for run, (trials, on) in enumerate(zip(work.trials, betas.drift_free, strict=True)):
        forward = work.algebra.single(work.factors(run)[block.hrf].forward)
        explained += explained_by(work.algebra, on, on - forward @ values[trials])
    return percent(explained, found.total[block.voxels])


def _write_inner(
    work: Work,
    tuning: Tuning,
    denoiser: Denoiser,
    block: Block,
    plain: Array,
    fractions: Sequence[float],
) -> None:
    """Write betas of models C and D of the voxels that a tuning is about, in the data's units."""
    assert tuning.voxels is not None
    here = np.flatnonzero(np.isin(block.voxels, tuning.voxels))
    if not here.size:
        return
    columns = np.searchsorted(tuning.voxels, block.voxels[here])
    plain = plain[:, here]
    tuning.betas['C'].T[columns] = to_host(plain).T
    ridge = denoiser.ridge(block.hrf, tuning.n_components)
    # scale and offset of the unregularised betas do not matter where betas are z-scored
    (shrunk,) = shrink_each(work, ridge, plain, [tuning], fractions, columns)
    tuning.betas['D'].T[columns] = to_host(shrunk).T


def shrink_each(
    work: Work,
    ridge: Sequence[RidgeFactor],
    plain: Array,
    tunings: Sequence[Tuning],
    fractions: Sequence[float],
    voxels: IndexArray,
) -> Iterator[Array]:
    """Yield each tuning's shrunken betas, for tunings with one number of components.

    Parameters
    ----------
    work, ridge
        The data; the ridge of each run.
    plain
        Unregularised betas, (n_trials, n_block_voxels), on the device.
    tunings, fractions
        Fractions and their badness are written into the tunings' rows ``voxels``.
    """
    algebra, session = work.algebra, work.design.session
    vectors = [algebra.single(factor.vectors) for factor in ridge]
    rotated = [each.T @ plain[trials] for each, trials in zip(vectors, work.trials, strict=True)]
    strengths = penalties(rotated, [factor.squares for factor in ridge], fractions, algebra)
    strengths = algebra.single(strengths)
    badness = np.zeros((len(tunings), *strengths.shape))
    judges = [
        Judge(each.repeats, plain, session, algebra)
        for each in tunings
        if each.repeats is not None
    ]
    if judges:
        badness += to_host(algebra.xp.stack([judge.constant for judge in judges]))[:, None]
        for factor, trials, part in zip(ridge, work.trials, rotated, strict=True):
            badness += judge_fractions(factor, RunJudges(judges, trials), part, strengths)
    shares = [algebra.single(factor.squares[:, None]) for factor in ridge]
    for tuning, values in zip(tunings, badness.astype(np.float32), strict=True):
        choice = np.argmin(values, axis=0)
        tuning.fraction[voxels] = np.asarray(fractions)[choice]
        tuning.fraction_badness[voxels] = values.T
        strength = strengths[choice, np.arange(len(choice))]
        yield algebra.xp.concatenate(
            [
                each @ (part * (share / (share + strength)))
                for each, share, part in zip(vectors, shares, rotated, strict=True)
            ]
        )


def judge_fractions(
    factor: RidgeFactor, judges: RunJudges, rotated: Array, strengths: Array
) -> FloatArray:
    """Return what a run adds to the badness, (n_judges, n_fractions, n_block_voxels).

    Parameters
    ----------
    factor, judges
        Of the run.
    rotated
        Its unregularised coefficients, (n_singular, n_block_voxels), on the device.
    strengths
        Penalties, (n_fractions, n_block_voxels), float32 on the device.
    """
    algebra, xp = judges.algebra, judges.algebra.xp
    share = algebra.single(factor.squares[:, None])
    # one row more takes the centre of the judges off within the same product
    vectors = algebra.single(np.pad(factor.vectors, [(0, 0), (0, 1)], constant_values=-1))
    # several fractions of a narrow block at once: few columns cost as much as many
    n = max(1, algebra.columns // rotated.shape[1])
    tiles = xp.stack([xp.concatenate([rotated, judges.centre[None]])] * min(n, len(strengths)))
    scaled = rotated * share
    found = []
    for first in range(0, len(strengths), n):
        some = strengths[first : first + n, None]
        shrunk = tiles[: len(some)]
        xp.add(share, some, out=shrunk[:, :-1])
        xp.divide(scaled, shrunk[:, :-1], out=shrunk[:, :-1])
        found.append(judges.of(vectors @ shrunk))
    return to_host(algebra.double(xp.concatenate(found))).swapaxes(0, 1)
