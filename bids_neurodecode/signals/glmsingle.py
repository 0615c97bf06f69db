"""Single-trial betas by the ``glmsingle`` package, where it is installed.

It runs in a process and a scratch folder of its own, so that it cannot change the caller's
arrays, files or working folder.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.processes import run_module
from bids_neurodecode.signals.badness import find_repeats
from bids_neurodecode.signals.trialdesign import RunSeries, TrialDesign, build_design
from bids_neurodecode.signals.trialtypes import (
    NO_VOXELS,
    UNUSABLE,
    Model,
    SingleTrialBetas,
    SingleTrialOptions,
)
from bids_neurodecode.typing import BoolArray, Float32Array

MISSING = (
    'The glmsingle package is not installed (it is on no registry). Set betas.engine = "native", '
    'or install it from https://github.com/cvnlab/GLMsingle.'
)
FAILED = (
    'The glmsingle package failed: {reason}. Set betas.engine = "native" to use this program\'s '
    'own engine.'
)
UNEQUAL_WITH_EXTRA = (
    'The glmsingle package cannot take extra regressors with runs of unequal length '
    '({shortest} to {longest} volumes). Set betas.engine = "native", or leave them out.'
)
TUNED_ON_ALL = (
    'The glmsingle package chose noise components and fractions with the repeats of all trials, '
    'those of test trials too. Set betas.engine = "native" for tuning on training trials.'
)

Results = dict[str, npt.NDArray[Any]]


def estimate_with_glmsingle(
    series: Sequence[RunSeries],
    onset_volumes: Sequence[npt.ArrayLike],
    conditions: Sequence[Sequence[Any] | npt.NDArray[Any]],
    repetition_time: float,
    stimulus_duration: float,
    *,
    sessions: Sequence[Any] | None = None,
    extra_regressors: Sequence[npt.NDArray[Any] | None] | None = None,
    options: SingleTrialOptions | None = None,
    scratch: Path | None = None,
) -> SingleTrialBetas:
    """Estimate betas as :func:`~.singletrial.estimate_single_trials` does, by the package.

    Parameters
    ----------
    series, onset_volumes, conditions, repetition_time, stimulus_duration, sessions
        See :func:`~bids_neurodecode.signals.singletrial.estimate_single_trials`.
    extra_regressors, options
        The same. The package draws its starts without a seed; there are no tuning sets.
    scratch
        Folder in which a temporary folder is made; the system's if left out. It has to hold a
        copy of the series.

    Returns
    -------
    SingleTrialBetas
        ``onoff_threshold`` is NaN (the package does not tell), ``tuned`` is empty.

    Raises
    ------
    ArgumentsError
        If the package is not installed.
    DataError
        If the inputs do not fit together, or the package fails or cannot take them.
    """
    if find_spec('glmsingle') is None:
        raise ArgumentsError(MISSING)
    options = options or SingleTrialOptions()
    design = build_design(
        series,
        onset_volumes,
        conditions,
        repetition_time,
        sessions=sessions,
        extra_regressors=extra_regressors,
    )
    if design.has_extra and len(set(design.n_volumes)) > 1:
        # its FIR diagnostic uses the first run's regressors for every run
        shortest, longest = min(design.n_volumes), max(design.n_volumes)
        raise DataError(UNEQUAL_WITH_EXTRA.format(shortest=shortest, longest=longest))
    if options.needs_repeats:
        find_repeats(design.condition, design.run, design.session)
    arrays = [np.asarray(run) for run in series]
    usable = _usable(arrays)
    with tempfile.TemporaryDirectory(dir=scratch, prefix='glmsingle-') as name:
        folder = Path(name).resolve()
        _write_job(folder, arrays, design, usable, stimulus_duration, options, extra_regressors)
        _run(folder)
        with np.load(folder / 'results.npz', allow_pickle=False) as found:
            results = {key: found[key] for key in found.files}
    return _collect(results, design, usable, options)


def _usable(series: Sequence[npt.NDArray[Any]]) -> BoolArray:
    """Return the voxels that are finite and vary in every run."""
    usable = np.ones(series[0].shape[1], dtype=bool)
    for run in series:
        low, high = run.min(axis=0), run.max(axis=0)
        usable &= np.isfinite(low) & np.isfinite(high) & (low < high)
    if not usable.any():
        raise DataError(NO_VOXELS.format(n=len(usable)))
    return usable


def _write_job(
    folder: Path,
    series: Sequence[npt.NDArray[Any]],
    design: TrialDesign,
    usable: BoolArray,
    stimulus_duration: float,
    options: SingleTrialOptions,
    extra_regressors: Sequence[npt.NDArray[Any] | None] | None,
) -> None:
    """Write what the worker reads: one file per array, and the rest as JSON."""
    n_conditions = int(design.condition.max()) + 1
    for run, values in enumerate(series):
        np.save(folder / f'data-{run}.npy', values[:, usable].T.astype(np.float32))
        onsets = np.zeros((design.n_volumes[run], n_conditions), dtype=np.float32)
        onsets[design.onset_volumes[run], design.condition[design.trials_of(run)]] = 1
        np.save(folder / f'design-{run}.npy', onsets)
        if design.has_extra and extra_regressors is not None:
            extra = extra_regressors[run]
            columns = np.zeros((design.n_volumes[run], 0)) if extra is None else np.asarray(extra)
            np.save(folder / f'extra-{run}.npy', columns.astype(np.float32))
    session = [int(design.session[design.trials_of(run)][0]) + 1 for run in range(design.n_runs)]
    job = {
        'n_runs': design.n_runs,
        'has_extra': design.has_extra,
        'repetition_time': float(design.repetition_time),
        'stimulus_duration': float(stimulus_duration),
        'options': {
            'wantlibrary': 1,
            'wantglmdenoise': int(options.denoises),
            'wantfracridge': int('D' in options.models),
            'wantfileoutputs': [0, 0, 0, 0],
            'wantmemoryoutputs': [1, 1, int('C' in options.models), int('D' in options.models)],
            'n_pcs': options.max_components,
            # minus a number is the package's way to fix it
            'pcstop': 1.05 if options.n_components is None else -options.n_components,
            'fracs': list(options.tried_fractions),
            'sessionindicator': session,
        },
    }
    (folder / 'job.json').write_text(json.dumps(job), 'utf-8')


def _run(folder: Path) -> None:
    worker = 'bids_neurodecode.signals.glmsingle_worker'
    done = run_module(worker, folder, {'MPLBACKEND': 'agg'}, capture_output=True, text=True)
    if done.returncode != 0 or not (folder / 'results.npz').is_file():
        lines = done.stderr.strip().splitlines() or [f'exit status {done.returncode}']
        raise DataError(FAILED.format(reason=lines[-1].rstrip('.')))


def _collect(
    results: Results, design: TrialDesign, usable: BoolArray, options: SingleTrialOptions
) -> SingleTrialBetas:
    order = _chronological(design)
    models: dict[Model, str] = {model: f'type{model.lower()}' for model in options.models}
    betas: dict[Model, Float32Array] = {}
    for model, prefix in models.items():
        chronological = results[f'{prefix}__betasmd'].reshape(usable.sum(), -1).T
        given = np.empty_like(chronological)
        given[order] = chronological
        betas[model] = _spread(given.T, usable).T
    last = 'typed' if 'D' in options.models else 'typec'
    chosen = options.denoises and options.n_components is None
    ridged = 'D' in options.models
    pool = results.get(f'{last}__noisepool')
    n_bad = int(np.sum(~usable))
    notes = (UNUSABLE.format(n=n_bad, total=len(usable)),) if n_bad else ()
    return SingleTrialBetas(
        betas=betas,
        hrf_index=np.where(usable, _spread(results['typeb__HRFindex'], usable, -1), -1).astype(
            np.intp
        ),
        rsquared={m: _spread(results[f'{prefix}__R2'], usable) for m, prefix in models.items()},
        usable=usable,
        mean_volume=_spread(results['typea__meanvol'], usable),
        onoff_rsquared=_spread(results['typea__onoffR2'], usable),
        onoff_threshold=float('nan'),
        noise_pool=np.zeros_like(usable) if pool is None else _spread(pool, usable, 0) > 0,
        n_components=int(results[f'{last}__pcnum']) if options.denoises else None,
        component_curve=results[f'{last}__xvaltrend'].ravel().astype(float) if chosen else None,
        component_badness=_spread(results[f'{last}__glmbadness'], usable) if chosen else None,
        fraction=_spread(results['typed__FRACvalue'], usable) if ridged else None,
        fraction_badness=_spread(results['typed__rrbadness'], usable) if ridged else None,
        warnings=(*design.warnings(), *notes, *((TUNED_ON_ALL,) if options.needs_repeats else ())),
    )


def _chronological(design: TrialDesign) -> npt.NDArray[np.intp]:
    """Return the row of each trial in the order of time, run by run."""
    return np.concatenate(
        [
            np.argsort(onsets, kind='stable') + design.trials_of(run).start
            for run, onsets in enumerate(design.onset_volumes)
        ]
    )


def _spread(values: npt.NDArray[Any], usable: BoolArray, fill: float = np.nan) -> Float32Array:
    """Put the usable voxels' values, (n_usable, ...), where they belong among all voxels."""
    columns = values.reshape(int(usable.sum()), -1)
    spread = np.full((len(usable), columns.shape[1]), fill, dtype=np.float32)
    spread[usable] = columns
    return spread[:, 0] if columns.shape[1] == 1 else spread
