"""Load, estimate single-trial betas, save: the files of the betas node."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.bids.records import ParticipantInput, RunInput
from bids_neurodecode.config import BetaSettings, Config
from bids_neurodecode.report.results import BetaResults
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.signals.preparing import PreparedRuns, prepare_series
from bids_neurodecode.signals.trialtypes import SingleTrialBetas, SingleTrialOptions, TunedBetas
from bids_neurodecode.systems.steps.plan import Plan
from bids_neurodecode.systems.steps.records import BetaFacts
from bids_neurodecode.typing import BoolArray
from bids_neurodecode.workflow.files import load_series, save_map
from bids_neurodecode.workflow.resources import GB, HELD_GB
from bids_neurodecode.workflow.step import Apart, Inputs, step

if TYPE_CHECKING:
    from bids_neurodecode.signals.modelchoice import InnerFold
    from bids_neurodecode.signals.trialpasses import Share
    from bids_neurodecode.systems.voxels import Estimates

Model = Literal['B', 'C', 'D']
JOINED_BYTES = 2**24
APART = Apart(
    'estimation of single-trial betas', 'give the run more memory, or a mask of fewer voxels'
)

START = (
    'The series were moved to {start:g} s after the start of each volume (StartTime); onsets are '
    'counted from there.'
)
EARLY = '{n} trial(s) start before the first volume and were moved to it.'
NO_REPEATS = (
    'No stimulus is repeated over runs in the training trials of every fold, so the betas are of '
    'model B: noise components and fractions of ridge cannot be chosen.'
)
FEW_RUNS = (
    'There are too few runs with repeats in the training trials of some fold to compare models of '
    'the betas within them (groups of runs are held out in turn), so the betas are of model B.'
)
NOT_COMPARED = (
    'The package glmsingle cannot leave trials out of its tuning, so the models of the betas were '
    'not compared: they are of model D, as the package recommends.'
)
CHOSEN = (
    'The model of the betas was chosen by how well it identifies the stimuli of runs that are '
    'held out within training trials. {folds}For the final model and the betas that are written, '
    'chosen in the same way on all trials: {final} ({scores} of pairs identified).'
)
TUNED_ON_ALL = (
    'Noise components and fractions of ridge were chosen with repeats of all trials, held-out '
    'ones among them (betas.tuning = "all", or the engine "glmsingle"): scores may be optimistic.'
)


@dataclass(frozen=True, kw_only=True)
class Estimated(Inputs):
    """What betas are estimated from, whole or a share of one of the passes.

    Parameters
    ----------
    participant, config, mask, plan
        Whose data; the settings; voxels of the analysis; trials or samples, and what of them is
        held out.
    device
        Where the engine multiplies: ``cpu`` or ``cuda``.
    folder, checkpoints
        That is written into, and where a killed run goes on from.
    left
        Files of all shares of the passes before, where the estimation was cut into these.
    """

    participant: ParticipantInput
    config: Config
    mask: VoxelMask
    plan: Plan
    device: str
    folder: Path
    checkpoints: Path
    left: list[Path] | None = None

    @property
    def duration(self) -> float:
        """Seconds that a stimulus is shown."""
        duration = self.plan.stimulus_duration
        assert duration is not None, 'only precomputed trials have no duration'
        return duration

    def arrays(self) -> _Arrays:
        """Return the engine's arrays."""
        return _Arrays(self.checkpoints, len(self.plan.table), self.left or ())


