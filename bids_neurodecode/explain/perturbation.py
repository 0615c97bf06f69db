"""What a reconstruction loses when a region's voxels are disturbed, against random voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.statistics import fdr

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN_KIND = 'No perturbation is called {kind!r}. Choose zero, noise or gain.'
BAD_REGION = 'The region {name} must be a boolean array of {n} voxels; it is {found}.'
EMPTY_REGION = 'The region {name} has no voxel.'
TOO_LARGE = (
    'The region {name} has {inside} voxels where only {outside} outside of it match; random '
    'voxels of its size cannot be drawn. Use a smaller region or coarser matching.'
)
BAD_MATCH = 'Matching needs one value a voxel: {n} voxels, {found} values.'

Kind = Literal['zero', 'noise', 'gain']
Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
Metric = Callable[[npt.NDArray[Any]], float]
BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]


def perturb(
    responses: npt.NDArray[np.floating[Any]],
    voxels: BoolArray | npt.NDArray[np.intp],
    kind: Kind,
    *,
    gain: float = 4.0,
    rng: np.random.Generator | None = None,
) -> Float32Array:
    """Disturb some voxels of (n_samples, n_voxels) and leave the others as they are.

    Parameters
    ----------
    voxels
        Boolean (n_voxels,) or column numbers.
    kind
        ``zero``: the mean of each voxel over samples (0 of z-scores), nothing is left to tell
        one volume from another. ``noise``: Gaussian noise of the voxel's mean and deviation.
        ``gain``: deviations from its mean times ``gain``.
    gain
        Only for ``gain``.
    rng
        Only for ``noise``.
    """
    values = np.array(responses, dtype=np.float32)
    chosen = values[:, voxels]
    mean = chosen.mean(axis=0)
    if kind == 'zero':
        values[:, voxels] = mean
    elif kind == 'gain':
        values[:, voxels] = mean + gain * (chosen - mean)
    elif kind == 'noise':
        drawn = (rng or np.random.default_rng(0)).normal(size=chosen.shape)
        values[:, voxels] = mean + chosen.std(axis=0) * drawn
    else:
        raise ArgumentsError(UNKNOWN_KIND.format(kind=kind))
    return values


def perturbation_effects(
    predict: Predict,
    responses: npt.NDArray[np.floating[Any]],
    regions: Mapping[str, BoolArray],
    metrics: Mapping[str, Metric],
    *,
    rng: np.random.Generator,
    kinds: tuple[Kind, ...] = ('zero', 'noise', 'gain'),
    gain: float = 4.0,
    match: npt.ArrayLike | None = None,
    n_bins: int = 5,
    n_random: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Disturb one region after the other and compare with as many random voxels.

    Parameters
    ----------
    predict
        From responses (n_samples, n_voxels) to what the metrics judge (such as frames).
    responses
        What the model is fed, (n_samples, n_voxels).
    regions
        Boolean (n_voxels,) by name.
    metrics
        From a prediction to a number, by name.
    rng
        Draws random voxels and noise.
    kinds, gain
        See :func:`perturb`.
    match
        A value a voxel (such as its noise ceiling); random voxels then have the region's
        distribution over ``n_bins`` quantiles of it. None: any voxels outside the region.
    n_random
        Random sets a region; the smallest p value is 1 / (n_random + 1).
    progress
        Called with (predictions done, all predictions).

    Returns
    -------
    pandas.DataFrame
        A row a region, kind and metric: ``region``, ``kind``, ``metric``, ``n_voxels``,
        ``intact``, ``perturbed``, ``change``, ``random_mean`` and ``random_sd`` (of the change of
        random voxels), ``z``, ``p`` (two-sided around the mean of the random changes), ``p_fdr``
        (over all rows).

    Raises
    ------
    DataError
        If a region is empty, does not fit, or leaves too few voxels outside.
    """
    import pandas as pd

    values = np.asarray(responses, dtype=np.float32)
    bins = _bins(match, values.shape[1], n_bins)
    intact = _judge(predict(values), metrics)
    total, done = len(regions) * len(kinds) * (n_random + 1), 0
    rows = []
    for name, region in regions.items():
        _check_region(name, region, values.shape[1])
        sets = [region, *(_matched(name, region, bins, rng) for _ in range(n_random))]
        for kind in kinds:
            scores = []
            for voxels in sets:
                disturbed = perturb(values, voxels, kind, gain=gain, rng=rng)
                scores.append(_judge(predict(disturbed), metrics))
                done += 1
                if progress is not None:
                    progress(done, total)
            for metric, before in intact.items():
                changes = np.array([score[metric] - before for score in scores])
                rows.append(
                    {
                        'region': name,
                        'kind': kind,
                        'metric': metric,
                        'n_voxels': int(region.sum()),
                        'intact': before,
                        **_compare(changes[0], changes[1:], before),
                    }
                )
    table = pd.DataFrame(rows)
    return table.assign(p_fdr=fdr(table['p'].to_numpy()))


def _compare(change: float, random: npt.NDArray[np.float64], intact: float) -> dict[str, float]:
    mean, sd = float(random.mean()), float(random.std(ddof=1)) if len(random) > 1 else 0.0
    slack = 1e-9 * max(1.0, abs(change))
    reached = np.count_nonzero(np.abs(random - mean) >= abs(change - mean) - slack)
    return {
        'perturbed': intact + change,
        'change': float(change),
        'random_mean': mean,
        'random_sd': sd,
        'z': (change - mean) / sd if sd > 0 else float('nan'),
        'p': float((reached + 1) / (len(random) + 1)),
    }


def _judge(prediction: npt.NDArray[Any], metrics: Mapping[str, Metric]) -> dict[str, float]:
    return {name: float(metric(prediction)) for name, metric in metrics.items()}


def _check_region(name: str, region: BoolArray, n_voxels: int) -> None:
    if region.shape != (n_voxels,) or region.dtype != np.bool_:
        found = f'{region.dtype} {region.shape}'
        raise DataError(BAD_REGION.format(name=name, n=n_voxels, found=found))
    if not region.any():
        raise DataError(EMPTY_REGION.format(name=name))


def _bins(match: npt.ArrayLike | None, n_voxels: int, n_bins: int) -> npt.NDArray[np.intp]:
    """Return the quantile bin of each voxel."""
    if match is None:
        return np.zeros(n_voxels, dtype=np.intp)
    values = np.asarray(match, dtype=np.float64)
    if values.shape != (n_voxels,):
        raise DataError(BAD_MATCH.format(n=n_voxels, found=values.shape))
    edges = np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1])
    return np.searchsorted(edges, values, side='right')


def _matched(
    name: str, region: BoolArray, bins: npt.NDArray[np.intp], rng: np.random.Generator
) -> BoolArray:
    """Draw voxels outside a region, as many in each bin as the region has."""
    drawn = np.zeros(len(region), dtype=bool)
    for code in np.unique(bins[region]):
        inside = int(np.count_nonzero(region & (bins == code)))
        outside = np.flatnonzero(~region & (bins == code))
        if len(outside) < inside:
            raise DataError(TOO_LARGE.format(name=name, inside=inside, outside=len(outside)))
        drawn[rng.choice(outside, inside, replace=False)] = True
    return drawn
