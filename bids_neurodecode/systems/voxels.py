"""The voxels that decoders read, chosen by the training samples of a fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import Config, SelectionSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.mapped import blocks, room
from bids_neurodecode.models.ridge import fit_ridge
from bids_neurodecode.samples import COLUMNS, Parts, Samples, Split
from bids_neurodecode.signals import reliability
from bids_neurodecode.signals.selection import (
    IN_SESSION,
    NO_VOTE,
    VoxelSelection,
    join_selections,
    select_voxels,
)
from bids_neurodecode.stimuli.space import FeatureSpace
from bids_neurodecode.systems.base import PerStimulus
from bids_neurodecode.text import span_of
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray

if TYPE_CHECKING:
    import pandas as pd

SOME = 3
"""Trials of a fold by which betas that were tuned apart are told from those of all trials."""
NO_VOXELS = 'No voxel has finite betas in all trials (within the chosen regions). Check the mask.'
ROWS = 1024
"""Trials that are looked at together."""
OTHER_TUNINGS = 'Betas were tuned for {found} folds; give one set, or one for each of {expected}.'


@dataclass(frozen=True, eq=False)
class Estimates:
    """Single-trial betas as models are fitted to them, and what their voxels are chosen by.

    Parameters
    ----------
    samples
        All trials, with betas tuned on all of them (for the final model).
    split
        What is held out.
    tuned
        All trials once a fold, with betas tuned on its training trials; or one for all folds. The
        samples themselves if None: nothing was tuned.
    tsnr_runs
        Temporal signal-to-noise ratio of each run, (n_runs, n_voxels); None: none is chosen.
    within
        Voxels of the chosen regions, (n_voxels,); all if None.
    notes
        What a reader should know of the betas, one line each.

    Raises
    ------
    DataError
        If there is neither one tuning nor one of each fold.
    """

    samples: Samples
    split: Split
    tuned: Sequence[Samples] | None = None
    tsnr_runs: Float32Array | None = None
    within: BoolArray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.tuned is not None and len(self.tuned) not in {1, len(self.split)}:
            raise DataError(OTHER_TUNINGS.format(found=len(self.tuned), expected=len(self.split)))

    @property
    def all(self) -> tuple[Samples, ...]:
        """The samples, and those with betas tuned otherwise."""
        return self.samples, *(self.tuned or ())

    def usable(self) -> BoolArray:
        """Return the voxels with finite betas in all trials, within the chosen regions.

        Raises
        ------
        DataError
            If there are none.
        """
        keep = np.ones(self.samples.values.shape[1], dtype=bool)
        for values in (part.values for part in self.all):
            for start in range(0, len(values), ROWS):
                keep &= np.isfinite(values[start : start + ROWS]).all(axis=0)
        if self.within is not None:
            keep &= self.within
        if not keep.any():
            raise DataError(NO_VOXELS)
        return keep

    def of_fold(self, number: int) -> Samples:
        """Return all trials, with betas tuned on the training trials of a fold (from 0)."""
        if self.tuned is None:
            return self.samples
        return self.tuned[min(number, len(self.tuned) - 1)]

    def parts(self, keep: BoolArray | None = None) -> Iterator[Parts]:
        """Cut the folds, one after the other, each of its own betas.

        Parameters
        ----------
        keep
            Which voxels, (n_voxels,); all if None.
        """
        for number, fold in enumerate(self.split):
            yield self.of_fold(number).fold(fold, keep)

    def choose(
        self, train: Samples, features: PerStimulus | None, config: Config, device: str = 'cpu'
    ) -> VoxelSelection:
        """Choose voxels by some of the trials alone.

        Parameters
        ----------
        train, features, config, device
            As in :func:`choose_voxels`.
        """
        assert self.tsnr_runs is not None, 'voxels are chosen where the series are known'
        return choose_voxels(
            train, features, config, tsnr_runs=self.tsnr_runs, within=self.within, device=device
        )


def choose_voxels(
    train: Samples,
    features: PerStimulus | None,
    config: Config,
    *,
    tsnr_runs: npt.NDArray[np.float32],
    within: npt.NDArray[np.bool_] | None,
    device: str = 'cpu',
) -> VoxelSelection:
    """Choose voxels by these samples alone.

    Parameters
    ----------
    train
        Responses and their table: of a fold's training; all of them for the final model, which is
        not scored.
    features
        Features of all stimuli, for data without repeats; None: voxels are not chosen by how well
        they are predicted.
    config
        Selection, and feature components and ridge for data without repeats.
    tsnr_runs
        Temporal signal-to-noise ratio of each run, (n_runs, n_voxels).
    within
        Voxels of the chosen regions, (n_voxels,); all if None.
    device
        ``cpu`` or ``cuda``.
    """

    def chosen(samples: Samples, settings: SelectionSettings) -> VoxelSelection:
        runs = np.unique(samples.table['run'].to_numpy(dtype=int))
        return select_voxels(
            samples.values,
            samples.table,
            settings,
            prediction=None
            if features is None
            else partial(predicted_share, samples, features, config, device=device),
            tsnr=tsnr_runs[runs].mean(axis=0),
            within=within,
            seed=config.seed,
        )

    settings = config.selection
    sessions = train.table.get('session')
    if settings.sessions == 'pooled' or sessions is None or sessions.nunique() < 2:
        return chosen(train, settings)
    # min_voxels holds for the sessions together
    each = settings.model_copy(update={'min_voxels': 0})
    found: dict[str, VoxelSelection] = {}
    failed: dict[str, DataError] = {}
    for label in dict.fromkeys(sessions.astype(str)):
        rows = np.flatnonzero(sessions.astype(str) == label)
        try:
            found[label] = chosen(train.take(rows), each)
        except DataError as error:
            failed[label] = error
    if not found:
        label, reason = next(iter(failed.items()))
        raise DataError(IN_SESSION.format(session=label, reason=reason)) from reason
    joined = join_selections(found, settings)
    lines = [NO_VOTE.format(session=label) for label in failed]
    return replace(joined, warnings=(*joined.warnings, *lines))


def cut_folds(
    estimates: Estimates, features: PerStimulus, config: Config, device: str = 'cpu'
) -> tuple[list[Parts], list[VoxelSelection]]:
    """Cut the samples of each fold, with voxels chosen on its training trials.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    features, config, device
        As in :func:`choose_voxels`.
    """
    folds, selections = [], []
    for parts in estimates.parts():
        selections.append(estimates.choose(parts.train, features, config, device))
        folds.append(of_voxels(parts, selections[-1].keep))
    return folds, selections


def of_voxels(parts: Parts, keep: BoolArray) -> Parts:
    """Return the parts of a fold with only the voxels kept, ``keep`` of shape (n_voxels,).

    Parameters
    ----------
    parts
        Training, validation and test samples.
    keep
        Which voxels, (n_voxels,).
    """
    validation = None if parts.validation is None else parts.validation.voxels(keep)
    return Parts(parts.train.voxels(keep), validation, parts.test.voxels(keep))


def counted(selections: Sequence[VoxelSelection]) -> str:
    """Write how many voxels were kept in each fold, as a span where folds differ."""
    return span_of([selection.n_kept for selection in selections])


def rules_of(selections: Iterable[VoxelSelection]) -> str:
    """Write the rules by which voxels were chosen, each once."""
    return ' or '.join(dict.fromkeys(selection.rule_in_words for selection in selections))


def predicted_share(
    train: Samples, features: PerStimulus, config: Config, *, device: str = 'cpu'
) -> FloatArray:
    """Return how much of each voxel's responses the stimuli predict, in folds within training.

    It is a share of the mean square of the responses (about zero, as the R2 of an ON-OFF model),
    the sum of two parts: what ridge regression of stimulus features explains in runs that it was
    not fitted on, and the mean response (the mean product of the means of two different runs, so
    that a run's slow noise is not squared). It is 0 or below, on average, where a voxel does not
    respond.

    Parameters
    ----------
    train, features, config, device
        As in :func:`choose_voxels`. With a single run its samples are held out in blocks of
        time, and the mean response is not counted.

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,); NaN where a voxel does not vary or is not finite.
    """
    values: npt.NDArray[Any] = train.values
    low, high = values.min(axis=0), values.max(axis=0)
    usable = np.isfinite(low) & np.isfinite(high) & (high > low)
    seen = features.of(train.table['stimulus'])
    space = FeatureSpace.fit(seen, config.features.n_components)
    runs = train.table['run'].to_numpy()
    numbers = np.unique(runs)
    columns = np.flatnonzero(usable)
    within = room(values, (len(values), len(columns)))
    means = np.empty((len(numbers), len(columns)))
    variance, square = np.empty(len(columns)), np.empty(len(columns))
    for part in blocks(len(columns), len(values), COLUMNS):
        responses = np.asarray(values[:, columns[part]], dtype=np.float64)
        square[part] = np.mean(responses**2, axis=0)
        means[:, part] = [responses[runs == k].mean(axis=0) for k in numbers]
        # the level of a run is no response to one stimulus, and not known of a run left out
        responses -= means[np.searchsorted(numbers, runs), part]
        variance[part] = responses.var(axis=0)
        within[:, part] = responses
    design = space.transform(seen)
    for number in numbers:
        design[runs == number] -= design[runs == number].mean(axis=0)
    ridge = fit_ridge(
        design,
        within,
        alphas=config.ridge.alphas,
        groups=runs if len(numbers) > 1 else None,
        n_folds=config.ridge.n_folds,
        device='cuda' if device == 'cuda' else 'cpu',
    )
    explained = np.nan_to_num(ridge.cv_r2) * variance
    if len(numbers) > 1:
        products = means.sum(axis=0) ** 2 - (means**2).sum(axis=0)
        explained += products / (len(numbers) * (len(numbers) - 1))
    share = np.full(values.shape[1], np.nan)
    share[usable] = explained / square
    return share


def scored_ncsnr(estimates: Estimates, keep: BoolArray) -> npt.NDArray[np.float32] | None:
    """Return the ratio of signal and noise of the betas that are scored, by held-out repeats.

    None where no held-out stimulus is repeated, and where these betas are those of all trials,
    whose repeats are more. Nothing may be chosen by it: it is of test data.

    Parameters
    ----------
    estimates
        Betas of all trials, and what is held out.
    keep
        Which voxels, (n_mask,).

    Returns
    -------
    numpy.ndarray
        Shape (n_voxels,).
    """
    samples, split = estimates.samples, estimates.split
    fits = [estimates.of_fold(number).values for number in range(len(split))]
    table, rows, left = samples.table, [], np.ones(samples.n_samples, dtype=bool)
    for fold in split:
        rows.append(fold.test[left[fold.test]])
        left[fold.test] = False
    some = [index[:SOME] for index in rows]
    if all(
        np.array_equal(values[index], samples.values[index], equal_nan=True)
        for values, index in zip(fits, some, strict=True)
    ):
        return None
    held_out = table.iloc[np.concatenate(rows)]
    stimuli, sessions = held_out['stimulus'].astype(str), _sessions(held_out)
    if not stimuli.duplicated().any() or sessions.value_counts().min() < 2:
        return None
    columns = np.flatnonzero(keep)
    ratio = np.empty(len(columns), dtype=np.float32)
    for part in blocks(len(ratio), len(held_out), COLUMNS):
        values = [v[np.ix_(index, columns[part])] for v, index in zip(fits, rows, strict=True)]
        ratio[part] = reliability.ncsnr(np.concatenate(values), stimuli, sessions)
    return ratio


def scored_ceiling(
    ratio: npt.NDArray[np.floating[Any]] | None, table: pd.DataFrame, split: Split
) -> float | None:
    """Return the median noise ceiling of averages of held-out trials; None where it is not known.

    Parameters
    ----------
    ratio
        From :func:`scored_ncsnr`.
    table, split
        One row per trial, with ``stimulus``, and what is held out.
    """
    if ratio is None or not len(ratio):
        return None
    rows = np.unique(np.concatenate([fold.test for fold in split]))
    counts = table['stimulus'].iloc[rows].value_counts().to_numpy()
    return float(np.median(reliability.noise_ceiling(ratio, counts)))


def varies(estimates: Estimates) -> BoolArray:
    """Return the voxels whose responses are finite and vary in the training trials of all folds.

    What is held out is not looked at, but that it is finite.
    """
    usable = np.ones(estimates.samples.values.shape[1], dtype=bool)
    for number, fold in enumerate(estimates.split):
        values = estimates.of_fold(number).values
        for part in blocks(len(usable), len(values), COLUMNS):
            some = values[:, part]
            usable[part] &= np.isfinite(some).all(axis=0)
            usable[part] &= np.ptp(some[fold.train], axis=0) > 0
    return usable


def ncsnr_of(samples: Samples) -> npt.NDArray[np.float32] | None:
    """Return the ratio of signal and noise by repeats of stimuli; None if there are none."""
    table = samples.table
    if not table['stimulus'].duplicated().any():
        return None
    return reliability.ncsnr(samples.values, table['stimulus'].astype(str), _sessions(table))


def _sessions(table: pd.DataFrame) -> pd.Series[str]:
    import pandas as pd

    if 'session' not in table.columns:
        return pd.Series('', index=table.index)
    return table['session'].fillna('').astype(str)
