"""Is one model better than another? Rows of the metrics table, compared unit by unit.

The system's model is compared with each baseline on the same held-out samples. Differences are
averaged within independent units (stimuli, runs, blocks of time), over which the interval and the
p value are computed: trials of one image, or voxels, never count as independent evidence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_neurodecode.config import EvaluationSettings
from bids_neurodecode.errors import DataError
from bids_neurodecode.evaluation.metrics import BASELINE, Score, difference_bounds_of
from bids_neurodecode.evaluation.paired import PairedDifference, paired_difference
from bids_neurodecode.evaluation.statistics import inflation_of
from bids_neurodecode.mapped import by_rows
from bids_neurodecode.typing import FloatArray, IndexArray

Kept = dict[tuple[str, str, str], tuple[FloatArray, IndexArray]]
"""By model, space and metric: what each sample (or unit) scores, and its unit, (n,) each."""

OTHER_UNITS = (
    'The models {own} and {reference} were not judged on the same units in {metric}, so they '
    'cannot be compared unit by unit.'
)


def compare_rows(
    scores: Sequence[Score],
    kept: Kept,
    own: str,
    settings: EvaluationSettings,
    rng: np.random.Generator,
    *,
    stages: Mapping[str, str] | None = None,
) -> tuple[Score, ...]:
    """Write into the row of each baseline how the system's model differs from it.

    Parameters
    ----------
    scores
        Rows of the metrics table.
    kept
        What their samples score.
    own
        The system's model.
    settings
        Resamplings and confidence; without resamplings nothing is compared.
    rng
        Source of randomness.
    stages
        Spaces of an earlier stage of ``own``, and the space of the later one that it is compared
        with.
    """

    def other(row: Score) -> tuple[str, str] | None:
        if row.model.startswith(BASELINE):
            return own, row.space
        if row.model == own and row.space in (stages or {}):
            return own, (stages or {})[row.space]
        return None

    rows = []
    for row in scores:
        pair = other(row)
        mine = None if pair is None else kept.get((*pair, row.metric))
        theirs = kept.get((row.model, row.space, row.metric))
        if pair is None or mine is None or theirs is None:
            rows.append(row)
            continue
        rows.append(compare_with(row, pair, (mine[0], theirs[0]), theirs[1], settings, rng))
    return tuple(rows)


def compare_models(
    scores: Sequence[Score],
    kept: Kept,
    own: str,
    reference: str,
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> tuple[Score, ...]:
    """Write into the rows of a reference model how another model differs from it.

    Parameters
    ----------
    scores
        Rows of the reference.
    kept
        What the samples or units of both score, in one order: they had the same held-out samples.
    own, reference
        Names of the models.
    settings, rng
        Of the intervals and tests.

    Raises
    ------
    DataError
        If the units of a score are not the same.
    """
    rows = []
    for row in scores:
        mine = kept.get((own, row.space, row.metric))
        theirs = kept.get((reference, row.space, row.metric))
        if row.model != reference or mine is None or theirs is None:
            rows.append(row)
            continue
        if not np.array_equal(mine[1], theirs[1]):
            raise DataError(OTHER_UNITS.format(own=own, reference=reference, metric=row.metric))
        values = mine[0], theirs[0]
        rows.append(compare_with(row, (own, row.space), values, theirs[1], settings, rng))
    return tuple(rows)


def save_kept(file: Path, kept: Kept) -> None:
    """Save what samples score, for :func:`load_kept`.

    Parameters
    ----------
    file
        Of NumPy (``.npz``).
    kept
        Values and units of samples, by what they are of.
    """
    arrays: dict[str, Any] = {
        f'{part}|{"|".join(key)}': array
        for key, pair in kept.items()
        for part, array in zip(('values', 'units'), pair, strict=True)
    }
    np.savez(file, **arrays)


def load_kept(file: Path) -> Kept:
    """Read what :func:`save_kept` saved."""
    with np.load(file, allow_pickle=False) as found:
        keys = [name.split('|')[1:] for name in found if name.startswith('values|')]
        return {
            (model, space, metric): (
                found[f'values|{model}|{space}|{metric}'],
                found[f'units|{model}|{space}|{metric}'],
            )
            for model, space, metric in keys
        }


def compare_with(
    row: Score,
    other: tuple[str, str],
    values: tuple[FloatArray, FloatArray],
    units: npt.NDArray[Any],
    settings: EvaluationSettings,
    rng: np.random.Generator,
) -> Score:
    """Write the difference of another model from a row into that row.

    Parameters
    ----------
    row
        Of the metrics table.
    other
        Model and space of the other.
    values
        What the samples of the other, and of the row, score, (n_samples,) each.
    units
        The unit of each sample, (n_samples,).
    settings, rng
        Of the interval and the test.
    """
    # runs are test runs in turn, and train each other's models: without a correction intervals of
    # differences between decoders that know nothing covered 0 in 79 % of data sets of eight runs
    inflation = inflation_of(1.0, len(np.unique(units))) if row.units == 'runs' else 1.0
    bounds = difference_bounds_of(row.metric)
    found = difference_of(*values, units, settings, rng, inflation=inflation, bounds=bounds)
    return dataclasses.replace(
        row,
        compared_model=other[0],
        compared_space=other[1],
        n_units=found.n if row.n_units is None else row.n_units,
        difference=found.mean,
        difference_low=_known(found.low),
        difference_high=_known(found.high),
        difference_p=_known(found.p),
    )


def difference_of(
    values: FloatArray,
    others: FloatArray,
    units: npt.NDArray[Any],
    settings: EvaluationSettings,
    rng: np.random.Generator,
    *,
    inflation: float = 1.0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> PairedDifference:
    """Compare values with others, unit by unit; without resamplings, the mean alone.

    Parameters
    ----------
    values, others
        What the samples of each score, (n_samples,).
    units
        The unit of each sample, (n_samples,).
    settings
        Numbers of resamplings, and the coverage of the interval.
    rng
        Source of randomness.
    inflation, bounds
        As for :func:`~bids_neurodecode.evaluation.paired.paired_difference`.
    """
    if settings.n_bootstrap == 0:
        _, codes = np.unique(units, return_inverse=True)
        means = np.bincount(codes, weights=values - others) / np.bincount(codes)
        return PairedDifference(float(means.mean()), np.nan, np.nan, np.nan, len(means))
    return paired_difference(
        values,
        others,
        rng=rng,
        groups=units,
        n_resamples=max(settings.n_bootstrap, settings.n_permutations),
        confidence=settings.confidence,
        inflation=inflation,
        bounds=bounds,
    )


def median_without(
    whole: npt.NDArray[np.floating[Any]],
    without: npt.NDArray[np.floating[Any]],
    of: Callable[[Any], Any] = np.asarray,
) -> FloatArray:
    """Return what the median over voxels is with each unit left out, (n_units,).

    The median of voxels jumps from one voxel to the next, which the jackknife takes for an effect
    (medians of two models that are equally good differed "significantly" in 54 % of data sets of
    40 stimuli and 300 voxels). Its change is therefore taken as the mean change of the voxels
    between the quartiles, to first order the same (2 to 5 %).

    Parameters
    ----------
    whole
        Scores of voxels, (n_voxels,).
    without
        The same with each unit left out, (n_units, n_voxels).
    of
        What is taken of its rows first, some at a time.
    """
    low, high = np.quantile(whole, [0.25, 0.75])
    central = (whole >= low) & (whole <= high)

    def changed(rows: Any) -> Any:
        return (of(rows)[:, central] - whole[central]).mean(axis=1, dtype=np.float64)

    change = by_rows(without, changed)
    # about the median itself, so that the difference is that of the medians that are shown
    return np.asarray(np.median(whole) + change - change.mean(), dtype=np.float64)


def unit_values(whole: float, without: FloatArray) -> FloatArray:
    """Return what each unit contributes to a score that is no mean over samples (a median of r).

    Parameters
    ----------
    whole
        The score of all units.
    without
        The score with each unit left out, (n_units,).

    Returns
    -------
    numpy.ndarray
        Jackknife pseudo-values (n_units,) (Tukey 1958): their mean is the score, up to its bias,
        and their spread its uncertainty.
    """
    n = len(without)
    return np.asarray(n * whole - (n - 1) * without, dtype=np.float64)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
