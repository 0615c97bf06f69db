"""How far voxels can be trusted: agreement of repeats and noise ceilings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.api.betas import Betas
from bids_neurodecode.api.usage import speaking_of_arguments
from bids_neurodecode.errors import UsageError
from bids_neurodecode.signals import reliability as signals

NEEDS_STIMULI = 'An array of betas needs stimuli: what each of its {n} trials showed.'
NOT_REPEATED = (
    'A noise ceiling needs stimuli that are shown more than once, and none of these {n} is.'
)
ONE_TO_ONE = '{name} has {n} entries for {trials} trials; they must be one to one.'

Labels = npt.ArrayLike | None


def noise_ceiling(
    betas: Betas | npt.ArrayLike,
    stimuli: Labels = None,
    *,
    sessions: Labels = None,
    n_averaged: int | None = None,
) -> npt.NDArray[np.float32]:
    """Share of the variance of responses that the stimulus can explain, voxel by voxel.

    Parameters
    ----------
    betas
        What :func:`~bids_neurodecode.fit_betas` returned, or an array (n_trials, n_voxels).
    stimuli
        What each trial showed, (n_trials,); known of :class:`~bids_neurodecode.Betas`.
    sessions
        Session of each trial, (n_trials,), within which betas are z-scored; one if left out.
    n_averaged
        How many trials the response is a mean of: 1 for single trials. Left out, responses are
        means over the repeats that there are, whose counts may differ.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,), from 0 to 1: a squared correlation that no model can be expected to
        exceed.

    Raises
    ------
    UsageError
        If nothing is repeated, or labels and trials are not one to one.

    Notes
    -----
    As in the manual of the Natural Scenes Dataset (Allen et al. 2022, *Nature Neuroscience*
    25:116). The estimate is of these trials: look at it, and select voxels by it only within
    training trials.

    Examples
    --------
    Signal and noise of equal variance, three repeats: 3 / (3 + 1).

    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(0)
    >>> stimuli = np.repeat(np.arange(500), 3)
    >>> betas = rng.normal(size=(500, 4))[stimuli] + rng.normal(size=(1500, 4))
    >>> nd.noise_ceiling(betas, stimuli).mean().round(1)
    np.float32(0.7)
    >>> nd.noise_ceiling(betas, stimuli, n_averaged=1).mean().round(1)
    np.float32(0.5)
    """
    values, labels = _checked(betas, stimuli)
    with speaking_of_arguments():
        ratio = signals.ncsnr(values, labels, _labels('sessions', sessions, len(values)))
        counts = _counts(labels) if n_averaged is None else n_averaged
        return signals.noise_ceiling(ratio, counts)


def reliability(
    betas: Betas | npt.ArrayLike,
    stimuli: Labels = None,
    *,
    runs: Labels = None,
    sessions: Labels = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How far repeats agree, voxel by voxel, with a test that holds for autocorrelated noise.

    Parameters
    ----------
    betas
        What :func:`~bids_neurodecode.fit_betas` returned, or an array (n_trials, n_voxels).
    stimuli
        What each trial showed, (n_trials,); known of :class:`~bids_neurodecode.Betas`.
    runs
        Run of each trial, (n_trials,), the trials of a run in order of time; known of
        :class:`~bids_neurodecode.Betas`. Without runs there is no test.
    sessions
        Session of each trial, (n_trials,); one if left out.
    seed
        Of the exchanges of the test.

    Returns
    -------
    pandas.DataFrame
        One row per voxel: ``ncsnr`` (deviation of the signal over that of the noise, single
        trials), ``noise_ceiling`` (single trials), ``noise_ceiling_mean`` (mean over repeats),
        ``agreement`` (rank correlation of a stimulus' responses in two runs, chance 0) and its
        one-sided ``p``. Without a test these two are missing, and ``attrs['reason']`` says why.

    Raises
    ------
    UsageError
        If nothing is repeated, or labels and trials are not one to one.

    Examples
    --------
    Eight runs of the same ten images, in one voxel with a signal and in one without:

    >>> import numpy as np
    >>> import bids_neurodecode as nd
    >>> rng = np.random.default_rng(1)
    >>> stimuli = np.concatenate([rng.permutation(10) for _ in range(8)])
    >>> betas = rng.normal(size=(80, 2))
    >>> betas[:, 0] += 2 * stimuli
    >>> table = nd.reliability(betas, stimuli, runs=np.repeat(np.arange(8), 10))
    >>> (table['p'] < .05).tolist()
    [True, False]
    """
    values, labels = _checked(betas, stimuli)
    if runs is None and isinstance(betas, Betas):
        runs = betas.runs
    of_run = _labels('runs', runs, len(values))
    with speaking_of_arguments():
        ratio = signals.ncsnr(values, labels, _labels('sessions', sessions, len(values)))
        table = pd.DataFrame(
            {
                'ncsnr': ratio,
                'noise_ceiling': signals.noise_ceiling(ratio),
                'noise_ceiling_mean': signals.noise_ceiling(ratio, _counts(labels)),
                'agreement': np.float32(np.nan),
                'p': np.nan,
            }
        )
        table.attrs['reason'] = 'runs were not given' if of_run is None else ''
        if of_run is not None:
            test = signals.repeat_test(values, labels, of_run, seed=seed)
            table['agreement'], table['p'] = test.agreement, test.p
            table.attrs['reason'] = test.reason
    table.index.name = 'voxel'
    return table


def _checked(
    betas: Betas | npt.ArrayLike, stimuli: Labels
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[Any]]:
    if isinstance(betas, Betas):
        values: npt.NDArray[np.floating[Any]] = betas.values
        stimuli = betas.stimuli if stimuli is None else stimuli
    else:
        values = np.asarray(betas)
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
    labels = _labels('stimuli', stimuli, len(values))
    if labels is None:
        raise UsageError(NEEDS_STIMULI.format(n=len(values)))
    if _counts(labels).max(initial=0) < 2:
        raise UsageError(NOT_REPEATED.format(n=len(labels)))
    return values, labels


def _labels(name: str, labels: Labels, n_trials: int) -> npt.NDArray[Any] | None:
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.shape != (n_trials,):
        raise UsageError(ONE_TO_ONE.format(name=name, n=found.size, trials=n_trials))
    return found


def _counts(labels: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    return np.unique(labels, return_counts=True)[1]
