"""Mean response patterns of conditions, run by run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


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


def residuals(
    values: npt.NDArray[np.floating[Any]], stimuli: npt.ArrayLike, runs: npt.ArrayLike
) -> FloatArray:
    """Return trials less the level of their run and the mean of their condition over runs.

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
    return left


__all__ = ['RunPatterns', 'residuals', 'run_patterns']
