"""Single-trial betas of one's own data, in a call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.algebra import Device
from bids_neurodecode.api.grids import Grid, Series, grid_of, open_runs, read_run
from bids_neurodecode.api.usage import speaking_of_arguments
from bids_neurodecode.errors import NeurodecodeWarning, UsageError
from bids_neurodecode.samples import Responses, Samples, VoxelMask
from bids_neurodecode.signals.preparing import PreparedRuns, prepare_series
from bids_neurodecode.signals.trialtypes import SingleTrialBetas, SingleTrialOptions
from bids_neurodecode.typing import BoolArray, Float32Array

EVENTS_PER_RUN = 'There are {n} events for {runs} images; give one table per run, in one order.'
NO_COLUMN = (
    'events[{run}] has the columns {columns}, and none called {wanted}. Name the one that says '
    'what was shown: condition="COLUMN".'
)
NO_TIMES = 'events[{run}] lacks the column {column!r} (seconds, as in BIDS).'
NO_TRIAL = 'No row of events[{run}] shows a stimulus: {column!r} is missing in all.'
SEVERAL_DURATIONS = (
    'Trials last from {low:g} to {high:g} s, and single-trial betas need one duration. '
    'Give it: stimulus_duration=SECONDS.'
)
NO_REPETITION_TIME = (
    'The repetition time is not known from the images. Give it: repetition_time=SECONDS.'
)
OTHER_REPETITION_TIME = 'The repetition times of images differ: {found} s. Give one at a time.'
PER_RUN = '{name} has {n} entries for {runs} runs; give one a run.'
ONE_MODEL = (
    'No stimulus is shown in two runs or more, so betas are of model B: noise components and '
    'fractions of ridge are chosen by repeats.'
)
FEW_RUNS = (
    'There are too few runs with repeats to compare models (groups of runs are held out in '
    'turn), so betas are of model B. Give model="D" to have GLMsingle\'s default.'
)
TUNED_ON_ALL = (
    'Noise components and fractions of ridge were chosen with repeats of all trials: before a '
    'decoder is judged on some of them, give training_sets, or model="B".'
)
BAD_CHOICE = '{name} must be one of {choices}; it is {found!r}.'
BAD_PERIOD = 'repetition_time must be a positive number of seconds; it is {found!r}.'
BAD_SET = (
    'training_sets[{number}] must be true or false for each of the {n} trials; it is an array of '
    '{dtype} of shape {shape}.'
)
LONG_AFTER = (
    'Run {run} lasts {length:.0f} s and its last trial ends at {end:.0f} s. Arrays are volumes x '
    'voxels: if these are voxels x volumes, transpose them.'
)
COMPARED = 'Share of pairs of held-out runs identified: {scores}. Model {best} was taken.'
COLUMNS = ('stim_file', 'trial_type', 'stimulus', 'condition')
"""Columns that say what was shown, the first that there is."""
_JITTER = 0.25

Model = Literal['B', 'C', 'D']


@dataclass(frozen=True, eq=False, repr=False)
class Betas:
    """Single-trial betas, and how they came about.

    Parameters
    ----------
    values
        Of the model taken, (n_trials, n_voxels), float32, in :attr:`units`.
    trials
        One row per trial: ``onset`` and ``duration`` (s), ``stimulus``, ``run`` (from 0),
        ``session`` and ``repeat``.
    model
        ``B``, ``C`` or ``D``.
    estimates
        All that the engine found: every model's betas, R2, HRF index, fractions, noise pool.
    units
        Percent signal change, or the series' own where these have no mean.
    training
        For each of ``training_sets``, the betas of all trials tuned on its trials alone.
    notes
        What a reader of the betas should know, one line each.
    """

    values: Float32Array
    trials: pd.DataFrame
    model: Model
    estimates: SingleTrialBetas
    units: str
    training: tuple[Float32Array, ...]
    notes: tuple[str, ...]
    _grid: Grid = field(repr=False)

    @property
    def stimuli(self) -> npt.NDArray[np.str_]:
        """What each trial showed, (n_trials,)."""
        return self.trials['stimulus'].to_numpy(dtype=str)

    @property
    def runs(self) -> npt.NDArray[np.intp]:
        """Run of each trial, from 0, (n_trials,)."""
        return self.trials['run'].to_numpy(dtype=np.intp)

    @property
    def rsquared(self) -> npt.NDArray[np.float32]:
        """Variance explained by the model, percent, (n_voxels,)."""
        return self.estimates.rsquared[self.model]

    def to_image(self, values: npt.ArrayLike | None = None) -> Any:
        """Return an image of the kind that the series were given in.

        Parameters
        ----------
        values
            Shape (n_voxels,) or (n, n_voxels); the betas, one volume a trial, if left out.

        Returns
        -------
        nibabel.Nifti1Image, nibabel.Cifti2Image, nibabel.gifti.GiftiImage or SurfaceImage
            For arrays (x, y, z, n_volumes), an array; for files of a surface, a GIFTI image by
            ``left`` and ``right``; for tables of parcels, a table.

        Raises
        ------
        UsageError
            If the series were two-dimensional arrays, or the values have other voxels.
        """
        return self._grid.image(self.values if values is None else values)

    def to_samples(self) -> Samples:
        """Return betas and trials as the systems of the program take them."""
        volume = self._grid.volume or as_mask(self.values.shape[1])
        return Samples(Responses(self.values, volume), self.trials)

    def __repr__(self) -> str:
        n_trials, n_voxels = self.values.shape
        found = self.estimates.n_components
        parts = '' if self.model == 'B' else f' ({found} noise components)'
        head = f'Betas: {n_trials} trials x {n_voxels} voxels, model {self.model}{parts}, '
        lines = [f'{head}{self.units}', self.trials.head(3).to_string()]
        return '\n'.join([*lines, *(['...'] if n_trials > 3 else []), *self.notes])


def fit_betas(
    images: Any,
    events: Any,
    *,
    mask: Any = None,
    repetition_time: float | None = None,
    stimulus_duration: float | None = None,
    condition: str | None = None,
    confounds: Sequence[Any] | None = None,
    sessions: Sequence[Any] | None = None,
    model: Literal['auto', 'B', 'C', 'D'] = 'auto',
    n_components: int | None = None,
    fraction: float | None = None,
    off_grid: Literal['resample', 'error'] = 'resample',
    start_time: float | None = None,
    training_sets: Sequence[npt.ArrayLike] = (),
    progress: Callable[[int, int], None] | None = None,
    device: Device = 'cpu',
) -> Betas:
    """Estimate a response amplitude for each trial and voxel: GLMsingle's models.

    Parameters
    ----------
    images
        One preprocessed series a run, not detrended: paths (NIfTI, CIFTI, tables of parcels,
        GIFTI of either hemisphere, whose other one is read too), images of
        nibabel or nilearn (also ``SurfaceImage``), or arrays of shape (n_volumes, n_voxels) or
        (x, y, z, n_volumes). All runs are held in memory.
    events
        One table per run: path of a BIDS events file, or ``pandas.DataFrame``, with ``onset`` and
        ``duration`` in seconds and a column that says what was shown. Rows where it is missing
        (``n/a``) are no trials.
    mask
        Path, image, :class:`~bids_neurodecode.samples.VoxelMask` or boolean array. Left out, all
        voxels that are finite and vary in every run.
    repetition_time
        Seconds from volume to volume; that of the header, or of the sidecar beside a file, if
        left out.
    stimulus_duration
        Seconds; the trials' (median) duration if left out.
    condition
        Column of the events; the first there is of ``stim_file``, ``trial_type``, ``stimulus``
        and ``condition`` if left out. Equal values are repeats.
    confounds
        One array or table a run, (n_volumes, n_columns), regressed out beside the drift.
    sessions
        One label per run; betas are z-scored by session when they are tuned.
    model
        ``B`` (an HRF a voxel), ``C`` (with noise components), ``D`` (with fractional ridge too),
        or ``auto``: the one that best identifies held-out runs, ``B`` without repeats.
        Model A is ``estimates.onoff_rsquared``.
    n_components, fraction
        Fixed number of noise components and fixed fraction; chosen by repeats if left out.
    off_grid
        What happens to onsets between volumes: the series are resampled to a finer grid, or it
        is an error.
    start_time
        Seconds from the start of a volume to the moment its slices were brought to. Left out,
        the ``StartTime`` of the sidecar beside a file, as fMRIPrep writes it; else 0.
    training_sets
        Boolean masks over all trials, (n_trials,): for each of them components and fractions
        are chosen again from these trials alone. A decoder that is judged on held-out trials
        needs them, as models C and D look at which stimulus was shown.
    progress
        Called with the chunks of voxels done, and all.
    device
        ``cpu`` or ``cuda``; what they find differs by rounding.

    Returns
    -------
    Betas

    Raises
    ------
    UsageError
        If images, events and other arguments do not fit together, or nothing repeats where
        model C or D was asked for.
    InputError
        If a file cannot be read.
    ResourceError
        If the device is not there.

    Notes
    -----
    Prince et al. 2022 (doi:10.7554/eLife.77599). Equal to GLMsingle 1.2 up to rounding; see
    :func:`bids_neurodecode.signals.singletrial.estimate_single_trials`.

    Examples
    --------
    Two runs of noise in which two images are shown four times each:

    >>> import numpy as np
    >>> import pandas as pd
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> runs = [rng.normal(100, 1, (80, 30)) for _ in range(2)]
    >>> shown = ['cat.png', 'dog.png'] * 4
    >>> events = pd.DataFrame({'onset': np.arange(8) * 16.0, 'duration': 2.0, 'stim_file': shown})
    >>> betas = nd.fit_betas(runs, [events, events], repetition_time=2.0, model='B')
    >>> betas.values.shape
    (16, 30)
    >>> betas  # doctest: +NORMALIZE_WHITESPACE
    Betas: 16 trials x 30 voxels, model B, percent signal change
       onset  duration stimulus  run session  repeat
    0    0.0       2.0  cat.png    0       1       0
    1   16.0       2.0  dog.png    0       1       0
    2   32.0       2.0  cat.png    0       1       1
    ...
    """
    _check_choice('model', model, ('auto', 'B', 'C', 'D'))
    _check_choice('off_grid', off_grid, ('resample', 'error'))
    inputs = _inputs(
        images,
        events,
        mask=mask,
        repetition_time=repetition_time,
        stimulus_duration=stimulus_duration,
        condition=condition,
        confounds=confounds,
        sessions=sessions,
        resample=off_grid == 'resample',
        start_time=start_time,
    )
    with speaking_of_arguments():
        estimates, chosen, notes = _estimate(
            inputs,
            model,
            tuning_sets=_sets(training_sets, len(inputs.trials)),
            fixed={'n_components': n_components, 'fraction': fraction},
            progress=progress,
            device=device,
        )
    by_ridge = chosen == 'D' and fraction is None
    if (by_ridge or (chosen != 'B' and n_components is None)) and not len(training_sets):
        notes.append(TUNED_ON_ALL)
    prepared = inputs.prepared
    return Betas(
        _scaled(estimates.betas[chosen], prepared.unit),
        inputs.trials,
        chosen,
        estimates,
        prepared.units,
        tuple(
            _scaled(each, prepared.unit) for each in _tuned(estimates, chosen, len(training_sets))
        ),
        (*inputs.unlikely, *notes, *prepared.warnings, *estimates.warnings),
        inputs.grid,
    )


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What the engine takes: prepared series, one row per trial, and what goes with them."""

    grid: Grid
    prepared: PreparedRuns
    trials: pd.DataFrame
    by_run: list[pd.DataFrame]
    duration: float
    sessions: Sequence[Any]
    regressors: Any
    unlikely: list[str]


