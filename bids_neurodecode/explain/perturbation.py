"""What a reconstruction loses when a region's voxels are disturbed, against sets like it.

Neighbouring voxels share their signal, so a contiguous region matters more than as many scattered
voxels whatever it does. A region is compared with sets of the same size and compactness elsewhere
(:mod:`~bids_neurodecode.explain.placements`), and there is no p value where too few fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bids_neurodecode.errors import ArgumentsError, DataError
from bids_neurodecode.evaluation.statistics import fdr
from bids_neurodecode.explain.placements import LEAST_DISJOINT, Placements, place_alike
from bids_neurodecode.typing import BoolArray, Float32Array, FloatArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

UNKNOWN_KIND = 'No perturbation is called {kind!r}. Choose zero, noise or gain.'
BAD_REGION = 'The region {name} must be a boolean array of {n} voxels; it is {found}.'
EMPTY_REGION = 'The region {name} has no voxel.'
BAD_MATCH = 'Matching needs one value per voxel: {n} voxels, {found} values.'
BAD_NEIGHBOURS = 'Regions need the neighbours of each voxel, ({n}, {n}); these are {found}.'

Kind = Literal['zero', 'noise', 'gain']
Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
Metric = Callable[[npt.NDArray[Any]], float]

BAD_CHUNKS = 'Chunks must be bytes (n, n_frames, height, width, 3); these are {found}.'
TOO_FEW = 'Of {n} chunks, a share of {share:g} leaves none to make a concept. Take a larger share.'

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709


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
    neighbours: csr_array,
    rng: np.random.Generator,
    kinds: tuple[Kind, ...] = ('zero', 'noise', 'gain'),
    gain: float = 4.0,
    accuracy: npt.ArrayLike | None = None,
    n_random: int = 199,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Disturb one region after the other and compare with sets of voxels like it.

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
    neighbours
        How far apart neighbouring voxels are, (n_voxels, n_voxels); see
        :func:`~bids_neurodecode.signals.meshes.neighbours`.
    rng
        Draws sets of voxels and noise.
    kinds, gain
        See :func:`perturb`.
    accuracy
        One value per voxel that the sets share with the region, (n_voxels,): its held-out
        accuracy, or its noise ceiling; NaN counts as 0. None: not matched.
    n_random
        At most so many sets a region.
    progress
        Called with (predictions done, all predictions).

    Returns
    -------
    pandas.DataFrame
        One row per region, kind and metric: ``region``, ``kind``, ``metric``, ``n_voxels``,
        ``n_disjoint`` (how many of the sets fit beside each other without a common voxel),
        ``intact``, ``perturbed``, ``change``, ``random_mean`` and ``random_sd`` (of the change of
        the sets), ``z``, ``p`` (two-sided around the mean of these changes) and ``p_fdr`` (over
        all rows). Overlapping sets are no independent evidence: the share of sets that reach the
        change counts as that of ``n_disjoint`` sets, so p is 1 / (n_disjoint + 1) or more. With
        fewer than :data:`~bids_neurodecode.explain.placements.LEAST_DISJOINT` the comparison is
        NaN.

    Raises
    ------
    DataError
        If a region is empty, or something does not fit.
    """
    values = np.asarray(responses, dtype=np.float32)
    quality = _checked(neighbours, accuracy, values.shape[1])
    for name, region in regions.items():
        _check_region(name, region, values.shape[1])
    alike = {
        name: place_alike(region, neighbours, values, quality, n_random=n_random, rng=rng)
        for name, region in regions.items()
    }
    intact = _judge(predict(values), metrics)
    total = len(kinds) * sum(len(found.sets) + 1 for found in alike.values())
    done = 0
    rows = []
    for name, region in regions.items():
        sets = [region, *alike[name].sets]
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
                        'n_disjoint': alike[name].n_disjoint,
                        'intact': before,
                        'perturbed': before + changes[0],
                        'change': float(changes[0]),
                        **_compare(changes[0], changes[1:], alike[name]),
                    }
                )
    table = pd.DataFrame(rows)
    return table.assign(p_fdr=fdr(table['p'].to_numpy()))