@step(
    'betas',
    seconds=11,
    makes=('betas', 'tuned', 'beta_maps'),
    many=('tuned', 'beta_maps'),
    records={'beta_info': BetaFacts},
    settings=('betas', 'clean'),
    threads=2,
    memory=lambda size: (
        0.1 + min(1.0, 5 * size.series_gb) + min(size.series_gb, HELD_GB) + 3 * size.run_gb
    ),
    apart=APART,
)
def betas(series: Estimated) -> Mapping[str, object]:
    """Single-trial betas, (n_trials, n_voxels), and those tuned on each fold's training trials.

    The engine's arrays lie in ``checkpoints`` while it runs, and a killed run goes on from them.

    Parameters
    ----------
    series
        What they are estimated from.
    """
    participant, settings, mask = series.participant, series.config.betas, series.mask
    if participant.betas is not None:
        from bids_neurodecode.systems.steps.precomputed import take_precomputed

        return take_precomputed(participant, settings, mask, series.folder)
    from bids_neurodecode.signals.hrf import time_to_peak
    from bids_neurodecode.signals.modelchoice import best_model

    fit = _what_to_fit(settings, series.plan)
    model, notes, folds, training, able = fit.model, fit.notes, fit.folds, fit.training, fit.able
    table = series.plan.table
    prepared = prepare_runs(participant, settings, mask, table, known=bool(series.left))
    whole = _run_engine(series, prepared, fit, series.arrays())
    assert whole is not None, 'all of it was asked for'
    scores: list[dict[Model, float]] = []
    chosen = [model] * len(fit.fits) if model != 'auto' else []
    if model == 'auto':
        scores = _compare(whole, table['stimulus'].to_numpy(), folds)
        chosen = [best_model(each) for each in scores]
        notes = (*notes, _say_choice(chosen, scores[0]))
    on_all = bool(training) and not able and set(chosen) != {'B'}
    notes = (*notes, TUNED_ON_ALL) if on_all else notes
    # a fit of model B has no components
    fitted: list[SingleTrialBetas | TunedBetas] = [whole, *whole.tuned]
    found = [fit for fit, used in zip(fitted, chosen, strict=False) if used != 'B']
    curves = [fit.component_curve for fit in found if fit.component_curve is not None]
    results = BetaResults(
        chosen[0],
        settings.engine,
        'all' if on_all or (not training and chosen[0] != 'B') else 'training',
        tuple(fit.n_components for fit in found if fit.n_components is not None),
        tuple(tuple((curve - curve[0]).tolist()) for curve in curves),
        int(whole.noise_pool.sum()),
        whole.onoff_threshold,
        tuple(time_to_peak(series.duration).tolist()),
        tuple(chosen[1:]),
        tuple({model: each[model] for model in each} for each in scores),
    )
    files = {
        **_save_betas(whole, chosen, series.folder, prepared.unit),
        'beta_maps': _save_maps(whole, chosen[0], mask, series.folder),
        'beta_info': BetaFacts(
            results=results,
            units=prepared.units,
            repetition_time=prepared.repetition_time,
            warnings=(*notes, *prepared.warnings, *whole.warnings),
        ),
    }
    shutil.rmtree(series.checkpoints, ignore_errors=True)
    return files


@step(
    'betas_part',
    makes=('left',),
    many=('left',),
    settings=('betas', 'clean'),
    threads=2,
    memory=betas.memory,
    apart=APART,
)
def part_of_betas(series: Estimated, share: dict[str, int]) -> Mapping[str, object]:
    """Do a share of one of the passes over the data that betas need; leave the engine's arrays.

    Parameters
    ----------
    series
        What they are estimated from.
    share
        The pass (``stage``), which share (``number``), and how many there are (``of``).
    """
    from bids_neurodecode.signals.trialpasses import Share

    settings, table, arrays = series.config.betas, series.plan.table, series.arrays()
    prepared = prepare_runs(series.participant, settings, series.mask, table, known=True)
    _run_engine(series, prepared, _what_to_fit(settings, series.plan), arrays, Share(**share))
    files = []
    for source in arrays.made:
        files.append(series.folder / source.name)
        _link(source, files[-1])
    shutil.rmtree(series.checkpoints, ignore_errors=True)
    return {'left': files}


class _Arrays:
    """The engine's arrays as files: those of a killed run, or joined of what shares left."""

    def __init__(self, folder: Path, n_trials: int, left: Sequence[Path]) -> None:
        self._folder, self._n_trials = folder, n_trials
        self._left: dict[str, list[Path]] = {}
        for file in left:
            self._left.setdefault(file.name, []).append(file)
        self.made: list[Path] = []

    def __call__(
        self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32, /
    ) -> npt.NDArray[Any]:
        file = self._folder / f'{name}.npy'
        several = self._left.get(file.name, [])
        if len(several) == 1:
            return np.lib.format.open_memmap(several[0], 'c')
        file.parent.mkdir(parents=True, exist_ok=True)
        if several:
            return self._joined(several, file.with_suffix('.joined.npy'))
        self.made.append(file)
        if file.exists():
            return np.lib.format.open_memmap(file, 'r+')
        # betas are written by voxels: all trials of one lie beside each other
        by_voxel = shape[0] == self._n_trials
        return np.lib.format.open_memmap(file, 'w+', dtype, shape, fortran_order=by_voxel)

    @staticmethod
    def _joined(files: Sequence[Path], file: Path) -> npt.NDArray[Any]:
        """Join what shares left: what one has written are zero bytes in the others' files."""
        part = file.with_suffix('.part')
        shutil.copyfile(files[0], part)
        whole = np.memmap(part, np.uint8, 'r+')
        for each in files[1:]:
            more = np.memmap(each, np.uint8, 'r')
            for start in range(0, len(whole), JOINED_BYTES):
                whole[start : start + JOINED_BYTES] |= more[start : start + JOINED_BYTES]
        whole.flush()
        part.replace(file)
        return np.lib.format.open_memmap(file, 'r+')