def _inputs(
    images: Any,
    events: Any,
    *,
    mask: Any,
    repetition_time: float | None,
    stimulus_duration: float | None,
    condition: str | None,
    confounds: Sequence[Any] | None,
    sessions: Sequence[Any] | None,
    resample: bool,
    start_time: float | None,
) -> _Inputs:
    """Read what :func:`fit_betas` was given."""
    runs = open_runs(images)
    grid = grid_of(runs, mask)
    period = _period(repetition_time, [run.repetition_time for run in runs])
    given = _per_run('sessions', sessions, len(runs)) or ['1'] * len(runs)
    trials = _trials(events, len(runs), condition, given)
    duration = _duration(trials) if stimulus_duration is None else float(stimulus_duration)
    extra = _confounds(confounds, len(runs))
    by_run = [trials[trials['run'] == run] for run in range(len(runs))]
    starts = [_start(run, start_time, period) for run in runs]
    with speaking_of_arguments():
        prepared = prepare_series(
            [partial(read_run, run, grid) for run in runs],
            [f'images[{run}]' for run in range(len(runs))],
            [_onsets(rows, start) for rows, start in zip(by_run, starts, strict=True)],
            period,
            resample=resample,
        )
        return _Inputs(
            grid=grid,
            prepared=prepared,
            trials=trials,
            by_run=by_run,
            duration=duration,
            sessions=given,
            regressors=_on_grid(extra, period, prepared.repetition_time),
            unlikely=_long_after(prepared, by_run, duration),
        )


