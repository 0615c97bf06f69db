"""Single-trial betas: GLMsingle's models, with tuning that can leave test trials out.

Prince et al. 2022 (doi:10.7554/eLife.77599). Model B gives each voxel the response of a library
that fits it best; C regresses out time courses shared by a pool of noise voxels; D shrinks each
voxel's betas by fractional ridge. C and D are tuned by how well repeats of a condition predict
each other, so they look at which stimulus was shown: for decoding, that has to be done on
training trials alone, which is what ``tuning_sets`` are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.algebra import Device, algebra_of
from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import noisepool
from bids_neurodecode.signals.badness import Repeats, find_repeats
from bids_neurodecode.signals.hrf import assumed_hrf, hrf_library
from bids_neurodecode.signals.trialbetas import Judged, Tuning, judge_components, write_betas
from bids_neurodecode.signals.trialdesign import RunSeries, TrialDesign, build_design
from bids_neurodecode.signals.trialpasses import (
    BLOCK_BYTES,
    Allocate,
    Coordinates,
    Denoiser,
    Responses,
    Share,
    Work,
    fit_responses,
    make_blocks,
    project_runs,
)
from bids_neurodecode.signals.trialtypes import (
    NO_VOXELS,
    UNUSABLE,
    InnerBetas,
    Model,
    SingleTrialBetas,
    SingleTrialOptions,
    TunedBetas,
)
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray, IndexArray

Curve = tuple[FloatArray, Float32Array]

EVERY_MODEL: tuple[Model, ...] = ('B', 'C', 'D')
INNER_NEED_ALL = 'Inner sets compare the models B, C and D; ask for all three, not for {found}.'

BAD_MASK = (
    'Tuning set {number} must be true or false for each of the {n_trials} trials; it is an array '
    'of {dtype} of shape {shape}.'
)
TOO_FEW_COMPONENTS = (
    '{asked} noise components were asked for but the data allow {found} (noise pool of {pool} '
    'voxels). Set betas.n_components to {found} or less.'
)
FEWER_COMPONENTS = (
    'Only up to {found} noise components were tried, not {asked}: the noise pool of {pool} voxels '
    'and the free volumes of the shortest run allow no more.'
)


def estimate_single_trials(
    series: Sequence[RunSeries],
    onset_volumes: Sequence[npt.ArrayLike],
    conditions: Sequence[Sequence[Any] | npt.NDArray[Any]],
    repetition_time: float,
    stimulus_duration: float,
    *,
    sessions: Sequence[Any] | None = None,
    extra_regressors: Sequence[npt.NDArray[Any] | None] | None = None,
    tuning_sets: Sequence[BoolArray] = (),
    inner_sets: Sequence[BoolArray] = (),
    options: SingleTrialOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    allocate: Allocate | None = None,
    device: Device | Literal['torch'] = 'cpu',
    share: Share | None = None,
) -> SingleTrialBetas | None:
    """Estimate a beta for each trial and voxel.

    Parameters
    ----------
    series
        BOLD of each run in its own units and not detrended, (n_volumes_r, n_voxels); may be
        memory-mapped or read when it is asked for (``numpy.asarray``, twice), and is never
        changed.
    onset_volumes
        Volume at which each trial starts, one array of integers a run
        (:func:`~bids_neurodecode.signals.timing.onsets_to_volumes`).
    conditions
        Label of each trial, one sequence a run; equal labels are repeats.
    repetition_time, stimulus_duration
        Seconds.
    sessions
        Label of each run; betas are z-scored by session when components and fractions are chosen.
    extra_regressors
        Confounds of each run, (n_volumes_r, n_columns), or None.
    tuning_sets
        Masks over trials (all runs, in order), such as the training trials of each fold: number
        of components and fractions are chosen again from these trials alone. Response, noise
        pool and ON-OFF threshold know nothing of stimuli and are shared.
    inner_sets
        Further such masks, within the training trials of a fold: betas of few voxels are kept,
        by which the models can be compared there (:mod:`~.modelchoice`).
    options
        See :class:`SingleTrialOptions`.
    progress
        Called with the steps done and all steps.
    allocate
        Makes the arrays that are kept from a name, a shape and a type, such as memory-mapped
        ones: of zeros, or, to go on where a killed run stopped, with what that run left in them.
        In memory if left out.
    device
        ``cpu``: NumPy multiplies; ``cuda``: PyTorch, on the GPU, which holds a chunk of a run or a
        block of voxels at a time (as ``options.chunk_voxels`` limits them); ``torch``: PyTorch on
        the processor, to compare with. Designs are factorised by NumPy in any case. What devices
        find differs by rounding.
    share
        A share of one pass that is done alone, where others do the rest at the same time. All
        shares of the passes before it have to be done, and ``allocate`` has to find what they
        made, joined: what a share does not do is zero bytes in what it made, so that arrays of
        one name are joined by "or". With the arrays of all four passes, and no share, nothing
        more is computed, and what is returned is what would have been found alone.

    Returns
    -------
    SingleTrialBetas
        None where a share is done.

    Raises
    ------
    ResourceError
        If the device is not there.
    DataError
        If runs, trials or regressors do not fit together, no voxel is usable, or something has
        to be chosen by repeats and there are none.

    Notes
    -----
    Equal to GLMsingle 1.2 up to rounding, save that extra regressors stay in the model with zero
    noise components (there they are dropped), and that voxels that do not vary in some run are
    left out.
    """
    options = options or SingleTrialOptions()
    design = build_design(
        series,
        onset_volumes,
        conditions,
        repetition_time,
        sessions=sessions,
        extra_regressors=extra_regressors,
    )
    repeats = _all_repeats(design, tuning_sets, inner_sets, options)
    work = Work(
        series=series,
        design=design,
        library=hrf_library(repetition_time, stimulus_duration),
        make=allocate or _in_memory,
        chunk_voxels=options.chunk_voxels,
        tick=_counter(options, design.n_runs, progress),
        algebra=algebra_of(device),
        share=share,
    )
    assumed = assumed_hrf(repetition_time, stimulus_duration)
    return _passes(work, assumed, repeats, inner_sets, options)


def _passes(
    work: Work,
    assumed: FloatArray,
    repeats: Sequence[Repeats | None],
    inner_sets: Sequence[BoolArray],
    options: SingleTrialOptions,
) -> SingleTrialBetas | None:
    """Pass over the series until the betas are there, or the share of work is done: then None."""
    design, found = work.design, fit_responses(work, assumed)
    if work.ends_with(0):
        return None
    if not found.usable.any():
        raise DataError(NO_VOXELS.format(n=work.n_voxels))
    threshold, notes = noisepool.onoff_threshold(found.onoff_rsquared)
    pool = found.usable & noisepool.noise_pool(found.mean_volume, found.onoff_rsquared, threshold)
    asked = options.asked_components
    blocks = make_blocks(found, _block_voxels(design, len(repeats), asked, options))
    coordinates = Coordinates(work, found, asked)
    components = project_runs(work, blocks, pool, coordinates)
    if work.ends_with(1):
        return None
    n_components, more = _possible_components(design, components, pool, options)
    notes = (*design.warnings(), *_unusable(found), *notes, *more)
    data = work, found, coordinates, Denoiser(work, components, asked), blocks
    judging = [each for each in repeats if each] if options.chooses_components else []
    # shares of the last pass need no betas of model B
    with_plain = 'B' in options.models and not work.ends_with(3)
    plain = work.make('B', (design.n_trials, work.n_voxels)) if with_plain else None
    judged = Judged([], np.zeros((0, work.n_voxels), np.float32))
    if judging or plain is not None:
        judged = judge_components(
            *data,
            plain=plain,
            n_components=n_components,
            repeats=judging,
            inner_sets=inner_sets,
        )
    if work.ends_with(2):
        return None
    tunings: list[Tuning] = []
    if options.denoises:
        tunings = _tunings(work, found, judged, repeats, threshold, n_components, options)
        write_betas(*data, tunings=tunings, fractions=options.tried_fractions)
    if work.ends_with(3):
        return None
    return _collect(
        found, threshold, pool, plain, tunings, notes, options, n_inner=len(inner_sets)
    )


def _all_repeats(
    design: TrialDesign,
    tuning_sets: Sequence[BoolArray],
    inner_sets: Sequence[BoolArray],
    options: SingleTrialOptions,
) -> list[Repeats | None]:
    """Return the repeats among all trials, then those of each set; None if not needed."""
    if inner_sets and set(options.models) != set(EVERY_MODEL):
        raise DataError(INNER_NEED_ALL.format(found=', '.join(options.models)))
    tuning_sets = [*tuning_sets, *inner_sets]
    masks: list[BoolArray | None] = [None]
    for number, each in enumerate(tuning_sets):
        mask = np.asarray(each)
        if mask.dtype != bool or mask.shape != (design.n_trials,):
            raise DataError(
                BAD_MASK.format(
                    number=number, n_trials=design.n_trials, dtype=mask.dtype, shape=mask.shape
                )
            )
        masks.append(mask)
    if not options.needs_repeats:
        return [None] * len(masks)
    trials = design.condition, design.run, design.session
    names = ['', *(f' of tuning set {number}' for number in range(len(tuning_sets)))]
    return [
        find_repeats(*trials, mask=mask, where=where)
        for mask, where in zip(masks, names, strict=True)
    ]


def _block_voxels(
    design: TrialDesign, n_sets: int, n_components: int, options: SingleTrialOptions
) -> int:
    """Return how many voxels of all runs are held at once."""
    rows = (1 + design.has_extra) * design.n_trials + n_components * design.n_runs
    # their coordinates twice, betas (plain, with components, rotated, shrunken, in percent, one
    # in the making), and the sums of partners of each set of trials
    per_voxel = 4 * (2 * rows + (6 + n_sets) * design.n_trials)
    return options.chunk_voxels or max(64, BLOCK_BYTES // per_voxel)


def _counter(
    options: SingleTrialOptions, n_runs: int, progress: Callable[[int, int], None] | None
) -> Callable[[float], None]:
    n_passes = 2 + ('B' in options.models or options.chooses_components) + options.denoises
    done, told = 0.0, 0

    def tick(share: float) -> None:
        nonlocal done, told
        done += share
        steps = int(done * n_runs + 1e-6)
        if progress is not None and steps > told:
            told = steps
            progress(told, n_passes * n_runs)

    return tick


def _possible_components(
    design: TrialDesign,
    components: Sequence[FloatArray],
    pool: BoolArray,
    options: SingleTrialOptions,
) -> tuple[int, tuple[str, ...]]:
    """Return how many components there may be, and what to say of it."""
    asked = options.asked_components
    # one volume of each run has to stay free, or the fit would be exact
    free = [
        len(nuisance) - nuisance.shape[1] - len(onsets) - 1
        for nuisance, onsets in zip(design.nuisance, design.onset_volumes, strict=True)
    ]
    possible = min(asked, *free, *(each.shape[1] for each in components))
    n_pool = int(pool.sum())
    if options.n_components is not None and possible < asked:
        raise DataError(TOO_FEW_COMPONENTS.format(asked=asked, found=possible, pool=n_pool))
    if possible < asked:
        return possible, (FEWER_COMPONENTS.format(found=possible, asked=asked, pool=n_pool),)
    return possible, ()


def _tunings(
    work: Work,
    found: Responses,
    judged: Judged,
    repeats: Sequence[Repeats | None],
    threshold: float,
    n_components: int,
    options: SingleTrialOptions,
) -> list[Tuning]:
    """Choose the number of components of each set of trials, and make room for its betas."""
    judges = noisepool.judging_voxels(found.onoff_rsquared, threshold) & found.usable
    curves: list[Curve | None] = [None] * len(repeats)
    for number, badness in enumerate(judged.badness):
        curves[number] = noisepool.component_curve(badness, judges), badness
    shared: dict[int, Float32Array] = {}
    n_whole = len(repeats) - len(judged.agreement)
    tunings = []
    for number, (each, curve) in enumerate(zip(repeats, curves, strict=True)):
        k = noisepool.choose_components(curve[0]) if curve is not None else n_components
        voxels, name = None, ('', f'_tuned-{number - 1}')[number > 0]
        if number >= n_whole:
            agreement = judged.agreement[number - n_whole]
            voxels = _agreeing_voxels(agreement, found.usable, options.inner_voxels)
            name = f'_inner-{number - n_whole}'
        n_voxels = work.n_voxels if voxels is None else len(voxels)
        shape = work.design.n_trials, n_voxels
        betas: dict[Model, Float32Array] = {}
        if 'C' in options.models:
            if voxels is None and k not in shared:
                shared[k] = work.make(f'C_components-{k}', shape)
            betas['C'] = shared[k] if voxels is None else work.make(f'C{name}', shape)
        if 'D' in options.models:
            betas['D'] = work.make(f'D{name}', shape)
        tunings.append(
            Tuning(
                repeats=each,
                n_components=k,
                component_curve=curve[0] if curve is not None else None,
                component_badness=curve[1] if curve is not None else None,
                fraction=work.make(f'fraction{name}', (n_voxels,)),
                fraction_badness=work.make(
                    f'fraction_badness{name}', (n_voxels, len(options.tried_fractions))
                ),
                betas=betas,
                rsquared={
                    model: work.make(f'rsquared-{model}{name}', (n_voxels,)) for model in betas
                },
                voxels=voxels,
            )
        )
    return tunings


def _agreeing_voxels(agreement: Float32Array, usable: BoolArray, n_voxels: int) -> IndexArray:
    """Return the voxels whose repeats agree best, rising, (n_voxels,) or fewer."""
    voxels = np.flatnonzero(usable)
    if len(voxels) > n_voxels:
        voxels = voxels[np.argsort(-agreement[voxels], kind='stable')[:n_voxels]]
    return np.sort(voxels)


def _collect(
    found: Responses,
    threshold: float,
    pool: BoolArray,
    plain: Float32Array | None,
    tunings: Sequence[Tuning],
    notes: tuple[str, ...],
    options: SingleTrialOptions,
    *,
    n_inner: int,
) -> SingleTrialBetas:
    first = tunings[0] if tunings else None
    ridged = first is not None and 'D' in options.models
    betas: dict[Model, Float32Array] = {} if plain is None else {'B': plain}
    return SingleTrialBetas(
        betas={**betas, **(first.betas if first else {})},
        hrf_index=found.hrf_index,
        rsquared={'B': found.rsquared, **(first.rsquared if first else {})},
        usable=found.usable,
        mean_volume=found.mean_volume,
        onoff_rsquared=found.onoff_rsquared,
        onoff_threshold=threshold,
        noise_pool=pool,
        n_components=first.n_components if first else None,
        component_curve=first.component_curve if first else None,
        component_badness=first.component_badness if first else None,
        fraction=first.fraction if first and ridged else None,
        fraction_badness=first.fraction_badness if first and ridged else None,
        warnings=notes,
        tuned=tuple(
            TunedBetas(each.n_components, each.fraction, each.betas, each.component_curve)
            for each in tunings[1 : len(tunings) - n_inner]
        ),
        inner=tuple(_inner(each, plain) for each in tunings[len(tunings) - n_inner :]),
    )


def _inner(tuning: Tuning, plain: Float32Array | None) -> InnerBetas:
    assert tuning.voxels is not None
    assert plain is not None
    return InnerBetas(tuning.voxels, {'B': plain[:, tuning.voxels], **tuning.betas})


def _unusable(found: Responses) -> tuple[str, ...]:
    n_bad = int(np.sum(~found.usable))
    return (UNUSABLE.format(n=n_bad, total=len(found.usable)),) if n_bad else ()


def _in_memory(
    _: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32, /
) -> npt.NDArray[Any]:
    return np.zeros(shape, dtype)