@dataclass(frozen=True, eq=False)
class _Fit:
    """Which models are fitted, on which trials, and what is to be said of it."""

    model: Model | Literal['auto']
    notes: tuple[str, ...]
    folds: list[tuple[InnerFold, ...]]
    fits: list[BoolArray]
    training: list[BoolArray]
    able: bool


def _what_to_fit(settings: BetaSettings, plan: Plan) -> _Fit:
    table, split = plan.table, plan.split
    training = [training_trials(fold.train, fold.validation, len(table)) for fold in split]
    # the reference package cannot leave trials out of its tuning
    able = settings.engine == 'native' and settings.tuning == 'training'
    fits = [np.ones(len(table), dtype=bool), *(training if able else [])]
    model, notes = resolve_model(settings, table, training)
    folds = inner_folds_of(fits, table) if model == 'auto' else []
    if model == 'auto' and not all(folds):
        model, notes, folds = 'B', (FEW_RUNS,), []
    return _Fit(model, notes, folds, fits, training, able)


def trial_samples(
    betas: npt.NDArray[np.float32],
    tuned: Sequence[npt.NDArray[np.float32]],
    mask: VoxelMask,
    plan: Plan,
    settings: BetaSettings,
    folder: Path,
) -> Estimates:
    """Return the trials as models take them, and those of each fold.

    Parameters
    ----------
    betas, tuned
        Shape (n_trials, n_voxels): for the final model, and for each fold (or one for all).
    mask, plan
        Voxels and trials, and what of these is held out.
    settings
        With ``standardize = "training"`` the sessions are joined by the training trials of each
        fold; for the final model, of all.
    folder
        Where joined betas are kept.
    """
    from bids_neurodecode.systems.voxels import Estimates

    table, split = plan.table, plan.split
    warnings: tuple[str, ...] = ()
    sessions = table['session'].astype(str).to_numpy()
    if settings.standardize == 'training' and len(set(sessions)) > 1:
        from bids_neurodecode.signals.gathering import UNSEEN_SESSIONS, join_sessions

        given = [(betas, np.arange(len(table)))]
        given += [(tuned[min(k, len(tuned) - 1)], fold.train) for k, fold in enumerate(split)]
        joined, unseen = [], list[str]()
        for number, (values, train) in enumerate(given):
            file = folder / f'joined-{number:03d}.npy'
            out = np.lib.format.open_memmap(file, 'w+', np.float32, values.shape)
            unseen += join_sessions(values, sessions, train, out=out)
            out.flush()
            joined.append(np.load(file, mmap_mode='c'))
        betas, *tuned = joined
        if unseen:
            labels = ', '.join(dict.fromkeys(unseen))
            warnings = (UNSEEN_SESSIONS.format(sessions=labels),)
    every, *folds = (Samples(Responses(each, mask), table) for each in (betas, *tuned))
    return Estimates(every, split, folds, notes=warnings)


def training_trials(
    train: npt.NDArray[np.intp], validation: npt.NDArray[np.intp], n_trials: int
) -> BoolArray:
    """Return which trials a fold may learn from.

    Parameters
    ----------
    train, validation
        Row numbers.
    n_trials
        How many there are.
    """
    chosen = np.zeros(n_trials, dtype=bool)
    chosen[train] = True
    chosen[validation] = True
    return chosen


def resolve_model(
    settings: BetaSettings, table: pd.DataFrame, training: Sequence[BoolArray]
) -> tuple[Model | Literal['auto'], tuple[str, ...]]:
    """Return the model of the betas, or that it has to be chosen, and what to say of it.

    Parameters
    ----------
    settings
        Of ``betas``.
    table
        One row per sample.
    training
        Which trials each fold may learn from, (n_trials,) each.
    """
    if settings.model != 'auto':
        return settings.model, ()
    everything = [np.ones(len(table), dtype=bool)]
    sets = training if settings.tuning == 'training' and training else everything
    if not all(repeats_over_runs(table[chosen]) for chosen in sets):
        return 'B', (NO_REPEATS,)
    if settings.engine == 'glmsingle':
        return 'D', (NOT_COMPARED,)
    return 'auto', ()