def _scaled(values: Float32Array, unit: float) -> Float32Array:
    return values if unit == 1 else values * np.float32(unit)


def _tuned(estimates: SingleTrialBetas, model: Model, n: int) -> list[Float32Array]:
    """Return the betas of each training set; model B knows nothing of stimuli."""
    if model == 'B':
        return [estimates.betas['B']] * n
    return [fit.betas[model] for fit in estimates.tuned]


def as_mask(n_voxels: int) -> VoxelMask:
    """Return a mask for voxels of which no place is known: a row of them."""
    return VoxelMask(np.ones((n_voxels, 1, 1), dtype=bool), np.eye(4))


def _estimate(
    inputs: _Inputs,
    model: Literal['auto', 'B', 'C', 'D'],
    *,
    fixed: dict[str, Any],
    **more: Any,
) -> tuple[SingleTrialBetas, Model, list[str]]:
    """Run the engine; compare the models where one has to be chosen."""
    from bids_neurodecode.signals.modelchoice import best_model, compare_models, inner_folds
    from bids_neurodecode.signals.singletrial import estimate_single_trials

    prepared, trials = inputs.prepared, inputs.trials
    stimulus, run = trials['stimulus'].to_numpy(), trials['run'].to_numpy()
    notes: list[str] = []
    folds = inner_folds(np.ones(len(trials), dtype=bool), stimulus, run) if model == 'auto' else ()
    if model == 'auto' and not folds:
        repeated = trials.groupby('stimulus')['run'].nunique().max() > 1
        model, notes = 'B', [FEW_RUNS if repeated else ONE_MODEL]
    models: tuple[Model, ...] = ('B', 'C', 'D') if model == 'auto' else (model,)
    if model == 'B':
        more['tuning_sets'] = ()
    estimates = estimate_single_trials(
        prepared.series,
        prepared.onset_volumes,
        [rows['stimulus'].to_numpy() for rows in inputs.by_run],
        prepared.repetition_time,
        inputs.duration,
        sessions=inputs.sessions,
        extra_regressors=inputs.regressors,
        inner_sets=[fold.train for fold in folds],
        options=SingleTrialOptions(models=models, **fixed),
        **more,
    )
    assert estimates is not None, 'all passes were done'
    if model != 'auto':
        return estimates, models[0], notes
    scores = compare_models(estimates.inner, stimulus, folds)
    best = best_model(scores)
    told = ', '.join(f'{name} {score:.1%}' for name, score in scores.items())
    return estimates, best, [COMPARED.format(scores=told, best=best)]


