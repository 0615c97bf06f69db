"""Mean response patterns of conditions, run by run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.samples import Samples
from bids_neurodecode.signals.groups import ratio_of
from bids_neurodecode.systems.base import run_labels
from bids_neurodecode.typing import FloatArray


@dataclass(frozen=True, eq=False)
class RunPatterns:
    """What the conditions of each run evoke, beside the mean of that run's conditions.

    The level of a run says nothing of a condition, and would make patterns of different runs
    alike, or (left out of the mean of the others) unlike.

    Parameters
    ----------
    runs
        Labels, (n_runs,).
    conditions
        Names, (n_conditions,).
    means
        Shape (n_runs, n_conditions, n_voxels); NaN where a run lacks a condition.
    counts
        Trials, (n_runs, n_conditions).
    """

    runs: npt.NDArray[Any]
    conditions: tuple[str, ...]
    means: FloatArray
    counts: npt.NDArray[np.intp]


def run_patterns(
    values: npt.NDArray[np.floating[Any]],
    stimuli: npt.ArrayLike,
    runs: npt.ArrayLike,
    conditions: tuple[str, ...],
) -> RunPatterns:
    """Average the trials of each condition and run, and take the run's level off.

    Parameters
    ----------
    values
        Responses (n_trials, n_voxels).
    stimuli, runs
        The condition and the run of each trial, (n_trials,).
    conditions
        Names, in the order of the result.
    """
    shown, of_run = np.asarray(stimuli).astype(str), np.asarray(runs)
    labels = np.array(list(dict.fromkeys(of_run.tolist())))
    means = np.full((len(labels), len(conditions), values.shape[1]), np.nan)
    counts = np.zeros((len(labels), len(conditions)), dtype=np.intp)
    for r, label in enumerate(labels):
        for c, name in enumerate(conditions):
            rows = np.flatnonzero((of_run == label) & (shown == name))
            counts[r, c] = len(rows)
            if rows.size:
                means[r, c] = values[rows].mean(axis=0, dtype=np.float64)
        means[r] -= means[r][counts[r] > 0].mean(axis=0)
    return RunPatterns(labels, conditions, means, counts)


def patterns_of(samples: Samples, conditions: tuple[str, ...]) -> RunPatterns:
    """Return the :func:`run_patterns` of samples.

    Parameters
    ----------
    samples
        Responses and their trials.
    conditions
        Names, in the order of the result.
    """
    stimuli = samples.table['stimulus'].to_numpy()
    return run_patterns(samples.values, stimuli, run_labels(samples.table), conditions)


def residuals(
    values: npt.NDArray[np.floating[Any]], stimuli: npt.ArrayLike, runs: npt.ArrayLike
) -> FloatArray:
    """Return trials less the level of their run and the mean of their condition over runs.

    They are scaled up so that their mean square is the variance of the noise, as runs and
    conditions that are taken off take their share of it.

    Parameters
    ----------
    values, stimuli, runs
        As in :func:`run_patterns`.

    Returns
    -------
    numpy.ndarray
        Shape (n_trials, n_voxels).
    """
    shown, of_run = np.asarray(stimuli).astype(str), np.asarray(runs)
    left = np.array(values, dtype=np.float64)
    for label in np.unique(of_run):
        mine = of_run == label
        names = np.unique(shown[mine])
        left[mine] -= np.mean([left[mine & (shown == n)].mean(axis=0) for n in names], axis=0)
    for name in np.unique(shown):
        left[shown == name] -= left[shown == name].mean(axis=0)
    freedom = len(left) - (len(np.unique(of_run)) + len(np.unique(shown)) - 1)
    return left * float(np.sqrt(len(left) / freedom)) if freedom > 0 else left


def pattern_ncsnr(patterns: RunPatterns) -> npt.NDArray[np.float64] | None:
    """Signal-to-noise ratio of single trials, from the mean responses of conditions in each run.

    What is predicted are means of conditions about the level of their run, so that signal and
    noise are theirs: differences between runs' levels are no noise, and the few conditions of a
    run do not understate the variance over conditions. The noise is what is left about conditions
    and runs; the signal, the variance over the conditions of a run less that.

    Parameters
    ----------
    patterns
        Of all runs.

    Returns
    -------
    numpy.ndarray or None
        For :func:`~bids_neurodecode.signals.reliability.noise_ceiling`, (n_voxels,); None with
        fewer than three conditions, whose two values of a run correlate perfectly or not at all,
        or where nothing is shown in two runs.
    """
    has = patterns.counts > 0
    rows, columns = np.nonzero(has)
    design = np.concatenate([np.eye(len(has))[rows], np.eye(has.shape[1])[columns]], axis=1)
    freedom = len(rows) - int(np.linalg.matrix_rank(design))
    within = int((has.sum(axis=1) - 1).sum())
    if has.shape[1] < 3 or freedom < 1:
        return None
    values = patterns.means[rows, columns]  # the level of the run is taken off
    left = values - design @ (np.linalg.pinv(design) @ values)
    noise = (left**2).sum(axis=0) / freedom
    signal = np.maximum((values**2).sum(axis=0) / within - noise, 0.0)
    repeats = (1 / patterns.counts[has]).mean()
    return np.asarray(np.sqrt(ratio_of(signal, noise) * repeats))