def inner_folds_of(fits: Sequence[BoolArray], table: pd.DataFrame) -> list[tuple[InnerFold, ...]]:
    """Return the runs that are held out in turn within each set of training trials.

    Parameters
    ----------
    fits
        Which trials each fit may learn from, (n_trials,) each.
    table
        One row per trial.
    """
    from bids_neurodecode.signals.modelchoice import inner_folds

    stimulus, run = table['stimulus'].to_numpy(), table['run'].to_numpy()
    return [inner_folds(each, stimulus, run) for each in fits]


def _compare(
    betas: SingleTrialBetas,
    stimulus: npt.NDArray[Any],
    folds: Sequence[tuple[InnerFold, ...]],
) -> list[dict[Model, float]]:
    """Return what each model identifies within each set of training trials."""
    from bids_neurodecode.signals.modelchoice import compare_models

    ends = np.cumsum([len(inner) for inner in folds])
    return [
        compare_models(betas.inner[end - len(inner) : end], stimulus, inner)
        for inner, end in zip(folds, ends, strict=True)
    ]


def _say_choice(chosen: Sequence[Model], scores: Mapping[Model, float]) -> str:
    counts = {model: list(chosen[1:]).count(model) for model in sorted(set(chosen[1:]))}
    one = len(chosen) == 2
    folds = ', '.join(f'{model}' if one else f'{model} in {n}' for model, n in counts.items())
    folds = f'For the scores: {folds}{"" if one else f" of {len(chosen) - 1} folds"}. '
    return CHOSEN.format(
        folds=folds if counts else '',
        final=chosen[0],
        scores=', '.join(f'{model} {score:.1%}' for model, score in scores.items()),
    )


def repeats_over_runs(table: pd.DataFrame) -> bool:
    """Return whether some stimulus is shown in more than one run."""
    return bool((table.groupby('stimulus')['run'].nunique() > 1).any())


def prepare_runs(
    participant: ParticipantInput,
    settings: BetaSettings,
    mask: VoxelMask,
    table: pd.DataFrame,
    *,
    known: bool = False,
) -> PreparedRuns:
    """Put series on a grid that holds all onsets, and onsets on that grid.

    Series of more than 1 GiB are not held but read again from their files.

    Parameters
    ----------
    participant
        Whose data.
    settings
        Of ``betas``.
    mask
        Voxels of the analysis.
    table
        One row per trial.
    known
        Take the lengths of the runs from their headers, and read each when it is asked for.

    Raises
    ------
    DataError
        If onsets are off the grid and the settings do not allow another one; it says by how much.
    """
    onsets, warnings = onsets_in_series(participant.runs, table)
    size = 4 * mask.n_voxels * sum(run.n_volumes for run in participant.runs)
    prepared = prepare_series(
        [partial(load_series, run, mask) for run in participant.runs],
        [run.bold for run in participant.runs],
        onsets,
        participant.runs[0].repetition_time,
        resample=settings.off_grid == 'resample',
        held=size <= HELD_GB * GB and not known,
        n_volumes=[run.n_volumes for run in participant.runs] if known else None,
    )
    return replace(prepared, warnings=(*warnings, *prepared.warnings))


def onsets_in_series(
    runs: Sequence[RunInput], table: pd.DataFrame
) -> tuple[list[npt.NDArray[np.float64]], tuple[str, ...]]:
    """Return the onsets of each run in seconds from the moment of its first volume.

    That moment is the ``StartTime`` of the series. A trial before it is moved to it, and said.

    Parameters
    ----------
    runs
        Files and facts of the runs.
    table
        One row per trial.
    """
    onsets = []
    early = 0
    for number, run in enumerate(runs):
        times = table.loc[table['run'] == number, 'onset'].to_numpy(dtype=float) - run.start_time
        early += int((times < 0).sum())
        onsets.append(np.maximum(times, 0.0))
    starts = {run.start_time for run in runs} - {0.0}
    if not starts:
        return onsets, ()
    warnings = [START.format(start=max(starts))]
    if early:
        warnings.append(EARLY.format(n=early))
    return onsets, tuple(warnings)


