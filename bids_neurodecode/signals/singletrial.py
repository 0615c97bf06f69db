"""Single-trial betas: GLMsingle's models, with tuning that can leave test trials out.

Prince et al. 2022 (doi:10.7554/eLife.77599). Model B gives each voxel the response of a library
that fits it best; C regresses out time courses shared by a pool of noise voxels; D shrinks each
voxel's betas by fractional ridge. C and D are tuned by how well repeats of a condition predict
each other, so they look at which stimulus was shown: for decoding, that has to be done on
training trials alone, which is what ``tuning_sets`` are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import DataError
from bids_neurodecode.signals import noisepool
from bids_neurodecode.signals.badness import Repeats, find_repeats
from bids_neurodecode.signals.hrf import assumed_hrf, hrf_library
from bids_neurodecode.signals.reliability import ncsnr
from bids_neurodecode.signals.trialdesign import TrialDesign, build_design
from bids_neurodecode.signals.trialfits import clean_components, factorize
from bids_neurodecode.signals.trialpasses import (
    CHUNK_BYTES,
    Denoiser,
    Responses,
    Tuning,
    Work,
    collect_gram,
    fit_responses,
    judge_components,
    write_betas,
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

__all__ = ['SingleTrialBetas', 'SingleTrialOptions', 'TunedBetas', 'estimate_single_trials']

Allocate = Callable[[str, tuple[int, int]], Float32Array]
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
    series: Sequence[npt.NDArray[Any]],
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
) -> SingleTrialBetas:
    """Estimate a beta for each trial and voxel.

    Parameters
    ----------
    series
        BOLD of each run in its own units and not detrended, (n_volumes_r, n_voxels); may be
        memory-mapped, is read in chunks of voxels, and is never changed.
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
        Called with the chunks done and all chunks.
    allocate
        Makes the arrays of betas from a name and a shape, such as memory-mapped ones; must be
        writable. In memory if left out.

    Returns
    -------
    SingleTrialBetas

    Raises
    ------
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
    if inner_sets and set(options.models) != set(EVERY_MODEL):
        raise DataError(INNER_NEED_ALL.format(found=', '.join(options.models)))
    repeats = _all_repeats(design, [*tuning_sets, *inner_sets], options)
    make = allocate or _in_memory
    work = _prepare(series, design, stimulus_duration, options, progress)
    plain = _filled(make, 'B', work) if 'B' in options.models else None
    found = fit_responses(work, assumed_hrf(repetition_time, stimulus_duration), plain)
    if not found.usable.any():
        raise DataError(NO_VOXELS.format(n=work.n_voxels))
    threshold, notes = noisepool.onoff_threshold(found.onoff_rsquared)
    pool = found.usable & noisepool.noise_pool(found.mean_volume, found.onoff_rsquared, threshold)
    notes = (*design.warnings(), *_unusable(found), *notes)
    tunings: list[Tuning] = []
    if options.denoises:
        denoiser, n_components, more = _find_components(work, found, pool, options)
        notes = (*notes, *more)
        curves = _judge(work, found, denoiser, n_components, repeats, threshold, options)
        whole = 1 + len(tuning_sets)
        tunings = _tunings(work, make, repeats[:whole], curves, n_components, options)
        for number, (mask, curve) in enumerate(zip(inner_sets, curves[whole:], strict=True)):
            assert plain is not None  # all models are asked for
            voxels = _agreeing_voxels(plain[mask], design.condition[mask], options.inner_voxels)
            tunings.append(
                _inner_tuning(
                    work,
                    make,
                    number,
                    repeats[whole + number],
                    curve,
                    voxels,
                    n_components,
                    options,
                )
            )
        write_betas(work, found, denoiser, tunings, options.tried_fractions)
    return _collect(
        found, threshold, pool, plain, tunings, notes, options, n_inner=len(inner_sets)
    )


def _all_repeats(
    design: TrialDesign, tuning_sets: Sequence[BoolArray], options: SingleTrialOptions
) -> list[Repeats | None]:
    """Return the repeats among all trials, then those of each tuning set; None if not needed."""
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