def _trials(
    events: Any, n_runs: int, condition: str | None, sessions: Sequence[Any]
) -> pd.DataFrame:
    """Return one row per trial, in order of time in each run."""
    if isinstance(events, pd.DataFrame | str | Path):
        events = [events]
    if len(events) != n_runs:
        raise UsageError(EVENTS_PER_RUN.format(n=len(events), runs=n_runs))
    parts = []
    for run, each in enumerate(events):
        shown = _shown(each, run, condition)
        parts.append(shown.assign(run=run, session=str(sessions[run])))
    table = pd.concat(parts, ignore_index=True)
    table['repeat'] = table.groupby('stimulus').cumcount()
    return table


def _shown(events: Any, run: int, condition: str | None) -> pd.DataFrame:
    """Return the rows of one table that show something."""
    if isinstance(events, str | Path):
        from bids_neurodecode.bids.timing import read_table

        table = read_table(Path(events))
    else:
        table = pd.DataFrame(events).replace('n/a', np.nan)
    wanted = COLUMNS if condition is None else (condition,)
    column = next((name for name in wanted if name in table.columns), None)
    if column is None:
        told = {'columns': ', '.join(map(str, table.columns)), 'wanted': ' or '.join(wanted)}
        raise UsageError(NO_COLUMN.format(run=run, **told))
    shown = table[table[column].notna()]
    if shown.empty:
        raise UsageError(NO_TRIAL.format(run=run, column=column))
    times = {}
    for name in ('onset', 'duration'):
        if name not in shown.columns:
            raise UsageError(NO_TIMES.format(run=run, column=name))
        times[name] = pd.to_numeric(shown[name], errors='coerce').to_numpy(dtype=float)
    stimulus = shown[column].astype(str).to_numpy()
    rows = pd.DataFrame({**times, 'stimulus': stimulus})
    return rows.sort_values('onset', kind='stable', ignore_index=True)