def _run_engine(
    series: Estimated,
    prepared: PreparedRuns,
    fit: _Fit,
    allocate: _Arrays,
    share: Share | None = None,
) -> SingleTrialBetas | None:
    """Estimate all, or do a share of a pass."""
    from bids_neurodecode.signals.singletrial import estimate_single_trials

    participant, config, table = series.participant, series.config, series.plan.table
    options = SingleTrialOptions(
        models=('B', 'C', 'D') if fit.model == 'auto' else (fit.model,),
        n_components=config.betas.n_components,
        fraction=config.betas.fraction,
    )
    by_run = [table[table['run'] == number] for number in range(len(participant.runs))]
    common: dict[str, Any] = {
        'sessions': [run.entities.get('ses', '1') for run in participant.runs],
        'extra_regressors': _confounds(participant, config, prepared),
        'options': options,
    }
    inputs = (
        prepared.series,
        prepared.onset_volumes,
        [rows['stimulus'].to_numpy() for rows in by_run],
        prepared.repetition_time,
        series.duration,
    )
    if config.betas.engine == 'glmsingle':
        from bids_neurodecode.signals.glmsingle import estimate_with_glmsingle

        return estimate_with_glmsingle(*inputs, **common)

    common |= {
        'tuning_sets': fit.fits[1:] if fit.model != 'B' else [],
        'inner_sets': [fold.train for inner in fit.folds for fold in inner],
        'allocate': allocate,
        'device': 'cuda' if series.device == 'cuda' else 'cpu',
    }
    return estimate_single_trials(*inputs, **common, share=share)


def _confounds(
    participant: ParticipantInput, config: Config, prepared: PreparedRuns
) -> list[npt.NDArray[np.float64]] | None:
    """Return the confounds of each run on the grid of the series, if any are asked for."""
    from bids_neurodecode.signals.confounds import load_confounds
    from bids_neurodecode.signals.timing import resample_series

    if not (config.clean.strategy or config.clean.columns):
        return None
    regressors = []
    for run in participant.runs:
        values: npt.NDArray[Any] = load_confounds(
            run.confounds, run.n_volumes, config.clean.strategy, config.clean.columns, run.label
        ).with_spikes()
        if prepared.repetition_time != run.repetition_time:
            values = resample_series(values, run.repetition_time, prepared.repetition_time)
        regressors.append(np.asarray(values, dtype=np.float64))
    return regressors


def _save_betas(
    betas: SingleTrialBetas, chosen: Sequence[Model], folder: Path, unit: float
) -> dict[str, Any]:
    """Keep each fit's betas, times ``unit``, as files; folds with the same betas share one."""
    files: dict[int, Path] = {}

    def keep(values: npt.NDArray[np.float32]) -> Path:
        if id(values) not in files:
            file = folder / f'betas-{len(files):03d}.npy'
            if unit == 1 and isinstance(values, np.memmap) and values.filename is not None:
                values.flush()
                _link(Path(values.filename), file)
            else:
                by_voxel = not values.flags.c_contiguous
                made = np.lib.format.open_memmap(
                    file, 'w+', np.float32, values.shape, fortran_order=by_voxel
                )
                np.multiply(values, np.float32(unit), out=made)
            files[id(values)] = file
        return files[id(values)]

    main = keep(betas.betas[chosen[0]])
    tuned = [
        keep(betas.betas['B'] if model == 'B' else fit.betas[model])
        for model, fit in zip_longest(chosen[1:], betas.tuned)
    ]
    return {'betas': main, 'tuned': tuned if set(tuned) - {main} else [main]}


def _link(source: Path, file: Path) -> None:
    """Give a file another name, as a killed run may go on from the one that it has."""
    file.unlink(missing_ok=True)
    try:
        file.hardlink_to(source)
    except OSError:
        # a file system without links
        shutil.copyfile(source, file)


def _save_maps(betas: SingleTrialBetas, model: Model, mask: VoxelMask, folder: Path) -> list[Path]:
    maps = {'hrfindex': betas.hrf_index, 'rsquared': betas.rsquared[model]}
    if model == 'D' and betas.fraction is not None:
        maps['fracridge'] = betas.fraction
    return [
        save_map(folder / f'{name}.nii.gz', mask, np.nan_to_num(np.asarray(values, np.float32)))
        for name, values in maps.items()
    ]