def _prepare(
    series: Sequence[npt.NDArray[Any]],
    design: TrialDesign,
    stimulus_duration: float,
    options: SingleTrialOptions,
    progress: Callable[[int, int], None] | None,
) -> Work:
    library = hrf_library(design.repetition_time, stimulus_duration)
    n_voxels = series[0].shape[1]
    # a voxel's series three times over (as read, cleaned, grouped), and some sets of betas
    per_voxel = 4 * (3 * sum(design.n_volumes) + 8 * design.n_trials)
    chunk_voxels = options.chunk_voxels or max(64, CHUNK_BYTES // per_voxel)
    n_passes = 1
    if options.denoises:
        n_passes += 2 + (options.n_components is None)
    return Work(
        series=series,
        design=design,
        factors=[factorize(design, response) for response in library.T],
        chunk_voxels=chunk_voxels,
        tick=_counter(n_passes * -(-n_voxels // chunk_voxels), progress),
    )


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick


def _find_components(
    work: Work, found: Responses, pool: BoolArray, options: SingleTrialOptions
) -> tuple[Denoiser, int, tuple[str, ...]]:
    """Return the noise components, how many there may be, and what to say of it."""
    design = work.design
    asked = options.max_components if options.n_components is None else options.n_components
    grams = collect_gram(work, found.usable, pool)
    components = clean_components(
        design, [noisepool.noise_components(gram, asked) for gram in grams]
    )
    # one volume of each run has to stay free, or the fit would be exact
    free = [
        len(nuisance) - nuisance.shape[1] - len(onsets) - 1
        for nuisance, onsets in zip(design.nuisance, design.onset_volumes, strict=True)
    ]
    possible = min(asked, *free, *(each.shape[1] for each in components))
    n_pool = int(pool.sum())
    if options.n_components is not None and possible < asked:
        raise DataError(TOO_FEW_COMPONENTS.format(asked=asked, found=possible, pool=n_pool))
    notes: tuple[str, ...] = ()
    if possible < asked:
        notes = (FEWER_COMPONENTS.format(found=possible, asked=asked, pool=n_pool),)
    trimmed = [each[:, :possible] for each in components]
    return Denoiser(work.factors, trimmed), possible, notes


def _judge(
    work: Work,
    found: Responses,
    denoiser: Denoiser,
    n_components: int,
    repeats: Sequence[Repeats | None],
    threshold: float,
    options: SingleTrialOptions,
) -> list[Curve | None]:
    """Return curve and badness of each set of trials; None where the number is fixed."""
    given = [each for each in repeats if each is not None]
    if options.n_components is not None or not given:
        return [None] * len(repeats)
    judges = noisepool.judging_voxels(found.onoff_rsquared, threshold) & found.usable
    badness = judge_components(work, found, denoiser, n_components, given)
    return [(noisepool.component_curve(each, judges), each) for each in badness]


def _tunings(
    work: Work,
    make: Allocate,
    repeats: Sequence[Repeats | None],
    curves: Sequence[Curve | None],
    n_components: int,
    options: SingleTrialOptions,
) -> list[Tuning]:
    """Choose the number of components of each set of trials, and make room for its betas."""
    shared: dict[int, Float32Array] = {}
    tunings = []
    for number, (each, curve) in enumerate(zip(repeats, curves, strict=False)):
        k = noisepool.choose_components(curve[0]) if curve is not None else n_components
        betas: dict[Model, Float32Array] = {}
        if 'C' in options.models:
            if k not in shared:
                shared[k] = _filled(make, f'C_components-{k}', work)
            betas['C'] = shared[k]
        if 'D' in options.models:
            betas['D'] = _filled(make, 'D' if number == 0 else f'D_tuned-{number - 1}', work)
        n_fractions = len(options.tried_fractions)
        nan = np.full((work.n_voxels, n_fractions), np.nan, dtype=np.float32)
        tunings.append(
            Tuning(
                repeats=each,
                n_components=k,
                component_curve=curve[0] if curve is not None else None,
                component_badness=curve[1] if curve is not None else None,
                fraction=nan[:, 0].copy(),
                fraction_badness=nan,
                betas=betas,
                rsquared={model: nan[:, 0].copy() for model in betas},
            )
        )
    return tunings


def _inner_tuning(
    work: Work,
    make: Allocate,
    number: int,
    repeats: Repeats | None,
    curve: Curve | None,
    voxels: IndexArray,
    n_components: int,
    options: SingleTrialOptions,
) -> Tuning:
    """Choose the number of components of an inner set, and make room for betas of its voxels."""
    shape = work.design.n_trials, len(voxels)
    betas: dict[Model, Float32Array] = {}
    for model in ('C', 'D'):
        betas[model] = make(f'{model}_inner-{number}', shape)
        betas[model].fill(np.nan)
    nan = np.full((len(voxels), len(options.tried_fractions)), np.nan, dtype=np.float32)
    return Tuning(
        repeats=repeats,
        n_components=noisepool.choose_components(curve[0]) if curve is not None else n_components,
        component_curve=None,
        component_badness=None,
        fraction=nan[:, 0].copy(),
        fraction_badness=nan,
        betas=betas,
        rsquared={},
        voxels=voxels,
    )


def _agreeing_voxels(betas: Float32Array, condition: IndexArray, n_voxels: int) -> IndexArray:
    """Return the voxels whose repeats agree best, rising, (n_voxels,) or fewer."""
    usable = np.flatnonzero(np.isfinite(betas).all(axis=0))
    if len(usable) > n_voxels:
        ratio = ncsnr(betas[:, usable], condition)
        usable = usable[np.argsort(-ratio, kind='stable')[:n_voxels]]
    return np.sort(usable)


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


def _in_memory(_: str, shape: tuple[int, int]) -> Float32Array:
    return np.empty(shape, dtype=np.float32)


def _filled(make: Allocate, name: str, work: Work) -> Float32Array:
    values = make(name, (work.design.n_trials, work.n_voxels))
    values.fill(np.nan)
    return values