def _compare(
    change: float, random: npt.NDArray[np.float64], alike: Placements
) -> dict[str, float]:
    if alike.n_disjoint < LEAST_DISJOINT:
        return dict.fromkeys(('random_mean', 'random_sd', 'z', 'p'), float('nan'))
    mean, sd = float(random.mean()), float(random.std(ddof=1))
    slack = 1e-9 * max(1.0, abs(change))
    reached = float(np.mean(np.abs(random - mean) >= abs(change - mean) - slack))
    n = min(alike.n_disjoint, len(random))
    return {
        'random_mean': mean,
        'random_sd': sd,
        'z': (change - mean) / sd if sd > 0 else float('nan'),
        'p': (reached * n + 1) / (n + 1),
    }


def _judge(prediction: npt.NDArray[Any], metrics: Mapping[str, Metric]) -> dict[str, float]:
    return {name: float(metric(prediction)) for name, metric in metrics.items()}


def _check_region(name: str, region: BoolArray, n_voxels: int) -> None:
    if region.shape != (n_voxels,) or region.dtype != np.bool_:
        found = f'{region.dtype} {region.shape}'
        raise DataError(BAD_REGION.format(name=name, n=n_voxels, found=found))
    if not region.any():
        raise DataError(EMPTY_REGION.format(name=name))


def _checked(
    neighbours: csr_array, accuracy: npt.ArrayLike | None, n_voxels: int
) -> npt.NDArray[np.float64]:
    if neighbours.shape != (n_voxels, n_voxels):
        raise DataError(BAD_NEIGHBOURS.format(n=n_voxels, found=neighbours.shape))
    quality = np.zeros(n_voxels) if accuracy is None else np.asarray(accuracy, dtype=np.float64)
    if quality.shape != (n_voxels,):
        raise DataError(BAD_MATCH.format(n=n_voxels, found=quality.shape))
    return np.nan_to_num(quality)


def chunk_properties(chunks: npt.NDArray[np.uint8]) -> dict[str, FloatArray]:
    """Measure the luminance of each chunk.

    Parameters
    ----------
    chunks
        Shape (n, n_frames, height, width, 3), uint8.

    Returns
    -------
    dict
        ``brightness`` (mean), ``contrast`` (deviation over pixels), ``edges`` (mean size of the
        gradient over space) and ``motion`` (mean change from frame to frame), each (n,), in
        units of the range from black to white.
    """
    if chunks.ndim != 5 or chunks.shape[-1] != 3 or chunks.dtype != np.uint8:
        raise DataError(BAD_CHUNKS.format(found=f'{chunks.dtype} {chunks.shape}'))
    found: dict[str, list[float]] = {'brightness': [], 'contrast': [], 'edges': [], 'motion': []}
    for chunk in chunks:  # one by one: a film in floating point would not fit
        grey = chunk @ _LUMINANCE / 255
        down, across = np.gradient(grey, axis=(1, 2))
        found['brightness'].append(float(grey.mean()))
        found['contrast'].append(float(grey.std(axis=(1, 2)).mean()))
        found['edges'].append(float(np.hypot(down, across).mean()))
        found['motion'].append(float(np.abs(np.diff(grey, axis=0)).mean()))
    return {name: np.array(values) for name, values in found.items()}


def concept_rows(values: npt.NDArray[np.floating[Any]], *, share: float) -> npt.NDArray[np.bool_]:
    """Choose the examples of a concept.

    Parameters
    ----------
    values
        A property of each chunk, (n,).
    share
        The chunks with the highest values, this share of all, are the concept.

    Returns
    -------
    numpy.ndarray
        Which chunks they are, (n,).
    """
    size = round(share * len(values))
    if size < 1 or size >= len(values):
        raise DataError(TOO_FEW.format(n=len(values), share=share))
    inside = np.zeros(len(values), dtype=bool)
    inside[np.argsort(-values, kind='stable')[:size]] = True
    return inside
