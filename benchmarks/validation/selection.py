"""The test of repeats that chooses voxels, in autocorrelated noise without any response."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from benchmarks.validation.harness import Check
from bids_neurodecode.config import SelectionSettings
from bids_neurodecode.signals.reliability import repeat_test
from bids_neurodecode.signals.selection import select_voxels

N_VOXELS = 40


def noise(rng: np.random.Generator, n: int, phi: float, n_columns: int) -> npt.NDArray[np.float64]:
    """Return stationary noise of first order, (n, n_columns), of variance 1."""
    white = rng.standard_normal((n + 200, n_columns))
    filtered = lfilter([np.sqrt(1 - phi**2)], [1, -phi], white, axis=0)
    return np.asarray(filtered[200:])


def design(
    rng: np.random.Generator, kind: str, n_runs: int, n_stimuli: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the stimulus and the run of each trial.

    ``adjacent``: three repeats in a row in each run; ``random``: one repeat in each run, in
    another order each; ``lists``: two orders that alternate; ``one``: one order; ``within``: other
    stimuli in each run.
    """
    lists = [rng.permutation(n_stimuli) for _ in range(2)]
    orders = {
        'lists': [lists[run % 2] for run in range(n_runs)],
        'one': [lists[0]] * n_runs,
        'within': [lists[0] + run * n_stimuli for run in range(n_runs)],
    }.get(kind, [rng.permutation(n_stimuli) for _ in range(n_runs)])
    times = 3 if kind in {'adjacent', 'within'} else 1
    stimuli = np.repeat(np.concatenate(orders), times)
    return stimuli, np.repeat(np.arange(n_runs), n_stimuli * times)


def _null(
    rng: np.random.Generator,
    kind: str,
    phi: float,
    n_runs: int = 4,
    n_stimuli: int = 12,
    drift: float = 0.0,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    stimuli, runs = design(rng, kind, n_runs, n_stimuli)
    size = len(runs) // n_runs
    values = np.concatenate([noise(rng, size, phi, N_VOXELS) for _ in range(n_runs)])
    time = np.linspace(-1, 1, size)[:, None]
    # of each voxel, the same in all runs: what the model of the betas left
    shared = time * rng.normal(size=N_VOXELS) + 1.5 * time**2 * rng.normal(size=N_VOXELS)
    values += drift * np.tile(shared, (n_runs, 1))
    return values, stimuli, runs


def _p(rng: np.random.Generator, **world: object) -> npt.NDArray[np.float64]:
    values, stimuli, runs = _null(rng, **world)  # type: ignore[arg-type]
    return repeat_test(values, stimuli, runs).p


def _any(rng: np.random.Generator, **world: object) -> bool:
    """Whether the default selection finds a voxel by its test (not by the least number)."""
    values, stimuli, runs = _null(rng, **world)  # type: ignore[arg-type]
    table = pd.DataFrame({'stimulus': stimuli, 'run': runs})
    chosen = select_voxels(values, table, SelectionSettings(min_voxels=1))
    return chosen.n_kept > 1 or not any('passed the rule' in line for line in chosen.warnings)


CHECKS = [
    Check(
        'selection',
        'repeats agree',
        '12 images three times in a row in each of 4 runs, AR .5',
        'p',
        partial(_p, kind='adjacent', phi=0.5),
        1000,
        quick=8,
        before=(0.461, 0.450, 0.472),
    ),
    Check(
        'selection',
        'repeats agree, FDR',
        '12 images three times in a row in each of 4 runs, AR .5',
        'any',
        partial(_any, kind='adjacent', phi=0.5),
        1000,
        before=(1.000, 0.982, 1.000),
    ),
    Check(
        'selection',
        'repeats agree',
        '8 images once in each of 8 runs in random order, AR .9',
        'p',
        partial(_p, kind='random', phi=0.9, n_runs=8, n_stimuli=8),
        1000,
        before=(0.000, 0.000, 0.001),
    ),
    Check(
        'selection',
        'repeats agree',
        '20 images once in each of 2 runs in random order, AR .5',
        'p',
        partial(_p, kind='random', phi=0.5, n_runs=2, n_stimuli=20),
        1000,
        before=(0.036, 0.031, 0.040),
    ),
    Check(
        'selection',
        'repeats agree',
        '12 images once in each of 4 runs, two orders in turn, AR .9',
        'p',
        partial(_p, kind='lists', phi=0.9),
        1000,
        before=(0.006, 0.004, 0.008),
    ),
    *(
        Check(
            'selection',
            'repeats agree',
            f'12 images once in each of {n_runs} runs, two orders in turn, AR .5, a shared drift',
            'p',
            partial(_p, kind='lists', phi=0.5, n_runs=n_runs, drift=1.0),
            1000,
            quick=25 if n_runs == 8 else 0,
            before=before,
            note='Runs of one order count as one.',
        )
        for n_runs, before in ((4, (0.102, 0.088, 0.115)), (8, (0.184, 0.164, 0.203)))
    ),
    Check(
        'selection',
        'repeats agree',
        '8 images once in each of 8 runs in random order, AR .5, a shared drift',
        'p',
        partial(_p, kind='random', phi=0.5, n_runs=8, n_stimuli=8, drift=1.0),
        1000,
        before=(0.053, 0.043, 0.063),
    ),
    Check(
        'selection',
        'repeats agree',
        '12 images once in each of 4 runs, one order, AR .9',
        'p',
        partial(_p, kind='one', phi=0.9),
        50,
        quick=2,
        before=(0.020, 0.016, 0.023),
        note='All runs have one order: position is confounded with image.',
    ),
    Check(
        'selection',
        'repeats agree',
        '12 images three times in a row, each in one run, AR .5',
        'p',
        partial(_p, kind='within', phi=0.5),
        50,
        quick=2,
        before=(0.996, 0.995, 0.998),
        note='All repeats lie within runs and share slow noise.',
    ),
]