def _start(run: Series, given: float | None, period: float) -> float:
    if given is not None:
        return float(given)
    from bids_neurodecode.bids.pairing import start_time_of

    return 0.0 if run.path is None else start_time_of(run.path, period)


def _onsets(rows: pd.DataFrame, start: float) -> npt.NDArray[np.float64]:
    """Return onsets in seconds from the moment of the first volume; one before it is at it."""
    onsets = rows['onset'].to_numpy(dtype=np.float64)
    # before the run itself is an error, which is found when volumes are counted
    return np.where(onsets < 0, onsets, np.maximum(onsets - start, 0.0))


def _duration(trials: pd.DataFrame) -> float:
    durations = trials['duration'].to_numpy(dtype=float)
    if not np.isfinite(durations).all() or np.ptp(durations) > _JITTER:
        low, high = np.nanmin(durations), np.nanmax(durations)
        raise UsageError(SEVERAL_DURATIONS.format(low=low, high=high))
    return round(float(np.median(durations)), 3)


def _period(given: float | None, found: Sequence[float | None]) -> float:
    if given is not None:
        if not 0 < given < np.inf:
            raise UsageError(BAD_PERIOD.format(found=given))
        return float(given)
    known = sorted({round(each, 6) for each in found if each is not None})
    if not known or None in found:
        raise UsageError(NO_REPETITION_TIME)
    if len(known) > 1:
        raise UsageError(OTHER_REPETITION_TIME.format(found=', '.join(f'{x:g}' for x in known)))
    return known[0]


def _long_after(
    prepared: PreparedRuns, by_run: Sequence[pd.DataFrame], duration: float
) -> list[str]:
    """Warn of runs most of which comes after their last trial, as of transposed arrays."""
    notes = []
    for run, (series, rows) in enumerate(zip(prepared.series, by_run, strict=True)):
        length = series.shape[0] * prepared.repetition_time
        end = float(rows['onset'].max()) + duration
        if length > 2 * end + 60:
            notes.append(LONG_AFTER.format(run=run, length=length, end=end))
    for note in notes:
        warnings.warn(note, NeurodecodeWarning, stacklevel=3)
    return notes


def _check_choice(name: str, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        told = ', '.join(map(repr, choices))
        raise UsageError(BAD_CHOICE.format(name=name, choices=told, found=found))


def _sets(masks: Sequence[npt.ArrayLike], n_trials: int) -> list[BoolArray]:
    """Return masks over trials, checked."""
    arrays = [np.asarray(each) for each in masks]
    for number, each in enumerate(arrays):
        if each.dtype != np.bool_ or each.shape != (n_trials,):
            told = {'number': number, 'n': n_trials, 'dtype': each.dtype, 'shape': each.shape}
            raise UsageError(BAD_SET.format(**told))
    return arrays


def _per_run(name: str, values: Sequence[Any] | None, n_runs: int) -> list[Any] | None:
    if values is not None and len(values) != n_runs:
        raise UsageError(PER_RUN.format(name=name, n=len(values), runs=n_runs))
    return None if values is None else list(values)


def _confounds(values: Sequence[Any] | None, n_runs: int) -> list[npt.NDArray[np.float64]] | None:
    given = _per_run('confounds', values, n_runs)
    if given is None:
        return None
    arrays = []
    for each in given:
        table = pd.DataFrame(each).astype(float)
        # the first row of derivatives is n/a, as they have no earlier volume
        table.iloc[:1] = table.iloc[:1].fillna(0.0)
        arrays.append(table.to_numpy(dtype=np.float64))
    return arrays


def _on_grid(
    regressors: list[npt.NDArray[np.float64]] | None, period: float, new: float
) -> list[npt.NDArray[np.float64]] | None:
    """Resample confounds as the series were."""
    from bids_neurodecode.signals.timing import resample_series

    if regressors is None or new == period:
        return regressors
    return [np.asarray(resample_series(x, period, new), dtype=np.float64) for x in regressors]
